"""Dense, embedding, dropout, pooling, CRF and losses on the device against the CPU's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import Dense as HostDense
from fastseq.nn import Dropout as HostDropout
from fastseq.nn import Embedding as HostEmbedding
from fastseq.nn import Pooling as HostPooling
from fastseq.nn import crf as host_crf
from fastseq.nn import losses as host_losses
from fastseq.nn.backend import Backend
from fastseq.nn.crf import bio_constraints
from fastseq.nn.cuda.backend import CudaBackend
from fastseq.nn.cuda.crf import CRF
from fastseq.nn.cuda.layer import Feed, Space
from fastseq.nn.cuda.layers import Dense, Dropout, Embedding, ProjectedCrossEntropy
from fastseq.nn.cuda.pooling import Pooling
from fastseq.threads import Team

OFFSETS = np.array([0, 3, 4, 6])


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).normal(size=shape).astype(np.float32)


def close(found: Any, expected: Any) -> None:
    found = memory.get(found) if hasattr(found, "copy_to_host") else found
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def same_values(mine: Any, theirs: Any) -> None:
    """The CPU's values for the device's layer, none of them zero."""
    for name, value in mine.values.items():
        value += drawn(*value.shape, seed=len(name)) / 4
    theirs.load_state_dict(mine.state_dict())


def same_gradients(mine: Any, theirs: Any) -> None:
    found = theirs.gradients()
    for name, slope in mine.gradients().items():
        assert slope.any(), name
        close(found[name], slope)


@pytest.mark.parametrize("bias", [True, False])
def test_dense(bias: bool) -> None:
    mine, theirs = HostDense(3, 4, bias), Dense(3, 4, bias)
    same_values(mine, theirs)
    x, dy = drawn(5, 3), drawn(5, 4)
    for _ in range(2):  # gradients are added to
        close(theirs.forward(x), mine.forward(x))
        close(theirs.backward(dy), mine.backward(dy))
    same_gradients(mine, theirs)
    close(theirs.forward(memory.put(x), training=False), mine.forward(x, training=False))
    with pytest.raises(DataError, match="the input is of shape"):
        theirs.forward(dy)
    theirs.forward(x)
    with pytest.raises(DataError, match="a gradient of 1 rows"):
        theirs.backward(dy[:1])


def test_embedding_and_a_tied_output() -> None:
    mine, theirs = HostEmbedding(6, 4), Embedding(6, 4)
    same_values(mine, theirs)
    of_mine = HostDense(4, 6, weight_of=mine)
    of_theirs = Dense(4, 6, weight_of=theirs)
    ids, dy = np.array([5, 0, 5, 2], np.int32), drawn(4, 4)
    close(theirs.forward(ids), mine.forward(ids))
    theirs.backward(dy)
    mine.backward(dy)
    rows, index = mine.forward_distinct(ids)
    found, found_index = theirs.forward_distinct(ids)
    close(found, rows)
    np.testing.assert_array_equal(found_index, index)
    theirs.backward(dy[:3])
    mine.backward(dy[:3])
    x, slopes = drawn(2, 4), drawn(2, 6)
    close(of_theirs.forward(x), of_mine.forward(x))
    close(of_theirs.backward(slopes), of_mine.backward(slopes))
    same_gradients(mine, theirs)
    theirs.load_rows([1], dy[:1])
    close(theirs.forward(np.array([1], np.int32), training=False), dy[:1])
    with pytest.raises(DataError, match="holds 6 at 0"):
        theirs.forward(np.array([6]))
    frozen = Embedding(6, 4, frozen=True)
    frozen.forward(ids)
    frozen.backward(dy)
    assert not frozen.gradients()["weight"].any()


def test_dropout_masks_match_the_cpu() -> None:
    mine, theirs, x = HostDropout(0.4), Dropout(0.4), drawn(3, 5)
    close(theirs.forward(memory.put(x), key=9), mine.forward(x, key=9))
    close(theirs.backward(memory.put(x)), mine.backward(x))
    given = memory.put(x)
    assert theirs.forward(given, training=False) is given
    out = theirs.forward(given, key=9, out=given)
    assert out is given
    close(out, mine.forward(x, key=9))


@pytest.mark.parametrize("kind", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("both", [False, True])
def test_pooling(kind: str, both: bool) -> None:
    settings: dict[str, Any] = {"bidirectional": both, "attention": 3}
    mine, theirs = HostPooling(kind, 4, **settings), Pooling(kind, 4, **settings)
    same_values(mine, theirs)
    x, dy = drawn(6, 4), drawn(3, 4)
    close(theirs.forward(x, OFFSETS), mine.forward(x, OFFSETS))
    if kind in ("mean", "attention"):
        close(theirs.attention_weights(), mine.attention_weights())
    theirs.forward(x[:4], OFFSETS[:3], training=False)
    close(theirs.backward(dy), mine.backward(dy))
    same_gradients(mine, theirs)
    with pytest.raises(DataError, match="empty"):
        theirs.forward(x, np.array([0, 0, 6]))


@pytest.mark.parametrize("constrained", [False, True, "at the end too"])
def test_crf(constrained: bool | str) -> None:
    rules = bio_constraints(["O", "B-X", "I-X"]) if constrained else None
    if constrained == "at the end too":
        assert rules is not None
        rules = replace(rules, end=np.array([False, True, False]))
    mine, theirs = host_crf.CRF(3, constraints=rules), CRF(3, constraints=rules)
    same_values(mine, theirs)
    x, tags = drawn(6, 3), np.array([0, 1, 2, 0, 1, 2], np.int32)
    for per in ("token", "sequence"):
        loss = theirs.loss(memory.put(x), tags, OFFSETS, per=per)
        assert float(loss) == pytest.approx(mine.loss(x, tags, OFFSETS, per=per), rel=1e-5)
        close(theirs.backward(), mine.backward())
        loss = theirs.loss(memory.put(x), tags, OFFSETS, training=False, per=per)
        assert float(loss) == pytest.approx(mine.loss(x, tags, OFFSETS, False, per), rel=1e-5)
    same_gradients(mine, theirs)
    for limits in (None, bio_constraints(["O", "B-X", "I-X"]), rules):
        best, scores = theirs.decode(x, OFFSETS, limits)
        expected, wanted = mine.decode(x, OFFSETS, limits)
        np.testing.assert_array_equal(best, expected)
        np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    close(theirs.marginals(x, OFFSETS), mine.marginals(x, OFFSETS))
    with pytest.raises(SettingsError, match="before it"):
        theirs.backward()
    with pytest.raises(DataError, match="emissions"):
        theirs.decode(x[:, :2], OFFSETS)


@pytest.mark.parametrize("weighted", [False, True])
def test_projected_cross_entropy_in_pieces(weighted: bool) -> None:
    mine, theirs = HostDense(3, 4), Dense(3, 4)
    same_values(mine, theirs)
    x, targets = drawn(5, 3), np.array([3, -1, 0, 2, 3], np.int32)
    weights = np.array([1, 2, 0.5, 3], np.float32) if weighted else None
    head, device = host_losses.ProjectedCrossEntropy(40), ProjectedCrossEntropy(Feed(), 40)
    for training in (False, True):
        loss = device.loss(x, theirs, targets, weights, training)
        expected = head.loss(x, mine, targets, weights, training)
        assert float(loss) == pytest.approx(expected, rel=1e-6)
        assert float(loss) == pytest.approx(expected, rel=1e-6)  # asked for again
    close(device.backward(), head.backward())
    same_gradients(mine, theirs)


BACKENDS: list[Backend] = [Backend(Team(1)), CudaBackend(Team(1))]


def test_backends_agree() -> None:
    x, other = drawn(4, 3), drawn(4, 2)
    rows, weights = np.array([2, 0, 2]), np.array([1, 0.5, 2], np.float32)
    found = []
    for backend in BACKENDS:
        backend.begin()
        logits, y = backend.put(x.copy()), backend.put(x.copy())
        sums = backend.sum_rows(backend.put(x[:3].copy()), rows, 4)
        state = backend.put(np.stack([x, 2 * x]))
        zeros = backend.zeros("zeros", 4, 3)
        backend.copy(zeros[1], backend.put(x[0].copy()))
        backend.add(zeros, backend.put(x.copy()))
        results: list[Any] = [
            float(backend.cross_entropy(logits, [2, -1, 0, 1], weights)),
            backend.get(logits),
            float(backend.squared_error(y, np.ones((4, 3), np.float32))),
            backend.get(y),
            backend.get(backend.rows(backend.put(x.copy()), rows)),
            backend.get(sums),
            backend.get(backend.concat_columns(backend.put(x.copy()), backend.put(other))),
            backend.get(backend.columns(backend.put(x.copy()), 1, 3)),
            backend.get(backend.batch_rows(state, np.array([3, 1]))),
            backend.get(zeros),
            backend.best(backend.put(x.copy())),
            backend.softmax(backend.put(x.copy())),
        ]
        found.append(results)
    for mine, theirs in zip(*found, strict=True):
        assert np.shape(mine) == np.shape(theirs)
        np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-6)


def test_workspace_is_reused() -> None:
    space = Space()
    first = space.array("a", 2, 3)
    assert space.array("a", 2, 3) is first
    second = space.array("a", 6)
    memory.put(np.arange(6, dtype=np.float32), second)
    assert memory.get(first)[1].tolist() == [3, 4, 5]  # the same memory
    assert space.array("a", 100).shape == (100,)
    assert space.array("a", 2, dtype=np.int32).dtype == np.int32


def test_uploaded_batches_stay_valid_for_three_steps() -> None:
    feed, made = Feed(), []
    given = np.arange(5)

    def make() -> int:
        made.append(1)
        return len(made)

    sent = feed.send(given, np.int32)
    for _ in range(3):
        assert feed.made("what", (given,), make) == 1
        assert feed.made("what", (given.reshape(1, 5),), make) == 1  # the same memory
        feed.begin()
        feed.send(np.zeros(7), np.float32)
        assert memory.get(sent).tolist() == [0, 1, 2, 3, 4]
    feed.begin()  # the fourth writes over it
    assert feed.made("what", (given,), make) == 2
    large = np.arange(1 << 19)
    assert memory.get(feed.send(large, np.int64))[-1] == (1 << 19) - 1
