"""What the layers on the device share: parameters there, working memory, the way of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.kernels.cuda.nn import sequences
from fastseq.kernels.cuda.nn.gemm import PRECISIONS
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn.checks import as_floats
from fastseq.nn.cuda.parameters import DeviceParameters
from fastseq.nn.cuda.space import Feed, Space
from fastseq.nn.layer import Layer
from fastseq.nn.parameters import Parameters, Views
from fastseq.settings import one_of
from fastseq.types import Float32


class DeviceLayer(Layer):
    """Comes before the CPU's class among a layer's bases: shapes, first values and checks are that
    one's, the passes are written anew.

    Beside the CPU's settings each layer takes

    precision : what the factors of large products are rounded to, see kernels.cuda.gemm
    feed : of the network it is part of, which begins the batches; None for a layer by itself
    """

    buffers: ClassVar[type[Parameters]] = DeviceParameters

    def __init__(
        self, *settings: Any, precision: str = "float32", feed: Feed | None = None, **named: Any
    ) -> None:
        self.precision = one_of("precision", precision, PRECISIONS)
        self._alone = (Feed(), Feed()) if feed is None else None
        self.feed = feed or Feed()
        self.space = Space()
        super().__init__(*settings, **named)
        self.parameters_of.push()

    def bind(self, parameters: Parameters, prefix: str = "") -> None:
        super().bind(parameters, prefix)
        assert isinstance(parameters, DeviceParameters)
        self.parameters_of = parameters
        dot = f"{prefix}." if prefix else ""
        self.on_device = {name: parameters.arrays[dot + name] for name in self.values}
        self.grads_on_device = {name: parameters.grads[dot + name] for name in self.values}

    def gradients(self) -> Views:
        """{name: a copy of the gradient on the host}."""
        self.parameters_of.pull_gradients()
        return {name: gradient.copy() for name, gradient in self.grads.items()}

    def parameters(self) -> Views:
        """{name: the array on the host}; `push` brings what is written there to the device."""
        self.parameters_of.pull()
        return dict(self.values)

    def push(self) -> None:
        """Use what was written to `parameters()`."""
        self.parameters_of.push()

    def zero_gradients(self) -> None:
        if self._alone is not None:
            self.parameters_of.zero_gradients()
            return
        for gradient in self.grads_on_device.values():
            sequences.fill(gradient, 0)

    def state_dict(self) -> Views:
        self.parameters_of.pull()
        return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Float32]) -> None:
        self.parameters_of.pull()  # others may share the buffer
        super().load_state_dict(state)
        self.parameters_of.push()

    def begin(self, training: bool = True) -> None:
        """A layer by itself takes each forward pass for a batch; those without training are sent
        another way, so that any number may come between a forward pass and its way back."""
        if self._alone is not None:
            self.feed = self._alone[training]
            self.feed.begin()

    def floats(self, x: Any, what: str) -> Any:
        """`x` on the device, itself where it is there. Raises DataError as checks.as_floats."""
        if is_on_device(x):
            return x
        return memory.put(as_floats(x, what))

    def rows(self, x: Any, width: int, what: str) -> Any:
        """`x` on the device as float32[N, width]; DataError where it is of another shape."""
        found = self.floats(x, what)
        if found.ndim != 2 or found.shape[1] != width:
            raise DataError(f"{what} is of shape {list(found.shape)}, expected [N, {width}]")
        return found

    def whole_numbers(self, array: npt.NDArray[np.integer], what: str) -> Any:
        """int32 on the device, sent once for an array while its batch lasts."""
        return self.feed.made((what, "int32"), (array,), lambda: self.feed.send(array, np.int32))


def is_on_device(x: object) -> bool:
    """Whether it is an array of kernels.cuda.memory."""
    return bool(getattr(x, "__cuda_ndarray__", False))
