"""A corpus: ids and texts kept in Parquet or Arrow, read in batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from fastseq.errors import RowError, located
from fastseq.store.arrays import first_null, is_string, valid_utf8
from fastseq.store.columns import (
    INDEX_NAME,
    check_fields,
    check_types,
    choose_fields,
    is_id,
    listed,
)
from fastseq.store.examples import MAX_BYTES, RowBatch, RowReader
from fastseq.store.sources import open_sources

CorpusBatch = RowBatch  # its former name


@dataclass(frozen=True, slots=True, eq=False)
class Corpus(RowReader):
    """Documents to be read: where they are, and which column is what."""

    @staticmethod
    def open(
        source: Any,
        id_column: str | None = None,
        text_columns: str | Sequence[str] | None = None,
        store: str | Sequence[str] | None = None,
    ) -> Corpus:
        """Find the files and settle the columns, from the schemas alone: no row is read.

        Parameters
        ----------
        source : a Parquet file, a folder (every Parquet file below it), a glob, or a list of those;
            an Arrow table or stream; anything with the Arrow stream interface (pandas, polars)
        id_column : strings or integers; unless given `id`, `doc_id`, `_id` or the row number
        text_columns : joined by a space, a null part being empty; unless given `text` or the only
            column of strings beside the id. Strings of every Arrow type, or bytes taken as UTF-8
        store : the columns to store beside the id; unless given, all

        Columns go by name: where a file lacks one that is stored, or one of several of text, its
        rows have nulls; numbers of several widths become the widest. Folders called KEY=VALUE
        below the folder given are columns, too.

        Raises
        ------
        DataError
            A path that does not exist, a file that is not Parquet, a column that is missing or
            cannot be guessed or serve, files that disagree.
        SettingsError
            `source` is none of the above.
        """
        data = open_sources(source)
        fields = choose_fields(
            data, "text", text=text_columns or None, id=id_column, targets=False,
            text_parameter="text_columns",
        )  # fmt: skip
        if store is None:
            stored = tuple(name for name in data.types if not INDEX_NAME.fullmatch(name))
        else:
            stored = (*(() if fields.id is None else (fields.id,)), *listed(store))
        fields = replace(fields, keep=tuple(dict.fromkeys(stored)))
        check_fields(data, fields)
        check_types(data, [fields.id], "id", is_id, "strings or integers")
        kept = pa.schema([(name, data.type_of(name)) for name in fields.outputs])
        return Corpus(data, fields, None, kept)

    @property
    def id_column(self) -> str | None:
        """The name of the id column; None where the row number is the id."""
        return self.fields.id

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The names of the text columns."""
        return self.fields.text

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """The names of the columns to store."""
        return self.fields.keep

    @property
    def stored_schema(self) -> pa.Schema:
        """The schema of every batch's `kept`."""
        return pa.schema([self.kept.field(name) for name in self.stored_columns])

    @property
    def num_bytes(self) -> int | None:
        """About the bytes of text, uncompressed; None where only reading a stream tells."""
        sizes = [source.nbytes(self.text_columns) for source in self.sources]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        """Read the corpus, in order, in batches of about `max_bytes` of strings, at least a row.

        How rows fall into batches says nothing about them: joined, batches of every size are the
        same. Memory stays a small multiple of a batch, however large the row groups of a file.

        Raises
        ------
        DataError
            A null id or one that is not UTF-8 (naming file and row), a damaged file, a text of
            more than 2 GiB, a stream read for the second time.
        """
        for batch in self._batches(max_bytes, joined=True):
            if batch.ids is not None:
                with located(batch.where):
                    self._check_ids(batch.ids)
            yield batch

    def _check_ids(self, ids: pa.Array) -> None:
        if ids.null_count:
            raise RowError(first_null(ids), f"the id in column {self.id_column!r} is null")
        if is_string(ids.type) and not valid_utf8(ids):
            row = next(i for i in range(len(ids)) if not valid_utf8(ids.slice(i, 1)))
            raise RowError(row, f"the id in column {self.id_column!r} is not UTF-8")
