"""Matrix products on the device: cuBLAS's where it is installed, else those of tiles.py.

multiply(out, a, b)                          # out[M, N] = a[M, K] b[K, N]
multiply(out, dz, x, transpose_a=True, add=True)
multiply(window(gates, 0, 3 * H), x, weight, transpose_b=True, bias=bias)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.kernels.cuda import blas, memory
from fastseq.kernels.cuda.target import SIMULATED, blocks_for, multiprocessors
from fastseq.kernels.cuda.tiles import SHARED, SIDE, multiply_tiles, parts_of, sum_parts

PRECISIONS = ("float32", "tf32", "bfloat16")

_SUMMING = 256  # threads


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Columns of a matrix on the device.

    array    float32, contiguous, all of it
    rows, columns
    stride   numbers from one row to the next
    first    where the first row begins
    """

    array: Any
    rows: int
    columns: int
    stride: int
    first: int = 0


def view(matrix: Any) -> View:
    """All of a contiguous float32[M, N] on the device; a View stays itself."""
    if isinstance(matrix, View):
        return matrix
    rows, columns = matrix.shape
    return View(matrix.reshape(matrix.size), rows, columns, columns)


def window(matrix: Any, first: int, last: int) -> View:
    """Columns [first, last) of it."""
    whole = view(matrix)
    if not 0 <= first <= last <= whole.columns:
        raise ValueError(f"columns {first} to {last} of {whole.columns}")
    return View(whole.array, whole.rows, last - first, whole.stride, whole.first + first)


def multiply(
    out: Any,
    a: Any,
    b: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    add: bool = False,
    bias: Any = None,
    precision: str = "float32",
) -> None:
    """out = op(a) op(b) + bias, plus what is there with `add`.

    Parameters
    ----------
    out, a, b : float32[M, N], [M, K] and [K, N] on the device, or Views; a is [K, M] and b [N, K]
        where they are transposed
    bias : float32[N], added to every row; not with `add`
    precision : what the factors are rounded to, by cuBLAS alone: "float32", "tf32" (10 bits of
        mantissa) or "bfloat16" (7). Sums are float32

    Raises ValueError for shapes that do not fit.
    """
    to, left, right = view(out), view(a), view(b)
    M, K = (left.columns, left.rows) if transpose_a else (left.rows, left.columns)
    inner, N = (right.columns, right.rows) if transpose_b else (right.rows, right.columns)
    if inner != K or (to.rows, to.columns) != (M, N):
        raise ValueError(f"[{M}, {K}] times [{inner}, {N}] into [{to.rows}, {to.columns}]")
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if bias is not None and (add or bias.size != N):
        raise ValueError(f"a bias of {bias.size} beside {N} columns")
    if M == 0 or N == 0:
        return
    if not SIMULATED and K and blas.available():
        if bias is not None:
            fill_rows(to, bias)
        blas.multiply(to, left, right, M, N, K, transpose_a, transpose_b, add or bias is not None,
                      precision)  # fmt: skip
        return
    parts = parts_of(M, N, K, multiprocessors()) if bias is None else 1
    a_strides = (1, left.stride) if transpose_a else (left.stride, 1)
    b_strides = (1, right.stride) if transpose_b else (right.stride, 1)
    part = blocks_for(K, 16 * parts) * 16
    parts = max(1, blocks_for(K, part)) if part else 1
    grid = (blocks_for(M, SIDE), blocks_for(N, SIDE), parts)
    target, first, stride = to.array, to.first, to.stride
    if parts > 1:
        target, first, stride = memory.scratch("parts", parts * M * N), 0, N
    multiply_tiles(
        grid, target, left.array, right.array, right.array if bias is None else bias, M, N, K,
        first, stride, M * N, left.first, *a_strides, right.first, *b_strides, part,
        int(add and parts == 1), int(bias is not None), shared=SHARED,
    )  # fmt: skip
    if parts > 1:
        sum_parts(
            blocks_for(M * N, _SUMMING, 1024), to.array, target, M, N, parts, to.first, to.stride,
            int(add),
        )  # fmt: skip


def fill_rows(out: Any, row: Any) -> None:
    """Every row of out float32[M, N] becomes `row` float32[N]: a product of ones."""
    to = view(out)
    ones = memory.put(np.zeros(1, np.float32))
    multiply_tiles(
        (blocks_for(to.rows, SIDE), blocks_for(to.columns, SIDE), 1), to.array, ones, ones, row,
        to.rows, to.columns, 0, to.first, to.stride, 0, 0, 1, 1, 0, 1, 1, 1, 0, 1, shared=SHARED,
    )  # fmt: skip
