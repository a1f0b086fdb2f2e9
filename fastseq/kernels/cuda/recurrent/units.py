"""What one thread does for one unit of one sequence at one step, of each cell.

Shared by the paths on which products and units are apart: steps.py and spread.py. Gates lie as
lstm.py, gru.py and rnn.py of this room have them; n is the packed row, `at` the unit's place in a
state float32[B · H], u its number.

    values = read(h, c, gates, bias, at, n, u, H)          # before the products are there
    new_h = advance(values, products, h, c, gates, before_h, before_c, at, n, u, H, keep, relu)

    values = read_back(gates, before_h, before_c, n, u, H)
    dz, direct = retreat(values, d, dc, gates, at, n, u, H, relu)

products  of h' and the weights, one a gate; dz as many: what the gates' inputs get
d         the gradient of h; `direct` is what h' gets beside the products of dz
A cell without c, or without a bias, is given any array for it and leaves it alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastseq.kernels.cuda.recurrent import gru, lstm, rnn
from fastseq.kernels.cuda.runtime.target import formula

ZERO = np.float32(0)


class Units(NamedTuple):
    """The functions of a cell, and `nothing`: zeros of what `read` gives."""

    nothing: Any
    read: Any
    advance: Any
    read_back: Any
    retreat: Any


@formula
def _lstm_read(h, c, gates, bias, at, n, u, H):
    k = n * (4 * H) + u
    return gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H], h[at], c[at]


@formula
def _lstm_advance(values, p, h, c, gates, before_h, before_c, at, n, u, H, keep, relu):
    i, f, g, o, new_c, new_h = lstm.step_forward(
        values[0] + p[0], values[1] + p[1], values[2] + p[2], values[3] + p[3], values[5]
    )
    if keep:
        k = n * (4 * H) + u
        gates[k] = i
        gates[k + H] = f
        gates[k + 2 * H] = g
        gates[k + 3 * H] = o
        before_h[n * H + u] = values[4]
        before_c[n * H + u] = values[5]
    h[at] = new_h
    c[at] = new_c
    return new_h


@formula
def _lstm_read_back(gates, before_h, before_c, n, u, H):
    k = n * (4 * H) + u
    return gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H], before_c[n * H + u]


@formula
def _lstm_retreat(values, d, dc, gates, at, n, u, H, relu):
    i, f, g, o, d_cell = lstm.step_backward(
        values[0], values[1], values[2], values[3], values[4], d, dc[at]
    )
    dc[at] = d_cell
    k = n * (4 * H) + u
    gates[k] = i
    gates[k + H] = f
    gates[k + 2 * H] = g
    gates[k + 3 * H] = o
    return (i, f, g, o), ZERO


@formula
def _gru_read(h, c, gates, bias, at, n, u, H):
    k = n * (4 * H) + u
    return gates[k], gates[k + H], gates[k + 2 * H], h[at], bias[u]


@formula
def _gru_advance(values, p, h, c, gates, before_h, before_c, at, n, u, H, keep, relu):
    m = values[4] + p[2]
    new, reset, update, new_h = gru.step_forward(
        values[2], values[0] + p[0], values[1] + p[1], m, values[3]
    )
    if keep:
        k = n * (4 * H) + u
        gates[k] = reset
        gates[k + H] = update
        gates[k + 2 * H] = new
        gates[k + 3 * H] = m
        before_h[n * H + u] = values[3]
    h[at] = new_h
    return new_h


@formula
def _gru_read_back(gates, before_h, before_c, n, u, H):
    k = n * (4 * H) + u
    return gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H], before_h[n * H + u]


@formula
def _gru_retreat(values, d, dc, gates, at, n, u, H, relu):
    d_n, d_r, d_z, d_m, direct = gru.step_backward(
        values[2], values[0], values[1], values[3], values[4], d
    )
    k = n * (4 * H) + u
    gates[k] = d_r
    gates[k + H] = d_z
    gates[k + 2 * H] = d_n
    gates[k + 3 * H] = d_m
    return (d_r, d_z, d_m), direct


@formula
def _rnn_read(h, c, gates, bias, at, n, u, H):
    return gates[n * H + u], h[at]


@formula
def _rnn_advance(values, p, h, c, gates, before_h, before_c, at, n, u, H, keep, relu):
    new = rnn.activate(values[0] + p[0], relu)
    if keep:
        gates[n * H + u] = new
        before_h[n * H + u] = values[1]
    h[at] = new
    return new


@formula
def _rnn_read_back(gates, before_h, before_c, n, u, H):
    return gates[n * H + u], ZERO


@formula
def _rnn_retreat(values, d, dc, gates, at, n, u, H, relu):
    z = d * rnn.slope(values[0], relu)
    gates[n * H + u] = z
    return (z,), ZERO


_RNN = Units((ZERO,) * 2, _rnn_read, _rnn_advance, _rnn_read_back, _rnn_retreat)
UNITS = {
    "lstm": Units((ZERO,) * 6, _lstm_read, _lstm_advance, _lstm_read_back, _lstm_retreat),
    "gru": Units((ZERO,) * 5, _gru_read, _gru_advance, _gru_read_back, _gru_retreat),
    "rnn": _RNN,
    "rnn_relu": _RNN,
}
