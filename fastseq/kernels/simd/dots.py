"""The steps of a tile's sums: how the 32-bit words of a column of A and a row of B are multiplied.

A word is a float32, two bfloat16 or four bytes, of A unsigned and of B signed, so a step of a tile
is one, two or four steps of k. Where the CPU has one instruction for a word (vdpbf16ps, vpdpbusd),
a step is that. Elsewhere a step has two phases, one for every other number of a word:

    bfloat16  shifts and masks make float32 of it: as exact, at half the speed of float32
    bytes     16-bit integers are multiplied and added in pairs, which cannot overflow (a product
              of the whole bytes, vpmaddubsw, can): the same sums as those of vpdpbusd

$FASTSEQ_WORDS=portable leaves the instructions out, for tests and comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from fastseq.kernels.core.intrinsics import llvm
from fastseq.kernels.core.width import LANES, WORD_INSTRUCTIONS
from fastseq.kernels.simd.floats import call, fused, ints

_F32, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_SHORTS, _WIDE = (ir.VectorType(kind, 2 * LANES) for kind in (_I16, _I32))
_BITS = {16: "512", 8: "256", 4: "128"}[LANES]  # of a vector

Emit = Callable[[Any, Any], Any]


class Phase(NamedTuple):
    """sums = add(a(words of A), b(words of B), sums)."""

    a: Emit  # (builder, words) -> an operand
    b: Emit
    add: Callable[[Any, Any, Any, Any], Any]  # (builder, operand, operand, sums) -> sums


class Dot(NamedTuple):
    """A step: the LLVM type of the sums, and its phases in order."""

    sums: Any
    phases: tuple[Phase, ...]


def _plain(builder: Any, words: Any) -> Any:
    return words


def _as_floats(builder: Any, words: Any) -> Any:
    return builder.bitcast(words, _FLOATS)


# ---- bfloat16


def _upper(builder: Any, words: Any) -> Any:
    return _as_floats(builder, builder.and_(words, ir.Constant(_INTS, [0xFFFF0000] * LANES)))


def _lower(builder: Any, words: Any) -> Any:
    return _as_floats(builder, builder.shl(words, ir.Constant(_INTS, [16] * LANES)))


_BFLOAT16_PHASES = (  # in the order of vdpbf16ps
    Phase(_upper, _upper, fused),
    Phase(_lower, _lower, fused),
)


def _pair_of_bfloat16(builder: Any, a: Any, b: Any, sums: Any) -> Any:
    return call(builder, f"llvm.x86.avx512bf16.dpbf16ps.{_BITS}", _FLOATS, [sums, a, b])


# ---- bytes


def _shorts(builder: Any, words: Any) -> Any:
    return builder.bitcast(words, _SHORTS)


def _even_bytes(builder: Any, words: Any) -> Any:
    eight = ir.Constant(_SHORTS, [8] * 2 * LANES)
    return builder.ashr(builder.shl(_shorts(builder, words), eight), eight)


def _odd_bytes(builder: Any, words: Any) -> Any:
    return builder.ashr(_shorts(builder, words), ir.Constant(_SHORTS, [8] * 2 * LANES))


def _add_pairs(builder: Any, a: Any, b: Any, sums: Any) -> Any:
    """sums + the sums of two products of 16-bit integers: LLVM makes vpmaddwd of it."""
    products = builder.mul(builder.sext(a, _WIDE), builder.sext(b, _WIDE))
    halves = [
        builder.shuffle_vector(
            products, products, ir.Constant(_INTS, list(range(first, 2 * LANES, 2)))
        )
        for first in (0, 1)
    ]
    return builder.add(sums, builder.add(*halves))


def _even_unsigned(builder: Any, words: Any) -> Any:
    low = ir.Constant(_SHORTS, [0xFF] * 2 * LANES)
    return builder.and_(_shorts(builder, words), low)


def _odd_unsigned(builder: Any, words: Any) -> Any:
    eight = ir.Constant(_SHORTS, [8] * 2 * LANES)
    return builder.lshr(_shorts(builder, words), eight)


_BYTE_PHASES = (
    Phase(_even_unsigned, _even_bytes, _add_pairs),
    Phase(_odd_unsigned, _odd_bytes, _add_pairs),
)


def _four_bytes(builder: Any, a: Any, b: Any, sums: Any) -> Any:
    return call(builder, f"llvm.x86.avx512.vpdpbusd.{_BITS}", _INTS, [sums, a, b])


# ---- those of this machine

FLOAT32 = Dot(_FLOATS, (Phase(_as_floats, _as_floats, fused),))
BFLOAT16 = Dot(
    _FLOATS,
    (Phase(_plain, _plain, _pair_of_bfloat16),)
    if "bfloat16" in WORD_INSTRUCTIONS
    else _BFLOAT16_PHASES,
)
BYTES = Dot(
    _INTS,
    (Phase(_plain, _plain, _four_bytes),) if "bytes" in WORD_INSTRUCTIONS else _BYTE_PHASES,
)


@llvm(ints, ints, ints, ints)
def dot_bytes(builder: Any, a: Any, b: Any, sums: Any) -> Any:
    """sums + the sums of the products of four unsigned bytes of a and four signed ones of b, in
    each lane."""
    for phase in BYTES.phases:
        sums = phase.add(builder, phase.a(builder, a), phase.b(builder, b), sums)
    return sums
