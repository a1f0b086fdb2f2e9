"""Groups of rows of stored columns when segments are merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastseq import Index
from tests.index.living import Documents, built, documents_of, table_of


def add(index: Index, documents: Documents, rows: list[Any]) -> None:
    documents.add(rows)
    index.add(table_of(rows), threads=1)


def test_groups_of_stored_columns_are_copied_or_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastseq.store.documents.GROUP_ROWS", 512)
    documents = Documents(
        {"id": n, "text": f"w{n % 7} all", "year": n % 13} for n in range(2000)
    )
    index = built(documents.rows, tmp_path / "index")
    group = bytes(index._collection.leaves[0].segment.stored.group(1))  # type: ignore[union-attr]
    add(index, documents, [{"id": n, "text": "w1 w8", "year": n} for n in range(5000, 5300)])
    gone = [3, 511, *range(1024, 1536, 2)]  # of groups 0 and 2; 1 and 3 stay whole
    index.delete(gone)
    documents.delete(gone)
    index.compact()
    stored = index._collection.leaves[0].segment.stored
    assert stored is not None
    starts = stored.starts.tolist()
    assert starts == [0, 510, 1022, 1278, 1742, 2042]
    assert bytes(stored.group(1)) == group  # type: ignore[attr-defined]
    assert documents_of(index) == documents.rows
    assert index.search("w8", k=1000).counts[0] == 300
    for id in (0, 512, 1025, 1999, 5299):
        assert index.get(id) == documents.rows[documents.ids.index(id)]


def test_groups_of_long_columns_are_copied_or_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastseq.store.documents.GROUP_ROWS", 512)
    monkeypatch.setattr("fastseq.store.documents.GROUP_BYTES", 32_000)
    documents = Documents(
        {"id": n, "text": f"w{n % 7} all " + "x" * (n % 150 + 25), "year": n % 13}
        for n in range(2000)
    )
    index = built(documents.rows, tmp_path / "index")
    assert index.info()["format_version"] == 5
    stored = index._collection.leaves[0].segment.stored
    assert stored is not None
    assert [part.columns for part in stored.parts] == [["id", "year"], ["text"]]
    copied = [bytes(stored.parts[0].group(1)), bytes(stored.parts[1].group(6))]
    # segments with one part
    add(index, documents, [{"id": n, "text": "w1 w8", "year": n} for n in range(5000, 5300)])
    add(index, documents, [{"id": n, "text": "w1 w8" * 50, "year": n} for n in range(5300, 5310)])
    assert len(index._collection.leaves) > 1
    gone = [3, 511, *range(1024, 1536, 2)]
    index.delete(gone)
    documents.delete(gone)
    assert index.search(["w8"], k=1000, filter="year >= 5200").counts[0] == 110
    index.compact()
    (leaf,) = index._collection.leaves
    merged = leaf.segment.stored
    assert merged is not None
    assert [part.columns for part in merged.parts] == [["id", "year"], ["text"]]
    assert merged.parts[0].starts.tolist() == [0, 510, 1022, 1278, 1742, 2052]
    groups = [
        {bytes(part.group(number)) for number in range(len(part.starts) - 1)}
        for part in merged.parts
    ]
    assert copied[0] in groups[0]
    assert copied[1] not in groups[1]  # of few rows: written anew
    assert documents_of(index) == documents.rows
    assert index.search(["all"], k=3000, filter="year = 3").counts[0] == sum(
        row["year"] == 3 for row in documents.rows
    )
    for id in (0, 512, 1025, 1999, 5299, 5309):
        assert index.get(id) == documents.rows[documents.ids.index(id)]
    assert index.info()["format_version"] == 5


def test_small_segments_become_one_with_long_columns_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastseq.store.documents.GROUP_BYTES", 4000)
    documents = Documents({"id": n, "text": "all " * 25, "year": n} for n in range(30))
    index = built(documents.rows, tmp_path / "index")
    assert index.info()["format_version"] == 3
    add(index, documents, [{"id": n, "text": "all " * 25, "year": n} for n in range(30, 60)])
    index.compact()
    assert index.info()["format_version"] == 5
    stored = index._collection.leaves[0].segment.stored
    assert stored is not None
    assert [part.columns for part in stored.parts] == [["id", "year"], ["text"]]
    assert documents_of(index) == documents.rows
    index.delete(range(20, 60))
    index.compact()
    documents.delete([*range(20, 60)])
    assert documents_of(index) == documents.rows
