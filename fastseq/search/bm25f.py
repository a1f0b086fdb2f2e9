"""BM25F: BM25 over several fields of a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastseq.search.ranking import QueryTerms, RankingModel, Statistical, Statistics
from fastseq.settings import real
from fastseq.text.weighting import bm25_idf
from fastseq.types import Float32, Float64, Int32

if TYPE_CHECKING:
    from fastseq.index.collection import Collection, Leaf
    from fastseq.kernels.search.impacts import Weighting
    from fastseq.search.clauses import PostingList


@dataclass(frozen=True, eq=False)
class FieldCounter:
    """What frequencies in a field add to f: weight · tf / (1 - b + b · length / average)."""

    view: Collection
    field: str
    weight: float
    b: float
    average: float

    def __call__(self, s: int, found: PostingList) -> Float64:
        """float64[n]: of each posting of a list in segment s."""
        lengths = self.view.leaves[s].segment.lengths[found.rows]
        relative = lengths / self.average if self.average > 0 else np.ones(len(lengths))
        counts: Float64 = found.tfs * self.weight / (1 - self.b + self.b * relative)
        return counts


@dataclass(frozen=True)
class BM25F(RankingModel):
    """BM25 of a weighted sum of the frequencies in fields (Zaragoza, Craswell, Taylor, Saria,
    Robertson 2004, "Microsoft Cambridge at TREC 13", with a b for each field). A term adds

        idf · f / (k1 + f),   f = Σ weight · tf / (1 - b + b · length / average)

    over the fields, each with its own lengths; idf = ln(1 + (N - df + ½) / (df + ½)), where df is
    the number of documents that have the term in any of the fields. A sum of BM25 scores, which
    other models with several fields are, lets a second occurrence in another field count as much as
    another word; f saturates as one frequency.

    k1 : term-frequency saturation
    b : length normalisation, of all fields or a mapping from their names; .75 where it lacks one

    Raises SettingsError for a value outside its range.
    """

    k1: float = 1.2
    b: float | Mapping[str, float] | tuple[tuple[str, float], ...] = 0.75

    def __post_init__(self) -> None:
        real("k1", self.k1, lambda k1: k1 >= 0, "at least 0")
        b = self.b
        if isinstance(b, Mapping):
            b = tuple(sorted(b.items()))
            object.__setattr__(self, "b", b)
        for name, value in b if isinstance(b, tuple) else (("", b),):
            real(
                f"b of {name}" if name else "b", value, lambda own: 0 <= own <= 1, "from 0 to 1"
            )  # fmt: skip

    def b_of(self, field: str) -> float:
        """The length normalisation of a field."""
        if isinstance(self.b, tuple):
            return float(dict(self.b).get(field, 0.75))
        assert not isinstance(self.b, Mapping)
        return float(self.b)

    def counter(self, view: Collection, field: str, weight: float) -> FieldCounter:
        """What each frequency of a posting list in a segment of a field adds to f."""
        average = view.tokens / view.documents if view.documents else 0.0
        return FieldCounter(view, field, weight, self.b_of(field), average)

    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        given = queries.weights.astype(np.float64)
        idf = queries.sum_over_words(partial(bm25_idf, collection.documents))
        return queries.weighted(idf * given)

    def list_parts(
        self, collection: Statistical, leaf: Leaf, rows: Int32, tfs: Float64,
        statistics: Statistics, weighting: Weighting | None = None,
    ) -> Float32:  # fmt: skip
        parts: Float32 = (tfs / (self.k1 + tfs)).astype(np.float32)
        return parts
