"""Pseudo relevance feedback and ranking models: mean average precision.

    python -m bench.feedback --data DATA
    python -m bench.feedback --data DATA --models bm25 --tune

Each collection is indexed twice, with plain words and with English stop words and stems, and
searched with each ranking model, with BM25 and feedback, and with each model and RM3. The average
precision is that of 1,000 hits. Target: RM3 with its defaults raises it over BM25's on Cranfield.

The defaults were chosen on Cranfield and SciFact, so what they gain there is not what they gain
elsewhere. --tune therefore measures RM3 on each collection with the settings that are best on the
other collections: largest mean over them of the average precision relative to that without
feedback.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.common import commands
from bench.common.report import Parser, Report

_WORDS = ("--tokenizer", "word")
ANALYSES = {"plain": _WORDS, "english": (*_WORDS, "--language", "english")}
MODELS = ("bm25", "tfidf", "dirichlet", "jm", "dph", "pl2")
FEEDBACK = {"alone": (), "rm3": ("--feedback", "rm3"), "rocchio": ("--feedback", "rocchio")}
MEASURES = ["AP", "nDCG@10"]
GRID = {  # of RM3, with --tune
    "--feedback-documents": (5, 10, 20),
    "--feedback-terms": (10, 20, 40),
    "--feedback-weight": (0.3, 0.5, 0.6, 0.7, 0.8, 0.9),
}
SMALL_GRID = {"--feedback-documents": (5,), "--feedback-weight": (0.5, 0.8)}

Setting = tuple[tuple[str, float], ...]  # options of the search, () without feedback
Measured = dict[Setting, list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("feedback", options)
    print(f"{'AP, nDCG@10':<32}" + "".join(f"{name:>18}" for name in FEEDBACK))
    tried: dict[str, dict[str, Measured]] = {analysis: {} for analysis in ANALYSES}
    with tempfile.TemporaryDirectory() as folder:
        for collection in options.collections:
            docs = collection / "docs.parquet"
            columns = commands.column_options(docs)
            for analysis, words in ANALYSES.items():
                index = Path(folder) / f"{collection.name}-{analysis}"
                commands.fastseq("index", docs, "-o", index, *columns, *words, "--store", "none")
                if options.tune:
                    tried[analysis][collection.name] = grid(collection, index, options)
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
    for analysis, grids in tried.items():
        for name, own in grids.items():
            others = {other: each for other, each in grids.items() if other != name} or grids
            best = best_of(others)
            (ap, ndcg), (ap0, ndcg0) = own[best], own[()]
            label = f"{name}, {analysis}, RM3 tuned on {', '.join(others)}"
            gains = f"{ap - ap0:+.4f}  {ndcg - ndcg0:+.4f}"
            print(f"{label}: {ap:.4f}  {ndcg:.4f} ({gains}), {settings(best)}")
            report.results[label] = {"settings": best, "alone": [ap0, ndcg0], "rm3": [ap, ndcg]}
    return report.end()


def grid(collection: Path, index: Path, options: argparse.Namespace) -> Measured:
    """The measures of BM25 without feedback, and with RM3 of each setting."""
    known = SMALL_GRID if options.small else GRID
    pairs = [[(name, value) for value in values] for name, values in known.items()]
    found: Measured = {}
    for chosen in [(), *itertools.product(*pairs)]:
        words = [each for pair in chosen for each in pair]
        more = ("--feedback", "rm3", *words) if chosen else ()
        found[chosen] = commands.searched(collection, index, MEASURES, "-k", options.depth, *more)
    return found


def best_of(found: Mapping[str, Measured]) -> Setting:
    """The settings with the largest average precision relative to that without feedback."""

    def gain(chosen: Setting) -> float:
        return statistics.mean(own[chosen][0] / own[()][0] for own in found.values())

    first = next(iter(found.values()))
    return max((chosen for chosen in first if chosen), key=gain)


def settings(chosen: Setting) -> str:
    return ", ".join(f"{name.rpartition('-')[2]} {value:g}" for name, value in chosen)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    few = {"collections": ["ir/scifact"], "depth": 20, "models": ["bm25"], "tune": True}
    parser = Parser(__doc__, small=few)
    commands.add_collections(parser)
    parser.add_argument("--depth", type=int, default=1000, help="hits per query")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--tune", action="store_true", help="RM3 tuned on other collections too")
    options = parser.parse(arguments)
    options.collections = commands.collections(parser, options)
    return options


if __name__ == "__main__":
    sys.exit(main())
