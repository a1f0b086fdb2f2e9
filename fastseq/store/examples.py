"""Rows for sequence models, read from Parquet or Arrow in batches of bounded memory.

train = open_rows("train.parquet", "text", outputs=False)     # text and label, by name
for batch in train.batches():
    batch.texts, batch.labels                                 # types.Texts, Categories
valid = open_rows("valid.parquet", "text", fields=train.fields, like=train)
new = open_rows("new.parquet", "text", text=train.fields.text, keep="url", targets=False)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, RowError, SettingsError, located
from fastseq.store.arrays import (
    byte_lengths,
    first_null,
    is_string,
    is_text,
    plain,
    plain_type,
    repaired,
    texts_of,
    to_texts,
)
from fastseq.store.categories import Categories
from fastseq.store.columns import Fields, check_fields, choose_fields, element_type, listed
from fastseq.store.sources import Dataset, Source, open_sources
from fastseq.types import Float64, Int64, Texts

MAX_BYTES = 2 << 20  # of strings in a batch
_MOST_BYTES = 1 << 30  # what 32-bit offsets hold with room to spare


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """D consecutive rows.

    first_row   number of the first row, from 0, in everything read
    rows        D
    data        what is read
    texts       the D texts; a null one is empty. The bytes are Arrow's: not to be written to
    tokens      all tokens of the D rows; row d has those from token_offsets[d] to [d + 1]
    token_offsets  int64[D + 1]
    labels      D labels, none missing
    tags        as many as tokens, none missing
    values      float64[D, C], finite numbers
    series      which series each row belongs to, none missing; None where the file says so
    ids         the id column (pa.Array); None where the row number is the id
    kept        the columns to keep (pa.Table); None where there are none
    null_texts  rows whose text, or whole list of tokens, is null
    """

    first_row: int
    rows: int
    data: Dataset
    texts: Texts | None = None
    tokens: Texts | None = None
    token_offsets: Int64 | None = None
    labels: Categories | None = None
    tags: Categories | None = None
    values: Float64 | None = None
    series: Categories | None = None
    ids: Any = None
    kept: Any = None
    null_texts: int = 0

    def take(self, rows: Int64) -> RowBatch:
        """The ids, or row numbers, and the columns to keep of some rows of the batch; nulls for a
        row of -1."""
        at = pa.array(rows, mask=rows < 0)
        ids = pa.array(self.first_row + rows, mask=rows < 0) if self.ids is None else None
        kept = None if self.kept is None else self.kept.take(at)
        ids = self.ids.take(at) if ids is None else ids
        return RowBatch(self.first_row, len(rows), self.data, ids=ids, kept=kept)

    @property
    def text(self) -> Texts:
        """The texts of rows that are read for them."""
        assert self.texts is not None
        return self.texts

    @property
    def stored(self) -> Any:
        """The columns to keep, under the name that a corpus has for them."""
        return self.kept

    @property
    def source(self) -> str:
        """The file of the first row, for messages."""
        return self.data.locate(self.first_row)[0].name

    @property
    def source_row(self) -> int:
        """The number of the first row in its file."""
        return self.data.locate(self.first_row)[1]

    def where(self, row: int) -> str:
        """The place of a row of this batch, for a message."""
        return self.data.where(self.first_row + row)


@dataclass(frozen=True, slots=True, eq=False)
class RowReader:
    """Rows to be read: where they are, and which column is what.

    data        the files or the table
    fields      the columns
    label_type  "string", "bool" or that of the integers ("int64"); None without a label
    kept        the schema of the id (where it is a column) and of the columns to keep
    """

    data: Dataset
    fields: Fields
    label_type: str | None
    kept: pa.Schema

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files or the table, in order."""
        return self.data.sources

    @property
    def series_type(self) -> str | None:
        """The type of what tells series apart; None where there is but one."""
        if self.fields.series is not None:
            return str(self.data.type_of(self.fields.series))
        return "string" if len(self.sources) > 1 else None

    @property
    def num_rows(self) -> int | None:
        """The number of rows; None where only reading a stream tells."""
        return self.data.num_rows

    def where(self, row: int) -> str:
        """The place of a row, for a message: its file and its number in that."""
        return self.data.where(row)

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        """Read the rows, in order, in batches of about `max_bytes` of strings, at least a row.

        Raises
        ------
        DataError
            Naming file, row and column: a null label, token or tag, as many tags as tokens not
            being there, a number that is null, NaN or infinite; a damaged file; a stream read for
            the second time.
        """
        return self._batches(min(max(max_bytes, 1), _MOST_BYTES), joined=False)

    def _batches(self, max_bytes: int, joined: bool) -> Iterator[RowBatch]:
        """`joined`: batches that came small are put together, across files too."""
        first_row = size = 0
        pending: list[pa.RecordBatch] = []
        for part in self._parts(max_bytes):
            if pending and (size + part.nbytes > max_bytes or part.schema != pending[0].schema):
                yield (batch := self._batch(pending, first_row))
                first_row, pending, size = first_row + batch.rows, [], 0
            pending.append(part)
            size += part.nbytes
            if not joined or 2 * size >= max_bytes:
                yield (batch := self._batch(pending, first_row))
                first_row, pending, size = first_row + batch.rows, [], 0
        if pending:
            yield self._batch(pending, first_row)

    def _parts(self, max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Record batches of at most `max_bytes` of strings, or one row: text, id and columns to
        keep of their plain types, others as they are."""
        row = 0
        strings = {*self.fields.text, *(field.name for field in self.kept if is_text(field.type))}
        # no column at all cannot be read, nor its rows counted
        for raw in self.data.read(self.fields.used, max_bytes):
            with located(self.data.where, row):
                lengths = np.zeros(raw.num_rows, np.int64)
                for name in strings:
                    lengths += byte_lengths(raw.column(name))
            for start, stop in cuts(lengths, max_bytes):
                with located(self.data.where, row + start):
                    yield self._part(raw.slice(start, stop - start))
            row += raw.num_rows

    def _part(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        columns = {name: raw.column(name) for name in self.fields.used}
        for name in self.fields.text:
            columns[name] = _plain(columns[name], name)
        for field in self.kept:
            columns[field.name] = _plain(raw.column(field.name), field.name, field.type)
        return pa.RecordBatch.from_pydict(columns)

    def _batch(self, parts: list[pa.RecordBatch], first_row: int) -> RowBatch:
        part = parts[0]
        if len(parts) > 1:
            (part,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
        fields = self.fields
        found: dict[str, Any] = {}
        with located(self.data.where, first_row):
            if fields.text:
                texts, nulls = texts_of([part.column(name) for name in fields.text])
                found |= {"texts": texts, "null_texts": nulls}
            if fields.tokens is not None:
                tokens, offsets, nulls = _lists(part, fields.tokens)
                found |= {"tokens": to_texts(tokens), "token_offsets": offsets, "null_texts": nulls}
                if fields.tags is not None:
                    tags, ends, _ = _lists(part, fields.tags)
                    _check_lengths(fields.tokens, offsets, fields.tags, ends)
                    found["tags"] = _categories(tags)
            for role, field, name in (
                ("label", "labels", fields.label),
                ("series", "series", fields.series),
            ):
                if name is not None:
                    array = _plain(part.column(name), name)
                    if array.null_count:
                        problem = f"the {role} in column {name!r} is null"
                        raise RowError(first_null(array), problem)
                    found[field] = _categories(array)
            if fields.values:
                found["values"] = np.stack([_numbers(part, name) for name in fields.values], axis=1)
        if fields.id is not None:
            found["ids"] = part.column(fields.id)
        if fields.keep:
            schema = pa.schema([self.kept.field(name) for name in fields.keep])
            arrays = [part.column(name) for name in fields.keep]
            # what is kept must be shown later, whatever becomes of invalid text elsewhere
            arrays = [repaired(array) if is_string(array.type) else array for array in arrays]
            found["kept"] = pa.Table.from_arrays(arrays, schema=schema)
        return RowBatch(first_row, part.num_rows, self.data, **found)


def open_rows(
    source: Any,
    inputs: str,
    *,
    fields: Fields | None = None,
    like: RowReader | None = None,
    outputs: bool = True,
    **named: Any,
) -> RowReader:
    """Find the files and settle the columns, from the schemas alone: no row is read.

    Parameters
    ----------
    source : what Corpus.open takes (paths, an Arrow table or stream, a data frame), or what
        objects.as_source makes of Python lists and arrays
    inputs : "text", "tokens" or "values"
    fields : the columns, when they are known already (those of training); None to choose them
    like : rows whose labels are of the type to expect here
    outputs : whether the id and the columns to keep are read, which only predictions need; a
        column to keep that is named twice is kept once
    named : unless `fields` is given: text, tokens, values, label, tags, series, id, keep,
        targets, as columns.choose_fields has them

    Raises
    ------
    DataError
        A path that does not exist, a column that is missing, mistyped or cannot be guessed (the
        message names the file and lists its columns), files that disagree.
    SettingsError
        `source` is nothing that can be read; columns given both ways; a column of text or of
        values named twice.
    """
    for role, option in (("text", "text"), ("value", "values")):
        names = listed(named.get(option))
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(
                    f"the {role} column {name!r} is named {names.count(name)} times; expected once"
                )
    data = open_sources(source)
    if fields is None:
        fields = choose_fields(data, inputs, **named)
    elif named:
        raise SettingsError(f"columns are given twice: by `fields` and by {', '.join(named)}")
    if outputs:
        fields = replace(fields, keep=tuple(dict.fromkeys(fields.keep)))
    else:
        fields = replace(fields, id=None, keep=())
    check_fields(data, fields)
    label_type = None
    if fields.label is not None:
        kinds = data.types[fields.label].items()
        label_type, where = next((str(plain_type(kind)), name) for kind, name in kinds)
        expected = label_type
        if like is not None and like.label_type is not None:
            expected, where = like.label_type, like.sources[0].name
        for kind, name in kinds:
            found = str(plain_type(kind))
            if _family(found) != _family(expected):
                raise DataError(
                    f"{name}: the label column {fields.label!r} is {found}, but {expected} in "
                    f"{where}"
                )
    kept = pa.schema([(name, data.type_of(name)) for name in fields.outputs])
    return RowReader(data, fields, label_type, kept)


# ---- the columns of one record batch, as what they are to be; RowError counts its rows


def _plain(array: pa.Array, name: str, kind: pa.DataType | None = None) -> pa.Array:
    try:
        return plain(array, plain_type(array.type) if kind is None else kind)
    except RowError as error:
        raise RowError(error.row, f"column {name!r}: {error.problem}") from error


def _numbers(batch: pa.RecordBatch, name: str) -> Float64:
    array = _plain(batch.column(name), name)
    if array.null_count:
        raise RowError(first_null(array), f"the number in column {name!r} is null")
    values: Float64 = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        problem = f"the number in column {name!r} is {values[bad[0]]}, expected a finite one"
        raise RowError(int(bad[0]), problem)
    return values


def _lists(batch: pa.RecordBatch, name: str) -> tuple[pa.Array, Int64, int]:
    """The elements as plain strings, their offsets from 0, and how many lists are null."""
    import pyarrow.compute as pc

    array = batch.column(name)
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    lengths = pc.list_value_length(array).cast(pa.int64())
    nulls = lengths.null_count
    if nulls:
        lengths = lengths.fill_null(pa.scalar(0, pa.int64()))
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths.to_numpy(zero_copy_only=False), out=offsets[1:])
    elements = array.flatten()
    kind = element_type(array.type)
    assert kind is not None  # checked when the columns were settled

    def row(element: int) -> int:
        return int(np.searchsorted(offsets, element, "right")) - 1

    if elements.null_count:
        problem = f"a string in the list of column {name!r} is null"
        raise RowError(row(first_null(elements)), problem)
    try:
        strings = _plain(elements, name, pa.string() if pa.types.is_null(kind) else kind)
    except RowError as error:
        raise RowError(row(error.row), error.problem) from error
    return strings, offsets, nulls


def _check_lengths(tokens: str, ends: Int64, tags: str, others: Int64) -> None:
    differs = np.flatnonzero(np.diff(ends) != np.diff(others))
    if len(differs):
        row = int(differs[0])
        a, b = int(ends[row + 1] - ends[row]), int(others[row + 1] - others[row])
        problem = f"{a} tokens in column {tokens!r}, but {b} tags in {tags!r}"
        raise RowError(row, f"{problem}: expected a tag for each token")


def _categories(array: pa.Array) -> Categories:
    """A plain array of strings, integers or booleans without nulls."""
    encoded = array.dictionary_encode()
    distinct = encoded.dictionary
    if is_string(distinct.type):
        distinct = repaired(distinct)
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Categories(tuple(distinct.to_pylist()), codes)


def _family(kind: str) -> str:
    return "integer" if "int" in kind else kind


def cuts(lengths: Int64, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut n rows of these lengths into runs [start, stop) of at most `max_bytes`, or one row."""
    ends = np.cumsum(lengths)
    start, before = 0, 0
    while start < len(lengths):
        stop = max(int(np.searchsorted(ends, before + max_bytes, "right")), start + 1)
        yield start, stop
        start, before = stop, int(ends[stop - 1])
