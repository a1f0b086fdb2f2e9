"""Transposing LANES x LANES blocks of float32 in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.floats import element

_VECTOR = ir.VectorType(ir.FloatType(), LANES)


@intrinsic
def transpose(
    typing_context: Any, out: Any, to: Any, out_row: Any, array: Any, start: Any, row: Any
) -> Any:
    """out[to + i * out_row + j] = array[start + j * row + i] for i, j < LANES.

    log2(LANES) rounds that interleave the first half of the rows with the second: 0.25
    instructions an element with 16 lanes, where single loads and stores take two.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, to, out_row, source, start, row = arguments

        def place(kind: Any, array: Any, first: Any, step: Any, i: int) -> Any:
            index = builder.add(first, builder.mul(step, ir.Constant(ir.IntType(64), i)))
            return element(context, builder, kind, array, index, _VECTOR)

        rows = [
            builder.load(place(signature.args[3], source, start, row, i), align=4)
            for i in range(LANES)
        ]
        half = LANES // 2
        low, high = (
            ir.Constant(
                ir.VectorType(ir.IntType(32), LANES),
                [lane for i in range(half) for lane in (first + i, first + i + LANES)],
            )
            for first in (0, half)
        )
        for _ in range(LANES.bit_length() - 1):
            rows = [
                builder.shuffle_vector(rows[i], rows[i + half], lanes)
                for i in range(half)
                for lanes in (low, high)
            ]
        for i, value in enumerate(rows):
            builder.store(value, place(signature.args[0], target, to, out_row, i), align=4)
        return context.get_dummy_value()

    return types.void(out, *[types.int64] * 2, array, *[types.int64] * 2), codegen
