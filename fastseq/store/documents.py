"""Stored columns of the documents of an index.

They are written in groups of consecutive rows, each of which is an Arrow IPC stream of one record
batch with zstd-compressed buffers: a group can be read alone, a column of it without the others,
and merging segments copies whole groups. Columns of long strings have groups of their own. Format 1
of the index has a Parquet file instead.
"""

from __future__ import annotations

import base64
import itertools
import os
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc

from fastseq.errors import DataError, FormatError, quoted
from fastseq.machine import core_count
from fastseq.store.arrays import byte_lengths, is_text, number_array, plain
from fastseq.store.files import reason
from fastseq.store.recent import Recent
from fastseq.store.record_batches import RecordBatchReader
from fastseq.threads import Team
from fastseq.types import Int64, offsets_of

GROUP_ROWS = 4096
GROUP_BYTES = 128 << 10  # of strings: long documents make groups of fewer rows
LONG_BYTES = 64  # of a string, on average, in a column with groups of its own
CACHED_BYTES = 64 << 20  # compressed; columns of larger files are cached only when asked for whole
_BATCH = 128  # groups: 16 MB of strings
_BATCH_ROWS = 1 << 16
_AT_ONCE = 16  # groups of which rows are taken
_MOST = 0.75  # the share of all groups from which on all are read, and cached
_FEW = 64  # rows
_ARRAY_BYTES = 256  # of an array without its buffers, about
_readers = itertools.count()  # their numbers, in keys of caches
# what reading a damaged file may raise
_DAMAGE = (
    pa.ArrowException, OSError, ValueError, IndexError, OverflowError, MemoryError, struct.error,
)  # fmt: skip
# to write 100 ids takes 17 µs, and 71 µs with Arrow's threads
_OPTIONS = ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)


class _Pending:
    """Rows of some columns that are not yet written."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._tables: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Append the rows of a table; yields each group that is full, and the row that follows its
        last."""
        own = table.select(self._names)
        ends = np.cumsum(_string_bytes(own))
        start = 0
        while start < own.num_rows:
            before = int(ends[start - 1]) if start else 0
            room = GROUP_BYTES - self._bytes
            full = int(np.searchsorted(ends, before + room, "left")) + 1
            stop = min(full, start + GROUP_ROWS - self._rows, own.num_rows)
            self._tables.append(own.slice(start, stop - start))
            self._rows += stop - start
            self._bytes += int(ends[stop - 1]) - before
            if self._rows == GROUP_ROWS or self._bytes >= GROUP_BYTES:
                yield stop, self.take()
            start = stop

    def take(self) -> pa.Table:
        """The rows, which are then no longer pending."""
        group = pa.concat_tables(self._tables) if self._tables else None
        self._tables, self._rows, self._bytes = [], 0, 0
        return group


class DocumentWriter:
    """Writes the stored columns of documents, a table at a time.

    Columns of long strings and the others are two parts, each with groups of its own: a filter on a
    number need not read around the texts. A group ends after 4,096 rows, or with the row that
    brings its strings to 128 KB, however the rows are split into tables: the same rows always give
    the same bytes. The first group decides, where 128 KB end it: long are columns with more than 64
    bytes a row in it. Else, or without such columns, there is one part.

    Parameters
    ----------
    append : called with the bytes of each group
    schema : plain types only (`Corpus.stored_schema`)
    parts : the names of the columns of each part; default: as above

    Attributes
    ----------
    rows, sizes, group_parts : of each group written: its rows, its bytes and its part
    parts : as above; one part until the first group decides
    schema : of the rows

    Raises DataError: the type of a column cannot be stored (named).
    """

    def __init__(
        self, append: Callable[[Any], None], schema: pa.Schema,
        parts: Sequence[Sequence[str]] | None = None,
    ) -> None:  # fmt: skip
        self.rows: list[int] = []
        self.sizes: list[int] = []
        self.group_parts: list[int] = []
        self._append = append
        self.schema = schema.remove_metadata()
        self._is_decided = parts is not None
        self._divide([schema.names] if parts is None else parts)
        for field in self.schema:
            if _is_encoded(field.type):
                raise DataError(
                    f"the column {quoted(field.name)} is {field.type}, which cannot be stored: "
                    "leave it "
                    "out (store=… names the columns to store)"
                )

    @property
    def column_parts(self) -> list[int]:
        """The part of each column."""
        part_of = {name: part for part, names in enumerate(self.parts) for name in names}
        return [part_of[name] for name in self.schema.names]

    def append(self, table: pa.Table) -> None:
        """Append the rows of a table. Raises DataError for another schema; what `append`
        raises."""
        if not table.schema.equals(self.schema):
            raise DataError(f"columns to store: {table.schema.names}, unlike those before")
        if not self._is_decided:
            first = next(self._pending[0].add(table), None)
            if first is None:
                return
            start, group = first
            self._is_decided = True
            long = _long_columns(group)
            if long:
                self._divide([[name for name in self.schema.names if name not in long], long])
            self._add(group)
            table = table.slice(start)
        self._add(table)

    def like(self, stored: StoredDocuments, part: int) -> DocumentReader | None:
        """The reader of the same columns as those of a part, whose groups can be appended."""
        wanted = pa.schema(map(self.schema.field, self.parts[part]))
        return next((own for own in stored.parts if own.schema.equals(wanted)), None)

    def append_part(self, table: pa.Table, part: int) -> None:
        """Append rows of the columns of one part."""
        for _, group in self._pending[part].add(table):
            self._write(group, part)

    def append_group(self, group: Any, rows: int, part: int = 0) -> None:
        """Append a whole group of another writer with the same schema and columns of the part."""
        self._is_decided = True
        self._end(part)
        self._append(group)
        self._count(rows, len(group), part)

    def end_group(self) -> None:
        """Write the pending rows, if there are any, as groups of their own."""
        for part in range(len(self.parts)):
            self._end(part)

    def _divide(self, parts: Sequence[Sequence[str]]) -> None:
        self.parts = [list(names) for names in parts]
        self._pending = list(map(_Pending, self.parts))

    def _add(self, table: pa.Table) -> None:
        full = [
            (stop, part, group)
            for part, pending in enumerate(self._pending)
            for stop, group in pending.add(table)
        ]
        for _, part, group in sorted(full, key=itemgetter(0, 1)):
            self._write(group, part)

    def _end(self, part: int) -> None:
        group = self._pending[part].take()
        if group is not None:
            self._write(group, part)

    def _write(self, group: pa.Table, part: int) -> None:
        sink = pa.BufferOutputStream()
        schema = pa.schema(map(self.schema.field, self.parts[part]))
        try:
            # copies: the bytes would depend on the borders of chunks, and the padding of a slice's
            # buffers is bytes of other rows
            columns = [pa.concat_arrays(column.chunks) for column in group.columns]
            with ipc.new_stream(sink, schema, options=_OPTIONS) as stream:
                stream.write_batch(pa.record_batch(columns, schema=schema))
        except pa.ArrowException as error:
            raise DataError(f"cannot store the columns: {reason(error)}") from error
        written = sink.getvalue()
        self._append(written)
        self._count(group.num_rows, len(written), part)

    def _count(self, rows: int, size: int, part: int) -> None:
        self.rows.append(rows)
        self.sizes.append(size)
        self.group_parts.append(part)


class StoredDocuments(ABC):
    """The stored columns of documents; thread-safe.

    name    of the file, in messages
    schema  of the columns
    starts  int64[G + 1]: group g holds the rows starts[g] to starts[g + 1]
    """

    def __init__(self, name: str, schema: pa.Schema, rows: npt.ArrayLike) -> None:
        self.name = name
        self.schema: pa.Schema = schema
        self.starts = offsets_of(rows)

    @property
    def num_rows(self) -> int:
        """The number of documents."""
        return int(self.starts[-1])

    @property
    def parts(self) -> list[DocumentReader]:
        """The readers of the columns that have groups of their own; none in format 1."""
        return []

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, up to 128 groups at a time. Raises as `column`."""
        for first, stop in self.spans(columns):
            yield from self.rows(first, stop, columns)

    @abstractmethod
    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column, cached, in one chunk where it fits. Raises DataError for an unknown name,
        FormatError for a damaged file."""

    @abstractmethod
    def spans(self, columns: Sequence[str]) -> list[tuple[int, int]]:
        """All rows as ranges (first, stop) of which some columns are best read at a time: whole
        groups, about 65,536 rows and at most 128 groups. Raises DataError for an unknown name."""

    @abstractmethod
    def rows(self, first: int, stop: int, columns: Sequence[str]) -> list[pa.RecordBatch]:
        """Some columns of a range of rows, first < stop; thread-safe. Raises as `column`."""

    @abstractmethod
    def take(
        self, rows: npt.ArrayLike, columns: Sequence[str] | None = None,
        recent: Recent | None = None, cached: bool = True,
    ) -> pa.Table:  # fmt: skip
        """Some rows (int[m], repeats allowed), in the given order, of some columns or all.

        Reads the groups that hold these rows, on all cores, and keeps those of few rows in
        `recent`; if these are most groups of a small file, reads and caches all of them, unless
        `cached` is false.

        Raises IndexError: a row is out of range; DataError: there is no column of a given name;
        FormatError: the file is damaged.
        """


class GroupedDocuments(StoredDocuments):
    """Stored columns of which each group holds the rows of all.

    nbytes  of the groups in the file
    """

    def __init__(self, name: str, schema: pa.Schema, rows: npt.ArrayLike, nbytes: int) -> None:
        super().__init__(name, schema, rows)
        self._bytes = nbytes
        self._lock = threading.Lock()
        self._cached: dict[str, pa.ChunkedArray] = {}

    def column(self, name: str) -> pa.ChunkedArray:
        check_columns(self.schema, [name])
        with self._lock:
            if name not in self._cached:
                groups = range(len(self.starts) - 1)
                self._cached[name] = self._read(groups, [name]).combine_chunks().column(0)
            return self._cached[name]

    def spans(self, columns: Sequence[str]) -> list[tuple[int, int]]:
        check_columns(self.schema, columns)
        groups = len(self.starts) - 1
        step = min(max(_BATCH_ROWS * groups // max(self.num_rows, 1), 1), _BATCH)
        return list(pairwise([*self.starts[:-1:step].tolist(), self.num_rows]))

    def rows(self, first: int, stop: int, columns: Sequence[str]) -> list[pa.RecordBatch]:
        check_columns(self.schema, columns)
        begin = int(np.searchsorted(self.starts, first, "right")) - 1
        end = int(np.searchsorted(self.starts, stop, "left"))
        table = self._read(range(begin, end), list(columns))
        table = table.slice(first - int(self.starts[begin]), stop - first)
        found: list[pa.RecordBatch] = table.combine_chunks().to_batches()
        return found

    def take(
        self, rows: npt.ArrayLike, columns: Sequence[str] | None = None,
        recent: Recent | None = None, cached: bool = True,
    ) -> pa.Table:  # fmt: skip
        names = self.columns if columns is None else list(columns)
        wanted = np.asarray(rows, np.int64).reshape(-1)
        if len(wanted) == 0:
            return no_rows(self.schema, names)
        check_columns(self.schema, names)
        if wanted.min() < 0 or wanted.max() >= self.num_rows:
            raise IndexError(f"{self.name}: rows must be from 0 to {self.num_rows - 1}")
        is_cached = all(name in self._cached for name in names)
        if recent is not None and len(wanted) <= _FEW and not is_cached:
            few = self._few(wanted, names, recent)
            if few is not None:
                return few
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        group_of = np.searchsorted(self.starts, ascending, "right") - 1
        first = np.flatnonzero(np.diff(group_of, prepend=-1))
        if is_cached or (
            cached
            and len(first) > _MOST * (len(self.starts) - 1)
            and len(self.starts) > 2
            and self._bytes <= CACHED_BYTES
        ):
            whole = pa.Table.from_arrays([self.column(name) for name in names], names)
            return taken(whole, wanted)

        bounds = [*first[::_AT_ONCE].tolist(), len(ascending)]
        pieces: dict[int, pa.Table] = {}

        def read(number: int) -> None:
            start, stop = bounds[number : number + 2]
            groups, own = np.unique(group_of[start:stop], return_inverse=True)
            table = self._read(groups.tolist(), names)
            before = offsets_of(np.diff(self.starts)[groups])[own]
            rows = ascending[start:stop] - self.starts[groups][own] + before
            pieces[number] = taken(table, rows)

        Team(core_count()).run(read, len(bounds) - 1)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return taken(pa.concat_tables(pieces[number] for number in range(len(pieces))), back)

    def _few(self, rows: Int64, names: list[str], recent: Recent) -> pa.Table | None:
        """Some rows, with the groups in a cache; None where groups are not cached."""
        return None

    @abstractmethod
    def _read(self, groups: Sequence[int], names: list[str]) -> pa.Table:
        """Some columns of whole groups; thread-safe."""

    def _checked(self, table: pa.Table, groups: Sequence[int], names: list[str]) -> pa.Table:
        expected = sum(int(self.starts[g + 1] - self.starts[g]) for g in groups)
        # of Parquet, a name with dots also selects fields of structs
        if table.num_rows != expected or not set(names) <= set(table.schema.names):
            raise FormatError(f"{self.name}: damaged: not the columns and rows of the index")
        return table.select(names)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with reading_documents(self.name):
            yield


class DocumentReader(GroupedDocuments):
    """Reads a part of what a DocumentWriter wrote.

    Parameters
    ----------
    read_many : the bytes of several ranges of the groups, from one offset each to another; called
        by several threads at a time; may raise FormatError
    schema : of the columns
    rows : of each group
    bounds : int64[G, 2]: the offsets of its first byte and after its last
    """

    def __init__(
        self, name: str, read_many: Callable[[list[int], list[int]], Sequence[Any]],
        schema: pa.Schema, rows: npt.ArrayLike, bounds: Int64,
    ) -> None:  # fmt: skip
        self._bounds = bounds
        self._source = read_many
        super().__init__(name, schema, rows, int(np.diff(bounds).sum()))
        self._reader = RecordBatchReader(read_many, schema)
        self._number = next(_readers)

    @property
    def parts(self) -> list[DocumentReader]:
        return [self]

    def group(self, number: int) -> Any:
        """The bytes of a group."""
        start, stop = self._bounds[number].tolist()
        return self._source([start], [stop])[0]

    def _few(self, rows: Int64, names: list[str], recent: Recent) -> pa.Table | None:
        groups = np.searchsorted(self.starts, rows, "right") - 1
        places = list(zip(groups.tolist(), (rows - self.starts[groups]).tolist(), strict=True))
        columns = self._groups(dict.fromkeys(group for group, _ in places), names, recent)
        arrays = [
            pa.concat_arrays([columns[group][number].slice(row, 1) for group, row in places])
            for number in range(len(names))
        ]
        return pa.Table.from_arrays(arrays, schema=pa.schema(map(self.schema.field, names)))

    def _groups(
        self, groups: Iterable[int], names: list[str], recent: Recent
    ) -> dict[int, Sequence[pa.Array]]:
        """Some columns of each of some groups, from a cache or into it."""
        keys = {group: (self._number, group, *names) for group in groups}
        found = dict(zip(groups, recent.get(keys.values()), strict=True))
        missing = [group for group, arrays in found.items() if arrays is None]
        if missing:
            columns = self._arrays(missing, names, apart=True)
            for group, arrays in zip(missing, zip(*columns, strict=True), strict=True):
                found[group] = arrays
                nbytes = sum(_ARRAY_BYTES + array.get_total_buffer_size() for array in arrays)
                recent.put(keys[group], arrays, nbytes)
        return found

    def _arrays(
        self, groups: Sequence[int], names: list[str], apart: bool = False
    ) -> list[list[pa.Array]]:
        """Of each of some columns the values in some groups, as RecordBatchReader.columns returns
        them."""
        bounds = list(map(tuple, self._bounds[list(groups)].tolist()))
        numbers = [self.schema.get_field_index(name) for name in names]
        with self._reading():
            rows, columns = self._reader.columns(bounds, numbers, apart)
            if not np.array_equal(rows, np.diff(self.starts)[list(groups)]):
                raise ValueError("not the rows of the index")
            expected = rows.tolist(), [int(rows.sum())]
            if any([len(array) for array in arrays] not in expected for arrays in columns):
                raise ValueError("a column of other rows")
        return columns

    def _read(self, groups: Sequence[int], names: list[str]) -> pa.Table:
        fields = [self.schema.field(name) for name in names]
        columns = self._arrays(groups, names)
        with self._reading():
            table = pa.Table.from_arrays(
                [
                    pa.chunked_array(parts, field.type)
                    for parts, field in zip(columns, fields, strict=True)
                ],
                schema=pa.schema(fields),
            )
        return self._checked(table, groups, names)


class DividedDocuments(StoredDocuments):
    """Stored columns of which some have other groups than the others. `starts` are those of the
    part with the most groups.

    parts : the readers of the columns, of equal numbers of rows
    """

    def __init__(self, name: str, schema: pa.Schema, parts: Sequence[DocumentReader]) -> None:
        self._parts = list(parts)
        rows = np.diff(max((part.starts for part in parts), key=len))
        super().__init__(name, schema, rows)
        self._part_of = {column: part for part in parts for column in part.columns}

    @property
    def parts(self) -> list[DocumentReader]:
        return self._parts

    def column(self, name: str) -> pa.ChunkedArray:
        check_columns(self.schema, [name])
        return self._part_of[name].column(name)

    def spans(self, columns: Sequence[str]) -> list[tuple[int, int]]:
        check_columns(self.schema, columns)
        return max((part.spans(own) for part, own in self._divided(columns)), key=len)

    def rows(self, first: int, stop: int, columns: Sequence[str]) -> list[pa.RecordBatch]:
        check_columns(self.schema, columns)
        found = [(part.rows(first, stop, own), own) for part, own in self._divided(columns)]
        if len(found) == 1:
            return found[0][0]
        table = self._joined([pa.Table.from_batches(rows) for rows, _ in found], columns)
        batches: list[pa.RecordBatch] = table.to_batches()
        return batches

    def take(
        self, rows: npt.ArrayLike, columns: Sequence[str] | None = None,
        recent: Recent | None = None, cached: bool = True,
    ) -> pa.Table:  # fmt: skip
        names = self.columns if columns is None else list(columns)
        check_columns(self.schema, names)
        divided = self._divided(names)
        return self._joined([part.take(rows, own, recent, cached) for part, own in divided], names)

    def _divided(self, names: Sequence[str]) -> list[tuple[DocumentReader, list[str]]]:
        """The parts of some columns, and those that each of them has."""
        own: dict[DocumentReader, list[str]] = {}
        for name in names:
            own.setdefault(self._part_of[name], []).append(name)
        return list(own.items())

    def _joined(self, tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
        """Columns of tables of the same rows."""
        if len(tables) == 1:
            return tables[0]
        found = {name: table.column(name) for table in tables for name in table.schema.names}
        fields = pa.schema(map(self.schema.field, names))
        return pa.Table.from_arrays([found[name] for name in names], schema=fields)


class ParquetDocuments(GroupedDocuments):
    """The stored columns of an index of format 1, a Parquet file in `source`, bytes (an mmap, say).
    Raises FormatError for a damaged file."""

    def __init__(self, source: Any, name: str | os.PathLike[str]) -> None:
        import pyarrow.parquet as pq  # slow to import

        with reading_documents(str(name)):
            opened = pa.BufferReader(pa.py_buffer(source))
            self._file = pq.ParquetFile(opened, page_checksum_verification=True)
            metadata = self._file.metadata
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        rows = [group.num_rows for group in groups]
        nbytes = sum(group.total_byte_size for group in groups) // 4
        super().__init__(str(name), self._file.schema_arrow, rows, nbytes)
        self._reads = threading.Lock()
        if np.any(np.diff(self.starts) < 0) or self.starts[-1] != metadata.num_rows:
            raise FormatError(f"{self.name}: damaged: its row groups do not add up")

    def _read(self, groups: Sequence[int], names: list[str]) -> pa.Table:
        if not groups:  # some versions of pyarrow cannot read such a file
            return self.schema.empty_table().select(names)
        with self._reading(), self._reads:
            table = self._file.read_row_groups(list(groups), columns=names, use_threads=False)
        return self._checked(table, groups, names)


def open_documents(
    name: str, read_many: Callable[[list[int], list[int]], Sequence[Any]], schema: Any,
    rows: npt.ArrayLike, sizes: npt.ArrayLike, column_parts: npt.ArrayLike | None = None,
    group_parts: npt.ArrayLike | None = None,
) -> StoredDocuments:  # fmt: skip
    """What a DocumentWriter wrote.

    read_many : as of DocumentReader
    schema : the schema's IPC message
    rows, sizes : of each group
    column_parts, group_parts : the part of each column and group; default: one part

    Raises FormatError for a schema that cannot be read, and parts that are not those of the rows.
    """
    with reading_documents(name):
        known = ipc.read_schema(pa.py_buffer(schema))
        ends = offsets_of(sizes)
        bounds = np.stack([ends[:-1], ends[1:]], axis=1)
        if column_parts is None or group_parts is None:
            return DocumentReader(name, read_many, known, rows, bounds)
        of_column, of_group = np.asarray(column_parts), np.asarray(group_parts)
        if len(of_column) != len(known) or len(of_group) != len(bounds):
            raise ValueError("not the parts of the columns")
        parts = []
        for part in np.unique(of_column):
            fields = [known.field(column) for column in np.flatnonzero(of_column == part).tolist()]
            own = of_group == part
            of_part = np.asarray(rows)[own]
            parts.append(DocumentReader(name, read_many, pa.schema(fields), of_part, bounds[own]))
        if len({part.num_rows for part in parts}) != 1 or not np.isin(of_group, of_column).all():
            raise ValueError("parts of other rows")
    return parts[0] if len(parts) == 1 else DividedDocuments(name, known, parts)


@contextmanager
def reading_documents(name: str) -> Iterator[None]:
    """Turn the errors of Arrow into FormatError, which names the file."""
    try:
        yield
    except FormatError:
        raise
    except _DAMAGE as error:
        raise FormatError(f"{name}: damaged: {reason(error)}") from error


def schema_bytes(schema: pa.Schema) -> npt.NDArray[np.uint8]:
    """The IPC message of a schema, without its metadata."""
    return np.frombuffer(bytearray(schema.remove_metadata().serialize()), np.uint8)


def schema_text(schema: pa.Schema) -> str:
    """A schema for JSON."""
    return base64.b64encode(schema_bytes(schema).tobytes()).decode("ascii")


def read_schema(text: str, name: str) -> pa.Schema:
    """The schema of a `schema_text`, "" for one without columns. `name` is the file's in messages.
    Raises FormatError where it cannot be read."""
    if not text:
        return pa.schema([])
    with reading_documents(name):
        return ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))


def check_columns(schema: pa.Schema, names: Sequence[str]) -> None:
    """Raise DataError for a name that is not one of the stored columns."""
    for name in names:
        if name not in schema.names:
            raise DataError(
                f"no stored column {quoted(name)}; stored are: {', '.join(schema.names) or 'none'}"
            )


def no_rows(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """A table without rows of some columns, by default all. Raises as check_columns."""
    names = schema.names if columns is None else list(columns)
    check_columns(schema, names)
    return schema.empty_table().select(names)


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the types that a schema has for its columns, where it has null types."""
    wanted = pa.schema([schema.field(name) for name in table.schema.names])
    if table.schema.equals(wanted):
        return table
    columns = [
        pa.chunked_array([plain(chunk, field.type) for chunk in column.chunks], field.type)
        for column, field in zip(table.columns, wanted, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=wanted)


def joined_rows(tables: Sequence[pa.Table], order: Int64) -> pa.Table:
    """The rows of tables of one schema, in an order."""
    return taken(pa.concat_tables(tables), order)


def taken(table: pa.Table, rows: Int64) -> pa.Table:
    """The rows of a table, in the given order."""
    if len(rows) <= _FEW:
        # Table.take imports pyarrow.compute, which takes a tenth of a second
        return pa.concat_tables([table.slice(row, 1) for row in rows.tolist()])
    return table.combine_chunks().take(number_array(rows))


def _is_encoded(kind: pa.DataType) -> bool:
    """Whether a type is or contains a dictionary, which a stream of one batch may lack, or strings
    as views or values as runs, of which pyarrow cannot take rows."""
    t = pa.types
    tests = (t.is_dictionary, t.is_string_view, t.is_binary_view, t.is_run_end_encoded)
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return any(test(kind) for test in tests) or any(map(_is_encoded, inner))


def _long_columns(group: pa.Table) -> list[str]:
    """The columns of long strings of the first group, if it ended before its rows were the most;
    none where all are."""
    if group.num_rows == GROUP_ROWS:
        return []
    most = LONG_BYTES * group.num_rows
    names = group.schema.names
    long = [name for name in names if int(_string_bytes(group.select([name])).sum()) > most]
    return long if len(long) < len(names) else []


def _string_bytes(table: pa.Table) -> Int64:
    """int64[rows]: bytes of the strings of each row."""
    total = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if is_text(column.type):
            total += np.concatenate([np.zeros(0, np.int64), *map(byte_lengths, column.chunks)])
    return total
