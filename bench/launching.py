"""The host's cost of kernel launches, compared with Numba's own way; no GPU is needed.

    .venv-cuda/bin/python -m bench.launching     # in an environment with the extra [cuda]

numba-cuda is given a driver that does nothing (tests/emulator), so that only the host's work is
left: of one launch of a kernel of ten arrays by either, in alternation; and of a forward and a
backward pass of a recurrent layer. The driver's own part, some microseconds a launch, is not
included.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from bench.common.harness import alternate
from bench.common.report import Parser, Report, optional

ARRAYS = 10
PASSES = [(cell, H, B) for cell in ("LSTM", "GRU") for H, B in ((64, 64), (128, 256), (512, 16))]
STEPS = 64


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("launching", options, ("numba-cuda",))
    if optional("numba_cuda") is None:
        return report.end()
    from tests.emulator.driver import install

    gpu = install()
    found = one_launch(gpu, options.rounds * 10)
    times = {name: seconds * 1e6 for name, seconds in found.items()}
    report.results["launch"] = times
    print(
        f"a launch of {ARRAYS} arrays: Numba {times['Numba']:.1f} µs, fastseq "
        f"{times['fastseq']:.1f} µs, speed-up {times['Numba'] / times['fastseq']:.1f}"
    )
    for cell, hidden, batch in PASSES[: options.passes]:
        seconds = one_pass(gpu, cell, hidden, batch, options.rounds)
        name = f"{cell} {hidden}, B = {batch}, forward and backward"
        report.results[name] = seconds * 1e6
        print(f"{name}: {seconds * 1e6:.0f} µs", flush=True)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=200, small={"passes": 1})
    parser.add_argument("--passes", type=int, help="number of layers; all unless given")
    return parser.parse(arguments)


def nothing(*_: Any) -> int:
    return 0


def disable(gpu: Any) -> None:
    """Make everything that was launched or copied so far do nothing from here on."""
    from fastseq.kernels.cuda.nn import gemm
    from fastseq.kernels.cuda.runtime import target

    for kernel in target.kernels():
        if kernel.launcher is not None:
            kernel.launcher._launch = nothing
    driver = import_module("numba.cuda.cudadrv.driver").driver
    driver.cuMemcpyHtoD = driver.cuMemcpyHtoDAsync = driver.cuMemcpyDtoD = nothing
    driver.cuEventRecord = driver.cuEventSynchronize = nothing
    gemm._cublas().cublasGemmEx = nothing
    gpu.later = nothing


def one_launch(gpu: Any, rounds: int) -> dict[str, float]:
    """Median seconds of a launch by Numba and by fastseq."""
    from fastseq.kernels.cuda.runtime import memory
    from fastseq.kernels.cuda.runtime.target import kernel

    types = ", ".join([*["float32[::1]"] * ARRAYS, "int64"])

    @kernel(types, threads=32, registers=64)
    def of_ten(a, b, c, d, e, f, g, h, i, j, n):  # type: ignore[no-untyped-def]
        a[n] = b[n] + c[n] + d[n] + e[n] + f[n] + g[n] + h[n] + i[n] + j[n]

    arrays = [memory.zeros(8) for _ in range(ARRAYS)]
    of_ten(1, *arrays, 1)
    memory.synchronize()
    disable(gpu)
    setattr(import_module("numba.cuda.dispatcher"), "launch", nothing)  # noqa: B010
    launch = of_ten.compiled[1, 32, 0, 0]
    ways = {"Numba": lambda: launch(*arrays, 1), "fastseq": lambda: of_ten(1, *arrays, 1)}
    return alternate(ways, rounds)


def one_pass(gpu: Any, cell: str, hidden: int, batch: int, rounds: int) -> float:
    """Median seconds of a layer's forward and backward pass."""
    from fastseq.kernels.cuda.runtime import memory
    from fastseq.nn.cuda import recurrent

    layer = getattr(recurrent, cell)(hidden, hidden, seed=1)
    offsets = np.arange(batch + 1) * STEPS
    x, dy = (memory.zeros((STEPS * batch, hidden)) for _ in range(2))

    def run() -> None:
        layer.zero_gradients()
        layer.forward_ragged(x, offsets)
        layer.backward_ragged(dy)

    run()
    disable(gpu)
    return alternate({"": run}, rounds)[""]


if __name__ == "__main__":
    sys.exit(main())
