"""Pooling on the device, forward and backward, compared with the CPU layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq.kernels.cuda.nn import pooling
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn.pooling import Pooling

F = np.float32
OFFSETS = np.array([0, 3, 4, 9])
B, N, COLUMNS = 3, 9, 6


@pytest.fixture(autouse=True)
def few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "COLUMNS", 4)
    monkeypatch.setattr(pooling, "ROW", 4)


def case(kind: str, **settings: Any) -> tuple[Pooling, Any, Any, Any, Any]:
    """The layer, its x, y, dy and dx."""
    rng = np.random.default_rng(3)
    layer = Pooling(kind, COLUMNS, **settings)
    x = rng.normal(size=(N, COLUMNS)).astype(F)
    dy = rng.normal(size=(B, COLUMNS)).astype(F)
    y = layer.forward(x, OFFSETS)
    return layer, x, y, dy, layer.backward(dy)


def offsets() -> Any:
    return memory.put(OFFSETS.astype(np.int32))


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(memory.get(found), expected, atol=2e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_last(bidirectional: bool) -> None:
    _, x, expected, dy, expected_dx = case("last", bidirectional=bidirectional)
    half = COLUMNS // 2 if bidirectional else COLUMNS
    y, dx = memory.empty((B, COLUMNS)), memory.empty((N, COLUMNS))
    pooling.last_rows(y, memory.put(x), offsets(), half)
    pooling.last_rows_backward(dx, memory.put(dy), offsets(), half)
    close(y, expected)
    close(dx, expected_dx)


def test_max() -> None:
    _, x, expected, dy, expected_dx = case("max")
    y, dx = memory.empty((B, COLUMNS)), memory.empty((N, COLUMNS))
    rows = memory.empty((B, COLUMNS), np.int32)
    pooling.segment_maxima(y, rows, memory.put(x), offsets())
    pooling.segment_maxima_backward(dx, memory.put(dy), rows, offsets())
    close(y, expected)
    close(dx, expected_dx)


def test_maximum_takes_the_first_of_ties_and_of_nan() -> None:
    x = np.ones((N, COLUMNS), F)
    x[5, 0] = x[7, 0] = np.nan
    x[6, 1] = 2
    y, rows = memory.empty((B, COLUMNS)), memory.empty((B, COLUMNS), np.int32)
    pooling.segment_maxima(y, rows, memory.put(x), offsets())
    found = memory.get(rows)
    assert found[0].tolist() == [0] * COLUMNS
    assert found[2, :3].tolist() == [5, 6, 4]
    assert np.isnan(memory.get(y)[2, 0])


def test_mean() -> None:
    _, x, expected, dy, expected_dx = case("mean")
    y, dx, weights = memory.empty((B, COLUMNS)), memory.empty((N, COLUMNS)), memory.empty(N)
    pooling.mean_weights(weights, offsets())
    pooling.segment_sums(y, memory.put(x), weights, offsets())
    pooling.segment_spread(dx, memory.put(dy), weights, offsets())
    close(y, expected)
    close(dx, expected_dx)


def test_attention() -> None:
    layer, x, expected, dy, expected_dx = case("attention", attention=5)
    weight, bias, vector = (layer.values[name] for name in ("weight", "bias", "vector"))
    there, at = memory.put(x), offsets()
    u = memory.put(x @ weight.T + bias)
    scores, weights, y = memory.empty(N), memory.empty(N), memory.empty((B, COLUMNS))
    pooling.attention_scores(scores, u, memory.put(vector))
    pooling.segment_softmax(weights, scores, at)
    pooling.segment_sums(y, there, weights, at)
    close(y, expected)
    dx, slopes = memory.empty((N, COLUMNS)), memory.put(dy)
    dweights, dscores = memory.empty(N), memory.empty(N)
    pooling.segment_spread(dx, slopes, weights, at)
    pooling.segment_products(dweights, there, slopes, at)
    pooling.segment_softmax_backward(dscores, weights, dweights, at)
    tanh_u = memory.get(u)
    pooling.attention_scores_backward(u, dscores, memory.put(vector))
    before = memory.get(u)
    close(dx, expected_dx - before @ weight)
    np.testing.assert_allclose(memory.get(dscores) @ tanh_u, layer.grads["vector"], atol=2e-6)
    np.testing.assert_allclose(before.T @ x, layer.grads["weight"], atol=2e-6)


def test_mismatched_arguments_are_rejected() -> None:
    def zeros(*shape: int) -> Any:
        return memory.zeros(shape)

    rows, pooled, numbers = zeros(N, COLUMNS), zeros(B, COLUMNS), zeros(N)
    maxima = memory.zeros((B, COLUMNS), np.int32)
    for call in (
        lambda: pooling.segment_sums(zeros(B, 2), rows, numbers, offsets()),
        lambda: pooling.segment_sums(pooled, rows, zeros(3), offsets()),
        lambda: pooling.segment_spread(rows, zeros(2, COLUMNS), numbers, offsets()),
        lambda: pooling.segment_maxima(pooled, maxima, zeros(N, 2), offsets()),
        lambda: pooling.segment_maxima_backward(rows, zeros(2, COLUMNS), maxima, offsets()),
        lambda: pooling.last_rows(zeros(2, COLUMNS), rows, offsets(), 3),
        lambda: pooling.last_rows_backward(zeros(N, 2), pooled, offsets(), 3),
        lambda: pooling.segment_products(zeros(2), rows, pooled, offsets()),
        lambda: pooling.attention_scores(numbers, rows, zeros(2)),
        lambda: pooling.attention_scores_backward(rows, zeros(2), zeros(COLUMNS)),
        lambda: pooling.segment_softmax(numbers, zeros(2), offsets()),
        lambda: pooling.segment_softmax_backward(numbers, numbers, zeros(2), offsets()),
    ):
        with pytest.raises(ValueError, match=r"of|numbers"):
            call()


def test_empty_batch() -> None:
    none = memory.put(np.zeros(1, np.int32))
    pooling.mean_weights(memory.zeros(0), none)
    pooling.segment_softmax(memory.zeros(0), memory.zeros(0), none)
    pooling.segment_sums(memory.zeros((0, 4)), memory.zeros((0, 4)), memory.zeros(0), none)
