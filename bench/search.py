"""Queries a second of fastseq, bm25s, tantivy and PISA on one corpus.

    python bench/search.py --corpus CORPUS.parquet --queries QUERIES.parquet

What is timed: all the queries of the file, as raw strings, to ranked lists; each engine analyses
them itself, so that is part of its time. Lucene's 33 stop words, Porter2, BM25 with k1 1.2 and
b .75, one thread (--threads asks for more where an engine has them). Each peer takes its quickest
way: where it has several, they are tried first and the best goes on. Its module under engines/
says how it is used. Before that, every answer is held to the reference (reference.py): fastseq and
bm25s to the exact top k and scores within 1e-5; tantivy keeps document lengths in a byte and PISA
scores in a byte, so of theirs the share of the true top k is told, and 80 % asked for.

Beside the peers, fastseq alone: two threads, one query at a time from Python, an index opened for
the batch (so that nothing is kept from before), and the analysis of the queries by itself.
The peers' indexes and the reference are kept in bench/out for the next run.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import pyarrow.parquet as pq
from engines import Engine, Way
from harness import Check, Contender
from judge import Judge
from reference import Reference, workplace

ENGINES = ("fastseq", "bm25s", "tantivy", "pisa")
PACKAGES = ("bm25s", "tantivy", "pyterrier-pisa")
OVERLAP = 0.80


def main() -> int:
    options = parse()
    tell(f"{options.corpus}, column {options.text_column}; {options.queries}")
    place = workplace(options.corpus, options.text_column, harness.OUT)
    reference = Reference.open(options.corpus, options.text_column, place / "reference")
    asked = read_queries(options.queries, options.limit)
    queries = [query for query in asked if reference.terms(query)]
    tell(
        f"{reference.documents:,} documents, {reference.postings:,} postings; {len(queries):,} "
        f"queries ({len(asked) - len(queries)} without a known word left out)"
    )
    if not queries:
        sys.exit("Error: no query has a word that the corpus has")
    judge = Judge(reference, queries, options.check)
    del reference

    engines = [open_engine(name, options, place) for name in options.engines]
    facts = harness.machine_facts(PACKAGES)
    report: dict[str, Any] = {
        "bench": "search",
        "machine": facts,
        "corpus": str(options.corpus),
        "queries": len(queries),
        "threads": options.threads,
        "engines": {engine.name: engine.note for engine in engines},
        "results": {},
    }
    wrong = False
    for k in options.k:
        tell(f"\nk = {k}: checking")
        contenders = [contender(engine, queries, k, options, judge) for engine in engines]
        found = harness.compare(contenders, options.rounds, tell=tell)
        base = contenders[0].name
        print(f"\nk = {k}\n" + harness.rate_table(found, len(queries), base, "queries/s"))
        wrong |= bool(found.refused)
        report["results"][f"k={k}"] = found.to_dict(len(queries), base)
    for engine in engines:
        if engine.name == "fastseq":
            wrong |= alone(engine, queries, options, judge, report)
    print("\n" + harness.machine_lines(facts, options.threads))
    tell(f"written: {harness.write_report('search', report)}")
    return 1 if wrong else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--corpus", type=harness.existing, required=True, help="a Parquet file of documents"
    )
    parser.add_argument(
        "--queries", type=harness.existing, required=True, help="Parquet with a column text"
    )
    parser.add_argument("--text-column", default="text", help="of the corpus")
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=ENGINES,
        default=list(ENGINES),
        help="the first is the one that the others are set beside",
    )
    parser.add_argument("--limit", type=int, help="take only so many queries")
    parser.add_argument("--check", type=int, default=200, help="queries held to the reference")
    return parser.parse_args()


def open_engine(name: str, options: argparse.Namespace, place: Path) -> Engine:
    tell(f"opening {name}")
    module = importlib.import_module(f"engines.{name}_engine")
    engine: Engine = module.open_engine(options.corpus, options.text_column, place / name)
    return engine


def contender(
    engine: Engine, queries: Sequence[str], k: int, options: argparse.Namespace, judge: Judge
) -> Contender:
    """The engine at its quickest."""
    verdict = judge.exact(k, engine.name == "fastseq") if engine.exact else None
    ways = [
        of_way(way, verdict or judge.overlap(k, OVERLAP))
        for way in engine.ways(queries, k, options.threads)
    ]
    return ways[0] if len(ways) == 1 else harness.fastest(ways)


def of_way(way: Way, verdict: Callable[[Any], Check]) -> Contender:
    return Contender(way.name, way.run, lambda answer: verdict(way.ranking(answer)))


def alone(
    ours: Any,
    queries: Sequence[str],
    options: argparse.Namespace,
    judge: Judge,
    report: dict[str, Any],
) -> bool:
    """fastseq against itself."""
    k = options.k[0]
    verdict = judge.exact(k, True)
    batch, two, single = "one thread", "two threads", "one query at a time"
    words = ours.analysis(queries, "analysis alone")
    tell(f"\nfastseq alone, k = {k}: checking")
    found = harness.compare(
        [
            of_way(ours.batch(queries, k, 1, batch), verdict),
            of_way(ours.batch(queries, k, 2, two), verdict),
            of_way(ours.singly(queries, k, single), verdict),
            of_way(ours.afresh(queries, k, "opened for it"), verdict),
            Contender(words.name, words.run, lambda a: judge.analysis(words.ranking(a).rows)),
        ],
        options.rounds,
        tell=tell,
    )
    report["results"]["alone"] = found.to_dict(len(queries), batch)
    rows = [
        [
            name,
            f"{len(queries) / timing.median:,.0f}",
            f"{timing.median / len(queries) * 1e6:.1f}",
            f"{1 / found.ratio(name, batch):.2f}",
        ]
        for name, timing in found.timings.items()
    ]
    print("\n" + harness.table(["fastseq", "queries/s", "µs a query", "× one thread"], rows))
    return bool(found.refused)


def read_queries(path: Path, limit: int | None) -> list[str]:
    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    return [text for text in texts if text][:limit]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
