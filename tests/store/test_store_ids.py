"""Ids of every type: their form in results, hashes, duplicates, ids that a user gives."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Index
from fastseq.errors import DataError, RowError
from fastseq.store.ids import (
    find_duplicate_ids,
    given_names,
    id_array,
    id_hashes,
    id_list,
    id_type,
    ids_like,
    plain_ids,
    refuse_duplicate_ids,
    result_ids,
    result_values,
)
from fastseq.store.rows import Corpus
from fastseq.store.runs import read_queries, read_run

UUIDS = [uuid.UUID(int=n << 64 | 7) for n in range(1, 4)]
UTC = dt.UTC
MIDNIGHT = dt.datetime(2020, 1, 2, tzinfo=UTC)
EPOCH = "1970-01-01T00:00"
LONG = "a long one, not inline"
# an array for each type -> the same ids as results show them
IDS: list[tuple[pa.Array, list[Any]]] = [
    (pa.array(["a", "", "猫"]), ["a", "", "猫"]),
    (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    (pa.array(["a", "b", LONG], pa.string_view()), ["a", "b", LONG]),
    (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
    (pa.array([1, -2], pa.int8()), [1, -2]),
    (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
    (pa.array([3.0, -0.0, 2.0**53]), [3, 0, 2**53]),
    (pa.array(np.array([3.0, 4.0], np.float16)), [3, 4]),
    (pa.array([Decimal("1.50"), Decimal("-0.01")], pa.decimal128(5, 2)), ["1.50", "-0.01"]),
    (pa.array([Decimal("1.50"), Decimal("0.00")], pa.decimal32(5, 2)), ["1.50", "0.00"]),
    (pa.array([Decimal("0.00000001")], pa.decimal64(9, 8)), ["0.00000001"]),
    (pa.array([Decimal(10**60), Decimal(-1)], pa.decimal256(70, 0)), [str(10**60), "-1"]),
    (pa.array([u.bytes for u in UUIDS], pa.uuid()), list(map(str, UUIDS))),
    (pa.array([u.bytes for u in UUIDS], pa.binary(16)), list(map(str, UUIDS))),
    (pa.array([b"\x00\x01", b"\xff\xfe"], pa.binary(2)), ["0001", "fffe"]),
    (pa.array([b"", b"\xff"], pa.binary()), ["", "ff"]),
    (pa.array([b"\x01", b"\x02"], pa.large_binary()), ["01", "02"]),
    (pa.array([dt.date(2020, 1, 31), dt.date(1969, 12, 31)]), ["2020-01-31", "1969-12-31"]),
    (pa.array([dt.date(2020, 1, 31)], pa.date64()), ["2020-01-31"]),
    (pa.array([10_000_000], pa.int32()).cast(pa.date32()), ["29349-01-26"]),
    (pa.array([0, -1], pa.timestamp("s")), ["1970-01-01T00:00:00", "1969-12-31T23:59:59"]),
    (pa.array([1500, -1], pa.timestamp("ms")), [f"{EPOCH}:01.5", "1969-12-31T23:59:59.999"]),
    (pa.array([1], pa.timestamp("ns", "Europe/Paris")), ["1970-01-01T00:00:00.000000001Z"]),
    (pa.array([1_000_000], pa.timestamp("us", "UTC")), ["1970-01-01T00:00:01Z"]),
    (pa.array([86_399, 60], pa.time32("s")), ["23:59:59", "00:01:00"]),
    (pa.array([1], pa.time64("ns")), ["00:00:00.000000001"]),
    (pa.array([90, -90], pa.duration("s")), ["PT90S", "-PT90S"]),
    (pa.array([-1500, -500, 500], pa.duration("ms")), ["-PT1.5S", "-PT0.5S", "PT0.5S"]),
]  # fmt: skip
NAMES = [str(array.type) for array, _ in IDS]


# ---- the form of ids in results


@pytest.mark.parametrize(("array", "wanted"), IDS, ids=NAMES)
def test_form_in_results(array: pa.Array, wanted: list[Any]) -> None:
    assert id_list(array) == wanted
    assert id_list(pa.chunked_array([array.slice(0, 1), array.slice(1)])) == wanted
    assert id_array(array).to_pylist() == wanted
    assert result_ids(array.slice(0, 0)).to_pylist() == []
    missing = pa.concat_arrays([array, pa.nulls(1, array.type), array.slice(1)])
    assert result_ids(missing).to_pylist() == [*wanted, None, *wanted[1:]]


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), 1e19])
def test_float_that_is_not_whole(value: float) -> None:
    with pytest.raises(RowError, match=r"row 1 \(from 0\): the id is .*expected a whole number"):
        plain_ids(pa.array([1.0, value]))


@pytest.mark.parametrize(("array", "wanted"), IDS, ids=NAMES)
def test_index_of_every_type(array: pa.Array, wanted: list[Any], tmp_path: Path) -> None:
    table = pa.table({"id": array, "text": ["word"] * len(array)})
    path = tmp_path / "docs.parquet"
    try:
        pq.write_table(table, path)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        pytest.skip("not a type of Parquet")
    for source in (table, path):
        index = Index.build(source, tmp_path / "index", overwrite=True, threads=1)
        hits = index.search("word")
        assert hits.ids == [wanted]
        assert [hit["id"] for hit in hits.to_dicts()] == wanted
        assert hits.to_table()["doc_id"].to_pylist() == wanted
        assert set(hits.fields()[0]) == {"id", "text"}
    twice = pa.concat_tables([table, table.slice(0, 1)])
    with pytest.raises(DataError, match="duplicate ids") as error:
        Index.build(twice, tmp_path / "other", threads=1)
    assert f"{wanted[0]!r} (rows 0, {len(wanted)})" in str(error.value)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (pa.array([1.0, 2.5]), r"row 1 \(from 0\): column 'id': the id is 2\.5, expected a whole"),
        (pa.array([1.0, float("nan")]), r"row 1 .*the id is nan"),
        (pa.array([1.0, None]), r"row 1 .*the id in column 'id' is null"),
        (pa.array([b"x", None], pa.binary(1)), r"row 1 .*is null"),
        (pa.array([True, False]), "the id column 'id' is bool, expected strings, numbers, dates"),
        (pa.array([["a"], ["b"]]), "the id column 'id' is list<"),
        (pa.nulls(2), r"row 0 .*is null"),
    ],
)
def test_bad_ids_name_file_and_row(array: pa.Array, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "docs.parquet"
    pq.write_table(pa.table({"id": array, "text": ["x"] * 2}), path)
    with pytest.raises(DataError, match=problem) as error:
        list(Corpus.open(path).batches())
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_floats_and_integers_of_several_files(tmp_path: Path) -> None:
    for name, ids in {"a": pa.array([2**60], pa.int64()), "b": pa.array([7.0])}.items():
        pq.write_table(pa.table({"id": ids, "text": [name]}), tmp_path / f"{name}.parquet")
    batches = list(Corpus.open(tmp_path).batches())
    assert [i for batch in batches for i in batch.ids.to_pylist()] == [2**60, 7]


def test_ids_of_queries_and_runs(tmp_path: Path) -> None:
    ids = pa.array([u.bytes for u in UUIDS], pa.uuid())
    queries, run = tmp_path / "queries.parquet", tmp_path / "run.parquet"
    pq.write_table(pa.table({"query_id": ids, "text": ["a", "b", "c"]}), queries)
    assert read_queries(queries) == (list(map(str, UUIDS)), ["a", "b", "c"])
    days = pa.array([dt.date(2020, 1, n) for n in (1, 2, 3)])
    pq.write_table(pa.table({"query_id": ids, "doc_id": days, "score": [1.0, 2.0, 3.0]}), run)
    assert read_run(run)[str(UUIDS[1])] == {"2020-01-02": 2.0}
    pq.write_table(pa.table({"query_id": [1.0, 2.5], "text": ["a", "b"]}), queries)
    with pytest.raises(DataError, match=r"queries\.parquet: the query id, row 1 .*2\.5"):
        read_queries(queries)


# ---- hashes


@pytest.mark.parametrize(("array", "wanted"), IDS, ids=NAMES)
def test_hashes_of_every_type(array: pa.Array, wanted: list[Any]) -> None:
    hashes = id_hashes(array)
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == len(array)
    np.testing.assert_array_equal(id_hashes(array.slice(1)), hashes[1:])
    assert len(id_hashes(array.slice(0, 0))) == 0


SAME = [
    [pa.array([7, 100], kind) for kind in (pa.int8(), pa.uint16(), pa.int64(), pa.float32())],
    [pa.array(["a", LONG], t) for t in (pa.string(), pa.large_string(), pa.string_view())]
    + [pa.array(["a", LONG]).dictionary_encode()],
    [pa.array([u.bytes for u in UUIDS], kind) for kind in (pa.uuid(), pa.binary(16), pa.binary())],
    [
        pa.array([Decimal("1.50"), Decimal("-7.25")], kind(9, 2))
        for kind in (pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256)
    ],
    [pa.array([dt.date(1950, 3, 1), dt.date.max], t) for t in (pa.date32(), pa.date64())],
    [
        pa.array([dt.datetime(1950, 3, 1), dt.datetime(2020, 1, 2)], pa.timestamp(unit))
        for unit in ("s", "ms", "us", "ns")
    ],
    [pa.array([5, 60], pa.time32("s")).cast(kind) for kind in (pa.time32("ms"), pa.time64("ns"))],
    [pa.array([-5, 60], pa.duration("s")).cast(pa.duration(unit)) for unit in ("s", "ms", "ns")],
]  # fmt: skip


@pytest.mark.parametrize("arrays", SAME, ids=lambda arrays: str(arrays[0].type))
def test_equal_ids_of_any_width_have_equal_hashes(arrays: list[pa.Array]) -> None:
    for array in arrays[1:]:
        np.testing.assert_array_equal(id_hashes(array), id_hashes(arrays[0]), str(array.type))


def test_hashes_of_equal_ids_are_equal() -> None:
    words = ["a", "", "猫", "a" * 7, "a" * 8, "a" * 9, "a" * 100, "0" * 16, "0" * 17]
    array = pa.array(words)
    hashes = id_hashes(array)
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == len(words)
    for kind in (pa.large_string(), pa.binary()):
        np.testing.assert_array_equal(id_hashes(array.cast(kind)), hashes)
    np.testing.assert_array_equal(id_hashes(array.slice(2, 4)), hashes[2:6])
    assert len(id_hashes(array.slice(0, 0))) == 0


def test_integers_never_collide() -> None:
    values = np.r_[np.arange(100_000), -np.arange(1, 1000), [2**63 - 1, -(2**63)]].astype(np.int64)
    hashes = id_hashes(pa.array(values))
    assert len(np.unique(hashes)) == len(values)
    small = id_hashes(pa.array([1, 2, 3], pa.int16()))
    np.testing.assert_array_equal(small, id_hashes(pa.array([1, 2, 3], pa.int64())))


@given(st.lists(st.text("ab", max_size=3), max_size=40), st.booleans())
@settings(max_examples=100, deadline=None)
def test_duplicates_are_found_and_collisions_are_not_duplicates(
    ids: list[str], collide: bool
) -> None:
    hashes = id_hashes(pa.array(ids, pa.string()))
    if collide:
        hashes &= np.uint64(3)
    places = defaultdict(list)
    for row, value in enumerate(ids):
        places[value].append(row)
    wanted = [(value, rows) for value, rows in places.items() if len(rows) > 1]
    found = find_duplicate_ids(hashes, lambda rows: [ids[r] for r in rows], most=1000)
    if not collide:
        assert found == wanted
    assert sorted(found) == sorted(wanted)


def test_candidates_are_compared_a_thousand_rows_at_a_time() -> None:
    hashes = np.repeat(np.arange(30_000, dtype=np.uint64), 2)
    asked: list[int] = []

    def ids_of(rows: np.ndarray) -> list[int]:
        asked.append(len(rows))
        return [int(row) if row < 55_000 else int(row) // 2 for row in rows]

    found = find_duplicate_ids(hashes, ids_of, most=3)
    assert found == [(r // 2, [r, r + 1]) for r in (55_000, 55_002, 55_004)]
    assert max(asked) <= 1001


def test_the_error_names_the_first_few() -> None:
    ids = ["a", "b", "a", "c", "c", "c", "c"]
    hashes = id_hashes(pa.array(ids))
    with pytest.raises(DataError) as error:
        refuse_duplicate_ids(hashes, lambda rows: [ids[r] for r in rows], "docs.parquet")
    assert str(error.value) == (
        "docs.parquet: duplicate ids: 'a' (rows 0, 2), 'c' (rows 3, 4, 5, …); "
        "expected one row for each id"
    )
    refuse_duplicate_ids(id_hashes(pa.array(["a", "b"])), lambda rows: [], "docs.parquet")


# ---- ids that a user gives


@pytest.mark.parametrize(("array", "wanted"), IDS, ids=NAMES)
def test_given_ids_have_the_type_of_the_index(array: pa.Array, wanted: list[Any]) -> None:
    expected = plain_ids(array)
    assert expected.type == id_type(array.type)
    for form in (
        array,
        pa.chunked_array([array]),
        wanted,
        id_array(wanted),
        json.loads(json.dumps(wanted)),
    ):
        found = ids_like(form, array.type)
        found.validate(full=True)
        assert found.equals(expected)
    if not pa.types.is_string(expected.type):
        assert ids_like(list(map(str, wanted)), array.type).equals(expected)
    assert ids_like([], array.type).type == expected.type
    np.testing.assert_array_equal(id_hashes(ids_like(wanted, array.type)), id_hashes(array))


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (np.array([1, 2], np.uint8), pa.int64(), [1, 2]),
        ([1.0, Decimal(2)], pa.int32(), [1, 2]),
        (np.array(["a", "b"]), pa.string(), ["a", "b"]),
        (np.array(["a"], object), pa.string(), ["a"]),
        ((str(i) for i in range(2)), pa.int64(), [0, 1]),
        (UUIDS[:1], pa.uuid(), [UUIDS[0].bytes]),
        ([UUIDS[0].hex], pa.binary(16), [UUIDS[0].bytes]),
        ([7, "7.50", Decimal("7.250")], pa.decimal128(5, 2),
          [Decimal(7), Decimal("7.5"), Decimal("7.25")]),
        ([dt.date(2020, 1, 2)], pa.date64(), [dt.date(2020, 1, 2)]),
        (np.array(["2020-01-02"], "datetime64[D]"), pa.date32(), [dt.date(2020, 1, 2)]),
        (np.array([1], "datetime64[ns]"), pa.timestamp("ns"), pa.array([1], pa.timestamp("ns"))),
        (np.array([90], "timedelta64[s]"), pa.duration("ms"), [dt.timedelta(seconds=90)]),
        ([dt.timedelta(microseconds=-1)], pa.duration("us"), [dt.timedelta(microseconds=-1)]),
        ([dt.datetime(2020, 1, 2, 3, 4, 5)], pa.timestamp("s"), [dt.datetime(2020, 1, 2, 3, 4, 5)]),
        (["2020-01-02 03:04"], pa.timestamp("us"), [dt.datetime(2020, 1, 2, 3, 4)]),
        (["2020-01-02T02:00+02:00"], pa.timestamp("s", "UTC"), [MIDNIGHT]),
        ([MIDNIGHT], pa.timestamp("s", "UTC"), [MIDNIGHT]),
        ([dt.time(1, 2, 3, 4)], pa.time64("us"), [dt.time(1, 2, 3, 4)]),
        (pa.array([MIDNIGHT], pa.timestamp("s", "UTC")), pa.timestamp("ms", "UTC"), [MIDNIGHT]),
        (pa.array([7, 8], pa.int8()), pa.decimal128(5, 1), [Decimal(7), Decimal(8)]),
    ],
)  # fmt: skip
def test_given_ids_of_other_forms(values: Any, kind: pa.DataType, wanted: Any) -> None:
    expected = wanted if isinstance(wanted, pa.Array) else pa.array(wanted, id_type(kind))
    assert ids_like(values, kind).equals(expected)


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        ([300, 7], pa.int8(), [None, 7]),
        ([-1, "9" * 5000], pa.uint8(), [None, None]),
        (np.array([300, 7]), pa.int8(), [None, 7]),
        (pa.chunked_array([[7], [2**63]], pa.uint64()), pa.int64(), [7, None]),
        (["9999999-01-01", "1970-01-02"], pa.timestamp("ns"), [None, dt.datetime(1970, 1, 2)]),
        (["99999999-01-01", "1970-01-02"], pa.date32(), [None, dt.date(1970, 1, 2)]),
    ],
)
def test_ids_out_of_range_are_null(values: Any, kind: pa.DataType, wanted: Any) -> None:
    found = ids_like(values, kind)
    found.validate(full=True)
    assert found.equals(pa.array(wanted, kind))
    names = given_names(values, found)
    assert None not in names
    shown = zip(names, id_list(found), strict=True)
    assert all(name == id for name, id in shown if id is not None)


@pytest.mark.parametrize(
    ("values", "kind", "problem"),
    [
        ([7], pa.string(), r"the id 7 \(int\) is of another type: expected strings"),
        (["a", None], pa.string(), "the id None"),
        (["x7"], pa.int64(), r"the id 'x7' \(str\) is of another type: expected integers"),
        (["007"], pa.int64(), "'007'"),
        ([True], pa.int64(), "True"),
        ([1.5], pa.int64(), "1.5"),
        ([None], pa.int64(), "None"),
        (pa.array([1, None]), pa.int64(), "None"),
        (["no"], pa.uuid(), r"expected fixed_size_binary.*such as '00000000-0000-0000-0000-0"),
        ([b"abc"], pa.binary(2), "abc"),
        (["xy"], pa.binary(), "expected binary, such as '01ff'"),
        (["1.555"], pa.decimal128(5, 2), "expected decimal128.*such as '0.00'"),
        (["12345.00"], pa.decimal128(5, 2), "12345"),
        (["2020-02-30"], pa.date32(), "expected date32.*such as '1970-01-01'"),
        ([dt.datetime(2020, 1, 1, 1)], pa.date32(), "datetime"),
        (["2020-01-01"], pa.timestamp("s", "UTC"), "such as '1970-01-01T00:00:00Z'"),
        (["2020-01-01T00:00:00Z"], pa.timestamp("s"), "such as '1970-01-01T00:00:00'"),
        (["2020-01-01T00:00:00.5"], pa.timestamp("s"), "00.5"),
        (["25:00:00"], pa.time32("s"), "such as '00:00:00'"),
        (["90"], pa.duration("s"), "such as 'PT0S'"),
        (pa.array([[1]]), pa.int64(), r"ids of type list<.*>, expected integers \(int64\)$"),
        ("abc", pa.string(), "ids of type str, expected a list"),
        (5, pa.int64(), "ids of type int, expected a list"),
        ([True], pa.bool_(), "ids of type bool"),
    ],
)  # fmt: skip
def test_ids_of_another_type_are_named(values: Any, kind: pa.DataType, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as error:
        ids_like(values, kind)
    assert "\n" not in str(error.value)


_NAIVE = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 1, 1))
PROPERTY = [
    (st.text(), pa.string()),
    (st.integers(-(2**31), 2**31 - 1), pa.int32()),
    (st.integers(0, 2**64 - 1), pa.uint64()),
    (st.decimals(-(10**6), 10**6, places=3), pa.decimal128(12, 3)),
    (st.binary(), pa.binary()),
    (st.binary(min_size=16, max_size=16), pa.binary(16)),
    (st.dates(), pa.date32()),
    (_NAIVE, pa.timestamp("us")),
    (_NAIVE.map(lambda value: value.replace(tzinfo=UTC)), pa.timestamp("us", "America/Lima")),
    (st.times(), pa.time64("us")),
    (st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)), pa.duration("us")),
]


@given(st.data(), st.sampled_from(PROPERTY))
@settings(max_examples=200, deadline=None)
def test_forms_and_values_are_read_as_the_same_ids(
    data: Any, case: tuple[st.SearchStrategy[Any], pa.DataType]
) -> None:
    values, kind = case
    given_values = data.draw(st.lists(values, max_size=8))
    array = pa.array(given_values, kind)
    assert ids_like(given_values, kind).equals(array)
    shown = id_list(array)
    assert ids_like(shown, kind).equals(array)
    assert len(set(shown)) == len(set(array.to_pylist())), "different ids differ in results"
    hashes = id_hashes(array).tolist()
    assert len(set(hashes)) == len(set(shown))


def test_values_of_lists_structs_and_maps_have_the_forms_of_ids() -> None:
    days = pa.array([[0, None], None, [], [1]], pa.list_(pa.date32()))
    expected = [["1970-01-01", None], None, [], ["1970-01-02"]]
    for kind in (pa.list_(pa.date32()), pa.large_list(pa.date32())):
        for start in range(4):
            assert result_values(days.cast(kind).slice(start)) == expected[start:]
    fixed = pa.array([[b"a", b"b"], None], pa.list_(pa.binary(), 2))
    assert result_values(fixed) == [["61", "62"], None]
    kind = pa.struct({"a": pa.binary(), "b": pa.struct({"c": pa.duration("s")})})
    structs = pa.array([{"a": b"x", "b": {"c": 0}}, None, {"a": None, "b": None}], kind)
    values = [{"a": "78", "b": {"c": "PT0S"}}, None, {"a": None, "b": None}]
    assert result_values(structs) == values
    assert result_values(structs.slice(1)) == values[1:]
    assert result_values(pa.array([{}, {}], pa.struct([]))) == [{}, {}]
    maps = pa.array([[("a", 1)], None, [("b", 2), ("c", None)]], pa.map_(pa.string(), pa.int32()))
    assert result_values(maps) == [[["a", 1]], None, [["b", 2], ["c", None]]]
    assert result_values(maps.slice(2)) == [[["b", 2], ["c", None]]]
    assert result_values(pa.array([True, None])) == [True, None]
    assert result_values(pa.array([1.5, 2.0])) == [1.5, 2.0]
    assert result_values(pa.array(["a", None, "a"]).dictionary_encode()) == ["a", None, "a"]
