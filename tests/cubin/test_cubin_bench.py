"""bench.launching runs with numba-cuda."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_launches_are_compared_in_the_small_mode() -> None:
    command = [sys.executable, "-m", "bench.launching", "--small"]
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "a launch of 10 arrays: Numba" in ran.stdout
