"""Layer normalisation, GELU, attention and the layers of a transformer, in float64, one sequence
and head at a time. Every function returns its result with a function that gives the gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from tests.naive.dropout import mask, mixed_key

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


def dense(x: Array, values: Arrays, name: str, grads: Arrays) -> tuple[Array, Back]:
    """x · weightᵀ + bias; back adds the gradients of both to `grads` and returns dx."""
    weight, bias = values[f"{name}.weight"], values[f"{name}.bias"]

    def back(dy: Array) -> Array:
        add(grads, f"{name}.weight", dy.T @ x)
        add(grads, f"{name}.bias", dy.sum(axis=0))
        return dy @ weight

    return x @ weight.T + bias, back


def norm(x: Array, values: Arrays, name: str, eps: float, grads: Arrays) -> tuple[Array, Back]:
    """`layer_norm` with named parameters."""
    y, gradients = layer_norm(x, values[f"{name}.weight"], values[f"{name}.bias"], eps)

    def back(dy: Array) -> Array:
        dx, dweight, dbias = gradients(dy)
        add(grads, f"{name}.weight", dweight)
        add(grads, f"{name}.bias", dbias)
        return dx

    return y, back


def dropout(x: Array, rate: float, key: int) -> tuple[Array, Back]:
    kept = mask(x.size, rate, key).reshape(x.shape) if rate else np.ones_like(x)
    return x * kept, lambda dy: dy * kept


def add(grads: Arrays, name: str, gradient: Array) -> None:
    grads[name] = grads.get(name, 0) + gradient


def self_attention(
    x: Array, offsets: Array, values: Arrays, heads: int, rate: float, key: int, grads: Arrays,
    prefix: str = "",
) -> tuple[Array, Back]:  # fmt: skip
    names = [f"{prefix}{name}" for name in ("query", "key", "value")]
    products, backs = zip(*(dense(x, values, name, grads) for name in names), strict=True)
    y, attention_back = attention(
        np.concatenate(products, axis=1), offsets, heads, rate, mixed_key(key)
    )

    def back(dy: Array) -> Array:
        parts = np.split(attention_back(dy), 3, axis=1)
        return sum(f(part) for f, part in zip(backs, parts, strict=True))

    return y, back


def layer(
    x: Array, offsets: Array, values: Arrays, heads: int, is_tanh: bool, eps: float, rate: float,
    attention_rate: float, key: int, grads: Arrays, prefix: str = "",
) -> tuple[Array, Back]:  # fmt: skip
    """A TransformerLayer; back adds to `grads`, under the names of `values`."""
    p = prefix
    a, back_a = self_attention(
        x, offsets, values, heads, attention_rate, mixed_key(key, 0), grads, f"{p}attention.self."
    )
    b, back_b = dense(a, values, f"{p}attention.output.dense", grads)
    b, back_c = dropout(b, rate, mixed_key(key, 1))
    y1, back_y1 = norm(x + b, values, f"{p}attention.output.LayerNorm", eps, grads)
    z, back_z = dense(y1, values, f"{p}intermediate.dense", grads)
    g, back_g = gelu(z, is_tanh)
    o, back_o = dense(g, values, f"{p}output.dense", grads)
    o, back_p = dropout(o, rate, mixed_key(key, 2))
    y, back_y = norm(o + y1, values, f"{p}output.LayerNorm", eps, grads)

    def back(dy: Array) -> Array:
        d = back_y(dy)
        d = back_y1(d + back_z(back_g(back_o(back_p(d)))))
        return d + back_a(back_b(back_c(d)))

    return y, back


def encoder(x: Array, layers: int, key: int, grads: Arrays, *args: object) -> tuple[Array, Back]:
    """A TransformerEncoder; `args` are offsets, values, heads, is_tanh, eps and both rates."""
    backs = []
    for number in range(layers):
        x, back = layer(x, *args, mixed_key(key, number), grads, f"layer.{number}.")
        backs.append(back)

    def back_all(dy: Array) -> Array:
        for back in reversed(backs):
            dy = back(dy)
        return dy

    return x, back_all


def embeddings(
    ids: Array, types: Array, offsets: Array, values: Arrays, eps: float, rate: float, key: int,
    grads: Arrays,
) -> tuple[Array, Back]:  # fmt: skip
    """BertEmbeddings; back adds to `grads` and returns nothing of use."""
    places = np.concatenate([np.arange(b - a) for a, b in pairwise(offsets)])
    tables = {"word": ids, "token_type": types, "position": places}
    x = sum(values[f"{name}_embeddings.weight"][rows] for name, rows in tables.items())
    y, back_norm = norm(x, values, "LayerNorm", eps, grads)
    y, back_drop = dropout(y, rate, key)

    def back(dy: Array) -> Array:
        dx = back_norm(back_drop(dy))
        for name, rows in tables.items():
            gradient = np.zeros_like(values[f"{name}_embeddings.weight"])
            np.add.at(gradient, rows, dx)
            add(grads, f"{name}_embeddings.weight", gradient)
        return dx

    return y, back


def pooler(x: Array, values: Arrays, grads: Arrays) -> tuple[Array, Back]:
    z, back = dense(x, values, "dense", grads)
    y = np.tanh(z)
    return y, lambda dy: back(dy * (1 - y**2))


def masked_word_loss(
    x: Array, words: Array, targets: Array, values: Arrays, is_tanh: bool, eps: float, grads: Arrays
) -> tuple[float, Callable[[], Array]]:
    """MaskedWordHead's loss; back adds to `grads`, the embeddings' under "words", returns dx."""
    z, back_z = dense(x, values, "transform.dense", grads)
    g, back_g = gelu(z, is_tanh)
    n, back_n = norm(g, values, "transform.LayerNorm", eps, grads)
    scores = n @ words.T + values["bias"]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    counted = np.flatnonzero(targets >= 0)
    loss = -np.log(p[counted, targets[counted]]).mean()

    def back() -> Array:
        d = np.zeros_like(p)
        d[counted] = p[counted]
        d[counted, targets[counted]] -= 1
        d /= len(counted)
        add(grads, "bias", d.sum(axis=0))
        add(grads, "words", d.T @ n)
        return back_z(back_g(back_n(d @ words)))

    return float(loss), back
