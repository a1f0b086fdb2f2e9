"""Softmax, cross-entropy and squared errors on the device match the CPU's."""

from __future__ import annotations

import numpy as np
import pytest

from fastseq.kernels.cuda.nn import softmax
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import losses

F = np.float32


def logits_of(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4, (rows, columns)).astype(F)


@pytest.fixture(autouse=True)
def few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "THREADS", 16)


@pytest.mark.parametrize("columns", [1, 2, 5, 40])
def test_softmax(columns: int) -> None:
    x = logits_of(3, columns)
    x[1] *= 50
    x[2, 0] = -np.inf if columns > 1 else 1
    there = memory.put(x)
    softmax.softmax_rows(there)
    np.testing.assert_allclose(memory.get(there), losses.softmax(x), rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("columns", [2, 7, 33])
def test_cross_entropy(columns: int, gradient: bool) -> None:
    x = logits_of(4, columns)
    targets = np.array([1, -1, columns - 1, 0], np.int32)
    expected = x.copy()
    loss = losses.softmax_cross_entropy(expected, targets, want_gradient=gradient)
    shares = (targets >= 0) / 3
    there, found = memory.put(x), memory.empty(4, np.float64)
    softmax.cross_entropy_rows(
        found, there, memory.put(targets), memory.put(shares.astype(F)), gradient
    )
    each = memory.get(found)
    assert each[1] == 0
    assert float((each * shares).sum()) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(memory.get(there), expected, atol=1e-7)


def test_nan_logit_is_detected() -> None:
    x = logits_of(2, 5)
    x[0, 3] = np.nan
    there, found = memory.put(x), memory.empty(2, np.float64)
    targets, shares = memory.put(np.zeros(2, np.int32)), memory.put(np.ones(2, F))
    softmax.cross_entropy_rows(found, there, targets, shares, True)
    each = memory.get(found)
    assert np.isnan(each[0])
    assert np.isfinite(each[1])


@pytest.mark.parametrize("size", [0, 1, 50])
def test_squared_errors(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "SUMMED", 32)
    rng = np.random.default_rng(size)
    y, wanted = rng.normal(size=(2, size)).astype(F)
    there = memory.put(y)
    parts = softmax.squared_errors(there, memory.put(wanted), 2 / max(size, 1), True)
    total = memory.get(parts).sum()
    expected = y.copy()
    loss = losses.mean_squared_error(expected, wanted)
    assert total / max(size, 1) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(memory.get(there), expected, rtol=1e-6)
    before = memory.get(there)
    softmax.squared_errors(there, memory.put(wanted), 1.0, False)
    assert (memory.get(there) == before).all()


def test_arrays_that_do_not_match_are_rejected() -> None:
    with pytest.raises(ValueError, match="3 numbers and 2"):
        softmax.squared_errors(memory.zeros(3), memory.zeros(2), 1.0, False)
