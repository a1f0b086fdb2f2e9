"""Slices, the inverted parts of a corpus, in memory or spilled to disk, and their merge.

Threads invert slices of the corpus; `SliceStore` keeps them within a memory budget; `Merge` adds up
the document frequencies of each term, which fixes the place of every posting in the index, and
yields the merged postings in chunks of terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastseq.errors import FastseqError
from fastseq.kernels.search import postings as kernels
from fastseq.store.atomic import reason
from fastseq.threads import in_order
from fastseq.types import Int32, Int64, Tokens, UInt8, UInt16, offsets_of

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Part:
    """The postings of one n-gram level of a slice, sorted by (term, document).

    terms    int32[n]   term ids of the level, ascending
    dfs      int32[n]   postings of each term
    docs     uint16[p]  document in the window
    tfs      uint8[p]   term frequency
    large_at, large_tf  int64[l], int32[l]: position and value of frequencies from 255 on
    """

    terms: Int32 | SpilledArray
    dfs: Int32 | SpilledArray
    docs: UInt16 | SpilledArray
    tfs: UInt8 | SpilledArray
    large_at: Int64
    large_tf: Int32

    @property
    def nbytes(self) -> int:
        """Bytes of memory that spilling frees."""
        return self.terms.nbytes + self.dfs.nbytes + self.docs.nbytes + self.tfs.nbytes


@dataclass(slots=True)
class Slice:
    """Inverted consecutive documents of one window, with a part for each n-gram level."""

    window: int
    lengths: Int32  # [D] tokens of each document, all levels together
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class SpilledArray:
    """An array in the spill file."""

    file: Path
    start: int
    count: int
    dtype: np.dtype[Any]
    nbytes: int = 0

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> Array:
        """Read the elements start to stop. (A mapping would hold memory and a file handle.)"""
        offset = self.start + start * self.dtype.itemsize
        return np.fromfile(self.file, self.dtype, stop - start, offset=offset)


def take(array: Array | SpilledArray, start: int = 0, stop: int | None = None) -> Array:
    """The elements start to stop (default: the end) of an array in memory or on disk."""
    stop = len(array) if stop is None else stop
    return array.read(start, stop) if isinstance(array, SpilledArray) else array[start:stop]


def invert(levels: Sequence[Tokens], sizes: Sequence[int], window: int, first: int) -> Slice:
    """Invert the tokens of a slice.

    levels  the slice's tokens for each n-gram level
    sizes   a bound above every term id of each level
    first   the slice's first document, counted from the start of its window
    """
    lengths = np.zeros(len(levels[0]), np.int64)
    parts = []
    for tokens, size in zip(levels, sizes, strict=True):
        lengths += np.diff(tokens.offsets)
        n = len(tokens.values)
        docs, tfs = np.empty(n, np.uint16), np.empty(n, np.uint8)
        terms, dfs = np.empty(n, np.int32), np.empty(n, np.int32)
        large_at = np.empty(n // kernels.LARGE_TF + 1, np.int64)
        large_tf = np.empty(len(large_at), np.int32)
        keys, spare = np.empty(n, np.uint64), np.empty(n, np.uint64)
        starts = np.empty(kernels.DIGITS, np.int64)
        postings, distinct, large = kernels.invert(
            docs, tfs, terms, dfs, large_at, large_tf, keys, spare, starts,
            tokens.values, tokens.offsets, first, size,
        )  # fmt: skip
        # copies, so that the larger buffers are freed
        parts.append(Part(
            terms[:distinct].copy(), dfs[:distinct].copy(), docs[:postings].copy(),
            tfs[:postings].copy(), large_at[:large].copy(), large_tf[:large].copy(),
        ))  # fmt: skip
    return Slice(window, lengths.astype(np.int32), parts)


class SliceStore:
    """Collects slices, spilling them to `file` when they take more than `budget` bytes."""

    def __init__(self, file: Path, budget: int) -> None:
        self.slices: list[Slice] = []
        self._file = file
        self._budget = budget
        self._resident = 0
        self._spilled = 0  # slices
        self._written = 0  # bytes

    def append(self, one: Slice) -> None:
        """Take the next slice, in document order."""
        self.slices.append(one)
        self._resident += sum(part.nbytes for part in one.parts)
        if self._resident > self._budget:
            self._spill()

    def _spill(self) -> None:
        try:
            with open(self._file, "ab") as out:
                for one in self.slices[self._spilled :]:
                    for part in one.parts:
                        for name in ("docs", "tfs", "terms", "dfs"):
                            setattr(part, name, self._write(out, getattr(part, name)))
        except OSError as error:
            raise FastseqError(f"cannot write {self._file}: {reason(error)}") from error
        self._spilled = len(self.slices)
        self._resident = 0

    def _write(self, out: BinaryIO, array: Array) -> SpilledArray:
        out.write(array.data)
        spilled = SpilledArray(self._file, self._written, len(array), array.dtype)
        self._written += array.nbytes
        return spilled


# ---- merging

# Postings of a chunk, the unit of merging: enough to be worth a pass over every slice, few enough
# for all threads to get some.
SMALLEST_CHUNK = 1 << 16
CHUNKS_PER_THREAD = 4
_BYTES_PER_POSTING = 6  # of a chunk being merged, with what is read from the spill file


@dataclass(frozen=True, slots=True)
class Chunk:
    """The merged postings of consecutive terms; large_at counts from the start of the index."""

    docs: UInt16
    tfs: UInt8
    run_window: UInt16
    run_count: UInt16
    large_at: Int64
    large_tf: Int32


class Merge:
    """A merge of slices: first the number of postings of each term, then their places.

    Attributes
    ----------
    df : int64[V], document frequency of each term
    runs : int32[V], windows in which each term occurs
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
        self._posting = offsets_of(self.df)
        self._run = offsets_of(self.runs)

    def _parts(self) -> Iterator[tuple[Slice, Part, int]]:
        for one in self._slices:
            for part, base in zip(one.parts, self._bases[:-1], strict=True):
                yield one, part, base

    def chunks(
        self, pool: ThreadPoolExecutor, threads: int, memory: int, done: Callable[[int], None]
    ) -> Iterator[Chunk]:
        """Yield the merged postings in the order of terms, merged on `threads` threads.

        memory  bytes for all chunks in progress
        done    called with the number of postings merged so far, after each chunk
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
        """The start of each chunk among the terms and among the postings of a part."""
        terms = np.searchsorted(take(part.terms), np.array(edges) - base)
        return terms.tolist(), offsets_of(take(part.dfs))[terms].tolist()

    def _merge(self, first: int, last: int, ranges: Sequence[tuple[list[int], list[int]]]) -> Chunk:
        """Merge the postings of the terms first to last."""
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
    """The large frequencies of a part within a chunk, with their positions in the index."""
    low, high = np.searchsorted(part.large_at, postings)
    at = part.large_at[low:high] - postings[0]
    ends = offsets_of(dfs)
    term = np.searchsorted(ends, at, "right") - 1
    return posting_at[ids[term] + shift] + at - ends[term], part.large_tf[low:high]
