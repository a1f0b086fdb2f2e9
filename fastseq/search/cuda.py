"""Search on a GPU, which keeps the postings of the terms searched for in its memory.

Impacts and weights are those of the CPU, and added in its order, so hits and scores are the CPU's,
bit for bit. Queries with a weight of zero or less, and those whose postings alone exceed the
device's memory, are left to the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastseq.errors import DeviceError
from fastseq.index.segment import Segment
from fastseq.kernels.cuda import search as kernels
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.availability import free_memory
from fastseq.kernels.search.cursors import TINY
from fastseq.kernels.search.impacts import Impacts
from fastseq.kernels.search.postings import WINDOW_BITS
from fastseq.search.ranking import QueryTerms
from fastseq.types import Float32, Int32, Int64, offsets_of, ranges

MOST_HITS = kernels.MOST_HITS  # a larger k is searched on the CPU
_POSTING_BYTES = 8
_MOST_CANDIDATES = 1 << 27  # keys of a batch of queries: 1 GB
_MOST_BOUNDS = 1 << 27  # window bounds of the posting lists of a batch: 512 MB
_DECODED = 1 << 24  # postings decoded in host memory at a time
_NONE = np.int32(-1)

Fill = Callable[[Int32], Impacts]  # the impacts, with those of some terms computed


def capacity(segment: Segment) -> int:
    """The number of a segment's postings that fit into half of the device's free memory."""
    free, total = free_memory(), len(segment.postings.docs)
    return total if free is None else min(total, free // 2 // _POSTING_BYTES)


class GpuSearch:
    """The postings of one segment and model on the device, of the terms searched for so far."""

    def __init__(self, segment: Segment, fill: Fill) -> None:
        """Allocate memory for all postings, or as many as half of the free memory holds.

        Raises DeviceError where the device has no memory.
        """
        self._segment = segment
        self._fill = fill
        self._capacity = capacity(segment)
        self._keys: Any = None
        self._width = kernels.window_width(segment.documents)
        self._windows = -(-segment.documents // self._width)
        self._counts: Int64 = np.diff(segment.postings.term_posting)
        try:
            self._docs = memory.empty(max(self._capacity, 1), np.int32)
            self._parts = memory.empty(max(self._capacity, 1), np.float32)
        except memory.DeviceMemoryError as error:
            raise DeviceError(f"the GPU has no memory for postings: {error} needed") from error
        self._clear()

    def _clear(self) -> None:
        self._at: Int64 = np.full(self._segment.terms, -1, np.int64)
        self._used = 0

    def search(self, rows: Int32, scores: Float32, k: int, queries: QueryTerms) -> Int64:
        """Fill in the k <= MOST_HITS first columns of the hits of Q queries.

        Returns the numbers of the queries left to the CPU. Raises DeviceError where the device
        lacks the memory for a batch.
        """
        found = self._counts[queries.terms] > 0
        refused = queries.base < 0
        refused[queries.owners[found & ~(queries.weights > TINY)]] = True
        left: list[int] = np.flatnonzero(refused).tolist()
        known = replace(
            queries,
            starts=offsets_of(np.bincount(queries.owners[found], minlength=len(queries))),
            terms=queries.terms[found],
            weights=queries.weights[found],
        )
        with memory.lock:
            try:
                step = self._batch(k)
                numbers = np.flatnonzero(~refused)
                for first in range(0, len(numbers), step):
                    self._search(rows, scores, k, known, numbers[first : first + step], left)
            except memory.DeviceMemoryError as error:
                raise DeviceError(
                    f"the GPU's memory is full, {error} needed: lower k, or search fewer queries "
                    "at a time"
                ) from error
        return np.array(sorted(left), np.int64)

    def _batch(self, k: int) -> int:
        """How many queries have their candidates on the device at a time."""
        free = free_memory()
        most = _MOST_CANDIDATES if free is None else min(_MOST_CANDIDATES, free // 4 // 8)
        return max(1, most // self._most_candidates(k))

    def _candidates(self, n: int, k: int) -> Any:
        """Memory for the candidates of n queries, reused from batch to batch."""
        size = self._most_candidates(k)
        if self._keys is None or self._keys.size < n * size:
            self._keys = None
            self._keys = memory.empty(n * size, np.int64)
        return self._keys[: n * size].reshape(n, size)

    def _most_candidates(self, k: int) -> int:
        """Maximum number of candidates of a query."""
        return self._windows * min(k, self._width)

    def _search(
        self, rows: Int32, scores: Float32, k: int, known: QueryTerms, numbers: Int64,
        left: list[int],
    ) -> None:  # fmt: skip
        """Search for the queries of these numbers, in halves where they have too many terms."""
        queries = known.take(numbers)
        terms = queries.terms
        if len(terms) * (self._windows + 1) <= _MOST_BOUNDS and self._hold(np.unique(terms)):
            self._launch(rows, scores, k, numbers, queries)
        elif len(numbers) == 1:
            left.append(int(numbers[0]))
        else:
            half = len(numbers) // 2
            for part in (numbers[:half], numbers[half:]):
                self._search(rows, scores, k, known, part, left)

    def _hold(self, terms: Int32) -> bool:
        """Upload the missing postings of these terms, evicting others if needed; False where they
        do not fit."""
        missing = terms[self._at[terms] < 0]
        if self._used + int(self._counts[missing].sum()) > self._capacity:
            if int(self._counts[terms].sum()) > self._capacity:
                return False
            self._clear()
            missing = terms
        ends = offsets_of(self._counts[missing])
        first = 0
        while first < len(missing):
            last = int(np.searchsorted(ends, ends[first] + _DECODED, "right")) - 1
            last = max(last, first + 1)
            self._upload(missing[first:last])
            first = last
        return True

    def _upload(self, terms: Int32) -> None:
        """Copy the postings of terms to the device."""
        postings = self._segment.postings
        impacts = self._fill(terms)
        first, counts = postings.term_posting[terms], self._counts[terms]
        places = ranges(first, counts)
        runs = ranges(postings.term_run[terms], np.diff(postings.term_run)[terms])
        windows = np.repeat(
            postings.run_window[runs].astype(np.int64),
            postings.run_count[runs].astype(np.int64) + 1,
        )
        docs = (windows << WINDOW_BITS) + postings.docs[places]
        # a damaged file may name a window beyond the last
        docs = np.minimum(docs, self._segment.documents).astype(np.int32)
        stop = self._used + len(docs)
        memory.put(docs, self._docs[self._used : stop])
        memory.put(impacts.parts[places], self._parts[self._used : stop])
        self._at[terms] = self._used + np.cumsum(counts) - counts
        self._used = stop

    def _launch(
        self, rows: Int32, scores: Float32, k: int, numbers: Int64, queries: QueryTerms
    ) -> None:
        """Search for the queries of these numbers, whose postings are all on the device."""
        n, terms, weights = len(queries), queries.terms, queries.weights
        hits, points = np.full((n, k), _NONE), np.zeros((n, k), np.float32)
        if len(terms):
            # the CPU's order: the largest weight first, equal ones in the order of their bytes, in
            # which the query has them (a stable sort)
            order = np.lexsort((-weights, queries.owners))
            terms, weights = terms[order], weights[order]
            lists = (
                memory.put(queries.starts.astype(np.int32)),
                memory.put(self._at[terms]),
                memory.put(self._counts[terms].astype(np.int32)),
                memory.put(weights),
            )
            keys = self._candidates(n, k)
            totals = memory.zeros(n, np.int32)
            kernels.score(
                keys, totals, memory.zeros(n, np.int32),
                memory.empty((len(terms), self._windows + 1), np.int32),
                (self._docs, self._parts), lists, memory.put(queries.base),
                self._segment.documents, self._width, k,
            )  # fmt: skip
            device_hits, device_points = memory.empty((n, k), np.int32), memory.empty((n, k))
            kernels.best(device_hits, device_points, keys, totals)
            memory.get(device_hits, hits)
            memory.get(device_points, points)
        rows[numbers, :k] = hits
        scores[numbers, :k] = points
