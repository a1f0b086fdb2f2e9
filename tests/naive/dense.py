"""A fully connected layer, each sum written out."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def forward(x: Array, weight: Array, bias: Array) -> Array:
    """y[n, m] = Σ_k x[n, k] weight[m, k] + bias[m]."""
    return np.einsum("nk,mk->nm", x, weight) + bias


def backward(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias)."""
    dx = np.einsum("nm,mk->nk", dy, weight)
    dweight = np.einsum("nm,nk->mk", dy, x)
    dbias = np.einsum("nm->m", dy)
    return dx, dweight, dbias
