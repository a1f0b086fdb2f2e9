"""Datasets: the rows of one or several sources of any kind, and how they are opened."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, SettingsError, quoted, warn
from fastseq.store.arrays import arrow_column, is_string, plain_type, promoted
from fastseq.store.data_files import DataFile, MemoryFile, data_files, find_files
from fastseq.store.files import reason
from fastseq.store.frames import is_lazy_frame
from fastseq.store.locations import EXPECTED, JSON, PARQUET, TSV, format_of, is_uri
from fastseq.store.nested import count_at, field_at
from fastseq.store.parquet import unreadable
from fastseq.store.records import TEXT_NAME, RecordSource
from fastseq.store.sources import (
    ARROW_FILE,
    ARROW_STREAM,
    PARQUET_FILE,
    ArrowFileSource,
    ArrowSource,
    FileSource,
    ParquetSource,
    Source,
    skipped_lines,
)
from fastseq.types import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The rows of one or several sources, in order; columns are matched by name.

    sources     at least one
    types       of each column: {type: name of the first source with this type}
    partitions  columns from folder names (Hive's KEY=VALUE) of some of the sources
    ends        int64[S - 1]: the end row of each source but the last; those of a source that does
                not know its number of rows are counted as it is read
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

    def with_texts(self, columns: Sequence[str]) -> Dataset:
        """The dataset with the text columns, `text` unless named, as strings in CSV."""
        return self.with_strings(columns or (TEXT_NAME,))

    def with_strings(self, columns: Sequence[str]) -> Dataset:
        """The dataset with some columns as strings in CSV."""
        changed = [source.read_as_strings(columns) for source in self.sources]
        return self._changed() if any(changed) else self

    def with_maps(self, column: str) -> Dataset:
        """The dataset with a column of Python dicts as maps."""
        changed = [source.read_as_maps(column) for source in self.sources]
        return self._changed() if any(changed) else self

    def with_ids(self, column: str | None) -> Dataset:
        """The dataset with the id column in CSV as integers, or as strings where other sources have
        strings."""
        if column is None:
            return self
        changed = [source.read_as_ids(column) for source in self.sources]
        data = self._changed() if any(changed) else self
        strings = any(is_string(plain_type(kind)) for kind in data.kinds(column))
        return data.with_strings([column]) if strings else data

    def _changed(self) -> Dataset:
        """The dataset of sources whose schemas have changed."""
        data = Dataset.of(self.sources)
        absent = {name: kinds for name, kinds in self.types.items() if name not in data.types}
        return replace(data, types={**data.types, **absent})

    def with_nulls(self, columns: Sequence[str]) -> Dataset:
        """The dataset with columns of nulls where no source has them."""
        absent = [name for name in columns if not self.kinds(name)]
        nulls = {name: {pa.null(): self.sources[0].name} for name in absent}
        return replace(self, types={**self.types, **nulls})

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

    def kinds(self, name: str) -> Mapping[pa.DataType, str]:
        """`types` of a column, or of a field inside of structs by its path; none if there is
        none."""
        if "." not in name or name in self.types:
            return self.types.get(name, {})
        kinds: dict[pa.DataType, str] = {}
        for source in self.sources:
            field = field_at(source.schema, name)
            if field is not None:
                kinds.setdefault(field.type, source.name)
        return kinds

    def type_of(self, name: str) -> pa.DataType:
        """The plain type that a column has, or is promoted to, in all sources.

        Raises DataError where two are incompatible; the message names both.
        """
        kinds: dict[pa.DataType, str] = {}
        for kind, where in self.kinds(name).items():
            kinds.setdefault(plain_type(kind), where)
        agreed: pa.DataType | None = pa.null()
        for kind in sorted(kinds, key=str):  # independent of the order of the files
            agreed = None if agreed is None else promoted(agreed, kind)
        if agreed is not None:
            return agreed
        pairs = list(combinations(kinds.items(), 2))
        (a, one), (b, other) = next((p for p in pairs if not promoted(p[0][0], p[1][0])), pairs[0])
        raise DataError(f"{other}: the column {quoted(name)} is {b}, but {a} in {one}")

    def read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Batches of these columns as Source.read, none of them empty; nulls where a
        source lacks a column."""
        for at, source in enumerate(self.sources):
            there = [name for name in columns if count_at(source.schema, name)]
            rows = 0
            for batch in source.read(there, max_bytes):
                for name in columns:
                    if name not in there:
                        kind = plain_type(next(iter(self.kinds(name))))
                        batch = batch.append_column(name, pa.nulls(batch.num_rows, kind))
                if batch.num_rows:
                    yield batch
                    rows += batch.num_rows
            if source.num_rows is None:
                source.num_rows = rows
                self.ends[at:] += rows


# ---- opening

_EXPECTED = (
    "expected paths, an Arrow table or stream, a data frame, or an iterable of dicts or texts"
)


def open_sources(source: Any, single: Collection[str] = (TEXT_NAME,)) -> Dataset:
    """The rows of what a user gives as data.

    Parameters
    ----------
    source : a path, folder, glob or URI, "-" for standard input, or a list of those; an Arrow table
        or stream, a data frame or lazy frame, a column of texts, or a list of those; an iterable of
        dicts or of texts
    single : the column that CSV of a single column may have where no name tells the format, as on
        standard input: one of these

    A list of strings is paths if each can only be one (`are_paths`), and texts if none can. Warns
    of files in folders that are not read.

    Raises DataError: a path does not exist, a folder or glob has no data, a file is damaged or of
    no known format; SettingsError: `source` is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return _open_files([source], single)
    if isinstance(source, Source):
        return Dataset.of([source])
    table = _table_source(source)
    if table is not None:
        return Dataset.of([table])
    if isinstance(source, Mapping | bytes) or not isinstance(source, Iterable):
        raise _unknown(source)
    items: Iterable[Any] = source
    try:
        if isinstance(source, Sequence):
            first = source[0]
        else:
            remaining = iter(source)
            first = next(remaining)
            items = chain([first], remaining)
    except (IndexError, StopIteration):
        kind = type(source).__name__
        raise SettingsError(f"a corpus of type {kind} that is empty: {_EXPECTED}") from None
    if isinstance(first, os.PathLike):
        return _open_files(_all_paths(items), single)
    may_be_paths = isinstance(source, list | tuple) or hasattr(source, "__next__")
    if isinstance(first, str) and may_be_paths:
        if not isinstance(items, Sequence) and _is_path(first):
            items = list(items)
        if isinstance(items, Sequence) and any(map(_is_path, items)):
            return _open_files(_all_paths(items), single)
    if first is None or isinstance(first, str | Mapping):
        return Dataset.of([RecordSource(items, f"the {type(source).__name__}")])
    tables = []
    for number, item in enumerate(items):
        each = _table_source(item, f"table {number} (from 0)")
        if each is None:
            where = f"element {number} (from 0) of the {type(source).__name__}"
            raise SettingsError(f"{where} is of type {type(item).__name__}: {_EXPECTED}")
        tables.append(each)
    return Dataset.of(tables)


def _unknown(source: Any) -> SettingsError:
    return SettingsError(f"a corpus of type {type(source).__name__}: {_EXPECTED}")


def _table_source(source: Any, name: str | None = None) -> ArrowSource | None:
    """The source of an object with Arrow's interface or a lazy frame of polars; None for others."""
    if isinstance(source, pa.RecordBatch):
        return ArrowSource(pa.Table.from_batches([source]), name)
    is_column = isinstance(source, pa.Array | pa.ChunkedArray)
    if is_column or (hasattr(source, "to_frame") and not hasattr(source, "columns")):
        column = arrow_column(source)
        if column is not None:
            return ArrowSource(pa.table([column], [TEXT_NAME]), name)
    if hasattr(source, "__arrow_c_stream__"):
        return ArrowSource(_with_index(source), name)
    if hasattr(source, "__arrow_c_array__"):
        try:
            return ArrowSource(pa.Table.from_batches([pa.record_batch(source)]), name)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"no columns in the Arrow array ({reason(error)})") from error
    if is_lazy_frame(source):
        try:
            frame = source.collect(engine="streaming")
        except TypeError:  # of an older version
            frame = source.collect()
        return ArrowSource(frame, name)
    return None


def _with_index(frame: Any) -> Any:
    """A frame of pandas with a named index of consecutive numbers, which its Arrow interface leaves
    out, as a column; other objects as they are."""
    index = getattr(frame, "index", None)
    if type(index).__module__.startswith("pandas") and type(index).__name__ == "RangeIndex":
        name = getattr(index, "name", None)
        if name is not None and str(name) not in map(str, frame.columns):
            return frame.reset_index()
    return frame


def _all_paths(items: Iterable[Any]) -> list[str | os.PathLike[str]]:
    """Items of which some are paths. Raises SettingsError where others are not."""
    paths = list(items)
    for path in paths:
        if not _is_path(path):
            example = next(filter(_is_path, paths))
            raise SettingsError(
                f"{os.fspath(example)!r} is a path, and {path!r} is not a path to data: expected "
                "paths alone (existing ones, or pathlib's), or texts alone ({'text': …} is always "
                "a text)"
            )
    return paths


def are_paths(examples: Any) -> bool:
    """Whether a list can only be paths: path objects, URIs, files by the suffix of data or the
    content of Parquet, folders and globs that have some. Any other list of strings is texts."""
    return bool(isinstance(examples, list | tuple) and examples and all(map(_is_path, examples)))


def _is_path(text: Any) -> bool:
    if not isinstance(text, str):
        return isinstance(text, os.PathLike)
    if len(text.split()) == 1 and (is_uri(text) or format_of(text) is not None):
        return True
    try:
        try:
            mode = os.stat(text).st_mode
        except (OSError, ValueError):
            return glob.has_magic(text) and any(map(format_of, glob.iglob(text, recursive=True)))
        if stat.S_ISDIR(mode):
            return any(data_files(Path(text), []))
        if not stat.S_ISREG(mode):  # opening a pipe would block
            return False
        with open(text, "rb") as file:
            return file.read(len(PARQUET_FILE)) == PARQUET_FILE
    except (OSError, ValueError):  # no such file, or not a valid file name
        return False


def _open_files(given: Sequence[str | os.PathLike[str]], single: Collection[str]) -> Dataset:
    found = find_files(given)
    if found.skipped:
        count = len(found.skipped)
        what = "1 file" if count == 1 else f"{count:,} files"
        warn(
            f"{what} skipped, empty or not named as data: {found.skipped[0]}"
            + (", …" if count > 1 else "")
        )
    if count := len(found.repeated):
        what = "1 file is" if count == 1 else f"{count:,} files are"
        more = ", …" if count > 1 else ""
        notice = f"{what} named more than once, and read once: {found.repeated[0]}{more}"
        warn(notice)
    sources = []
    for file, constants in zip(found.files, found.partitions, strict=True):
        source = open_file(file, single)
        source.add_constants(constants)
        sources.append(source)
    empty = {source.name: source.empty_lines for source in sources}
    if count := sum(empty.values()):
        first, *others = (name for name, number in empty.items() if number)
        where = first + (f" and {len(others)} more" if others else "")
        warn(skipped_lines(where, count))
    return Dataset.of(sources)


def open_file(file: DataFile, single: Collection[str] = (TEXT_NAME,)) -> FileSource:
    """The rows of a file, whose format is known by its content or its name; `single` as in
    `open_sources`."""
    with unreadable(file.name), file.open() as opened:
        head = bytes(opened.read(len(ARROW_FILE)))
    if not head:
        raise DataError(f"{file.name}: an empty file, expected {EXPECTED}")
    if head.startswith((ARROW_FILE, ARROW_STREAM)):
        return ArrowFileSource(file)
    named = PARQUET if head.startswith(PARQUET_FILE) else format_of(file.name)
    if named == PARQUET:
        return ParquetSource(file)
    from fastseq.store.record_files import CsvSource, JsonSource, sniffed

    if named is None and isinstance(file, MemoryFile):
        named = sniffed(file, single)
    if named is None:
        raise DataError(f"{file.name}: not Parquet, and no name of another format: {EXPECTED}")
    return JsonSource(file) if named == JSON else CsvSource(file, "\t" if named == TSV else ",")
