"""Conversion of Arrow arrays to plain types, also inside of lists, maps and structs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fastseq.errors import RowError
from fastseq.store.arrays import joined, plain, plain_type, text_lengths

STRINGS = ["a", None, "bcd", "e", "e", "xyz"]
MASK = pa.array([False, True, False])


def dictionary(values: list[str | None], kind: pa.DataType) -> pa.Array:
    codes = pa.array(values).dictionary_encode()
    return pa.DictionaryArray.from_arrays(codes.indices, codes.dictionary.cast(kind))


ENCODED = {
    "string": pa.array(STRINGS),
    "large_string": pa.array(STRINGS, pa.large_string()),
    "string_view": pa.array(STRINGS, pa.string_view()),
    "dictionary": dictionary(STRINGS, pa.string()),
    "dictionary of views": dictionary(STRINGS, pa.string_view()),
    "runs": pc.run_end_encode(pa.array(STRINGS)),
}


def int32(*values: int | None) -> pa.Array:
    return pa.array(values, pa.int32())


def nested(strings: pa.Array) -> dict[pa.DataType, pa.Array]:
    """The strings in each kind of nested type, by its plain type."""
    string, names = pa.string(), pa.array(list("abcdef"))
    large = pa.array([0, 2, 2, 6], pa.int64())
    struct = pa.StructArray.from_arrays([strings], ["q"])
    lists = {
        pa.list_(string): [
            pa.ListArray.from_arrays(int32(0, 2, 2, 6), strings, mask=MASK),
            pa.LargeListArray.from_arrays(large, strings, mask=MASK),
            pa.ListViewArray.from_arrays(int32(2, 0, 0), int32(4, 0, 2), strings),
        ],
        pa.list_(string, 2): [pa.FixedSizeListArray.from_arrays(strings, 2, mask=MASK)],
        pa.map_(string, string): [
            pa.MapArray.from_arrays(int32(0, 2, None, 6), names, strings),
        ],
        pa.struct([("q", string)]): [
            pa.StructArray.from_arrays([strings], ["q"], mask=pa.array([False, True] * 3))
        ],
        pa.list_(pa.struct([("q", string)])): [pa.LargeListArray.from_arrays(large, struct)],
    }
    return {array.type: (kind, array) for kind, arrays in lists.items() for array in arrays}


@pytest.mark.parametrize("encoding", ENCODED)
def test_nested_types_become_plain(encoding: str) -> None:
    references = [array for _, array in nested(ENCODED["string"]).values()]
    for (kind, array), reference in zip(
        nested(ENCODED[encoding]).values(), references, strict=True
    ):
        for start, stop in ((0, None), (1, None), (1, 2), (2, 3), (1, 1)):
            sliced = array[start:stop]
            found = plain(sliced, plain_type(sliced.type))
            found.validate(full=True)
            assert found.type == kind
            assert found.to_pylist() == reference[start:stop].to_pylist()


@pytest.mark.parametrize("encoding", ENCODED)
def test_lengths_of_encoded_texts(encoding: str) -> None:
    array = ENCODED[encoding]
    assert text_lengths(array)[[0, 2, 3, 5]].tolist() == [1, 3, 1, 3]
    assert text_lengths(array[2:4]).tolist() == [3, 1]
    lists = pa.LargeListArray.from_arrays(pa.array([0, 1, 3, 6]), array)
    plain_lists = plain(lists, plain_type(lists.type))
    assert text_lengths(lists)[[0, 2]].tolist() == [1, 7]
    assert joined(plain_lists).to_pylist() == ["a", " bcd", "e e xyz"]


def test_fields_that_must_not_be_null_are_those_that_may() -> None:
    strict = pa.struct([pa.field("a", pa.list_(pa.field("item", pa.string(), False)), False)])
    assert plain_type(strict) == pa.struct([("a", pa.list_(pa.string()))])
    array = pa.array([{"a": ["x"]}]).cast(strict)
    assert plain(array, plain_type(strict)).to_pylist() == [{"a": ["x"]}]


def test_nulls_and_missing_fields_become_those_of_another_type() -> None:
    kind = pa.struct([("b", pa.list_(pa.string())), ("a", pa.int64())])
    array = pa.array([{"b": []}, None], pa.struct([("b", pa.list_(pa.null()))]))
    assert plain(array, kind).to_pylist() == [{"b": [], "a": None}, None]
    assert plain(pa.nulls(2), kind) == pa.nulls(2, kind)


@pytest.mark.parametrize(
    ("values", "of", "kind", "row"),
    [
        ([1, 2, 300], pa.int64(), pa.int8(), 2),
        ([0.5, 0.1], pa.float64(), pa.float32(), 1),
        ([0, 86_400_000, 1], pa.date64(), pa.date32(), 2),
        ([[1], [], None, [2, 300]], pa.large_list(pa.int64()), pa.list_(pa.int8()), 3),
        ([[1, 2], None, [3, 300]], pa.list_(pa.int64(), 2), pa.list_(pa.int8(), 2), 2),
        ([{"a": 1}, {"a": 300}], pa.struct([("a", pa.int16())]), pa.struct([("a", pa.int8())]), 1),
        ([[], [("a", 300)]], pa.map_("string", pa.int16()), pa.map_("string", pa.int8()), 1),
    ],
)
def test_values_that_do_not_fit_are_errors_with_their_row(
    values: list[Any], of: pa.DataType, kind: pa.DataType, row: int
) -> None:
    array = pa.array(values, of)
    with pytest.raises(RowError, match="does not fit") as error:
        plain(array, kind)
    assert error.value.row == row
    fitting = plain(array[:row], kind)
    assert fitting.type == kind
    assert len(fitting) == row


def test_floats_that_narrower_floats_hold() -> None:
    array = pa.array([0.5, None, float("nan"), float("inf")])
    found = plain(array, pa.float32())
    assert found.type == pa.float32()
    assert str(found.to_pylist()) == "[0.5, None, nan, inf]"
