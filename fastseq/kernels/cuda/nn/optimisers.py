"""One optimiser step over a slice of the flat buffers; kernels/nn/optimisers.py on the GPU.

values, gradients and the moments are float32[n] on the device, of one layout; a moment that is not
kept is an array of any size. Formulas are the CPU's (kernels/nn/optimisers.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64

from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.scalars import absolute, fma, maximum, minimum, square_root
from fastseq.kernels.cuda.runtime.target import blocks_for, cuda, device_function, kernel
from fastseq.kernels.nn.optimisers import SMALLEST, updates

THREADS = 256
MOST_BLOCKS = 1056  # eight for each multiprocessor of an H100
SUMMED = 32 * THREADS  # numbers whose squares one block sums up
ZERO = np.float32(0)


@device_function
def _flushed(x):
    return ZERO if absolute(x) < SMALLEST else x


_momentum, _adagrad, _rmsprop, _adam = updates(device_function, fma, _flushed, square_root)


@kernel(
    "float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, int64, float32",
    threads=THREADS,
    registers=48,
)
def sgd_all(values, gradients, velocity, start, stop, rate, momentum, nesterov, decay):
    """See `sgd_step`."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        if momentum != ZERO:
            value, moving = _momentum(values[i], gradient, velocity[i], rate, momentum, nesterov)
            velocity[i] = moving
            values[i] = value
        else:
            values[i] = fma(gradient, -rate, values[i])


@kernel(
    "float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, float32",
    threads=THREADS,
    registers=48,
)
def adagrad_all(values, gradients, squares, start, stop, rate, eps, decay):
    """See `adagrad_step`."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        value, sums = _adagrad(values[i], gradient, squares[i], rate, eps)
        squares[i] = sums
        values[i] = value


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, "
    "float32, float32, float32, float32",
    threads=THREADS,
    registers=56,
)
def rmsprop_all(
    values, gradients, squares, velocity, start, stop, rate, alpha, rest, eps, momentum, decay
):
    """See `rmsprop_step`."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        move, mean = _rmsprop(gradient, squares[i], alpha, rest, eps)
        squares[i] = mean
        if momentum != ZERO:
            move = _flushed(fma(velocity[i], momentum, move))
            velocity[i] = move
        values[i] = fma(move, -rate, values[i])


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32, float32, "
    "float32, float32, float32, float32, float32, float32",
    threads=THREADS,
    registers=56,
)
def adam_all(
    values, gradients, means, squares, start, stop, rate, rest1, beta2, rest2, root, eps, decay,
    lost,
):  # fmt: skip
    """See `adam_step`."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradient = fma(values[i], decay, gradients[i])
        value, mean, square = _adam(
            values[i], gradient, means[i], squares[i], rate, rest1, beta2, rest2, root, eps, lost
        )
        means[i] = mean
        squares[i] = square
        values[i] = value


@kernel("float32[::1], int64, int64, float32", threads=THREADS, registers=48)
def scale_all(gradients, start, stop, factor):
    """See `scale`."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradients[i] = gradients[i] * factor


@kernel("float32[::1], int64, int64, float32", threads=THREADS, registers=48)
def clamp_all(gradients, start, stop, limit):
    """See `clamp`."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        gradients[i] = maximum(-limit, minimum(limit, gradients[i]))


@kernel(
    "float64[::1], float32[::1], int64, int64, int64",
    threads=THREADS,
    registers=40,
    float64=True,
    shared=8 * THREADS,
)
def sum_squares(sums, x, start, stop, count):
    """sums[b] = the sum of x² over `count` numbers from start + b · count on, block b.

    In float64, as squares of float32 are exact there; each thread its own, then in a tree: one
    order, whatever runs first. Dynamic shared memory: eight bytes a thread.
    """
    partial = cuda.shared.array(0, float64)
    thread = cuda.threadIdx.x
    threads = cuda.blockDim.x
    first = start + cuda.blockIdx.x * count
    total = 0.0
    for i in range(first + thread, min(first + count, stop), threads):
        total += np.float64(x[i]) * np.float64(x[i])
    partial[thread] = total
    cuda.syncthreads()
    step = threads >> 1
    while step:
        if thread < step:
            partial[thread] += partial[thread + step]
        cuda.syncthreads()
        step >>= 1
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


def sgd_step(
    values: Any, gradients: Any, velocity: Any, start: int, stop: int, rate: Any, momentum: Any,
    nesterov: bool, decay: Any,
) -> None:  # fmt: skip
    """θ -= rate (g + decay θ), or with momentum v = momentum v + g, θ -= rate v."""
    sgd_all(
        _blocks(start, stop), values, gradients, velocity, start, stop, _f(rate), _f(momentum),
        int(nesterov), _f(decay), threads=_threads(start, stop),
    )  # fmt: skip


def adagrad_step(
    values: Any, gradients: Any, squares: Any, start: int, stop: int, rate: Any, eps: Any,
    decay: Any,
) -> None:  # fmt: skip
    """s += g², θ -= rate g / (√s + eps)."""
    adagrad_all(
        _blocks(start, stop), values, gradients, squares, start, stop, _f(rate), _f(eps), _f(decay),
        threads=_threads(start, stop),
    )  # fmt: skip


def rmsprop_step(
    values: Any, gradients: Any, squares: Any, velocity: Any, start: int, stop: int, rate: Any,
    alpha: Any, rest: Any, eps: Any, momentum: Any, decay: Any,
) -> None:  # fmt: skip
    """s = alpha s + rest g², v = momentum v + g / (√s + eps), θ -= rate v."""
    rmsprop_all(
        _blocks(start, stop), values, gradients, squares, velocity, start, stop, _f(rate),
        _f(alpha), _f(rest), _f(eps), _f(momentum), _f(decay), threads=_threads(start, stop),
    )  # fmt: skip


def adam_step(
    values: Any, gradients: Any, means: Any, squares: Any, start: int, stop: int, rate: Any,
    rest1: Any, beta2: Any, rest2: Any, root: Any, eps: Any, decay: Any, lost: Any,
) -> None:  # fmt: skip
    """As `updates.adam`; decay θ is added to the gradient (L2)."""
    adam_all(
        _blocks(start, stop), values, gradients, means, squares, start, stop, _f(rate), _f(rest1),
        _f(beta2), _f(rest2), _f(root), _f(eps), _f(decay), _f(lost),
        threads=_threads(start, stop),
    )  # fmt: skip


def scale(gradients: Any, start: int, stop: int, factor: Any) -> None:
    """gradients[start:stop] *= factor."""
    scale_all(
        _blocks(start, stop), gradients, start, stop, _f(factor), threads=_threads(start, stop)
    )


def clamp(gradients: Any, start: int, stop: int, limit: Any) -> None:
    """Bring gradients[start:stop] into [-limit, limit]; NaN stays NaN."""
    clamp_all(
        _blocks(start, stop), gradients, start, stop, _f(limit), threads=_threads(start, stop)
    )


def square_sum(x: Any, start: int, stop: int) -> float:
    """The sum of x² over [start, stop) of float32[n], in float64; waits for the device."""
    parts = blocks_for(stop - start, SUMMED)
    if not parts:
        return 0.0
    sums = memory.empty(parts, np.float64)
    threads = min(THREADS, 1 << max(0, stop - start - 1).bit_length())
    sum_squares(parts, sums, x, start, stop, SUMMED, threads=threads, shared=8 * threads)
    return float(memory.get(sums).sum())


def _f(value: Any) -> np.float32:
    return np.float32(value)


def _threads(start: int, stop: int) -> int:
    return max(1, min(THREADS, stop - start))


def _blocks(start: int, stop: int) -> int:
    return blocks_for(stop - start, THREADS, MOST_BLOCKS)
