"""Initial values of parameters, drawn from the caller's generator.

The same generator state gives the same values. A weight is [outputs, inputs, …], as PyTorch has
it; further dimensions (a kernel's window) multiply both fans. Initialisers that depend on fans, and
`orthogonal`, raise SettingsError for a shape of fewer than two dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastseq.errors import SettingsError
from fastseq.settings import one_of
from fastseq.types import Float32

Shape = tuple[int, ...]
Initialise = Callable[[Shape, np.random.Generator], Float32]


def xavier_uniform(shape: Shape, rng: np.random.Generator, gain: float = 1.0) -> Float32:
    """Uniform in ±gain √(6 / (fan_in + fan_out)). Glorot and Bengio 2010, equation 16."""
    fan_in, fan_out = _fans(shape)
    return uniform(shape, rng, gain * math.sqrt(6 / (fan_in + fan_out)))


def xavier_normal(shape: Shape, rng: np.random.Generator, gain: float = 1.0) -> Float32:
    """Normal of standard deviation gain √(2 / (fan_in + fan_out)). Glorot and Bengio 2010."""
    fan_in, fan_out = _fans(shape)
    return normal(shape, rng, gain * math.sqrt(2 / (fan_in + fan_out)))


def he_uniform(shape: Shape, rng: np.random.Generator, gain: float = 1.0) -> Float32:
    """Uniform in ±gain √(6 / fan_in), for layers before a ReLU. He et al. 2015, section 2.2."""
    return uniform(shape, rng, gain * math.sqrt(6 / _fans(shape)[0]))


def he_normal(shape: Shape, rng: np.random.Generator, gain: float = 1.0) -> Float32:
    """Normal of standard deviation gain √(2 / fan_in). He et al. 2015, equation 10."""
    return normal(shape, rng, gain * math.sqrt(2 / _fans(shape)[0]))


def orthogonal(shape: Shape, rng: np.random.Generator, gain: float = 1.0) -> Float32:
    """gain Q, with Q's rows orthonormal, or its columns where there are more rows than columns.

    Uniform over all such matrices: Q of a normal matrix's QR, each column with the sign that makes
    R's diagonal positive. Saxe, McClelland and Ganguli 2014. Dimensions past the first are one.
    """
    _fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    drawn = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diagonal(r) < 0, -gain, gain)
    return np.ascontiguousarray(q.T if rows < columns else q, np.float32).reshape(shape)


def normal(shape: Shape, rng: np.random.Generator, std: float = 0.1) -> Float32:
    """Normal of mean 0 and standard deviation `std`."""
    values: Float32 = rng.standard_normal(shape, np.float32)
    values *= np.float32(std)
    return values


def truncated_normal(shape: Shape, rng: np.random.Generator, std: float = 0.02) -> Float32:
    """Normal of mean 0 and standard deviation `std`, drawn again where beyond two of them: the
    weights of BERT (Devlin et al. 2019)."""
    values: Float32 = rng.standard_normal(shape, np.float32)
    flat = values.reshape(-1)
    far = np.flatnonzero(np.abs(flat) > 2)
    while len(far):
        flat[far] = rng.standard_normal(len(far), np.float32)
        far = far[np.abs(flat[far]) > 2]
    values *= np.float32(std)
    return values


def uniform(shape: Shape, rng: np.random.Generator, bound: float = 0.1) -> Float32:
    """Uniform in ±bound."""
    values: Float32 = rng.random(shape, np.float32)
    values -= np.float32(0.5)
    values *= np.float32(2 * bound)
    return values


def zeros(shape: Shape, rng: np.random.Generator | None = None) -> Float32:
    """Zeros; nothing is drawn."""
    return np.zeros(shape, np.float32)


INITIALISERS: dict[str, Initialise] = {
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "orthogonal": orthogonal,
    "normal": normal,
    "truncated_normal": truncated_normal,
    "uniform": uniform,
    "zeros": zeros,
}


def initialiser(name: str) -> Initialise:
    """The initialiser of that name. Raises SettingsError for an unknown name."""
    one_of("the initialiser", name, INITIALISERS)
    return INITIALISERS[name]


def stacked(initialise: Initialise, gates: int, shape: Shape, rng: np.random.Generator) -> Float32:
    """A matrix of `gates` stacked matrices, each drawn separately.

    So the fans of weight_ih [4 H, I] of an LSTM are those of one gate, H and I. Raises
    SettingsError when the rows are not a multiple of `gates`.
    """
    if gates < 1 or shape[0] % gates:
        raise SettingsError(f"{shape[0]} rows are not those of {gates} gates of equal size")
    one = (shape[0] // gates, *shape[1:])
    return np.concatenate([initialise(one, rng) for _ in range(gates)])


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) < 2 or min(shape) < 1:
        raise SettingsError(
            f"a weight of shape {list(shape)} has no fans: expected two dimensions or more, "
            "none of them 0"
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window
