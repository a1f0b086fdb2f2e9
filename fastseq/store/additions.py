"""Documents to be added to an index: rows of a corpus with the columns that the index has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, RowError, located, quoted
from fastseq.store.arrays import filled, is_string, number_array, one_chunk, plain, plain_type
from fastseq.store.columns import INDEX_NAME
from fastseq.store.ids import id_list
from fastseq.store.impacts import Impacts
from fastseq.store.rows import MAX_BYTES, Corpus, RowBatch
from fastseq.types import Texts, VectorRows, offsets_of, ranges


class Documents(Protocol):
    """What a segment is built from; Corpus is one."""

    @property
    def id_column(self) -> str | None:
        """The name of the id column; None where the row number is the id."""

    @property
    def stored_schema(self) -> pa.Schema:
        """The schema of every batch's `kept`."""

    @property
    def layout(self) -> Mapping[str, tuple[int, ...]]:
        """Of each field of the index the numbers of its text columns; "" is the text."""

    @property
    def weights(self) -> str | None:
        """The kind of the weights of impacts; None for texts."""

    @property
    def num_rows(self) -> int | None:
        """The number of rows; None where it is unknown."""

    @property
    def name(self) -> str:
        """For messages."""

    def where(self, row: int) -> str:
        """The location of a row, for a message."""

    @property
    def place(self) -> Callable[[int], str] | None:
        """`where` for rows of files; None where rows have only numbers."""

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        """The documents, in batches of about `max_bytes` of strings."""


class Addition:
    """The rows of a corpus with the stored columns of an index: nulls where the corpus lacks a
    column, the types of the index where the values fit.

    Parameters
    ----------
    source, id_column, text_columns, fields, impacts, weights, vectors, vector_size : as in
        Corpus.open
    schema : of the stored columns of the index
    named : whether the index was built with names of the columns to store; others are then left
        out, and are an error otherwise

    Attributes
    ----------
    stored_schema : `schema`, where null types are those of the corpus

    Raises DataError as Corpus.open, and for a column of another type or one that the index lacks.
    """

    def __init__(
        self, source: Any, id_column: str, text_columns: Sequence[str], fields: Sequence[str],
        schema: pa.Schema, named: bool, impacts: str | None = None, weights: str | None = None,
        vectors: str | None = None, vector_size: int | None = None,
    ) -> None:  # fmt: skip
        # with the id alone, since other columns may be missing
        strings = [field.name for field in schema if is_string(field.type)]
        everything = Corpus.open(
            source, id_column, text_columns, None, fields, True, strings, impacts, weights,
            vectors, vector_size,
        )  # fmt: skip
        for column in (impacts, vectors):
            if column is not None and column in schema.names:
                everything = everything.with_stored(column)
        name = everything.sources[0].name
        new = [column for column in everything.stored_columns if column not in schema.names]
        new = [column for column in new if not INDEX_NAME.fullmatch(column)]
        if new and not named:
            raise DataError(
                f"{name}: the index has no column {', '.join(map(repr, new))}: leave it out, or "
                "build the index again, with it or with the names of the columns to store"
            )
        for column in everything.stored_columns:
            at = schema.get_field_index(column)
            if at < 0:
                continue
            kind, ours = everything.kept.field(column).type, plain_type(schema.field(at).type)
            agreed = filled(ours, kind)
            if agreed is None:
                problem = f"{name}: the column {quoted(column)} is {kind}, but {ours} in the index"
                remedy = ": convert it, or build the index again"
                raise DataError(problem + remedy)
            if agreed != ours:
                schema = schema.set(at, schema.field(at).with_type(agreed))
        keep = tuple(name for name in everything.stored_columns if name in schema.names)
        self._corpus = replace(
            everything,
            fields=replace(everything.fields, keep=keep),
            kept=pa.schema([everything.kept.field(name) for name in keep]),
        )
        self.id_column = id_column
        self.stored_schema = schema
        self.layout = everything.layout
        self.weights = everything.weights
        self.num_rows = everything.num_rows
        self.name = everything.data.name
        self.where = everything.where
        self.place = everything.place

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        for batch in self._corpus.batches(max_bytes):
            with located(batch.where):
                kept = self._conformed(batch)
            yield replace(batch, kept=kept, ids=one_chunk(kept.column(self.id_column)))

    def _conformed(self, batch: RowBatch) -> pa.Table:
        columns = []
        for field in self.stored_schema:
            if batch.kept is None or field.name not in batch.kept.schema.names:
                columns.append(pa.nulls(batch.rows, field.type))
                continue
            column = batch.kept.column(field.name)
            try:
                columns.append(
                    pa.chunked_array([plain(c, field.type) for c in column.chunks], field.type)
                )
            except RowError as error:
                problem = f"column {quoted(field.name)}: {error.problem}"
                raise RowError(error.row, problem) from error
        return pa.Table.from_arrays(columns, schema=self.stored_schema)


def refuse_repeated_ids(batches: Sequence[RowBatch]) -> None:
    """Raise DataError, which names the rows, for an id that occurs twice in the batches of an
    addition."""
    places: dict[Any, tuple[RowBatch, int]] = {}
    for batch in batches:
        for row, id in enumerate(id_list(batch.ids)):
            if id in places:
                first, at = places[id]
                raise DataError(
                    f"duplicate id {id!r} ({first.where(at)}, {batch.where(row)}): expected one "
                    "row for each id"
                )
            places[id] = batch, row


class Buffer:
    """Documents in memory, of several small additions; those of a known id are replaced.

    rows, nbytes  of the documents in it, approximately
    """

    name = "the documents"
    place = None

    def __init__(
        self, id_column: str, schema: pa.Schema, layout: Mapping[str, tuple[int, ...]],
        weights: str | None = None,
    ) -> None:  # fmt: skip
        self.id_column = id_column
        self.layout, self.weights = layout, weights
        self.stored_schema = schema
        self.nbytes = 0
        self._batches: list[RowBatch] = []
        self._live: list[np.ndarray[Any, np.dtype[np.bool_]]] = []
        self._place: dict[Any, tuple[int, int]] = {}  # batch and row of each id

    @property
    def num_rows(self) -> int | None:
        return len(self._place)

    def where(self, row: int) -> str:
        """The location of a document where it was added from."""
        for batch, live in zip(self._batches, self._live, strict=True):
            rows = np.flatnonzero(live)
            if row < len(rows):
                return batch.where(int(rows[row]))
            row -= len(rows)
        return self.name

    def append(self, batch: RowBatch) -> int:
        """Add the rows of a batch, of distinct ids; returns how many replace one."""
        number, ids = len(self._batches), id_list(batch.ids)
        replaced = self.remove(ids)
        self._place.update((id, (number, row)) for row, id in enumerate(ids))
        self._batches.append(batch)
        self._live.append(np.ones(batch.rows, bool))
        self.nbytes += _content_bytes(batch) + batch.kept.nbytes
        return replaced

    def remove(self, ids: Sequence[Any]) -> int:
        """Remove the documents with some ids, as results have them; returns how many there were."""
        removed = 0
        for id in ids:
            place = self._place.pop(id, None)
            if place is not None:
                self._live[place[0]][place[1]] = False
                removed += 1
        return removed

    def batches(self, max_bytes: int = MAX_BYTES) -> Iterator[RowBatch]:
        first = 0
        pending: list[RowBatch] = []
        for batch, live in zip(self._batches, self._live, strict=True):
            kept = batch if live.all() else _selected(batch, np.flatnonzero(live))
            if pending and sum(map(_content_bytes, pending)) > max_bytes:
                yield _joined(pending, first)
                first += sum(one.rows for one in pending)
                pending = []
            if kept.rows:
                pending.append(kept)
        if pending:
            yield _joined(pending, first)


def _content_bytes(batch: RowBatch) -> int:
    """Bytes of the texts, or of the terms and weights, of a batch."""
    if batch.impacts is not None:
        return batch.impacts.terms.nbytes + batch.impacts.weights.nbytes
    return batch.text.nbytes


def _selected(batch: RowBatch, rows: Any) -> RowBatch:
    """Some rows of a batch."""
    at = number_array(rows)
    starts = batch.column_starts
    impacts = batch.impacts
    if impacts is not None:
        offsets = impacts.offsets
        counts = np.diff(offsets)[rows]
        places = ranges(offsets[:-1][rows], counts)
        terms, weights = _chosen(impacts.terms, places), impacts.weights[places]
        impacts = impacts._replace(terms=terms, offsets=offsets_of(counts), weights=weights)
    return replace(
        batch,
        rows=len(rows),
        texts=None if batch.texts is None else _chosen(batch.texts, rows),
        column_starts=None if starts is None else starts[rows],
        impacts=impacts,
        vectors=None if batch.vectors is None else batch.vectors.take(rows),
        ids=batch.ids.take(at),
        kept=batch.kept.take(at),
    )


def _chosen(texts: Texts, places: Any) -> Texts:
    counts = np.diff(texts.offsets)[places]
    return Texts(texts.data[ranges(texts.offsets[:-1][places], counts)], offsets_of(counts))


def _joined(batches: Sequence[RowBatch], first_row: int) -> RowBatch:
    """Batches as one."""
    starts = [batch.column_starts for batch in batches if batch.column_starts is not None]
    texts = [batch.texts for batch in batches if batch.texts is not None]
    impacts = [batch.impacts for batch in batches if batch.impacts is not None]
    vectors = [batch.vectors for batch in batches if batch.vectors is not None]
    return replace(
        batches[0],
        first_row=first_row,
        rows=sum(batch.rows for batch in batches),
        texts=_concatenated(texts) if texts else None,
        column_starts=np.concatenate(starts) if starts else None,
        impacts=_joined_impacts(impacts) if impacts else None,
        vectors=VectorRows.joined(vectors) if vectors else None,
        ids=pa.concat_arrays([batch.ids for batch in batches]),
        kept=pa.concat_tables([batch.kept for batch in batches]),
        null_texts=sum(batch.null_texts for batch in batches),
        partly_null=sum(batch.partly_null for batch in batches),
    )


def _joined_impacts(parts: Sequence[Impacts]) -> Impacts:
    return Impacts(
        _concatenated([part.terms for part in parts]),
        offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])),
        np.concatenate([part.weights for part in parts]),
        sum(part.nulls for part in parts),
    )


def _concatenated(texts: Sequence[Texts]) -> Texts:
    offsets = offsets_of(np.concatenate([np.diff(text.offsets) for text in texts]))
    return Texts(
        np.concatenate([text.data[text.offsets[0] : text.offsets[-1]] for text in texts]), offsets
    )
