"""Stored columns of the documents of an index.

They are written in groups of consecutive rows, each of which is an Arrow IPC stream of one record
batch with zstd-compressed buffers: a group can be read alone, a column of it without the others,
and merging segments copies whole groups. Format 1 of the index has a Parquet file instead.
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
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc

from fastseq.errors import DataError, FormatError, quoted
from fastseq.store.arrays import byte_lengths, is_text, number_array, plain
from fastseq.store.files import reason
from fastseq.store.recent import Recent
from fastseq.store.record_batches import RecordBatchReader
from fastseq.types import Int64, offsets_of

GROUP_ROWS = 4096
GROUP_BYTES = 128 << 10  # of strings: long documents make groups of fewer rows
CACHED_BYTES = 64 << 20  # compressed; columns of larger files are cached only when asked for whole
_BATCH = 128  # groups: 16 MB of strings
_BATCH_ROWS = 1 << 16
_AT_ONCE = 16  # groups of which rows are taken
_FEW = 64  # rows
_ARRAY_BYTES = 256  # of an array without its buffers, about
_readers = itertools.count()  # their numbers, in keys of caches
# what reading a damaged file may raise
_DAMAGE = (
    pa.ArrowException, OSError, ValueError, IndexError, OverflowError, MemoryError, struct.error,
)  # fmt: skip
# to write 100 ids takes 17 µs, and 71 µs with Arrow's threads
_OPTIONS = ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)


class DocumentWriter:
    """Writes the stored columns of documents, a table at a time.

    A group ends after 4,096 rows, or with the row that brings its strings to 128 KB, however the
    rows are split into tables: the same rows always give the same bytes.

    Parameters
    ----------
    append : called with the bytes of each group
    schema : plain types only (`Corpus.stored_schema`)

    Attributes
    ----------
    rows, sizes : of each group written: its rows and its bytes
    schema : of the rows

    Raises DataError: the type of a column cannot be stored (named).
    """

    def __init__(self, append: Callable[[Any], None], schema: pa.Schema) -> None:
        self.rows: list[int] = []
        self.sizes: list[int] = []
        self._append = append
        self.schema = schema.remove_metadata()
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        for field in self.schema:
            if _is_encoded(field.type):
                raise DataError(
                    f"the column {quoted(field.name)} is {field.type}, which cannot be stored: "
                    "leave it "
                    "out (store=… names the columns to store)"
                )

    def append(self, table: pa.Table) -> None:
        """Append the rows of a table. Raises DataError for another schema; what `append`
        raises."""
        if not table.schema.equals(self.schema):
            raise DataError(f"columns to store: {table.schema.names}, unlike those before")
        ends = np.cumsum(_string_bytes(table))
        start = 0
        while start < table.num_rows:
            before = int(ends[start - 1]) if start else 0
            room = GROUP_BYTES - self._pending_bytes
            full = int(np.searchsorted(ends, before + room, "left")) + 1
            stop = min(full, start + GROUP_ROWS - self._pending_rows, table.num_rows)
            self._pending.append(table.slice(start, stop - start))
            self._pending_rows += stop - start
            self._pending_bytes += int(ends[stop - 1]) - before
            if self._pending_rows == GROUP_ROWS or self._pending_bytes >= GROUP_BYTES:
                self.end_group()
            start = stop

    def append_group(self, group: Any, rows: int) -> None:
        """Append a whole group of another writer with the same schema."""
        self.end_group()
        self._append(group)
        self.rows.append(rows)
        self.sizes.append(len(group))

    def end_group(self) -> None:
        """Write the pending rows, if there are any, as a group of their own."""
        if not self._pending_rows:
            return
        group = pa.concat_tables(self._pending)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        sink = pa.BufferOutputStream()
        try:
            # copies: the bytes would depend on the borders of chunks, and the padding of a slice's
            # buffers is bytes of other rows
            columns = [pa.concat_arrays(column.chunks) for column in group.columns]
            with ipc.new_stream(sink, self.schema, options=_OPTIONS) as stream:
                stream.write_batch(pa.record_batch(columns, schema=self.schema))
        except pa.ArrowException as error:
            raise DataError(f"cannot store the columns: {reason(error)}") from error
        written = sink.getvalue()
        self._append(written)
        self.rows.append(group.num_rows)
        self.sizes.append(len(written))


class StoredDocuments(ABC):
    """The stored columns of documents; thread-safe.

    name    of the file, in messages
    schema  of the columns
    starts  int64[G + 1]: group g holds the rows starts[g] to starts[g + 1]
    """

    def __init__(self, name: str, schema: pa.Schema, rows: npt.ArrayLike, nbytes: int) -> None:
        self.name = name
        self.schema: pa.Schema = schema
        self.starts = offsets_of(rows)
        self._bytes = nbytes
        self._lock = threading.Lock()
        self._cached: dict[str, pa.ChunkedArray] = {}

    @property
    def num_rows(self) -> int:
        """The number of documents."""
        return int(self.starts[-1])

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column, cached, in one chunk where it fits. Raises DataError for an unknown name,
        FormatError for a damaged file."""
        check_columns(self.schema, [name])
        with self._lock:
            if name not in self._cached:
                groups = range(len(self.starts) - 1)
                self._cached[name] = self._read(groups, [name]).combine_chunks().column(0)
            return self._cached[name]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, up to 128 groups at a time. Raises as `column`."""
        for first, stop in self.spans(columns):
            yield from self.rows(first, stop, columns)

    def spans(self, columns: Sequence[str]) -> list[tuple[int, int]]:
        """All rows as ranges (first, stop) of which some columns are best read at a time: whole
        groups, about 65,536 rows and at most 128 groups. Raises DataError for an unknown name."""
        check_columns(self.schema, columns)
        groups = len(self.starts) - 1
        step = min(max(_BATCH_ROWS * groups // max(self.num_rows, 1), 1), _BATCH)
        return list(pairwise([*self.starts[:-1:step].tolist(), self.num_rows]))

    def rows(self, first: int, stop: int, columns: Sequence[str]) -> list[pa.RecordBatch]:
        """Some columns of a range of rows. Several threads may read at once. Raises as `column`."""
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
        """Some rows (int[m], repeats allowed), in the given order, of some columns or all.

        Reads the groups that hold these rows, and keeps those of few rows in `recent`; if these are
        most groups of a small file, reads and caches all of them, unless `cached` is false.

        Raises IndexError: a row is out of range; DataError: there is no column of a given name;
        FormatError: the file is damaged.
        """
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
            cached and 2 * len(first) > len(self.starts) - 1 > 1 and self._bytes <= CACHED_BYTES
        ):
            whole = pa.Table.from_arrays([self.column(name) for name in names], names)
            return taken(whole, wanted)
        pieces = []
        ends = [*first[_AT_ONCE::_AT_ONCE], len(ascending)]
        for start, stop in zip(first[::_AT_ONCE].tolist(), ends, strict=True):
            groups, own = np.unique(group_of[start:stop], return_inverse=True)
            table = self._read(groups.tolist(), names)
            before = offsets_of(np.diff(self.starts)[groups])[own]
            pieces.append(taken(table, ascending[start:stop] - self.starts[groups][own] + before))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return taken(pa.concat_tables(pieces), back)

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


class DocumentReader(StoredDocuments):
    """Reads what a DocumentWriter wrote.

    Parameters
    ----------
    read : the bytes of the groups from offset `start` to `stop`; may raise FormatError
    read_many : `read` of several ranges, n each; default: one by one
    schema : the schema's IPC message
    rows, sizes : of each group

    Raises FormatError for a schema that cannot be read.
    """

    def __init__(
        self, name: str, read: Callable[[int, int], Any], schema: Any, rows: npt.ArrayLike,
        sizes: npt.ArrayLike,
        read_many: Callable[[list[int], list[int]], Sequence[Any]] | None = None,
    ) -> None:  # fmt: skip
        self._places = offsets_of(sizes)
        self._source = read
        with reading_documents(name):
            known = ipc.read_schema(pa.py_buffer(schema))
        super().__init__(name, known, rows, int(self._places[-1]))
        self._reader = RecordBatchReader(
            read_many or (lambda starts, stops: list(map(read, starts, stops))), known
        )
        self._number = next(_readers)

    def group(self, number: int) -> Any:
        """The bytes of a group."""
        return self._source(int(self._places[number]), int(self._places[number + 1]))

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
        bounds = [tuple(self._places[group : group + 2].tolist()) for group in groups]
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


class ParquetDocuments(StoredDocuments):
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


def _string_bytes(table: pa.Table) -> Int64:
    """int64[rows]: bytes of the strings of each row."""
    total = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if is_text(column.type):
            total += np.concatenate([np.zeros(0, np.int64), *map(byte_lengths, column.chunks)])
    return total
