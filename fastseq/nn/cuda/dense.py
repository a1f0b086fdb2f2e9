"""Dense on the device; see nn/dense.py."""

from __future__ import annotations

from typing import Any

from fastseq.errors import DataError
from fastseq.kernels.cuda.nn import gemm, sums
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import dense
from fastseq.nn.checks import kept_by_forward
from fastseq.nn.cuda.layer import DeviceLayer


class Dense(DeviceLayer, dense.Dense):
    """As nn.dense.Dense, over arrays on the device."""

    @property
    def _of_weight(self) -> Any:
        """The layer whose the weight is: this one or an embedding."""
        return self.weight_of or self

    def forward(self, x: Any, training: bool = True) -> Any:
        rows = self.rows(x, self.inputs, "the input")
        if training:
            self._x = rows
        shape = len(rows), self.outputs
        y = self.space.array("y", *shape) if training else memory.empty(shape)
        self.project(y, rows)
        return y

    def backward(self, dy: Any) -> Any:
        x = kept_by_forward(self._x)
        self._x = None
        gradients = self.rows(dy, self.outputs, "the gradient")
        if len(gradients) != len(x):
            raise DataError(f"a gradient of {len(gradients)} rows, expected {len(x)}")
        self.add_gradients(x, gradients)
        dx = self.space.array("dx", *x.shape)
        self.project_back(dx, gradients)
        return dx

    def prepare(self, backward: bool) -> None:
        """Nothing: products take the weight as it is."""

    def project(self, y: Any, x: Any) -> None:
        gemm.multiply(
            y, x, self._of_weight.on_device["weight"], transpose_b=True,
            bias=self.on_device.get("bias"), precision=self.precision,
        )  # fmt: skip

    def project_back(self, dx: Any, dy: Any) -> None:
        gemm.multiply(dx, dy, self._of_weight.on_device["weight"], precision=self.precision)

    def add_gradients(self, x: Any, dy: Any) -> None:
        if self.weight_of is None or not self.weight_of.frozen:
            gemm.multiply(
                self._of_weight.grads_on_device["weight"], dy, x, transpose_a=True, add=True,
                precision=self.precision,
            )  # fmt: skip
        if self.has_bias and len(dy):
            sums.column_sums(self.grads_on_device["bias"], dy)
