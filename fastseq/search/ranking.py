"""Ranking models: the weight of a term in a query and in a document.

Every model scores a document by a sum over the terms of the query,

    weight(term) · value(tf) / (slope · value(tf) + factor(document))

so one set of kernels serves them all, and a model is chosen at search time, not at index time.
Notation: N documents, df of which hold the term; tf, occurrences in the document; length and avg,
the document's and the average number of tokens. Logarithms are natural.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastseq.errors import SettingsError
from fastseq.estimator import describe_parameters
from fastseq.index.collection import Collection, Leaf
from fastseq.kernels.search.impacts import Weighting, document_sums
from fastseq.kernels.search.postings import WINDOW
from fastseq.settings import flag, one_of
from fastseq.text.weighting import MODELS, BM25Parameters, TFIDFParameters, bm25_idf
from fastseq.types import Float32, Float64, Int32, Int64, offsets_of, ranges

_TFS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class QueryTerms:
    """The distinct terms of Q queries that are in the index, in the order of their bytes.

    starts   int64[Q + 1]  query q has terms[starts[q]:starts[q + 1]]
    terms    int32[n]      their numbers in the searcher's table of terms
    df       int64[n]      documents with each term
    weights  float32[n]    occurrences in the query, or the given weight; from a model, the weight
                           in the sum
    base     float32[Q]    added to the score of every hit
    """

    starts: Int64
    terms: Int32
    df: Int64
    weights: Float32
    base: Float32

    def __len__(self) -> int:
        return len(self.base)

    @property
    def owners(self) -> Int64:
        """int64[n]: the query of each term."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def sums(self, values: Float64) -> Float32:
        """float32[Q]: the sum of each query's values, independent of the other queries."""
        return np.bincount(self.owners, values, len(self)).astype(np.float32)

    def weighted(self, weights: Float64, base: Float64 | None = None) -> QueryTerms:
        """The same terms with new weights; `base`, of each term, is summed over the query."""
        sums = self.base if base is None else self.sums(base)
        return replace(self, weights=weights.astype(np.float32), base=sums)

    def take(self, queries: Int64) -> QueryTerms:
        """A selection of the queries, in the given order."""
        counts = np.diff(self.starts)[queries]
        places = ranges(self.starts[queries], counts)
        return QueryTerms(
            offsets_of(counts), self.terms[places], self.df[places], self.weights[places],
            self.base[queries],
        )  # fmt: skip


class RankingModel(ABC):
    """A ranking function. Subclasses are frozen dataclasses: equal parameters, equal model."""

    @abstractmethod
    def values(self, tf: Float64) -> Float64:
        """The value of term frequencies in the formula."""

    @abstractmethod
    def document_weighting(self, collection: Collection, leaf: Leaf) -> Weighting:
        """The factors of the formula that depend on the document, for a segment."""

    @abstractmethod
    def weigh(self, collection: Collection, queries: QueryTerms) -> QueryTerms:
        """The terms of the queries with the weights of the formula."""

    def weighting_of(self, weighting: Weighting, large_tf: Int32) -> Weighting:
        """The weighting for other postings of the same documents, by their large frequencies."""
        return weighting._replace(large=self._tables(large_tf)[1])

    def _weighting(self, leaf: Leaf, slope: float, factor: Float64) -> Weighting:
        """A Weighting from the factor of each document."""
        segment = leaf.segment
        padded = np.full(segment.windows * WINDOW, np.inf, np.float32)
        padded[: segment.documents] = factor
        if leaf.live is not None:
            padded[: segment.documents][leaf.live == 0] = np.inf
        return Weighting(slope, padded, *self._tables(segment.postings.large_tf))

    def _tables(self, large_tf: Int32) -> tuple[Float32, Float32]:
        """The values of the frequencies 0 to 255, and of large ones."""
        large = self.values(large_tf.astype(np.float64))
        return self.values(_TFS).astype(np.float32), large.astype(np.float32)


@describe_parameters
@dataclass(frozen=True)
class BM25(BM25Parameters, RankingModel):
    """Okapi BM25 and its variants, after Kamphuis et al. 2020 ("Which BM25 do you mean?", ECIR).
    With L = 1 - b + b · length / avg, a term adds idf times:

    lucene     tf / (tf + k1 L)                          idf ln(1 + (N - df + ½) / (df + ½))
    robertson  the same                                  idf ln((N - df + ½) / (df + ½)), at least 0
    atire      (k1 + 1) tf / (tf + k1 L)                 idf ln(N / df)
    bm25+      δ + (k1 + 1) tf / (tf + k1 L)             idf ln((N + 1) / df)
    bm25l      (k1 + 1)(tf / L + δ) / (k1 + tf / L + δ)  idf ln((N + 1) / (df + ½))

    In the last two a query term absent from the document counts as tf = 0, so it adds too.

    Raises SettingsError for a value outside its range.
    """

    def values(self, tf: Float64) -> Float64:
        return tf

    def document_weighting(self, collection: Collection, leaf: Leaf) -> Weighting:
        average = collection.tokens / collection.documents
        lengths = leaf.segment.lengths
        relative = lengths / average if average > 0 else np.ones(len(lengths))
        saturation = self.k1 + self.delta if self.variant == "bm25l" else self.k1
        factor = saturation * (1 - self.b + self.b * relative)
        return self._weighting(leaf, 1.0, factor)

    def weigh(self, collection: Collection, queries: QueryTerms) -> QueryTerms:
        n, df = collection.documents, queries.df
        given: Float64 = queries.weights.astype(np.float64)
        if self.variant == "lucene":
            return queries.weighted(bm25_idf(n, df) * given)
        if self.variant == "robertson":
            return queries.weighted(np.log(np.maximum((n - df + 0.5) / (df + 0.5), 1)) * given)
        if self.variant == "atire":
            return queries.weighted(np.log(n / df) * (self.k1 + 1) * given)
        if self.variant == "bm25+":
            idf = np.log((n + 1) / df) * given
            return queries.weighted(idf * (self.k1 + 1), idf * self.delta)
        # f(tf) - f(0) is idf (k1 + 1) k1/(k1 + δ) · tf / (tf + (k1 + δ) L)
        idf = np.log((n + 1) / (df + 0.5)) * given * (self.k1 + 1)
        total = self.k1 + self.delta
        if total == 0:
            return queries.weighted(idf)
        return queries.weighted(idf * (self.k1 / total), idf * (self.delta / total))


@describe_parameters
@dataclass(frozen=True)
class TFIDF(TFIDFParameters, RankingModel):
    """TF-IDF in SMART notation, `ddd.qqq`: three letters for the document, three for the query
    (Manning, Raghavan, Schütze 2008, Introduction to Information Retrieval, figure 6.15).

    - tf: n tf, l 1 + ln tf, b 1, L (1 + ln tf) / (1 + ln of the mean tf in the text); for the query
      also a ½ + ½ tf / the largest tf
    - df: n 1, t ln(N / df), p max(0, ln((N - df) / df))
    - norm: n none, c cosine

    Raises SettingsError for other letters.
    """

    def values(self, tf: Float64) -> Float64:
        return _tf_values(self.smart[0], tf)

    def document_weighting(self, collection: Collection, leaf: Leaf) -> Weighting:
        letters, known = self.smart[:3], leaf.segment.factors
        factor = known.get(letters)
        if factor is None:
            factor = self._factor(collection, leaf)
            if letters[1] == "n":  # without statistics of the collection: good for later commits
                known[letters] = factor
        return self._weighting(leaf, 0.0, factor)

    def _factor(self, collection: Collection, leaf: Leaf) -> Float64:
        """float64[documents]: what divides the weights of each document."""
        tf, df, norm = list(self.smart[:3])
        segment = leaf.segment
        factor = np.ones(segment.documents)
        if tf == "L" or norm == "c":
            segment.verify_all_postings()
            high, low = np.zeros((2, segment.documents), np.uint64)
            unique = np.zeros(segment.documents, np.int32)
            idf = np.ones(segment.terms)
            if df != "n":
                idf = _idf(df, collection.documents, collection.frequencies(leaf))
            table, large = self._tables(segment.postings.large_tf)
            document_sums(high, low, unique, segment.postings, table, large, idf)
            if norm == "c":
                # a document's L divides every weight and its norm, and cancels
                factor = np.sqrt(high.astype(np.float64) + np.ldexp(low.astype(np.float64), -64))
            else:
                factor = 1 + np.log(np.maximum(segment.lengths / np.maximum(unique, 1), 1))
            factor[factor == 0] = 1
        return factor

    def weigh(self, collection: Collection, queries: QueryTerms) -> QueryTerms:
        tf, df, norm = list(self.smart[4:])
        owners, counts, n = queries.owners, queries.df, collection.documents
        given = queries.weights.astype(np.float64)
        if tf == "a":
            largest = np.zeros(len(queries))
            np.maximum.at(largest, owners, np.abs(given))
            largest[largest == 0] = 1
            weights = 0.5 + 0.5 * given / largest[owners]
        else:
            weights = _tf_values(tf, given)
        if tf == "L":
            mean = queries.sums(given) / np.maximum(np.diff(queries.starts), 1)
            weights = weights / (1 + np.log(np.maximum(mean, 1)))[owners]
        weights = weights * _idf(df, n, counts)
        if norm == "c":
            length = np.sqrt(queries.sums(weights**2).astype(np.float64))
            length[length == 0] = 1
            weights = weights / length[owners]
        # the document's idf is a factor of the term, so it can be in the query's weight
        return queries.weighted(weights * _idf(self.smart[1], n, counts))


@dataclass(frozen=True)
class BoW(RankingModel):
    """Bag of words: the dot product of the vectors of term counts.

    cosine : divide by the norms of both vectors (cosine similarity)
    """

    cosine: bool = False

    def __post_init__(self) -> None:
        flag("cosine", self.cosine)

    @property
    def _smart(self) -> TFIDF:
        return TFIDF("nnc.nnc" if self.cosine else "nnn.nnn")

    def values(self, tf: Float64) -> Float64:
        return self._smart.values(tf)

    def document_weighting(self, collection: Collection, leaf: Leaf) -> Weighting:
        return self._smart.document_weighting(collection, leaf)

    def weigh(self, collection: Collection, queries: QueryTerms) -> QueryTerms:
        return self._smart.weigh(collection, queries)


def model_by_name(name: str, **parameters: Any) -> RankingModel:
    """The model of that name; parameters that are None have their defaults.

    Raises SettingsError for an unknown name or parameter, or a value outside its range.
    """
    one_of("model", name, MODELS)
    given = {key: value for key, value in parameters.items() if value is not None}
    for key in given:
        if key not in MODELS[name]:
            others = ", ".join(other for other in MODELS if key in MODELS[other])
            raise SettingsError(f"{key} is a parameter of {others}, not of {name}")
    if name == "bm25f":
        from fastseq.search.bm25f import BM25F

        return BM25F(**given)
    if name in ("tfidf", "bow"):
        return TFIDF(**given) if name == "tfidf" else BoW()
    return BM25(**given, variant="lucene" if name == "bm25" else name)


def _tf_values(letter: str, tf: Float64) -> Float64:
    if letter == "n":
        return tf
    if letter == "b":
        return np.minimum(tf, 1.0)
    # a weight below 1 given for a query term would make the logarithm negative
    return np.where(tf >= 1, 1 + np.log(np.maximum(tf, 1)), tf)


def _idf(letter: str, documents: int, df: Int64) -> Float64:
    if letter == "n":
        return np.ones(len(df))
    if letter == "t":
        return np.log(documents / np.maximum(df, 1))
    return np.log(np.maximum((documents - df) / np.maximum(df, 1), 1))
