"""fastseq export-ciff and import-ciff."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastseq.store.folder import read_manifest
from tests.cli.conftest import Run, Write
from tests.naive import ciff

pytestmark = pytest.mark.usefixtures("in_folder")


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def index(run: Run, write: Write) -> str:
    """An index of stems."""
    corpus = write("cats.parquet", id=[7, 8], text=["Running cats", "The cats sat"])
    assert run("index", corpus, "-o", "cats", "--language", "english").code == 0
    return "cats"


def test_an_index_goes_to_a_file_and_back(run: Run, index: str) -> None:
    said = run("export-ciff", index, "cats.ciff.gz").pairs
    assert (said["file"], said["documents"], said["terms"]) == ("cats.ciff.gz", "2", "3")
    told = run("import-ciff", "cats.ciff.gz", "back", "--language", "english").pairs
    assert (told["index"], told["documents"], told["terms"], told["postings"]) == (
        "back", "2", "3", "4",
    )  # fmt: skip
    query = ("search", "the cat runs", "--format", "tsv")
    before, after = (run(*query, "-i", name).out.splitlines() for name in (index, "back"))
    assert len(after) == 3
    assert after == [line.rpartition("\t")[0] for line in before]  # without the text
    assert run("export-ciff", "back", "again.ciff").code == 0
    found = ciff.read(Path("again.ciff").read_bytes())
    assert [id for _, id, _ in found.documents] == ["7", "8"]
    assert [term for term, *_ in found.lists] == ["cat", "run", "sat"]
    assert run("info", "back", "--verify").code == 0


def test_without_options_of_analysis_queries_are_terms(run: Run, index: str) -> None:
    run("export-ciff", index, "cats.ciff", "--quiet")
    assert run("import-ciff", "cats.ciff", "back", "--quiet").out == ""
    analyzer = read_manifest(Path("back")).settings["analyzer"]
    assert (analyzer["tokenizer"], analyzer["lowercase"], analyzer["stemmer"]) == (
        "space", False, "none",
    )  # fmt: skip
    assert run("import-ciff", "cats.ciff", "words", "--tokenizer", "word").code == 0
    assert read_manifest(Path("words")).settings["analyzer"]["lowercase"] is True
    assert run("import-ciff", "cats.ciff", "stems", "--stemmer", "english").code == 0
    analyzer = read_manifest(Path("stems")).settings["analyzer"]
    assert (analyzer["tokenizer"], analyzer["stemmer"]) == ("unicode", "english")
    assert run("search", "running", "-i", "stems", "--format", "tsv").out.count("\n") == 2
    assert run("search", "running", "-i", "back", "--format", "tsv").out.count("\n") == 1


def test_errors_are_one_line(run: Run, index: str) -> None:
    run("export-ciff", index, "cats.ciff")
    error = run("export-ciff", index, "cats.ciff").error
    assert "already exists" in error
    assert "--overwrite" in error
    assert run("export-ciff", index, "cats.ciff", "--overwrite").code == 0
    raw = Path("cats.ciff").read_bytes()
    Path("cut.ciff").write_bytes(raw[:-3])
    ran = run("import-ciff", "cut.ciff", "new")
    assert ran.code == 1
    assert "cut.ciff: document record 2 of 2: the file is truncated" in ran.error
    assert "not a CIFF file" in run("import-ciff", "cats.parquet", "new").error
    assert "No such file" in run("import-ciff", "none.ciff", "new").error
    assert "--overwrite" in run("import-ciff", "cats.ciff", index).error
    assert run("import-ciff", "cats.ciff", index, "--overwrite").code == 0
    assert not Path("new").exists()
    assert "no such folder" in run("export-ciff", index, "none/cats.ciff").error
    assert "none" in run("export-ciff", "none", "new.ciff").error
    assert run("export-ciff", index).code == 2
