"""Sums, maxima and attention over the rows of ragged sequences: the twins of kernels/nn/pooling.py.

x float32[N, F] holds sequence b in the rows offsets[b] to offsets[b + 1] - 1 (int32 on the device,
no sequence empty); what there is one of for each sequence is float32[B, F]. Beside them stands what
nn/pooling.py does in NumPy: the softmax over a sequence and the ends of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32

from fastseq.kernels.cuda.nn.softmax import LOWEST, largest_of, sum_of
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.scalars import exp, fma, maximum, tanh
from fastseq.kernels.cuda.runtime.target import blocks_for, cuda, kernel

COLUMNS = 128  # threads of a block that has neighbouring columns
ROW = 64  # threads of a block that has a row
ZERO, ONE = np.float32(0), np.float32(1)

# Where a block has columns, block (x, y) has columns y of sequence x.


@kernel(
    "float32[::1], float32[::1], float32[::1], int32[::1], int64", threads=COLUMNS, registers=48
)
def sums_of(y, x, weights, offsets, columns):
    """See `segment_sums`."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        total = ZERO
        for row in range(offsets[b], offsets[b + 1]):
            total = fma(weights[row], x[row * columns + column], total)
        y[b * columns + column] = total


@kernel(
    "float32[::1], float32[::1], float32[::1], int32[::1], int64", threads=COLUMNS, registers=48
)
def spread_of(dx, dy, weights, offsets, columns):
    """See `segment_spread`."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        gradient = dy[b * columns + column]
        for row in range(offsets[b], offsets[b + 1]):
            dx[row * columns + column] = weights[row] * gradient


@kernel("float32[::1], int32[::1], float32[::1], int32[::1], int64", threads=COLUMNS, registers=48)
def maxima_of(y, rows, x, offsets, columns):
    """See `segment_maxima`."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        where = offsets[b]
        best = x[where * columns + column]
        for row in range(offsets[b] + 1, offsets[b + 1]):
            value = x[row * columns + column]
            # a NaN counts as the largest, and the first of equals stays
            if value > best or (value != value and best == best):
                best, where = value, np.int32(row)
        y[b * columns + column] = best
        rows[b * columns + column] = where


@kernel("float32[::1], float32[::1], int32[::1], int32[::1], int64", threads=COLUMNS, registers=48)
def maxima_back(dx, dy, rows, offsets, columns):
    """See `segment_maxima_backward`."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        gradient, where = dy[b * columns + column], rows[b * columns + column]
        for row in range(offsets[b], offsets[b + 1]):
            dx[row * columns + column] = gradient if row == where else ZERO


@kernel("float32[::1], float32[::1], int32[::1], int64, int64", threads=COLUMNS, registers=48)
def ends_of(y, x, offsets, columns, half):
    """See `last_rows`."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        row = offsets[b + 1] - 1 if column < half else offsets[b]
        y[b * columns + column] = x[row * columns + column]


@kernel("float32[::1], float32[::1], int32[::1], int64, int64", threads=COLUMNS, registers=48)
def ends_back(dx, dy, offsets, columns, half):
    """See `last_rows_backward`."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        end = offsets[b + 1] - 1 if column < half else offsets[b]
        gradient = dy[b * columns + column]
        for row in range(offsets[b], offsets[b + 1]):
            dx[row * columns + column] = gradient if row == end else ZERO


# Where a block has a row or a sequence, its threads take turns at its numbers, and a tree adds up
# what they found: dynamic shared memory of four bytes a thread.


@kernel(
    "float32[::1], float32[::1], float32[::1], int32[::1], int64",
    threads=ROW,
    registers=64,
    shared=4 * ROW,
)
def products_of(out, x, dy, offsets, columns):
    """See `segment_products`: block (x, y) has every gridDim.y-th row of sequence x."""
    shared = cuda.shared.array(0, float32)
    b, thread, threads = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    for row in range(offsets[b] + cuda.blockIdx.y, offsets[b + 1], cuda.gridDim.y):
        total = ZERO
        for column in range(thread, columns, threads):
            total = fma(x[row * columns + column], dy[b * columns + column], total)
        total = sum_of(shared, total)
        if thread == 0:
            out[row] = total


@kernel("float32[::1], float32[::1], float32[::1]", threads=ROW, registers=48, shared=4 * ROW)
def scores_of(scores, u, vector):
    """See `attention_scores`."""
    shared = cuda.shared.array(0, float32)
    width, row = len(vector), cuda.blockIdx.x
    total = ZERO
    for column in range(cuda.threadIdx.x, width, cuda.blockDim.x):
        value = tanh(u[row * width + column])
        u[row * width + column] = value
        total = fma(value, vector[column], total)
    total = sum_of(shared, total)
    if cuda.threadIdx.x == 0:
        scores[row] = total


@kernel("float32[::1], float32[::1], float32[::1]", threads=ROW, registers=48)
def scores_back(u, dscores, vector):
    """See `attention_scores_backward`."""
    width, row = len(vector), cuda.blockIdx.x
    for column in range(cuda.threadIdx.x, width, cuda.blockDim.x):
        value = u[row * width + column]
        u[row * width + column] = dscores[row] * vector[column] * (ONE - value * value)


@kernel("float32[::1], float32[::1], int32[::1]", threads=COLUMNS, registers=48, shared=4 * COLUMNS)
def softmax_of(weights, scores, offsets):
    """See `segment_softmax`."""
    shared = cuda.shared.array(0, float32)
    b, thread, threads = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    first, last = offsets[b] + thread, offsets[b + 1]
    largest = LOWEST
    for row in range(first, last, threads):
        largest = maximum(largest, scores[row])
    largest = largest_of(shared, largest)
    total = ZERO
    for row in range(first, last, threads):
        value = exp(scores[row] - largest)
        weights[row] = value
        total += value
    total = sum_of(shared, total)
    for row in range(first, last, threads):
        weights[row] = weights[row] / total


@kernel(
    "float32[::1], float32[::1], float32[::1], int32[::1]",
    threads=COLUMNS,
    registers=48,
    shared=4 * COLUMNS,
)
def softmax_back(dscores, weights, dweights, offsets):
    """See `segment_softmax_backward`."""
    shared = cuda.shared.array(0, float32)
    b, thread, threads = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    first, last = offsets[b] + thread, offsets[b + 1]
    mean = ZERO
    for row in range(first, last, threads):
        mean = fma(weights[row], dweights[row], mean)
    mean = sum_of(shared, mean)
    for row in range(first, last, threads):
        dscores[row] = weights[row] * (dweights[row] - mean)


@kernel("float32[::1], int32[::1]", threads=COLUMNS, registers=48)
def mean_of(weights, offsets):
    """See `mean_weights`."""
    first, last = offsets[cuda.blockIdx.x], offsets[cuda.blockIdx.x + 1]
    for row in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        weights[row] = ONE / np.float32(last - first)


def segment_sums(y: Any, x: Any, weights: Any, offsets: Any) -> None:
    """y[b] = Σ weights[n] x[n] over b's rows in their order; weights float32[N]."""
    _fit(y, x, offsets, len(weights) == len(x))
    sums_of(_grid(y), *_flat(y, x), weights, offsets, x.shape[1], threads=_wide(y))


def segment_spread(dx: Any, dy: Any, weights: Any, offsets: Any) -> None:
    """dx[n] = weights[n] dy[b] for the rows n of b."""
    _fit(dy, dx, offsets, len(weights) == len(dx))
    spread_of(_grid(dy), *_flat(dx, dy), weights, offsets, dx.shape[1], threads=_wide(dy))


def segment_maxima(y: Any, rows: Any, x: Any, offsets: Any) -> None:
    """y[b, c] = the largest x[n, c] of b, rows int32[B, F] the first n that has it; a NaN counts as
    the largest."""
    _fit(y, x, offsets, tuple(rows.shape) == tuple(y.shape))
    flat = _flat(y, rows, x)
    maxima_of(_grid(y), *flat, offsets, x.shape[1], threads=_wide(y))


def segment_maxima_backward(dx: Any, dy: Any, rows: Any, offsets: Any) -> None:
    """dx[n, c] = dy[b, c] where n = rows[b, c], else 0."""
    _fit(dy, dx, offsets, tuple(rows.shape) == tuple(dy.shape))
    flat = _flat(dx, dy, rows)
    maxima_back(_grid(dy), *flat, offsets, dx.shape[1], threads=_wide(dy))


def last_rows(y: Any, x: Any, offsets: Any, half: int) -> None:
    """y[b, c] = of b's last row for the columns below `half`, of its first one for the others."""
    _fit(y, x, offsets)
    ends_of(_grid(y), *_flat(y, x), offsets, x.shape[1], half, threads=_wide(y))


def last_rows_backward(dx: Any, dy: Any, offsets: Any, half: int) -> None:
    """The way back from `last_rows`; dx is written whole."""
    _fit(dy, dx, offsets)
    ends_back(_grid(dy), *_flat(dx, dy), offsets, dx.shape[1], half, threads=_wide(dy))


def segment_products(out: Any, x: Any, dy: Any, offsets: Any) -> None:
    """out[n] = x[n] · dy[b], float32[N], for the rows n of b."""
    _fit(dy, x, offsets, len(out) == len(x))
    (N, columns), B = x.shape, len(dy)
    threads = _power(columns, ROW)
    blocks = B, min(blocks_for(N, B), 65535), 1
    products_of(blocks, *_flat(out, x, dy), offsets, columns, threads=threads, shared=4 * threads)


def attention_scores(scores: Any, u: Any, vector: Any) -> None:
    """u float32[N, A] becomes tanh(u), and scores[n] = vector · u[n]."""
    _attended(u, vector, scores)
    threads = _power(vector.size, ROW)
    scores_of(len(u), *_flat(scores, u), vector, threads=threads, shared=4 * threads)


def attention_scores_backward(u: Any, dscores: Any, vector: Any) -> None:
    """u[n] becomes the gradient before tanh, dscores[n] vector (1 - u²), in place."""
    _attended(u, vector, dscores)
    scores_back(len(u), *_flat(u, dscores), vector, threads=_power(vector.size, ROW))


def segment_softmax(weights: Any, scores: Any, offsets: Any) -> None:
    """weights[n] = e^scores[n] over the sum of these in its sequence, float32[N]."""
    _rows_of(offsets, weights, scores)
    threads = _length(scores, offsets)
    softmax_of(len(offsets) - 1, weights, scores, offsets, threads=threads,
               shared=4 * threads)  # fmt: skip


def segment_softmax_backward(dscores: Any, weights: Any, dweights: Any, offsets: Any) -> None:
    """dscores = weights (dweights - Σ weights dweights over the sequence), float32[N]."""
    _rows_of(offsets, dscores, weights, dweights)
    threads = _length(weights, offsets)
    softmax_back(len(offsets) - 1, dscores, weights, dweights, offsets, threads=threads,
                 shared=4 * threads)  # fmt: skip


def mean_weights(weights: Any, offsets: Any) -> None:
    """weights[n] = 1 / the length of its sequence, float32[N]."""
    mean_of(len(offsets) - 1, weights, offsets, threads=_length(weights, offsets))


def _flat(*arrays: Any) -> list[Any]:
    return [memory.flat(array) for array in arrays]


def _grid(pooled: Any) -> tuple[int, int, int]:
    """Blocks of neighbouring columns, for every sequence."""
    return len(pooled), blocks_for(pooled.shape[1], _wide(pooled)), 1


def _wide(pooled: Any) -> int:
    return min(COLUMNS, int(pooled.shape[1]))


def _power(n: int, most: int) -> int:
    """A power of two: a thread for each of n, at most `most`."""
    return int(min(most, 1 << (n - 1).bit_length()))


def _length(rows: Any, offsets: Any) -> int:
    """Threads for a sequence of the mean length."""
    return _power(max(1, blocks_for(len(rows), max(1, len(offsets) - 1))), COLUMNS)


def _fit(pooled: Any, rows: Any, offsets: Any, others: bool = True) -> None:
    """Raise ValueError where what there is for sequences and for rows does not fit the offsets, or
    `others` does not."""
    if pooled.shape[1] != rows.shape[1] or len(offsets) != len(pooled) + 1 or not others:
        raise ValueError(f"{pooled.shape} of {rows.shape} by {len(offsets)} offsets")


def _attended(u: Any, vector: Any, scores: Any) -> None:
    if u.shape[1] != vector.size or len(scores) != len(u):
        raise ValueError(f"scores {scores.shape} of {u.shape} by a vector of {vector.size}")


def _rows_of(offsets: Any, *arrays: Any) -> None:
    if len({len(array) for array in arrays}) > 1 or len(offsets) < 1:
        raise ValueError(f"{[len(array) for array in arrays]} numbers of rows")
