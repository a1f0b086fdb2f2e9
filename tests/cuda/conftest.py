"""These tests run in Numba's simulator: NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda. On a GPU they are
the first check of bench.gpu: FASTSEQ_GPU=1 pytest tests/cuda. With FASTSEQ_GPU=emulated what
numba-cuda compiled for one runs on the CPU: see tests/emulator."""

from __future__ import annotations

import os
from pathlib import Path

from numba import config

GPU = os.environ.get("FASTSEQ_GPU")

collect_ignore_glob: list[str] = []
if not (getattr(config, "ENABLE_CUDASIM", False) or GPU in ("1", "emulated")):
    collect_ignore_glob = [path.name for path in Path(__file__).parent.glob("test_*.py")]
if GPU == "emulated":
    from tests.emulator.driver import install

    install()
