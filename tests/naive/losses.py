"""Losses and their gradients, a row at a time, in float64."""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def softmax(row: Array) -> Array:
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def cross_entropy(
    logits: Array, targets: Array, weights: Array | None = None
) -> tuple[float, Array]:
    """The weighted mean over the rows with a target of 0 or more, and the gradient of logits."""
    total, loss = 0.0, 0.0
    gradient = np.zeros(logits.shape)
    for i, (row, target) in enumerate(zip(logits, targets, strict=True)):
        if target < 0:
            continue
        weight = 1.0 if weights is None else float(weights[target])
        largest = row.max()
        losses = math.log(np.exp(row - largest).sum()) + largest - row[target]
        loss += weight * losses
        total += weight
        gradient[i] = weight * softmax(row)
        gradient[i, target] -= weight
    return (loss / total, gradient / total) if total else (0.0, gradient)


def mean_squared_error(y: Array, targets: Array) -> tuple[float, Array]:
    """The mean over all elements, and the gradient of y."""
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(y.flat, targets.flat, strict=True)]
    return sum(squares) / y.size, 2 * (y - targets) / y.size
