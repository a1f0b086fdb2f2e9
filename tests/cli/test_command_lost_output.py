"""Changes of an index whose summary cannot be written to standard output."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fastseq
from tests.cli.conftest import SCRIPT, Run, Write

INDEX = Path(".fastseq/index")


@pytest.fixture
def second_commit(run: Run, write: Write) -> None:
    """An index with a deleted document, so that compact has something to do; two corpora."""
    texts = ["the cat runs", "the dog runs", "green tea", "a mouse runs"]
    write("cats.parquet", id=["a", "b", "c", "d"], text=texts)
    write("new.parquet", id=["b", "z"], text=["two dogs", "an owl"])
    assert run("index", "cats.parquet").code == 0
    assert run("delete", "d").code == 0


def stderr_of(stdout: Any, *words: str) -> str:
    """What a command that exits with code 1 writes to stderr."""
    ran = subprocess.run(
        [SCRIPT, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120
    )
    assert ran.returncode == 1, ran
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("Compiling ")]
    return "\n".join(lines)


CHANGES: list[tuple[tuple[str, ...], str]] = [
    (("add", "new.parquet"), "the index was changed: commit 3"),
    (("delete", "a"), "the index was changed: commit 3"),
    (("compact",), "the index was changed: commit 3"),
    (("index", "cats.parquet", "--overwrite"), "the index was written: commit 3"),
]


@pytest.mark.sample(4)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("words", "change"), CHANGES)
def test_change_whose_summary_is_lost_by_a_full_disk(
    second_commit: None, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], change: str,
    unbuffered: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    problem = "Error: cannot write to standard output: No space left on device"
    with open("/dev/full", "w") as full:
        assert stderr_of(full, *words) == f"{problem} ({change})"
        assert fastseq.Index.open(INDEX).info()["statistics"]["commit"] == 3
        if words == ("compact",):
            assert "commit" not in stderr_of(full, *words)  # nothing left to do


@pytest.mark.sample(2)
@pytest.mark.parametrize(("words", "change"), CHANGES)
def test_change_whose_summary_is_lost_by_a_closed_pipe(
    second_commit: None, words: tuple[str, ...], change: str
) -> None:
    reader, closed = os.pipe()
    os.close(reader)
    try:
        problem = "Error: cannot write to standard output: Broken pipe"
        assert stderr_of(closed, *words) == f"{problem} ({change})"
        assert stderr_of(closed, "search", "runs") == ""
    finally:
        os.close(closed)
