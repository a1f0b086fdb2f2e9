"""Document vectors on retrieval sets: plain means beside SIF, nDCG@10 of ranking by cosine.

    python bench/documents.py --vectors VECTORS --data DATA/cranfield DATA/scifact

A folder of --data holds docs.parquet, queries.parquet and qrels.parquet; title and text are joined
where there are both. Documents and queries become vectors, SIF's components are learned from the
documents, and documents are ranked by cosine. The run is measured by `fastseq evaluate`. Ends with
status 1 where SIF as it is unless told otherwise does not beat the mean.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fastseq.store.corpus import Corpus
from fastseq.store.queries import read_queries
from fastseq.store.runs import RunWriter
from fastseq.vectors.documents import DocumentVectors
from fastseq.vectors.nearest import unit_rows
from fastseq.vectors.words import WordVectors

DEPTH = 100
AS_IT_IS = "sif, defaults"


def main() -> int:
    options = parse()
    known = WordVectors.load(options.vectors)
    uncounted = WordVectors(known.words, known.vectors, settings=known.settings)
    models = {
        "mean": DocumentVectors(known, method="mean"),
        AS_IT_IS: DocumentVectors(known),
        **{
            f"sif, a {a:g}, {n} components": DocumentVectors(known, a=a, components=n)
            for a in (1e-3, 1e-4)
            for n in (0, 1, 2, 3)
        },
        "sif, the collection's counts": DocumentVectors(uncounted),
    }
    print(f"{known}\n{'nDCG@10':<32}" + "".join(f"{path.name:>12}" for path in options.data))
    sets = [Collection(path) for path in options.data]
    found = {name: [one.measured(model) for one in sets] for name, model in models.items()}
    for name, values in found.items():
        print(f"{name:<32}" + "".join(f"{value:>12.4f}" for value in values))
    pairs = zip(found[AS_IT_IS], found["mean"], strict=True)
    return 0 if all(sif > mean for sif, mean in pairs) else 1


class Collection:
    """Documents, queries and judgements."""

    def __init__(self, path: Path) -> None:
        docs = path / "docs.parquet"
        names = [n for n in ("title", "text") if n in pq.read_schema(docs).names]
        self.qrels = path / "qrels.parquet"
        self.query_ids, self.queries = read_queries(path / "queries.parquet")
        self.ids: list[Any] = []
        self.texts: list[str] = []
        for batch in Corpus.open(docs, text_columns=names).batches():
            self.ids += batch.ids.to_pylist()
            self.texts += batch.texts.to_strings()

    def measured(self, model: DocumentVectors) -> float:
        """nDCG@10"""
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
            return ndcg(run, self.qrels)


def ndcg(run: Path, qrels: Path) -> float:
    command = [sys.executable, "-m", "fastseq_cli", "evaluate", str(run), str(qrels)]
    said = subprocess.run(
        [*command, "-m", "nDCG@10", "--format", "json"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    return float(json.loads(said)["nDCG@10"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
