"""Documents of an index: the file of their stored columns, and the check of their ids."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.errors import DataError, FastseqError, FormatError
from fastseq.store.arrays import byte_lengths, is_text, number_array
from fastseq.store.files import reason
from fastseq.types import Int64, offsets_of

GROUP_ROWS = 4096
GROUP_BYTES = 16 << 20  # of strings: long documents make shorter row groups
CACHED_BYTES = 256 << 20  # uncompressed; larger files are never cached whole
_FEW = 64  # rows


class DocumentWriter:
    """Writes `documents.parquet`, a table at a time.

    A row group ends after 4096 rows, or with the row that brings its strings to 16 MB, however
    the rows are split into tables: the same rows always give the same file.

    Parameters
    ----------
    schema : plain types only (`Corpus.stored_schema`)
    id_column : a column of distinct values, for which a dictionary saves nothing

    Raises DataError: Parquet cannot hold the type of a column (named); FastseqError: the system
    refuses to write.
    """

    def __init__(
        self, file: str | Path | BinaryIO, schema: pa.Schema, id_column: str | None = None
    ) -> None:
        self.num_rows = 0
        self._schema = schema.remove_metadata()
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        for field in self._schema:
            _check_type(field)
        dictionaries = [name for name in schema.names if name != id_column]
        with _writing():
            self._writer = pq.ParquetWriter(
                file,
                self._schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=dictionaries or False,
                write_statistics=False,
                write_page_checksum=True,
            )

    def append(self, table: pa.Table) -> None:
        """Append the rows of a table. Raises DataError for another schema, FastseqError where the
        system refuses to write."""
        if not table.schema.equals(self._schema):
            raise DataError(f"columns to store: {table.schema.names}, unlike those before")
        self.num_rows += table.num_rows
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
                self._write_group()
            start = stop

    def close(self) -> None:
        """Write the last row group and the footer. A file object stays open."""
        if self._pending:
            self._write_group()
        with _writing():
            self._writer.close()

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:  # otherwise ParquetWriter would write its footer later, to a closed file
            with suppress(FastseqError):
                self.close()

    def _write_group(self) -> None:
        # one chunk per column: the file would depend on the borders of chunks
        group = pa.concat_tables(self._pending).combine_chunks()
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        with _writing():
            self._writer.write_table(group, row_group_size=group.num_rows)


class DocumentReader:
    """Reads `documents.parquet`, from a path or bytes (an mmap, say); thread-safe. `name` is the
    file's name in messages. Raises FormatError for a missing or damaged file."""

    def __init__(self, source: Any, name: str | os.PathLike[str] | None = None) -> None:
        self.name = str(name or source)
        self._lock = threading.Lock()
        self._cached: dict[str, pa.ChunkedArray] = {}
        with self._reading():
            if isinstance(source, str | os.PathLike):
                opened: pa.NativeFile = pa.memory_map(os.fspath(source))
            else:
                opened = pa.BufferReader(pa.py_buffer(source))
            self._file = pq.ParquetFile(opened, page_checksum_verification=True)
            self.schema: pa.Schema = self._file.schema_arrow
            metadata = self._file.metadata
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            # int64[G + 1]: row group g holds the rows starts[g] to starts[g + 1]
            self._starts = offsets_of([group.num_rows for group in groups])
            self._bytes = sum(group.total_byte_size for group in groups)
        if np.any(np.diff(self._starts) < 0) or self._starts[-1] != metadata.num_rows:
            raise FormatError(f"{self.name}: damaged: its row groups do not add up")

    @property
    def num_rows(self) -> int:
        """The number of documents."""
        return int(self._starts[-1])

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column, cached, in one chunk where it fits. Raises DataError for an unknown name,
        FormatError for a damaged file."""
        self._check_columns([name])
        with self._lock:
            if name not in self._cached:
                groups = list(range(len(self._starts) - 1))
                self._cached[name] = self._read(groups, [name]).combine_chunks().column(0)
            return self._cached[name]

    def take(self, rows: npt.ArrayLike, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows (int[m], repeats allowed), in the given order, of some columns or all.

        Reads the row groups that hold these rows; if these are most groups of a small file, reads
        and caches all of them.

        Raises IndexError: a row is out of range; DataError: there is no column of a given name;
        FormatError: the file is damaged.
        """
        names = self.columns if columns is None else list(columns)
        self._check_columns(names)
        wanted = np.asarray(rows, np.int64).reshape(-1)
        if len(wanted) == 0:
            return self.schema.empty_table().select(names)
        if wanted.min() < 0 or wanted.max() >= self.num_rows:
            raise IndexError(f"{self.name}: rows must be from 0 to {self.num_rows - 1}")
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        group_of = np.searchsorted(self._starts, ascending, "right") - 1
        first = np.flatnonzero(np.diff(group_of, prepend=-1))
        if all(name in self._cached for name in names) or (
            2 * len(first) > len(self._starts) - 1 > 1 and self._bytes <= CACHED_BYTES
        ):
            whole = pa.Table.from_arrays([self.column(name) for name in names], names)
            return _taken(whole, wanted)
        pieces = []
        for start, stop in zip(first, [*first[1:], len(ascending)], strict=True):
            group = int(group_of[start])
            with self._lock:
                table = self._read([group], names)
            pieces.append(_taken(table, ascending[start:stop] - self._starts[group]))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return _taken(pa.concat_tables(pieces), back)

    def _read(self, groups: list[int], names: list[str]) -> pa.Table:
        if not groups:  # some versions of pyarrow cannot read such a file
            return self.schema.empty_table().select(names)
        with self._reading():
            table = self._file.read_row_groups(groups, columns=names, use_threads=False)
        expected = sum(int(self._starts[g + 1] - self._starts[g]) for g in groups)
        # a name with dots also selects fields of structs
        if table.num_rows != expected or not set(names) <= set(table.schema.names):
            raise FormatError(f"{self.name}: damaged: its columns do not match its footer")
        return table.select(names)

    def _check_columns(self, names: list[str]) -> None:
        for name in names:
            if name not in self.columns:
                raise DataError(
                    f"no stored column {name!r}; stored are: {', '.join(self.columns) or 'none'}"
                )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise FormatError(f"{self.name}: missing") from None
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise FormatError(f"{self.name}: damaged: {reason(error)}") from error


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise FastseqError(f"cannot write the stored columns: {reason(error)}") from error


def _taken(table: pa.Table, rows: Int64) -> pa.Table:
    """The rows of a table, in the given order."""
    if len(rows) <= _FEW:
        # Table.take imports pyarrow.compute, which takes a tenth of a second
        return pa.concat_tables([table.slice(row, 1) for row in rows.tolist()])
    return table.combine_chunks().take(number_array(rows))


def _check_type(field: pa.Field) -> None:
    if _has_views(field.type):
        raise DataError(
            f"the column {field.name!r} is {field.type}; expected lists and structs of plain "
            "strings: leave it out (store=… names the columns to store)"
        )
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
    except pa.ArrowException as error:
        raise DataError(
            f"the column {field.name!r} is {field.type}, which Parquet cannot store: leave it "
            f"out (store=… names the columns to store; {reason(error)})"
        ) from error


def _has_views(kind: pa.DataType) -> bool:
    """Whether a list, struct or map contains strings of a view type."""
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return any(str(t).endswith("_view") or _has_views(t) for t in inner)


def _string_bytes(table: pa.Table) -> Int64:
    """int64[rows]: bytes of the strings of each row."""
    total = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if is_text(column.type):
            total += np.concatenate([np.zeros(0, np.int64), *map(byte_lengths, column.chunks)])
    return total
