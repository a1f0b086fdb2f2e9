"""LSTM, GRU and RNN layers on the device: stacked, bidirectional, over ragged batches.

The order of rows, the dropout masks and the order of every sum are those of the CPU
(nn/recurrent.py, nn/recurrent_layer.py); a batch is packed by its lengths on the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.nn.dropout import drop, drop_rows
from fastseq.kernels.cuda.recurrent import recurrent as kernels
from fastseq.kernels.cuda.recurrent.recurrent import Steps, steps_of
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import recurrent as host
from fastseq.nn.arrays import as_index
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.nn.layers import limit_and_scale
from fastseq.nn.recurrent import Recurrent
from fastseq.nn.recurrent_layer import Layout, Work, lay_out
from fastseq.seeds import mixed_key
from fastseq.types import Int64

_SHAPES = 8  # padded batches whose layouts are kept


@dataclass(frozen=True, slots=True, eq=False)
class DeviceLayout(Layout):
    """A packed batch, whose rows and order are int32 on the device.

    host_rows  int64[N]  the rows on the host
    steps      where each step's rows are
    """

    host_rows: Int64
    steps: Steps


@dataclass(frozen=True, slots=True, eq=False)
class Picks:
    """Rows of an input that packed rows share.

    rows     int32[N] on the device: which row each packed row reads
    groups   (numbers, order, starts): what its gradients are summed by, see segment_rows in
             kernels/cuda/nn/rows.py
    largest  of the rows
    """

    rows: Any
    groups: list[Any]
    largest: int


class DeviceRecurrentLayer:
    """The passes of one layer of a recurrent network; its arrays are named by its number."""

    def __init__(self, owner: DeviceRecurrent, number: int) -> None:
        self.owner = owner
        self.number = number
        self.cell = owner.cell_name
        self.suffixes = owner.suffixes(number)
        self.units = owner.hidden_size
        self.width = kernels.GATES[self.cell] * self.units  # of the input's products
        self.row = kernels.SLOTS[self.cell] * self.units
        self._used: list[Any] = []  # weight_hh of each direction as training last used it

    def packing(self, training: bool, key: int) -> list[Work]:
        """Nothing: the passes themselves read the weights."""
        return []

    def packing_back(self, want_dx: bool) -> list[Work]:
        """Nothing."""
        return []

    def hold(self) -> list[Work]:
        """Nothing."""
        return []

    def release(self) -> None:
        """Nothing."""

    def _array(self, name: object, *shape: int) -> Any:
        return self.owner.space.array((self.number, name), *shape)

    # ---- forward ----------------------------------------------------------------------------

    def forward(
        self, x: Any, y: Any, rows: Any, layout: DeviceLayout, initial: tuple[Any, ...],
        final: tuple[Any, ...], training: bool, key: int, picks: Picks | None, unpacked: None,
    ) -> None:  # fmt: skip
        """Write h of every row to y, and this layer's last states into `final`.

        x        float32[N, I]        packed; with `picks` [U, I], whose rows packed rows share
        y        float32[·, D H]      packed row n's at y[rows[n]]
        initial  float32[L D, B, H]   of each array of a state, None for zeros; `final` likewise
        """
        N, H = layout.count, self.units
        if training:
            self._used = []
        for d, suffix in enumerate(self.suffixes):
            of = self.owner.on_device
            bias, hidden_bias = self._biases(suffix)
            gates = self._array(("gates", d, training), N, self.row)
            shared = gates
            if picks is not None:
                shared = self._array(("table", d), len(x), self.row)
            gemm.multiply(
                gemm.window(shared, 0, self.width), x, of[f"weight_ih_{suffix}"], transpose_b=True,
                bias=bias, precision=self.owner.precision,
            )  # fmt: skip
            if picks is not None:
                row_kernels.gather(gates, shared, picks.rows)
            weight = of[f"weight_hh_{suffix}"]
            if training and self.owner.weight_dropout:
                weight = self._array(("dropped", d), *weight.shape)
                self._drop(weight, of[f"weight_hh_{suffix}"], mixed_key(key, d))
            if training:
                self._used.append(weight)
            states = self._states("state", initial, d, layout)
            before = [
                self._array(("before", d, i), N if training else 1, H) for i in range(len(states))
            ]
            kernels.forward(
                self.cell, y, d * H, states, gates, before, weight, hidden_bias, rows, layout.steps,
                d == 1, training, self.owner.precision,
            )  # fmt: skip
            self._unpacked(final, states, d, layout)

    def _biases(self, suffix: str) -> tuple[Any, Any]:
        """What is added to the input's products, and b_hn of a GRU."""
        of = self.owner.on_device
        first, second = of[f"bias_ih_{suffix}"], of[f"bias_hh_{suffix}"]
        together = self._array(("bias", suffix), self.width)
        gru = self.cell == "gru"
        row_kernels.sum_first(together, first, second, 2 * self.units if gru else self.width)
        return together, second[2 * self.units :] if gru else None

    def _drop(self, out: Any, weight: Any, key: int) -> None:
        drop(out, weight, key, *limit_and_scale(self.owner.weight_dropout))

    # ---- backward ---------------------------------------------------------------------------

    def backward(
        self, x: Any, dy: Any, rows: Any, layout: DeviceLayout, last: tuple[Any, ...],
        first: tuple[Any, ...], key: int, dx: Any, unpacked: Any, picks: Picks | None,
    ) -> None:  # fmt: skip
        """Add to the gradients of the parameters; the gradient of the initial state into `first`.

        x, rows, layout, key and picks are those of `forward`; `last` the gradient of the last
        state, None for zeros; dx out: of x's shape, None where it is not wanted; unpacked out: row
        n of dx at unpacked[rows[n]] too.
        """
        N, precision = layout.count, self.owner.precision
        for d, suffix in enumerate(self.suffixes):
            gates = self._array(("gates", d, True), N, self.row)
            states = self._states("dstate", last, d, layout)
            before = [self._array(("before", d, i), N, self.units) for i in range(len(states))]
            kernels.backward(
                self.cell, gates, states, dy, d * self.units, before, self._used[d], rows,
                layout.steps, d == 1, precision,
            )  # fmt: skip
            self._unpacked(first, states, d, layout)
            self._hidden_gradients(suffix, d, gates, before[0], key)
            dz = gates
            if picks is not None:
                dz = self._array(("table", d), len(x), self.row)
                if len(picks.groups[0]) < len(x):
                    row_kernels.fill(dz, 0)  # rows that no step read
                row_kernels.segment_rows(dz, gates, *picks.groups)
            of_input = gemm.window(dz, 0, self.width)
            gradients = self.owner.grads_on_device
            gemm.multiply(
                gradients[f"weight_ih_{suffix}"], of_input, x, transpose_a=True, add=True,
                precision=precision,
            )  # fmt: skip
            row_kernels.column_sums(gradients[f"bias_ih_{suffix}"], of_input)
            if dx is not None:
                weight = self.owner.on_device[f"weight_ih_{suffix}"]
                gemm.multiply(dx, of_input, weight, add=d > 0, precision=precision)
        if unpacked is not None:
            row_kernels.scatter(unpacked, dx, layout.rows)

    def _hidden_gradients(self, suffix: str, d: int, dz: Any, before: Any, key: int) -> None:
        H, precision = self.units, self.owner.precision
        gradients = self.owner.grads_on_device
        to, bias = gradients[f"weight_hh_{suffix}"], gradients[f"bias_hh_{suffix}"]
        masked = self.owner.weight_dropout > 0  # the gradient of the weight as used, to be masked
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
            row_kernels.column_sums(bias[rows], columns)
        if masked:
            self._drop(summed, summed, mixed_key(key, d))
            row_kernels.add(to, summed)

    # ---- states -----------------------------------------------------------------------------

    def _states(self, name: str, given: tuple[Any, ...], d: int, layout: DeviceLayout) -> list[Any]:
        """This layer's part of a state, float32[B, H] each, in packed order, to be overwritten."""
        B, at = len(layout.order), self._at(d)
        found = []
        for i, part in enumerate(given):
            state = self._array((name, d, i), B, self.units)
            if part is None:
                row_kernels.fill(state, 0)
            elif layout.identity:
                memory.copy(state, memory.row(part, at))
            else:
                row_kernels.gather(state, memory.row(part, at), layout.order)
            found.append(state)
        return found

    def _unpacked(
        self, out: tuple[Any, ...], states: list[Any], d: int, layout: DeviceLayout
    ) -> None:
        """The reverse of `_states`."""
        for whole, state in zip(out, states, strict=True):
            part = memory.row(whole, self._at(d))
            if layout.identity:
                memory.copy(part, state)
            else:
                row_kernels.scatter(part, state, layout.order)

    def _at(self, d: int) -> int:
        """Which row of a state is this layer's."""
        return self.number * len(self.suffixes) + d


class DeviceRecurrent(DeviceLayer, Recurrent):
    """As nn.recurrent.Recurrent: arrays and states on the device, lengths and offsets from the
    host. `memory.put` and `get` transfer states."""

    layer_type: ClassVar[Any] = DeviceRecurrentLayer

    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        self._layouts: dict[tuple[int, int], DeviceLayout] = {}
        self._counting: Any = memory.put(np.zeros(0, np.int32))

    def prepare(self, offsets: Int64, index: Any = None) -> None:
        layout = self._ragged(offsets)
        if index is not None:
            self._picks(index, layout)

    def prepare_steps(self, steps: int, batch: int, index: Any = None) -> None:
        layout = self._padded(np.full(batch, steps), steps)
        if index is not None:
            self._picks(index, layout)

    def _padded(self, lengths: Int64, steps: int) -> DeviceLayout:
        """That of equal lengths is kept for the next batch of its shape."""
        B = len(lengths)
        if not (lengths == steps).all():
            return self._sent(lay_out(lengths, np.arange(B), B, 1), fresh=False)
        found = self._layouts.get((steps, B))
        if found is None:
            if len(self._layouts) == _SHAPES:
                self._layouts.clear()
            layout = lay_out(lengths, np.arange(B), B, 1)
            found = self._layouts[steps, B] = self._sent(layout, fresh=True)
        return found

    def _ragged(self, offsets: Int64) -> DeviceLayout:
        def make() -> DeviceLayout:
            return self._sent(lay_out(np.diff(offsets), offsets[:-1], 1, 1), fresh=False)

        return self.feed.made("layout", (offsets,), make)

    def _sent(self, layout: Layout, fresh: bool) -> DeviceLayout:
        """The layout on the device: in memory of its own, or in that of the batch."""

        def send(array: Any) -> Any:
            if fresh:
                return memory.put(np.asarray(array, np.int32))
            return self.feed.send(array, np.int32)

        (piece,) = layout.slices
        steps = steps_of(piece.starts, piece.counts, send)
        return DeviceLayout(
            send(layout.order), send(layout.rows), layout.slices, layout.identity, layout.rows,
            steps,
        )  # fmt: skip

    def _picks(self, index: Any, layout: DeviceLayout, rows: int | None = None) -> Picks:
        def make() -> Picks:
            flat = as_index(index, int(np.max(index)) + 1 if rows is None else rows)
            picks = flat[layout.host_rows]
            groups = row_kernels.groups(picks)
            numbers, *sums = (self.feed.send(array, np.int32) for array in (picks, *groups))
            return Picks(numbers, sums, int(groups[0][-1]))

        found = self.feed.made("picks", (index, layout), make)
        if rows is not None and found.largest >= rows:
            as_index(index, rows)  # raises the error that names the row
        return found

    def _packed_input(self, source: Any, layout: DeviceLayout, training: bool) -> tuple[Any, None]:
        x = self.space.array(("x", training), layout.count, self.input_size)
        row_kernels.gather(x, source, layout.rows)
        return x, None

    def _pack(self, works: Iterable[Work]) -> None:
        """Nothing."""

    def _straight_rows(self, count: int) -> Any:
        if len(self._counting) < count:
            self._counting = memory.put(np.arange(2 * count, dtype=np.int32))
        return self._counting[:count]

    def _drop(self, x: Any, layout: DeviceLayout, rows: int, key: int) -> None:
        drop_rows(x, layout.rows, key, *limit_and_scale(self.dropout), rows)

    def _write(self, given: Any, gradient: Any) -> None:
        if isinstance(given, np.ndarray):
            super()._write(given, memory.get(gradient))
        else:
            memory.copy(given, gradient)


class LSTM(DeviceRecurrent, host.LSTM):
    """As nn.recurrent.LSTM."""


class GRU(DeviceRecurrent, host.GRU):
    """As nn.recurrent.GRU."""


class RNN(DeviceRecurrent, host.RNN):
    """As nn.recurrent.RNN."""
