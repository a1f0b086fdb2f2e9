"""Matrix-vector products whose matrix stays in a multiprocessor's registers.

Four neighbouring threads, the lanes 0 to 3 of a unit, have the weights of its `outputs` columns:
of every 16 rows of the matrix (a *chunk*) lane s has rows 4 s to 4 s + 3. They multiply four
vectors at a time, each lane its rows, and then exchange sums so that lane s ends with those of
vector s. A vector lies in shared memory, and all units read the same four words of it at a time,
which is one access for a warp; a weight, once loaded, is never read from memory again.

`Products` makes the functions for given numbers of outputs and of chunks in registers, as LLVM
code: tuples of numbers, which LLVM keeps in registers, where a local array might not be.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from fastseq.kernels.cuda.runtime.instructions import data_of, load_at, tuple_of, values_of
from fastseq.kernels.cuda.runtime.target import SIMULATED, cuda, device_function, intrinsic

LANES = 4  # threads of a unit, vectors of a block, and numbers read at a time
CHUNK = LANES * LANES  # rows of the matrix that the lanes of a unit have in turn

_F32 = ir.FloatType()


class Products(NamedTuple):
    """Functions of a kernel; `sums` are outputs of vector 0, of vector 1, and so on.

    nothing()                        sums of zero
    hold(panel, thread, threads)     the weights of this thread
    multiply(sums, held, x, at, row) sums plus the products of the chunks held: vector r begins at
                                     x[at + r * row], and `at` counts from this lane's rows
    multiply_rest(sums, panel, w, step, x, at, row)
                                     the same for the chunks after them, whose weights lie at
                                     panel[w], panel[w + step], … in shared memory
    """

    nothing: Any
    hold: Any
    multiply: Any
    multiply_rest: Any


@lru_cache(None)
def products(outputs: int, chunks: int, rest: int, span: int = 1) -> Products:
    """The functions for so many columns a unit, chunks in registers and in shared memory, of which
    `span` are written out at a time.

    A panel has the weights as the threads take them: float32[chunk, output, thread, 4].
    """
    if SIMULATED:
        return _simulated(outputs, chunks, rest)
    width, held_width = LANES * outputs, max(1, LANES * outputs * chunks)
    sums_type = types.UniTuple(types.float32, width)
    held_type = types.UniTuple(types.float32, held_width)

    @intrinsic
    def nothing(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return tuple_of(context, builder, sums_type, [ir.Constant(_F32, 0.0)] * width)

        return sums_type(), generate

    @intrinsic
    def hold(typing_context: Any, panel: Any, thread: Any, threads: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature.args[0], arguments[0])
            thread, threads = (
                context.cast(builder, value, kind, types.int64)
                for value, kind in zip(arguments[1:], signature.args[1:], strict=True)
            )
            numbers = []
            at = builder.mul(thread, thread.type(LANES))
            step = builder.mul(threads, thread.type(LANES))
            for _ in range(outputs * chunks):
                numbers += load_at(builder, data, at)
                at = builder.add(at, step)
            if not numbers:
                numbers = [ir.Constant(_F32, 0.0)]
            return tuple_of(context, builder, held_type, numbers)

        return held_type(panel, thread, threads), generate

    @intrinsic
    def multiply(typing_context: Any, sums: Any, held: Any, x: Any, at: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sums = values_of(builder, arguments[0], width)
            held = values_of(builder, arguments[1], held_width)
            data = data_of(context, builder, signature.args[2], arguments[2])
            at, row = (
                context.cast(builder, value, kind, types.int64)
                for value, kind in zip(arguments[3:], signature.args[3:], strict=True)
            )
            for j in range(chunks):
                weights = held[j * LANES * outputs : (j + 1) * LANES * outputs]
                where = builder.add(at, at.type(j * CHUNK))
                _multiply(builder, sums, weights, data, where, row, outputs)
            return tuple_of(context, builder, sums_type, sums)

        return sums_type(sums, held, x, at, row), generate

    whole, left = divmod(rest, span)
    multiply_span, multiply_left = (_spans(outputs, sums_type, n) for n in (span, left))

    @device_function
    def multiply_rest(sums, panel, w, step, x, at, row):
        for j in range(whole):
            sums = multiply_span(
                sums, panel, w + j * span * outputs * step, step, x,
                at + (chunks + j * span) * CHUNK, row,
            )  # fmt: skip
        return multiply_left(
            sums, panel, w + whole * span * outputs * step, step, x,
            at + (chunks + whole * span) * CHUNK, row,
        )  # fmt: skip

    @device_function
    def no_rest(sums, panel, w, step, x, at, row):
        return sums

    return Products(nothing, hold, multiply, multiply_rest if rest else no_rest)


def _spans(outputs: int, sums_type: Any, count: int) -> Any:
    """multiply_rest for so many chunks, written out."""

    @intrinsic
    def multiply_span(
        typing_context: Any, sums: Any, panel: Any, w: Any, step: Any, x: Any, at: Any, row: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sums = values_of(builder, arguments[0], LANES * outputs)
            panel = data_of(context, builder, signature.args[1], arguments[1])
            data = data_of(context, builder, signature.args[4], arguments[4])
            w, step, at, row = (
                context.cast(builder, arguments[i], signature.args[i], types.int64)
                for i in (2, 3, 5, 6)
            )
            for j in range(count):
                weights = []
                for output in range(outputs):
                    far = builder.mul(step, step.type(j * outputs + output))
                    weights += load_at(builder, panel, builder.add(w, far))
                where = builder.add(at, at.type(j * CHUNK))
                _multiply(builder, sums, weights, data, where, row, outputs)
            return tuple_of(context, builder, sums_type, sums)

        return sums_type(sums, panel, w, step, x, at, row), generate

    return multiply_span


def _multiply(
    builder: Any, sums: list[Any], weights: list[Any], x: Any, at: Any, row: Any, outputs: int
) -> None:
    """Add one chunk's products to `sums`, in place."""
    kind = ir.FunctionType(_F32, [_F32] * 3)
    fma = builder.module.globals.get("llvm.fma.f32") or ir.Function(
        builder.module, kind, "llvm.fma.f32"
    )
    for r in range(LANES):
        numbers = load_at(builder, x, at)
        at = builder.add(at, row)
        for output in range(outputs):
            total = sums[r * outputs + output]
            for i in range(LANES):
                total = builder.call(fma, [weights[output * LANES + i], numbers[i], total])
            sums[r * outputs + output] = total


def _simulated(outputs: int, chunks: int, rest: int) -> Products:
    """The same in NumPy."""

    def nothing() -> Any:
        return np.zeros(LANES * outputs, np.float32)

    def hold(panel: Any, thread: int, threads: int) -> Any:
        whole = np.array([panel[i] for i in range(len(panel))], np.float32)
        return whole.reshape(-1, outputs, threads, LANES)[:chunks, :, thread]

    def add(sums: Any, weights: Any, x: Any, at: int, row: int) -> Any:
        for r in range(LANES):
            part = np.array([x[at + r * row + i] for i in range(LANES)], np.float32)
            sums[r * outputs : (r + 1) * outputs] += weights @ part
        return sums

    def multiply(sums: Any, held: Any, x: Any, at: int, row: int) -> Any:
        for j in range(chunks):
            add(sums, held[j], x, at + j * CHUNK, row)
        return sums

    def multiply_rest(sums: Any, panel: Any, w: int, step: int, x: Any, at: int, row: int) -> Any:
        for j in range(rest):
            weights = [
                [panel[w + (j * outputs + o) * step + i] for i in range(LANES)]
                for o in range(outputs)
            ]
            add(sums, np.array(weights, np.float32), x, at + (chunks + j) * CHUNK, row)
        return sums

    return Products(nothing, hold, multiply, multiply_rest)


if SIMULATED:

    @device_function
    def own(a, b, c, d, lane, shared, spare):
        """The sum over a unit's lanes of the output of vector `lane`; a to d: this lane's part of
        it for vectors 0 to 3. To be called by all threads of a block.

        spare  where in `shared` four numbers a thread may be written
        """
        thread = cuda.threadIdx.x
        for r, part in enumerate((a, b, c, d)):
            shared[spare + LANES * thread + r] = part
        cuda.syncthreads()
        first = spare + LANES * (thread - lane) + lane
        total = np.float32(0)
        for s in range(LANES):
            total += np.float32(shared[first + LANES * s])
        cuda.syncthreads()
        return total

else:

    @device_function
    def own(a, b, c, d, lane, shared, spare):
        """The same in three exchanges: two sums go to the lanes two away, one to the next."""
        high, odd = (lane & 2) != 0, (lane & 1) != 0
        first = c if high else a
        second = d if high else b
        first += cuda.shfl_xor_sync(0xFFFFFFFF, a if high else c, 2)
        second += cuda.shfl_xor_sync(0xFFFFFFFF, b if high else d, 2)
        kept = second if odd else first
        return kept + cuda.shfl_xor_sync(0xFFFFFFFF, first if odd else second, 1)
