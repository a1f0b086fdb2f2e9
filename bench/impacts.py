"""Learned-sparse weights: speed of exact search against exhaustive dot products.

    python -m bench.impacts

Documents are made up, as SPLADE's are: 120 to 200 terms of a Zipfian vocabulary of 30,000, and
weights that are larger for rarer terms; `even` has weights without such differences, of queries
too, which prunes least. "scipy" adds up the columns of a sparse matrix and selects the best by
argpartition; "no bounds" is fastseq with a term of weight 0 in each query, for which it visits
every posting. The scores of both are compared with fastseq's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from bench.common.report import Parser, Report, table
from fastseq import Index

TERMS = 30_000
SHARES = 1 / np.arange(1, TERMS + 1) ** 0.8
CUMULATED = np.cumsum(SHARES / SHARES.sum())
IDF = -np.log(SHARES / SHARES.sum())
LENGTHS = {"3 to 6": (3, 6), "20 to 60": (20, 60)}  # terms of queries


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("impacts", options)
    rows = []
    for kind in ("float", "integer", "even"):
        matrix = documents(kind, options.documents)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            index = Index.build(
                as_table(matrix, kind), Path(folder) / "index", impacts="impacts", threads=1
            )
            seconds = time.perf_counter() - start
            size = index.info()["bytes"] / matrix.nnz
            print(f"{kind}: {matrix.nnz:,} postings, {seconds:.1f} s, {size:.2f} bytes a posting")
            rows += compared(report, kind, index, matrix.tocsc(), options)
    print(table(("weights", "terms", "k", "queries/s", "no bounds", "scipy"), rows))
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"documents": 500, "queries": 10})
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200, help="of each kind")
    return parser.parse(arguments)


def compared(
    report: Report, kind: str, index: Index, columns: Any, options: argparse.Namespace
) -> list[list[str]]:
    """A row for each length of queries and k."""
    rows = []
    for name, (shortest, longest) in LENGTHS.items():
        queries = made_queries(kind, options.queries, shortest, longest)
        rarest = f"t{TERMS - 1}"
        everywhere = [{**query, rarest: query.get(rarest, 0.0)} for query in queries]
        few = queries[: max(options.queries // 5, 1)]
        for k in (10, min(1000, options.documents)):
            hits, rate = timed(partial(index.search, queries, k, threads=1), len(queries))
            full, slow = timed(partial(index.search, everywhere, k, threads=1), len(queries))
            theirs, peer = timed(partial(exhaustive, columns, few, k), len(few))
            for i, scores in enumerate(theirs):
                for found in (hits.scores[i], full.scores[i]):
                    same = np.allclose(found[: len(scores)], scores, rtol=1e-5)
                    report.check(bool(same), f"{kind}, {name} terms, k {k}, query {i}")
            report.results[f"{kind}, {name}, k {k}"] = [rate, slow, peer]
            rows.append([kind, name, str(k), f"{rate:,.0f}", f"{slow:,.0f}", f"{peer:,.0f}"])
    return rows


def timed(run: Callable[[], Any], queries: int) -> tuple[Any, float]:
    """(what the second run returned, queries per second in it)."""
    run()
    start = time.perf_counter()
    answer = run()
    return answer, queries / (time.perf_counter() - start)


def drawn(chance: np.random.Generator, count: int) -> np.ndarray:
    """Terms, drawn by frequency."""
    return np.searchsorted(CUMULATED, chance.random(count)).clip(0, TERMS - 1)


def documents(kind: str, count: int) -> Any:
    """The weights of documents as a sparse matrix."""
    chance = np.random.default_rng(0)
    owners = np.repeat(np.arange(count), chance.integers(120, 201, count))
    owners, terms = np.divmod(np.unique(owners * TERMS + drawn(chance, len(owners))), TERMS)
    weights = chance.uniform(0.5, 1.5, len(terms))
    if kind != "even":
        weights = chance.gamma(1.2, 0.5, len(terms)) * (0.3 + 0.1 * IDF[terms]) + 0.01
    if kind == "integer":
        weights = np.ceil(100 * weights)
    shape = count, TERMS
    return sp.csr_matrix((weights.astype(np.float32), (owners, terms)), shape)


def as_table(matrix: Any, kind: str) -> pa.Table:
    """The same as a column of maps."""
    names = pa.array([f"t{term}" for term in range(TERMS)])
    weights = matrix.data.astype(np.int32) if kind == "integer" else matrix.data
    maps = pa.MapArray.from_arrays(
        pa.array(matrix.indptr.astype(np.int32)), names.take(pa.array(matrix.indices)),
        pa.array(weights),
    )  # fmt: skip
    return pa.table({"id": np.arange(matrix.shape[0]), "impacts": maps})


def made_queries(kind: str, count: int, shortest: int, longest: int) -> list[dict[str, float]]:
    """Queries of some important terms and many of small weights; of `even`, all of weight 1."""
    chance = np.random.default_rng(5)
    found = []
    for _ in range(count):
        terms = np.unique(drawn(chance, int(chance.integers(shortest, longest + 1))))
        weights = chance.gamma(0.6, 1.0, len(terms)) + 0.02
        if kind == "even":
            weights = np.ones(len(terms))
        pairs = zip(terms.tolist(), weights.tolist(), strict=True)
        found.append({f"t{term}": weight for term, weight in pairs})
    return found


def exhaustive(columns: Any, queries: Sequence[dict[str, float]], k: int) -> list[np.ndarray]:
    """The k best scores of each query that are above 0."""
    return [_exhaustive(columns, query, k) for query in queries]


def _exhaustive(columns: Any, query: dict[str, float], k: int) -> np.ndarray:
    scores = np.zeros(columns.shape[0], np.float32)
    for name, weight in query.items():
        first, last = columns.indptr[int(name[1:]) :][:2]
        scores[columns.indices[first:last]] += np.float32(weight) * columns.data[first:last]
    best = np.argpartition(-scores, k - 1)[:k]
    ordered: np.ndarray = -np.sort(-scores[best])
    return ordered[ordered > 0]


if __name__ == "__main__":
    sys.exit(main())
