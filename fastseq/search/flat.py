"""Flat queries: optional, required and excluded words, which one kernel searches in a batch.

`+black cat -dog` is one. A query with other clauses, or words in each other's parentheses, is
evaluated clause by clause (evaluation.py); the scores are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastseq.kernels.search.cursors import TINY
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED
from fastseq.query import Boolean, Boost, Phrase, Query, Term
from fastseq.search.ranking import QueryTerms
from fastseq.types import Float32, Int32, Int64, UInt8, offsets_of

_TEXTS = (Term, Phrase)  # a union would be made at each use


class FlatQuery(NamedTuple):
    """The words of a flat query, by their numbers in a table of terms.

    scored    of required and optional words, repeated where they are
    required, excluded  each once
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


def clause_texts(query: Query) -> list[str]:
    """The texts of the clauses of a boolean query."""
    parts = [part.query if isinstance(part, Boost) else part for part in query.children()]
    return [part.text for part in parts if isinstance(part, _TEXTS) and part.field is None]


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
    sizes = [len(query.scored) for query in queries]
    numbers = np.array([n for query in queries for n in query.scored], np.int32)
    terms = weigh(counted(numbers, offsets_of(sizes)))
    starts = terms.starts.tolist()
    ids, weights = terms.terms.tolist(), terms.weights.tolist()
    given = np.array([n for query in queries for n in (*query.required, *query.excluded)], np.int32)
    absent = {*given[df[given] <= 0].tolist()}
    is_weak = bool((terms.weights <= TINY).any()) or any(query.boosts for query in queries)
    found_terms: list[int] = []
    found_weights: list[float] = []
    roles: list[int] = []
    counts: list[int] = []
    left: list[int] = []
    for q, query in enumerate(queries):
        own = ids[starts[q] : starts[q + 1]]
        own_weights = weights[starts[q] : starts[q + 1]]
        before = len(roles)
        if query.boosts:
            both = zip(own, own_weights, strict=True)
            own_weights = [weight * query.boosts.get(term, 1.0) for term, weight in both]
        required = set(query.required)
        if query.boosts and terms.base[q] != 0:
            left.append(q)
        elif absent.isdisjoint(required) and required.isdisjoint(query.excluded):
            if is_weak and any(
                t in required and w <= TINY for t, w in zip(own, own_weights, strict=True)
            ):
                left.append(q)
            else:
                found_terms += own
                found_weights += own_weights
                roles += [REQUIRED if term in required else OPTIONAL for term in own]
                if query.excluded:
                    excluded = [n for n in dict.fromkeys(query.excluded) if n not in absent]
                    found_terms += excluded
                    found_weights += [0.0] * len(excluded)
                    roles += [EXCLUDED] * len(excluded)
        counts.append(len(roles) - before)
    return FlatTerms(
        offsets_of(counts), np.array(found_terms, np.int32), np.array(found_weights, np.float32),
        np.array(roles, np.uint8), terms.base,
    ), left  # fmt: skip
