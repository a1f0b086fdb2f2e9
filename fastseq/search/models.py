"""Ranking functions: what a term is worth in a query and in a document.

Every model here scores a document as a sum over the query's terms of

    weight(term) · value(tf) / (slope · value(tf) + factor(document))

so one set of kernels serves them all, and a model is chosen when searching, not when indexing.
Notation: N documents, df of them hold the term, tf occurrences in the document, length and avg
its and the average number of tokens. Logarithms are natural.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastseq.errors import SettingsError
from fastseq.index.segment import Segment
from fastseq.kernels.search.impacts import Weighting
from fastseq.kernels.search.postings import WINDOW
from fastseq.kernels.search.queries import document_sums
from fastseq.settings import flag, one_of
from fastseq.types import Float32, Float64, Int32, Int64

LARGEST = 1_000_000  # of k1 and delta: far more would not fit a float32 score
_TFS = np.arange(256, dtype=np.float64)


class Model(ABC):
    """A ranking function. Subclasses are frozen dataclasses: equal settings are one model."""

    @abstractmethod
    def weighting(self, segment: Segment) -> Weighting:
        """The document's side of the sum, for every document of an index."""

    @abstractmethod
    def weigh(
        self, segment: Segment, starts: Int64, terms: Int32, counts: Float32
    ) -> tuple[Float32, Float32]:
        """The query's side.

        starts  int64[Q + 1]; terms int32[n], distinct in each query; counts float32[n], how often
                each occurs there, or the weight it was given

        Returns the weight of each term, float32[n], and what is added to every hit's score,
        float32[Q].
        """


@dataclass(frozen=True)
class BM25(Model):
    """Okapi BM25 and its variants, as Kamphuis et al. 2020 ("Which BM25 do you mean?", ECIR) have
    them. With L = 1 - b + b · length / avg, a term adds idf times:

    lucene     tf / (tf + k1 L)                          idf ln(1 + (N - df + ½) / (df + ½))
    robertson  the same                                  idf ln((N - df + ½) / (df + ½)), at least 0
    atire      (k1 + 1) tf / (tf + k1 L)                 idf ln(N / df)
    bm25+      δ + (k1 + 1) tf / (tf + k1 L)             idf ln((N + 1) / df)
    bm25l      (k1 + 1)(tf / L + δ) / (k1 + tf / L + δ)  idf ln((N + 1) / (df + ½))

    In the last two a query term absent from the document counts as tf = 0, so it adds too.

    Parameters
    ----------
    k1 : how slowly repetition saturates, 0 to 1,000,000
    b : how much length counts, 0 to 1
    delta : δ of bm25+ and bm25l, 0 to 1,000,000
    variant : one of the names above

    Raises SettingsError for a value outside its range.
    """

    k1: float = 1.2
    b: float = 0.75
    delta: float = 0.5
    variant: str = "lucene"

    VARIANTS: ClassVar[tuple[str, ...]] = ("lucene", "robertson", "atire", "bm25+", "bm25l")

    def __post_init__(self) -> None:
        one_of("variant", self.variant, self.VARIANTS)
        _check_number("k1", self.k1, LARGEST)
        _check_number("b", self.b, 1)
        _check_number("delta", self.delta, LARGEST)

    def weighting(self, segment: Segment) -> Weighting:
        average = segment.tokens / segment.documents
        relative = segment.lengths / average if average > 0 else np.ones(segment.documents)
        saturation = self.k1 + self.delta if self.variant == "bm25l" else self.k1
        factor = saturation * (1 - self.b + self.b * relative)
        return make_weighting(segment, 1.0, factor, _TFS, segment.postings.large_tf)

    def weigh(
        self, segment: Segment, starts: Int64, terms: Int32, counts: Float32
    ) -> tuple[Float32, Float32]:
        n = segment.documents
        df = segment.df[terms]
        given: Float64 = counts.astype(np.float64)
        base = np.zeros(len(starts) - 1, np.float32)
        if self.variant == "lucene":
            weights: Float64 = np.log1p((n - df + 0.5) / (df + 0.5)) * given
        elif self.variant == "robertson":
            weights = np.log(np.maximum((n - df + 0.5) / (df + 0.5), 1)) * given
        elif self.variant == "atire":
            weights = np.log(n / df) * (self.k1 + 1) * given
        elif self.variant == "bm25+":
            idf = np.log((n + 1) / df) * given
            weights = idf * (self.k1 + 1)
            base = _sums(starts, idf * self.delta)
        else:
            # what tf adds to f(0): idf (k1+1) k1/(k1+δ) · tf / (tf + (k1+δ) L)
            idf = np.log((n + 1) / (df + 0.5)) * given * (self.k1 + 1)
            total = self.k1 + self.delta
            weights = idf * (self.k1 / total if total > 0 else 1.0)
            base = _sums(starts, idf * (self.delta / total if total > 0 else 0.0))
        return weights.astype(np.float32), base


@dataclass(frozen=True)
class TFIDF(Model):
    """TF-IDF in SMART notation, `ddd.qqq`: three letters for the document, three for the query
    (Manning, Raghavan, Schütze 2008, Introduction to Information Retrieval, figure 6.15).

    tf    n tf, l 1 + ln tf, b 1, L (1 + ln tf) / (1 + ln of the mean tf in the text);
          for the query also a ½ + ½ tf / the largest tf
    df    n 1, t ln(N / df), p max(0, ln((N - df) / df))
    norm  n none, c cosine

    Raises SettingsError for letters not listed.
    """

    smart: str = "ltc.lnc"

    def __post_init__(self) -> None:
        allowed = ("nlbL", "ntp", "nc", ".", "nlabL", "ntp", "nc")
        fits = isinstance(self.smart, str) and len(self.smart) == len(allowed)
        if not fits or any(c not in s for c, s in zip(self.smart, allowed, strict=True)):
            raise SettingsError(
                f"smart must be like ltc.lnc, tf from n l b L (query also a), df from n t p, norm "
                f"from n c, not {self.smart!r}"
            )

    def weighting(self, segment: Segment) -> Weighting:
        tf, df, norm = list(self.smart[:3])
        values = _tf_values(tf, _TFS)
        large = _tf_values(tf, segment.postings.large_tf.astype(np.float64))
        factor = np.ones(segment.documents)
        if tf == "L" or norm == "c":
            squares = np.zeros(segment.documents)
            unique = np.zeros(segment.documents, np.int32)
            document_sums(
                squares, unique, segment.postings,
                values.astype(np.float32), large.astype(np.float32), _idf(df, segment, segment.df),
            )  # fmt: skip
            if norm == "c":
                # a document's L divides every weight and its norm alike, and cancels
                factor = np.sqrt(squares)
            else:
                factor = 1 + np.log(np.maximum(segment.lengths / np.maximum(unique, 1), 1))
            factor[factor == 0] = 1
        return make_weighting(segment, 0.0, factor, values, large)

    def weigh(
        self, segment: Segment, starts: Int64, terms: Int32, counts: Float32
    ) -> tuple[Float32, Float32]:
        tf, df, norm = list(self.smart[4:])
        queries = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        given = counts.astype(np.float64)
        if tf == "a":
            largest = np.zeros(len(starts) - 1)
            np.maximum.at(largest, queries, np.abs(given))
            largest[largest == 0] = 1
            weights = 0.5 + 0.5 * given / largest[queries]
        else:
            weights = _tf_values(tf, given)
        if tf == "L":
            mean = _sums(starts, given) / np.maximum(np.diff(starts), 1)
            weights = weights / (1 + np.log(np.maximum(mean, 1)))[queries]
        weights = weights * _idf(df, segment, segment.df[terms])
        if norm == "c":
            length = np.sqrt(_sums(starts, weights**2).astype(np.float64))
            length[length == 0] = 1
            weights = weights / length[queries]
        # the document's idf is a factor of the term, so the query's side may carry it
        weights = weights * _idf(self.smart[1], segment, segment.df[terms])
        return weights.astype(np.float32), np.zeros(len(starts) - 1, np.float32)


@dataclass(frozen=True)
class BoW(Model):
    """Bag of words: the dot product of the two vectors of counts, or their cosine.

    Parameters
    ----------
    cosine : divide by the lengths of both vectors
    """

    cosine: bool = False

    def __post_init__(self) -> None:
        flag("cosine", self.cosine)

    @property
    def _smart(self) -> TFIDF:
        return TFIDF("nnc.nnc" if self.cosine else "nnn.nnn")

    def weighting(self, segment: Segment) -> Weighting:
        return self._smart.weighting(segment)

    def weigh(
        self, segment: Segment, starts: Int64, terms: Int32, counts: Float32
    ) -> tuple[Float32, Float32]:
        return self._smart.weigh(segment, starts, terms, counts)


NAMES = ("bm25", "robertson", "atire", "bm25+", "bm25l", "tfidf", "bow")


def model_by_name(
    name: str,
    k1: float | None = None,
    b: float | None = None,
    delta: float | None = None,
    smart: str | None = None,
) -> Model:
    """The model that the command line calls `name`; None takes its default.

    Raises SettingsError for an unknown name, a value outside its range, or a parameter that the
    model does not have.
    """
    one_of("model", name, NAMES)
    bm25 = {k: v for k, v in (("k1", k1), ("b", b), ("delta", delta)) if v is not None}
    if delta is not None and name not in ("bm25+", "bm25l"):
        raise SettingsError(f"delta: only for bm25+ and bm25l, not {name}")
    if name in ("tfidf", "bow"):
        if bm25:
            raise SettingsError(f"{', '.join(bm25)}: only for the BM25 models, not {name}")
        if name == "tfidf":
            return TFIDF() if smart is None else TFIDF(smart)
    if smart is not None:
        raise SettingsError(f"smart: only for tfidf, not {name}")
    if name == "bow":
        return BoW()
    return BM25(**bm25, variant="lucene" if name == "bm25" else name)


def make_weighting(
    segment: Segment, slope: float, factor: Float64, table: Float64, large: Float64 | Int32
) -> Weighting:
    """A Weighting from the document factors float64[documents] and the values of tf 0 … 255 and
    of the large frequencies."""
    padded = np.ones(segment.windows * WINDOW, np.float32)
    padded[: segment.documents] = factor
    return Weighting(
        slope=float(slope),
        factor=padded,
        table=table.astype(np.float32),
        large=large.astype(np.float32),
    )


def _tf_values(letter: str, tf: Float64) -> Float64:
    if letter == "n":
        return tf
    if letter == "b":
        return np.minimum(tf, 1.0)
    # a weight below 1 given for a query term would make the logarithm negative
    return np.where(tf >= 1, 1 + np.log(np.maximum(tf, 1)), tf)


def _idf(letter: str, segment: Segment, df: Int64) -> Float64:
    if letter == "n":
        return np.ones(len(df))
    if letter == "t":
        return np.log(segment.documents / np.maximum(df, 1))
    return np.log(np.maximum((segment.documents - df) / np.maximum(df, 1), 1))


def _sums(starts: Int64, values: Float64) -> Float32:
    """float32[Q]: the total of each query's values, whatever queries stand beside it."""
    queries = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return np.bincount(queries, values, len(starts) - 1).astype(np.float32)


def _check_number(name: str, value: float, high: float) -> None:
    try:
        fits = bool(0 <= value <= high)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise SettingsError(f"{name} must be a number between 0 and {high}, not {value!r}")
