"""Matrix products on the device: cuBLAS's where it is installed, else tiles of 64 × 64 numbers.

multiply(out, a, b)                          # out[M, N] = a[M, K] b[K, N]
multiply(out, dz, x, transpose_a=True, add=True)
multiply(window(gates, 0, 3 * H), x, weight, transpose_b=True, bias=bias)
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numba import float32, types

from fastseq.kernels.core.intrinsics import data
from fastseq.kernels.cuda.runtime import memory, target
from fastseq.kernels.cuda.runtime.instructions import emitted, fused, load_four, tuple_of, values_of
from fastseq.kernels.cuda.runtime.target import SIMULATED, blocks_for, cuda, kernel

PRECISIONS = ("float32", "tf32", "bfloat16")

SIDE = 64  # rows and columns of a tile
DEPTH = 16  # of what is in shared memory at a time
THREADS = 256
_ROW = SIDE + 4  # floats from one row of shared memory to the next: four numbers stay aligned
_RIGHT = DEPTH * _ROW  # where B's numbers begin
SHARED = 4 * 2 * DEPTH * _ROW  # bytes
_EACH = SIDE * DEPTH // THREADS  # numbers of either matrix that a thread fetches
ZERO = np.float32(0)

# cublas_api.h and library_types.h
_FLOAT32 = 0  # CUDA_R_32F
# CUBLAS_COMPUTE_32F_PEDANTIC is not needed: _32F rounds factors only if the math mode says so
_COMPUTE = {"float32": 68, "tf32": 77, "bfloat16": 75}  # _32F, _32F_FAST_TF32, _32F_FAST_16BF
_DEFAULT_ALGORITHM = -1
_ONE, _ZERO = ctypes.byref(ctypes.c_float(1)), ctypes.byref(ctypes.c_float(0))


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Columns of a matrix on the device.

    array    float32, contiguous, the whole matrix
    rows, columns
    stride   numbers from one row to the next
    first    index of the first number
    """

    array: Any
    rows: int
    columns: int
    stride: int
    first: int = 0

    def indices(self) -> Any:
        """The index of each number in the array, taken as one row."""
        return self.first + np.arange(self.rows)[:, None] * self.stride + np.arange(self.columns)


def view(matrix: Any) -> View:
    """All of a contiguous float32[M, N] on the device; a View is returned unchanged."""
    if isinstance(matrix, View):
        return matrix
    rows, columns = matrix.shape
    return View(matrix, rows, columns, columns)


def top(matrix: Any, rows: int) -> View:
    """Its first rows."""
    whole = view(matrix)
    if not 0 <= rows <= whole.rows:
        raise ValueError(f"{rows} of {whole.rows} rows")
    return View(whole.array, rows, whole.columns, whole.stride, whole.first)


def window(matrix: Any, first: int, last: int) -> View:
    """Columns [first, last) of it."""
    whole = view(matrix)
    if not 0 <= first <= last <= whole.columns:
        raise ValueError(f"columns {first} to {last} of {whole.columns}")
    return View(whole.array, whole.rows, last - first, whole.stride, whole.first + first)


def multiply(
    out: Any, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False,
    add: bool = False, bias: Any = None, precision: str = "float32",
) -> None:  # fmt: skip
    """out = op(a) op(b) + bias, plus the previous out with `add`.

    By the library where there is one (cuBLAS; in the simulator NumPy), else `multiply_by_tiles`.

    Parameters
    ----------
    out, a, b : float32[M, N], [M, K] and [K, N] on the device, or Views; a is [K, M] and b [N, K]
        where they are transposed
    bias : float32[N], added to every row; not with `add`
    precision : what cuBLAS rounds the factors to: "float32", "tf32" (10 bits of mantissa) or
        "bfloat16" (7). Sums are float32

    Raises ValueError for shapes that do not fit, BlasError.
    """
    to, left, right = view(out), view(a), view(b)
    M, N, K = _sizes(to, left, right, transpose_a, transpose_b, add, bias)
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if M == 0 or N == 0:
        return
    if SIMULATED and K:
        _multiply_simulated(to, left, right, transpose_a, transpose_b, add, bias)
    elif not K or _cublas() is None:
        multiply_by_tiles(
            to, left, right, transpose_a=transpose_a, transpose_b=transpose_b, add=add, bias=bias
        )
    else:
        if bias is not None:
            fill_rows(to, bias)
        status = _cublas().cublasGemmEx(
            _handle(target.device()), *cublas_arguments(M, N, K, transpose_a, transpose_b), _ONE,
            _address(right), _FLOAT32, right.stride, _address(left), _FLOAT32, left.stride,
            _ONE if add or bias is not None else _ZERO, _address(to), _FLOAT32, to.stride,
            _COMPUTE[precision], _DEFAULT_ALGORITHM,
        )  # fmt: skip
        _check("cublasGemmEx", status)


def multiply_by_tiles(
    out: Any, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False,
    add: bool = False, bias: Any = None,
) -> None:  # fmt: skip
    """The same in float32 by `multiply_tiles`, without a library."""
    to, left, right = view(out), view(a), view(b)
    M, N, K = _sizes(to, left, right, transpose_a, transpose_b, add, bias)
    if M == 0 or N == 0:
        return
    parts = parts_of(M, N, K, target.multiprocessors()) if bias is None else 1
    a_strides = (1, left.stride) if transpose_a else (left.stride, 1)
    b_strides = (1, right.stride) if transpose_b else (right.stride, 1)
    part = blocks_for(K, 16 * parts) * 16
    parts = max(1, blocks_for(K, part)) if part else 1
    grid = (blocks_for(M, SIDE), blocks_for(N, SIDE), parts)
    sums, first, stride = to.array, to.first, to.stride
    if parts > 1:
        sums, first, stride = memory.scratch("parts", parts * M * N), 0, N
    multiply_tiles(
        grid, sums, left.array, right.array, right.array if bias is None else bias, M, N, K,
        first, stride, M * N, left.first, *a_strides, right.first, *b_strides, part,
        add and parts == 1, bias is not None, shared=SHARED,
    )  # fmt: skip
    if parts > 1:
        sum_parts.each(M * N, to.array, sums, M, N, parts, to.first, to.stride, add, most=1024)


def fill_rows(out: Any, row: Any) -> None:
    """Every row of out float32[M, N] becomes `row` float32[N]."""
    to = view(out)
    n = to.rows * to.columns
    repeat_row.each(n, to.array, row, to.rows, to.columns, to.first, to.stride, most=4096)


def _sizes(
    to: View, left: View, right: View, transpose_a: bool, transpose_b: bool, add: bool, bias: Any
) -> tuple[int, int, int]:
    """M, N and K. Raises ValueError for shapes that do not fit."""
    M, K = (left.columns, left.rows) if transpose_a else (left.rows, left.columns)
    inner, N = (right.columns, right.rows) if transpose_b else (right.rows, right.columns)
    if inner != K or (to.rows, to.columns) != (M, N):
        raise ValueError(f"[{M}, {K}] times [{inner}, {N}] into [{to.rows}, {to.columns}]")
    if bias is not None and (add or bias.size != N):
        raise ValueError(f"a bias of {bias.size} for {N} columns")
    return M, N, K


def _multiply_simulated(
    out: View, a: View, b: View, transpose_a: bool, transpose_b: bool, add: bool, bias: Any
) -> None:
    """The product by NumPy, without the thousand simulated threads that tiles would need."""
    left, right = (memory.get(part.array).reshape(-1)[part.indices()] for part in (a, b))
    product = (left.T if transpose_a else left) @ (right.T if transpose_b else right)
    whole = memory.get(out.array)
    numbers = whole.reshape(-1)
    if add:
        product += numbers[out.indices()]
    elif bias is not None:
        product += memory.get(bias)
    numbers[out.indices()] = product
    memory.put(whole, out.array)


# ---- cuBLAS


class BlasError(RuntimeError):
    """cuBLAS failed; the message has its status."""


def cublas_arguments(
    M: int, N: int, K: int, transpose_a: bool, transpose_b: bool
) -> tuple[int, int, int, int, int]:
    """cuBLAS's op of the first and of the second factor, and its rows, columns and inner size.

    cuBLAS stores matrices by columns: it computes outᵀ = bᵀ aᵀ on the same memory.
    """
    return int(transpose_b), int(transpose_a), N, M, K  # CUBLAS_OP_N 0, CUBLAS_OP_T 1


def _address(of: View) -> int:
    return target.address(of.array) + 4 * of.first


@lru_cache(None)
def _cublas() -> Any:
    """The library with its functions' parameters declared; None where there is none."""
    if SIMULATED:
        return None
    try:
        found = import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublas")
        library: Any = ctypes.CDLL(found.abs_path)
    except Exception:  # not installed, or it cannot be loaded: the tiles serve
        return None
    whole, place = ctypes.c_int, ctypes.c_void_p
    library.cublasCreate_v2.argtypes = [place]
    matrix = [place, whole, whole]
    library.cublasGemmEx.argtypes = [
        place, *[whole] * 5, place, *matrix, *matrix, place, *matrix, whole, whole,
    ]  # fmt: skip
    return library


@lru_cache(None)
def _handle(device: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _check("cublasCreate", _cublas().cublasCreate_v2(ctypes.byref(handle)))
    return handle


def _check(function: str, status: int) -> None:
    if status:
        raise BlasError(f"{function} returned status {status}")


# ---- tiles: 64 × 64 numbers a block, 4 × 4 a thread. 16 columns of A and rows of B at a time are
# in shared memory, and the 16 sums of a thread in registers (as a tuple: LLVM keeps those there).
# attention.py makes its products of the same functions.
# A long sum is cut into parts for several blocks, which `sum_parts` adds in order.

NO_SUMS = (ZERO,) * 16

if SIMULATED:

    def add_outer(sums: Any, a: Any, i: int, b: Any, j: int) -> Any:
        left = np.array([a[i + r] for r in range(4)], np.float32)
        right = np.array([b[j + r] for r in range(4)], np.float32)
        return sums + np.outer(left, right).reshape(16)

    def add_dots(sums: Any, a: Any, i: int, a_row: int, b: Any, j: int, b_row: int) -> Any:
        left = [[a[i + r * a_row + k] for k in range(4)] for r in range(4)]
        right = [[b[j + k * b_row + c] for c in range(4)] for k in range(4)]
        return sums + (np.array(left, np.float32) @ np.array(right, np.float32)).reshape(16)

    def scale_rows(sums: Any, a: Any, i: int) -> Any:
        return sums * np.repeat(np.array([a[i + r] for r in range(4)], np.float32), 4)

    def pick(sums: Any, i: int) -> Any:
        return sums[i]

else:
    _SUMS = types.UniTuple(types.float32, 16)

    @emitted(_SUMS, _SUMS, data, types.int64, data, types.int64)
    def add_outer(builder: Any, sums: Any, a: Any, i: Any, b: Any, j: Any) -> Any:
        """sums + the outer product of a[i:i + 4] and b[j:j + 4], i and j multiples of four."""
        left, right = load_four(builder, a, i), load_four(builder, b, j)
        pairs = [(x, y) for x in left for y in right]
        before = values_of(builder, sums)
        return tuple_of(
            builder, [fused(builder, x, y, s) for (x, y), s in zip(pairs, before, strict=True)]
        )

    @emitted(_SUMS, _SUMS, data, types.int64, types.int64, data, types.int64, types.int64)
    def add_dots(
        builder: Any, sums: Any, a: Any, i: Any, a_row: Any, b: Any, j: Any, b_row: Any
    ) -> Any:
        """sums + the product of the 4 × 4 matrices with rows a[i + r · a_row:][:4] and
        b[j + k · b_row:][:4], all indices multiples of four."""
        left, right = [], []
        for _ in range(4):
            left.append(load_four(builder, a, i))
            right.append(load_four(builder, b, j))
            i, j = builder.add(i, a_row), builder.add(j, b_row)
        found = values_of(builder, sums)
        for k in range(4):
            found = [
                fused(builder, left[n // 4][k], right[k][n % 4], found[n]) for n in range(16)
            ]
        return tuple_of(builder, found)

    @emitted(_SUMS, _SUMS, data, types.int64)
    def scale_rows(builder: Any, sums: Any, a: Any, i: Any) -> Any:
        """The four rows of the sums times a[i:i + 4], i a multiple of four."""
        factors = load_four(builder, a, i)
        numbers = values_of(builder, sums)
        return tuple_of(
            builder, [builder.fmul(factors[n // 4], number) for n, number in enumerate(numbers)]
        )

    @emitted(types.float32, _SUMS, types.int64)
    def pick(builder: Any, sums: Any, i: Any) -> Any:
        """sums[i], by selections that cost nothing where i is known when compiling."""
        found, *others = values_of(builder, sums)
        for n, other in enumerate(others, 1):
            found = builder.select(builder.icmp_signed("==", i, i.type(n)), other, found)
        return found


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

    Element (m, k) of A is a[a_first + m · a_m + k · a_k], likewise those of B and out. Block
    (x, y, z) has tile x of the rows, y of the columns, and the z-th `part` of the sum, which it
    writes to out plus z · out_part.
    """
    shared = cuda.shared.array(0, float32)  # of A, then of B
    thread = cuda.threadIdx.x
    m_0, n_0 = cuda.blockIdx.x * SIDE, cuda.blockIdx.y * SIDE
    first = cuda.blockIdx.z * part
    last = min(K, first + part)
    i, j = thread // 16 * 4, thread % 16 * 4
    sums = NO_SUMS
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
    """The number of parts of a sum of K products, so that every multiprocessor has a tile; it
    depends on the sizes and the device alone."""
    tiles = blocks_for(M, SIDE) * blocks_for(N, SIDE)
    return max(1, min(multiprocessors // max(1, tiles), K // (16 * DEPTH)))
