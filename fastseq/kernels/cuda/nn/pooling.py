"""Sums, maxima and attention over the rows of ragged sequences: the GPU counterpart of
kernels/nn/pooling.py, and of the softmax and the ends of sequences in nn/pooling.py.

x float32[N, F] holds sequence b in the rows offsets[b] to offsets[b + 1] - 1 (int32 on the device,
no sequence empty); a pooled array, with a row for each sequence, is float32[B, F].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numba import float32

from fastseq.kernels.cuda.nn.softmax import LOWEST, largest_of, sum_of
from fastseq.kernels.cuda.runtime.instructions import exp, fma, maximum, tanh
from fastseq.kernels.cuda.runtime.target import block_size, blocks_for, cuda, kernel

COLUMNS = 128  # threads of a block that has neighbouring columns
ROW = 64  # threads of a block that has a row
ZERO, ONE = np.float32(0), np.float32(1)

Function = Callable[..., None]


def by_columns(types: str, pooled: int, rows: int) -> Callable[[Function], Function]:
    """Make a kernel a Python function that launches it with a thread for each column of a sequence:
    block (x, y) has columns y of sequence x.

    The kernel's last parameter, the number of columns, is added. `pooled` and `rows` are the
    positions of the arrays with a row for each sequence and for each row. Raises ValueError where
    shapes do not fit.
    """

    def declare(function: Function) -> Function:
        made = kernel(types, threads=COLUMNS, registers=48)(function)
        names = function.__code__.co_varnames
        at = names.index("offsets")

        @wraps(function)
        def launch(*arguments: Any) -> None:
            y, x, offsets = arguments[pooled], arguments[rows], arguments[at]
            others = [each for each in arguments[:at] if each is not x]
            shapes = {(len(x),), tuple(y.shape)}
            if (
                y.shape[1] != x.shape[1] or len(offsets) != len(y) + 1
                or any(tuple(each.shape) not in shapes for each in others)
            ):  # fmt: skip
                raise ValueError(f"{y.shape} of {x.shape} by {len(offsets)} offsets")
            columns = int(x.shape[1])
            threads = min(COLUMNS, columns)
            grid = len(y), blocks_for(columns, threads), 1
            made(grid, *arguments, columns, threads=threads)

        return launch

    return declare


@by_columns("float32[::1], float32[::1], float32[::1], int32[::1], int64", pooled=0, rows=1)
def segment_sums(y, x, weights, offsets, columns):
    """y[b] = Σ weights[n] x[n] over b's rows in their order; weights float32[N]."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        total = ZERO
        for row in range(offsets[b], offsets[b + 1]):
            total = fma(weights[row], x[row * columns + column], total)
        y[b * columns + column] = total


@by_columns("float32[::1], float32[::1], float32[::1], int32[::1], int64", pooled=1, rows=0)
def segment_spread(dx, dy, weights, offsets, columns):
    """dx[n] = weights[n] dy[b] for the rows n of b."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        gradient = dy[b * columns + column]
        for row in range(offsets[b], offsets[b + 1]):
            dx[row * columns + column] = weights[row] * gradient


@by_columns("float32[::1], int32[::1], float32[::1], int32[::1], int64", pooled=0, rows=2)
def segment_maxima(y, rows, x, offsets, columns):
    """y[b, c] = the largest x[n, c] of b, rows int32[B, F] the first n that has it; a NaN counts as
    the largest."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        where = offsets[b]
        best = x[where * columns + column]
        for row in range(offsets[b] + 1, offsets[b + 1]):
            value = x[row * columns + column]
            # a NaN is the largest, and of equals the first
            if value > best or (value != value and best == best):
                best, where = value, np.int32(row)
        y[b * columns + column] = best
        rows[b * columns + column] = where


@by_columns("float32[::1], float32[::1], int32[::1], int32[::1], int64", pooled=1, rows=0)
def segment_maxima_backward(dx, dy, rows, offsets, columns):
    """dx[n, c] = dy[b, c] where n = rows[b, c], else 0."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        gradient, where = dy[b * columns + column], rows[b * columns + column]
        for row in range(offsets[b], offsets[b + 1]):
            dx[row * columns + column] = gradient if row == where else ZERO


@by_columns("float32[::1], float32[::1], int32[::1], int64, int64", pooled=0, rows=1)
def last_rows(y, x, offsets, half, columns):
    """y[b, c] = of b's last row for the columns below `half`, of its first one for the others."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        row = offsets[b + 1] - 1 if column < half else offsets[b]
        y[b * columns + column] = x[row * columns + column]


@by_columns("float32[::1], float32[::1], int32[::1], int64, int64", pooled=1, rows=0)
def last_rows_backward(dx, dy, offsets, half, columns):
    """The backward pass of `last_rows`: all of dx."""
    b, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        end = offsets[b + 1] - 1 if column < half else offsets[b]
        gradient = dy[b * columns + column]
        for row in range(offsets[b], offsets[b + 1]):
            dx[row * columns + column] = gradient if row == end else ZERO


# Where a block has a row or a sequence, its threads take every so-many-th number, and a tree adds
# up their sums: dynamic shared memory of four bytes a thread.


def by_sequence(types: str, shared: int = 4) -> Callable[[Function], Function]:
    """Make a kernel of arrays with one number a row, and offsets, a Python function that launches
    it with a block for each sequence, of as many threads as the mean length, and `shared` bytes of
    shared memory each."""

    def declare(function: Function) -> Function:
        made = kernel(types, threads=COLUMNS, registers=48, shared=shared * COLUMNS)(function)

        @wraps(function)
        def launch(*arguments: Any) -> None:
            *arrays, offsets = arguments
            lengths, sequences = {len(array) for array in arrays}, len(offsets) - 1
            if len(lengths) > 1 or sequences < 0:
                raise ValueError(f"different numbers of rows: {lengths}, {sequences} sequences")
            threads = block_size(blocks_for(lengths.pop(), max(1, sequences)), COLUMNS)
            made(sequences, *arguments, threads=threads, shared=shared * threads)

        return launch

    return declare


@by_sequence("float32[::1], float32[::1], int32[::1]")
def segment_softmax(weights, scores, offsets):
    """weights[n] = e^scores[n] over the sum of these in its sequence, float32[N]."""
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


@by_sequence("float32[::1], float32[::1], float32[::1], int32[::1]")
def segment_softmax_backward(dscores, weights, dweights, offsets):
    """dscores = weights (dweights - Σ weights dweights over the sequence), float32[N]."""
    shared = cuda.shared.array(0, float32)
    b, thread, threads = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    first, last = offsets[b] + thread, offsets[b + 1]
    mean = ZERO
    for row in range(first, last, threads):
        mean = fma(weights[row], dweights[row], mean)
    mean = sum_of(shared, mean)
    for row in range(first, last, threads):
        dscores[row] = weights[row] * (dweights[row] - mean)


@by_sequence("float32[::1], int32[::1]", shared=0)
def mean_weights(weights, offsets):
    """weights[n] = 1 / the length of its sequence, float32[N]."""
    first, last = offsets[cuda.blockIdx.x], offsets[cuda.blockIdx.x + 1]
    for row in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        weights[row] = ONE / np.float32(last - first)


@kernel(
    "float32[::1], float32[::1], float32[::1], int32[::1], int64",
    threads=ROW, registers=64, shared=4 * ROW,
)  # fmt: skip
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


def segment_products(out: Any, x: Any, dy: Any, offsets: Any) -> None:
    """out[n] = x[n] · dy[b], float32[N], for the rows n of b."""
    (N, columns), B = x.shape, len(dy)
    if dy.shape[1] != columns or len(offsets) != B + 1 or len(out) != N:
        raise ValueError(f"{dy.shape} of {x.shape} by {len(offsets)} offsets")
    threads = block_size(columns, ROW)
    blocks = B, min(blocks_for(N, B), 65535), 1
    products_of(blocks, out, x, dy, offsets, columns, threads=threads, shared=4 * threads)


def attention_scores(scores: Any, u: Any, vector: Any) -> None:
    """u float32[N, A] becomes tanh(u), and scores[n] = vector · u[n]."""
    threads = _attention_threads(u, vector, scores)
    scores_of(len(u), scores, u, vector, threads=threads, shared=4 * threads)


def attention_scores_backward(u: Any, dscores: Any, vector: Any) -> None:
    """u[n] becomes the gradient before tanh, dscores[n] vector (1 - u²), in place."""
    scores_back(len(u), u, dscores, vector, threads=_attention_threads(u, vector, dscores))


def _attention_threads(u: Any, vector: Any, scores: Any) -> int:
    if u.shape[1] != vector.size or len(scores) != len(u):
        raise ValueError(f"scores {scores.shape} of {u.shape} by a vector of {vector.size}")
    return block_size(vector.size, ROW)
