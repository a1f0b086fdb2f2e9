"""Arrays on the device, and the ways there and back."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.runtime.target import SIMULATED, cuda

_VIEWS = "_fastseq_views"  # an attribute of arrays that have been asked for some
_MOST_VIEWS = 64  # of an array
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY

# Held by whoever launches something and all that follows from it: `scratch` is one for all threads,
# and the simulator runs one kernel at a time.
lock = threading.RLock()


class DeviceMemoryError(MemoryError):
    """The device has not the memory asked for."""


def empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An array on the device whose values are whatever was there.

    Raises DeviceMemoryError where the device has no room for it.
    """
    try:
        return cuda.device_array(shape, dtype)
    except Exception as error:
        raise _translated(error, shape, dtype) from error


def zeros(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Any:
    """The same with zeros."""
    return put(np.zeros(shape, dtype))


def put(array: npt.NDArray[Any], out: Any = None) -> Any:
    """A copy of a NumPy array on the device: a new array, or `out`, of its shape and type."""
    array = np.ascontiguousarray(array)
    out = empty(array.shape, array.dtype) if out is None else out
    if array.size:
        out.copy_to_device(array)
    return out


def get(array: Any, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """A copy of a device array in the host's memory, once all that was launched is done."""
    if out is None:
        out = np.empty(array.shape, array.dtype)
    if out.size:
        array.copy_to_host(out)
    return out


def copy(out: Any, array: Any) -> None:
    """out = array, both on the device and of one shape and type."""
    if array.size:
        out.copy_to_device(array)


def flat(array: Any) -> Any:
    """All of a contiguous array as a vector over the same memory. It is made once for an array: a
    new view costs the host about as much as a launch."""
    if array.ndim == 1:
        return array
    return _remembered(array, "flat", lambda: array.reshape(array.size))


def row(array: Any, i: int) -> Any:
    """array[i] of a contiguous array, likewise."""
    return _remembered(array, i, lambda: array[i])


def first(array: Any, size: int) -> Any:
    """array[:size] of a vector, likewise, for the few sizes that come again."""
    if array.size == size:
        return array
    return _remembered(array, ("first", size), lambda: array[:size])


def _remembered(array: Any, which: object, make: Callable[[], Any]) -> Any:
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
    """float32[size] for what one launch leaves to the next: the same memory for a name each time,
    so that whatever was there is overwritten by the next to ask for it. Launches run one after the
    other, so none is still at work on it then."""
    found = _scratch.get(name)
    if found is None or found.size < size:
        _scratch.pop(name, None)
        found = _scratch[name] = empty(size)
    return first(found, size)


def pinned(size: int) -> npt.NDArray[np.uint8]:
    """Bytes of the host's memory that the device reads by itself: see `put_soon`."""
    found: npt.NDArray[np.uint8] = cuda.pinned_array(size, np.uint8)
    return found


def put_soon(out: Any, array: npt.NDArray[Any]) -> None:
    """out = array, of the same shape and type, in pinned memory, when what was launched before is
    done. Returns at once: the array must stay as it is until a `Mark` made after it was reached."""
    if array.size:
        out.copy_to_device(array, stream=0 if SIMULATED else cuda.legacy_default_stream())


class Mark:
    """A place in the order of what was launched."""

    def __init__(self) -> None:
        self._event: Any = None

    def set(self) -> None:
        """Behind all that was launched so far."""
        if not SIMULATED:
            self._event = self._event or cuda.event(timing=False)
            self._event.record(cuda.legacy_default_stream())

    def wait(self) -> None:
        """Until the device has come there; at once where the mark was never set."""
        if self._event is not None:
            self._event.synchronize()


def synchronize() -> None:
    """Wait until all that was launched is done."""
    cuda.synchronize()


def _translated(error: Exception, shape: int | tuple[int, ...], dtype: Any) -> Exception:
    if SIMULATED or getattr(error, "code", None) != _OUT_OF_MEMORY:
        return error
    size = np.dtype(dtype).itemsize * math.prod((shape,) if isinstance(shape, int) else shape)
    return DeviceMemoryError(f"{size / 1e9:.3g} GB more")
