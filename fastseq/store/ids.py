"""Ids of documents: types, form in results, hashes, and the check for duplicates.

An id column may have any scalar Arrow type except booleans. Results (hits, runs, JSON, TSV, tables)
contain integers as integers and every other id as a string; `result_rows` gives other columns these
forms, too:

    strings                        as they are
    integers, whole floats         integers
    decimals                       positional, with the digits of the column's scale: "1.50"
    bytes, of any width            hexadecimal
    bytes, 16 of fixed width       as a UUID: "01234567-89ab-cdef-0123-456789abcdef"
    dates                          "2020-01-31"
    timestamps                     ISO 8601: "2020-01-31T12:30:00", with a time zone in UTC with "Z"
    times of day                   "12:30:00"
    durations                      ISO 8601, in seconds: "PT90S"

Seconds have up to nine decimals, without trailing zeros. `ids_like` reads the same forms.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, InvalidIdError, RowError, quoted
from fastseq.store.arrays import (
    arrow_column,
    element_type,
    is_null,
    is_string,
    list_offsets,
    number_array,
    one_chunk,
    plain,
    plain_type,
    text_array,
    to_texts,
)
from fastseq.types import Int64, Texts, UInt64, distinct

EXPECTED = "strings, numbers, dates, times or bytes"  # types of ids, for messages
_CANDIDATES = 1000  # rows whose ids are compared at a time
_SHOWN = 5  # duplicates in an error message
_UUID_BYTES = 16
_DAY = 86_400  # seconds
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NANO = 10**9
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_MOST_DIGITS = 80  # of a string that is converted to an integer: more than 64 bits have
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_TIME = re.compile(
    r"(?P<hours>\d\d):(?P<minutes>\d\d)(?::(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
)
_TIMESTAMP = re.compile(
    rf"(?P<date>-?\d{{4,}}-\d\d-\d\d)(?:[T ]{_TIME.pattern})?(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_DURATION = re.compile(r"(-?)PT(\d+)(?:\.(\d{1,9}))?S")


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _has_seconds(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_date(kind) or t.is_timestamp(kind) or t.is_time(kind) or t.is_duration(kind))


def is_id(kind: pa.DataType) -> bool:
    """Whether a plain type can be that of ids; a column of nulls alone has no ids, but its rows are
    reported."""
    t = pa.types
    numbers = (t.is_integer, t.is_floating, t.is_decimal)
    tests = (is_string, *numbers, _is_bytes, _has_seconds, t.is_null)
    return any(test(kind) for test in tests)


def id_type(kind: pa.DataType) -> pa.DataType:
    """The type that ids of a type are read as: its plain type, for floats int64."""
    kind = plain_type(kind)
    return pa.int64() if pa.types.is_floating(kind) else kind


def plain_ids(ids: pa.Array) -> pa.Array:
    """Ids as their `id_type`. Raises RowError for a float that is not whole."""
    kind = id_type(ids.type)
    if pa.types.is_floating(plain_type(ids.type)):
        floats = plain(ids, plain_type(ids.type)).cast(pa.float64())
        values = floats.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            whole = (np.trunc(values) == values) & (np.abs(values) < 2.0**63)
        bad = np.flatnonzero(~whole & floats.is_valid().to_numpy(zero_copy_only=False))
        if len(bad):
            raise RowError(
                int(bad[0]), f"the id is {values[bad[0]]}, expected a whole number of 64 bits"
            )
        return floats.cast(kind)
    return plain(ids, kind)


# ---- the form of ids in results


def result_ids(ids: pa.Array) -> pa.Array:
    """Ids as results contain them: integers, or strings of the forms above; null stays null."""
    array = plain_ids(ids)
    kind = array.type
    if is_string(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return array
    if pa.types.is_decimal(kind):
        # decimals of 32 and 64 bits are no Python objects in every version of pyarrow
        wide = array.cast(pa.decimal256(76, kind.scale))
        strings = ["" if v is None else f"{v:f}" for v in wide.to_pylist()]
    elif _is_bytes(kind):
        form = _uuid_form if kind == pa.binary(_UUID_BYTES) else bytes.hex
        strings = ["" if v is None else form(v) for v in array.to_pylist()]
    else:
        strings = list(map(_form_of(kind), *(part.tolist() for part in _seconds(array))))
    buffers = text_array(Texts.from_strings(strings), pa.string()).buffers()
    buffers[0] = array.is_valid().buffers()[1] if array.null_count else None
    return pa.Array.from_buffers(pa.string(), len(array), buffers)


def result_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as results contain them: dates, times, decimals and bytes as
    `result_ids`, also inside of lists and structs; a map is a list of [key, value]."""
    columns = [result_values(one_chunk(column)) for column in table.columns]
    names = table.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def result_values(array: pa.Array) -> list[Any]:
    """The values of a column as results contain them (see `result_rows`)."""
    kind, t = plain_type(array.type), pa.types
    if t.is_struct(kind):
        array = plain(array, kind)
        parts = [result_values(part) for part in array.flatten()]
        rows = zip(*parts, strict=True) if parts else iter([()] * len(array))
        names = [field.name for field in kind]
        values: list[Any] = [dict(zip(names, row, strict=True)) for row in rows]
    elif t.is_map(kind):
        array = plain(array, kind)
        bounds = array.offsets.to_pylist()
        pairs = zip(result_values(array.keys), result_values(array.items), strict=True)
        items = [list(pair) for pair in pairs]
        values = [items[a:b] for a, b in pairwise(bounds)]
    elif element_type(kind) is not None:
        array = plain(array, kind)
        items = result_values(array.flatten())
        values = [items[a:b] for a, b in pairwise(list_offsets(array).tolist())]
    elif is_id(kind) and not t.is_floating(kind):
        return id_list(array)
    else:
        return list(array.to_pylist())
    valid = array.is_valid().to_pylist()
    return [value if there else None for value, there in zip(values, valid, strict=True)]


def id_list(ids: pa.Array | pa.ChunkedArray) -> list[Any]:
    """`result_ids` as Python integers or strings."""
    array = one_chunk(ids) if isinstance(ids, pa.ChunkedArray) else ids
    return list(result_ids(array).to_pylist())


def id_array(ids: Iterable[Any] | pa.Array | pa.ChunkedArray) -> pa.Array:
    """One Arrow array of ids as results contain them: of Python values, a NumPy array, or Arrow."""
    if isinstance(ids, pa.ChunkedArray):
        ids = one_chunk(ids)
    if isinstance(ids, pa.Array):
        return result_ids(ids)
    values = ids if isinstance(ids, np.ndarray) else list(ids)
    if not isinstance(values, np.ndarray) and values and isinstance(values[0], int | np.integer):
        # uint64: ids beyond the largest int64
        values = np.array(values, np.uint64 if max(values) >= 1 << 63 else np.int64)
    if isinstance(values, np.ndarray):
        return number_array(values, np.uint64 if values.dtype == np.uint64 else np.int64)
    if all(isinstance(value, str) for value in values):
        return text_array(Texts.from_strings(values), pa.string())
    return result_ids(pa.array(values))


def _uuid_form(value: bytes) -> str:
    return str(uuid.UUID(bytes=value))


def _form_of(kind: pa.DataType) -> Callable[[int, int], str]:
    """The function from seconds and nanoseconds to the form of a type."""
    if pa.types.is_date(kind):
        return lambda seconds, nanos: str(np.datetime64(seconds // _DAY, "D"))
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz is None else "Z"
        return lambda seconds, nanos: f"{np.datetime64(seconds, 's')}{_fraction(nanos)}{zone}"
    if pa.types.is_time(kind):

        def time(seconds: int, nanos: int) -> str:
            hours, minutes = seconds // 3600, seconds // 60 % 60
            return f"{hours:02}:{minutes:02}:{seconds % 60:02}{_fraction(nanos)}"

        return time

    def duration(seconds: int, nanos: int) -> str:
        if seconds < 0 and nanos:
            seconds, nanos = seconds + 1, _NANO - nanos
            return f"-PT{-seconds}{_fraction(nanos)}S"
        return f"{'-' * (seconds < 0)}PT{abs(seconds)}{_fraction(nanos)}S"

    return duration


def _fraction(nanos: int) -> str:
    return f".{nanos:09}".rstrip("0") if nanos else ""


def _seconds(array: pa.Array) -> tuple[Int64, Int64]:
    """int64[n], int64[n]: seconds since the epoch or midnight, and nanoseconds from 0 on, of dates,
    timestamps, times or durations of any unit. Those of a null are arbitrary."""
    kind = array.type
    dtype = np.int32 if kind.bit_width == 32 else np.int64
    buffer = array.buffers()[1]
    raw = np.frombuffer(buffer if buffer is not None else b"", dtype)
    values: Int64 = raw[array.offset : array.offset + len(array)].astype(np.int64)
    if kind == pa.date32():
        return values * _DAY, np.zeros_like(values)
    if kind == pa.date64():
        return values // (1000 * _DAY) * _DAY, np.zeros_like(values)
    per_second = _PER_SECOND[kind.unit]
    seconds: Int64 = values // per_second
    return seconds, (values - seconds * per_second) * (_NANO // per_second)


# ---- hashes


def id_hashes(ids: pa.Array) -> UInt64:
    """uint64[n]: hashes of ids without nulls.

    Equal ids have equal hashes whatever the width or unit of their type: int32 and int64, string
    and large_string, seconds and nanoseconds, decimals of one scale. Different integers always have
    different hashes, other ids nearly always.
    """
    array = plain_ids(ids)
    kind = array.type
    if pa.types.is_integer(kind):
        # to_numpy would import an installed pandas, and an interrupt during that import is lost
        raw = np.frombuffer(array.buffers()[1] or b"", kind.to_pandas_dtype())
        return _mixed(raw[array.offset : array.offset + len(array)].astype(np.uint64))
    if pa.types.is_decimal(kind):
        hashes = np.zeros(len(array), np.uint64)
        for word in _words(array):
            hashes = _mixed(hashes + word)
        return hashes
    if _has_seconds(kind):
        seconds, nanos = _seconds(array)
        return _mixed(_mixed(seconds.astype(np.uint64)) + nanos.astype(np.uint64))
    if pa.types.is_fixed_size_binary(kind):
        array = array.cast(pa.binary())
    from fastseq.kernels.text.hashing import hash_rows

    texts = to_texts(array)
    out = np.empty(len(texts), np.uint64)
    hash_rows(out, texts.data, texts.offsets)
    return out


def _mixed(h: UInt64) -> UInt64:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _words(decimals: pa.Array) -> list[UInt64]:
    """The four 64-bit words, lowest first, of the unscaled values as integers of 256 bits."""
    width = decimals.type.bit_width // 8
    raw = np.frombuffer(decimals.buffers()[1] or b"", np.uint8)
    raw = raw[decimals.offset * width : (decimals.offset + len(decimals)) * width]
    signed = raw.view(np.int32 if width == 4 else np.int64).reshape(
        len(decimals), max(width // 8, 1)
    )
    words: Int64 = signed.astype(np.int64)
    sign = words[:, -1] >> 63
    columns = [*words.T, *[sign] * (4 - words.shape[1])]
    return [np.ascontiguousarray(column).view(np.uint64) for column in columns]


# ---- ids that a user gives


ROW_TYPE = pa.int64()  # of ids that are row numbers


def row_ids(values: Any) -> Int64:
    """Ids given by a user that are row numbers, -1 for integers out of range. Raises DataError for
    other values."""
    ids = ids_like(values, ROW_TYPE)
    numbers = np.frombuffer(ids.buffers()[1] or b"", np.int64)[ids.offset :][: len(ids)]
    return np.where(is_null(ids), -1, numbers)


def ids_like(values: Any, kind: pa.DataType) -> pa.Array:
    """Ids given by a user, as an array of the type of an index's id column.

    Parameters
    ----------
    values : Python values (from JSON or a command line, for example), a NumPy array, or an Arrow
        array. A string is read as the form that results have, unless the ids are strings
    kind : the type of the id column; the array has its `id_type`, and null for integers, dates and
        times out of its range, which no document can have

    Raises InvalidIdError for an id of another type, which is named.
    """
    kind = id_type(kind)
    column = pa.chunked_array([values]) if isinstance(values, pa.Array) else arrow_column(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        column = pa.chunked_array([number_array(values.reshape(-1), values.dtype)])
    if column is not None:
        given = id_type(column.type)
        if not is_id(given):
            raise DataError(f"ids of type {given}, {_described(kind)}")
        if given == kind or (pa.types.is_integer(given) and pa.types.is_integer(kind)):
            with suppress(RowError):  # out of range, or floats that are not whole
                array = _cast(column, kind)
                if array.null_count == 0:
                    return array
        array = one_chunk(column)
        values = id_list(array) if _has_seconds(given) else plain_ids(array).to_pylist()
    elif isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise DataError(f"ids of type {type(values).__name__}, expected a list")
    convert = _converter(kind)
    found = []
    beyond = []  # places of ids out of range
    for at, value in enumerate(values):
        try:
            found.append(convert(value))
        except _OutOfRangeError:
            found.append(0)
            beyond.append(at)
        except (TypeError, ValueError, ArithmeticError):
            shown = f"{quoted(value)} ({type(value).__name__})"
            problem = f"the id {shown} is of another type: {_described(kind)}"
            raise InvalidIdError(at, problem) from None
    if is_string(kind):
        return text_array(Texts.from_strings(found), kind)
    if pa.types.is_decimal(kind) or _is_bytes(kind):
        return pa.array(found, kind)
    if pa.types.is_integer(kind):
        dtype = kind.to_pandas_dtype()
    else:
        dtype = np.int32 if kind.bit_width == 32 else np.int64
    buffers = number_array(np.array(found, dtype), dtype).buffers()
    if beyond:
        is_valid = np.ones(len(found), np.bool_)
        is_valid[beyond] = False
        buffers[0] = pa.py_buffer(np.packbits(is_valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(found), buffers)


def given_names(values: Any, ids: pa.Array) -> list[Any]:
    """Ids that `ids_like` returned for some values, as results have them; those out of range as
    they were given.

    values : as of `ids_like`, but no iterator
    """
    names = id_list(ids)
    if ids.null_count:
        for at, value in enumerate(values):
            if names[at] is None:
                names[at] = value.as_py() if isinstance(value, pa.Scalar) else value
    return names


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A column of the same type, or integers of another width. Raises RowError."""
    chunks = [plain(plain_ids(chunk), kind) for chunk in column.chunks]
    return pa.concat_arrays(chunks) if chunks else pa.nulls(0, kind)


def _described(kind: pa.DataType) -> str:
    """The ids of a type, for a message."""
    if is_string(kind) or pa.types.is_integer(kind):
        return f"expected {'strings' if is_string(kind) else 'integers'} ({kind})"
    example = result_ids(pa.nulls(1, kind).fill_null(_zero(kind)))[0].as_py()
    return f"expected {kind}, such as {example!r}"


def _zero(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_binary(kind):
        return pa.scalar(b"\x01\xff", kind)
    buffer = pa.py_buffer(bytes(max(kind.bit_width // 8, 1)))
    return pa.Array.from_buffers(kind, 1, [None, buffer])[0]


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    """The function from a Python value to what the array of a type is made of: str, int, Decimal
    or bytes; it raises TypeError, ValueError or ArithmeticError."""
    if is_string(kind):
        return _to_string
    if pa.types.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        return lambda value: _within(_to_integer(value), limits.min, limits.max)
    if pa.types.is_decimal(kind):
        return lambda value: _to_decimal(value, kind)
    if _is_bytes(kind):
        return lambda value: _to_bytes(value, kind)
    if not _has_seconds(kind):
        raise DataError(f"ids of type {kind}, expected {EXPECTED}")
    limits = np.iinfo(np.int32 if kind.bit_width == 32 else np.int64)
    if pa.types.is_date(kind):
        unit = _DAY * _NANO if kind == pa.date32() else 10**6
    else:
        unit = _NANO // _PER_SECOND[kind.unit]
    to_nanos = _to_duration if pa.types.is_duration(kind) else _to_time

    def convert(value: Any) -> int:
        count, rest = divmod(to_nanos(value, kind), unit)
        if rest:
            raise ValueError
        return _within(count, limits.min, limits.max)

    return convert


class _OutOfRangeError(Exception):
    """An id that its type cannot hold."""


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise _OutOfRangeError
    return value


def _to_string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _to_integer(value: Any) -> int:
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            raise ValueError
        if len(value) > _MOST_DIGITS:  # `int` refuses thousands of digits
            raise _OutOfRangeError
        return int(value)
    if isinstance(value, bool | np.bool_) or int(value) != value:  # also of floats and decimals
        raise TypeError
    return int(value)


def _to_decimal(value: Any, kind: pa.DataType) -> Decimal:
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise ValueError
        value = Decimal(value)
    elif not isinstance(value, Decimal):
        value = Decimal(_to_integer(value))
    with localcontext(prec=100):
        exact: Decimal = value.quantize(Decimal(1).scaleb(-kind.scale))
        if exact != value or len(exact.as_tuple().digits) > kind.precision:
            raise ValueError
    return exact


def _to_bytes(value: Any, kind: pa.DataType) -> bytes:
    fixed = pa.types.is_fixed_size_binary(kind)
    if isinstance(value, uuid.UUID):
        value = value.bytes
    elif isinstance(value, str):
        is_uuid = fixed and kind.byte_width == _UUID_BYTES
        value = uuid.UUID(value).bytes if is_uuid else bytes.fromhex(value)
    if not isinstance(value, bytes) or (fixed and len(value) != kind.byte_width):
        raise TypeError
    return value


def _to_time(value: Any, kind: pa.DataType) -> int:
    """Nanoseconds since the epoch or midnight."""
    if isinstance(value, np.datetime64):
        value = str(value)
    elif isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        value = value.isoformat()
    text = _to_string(value)
    found = (_TIME if pa.types.is_time(kind) else _TIMESTAMP).fullmatch(text)
    if found is None:
        raise ValueError
    if pa.types.is_time(kind):
        return _nanos_of_day(found.groups())
    date, zone = found["date"], found["zone"]
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    if (zone is not None) != zoned or (pa.types.is_date(kind) and found["hours"]):
        raise ValueError
    nanos = int(np.datetime64(date, "D").astype(np.int64)) * _DAY * _NANO
    nanos += _nanos_of_day(found.group("hours", "minutes", "seconds", "fraction"))
    if zone not in (None, "Z"):
        sign = -1 if zone[0] == "-" else 1
        nanos -= sign * (int(zone[1:3]) * 60 + int(zone[-2:])) * 60 * _NANO
    return nanos


def _nanos_of_day(parts: Sequence[str | None]) -> int:
    hours, minutes, seconds = (int(part or 0) for part in parts[:3])
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError
    fraction = int((parts[3] or "").ljust(9, "0"))
    return ((hours * 60 + minutes) * 60 + seconds) * _NANO + fraction


def _to_duration(value: Any, kind: pa.DataType) -> int:
    """Nanoseconds."""
    if isinstance(value, np.timedelta64):
        value = value.astype("timedelta64[ns]").astype(np.int64)
        return int(value)
    if isinstance(value, datetime.timedelta):
        nanos = getattr(value, "nanoseconds", 0)  # of pandas
        return value // datetime.timedelta(microseconds=1) * 1000 + nanos % 1000
    found = _DURATION.fullmatch(_to_string(value))
    if found is None:
        raise ValueError
    nanos = int(found[2]) * _NANO + int((found[3] or "").ljust(9, "0"))
    return -nanos if found[1] else nanos


# ---- distinct ids


def find_duplicate_ids(
    hashes: UInt64, ids_of: Callable[[Int64], Sequence[Any]], most: int = _SHOWN
) -> list[tuple[Any, list[int]]]:
    """The first `most` ids that more than one row has, with their rows. Rows of equal `id_hashes`
    (uint64[n]) are candidates, whose ids (`ids_of` ascending rows) are compared."""
    ascending = np.sort(hashes)
    twice = distinct(ascending[1:][ascending[1:] == ascending[:-1]])
    if len(twice) == 0:
        return []
    at = np.minimum(np.searchsorted(twice, hashes), len(twice) - 1)
    rows = np.flatnonzero(twice[at] == hashes).astype(np.int64)
    # rows grouped by hash, the groups in order of their first row
    _, first, member = np.unique(hashes[rows], return_index=True, return_inverse=True)
    rows = rows[np.argsort(first[member], kind="stable")]
    edges = np.flatnonzero(np.diff(hashes[rows]) != 0) + 1
    found: list[tuple[Any, list[int]]] = []
    start = 0
    while start < len(rows) and len(found) < most:
        # whole groups, about a thousand rows
        later = edges[edges >= start + _CANDIDATES]
        stop = int(later[0]) if len(later) else len(rows)
        some = np.sort(rows[start:stop])
        seen: dict[Any, list[int]] = {}
        for row, value in zip(some.tolist(), ids_of(some), strict=True):
            seen.setdefault(value, []).append(row)
        found += [(value, at) for value, at in seen.items() if len(at) > 1]
        start = stop
    return found[:most]


def refuse_duplicate_ids(
    hashes: UInt64,
    ids_of: Callable[[Int64], Sequence[Any]],
    where: str,
    place: Callable[[int], str] | None = None,
) -> None:
    """Raise DataError, which names the first few and their rows, for duplicate ids. `place` formats
    a row for messages; None: its number. Others as in `find_duplicate_ids`."""
    found = find_duplicate_ids(hashes, ids_of)
    if found:
        named = ", ".join(
            f"{quoted(value)} ({'rows ' if place is None else ''}"
            f"{', '.join(map(place or str, rows[:3]))}{', …' if len(rows) > 3 else ''})"
            for value, rows in found
        )
        more = ", and perhaps more" if len(found) == _SHOWN else ""
        raise DataError(f"{where}: duplicate ids: {named}{more}; expected one row for each id")
