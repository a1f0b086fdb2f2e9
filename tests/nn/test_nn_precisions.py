"""Products of bfloat16 and of bytes: against whole numbers, and NumPy's own rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core import width
from fastseq.kernels.nn.words import to_bfloat16, to_bytes
from fastseq.nn.precisions import PRECISIONS, has_instructions
from fastseq.threads import Team
from tests.widths import OTHERS, outputs

Float = np.ndarray
SIZES = [(1, 1, 1), (7, 5, 3), (13, 30, 50), (100, 67, 19), (5, 2100, 40)]  # N, K, M


def drawn(seed: int, *shape: int) -> Float:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rounded(x: Float) -> Float:
    """The nearest bfloat16 of each number, ties to even, in float64."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8)


def product(kind: str, weight: Float, bias: Float, x: Float) -> Float:
    out = np.full((len(x), len(weight)), np.nan, np.float32)
    PRECISIONS[kind](weight, bias, Team(1))(out, x)
    return out


@pytest.mark.parametrize("sizes", SIZES)
def test_bfloat16_is_the_product_of_rounded_numbers(sizes: tuple[int, int, int]) -> None:
    N, K, M = sizes
    x, weight, bias = drawn(0, N, K), drawn(1, M, K), drawn(2, M)
    expected = rounded(x) @ rounded(weight).T + bias
    found = product("bfloat16", weight, bias, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * K)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bfloat16_rounds_to_the_nearest(numbers: list[float]) -> None:
    x = np.array([numbers], np.float32)
    x = x[:, (np.abs(x[0]) < 3e38) & ((x[0] == 0) | (np.abs(x[0]) > 1e-30))]
    out = np.full((1, x.shape[1] + x.shape[1] % 2), 7, np.uint16)
    to_bfloat16(out, x, 0, 1)
    found = (out.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found[:, : x.shape[1]], rounded(x))
    assert not out[:, x.shape[1] :].any()


@pytest.mark.parametrize("sizes", SIZES)
def test_int8_is_the_product_of_whole_numbers(sizes: tuple[int, int, int]) -> None:
    N, K, M = sizes
    x, weight, bias = drawn(0, N, K), drawn(1, M, K), drawn(2, M)
    weight[0] = 0.0  # a column without a step
    x[0] = 3.0  # a row without one
    low = x.min(1, keepdims=True).astype(np.float64)
    step = (x.max(1, keepdims=True) - low) / 255
    q = np.rint((x - low) / np.where(step, step, 1))
    largest = np.abs(weight).max(1, keepdims=True).astype(np.float64)
    weight_step = np.where(largest, largest / 127, 1)
    w = np.rint(weight / weight_step)
    # numbers in the middle of two steps may be rounded either way in float32
    slack = ((np.abs((x - low) / np.where(step, step, 1) - q) > 0.4999) * step).sum(1).max()
    expected = (q * step + low) @ (w * weight_step).T + bias
    found = product("int8", weight, bias, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * K + slack * largest.max())


@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_bytes_are_within_half_a_step(width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((3, width)) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    out = np.full((3, -(-width // 4) * 4), 7, np.uint8)
    scales, lows = np.empty((2, 3), np.float32)
    to_bytes(out, scales, lows, x, 0, 3)
    found = lows[:, None] + scales[:, None] * out[:, :width].astype(np.float64)
    assert (np.abs(found - x) <= scales[:, None] * 0.501).all()
    np.testing.assert_array_equal(lows, x.min(1))
    assert (out[:, :width].max(1) == np.where(x.max(1) > x.min(1), 255, 0)).all()
    assert not out[:, width:].any()


def test_sums_of_bytes_do_not_overflow() -> None:
    x = np.tile(np.float32([0, 255]), (9, 1000))
    weight = np.full((20, 2000), -127, np.float32)
    weight[::2] = 127
    expected = np.where(np.arange(20) % 2, -127.0, 127.0) * 255 * 1000
    np.testing.assert_array_equal(product("int8", weight, np.zeros(20, np.float32), x)[3], expected)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_a_row_has_the_same_bits_in_any_batch(kind: str) -> None:
    x, weight, bias = drawn(0, 130, 70), drawn(1, 33, 70), drawn(2, 33)
    together = product(kind, weight, bias, x)
    for row in (0, 1, 95, 96, 129):
        np.testing.assert_array_equal(
            product(kind, weight, bias, x[row : row + 1])[0], together[row]
        )


def test_nan_remains_nan() -> None:
    x, weight, bias = drawn(0, 3, 8), drawn(1, 4, 8), drawn(2, 4)
    x[1, 2] = np.nan
    for kind in ("bfloat16", "int8"):
        found = product(kind, weight, bias, x)
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[[0, 2]]).all()


def test_instructions_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width, "PORTABLE", False)
    monkeypatch.setattr(width, "LANES", 16)
    has = {"avx512vnni": True, "avx512bf16": True}
    monkeypatch.setattr(width, "host_features", lambda: has)
    assert width._word_instructions() == {"bytes", "bfloat16"}
    has["avx512bf16"] = False
    assert width._word_instructions() == {"bytes"}
    monkeypatch.setattr(width, "LANES", 8)
    assert width._word_instructions() == set()
    has["avxvnni"] = True
    assert width._word_instructions() == {"bytes"}
    monkeypatch.setattr(width, "PORTABLE", True)
    assert width._word_instructions() == set()
    assert has_instructions("float32")


DIGEST = """
import zlib
import numpy as np
from fastseq.nn.precisions import Bfloat16Product, Int8Product
from fastseq.threads import Team
x, weight = np.random.default_rng(5).standard_normal((2, 61, 1030)).astype(np.float32)
out = np.empty((61, 61), np.float32)
Int8Product(weight, x[:, 0].copy(), Team(1))(out, x)
print(zlib.crc32(out.tobytes()))
Bfloat16Product(weight, x[:, 0].copy(), Team(1))(out, x)
print(*out[7].tolist())
"""


def test_every_machine_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of bytes have the same bits with any width, and with and without instructions."""
    found = list(outputs(OTHERS[:1], "-c", DIGEST).values())
    here = (width.LANES,)
    found += outputs(here, "-c", DIGEST).values()
    if width.WORD_INSTRUCTIONS:
        monkeypatch.setenv("FASTSEQ_WORDS", "portable")
        found += outputs(here, "-c", DIGEST).values()
    lines = [text.splitlines() for text in found]
    assert len({first for first, _ in lines}) == 1
    rows = np.array([second.split() for _, second in lines], float)
    np.testing.assert_allclose(rows[1:], np.broadcast_to(rows[0], rows[1:].shape), atol=2e-3)
