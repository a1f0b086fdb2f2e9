"""Every CUDA kernel compiles for every architecture, without spills and within its registers."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pytest

import fastseq.kernels.cuda as room
from fastseq.kernels.cuda.compiling import compile_kernel
from fastseq.kernels.cuda.target import Kernel, cuda, kernel, kernels

CAPABILITIES = ((8, 0), (9, 0))
FILE = 65536  # registers of a multiprocessor


def all_kernels() -> list[Kernel]:
    """Those that the room's files declare, and their variants of typical sizes."""
    for module in iter_modules(room.__path__):
        found = import_module(f"{room.__name__}.{module.name}")
        if hasattr(found, "variants"):
            found.variants()
    return kernels()


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
@pytest.mark.parametrize("each", all_kernels(), ids=lambda each: each.name)
def test_it_compiles(each: Kernel, capability: tuple[int, int]) -> None:
    made = compile_kernel(each, capability)
    assert made.cubin[:4] == b"\x7fELF"
    assert made.spill_stores <= each.spill
    assert made.registers <= each.registers
    assert made.registers * each.threads <= FILE
    assert made.float64 <= each.float64


def test_a_kernel_that_spills_is_seen() -> None:
    @kernel("float32[::1], int64", threads=1024, registers=64, name="spilling")
    def spilling(x, n):
        values = cuda.local.array(256, "float32")
        for i in range(256):
            values[i] = x[i]
        for _ in range(n):
            for i in range(256):
                values[i] += values[(i * 7) % 256]
        for i in range(256):
            x[i] = values[i]

    assert compile_kernel(spilling, (9, 0)).stack > 0


def test_float64_is_seen() -> None:
    @kernel("float32[::1]", threads=32, registers=64, name="doubled")
    def doubled(x):
        x[0] = x[0] * 0.1

    assert compile_kernel(doubled, (9, 0)).float64
