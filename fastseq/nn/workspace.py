"""Arrays used again from call to call.

A fresh large array costs a page fault for every 4 KB, which for a step of training is as much as a
tenth of its arithmetic.
"""

from __future__ import annotations

import math

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.types import Float32


class Workspace:
    """Named float32 arrays that keep their memory while they do not grow."""

    def __init__(self) -> None:
        self._buffers: dict[object, Float32] = {}

    def array(self, name: object, *shape: int) -> Float32:
        """An array of this shape whose values are whatever was there."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = aligned_zeros(size)
        return buffer[:size].reshape(shape)

    def zeros(self, name: object, *shape: int) -> Float32:
        """An array of this shape, all zero."""
        found = self.array(name, *shape)
        found.fill(0)
        return found
