"""Dropout: its mask, bit for bit and as statistics, and the layer over it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastseq.errors import SettingsError
from fastseq.kernels.nn.dropout import drop, drop_rows
from fastseq.nn.layers import Dropout, dropped, limit_and_scale
from fastseq.seeds import mixed_key
from fastseq.threads import Team
from tests.naive import dropout as naive


def mask(count: int, rate: float, key: int) -> np.ndarray:
    out = np.empty(count, np.float32)
    dropped(out, np.ones_like(out), rate, key)
    return out


@pytest.mark.parametrize("count", [1, 7, 16, 65, 300])
@pytest.mark.parametrize("key", [0, 1, 2**64 - 1, 0x0123456789ABCDEF])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_mask_matches_the_naive_twin(count: int, key: int, rate: float) -> None:
    np.testing.assert_allclose(mask(count, rate, key), naive.mask(count, rate, key), rtol=1e-6)


def test_elements_past_two_to_the_32_have_masks_of_their_own() -> None:
    """On the end of an array whose beginning does not exist."""
    start = 2**32 - 40
    high = naive.mask(80, 0.5, 9, start)
    assert (high[40:] != naive.mask(40, 0.5, 9)).any()
    out = np.ones(80, np.float32)
    far = _at(out.ctypes.data - 4 * start, start + 80)
    drop(far, far, np.uint64(9), np.int32(0), np.float32(2), start, start + 80)
    np.testing.assert_array_equal(out, high)


def _at(address: int, count: int) -> np.ndarray:
    """float32[count] said to begin at an address; only what is really there may be touched."""
    interface = {"data": (address, False), "shape": (count,), "typestr": "<f4", "version": 3}
    return np.asarray(type("Memory", (), {"__array_interface__": interface})())


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 0.99])
def test_dropout_rate_is_met(rate: float) -> None:
    n = 1 << 20
    values = mask(n, rate, 5)
    dropped_part = (values == 0).mean()
    assert abs(dropped_part - rate) < 5 * math.sqrt(rate * (1 - rate) / n)
    np.testing.assert_allclose(values[values != 0], 1 / (1 - rate), rtol=1e-6)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_masks_are_uncorrelated() -> None:
    n = 1 << 18
    limit = 5 / math.sqrt(n)
    first = mask(n, 0.5, 1)
    for distance in (1, 2, 16, 64, 128, 256, 1024, 65536):
        assert abs(correlation(first[:-distance], first[distance:])) < 1.1 * limit
    keys = [1 + (1 << i) for i in range(64)] + [2, 3, 100]
    for key in keys:
        other = mask(n, 0.5, key)
        assert abs(correlation(first, other)) < limit, key
        for distance in (1, 16, 128):
            assert abs(correlation(first[:-distance], other[distance:])) < limit, key


def test_every_element_is_dropped_equally_often() -> None:
    """Over many keys, such as the steps of a training, no place is favoured."""
    keys, width = 4000, 512
    kept = np.zeros(width)
    for step in range(keys):
        kept += mask(width, 0.25, mixed_key(7, step, 0)) > 0
    z = (kept - 0.75 * keys) / math.sqrt(keys * 0.75 * 0.25)
    assert abs(z).max() < 5
    assert 0.8 < (z**2).mean() < 1.2  # as spread as chance has it: not more evenly either


def test_forward_and_backward_use_one_mask() -> None:
    layer = Dropout(0.4)
    x = np.random.default_rng(0).standard_normal((7, 65)).astype(np.float32)
    before = x.copy()
    y = layer.forward(x, True, 11)
    dy = np.random.default_rng(1).standard_normal((7, 65)).astype(np.float32)
    dx = layer.backward(dy)
    expected = naive.mask(x.size, 0.4, 11).reshape(x.shape)
    np.testing.assert_allclose(y, x * expected, rtol=1e-6)
    np.testing.assert_allclose(dx, dy * expected, rtol=1e-6)
    np.testing.assert_array_equal(x, before)


def test_in_place_equals_out_of_place() -> None:
    layer = Dropout(0.4)
    x = np.random.default_rng(0).standard_normal((7, 65)).astype(np.float32)
    y = layer.forward(x, True, 11)
    assert layer.forward(x, True, 11, out=x) is x
    np.testing.assert_array_equal(x, y)
    again = layer.backward(x, out=x)
    assert again is x
    np.testing.assert_allclose(x, y / np.float32(0.6), rtol=1e-6)


def test_prediction_and_rate_zero_are_the_identity_without_a_copy() -> None:
    x = np.ones((2, 3), np.float32)
    assert Dropout(0.5).forward(x, training=False) is x
    layer = Dropout(0.0)
    assert layer.forward(x, True, 1) is x
    assert layer.backward(x) is x


@pytest.mark.parametrize("size", [1, 7, 16, 65])
def test_rows_in_another_order_keep_their_masks(size: int) -> None:
    x = np.random.default_rng(0).standard_normal((20, size)).astype(np.float32)
    expected = np.empty_like(x)
    dropped(expected, x, 0.4, 11)
    order = np.random.default_rng(1).permutation(20)
    packed = x[order]
    limit, scale = limit_and_scale(0.4)
    drop_rows(packed, order, np.uint64(11), limit, scale, 0, 12)
    drop_rows(packed, order, np.uint64(11), limit, scale, 12, 20)
    np.testing.assert_array_equal(packed, expected[order])


def test_dropped_infinities_and_nans_are_zeros() -> None:
    x = np.full(64, np.inf, np.float32)
    x[::2] = np.nan
    out = np.empty_like(x)
    dropped(out, x, 0.5, 3)
    gone = naive.mask(64, 0.5, 3) == 0
    np.testing.assert_array_equal(out[gone], 0)
    np.testing.assert_array_equal(out[~gone], x[~gone])


def test_results_do_not_depend_on_threads() -> None:
    x = np.ones(1_500_001, np.float32)
    outs = [np.empty_like(x) for _ in range(3)]
    for out, threads in zip(outs, (1, 2, 5), strict=True):
        dropped(out, x, 0.3, 4, Team(threads))
        np.testing.assert_array_equal(out, outs[0])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, math.nan])
def test_out_of_range_rates_are_rejected(rate: float) -> None:
    with pytest.raises(SettingsError, match="rate must be at least 0 and below 1"):
        Dropout(rate)
    with pytest.raises(SettingsError, match="rate must be at least 0 and below 1"):
        Dropout(rate)


def test_rate_near_one_drops_everything() -> None:
    out = mask(1000, 1 - 1e-12, 0)
    assert not out.any()


def test_backward_needs_forward() -> None:
    with pytest.raises(SettingsError, match="training=True"):
        Dropout(0.5).backward(np.ones(3, np.float32))


def test_keys_differ_by_every_part_and_their_order() -> None:
    keys = {
        mixed_key(seed, step, layer)
        for seed in range(-2, 8)
        for step in range(30)
        for layer in range(5)
    }
    assert len(keys) == 10 * 30 * 5
    assert mixed_key(1, 2) != mixed_key(2, 1)
    assert all(0 <= key < 2**64 for key in keys)
