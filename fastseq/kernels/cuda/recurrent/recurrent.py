"""One direction of one recurrent layer over a ragged batch, on the device.

    steps = steps_of(starts, counts)
    forward("lstm", y, 0, (h, c), gates, (before_h, before_c), weight, None, rows, steps)
    backward("lstm", gates, (dh, dc), dy, 0, (before_h, before_c), weight, rows, steps)

Rows are packed as kernels/nn/recurrent.py describes. Layers whose recurrent weights fit on one
multiprocessor run in one launch (persistent.py), larger ones in one launch over the whole chip
(grid_persistent.py), what fits nowhere in two launches a step (steps.py): `paths` says which.
The memory the kernels need beside their arguments is kept from call to call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.recurrent import grid_persistent, persistent, steps
from fastseq.kernels.cuda.recurrent.cells import CELLS
from fastseq.kernels.cuda.recurrent.persistent import Plan, pack_columns
from fastseq.kernels.cuda.recurrent.register_matvec import LANES
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.target import blocks_for, most_shared

SLOTS = {name: cell.slots for name, cell in CELLS.items()}  # of a row of gates, each of H values
GATES = {name: cell.gates for name, cell in CELLS.items()}  # rows of a weight are G H
STATES = {name: cell.states for name, cell in CELLS.items()}  # arrays of a state

ONE_MULTIPROCESSOR, GRID, STEP_BY_STEP = "one multiprocessor", "grid", "step by step"

_PACKING = 256  # threads


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The steps of a packed batch of B sequences.

    firsts, sizes   where each step's rows begin, and how many there are
    starts, counts  the same on the device, int32[T]
    lasts           int32[⌈B / 4⌉] on the device: steps of the longest of four neighbours
    """

    firsts: tuple[int, ...]
    sizes: tuple[int, ...]
    starts: Any
    counts: Any
    lasts: Any

    @property
    def batch(self) -> int:
        """B."""
        return self.sizes[0]


def steps_of(
    starts: npt.NDArray[Any], counts: npt.NDArray[Any], send: Callable[[Any], Any] | None = None
) -> Steps:
    """Of the first packed row and the rows of each step: int[T], counts descending from B.

    send  brings whole numbers to the device as int32; `memory.put` unless said
    """
    send = send or (lambda array: memory.put(np.asarray(array, np.int32)))
    blocks = np.arange(0, int(counts[0]), LANES)
    lasts = np.searchsorted(-np.asarray(counts), -blocks, side="left")
    return Steps(
        tuple(int(n) for n in starts),
        tuple(int(n) for n in counts),
        send(starts),
        send(counts),
        send(lasts),
    )


def paths(cell: str, units: int, batch: int, precision: str = "float32") -> list[str]:
    """The ways in which a batch can run through a layer of this cell and size, that which is taken
    first: ONE_MULTIPROCESSOR where the weights fit, GRID where they fit over the chip and no row
    tile is too large (grid_planning.MOST_WORK), else STEP_BY_STEP."""
    found = [STEP_BY_STEP]
    if grid_persistent.plans(cell, units, GATES[cell], batch, precision) is not None:
        found.insert(0, GRID)
    if persistent.plans(CELLS[cell], units, most_shared()) is not None:
        found.insert(0, ONE_MULTIPROCESSOR)
    return found


def path_of(cell: str, units: int, batch: int, precision: str = "float32") -> str:
    """How a batch runs through a layer of this cell and size."""
    return _forced[-1] if _forced else paths(cell, units, batch, precision)[0]


_forced: list[str] = []


@contextmanager
def forced(path: str) -> Iterator[None]:
    """A block in which all layers run in this way, which must be among their `paths`."""
    _forced.append(path)
    try:
        yield
    finally:
        _forced.pop()


def forward(
    cell: str, y: Any, column: int, state: Sequence[Any], gates: Any, before: Sequence[Any],
    weight: Any, hidden_bias: Any, rows: Any, steps: Steps, reverse: bool = False,
    keep: bool = True, precision: str = "float32",
) -> None:  # fmt: skip
    """Run every step.

    cell         "lstm", "gru", "rnn" (tanh) or "rnn_relu"
    y            float32[·, F]   out: h of packed row n at y[rows[n], column:column + H]
    state        h, or h and c, each float32[B, H]   in: the initial one; out: the last one
    gates        float32[N, S H]  in: x W + biases: of an LSTM i, f, g, o, of a GRU r, z, n, – (for
                 n without b_hn), of the others one; out, with `keep`: the gates, of a GRU r, z, n
                 and m = U_n h' + b_hn, of the others h
    before       h', or h' and c' of each row, each float32[N, H]: out, with `keep`
    weight       float32[G H, H], in PyTorch's order of gates
    hidden_bias  float32[H], b_hn of a GRU; None for others
    rows         int32[N], the caller's row of each packed row
    reverse      from the last step to the first
    precision    what the factors of products are rounded to, as gemm.multiply has it; on one
                 multiprocessor nothing is
    """
    units = state[0].shape[1]
    flat = [memory.flat(array) for array in (*state, gates, *before)]
    out = memory.flat(y)
    path = path_of(cell, units, steps.batch, precision)
    if path == STEP_BY_STEP:
        _forward_by_steps(
            cell, out, y.shape[1], column, state, flat, weight, hidden_bias, rows, steps, reverse,
            keep, precision,
        )  # fmt: skip
        return
    states = len(state)
    if path == GRID:
        over = grid_persistent.plans(cell, units, GATES[cell], steps.batch, precision)
        assert over is not None
        grid_persistent.forward(
            over[0], out, y.shape[1], column, flat[:states], flat[states], flat[states + 1 :],
            weight, hidden_bias, rows, steps.starts, steps.counts, steps.batch, reverse, keep,
        )  # fmt: skip
        return
    plan = _plans(cell, units)[0]
    panel = _packed(plan, weight, transposed=False)
    before = flat[states + 1 :]
    persistent.forward_kernel(CELLS[cell], plan)(
        blocks_for(steps.batch, LANES), out, y.shape[1], column, flat[0], flat[states - 1],
        flat[states], before[0], before[-1], panel, flat[0] if hidden_bias is None else hidden_bias,
        rows, steps.starts, steps.counts, steps.lasts, int(reverse), int(keep),
        int(cell == "rnn_relu"), shared=plan.shared,
    )  # fmt: skip


def backward(
    cell: str, gates: Any, dstate: Sequence[Any], dy: Any, column: int, before: Sequence[Any],
    weight: Any, rows: Any, steps: Steps, reverse: bool = False, precision: str = "float32",
) -> None:  # fmt: skip
    """Run every step back.

    gates   float32[N, S H]  in: as `forward` left them; out: the gradients of the gates' inputs, of
            a GRU those of r, z, n and m
    dstate  in: the gradient of the last state, out: of the initial one, as `state` in `forward`
    dy      float32[·, F]    the gradient of y
    The others as for `forward`.
    """
    units = dstate[0].shape[1]
    flat = [memory.flat(array) for array in (gates, *dstate)]
    whole = [memory.flat(array) for array in before]
    given = memory.flat(dy)
    path = path_of(cell, units, steps.batch, precision)
    if path == STEP_BY_STEP:
        _backward_by_steps(
            cell, flat, dstate, given, dy.shape[1], column, whole, weight, rows, steps, reverse,
            precision,
        )  # fmt: skip
        return
    if path == GRID:
        over = grid_persistent.plans(cell, units, GATES[cell], steps.batch, precision)
        assert over is not None
        grid_persistent.backward(
            over[1], flat[0], flat[1:], given, dy.shape[1], column, whole, weight, rows,
            steps.starts, steps.counts, steps.batch, reverse,
        )  # fmt: skip
        return
    plan = _plans(cell, units)[1]
    panel = _packed(plan, weight, transposed=True)
    persistent.backward_kernel(CELLS[cell], plan)(
        blocks_for(steps.batch, LANES), flat[0], flat[1], flat[-1], given, dy.shape[1], column,
        whole[0], whole[-1], panel, rows, steps.starts, steps.counts, steps.lasts, int(reverse),
        int(cell == "rnn_relu"), shared=plan.shared,
    )  # fmt: skip


def _plans(cell: str, units: int) -> tuple[Plan, Plan]:
    """The plans of both passes on one multiprocessor."""
    found = persistent.plans(CELLS[cell], units, most_shared())
    assert found is not None
    return found


def _packed(plan: Plan, weight: Any, transposed: bool) -> Any:
    panel = memory.scratch("panel", plan.panel)
    pack_columns(
        blocks_for(plan.panel, _PACKING, 1024), panel, memory.flat(weight), plan.units,
        plan.outputs, plan.depth, plan.threads, int(transposed),
    )  # fmt: skip
    return panel


def _order(steps: Steps, backwards: bool) -> range:
    T = len(steps.sizes)
    return range(T - 1, -1, -1) if backwards else range(T)


def _forward_by_steps(
    cell: str, out: Any, y_row: int, column: int, state: Sequence[Any], flat: Sequence[Any],
    weight: Any, hidden_bias: Any, rows: Any, of: Steps, reverse: bool, keep: bool, precision: str,
) -> None:  # fmt: skip
    units, states = state[0].shape[1], len(state)
    width = GATES[cell] * units
    products = memory.scratch("products", of.batch * width)
    whole = gemm.View(products, of.batch, width, width)
    h, matrix = gemm.view(state[0]), gemm.view(weight)
    gates, before = flat[states], flat[states + 1 :]
    for t in _order(of, reverse):
        count = of.sizes[t]
        gemm.multiply(
            gemm.top(whole, count), gemm.top(h, count), matrix, transpose_b=True,
            precision=precision,
        )  # fmt: skip
        steps.forward_kernel(CELLS[cell])(
            blocks_for(count * units, steps.THREADS), out, y_row, column, flat[0],
            flat[states - 1], gates, before[0], before[-1], products,
            gates if hidden_bias is None else hidden_bias, rows, of.firsts[t], count, units,
            int(keep), int(cell == "rnn_relu"),
        )  # fmt: skip


def _backward_by_steps(
    cell: str, flat: Sequence[Any], dstate: Sequence[Any], dy: Any, dy_row: int, column: int,
    before: Sequence[Any], weight: Any, rows: Any, of: Steps, reverse: bool, precision: str,
) -> None:  # fmt: skip
    units = dstate[0].shape[1]
    width = GATES[cell] * units
    dz = memory.scratch("products", of.batch * width)
    whole = gemm.View(dz, of.batch, width, width)
    dh, matrix = gemm.view(dstate[0]), gemm.view(weight)
    for t in _order(of, not reverse):
        count = of.sizes[t]
        steps.backward_kernel(CELLS[cell])(
            blocks_for(count * units, steps.THREADS), flat[0], dz, flat[1], flat[-1], dy, dy_row,
            column, before[0], before[-1], rows, of.firsts[t], count, units,
            int(cell == "rnn_relu"),
        )  # fmt: skip
        gemm.multiply(
            gemm.top(dh, count), gemm.top(whole, count), matrix, add=True, precision=precision,
        )  # fmt: skip
