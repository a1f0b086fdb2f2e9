"""Embedding, a row at a time."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def forward(weight: Array, ids: Array) -> Array:
    """y[i] = weight[ids[i]]."""
    y = np.zeros((len(ids), weight.shape[1]))
    for i, number in enumerate(ids):
        y[i] = weight[number]
    return y


def backward(words: int, ids: Array, dy: Array) -> Array:
    """The gradient of the weight."""
    dweight = np.zeros((words, dy.shape[1]))
    for i, number in enumerate(ids):
        dweight[number] += dy[i]
    return dweight
