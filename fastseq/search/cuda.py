"""Searching on a GPU: the postings of the terms asked for stay in its memory.

The parts of postings and the weights of terms are those of the CPU, and added in its order, so the
hits and their scores are the CPU's, bit for bit. Queries that hold a weight of zero or less, and
those whose postings alone are more than the device holds, are left to the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastseq.errors import DeviceError
from fastseq.index.segment import Segment
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.availability import free_memory
from fastseq.kernels.cuda.search import scoring, topk
from fastseq.kernels.search.impacts import Impacts
from fastseq.kernels.search.postings import WINDOW_BITS
from fastseq.kernels.search.search import TINY
from fastseq.types import Float32, Int32, Int64

MOST_HITS = topk.MOST_HITS  # k past it is the CPU's
_POSTING_BYTES = 8
_MOST_CANDIDATES = 1 << 27  # keys of a batch of queries: 1 GB
_MOST_BOUNDS = 1 << 27  # places where lists cross windows, of a batch: 512 MB
_DECODED = 1 << 24  # postings made ready in the host's memory at a time
_NONE = np.int32(-1)

Fill = Callable[[Int32], Impacts]  # the impacts, with those of some terms worked out


def has_room(segment: Segment) -> bool:
    """Whether all postings of a segment fit into half of the device's free memory."""
    free = free_memory()
    return free is None or len(segment.postings.docs) <= free // 2 // _POSTING_BYTES


class GpuSearch:
    """The postings of one segment under one model on the device, as far as they were asked for."""

    def __init__(self, segment: Segment, fill: Fill) -> None:
        """Takes memory for all postings, or as many as half of the free memory holds.

        Raises DeviceError where the device has no memory.
        """
        self._segment = segment
        self._fill = fill
        free = free_memory()
        total = len(segment.postings.docs)
        self._capacity = total if free is None else min(total, free // 2 // _POSTING_BYTES)
        self._keys: Any = None
        self._width = scoring.window_width(segment.documents)
        self._counts: Int64 = np.diff(segment.postings.term_posting)
        self._best: Float32 = np.zeros(segment.terms, np.float32)
        try:
            self._docs = memory.empty(max(self._capacity, 1), np.int32)
            self._parts = memory.empty(max(self._capacity, 1), np.float32)
        except memory.DeviceMemoryError as error:
            raise DeviceError(f"the GPU has no memory for postings: {error} needed") from error
        self._forget()

    def _forget(self) -> None:
        self._at: Int64 = np.full(self._segment.terms, -1, np.int64)
        self._used = 0

    def search(
        self, rows: Int32, scores: Float32, k: int, starts: Int64, terms: Int32, weights: Float32,
        base: Float32,
    ) -> Int64:  # fmt: skip
        """Fill in the k first columns of the hits of Q queries; see `kernels.search.search`.

        k  at most MOST_HITS

        Returns the numbers of the queries that are left to the CPU. Raises DeviceError where the
        device has not the memory for a batch.
        """
        queries = np.repeat(np.arange(len(base)), np.diff(starts))
        there = terms >= 0
        there[there] = self._counts[terms[there]] > 0
        refused = base < 0
        refused[queries[there & ~(weights > TINY)]] = True
        left: list[int] = np.flatnonzero(refused).tolist()
        ours = there & ~refused[queries]
        found = _Lists(queries[ours], terms[ours], weights[ours], base)
        with memory.lock:
            try:
                step = self._batch(k)
                mine = np.flatnonzero(~refused)
                for first in range(0, len(mine), step):
                    self._some(rows, scores, k, found, mine[first : first + step], left)
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
        return max(1, most // self._room(k))

    def _candidates(self, n: int, k: int) -> Any:
        """Memory for the candidates of n queries, kept from batch to batch."""
        room = self._room(k)
        if self._keys is None or self._keys.size < n * room:
            self._keys = None
            self._keys = memory.empty(n * room, np.int64)
        return self._keys[: n * room].reshape(n, room)

    def _room(self, k: int) -> int:
        """Candidates that a query may have."""
        return self._windows * min(k, self._width)

    @property
    def _windows(self) -> int:
        return -(-self._segment.documents // self._width)

    def _some(
        self, rows: Int32, scores: Float32, k: int, found: _Lists, mine: Int64, left: list[int]
    ) -> None:
        """Search for the queries `mine`, by halves where their terms are too many at a time."""
        queries, terms, weights = found.of(mine)
        fits = len(terms) * (self._windows + 1) <= _MOST_BOUNDS and self._hold(np.unique(terms))
        if fits:
            self._launch(rows, scores, k, found.base[mine], mine, queries, terms, weights)
        elif len(mine) == 1:
            left.append(int(mine[0]))
        else:
            half = len(mine) // 2
            for part in (mine[:half], mine[half:]):
                self._some(rows, scores, k, found, part, left)

    def _hold(self, terms: Int32) -> bool:
        """See that the postings of all these terms are on the device; False where they are too
        many. Others are forgotten to make room."""
        missing = terms[self._at[terms] < 0]
        if self._used + int(self._counts[missing].sum()) > self._capacity:
            if int(self._counts[terms].sum()) > self._capacity:
                return False
            self._forget()
            missing = terms
        ends = np.cumsum(self._counts[missing])
        first = 0
        while first < len(missing):
            done = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + _DECODED, "right")))
            self._upload(missing[first:last])
            first = last
        return True

    def _upload(self, terms: Int32) -> None:
        """Bring the postings of terms that are not there to the device."""
        postings = self._segment.postings
        impacts = self._fill(terms)
        first, counts = postings.term_posting[terms], self._counts[terms]
        places = _ranges(first, counts)
        runs = _ranges(postings.term_run[terms], np.diff(postings.term_run)[terms])
        windows = np.repeat(
            postings.run_window[runs].astype(np.int64),
            postings.run_count[runs].astype(np.int64) + 1,
        )
        docs = (windows << WINDOW_BITS) + postings.docs[places]
        # a damaged file may name a window that is not there
        docs = np.minimum(docs, self._segment.documents).astype(np.int32)
        stop = self._used + len(docs)
        memory.put(docs, self._docs[self._used : stop])
        memory.put(impacts.parts[places], self._parts[self._used : stop])
        self._best[terms] = impacts.best[terms]
        self._at[terms] = self._used + np.cumsum(counts) - counts
        self._used = stop

    def _launch(
        self, rows: Int32, scores: Float32, k: int, base: Float32, mine: Int64, queries: Int64,
        terms: Int32, weights: Float32,
    ) -> None:  # fmt: skip
        """Search for queries whose terms are all there."""
        n = len(mine)
        hits, points = np.full((n, k), _NONE), np.zeros((n, k), np.float32)
        if len(terms):
            # the CPU's order: by what a term can add at most, equals as the query has them
            order = np.lexsort((-(weights * self._best[terms]), queries))
            terms, weights = terms[order], weights[order]
            starts = np.searchsorted(queries, np.arange(n + 1)).astype(np.int32)
            lists = (
                memory.put(starts),
                memory.put(self._at[terms]),
                memory.put(self._counts[terms].astype(np.int32)),
                memory.put(weights),
            )
            keys = self._candidates(n, k)
            totals = memory.zeros(n, np.int32)
            scoring.score(
                keys, totals, memory.zeros(n, np.int32),
                memory.empty((len(terms), self._windows + 1), np.int32),
                (self._docs, self._parts), lists, memory.put(base), self._segment.documents,
                self._width, k,
            )  # fmt: skip
            device_hits, device_points = memory.empty((n, k), np.int32), memory.empty((n, k))
            topk.best(device_hits, device_points, keys, totals)
            memory.get(device_hits, hits)
            memory.get(device_points, points)
        rows[mine, :k] = hits
        scores[mine, :k] = points


class _Lists:
    """The terms of queries and their weights, those of one query beside each other."""

    def __init__(self, queries: Int64, terms: Int32, weights: Float32, base: Float32) -> None:
        self.base = base
        self._starts: Int64 = np.searchsorted(queries, np.arange(len(base) + 1)).astype(np.int64)
        self._terms = terms
        self._weights = weights

    def of(self, queries: Int64) -> tuple[Int64, Int32, Float32]:
        """(which of these queries, its term, the term's weight) of all their terms."""
        counts = self._starts[queries + 1] - self._starts[queries]
        places = _ranges(self._starts[queries], counts)
        owners = np.repeat(np.arange(len(queries)), counts)
        return owners, self._terms[places], self._weights[places]


def _ranges(first: Int64, counts: Int64) -> Int64:
    """The whole numbers from each first on, as many as counted, one range after the other."""
    before = np.cumsum(counts) - counts
    found: Int64 = np.repeat(first - before, counts) + np.arange(int(counts.sum()))
    return found
