"""Numba's CUDA target: imported here and nowhere else.

    @kernel("float32[::1], float32[::1], int64", threads=256, registers=32)
    def double(out, x, n):
        i = cuda.grid(1)
        if i < n:
            out[i] = x[i] + x[i]

    double(blocks_for(n, 256), out, x, n)

A kernel says its types, the threads of its blocks and the most registers it may need, so that a
test can compile all of them without a GPU (`kernels()` has every one) and fail on those that spill.
With NUMBA_ENABLE_CUDASIM=1 in the environment Numba's simulator runs them, thread after thread in
Python: a kernel that uses what the simulator lacks (shuffles, inline PTX) has another way to the
same result where SIMULATED.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    def intrinsic(function: Any) -> Any:
        """Leave the function: the simulator runs no LLVM code."""
        return function
else:
    from numba.cuda.core import config as _config
    from numba.cuda.core import sigutils as _sigutils
    from numba.cuda.cudadrv import driver as _driver
    from numba.cuda.extending import intrinsic

    driver, sigutils = _driver, _sigutils
    _config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small launches are meant

__all__ = [
    "MOST_SHARED",
    "SIMULATED",
    "WARP",
    "Kernel",
    "blocks_for",
    "cuda",
    "device_function",
    "driver",
    "intrinsic",
    "kernel",
    "kernels",
    "most_shared",
    "multiprocessors",
    "sigutils",
    "undeclared",
]


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A kernel, compiled for the GPU at hand when it is first launched.

    name       of the function, and of the variant where a file makes several
    function   the Python function
    types      of its arguments, as Numba writes them, parted by ", "
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

    def __call__(self, blocks: Any, *arguments: Any, threads: Any = None, shared: int = 0) -> None:
        """Launch it; returns at once.

        blocks     of the grid: a number or (x, y, z)
        arguments  arrays on the device, numbers of the types declared
        threads    of a block: all unless said
        shared     bytes of dynamic shared memory
        """
        if shared > self.shared:
            raise ValueError(
                f"{self.name}: {shared} bytes of shared memory, {self.shared} are said"
            )
        if not blocks or (isinstance(blocks, tuple) and 0 in blocks):
            return
        if SIMULATED:
            self._check(arguments)
            self.compiled[blocks, threads or self.threads, 0, shared](*arguments)
            return
        launch = _LAUNCHERS.get(self)
        if launch is None:
            launch = _LAUNCHERS[self] = _launcher(self)
        launch(blocks, threads or self.threads, shared, arguments)

    def _check(self, arguments: tuple[Any, ...]) -> None:
        """That a launch brings what was declared and compiled, as launching.py asks on a GPU."""
        types = self.types.split(", ")
        if len(types) != len(arguments):
            raise TypeError(f"{self.name}: {len(arguments)} arguments, {len(types)} are declared")
        for number, (declared, given) in enumerate(zip(types, arguments, strict=True)):
            if declared.endswith("[::1]"):
                fits = str(given.dtype) == declared[:-5] and given.ndim == 1
            elif declared == "int64":
                fits = isinstance(given, int | np.int64) and not isinstance(given, bool)
            else:
                fits = type(given).__name__ == declared
            if not fits:
                raise TypeError(f"{self.name}: argument {number} is {given!r}, not {declared}")


_LAUNCHERS: dict[Kernel, Any] = {}


def _launcher(kernel: Kernel) -> Any:
    from fastseq.kernels.cuda.runtime.launching import Launcher

    return Launcher(kernel.name, kernel.compiled, kernel.types)


def most_shared() -> int:
    """Bytes of shared memory that a block of the device at hand may have."""
    return MOST_SHARED if SIMULATED else _attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")


def multiprocessors() -> int:
    """Of the device at hand."""
    return 1 if SIMULATED else _attribute("MULTIPROCESSOR_COUNT")


@lru_cache(None)
def _attribute(name: str) -> int:
    """Of the device: asking for the device alone takes as long as a launch."""
    return int(getattr(cuda.get_current_device(), name))


_KERNELS: dict[str, Kernel] = {}


def kernels() -> list[Kernel]:
    """Every kernel that was declared so far, in the order of declaration."""
    return list(_KERNELS.values())


@contextmanager
def undeclared() -> Iterator[None]:
    """A block whose kernels `kernels()` forgets: those that a test makes."""
    before = dict(_KERNELS)
    try:
        yield
    finally:
        _KERNELS.clear()
        _KERNELS.update(before)


def kernel(
    types: str,
    *,
    threads: int,
    registers: int,
    spill: int = 0,
    float64: bool = False,
    shared: int = 0,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Kernel]:
    """Declare a function as a kernel; see `Kernel` for what is said of it."""

    def declare(function: Callable[..., Any]) -> Kernel:
        full = f"{function.__module__.rpartition('.')[2]}.{name or function.__name__}"
        options: dict[str, Any] = {} if SIMULATED else {"launch_bounds": threads, "cache": True}
        if not SIMULATED and inspect.getclosurevars(function).nonlocals:
            options["cache"] = False  # variants of one function differ by what they close over
        made = Kernel(
            full, function, types, threads, registers, spill, float64, shared,
            cuda.jit(**options)(function),
        )  # fmt: skip
        _KERNELS[full] = made
        return made

    return declare


def device_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that only kernels call, inlined into them."""
    return cuda.jit(device=True, inline=True)(function)  # type: ignore[no-any-return]


def blocks_for(n: int, threads: int, most: int = 1 << 30) -> int:
    """Blocks of so many threads that have a thread for each of n things."""
    return min(-(-n // threads), most)
