"""Rows of Python values, frames in lists, lazy frames: batches, types, paths or texts."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import CountFeatures, Index
from fastseq.errors import DataError, SettingsError
from fastseq.store import records
from fastseq.store.dataset import are_paths, open_sources
from fastseq.store.in_memory import as_source, rows_of
from fastseq.store.rows import Corpus, open_rows
from fastseq.store.texts import open_texts

DAY, NOON = datetime.date(2020, 1, 31), datetime.datetime(2020, 1, 31, 12)


def texts(source: Any, **options: Any) -> list[str]:
    return [
        t for batch in Corpus.open(source, **options).batches() for t in batch.text.to_strings()
    ]


def kept(source: Any, **options: Any) -> list[dict[str, Any]]:
    batches = Corpus.open(source, **options).batches()
    return [row for batch in batches for row in batch.kept.to_pylist()]


def test_texts_are_indexed_by_row_number(tmp_path: Path) -> None:
    for corpus in (["cat sat", "dog ran"], (text for text in ("cat sat", "dog ran"))):
        index = Index.build(corpus, tmp_path / "index", overwrite=True, threads=1)
        assert index.search("dog").ids == [[1]]
        assert index.search("dog").fields() == [{"text": "dog ran"}]


def test_dicts_are_indexed(tmp_path: Path) -> None:
    rows = ({"id": f"d{i}", "text": f"word{i}", "n": i} for i in range(3000))
    index = Index.build(rows, tmp_path / "index", threads=1)
    assert index.search("word2999").to_dicts()[0]["fields"] == {
        "id": "d2999", "text": "word2999", "n": 2999,
    }  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        ["a b", None, "c"],
        ("a b", None, "c"),
        iter(["a b", None, "c"]),
        np.array(["a b", None, "c"], object),
        pd.Series(["a b", None, "c"]),
        pa.array(["a b", None, "c"]),
        pa.chunked_array([["a b"], [None, "c"]]),
        [{"text": "a b"}, {"text": None}, {"text": "c"}],
        map(dict, [[("text", "a b")], [], [("text", "c")]]),
    ],
    ids=lambda source: type(source).__name__,
)
def test_sources_of_three_texts(source: Any) -> None:
    assert texts(source) == ["a b", "", "c"]


def test_types_of_values() -> None:
    row = {
        "text": "a", "i": 1, "f": 1.5, "b": True, "bytes": b"x", "d": Decimal("1.50"), "l": ["x"],
        "o": {"x": 1}, "np": np.float32(2.5), "none": None,
    }  # fmt: skip
    assert kept([row, {"text": "b", "f": 2}]) == [
        row,
        dict.fromkeys(row) | {"text": "b", "f": 2.0},
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"id": "x", "text": "a"}, "row 2000 (from 0): the column 'id' is of type str, 'x', but"),
        ({"id": 1.5, "text": "a"}, "row 2000 (from 0): the column 'id' is of type float, 1.5"),
        ({"id": True, "text": "a"}, "row 2000 (from 0): the column 'id' is of type bool"),
        ({"id": 2**70, "text": "a"}, "row 2000 (from 0): the column 'id'"),
        ({"id": 5, "text": b"a"}, "the column 'text' is of type bytes, b'a', but string in"),
        ({"id": 5, "text": "a", "new": 1}, "row 2000 (from 0): the column 'new' is new"),
        ("text", "row 2000 (from 0) is of type str, 'text', expected a dict"),
        ({5: "a"}, "row 2000 (from 0) has the key 5, expected strings"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lazy", [False, True])
def test_later_row_of_another_type(row: Any, problem: str, lazy: bool) -> None:
    rows: list[Any] = [{"id": i, "text": "a"} for i in range(2000)]
    rows += [row, {"id": 7, "text": "b"}]
    with pytest.raises(DataError) as error:
        list(Corpus.open(iter(rows) if lazy else rows).batches())
    assert problem in str(error.value)
    assert str(error.value).startswith("the list")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("later", "name"),
    [
        ({"at": {"x": 1, "new": 2}}, "at.new"),
        ({"all": [{"y": [{"z": 1}]}, {"y": [{"z": 1}, {"other": {"w": 1}}]}]}, "all.y.other"),
    ],
)
def test_later_row_with_a_new_field_inside_of_a_column(later: dict[str, Any], name: str) -> None:
    first = {"text": "a", "at": {"x": 1}, "all": [{"y": [{"z": 1}]}]}
    rows = [first] * 1500 + [{"text": "b", "at": {}, "all": None}, {"text": "c", **later}]
    with pytest.raises(DataError, match=f"row 1501 .*: the field '{name}' is new, unlike"):
        list(Corpus.open(rows).batches())
    assert sum(batch.rows for batch in Corpus.open(rows[:-1]).batches()) == 1501


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"id": 1, "text": "a"}, {"id": "x", "text": "b"}], "row 1 (from 0): the column 'id' is"),
        ([{"text": "a", "v": object()}], "row 0 (from 0): the column 'v' is of type object"),
        ([{"text": "a"}, "b"], "row 1 (from 0) is of type str, 'b', expected a dict"),
        ([{"text": "a"}, ["b"]], "row 1 (from 0) is of type list"),
        ([{"text": "a"}, {"x": 1, 2: 3}], "row 1 (from 0) has the key 2, expected strings"),
        ([{"text": "a"}, None], "row 1 (from 0) is of type NoneType, None, expected a dict"),
        ([{"text": "a"}, {"text": 3}], "'text' is of type int, 3, but of type str, 'a' in row 0"),
        ([{"text": "a", "v": DAY}, {"text": "b", "v": 3}], "row 1 (from 0): the column 'v' is of"),
        ([{"text": "a", "v": DAY}, {"text": "b", "v": NOON}], "row 1 (from 0): the column 'v' is"),
        ([{"text": "a", "v": NOON}, {"text": "b", "v": DAY}], "row 1 (from 0): the column 'v' is"),
        ([{"text": "a", "v": Decimal(1)}, {"text": "b", "v": 0.5}], "the column 'v' is of type fl"),
        (
            [{"text": "a"}, {"text": "b", "n": 2}, {"text": "c", "n": True}],
            "row 2 (from 0): the column 'n' is of type bool, True, but of type int, 2 in row 1",
        ),
        ([{"text": "a", "n": 1}, {"text": "b", "n": 2**80}], "row 1 (from 0): the column 'n' is"),
        ([{"body": "a", "title": "b"}], "cannot tell which column is the text"),
        (["cat sat", 3], "row 1 (from 0) is of type int, 3, expected a text"),
        (["a", None, {"text": "b"}], "row 2 (from 0) is of type dict, {'text': 'b'}, expected a t"),
        ([None, 3], "row 1 (from 0) is of type int, 3, expected a text"),
        (["a", float("nan"), "b"], "row 1 (from 0) is of type float, nan, expected a text"),
        (["a", b"b"], "row 1 (from 0) is of type bytes, b'b', expected a text"),
    ],
)
def test_first_rows_that_disagree(rows: list[Any], problem: str) -> None:
    with pytest.raises(DataError) as error:
        list(Corpus.open(rows).batches())
    assert problem in str(error.value)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("row", [records.FIRST_ROWS, 3000, 20_000])
@pytest.mark.parametrize("wrong", [3, {"text": "a"}, b"a"])
def test_later_element_that_is_no_text(tmp_path: Path, wrong: Any, row: int, lazy: bool) -> None:
    """Also where a batch has some of the rows before it."""
    rows: list[Any] = [None, *("a cat" for _ in range(row - 1)), wrong, "b", 5]
    with pytest.raises(DataError) as error:
        Index.build(iter(rows) if lazy else rows, tmp_path / "index", threads=1)
    found = f"{type(wrong).__name__}, {wrong!r}"
    assert (
        str(error.value)
        == f"the list{'_iterator' * lazy}: row {row} (from 0) is of type {found}, expected a text"
    )
    assert not (tmp_path / "index").exists()


def test_column_without_values_in_the_first_rows() -> None:
    rows = [{"text": "a", "n": None} for _ in range(records.FIRST_ROWS)]
    assert len(kept(rows)) == records.FIRST_ROWS
    with pytest.raises(DataError, match=r"row 1024 .*'n' is of type int, 5, but null"):
        kept([*rows, {"text": "b", "n": 5}])


def test_iterators_are_read_in_bounded_batches_and_once() -> None:
    read = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal read
        for i in range(20_000):
            read += 1
            yield {"id": i, "text": "word " * 20}

    corpus = Corpus.open(rows())
    assert read == records.FIRST_ROWS
    assert corpus.num_rows is None
    batches = corpus.batches(10_000)
    next(batches)
    assert read < 3 * records.FIRST_ROWS
    assert sum(batch.rows for batch in batches) > 19_000
    assert corpus.num_rows == 20_000
    with pytest.raises(DataError, match="the generator: already read"):
        list(corpus.batches())
    again = Corpus.open(["a", "b"])
    assert [b.rows for b in again.batches()] == [b.rows for b in again.batches()] == [2]


def test_errors_of_the_iterator_are_its_own() -> None:
    def rows() -> Iterator[str]:
        yield "a"
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        Corpus.open(rows())


@pytest.mark.parametrize(
    "rows", [["a", "b\ud800"], [None, "b\ud800"], [{"text": None}, {"text": "b\ud800"}]]
)
def test_lone_surrogates_are_located(tmp_path: Path, rows: Any) -> None:
    with pytest.raises(DataError, match=r"the list: row 1 \(from 0\).*UTF-8"):
        Index.build(rows, tmp_path / "index", threads=1)


def test_null_texts_and_lone_surrogates_in_examples() -> None:
    assert as_source([None, "", "é"])["text"].to_pylist() == [None, "", "é"]
    texts = as_source([None, "b\ud800"])["text"]
    assert texts.cast(pa.binary()).to_pylist() == [None, b"b\xed\xa0\x80"]


# ---- paths or texts


@pytest.mark.parametrize(
    "paths",
    [
        ["missing.parquet"],
        ["missing.jsonl", "other.csv.gz"],
        ["nope://bucket/x"],
        [Path("nowhere")],
        iter([Path("nowhere")]),
        iter(["missing.parquet"]),
    ],
)
def test_mistyped_names_are_no_texts(paths: Any) -> None:
    with pytest.raises(DataError, match=r"no such file|Unrecognized filesystem"):
        Corpus.open(paths)


def test_lists_of_paths_and_texts_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "docs.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    for mixed in ([str(path), "some text"], ["some text", "missing.csv"], [path, "text"]):
        with pytest.raises(SettingsError, match=r"is a path, and '(some )?text' is not"):
            Corpus.open(mixed)
    assert texts([str(path), str(tmp_path)]) == ["a"], "each file once"
    assert texts([{"text": str(path)}]) == [str(path)]
    assert texts(np.array([str(path)])) == [str(path)]


def test_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    for paths in (["a.jsonl"], ["x/*.tsv"], ["gs://b/c"], [str(tmp_path)], [str(tmp_path / "*")]):
        assert are_paths(paths)
    for strings in (["a text.jsonl"], ["word"], [], "a.parquet", [str(tmp_path / "*"), "word"]):
        assert not are_paths(strings)


@pytest.mark.parametrize("source", [[], (), iter(()), np.array([])])
def test_empty_iterables(source: Any) -> None:
    with pytest.raises(SettingsError, match="that is empty: expected paths"):
        Corpus.open(source)


@pytest.mark.parametrize("source", [[[1]], [3], [None, 3], {"text": ["a"]}, b""])
def test_other_elements_are_rejected(source: Any) -> None:
    with pytest.raises((SettingsError, DataError)):
        list(Corpus.open(source).batches())


# ---- frames


def test_frames_in_a_list_are_one_dataset(tmp_path: Path) -> None:
    frames = [
        pd.DataFrame({"id": ["a"], "text": ["one"], "n": [1]}),
        pa.table({"text": ["two"], "id": ["b"]}),
        pa.record_batch({"id": ["c"], "text": ["three"]}),
        pa.table({"id": ["d"], "text": ["four"]}).to_reader(),
        pa.table({"id": ["e"], "text": ["five"]}),
    ]
    corpus = Corpus.open(frames)
    batches = list(corpus.batches())
    assert [t for b in batches for t in b.text.to_strings()] == [
        "one",
        "two",
        "three",
        "four",
        "five",
    ]
    assert [i for b in batches for i in b.ids.to_pylist()] == list("abcde")
    assert corpus.where(4) == "table 4 (from 0): row 0 (from 0)"
    assert corpus.num_rows == 5
    with pytest.raises(
        DataError, match=r"table 1 \(from 0\): the column 'id' is string, but int64"
    ):
        Corpus.open([pa.table({"id": [1], "text": ["a"]}), frames[1]])
    with pytest.raises(
        SettingsError, match=r"element 1 \(from 0\) of the list is of type str: exp"
    ):
        Corpus.open([frames[1], "docs"])
    with pytest.raises(
        SettingsError, match=r"element 0 \(from 0\) of the list is of type int: exp"
    ):
        Corpus.open([3, "docs"])


def test_rows_after_a_stream_are_located(tmp_path: Path) -> None:
    first = pa.table({"id": ["a", "b"], "text": ["x", "y"]}).to_reader()
    second = pa.table({"id": ["c", None], "text": ["x", "y"]})
    with pytest.raises(DataError, match=r"table 1 \(from 0\): row 1 \(from 0\): the id"):
        list(Corpus.open([first, second]).batches(1))


def test_lazy_frames_of_polars(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"id": ["a", "b"], "text": ["one", "two"]})
    frame.write_parquet(tmp_path / "a.parquet")
    lazy = pl.scan_parquet(tmp_path / "a.parquet").filter(pl.col("id") == "b")
    assert texts(lazy) == ["two"]
    assert texts([frame, frame.lazy()]) == ["one", "two", "one", "two"]
    assert texts(frame["text"]) == ["one", "two"]
    index = Index.build(frame.lazy(), tmp_path / "index", threads=1)
    assert index.search("two").ids == [["b"]]


# ---- what estimators read


@pytest.mark.parametrize("lazy", [False, True])
def test_estimators_read_dicts_and_frames(lazy: bool) -> None:
    rows = [{"n": 1, "body": "a b", "label": "x"}, {"n": 2, "body": "c", "label": "y"}]
    frames = [pd.DataFrame(rows[:1]), pd.DataFrame(rows[1:])]
    for source in (rows, frames):
        examples = rows_of(iter(source) if lazy and source is rows else source)
        reader = open_rows(as_source(examples), "text", text="body", outputs=False)
        batches = list(reader.batches())
        assert [t for b in batches for t in b.text.to_strings()] == ["a b", "c"]
        assert [v for b in batches if b.labels for v in b.labels.to_list()] == ["x", "y"]
        found = open_texts(iter(source) if lazy and source is rows else source, "body")
        assert [t for part in found.slices() for t in part.to_strings()] == ["a b", "c"]
    reader = pa.table({"text": ["a", "b"]}).to_reader(1)
    assert rows_of(reader) is reader
    assert [t for part in open_texts(reader).slices() for t in part.to_strings()] == ["a", "b"]
    assert as_source(rows_of(iter(["a b", "c"])))["text"].to_pylist() == ["a b", "c"]
    counts = CountFeatures(threads=1).fit_transform({"text": t} for t in ("a cat", "cat cat"))
    assert counts.toarray().tolist() == [[1], [2]]


ROWS = st.lists(
    st.dictionaries(st.sampled_from(["text", "n", "b"]), st.none(), max_size=0)
    | st.fixed_dictionaries(
        {"text": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)},
        optional={"n": st.none() | st.integers(-9, 9), "b": st.booleans()},
    ),
    min_size=1,
    max_size=30,
)


@given(ROWS, st.integers(1, 40), st.booleans())
@settings(max_examples=100, deadline=None)
def test_rows_are_the_same_in_batches_of_any_size(
    rows: list[dict[str, Any]], max_bytes: int, lazy: bool
) -> None:
    rows = [{"text": "first", "n": 1, "b": True}, *rows]
    data = open_sources(iter(rows) if lazy else rows)
    batches = list(data.read(["text", "n", "b"], max_bytes))
    found = [row for batch in batches for row in batch.to_pylist()]
    assert found == [{name: row.get(name) for name in ("text", "n", "b")} for row in rows]


def test_named_indexes_of_pandas_are_columns(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    for index in (pd.RangeIndex(5, 9, 2, name="id"), pd.Index([5, 7], name="id")):
        frame = pd.DataFrame({"text": ["cat", "dog"]}, index=index)
        for source in (frame, [frame]):
            (batch,) = Corpus.open(source).batches()
            assert batch.ids.to_pylist() == [5, 7]
    unnamed = pd.DataFrame({"text": ["cat", "dog"]}, index=pd.RangeIndex(5, 7))
    assert Corpus.open(unnamed).id_column is None
    other = pd.DataFrame({"id": [1, 2], "text": ["cat", "dog"]}, index=pd.RangeIndex(2, name="id"))
    (batch,) = Corpus.open(other).batches()
    assert batch.ids.to_pylist() == [1, 2], "the column"
