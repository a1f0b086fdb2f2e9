"""Products of grid_persistent.py in float32: four rows by four columns a thread.

The exchange has a row for each unit (or gate) k, float32[2, depth, pitch], so that neighbouring
sequences are neighbours. Several threads share the depth of a tile, each its own part of the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.cuda.nn.tiles import add_outer, no_sums, pick
from fastseq.kernels.cuda.recurrent.grid_planning import CHUNK, SIDE, Plan
from fastseq.kernels.cuda.runtime.scalars import copy_four, wait_for_copies
from fastseq.kernels.cuda.runtime.target import cuda, device_function, kernel

PACKING = 256  # threads
ZERO = np.float32(0)


@kernel(
    "float32[::1], uint16[::1], int32[::1], float32[::1], int64, int64, int64, int64, int64",
    threads=PACKING,
    registers=48,
)
def begin(exchange, halves, counters, h, B, H, half, pitch, narrow):
    """Both halves of the exchange: h transposed, zeros past its edges; counters of zero.

    h  float32[B · H]; B of 0 for zeros alone
    """
    i = cuda.grid(1)
    if i < len(counters):
        counters[i] = 0
    for at in range(i, half, cuda.gridsize(1)):
        unit, row = at // pitch, at % pitch
        value = ZERO
        if unit < H and row < B:
            value = h[row * H + unit]
        exchange[at] = value
        exchange[half + at] = value


@kernel(
    "float32[::1], uint16[::1], float32[::1], int64, int64, int64, int64, int64, int64, int64",
    threads=PACKING,
    registers=56,
)
def pack_parts(panel, halves, weight, units, gates, own, columns, depth, back, narrow):
    """A weight float32[gates · units, units] as the parts take it: float32[part, depth, columns],
    zeros past its edges."""
    for i in range(cuda.grid(1), len(panel), cuda.gridsize(1)):
        column = i % columns
        k = i // columns % depth
        part = i // columns // depth
        unit = part * own + column % own
        value = ZERO
        if unit < units:
            if back:
                if k < gates * units:
                    value = weight[k * units + unit]
            elif k < units:
                value = weight[(column // own * units + unit) * units + k]
        panel[i] = value


@device_function
def _fetch(shared, to, exchange, source, pitch, rows, thread, threads):
    """CHUNK rows of the exchange, `rows` sequences of each, on their way to shared[to:]."""
    quarter = rows // SIDE
    for i in range(thread, CHUNK * quarter, threads):
        k, four = i // quarter, i % quarter * SIDE
        copy_four(shared, to + k * rows + four, exchange, source + k * pitch + four)


def store_of(plan: Plan) -> Any:
    """store(exchange, halves, now, k, row, pitch, value): what products are to read as factor k of
    a sequence, in the half of the exchange that begins at `now`."""

    @device_function
    def store(exchange, halves, now, k, row, pitch, value):
        exchange[now + k * pitch + row] = value

    return store


def product_of(plan: Plan) -> Any:
    """product(shared, exchange, now, first, pitch, thread): the product of `rows` sequences from
    `first` on, in the half of the exchange that begins at `now`, with the weights: sums of every
    share in shared[stage:], float32[share, row, column]. Ends without a barrier."""
    columns, rows, depth, stage = plan.columns, plan.rows, plan.depth, plan.stage
    tiles, shares, threads = plan.tiles, plan.shares, plan.threads
    across = columns // SIDE

    @device_function
    def product(shared, exchange, now, first, pitch, thread):
        source = now + first
        tile, share = thread % tiles, thread // tiles
        row, column = tile // across * SIDE, tile % across * SIDE
        sums = no_sums()
        _fetch(shared, stage, exchange, source, pitch, rows, thread, threads)
        for k_0 in range(0, depth, CHUNK):
            here = stage + k_0 // CHUNK % 2 * CHUNK * rows
            wait_for_copies()
            cuda.syncthreads()
            if k_0 + CHUNK < depth:
                there = stage + (k_0 // CHUNK + 1) % 2 * CHUNK * rows
                _fetch(
                    shared, there, exchange, source + (k_0 + CHUNK) * pitch, pitch, rows, thread,
                    threads,
                )  # fmt: skip
            if share < shares:
                for k in range(share, CHUNK, shares):
                    sums = add_outer(
                        sums, shared, here + k * rows + row, shared, (k_0 + k) * columns + column
                    )
        cuda.syncthreads()
        if share < shares:
            for r in range(SIDE):
                for c in range(SIDE):
                    to = stage + (share * rows + row + r) * columns + column + c
                    shared[to] = pick(sums, SIDE * r + c)

    return product
