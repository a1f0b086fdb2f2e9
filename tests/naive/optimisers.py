"""Optimisers by their definitions: float64, one array, a list of gradients. PyTorch's defaults.

Each function takes the first values, the gradients of the steps and the learning rates of the
steps, and returns the last values. Nothing of fastseq is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Gradients = Sequence[np.ndarray]
Rates = Sequence[float]


def sgd(
    values: np.ndarray,
    gradients: Gradients,
    rates: Rates,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> np.ndarray:
    velocity: np.ndarray | None = None
    for gradient, rate in zip(gradients, rates, strict=True):
        slope = gradient + weight_decay * values
        if momentum:
            velocity = slope if velocity is None else momentum * velocity + slope
            slope = slope + momentum * velocity if nesterov else velocity
        values = values - rate * slope
    return values


def adagrad(
    values: np.ndarray,
    gradients: Gradients,
    rates: Rates,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> np.ndarray:
    squares = np.zeros_like(values)
    for gradient, rate in zip(gradients, rates, strict=True):
        slope = gradient + weight_decay * values
        squares = squares + slope**2
        values = values - rate * slope / (np.sqrt(squares) + eps)
    return values


def rmsprop(
    values: np.ndarray,
    gradients: Gradients,
    rates: Rates,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> np.ndarray:
    squares = np.zeros_like(values)
    velocity = np.zeros_like(values)
    for gradient, rate in zip(gradients, rates, strict=True):
        slope = gradient + weight_decay * values
        squares = alpha * squares + (1 - alpha) * slope**2
        velocity = momentum * velocity + slope / (np.sqrt(squares) + eps)
        values = values - rate * velocity
    return values


def adam(
    values: np.ndarray,
    gradients: Gradients,
    rates: Rates,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction: bool = True,
) -> np.ndarray:
    mean = np.zeros_like(values)
    square = np.zeros_like(values)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        if decoupled:
            slope = gradient
            values = values - rate * weight_decay * values
        else:
            slope = gradient + weight_decay * values
        mean = betas[0] * mean + (1 - betas[0]) * slope
        square = betas[1] * square + (1 - betas[1]) * slope**2
        unbiased = mean, square
        if bias_correction:
            unbiased = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
        values = values - rate * unbiased[0] / (np.sqrt(unbiased[1]) + eps)
    return values


def adamw(
    values: np.ndarray,
    gradients: Gradients,
    rates: Rates,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    bias_correction: bool = True,
) -> np.ndarray:
    return adam(values, gradients, rates, betas, eps, weight_decay, True, bias_correction)


OPTIMISERS: dict[str, Callable[..., np.ndarray]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}
