"""Recurrent layers, products and the CRF with vectors of each width that is not this machine's own.

The width is chosen when fastseq is imported, so each takes a process; they run at the same time,
since most of it is compiling.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fastseq.kernels.core.width import LANES, WIDTHS

ROOT = Path(__file__).resolve().parents[2]
OTHERS = [width for width in WIDTHS if width != LANES]
CHOSEN = [
    "tests/nn/test_nn_recurrent.py::test_three_layers_and_a_batch_beyond_the_blocks_of_a_product",
    "tests/nn/test_nn_recurrent.py::test_as_the_twin",
    "tests/nn/test_nn_products.py",
    "tests/nn/test_nn_crf.py",
    "tests/kernels/simd/test_simd_gemm.py",
]


def test_the_tests_pass_with_other_widths() -> None:
    started = {
        width: subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *CHOSEN],
            env={**os.environ, "FASTSEQ_LANES": str(width)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for width in OTHERS
    }
    try:
        said = {width: process.communicate(timeout=600)[0] for width, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
    for width, process in started.items():
        assert process.returncode == 0, f"{width} lanes:\n{said[width][-4000:]}"
        assert " passed" in said[width]
