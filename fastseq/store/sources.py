"""Where the rows of a corpus come from: Parquet files, Arrow tables, Arrow streams."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.errors import DataError, SettingsError
from fastseq.store.atomic import reason
from fastseq.store.manifest import MANIFEST

SUFFIX = ".parquet"  # of the files that are looked for in a folder
PARQUET = b"PAR1"  # the first bytes of any
MAX_ROWS = 16_384  # rows read at a time
# Bytes read ahead of each column. With it Parquet's pages are read one after the other; without
# it a whole column of a row group is, which can be gigabytes.
READ_AHEAD = 64 << 10


class Source(Protocol):
    """Rows that can be read in batches of bounded size."""

    name: str  # for messages
    schema: pa.Schema
    num_rows: int | None  # None where nobody knows before the end

    def nbytes(self, columns: Sequence[str]) -> int | None:
        """Bytes of these columns in memory, about; None where nobody knows."""

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Batches of these columns, of about `max_bytes` or what the source is made of."""


class ParquetSource:
    """One Parquet file. Opening it reads the footer only."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        try:
            if path.stat().st_size == 0:
                raise DataError(f"{path}: an empty file, expected Parquet")
            with pq.ParquetFile(path) as file:
                self.schema: pa.Schema = file.schema_arrow
                metadata = file.metadata
                self.num_rows: int | None = metadata.num_rows
                self._sizes: dict[str, int] = {}
                self._largest: dict[str, float] = {}  # bytes a row, in the row group of most
                paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
                for g in range(metadata.num_row_groups):
                    group = metadata.row_group(g)
                    for i, name in enumerate(paths):
                        size = group.column(i).total_uncompressed_size
                        self._sizes[name] = self._sizes.get(name, 0) + size
                        mean = size / max(group.num_rows, 1)
                        self._largest[name] = max(self._largest.get(name, 0.0), mean)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path}: not a Parquet file, or one cut short ({reason(error)})"
            ) from error

    def nbytes(self, columns: Sequence[str]) -> int | None:
        return int(sum(_of_columns(self._sizes, columns)))

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        a_row = max(sum(_of_columns(self._largest, columns)), 1)
        rows = int(min(max(max_bytes / a_row, 1), MAX_ROWS))
        try:
            with pq.ParquetFile(
                self._path,
                buffer_size=READ_AHEAD,
                pre_buffer=False,
                page_checksum_verification=True,
            ) as file:
                if file.num_row_groups:  # none: some versions of pyarrow cannot read that
                    yield from file.iter_batches(rows, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: damaged or cut short ({reason(error)})") from error


class TableSource:
    """An Arrow table, or one record batch."""

    def __init__(self, table: pa.Table | pa.RecordBatch) -> None:
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        self.name = "the table"
        self.schema: pa.Schema = table.schema
        self.num_rows: int | None = table.num_rows
        self._table: pa.Table = table

    def nbytes(self, columns: Sequence[str]) -> int | None:
        return int(self._table.select(list(columns)).nbytes)

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        yield from self._table.select(list(columns)).to_batches(max_chunksize=MAX_ROWS)


class StreamSource:
    """A RecordBatchReader, or anything that gives one through the Arrow stream interface."""

    def __init__(self, stream: Any) -> None:
        self.name = f"the {type(stream).__name__}"
        self._stream = stream
        self._reader: pa.RecordBatchReader | None
        self._reader = stream if isinstance(stream, pa.RecordBatchReader) else self._open()
        self.schema: pa.Schema = self._reader.schema
        shape = getattr(stream, "shape", None)  # data frames know their rows
        self.num_rows: int | None = shape[0] if isinstance(shape, tuple) and shape else None

    def nbytes(self, columns: Sequence[str]) -> int | None:
        return None

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        # a stream is read once; a data frame gives another when asked again
        reader, self._reader = self._reader or self._open(), None
        try:
            for batch in reader:
                selected = batch.select(list(columns))
                for start in range(0, len(selected), MAX_ROWS):
                    yield selected.slice(start, MAX_ROWS)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: the Arrow stream failed ({reason(error)})") from error

    def _open(self) -> pa.RecordBatchReader:
        if isinstance(self._stream, pa.RecordBatchReader):
            raise DataError(f"{self.name}: already read; a stream can be read once")
        try:
            return pa.RecordBatchReader.from_stream(self._stream)
        except (pa.ArrowException, OSError, TypeError, ValueError) as error:
            raise DataError(f"{self.name}: gives no Arrow stream ({reason(error)})") from error


def open_sources(source: Any) -> list[Source]:
    """The sources that a corpus was said to be: a path, folder or glob, a list of those, a table,
    or a stream.

    Raises
    ------
    DataError
        A path does not exist, a folder or glob has no Parquet file, a file is not Parquet.
    SettingsError
        Something that is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return [ParquetSource(path) for path in find_files([source])]
    if isinstance(source, pa.Table | pa.RecordBatch):
        return [TableSource(source)]
    if isinstance(source, pa.RecordBatchReader) or hasattr(source, "__arrow_c_stream__"):
        return [StreamSource(source)]
    if hasattr(source, "__arrow_c_array__"):
        try:
            return [TableSource(pa.record_batch(source))]
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"no columns in the Arrow array ({reason(error)})") from error
    if isinstance(source, Iterable):
        paths = list(source)
        if paths and all(isinstance(path, str | os.PathLike) for path in paths):
            return [ParquetSource(path) for path in find_files(paths)]
    raise SettingsError(
        f"a corpus of type {type(source).__name__}: expected Parquet paths, an Arrow table or "
        "stream, or a data frame with the Arrow stream interface"
    )


def find_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files that paths, folders and globs name, in that order; inside a folder or a glob,
    sorted. A file named twice is read once.

    A folder is searched for `*.parquet` at any depth. Left out are names that begin with '.' or
    '_' (caches, and what Spark leaves) and folders that fastseq wrote.

    Raises
    ------
    DataError
        Nothing is there, or nothing with that ending.
    """
    found: dict[Path, Path] = {}  # by where they really are
    for given in paths:
        path = Path(given)
        if path.is_dir():
            files = sorted(below(path))
            if not files:
                raise DataError(f"{path}: no *.parquet file in this folder or below it")
        elif path.exists():
            files = [path]
        elif glob.has_magic(str(path)):
            matches = map(Path, sorted(glob.glob(str(path), recursive=True)))
            files = [match for match in matches if not match.is_dir()]
            if not files:
                raise DataError(f"{path}: no file matches")
        else:
            raise DataError(f"{path}: no such file or folder")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def below(folder: Path) -> Iterator[Path]:
    """The Parquet files of a folder that `find_files` reads, in no order."""
    if (folder / MANIFEST).exists() and any(folder.glob("data-*")):
        return
    for entry in folder.iterdir():
        if entry.name[0] in "._":
            continue
        if entry.is_dir():
            yield from below(entry)
        elif entry.suffix == SUFFIX:
            yield entry


def _of_columns(by_path: dict[str, Any], columns: Sequence[str]) -> Iterator[Any]:
    """The figures of the leaves of some columns: a list's leaf is `column.list.element`."""
    for path, figure in by_path.items():
        if any(path == name or path.startswith(f"{name}.") for name in columns):
            yield figure
