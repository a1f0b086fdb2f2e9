"""What an optimiser's step does to one number, for CPU and GPU alike (see formulas.py)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.formulas import Formula

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
