"""Vectors of LANES float32 (and int32) numbers as Numba values.

    x = load(a, i)                  # a[i:i + LANES]
    y = fma(x, splat(2.0), y)       # 2 x + y, one rounding where the CPU can
    y = select(x > 0.0, y, -x)
    store(out, i, y)

`+ - * /`, comparisons and, on int32 vectors, `& | ^ << >>` are written as for numbers; a plain
number beside a vector is spread over its lanes. Comparisons give masks, which `& | ~`, `select`,
`any_lane` and `all_lanes` take. Nothing checks bounds: the caller guarantees that the elements
read and written are there (`load_part` and `store_part` touch the first `count` only).

LLVM turns each operation into the machine's own instruction; `fma` is fused where the CPU has it
and a product and a sum elsewhere.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
)

from fastseq.kernels.core.width import LANES

_F32, _I1, _I32, _I64 = ir.FloatType(), ir.IntType(1), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS, _MASK = (ir.VectorType(kind, LANES) for kind in (_F32, _I32, _I1))


class _Vector(types.Type):
    pass


class _FloatVector(_Vector):
    def __init__(self) -> None:
        super().__init__(f"float32x{LANES}")


class _IntVector(_Vector):
    def __init__(self) -> None:
        super().__init__(f"int32x{LANES}")


class _MaskVector(_Vector):
    def __init__(self) -> None:
        super().__init__(f"mask{LANES}")


floats, ints, mask = _FloatVector(), _IntVector(), _MaskVector()


def _model(of: type, backend: Any) -> None:
    class Model(models.PrimitiveModel):
        def __init__(self, manager: Any, frontend: Any) -> None:
            super().__init__(manager, frontend, backend)

    register_model(of)(Model)


_model(_FloatVector, _FLOATS)
_model(_IntVector, _INTS)
_model(_MaskVector, _MASK)


# ---- what code generation shares -----------------------------------------------------------


def element(context: Any, builder: Any, array_type: Any, array: Any, index: Any, to: Any) -> Any:
    """The address of array[index] (one dimension), as a pointer to the LLVM type `to`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def spread(builder: Any, value: Any) -> Any:
    """A vector whose lanes all hold `value`."""
    vector = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    zeros = ir.Constant(_INTS, [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def call_llvm(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic by its full name: llvmlite's own declaring knows no vector types."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, in one instruction where there is one."""
    return call_llvm(builder, f"llvm.fmuladd.v{LANES}f32", _FLOATS, [a, b, c])


def _as(context: Any, builder: Any, value: Any, of: Any, wanted: Any) -> Any:
    """`value` of the type `of` as a vector of the type `wanted`."""
    if of == wanted:
        return value
    scalar = types.float32 if wanted == floats else types.int32
    return spread(builder, context.cast(builder, value, of, scalar))


def _vector_of(array: Any) -> Any:
    """The vector type of an array's elements; other elements would be read as what they are not."""
    found = {types.float32: floats, types.int32: ints}.get(array.dtype)
    if found is None:
        raise TypingError(f"a vector of {array.dtype}, expected float32 or int32")
    return found


def _expect(array: Any, vector: Any) -> None:
    if _vector_of(array) != vector:
        raise TypingError(f"{vector} beside an array of {array.dtype}")


def _first_lanes(builder: Any, count: Any) -> Any:
    """The mask of the lanes below `count` (int64)."""
    lane = ir.Constant(_INTS, list(range(LANES)))
    return builder.icmp_signed("<", lane, spread(builder, builder.trunc(count, _I32)))


# ---- loading, storing, making ---------------------------------------------------------------


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index:index + LANES], of float32 or int32."""
    result = _vector_of(array)
    backend = _FLOATS if result == floats else _INTS

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = element(context, builder, signature.args[0], *arguments, backend)
        return builder.load(place, align=4)

    return result(array, types.int64), codegen


@intrinsic
def store(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index:index + LANES] = vector."""
    _expect(array, vector)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = element(context, builder, signature.args[0], *arguments[:2], arguments[2].type)
        builder.store(arguments[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic
def load_part(typing_context: Any, array: Any, index: Any, count: Any) -> Any:
    """array[index:index + count], of float32, in the first `count` lanes; zero in the others."""
    _expect(array, floats)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = element(context, builder, signature.args[0], *arguments[:2], _FLOATS)
        arguments = [
            place,
            _I32(4),
            _first_lanes(builder, arguments[2]),
            ir.Constant(_FLOATS, [0.0] * LANES),
        ]
        return call_llvm(builder, f"llvm.masked.load.v{LANES}f32.p0", _FLOATS, arguments)

    return floats(array, types.int64, types.int64), codegen


@intrinsic
def store_part(typing_context: Any, array: Any, index: Any, vector: Any, count: Any) -> Any:
    """array[index:index + count] = the first `count` lanes of a float32 vector."""
    _expect(array, vector)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = element(context, builder, signature.args[0], *arguments[:2], _FLOATS)
        kept = _first_lanes(builder, arguments[3])
        arguments = [arguments[2], place, _I32(4), kept]
        call_llvm(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(array, types.int64, floats, types.int64), codegen


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """A float32 vector whose lanes all hold `value`."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0])

    return floats(types.float32), codegen


@intrinsic
def splat_int(typing_context: Any, value: Any) -> Any:
    """An int32 vector whose lanes all hold `value`."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0])

    return ints(types.int32), codegen


@intrinsic
def lane_numbers(typing_context: Any) -> Any:
    """The int32 vector 0, 1, …, LANES - 1."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_INTS, list(range(LANES)))

    return ints(), codegen


# ---- functions of lanes ---------------------------------------------------------------------


def _lanewise(name: str, arity: int, doc: str) -> Any:
    """An intrinsic that is LLVM's `name` on float32 vectors."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = [
            _as(context, builder, value, of, floats)
            for value, of in zip(arguments, signature.args, strict=True)
        ]
        return call_llvm(builder, f"llvm.{name}.v{LANES}f32", _FLOATS, values)

    if arity == 1:

        def one(typing_context: Any, a: Any) -> Any:
            return floats(a), codegen

        build: Callable[..., Any] = one
    elif arity == 2:

        def two(typing_context: Any, a: Any, b: Any) -> Any:
            return floats(a, b), codegen

        build = two
    else:

        def three(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
            return floats(a, b, c), codegen

        build = three
    build.__doc__ = doc
    return intrinsic(build)


fma = _lanewise("fmuladd", 3, "a b + c, rounded once where the CPU can.")
square_root = _lanewise("sqrt", 1, "The square root of each lane, correctly rounded.")
absolute = _lanewise("fabs", 1, "Each lane without its sign.")
nearest = _lanewise("rint", 1, "Each lane rounded to a whole number, halves to even.")
floor = _lanewise("floor", 1, "The largest whole number not above each lane.")


def _ordered(comparison: str, doc: str) -> Any:
    def choose(typing_context: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a, b = (
                _as(context, builder, value, of, floats)
                for value, of in zip(arguments, signature.args, strict=True)
            )
            return builder.select(builder.fcmp_ordered(comparison, a, b), a, b)

        return floats(a, b), codegen

    choose.__doc__ = doc
    return intrinsic(choose)


minimum = _ordered("<", "a < b ? a : b in each lane: b where either is NaN (as x86 has it).")
maximum = _ordered(">", "a > b ? a : b in each lane: b where either is NaN (as x86 has it).")


@intrinsic
def select(typing_context: Any, where: Any, a: Any, b: Any) -> Any:
    """a in the lanes where the mask holds, b in the others; of float32 if both are numbers."""
    result = ints if ints in (a, b) else floats

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = (
            _as(context, builder, value, of, result)
            for value, of in zip(arguments[1:], signature.args[1:], strict=True)
        )
        return builder.select(arguments[0], a, b)

    return result(mask, a, b), codegen


def _converting(result: Any, source: Any, emit: Callable[[Any, Any], Any], doc: str) -> Any:
    def convert(typing_context: Any, vector: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return emit(builder, arguments[0])

        return result(source), codegen

    convert.__doc__ = doc
    return intrinsic(convert)


bits = _converting(ints, floats, lambda b, v: b.bitcast(v, _INTS), "The bits of each float32.")
from_bits = _converting(
    floats, ints, lambda b, v: b.bitcast(v, _FLOATS), "The float32 that each lane's bits stand for."
)
to_int = _converting(
    ints, floats, lambda b, v: b.fptosi(v, _INTS), "Each lane cut to int32, which must hold it."
)
to_float = _converting(
    floats, ints, lambda b, v: b.sitofp(v, _FLOATS), "Each int32 as the nearest float32."
)


# ---- over the lanes -------------------------------------------------------------------------


def _folded(emit: Callable[[Any, Any, Any], Any], doc: str) -> Any:
    """Halves upon halves: always in the same order, so the result has the same bits."""

    def fold(typing_context: Any, vector: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, width = arguments[0], LANES
            while width > 1:
                width //= 2
                halves = [
                    builder.shuffle_vector(
                        values, values, ir.Constant(ir.VectorType(_I32, width), list(lanes))
                    )
                    for lanes in (range(width), range(width, 2 * width))
                ]
                values = emit(builder, *halves)
            return builder.extract_element(values, _I32(0))

        return types.float32(floats), codegen

    fold.__doc__ = doc
    return intrinsic(fold)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


sum_lanes = _folded(lambda b, x, y: b.fadd(x, y), "The sum of the lanes.")
largest_lane = _folded(_larger, "The largest lane; unspecified where there is a NaN.")


@intrinsic
def any_lane(typing_context: Any, lanes: Any) -> Any:
    """Whether the mask holds in any lane."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", number, ir.IntType(LANES)(0))

    return types.boolean(mask), codegen


@intrinsic
def all_lanes(typing_context: Any, lanes: Any) -> Any:
    """Whether the mask holds in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("==", number, ir.IntType(LANES)((1 << LANES) - 1))

    return types.boolean(mask), codegen


# ---- operators ------------------------------------------------------------------------------


def _operator(function: Any, on: Any, result: Any, emit: Callable[[Any, Any, Any], Any]) -> None:
    """Define `function` for two vectors of the type `on`, or one and a plain number."""

    @type_callable(function)
    def typer(context: Any) -> Any:
        def typed(a: Any, b: Any) -> Any:
            if on not in (a, b):
                return None
            allowed = (types.Float, types.Integer) if on == floats else (types.Integer,)
            if all(x == on or (on != mask and isinstance(x, allowed)) for x in (a, b)):
                return result
            return None

        return typed

    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = (
            _as(context, builder, value, of, on)
            for value, of in zip(arguments, signature.args, strict=True)
        )
        return emit(builder, a, b)

    lower_builtin(function, on, on)(lowered)
    if on != mask:
        scalars = (types.Float, types.Integer) if on == floats else (types.Integer,)
        for scalar in scalars:
            lower_builtin(function, on, scalar)(lowered)
            lower_builtin(function, scalar, on)(lowered)


_operator(operator.add, floats, floats, lambda b, x, y: b.fadd(x, y))
_operator(operator.sub, floats, floats, lambda b, x, y: b.fsub(x, y))
_operator(operator.mul, floats, floats, lambda b, x, y: b.fmul(x, y))
_operator(operator.truediv, floats, floats, lambda b, x, y: b.fdiv(x, y))
_operator(operator.lt, floats, mask, lambda b, x, y: b.fcmp_ordered("<", x, y))
_operator(operator.le, floats, mask, lambda b, x, y: b.fcmp_ordered("<=", x, y))
_operator(operator.gt, floats, mask, lambda b, x, y: b.fcmp_ordered(">", x, y))
_operator(operator.ge, floats, mask, lambda b, x, y: b.fcmp_ordered(">=", x, y))
_operator(operator.eq, floats, mask, lambda b, x, y: b.fcmp_ordered("==", x, y))
_operator(operator.ne, floats, mask, lambda b, x, y: b.fcmp_unordered("!=", x, y))

_operator(operator.add, ints, ints, lambda b, x, y: b.add(x, y))
_operator(operator.sub, ints, ints, lambda b, x, y: b.sub(x, y))
_operator(operator.mul, ints, ints, lambda b, x, y: b.mul(x, y))
_operator(operator.and_, ints, ints, lambda b, x, y: b.and_(x, y))
_operator(operator.or_, ints, ints, lambda b, x, y: b.or_(x, y))
_operator(operator.xor, ints, ints, lambda b, x, y: b.xor(x, y))
_operator(operator.lshift, ints, ints, lambda b, x, y: b.shl(x, y))
_operator(operator.rshift, ints, ints, lambda b, x, y: b.ashr(x, y))
_operator(operator.lt, ints, mask, lambda b, x, y: b.icmp_signed("<", x, y))
_operator(operator.le, ints, mask, lambda b, x, y: b.icmp_signed("<=", x, y))
_operator(operator.gt, ints, mask, lambda b, x, y: b.icmp_signed(">", x, y))
_operator(operator.ge, ints, mask, lambda b, x, y: b.icmp_signed(">=", x, y))
_operator(operator.eq, ints, mask, lambda b, x, y: b.icmp_signed("==", x, y))
_operator(operator.ne, ints, mask, lambda b, x, y: b.icmp_signed("!=", x, y))

_operator(operator.and_, mask, mask, lambda b, x, y: b.and_(x, y))
_operator(operator.or_, mask, mask, lambda b, x, y: b.or_(x, y))


@type_callable(operator.neg)
def _type_neg(context: Any) -> Any:
    return lambda a: floats if a == floats else None


@lower_builtin(operator.neg, floats)
def _lower_neg(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.fneg(arguments[0])


@type_callable(operator.invert)
def _type_invert(context: Any) -> Any:
    return lambda a: mask if a == mask else None


@lower_builtin(operator.invert, mask)
def _lower_invert(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.not_(arguments[0])
