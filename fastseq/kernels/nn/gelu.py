"""The Gaussian error linear unit, x · Φ(x) with the normal distribution's Φ (Hendrycks and Gimpel
2016), and its approximation by tanh.

    "gelu"      x / 2 · (1 + erf(x / √2))
    "gelu_new"  x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
"""

from __future__ import annotations

from fastseq.kernels.core.formulas import gelu
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.floats import fma, load, load_part, store, store_part
from fastseq.kernels.simd.vmath import erf, exp, tanh

_exact, _by_tanh, _exact_gradient, _tanh_gradient = gelu(inline, fma, exp, tanh, erf)


@jit
def gelu_forward(out, x, is_tanh, first, last):
    """out[i] = gelu(x[i]) for i from first to last - 1, in the form with tanh if `is_tanh`.

    out, x  float32[n], may be the same array
    """
    whole = last - (last - first) % LANES
    if is_tanh:
        for at in range(first, whole, LANES):
            store(out, at, _by_tanh(load(x, at)))
    else:
        for at in range(first, whole, LANES):
            store(out, at, _exact(load(x, at)))
    rest = last - whole
    if rest:
        value = load_part(x, whole, rest)
        store_part(out, whole, _by_tanh(value) if is_tanh else _exact(value), rest)


@jit
def gelu_backward(dx, dy, x, is_tanh, first, last):
    """dx[i] = dy[i] · gelu'(x[i]) for i from first to last - 1.

    dx, dy, x  float32[n]; dx may be dy or x
    """
    whole = last - (last - first) % LANES
    if is_tanh:
        for at in range(first, whole, LANES):
            store(dx, at, load(dy, at) * _tanh_gradient(load(x, at)))
    else:
        for at in range(first, whole, LANES):
            store(dx, at, load(dy, at) * _exact_gradient(load(x, at)))
    rest = last - whole
    if rest:
        x_part = load_part(x, whole, rest)
        gradient = _tanh_gradient(x_part) if is_tanh else _exact_gradient(x_part)
        store_part(dx, whole, load_part(dy, whole, rest) * gradient, rest)
