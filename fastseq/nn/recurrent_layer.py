"""Forward and backward passes of one recurrent layer, in one or two directions, on the CPU.

Three kinds of work are shared by the threads, each in its own way: packing weights (by matrix),
time loops (by direction and slice of the batch), products for gradients (by units or rows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.gates import pack_backward
from fastseq.kernels.nn.gradients import input_gradient, weight_gradients
from fastseq.kernels.nn.inputs import BEFORE, IN_LOOP, PICKED
from fastseq.kernels.nn.sequences import gather_steps, scatter
from fastseq.kernels.simd import gemm
from fastseq.nn.cells import ZEROS, Cell, State
from fastseq.nn.dropout import dropped
from fastseq.nn.parameters import Views
from fastseq.nn.products import SMALL, scratch
from fastseq.nn.sequences import Layout
from fastseq.nn.workspace import Workspace
from fastseq.seeds import mixed_key
from fastseq.threads import Team
from fastseq.types import Float32, Int64

CHUNK = 1 << 16  # floats of gates whose input products are made at a time: they stay in L2
MOST_PROJECTED = 1 << 24  # floats of gates that are made before the time loop, while predicting
NOTHING: Int64 = np.empty(0, np.int64)
NO_ROWS: Float32 = np.empty((0, 0), np.float32)
ABSENT: tuple[Float32, Float32] = (NO_ROWS, np.empty(0, np.float32))  # a weight left out, its bias


_Packed = tuple[Float32, Float32, Float32]  # panels of weight_ih and of weight_hh, and biases


@dataclass(slots=True)
class _Kept:
    """What one direction keeps for the way back.

    gates   float32[N, row]   as the cell's kernel leaves them
    before  float32[N, W]     the state each row started from, for each of its arrays
    """

    gates: Float32
    before: State


class RecurrentLayer:
    """A layer's passes and the memory they need.

    Parameters
    ----------
    cell : the recurrence
    inputs, units : I and H
    suffixes : of the parameters' names, one a direction ("l0", "l0_reverse")
    space : memory shared with the other layers; what is kept for the way back is named by
        `suffixes`, the rest is overwritten by the next pass
    weight_dropout : rate of single recurrent weights, while training
    """

    def __init__(
        self, cell: Cell, inputs: int, units: int, suffixes: Sequence[str], space: Workspace,
        team: Team, weight_dropout: float,
    ) -> None:  # fmt: skip
        self.cell = cell
        self.inputs = inputs
        self.units = units
        self.suffixes = tuple(suffixes)
        self.space = space
        self.team = team
        self.weight_dropout = weight_dropout
        self.width = gemm.padded(units)
        row = cell.slots * self.width
        # rows a multiple of 2 KB apart would fall on the same few lines of the first-level cache
        self.row = row + LANES if row % 512 == 0 else row
        self._kept: list[_Kept] = []
        self._packed: list[_Packed] = []
        self._held: list[_Packed] | None = None
        self._recurrent: list[Float32] = []  # weight_hh of each direction as training last used it
        self._back: list[Float32] = []  # panels of weight_hh for the way back
        self._below: list[Float32] = []  # panels of weight_ih for it
        self._picks: Int64 | None = None

    @property
    def directions(self) -> int:
        """1 or 2."""
        return len(self.suffixes)

    def work(self, rows: int) -> int:
        """Multiply-adds of one direction over so many rows."""
        return rows * self.cell.gates * self.units * (self.inputs + self.units)

    # ---- packing weights --------------------------------------------------------------------

    def packing(self, values: Views, training: bool, key: int) -> list[Callable[[], None]]:
        """What is to be done before `forward`, in any order and on any thread; nothing for a pass
        without training while weights are held."""
        if self._held is not None and not training:
            return []
        recurrent = [values[f"weight_hh_{suffix}"] for suffix in self.suffixes]
        if self.weight_dropout and training:
            for d, suffix in enumerate(self.suffixes):
                out = self.space.array(("dropped", suffix), *recurrent[d].shape)
                dropped(out, recurrent[d], self.weight_dropout, mixed_key(key, d), self.team)
                recurrent[d] = out
        if training:  # a pass without may come between a forward pass and its way back
            self._recurrent = recurrent
        self._packed, works = self._panels(values, recurrent, "packed")
        return works

    def hold(self, values: Views) -> list[Callable[[], None]]:
        """The same for all passes without training until `release`."""
        recurrent = [values[f"weight_hh_{suffix}"] for suffix in self.suffixes]
        self._held, works = self._panels(values, recurrent, "held")
        return works

    def release(self) -> None:
        """Pack the weights anew for every pass, as from the start."""
        self._held = None

    def packing_back(self, values: Views, want_dx: bool) -> list[Callable[[], None]]:
        """What is to be done before `backward`, which is to have `dx` when `want_dx`."""
        cell, size = self.cell, self.cell.gates * self.width
        self._back, self._below = [], []
        works: list[Callable[[], None]] = []
        for suffix, recurrent in zip(self.suffixes, self._recurrent, strict=True):
            panels = self.space.array(("back", suffix), size * self.width)
            works.append(partial(pack_backward, panels, recurrent, cell.hidden_gates, self.units))
            self._back.append(panels)
            if want_dx:
                weight = values[f"weight_ih_{suffix}"]
                panels = self.space.array(("below", suffix), size * gemm.padded(self.inputs))
                works.append(partial(pack_backward, panels, weight, cell.input_gates, self.units))
                self._below.append(panels)
        return works

    def _panels(
        self, values: Views, recurrent: list[Float32], name: str
    ) -> tuple[list[_Packed], list[Callable[[], None]]]:
        """Room for the panels of each direction, and what fills it."""
        cell, H, W = self.cell, self.units, self.width
        packed: list[_Packed] = []
        works: list[Callable[[], None]] = []
        for suffix, weight in zip(self.suffixes, recurrent, strict=True):
            ih = self.space.array((name, "ih", suffix), cell.gates * W * self.inputs)
            hh = self.space.array((name, "hh", suffix), cell.gates * W * H)
            bias = self.space.zeros((name, "bias", suffix), cell.slots * W)
            cell.pack_bias(bias, values[f"bias_ih_{suffix}"], values[f"bias_hh_{suffix}"], H)
            works.append(partial(cell.pack, hh, weight, cell.hidden_gates, H))
            works.append(partial(cell.pack, ih, values[f"weight_ih_{suffix}"], cell.input_gates, H))
            packed.append((ih, hh, bias))
        return packed, works

    # ---- forward ----------------------------------------------------------------------------

    def forward(
        self, x: Float32, y: Float32, rows: Int64, layout: Layout, initial: State, training: bool,
        picks: Int64 | None = None, given: Float32 | None = None,
    ) -> State:  # fmt: skip
        """Write h of every row to y and return the last state.

        The weights are those that `packing` or `hold` last packed.

        x        float32[N, I]     packed; with `picks` float32[U, I], packed row n reading row
                                   picks[n]: the products of an input that comes again are made
                                   once, on the way back too
        given    float32[·, I]     what x is yet to be filled from, of one direction: row n is
                                   given[layout.rows[n]]
        y        float32[·, D·H]   packed row n's at y[rows[n]]
        initial  float32[D, B, H]  in the caller's order
        """
        H, D, slices = self.units, self.directions, layout.slices
        chunk = max(CHUNK // self.row, *(piece.widest for piece in slices), 1)
        states = self._states(initial, layout)
        parts = D * len(slices)
        source = IN_LOOP
        if picks is not None:
            source = PICKED
        elif (
            parts < self.team.threads
            and self.work(layout.count) >= SMALL
            and layout.count * self.row <= MOST_PROJECTED
        ):  # threads to spare, as for a batch of one: they share the input's products
            source = BEFORE
        weights = self._packed if training or self._held is None else self._held
        kept = [
            self._make_room(suffix, layout, training, source == BEFORE) for suffix in self.suffixes
        ]
        products = [direction.gates for direction in kept]
        if source == PICKED:
            products = [self.space.array(("table", d), len(x), self.row) for d in range(D)]
        if source != IN_LOOP:
            ranges = self.team.split(len(x) if picks is not None else layout.count, 64)

            def project(part: int) -> None:
                d, i = divmod(part, len(ranges))
                panels, _, bias = weights[d]
                self.cell.project(products[d], x, panels, bias, *ranges[i])

            self._share(project, D * len(ranges), self.work(len(x)))

        def step(part: int) -> None:
            d, s = divmod(part, len(slices))
            piece = slices[s]
            if given is not None:
                gather_steps(x, given, layout.rows, piece.starts, piece.counts)
            gates, before = kept[d].gates, kept[d].before
            if not training:
                before = tuple(
                    self.space.array(("before", d, s, i), piece.widest, self.width)
                    for i in range(self.cell.states)
                )
                if source != BEFORE:
                    gates = self.space.array(("gates", d, s), chunk, self.row)
            self.cell.forward(
                y, d * H, tuple(array[piece.first : piece.last] for array in states[d]), gates,
                before, x, *weights[d], rows, piece, d == 1, H, training, source, products[d],
                NOTHING if picks is None else picks, chunk,
            )  # fmt: skip

        self._share(step, parts, self.work(layout.count))
        if training:
            self._kept = kept
            self._picks = picks
        return self._unpadded(states, initial, layout)

    def _make_room(self, suffix: str, layout: Layout, training: bool, projected: bool) -> _Kept:
        held = layout.count if training else 0
        name = "gates" if training else "passing gates"
        return _Kept(
            self.space.array(
                (name, suffix), layout.count if training or projected else 0, self.row
            ),
            tuple(
                self.space.array(("before", suffix, i), held, self.width)
                for i in range(self.cell.states)
            ),
        )

    # ---- backward ---------------------------------------------------------------------------

    def backward(
        self, grads: Views, x: Float32, dy: Float32, rows: Int64, layout: Layout, last: State,
        key: int, dx: Float32 | None = None, to: Float32 | None = None,
    ) -> State:  # fmt: skip
        """Add to the gradients of the parameters; returns the gradient of the initial state.

        The weights are those of the last `packing_back`. x, rows and layout are those of
        `forward`, key that of `packing`; dy float32[·, D·H] is the gradient of y and `last`
        float32[D, B, H] of the last state.

        dx  out: of x's shape, its gradient; None where it is not wanted
        to  out: float32[·, I], row n of dx at to[layout.rows[n]] too
        """
        cell, H = self.cell, self.units
        states = self._states(last, layout)

        def step(part: int) -> None:
            d, s = divmod(part, len(layout.slices))
            piece = layout.slices[s]
            kept = self._kept[d]
            cell.backward(
                kept.gates, tuple(array[piece.first : piece.last] for array in states[d]), dy,
                d * H, kept.before, self._back[d], rows, piece, d == 1, H,
            )  # fmt: skip

        self._share(step, self.directions * len(layout.slices), self.work(layout.count))
        hidden_gradients = [grads[f"weight_hh_{suffix}"] for suffix in self.suffixes]
        if self.weight_dropout:  # the gradients of the weights as used, to be masked
            hidden_gradients = [
                self.space.zeros(("masked", d), *gradient.shape)
                for d, gradient in enumerate(hidden_gradients)
            ]
        input_gradients = [kept.gates for kept in self._kept]
        if self._picks is not None:
            input_gradients = [
                self.space.zeros(("table", d), len(x), self.row) for d in range(self.directions)
            ]
        products = self._weight_gradients(grads, hidden_gradients, input_gradients, x, layout)
        below = [] if dx is None else self._input_gradients(dx, input_gradients, to, layout)
        if self._picks is None:
            products, below = products + below, []
        self._share(lambda i: products[i](), len(products), self.work(layout.count))
        self._share(lambda i: below[i](), len(below), self.work(len(x)))
        if self.weight_dropout:
            for d, suffix in enumerate(self.suffixes):
                masked = hidden_gradients[d]
                dropped(masked, masked, self.weight_dropout, mixed_key(key, d), self.team)
                grads[f"weight_hh_{suffix}"] += masked
        return self._unpadded(states, last, layout)

    def _weight_gradients(
        self, grads: Views, hidden_gradients: list[Float32], input_gradients: list[Float32],
        x: Float32, layout: Layout,
    ) -> list[Callable[[], None]]:  # fmt: skip
        """Products for threads to share: a direction each, or some units of every direction."""
        cell, everything = self.cell, self.width // LANES
        gates = cell.slots, cell.input_gates, cell.hidden_gates, cell.hidden_slot, self.units
        picks = self._picks

        def product(d: int, first: int, last: int) -> None:
            suffix, kept, summed = self.suffixes[d], self._kept[d], input_gradients[d]
            dz, before = kept.gates, kept.before[0]
            given = grads[f"weight_ih_{suffix}"], grads[f"bias_ih_{suffix}"]
            hidden = hidden_gradients[d], grads[f"bias_hh_{suffix}"]
            if picks is None:
                weight_gradients(
                    *given, *hidden, dz, *gates, x, before, NO_ROWS, NOTHING, scratch(), first, last
                )
            else:  # sums of dz by input for one weight, dz itself for the other
                weight_gradients(
                    *ABSENT, *hidden, dz, *gates, NO_ROWS, before, summed, picks, scratch(), first,
                    last,
                )  # fmt: skip
                weight_gradients(
                    *given, *ABSENT, summed, *gates, x, NO_ROWS, NO_ROWS, NOTHING, scratch(), first,
                    last,
                )  # fmt: skip

        whole = self.directions % self.team.threads == 0
        units = [(0, everything)] if whole else self._split(everything, layout.count)
        return [partial(product, d, *piece) for piece in units for d in range(self.directions)]

    def _input_gradients(
        self, dx: Float32, gradients: list[Float32], to: Float32 | None, layout: Layout
    ) -> list[Callable[[], None]]:
        """The sum over the directions of dz W, in small pieces that even out the others."""
        cell = self.cell

        def product(first: int, last: int) -> None:
            for d, dz in enumerate(gradients):
                input_gradient(
                    dx, dz, cell.slots, 0, cell.gates, self._below[d], d > 0, ZEROS, scratch(),
                    first, last,
                )  # fmt: skip
            if to is not None:
                scatter(to, dx, layout.rows, first, last)

        pieces = self._split(len(dx), len(dx), 4 * gemm.ROWS)
        return [partial(product, *piece) for piece in pieces]

    # ---- states and sharing -----------------------------------------------------------------

    def _states(self, given: State, layout: Layout) -> list[State]:
        """For each direction the arrays [D, B, H] of a state as [B, W], in packed order."""
        states = []
        for d in range(self.directions):
            state = tuple(
                self.space.zeros(("state", d, i), len(layout.order), self.width)
                for i in range(self.cell.states)
            )
            for padded, array in zip(state, given, strict=True):
                padded[:, : self.units] = array[d] if layout.identity else array[d, layout.order]
            states.append(state)
        return states

    def _unpadded(self, states: list[State], like: State, layout: Layout) -> State:
        """The way back from `_states`, into fresh arrays."""
        found = tuple(np.empty_like(array) for array in like)
        for d, state in enumerate(states):
            for array, padded in zip(found, state, strict=True):
                if layout.identity:  # picking rows costs ten times a copy
                    array[d] = padded[:, : self.units]
                else:
                    array[d, layout.order] = padded[:, : self.units]
        return found

    def _split(self, n: int, rows: int, most: int | None = None) -> list[tuple[int, int]]:
        """[0, n) in a range for each thread, or in ranges of `most`; in one where a product over
        so many rows is small."""
        if self.work(rows) < SMALL:
            return [(0, n)]
        if most is None:
            return self.team.split(n)
        return [(first, min(first + most, n)) for first in range(0, n, most)]

    def _share(self, work: Callable[[int], None], parts: int, size: int) -> None:
        """Run the parts on the team, or here when all are small."""
        if size < SMALL:
            for part in range(parts):
                work(part)
        else:
            self.team.run(work, parts)
