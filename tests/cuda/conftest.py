"""These tests run in Numba's simulator: NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda; on a GPU they are
the first check of bench/cuda.py: FASTSEQ_GPU=1 pytest tests/cuda."""

from __future__ import annotations

import os
from pathlib import Path

from numba import config

collect_ignore_glob: list[str] = []
if not (getattr(config, "ENABLE_CUDASIM", False) or os.environ.get("FASTSEQ_GPU") == "1"):
    collect_ignore_glob = [path.name for path in Path(__file__).parent.glob("test_*.py")]
