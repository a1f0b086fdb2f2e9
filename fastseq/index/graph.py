"""Graphs of the nearest vectors of a segment, for approximate search: usearch's HNSW.

A graph finds most of the nearest documents of a query without looking at all of them (Malkov and
Yashunin 2018, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical
Navigable Small World Graphs"). It has the vectors in float16 and is built by one thread, so the
same vectors give the same bytes. What it finds is scored again from the segment's vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, MissingExtraError
from fastseq.types import Float32, Int64, UInt8

LEAST = 10_000  # documents of a segment with a graph: fewer are compared one by one
_SETTINGS = {"connectivity": 16, "expansion_add": 128, "expansion_search": 128}
_KIND = {"metric": "ip", "dtype": "f16"}


def index_type() -> Any:
    """usearch's index. Raises MissingExtraError without the library."""
    try:
        from usearch.index import Index
    except ImportError as error:
        raise MissingExtraError(
            "approximate search of vectors needs the library usearch: "
            f"pip install 'fastseq[usearch]' ({error})"
        ) from error
    return Index


class GraphBuilder:
    """A graph in progress, of unit vectors of `size` numbers, documents in their order."""

    def __init__(self, size: int) -> None:
        self._index = index_type()(ndim=size, **_KIND, **_SETTINGS)

    def append(self, vectors: npt.NDArray[Any]) -> None:
        """Add the vectors [n, size] of the next documents; those of zeros are left out later."""
        first = len(self._index)
        keys = np.arange(first, first + len(vectors), dtype=np.uint64)
        self._index.add(keys, vectors.astype(np.float32, copy=False), threads=1)

    def content(self) -> UInt8:
        """The graph as bytes."""
        return np.frombuffer(self._index.save(), np.uint8)


class Graph:
    """A graph that was written.

    content    its bytes, which stay mapped
    size, documents  of the vectors
    name       of the file, in messages

    Raises FormatError for bytes that are not such a graph.
    """

    def __init__(self, content: UInt8, size: int, documents: int, name: str) -> None:
        kind = index_type()
        self._content = memoryview(content.data)
        try:
            self._index = kind.restore(self._content, view=True)
        except (ValueError, RuntimeError, TypeError) as error:
            raise FormatError(f"{name}: damaged: its graph cannot be read ({error})") from error
        found = None if self._index is None else (self._index.ndim, len(self._index))
        if found != (size, documents):
            raise FormatError(f"{name}: damaged: its graph is not of its vectors")
        self._index.expansion_search = _SETTINGS["expansion_search"]

    def nearest(self, unit: Float32, count: int) -> Int64:
        """int64[n <= count]: documents that are probably the nearest of a unit vector, float32[H],
        in no order."""
        self._index.expansion_search = max(_SETTINGS["expansion_search"], count)
        found: Int64 = self._index.search(unit, count, threads=1).keys.astype(np.int64)
        return found
