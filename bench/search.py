"""Queries per second of fastseq, bm25s, tantivy and PISA on one corpus.

    python -m bench.search --data DATA
    python -m bench.search --corpus CORPUS.parquet --queries QUERIES.parquet

Timed are all the queries of the file, from raw strings to ranked lists; each engine's own analysis
is part of its time. Lucene's 33 stop words, Porter2, BM25 with k1 1.2 and b .75, one thread
(--threads for more where an engine has them). Each peer runs in its fastest way: where it has
several, they are timed first. Its module under engines/ describes how it is used. Before that,
every answer is compared with the reference (common/reference.py): fastseq and bm25s must have the
exact top k and scores within 1e-5; tantivy stores document lengths in a byte and PISA scores in a
byte, so for them the recall of the true top k is reported, and 80 % required.

Besides the peers, fastseq alone: two threads, one query at a time from Python, an index opened for
the batch (nothing cached from before), and the analysis of the queries alone. The peers' indexes
and the reference are cached in bench/out.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.common import harness
from bench.common.harness import Check, Contender
from bench.common.reference import Judge, Reference, workplace
from bench.common.report import Parser, Report, log, table
from bench.engines import ENGINES, PACKAGES, Engine, Way, installed

RECALL = 0.80
SMALL_RECALL = 0.7  # eight bits tell the scores of few similar documents less often apart


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("search", options, PACKAGES)
    place = workplace(options.corpus, options.text_column, options.folder)
    reference = Reference.open(options.corpus, options.text_column, place / "reference")
    texts = pq.read_table(options.queries, columns=["text"])["text"].to_pylist()
    asked = [text for text in texts if text][: options.limit]
    queries = [query for query in asked if reference.terms(query)]
    print(
        f"{options.corpus}: {reference.documents:,} documents, {reference.postings:,} postings; "
        f"{len(queries):,} queries ({len(asked) - len(queries)} without a known word left out)"
    )
    if not queries:
        sys.exit("Error: no query has a word of the corpus")
    judge = Judge(reference, queries, options.check)
    del reference

    engines = [open_engine(name, options, place) for name in installed(options.engines)]
    for k in options.k:
        log(f"\nk = {k}: checking")
        contenders = [contender(engine, queries, k, options, judge) for engine in engines]
        found = harness.compare(contenders, options.rounds)
        base = contenders[0].name
        print(f"\nk = {k}\n" + harness.rate_table(found, len(queries), base, "queries/s"))
        report.check(not found.refused, f"k = {k}: {found.refused}")
        report.results[f"k={k}"] = found.to_dict(len(queries), base)
    for engine in engines:
        if engine.name == "fastseq":
            alone(engine, queries, options, judge, report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=9, threads=1, small={"k": [3, 10], "check": 20})
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet file of documents")
    parser.add_file("--queries", "text/wiki_simple_queries.parquet", "Parquet, column text")
    parser.add_argument("--text-column", default="text", help="of the corpus")
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, default=list(ENGINES),
        help="the others are compared with the first",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, help="number of queries")
    parser.add_argument("--check", type=int, default=200, help="queries compared to the reference")
    return parser.parse(arguments)


def open_engine(name: str, options: argparse.Namespace, place: Path) -> Engine:
    log(f"opening {name}")
    module = importlib.import_module(f"bench.engines.{name}_engine")
    engine: Engine = module.open_engine(options.corpus, options.text_column, place / name)
    return engine


def contender(
    engine: Engine, queries: Sequence[str], k: int, options: argparse.Namespace, judge: Judge
) -> Contender:
    """The engine in its fastest way."""
    exact = judge.exact(k, engine.name == "fastseq") if engine.exact else None
    recall = SMALL_RECALL if options.small else RECALL
    ways = [
        of_way(way, exact or judge.overlap(k, recall))
        for way in engine.ways(queries, k, options.threads)
    ]
    return ways[0] if len(ways) == 1 else harness.fastest(ways)


def of_way(way: Way, check: Callable[[Any], Check]) -> Contender:
    return Contender(way.name, way.run, lambda answer: check(way.ranking(answer)))


def alone(
    ours: Any,
    queries: Sequence[str],
    options: argparse.Namespace,
    judge: Judge,
    report: Report,
) -> None:
    """Compare ways of using fastseq."""
    k = options.k[0]
    exact = judge.exact(k, True)
    batch, two, single = "one thread", "two threads", "one query at a time"
    words = ours.analysis(queries, "analysis alone")
    log(f"\nfastseq alone, k = {k}: checking")
    found = harness.compare(
        [
            of_way(ours.batch(queries, k, 1, batch), exact),
            of_way(ours.batch(queries, k, 2, two), exact),
            of_way(ours.singly(queries, k, single), exact),
            of_way(ours.afresh(queries, k, "index opened for the batch"), exact),
            Contender(words.name, words.run, lambda a: judge.analysis(words.ranking(a).rows)),
        ],
        options.rounds,
    )
    report.check(not found.refused, f"alone: {found.refused}")
    report.results["alone"] = found.to_dict(len(queries), batch)
    rows = [
        [
            name,
            f"{len(queries) / timing.median:,.0f}",
            f"{timing.median / len(queries) * 1e6:.1f}",
            f"{1 / found.ratio(name, batch):.2f}",
        ]
        for name, timing in found.timings.items()
    ]
    head = [f"fastseq, k = {k}", "queries/s", "µs per query", "× one thread"]
    print("\n" + table(head, rows))


if __name__ == "__main__":
    sys.exit(main())
