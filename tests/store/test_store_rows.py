"""Rows for models: roles of columns, Arrow types, bad input."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.store.columns import Fields
from fastseq.store.in_memory import as_source
from fastseq.store.rows import RowBatch, RowReader, open_rows
from fastseq.types import Texts

LISTS = [["a", "bb"], [], ["c"]]


def only(reader: RowReader) -> RowBatch:
    (batch,) = reader.batches()
    return batch


def rows(flat: Any, offsets: Any) -> list[list[Any]]:
    return [flat[a:b] for a, b in pairwise(offsets)]


def written(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# ---- which column is what


@pytest.mark.parametrize(
    ("columns", "named", "expected"),
    [
        ({"text": ["a"], "label": ["x"]}, {}, Fields(text=("text",), label="label")),
        ({"s": ["a"], "label": ["x"]}, {}, Fields(text=("s",), label="label")),
        ({"text": ["a"], "stars": [1]}, {}, Fields(text=("text",), label="stars")),
        ({"s": ["a"], "good": [True]}, {}, Fields(text=("s",), label="good")),
        (
            {"doc_id": [3], "text": ["a"], "y": [1]},
            {},
            Fields(text=("text",), label="y", id="doc_id"),
        ),
        (
            {"id": ["i"], "title": ["t"], "text": ["a"], "label": ["x"]},
            {"text": ["title", "text"], "keep": ["title"]},
            Fields(text=("title", "text"), label="label", id="id", keep=("title",)),
        ),
        ({"a": ["x"], "b": ["y"]}, {"text": "b"}, Fields(text=("b",), label="a")),
        ({"text": ["a"], "label": ["x"]}, {"targets": False}, Fields(text=("text",))),
    ],
)
def test_columns_of_text(columns: dict[str, Any], named: dict[str, Any], expected: Fields) -> None:
    assert open_rows(pa.table(columns), "text", **named).fields == expected
    assert Fields.from_dict(expected.to_dict()) == expected


def test_training_needs_no_id() -> None:
    table = pa.table({"id": [7], "text": ["a"], "label": ["x"], "k": [1]})
    reader = open_rows(table, "text", keep="k", outputs=False)
    assert reader.fields == Fields(text=("text",), label="label")
    assert only(reader).ids is None
    with_ids = open_rows(table, "text", keep="k")
    assert only(with_ids).ids.to_pylist() == [7]
    other = table.drop_columns(["id", "k"])
    again = open_rows(other, "text", fields=reader.fields, like=with_ids)
    assert only(again).kept is None
    with pytest.raises(SettingsError, match="given twice: by `fields` and by label"):
        open_rows(table, "text", fields=reader.fields, label="k")


def test_columns_of_tokens_and_values() -> None:
    table = pa.table({"words": LISTS, "tags": LISTS, "n": [1, 2, 3], "s": ["x", "y", "z"]})
    assert open_rows(table, "tokens").fields == Fields(tokens="words", tags="tags")
    assert open_rows(table, "tokens", targets=False).fields == Fields(tokens="words")
    pair = table.rename_columns(["tokens", "pos", "n", "s"])
    assert open_rows(pair, "tokens").fields == Fields(tokens="tokens", tags="pos")
    assert open_rows(table, "values").fields == Fields(values=("n",))
    assert open_rows(table, "values", values="n", id="s").fields == Fields(values=("n",), id="s")


@pytest.mark.parametrize(
    ("inputs", "columns", "named", "said"),
    [
        ("text", {"a": ["x"], "b": ["y"]}, {}, "which column is the text.*text_column=…"),
        ("text", {"n": [1]}, {}, r"which column is the text.*its columns: n \(int64\)"),
        ("text", {"text": ["x"], "f": [0.5]}, {}, "which column is the label.*label_column=…"),
        (
            "text",
            {"text": ["x"], "label": [0.5]},
            {},
            "label column 'label' is double, expected str",
        ),
        (
            "text",
            {"text": [1], "label": ["x"]},
            {},
            "text column 'text' is int64, expected strings",
        ),
        ("text", {"text": ["x"]}, {"label": "y"}, r"no column 'y'; its columns: text \(string\)"),
        ("text", {"text": ["x"]}, {"targets": False, "keep": "k"}, "no column 'k'"),
        ("tokens", {"tokens": ["x"], "tags": [["X"]]}, {}, "tokens column 'tokens' is string"),
        ("tokens", {"tokens": [["x"]], "tags": [[1]]}, {}, "tags column 'tags' is list<"),
        ("tokens", {"tokens": [["x"]]}, {}, "which column is the tags.*tags_column=…"),
        ("tokens", {"text": ["x"]}, {}, "which column is the tokens.*lists of strings"),
        ("values", {"s": ["x"]}, {}, "which column is the value.*value_columns=…"),
        ("values", {"s": ["x"]}, {"values": "s"}, "value column 's' is string, expected numbers"),
        ("values", {"b": [True]}, {"values": ["b"]}, "value column 'b' is bool"),
    ],
)
def test_unsuitable_columns(
    inputs: str, columns: dict[str, Any], named: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "file.parquet", **columns)
    with pytest.raises(DataError, match=rf"file\.parquet: .*{said}"):
        open_rows(path, inputs, **named)


def test_column_named_twice_and_other_mistakes() -> None:
    twice = pa.table([pa.array(["x"]), pa.array(["y"])], ["text", "text"])
    with pytest.raises(DataError, match="2 columns called 'text'"):
        open_rows(twice, "text", targets=False)
    both = pa.table({"text": ["a"], "label": ["x"], "tokens": [["a"]], "tags": [["X"]]})
    for named in ({"label": "text"}, {"text": "label"}, {"text": ["text", "label"]}):
        with pytest.raises(DataError, match=r"'.*' is both the text and the label"):
            open_rows(both, "text", **named)
        open_rows(both, "text", **named, targets=False)
    for named in ({"tags": "tokens"}, {"tokens": "tags"}):
        with pytest.raises(DataError, match=r"'t.*' is both the tokens and the tags"):
            open_rows(both, "tokens", **named)
    for role, inputs, named in (
        ("text", "text", {"text": ["text", "label", "text"]}),
        ("value", "values", {"values": ("a", "a")}),
    ):
        with pytest.raises(SettingsError, match=f"the {role} column '.*' is named 2 times"):
            open_rows(both, inputs, **named)
    kept = only(open_rows(both, "text", keep=["label", "tags", "label"])).kept
    assert kept.column_names == ["label", "tags"]
    known = Fields(text=("text",), keep=("tags", "tags"))
    assert only(open_rows(both, "text", fields=known)).kept.column_names == ["tags"]
    with pytest.raises(SettingsError, match="inputs is 'pictures'"):
        open_rows(twice, "pictures")
    with pytest.raises(FormatError, match="column names cannot be read"):
        Fields.from_dict({"texts": []})


def test_validation_file_with_other_columns(tmp_path: Path) -> None:
    train = open_rows(written(tmp_path / "t.parquet", text=["a"], label=["x"]), "text")
    other = written(tmp_path / "v.parquet", text=["a"], stars=[1])
    with pytest.raises(
        DataError, match=r"v\.parquet: no column 'label'; its columns: text .*stars"
    ):
        open_rows(other, "text", fields=train.fields, like=train)
    numbers = written(tmp_path / "n.parquet", text=["a"], label=[1])
    with pytest.raises(DataError, match=r"n\.parquet: .*'label' is int64, but string in .*t\.parq"):
        open_rows(numbers, "text", fields=train.fields, like=train)
    both = [tmp_path / "t.parquet", tmp_path / "n.parquet"]
    with pytest.raises(DataError, match=r"n\.parquet: .*'label' is int64, but string in .*t\.parq"):
        open_rows(both, "text")
    small = pa.table({"text": ["a"], "label": pa.array([1], pa.int8())})
    like = open_rows(numbers, "text")
    assert open_rows(small, "text", fields=like.fields, like=like).label_type == "int8"


# ---- reading


@pytest.mark.parametrize(
    ("values", "kind", "name"),
    [
        (["b", "a", "b"], pa.string(), "string"),
        (["b", "a", "b"], pa.large_string(), "string"),
        (["b", "a", "b"], pa.string_view(), "string"),
        (["b", "a", "b"], pa.dictionary(pa.int8(), pa.string()), "string"),
        ([3, -1, 3], pa.int16(), "int16"),
        ([3, 2**63, 3], pa.uint64(), "uint64"),
        ([True, False, True], pa.bool_(), "bool"),
    ],
)
def test_labels_of_every_type(values: list[Any], kind: pa.DataType, name: str) -> None:
    labels = (
        pa.array(values).dictionary_encode().cast(kind)
        if pa.types.is_dictionary(kind)
        else pa.array(values, kind)
    )
    reader = open_rows(pa.table({"text": ["x", "y", "z"], "label": labels}), "text")
    assert reader.label_type == name
    batch = only(reader)
    assert batch.labels is not None
    assert batch.labels.to_list() == values
    assert [type(v) for v in batch.labels.to_list()] == [type(v) for v in values]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string_view()),
        pa.list_view(pa.string()),
        pa.large_list_view(pa.string()),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
    ],
)
def test_lists_of_every_type(kind: pa.DataType) -> None:
    values = [*LISTS, None, ["dd", "a"]]
    tokens = pa.array(values, kind)
    table = pa.table({"tokens": tokens, "tags": pa.array(values)})
    for part in (table, table.slice(1)):
        batch = only(open_rows(part, "tokens"))
        expected = [value or [] for value in part.column("tokens").to_pylist()]
        assert batch.tokens is not None
        assert batch.tags is not None
        assert rows(batch.tokens.to_strings(), batch.token_offsets) == expected
        assert rows(batch.tags.to_list(), batch.token_offsets) == expected
        assert batch.null_texts == 1


def test_lists_of_one_length_and_lists_that_are_all_empty() -> None:
    fixed = pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2))
    batch = only(open_rows(pa.table({"tokens": fixed}), "tokens", targets=False))
    assert batch.tokens is not None
    assert rows(batch.tokens.to_strings(), batch.token_offsets) == [["a", "b"], ["c", "d"]]
    batch = only(open_rows(pa.table({"tokens": [[], []], "tags": [[], []]}), "tokens"))
    assert batch.tokens is not None
    assert len(batch.tokens) == 0
    assert np.asarray(batch.token_offsets).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(25, 2)]
)
def test_numbers_of_every_type(kind: pa.DataType) -> None:
    values = pa.array([1, 2, 3]).cast(kind if kind != pa.float16() else pa.float32()).cast(kind)
    batch = only(open_rows(pa.table({"x": values, "y": [0.5, 1.5, 2.5]}), "values", values="x"))
    assert batch.values is not None
    assert batch.values.dtype == np.float64
    assert batch.values.tolist() == [[1.0], [2.0], [3.0]]


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=9)), st.integers(0, 3)), max_size=40),
    st.integers(1, 30),
    st.integers(1, 7),
)
@settings(max_examples=50, deadline=None)
def test_batches_of_any_size_hold_the_same_rows(
    examples: list[tuple[str | None, int]], max_bytes: int, chunk: int
) -> None:
    schema = pa.schema([("text", pa.string()), ("label", pa.int64()), ("id", pa.int64())])
    columns = [[t for t, _ in examples], [n for _, n in examples], list(range(len(examples)))]
    table = pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )
    table = pa.Table.from_batches(table.to_batches(max_chunksize=chunk), schema)
    reader = open_rows(table, "text", keep="label")
    found: list[tuple[str, int]] = []
    for batch in reader.batches(max_bytes):
        assert batch.first_row == batch.data.locate(batch.first_row)[1] == len(found)
        assert batch.texts is not None
        assert batch.labels is not None
        texts = batch.texts.to_strings()
        assert batch.rows == len(texts) == 1 or batch.texts.nbytes <= max_bytes
        found += zip(texts, batch.labels.to_list(), strict=True)
        assert batch.ids.to_pylist() == list(range(batch.first_row, len(found)))
        assert batch.kept.column("label").to_pylist() == batch.labels.to_list()
    assert found == [(text or "", label) for text, label in examples]
    assert reader.num_rows == len(examples)


def test_rows_are_counted_over_files_and_named_by_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / f"{name}.parquet", text=["x", "y", None], label=[1, 2, 3])
    batches = list(open_rows(tmp_path, "text").batches())
    assert [(b.first_row, b.null_texts) for b in batches] == [(0, 1), (3, 1)]
    assert batches[1].data.locate(3)[1] == 0
    assert batches[1].where(2).endswith("b.parquet: row 2 (from 0)")


@pytest.mark.parametrize(
    ("inputs", "bad", "said"),
    [
        ("text", {"text": ["x"] * 4, "label": ["a", "b", None, "c"]}, "label in column .* null"),
        ("tokens", {"tokens": [["x"]] * 4, "tags": [["X"], ["Y"], ["X", "Y"], []]},
         "1 tokens in column 'tokens', but 2 tags in 'tags'"),
        ("tokens", {"tokens": [["x"], [], ["y", None], ["z"]], "tags": [["X"]] * 4},
         "a string in the list of column 'tokens' is null"),
        ("tokens", {"tokens": [["x"]] * 4, "tags": [["X"], ["X"], [None], ["X"]]},
         "a string in the list of column 'tags' is null"),
        ("values", {"value": [1.0, 2.0, None, 3.0]}, "number in column 'value' is null"),
        ("values", {"value": [1.0, 2.0, float("nan"), 3.0]}, "'value' is nan, expected a finite"),
        ("values", {"value": [1.0, 2.0, float("-inf"), float("nan")]}, "'value' is -inf"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(inputs: str, bad: dict[str, Any], said: str, tmp_path: Path) -> None:
    good = {name: (values[:1] * 3) for name, values in bad.items()}
    written(tmp_path / "a.parquet", **good)
    pq.write_table(pa.table(bad), tmp_path / "b.parquet", row_group_size=1)
    with pytest.raises(DataError, match=rf"b\.parquet: row 2 \(from 0\): .*{said}"):
        list(open_rows(tmp_path, inputs).batches())


def test_stream_is_read_once() -> None:
    table = pa.table({"text": ["a"], "label": ["x"]})
    reader = open_rows(table.to_reader(), "text")
    assert len(list(reader.batches())) == 1
    with pytest.raises(DataError, match="already read"):
        list(reader.batches())


# ---- Python objects


class Series:
    """A column with Arrow's stream interface, as data frames have them."""

    def __init__(self, values: list[Any]) -> None:
        self._array = pa.chunked_array([values[:1], values[1:]])

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._array.__arrow_c_stream__(requested_schema)


def all_forms(values: list[Any]) -> Iterator[Any]:
    yield values
    yield tuple(values)
    yield np.array(values)
    yield np.array(values, dtype=object)
    yield pa.array(values)
    yield Series(values)
    yield (value for value in values)


def test_texts_and_labels_in_any_form() -> None:
    texts = ["good", "", "naïve 猫"]
    for labels in (["b", "a", "b"], [2, 1, 2], [True, False, True]):
        for form, other in zip(all_forms(texts), all_forms(labels), strict=True):
            batch = only(open_rows(as_source(form, other), "text"))
            assert batch.texts is not None
            assert batch.labels is not None
            assert batch.texts.to_strings() == texts
            assert batch.labels.to_list() == labels
            assert type(batch.labels.to_list()[0]) is type(labels[0])
    batch = only(open_rows(as_source(Texts.from_strings(texts)), "text", targets=False))
    assert batch.texts is not None
    assert batch.texts.to_strings() == texts
    batch = only(open_rows(as_source(["a", None]), "text", targets=False))
    assert batch.null_texts == 1


def test_tokens_and_tags_in_any_form() -> None:
    for form in (LISTS, tuple(LISTS), pa.array(LISTS), [np.array(row, dtype=str) for row in LISTS]):
        batch = only(open_rows(as_source(form, LISTS, "tokens"), "tokens"))
        assert batch.tokens is not None
        assert batch.tags is not None
        assert rows(batch.tokens.to_strings(), batch.token_offsets) == LISTS
        assert rows(batch.tags.to_list(), batch.token_offsets) == LISTS


def test_files_and_tables_are_returned_unchanged(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]})
    for source in (table, "a.parquet", tmp_path, [tmp_path, tmp_path], table.to_reader()):
        assert as_source(source) is source
    two = pa.table({"text": ["a"], "label": ["x"]})
    with pytest.raises(SettingsError, match="targets are given with a table of 2 columns"):
        as_source(two, ["x"])
    with pytest.raises(SettingsError, match="targets are given with files"):
        as_source(tmp_path, ["x"])


class Frame:
    """A data frame with the Arrow interface."""

    def __init__(self, **columns: Any) -> None:
        self.table = pa.table(columns)
        self.columns = list(columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("name", ["text", "review", "label"])
@pytest.mark.parametrize("form", ["list", "column", "frame", "array"])
def test_one_column_frames_with_targets(name: str, form: str) -> None:
    texts, labels = ["good film", "dull"], ["pos", "neg"]
    index = {"__index_level_0__": [5, 7]}  # pandas' own
    targets: Any = {
        "list": labels,
        "column": pa.chunked_array([labels[:1], labels[1:]]),
        "frame": Frame(stars=labels),
        "array": np.array(labels),
    }[form]
    for examples in (
        pa.table({name: texts}),
        Frame(**{name: texts}),
        Frame(**{name: texts}, **index),
    ):
        batch = only(open_rows(as_source(examples, targets), "text"))
        assert batch.text.to_strings() == texts
        assert batch.labels is not None
        assert batch.labels.to_list() == labels
    tokens = Frame(words=[["a"], ["b", "c"]])
    batch = only(open_rows(as_source(tokens, [["X"], ["Y", "Z"]], "tokens"), "tokens"))
    assert batch.tags is not None
    assert batch.tags.to_list() == ["X", "Y", "Z"]


def test_strings_that_are_paths_and_strings_that_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("full", "bare"):
        (tmp_path / folder).mkdir()
    for name in ("a.parquet", "full/b.parquet", "c", "with space.parquet"):
        written(tmp_path / name, text=["a", "b"])
    (tmp_path / "notes").write_text("PARting is such sweet sorrow")
    for paths in (
        ["a.parquet"],
        ["full"],
        ["c"],
        ["*.parquet", "full", "c"],
        ["with space.parquet", "with*.parquet", "* space.*"],
        ("a.parquet", tmp_path),
        ["gone.parquet"],  # a mistake that is better said than classified
    ):
        assert as_source(paths) is paths
    assert open_rows(["a.parquet", "full"], "text", targets=False).num_rows == 4
    for texts in (
        ["bare"],
        ["notes"],
        ["a.parquet", "a good film"],
        ["what is a *.parquet"],
        ["how do I read gone.parquet"],
        ["really?", "no[thing]"],
        ["a" * 5000, "\0"],
        [""],
        ["a.parquet", None],
        np.array(["a.parquet"]),
        [],
    ):
        assert isinstance(as_source(texts), pa.Table)
        assert as_source(texts).num_rows == len(texts)
    assert isinstance(as_source(["a.parquet"], ["x"]), pa.Table), "a text beside its label"


@pytest.mark.parametrize(
    ("examples", "targets", "inputs", "said"),
    [
        (["a", "b"], ["x"], "text", "2 texts, but 1 labels: expected one for each"),
        ([["a"]], [["x"], ["y"]], "tokens", "1 lists of tokens, but 2 lists of tags"),
        (["a", 3], None, "text", r"row 1 \(from 0\): a int, expected a text"),
        (["a", "b"], ["x", None], "text", r"row 1 \(from 0\): the label is null"),
        (["a", "b"], [1, 0.5], "text", r"row 1 \(from 0\): the label is a float, 0.5"),
        (["a", "b"], np.array([0.0, 1.0]), "text", "row 0 .* the label is a float"),
        (["a", "b"], [1, "x"], "text", r"several types, int \(row 0\) and str \(row 1\)"),
        (["a", "b"], [True, 1], "text", r"several types, bool \(row 0\) and int \(row 1\)"),
        (["a", "b"], [1, 2**70], "text", "beyond 64 bits"),
        ([["a"], "dog"], None, "tokens", r"row 1 \(from 0\): a str, expected a list of tokens"),
        ([["a"]], [[1]], "tokens", r"row 0 \(from 0\): a int among the tags, expected str"),
        (np.zeros((2, 2, 2)), None, "values", r"shape \(2, 2, 2\)"),
        (np.zeros((2, 2)), None, "text", "expected one dimension"),
        (["a"], None, "values", "expected numbers"),
        ([[1.0], [1.0, 2.0]], None, "values", "ragged"),
    ],
)
def test_unsuitable_objects(examples: Any, targets: Any, inputs: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_source(examples, targets, inputs)


def test_unreadable_objects() -> None:
    for wrong in (3, b"bytes", None):
        with pytest.raises(SettingsError, match="cannot read texts from a"):
            as_source(wrong)
