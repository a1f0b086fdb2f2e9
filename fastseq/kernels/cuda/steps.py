"""Recurrences step by step, for layers whose weights do not fit on one multiprocessor.

A step is a product of the states at work with the recurrent weights, and a kernel for the units:
two launches. Slower than persistent.py wherever that can be had, but bound to no size. Rows are
packed as kernels/lstm.py says; gates lie as lstm.py, gru.py and rnn.py of this room have them.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.cuda.gru import step_backward as gru_back
from fastseq.kernels.cuda.gru import step_forward as gru_step
from fastseq.kernels.cuda.lstm import step_backward as lstm_back
from fastseq.kernels.cuda.lstm import step_forward as lstm_step
from fastseq.kernels.cuda.rnn import activate, slope
from fastseq.kernels.cuda.target import cuda, kernel

ZERO = np.float32(0)
THREADS = 128

# What the kernels share: H units, `first` the packed row of the step's first sequence, `count` its
# rows; products float32[count · G H] of h' and the weights; states float32[B · H] in place; thread
# r H + u has unit u of sequence r.


@kernel(
    "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
    "float32[::1], float32[::1], int32[::1], int64, int64, int64, int64",
    threads=THREADS,
    registers=64,
)
def lstm_units(
    y, y_row, column, h, c, gates, before_h, before_c, products, rows, first, count, H, keep
):
    """One step forward of an LSTM's units."""
    at = cuda.grid(1)
    if at < count * H:
        r, u = at // H, at % H
        n = first + r
        k = n * (4 * H) + u
        p = r * (4 * H) + u
        old_h, old_c = h[at], c[at]
        i, f, g, o, new_c, new_h = lstm_step(
            gates[k] + products[p],
            gates[k + H] + products[p + H],
            gates[k + 2 * H] + products[p + 2 * H],
            gates[k + 3 * H] + products[p + 3 * H],
            old_c,
        )
        if keep:
            gates[k] = i
            gates[k + H] = f
            gates[k + 2 * H] = g
            gates[k + 3 * H] = o
            before_h[n * H + u] = old_h
            before_c[n * H + u] = old_c
        h[at] = new_h
        c[at] = new_c
        y[rows[n] * y_row + column + u] = new_h


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, "
    "float32[::1], int32[::1], int64, int64, int64",
    threads=THREADS,
    registers=64,
)
def lstm_units_back(gates, dz, dh, dc, dy, dy_row, column, before_c, rows, first, count, H):
    """One step back: `dz` float32[count · 4 H] are the gates' gradients too, for the product."""
    at = cuda.grid(1)
    if at < count * H:
        r, u = at // H, at % H
        n = first + r
        k = n * (4 * H) + u
        p = r * (4 * H) + u
        d = dh[at] + dy[rows[n] * dy_row + column + u]
        z_i, z_f, z_g, z_o, d_cell = lstm_back(
            gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H], before_c[n * H + u], d,
            dc[at],
        )  # fmt: skip
        dc[at] = d_cell
        gates[k] = z_i
        gates[k + H] = z_f
        gates[k + 2 * H] = z_g
        gates[k + 3 * H] = z_o
        dz[p] = z_i
        dz[p + H] = z_f
        dz[p + 2 * H] = z_g
        dz[p + 3 * H] = z_o
        dh[at] = ZERO


@kernel(
    "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
    "float32[::1], int32[::1], int64, int64, int64, int64",
    threads=THREADS,
    registers=64,
)
def gru_units(y, y_row, column, h, gates, before_h, products, bias, rows, first, count, H, keep):
    """One step forward of a GRU's units; bias float32[H] is b_hn."""
    at = cuda.grid(1)
    if at < count * H:
        r, u = at // H, at % H
        n = first + r
        k = n * (4 * H) + u
        p = r * (3 * H) + u
        old = h[at]
        m = bias[u] + products[p + 2 * H]
        new, reset, update, new_h = gru_step(
            gates[k + 2 * H], gates[k] + products[p], gates[k + H] + products[p + H], m, old
        )
        if keep:
            gates[k] = reset
            gates[k + H] = update
            gates[k + 2 * H] = new
            gates[k + 3 * H] = m
            before_h[n * H + u] = old
        h[at] = new_h
        y[rows[n] * y_row + column + u] = new_h


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], "
    "int32[::1], int64, int64, int64",
    threads=THREADS,
    registers=64,
)
def gru_units_back(gates, dz, dh, dy, dy_row, column, before_h, rows, first, count, H):
    """One step back: `dz` float32[count · 3 H] are those of r, z and m, for the product."""
    at = cuda.grid(1)
    if at < count * H:
        r, u = at // H, at % H
        n = first + r
        k = n * (4 * H) + u
        p = r * (3 * H) + u
        d = dh[at] + dy[rows[n] * dy_row + column + u]
        d_n, d_r, d_z, d_m, direct = gru_back(
            gates[k + 2 * H], gates[k], gates[k + H], gates[k + 3 * H], before_h[n * H + u], d
        )
        gates[k] = d_r
        gates[k + H] = d_z
        gates[k + 2 * H] = d_n
        gates[k + 3 * H] = d_m
        dz[p] = d_r
        dz[p + H] = d_z
        dz[p + 2 * H] = d_m
        dh[at] = direct


@kernel(
    "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
    "int32[::1], int64, int64, int64, int64, int64",
    threads=THREADS,
    registers=48,
)
def rnn_units(y, y_row, column, h, gates, before_h, products, rows, first, count, H, keep, relu):
    """One step forward of a plain network's units."""
    at = cuda.grid(1)
    if at < count * H:
        r, u = at // H, at % H
        n = first + r
        new = activate(gates[n * H + u] + products[at], relu)
        if keep:
            gates[n * H + u] = new
            before_h[n * H + u] = h[at]
        h[at] = new
        y[rows[n] * y_row + column + u] = new


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, int32[::1], int64, "
    "int64, int64, int64",
    threads=THREADS,
    registers=48,
)
def rnn_units_back(gates, dz, dh, dy, dy_row, column, rows, first, count, H, relu):
    """One step back: `dz` float32[count · H] is the gradient of the unit's input too."""
    at = cuda.grid(1)
    if at < count * H:
        r, u = at // H, at % H
        n = first + r
        d = dh[at] + dy[rows[n] * dy_row + column + u]
        z = d * slope(gates[n * H + u], relu)
        gates[n * H + u] = z
        dz[at] = z
        dh[at] = ZERO
