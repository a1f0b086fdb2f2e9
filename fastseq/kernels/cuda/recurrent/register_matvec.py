"""Matrix-vector products whose matrix stays in a multiprocessor's registers.

Four neighbouring threads, the lanes 0 to 3 of a unit, have the weights of its `outputs` columns:
of every 16 rows of the matrix (a *chunk*) lane s has rows 4 s to 4 s + 3. They multiply four
vectors at a time, each lane its rows, and then exchange sums so that lane s ends with those of
vector s. Vectors are in shared memory, and all units read the same four words of one at a time,
which is one access for a warp; a weight, once loaded, is never read from memory again.

`products` makes the functions for given numbers of outputs and of chunks in registers, as LLVM
code on tuples of numbers, which LLVM keeps in registers, where a local array might not be.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastseq.kernels.core.intrinsics import I64, data
from fastseq.kernels.cuda.runtime.instructions import (
    F32,
    emitted,
    fused,
    load_four,
    tuple_of,
    values_of,
)
from fastseq.kernels.cuda.runtime.target import SIMULATED, cuda, device_function

LANES = 4  # threads of a unit, vectors of a block, and numbers read at a time
CHUNK = LANES * LANES  # rows of the matrix that the lanes of a unit share


class Products(NamedTuple):
    """Functions of a kernel; `sums` are outputs of vector 0, of vector 1, and so on.

    no_sums                          sums of zero
    hold(panel, thread, threads)     the weights of this thread
    multiply(sums, held, x, at, row) sums plus the products of the chunks held: vector r begins at
                                     x[at + r * row], and `at` counts from this lane's rows
    multiply_rest(sums, panel, w, step, x, at, row)
                                     the same for the chunks after them, whose weights are at
                                     panel[w], panel[w + step], … in shared memory
    """

    no_sums: tuple[np.float32, ...]
    hold: Any
    multiply: Any
    multiply_rest: Any


@lru_cache(None)
def products(outputs: int, chunks: int, rest: int, span: int = 1) -> Products:
    """The functions for a number of columns per unit, chunks in registers and chunks in shared
    memory; the loop over the latter is unrolled by `span`.

    A panel has the weights in the order of threads: float32[chunk, output, thread, 4].
    """
    if SIMULATED:
        return _simulated(outputs, chunks, rest)
    width, whole = LANES * outputs, types.int64
    sums_type = types.UniTuple(types.float32, width)
    held_type = types.UniTuple(types.float32, max(1, width * chunks))
    no_sums = (np.float32(0),) * width

    def add_chunk(builder: Any, sums: list[Any], weights: list[Any], x: Any, at: Any, row: Any):  # type: ignore[no-untyped-def]
        """Add one chunk's products to `sums`, in place."""
        for r in range(LANES):
            numbers = load_four(builder, x, at)
            at = builder.add(at, row)
            for output in range(outputs):
                total = sums[r * outputs + output]
                for weight, number in zip(weights[output * LANES :], numbers, strict=False):
                    total = fused(builder, weight, number, total)
                sums[r * outputs + output] = total

    @emitted(held_type, data, whole, whole)
    def hold(builder: Any, panel: Any, thread: Any, threads: Any) -> Any:
        numbers = []
        at, step = (builder.mul(value, I64(LANES)) for value in (thread, threads))
        for _ in range(outputs * chunks):
            numbers += load_four(builder, panel, at)
            at = builder.add(at, step)
        return tuple_of(builder, numbers or [F32(0.0)])

    @emitted(sums_type, sums_type, held_type, data, whole, whole)
    def multiply(builder: Any, sums: Any, held: Any, x: Any, at: Any, row: Any) -> Any:
        sums, held = values_of(builder, sums), values_of(builder, held)
        for j in range(chunks):
            where = builder.add(at, I64(j * CHUNK))
            add_chunk(builder, sums, held[j * width : (j + 1) * width], x, where, row)
        return tuple_of(builder, sums)

    def unrolled(count: int) -> Any:
        """multiply_rest for `count` chunks."""

        @emitted(sums_type, sums_type, data, whole, whole, data, whole, whole)
        def multiply_span(
            builder: Any, sums: Any, panel: Any, w: Any, step: Any, x: Any, at: Any, row: Any
        ) -> Any:
            sums = values_of(builder, sums)
            for j in range(count):
                weights = []
                for output in range(outputs):
                    far = builder.mul(step, I64(j * outputs + output))
                    weights += load_four(builder, panel, builder.add(w, far))
                add_chunk(builder, sums, weights, x, builder.add(at, I64(j * CHUNK)), row)
            return tuple_of(builder, sums)

        return multiply_span

    spans, left = divmod(rest, span)
    multiply_span, multiply_left = unrolled(span), unrolled(left)

    @device_function
    def multiply_rest(sums, panel, w, step, x, at, row):
        for j in range(spans):
            sums = multiply_span(
                sums, panel, w + j * span * outputs * step, step, x,
                at + (chunks + j * span) * CHUNK, row,
            )  # fmt: skip
        return multiply_left(
            sums, panel, w + spans * span * outputs * step, step, x,
            at + (chunks + spans * span) * CHUNK, row,
        )  # fmt: skip

    @device_function
    def no_rest(sums, panel, w, step, x, at, row):
        return sums

    return Products(no_sums, hold, multiply, multiply_rest if rest else no_rest)


def _simulated(outputs: int, chunks: int, rest: int) -> Products:
    """The same in NumPy."""

    def hold(panel: Any, thread: int, threads: int) -> Any:
        whole = np.array([panel[i] for i in range(len(panel))], np.float32)
        return whole.reshape(-1, outputs, threads, LANES)[:chunks, :, thread]

    def add(sums: Any, weights: Any, x: Any, at: int, row: int) -> None:
        for r in range(LANES):
            part = np.array([x[at + r * row + i] for i in range(LANES)], np.float32)
            sums[r * outputs : (r + 1) * outputs] += weights @ part

    def multiply(sums: Any, held: Any, x: Any, at: int, row: int) -> Any:
        sums = np.array(sums)
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

    return Products((np.float32(0),) * (LANES * outputs), hold, multiply, multiply_rest)


if SIMULATED:

    @device_function
    def own(a, b, c, d, lane, shared, spare):
        """The sum over a unit's lanes of the output of vector `lane`; a to d: this lane's part of
        it for vectors 0 to 3. All threads of a block must call it.

        spare  index of unused numbers in `shared`, four a thread
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
        """The same in three shuffles: two sums go to the lanes two away, one to the next."""
        high, odd = (lane & 2) != 0, (lane & 1) != 0
        first = c if high else a
        second = d if high else b
        first += cuda.shfl_xor_sync(0xFFFFFFFF, a if high else c, 2)
        second += cuda.shfl_xor_sync(0xFFFFFFFF, b if high else d, 2)
        kept = second if odd else first
        return kept + cuda.shfl_xor_sync(0xFFFFFFFF, first if odd else second, 1)
