"""One layer that several threads use for inference."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from fastseq import nn
from tests.hammering import assert_same_from_threads

RNG = np.random.default_rng(0)
BATCHES = [RNG.standard_normal((t, b, 8), np.float32) for t, b in ((5, 3), (9, 2), (3, 7), (12, 4))]
ROWS = [batch.reshape(-1, 8) for batch in BATCHES]
OFFSETS = {len(rows): np.array([0, 2, len(rows)]) for rows in ROWS}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "threads": 2}])
def test_recurrent_layers_give_each_thread_its_own_output(kind: Any, options: Any) -> None:
    layer = kind(8, 16, **options)
    assert_same_from_threads(lambda x: layer.forward(x, training=False), BATCHES, 100)


def test_recurrent_layers_on_ragged_batches() -> None:
    layer = nn.LSTM(8, 16)
    assert_same_from_threads(
        lambda x: layer.forward_ragged(x, OFFSETS[len(x)], training=False), ROWS, 100
    )


def test_weights_held_by_one_thread_while_others_compute() -> None:
    layer = nn.LSTM(8, 16)

    def call(x: Any) -> Any:
        with layer.weights_held():
            return layer.forward(x, training=False)

    assert_same_from_threads(call, BATCHES, 100)


@pytest.mark.parametrize(
    ("layer", "method"),
    [
        (nn.Dense(8, 5), lambda layer, x: layer.forward(x, training=False)),
        (nn.Pooling("attention", 8), lambda layer, x: layer.forward(x, OFFSETS[len(x)], False)),
        (nn.CRF(8), lambda layer, x: layer.decode(x, OFFSETS[len(x)])),
        (nn.CRF(8), lambda layer, x: layer.marginals(x, OFFSETS[len(x)])),
        (nn.Dropout(0.5), lambda layer, x: layer.forward(x, training=False)),
        (
            nn.Embedding(30, 6),
            lambda layer, x: layer.forward_distinct((x[:, 0] * 9).astype(np.int32) % 30, False),
        ),
    ],
    ids=["dense", "pooling", "crf-decode", "crf-marginals", "dropout", "embedding"],
)
def test_other_layers_give_each_thread_its_own_output(layer: Any, method: Any) -> None:
    assert_same_from_threads(lambda x: method(layer, x), ROWS, 100)


def test_projected_cross_entropy_gives_each_thread_its_own_loss() -> None:
    head, dense = nn.ProjectedCrossEntropy(budget=200), nn.Dense(8, 20)
    assert_same_from_threads(
        lambda x: head.loss(x, dense, np.arange(len(x)) % 20, training=False), ROWS, 100
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_layers_can_be_copied_and_pickled(copied: Any) -> None:
    layer = nn.LSTM(8, 16)
    twin = copied(layer)
    np.testing.assert_array_equal(
        twin.forward(BATCHES[0], training=False)[0], layer.forward(BATCHES[0], training=False)[0]
    )
    with layer.lock, twin.lock:
        assert layer.lock is not twin.lock
