"""Vectors as Numba intrinsics.

Numba's auto-vectoriser does well on plain element-wise loops and gives up on anything that must
turn a comparison into a bit mask. These intrinsics emit LLVM vectors of 64 lanes; LLVM splits
them into whatever registers the CPU has (four 16-lane ones with AVX-512, eight with AVX2, sixteen
with SSE or NEON), so one definition serves every machine and gives the same bits on each.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 64


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic  # type: ignore[untyped-decorator]
def greater64(typingctx: Any, array: Any, start: Any, limit: Any) -> Any:
    """uint64 whose bit j is `array[start + j] > limit`, j < 64 (float32, bounds unchecked)."""
    signature = types.uint64(array, types.uint64, types.float32)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.FloatType(), LANES)
        address = _address(context, builder, sig.args[0], args[0], args[1])
        values = builder.load(builder.bitcast(address, lanes.as_pointer()))
        values.align = 4
        first = builder.insert_element(ir.Constant(lanes, ir.Undefined), args[2], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        limits = builder.shuffle_vector(first, first, zeros)
        above = builder.fcmp_ordered(">", values, limits)
        return builder.bitcast(above, ir.IntType(64))

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def float_bits(typingctx: Any, value: Any) -> Any:
    """The 32 bits of a float32 as uint32."""
    signature = types.uint32(types.float32)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def bits_float(typingctx: Any, bits: Any) -> Any:
    """The float32 that 32 bits stand for."""
    signature = types.float32(types.uint32)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return signature, codegen
