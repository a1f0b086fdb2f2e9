"""Embeddings, pooler and masked-word head of BERT against their naive twins."""

from __future__ import annotations

import numpy as np
import pytest

from fastseq.errors import DataError, SettingsError
from fastseq.nn.bert import BertEmbeddings, MaskedWordHead, Pooler
from fastseq.nn.layers import Embedding
from fastseq.threads import Team
from tests.naive import transformer as naive
from tests.naive.differences import central, relative_error
from tests.nn.test_nn_transformer import LENGTHS, drawn, offsets_of, spread, values_of

EPS = 1e-6
WORDS = 50


def check_gradients(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], start: float = 0.0
) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(np.abs(gradient).max(), 1e-3)
        assert np.abs(found[name] - start - gradient).max() < 1e-4 * scale, name


@pytest.mark.parametrize(("size", "rate"), [(20, 0.0), (7, 0.25), (32, 0.1)])
@pytest.mark.parametrize("with_types", [False, True])
def test_embeddings_match_the_twin(size: int, rate: float, with_types: bool) -> None:
    rng, N, offsets = np.random.default_rng(0), sum(LENGTHS), offsets_of(LENGTHS)
    layer = BertEmbeddings(WORDS, size, positions=30, types=3, dropout=rate, eps=EPS, team=Team(2))
    spread(layer)
    ids = rng.integers(0, WORDS, N).astype(np.int32)
    types = rng.integers(0, 3, N).astype(np.int32) if with_types else np.zeros(N, np.int32)
    grads: dict[str, np.ndarray] = {}
    expected, back = naive.embeddings(ids, types, offsets, values_of(layer), EPS, rate, 5, grads)
    for gradient in layer.grads.values():
        gradient.fill(0.5)  # added to
    y = layer.forward(ids, offsets, types if with_types else None, key=5)
    assert relative_error(y, expected) < 1e-5
    dy = drawn(3, N, size)
    layer.backward(dy)
    back(dy.astype(np.float64))
    check_gradients(layer.grads, grads, 0.5)
    if not rate:
        other = layer.forward(ids, offsets, types, training=False)
        np.testing.assert_array_equal(other, y)


def test_embeddings_of_wrong_arguments() -> None:
    layer = BertEmbeddings(WORDS, 8, positions=4)
    with pytest.raises(DataError, match="sequence 1 has 5 tokens, expected at most 4"):
        layer.forward(np.zeros(7, np.int32), [0, 2, 7])
    with pytest.raises(DataError, match="ids holds 50 at 1"):
        layer.forward([1, WORDS], [0, 2])
    with pytest.raises(DataError, match="types holds 2 at 0"):
        layer.forward([1, 2], [0, 2], [2, 0])
    with pytest.raises(DataError, match="3 types were given for 2 ids"):
        layer.forward([1, 2], [0, 2], [1, 0, 0])
    with pytest.raises(DataError, match="is empty"):
        layer.forward([1, 2], [0, 2, 2])
    with pytest.raises(SettingsError, match="backward"):
        layer.backward(np.zeros((2, 8)))


def test_pooler_matches_the_twin() -> None:
    layer = Pooler(12)
    spread(layer)
    x, dy = drawn(0, 5, 12), drawn(1, 5, 12)
    grads: dict[str, np.ndarray] = {}
    expected, back = naive.pooler(x.astype(np.float64), values_of(layer), grads)
    assert relative_error(layer.forward(x), expected) < 1e-5
    assert relative_error(layer.backward(dy), back(dy.astype(np.float64))) < 1e-4
    check_gradients(layer.grads, grads)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_masked_word_head_matches_the_twin(activation: str) -> None:
    words = Embedding(WORDS, 12, scale=0.5)
    layer = MaskedWordHead(words, activation=activation, eps=EPS, team=Team(2))
    spread(layer)
    assert layer.shapes()["bias"] == (WORDS,)
    x, targets = drawn(0, 9, 12), np.array([3, 4, -1, 3, 0, 49, 7, 8, -1], np.int32)
    grads: dict[str, np.ndarray] = {}
    table = words.values["weight"].astype(np.float64)
    settings = values_of(layer), activation != "gelu", EPS, grads
    expected, back = naive.masked_word_loss(x.astype(np.float64), table, targets, *settings)
    assert layer.loss(x, targets, training=False) == pytest.approx(expected, rel=1e-5)
    assert layer.loss(x, targets) == pytest.approx(expected, rel=1e-5)
    assert relative_error(layer.backward(), back()) < 1e-4
    check_gradients({**layer.grads, "words": words.grads["weight"]}, grads)
    scores = layer.forward(x)
    assert scores.shape == (9, WORDS)
    log_sums = np.log(np.exp(scores.astype(np.float64)).sum(axis=1))
    counted = targets >= 0
    losses = (log_sums - scores[np.arange(9), np.maximum(targets, 0)])[counted]
    assert losses.mean() == pytest.approx(expected, rel=1e-5)


def test_naive_heads_match_finite_differences() -> None:
    rng = np.random.default_rng(0)
    embeddings = BertEmbeddings(6, 4, positions=3, types=2)
    spread(embeddings)
    values, offsets = values_of(embeddings), np.array([0, 3, 5])
    ids, types, dy = rng.integers(0, 6, 5), rng.integers(0, 2, 5), rng.standard_normal((5, 4))

    def embedded() -> float:
        return float((naive.embeddings(ids, types, offsets, values, EPS, 0.3, 1, {})[0] * dy).sum())

    grads: dict[str, np.ndarray] = {}
    naive.embeddings(ids, types, offsets, values, EPS, 0.3, 1, grads)[1](dy)
    for name, value in values.items():
        assert relative_error(grads[name], central(embedded, value)) < 1e-5, name

    words = rng.standard_normal((6, 4))
    head = MaskedWordHead(Embedding(6, 4))
    spread(head)
    x, targets, values = rng.standard_normal((3, 4)), np.array([5, -1, 2]), values_of(head)

    def loss() -> float:
        return naive.masked_word_loss(x, words, targets, values, False, EPS, {})[0]

    grads = {}
    dx = naive.masked_word_loss(x, words, targets, values, False, EPS, grads)[1]()
    assert relative_error(dx, central(loss, x)) < 1e-5
    for name, value in {**values, "words": words}.items():
        assert relative_error(grads[name], central(loss, value)) < 1e-5, name
