"""Operations on single numbers and on memory that Numba has no function for.

On a GPU each is an instruction or a few, written as LLVM code; the simulator has them in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastseq.kernels.core import formulas
from fastseq.kernels.core.intrinsics import I64, at, data, llvm
from fastseq.kernels.cuda.runtime.target import SIMULATED, device_function, intrinsic

F32, I32 = ir.FloatType(), ir.IntType(32)
VOID = ir.VoidType()

# ---- for functions that emit LLVM code

emitted: Callable[..., Any] = partial(llvm, make=intrinsic)


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c of float32, rounded once."""
    kind = ir.FunctionType(F32, [F32] * 3)
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32"), [a, b, c]
    )


def load_four(builder: Any, array: Any, index: Any) -> list[Any]:
    """The float32 array[index:index + 4], read at once; `index` is a multiple of four."""
    vector = builder.load(at(builder, array, index, ir.VectorType(F32, 4)), align=16)
    return [builder.extract_element(vector, I32(i)) for i in range(4)]


def values_of(builder: Any, value: Any) -> list[Any]:
    """The elements of a tuple of float32."""
    return [builder.extract_value(value, i) for i in range(value.type.count)]


def tuple_of(builder: Any, numbers: list[Any]) -> Any:
    """A tuple of float32."""
    return cgutils.pack_array(builder, numbers)


# ---- for kernels

if SIMULATED:

    def fma(a: Any, b: Any, c: Any) -> Any:
        """a b + c; the product of two float32 is exact in float64."""
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))

    def bits(x: Any) -> Any:
        """int32, the bits of a float32."""
        return np.float32(x).view(np.int32)

    def from_bits(i: Any) -> Any:
        """The float32 of these bits."""
        return np.int32(i).view(np.float32)

    def copy_four(out: Any, i: Any, array: Any, j: Any) -> None:
        """out[i:i + 4] = array[j:j + 4], at once."""
        for n in range(4):
            out[i + n] = array[j + n]

    def wait_for_copies() -> None:
        """Nothing to wait for."""

    def load_acquired(array: Any, i: Any) -> Any:
        """array[i]"""
        return array[i]

else:
    fma = emitted(types.float32, *[types.float32] * 3)(fused)
    bits = emitted(types.int32, types.float32)(lambda b, x: b.bitcast(x, I32))
    from_bits = emitted(types.float32, types.int32)(lambda b, i: b.bitcast(i, F32))

    @emitted(types.none, data, types.int64, data, types.int64)
    def copy_four(builder: Any, out: Any, i: Any, array: Any, j: Any) -> None:
        """out[i:i + 4] = array[j:j + 4] of float32, out in shared memory, i and j multiples of
        four; done when `wait_for_copies` returns (PTX cp.async). Reads what all multiprocessors
        see: the copy bypasses the cache of this one."""
        to, place = (
            builder.ptrtoint(builder.gep(base, [index]), I64)
            for base, index in ((out, i), (array, j))
        )
        text = (
            "{ .reg .u64 near; cvta.to.shared.u64 near, $0; "
            "cp.async.cg.shared.global [near], [$1], 16; }"
        )
        kind = ir.FunctionType(VOID, [I64, I64])
        builder.asm(kind, text, "l,l,~{memory}", [to, place], side_effect=True)

    @emitted(types.none)
    def wait_for_copies(builder: Any) -> None:
        """Wait for the copies that this thread made with `copy_four`."""
        kind = ir.FunctionType(VOID, [])
        builder.asm(kind, "cp.async.wait_all;", "~{memory}", [], side_effect=True)

    @emitted(types.int32, data, types.int64)
    def load_acquired(builder: Any, array: Any, i: Any) -> Any:
        """array[i] of int32, as other multiprocessors last wrote it; what they wrote before is seen
        by what this thread reads after (PTX ld.acquire)."""
        place = builder.ptrtoint(builder.gep(array, [i]), I64)
        text, kind = "ld.acquire.gpu.global.s32 $0, [$1];", ir.FunctionType(I32, [I64])
        return builder.asm(kind, text, "=r,l,~{memory}", [place], side_effect=True)


@device_function
def square_root(x):
    """√x of float32, rounded to nearest."""
    return np.float32(math.sqrt(x))


@device_function
def minimum(a, x):
    """The smaller one; x where there is a NaN."""
    return a if a < x else x


@device_function
def maximum(a, x):
    """The larger one; x where there is a NaN."""
    return a if a > x else x


@device_function
def absolute(x):
    """|x|, of float32."""
    return from_bits(bits(x) & np.int32(0x7FFFFFFF))


exp, sigmoid, tanh = formulas.elementary(
    device_function, fma, minimum, maximum, absolute, bits, from_bits
)
erf = formulas.error_function(device_function, fma, minimum, absolute, bits, from_bits)
