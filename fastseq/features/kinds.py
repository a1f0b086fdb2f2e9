"""Documents as vectors: bags of words, TF-IDF and BM25 weights, word and character n-grams.

    features = fastseq.TfidfFeatures(ngrams=(1, 2), min_df=2)
    X = features.fit_transform(texts)                 # scipy.sparse, a row for each text
    features.transform(more_texts)                    # the same columns and weights

The estimators follow scikit-learn's conventions and, for the same settings, give the results of
CountVectorizer and TfidfVectorizer, whose `ngram_range` is `ngrams` here, `stop_words` is
`stopwords`, and whose words are those of cjk="none" (see Analyzer). The columns are in the order
of the terms' code points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.estimator import Choice, Flag, Real, parameter
from fastseq.features.base import Features, FittedState
from fastseq.features.checks import Dtype
from fastseq.types import Float64, Int32, Int64

if TYPE_CHECKING:
    from fastseq.text.rows import Weigh

NORMS = ("l1", "l2")


class CountFeatures(Features):
    """How often each text has each term: scikit-learn's CountVectorizer."""

    method: ClassVar[str] = "bow"

    binary: bool = parameter(default=False, check=Flag(), help="Count every term once per text.")
    dtype: npt.DTypeLike = parameter(
        default=np.int64, check=Dtype("iuf", (1, 2, 4, 8, 16), "integers or floats"),
        help="Type of the matrix: integers or floats.",
    )  # fmt: skip

    def _is_binary(self) -> bool:
        return self.binary


class TfidfFeatures(Features):
    """What each term tells of each text, tf · idf: scikit-learn's TfidfVectorizer.

    tf is the count of a term in the text, idf = 1 + ln(N / df), with N texts of which df have it;
    every text's vector is then divided by its norm.
    """

    method: ClassVar[str] = "tfidf"

    norm: str | None = parameter(
        default="l2", check=Choice(NORMS), none="not normalised",
        help="Norm that each row is divided by.",
    )  # fmt: skip
    use_idf: bool = parameter(
        default=True, check=Flag(), help="Weight terms by idf.", flag="use-idf/no-idf"
    )
    smooth_idf: bool = parameter(
        default=True, check=Flag(), help="Add one to document frequencies.",
        notes="As if one more text had every term: N + 1, df + 1.",
    )  # fmt: skip
    sublinear_tf: bool = parameter(
        default=False, check=Flag(), help="Use 1 + ln(count) for the count."
    )
    binary: bool = parameter(default=False, check=Flag(), help="Count every term once per text.")

    @property
    def idf_(self) -> Float64:
        """float64[W]: the idf of each column.

        Raises AttributeError where use_idf is False, as scikit-learn does.
        """
        if not self.fitted.use_idf:
            raise AttributeError("use_idf is False: there is no idf_")
        return self.fitted._idf(self.learned)

    @property
    def weights(self) -> dict[str, Float64]:
        return {"idf": self.idf_} if self.fitted.use_idf else {}

    def _idf(self, learned: FittedState) -> Float64:
        if not self.use_idf:
            return np.ones(len(learned.df))
        smooth = int(self.smooth_idf)
        idf: Float64 = np.log((learned.documents + smooth) / (learned.df + smooth)) + 1.0
        return idf

    def _is_binary(self) -> bool:
        return self.binary

    def _weigh(self, learned: FittedState) -> Weigh:
        from fastseq.kernels.text.counts import L1, L2, NO_NORM, weigh_rows

        weights = self._idf(learned)
        norm = {"l1": L1, "l2": L2, None: NO_NORM}[self.norm]
        sublinear = int(self.sublinear_tf)

        def weigh(
            values: Float64, counts: Int32, columns: Int32, starts: Int64, tokens: Int64
        ) -> None:
            ones = np.ones(len(tokens))
            weigh_rows(values, counts, columns, starts, weights, 0.0, ones, sublinear, norm)

        return weigh


class BM25Features(Features):
    """What each term adds to a text's BM25 score, when a query has it once.

    idf · tf / (tf + k1 (1 - b + b · length / average)), with idf = ln(1 + (N - df + ½) / (df + ½)),
    as Lucene has it: the ranking model `bm25` of this package. A text's length is the number of
    its terms, those that are no column among them, and the average is that of the fitted texts.
    (Kamphuis et al. 2020, "Which BM25 do you mean?", ECIR.)
    """

    method: ClassVar[str] = "bm25"

    k1: float = parameter(default=1.2, check=Real(least=0), help="Term-frequency saturation (k1).")
    b: float = parameter(
        default=0.75, check=Real(least=0, most=1), help="Length normalisation (b)."
    )

    @property
    def idf_(self) -> Float64:
        """float64[W]: the idf of each column."""
        return self._idf(self.learned)

    @property
    def average_length_(self) -> float:
        """The mean number of terms of the fitted texts."""
        return self._average(self.learned)

    @property
    def weights(self) -> dict[str, Float64]:
        return {"idf": self.idf_}

    def _idf(self, learned: FittedState) -> Float64:
        idf: Float64 = np.log1p((learned.documents - learned.df + 0.5) / (learned.df + 0.5))
        return idf

    def _average(self, learned: FittedState) -> float:
        return learned.tokens / learned.documents

    def _weigh(self, learned: FittedState) -> Weigh:
        from fastseq.kernels.text.counts import NO_NORM, weigh_rows

        weights = self._idf(learned)
        average = self._average(learned)
        k1, b = float(self.k1), float(self.b)

        def weigh(
            values: Float64, counts: Int32, columns: Int32, starts: Int64, tokens: Int64
        ) -> None:
            factors = k1 * (1 - b + b * (tokens / average))
            weigh_rows(values, counts, columns, starts, weights, 1.0, factors, 0, NO_NORM)

        return weigh


KINDS: dict[str, type[CountFeatures] | type[TfidfFeatures] | type[BM25Features]] = {
    kind.method: kind for kind in (CountFeatures, TfidfFeatures, BM25Features)
}
