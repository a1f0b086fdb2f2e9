"""GELU and tanh, with the bias of the product before: the GPU counterpart of kernels/nn/gelu.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.core import formulas
from fastseq.kernels.cuda.nn.rows import THREADS, by_rows, row_of
from fastseq.kernels.cuda.runtime.instructions import erf, exp, fma, tanh
from fastseq.kernels.cuda.runtime.target import cuda, device_function, kernel

ONE = np.float32(1)

_gelu = formulas.gelu(device_function, fma, exp, tanh, erf)
_exact, _by_tanh = _gelu.exact, _gelu.by_tanh
_exact_gradient, _tanh_gradient = _gelu.exact_gradient, _gelu.tanh_gradient


@kernel(
    "float32[::1], float32[::1], float32[::1], int64, int64, int64, int64, int64",
    threads=THREADS, registers=48,
)  # fmt: skip
def gelu_of(out, x, bias, rows, biased, is_tanh, columns, power):
    """See `gelu_forward`."""
    n, first, step = row_of(power)
    if n < rows:
        for column in range(first, columns, step):
            at = n * columns + column
            value = x[at]
            if biased:
                value += bias[column]
                x[at] = value
            out[at] = _by_tanh(value) if is_tanh else _exact(value)


@kernel(
    "float32[::1], float32[::1], float32[::1], int64", threads=THREADS, registers=48
)  # fmt: skip
def gelu_back(dx, dy, x, is_tanh):
    """See `gelu_backward`."""
    for i in range(cuda.grid(1), len(dx), cuda.gridsize(1)):
        value = x[i]
        slope = _tanh_gradient(value) if is_tanh else _exact_gradient(value)
        dx[i] = dy[i] * slope


@kernel("float32[::1]", threads=THREADS, registers=40)
def tanh_of(x):
    """See `tanh_forward`."""
    for i in range(cuda.grid(1), len(x), cuda.gridsize(1)):
        x[i] = tanh(x[i])


@kernel("float32[::1], float32[::1], float32[::1]", threads=THREADS, registers=40)
def tanh_back(dx, dy, y):
    """See `tanh_backward`."""
    for i in range(cuda.grid(1), len(dx), cuda.gridsize(1)):
        dx[i] = dy[i] * (ONE - y[i] * y[i])


def gelu_forward(out: Any, x: Any, is_tanh: bool, bias: Any = None) -> None:
    """out = gelu(x), by tanh if `is_tanh`; with a bias x += bias before.

    out, x  float32[N, C], may be the same array
    bias    float32[C]
    """
    rows, columns = x.shape
    if out.size != x.size or (bias is not None and bias.size != columns):
        raise ValueError(f"the activation of {x.shape} into {out.shape}")
    by_rows(
        gelu_of, rows if columns else 0, columns, out, x, x if bias is None else bias, rows,
        bias is not None, is_tanh,
    )  # fmt: skip


def gelu_backward(dx: Any, dy: Any, x: Any, is_tanh: bool) -> None:
    """dx = dy · gelu'(x), float32 of one size; dx may be dy or x."""
    if not dx.size == dy.size == x.size:
        raise ValueError(f"{dx.size} gradients of {dy.size} and {x.size} numbers")
    gelu_back.each(dx.size, dx, dy, x, is_tanh, most=1 << 14)


def tanh_forward(x: Any) -> None:
    """x = tanh(x), float32."""
    tanh_of.each(x.size, x)


def tanh_backward(dx: Any, dy: Any, y: Any) -> None:
    """dx = dy (1 - y²) for y = tanh(x), float32 of one size; dx may be dy."""
    if not dx.size == dy.size == y.size:
        raise ValueError(f"{dx.size} gradients of {dy.size} and {y.size} numbers")
    tanh_back.each(dx.size, dx, dy, y)
