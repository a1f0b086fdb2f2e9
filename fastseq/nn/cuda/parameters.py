"""All parameters of a model on the device, with a copy in the host's memory."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastseq.kernels.cuda.nn import optimisers, sequences
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn.parameters import Parameters, Shapes
from fastseq.threads import Team
from fastseq.types import Float32


class DeviceParameters(Parameters):
    """Parameters whose `values`, `gradients`, `arrays` and `grads` are on the device.

    `views` and `gradient_views` are copies on the host: `push` and `pull` transfer values to the
    device and back, `pull_gradients` transfers gradients back.
    """

    kernels: ClassVar[Any] = optimisers

    def __init__(self, shapes: Shapes) -> None:
        super().__init__(shapes)
        self._host, self._host_gradients = self.values, self.gradients
        self.values: Any = memory.put(self._host)
        self.gradients: Any = memory.zeros(len(self._host_gradients))
        self.arrays: dict[str, Any] = self._views(self.values)
        self.grads: dict[str, Any] = self._views(self.gradients)

    def zero_gradients(self) -> None:
        if self.gradients.size:
            sequences.fill(self.gradients, 0)

    def zeros(self) -> Any:
        return memory.zeros(len(self._host))

    def get(self, buffer: Any) -> Float32:
        return memory.get(buffer)

    def put(self, buffer: Any, values: Float32) -> None:
        memory.put(np.asarray(values, np.float32), buffer)

    def square_sum(self, start: int, stop: int, team: Team) -> list[float]:
        return [optimisers.square_sum(self.gradients, start, stop)]

    def push(self) -> None:
        memory.put(self._host, self.values)

    def pull(self) -> None:
        memory.get(self.values, self._host)

    def pull_gradients(self) -> None:
        """Bring `gradient_views` up to the gradients."""
        memory.get(self.gradients, self._host_gradients)
