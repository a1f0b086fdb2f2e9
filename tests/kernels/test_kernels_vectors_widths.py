"""The kernels of word vectors with vectors of other widths than this machine's: against their
twins, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    f"tests/kernels/test_kernels_{name}.py"
    for name in ("word2vec", "fasttext", "fasttext_labels", "glove")
]


@pytest.mark.parametrize("width", [8, 4])
def test_the_twins_are_equalled_at_every_width(width: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *FILES, "-k",
         "twin and not sizes"],
        env={**os.environ, "FASTSEQ_LANES": str(width)}, cwd=ROOT, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
