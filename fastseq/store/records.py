"""Rows of Python values: an iterable of dicts, or of texts, read in bounded batches."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, quoted
from fastseq.store.arrays import element_type, is_string, string_array
from fastseq.store.files import reason
from fastseq.store.nested import select
from fastseq.store.sources import MAX_ROWS, Source

FIRST_ROWS = 1024  # rows that the types of the columns are inferred from
TEXT_NAME = "text"  # of the column of texts


class RecordSource(Source):
    """Dicts from names of columns to values, or texts, which are the column `text`.

    These are dicts if the first row that is not None is one. The types are those of the first 1,024
    rows. A key that a row lacks is null, and so is a text that is None; a value of
    another type, or a new key, is an error. A list can be read several times, an iterator once.
    """

    def __init__(self, rows: Iterable[Any], name: str) -> None:
        self.name = name
        self._again = rows if isinstance(rows, Sequence) else None
        self.is_repeatable = self._again is not None
        self.num_rows = None if self._again is None else len(self._again)
        remaining = iter(rows)
        first = list(islice(remaining, FIRST_ROWS))
        self._remaining: Iterator[Any] | None = chain(first, remaining)
        known = next((row for row in first if row is not None), None)
        self._texts = not isinstance(known, Mapping)
        self.schema = pa.schema([(TEXT_NAME, pa.string())])
        for number, row in enumerate(first):
            self._check_row(number, row)
        if not self._texts:
            names = dict.fromkeys(name for row in first for name in row)
            self.schema = pa.schema([(name, self._inferred(name, first)) for name in names])
        self._first = first

    def read_as_maps(self, column: str) -> bool:
        at = self.schema.get_field_index(column)
        if at < 0 or not pa.types.is_struct(self.schema.field(at).type):
            return False
        kinds = {type(weight) for row in self._first for weight in (row.get(column) or {}).values()}
        kind = pa.int64() if kinds <= {int} else pa.float64()
        self.schema = self.schema.set(at, pa.field(column, pa.map_(pa.string(), kind)))
        return True

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        rows = self._remaining if self._again is None else iter(self._again)
        self._remaining = None
        if rows is None:
            raise DataError(f"{self.name}: already read; an iterator can be read once")
        start = 0
        for part in _parts(rows, max_bytes):
            yield select(self._batch(part, start), columns)
            start += len(part)

    def _batch(self, rows: list[Any], start: int) -> pa.RecordBatch:
        if not self._texts:
            known = set(self.schema.names)
            for number, row in enumerate(rows, start):
                self._check_row(number, row)
                if not known.issuperset(row):
                    new = next(name for name in row if name not in known)
                    raise self._error(number, f"the column {new!r} is new, unlike")
            columns = [[row.get(name) for row in rows] for name in self.schema.names]
        else:
            columns = [rows]
        arrays = [
            self._converted(field, values, start)
            for field, values in zip(self.schema, columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _check_row(self, number: int, row: Any) -> None:
        is_row = row is None or isinstance(row, str) if self._texts else isinstance(row, Mapping)
        if not is_row:
            expected = "a text" if self._texts else "a dict"
            raise DataError(f"{self._row(number)} is {_shown(row)}, expected {expected}")
        for name in () if self._texts else row:
            if not isinstance(name, str):
                raise DataError(f"{self._row(number)} has the key {name!r}, expected strings")

    def _row(self, number: int) -> str:
        return f"{self.name}: row {number} (from 0)"

    def _inferred(self, name: str, rows: Sequence[Mapping[str, Any]]) -> pa.DataType:
        values = [row.get(name) for row in rows]
        if all(value is None or isinstance(value, str) for value in values):
            known = any(value is not None for value in values)
            return pa.string() if known else pa.null()
        try:
            found = pa.array(values).type
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            at = next(n for n in range(len(values)) if not _is_array(values[: n + 1]))
            before = next(n for n in range(at + 1) if values[n] is not None)
            why = f" ({reason(error)})"
            if type(values[before]) is not type(values[at]):
                why = f", but {_shown(values[before])} in row {before}"
            problem = f"the column {quoted(name)} is {_shown(values[at])}{why}"
            raise DataError(f"{self._row(at)}: {problem}") from error
        return found

    def _converted(self, field: pa.Field, values: list[Any], start: int) -> pa.Array:
        if pa.types.is_nested(field.type):  # Arrow leaves out the keys that a struct lacks
            for number, value in enumerate(values, start):
                if key := _new_key(value, field.type):
                    raise self._error(number, f"the field {field.name + key!r} is new, unlike")
        try:
            return _array(values, field.type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            if self._texts:
                for number, text in enumerate(values, start):
                    self._check_row(number, text)
            at = next(n for n, value in enumerate(values) if not _is_array([value], field.type))
            kinds = f"{_shown(values[at])}, but {field.type} in"
            problem = f"the column {quoted(field.name)} is {kinds}"
            raise self._error(start + at, problem) from None

    def _error(self, number: int, problem: str) -> DataError:
        first = f"the first {FIRST_ROWS:,} rows, which determine the columns"
        return DataError(f"{self._row(number)}: {problem} {first}")


def _parts(rows: Iterator[Any], max_bytes: int) -> Iterator[list[Any]]:
    """Rows of together about `max_bytes` of strings."""
    part: list[Any] = []
    size = 0
    for row in rows:
        part.append(row)
        if isinstance(row, str):
            size += len(row)
        elif isinstance(row, Mapping):
            size += sum(len(v) for v in row.values() if isinstance(v, str | bytes | list | dict))
        if size >= max_bytes or len(part) == MAX_ROWS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _new_key(value: Any, kind: pa.DataType) -> str:
    """The path of a key, such as ".name", of a dict inside a value, that its type lacks; "" for
    none."""
    if isinstance(value, Mapping) and pa.types.is_struct(kind):
        for name, inner in value.items():
            at = kind.get_field_index(name)
            key = "" if at < 0 else _new_key(inner, kind.field(at).type)
            if at < 0 or key:
                return f".{name}{key}"
    elif isinstance(value, list | tuple) and (element := element_type(kind)) is not None:
        return next(filter(None, (_new_key(inner, element) for inner in value)), "")
    return ""


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array, without conversions that Arrow makes silently. Raises TypeError."""
    types = set(map(type, values)) - {type(None)}
    allowed: tuple[type, ...] = ()
    if is_string(kind):
        allowed = (str,)
    elif pa.types.is_boolean(kind):
        allowed = (bool, np.bool_)
    elif pa.types.is_integer(kind):
        allowed = (int, np.integer)
    elif pa.types.is_floating(kind):
        allowed = (int, float, np.integer, np.floating)
    elif pa.types.is_decimal(kind):
        allowed = (Decimal, int, np.integer)
    elif pa.types.is_date(kind):
        allowed = (datetime.date,)
    elif pa.types.is_timestamp(kind):
        allowed = (datetime.datetime, np.datetime64)
    elif pa.types.is_time(kind):
        allowed = (datetime.time,)
    elif pa.types.is_duration(kind):
        allowed = (datetime.timedelta, np.timedelta64)
    if allowed and not all(issubclass(each, allowed) for each in types):
        raise TypeError
    if pa.types.is_date(kind) and any(issubclass(each, datetime.datetime) for each in types):
        raise TypeError
    if bool in types and not pa.types.is_boolean(kind) and allowed:
        raise TypeError
    if pa.types.is_map(kind):
        values = [list(value.items()) if isinstance(value, Mapping) else value for value in values]
    if is_string(kind):
        return string_array(values, kind)
    return pa.array(values, kind)


def _is_array(values: list[Any], kind: pa.DataType | None = None) -> bool:
    try:
        pa.array(values) if kind is None else _array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return False
    return True


def _shown(value: Any) -> str:
    text = repr(value)
    return f"of type {type(value).__name__}, {text if len(text) <= 60 else text[:59] + '…'}"
