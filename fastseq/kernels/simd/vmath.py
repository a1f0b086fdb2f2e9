"""exp, tanh, sigmoid, log and erf of float32 vectors, and of whole arrays.

The whole range of float32 is covered, with NaN, infinities and denormals; no lane takes longer
than another. What a lane gives depends on nothing but its own input: where the CPU has fused
multiply-add (every width of width.py but an old x86's 4), all widths give the same bits. The
errors stated were measured over all 2^32 inputs by bench/vmath.py --sweep, with fused
multiply-add; an ulp is the distance of neighbouring float32 at the true result. tools/fit_vmath.py
makes the coefficients.

Source of the method (x = n ln 2 + r, then 2^n times a polynomial in r; for log the reverse):
J.-M. Muller, Elementary Functions, 3rd ed., chapters 3 and 11.
"""

from __future__ import annotations

import math

from fastseq.kernels.jit import inline, jit
from fastseq.kernels.simd.floats import (
    absolute,
    bits,
    fma,
    from_bits,
    load,
    load_part,
    maximum,
    minimum,
    select,
    splat_int,
    store,
    store_part,
    to_float,
)
from fastseq.kernels.simd.width import LANES

_LOG2E = math.log2(math.e)
_LOG2E_HIGH = 1.44269502162933349609375  # as float32
_LOG2E_LOW = _LOG2E - _LOG2E_HIGH
_LN2_HIGH = 0.693359375  # nine bits: times a whole number below 2^15 it is exact
_LN2_LOW = math.log(2.0) - _LN2_HIGH
# Adding 1.5 * 2^23 rounds to a whole number n, which then stands in the low bits. With 127 more,
# the bits shifted by 23 are those of the float32 2^n.
_ROUND = 1.5 * 2.0**23
_ROUND_102, _ROUND_127 = _ROUND + 102.0, _ROUND + 127.0
_SIGN, _MAGNITUDE = -0x80000000, 0x7FFFFFFF
_LEAST_NORMAL = 2.0**-126
_SQRT_HALF = 0x3F3504F3  # the bits of sqrt(1/2)
_INF, _NAN = math.inf, math.nan

# minimum and maximum give their second argument where there is a NaN: x stands second in each


@inline
def exp(x):
    """e^x, within 1.03 ulp.

    Above 88.72283 infinity; below -87.34 denormal, and 0 below -103.97.
    """
    x = minimum(89.0, maximum(-104.0, x))
    m = fma(x, _LOG2E, _ROUND + 254.0)
    n = m - (_ROUND + 254.0)
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    p = fma(r, 0.0013820486, 0.00836887)
    p = fma(p, r, 0.041668274)
    p = fma(p, r, 0.1666652)
    p = fma(p, r, 0.49999994)
    p = fma(p * r, r, r) + 1.0
    # 2^n in two factors, since n reaches from -150 to 128: past what one float32 holds
    k = bits(m)
    half = k >> 1
    return p * from_bits(half << 23) * from_bits((k - half) << 23)


@inline
def sigmoid(x):
    """1 / (1 + e^-x), within 3.42 ulp and 9.3e-8; denormal below -87.34, 0 below -103.97."""
    x = minimum(30.0, maximum(-105.0, x))
    # numerator and denominator times 2^-24: e^105 2^-24 is a float32 still. The polynomial is
    # twice 2^f, and 2^(n - 25) the factor, with 127 - 25 as the bits of its exponent
    m = fma(x, -_LOG2E_HIGH, _ROUND_102)
    f = fma(x, -_LOG2E_LOW, fma(x, -_LOG2E_HIGH, _ROUND_102 - m))
    p = fma(f, 0.002651345, 0.019343391)
    p = fma(p, f, 0.11101537)
    p = fma(p, f, 0.48044482)
    p = fma(p, f, 1.3862939)
    p = fma(p, f, 2.0)
    return 2.0**-24 / fma(p, from_bits(bits(m) << 23), 2.0**-24)


@inline
def tanh(x):
    """The hyperbolic tangent, within 3.44 ulp and 1.5e-7; odd in every bit.

    With e^(2|x|) = s 2^f, s = 2^n and h = tanh(f ln 2 / 2), which is 2^f = (1 + h) / (1 - h):
    tanh|x| = ((s + 1) h + s - 1) / ((s - 1) h + s + 1), exact in s, and h alone where n = 0.
    """
    a = minimum(9.2, absolute(x))
    m = fma(a, 2.0 * _LOG2E, _ROUND_127)
    f = fma(a, 2.0 * _LOG2E, _ROUND_127 - m)
    g = f * f
    h = f * fma(fma(g, 0.00065394235, -0.013874684), g, 0.34657356)
    s = from_bits(bits(m) << 23)
    y = fma(s + 1.0, h, s - 1.0) / fma(s - 1.0, h, s + 1.0)
    return from_bits(bits(y) | (bits(x) & _SIGN))


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


# ---- whole arrays ---------------------------------------------------------------------------


@jit
def exp_array(out, x):
    """out = e^x, element by element: float32[n], C-contiguous; out may be x itself."""
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(out, i, exp(load(x, i)))
    rest = len(x) - whole
    if rest:
        store_part(out, whole, exp(load_part(x, whole, rest)), rest)


@jit
def tanh_array(out, x):
    """out = tanh x, element by element: float32[n], C-contiguous; out may be x itself."""
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(out, i, tanh(load(x, i)))
    rest = len(x) - whole
    if rest:
        store_part(out, whole, tanh(load_part(x, whole, rest)), rest)


@jit
def sigmoid_array(out, x):
    """out = 1 / (1 + e^-x), element by element: float32[n], C-contiguous; out may be x itself."""
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(out, i, sigmoid(load(x, i)))
    rest = len(x) - whole
    if rest:
        store_part(out, whole, sigmoid(load_part(x, whole, rest)), rest)


@jit
def log_array(out, x):
    """out = log x, element by element: float32[n], C-contiguous; out may be x itself."""
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(out, i, log(load(x, i)))
    rest = len(x) - whole
    if rest:
        store_part(out, whole, log(load_part(x, whole, rest)), rest)


@jit
def erf_array(out, x):
    """out = erf x, element by element: float32[n], C-contiguous; out may be x itself."""
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(out, i, erf(load(x, i)))
    rest = len(x) - whole
    if rest:
        store_part(out, whole, erf(load_part(x, whole, rest)), rest)
