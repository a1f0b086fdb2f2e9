"""Products of grid_persistent.py: in float32, four rows by four columns a thread, or on tensor
cores, with factors of bfloat16 or tf32 and sums of float32.

In float32 the exchange has a row for each unit (or gate) k, float32[2, depth, pitch], so that
neighbouring sequences are adjacent. Several threads share the depth of a tile.

On tensor cores it has a row for each sequence, words[2, row, pitch], so that neighbouring units are
adjacent; a word is two bfloat16 or a float32 rounded to tf32. A warp multiplies 16 columns of the
weights by 8 rows of the exchange, 8 words deep, at a time (PTX mma.sync m16n8k16 or m16n8k8, whose
operands have the same layout in words). Several warps share the depth.

The parts of a sum are added in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from fastseq.kernels.core.intrinsics import I64, at, data
from fastseq.kernels.cuda.nn.gemm import NO_SUMS, add_outer, pick
from fastseq.kernels.cuda.recurrent.grid_planning import CHUNK, SIDE, WORDS, Plan
from fastseq.kernels.cuda.runtime.instructions import (
    F32,
    I32,
    bits,
    copy_four,
    emitted,
    from_bits,
    tuple_of,
    values_of,
    wait_for_copies,
)
from fastseq.kernels.cuda.runtime.target import SIMULATED, WARP, cuda, device_function, kernel

PACKING = 256  # threads
FLOAT32, TF32, BFLOAT16 = range(3)
MODES = {"float32": FLOAT32, "tf32": TF32, "bfloat16": BFLOAT16}
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
def _put(words, halves, start, k, value, mode):
    """Write the k-th factor of the row that begins at word `start`."""
    if mode == BFLOAT16:
        halves[2 * start + k] = to_bfloat16(value)
    else:
        words[start + k] = to_tf32(value)


@kernel(
    "float32[::1], uint16[::1], int32[::1], float32[::1], int64, int64, int64, int64, int64",
    threads=PACKING, registers=48,
)  # fmt: skip
def begin(exchange, halves, counters, h, B, H, half, pitch, mode):
    """Both halves of the exchange: h, zeros past its edges; counters of zero.

    h  float32[B · H]; B of 0 for zeros alone
    """
    i = cuda.grid(1)
    if i < len(counters):
        counters[i] = 0
    each = 2 if mode == BFLOAT16 else 1
    for n in range(i, half * each, cuda.gridsize(1)):
        if mode == FLOAT32:
            k, row = n // pitch, n % pitch
        else:
            row, k = n // (pitch * each), n % (pitch * each)
        value = ZERO
        if row < B and k < H:
            value = h[row * H + k]
        if mode == FLOAT32:
            exchange[n] = value
            exchange[half + n] = value
        else:
            _put(exchange, halves, row * pitch, k, value, mode)
            _put(exchange, halves, half + row * pitch, k, value, mode)


@kernel(
    "float32[::1], uint16[::1], float32[::1], int64, int64, int64, int64, int64, int64, int64",
    threads=PACKING, registers=72,
)  # fmt: skip
def pack_parts(panel, halves, weight, units, gates, own, columns, pitch, back, mode):
    """A weight float32[gates · units, units] in the order of the parts, zeros past its edges:
    float32[part, depth, columns], on tensor cores words[part, column, pitch]; pitch is the depth
    or words of a column."""
    each = 2 if mode == BFLOAT16 else 1
    factors = pitch * each
    inner = gates * units if back else units
    outputs = 1 if back else gates
    for i in range(cuda.grid(1), len(panel) * each, cuda.gridsize(1)):
        part = i // factors // columns
        if mode == FLOAT32:
            column, k = i % columns, i // columns % factors
        else:
            k, column = i % factors, i // factors % columns
        unit = part * own + column % own
        value = ZERO
        if unit < units and column < outputs * own and k < inner:
            if back:
                value = weight[k * units + unit]
            else:
                value = weight[(column // own * units + unit) * units + k]
        if mode == FLOAT32:
            panel[i] = value
        else:
            _put(panel, halves, (part * columns + column) * pitch, k, value, mode)


def store_of(plan: Plan) -> Any:
    """store(exchange, halves, now, k, row, pitch, value): write factor k of a sequence to the half
    of the exchange that begins at `now`."""
    mode = MODES[plan.precision]

    @device_function
    def store_tile(exchange, halves, now, k, row, pitch, value):
        exchange[now + k * pitch + row] = value

    @device_function
    def store_words(exchange, halves, now, k, row, pitch, value):
        _put(exchange, halves, now + row * pitch, k, value, mode)

    return store_tile if mode == FLOAT32 else store_words


def product_of(plan: Plan) -> Any:
    """product(shared, exchange, now, first, pitch, thread): the product of `rows` sequences from
    `first` on, in the half of the exchange that begins at `now`, with the weights: sums of every
    share in shared[stage:], float32[share, row, column]. Does not end with a barrier."""
    return _tile_product(plan) if plan.precision == "float32" else _tensor_product(plan)


def _tile_product(plan: Plan) -> Any:
    columns, rows, depth, stage = plan.columns, plan.rows, plan.depth, plan.stage
    tiles, shares, threads = plan.tiles, plan.shares, plan.threads
    across, quarter = columns // SIDE, rows // SIDE

    @device_function
    def fetch(shared, to, exchange, source, pitch, thread):
        """Start to copy CHUNK rows of the exchange, `rows` sequences of each, to shared[to:]."""
        for i in range(thread, CHUNK * quarter, threads):
            k, four = i // quarter, i % quarter * SIDE
            copy_four(shared, to + k * rows + four, exchange, source + k * pitch + four)

    @device_function
    def product(shared, exchange, now, first, pitch, thread):
        source = now + first
        tile, share = thread % tiles, thread // tiles
        row, column = tile // across * SIDE, tile % across * SIDE
        sums = NO_SUMS
        fetch(shared, stage, exchange, source, pitch, thread)
        for k_0 in range(0, depth, CHUNK):
            here = stage + k_0 // CHUNK % 2 * CHUNK * rows
            wait_for_copies()
            cuda.syncthreads()
            if k_0 + CHUNK < depth:
                there = stage + (k_0 // CHUNK + 1) % 2 * CHUNK * rows
                fetch(shared, there, exchange, source + (k_0 + CHUNK) * pitch, pitch, thread)
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


def _tensor_product(plan: Plan) -> Any:
    columns, rows, stage = plan.columns, plan.rows, plan.stage
    tiles, shares, threads = plan.tiles, plan.shares, plan.threads
    words = stage // columns - 4
    pitch_w, pitch_s = words + 4, WORDS + 4
    two = rows == 16
    multiply = multiply_bfloat16 if plan.precision == "bfloat16" else multiply_tf32
    no_sums = (ZERO,) * 4

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
        low, high = no_sums, no_sums
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


# multiply_…(sums, shared, a, a_pitch, b, b_pitch, group, place): sums[16, 8] += a[16, words]
# b[8, words]ᵀ, eight words deep, by one warp; a and b are row after row in shared memory. A lane
# has four of the sums: rows `group` and `group` + 8 (lane // 4), columns 2 `place` and
# 2 `place` + 1 (lane % 4).

if SIMULATED:

    def _simulated(read: Any) -> Any:
        def multiply(
            sums: Any, shared: Any, a: int, a_pitch: int, b: int, b_pitch: int, group: int,
            place: int,
        ) -> Any:  # fmt: skip
            found = []
            for i, before in enumerate(sums):
                row, column = group + i // 2 * 8, 2 * place + i % 2
                left, right = (
                    np.concatenate([read(shared[start + w]) for w in range(8)])
                    for start in (a + row * a_pitch, b + column * b_pitch)
                )
                found.append(np.float32(before + left.astype(np.float64) @ right))
            return tuple(found)

        return multiply

    def _two(word: Any) -> Any:
        """The two bfloat16 of a word, as float32."""
        whole = np.array([word], np.float32).view(np.uint32)
        return np.concatenate([whole << 16, whole >> 16 << 16]).view(np.float32)

    multiply_bfloat16 = _simulated(_two)
    multiply_tf32 = _simulated(lambda word: np.array([word], np.float32))

else:

    def _multiplied(instruction: str) -> Any:
        sums_type = types.UniTuple(types.float32, 4)

        @emitted(sums_type, sums_type, data, *[types.int64] * 6)
        def multiply(
            builder: Any, sums: Any, shared: Any, a: Any, a_pitch: Any, b: Any, b_pitch: Any,
            group: Any, place: Any,
        ) -> Any:  # fmt: skip
            def words(first: Any, *offsets: int) -> list[Any]:
                places = [builder.add(first, I64(offset)) for offset in offsets]
                return [builder.load(at(builder, shared, place, I32)) for place in places]

            def lane(base: Any, pitch: Any) -> Any:
                return builder.add(builder.add(base, builder.mul(group, pitch)), place)

            first = lane(a, a_pitch)
            below = builder.add(first, builder.mul(I64(8), a_pitch))
            left = [value for pair in zip(words(first, 0, 4), words(below, 0, 4), strict=True)
                    for value in pair]  # fmt: skip
            kind = ir.FunctionType(ir.LiteralStructType([F32] * 4), [I32] * 6 + [F32] * 4)
            text = (
                f"mma.sync.aligned.{instruction} {{$0, $1, $2, $3}}, {{$4, $5, $6, $7}}, "
                "{$8, $9}, {$10, $11, $12, $13};"
            )
            operands = [*left, *words(lane(b, b_pitch), 0, 4), *values_of(builder, sums)]
            places = "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
            found = builder.asm(kind, text, places, operands, side_effect=True)
            return tuple_of(builder, [builder.extract_value(found, i) for i in range(4)])

        return multiply

    multiply_bfloat16 = _multiplied("m16n8k16.row.col.f32.bf16.bf16.f32")
    multiply_tf32 = _multiplied("m16n8k8.row.col.f32.tf32.tf32.f32")
