"""The network of a forecaster and its training on the windows of a series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.models.data.series import Scaler, WindowBatch, Windows
from fastseq.models.loop.trainable import StepResult
from fastseq.models.study import Learned, Network, Study, fingerprint_of, step_norms
from fastseq.nn.dense import Dense
from fastseq.nn.dropout import Dropout
from fastseq.nn.losses import mean_squared_error
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.threads import Team
from fastseq.types import Float32, Float64, Int64

_VALIDATED_AT_ONCE = 1024  # windows


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
        team: Team,
    ) -> None:
        self.recurrent = recurrent
        self.output = output
        self.horizon = horizon
        self._dropout = Dropout(dropout, team)
        super().__init__({cell: recurrent, "output": output}, team)

    def forecast(self, inputs: Float32, training: bool = False, key: int = 0) -> Float32:
        """float32[B, horizon * C], step after step, of windows float32[T, B, C]."""
        with self.lock:
            y, _ = self.recurrent.forward(inputs, training=training, key=mixed_key(key, 0))
            last = self._dropout.forward(y[-1], training, mixed_key(key, 1))
            out = self.output.forward(last, training)
        out += np.tile(inputs[-1], self.horizon)
        return out

    def backward(self, dout: Float32, steps: int) -> Float32:
        """float32[T, B, C], the gradient of the windows' values as the recurrent layers read them,
        of that of the forecasts; adds to the gradients of the parameters."""
        dlast = self._dropout.backward(self.output.backward(dout))
        dy = np.zeros((steps, *dlast.shape), np.float32)
        dy[-1] = dlast
        return self.recurrent.backward(dy)


@dataclass(slots=True, eq=False)
class LearnedForecast(Learned):
    """What a forecaster learned.

    scaler  of the training series
    names   of its columns
    """

    network: ForecastNetwork
    scaler: Scaler
    names: tuple[str, ...]


class ForecastStudy(Study[LearnedForecast]):
    """The training of a forecaster.

    windows   of the training series, scaled
    held_out  to validate on; None where nothing is held out
    """

    def __init__(
        self,
        learned: LearnedForecast,
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

    def steps_per_epoch(self, epoch: int) -> int:
        return -(-len(self._windows) // self._batch_size)

    def batches(self, epoch: int) -> Iterator[WindowBatch]:
        return self._windows.epoch(epoch, self._batch_size, self._seed)

    def learn(self, batch: WindowBatch, key: int) -> StepResult:
        network = self.learned.network
        out = network.forecast(batch.inputs, True, key)
        loss = mean_squared_error(out, batch.targets)
        network.backward(out, len(batch.inputs))
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
        return {"rows": len(values), "checksums": fingerprint_of(values, held_out)}

    def flow(self) -> Float64:
        count: Int64 = np.arange(min(len(self._windows), self._batch_size))
        batch = self._windows.take(count)
        network = self.learned.network
        out = network.forecast(batch.inputs, True)
        mean_squared_error(out, batch.targets)
        dx = network.backward(out, len(batch.inputs))
        network.parameters.zero_gradients()
        return step_norms(dx)
