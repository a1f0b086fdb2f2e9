"""Sums of columns and of chosen rows, each in one order, whatever runs first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32

from fastseq.kernels.cuda.nn.gemm import view
from fastseq.kernels.cuda.nn.tiles import sum_parts
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.target import WARP, blocks_for, cuda, kernel

ACROSS = 8  # warps of a block: each takes every eighth row
THREADS = WARP * ACROSS
ROWS = 512  # that a block sums up
ZERO = np.float32(0)
_SUMMING = 256  # threads


@kernel(
    "float32[::1], float32[::1], int64, int64, int64, int64, int64",
    threads=THREADS,
    registers=48,
    shared=4 * THREADS,
)
def sum_columns(parts, a, rows, columns, stride, first, count):
    """parts[b, c] = the sum of a[r, c] over `count` rows from b · count on; 32 columns a block.

    Block (x, y) has rows y and columns x, its threads (32, warps). Shared memory: four bytes each.
    """
    partial = cuda.shared.array(0, float32)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    warps = cuda.blockDim.x // WARP
    column = cuda.blockIdx.x * WARP + lane
    low = cuda.blockIdx.y * count
    total = ZERO
    if column < columns:
        for r in range(low + warp, min(low + count, rows), warps):
            total += a[first + r * stride + column]
    partial[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if warp == 0 and column < columns:
        total = ZERO
        for w in range(warps):
            total += partial[w * WARP + lane]
        parts[cuda.blockIdx.y * columns + column] = total


@kernel(
    "float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], int64, int64",
    threads=_SUMMING,
    registers=48,
)
def sum_rows(out, a, targets, order, starts, columns, add):
    """See `add_rows` and `segment_rows`: a thread has a column of a segment."""
    segments = len(starts) - 1
    for i in range(cuda.grid(1), segments * columns, cuda.gridsize(1)):
        segment, column = i // columns, i % columns
        total = ZERO
        for k in range(starts[segment], starts[segment + 1]):
            total += a[order[k] * columns + column]
        to = targets[segment] * columns + column
        out[to] = out[to] + total if add else total


def column_sums(out: Any, a: Any, add: bool = True) -> None:
    """out[c] = Σ a[r, c] over r, added to what is there with `add`.

    out  float32[C] on the device
    a    float32[N, C], or a gemm.View
    """
    of = view(a)
    if out.size != of.columns:
        raise ValueError(f"the sums of {of.columns} columns into {out.size}")
    blocks = max(1, blocks_for(of.rows, ROWS))
    threads = WARP * max(1, min(ACROSS, of.rows))
    parts = memory.scratch("column sums", blocks * of.columns)
    sum_columns(
        (blocks_for(of.columns, WARP), blocks, 1), parts, of.array, of.rows, of.columns, of.stride,
        of.first, ROWS, threads=threads, shared=4 * threads,
    )  # fmt: skip
    sum_parts(
        blocks_for(of.columns, _SUMMING), out, parts, 1, of.columns, blocks, 0, of.columns,
        int(add), threads=min(_SUMMING, of.columns),
    )  # fmt: skip


def segment_rows(out: Any, a: Any, numbers: Any, order: Any, starts: Any) -> None:
    """out[u] = Σ a[order[i]] over starts[u] <= i < starts[u + 1], in that order.

    out      float32[U, C]
    a        float32[N, C]
    numbers  int32[U], 0 to U - 1
    order    int32[N], starts int32[U + 1]
    """
    _sum_rows(out, a, numbers, order, starts, add=False)


def add_rows(gradients: Any, dy: Any, targets: Any, order: Any, starts: Any) -> None:
    """gradients[targets[u]] += Σ dy[order[i]] over starts[u] <= i < starts[u + 1], in that order:
    an embedding's gradient. The targets are distinct; see kernels.cuda.nn.embedding.groups.

    gradients  float32[V, C]
    """
    _sum_rows(gradients, dy, targets, order, starts, add=True)


def _sum_rows(out: Any, a: Any, targets: Any, order: Any, starts: Any, add: bool) -> None:
    columns = out.shape[1]
    if a.shape[1] != columns or len(targets) != len(starts) - 1:
        raise ValueError(f"{len(targets)} sums of rows of {a.shape} into {out.shape}")
    n = len(targets) * columns
    sum_rows(
        blocks_for(n, _SUMMING, 4096), memory.flat(out), memory.flat(a), targets, order, starts,
        columns, int(add), threads=max(1, min(_SUMMING, n)),
    )  # fmt: skip
