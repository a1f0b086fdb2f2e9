"""Pooling of ragged sequences against its naive twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.nn.pooling import KINDS, Pooling
from fastseq.threads import Team
from tests.naive import pooling as naive
from tests.naive.differences import central, relative_error

CASES = [(kind, False) for kind in KINDS] + [("last", True)]


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def values_of(layer: Pooling) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float64) for name, value in layer.values.items()}


def check(layer: Pooling, lengths: list[int], seed: int) -> None:
    """Output and every gradient within 1e-4 of the twin's largest."""
    offsets = offsets_of(lengths)
    x = drawn(seed, int(offsets[-1]), layer.size).astype(np.float32)
    dy = drawn(seed + 1, len(lengths), layer.size).astype(np.float32)
    for slope in layer.grads.values():
        slope.fill(0.5)  # added to
    y = layer.forward(x, offsets)
    dx = layer.backward(dy)
    given_values = (values_of(layer), layer.bidirectional)
    wide = x.astype(np.float64)
    assert relative_error(y, naive.forward(layer.kind, wide, offsets, *given_values)) < 1e-5
    expected, slopes = naive.backward(layer.kind, wide, offsets, dy, *given_values)
    assert relative_error(dx, expected) < 1e-4
    for name, slope in slopes.items():
        # one row is all of its sequence: its weight is 1, and all of these are 0
        scale = max(np.abs(slope).max(), 1e-2)
        assert np.abs(layer.grads[name] - 0.5 - slope).max() < 1e-4 * scale, name


# ---- the twin, by central differences


@pytest.mark.parametrize(("kind", "bidirectional"), CASES)
def test_naive_pooling_matches_finite_differences(kind: str, bidirectional: bool) -> None:
    offsets = offsets_of([3, 1, 5])
    x, dy = drawn(0, 9, 4), drawn(1, 3, 4)
    values = {}
    if kind == "attention":
        values = {"weight": drawn(2, 5, 4), "bias": drawn(3, 5), "vector": drawn(4, 5)}

    def loss() -> float:
        return float((naive.forward(kind, x, offsets, values, bidirectional) * dy).sum())

    dx, slopes = naive.backward(kind, x, offsets, dy, values, bidirectional)
    assert relative_error(dx, central(loss, x)) < 1e-6
    for name, slope in slopes.items():
        assert relative_error(slope, central(loss, values[name])) < 1e-6, name


# ---- the layer


@pytest.mark.parametrize(("kind", "bidirectional"), CASES)
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    size=st.sampled_from([2, 14, 64, 130]),
    seed=st.integers(0, 1000),
)
def test_pooling_matches_the_naive_twin(
    kind: str, bidirectional: bool, lengths: list[int], size: int, seed: int
) -> None:
    check(Pooling(kind, size, bidirectional=bidirectional, seed=seed), lengths, seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 16, 65])
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [200], [3, 1, 2]])
def test_odd_sizes(kind: str, size: int, lengths: list[int]) -> None:
    check(Pooling(kind, size, seed=1), lengths, 5)


@pytest.mark.parametrize("width", [1, 7, 65])
def test_attention_of_another_width(width: int) -> None:
    layer = Pooling("attention", 20, attention=width, seed=2)
    assert layer.shapes() == {"weight": (width, 20), "bias": (width,), "vector": (width,)}
    layer.values["bias"][...] = drawn(8, width)
    check(layer, [4, 9, 1], 3)


@pytest.mark.parametrize(("kind", "bidirectional"), CASES)
def test_results_do_not_depend_on_threads(kind: str, bidirectional: bool) -> None:
    lengths = [1, 300, 2, 40, 40, 500, 7, 90]
    offsets = offsets_of(lengths)
    x = drawn(0, int(offsets[-1]), 256).astype(np.float32)
    dy = drawn(1, len(lengths), 256).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        layer = Pooling(kind, 256, bidirectional=bidirectional, team=Team(threads))
        results.append([layer.forward(x, offsets), layer.backward(dy), *layer.grads.values()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_first_of_equal_maxima_gets_the_gradient() -> None:
    x = np.array([[1, 5, 0], [3, 5, 0], [3, 2, 0], [9, 9, -1]], np.float32)
    layer = Pooling("max", 3)
    np.testing.assert_array_equal(layer.forward(x, np.array([0, 3, 4])), [[3, 5, 0], [9, 9, -1]])
    dx = layer.backward(np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    np.testing.assert_array_equal(dx, [[0, 2, 3], [1, 0, 0], [0, 0, 0], [4, 5, 6]])


def test_maximum_propagates_nan() -> None:
    x = np.zeros((5, 17), np.float32)
    x[2, 3] = x[2, 16] = np.nan
    x[4, :] = 1
    y = Pooling("max", 17).forward(x, np.array([0, 5]))
    assert np.flatnonzero(np.isnan(y[0])).tolist() == [3, 16]
    assert np.delete(y[0], [3, 16]).tolist() == [1] * 15


def test_maximum_of_minus_infinity() -> None:
    x = np.full((3, 2), -np.inf, np.float32)
    assert (Pooling("max", 2).forward(x, np.array([0, 3])) == -np.inf).all()


def test_attention_does_not_overflow() -> None:
    layer = Pooling("attention", 4)
    layer.values["vector"].fill(1e4)
    layer.values["weight"].fill(10)
    x = np.array([[1, 1, 1, 1], [-1, -1, -1, -1], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(layer.forward(x, np.array([0, 3])), [[1, 1, 1, 1]])
    assert np.isfinite(layer.backward(np.ones((1, 4), np.float32))).all()


def test_attention_weights_are_available() -> None:
    layer = Pooling("attention", 4, seed=1)
    x = drawn(0, 7, 4).astype(np.float32)
    offsets = np.array([0, 5, 7])
    layer.forward(x, offsets)
    _, first = naive.attention(x[:5].astype(np.float64), values_of(layer))
    np.testing.assert_allclose(layer.attention_weights()[:5], first, rtol=1e-5)


@pytest.mark.parametrize(
    "offsets", [[0, 2, 2, 4], [0, 3], [1, 4], [0, 5], [0], [0, 3, 2, 4], [[0, 4]]]
)
def test_mismatched_offsets_are_rejected(offsets: list[int]) -> None:
    with pytest.raises(DataError, match=r"offsets|sequence 1 is empty"):
        Pooling("mean", 2).forward(np.ones((4, 2), np.float32), np.array(offsets))


def test_wrong_settings_are_rejected() -> None:
    for make in (
        lambda: Pooling("sum", 3),
        lambda: Pooling("mean", 0),
        lambda: Pooling("attention", 3, attention=0),
        lambda: Pooling("last", 3, bidirectional=True),
    ):
        with pytest.raises(SettingsError):
            make()


def test_mismatched_gradients_are_rejected() -> None:
    layer = Pooling("mean", 2)
    with pytest.raises(SettingsError, match="training=True"):
        layer.backward(np.ones((1, 2), np.float32))
    layer.forward(np.ones((4, 2), np.float32), np.array([0, 4]))
    with pytest.raises(DataError, match="expected 1 sequences"):
        layer.backward(np.ones((2, 2), np.float32))
