"""Tiles, packing and products against NumPy; tests/nn/test_nn_recurrent_widths.py runs this file
again for each other width.

Most arrays hold small whole numbers: their products and sums are exact in float32, so that every
element has one right value. What must not be touched is NaN or GUARD.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd import gemm, tiles
from fastseq.kernels.simd.gemm import DEPTH, HEIGHT, PACKED, ROWS, WIDTH

GUARD = np.float32(-777.0)
SIZES = st.integers(1, 3 * LANES + 2) | st.sampled_from([WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH])


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-8, 9, shape).astype(np.float32)


def at(array: np.ndarray, index: int = 0) -> int:
    """The address of element `index` of a flat array."""
    assert array.flags.c_contiguous
    return int(array.ctypes.data) + 4 * index


def guarded(rows: int, columns: int, extra: int) -> np.ndarray:
    """Room for `rows` of `columns`, `extra` more between them and a row of them at each end."""
    return np.full((rows + 2, columns + extra), GUARD, np.float32)


# ---- tiles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_tiles_of_every_number_of_rows(vectors: int) -> None:
    """And of more rows than fit one; depths around the unrolled loop's; C in rows far apart."""
    rng = np.random.default_rng(vectors)
    run = partial(tiles.tiles, vectors)
    width = vectors * LANES
    for rows in range(2 * tiles.MOST_ROWS[vectors] + 2):
        for depth in (0, 1, 3, 8, 17):
            a, b, c = whole(rng, rows, depth), whole(rng, depth, width), whole(rng, rows, width)
            out = guarded(rows, width, 5)
            out[1 : rows + 1, :width] = c
            place = at(out, out.shape[1])
            run(
                place, out.shape[1], place, out.shape[1], at(a), depth, 1, at(b), width, depth, 1,
                0, 0, rows,
            )  # fmt: skip
            np.testing.assert_array_equal(out[1 : rows + 1, :width], c + a @ b)
            out[1 : rows + 1, :width] = GUARD
            assert (out == GUARD).all(), f"{rows} rows: something beside the tile was written"


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_tiles_read_by_the_given_strides(vectors: int) -> None:
    """A transposed, a bias for every row, and k in blocks with gaps between in A and in B."""
    rng = np.random.default_rng(vectors)
    rows, inner, outer, width = 11, 5, 3, vectors * LANES
    a_gap, b_gap, b_step = 4, 2 * width, width + LANES
    a_whole = whole(rng, outer * (inner + a_gap), rows)
    b_whole = whole(rng, outer * (inner * b_step + b_gap))
    bias = whole(rng, width)
    out = np.empty((rows, width), np.float32)
    tiles.tiles(
        vectors, at(out), width, at(bias), 0, at(a_whole), 1, rows, at(b_whole), b_step, inner,
        outer, a_gap * rows, b_gap, rows,
    )  # fmt: skip
    expected = np.tile(bias, (rows, 1))
    for block in range(outer):
        for k in range(inner):
            start = block * (inner * b_step + b_gap) + k * b_step
            b_row = b_whole[start : start + width]
            expected += np.outer(a_whole[block * (inner + a_gap) + k], b_row)
    np.testing.assert_array_equal(out, expected)


def test_sums_have_the_same_bits_in_any_tile() -> None:
    rng = np.random.default_rng(0)
    rows, depth = 25, 77
    a = rng.standard_normal((rows, depth), dtype=np.float32)
    b = rng.standard_normal((depth, 4 * LANES), dtype=np.float32)
    out = np.zeros((rows, 4 * LANES), np.float32)
    step = 4 * LANES
    tiles.tiles(4, at(out), step, at(out), step, at(a), depth, 1, at(b), step, depth, 1, 0, 0, rows)
    for vectors in (1, 2, 3):
        width = vectors * LANES
        for row in range(rows):
            one = np.zeros(width, np.float32)
            tiles.tiles(
                vectors, at(one), width, at(one), width, at(a, row * depth), depth, 1, at(b), step,
                depth, 1, 0, 0, 1,
            )  # fmt: skip
            np.testing.assert_array_equal(one, out[row, :width])
    np.testing.assert_allclose(out, a.astype(np.float64) @ b.astype(np.float64), atol=1e-4)


# ---- transposing, copying, packing -----------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(rows=SIZES, columns=SIZES, extra=st.integers(0, 3))
def test_transpose_block(rows: int, columns: int, extra: int) -> None:
    block = np.arange((rows + 1) * (columns + extra), dtype=np.float32).reshape(rows + 1, -1)
    out = guarded(columns, rows, extra)
    gemm.transpose_block(
        out.reshape(-1), rows + extra, rows + extra, block.reshape(-1), columns + extra,
        columns + extra, rows, columns,
    )  # fmt: skip
    expected = guarded(columns, rows, extra)
    expected[1:-1, :rows] = block[1:, :columns].T
    np.testing.assert_array_equal(out, expected)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 5), columns=SIZES, fill=st.booleans(), extra=st.integers(0, 3))
def test_copy_block(rows: int, columns: int, fill: bool, extra: int) -> None:
    block = np.arange((rows + 1) * (columns + extra), dtype=np.float32).reshape(rows + 1, -1)
    width = gemm.padded(columns) if fill else 0
    out_row = max(width, columns) + 2
    out = guarded(rows, out_row - 2, 2)
    gemm.copy_block(
        out.reshape(-1), out_row, out_row, block.reshape(-1), 0, block.shape[1], rows, columns,
        width,
    )  # fmt: skip
    expected = guarded(rows, out_row - 2, 2)
    expected[1 : rows + 1, : max(width, columns)] = 0
    expected[1 : rows + 1, :columns] = block[:rows, :columns]
    np.testing.assert_array_equal(out, expected)


def panels_of(b: np.ndarray) -> np.ndarray:
    """What both kinds of packing should make of b [K, N]."""
    K, N = b.shape
    parts = []
    for column in range(0, N, WIDTH):
        part = b[:, column : column + WIDTH]
        missing = gemm.padded(part.shape[1]) - part.shape[1]
        parts.append(np.pad(part, ((0, 0), (0, missing))).reshape(-1))
    found = np.concatenate(parts)
    assert len(found) == gemm.packed_size(K, N)
    return found


@settings(max_examples=60, deadline=None)
@given(depth=SIZES, columns=SIZES, transposed=st.booleans())
def test_packing(depth: int, columns: int, transposed: bool) -> None:
    b = whole(np.random.default_rng(depth), depth, columns)
    panels = np.full(gemm.packed_size(depth, columns), np.nan, np.float32)
    source = np.ascontiguousarray(b.T) if transposed else b
    pack = gemm.pack_transposed if transposed else gemm.pack
    cut = min(columns, WIDTH)
    pack(panels, source, 0, cut)  # in two goes, as threads do
    if cut < columns:
        pack(panels, source, cut, columns)
    np.testing.assert_array_equal(panels, panels_of(b))


# ---- products --------------------------------------------------------------------------------


def scratch() -> np.ndarray:
    return np.full(gemm.scratch_size(), np.nan, np.float32)


def check_panels(rows: int, depth: int, columns: int, first: int, last: int, add: bool) -> None:
    rng = np.random.default_rng(rows + depth + columns)
    a, b = whole(rng, rows, depth), whole(rng, depth, columns)
    bias = np.zeros(gemm.padded(columns), np.float32)
    bias[:columns] = whole(rng, columns)
    before = whole(rng, rows, columns)
    memory = np.full(rows * columns + 2 * WIDTH, GUARD, np.float32)
    out = memory[WIDTH:-WIDTH].reshape(rows, columns)
    out[...] = before
    gemm.multiply_panels(out, a, panels_of(b), bias, add, scratch(), first, last)
    expected = before.copy()
    expected[first:last] = (before if add else bias[:columns] + 0 * before)[first:last]
    expected[first:last] += (a @ b)[first:last]
    np.testing.assert_array_equal(out, expected)
    assert (memory[:WIDTH] == GUARD).all()
    assert (memory[-WIDTH:] == GUARD).all()


@settings(max_examples=80, deadline=None)
@given(rows=st.integers(1, 40), depth=SIZES, columns=SIZES, add=st.booleans(), data=st.data())
def test_multiply_panels(
    rows: int, depth: int, columns: int, add: bool, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, rows - 1))
    check_panels(rows, depth, columns, first, data.draw(st.integers(first, rows)), add)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("columns", [1, WIDTH + 3])
def test_multiply_panels_beyond_one_block(columns: int, add: bool) -> None:
    check_panels(ROWS + 5, 2 * DEPTH + 3, columns, 0, ROWS + 5, add)
    check_panels(2, DEPTH, columns, 0, 2, add)


def check_columns(rows: int, height: int, columns: int, ranges: tuple[int, int, int, int]) -> None:
    """out [rows, columns] += aᵀ b over `height` rows of each."""
    rng = np.random.default_rng(rows + height + columns)
    a, b = whole(rng, height, rows), whole(rng, height, columns)
    first, last, left, right = ranges
    before = whole(rng, rows, columns)
    memory = np.full(rows * columns + 2 * WIDTH, GUARD, np.float32)
    out = memory[WIDTH:-WIDTH].reshape(rows, columns)
    out[...] = before
    gemm.multiply_columns(out, a, b, scratch(), *ranges)
    expected = before.copy()
    expected[first:last, left:right] += (a.T @ b)[first:last, left:right]
    np.testing.assert_array_equal(out, expected)
    assert (memory[:WIDTH] == GUARD).all()
    assert (memory[-WIDTH:] == GUARD).all()


@settings(max_examples=80, deadline=None)
@given(rows=SIZES, height=st.integers(1, 40), columns=SIZES, data=st.data())
def test_multiply_columns(rows: int, height: int, columns: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, rows))
    last = data.draw(st.integers(first, rows))
    left = data.draw(st.integers(0, columns))
    ranges = (first, last, left, data.draw(st.integers(left, columns)))
    check_columns(rows, height, columns, ranges)


def test_multiply_columns_beyond_one_block() -> None:
    for rows, height, columns in (
        (PACKED + 3, HEIGHT + 2, gemm.BREADTH + 5),
        (1, 2 * HEIGHT, gemm.BREADTH),
        (2 * PACKED, 1, 3),
    ):
        check_columns(rows, height, columns, (0, rows, 0, columns))
