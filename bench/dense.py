"""Exact search of vectors: speed beside NumPy and usearch.

    python -m bench.dense

Random unit vectors, as float32, float16 and int8 (bytes beside float32) on disk, in batches of
queries. NumPy multiplies a batch by all vectors and selects by argpartition; usearch, where it is
installed, searches exactly. Times are CPU time of one thread, the best of several; the rows found
are compared.
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

from bench.common.report import Parser, Report, table
from fastseq import Index
from fastseq.index.dense import DTYPES

REPEATS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("dense", options)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((options.documents, options.size), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    queries = rng.standard_normal((options.queries, options.size), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1)[:, None]
    k = min(options.k, options.documents)
    found, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        indexes = {
            kind: built(vectors, Path(folder) / kind, kind) for kind in DTYPES
        }
        for batch in (1, options.queries):
            some = queries[:batch]
            searches: dict[str, Callable[[], Any]] = {
                kind: partial(searched, index, some, k) for kind, index in indexes.items()
            }
            searches |= {"numpy": partial(multiplied, vectors, some, k)}
            if (exact := usearch(vectors, some, k)) is not None:
                searches["usearch"] = exact
            best = dict.fromkeys(searches, float("inf"))
            for _ in range(REPEATS):  # in alternation
                for name, search in searches.items():
                    start = time.process_time()
                    found[name] = search()
                    best[name] = min(best[name], time.process_time() - start)
            for name, seconds in best.items():
                shared = [
                    len({*a} & {*b}) / k for a, b in zip(found[name], found["numpy"], strict=True)
                ]
                least = 1.0 if name in ("float32", "int8") else 0.9
                report.check(float(np.mean(shared)) >= least, f"{name}: rows of {batch} queries")
                rows.append([
                    name, f"{batch}", f"{seconds * 1e3:.1f}", f"{batch / seconds:,.0f}",
                    f"{best['numpy'] / seconds:.2f}",
                ])  # fmt: skip
    print(table(("search", "queries", "ms", "queries/s", "times NumPy"), rows))
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"documents": 2000, "queries": 8})
    parser.add_argument("--documents", type=int, default=500_000)
    parser.add_argument("--size", type=int, default=384, help="dimensions")
    parser.add_argument("--queries", type=int, default=64, help="of a batch")
    parser.add_argument("-k", type=int, default=10)
    return parser.parse(arguments)


def built(vectors: Any, path: Path, kind: str) -> Index:
    """An index of the vectors alone."""
    flat = pa.array(vectors.reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    corpus = pa.table({"v": column, "text": pa.repeat("", len(vectors))})
    return Index.build(corpus, path, dense_column="v", dense_dtype=kind, store=[])


def searched(index: Index, queries: Any, k: int) -> Any:
    return index.search_dense(queries, k, threads=1).rows


def multiplied(vectors: Any, queries: Any, k: int) -> Any:
    """The rows of the k largest products, in order."""
    scores = queries @ vectors.T
    chosen = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, chosen, axis=1), axis=1)
    return np.take_along_axis(chosen, order, axis=1)


def usearch(vectors: Any, queries: Any, k: int) -> Callable[[], Any] | None:
    """The exact search of usearch; None where it is not installed."""
    try:
        from usearch.index import search  # type: ignore[import-not-found]
    except ImportError:
        return None
    return lambda: np.atleast_2d(search(vectors, queries, k, "ip", exact=True, threads=1).keys)


if __name__ == "__main__":
    sys.exit(main())
