"""How often words stand near each other: one row of the matrix at a time.

The places of a word in the text are gathered first, of some words at a time; then a row is the sum
over the places of its word, in the order of the text, in float64. So rows can be shared among
threads, and no bit of the result depends on how they are or on how many are gathered at once.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.simd.bytes import prefetch, trailing_zeros

WINDOW_BITS = 12
PLACE_BITS = 64 - 2 * WINDOW_BITS

_AHEAD = 8  # places whose words are asked for before they are needed
_ONE, _U6, _LOW6 = np.uint64(1), np.uint64(6), np.uint64(63)
_SIDE, _BOTH = np.uint64(WINDOW_BITS), np.uint64(2 * WINDOW_BITS)
_REACH = np.uint64((1 << WINDOW_BITS) - 1)


@jit
def gather_places(places, nexts, tokens, ends, window, first):
    """Where some neighbouring words occur, and how far a window reaches there.

    places  uint64[·]  the place in `tokens`, how many words of the sentence are in the window to
                       the left, how many to the right: 40, 12 and 12 bits
    nexts   int64[R]   where in `places` the next occurrence of word first + r goes; moves on
    tokens  int32[n]   words
    ends    int64[S]   where each sentence ends
    window  below 2**12
    """
    start = 0
    for s in range(len(ends)):
        end = ends[s]
        for p in range(start, end):
            r = tokens[p] - first
            if 0 <= r < len(nexts):
                left, right = min(window, p - start), min(window, end - 1 - p)
                packed = (np.uint64(p) << _BOTH) | (np.uint64(left) << _SIDE) | np.uint64(right)
                places[nexts[r]] = packed
                nexts[r] += 1
        start = end


@jit
def count_rows(
    columns, values, sizes, sums, marks, places, starts, tokens, weights, first, symmetric
):  # fmt: skip
    """Neighbouring rows of the matrix; returns how many entries they have.

    columns    int32[·]     the columns of each row that is not zero, ascending; of a symmetric
                            matrix from the diagonal on
    values     float32[·]   the entries there
    sizes      int64[R]     how many each row has
    sums       float64[V]   zeros, before and after
    marks      uint64[·]    V bits: zeros, before and after
    places     uint64[·]    as `gather_places` has them
    starts     int64[R + 1] row r's word occurs at places[starts[r]:starts[r + 1]]
    tokens     int32[n]
    weights    float64[window + 1]  by distance
    first      the first row's word
    symmetric  count the words on both sides, not those on the left alone
    """
    n = 0
    for r in range(len(sizes)):
        for at in range(starts[r], starts[r + 1]):
            if at + _AHEAD < len(places):
                prefetch(tokens, places[at + _AHEAD] >> _BOTH)
            place = places[at]
            p = np.int64(place >> _BOTH)
            for k in range(1, np.int64((place >> _SIDE) & _REACH) + 1):
                word = tokens[p - k]
                sums[word] += weights[k]
                marks[word >> 6] |= _ONE << (np.uint64(word) & _LOW6)
            if symmetric:
                for k in range(1, np.int64(place & _REACH) + 1):
                    word = tokens[p + k]
                    sums[word] += weights[k]
                    marks[word >> 6] |= _ONE << (np.uint64(word) & _LOW6)
        before = n
        least = first + r if symmetric else 0
        for m in range(len(marks)):
            left = marks[m]
            marks[m] = np.uint64(0)
            while left != np.uint64(0):
                word = 64 * m + np.int64(trailing_zeros(left))
                left &= left - _ONE
                if word >= least:
                    columns[n] = word
                    values[n] = sums[word]
                    n += 1
                sums[word] = 0.0
        sizes[r] = n - before
    return n


@jit
def sort_tiles(cells, logs, sizes, columns, values, starts, block):
    """Entries of `block` neighbouring rows by tile: `block` columns each.

    cells    int32[n]      row times block plus column, both within the tile; tile after tile, in
                           the order of rows and columns
    logs     float32[n]    the logarithms of the entries
    sizes    int64[B]      entries of each tile
    columns  int32[n], values float32[n]
    starts   int64[R + 1]  where each of the R ≤ block rows begins
    """
    first = starts[0]
    for t in range(len(sizes)):
        sizes[t] = 0
    for i in range(starts[0], starts[len(starts) - 1]):
        sizes[columns[i - first] // block] += 1
    at = 0
    for t in range(len(sizes)):  # for now where the next entry of a tile goes
        size = sizes[t]
        sizes[t] = at
        at += size
    for r in range(len(starts) - 1):
        for i in range(starts[r] - first, starts[r + 1] - first):
            t = columns[i] // block
            cells[sizes[t]] = r * block + columns[i] - t * block
            logs[sizes[t]] = math.log(values[i])
            sizes[t] += 1
    for t in range(len(sizes) - 1, 0, -1):
        sizes[t] -= sizes[t - 1]
