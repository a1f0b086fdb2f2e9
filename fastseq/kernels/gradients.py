"""From the gradients of a cell's gates to those of its weights, biases and inputs.

Gates lie in rows of records, as kernels/gates.py says.
"""

from __future__ import annotations

from fastseq.kernels.jit import inline, jit
from fastseq.kernels.simd.floats import load, load_part, splat, store, store_part
from fastseq.kernels.simd.gemm import (
    A_PART,
    BREADTH,
    HEIGHT,
    ROWS,
    WIDTH,
    add_product,
    copy_block,
    pack_rows,
    panel_vectors,
)
from fastseq.kernels.simd.tiles import address, tiles
from fastseq.kernels.simd.width import LANES

RECORDS = 8  # records of gates whose products are added up before the next column of panels


@jit
def weight_gradient(
    slope, bias_slope, bias_twin, biases, dz, slots, first, gates, units, x, scratch, from_panel,
    to_panel,
):  # fmt: skip
    """slope[G * H, K] += dzᵀ x for some panels, and the sum of dz to the biases.

    bias_slope, bias_twin  float32[G * H], added to where `biases` is 1 (the first) or 2 (both)
    dz       float32[N, row]  gradients of the gates, rows of records
    x        float32[N, K or more]  the input, or h'
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
            pack_rows(scratch, x_flat, n, x_row, height, left, right)
            for p in range(from_panel, to_panel):
                there = min(LANES, units - p * LANES)
                column = (p * slots + first) * LANES
                copy_block(scratch, A_PART, width, dz_flat, n * row + column, row, height, width, 0)
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
def sum_picks(sums, dz, picks, first, last):
    """sums[picks[n]] += dz[n] for every row, columns [first, last): gradients of shared inputs."""
    N, row = dz.shape
    out, flat = sums.reshape(sums.size), dz.reshape(dz.size)
    for n in range(N):
        to, at = picks[n] * row, n * row
        for j in range(first, last, LANES):
            store(out, to + j, load(out, to + j) + load(flat, at + j))
