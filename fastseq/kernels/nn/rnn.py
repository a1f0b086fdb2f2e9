"""Plain recurrence: one direction of one layer over a ragged batch, forward and backward.

    h = f(W x + b + U h')    f = tanh, or max(0, ·)

Source: Elman 1990. Rows are packed as kernels/nn/lstm.py says. With one gate there is nothing to
keep together, so a row of gates is simply the W units and the panels are WIDTH of them.
"""

from __future__ import annotations

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.inputs import BEFORE, IN_LOOP, PICKED, next_chunk, pick_steps, project_steps
from fastseq.kernels.simd.floats import load, load_part, maximum, select, store, store_part
from fastseq.kernels.simd.gemm import WIDTH, copy_block, panel_vectors
from fastseq.kernels.simd.tiles import address, tiles
from fastseq.kernels.simd.vmath import tanh


@jit
def rnn_forward(
    y, column, h, gates, before_h, x, input_panels, hidden_panels, bias, rows, starts,
    counts, reverse, units, keep, source, table, picks, chunk, relu,
):  # fmt: skip
    """Run every step of a batch.

    y              float32[·, ·]     out: h of each row at y[rows[n], column:column + H]
    h              float32[B, W]     in: the initial state; out: the last one
    gates          float32[N, row]   out, when `keep`: h of each row, row >= W
    before_h       float32[N, W]     out, when `keep`: h' of each row
    x              float32[N, K]
    input_panels   float32[K * W]    `pack_transposed` of weight_ih
    hidden_panels  float32[H * W]    of weight_hh
    bias           float32[W]        both biases added
    starts, counts int64[T]          first packed row and rows of each step
    keep, chunk    as for `lstm_forward`
    relu           f is max(0, ·) instead of tanh
    """
    T = len(starts)
    K = x.shape[1]
    W = h.shape[1]
    row = gates.shape[1]
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
            for panel in range(0, W, WIDTH):
                project_steps(
                    panel_vectors(panel, W), gates, panel, row, x, input_panels, panel * K, bias,
                    starts, counts, first, last, whole,
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
            if keep:
                copy_block(old_h, starts[t] * W, W, hidden, 0, W, count, W, 0)
            for panel in range(0, W, WIDTH):
                vectors = panel_vectors(panel, W)
                c = address(gates, at * row + panel)
                tiles(
                    vectors, c, row, c, row, address(h, 0), W, 1,
                    address(hidden_panels, panel * units), vectors * LANES, units, 1, 0, 0, count,
                )  # fmt: skip
            for r in range(count):
                to = rows[starts[t] + r] * y_row + column
                for u in range(0, W, LANES):
                    k = (at + r) * row + u
                    z = load(gate, k)
                    new_h = maximum(0.0, z) if relu else tanh(z)
                    if keep:
                        store(gate, k, new_h)
                    store(hidden, r * W + u, new_h)
                    if u + LANES <= units:
                        store(out, to + u, new_h)
                    else:
                        store_part(out, to + u, new_h, units - u)
            if not reverse:
                local += count
        done += last - first


@jit
def rnn_backward(gates, dh, dy, column, panels, zeros, rows, starts, counts, reverse, units, relu):
    """Run every step back: gradients of f's argument, in place of h.

    gates   float32[N, row]  in: h as `rnn_forward` left it; out: dz
    dh      float32[B, W]    in: the gradient of the last state; out: of the initial one
    dy      float32[·, ·]    gradient of y; row n's at dy[rows[n], column:column + H]
    panels  float32[W * W]   `pack_backward` of weight_hh
    zeros   float32[WIDTH]
    """
    T = len(starts)
    W = dh.shape[1]
    row = gates.shape[1]
    dy_row = dy.shape[1]
    above, gate, dhidden = dy.reshape(dy.size), gates.reshape(gates.size), dh.reshape(dh.size)
    for step in range(T):
        t = step if reverse else T - 1 - step
        at, count = starts[t], counts[t]
        for r in range(count):
            source = rows[at + r] * dy_row + column
            for u in range(0, W, LANES):
                k = (at + r) * row + u
                d = load(dhidden, r * W + u)
                if u + LANES <= units:
                    d = d + load(above, source + u)
                else:
                    d = d + load_part(above, source + u, units - u)
                h = load(gate, k)
                store(gate, k, select(h > 0.0, d, 0.0) if relu else d * (1.0 - h * h))
        for first in range(0, W, WIDTH):
            vectors = panel_vectors(first, W)
            tiles(
                vectors, address(dh, first), W, address(zeros, 0), 0, address(gates, at * row), row,
                1, address(panels, first * W), vectors * LANES, W, 1, 0, 0, count,
            )  # fmt: skip
