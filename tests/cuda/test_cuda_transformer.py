"""Layers of a transformer on the device against the CPU's, with the CPU's masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.cuda.nn import attention, layer_norm
from fastseq.kernels.cuda.runtime import memory, target
from fastseq.nn import bert as host_bert
from fastseq.nn import layers as host_layers
from fastseq.nn import transformer as host
from fastseq.nn.cuda import bert, layers, transformer

OFFSETS = np.array([0, 3, 12, 13])
N = 13


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).normal(size=shape).astype(np.float32)


def close(found: Any, expected: Any, scale: float = 1) -> None:
    found = memory.get(found) if hasattr(found, "copy_to_host") else found
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * scale)


def same_values(mine: Any, theirs: Any) -> None:
    """The CPU's values for the device's layer, none of them zero."""
    for name, value in mine.values.items():
        value += drawn(*value.shape, seed=len(name)) / 4
    theirs.load_state_dict(mine.state_dict())


def same_gradients(mine: Any, theirs: Any) -> None:
    found = theirs.gradients()
    for name, gradient in mine.gradients().items():
        assert gradient.any(), name
        close(found[name], gradient, 10 * max(1, np.abs(gradient).max()))


def same_passes(mine: Any, theirs: Any, size: int, passes: int = 2) -> None:
    """Training passes, whose gradients are added, and one without training between forward and
    backward pass."""
    same_values(mine, theirs)
    x, dy = drawn(N, size), drawn(N, size, seed=1)
    for key in range(passes):
        close(theirs.forward(x, OFFSETS, key=key), mine.forward(x, OFFSETS, key=key), 4)
        close(
            theirs.forward(x[:3], OFFSETS[:2], training=False),
            mine.forward(x[:3], OFFSETS[:2], training=False), 4,
        )  # fmt: skip
        close(theirs.backward(memory.put(dy)), mine.backward(dy), 10)
    same_gradients(mine, theirs)


@pytest.mark.parametrize(("size", "heads", "rate"), [(12, 2, 0.3), (16, 1, 0.0)])
def test_self_attention(size: int, heads: int, rate: float) -> None:
    """Of 12 columns the weights are not adjacent."""
    settings: dict[str, Any] = {"dropout": rate}
    mine = host.SelfAttention(size, heads, **settings)
    theirs = transformer.SelfAttention(size, heads, **settings)
    same_passes(mine, theirs, size)
    with pytest.raises(DataError, match="sequence 0 is empty"):
        theirs.forward(drawn(N, size), [0, 0, N])
    with pytest.raises(SettingsError, match="before"):
        theirs.backward(drawn(N, size))


@pytest.mark.skipif(target.SIMULATED, reason="slow in the simulator")
@pytest.mark.parametrize("rate", [0.2, 0.0])
def test_transformer_encoder(rate: float) -> None:
    settings: dict[str, Any] = {"dropout": rate, "attention_dropout": rate, "eps": 1e-6}
    settings["activation"] = "gelu_new" if rate else "gelu"
    mine = host.TransformerEncoder(2, 8, 2, 9, **settings)
    theirs = transformer.TransformerEncoder(2, 8, 2, 9, **settings)
    same_passes(mine, theirs, 8, 1)


def test_heads_wider_than_a_tile() -> None:
    """The result is cut into blocks of columns."""
    x, tile, heads = drawn(11, 3 * 12), 8, 1
    mine = host.SelfAttention(12, heads, dropout=0.0)
    offsets, out = np.array([0, 11]), np.empty((11, 12), np.float32)
    mine.values["query.weight"][...] = np.eye(12)
    qkv, lse = memory.put(x), memory.empty((11, heads))
    items = memory.put(attention.tiles_of(offsets, tile))
    found, dqkv, dout = memory.empty((11, 12)), memory.empty((11, 36)), drawn(11, 12)
    attention.attention_forward(found, lse, qkv, items, heads, tile)
    attention.attention_backward(dqkv, memory.put(dout), found, lse, qkv, items, heads, tile)
    q, k, v = (part.astype(np.float64) for part in np.split(x, 3, axis=1))
    p = np.exp(q @ k.T / np.sqrt(12))
    p /= p.sum(1, keepdims=True)
    out = p @ v
    close(found, out)
    dp = dout @ v.T
    ds = p * (dp - (dout * out).sum(1, keepdims=True)) / np.sqrt(12)
    close(dqkv, np.concatenate([ds @ k, ds.T @ q, p.T @ dout], axis=1), 5)


def test_tiles_fit_shared_memory() -> None:
    assert [attention.tile_of(size) for size in (8, 24, 32, 64, 128)] == [8, 32, 32, 64, 32]
    assert attention.tile_of(2000) == 0
    for size in (8, 64, 100, 128, 512):
        tile = attention.tile_of(size, 99 << 10)
        assert attention.shared_bytes(tile, size) <= 99 << 10
    items = attention.tiles_of(np.array([0, 3, 12, 13]), 8)
    assert items.tolist() == [[3, 12, 3], [3, 12, 11], [0, 3, 0], [12, 13, 12]]
    with pytest.raises(SettingsError, match="too wide"):
        transformer.SelfAttention(2000, 1)


def test_layer_norm_and_gelu() -> None:
    x, dy = drawn(5, 7), drawn(5, 7, seed=1)
    for mine, theirs in (
        (host_layers.LayerNorm(7, eps=1e-6), layers.LayerNorm(7, eps=1e-6)),
        (host_layers.Gelu("gelu_new"), layers.Gelu("gelu_new")),
        (host_layers.Gelu(), layers.Gelu()),
    ):
        same_values(mine, theirs)
        for _ in range(2):
            close(theirs.forward(x), mine.forward(x))
            close(theirs.backward(dy), mine.backward(dy), 5)
        same_gradients(mine, theirs)
        close(theirs.forward(x, training=False), mine.forward(x, training=False))
    close(theirs.forward(x[0]), mine.forward(x[0]))


def test_dropout_before_a_norm_of_more_elements_than_a_key_has(monkeypatch: Any) -> None:
    x, residual, bias = drawn(4, 3), drawn(4, 3, seed=1), drawn(3)
    gamma, beta = drawn(3, seed=2), drawn(3, seed=3)
    dropping = layer_norm.Dropping(5, 0, 2.0)
    found = []
    for block in (layer_norm.BLOCK, 11):
        monkeypatch.setattr(layer_norm, "BLOCK", block)
        sums, y = memory.put(x), memory.empty((4, 3))
        mean, rstd = memory.empty(4), memory.empty(4)
        affine = memory.put(gamma), memory.put(beta), 1e-6
        layer_norm.layer_norm_forward(
            y, mean, rstd, sums, *affine, bias=memory.put(bias), dropping=dropping,
            residual=memory.put(residual),
        )  # fmt: skip
        dx, dropped = memory.empty((4, 3)), memory.empty((4, 3))
        layer_norm.layer_norm_backward(
            dx, memory.put(x), sums, mean, rstd, affine[0], dropped=dropped, dropping=dropping
        )
        found.append([memory.get(part) for part in (sums, y, dx, dropped)])
    for whole, parts in zip(*found, strict=True):
        assert (whole == parts).all()
    sums, _, dx, dropped = found[0]
    kept = dropped != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(sums, np.where(kept, 2 * (x + bias), 0) + residual, rtol=1e-6)
    np.testing.assert_allclose(dropped, np.where(kept, 2 * dx, 0), rtol=1e-6)


@pytest.mark.parametrize("types", [True, False])
def test_bert_embeddings(types: bool) -> None:
    settings: dict[str, Any] = {"positions": 9, "dropout": 0.3, "eps": 1e-6}
    mine = host_bert.BertEmbeddings(7, 6, **settings)
    theirs = bert.BertEmbeddings(7, 6, **settings)
    same_values(mine, theirs)
    ids = np.random.default_rng(2).integers(0, 7, N).astype(np.int32)
    kinds = (np.arange(N) % 2).astype(np.int32) if types else None
    theirs.prepare(ids, OFFSETS, kinds)
    for key in (1, 2):
        found = theirs.forward(ids, OFFSETS, kinds, key=key)
        close(found, mine.forward(ids, OFFSETS, kinds, key=key), 4)
        mine.backward(drawn(N, 6))
        theirs.backward(drawn(N, 6))
    found, expected = theirs.gradients(), mine.gradients()
    for name, gradient in expected.items():
        close(found[name], gradient, 10)
    with pytest.raises(DataError, match="expected at most 9"):
        theirs.forward(ids, [0, N])


def test_pooler_and_masked_words() -> None:
    mine: Any = host_bert.Pooler(6)
    theirs: Any = bert.Pooler(6)
    same_values(mine, theirs)
    x, dy = drawn(3, 6), drawn(3, 6, seed=1)
    close(theirs.forward(x), mine.forward(x))
    close(theirs.backward(memory.put(dy)), mine.backward(dy), 2)
    same_gradients(mine, theirs)
    tables = host_layers.Embedding(5, 6), layers.Embedding(5, 6)
    same_values(*tables)
    mine, theirs = host_bert.MaskedWordHead(tables[0]), bert.MaskedWordHead(tables[1])
    same_values(mine, theirs)
    targets = np.array([4, 0, -1])
    assert float(theirs.loss(x, targets)) == pytest.approx(mine.loss(x, targets), rel=1e-5)
    close(theirs.backward(), mine.backward(), 4)
    same_gradients(mine, theirs)
    same_gradients(*tables)
    close(theirs.forward(x), mine.forward(x), 4)


def test_arrays_that_do_not_match_are_rejected() -> None:
    zeros = memory.zeros
    with pytest.raises(ValueError, match="2 heads"):
        attention.attention_forward(
            zeros((2, 3)), None, zeros((2, 9)), zeros(3, np.int32), 2, target.WARP
        )
    with pytest.raises(ValueError, match="layer normalisation"):
        layer_norm.layer_norm_forward(
            zeros((2, 3)), None, None, zeros((2, 3)), zeros(2), zeros(3), 1e-6
        )
