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
    def momentum(value, gradient, velocity, rate, factor, nesterov):
        """v = factor v + g, θ -= rate v; Sutskever et al. 2013 in PyTorch's form."""
        moving = flushed(fma(velocity, factor, gradient))
        step = fma(moving, factor, gradient) if nesterov else moving
        return fma(step, -rate, value), moving

    @inline
    def adagrad(value, gradient, squares, rate, eps):
        """s += g², θ -= rate g / (√s + eps). Duchi, Hazan and Singer 2011."""
        sums = flushed(fma(gradient, gradient, squares))
        return fma(gradient / (square_root(sums) + eps), -rate, value), sums

    @inline
    def rmsprop(gradient, squares, alpha, one_minus_alpha, eps):
        """(g / (√s + eps), s) with s = alpha s + (1 - alpha) g².

        Tieleman and Hinton 2012, in PyTorch's form.
        """
        mean = flushed(fma(gradient * gradient, one_minus_alpha, squares * alpha))
        return gradient / (square_root(mean) + eps), mean

    @inline
    def adam(
        value, gradient, means, squares, rate, one_minus_beta1, beta2, one_minus_beta2,
        bias_correction2, eps, decay,
    ):  # fmt: skip
        """m += (1 - beta1) (g - m), s = beta2 s + (1 - beta2) g²,
        θ -= decay θ + rate m / (bias_correction2 √s + eps).

        Kingma and Ba 2015, algorithm 1, in PyTorch's form; rate has the first moment's correction
        in it. decay is the part of θ that AdamW subtracts (Loshchilov and Hutter 2019); a factor
        1 - decay would be rounded the same way at every step, and drift.
        """
        mean = flushed(fma(gradient - means, one_minus_beta1, means))
        square = flushed(fma(gradient * gradient, one_minus_beta2, squares * beta2))
        move = mean / fma(square_root(square), bias_correction2, eps)
        return value - fma(move, rate, value * decay), mean, square

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
        gradient = load(gradients, i)
        if momentum == 0 and decay == 0 and not any_lane(gradient != np.float32(0)):
            continue  # rows of an embedding that no token of this step has
        value = load(values, i)
        gradient = fma(value, decay, gradient)
        if momentum != 0:
            value, moving = momentum_update(
                value, gradient, load(velocity, i), rate, momentum, nesterov
            )
            store(velocity, i, moving)
            store(values, i, value)
        else:
            store(values, i, fma(gradient, -rate, value))


@jit
def adagrad_step(values, gradients, squares, start, stop, rate, eps, decay):
    """s += g², θ -= rate g / (√s + eps). Duchi, Hazan and Singer 2011."""
    for i in range(start, stop, LANES):
        gradient = load(gradients, i)
        if decay == 0 and not any_lane(gradient != np.float32(0)):
            continue
        value = load(values, i)
        gradient = fma(value, decay, gradient)
        value, sums = adagrad_update(value, gradient, load(squares, i), rate, eps)
        store(squares, i, sums)
        store(values, i, value)


@jit
def rmsprop_step(
    values, gradients, squares, velocity, start, stop, rate, alpha, one_minus_alpha, eps, momentum,
    decay,
):  # fmt: skip
    """s = alpha s + (1 - alpha) g², v = momentum v + g / (√s + eps), θ -= rate v.

    Tieleman and Hinton 2012, in PyTorch's form. velocity[0] without momentum.
    """
    for i in range(start, stop, LANES):
        value = load(values, i)
        gradient = fma(value, decay, load(gradients, i))
        move, mean = rmsprop_update(gradient, load(squares, i), alpha, one_minus_alpha, eps)
        store(squares, i, mean)
        if momentum != 0:
            move = flushed(fma(load(velocity, i), momentum, move))
            store(velocity, i, move)
        store(values, i, fma(move, -rate, value))


@jit
def adam_step(
    values, gradients, means, squares, start, stop, rate, one_minus_beta1, beta2, one_minus_beta2,
    bias_correction2, eps, l2, decay,
):  # fmt: skip
    """As `updates.adam`; l2 θ is added to the gradient."""
    for i in range(start, stop, LANES):
        value = load(values, i)
        value, mean, square = adam_update(
            value, fma(value, l2, load(gradients, i)), load(means, i), load(squares, i), rate,
            one_minus_beta1, beta2, one_minus_beta2, bias_correction2, eps, decay,
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
                gradient = np.float64(gradients[np.uint64(i + lane)])
                scratch[np.uint64(lane)] += gradient * gradient
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
        # the vector is the second argument, which minimum and maximum return where it is NaN
        store(gradients, i, maximum(-limit, minimum(limit, load(gradients, i))))
