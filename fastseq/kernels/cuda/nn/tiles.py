"""Matrix products in tiles: 64 × 64 numbers a block, 4 × 4 a thread.

Sixteen columns of A and rows of B at a time come into shared memory, and each thread has its 16
sums in registers (as a tuple: LLVM keeps those there). A long sum can be shared by several blocks,
each with its own part of it in `out`; `sum_parts` adds them up in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, types

from fastseq.kernels.cuda.runtime.instructions import load_four, tuple_of
from fastseq.kernels.cuda.runtime.target import SIMULATED, blocks_for, cuda, intrinsic, kernel

SIDE = 64  # rows and columns of a tile
DEPTH = 16  # of what is in shared memory at a time
THREADS = 256
_ROW = SIDE + 4  # floats from one row of shared memory to the next: four numbers stay aligned
_RIGHT = DEPTH * _ROW  # where B's numbers begin
SHARED = 4 * 2 * DEPTH * _ROW  # bytes
_EACH = SIDE * DEPTH // THREADS  # numbers that a thread fetches of either matrix
ZERO = np.float32(0)

_F32 = ir.FloatType()

if SIMULATED:

    def no_sums() -> Any:
        return np.zeros(16, np.float32)

    def add_outer(sums: Any, a: Any, i: int, b: Any, j: int) -> Any:
        left = np.array([a[i + r] for r in range(4)], np.float32)
        right = np.array([b[j + r] for r in range(4)], np.float32)
        return sums + np.outer(left, right).reshape(16)

    def pick(sums: Any, i: int) -> Any:
        return sums[i]

else:
    _SUMS = types.UniTuple(types.float32, 16)

    @intrinsic
    def no_sums(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return tuple_of(context, builder, _SUMS, [ir.Constant(_F32, 0.0)] * 16)

        return _SUMS(), generate

    @intrinsic
    def add_outer(typing_context: Any, sums: Any, a: Any, i: Any, b: Any, j: Any) -> Any:
        """sums + the outer product of a[i:i + 4] and b[j:j + 4], i and j multiples of four."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(_F32, [_F32] * 3)
            fma = builder.module.globals.get("llvm.fma.f32") or ir.Function(
                builder.module, kind, "llvm.fma.f32"
            )
            left, right = (
                load_four(context, builder, signature.args[n], arguments[n], arguments[n + 1])
                for n in (1, 3)
            )
            made = [
                builder.call(fma, [x, y, builder.extract_value(arguments[0], 4 * r + c)])
                for r, x in enumerate(left)
                for c, y in enumerate(right)
            ]
            return tuple_of(context, builder, _SUMS, made)

        return _SUMS(sums, a, types.int64, b, types.int64), generate

    @intrinsic
    def pick(typing_context: Any, sums: Any, i: Any) -> Any:
        """sums[i]: what is chosen from by a number known when compiling costs nothing."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            found = builder.extract_value(arguments[0], 0)
            for n in range(1, 16):
                same = builder.icmp_signed("==", arguments[1], arguments[1].type(n))
                found = builder.select(same, builder.extract_value(arguments[0], n), found)
            return found

        return types.float32(sums, types.int64), generate


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, int64, int64, int64, "
    "int64, int64, int64, int64, int64, int64, int64, int64, int64, int64",
    threads=THREADS,
    registers=160,
    shared=SHARED,
)
def multiply_tiles(
    out, a, b, bias, M, N, K, out_first, out_row, out_part, a_first, a_m, a_k, b_first, b_k, b_n,
    part, add, biased,
):  # fmt: skip
    """out[m, n] = Σ a[m, k] b[k, n], plus bias[n] where `biased`, plus out[m, n] where `add`.

    Element (m, k) of A is a[a_first + m · a_m + k · a_k], those of B and out alike. Block (x, y, z)
    has tile x of the rows, y of the columns, and of the sum the z-th `part`, which goes to out plus
    z · out_part.
    """
    shared = cuda.shared.array(0, float32)  # of A, then of B
    thread = cuda.threadIdx.x
    m_0, n_0 = cuda.blockIdx.x * SIDE, cuda.blockIdx.y * SIDE
    first = cuda.blockIdx.z * part
    last = min(K, first + part)
    i, j = thread // 16 * 4, thread % 16 * 4
    sums = no_sums()
    for k_0 in range(first, last, DEPTH):
        for q in range(_EACH):
            at = q * THREADS + thread
            # neighbours among threads read neighbours in memory
            if a_k == 1:
                m, k = at // DEPTH, at % DEPTH
            else:
                m, k = at % SIDE, at // SIDE
            value = ZERO
            if m_0 + m < M and k_0 + k < last:
                value = a[a_first + (m_0 + m) * a_m + (k_0 + k) * a_k]
            shared[k * _ROW + m] = value
            if b_n == 1:
                n, k = at % SIDE, at // SIDE
            else:
                n, k = at // DEPTH, at % DEPTH
            value = ZERO
            if n_0 + n < N and k_0 + k < last:
                value = b[b_first + (k_0 + k) * b_k + (n_0 + n) * b_n]
            shared[_RIGHT + k * _ROW + n] = value
        cuda.syncthreads()
        for k in range(DEPTH):
            sums = add_outer(sums, shared, k * _ROW + i, shared, _RIGHT + k * _ROW + j)
        cuda.syncthreads()
    to = out_first + cuda.blockIdx.z * out_part + (m_0 + i) * out_row + n_0 + j
    for r in range(4):
        for c in range(4):
            if m_0 + i + r < M and n_0 + j + c < N:
                value = pick(sums, 4 * r + c)
                if biased:
                    value += bias[n_0 + j + c]
                if add:
                    value += out[to + r * out_row + c]
                out[to + r * out_row + c] = value


@kernel(
    "float32[::1], float32[::1], int64, int64, int64, int64, int64, int64",
    threads=256,
    registers=56,
)
def sum_parts(out, parts, M, N, count, out_first, out_row, add):
    """out[m, n] = Σ parts[p, m, n] over p in order, float32[count · M · N]; added to with `add`."""
    for i in range(cuda.grid(1), M * N, cuda.gridsize(1)):
        total = parts[i]
        for p in range(1, count):
            total += parts[p * M * N + i]
        to = out_first + i // N * out_row + i % N
        out[to] = out[to] + total if add else total


@kernel("float32[::1], float32[::1], int64, int64, int64, int64", threads=256, registers=48)
def repeat_row(out, row, M, N, out_first, out_row):
    """out[m, n] = row[n]."""
    for i in range(cuda.grid(1), M * N, cuda.gridsize(1)):
        out[out_first + i // N * out_row + i % N] = row[i % N]


def parts_of(M: int, N: int, K: int, multiprocessors: int) -> int:
    """In how many parts a sum of K products is cut, so that there are tiles for every
    multiprocessor: a number that depends on the sizes and the chip alone."""
    tiles = blocks_for(M, SIDE) * blocks_for(N, SIDE)
    return max(1, min(multiprocessors // max(1, tiles), K // (16 * DEPTH)))
