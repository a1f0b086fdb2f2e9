"""Parquet files under file names of any bytes, marked with the kind of output; small tables.

pyarrow accepts only UTF-8 file names; Python opens the other files, at a small cost.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.errors import DataError
from fastseq.store.arrays import one_chunk, plain_type
from fastseq.store.files import Readable, opened, reason, written_whole
from fastseq.store.nested import leaves

_SURROGATE = re.compile("[\ud800-\udfff]")  # of a byte that is not UTF-8

MOST_LISTED = 50  # columns in a message
KEY = b"fastseq"  # of the file's metadata: JSON that names the kind of output


@contextmanager
def parquet_file(source: Any, **options: Any) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read, by its path or as pyarrow takes it; `options` of pq.ParquetFile."""
    with ExitStack() as stack:
        yield stack.enter_context(pq.ParquetFile(_opened(source, "rb", stack), **options))


@contextmanager
def unreadable(path: Any) -> Iterator[None]:
    """Convert errors of pyarrow and the system in the block to a DataError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError) as error:
        problem = f"not a Parquet file, or one cut short ({reason(error)})"
        raise DataError(f"{path}: {problem}") from error


@contextmanager
def parquet_writer(
    path: str | os.PathLike[str], schema: pa.Schema, kind: str | None = None, **options: Any
) -> Iterator[pq.ParquetWriter]:
    """A Parquet file to write, closed with the block; `options` of pq.ParquetWriter. `kind` is the
    mark, for outputs.kind_of; None: no mark."""
    with ExitStack() as stack:
        sink = _opened(path, "wb", stack)
        writer = stack.enter_context(pq.ParquetWriter(sink, schema, compression="zstd", **options))
        if kind is not None:
            # of the file, not of the schema: a table that is read and written again loses it
            writer.add_key_value_metadata({KEY: json.dumps({"kind": kind}).encode()})
        yield writer


@contextmanager
def opened_file(path: str | os.PathLike[str]) -> Iterator[pa.NativeFile]:
    """A file to read, under a name of any bytes."""
    with ExitStack() as stack:
        found = _opened(path, "rb", stack)
        file = pa.OSFile(found, "rb") if isinstance(found, str) else pa.PythonFile(found, "r")
        yield stack.enter_context(file)


def _opened(source: Any, mode: str, stack: ExitStack) -> Any:
    """The path where pyarrow finds the same file by it, else an open file; non-paths unchanged."""
    if not isinstance(source, str | os.PathLike):
        return source
    name = os.fspath(source)
    if os.fsencode(name) == name.encode("utf-8", "replace"):
        return name
    # unbuffered: pyarrow reads and writes whole pages
    return stack.enter_context(open(name, mode, buffering=0))


def write_columns(
    path: str | os.PathLike[str], columns: Mapping[str, Sequence[Any]], kind: str | None = None
) -> None:
    """Write columns of Python values, NumPy or Arrow arrays as Parquet, atomically. `kind` is the
    mark, for outputs.kind_of.

    Raises DataError: the columns are of different lengths, one mixes types, or is of a type that
    Parquet cannot hold; SettingsError, FastseqError: as `written_whole`.
    """
    with written_whole(path) as temporary:
        try:
            table = pa.table(dict(columns))
            with parquet_writer(temporary, table.schema, kind) as writer:
                writer.write_table(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(f"cannot write {path} as Parquet: {reason(error)}") from error


def read_columns(path: Any, names: Sequence[Sequence[str | None]]) -> list[pa.Array]:
    """Some columns of a small Parquet file, whole, with plain types and in one chunk.

    Parameters
    ----------
    path : a path, a Content, or a file as pyarrow reads it
    names : for each column its name, then alternatives in order of preference; None last for an
        optional column, whose values are null where the file lacks it

    Raises DataError: the file is missing, is not Parquet or is damaged, or lacks a column; the
    message lists the columns of the file.
    """
    data = getattr(path, "data", None)
    source = path if data is None else pa.BufferReader(data)
    with unreadable(path), parquet_file(source) as file:
        schema = file.schema_arrow
        found = chosen_columns(schema, names, path)
        distinct = list(dict.fromkeys(name for name in found if name is not None))
        if file.num_row_groups:
            table = file.read(columns=distinct, use_threads=False)
        else:  # some versions of pyarrow cannot read such a file
            table = schema.empty_table().select(distinct)
    return plain_columns(table, found)


def chosen_columns(
    schema: pa.Schema, names: Sequence[Sequence[str | None]], where: object
) -> list[str | None]:
    """The columns of a schema that `names`, as of read_columns, choose, None for an optional one
    that is not there. Raises DataError, which names `where`, if a column is missing."""
    found = []
    for wanted in names:
        name = next((name for name in wanted if name in schema.names), None)
        if name is None and None not in wanted:
            raise DataError(f"{where}: no column {wanted[0]!r}; its columns: {listing(schema)}")
        found.append(name)
    return found


def plain_columns(table: pa.Table, names: Sequence[str | None]) -> list[pa.Array]:
    """Columns of a table with plain types and in one chunk; nulls for None."""
    columns = [None if name is None else table.column(name) for name in names]
    return [
        pa.nulls(len(table)) if column is None else one_chunk(column, plain_type(column.type))
        for column in columns
    ]


def listing(schema: pa.Schema) -> str:
    """The columns and their types, for a message; fields of structs as paths."""
    shown = [f"{field.name} ({field.type})" for field in leaves(list(schema))]
    if len(shown) > MOST_LISTED:
        shown[MOST_LISTED:] = [f"… ({len(shown) - MOST_LISTED:,} more)"]
    return ", ".join(shown) or "none"


def first_bytes(path: Readable, size: int) -> bytes:
    """The first bytes of a file, decompressed. Raises DataError: the file is missing, or cannot be
    read."""
    with _readable(path), opened(path) as raw:
        return raw.read(size)


def read_lines(path: Readable) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file, compressed or not, that are not blank, numbered from 1,
    without their ends: LF or CR LF, or CR in a file without any LF.

    Raises DataError: the file is missing, cannot be read, or is not UTF-8 (which line).
    """
    with _readable(path):
        with opened(path) as raw:
            feeds = any(b"\n" in block for block in iter(lambda: raw.read(1 << 20), b""))
        # not str.splitlines, which also splits at U+2028 and others inside of a text
        end = "\n" if feeds else "\r"
        with (
            opened(path) as raw,
            io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline=end) as file,
        ):
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if not line.isascii() and _SURROGATE.search(line):
                    raise DataError(f"{path}, line {number}: not UTF-8 text")
                if line and not line.isspace():
                    yield number, line


@contextmanager
def _readable(path: Readable) -> Iterator[None]:
    """Convert the system's errors, and those of a damaged compression, to a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
