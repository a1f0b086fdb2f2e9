"""Types of the stored columns of an index: nested and encoded ones, and those of additions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
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


EMPTY = {"n": None, "tags": [], "metadata": {}, "doc": {"a": None, "b": [{}]}}
FULL = {"n": 5, "tags": ["x"], "metadata": {"k": 1}, "doc": {"a": "y", "b": [{"c": 2.5}]}}


@pytest.mark.parametrize("rows", [1, 3000])
def test_columns_without_a_type_are_filled_later(rows: int, tmp_path: Path) -> None:
    first = [{"id": i, "text": "cat", **EMPTY} for i in range(rows)]
    index = Index.build(first, tmp_path / "index")
    reader = Index.open(tmp_path / "index")
    with index.writer() as writer:
        writer.add([{**first[0], "id": -1}])
        writer.add([{"id": rows + i, "text": "dog", **FULL} for i in range(rows)])
        writer.add([{"id": -2, "text": "owl", **EMPTY}])
    empty = {**EMPTY, "metadata": {"k": None}, "doc": {"a": None, "b": [{"c": None}]}}
    for _ in range(2):
        assert index.get(0) == {"id": 0, "text": "cat", **empty}
        assert index.get(-1) == {"id": -1, "text": "cat", **empty}
        assert index.get(-2) == {"id": -2, "text": "owl", **empty}
        assert index.get(rows) == {"id": rows, "text": "dog", **FULL}
        table = index.search("cat dog owl", k=9).to_table(columns=["tags", "metadata", "doc"])
        assert str(table.schema.field("metadata").type) == "struct<k: int64>"
        index.compact()
        index = Index.open(tmp_path / "index")
    assert reader.get(0) == first[0]
    assert reader.refresh()
    assert reader.get(0) == {"id": 0, "text": "cat", **empty}
    with pytest.raises(DataError, match="the column 'n' is string, but int64 in the index"):
        index.add([{"id": 1, "text": "cat", "n": "five"}])
    with pytest.raises(DataError, match="the column 'metadata' is struct<j: int64>, but struct<k"):
        index.add([{"id": 1, "text": "cat", "metadata": {"j": 1}}])


def test_failed_additions_leave_columns_without_a_type(tmp_path: Path) -> None:
    for count in (1, 5000):
        first = [{"id": 1, "text": "cat", "n": None}]
        index = Index.build(first, tmp_path / "index", overwrite=True)
        rows = [{"id": i, "text": "dog", "n": 5} for i in range(count)]
        with index.writer() as writer:
            with pytest.raises(DataError, match="row 0"):
                writer.add([*rows, {"id": None, "text": "dog", "n": 5}][::-1])
            writer.add([{"id": 2, "text": "owl", "n": "five"}])
        assert index.get(2) == {"id": 2, "text": "owl", "n": "five"}


def test_empty_columns_of_csv_are_filled_later(tmp_path: Path) -> None:
    for name, lines in (("a", "1,cat,"), ("b", "2,dog,5"), ("c", "3,cow,"), ("d", "4,hen,x")):
        (tmp_path / f"{name}.csv").write_text(f"id,text,n\n{lines}\n")
    index = Index.build(tmp_path / "a.csv", tmp_path / "index")
    index.add(tmp_path / "b.csv")
    index.add(tmp_path / "c.csv")
    assert [index.get(i)["n"] for i in (1, 2, 3)] == [None, 5, None]
    with pytest.raises(DataError, match="'n' is string, but int64 in the index"):
        index.add(tmp_path / "d.csv")
    index = Index.build(tmp_path / "d.csv", tmp_path / "index", overwrite=True)
    index.add(tmp_path / "b.csv")
    assert index.get(2)["n"] == "5", "a file without types"


US = pa.timestamp("us")


@pytest.mark.parametrize(
    ("kind", "value", "wider", "fitting", "other"),
    [
        (pa.int8(), 1, pa.int64(), 127, 128),
        (pa.uint16(), 1, pa.int64(), 5, -1),
        (pa.int64(), 1, pa.uint64(), 2**63 - 1, 2**63),
        (pa.int64(), 1, pa.float64(), 2.0, 2.5),
        (pa.float32(), 0.5, pa.float64(), 1.5, 0.1),
        (US, 1, pa.timestamp("ns"), 2000, 2001),
        (pa.date32(), 1, pa.date64(), 86_400_000, 1),
        (pa.decimal128(5, 2), 1, pa.float64(), 0.25, 0.125),
        (pa.decimal128(5, 2), 1, pa.int64(), 999, 1000),
        (pa.list_(pa.int8()), [1], pa.large_list(pa.int64()), [127], [128]),
        (pa.struct([("a", US)]), {"a": 1}, pa.struct([("a", pa.timestamp("s"))]), {"a": 5}, None),
    ],
)
def test_values_of_wider_types_are_added_where_they_fit(
    kind: pa.DataType, value: Any, wider: pa.DataType, fitting: Any, other: Any, tmp_path: Path
) -> None:
    def table(id: int, value: Any, kind: pa.DataType) -> pa.Table:
        return pa.table({"id": [id], "text": ["cat"], "c": pa.array([value], kind)})

    index = Index.build(table(1, value, kind), tmp_path / "index")
    index.add(table(2, fitting, wider))
    index.add(table(3, None, wider))
    (found,) = index.search("cat").to_table(columns=["c"]).filter(pc.field("doc_id") == 2)["c"]
    assert found.type == kind
    if kind != pa.date32():
        expected = table(2, fitting, wider)["c"].combine_chunks()[0].as_py()
        assert str(found.as_py()).startswith(str(expected).removesuffix(".0"))
    if other is not None:
        with pytest.raises(DataError, match=r"row 0 \(from 0\): .*does not fit"):
            index.add(table(4, other, wider))


def test_ids_of_wider_types_are_added_where_they_fit(tmp_path: Path) -> None:
    small = pa.table({"id": pa.array([1, 2], pa.int8()), "text": ["cat", "dog"]})
    index = Index.build(small, tmp_path / "index")
    index.add([{"id": 2, "text": "cow"}, {"id": 3, "text": "hen"}])
    assert sorted(index.search("cow hen cat").ids[0]) == [1, 2, 3]
    with pytest.raises(DataError, match=r"row 1 \(from 0\): .*'id'.*does not fit int8"):
        index.add([{"id": 5, "text": "cow"}, {"id": 300, "text": "hen"}])
    days = pa.table({"id": pa.array([1, 2], pa.date32()), "text": ["cat", "dog"]})
    index = Index.build(days, tmp_path / "index", overwrite=True)
    index.add(days.set_column(0, "id", days["id"].cast(pa.date64())))
    assert index.search("cat").ids == [["1970-01-02"]]
