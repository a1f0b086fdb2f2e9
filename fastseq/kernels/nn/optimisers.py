"""One step of each optimiser over a slice of the flat buffers, and what clipping needs.

values, gradients and the moments are float32[n] of one layout. Every slice [start, stop) begins
and ends at a multiple of 16, as the buffers of `Parameters` do, so there are whole vectors only.
An element's result depends on nothing but that element: how the buffers are cut does not matter.

Moments decay towards zero and, rounded to nearest, stop short of it at numbers so small that the
CPU handles them by slow detours. What falls below the smallest normal float32 is made zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.formulas import Formula
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.floats import (
    absolute,
    any_lane,
    fma,
    load,
    maximum,
    minimum,
    select,
    square_root,
    store,
)

BLOCK = 16384  # gradients whose squares are summed into one float64
SMALLEST = np.float32(np.finfo(np.float32).tiny)  # normal number


class Updates(NamedTuple):
    """A step of each optimiser: the new value first, then the new moments."""

    momentum: Formula
    adagrad: Formula
    rmsprop: Formula
    adam: Formula


def updates(inline: Formula, fma: Formula, flushed: Formula, square_root: Formula) -> Updates:
    """The formulas for a machine.

    flushed  a number, with zero for what is no normal float32: moments decay towards zero and,
             rounded to nearest, stop short of it, where a CPU is slow
    Gradients come with the decay in them.
    """

    @inline
    def momentum(value, slope, velocity, rate, factor, nesterov):
        """v = factor v + g, θ -= rate v; Sutskever et al. 2013 in PyTorch's form."""
        moving = flushed(fma(velocity, factor, slope))
        step = fma(moving, factor, slope) if nesterov else moving
        return fma(step, -rate, value), moving

    @inline
    def adagrad(value, slope, squares, rate, eps):
        """s += g², θ -= rate g / (√s + eps). Duchi, Hazan and Singer 2011."""
        sums = flushed(fma(slope, slope, squares))
        return fma(slope / (square_root(sums) + eps), -rate, value), sums

    @inline
    def rmsprop(slope, squares, alpha, rest, eps):
        """(g / (√s + eps), s) with s = alpha s + rest g², rest = 1 - alpha.

        Tieleman and Hinton 2012, in PyTorch's form.
        """
        mean = flushed(fma(slope * slope, rest, squares * alpha))
        return slope / (square_root(mean) + eps), mean

    @inline
    def adam(value, slope, means, squares, rate, rest1, beta2, rest2, root, eps, lost):
        """m += rest1 (g - m), s = beta2 s + rest2 g², θ -= lost θ + rate m / (root √s + eps).

        Kingma and Ba 2015, algorithm 1, in PyTorch's form: rest = 1 - beta, rate and root have the
        corrections of the bias in them. lost is the part of θ that AdamW takes away (Loshchilov and
        Hutter 2019); a factor 1 - lost would be rounded the same way at every step, and drift.
        """
        mean = flushed(fma(slope - means, rest1, means))
        square = flushed(fma(slope * slope, rest2, squares * beta2))
        move = mean / fma(square_root(square), root, eps)
        return value - fma(move, rate, value * lost), mean, square

    return Updates(momentum, adagrad, rmsprop, adam)


@inline
def flushed(vector):
    """The vector, with zero for what is no normal number."""
    return select(absolute(vector) < SMALLEST, np.float32(0), vector)


momentum_update, adagrad_update, rmsprop_update, adam_update = updates(
    inline, fma, flushed, square_root
)


@inline
def any_of(gradients, i):
    """Whether one of gradients[i:i + 16] is not zero; NaN is not."""
    found = False
    for j in range(i, i + 16, LANES):
        found |= any_lane(load(gradients, j) != np.float32(0))
    return found


@jit
def sgd_step(values, gradients, velocity, start, stop, rate, momentum, nesterov, decay):
    """θ -= rate (g + decay θ), or with momentum v = momentum v + g, θ -= rate v.

    Sutskever et al. 2013 for the momenta, in PyTorch's form. velocity[0] without momentum.
    """
    for i in range(start, stop, LANES):
        slope = load(gradients, i)
        if momentum == 0 and decay == 0 and not any_lane(slope != np.float32(0)):
            continue  # rows of an embedding that no token of this step has
        value = load(values, i)
        slope = fma(value, decay, slope)
        if momentum != 0:
            value, moving = momentum_update(
                value, slope, load(velocity, i), rate, momentum, nesterov
            )
            store(velocity, i, moving)
            store(values, i, value)
        else:
            store(values, i, fma(slope, -rate, value))


@jit
def adagrad_step(values, gradients, squares, start, stop, rate, eps, decay):
    """s += g², θ -= rate g / (√s + eps). Duchi, Hazan and Singer 2011."""
    for i in range(start, stop, LANES):
        slope = load(gradients, i)
        if decay == 0 and not any_lane(slope != np.float32(0)):
            continue
        value = load(values, i)
        slope = fma(value, decay, slope)
        value, sums = adagrad_update(value, slope, load(squares, i), rate, eps)
        store(squares, i, sums)
        store(values, i, value)


@jit
def rmsprop_step(
    values, gradients, squares, velocity, start, stop, rate, alpha, rest, eps, momentum, decay
):
    """s = alpha s + rest g², v = momentum v + g / (√s + eps), θ -= rate v; rest = 1 - alpha.

    Tieleman and Hinton 2012, in PyTorch's form. velocity[0] without momentum.
    """
    for i in range(start, stop, LANES):
        value = load(values, i)
        slope = fma(value, decay, load(gradients, i))
        move, mean = rmsprop_update(slope, load(squares, i), alpha, rest, eps)
        store(squares, i, mean)
        if momentum != 0:
            move = flushed(fma(load(velocity, i), momentum, move))
            store(velocity, i, move)
        store(values, i, fma(move, -rate, value))


@jit
def adam_step(
    values,
    gradients,
    means,
    squares,
    start,
    stop,
    rate,
    rest1,
    beta2,
    rest2,
    root,
    eps,
    decay,
    lost,
):
    """As `updates.adam`; decay θ is added to the gradient (L2)."""
    for i in range(start, stop, LANES):
        value = load(values, i)
        slope = fma(value, decay, load(gradients, i))
        value, mean, square = adam_update(
            value, slope, load(means, i), load(squares, i), rate, rest1, beta2, rest2, root, eps,
            lost,
        )  # fmt: skip
        store(means, i, mean)
        store(squares, i, square)
        store(values, i, value)


@jit
def square_sums(sums, scratch, gradients, start, stop, first, last):
    """sums[b] = the sum of g² over block b of [start, stop), for first <= b < last.

    sums float64[blocks]; scratch float64[16]; a block is BLOCK gradients. Sixteen partial sums,
    always in the same order whatever the width of a vector.
    """
    for block in range(first, last):
        low = start + block * BLOCK
        high = min(stop, low + BLOCK)
        scratch[:] = 0.0
        for i in range(low, high, 16):
            if not any_of(gradients, i):
                continue  # rows of an embedding that no token of this step has
            for lane in range(16):
                slope = np.float64(gradients[np.uint64(i + lane)])
                scratch[np.uint64(lane)] += slope * slope
        total = 0.0
        for lane in range(16):
            total += scratch[np.uint64(lane)]
        sums[block] = total


@jit
def scale(gradients, start, stop, factor):
    """gradients[start:stop] *= factor."""
    for i in range(start, stop, LANES):
        store(gradients, i, load(gradients, i) * factor)


@jit
def clamp(gradients, start, stop, limit):
    """Bring gradients[start:stop] into [-limit, limit]; NaN stays NaN."""
    for i in range(start, stop, LANES):
        # the vector stands second: where it is NaN, minimum and maximum give the second
        store(gradients, i, maximum(-limit, minimum(limit, load(gradients, i))))
