"""GloVe: co-occurrence counts, and word vectors whose products approximate their logarithms
(Pennington, Socher & Manning 2014, "GloVe: Global Vectors for Word Representation").

Counting. The positions of some words in the text are gathered first; a row of the matrix is then
the sum over the positions of its word, in text order, in float64. So rows can be shared among
threads, and no bit depends on the threads or on how many positions are gathered at once.

Training. For words i and j that co-occur x times, the loss is
f(x) (w_i · c_j + b_i + b'_j - log x)² with f(x) = min(1, (x / x_max)^alpha); AdaGrad (Duchi, Hazan
& Singer 2011) updates w_i, c_j and the biases. A row of the table has everything of a word:

    w  b 1 0…   squares of those   c  1 b' 0…   squares of those        4 W floats

The bias of one half is aligned with the 1 of the other, so a product of halves includes both
biases, and its gradient theirs. The 1 is constant: its sum of squares is FROZEN.

The matrix is cut into tiles with few enough rows and columns to stay in the core's own cache while
all their entries are used, in any order. A symmetric matrix is given as its upper half; each entry
(i, j) is used as (j, i) too.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.rng import draw_below
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.bytes import prefetch, trailing_zeros
from fastseq.kernels.simd.floats import (
    fma,
    load,
    load_part,
    minimum,
    splat,
    square_root,
    store,
    sum_lanes,
)
from fastseq.kernels.simd.vmath import exp

WINDOW_BITS = 12
PLACE_BITS = 64 - 2 * WINDOW_BITS

_AHEAD = 8  # positions whose words are prefetched
_ONE, _LOW6 = np.uint64(1), np.uint64(63)
_SIDE, _BOTH = np.uint64(WINDOW_BITS), np.uint64(2 * WINDOW_BITS)
_REACH = np.uint64((1 << WINDOW_BITS) - 1)
FROZEN = 1e30  # a sum of squares so large that no gradient changes its number

_MIX = np.uint64(0x9E3779B97F4A7C15)


@jit
def gather_places(places, nexts, tokens, ends, window, first):
    """Positions of the words first … first + R - 1, and the extent of the window at each.

    places  uint64[·]  position in `tokens`, words of the sentence in the window to the left, and
                       to the right: 40, 12 and 12 bits
    nexts   int64[R]   index in `places` of the next occurrence of word first + r; advanced
    tokens  int32[n]   words
    ends    int64[S]   end of each sentence
    window             below 2**12
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
    """Compute neighbouring rows of the matrix; return their number of entries.

    columns    int32[·]     columns of the entries, ascending in a row; of a symmetric matrix from
                            the diagonal on
    values     float32[·]   the entries
    sizes      int64[R]     number of entries of each row
    sums       float64[V]   zeros, before and after
    marks      uint64[·]    V bits: zeros, before and after
    places     uint64[·]    as `gather_places` makes them
    starts     int64[R + 1] row r's word occurs at places[starts[r]:starts[r + 1]]
    tokens     int32[n]
    weights    float64[window + 1]  by distance
    first                   the first row's word
    symmetric               count the words on both sides, not only those on the left
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
    """Sort the entries of `block` neighbouring rows by tile, of `block` columns each.

    cells    int32[n]      row times block plus column, both within the tile; tile after tile, in
                           the order of rows and columns
    logs     float32[n]    logarithms of the entries
    sizes    int64[B]      entries of each tile
    columns  int32[n], values float32[n]
    starts   int64[R + 1]  start of each of the R ≤ block rows
    """
    first = starts[0]
    for t in range(len(sizes)):
        sizes[t] = 0
    for i in range(starts[0], starts[len(starts) - 1]):
        sizes[columns[i - first] // block] += 1
    at = 0
    for t in range(len(sizes)):  # temporarily the position of the next entry of each tile
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


@jit
def train_tiles(
    table, order, starts, corners, cells, logs, block, log_most, alpha, symmetric, rate, state,
    shuffled, weights, seen,
):  # fmt: skip
    """Train on all entries of some tiles, in random order within each.

    table      float32[V, 4 W]  see above; W is a whole number of SIMD vectors
    order      int64[·]      the tiles to train on
    starts     int64[T + 1]  tile t's entries are cells[starts[t]:starts[t + 1]]
    corners    int64[T, 2]   first row and first column of each tile
    cells      int32[n]      row times block plus column, within the tile
    logs       float32[n]    log x
    log_most   log x_max
    rate       learning rate; with 0 nothing changes
    state      uint64[2]     a key, and the random state: that of a tile depends on the key and the
                             tile's number alone
    shuffled   int32[·], weights float32[·]  working memory, for a tile's entries in whole vectors
    seen       float64[2]    added to: loss, products in that loss
    """
    flat = table.reshape(table.size)
    W = table.shape[1] // 4
    for k in range(len(order)):
        t = order[k]
        start, size = starts[t], starts[t + 1] - starts[t]
        _weigh(weights, logs, start, size, np.float32(log_most), np.float32(alpha))
        state[1] = state[0] ^ (np.uint64(t) * _MIX)
        _shuffle(shuffled, size, state[1:])
        row, column = corners[t, 0], corners[t, 1]
        loss = 0.0
        for n in range(size):
            e = shuffled[n]
            cell = cells[start + e]
            i, j = row + cell // block, column + cell % block
            scale = np.float32(rate) * weights[e]
            error = _learn(flat, 4 * W * i, 4 * W * j + 2 * W, W, logs[start + e], scale)
            loss += np.float64(weights[e]) * error * error
            if symmetric and i != j:
                error = _learn(flat, 4 * W * j, 4 * W * i + 2 * W, W, logs[start + e], scale)
                loss += np.float64(weights[e]) * error * error
                seen[1] += 1
        seen[0] += loss
        seen[1] += size


@inline
def _learn(flat, w, c, W, log, scale):
    """Train a word's half, at flat[w], and a context's, at flat[c]; return the error before.

    As in the authors' program, a gradient is divided by the root of the sum of squares before it,
    and squares are of gradients times the rate.
    """
    total = splat(np.float32(0.0))
    for k in range(0, W, LANES):
        total = fma(load(flat, w + k), load(flat, c + k), total)
    error = sum_lanes(total) - log
    step = scale * error
    for k in range(0, W, LANES):
        a, b = load(flat, w + k), load(flat, c + k)
        a_sum, b_sum = load(flat, w + W + k), load(flat, c + W + k)
        a_move, b_move = step * b, step * a
        store(flat, w + k, a - a_move / square_root(a_sum))
        store(flat, c + k, b - b_move / square_root(b_sum))
        store(flat, w + W + k, fma(a_move, a_move, a_sum))
        store(flat, c + W + k, fma(b_move, b_move, b_sum))
    return error


@helper
def _weigh(weights, logs, start, size, log_most, alpha):
    """Set the weights to f(x) of a tile's entries."""
    for k in range(0, size, LANES):
        some = load_part(logs, start + k, min(LANES, size - k))
        store(weights, k, minimum(1.0, exp(alpha * (some - log_most))))


@helper
def _shuffle(shuffled, size, state):
    """Random permutation of the numbers below `size` (Fisher & Yates, inside out)."""
    for n in range(size):
        k = draw_below(state, n + 1)
        shuffled[n] = shuffled[k]
        shuffled[k] = n
