"""Matrix products on the device: cuBLAS's where it is installed, else those of tiles.py.

multiply(out, a, b)                          # out[M, N] = a[M, K] b[K, N]
multiply(out, dz, x, transpose_a=True, add=True)
multiply(window(gates, 0, 3 * H), x, weight, transpose_b=True, bias=bias)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.kernels.cuda.nn.tiles import (
    SHARED,
    SIDE,
    multiply_tiles,
    parts_of,
    repeat_row,
    sum_parts,
)
from fastseq.kernels.cuda.runtime import blas, memory
from fastseq.kernels.cuda.runtime.target import SIMULATED, blocks_for, multiprocessors

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
    return View(memory.flat(matrix), rows, columns, columns)


def top(matrix: Any, rows: int) -> View:
    """Its first rows."""
    whole = view(matrix)
    if not 0 <= rows <= whole.rows:
        raise ValueError(f"{rows} of {whole.rows} rows")
    return View(whole.array, rows, whole.columns, whole.stride, whole.first)


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

    By the library where there is one (cuBLAS; in the simulator NumPy), else `multiply_by_tiles`.

    Parameters
    ----------
    out, a, b : float32[M, N], [M, K] and [K, N] on the device, or Views; a is [K, M] and b [N, K]
        where they are transposed
    bias : float32[N], added to every row; not with `add`
    precision : what the factors are rounded to, by cuBLAS alone: "float32", "tf32" (10 bits of
        mantissa) or "bfloat16" (7). Sums are float32

    Raises ValueError for shapes that do not fit.
    """
    to, left, right, (M, N, K) = _checked(out, a, b, transpose_a, transpose_b, add, bias)
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if M == 0 or N == 0:
        return
    if not (SIMULATED or blas.available()) or not K:
        multiply_by_tiles(
            out, a, b, transpose_a=transpose_a, transpose_b=transpose_b, add=add, bias=bias
        )
        return
    if SIMULATED:
        _multiply_simulated(to, left, right, transpose_a, transpose_b, add, bias)
        return
    if bias is not None:
        fill_rows(to, bias)
    blas.multiply(to, left, right, M, N, K, transpose_a, transpose_b, add or bias is not None,
                  precision)  # fmt: skip


def multiply_by_tiles(
    out: Any,
    a: Any,
    b: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    add: bool = False,
    bias: Any = None,
) -> None:
    """The same in float32 by the kernels of tiles.py, which need no library."""
    to, left, right, (M, N, K) = _checked(out, a, b, transpose_a, transpose_b, add, bias)
    if M == 0 or N == 0:
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
    """Every row of out float32[M, N] becomes `row` float32[N]."""
    to = view(out)
    n = to.rows * to.columns
    repeat_row(
        blocks_for(n, _SUMMING, 4096), to.array, row, to.rows, to.columns, to.first, to.stride,
        threads=min(_SUMMING, n),
    )  # fmt: skip


def _checked(
    out: Any, a: Any, b: Any, transpose_a: bool, transpose_b: bool, add: bool, bias: Any
) -> tuple[View, View, View, tuple[int, int, int]]:
    """The three as Views, and M, N and K. Raises ValueError for shapes that do not fit."""
    to, left, right = view(out), view(a), view(b)
    M, K = (left.columns, left.rows) if transpose_a else (left.rows, left.columns)
    inner, N = (right.columns, right.rows) if transpose_b else (right.rows, right.columns)
    if inner != K or (to.rows, to.columns) != (M, N):
        raise ValueError(f"[{M}, {K}] times [{inner}, {N}] into [{to.rows}, {to.columns}]")
    if bias is not None and (add or bias.size != N):
        raise ValueError(f"a bias of {bias.size} beside {N} columns")
    return to, left, right, (M, N, K)


def _multiply_simulated(
    out: View, a: View, b: View, transpose_a: bool, transpose_b: bool, add: bool, bias: Any
) -> None:
    """What cuBLAS gives, without the thousand simulated threads that tiles would take."""
    left, right = (_read(part) for part in (a, b))
    product = (left.T if transpose_a else left) @ (right.T if transpose_b else right)
    if add:
        product += _read(out)
    elif bias is not None:
        product += memory.get(bias)
    whole = memory.get(out.array)
    rows = out.first + np.arange(out.rows)[:, None] * out.stride
    whole[rows + np.arange(out.columns)] = product
    memory.put(whole, out.array)


def _read(of: View) -> Any:
    rows = of.first + np.arange(of.rows)[:, None] * of.stride
    return memory.get(of.array)[rows + np.arange(of.columns)]
