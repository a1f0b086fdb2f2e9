"""Compiled loops of bench.vmath, bench.common.peak and the tests of fastseq.kernels.simd."""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import helper
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.floats import fma, load, load_part, splat, store, store_part

PARALLEL = 12  # independent sums
OVERFLOW = 2.0**128  # float32's limit
LOWEST = {"exp": 0.0, "sigmoid": 0.0, "tanh": -1.0, "erf": -1.0, "log": -math.inf}
HIGHEST = {"exp": math.inf, "sigmoid": 1.0, "tanh": 1.0, "erf": 1.0, "log": math.inf}


@helper
def multiply_and_add(out, times):
    x, y = splat(0.999), splat(0.001)
    a, b, c, d, e, f = y, y + 1.0, y + 2.0, y + 3.0, y + 4.0, y + 5.0
    g, h, i, j, k, m = y + 6.0, y + 7.0, y + 8.0, y + 9.0, y + 10.0, y + 11.0
    for _ in range(times):
        a, b, c = fma(a, x, y), fma(b, x, y), fma(c, x, y)
        d, e, f = fma(d, x, y), fma(e, x, y), fma(f, x, y)
        g, h, i = fma(g, x, y), fma(h, x, y), fma(i, x, y)
        j, k, m = fma(j, x, y), fma(k, x, y), fma(m, x, y)
    store(out, 0, (a + b + c) + (d + e + f) + (g + h + i) + (j + k + m))


def over_array(function):
    """A loop that applies a function of vectors to an array: out = function(x), float32[n]."""

    @helper
    def apply(out, x):
        whole = len(x) - len(x) % LANES
        for i in range(0, whole, LANES):
            store(out, i, function(load(x, i)))
        rest = len(x) - whole
        if rest:
            store_part(out, whole, function(load_part(x, whole, rest)), rest)

    return apply


def repeating(function):
    """A loop that applies a function of vectors to an array again and again."""

    @helper
    def repeat(out, x, times):
        for _ in range(times):
            for i in range(0, len(x), LANES):
                store(out, i, function(load(x, i)))

    return repeat


@helper
def chain(state, steps):
    for i in range(steps):
        state = (state * np.uint64(6364136223846793005)) ^ np.uint64(i)
    return state


@helper
def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


@helper
def logarithm(x):
    return math.log(x) if x != 0.0 else -math.inf


REFERENCES = {"sigmoid": sigmoid, "log": logarithm}


def referring(function):
    @helper
    def reference(x):
        return function(x)

    return reference


def judging(name):
    """A kernel that puts the largest errors, their inputs and the number of wrong results into
    worst[5]."""
    lowest, highest = LOWEST[name], HIGHEST[name]
    reference = REFERENCES.get(name) or referring(getattr(math, name))

    @helper
    def judge(worst, found, x):
        for i in range(len(x)):
            r, y = reference(np.float64(x[i])), np.float64(found[i])
            if r != r or y != y or math.isinf(r):
                worst[4] += not ((r != r and y != y) or r == y)
                continue
            if math.isinf(y) or abs(r) >= OVERFLOW:  # an overflow counts as the first step past
                r = max(-OVERFLOW, min(OVERFLOW, r))
                y = max(-OVERFLOW, min(OVERFLOW, y))
            elif y < lowest or y > highest:
                worst[4] += 1
            if r == 0.0 and math.copysign(1.0, r) != math.copysign(1.0, y):
                worst[4] += 1
            error = abs(y - r)
            exponent = max((np.float64(abs(r)).view(np.int64) >> 52) - 1023, -126)
            ulp = np.int64((exponent - 23 + 1023) << 52).view(np.float64)
            if error > ulp * worst[0]:
                worst[0], worst[1] = error / ulp, x[i]
            if error > worst[2]:
                worst[2], worst[3] = error, x[i]

    return judge
