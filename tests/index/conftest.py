"""An index of twenty documents, and what it must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastseq import Index
from tests.index.living import Documents, built, some_rows


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def documents() -> Documents:
    return Documents(some_rows(range(20)))


@pytest.fixture
def index(documents: Documents, tmp_path: Path) -> Index:
    return built(documents.rows, tmp_path / "index")
