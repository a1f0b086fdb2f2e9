"""Layer normalisation, with the bias, dropout and residual connection that come before it: the GPU
counterpart of kernels/nn/layer_norm.py.

A block has a row; a tree adds up the sums of its threads, so every sum has an order that depends on
the number of columns alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import float32

from fastseq.kernels.cuda.nn.dropout import BLOCK, drop, key_halves, mask_bits
from fastseq.kernels.cuda.nn.gemm import fill_rows, sum_parts
from fastseq.kernels.cuda.nn.rows import ROWS, add
from fastseq.kernels.cuda.nn.softmax import sum_of
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.instructions import fma, square_root
from fastseq.kernels.cuda.runtime.target import WARP, block_size, blocks_for, cuda, kernel

THREADS = 256
ZERO, ONE = np.float32(0), np.float32(1)
BIAS, DROPOUT, RESIDUAL = 1, 2, 4  # what comes before the norm


class Dropping(NamedTuple):
    """Dropout of a matrix: key, smallest hash of a kept element, 1 / (1 - rate)."""

    key: int
    limit: int
    scale: float


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], "
    "float32[::1], float32[::1], int64, float32, int64, int64, int64, int64, float32, int64",
    threads=THREADS, registers=56, shared=4 * THREADS,
)  # fmt: skip
def normalise_rows(
    y, mean, rstd, x, bias, residual, gamma, beta, columns, eps, before, first, second, limit,
    scale, saves,
):  # fmt: skip
    """See `layer_norm_forward`. Dynamic shared memory: four bytes a thread."""
    shared = cuda.shared.array(0, float32)
    thread, threads, row = cuda.threadIdx.x, cuda.blockDim.x, np.int64(cuda.blockIdx.x)
    start = row * columns
    total = ZERO
    for column in range(thread, columns, threads):
        at = start + column
        value = x[at]
        if before & BIAS:
            value += bias[column]
        if before & DROPOUT:
            value = value * scale if mask_bits(at, first, second) >= limit else ZERO
        if before & RESIDUAL:
            value += residual[at]
        if before:
            x[at] = value
        total += value
    width = np.float32(columns)
    middle = sum_of(shared, total) / width
    total = ZERO
    for column in range(thread, columns, threads):
        distance = x[start + column] - middle
        total = fma(distance, distance, total)
    factor = ONE / square_root(sum_of(shared, total) / width + eps)
    if saves and thread == 0:
        mean[row] = middle
        rstd[row] = factor
    for column in range(thread, columns, threads):
        value = (x[start + column] - middle) * factor
        y[start + column] = fma(value, gamma[column], beta[column])


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], "
    "float32[::1], int64, int64, int64, int64, int64, float32",
    threads=THREADS, registers=56, shared=4 * THREADS,
)  # fmt: skip
def normalise_rows_back(
    dx, dropped, dy, x, mean, rstd, gamma, columns, drops, first, second, limit, scale
):
    """See `layer_norm_backward`. Dynamic shared memory: four bytes a thread."""
    shared = cuda.shared.array(0, float32)
    thread, threads, row = cuda.threadIdx.x, cuda.blockDim.x, np.int64(cuda.blockIdx.x)
    start = row * columns
    middle, factor = mean[row], rstd[row]
    total, other = ZERO, ZERO
    for column in range(thread, columns, threads):
        g = dy[start + column] * gamma[column]
        total += g
        other = fma(g, (x[start + column] - middle) * factor, other)
    width = np.float32(columns)
    mean_g = sum_of(shared, total) / width
    mean_gn = sum_of(shared, other) / width
    for column in range(thread, columns, threads):
        at = start + column
        g = dy[at] * gamma[column]
        n = (x[at] - middle) * factor
        value = (g - fma(n, mean_gn, mean_g)) * factor
        dx[at] = value
        if drops:
            dropped[at] = value * scale if mask_bits(at, first, second) >= limit else ZERO


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int64, "
    "int64, int64",
    threads=THREADS, registers=48, shared=8 * THREADS,
)  # fmt: skip
def sum_norm_columns(gammas, betas, dy, x, mean, rstd, rows, columns, count):
    """The parts of `layer_norm_gradients`: block (x, y) has `count` rows and 32 columns, its
    threads (32, warps). Dynamic shared memory: eight bytes a thread."""
    partial = cuda.shared.array(0, float32)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    lane, warp = thread % WARP, thread // WARP
    column = cuda.blockIdx.x * WARP + lane
    low = cuda.blockIdx.y * count
    total, other = ZERO, ZERO
    if column < columns:
        for row in range(low + warp, min(low + count, rows), threads // WARP):
            at = np.int64(row) * columns + column
            given = dy[at]
            total = fma(given, (x[at] - mean[row]) * rstd[row], total)
            other += given
    partial[thread] = total
    partial[threads + thread] = other
    cuda.syncthreads()
    if warp == 0 and column < columns:
        total, other = ZERO, ZERO
        for at in range(lane, threads, WARP):
            total += partial[at]
            other += partial[threads + at]
        gammas[cuda.blockIdx.y * columns + column] = total
        betas[cuda.blockIdx.y * columns + column] = other


def layer_norm_forward(
    y: Any, mean: Any, rstd: Any, x: Any, gamma: Any, beta: Any, eps: float, *, bias: Any = None,
    dropping: Dropping | None = None, residual: Any = None,
) -> None:  # fmt: skip
    """x = dropout(x + bias) + residual, of those that are given, and y = x normalised · gamma +
    beta.

    y, x                     float32[N, H], may be the same array
    mean, rstd               float32[N], written for the backward pass; None where not needed
    residual                 float32[N, H]
    gamma, beta, bias        float32[H]
    """
    rows, columns = x.shape
    others = [part for part in (y, residual) if part is not None]
    vectors = [part for part in (gamma, beta, bias) if part is not None]
    if any(part.size != x.size for part in others) or any(v.size != columns for v in vectors):
        raise ValueError(f"layer normalisation of {x.shape} into {y.shape}")
    if dropping is not None and x.size > BLOCK:  # one hash key does not reach
        if bias is not None:
            biased = memory.empty((rows, columns))
            fill_rows(biased, bias)
            add(x, biased)
        drop(x, x, *dropping)
        bias = dropping = None
    before = (
        BIAS * (bias is not None) + DROPOUT * (dropping is not None)
        + RESIDUAL * (residual is not None)
    )  # fmt: skip
    threads = _threads(columns)
    normalise_rows(
        rows, y, gamma if mean is None else mean, gamma if rstd is None else rstd, x,
        gamma if bias is None else bias, x if residual is None else residual, gamma, beta, columns,
        eps, before, *_mask(dropping), mean is not None, threads=threads, shared=4 * threads,
    )  # fmt: skip


def layer_norm_backward(
    dx: Any, dy: Any, x: Any, mean: Any, rstd: Any, gamma: Any, *, dropped: Any = None,
    dropping: Dropping | None = None,
) -> None:  # fmt: skip
    """dx of dy, with what the forward pass stored; `dropped` becomes the gradient before dropout.

    dx, dy, x, dropped  float32[N, H]; dx may be dy
    mean, rstd          float32[N]
    """
    rows, columns = x.shape
    if dx.size != x.size or dy.size != x.size or gamma.size != columns or mean.size != rows:
        raise ValueError(f"a gradient {dy.shape} of layer normalisation of {x.shape}")
    if (dropped is None) != (dropping is None) or (dropped is not None and dropped.size != x.size):
        raise ValueError("dropout needs an array for its gradient, of the size of x")
    threads = _threads(columns)
    whole = dropping is None or x.size <= BLOCK
    normalise_rows_back(
        rows, dx, dx if dropped is None else dropped, dy, x, mean, rstd, gamma, columns,
        dropping is not None and whole, *_mask(dropping), threads=threads, shared=4 * threads,
    )  # fmt: skip
    if dropping is not None and not whole:
        drop(dropped, dx, *dropping)


def layer_norm_gradients(dgamma: Any, dbeta: Any, dy: Any, x: Any, mean: Any, rstd: Any) -> None:
    """dgamma += Σ dy · n and dbeta += Σ dy over the rows, n the normalised rows.

    dgamma, dbeta  float32[H]; others as in `layer_norm_backward`
    """
    rows, columns = x.shape
    if dy.size != x.size or dgamma.size != columns or dbeta.size != columns or mean.size != rows:
        raise ValueError(f"gradients {dy.shape} of layer normalisation of {x.shape}")
    blocks = blocks_for(rows, ROWS)
    if not blocks:
        return
    threads = WARP * min(THREADS // WARP, blocks_for(rows, 4))
    gammas = memory.scratch("norm gammas", blocks * columns)
    betas = memory.scratch("norm betas", blocks * columns)
    sum_norm_columns(
        (blocks_for(columns, WARP), blocks, 1), gammas, betas, dy, x, mean, rstd, rows, columns,
        ROWS, threads=threads, shared=8 * threads,
    )  # fmt: skip
    for out, parts in ((dgamma, gammas), (dbeta, betas)):
        sum_parts.each(columns, out, parts, 1, columns, blocks, 0, columns, True)


def _mask(dropping: Dropping | None) -> tuple[int, int, int, float]:
    """Both halves of the hash's key, limit and scale."""
    if dropping is None:
        return 0, 0, 0, 1.0
    return *key_halves(dropping.key, 0), dropping.limit, dropping.scale


def _threads(columns: int) -> int:
    """A thread for every four columns."""
    return block_size(blocks_for(columns, 4), THREADS)
