"""Vectors of LANES float32 (and int32) numbers as Numba values.

    x = load(a, i)                  # a[i:i + LANES]
    y = fma(x, splat(2.0), y)       # 2 x + y, one rounding where the CPU can
    y = select(x > 0.0, y, -x)
    store(out, i, y)

`+ - * /`, comparisons and, on int32 vectors, `& | ^ << >>` are written as for numbers; where the
other operand is a plain number, it is broadcast. Comparisons give masks, for `& | ~`, `select` and
`any_lane`. Bounds are not checked: the caller guarantees that the elements read and written exist
(`load_part` and `store_part` access the first `count` only).

LLVM turns each operation into the machine's own instruction; `fma` is fused where the CPU can, and
a product and a sum elsewhere.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import lower_builtin, models, register_model, type_callable

from fastseq.kernels.core.intrinsics import at, broadcast, data, llvm, unchanged
from fastseq.kernels.core.width import LANES

_F32, _I1, _I32 = ir.FloatType(), ir.IntType(1), ir.IntType(32)
_FLOATS, _INTS, _MASK = (ir.VectorType(kind, LANES) for kind in (_F32, _I32, _I1))


class _FloatVector(types.Type):
    pass


class _IntVector(types.Type):
    pass


class _MaskVector(types.Type):
    pass


floats, ints, mask = (
    _FloatVector(f"float32x{LANES}"),
    _IntVector(f"int32x{LANES}"),
    _MaskVector(f"mask{LANES}"),
)


def _model(of: type, backend: Any) -> None:
    class Model(models.PrimitiveModel):
        def __init__(self, manager: Any, frontend: Any) -> None:
            super().__init__(manager, frontend, backend)

    register_model(of)(Model)


_model(_FloatVector, _FLOATS)
_model(_IntVector, _INTS)
_model(_MaskVector, _MASK)


# ---- code generation ------------------------------------------------------------------------


def spread(builder: Any, value: Any) -> Any:
    """A vector whose lanes all hold `value`."""
    return broadcast(builder, value, LANES)


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic by its full name; llvmlite's own declaration has no vector types."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, in one instruction where there is one."""
    return call(builder, f"llvm.fmuladd.v{LANES}f32", _FLOATS, [a, b, c])


def _as(context: Any, builder: Any, value: Any, of: Any, wanted: Any) -> Any:
    """`value` of the type `of` as a vector of the type `wanted`."""
    if of == wanted:
        return value
    scalar = types.float32 if wanted == floats else types.int32
    return spread(builder, context.cast(builder, value, of, scalar))


def _vector_of(array: Any, *others: Any) -> Any:
    """The vector type of an array's elements."""
    found = {types.float32: floats, types.int32: ints}.get(array.dtype)
    if found is None:
        raise TypingError(f"a vector of {array.dtype}, expected float32 or int32")
    return found


def _check_part(array: Any, *others: Any) -> Any:
    if _vector_of(array) != floats:
        raise TypingError(f"a float32 vector from an array of {array.dtype}")
    return floats


def _check_store(array: Any, index: Any, vector: Any, *others: Any) -> Any:
    if _vector_of(array) != vector:
        raise TypingError(f"{vector} into an array of {array.dtype}")
    return types.void


def _first_lanes(builder: Any, count: Any) -> Any:
    """The mask of the lanes below `count` (int64)."""
    lane = ir.Constant(_INTS, list(range(LANES)))
    return builder.icmp_signed("<", lane, spread(builder, builder.trunc(count, _I32)))


# ---- loading, storing, making ---------------------------------------------------------------


@llvm(_vector_of, data, types.int64)
def load(builder: Any, array: Any, index: Any) -> Any:
    """array[index:index + LANES], of float32 or int32."""
    kind = ir.VectorType(array.type.pointee, LANES)
    return builder.load(at(builder, array, index, kind), align=4)


@llvm(_check_store, data, types.int64, unchanged)
def store(builder: Any, array: Any, index: Any, vector: Any) -> None:
    """array[index:index + LANES] = vector."""
    builder.store(vector, at(builder, array, index, vector.type), align=4)


@llvm(_check_part, data, types.int64, types.int64)
def load_part(builder: Any, array: Any, index: Any, count: Any) -> Any:
    """array[index:index + count], of float32, in the first `count` lanes; zero in the others."""
    zeros = ir.Constant(_FLOATS, [0.0] * LANES)
    place = at(builder, array, index, _FLOATS)
    arguments = [place, _I32(4), _first_lanes(builder, count), zeros]
    return call(builder, f"llvm.masked.load.v{LANES}f32.p0", _FLOATS, arguments)


@llvm(_check_store, data, types.int64, floats, types.int64)
def store_part(builder: Any, array: Any, index: Any, vector: Any, count: Any) -> None:
    """array[index:index + count] = the first `count` lanes of a float32 vector."""
    place = at(builder, array, index, _FLOATS)
    arguments = [vector, place, _I32(4), _first_lanes(builder, count)]
    call(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), arguments)


def _check_low(array: Any, *others: Any) -> Any:
    if array.dtype not in (types.uint8, types.uint16):
        raise TypingError(f"the low bits of lanes into an array of {array.dtype}")
    return types.void


@llvm(_check_low, data, types.int64, ints)
def store_low(builder: Any, array: Any, index: Any, vector: Any) -> None:
    """array[index:index + LANES] = the low bits of int32 lanes; an array of uint8 or uint16."""
    kind = ir.VectorType(array.type.pointee, LANES)
    builder.store(builder.trunc(vector, kind), at(builder, array, index, kind), align=1)


@llvm(_check_low, data, types.int64, ints, types.int64)
def store_low_part(builder: Any, array: Any, index: Any, vector: Any, count: Any) -> None:
    """`store_low` of the first `count` lanes."""
    element = array.type.pointee
    kind = ir.VectorType(element, LANES)
    name = f"llvm.masked.store.v{LANES}i{element.width}.p0"
    arguments = [
        builder.trunc(vector, kind), at(builder, array, index, kind), _I32(1),
        _first_lanes(builder, count),
    ]  # fmt: skip
    call(builder, name, ir.VoidType(), arguments)


# splat(value): a float32 vector whose lanes all hold `value`; splat_int: an int32 vector
splat = llvm(floats, types.float32)(spread)
splat_int = llvm(ints, types.int32)(spread)


@llvm(ints)
def lane_numbers(builder: Any) -> Any:
    """The int32 vector 0, 1, …, LANES - 1."""
    return ir.Constant(_INTS, list(range(LANES)))


# ---- functions of lanes ---------------------------------------------------------------------


def _lanewise(name: str, arity: int) -> Any:
    """An intrinsic that is LLVM's `name` on float32 vectors."""

    def emit(builder: Any, *values: Any) -> Any:
        return call(builder, f"llvm.{name}.v{LANES}f32", _FLOATS, list(values))

    return llvm(floats, *[_as] * arity)(emit)


fma = _lanewise("fmuladd", 3)  # a b + c, rounded once where the CPU can
square_root = _lanewise("sqrt", 1)  # correctly rounded
absolute = _lanewise("fabs", 1)


@llvm(floats, _as, _as)
def minimum(builder: Any, a: Any, b: Any) -> Any:
    """a < b ? a : b in each lane: b where either is NaN (as on x86)."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@llvm(floats, _as, _as)
def maximum(builder: Any, a: Any, b: Any) -> Any:
    """a > b ? a : b in each lane: b where either is NaN (as on x86)."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@llvm(lambda where, a, b: ints if ints in (a, b) else floats, mask, _as, _as)
def select(builder: Any, where: Any, a: Any, b: Any) -> Any:
    """a in the lanes where the mask is set, b in the others; of float32 if both are numbers."""
    return builder.select(where, a, b)


bits = llvm(ints, floats)(lambda b, v: b.bitcast(v, _INTS))  # the bits of each float32
from_bits = llvm(floats, ints)(lambda b, v: b.bitcast(v, _FLOATS))  # the reverse
to_float = llvm(floats, ints)(lambda b, v: b.sitofp(v, _FLOATS))  # the nearest float32


# ---- reductions over the lanes --------------------------------------------------------------


def _reduction(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Combine the halves until one lane is left: one order, so the same bits each time."""

    def emit(builder: Any, values: Any) -> Any:
        width = LANES
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    values, values, ir.Constant(ir.VectorType(_I32, width), list(lanes))
                )
                for lanes in (range(width), range(width, 2 * width))
            ]
            values = combine(builder, *halves)
        return builder.extract_element(values, _I32(0))

    return llvm(types.float32, floats)(emit)


sum_lanes = _reduction(lambda b, x, y: b.fadd(x, y))
# the largest lane; unspecified where there is a NaN
largest_lane = _reduction(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


@llvm(types.boolean, mask)
def any_lane(builder: Any, lanes: Any) -> Any:
    """Whether the mask is set in any lane."""
    number = builder.bitcast(lanes, ir.IntType(LANES))
    return builder.icmp_unsigned("!=", number, number.type(0))


# ---- operators ------------------------------------------------------------------------------


def _operator(function: Any, on: Any, result: Any, emit: Callable[[Any, Any, Any], Any]) -> None:
    """Define `function` for two vectors of the type `on`, or one and a plain number."""
    scalars: tuple[Any, ...] = {
        floats: (types.Float, types.Integer), ints: (types.Integer,), mask: (),
    }[on]  # fmt: skip

    @type_callable(function)
    def typer(context: Any) -> Any:
        def typed(a: Any, b: Any) -> Any:
            fits = on in (a, b) and all(x == on or isinstance(x, scalars) for x in (a, b))
            return result if fits else None

        return typed

    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = (
            _as(context, builder, value, of, on)
            for value, of in zip(arguments, signature.args, strict=True)
        )
        return emit(builder, a, b)

    lower_builtin(function, on, on)(lowered)
    for scalar in scalars:
        lower_builtin(function, on, scalar)(lowered)
        lower_builtin(function, scalar, on)(lowered)


_operator(operator.add, floats, floats, lambda b, x, y: b.fadd(x, y))
_operator(operator.sub, floats, floats, lambda b, x, y: b.fsub(x, y))
_operator(operator.mul, floats, floats, lambda b, x, y: b.fmul(x, y))
_operator(operator.truediv, floats, floats, lambda b, x, y: b.fdiv(x, y))

_operator(operator.add, ints, ints, lambda b, x, y: b.add(x, y))
_operator(operator.sub, ints, ints, lambda b, x, y: b.sub(x, y))
_operator(operator.mul, ints, ints, lambda b, x, y: b.mul(x, y))
_operator(operator.lshift, ints, ints, lambda b, x, y: b.shl(x, y))
_operator(operator.rshift, ints, ints, lambda b, x, y: b.ashr(x, y))
_operator(operator.xor, ints, ints, lambda b, x, y: b.xor(x, y))

for _on in (ints, mask):
    _operator(operator.and_, _on, _on, lambda b, x, y: b.and_(x, y))
    _operator(operator.or_, _on, _on, lambda b, x, y: b.or_(x, y))


def _comparison(function: Any, sign: str) -> None:
    # a NaN is unequal to everything, and no other comparison with it is true
    ordered = "fcmp_unordered" if sign == "!=" else "fcmp_ordered"
    _operator(function, floats, mask, lambda b, x, y: getattr(b, ordered)(sign, x, y))
    _operator(function, ints, mask, lambda b, x, y: b.icmp_signed(sign, x, y))


_comparison(operator.lt, "<")
_comparison(operator.le, "<=")
_comparison(operator.gt, ">")
_comparison(operator.ge, ">=")
_comparison(operator.eq, "==")
_comparison(operator.ne, "!=")


def _unary(function: Any, on: Any, emit: Callable[[Any, Any], Any]) -> None:
    @type_callable(function)
    def typer(context: Any) -> Any:
        return lambda a: on if a == on else None

    @lower_builtin(function, on)
    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit(builder, arguments[0])


_unary(operator.neg, floats, lambda b, x: b.fneg(x))
_unary(operator.invert, mask, lambda b, x: b.not_(x))
