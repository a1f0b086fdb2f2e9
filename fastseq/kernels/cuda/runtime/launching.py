"""Launches at little cost to the host.

Numba's own takes each argument apart anew: 57 µs for ten arrays. Here an array's part of the
arguments is made once for the array, and a launch is one call of the driver with all parts in a
row: 4 µs (bench/launching.py).
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fastseq.kernels.cuda.runtime.target import cuda, driver, sigutils

_PART = "_fastseq_argument"  # an attribute of arrays
_GIVEN = 16 << 10  # bytes of shared memory that a block surely has unasked beside its own
_ARRAY = struct.Struct("7q")  # meminfo, parent, numbers, bytes of one, address, shape, strides
_NUMBERS = {"int64": "q", "int32": "i", "float32": "f", "float64": "d"}
# CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
_BUFFER, _SIZE, _END = 1, 2, 0
_here = threading.local()


class LaunchError(RuntimeError):
    """The driver refused: its status stands in the message."""


class Launcher:
    """A kernel, compiled for the device at hand, with room for its arguments.

    One thread at a time: callers hold `memory.lock`.
    """

    def __init__(self, name: str, compiled: Any, types: str) -> None:
        ready()
        self.name = name
        signature, _ = sigutils.normalize_signature(f"void({types})")
        self._function = compiled.compile(tuple(signature))._codelibrary.get_cufunc()
        self._handle = int(self._function.handle)
        self._given = _GIVEN
        self._packers, size = _packers(types.split(", "))
        self._room = ctypes.create_string_buffer(size)
        self._address = ctypes.addressof(self._room)
        self._size = ctypes.c_size_t(size)
        self._extra = (ctypes.c_void_p * 5)(
            _BUFFER, self._address, _SIZE, ctypes.addressof(self._size), _END
        )
        self._call = library().cuLaunchKernel

    def __call__(self, grid: Any, threads: int, shared: int, arguments: tuple[Any, ...]) -> None:
        """Raises TypeError for other types than the kernel's, LaunchError."""
        ready()
        if len(arguments) != len(self._packers):
            raise TypeError(f"{self.name}: {len(arguments)} arguments of {len(self._packers)}")
        try:
            pairs = zip(self._packers, arguments, strict=True)
            raw = b"".join([pack(given) for pack, given in pairs])
        except struct.error as error:
            raise TypeError(f"{self.name}: an argument of another type: {error}") from None
        ctypes.memmove(self._address, raw, len(raw))
        if shared > self._given:
            self._allow(shared)
        x, y, z = grid if isinstance(grid, tuple) else (grid, 1, 1)
        status = self._call(self._handle, x, y, z, threads, 1, 1, shared, None, None, self._extra)
        if status:
            raise LaunchError(f"{self.name}: cuLaunchKernel returned status {status}")

    def _allow(self, shared: int) -> None:
        """Let its blocks have more shared memory than they are given unasked."""
        of = driver.binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        device = self._function.device.id
        driver.driver.cuKernelSetAttribute(of, shared, self._function.handle, device)
        self._given = shared


def ready() -> None:
    """Make the device's context this thread's, which Numba leaves there."""
    if not hasattr(_here, "device"):
        cuda.current_context()
        _here.device = int(cuda.get_current_device().id)


def device() -> int:
    """Number of the device at hand."""
    ready()
    return int(_here.device)


@lru_cache(None)
def library() -> Any:
    """The driver's library."""
    found = driver.driver.lib
    whole, place = ctypes.c_uint, ctypes.c_void_p
    found.cuLaunchKernel.argtypes = [place, *[whole] * 7, place, place, place]
    found.cuLaunchKernel.restype = ctypes.c_int
    return found


def _packers(types: list[str]) -> tuple[list[Callable[[Any], bytes]], int]:
    """For each argument what makes the bytes of it, with those before it that alignment asks for;
    and the bytes of all."""
    made: list[Callable[[Any], bytes]] = []
    size = 0
    for number, kind in enumerate(types):
        array = kind.endswith("[::1]")
        code = "q" if array else _NUMBERS[kind]
        before = -size % struct.calcsize(code)
        if array:
            made.append(_array_packer(number, kind.removesuffix("[::1]"), before))
            size += before + _ARRAY.size
        else:
            made.append(struct.Struct(f"={before}x{code}").pack)
            size += before + struct.calcsize(code)
    return made, size


def _array_packer(number: int, dtype: str, before: int) -> Callable[[Any], bytes]:
    gap = bytes(before)

    def pack(array: Any) -> bytes:
        part = getattr(array, _PART, None)
        if part is None:
            part = _part_of(array, f"argument {number}")
        if part[0] != dtype:
            raise TypeError(f"argument {number} is an array of {part[0]}, not {dtype}")
        return gap + part[1] if before else part[1]

    return pack


def address(array: Any) -> int:
    """Of the first number of a vector on the device."""
    part = getattr(array, _PART, None)
    if part is None:
        part = _part_of(array, "a factor")
    return int(part[2])


def _part_of(array: Any, what: str) -> tuple[str, bytes, int]:
    """The type of a vector's numbers, its bytes among a kernel's arguments and its address; made
    once, and kept with it."""
    if not hasattr(array, "gpu_data"):
        raise TypeError(f"{what} is {type(array).__name__}, not an array on the device")
    if array.ndim != 1 or (array.strides[0] != array.dtype.itemsize and array.size > 1):
        raise TypeError(f"{what} is of shape {array.shape}, not one contiguous row")
    size, each = int(array.size), int(array.dtype.itemsize)
    place = int(array.device_ctypes_pointer.value or 0)
    part = str(array.dtype), _ARRAY.pack(0, 0, size, each, place, size, each), place
    setattr(array, _PART, part)
    return part
