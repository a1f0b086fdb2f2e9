"""Products of grid_persistent.py on tensor cores: factors of bfloat16 or tf32, sums of float32.

The exchange has a row for each sequence, neighbouring units next to each other: words[2, row,
words], a word two bfloat16 or a float32 that was rounded to tf32. A warp multiplies 16 columns of
the weights by 8 rows of the exchange, 8 words deep, at a time (PTX mma.sync m16n8k16 or m16n8k8,
whose operands lie alike in words); several warps share the depth, and their sums are added in
order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.cuda.recurrent.grid_planning import WORDS, Plan
from fastseq.kernels.cuda.recurrent.grid_tiles import PACKING
from fastseq.kernels.cuda.recurrent.tensor import multiply_bfloat16, multiply_tf32, no_product
from fastseq.kernels.cuda.runtime.scalars import bits, copy_four, from_bits, wait_for_copies
from fastseq.kernels.cuda.runtime.target import WARP, cuda, device_function, kernel

ZERO = np.float32(0)


@device_function
def to_bfloat16(x):
    """The 16 bits of x rounded to bfloat16, to nearest, ties to even."""
    whole = np.int64(bits(x)) & 0xFFFFFFFF
    return ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16) & 0xFFFF


@device_function
def to_tf32(x):
    """x rounded to 10 bits of mantissa, to nearest."""
    whole = (np.int64(bits(x)) + 0x1000) & 0xFFFFE000
    return from_bits(np.int32(whole - ((whole >> 31) << 32)))


@device_function
def put(words, halves, at, k, value, narrow):
    """The k-th factor of the row that begins at word `at`."""
    if narrow:
        halves[2 * at + k] = to_bfloat16(value)
    else:
        words[at + k] = to_tf32(value)


@kernel(
    "float32[::1], uint16[::1], int32[::1], float32[::1], int64, int64, int64, int64, int64",
    threads=PACKING,
    registers=48,
)
def begin(exchange, halves, counters, h, B, H, half, pitch, narrow):
    """Both halves of the exchange: h, zeros past its edges; counters of zero.

    h  float32[B · H]; B of 0 for zeros alone
    """
    i = cuda.grid(1)
    if i < len(counters):
        counters[i] = 0
    each = 2 if narrow else 1
    factors = pitch * each
    for at in range(i, half * each, cuda.gridsize(1)):
        row, k = at // factors, at % factors
        value = ZERO
        if row < B and k < H:
            value = h[row * H + k]
        put(exchange, halves, row * pitch, k, value, narrow)
        put(exchange, halves, half + row * pitch, k, value, narrow)


@kernel(
    "float32[::1], uint16[::1], float32[::1], int64, int64, int64, int64, int64, int64, int64",
    threads=PACKING,
    registers=72,
)
def pack_parts(panel, halves, weight, units, gates, own, columns, pitch, back, narrow):
    """A weight float32[gates · units, units] as the parts take it: words[part, column, pitch],
    zeros past its edges."""
    each = 2 if narrow else 1
    factors = pitch * each
    inner = gates * units if back else units
    outputs = 1 if back else gates
    for i in range(cuda.grid(1), len(panel) * each, cuda.gridsize(1)):
        k = i % factors
        column = i // factors % columns
        part = i // factors // columns
        unit = part * own + column % own
        value = ZERO
        if unit < units and column < outputs * own and k < inner:
            if back:
                value = weight[k * units + unit]
            else:
                value = weight[(column // own * units + unit) * units + k]
        put(panel, halves, (part * columns + column) * pitch, k, value, narrow)


def store_of(plan: Plan) -> Any:
    """store(exchange, halves, now, k, row, pitch, value): see grid_tiles.store_of."""
    narrow = plan.precision == "bfloat16"

    @device_function
    def store(exchange, halves, now, k, row, pitch, value):
        put(exchange, halves, now + row * pitch, k, value, narrow)

    return store


def product_of(plan: Plan) -> Any:
    """product(shared, exchange, now, first, pitch, thread): see grid_tiles.product_of."""
    columns, rows, stage = plan.columns, plan.rows, plan.stage
    tiles, shares, threads = plan.tiles, plan.shares, plan.threads
    words = stage // columns - 4
    pitch_w, pitch_s = words + 4, WORDS + 4
    two = rows == 16
    multiply = multiply_bfloat16 if plan.precision == "bfloat16" else multiply_tf32

    @device_function
    def fetch(shared, to, exchange, source, pitch, thread):
        for i in range(thread, rows * (WORDS // 4), threads):
            row, four = i // (WORDS // 4), i % (WORDS // 4) * 4
            copy_four(shared, to + row * pitch_s + four, exchange, source + row * pitch + four)

    @device_function
    def product(shared, exchange, now, first, pitch, thread):
        warp, lane = thread // WARP, thread % WARP
        tile, share = warp % tiles, warp // tiles
        group, place = lane // 4, lane % 4
        source = now + first * pitch
        low, high = no_product(), no_product()
        fetch(shared, stage, exchange, source, pitch, thread)
        for w_0 in range(0, words, WORDS):
            here = stage + w_0 // WORDS % 2 * rows * pitch_s
            wait_for_copies()
            cuda.syncthreads()
            if w_0 + WORDS < words:
                there = stage + (w_0 // WORDS + 1) % 2 * rows * pitch_s
                fetch(shared, there, exchange, source + w_0 + WORDS, pitch, thread)
            if share < shares:
                for w in range(share * 8, WORDS, shares * 8):
                    a = (tile * 16) * pitch_w + w_0 + w
                    low = multiply(low, shared, a, pitch_w, here + w, pitch_s, group, place)
                    if two:
                        high = multiply(
                            high, shared, a, pitch_w, here + 8 * pitch_s + w, pitch_s, group, place
                        )
        cuda.syncthreads()
        if share < shares:
            for i in range(4):
                column = tile * 16 + group + i // 2 * 8
                row = place * 2 + i % 2
                shared[stage + (share * rows + row) * columns + column] = low[i]
                if two:
                    shared[stage + (share * rows + row + 8) * columns + column] = high[i]

    return product
