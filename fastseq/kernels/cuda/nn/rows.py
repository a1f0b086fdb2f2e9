"""Rows of floats gathered, copied and summed: the GPU counterpart of kernels/nn/rows.py.

In kernels that move rows, 2**power neighbouring threads have a row, neighbouring columns each, and
a block has as many rows as fit. Every sum has one order, whatever runs first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import float32, int32

from fastseq.kernels.cuda.nn.gemm import sum_parts, view
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.target import (
    WARP,
    Kernel,
    blocks_for,
    cuda,
    device_function,
    kernel,
)

THREADS = 256
ROWS = 512  # that a block of `sum_columns` adds up
ZERO = np.float32(0)
Int32 = npt.NDArray[np.int32]


@device_function
def row_of(power):
    """(row, first column, columns to the next) of a thread, 2**power threads a row."""
    thread = cuda.threadIdx.x
    lanes = 1 << power
    row = cuda.blockIdx.x * (cuda.blockDim.x >> power) + (thread >> power)
    return row, thread & (lanes - 1), lanes


def by_rows(
    function: Kernel, rows: int, columns: int, *arguments: Any, least: int = WARP, each: int = 0
) -> None:
    """Launch function(*arguments, columns, power), with `each` bytes of shared memory a thread.

    A row gets a thread for every four columns, or one for each where it has at most `least`.
    """
    wanted = columns if columns <= least else max(least, -(-columns // 4))
    power = min((THREADS - 1).bit_length(), max(wanted - 1, 0).bit_length())
    threads = min(THREADS, rows << power)
    function(
        blocks_for(rows, threads >> power) if rows else 0, *arguments, columns, power,
        threads=threads, shared=each * threads,
    )  # fmt: skip


@kernel(
    "float32[::1], float32[::1], int32[::1], int64, int64, int64", threads=THREADS, registers=48
)
def move_rows(out, values, rows, scattered, columns, power):
    """See `gather`, and `scatter` with `scattered`."""
    n, first, step = row_of(power)
    if n < len(rows):
        source, target = np.int64(rows[n]) * columns, np.int64(n) * columns
        if scattered:
            source, target = target, source
        for column in range(first, columns, step):
            out[target + column] = values[source + column]


@kernel(
    "float32[::1], float32[::1], int64, int64, int64, int64, int64, int64, int64",
    threads=THREADS, registers=48,
)  # fmt: skip
def copy_rows(out, x, rows, out_width, out_first, x_width, x_first, columns, power):
    """See `copy_columns`."""
    n, first, step = row_of(power)
    if n < rows:
        target = n * out_width + out_first
        source = n * x_width + x_first
        for column in range(first, columns, step):
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
    """Whether a in column i comes before b in column j: the larger one, or the first of equals;
    NaN is the largest, as in NumPy."""
    if a == b or (a != a and b != b):
        return i < j
    return a > b or a != a


@kernel("int32[::1], float32[::1], int64, int64", threads=THREADS, registers=48, shared=8 * THREADS)
def maxima(best, x, columns, power):
    """See `row_maxima`. Dynamic shared memory: eight bytes a thread."""
    values = cuda.shared.array(0, float32)
    columns_of = cuda.shared.array(0, int32)[cuda.blockDim.x :]
    thread = cuda.threadIdx.x
    n, lane, lanes = row_of(power)
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


@kernel(
    "float32[::1], float32[::1], int64, int64, int64, int64, int64",
    threads=THREADS, registers=48, shared=4 * THREADS,
)  # fmt: skip
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
    threads=THREADS, registers=48,
)  # fmt: skip
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


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], "
    "int64, int64",
    threads=THREADS, registers=48,
)  # fmt: skip
def sum_tables(out, words, types, positions, ids, kinds, places, columns, power):
    """See `gather_sums`."""
    n, first, step = row_of(power)
    if n < len(ids):
        word, kind = np.int64(ids[n]) * columns, np.int64(kinds[n]) * columns
        place, to = np.int64(places[n]) * columns, np.int64(n) * columns
        for column in range(first, columns, step):
            total = words[word + column] + types[kind + column]
            out[to + column] = total + positions[place + column]


def gather(out: Any, values: Any, rows: Any) -> None:
    """out[n] = values[rows[n]].

    out     float32[N, K]
    values  float32[M, K]
    rows    int32[N], 0 <= row < M
    """
    _move(out, values, rows, out, scattered=False)


def scatter(out: Any, values: Any, rows: Any) -> None:
    """out[rows[n]] = values[n].

    out     float32[M, K]; other rows are left as they are
    values  float32[N, K]
    rows    int32[N], 0 <= row < M, distinct
    """
    _move(out, values, rows, values, scattered=True)


def _move(out: Any, values: Any, rows: Any, numbered: Any, scattered: bool) -> None:
    columns = out.shape[1]
    if values.shape[1] != columns or len(rows) != len(numbered):
        raise ValueError(f"rows of {values.shape} and {out.shape} do not fit")
    by_rows(move_rows, len(rows), columns, out, values, rows, scattered)


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
    rows = rows if columns else 0
    by_rows(copy_rows, rows, columns, out, x, rows, out_width, out_first, x_width, x_first)


def add(out: Any, x: Any) -> None:
    """out += x, float32 of one size."""
    if out.size != x.size:
        raise ValueError(f"{x.size} numbers added to {out.size}")
    add_all.each(out.size, out, x)


def sum_first(out: Any, a: Any, b: Any, count: int) -> None:
    """out[i] = a[i] + b[i] for i < count, a[i] for others; float32[n]."""
    if a.size != out.size or b.size < count:
        raise ValueError(f"{count} of {a.size} and {b.size} numbers added into {out.size}")
    add_first.each(out.size, out, a, b, count)


def fill(out: Any, value: float) -> None:
    """out = value, float32."""
    fill_all.each(out.size, out, value)


def row_maxima(best: Any, x: Any) -> None:
    """best[n] = the column of the largest number of x[n], the first of equals.

    best  int32[N]
    x     float32[N, C], C of 1 or more
    """
    rows, columns = x.shape
    if len(best) != rows or not columns:
        raise ValueError(f"the largest columns of {x.shape} into {best.shape}")
    by_rows(maxima, rows, columns, best, x, least=4, each=8)


def column_sums(out: Any, a: Any, add: bool = True) -> None:
    """out[c] = Σ a[r, c] over r, added to the previous out with `add`.

    out  float32[C] on the device
    a    float32[N, C], or a gemm.View
    """
    of = view(a)
    if out.size != of.columns:
        raise ValueError(f"the sums of {of.columns} columns into {out.size}")
    blocks = max(1, blocks_for(of.rows, ROWS))
    threads = WARP * max(1, min(THREADS // WARP, blocks_for(of.rows, 4)))
    parts = memory.scratch("column sums", blocks * of.columns)
    sum_columns(
        (blocks_for(of.columns, WARP), blocks, 1), parts, of.array, of.rows, of.columns, of.stride,
        of.first, ROWS, threads=threads, shared=4 * threads,
    )  # fmt: skip
    sum_parts.each(of.columns, out, parts, 1, of.columns, blocks, 0, of.columns, add)


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
    an embedding's gradient. The targets are distinct; see `groups`.

    gradients  float32[V, C]
    """
    _sum_rows(gradients, dy, targets, order, starts, add=True)


def _sum_rows(out: Any, a: Any, targets: Any, order: Any, starts: Any, add: bool) -> None:
    columns = out.shape[1]
    if a.shape[1] != columns or len(targets) != len(starts) - 1:
        raise ValueError(f"{len(targets)} sums of rows of {a.shape} into {out.shape}")
    n = len(targets) * columns
    sum_rows.each(n, out, a, targets, order, starts, columns, add, most=4096)


def groups(ids: npt.NDArray[np.integer]) -> tuple[Int32, Int32, Int32]:
    """(targets, order, starts) of ids int[N], for `add_rows`: the distinct ids, ascending, and the
    places of each, order[starts[u]:starts[u + 1]], ascending. So a repeated id's gradients are
    added up in the order of its places, as on the CPU, and no two threads add to one number."""
    order = np.argsort(ids, kind="stable")
    ascending = np.asarray(ids)[order]
    first = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]])[: len(ids)])
    starts = np.append(first, len(ids))
    return ascending[first].astype(np.int32), order.astype(np.int32), starts.astype(np.int32)


def gather_sums(
    out: Any, words: Any, types: Any, positions: Any, ids: Any, kinds: Any, places: Any
) -> None:
    """out[n] = words[ids[n]] + types[kinds[n]] + positions[places[n]].

    out                      float32[N, E]
    words, types, positions  float32[·, E]
    ids, kinds, places       int32[N], rows of each
    """
    columns = out.shape[1]
    if {part.shape[1] for part in (words, types, positions)} != {columns} or {
        len(part) for part in (ids, kinds, places)
    } != {len(out)}:
        raise ValueError(
            f"rows of {words.shape}, {types.shape} and {positions.shape} into {out.shape}"
        )
    by_rows(sum_tables, len(out), columns, out, words, types, positions, ids, kinds, places)
