"""Types of the stored columns of an index: nested and encoded ones, and those of additions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fastseq import DataError, Index

ROW = {"id": 1, "doc": {"title": "Cats", "text": ["a cat", "x"]}, "tags": ["pets", None]}


def frames(rows: list[dict[str, Any]], path: Path) -> list[Any]:
    """The rows as frames of polars, lazy and not, and as its Arrow file."""
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(rows)
    frame.write_ipc(path)
    return [frame, frame.lazy(), path]


def test_nested_strings_of_polars(tmp_path: Path) -> None:
    for source in frames([ROW], tmp_path / "rows.arrow"):
        for column in ("doc.text", "tags"):
            index = Index.build(source, tmp_path / "index", text_columns=column, overwrite=True)
            assert index.search("pets x").ids == [[1]]
            assert index.get(1) == ROW


def test_polars_rows_added_to_dicts(tmp_path: Path) -> None:
    new = {"id": 2, "doc": {"title": "Dogs", "text": ["a dog"]}, "tags": ["pets"]}
    for source in frames([new], tmp_path / "rows.arrow"):
        index = Index.build([ROW], tmp_path / "index", text_columns="doc.text", overwrite=True)
        index.add(source)
        index.add([{"id": 3, "doc": {"text": ["cow"]}}])
        assert index.get(2) == new
        assert index.get(3) == {"id": 3, "doc": {"title": None, "text": ["cow"]}, "tags": None}
        assert sorted(index.search("dog cow").ids[0]) == [2, 3]


def test_encoded_strings_inside_of_lists_and_structs(tmp_path: Path) -> None:
    codes = pa.array(["cat", "dog"]).dictionary_encode()
    table = pa.table(
        {
            "id": [1],
            "text": pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), codes),
            "doc": pa.array([{"a": "x"}], pa.struct([("a", pa.string_view())])),
            "words": pa.array([["y"]], pa.list_(pa.string_view())),
        }
    )
    index = Index.build(table, tmp_path / "index")
    assert index.search("dog").ids == [[1]]
    assert index.get(1) == {"id": 1, "text": ["cat", "dog"], "doc": {"a": "x"}, "words": ["y"]}


def test_added_rows_may_lack_fields_of_the_text(tmp_path: Path) -> None:
    rows = [{"id": 7, "doc": {"title": "Cats", "paragraphs": ["They sleep."]}, "body": "Long"}]
    columns = ["doc.title", "doc.paragraphs", "body"]
    index = Index.build(rows, tmp_path / "index", text_columns=columns)
    (tmp_path / "new.jsonl").write_text('{"id": 8, "doc": {"title": "Cows"}}\n')
    index.add(tmp_path / "new.jsonl")
    index.add([{"id": 9, "body": "Hens"}])
    assert index.search("cows hens").ids == [[8, 9]]
    assert index.get(8) == {"id": 8, "doc": {"title": "Cows", "paragraphs": None}, "body": None}
    assert index.get(9) == {"id": 9, "doc": None, "body": "Hens"}
    with pytest.raises(DataError, match="the index has no column 'new'"):
        index.add([{"id": 9, "body": "Hens", "new": 1}])
