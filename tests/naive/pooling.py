"""Pooling of ragged sequences, one sequence at a time, in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

Array = np.ndarray
Arrays = dict[str, Array]


def forward(
    kind: str, x: Array, offsets: Array, values: Arrays | None = None, bidirectional: bool = False
) -> Array:
    """y[B, F]. `values`: weight [A, F], bias [A] and vector [A] of "attention"."""
    return np.array([one(kind, x[a:b], values or {}, bidirectional) for a, b in pairwise(offsets)])


def backward(
    kind: str,
    x: Array,
    offsets: Array,
    dy: Array,
    values: Arrays | None = None,
    bidirectional: bool = False,
) -> tuple[Array, Arrays]:
    """dx[N, F] and the gradients of `values`."""
    values = values or {}
    dx = np.zeros_like(x)
    slopes = {name: np.zeros_like(value) for name, value in values.items()}
    for i, (a, b) in enumerate(pairwise(offsets)):
        dx[a:b] = one_backward(kind, x[a:b], dy[i], values, slopes, bidirectional)
    return dx, slopes


def attention(h: Array, values: Arrays) -> tuple[Array, Array]:
    """u [T, A] and the weights [T]."""
    u = np.tanh(h @ values["weight"].T + values["bias"])
    scores = u @ values["vector"]
    powers = np.exp(scores - scores.max())
    return u, powers / powers.sum()


def one(kind: str, h: Array, values: Arrays, bidirectional: bool) -> Array:
    if kind == "mean":
        return h.mean(axis=0)
    if kind == "max":
        return h.max(axis=0)
    if kind == "attention":
        _, weights = attention(h, values)
        return weights @ h
    half = h.shape[1] // 2 if bidirectional else h.shape[1]
    return np.concatenate([h[-1, :half], h[0, half:]])


def one_backward(
    kind: str, h: Array, dy: Array, values: Arrays, slopes: Arrays, bidirectional: bool
) -> Array:
    dh = np.zeros_like(h)
    if kind == "mean":
        dh += dy / len(h)
    elif kind == "max":
        for column in range(h.shape[1]):
            dh[h[:, column].argmax(), column] = dy[column]
    elif kind == "last":
        half = h.shape[1] // 2 if bidirectional else h.shape[1]
        dh[-1, :half] = dy[:half]
        dh[0, half:] += dy[half:]
    else:
        u, weights = attention(h, values)
        dweights = h @ dy
        dscores = weights * (dweights - weights @ dweights)
        dz = np.outer(dscores, values["vector"]) * (1 - u**2)
        slopes["vector"] += dscores @ u
        slopes["weight"] += dz.T @ h
        slopes["bias"] += dz.sum(axis=0)
        dh += np.outer(weights, dy) + dz @ values["weight"]
    return dh
