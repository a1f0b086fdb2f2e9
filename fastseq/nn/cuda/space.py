"""Memory that layers use again from batch to batch, and what the host sends them with each.

A batch's numbers (ids, lengths, targets) are small and many. They go through pinned memory, so
that the host need not wait for the device, which is still at work on the batch before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.runtime import memory

Made = TypeVar("Made")

_SLOTS = 4  # batches that are under way or prepared
_CHUNK = 1 << 20  # bytes
_APART = 256  # bytes: where an array on the device may begin
_SHAPES = 64  # views remembered of each buffer


class Space:
    """Named arrays on the device that keep their memory while they do not grow."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[object, Any], Any] = {}
        self._views: dict[tuple[object, Any], dict[tuple[int, ...], Any]] = {}

    def array(self, name: object, *shape: int, dtype: Any = np.float32) -> Any:
        """An array of this shape whose values are whatever was there."""
        size, key = math.prod(shape), (name, dtype)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            self._views.pop(key, None)
            buffer = self._buffers.pop(key, None)  # its memory is given back before more is asked
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
    """What one batch sent: chunks of memory on both sides, and what was made of its arrays."""

    def __init__(self) -> None:
        self.chunks: list[tuple[npt.NDArray[np.uint8], Any]] = []
        self.chunk, self.used = 0, 0
        self.sent = memory.Mark()
        self.made: dict[tuple[object, ...], tuple[Any, Any]] = {}


class Feed:
    """The way of a batch's numbers to the device.

    What belongs to a batch is sent between one `begin` and the next, and stays for the three
    batches after it.
    """

    def __init__(self) -> None:
        self._slots = [_Slot() for _ in range(_SLOTS)]
        self._now = 0

    def begin(self) -> None:
        """A new batch."""
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
        host, device = self._room(size)
        staged = host.view(dtype).reshape(shape)
        np.copyto(staged, given, casting="same_kind")
        out = device.view(dtype).reshape(shape)
        memory.put_soon(out, staged)
        return out

    def made(self, what: object, arrays: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """What `make` gave for these very arrays (or others over the same memory) since one of the
        last three batches began, or gives now. The arrays must stay as they are."""
        key = (what, *map(_identity, arrays))
        for slot in self._slots:
            if key in slot.made:
                found: Made = slot.made[key][0]
                return found
        made = make()
        self._slots[self._now].made[key] = made, arrays  # held, so that no other has their id
        return made

    def _room(self, size: int) -> tuple[npt.NDArray[np.uint8], Any]:
        slot = self._slots[self._now]
        while True:
            if slot.chunk == len(slot.chunks):
                room = max(_CHUNK, size)
                slot.chunks.append((memory.pinned(room), memory.empty(room, np.uint8)))
            host, device = slot.chunks[slot.chunk]
            if slot.used + size <= len(host):
                break
            slot.chunk, slot.used = slot.chunk + 1, 0
        first = slot.used
        slot.used = -(-(first + size) // _APART) * _APART
        return host[first : first + size], device[first : first + size]


def _identity(array: Any) -> object:
    """What no other array has while this one is held."""
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0], array.size, array.dtype.str
    return id(array)
