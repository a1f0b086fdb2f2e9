"""Graphs of vectors (HNSW; Malkov & Yashunin 2018), by the package usearch: an approximate index.

A segment of at least LEAST vectors has a graph, where the index is built with it. Its nodes are the
documents with a vector, by their rows, with the vector in float16. The graph is what usearch saves;
one thread adds the documents in order, so it does not depend on threads. It only finds candidates:
their scores are those of the stored vectors (search/dense.py).
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from fastseq.errors import FastseqError, MissingExtraError
from fastseq.types import Float32, Int64, UInt8

LEAST = 100_000  # vectors of a segment with a graph: fewer are compared in some 30 ms
_NEIGHBOURS, _VISITED = 16, 128  # of a node on each level; nodes compared with one that is added


def require_usearch() -> Any:
    """usearch's type of an index. Raises MissingExtraError where it is not installed."""
    try:
        from usearch.index import Index
    except ImportError:
        raise MissingExtraError(
            "the graph of vectors (dense_index='usearch') needs the package usearch, but for an "
            "exact search: pip install 'fastseq[usearch]'"
        ) from None
    return Index


def _empty(size: int) -> Any:
    return require_usearch()(
        ndim=size, metric="ip", dtype="f16", connectivity=_NEIGHBOURS, expansion_add=_VISITED,
        enable_key_lookups=False,
    )  # fmt: skip


class GraphBuilder:
    """A graph in progress, in memory: 2 bytes a number and some 150 a document.

    size : dimensions

    Raises MissingExtraError without usearch.
    """

    def __init__(self, size: int) -> None:
        self._graph = _empty(size)

    def add(self, rows: Int64, vectors: Float32) -> None:
        """Add documents: int64[n] and float32[n, size]."""
        self._graph.add(rows.astype(np.uint64), vectors, threads=1)

    def save(self, path: os.PathLike[str]) -> None:
        """Write the graph to a file. Raises FastseqError where the system refuses."""
        try:
            self._graph.save(os.fspath(path))
        except RuntimeError as error:
            raise FastseqError(f"cannot write {path}: {error}") from None


class Graph:
    """The graph of a segment, mapped.

    raw        what usearch has saved, verified
    size       dimensions
    documents  of the segment

    Raises ValueError where it is not such a graph, MissingExtraError without usearch.
    """

    def __init__(self, raw: UInt8, size: int, documents: int) -> None:
        self._graph, self._raw = _empty(size), raw  # the graph is a view
        try:
            self._graph.view(raw)
        except RuntimeError as error:
            raise ValueError(f"usearch cannot read it: {error}") from None
        if self._graph.ndim != size or not 0 < len(self._graph) <= documents:
            raise ValueError("not a graph of the vectors")
        self._lock = threading.Lock()  # threads of usearch have memory of their own, by number

    def search(self, units: Float32, count: int, threads: int) -> list[Int64]:
        """Of each query about the `count` nearest documents, by their rows.

        units : float32[Q, size]
        """
        with self._lock:
            self._graph.expansion_search = count
            found = self._graph.search(units, count, threads=threads)
        return [one.keys.astype(np.int64) for one in ([found] if len(units) == 1 else found)]
