"""Sources of rows: Parquet, Arrow files and Arrow streams, read in bounded batches.

JSON Lines and CSV are in record_files.py, rows of Python values in records.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError
from fastseq.store.data_files import DataFile
from fastseq.store.files import reason
from fastseq.store.nested import select, top_level
from fastseq.store.parquet import unreadable
from fastseq.threads import read_ahead

MAX_ROWS = 16_384  # rows read at a time
_AHEAD = 2  # batches of a Parquet file read before they are asked for
PARQUET_FILE, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"  # first bytes


class Source(ABC):
    """Rows with a schema. Names of columns may be paths to fields inside of structs.

    name      for messages; another for each source of a dataset
    num_rows  of a stream None, where it is unknown before the end
    empty_lines  lines that are left out, because they are empty
    is_repeatable  whether `read` may be called several times: not of a stream or an iterator
    """

    empty_lines = 0
    is_repeatable = True
    name: str
    schema: pa.Schema
    num_rows: int | None

    def nbytes(self, columns: Sequence[str]) -> int | None:
        """Approximate bytes of these columns in memory; None where they are unknown."""
        return None

    def read_as_strings(self, columns: Collection[str]) -> bool:
        """Read these columns as strings where the source has no types of its own, as CSV. Returns
        whether its schema has changed."""
        return False

    def read_as_maps(self, column: str) -> bool:
        """Read a column of Python dicts as maps from their keys to numbers, not as structs. Returns
        whether the schema has changed."""
        return False

    def read_as_ids(self, column: str) -> bool:
        """Read a column as ids, exactly as they are written, where the source has no types of its
        own. Returns whether its schema has changed."""
        return False

    @abstractmethod
    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Batches of these columns, of about `max_bytes`, or as large as the source's own. Raises
        DataError for a damaged source, or a stream that is read again."""


class FileSource(Source):
    """The rows of a file.

    path       where it is a file of this machine, else None
    constants  columns from the names of the file's folders; its own columns take precedence
    """

    def __init__(self, file: DataFile) -> None:
        self.name = file.name
        self.path = file.path
        self.constants: dict[str, pa.Scalar] = {}
        self._file = file

    def add_constants(self, constants: Mapping[str, pa.Scalar]) -> None:
        """Add columns with the same value in every row, unless the file has them."""
        self.constants = {n: v for n, v in constants.items() if n not in self.schema.names}
        for name, value in self.constants.items():
            self.schema = self.schema.append(pa.field(name, value.type))

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        own = [name for name in columns if name not in self.constants]
        for batch in self._read(own, max_bytes):
            for name in columns:
                if name in self.constants:
                    array = pa.repeat(self.constants[name], batch.num_rows)
                    batch = batch.append_column(name, array)
            yield batch

    @abstractmethod
    def _read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        """`read`, of columns of the file."""


class ParquetSource(FileSource):
    """A Parquet file. Opening it reads the footer only."""

    def __init__(self, file: DataFile) -> None:
        super().__init__(file)
        with unreadable(file.name), file.parquet() as parquet:
            self.schema = parquet.schema_arrow
            metadata = parquet.metadata
            self.num_rows = metadata.num_rows
            groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
            # rows of each row group, and bytes of the leaves of its columns
            self._groups = [
                (g.num_rows, [g.column(i).total_uncompressed_size for i in range(g.num_columns)])
                for g in groups
            ]
            leaves = range(metadata.num_columns)
            self._leaves = [f"{metadata.schema.column(i).path}." for i in leaves]

    def nbytes(self, columns: Sequence[str]) -> int | None:
        return sum(size for _, size in self._group_bytes(columns))

    def _group_bytes(self, columns: Sequence[str]) -> list[tuple[int, int]]:
        """Rows of each row group, and bytes of these columns. A list's leaf is
        `column.list.element`."""
        prefixes = tuple(f"{name}." for name in columns)
        chosen = [leaf.startswith(prefixes) for leaf in self._leaves]
        return [(rows, sum(compress(sizes, chosen))) for rows, sizes in self._groups]

    def _has_leaf(self, path: str) -> bool:
        return any(leaf.startswith(f"{path}.") for leaf in self._leaves)

    def _read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        sizes = [size / max(rows, 1) for rows, size in self._group_bytes(columns)]
        rows = int(min(max(max_bytes / max([1, *sizes]), 1), MAX_ROWS))
        options = {"buffer_size": self._file.read_ahead, "pre_buffer": False}
        try:
            with self._file.parquet(page_checksum_verification=True, **options) as file:
                if not file.num_row_groups:  # some versions of pyarrow cannot read such a file
                    return
                # pyarrow reads the leaf of a path alone; a field of a column of nulls has none
                own = [
                    name
                    for path in columns
                    for name in ([path] if self._has_leaf(path) else top_level(self.schema, [path]))
                ]
                batches = file.iter_batches(rows, columns=own, use_threads=False)
                if self.path is not None:  # on a network, Ctrl-C would wait for an answer
                    batches = read_ahead(batches, _AHEAD)
                for batch in batches:
                    yield select(batch, columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: damaged or truncated ({reason(error)})") from error


class ArrowFileSource(FileSource):
    """A file in the format of Arrow's IPC: a stream or a file with random access."""

    def __init__(self, file: DataFile) -> None:
        super().__init__(file)
        with file.reading(), file.open() as opened:
            self.schema = self._reader(opened).schema
        self.num_rows = None

    def _reader(self, opened: Any) -> Any:
        import pyarrow.ipc as ipc

        is_file = opened.read(len(ARROW_FILE)) == ARROW_FILE
        opened.seek(0)
        return ipc.open_file(opened) if is_file else ipc.open_stream(opened)

    def _read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        try:
            with self._file.open() as opened:
                reader = self._reader(opened)
                numbers = getattr(reader, "num_record_batches", None)
                batches = reader if numbers is None else map(reader.get_batch, range(numbers))
                for batch in batches:
                    yield from _sliced(select(batch, columns))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: damaged or truncated ({reason(error)})") from error


class ArrowSource(Source):
    """An Arrow table, a RecordBatchReader, or an object with the Arrow stream interface."""

    def __init__(self, stream: Any, name: str | None = None) -> None:
        self._table = stream if isinstance(stream, pa.Table) else None
        kind = "table" if self._table is not None else type(stream).__name__
        self.name = name or f"the {kind}"
        self._stream = stream
        self._reader: pa.RecordBatchReader | None
        self.is_repeatable = not isinstance(stream, pa.RecordBatchReader)
        self._reader = self._open() if self.is_repeatable else stream
        self.schema = self._reader.schema
        shape = getattr(stream, "shape", None)  # of a table or data frame
        self.num_rows = shape[0] if isinstance(shape, tuple) and shape else None

    def nbytes(self, columns: Sequence[str]) -> int | None:
        if self._table is None:
            return None
        return int(self._table.select(top_level(self.schema, columns)).nbytes)

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        # a stream can be read once; a table or data frame returns a new one each time
        reader, self._reader = self._reader or self._open(), None
        try:
            for batch in reader:
                yield from _sliced(select(batch, columns))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: the Arrow stream failed ({reason(error)})") from error

    def _open(self) -> pa.RecordBatchReader:
        if not self.is_repeatable:
            raise DataError(f"{self.name}: already read; a stream can be read once")
        try:
            return pa.RecordBatchReader.from_stream(self._stream)
        except (pa.ArrowException, OSError, TypeError, ValueError) as error:
            raise DataError(f"{self.name}: provides no Arrow stream ({reason(error)})") from error


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(batch), MAX_ROWS):
        yield batch.slice(start, MAX_ROWS)


def skipped_lines(where: str, count: int) -> str:
    """The notice of empty lines that are left out."""
    lines = "1 empty line is" if count == 1 else f"{count:,} empty lines are"
    return f"{where}: {lines} skipped"
