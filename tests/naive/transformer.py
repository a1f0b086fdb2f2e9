"""Layer normalisation, GELU, attention and the layers of a transformer, in float64, one sequence
and head at a time. Every function returns its result with a function that gives the gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from tests.naive.dropout import mask

Array = np.ndarray
Arrays = dict[str, Array]
Back = Callable[[Array], Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def layer_norm(
    x: Array, gamma: Array, beta: Array, eps: float
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array]]]:
    """y, and dy -> (dx, dgamma, dbeta)."""
    rstd = 1 / np.sqrt(x.var(axis=1, keepdims=True) + eps)
    n = (x - x.mean(axis=1, keepdims=True)) * rstd

    def back(dy: Array) -> tuple[Array, Array, Array]:
        g = dy * gamma
        middle = g.mean(axis=1, keepdims=True) + n * (g * n).mean(axis=1, keepdims=True)
        return (g - middle) * rstd, (dy * n).sum(axis=0), dy.sum(axis=0)

    return n * gamma + beta, back


def gelu(x: Array, is_tanh: bool) -> tuple[Array, Back]:
    """y, and dy -> dx."""
    if is_tanh:
        c = math.sqrt(2 / math.pi)
        t = np.tanh(c * (x + 0.044715 * x**3))
        slope = (1 + t) / 2 + x / 2 * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)
        return x / 2 * (1 + t), lambda dy: dy * slope
    phi = (1 + _erf(x / math.sqrt(2))) / 2
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return x * phi, lambda dy: dy * (phi + x * density)


def attention(
    qkv: Array, offsets: Array, heads: int, rate: float = 0.0, key: int = 0
) -> tuple[Array, Back]:
    """out[N, H] of qkv[N, 3H], and dout -> dqkv."""
    H = qkv.shape[1] // 3
    size = H // heads
    out = np.zeros((len(qkv), H))
    backs = []
    for a, b in pairwise(offsets):
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            q, k, v = (qkv[a:b, i * H : (i + 1) * H][:, columns] for i in range(3))
            scores = q @ k.T / math.sqrt(size)
            p = np.exp(scores - scores.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            m = np.ones_like(p)
            if rate:
                m = np.array(
                    [mask(b - a, rate, key, (row * heads + head) << 32) for row in range(a, b)]
                )
            out[a:b, columns] = (p * m) @ v
            backs.append((slice(a, b), columns, q, k, v, p, m))

    def back(dout: Array) -> Array:
        dqkv = np.zeros((len(qkv), 3, H))
        for rows, columns, q, k, v, p, m in backs:
            d = dout[rows, columns]
            dp = d @ v.T * m
            ds = p * (dp - (p * dp).sum(axis=1, keepdims=True)) / math.sqrt(size)
            dqkv[rows, 0, columns] = ds @ k
            dqkv[rows, 1, columns] = ds.T @ q
            dqkv[rows, 2, columns] = (p * m).T @ d
        return dqkv.reshape(len(qkv), 3 * H)

    return out, back
