"""Long short-term memory: one direction of one layer over a ragged batch, forward and backward.

    i, f, o = σ(z_i), σ(z_f), σ(z_o)    g = tanh(z_g)    z = W x + b + U h'
    c = f c' + i g                       h = o tanh(c)

h' and c' are those of the step before. Source: Hochreiter & Schmidhuber 1997 with the forget gate
of Gers et al. 2000; gate order i, f, g, o as PyTorch and cuDNN have it.

Rows are packed: step t is counts[t] rows from starts[t] on, the sequences that are still running,
longest first, so that sequence r is row starts[t] + r. `rows[n]` is the caller's row for packed
row n. H is the number of units, W the same in whole vectors, P = W / LANES.
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

step_forward, step_backward = formulas.lstm(inline, fma, sigmoid, tanh)


@jit
def lstm_forward(
    y, column, h, c, gates, before_h, before_c, x, input_panels, hidden_panels, bias, rows, starts,
    counts, reverse, units, keep, source, table, picks, chunk,
):  # fmt: skip
    """Run every step of a batch.

    y              float32[·, ·]      out: h of each row at y[rows[n], column:column + H]
    h, c           float32[B, W]      in: the initial state; out: the last one
    gates          float32[N, row]    out: i, f, g, o of each row, in records
    before_h       float32[N, W]      out: h' of each row
    before_c       float32[N, W]      out: c' of each row
    x              float32[N, K]
    input_panels   float32[P * K * 4 * LANES]   `pack_forward` of weight_ih
    hidden_panels  float32[P * H * 4 * LANES]   of weight_hh
    bias           float32[4 W]       both biases added, in records
    starts, counts int64[T]          first packed row and rows of each step
    keep           False: nothing is kept for the way back, before_h and before_c need hold the
                   rows of a step only, and gates, unless `source` is BEFORE, `chunk` rows
    source         IN_LOOP: the input's products are made here, a chunk of steps at a time; BEFORE:
                   gates hold them already; PICKED: packed row n's are row picks[n] of `table`
    table          float32[U, row]    the products of U inputs, where `source` is PICKED
    picks          int64[N]
    chunk          rows whose input products are made at a time, at least the rows of a step
    """
    T = len(starts)
    K = x.shape[1]
    W = h.shape[1]
    row = gates.shape[1]
    P = W // LANES
    y_row = y.shape[1]
    out, gate, hidden = y.reshape(y.size), gates.reshape(gates.size), h.reshape(h.size)
    cells = c.reshape(c.size)
    old_h, old_c = before_h.reshape(before_h.size), before_c.reshape(before_c.size)
    whole = keep or source == BEFORE
    done = 0
    while done < T:
        first, last = next_chunk(counts, done, reverse, chunk)
        if source == PICKED:
            pick_steps(gates, table, picks, starts, counts, first, last, whole)
        elif source == IN_LOOP:
            for p in range(P):
                project_steps(
                    4, gates, p * RECORD, row, x, input_panels, p * K * RECORD, bias, starts,
                    counts, first, last, whole,
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
            if keep:
                copy_block(old_c, held * W, W, cells, 0, W, count, W, 0)
            for p in range(P):
                z = address(gates, at * row + p * RECORD)
                tiles(4,
                    z, row, z, row, address(before_h, held * W), W, 1,
                    address(hidden_panels, p * units * RECORD), RECORD, units, 1, 0, 0, count,
                )  # fmt: skip
                there = units - p * LANES
                for r in range(count):
                    k = (at + r) * row + p * RECORD
                    u = r * W + p * LANES
                    i, f, g, o, new_c, new_h = step_forward(
                        load(gate, k),
                        load(gate, k + LANES),
                        load(gate, k + 2 * LANES),
                        load(gate, k + 3 * LANES),
                        load(cells, u),
                    )
                    if keep:
                        store(gate, k, i)
                        store(gate, k + LANES, f)
                        store(gate, k + 2 * LANES, g)
                        store(gate, k + 3 * LANES, o)
                    store(cells, u, new_c)
                    store(hidden, u, new_h)
                    to = rows[starts[t] + r] * y_row + column + p * LANES
                    if there >= LANES:
                        store(out, to, new_h)
                    else:
                        store_part(out, to, new_h, there)
            if not reverse:
                local += count
        done += last - first


@jit
def lstm_backward(
    gates, dh, dc, dy, column, before_c, panels, zeros, rows, starts, counts, reverse, units
):
    """Run every step back: gradients of the gates' inputs, in place of the gates.

    gates     float32[N, row]  in: i, f, g, o as `lstm_forward` left them; out: dz
    dh, dc    float32[B, W]    in: the gradient of the last state; out: of the initial one
    dy        float32[·, ·]    gradient of y; row n's at dy[rows[n], column:column + H]
    before_c  float32[N, W]    as `lstm_forward` left it
    panels    float32[4 W * W] `pack_backward` of weight_hh
    zeros     float32[WIDTH]
    """
    T = len(starts)
    W = dh.shape[1]
    row = gates.shape[1]
    P = W // LANES
    dy_row = dy.shape[1]
    above, gate = dy.reshape(dy.size), gates.reshape(gates.size)
    dhidden, dcells, old_c = (
        dh.reshape(dh.size),
        dc.reshape(dc.size),
        before_c.reshape(before_c.size),
    )
    for step in range(T):
        t = step if reverse else T - 1 - step
        at, count = starts[t], counts[t]
        for p in range(P):
            there = units - p * LANES
            for r in range(count):
                k = (at + r) * row + p * RECORD
                u = r * W + p * LANES
                source = rows[at + r] * dy_row + column + p * LANES
                if there >= LANES:
                    d = load(dhidden, u) + load(above, source)
                else:
                    d = load(dhidden, u) + load_part(above, source, there)
                i = load(gate, k)
                f = load(gate, k + LANES)
                g = load(gate, k + 2 * LANES)
                o = load(gate, k + 3 * LANES)
                c = load(old_c, (at + r) * W + p * LANES)
                di, df, dg, do, de = step_backward(i, f, g, o, c, d, load(dcells, u))
                store(dcells, u, de)
                store(gate, k, di)
                store(gate, k + LANES, df)
                store(gate, k + 2 * LANES, dg)
                store(gate, k + 3 * LANES, do)
        for first in range(0, W, WIDTH):
            vectors = panel_vectors(first, W)
            tiles(
                vectors, address(dh, first), W, address(zeros, 0), 0, address(gates, at * row), row,
                1, address(panels, first * 4 * W), vectors * LANES, 4 * W, 1, 0, 0, count,
            )  # fmt: skip
