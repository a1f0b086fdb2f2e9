"""A few runs of the soak test; FASTSEQ_SOAK=1000 runs a thousand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import sampling
from tests.index import soak

RUNS = int(os.environ.get("FASTSEQ_SOAK", 100 if sampling.ALL else 6))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork and no SIGKILL")
def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    found = soak.soak(RUNS, 3 if RUNS > 10 else 2, seed=1, folder=tmp_path)
    assert found["runs"] == RUNS
    assert found["reader_checks"] > 0
    assert found["changes"] >= 1


def test_the_journal_gives_the_documents_of_every_change(tmp_path: Path) -> None:
    journal, reader = soak.Journal(tmp_path / "journal"), soak.Journal(tmp_path / "journal")
    for number, parent, kind, add, delete in (
        (1, 0, "build", [1, 2, 3], []),
        (2, 1, "change", [2, 9], [1]),
        (3, 1, "compact", [], [3]),  # change 2 was lost
        (4, 3, "build", [7], [7]),
    ):
        journal.append(
            {"number": number, "parent": parent, "kind": kind, "add": add, "delete": delete}
        )
    assert reader.documents(2).ids == [3, 2, 9, soak.STAMP]
    assert reader.documents(3).ids == [1, 2, soak.STAMP]
    assert reader.documents(4).ids == [7, soak.STAMP]
    assert reader.last == 4
    with pytest.raises(KeyError):
        reader.documents(5)
