"""Merging slices into the one set of postings that an index searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fastseq.index.slices import Part, Slice, take
from fastseq.kernels.search import postings as kernels
from fastseq.threads import in_order
from fastseq.types import Int32, Int64, UInt8, UInt16

# Postings of a chunk, the unit of merging: enough to pay for the visit of every slice, few enough
# for all threads to have some.
SMALLEST_CHUNK = 1 << 16
CHUNKS_PER_THREAD = 4
_BYTES_PER_POSTING = 6  # of a chunk being merged: the chunk itself and what is read from the spill


@dataclass(frozen=True, slots=True)
class Chunk:
    """The merged postings of consecutive terms.

    large_at counts from the beginning of the whole index.
    """

    docs: UInt16
    tfs: UInt8
    run_window: UInt16
    run_count: UInt16
    large_at: Int64
    large_tf: Int32


class Merge:
    """The plan of a merge: how many postings and runs each term has, and so where they go.

    Attributes
    ----------
    df          int64[V]   documents that hold each term
    runs        int32[V]   windows that hold each term
    """

    def __init__(self, slices: Sequence[Slice], sizes: Sequence[int]) -> None:
        self._slices = slices
        self._bases = [0, *np.cumsum(sizes).tolist()]
        vocabulary = self._bases[-1]
        self.df = np.zeros(vocabulary, np.int64)
        self.runs = np.zeros(vocabulary, np.int32)
        last_window = np.full(vocabulary, -1, np.int32)
        for one, part, base in self._parts():
            kernels.count_slice(
                self.df, self.runs, last_window, take(part.terms), take(part.dfs), one.window, base
            )
        self._posting = _ends(self.df)
        self._run = _ends(self.runs)

    def _parts(self) -> Iterator[tuple[Slice, Part, int]]:
        for one in self._slices:
            for part, base in zip(one.parts, self._bases[:-1], strict=True):
                yield one, part, base

    def chunks(
        self, pool: ThreadPoolExecutor, threads: int, memory: int, done: Callable[[int], None]
    ) -> Iterator[Chunk]:
        """The merged postings, in the order of terms, made on `threads` threads.

        memory  bytes that chunks at work may take together
        done    called with the number of postings merged, each time a chunk is
        """
        total = int(self._posting[-1])
        size = max(total // (threads * CHUNKS_PER_THREAD), SMALLEST_CHUNK)
        size = max(min(size, memory // (_BYTES_PER_POSTING * (threads + 1))), 1)
        edges = np.searchsorted(self._posting, np.arange(size, total + size, size)).tolist()
        edges = [0, *(min(edge, len(self.df)) for edge in edges)]
        starts = [self._part_starts(part, base, edges) for _, part, base in self._parts()]

        def merge(i: int) -> Chunk:
            ranges = [(terms[i : i + 2], postings[i : i + 2]) for terms, postings in starts]
            return self._merge(edges[i], edges[i + 1], ranges)

        for i, chunk in in_order(pool, merge, range(len(edges) - 1), threads + 1):
            yield chunk
            done(int(self._posting[edges[i + 1]]))

    def _part_starts(self, part: Part, base: int, edges: list[int]) -> tuple[list[int], list[int]]:
        """Where each chunk begins among a part's terms and among its postings."""
        terms = np.searchsorted(take(part.terms), np.array(edges) - base)
        return terms.tolist(), _ends(take(part.dfs))[terms].tolist()

    def _merge(self, first: int, last: int, ranges: Sequence[tuple[list[int], list[int]]]) -> Chunk:
        """Merge the postings of terms first..last."""
        first_posting, first_run = int(self._posting[first]), int(self._run[first])
        docs = np.empty(int(self._posting[last]) - first_posting, np.uint16)
        tfs = np.empty(len(docs), np.uint8)
        run_window = np.empty(int(self._run[last]) - first_run, np.uint16)
        run_count = np.empty(len(run_window), np.uint16)
        posting_at = self._posting[first:last].copy()
        run_at = self._run[first:last].copy()
        open_window = np.full(last - first, -1, np.int32)
        large: list[tuple[Int64, Int32]] = []
        for (one, part, base), (terms, postings) in zip(self._parts(), ranges, strict=True):
            if terms[0] == terms[1]:
                continue
            ids, dfs = take(part.terms, *terms), take(part.dfs, *terms)
            shift = base - first
            if len(part.large_at):
                large.append(_place_large(part, postings, ids, dfs, shift, posting_at))
            kernels.place_slice(
                docs, tfs, run_window, run_count, posting_at, run_at, open_window, ids, dfs,
                take(part.docs, *postings), take(part.tfs, *postings),
                one.window, shift, first_posting, first_run,
            )  # fmt: skip
        large_at = np.concatenate([at for at, _ in large]) if large else np.empty(0, np.int64)
        large_tf = np.concatenate([tf for _, tf in large]) if large else np.empty(0, np.int32)
        order = np.argsort(large_at)
        return Chunk(docs, tfs, run_window, run_count, large_at[order], large_tf[order])


def _place_large(
    part: Part, postings: list[int], ids: Int32, dfs: Int32, shift: int, posting_at: Int64
) -> tuple[Int64, Int32]:
    """The large frequencies of a part that fall in a chunk, by their places in the index."""
    low, high = np.searchsorted(part.large_at, postings)
    at = part.large_at[low:high] - postings[0]
    ends = _ends(dfs)
    term = np.searchsorted(ends, at, "right") - 1
    return posting_at[ids[term] + shift] + at - ends[term], part.large_tf[low:high]


def _ends(counts: Int64 | Int32) -> Int64:
    """int64[n + 1]: 0 and the running total."""
    ends = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return ends
