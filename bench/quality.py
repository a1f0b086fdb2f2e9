"""Effectiveness of fastseq's commands, compared with bm25s on the same tokens.

    python -m bench.quality --data DATA
    python -m bench.quality --data DATA --collections ir/cranfield --depth 1000
    python -m bench.quality --data DATA --collections ir/xquad_de --analysis="--language german"

Each line is of the commands `index`, `search --queries` and `evaluate`, with the tokenizer word,
Lucene's 33 stop words, Porter2 stems and no bigrams of CJK, so that the tokens are those of bm25s's
regular expression. Title and text are joined where there are both. bm25s gets the same strings,
ranks with the same variant and parameters, and its run is measured by the same ir-measures. A
measure that differs by more than .001 (ties may be ordered differently) is an error. With
--analysis the index has these options of `fastseq index` instead, "" for its defaults, and there is
no bm25s.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import ir_measures
import Stemmer

from bench.common import commands
from bench.common.reference import STOP_WORDS
from bench.common.report import Parser, Report, optional
from fastseq.store.runs import read_qrels, read_queries

SETTINGS = [  # fastseq's model, bm25s's method, k1, b
    ("bm25", "lucene", 1.2, 0.75),
    ("bm25", "lucene", 0.9, 0.4),
    ("bm25", "lucene", 1.5, 0.75),
    ("atire", "atire", 1.2, 0.75),
    ("bm25+", "bm25+", 1.2, 0.75),
    ("robertson", "robertson", 1.2, 0.75),
    ("bm25l", "bm25l", 1.2, 0.75),
]
DELTA = 0.5
ANALYSIS = ["--tokenizer", "word", "--stopwords", "lucene", "--stemmer", "english", "--cjk", "none"]
SAME = 1e-3

Peer = Callable[[str, float, float], list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("quality", options, ("bm25s", "ir-measures"))
    alone = options.analysis is not None
    analysis = shlex.split(options.analysis) if alone else ANALYSIS
    for collection in options.collections:
        docs = collection / "docs.parquet"
        peer = None if alone else peer_of(collection, options)
        print(f"{collection.name:<22}" + "".join(f"{n:>22}" for n in options.measures))
        with tempfile.TemporaryDirectory() as folder:
            index = Path(folder) / "index"
            columns = commands.column_options(docs)
            commands.fastseq("index", docs, "-o", index, *columns, "--store", "none", *analysis)
            for model, method, k1, b in SETTINGS[:1] if alone else SETTINGS:
                ours = commands.searched(
                    collection, index, options.measures, "-k", options.depth,
                    "--model", model, "--k1", k1, "--b", b,
                )  # fmt: skip
                theirs = peer(method, k1, b) if peer else []
                both = zip(ours, theirs or ours, strict=True)
                cells = [f"{a:.4f} ({b:.4f})" if theirs else f"{a:.4f}" for a, b in both]
                name = f"{model:<10} {k1:>4} {b:>5}"
                print(f"{name:<22}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
                report.results[f"{collection.name}, {name}"] = {"ours": ours, "bm25s": theirs}
                off = max(abs(a - b) for a, b in zip(ours, theirs or ours, strict=True))
                report.check(off <= SAME, f"{collection.name}, {name}: {off:.4f} from bm25s")
    print("" if alone else "in brackets: bm25s")
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"collections": ["ir/scifact"], "depth": 20})
    commands.add_collections(parser)
    parser.add_argument("--depth", type=int, default=100, help="hits per query")
    parser.add_argument("--measures", nargs="+", default=["nDCG@10", "AP"])
    parser.add_argument("--analysis", metavar="OPTIONS", help="of fastseq index; no bm25s")
    options = parser.parse(arguments)
    options.collections = commands.collections(parser, options)
    return options


def peer_of(collection: Path, options: argparse.Namespace) -> Peer | None:
    """bm25s on the collection's documents."""
    bm25s = optional("bm25s")
    if bm25s is None:
        return None
    docs = collection / "docs.parquet"
    found_ids, texts = commands.documents(docs)
    ids = [str(name) for name in found_ids]
    query_ids, queries = read_queries(collection / "queries.parquet")
    qrels = read_qrels(collection / "qrels.parquet")
    measures = [ir_measures.parse_measure(name) for name in options.measures]
    words = bm25s.tokenization.Tokenizer(
        stopwords=list(STOP_WORDS), stemmer=Stemmer.Stemmer("english").stemWord
    )
    tokens = words.tokenize(texts, return_as="tuple", show_progress=False)
    asked = words.tokenize(queries, update_vocab=False, return_as="tuple", show_progress=False)

    def measured(method: str, k1: float, b: float) -> list[float]:
        model = bm25s.BM25(method=method, k1=k1, b=b, delta=DELTA)
        model.index(tokens, show_progress=False)
        depth = min(options.depth, len(ids))
        rows, scores = model.retrieve(asked, k=depth, show_progress=False)
        run = {
            str(query): {ids[row]: float(s) for row, s in zip(*pair, strict=True) if s > 0}
            for query, pair in zip(query_ids, zip(rows, scores, strict=True), strict=True)
        }
        found = ir_measures.calc_aggregate(measures, qrels, run)
        return [found[measure] for measure in measures]

    return measured


if __name__ == "__main__":
    sys.exit(main())
