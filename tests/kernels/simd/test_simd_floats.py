"""Every operation on vectors of simd/floats.py against NumPy; test_simd_widths.py runs this file
again for each other width."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError

from fastseq.kernels.core.jit import helper
from fastseq.kernels.core.width import LANES, WIDTHS
from fastseq.kernels.simd import floats as module
from fastseq.kernels.simd.floats import (
    absolute,
    any_lane,
    bits,
    fma,
    from_bits,
    lane_numbers,
    largest_lane,
    load,
    load_part,
    maximum,
    minimum,
    select,
    splat,
    splat_int,
    square_root,
    store,
    store_low,
    store_low_part,
    store_part,
    sum_lanes,
    to_float,
)

SPECIAL = np.float32([0.0, 1.0, 0.5, 1.5, 2.5, 7.25, 3e38, 1e-40, 1e-45, 2.0**-126, np.inf, np.nan])
SPECIAL = np.concatenate([SPECIAL, -SPECIAL])
GUARD = np.float32(-777.0)  # around what is stored: nothing else may be touched


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Each pair of special values, and random ones, padded to whole vectors."""
    x, y = (grid.ravel() for grid in np.meshgrid(SPECIAL, SPECIAL))
    random = np.random.default_rng(5).normal(size=(2, 448)).astype(np.float32) * 100
    return np.concatenate([x, random[0]]), np.concatenate([y, random[1]])


def int_pairs() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(6).integers(-(2**31), 2**31, (2, 256)).astype(np.int32)
    random[0, :64] = random[1, :64]
    return random[0], random[1]


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal in every bit, but for the bits inside a NaN."""
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    if found.dtype == np.float32:
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(expected[number]))


def test_width_is_a_supported_one() -> None:
    assert LANES in WIDTHS


# ---- operators ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [operator.add, operator.sub, operator.mul, operator.truediv],
    ids=lambda f: f.__name__,
)
def test_arithmetic(function: Callable[..., Any]) -> None:
    @helper
    def kernel(out, x, y, single, double, whole):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            a, b = load(x, i), load(y, i)
            store(out[0], i, function(a, b))
            store(out[1], i, function(a, single))
            store(out[2], i, function(double, b))
            store(out[3], i, function(a, whole))
            store(out[4], i, function(0.1, b))

    x, y = pairs()
    out = np.empty((5, len(x)), np.float32)
    kernel(out, x, y, np.float32(0.3), 0.7, 3)
    tenth = np.float32(0.1)
    with np.errstate(all="ignore"):
        assert_same(out[0], function(x, y))
        assert_same(out[1], function(x, np.float32(0.3)))
        assert_same(out[2], function(np.float32(0.7), y))
        assert_same(out[3], function(x, np.float32(3)))
        assert_same(out[4], function(tenth, y))


COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


@pytest.mark.parametrize("function", COMPARISONS, ids=lambda f: f.__name__)
def test_comparisons(function: Callable[..., Any]) -> None:
    @helper
    def kernel(out, x, y, j, k):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            a, b = load(x, i), load(y, i)
            store(out[0], i, select(function(a, b), 1.0, 0.0))
            store(out[1], i, select(function(a, 1.5), 1.0, 0.0))
            store(out[2], i, select(function(1, b), 1.0, 0.0))
        for i in range(0, len(j), LANES):
            c, d = load(j, i), load(k, i)
            store(out[3], i, select(function(c, d), 1.0, 0.0))
            store(out[4], i, select(function(c, 5), 1.0, 0.0))
            store(out[5], i, select(function(-7, d), 1.0, 0.0))

    x, y = pairs()
    j, k = int_pairs()
    out = np.zeros((6, len(x)), np.float32)
    kernel(out, x, y, j, k)
    for row, expected in enumerate([function(x, y), function(x, 1.5), function(1, y)]):
        assert_same(out[row], expected.astype(np.float32))
    for row, expected in enumerate([function(j, k), function(j, 5), function(-7, k)]):
        assert_same(out[3 + row, : len(j)], expected.astype(np.float32))


@pytest.mark.parametrize(
    "function",
    [operator.add, operator.sub, operator.mul, operator.and_, operator.or_, operator.xor],
    ids=lambda f: f.__name__,
)
def test_integer_operations(function: Callable[..., Any]) -> None:
    @helper
    def kernel(out, x, y, scalar):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            a, b = load(x, i), load(y, i)
            store(out[0], i, function(a, b))
            store(out[1], i, function(a, scalar))
            store(out[2], i, function(0x123456, b))

    x, y = int_pairs()
    out = np.empty((3, len(x)), np.int32)
    kernel(out, x, y, -12345)
    assert_same(out[0], function(x, y))
    assert_same(out[1], function(x, np.int32(-12345)))
    assert_same(out[2], function(np.int32(0x123456), y))


def test_right_shifts_keep_the_sign() -> None:
    @helper
    def kernel(out, x, y):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            a, b = load(x, i), load(y, i) & 31
            store(out[0], i, a << b)
            store(out[1], i, a >> b)
            store(out[2], i, a << 23)
            store(out[3], i, 1 << b)

    x, y = int_pairs()
    out = np.empty((4, len(x)), np.int32)
    kernel(out, x, y)
    by = y & 31
    for row, expected in enumerate([x << by, x >> by, x << 23, np.int32(1) << by]):
        assert_same(out[row], expected)


def test_masks_and_signs() -> None:
    @helper
    def kernel(out, any_above, x, y):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            a, b = load(x, i), load(y, i)
            above, below = a > 0.0, b < 1.0
            store(out[0], i, select(above & below, a, b))
            store(out[1], i, select(above | below, a, -5.0))
            store(out[2], i, select(~above, 2, b))
            store(out[3], i, -a)
            store(out[4], i, to_float(select(above, bits(a) & 255, 7)))
            store(out[5], i, select(above, 3, 4))  # two plain numbers: float32
            any_above[i // LANES] = any_lane(above)

    x, y = pairs()
    x[:LANES], y[:LANES] = -1.0, 0.0
    x[LANES : 2 * LANES] = -1.0
    x[2 * LANES - 1], y[LANES : 2 * LANES - 1], y[2 * LANES - 1] = 1.0, 0.0, 1.0
    out, any_above = np.empty((6, len(x)), np.float32), np.zeros(len(x) // LANES, np.int64)
    kernel(out, any_above, x, y)
    above, below = x > 0, y < 1
    single = np.float32
    expected = [
        np.where(above & below, x, y),
        np.where(above | below, x, single(-5)),
        np.where(~above, single(2), y),
        -x,
        np.where(above, x.view(np.int32) & 255, 7).astype(single),
        np.where(above, single(3), single(4)),
    ]
    for row, each in enumerate(expected):
        assert_same(out[row], each)
    np.testing.assert_array_equal(any_above, above.reshape(-1, LANES).any(axis=1))
    assert any_above[:2].tolist() == [0, 1]


# ---- functions of lanes ---------------------------------------------------------------------


def test_lane_functions() -> None:
    @helper
    def kernel(out, x, y):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            a, b = load(x, i), load(y, i)
            store(out[0], i, minimum(a, b))
            store(out[1], i, maximum(a, b))
            store(out[2], i, minimum(1.0, b))
            store(out[3], i, maximum(a, -1))
            store(out[4], i, square_root(a))
            store(out[5], i, absolute(a))
            store(out[6], i, from_bits(bits(a) ^ -0x80000000))
            store(out[7], i, splat(2.5))

    x, y = pairs()
    out = np.empty((8, len(x)), np.float32)
    kernel(out, x, y)
    one = np.float32(1)
    with np.errstate(all="ignore"):
        expected = [
            np.where(x < y, x, y),
            np.where(x > y, x, y),
            np.where(one < y, one, y),
            np.where(x > -one, x, -one),
            np.sqrt(x),
            np.abs(x),
            -x,
            np.full_like(x, 2.5),
        ]
    for row, each in enumerate(expected):
        assert_same(out[row], each)


def test_fma_rounds_once_or_as_a_product_and_a_sum() -> None:
    @helper
    def kernel(out, x, y, z):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            store(out[0], i, fma(load(x, i), load(y, i), load(z, i)))
            store(out[1], i, fma(load(x, i), 0.5, -1))

    random = np.random.default_rng(7)
    # multiples of 2^-23 below 4: the float64 of product and sum is exact
    x, y, z = (random.integers(2**23, 2**24, (3, 4096)) * 2.0**-23).astype(np.float32)
    z -= np.float32(3.0)
    out = np.empty((2, len(x)), np.float32)
    kernel(out, x, y, z)
    once = (x.astype(np.float64) * y + z).astype(np.float32)
    twice = x * y + z
    assert (once != twice).any()
    assert (out[0] == once).all() or (out[0] == twice).all()
    assert_same(out[1], x * np.float32(0.5) - 1)  # the product exact: both ways the same


def test_conversions() -> None:
    @helper
    def kernel(out, whole, x, j):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), LANES):
            store(whole[0], i, bits(load(x, i)))
            store(whole[1], i, lane_numbers() + splat_int(i))
            store(out[0], i, to_float(load(j, i)))
            store(out[1], i, from_bits(load(j, i)))

    x = np.random.default_rng(8).uniform(-2e9, 2e9, 256).astype(np.float32)
    x[:4] = 1.9, -1.9, -0.0, 2147483520.0
    j = int_pairs()[0]
    out, whole = np.empty((2, 256), np.float32), np.empty((2, 256), np.int32)
    kernel(out, whole, x, j)
    assert_same(whole[0], x.view(np.int32))
    assert_same(whole[1], np.arange(256, dtype=np.int32))
    assert_same(out[0], j.astype(np.float32))
    np.testing.assert_array_equal(out[1].view(np.int32), j)


# ---- loading, storing, over the lanes -------------------------------------------------------


@helper
def part(out, x, start, count):  # type: ignore[no-untyped-def]
    vector = load_part(x, start, count)
    store(out, 0, vector)
    store_part(out, LANES + start, vector + 1.0, count)


def test_partial_loads_and_stores_touch_nothing_else() -> None:
    for count in range(LANES + 1):
        for start in (0, 1, 3):
            # exactly as long as is read: a byte past its end would be another array's
            x = np.arange(1, start + count + 1, dtype=np.float32)
            out = np.full(3 * LANES + 8, GUARD)
            part(out, x, start, count)
            expected = np.full_like(out, GUARD)
            expected[:LANES] = 0.0
            expected[:count] = x[start:]
            expected[LANES + start :][:count] = x[start:] + 1
            assert_same(out, expected)


@helper
def over_lanes(out, x):  # type: ignore[no-untyped-def]
    for i in range(0, len(x), LANES):
        out[0, i // LANES] = sum_lanes(load(x, i))
        out[1, i // LANES] = largest_lane(load(x, i))


def halves(x: np.ndarray) -> np.ndarray:
    """The sum of each row, its right half added to its left until one is left."""
    while x.shape[1] > 1:
        middle = x.shape[1] // 2
        x = x[:, :middle] + x[:, middle:]
    return x[:, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40))
def test_sums_have_one_order(numbers: list[float]) -> None:
    x = np.resize(np.array(numbers, np.float32), -(-len(numbers) // LANES) * LANES)
    out = np.empty((2, len(x) // LANES), np.float32)
    over_lanes(out, x)
    rows = x.reshape(-1, LANES)
    np.testing.assert_array_equal(out[0], halves(rows))
    np.testing.assert_array_equal(out[1], rows.max(axis=1))


def test_test_data_reveals_the_order_of_a_sum() -> None:
    """Numbers whose sum depends on the order, so that the test above can fail."""
    x = np.random.default_rng(9).normal(size=64 * LANES).astype(np.float32)
    out = np.empty((2, 64), np.float32)
    over_lanes(out, x)
    rows = x.reshape(-1, LANES)
    assert_same(out[0], halves(rows))
    assert (halves(rows) != np.add.accumulate(rows, axis=1)[:, -1]).any()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_low_bits_are_stored(kind: type) -> None:
    @helper
    def stored(out, part, x, count):  # type: ignore[no-untyped-def]
        store_low(out, 1, load(x, 0))
        store_low_part(part, 1, load(x, 0), count)

    x = np.random.default_rng(7).integers(-(2**31), 2**31, LANES).astype(np.int32)
    for count in (1, LANES - 1):
        out, part = np.full((2, LANES + 2), 77, kind)
        stored(out, part, x, count)
        expected = np.full(LANES + 2, 77, kind)
        expected[1:-1] = x.astype(kind)
        assert_same(out, expected)
        expected[1 + count :] = 77
        assert_same(part, expected)


# ---- what is refused ------------------------------------------------------------------------


def test_mismatched_types_are_rejected() -> None:
    @helper
    def mixed(x, j):  # type: ignore[no-untyped-def]
        store(x, 0, load(x, 0) + load(j, 0))

    @helper
    def fraction(j):  # type: ignore[no-untyped-def]
        store(j, 0, load(j, 0) + 0.5)

    @helper
    def copied(out, x):  # type: ignore[no-untyped-def]
        store(out, 0, load(x, 0))

    @helper
    def copied_part(out, x):  # type: ignore[no-untyped-def]
        store_part(out, 0, load_part(x, 0, 1), 1)

    @helper
    def low(out, j):  # type: ignore[no-untyped-def]
        store_low(out, 0, load(j, 0))

    single, whole = np.zeros(LANES, np.float32), np.zeros(LANES, np.int32)
    double = np.zeros(LANES)
    for kernel, arguments in [
        (mixed, (single, whole)),
        (fraction, (whole,)),
        (low, (whole, whole)),
        (copied, (single, double)),
        (copied, (double, single)),
        (copied, (whole, single)),
        (copied, (single, whole)),
        (copied_part, (single, double)),
        (copied_part, (double, single)),
    ]:
        with pytest.raises(TypingError):
            kernel(*arguments)


def test_every_operation_is_tested_here() -> None:
    offered = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and type(value).__name__ == "_Intrinsic"
    }
    assert len(offered) > 15
    assert offered <= set(globals())
