"""Losses and their gradients against their naive twins, at ordinary and at extreme values."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.nn.layers import Dense, Embedding
from fastseq.nn.losses import (
    ProjectedCrossEntropy,
    mean_squared_error,
    softmax,
    softmax_cross_entropy,
)
from fastseq.threads import Team
from tests.naive import dense as naive_dense
from tests.naive import losses as naive
from tests.naive.differences import central, relative_error


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# ---- the twins, by central differences


def test_naive_cross_entropy_matches_finite_differences() -> None:
    logits, weights = 2 * drawn(0, 6, 4), np.array([1.0, 0.0, 3.0, 0.5])
    targets = np.array([0, 3, -1, 2, 2, 1])
    for given_weights in (None, weights):
        _, gradient = naive.cross_entropy(logits, targets, given_weights)
        expected = central(
            lambda w=given_weights: naive.cross_entropy(logits, targets, w)[0], logits
        )
        assert relative_error(gradient, expected) < 1e-6


def test_naive_mean_squared_error_matches_finite_differences() -> None:
    y, targets = drawn(0, 5, 3), drawn(1, 5, 3)
    expected = central(lambda: naive.mean_squared_error(y, targets)[0], y)
    assert relative_error(naive.mean_squared_error(y, targets)[1], expected) < 1e-6


# ---- softmax and its cross-entropy


def check(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> None:
    expected, slopes = naive.cross_entropy(logits.astype(np.float64), targets, weights)
    kept = logits.copy()
    value = softmax_cross_entropy(logits, targets, weights, want_gradient=False)
    np.testing.assert_array_equal(logits, kept)
    assert softmax_cross_entropy(logits, targets, weights) == value
    assert value == pytest.approx(expected, rel=2e-6, abs=1e-7)
    assert relative_error(logits, slopes) < 1e-5 or np.abs(logits - slopes).max() < 1e-7


@settings(max_examples=80, deadline=None)
@given(
    rows=st.sampled_from([1, 2, 33]),
    columns=st.sampled_from([1, 2, 7, 16, 65, 1100]),
    spread=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_cross_entropy_matches_the_naive_twin(
    rows: int, columns: int, spread: float, weighted: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((rows, columns)) * spread).astype(np.float32)
    targets = rng.integers(-1, columns, rows).astype(np.int32)
    weights = rng.random(columns).astype(np.float32) if weighted else None
    check(logits, targets, weights)


def test_hundred_thousand_classes() -> None:
    logits = (3 * drawn(0, 3, 100_003)).astype(np.float32)
    check(logits, np.array([0, 100_002, 5], np.int32))
    ones = np.zeros((2, 100_003), np.float32)
    assert softmax_cross_entropy(ones, np.array([1, 2])) == pytest.approx(math.log(100_003))


def test_extreme_logits() -> None:
    logits = np.array([[1e4, -1e4, 0, 1e4], [-1e4, -1e4, -1e4, -1e4]], np.float32)
    check(logits, np.array([0, 3], np.int32))
    far = np.array([[1e4, -1e4]], np.float32)
    assert softmax_cross_entropy(far, np.array([1])) == 2e4
    np.testing.assert_array_equal(far, [[1, -1]])
    huge = np.array([[3e38, -3e38, 3e38]], np.float32)
    assert softmax_cross_entropy(huge, np.array([0])) == pytest.approx(math.log(2))


@pytest.mark.parametrize("columns", [2, 40])
def test_minus_infinity_has_probability_zero(columns: int) -> None:
    logits = np.full((2, columns), -np.inf, np.float32)
    logits[:, -1] = [-1e4, 3]
    assert softmax_cross_entropy(logits.copy(), np.array([columns - 1] * 2)) == 0
    assert softmax_cross_entropy(logits.copy(), np.array([0, 0])) == math.inf
    expected = np.zeros((2, columns))
    expected[:, -1] = 1
    np.testing.assert_array_equal(softmax(logits), expected)


@pytest.mark.parametrize("place", [0, 5, 39])
def test_nan_propagates_to_the_loss(place: int) -> None:
    logits = drawn(0, 2, 40).astype(np.float32)
    logits[1, place] = np.nan
    assert math.isnan(softmax_cross_entropy(logits, np.array([1, 1])))


def test_ignored_rows_do_not_count() -> None:
    logits = drawn(0, 4, 5).astype(np.float32)
    logits[1] = np.nan  # an ignored row
    alone = logits[[0, 2]].copy()
    value = softmax_cross_entropy(logits, np.array([2, -1, 0, -100], np.int32))
    assert value == softmax_cross_entropy(alone, np.array([2, 0]))
    np.testing.assert_array_equal(logits[[0, 2]], alone)
    np.testing.assert_array_equal(logits[[1, 3]], 0)
    assert softmax_cross_entropy(logits, np.full(4, -1)) == 0
    assert softmax_cross_entropy(logits, np.ones(4, int), np.zeros(5)) == 0
    assert softmax_cross_entropy(np.empty((0, 5), np.float32), np.empty(0, int)) == 0


@settings(max_examples=40, deadline=None)
@given(
    rows=st.sampled_from([1, 5]),
    columns=st.sampled_from([1, 7, 16, 65, 3000]),
    seed=st.integers(0, 1000),
)
def test_softmax_matches_the_naive_twin(rows: int, columns: int, seed: int) -> None:
    logits = (5 * drawn(seed, rows, columns)).astype(np.float32)
    expected = np.array([naive.softmax(row) for row in logits.astype(np.float64)])
    assert softmax(logits) is logits
    np.testing.assert_allclose(logits, expected, rtol=3e-6, atol=1e-12)


def test_results_do_not_depend_on_threads() -> None:
    logits = drawn(0, 300, 1001).astype(np.float32)
    targets = np.random.default_rng(0).integers(-1, 1001, 300)
    results = []
    for threads in (1, 2, 5):
        gradient, chances = logits.copy(), logits.copy()
        value = softmax_cross_entropy(gradient, targets, team=Team(threads))
        softmax(chances, Team(threads))
        results.append((value, gradient, chances))
    for value, gradient, chances in results[1:]:
        assert value == results[0][0]
        np.testing.assert_array_equal(gradient, results[0][1])
        np.testing.assert_array_equal(chances, results[0][2])


@pytest.mark.parametrize("targets", [[5, 0], [0], [0, 1, 2], [0.5, 1]])
def test_mismatched_targets_are_rejected(targets: list[float]) -> None:
    with pytest.raises(DataError, match="target"):
        softmax_cross_entropy(np.zeros((2, 5), np.float32), np.array(targets))


def test_mismatched_arrays_are_rejected() -> None:
    for logits in (
        np.zeros((2, 3)),
        np.zeros(3, np.float32),
        np.zeros((3, 2), np.float32).T,
        np.zeros((2, 0), np.float32),
    ):
        with pytest.raises(DataError, match="logits"):
            softmax(logits)
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(DataError, match="class weights"):
        softmax_cross_entropy(logits, [0, 1], np.ones(2))
    for wrong in ([1, 1, -1], [1, 1, math.nan], [1, 1, math.inf]):
        with pytest.raises(SettingsError, match="class weights"):
            softmax_cross_entropy(logits, [0, 1], wrong)


# ---- the projected cross-entropy


@pytest.mark.parametrize("rows", [1, 7, 65])
@pytest.mark.parametrize("budget", [1, 4 * 50 * 10, 1 << 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_projected_cross_entropy_matches_the_naive_twin(
    rows: int, budget: int, weighted: bool
) -> None:
    layer = Dense(9, 50, seed=3)
    layer.values["bias"][...] = drawn(5, 50)
    x = drawn(0, rows, 9).astype(np.float32)
    targets = np.random.default_rng(1).integers(0, 50, rows)
    targets[1:4] = -1
    weights = np.random.default_rng(2).random(50) + 0.1 if weighted else None
    wide = [a.astype(np.float64) for a in (x, layer.values["weight"], layer.values["bias"])]
    expected, dlogits = naive.cross_entropy(naive_dense.forward(*wide), targets, weights)
    loss = ProjectedCrossEntropy(budget)
    assert loss.loss(x, layer, targets, weights) == pytest.approx(expected, rel=1e-5)
    slopes = naive_dense.backward(*wide[:2], dlogits)
    found = (loss.backward(), layer.grads["weight"], layer.grads["bias"])
    for ours, theirs in zip(found, slopes, strict=True):
        assert relative_error(ours, theirs) < 1e-4


def test_projected_cross_entropy_without_training_changes_nothing() -> None:
    layer = Dense(4, 6)
    loss = ProjectedCrossEntropy()
    x = drawn(0, 3, 4).astype(np.float32)
    value = loss.loss(x, layer, [0, 1, 2], training=False)
    assert value == pytest.approx(loss.loss(x, layer, [0, 1, 2]))
    loss.loss(x, layer, [0, 1, 2], training=False)
    layer.zero_gradients()
    loss.loss(x, layer, [0, 1, 2], training=False)
    assert not layer.grads["weight"].any()
    with pytest.raises(SettingsError, match="training=True"):
        loss.backward()


def test_projected_cross_entropy_with_a_tied_embedding() -> None:
    embedding = Embedding(30, 8)
    tied, own = Dense(8, 30, weight_of=embedding), Dense(8, 30)
    own.values["weight"][...] = embedding.values["weight"]
    x, targets = drawn(0, 20, 8).astype(np.float32), np.arange(20)
    losses = [ProjectedCrossEntropy(budget=500) for _ in range(2)]
    values = [loss.loss(x, layer, targets) for loss, layer in zip(losses, (tied, own), strict=True)]
    assert values[0] == values[1]
    np.testing.assert_array_equal(losses[0].backward(), losses[1].backward())
    np.testing.assert_array_equal(embedding.grads["weight"], own.grads["weight"])
    np.testing.assert_array_equal(tied.grads["bias"], own.grads["bias"])


def test_large_vocabulary_stays_within_its_budget() -> None:
    """1,024 positions over 100,003 words: the logits at once would be 410 MB."""
    layer = Dense(8, 100_003, seed=1)
    x = drawn(0, 1024, 8).astype(np.float32)
    targets = np.random.default_rng(0).integers(0, 100_003, 1024)
    tracemalloc.start()
    try:
        loss = ProjectedCrossEntropy()
        value = loss.loss(x, layer, targets)
        dx = loss.backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64e6
    logits = x @ layer.weight.T
    assert value == pytest.approx(softmax_cross_entropy(logits, targets), rel=1e-6)
    assert relative_error(dx, logits @ layer.weight) < 1e-4
    assert relative_error(layer.grads["weight"], logits.T @ x) < 1e-4
    assert relative_error(layer.grads["bias"], logits.sum(axis=0)) < 1e-4


def test_large_vocabulary_sums_are_exact_enough() -> None:
    """With 200 hidden units the packed weights count too."""
    layer = Dense(200, 100_003, seed=1)
    x = drawn(0, 1024, 200).astype(np.float32)
    loss = ProjectedCrossEntropy()
    tracemalloc.start()
    try:
        loss.loss(x, layer, np.arange(1024))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6


def test_projected_cross_entropy_rejects_mismatched_arrays() -> None:
    layer = Dense(4, 6)
    loss = ProjectedCrossEntropy()
    with pytest.raises(DataError, match=r"expected \[N, 4\]"):
        loss.loss(np.ones((2, 5), np.float32), layer, [0, 1])
    with pytest.raises(DataError, match="holds 6 at 1"):
        loss.loss(np.ones((2, 4), np.float32), layer, [0, 6])
    with pytest.raises(SettingsError, match="budget"):
        ProjectedCrossEntropy(budget=0)


# ---- mean squared error


@pytest.mark.parametrize("shape", [(1,), (7, 1), (65, 3), (2, 3, 4)])
def test_mean_squared_error_matches_the_naive_twin(shape: tuple[int, ...]) -> None:
    y, targets = drawn(0, *shape).astype(np.float32), drawn(1, *shape).astype(np.float32)
    expected, slopes = naive.mean_squared_error(y.astype(np.float64), targets.astype(np.float64))
    kept = y.copy()
    assert mean_squared_error(y, targets, want_gradient=False) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(y, kept)
    assert mean_squared_error(y, targets) == pytest.approx(expected, rel=1e-6)
    assert relative_error(y, slopes) < 1e-6


def test_mean_squared_error_of_huge_values_is_finite() -> None:
    y = np.array([1e30, -1e30], np.float32)
    assert mean_squared_error(y, np.zeros(2)) == pytest.approx(1e60)
    assert mean_squared_error(np.empty((0, 2), np.float32), np.empty((0, 2))) == 0
    with pytest.raises(DataError, match=r"\[2\], expected \[3\]"):
        mean_squared_error(np.zeros(3, np.float32), np.zeros(2))
