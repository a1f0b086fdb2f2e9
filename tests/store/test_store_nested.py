"""Text in lists of strings and in fields of structs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import CountFeatures, Index
from fastseq.errors import DataError
from fastseq.store.nested import column_at, count_at, field_at, leaves, top_level
from fastseq.store.rows import Corpus, open_rows

ROWS: list[dict[str, Any]] = [
    {"doc": {"text": "one", "meta": {"id": "a", "tags": ["x", "y"]}}, "n": 1},
    {"doc": None, "n": 2},
    {"doc": {"text": None, "meta": None}, "n": 3},
    {"doc": {"text": "two", "meta": {"id": "b", "tags": None}}, "n": 4},
    {"doc": {"text": "three", "meta": {"id": "c", "tags": ["z", None, "w"]}}, "n": 5},
]
TABLE = pa.Table.from_pylist(ROWS)


def texts(source: Any, columns: str | list[str], **options: Any) -> tuple[list[str], int]:
    batches = list(Corpus.open(source, text_columns=columns, **options).batches(7))
    found = [text for batch in batches for text in batch.text.to_strings()]
    return found, sum(batch.null_texts for batch in batches)


@pytest.fixture
def sources(tmp_path: Path) -> list[Any]:
    """The same rows as a table, its slices, Parquet, JSON Lines, an Arrow stream and dicts."""
    pq.write_table(TABLE, tmp_path / "a.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines)
    with pa.ipc.new_stream(tmp_path / "a.arrows", TABLE.schema) as writer:
        writer.write_table(TABLE)
    sliced = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2)])
    files = [tmp_path / name for name in ("a.parquet", "a.jsonl", "a.arrows")]
    return [TABLE, sliced, *files, ROWS]


def test_text_of_a_struct(sources: list[Any]) -> None:
    for source in sources:
        assert texts(source, "doc.text") == (["one", "", "", "two", "three"], 2)
        assert texts(source, "doc.meta.id") == (["a", "", "", "b", "c"], 2)
        assert texts(source, "doc.meta.tags") == (["x y", "", "", "", "z  w"], 3)
        assert texts(source, ["doc.text", "doc.meta.tags"])[0][:3] == ["one x y", " ", " "]


def test_stored_fields_have_the_path_as_their_name(sources: list[Any]) -> None:
    for source in sources:
        corpus = Corpus.open(source, None, "doc.text", ["doc.meta.tags", "n"])
        assert corpus.stored_columns == ("doc.meta.tags", "n")
        stored = pa.concat_tables([batch.kept for batch in corpus.batches()])
        assert stored["doc.meta.tags"].to_pylist()[0] == ["x", "y"]
        with pytest.raises(DataError, match=r"row 1 \(from 0\): the id in column 'doc.meta.id' is"):
            list(Corpus.open(source, "doc.meta.id", "doc.text").batches())


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, pa.list_view, lambda t: pa.list_(t, 2)])
@pytest.mark.parametrize(
    "element", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()], ids=str
)
def test_lists_of_every_type_are_text(kind: Any, element: pa.DataType) -> None:
    values = [["a", "b"], None, ["c", None], ["", ""]]
    encode = pa.types.is_binary(element)
    rows = [
        None if row is None else [v.encode() if encode and v is not None else v for v in row]
        for row in values
    ]
    array = pa.array(rows, kind(element))
    table = pa.table({"text": array, "n": range(4)})
    assert texts(table, "text") == (["a b", "", "c ", " "], 1)
    assert texts(table.slice(1), "text") == (["", "c ", " "], 1)
    stored = pa.concat_tables([b.kept for b in Corpus.open(table).batches()])
    assert stored["text"].to_pylist() == rows, "stored as lists"


def test_empty_lists_are_text() -> None:
    assert texts(pa.table({"text": [[], None], "n": [1, 2]}), "text") == (["", ""], 1)


def test_name_with_a_dot_takes_precedence(tmp_path: Path) -> None:
    table = TABLE.append_column("doc.text", pa.array(list("abcde")))
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        assert texts(source, "doc.text")[0] == list("abcde")
        assert texts(source, "doc.meta.id")[0][0] == "a"
    deep = pa.table({"a.b": pa.array([{"c.d": "x"}]), "a": pa.array([{"b": {"c.d": "y"}}])})
    assert texts(deep, "a.b.c.d") == (["x"], 0)


def test_files_of_which_one_has_no_struct(tmp_path: Path) -> None:
    pq.write_table(pa.table({"doc": pa.nulls(1), "id": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"doc": [{"text": "x"}], "id": ["b"]}), tmp_path / "b.parquet")
    assert texts(tmp_path, "doc.text", store=[]) == (["", "x"], 1)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("doc.body", "no column 'doc.body'; its columns: doc.text (string), doc.meta.id (string), "
         "doc.meta.tags (list<"),
        ("doc", "the text column 'doc' is struct<"),
        ("doc.meta", "the text column 'doc.meta' is struct<"),
        ("n.x", "no column 'n.x'"),
        ("n", "the text column 'n' is int64, expected strings or lists of strings"),
    ],
)  # fmt: skip
def test_errors_name_the_file_and_list_the_fields(
    columns: str, problem: str, sources: list[Any]
) -> None:
    for source in sources:
        with pytest.raises(DataError) as error:
            Corpus.open(source, text_columns=columns)
        assert problem in str(error.value)
        if isinstance(source, Path):
            assert str(error.value).startswith(f"{source}: ")


def test_many_fields_are_cut_in_messages() -> None:
    wide = pa.table({"o": [{f"f{i}": i for i in range(200)}]})
    with pytest.raises(DataError, match=r"o\.f49 \(int64\), … \(150 more\)$"):
        Corpus.open(wide, text_columns="text")


def test_index_of_nested_columns(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row["doc"] and row["doc"]["meta"]]
    for source in (rows, pa.Table.from_pylist(rows)):
        index = Index.build(
            source, tmp_path / "index", id_column="doc.meta.id", text_columns="doc.text",
            overwrite=True, threads=1,
        )  # fmt: skip
        hits = index.search("two")
        assert hits.ids == [["b"]]
        assert hits.fields()[0]["doc"]["meta"]["id"] == "b"
        assert hits.fields(0, ["doc.meta.id"]) == [{"doc.meta.id": "b"}]
        assert hits.to_table()["doc_id"].to_pylist() == ["b"]
    with pytest.raises(DataError, match="duplicate ids: 'a'"):
        Index.build(
            [*rows, rows[0]], tmp_path / "other", id_column="doc.meta.id", text_columns="doc.text"
        )


def test_features_and_models_read_nested_columns(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    matrix = CountFeatures(threads=1).fit_transform(
        Corpus.open(tmp_path / "a.parquet", None, "doc.text", [])
    )
    assert matrix.shape == (5, 3)
    labelled = [{"doc": {"text": "a", "kind": "x"}}, {"doc": {"text": "b", "kind": "y"}}]
    reader = open_rows(labelled, "text", text="doc.text", label="doc.kind")
    (batch,) = reader.batches()
    assert batch.text.to_strings() == ["a", "b"]
    assert batch.labels is not None
    assert batch.labels.to_list() == ["x", "y"]
    tagged = open_rows([{"s": {"w": ["a"], "t": ["X"]}}], "tokens", tokens="s.w", tags="s.t")
    assert [b.tags.to_list() for b in tagged.batches() if b.tags] == [["X"]]


LEAF = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
INNER = st.fixed_dictionaries({"b": LEAF, "l": st.none() | st.lists(LEAF)})
NESTED = st.fixed_dictionaries({"a": LEAF, "s": st.none() | INNER})


@given(st.lists(st.one_of(st.none(), NESTED), min_size=1, max_size=20), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_fields_are_those_of_python(rows: list[Any], start: int) -> None:
    kind = pa.struct([
        ("a", pa.string()),
        ("s", pa.struct([("b", pa.string()), ("l", pa.list_(pa.string()))])),
    ])  # fmt: skip
    table = pa.table({"o": pa.array(rows, kind), "n": range(len(rows))}).slice(start)
    rows = rows[start:]
    inner = [row["s"] if row else None for row in rows]
    expected = {
        "o.a": [row["a"] if row else None for row in rows],
        "o.s.b": [each["b"] if each else None for each in inner],
        "o.s.l": [each["l"] if each else None for each in inner],
    }
    for batch in table.to_batches():
        for path, values in expected.items():
            assert column_at(batch, path).to_pylist() == values
    joined = [None if v is None else " ".join(x or "" for x in v) for v in expected["o.s.l"]]
    wanted = {**expected, "o.s.l": joined}
    for path, values in wanted.items():
        assert texts(table, path) == ([v or "" for v in values], values.count(None))


def test_paths_in_a_schema() -> None:
    schema = TABLE.schema
    assert field_at(schema, "doc.meta.id") == pa.field("doc.meta.id", pa.string())
    assert field_at(schema, "doc.meta.none") is None
    assert field_at(schema, "doc.") is None
    assert (count_at(schema, "doc.text"), count_at(schema, "x"), count_at(schema, "n")) == (1, 0, 1)
    assert top_level(schema, ["doc.text", "n", "doc.meta.id"]) == ["doc", "n"]
    assert [f.name for f in leaves(list(schema))] == [
        "doc.text", "doc.meta.id", "doc.meta.tags", "n",
    ]  # fmt: skip
