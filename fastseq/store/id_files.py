"""Files with ids of documents."""

from __future__ import annotations

from io import BytesIO
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from fastseq.errors import DataError
from fastseq.store.arrays import first_null, one_chunk
from fastseq.store.columns import ID_NAMES
from fastseq.store.parquet import listing, unreadable

_PARQUET_MAGIC = b"PAR1"
_BOM = b"\xef\xbb\xbf"


def read_ids(file: BinaryIO, name: str) -> Any:
    """The ids in a file, as `ids_like` takes them: of Parquet the column `id`, `doc_id` or `_id`,
    or the only column, as an Arrow array; of UTF-8 text each line that is not blank, as a string.

    file : open; a pipe is read to its end
    name : for messages

    Raises DataError: the Parquet file is damaged or lacks such a column, an id is null, the text is
    not UTF-8.
    """
    if not file.seekable():
        file = BytesIO(file.read())
    is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    file.seek(0)
    return _ids_in_parquet(file, name) if is_parquet else _ids_in_lines(file.read(), name)


def _ids_in_parquet(file: BinaryIO, name: str) -> Any:
    with unreadable(name), pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        column = next((one for one in ID_NAMES if one in schema.names), None)
        if column is None and len(schema.names) == 1:
            column = schema.names[0]
        if column is None:
            raise DataError(f"{name}: no column {ID_NAMES[0]!r}; its columns: {listing(schema)}")
        ids = one_chunk(parquet.read([column], use_threads=False).column(0))
    if ids.null_count:
        raise DataError(f"{name}: the id is null in row {first_null(ids)} (from 0)")
    return ids


def _ids_in_lines(raw: bytes, name: str) -> list[str]:
    ids = []
    raw = raw.removeprefix(_BOM)
    for number, line in enumerate(raw.split(b"\n" if b"\n" in raw else b"\r"), 1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise DataError(f"{name}, line {number}: not UTF-8 text") from None
        if text and not text.isspace():
            ids.append(text)
    return ids
