"""A corpus: ids and texts kept in Parquet or Arrow, read in batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError
from fastseq.store.arrays import (
    byte_lengths,
    is_string,
    is_text,
    plain,
    repaired,
    texts_of,
    valid_utf8,
)
from fastseq.store.columns import Columns, agreed_schema, choose_columns, used_schema
from fastseq.store.sources import Source, open_sources
from fastseq.types import Int64, Texts

MAX_BYTES = 2 << 20  # of strings in a batch
_MOST_BYTES = 1 << 30  # what 32-bit offsets hold with room to spare


@dataclass(frozen=True, slots=True, eq=False)
class CorpusBatch:
    """Some consecutive rows of a corpus.

    first_row    number of the first row, from 0, in the whole corpus
    texts        the rows' texts; the bytes are Arrow's, so they must not be written to
    ids          pa.Array of strings or integers without nulls; None where the row number is the id
    stored       the columns to store, the id's among them; None where there are none
    null_texts   rows whose text is null, and empty in `texts`
    """

    first_row: int
    texts: Texts
    ids: pa.Array | None
    stored: pa.Table | None
    null_texts: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.texts)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Documents to be read: where they are, and which column is what.

    sources   the files or the table, in order
    columns   the id, text and stored columns
    schema    the plain types of the used columns
    """

    sources: tuple[Source, ...]
    columns: Columns
    schema: pa.Schema

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
        source : a Parquet file, a folder (every *.parquet below it), a glob, or a list of those;
            an Arrow table or stream; anything with the Arrow stream interface (pandas, polars)
        id_column : strings or integers; unless given `id`, `doc_id`, `_id` or the row number
        text_columns : joined by a space, a null part being empty; unless given `text` or the only
            column of strings beside the id. Strings of every Arrow type, or bytes taken as UTF-8
        store : the columns to store beside the id; unless given, all

        Raises
        ------
        DataError
            A path that does not exist, a file that is not Parquet, a column that is missing or
            cannot be guessed or serve, files that disagree.
        SettingsError
            `source` is none of the above.
        """
        sources = tuple(open_sources(source))
        first = sources[0]
        columns = choose_columns(first.schema, first.name, id_column, text_columns, store)
        schema = agreed_schema((s.name, used_schema(s.schema, columns, s.name)) for s in sources)
        return Corpus(sources, columns, used_schema(schema, columns, first.name))

    @property
    def id_column(self) -> str | None:
        """The name of the id column; None where the row number is the id."""
        return self.columns.id

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The names of the text columns."""
        return self.columns.text

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """The names of the columns to store."""
        return self.columns.stored

    @property
    def stored_schema(self) -> pa.Schema:
        """The schema of every batch's `stored`."""
        return pa.schema([self.schema.field(name) for name in self.stored_columns])

    @property
    def num_rows(self) -> int | None:
        """The number of rows; None where only reading a stream tells."""
        counts = [source.num_rows for source in self.sources]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def num_bytes(self) -> int | None:
        """About the bytes of text, uncompressed; None where only reading a stream tells."""
        sizes = [source.nbytes(self.text_columns) for source in self.sources]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[CorpusBatch]:
        """Read the corpus, in order, in batches of about `max_bytes` of strings, at least a row.

        How rows fall into batches says nothing about them: joined, batches of every size are the
        same. Memory stays a small multiple of a batch, however large the row groups of a file.

        Raises
        ------
        DataError
            A null id or one that is not UTF-8 (naming file and row), a damaged file, a text of
            more than 2 GiB, a stream read for the second time.
        """
        max_bytes = min(max(max_bytes, 1), _MOST_BYTES)
        first_row = 0
        pending: list[pa.RecordBatch] = []
        size = 0
        for piece in self._pieces(max_bytes):
            if pending and size + piece.nbytes > max_bytes:
                yield (batch := self._batch(pending, first_row))
                first_row, pending, size = first_row + batch.rows, [], 0
            pending.append(piece)
            size += piece.nbytes
            if 2 * size >= max_bytes:
                yield (batch := self._batch(pending, first_row))
                first_row, pending, size = first_row + batch.rows, [], 0
        if pending:
            yield self._batch(pending, first_row)

    def _pieces(self, max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Record batches with the plain schema, of at most `max_bytes` of strings or one row,
        their ids checked."""
        strings = [field.name for field in self.schema if is_text(field.type)]
        for source in self.sources:
            row = 0
            for raw in source.read(self.columns.used, max_bytes):
                if raw.num_rows == 0:
                    continue
                try:
                    lengths = np.zeros(raw.num_rows, np.int64)
                    for name in strings:
                        lengths += byte_lengths(raw.column(name))
                    for start, stop in cuts(lengths, max_bytes):
                        arrays = [
                            plain(raw.column(field.name).slice(start, stop - start), field.type)
                            for field in self.schema
                        ]
                        piece = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
                        self._check_ids(piece, row + start)
                        yield piece
                except DataError as error:
                    raise DataError(f"{source.name}: {error}") from error
                row += raw.num_rows

    def _check_ids(self, piece: pa.RecordBatch, row: int) -> None:
        if self.id_column is None:
            return
        ids = piece.column(self.id_column)
        if ids.null_count:
            row += int(np.argmax(ids.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"row {row} (from 0): the id in column {self.id_column!r} is null")
        if is_string(ids.type) and not valid_utf8(ids):
            row += next(i for i in range(len(ids)) if not valid_utf8(ids.slice(i, 1)))
            raise DataError(f"row {row} (from 0): the id in column {self.id_column!r} is not UTF-8")

    def _batch(self, pieces: list[pa.RecordBatch], first_row: int) -> CorpusBatch:
        if len(pieces) > 1:
            pieces = pa.Table.from_batches(pieces).combine_chunks().to_batches()
        (piece,) = pieces
        texts, nulls = texts_of([piece.column(name) for name in self.text_columns])
        stored = None
        if self.stored_columns:
            arrays = [piece.column(name) for name in self.stored_columns]
            # what is stored must be shown later, whatever becomes of invalid text in the index
            arrays = [repaired(array) if is_string(array.type) else array for array in arrays]
            stored = pa.Table.from_arrays(arrays, schema=self.stored_schema)
        ids = None if self.id_column is None else piece.column(self.id_column)
        return CorpusBatch(first_row, texts, ids, stored, nulls)


def cuts(lengths: Int64, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut n rows of these lengths into runs [start, stop) of at most `max_bytes`, or one row."""
    ends = np.cumsum(lengths)
    start, before = 0, 0
    while start < len(lengths):
        stop = max(int(np.searchsorted(ends, before + max_bytes, "right")), start + 1)
        yield start, stop
        start, before = stop, int(ends[stop - 1])
