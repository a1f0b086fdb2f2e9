"""Vectors of 64 or 32 lanes (bytes, uint16, comparisons of float32), of 8 uint32, and words of 8
bytes, as Numba intrinsics.

Numba's vectoriser does not turn comparisons into bit masks. LLVM splits the 64-lane vectors into
the registers of the CPU (one AVX-512 register of bytes, two of AVX2, four of SSE or NEON), so the
results are the same everywhere. Bounds are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from fastseq.kernels.core.intrinsics import at, broadcast, data, llvm, request

_I1, _I8, _I16, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64, 128))
_BYTES, _FLOATS = (ir.VectorType(kind, 64) for kind in (_I8, ir.FloatType()))
_WORDS = ir.VectorType(_I32, 8)
_SHORTS = ir.VectorType(_I16, 32)


def _constant(value: int) -> Any:
    return ir.Constant(_BYTES, [value] * 64)


def _within(builder: Any, lanes: Any, low: int, high: int) -> Any:
    """One bit a lane: low <= lane <= high, as unsigned bytes."""
    return builder.icmp_unsigned("<=", builder.sub(lanes, _constant(low)), _constant(high - low))


@llvm(types.uint64, data, types.uint64)
def load8(builder: Any, array: Any, index: Any) -> Any:
    """array[index:index + 8] (uint8) as one uint64 in the CPU's byte order."""
    return builder.load(at(builder, array, index, _I64), align=1)


@llvm(types.uint64, data, types.uint64)
def load4(builder: Any, array: Any, index: Any) -> Any:
    """array[index:index + 4] (uint8) as one uint64 below 2**32, in the CPU's byte order."""
    return builder.zext(builder.load(at(builder, array, index, _I32), align=1), _I64)


@llvm(types.void, data, types.uint64)
def prefetch(builder: Any, array: Any, index: Any) -> None:
    """Request the cache line of array[index] (any type) before it is needed."""
    request(builder, at(builder, array, index, _I8))


@llvm(types.uint64, types.uint64)
def trailing_zeros(builder: Any, value: Any) -> Any:
    """How many low bits of a uint64 are zero; 64 for zero itself."""
    return builder.cttz(value, _I1(0))


@llvm(types.uint64, types.uint64)
def count_ones(builder: Any, value: Any) -> Any:
    """How many bits of a uint64 are one."""
    return builder.ctpop(value)


@llvm(types.uint64, types.uint64, types.uint64)
def multiply_fold(builder: Any, a: Any, b: Any) -> Any:
    """The two halves of the 128-bit product of two uint64, xor-ed: one well-mixed uint64."""
    wide = builder.mul(builder.zext(a, _I128), builder.zext(b, _I128))
    high = builder.trunc(builder.lshr(wide, _I128(64)), _I64)
    return builder.xor(builder.trunc(wide, _I64), high)


@llvm(types.uint64, data, types.uint64)
def non_ascii64(builder: Any, array: Any, index: Any) -> Any:
    """uint64 whose bit i is array[index + i] >= 128, for 64 bytes (uint8)."""
    lanes = builder.load(at(builder, array, index, _BYTES), align=1)
    return builder.bitcast(builder.icmp_signed("<", lanes, _constant(0)), _I64)


@llvm(types.uint64, data, types.uint64, types.uint8)
def below64(builder: Any, array: Any, index: Any, limit: Any) -> Any:
    """uint64 whose bit i is array[index + i] < limit, for 64 bytes (uint8)."""
    lanes = builder.load(at(builder, array, index, _BYTES), align=1)
    return builder.bitcast(builder.icmp_unsigned("<", lanes, broadcast(builder, limit, 64)), _I64)


@llvm(types.uint64, data, types.uint64, types.uint8)
def equal64(builder: Any, array: Any, index: Any, value: Any) -> Any:
    """uint64 whose bit i is array[index + i] == value, for 64 bytes (uint8)."""
    lanes = builder.load(at(builder, array, index, _BYTES), align=1)
    return builder.bitcast(builder.icmp_unsigned("==", lanes, broadcast(builder, value, 64)), _I64)


@llvm(types.uint64, data, types.uint64, types.uint32)
def equal8(builder: Any, array: Any, index: Any, value: Any) -> Any:
    """uint64 whose bit i (0 to 7) is array[index + i] == value, for 8 uint32."""
    lanes = builder.load(at(builder, array, index, _WORDS), align=4)
    same = builder.icmp_unsigned("==", lanes, broadcast(builder, value, 8))
    return builder.zext(builder.bitcast(same, _I8), _I64)


@llvm(types.UniTuple(types.uint64, 2), data, types.uint64, types.uint64, types.uint64)
def half_bytes64(builder: Any, array: Any, index: Any, first: Any, last: Any) -> Any:
    """(sum, 0 unless one of them is 15) of the half bytes from `first` to `last`, which is at most
    128, of array[index:index + 64] (uint8); the lower half of a byte is the first."""
    lanes = builder.load(at(builder, array, index, _BYTES), align=1)
    start = broadcast(builder, builder.trunc(first, _I8), 64)
    count = broadcast(builder, builder.trunc(builder.sub(last, first), _I8), 64)
    fifteen, total = None, None
    for parity in (0, 1):
        half = builder.lshr(lanes, _constant(4)) if parity else builder.and_(lanes, _constant(15))
        number = ir.Constant(_BYTES, [2 * lane + parity for lane in range(64)])
        counts = builder.icmp_unsigned("<", builder.sub(number, start), count)
        half = builder.select(counts, half, _constant(0))
        large = builder.icmp_unsigned("==", half, _constant(15))
        total = half if total is None else builder.add(total, half)
        fifteen = large if fifteen is None else builder.or_(fifteen, large)
    pairs = builder.bitcast(total, _SHORTS)  # sums of up to 30 become sums of up to 60
    low = builder.and_(pairs, ir.Constant(_SHORTS, [255] * 32))
    pairs = builder.add(low, builder.lshr(pairs, ir.Constant(_SHORTS, [8] * 32)))
    kind = ir.FunctionType(_I16, [_SHORTS])
    sums = builder.module.declare_intrinsic("llvm.vector.reduce.add.v32i16", (), kind)
    found = ir.Constant(ir.ArrayType(_I64, 2), ir.Undefined)
    found = builder.insert_value(found, builder.zext(builder.call(sums, [pairs]), _I64), 0)
    return builder.insert_value(found, builder.bitcast(fifteen, _I64), 1)


@llvm(types.uint64, types.uint64, types.uint64, types.uint8, types.uint8)
def shared4(builder: Any, a: Any, b: Any, add_a: Any, add_b: Any) -> Any:
    """uint64 whose bit i (0 to 3) is: byte i of a, plus add_a, is one of the bytes 0 to 3 of b,
    plus add_b, and below 255. Sums above 255 are 255."""
    kind = ir.VectorType(_I8, 16)
    signature = ir.FunctionType(kind, [kind, kind])
    add = builder.module.declare_intrinsic("llvm.uadd.sat.v16i8", (), signature)
    lanes = []
    for value, more, shift in ((a, add_a, 0), (b, add_b, 2)):
        four = builder.bitcast(builder.trunc(value, _I32), ir.VectorType(_I8, 4))
        places = ir.Constant(ir.VectorType(_I32, 16), [lane >> shift & 3 for lane in range(16)])
        spread = builder.shuffle_vector(four, four, places)
        lanes.append(builder.call(add, [spread, broadcast(builder, more, 16)]))
    same = builder.icmp_unsigned("==", *lanes)
    same = builder.and_(same, builder.icmp_unsigned("!=", lanes[1], ir.Constant(kind, [255] * 16)))
    bits = builder.zext(builder.bitcast(same, _I16), _I64)  # bit 4 · j + i
    bits = builder.or_(bits, builder.lshr(bits, _I64(8)))
    return builder.and_(builder.or_(bits, builder.lshr(bits, _I64(4))), _I64(15))


@llvm(types.uint64, data, types.uint64, types.uint16)
def equal32(builder: Any, array: Any, index: Any, value: Any) -> Any:
    """uint64 whose bit i is array[index + i] == value, for 32 uint16; its upper half is 0."""
    lanes = builder.load(at(builder, array, index, _SHORTS), align=2)
    equal = builder.icmp_unsigned("==", lanes, broadcast(builder, value, 32))
    return builder.zext(builder.bitcast(equal, _I32), _I64)


@llvm(types.uint64, data, types.uint64, types.float32)
def greater64(builder: Any, array: Any, start: Any, limit: Any) -> Any:
    """uint64 whose bit i is array[start + i] > limit, for 64 float32."""
    values = builder.load(at(builder, array, start, _FLOATS), align=4)
    return builder.bitcast(builder.fcmp_ordered(">", values, broadcast(builder, limit, 64)), _I64)


@llvm(types.uint64, data, types.uint64)
def nonzero64(builder: Any, array: Any, index: Any) -> Any:
    """uint64 whose bit i is array[index + i] != 0, for 64 uint64."""
    kind = ir.VectorType(_I64, 64)
    lanes = builder.load(at(builder, array, index, kind), align=8)
    filled = builder.icmp_unsigned("!=", lanes, ir.Constant(kind, [0] * 64))
    return builder.bitcast(filled, _I64)


def _copied(builder: Any, out: Any, to: Any, array: Any, index: Any, shift: Any) -> Any:
    """Copy array[index:index + 64] to out[to:to + 64] with `shift` added to the ASCII capitals;
    returns the bytes as they were."""
    lanes = builder.load(at(builder, array, index, _BYTES), align=1)
    capital = builder.sext(_within(builder, lanes, 65, 90), _BYTES)
    moved = builder.and_(capital, broadcast(builder, shift, 64))
    builder.store(builder.add(lanes, moved), at(builder, out, to, _BYTES), align=1)
    return lanes


def _block(members: Callable[[Any, Any], Any]) -> Any:
    """An intrinsic that copies 64 bytes as `_copied` and returns a mask of members."""

    @llvm(types.uint64, data, types.uint64, data, types.uint64, types.uint8)
    def copy(builder: Any, *arguments: Any) -> Any:
        return builder.bitcast(members(builder, _copied(builder, *arguments)), _I64)

    return copy


def _word_members(builder: Any, lanes: Any) -> Any:
    folded = builder.or_(lanes, _constant(0x20))
    letter = _within(builder, folded, 97, 122)
    digit = _within(builder, lanes, 48, 57)
    underscore = builder.icmp_unsigned("==", lanes, _constant(95))
    beyond = builder.icmp_signed("<", lanes, _constant(0))
    return builder.or_(builder.or_(letter, digit), builder.or_(underscore, beyond))


def _visible_members(builder: Any, lanes: Any) -> Any:
    blank = builder.or_(_within(builder, lanes, 9, 13), _within(builder, lanes, 28, 32))
    return builder.not_(blank)


# word64(out, to, array, index, shift) -> uint64, all in uint8 elements: copies
# array[index:index + 64] to out[to:to + 64] with `shift` (32 or 0) added to the ASCII capitals;
# bit i of the result is set where byte i is a letter, a digit, an underscore or not ASCII.
word64 = _block(_word_members)

# visible64: the same copy; bit i is set where byte i is not ASCII white space (as in str.split:
# 9 to 13 and 28 to 32).
visible64 = _block(_visible_members)


def _equal(builder: Any, lanes: Any, characters: str) -> Any:
    """One bit a lane: whether it is one of the characters."""
    found = None
    for character in characters:
        same = builder.icmp_unsigned("==", lanes, _constant(ord(character)))
        found = same if found is None else builder.or_(found, same)
    return found


def _masks(builder: Any, *lanes: Any) -> Any:
    """A tuple of uint64, bit i of each being lane i of one of the vectors."""
    masks = ir.Constant(ir.ArrayType(_I64, len(lanes)), ir.Undefined)
    for i, mask in enumerate(lanes):
        masks = builder.insert_value(masks, builder.bitcast(mask, _I64), i)
    return masks


@llvm(types.UniTuple(types.uint64, 4), data, types.uint64, data, types.uint64, types.uint8)
def classes64(builder: Any, *arguments: Any) -> Any:
    """The copy and the mask of word64, and the masks of bytes beyond ASCII, of underscores and of
    the marks that may join what is on both sides of them, ' . , ; : "."""
    lanes = _copied(builder, *arguments)
    return _masks(
        builder,
        _word_members(builder, lanes),
        builder.icmp_signed("<", lanes, _constant(0)),
        _equal(builder, lanes, "_"),
        _equal(builder, lanes, "'.,;:\""),
    )


@llvm(types.UniTuple(types.uint64, 4), data, types.uint64)
def joiners64(builder: Any, array: Any, index: Any) -> Any:
    """The masks of ASCII letters, digits, apostrophes and the marks . , ; in 64 bytes."""
    lanes = builder.load(at(builder, array, index, _BYTES), align=1)
    return _masks(
        builder,
        _within(builder, builder.or_(lanes, _constant(0x20)), 97, 122),
        _within(builder, lanes, 48, 57),
        _equal(builder, lanes, "'"),
        _equal(builder, lanes, ".,;"),
    )
