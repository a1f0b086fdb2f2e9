"""The kernels of layer normalisation, GELU and attention against their naive twins."""

from __future__ import annotations

import numpy as np
import pytest

from fastseq.kernels.nn.attention import (
    attention_backward,
    attention_forward,
    attention_scratch,
)
from fastseq.kernels.nn.gelu import gelu_backward, gelu_forward
from fastseq.kernels.nn.layer_norm import (
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_gradients,
)
from fastseq.kernels.nn.maxima import projected_maxima
from fastseq.kernels.simd.gemm import WIDTH
from fastseq.nn.layers import limit_and_scale
from fastseq.nn.products import Panels, padded_bias
from fastseq.threads import Team
from tests.naive import transformer as naive
from tests.naive.differences import central, relative_error
from tests.widths import OTHERS, run_tests

KEY = 0x0123456789ABCDEF
GUARD = 64  # floats past the end of scratch, which must stay


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- the twins, by central differences


def check_twin(forward, arguments: list[np.ndarray]) -> None:
    """The gradients of a twin's function, which returns y and dy -> gradients, are its slopes."""
    y, back = forward(*arguments)
    dy = np.random.default_rng(9).standard_normal(y.shape)
    found = back(dy)
    found = found if isinstance(found, tuple) else (found,)
    assert len(found) == len(arguments)
    for gradient, argument in zip(found, arguments, strict=True):
        expected = central(lambda: float((forward(*arguments)[0] * dy).sum()), argument)
        assert relative_error(gradient, expected) < 1e-6


def test_naive_twins_match_finite_differences() -> None:
    wide = [drawn(seed, *shape).astype(np.float64) for seed, shape in enumerate([(3, 5), (5,)])]
    check_twin(lambda *a: naive.layer_norm(*a, 1e-3), [*wide, wide[1].copy()])
    for is_tanh in (False, True):
        check_twin(lambda x: naive.gelu(x, is_tanh), [wide[0]])  # noqa: B023
    qkv, offsets = drawn(4, 6, 12).astype(np.float64), np.array([0, 4, 5, 6])
    for rate in (0.0, 0.4):
        check_twin(lambda x: naive.attention(x, offsets, 2, rate, 3), [qkv])  # noqa: B023


# ---- layer normalisation


@pytest.mark.parametrize("width", [1, 3, 8, 20, 33, 384])
@pytest.mark.parametrize("with_residual", [False, True])
def test_layer_norm_matches_the_twin(width: int, with_residual: bool) -> None:
    rows, eps = 9, 1e-2
    x, dy, gamma, beta = (drawn(i, *s) for i, s in enumerate([(rows, width)] * 2 + [(width,)] * 2))
    x += 30
    residual = drawn(5, rows if with_residual else 0, width)
    added = x + residual if with_residual else x.copy()
    expected, back = naive.layer_norm(added.astype(np.float64), gamma, beta, eps)
    out, mean, rstd = np.empty_like(x), np.empty(rows, np.float32), np.empty(rows, np.float32)
    for first, last in ((0, 4), (4, rows)):
        layer_norm_forward(out, mean, rstd, x, residual, gamma, beta, eps, first, last)
    assert relative_error(out, expected) < 1e-5
    np.testing.assert_array_equal(x, added)
    none = np.empty(0, np.float32)
    layer_norm_forward(x, none, none, x, residual[:0], gamma, beta, eps, 0, rows)
    np.testing.assert_array_equal(x, out)  # in place, nothing stored

    dgamma, dbeta = np.full(width, 0.5, np.float32), np.full(width, 0.5, np.float32)
    middle = min(width, 16)
    for first, last in ((0, middle), (middle, width)):
        layer_norm_gradients(dgamma, dbeta, dy, added, mean, rstd, first, last)
    dx = dy.copy()
    layer_norm_backward(dx, dx, added, mean, rstd, gamma, 0, rows)
    found = dx, dgamma - 0.5, dbeta - 0.5
    for value, gradient in zip(found, back(dy.astype(np.float64)), strict=True):
        assert np.abs(value - gradient).max() < 1e-4 * max(1e-2, np.abs(gradient).max())


def test_layer_norm_of_a_large_mean() -> None:
    """The squares of distances to the mean, not the mean of squares."""
    x = 4096 + drawn(0, 2, 64)
    gamma, none = np.ones(64, np.float32), np.empty(0, np.float32)
    expected = naive.layer_norm(x.astype(np.float64), gamma, 0 * gamma, 1e-12)[0]
    layer_norm_forward(x, none, none, x, x[:0], gamma, 0 * gamma, 1e-12, 0, 2)
    assert relative_error(x, expected) < 1e-3


# ---- GELU


@pytest.mark.parametrize("is_tanh", [False, True])
def test_gelu_matches_the_twin(is_tanh: bool) -> None:
    x = np.concatenate([np.linspace(-15, 15, 2001), [0, -1e-20, 1e4, -1e4]]).astype(np.float32)
    dy = drawn(1, len(x))
    expected, back = naive.gelu(x.astype(np.float64), is_tanh)
    y, dx = x.copy(), dy.copy()
    for first, last in ((0, 3), (3, len(x))):
        gelu_forward(y, y, is_tanh, first, last)
        gelu_backward(dx, dx, x, is_tanh, first, last)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dx, back(dy), rtol=1e-5, atol=1e-5)


# ---- attention


def attend(
    qkv: np.ndarray,
    lengths: list[int],
    heads: int,
    rate: float = 0.0,
    dout: np.ndarray | None = None,
    order: list[int] | None = None,
    ranges: list[tuple[int, int]] | None = None,
) -> tuple[np.ndarray, ...]:
    """out, and with dout also dqkv; NaN in all memory before."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    H, size = qkv.shape[1] // 3, qkv.shape[1] // 3 // heads
    limit, scale = limit_and_scale(rate)
    out = np.full((len(qkv), H), np.nan, np.float32)
    lse = np.full((len(qkv) if dout is not None else 0, heads), np.nan, np.float32)
    order_ = np.array(order or range(len(lengths)), np.int64)
    ranges = ranges or [(0, heads * len(lengths))]
    common = qkv, offsets, order_, heads, np.uint64(KEY), limit, scale

    def guarded(backward: bool) -> np.ndarray:
        used = attention_scratch(max(lengths), size, backward)
        return np.full(used + GUARD, np.nan, np.float32)

    scratch = guarded(False)
    for first, last in ranges:
        attention_forward(out, lse, *common, scratch, first, last)
    assert np.isnan(scratch[-GUARD:]).all()
    if dout is None:
        return (out,)
    scratch, dqkv = guarded(True), np.full(qkv.shape, np.nan, np.float32)
    for first, last in ranges:
        attention_backward(dqkv, dout, out, lse, *common, scratch, first, last)
    assert np.isnan(scratch[-GUARD:]).all()
    return out, dqkv


@pytest.mark.parametrize(
    ("heads", "size", "lengths", "rate"),
    [
        (1, 1, [1], 0.0),
        (2, 8, [5, 1, 30], 0.3),
        (3, 20, [100, 25, 24, 23, 300], 0.0),
        (2, 64, [128, 7, 15, 16, 17], 0.1),
        (1, 33, [47, 48, 49], 0.0),
    ],
)
def test_attention_matches_the_twin(heads: int, size: int, lengths: list[int], rate: float) -> None:
    qkv, dout = 2 * drawn(0, sum(lengths), 3 * heads * size), drawn(1, sum(lengths), heads * size)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    expected, back = naive.attention(qkv.astype(np.float64), offsets, heads, rate, KEY)
    out, dqkv = attend(qkv, lengths, heads, rate, dout)
    assert relative_error(out, expected) < 1e-5
    assert relative_error(dqkv, back(dout)) < 1e-5
    # the bits of both passes do not depend on the order of work or its cuts
    pairs = heads * len(lengths)
    order = list(range(len(lengths)))[::-1]
    cut = attend(qkv, lengths, heads, rate, dout, order, [(i, i + 1) for i in range(pairs)])
    np.testing.assert_array_equal(cut[0], out)
    np.testing.assert_array_equal(cut[1], dqkv)


def test_attention_of_a_sequence_does_not_depend_on_the_batch() -> None:
    lengths = [3, 70, 1, 129, 40]
    qkv = drawn(0, sum(lengths), 3 * 2 * 20)
    together = attend(qkv, lengths, 2)[0]
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        alone = attend(qkv[rows].copy(), [length], 2)[0]
        np.testing.assert_array_equal(alone, together[rows])
        start += length


def test_attention_with_large_scores() -> None:
    qkv = 100 * drawn(0, 40, 3 * 16)
    expected = naive.attention(qkv.astype(np.float64), np.array([0, 40]), 1)[0]
    assert relative_error(attend(qkv, [40], 1)[0], expected) < 1e-4


# ---- maxima of products


@pytest.mark.parametrize(("depth", "columns"), [(24, 150), (700, 70), (3, 1)])
def test_maxima_of_products_match_the_twin(depth: int, columns: int) -> None:
    lengths = [3, 1, 120, 96, 7]
    x, b, bias = drawn(1, sum(lengths), depth), drawn(2, columns, depth), drawn(3, columns)
    panels = Panels(depth, columns).pack(b, Team(1), transposed=True).data
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    expected = np.maximum.reduceat(x.astype(np.float64) @ b.T + bias, offsets[:-1], axis=0)
    out, block = np.empty((5, columns), np.float32), np.ones(len(x) * WIDTH + GUARD, np.float32)
    projected_maxima(out, x, panels, padded_bias(bias, columns), offsets, block)
    assert relative_error(out, expected) < 1e-5
    assert (block[-GUARD:] == 1).all()
    # a sequence has the same bits alone
    one = np.empty((1, columns), np.float32)
    rows = x[offsets[2] : offsets[3]].copy()
    projected_maxima(one, rows, panels, padded_bias(bias, columns), np.array([0, len(rows)]), block)
    np.testing.assert_array_equal(one[0], out[2])


@pytest.mark.parametrize("width", OTHERS)
def test_kernels_at_another_vector_width(width: int) -> None:
    run_tests([width], __file__, "-k", "twin")
