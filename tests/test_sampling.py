"""`make test` runs a seeded sample of large suites, and `make test-all` all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import pytest
from hypothesis import given, settings, strategies as st

@pytest.mark.sample(3)
@pytest.mark.parametrize("a", range(10))
@pytest.mark.parametrize("b", range(4))
def test_pairs(a, b):
    print("pair", a, b)

@pytest.mark.parametrize("a", range(5))
def test_others(a):
    print("other", a)

@settings(max_examples=200)
@given(st.integers())
def test_integers(n):
    print("example", n)
"""


def run(chosen: str, folder: Path, *words: str) -> dict[str, list[str]]:
    """What the tests above print of each kind."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "test_some.py").write_text(TESTS)
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-s", "-p"]
    options += ["no:cacheprovider", *(words or [str(folder)])]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=ROOT, text=True, capture_output=True,
        env={**os.environ, "FASTSEQ_TESTS": chosen},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    kinds = ("pair", "other", "example")
    return {kind: re.findall(rf"{kind} (-?\d.*)", ran.stdout) for kind in kinds}


def test_samples_are_seeded_and_unmarked_tests_unchanged(tmp_path: Path) -> None:
    first, again, other = (run(chosen, tmp_path) for chosen in ("0", "0", "1"))
    assert first == again
    assert len(first["pair"]) == len(other["pair"]) == 3
    assert first["pair"] != other["pair"]
    assert len(first["other"]) == 5
    assert 10 < len(first["example"]) <= 25


def test_all_tests_run_on_request(tmp_path: Path) -> None:
    found = run("all", tmp_path)
    assert len(found["pair"]) == 40
    assert len(found["other"]) == 5
    assert len(found["example"]) >= 150


@pytest.mark.parametrize("case", ["3-9", "0-0"])
def test_named_parameter_set_runs(tmp_path: Path, case: str) -> None:
    path = tmp_path / "test_some.py"
    b, a = case.split("-")
    assert run("0", tmp_path, f"{path}::test_pairs[{b}-{a}]")["pair"] == [f"{a} {b}"]
