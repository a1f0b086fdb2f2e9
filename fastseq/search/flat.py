"""Flat queries: optional, required and excluded words, which one kernel searches in a batch.

`+black cat -dog` is one. A query with other clauses, or words in each other's parentheses, is
evaluated clause by clause (evaluation.py); the scores are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from fastseq.kernels.search.cursors import TINY
from fastseq.kernels.search.query_words import assign_roles
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED
from fastseq.query import Boolean, Boost, Phrase, Query, Term
from fastseq.search.ranking import QueryTerms
from fastseq.types import Float32, Int32, Int64, UInt8, offsets_of

_TEXTS = (Term, Phrase)  # a union would be made at each use


class FlatQuery(NamedTuple):
    """The words of a flat query, by their numbers in a table of terms.

    scored    of required and optional words, repeated where they are
    required, excluded  as they are given, repeated where they are
    boosts    of scored words, where they are not 1
    """

    scored: list[int]
    required: list[int]
    excluded: list[int]
    boosts: dict[int, float]

    @property
    def words(self) -> list[int]:
        """All of them."""
        return [*self.scored, *self.excluded]


class FlatTerms(NamedTuple):
    """The terms of flat queries as the kernel takes them; others as in QueryTerms."""

    starts: Int64
    terms: Int32
    weights: Float32
    roles: UInt8
    base: Float32


def clause_texts(queries: Iterable[Query]) -> list[str]:
    """The texts of the clauses of boolean queries."""
    texts = []
    for query in queries:
        if isinstance(query, Boolean):
            for clause in (*query.must, *query.should, *query.must_not):
                part = clause.query if isinstance(clause, Boost) else clause
                if isinstance(part, _TEXTS) and part.field is None:
                    texts.append(part.text)
    return texts


def of_required_words(query: Query, known: Mapping[str, list[int]]) -> FlatQuery | None:
    """`flatten` of a query of required words alone, by the numbers of known words; None for
    others. It takes a quarter of the time."""
    if type(query) is not Boolean or query.should or query.must_not or query.filter:
        return None
    words: list[int] = []
    for clause in query.must:
        if type(clause) is not Term or clause.field is not None:
            return None
        own = known.get(clause.text)
        if own is None or len(own) > 1:
            return None
        words += own
    return FlatQuery(words, words, [], {}) if words and not query.minimum_should_match else None


def flatten(query: Query, numbers: Callable[[str], list[int]]) -> FlatQuery | None:
    """A query as a flat one; None where it is none.

    numbers  of the words of a text
    """
    if isinstance(query, _TEXTS):
        query = Boolean(should=(query,))
    if not isinstance(query, Boolean) or query.filter or query.minimum_should_match:
        return None
    if not query.must and not query.should:
        return None
    scored: list[int] = []
    required: list[int] = []
    excluded: list[int] = []
    boosts: dict[int, float] = {}
    for clauses, role in (
        (query.must, REQUIRED), (query.should, OPTIONAL), (query.must_not, EXCLUDED),
    ):  # fmt: skip
        for clause in clauses:
            factor = 1.0
            if isinstance(clause, Boost) and role != EXCLUDED:
                factor, clause = clause.factor, clause.query
            if not isinstance(clause, _TEXTS) or clause.field is not None:
                return None
            own = numbers(clause.text)
            # without words a clause is dropped; one of several words is a boolean or a phrase
            if len(own) > 1 and (role != OPTIONAL or isinstance(clause, Phrase)):
                return None
            if not own:
                continue
            if role == EXCLUDED:
                excluded.append(own[0])
                continue
            for number in own if factor != 1 or boosts else ():
                if boosts.get(number, factor) != factor or (
                    factor != 1 and number in scored and number not in boosts
                ):
                    return None
                if factor != 1:
                    boosts[number] = factor
                elif number in boosts:
                    return None
            scored += own
            if role == REQUIRED:
                required.append(own[0])
    return FlatQuery(scored, required, excluded, boosts) if scored else None


def weighed(
    queries: Sequence[FlatQuery], counted: Callable[[Int32, Int64], QueryTerms],
    weigh: Callable[[QueryTerms], QueryTerms], df: Int64,
) -> tuple[FlatTerms, list[int]]:  # fmt: skip
    """(terms of all queries, the numbers of those that must be evaluated clause by clause: with a
    required word of weight zero, or with boosts and a score for absent words). These, and queries
    that cannot match, have no terms."""
    scored = _numbers([query.scored for query in queries])
    terms = weigh(counted(*scored))
    required = scored
    if any(query.required is not query.scored for query in queries):
        required = _numbers([query.required for query in queries])
    excluded = _numbers([query.excluded for query in queries])
    refused = np.zeros(len(queries), np.uint8)
    weights = terms.weights
    for q, query in enumerate(queries):
        if query.boosts:
            refused[q] = terms.base[q] != 0
            for i in range(terms.starts[q], terms.starts[q + 1]):
                term = int(terms.terms[i])
                weight = float(weights[i]) * query.boosts.get(term, 1.0)
                if weight <= TINY and term in query.required:
                    refused[q] = 1  # in float32 the weight may be a little larger
                weights[i] = weight
    most = len(terms.terms) + len(excluded[0])
    starts = np.empty(len(queries) + 1, np.int64)
    found, roles = np.empty(most, np.int32), np.empty(most, np.uint8)
    own = np.empty(most, np.float32)
    assign_roles(
        starts, found, own, roles, refused, np.zeros(len(df), np.uint8), terms.starts, terms.terms,
        weights, *required, *excluded, df,
    )  # fmt: skip
    n = starts[-1]
    flat = FlatTerms(starts, found[:n], own[:n], roles[:n], terms.base)
    return flat, np.flatnonzero(refused).tolist()


def _numbers(lists: Sequence[list[int]]) -> tuple[Int32, Int64]:
    """(int32[n], offsets) of several lists."""
    return np.array([*chain.from_iterable(lists)], np.int32), offsets_of([*map(len, lists)])
