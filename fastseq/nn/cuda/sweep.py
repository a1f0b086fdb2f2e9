"""One layer of recurrent units, in one or two directions, over a packed batch on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.kernels.cuda.nn import embedding, gemm, sequences, sums
from fastseq.kernels.cuda.nn.dropout import drop
from fastseq.kernels.cuda.recurrent import recurrent
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn.cuda.space import Feed
from fastseq.nn.dropout import limit_and_scale
from fastseq.seeds import mixed_key
from fastseq.types import Int64

if TYPE_CHECKING:
    from fastseq.nn.cuda.stack import DeviceLayout, DeviceRecurrent


@dataclass(frozen=True, slots=True, eq=False)
class Picks:
    """Rows of an input that packed rows share.

    rows                     int32[N] on the device: which row each packed row reads
    numbers, order, starts   what its gradients are added up by: see kernels.cuda.sums.segment_rows
    largest                  of the rows
    """

    rows: Any
    numbers: Any
    order: Any
    starts: Any
    largest: int

    @classmethod
    def of(cls, rows: Int64, feed: Feed) -> Picks:
        """Of int[N], the row that each packed row reads."""
        numbers, order, starts = embedding.groups(rows)
        return cls(
            feed.send(rows, np.int32),
            feed.send(numbers, np.int32),
            feed.send(order, np.int32),
            feed.send(starts, np.int32),
            int(numbers[-1]),
        )


class DeviceSweep:
    """A layer's passes; its arrays are the space's, under the layer's number.

    Parameters
    ----------
    layer : whose parameters these are
    cell : "lstm", "gru", "rnn" or "rnn_relu"
    number : which of its layers this is, from 0
    suffixes : of the parameters' names, one a direction
    """

    def __init__(self, layer: DeviceRecurrent, cell: str, number: int, suffixes: list[str]) -> None:
        self.layer = layer
        self.cell = cell
        self.number = number
        self.suffixes = suffixes
        self.units = layer.hidden_size
        self.width = recurrent.GATES[cell] * self.units  # of what the input gives
        self.row = recurrent.SLOTS[cell] * self.units
        self._used: list[Any] = []  # weight_hh of each direction as training last used it

    def _array(self, name: object, *shape: int) -> Any:
        return self.layer.space.array((self.number, name), *shape)

    # ---- forward ----------------------------------------------------------------------------

    def forward(
        self, x: Any, y: Any, rows: Any, layout: DeviceLayout, initial: list[Any],
        final: list[Any], training: bool, key: int, picks: Picks | None,
    ) -> None:  # fmt: skip
        """Write h of every row to y, and this layer's last states into `final`.

        x        float32[N, I]        packed; with `picks` [U, I], whose rows packed rows share
        y        float32[·, D H]      packed row n's at y[rows[n]]
        initial  float32[L D, B, H]   of each array of a state, None for zeros; `final` likewise
        """
        N, H = layout.host.count, self.units
        if training:
            self._used = []
        for d, suffix in enumerate(self.suffixes):
            of = self.layer.on_device
            bias, hidden_bias = self._biases(suffix)
            gates = self._array(("gates", d, training), N, self.row)
            shared = gates
            if picks is not None:
                shared = self._array(("table", d), len(x), self.row)
            gemm.multiply(
                gemm.window(shared, 0, self.width), x, of[f"weight_ih_{suffix}"], transpose_b=True,
                bias=bias, precision=self.layer.precision,
            )  # fmt: skip
            if picks is not None:
                sequences.gather(gates, shared, picks.rows)
            weight = of[f"weight_hh_{suffix}"]
            if training and self.layer.weight_dropout:
                weight = self._array(("dropped", d), *weight.shape)
                self._drop(weight, of[f"weight_hh_{suffix}"], mixed_key(key, d))
            if training:
                self._used.append(weight)
            states = self._states("state", initial, d, layout)
            before = [
                self._array(("before", d, i), N if training else 1, H) for i in range(len(states))
            ]
            recurrent.forward(
                self.cell, y, d * H, states, gates, before, weight, hidden_bias, rows, layout.steps,
                d == 1, training, self.layer.precision,
            )  # fmt: skip
            self._unpacked(final, states, d, layout)

    def _biases(self, suffix: str) -> tuple[Any, Any]:
        """What is added to the input's products, and b_hn of a GRU."""
        of = self.layer.on_device
        first, second = of[f"bias_ih_{suffix}"], of[f"bias_hh_{suffix}"]
        together = self._array(("bias", suffix), self.width)
        gru = self.cell == "gru"
        sequences.sum_first(together, first, second, 2 * self.units if gru else self.width)
        return together, second[2 * self.units :] if gru else None

    def _drop(self, out: Any, weight: Any, key: int) -> None:
        drop(out, weight, key, *limit_and_scale(self.layer.weight_dropout))

    # ---- backward ---------------------------------------------------------------------------

    def backward(
        self, x: Any, dy: Any, rows: Any, layout: DeviceLayout, last: list[Any], first: list[Any],
        key: int, dx: Any, picks: Picks | None,
    ) -> None:  # fmt: skip
        """Add to the gradients of the parameters; the gradient of the initial state into `first`.

        x, rows, layout, key and picks are those of `forward`; `last` the gradient of the last
        state, None for zeros; dx out: of x's shape, None where it is not wanted.
        """
        N, precision = layout.host.count, self.layer.precision
        for d, suffix in enumerate(self.suffixes):
            gates = self._array(("gates", d, True), N, self.row)
            states = self._states("dstate", last, d, layout)
            before = [self._array(("before", d, i), N, self.units) for i in range(len(states))]
            recurrent.backward(
                self.cell, gates, states, dy, d * self.units, before, self._used[d], rows,
                layout.steps, d == 1, precision,
            )  # fmt: skip
            self._unpacked(first, states, d, layout)
            self._hidden_gradients(suffix, d, gates, before[0], key)
            dz = gates
            if picks is not None:
                dz = self._array(("table", d), len(x), self.row)
                if len(picks.numbers) < len(x):
                    sequences.fill(dz, 0)  # rows that no step read
                sums.segment_rows(dz, gates, picks.numbers, picks.order, picks.starts)
            of_input = gemm.window(dz, 0, self.width)
            slopes = self.layer.slopes_on_device
            gemm.multiply(
                slopes[f"weight_ih_{suffix}"], of_input, x, transpose_a=True, add=True,
                precision=precision,
            )  # fmt: skip
            sums.column_sums(slopes[f"bias_ih_{suffix}"], of_input)
            if dx is not None:
                weight = self.layer.on_device[f"weight_ih_{suffix}"]
                gemm.multiply(dx, of_input, weight, add=d > 0, precision=precision)

    def _hidden_gradients(self, suffix: str, d: int, dz: Any, before: Any, key: int) -> None:
        H, precision = self.units, self.layer.precision
        slopes = self.layer.slopes_on_device
        to, bias = slopes[f"weight_hh_{suffix}"], slopes[f"bias_hh_{suffix}"]
        masked = self.layer.weight_dropout > 0  # the gradient of the weight as used, to be masked
        summed = self._array(("masked", d), *to.shape) if masked else to
        parts = [(0, self.width, 0)]  # columns of dz, and the weight's rows from there on
        if self.cell == "gru":
            parts = [(0, 2 * H, 0), (3 * H, 4 * H, 2 * H)]
        for first, last, row in parts:
            rows, columns = slice(row, row + last - first), gemm.window(dz, first, last)
            gemm.multiply(
                summed[rows], columns, before, transpose_a=True, add=not masked,
                precision=precision,
            )  # fmt: skip
            sums.column_sums(bias[rows], columns)
        if masked:
            self._drop(summed, summed, mixed_key(key, d))
            sequences.add(to, summed)

    # ---- states -----------------------------------------------------------------------------

    def _states(self, name: str, given: list[Any], d: int, layout: DeviceLayout) -> list[Any]:
        """This layer's part of a state, float32[B, H] each, in packed order, to be overwritten."""
        B, at = len(layout.host.order), self._at(d)
        found = []
        for i, part in enumerate(given):
            state = self._array((name, d, i), B, self.units)
            if part is None:
                sequences.fill(state, 0)
            elif layout.host.identity:
                memory.copy(state, memory.row(part, at))
            else:
                sequences.gather(state, memory.row(part, at), layout.order)
            found.append(state)
        return found

    def _unpacked(self, out: list[Any], states: list[Any], d: int, layout: DeviceLayout) -> None:
        """The way back from `_states`."""
        for whole, state in zip(out, states, strict=True):
            part = memory.row(whole, self._at(d))
            if layout.host.identity:
                memory.copy(part, state)
            else:
                sequences.scatter(part, state, layout.order)

    def _at(self, d: int) -> int:
        """Which row of a state is this layer's."""
        return self.number * len(self.suffixes) + d
