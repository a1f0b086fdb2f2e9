"""Inverted slices of a corpus: collected in memory or spilled to disk, and merged to postings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.index.segment_writer import chunk_edges
from fastseq.kernels.search import positions as position_kernels
from fastseq.kernels.search import postings as kernels
from fastseq.store.files import SpillFile
from fastseq.threads import in_order
from fastseq.types import Int32, Int64, RawWords, Texts, Tokens, UInt8, UInt16, offsets_of

Array = npt.NDArray[Any]


class Vocabulary(NamedTuple):
    """The terms of a field, their number in each section, and their words as they are written; None
    where terms are these words."""

    terms: Texts
    sizes: list[int]
    words: RawWords | None


_SPILLED = ("docs", "tfs", "terms", "dfs", "positions", "sizes")  # arrays of a Part


@dataclass(slots=True)
class Part:
    """The postings of one n-gram level of a slice, sorted by (term, document).

    terms    int32[n]   term ids of the level, ascending
    dfs      int32[n]   postings of each term
    docs     uint16[p]  document in the window
    tfs      uint8[p]   term frequency
    large_at, large_tf  int64[l], int32[l]: position and value of frequencies from 255 on
    packed_larges  the number of frequencies from 15 on
    positions  uint8[…]  those of each posting, see kernels/search/positions.py; empty without
    sizes    int32[n]   bytes of each term's
    """

    terms: Int32 | SpilledArray
    dfs: Int32 | SpilledArray
    docs: UInt16 | SpilledArray
    tfs: UInt8 | SpilledArray
    large_at: Int64
    large_tf: Int32
    packed_larges: int
    positions: UInt8 | SpilledArray
    sizes: Int32 | SpilledArray

    @property
    def nbytes(self) -> int:
        """Bytes of memory that spilling frees."""
        return sum(getattr(self, name).nbytes for name in _SPILLED)


@dataclass(slots=True)
class Slice:
    """Inverted consecutive documents of one window, with a part for each n-gram level."""

    window: int
    lengths: Int32  # [D] tokens of each document, all levels together
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class SpilledArray:
    """An array in the spill file."""

    file: SpillFile
    start: int
    count: int
    dtype: np.dtype[Any]
    nbytes: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Array:
        """Read some elements. (A mapping would hold memory.)"""
        start, stop, _ = part.indices(self.count)
        return self.file.read(self.start + start * self.dtype.itemsize, self.dtype, stop - start)


def invert(levels: Sequence[Tokens], sizes: Sequence[int], window: int, first: int) -> Slice:
    """Invert the tokens of a slice.

    levels  the slice's tokens for each n-gram level
    sizes   an exclusive upper bound of the term ids of each level
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
            packed_larges(tfs[:postings]), np.empty(0, np.uint8), np.zeros(distinct, np.int32),
        ))  # fmt: skip
    return Slice(window, lengths.astype(np.int32), parts)


def invert_with_positions(
    tokens: Tokens, size: int, columns: int, window: int, first: int
) -> Slice:
    """Invert the tokens of a slice, with their positions; -1 for a removed word.

    tokens   of the columns of each document
    others   as of `invert`
    """
    n = len(tokens.values)
    lengths = np.empty(len(tokens) // columns, np.int32)
    docs, tfs = np.empty(n, np.uint16), np.empty(n, np.uint8)
    terms, dfs, sizes = np.empty((3, n), np.int32)
    data = np.empty(position_kernels.MOST_BYTES * n, np.uint8)
    large_at = np.empty(n // kernels.LARGE_TF + 1, np.int64)
    large_tf = np.empty(len(large_at), np.int32)
    keys, spare = np.empty((2, n), np.uint64)
    starts = np.empty(kernels.DIGITS, np.int64)
    postings, distinct, large, nbytes = position_kernels.invert_positions(
        docs, tfs, terms, dfs, sizes, data, large_at, large_tf, lengths, keys, spare, starts,
        np.empty(n, np.uint16), np.empty(n, np.int32), tokens.values, tokens.offsets, columns,
        first, size,
    )  # fmt: skip
    part = Part(
        terms[:distinct].copy(), dfs[:distinct].copy(), docs[:postings].copy(),
        tfs[:postings].copy(), large_at[:large].copy(), large_tf[:large].copy(),
        packed_larges(tfs[:postings]), data[:nbytes].copy(), sizes[:distinct].copy(),
    )  # fmt: skip
    return Slice(window, lengths, [part])


def packed_larges(tfs: UInt8) -> int:
    """The number of frequencies from 15 on, of a byte each."""
    return int(np.count_nonzero(tfs >= kernels.LARGE_PACKED_TF))


class SliceStore:
    """Collects slices, in memory or in a file.

    make_file  returns the path of the file, and is called when it is needed
    resident   bytes of the slices in memory
    """

    def __init__(self, make_file: Callable[[], Path]) -> None:
        self.slices: list[Slice] = []
        self.resident = 0
        self._spilled = 0
        self._make_file = make_file
        self._file: SpillFile | None = None

    def append(self, one: Slice) -> None:
        """Take the next slice, in document order."""
        self.slices.append(one)
        self.resident += sum(part.nbytes for part in one.parts)

    def spill(self) -> None:
        """Write the slices in memory to the file."""
        for one in self.slices[self._spilled :]:
            for part in one.parts:
                for name in _SPILLED:
                    setattr(part, name, self.moved(getattr(part, name)))
        self._spilled = len(self.slices)
        self.resident = 0

    def moved(self, array: Array) -> SpilledArray:
        """The array, moved to the file."""
        if self._file is None:
            self._file = SpillFile(self._make_file())
        return SpilledArray(self._file, self._file.append(array), len(array), array.dtype)

    def stored(self, array: Array) -> Array | SpilledArray:
        """The array, moved to the file if there is one."""
        return array if self._file is None else self.moved(array)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


# ---- merging slices


class Merge:
    """A merge of slices: first the number of postings of each term, then their places.

    Parameters
    ----------
    store : the slices
    sizes : terms of each section

    Attributes
    ----------
    postings : the number of postings
    runs : int32[V], windows in which each term occurs
    nbytes : bytes of all positions
    larges : the number of frequencies of 15 and more, and of 255 and more
    """

    def __init__(self, store: SliceStore, sizes: Sequence[int]) -> None:
        self._store = store
        self._bases = [0, *np.cumsum(sizes).tolist()]
        vocabulary = self._bases[-1]
        df = np.zeros(vocabulary, np.int64)
        self.runs = np.zeros(vocabulary, np.int32)
        nbytes = np.zeros(vocabulary, np.int64)
        last_window = np.full(vocabulary, -1, np.int32)
        for one, part, base in self._parts():
            terms = part.terms[:].astype(np.int64) + base
            df[terms] += part.dfs[:]
            self.runs[terms[last_window[terms] != one.window]] += 1
            last_window[terms] = one.window
            nbytes[terms] += part.sizes[:]
        parts = [part for _, part, _ in self._parts()]
        packed_larges = sum(part.packed_larges for part in parts)
        self.larges = packed_larges, sum(len(part.large_at) for part in parts)
        self._posting = offsets_of(df)
        self._run = offsets_of(self.runs)
        self._position = offsets_of(nbytes)
        self.postings, self.nbytes = int(self._posting[-1]), int(self._position[-1])

    def _parts(self) -> Iterator[tuple[Slice, Part, int]]:
        for one in self._store.slices:
            for part, base in zip(one.parts, self._bases[:-1], strict=True):
                yield one, part, base

    def chunks(
        self, pool: ThreadPoolExecutor, threads: int, memory: int, done: Callable[[int], None]
    ) -> Iterator[dict[str, Array]]:
        """Yield the merged postings in the order of terms, in chunks by `POSTING_ARRAYS`.

        memory  bytes for all chunks in progress
        done    called with the number of postings merged so far, after each chunk
        """
        edges = chunk_edges(self._posting, self._position, threads, memory)
        # of each part int64[3 * (chunks + 1)]: where each chunk starts among the terms, the
        # postings and the bytes of positions
        starts: list[Any] = []
        for _, part, base in self._parts():
            terms = np.searchsorted(part.terms[:], np.array(edges) - base)
            ends = [offsets_of(counts[:])[terms] for counts in (part.dfs, part.sizes)]
            starts.append(self._store.stored(np.stack([terms, *ends], axis=1).reshape(-1)))

        def merge(i: int) -> dict[str, Array]:
            ranges = [of_part[3 * i : 3 * i + 6].reshape(2, 3).T.tolist() for of_part in starts]
            return self._merge(edges[i], edges[i + 1], ranges)

        for i, chunk in in_order(pool, merge, range(len(edges) - 1), threads + 1):
            yield chunk
            done(int(self._posting[edges[i + 1]]))

    def _merge(self, first: int, last: int, ranges: Sequence[list[list[int]]]) -> dict[str, Array]:
        """Merge the postings of the terms first to last; large_at counts from the index's start."""
        first_posting, first_run = int(self._posting[first]), int(self._run[first])
        docs = np.empty(int(self._posting[last]) - first_posting, np.uint16)
        tfs = np.empty(len(docs), np.uint8)
        run_window = np.empty(int(self._run[last]) - first_run, np.uint16)
        run_count = np.empty(len(run_window), np.uint16)
        posting_at = self._posting[first:last].copy()
        run_at = self._run[first:last].copy()
        open_window = np.full(last - first, -1, np.int32)
        first_position = int(self._position[first])
        positions = np.empty(int(self._position[last]) - first_position, np.uint8)
        position_at = self._position[first:last].copy()
        large = [(np.empty(0, np.int64), np.empty(0, np.int32))]
        for (one, part, base), (terms, postings, bytes_) in zip(self._parts(), ranges, strict=True):
            if terms[0] == terms[1]:
                continue
            ids, dfs = part.terms[slice(*terms)], part.dfs[slice(*terms)]
            shift = base - first
            if len(part.large_at):
                large.append(_place_large(part, postings, ids, dfs, shift, posting_at))
            kernels.place_slice(
                docs, tfs, run_window, run_count, posting_at, run_at, open_window, ids, dfs,
                part.docs[slice(*postings)], part.tfs[slice(*postings)],
                one.window, shift, first_posting, first_run,
            )  # fmt: skip
            if len(positions):
                position_kernels.place_positions(
                    positions, position_at, ids, part.sizes[slice(*terms)],
                    part.positions[slice(*bytes_)], shift, first_position,
                )  # fmt: skip
        large_at, large_tf = (np.concatenate(parts) for parts in zip(*large, strict=True))
        order = np.argsort(large_at)
        return {
            "docs": docs, "tfs": tfs, "run_window": run_window, "run_count": run_count,
            "large_at": large_at[order], "large_tf": large_tf[order], "positions": positions,
        }  # fmt: skip


def _place_large(
    part: Part, postings: list[int], ids: Int32, dfs: Int32, shift: int, posting_at: Int64
) -> tuple[Int64, Int32]:
    """The large frequencies of a part within a chunk, with their positions in the index."""
    low, high = np.searchsorted(part.large_at, postings)
    at = part.large_at[low:high] - postings[0]
    ends = offsets_of(dfs)
    term = np.searchsorted(ends, at, "right") - 1
    return posting_at[ids[term] + shift] + at - ends[term], part.large_tf[low:high]
