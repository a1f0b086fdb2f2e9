"""A ranking model for a collection: the impacts of terms, cached."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastseq.index.collection import EVERY_ROW, Collection
from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search.group_search import MOST_SUM
from fastseq.kernels.search.phrase_search import phrase_source
from fastseq.kernels.search.postings import DIGITS, Postings, read_terms
from fastseq.kernels.search.query_words import ABSENT
from fastseq.kernels.search.reordered import make_reordered, reorder_impacts
from fastseq.kernels.search.segments import LIST_COLUMNS, fill_lists, segment_table
from fastseq.kernels.search.weights import fill_weights
from fastseq.search.groups import gathered
from fastseq.search.ranking import (
    Dot,
    FormulaModel,
    QueryTerms,
    QuotientModel,
    RankingModel,
    Statistics,
)
from fastseq.search.term_bits import TermBits
from fastseq.search.term_table import TermTable
from fastseq.types import Float32, Float64, Int32, Int64, distinct, offsets_of

_DECODED = 1 << 20  # postings whose frequencies are decoded at a time
_CACHED_IMPACTS = 1 << 28  # postings of one model with cached impacts: 1 GB

NO_BASE: Float32 = np.zeros(1, np.float32)
_NO_TERMS: Int32 = np.empty(0, np.int32)
_NO_PARTS: Float32 = np.empty(0, np.float32)
NO_BITS: Int64 = np.empty(0, np.int64)


class Sources(NamedTuple):
    """What is searched.

    table  of the segments, for the kernel
    lists  int64[N, S, LIST_COLUMNS]: of terms in the segments
    rows   int32[n]: the rows of the queries' terms
    kept   the arrays that the table has the addresses of
    is_reordered  whether segments with an order of search are in that order
    """

    table: Int64
    lists: Int64
    rows: Int32
    kept: Any
    is_reordered: bool = True


class Known(NamedTuple):
    """What a search for terms of a table takes without any preparation.

    table          of the terms
    weights        float64[N]: by number, that of a term that a query has once, or ABSENT; NaN where
                   it or its impacts were not asked for yet
    segments, lists, kept  as in Sources
    """

    table: TermTable | None
    weights: Float64
    segments: Int64
    lists: Int64
    kept: Any


class PhraseSources(NamedTuple):
    """The segments as `collect_phrases` takes them.

    table, terms    the terms whose parts are computed
    arrays          of `phrase_source`
    computed, kept  what they have the addresses of: `computed` is that of Sources
    """

    table: TermTable
    terms: set[int]
    arrays: list[Int64]
    computed: Any
    kept: Any


class ModelScorer:
    """A ranking model for a collection, with a cache of the impacts computed so far.

    bits : of frequent terms, in the order of search
    """

    def __init__(self, collection: Collection, model: RankingModel, bits: TermBits) -> None:
        self._collection, self._model, self._bits = collection, model, bits
        self._lock = threading.Lock()
        self._weightings: dict[int, impact_kernels.Weighting] = {}
        self._least_factors: dict[int, np.float32] = {}
        # a table and the weights of its terms
        self._weights: tuple[TermTable | None, dict[int, float | None]] = None, {}
        self._clear()

    @property
    def has_positive_parts(self) -> bool:
        """Whether all parts of the model are positive, as a GPU needs them."""
        return isinstance(self._model, QuotientModel) and not isinstance(self._model, Dot)

    def _clear(self) -> None:
        leaves = self._collection.leaves
        self._filled = 0
        self._impacts = impact_kernels.make_impacts([leaf.segment.postings for leaf in leaves])
        # as they are searched: where a segment has an order, those of the terms with impacts
        self._postings = [
            leaf.segment.postings
            if leaf.segment.search_order is None
            else make_reordered(leaf.segment.postings, leaf.segment.windows)
            for leaf in leaves
        ]
        self._kept = self._postings, self._impacts, self._bits  # what the tables have addresses of
        self._segments = segment_table(
            [
                (postings, impacts, leaf.first_row, leaf.segment.documents)
                for leaf, postings, impacts in zip(
                    leaves, self._postings, self._impacts, strict=True
                )
            ],
            [leaf.segment.search_order for leaf in leaves],
        )
        # terms of the latest table whose impacts are computed, and their lists
        self._table: TermTable | None = None
        self._done = np.zeros(0, bool)
        self._lists = _empty_lists(0, len(leaves))
        self._ready: set[int] = set()  # the same terms
        self._phrase_sources: PhraseSources | None = None
        self._known = Known(None, np.empty(0), self._segments, self._lists, None)

    def sources(self, table: TermTable, terms: Int32) -> Sources:
        """All segments, with the impacts of some terms of a table. Raises FormatError where their
        postings are damaged."""
        with self._lock:
            if self._filled > _CACHED_IMPACTS:
                self._clear()  # searches in progress keep the old arrays
            if self._table is not table or len(self._done) < len(table):
                done = np.zeros(2 * len(table), bool)
                lists = _empty_lists(len(done), len(self._segments))
                if self._table is table:
                    done[: len(self._done)] = self._done
                    lists[: len(self._done)] = self._lists
                else:
                    self._ready = set()
                self._table, self._done, self._lists = table, done, lists
                weights = np.full(len(done), np.nan)
                if self._known.table is table:
                    weights[: len(self._known.weights)] = self._known.weights
                self._known = Known(table, weights, self._segments, lists, self._kept)
            if not self._done[terms].all():
                new = distinct(terms[~self._done[terms]])
                statistics = self._statistics(table, new)
                ids = table.ids(new)
                for number, (own, bits) in enumerate(
                    zip(ids, self._bits.addresses_of(ids), strict=True)
                ):
                    impacts = self._fill(number, own, statistics)
                    if (own >= 0).any():
                        fill_lists(
                            self._lists, number, new, self._postings[number], impacts, own, bits
                        )
                self._done[new] = True
                self._ready.update(new.tolist())
            return Sources(self._segments, self._lists, terms, self._kept)

    def sources_of(self, table: TermTable, terms: list[int]) -> Sources:
        """`sources` of a few terms, which costs less where their impacts are computed."""
        with self._lock:
            if self._table is table and self._ready.issuperset(terms):
                return Sources(self._segments, self._lists, _NO_TERMS, self._kept)
        return self.sources(table, np.array(terms, np.int32))

    def known(self, table: TermTable) -> Known:
        """What is known of terms of a table, and becomes known meanwhile."""
        while (known := self._known).table is not table:  # another thread may use another table
            self.sources(table, _NO_TERMS)
        return known

    def learn(self, table: TermTable, numbers: list[int]) -> Known:
        """`known`, with the weights and impacts of terms, unless one stands for a group; for a
        model as in `term_weights`. Raises FormatError where their postings are damaged."""
        weights = self.term_weights(table, numbers)
        if weights is not None:
            present = [number for number in numbers if weights[number] is not None]
            self.sources(table, np.array(present, np.int32))
            with self._lock:
                known = self._known
                # another thread may have begun anew since
                if known.table is table and self._done[present].all():
                    for number in numbers:
                        weight = weights[number]
                        known.weights[number] = ABSENT if weight is None else weight
        return self.known(table)

    def term_weights(
        self, table: TermTable, numbers: Iterable[int]
    ) -> dict[int, float | None] | None:
        """Weights of terms by their number in a table, for a model whose weights are proportional
        to the occurrences in the query; None for a term that no document has. None for all where
        one stands for a group."""
        weighted, known = self._weights
        if weighted is not table:
            known = {}
            self._weights = table, known
        for number in numbers:
            if number not in known:
                if number in table.groups:
                    return None
                df = table.df[number : number + 1]
                weight = None
                if df[0] > 0:
                    one = QueryTerms(
                        np.array([0, 1]), np.zeros(1, np.int32), df, np.ones(1, np.float32),
                        NO_BASE,
                    )  # fmt: skip
                    weight = self._model.weight_of_one(self._collection, one)  # type: ignore[attr-defined]
                known[number] = weight
        return known

    def impacts(self, number: int, terms: Int32) -> impact_kernels.Impacts:
        """Impacts of a segment in which those of its `terms` (int32[n], not -1) are computed, of a
        QuotientModel; in the order in which the segment is searched. Raises FormatError where their
        postings are damaged."""
        return self.searched(number, terms)[1]

    def searched(self, number: int, terms: Int32) -> tuple[Postings, impact_kernels.Impacts]:
        """`impacts`, and the postings of these terms in the same order."""
        with self._lock:
            impacts = self._impacts[number]
            if np.isnan(impacts.best[terms]).any():
                self._fill(number, terms, None)
            return self._postings[number], impacts

    def phrase_sources(self, table: TermTable, terms: list[int]) -> PhraseSources:
        """The segments, all of which have positions, for a search for phrases, with the parts of
        some terms of a table computed; of a QuotientModel. Errors as in `sources`."""
        found = self._phrase_sources
        if found is not None and found.table is table and found.terms.issuperset(terms):
            return found
        computed = self.sources_of(table, terms).kept
        # several threads may make the same
        if found is None or found.table is not table or found.computed is not computed:
            kept, arrays = [], []
            _, every, _ = computed
            for number, (leaf, own) in enumerate(zip(self._collection.leaves, every, strict=True)):
                segment, weighting = leaf.segment, self.weighting(number)
                positions = segment.unverified_positions
                assert weighting is not None
                assert positions is not None
                # parts in another order than that of the rows are of no use
                is_ordered = segment.search_order is not None
                parts = (_NO_PARTS, _NO_PARTS) if is_ordered else (own.parts, own.block)
                live = EVERY_ROW if leaf.live is None else leaf.live
                given = segment.postings, positions, parts, weighting, self.sum_values, live
                arrays.append(phrase_source(*given, leaf.first_row, segment.documents))
                kept.append(given)
            found = self._phrase_sources = PhraseSources(table, {*terms}, arrays, computed, kept)
        found.terms.update(terms)
        return found

    def list_parts(
        self, number: int, rows: Int32, tfs: Float64, statistics: Statistics
    ) -> Float32:  # fmt: skip
        """`RankingModel.list_parts` of documents of a segment."""
        weighting = self.weighting(number)
        leaf = self._collection.leaves[number]
        return self._model.list_parts(self._collection, leaf, rows, tfs, statistics, weighting)

    def _statistics(self, table: TermTable, terms: Int32) -> Statistics | None:
        """The statistics of some terms of a table, where the parts depend on them."""
        if not isinstance(self._model, FormulaModel):
            return None
        return Statistics.of(self._collection, table.df[terms], table.cf(terms))

    def _fill(
        self, number: int, terms: Int32, statistics: Statistics | None
    ) -> impact_kernels.Impacts:  # fmt: skip
        impacts, segment = self._impacts[number], self._collection.leaves[number].segment
        places = np.flatnonzero(terms >= 0)
        places = places[np.isnan(impacts.best[terms[places]])]
        if len(places):
            # each once: to bring a list into the order of search twice would mix it up
            places = places[np.unique(terms[places], return_index=True)[1]]
            new = terms[places]
            segment.verify_postings(new)
            some = None if statistics is None else statistics.take(places)
            self._filled += self._compute(number, impacts, segment.postings, new, some)
            if segment.search_places is not None:
                try:
                    self._reorder(number, impacts, segment.search_places, new)
                except BaseException:
                    impacts.best[new] = np.nan  # not computed
                    raise
        return impacts

    def _reorder(
        self, number: int, impacts: impact_kernels.Impacts, places: Int32, terms: Int32
    ) -> None:
        """Bring the postings of terms with impacts into the order of search of their segment."""
        segment = self._collection.leaves[number].segment
        longest = int(segment.df[terms].max())
        keys, spare = np.empty((2, longest), np.uint64)
        reorder_impacts(
            self._postings[number], impacts, keys, spare, np.empty(DIGITS, np.int64),
            places, (segment.documents - 1).bit_length(), segment.postings, terms,
        )  # fmt: skip

    def _compute(
        self, number: int, impacts: impact_kernels.Impacts, postings: Postings, terms: Int32,
        statistics: Statistics | None,
    ) -> int:  # fmt: skip
        """Compute the impacts of terms of postings of the documents of a segment; returns how many
        postings."""
        filled = self._compute_parts(number, impacts, postings, terms, statistics)
        counts = np.empty(impact_kernels.RANK_BUCKETS, np.int32)
        impact_kernels.rank_parts(impacts, counts, postings, terms)
        return filled

    def _compute_parts(
        self, number: int, impacts: impact_kernels.Impacts, postings: Postings, terms: Int32,
        statistics: Statistics | None,
    ) -> int:  # fmt: skip
        if isinstance(self._model, QuotientModel):
            weighting = self.weighting(number)
            assert weighting is not None
            weights = self._collection.leaves[number].segment.weights
            if weights is not None:
                factor = weighting.factor
                return int(fill_weights(impacts, postings, weights, factor, terms))
            if postings is not self._collection.leaves[number].segment.postings:
                weighting = self._model.weighting_of(weighting, postings.large_tf)
            return int(impact_kernels.fill_impacts(impacts, postings, weighting, terms))
        assert statistics is not None
        documents = self._collection.leaves[number].segment.documents
        counts = np.diff(postings.term_posting)[terms]
        ends = offsets_of(counts)
        first = 0
        while first < len(terms):
            last = int(np.searchsorted(ends, ends[first] + _DECODED, "right")) - 1
            last = max(last, first + 1)
            some, places = terms[first:last], np.repeat(np.arange(first, last), counts[first:last])
            rows, tfs = np.empty((2, len(places)), np.int32)
            read_terms(rows, tfs, postings, some, documents)
            own = statistics.take(places)
            parts = self.list_parts(number, rows, tfs.astype(np.float64), own)
            impact_kernels.place_parts(impacts, postings, some, parts)
            first = last
        return int(ends[-1])

    def gathered(self, table: TermTable, terms: Int32) -> Sources:
        """Indexes of some terms of a table alone, which may stand for groups. Raises FormatError
        where their postings are damaged."""
        own_terms, places = np.unique(terms, return_inverse=True)
        groups = [table.groups.get(term) for term in own_terms.tolist()]
        numbers = np.arange(len(own_terms), dtype=np.int32)
        kept = []
        lists = _empty_lists(len(own_terms), len(self._collection.leaves))
        statistics = self._statistics(table, own_terms)
        for number, own in enumerate(table.ids(own_terms)):
            leaf = self._collection.leaves[number]
            segment = leaf.segment
            segment.verify_postings(own[own >= 0])
            merged = [None if group is None else group.postings[number] for group in groups]
            postings = gathered(segment.postings, own, merged)
            (impacts,) = impact_kernels.make_impacts([postings])
            self._compute(number, impacts, postings, numbers, statistics)
            fill_lists(lists, number, numbers, postings, impacts, numbers, NO_BITS)
            kept.append((postings, impacts, leaf.first_row, segment.documents))
        return Sources(segment_table(kept), lists, numbers[places], kept, is_reordered=False)

    @cached_property
    def sum_values(self) -> Float32:
        """float32[MOST_SUM + 1]: the values of frequencies, of a QuotientModel."""
        assert isinstance(self._model, QuotientModel)
        tfs = np.arange(MOST_SUM + 1, dtype=np.float64)
        with np.errstate(divide="ignore"):  # the logarithm of 0
            return self._model.values(tfs).astype(np.float32)

    def least_factor(self, number: int) -> np.float32:
        """The smallest factor of the documents of a segment; of a QuotientModel."""
        if number not in self._least_factors:  # several threads may compute the same
            weighting = self.weighting(number)
            assert weighting is not None
            self._least_factors[number] = weighting.factor.min()
        return self._least_factors[number]

    def weighting(self, number: int) -> impact_kernels.Weighting | None:
        """That of a segment; None for a model without."""
        if not isinstance(self._model, QuotientModel):
            return None
        if number not in self._weightings:  # several threads may compute the same
            leaf = self._collection.leaves[number]
            self._weightings[number] = self._model.document_weighting(self._collection, leaf)
        return self._weightings[number]


def _empty_lists(terms: int, segments: int) -> Int64:
    return np.zeros((terms, segments, LIST_COLUMNS), np.int64)
