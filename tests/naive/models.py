"""Language models and models of divergence from randomness by definition, relevance feedback and
documents like another: float64, every document scored. Nothing of fastseq is imported.

A document is a list of tokens, a query a {token: weight} mapping; tokens that no document has are
left out.

- Query likelihood: C. Zhai and J. Lafferty, "A Study of Smoothing Methods for Language Models
  Applied to Ad Hoc Information Retrieval", SIGIR 2001: ln of p_s(w|d) / (α_d p(w|C)) of each word
  that is in the document, α_d = μ / (|d| + μ) or λ; for Dirichlet, ln α_d of each of these too.
- DPH: G. Amati et al., "FUB, IASI-CNR and University of Tor Vergata at TREC 2007 Blog Track".
- PL2: G. Amati and C. J. van Rijsbergen, "Probabilistic Models of Information Retrieval Based on
  Measuring the Divergence from Randomness", TOIS 20(4), 2002: (1 - P2) · -log2 P1, with P1 a
  Poisson distribution whose factorial is Stirling's approximation, P2 = tfn / (tfn + 1).
- RM3: N. Abdul-Jaleel et al., "UMass at TREC 2004: Novelty and HARD", after V. Lavrenko and
  W. B. Croft, "Relevance-Based Language Models", SIGIR 2001.
- Rocchio: J. J. Rocchio, "Relevance Feedback in Information Retrieval", 1971.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Documents = Sequence[Sequence[str]]
Weights = Mapping[str, float]
Scores = tuple[np.ndarray, np.ndarray]  # float64[D] and, for documents with a query term, bool[D]


class Term(NamedTuple):
    """What a formula may use: occurrences in the document and its length; N, tokens, df and cf of
    the collection."""

    tf: float
    length: int
    documents: int
    tokens: int
    df: int
    cf: int


def scored(documents: Documents, query: Weights, formula: Callable[[Term], float]) -> Scores:
    """The sum of weight · formula over the words of the query in each document."""
    counts = [Counter(document) for document in documents]
    df = Counter(word for count in counts for word in count)
    cf = Counter(word for document in documents for word in document)
    tokens = sum(cf.values())
    scores, found = np.zeros(len(documents)), np.zeros(len(documents), bool)
    for d, (count, document) in enumerate(zip(counts, documents, strict=True)):
        for word, weight in query.items():
            if count[word]:
                term = Term(
                    count[word], len(document), len(documents), tokens, df[word], cf[word]
                )  # fmt: skip
                scores[d] += weight * formula(term)
                found[d] = True
    return scores, found


def dirichlet(mu: float) -> Callable[[Term], float]:
    def formula(t: Term) -> float:
        p = t.cf / t.tokens
        alpha = mu / (t.length + mu)
        seen = (t.tf + mu * p) / (t.length + mu)
        return math.log(seen / (alpha * p)) + math.log(alpha)

    return formula


def jelinek_mercer(lam: float) -> Callable[[Term], float]:
    def formula(t: Term) -> float:
        p = t.cf / t.tokens
        seen = (1 - lam) * t.tf / t.length + lam * p
        return math.log(seen / (lam * p))

    return formula


def dph(t: Term) -> float:
    f = t.tf / t.length
    if f >= 1:
        return 0.0
    average = t.tokens / t.documents
    inside = t.tf * math.log2((t.tf * average / t.length) * (t.documents / t.cf))
    return (1 - f) ** 2 / (t.tf + 1) * (inside + 0.5 * math.log2(2 * math.pi * t.tf * (1 - f)))


def pl2(c: float) -> Callable[[Term], float]:
    def formula(t: Term) -> float:
        tfn = t.tf * math.log2(1 + c * (t.tokens / t.documents) / t.length)
        rate = t.cf / t.documents
        # -log2 of rate^tfn e^-rate / tfn!
        factorial = (
            0.5 * math.log2(2 * math.pi * tfn) + tfn * math.log2(tfn)
            + (1 / (12 * tfn) - tfn) * math.log2(math.e)
        )  # fmt: skip
        information = -tfn * math.log2(rate) + rate * math.log2(math.e) + factorial
        return information / (tfn + 1)

    return formula


# ---- feedback, and documents like another


def bm25_idf(df: int, documents: int) -> float:
    return math.log(1 + (documents - df + 0.5) / (df + 0.5))


def rm3(
    documents: Documents, query: Weights, best: Sequence[int], scores: Sequence[float], terms: int,
    original_weight: float,
) -> tuple[dict[str, float], dict[str, float]]:  # fmt: skip
    """(the new query, the relevance model of all terms of the documents).

    best, scores  the rows and scores of the best documents
    """
    if min(scores) <= 0:
        scores = [math.exp(score - max(scores)) for score in scores]
    model: dict[str, float] = {}
    for row, score in zip(best, scores, strict=True):
        for word, count in Counter(documents[row]).items():
            share = score / sum(scores) * count / len(documents[row])
            model[word] = model.get(word, 0.0) + share
    chosen = largest(documents, model, terms)
    total = sum(chosen.values())
    size = sum(abs(weight) for weight in query.values())
    return _added(
        {word: original_weight * weight for word, weight in query.items()},
        {word: (1 - original_weight) * size * value / total for word, value in chosen.items()},
    ), model


def rocchio(
    documents: Documents, query: Weights, best: Sequence[int], terms: int, beta: float
) -> tuple[dict[str, float], dict[str, float]]:
    """(the new query, the mean of all terms of the documents)."""
    mean: dict[str, float] = {}
    for row in best:
        counts = Counter(documents[row])
        norm = math.sqrt(sum(count * count for count in counts.values()))
        for word, count in counts.items():
            mean[word] = mean.get(word, 0.0) + count / norm / len(best)
    size = math.sqrt(sum(weight * weight for weight in query.values()))
    chosen = largest(documents, mean, terms)
    return _added(query, {word: beta * size * value for word, value in chosen.items()}), mean


def like(documents: Documents, text: Sequence[str], terms: int, min_df: int) -> dict[str, float]:
    """The query of documents like a text."""
    df = Counter(word for document in documents for word in {*document})
    counts = {word: n for word, n in Counter(text).items() if df[word] >= max(min_df, 1)}
    values = {word: n * bm25_idf(df[word], len(documents)) for word, n in counts.items()}
    chosen = sorted(values, key=lambda word: (-values[word], word.encode()))[:terms]
    return {word: values[word] / values[chosen[0]] for word in chosen}


def largest(documents: Documents, weights: Weights, terms: int) -> dict[str, float]:
    """The terms of the largest weight · idf, of equal ones the first by its bytes."""
    df = Counter(word for document in documents for word in {*document})
    value = {word: w * bm25_idf(df[word], len(documents)) for word, w in weights.items()}
    chosen = sorted(weights, key=lambda word: (-round(value[word], 12), word.encode()))[:terms]
    return {word: weights[word] for word in chosen}


def _added(one: Weights, other: Weights) -> dict[str, float]:
    return {word: one.get(word, 0.0) + other.get(word, 0.0) for word in {*one, *other}}
