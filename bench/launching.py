"""What the host spends on launches, beside Numba's own way; no GPU is needed.

    .venv-cuda/bin/python bench/launching.py       # in an environment with the extra [cuda]

numba-cuda is given a driver that does nothing (tests/emulator), so what is left is the host's work:
of one launch of a kernel of ten arrays by either, in turns; and of a forward and a backward pass of
a recurrent layer. The driver's own part, some microseconds a launch, is not in it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# this folder has a "cuda" in it, which NVIDIA's package of that name must not be taken for
sys.path[:] = [str(HERE.parent), *(place for place in sys.path if Path(place).resolve() != HERE)]

import numpy as np  # noqa: E402

from tests.emulator.driver import install  # noqa: E402

GPU = install()

from fastseq.kernels.cuda.runtime import blas, memory, target  # noqa: E402
from fastseq.kernels.cuda.runtime.target import kernel  # noqa: E402
from fastseq.nn.cuda import recurrent  # noqa: E402

ARRAYS = 10
PASSES = [(cell, H, B) for cell in ("LSTM", "GRU") for H, B in ((64, 64), (128, 256), (512, 16))]
STEPS = 64


def nothing(*_: Any) -> int:
    return 0


def nothing_is_done() -> None:
    """From here on by whatever was launched before."""
    for launch in target._LAUNCHERS.values():
        launch._call = nothing
    driver = import_module("numba.cuda.cudadrv.driver").driver
    driver.cuMemcpyHtoD = driver.cuMemcpyHtoDAsync = driver.cuMemcpyDtoD = nothing
    driver.cuEventRecord = driver.cuEventSynchronize = nothing
    blas._library().cublasGemmEx = nothing
    GPU.later = nothing


def in_turns(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median microseconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            then = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - then)
    return {name: statistics.median(each) * 1e6 for name, each in taken.items()}


def one_launch() -> dict[str, float]:
    types = ", ".join([*["float32[::1]"] * ARRAYS, "int64"])

    @kernel(types, threads=32, registers=64)
    def of_ten(a, b, c, d, e, f, g, h, i, j, n):
        a[n] = b[n] + c[n] + d[n] + e[n] + f[n] + g[n] + h[n] + i[n] + j[n]

    arrays = [memory.zeros(8) for _ in range(ARRAYS)]
    of_ten(1, *arrays, 1)
    memory.synchronize()
    nothing_is_done()
    import_module("numba.cuda.dispatcher").launch = nothing
    return in_turns(
        {
            "Numba": lambda: of_ten.compiled[1, 32, 0, 0](*arrays, 1),
            "fastseq": lambda: of_ten(1, *arrays, 1),
        },
        2000,
    )


def a_pass(cell: str, hidden: int, batch: int) -> float:
    layer = getattr(recurrent, cell)(hidden, hidden, seed=1)
    offsets = np.arange(batch + 1) * STEPS
    x, dy = (memory.zeros((STEPS * batch, hidden)) for _ in range(2))

    def run() -> None:
        layer.zero_gradients()
        layer.forward_ragged(x, offsets)
        layer.backward_ragged(dy)

    run()
    nothing_is_done()
    return in_turns({"": run}, 200)[""]


def main() -> None:
    found = one_launch()
    print(
        f"a launch of {ARRAYS} arrays: Numba {found['Numba']:.1f} µs, fastseq "
        f"{found['fastseq']:.1f} µs, {found['Numba'] / found['fastseq']:.1f} times"
    )
    for cell, hidden, batch in PASSES:
        print(f"{cell} {hidden}, B = {batch}, forward and backward: "
              f"{a_pass(cell, hidden, batch):.0f} µs")  # fmt: skip


if __name__ == "__main__":
    main()
