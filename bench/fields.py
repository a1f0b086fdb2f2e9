"""Fields: BM25F of title and text compared with both joined and with a sum of scores.

    python -m bench.fields --data DATA

Each collection is indexed twice, with plain words and with English stop words and stems, with title
and text as fields and joined. The average precision is that of 1,000 hits. "tuned" has the weight
of the title and its b with the best average precision on every other query, measured on the rest,
and the other way round. Target: BM25F with its defaults is not below the joined text on SciFact.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np

import fastseq
from bench.common import commands
from bench.common.report import Parser, Report, table
from bench.feedback import ANALYSES
from fastseq.store.runs import read_qrels, read_queries

MEASURES = [ir_measures.parse_measure(name) for name in ("AP", "nDCG@10")]
WEIGHTS, BS = (0.5, 1.0, 2.0, 3.0, 5.0), (0.0, 0.4, 0.75)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("fields", options, ("ir-measures",))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for collection in options.collections:
            docs = collection / "docs.parquet"
            names = commands.text_columns(docs)
            for analysis, words in ANALYSES.items():
                path = Path(folder) / f"{collection.name}-{analysis}"
                fields = [f"--field={name}" for name in names]
                commands.fastseq("index", docs, "-o", path, *fields, *words, "--store", "none")
                index = fastseq.Index.open(path)
                found = measured(measuring(index, collection, options), names, options)
                for name, values in found.items():
                    label = f"{collection.name}, {analysis}, {name}"
                    rows.append([label, *(f"{value:.4f}" for value in values)])
                    report.results[label] = values.tolist()
                if collection.name == "scifact":
                    gain = found["BM25F"] - found["joined, BM25"]
                    text = f"{gain[0]:+.4f} AP, {gain[1]:+.4f} nDCG@10"
                    report.target(bool(np.all(gain >= 0)), f"scifact, {analysis}: BM25F {text}")
    print("\n" + table(["", *map(str, MEASURES)], rows))
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    few = {"collections": ["ir/scifact"], "depth": 20, "weights": [1.0, 3.0]}
    parser = Parser(__doc__, small=few)
    commands.add_collections(parser)
    parser.add_argument("--depth", type=int, default=1000, help="hits per query")
    parser.add_argument(
        "--weights", nargs="+", type=float, default=list(WEIGHTS), help="of the title, to tune"
    )
    options = parser.parse(arguments)
    options.collections = commands.collections(parser, options)
    return options


def measuring(
    index: fastseq.Index, collection: Path, options: argparse.Namespace
) -> Callable[..., np.ndarray]:
    """A function from options of a search to the measures, float64[queries, measures]."""
    names, queries = read_queries(collection / "queries.parquet")
    qrels = read_qrels(collection / "qrels.parquet")
    evaluator = ir_measures.evaluator(MEASURES, qrels)
    place = {str(name): at for at, name in enumerate(names)}

    def measure(**settings: Any) -> np.ndarray:
        hits = index.search(queries, k=options.depth, threads=options.threads, **settings)
        run = {
            str(name): dict(zip(map(str, ids), scores.tolist(), strict=False))
            for name, ids, scores in zip(names, hits.ids, hits.scores, strict=True)
        }
        values = np.zeros((len(names), len(MEASURES)))
        for metric in evaluator.iter_calc(run):
            values[place[metric.query_id], MEASURES.index(metric.measure)] = metric.value
        return values

    return measure


def measured(
    measure: Callable[..., np.ndarray], names: list[str], options: argparse.Namespace
) -> dict[str, np.ndarray]:
    """The means of each way, float64[measures]."""
    equal = dict.fromkeys(names, 1.0)
    found = {"joined, BM25": measure(), "BM25F": measure(fields=equal)}
    found["sum of BM25"] = measure(fields=equal, model=fastseq.BM25())
    for name in names:
        found[f"{name} alone"] = measure(fields=name)
    grid = {
        (weight, b): measure(
            fields={**equal, names[0]: weight}, model=fastseq.BM25F(b={names[0]: b})
        )
        for weight, b in itertools.product(options.weights, BS)
    }
    tuned, chosen = np.zeros_like(found["BM25F"]), []
    for half in (0, 1):
        best = max(grid, key=lambda own, half=half: grid[own][half::2, 0].mean())  # type: ignore[misc]
        tuned[1 - half :: 2] = grid[best][1 - half :: 2]
        chosen.append(f"{names[0]}^{best[0]:g}, b {best[1]:g}")
    found[f"BM25F, tuned ({'; '.join(chosen)})"] = tuned
    return {name: values.mean(axis=0) for name, values in found.items()}


if __name__ == "__main__":
    sys.exit(main())
