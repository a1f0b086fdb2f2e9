"""These tests run in Numba's simulator: NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda. On a GPU they are
the first check of bench.gpu: FASTSEQ_GPU=1 pytest tests/cuda. With FASTSEQ_GPU=emulated what
numba-cuda compiled for one runs on the CPU: see tests/emulator. That is the code that a GPU gets,
in `make test-cuda`. Both are slow, so a sample of the parameter sets of each test runs: emulated a
half, and of the tests of whole models a third; in the simulator a quarter and an eighth. What
tests benchmarks rather than kernels runs in the simulator alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from numba import config

from tests import sampling

GPU = os.environ.get("FASTSEQ_GPU")
SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
WHOLE_MODELS, BENCHMARKS = "test_cuda_models.py", "test_cuda_bench.py"

collect_ignore_glob: list[str] = []
if not (SIMULATED or GPU in ("1", "emulated")):
    collect_ignore_glob = [path.name for path in Path(__file__).parent.glob("test_*.py")]
if GPU == "emulated":
    if not sampling.ALL:
        collect_ignore_glob = [BENCHMARKS]
    from tests.emulator.driver import install

    install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sample where there is no GPU, unless a test was named; see tests/sampling.py."""
    if GPU == "1" or sampling.ALL or any("::" in argument for argument in config.args):
        return
    sets: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = item.nodeid.partition("::" if item.path.name == WHOLE_MODELS else "[")[0]
        sets.setdefault(name, []).append(item)
    kept: set[pytest.Item] = set()
    for name, cases in sets.items():
        whole, others = (8, 4) if SIMULATED else (3, 2)
        parts = whole if name.endswith(WHOLE_MODELS) else others
        kept |= set(sampling.some(cases, -(-len(cases) // parts), name))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]
