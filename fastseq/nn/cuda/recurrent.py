"""LSTM, GRU and RNN layers on the device: stacked, bidirectional, over ragged batches.

The order of rows, the dropout masks and the order of every sum are those of the CPU
(nn/recurrent.py, nn/recurrent_layer.py); a batch is packed by its lengths on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.errors import DataError
from fastseq.kernels.cuda.nn import embedding, gemm, sequences, sums
from fastseq.kernels.cuda.nn.dropout import drop, drop_rows
from fastseq.kernels.cuda.recurrent import recurrent as kernels
from fastseq.kernels.cuda.recurrent.recurrent import Steps, steps_of
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import recurrent as host
from fastseq.nn.cells import Cell, GRUCell, RNNCell
from fastseq.nn.checks import as_index, as_lengths, as_offsets, as_parts
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.nn.cuda.space import Feed
from fastseq.nn.dropout import limit_and_scale
from fastseq.nn.recurrent import Recurrent
from fastseq.nn.sequences import Layout, lay_out
from fastseq.seeds import mixed_key
from fastseq.types import Int64

_SHAPES = 8  # of padded batches whose layouts are kept


@dataclass(frozen=True, slots=True, eq=False)
class DeviceLayout:
    """A packed batch.

    host   its order and rows on the host
    rows   int32[N] on the device: the caller's row of each packed row
    order  int32[B] on the device: which sequence each row of a state belongs to
    steps  where each step's rows are
    """

    host: Layout
    rows: Any
    order: Any
    steps: Steps


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


class DeviceRecurrentLayer:
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
        self.width = kernels.GATES[cell] * self.units  # of what the input gives
        self.row = kernels.SLOTS[cell] * self.units
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
            kernels.forward(
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
            kernels.backward(
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
            gradients = self.layer.grads_on_device
            gemm.multiply(
                gradients[f"weight_ih_{suffix}"], of_input, x, transpose_a=True, add=True,
                precision=precision,
            )  # fmt: skip
            sums.column_sums(gradients[f"bias_ih_{suffix}"], of_input)
            if dx is not None:
                weight = self.layer.on_device[f"weight_ih_{suffix}"]
                gemm.multiply(dx, of_input, weight, add=d > 0, precision=precision)

    def _hidden_gradients(self, suffix: str, d: int, dz: Any, before: Any, key: int) -> None:
        H, precision = self.units, self.layer.precision
        gradients = self.layer.grads_on_device
        to, bias = gradients[f"weight_hh_{suffix}"], gradients[f"bias_hh_{suffix}"]
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


@dataclass(slots=True)
class _Run:
    """What a forward pass keeps: its layout, the packed input of each layer."""

    layout: DeviceLayout
    rows: int  # of the caller's output
    key: int
    inputs: list[Any]
    picks: Picks | None
    padded: bool = False


class DeviceRecurrent(DeviceLayer, Recurrent):
    """As nn.recurrent.Recurrent: arrays on the device, lengths and offsets from the host.

    States come and go on the device too; `memory.put` and `get` bring them there and back.
    """

    _run: Any

    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        self._layouts: dict[tuple[int, int], DeviceLayout] = {}
        self._counting: Any = memory.put(np.zeros(0, np.int32))
        self._passes = [
            DeviceRecurrentLayer(self, name_of(self._cell), layer, self._suffixes(layer))
            for layer in range(self.num_layers)
        ]

    # ---- forward ----------------------------------------------------------------------------

    def prepare(self, offsets: Int64, index: Any = None) -> None:
        """Send what a pass over a ragged batch needs, before it is asked for."""
        layout = self._ragged(offsets)
        if index is not None:
            self._picks(index, layout)

    def prepare_steps(self, steps: int, batch: int, index: Any = None) -> None:
        """The same of a padded batch whose sequences all have so many steps."""
        layout = self._padded(np.full(batch, steps), steps)
        if index is not None:
            self._picks(index, layout)

    def forward(
        self,
        x: Any,
        lengths: Any = None,
        state: Any = None,
        training: bool = True,
        key: int | None = None,
        index: Any = None,
    ) -> tuple[Any, Any]:
        self.begin(training)
        x = self.floats(x, "x")
        if index is None:
            if x.ndim != 3 or x.shape[2] != self.input_size:
                raise DataError(
                    f"x is of shape {list(x.shape)}, expected [steps, batch, {self.input_size}]"
                )
            T, B = int(x.shape[0]), int(x.shape[1])
            x = x.reshape(T * B, self.input_size)
        else:
            if np.ndim(index) != 2:
                raise DataError(f"index is of {np.ndim(index)} dimensions, expected [steps, batch]")
            T, B = np.shape(index)
        if T == 0 or B == 0:
            raise DataError(f"{T} steps of {B} rows: expected at least one of each")
        found = as_lengths(lengths, T, B)
        self._calls += 1
        y = self._y(training, T, B, self.output_size)
        if (found < T).any():
            sequences.fill(y, 0)
        layout = self._padded(found, T)
        key = mixed_key(self.seed, self._calls) if key is None else key
        state = self._passed(x, y.reshape(T * B, self.output_size), layout, state, training, key,
                             index)  # fmt: skip
        if training:
            self._run.padded = True
        return y, state

    def forward_ragged(
        self,
        values: Any,
        offsets: Any,
        state: Any = None,
        training: bool = True,
        key: int = 0,
        index: Any = None,
    ) -> tuple[Any, Any]:
        self.begin(training)
        values = self.rows(values, self.input_size, "the input")
        if np.ndim(index) != 1 and index is not None:
            raise DataError(f"index is of {np.ndim(index)} dimensions, expected one: [N]")
        count = len(values) if index is None else len(index)
        layout = self._ragged(as_offsets(offsets, count))
        y = self._y(training, count, self.output_size)
        return y, self._passed(values, y, layout, state, training, key, index)

    def _y(self, training: bool, *shape: int) -> Any:
        return self.space.array("y", *shape) if training else memory.empty(shape)

    def _passed(
        self, x: Any, y: Any, layout: DeviceLayout, state: Any, training: bool, key: int,
        index: Any,
    ) -> Any:  # fmt: skip
        host, picks = layout.host, None
        initial = self._given_state(state, len(host.order), "state")
        if index is not None:
            x = self.rows(x, self.input_size, "the input")
            picks = self._picks(index, layout, len(x))
        elif not host.identity:
            source, x = x, self.space.array(("x", training), host.count, self.input_size)
            sequences.gather(x, source, layout.rows)
        shape = (self.num_layers * self.directions, len(host.order), self.hidden_size)
        final = [
            self.space.array(("final", i), *shape) if training else memory.empty(shape)
            for i in range(self._cell.states)
        ]
        inputs = []
        for layer, recurrent_layer in enumerate(self._passes):
            if layer and self.dropout and training:
                self._drop_by_rows(x, layout, len(y), mixed_key(key, 2 * layer))
            inputs.append(x)
            out, rows = y, layout.rows
            if layer < self.num_layers - 1:
                out = self.space.array(("y", layer, training), host.count, self.output_size)
                rows = self._straight_rows(host.count)
            recurrent_layer.forward(
                x, out, rows, layout, initial, final, training,
                mixed_key(key, 2 * layer + 1), None if layer else picks,
            )  # fmt: skip
            x = out
        if training:
            self._run = _Run(layout, len(y), key, inputs, picks)
        return tuple(final) if len(final) > 1 else final[0]

    @contextmanager
    def weights_held(self) -> Iterator[None]:
        """Nothing is packed here but by the passes themselves."""
        yield

    # ---- backward ---------------------------------------------------------------------------

    def backward(self, dy: Any, dstate: Any = None) -> Any:
        dy = self.floats(dy, "dy")
        run: Any = self._run_before("backward", "forward", padded=True)
        B = len(run.layout.host.order)
        shape = (run.rows // B, B, self.output_size)
        if tuple(dy.shape) != shape:
            raise DataError(f"dy is of shape {list(dy.shape)}, expected {list(shape)}")
        if run.picks is not None:
            dx = self.space.array("dx", len(run.inputs[0]), self.input_size)
        else:
            dx = self.space.array("dx", *shape[:2], self.input_size)
            if run.layout.host.count < run.rows:
                sequences.fill(dx, 0)
        flat = dx.reshape(dx.size // self.input_size, self.input_size)
        self._way_back(dy.reshape(run.rows, self.output_size), flat, dstate)
        return dx

    def backward_ragged(self, dy: Any, dstate: Any = None, want_dx: bool = True) -> Any:
        dy = self.floats(dy, "dy")
        run: Any = self._run_before("backward_ragged", "forward_ragged", padded=False)
        if tuple(dy.shape) != (run.rows, self.output_size):
            raise DataError(
                f"dy is of shape {list(dy.shape)}, expected [{run.rows}, {self.output_size}]"
            )
        inputs = len(dy) if run.picks is None else len(run.inputs[0])
        dx = self.space.array("dx", inputs, self.input_size) if want_dx else None
        self._way_back(dy, dx, dstate)
        return dx

    def _way_back(self, dy: Any, dx: Any, dstate: Any) -> None:
        run: _Run = self._run
        layout, host = run.layout, run.layout.host
        last = self._given_state(dstate, len(host.order), "dstate")
        self._run = None
        shape = (self.num_layers * self.directions, len(host.order), self.hidden_size)
        first = [self.space.array(("first", i), *shape) for i in range(self._cell.states)]
        for layer, recurrent_layer in reversed(list(enumerate(self._passes))):
            top = layer == self.num_layers - 1
            rows = layout.rows if top else self._straight_rows(host.count)
            below = dx
            if layer:
                below = self.space.array(("dx", layer % 2), host.count, self.output_size)
            elif dx is not None and run.picks is None and not host.identity:
                below = self.space.array("packed dx", host.count, self.input_size)
            recurrent_layer.backward(
                run.inputs[layer], dy, rows, layout, last, first,
                mixed_key(run.key, 2 * layer + 1), below, None if layer else run.picks,
            )  # fmt: skip
            if layer and self.dropout:
                self._drop_by_rows(below, layout, run.rows, mixed_key(run.key, 2 * layer))
            if layer:
                dy = below
            elif below is not dx:
                sequences.scatter(dx, below, layout.rows)
        self.dstate = tuple(first) if len(first) > 1 else first[0]
        if dstate is not None:
            for given, gradient in zip(as_parts(dstate), first, strict=True):
                if isinstance(given, np.ndarray):
                    if given.flags.writeable:
                        given[...] = memory.get(gradient)
                else:
                    memory.copy(given, gradient)

    # ---- layouts, states, dropout -----------------------------------------------------------

    def _ragged(self, offsets: Int64) -> DeviceLayout:
        def make() -> DeviceLayout:
            return self._sent(lay_out(np.diff(offsets), offsets[:-1], 1, 1), fresh=False)

        return self.feed.made("layout", (offsets,), make)

    def _padded(self, lengths: Int64, steps: int) -> DeviceLayout:
        """Of a padded batch. That of equal lengths is kept for the next one of its shape."""
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

    def _sent(self, layout: Layout, fresh: bool) -> DeviceLayout:
        """The layout on the device: in memory of its own, or in that of the batch."""

        def send(array: Any) -> Any:
            if fresh:
                return memory.put(np.asarray(array, np.int32))
            return self.feed.send(array, np.int32)

        (piece,) = layout.slices
        steps = steps_of(piece.starts, piece.counts, send)
        return DeviceLayout(layout, send(layout.rows), send(layout.order), steps)

    def _picks(self, index: Any, layout: DeviceLayout, rows: int | None = None) -> Picks:
        """Which row of the input each packed row reads, and what its gradients are summed by."""

        def make() -> Picks:
            flat = as_index(index, int(np.max(index)) + 1 if rows is None else rows)
            return Picks.of(flat[layout.host.rows], self.feed)

        found = self.feed.made("picks", (index, layout), make)
        if rows is not None and found.largest >= rows:
            as_index(index, rows)  # says which
        return found

    def _given_state(self, state: Any, batch: int, name: str) -> list[Any]:
        """The arrays of a state on the device; None for zeros."""
        count = self._cell.states
        if state is None:
            return [None] * count
        parts = as_parts(state)
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        if len(parts) != count:
            expected = "(h, c)" if count == 2 else "one array, h"
            raise DataError(f"{name} is {len(parts)} arrays, expected {expected}")
        found = [self.floats(part, name) for part in parts]
        for part in found:
            if tuple(part.shape) != shape:
                raise DataError(f"{name} is of shape {list(part.shape)}, expected {list(shape)}")
        return found

    def _straight_rows(self, count: int) -> Any:
        """int32[N] on the device: 0, 1, 2, …"""
        if len(self._counting) < count:
            self._counting = memory.put(np.arange(2 * count, dtype=np.int32))
        return self._counting[:count]

    def _drop_by_rows(self, x: Any, layout: DeviceLayout, rows: int, key: int) -> None:
        drop_rows(x, layout.rows, key, *limit_and_scale(self.dropout), rows)


def name_of(cell: Cell) -> str:
    """What kernels.cuda.recurrent calls a cell."""
    if isinstance(cell, RNNCell):
        return "rnn_relu" if cell.relu else "rnn"
    return "gru" if isinstance(cell, GRUCell) else "lstm"


class LSTM(DeviceRecurrent, host.LSTM):
    """As nn.recurrent.LSTM."""


class GRU(DeviceRecurrent, host.GRU):
    """As nn.recurrent.GRU."""


class RNN(DeviceRecurrent, host.RNN):
    """As nn.recurrent.RNN."""
