"""Rows of floats moved and added up: the twins of kernels/nn/rows.py, and what goes with them.

Work on rows is shared so: 2**power neighbouring threads have a row, neighbouring columns each, and
a block of threads as many rows as it has room for. `lane_power` and `row_threads` choose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, int32

from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.target import WARP, blocks_for, cuda, device_function, kernel

THREADS = 256
MOST = 8  # log2 of THREADS


def lane_power(columns: int, each: int = 4, least: int = WARP, most: int = MOST) -> int:
    """log2 of the threads that share a row of so many columns: a thread for every `each` columns,
    and for every one where rows have no more than `least`; at most 2**most."""
    wanted = columns if columns <= least else max(least, -(-columns // each))
    return min(most, max(wanted - 1, 0).bit_length())


def row_threads(rows: int, power: int, most: int = THREADS) -> tuple[int, int]:
    """Blocks, and threads of each, that do so many rows, 2**power threads a row."""
    threads = min(most, rows << power)
    return (blocks_for(rows, threads >> power), threads) if rows else (0, 0)


@kernel("float32[::1], float32[::1], int32[::1], int64, int64", threads=THREADS, registers=48)
def gather_rows(out, values, rows, columns, power):
    """See `gather`."""
    thread = cuda.threadIdx.x
    lanes = 1 << power
    n = cuda.blockIdx.x * (cuda.blockDim.x >> power) + (thread >> power)
    if n < len(rows):
        source = rows[n] * columns
        target = n * columns
        for column in range(thread & (lanes - 1), columns, lanes):
            out[target + column] = values[source + column]


@kernel("float32[::1], float32[::1], int32[::1], int64, int64", threads=THREADS, registers=48)
def scatter_rows(out, values, rows, columns, power):
    """See `scatter`."""
    thread = cuda.threadIdx.x
    lanes = 1 << power
    n = cuda.blockIdx.x * (cuda.blockDim.x >> power) + (thread >> power)
    if n < len(rows):
        target = rows[n] * columns
        source = n * columns
        for column in range(thread & (lanes - 1), columns, lanes):
            out[target + column] = values[source + column]


@kernel(
    "float32[::1], float32[::1], int64, int64, int64, int64, int64, int64, int64",
    threads=THREADS,
    registers=48,
)
def copy_rows(out, x, rows, out_width, out_first, x_width, x_first, columns, power):
    """See `copy_columns`."""
    thread = cuda.threadIdx.x
    lanes = 1 << power
    n = cuda.blockIdx.x * (cuda.blockDim.x >> power) + (thread >> power)
    if n < rows:
        target = n * out_width + out_first
        source = n * x_width + x_first
        for column in range(thread & (lanes - 1), columns, lanes):
            out[target + column] = x[source + column]


@kernel("float32[::1], float32[::1]", threads=THREADS, registers=48)
def add_all(out, x):
    """See `add`."""
    for i in range(cuda.grid(1), len(out), cuda.gridsize(1)):
        out[i] += x[i]


@kernel("float32[::1], float32", threads=THREADS, registers=48)
def fill_all(out, value):
    """See `fill`."""
    for i in range(cuda.grid(1), len(out), cuda.gridsize(1)):
        out[i] = value


@kernel("float32[::1], float32[::1], float32[::1], int64", threads=THREADS, registers=48)
def add_first(out, a, b, count):
    """See `sum_first`."""
    for i in range(cuda.grid(1), len(out), cuda.gridsize(1)):
        out[i] = a[i] + b[i] if i < count else a[i]


@device_function
def _before(a, i, b, j):
    """Whether a in column i comes before b in column j: the larger, or the first among equals;
    NaN is larger than all, as NumPy has it."""
    if a == b or (a != a and b != b):
        return i < j
    return a > b or a != a


@kernel("int32[::1], float32[::1], int64, int64", threads=THREADS, registers=48, shared=8 * THREADS)
def maxima(best, x, columns, power):
    """See `row_maxima`. Dynamic shared memory: eight bytes a thread."""
    values = cuda.shared.array(0, float32)
    columns_of = cuda.shared.array(0, int32)[cuda.blockDim.x :]
    thread = cuda.threadIdx.x
    lanes = 1 << power
    lane = thread & (lanes - 1)
    n = cuda.blockIdx.x * (cuda.blockDim.x >> power) + (thread >> power)
    start = n * columns
    if n < len(best):
        # lanes past the last column start from column 0, which another one has too
        found = lane if lane < columns else 0
        value = x[start + found]
        for column in range(lane + lanes, columns, lanes):
            other = x[start + column]
            if _before(other, column, value, found):
                value, found = other, column
        values[thread] = value
        columns_of[thread] = found
    cuda.syncthreads()
    step = lanes >> 1
    while step:
        if lane < step and n < len(best):
            other = values[thread + step]
            column = columns_of[thread + step]
            if _before(other, column, values[thread], columns_of[thread]):
                values[thread] = other
                columns_of[thread] = column
        cuda.syncthreads()
        step >>= 1
    if lane == 0 and n < len(best):
        best[n] = columns_of[thread]


def gather(out: Any, values: Any, rows: Any) -> None:
    """out[n] = values[rows[n]].

    out     float32[N, K]
    values  float32[M, K]
    rows    int32[N], 0 <= row < M
    """
    columns = _columns(out, values, len(rows) == len(out))
    power = lane_power(columns)
    blocks, threads = row_threads(len(rows), power)
    gather_rows(
        blocks, memory.flat(out), memory.flat(values), rows, columns, power, threads=threads
    )


def scatter(out: Any, values: Any, rows: Any) -> None:
    """out[rows[n]] = values[n].

    out     float32[M, K]; rows that are not named stay
    values  float32[N, K]
    rows    int32[N], 0 <= row < M, distinct
    """
    columns = _columns(out, values, len(rows) == len(values))
    power = lane_power(columns)
    blocks, threads = row_threads(len(rows), power)
    scatter_rows(
        blocks, memory.flat(out), memory.flat(values), rows, columns, power, threads=threads
    )


def copy_columns(out: Any, out_first: int, x: Any, x_first: int, columns: int) -> None:
    """out[n, out_first + c] = x[n, x_first + c] for 0 <= c < columns.

    out, x  float32[N, …], two arrays
    """
    rows, out_width = out.shape
    x_width = x.shape[1]
    if len(x) != rows or out_first + columns > out_width or x_first + columns > x_width:
        raise ValueError(
            f"{columns} columns from {x_first} of {x.shape} to {out_first} of {out.shape}"
        )
    power = lane_power(columns)
    blocks, threads = row_threads(rows if columns else 0, power)
    copy_rows(
        blocks, memory.flat(out), memory.flat(x), rows, out_width, out_first, x_width, x_first,
        columns, power, threads=threads,
    )  # fmt: skip


def add(out: Any, x: Any) -> None:
    """out += x, float32 of one size."""
    if out.size != x.size:
        raise ValueError(f"{x.size} numbers added to {out.size}")
    n = out.size
    add_all(blocks_for(n, THREADS), memory.flat(out), memory.flat(x), threads=min(THREADS, n))


def sum_first(out: Any, a: Any, b: Any, count: int) -> None:
    """out[i] = a[i] + b[i] for i < count, a[i] from there on; float32[n]."""
    n = out.size
    if a.size != n or b.size < count:
        raise ValueError(f"{count} of {a.size} and {b.size} numbers added into {n}")
    add_first(blocks_for(n, THREADS), out, a, b, count, threads=min(THREADS, n))


def fill(out: Any, value: float) -> None:
    """out = value, float32."""
    n = out.size
    fill_all(blocks_for(n, THREADS), memory.flat(out), np.float32(value), threads=min(THREADS, n))


def row_maxima(best: Any, x: Any) -> None:
    """best[n] = the column of the largest number of x[n], the first among equals.

    best  int32[N]
    x     float32[N, C], C of 1 or more
    """
    rows, columns = x.shape
    if len(best) != rows or not columns:
        raise ValueError(f"the largest columns of {x.shape} into {best.shape}")
    power = lane_power(columns, least=4)
    blocks, threads = row_threads(rows, power)
    maxima(blocks, best, memory.flat(x), columns, power, threads=threads, shared=8 * threads)


def _columns(out: Any, values: Any, numbered: bool) -> int:
    """K of two arrays of rows; ValueError where they do not fit each other."""
    if out.shape[1] != values.shape[1] or not numbered:
        raise ValueError(f"rows of {values.shape} and {out.shape} do not fit")
    return int(out.shape[1])
