"""Files with ids of documents."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError, RowError, located
from fastseq.store.arrays import first_null
from fastseq.store.columns import ID_NAMES, check_types
from fastseq.store.data_files import DataFile, LocalFile, MemoryFile, single_file
from fastseq.store.dataset import Dataset, open_file
from fastseq.store.ids import plain_ids
from fastseq.store.locations import CSV, TSV, format_of
from fastseq.store.nested import count_at
from fastseq.store.parquet import listing
from fastseq.store.rows import MAX_BYTES
from fastseq.store.sources import PARQUET_FILE

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class FileIds:
    """The ids in a file.

    values  as `ids_like` takes them
    where   the location of an id by its place among the values, for messages
    """

    values: Any
    where: Callable[[int], str]


def read_ids(path: str | os.PathLike[str], id_column: str | None = None) -> FileIds:
    """The ids in a file, a pipe or standard input ("-").

    Parquet by its content, JSON Lines, CSV and TSV by the suffix, and JSON Lines without one by its
    first line, are read as a corpus is; ids in CSV are strings, as they are written. The column is
    `id_column`, else `id`, `doc_id` or `_id`, else the only one, but not of CSV, which may lack a
    header. Other files are UTF-8 text, compressed or not: each line that is not blank is an id.

    id_column : of the index

    Raises DataError: the file is damaged or lacks such a column, its type is not that of ids, an id
    is null, the text is not UTF-8.
    """
    found = single_file(path)
    file = found if isinstance(found, MemoryFile) else LocalFile(Path(found))
    if file.head(len(PARQUET_FILE)) == PARQUET_FILE or format_of(file.name) is not None:
        return _ids_in_rows(file, id_column)
    with file.reading(), file.text() as stream:
        raw = bytes(stream.read()).removeprefix(_BOM)
    if _is_object(raw.lstrip().partition(b"\n")[0]):
        return _ids_in_rows(MemoryFile(file.name, raw), id_column)
    return _ids_in_lines(raw, file.name)


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object; an id may begin with a brace, too."""
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _ids_in_rows(file: DataFile, id_column: str | None) -> FileIds:
    source = open_file(file)
    schema = source.schema
    names = ID_NAMES if id_column is None else (id_column, *ID_NAMES)
    column = next((name for name in names if count_at(schema, name) == 1), None)
    if column is None and len(schema) == 1 and format_of(file.name) not in (CSV, TSV):
        column = schema.names[0]
    if column is None:
        raise DataError(f"{file.name}: no column {names[0]!r}; its columns: {listing(schema)}")
    data = Dataset.of([source]).with_strings([column])
    check_types(data, "id", column)
    parts, rows = [], 0
    for batch in data.read([column], MAX_BYTES):
        with located(data.where, rows):
            ids = batch.column(0)
            if ids.null_count:
                raise RowError(first_null(ids), "the id is null")
            parts.append(plain_ids(ids))
        rows += batch.num_rows
    values = pa.concat_arrays(parts) if parts else []
    return FileIds(values, data.where)


def _ids_in_lines(raw: bytes, name: str) -> FileIds:
    ids, numbers = [], []
    for number, line in enumerate(raw.split(b"\n" if b"\n" in raw else b"\r"), 1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise DataError(f"{name}, line {number}: not UTF-8 text") from None
        if text and not text.isspace():
            ids.append(text)
            numbers.append(number)
    return FileIds(ids, lambda place: f"{name}, line {numbers[place]}")
