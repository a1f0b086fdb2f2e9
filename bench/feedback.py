"""Pseudo relevance feedback and ranking models: mean average precision.

    python -m bench.feedback --data DATA

Each collection is indexed twice, with plain words and with English stop words and stems, and
searched with each ranking model, with BM25 and feedback, and with each model and RM3. The average
precision is that of 1,000 hits. Target: RM3 with its defaults raises it over BM25's on Cranfield.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.common import commands
from bench.common.report import Parser, Report

_WORDS = ("--tokenizer", "word")
ANALYSES = {"plain": _WORDS, "english": (*_WORDS, "--language", "english")}
MODELS = ("bm25", "dirichlet", "jm", "dph", "pl2")
FEEDBACK = {"alone": (), "rm3": ("--feedback", "rm3"), "rocchio": ("--feedback", "rocchio")}
MEASURES = ["AP", "nDCG@10"]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("feedback", options)
    print(f"{'AP, nDCG@10':<32}" + "".join(f"{name:>18}" for name in FEEDBACK))
    with tempfile.TemporaryDirectory() as folder:
        for collection in options.collections:
            docs = collection / "docs.parquet"
            columns = commands.column_options(docs)
            for analysis, words in ANALYSES.items():
                index = Path(folder) / f"{collection.name}-{analysis}"
                commands.fastseq("index", docs, "-o", index, *columns, *words, "--store", "none")
                for model in options.models:
                    found = {
                        name: commands.searched(
                            collection, index, MEASURES, "-k", options.depth, "--model", model,
                            *more,
                        )
                        for name, more in FEEDBACK.items()
                    }  # fmt: skip
                    label = f"{collection.name}, {analysis}, {model}"
                    cells = [f"{ap:.4f}  {ndcg:.4f}" for ap, ndcg in found.values()]
                    print(f"{label:<32}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
                    report.results[label] = found
                    if collection.name == "cranfield" and model == "bm25":
                        gain = found["rm3"][0] - found["alone"][0]
                        report.target(gain > 0, f"{label}: RM3 gains {gain:+.4f}")
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    few = {"collections": ["ir/scifact"], "depth": 20, "models": ["bm25"]}
    parser = Parser(__doc__, small=few)
    commands.add_collections(parser)
    parser.add_argument("--depth", type=int, default=1000, help="hits per query")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    options = parser.parse(arguments)
    options.collections = commands.collections(parser, options)
    return options


if __name__ == "__main__":
    sys.exit(main())
