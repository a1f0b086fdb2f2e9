"""One direction of one recurrent layer over a ragged batch, on the device.

    steps = steps_of(starts, counts)
    forward("lstm", y, 0, (h, c), gates, (before_h, before_c), weight, None, rows, steps)
    backward("lstm", gates, (dh, dc), dy, 0, (before_h, before_c), weight, rows, steps)

Rows are packed as kernels/nn/recurrent.py describes. Layers whose recurrent weights fit on one
multiprocessor run in one launch (persistent.py), larger ones in one launch over all multiprocessors
(grid_persistent.py), and those that fit nowhere in two launches per step: a product of the active
states and the recurrent weights, and a kernel for the units. `paths` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.recurrent import grid_persistent, persistent
from fastseq.kernels.cuda.recurrent.cells import CELLS, Cell, store_values
from fastseq.kernels.cuda.recurrent.persistent import Plan, pack_columns
from fastseq.kernels.cuda.recurrent.register_matvec import LANES
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.target import Kernel, blocks_for, cuda, kernel, most_shared

SLOTS = {name: cell.slots for name, cell in CELLS.items()}  # of a row of gates, each of H values
GATES = {name: cell.gates for name, cell in CELLS.items()}  # rows of a weight are G H

ONE_MULTIPROCESSOR, GRID, STEP_BY_STEP = "one multiprocessor", "grid", "step by step"
THREADS = 128  # of a step's kernel


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The steps of a packed batch of B sequences.

    firsts, sizes   the first row of each step, and the number of its rows
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
    """Steps from the first packed row and the rows of each: int[T], counts descending from B.

    send  copies integers to the device as int32, by default with `memory.put`
    """
    send = send or (lambda array: memory.put(np.asarray(array, np.int32)))
    blocks = np.arange(0, int(counts[0]), LANES)
    lasts = np.searchsorted(-np.asarray(counts), -blocks, side="left")
    firsts, sizes = (tuple(int(n) for n in of) for of in (starts, counts))
    return Steps(firsts, sizes, send(starts), send(counts), send(lasts))


def paths(cell: str, units: int, batch: int, precision: str = "float32") -> list[str]:
    """The paths available to a batch in a layer of this cell and size, best first:
    ONE_MULTIPROCESSOR where the weights fit, GRID where they fit in all multiprocessors and no row
    tile is too large (grid_planning.MOST_WORK), and STEP_BY_STEP."""
    found = [STEP_BY_STEP]
    if grid_persistent.plans(cell, units, batch, precision) is not None:
        found.insert(0, GRID)
    if persistent.plans(CELLS[cell], units, most_shared()) is not None:
        found.insert(0, ONE_MULTIPROCESSOR)
    return found


def path_of(cell: str, units: int, batch: int, precision: str = "float32") -> str:
    """The path that a batch takes in a layer of this cell and size."""
    return paths(cell, units, batch, precision)[0]


def forward(
    cell: str, y: Any, column: int, state: Sequence[Any], gates: Any, before: Sequence[Any],
    weight: Any, hidden_bias: Any, rows: Any, steps: Steps, reverse: bool = False,
    keep: bool = True, precision: str = "float32",
) -> None:  # fmt: skip
    """Run every step.

    cell         "lstm", "gru", "rnn" (tanh) or "rnn_relu"
    y            float32[·, F]   out: h of packed row n in y[rows[n], column:column + H]
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
    arrays = y, y.shape[1], column, state[0], state[-1], gates, before[0], before[-1]
    bias = gates if hidden_bias is None else hidden_bias
    relu = cell == "rnn_relu"
    path = path_of(cell, units, steps.batch, precision)
    if path == ONE_MULTIPROCESSOR:
        plan = _plans(cell, units)[0]
        persistent.forward_kernel(CELLS[cell], plan)(
            blocks_for(steps.batch, LANES), *arrays, _packed(plan, weight, transposed=False), bias,
            rows, steps.starts, steps.counts, steps.lasts, reverse, keep, relu, shared=plan.shared,
        )  # fmt: skip
    elif path == GRID:
        over = grid_persistent.plans(cell, units, steps.batch, precision)
        assert over is not None
        grid_persistent.forward(over[0], arrays, weight, bias, rows, steps, reverse, keep)
    else:
        products, h, matrix = _products(cell, units, steps), gemm.view(state[0]), gemm.view(weight)
        for first, count in _in_order(steps, reverse):
            gemm.multiply(
                gemm.top(products, count), gemm.top(h, count), matrix, transpose_b=True,
                precision=precision,
            )  # fmt: skip
            forward_step(CELLS[cell])(
                blocks_for(count * units, THREADS), *arrays, products.array, bias, rows, first,
                count, units, keep, relu,
            )  # fmt: skip


def backward(
    cell: str, gates: Any, dstate: Sequence[Any], dy: Any, column: int, before: Sequence[Any],
    weight: Any, rows: Any, steps: Steps, reverse: bool = False, precision: str = "float32",
) -> None:  # fmt: skip
    """Run every step in reverse.

    gates   float32[N, S H]  in: as written by `forward`; out: the gradients of the gates' inputs,
            of a GRU those of r, z, n and m
    dstate  in: the gradient of the last state, out: of the initial one, as `state` in `forward`
    dy      float32[·, F]    the gradient of y
    The others as for `forward`.
    """
    units = dstate[0].shape[1]
    arrays = gates, dstate[0], dstate[-1], dy, dy.shape[1], column, before[0], before[-1]
    relu = cell == "rnn_relu"
    path = path_of(cell, units, steps.batch, precision)
    if path == ONE_MULTIPROCESSOR:
        plan = _plans(cell, units)[1]
        persistent.backward_kernel(CELLS[cell], plan)(
            blocks_for(steps.batch, LANES), *arrays, _packed(plan, weight, transposed=True), rows,
            steps.starts, steps.counts, steps.lasts, reverse, relu, shared=plan.shared,
        )  # fmt: skip
    elif path == GRID:
        over = grid_persistent.plans(cell, units, steps.batch, precision)
        assert over is not None
        grid_persistent.backward(over[1], arrays, weight, rows, steps, reverse)
    else:
        dz, dh, matrix = _products(cell, units, steps), gemm.view(dstate[0]), gemm.view(weight)
        for first, count in _in_order(steps, not reverse):
            backward_step(CELLS[cell])(
                blocks_for(count * units, THREADS), *arrays, dz.array, rows, first, count, units,
                relu,
            )  # fmt: skip
            gemm.multiply(
                gemm.top(dh, count), gemm.top(dz, count), matrix, add=True, precision=precision
            )


def _plans(cell: str, units: int) -> tuple[Plan, Plan]:
    """The plans of both passes on one multiprocessor."""
    found = persistent.plans(CELLS[cell], units, most_shared())
    assert found is not None
    return found


def _packed(plan: Plan, weight: Any, transposed: bool) -> Any:
    panel = memory.scratch("panel", plan.panel)
    pack_columns.each(
        plan.panel, panel, weight, plan.units, plan.outputs, plan.depth, plan.threads, transposed,
        most=1024,
    )  # fmt: skip
    return panel


def _products(cell: str, units: int, steps: Steps) -> gemm.View:
    """Scratch memory for the products of a step: float32[B, G H]."""
    width = GATES[cell] * units
    return gemm.View(memory.scratch("products", steps.batch * width), steps.batch, width, width)


def _in_order(steps: Steps, backwards: bool) -> list[tuple[int, int]]:
    """The first row and the number of rows of each step."""
    found = list(zip(steps.firsts, steps.sizes, strict=True))
    return found[::-1] if backwards else found


# Kernels of the step-by-step path: H units, `first` the packed row of the step's first sequence,
# `count` its rows; products float32[count · G H] of h' and the weights; states float32[B · H] in
# place; thread r H + u has unit u of sequence r.


@lru_cache(None)
def forward_step(cell: Cell) -> Kernel:
    """The kernel of one forward step of a cell's units."""
    outputs, slots, load = cell.gates, cell.slots, cell.load
    read_c, write_c, read_bias, forward, save = (
        cell.read_c, cell.write_c, cell.read_bias, cell.forward, cell.save
    )  # fmt: skip

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], float32[::1], int32[::1], int64, int64, int64, int64, int64",
        threads=THREADS, registers=72, name=f"{cell.name}_forward",
    )  # fmt: skip
    def step_forward(
        y, y_row, column, h, c, gates, before_h, before_c, products, bias, rows, first, count, H,
        keep, relu,
    ):  # fmt: skip
        at = cuda.grid(1)
        if at < count * H:
            r, u = at // H, at % H
            n = first + r
            old_h, old_c, k = h[at], read_c(c, at), n * (slots * H) + u
            values, new_h, new_c = forward(
                load(gates, k, H), load(products, r * outputs * H + u, H), old_h, old_c,
                read_bias(bias, u), relu,
            )  # fmt: skip
            if keep:
                store_values(gates, k, H, values)
                save(before_h, before_c, n * H + u, old_h, old_c)
            h[at] = new_h
            write_c(c, at, new_c)
            y[rows[n] * y_row + column + u] = new_h

    return step_forward


@lru_cache(None)
def backward_step(cell: Cell) -> Kernel:
    """One step in reverse: `dz` float32[count · G H], gradients of the products' outputs."""
    outputs, slots, load = cell.gates, cell.slots, cell.load_slots
    read_c, write_c, load_saved, backward = (
        cell.read_c,
        cell.write_c,
        cell.load_saved,
        cell.backward,
    )

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], "
        "float32[::1], float32[::1], int32[::1], int64, int64, int64, int64",
        threads=THREADS, registers=72, name=f"{cell.name}_backward",
    )  # fmt: skip
    def step_backward(
        gates, dh, dc, dy, dy_row, column, before_h, before_c, dz, rows, first, count, H, relu
    ):
        at = cuda.grid(1)
        if at < count * H:
            r, u = at // H, at % H
            n = first + r
            k = n * (slots * H) + u
            slot_gradients, d_products, direct, d_cell = backward(
                load(gates, k, H), load_saved(before_h, before_c, n * H + u),
                dh[at] + dy[rows[n] * dy_row + column + u], read_c(dc, at), relu,
            )  # fmt: skip
            store_values(gates, k, H, slot_gradients)
            store_values(dz, r * outputs * H + u, H, d_products)
            write_c(dc, at, d_cell)
            dh[at] = direct

    return step_backward
