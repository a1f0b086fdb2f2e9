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

from fastseq.errors import DataError, SettingsError
from fastseq.store.arrays import (
    byte_lengths,
    is_string,
    plain,
    plain_type,
    repaired,
    texts_of,
    to_texts,
)
from fastseq.store.categories import Categories
from fastseq.store.columns import Columns, agreed_schema, used_schema
from fastseq.store.corpus import cuts
from fastseq.store.fields import Fields, check_fields, choose_fields, element_type
from fastseq.store.sources import Source, open_sources
from fastseq.types import Float64, Int64, Texts

MAX_BYTES = 2 << 20  # of strings in a batch


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """D consecutive rows.

    first_row   number of the first row, from 0, in everything read
    rows        D
    source, source_row
                the file, and the number of the first row in it, for messages
    texts       the D texts; a null one is empty. The bytes are Arrow's: not to be written to
    tokens      all tokens of the D rows; row d has those from token_offsets[d] to [d + 1]
    token_offsets  int64[D + 1]
    labels      D labels, none missing
    tags        as many as tokens, none missing
    values      float64[D, C], finite numbers
    ids         the id column (pa.Array); None where the row number is the id
    kept        the columns to keep (pa.Table); None where there are none
    null_texts  rows whose text, or whole list of tokens, is null
    """

    first_row: int
    rows: int
    source: str
    source_row: int
    texts: Texts | None = None
    tokens: Texts | None = None
    token_offsets: Int64 | None = None
    labels: Categories | None = None
    tags: Categories | None = None
    values: Float64 | None = None
    ids: Any = None
    kept: Any = None
    null_texts: int = 0

    def where(self, row: int) -> str:
        """The place of a row of this batch, for a message."""
        return _where(self.source, self.source_row + row)


@dataclass(frozen=True, slots=True, eq=False)
class RowReader:
    """Rows to be read: where they are, and which column is what.

    sources     the files or the table, in order
    fields      the columns
    label_type  "string", "bool" or that of the integers ("int64"); None without a label
    kept        the schema of the id (where it is a column) and of the columns to keep
    """

    sources: tuple[Source, ...]
    fields: Fields
    label_type: str | None
    kept: pa.Schema

    @property
    def num_rows(self) -> int | None:
        """The number of rows; None where only reading a stream tells."""
        counts = [source.num_rows for source in self.sources]
        return None if None in counts else sum(count or 0 for count in counts)

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        """Read the rows, in order, in batches of about `max_bytes` of strings, at least a row.

        Raises
        ------
        DataError
            Naming file, row and column: a null label, token or tag, as many tags as tokens not
            being there, a number that is null, NaN or infinite; a damaged file; a stream read for
            the second time.
        """
        first_row = 0
        for source in self.sources:
            source_row = 0
            # no column at all cannot be read, nor its rows counted
            for raw in source.read(self.fields.used, max_bytes):
                lengths = np.zeros(raw.num_rows, np.int64)
                for name in self.fields.text:
                    lengths += byte_lengths(raw.column(name))
                for start, stop in cuts(lengths, max_bytes):
                    part = raw.slice(start, stop - start)
                    yield self._batch(part, source.name, first_row, source_row)
                    first_row += part.num_rows
                    source_row += part.num_rows

    def _batch(self, raw: pa.RecordBatch, source: str, first_row: int, row: int) -> RowBatch:
        fields = self.fields
        reading = _Reading(raw, source, row)
        found: dict[str, Any] = {}
        if fields.text:
            found["texts"], found["null_texts"] = reading.texts(fields.text)
        if fields.tokens is not None:
            tokens, offsets, nulls = reading.lists(fields.tokens)
            found |= {"tokens": to_texts(tokens), "token_offsets": offsets, "null_texts": nulls}
            if fields.tags is not None:
                tags, ends, _ = reading.lists(fields.tags)
                reading.refuse_other_lengths(fields.tokens, offsets, fields.tags, ends)
                found["tags"] = _categories(tags)
        if fields.label is not None:
            found["labels"] = reading.labels(fields.label)
        if fields.values:
            found["values"] = np.stack([reading.numbers(name) for name in fields.values], axis=1)
        kept = {f.name: plain(raw.column(f.name), f.type) for f in self.kept}
        if fields.id is not None:
            found["ids"] = kept[fields.id]
        if fields.keep:
            schema = pa.schema([self.kept.field(name) for name in fields.keep])
            arrays = [kept[name] for name in fields.keep]
            arrays = [repaired(array) if is_string(array.type) else array for array in arrays]
            found["kept"] = pa.Table.from_arrays(arrays, schema=schema)
        return RowBatch(first_row, raw.num_rows, source, row, **found)


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
    named : unless `fields` is given: text, tokens, values, label, tags, id, keep, targets, as
        fields.choose_fields has them

    Raises
    ------
    DataError
        A path that does not exist, a column that is missing, mistyped or cannot be guessed (the
        message names the file and lists its columns), files that disagree.
    SettingsError
        `source` is nothing that can be read; columns given both ways; a column of text or of
        values named twice.
    """
    sources = tuple(open_sources(source))
    first = sources[0]
    if fields is None:
        fields = choose_fields(first.schema, first.name, inputs, **named)
    elif named:
        raise SettingsError(f"columns are given twice: by `fields` and by {', '.join(named)}")
    if outputs:
        fields = replace(fields, keep=tuple(dict.fromkeys(fields.keep)))
    else:
        fields = replace(fields, id=None, keep=())
    columns = Columns(None, (), _outputs(fields))
    kinds: dict[str, str] = {}
    for each in sources:
        check_fields(each.schema, fields, each.name)
        if fields.label is not None:
            kinds[each.name] = str(plain_type(each.schema.field(fields.label).type))
    label_type = next(iter(kinds.values()), None)
    expected = label_type
    where = first.name
    if like is not None and like.label_type is not None and label_type is not None:
        expected, where = like.label_type, like.sources[0].name
    for name, kind in kinds.items():
        if _family(kind) != _family(str(expected)):
            raise DataError(
                f"{name}: the label column {fields.label!r} is {kind}, but {expected} in {where}"
            )
    kept = agreed_schema((s.name, used_schema(s.schema, columns, s.name)) for s in sources)
    return RowReader(sources, fields, label_type, kept)


class _Reading:
    """The columns of one record batch, as what they are to be."""

    def __init__(self, raw: pa.RecordBatch, source: str, row: int) -> None:
        self._raw = raw
        self._source = source
        self._row = row

    def refuse(self, row: int, problem: str) -> DataError:
        return DataError(f"{_where(self._source, self._row + row)}: {problem}")

    def column(self, name: str) -> pa.Array:
        array = self._raw.column(name)
        try:
            return plain(array, plain_type(array.type))
        except DataError as error:
            raise self.refuse(0, f"column {name!r}: {error}") from error

    def texts(self, names: tuple[str, ...]) -> tuple[Texts, int]:
        return texts_of([self.column(name) for name in names])

    def labels(self, name: str) -> Categories:
        array = self.column(name)
        if array.null_count:
            raise self.refuse(_first_null(array), f"the label in column {name!r} is null")
        return _categories(array)

    def numbers(self, name: str) -> Float64:
        array = self.column(name)
        if array.null_count:
            raise self.refuse(_first_null(array), f"the number in column {name!r} is null")
        values: Float64 = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            problem = f"the number in column {name!r} is {values[bad[0]]}, expected a finite one"
            raise self.refuse(int(bad[0]), problem)
        return values

    def lists(self, name: str) -> tuple[pa.Array, Int64, int]:
        """The elements as plain strings, their offsets from 0, and how many lists are null."""
        import pyarrow.compute as pc

        array = self._raw.column(name)
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
        if elements.null_count:
            at = int(np.searchsorted(offsets, _first_null(elements), "right")) - 1
            raise self.refuse(at, f"a string in the list of column {name!r} is null")
        try:
            return plain(elements, pa.string() if pa.types.is_null(kind) else kind), offsets, nulls
        except DataError as error:
            raise self.refuse(0, f"column {name!r}: {error}") from error

    def refuse_other_lengths(self, tokens: str, ends: Int64, tags: str, others: Int64) -> None:
        differs = np.flatnonzero(np.diff(ends) != np.diff(others))
        if len(differs):
            row = int(differs[0])
            a, b = int(ends[row + 1] - ends[row]), int(others[row + 1] - others[row])
            problem = f"{a} tokens in column {tokens!r}, but {b} tags in {tags!r}"
            raise self.refuse(row, f"{problem}: expected a tag for each token")


def _where(source: str, row: int) -> str:
    return f"{source}: row {row} (from 0)"


def _outputs(fields: Fields) -> tuple[str, ...]:
    first = () if fields.id is None else (fields.id,)
    return tuple(dict.fromkeys((*first, *fields.keep)))


def _family(kind: str) -> str:
    return "integer" if "int" in kind else kind


def _first_null(array: pa.Array) -> int:
    return int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))


def _categories(array: pa.Array) -> Categories:
    """A plain array of strings, integers or booleans without nulls."""
    encoded = array.dictionary_encode()
    distinct = encoded.dictionary
    if is_string(distinct.type):
        distinct = repaired(distinct)
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Categories(tuple(distinct.to_pylist()), codes)
