"""Ranking models: the weight of a term in a query and in a document.

Every model scores a document by a sum over the terms of the query that occur in it,

    weight(term) · part(term, document)

so one set of kernels searches with them all, and a model is chosen at search time, not at index
time. The parts of BM25 and of TF-IDF are quotients that a kernel computes (`QuotientModel`), those
of other models any function in NumPy (`FormulaModel`).

Notation: N documents, df of which contain the term, cf times in all; T tokens in all documents; tf,
occurrences in the document; length and avg, the document's and the average number of tokens.
Logarithms are natural unless a base is given. Deleted documents are in none of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from fastseq.errors import SettingsError
from fastseq.estimator import describe_parameters
from fastseq.index.collection import Leaf
from fastseq.kernels.search.impacts import Weighting, document_sums
from fastseq.kernels.search.postings import WINDOW
from fastseq.settings import flag, function
from fastseq.text.weighting import (
    BM25Parameters,
    DirichletParameters,
    JelinekMercerParameters,
    PL2Parameters,
    TFIDFParameters,
    bm25_idf,
)
from fastseq.types import Float32, Float64, Int32, Int64, offsets_of, ranges

LARGEST_WEIGHT = 1e20  # of a query term: far more would not fit a float32 score
LARGEST_PART = 1e15  # of a user-defined model

_TFS = np.arange(256, dtype=np.float64)
_SLICE = 1 << 16  # parts computed at a time, in float64


class Statistical(Protocol):
    """A collection, or that of one of its fields, as far as ranking models need it; deleted
    documents do not count."""

    @property
    def documents(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    def frequencies(self, leaf: Leaf) -> Int64:
        """int64[terms]: the documents of the collection with each term of a segment."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """The statistics of n terms, phrases or groups of terms in a collection.

    documents       N, the number of documents
    tokens          T, of all documents
    average_length  T / N
    df              float64[n]  documents with each term
    cf              float64[n]  occurrences of each term in all documents
    """

    documents: int
    tokens: int
    average_length: float
    df: Float64
    cf: Float64

    @staticmethod
    def of(collection: Statistical, df: Int64 | Float64, cf: Int64 | Float64) -> Statistics:
        """Those of terms of a collection with these df and cf."""
        documents, tokens = collection.documents, collection.tokens
        average = tokens / max(documents, 1)
        return Statistics(
            documents, tokens, average, df.astype(np.float64), cf.astype(np.float64)
        )  # fmt: skip

    def take(self, places: Int64) -> Statistics:
        """Those of some of the terms."""
        return replace(self, df=self.df[places], cf=self.cf[places])


class Words(NamedTuple):
    """The words of leaves of queries that are phrases, which have the sum of their words' idfs.

    offsets  int64[n + 1]  leaf i has the words offsets[i]:offsets[i + 1]; a term has one, itself
    df       int64[m]      documents with each word
    cf       int64[m]      occurrences of each; only models with `uses_cf` need it
    """

    offsets: Int64
    df: Int64
    cf: Int64 | None = None

    def take(self, leaves: Int64) -> Words:
        """The words of some leaves, in the given order."""
        counts = np.diff(self.offsets)[leaves]
        places = ranges(self.offsets[leaves], counts)
        cf = None if self.cf is None else self.cf[places]
        return Words(offsets_of(counts), self.df[places], cf)


@dataclass(frozen=True, slots=True, eq=False)
class QueryTerms:
    """The distinct terms of Q queries that are in the index, in the order of their bytes.

    starts   int64[Q + 1]  query q has terms[starts[q]:starts[q + 1]]
    terms    int32[n]      their numbers in the searcher's table of terms
    df       int64[n]      documents with each term
    weights  float32[n]    occurrences in the query, or the given weight; from a model, the weight
                           in the sum
    base     float32[Q]    added to the score of every hit
    cf       int64[n]      occurrences of each term, for models with `uses_cf`
    words    of those that are phrases; None where none is
    """

    starts: Int64
    terms: Int32
    df: Int64
    weights: Float32
    base: Float32
    cf: Int64 | Float64 | None = None
    words: Words | None = None

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
            self.base[queries], None if self.cf is None else self.cf[places],
            None if self.words is None else self.words.take(places),
        )  # fmt: skip

    def sum_over_words(self, function: Callable[[Int64], Float64]) -> Float64:
        """float64[n]: a function of df, such as an idf, of each term; of a phrase the sum over its
        words."""
        if self.words is None:
            return function(self.df)
        return self._summed(self.words, function(self.words.df))

    def statistics_over_words(
        self, collection: Statistical, function: Callable[[Statistics], Float64]
    ) -> Float64:
        """`sum_over_words` of a function of the statistics; `cf` must be there."""
        df, cf = (self.df, self.cf) if self.words is None else (self.words.df, self.words.cf)
        assert cf is not None
        values = function(Statistics.of(collection, df, cf))
        return values if self.words is None else self._summed(self.words, values)

    def _summed(self, words: Words, values: Float64) -> Float64:
        owners = np.repeat(np.arange(len(self.df)), np.diff(words.offsets))
        sums: Float64 = np.bincount(owners, values, len(self.df)).astype(np.float64)
        return sums


class RankingModel(ABC):
    """A ranking function. Subclasses are frozen dataclasses: equal parameters, equal model.

    uses_cf : whether the weights depend on the occurrences of terms, which cost a pass over their
        postings
    """

    uses_cf: ClassVar[bool] = False

    @abstractmethod
    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        """The terms of the queries with the weights of the formula."""

    @abstractmethod
    def list_parts(
        self, collection: Statistical, leaf: Leaf, rows: Int32, tfs: Float64,
        statistics: Statistics, weighting: Weighting | None = None,
    ) -> Float32:  # fmt: skip
        """float32[n]: the parts of documents in which a term, a phrase or a group of terms occurs.
        Those of a term are the bits that a search has. Of a deleted document 0; a part of 0 of any
        other is -0.0.

        Parameters
        ----------
        rows : int32[n], documents of the segment
        tfs : float64[n], above 0
        statistics : of one term, phrase or group; or of n, one for each part
        weighting : of a QuotientModel, what `document_weighting` returns for the segment; None: it
            is computed

        Raises SettingsError where a user-defined model returns something else.
        """


class QuotientModel(RankingModel):
    """A model whose parts are value(tf) / (slope · value(tf) + factor(document))."""

    @abstractmethod
    def values(self, tf: Float64) -> Float64:
        """The value of term frequencies in the formula."""

    @abstractmethod
    def document_weighting(self, collection: Statistical, leaf: Leaf) -> Weighting:
        """The factors of the formula that depend on the document, for a segment."""

    def list_parts(
        self, collection: Statistical, leaf: Leaf, rows: Int32, tfs: Float64,
        statistics: Statistics, weighting: Weighting | None = None,
    ) -> Float32:  # fmt: skip
        if weighting is None:
            weighting = self.document_weighting(collection, leaf)
        value = self.values(tfs).astype(np.float32)
        parts: Float32 = value / (np.float32(weighting.slope) * value + weighting.factor[rows])
        return parts

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


ADDITIVE = ("lucene", "robertson", "atire")  # variants of BM25 without a score for absent terms


@describe_parameters
@dataclass(frozen=True)
class BM25(BM25Parameters, QuotientModel):
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

    def document_weighting(self, collection: Statistical, leaf: Leaf) -> Weighting:
        average = collection.tokens / collection.documents
        lengths = leaf.segment.lengths
        relative = lengths / average if average > 0 else np.ones(len(lengths))
        saturation = self.k1 + self.delta if self.variant == "bm25l" else self.k1
        factor = saturation * (1 - self.b + self.b * relative)
        return self._weighting(leaf, 1.0, factor)

    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        n, k1 = collection.documents, self.k1
        given: Float64 = queries.weights.astype(np.float64)
        idf = queries.sum_over_words(partial(self._idf, n))
        if self.variant in ("lucene", "robertson"):
            return queries.weighted(idf * given)
        if self.variant == "atire":
            return queries.weighted(idf * (k1 + 1) * given)
        if self.variant == "bm25+":
            idf = idf * given
            return queries.weighted(idf * (k1 + 1), idf * self.delta)
        # f(tf) - f(0) is idf (k1 + 1) k1/(k1 + δ) · tf / (tf + (k1 + δ) L)
        idf = idf * given * (k1 + 1)
        total = k1 + self.delta
        if total == 0:
            return queries.weighted(idf)
        return queries.weighted(idf * (k1 / total), idf * (self.delta / total))

    def weight_of_one(self, collection: Statistical, queries: QueryTerms) -> float:
        """The weight of the only term of a query with one occurrence, before it is rounded; that of
        n occurrences is n times as large (of the variants in ADDITIVE)."""
        idf = float(queries.sum_over_words(partial(self._idf, collection.documents))[0])
        return idf * (self.k1 + 1) if self.variant == "atire" else idf

    def _idf(self, n: int, df: Int64) -> Float64:
        if self.variant == "lucene":
            return bm25_idf(n, df)
        if self.variant == "robertson":
            return np.log(np.maximum((n - df + 0.5) / (df + 0.5), 1))
        if self.variant == "atire":
            return np.log(n / df)
        return np.log((n + 1) / (df if self.variant == "bm25+" else df + 0.5))


@describe_parameters
@dataclass(frozen=True)
class TFIDF(TFIDFParameters, QuotientModel):
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

    def document_weighting(self, collection: Statistical, leaf: Leaf) -> Weighting:
        letters, known = self.smart[:3], leaf.segment.factors
        factor = known.get(letters)
        if factor is None:
            factor = self._factor(collection, leaf)
            if letters[1] == "n":  # without statistics of the collection: good for later commits
                known[letters] = factor
        return self._weighting(leaf, 0.0, factor)

    def _factor(self, collection: Statistical, leaf: Leaf) -> Float64:
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
            if tf == "L":
                factor = 1 + np.log(np.maximum(segment.lengths / np.maximum(unique, 1), 1))
            if norm == "c":
                # a document's L divides every weight and its norm, and cancels
                total = np.sqrt(high.astype(np.float64) + np.ldexp(low.astype(np.float64), -64))
                factor = np.where(total == 0, factor, total)
        return factor

    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        tf, df, norm = list(self.smart[4:])
        owners, n = queries.owners, collection.documents
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
        weights = weights * _idf_of(queries, df, n)
        if norm == "c":
            length = np.sqrt(queries.sums(weights**2).astype(np.float64))
            length[length == 0] = 1
            weights = weights / length[owners]
        # the document's idf is a factor of the term, so it can be in the query's weight
        return queries.weighted(weights * _idf_of(queries, self.smart[1], n))


@dataclass(frozen=True)
class BoW(QuotientModel):
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

    def document_weighting(self, collection: Statistical, leaf: Leaf) -> Weighting:
        return self._smart.document_weighting(collection, leaf)

    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        return self._smart.weigh(collection, queries)


@dataclass(frozen=True)
class Dot(QuotientModel):
    """The dot product of the query's weights and those of the document, in an index of impacts
    (`Index.build(…, impacts=…)`), which is searched with no other model."""

    def values(self, tf: Float64) -> Float64:
        return tf

    def document_weighting(self, collection: Statistical, leaf: Leaf) -> Weighting:
        return self._weighting(leaf, 0.0, np.ones(leaf.segment.documents))

    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        return queries


# ---- models by formula


class FormulaModel(RankingModel):
    """A model whose parts are any function of tf, the length of the document and the statistics of
    the term. Parts may be negative; a document that contains a term is a hit all the same."""

    uses_cf = True

    @abstractmethod
    def part(self, tf: Float64, length: Float64, statistics: Statistics) -> Float64:
        """float64[n]: the part of each of n postings, from tf, length float64[n] and the statistics
        of their terms, of n elements too. Element by element: other elements do not matter."""

    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        return queries

    def _finite(self, tf: Float64, length: Float64, statistics: Statistics) -> Float64:
        """`part`, finite where a damaged file has statistics of 0."""
        with np.errstate(all="ignore"):
            parts = self.part(tf, length, statistics)
        return np.nan_to_num(parts, posinf=LARGEST_PART, neginf=-LARGEST_PART)

    def list_parts(
        self, collection: Statistical, leaf: Leaf, rows: Int32, tfs: Float64,
        statistics: Statistics, weighting: Weighting | None = None,
    ) -> Float32:  # fmt: skip
        segment, n = leaf.segment, len(rows)
        found = np.empty(n, np.float32)
        for first in range(0, n, _SLICE):
            own = slice(first, first + _SLICE)
            # a damaged file may name a document beyond the last
            some = np.minimum(rows[own], segment.documents - 1)
            length = np.maximum(segment.lengths[some], 1).astype(np.float64)
            df, cf = (
                np.full(len(some), each[0]) if len(each) == 1 else each[own]
                for each in (statistics.df, statistics.cf)
            )
            values = self._finite(tfs[own], length, replace(statistics, df=df, cf=cf))
            parts = values.astype(np.float32)
            parts[parts == 0] = -0.0
            parts[rows[own] >= segment.documents] = 0.0
            if leaf.live is not None:
                parts[leaf.live[some] == 0] = 0.0
            found[own] = parts
        return found


@describe_parameters
@dataclass(frozen=True)
class Dirichlet(DirichletParameters, FormulaModel):
    """Query likelihood with Dirichlet smoothing (Zhai & Lafferty 2001, "A Study of Smoothing
    Methods for Language Models Applied to Ad Hoc Information Retrieval", SIGIR). A term adds

        ln(1 + tf / (μ p)) + ln(μ / (length + μ)),  p = cf / T

    As in Lucene, terms of the query that are not in the document add nothing: so the second
    logarithm counts once for each term that is, not for each of the query. Unlike Lucene's, a
    negative sum of both is not replaced by 0.

    Raises SettingsError for a value outside its range.
    """

    def part(self, tf: Float64, length: Float64, statistics: Statistics) -> Float64:
        p = statistics.cf / statistics.tokens
        smoothing: Float64 = np.log(self.mu / (length + self.mu))
        return np.log1p(tf / (self.mu * p)) + smoothing


@describe_parameters
@dataclass(frozen=True)
class JelinekMercer(JelinekMercerParameters, FormulaModel):
    """Query likelihood with Jelinek–Mercer smoothing (Zhai & Lafferty 2001, as Dirichlet). A term
    adds

        ln(1 + (1 - λ) tf / length / (λ p)),  p = cf / T

    Raises SettingsError for a value outside its range.
    """

    def part(self, tf: Float64, length: Float64, statistics: Statistics) -> Float64:
        p = statistics.cf / statistics.tokens
        parts: Float64 = np.log1p((1 - self.lam) * tf / length / (self.lam * p))
        return parts


@dataclass(frozen=True)
class DPH(FormulaModel):
    """DPH, a hypergeometric model of divergence from randomness without parameters (Amati,
    Ambrosi, Bianchi, Gaibisso & Gambosi 2007, "FUB, IASI-CNR and University of Tor Vergata at TREC
    2007 Blog Track"). With f = tf / length, at most 1, a term adds

        (1 - f)² / (tf + 1) · (tf log2(tf · avg / length · N / cf) + ½ log2(2π tf (1 - f)))

    and 0, the limit, where f is 1.
    """

    def part(self, tf: Float64, length: Float64, statistics: Statistics) -> Float64:
        f = np.minimum(tf / length, 1.0)
        rest = np.where(f < 1, 1 - f, 1.0)
        expected = length * statistics.cf / statistics.tokens  # avg N is T
        gain = tf * np.log2(tf / expected) + 0.5 * np.log2(2 * np.pi * tf * rest)
        return np.where(f < 1, rest**2 / (tf + 1) * gain, 0.0)


@describe_parameters
@dataclass(frozen=True)
class PL2(PL2Parameters, FormulaModel):
    """PL2, divergence from randomness with a Poisson model, the Laplace after-effect and
    normalisation 2 (Amati & van Rijsbergen 2002, "Probabilistic Models of Information Retrieval
    Based on Measuring the Divergence from Randomness", TOIS 20). With n = tf log2(1 + c avg /
    length) and λ = cf / N, a term adds

        1 / (n + 1) · (n log2(n / λ) + (λ + 1 / (12 n) - n) log2 e + ½ log2(2π n))

    Raises SettingsError for a value outside its range.
    """

    def part(self, tf: Float64, length: Float64, statistics: Statistics) -> Float64:
        n = tf * np.log2(1 + self.c * statistics.average_length / length)
        rate = statistics.cf / statistics.documents
        gain = n * np.log2(n / rate) + (rate + 1 / (12 * n) - n) * np.log2(np.e)
        parts: Float64 = (gain + 0.5 * np.log2(2 * np.pi * n)) / (n + 1)
        return parts


@dataclass(frozen=True, kw_only=True)
class Ranking(FormulaModel):
    """A user-defined model: a document scores the sum of weight · part over the terms of the query
    that it contains, times the occurrences of the term in the query.

        idf = lambda s: np.log(s.documents / s.df)
        tfidf = Ranking(weight=idf, part=lambda tf, length, s: np.sqrt(tf) / length)

    Both functions compute with NumPy arrays, element by element: a result must not depend on the
    other elements, since it is cached. Parts are cached by model: define the functions once, not in
    each call of a search. With functions of negative values, or 0, hits are still all documents
    with a term of the query.

    Parameters
    ----------
    weight : statistics -> float64[n], the weight of n terms; default: 1. The statistics are
        documents, tokens, average_length, and df and cf as float64[n]. A phrase has the sum of the
        weights of its words
    part : (tf float64[n], length float64[n], statistics) -> float64[n], the part of n pairs of a
        term and a document; df and cf are those of each pair's term

    Raises SettingsError for other arguments; searching does where a function returns an array of
    another shape, values that are not finite, weights beyond 1e20 or parts beyond 1e15.
    """

    weight: Callable[[Statistics], Float64] | None = None
    part: Callable[[Float64, Float64, Statistics], Float64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        function("weight", self.weight)
        if not callable(self.part):
            raise SettingsError(f"part must be a function, not {self.part!r}")
        try:
            hash(self)
        except TypeError:
            raise SettingsError("weight and part must be hashable, as functions are") from None

    def weigh(self, collection: Statistical, queries: QueryTerms) -> QueryTerms:
        weight = self.weight
        if weight is None or not len(queries.terms):
            return queries

        def checked(statistics: Statistics) -> Float64:
            return _checked("weight", weight(statistics), len(statistics.df), LARGEST_WEIGHT)

        weights = queries.statistics_over_words(collection, checked) * queries.weights
        return queries.weighted(_checked("weight", weights, len(weights), LARGEST_WEIGHT))

    def _finite(self, tf: Float64, length: Float64, statistics: Statistics) -> Float64:
        return _checked("part", self.part(tf, length, statistics), len(tf), LARGEST_PART)


def _checked(name: str, values: Any, n: int, most: float) -> Float64:
    """What a function of a user-defined model returned, as float64[n]. Raises SettingsError unless
    it is an array of n numbers from -most to most."""
    try:
        found = np.asarray(values)
    except ValueError:  # lists of several lengths
        found = np.array(None)
    if found.dtype.kind not in "biuf":
        raise SettingsError(f"{name} returned {values!r:.80}; expected an array of {n} numbers")
    if found.shape != (n,):
        raise SettingsError(
            f"{name} returned an array of shape {found.shape}; expected {n} numbers, one for each "
            "element of its arguments"
        )
    numbers = found.astype(np.float64)
    wrong = ~(np.abs(numbers) <= most)
    if wrong.any():
        raise SettingsError(
            f"{name} returned {numbers[wrong][0]}; expected numbers from -{most:g} to {most:g}"
        )
    return numbers


def _tf_values(letter: str, tf: Float64) -> Float64:
    if letter == "n":
        return tf
    if letter == "b":
        return np.minimum(tf, 1.0)
    # a weight below 1 given for a query term would make the logarithm negative
    return np.where(tf >= 1, 1 + np.log(np.maximum(tf, 1)), tf)


def _idf_of(queries: QueryTerms, letter: str, documents: int) -> Float64:
    """The idf of each term or phrase; 1 where the letter has none, of a phrase too."""
    if letter == "n":
        return np.ones(len(queries.df))
    return queries.sum_over_words(partial(_idf, letter, documents))


def _idf(letter: str, documents: int, df: Int64) -> Float64:
    if letter == "n":
        return np.ones(len(df))
    if letter == "t":
        return np.log(documents / np.maximum(df, 1))
    return np.log(np.maximum((documents - df) / np.maximum(df, 1), 1))
