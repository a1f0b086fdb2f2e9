"""The CRF on the device compared with the CPU layer: losses, gradients, marginals, best paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq.kernels.cuda.nn import crf
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn.crf import CRF

F = np.float32
LENGTHS = (1, 4, 2)


@pytest.fixture(autouse=True)
def few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "THREADS", 4)  # fewer threads than tags
    monkeypatch.setattr(crf, "SLOTS", 3)


class Case:
    """A layer of K tags, a batch, and both on the device."""

    def __init__(self, K: int, spread: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.layer = CRF(K)
        for value in self.layer.values.values():
            value[...] = rng.normal(0, spread, value.shape)
        self.offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
        self.N = int(self.offsets[-1])
        self.emissions = rng.normal(0, spread, (self.N, K)).astype(F)
        self.tags = rng.integers(0, K, self.N).astype(np.int32)
        self.batch = memory.put(self.emissions), memory.put(self.tags)
        self.bounds = memory.put(self.offsets.astype(np.int32))
        values = self.layer.values
        self.parameters = tuple(memory.put(values[n]) for n in ("transitions", "start", "end"))

    def paths(self, mode: int, weight: float = 1.0, slopes: Any = None) -> tuple[Any, Any]:
        losses = memory.empty(len(LENGTHS), np.float64)
        marginals = memory.zeros(self.emissions.shape)
        crf.crf_paths(
            losses, marginals, *self.batch, self.bounds, *self.parameters, weight, mode, slopes
        )
        return memory.get(losses), memory.get(marginals)


@pytest.mark.parametrize(("K", "spread"), [(1, 1), (3, 1), (5, 1), (5, 60)])
def test_losses_and_gradients_match_the_cpu(K: int, spread: float) -> None:
    case = Case(K, spread)
    loss = case.layer.loss(case.emissions, case.tags, case.offsets)
    expected = case.layer.backward()
    slopes = tuple(memory.put(np.ones_like(memory.get(each))) for each in case.parameters)
    losses, found = case.paths(crf.GRADIENT, 1 / case.N, slopes)
    assert losses.sum() / case.N == pytest.approx(loss, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    for name, slope in zip(("transitions", "start", "end"), slopes, strict=True):
        np.testing.assert_allclose(memory.get(slope) - 1, case.layer.grads[name], atol=1e-5)


def test_likelihood_alone_computes_no_gradients() -> None:
    case = Case(4, 1)
    losses, marginals = case.paths(crf.LIKELIHOOD)
    expected = case.layer.loss(case.emissions, case.tags, case.offsets, training=False)
    assert losses.sum() / case.N == pytest.approx(expected, rel=1e-6)
    assert (marginals == 0).all()


@pytest.mark.parametrize("K", [1, 5])
def test_marginals(K: int) -> None:
    case = Case(K, 2)
    _, found = case.paths(crf.MARGINALS)
    np.testing.assert_allclose(found, case.layer.marginals(case.emissions, case.offsets), atol=5e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(("K", "spread", "ties"), [(1, 1, False), (5, 1, False), (5, 60, False),
                                                   (4, 1, True)])  # fmt: skip
def test_best_paths(K: int, spread: float, ties: bool) -> None:
    case = Case(K, spread)
    if ties:  # whole numbers: many paths are equal
        for value in case.layer.values.values():
            np.round(value, out=value)
        case.emissions = np.round(case.emissions)
        case.parameters = tuple(
            memory.put(case.layer.values[n]) for n in ("transitions", "start", "end")
        )
    tags = memory.empty(case.N, np.int32)
    scores = memory.empty(len(LENGTHS), np.float64)
    crf.crf_best(tags, scores, memory.put(case.emissions), case.bounds, *case.parameters)
    expected, expected_scores = case.layer.decode(case.emissions, case.offsets)
    assert memory.get(tags).tolist() == expected.tolist()
    np.testing.assert_allclose(memory.get(scores), expected_scores, rtol=1e-12)
