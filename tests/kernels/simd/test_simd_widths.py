"""The tests of vectors once more for each width that is not this machine's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.widths import OTHERS, TESTED, outputs, run_tests

HERE = Path(__file__).resolve().parent

DIGEST = """
import sys
import zlib
import numpy as np
from bench.common.loops import over_array
from fastseq.kernels.simd import vmath
from fastseq.kernels.core.width import LANES
x = np.arange(0, 1 << 32, 8191, dtype=np.uint32).view(np.float32)
x = np.concatenate([x, np.linspace(-20, 20, 100_001, dtype=np.float32)])
x = x[~np.isnan(x)]
print(LANES)
for name in ("exp", "tanh", "sigmoid", "log", "erf"):
    out = np.empty_like(x)
    over_array(getattr(vmath, name))(out, x)
    out[np.isnan(out)] = np.nan
    print(name, zlib.crc32(out.tobytes()))
"""


def test_vector_tests_pass_at_other_widths() -> None:
    run_tests(OTHERS, *(str(HERE / f"test_simd_{name}.py") for name in ("floats", "vmath")))


def test_every_width_gives_the_same_bits() -> None:
    checksums = set()
    for width, text in outputs(TESTED, "-c", DIGEST).items():
        lanes, found = text.split("\n", 1)
        assert int(lanes) == width
        assert found.count("\n") == 5
        checksums.add(found)
    assert len(checksums) == 1


@pytest.mark.parametrize("forced", ["5", "32", "sixteen"])
def test_unsupported_width_is_rejected(forced: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import fastseq.kernels.core.width"],
        env={**os.environ, "FASTSEQ_LANES": forced},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert f"FASTSEQ_LANES is '{forced}', expected 16, 8 or 4" in done.stderr
