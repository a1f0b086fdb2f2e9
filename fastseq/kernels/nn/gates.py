"""Memory layout of a recurrent cell's weights and gates: packing of weights, and the gradients of
weights, biases and inputs from those of the gates.

A unit's gates are adjacent, so that a register tile ends with all of them: a *record* is
`slots` vectors of LANES units, one for each gate, and a row of gates is one record for each
LANES units, with zeros for units beyond the last. Column (p * slots + s) * LANES + u of a row
is slot s of unit p * LANES + u.

weight [G * H, K] has PyTorch's layout; `gates` int64[S] says which of its G blocks each of the
S slots holds.
"""

from __future__ import annotations

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.floats import load, load_part, splat, store, store_part
from fastseq.kernels.simd.gemm import (
    A_PART,
    B_PART,
    BREADTH,
    HEIGHT,
    ROWS,
    WIDTH,
    add_product,
    copy_block,
    pack_rows,
    panel_vectors,
    transpose_block,
)
from fastseq.kernels.simd.tiles import address, tiles

RECORDS = 8  # records of gates whose products are added up before the next column of panels
TOGETHER = 64  # gates of a row that are packed at once, and no less than a record of four slots


@jit
def pack_forward(panels, weight, gates, units, span):
    """The panels of a weight for products of its input: one [K, S * span * LANES] for each `span`
    vectors of units. A span above 1 is for S = 1.

    panels  float32[K * S * W], W = units in whole vectors
    """
    K = weight.shape[1]
    S = len(gates)
    flat = weight.reshape(weight.size)
    at = 0
    for unit in range(0, units, span * LANES):
        vectors = min(span, (units - unit + LANES - 1) // LANES)
        valid = min(vectors * LANES, units - unit)
        width = S * vectors * LANES
        if valid < vectors * LANES:
            panels[at : at + K * width] = 0.0
        for s in range(S):
            row = gates[s] * units + unit
            transpose_block(panels, at + s * LANES, width, flat, row * K, K, valid, K)
        at += K * width


@jit
def pack_backward(panels, weight, gates, units):
    """The same weight for the backward pass: columns are the K inputs, in panels of WIDTH; rows are
    the slots in the order of a row of gates.

    panels  float32[P * S * LANES * K in whole vectors]
    """
    K = weight.shape[1]
    S = len(gates)
    flat = weight.reshape(weight.size)
    at = 0
    for column in range(0, K, WIDTH):
        width = panel_vectors(column, K) * LANES
        columns = min(width, K - column)
        for unit in range(0, units, LANES):
            valid = min(LANES, units - unit)
            for s in range(S):
                row = gates[s] * units + unit
                copy_block(panels, at, width, flat, row * K + column, K, valid, columns, width)
                for i in range(at + valid * width, at + LANES * width):
                    panels[i] = 0.0
                at += LANES * width


@jit
def weight_gradients(
    ih, ih_bias, hh, hh_bias, dz, slots, input_gates, hidden_gates,
    hidden_slot, units, x, h, sums, picks, scratch, from_record, to_record,
):  # fmt: skip
    """Add to the gradients of both weights and biases those of some records of gates.

    ih += dzᵀ x, hh += dzᵀ h', and to each bias the sum of dz. Both in one pass, since dz is the
    largest array of a step and comes from memory: two passes took 5 to 12 % longer. With `picks`
    also sums[picks[n]] += dz[n] for every row and these records: the gradients of inputs that
    several rows share.

    ih       float32[G * H, K]; skipped where it has no columns
    hh       float32[G * H, H]; the same
    dz       float32[N, row]  gradients of the gates, rows of records of `slots` vectors
    x        float32[N, K or more]
    h        float32[N, H or more]  h' of each row
    sums     float32[U, row]
    picks    int64[N], or empty
    scratch  float32[scratch_size()]
    """
    N, row = dz.shape
    K, H = ih.shape[1], hh.shape[1]
    record = slots * LANES
    most = max(1, TOGETHER // record)
    inputs, hiddens, dz_flat = x.reshape(x.size), h.reshape(h.size), dz.reshape(dz.size)
    ih_flat = ih.reshape(ih.size)
    hh_flat = hh.reshape(hh.size)
    summed = sums.reshape(sums.size)
    for left in range(0, K + H, BREADTH):  # columns of [x h']
        right = min(left + BREADTH, K + H)
        x_left, x_right = min(left, K), min(right, K)
        h_left, h_right = max(left - K, 0), max(right - K, 0)
        for n in range(0, N, HEIGHT):
            height = min(HEIGHT, N - n)
            behind = pack_rows(scratch, B_PART, inputs, n, x.shape[1], height, x_left, x_right)
            pack_rows(scratch, behind, hiddens, n, h.shape[1], height, h_left, h_right)
            for p in range(from_record, to_record, most):
                records = min(most, to_record - p)
                # a vector more, or rows a power of two apart would fall on few lines of the cache
                width = records * record + LANES
                copy_block(
                    scratch, A_PART, width, dz_flat, n * row + p * record, row, height,
                    records * record, 0,
                )  # fmt: skip
                if left == 0 and len(picks) > 0:
                    for r in range(height):
                        _add_row(
                            summed, picks[n + r] * row + p * record, scratch, A_PART + r * width,
                            records * record,
                        )  # fmt: skip
                for slot in range(records * slots):
                    q, s = divmod(slot, slots)
                    unit = (p + q) * LANES
                    valid = min(LANES, units - unit)
                    at = A_PART + slot * LANES
                    has_input = K > 0 and s < len(input_gates)
                    has_hidden = H > 0 and 0 <= s - hidden_slot < len(hidden_gates)
                    of_x = (input_gates[s] * units if has_input else 0) + unit
                    of_h = (hidden_gates[s - hidden_slot] * units if has_hidden else 0) + unit
                    if has_input:
                        add_product(
                            ih_flat, of_x * K, K, valid, scratch, at, width, B_PART, height,
                            x_left, x_right,
                        )  # fmt: skip
                    if has_hidden:
                        add_product(
                            hh_flat, of_h * H, H, valid, scratch, at, width, behind, height,
                            h_left, h_right,
                        )  # fmt: skip
                    if left == 0:
                        total = _sum_rows(scratch, at, width, height)
                        if has_input:
                            _add_part(ih_bias, of_x, total, valid)
                        if has_hidden:
                            _add_part(hh_bias, of_h, total, valid)


@inline
def _add_row(out, to, block, at, columns):
    for j in range(0, columns, LANES):
        store(out, to + j, load(out, to + j) + load(block, at + j))


@inline
def _sum_rows(block, at, row, rows):
    """The sum of `rows` vectors that lie `row` apart, in four partial sums to hide
    latency."""
    a, b, c, d = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    r = 0
    while r + 4 <= rows:
        a = a + load(block, at)
        b = b + load(block, at + row)
        c = c + load(block, at + 2 * row)
        d = d + load(block, at + 3 * row)
        at += 4 * row
        r += 4
    while r < rows:
        a = a + load(block, at)
        at += row
        r += 1
    return (a + b) + (c + d)


@inline
def _add_part(out, start, total, valid):
    if valid == LANES:
        store(out, start, load(out, start) + total)
    else:
        store_part(out, start, load_part(out, start, valid) + total, valid)


@jit
def input_gradient(dx, dz, slots, used, panels, add, zeros, scratch, from_row, to_row):
    """dx[N, K] = dz W for rows [from_row, to_row); added to dx when `add`.

    dz      float32[N, row]  gradients of the gates, rows of records of `slots` vectors, of which
            the first `used` belong to W
    panels  `pack_backward` of W
    zeros   float32[WIDTH]
    """
    K = dx.shape[1]
    row = dz.shape[1]
    record, inner = slots * LANES, used * LANES
    P = len(panels) // (inner * ((K + LANES - 1) // LANES * LANES))
    flat = dx.reshape(dx.size)
    for n in range(from_row, to_row, ROWS):
        rows = min(ROWS, to_row - n)
        for p in range(0, P, RECORDS):
            outer = min(RECORDS, P - p)
            for column in range(0, K, WIDTH):
                vectors = panel_vectors(column, K)
                width = vectors * LANES
                valid = K - column
                fresh = p == 0 and not add
                c, c_row = address(dx, n * K + column), K
                if valid < width:  # whole vectors would run past the row
                    c, c_row = address(scratch, 0), width
                    if not fresh:
                        copy_block(scratch, 0, width, flat, n * K + column, K, rows, valid, 0)
                init, init_row = (address(zeros, 0), 0) if fresh else (c, c_row)
                tiles(
                    vectors, c, c_row, init, init_row,
                    address(dz, n * row + p * record), row, 1,
                    address(panels, (column * P + p * width) * inner), width, inner, outer,
                    record - inner, 0, rows,
                )  # fmt: skip
                if valid < width:
                    copy_block(flat, n * K + column, K, scratch, 0, width, rows, valid, 0)
