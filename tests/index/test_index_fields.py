"""Each field of an index is the index of its column alone; fields do not change the text."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Analyzer, DataError, Index, SettingsError
from fastseq.index import build as build_module
from fastseq.index import merging, segment_writer
from fastseq.text.language import LUCENE
from tests.naive import inverted
from tests.positions import positions_of


def bars(text: str) -> list[str]:
    """A tokenizer of users, to which a space at the end is a difference."""
    return text.split("|")


ANALYZERS = {
    "unicode": Analyzer(stopwords="lucene"),
    "word": Analyzer(tokenizer="word", stemmer="english"),
    "space": Analyzer(tokenizer="space"),
    "char": Analyzer(tokenizer="char"),
    "ngrams": Analyzer(tokenizer="space", ngrams=(1, 2)),
    "char_ngrams": Analyzer(char_ngrams=(2, 3)),
    "function": Analyzer(tokenizer=bars),
}
COLUMNS = ["title", "body", "note"]
WORDS = ["the", "cat", "cats", "of", "猫喜欢", "a|b", "é", "x"]

some_text = st.one_of(
    st.none(),
    st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join),
    st.sampled_from(["the cat " * 130, "cat " * 255]),
)
some_rows = st.lists(
    st.fixed_dictionaries(dict.fromkeys(COLUMNS, some_text)), min_size=1, max_size=6
)
names_of = st.lists(st.sampled_from(COLUMNS), max_size=3, unique=True)


def table_of(rows: Sequence[dict[str, Any]], ids: Sequence[int] | None = None) -> pa.Table:
    schema = pa.schema([("id", pa.int64()), *((name, pa.string()) for name in COLUMNS)])
    numbered = zip(ids or range(len(rows)), rows, strict=True)
    return pa.Table.from_pylist([{"id": id, **row} for id, row in numbered], schema=schema)


def some_table(count: int) -> pa.Table:
    chance = np.random.default_rng(count)

    def text() -> str | None:
        words = chance.choice(WORDS, chance.integers(0, 12)).tolist()
        return " ".join(words) if words else None

    return table_of([{name: text() for name in COLUMNS} for _ in range(count)])


def only(index: Index) -> inverted.Segment:
    """The only segment of an index, read by its description."""
    (segment,) = inverted.read_segments(index.path)
    return segment


# ---- the index of one column


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(ANALYZERS)), st.booleans(), names_of, names_of, some_rows)
def test_fields_are_indexes_of_their_columns(
    name: str, positions: bool, text: list[str], fields: list[str], rows: list[dict[str, Any]]
) -> None:
    if not text and not fields:
        fields = ["body"]
    analyzer, table = ANALYZERS[name], table_of(rows)
    with tempfile.TemporaryDirectory() as folder:

        def built(path: str, columns: list[str], **more: Any) -> inverted.Segment:
            return only(
                Index.build(
                    table, Path(folder) / path, text_columns=columns or None, analyzer=analyzer,
                    positions=positions, threads=1, **more,
                )
            )  # fmt: skip

        found = built("index", text, fields=fields)
        assert found.inverted == built("text", text or fields).inverted
        assert list(found.fields) == fields
        for field in fields:
            assert found.fields[field] == built(field, [field]).inverted
        assert found.documents == table


def naive(texts: Sequence[Sequence[str | None]]) -> inverted.Inverted:
    """The index of documents, each given by its text columns, of words and Lucene's stop words."""
    split = [[(text or "").split() for text in document] for document in texts]
    return inverted.invert_columns(
        [[[None if w in LUCENE else w for w in c] for c in document] for document in split]
    )


def test_fields_by_definition(tmp_path: Path) -> None:
    rows = [
        {"title": "the cat", "body": "a cat of the cat", "note": None},
        {"title": None, "body": "cat " * 300 + "the x", "note": "x the x"},
        {"title": "x", "body": None, "note": None},
    ]
    analyzer = Analyzer(tokenizer="space", stopwords="lucene")
    index = Index.build(
        table_of(rows), tmp_path / "index", text_columns=["title", "body"],
        fields=["body", "note"], analyzer=analyzer,
    )  # fmt: skip
    found = only(index)
    assert found.inverted == naive([[row["title"], row["body"]] for row in rows])
    assert found.fields == {name: naive([[row[name]] for row in rows]) for name in ("body", "note")}
    assert index.summary == {
        "documents": 3, "terms": 2, "postings": 4, "tokens": 305,
        "null_texts": 0, "seconds": index.summary["seconds"],
    }  # fmt: skip
    (leaf,) = index._collection.leaves
    for name, field in leaf.segment.fields.items():
        own = found.fields[name]
        assert field.lengths.tolist() == own.lengths
        assert (field.terms, field.tokens) == (len(own.terms), sum(own.lengths))
        assert own.positions is not None
        for term, positions in enumerate(own.positions):
            ends, values = positions_of(field, term)
            assert [part.tolist() for part in np.split(values, ends[1:-1])] == positions
    assert leaf.of_field("note").tokens == 2


def test_searches_are_those_without_fields(tmp_path: Path) -> None:
    table = some_table(200)
    plain, with_fields = (
        Index.build(
            table, tmp_path / f"{len(fields)}", text_columns=["title", "body"], fields=fields
        )
        for fields in ([], ["note", "title"])
    )
    for query in ("cat", "the 猫", "é x"):
        found, expected = (index.search(query, k=300) for index in (with_fields, plain))
        assert found.ids == expected.ids
        assert found.scores.tobytes() == expected.scores.tobytes()


def test_null_texts_are_counted_without_the_fields(tmp_path: Path) -> None:
    rows = [
        {"title": "a", "body": None, "note": None},
        {"title": None, "body": None, "note": "b"},
        {"title": None, "body": None, "note": None},
        {"title": None, "body": "c", "note": None},
    ]
    for fields, text, expected in (
        (["note"], ["title", "body"], 2), (["note"], ["body"], 3), (["note", "body"], None, 2),
        (["title"], ["title"], 3),
    ):  # fmt: skip
        index = Index.build(
            table_of(rows), tmp_path / "index", text_columns=text, fields=fields, overwrite=True
        )
        assert index.summary["null_texts"] == expected
        more = table_of(rows, [10, 11, 12, 13])
        assert index.add(more)["null_texts"] == expected


# ---- names of columns


def test_fields_without_text_columns_are_the_text(tmp_path: Path) -> None:
    table = some_table(5)
    index = Index.build(table, tmp_path / "index", fields=["note", "title", "note"])
    told = index.info()["settings"]
    assert told["text_columns"] == told["fields"] == ["note", "title"]
    one = Index.build(table, tmp_path / "one", fields="body")
    assert one.info()["settings"]["text_columns"] == ["body"]
    assert only(one).inverted == only(one).fields["body"]


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        (
            {"fields": "nope"},
            DataError,
            "no column 'nope'; its columns: id (int64), title (string)",
        ),
        ({"fields": ["title", "nope"], "text_columns": "body"}, DataError, "no column 'nope'; its"),
        ({"fields": "id"}, DataError, "the text column 'id' is int64, expected strings"),
        ({"fields": 3}, SettingsError, "fields must be a string or a list of strings"),
        ({"fields": {"title": 1}}, SettingsError, "fields must be a string or a list of strings"),
        ({"fields": [""], "text_columns": "body"}, SettingsError, "without a name cannot be a fie"),
    ],
)
def test_unusable_fields_are_rejected(
    tmp_path: Path, settings: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as caught:
        Index.build(some_table(3), tmp_path / "index", **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "index").exists()


def test_nested_fields_lists_and_nulls(tmp_path: Path) -> None:
    table = pa.table({
        "id": [1, 2, 3],
        "doc": [{"title": "p b", "text": "c"}, {"title": None, "text": "x y"}, None],
        "tags": pa.array([["p q", "r"], [], None], pa.list_(pa.string())),
        "never": pa.nulls(3),
        "a/b": ["cat", "dog cat", None],
        "posting_docs": ["fish", None, "fish"],
    })  # fmt: skip
    fields = ["doc.title", "tags", "never", "a/b", "posting_docs"]
    index = Index.build(table, tmp_path / "index", text_columns="doc.text", fields=fields)
    found = only(index)
    assert found.inverted == naive([["c"], ["x y"], [None]])
    assert found.fields == {
        "doc.title": naive([["p b"], [None], [None]]),
        "tags": naive([["p q r"], [""], [None]]),
        "never": naive([[None]] * 3),
        "a/b": naive([["cat"], ["dog cat"], [None]]),
        "posting_docs": naive([["fish"], [None], ["fish"]]),
    }
    index.add([{"id": 2, "doc": {"title": "new", "text": "c c"}, "tags": ["s", "t"]}])
    index.compact()
    segments = inverted.read_segments(index.path)
    assert inverted.live(segments, "doc.title") == {
        "p": [(0, [0])], "b": [(0, [1])], "new": [(2, [0])]
    }  # fmt: skip
    assert inverted.live(segments, "tags") == {
        "p": [(0, [0])], "q": [(0, [1])], "r": [(0, [2])], "s": [(2, [0])], "t": [(2, [1])]
    }  # fmt: skip
    assert inverted.live(segments) == {"c": [(0, [0]), (2, [0, 1])]}
    assert inverted.live(segments, "posting_docs") == {"fish": [(0, [0]), (1, [0])]}


# ---- slices, spills and chunks


@pytest.mark.parametrize("name", ["unicode", "ngrams", "function"])
def test_bytes_do_not_depend_on_memory_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    table = some_table(500)
    settings: dict[str, Any] = {
        "text_columns": ["note", "body"], "fields": ["title", "body"], "analyzer": ANALYZERS[name]
    }  # fmt: skip
    Index.build(table, tmp_path / "whole", memory="1GB", threads=1, **settings)
    expected = (tmp_path / "whole" / "data-000001" / "segment-000001").read_bytes()
    monkeypatch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
    monkeypatch.setattr(build_module, "_FIXED", 0)
    monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 10)
    monkeypatch.setattr(build_module, "_LARGEST_SLICE", 4 << 10)
    monkeypatch.setattr(segment_writer, "SMALLEST_CHUNK", 50)
    for memory, threads in ((10_000, 1), (20_000, 3), (1 << 30, 2)):
        path = tmp_path / f"{memory}"
        Index.build(table, path, memory=memory, threads=threads, **settings)
        assert (path / "data-000001" / "segment-000001").read_bytes() == expected
        assert {file.name for file in path.rglob("*")} == {
            "data-000001", "segment-000001", "lock", "manifest.json"
        }  # fmt: skip


# ---- changes


def assert_fields(index: Index, rows: dict[int, dict[str, Any]], fields: Sequence[str]) -> None:
    """The live postings and positions of the text and of each field are those of the rows."""
    segments = inverted.read_segments(index.path)
    documents = list(rows.values())
    for name, columns in {"": ["title", "body"], **{field: [field] for field in fields}}.items():
        expected = naive([[row.get(column) for column in columns] for row in documents])
        assert inverted.live(segments, name) == inverted.live([inverted.Segment(expected)])
        leaves = index._collection.leaves
        own = [leaf.of_field(name) if name else leaf for leaf in leaves]
        assert sum(leaf.tokens for leaf in own) == sum(expected.lengths)


@settings(deadline=None, max_examples=50)
@given(names_of.filter(bool), st.data())
def test_fields_after_changes(fields: list[str], data: st.DataObject) -> None:
    """Added rows may lack columns, which are then null."""
    row = st.dictionaries(st.sampled_from(COLUMNS), some_text, min_size=1)
    ids = st.integers(0, 9)
    changes = st.one_of(
        st.dictionaries(ids, row, min_size=1, max_size=4),
        st.sets(ids, min_size=1, max_size=4),
        st.just("compact"),
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_writer, "SMALLEST_CHUNK", 3)
        patch.setattr(merging, "FACTOR", 3)
        patch.setattr(merging, "SMALLEST", 1)
        first = data.draw(some_rows)
        rows: dict[int, dict[str, Any]] = dict(enumerate(first))
        index = Index.build(
            table_of(first), Path(folder) / "index", text_columns=["title", "body"], fields=fields,
            analyzer=Analyzer(tokenizer="space", stopwords="lucene"),
        )  # fmt: skip
        assert_fields(index, rows, fields)
        for change in data.draw(st.lists(changes, max_size=6)):
            if isinstance(change, dict):
                used = {name for own in change.values() for name in own}
                if not used & {"title", "body"}:
                    continue  # an error: no text at all
                index.add([{"id": id, **own} for id, own in change.items()])
            elif isinstance(change, set):
                index.delete([*change])
            else:
                index.compact()
            for id in change if not isinstance(change, str) else ():
                rows.pop(id, None)
            if isinstance(change, dict):
                rows.update(change)
            assert_fields(index, rows, fields)


def test_added_rows_that_lack_columns(tmp_path: Path) -> None:
    index = Index.build(
        table_of([{"title": "cat", "body": "tea cat"}]), tmp_path / "index",
        text_columns=["title", "body"], fields=["title", "note"],
    )  # fmt: skip
    index.add([{"id": 1, "note": "only", "body": None}])
    index.add([{"id": 2, "body": "cat"}, {"id": 3, "title": "tea"}])
    segments = inverted.read_segments(index.path)
    assert inverted.live(segments) == {
        "cat": [(0, [0, 102]), (2, [100])], "tea": [(0, [101]), (3, [0])]
    }  # fmt: skip
    assert inverted.live(segments, "title") == {"cat": [(0, [0])], "tea": [(3, [0])]}
    assert inverted.live(segments, "note") == {"only": [(1, [0])]}
    assert index.get(1) == {"id": 1, "title": None, "body": None, "note": "only"}
    for row in ({}, {"note": "only"}):
        with pytest.raises(DataError, match="no column 'title'; its columns: id"):
            index.add([{"id": 4, **row}])
    with pytest.raises(DataError, match="the index has no column 'new'"):
        index.add([{"id": 4, "title": "x", "new": 1}])
    assert len(index) == 4
