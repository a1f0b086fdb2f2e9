"""exp, tanh, sigmoid, log and erf of float32 vectors.

The whole range of float32 is covered, with NaN, infinities and denormals, without branches. The
result of a lane depends on its own input alone: where the CPU has fused multiply-add (every width
of width.py but an old x86's 4), all widths give the same bits. The errors stated were measured
over all 2^32 inputs by bench/vmath.py --sweep, with fused multiply-add; an ulp is the distance of
neighbouring float32 at the true result. tools/fit_vmath.py makes the coefficients.

Source of the method (x = n ln 2 + r, then 2^n times a polynomial in r; for log the reverse):
J.-M. Muller, Elementary Functions, 3rd ed., chapters 3 and 11.
"""

from __future__ import annotations

import math

from fastseq.kernels.core.formulas import LN2_HIGH, LN2_LOW, elementary, error_function
from fastseq.kernels.core.jit import inline
from fastseq.kernels.simd.floats import (
    absolute,
    bits,
    fma,
    from_bits,
    maximum,
    minimum,
    select,
    splat_int,
    to_float,
)  # fmt: skip

_LN2_HIGH, _LN2_LOW = LN2_HIGH, LN2_LOW
_LEAST_NORMAL = 2.0**-126
_SQRT_HALF = 0x3F3504F3  # the bits of sqrt(1/2)
_INF, _NAN = math.inf, math.nan

# minimum and maximum return their second argument where there is a NaN, so x comes second

exp, sigmoid, tanh = elementary(inline, fma, minimum, maximum, absolute, bits, from_bits)
erf = error_function(inline, fma, minimum, absolute, bits, from_bits)


@inline
def log(x):
    """The natural logarithm, within 0.87 ulp: -infinity of a zero, NaN below."""
    small = x < _LEAST_NORMAL
    i = bits(select(small, x * 2.0**23, x)) - _SQRT_HALF
    # x = 2^n (1 + f) with 1 + f between sqrt(1/2) and sqrt(2)
    n = to_float((i >> 23) - select(small, splat_int(23), 0))
    f = from_bits((i & 0x7FFFFF) + _SQRT_HALF) - 1.0
    p = fma(f, -0.07636439, 0.12762217)
    p = fma(p, f, -0.1315961)
    p = fma(p, f, 0.1420158)
    p = fma(p, f, -0.16623409)
    p = fma(p, f, 0.20001242)
    p = fma(p, f, -0.2500082)
    p = fma(p, f, 0.3333333)
    t = f * f
    y = fma(n, _LN2_LOW, fma(p * f, t, -0.5 * t))
    y = fma(n, _LN2_HIGH, f + y)
    return select(x > 0.0, select(x < _INF, y, _INF), select(x == 0.0, -_INF, _NAN))
