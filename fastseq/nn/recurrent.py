"""LSTM, GRU and RNN layers: stacked, bidirectional, over ragged batches.

    lstm = LSTM(64, 128, num_layers=2, bidirectional=True)
    y, (h, c) = lstm.forward(x, lengths)        # x float32[T, B, 64], y float32[T, B, 256]
    dx = lstm.backward(dy)                      # adds to lstm.gradients()

A batch is packed first (nn/recurrent_layer.py), so no step past the end of a sequence is computed.
Threads share slices of the batch and directions in the time loops, rows and units in the products
around them. No sum is split, so results have the same bits on any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.nn.dropout import drop_rows
from fastseq.kernels.nn.recurrent import CELLS, Cell
from fastseq.kernels.nn.rows import gather
from fastseq.nn.arrays import as_index, as_lengths, as_offsets, as_parts
from fastseq.nn.initialisers import initialiser, stacked
from fastseq.nn.layer import Layer
from fastseq.nn.layers import limit_and_scale
from fastseq.nn.products import SMALL
from fastseq.nn.recurrent_layer import RecurrentLayer, Work, lay_out
from fastseq.seeds import mixed_key
from fastseq.settings import fraction, one_of, real, seed_number, thread_count, whole
from fastseq.threads import Team, locked
from fastseq.types import Int64

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


@dataclass(slots=True)
class Run:
    """What a forward pass keeps: its layout, the packed input of each layer."""

    layout: Any
    rows: int  # of the caller's output
    key: int
    inputs: list[Any]
    picks: Any  # which row of the first layer's input each packed row reads, where they share rows
    padded: bool = False  # it came from `forward`, not `forward_ragged`


class Recurrent(Layer):
    """Base of LSTM, GRU and RNN.

    Parameters
    ----------
    input_size, hidden_size : features of an input row; units of each direction
    num_layers : stacked layers
    bidirectional : a second direction reads backwards; the outputs are concatenated
    dropout : rate between layers, while training
    weight_dropout : rate for single recurrent weights, the same for every step of a batch
        (Merity et al. 2018, DropConnect), while training
    seed : of the initial weights and of dropout
    threads : all cores when None
    input_init, recurrent_init : initialisers of the weights (names in nn.initialisers), for each
        gate's matrix separately; biases are zero
    team : threads shared with other layers, instead of `threads`

    Raises
    ------
    SettingsError
        A size below 1, a rate outside [0, 1).
    """

    cell_name: ClassVar[str]
    layer_type: ClassVar[Any] = RecurrentLayer

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False,
        dropout: float = 0.0, weight_dropout: float = 0.0, seed: int = 0,
        threads: int | None = None, *, input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal", team: Team | None = None,
    ) -> None:  # fmt: skip
        self.input_size = whole("input_size", input_size, 1)
        self.hidden_size = whole("hidden_size", hidden_size, 1)
        self.num_layers = whole("num_layers", num_layers, 1)
        self.bidirectional = bool(bidirectional)
        self.dropout = fraction("dropout", dropout)
        self.weight_dropout = fraction("weight_dropout", weight_dropout)
        self.seed = seed_number(seed)
        self._draws = {
            "weight_ih": initialiser(input_init),
            "weight_hh": initialiser(recurrent_init),
        }
        self.team = team or Team(thread_count(threads))
        self.cell: Cell = CELLS[self.cell_name]
        self.dstate: Any = None
        self.space = self.workspace()
        self._run: Run | None = None
        self._calls = 0
        self._holders = 0
        self._layers = [self.layer_type(self, layer) for layer in range(self.num_layers)]
        super().__init__(seed)

    # ---- parameters -------------------------------------------------------------------------

    @property
    def directions(self) -> int:
        """1, or 2 when bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of an output row."""
        return self.directions * self.hidden_size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """PyTorch's names and shapes: weight_ih_l0 [G·H, I], weight_hh_l0 [G·H, H], bias_ih_l0
        and bias_hh_l0 [G·H]; the second direction's end in _reverse."""
        height = self.cell.gates * self.hidden_size
        found: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            for suffix in self.suffixes(layer):
                found[f"weight_ih_{suffix}"] = (height, self._inputs(layer))
                found[f"weight_hh_{suffix}"] = (height, self.hidden_size)
                found[f"bias_ih_{suffix}"] = (height,)
                found[f"bias_hh_{suffix}"] = (height,)
        return found

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights, each gate's separately; biases become zero."""
        for name, value in self.values.items():
            draw = self._draws.get(name[:9])
            value[...] = 0 if draw is None else stacked(draw, self.cell.gates, value.shape, rng)

    def suffixes(self, layer: int) -> list[str]:
        """Suffixes of the names of a layer's parameters, one a direction."""
        return [f"l{layer}", f"l{layer}_reverse"][: self.directions]

    def _inputs(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.output_size

    # ---- forward ----------------------------------------------------------------------------

    @locked
    def forward(
        self, x: Any, lengths: Any = None, state: Any = None, training: bool = True,
        key: int | None = None, index: Any = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Run a padded batch, time first.

        Parameters
        ----------
        x : float32[T, B, I]; rows past a sequence's length are never read. It may be kept, not
            copied: it must not change until `backward`
        lengths : int[B], from 1 to T, in any order; T for all when None
        state : the initial state, zeros when None: h, or (h, c) for an LSTM, each [L·D, B, H]
        training : keep what `backward` needs, and drop out
        key : determines which elements are dropped; from the seed and the number of calls when None
        index : int[T, B], with x float32[U, I]: step t of row b reads x[index[t, b]]. The products
            of a row of x and its gradients are then computed once, however often it is read: for
            tokens much less work than a row each

        Returns
        -------
        y : float32[T, B, D·H], zero past a row's length
        state : the state after each row's last step, of the form of the initial one

        Raises
        ------
        DataError
            Shapes that do not fit, lengths outside 1 to T.
        """
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
        ragged = bool((found < T).any())
        y = self.output("y", T, B, self.output_size, zero=ragged, reuse=training)
        key = mixed_key(self.seed, self._calls) if key is None else key
        state = self._forward(
            x, y.reshape(T * B, self.output_size), self._padded(found, T), state, training, key,
            index,
        )  # fmt: skip
        if training and self._run is not None:
            self._run.padded = True
        return y, state

    @locked
    def forward_ragged(
        self, values: Any, offsets: Any, state: Any = None, training: bool = True, key: int = 0,
        index: Any = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Run a ragged batch: sequence b is rows offsets[b] to offsets[b + 1] of `values`.

        Parameters
        ----------
        values : float32[N, I]
        offsets : int64[B + 1], ascending from 0; no sequence may be empty
        state, training : as for `forward`
        key : determines which elements are dropped; a new one each step
        index : int[N], with values float32[U, I]: row n of the batch is values[index[n]], as for
            `forward`

        Returns
        -------
        y : float32[N, D·H], in the order of `values`
        state : as from `forward`
        """
        self.begin(training)
        values = self.rows(values, self.input_size, "the input")
        if np.ndim(index) != 1 and index is not None:
            raise DataError(f"index is of {np.ndim(index)} dimensions, expected one: [N]")
        count = len(values) if index is None else len(index)
        layout = self._ragged(as_offsets(offsets, count))
        y = self.output("y", count, self.output_size, reuse=training)
        return y, self._forward(values, y, layout, state, training, key, index)

    def _forward(
        self, source: Any, y: Any, layout: Any, state: Any, training: bool, key: int, index: Any
    ) -> Any:
        initial = self._as_state(state, len(layout.order), "state")
        x, picks, unpacked = source, None, None
        if index is not None:
            x = self.rows(source, self.input_size, "the input")
            picks = self._picks(index, layout, len(x))
        elif not layout.identity:
            x, unpacked = self._packed_input(source, layout, training)
        elif len(x) > layout.count:  # one sequence, shorter than the batch
            x = x[: layout.count]
        self._pack(
            work
            for number, layer in enumerate(self._layers)
            for work in layer.packing(training, mixed_key(key, 2 * number + 1))
        )
        final = self._states("final", len(layout.order), reuse=training)
        inputs = []
        for number, layer in enumerate(self._layers):
            if number and self.dropout and training:
                self._drop(x, layout, len(y), mixed_key(key, 2 * number))
            inputs.append(x)
            out, rows = y, layout.rows
            if number < self.num_layers - 1:
                name = ("y", training, number if training else number % 2)
                out = self.space.array(name, layout.count, self.output_size)
                rows = self._straight_rows(layout.count)
            layer.forward(
                x, out, rows, layout, initial, final, training, mixed_key(key, 2 * number + 1),
                *((None, None) if number else (picks, unpacked)),
            )  # fmt: skip
            x = out
        if training:
            self._run = Run(layout, len(y), key, inputs, picks)
        return final if len(final) > 1 else final[0]

    @contextmanager
    def weights_held(self) -> Iterator[None]:
        """A context in which the weights do not change: they are packed once for all passes without
        training. For single steps, packing is most of the work."""
        with self.lock:
            if not self._holders:
                self._pack(work for layer in self._layers for work in layer.hold())
            self._holders += 1
        try:
            yield
        finally:
            with self.lock:
                self._holders -= 1
                if not self._holders:
                    for layer in self._layers:
                        layer.release()

    # ---- backward ---------------------------------------------------------------------------

    @locked
    def backward(self, dy: Any, dstate: Any = None) -> Any:
        """The backward pass of the last `forward` with training=True; once for each.

        Parameters
        ----------
        dy : float32[T, B, D·H], gradient of y; rows past a sequence's length are never read
        dstate : gradient of the returned state, zeros when None. Where it is given, the gradient
            of the initial state is written to these arrays

        Returns
        -------
        dx : float32[T, B, I], zero past a row's length; [U, I] where `forward` had an index.
            `self.dstate` is the gradient of the initial state; gradients of the parameters are
            added to.

        Raises
        ------
        SettingsError
            No forward pass before it.
        DataError
            Shapes that do not fit.
        """
        dy = self.floats(dy, "dy")
        run = self._run_before("backward", "forward", padded=True)
        B = len(run.layout.order)
        shape = (run.rows // B, B, self.output_size)
        if tuple(dy.shape) != shape:
            raise DataError(f"dy is of shape {list(dy.shape)}, expected {list(shape)}")
        if run.picks is not None:
            dx = self.output("dx", len(run.inputs[0]), self.input_size)
        else:
            ragged = run.layout.count < run.rows
            dx = self.output("dx", *shape[:2], self.input_size, zero=ragged)
        flat = dx.reshape(dx.size // self.input_size, self.input_size)
        self._backward(run, dy.reshape(run.rows, self.output_size), flat, dstate)
        return dx

    @locked
    def backward_ragged(self, dy: Any, dstate: Any = None, want_dx: bool = True) -> Any:
        """The backward pass of the last `forward_ragged`: dy [N, D·H] gives dx of the shape of
        `values`, or None when `want_dx` is False. State gradients are as for `backward`."""
        dy = self.floats(dy, "dy")
        run = self._run_before("backward_ragged", "forward_ragged", padded=False)
        if tuple(dy.shape) != (run.rows, self.output_size):
            raise DataError(
                f"dy is of shape {list(dy.shape)}, expected [{run.rows}, {self.output_size}]"
            )
        inputs = len(dy) if run.picks is None else len(run.inputs[0])
        dx = self.output("dx", inputs, self.input_size) if want_dx else None
        self._backward(run, dy, dx, dstate)
        return dx

    def _run_before(self, here: str, forward: str, padded: bool) -> Run:
        run = self._run
        if run is None or run.padded != padded:
            raise SettingsError(f"{here} needs a {forward} with training=True before it")
        return run

    def _backward(self, run: Run, dy: Any, dx: Any, dstate: Any) -> None:
        layout = run.layout
        last = self._as_state(dstate, len(layout.order), "dstate")
        self._run = None
        first = self._states("first", len(layout.order))
        self._pack(
            work
            for number, layer in enumerate(self._layers)
            for work in layer.packing_back(number > 0 or dx is not None)
        )
        for number, layer in reversed(list(enumerate(self._layers))):
            top = number == self.num_layers - 1
            rows = layout.rows if top else self._straight_rows(layout.count)
            below, unpacked = dx, None
            if number:
                below = self.space.array(("dx", number % 2), layout.count, self.output_size)
            elif dx is not None and run.picks is None:
                if layout.identity and len(dx) > layout.count:
                    below = dx[: layout.count]
                elif not layout.identity:
                    below = self.space.array("packed dx", layout.count, self.input_size)
                    unpacked = dx
            layer.backward(
                run.inputs[number], dy, rows, layout, last, first,
                mixed_key(run.key, 2 * number + 1), below, unpacked, None if number else run.picks,
            )  # fmt: skip
            if number and self.dropout:
                self._drop(below, layout, run.rows, mixed_key(run.key, 2 * number))
            dy = below
        self.dstate = first if len(first) > 1 else first[0]
        if dstate is not None:
            for given, gradient in zip(as_parts(dstate), first, strict=True):
                self._write(given, gradient)

    # ---- states -----------------------------------------------------------------------------

    def _as_state(self, state: Any, batch: int, name: str) -> tuple[Any, ...]:
        """The arrays of a state, checked; None for zeros."""
        count = self.cell.states
        if state is None:
            return (None,) * count
        parts = as_parts(state)
        if len(parts) != count:
            expected = "(h, c)" if count == 2 else "one array, h"
            raise DataError(f"{name} is {len(parts)} arrays, expected {expected}")
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        found = tuple(self.floats(part, name) for part in parts)
        for part in found:
            if tuple(part.shape) != shape:
                raise DataError(f"{name} is of shape {list(part.shape)}, expected {list(shape)}")
        return found

    def _states(self, name: str, batch: int, reuse: bool = True) -> tuple[Any, ...]:
        """Arrays for the states of all layers, [L·D, B, H]."""
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        return tuple(self.output((name, i), *shape, reuse=reuse) for i in range(self.cell.states))

    # ---- what a device does in another way --------------------------------------------------

    def prepare(self, offsets: Int64, index: Any = None) -> None:
        """Send what a pass over a ragged batch needs to the device; on the CPU nothing."""

    def prepare_steps(self, steps: int, batch: int, index: Any = None) -> None:
        """The same for a padded batch, all of whose sequences have `steps` steps."""

    def _padded(self, lengths: Int64, steps: int) -> Any:
        """The layout of a padded batch."""
        B = len(lengths)
        return lay_out(lengths, np.arange(B), B, self._slices(int(lengths.sum())))

    def _ragged(self, offsets: Int64) -> Any:
        """The layout of a ragged batch."""
        return lay_out(np.diff(offsets), offsets[:-1], 1, self._slices(int(offsets[-1])))

    def _slices(self, rows: int) -> int:
        if self._layers[0].work(rows) < SMALL:
            return 1
        return -(-self.team.threads // self.directions)

    def _picks(self, index: Any, layout: Any, rows: int) -> Any:
        """Which of the input's rows each packed row reads."""
        picks = as_index(index, rows)
        return picks if layout.identity else picks[layout.rows]

    def _packed_input(self, source: Any, layout: Any, training: bool) -> tuple[Any, Any]:
        """Memory for the packed input, and where the layer's threads must fill it from, or None."""
        x = self.space.array(("x", training), layout.count, source.shape[1])
        if self.directions == 1 and len(layout.slices) == self.team.threads > 1:
            return x, source  # every thread fetches what its slice reads
        out, flat, rows = x.reshape(-1), source.reshape(-1), layout.rows
        parts = self.team.split(len(rows), max(1, (1 << 16) // source.shape[1]))
        self.team.run(lambda i: gather(out, flat, rows, *parts[i]), len(parts))
        return x, None

    def _pack(self, works: Iterable[Work]) -> None:
        """Pack the weights of all layers, on all threads where that is worth it."""
        every = list(works)
        if not every:
            return
        if sum(layer.work(16) for layer in self._layers) < SMALL:
            for work in every:
                work()
        else:
            self.team.run(lambda i: every[i](), len(every))

    def _straight_rows(self, count: int) -> Any:
        """0, 1, …, the rows of an array between two layers."""
        return np.arange(count)

    def _drop(self, x: Any, layout: Any, rows: int, key: int) -> None:
        """Dropout of packed x in place; the caller's array has `rows` rows."""
        limit, scale = limit_and_scale(self.dropout)
        parts = self.team.split(len(x), max(1, (1 << 16) // x.shape[1]))
        bits = np.uint64(key)
        self.team.run(
            lambda i: drop_rows(x, layout.rows, bits, limit, scale, *parts[i]), len(parts)
        )

    def _write(self, given: Any, gradient: Any) -> None:
        """The gradient of the initial state into the caller's array, where that can be."""
        if isinstance(given, np.ndarray) and given.flags.writeable:
            given[...] = gradient


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates, Gers et al. 2000).

    A state is (h, c). Parameters and errors are those of `Recurrent`, and

    forget_bias : initial bias of the forget gate (Jozefowicz et al. 2015)
    """

    cell_name = "lstm"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False,
        dropout: float = 0.0, weight_dropout: float = 0.0, seed: int = 0,
        threads: int | None = None, *, forget_bias: float = 1.0,
        input_init: str = "xavier_uniform", recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:  # fmt: skip
        self.forget_bias = real("forget_bias", forget_bias, np.isfinite, "a finite number")
        super().__init__(
            input_size, hidden_size, num_layers, bidirectional, dropout, weight_dropout, seed,
            threads, input_init=input_init, recurrent_init=recurrent_init, team=team,
        )  # fmt: skip

    def initialise(self, rng: np.random.Generator) -> None:
        super().initialise(rng)
        for name, value in self.values.items():
            if name.startswith("bias_ih"):
                value[self.hidden_size : 2 * self.hidden_size] = self.forget_bias


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), its reset gate after the product as in cuDNN.

    A state is h. Parameters and errors are those of `Recurrent`.
    """

    cell_name = "gru"


class RNN(Recurrent):
    """Plain recurrence (Elman 1990).

    A state is h. Parameters and errors are those of `Recurrent`, and

    nonlinearity : "tanh" or "relu"
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False,
        dropout: float = 0.0, weight_dropout: float = 0.0, seed: int = 0,
        threads: int | None = None, *, nonlinearity: str = "tanh",
        input_init: str = "xavier_uniform", recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:  # fmt: skip
        self.nonlinearity = one_of("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size, hidden_size, num_layers, bidirectional, dropout, weight_dropout, seed,
            threads, input_init=input_init, recurrent_init=recurrent_init, team=team,
        )  # fmt: skip

    @property
    def cell_name(self) -> str:  # type: ignore[override]
        """The kernels' name of the recurrence."""
        return "rnn_relu" if self.nonlinearity == "relu" else "rnn"
