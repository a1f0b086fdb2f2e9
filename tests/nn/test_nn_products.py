"""Products shared by a team of threads, against NumPy and bit for bit against one thread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.nn.products import Panels, multiply, multiply_panels, multiply_rows
from fastseq.threads import Team

SIZES = st.integers(1, 9) | st.sampled_from([15, 16, 17, 63, 64, 65, 130])
TEAMS = [Team(threads) for threads in (1, 2, 3)]
LARGE = (203, 190, 131)  # more than SMALL multiply-adds for each of three threads


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole numbers, whose products and sums are exact."""
    return rng.integers(-8, 9, shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    rows=SIZES, depth=SIZES, columns=SIZES, transposed=st.booleans(), add=st.booleans(),
    biased=st.booleans(), threads=st.integers(0, 2),
)  # fmt: skip
def test_multiply(
    rows: int, depth: int, columns: int, transposed: bool, add: bool, biased: bool, threads: int
) -> None:
    rng = np.random.default_rng(rows * depth + columns)
    a, b, out = whole(rng, rows, depth), whole(rng, depth, columns), whole(rng, rows, columns)
    bias = whole(rng, columns) if biased else None
    expected = a @ b
    if add:
        expected += out  # and no bias, as it says
    elif bias is not None:
        expected += bias
    given_b = np.ascontiguousarray(b.T) if transposed else b
    multiply(out, a, given_b, TEAMS[threads], transposed=transposed, bias=bias, add=add)
    np.testing.assert_array_equal(out, expected)


@settings(max_examples=60, deadline=None)
@given(height=SIZES, rows=SIZES, columns=SIZES, threads=st.integers(0, 2))
def test_multiply_rows(height: int, rows: int, columns: int, threads: int) -> None:
    rng = np.random.default_rng(rows * height + columns)
    a, b, out = whole(rng, height, rows), whole(rng, height, columns), whole(rng, rows, columns)
    expected = out + a.T @ b
    multiply_rows(out, a, b, TEAMS[threads])
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("shape", [LARGE, (2000, 33, 65), (7, 2000, 300), (300, 7, 2000)])
def test_products_do_not_depend_on_threads(shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((rows, depth), dtype=np.float32)
    b = rng.standard_normal((depth, columns), dtype=np.float32)
    products, slopes = [], []
    for team in TEAMS:
        out = np.empty((rows, columns), np.float32)
        multiply(out, a, b, team)
        products.append(out)
        slope = np.zeros((depth, columns), np.float32)
        multiply_rows(slope, a, out, team)
        slopes.append(slope)
    wide = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(products[0], wide, atol=1e-5 * np.abs(wide).max())
    wide = a.T.astype(np.float64) @ products[0].astype(np.float64)
    np.testing.assert_allclose(slopes[0], wide, atol=1e-5 * np.abs(wide).max())
    for found in (products, slopes):
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("team", TEAMS)
def test_panels_are_packed_again_when_the_matrix_has_changed(team: Team) -> None:
    rng = np.random.default_rng(1)
    a, out = whole(rng, 5, 70), np.empty((5, 65), np.float32)
    panels = Panels(70, 65)
    for transposed in (False, True, False):
        b = whole(rng, 70, 65)
        packed = panels.pack(np.ascontiguousarray(b.T) if transposed else b, team, transposed)
        assert packed is panels
        multiply_panels(out, a, panels, team)
        np.testing.assert_array_equal(out, a @ b)


def test_empty_products() -> None:
    team = TEAMS[1]
    multiply(np.empty((0, 3), np.float32), np.empty((0, 4), np.float32), whole_of(4, 3), team)
    slope = whole_of(4, 3)
    multiply_rows(slope, np.empty((0, 4), np.float32), np.empty((0, 3), np.float32), team)
    np.testing.assert_array_equal(slope, whole_of(4, 3))
    out = np.full((2, 3), np.nan, np.float32)
    bias = np.arange(3, dtype=np.float32)
    multiply(out, np.empty((2, 0), np.float32), np.empty((0, 3), np.float32), team, bias=bias)
    np.testing.assert_array_equal(out, [bias, bias])


def whole_of(rows: int, columns: int) -> np.ndarray:
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
