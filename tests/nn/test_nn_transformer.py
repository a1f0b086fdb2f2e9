"""Layer normalisation, GELU, self-attention and transformer layers against their naive twins."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, SettingsError
from fastseq.nn.layer import Layer, joined
from fastseq.nn.layers import Gelu, LayerNorm
from fastseq.nn.transformer import (
    AttentionBatch,
    SelfAttention,
    TransformerEncoder,
    TransformerLayer,
)
from fastseq.seeds import mixed_key
from fastseq.threads import Team
from tests.naive import transformer as naive
from tests.naive.differences import central, relative_error

LENGTHS = [5, 1, 30, 12]
EPS = 1e-6


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def values_of(layer: Layer) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float64) for name, value in layer.values.items()}


def spread(layer: Layer, scale: float = 0.3) -> None:
    """Values that are neither zero nor one, so that every parameter matters."""
    rng = np.random.default_rng(7)
    for value in layer.values.values():
        value[...] += scale * rng.standard_normal(value.shape)


def check(layer: Layer, run: Callable[[Layer, np.ndarray], Any], twin: Any, size: int) -> None:
    """Output and every gradient of `layer` match those of `twin`(x, values, grads)."""
    spread(layer)
    x, dy = drawn(0, sum(LENGTHS), size), drawn(1, sum(LENGTHS), size)
    grads: dict[str, np.ndarray] = {}
    expected, back = twin(x.astype(np.float64), values_of(layer), grads)
    for gradient in layer.grads.values():
        gradient.fill(0.5)  # added to
    y = run(layer, x)
    dx = layer.backward(dy)
    assert relative_error(y, expected) < 1e-5
    assert relative_error(dx, back(dy.astype(np.float64))) < 1e-4
    assert list(grads.keys() ^ layer.grads.keys()) == []
    for name, gradient in grads.items():
        scale = max(np.abs(gradient).max(), 1e-1)
        assert np.abs(layer.grads[name] - 0.5 - gradient).max() < 1e-4 * scale, name


# ---- the twin, by central differences


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_naive_encoder_matches_finite_differences(rate: float) -> None:
    layer = TransformerEncoder(1, 4, 2, 6)
    spread(layer)
    values, offsets = values_of(layer), offsets_of([3, 1, 2])
    x, dy = drawn(1, 6, 4).astype(np.float64), drawn(2, 6, 4).astype(np.float64)
    settings = offsets, values, 2, False, 1e-3, rate, rate
    grads: dict[str, np.ndarray] = {}

    def loss() -> float:
        return float((naive.encoder(x, 1, 5, {}, *settings)[0] * dy).sum())

    dx = naive.encoder(x, 1, 5, grads, *settings)[1](dy)
    assert relative_error(dx, central(loss, x)) < 1e-6
    assert grads.keys() == values.keys()
    for name, gradient in grads.items():
        # a key's bias is the same in all scores of a row: its gradient is 0
        expected = central(loss, values[name])
        assert np.abs(gradient - expected).max() < 1e-6 * max(1e-2, np.abs(expected).max()), name


# ---- the layers


@pytest.mark.parametrize("size", [12, 33])
def test_layer_norm(size: int) -> None:
    def twin(x: np.ndarray, values: Any, grads: Any) -> tuple[np.ndarray, naive.Back]:
        y, gradients = naive.layer_norm(x, values["weight"], values["bias"], EPS)

        def back(dy: np.ndarray) -> np.ndarray:
            dx, grads["weight"], grads["bias"] = gradients(dy)
            return dx

        return y, back

    check(LayerNorm(size, eps=EPS, team=Team(2)), lambda layer, x: layer.forward(x), twin, size)


@pytest.mark.parametrize("form", ["gelu", "gelu_new"])
def test_gelu(form: str) -> None:
    check(
        Gelu(form),
        lambda layer, x: layer.forward(x),
        lambda x, values, grads: naive.gelu(x, form != "gelu"),
        9,
    )


@pytest.mark.parametrize(("size", "heads", "rate"), [(12, 3, 0.0), (12, 2, 0.2), (9, 3, 0.1)])
def test_self_attention(size: int, heads: int, rate: float) -> None:
    """A size that is no multiple of 4: the weights are not adjacent."""
    offsets = offsets_of(LENGTHS)
    check(
        SelfAttention(size, heads, dropout=rate),
        lambda layer, x: layer.forward(x, offsets, True, 3),
        lambda x, values, grads: naive.self_attention(x, offsets, values, heads, rate, 3, grads),
        size,
    )


@pytest.mark.parametrize(
    ("activation", "rate", "attention_rate", "threads"),
    [("gelu", 0.0, 0.0, 1), ("gelu_new", 0.2, 0.0, 2), ("gelu", 0.1, 0.3, 2)],
)
def test_transformer_layer(
    activation: str, rate: float, attention_rate: float, threads: int
) -> None:
    offsets = offsets_of(LENGTHS)
    layer = TransformerLayer(
        20, 2, 40, dropout=rate, attention_dropout=attention_rate, activation=activation, eps=EPS,
        team=Team(threads),
    )  # fmt: skip
    check(
        layer,
        lambda layer, x: layer.forward(x, offsets, True, 9),
        lambda x, values, grads: naive.layer(
            x, offsets, values, 2, activation != "gelu", EPS, rate, attention_rate, 9, grads
        ),
        20,
    )


def test_encoder() -> None:
    offsets = offsets_of(LENGTHS)
    layer = TransformerEncoder(3, 16, 4, 24, dropout=0.1, attention_dropout=0.1, eps=EPS)
    check(
        layer,
        lambda layer, x: layer.forward(x, offsets, True, 11),
        lambda x, values, grads: naive.encoder(
            x, 3, 11, grads, offsets, values, 4, False, EPS, 0.1, 0.1
        ),
        16,
    )


# ---- bits


def encoder(threads: int = 1, **settings: Any) -> TransformerEncoder:
    made = TransformerEncoder(2, 24, 2, 40, seed=3, team=Team(threads), **settings)
    spread(made, 0.1)
    return made


def test_results_do_not_depend_on_threads() -> None:
    lengths = [1, 130, 2, 40, 40, 250, 7, 90]
    offsets = offsets_of(lengths)
    x, dy = drawn(0, sum(lengths), 24), drawn(1, sum(lengths), 24)
    results = []
    for threads in (1, 2, 5):
        layer = encoder(threads)
        results.append(
            [
                layer.forward(x, offsets, training=False),
                layer.forward(x, offsets, key=4),
                layer.backward(dy),
                *layer.grads.values(),
            ]
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_sequence_has_the_same_bits_alone_and_in_any_batch() -> None:
    lengths = [3, 70, 1, 129, 40]
    offsets, x = offsets_of(lengths), drawn(0, sum(lengths), 24)
    layer = encoder(2)
    together = layer.forward(x, offsets, training=False)
    for a, b in pairwise(offsets):
        alone = layer.forward(x[a:b], [0, b - a], training=False)
        np.testing.assert_array_equal(alone, together[a:b])
    # without dropout, training has the same bits
    still = encoder(2, dropout=0, attention_dropout=0)
    np.testing.assert_array_equal(still.forward(x, offsets), together)


def test_passes_between_forward_and_backward_change_nothing() -> None:
    offsets, x, dy = offsets_of(LENGTHS), drawn(0, 48, 24), drawn(1, 48, 24)
    expected = encoder()
    expected.forward(x, offsets)
    layer = encoder()
    layer.forward(x, offsets)
    layer.forward(drawn(2, 30, 24), [0, 10, 30], training=False)
    np.testing.assert_array_equal(layer.backward(dy), expected.backward(dy))


# ---- parameters


def test_parameters_have_hugging_faces_names() -> None:
    layer = TransformerLayer(8, 2, 16)
    assert layer.shapes() == {
        "attention.self.query.weight": (8, 8),
        "attention.self.key.weight": (8, 8),
        "attention.self.value.weight": (8, 8),
        "attention.self.query.bias": (8,),
        "attention.self.key.bias": (8,),
        "attention.self.value.bias": (8,),
        "attention.output.dense.weight": (8, 8),
        "attention.output.dense.bias": (8,),
        "attention.output.LayerNorm.weight": (8,),
        "attention.output.LayerNorm.bias": (8,),
        "intermediate.dense.weight": (16, 8),
        "intermediate.dense.bias": (16,),
        "output.dense.weight": (8, 16),
        "output.dense.bias": (8,),
        "output.LayerNorm.weight": (8,),
        "output.LayerNorm.bias": (8,),
    }
    encoder_names = list(TransformerEncoder(2, 8, 2, 16).shapes())
    assert encoder_names[0] == "layer.0.attention.self.query.weight"
    assert encoder_names[-1] == "layer.1.output.LayerNorm.bias"


def test_initial_values() -> None:
    layer = TransformerLayer(64, 2, 128, seed=1)
    for name, value in layer.values.items():
        if name.endswith("bias"):
            assert (value == 0).all(), name
        elif "LayerNorm" in name:
            assert (value == 1).all(), name
        else:  # two standard deviations of the normal distribution: 0.88 of its deviation is left
            assert np.abs(value).max() <= 0.04
            assert abs(value.std() - 0.0176) < 0.001, name
    again = TransformerLayer(64, 2, 128, seed=1).state_dict()
    assert all((again[name] == value).all() for name, value in layer.values.items())
    assert not any(v.any() for v in TransformerLayer(8, 2, 8, seed=None).values.values())


def test_layers_use_the_buffers_they_are_joined_to() -> None:
    x, offsets, dy = drawn(0, 6, 24), [0, 2, 6], drawn(1, 6, 24)
    layer, alone = encoder(), encoder()
    parameters = joined({"encoder": layer})
    np.testing.assert_array_equal(layer.forward(x, offsets), alone.forward(x, offsets))
    layer.backward(dy)
    alone.backward(dy)
    name = "layer.1.attention.self.key.weight"
    view = parameters.gradient_views[f"encoder.{name}"]
    assert view.any()
    np.testing.assert_array_equal(view, alone.grads[name])


# ---- errors


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(SettingsError, match="5 heads do not divide a size of 24"):
        SelfAttention(24, 5)
    with pytest.raises(SettingsError, match="relu"):
        TransformerLayer(8, 2, 16, activation="relu")
    layer = TransformerEncoder(1, 8, 2, 16)
    x = drawn(0, 4, 8)
    with pytest.raises(DataError, match="sequence 1 is empty"):
        layer.forward(x, [0, 2, 2, 4])
    with pytest.raises(DataError, match=r"\[N, 8\]"):
        layer.forward(drawn(0, 4, 7), [0, 4])
    with pytest.raises(SettingsError, match="backward"):
        layer.backward(x)
    layer.forward(x, [0, 4])
    with pytest.raises(DataError, match="3 rows, expected 4"):
        layer.backward(x[:3])


@pytest.mark.parametrize("threads", [1, 3])
def test_items_cover_all_pairs(threads: int) -> None:
    lengths = [1, 500, 3, 3, 20, 1]
    found = AttentionBatch.of(offsets_of(lengths), sum(lengths), 3, Team(threads))
    assert [b for _, b in found.items[:-1]] == [a for a, _ in found.items[1:]]
    assert (found.items[0][0], found.items[-1][1]) == (0, 18)
    assert found.longest == 500
    assert [lengths[i] for i in found.order] == sorted(lengths, reverse=True)


def test_keys_give_other_masks() -> None:
    x, offsets = drawn(0, 48, 24), offsets_of(LENGTHS)
    layer = encoder(dropout=0)
    first, again, other = (layer.forward(x, offsets, key=mixed_key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
