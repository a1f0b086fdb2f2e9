"""Base of the layers on the device: parameters, working memory, and transfer of a batch's integers.

The integers of a batch (ids, lengths, targets) are many small arrays. They are copied through
pinned memory, so that the host does not wait while the device computes the previous batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.nn import optimisers
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.nn.gemm import PRECISIONS
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn.arrays import as_floats
from fastseq.nn.layer import Layer, Parameters, Shapes, Views
from fastseq.settings import one_of
from fastseq.threads import Team
from fastseq.types import Float32, Float64

Made = TypeVar("Made")

_SLOTS = 4  # batches in flight or prepared
_CHUNK = 1 << 20  # bytes
_APART = 256  # bytes: alignment of arrays on the device
_SHAPES = 64  # cached views of a buffer


def is_on_device(x: object) -> bool:
    """Whether it is an array of kernels.cuda.runtime.memory."""
    return bool(getattr(x, "__cuda_ndarray__", False))


class Space:
    """Named arrays on the device that keep their memory while they do not grow."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[object, Any], Any] = {}
        self._views: dict[tuple[object, Any], dict[tuple[int, ...], Any]] = {}

    def array(self, name: object, *shape: int, dtype: Any = np.float32) -> Any:
        """An uninitialised array of this shape."""
        size, key = math.prod(shape), (name, dtype)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            self._views.pop(key, None)
            buffer = self._buffers.pop(key, None)  # free its memory before allocating more
            buffer = None
            buffer = self._buffers[key] = memory.empty(size, dtype)
        views = self._views.setdefault(key, {})
        view = views.get(shape)
        if view is None:
            if len(views) == _SHAPES:
                views.clear()
            view = views[shape] = buffer[:size].reshape(shape)
        return view


class _Slot:
    """Memory of one batch: chunks on host and device, and cached results of `made`."""

    def __init__(self) -> None:
        self.chunks: list[tuple[npt.NDArray[np.uint8], Any]] = []
        self.chunk, self.used = 0, 0
        self.sent = memory.Mark()
        self.made: dict[tuple[object, ...], tuple[Any, Any]] = {}


class Feed:
    """Transfer of a batch's numbers to the device.

    Arrays of a batch are sent between one `begin` and the next, and stay valid for the three
    batches after it.
    """

    def __init__(self) -> None:
        self._slots = [_Slot() for _ in range(_SLOTS)]
        self._now = 0

    def begin(self) -> None:
        """Start a new batch."""
        self._slots[self._now].sent.set()
        self._now = (self._now + 1) % _SLOTS
        slot = self._slots[self._now]
        slot.sent.wait()  # the device has read what is now overwritten
        slot.chunk, slot.used = 0, 0
        slot.made.clear()

    def send(self, array: npt.ArrayLike, dtype: Any) -> Any:
        """The array on the device, in this type; valid until three batches later."""
        given = np.asarray(array)
        shape, size = given.shape, int(given.size) * np.dtype(dtype).itemsize
        host, device = self._memory(size)
        staged = host.view(dtype).reshape(shape)
        np.copyto(staged, given, casting="same_kind")
        out = device.view(dtype).reshape(shape)
        memory.put_soon(out, staged)
        return out

    def made(self, what: object, arrays: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """The result of `make` for these arrays (or others over the same memory), cached since one
        of the last three batches. The arrays must not change."""
        key = (what, *map(_identity, arrays))
        for slot in self._slots:
            if key in slot.made:
                found: Made = slot.made[key][0]
                return found
        made = make()
        self._slots[self._now].made[key] = made, arrays  # referenced, so that their ids stay unique
        return made

    def whole_numbers(self, array: npt.NDArray[np.integer], what: object) -> Any:
        """int32 on the device, sent once for an array while its batch lasts."""
        return self.made((what, "int32"), (array,), lambda: self.send(array, np.int32))

    def groups(self, ids: npt.NDArray[np.integer]) -> tuple[Any, ...]:
        """The groups by which gradients of these rows are summed, on the device: see
        kernels.cuda.nn.rows.groups."""

        def make() -> tuple[Any, ...]:
            return tuple(self.send(part, np.int32) for part in row_kernels.groups(ids))

        return self.made("groups", (ids,), make)

    def _memory(self, size: int) -> tuple[npt.NDArray[np.uint8], Any]:
        slot = self._slots[self._now]
        while True:
            if slot.chunk == len(slot.chunks):
                length = max(_CHUNK, size)
                slot.chunks.append((memory.pinned(length), memory.empty(length, np.uint8)))
            host, device = slot.chunks[slot.chunk]
            if slot.used + size <= len(host):
                break
            slot.chunk, slot.used = slot.chunk + 1, 0
        first = slot.used
        slot.used = -(-(first + size) // _APART) * _APART
        return host[first : first + size], device[first : first + size]


def _identity(array: Any) -> object:
    """A key that no other array has while this one is referenced."""
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0], array.size, array.dtype.str
    return id(array)


class Pending:
    """Σ terms · shares, once the device has the terms: `float` waits for it.

    terms   float64[N] on the device, which must not change until then
    shares  float64[N], or one number
    """

    def __init__(self, terms: Any, shares: Float64 | float) -> None:
        self._terms: Any = terms
        self._shares = shares
        self._value = 0.0

    def __float__(self) -> float:
        if self._terms is not None:
            terms = memory.get(self._terms)
            self._value = float((terms * self._shares).sum())
            self._terms = None
        return self._value


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
            row_kernels.fill(self.gradients, 0)

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
        """Copy the gradients to `gradient_views`."""
        memory.get(self.gradients, self._host_gradients)


class DeviceLayer(Layer):
    """First base of a device layer, the CPU's layer being the second: that one has the shapes,
    initial values, checks and the order of a pass; arrays and kernels are the device's.

    In addition to the CPU's settings each layer takes

    precision : type that the factors of large products are rounded to, see kernels.cuda.nn.gemm
    feed : of the network it is part of, which starts the batches; None for a layer without one
    """

    buffers: ClassVar[type[Parameters]] = DeviceParameters
    workspace: ClassVar[Any] = Space

    def __init__(
        self, *settings: Any, precision: str = "float32", feed: Feed | None = None, **named: Any
    ) -> None:
        self.precision = one_of("precision", precision, PRECISIONS)
        self._alone = (Feed(), Feed()) if feed is None else None
        self.feed = feed or Feed()
        self.space = Space()
        super().__init__(*settings, **named)
        self.lock: Any = memory.lock
        self.parameters_of.push()

    def bind(self, parameters: Parameters, prefix: str = "") -> None:
        super().bind(parameters, prefix)
        assert isinstance(parameters, DeviceParameters)
        self.parameters_of = parameters
        dot = f"{prefix}." if prefix else ""
        self.on_device = {name: parameters.arrays[dot + name] for name in self.values}
        self.grads_on_device = {name: parameters.grads[dot + name] for name in self.values}

    def of_parts(self) -> dict[str, Any]:
        """The settings of the layers that a Composite is made of."""
        return {"precision": self.precision, "feed": self.feed}

    def gradients(self) -> Views:
        """{name: a copy of the gradient on the host}."""
        self.parameters_of.pull_gradients()
        return {name: gradient.copy() for name, gradient in self.grads.items()}

    def parameters(self) -> Views:
        """{name: the array on the host}; `push` copies changes to the device."""
        self.parameters_of.pull()
        return dict(self.values)

    def push(self) -> None:
        """Copy what was written to `parameters()` to the device."""
        self.parameters_of.push()

    def zero_gradients(self) -> None:
        if self._alone is not None:
            self.parameters_of.zero_gradients()
            return
        for gradient in self.grads_on_device.values():
            row_kernels.fill(gradient, 0)

    def state_dict(self) -> Views:
        self.parameters_of.pull()
        return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Float32]) -> None:
        self.parameters_of.pull()  # others may share the buffer
        super().load_state_dict(state)
        self.parameters_of.push()

    def begin(self, training: bool = True) -> None:
        """For a layer without a network each forward pass is a batch. Passes without training have
        a feed of their own, so that any number may run between a forward and a backward pass."""
        if self._alone is not None:
            self.feed = self._alone[training]
            self.feed.begin()

    def floats(self, x: Any, what: str) -> Any:
        """`x` on the device, copied there if need be. Raises DataError as on the CPU."""
        return x if is_on_device(x) else memory.put(as_floats(x, what))

    def output(self, name: object, *shape: int, zero: bool = False, reuse: bool = True) -> Any:
        found = self.space.array(name, *shape) if reuse else memory.empty(shape)
        if zero:
            row_kernels.fill(found, 0)
        return found

    def whole_numbers(self, array: npt.NDArray[np.integer], what: str) -> Any:
        """int32 on the device, sent once for an array while its batch lasts."""
        return self.feed.whole_numbers(array, what)
