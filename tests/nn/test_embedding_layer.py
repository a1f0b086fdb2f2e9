"""Embedding and Dense, which may share a weight, against their naive twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.nn.layer import joined
from fastseq.nn.layers import Dense, Embedding, column_sums
from fastseq.threads import Team
from tests.naive import dense as naive_dense
from tests.naive import embedding as naive_embedding
from tests.naive.differences import central, relative_error

SIZES = (1, 7, 16, 65)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# ---- the twins, by central differences


def test_naive_embedding_matches_finite_differences() -> None:
    weight, dy = drawn(0, 5, 3), drawn(1, 6, 3)
    ids = np.array([4, 0, 4, 4, 2, 0])
    expected = central(lambda: float((naive_embedding.forward(weight, ids) * dy).sum()), weight)
    assert relative_error(naive_embedding.backward(5, ids, dy), expected) < 1e-6


def test_naive_dense_matches_finite_differences() -> None:
    x, weight, bias, dy = drawn(0, 4, 3), drawn(1, 5, 3), drawn(2, 5), drawn(3, 4, 5)
    found = naive_dense.backward(x, weight, dy)
    for array, slope in zip((x, weight, bias), found, strict=True):
        expected = central(lambda: float((naive_dense.forward(x, weight, bias) * dy).sum()), array)
        assert relative_error(slope, expected) < 1e-6


# ---- Embedding


@settings(max_examples=60, deadline=None)
@given(
    words=st.sampled_from([1, 3, 100]),
    size=st.sampled_from(SIZES),
    count=st.sampled_from([1, 2, 9, 40]),
    seed=st.integers(0, 1000),
)
def test_embedding_matches_the_naive_twin(words: int, size: int, count: int, seed: int) -> None:
    layer = Embedding(words, size, seed=seed)
    ids = np.random.default_rng(seed).integers(0, words, count).astype(np.int32)
    y = layer.forward(ids)
    np.testing.assert_array_equal(y, naive_embedding.forward(layer.values["weight"], ids))
    layer.grads["weight"].fill(1)  # gradients are added to
    dy = drawn(seed, count, size).astype(np.float32)
    layer.backward(dy)
    expected = 1 + naive_embedding.backward(words, ids, dy.astype(np.float64))
    assert relative_error(layer.grads["weight"], expected) < 1e-6


def test_results_do_not_depend_on_threads() -> None:
    words, size, count = 50, 200, 3000
    ids = np.random.default_rng(0).integers(0, words, count).astype(np.int32)
    dy = drawn(0, count, size).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        layer = Embedding(words, size, team=Team(threads))
        results.append((layer.forward(ids), layer.grads["weight"]))
        layer.backward(dy)
    for y, slope in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(slope, results[0][1])
    assert relative_error(results[0][1], naive_embedding.backward(words, ids, dy)) < 1e-5


@pytest.mark.parametrize("wrong", [[0, 5], [0, -1], [2**31], [[1, 2]], [0.5], ["a"]])
def test_out_of_range_ids_are_rejected(wrong: list[object]) -> None:
    layer = Embedding(5, 3)
    with pytest.raises(DataError, match="the array of ids"):
        layer.forward(wrong)


def test_error_names_the_wrong_id() -> None:
    with pytest.raises(DataError, match="holds 7 at 2, expected 0 to 4"):
        Embedding(5, 3).forward(np.array([0, 4, 7], np.int32))


def test_no_ids_give_no_rows() -> None:
    layer = Embedding(5, 3)
    assert layer.forward(np.empty(0, np.int32)).shape == (0, 3)
    layer.backward(np.empty((0, 3), np.float32))
    assert not layer.grads["weight"].any()


def test_int64_and_read_only_ids_are_accepted() -> None:
    layer = Embedding(5, 3)
    ids = np.array([1, 4])
    ids.flags.writeable = False
    np.testing.assert_array_equal(layer.forward(ids), layer.values["weight"][[1, 4]])


def test_frozen_table_has_no_gradient() -> None:
    layer = Embedding(5, 3, frozen=True)
    layer.forward(np.array([1, 4], np.int32))
    layer.backward(np.ones((2, 3), np.float32))
    assert not layer.grads["weight"].any()


def test_backward_needs_a_forward_pass_each_time() -> None:
    layer = Embedding(5, 3)
    dy = np.ones((1, 3), np.float32)
    with pytest.raises(SettingsError, match="training=True"):
        layer.backward(dy)
    layer.forward(np.array([1], np.int32))
    with pytest.raises(DataError, match="2 rows, expected 1"):
        layer.backward(np.ones((2, 3), np.float32))
    layer.forward(np.array([1], np.int32), training=False)
    with pytest.raises(SettingsError, match="training=True"):
        layer.backward(dy)


def test_initial_values_are_seeded_and_normal() -> None:
    weight = Embedding(1000, 50, seed=3).values["weight"]
    assert abs(weight.mean()) < 0.002
    assert abs(weight.std() - 0.1) < 0.002
    np.testing.assert_array_equal(weight, Embedding(1000, 50, seed=3).values["weight"])
    assert (weight != Embedding(1000, 50, seed=4).values["weight"]).all(axis=1).any()


def test_pretrained_rows_are_loaded() -> None:
    layer = Embedding(5, 3)
    before = layer.state_dict()["weight"]
    vectors = np.array([[1, 2, 3], [4, 5, 6]], np.float64)
    layer.load_rows([3, 0], vectors)
    expected = before.copy()
    expected[[3, 0]] = vectors
    np.testing.assert_array_equal(layer.values["weight"], expected)
    for rows, given_vectors in (([5], vectors[:1]), ([1], vectors), ([1], vectors[:1, :2])):
        with pytest.raises(DataError):
            layer.load_rows(rows, given_vectors)
    np.testing.assert_array_equal(layer.values["weight"], expected)


def test_table_is_loaded_by_name() -> None:
    layer = Embedding(2, 2)
    layer.load_state_dict({"weight": np.eye(2, dtype=np.float32)})
    np.testing.assert_array_equal(layer.forward(np.array([1])), [[0, 1]])
    with pytest.raises(FormatError):
        layer.load_state_dict({"weight": np.eye(3, dtype=np.float32)})


# ---- Dense


@pytest.mark.parametrize("inputs", SIZES)
@pytest.mark.parametrize("outputs", SIZES)
@pytest.mark.parametrize("rows", [1, 33])
def test_dense_matches_the_naive_twin(inputs: int, outputs: int, rows: int) -> None:
    layer = Dense(inputs, outputs, seed=1)
    layer.values["bias"][...] = drawn(7, outputs)
    x = drawn(0, rows, inputs).astype(np.float32)
    dy = drawn(1, rows, outputs).astype(np.float32)
    weight = layer.values["weight"].astype(np.float64)
    y = layer.forward(x)
    dx = layer.backward(dy)
    expected = naive_dense.forward(x.astype(np.float64), weight, layer.values["bias"])
    assert relative_error(y, expected) < 1e-5
    slopes = naive_dense.backward(x.astype(np.float64), weight, dy.astype(np.float64))
    found = (dx, layer.grads["weight"], layer.grads["bias"])
    for ours, theirs in zip(found, slopes, strict=True):
        assert relative_error(ours, theirs) < 1e-5
    layer.forward(x)
    layer.backward(dy)
    for name, theirs in zip(("weight", "bias"), slopes[1:], strict=True):
        assert relative_error(layer.grads[name], 2 * theirs) < 1e-5  # added to


def test_dense_layer_without_bias() -> None:
    layer = Dense(3, 4, bias=False)
    assert list(layer.shapes()) == ["weight"]
    x = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(layer.forward(x), layer.values["weight"].T, rtol=1e-6)
    layer.backward(np.ones((3, 4), np.float32))
    np.testing.assert_allclose(layer.grads["weight"], 1)


def test_initial_dense_weights_are_within_xavier_bounds() -> None:
    layer = Dense(100, 200, seed=5)
    weight = layer.values["weight"]
    limit = (6 / 300) ** 0.5
    assert 0.98 * limit < np.abs(weight).max() <= limit
    assert abs(weight.std() - limit / 3**0.5) < 0.02 * limit
    assert not layer.values["bias"].any()


def test_mismatched_shapes_are_rejected() -> None:
    layer = Dense(3, 4)
    with pytest.raises(DataError, match=r"\[2, 4\], expected \[N, 3\]"):
        layer.forward(np.ones((2, 4), np.float32))
    layer.forward(np.ones((2, 3), np.float32))
    with pytest.raises(DataError, match="3 rows, expected 2"):
        layer.backward(np.ones((3, 4), np.float32))
    for make in (lambda: Dense(0, 4), lambda: Dense(3, 0), lambda: Embedding(0, 3)):
        with pytest.raises(SettingsError):
            make()


def test_shared_weight_accumulates_both_gradients() -> None:
    embedding = Embedding(6, 4, seed=2)
    layer = Dense(4, 6, weight_of=embedding)
    assert list(layer.parameters()) == ["bias"]
    parameters = joined({"embedding": embedding, "output": layer})  # new buffers for both
    assert list(parameters) == ["embedding.weight", "output.bias"]
    weight = parameters.views["embedding.weight"]
    ids = np.array([1, 1, 5], np.int32)
    dy = drawn(0, 3, 6).astype(np.float32)
    y = layer.forward(embedding.forward(ids))
    np.testing.assert_allclose(y, weight[ids] @ weight.T, rtol=1e-5)
    dx = layer.backward(dy)
    embedding.backward(dx)
    wide = weight.astype(np.float64)
    expected_dx, dweight, dbias = naive_dense.backward(wide[ids], wide, dy)
    dweight += naive_embedding.backward(6, ids, expected_dx)
    assert relative_error(parameters.gradient_views["embedding.weight"], dweight) < 1e-5
    assert relative_error(parameters.gradient_views["output.bias"], dbias) < 1e-5


def test_shared_frozen_weight_has_no_gradient() -> None:
    embedding = Embedding(6, 4, frozen=True)
    layer = Dense(4, 6, weight_of=embedding)
    layer.forward(np.ones((2, 4), np.float32))
    layer.backward(np.ones((2, 6), np.float32))
    assert not embedding.grads["weight"].any()
    np.testing.assert_array_equal(layer.grads["bias"], 2)


def test_shared_weight_must_have_the_same_shape() -> None:
    with pytest.raises(SettingsError, match="6 words by 4"):
        Dense(6, 4, weight_of=Embedding(6, 4))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3000, 1), (2, 65), (300, 4097)])
def test_column_sums_do_not_depend_on_threads(rows: int, columns: int) -> None:
    a = drawn(0, rows, columns).astype(np.float32)
    one = column_sums(a, Team(1))
    np.testing.assert_array_equal(one, column_sums(a, Team(3)))
    assert relative_error(one, a.astype(np.float64).sum(axis=0)) < 1e-5
