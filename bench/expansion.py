"""Query expansion by word vectors: the change of nDCG@10 by `search --expand`.

    python -m bench.expansion --data DATA --own

Each collection is indexed twice, with plain words and with English stop words and stems, and
searched with BM25's defaults and several `--expand-terms` and `--expand-weight`. With --own,
vectors are also trained on each collection itself (skip-gram, min_count 2, 20 epochs). Target: the
default expansion does not lower the mean over all indexes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import commands
from bench.common.report import Parser, Report
from fastseq.vectors.expansion import TERMS, WEIGHT

_WORDS = ("--tokenizer", "word")
ANALYSES = {"plain": _WORDS, "english": (*_WORDS, "--language", "english")}
WEIGHTS = (0.05, 0.1, 0.2, 0.3)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("expansion", options)
    tried = [(n, w) for n in options.terms for w in options.weights]
    if (TERMS, WEIGHT) not in tried:
        tried.append((TERMS, WEIGHT))
    given = commands.vectors(options)
    heads = [f"{n} x {w:g}" for n, w in tried]
    print(f"{'nDCG@10':<28}{'none':>9}" + "".join(f"{head:>10}" for head in heads))
    gains = []
    with tempfile.TemporaryDirectory() as folder:
        for collection in options.collections:
            docs = collection / "docs.parquet"
            columns = commands.column_options(docs)
            vectors = {"given": given}
            if options.own:
                vectors["own"] = Path(folder) / f"{collection.name}-vectors"
                commands.fastseq(
                    "fit-word2vec", docs, "-o", vectors["own"], *columns,
                    "--min-count", 2, "--epochs", 20,
                )  # fmt: skip
            for analysis, words in ANALYSES.items():
                index = Path(folder) / f"{collection.name}-{analysis}"
                commands.fastseq("index", docs, "-o", index, *columns, *words, "--store", "none")
                base = ndcg(collection, index)
                for name, path in vectors.items():
                    found = [
                        ndcg(
                            collection, index, "--expand", path, "--expand-terms", n,
                            "--expand-weight", w,
                        )
                        for n, w in tried
                    ]  # fmt: skip
                    label = f"{collection.name}, {analysis}, {name}"
                    changes = "".join(f"{value - base:>+10.4f}" for value in found)
                    print(f"{label:<28}{base:>9.4f}{changes}", flush=True)
                    report.results[label] = {"none": base, **dict(zip(heads, found, strict=True))}
                    if name == "given":
                        gains.append(found[tried.index((TERMS, WEIGHT))] - base)
    mean = statistics.mean(gains)
    report.target(mean >= 0, f"the default ({TERMS} x {WEIGHT:g}) gains {mean:+.4f} on average")
    return report.end()


def ndcg(collection: Path, index: Path, *more: Any) -> float:
    return commands.searched(collection, index, ["nDCG@10"], "-k", 100, *more)[0]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    few = {"collections": ["ir/scifact"], "terms": [3], "weights": [0.1], "own": True}
    parser = Parser(__doc__, small=few)
    commands.add_collections(parser)
    commands.add_vectors(parser)
    parser.add_argument("--terms", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--weights", type=float, nargs="+", default=list(WEIGHTS))
    parser.add_argument("--own", action="store_true", help="vectors of the collections too")
    options = parser.parse(arguments)
    options.collections = commands.collections(parser, options)
    return options


if __name__ == "__main__":
    sys.exit(main())
