"""Filters on stored columns, against filters in plain Python."""

from __future__ import annotations

import datetime
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, TFIDF, BoW, DataError, Index, SettingsError
from fastseq.store import documents
from fastseq.store.filters import as_filter
from tests.naive import filters as naive

SCHEMA = pa.schema([
    ("id", pa.int32()),
    ("text", pa.string()),
    ("year", pa.int16()),
    ("count", pa.uint64()),
    ("price", pa.decimal128(6, 2)),
    ("score", pa.float64()),
    ("small", pa.float32()),
    ("draft", pa.bool_()),
    ("lang", pa.large_string()),
    ("kind", pa.dictionary(pa.int8(), pa.string())),
    ("tags", pa.list_(pa.string())),
    ("sizes", pa.large_list(pa.int64())),
    ("day", pa.date32()),
    ("moment", pa.timestamp("ms", "UTC")),
    ("doc", pa.struct([("year", pa.int64()), ("name", pa.string())])),
    ("empty", pa.null()),
])  # fmt: skip

STRINGS = ["", "a", "war", "a war b", "x\nwar", "it's", "100%", "a_b", "\\", "é猫", "WAR"]
DAYS = [datetime.date(1969, 12, 31), datetime.date(2000, 2, 29), datetime.date(2001, 1, 1)]
MOMENTS = [datetime.datetime(2000, 2, 29, 23, 59, 59, 1000 * n, datetime.UTC) for n in (0, 1)]


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


STRING = st.sampled_from(STRINGS)
ROWS = st.fixed_dictionaries({
    "text": maybe(st.lists(st.sampled_from(["cat", "dog", "sat"]), max_size=4).map(" ".join)),
    "year": maybe(st.sampled_from([-32768, -1, 0, 1999, 2000, 32767])),
    "count": maybe(st.sampled_from([0, 1, 2**53 + 1, 2**64 - 1])),
    "price": maybe(st.sampled_from([Decimal("0.00"), Decimal("1.10"), Decimal("-9999.99")])),
    "score": maybe(st.sampled_from([0.0, -0.0, 0.1, 1e300, float("inf"), float("nan")])),
    "small": maybe(st.sampled_from([0.0, float(np.float32(0.1)), 2.5, float("nan")])),
    "draft": maybe(st.booleans()),
    "lang": maybe(STRING), "kind": maybe(STRING),
    "tags": maybe(st.lists(maybe(STRING), max_size=3)),
    "sizes": maybe(st.lists(maybe(st.sampled_from([1, 2, 2**40])), max_size=3)),
    "day": maybe(st.sampled_from(DAYS)), "moment": maybe(st.sampled_from(MOMENTS)),
    "doc": maybe(st.fixed_dictionaries({
        "year": maybe(st.sampled_from([1, 2**62])), "name": maybe(STRING),
    })),
    "empty": st.none(),
})  # fmt: skip

NUMBERS = maybe(
    st.sampled_from([
        "0", "-0", "1", "2", "1999", "1999.5", "2000", "2e3", "32767", "32768", "-32769", "1.10",
        "1.105", "-9999.99", "1e30", "-1e30", "0.1", "2.5", "9007199254740993",
        "18446744073709551615", "18446744073709551616", "4611686018427387904", "1e9999",
        "-1e9999", "1e-9999", "-1e-9999",
    ]).map(Decimal)
)
TEXTS = maybe(STRING)
SIGNS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
PATTERNS = st.one_of(
    st.sampled_from(["%war%", "war", "%", "_", "a\\_b", "100\\%", "%\n%", "é_", "", "a%b", "__%"]),
    st.text("aw%_\\é", max_size=5).filter(lambda p: (len(p) - len(p.rstrip("\\"))) % 2 == 0),
)
NUMERIC = st.sampled_from(["year", "count", "price", "score", "doc.year", "empty"])
TEXTUAL = st.sampled_from(["lang", "kind", "doc.name", "empty"])


def predicates(columns: st.SearchStrategy[str], literals: st.SearchStrategy[Any]) -> Any:
    return st.one_of(
        st.tuples(st.just("compare"), columns, SIGNS, literals),
        st.tuples(st.just("in"), columns, st.lists(literals, min_size=1, max_size=3)),
        st.tuples(st.just("between"), columns, literals, literals),
    )


LEAVES = st.one_of(
    predicates(NUMERIC, NUMBERS),
    predicates(TEXTUAL, TEXTS),
    st.tuples(st.just("like"), TEXTUAL, PATTERNS),
    st.tuples(st.just("has"), st.just("tags"), TEXTS),
    st.tuples(st.just("has"), st.just("sizes"), NUMBERS),
    st.tuples(st.just("column"), st.sampled_from(["draft", "empty"])),
    st.tuples(st.just("compare"), st.just("draft"), SIGNS, maybe(st.booleans())),
    st.tuples(st.just("null"), st.sampled_from([name for name in SCHEMA.names if name != "id"])),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=5,
)


def table_of(rows: list[dict[str, Any]], first: int = 0) -> pa.Table:
    numbered = [{"id": first + number, **row} for number, row in enumerate(rows)]
    return pa.Table.from_pylist(numbered, SCHEMA)


@settings(deadline=None)  # kernels may have to be compiled
@given(st.lists(ROWS, min_size=1, max_size=8), FILTERS)
def test_a_filter_is_true_where_plain_python_says_so(
    rows: list[dict[str, Any]], filter: tuple[Any, ...]
) -> None:
    (batch,) = table_of(rows).combine_chunks().to_batches()
    found = as_filter(naive.text_of(filter), SCHEMA).of(batch)
    assert found.to_pylist() == [naive.truth(filter, row) for row in rows], naive.text_of(filter)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(ROWS, min_size=1, max_size=12), min_size=1, max_size=3),
    FILTERS,
    st.sets(st.integers(0, 30), max_size=6),
    st.sampled_from([BM25(), BoW(), TFIDF()]),
    st.integers(1, 12),
)
def test_hits_are_those_of_all_that_pass(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Any], filter: tuple[Any, ...],
    deleted: set[int], model: Any, k: int,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("filters") / "index"
    rows: dict[int, dict[str, Any]] = {}
    index = None
    for part in parts:
        table = table_of(part, len(rows))
        rows |= {len(rows) + number: row for number, row in enumerate(part)}
        if index is None:
            index = Index.build(table, path, text_columns=["text"])
        else:
            index.add(table)
    assert index is not None
    index.delete(sorted(deleted))
    text = naive.text_of(filter)
    passing = {id for id in rows.keys() - deleted if naive.truth(filter, rows[id]) is True}
    queries = ["cat dog", "sat", "cat", {"cat": -1.0, "dog": 2.0}, "nothing"]
    if len(index):
        every = index.search(queries, len(index), model)
        hits = index.search(queries, k, model, filter=text, threads=2)
        for number in range(len(queries)):
            pairs = zip(every.ids[number], every.scores[number].tolist(), strict=False)
            expected = [(id, score) for id, score in pairs if id in passing][:k]
            found = zip(hits.ids[number], hits.scores[number].tolist(), strict=False)
            assert list(found) == expected, text
    counts = index.delete(where=text)
    assert counts["deleted"] == len(passing)
    assert {id for id in rows if id in index} == rows.keys() - deleted - passing


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    rows = [
        {"text": f"cat w{n % 7}", "year": 1900 + n, "lang": ["en", "de", None][n % 3]}
        for n in range(300)
    ]
    path = tmp_path_factory.mktemp("filters") / "index"
    return Index.build(table_of(rows), path, text_columns=["text"])


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("day >= '2000-02-29'", [False, True, True]),
        ("day = '2000-02-29T00:00:00'", [False, True, False]),
        ("day > '2000-02-29T12:00:00'", [False, False, True]),
        ("day between '1969-12-31' and '2000-12-31'", [True, True, False]),
        ("moment = '2000-02-29T23:59:59'", [True, False, None]),
        ("moment > '2000-02-29 23:59:59'", [False, True, None]),
        ("moment = '2000-03-01T00:59:59+01:00'", [True, False, None]),
        ("moment in ('1999-01-01', '2000-02-29T23:59:59.001Z')", [False, True, None]),
        ("SMALL >= 2", None),
        ("small > 0.1 AND NOT small = 2.5 OR small IS NULL", [False, False, True]),
        ("small = 0.1", [True, False, None]),
        ('"small" <> 0.1', [False, True, None]),
    ],
)
def test_days_moments_and_small_floats(filter: str, expected: list[bool | None] | None) -> None:
    rows = [
        {"day": day, "moment": moment, "small": small}
        for day, moment, small in zip(DAYS, [*MOMENTS, None], [0.1, 2.5, None], strict=True)
    ]
    (batch,) = table_of(rows).combine_chunks().to_batches()
    if expected is None:  # names are as they are written
        with pytest.raises(DataError, match="no stored column 'SMALL'"):
            as_filter(filter, SCHEMA)
        return
    assert as_filter(filter, SCHEMA).of(batch).to_pylist() == expected


def test_has_with_a_null_list_that_has_elements() -> None:
    schema = pa.schema([("tags", pa.list_(pa.string()))])
    values, nulls = pa.array(["x", "x", "y"]), pa.array([False, True, False])
    tags = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), values, mask=nulls)
    rows = pa.RecordBatch.from_arrays([tags], schema=schema)
    assert as_filter("tags has 'x'", schema).of(rows).to_pylist() == [True, None, False]


def test_expressions_and_masks(index: Index) -> None:
    year = pc.field("year")
    wanted = index.search("cat", filter="year between 2000 and 2010 and lang = 'en'", k=20)
    assert wanted.ids == [[102, 105, 108]]
    expression = (year >= 2000) & (year <= 2010) & (pc.field("lang") == "en")
    assert index.search("cat", filter=expression, k=20).ids == wanted.ids
    mask = np.zeros(300, np.bool_)
    mask[wanted.ids[0]] = True
    for array in (mask, mask.tolist()):
        assert index.search("cat", filter=array, k=20).ids == wanted.ids
    assert index.search("cat", filter=np.zeros(300, np.bool_)).ids == [[]]


@pytest.mark.parametrize(
    ("filter", "error", "message"),
    [
        ("", SettingsError, "expected a column at character 1, not its end"),
        ("year >", SettingsError, "expected a number, .* at character 7"),
        ("year = 1)", SettingsError, r"expected and, or or the end at character 9, not '\)'"),
        ("(year = 1", SettingsError, "expected a closing parenthesis at character 10"),
        ("year in ()", SettingsError, "expected a number"),
        ("year in (1", SettingsError, "expected a comma or a closing parenthesis"),
        ("year not 5", SettingsError, "expected in, between, like or has"),
        ("lang like year", SettingsError, "expected a string at character 11, not 'year'"),
        ("lang = 'x", SettingsError, "the string at character 8 lacks its closing quote"),
        ("year is 5", SettingsError, "expected null"),
        ("'a' = lang", SettingsError, "expected a column"),
        ("(" * 300 + "draft" + ")" * 300, SettingsError, "nested more than 200 deep"),
        ("not " * 10_000 + "draft", SettingsError, "nested more than 200 deep"),
        ("nope = 1", DataError, "no stored column 'nope'; stored are: id, text, .* doc.year"),
        ("lang > 1", DataError, "'lang' is string and is compared with 1; expected a string"),
        ("year = '1'", DataError, "'year' is int16 and is compared with '1'; expected a number"),
        ("draft = 1", DataError, "expected true or false"),
        ("day < 'x'", DataError, "expected a string such as '2001-12-31'"),
        ("tags = 'x'", DataError, "a list: use has, as in tags has 'x'"),
        ("lang has 'x'", DataError, "has requires a list"),
        ("year like '1%'", DataError, "like requires text"),
        ("year", DataError, "only a boolean is a filter alone"),
        (pc.field("nope") == 1, DataError, "nope"),
        (pc.field("year") + 1, DataError, "not a boolean"),
        (np.ones(3, np.bool_), SettingsError, "one bool for each of the 300 rows"),
        (np.ones(300), SettingsError, "one bool for each"),
        (5, SettingsError, "filter must be text"),
    ],
)
def test_what_is_no_filter_is_an_error(
    index: Index, filter: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        index.search("cat", filter=filter)


@given(st.text(max_size=30))
def test_any_text_is_a_filter_or_one_error(text: str) -> None:
    with suppress(SettingsError, DataError):
        as_filter(text, SCHEMA)


def test_types_are_compared_without_any_row(tmp_path: Path) -> None:
    """Also where a segment has null alone, or nothing at all."""
    rows = [{"text": "a", "year": None, "lang": None}]
    small = Index.build(table_of(rows), tmp_path / "index", text_columns=["text"])
    small.delete([0])
    with pytest.raises(DataError, match="filter: the column 'lang' is string and is compared with"):
        small.search("a", filter="lang = 5")
    with pytest.raises(DataError, match="filter: the column 'year' is int16 and is compared with"):
        small.delete(where="year > 'x'")
    with pytest.raises(DataError, match=r"filter: the column 'tags' is list.*; like requires text"):
        small.search("a", filter="year = 1 or tags like 'x'")


def test_filters_over_many_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GROUP_ROWS", 3)
    monkeypatch.setattr(documents, "_BATCH", 4)
    rows = [
        {"text": "cat", "year": number % 7, "tags": ["x"] * (number % 2)} for number in range(50)
    ]
    index = Index.build(table_of(rows), tmp_path / "index", text_columns=["text"])
    found = index.search("cat", 50, filter="year in (1, 5) and tags has 'x'")
    assert found.ids[0] == [number for number in range(50) if number % 7 in (1, 5) and number % 2]


def test_delete_takes_ids_or_a_filter(index: Index, tmp_path: Path) -> None:
    small = Index.build(table_of([{"text": "a"}]), tmp_path / "index", text_columns=["text"])
    for wrong in ({}, {"ids": [1], "where": "draft"}):
        with pytest.raises(SettingsError, match=r"give either ids or where=…"):
            small.delete(**wrong)
    with pytest.raises(DataError, match="no stored column"):
        small.delete(where="nope = 1")
    with small.writer() as writer:
        writer.add(table_of([{"text": "b", "year": 5}], 7))
        writer.delete(where="year = 5")
        writer.add(table_of([{"text": "c", "year": 5}], 8))
    assert [id for id in range(9) if id in small] == [0, 8]
