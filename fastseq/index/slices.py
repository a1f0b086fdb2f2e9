"""Slices: the inverted pieces that an index is merged from, in memory or spilled to disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastseq.errors import FastseqError
from fastseq.kernels.search import postings as kernels
from fastseq.store.atomic import reason
from fastseq.types import Int32, Int64, Tokens, UInt8, UInt16

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Part:
    """The postings of one slice and one n-gram level, sorted by (term, document).

    terms    int32[n]   the level's own term ids, ascending
    dfs      int32[n]   postings of each
    docs     uint16[p]  document in the window
    tfs      uint8[p]
    large_at, large_tf  int64[l], int32[l]: frequencies that a byte does not hold, by position
    """

    terms: Int32 | Stretch
    dfs: Int32 | Stretch
    docs: UInt16 | Stretch
    tfs: UInt8 | Stretch
    large_at: Int64
    large_tf: Int32

    @property
    def nbytes(self) -> int:
        """Bytes of memory that spilling would free."""
        return self.terms.nbytes + self.dfs.nbytes + self.docs.nbytes + self.tfs.nbytes


@dataclass(slots=True)
class Slice:
    """Consecutive documents of one window, inverted: one part for each n-gram level."""

    window: int
    lengths: Int32  # [D] tokens of each document, over all levels
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Stretch:
    """An array that lies in the spill file."""

    file: Path
    start: int
    count: int
    dtype: np.dtype[Any]
    nbytes: int = 0

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> Array:
        """Elements start..stop, read: a mapping would keep memory, and a file open each."""
        offset = self.start + start * self.dtype.itemsize
        return np.fromfile(self.file, self.dtype, stop - start, offset=offset)


def take(array: Array | Stretch, start: int = 0, stop: int | None = None) -> Array:
    """Elements start..stop (the end unless given) of an array, wherever it is."""
    stop = len(array) if stop is None else stop
    return array.read(start, stop) if isinstance(array, Stretch) else array[start:stop]


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
        # copies, so that the longer buffers are freed
        parts.append(
            Part(
                terms[:distinct].copy(),
                dfs[:distinct].copy(),
                docs[:postings].copy(),
                tfs[:postings].copy(),
                large_at[:large].copy(),
                large_tf[:large].copy(),
            )
        )
    return Slice(window, lengths.astype(np.int32), parts)


class SliceStore:
    """Collects slices; once they take more than `budget` bytes of memory they go to `file`."""

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
                        part.docs = self._write(out, part.docs)
                        part.tfs = self._write(out, part.tfs)
                        part.terms = self._write(out, part.terms)
                        part.dfs = self._write(out, part.dfs)
        except OSError as error:
            raise FastseqError(f"cannot write {self._file}: {reason(error)}") from error
        self._spilled = len(self.slices)
        self._resident = 0

    def _write(self, out: BinaryIO, array: Array | Stretch) -> Stretch:
        assert not isinstance(array, Stretch)
        out.write(array.data)
        stretch = Stretch(self._file, self._written, len(array), array.dtype)
        self._written += array.nbytes
        return stretch
