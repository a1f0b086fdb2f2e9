"""Numba intrinsics made of functions that emit LLVM code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I64 = ir.IntType(64)


def llvm(result: Any, *parameters: Any, make: Callable[..., Any] = intrinsic) -> Callable[..., Any]:
    """Decorator that makes an intrinsic of a function emit(builder, *values).

    result      Numba type of the result, or a function from the types of the arguments to it
                that raises TypingError where they do not fit
    parameters  for each argument its Numba type, or a function (context, builder, value, type of
                the value, type of the result) that converts whatever was given
    make        Numba's decorator for intrinsics: of the CPU, or of CUDA
    """
    names = [f"argument{i}" for i in range(len(parameters))]

    def decorate(emit: Callable[..., Any]) -> Any:
        def define(typing_context: Any, *given: Any) -> Any:
            returned = result if isinstance(result, types.Type) else result(*given)
            pairs = zip(parameters, given, strict=True)
            accepted = [p if isinstance(p, types.Type) else kind for p, kind in pairs]

            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                values = [
                    value if isinstance(p, types.Type) else p(context, builder, value, of, returned)
                    for p, value, of in zip(parameters, arguments, signature.args, strict=True)
                ]
                emitted = emit(builder, *values)
                return context.get_dummy_value() if emitted is None else emitted

            return returned(*accepted), generate

        define.__name__, define.__doc__ = emit.__name__, emit.__doc__
        define.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in ["typing_context", *names]
        )
        return make(define)

    return decorate


# ---- parameters of `llvm`


def unchanged(context: Any, builder: Any, value: Any, of: Any, result: Any) -> Any:
    """Accept any type."""
    return value


def data(context: Any, builder: Any, array: Any, of: Any, result: Any) -> Any:
    """Accept an array: a pointer to its first element."""
    return context.make_array(of)(context, builder, array).data


# ---- for functions that emit code


def at(builder: Any, base: Any, index: Any, kind: Any) -> Any:
    """The address base[index], as a pointer to the LLVM type `kind`."""
    return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())


def request(builder: Any, place: Any) -> None:
    """Request the cache line at an address, a pointer to bytes, before it is needed."""
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
    call = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
    builder.call(call, [place, number(0), number(3), number(1)])


def broadcast(builder: Any, value: Any, lanes: int) -> Any:
    """A vector whose lanes all hold `value`."""
    vector = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def switch(builder: Any, value: Any, cases: Iterable[tuple[int, Callable[[], None]]]) -> None:
    """Run the code that is emitted for the int64 `value`, none for other values."""
    after = builder.append_basic_block("done")
    choice = builder.switch(value, after)
    for number, emit in cases:
        case = builder.append_basic_block(f"case{number}")
        choice.add_case(I64(number), case)
        builder.position_at_end(case)
        emit()
        builder.branch(after)
    builder.position_at_end(after)


# ---- memory by its address


def array_at(kind: Any) -> Callable[..., Any]:
    """The intrinsic that makes an array of a Numba type from an address and a length (int64).

    Numba's own carray is a function of its own, which may not return an array without reference
    counting.
    """
    of_kind = types.Array(kind, 1, "C")

    @intrinsic  # type: ignore[untyped-decorator]
    def made(typing_context: Any, address: Any, length: Any) -> Any:
        """A one-dimensional array over memory that the caller keeps."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            from numba.np import arrayobj  # 0.05 s, which kernels from the cache do not need

            of_value = context.get_data_type(kind)
            size = context.get_constant(types.intp, context.get_abi_sizeof(of_value))
            array = arrayobj.make_array(of_kind)(context, builder)
            arrayobj.populate_array(
                array,
                data=builder.inttoptr(arguments[0], of_value.as_pointer()),
                shape=[arguments[1]],
                strides=[size],
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()

        return of_kind(types.int64, types.int64), generate

    return made  # type: ignore[no-any-return]
