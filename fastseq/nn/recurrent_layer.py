"""One recurrent layer on the CPU, in one or two directions, over a packed batch.

A batch is packed by time, without padding: step 0 of all sequences, the longest first, then step 1
of those that have one, and so on. Slices, one a thread, are neighbouring sequences: the rows of a
slice at one step are neighbours, and those at the next step a prefix of them, so that the state is
one array whose first rows are in use. The order of rows does not depend on where slices are cut, so
that gradients of weights, which are summed in it, have the same bits on any number of threads. A
batch of equal lengths is packed already.

Threads share the packing of weights (by matrix), the time loops (by direction and slice of the
batch) and the products for gradients (by units or rows).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from fastseq.errors import DataError
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.gates import input_gradient, pack_backward, pack_forward, weight_gradients
from fastseq.kernels.nn.recurrent import BEFORE, IN_LOOP, PICKED, Cell, project
from fastseq.kernels.nn.rows import gather_steps, pack_order, scatter
from fastseq.kernels.simd import gemm
from fastseq.nn.layers import dropped
from fastseq.nn.products import SMALL, scratch
from fastseq.seeds import mixed_key
from fastseq.threads import Team
from fastseq.types import Float32, Int64

State = tuple[Float32, ...]  # h, or h and c
Work = Callable[[], None]

CHUNK = 1 << 16  # floats of gates whose input products are computed at a time: they fit in L2
MOST_PROJECTED = 1 << 24  # floats of gates computed before the time loop, while predicting
NOTHING: Int64 = np.empty(0, np.int64)
NO_ROWS: Float32 = np.empty((0, 0), np.float32)
# placeholder for a weight and its bias
ABSENT: tuple[Float32, Float32] = (NO_ROWS, np.empty(0, np.float32))
ZEROS: Float32 = np.zeros(gemm.WIDTH, np.float32)

# ---- the packed order ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A part of the batch that one thread works on.

    first, last  its sequences in `Layout.order`
    starts       int64[T]  its first packed row at each step
    counts       int64[T]  its rows at each step, descending and at least 1
    """

    first: int
    last: int
    starts: Int64
    counts: Int64

    @property
    def widest(self) -> int:
        """Rows of its first step."""
        return self.last - self.first


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The packed order of a batch of B sequences with N steps in all.

    order     int64[B]  which sequence each row of a state belongs to
    rows      int64[N]  the caller's row of each packed row
    slices    parts of the batch
    identity  the packed order is the caller's
    """

    order: Int64
    rows: Int64
    slices: tuple[Slice, ...]
    identity: bool

    @property
    def count(self) -> int:
        """N."""
        return len(self.rows)


def lay_out(lengths: Int64, firsts: Int64, stride: int, parts: int) -> Layout:
    """The layout of sequences of `lengths` whose first steps are the caller's rows `firsts`, a
    step being `stride` rows after the one before it, in at most `parts` slices of similar size.

    Raises
    ------
    DataError
        No sequence, or one without a step.
    """
    if len(lengths) == 0:
        raise DataError("a batch needs at least one sequence")
    if int(lengths.min()) < 1:
        empty = int(np.argmin(lengths))
        raise DataError(f"sequence {empty} of the batch has no step, expected 1 or more")
    parts = max(1, min(parts, len(lengths)))
    order = np.argsort(-lengths, kind="stable")
    longest = int(lengths[order[0]])
    bounds = _bounds(lengths[order], parts)
    rows = np.empty(int(lengths.sum()), np.int64)
    starts = np.empty((parts, longest), np.int64)
    counts = np.empty((parts, longest), np.int64)
    same = pack_order(rows, starts, counts, order, bounds, lengths, firsts, stride)
    slices = []
    for part in range(parts):
        first, last = int(bounds[part]), int(bounds[part + 1])
        steps = int(lengths[order[first]])
        slices.append(Slice(first, last, starts[part, :steps], counts[part, :steps]))
    return Layout(order, rows, tuple(slices), bool(same))


def _bounds(lengths: Int64, parts: int) -> Int64:
    """int64[parts + 1]: bounds of parts of similar numbers of steps, none of them empty."""
    B = len(lengths)
    steps = np.concatenate([[0], lengths.cumsum()])
    shares = np.arange(parts + 1) / parts * steps[-1]
    bounds: Int64 = np.rint(np.interp(shares, steps, np.arange(B + 1))).astype(np.int64)
    for part in range(1, parts):
        bounds[part] = min(max(bounds[part], bounds[part - 1] + 1), B - parts + part)
    return bounds


# ---- the layer -----------------------------------------------------------------------------


def project_rows(
    cell: Cell, gates: Float32, x: Float32, panels: Float32, bias: Float32, first: int, last: int
) -> None:
    """Gates of packed rows [first, last): the input's products and the biases."""
    starts, counts = np.array([first]), np.array([last - first])
    project(cell.gates, cell.slots, cell.span, gates, x, panels, bias, starts, counts)


def pack_bias(cell: Cell, packed: Float32, ih: Float32, hh: Float32, units: int) -> None:
    """Biases float32[G · H] into the slots of records, `packed` float32[slots · W]."""
    if cell.slots == 1:
        packed[units:] = 0
        np.add(ih, hh, out=packed[:units])
        return
    slots = np.zeros((cell.slots, len(packed) // cell.slots), np.float32)
    slots[: cell.gates, :units] = ih.reshape(-1, units)[cell.input_gates]
    first = cell.hidden_slot
    slots[first : first + cell.gates, :units] += hh.reshape(-1, units)[cell.hidden_gates]
    packed.reshape(-1, cell.slots, LANES)[...] = slots.reshape(cell.slots, -1, LANES).swapaxes(0, 1)


class Stack(Protocol):
    """What a layer reads of the `Recurrent` that it is part of."""

    input_size: int
    hidden_size: int
    weight_dropout: float
    values: dict[str, Float32]
    grads: dict[str, Float32]
    space: Any
    team: Team

    @property
    def cell(self) -> Cell: ...
    @property
    def output_size(self) -> int: ...
    def suffixes(self, layer: int) -> list[str]: ...


class RecurrentLayer:
    """The passes of one layer of a stack, and the memory they need.

    Arrays saved for the backward pass are named by the layer's suffixes ("l0", "l0_reverse");
    others are overwritten by the next pass of any layer.
    """

    def __init__(self, owner: Stack, number: int) -> None:
        self.owner = owner
        self.number = number
        self.cell = owner.cell
        self.units = owner.hidden_size
        self.inputs = owner.input_size if number == 0 else owner.output_size
        self.suffixes = owner.suffixes(number)
        self.space = owner.space
        self.team = owner.team
        self.width = gemm.padded(self.units)
        row = self.cell.slots * self.width
        # rows a multiple of 2 KB apart would fall on the same few lines of the first-level cache
        self.row = row + LANES if row % 512 == 0 else row
        self._gates: list[Float32] = []  # float32[N, row] of each direction, from `forward`
        self._before: list[State] = []  # float32[N, W]: the state that each row started from
        # panels of weight_ih and of weight_hh, and biases, of each direction
        self._packed: list[tuple[Float32, Float32, Float32]] = []
        self._held: list[tuple[Float32, Float32, Float32]] | None = None
        self._recurrent: list[Float32] = []  # weight_hh of each direction as training last used it
        self._hidden_panels: list[Float32] = []  # of weight_hh, for the backward pass
        self._input_panels: list[Float32] = []  # of weight_ih

    @property
    def directions(self) -> int:
        """1 or 2."""
        return len(self.suffixes)

    def work(self, rows: int) -> int:
        """Multiply-adds of one direction over `rows` rows."""
        return rows * self.cell.gates * self.units * (self.inputs + self.units)

    # ---- packing weights --------------------------------------------------------------------

    def packing(self, training: bool, key: int) -> list[Work]:
        """What must be done before `forward`, in any order and on any thread; nothing for a pass
        without training while weights are held."""
        if self._held is not None and not training:
            return []
        recurrent = self._values("weight_hh")
        rate = self.owner.weight_dropout
        if rate and training:
            for d, suffix in enumerate(self.suffixes):
                out = self.space.array(("dropped", suffix), *recurrent[d].shape)
                dropped(out, recurrent[d], rate, mixed_key(key, d), self.team)
                recurrent[d] = out
        if training:  # a pass without may come between a forward pass and its backward pass
            self._recurrent = recurrent
        self._packed, works = self._panels(recurrent, "packed")
        return works

    def hold(self) -> list[Work]:
        """The same for all passes without training until `release`."""
        self._held, works = self._panels(self._values("weight_hh"), "held")
        return works

    def release(self) -> None:
        """Pack the weights for every pass again."""
        self._held = None

    def packing_back(self, want_dx: bool) -> list[Work]:
        """What must be done before `backward`, which is to compute `dx` when `want_dx`."""
        cell, size = self.cell, self.cell.gates * self.width
        self._hidden_panels, self._input_panels = [], []
        works: list[Work] = []
        for suffix, recurrent in zip(self.suffixes, self._recurrent, strict=True):
            panels = self.space.array(("back", suffix), size * self.width)
            works.append(partial(pack_backward, panels, recurrent, cell.hidden_gates, self.units))
            self._hidden_panels.append(panels)
        for suffix, weight in zip(self.suffixes, self._values("weight_ih"), strict=True):
            if want_dx:
                panels = self.space.array(("below", suffix), size * gemm.padded(self.inputs))
                works.append(partial(pack_backward, panels, weight, cell.input_gates, self.units))
                self._input_panels.append(panels)
        return works

    def _values(self, name: str) -> list[Float32]:
        """A parameter of each direction."""
        return [self.owner.values[f"{name}_{suffix}"] for suffix in self.suffixes]

    def _panels(
        self, recurrent: list[Float32], name: str
    ) -> tuple[list[tuple[Float32, Float32, Float32]], list[Work]]:
        """Memory for the panels of each direction, and the work that fills it."""
        cell, H, W = self.cell, self.units, self.width
        packed: list[tuple[Float32, Float32, Float32]] = []
        works: list[Work] = []
        weights = self._values("weight_ih")
        biases = zip(self._values("bias_ih"), self._values("bias_hh"), strict=True)
        for suffix, weight, hidden, both in zip(
            self.suffixes, weights, recurrent, biases, strict=True
        ):
            ih = self.space.array((name, "ih", suffix), cell.gates * W * self.inputs)
            hh = self.space.array((name, "hh", suffix), cell.gates * W * H)
            bias = self.space.array((name, "bias", suffix), cell.slots * W)
            pack_bias(cell, bias, *both, H)
            works.append(partial(pack_forward, hh, hidden, cell.hidden_gates, H, cell.span))
            works.append(partial(pack_forward, ih, weight, cell.input_gates, H, cell.span))
            packed.append((ih, hh, bias))
        return packed, works

    # ---- forward ----------------------------------------------------------------------------

    def forward(
        self, x: Float32, y: Float32, rows: Int64, layout: Layout, initial: tuple[Any, ...],
        final: State, training: bool, key: int, picks: Int64 | None, unpacked: Float32 | None,
    ) -> None:  # fmt: skip
        """Write h of every row to y, and the layer's last state into `final`.

        The weights are those that `packing` or `hold` last packed.

        x         float32[N, I]       packed; with `picks` float32[U, I], packed row n reading row
                                      picks[n]: the products of a row are computed once, and those
                                      of the backward pass too
        unpacked  float32[·, I]       where x must be filled from, of one direction: row n is
                                      unpacked[layout.rows[n]]
        y         float32[·, D·H]     packed row n's at y[rows[n]]
        initial   float32[L·D, B, H]  of each array of a state, in the caller's order; None for
                                      zeros; `final` likewise
        """
        cell, H, D, slices = self.cell, self.units, self.directions, layout.slices
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
        kept, gate_rows = layout.count if training else 0, layout.count
        if not training and source != BEFORE:
            gate_rows = 0
        gates = [
            self.space.array((("gates", training), suffix), gate_rows, self.row)
            for suffix in self.suffixes
        ]
        before = [
            tuple(
                self.space.array(("before", suffix, i), kept, self.width)
                for i in range(cell.states)
            )
            for suffix in self.suffixes
        ]
        products = gates
        if source == PICKED:
            products = [self.space.array(("table", d), len(x), self.row) for d in range(D)]
        if source != IN_LOOP:
            ranges = self.team.split(len(x) if picks is not None else layout.count, 64)

            def project_part(part: int) -> None:
                d, i = divmod(part, len(ranges))
                panels, _, bias = weights[d]
                project_rows(cell, products[d], x, panels, bias, *ranges[i])

            self._share(project_part, D * len(ranges), self.work(len(x)))

        def step(part: int) -> None:
            d, s = divmod(part, len(slices))
            piece = slices[s]
            if unpacked is not None:
                gather_steps(x, unpacked, layout.rows, piece.starts, piece.counts)
            own_gates, own_before = gates[d], before[d]
            if not training:
                own_before = tuple(
                    self.space.array(("before", d, s, i), piece.widest, self.width)
                    for i in range(cell.states)
                )
                if source != BEFORE:
                    own_gates = self.space.array(("gates", d, s), chunk, self.row)
            state = [array[piece.first : piece.last] for array in states[d]]
            cell.forward(
                y, d * H, state[0], state[-1], own_gates, own_before[0], own_before[-1], x,
                *weights[d], rows, piece.starts, piece.counts, d == 1, H, training, source,
                products[d], NOTHING if picks is None else picks, chunk,
            )  # fmt: skip

        self._share(step, parts, self.work(layout.count))
        if training:
            self._gates, self._before = gates, before
        self._unpack_states(final, states, layout)

    # ---- backward ---------------------------------------------------------------------------

    def backward(
        self, x: Float32, dy: Float32, rows: Int64, layout: Layout, last: tuple[Any, ...],
        first: State, key: int, dx: Float32 | None, unpacked: Float32 | None, picks: Int64 | None,
    ) -> None:  # fmt: skip
        """Add to the gradients of the parameters; write the gradient of the layer's initial state
        into `first`.

        The weights are those of the last `packing_back`. x, rows, layout and picks are those of
        `forward`, key that of `packing`; dy float32[·, D·H] is the gradient of y and `last`, None
        for zeros, of the last state.

        dx        out: of x's shape, its gradient; None where it is not wanted
        unpacked  out: float32[·, I], row n of dx at unpacked[layout.rows[n]] too
        """
        cell, H, rate = self.cell, self.units, self.owner.weight_dropout
        states = self._states(last, layout)

        def step(part: int) -> None:
            d, s = divmod(part, len(layout.slices))
            piece = layout.slices[s]
            state = [array[piece.first : piece.last] for array in states[d]]
            cell.backward(
                self._gates[d], state[0], state[-1], dy, d * H, self._before[d][-1],
                self._hidden_panels[d], ZEROS, rows, piece.starts, piece.counts, d == 1, H,
            )  # fmt: skip

        self._share(step, self.directions * len(layout.slices), self.work(layout.count))
        grads = self.owner.grads
        hidden_gradients = [grads[f"weight_hh_{suffix}"] for suffix in self.suffixes]
        if rate:  # the gradients of the weights as used, to be masked
            hidden_gradients = [
                self.space.zeros(("masked", d), *gradient.shape)
                for d, gradient in enumerate(hidden_gradients)
            ]
        input_gradients = self._gates
        if picks is not None:
            input_gradients = [
                self.space.zeros(("table", d), len(x), self.row) for d in range(self.directions)
            ]
        products = self._weight_gradients(hidden_gradients, input_gradients, x, layout, picks)
        below = []
        if dx is not None:
            below = self._input_gradients(dx, input_gradients, unpacked, layout)
        if picks is None:
            products, below = products + below, []
        self._share(lambda i: products[i](), len(products), self.work(layout.count))
        self._share(lambda i: below[i](), len(below), self.work(len(x)))
        if rate:
            for d, suffix in enumerate(self.suffixes):
                masked = hidden_gradients[d]
                dropped(masked, masked, rate, mixed_key(key, d), self.team)
                grads[f"weight_hh_{suffix}"] += masked
        self._unpack_states(first, states, layout)

    def _weight_gradients(
        self, hidden_gradients: list[Float32], input_gradients: list[Float32], x: Float32,
        layout: Layout, picks: Int64 | None,
    ) -> list[Work]:  # fmt: skip
        """Products for threads to share: a direction each, or some units of every direction."""
        cell, grads = self.cell, self.owner.grads
        gates = cell.slots, cell.input_gates, cell.hidden_gates, cell.hidden_slot, self.units

        def product(d: int, first: int, last: int) -> None:
            suffix, dz, summed = self.suffixes[d], self._gates[d], input_gradients[d]
            before = self._before[d][0]
            of_input = grads[f"weight_ih_{suffix}"], grads[f"bias_ih_{suffix}"]
            of_hidden = hidden_gradients[d], grads[f"bias_hh_{suffix}"]
            if picks is None:
                weight_gradients(
                    *of_input, *of_hidden, dz, *gates, x, before, NO_ROWS, NOTHING, scratch(),
                    first, last,
                )  # fmt: skip
            else:  # sums of dz by input for one weight, dz itself for the other
                weight_gradients(
                    *ABSENT, *of_hidden, dz, *gates, NO_ROWS, before, summed, picks, scratch(),
                    first, last,
                )  # fmt: skip
                weight_gradients(
                    *of_input, *ABSENT, summed, *gates, x, NO_ROWS, NO_ROWS, NOTHING, scratch(),
                    first, last,
                )  # fmt: skip

        everything = self.width // LANES
        whole = self.directions % self.team.threads == 0
        units = [(0, everything)] if whole else self._split(everything, layout.count)
        return [partial(product, d, *piece) for piece in units for d in range(self.directions)]

    def _input_gradients(
        self, dx: Float32, gradients: list[Float32], unpacked: Float32 | None, layout: Layout
    ) -> list[Work]:
        """The sum over the directions of dz W, in small pieces that balance the threads."""
        cell = self.cell

        def product(first: int, last: int) -> None:
            for d, dz in enumerate(gradients):
                input_gradient(
                    dx, dz, cell.slots, cell.gates, self._input_panels[d], d > 0, ZEROS, scratch(),
                    first, last,
                )  # fmt: skip
            if unpacked is not None:
                scatter(unpacked, dx, layout.rows, first, last)

        pieces = self._split(len(dx), len(dx), gemm.ROWS)
        return [partial(product, *piece) for piece in pieces]

    # ---- states and sharing -----------------------------------------------------------------

    def _states(self, whole: tuple[Any, ...], layout: Layout) -> list[State]:
        """For each direction the layer's part of a state as arrays [B, W], in packed order."""
        states = []
        for d in range(self.directions):
            state = tuple(
                self.space.zeros(("state", d, i), len(layout.order), self.width)
                for i in range(self.cell.states)
            )
            for padded, array in zip(state, whole, strict=True):
                if array is not None:
                    part = array[self.number * self.directions + d]
                    padded[:, : self.units] = part if layout.identity else part[layout.order]
            states.append(state)
        return states

    def _unpack_states(self, whole: State, states: list[State], layout: Layout) -> None:
        """The reverse of `_states`."""
        for d, state in enumerate(states):
            for array, padded in zip(whole, state, strict=True):
                part = array[self.number * self.directions + d]
                if layout.identity:  # indexing rows takes ten times as long as a copy
                    part[...] = padded[:, : self.units]
                else:
                    part[layout.order] = padded[:, : self.units]

    def _split(self, n: int, rows: int, most: int | None = None) -> list[tuple[int, int]]:
        """[0, n) in a range for each thread, or in ranges of `most`; in one where a product over
        `rows` rows is small."""
        if self.work(rows) < SMALL:
            return [(0, n)]
        if most is None:
            return self.team.split(n)
        return [(first, min(first + most, n)) for first in range(0, n, most)]

    def _share(self, work: Callable[[int], None], parts: int, size: int) -> None:
        """Run the parts on the team, or on this thread where the work is small."""
        if size < SMALL:
            for part in range(parts):
                work(part)
        else:
            self.team.run(work, parts)
