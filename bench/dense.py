"""Search of vectors: speed beside NumPy and usearch, and the recall of graphs.

    python -m bench.dense

Random unit vectors, as float32, float16 and int8 (bytes beside float32) on disk, in batches of
queries. NumPy multiplies a batch by all vectors and selects by argpartition; usearch, where it is
installed, searches exactly. Times are CPU time of one thread, the best of several; the rows found
are compared.

The second table is of graphs (dense_index="usearch"), of fewer vectors, since one thread builds
them: random ones, which have no neighbourhoods that a graph could follow, and clusters of about 50,
around centres that are as far apart. Recall is the share of the exact hits that are found.
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

from bench.common.report import Parser, Report, optional, table
from fastseq import Index
from fastseq.index import graphs
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
    if optional("usearch") is not None:
        compare_graphs(report, options)
    return report.end()


def compare_graphs(report: Report, options: argparse.Namespace) -> None:
    """Print the table of graphs."""
    graphs.LEAST = min(graphs.LEAST, options.graph_documents)
    rows = []
    for name, own in (("random", random_vectors), ("clustered", clustered_vectors)):
        vectors, queries = own(options.graph_documents, options.queries, options.size)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            built(vectors, Path(folder) / "exact", "float32")
            middle = time.process_time()
            index = built(vectors, Path(folder) / "graph", "float32", dense_index="usearch")
            seconds = time.process_time() - middle - (middle - start)
            shown, found = [name, f"{seconds:,.1f}"], {}
            for exact in (True, False):
                searched(index, queries, options.k, exact)  # maps and verifies
                best = float("inf")
                for _ in range(REPEATS):
                    start = time.process_time()
                    found[exact] = [
                        searched(index, query[None], options.k, exact)[0] for query in queries
                    ]
                    best = min(best, time.process_time() - start)
                shown.append(f"{len(queries) / best:,.0f}")
        shared = [len({*a} & {*b}) / len(a) for a, b in zip(found[True], found[False], strict=True)]
        recall = float(np.mean(shared))
        report.check(recall >= (0.9 if name == "clustered" else 0.1), f"recall of {name} vectors")
        rows.append([*shown, f"{recall:.3f}"])
    head = "exact queries/s", "graph queries/s", f"recall@{options.k}"
    print(table(("vectors", "graph built in s", *head), rows))


def random_vectors(documents: int, queries: int, size: int) -> tuple[Any, Any]:
    """Documents and queries without a structure."""
    rng = np.random.default_rng(1)
    found = rng.standard_normal((documents + queries, size), dtype=np.float32)
    return found[:documents], found[documents:]


def clustered_vectors(documents: int, queries: int, size: int) -> tuple[Any, Any]:
    """Documents and queries in clusters, a cosine of .5 from each other on average."""
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((max(documents // 50, 1), size), dtype=np.float32)

    def drawn(count: int) -> Any:
        own = centres[rng.integers(0, len(centres), count)]
        return own + rng.standard_normal(own.shape, dtype=np.float32)

    return drawn(documents), drawn(queries)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"documents": 2000, "queries": 8, "graph_documents": 2500})
    parser.add_argument("--documents", type=int, default=500_000)
    parser.add_argument("--graph-documents", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=384, help="dimensions")
    parser.add_argument("--queries", type=int, default=64, help="of a batch")
    parser.add_argument("-k", type=int, default=10)
    return parser.parse(arguments)


def built(vectors: Any, path: Path, kind: str, **settings: Any) -> Index:
    """An index of the vectors alone."""
    flat = pa.array(vectors.reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    corpus = pa.table({"v": column, "text": pa.repeat("", len(vectors))})
    return Index.build(corpus, path, dense_column="v", dense_dtype=kind, store=[], **settings)


def searched(index: Index, queries: Any, k: int, exact: bool = False) -> Any:
    return index.search_dense(queries, k, threads=1, exact=exact).rows


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
