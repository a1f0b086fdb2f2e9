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

from fastseq.kernels.core.formulas import LN2_HIGH, LN2_LOW, ROUND, elementary
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
_ROUND_127 = ROUND + 127.0
_SIGN, _MAGNITUDE = -0x80000000, 0x7FFFFFFF
_LEAST_NORMAL = 2.0**-126
_SQRT_HALF = 0x3F3504F3  # the bits of sqrt(1/2)
_INF, _NAN = math.inf, math.nan

# minimum and maximum return their second argument where there is a NaN, so x comes second

exp, sigmoid, tanh = elementary(inline, fma, minimum, maximum, absolute, bits, from_bits)


@inline
def erf(x):
    """The error function, 2 / √π times the integral of e^(-t²) from 0 to x.

    Within 3.13 ulp and 9.7e-8; odd in every bit.

    1 - erf|x| = 2^(|x| G(|x|)) with a polynomial G; 2^… - 1 is taken as expm1 would, so that
    nothing is lost near 0.
    """
    a = minimum(3.95, absolute(x))
    t = a * a
    low = fma(t, fma(a, 0.027640706, -0.14827919), fma(a, -0.91844743, -1.627907))
    high = fma(t, 1.3044888e-05, fma(a, -0.00016696735, 0.00090326625))
    high = fma(t, high, fma(a, -0.002387563, 0.00021448791))
    exponent = fma(t * t, high, low)
    m = fma(a, exponent, _ROUND_127)
    f = fma(a, exponent, _ROUND_127 - m)
    p = fma(f, 0.00015385248, 0.001338768)
    p = fma(p, f, 0.009618305)
    p = fma(p, f, 0.05550367)
    p = fma(p, f, 0.24022649)
    p = fma(p, f, 0.6931472)
    s = from_bits(bits(m) << 23)
    y = fma(f * p, s, s - 1.0)
    return from_bits((bits(y) & _MAGNITUDE) | (bits(x) & _SIGN))


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
