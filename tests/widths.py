"""Python processes whose vectors have another width than this machine's.

The width is chosen when fastseq is imported. Compiling takes most of the time, so `make test` uses
one other width for all tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from fastseq.kernels.core import width
from tests.sampling import some

ROOT = Path(__file__).resolve().parent.parent
OTHERS = some([lanes for lanes in width.WIDTHS if lanes != width.LANES], 1, "width")
TESTED = [width.LANES, *OTHERS]


def outputs(widths: Iterable[int], *command: str) -> dict[int, str]:
    """{width: standard output} of `python command…`, all widths at the same time; a process that
    fails ends the test with what it wrote. {width} in the command is replaced."""
    running = {
        lanes: subprocess.Popen(
            [sys.executable, *(word.replace("{width}", str(lanes)) for word in command)],
            env={**os.environ, "FASTSEQ_LANES": str(lanes)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for lanes in widths
    }
    try:
        found = {lanes: process.communicate(timeout=600)[0] for lanes, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
    for lanes, process in running.items():
        assert process.returncode == 0, f"{lanes} lanes:\n{found[lanes][-4000:]}"
    return found


def run_tests(widths: Iterable[int], *arguments: str) -> None:
    """Run pytest with these arguments at each width."""
    for text in outputs(widths, "-m", "pytest", "-p", "no:cacheprovider", *arguments).values():
        assert " passed" in text
