"""Gated recurrent unit: one direction of one layer over a ragged batch, forward and backward.

    r, z = σ(z_r), σ(z_z)    n = tanh(x_n + r (U_n h' + b))    h = n + z (h' - n)

Source: Cho et al. 2014 in the form of PyTorch and cuDNN, where the reset gate scales the product
and not h' itself; gate order r, z, n there. Here a record is x_n, r, z, m = U_n h' + b, so that
what comes from the input (x_n, r, z) and what comes from h' (r, z, m) are each three neighbouring
vectors. Rows are packed as kernels/nn/lstm.py says.
"""

from __future__ import annotations

from fastseq.kernels.core import formulas
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.inputs import BEFORE, IN_LOOP, PICKED, next_chunk, pick_steps, project_steps
from fastseq.kernels.simd.floats import fma, load, load_part, store, store_part
from fastseq.kernels.simd.gemm import WIDTH, copy_block, panel_vectors
from fastseq.kernels.simd.tiles import address, tiles
from fastseq.kernels.simd.vmath import sigmoid, tanh

RECORD = 4 * LANES
PANEL = 3 * LANES  # columns of a panel of weights

step_forward, step_backward = formulas.gru(inline, fma, sigmoid, tanh)


@jit
def gru_forward(
    y, column, h, gates, before_h, x, input_panels, hidden_panels, bias, rows, starts,
    counts, reverse, units, keep, source, table, picks, chunk,
):  # fmt: skip
    """Run every step of a batch.

    y              float32[·, ·]      out: h of each row at y[rows[n], column:column + H]
    h              float32[B, W]      in: the initial state; out: the last one
    gates          float32[N, row]    out: n, r, z, m of each row, in records
    before_h       float32[N, W]      out: h' of each row
    x              float32[N, K]
    input_panels   float32[P * K * 3 * LANES]   `pack_forward` of weight_ih, gates n, r, z
    hidden_panels  float32[P * H * 3 * LANES]   of weight_hh, gates r, z, n
    bias           float32[4 W]       in records: b_in; b_ir + b_hr; b_iz + b_hz; b_hn
    starts, counts int64[T]          first packed row and rows of each step
    keep, chunk    as for `lstm_forward`
    """
    T = len(starts)
    K = x.shape[1]
    W = h.shape[1]
    row = gates.shape[1]
    P = W // LANES
    y_row = y.shape[1]
    out, gate, hidden = y.reshape(y.size), gates.reshape(gates.size), h.reshape(h.size)
    old_h = before_h.reshape(before_h.size)
    whole = keep or source == BEFORE
    done = 0
    while done < T:
        first, last = next_chunk(counts, done, reverse, chunk)
        if source == PICKED:
            pick_steps(gates, table, picks, starts, counts, first, last, whole)
        elif source == IN_LOOP:
            for p in range(P):
                project_steps(
                    3, gates, p * RECORD, row, x, input_panels, p * K * PANEL, bias, starts, counts,
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
            held = starts[t] if keep else 0  # of what is kept
            copy_block(old_h, held * W, W, hidden, 0, W, count, W, 0)
            for p in range(P):
                m = load(bias, p * RECORD + 3 * LANES)
                for s in range(count):
                    store(gate, (at + s) * row + p * RECORD + 3 * LANES, m)
                c = address(gates, at * row + p * RECORD + LANES)
                tiles(3,
                    c, row, c, row, address(before_h, held * W), W, 1,
                    address(hidden_panels, p * units * PANEL), PANEL, units, 1, 0, 0, count,
                )  # fmt: skip
                there = units - p * LANES
                for s in range(count):
                    k = (at + s) * row + p * RECORD
                    u = s * W + p * LANES
                    n, r, z, new_h = step_forward(
                        load(gate, k),
                        load(gate, k + LANES),
                        load(gate, k + 2 * LANES),
                        load(gate, k + 3 * LANES),
                        load(hidden, u),
                    )
                    if keep:
                        store(gate, k, n)
                        store(gate, k + LANES, r)
                        store(gate, k + 2 * LANES, z)
                    store(hidden, u, new_h)
                    to = rows[starts[t] + s] * y_row + column + p * LANES
                    if there >= LANES:
                        store(out, to, new_h)
                    else:
                        store_part(out, to, new_h, there)
            if not reverse:
                local += count
        done += last - first


@jit
def gru_backward(gates, dh, dy, column, before_h, panels, rows, starts, counts, reverse, units):
    """Run every step back: gradients of x_n, r, z and m before their functions, in place.

    gates     float32[N, row]  in: n, r, z, m as `gru_forward` left them; out: their gradients
    dh        float32[B, W]    in: the gradient of the last state; out: of the initial one
    dy        float32[·, ·]    gradient of y; row n's at dy[rows[n], column:column + H]
    before_h  float32[N, W]    as `gru_forward` left it
    panels    float32[3 W * W] `pack_backward` of weight_hh, gates r, z, n
    """
    T = len(starts)
    W = dh.shape[1]
    row = gates.shape[1]
    P = W // LANES
    dy_row = dy.shape[1]
    above, gate, dhidden = dy.reshape(dy.size), gates.reshape(gates.size), dh.reshape(dh.size)
    old_h = before_h.reshape(before_h.size)
    for step in range(T):
        t = step if reverse else T - 1 - step
        at, count = starts[t], counts[t]
        for p in range(P):
            there = units - p * LANES
            for s in range(count):
                k = (at + s) * row + p * RECORD
                u = s * W + p * LANES
                source = rows[at + s] * dy_row + column + p * LANES
                if there >= LANES:
                    d = load(dhidden, u) + load(above, source)
                else:
                    d = load(dhidden, u) + load_part(above, source, there)
                n = load(gate, k)
                r = load(gate, k + LANES)
                z = load(gate, k + 2 * LANES)
                m = load(gate, k + 3 * LANES)
                h = load(old_h, (at + s) * W + p * LANES)
                dn, dr, dz, dm, before = step_backward(n, r, z, m, h, d)
                store(gate, k, dn)
                store(gate, k + LANES, dr)
                store(gate, k + 2 * LANES, dz)
                store(gate, k + 3 * LANES, dm)
                store(dhidden, u, before)
        for first in range(0, W, WIDTH):
            vectors = panel_vectors(first, W)
            c = address(dh, first)
            tiles(
                vectors, c, W, c, W, address(gates, at * row + LANES), row, 1,
                address(panels, first * 3 * W), vectors * LANES, PANEL, P, LANES, 0, count,
            )  # fmt: skip
