"""Models small enough to see through, for the tests of the training loop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.nn.layer import Parameters
from fastseq.training.gradient import StepResult

Hook = Callable[["Linear"], None]


def product(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """a b without BLAS, whose bits depend on the alignment of the arrays in some kernels."""
    return (a * b).sum(axis=-1)


class Linear:
    """Least squares with noise drawn from the step's key, and a carried running mean of inputs
    that the prediction depends on: what is not restored to the bit shows in the weights.

    `hooks` maps (steps taken, where) to what then happens; where is "learn", "batches" or
    "validate".
    """

    def __init__(
        self,
        rows: int = 60,
        width: int = 5,
        batch: int = 8,
        valid: bool = True,
        validations: list[float] | None = None,
        known: bool = True,
    ) -> None:
        rng = np.random.default_rng(7)
        self.x = rng.standard_normal((rows, width)).astype(np.float32)
        self.y = product(self.x, rng.standard_normal(width).astype(np.float32)) + 1
        self.batch = batch
        self.valid = valid
        self.validations = validations
        self.known = known
        self.parameters = Parameters({"weight": (1, width), "bias": (1,)})
        self.parameters.views["weight"][...] = 0.1
        self.mean = np.zeros(width, np.float32)
        self.keys: list[int] = []
        self.validated = 0
        self.hooks: dict[tuple[int, str], Hook] = {}

    def steps_per_epoch(self, epoch: int) -> int | None:
        return -(-len(self.x) // self.batch) if self.known else None

    def batches(self, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
        self.mean[...] = 0
        order = np.random.default_rng([3, epoch]).permutation(len(self.x))
        for start in range(0, len(order), self.batch):
            self._happen("batches")
            yield order[start : start + self.batch]

    def learn(self, batch: npt.NDArray[np.int64], key: int) -> StepResult:
        self.keys.append(key)
        x, y = self.x[batch], self.y[batch]
        noise = np.random.default_rng(key).standard_normal(len(x)).astype(np.float32)
        self.mean += np.float32(0.1) * (x.mean(0) - self.mean)
        views, gradients = self.parameters.views, self.parameters.gradient_views
        inputs = x + self.mean
        error = product(inputs, views["weight"][0]) + views["bias"][0] - y + 0.1 * noise
        gradients["weight"][0] += 2 * product(inputs.T, error) / len(x)
        gradients["bias"][0] += 2 * error.mean()
        self._happen("learn")
        return StepResult(float(np.mean(error**2)), len(x), 10 * len(x))

    def validate(self) -> dict[str, float] | None:
        self._happen("validate")
        if not self.valid:
            return None
        self.validated += 1
        if self.validations is not None:
            loss = self.validations[self.validated - 1]
        else:
            views = self.parameters.views
            error = product(self.x, views["weight"][0]) + views["bias"][0] - self.y
            loss = float(np.mean(error**2))
        return {"loss": loss, "accuracy": 1 / (1 + loss)}

    def carried(self) -> dict[str, npt.NDArray[Any]]:
        return {"mean": self.mean.copy()}

    def restore_carried(self, carried: dict[str, npt.NDArray[Any]]) -> None:
        self.mean[...] = carried["mean"]

    def _happen(self, where: str) -> None:
        hook = self.hooks.pop((len(self.keys), where), None)
        if hook is not None:
            hook(self)


def interrupt(model: Linear) -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def kill(model: Linear) -> None:
    """kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def explode(model: Linear) -> None:
    """Finite gradients that throw the weights far away."""
    model.parameters.gradients[...] = 1e9


def spoil(model: Linear) -> None:
    """A gradient that is not a number."""
    model.parameters.gradients[0] = np.nan
