"""NVIDIA's driver and cuBLAS, as far as numba-cuda and fastseq call them, before the emulated GPU.

`install()` puts them in their places: what follows is compiled to PTX for an H100 by numba-cuda and
NVVM as ever and run by `machine`. What was launched waits until somebody asks for it, as late as a
GPU may be: copies from pinned memory are read then.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.emulator.machine import Device, launch, program
from tests.emulator.reading import BYTES
from tests.emulator.spaces import FaultError

CAPABILITY = (9, 0)
MULTIPROCESSORS = 132
UNASKED, MOST_SHARED = 48 << 10, 227 << 10  # bytes of shared memory of a block
TOTAL = 1 << 30


class Driver:
    """Its functions, by their names; each raises what numba-cuda would raise of it."""

    def __init__(self, error: Callable[[int, str], Exception]) -> None:
        self.device = Device(TOTAL)
        self.error = error
        self.queue: list[Callable[[], None]] = []
        self.pinned: dict[int, Any] = {}
        self.reached: dict[int, int] = {}  # of each event, where in the queue it was recorded
        self.done = 0  # entries of the queue that were ever done
        self.events = 0
        self.current = 0
        self.shared: dict[int, int] = {}  # what kernels were allowed
        self.seed = int(os.environ["FASTSEQ_SEED"]) if os.environ.get("FASTSEQ_SEED") else None
        self.ptx: dict[int, str] = {}  # of each kernel, by its handle

    def later(self, work: Callable[[], None]) -> None:
        self.queue.append(work)

    def flush(self, upto: int | None = None) -> None:
        while self.queue and (upto is None or self.done < upto):
            work = self.queue.pop(0)
            self.done += 1
            work()

    def cuDriverGetVersion(self) -> int:
        return 13000

    def cuDeviceGetCount(self) -> int:
        return 1

    def cuCtxGetCurrent(self) -> Any:
        return import_module("cuda.bindings.driver").CUcontext(self.current)

    def cuCtxGetDevice(self) -> int:
        return 0

    def cuCtxPushCurrent(self, handle: Any) -> None:
        self.current = int(handle)

    def cuCtxPopCurrent(self) -> Any:
        found, self.current = self.cuCtxGetCurrent(), 0
        return found

    def cuCtxSynchronize(self) -> None:
        self.flush()

    def cuStreamSynchronize(self, stream: int) -> None:
        self.flush()

    def cuDeviceGetAttribute(self, code: Any, device: int) -> int:
        name = code.name.removeprefix("CU_DEVICE_ATTRIBUTE_")
        return {
            "MULTIPROCESSOR_COUNT": MULTIPROCESSORS,
            "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": MOST_SHARED,
            "CAN_MAP_HOST_MEMORY": 1,
        }[name]

    def cuMemGetInfo(self) -> tuple[int, int]:
        return TOTAL - self.device.taken, TOTAL

    def cuMemAlloc(self, size: int) -> Any:
        try:
            return self._pointer(self.device.allocate(size))
        except MemoryError:
            self.flush()  # memory that was given back, but is waited for
            try:
                return self._pointer(self.device.allocate(size))
            except MemoryError:
                pass
            raise self.error(2, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY") from None

    def _pointer(self, address: int) -> Any:
        return import_module("cuda.bindings.driver").CUdeviceptr(address)

    def cuMemFree(self, pointer: Any) -> None:
        """Once what was launched before is done. It may be called in the middle of a launch, since
        Python collects what is gone when it likes."""
        address = int(pointer)
        self.later(lambda: self.device.free(address))

    def cuMemHostAlloc(self, size: int, flags: int) -> int:
        room = np.zeros(size + 8, np.uint8)
        self.pinned[room.ctypes.data] = room
        return int(room.ctypes.data)

    def cuMemFreeHost(self, pointer: int) -> None:
        address = int(pointer)
        self.later(lambda: self.pinned.__delitem__(address))

    def _check(self, address: int, size: int) -> None:
        space = self.device.space
        at = address - space.first
        if not (at >= 0 and at + size <= space.size and space.usable[at : at + size].all()):
            raise FaultError(f"a copy of {size} bytes outside of what was allocated")

    def _to_device(self, to: int, source: int | bytes, size: int) -> None:
        self._check(to, size)
        ctypes.memmove(to, source, size)

    def cuMemcpyHtoD(self, to: int, source: int, size: int) -> None:
        """Its source is free when it returns."""
        kept = ctypes.string_at(source, size)
        self.later(lambda: self._to_device(to, kept, size))

    def cuMemcpyHtoDAsync(self, to: int, source: int, size: int, stream: Any) -> None:
        self._stream(stream)
        inside = any(at <= source and source + size <= at + room.size
                     for at, room in self.pinned.items())  # fmt: skip
        if not inside:  # the driver copies it first
            self.cuMemcpyHtoD(to, source, size)
            return
        self.later(lambda: self._to_device(to, source, size))

    def cuMemcpyDtoH(self, to: int, source: int, size: int) -> None:
        self.flush()
        self._check(source, size)
        ctypes.memmove(to, source, size)

    def cuMemcpyDtoD(self, to: int, source: int, size: int) -> None:
        def copy() -> None:
            self._check(source, size)
            self._to_device(to, source, size)

        self.later(copy)

    def cuMemsetD8(self, to: int, byte: int, count: int) -> None:
        self.later(lambda: self._to_device(to, bytes([byte]) * count, count))

    def _stream(self, stream: Any) -> None:
        if int(stream) not in (0, 1):  # the default one, also by its name
            raise FaultError(f"stream {int(stream)} is not the one that all is launched on")

    def cuEventCreate(self, flags: int) -> int:
        self.events += 1
        return self.events

    def cuEventDestroy(self, event: int) -> None:
        self.reached.pop(int(event), None)

    def cuEventRecord(self, event: int, stream: Any) -> None:
        self._stream(stream)
        self.reached[int(event)] = self.done + len(self.queue)

    def cuEventSynchronize(self, event: int) -> None:
        self.flush(self.reached.get(int(event), 0))

    def cuKernelSetAttribute(self, what: Any, value: int, handle: int, device: int) -> None:
        assert what.name == "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"
        self.shared[handle] = value

    def cuLaunchKernel(
        self, handle: int, x: int, y: int, z: int, threads: int, threads_y: int, threads_z: int,
        shared: int, stream: Any, parameters: Any, extra: Any,
    ) -> int:  # fmt: skip
        kernel = program(self.ptx[handle])
        made = kernel[0]
        if shared > max(UNASKED - made.static, self.shared.get(handle, 0)) or (
            made.static + shared > MOST_SHARED
        ):
            raise FaultError(f"{made.name}: {made.static} + {shared} bytes of shared memory")
        if made.waits_for_blocks and x * y * z > MULTIPROCESSORS:
            raise FaultError(f"{made.name}: {x * y * z} blocks on {MULTIPROCESSORS} wait")
        if (threads_y, threads_z, stream, parameters) != (1, 1, None, None):
            raise FaultError(f"{made.name}: launched in a way that is not emulated")
        bits = _unpacked(extra, [kind for _, kind in made.parameters])
        seed = self.seed
        self.later(lambda: launch(kernel, (x, y, z), threads, shared, bits, self.device, seed))
        return 0


def _unpacked(extra: Any, kinds: list[str]) -> list[int]:
    """The bits of each parameter, out of a buffer where each lies at a multiple of its size."""
    assert (extra[0], extra[2], extra[4]) == (1, 2, None)
    raw = ctypes.string_at(extra[1], ctypes.c_size_t.from_address(extra[3]).value)
    found, at = [], 0
    for kind in kinds:
        size = BYTES[kind]
        at += -at % size
        found.append(int.from_bytes(raw[at : at + size], "little"))
        at += size
    if at != len(raw):
        raise FaultError(f"{len(raw)} bytes of arguments, {at} are declared")
    return found


class Blas:
    """cuBLAS: matrices by columns."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def cublasCreate_v2(self, handle: Any) -> int:
        handle._obj.value = 1
        return 0

    def cublasGemmEx(
        self, handle: Any, transpose_a: int, transpose_b: int, m: int, n: int, k: int, alpha: Any,
        a: Any, a_type: int, lda: int, b: Any, b_type: int, ldb: int, beta: Any, c: Any,
        c_type: int, ldc: int, compute: int, algorithm: int,
    ) -> int:  # fmt: skip
        assert (a_type, b_type, c_type) == (0, 0, 0)
        assert handle.value == 1
        assert compute in (68, 75, 77)
        rows_a, rows_b = (k if transpose_a else m), (n if transpose_b else k)
        if min(m, n, k) < 0 or lda < max(1, rows_a) or ldb < max(1, rows_b) or ldc < max(1, m):
            return 7  # CUBLAS_STATUS_INVALID_VALUE
        one, more = alpha._obj.value, beta._obj.value
        device = self.driver.device.space

        def matrix(place: Any, rows: int, columns: int, stride: int) -> Any:
            size = 4 * (stride * (columns - 1) + rows) if rows and columns else 0
            self.driver._check(place, size)
            if place % 4:
                raise FaultError("a matrix that is misaligned")
            first = (place - device.first) // 4
            return np.lib.stride_tricks.as_strided(
                device.views[4].view(np.float32)[first:], (rows, columns), (4, 4 * stride)
            )

        def work() -> None:
            if not (m and n):
                return
            left = matrix(a, *((k, m) if transpose_a else (m, k)), lda)
            right = matrix(b, *((n, k) if transpose_b else (k, n)), ldb)
            out = matrix(c, m, n, ldc)
            left, right = (left.T if transpose_a else left), (right.T if transpose_b else right)
            if compute != 68:
                left, right = _rounded(left, compute), _rounded(right, compute)
            product = one * (left.astype(np.float64) @ right.astype(np.float64))
            out[:] = product if more == 0 else product + more * out

        self.driver.later(work)
        return 0


def _rounded(x: Any, compute: int) -> Any:
    """To nearest of bfloat16 (75) or tf32 (77)."""
    drop = 16 if compute == 75 else 13
    bits = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64)
    half = np.uint64((1 << drop - 1) - 1) + (bits >> np.uint64(drop) & np.uint64(1))
    whole = (bits + half) >> np.uint64(drop) << np.uint64(drop)
    return whole.astype(np.uint32).view(np.float32)


def install() -> Driver:
    """From here on numba-cuda finds this GPU; before fastseq's CUDA files are imported."""
    numba_driver = import_module("numba.cuda.cudadrv.driver")
    codegen = import_module("numba.cuda.codegen")

    def error(code: int, message: str) -> Exception:
        return numba_driver.CudaAPIError(numba_driver.binding.CUresult(code), message)  # type: ignore[no-any-return]

    made = Driver(error)
    api = numba_driver.driver
    api.is_initialized, api.initialization_error, api.pid = True, None, os.getpid()
    for name in dir(Driver):
        if name.startswith("cu"):
            setattr(api, name, getattr(made, name))
    numba_driver._logger = numba_driver.make_logger()

    primary = numba_driver.binding.CUcontext(1)

    class FoundDevice:
        def __init__(self, number: int) -> None:
            self.device_id, self.name, self.uuid = number, "emulated H100", "0"
            self.compute_capability = CAPABILITY
            self.context = SimpleNamespace(handle=primary, _handle=primary)

        def set_current(self) -> None:
            made.current = 1

    numba_driver.ExperimentalDevice = FoundDevice
    handles: dict[str, int] = {}

    def get_cufunc(library: Any) -> Any:
        ptx = library.get_asm_str(cc=CAPABILITY)
        handle = handles.setdefault(ptx, len(handles) + 1)
        made.ptx[handle] = ptx
        return SimpleNamespace(
            handle=handle,
            kernel=handle,
            device=SimpleNamespace(id=0),
            module=SimpleNamespace(initialized=True),
        )

    codegen.CUDACodeLibrary.get_cufunc = get_cufunc
    target = import_module("fastseq.kernels.cuda.runtime.target")
    target.library = lambda: made
    gemm = import_module("fastseq.kernels.cuda.nn.gemm")
    library = Blas(made)
    gemm._cublas = lambda: library
    return made
