"""Columns as numbers of their distinct values, against plain Python."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FormatError, RowError, SettingsError
from fastseq.search.columns import numbered
from fastseq.store.arrays import list_offsets
from fastseq.store.column_bins import interval_bins, range_bins
from fastseq.store.column_values import ColumnValues, load_column
from fastseq.store.documents import (
    DocumentWriter,
    GroupedDocuments,
    StoredDocuments,
    open_documents,
    schema_bytes,
)
from tests.naive import columns as naive

UTC = datetime.UTC
INF, NAN = float("inf"), float("nan")
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int8": (pa.int8(), [-128, -1, 0, 5, 127]),
    "int64": (pa.int64(), [-(2**63), -1, 0, 2**63 - 1, 2**53, 2**53 + 1]),
    "small": (pa.int64(), [-(2**63), 1 - 2**63, 3 - 2**63]),
    "uint64": (pa.uint64(), [0, 1, 2**63, 2**64 - 1, 2**64 - 2]),
    "half": (pa.float16(), [0.5, -0.0, 0.0, INF, NAN]),
    "float": (pa.float32(), [1.5, -0.0, 0.0, -INF, NAN]),
    "double": (pa.float64(), [0.1, 0.3, -0.0, 0.0, INF, -INF, NAN, 1e300, 5e-324]),
    "bool": (pa.bool_(), [True, False]),
    "decimal": (pa.decimal128(6, 2), [Decimal("-1.10"), Decimal("0.00"), Decimal("9999.99")]),
    "wide": (pa.decimal256(60, 3), [Decimal("-1.105"), Decimal("9" * 57 + ".999")]),
    "string": (pa.string(), ["", "a", "ab", "b", "Z", "é", "\uffff", "\U0001f600"]),
    "bytes": (pa.binary(), [b"", b"\x00", b"\xff", b"a"]),
    "fixed": (pa.binary(2), [b"\x00\xff", b"ab", b"\xff\x00"]),
    "date": (pa.date32(), [datetime.date(1969, 12, 31), datetime.date(2000, 2, 29)]),
    "date64": (pa.date64(), [datetime.date(1969, 12, 31), datetime.date(2000, 2, 29)]),
    "time": (pa.time32("s"), [datetime.time(0, 0, 1), datetime.time(23, 59, 59)]),
    "moment": (pa.timestamp("us", "UTC"), [
        datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime.datetime(2000, 2, 29, tzinfo=UTC),
        datetime.datetime(2000, 2, 29, 0, 0, 0, 5, tzinfo=UTC),
    ]),
    "span": (pa.duration("s"), [datetime.timedelta(-1), datetime.timedelta(1)]),
    "null": (pa.null(), [None]),
}  # fmt: skip
NUMERIC = ["int8", "int64", "uint64", "half", "float", "double", "decimal", "wide"]


def stored(table: pa.Table) -> StoredDocuments:
    """Stored columns, in groups of three rows."""
    groups: list[bytes] = []
    writer = DocumentWriter(lambda group: groups.append(bytes(group)), table.schema)
    for start in range(0, table.num_rows, 3):
        writer.append(table.slice(start, 3))
        writer.end_group()
    raw = b"".join(groups)

    def read(starts: list[int], stops: list[int]) -> list[bytes]:
        return [raw[start:stop] for start, stop in zip(starts, stops, strict=True)]

    return open_documents("f", read, schema_bytes(table.schema), writer.rows, writer.sizes)


def load(parts: list[list[Any]], kind: pa.DataType, path: str = "c") -> ColumnValues:
    """A column of files with these rows. Those with null alone have the null type, as segments
    may."""
    schema = pa.schema([("other", pa.string()), ("c", kind)])
    readers = []
    for part in parts:
        own = pa.null() if all(value is None for value in part) else kind
        table = pa.table(
            [pa.array(["x"] * len(part)), pa.array(part, own)],
            schema=pa.schema([("other", pa.string()), ("c", own)]),
        )
        readers.append(stored(table))
    return load_column([*readers, None], schema, path, numbered)


def parts_of(name: str, lists: bool = False) -> st.SearchStrategy[list[list[Any]]]:
    value = st.one_of(st.none(), st.sampled_from(VALUES[name][1]))
    if lists:
        value = st.one_of(st.none(), st.lists(value, max_size=4))
    return st.lists(st.lists(value, max_size=9), max_size=3)


@st.composite
def cases(draw: st.DrawFn, names: list[str], lists: bool) -> tuple[str, list[list[Any]]]:
    name = draw(st.sampled_from(names))
    return name, draw(parts_of(name, lists))


def ascending(found: ColumnValues) -> list[Any]:
    """The distinct values, which ascend."""
    values: list[Any] = found.values.to_pylist()
    for one, other in pairwise(values):
        assert naive.comparison(one, other) < 0
    return values


@settings(deadline=None, max_examples=200)
@given(cases(list(VALUES), lists=False))
def test_codes_are_places_among_the_distinct_values(case: tuple[str, list[list[Any]]]) -> None:
    name, parts = case
    kind = VALUES[name][0]
    found = load(parts, kind)
    rows = [value for part in parts for value in part]
    values = ascending(found)
    assert found.offsets is None
    assert found.kind == kind
    assert len(found.codes) == len(rows)
    for value, code in zip(rows, found.codes.tolist(), strict=True):
        assert naive.same(value, None if code < 0 else values[code])
    assert {*found.codes.tolist()} - {-1} == {*range(len(values))}
    assert found.nbytes >= 4 * len(rows)


@settings(deadline=None, max_examples=100)
@given(cases(list(VALUES), lists=True))
def test_lists_have_each_distinct_element_once(case: tuple[str, list[list[Any]]]) -> None:
    name, parts = case
    found = load(parts, pa.list_(VALUES[name][0]))
    rows = [value for part in parts for value in part]
    values = ascending(found)
    assert found.offsets is not None
    ends = found.offsets.tolist()
    assert len(ends) == len(rows) + 1
    assert ends[-1] == len(found.codes)
    for row, (start, stop) in zip(rows, pairwise(ends), strict=True):
        own = [values[code] for code in found.codes[start:stop].tolist()]
        expected = sorted(naive.distinct(row or []), key=naive.rank)
        assert len(own) == len(expected)
        assert all(map(naive.same, own, expected))


@settings(deadline=None, max_examples=150)
@given(
    cases([*NUMERIC, "double"], lists=False),
    st.sampled_from(["1", "10", "0.1", "0.25", "1000", "1e-9", "3e17", "1e300"]),
)
def test_intervals_of_numbers(case: tuple[str, list[list[Any]]], text: str) -> None:
    """Each finite number has the bin of its multiple; edges of floats are the nearest floats."""
    name, parts = case
    found = load(parts, VALUES[name][0])
    width = Fraction(text)
    labels, bins = interval_bins(found, Decimal(text))
    values = ascending(found)
    assert len(bins) == len(values)
    assert sorted({*bins.tolist()} - {len(labels)}) == [*range(len(labels))]
    rounded = {"half": np.float16, "float": np.float32, "double": np.float64}.get(name)
    for value, number in zip(values, bins.tolist(), strict=True):
        if isinstance(value, float) and not abs(value) < INF:
            assert number == len(labels)
            continue
        low, high = labels[number]
        if rounded is None:
            bottom = Fraction(value) // width * width
            assert (low, high) == pytest.approx((float(bottom), float(bottom + width)))
        elif abs(value) < 256 * width > 1e-5:  # with edges that the type can tell apart
            with np.errstate(over="ignore"):
                assert rounded(low) <= value < rounded(high)
            assert low == pytest.approx(round(low / float(width)) * float(width))


def test_an_interval_of_tenths_has_the_edges_that_are_written() -> None:
    found = load([[0.1, 0.2, 0.3, 0.7, 0.30000000000000004, 0.29999]], pa.float64())
    labels, bins = interval_bins(found, Decimal("0.1"))
    assert labels == [(0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.7, 0.8)]
    assert bins.tolist() == [0, 1, 1, 2, 2, 3]
    labels, _ = interval_bins(load([[2**64 - 1]], pa.uint64()), Decimal(10))
    assert labels == [(2**64 - 6, float(2**64 + 4))]


@settings(deadline=None)
@given(parts_of("moment"), st.sampled_from(["year", "month", "day"]))
def test_units_of_the_calendar(parts: list[list[Any]], unit: str) -> None:
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.date32(), pa.date64()):
        is_date = pa.types.is_date(kind)
        own = [[v and (v.date() if is_date else v) for v in part] for part in parts]
        found = load(own, kind)
        labels, bins = interval_bins(found, unit)
        expected = naive.calendar_counts([v for part in own for v in part], unit)
        assert labels == list(expected)
        texts = [value.isoformat() for value in found.values.cast(pa.timestamp("us")).to_pylist()]
        assert [labels[number] for number in bins.tolist()] == [
            text[: len(labels[0])] for text in texts
        ]


EDGES = {
    "int8": ["-1", "0.5", "100"],
    "uint64": ["-5", "1", "18446744073709551615", "1e30"],
    "double": ["-Infinity", "0", "0.3", "Infinity"],
    "float": ["0", "1.5", "1e40"],
    "decimal": ["-1.1", "0.001", "1e20"],
    "int64": ["-Infinity", "-0.5", "9007199254740993", "Infinity"],
}


@settings(deadline=None)
@given(st.sampled_from(sorted(EDGES)).flatmap(lambda n: st.tuples(st.just(n), parts_of(n))))
def test_ranges_of_numbers(case: tuple[str, list[list[Any]]]) -> None:
    name, parts = case
    found = load(parts, VALUES[name][0])
    edges = [Decimal(text) for text in EDGES[name]]
    labels, bins = range_bins(found, edges)
    assert len(labels) == len(edges) - 1
    assert all(float(low) == float(edge) for (low, _), edge in zip(labels, edges, strict=False))
    exact = [float(edge) if name in ("double", "float") else edge for edge in edges]
    for value, number in zip(ascending(found), bins.tolist(), strict=True):
        counts, other = naive.range_counts([value], exact)
        assert [*counts, other][number] == 1


def test_ranges_of_dates_and_times() -> None:
    days = load([VALUES["date"][1]], pa.date32())
    labels, bins = range_bins(days, ["1969-12-31T12:00:00", "2000-02-29", "2001-01-01"])
    assert labels == [("1969-12-31T12:00:00", "2000-02-29"), ("2000-02-29", "2001-01-01")]
    assert bins.tolist() == [2, 1]
    moments = load([VALUES["moment"][1]], pa.timestamp("us", "UTC"))
    assert range_bins(moments, ["1970-01-01T00:59:59+01:00", "2000-02-29"])[1].tolist() == [0, 1, 1]
    times = load([VALUES["time"][1]], pa.time32("s"))
    assert range_bins(times, ["00:00", "12:00", "23:59:59"])[1].tolist() == [0, 2]


def test_long_lists_have_each_distinct_element_once() -> None:
    rng = np.random.default_rng(1)
    rows: list[Any] = [rng.integers(0, 50, n).tolist() for n in (0, 31, 32, 33, 200, 5000, 1)]
    rows[4][::7] = [None] * len(rows[4][::7])
    rows[2:2] = [None, [None] * 100]
    found = load([rows[:4], rows[4:]], pa.list_(pa.int64()))
    values = found.values.to_pylist()
    assert found.offsets is not None
    for row, start, stop in zip(rows, found.offsets, found.offsets[1:], strict=False):
        own = [values[code] for code in found.codes[start:stop]]
        assert own == sorted({value for value in row or [] if value is not None})


def test_lists_whose_offsets_descend_are_an_error() -> None:
    """As of a damaged file: no kernel may read elsewhere."""
    ends = pa.py_buffer(np.array([0, 3, 1, 4], np.int32))
    damaged = pa.Array.from_buffers(
        pa.list_(pa.int64()), 3, [None, ends], children=[pa.array([1, 2, 3, 4])]
    )
    with pytest.raises(RowError, match="its offsets descend"):
        list_offsets(damaged)


def test_fields_of_structs() -> None:
    kind = pa.struct([("year", pa.int16()), ("name", pa.string())])
    parts: list[list[Any]] = [[{"year": 5, "name": None}, None], [None], [{"year": 3, "name": "x"}]]
    found = load(parts, kind, "c.year")
    assert found.values.to_pylist() == [3, 5]
    assert found.codes.tolist() == [1, -1, -1, 0]
    assert load(parts, kind, "c.name").results([0]) == ["x"]


def test_strings_that_are_not_utf8() -> None:
    raw = pa.array([b"\xff", b"a", b"\xfe"]).cast(pa.large_binary())
    column = ColumnValues(
        "c", pa.string(), raw.cast(pa.large_string(), safe=False), np.empty(0, np.int32), None
    )
    with pytest.raises(pa.ArrowInvalid):
        column.values.validate(full=True)
    assert column.results([0, 1]) == ["\ufffd", "a"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.struct([("a", pa.int8())]), {"a": 1}),
        (pa.map_(pa.string(), pa.int8()), [("a", 1)]),
        (pa.list_(pa.list_(pa.int8())), [[1]]),
        (pa.month_day_nano_interval(), (1, 2, 3)),
    ],
)
def test_types_without_an_order(kind: pa.DataType, value: Any) -> None:
    with pytest.raises(DataError, match=r"the column 'c' is .*; expected numbers, strings"):
        load([[value]], kind)
    with pytest.raises(DataError, match="no stored column 'd'; stored are: other, c"):
        load([[value]], kind, "d")


def test_bins_of_other_types_are_errors() -> None:
    text, numbers = load([["a"]], pa.string()), load([[1]], pa.int8())
    days = load([VALUES["date"][1]], pa.date32())
    for column, interval, message in (
        (text, Decimal(1), "'c' is string; the width of an interval requires numbers"),
        (days, Decimal(1), r"'c' is date32\[day\]; the width of an interval requires numbers"),
        (numbers, "year", "'c' is int8; the interval year requires dates or timestamps"),
    ):
        with pytest.raises(DataError, match=f"facet: the column {message}"):
            interval_bins(column, interval)
    for column, edges, message in (
        (text, ["a", "b"], "'c' is string; ranges require numbers, dates or times"),
        (numbers, ["a", "b"], "'c' is int8; 'a' is no number"),
        (days, [Decimal(1), Decimal(2)], r"'c' is date32\[day\]; 1 is no date or time"),
        (days, ["2000-01-01", "x"], r"'c' is date32\[day\] and is compared with 'x'; expected a"),
    ):
        with pytest.raises(DataError, match=f"the column {message}"):
            range_bins(column, edges)
    for column, edges in (
        (numbers, [Decimal(2), Decimal(2)]),
        (days, ["2000-01-02", "2000-01-01T23:00:00"]),
    ):
        with pytest.raises(
            SettingsError, match=r"facet: the edges .* of the column 'c' do not asc"
        ):
            range_bins(column, edges)
    many = load([list(range(100)), [1e9]], pa.float64())
    assert len(interval_bins(many, Decimal("0.5"))[0]) == 101
    wide = load([list(range(10_001))], pa.int32())
    with pytest.raises(SettingsError, match="facet: an interval of 1 makes more than 10,000 bins"):
        interval_bins(wide, Decimal(1))


@pytest.mark.parametrize("lists", [False, True])
def test_descending_offsets_are_damage_of_a_file(lists: bool) -> None:
    offsets = pa.py_buffer(np.array([0, 3, 1, 4], np.int32))
    if lists:
        kind, children = pa.list_(pa.int64()), [pa.array([1, 2, 3, 4])]
        column = pa.Array.from_buffers(kind, 3, [None, offsets], children=children)
    else:
        column = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abcd")])

    class Damaged(GroupedDocuments):
        def _read(self, groups: Any, names: list[str]) -> pa.Table:
            return pa.table({"c": column})

    schema = pa.schema([("c", column.type)])
    with pytest.raises(FormatError, match=r"^the file: damaged: .* offsets descend"):
        load_column([Damaged("the file", schema, [3], 10)], schema, "c", numbered)
