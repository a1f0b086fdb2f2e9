"""Recurrences step by step, for layers whose weights do not fit on the chip.

A step is a product of the active states and the recurrent weights, and a kernel for the units
(cells.py): two launches. Slower than the other paths where those fit, but for any size.
"""

from __future__ import annotations

from functools import lru_cache

from fastseq.kernels.cuda.recurrent.cells import CELLS, Cell
from fastseq.kernels.cuda.runtime.target import Kernel, cuda, kernel

THREADS = 128

# What the kernels share: H units, `first` the packed row of the step's first sequence, `count` its
# rows; products float32[count · G H] of h' and the weights; states float32[B · H] in place; thread
# r H + u has unit u of sequence r.


@lru_cache(None)
def forward_kernel(cell: Cell) -> Kernel:
    """One step forward of a cell's units."""
    outputs, slots, load, store = cell.gates, cell.slots, cell.load, cell.store_slots
    read_c, write_c, read_bias, forward, keep_state = (
        cell.read_c, cell.write_c, cell.read_bias, cell.forward, cell.keep
    )  # fmt: skip

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], float32[::1], int32[::1], int64, int64, int64, int64, int64",
        threads=THREADS,
        registers=72,
        name=f"{cell.name}_forward",
    )
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
                store(gates, k, H, values)
                keep_state(before_h, before_c, n * H + u, old_h, old_c)
            h[at] = new_h
            write_c(c, at, new_c)
            y[rows[n] * y_row + column + u] = new_h

    return step_forward


@lru_cache(None)
def backward_kernel(cell: Cell) -> Kernel:
    """One step back: `dz` float32[count · G H], gradients of the products' outputs."""
    outputs, slots, load, store, store_dz = (
        cell.gates, cell.slots, cell.load_slots, cell.store_slots, cell.store
    )  # fmt: skip
    read_c, write_c, kept, backward = cell.read_c, cell.write_c, cell.kept, cell.backward

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, "
        "float32[::1], float32[::1], int32[::1], int64, int64, int64, int64",
        threads=THREADS,
        registers=72,
        name=f"{cell.name}_backward",
    )
    def step_backward(
        gates, dz, dh, dc, dy, dy_row, column, before_h, before_c, rows, first, count, H, relu
    ):
        at = cuda.grid(1)
        if at < count * H:
            r, u = at // H, at % H
            n = first + r
            k = n * (slots * H) + u
            slot_gradients, d_products, direct, d_cell = backward(
                load(gates, k, H), kept(before_h, before_c, n * H + u),
                dh[at] + dy[rows[n] * dy_row + column + u], read_c(dc, at), relu,
            )  # fmt: skip
            store(gates, k, H, slot_gradients)
            store_dz(dz, r * outputs * H + u, H, d_products)
            write_c(dc, at, d_cell)
            dh[at] = direct

    return step_backward


def variants() -> None:
    """Declare every kernel, for tests that compile them."""
    for cell in CELLS.values():
        forward_kernel(cell)
        backward_kernel(cell)
