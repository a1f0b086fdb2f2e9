"""Queries made of documents: pseudo relevance feedback, and documents like another.

    index.search("heat transfer", feedback=RM3(documents=10, terms=20))
    index.more_like("doc7")

With feedback a query is searched twice: terms of the best documents of the first search are added
to it for the second.

Words and mappings become mappings: a term has the sum of its weight in the query and of its weight
in the documents. Of values of `fastseq.query` the clauses stay as they are, with the factor of the
query as boost, and the terms are `should` clauses, with their weights as boosts:

    a Term, a Boolean of should clauses alone    Boolean(should=[c1^α, c2^α, …, t1^w1, t2^w2, …])
    any other query                              Boolean(must=[query^α], should=[t1^w1, t2^w2, …])

so that nothing is found that a query with signs, a phrase or a pattern excludes. α is 1 for
Rocchio. The weights q(t) of such a query are the boosts of its scored clauses that a document has,
the sum of a clause that occurs several times; constant scores are not among them. Terms of weight 0
are left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastseq import query as values
from fastseq.errors import SettingsError
from fastseq.estimator import Real, Whole, describe_parameters, parameter, valid_parameters
from fastseq.index.collection import Collection
from fastseq.search.clauses import ListClause
from fastseq.search.document_terms import (
    DocumentTerms,
    document_frequencies,
    terms_of_documents,
)
from fastseq.search.evaluation import plan_of
from fastseq.search.query_words import Query, analysed
from fastseq.search.ranking import RankingModel
from fastseq.search.resolving import Resolver
from fastseq.search.searcher import Searcher
from fastseq.text.weighting import bm25_idf
from fastseq.types import Float64, Int64, Texts, distinct

# of those measured on Cranfield and SciFact, with stems and without, they gain on Cranfield and
# lose little on SciFact, where a query has one relevant document: see bench/feedback.py
DOCUMENTS, TERMS, ORIGINAL_WEIGHT, BETA = 10, 20, 0.8, 0.5

_BLOCK = 1024  # queries whose documents are in memory at a time
_COUNT = Whole(1, 10_001)


class Feedback(ABC):
    """Pseudo relevance feedback: how the terms of the best documents change a query."""

    documents: int
    terms: int

    @abstractmethod
    def added(
        self, own: Sequence[float], found: DocumentTerms, rows: Int64, scores: Float64
    ) -> tuple[float, dict[str, float]]:
        """(the factor of the query's own weights, the weights of terms of the documents), of which
        the new query is the sum.

        own     the weights of the query's terms, at least one of them not 0
        found   documents, among them those of the query
        rows    int64[n]    the best documents of the query, the best first, by their place in found
        scores  float64[n]  their scores
        """

    def _best(self, found: DocumentTerms, places: Int64, weights: Float64) -> tuple[Int64, Float64]:
        """(terms, weights) of the terms with the largest weight · idf; a weight is the sum of those
        of the elements of `found` at some places."""
        distinct, numbers = np.unique(found.terms[places].astype(np.int64), return_inverse=True)
        sums: Float64 = np.bincount(numbers, weights).astype(np.float64)
        order = np.argsort(-sums * found.idf[distinct], kind="stable")[: self.terms]
        return distinct[order], sums[order]


@describe_parameters
@dataclass(frozen=True)
class RM3(Feedback):
    """Relevance model 3 (Abdul-Jaleel et al. 2004, "UMass at TREC 2004: Novelty and HARD", after
    Lavrenko & Croft 2001, "Relevance-Based Language Models", SIGIR). A term t of the new query has
    the weight

        α · q(t) + (1 - α) · Q · p(t),  p(t) ∝ Σ over documents d of s(d) · tf(t, d) / length(d)

    where q(t) is its weight in the query, Q their sum, α the original weight, and s(d) the
    document's score, or, where a score of the documents is not positive (as of logarithms of
    probabilities), exp(score). p is that of the terms with the largest p · idf, and adds up to 1.

    Raises SettingsError for a value outside its range.
    """

    documents: int = parameter(
        default=DOCUMENTS, check=_COUNT, help="Documents whose terms are added."
    )
    terms: int = parameter(default=TERMS, check=_COUNT, help="Terms of the documents.")
    original_weight: float = parameter(
        default=ORIGINAL_WEIGHT, check=Real(least=0, most=1), help="Weight of the query itself."
    )

    def __post_init__(self) -> None:
        valid_parameters(self)

    def added(
        self, own: Sequence[float], found: DocumentTerms, rows: Int64, scores: Float64
    ) -> tuple[float, dict[str, float]]:
        if scores.min() <= 0:
            scores = np.exp(scores - scores.max())
        shares = scores / scores.sum() / np.maximum(found.lengths[rows], 1)
        places, counts = found.places(rows)
        weights = np.repeat(shares, counts) * found.tfs[places]
        terms, sums = self._best(found, places, weights)
        factor = (1 - self.original_weight) * sum(map(abs, own))
        weights = (sums / sums.sum()).tolist()
        return self.original_weight, {
            found.names[term]: factor * weight
            for term, weight in zip(terms.tolist(), weights, strict=True)
        }


@describe_parameters
@dataclass(frozen=True)
class Rocchio(Feedback):
    """Rocchio's feedback (Rocchio 1971, "Relevance Feedback in Information Retrieval") without
    documents that are not relevant. The new query is

        q + β · ‖q‖ · mean over documents of d / ‖d‖

    where q and d are the vectors of the weights in the query and of the frequencies in a document,
    and ‖ ‖ is the Euclidean norm. Terms with the largest weight · idf of the mean are added.

    Raises SettingsError for a value outside its range.
    """

    documents: int = parameter(
        default=DOCUMENTS, check=_COUNT, help="Documents whose terms are added."
    )
    terms: int = parameter(default=TERMS, check=_COUNT, help="Terms of the documents.")
    beta: float = parameter(
        default=BETA, check=Real(least=0, most=1000), help="Weight of the documents (β)."
    )

    def __post_init__(self) -> None:
        valid_parameters(self)

    def added(
        self, own: Sequence[float], found: DocumentTerms, rows: Int64, scores: Float64
    ) -> tuple[float, dict[str, float]]:
        places, counts = found.places(rows)
        shares = 1 / (found.norms[rows] * len(rows))
        weights = np.repeat(shares, counts) * found.tfs[places]
        terms, sums = self._best(found, places, weights)
        factor = self.beta * float(np.sqrt(sum(weight * weight for weight in own)))
        return 1.0, {
            found.names[term]: factor * weight
            for term, weight in zip(terms.tolist(), sums.tolist(), strict=True)
        }


def with_feedback(
    queries: Sequence[Query | values.Query], feedback: Any, searcher: Searcher, model: RankingModel,
    **options: Any,
) -> list[Query | values.Query]:  # fmt: skip
    """The queries after pseudo relevance feedback; one without hits, or without scored words, is
    unchanged.

    feedback : a Feedback
    options : of Searcher.find

    Raises SettingsError for another feedback, and as Searcher.find.
    """
    if not isinstance(feedback, Feedback):
        raise SettingsError(f"feedback must be RM3() or Rocchio(), not {feedback!r}")
    found: list[Query | values.Query] = []
    for first in range(0, len(queries), _BLOCK):
        found += _expanded(queries[first : first + _BLOCK], feedback, searcher, model, options)
    return found


def _expanded(
    queries: Sequence[Query | values.Query], feedback: Feedback, searcher: Searcher,
    model: RankingModel, options: dict[str, Any],
) -> Iterator[Query | values.Query]:  # fmt: skip
    # what is left out is named by the second search
    rows, scores, _ = searcher.find(queries, feedback.documents, model, **options)
    documents = distinct(rows[rows >= 0]).astype(np.int64)
    found = terms_of_documents(searcher.collection, documents)
    plain = [query for query in queries if isinstance(query, str | Mapping)]
    weights = iter(_weights(plain, searcher))
    for query, best, points in zip(queries, rows, scores, strict=True):
        best = best[best >= 0]
        of_terms: dict[str, float] = {}
        if not isinstance(query, values.Query):
            of_terms = next(weights)
            own = list(of_terms.values())
        else:
            own = _clause_weights(query, searcher, model) if len(best) else []
        if not len(best) or not any(own):
            yield query
            continue
        places = np.searchsorted(documents, best)
        factor, terms = feedback.added(own, found, places, points[: len(best)].astype(np.float64))
        if isinstance(query, values.Query):
            yield _with_terms(query, factor, terms)
            continue
        new = {term: factor * weight for term, weight in of_terms.items()}
        for term, weight in terms.items():
            new[term] = new.get(term, 0.0) + weight
        yield new


def _with_terms(query: values.Query, factor: float, terms: Mapping[str, float]) -> values.Query:
    """A query with further terms, as the module describes."""
    more: tuple[values.Query, ...] = tuple(
        values.Boost(values.IndexTerm(term), min(weight, values.MAX_SCORE))
        for term, weight in terms.items()
        if weight > 0
    )
    if not more:
        return query
    own = _alternatives(query)
    if own is None:
        return values.Boolean(must=(_boosted(query, factor),), should=more)
    return values.Boolean(should=(*(_boosted(clause, factor) for clause in own), *more))


def _boosted(query: values.Query, factor: float) -> values.Query:
    """A query with a factor, at most the largest that a query may have."""
    return query if factor == 1 else values.Boost(query, min(factor, values.MAX_SCORE))


def _alternatives(query: values.Query) -> tuple[values.Query, ...] | None:
    """The clauses of a query of which a document needs any one; None for other queries."""
    if isinstance(query, values.Term) and query.field is None:
        return (query,)
    if not isinstance(query, values.Boolean) or query.must or query.must_not or query.filter:
        return None
    return None if query.minimum_should_match > 1 else query.should


def _clause_weights(query: values.Query, searcher: Searcher, model: RankingModel) -> list[float]:
    """The weights of the scored clauses of a query that a document has."""
    clause = Resolver(searcher, model).resolve(query)
    if clause is None:
        return []
    return [
        one.boost * one.count for one in plan_of(clause).scored
        if isinstance(one.clause, ListClause) and one.clause.df > 0
    ]  # fmt: skip


def _weights(queries: Sequence[Query], searcher: Searcher) -> list[dict[str, float]]:
    """The weights of the terms of queries that a document has."""
    texts = [query for query in queries if isinstance(query, str)]
    names, tokens = analysed(searcher.collection, texts)
    ids, ends = tokens.values.tolist(), tokens.offsets.tolist()
    counts = iter([Counter(names[id] for id in ids[a:b]) for a, b in pairwise(ends)])
    every = [dict(next(counts) if isinstance(query, str) else query) for query in queries]
    distinct = list(dict.fromkeys(term for own in every for term in own))
    known = dict(zip(distinct, searcher.contains(Texts.from_strings(distinct)), strict=True))
    return [{term: float(w) for term, w in own.items() if known[term]} for own in every]


# ---- documents like another


def like_query(
    collection: Collection, counts: Mapping[str, float], terms: int, min_df: int
) -> dict[str, float]:
    """The query of documents like a text: those of its terms with the largest tf · idf that are in
    at least `min_df` documents, with this product as weight, the largest being 1.

    counts : the terms of the text, with their frequencies

    Raises FormatError where postings are damaged.
    """
    names = sorted(counts, key=str.encode)
    df = document_frequencies(collection, names)
    values = np.array([counts[name] for name in names], np.float64)
    values *= bm25_idf(collection.documents, df)
    values[df < max(min_df, 1)] = 0
    order = np.argsort(-values, kind="stable")[:terms]
    order = order[values[order] > 0]
    return {names[i]: float(values[i] / values[order[0]]) for i in order.tolist()}


def terms_of_document(collection: Collection, row: int) -> dict[str, float]:
    """The terms of a document, with their frequencies. Raises FormatError where postings are
    damaged."""
    found = terms_of_documents(collection, np.array([row], np.int64))
    return dict(zip(found.names, found.tfs.tolist(), strict=True))


def terms_of_text(collection: Collection, text: str) -> dict[str, float]:
    """The terms of a text, analysed as the documents were. Raises DataError where it is not valid
    Unicode."""
    names, tokens = analysed(collection, [text])
    return dict(Counter(names[id] for id in tokens.values.tolist()))
