"""Parquet files opened under names of any bytes, and the mark of those that fastseq wrote.

pyarrow takes names in UTF-8 only; a file of another name is opened by Python, at a small cost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

KEY = b"fastseq"  # of the file's metadata: JSON that names the kind of output


@contextmanager
def parquet_file(source: Any, **options: Any) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read, by its path or as pyarrow takes it; `options` of pq.ParquetFile."""
    with ExitStack() as stack:
        yield stack.enter_context(pq.ParquetFile(_opened(source, "rb", stack), **options))


@contextmanager
def parquet_writer(
    path: str | os.PathLike[str],
    schema: pa.Schema,
    kind: str | None = None,
    **options: Any,
) -> Iterator[pq.ParquetWriter]:
    """A Parquet file to write, closed with the block; `options` of pq.ParquetWriter.

    kind : what the mark names it, for identify.kind_of; None: no mark
    """
    with ExitStack() as stack:
        sink = _opened(path, "wb", stack)
        writer = stack.enter_context(pq.ParquetWriter(sink, schema, compression="zstd", **options))
        if kind is not None:
            # of the file, not of the schema: a table that is read and written again has it no more
            writer.add_key_value_metadata({KEY: json.dumps({"kind": kind}).encode()})
        yield writer


def _opened(source: Any, mode: str, stack: ExitStack) -> Any:
    """The path where pyarrow reaches the same file by it, else an open file; all else as it is."""
    if not isinstance(source, str | os.PathLike):
        return source
    name = os.fspath(source)
    if os.fsencode(name) == name.encode("utf-8", "replace"):
        return name
    # unbuffered: pyarrow reads and writes whole pages
    return stack.enter_context(open(name, mode, buffering=0))
