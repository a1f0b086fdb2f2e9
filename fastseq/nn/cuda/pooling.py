"""Pooling on the device; see nn/pooling.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.nn import pooling as kernels
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import pooling
from fastseq.nn.arrays import saved_by_forward
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.nn.pooling import Saved
from fastseq.types import Float32, Int64


class Pooling(DeviceLayer, pooling.Pooling):
    """As nn.pooling.Pooling: offsets from the host, rows on the device."""

    def prepare(self, offsets: Int64) -> None:
        self.whole_numbers(offsets, "offsets")

    def _pool(self, y: Any, x: Any, offsets: Int64) -> Saved:
        bounds = self.whole_numbers(offsets, "offsets")
        if self.kind == "last":
            kernels.last_rows(y, x, bounds, self._half)
            return Saved(bounds, x)
        if self.kind == "max":
            maxima = self.space.array("maxima", *y.shape, dtype=np.int32)
            kernels.segment_maxima(y, maxima, x, bounds)
            return Saved(bounds, x, maxima=maxima)
        u, weights = None, self.space.array("weights", len(x))
        if self.kind == "mean":
            kernels.mean_weights(weights, bounds)
        else:
            u = self._attend_on_device(weights, x, bounds)
        kernels.segment_sums(y, x, weights, bounds)
        return Saved(bounds, x, u, weights)

    def _pool_back(self, dx: Any, dy: Any, saved: Saved) -> None:
        if self.kind == "last":
            kernels.last_rows_backward(dx, dy, saved.offsets, self._half)
        elif self.kind == "max":
            kernels.segment_maxima_backward(dx, dy, saved.maxima, saved.offsets)
        else:
            kernels.segment_spread(dx, dy, saved.weights, saved.offsets)
        if self.kind == "attention":
            self._attend_back(dx, dy, saved)

    def attention_weights(self) -> Float32:
        return memory.get(saved_by_forward(self._saved).weights)

    def _attend_on_device(self, weights: Any, x: Any, offsets: Any) -> Any:
        """Write the weights; returns tanh(W x + b)."""
        u = self.space.array("u", len(x), self.attention)
        of = self.on_device
        gemm.multiply(u, x, of["weight"], transpose_b=True, bias=of["bias"],
                      precision=self.precision)  # fmt: skip
        scores = self.space.array("scores", len(x))
        kernels.attention_scores(scores, u, of["vector"])
        kernels.segment_softmax(weights, scores, offsets)
        return u

    def _attend_back(self, dx: Any, dy: Any, saved: Saved) -> None:
        """Add the gradient through the weights to dx and to the parameters' gradients."""
        N, u, to = len(saved.x), saved.activations, self.grads_on_device
        dweights, dscores = self.space.array("dweights", N), self.space.array("scores", N)
        kernels.segment_products(dweights, saved.x, dy, saved.offsets)
        kernels.segment_softmax_backward(dscores, saved.weights, dweights, saved.offsets)
        options: dict[str, Any] = {"add": True, "precision": self.precision}
        vector = to["vector"].reshape(1, self.attention)
        gemm.multiply(vector, dscores.reshape(N, 1), u, transpose_a=True, **options)
        kernels.attention_scores_backward(u, dscores, self.on_device["vector"])
        gemm.multiply(to["weight"], u, saved.x, transpose_a=True, **options)
        row_kernels.column_sums(to["bias"], u)
        gemm.multiply(dx, u, self.on_device["weight"], **options)
