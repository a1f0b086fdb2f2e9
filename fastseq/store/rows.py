"""Rows of any data, read in batches of bounded memory.

train = open_rows("train.parquet", "text", outputs=False)     # columns text and label
for batch in train.batches():
    batch.texts, batch.labels                                 # types.Texts, types.Categories
valid = open_rows("valid.parquet", "text", fields=train.fields, like=train)
new = open_rows("new.parquet", "text", text=train.fields.text, keep="url", targets=False)
corpus = Corpus.open("docs.parquet")                          # documents to index
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, RowError, SettingsError, located, quoted
from fastseq.store.arrays import (
    byte_lengths,
    column_starts,
    element_type,
    first_null,
    is_string,
    is_text,
    joined,
    list_offsets,
    null_rows,
    plain,
    plain_type,
    repaired,
    text_lengths,
    texts_of,
    to_texts,
    valid_utf8,
)
from fastseq.store.columns import (
    INDEX_NAME,
    TEXT_NAME,
    TOKENS_NAME,
    VALUE_NAME,
    Fields,
    check_fields,
    check_types,
    choose_fields,
    listed,
)
from fastseq.store.dataset import Dataset, open_sources
from fastseq.store.dense import read_vectors
from fastseq.store.ids import id_type, plain_ids
from fastseq.store.impacts import FLOAT, Impacts, impact_bytes, kind_of_weights, read_impacts
from fastseq.store.sources import FileSource, Source
from fastseq.types import Categories, Float64, Int64, Texts, VectorRows, offsets_of, ranges

MAX_BYTES = 2 << 20  # of strings in a batch
_JOINED = "\0joined "  # begins the name, in a part, of a text column that is lists
_MOST_BYTES = 1 << 30  # far below the limit of 32-bit offsets


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """D consecutive rows.

    first_row   number of the first row, from 0, in the whole dataset
    rows        D
    data        the dataset
    texts       the D texts; a null one is empty. The bytes are Arrow's and must not be written to
    column_starts  int64[D, columns]  where each text column of a row starts, in bytes of the row's
                text; None for a single column
    tokens      all tokens of the D rows; row d has those from token_offsets[d] to [d + 1]
    token_offsets  int64[D + 1]
    labels      D labels, none missing
    tags        one for each token, none missing
    values      float64[D, C], finite
    impacts     the terms of the D rows with their weights
    vectors     of the D rows; H is 0 where the first vector is still to come
    series      the series of each row, none missing; None where each file is one
    ids         the id column (pa.Array); None where the row number is the id
    kept        the columns to keep (pa.Table); None where there are none
    null_texts  rows whose text, whole list of tokens, or impacts are null
    partly_null  rows of which any text column is null
    """

    first_row: int
    rows: int
    data: Dataset
    texts: Texts | None = None
    column_starts: Int64 | None = None
    tokens: Texts | None = None
    token_offsets: Int64 | None = None
    labels: Categories | None = None
    tags: Categories | None = None
    values: Float64 | None = None
    impacts: Impacts | None = None
    vectors: VectorRows | None = None
    series: Categories | None = None
    ids: Any = None
    kept: Any = None
    null_texts: int = 0
    partly_null: int = 0

    def take(self, rows: Int64) -> RowBatch:
        """The ids, or row numbers, and the columns to keep of some rows of the batch; nulls for a
        row of -1."""
        at = pa.array(rows, mask=rows < 0)
        kept = None if self.kept is None else self.kept.take(at)
        numbers = pa.array(self.first_row + rows, mask=rows < 0)
        ids = numbers if self.ids is None else self.ids.take(at)
        return RowBatch(self.first_row, len(rows), self.data, ids=ids, kept=kept)

    @property
    def text(self) -> Texts:
        """The texts of a batch that has them."""
        assert self.texts is not None
        return self.texts

    def columns(self, numbers: Sequence[int]) -> Texts:
        """Some text columns, by their numbers, of row after row. All but the last of them end with
        the space that joins them to the next."""
        text, starts = self.text, self.column_starts
        if starts is None:
            return text
        edges = np.append(starts, np.diff(text.offsets)[:, None], axis=1) + text.offsets[:-1, None]
        if len(numbers) == starts.shape[1]:
            return Texts(text.data, np.append(edges[:, :-1].reshape(-1), text.offsets[-1]))
        chosen = np.array(numbers)
        counts = edges[:, chosen + 1] - edges[:, chosen]
        if numbers[-1] + 1 < starts.shape[1]:
            counts[:, -1] -= 1  # the space
        first, counts = edges[:, chosen].reshape(-1), counts.reshape(-1)
        return Texts(text.data[ranges(first, counts)], offsets_of(counts))

    @property
    def source(self) -> str:
        """The file of the first row, for messages."""
        return self.data.locate(self.first_row)[0].name

    def where(self, row: int) -> str:
        """The location of a row of this batch, for a message."""
        return self.data.where(self.first_row + row)


@dataclass(frozen=True, slots=True, eq=False)
class RowReader:
    """Rows to be read: their source and the roles of their columns.

    data        the files or the table
    fields      the columns
    label_type  "string", "bool" or that of the integers ("int64"); None without a label
    kept        the schema of the id (where it is a column) and of the columns to keep
    weights     the kind of the weights of impacts (impacts.py); None without impacts
    vector_size  numbers of each vector; None where they are as many as in the first of a batch
    """

    data: Dataset
    fields: Fields
    label_type: str | None
    kept: pa.Schema
    weights: str | None = None
    vector_size: int | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files or the table, in order."""
        return self.data.sources

    @property
    def series_type(self) -> str | None:
        """The type of the series' identifier; None where there is only one series."""
        if self.fields.series is not None:
            return str(self.data.type_of(self.fields.series))
        return "string" if len(self.sources) > 1 else None

    @property
    def num_rows(self) -> int | None:
        """The number of rows; None where it is unknown before a stream is read."""
        return self.data.num_rows

    def where(self, row: int) -> str:
        """The location of a row, for a message: its file and its number in it."""
        return self.data.where(row)

    @property
    def _text_numbers(self) -> Sequence[int]:
        """Those of the text columns that are the text."""
        return range(len(self.fields.text))

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        """Read the rows, in order, in batches of about `max_bytes` of strings, at least a row.

        Raises DataError: a null label, token or tag, different numbers of tokens and tags, a number
        that is null or not finite (naming file, row and column); a damaged file or repeated stream.
        """
        return self._batches(max_bytes, joined=False)

    def _batches(self, max_bytes: int, joined: bool) -> Iterator[RowBatch]:
        """`joined`: small batches of the sources are concatenated, across files too."""
        max_bytes = min(max(max_bytes, 1), _MOST_BYTES)
        first_row = 0
        for parts in _groups(self._parts(max_bytes), max_bytes if joined else 0):
            batch = self._batch(parts, first_row)
            yield batch
            first_row += batch.rows

    def _parts(self, max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Record batches of at most `max_bytes` of strings, or one row: text, id and columns to
        keep of their plain types, others as they are."""
        row = 0
        texts = self.fields.text
        others = [field.name for field in self.kept if is_text(field.type)]
        others = [name for name in others if name not in texts]
        for raw in self.data.read(self.fields.used, max_bytes):
            with located(self.data.where, row):
                lengths = np.zeros(raw.num_rows, np.int64)
                for name in texts:
                    lengths += text_lengths(raw.column(name))
                for name in others:
                    lengths += byte_lengths(raw.column(name))
                if self.fields.impacts is not None:
                    lengths += impact_bytes(raw.column(self.fields.impacts))
            for start, stop in _cuts(lengths, max_bytes):
                with located(self.data.where, row + start):
                    yield self._part(raw.slice(start, stop - start))
            row += raw.num_rows

    def _part(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        columns = {name: raw.column(name) for name in self.fields.used}
        for name in self.fields.text:
            array = _plain(columns[name], name)
            if element_type(array.type) is None:
                columns[name] = array
                continue
            if name not in self.kept.names:
                del columns[name]
            columns[_JOINED + name] = joined(array)
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
                names = part.schema.names
                columns = [
                    part.column(_JOINED + name if _JOINED + name in names else name)
                    for name in fields.text
                ]
                found["texts"] = texts_of(columns)
                found["null_texts"] = null_rows([columns[number] for number in self._text_numbers])
                found["partly_null"] = null_rows(columns, partly=True)
                if len(columns) > 1:
                    found["column_starts"] = column_starts(columns)
            if fields.tokens is not None:
                tokens, offsets, nulls = _lists(part, fields.tokens)
                found |= {"tokens": to_texts(tokens), "token_offsets": offsets, "null_texts": nulls}
                if fields.tags is not None:
                    tags, ends, _ = _lists(part, fields.tags)
                    _check_lengths(fields, offsets, ends)
                    found["tags"] = _categories(tags)
            if fields.label is not None:
                found["labels"] = _categories(_present(part, fields.label, "label"))
            if fields.series is not None:
                found["series"] = _categories(_present(part, fields.series, "series"))
            if fields.impacts is not None:
                impacts = read_impacts(
                    part.column(fields.impacts), fields.impacts, self.weights or FLOAT
                )
                found |= {"impacts": impacts, "null_texts": impacts.nulls}
            if fields.vectors is not None:
                vectors = part.column(fields.vectors)
                found["vectors"] = read_vectors(vectors, fields.vectors, self.vector_size)
            if fields.values:
                found["values"] = np.stack([_numbers(part, name) for name in fields.values], axis=1)
        if fields.id is not None:
            found["ids"] = part.column(fields.id)
        if fields.keep:
            schema = pa.schema([self.kept.field(name) for name in fields.keep])
            # columns to keep are displayed later, even where invalid text is an error elsewhere
            arrays = [repaired(part.column(name)) for name in fields.keep]
            found["kept"] = pa.Table.from_arrays(arrays, schema=schema)
        return RowBatch(first_row, part.num_rows, self.data, **found)


def _with_fields(text_columns: Sequence[str], fields: Sequence[str]) -> tuple[str, ...]:
    """The text columns, one named twice counting twice, and those fields that are none of them."""
    return (*text_columns, *(name for name in fields if name not in text_columns))


def text_layout(text_columns: Sequence[str], fields: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Of each field of an index the numbers of its columns among all text columns, those of the
    text first; "" is the text."""
    names = _with_fields(text_columns, fields)
    main = {"": tuple(range(len(text_columns)))}
    return main | {name: (names.index(name),) for name in fields}


@dataclass(frozen=True, slots=True, eq=False)
class Corpus(RowReader):
    """Documents to be read: their source and the roles of their columns.

    layout  of each field of the index the numbers of its text columns; "" is the text
    """

    layout: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=lambda: {"": (0,)})

    @staticmethod
    def open(
        source: Any,
        id_column: str | None = None,
        text_columns: str | Sequence[str] | None = None,
        store: str | Sequence[str] | None = None,
        indexed_fields: Sequence[str] = (),
        partial: bool = False,
        strings: Sequence[str] = (),
        impacts: str | None = None,
        weights: str | None = None,
        vectors: str | None = None,
        vector_size: int | None = None,
    ) -> Corpus:
        """Find the files and resolve the columns from the schemas, without reading rows.

        Parameters
        ----------
        source : a file of Parquet, JSON Lines or CSV, a folder (every such file below it), a glob,
            a URI, "-" for standard input, or a list of those; an Arrow table or stream; anything
            with the Arrow stream interface (pandas, polars), or a list of those; an iterable of
            dicts or texts
        id_column : of the types that ids.py lists; by default `id`, `doc_id`, `_id` or the row
            number
        text_columns : joined by a space, a null being empty; by default `text` or the only column
            of strings except the id. Strings of every Arrow type, bytes taken as UTF-8, or lists of
            those, also joined by a space. Of these and other columns, `doc.text` is a field of a
            struct, unless a column has this name
        store : the columns to store in addition to the id; by default all
        indexed_fields : text columns that are also fields of their own; without text_columns they
            are joined
        partial : whether all files may lack some of several text columns, which are then null
        strings : columns that are strings in CSV, too, where they could be numbers
        impacts : instead of texts, a column of terms with weights, which is not stored by default
        weights : the kind of the weights; by default that of the types of the column
        vectors : a column of vectors, which is not stored by default
        vector_size : numbers of each; by default as many as in the first

        Columns are matched by name: where a file lacks one that is stored, or one of several text
        columns, its rows have nulls; numbers of several widths become the widest. Folders called
        KEY=VALUE below the given folder become columns, too.

        Raises
        ------
        DataError
            A path does not exist, a file is damaged or of no known format, a column is missing,
            ambiguous or of an unsuitable type, files disagree.
        SettingsError
            `source` is none of the above.
        """
        names = listed(text_columns) or listed(indexed_fields)
        asked = (*names, *indexed_fields)
        data = open_sources(source, asked or (TEXT_NAME,))
        data = data.with_strings(strings)
        data = data.with_texts(asked) if impacts is None else data.with_maps(impacts)
        own = list(data.types)
        if partial:
            data = data.with_nulls(asked)
        fields = choose_fields(
            data, "text" if impacts is None else "impacts", text=names or None, impacts=impacts,
            vectors=vectors, id=id_column, targets=False, text_parameter="text_columns",
        )  # fmt: skip
        data = data.with_ids(fields.id)
        text = fields.text
        fields = replace(fields, text=_with_fields(text, indexed_fields))
        if store is None:
            read = (impacts, vectors)
            named = [name for name in own if not INDEX_NAME.fullmatch(name) and name not in read]
            nested = [] if fields.id is None or fields.id in own else [fields.id]
            stored = (*named, *nested)
        else:
            stored = (*(() if fields.id is None else (fields.id,)), *listed(store))
        fields = replace(fields, keep=tuple(dict.fromkeys(stored)))
        check_fields(data, fields)
        check_types(data, "id", fields.id)
        kept = _kept_schema(data, fields)
        if fields.id is not None:
            at = kept.get_field_index(fields.id)
            kept = kept.set(at, kept.field(at).with_type(id_type(kept.field(at).type)))
        if impacts is not None:
            weights = weights or kind_of_weights(data.kinds(impacts))
        layout = text_layout(text, indexed_fields)
        return Corpus(data, fields, None, kept, weights, vector_size, layout)

    @property
    def name(self) -> str:
        """For messages: the first source and the number of others."""
        return self.data.name

    @property
    def place(self) -> Callable[[int], str] | None:
        """`where` for rows of files; None where rows have only numbers."""
        return self.where if isinstance(self.sources[0], FileSource) else None

    @property
    def id_column(self) -> str | None:
        """The name of the id column; None where the row number is the id."""
        return self.fields.id

    @property
    def _text_numbers(self) -> Sequence[int]:
        return self.layout[""]

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The names of the columns that are joined to the text."""
        return tuple(self.fields.text[number] for number in self._text_numbers)

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """The names of the columns to store."""
        return self.fields.keep

    @property
    def stored_schema(self) -> pa.Schema:
        """The schema of every batch's `kept`."""
        return pa.schema([self.kept.field(name) for name in self.stored_columns])

    @property
    def num_bytes(self) -> int | None:
        """Approximate bytes of text, uncompressed; None where a stream does not know them."""
        sizes = [source.nbytes(self.text_columns) for source in self.sources]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        """Read the corpus, in order, in batches of about `max_bytes` of strings, at least a row.

        The concatenated batches are the same for every size. Memory is a small multiple of a batch,
        independent of the row groups of a file.

        Raises
        ------
        DataError
            A null id or one that is not UTF-8 (naming file and row), a damaged file, a text of
            more than 2 GiB, a stream read for the second time.
        """
        for batch in self._batches(max_bytes, joined=True):
            if batch.ids is not None:
                with located(batch.where):
                    self._check_ids(batch.ids)
            yield batch

    def with_stored(self, name: str) -> Corpus:
        """The corpus with a column more that is stored."""
        kept = self.kept.append(pa.field(name, self.data.type_of(name)))
        return replace(
            self, fields=replace(self.fields, keep=(*self.fields.keep, name)), kept=kept
        )

    def _check_ids(self, ids: pa.Array) -> None:
        if ids.null_count:
            raise RowError(first_null(ids), f"the id in column {quoted(self.id_column)} is null")
        if is_string(ids.type) and not valid_utf8(ids):
            row = next(i for i in range(len(ids)) if not valid_utf8(ids.slice(i, 1)))
            raise RowError(row, f"the id in column {quoted(self.id_column)} is not UTF-8")


def _single_columns(
    inputs: str, fields: Fields | None, named: Mapping[str, Any]
) -> tuple[str, ...]:
    """What a single column with the inputs may be called; arguments as in `open_rows`."""
    if fields is not None:
        return fields.text or fields.values or listed(fields.tokens)
    usual = {"text": TEXT_NAME, "tokens": TOKENS_NAME, "values": VALUE_NAME}
    return listed(named.get(inputs)) or listed(usual.get(inputs))


def open_rows(
    source: Any,
    inputs: str,
    *,
    fields: Fields | None = None,
    like: RowReader | None = None,
    outputs: bool = True,
    **named: Any,
) -> RowReader:
    """Find the files and resolve the columns from the schemas, without reading rows.

    Parameters
    ----------
    source : as in Corpus.open, or from in_memory.as_source
    inputs : "text", "tokens" or "values"
    fields : the columns, if they are known (those of training); None to choose them
    like : rows with the expected type of labels
    outputs : whether to read the id and the columns to keep, which only predictions need
    named : unless `fields` is given: arguments of columns.choose_fields

    Raises DataError as Corpus.open; SettingsError: `source` cannot be read, columns are given both
    ways, a column of text or of values is named twice.
    """
    for role, option in (("text", "text"), ("value", "values")):
        names = listed(named.get(option))
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(
                    f"the {role} column {quoted(name)} is named {names.count(name)} times; "
                    "expected once"
                )
    data = open_sources(source, _single_columns(inputs, fields, named))
    if inputs == "text":
        data = data.with_texts(listed(named.get("text")) if fields is None else fields.text)
    if fields is None:
        fields = choose_fields(data, inputs, **named)
    elif named:
        raise SettingsError(f"columns are given twice: by `fields` and by {', '.join(named)}")
    if outputs:
        data = data.with_ids(fields.id)
        fields = replace(fields, keep=tuple(dict.fromkeys(fields.keep)))
    else:
        fields = replace(fields, id=None, keep=())
    check_fields(data, fields)
    label_type = None
    if fields.label is not None:
        kinds = data.kinds(fields.label).items()
        label_type, where = next((str(plain_type(kind)), name) for kind, name in kinds)
        expected = label_type
        if like is not None and like.label_type is not None:
            expected, where = like.label_type, like.sources[0].name
        for kind, name in kinds:
            found = str(plain_type(kind))
            if found != expected and not ("int" in found and "int" in expected):
                raise DataError(
                    f"{name}: the label column {fields.label!r} is {found}, but {expected} in "
                    f"{where}"
                )
    return RowReader(data, fields, label_type, _kept_schema(data, fields))


def _kept_schema(data: Dataset, fields: Fields) -> pa.Schema:
    return pa.schema([(name, data.type_of(name)) for name in fields.outputs])


def _groups(parts: Iterable[pa.RecordBatch], max_bytes: int) -> Iterator[list[pa.RecordBatch]]:
    """Runs of consecutive batches of one schema, of half to all of `max_bytes`; 0: single ones."""
    pending: list[pa.RecordBatch] = []
    size = 0
    for part in parts:
        if pending and (size + part.nbytes > max_bytes or part.schema != pending[0].schema):
            yield pending
            pending, size = [], 0
        pending.append(part)
        size += part.nbytes
        if 2 * size >= max_bytes:
            yield pending
            pending, size = [], 0
    if pending:
        yield pending


def _cuts(lengths: Int64, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut n rows of these lengths into runs [start, stop) of at most `max_bytes`, or one row."""
    ends = np.cumsum(lengths)
    start, before = 0, 0
    while start < len(lengths):
        stop = max(int(np.searchsorted(ends, before + max_bytes, "right")), start + 1)
        yield start, stop
        start, before = stop, int(ends[stop - 1])


# ---- conversion of the columns of a record batch; the rows of a RowError are those of the batch


def _plain(array: pa.Array, name: str, kind: pa.DataType | None = None) -> pa.Array:
    try:
        if kind is not None and pa.types.is_integer(kind) and pa.types.is_floating(array.type):
            array = plain_ids(array)
        return plain(array, plain_type(array.type) if kind is None else kind)
    except RowError as error:
        raise RowError(error.row, f"column {quoted(name)}: {error.problem}") from error


def _present(batch: pa.RecordBatch, name: str, what: str) -> pa.Array:
    """A plain column, which must not have nulls."""
    array = _plain(batch.column(name), name)
    if array.null_count:
        raise RowError(first_null(array), f"the {what} in column {quoted(name)} is null")
    return array


def _numbers(batch: pa.RecordBatch, name: str) -> Float64:
    array = _present(batch, name, "number")
    values: Float64 = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        problem = f"the number in column {quoted(name)} is {values[bad[0]]}, expected a finite one"
        raise RowError(int(bad[0]), problem)
    return values


def _lists(batch: pa.RecordBatch, name: str) -> tuple[pa.Array, Int64, int]:
    """The elements as plain strings, their offsets from 0, and the number of null lists."""
    array = _plain(batch.column(name), name)
    nulls = array.null_count
    offsets = list_offsets(array)
    elements = array.flatten()
    kind = element_type(array.type)
    assert kind is not None  # by check_fields

    def row(element: int) -> int:
        return int(np.searchsorted(offsets, element, "right")) - 1

    if elements.null_count:
        problem = f"a string in the list of column {quoted(name)} is null"
        raise RowError(row(first_null(elements)), problem)
    try:
        strings = _plain(elements, name, pa.string() if pa.types.is_null(kind) else kind)
    except RowError as error:
        raise RowError(row(error.row), error.problem) from error
    return strings, offsets, nulls


def _check_lengths(fields: Fields, tokens: Int64, tags: Int64) -> None:
    pairs = np.stack([np.diff(tokens), np.diff(tags)], axis=1)
    for row in np.flatnonzero(pairs[:, 0] != pairs[:, 1])[:1].tolist():
        a, b = pairs[row]
        problem = f"{a} tokens in column {fields.tokens!r}, but {b} tags in {fields.tags!r}"
        raise RowError(row, f"{problem}: expected a tag for each token")


def _categories(array: pa.Array) -> Categories:
    """A plain array of strings, integers or booleans without nulls."""
    encoded = array.dictionary_encode()
    distinct = repaired(encoded.dictionary)
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Categories(tuple(distinct.to_pylist()), codes)
