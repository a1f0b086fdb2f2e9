"""`Hits`: the results of a search."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from fastseq.errors import SettingsError
from fastseq.index.segment import Segment
from fastseq.settings import strings, whole
from fastseq.types import Float32, Int32, offsets_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Hits:
    """The k best documents of each of Q queries; a sequence of the queries' results.

    rows    int32[Q, k]    document rows, -1 past the last hit
    scores  float32[Q, k]  descending, ties by row; 0 past the last hit
    """

    rows: Int32
    scores: Float32
    _segment: Segment = field(repr=False)

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.rows)

    @overload
    def __getitem__(self, q: SupportsIndex) -> list[dict[str, Any]]: ...
    @overload
    def __getitem__(self, q: slice) -> Hits: ...
    def __getitem__(self, q: SupportsIndex | slice) -> list[dict[str, Any]] | Hits:
        """The results of query q, as `to_dicts` returns them; for a slice, those queries' Hits."""
        if isinstance(q, slice):
            return Hits(self.rows[q], self.scores[q], self._segment)
        if not -len(self) <= operator.index(q) < len(self):
            raise IndexError(f"hits of {len(self)} queries have no number {q!r}")
        return self.to_dicts(operator.index(q))

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """The results of each query, as `to_dicts` returns them."""
        return map(self.to_dicts, range(len(self)))

    @cached_property
    def counts(self) -> Int32:
        """int32[Q]: the number of hits of each query, at most k."""
        counts: Int32 = (self.rows >= 0).sum(axis=1, dtype=np.int32)
        return counts

    @cached_property
    def ids(self) -> list[list[Any]]:
        """The ids of each query's hits, best first; row numbers where the corpus has no ids."""
        flat = self._flat_ids()
        return [flat[a:b] for a, b in pairwise(offsets_of(self.counts).tolist())]

    def fields(self, q: int = 0, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The stored columns of the hits of query q, best first; only their rows are read.

        Raises DataError for a column that is not stored, FormatError for a damaged file.
        """
        q = whole("q", q, -len(self), len(self))
        wanted = None if columns is None else strings("columns", columns)
        stored = self._stored(q, wanted)
        from fastseq.store.arrays import to_rows

        return [{} for _ in range(self.counts[q])] if stored is None else to_rows(stored)

    def to_dicts(self, q: int = 0) -> list[dict[str, Any]]:
        """The hits of query q as {rank, id, score, fields}."""
        from fastseq.store.arrays import to_rows
        from fastseq.store.ids import id_list

        q = whole("q", q, -len(self), len(self))
        stored = self._stored(q)
        fields = [{} for _ in range(self.counts[q])] if stored is None else to_rows(stored)
        rows = self.rows[q, : len(fields)].tolist()
        scores = self.scores[q, : len(fields)].tolist()
        column = self._segment.id_column
        ids = rows if column is None or stored is None else id_list(stored.column(column))
        return [
            {"rank": rank, "id": id, "score": score, "fields": stored}
            for rank, (id, score, stored) in enumerate(zip(ids, scores, fields, strict=True), 1)
        ]

    def to_table(
        self, query_ids: Sequence[Any] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """All hits as an Arrow table: query_id, doc_id, rank (from 1), score, and stored columns.

        query_ids : one for each query; default: its number
        columns : stored columns to add
        """
        from fastseq.store.runs import run_table

        ids = list(range(len(self))) if query_ids is None else query_ids
        if not isinstance(ids, Iterable) or isinstance(ids, str | bytes | Mapping):
            raise SettingsError(f"query_ids must be a list of strings or integers, not {ids!r}")
        ids = list(ids)
        if len(ids) != len(self):
            raise SettingsError(f"{len(ids)} query_ids for {len(self)} queries")
        columns = [] if columns is None else strings("columns", columns)
        hits = self.rows >= 0
        table = run_table(ids, offsets_of(self.counts), self._flat_ids(), self.scores[hits])
        if columns and self._segment.stored is not None:
            stored = self._segment.stored.take(self.rows[hits], columns)
            for name in columns:
                table = table.append_column(name, stored.column(name))
        return table

    def _flat_ids(self) -> list[Any]:
        rows = self.rows[self.rows >= 0]
        column = self._segment.id_column
        if column is None or self._segment.stored is None:
            numbers: list[Any] = rows.tolist()
            return numbers
        from fastseq.store.ids import id_list

        return id_list(self._segment.stored.take(rows, [column]).column(column))

    def _stored(self, q: int, columns: list[str] | None = None) -> pa.Table | None:
        """The stored columns of the hits of query q; None where there are none."""
        stored = self._segment.stored
        return None if stored is None else stored.take(self.rows[q, : self.counts[q]], columns)
