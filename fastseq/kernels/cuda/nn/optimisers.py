"""One optimiser step over a slice of the flat buffers, as in kernels/nn/optimisers.py.

values, gradients and the moments are float32[n] on the device, of one layout; a moment that is not
used is an array of any size. Formulas are shared with the CPU (kernels/nn/optimisers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numba import float64

from fastseq.kernels.cuda.nn.softmax import sum_of
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.instructions import absolute, fma, maximum, minimum, square_root
from fastseq.kernels.cuda.runtime.target import (
    block_size,
    blocks_for,
    cuda,
    device_function,
    kernel,
)
from fastseq.kernels.nn.optimisers import SMALLEST, updates

THREADS = 256
MOST_BLOCKS = 1056  # eight for each multiprocessor of an H100
SUMMED = 32 * THREADS  # numbers whose squares one block sums up
ZERO = np.float32(0)


@device_function
def _flushed(x):
    return ZERO if absolute(x) < SMALLEST else x


_momentum, _adagrad, _rmsprop, _adam = updates(device_function, fma, _flushed, square_root)


def over_slice(types: str, registers: int = 48) -> Callable[..., Callable[..., None]]:
    """Make a kernel a Python function that launches it for the elements [start, stop)."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        made = kernel(types, threads=THREADS, registers=registers)(function)
        at = function.__code__.co_varnames.index("start")

        @wraps(function)
        def launch(*arguments: Any) -> None:
            start, stop = arguments[at : at + 2]
            made.each(stop - start, *arguments, most=MOST_BLOCKS)

        return launch

    return declare


@over_slice(
    "float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, int64, float32"
)
def sgd_step(values, gradients, velocity, start, stop, rate, momentum, nesterov, decay):
    """θ -= rate (g + decay θ), or with momentum v = momentum v + g, θ -= rate v."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        if momentum != ZERO:
            value, moving = _momentum(values[i], gradient, velocity[i], rate, momentum, nesterov)
            velocity[i] = moving
            values[i] = value
        else:
            values[i] = fma(gradient, -rate, values[i])


@over_slice("float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, float32")
def adagrad_step(values, gradients, squares, start, stop, rate, eps, decay):
    """s += g², θ -= rate g / (√s + eps)."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        value, sums = _adagrad(values[i], gradient, squares[i], rate, eps)
        squares[i] = sums
        values[i] = value


@over_slice(
    "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, "
    "float32, float32, float32, float32",
    registers=56,
)
def rmsprop_step(
    values, gradients, squares, velocity, start, stop, rate, alpha, rest, eps, momentum, decay
):
    """s = alpha s + rest g², v = momentum v + g / (√s + eps), θ -= rate v."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        move, mean = _rmsprop(gradient, squares[i], alpha, rest, eps)
        squares[i] = mean
        if momentum != ZERO:
            move = _flushed(fma(velocity[i], momentum, move))
            velocity[i] = move
        values[i] = fma(move, -rate, values[i])


@over_slice(
    "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, "
    "float32, float32, float32, float32, float32, float32",
    registers=56,
)
def adam_step(
    values, gradients, means, squares, start, stop, rate, one_minus_beta1, beta2, one_minus_beta2,
    bias_correction2, eps, decay, decoupled_decay,
):  # fmt: skip
    """As `updates.adam`; decay θ is added to the gradient (L2)."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        value, mean, square = _adam(
            values[i], gradient, means[i], squares[i], rate, one_minus_beta1, beta2,
            one_minus_beta2, bias_correction2, eps, decoupled_decay,
        )  # fmt: skip
        means[i] = mean
        squares[i] = square
        values[i] = value


@over_slice("float32[::1], int64, int64, float32")
def scale(gradients, start, stop, factor):
    """gradients[start:stop] *= factor."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradients[i] = gradients[i] * factor


@over_slice("float32[::1], int64, int64, float32")
def clamp(gradients, start, stop, limit):
    """Clip gradients[start:stop] to [-limit, limit]; NaN stays NaN."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradients[i] = maximum(-limit, minimum(limit, gradients[i]))


@kernel(
    "float64[::1], float32[::1], int64, int64, int64", threads=THREADS, registers=40, float64=True,
    shared=8 * THREADS,
)  # fmt: skip
def sum_squares(sums, x, start, stop, count):
    """sums[b] = the sum of x² over `count` numbers from start + b · count on, block b.

    In float64, where squares of float32 are exact. Dynamic shared memory: eight bytes a thread.
    """
    partial = cuda.shared.array(0, float64)
    first = start + cuda.blockIdx.x * count
    total = 0.0
    for i in range(first + cuda.threadIdx.x, min(first + count, stop), cuda.blockDim.x):
        total += np.float64(x[i]) * np.float64(x[i])
    total = sum_of(partial, total)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


def square_sum(x: Any, start: int, stop: int) -> float:
    """The sum of x² over [start, stop) of float32[n], in float64; waits for the device."""
    parts = blocks_for(stop - start, SUMMED)
    if not parts:
        return 0.0
    sums = memory.empty(parts, np.float64)
    threads = block_size(stop - start, THREADS)
    sum_squares(parts, sums, x, start, stop, SUMMED, threads=threads, shared=8 * threads)
    return float(memory.get(sums).sum())
