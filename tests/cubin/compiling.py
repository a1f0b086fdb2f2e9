"""Compiling every CUDA kernel without a GPU, and what it needs of one.

Numba makes PTX, NVIDIA's linker machine code; both come with numba-cuda and need no driver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

import numba

from fastseq.kernels.cuda.recurrent import grid_persistent, persistent, recurrent
from fastseq.kernels.cuda.recurrent.cells import CELLS
from fastseq.kernels.cuda.recurrent.grid_planning import plan_of
from fastseq.kernels.cuda.runtime import target
from fastseq.kernels.cuda.runtime.target import MOST_SHARED, Kernel
from tests import sampling

_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
# arithmetic, predicated or not; moves, loads and stores of a float64 are free of it, and so is a
# conversion to one of what was one before: to or from float32 it is where float64 gets in
_FLOAT64 = re.compile(
    r"^\s+(?:@!?%\w+\s+)?(?:(?!mov|ld|st|cvt)\w+(?:\.\w+)*\.f64|cvt(?:\.\w+)*\.f(?:64\.f32|32\.f64))\s",
    re.MULTILINE,
)

SHARED = {(8, 0): 163 << 10, (9, 0): 227 << 10}  # bytes that a block may have, by capability


# sizes of recurrent layers whose kernels are compiled; see SAMPLED
ONE_MULTIPROCESSOR = {"lstm": (64, 112, 128), "gru": (64, 128, 144), "rnn": (64, 128, 232)}
GRID = (
    (192, "float32"), (256, "bfloat16"), (256, "tf32"), (512, "float32"), (512, "bfloat16"),
)  # fmt: skip
# of an LSTM the smallest and the largest in one multiprocessor, and the largest of each precision;
# of the other cells, whose kernels differ in the step alone, one of both
SAMPLED = {
    "lstm": ((64, 128), GRID[2:]), "gru": ((144,), GRID[3:4]), "rnn": ((232,), GRID[4:]),
}  # fmt: skip


def declare_variants() -> None:
    """Declare the kernels of recurrent layers of typical sizes."""
    for cell in CELLS.values():
        recurrent.forward_step(cell)
        recurrent.backward_step(cell)
    for name, sizes in ONE_MULTIPROCESSOR.items():
        grid: tuple[tuple[int, str], ...] = GRID
        if not sampling.ALL:
            sizes, grid = SAMPLED[name]
        for units in sizes:
            found = persistent.plans(CELLS[name], units, MOST_SHARED)
            assert found is not None
            persistent.forward_kernel(CELLS[name], found[0])
            persistent.backward_kernel(CELLS[name], found[1])
        for units, precision in grid:
            for back in (False, True):
                gates = CELLS[name].gates
                plan = plan_of(name, units, gates, back, 64, 132, MOST_SHARED, precision)
                assert plan is not None
                (grid_persistent.backward_kernel if back else grid_persistent.forward_kernel)(plan)


@contextmanager
def undeclared() -> Iterator[None]:
    """Context whose kernels `target.kernels()` forgets: those that a test declares."""
    before = dict(target._KERNELS)
    try:
        yield
    finally:
        target._KERNELS.clear()
        target._KERNELS.update(before)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled kernel.

    ptx           the assembler's text
    cubin         machine code
    registers     of a thread
    stack         bytes of local memory of a thread
    spill_stores  bytes of registers spilled; spill_loads: read again
    shared        bytes of static shared memory
    float64       whether there is arithmetic in float64, or a conversion to it and back
    """

    ptx: str = field(repr=False)
    cubin: bytes = field(repr=False)
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    float64: bool


def compile_kernel(kernel: Kernel, capability: tuple[int, int]) -> Compiled:
    """A kernel for a GPU of a compute capability, such as (9, 0).

    Raises what Numba and the linker raise for code that does not compile.
    """
    core = import_module("cuda.core")
    (ptx,) = _library(kernel).get_asm_strs(cc=capability)
    options = core.LinkerOptions(
        arch=f"sm_{capability[0]}{capability[1]}", verbose=True, ptxas_options=["-v"]
    )
    linker = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)
    log = linker.get_info_log()
    registers, spills = _REGISTERS.search(log), _SPILLS.search(log)
    if registers is None or spills is None:
        raise ValueError(f"{kernel.name}: the linker did not say what it used: {log}")
    stack, stores, loads = (int(number) for number in spills.groups())
    shared = _SHARED.search(log)  # not said where there is none
    return Compiled(
        ptx, cubin, int(registers[1]), stack, stores, loads, int(shared[1]) if shared else 0,
        _FLOAT64.search(ptx) is not None,
    )  # fmt: skip


@lru_cache(maxsize=1)  # tests ask for one capability after the other
def _library(kernel: Kernel) -> Any:
    """A kernel's LLVM code, of which NVVM makes PTX for any capability.

    Numba's part takes nine tenths of the time, and gives the same code for all capabilities that
    are compiled for: `cuda.compile` would do it again for each.
    """
    with _without_device(min(SHARED)):
        library, _ = import_module("numba.cuda.compiler")._compile_pyfunc_with_fixup(
            kernel.function, _signature(kernel.types), cc=min(SHARED), device=False, abi="numba",
            launch_bounds=kernel.threads,
        )  # fmt: skip
    return library


def _signature(types: str) -> Any:
    """The Numba signature of what a kernel says of its arguments: "float32[::1], int64"."""
    parts = [part.strip() for part in types.split(", ")]
    return numba.core.sigutils.normalize_signature(f"void({', '.join(parts)})")[0]


@contextmanager
def _without_device(capability: tuple[int, int]) -> Iterator[None]:
    """A block in which Numba, asked for the GPU at hand, finds one of this capability: it asks
    where kernels call functions of their own."""
    dispatcher: Any = import_module("numba.cuda.dispatcher")
    found = dispatcher.get_current_device

    class Device:
        compute_capability = capability

    dispatcher.get_current_device = Device
    try:
        yield
    finally:
        dispatcher.get_current_device = found
