"""The network of a forecaster and its training on the windows of a series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.models.data.series import Scaler, Series, WindowBatch, Windows
from fastseq.models.task import (
    FittedState,
    Network,
    Prefetcher,
    TrainingTask,
    fingerprint_of,
    step_norms,
)
from fastseq.nn.backend import Backend
from fastseq.nn.layers import Dense
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.training.gradient import StepResult
from fastseq.types import Float32, Float64

_VALIDATED_AT_ONCE = 1024  # windows

Prepared = tuple[tuple[Any, Any], Any]  # what `forward` takes, and the targets


class ForecastNetwork(Network):
    """Recurrent layers; of their last step, dropout and a dense layer; the window's last values
    added to every step of the horizon.

    Parameters
    ----------
    recurrent : C inputs, one direction
    output : to horizon * C
    cell : name of the recurrent layer's parameters ("lstm")
    dropout : rate of the last step's units, while training
    """

    def __init__(
        self,
        recurrent: Recurrent,
        output: Dense,
        cell: str,
        dropout: float,
        horizon: int,
        backend: Backend,
    ) -> None:
        self.recurrent = recurrent
        self.output = output
        self.horizon = horizon
        self._dropout = backend.dropout(dropout)
        super().__init__({cell: recurrent, "output": output}, backend)

    def prepare(self, inputs: Float32) -> tuple[Any, Any]:
        """Windows float32[T, B, C] as the layers take them, and what is added to the forecasts."""
        last = np.tile(inputs[-1], self.horizon)
        return self.backend.put(inputs), self.backend.put(last)

    def forecast(self, inputs: Float32) -> Float32:
        """float32[B, horizon * C], step after step, of windows float32[T, B, C]."""
        with self.lock, self.backend.memory("predict on the CPU (device cpu)"):
            self.backend.begin()
            return self.backend.get(self.forward(*self.prepare(inputs), training=False))

    def forward(self, inputs: Any, last: Any, training: bool = True, key: int = 0) -> Any:
        """The forecasts [B, horizon * C] of what `prepare` gave, where the network computes."""
        y, _ = self.recurrent.forward(inputs, training=training, key=mixed_key(key, 0))
        ends = self._dropout.forward(y[len(y) - 1], training, mixed_key(key, 1))
        out = self.output.forward(ends, training)
        self.backend.add(out, last)
        return out

    def backward(self, dout: Any, steps: int) -> Any:
        """[T, B, C], the gradient of the windows' values as the recurrent layers read them, of that
        of the forecasts; adds to the gradients of the parameters."""
        dlast = self._dropout.backward(self.output.backward(dout))
        dy = self.backend.zeros("dy", steps, *dlast.shape)
        self.backend.copy(dy[steps - 1], dlast)
        return self.recurrent.backward(dy)


@dataclass(slots=True, eq=False)
class ForecastState(FittedState):
    """The fitted state of a forecaster.

    scaler   of the training series
    names    of its columns
    window   rows of the input window
    horizon  rows that are forecast
    """

    network: ForecastNetwork
    scaler: Scaler
    names: tuple[str, ...]
    window: int
    horizon: int

    def windows(self, series: Series) -> Windows:
        """The scaled windows of some series. Raises DataError where all are too short."""
        scaled = self.scaler.scale(series.values, series.names, series.where)
        return Windows(scaled, self.window, self.horizon, series.source, series.bounds)


class ForecastTask(TrainingTask[ForecastState]):
    """The training of a forecaster.

    windows   of the training series, scaled
    held_out  to validate on; None where nothing is held out
    """

    def __init__(
        self,
        learned: ForecastState,
        windows: Windows,
        held_out: Windows | None,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(learned)
        self._windows = windows
        self._held_out = held_out
        self._batch_size = batch_size
        self._seed = seed
        self._ahead: Prefetcher[WindowBatch, Prepared] = Prefetcher(self._prepared)

    def steps_per_epoch(self, epoch: int) -> int:
        return -(-len(self._windows) // self._batch_size)

    def batches(self, epoch: int) -> Iterator[WindowBatch]:
        return self._ahead.through(self._windows.epoch(epoch, self._batch_size, self._seed))

    def _prepared(self, batch: WindowBatch) -> Prepared:
        network = self.learned.network
        network.backend.begin()
        return network.prepare(batch.inputs), network.backend.put(batch.targets)

    def learn(self, batch: WindowBatch, key: int) -> StepResult:
        network = self.learned.network
        given, targets = self._ahead.take(batch)
        out = network.forward(*given, key=key)
        loss = network.backend.squared_error(out, targets)
        network.backward(out, len(batch.inputs))
        if network.backend.ahead:
            self._ahead.prepare()
        return StepResult(loss, out.size, batch.inputs.size)

    def validate(self) -> dict[str, float] | None:
        """The loss, of scaled values, and the RMSE in the columns' own units."""
        if self._held_out is None:
            return None
        scale = self.learned.scaler.std
        total = np.zeros(len(scale))
        count = 0
        for batch in self._held_out.in_order(_VALIDATED_AT_ONCE):
            wrong = self.learned.network.forecast(batch.inputs) - batch.targets
            wide = np.square(wrong, dtype=np.float64).reshape(-1, len(scale))
            total += wide.sum(0)
            count += len(wide)
        loss = float(total.sum() / (count * len(scale)))
        rmse = float(np.sqrt((total * scale * scale).sum() / (count * len(scale))))
        return {"loss": loss, "rmse": rmse}

    def fingerprint(self) -> dict[str, Any]:
        held_out = None if self._held_out is None else self._held_out.values
        values = self._windows.values
        found = {"rows": len(values), "checksums": fingerprint_of(values, held_out)}
        bounds = [None if w is None else w.offsets for w in (self._windows, self._held_out)]
        if any(offsets is not None and len(offsets) > 2 for offsets in bounds):
            found["series"] = fingerprint_of(*bounds)
        return found

    def flow(self) -> Float64:
        batch = self._windows.take(self._windows.starts[: self._batch_size])
        network = self.learned.network
        given, targets = self._prepared(batch)
        out = network.forward(*given)
        network.backend.squared_error(out, targets)
        dx = network.backend.get(network.backward(out, len(batch.inputs)))
        network.parameters.zero_gradients()
        return step_norms(dx)
