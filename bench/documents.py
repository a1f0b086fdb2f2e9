"""Document vectors for retrieval: means compared with SIF, nDCG@10 of ranking by cosine.

    python -m bench.documents --data DATA

Title and text are joined where there are both. Documents and queries become vectors, SIF's
components are estimated from the documents, and documents are ranked by cosine. The run is measured
by `fastseq evaluate`. Target: SIF's default beats the mean on every collection.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.common import commands
from bench.common.report import Parser, Report
from fastseq.store.runs import RunWriter, read_queries
from fastseq.vectors.nearest import unit_rows
from fastseq.vectors.words import DocumentVectors, WordVectors

DEPTH = 100
DEFAULT = "sif, defaults"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("documents", options)
    known = WordVectors.load(commands.vectors(options))
    uncounted = WordVectors(known.words, known.vectors, settings=known.settings)
    models = {
        "mean": DocumentVectors(known, method="mean"),
        DEFAULT: DocumentVectors(known),
        **{
            f"sif, a {a:g}, {n} components": DocumentVectors(known, a=a, components=n)
            for a in (1e-3, 1e-4)
            for n in (0, 1, 2, 3)
        },
        "sif, the collection's counts": DocumentVectors(uncounted),
    }
    print(f"{known}\n{'nDCG@10':<32}" + "".join(f"{p.name:>12}" for p in options.collections))
    sets = [Collection(path) for path in options.collections]
    for name, model in models.items():
        values = [collection.measured(model) for collection in sets]
        print(f"{name:<32}" + "".join(f"{value:>12.4f}" for value in values), flush=True)
        report.results[name] = values
    pairs = zip(report.results[DEFAULT], report.results["mean"], strict=True)
    report.target(all(sif > mean for sif, mean in pairs), "SIF beats the mean")
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"collections": ["ir/scifact"]})
    commands.add_collections(parser)
    commands.add_vectors(parser)
    options = parser.parse(arguments)
    options.collections = commands.collections(parser, options)
    return options


class Collection:
    """Documents, queries and relevance judgments."""

    def __init__(self, path: Path) -> None:
        self.qrels = path / "qrels.parquet"
        self.query_ids, self.queries = read_queries(path / "queries.parquet")
        self.ids, self.texts = commands.documents(path / "docs.parquet")

    def measured(self, model: DocumentVectors) -> float:
        """nDCG@10."""
        documents = unit_rows(model.fit_transform(self.texts))
        cosines = unit_rows(model.transform(self.queries)) @ documents.T
        rows = np.argsort(-cosines, axis=1, kind="stable")[:, :DEPTH]
        scores = np.take_along_axis(cosines, rows, axis=1)
        ends = np.arange(len(rows) + 1) * rows.shape[1]
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run.parquet"
            with RunWriter(run) as writer:
                found = [self.ids[row] for row in rows.ravel().tolist()]
                writer.append(self.query_ids, ends.tolist(), found, scores.ravel())
            return commands.evaluated(run, self.qrels, "nDCG@10")[0]


if __name__ == "__main__":
    sys.exit(main())
