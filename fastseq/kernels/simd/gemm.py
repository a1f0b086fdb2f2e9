"""Products of float32 matrices, from packed panels and register tiles.

A panel is WIDTH columns of B, stored row after row, so that a tile reads it as one stream; the
last panel has the remaining columns, padded with zeros to whole vectors. Panel p starts at
p * WIDTH * K. Weights are packed once and used for many rows.

Blocks are chosen so that data that is read again is in the second-level cache: a panel's block of
DEPTH x WIDTH (128 KB) serves ROWS rows of A, of which a tile reads few for the work it does: they
need not stay there. Products of an encoder's layer take 1.05 to 1.12 times as long with 96 rows as
with 512 on an Ice Lake Xeon, which fetches a panel from a third level shared with others.

Source: Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, section 4,
with the roles of A and B as row-major storage has them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from fastseq.kernels.core.intrinsics import I64, at, data, llvm
from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.width import LANES, REGISTERS
from fastseq.kernels.simd.floats import load, load_part, splat, store
from fastseq.kernels.simd.tiles import VECTOR, address, tiles, tiles_bfloat16, tiles_bytes

VECTORS = 4 if REGISTERS == 32 else 3
WIDTH = VECTORS * LANES  # columns of a panel
ROWS = 512
DEPTH = 512
PACKED = 96  # columns of A that `multiply_columns` packs at a time
HEIGHT = 384  # rows of A and B that it packs at a time
BREADTH = 384  # columns of B that it packs at a time
SLIM = 3  # most vectors per panel with which tiles of 8 rows (4 for AVX2) divide 16 rows evenly
A_PART = PACKED * SLIM * LANES  # indices of the packed blocks in scratch
B_PART = A_PART + HEIGHT * PACKED


def packed_size(depth: int, columns: int) -> int:
    """Floats that the panels of a matrix of `depth` rows take."""
    return depth * padded(columns)


def padded(columns: int) -> int:
    """`columns` in whole vectors."""
    return -(-columns // LANES) * LANES


def scratch_size() -> int:
    """Floats of working memory of each thread for the products below: rows of a tile that do not
    end with a whole vector, then packed A and packed B."""
    return B_PART + HEIGHT * (BREADTH + 2 * LANES)


@inline
def panel_vectors(column, columns):
    """Vectors in the panel that starts at `column`."""
    return min(VECTORS, (columns - column + LANES - 1) // LANES)


@inline
def slim_vectors(column, columns):
    """Vectors in the panel at `column` of a transposed product: panels of nearly equal width."""
    left = (columns - column + LANES - 1) // LANES
    panels = (left + SLIM - 1) // SLIM
    return (left + panels - 1) // panels


@helper
def copy_block(out, out_start, out_row, block, start, row, rows, columns, width):
    """`rows` rows of `columns` floats, with zeros up to `width` (in whole vectors, or columns)."""
    for r in range(rows):
        to, at = out_start + r * out_row, start + r * row
        j = 0
        while j + LANES <= columns:
            store(out, to + j, load(block, at + j))
            j += LANES
        if j < columns and width > columns:
            store(out, to + j, load_part(block, at + j, columns - j))
            j += LANES
        else:
            while j < columns:
                out[to + j] = block[at + j]
                j += 1
        while j < width:
            store(out, to + j, splat(0.0))
            j += LANES


@llvm(types.void, data, types.int64, types.int64, data, types.int64, types.int64)
def transpose(
    builder: Any, out: Any, to: Any, out_row: Any, array: Any, start: Any, row: Any
) -> None:
    """out[to + i * out_row + j] = array[start + j * row + i] for i, j < LANES.

    log2(LANES) rounds that interleave the first half of the rows with the second: 0.25
    instructions an element with 16 lanes, where single loads and stores take two.
    """

    def place(base: Any, first: Any, step: Any, i: int) -> Any:
        return at(builder, base, builder.add(first, builder.mul(step, I64(i))), VECTOR)

    rows = [builder.load(place(array, start, row, i), align=4) for i in range(LANES)]
    half = LANES // 2
    indices = ir.VectorType(ir.IntType(32), LANES)
    low, high = (
        ir.Constant(indices, [lane for i in range(half) for lane in (first + i, first + i + LANES)])
        for first in (0, half)
    )
    for _ in range(LANES.bit_length() - 1):
        rows = [
            builder.shuffle_vector(rows[i], rows[i + half], lanes)
            for i in range(half)
            for lanes in (low, high)
        ]
    for i, value in enumerate(rows):
        builder.store(value, place(out, to, out_row, i), align=4)


@helper
def transpose_block(out, to, out_row, block, start, row, rows, columns):
    """out[to + i * out_row + j] = block[start + j * row + i], i < columns, j < rows."""
    whole_rows, whole_columns = rows - rows % LANES, columns - columns % LANES
    for j in range(0, whole_rows, LANES):
        for i in range(0, whole_columns, LANES):
            transpose(out, to + i * out_row + j, out_row, block, start + j * row + i, row)
        for i in range(whole_columns, columns):
            for k in range(j, j + LANES):
                out[to + i * out_row + k] = block[start + k * row + i]
    for j in range(whole_rows, rows):
        for i in range(columns):
            out[to + i * out_row + j] = block[start + j * row + i]


@jit
def pack(panels, b, first, last):
    """The panels of columns [first, last) of b [K, N]; both multiples of WIDTH, or last = N.

    panels  float32[packed_size(K, N)]
    """
    K, N = b.shape
    flat = b.reshape(b.size)
    for column in range(first, last, WIDTH):
        width = panel_vectors(column, N) * LANES
        there = min(width, N - column)
        copy_block(panels, column * K, width, flat, column, N, K, there, width)


@jit
def pack_transposed(panels, b, first, last):
    """The panels of columns [first, last) of bᵀ, for b [N, K]: a weight in PyTorch's layout."""
    N, K = b.shape
    flat = b.reshape(b.size)
    for column in range(first, last, WIDTH):
        width = panel_vectors(column, N) * LANES
        there = min(width, N - column)
        if there < width:
            for place in range(column * K, column * K + K * width):
                panels[place] = 0.0  # a slice would import a module of Numba's, for 0.06 s
        transpose_block(panels, column * K, width, flat, column * K, K, there, K)


def _product(tiles: Any, name: str) -> Any:
    def multiply(out, a, panels, bias, add, scratch, first, last):
        K = a.shape[1]
        N = out.shape[1]
        flat = out.reshape(out.size)
        for row in range(first, last, ROWS):
            rows = min(ROWS, last - row)
            for k in range(0, max(K, 1), DEPTH):
                depth = min(DEPTH, K - k)
                for column in range(0, N, WIDTH):
                    vectors = panel_vectors(column, N)
                    width = vectors * LANES
                    fresh = k == 0 and not add
                    c, c_row = address(out, row * N + column), N
                    if column + width > N:  # whole vectors would run past the row
                        c, c_row = address(scratch, 0), width
                        if not fresh:
                            copy_block(
                                scratch, 0, width, flat, row * N + column, N, rows, N - column, 0
                            )
                    init, init_row = (address(bias, column), 0) if fresh else (c, c_row)
                    tiles(
                        vectors, c, c_row, init, init_row, address(a, row * K + k), K, 1,
                        address(panels, column * K + k * width), width, depth, 1, 0, 0, rows,
                    )  # fmt: skip
                    if column + width > N:
                        copy_block(
                            flat, row * N + column, N, scratch, 0, width, rows, N - column, 0
                        )

    return jit(multiply, name)


# multiply_panels(out, a, panels, bias, add, scratch, first, last):
# out[M, N] = a[M, K] B + bias for rows [first, last); out += a B, without bias, when `add`.
#
#     panels   B [K, N], packed
#     bias     float32[padded(N)]; zeros where there is none
#     scratch  float32[scratch_size()]
#
# The other two are of arrays of 32-bit words (nn/words.py): K is a number of words, and `out` of
# multiply_bytes has the bits of int32.
multiply_panels = _product(tiles, "multiply_panels")
multiply_bfloat16 = _product(tiles_bfloat16, "multiply_bfloat16")
multiply_bytes = _product(tiles_bytes, "multiply_bytes")


@jit
def multiply_columns(out, a, b, scratch, first, last, left, right):
    """out[K, N] += aᵀ b for a [M, K] and b [M, N], rows [first, last), columns [left, right).

    scratch  float32[scratch_size()]
    """
    M, K = a.shape
    N = b.shape[1]
    a_flat, b_flat, flat = a.reshape(a.size), b.reshape(b.size), out.reshape(out.size)
    for from_column in range(left, right, BREADTH):
        to_column = min(from_column + BREADTH, right)
        for m in range(0, M, HEIGHT):
            height = min(HEIGHT, M - m)
            pack_rows(scratch, B_PART, b_flat, m, N, height, from_column, to_column)
            for row in range(first, last, PACKED):
                rows = min(PACKED, last - row)
                copy_block(scratch, A_PART, rows, a_flat, m * K + row, K, height, rows, 0)
                add_product(
                    flat, row * N, N, rows, scratch, A_PART, rows, B_PART, height, from_column,
                    to_column,
                )  # fmt: skip


@helper
def pack_rows(scratch, at, b, first, row, height, left, right):
    """Panels of columns [left, right) of the rows first, first + 1, … of b, from `at` on; returns
    the index of their end."""
    column = left
    while column < right:
        width = slim_vectors(column, right) * LANES
        there = min(width, right - column)
        copy_block(scratch, at, width, b, first * row + column, row, height, there, width)
        at += height * width
        column += width
    return at


@helper
def add_product(out, start, out_row, rows, scratch, a_part, a_step, b_part, height, left, right):
    """out[start + r * out_row + column] += sum over m of A[m, r] B[m, column], left to right.

    A, B  in scratch: A[m, r] at a_part + m * a_step + r, B packed by `pack_rows` at b_part
    """
    column = left
    while column < right:
        vectors = slim_vectors(column, right)
        width = vectors * LANES
        there = right - column
        c, c_row = address(out, start + column), out_row
        if there < width:  # whole vectors would run past the row
            c, c_row = address(scratch, 0), width
            copy_block(scratch, 0, width, out, start + column, out_row, rows, there, 0)
        tiles(
            vectors, c, c_row, c, c_row, address(scratch, a_part), 1, a_step,
            address(scratch, b_part), width, height, 1, 0, 0, rows,
        )  # fmt: skip
        if there < width:
            copy_block(out, start + column, out_row, scratch, 0, width, rows, there, 0)
        b_part += height * width
        column += width
