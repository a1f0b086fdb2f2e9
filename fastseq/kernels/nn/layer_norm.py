"""Layer normalisation of rows, with the residual that is added before it.

y = (x - mean) · rstd · gamma + beta, with rstd = 1 / √(variance + eps) over the columns of a row
(Ba, Kiros and Hinton 2016). The mean comes first and then the squares of the distances to it, while
the row is in the cache, so that a large mean costs no digits. Every sum has an order that depends
on the number of columns alone.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import load_row, store_row
from fastseq.kernels.simd.floats import (
    fma,
    lane_numbers,
    load,
    load_part,
    select,
    splat,
    store,
    sum_lanes,
)

_TWO = 2 * LANES


@inline
def _add(x, residual, at, width):
    """x[at:at + width] += residual[at:at + width]; returns the sum of x."""
    a = splat(0.0)
    b = splat(0.0)
    column = 0
    while column + _TWO <= width:
        here = at + column
        first = load(x, here) + load(residual, here)
        second = load(x, here + LANES) + load(residual, here + LANES)
        store(x, here, first)
        store(x, here + LANES, second)
        a = a + first
        b = b + second
        column += _TWO
    while column < width:
        rest = width - column
        value = load_row(x, at + column, rest) + load_row(residual, at + column, rest)
        store_row(x, at + column, value, rest)
        a = a + value
        column += LANES
    return sum_lanes(a + b)


@inline
def _sum(x, at, width):
    """The sum of x[at:at + width], as `_add` has it."""
    a = splat(0.0)
    b = splat(0.0)
    column = 0
    while column + _TWO <= width:
        a = a + load(x, at + column)
        b = b + load(x, at + column + LANES)
        column += _TWO
    while column < width:
        a = a + load_row(x, at + column, width - column)
        column += LANES
    return sum_lanes(a + b)


@inline
def _squares(x, at, width, mean):
    """The sum of (x - mean)² over x[at:at + width]."""
    a = splat(0.0)
    b = splat(0.0)
    column = 0
    while column + _TWO <= width:
        first = load(x, at + column) - mean
        second = load(x, at + column + LANES) - mean
        a = fma(first, first, a)
        b = fma(second, second, b)
        column += _TWO
    while column < width:
        count = width - column
        value = load_row(x, at + column, count) - mean
        value = select(lane_numbers() < np.int32(min(count, LANES)), value, 0.0)
        a = fma(value, value, a)
        column += LANES
    return sum_lanes(a + b)


@jit
def layer_norm_forward(out, mean, rstd, x, residual, gamma, beta, eps, first, last):
    """x += residual and out = x normalised · gamma + beta, for the rows first to last - 1.

    out          float32[N, H], may be x
    mean, rstd   float32[N]: out, for the backward pass; float32[0] where it is not needed
    x            float32[N, H], changed where there is a residual
    residual     float32[N, H], or float32[0, H] where there is none
    gamma, beta  float32[H]
    eps          float
    """
    width = x.shape[1]
    source, to, more = x.reshape(x.size), out.reshape(out.size), residual.reshape(residual.size)
    for row in range(first, last):
        at = row * width
        total = _add(source, more, at, width) if len(more) else _sum(source, at, width)
        middle = np.float32(total / np.float32(width))
        variance = np.float64(_squares(source, at, width, middle)) / width
        scale = np.float32(1.0 / math.sqrt(variance + eps))
        if len(mean):
            mean[row] = middle
            rstd[row] = scale
        column = 0
        while column + LANES <= width:
            value = (load(source, at + column) - middle) * scale
            store(to, at + column, fma(value, load(gamma, column), load(beta, column)))
            column += LANES
        if column < width:
            rest = width - column
            value = (load_part(source, at + column, rest) - middle) * scale
            value = fma(value, load_part(gamma, column, rest), load_part(beta, column, rest))
            store_row(to, at + column, value, rest)


@jit
def layer_norm_backward(dx, dy, x, mean, rstd, gamma, first, last):
    """dx of dy for the rows first to last - 1, with what the forward pass stored.

    With n the normalised row and g = dy · gamma, dx = rstd · (g - mean(g) - n · mean(g n)).

    dx, dy      float32[N, H], may be the same array
    x           float32[N, H] as the forward pass left it
    mean, rstd  float32[N]
    """
    width = x.shape[1]
    source, to, given = x.reshape(x.size), dx.reshape(dx.size), dy.reshape(dy.size)
    for row in range(first, last):
        at = row * width
        middle, scale = mean[row], rstd[row]
        a = splat(0.0)
        b = splat(0.0)
        for column in range(0, width, LANES):
            rest = width - column
            g = load_row(given, at + column, rest) * load_row(gamma, column, rest)
            a = a + g
            b = fma(g, (load_row(source, at + column, rest) - middle) * scale, b)
        mean_g = np.float32(sum_lanes(a) / np.float32(width))
        mean_gn = np.float32(sum_lanes(b) / np.float32(width))
        for column in range(0, width, LANES):
            rest = width - column
            g = load_row(given, at + column, rest) * load_row(gamma, column, rest)
            n = (load_row(source, at + column, rest) - middle) * scale
            store_row(to, at + column, (g - fma(n, splat(mean_gn), splat(mean_g))) * scale, rest)


@jit
def layer_norm_gradients(dgamma, dbeta, dy, x, mean, rstd, first, last):
    """dgamma += Σ dy · n and dbeta += Σ dy over the rows in order, columns first to last - 1.

    Arrays as in `layer_norm_backward`; dgamma, dbeta float32[H].
    """
    rows, width = x.shape
    source, given = x.reshape(x.size), dy.reshape(dy.size)
    column = first
    while column + _TWO <= last:
        a = load(dgamma, column)
        b = load(dgamma, column + LANES)
        c = load(dbeta, column)
        d = load(dbeta, column + LANES)
        for row in range(rows):
            at = row * width + column
            middle, scale = mean[row], rstd[row]
            one = load(given, at)
            two = load(given, at + LANES)
            a = fma(one, (load(source, at) - middle) * scale, a)
            b = fma(two, (load(source, at + LANES) - middle) * scale, b)
            c = c + one
            d = d + two
        store(dgamma, column, a)
        store(dgamma, column + LANES, b)
        store(dbeta, column, c)
        store(dbeta, column + LANES, d)
        column += _TWO
    while column < last:
        count = min(LANES, last - column)
        a = load_row(dgamma, column, count)
        c = load_row(dbeta, column, count)
        for row in range(rows):
            at = row * width + column
            one = load_row(given, at, count)
            a = fma(one, (load_row(source, at, count) - mean[row]) * rstd[row], a)
            c = c + one
        store_row(dgamma, column, a, count)
        store_row(dbeta, column, c, count)
        column += count
