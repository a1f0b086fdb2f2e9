"""Pooling on the device; see nn/pooling.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.kernels.cuda.nn import gemm, sums
from fastseq.kernels.cuda.nn import pooling as kernels
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import pooling
from fastseq.nn.arrays import as_offsets, kept_by_forward
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.types import Float32, Int64


class _Kept(NamedTuple):
    """What a forward pass leaves: offsets on the device, and what its kind needs."""

    offsets: Any
    sequences: int
    x: Any
    activations: Any  # [N, A], tanh(W h + b)
    weights: Any  # [N]
    maxima: Any  # [B, F]


class Pooling(DeviceLayer, pooling.Pooling):
    """As nn.pooling.Pooling: offsets from the host, rows on the device."""

    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        self._left: _Kept | None = None

    def prepare(self, offsets: Int64) -> None:
        """Send what a pass over sequences of these offsets needs."""
        self.whole_numbers(offsets, "offsets")

    def forward(self, x: Any, offsets: npt.ArrayLike, training: bool = True) -> Any:
        self.begin(training)
        rows = self.rows(x, self.size, "the input")
        given = as_offsets(offsets, len(rows))
        bounds, shape = self.whole_numbers(given, "offsets"), (len(given) - 1, self.size)
        y = self.space.array("y", *shape) if training else memory.empty(shape)
        u = weights = maxima = None
        if self.kind == "last":
            kernels.last_rows(y, rows, bounds, self._half)
        elif self.kind == "max":
            maxima = self.space.array("maxima", *shape, dtype=np.int32)
            kernels.segment_maxima(y, maxima, rows, bounds)
        else:
            weights = self.space.array("weights", len(rows))
            if self.kind == "mean":
                kernels.mean_weights(weights, bounds)
            else:
                u = self._attend(weights, rows, bounds)
            kernels.segment_sums(y, rows, weights, bounds)
        if training:
            self._left = _Kept(bounds, shape[0], rows, u, weights, maxima)
        return y

    def backward(self, dy: Any) -> Any:
        kept = kept_by_forward(self._left)
        self._left = None
        gradients = self.rows(dy, self.size, "the gradient")
        if len(gradients) != kept.sequences:
            raise DataError(
                f"a gradient of {len(gradients)} rows, expected {kept.sequences} sequences"
            )
        dx = self.space.array("dx", *kept.x.shape)
        if self.kind == "last":
            kernels.last_rows_backward(dx, gradients, kept.offsets, self._half)
        elif self.kind == "max":
            kernels.segment_maxima_backward(dx, gradients, kept.maxima, kept.offsets)
        else:
            kernels.segment_spread(dx, gradients, kept.weights, kept.offsets)
        if self.kind == "attention":
            self._attend_back(dx, gradients, kept)
        return dx

    def attention_weights(self) -> Float32:
        return memory.get(kept_by_forward(self._left).weights)

    @property
    def _half(self) -> int:
        return self.size // 2 if self.bidirectional else self.size

    def _attend(self, weights: Any, x: Any, offsets: Any) -> Any:
        """Fill in the weights; returns tanh(W x + b)."""
        u = self.space.array("u", len(x), self.attention)
        of = self.on_device
        gemm.multiply(u, x, of["weight"], transpose_b=True, bias=of["bias"],
                      precision=self.precision)  # fmt: skip
        scores = self.space.array("scores", len(x))
        kernels.attention_scores(scores, u, of["vector"])
        kernels.segment_softmax(weights, scores, offsets)
        return u

    def _attend_back(self, dx: Any, dy: Any, kept: _Kept) -> None:
        """Add to dx, and to the parameters' gradients, what comes through the weights."""
        N, u, to = len(kept.x), kept.activations, self.grads_on_device
        dweights, dscores = self.space.array("dweights", N), self.space.array("scores", N)
        kernels.segment_products(dweights, kept.x, dy, kept.offsets)
        kernels.segment_softmax_backward(dscores, kept.weights, dweights, kept.offsets)
        options: dict[str, Any] = {"add": True, "precision": self.precision}
        vector = to["vector"].reshape(1, self.attention)
        gemm.multiply(vector, dscores.reshape(N, 1), u, transpose_a=True, **options)
        kernels.attention_scores_backward(u, dscores, self.on_device["vector"])
        gemm.multiply(to["weight"], u, kept.x, transpose_a=True, **options)
        sums.column_sums(to["bias"], u)
        gemm.multiply(dx, u, self.on_device["weight"], **options)
