"""Documents as vectors: bags of words, TF-IDF and BM25 weights, word and character n-grams.

    features = fastseq.TfidfFeatures(ngrams=(1, 2), min_df=2)
    X = features.fit_transform(texts)                 # scipy.sparse, a row for each text
    features.transform(more_texts)                    # the same columns and weights

The estimators have scikit-learn's manners and, for the same settings, its results: those of
CountVectorizer and TfidfVectorizer, whose `ngram_range` is `ngrams` here, `stop_words` is
`stopwords`, and whose words are those of cjk="none" (see Analyzer). The columns are in the order
of the terms' code points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError
from fastseq.features.base import Features, FittedState
from fastseq.features.checks import check_flag, check_float, check_number, kind_of
from fastseq.text.analyzer import Analyzer
from fastseq.types import Float64, Int32, Int64

if TYPE_CHECKING:
    from fastseq.text.rows import Weigh

NORMS = ("l1", "l2")


class CountFeatures(Features):
    """How often each text has each term: scikit-learn's CountVectorizer.

    Parameters
    ----------
    binary : 1 for every term that a text has
    dtype : int64 unless given
    """

    __doc__ += f"\n{Features.__doc__}"  # type: ignore[operator]
    method: ClassVar[str] = "bow"
    binary: bool

    def __init__(
        self,
        *,
        analyzer: Analyzer | None = None,
        binary: bool = False,
        min_df: float = 1,
        max_df: float = 1.0,
        max_features: int | None = None,
        dtype: npt.DTypeLike = np.int64,
        threads: int | None = None,
        **analysis: Any,
    ) -> None:
        self._store(locals(), analysis)

    def _check_kind(self) -> None:
        check_flag("binary", self.binary)
        if kind_of(self.dtype) not in "iuf":
            raise SettingsError(f"dtype is {self.dtype!r}; expected integers or floats")

    def _is_binary(self) -> bool:
        return self.binary


class TfidfFeatures(Features):
    """What each term tells of each text, tf · idf: scikit-learn's TfidfVectorizer.

    tf is the count of a term in the text, idf = 1 + ln(N / df), with N texts of which df have it;
    every text's vector is then divided by its norm.

    Parameters
    ----------
    norm : "l2" (Euclidean length 1), "l1" (absolute values that sum up to 1) or None
    use_idf : False for idf = 1
    smooth_idf : count one text more, that has every term: N + 1, df + 1
    sublinear_tf : 1 + ln(count) for the count
    binary : 1 for every count
    dtype : float64 unless given, or float32
    """

    __doc__ += f"\n{Features.__doc__}"  # type: ignore[operator]
    method: ClassVar[str] = "tfidf"
    norm: str | None
    use_idf: bool
    smooth_idf: bool
    sublinear_tf: bool
    binary: bool

    def __init__(
        self,
        *,
        analyzer: Analyzer | None = None,
        norm: str | None = "l2",
        use_idf: bool = True,
        smooth_idf: bool = True,
        sublinear_tf: bool = False,
        binary: bool = False,
        min_df: float = 1,
        max_df: float = 1.0,
        max_features: int | None = None,
        dtype: npt.DTypeLike = np.float64,
        threads: int | None = None,
        **analysis: Any,
    ) -> None:
        self._store(locals(), analysis)

    def _check_kind(self) -> None:
        if self.norm is not None and not (isinstance(self.norm, str) and self.norm in NORMS):
            raise SettingsError(f"norm is {self.norm!r}; expected l1, l2 or None")
        for name in ("use_idf", "smooth_idf", "sublinear_tf", "binary"):
            check_flag(name, getattr(self, name))
        check_float(self.dtype)

    @property
    def idf_(self) -> Float64:
        """float64[W]: the idf of each column.

        Raises AttributeError where use_idf is False, as scikit-learn does.
        """
        if not self.use_idf:
            raise AttributeError("use_idf is False: there is no idf_")
        return self._idf(self.learned)

    @property
    def weights(self) -> dict[str, Float64]:
        return {"idf": self.idf_} if self.use_idf else {}

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

    Parameters
    ----------
    k1 : how slowly repetition saturates, >= 0
    b : how much length counts, 0 to 1
    dtype : float64 unless given, or float32
    """

    __doc__ += f"\n{Features.__doc__}"  # type: ignore[operator]
    method: ClassVar[str] = "bm25"
    k1: float
    b: float

    def __init__(
        self,
        *,
        analyzer: Analyzer | None = None,
        k1: float = 1.2,
        b: float = 0.75,
        min_df: float = 1,
        max_df: float = 1.0,
        max_features: int | None = None,
        dtype: npt.DTypeLike = np.float64,
        threads: int | None = None,
        **analysis: Any,
    ) -> None:
        self._store(locals(), analysis)

    def _check_kind(self) -> None:
        check_number("k1", self.k1, math.inf)
        check_number("b", self.b, 1)
        check_float(self.dtype)

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
