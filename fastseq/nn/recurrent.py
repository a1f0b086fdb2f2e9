"""LSTM, GRU and RNN layers: stacked, bidirectional, over ragged batches.

    lstm = LSTM(64, 128, num_layers=2, bidirectional=True)
    y, (h, c) = lstm.forward(x, lengths)        # x float32[T, B, 64], y float32[T, B, 256]
    dx = lstm.backward(dy)                      # adds to lstm.gradients()

A batch is packed first (nn/sequences.py), so no step past the end of a sequence is computed.
Threads share slices of the batch and directions in the time loops, rows and units in the products
around them. No sum is split, so results have the same bits on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.nn.dropout import drop_rows
from fastseq.kernels.nn.sequences import gather
from fastseq.nn.cells import Cell, GRUCell, LSTMCell, RNNCell, State
from fastseq.nn.checks import (
    as_floats,
    as_index,
    as_lengths,
    as_offsets,
    as_parts,
    as_rows,
    as_state,
)
from fastseq.nn.dropout import limit_and_scale
from fastseq.nn.initialisers import initialiser, stacked
from fastseq.nn.layer import Layer
from fastseq.nn.products import SMALL
from fastseq.nn.recurrent_layer import RecurrentLayer
from fastseq.nn.sequences import Layout, lay_out
from fastseq.nn.workspace import Workspace
from fastseq.seeds import mixed_key
from fastseq.settings import fraction, one_of, real, seed_number, thread_count, whole
from fastseq.threads import Team, locked
from fastseq.types import Float32, Int64

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


@dataclass(slots=True)
class _Run:
    """What a forward pass keeps: its layout, the packed input of each layer."""

    layout: Layout
    rows: int  # of the caller's output
    key: int
    inputs: list[Float32]
    shared: bool  # the first layer's input is a table that steps share rows of
    padded: bool = False  # it came from `forward`, not `forward_ragged`


class Recurrent(Layer):
    """What the three kinds share.

    Parameters
    ----------
    input_size, hidden_size : features of an input row; units of each direction
    num_layers : layers, each fed by the one before
    bidirectional : a second direction reads backwards; their outputs stand side by side
    dropout : rate between layers, while training
    weight_dropout : rate for single recurrent weights, the same for every step of a batch
        (Merity et al. 2018, DropConnect), while training
    seed : of the initial weights and of dropout
    threads : all cores when None
    input_init, recurrent_init : names of nn.initialisers that weights are drawn by, the matrix of
        each gate by itself; biases start from zero
    team : threads that other layers use too, instead of `threads`

    Raises
    ------
    SettingsError
        A size below 1, a rate outside [0, 1).
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:
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
        self.dstate: State | Float32 | None = None
        self._cell = cell
        self._space = Workspace()
        self._run: _Run | None = None
        self._calls = 0
        self._holders = 0
        self._layers = [
            RecurrentLayer(
                cell,
                self._inputs(layer),
                self.hidden_size,
                self._suffixes(layer),
                self._space,
                self.team,
                self.weight_dropout,
            )
            for layer in range(self.num_layers)
        ]
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
        height = self._cell.gates * self.hidden_size
        found: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                found[f"weight_ih_{suffix}"] = (height, self._inputs(layer))
                found[f"weight_hh_{suffix}"] = (height, self.hidden_size)
                found[f"bias_ih_{suffix}"] = (height,)
                found[f"bias_hh_{suffix}"] = (height,)
        return found

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights, each gate's by itself; biases become zero."""
        for name, value in self.values.items():
            draw = self._draws.get(name[:9])
            value[...] = 0 if draw is None else stacked(draw, self._cell.gates, value.shape, rng)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.directions]

    def _inputs(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.output_size

    # ---- forward ----------------------------------------------------------------------------

    def prepare(self, offsets: Int64, index: Any = None) -> None:
        """What layers on a device do before a pass over a ragged batch; here nothing."""

    def prepare_steps(self, steps: int, batch: int, index: Any = None) -> None:
        """The same of a padded batch, all of whose sequences have so many steps."""

    @locked
    def forward(
        self,
        x: Float32,
        lengths: Any = None,
        state: Any = None,
        training: bool = True,
        key: int | None = None,
        index: Any = None,
    ) -> tuple[Float32, Any]:
        """Run a padded batch, time first.

        Parameters
        ----------
        x : float32[T, B, I]; what stands past a row's length is never read. It may be kept, not
            copied: it must stay as it is until `backward`
        lengths : int[B], from 1 to T, in any order; T for all when None
        state : the initial state, zeros when None: h, or (h, c) for an LSTM, each [L·D, B, H]
        training : keep what `backward` needs, and drop out
        key : says which elements are dropped; by the seed and the number of calls when None
        index : int[T, B], with x float32[U, I]: step t of row b reads x[index[t, b]]. What the
            weights make of a row of x is then computed once, however often it is read, and so are
            its gradients: for tokens much less work than a row each

        Returns
        -------
        y : float32[T, B, D·H], zero past a row's length
        state : the state after each row's last step, of the form of the initial one

        Raises
        ------
        DataError
            Shapes that do not fit, lengths outside 1 to T.
        """
        if index is None:
            x = as_floats(x, "x")
            if x.ndim != 3 or x.shape[2] != self.input_size:
                raise DataError(
                    f"x is of shape {list(x.shape)}, expected [steps, batch, {self.input_size}]"
                )
            T, B, _ = x.shape
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
        y = (np.zeros if ragged else np.empty)((T, B, self.output_size), np.float32)
        layout = lay_out(found, np.arange(B), B, self._slices(int(found.sum())))
        key = mixed_key(self.seed, self._calls) if key is None else key
        state = self._forward(x, y.reshape(T * B, -1), layout, state, training, key, index)
        if training and self._run is not None:
            self._run.padded = True
        return y, state

    @locked
    def forward_ragged(
        self,
        values: Float32,
        offsets: Int64,
        state: Any = None,
        training: bool = True,
        key: int = 0,
        index: Any = None,
    ) -> tuple[Float32, Any]:
        """Run a ragged batch: sequence b is rows offsets[b] to offsets[b + 1] of `values`.

        Parameters
        ----------
        values : float32[N, I]
        offsets : int64[B + 1], ascending from 0; no sequence may be empty
        state, training : as for `forward`
        key : says which elements are dropped; a new one each step
        index : int[N], with values float32[U, I]: row n of the batch is values[index[n]], as for
            `forward`

        Returns
        -------
        y : float32[N, D·H], in the order of `values`
        state : as from `forward`
        """
        values = as_rows(values, self.input_size, "the input")
        if np.ndim(index) != 1 and index is not None:
            raise DataError(f"index is of {np.ndim(index)} dimensions, expected one: [N]")
        count = len(values) if index is None else len(index)
        bounds = as_offsets(offsets, count)
        layout = lay_out(np.diff(bounds), bounds[:-1], 1, self._slices(count))
        y = np.empty((count, self.output_size), np.float32)
        return y, self._forward(values, y, layout, state, training, key, index)

    def _slices(self, rows: int) -> int:
        if self._layers[0].work(rows) < SMALL:
            return 1
        return -(-self.team.threads // self.directions)

    def _forward(
        self, source: Float32, y: Float32, layout: Layout, state: Any, training: bool, key: int,
        index: Any,
    ) -> Any:  # fmt: skip
        initial = self._as_state(state, len(layout.order), "state")
        given = picks = None
        if index is None and layout.identity:
            x = source
        elif index is None:
            x = self._space.array("x" if training else "passing x", layout.count, source.shape[1])
            if self.directions == 1 and len(layout.slices) == self.team.threads > 1:
                given = source  # every thread fetches what its slice reads
            else:
                self._by_rows(x, source, layout.rows)
        else:
            x = as_rows(source, self.input_size, "the input")
            picks = as_index(index, len(x))
            picks = picks if layout.identity else picks[layout.rows]
        works = [
            work
            for layer, recurrent_layer in enumerate(self._layers)
            for work in recurrent_layer.packing(
                self.values, training, mixed_key(key, 2 * layer + 1)
            )
        ]
        self._pack(works)
        inputs, final = [], []
        for layer, recurrent_layer in enumerate(self._layers):
            if layer and self.dropout and training:
                self._drop(x, layout, mixed_key(key, 2 * layer))
            inputs.append(x)
            name = ("y", layer) if training else ("passing y", layer % 2)
            out, rows = (y, layout.rows) if self._is_top(layer) else self._between(name, layout)
            final.append(
                recurrent_layer.forward(
                    x,
                    out,
                    rows,
                    layout,
                    self._of_layer(initial, layer),
                    training,
                    None if layer else picks,
                    None if layer else given,
                )
            )
            x = out
        if training:
            self._run = _Run(layout, len(y), key, inputs, picks is not None)
        return self._as_given(final)

    @contextmanager
    def weights_held(self) -> Iterator[None]:
        """A block in which the weights stay as they are: they are packed once for all its passes
        without training, which for steps of one unit at a time is most of the work."""
        with self.lock:
            if not self._holders:
                self._pack([work for layer in self._layers for work in layer.hold(self.values)])
            self._holders += 1
        try:
            yield
        finally:
            with self.lock:
                self._holders -= 1
                if not self._holders:
                    for layer in self._layers:
                        layer.release()

    def _pack(self, works: list[Callable[[], None]]) -> None:
        """Pack the weights of all layers, on all threads where that is worth it."""
        if sum(recurrent_layer.work(16) for recurrent_layer in self._layers) < SMALL:
            for work in works:
                work()
        else:
            self.team.run(lambda i: works[i](), len(works))

    # ---- backward ---------------------------------------------------------------------------

    @locked
    def backward(self, dy: Float32, dstate: Any = None) -> Float32:
        """The way back through the last `forward` with training=True; once for each.

        Parameters
        ----------
        dy : float32[T, B, D·H], gradient of y; what stands past a row's length is never read
        dstate : gradient of the returned state, zeros when None. Where it is given, the gradient
            of the initial state takes its place in these arrays

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
        dy = as_floats(dy, "dy")
        run = self._run_before("backward", "forward", padded=True)
        B = len(run.layout.order)
        shape = (run.rows // B, B, self.output_size)
        if dy.shape != shape:
            raise DataError(f"dy is of shape {list(dy.shape)}, expected {list(shape)}")
        if run.shared:
            dx = np.empty_like(run.inputs[0])
        else:
            ragged = run.layout.count < run.rows
            dx = (np.zeros if ragged else np.empty)((*shape[:2], self.input_size), np.float32)
        self._backward(dy.reshape(run.rows, -1), dx.reshape(-1, self.input_size), dstate)
        return dx

    @locked
    def backward_ragged(
        self, dy: Float32, dstate: Any = None, want_dx: bool = True
    ) -> Float32 | None:
        """The way back through the last `forward_ragged`: dy [N, D·H] gives dx of the shape of
        `values`, or None when `want_dx` is False. State gradients are as for `backward`."""
        dy = as_floats(dy, "dy")
        run = self._run_before("backward_ragged", "forward_ragged", padded=False)
        if dy.shape != (run.rows, self.output_size):
            raise DataError(
                f"dy is of shape {list(dy.shape)}, expected [{run.rows}, {self.output_size}]"
            )
        inputs = len(run.inputs[0]) if run.shared else len(dy)
        dx = np.empty((inputs, self.input_size), np.float32) if want_dx else None
        self._backward(dy, dx, dstate)
        return dx

    def _run_before(self, here: str, forward: str, padded: bool) -> _Run:
        run = self._run
        if run is None or run.padded != padded:
            raise SettingsError(f"{here} needs a {forward} with training=True before it")
        return run

    def _backward(self, dy: Float32, dx: Float32 | None, dstate: Any) -> None:
        run = cast(_Run, self._run)
        layout = run.layout
        last = self._as_state(dstate, len(layout.order), "dstate")
        self._run = None
        first: list[State] = []
        works = [
            work
            for layer, recurrent_layer in enumerate(self._layers)
            for work in recurrent_layer.packing_back(self.values, layer > 0 or dx is not None)
        ]
        self._pack(works)
        for layer, recurrent_layer in reversed(list(enumerate(self._layers))):
            rows = layout.rows if self._is_top(layer) else self._straight(layout)
            below, to = self._below(layer, run, dx)
            first.append(
                recurrent_layer.backward(
                    self.grads,
                    run.inputs[layer],
                    dy,
                    rows,
                    layout,
                    self._of_layer(last, layer),
                    mixed_key(run.key, 2 * layer + 1),
                    below,
                    to,
                )
            )
            if below is not None:
                dy = below
            if layer and self.dropout:
                self._drop(dy, layout, mixed_key(run.key, 2 * layer))
        self.dstate = self._as_given(first[::-1])
        if dstate is not None:
            for given, gradient in zip(as_parts(dstate), as_parts(self.dstate), strict=True):
                if isinstance(given, np.ndarray) and given.flags.writeable:
                    given[...] = gradient

    def _below(
        self, layer: int, run: _Run, dx: Float32 | None
    ) -> tuple[Float32 | None, Float32 | None]:
        """Where a layer's gradient of its input goes: packed, and then to the caller's rows."""
        layout = run.layout
        if layer:
            return self._between(("dx", layer % 2), layout)[0], None
        if dx is None or run.shared:
            return dx, None
        if layout.identity:
            return dx[: layout.count], None
        return self._space.array("packed dx", layout.count, self.input_size), dx

    # ---- states, rows, dropout --------------------------------------------------------------

    def _as_state(self, state: Any, batch: int, name: str) -> State:
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        return as_state(state, self._cell.states, shape, name)

    def _of_layer(self, state: State, layer: int) -> State:
        first = layer * self.directions
        return tuple(part[first : first + self.directions] for part in state)

    def _as_given(self, layers: list[State]) -> Any:
        """The states of all layers [D, B, H] as one of the caller's form."""
        whole = tuple(np.concatenate(parts) for parts in zip(*layers, strict=True))
        return whole if len(whole) > 1 else whole[0]

    def _is_top(self, layer: int) -> bool:
        return layer == self.num_layers - 1

    def _between(self, name: object, layout: Layout) -> tuple[Float32, Int64]:
        """A packed array between two layers, and its rows."""
        return self._space.array(name, layout.count, self.output_size), self._straight(layout)

    def _straight(self, layout: Layout) -> Int64:
        return np.arange(layout.count)

    def _by_rows(self, out: Float32, values: Float32, rows: Int64) -> None:
        parts = self.team.split(len(rows), max(1, (1 << 16) // values.shape[1]))
        self.team.run(lambda i: gather(out, values, rows, *parts[i]), len(parts))

    def _drop(self, x: Float32, layout: Layout, key: int) -> None:
        limit, scale = limit_and_scale(self.dropout)
        parts = self.team.split(len(x), max(1, (1 << 16) // x.shape[1]))
        bits = np.uint64(key)
        self.team.run(
            lambda i: drop_rows(x, layout.rows, bits, limit, scale, *parts[i]), len(parts)
        )


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates, Gers et al. 2000).

    A state is (h, c). Parameters and errors are those of `Recurrent`, and

    forget_bias : what the forget gate's bias starts from (Jozefowicz et al. 2015)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        *,
        forget_bias: float = 1.0,
        input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:
        self.forget_bias = real("forget_bias", forget_bias, np.isfinite, "a finite number")
        super().__init__(
            LSTMCell(), input_size, hidden_size, num_layers, bidirectional, dropout, weight_dropout,
            seed, threads, input_init, recurrent_init, team,
        )  # fmt: skip

    def initialise(self, rng: np.random.Generator) -> None:
        """As all, and the forget gate's bias."""
        super().initialise(rng)
        for name, value in self.values.items():
            if name.startswith("bias_ih"):
                value[self.hidden_size : 2 * self.hidden_size] = self.forget_bias


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), its reset gate after the product as in cuDNN.

    A state is h. Parameters and errors are those of `Recurrent`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        *,
        input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:
        super().__init__(
            GRUCell(), input_size, hidden_size, num_layers, bidirectional, dropout, weight_dropout,
            seed, threads, input_init, recurrent_init, team,
        )  # fmt: skip


class RNN(Recurrent):
    """Plain recurrence (Elman 1990).

    A state is h. Parameters and errors are those of `Recurrent`, and

    nonlinearity : "tanh" or "relu"
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        *,
        nonlinearity: str = "tanh",
        input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:
        self.nonlinearity = one_of("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            RNNCell(nonlinearity == "relu"), input_size, hidden_size, num_layers, bidirectional,
            dropout, weight_dropout, seed, threads, input_init, recurrent_init, team,
        )  # fmt: skip
