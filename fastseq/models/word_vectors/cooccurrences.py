"""How often the words of a corpus stand near each other, counted in bounded memory.

    found = count_cooccurrences(sentences.tokens, sentences.ends, V, window=10, threads=2)

A word at distance k in the same sentence counts 1 / k (or 1). An entry is summed in float64 over
the places of its row's word, in the order of the text, and rounded to float32 once: whatever the
threads and the memory, the bits are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastseq.kernels.vectors.cooccurrences import (
    PLACE_BITS,
    WINDOW_BITS,
    count_rows,
    gather_places,
    sort_tiles,
)
from fastseq.models.word_vectors.sampling import occurrences
from fastseq.store.files import MEMORY, SpillArray
from fastseq.threads import in_order
from fastseq.types import Float32, Float64, Int32, Int64, UInt64

WINDOW = 1 << WINDOW_BITS  # windows are smaller than this
LEAST = 1 << 18  # places gathered at a time, however small the memory: each time reads the text
_PIECE = 1 << 22  # tokens looked at at a time
_ENTRIES = 1 << 20  # room for the entries of a job, about; of one row at least


@dataclass(frozen=True, slots=True, eq=False)
class Cooccurrences:
    """A sparse matrix of V words and V words of their context, by rows.

    offsets    int64[V + 1]   row i has the entries offsets[i]:offsets[i + 1]
    columns    int32[n]       ascending in a row
    values     float32[n]     above zero
    symmetric  words on both sides are counted: the entries are those on the diagonal and above
    """

    offsets: Int64
    columns: Int32
    values: Float32
    symmetric: bool

    def __len__(self) -> int:
        """How many entries the whole matrix has, those below the diagonal among them."""
        n = len(self.columns)
        return 2 * n - int((self.rows() == self.columns).sum()) if self.symmetric else n

    def rows(self) -> Int32:
        """int32[n]: the row of each entry."""
        V = len(self.offsets) - 1
        return np.repeat(np.arange(V, dtype=np.int32), np.diff(self.offsets))


def count_cooccurrences(
    tokens: Int32,
    ends: Int64,
    words: int,
    window: int,
    *,
    symmetric: bool = True,
    weighted: bool = True,
    threads: int = 1,
    memory: int = MEMORY,
) -> Cooccurrences:
    """Count the words in each word's window; a window ends with the sentence.

    Parameters
    ----------
    tokens : int32[n], n < 2**40, each below `words`
    ends : int64[S], where each sentence ends
    window : words on a side, below WINDOW
    symmetric : on both sides, else on the left: entry (i, j) is of word i with j before it. An
        occurrence of a word beside itself counts twice, from either side
    weighted : by 1 / distance, else every word counts 1
    memory : bytes to hold, about; half of it for the places of words (LEAST of them at least), half
        for the matrix, which goes to temporary files beyond

    Raises FastseqError where a temporary file cannot be written.
    """
    if len(tokens) >> PLACE_BITS:
        raise ValueError(f"{len(tokens):,} tokens, expected fewer than 2**{PLACE_BITS}")
    weights = np.ones(window + 1)
    if weighted:
        weights[1:] /= np.arange(1, window + 1)
    counts = occurrences(tokens, words)
    sides = 2 if symmetric else 1
    room = np.minimum(words - np.arange(words) * symmetric, sides * window * counts)
    columns, values = SpillArray(np.int32, memory // 4), SpillArray(np.float32, memory // 4)
    offsets = np.zeros(words + 1, np.int64)
    counting = _Counting(tokens, weights, words, symmetric)
    with ThreadPoolExecutor(threads, "fastseq-count") as pool:
        for first, last in _slices(counts, max(LEAST, memory // 16)):
            starts = np.concatenate([[0], np.cumsum(counts[first:last])])
            places = np.empty(int(starts[-1]), np.uint64)
            gather_places(places, starts[:-1].copy(), tokens, ends, window, first)
            jobs = (
                _Rows(first + a, places, starts[a : b + 1], int(room[first + a : first + b].sum()))
                for a, b in _slices(room[first:last], _ENTRIES)
            )
            for job, (sizes, *found) in in_order(pool, counting.count, jobs, threads + 1):
                offsets[job.first + 1 : job.first + 1 + len(sizes)] = sizes
                columns.append(found[0])
                values.append(found[1])
    np.cumsum(offsets, out=offsets)
    return Cooccurrences(offsets, columns.finish(), values.finish(), symmetric)


class _Rows(NamedTuple):
    """Neighbouring rows to count: the first one's word, the places of all words at hand, where
    each row's begin, and room for the entries."""

    first: int
    places: UInt64
    starts: Int64
    room: int


class _Counting:
    """What counts rows, on several threads at a time."""

    def __init__(self, tokens: Int32, weights: Float64, words: int, symmetric: bool) -> None:
        self._tokens, self._weights = tokens, weights
        self._words, self._symmetric = words, symmetric
        self._idle: list[tuple[Float64, UInt64]] = []  # working memory that no thread is using

    def count(self, job: _Rows) -> tuple[Int64, Int32, Float32]:
        """The number of entries of each row, and their columns and values."""
        try:
            sums, marks = self._idle.pop()
        except IndexError:
            sums, marks = np.zeros(self._words), np.zeros(-(-self._words // 64), np.uint64)
        sizes = np.zeros(len(job.starts) - 1, np.int64)
        columns, values = np.empty(job.room, np.int32), np.empty(job.room, np.float32)
        n = count_rows(
            columns, values, sizes, sums, marks, job.places, job.starts, self._tokens,
            self._weights, job.first, self._symmetric,
        )  # fmt: skip
        self._idle.append((sums, marks))
        return sizes, columns[:n].copy(), values[:n].copy()


def _slices(sizes: Int64, most: int) -> Iterator[tuple[int, int]]:
    """Neighbouring items in groups whose sizes sum to `most` at most, or of one item."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, "right")))
        yield first, last
        first = last


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """A matrix of co-occurrences cut into squares of `block` rows and columns; without those that
    are empty.

    starts   int64[T + 1]  tile t has the entries starts[t]:starts[t + 1]
    corners  int64[T, 2]   its first row and its first column
    cells    int32[n]      row times block plus column, within the tile
    logs     float32[n]    the logarithm of each entry
    """

    block: int
    symmetric: bool
    starts: Int64
    corners: Int64
    cells: Int32
    logs: Float32


def tiles_of(matrix: Cooccurrences, block: int, memory: int = MEMORY) -> Tiles:
    """The same entries by tile, in temporary files beyond `memory` bytes.

    Raises FastseqError where such a file cannot be written.
    """
    V = len(matrix.offsets) - 1
    across = -(-V // block)
    cells, logs = SpillArray(np.int32, memory // 2), SpillArray(np.float32, memory // 2)
    corners: list[Int64] = []
    sizes: list[Int64] = []
    for first in range(0, V, block):
        starts = matrix.offsets[first : first + block + 1]
        a, b = int(starts[0]), int(starts[-1])
        some = np.empty(b - a, np.int32), np.empty(b - a, np.float32)
        found = np.zeros(across, np.int64)
        sort_tiles(*some, found, matrix.columns[a:b], matrix.values[a:b], starts, block)
        cells.append(some[0])
        logs.append(some[1])
        full = np.flatnonzero(found)
        sizes.append(found[full])
        corners.append(np.stack([np.full(len(full), first), full * block], axis=1))
    return Tiles(
        block, matrix.symmetric,
        np.concatenate([[0], *sizes]).cumsum(), np.ascontiguousarray(np.concatenate(corners)),
        cells.finish(), logs.finish(),
    )  # fmt: skip
