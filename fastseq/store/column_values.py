"""A stored column of all documents as small integers, by which results are sorted, grouped and
counted.

Each document has the number of its value among the distinct values of the column in ascending
order, so comparing numbers compares values, and counting values is counting numbers. The order is

    numbers, decimals         by value; 0.0 and -0.0 are one value, and so are all NaN, the last
    booleans                  false, true
    dates, times, durations   by time
    strings, bytes            by bytes, which for strings is by code points
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastseq.errors import DataError, FormatError, RowError, quoted
from fastseq.kernels.search.columns import distinct_elements
from fastseq.store.arrays import (
    element_type,
    is_null,
    is_string,
    list_offsets,
    number_array,
    plain,
    plain_type,
    repaired,
    text_array,
    to_texts,
)
from fastseq.store.documents import StoredDocuments, reading_documents
from fastseq.store.ids import result_values
from fastseq.store.nested import column_at, field_at, no_column, top_level
from fastseq.types import Int32, Int64, Texts, offsets_of

_NULL = -1
_LONG = 32  # elements of a list


@dataclass(frozen=True, eq=False)
class ColumnValues:
    """A column of all rows.

    name     of the column, or the path of a field of a struct
    kind     its type
    values   the D distinct values, ascending, without null: an Arrow array
    codes    int32[rows]: row i has values[codes[i]], -1 for null. Of lists, int32[E]: the distinct
             elements of row i that are not null are codes[offsets[i]:offsets[i + 1]], ascending
    offsets  int64[rows + 1] of lists; None for other types
    """

    name: str
    kind: pa.DataType
    values: pa.Array
    codes: Int32
    offsets: Int64 | None

    @property
    def nbytes(self) -> int:
        """The memory of the arrays, in bytes."""
        offsets = 0 if self.offsets is None else self.offsets.nbytes
        return int(self.values.nbytes) + self.codes.nbytes + offsets

    def results(self, codes: npt.ArrayLike) -> list[Any]:
        """Some of the distinct values as results contain them (see store/ids.py)."""
        numbers = pa.array(np.asarray(codes, np.int64))
        kind = self.kind if self.offsets is None else element_type(self.kind)
        return result_values(repaired(plain(self.values.take(numbers), kind)))


# (the distinct ones of n strings or bytes, int32[n] the number of each among them)
Numbering = Callable[[Texts], tuple[Texts, Int32]]


def load_column(
    documents: Sequence[StoredDocuments | None], schema: pa.Schema, name: str, number: Numbering
) -> ColumnValues:
    """A column of the rows of several files, one after the other.

    documents : None for a file without columns
    schema : of the index, which may have types where that of a file has null
    name : of a column, or the path of a field
    number : numbers strings

    Raises DataError where there is no such column, or its type has no order; FormatError for a
    damaged file.
    """
    field = field_at(schema, name)
    if field is None:
        raise no_column(schema, name)
    kind = plain_type(field.type)
    element = element_type(kind)
    if not _is_ordered(kind if element is None else element):
        raise DataError(
            f"the column {quoted(name)} is {kind}; expected numbers, strings, booleans, dates or "
            "times, "
            "or lists of them"
        )
    arrays = []
    for stored in documents:
        if stored is None:
            continue
        for rows in stored.batches(top_level(stored.schema, [name])):
            with reading_documents(stored.name):
                arrays.append(plain(column_at(rows, name), kind))
    try:
        if element is None:
            values, codes = _encoded(arrays, kind, number)
            return ColumnValues(name, kind, values, codes, None)
        values, codes = _encoded([array.flatten() for array in arrays], element, number)
        ends = [list_offsets(array) for array in arrays]
    except RowError as error:
        files = ", ".join(stored.name for stored in documents if stored is not None)
        raise FormatError(f"{files}: damaged: {error.problem}") from error
    lengths = np.concatenate([np.zeros(0, np.int64), *map(np.diff, ends)])
    codes, offsets = _distinct(codes, offsets_of(lengths))
    return ColumnValues(name, kind, values, codes, offsets)


def _is_ordered(kind: pa.DataType) -> bool:
    t = pa.types
    tests = (
        is_string, t.is_binary, t.is_fixed_size_binary, t.is_boolean, t.is_null, t.is_decimal,
        _is_number,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers of NumPy, or counts of a unit of time."""
    t = pa.types
    tests = (t.is_integer, t.is_floating, t.is_date, t.is_timestamp, t.is_time, t.is_duration)
    return any(test(kind) for test in tests)


def numbers_of(array: pa.Array) -> npt.NDArray[Any]:
    """The numbers of an array of numbers, dates or times, without a copy; those of nulls are
    arbitrary. Dates and times are int32 or int64 in their unit, booleans uint8."""
    kind, n = array.type, len(array)
    buffer = array.buffers()[1]
    if pa.types.is_boolean(kind):
        bits = np.frombuffer(buffer or b"", np.uint8)
        return np.unpackbits(bits, count=array.offset + n, bitorder="little")[array.offset :]
    found: npt.NDArray[Any] = np.frombuffer(buffer or b"", _dtype(kind))
    return found[array.offset : array.offset + n]


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    if pa.types.is_temporal(kind):
        return np.dtype(f"i{kind.bit_width // 8}")
    found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return found


def _encoded(
    arrays: Sequence[pa.Array], kind: pa.DataType, number: Numbering
) -> tuple[pa.Array, Int32]:
    """The distinct values of arrays of a type, ascending, and int32[n] the number of each value."""
    rows = sum(map(len, arrays))
    if not rows or pa.types.is_null(kind):
        return pa.nulls(0, kind), np.full(rows, _NULL, np.int32)
    if is_string(kind) or pa.types.is_binary(kind):
        return _encoded_strings(arrays, kind, number)
    if not _is_number(kind) and not pa.types.is_boolean(kind):
        return _encoded_values(arrays, kind)
    numbers = np.concatenate([numbers_of(array) for array in arrays])
    nulls = np.concatenate([is_null(array) for array in arrays])
    if not nulls.any():
        distinct, codes = _ranked(numbers)
    else:
        codes = np.full(rows, _NULL, np.int32)
        distinct, codes[~nulls] = _ranked(numbers[~nulls])
    if pa.types.is_boolean(kind):
        return pa.array(distinct != 0), codes
    buffers = [None, pa.py_buffer(np.ascontiguousarray(distinct))]
    return pa.Array.from_buffers(kind, len(distinct), buffers), codes


def _ranked(numbers: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Int32]:
    """The distinct numbers, ascending, and int32[n] the place of each number among them."""
    if numbers.dtype.kind == "f":
        numbers = numbers + numbers.dtype.type(0)  # -0.0 becomes 0.0
    elif len(numbers):
        low = numbers.min()
        span = int(numbers.max()) - int(low) + 1
        if span <= 4 * len(numbers):
            # modulo 2^64: exact for int64 and uint64
            at = (numbers.astype(np.int64) - low.astype(np.int64)).view(np.uint64)
            is_there = np.zeros(span, np.bool_)
            is_there[at] = True
            places = np.cumsum(is_there, dtype=np.int32) - np.int32(1)
            distinct = np.flatnonzero(is_there).astype(numbers.dtype) + low
            return distinct.astype(numbers.dtype), places[at]
    found, codes = np.unique(numbers, return_inverse=True)
    return found, codes.astype(np.int32)


def _encoded_strings(
    arrays: Sequence[pa.Array], kind: pa.DataType, number: Numbering
) -> tuple[pa.Array, Int32]:
    """`_encoded` of strings and bytes, in a wider type."""
    import pyarrow.compute as pc  # slow to import

    nulls = np.concatenate([is_null(array) for array in arrays])
    texts = [to_texts(array.drop_null() if array.null_count else array) for array in arrays]
    lengths = np.concatenate([np.diff(own.offsets) for own in texts])
    if lengths.min(initial=0) < 0:
        raise RowError(0, "an Arrow array of strings is damaged: its offsets descend")
    data = [own.data[own.offsets[0] : own.offsets[-1]] for own in texts]
    distinct, numbers = number(Texts(np.concatenate(data), offsets_of(lengths)))
    values = text_array(distinct, pa.large_string() if is_string(kind) else pa.large_binary())
    order = numbers_of(pc.sort_indices(values))
    ranks = np.empty(len(values), np.int32)
    ranks[order] = np.arange(len(values), dtype=np.int32)
    codes = np.full(len(nulls), _NULL, np.int32)
    codes[~nulls] = ranks[numbers]
    return values.take(number_array(order)), codes


def _encoded_values(arrays: Sequence[pa.Array], kind: pa.DataType) -> tuple[pa.Array, Int32]:
    """`_encoded` of decimals and of bytes of a fixed size, in a wider type."""
    import pyarrow.compute as pc  # slow to import

    is_decimal = pa.types.is_decimal(kind)
    wide = pa.decimal256(76, kind.scale) if is_decimal else pa.large_binary()
    column = pa.chunked_array([array.cast(wide) for array in arrays], wide)
    encoded = column.dictionary_encode()
    values = encoded.chunk(0).dictionary
    order = numbers_of(pc.sort_indices(values))
    # the last place is that of a null, whose index is -1
    ranks = np.full(len(values) + 1, _NULL, np.int32)
    ranks[order] = np.arange(len(values), dtype=np.int32)
    numbers = [numbers_of(chunk.indices.fill_null(_NULL)) for chunk in encoded.chunks]
    return values.take(pa.array(order)), ranks[np.concatenate(numbers)]


def _distinct(codes: Int32, offsets: Int64) -> tuple[Int32, Int64]:
    """The codes of lists without nulls and repetitions, ascending, and their offsets; both are
    changed."""
    for row in np.flatnonzero(np.diff(offsets) > _LONG).tolist():
        codes[offsets[row] : offsets[row + 1]].sort()
    distinct_elements(codes, offsets)
    size = int(offsets[-1])
    return (codes if size == len(codes) else codes[:size].copy()), offsets
