"""Small tables: Parquet written whole or not at all, Parquet and text files read whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError
from fastseq.store.arrays import plain, plain_type
from fastseq.store.atomic import reason, written_whole
from fastseq.store.columns import listing
from fastseq.store.parquet import parquet_file, parquet_writer


def write_table(path: str | os.PathLike[str], table: pa.Table, kind: str | None = None) -> None:
    """Write a table as Parquet, whole or not at all, marked as of a kind where one is given.

    Raises
    ------
    SettingsError
        `path` is a folder, or its folder does not exist.
    DataError
        A column of the table is of a type that Parquet cannot hold.
    FastseqError
        The system refuses.
    """
    with written_whole(path) as temporary:
        try:
            with parquet_writer(temporary, table.schema, kind) as writer:
                writer.write_table(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(f"cannot write {path} as Parquet: {reason(error)}") from error


def write_columns(
    path: str | os.PathLike[str], columns: Mapping[str, Sequence[Any]], kind: str | None = None
) -> None:
    """Write columns of Python values, or NumPy arrays, as Parquet; Arrow infers the types.

    Raises
    ------
    DataError
        The columns are of different lengths, or one mixes types.
    SettingsError, FastseqError
        As `write_table`.
    """
    try:
        table = pa.table(dict(columns))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(f"cannot write {path} as Parquet: {reason(error)}") from error
    write_table(path, table, kind)


def read_columns(
    path: str | os.PathLike[str], names: Sequence[Sequence[str | None]]
) -> list[pa.Array]:
    """Some columns of a small Parquet file, whole, with plain types and in one chunk.

    Parameters
    ----------
    names : for each column wanted its name, then the names to fall back on, in order; None last
        for an optional column, whose values are null where the file lacks it

    Raises
    ------
    DataError
        The file is missing, is not Parquet or is damaged, or a column is not there; the message
        lists those that are.
    """
    try:
        with parquet_file(path) as file:
            schema = file.schema_arrow
            found: list[str | None] = []
            for wanted in names:
                name = next((name for name in wanted if name in schema.names), None)
                if name is None and None not in wanted:
                    raise DataError(
                        f"{path}: no column {wanted[0]!r}; its columns: {listing(schema)}"
                    )
                found.append(name)
            distinct = list(dict.fromkeys(name for name in found if name is not None))
            if file.num_row_groups:
                table = file.read(columns=distinct, use_threads=False)
            else:  # which some versions of pyarrow cannot read
                table = schema.empty_table().select(distinct)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: not a Parquet file, or one cut short ({reason(error)})"
        ) from error
    arrays = []
    for name in found:
        if name is None:
            arrays.append(pa.nulls(len(table)))
            continue
        column = table.column(name).combine_chunks()
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        kind = plain_type(column.type)
        arrays.append(
            pa.concat_arrays([plain(chunk, kind) for chunk in chunks] or [pa.nulls(0, kind)])
        )
    return arrays


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file that are not blank, numbered from 1, without their ends:
    LF or CR LF, or CR in a file without any LF.

    Raises
    ------
    DataError
        The file is missing, cannot be read, or is not UTF-8 (which line).
    """
    try:
        with open(path, "rb") as raw:
            feeds = any(b"\n" in block for block in iter(lambda: raw.read(1 << 20), b""))
        # no other line ends: str.splitlines would cut at U+2028 and others inside of a text
        end = "\n" if feeds else "\r"
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline=end) as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if not line.isascii() and not _is_utf8(line):
                    raise DataError(f"{path}, line {number}: not UTF-8 text")
                if line and not line.isspace():
                    yield number, line
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def _is_utf8(line: str) -> bool:
    """Whether a line read with surrogateescape was UTF-8."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
