"""Readers of an index beside its writers, and what a change must not hide."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fastseq import TFIDF, BoW, FormatError, Index
from fastseq.search import ranking
from fastseq.search.searcher import Searcher
from fastseq.store import folder as folder_module
from fastseq.store.folder import verify
from tests.index.living import Documents, assert_holds, built, hits_of, some_rows, table_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v1"


pytestmark = pytest.mark.usefixtures("no_waiting")


def files(path: Path) -> dict[str, bytes]:
    """All but the lock."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "lock"
    }


@pytest.mark.parametrize(
    ("way", "query"), [("search", ["w1 w2 w3", "w4"]), ("find_one", "w1 w2 w3")]
)
def test_a_search_has_the_commit_that_it_began_with(
    index: Index, documents: Documents, monkeypatch: pytest.MonkeyPatch, way: str, query: Any
) -> None:
    """Where another thread changes or refreshes the same Index in between."""
    before = hits_of(index)
    number = len(index)

    def changing(self: Searcher, *arguments: Any, **named: Any) -> Any:
        found = original(self, *arguments, **named)
        if len(index) == number:
            index.delete([row["id"] for row in documents.rows[::2]])
            index.compact()
        return found

    original = getattr(Searcher, way)
    with monkeypatch.context() as patch:
        patch.setattr(Searcher, way, changing)
        first = index.search(query, k=5)
    assert len(index) < number
    kept = built(documents.rows, index.path.parent / "kept").search(query, k=5)
    assert first.to_dicts() == kept.to_dicts()
    assert hits_of(index) != before


@pytest.mark.parametrize(("model", "counted"), [(BoW(cosine=True), 1), (TFIDF("ltc.lnc"), 2)])
def test_norms_without_statistics_are_kept(
    index: Index, documents: Documents, monkeypatch: pytest.MonkeyPatch, model: Any, counted: int
) -> None:
    sums: list[int] = []

    def document_sums(high: Any, *arguments: Any) -> None:
        sums.append(len(high))
        original(high, *arguments)

    original = ranking.document_sums
    monkeypatch.setattr(ranking, "document_sums", document_sums)
    index.search("w1", model=model)
    assert sums == [20]
    documents.add(rows := some_rows([1, 30]))
    index.add(table_of(rows), threads=1)
    sums.clear()
    index.search("w1", model=model)
    assert len(sums) == counted
    assert_holds(index, documents)


@pytest.mark.parametrize("change", ["delete", "compact"])
def test_a_damaged_index_of_format_1_is_not_migrated(tmp_path: Path, change: str) -> None:
    """What its checksums find would be rewritten with new ones."""

    def migrate(path: Path) -> None:
        index = Index.open(path)
        index.delete(["d40"]) if change == "delete" else index.compact()

    names = [file.name for file in (GOLDEN / "words").glob("data-*/*") if file.stat().st_size]
    assert len(names) > 10
    for name in names:
        path = tmp_path / name
        shutil.copytree(GOLDEN / "words", path)
        (file,) = path.glob(f"data-*/{name}")
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        damaged = files(path)
        with pytest.raises(FormatError, match=name):
            migrate(path)
        assert files(path) == damaged


def test_verifying_beside_a_writer_is_no_false_alarm(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []

    def check(path: Path, *arguments: Any) -> bool:
        if not checked:
            index.delete([1])
            index.compact()
        checked.append(path)
        return original(path, *arguments)

    original = folder_module._is_intact
    monkeypatch.setattr(folder_module, "_is_intact", check)
    assert verify(index.path) == []
    assert len(checked) > 1
    file = next(path for path in index.path.glob("data-*/*") if path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])
    assert verify(index.path) == [file.relative_to(index.path).as_posix()]
