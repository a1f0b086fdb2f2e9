"""GloVe: vectors of words whose products are the logarithms of how often words meet (Pennington,
Socher & Manning 2014, "GloVe: Global Vectors for Word Representation").

Of words i and j that meet x times, the loss is f(x) (w_i · c_j + b_i + b'_j - log x)² with
f(x) = min(1, (x / x_max)^alpha); AdaGrad (Duchi, Hazan & Singer 2011) moves w_i, c_j and the
biases.

A row of the table is all there is of a word, in one piece of memory:

    w  b 1 0…   squares of those   c  1 b' 0…   squares of those        4 W floats

Since the bias of one half stands beside the 1 of the other, a product of halves has both biases
in it, and its gradient is theirs. The 1 never moves: its sum of squares is STILL.

The matrix is cut into tiles, whose rows and columns are few enough to stay in the core's own
cache while all their entries are learned from, in any order. A symmetric matrix is given as the
half above its diagonal; each entry (i, j) is learned from as (j, i) too.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.rng import draw_below
from fastseq.kernels.core.width import LANES
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

STILL = 1e30  # a sum of squares so large that no gradient moves its number

_MIX = np.uint64(0x9E3779B97F4A7C15)


@jit
def train_tiles(
    table, order, starts, corners, cells, logs, block, log_most, alpha, symmetric, rate, state,
    shuffled, weights, seen,
):  # fmt: skip
    """Learn from all entries of some tiles, of each in an order by chance.

    table      float32[V, 4 W]  see above; W in whole vectors
    order      int64[·]      the tiles to learn from
    starts     int64[T + 1]  tile t's entries are cells[starts[t]:starts[t + 1]]
    corners    int64[T, 2]   the first row and the first column of a tile
    cells      int32[n]      row times block plus column, within the tile
    logs       float32[n]    log x
    log_most   log x_max
    rate       learning rate; with 0 nothing moves
    state      uint64[2]     a key, and room for random numbers: those of a tile depend on the key
                             and its number alone
    shuffled   int32[·], weights float32[·]  working memory, for a tile's entries in whole vectors
    seen       float64[2]    added to: loss, products whose loss that is
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
    """A word's half and a context's, which begin at flat[w] and flat[c]; returns the error before.

    A gradient is divided by the root of the sum of squares before it, as the authors' program has
    it, and squares are of gradients times the rate.
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
    """f(x) of a tile's entries."""
    for k in range(0, size, LANES):
        some = load_part(logs, start + k, min(LANES, size - k))
        store(weights, k, minimum(1.0, exp(alpha * (some - log_most))))


@helper
def _shuffle(shuffled, size, state):
    """The numbers below `size` in an order by chance (Fisher & Yates, inside out)."""
    for n in range(size):
        k = draw_below(state, n + 1)
        shuffled[n] = shuffled[k]
        shuffled[k] = n
