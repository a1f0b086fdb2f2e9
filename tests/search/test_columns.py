"""Sorting, grouping, facets and pages of matches, against plain Python."""

from __future__ import annotations

import base64
import copy
import datetime
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import DataError, Index, SettingsError
from fastseq.search import columns
from fastseq.search.columns import (
    ColumnCache,
    FacetRequest,
    SortKey,
    facet_counts,
    facet_request,
    first_of_groups,
    group_numbers,
    parse_facet,
    parse_sort,
    sort_rows,
    stored_column,
)
from fastseq.search.paging import Cursor, decode_cursor, encode_cursor, page_of, request_digest
from tests.naive import columns as naive
from tests.store.test_column_values import stored

UTC = datetime.UTC
INF, NAN = float("inf"), float("nan")
DAYS = [datetime.date(1969, 12, 31), datetime.date(2000, 2, 29), datetime.date(2000, 3, 1)]
MOMENTS = [datetime.datetime(2000, 2, 29, 23, 59, second, tzinfo=UTC) for second in (58, 59)]
COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "year": (pa.int16(), [-32768, 1999, 2000, 2009, 2010]),
    "count": (pa.uint64(), [0, 1, 2**53 + 1, 2**64 - 1]),
    "price": (pa.decimal128(6, 2), [Decimal("0.00"), Decimal("1.10"), Decimal("-9999.99")]),
    "score": (pa.float64(), [0.0, -0.0, 0.1, 1e300, -INF, INF, NAN]),
    "draft": (pa.bool_(), [True, False]),
    "lang": (pa.large_string(), ["", "de", "en", "\uffff", "\U0001f600"]),
    "raw": (pa.binary(), [b"", b"\xff", b"a"]),
    "day": (pa.date32(), DAYS),
    "moment": (pa.timestamp("ms", "UTC"), MOMENTS),
    "clock": (pa.time32("s"), [datetime.time(1, 2, 3), datetime.time(23, 0, 0)]),
    "empty": (pa.null(), [None]),
    "tags": (pa.list_(pa.string()), [[], ["x"], ["y", "x", "x"], [None], [None, "z"]]),
    "sizes": (pa.large_list(pa.float64()), [[1.5, 25.0], [NAN], [11.0, 12.0, 11.0], []]),
    "doc": (pa.struct([("year", pa.int64())]), [{"year": 5}, {"year": None}, {"year": 2**62}]),
}
SINGLE = ["year", "count", "price", "score", "draft", "lang", "raw", "day", "moment", "clock"]
SINGLE += ["empty", "doc.year"]
SCHEMA = pa.schema(
    [("id", pa.int64()), ("text", pa.string())] + [(n, kind) for n, (kind, _) in COLUMNS.items()]
)
SCORES = st.sampled_from([0.0, -0.0, 1.5, -2.5, 1e-30, 3.25])


class Rows:
    """What a collection has of stored columns: those of several segments."""

    def __init__(self, parts: list[list[dict[str, Any]]]) -> None:
        self.schema = SCHEMA
        tables = [pa.Table.from_pylist(part, SCHEMA) for part in parts]
        self.leaves = [SimpleNamespace(segment=SimpleNamespace(stored=stored(t))) for t in tables]
        self.rows = sum(map(len, parts))
        self.commit = 5


class Matches:
    """Some rows of a collection, the others being no matches or deleted, and their scores.

    found  the rows as dictionaries, with their fields
    """

    def __init__(
        self, collection: Any, rows: list[dict[str, Any]], scores: list[float], seed: int
    ) -> None:
        self.collection: Any = collection
        rng = np.random.default_rng(seed)
        matched = [number for number in range(len(rows)) if rng.random() < 0.8]
        rng.shuffle(matched)
        self.rows = np.array(matched, np.int32)
        self.scores = np.array([scores[row % len(scores)] for row in matched], np.float32)
        self.found = [
            rows[row] | {"_score": float(score), "_row": row,
                         "doc.year": (rows[row]["doc"] or {}).get("year")}
            for row, score in zip(matched, self.scores, strict=True)
        ]  # fmt: skip

    def values(self, name: str) -> list[Any]:
        return [row[name] for row in self.found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("columns")


def random_matches(sizes: list[int], scores: list[float], seed: int) -> Matches:
    rng = random.Random(seed)
    choices = {name: [*values, None] for name, (_, values) in COLUMNS.items()}
    parts = [
        [{name: rng.choice(values) for name, values in choices.items()} for _ in range(size)]
        for size in sizes
    ]
    return Matches(Rows(parts), [row for part in parts for row in part], scores, seed)


MATCHES = st.builds(
    random_matches,
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.lists(SCORES, min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
SORTS = st.lists(
    st.tuples(st.sampled_from([*SINGLE, "_score"]), st.booleans()),
    max_size=4, unique_by=lambda key: key[0],
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    MATCHES, SORTS, st.integers(1, 12), st.one_of(st.none(), st.sampled_from(SINGLE)),
    st.integers(0, 9),
)  # fmt: skip
def test_pages_are_parts_of_the_sorted_matches(
    matches: Matches, sort: list[tuple[str, bool]], k: int, group: str | None, offset: int
) -> None:
    keys = [SortKey(*key) for key in sort]
    order = naive.ordered(matches.found, [*(sort or [("_score", True)]), ("_row", False)])
    collection, rows, scores = matches.collection, matches.rows, matches.scores
    assert sort_rows(collection, rows, scores, keys).tolist() == order
    assert sort_rows(collection, rows, scores, keys, k).tolist() == order[:k]
    if group is not None:
        first = naive.first_of_groups([matches.found[at][group] for at in order])
        places = np.array(order, np.int64)
        groups = group_numbers(collection, rows[places], group)
        assert first_of_groups(groups).tolist() == first
        order = [order[at] for at in first]
    page = page_of(collection, rows, scores, k, keys, group, offset)
    assert page.tolist() == order[offset : offset + k]
    # all pages, one after the other
    found: list[int] = []
    after = None
    for _ in range(len(order) // k + 2):
        page = page_of(collection, rows, scores, k, keys, group, after=after)
        if not len(page):
            break
        found += page.tolist()
        last = int(page[-1])
        text = encode_cursor(collection, 7, int(rows[last]), float(scores[last]))
        after = decode_cursor(collection, 7, text)
    assert found == order


@settings(deadline=None, max_examples=50)
@given(MATCHES, st.one_of(st.none(), st.integers(1, 4)))
def test_facets_are_exact(matches: Matches, most: int | None) -> None:
    collection = matches.collection
    mask = np.zeros(collection.rows, np.uint8)
    mask[matches.rows] = 1
    for given_as in (matches.rows, mask, mask.astype(np.bool_)):
        for name in [*SINGLE, "tags", "sizes"]:
            values = matches.values(name)
            found = facet_counts(collection, FacetRequest(name), given_as, most)
            expected, counts, other = naive.facet(values, most)
            assert repr(found.values) == repr(expected)  # NaN is equal to itself
            assert (found.counts.tolist(), found.other) == (counts, other)
            assert (found.column, found.missing) == (name, naive.missing(values))
        for text, edges in (
            ("year:1999,2000,2010", [1999, 2000, 2010]),
            ("score:-inf,0,0.1,inf", [-INF, 0, 0.1, INF]),
            ("sizes:0,11,12,30", [0, 11, 12, 30]),
            ("price:0,1.1,5", [Decimal(0), Decimal("1.1"), Decimal(5)]),
            ("day:2000-02-29,2000-03-01", DAYS[1:]),
        ):
            name = text.partition(":")[0]
            found = facet_counts(collection, parse_facet(text), given_as, most)
            bins, other = naive.range_counts(matches.values(name), edges)
            assert found.counts.tolist() == bins
            assert (found.other, len(found.values)) == (other, len(edges) - 1)
            assert found.missing == naive.missing(matches.values(name))
        for name, width in (("year", 10), ("sizes", 10), ("count", 3), ("price", 100)):
            found = facet_counts(collection, facet_request(name, width), given_as, most)
            by_low, other = naive.interval_counts(matches.values(name), Fraction(width))
            assert [low for low, _ in found.values] == list(by_low)
            assert found.counts.tolist() == list(by_low.values())
            assert found.other == other
        for text in ("day:year", "day:month", "day:day", "moment:day"):
            name, unit = text.split(":")
            found = facet_counts(collection, parse_facet(text), given_as, most)
            units = naive.calendar_counts(matches.values(name), unit)
            assert dict(zip(found.values, found.counts.tolist(), strict=True)) == units
            assert (list(units), found.other) == (found.values, 0)


@pytest.fixture(scope="module")
def large(folder: Path) -> Index:
    n = 30_000
    number = np.arange(n)
    table = pa.table({
        "id": number, "text": ["a"] * n, "group": number % 3, "rare": number // 29_999,
        "unique": (number * 7919) % n, "same": np.zeros(n, np.int8),
    })  # fmt: skip
    return Index.build(table, folder / "large", text_columns=["text"])


@pytest.mark.parametrize("group", ["group", "rare", "unique", "same", "id"])
@pytest.mark.parametrize("sort", ["", "group", "-group,same", "unique", "same,-unique,id,_score"])
def test_many_matches_and_groups(large: Index, group: str, sort: str) -> None:
    """Groups that are not among the first matches, and ties of many matches."""
    collection, rng = large._collection, np.random.default_rng(3)
    rows = rng.permutation(collection.rows)
    scores = (rng.integers(0, 3, len(rows)) / 2).astype(np.float32)
    keys = parse_sort(sort or None)
    order = sort_rows(collection, rows, scores, keys)
    for k in (1, 10, 5000):
        assert sort_rows(collection, rows, scores, keys, k).tolist() == order[:k].tolist()
    values = stored_column(collection, group).codes[rows[order]]
    _, first = np.unique(values, return_index=True)
    best = order[np.sort(first)].tolist()
    for k, offset in ((1, 0), (10, 0), (2, 1), (5000, 3)):
        page = page_of(collection, rows, scores, k, keys, group, offset)
        assert page.tolist() == best[offset : offset + k]
    if len(best) > 4000:
        last = best[3999]
        after = Cursor(int(rows[last]), float(scores[last]))
        page = page_of(collection, rows, scores, 10, keys, group, after=after)
        assert page.tolist() == best[4000:4010]


def test_an_index_of_several_segments_with_deleted_rows(folder: Path) -> None:
    rng = np.random.default_rng(4)
    parts = [
        [
            {"id": 20 * part + row, "text": "a"}
            | {name: values[rng.integers(len(values))] for name, (_, values) in COLUMNS.items()}
            for row in range(20)
        ]
        for part in range(3)
    ]
    path = folder / "segments"
    index = Index.build(pa.Table.from_pylist(parts[0], SCHEMA), path, text_columns=["text"])
    for part in parts[1:]:
        index.add(pa.Table.from_pylist(part, SCHEMA))
    index.delete([1, 2, 25])
    collection = index._collection
    assert (len(collection.leaves), collection.rows) == (3, 60)
    live = [row for part in parts for row in part if row["id"] not in (1, 2, 25)]
    rows = np.array([row["id"] for row in live])
    assert collection.rows_of(rows).tolist() == rows.tolist()
    numbered = [row | {"_row": row["id"], "_score": 1.0} for row in live]
    keys = [("lang", True), ("score", False)]
    order = naive.ordered(numbered, [*keys, ("_row", False)])
    page = page_of(collection, rows, np.ones(57, np.float32), 60, [SortKey(*key) for key in keys])
    assert page.tolist() == order
    for name in ("lang", "tags", "score"):
        found = facet_counts(collection, FacetRequest(name), rows, None)
        values, counts, _ = naive.facet([row[name] for row in live], None)
        assert (repr(found.values), found.counts.tolist()) == (repr(values), counts)


def test_equal_scores_are_in_the_order_of_rows(large: Index) -> None:
    rows = np.array([5, 3, 9, 1])
    scores = np.array([-0.0, 0.0, -1.0, -0.0], np.float32)
    for sort, order in (("_score", [3, 1, 0, 2]), ("_score:asc", [2, 3, 1, 0])):
        assert sort_rows(large._collection, rows, scores, parse_sort(sort)).tolist() == order


def test_no_matches(large: Index) -> None:
    none, scores = np.empty(0, np.int32), np.empty(0, np.float32)
    found = facet_counts(large._collection, FacetRequest("group"), none)
    assert (found.values, found.counts.tolist(), found.other, found.missing) == ([], [], 0, 0)
    found = facet_counts(large._collection, parse_facet("group:0,1,2"), none)
    assert (found.values, found.counts.tolist()) == ([(0, 1), (1, 2)], [0, 0])
    for after in (None, Cursor(5, 1.0)):
        for group in (None, "group"):
            page = page_of(large._collection, none, scores, 10, (), group, after=after)
            assert page.tolist() == []


# ---- text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, []),
        ("year", [("year", False)]),
        ("-year,title", [("year", True), ("title", False)]),
        (" year:DESC , +title,a:asc", [("year", True), ("title", False), ("a", False)]),
        (["-year", "title:desc"], [("year", True), ("title", True)]),
        ("_score", [("_score", True)]),
        ("-_score", [("_score", True)]),
        ("_score:asc,year", [("_score", False), ("year", False)]),
        ('-"a,b:c ""d""",doc.year', [('a,b:c "d"', True), ("doc.year", False)]),
        ("two words", [("two words", False)]),
    ],
)
def test_sort_keys_as_text(text: Any, expected: list[tuple[str, bool]]) -> None:
    assert list(parse_sort(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read ''; expected columns such as -year,title or year:desc"),
        ("year,", "cannot read 'year,'"),
        ("year,,title", "cannot read ',title'"),
        ("year:up", "cannot read 'year:up'"),
        ("-", "cannot read '-'"),
        ('"year', "cannot read '\"year'"),
        ("-year:desc", "both a sign and :desc"),
        ("year,-year", "the column 'year' is given twice"),
        (5, "sort must be a string or a list of strings, not 5"),
    ],
)
def test_wrong_sort_keys(text: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_sort(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lang", FacetRequest("lang")),
        (" lang ", FacetRequest("lang")),
        ("year:10", FacetRequest("year", Decimal(10))),
        ("date:month", FacetRequest("date", "month")),
        ("price: 0, 1.5,inf", FacetRequest("price", None, (*map(Decimal, ("0", "1.5", "inf")),))),
        ("at:2000-01-01T00:00,2001-01", FacetRequest("at", None, ("2000-01-01T00:00", "2001-01"))),
        ('"a:b":5', FacetRequest("a:b", Decimal(5))),
    ],
)  # fmt: skip
def test_facets_as_text(text: str, expected: FacetRequest) -> None:
    assert parse_facet(text) == expected


def test_facets_of_python_values() -> None:
    assert facet_request("a", ranges=[np.int64(1), 2.5]) == FacetRequest(
        "a", None, (Decimal(1), Decimal("2.5"))
    )
    assert facet_request("a", ranges=DAYS[:2]).ranges == ("1969-12-31", "2000-02-29")
    assert facet_request("a", 0.1) == FacetRequest("a", Decimal("0.1"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_facet(""), "cannot read ''; expected a column"),
        (lambda: parse_facet(":10"), "cannot read ':10'"),
        (lambda: parse_facet(5), "cannot read 5"),  # type: ignore[arg-type]
        (lambda: parse_facet("a:"), "the interval '' of 'a' is neither a number nor one of year,"),
        (lambda: parse_facet("a:week"), "the interval 'week' of 'a' is neither"),
        (lambda: parse_facet("a:0"), "the interval of 'a' must be a positive number, not '0'"),
        (lambda: parse_facet("a:-1"), "must be a positive number"),
        (lambda: parse_facet("a:inf"), "must be a positive number"),
        (lambda: parse_facet("a:nan"), "'nan' for the column 'a' is neither a number nor a date"),
        (lambda: parse_facet("a:1,1e999999999"), "'1e999999999' for the column 'a' is neither"),
        (lambda: parse_facet("a:1,x"), "two or more edges, all numbers or all dates or times"),
        (lambda: facet_request("a", ranges=[1]), "two or more edges"),
        (lambda: facet_request("a", ranges=[1, True]), "True for the column 'a' is neither"),
        (lambda: facet_request("a", 5, [1, 2]), "an interval and ranges: give one"),
    ],
)
def test_wrong_facets(call: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=f"facet: .*{message}"):
        call()


def test_columns_that_cannot_be_used(folder: Path) -> None:
    row = {name: values[0] for name, (_, values) in COLUMNS.items()}
    collection: Any = Rows([[row] * 3])
    rows, scores = np.arange(3), np.ones(3, np.float32)
    names = "stored are: id, text, year, .*, doc.year"
    for column, problem in (
        ("nope", f"no stored column 'nope'; {names}"),
        ("doc", "the column 'doc' is struct.*; expected numbers"),
    ):
        for use in (
            lambda c: facet_counts(collection, FacetRequest(c), rows),
            lambda c: page_of(collection, rows, scores, 1, [SortKey(c, True)]),
            lambda c: page_of(collection, rows, scores, 1, group=c),
        ):
            with pytest.raises(DataError, match=problem):
                use(column)
    with pytest.raises(DataError, match=r"sort: the column 'tags' is list.*; expected one value"):
        page_of(collection, rows, scores, 1, [SortKey("tags", True)])
    with pytest.raises(DataError, match=r"group: the column 'tags' is list.*; expected one value"):
        page_of(collection, rows, scores, 1, group="tags")
    for text, problem in (
        ("lang:10", "facet: the column 'lang' is large_string|string; the width"),
        ("year:month", "facet: the column 'year' is int16; the interval month requires dates"),
        ("lang:0,1", "ranges require numbers, dates or times"),
    ):
        with pytest.raises(DataError, match=problem):
            facet_counts(collection, parse_facet(text), rows)
    with pytest.raises(SettingsError, match="most must be a whole number of at least 1"):
        facet_counts(collection, FacetRequest("year"), rows, 0)
    nothing = Index.build(
        pa.table({"text": ["a"]}), folder / "nothing", text_columns=["text"], store=[]
    )
    with pytest.raises(DataError, match="no stored column 'year'; stored are: none"):
        stored_column(nothing._collection, "year")


# ---- cursors


def test_cursors_of_other_commits_and_requests(large: Index, folder: Path) -> None:
    collection = large._collection
    text = encode_cursor(collection, request_digest("q", "bm25"), 29_999, 1.25)
    assert len(text) == 34
    assert text.replace("-", "a").replace("_", "a").isalnum()
    found = decode_cursor(collection, request_digest("q", "bm25"), text)
    assert found == Cursor(29_999, 1.25)
    with pytest.raises(SettingsError, match="of another query, filter, order or grouping"):
        decode_cursor(collection, request_digest("q", "tfidf"), text)
    other = Index.build(pa.table({"text": ["a"]}), folder / "other", text_columns=["text"])
    with pytest.raises(SettingsError, match="of another commit of this one: begin again"):
        decode_cursor(other._collection, request_digest("q", "bm25"), text)
    for at in range(len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        if base64.urlsafe_b64decode(changed + "==") != base64.urlsafe_b64decode(text + "=="):
            with pytest.raises(SettingsError, match="after must be the cursor of a page of hits"):
                decode_cursor(collection, request_digest("q", "bm25"), changed)
    for wrong in ("", "x", "é", text[:-4], text + "AAAA", "A" * 34):
        with pytest.raises(SettingsError, match="after must be the cursor of a page of hits"):
            decode_cursor(collection, 1, wrong)
    with pytest.raises(SettingsError, match=r"after must be the cursor .*, not 5"):
        decode_cursor(collection, 1, 5)


def test_wrong_pages(large: Index) -> None:
    rows, scores = np.arange(3), np.zeros(3, np.float32)
    with pytest.raises(SettingsError, match="offset and after are both given"):
        page_of(large._collection, rows, scores, 2, offset=1, after=Cursor(0, 0.0))
    with pytest.raises(SettingsError, match="offset must be a whole number of at least 0"):
        page_of(large._collection, rows, scores, 2, offset=-1)


# ---- the cache


def test_columns_used_last_are_cached(large: Index) -> None:
    column = stored_column(large._collection, "group")
    assert stored_column(large._collection, "group") is column
    size = column.nbytes
    cache = ColumnCache(2 * size)

    class Owner:
        pass

    owners, loaded = [Owner(), Owner()], []

    def get(owner: Owner, name: str) -> Any:
        def load() -> Any:
            loaded.append(name)
            return copy.copy(column)

        return cache.get(owner, name, load)

    first = get(owners[0], "a")
    assert get(owners[0], "a") is first
    get(owners[1], "a")
    get(owners[0], "a")
    get(owners[0], "b")  # drops the other owner's
    get(owners[0], "a")
    assert loaded == ["a", "a", "b"]
    get(owners[1], "a")
    assert loaded == ["a", "a", "b", "a"]
    del owners[1]
    get(owners[0], "c")  # the dead owner's are dropped first
    get(owners[0], "a")
    assert loaded == ["a", "a", "b", "a", "c"]
    tiny = ColumnCache(1)
    assert tiny.get(owners[0], "a", lambda: column) is tiny.get(owners[0], "a", lambda: first)


def test_a_column_is_read_once(large: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_cache", ColumnCache(1 << 20))
    index = Index.open(large.path)
    documents = index._collection.leaves[0].segment.stored
    assert documents is not None
    asked: list[Any] = []
    read = type(documents)._read

    def spy(self: Any, groups: Any, names: list[str]) -> pa.Table:
        asked.append(names)
        return read(self, groups, names)

    monkeypatch.setattr(type(documents), "_read", spy)
    for _ in range(3):
        facet_counts(index._collection, FacetRequest("group"), np.arange(10))
        page_of(index._collection, np.arange(10), np.zeros(10, np.float32), 3, group="group")
    assert asked == [["group"]]


def test_facets_of_bytes_of_a_fixed_size(tmp_path: Path) -> None:
    column = pa.array([b"ab", b"cd", b"ab"], pa.binary(2))
    table = pa.table({"id": ["a", "b", "c"], "text": ["x", "x", "x"], "hash": column})
    (facets,) = Index.build(table, tmp_path / "index").search("x", facets="hash").facets
    facet = facets["hash"]
    assert (facet.values, facet.counts.tolist()) == (["6162", "6364"], [2, 1])
