"""What a search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.index.segment import Segment
from fastseq.types import Float32, Int32

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Hits:
    """The k best documents of Q queries.

    rows    int32[Q, k]    document rows, -1 past the last hit
    scores  float32[Q, k]  descending, ties by row; 0 past the last hit
    """

    rows: Int32
    scores: Float32
    _segment: Segment = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def counts(self) -> Int32:
        """int32[Q]: how many hits each query has, at most k."""
        counts: Int32 = (self.rows >= 0).sum(axis=1, dtype=np.int32)
        return counts

    @cached_property
    def ids(self) -> list[list[Any]]:
        """The ids of each query's hits, best first; row numbers where the corpus has no ids."""
        flat = self._flat_ids()
        ends = np.cumsum(self.counts).tolist()
        return [flat[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def fields(self, q: int = 0, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The stored columns of query q's hits, best first; only the rows needed are read.

        Raises DataError for a column that is not stored, FormatError for a damaged file.
        """
        stored = self._segment.stored
        rows = self.rows[q, : self.counts[q]]
        if stored is None:
            return [{} for _ in rows]
        found: list[dict[str, Any]] = stored.take(rows, columns).to_pylist()
        return found

    def to_dicts(self, q: int = 0) -> list[dict[str, Any]]:
        """Query q's hits as {rank, id, score, fields}."""
        fields = self.fields(q)
        rows = self.rows[q, : len(fields)].tolist()
        scores = self.scores[q, : len(fields)].tolist()
        column = self._segment.id_column
        return [
            {
                "rank": rank,
                "id": row if column is None else stored[column],
                "score": score,
                "fields": stored,
            }
            for rank, (row, score, stored) in enumerate(
                zip(rows, scores, fields, strict=True), start=1
            )
        ]

    def to_table(
        self, query_ids: Sequence[Any] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """All hits as an Arrow table: query_id, doc_id, rank (from 1), score, then the stored
        columns named.

        query_ids : one for each query; its number unless given
        """
        from fastseq.store.runs import run_table

        ids = list(range(len(self))) if query_ids is None else query_ids
        offsets = np.concatenate([[0], np.cumsum(self.counts)])
        table = run_table(ids, offsets, self._flat_ids(), self.scores[self.rows >= 0])
        if columns and self._segment.stored is not None:
            stored = self._segment.stored.take(self.rows[self.rows >= 0], columns)
            for name in columns:
                table = table.append_column(name, stored.column(name))
        return table

    def _flat_ids(self) -> list[Any]:
        rows = self.rows[self.rows >= 0]
        column = self._segment.id_column
        if column is None or self._segment.stored is None:
            numbers: list[Any] = rows.tolist()
            return numbers
        ids: list[Any] = self._segment.stored.take(rows, [column]).column(column).to_pylist()
        return ids
