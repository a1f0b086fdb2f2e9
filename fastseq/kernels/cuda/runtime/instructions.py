"""Instructions of a GPU that Numba has no function for, as LLVM code."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastseq.kernels.cuda.runtime.target import intrinsic

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FOUR = ir.VectorType(_F32, 4)


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c of float32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_F32, [_F32] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32")
        return builder.call(function, arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def bits(typing_context: Any, x: Any) -> Any:
    """int32, the bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _I32)

    return types.int32(types.float32), generate


@intrinsic
def from_bits(typing_context: Any, i: Any) -> Any:
    """The float32 of these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _F32)

    return types.float32(types.int32), generate


@intrinsic
def copy_four(typing_context: Any, out: Any, i: Any, array: Any, j: Any) -> Any:
    """out[i:i + 4] = array[j:j + 4] of float32, out in shared memory, i and j multiples of four,
    by the time that `wait_for_copies` returns (PTX cp.async). What is read is what all
    multiprocessors see: the copy goes past the cache of this one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, place = (
            builder.ptrtoint(builder.gep(data_of(context, builder, signature.args[n], arguments[n]),
                                         [arguments[n + 1]]), _I64)
            for n in (0, 2)
        )  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [_I64, _I64])
        text = (
            "{ .reg .u64 near; cvta.to.shared.u64 near, $0; "
            "cp.async.cg.shared.global [near], [$1], 16; }"
        )
        builder.asm(kind, text, "l,l,~{memory}", [to, place], side_effect=True)
        return context.get_dummy_value()

    return types.none(out, types.int64, array, types.int64), generate


@intrinsic
def wait_for_copies(typing_context: Any) -> Any:
    """Until what this thread copied by `copy_four` is there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.asm(kind, "cp.async.wait_all;", "~{memory}", [], side_effect=True)
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def load_acquired(typing_context: Any, array: Any, i: Any) -> Any:
    """array[i] of int32, as other multiprocessors last wrote it; what they wrote before is seen by
    what this thread reads after (PTX ld.acquire)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = data_of(context, builder, signature.args[0], arguments[0])
        place = builder.ptrtoint(builder.gep(data, [arguments[1]]), _I64)
        kind = ir.FunctionType(_I32, [_I64])
        return builder.asm(
            kind, "ld.acquire.gpu.global.s32 $0, [$1];", "=r,l,~{memory}", [place], side_effect=True
        )

    return types.int32(array, types.int64), generate


# ---- LLVM values, for those who write instructions


def data_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """The pointer to an array's first element."""
    return context.make_array(kind)(context, builder, array).data


def load_at(builder: Any, data: Any, at: Any) -> list[Any]:
    """Four neighbouring float32, read at once: `at` is a multiple of four."""
    place = builder.bitcast(builder.gep(data, [at]), _FOUR.as_pointer())
    vector = builder.load(place, align=16)
    return [builder.extract_element(vector, ir.Constant(_I32, i)) for i in range(4)]


def load_four(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> list[Any]:
    """LLVM values of array[at:at + 4], `at` a multiple of four, read at once."""
    return load_at(builder, data_of(context, builder, kind, array), at)


def values_of(builder: Any, value: Any, count: int) -> list[Any]:
    """The elements of a tuple."""
    return [builder.extract_value(value, i) for i in range(count)]


def tuple_of(context: Any, builder: Any, kind: Any, numbers: list[Any]) -> Any:
    """The LLVM value of a tuple."""
    return context.make_tuple(builder, kind, numbers)
