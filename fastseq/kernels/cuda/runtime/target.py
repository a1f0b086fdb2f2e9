"""Declaring, compiling and launching CUDA kernels; the only file that imports Numba's CUDA target.

    @kernel("float32[::1], float32[::1], int64", threads=256, registers=32)
    def double(out, x, n):
        i = cuda.grid(1)
        if i < n:
            out[i] = x[i] + x[i]

    double(blocks_for(n, 256), out, x, n)

A declaration has the argument types, the threads of a block and a limit on registers, so that a
test can compile every kernel (`kernels()`) without a GPU and fail on spills. An array argument is a
vector: arrays of any shape are passed as one row.

With NUMBA_ENABLE_CUDASIM=1 in the environment kernels run in Numba's simulator, thread after thread
in Python: a kernel that uses what the simulator lacks (shuffles, inline PTX) has an alternative
where SIMULATED. On a GPU, launches call the driver directly, at 4 µs (bench/launching.py): Numba's
own launcher takes 57 µs for ten arrays. The packed form of an array is computed once and stored
with the array.
"""

from __future__ import annotations

import ctypes
import inspect
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numba import config
from numba import cuda as numba_target

cuda: Any = numba_target  # what it has depends on how it runs
SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
WARP = 32
MOST_SHARED = 227 << 10  # bytes of shared memory that a block may have on sm_90
driver: Any = None
sigutils: Any = None
if SIMULATED:
    intrinsic: Any = None  # the simulator runs no LLVM code
else:
    from numba.cuda.core import config as _config
    from numba.cuda.core import sigutils as _sigutils
    from numba.cuda.cudadrv import driver as _driver
    from numba.cuda.extending import intrinsic as _intrinsic

    driver, sigutils, intrinsic = _driver, _sigutils, _intrinsic
    _config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small launches are intended

_PART = "_fastseq_argument"  # an attribute of arrays
_ARRAY = struct.Struct("7q")  # meminfo, parent, elements, bytes of one, address, shape, strides
_CODES = {"int64": "q", "int32": "i", "float32": "f", "float64": "d"}
_DEFAULT_SHARED = 16 << 10  # bytes of dynamic shared memory that every block may have
# CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
_BUFFER, _SIZE, _END = 1, 2, 0
_thread = threading.local()


class LaunchError(RuntimeError):
    """The driver refused a launch; the message has its status."""


@dataclass(slots=True, eq=False)
class Kernel:
    """A kernel, compiled for the current GPU when it is first launched.

    name       of the function, and of the variant where a file makes several
    function   the Python function
    types      of its arguments, as Numba writes them, separated by ", "
    threads    of a block, at most
    registers  of a thread, at most
    spill      bytes of local memory that it may use
    float64    whether it may compute in float64, which is slow on most GPUs
    shared     bytes of dynamic shared memory that a launch may ask for, at most
    """

    name: str
    function: Callable[..., Any]
    types: str
    threads: int
    registers: int
    spill: int = 0
    float64: bool = False
    shared: int = 0
    compiled: Any = field(repr=False, default=None)
    launcher: Any = field(repr=False, default=None)

    def __call__(self, blocks: Any, *arguments: Any, threads: Any = None, shared: int = 0) -> None:
        """Launch it; returns at once. Callers hold `memory.lock`.

        blocks     of the grid: a number or (x, y, z)
        arguments  contiguous arrays on the device, numbers
        threads    of a block, by default as declared
        shared     bytes of dynamic shared memory

        Raises TypeError for arguments of other types than declared, LaunchError.
        """
        if shared > self.shared:
            raise ValueError(
                f"{self.name}: {shared} bytes of shared memory, {self.shared} are declared"
            )
        grid = blocks if isinstance(blocks, tuple) else (blocks, 1, 1)
        if 0 in grid:
            return
        types = self.types.split(", ") if self.launcher is None else self.launcher.types
        if len(types) != len(arguments):
            raise TypeError(f"{self.name}: {len(arguments)} arguments, {len(types)} are declared")
        if SIMULATED:
            values = [_simulated(*each) for each in zip(types, arguments, strict=True)]
            self.compiled[grid, threads or self.threads, 0, shared](*values)
            return
        if self.launcher is None:
            self.launcher = _Launcher(self, types)
        self.launcher(grid, threads or self.threads, shared, arguments)

    def each(self, n: int, *arguments: Any, most: int = 1 << 30) -> None:
        """Launch it with a thread for each of n elements, in at most `most` blocks."""
        threads = min(self.threads, n)
        self(blocks_for(n, self.threads, most), *arguments, threads=threads)


class _Launcher:
    """A kernel compiled for the current device, with a buffer for its arguments."""

    def __init__(self, kernel: Kernel, types: list[str]) -> None:
        ready()
        self.name, self.types = kernel.name, types
        signature, _ = sigutils.normalize_signature(f"void({kernel.types})")
        self._function = kernel.compiled.compile(tuple(signature))._codelibrary.get_cufunc()
        self._handle = int(self._function.handle)
        self._shared = _DEFAULT_SHARED
        # each argument at a multiple of its size: "0q" aligns the bytes of an array
        codes = ["0q56s" if kind.endswith("[::1]") else _CODES[kind] for kind in types]
        self._arguments = struct.Struct("@" + "".join(codes))
        size = ctypes.c_size_t(self._arguments.size)
        self._buffer = ctypes.create_string_buffer(self._arguments.size)
        self._extra = (ctypes.c_void_p * 5)(
            _BUFFER, ctypes.addressof(self._buffer), _SIZE, ctypes.addressof(size), _END
        )
        self._size = size  # which the driver reads
        self._launch = library().cuLaunchKernel

    def __call__(
        self, grid: tuple[int, int, int], threads: int, shared: int, arguments: tuple[Any, ...]
    ) -> None:
        ready()
        pairs = zip(self.types, arguments, strict=True)
        try:
            values = [_packed(k, a) if k.endswith("]") else a for k, a in pairs]
            self._arguments.pack_into(self._buffer, 0, *values)
        except (struct.error, TypeError) as error:
            raise TypeError(f"{self.name}: {error}") from None
        if shared > self._shared:
            attribute = driver.binding.CUfunction_attribute
            driver.driver.cuKernelSetAttribute(
                attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared,
                self._function.handle, self._function.device.id,
            )  # fmt: skip
            self._shared = shared
        status = self._launch(self._handle, *grid, threads, 1, 1, shared, None, None, self._extra)
        if status:
            raise LaunchError(f"{self.name}: cuLaunchKernel returned status {status}")


def _simulated(declared: str, given: Any) -> Any:
    """An argument as a launch on a GPU would convert it."""
    if declared.endswith("[::1]"):
        if str(given.dtype) != declared[:-5] or not given.flags["C_CONTIGUOUS"]:
            raise TypeError(f"an argument is {given!r}, not {declared}")
        return given if given.ndim == 1 else given.reshape(given.size)
    try:
        (value,) = struct.unpack(_CODES[declared], struct.pack(_CODES[declared], given))
    except struct.error as error:
        raise TypeError(f"an argument is {given!r}, not {declared}: {error}") from None
    return value if declared == "int64" else np.dtype(declared).type(value)


def _packed(declared: str, array: Any) -> bytes:
    """An array as a kernel's argument."""
    part = getattr(array, _PART, None) or _part_of(array)
    if part[0] != declared:
        raise TypeError(f"an argument is an array of {part[0]}, not {declared}")
    return part[1]


def address(array: Any) -> int:
    """The address of the first element of an array on the device."""
    return (getattr(array, _PART, None) or _part_of(array))[2]


def _part_of(array: Any) -> tuple[str, bytes, int]:
    """The type of an array as a vector, its bytes as an argument, and its address."""
    if not hasattr(array, "gpu_data"):
        raise TypeError(f"an argument is {type(array).__name__}, not an array on the device")
    if array.size > 1 and not array.is_c_contiguous():
        raise TypeError(f"an argument has strides {array.strides}: it is not contiguous")
    size, each = int(array.size), int(array.dtype.itemsize)
    place = int(array.device_ctypes_pointer.value or 0)
    part = f"{array.dtype}[::1]", _ARRAY.pack(0, 0, size, each, place, size, each), place
    setattr(array, _PART, part)
    return part


def ready() -> None:
    """Make the device's context current in this thread, as Numba expects."""
    if not hasattr(_thread, "device"):
        cuda.current_context()
        _thread.device = int(cuda.get_current_device().id)


def device() -> int:
    """Number of the current device."""
    ready()
    return int(_thread.device)


@lru_cache(None)
def library() -> Any:
    """The driver's library."""
    found = driver.driver.lib
    whole, place = ctypes.c_uint, ctypes.c_void_p
    found.cuLaunchKernel.argtypes = [place, *[whole] * 7, place, place, place]
    found.cuLaunchKernel.restype = ctypes.c_int
    return found


def most_shared() -> int:
    """Bytes of shared memory that a block may have on the current device."""
    return MOST_SHARED if SIMULATED else _attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")


def multiprocessors() -> int:
    """Multiprocessors of the current device."""
    return 1 if SIMULATED else _attribute("MULTIPROCESSOR_COUNT")


@lru_cache(None)
def _attribute(name: str) -> int:
    """Of the device: asking for the device alone takes as long as a launch."""
    return int(getattr(cuda.get_current_device(), name))


_KERNELS: dict[str, Kernel] = {}


def kernels() -> list[Kernel]:
    """Every kernel declared so far, in the order of declaration."""
    return list(_KERNELS.values())


def kernel(
    types: str, *, threads: int, registers: int, spill: int = 0, float64: bool = False,
    shared: int = 0, name: str | None = None,
) -> Callable[[Callable[..., Any]], Kernel]:  # fmt: skip
    """Declare a function as a kernel; for the parameters see `Kernel`."""

    def declare(function: Callable[..., Any]) -> Kernel:
        full = f"{function.__module__.rpartition('.')[2]}.{name or function.__name__}"
        # variants of one function differ in what they close over, which Numba's cache ignores
        cache = not inspect.getclosurevars(function).nonlocals
        options = {} if SIMULATED else {"launch_bounds": threads, "cache": cache}
        compiled = cuda.jit(**options)(function)
        _KERNELS[full] = Kernel(
            full, function, types, threads, registers, spill, float64, shared, compiled
        )
        return _KERNELS[full]

    return declare


def device_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a function that only kernels call, inlined into them."""
    return cuda.jit(device=True, inline=True)(function)  # type: ignore[no-any-return]


def typed_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, inlined by NVVM rather than by Numba, which then types it once: for long functions
    of several kernels."""
    return cuda.jit(device=True)(function)  # type: ignore[no-any-return]


def blocks_for(n: int, threads: int, most: int = 1 << 30) -> int:
    """Blocks of `threads` threads, at most `most`, with a thread for each of n elements."""
    return min(-(-n // threads), most)


def block_size(n: int, most: int) -> int:
    """Threads of a block that reduces n numbers in a tree: a power of two, at most `most`."""
    return int(min(most, 1 << (max(n, 1) - 1).bit_length()))
