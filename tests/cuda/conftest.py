"""These tests run in Numba's simulator: NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda."""

from __future__ import annotations

from pathlib import Path

from numba import config

collect_ignore_glob: list[str] = []
if not getattr(config, "ENABLE_CUDASIM", False):
    collect_ignore_glob = [path.name for path in Path(__file__).parent.glob("test_*.py")]
