"""Evaluation of queries that are more than a sum over terms: boolean ones, phrases, groups.

A query is a set of *scored* clauses, each a posting list with a weight, and a condition: the
documents in which it matches. The lists become a small index, which the kernel of plain queries
searches (kernels/search/search.py) with the condition as the rows that it allows.

A clause inside of a boolean one counts only where that matches. Equal clauses under the same
conditions are one clause that occurs several times, like a repeated word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from fastseq.index.collection import Collection
from fastseq.kernels.search import lists as list_kernels
from fastseq.kernels.search.impacts import BLOCK, LEAST_PART, RANKS, Impacts
from fastseq.kernels.search.postings import Postings
from fastseq.kernels.search.segments import LIST_COLUMNS, fill_lists, segment_table
from fastseq.search.clauses import (
    BooleanClause,
    BoostClause,
    Clause,
    ConstantClause,
    ListClause,
    PostingList,
)
from fastseq.search.ranking import QueryTerms, RankingModel, Statistics, Words
from fastseq.search.scorer import NO_BITS
from fastseq.types import Float32, Int32, Int64, UInt8, offsets_of


@dataclass(eq=False)
class Scored:
    """A clause that adds to the score of documents.

    clause      a list clause or, of constants, a constant one
    boost       factor of its scores
    conditions  clauses that must match too
    count       how often it occurs
    """

    clause: ListClause | ConstantClause
    boost: float
    conditions: tuple[Clause, ...]
    count: int = 1

    def rows(self, s: int) -> tuple[Int32, Any]:
        """(rows, frequencies, or None for a constant) in segment s, whatever its conditions."""
        if isinstance(self.clause, ListClause):
            return self.clause.list(s)
        return marked_rows(self.clause.mask(s)), None


@dataclass(eq=False)
class Plan:
    """A query, ready to be searched.

    scored     its scored clauses, in the order in which those of the same weight are added
    condition  the documents that it matches; None where it matches those of any scored clause
    """

    scored: list[Scored]
    condition: Clause | None


def plan_of(clause: Clause) -> Plan:
    """The plan of a resolved query."""
    found: dict[Any, Scored] = {}
    condition = None if _is_covered(clause) else clause
    conditions = () if condition is None else (condition,)
    _collect(clause, 1.0, conditions, found)
    scored = list(found.values())
    if condition is not None:
        # those of the query itself are tested once, not for each clause
        for one in scored:
            one.conditions = tuple(own for own in one.conditions if own is not condition)
    first = [one for one in scored if isinstance(one.clause, ListClause)]
    first.sort(key=lambda one: (one.clause.order[0], _sortable(one.clause.order)))  # type: ignore[union-attr]
    rest = [one for one in scored if not isinstance(one.clause, ListClause)]
    return Plan([*first, *rest], condition)


def _sortable(order: tuple[Any, ...]) -> Any:
    return order[1] if order[0] == 0 else b""


def _is_covered(clause: Clause) -> bool:
    """Whether a clause matches exactly the documents of its scored clauses."""
    if isinstance(clause, BooleanClause):
        if not clause.is_disjunction:
            return False
        # no generator: clauses in each other would take a frame more each
        for part in clause.should:  # noqa: SIM110
            if not _is_covered(part):
                return False
        return True
    if isinstance(clause, BoostClause):
        return _is_covered(clause.clause)
    return True


def _collect(
    clause: Clause, boost: float, conditions: tuple[Clause, ...], found: dict[Any, Scored]
) -> None:
    if isinstance(clause, BoostClause):
        _collect(clause.clause, boost * clause.factor, conditions, found)
    elif isinstance(clause, BooleanClause):
        if not clause.is_disjunction and clause not in conditions:
            conditions = (*conditions, clause)
        for part in (*clause.must, *clause.should):
            _collect(part, boost, conditions, found)
    elif isinstance(clause, ListClause):
        key = (id(clause.view), clause.order, boost, conditions)
        if key in found:
            found[key].count += 1
        else:
            found[key] = Scored(clause, boost, conditions)
    elif isinstance(clause, ConstantClause):
        found[id(clause), len(found)] = Scored(clause, boost, conditions)


class Evaluator:
    """Scores the plans of queries with a model.

    allowed  uint8[rows] of the collection, or uint8[0] for all
    parts    the parts of a posting list, with its statistics, in a segment of the collection or of
             one of its fields
    """

    def __init__(
        self, collection: Collection, model: RankingModel, allowed: UInt8,
        parts: Callable[[Collection, int, PostingList, Statistics], Float32],
    ) -> None:  # fmt: skip
        self._collection, self._model, self._allowed = collection, model, allowed
        self._list_parts = parts

    def weights(self, plan: Plan) -> tuple[Float32, float]:
        """(float32[n], base): the weight of each scored clause, and what is added to every hit."""
        scored = plan.scored
        listed = [one for one in scored if isinstance(one.clause, ListClause)]
        weights = np.zeros(len(scored), np.float64)
        base = 0.0
        # one that no document has adds nothing, like a word that no document has; the clauses in
        # each field are a query of their own, as its statistics are
        views: dict[int, list[int]] = {}
        for i, one in enumerate(listed):
            if one.clause.df > 0:  # type: ignore[union-attr]
                views.setdefault(id(one.clause.view), []).append(i)  # type: ignore[union-attr]
        for own in views.values():
            view = listed[own[0]].clause.view  # type: ignore[union-attr]
            terms = self._query_terms([listed[i] for i in own])
            boosts = np.array([listed[i].boost for i in own])
            weighed = self._model.weigh(view, terms)
            weights[own] = weighed.weights * boosts
            if (boosts == 1).all():
                base += float(weighed.base[0])  # the bits of a query of words
            else:
                each = self._model.weigh(view, _separate(terms))
                base += float((each.base * boosts).sum())
        for i, one in enumerate(scored):
            if isinstance(one.clause, ConstantClause):
                weights[i] = one.clause.score * one.boost
        return weights.astype(np.float32), base

    def sources(self, plan: Plan) -> tuple[Int64, Int64, Any]:
        """(segment table, lists, arrays to keep) of the scored clauses and, where a document may
        match without a positive score, of all that match."""
        collection = self._collection
        found = [self.lists(plan, s) for s in range(len(collection.leaves))]
        everyone = plan.condition is not None or any(
            len(part) and part.min() < LEAST_PART for _, parts in found for part in parts
        )
        n = len(plan.scored) + everyone
        lists = np.zeros((n, len(collection.leaves), LIST_COLUMNS), np.int64)
        numbers = np.arange(n, dtype=np.int32)
        kept = []
        for s, (leaf, (rows, parts)) in enumerate(zip(collection.leaves, found, strict=True)):
            if everyone:
                own = marked_rows(self._mask(plan, s))
                rows.append(own)
                parts.append(np.ones(len(own), np.float32))
            postings, impacts = _small_index(rows, parts)
            fill_lists(lists, s, numbers, postings, impacts, numbers, NO_BITS)
            kept.append((postings, impacts, leaf.first_row, leaf.segment.documents))
        return segment_table(kept), lists, kept

    def lists(self, plan: Plan, s: int) -> tuple[list[Int32], list[Float32]]:
        """(rows, parts) of each scored clause in a segment."""
        rows, parts = [], []
        for one in plan.scored:
            own, part = self._parts(one, s)
            if one.conditions:
                mask = reduce(np.bitwise_and, [clause.mask(s) for clause in one.conditions])
                passes = mask[own] != 0
                own, part = own[passes], part[passes]
            rows.append(own)
            parts.append(part)
        return rows, parts

    def _mask(self, plan: Plan, s: int) -> UInt8:
        """uint8[documents]: 1 for those of a segment that match."""
        if plan.condition is not None:
            return plan.condition.mask(s)
        masks = [one.clause.mask(s) for one in plan.scored]
        none = np.zeros(self._collection.leaves[s].segment.documents, np.uint8)
        return reduce(np.bitwise_or, masks, none)

    def allowed(self, plan: Plan) -> UInt8:
        """The rows that may be hits, as the kernel takes them."""
        if plan.condition is None:
            return self._allowed
        leaves = range(len(self._collection.leaves))
        matched = np.concatenate([plan.condition.mask(s) for s in leaves])
        return matched & self._allowed if len(self._allowed) else matched

    def matched(self, plan: Plan) -> UInt8:
        """uint8[rows]: 1 for all hits."""
        leaves = range(len(self._collection.leaves))
        found = np.concatenate([np.zeros(0, np.uint8), *(self._mask(plan, s) for s in leaves)])
        return found & self._allowed if len(self._allowed) else found

    def _query_terms(self, scored: Sequence[Scored]) -> QueryTerms:
        """The list clauses of a query as its terms."""
        n = len(scored)
        clauses: Any = [one.clause for one in scored]
        words = [clause.words for clause in clauses]
        dfs = np.array([word.df for own in words for word in own], np.int64)
        cf = cfs = None
        if self._model.uses_cf:
            cf = np.array([clause.cf for clause in clauses])
            cfs = np.array([word.cf for own in words for word in own])
        return QueryTerms(
            np.array([0, n]), np.arange(n, dtype=np.int32),
            np.array([clause.df for clause in clauses], np.int64),
            np.array([one.count for one in scored], np.float32), np.zeros(1, np.float32), cf,
            Words(offsets_of([len(own) for own in words]), dfs, cfs),
        )  # fmt: skip

    def _parts(self, one: Scored, s: int) -> tuple[Int32, Float32]:
        """(rows, parts) of a scored clause in a segment."""
        clause = one.clause
        if isinstance(clause, ConstantClause):
            rows = marked_rows(clause.mask(s))
            return rows, np.ones(len(rows), np.float32)
        found, view = clause.list(s), clause.view
        if not len(found.rows):
            return found.rows, np.empty(0, np.float32)
        statistics = Statistics.of(view, np.array([clause.df]), np.array([clause.cf]))
        return found.rows, self._list_parts(view, s, found, statistics)


def marked_rows(mask: UInt8) -> Int32:
    """int32[n]: the rows that a mask marks with 1."""
    return np.flatnonzero(mask.view(np.bool_)).astype(np.int32)  # of bools ten times as fast


def _separate(terms: QueryTerms) -> QueryTerms:
    """Each term as a query of its own."""
    n = len(terms.terms)
    return replace(terms, starts=np.arange(n + 1), base=np.zeros(n, np.float32))


def _small_index(rows: Sequence[Int32], parts: Sequence[Float32]) -> tuple[Postings, Impacts]:
    """Posting lists of a segment as an index of as many terms."""
    starts = offsets_of([len(own) for own in rows])
    total, m = int(starts[-1]), len(rows)
    docs, run_window, run_count = np.empty((3, total), np.uint16)
    run_start = np.empty(m + 1, np.int64)
    impacts = Impacts(
        np.empty(m, np.float32),
        np.concatenate(parts) if m else np.empty(0, np.float32),
        np.empty(total // BLOCK + 1, np.float32),
        np.zeros((m, len(RANKS)), np.float32),
    )
    runs = list_kernels.make_lists(
        docs, run_window, run_count, run_start, impacts.best, impacts.block,
        np.concatenate(rows) if m else np.empty(0, np.int32), impacts.parts, starts,
    )  # fmt: skip
    none = np.empty(0, np.int64)
    postings = Postings(
        docs, np.empty(0, np.uint8), starts, run_start, run_window[:runs], run_count[:runs],
        none, np.empty(0, np.int32),
    )  # fmt: skip
    return postings, impacts
