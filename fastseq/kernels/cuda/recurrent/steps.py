"""Recurrences step by step, for layers whose weights do not fit on the chip.

A step is a product of the states at work with the recurrent weights, and a kernel for the units:
two launches. Slower than the other ways wherever they can be had, but bound to no size. Rows are
packed as kernels/nn/lstm.py says; what a thread does is in units.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastseq.kernels.cuda.recurrent.units import UNITS, Units
from fastseq.kernels.cuda.runtime.target import Kernel, cuda, formula, kernel

THREADS = 128
GATES = {"lstm": 4, "gru": 3, "rnn": 1, "rnn_relu": 1}  # of a weight

# What the kernels share: H units, `first` the packed row of the step's first sequence, `count` its
# rows; products float32[count · G H] of h' and the weights; states float32[B · H] in place; thread
# r H + u has unit u of sequence r.


@lru_cache(None)
def forward_kernel(cell: str) -> Kernel:
    """One step forward of a cell's units."""
    of: Units = UNITS[cell]
    read, advance, of_unit = of.read, of.advance, _of_unit(GATES[cell])
    gates_of = GATES[cell]

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], float32[::1], int32[::1], int64, int64, int64, int64, int64",
        threads=THREADS,
        registers=72,
        name=f"{cell}_forward",
    )
    def step_forward(
        y, y_row, column, h, c, gates, before_h, before_c, products, bias, rows, first, count, H,
        keep, relu,
    ):  # fmt: skip
        at = cuda.grid(1)
        if at < count * H:
            r, u = at // H, at % H
            n = first + r
            values = read(h, c, gates, bias, at, n, u, H)
            y[rows[n] * y_row + column + u] = advance(
                values, of_unit(products, r * gates_of * H + u, H), h, c, gates, before_h,
                before_c, at, n, u, H, keep, relu,
            )  # fmt: skip

    return step_forward


@lru_cache(None)
def backward_kernel(cell: str) -> Kernel:
    """One step back: `dz` float32[count · G H] is what the gates get too, for the product."""
    of: Units = UNITS[cell]
    read_back, retreat, gates_of = of.read_back, of.retreat, GATES[cell]

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, "
        "float32[::1], float32[::1], int32[::1], int64, int64, int64, int64",
        threads=THREADS,
        registers=72,
        name=f"{cell}_backward",
    )
    def step_backward(
        gates, dz, dh, dc, dy, dy_row, column, before_h, before_c, rows, first, count, H, relu
    ):
        at = cuda.grid(1)
        if at < count * H:
            r, u = at // H, at % H
            n = first + r
            values = read_back(gates, before_h, before_c, n, u, H)
            d = dh[at] + dy[rows[n] * dy_row + column + u]
            slopes, direct = retreat(values, d, dc, gates, at, n, u, H, relu)
            for g in range(gates_of):
                dz[(r * gates_of + g) * H + u] = slopes[g]
            dh[at] = direct

    return step_backward


def _of_unit(gates: int) -> Any:
    """of_unit(products, k, H): a unit's product of each gate."""
    if gates == 1:

        @formula
        def of_unit(products, k, H):
            return (products[k],)

    elif gates == 3:

        @formula
        def of_unit(products, k, H):
            return products[k], products[k + H], products[k + 2 * H]

    else:

        @formula
        def of_unit(products, k, H):
            return products[k], products[k + H], products[k + 2 * H], products[k + 3 * H]

    return of_unit


def variants() -> None:
    """Declare every kernel, for tests that compile them."""
    for cell in UNITS:
        forward_kernel(cell)
        backward_kernel(cell)
