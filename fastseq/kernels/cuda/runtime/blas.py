"""NVIDIA's own matrix products, cuBLAS, where the library is installed.

cuBLAS has its matrices by columns: a matrix by rows is to it the transposed one, so that
out = a b by rows is outᵀ = bᵀ aᵀ to it, with the same memory and the factors in the other order.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastseq.kernels.cuda.runtime import launching
from fastseq.kernels.cuda.runtime.target import SIMULATED

if TYPE_CHECKING:
    from fastseq.kernels.cuda.nn.gemm import View

# of cublas_api.h and library_types.h
_NO_TRANSPOSE, _TRANSPOSE = 0, 1
_FLOAT32 = 0  # CUDA_R_32F
# CUBLAS_COMPUTE_32F_PEDANTIC is not needed: _32F never rounds factors unless the math mode says so
_COMPUTE = {"float32": 68, "tf32": 77, "bfloat16": 75}  # _32F, _32F_FAST_TF32, _32F_FAST_16BF
_DEFAULT_ALGORITHM = -1
_ONE, _ZERO = ctypes.byref(ctypes.c_float(1)), ctypes.byref(ctypes.c_float(0))


class BlasError(RuntimeError):
    """cuBLAS refused: its status stands in the message."""


def available() -> bool:
    """Whether cuBLAS was found."""
    return _library() is not None


def multiply(
    out: View, a: View, b: View, M: int, N: int, K: int, transpose_a: bool, transpose_b: bool,
    add: bool, precision: str,
) -> None:  # fmt: skip
    """out[M, N] = op(a) op(b), plus what is there with `add`; see gemm.multiply.

    Raises BlasError.
    """
    library = _library()
    assert library is not None
    status = library.cublasGemmEx(
        _handle(launching.device()), *arguments(a, b, M, N, K, transpose_a, transpose_b),
        _ONE, _place(b), _FLOAT32, b.stride, _place(a), _FLOAT32, a.stride,
        _ONE if add else _ZERO, _place(out), _FLOAT32, out.stride, _COMPUTE[precision],
        _DEFAULT_ALGORITHM,
    )  # fmt: skip
    _check("cublasGemmEx", status)


def arguments(
    a: Any, b: Any, M: int, N: int, K: int, transpose_a: bool, transpose_b: bool
) -> tuple[int, int, int, int, int]:
    """What cuBLAS is told of the transposed product: op of its first factor (b), of its second
    (a), its rows, columns and inner size."""
    first = _TRANSPOSE if transpose_b else _NO_TRANSPOSE
    second = _TRANSPOSE if transpose_a else _NO_TRANSPOSE
    return first, second, N, M, K


def _place(view: View) -> int:
    return launching.address(view.array) + 4 * view.first


@lru_cache(None)
def _library() -> Any:
    """The library, loaded; None where there is none."""
    if SIMULATED:
        return None
    try:
        loader = import_module("cuda.pathfinder").load_nvidia_dynamic_lib
        found = loader("cublas")
        return _declared(ctypes.CDLL(found.abs_path))
    except Exception:  # not installed, or not loadable: the project's own tiles do
        return None


def _declared(library: Any) -> Any:
    """The library, its functions' parameters told."""
    whole, place = ctypes.c_int, ctypes.c_void_p
    library.cublasCreate_v2.argtypes = [place]
    matrix = [place, whole, whole]
    library.cublasGemmEx.argtypes = [
        place, *[whole] * 5, place, *matrix, *matrix, place, *matrix, whole, whole,
    ]  # fmt: skip
    return library


@lru_cache(None)
def _handle(device: int) -> ctypes.c_void_p:
    library = _library()
    handle = ctypes.c_void_p()
    _check("cublasCreate", library.cublasCreate_v2(ctypes.byref(handle)))
    return handle


def _check(function: str, status: int) -> None:
    if status:
        raise BlasError(f"{function} returned status {status}")
