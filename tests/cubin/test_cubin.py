"""Every CUDA kernel compiles for every architecture, without spills and within what it says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import walk_packages

import numpy as np
import pytest

import fastseq.kernels.cuda as room
from fastseq.kernels.cuda.runtime.target import Kernel, cuda, kernel, kernels
from tests.cubin.compiling import _FLOAT64, SHARED, compile_kernel, declare_variants, undeclared

CAPABILITIES = tuple(SHARED)
FILE = 65536  # registers of a multiprocessor


def all_kernels() -> list[Kernel]:
    """The declared kernels, and their variants of typical sizes."""
    for module in walk_packages(room.__path__, f"{room.__name__}."):
        import_module(module.name)
    declare_variants()
    return kernels()


def is_planned(each: Kernel) -> bool:
    """Whether its shared memory was planned for the present GPU, here the largest one."""
    return each.name.partition(".")[0] in ("persistent", "grid_persistent")


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
@pytest.mark.parametrize("each", all_kernels(), ids=lambda each: each.name)
def test_kernel_compiles_without_spills(each: Kernel, capability: tuple[int, int]) -> None:
    made = compile_kernel(each, capability)
    assert made.cubin[:4] == b"\x7fELF"
    assert made.spill_stores <= each.spill
    assert made.spill_loads <= each.spill
    assert made.stack <= each.spill
    assert made.registers <= each.registers
    assert made.registers * each.threads <= FILE
    assert made.float64 <= each.float64
    most = SHARED[(9, 0)] if is_planned(each) else SHARED[capability]
    assert made.shared + each.shared <= most


@pytest.fixture(autouse=True)
def no_kernel_stays() -> Iterator[None]:
    with undeclared():
        yield


def test_register_spills_are_detected(tmp_path: Path) -> None:
    """A hundred sums at once, where 1,024 threads leave 64 registers to each."""
    names = [f"s{i}" for i in range(100)]
    lines = ["from fastseq.kernels.cuda.runtime.target import cuda", "def spilling(x, n):"]
    lines += ["    t = cuda.grid(1) * 1000"]  # else the numbers are every thread's, and kept once
    lines += [f"    {name} = x[t + {i}]" for i, name in enumerate(names)]
    lines += ["    for i in range(t, t + n):"]
    lines += [
        f"        {name} = {name} * x[i + {7 * k}] + {names[k - 1]}" for k, name in enumerate(names)
    ]
    lines += [f"    x[t + {i}] = {name}" for i, name in enumerate(names)]
    (tmp_path / "spilling.py").write_text("\n".join(lines) + "\n")
    spec = spec_from_file_location("spilling", tmp_path / "spilling.py")
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    each = kernel("float32[::1], int64", threads=1024, registers=64)(made.spilling)
    found = compile_kernel(each, (9, 0))
    assert found.spill_stores > 0
    assert found.spill_loads > 0


def test_local_and_shared_memory_are_detected() -> None:
    @kernel("float32[::1], int64", threads=1024, registers=255, name="local")
    def local(x, n):
        values = cuda.local.array(1000, "float32")
        shared = cuda.shared.array(100, "float32")
        shared[cuda.threadIdx.x % 100] = x[0]
        for i in range(1000):
            values[(i * n) % 1000] = x[i]
        cuda.syncthreads()
        x[n] = values[n] + shared[n]

    made = compile_kernel(local, (9, 0))
    assert made.stack >= 4000
    assert made.shared >= 400


def doubled(x):
    x[0] = x[0] * 0.1


def doubled_sometimes(x):
    if x[1] > x[2]:
        x[0] = x[0] * 0.1


def widened(x):
    x[0] = np.float32(np.float64(x[0]) * np.float64(x[1]) + np.float64(x[2]))


@pytest.mark.parametrize("function", [doubled, doubled_sometimes, widened])
def test_float64_instructions_are_detected(function) -> None:
    each = kernel("float32[::1]", threads=32, registers=64)(function)
    assert compile_kernel(each, (9, 0)).float64


def test_predicated_float64_is_detected_in_the_assembly() -> None:
    for line in (
        "\tadd.f64 \t%fd1, %fd2, %fd3;",
        "\t@%p1 add.rn.f64 \t%fd1, %fd2, %fd3;",
        "\t@!%p12 fma.rn.f64 \t%fd1, %fd2, %fd3, %fd4;",
        "\tcvt.f64.f32 \t%fd1, %f1;",
        "\tcvt.rn.f32.f64 \t%f1, %fd1;",
    ):
        assert _FLOAT64.search(line), line
    for line in (
        "\tadd.f32 \t%f1, %f2, %f3;",
        "\tld.global.f64 \t%fd1, [%rd1];",
        "\t@%p1 mov.f64 \t%fd1, %fd2;",
        "\tcvt.rn.f32.s64 \t%f1, %rd1;",
    ):
        assert not _FLOAT64.search(line), line
