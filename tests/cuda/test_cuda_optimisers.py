"""Steps of the optimisers on the device compared with the CPU's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq.kernels.cuda.nn import optimisers
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.nn import optimisers as cpu

N = 48
SLICE = (16, 48)  # the numbers before it stay
F = np.float32
STEPS: dict[str, tuple[int, tuple[Any, ...]]] = {
    # moments, settings
    "sgd_step": (1, (F(0.1), F(0), False, F(0))),
    "sgd_step momentum": (1, (F(0.1), F(0.9), False, F(0.01))),
    "sgd_step nesterov": (1, (F(0.1), F(0.9), True, F(0))),
    "adagrad_step": (1, (F(0.1), F(1e-10), F(0.01))),
    "rmsprop_step": (2, (F(0.1), F(0.99), F(0.01), F(1e-8), F(0), F(0))),
    "rmsprop_step momentum": (2, (F(0.1), F(0.99), F(0.01), F(1e-8), F(0.9), F(0.01))),
    "adam_step": (2, (F(0.01), F(0.1), F(0.999), F(0.001), F(3.0), F(1e-8), F(0.01), F(0))),
    "adam_step decoupled": (
        2,
        (F(0.01), F(0.1), F(0.999), F(0.001), F(3.0), F(1e-8), F(0), F(0.02)),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_three_steps_match_the_cpu(name: str) -> None:
    kind = name.split()[0]
    moments, settings = STEPS[name]
    rng = np.random.default_rng(5)
    values = rng.normal(size=N).astype(F)
    held = [np.zeros(N, F) for _ in range(moments)]
    there = memory.put(values)
    held_there = [memory.put(moment) for moment in held]
    for step in range(3):
        gradients = rng.normal(size=N).astype(F)
        gradients[20:36] *= F(0 if step else 1e-25)
        getattr(cpu, kind)(values, gradients, *held, *SLICE, *settings)
        getattr(optimisers, kind)(there, memory.put(gradients), *held_there, *SLICE, *settings)
        np.testing.assert_allclose(memory.get(there), values, rtol=1e-6)
        for mine, expected in zip(held_there, held, strict=True):
            np.testing.assert_allclose(memory.get(mine), expected, rtol=1e-6)


def test_gradients_are_scaled_and_clamped() -> None:
    x = np.array([-3, -0.5, 0, 2, np.nan, np.inf], F)
    there = memory.put(x)
    optimisers.clamp(there, 1, 6, F(1))
    expected = np.array([-3, -0.5, 0, 1, np.nan, 1], F)
    np.testing.assert_array_equal(memory.get(there), expected)
    optimisers.scale(there, 0, 2, F(0.5))
    assert memory.get(there)[:4].tolist() == [-1.5, -0.25, 0, 1]


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (3, 4), (7, 7), (5, 38)])
def test_squares_are_summed_in_float64(
    start: int, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimisers, "SUMMED", 16)
    x = np.random.default_rng(0).normal(size=40).astype(F) * F(1e-19)
    found = optimisers.square_sum(memory.put(x), start, stop)
    assert found == pytest.approx(float((x[start:stop].astype(np.float64) ** 2).sum()), rel=1e-14)


def test_nan_norm_is_detected() -> None:
    assert np.isnan(optimisers.square_sum(memory.put(np.array([1, np.nan], F)), 0, 2))
    assert np.isinf(optimisers.square_sum(memory.put(np.array([1, np.inf], F)), 0, 2))
