"""The tests of vectors once more for each width that is not this machine's own.

The width is chosen when fastseq is imported, so each takes a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastseq.kernels.core.width import LANES, WIDTHS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
OTHERS = [width for width in WIDTHS if width != LANES]

DIGEST = """
import sys
import zlib
import numpy as np
from fastseq.kernels.simd import vmath
from fastseq.kernels.core.width import LANES
x = np.arange(0, 1 << 32, 8191, dtype=np.uint32).view(np.float32)
x = np.concatenate([x, np.linspace(-20, 20, 100_001, dtype=np.float32)])
x = x[~np.isnan(x)]
print(LANES)
for name in ("exp", "tanh", "sigmoid", "log", "erf"):
    out = np.empty_like(x)
    getattr(vmath, name + "_array")(out, x)
    out[np.isnan(out)] = np.nan
    print(name, zlib.crc32(out.tobytes()))
"""


def run(width: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "FASTSEQ_LANES": str(width)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("width", OTHERS)
def test_the_tests_of_vectors_pass(width: int) -> None:
    files = [str(HERE / name) for name in ("test_simd_floats.py", "test_simd_vmath.py")]
    done = run(width, "-m", "pytest", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_every_width_gives_the_same_bits() -> None:
    said = {}
    for width in WIDTHS:
        done = run(width, "-c", DIGEST)
        assert done.returncode == 0, done.stderr
        lanes, said[width] = done.stdout.split("\n", 1)
        assert int(lanes) == width
        assert said[width].count("\n") == 5
    assert len(set(said.values())) == 1, said


@pytest.mark.parametrize("forced", ["5", "32", "sixteen"])
def test_a_width_there_is_not_is_refused(forced: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import fastseq.kernels.core.width"],
        env={**os.environ, "FASTSEQ_LANES": forced},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert f"FASTSEQ_LANES is '{forced}', expected 16, 8 or 4" in done.stderr
