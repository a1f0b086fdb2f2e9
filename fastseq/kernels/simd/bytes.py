"""Bytes looked at 64 or 8 at a time: LLVM vectors as Numba intrinsics.

LLVM lowers the 64-lane vectors to whatever the CPU has (one AVX-512 register, two of AVX2, four
of SSE or NEON), so the results are the same everywhere. Nothing here checks bounds: the caller
guarantees that the bytes read and written are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I1, _I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (1, 8, 32, 64, 128))
_V64 = ir.VectorType(_I8, 64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, to: Any) -> Any:
    """The address of array[index], seen as a pointer to the LLVM type `to`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def _splat(value: int) -> Any:
    return ir.Constant(_V64, [value] * 64)


def _broadcast(builder: Any, value: Any) -> Any:
    """A vector whose 64 lanes all hold the run-time byte `value`."""
    one = builder.insert_element(ir.Constant(_V64, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(
        one, ir.Constant(_V64, ir.Undefined), ir.Constant(ir.VectorType(_I32, 64), [0] * 64)
    )


def _within(builder: Any, lanes: Any, low: int, high: int) -> Any:
    """One bit a lane: low <= lane <= high, as unsigned bytes."""
    return builder.icmp_unsigned("<=", builder.sub(lanes, _splat(low)), _splat(high - low))


@intrinsic  # type: ignore[untyped-decorator]
def load8(typing_context: Any, data: Any, index: Any) -> Any:
    """data[index:index + 8] (uint8) as one uint64 in the CPU's byte order."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, position = arguments
        return builder.load(
            _pointer(context, builder, signature.args[0], array, position, _I64), align=1
        )

    return types.uint64(data, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def load4(typing_context: Any, data: Any, index: Any) -> Any:
    """data[index:index + 4] (uint8) as one uint64 below 2**32, in the CPU's byte order."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, position = arguments
        word = builder.load(
            _pointer(context, builder, signature.args[0], array, position, _I32), align=1
        )
        return builder.zext(word, _I64)

    return types.uint64(data, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def store8(typing_context: Any, data: Any, index: Any, value: Any) -> Any:
    """data[index:index + 8] (uint8) = the eight bytes of a uint64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, position, word = arguments
        place = _pointer(context, builder, signature.args[0], array, position, _I64)
        builder.store(word, place, align=1)
        return context.get_dummy_value()

    return types.void(data, types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, data: Any, index: Any) -> Any:
    """Ask for the cache line of data[index] (any type) before it is needed."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, position = arguments
        place = _pointer(context, builder, signature.args[0], array, position, _I8)
        kind = ir.FunctionType(ir.VoidType(), [place.type, _I32, _I32, _I32])
        call = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
        builder.call(call, [place, *(ir.Constant(_I32, flag) for flag in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(data, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """How many low bits of a uint64 are zero; 64 for zero itself."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(_I1, 0))

    return types.uint64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def multiply_fold(typing_context: Any, a: Any, b: Any) -> Any:
    """The two halves of the 128-bit product of two uint64, xor-ed: one well-mixed uint64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = builder.mul(*(builder.zext(value, _I128) for value in arguments))
        high = builder.trunc(builder.lshr(wide, ir.Constant(_I128, 64)), _I64)
        return builder.xor(builder.trunc(wide, _I64), high)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def non_ascii64(typing_context: Any, data: Any, index: Any) -> Any:
    """Bit i is set where data[index + i] >= 128, for 64 bytes (uint8)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, position = arguments
        place = _pointer(context, builder, signature.args[0], array, position, _V64)
        lanes = builder.load(place, align=1)
        return builder.bitcast(builder.icmp_signed("<", lanes, _splat(0)), _I64)

    return types.uint64(data, types.uint64), codegen


def _block(members: Callable[[Any, Any], Any]) -> Any:
    """An intrinsic that copies 64 bytes, ASCII capitals changed, and says which are members."""

    def build(typing_context: Any, out: Any, to: Any, data: Any, index: Any, shift: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out_array, out_position, array, position, distance = arguments
            source = _pointer(context, builder, signature.args[2], array, position, _V64)
            target = _pointer(context, builder, signature.args[0], out_array, out_position, _V64)
            lanes = builder.load(source, align=1)
            capital = builder.sext(_within(builder, lanes, 65, 90), _V64)
            moved = builder.and_(capital, _broadcast(builder, distance))
            builder.store(builder.add(lanes, moved), target, align=1)
            return builder.bitcast(members(builder, lanes), _I64)

        return types.uint64(out, types.uint64, data, types.uint64, types.uint8), codegen

    return intrinsic(build)


def _word_members(builder: Any, lanes: Any) -> Any:
    folded = builder.or_(lanes, _splat(0x20))
    letter = _within(builder, folded, 97, 122)
    digit = _within(builder, lanes, 48, 57)
    underscore = builder.icmp_unsigned("==", lanes, _splat(95))
    beyond = builder.icmp_signed("<", lanes, _splat(0))
    return builder.or_(builder.or_(letter, digit), builder.or_(underscore, beyond))


def _visible_members(builder: Any, lanes: Any) -> Any:
    blank = builder.or_(_within(builder, lanes, 9, 13), _within(builder, lanes, 28, 32))
    return builder.not_(blank)


# word64(out, to, data, index, shift) -> uint64, all in uint8 elements: copies
# data[index:index + 64] to out[to:to + 64] with `shift` (32 or 0) added to the ASCII capitals;
# bit i of the result is set where byte i is a letter, a digit, an underscore or not ASCII.
word64 = _block(_word_members)

# visible64: the same copy; bit i is set where byte i is not ASCII white space (as str.split
# has it: 9 to 13 and 28 to 32).
visible64 = _block(_visible_members)
