"""Recurrent cells: one direction of one layer over a ragged batch, forward and backward.

LSTM (Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000):

    i, f, o = σ(z_i), σ(z_f), σ(z_o)    g = tanh(z_g)    z = W x + b + U h'
    c = f c' + i g                      h = o tanh(c)

GRU (Cho et al. 2014 in the form of PyTorch and cuDNN: the reset gate scales the product, not h'):

    r, z = σ(z_r), σ(z_z)    n = tanh(x_n + r m)    m = U_n h' + b    h = n + z (h' - n)

RNN (Elman 1990), f = tanh or max(0, ·):

    h = f(W x + b + U h')

h' and c' are the state of the step before. The gates of a unit are its *slots* in a row of gates
(kernels/nn/gates.py): i, f, g, o of an LSTM; x_n, r, z, m of a GRU, so that the three products
of the input (x_n, r, z) and those of h' (r, z, m) are neighbours; h itself of an RNN.

Rows are packed: step t is counts[t] rows from starts[t] on, one for each sequence that has a step
t, longest first, so that sequence r is row starts[t] + r. `rows[n]` is the caller's row of packed
row n. H is the number of units, W is H rounded up to whole vectors.

The input's products are computed in one of three ways. IN_LOOP: for a few steps at a time, while
they are in the cache; BEFORE: for all steps at once, shared by many threads; PICKED: inputs are
rows of a table, whose products are computed once and copied to each step that reads the row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastseq.kernels.core import formulas
from fastseq.kernels.core.arrays import Int64
from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import load_row, store_row
from fastseq.kernels.simd.floats import fma, load, maximum, select, store
from fastseq.kernels.simd.gemm import VECTORS, WIDTH, copy_block, panel_vectors
from fastseq.kernels.simd.tiles import address, tiles
from fastseq.kernels.simd.vmath import sigmoid, tanh

IN_LOOP, BEFORE, PICKED = 0, 1, 2


class Cell(NamedTuple):
    """A recurrence: how its gates are stored, and its kernels.

    gates        blocks of H rows in a weight
    slots        vectors of a record of gates
    states       arrays of a state: h, or h and c
    input_gates  which block of weight_ih each slot from 0 on belongs to
    hidden_gates which block of weight_hh each slot from `hidden_slot` on belongs to
    span         vectors of units in a panel of weights
    forward, backward  kernels, see `_cell`; a cell without c takes h and before_h in its place
    """

    gates: int
    slots: int
    states: int
    input_gates: Int64
    hidden_gates: Int64
    hidden_slot: int
    span: int
    forward: Any
    backward: Any


# ---- products of the input -----------------------------------------------------------------


@inline
def next_chunk(counts, done, reverse, rows):
    """The steps [first, last) that follow `done` steps: as many as have `rows` rows, or one."""
    T = len(counts)
    if reverse:
        last = T - done
        first = last - 1
        total = counts[first]
        while first > 0 and total + counts[first - 1] <= rows:
            first -= 1
            total += counts[first]
    else:
        first = done
        last = first + 1
        total = counts[first]
        while last < T and total + counts[last] <= rows:
            total += counts[last]
            last += 1
    return first, last


@helper
def project_steps(
    per_unit, slots, span, gates, x, panels, bias, starts, counts, first, last, whole
):
    """Gates of steps [first, last): x W + bias, of `per_unit` gates a unit.

    whole  gates have a row for each packed row; else the rows of these steps only
    """
    K = x.shape[1]
    row = gates.shape[1]
    W = len(bias) // slots
    for unit in range(0, W, span * LANES):
        vectors = per_unit * min(span, (W - unit) // LANES)
        column = unit * slots
        t = first
        local = 0
        while t < last:
            begin, many = starts[t], counts[t]
            t += 1
            while t < last and starts[t] == begin + many:
                many += counts[t]
                t += 1
            at = begin if whole else local
            tiles(
                vectors, address(gates, at * row + column), row, address(bias, column), 0,
                address(x, begin * K), K, 1, address(panels, unit * per_unit * K),
                vectors * LANES, K, 1, 0, 0, many,
            )  # fmt: skip
            local += many


@jit
def project(per_unit, slots, span, gates, x, panels, bias, starts, counts):
    """`project_steps` for all steps, before the time loop."""
    project_steps(
        per_unit, slots, span, gates, x, panels, bias, starts, counts, 0, len(starts), True
    )


@helper
def pick_steps(gates, table, picks, starts, counts, first, last, whole):
    """Gates of steps [first, last): row picks[n] of `table` for packed row n."""
    row = gates.shape[1]
    to, flat = gates.reshape(gates.size), table.reshape(table.size)
    local = 0
    for t in range(first, last):
        for r in range(counts[t]):
            n = starts[t] + r
            at = n if whole else local + r
            copy_block(to, at * row, row, flat, picks[n] * row, row, 1, row, 0)
        local += counts[t]


# ---- the time loops ------------------------------------------------------------------------


def _cell(
    name, states, input_gates, hidden_gates, hidden_slot, span, start, step_forward, step_backward,
    adds=False,
):  # fmt: skip
    """A cell with its kernels, made of inline functions:

    start(gate, z, row, bias, b, count)  before the recurrent product of a panel, at gates z of
        the first row
    step_forward(gate, k, c, h, u, keep)  new h of the LANES units whose gates are at k and whose
        state is at u; stores c, and with `keep` the gates
    step_backward(gate, k, before, n, dh, dc, u, d)  replaces the gates at k by their gradients,
        for the gradient d of h; `before` at n is c' of an LSTM, else h'
    adds: step_backward stores the part of dh that does not come through the weights
    """
    per_unit = len(hidden_gates)
    slots = hidden_slot + per_unit

    def forward(
        y, column, h, c, gates, before_h, before_c, x, input_panels, hidden_panels, bias, rows,
        starts, counts, reverse, units, keep, source, table, picks, chunk,
    ):  # fmt: skip
        """Run every step of a batch.

        y              float32[·, ·]   out: h of each row at y[rows[n], column:column + H]
        h, c           float32[B, W]   in: the initial state; out: the last one
        gates          float32[N, row] out: the gates of each row, in records
        before_h       float32[N, W]   out: h' of each row; before_c the same of c', of an LSTM
        x              float32[N, K]
        input_panels   `pack_forward` of weight_ih; hidden_panels of weight_hh
        bias           float32[slots W]  in records
        starts, counts int64[T]        first packed row and rows of each step
        keep           False: nothing is kept for the backward pass, before_h and before_c have
                       the rows of a step only, and gates, unless `source` is BEFORE, `chunk` rows
        source         IN_LOOP, BEFORE (gates hold the input's products) or PICKED (those of packed
                       row n are row picks[n] of `table`)
        table          float32[U, row] the products of U inputs, where `source` is PICKED
        picks          int64[N]
        chunk          rows whose input products are computed at a time, at least those of a step
        """
        T = len(starts)
        W = h.shape[1]
        row = gates.shape[1]
        y_row = y.shape[1]
        out, gate = y.reshape(y.size), gates.reshape(gates.size)
        hidden, cells = h.reshape(h.size), c.reshape(c.size)
        old_h, old_c = before_h.reshape(before_h.size), before_c.reshape(before_c.size)
        whole = keep or source == BEFORE
        done = 0
        while done < T:
            first, last = next_chunk(counts, done, reverse, chunk)
            if source == PICKED:
                pick_steps(gates, table, picks, starts, counts, first, last, whole)
            elif source == IN_LOOP:
                project_steps(
                    per_unit, slots, span, gates, x, input_panels, bias, starts, counts,
                    first, last, whole,
                )  # fmt: skip
            local = 0
            if reverse:
                for t in range(first, last):
                    local += counts[t]
            for step in range(last - first):
                t = last - 1 - step if reverse else first + step
                count = counts[t]
                if reverse:
                    local -= count
                at = starts[t] if whole else local  # of gates
                kept = starts[t] if keep else 0  # of what is kept
                if keep or span == 1:
                    copy_block(old_h, kept * W, W, hidden, 0, W, count, W, 0)
                if states == 2 and keep:
                    copy_block(old_c, kept * W, W, cells, 0, W, count, W, 0)
                # gates are activated right after their products, panel by panel, from a copy of
                # h'; with one gate a unit, after the products of all panels, so that h is still h'
                before = address(before_h, kept * W) if span == 1 else address(h, 0)
                for block in range(W // LANES if span == 1 else 1):
                    unit = block * LANES
                    end = unit + LANES if span == 1 else W
                    for panel in range(unit, end, span * LANES):
                        z = at * row + panel * slots
                        start(gate, z, row, bias, panel * slots, count)
                        vectors = per_unit * min(span, (W - panel) // LANES)
                        products = address(gates, z + hidden_slot * LANES)
                        tiles(
                            vectors, products, row, products, row, before, W, 1,
                            address(hidden_panels, panel * per_unit * units), vectors * LANES,
                            units, 1, 0, 0, count,
                        )  # fmt: skip
                    for r in range(count):
                        for first_unit in range(unit, end, LANES):
                            k = (at + r) * row + first_unit * slots
                            u = r * W + first_unit
                            new_h = step_forward(gate, k, cells, hidden, u, keep)
                            store(hidden, u, new_h)
                            to = rows[starts[t] + r] * y_row + column + first_unit
                            store_row(out, to, new_h, units - first_unit)
                if not reverse:
                    local += count
            done += last - first

    def backward(
        gates, dh, dc, dy, column, before, panels, zeros, rows, starts, counts, reverse, units
    ):
        """Run every step back: gradients of the gates' inputs, in place of the gates.

        gates   float32[N, row]  in: as `forward` left them; out: their gradients
        dh, dc  float32[B, W]    in: the gradient of the last state; out: of the initial one
        dy      float32[·, ·]    gradient of y; row n's at dy[rows[n], column:column + H]
        before  float32[N, W]    before_c of an LSTM, before_h of the others, from `forward`
        panels  `pack_backward` of weight_hh
        zeros   float32[WIDTH]
        """
        T = len(starts)
        W = dh.shape[1]
        row = gates.shape[1]
        dy_row = dy.shape[1]
        above, gate = dy.reshape(dy.size), gates.reshape(gates.size)
        dhidden, dcells = dh.reshape(dh.size), dc.reshape(dc.size)
        old = before.reshape(before.size)
        if slots == per_unit:  # the slots of all units are one stream
            inner, outer, jump = per_unit * W, 1, 0
        else:
            inner, outer = per_unit * LANES, W // LANES
            jump = (slots - per_unit) * LANES
        for step in range(T):
            t = step if reverse else T - 1 - step
            at, count = starts[t], counts[t]
            # several gates are read fastest unit by unit, a single one row by row
            for block in range(W // LANES if span == 1 else 1):
                first_unit = block * LANES
                end = first_unit + LANES if span == 1 else W
                for r in range(count):
                    of_y = rows[at + r] * dy_row + column
                    for unit in range(first_unit, end, LANES):
                        u = r * W + unit
                        d = load(dhidden, u) + load_row(above, of_y + unit, units - unit)
                        k = (at + r) * row + unit * slots
                        step_backward(gate, k, old, (at + r) * W + unit, dhidden, dcells, u, d)
            for first in range(0, W, WIDTH):
                vectors = panel_vectors(first, W)
                to = address(dh, first)
                init, init_row = (to, W) if adds else (address(zeros, 0), 0)
                tiles(
                    vectors, to, W, init, init_row, address(gates, at * row + hidden_slot * LANES),
                    row, 1, address(panels, first * per_unit * W), vectors * LANES, inner,
                    outer, jump, 0, count,
                )  # fmt: skip

    return Cell(
        per_unit, slots, states, input_gates, hidden_gates, hidden_slot, span,
        jit(forward, f"{name}_forward"), jit(backward, f"{name}_backward"),
    )  # fmt: skip


@inline
def _no_start(gate, z, row, bias, b, count):
    pass


# ---- LSTM

lstm_step, lstm_step_back = formulas.lstm(inline, fma, sigmoid, tanh)


@inline
def _lstm_forward(gate, k, c, h, u, keep):
    i, f, g, o, new_c, new_h = lstm_step(
        load(gate, k),
        load(gate, k + LANES),
        load(gate, k + 2 * LANES),
        load(gate, k + 3 * LANES),
        load(c, u),
    )
    if keep:
        store(gate, k, i)
        store(gate, k + LANES, f)
        store(gate, k + 2 * LANES, g)
        store(gate, k + 3 * LANES, o)
    store(c, u, new_c)
    return new_h


@inline
def _lstm_backward(gate, k, before, n, dh, dc, u, d):
    i = load(gate, k)
    f = load(gate, k + LANES)
    g = load(gate, k + 2 * LANES)
    o = load(gate, k + 3 * LANES)
    di, df, dg, do, dcell = lstm_step_back(i, f, g, o, load(before, n), d, load(dc, u))
    store(dc, u, dcell)
    store(gate, k, di)
    store(gate, k + LANES, df)
    store(gate, k + 2 * LANES, dg)
    store(gate, k + 3 * LANES, do)


# ---- GRU

gru_step, gru_step_back = formulas.gru(inline, fma, sigmoid, tanh)


@inline
def _gru_start(gate, z, row, bias, b, count):
    """m starts as its bias."""
    m = load(bias, b + 3 * LANES)
    for r in range(count):
        store(gate, z + r * row + 3 * LANES, m)


@inline
def _gru_forward(gate, k, c, h, u, keep):
    n, r, z, new_h = gru_step(
        load(gate, k),
        load(gate, k + LANES),
        load(gate, k + 2 * LANES),
        load(gate, k + 3 * LANES),
        load(h, u),
    )
    if keep:
        store(gate, k, n)
        store(gate, k + LANES, r)
        store(gate, k + 2 * LANES, z)
    return new_h


@inline
def _gru_backward(gate, k, before, at, dh, dc, u, d):
    n = load(gate, k)
    r = load(gate, k + LANES)
    z = load(gate, k + 2 * LANES)
    m = load(gate, k + 3 * LANES)
    dn, dr, dz, dm, direct = gru_step_back(n, r, z, m, load(before, at), d)
    store(gate, k, dn)
    store(gate, k + LANES, dr)
    store(gate, k + 2 * LANES, dz)
    store(gate, k + 3 * LANES, dm)
    store(dh, u, direct)


# ---- RNN


@inline
def _tanh_forward(gate, k, c, h, u, keep):
    new_h = tanh(load(gate, k))
    if keep:
        store(gate, k, new_h)
    return new_h


@inline
def _tanh_backward(gate, k, before, n, dh, dc, u, d):
    h = load(gate, k)
    store(gate, k, d * (1.0 - h * h))


@inline
def _relu_forward(gate, k, c, h, u, keep):
    new_h = maximum(0.0, load(gate, k))
    if keep:
        store(gate, k, new_h)
    return new_h


@inline
def _relu_backward(gate, k, before, n, dh, dc, u, d):
    store(gate, k, select(load(gate, k) > 0.0, d, 0.0))


_four, _one = np.arange(4), np.zeros(1, np.int64)
_input, _hidden = np.array([2, 0, 1]), np.arange(3)  # of a GRU: PyTorch's order is r, z, n

CELLS: dict[str, Cell] = {
    "lstm": _cell("lstm", 2, _four, _four, 0, 1, _no_start, _lstm_forward, _lstm_backward),
    "gru": _cell(
        "gru", 1, _input, _hidden, 1, 1, _gru_start, _gru_forward, _gru_backward, adds=True
    ),
    "rnn": _cell("rnn", 1, _one, _one, 0, VECTORS, _no_start, _tanh_forward, _tanh_backward),
    "rnn_relu": _cell(
        "rnn_relu", 1, _one, _one, 0, VECTORS, _no_start, _relu_forward, _relu_backward
    ),
}
