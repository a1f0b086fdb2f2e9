"""Embedding, dense, normalisation, GELU and dropout layers and the loss of an output layer, on the
device."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.nn.activations import gelu_backward, gelu_forward
from fastseq.kernels.cuda.nn.dropout import drop
from fastseq.kernels.cuda.nn.layer_norm import (
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_gradients,
)
from fastseq.kernels.cuda.nn.softmax import cross_entropy_rows
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import layers, losses
from fastseq.nn.cuda.layer import DeviceLayer, Feed, Pending, Space
from fastseq.types import Float64, Int32, Int64


class Embedding(DeviceLayer, layers.Embedding):
    """As nn.layers.Embedding: ids from the host, rows on the device."""

    def load_rows(self, rows: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        self.parameters_of.pull()
        super().load_rows(rows, vectors)
        self.parameters_of.push()

    def prepare(self, ids: Int32, distinct: bool) -> Int64 | None:
        index: Int64 | None = None
        if distinct:
            ids, index = self._distinct(ids)
        self.whole_numbers(ids, "ids")
        if not self.frozen:
            self.feed.groups(ids)
        return index

    def _gather(self, out: Any, ids: Int32) -> None:
        row_kernels.gather(out, self.on_device["weight"], self.whole_numbers(ids, "ids"))

    def _distinct(self, ids: Int32) -> tuple[Int32, Int64]:
        make = super()._distinct
        return self.feed.made("distinct", (ids,), lambda: make(ids))

    def _add_rows(self, dy: Any, ids: Int32) -> None:
        row_kernels.add_rows(self.grads_on_device["weight"], dy, *self.feed.groups(ids))


class Dense(DeviceLayer, layers.Dense):
    """As nn.layers.Dense, over arrays on the device."""

    @property
    def _owner(self) -> Any:
        """The layer that has the weight: this one or an embedding."""
        return self.weight_of or self

    def prepare(self, backward: bool) -> None:
        """Nothing: products take the weight as it is."""

    def project(self, y: Any, x: Any) -> None:
        gemm.multiply(
            y, x, self._owner.on_device["weight"], transpose_b=True,
            bias=self.on_device.get("bias"), precision=self.precision,
        )  # fmt: skip

    def multiply(self, y: Any, x: Any) -> None:
        """`project` without the bias, for layers whose next kernel adds it."""
        weight = self._owner.on_device["weight"]
        gemm.multiply(y, x, weight, transpose_b=True, precision=self.precision)

    def project_back(self, dx: Any, dy: Any, add: bool = False) -> None:
        """As of the CPU's layer, added to dx when `add`."""
        gemm.multiply(dx, dy, self._owner.on_device["weight"], add=add, precision=self.precision)

    def add_gradients(self, x: Any, dy: Any) -> None:
        if self.weight_of is None or not self.weight_of.frozen:
            gemm.multiply(
                self._owner.grads_on_device["weight"], dy, x, transpose_a=True, add=True,
                precision=self.precision,
            )  # fmt: skip
        if self.has_bias and len(dy):
            row_kernels.column_sums(self.grads_on_device["bias"], dy)


class LayerNorm(DeviceLayer, layers.LayerNorm):
    """As nn.layers.LayerNorm, over arrays on the device."""

    @property
    def affine(self) -> tuple[Any, Any, float]:
        """gamma, beta and eps."""
        return self.on_device["weight"], self.on_device["bias"], self.eps

    def add_gradients(self, dy: Any, x: Any, mean: Any, rstd: Any) -> None:
        gradients = self.grads_on_device
        layer_norm_gradients(gradients["weight"], gradients["bias"], dy, x, mean, rstd)

    def _normalise_all(self, y: Any, x: Any, training: bool) -> tuple[Any, Any, Any]:
        mean, rstd = (self.space.array(n, len(x)) if training else None for n in ("mean", "rstd"))
        layer_norm_forward(y, mean, rstd, x, *self.affine)
        return x, mean, rstd

    def _normalise_all_back(self, dx: Any, dy: Any, saved: tuple[Any, Any, Any]) -> None:
        layer_norm_backward(dx, dy, *saved, self.on_device["weight"])


class Gelu(DeviceLayer, layers.Gelu):
    """As nn.layers.Gelu, over arrays on the device."""

    def _activate(self, y: Any, x: Any) -> None:
        columns = tuple(x.shape)[-1] if x.ndim > 1 else 1
        matrix = x.size // max(1, columns), columns
        gelu_forward(y.reshape(matrix), x.reshape(matrix), self.is_tanh)

    def _activate_back(self, dx: Any, dy: Any, x: Any) -> None:
        gelu_backward(dx, dy, x, self.is_tanh)


class Dropout(DeviceLayer, layers.Dropout):
    """As nn.layers.Dropout, over arrays on the device, with the CPU's masks."""

    def _drop(self, out: Any, x: Any, key: int) -> None:
        drop(out, x, key, *layers.limit_and_scale(self.rate))


class ProjectedCrossEntropy(losses.ProjectedCrossEntropy):
    """As nn.losses.ProjectedCrossEntropy, over arrays on the device."""

    workspace: ClassVar[Any] = Space

    def __init__(self, feed: Feed, budget: int = 256 << 20) -> None:
        super().__init__(budget)
        self.lock = memory.lock
        self.feed = feed

    def _row_arrays(self, targets: Int32, shares: Float64, training: bool) -> tuple[Any, Any, Any]:
        # apart, since a pass without training may come before a loss is read
        terms = self.space.array(("terms", training), len(targets), dtype=np.float64)
        return terms, self.feed.send(targets, np.int32), self.feed.send(shares, np.float32)

    def _row_losses(self, *arguments: Any) -> None:
        cross_entropy_rows(*arguments[:-1])  # without the threads

    def _sum(self, losses: Any, shares: Float64) -> Pending:
        return Pending(losses, shares)
