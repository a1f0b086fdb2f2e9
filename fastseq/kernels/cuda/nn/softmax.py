"""Softmax of rows, cross-entropy and squared errors: the GPU counterparts of kernels/nn/softmax.py
and of nn/losses.py.

A block has a row; its threads take every so-many-th number, and a tree reduction over the block
combines them: one order for each length of a row, whatever runs first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32, float64

from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.instructions import exp, maximum
from fastseq.kernels.cuda.runtime.target import (
    WARP,
    block_size,
    blocks_for,
    cuda,
    device_function,
    kernel,
)

THREADS = 256
ZERO = np.float32(0)
LOWEST = np.float32(-np.inf)
SUMMED = 32 * THREADS  # numbers that a block sums up


@device_function
def largest_of(shared, value):
    """The largest of the values of a block's threads, in all of them; NaN where one is NaN.

    shared  float32, a number a thread
    """
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    step = cuda.blockDim.x >> 1
    while step:
        if thread < step:
            a, b = shared[thread], shared[thread + step]
            shared[thread] = a if a != a else maximum(a, b)
        cuda.syncthreads()
        step >>= 1
    found = shared[0]
    cuda.syncthreads()
    return found


@device_function
def sum_of(shared, value):
    """The sum of the values of a block's threads, in the type of `shared`, a number a thread."""
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    step = cuda.blockDim.x >> 1
    while step:
        if thread < step:
            shared[thread] += shared[thread + step]
        cuda.syncthreads()
        step >>= 1
    found = shared[0]
    cuda.syncthreads()
    return found


@kernel("float32[::1], int64", threads=THREADS, registers=48, float64=True, shared=8 * THREADS)
def softmax_of_rows(logits, columns):
    """See `softmax_rows`. Dynamic shared memory: eight bytes a thread."""
    floats = cuda.shared.array(0, float32)
    doubles = cuda.shared.array(0, float64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    start = cuda.blockIdx.x * columns
    largest = LOWEST
    for c in range(thread, columns, threads):
        largest = maximum(largest, logits[start + c])
    largest = largest_of(floats, largest)
    total = 0.0
    for c in range(thread, columns, threads):
        value = exp(logits[start + c] - largest)
        logits[start + c] = value
        total += np.float64(value)
    factor = np.float32(1.0 / sum_of(doubles, total))
    for c in range(thread, columns, threads):
        logits[start + c] = logits[start + c] * factor


@kernel(
    "float64[::1], float32[::1], int32[::1], float32[::1], int64, int64",
    threads=THREADS, registers=64, float64=True, shared=8 * THREADS,
)  # fmt: skip
def cross_entropy_of_rows(losses, logits, targets, scales, columns, gradient):
    """See `cross_entropy_rows`. Dynamic shared memory: eight bytes a thread."""
    floats = cuda.shared.array(0, float32)
    doubles = cuda.shared.array(0, float64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    row = cuda.blockIdx.x
    start = row * columns
    target = targets[row]
    if target < 0:
        if gradient:
            for c in range(thread, columns, threads):
                logits[start + c] = ZERO
        if thread == 0:
            losses[row] = 0.0
        return
    right = np.float64(logits[start + target])
    largest = LOWEST
    for c in range(thread, columns, threads):
        largest = maximum(largest, logits[start + c])
    largest = largest_of(floats, largest)
    total = 0.0
    for c in range(thread, columns, threads):
        value = exp(logits[start + c] - largest)
        if gradient:
            logits[start + c] = value
        total += np.float64(value)
    total = sum_of(doubles, total)
    if thread == 0:
        losses[row] = math.log(total) + (np.float64(largest) - right)
    if gradient:
        share = scales[row]
        factor = np.float32(np.float64(share) / total)
        for c in range(thread, columns, threads):
            value = logits[start + c] * factor
            logits[start + c] = value - share if c == target else value


@kernel(
    "float64[::1], float32[::1], float32[::1], float32, int64, int64",
    threads=THREADS, registers=40, float64=True, shared=8 * THREADS,
)  # fmt: skip
def squared_errors_of(sums, y, target, factor, gradient, count):
    """See `squared_errors`: block b sums `count` numbers. Shared memory: eight bytes a thread."""
    doubles = cuda.shared.array(0, float64)
    first = cuda.blockIdx.x * count
    total = 0.0
    for i in range(first + cuda.threadIdx.x, min(first + count, len(y)), cuda.blockDim.x):
        difference = y[i] - target[i]
        total += np.float64(difference) * np.float64(difference)
        if gradient:
            y[i] = factor * difference
    total = sum_of(doubles, total)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


def softmax_rows(logits: Any) -> None:
    """The rows of logits float32[N, C] become probabilities, in place."""
    rows, columns = logits.shape
    threads = _threads(columns)
    softmax_of_rows(rows, logits, columns, threads=threads, shared=8 * threads)


def cross_entropy_rows(losses: Any, logits: Any, targets: Any, scales: Any, gradient: bool) -> None:
    """losses[r] = -log softmax(row r)[targets[r]].

    losses    float64[N], 0 where the target is negative
    logits    float32[N, C]; with `gradient` they become scales[r] · (softmax - one-hot), zeros
              where the target is negative
    targets   int32[N], below C
    scales    float32[N]: the weight of row r's loss in the loss that is minimised
    """
    rows, columns = logits.shape
    threads = _threads(columns)
    cross_entropy_of_rows(
        rows, losses, logits, targets, scales, columns, gradient, threads=threads,
        shared=8 * threads,
    )  # fmt: skip


def squared_errors(y: Any, target: Any, factor: float, gradient: bool) -> Any:
    """Σ (y - target)² of parts of two float32 arrays of one size: float64[·] on the device, to be
    added up. With `gradient` y becomes factor (y - target)."""
    if y.size != target.size:
        raise ValueError(f"{y.size} numbers and {target.size}")
    parts = blocks_for(y.size, SUMMED)
    sums = memory.empty(parts, np.float64)
    threads = _threads(min(y.size, THREADS))
    squared_errors_of(
        parts, sums, y, target, factor, gradient, SUMMED, threads=threads, shared=8 * threads
    )
    return sums


def _threads(columns: int) -> int:
    """A thread for each column of narrow rows, rounded up to a power of two, else THREADS."""
    return block_size(columns, THREADS) if columns < WARP else THREADS
