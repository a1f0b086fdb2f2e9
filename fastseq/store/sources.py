"""Sources of rows: Parquet files, Arrow tables, Arrow streams, read in bounded batches."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, compress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, FastseqWarning, SettingsError
from fastseq.store.arrays import is_text, plain_type
from fastseq.store.files import reason
from fastseq.store.folder import MANIFEST
from fastseq.store.parquet import parquet_file, unreadable
from fastseq.types import Int64

SUFFIX = ".parquet"  # of the files of a folder that are read
HIDDEN = "._"  # first characters of names that are not data, by Hadoop's convention
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
PARQUET = b"PAR1"  # the first bytes of a Parquet file
MAX_ROWS = 16_384  # rows read at a time
# Size of the read buffer of each column. With it the pages of a column are read one by one; without
# it the whole column of a row group is, which can be gigabytes.
READ_AHEAD = 64 << 10
_INTEGER = re.compile(r"-?[0-9]+")


class ParquetSource:
    """One Parquet file. Opening it reads the footer only.

    name        for messages
    num_rows    of a stream None, where it is unknown before the end
    constants   columns from the names of the file's folders; its own columns take precedence
    """

    def __init__(self, path: Path, constants: Mapping[str, pa.Scalar] | None = None) -> None:
        self.name = str(path)
        self._path = path
        with unreadable(path):
            if path.stat().st_size == 0:
                raise DataError(f"{path}: an empty file, expected Parquet")
            with parquet_file(path) as file:
                self.schema: pa.Schema = file.schema_arrow
                metadata = file.metadata
                self.num_rows: int | None = metadata.num_rows
                groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
                # rows of each row group, and bytes of the leaves of its columns
                self._groups = [
                    (
                        g.num_rows,
                        [g.column(i).total_uncompressed_size for i in range(g.num_columns)],
                    )
                    for g in groups
                ]
                leaves = range(metadata.num_columns)
                self._leaves = [f"{metadata.schema.column(i).path}." for i in leaves]
        own = self.schema.names
        self.constants = {n: v for n, v in (constants or {}).items() if n not in own}
        for name, value in self.constants.items():
            self.schema = self.schema.append(pa.field(name, value.type))

    def nbytes(self, columns: Sequence[str]) -> int | None:
        """Approximate bytes of these columns in memory; None where they are unknown."""
        return sum(size for _, size in self._group_bytes(columns))

    def _group_bytes(self, columns: Sequence[str]) -> list[tuple[int, int]]:
        """Rows of each row group, and bytes of these columns. A list's leaf is
        `column.list.element`."""
        prefixes = tuple(f"{name}." for name in columns)
        chosen = [leaf.startswith(prefixes) for leaf in self._leaves]
        return [(rows, sum(compress(sizes, chosen))) for rows, sizes in self._groups]

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Batches of these columns, of about `max_bytes`, or as large as the source's own."""
        sizes = [size / max(rows, 1) for rows, size in self._group_bytes(columns)]
        rows = int(min(max(max_bytes / max([1, *sizes]), 1), MAX_ROWS))
        options = {"buffer_size": READ_AHEAD, "pre_buffer": False}
        try:
            with parquet_file(self._path, page_checksum_verification=True, **options) as file:
                if not file.num_row_groups:  # some versions of pyarrow cannot read such a file
                    return
                own = [name for name in columns if name not in self.constants]
                for batch in file.iter_batches(rows, columns=own, use_threads=False):
                    for name in columns:
                        if name in self.constants:
                            array = pa.repeat(self.constants[name], batch.num_rows)
                            batch = batch.append_column(name, array)
                    yield batch
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: damaged or truncated ({reason(error)})") from error


class ArrowSource:
    """An Arrow table, a RecordBatchReader, or an object with the Arrow stream interface."""

    def __init__(self, stream: Any) -> None:
        self._table = stream if isinstance(stream, pa.Table) else None
        self.name = "the table" if self._table is not None else f"the {type(stream).__name__}"
        self._stream = stream
        self._reader: pa.RecordBatchReader | None
        self._reader = stream if isinstance(stream, pa.RecordBatchReader) else self._open()
        self.schema: pa.Schema = self._reader.schema
        shape = getattr(stream, "shape", None)  # of a table or data frame
        self.num_rows: int | None = shape[0] if isinstance(shape, tuple) and shape else None

    def nbytes(self, columns: Sequence[str]) -> int | None:
        return None if self._table is None else int(self._table.select(list(columns)).nbytes)

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        # a stream can be read once; a table or data frame returns a new one each time
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
            raise DataError(f"{self.name}: provides no Arrow stream ({reason(error)})") from error


Source = ParquetSource | ArrowSource


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The rows of one or several sources, in order; columns are matched by name.

    sources     at least one
    types       of each column: {type: name of the first source with this type}
    partitions  columns from folder names (Hive's KEY=VALUE) of some of the sources
    ends        int64[S - 1]: the end row of each source but the last
    """

    sources: tuple[Source, ...]
    types: Mapping[str, Mapping[pa.DataType, str]]
    partitions: frozenset[str]
    ends: Int64

    @staticmethod
    def of(sources: Sequence[Source]) -> Dataset:
        """The dataset of some sources."""
        types: dict[str, dict[pa.DataType, str]] = {}
        constants = [getattr(source, "constants", {}).keys() for source in sources]
        for partition in (False, True):  # partition columns come last
            for source, names in zip(sources, constants, strict=True):
                for field in source.schema:
                    if (field.name in names) == partition:
                        types.setdefault(field.name, {}).setdefault(field.type, source.name)
        ends = np.cumsum([source.num_rows or 0 for source in sources[:-1]], dtype=np.int64)
        return Dataset(tuple(sources), types, frozenset().union(*constants), ends)

    @property
    def name(self) -> str:
        """For messages: the first source and the number of others."""
        more = len(self.sources) - 1
        return self.sources[0].name + (f" and {more} more" if more else "")

    @property
    def num_rows(self) -> int | None:
        """The number of rows; None where it is unknown before a stream is read."""
        counts = [source.num_rows for source in self.sources]
        return None if None in counts else sum(count or 0 for count in counts)

    def locate(self, row: int) -> tuple[Source, int]:
        """The source of a row, and the row's number in it."""
        at = int(np.searchsorted(self.ends, row, "right"))
        return self.sources[at], row - int(self.ends[at - 1] if at else 0)

    def where(self, row: int) -> str:
        """The location of a row, for a message: its source and its number in it."""
        source, at = self.locate(row)
        return f"{source.name}: row {at} (from 0)"

    def type_of(self, name: str) -> pa.DataType:
        """The plain type that a column has, or is promoted to, in all sources.

        Raises DataError where two are incompatible; the message names both.
        """
        kinds: dict[pa.DataType, str] = {}
        for kind, where in self.types[name].items():
            kinds.setdefault(plain_type(kind), where)
        agreed: pa.DataType | None = pa.null()
        for kind in sorted(kinds, key=str):  # independent of the order of the files
            agreed = None if agreed is None else promoted(agreed, kind)
        if agreed is not None:
            return agreed
        pairs = list(combinations(kinds.items(), 2))
        (a, one), (b, other) = next((p for p in pairs if not promoted(p[0][0], p[1][0])), pairs[0])
        raise DataError(f"{other}: the column {name!r} is {b}, but {a} in {one}")

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Batches of these columns as Source.read, none of them empty; nulls where a
        source lacks a column."""
        for source in self.sources:
            there = [name for name in columns if name in source.schema.names]
            for batch in source.read(there, max_bytes):
                for name in columns:
                    if name not in there:
                        kind = next(iter(self.types[name]))
                        batch = batch.append_column(name, pa.nulls(batch.num_rows, kind))
                if batch.num_rows:
                    yield batch


def promoted(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The common type of two plain types: numbers widen, null becomes any type. None where there
    is none; strings and bytes are incompatible, too."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if is_text(a) or is_text(b):
        return None
    try:
        both = [pa.schema([("c", kind)]) for kind in (a, b)]
        return pa.unify_schemas(both, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def open_sources(source: Any) -> Dataset:
    """The rows of a path, folder or glob, a list of those, a table, or a stream. Warns of files in
    folders that are not read. Raises DataError: a path does not exist, a folder or glob has no
    Parquet file, a file is not Parquet; SettingsError: `source` is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return _open_files([source])
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if hasattr(source, "__arrow_c_stream__"):
        return Dataset.of([ArrowSource(source)])
    if hasattr(source, "__arrow_c_array__"):
        try:
            return open_sources(pa.record_batch(source))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"no columns in the Arrow array ({reason(error)})") from error
    if isinstance(source, Iterable):
        paths = list(source)
        if paths and all(isinstance(path, str | os.PathLike) for path in paths):
            return _open_files(paths)
    raise SettingsError(
        f"a corpus of type {type(source).__name__}: expected Parquet paths, an Arrow table or "
        "stream, or a data frame with the Arrow stream interface"
    )


def _open_files(given: Sequence[str | os.PathLike[str]]) -> Dataset:
    paths, base, skipped = search_files(given)
    if skipped:
        count = len(skipped)
        what = "1 file" if count == 1 else f"{count:,} files"
        warnings.warn(
            f"{what} skipped, empty or not named *{SUFFIX}: {skipped[0]}"
            + (", …" if count > 1 else ""),
            FastseqWarning,
            stacklevel=4,
        )
    return Dataset.of(list(map(ParquetSource, paths, _partitions(paths, base))))


def search_files(
    given: Iterable[str | os.PathLike[str]],
) -> tuple[list[Path], Path | None, list[Path]]:
    """The files that paths, folders and globs name, in that order; sorted inside a folder or glob.
    A file named twice is read once.

    A folder is searched for `*.parquet`, case-insensitively, at every depth. Names that begin with
    '.' or '_' (`_SUCCESS`, checksums, unfinished work) are ignored by Hadoop's convention, and so
    are folders that fastseq wrote.

    Returns
    -------
    The files; the folder that Hive partitions are relative to, None without a common one; and the
    files of folders that are skipped, empty or not named *.parquet.

    Raises DataError: a path does not exist, or nothing in it is Parquet.
    """
    found: dict[Path, Path] = {}  # by resolved path
    skipped: list[Path] = []
    roots: list[str] = []

    for each in given:
        path = Path(each)
        root = path
        if path.is_dir():
            files = sorted(parquet_files(path, skipped))
            if not files:
                raise DataError(f"{path}: no *.parquet file in this folder or below it")
        elif path.exists():
            files, root = [path], path.parent
        elif glob.has_magic(str(path)):
            files = []
            for match in map(Path, sorted(glob.glob(str(path), recursive=True))):
                if not match.is_dir():
                    files.append(match)
                elif match.name[0] not in HIDDEN:
                    files += sorted(parquet_files(match, skipped))
            if not files:
                raise DataError(f"{path}: no file matches")
            while glob.has_magic(str(root)):
                root = root.parent
        else:
            raise DataError(f"{path}: no such file or folder")
        roots.append(os.path.abspath(root))
        for file in files:
            found.setdefault(file.resolve(), file)
    try:
        base = Path(os.path.commonpath(roots)) if roots else None
    except ValueError:  # on several drives
        base = None
    return list(found.values()), base, sorted(skipped)


def parquet_files(folder: Path, skipped: list[Path]) -> Iterator[Path]:
    """The Parquet files at and below a folder, in no order; others are appended to `skipped`."""
    if (folder / MANIFEST).exists() and any(folder.glob("data-*")):
        return
    for entry in folder.iterdir():
        if entry.name[0] in HIDDEN:
            continue
        if entry.is_dir():
            yield from parquet_files(entry, skipped)
        elif entry.suffix.lower() == SUFFIX and not (entry.exists() and not entry.stat().st_size):
            yield entry
        else:
            skipped.append(entry)


# ---- Hive partitions: folders called KEY=VALUE


def _partitions(paths: Sequence[Path], base: Path | None) -> list[dict[str, pa.Scalar]]:
    """For each file the columns from the folders between it and the base, typed as pyarrow does:
    int32 (here also int64) where all values of a key are integers, else string."""
    keys = [{} if base is None else _keys(path, base) for path in paths]
    kinds: dict[str, pa.DataType] = {}
    for name in dict.fromkeys(name for each in keys for name in each):
        values = [text for each in keys if (text := each.get(name)) is not None]
        kinds[name] = pa.string()
        if values and all(map(_INTEGER.fullmatch, values)):
            for kind, bits in ((pa.int64(), 63), (pa.int32(), 31)):
                if all(-(1 << bits) <= int(text) < 1 << bits for text in values):
                    kinds[name] = kind

    def scalar(text: str | None, kind: pa.DataType) -> pa.Scalar:
        return pa.scalar(text if text is None or kind == pa.string() else int(text), kind)

    return [{name: scalar(text, kinds[name]) for name, text in each.items()} for each in keys]


def _keys(path: Path, base: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in Path(os.path.relpath(os.path.abspath(path.parent), base)).parts:
        name, equals, value = part.partition("=")
        if equals and name:
            text = unquote(value)
            found.setdefault(unquote(name), None if text == HIVE_NULL else text)
    return found
