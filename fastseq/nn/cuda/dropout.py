"""Dropout on the device, with the CPU's masks; see nn/dropout.py."""

from __future__ import annotations

from typing import Any

from fastseq.kernels.cuda.nn.dropout import drop
from fastseq.nn import dropout
from fastseq.nn.checks import kept_by_forward
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.nn.dropout import limit_and_scale


class Dropout(DeviceLayer, dropout.Dropout):
    """As nn.dropout.Dropout, over arrays on the device."""

    def forward(self, x: Any, training: bool = True, key: int = 0, out: Any = None) -> Any:
        if training:
            self._key = key
        if not training or not self.rate:
            return x
        return self._dropped(x, key, out, "y")

    def backward(self, dy: Any, out: Any = None) -> Any:
        key = kept_by_forward(self._key)
        self._key = None
        return self._dropped(dy, key, out, "dx") if self.rate else dy

    def _dropped(self, x: Any, key: int, out: Any, name: str) -> Any:
        out = self.space.array(name, *x.shape) if out is None else out
        drop(out, x, key, *limit_and_scale(self.rate))
        return out
