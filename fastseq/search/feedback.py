"""Queries made of documents: pseudo relevance feedback, and documents like another.

    index.search("heat transfer", feedback=RM3(documents=10, terms=20))
    index.more_like("doc7")

With feedback a query is searched twice: terms of the best documents of the first search are added
to it for the second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastseq.errors import SettingsError
from fastseq.estimator import Real, Whole, describe_parameters, parameter, valid_parameters
from fastseq.index.collection import Collection
from fastseq.search.document_terms import (
    DocumentTerms,
    document_frequencies,
    terms_of_documents,
)
from fastseq.search.query_words import Query, analysed
from fastseq.search.ranking import RankingModel
from fastseq.search.searcher import Searcher
from fastseq.text.weighting import bm25_idf
from fastseq.types import Float64, Int64, Texts

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
    def query(
        self, own: Mapping[str, float], found: DocumentTerms, rows: Int64, scores: Float64
    ) -> dict[str, float]:
        """The weights of the terms of a new query.

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

    def query(
        self, own: Mapping[str, float], found: DocumentTerms, rows: Int64, scores: Float64
    ) -> dict[str, float]:
        if scores.min() <= 0:
            scores = np.exp(scores - scores.max())
        shares = scores / scores.sum() / np.maximum(found.lengths[rows], 1)
        places, counts = found.places(rows)
        weights = np.repeat(shares, counts) * found.tfs[places]
        terms, sums = self._best(found, places, weights)
        total = sum(map(abs, own.values()))
        new = {term: self.original_weight * weight for term, weight in own.items()}
        for term, weight in zip(terms.tolist(), (sums / sums.sum()).tolist(), strict=True):
            name = found.names[term]
            new[name] = new.get(name, 0.0) + (1 - self.original_weight) * total * weight
        return new


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

    def query(
        self, own: Mapping[str, float], found: DocumentTerms, rows: Int64, scores: Float64
    ) -> dict[str, float]:
        places, counts = found.places(rows)
        shares = 1 / (found.norms[rows] * len(rows))
        weights = np.repeat(shares, counts) * found.tfs[places]
        terms, sums = self._best(found, places, weights)
        norm = float(np.sqrt(sum(weight * weight for weight in own.values())))
        new = dict(own)
        for term, weight in zip(terms.tolist(), sums.tolist(), strict=True):
            name = found.names[term]
            new[name] = new.get(name, 0.0) + self.beta * norm * weight
        return new


def with_feedback(
    queries: Sequence[Query], feedback: Any, searcher: Searcher, model: RankingModel,
    **options: Any,
) -> list[Query]:  # fmt: skip
    """The queries after pseudo relevance feedback; one without hits is unchanged.

    feedback : a Feedback
    options : of Searcher.search

    Raises SettingsError for another feedback, and as Searcher.search.
    """
    if not isinstance(feedback, Feedback):
        raise SettingsError(f"feedback must be RM3() or Rocchio(), not {feedback!r}")
    for query in queries:
        if not isinstance(query, str | Mapping):
            raise SettingsError(f"feedback is for plain words, not for the query {query!r:.80}")
    found: list[Query] = []
    for first in range(0, len(queries), _BLOCK):
        found += _expanded(queries[first : first + _BLOCK], feedback, searcher, model, options)
    return found


def _expanded(
    queries: Sequence[Query], feedback: Feedback, searcher: Searcher, model: RankingModel,
    options: dict[str, Any],
) -> Iterator[Query]:  # fmt: skip
    rows, scores = searcher.search(queries, feedback.documents, model, **options)
    distinct = np.unique(rows[rows >= 0]).astype(np.int64)
    found = terms_of_documents(searcher.collection, distinct)
    for query, own, best, points in zip(
        queries, _weights(queries, searcher), rows, scores, strict=True
    ):
        best = best[best >= 0]
        if not len(best) or not any(own.values()):
            yield query
            continue
        places = np.searchsorted(distinct, best)
        yield feedback.query(own, found, places, points[: len(best)].astype(np.float64))


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
