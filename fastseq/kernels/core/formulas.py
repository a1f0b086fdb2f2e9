"""Formulas shared by the kernels of the CPU and of a GPU.

The CPU computes with vectors of LANES float32, a GPU with single float32. So each formula is made
by a factory that takes the decorator and the elementary operations of the machine. Numbers in a
formula are float32: with a plain Python float a GPU would compute in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Formula = Callable[..., Any]

_f = np.float32
ONE = _f(1)

LOG2E = math.log2(math.e)
LOG2E_HIGH = 1.44269502162933349609375  # as float32
LN2_HIGH = 0.693359375  # nine bits: times a whole number below 2^15 it is exact
LN2_LOW = math.log(2.0) - LN2_HIGH
# Adding 1.5 * 2^23 rounds to an integer n, which is then in the low bits. With 127 more, the bits
# shifted by 23 are those of the float32 2^n.
ROUND = 1.5 * 2.0**23


class Elementary(NamedTuple):
    """Functions of one number; their errors were measured over all 2^32 inputs."""

    exp: Formula
    sigmoid: Formula
    tanh: Formula


def elementary(
    inline: Formula,
    fma: Formula,
    minimum: Formula,
    maximum: Formula,
    absolute: Formula,
    bits: Formula,
    from_bits: Formula,
) -> Elementary:
    """exp, sigmoid and tanh.

    fma       a b + c, rounded once
    minimum   (a, x): x where there is a NaN; the same for maximum
    bits      int32, the bits of a float32; from_bits the reverse
    """
    log2e, log2e_high, log2e_low = _f(LOG2E), _f(LOG2E_HIGH), _f(LOG2E - LOG2E_HIGH)
    round_102, round_127, round_254 = _f(ROUND + 102), _f(ROUND + 127), _f(ROUND + 254)
    ln2_high, ln2_low = _f(-LN2_HIGH), _f(-LN2_LOW)
    tiny, sign = _f(2.0**-24), np.int32(-0x80000000)
    one, mantissa_bits = np.int32(1), np.int32(23)

    @inline
    def exp(x):
        """e^x, within 1.03 ulp.

        Above 88.72283 infinity; below -87.34 denormal, and 0 below -103.97.
        """
        x = minimum(_f(89.0), maximum(_f(-104.0), x))
        m = fma(x, log2e, round_254)
        n = m - round_254
        r = fma(n, ln2_low, fma(n, ln2_high, x))
        p = fma(r, _f(0.0013820486), _f(0.00836887))
        p = fma(p, r, _f(0.041668274))
        p = fma(p, r, _f(0.1666652))
        p = fma(p, r, _f(0.49999994))
        p = fma(p * r, r, r) + ONE
        # 2^n in two factors: n is between -150 and 128, beyond the range of one float32
        k = bits(m)
        half = k >> one
        return p * from_bits(half << mantissa_bits) * from_bits((k - half) << mantissa_bits)

    @inline
    def sigmoid(x):
        """1 / (1 + e^-x), within 3.42 ulp and 9.3e-8; denormal below -87.34, 0 below -103.97."""
        x = minimum(_f(30.0), maximum(_f(-105.0), x))
        # numerator and denominator times 2^-24: e^105 2^-24 is a float32 still. The polynomial is
        # twice 2^f, and 2^(n - 25) the factor, with 127 - 25 as the bits of its exponent
        m = fma(x, -log2e_high, round_102)
        f = fma(x, -log2e_low, fma(x, -log2e_high, round_102 - m))
        p = fma(f, _f(0.002651345), _f(0.019343391))
        p = fma(p, f, _f(0.11101537))
        p = fma(p, f, _f(0.48044482))
        p = fma(p, f, _f(1.3862939))
        p = fma(p, f, _f(2.0))
        return tiny / fma(p, from_bits(bits(m) << mantissa_bits), tiny)

    @inline
    def tanh(x):
        """The hyperbolic tangent, within 3.44 ulp and 1.5e-7; odd in every bit.

        With e^(2|x|) = s 2^f, s = 2^n and h = tanh(f ln 2 / 2), which is 2^f = (1 + h) / (1 - h):
        tanh|x| = ((s + 1) h + s - 1) / ((s - 1) h + s + 1), exact in s, and h alone where n = 0.
        """
        a = minimum(_f(9.2), absolute(x))
        m = fma(a, _f(2.0 * LOG2E), round_127)
        f = fma(a, _f(2.0 * LOG2E), round_127 - m)
        g = f * f
        h = f * fma(fma(g, _f(0.00065394235), _f(-0.013874684)), g, _f(0.34657356))
        s = from_bits(bits(m) << mantissa_bits)
        y = fma(s + ONE, h, s - ONE) / fma(s - ONE, h, s + ONE)
        return from_bits(bits(y) | (bits(x) & sign))

    return Elementary(exp, sigmoid, tanh)


def error_function(
    inline: Formula,
    fma: Formula,
    minimum: Formula,
    absolute: Formula,
    bits: Formula,
    from_bits: Formula,
) -> Formula:
    """erf, with the operations of `elementary`."""
    round_127, mantissa_bits = _f(ROUND + 127), np.int32(23)
    magnitude, sign = np.int32(0x7FFFFFFF), np.int32(-0x80000000)

    @inline
    def erf(x):
        """The error function, 2 / √π times the integral of e^(-t²) from 0 to x.

        Within 3.13 ulp and 9.7e-8; odd in every bit.

        1 - erf|x| = 2^(|x| G(|x|)) with a polynomial G; 2^… - 1 is taken as expm1 would, so that
        nothing is lost near 0.
        """
        a = minimum(_f(3.95), absolute(x))
        t = a * a
        low = fma(
            t, fma(a, _f(0.027640706), _f(-0.14827919)), fma(a, _f(-0.91844743), _f(-1.627907))
        )
        high = fma(t, _f(1.3044888e-05), fma(a, _f(-0.00016696735), _f(0.00090326625)))
        high = fma(t, high, fma(a, _f(-0.002387563), _f(0.00021448791)))
        exponent = fma(t * t, high, low)
        m = fma(a, exponent, round_127)
        f = fma(a, exponent, round_127 - m)
        p = fma(f, _f(0.00015385248), _f(0.001338768))
        p = fma(p, f, _f(0.009618305))
        p = fma(p, f, _f(0.05550367))
        p = fma(p, f, _f(0.24022649))
        p = fma(p, f, _f(0.6931472))
        s = from_bits(bits(m) << mantissa_bits)
        y = fma(f * p, s, s - ONE)
        return from_bits((bits(y) & magnitude) | (bits(x) & sign))

    return erf  # type: ignore[no-any-return]


class Gelu(NamedTuple):
    """The Gaussian error linear unit by erf and by tanh, and their derivatives; see
    kernels/nn/gelu.py."""

    exact: Formula
    by_tanh: Formula
    exact_gradient: Formula
    tanh_gradient: Formula


def gelu(inline: Formula, fma: Formula, exp: Formula, tanh: Formula, erf: Formula) -> Gelu:
    """x Φ(x), and its approximation by tanh."""
    half, sqrt_half, minus_half = _f(0.5), _f(math.sqrt(0.5)), _f(-0.5)
    slope, half_slope = _f(math.sqrt(2 / math.pi)), _f(math.sqrt(0.5 / math.pi))
    density_0 = half_slope  # φ(0)
    cube, cube_slope = _f(0.044715), _f(3.0 * 0.044715)

    @inline
    def exact(x):
        y = x * half
        return fma(y, erf(x * sqrt_half), y)

    @inline
    def by_tanh(x):
        y = x * half
        return fma(y, tanh(x * slope * fma(x * x, cube, ONE)), y)

    @inline
    def exact_gradient(x):
        """Φ(x) + x φ(x)."""
        density = exp(x * x * minus_half) * density_0
        return fma(x, density, fma(erf(x * sqrt_half), half, half))

    @inline
    def tanh_gradient(x):
        square = x * x
        t = tanh(x * slope * fma(square, cube, ONE))
        inner = fma(square, cube_slope, ONE) * (x * half_slope)
        return fma(inner, ONE - t * t, fma(t, half, half))

    return Gelu(exact, by_tanh, exact_gradient, tanh_gradient)


class Step(NamedTuple):
    """Forward and backward pass of one step of a recurrence, for one unit (or LANES of them)."""

    forward: Formula
    backward: Formula


def lstm(inline: Formula, fma: Formula, sigmoid: Formula, tanh: Formula) -> Step:
    """i, f, o = σ(z), g = tanh(z_g); c = f c' + i g; h = o tanh(c)."""

    @inline
    def forward(z_i, z_f, z_g, z_o, c):
        """(i, f, g, o, new c, h) of the gates' inputs and c'."""
        i = sigmoid(z_i)
        f = sigmoid(z_f)
        g = tanh(z_g)
        o = sigmoid(z_o)
        new_c = fma(f, c, i * g)
        return i, f, g, o, new_c, o * tanh(new_c)

    @inline
    def backward(i, f, g, o, c, d, dc):
        """Gradients of (z_i, z_f, z_g, z_o, c') from those of h and c.

        i to o as `forward` returned them; c is that of the previous step.
        """
        s = tanh(fma(f, c, i * g))
        e = fma(d * o, ONE - s * s, dc)
        return (
            e * g * i * (ONE - i),
            e * c * f * (ONE - f),
            e * i * (ONE - g * g),
            d * s * o * (ONE - o),
            e * f,
        )

    return Step(forward, backward)


def gru(inline: Formula, fma: Formula, sigmoid: Formula, tanh: Formula) -> Step:
    """r, z = σ(z_r), σ(z_z); n = tanh(x_n + r m), m = U_n h' + b; h = n + z (h' - n)."""

    @inline
    def forward(x_n, z_r, z_z, m, h):
        """(n, r, z, new h) of the gates' inputs and h'."""
        r = sigmoid(z_r)
        z = sigmoid(z_z)
        n = tanh(fma(r, m, x_n))
        return n, r, z, fma(z, h - n, n)

    @inline
    def backward(n, r, z, m, h, d):
        """Gradients of (x_n, z_r, z_z, m), and of h' without the part through the weights."""
        e = d * (ONE - z) * (ONE - n * n)
        return e, e * m * r * (ONE - r), d * (h - n) * z * (ONE - z), e * r, d * z

    return Step(forward, backward)


class MaskHash(NamedTuple):
    """Dropout's hash; see kernels/nn/dropout.py."""

    key_bits: Formula
    hashed: Formula


def mask_hash(inline: Formula, wrap: Formula) -> MaskHash:
    """The hash of an element's number, for a key.

    wrap  the lowest 32 bits of an integer as int32, where products are wider than that

    The constants are those of S. Vigna's splitmix64 (public domain) and C. Wellons' three-round
    32-bit permutation "triple32" (hash-prospector, public domain).
    """
    golden, m1, m2 = (
        np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
    )
    one, u27, u30, u31 = (np.uint64(n) for n in (1, 27, 30, 31))

    @inline
    def key_bits(key, block):
        """64 bits for one key and block of 2**32 elements, both uint64: splitmix64's finaliser."""
        bits = key + (block + one) * golden
        bits = (bits ^ (bits >> u30)) * m1
        bits = (bits ^ (bits >> u27)) * m2
        return bits ^ (bits >> u31)

    @inline
    def hashed(number, first, second):
        """int32, uniform over all values, for an int32 number and the two halves of a key."""
        # >> copies the sign, hence the masks (LLVM makes one logical shift of the two)
        x = wrap(number + first)
        x = wrap((x ^ ((x >> 17) & 0x7FFF)) * 0xED5AD4BB)
        x = wrap((x ^ ((x >> 11) & 0x1FFFFF) ^ second) * 0xAC4C1B51)
        x = wrap((x ^ ((x >> 15) & 0x1FFFF)) * 0x31848BAB)
        return x ^ ((x >> 14) & 0x3FFFF)

    return MaskHash(key_bits, hashed)
