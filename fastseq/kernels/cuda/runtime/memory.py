"""Arrays on the device, and copies to and from it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.runtime.target import SIMULATED, cuda

_VIEWS = "_fastseq_views"  # an attribute of arrays
_MOST_VIEWS = 64  # of an array
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY

# To be held during launches that depend on each other: all threads share the scratch memory, and
# the simulator runs one kernel at a time.
lock = threading.RLock()


class DeviceMemoryError(MemoryError):
    """The device has too little free memory."""


def empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An uninitialised array on the device.

    Raises DeviceMemoryError where the device has too little free memory.
    """
    try:
        return cuda.device_array(shape, dtype)
    except Exception as error:
        if SIMULATED or getattr(error, "code", None) != _OUT_OF_MEMORY:
            raise
        size = np.dtype(dtype).itemsize * math.prod((shape,) if isinstance(shape, int) else shape)
        raise DeviceMemoryError(f"{size / 1e9:.3g} GB more") from error


def zeros(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An array of zeros on the device."""
    return put(np.zeros(shape, dtype))


def put(array: npt.NDArray[Any], out: Any = None) -> Any:
    """A copy of a NumPy array on the device: a new array, or `out`, of its shape and type."""
    array = np.ascontiguousarray(array)
    out = empty(array.shape, array.dtype) if out is None else out
    if array.size:
        out.copy_to_device(array)
    return out


def get(array: Any, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """A copy of a device array in the host's memory, after all launches are done."""
    if out is None:
        out = np.empty(array.shape, array.dtype)
    if out.size:
        array.copy_to_host(out)
    return out


def copy(out: Any, array: Any) -> None:
    """out = array, both on the device and of one shape and type."""
    if array.size:
        out.copy_to_device(array)


def row(array: Any, i: int) -> Any:
    """array[i] of a contiguous array, cached with it: a new view costs the host about as much as a
    launch."""
    return _cached(array, i, lambda: array[i])


def first(array: Any, size: int) -> Any:
    """array[:size] of a vector, cached likewise."""
    if array.size == size:
        return array
    return _cached(array, ("first", size), lambda: array[:size])


def _cached(array: Any, which: object, make: Callable[[], Any]) -> Any:
    views = getattr(array, _VIEWS, None)
    if views is None:
        if isinstance(array, np.ndarray):  # a view in the simulator: nothing can be written to it
            return make()
        views = {}
        setattr(array, _VIEWS, views)
    if which not in views:
        if len(views) == _MOST_VIEWS:
            views.clear()
        views[which] = make()
    return views[which]


_scratch: dict[str, Any] = {}


def scratch(name: str, size: int) -> Any:
    """float32[size] for data from one launch to the next: the same memory for a name each time,
    uninitialised. Launches run one after the other, so none uses earlier contents any more."""
    found = _scratch.get(name)
    if found is None or found.size < size:
        _scratch.pop(name, None)
        found = _scratch[name] = empty(size)
    return first(found, size)


def pinned(size: int) -> npt.NDArray[np.uint8]:
    """Pinned bytes of the host's memory, which the device can read: see `put_soon`."""
    found: npt.NDArray[np.uint8] = cuda.pinned_array(size, np.uint8)
    return found


def put_soon(out: Any, array: npt.NDArray[Any]) -> None:
    """out = array, of the same shape and type, in pinned memory, after all earlier launches.
    Returns at once: the array must not change until a `Mark` set afterwards is reached."""
    if array.size:
        out.copy_to_device(array, stream=0 if SIMULATED else cuda.legacy_default_stream())


class Mark:
    """A point in the order of launches (a CUDA event)."""

    def __init__(self) -> None:
        self._event: Any = None

    def set(self) -> None:
        """Set it after all launches so far."""
        if not SIMULATED:
            self._event = self._event or cuda.event(timing=False)
            self._event.record(cuda.legacy_default_stream())

    def wait(self) -> None:
        """Wait until the device reaches it; returns at once where it was never set."""
        if self._event is not None:
            self._event.synchronize()


def synchronize() -> None:
    """Wait until all launches are done."""
    cuda.synchronize()
