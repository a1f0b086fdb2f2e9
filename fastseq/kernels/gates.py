"""What all recurrent cells share: weights packed by gate, gathering rows, gradients of weights.

A unit's gates lie side by side, so that a register tile ends with all of them: a *record* is
`slots` vectors of LANES units, one for each gate, and a row of gates is one record for each
LANES units, zeros standing for units beyond the last. Column (p * slots + s) * LANES + u of a row
is slot s of unit p * LANES + u.

weight [G * H, K] is as PyTorch keeps it; `gates` int64[S] says which of its G blocks each of the
S slots from `first` on holds.
"""

from __future__ import annotations

from fastseq.kernels.jit import helper, inline, jit
from fastseq.kernels.simd.floats import load, load_part, splat, store, store_part
from fastseq.kernels.simd.gemm import (
    A_PART,
    BREADTH,
    HEIGHT,
    ROWS,
    WIDTH,
    add_product,
    copy_block,
    copy_rows,
    pack_rows,
    panel_vectors,
    transpose_block,
)
from fastseq.kernels.simd.tiles import address, tiles
from fastseq.kernels.simd.width import LANES

IN_LOOP, BEFORE, PICKED = 0, 1, 2  # where a forward kernel finds the input's products
RECORDS = 8  # records of gates whose products are added up before the next column of panels


@inline
def next_chunk(counts, done, reverse, rows):
    """The steps [first, last) that come after `done` steps: as many as have `rows` rows, or one."""
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


@inline
def project_steps(
    vectors, gates, column, row, x, panels, panel, bias, starts, counts, first, last, whole
):
    """Gates of one panel for steps [first, last): x W + bias.

    column, panel  where the panel's gates, and its weights, begin
    whole          gates have a row for each packed row; else the rows of these steps only
    """
    K = x.shape[1]
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
            address(x, begin * K), K, 1, address(panels, panel), vectors * LANES, K, 1, 0, 0, many,
        )  # fmt: skip
        local += many


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


@jit
def sum_picks(sums, dz, picks, order, first, last):
    """sums[picks[n]] += dz[n] for every row, columns [first, last): gradients of shared inputs.

    order  int64[N]  the rows in the order in which they are added; empty: as they stand
    """
    N, row = dz.shape
    out, flat = sums.reshape(sums.size), dz.reshape(dz.size)
    for i in range(N):
        n = order[i] if len(order) else i
        to, at = picks[n] * row, n * row
        for j in range(first, last, LANES):
            store(out, to + j, load(out, to + j) + load(flat, at + j))


@jit
def pack_forward(panels, weight, gates, units):
    """For each LANES units a panel [K, S * LANES]: what turns an input into gates.

    panels  float32[P * K * S * LANES], P = units in whole vectors
    """
    K = weight.shape[1]
    S = len(gates)
    flat = weight.reshape(weight.size)
    at = 0
    for unit in range(0, units, LANES):
        there = min(LANES, units - unit)
        if there < LANES:
            panels[at : at + K * S * LANES] = 0.0
        for s in range(S):
            row = gates[s] * units + unit
            transpose_block(panels, at + s * LANES, S * LANES, flat, row * K, K, there, K)
        at += K * S * LANES


@jit
def pack_backward(panels, weight, gates, units):
    """The same weight for the way back: columns are the K inputs, in panels of WIDTH; rows are
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
            there = min(LANES, units - unit)
            for s in range(S):
                row = gates[s] * units + unit
                copy_block(panels, at, width, flat, row * K + column, K, there, columns, width)
                for i in range(at + there * width, at + LANES * width):
                    panels[i] = 0.0
                at += LANES * width


@jit
def project_records(gates, x, panels, used, slots, bias, first, last):
    """gates = x W + bias for rows [first, last): what `project_steps` does, for all panels.

    used   vectors of a panel, in records of `slots`
    """
    K = x.shape[1]
    row = gates.shape[1]
    for p in range(len(panels) // (K * used * LANES)):
        column = p * slots * LANES
        tiles(
            used, address(gates, first * row + column), row, address(bias, column), 0,
            address(x, first * K), K, 1, address(panels, p * K * used * LANES), used * LANES, K, 1,
            0, 0, last - first,
        )  # fmt: skip


@jit
def project_units(gates, x, panels, bias, first, last):
    """The same for cells of one gate, whose panels are WIDTH units."""
    K = x.shape[1]
    row = gates.shape[1]
    W = len(bias)
    for column in range(0, W, WIDTH):
        vectors = panel_vectors(column, W)
        tiles(
            vectors, address(gates, first * row + column), row, address(bias, column), 0,
            address(x, first * K), K, 1, address(panels, column * K), vectors * LANES, K, 1, 0, 0,
            last - first,
        )  # fmt: skip


@jit
def gather(out, values, rows, first, last):
    """out[n] = values[rows[n]] for n in [first, last): rows of floats, into packed order."""
    K = values.shape[1]
    to, flat = out.reshape(out.size), values.reshape(values.size)
    for n in range(first, last):
        copy_block(to, n * K, K, flat, rows[n] * K, K, 1, K, 0)


@jit
def weight_gradient(
    slope, bias_slope, bias_twin, biases, dz, slots, first, gates, units, x, order, scratch,
    from_panel, to_panel,
):  # fmt: skip
    """slope[G * H, K] += dzᵀ x for some panels, and the sum of dz to the biases.

    bias_slope, bias_twin  float32[G * H], added to where `biases` is 1 (the first) or 2 (both)
    dz       float32[N, row]  gradients of the gates, rows of records
    x        float32[N, K or more]  the input, or h'
    order    int64[N]  the rows in the order in which they are added; empty: as they stand
    scratch  float32[scratch_size()]
    """
    N, row = dz.shape
    K, x_row = slope.shape[1], x.shape[1]
    S = len(gates)
    width = S * LANES
    flat, dz_flat, x_flat = slope.reshape(slope.size), dz.reshape(dz.size), x.reshape(x.size)
    for left in range(0, K, BREADTH):
        right = min(left + BREADTH, K)
        for n in range(0, N, HEIGHT):
            height = min(HEIGHT, N - n)
            pack_rows(scratch, x_flat, n, x_row, order, height, left, right)
            for p in range(from_panel, to_panel):
                there = min(LANES, units - p * LANES)
                column = (p * slots + first) * LANES
                copy_rows(scratch, A_PART, width, dz_flat, n, row, order, column, height, width, 0)
                for s in range(S):
                    unit = gates[s] * units + p * LANES
                    at = A_PART + s * LANES
                    add_product(flat, unit * K, K, there, scratch, at, width, height, left, right)
                    if left == 0 and biases > 0:
                        total = _sum_rows(scratch, at, width, height)
                        _add_part(bias_slope, unit, total, there)
                        if biases > 1:
                            _add_part(bias_twin, unit, total, there)


@inline
def _sum_rows(block, at, row, rows):
    """The sum of `rows` vectors that lie `row` apart, in four sums, since one would wait for
    itself."""
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
def _add_part(out, start, total, there):
    if there == LANES:
        store(out, start, load(out, start) + total)
    else:
        store_part(out, start, load_part(out, start, there) + total, there)


@jit
def input_gradient(dx, dz, slots, first, used, panels, add, zeros, scratch, from_row, to_row):
    """dx[N, K] = dz W for rows [from_row, to_row); added to dx when `add`.

    dz      float32[N, row]  gradients of the gates, rows of records of `slots` vectors, of which
            `used` from `first` on belong to W
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
                there = K - column
                fresh = p == 0 and not add
                c, c_row = address(dx, n * K + column), K
                if there < width:  # whole vectors would run past the row
                    c, c_row = address(scratch, 0), width
                    if not fresh:
                        copy_block(scratch, 0, width, flat, n * K + column, K, rows, there, 0)
                init, init_row = (address(zeros, 0), 0) if fresh else (c, c_row)
                tiles(
                    vectors, c, c_row, init, init_row,
                    address(dz, n * row + p * record + first * LANES), row, 1,
                    address(panels, (column * P + p * width) * inner), width, inner, outer,
                    record - inner, 0, rows,
                )  # fmt: skip
                if there < width:
                    copy_block(flat, n * K + column, K, scratch, 0, width, rows, there, 0)


@jit
def scatter(out, values, rows, first, last):
    """out[rows[n]] = values[n] for n in [first, last)."""
    K = values.shape[1]
    to, flat = out.reshape(out.size), values.reshape(values.size)
    for n in range(first, last):
        copy_block(to, rows[n] * K, K, flat, n * K, K, 1, K, 0)
