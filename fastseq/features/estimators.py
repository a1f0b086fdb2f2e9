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

import numbers
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.estimator import (
    THREADS,
    BaseEstimator,
    Check,
    Choice,
    DocumentCount,
    Flag,
    Instance,
    Whole,
    declared_by,
    parameter,
    parameters_of,
)
from fastseq.settings import thread_count
from fastseq.store.texts import open_texts
from fastseq.text.analyzer import Analyzer
from fastseq.text.settings import FEATURES_TOKENIZER
from fastseq.text.weighting import BM25Parameters, bm25_idf
from fastseq.types import Float64, Int32, Int64, Texts, offsets_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from fastseq.text.counting import TermCounts, Weigh
    from fastseq.text.tables import Dictionary

KIND = "features"  # of a folder
VERSION = 1
_BYTES, _LENGTHS, _DF = "term_bytes", "term_lengths", "df"  # its files
_ANALYSIS = tuple(parameters_of(Analyzer))

F = TypeVar("F", bound="Features")


@dataclass(frozen=True)
class Dtype(Check):
    """A dtype whose kind is one of NumPy's letters, and whose size in bytes is one of `sizes`."""

    kinds: str = "f"
    sizes: tuple[int, ...] = (4, 8)
    wanted: str = "float64 or float32"

    def __call__(self, name: str, value: Any) -> Any:
        try:
            dtype = np.dtype(value)
        except (TypeError, ValueError, SyntaxError):
            dtype = np.dtype(object)
        if dtype.kind not in self.kinds or dtype.itemsize not in self.sizes:
            raise SettingsError(f"{name} is {value!r}; expected {self.wanted}")
        return value


@dataclass(frozen=True, eq=False)
class FittedState:
    """The result of fitting.

    terms      the columns
    df         int64[W]  texts of the training collection that have the term
    documents  number of those texts
    tokens     number of their terms, including those without a column
    """

    terms: Texts
    df: Int64
    documents: int
    tokens: int

    @cached_property
    def dictionary(self) -> Dictionary:
        """Finds terms among the columns."""
        from fastseq.text.tables import Dictionary

        return Dictionary(self.terms)

    @cached_property
    def names(self) -> list[str]:
        """The terms as Python strings."""
        return self.terms.to_strings()


class Features(BaseEstimator[FittedState], ABC):
    """Base of the feature extractors: reading texts, choosing terms, saving.

    Texts are an iterable of strings, or of fastseq.types.Texts; an Arrow column; or a corpus: a
    path of data, a fastseq.Corpus, an Arrow table, a data frame, dicts. The parameters of the
    analyzer may be given by name, without one.

    Raises SettingsError, when fitted, for a parameter that is out of its range.
    """

    method: ClassVar[str]

    analyzer: Analyzer | None = parameter(
        default=None, check=Instance(Analyzer), help="Analyzer that splits text into terms.",
        none="Analyzer(tokenizer=tokenizer, …)",
    )  # fmt: skip
    min_df: float = parameter(
        default=1, check=DocumentCount(), metavar="N",
        help="Minimum document frequency of a term, a number or a share.",
    )  # fmt: skip
    max_df: float = parameter(
        default=1.0, check=DocumentCount(), metavar="N",
        help="Maximum document frequency of a term, a number or a share.",
    )  # fmt: skip
    max_features: int | None = parameter(
        default=None, check=Whole(1), help="Maximum number of terms.", none="all terms",
        notes="The most frequent ones are kept; ties in the order of the terms.",
    )  # fmt: skip
    dtype: npt.DTypeLike = parameter(
        default=np.float64, check=Dtype(), help="Type of the matrix, float64 or float32."
    )
    threads: int | None = parameter(
        default=None, check=THREADS, help="Number of threads.", none="all cores", run=True
    )
    tokenizer: str | Callable[[str], list[str]] = declared_by(
        Analyzer, "tokenizer", default=FEATURES_TOKENIZER, none=""
    )
    cjk: str = declared_by(Analyzer, "cjk")
    lowercase: bool = declared_by(Analyzer, "lowercase")
    fold_accents: bool = declared_by(Analyzer, "fold_accents")
    stopwords: str | tuple[str, ...] = declared_by(Analyzer, "stopwords")
    stemmer: str = declared_by(Analyzer, "stemmer")
    ngrams: tuple[int, int] = declared_by(Analyzer, "ngrams")
    char_ngrams: tuple[int, int] | None = declared_by(Analyzer, "char_ngrams")
    min_length: int | None = declared_by(Analyzer, "min_length")
    max_length: int | None = declared_by(Analyzer, "max_length")
    on_invalid: str = declared_by(Analyzer, "on_invalid")
    normalization: str = declared_by(Analyzer, "normalization")

    def fit(self, texts: Iterable[str] | Any, y: Any = None) -> Self:
        """Learn the terms and their document frequencies. `y` is ignored.

        Raises SettingsError for a setting outside its range; DataError where no term is left, a
        text is not a string, or the corpus cannot be read.
        """
        self._fit(texts, keep=False)
        return self

    def fit_transform(self, texts: Iterable[str] | Any, y: Any = None) -> csr_matrix:
        """`fit`, and the matrix of the same texts: scipy.sparse CSR, [D, W], indices sorted."""
        counts, chosen = self._fit(texts, keep=True)
        columns = np.full(len(counts.terms), -1, np.int32)
        columns[chosen] = np.arange(len(chosen), dtype=np.int32)
        return self._matrix(counts, columns)

    def transform(self, texts: Iterable[str] | Any) -> csr_matrix:
        """The matrix of other texts, with the columns and weights of the fitted ones.

        Other terms are dropped. Raises NotFittedError when nothing was fitted, DataError as `fit`.
        """
        from fastseq.text.counting import TermCounts

        learned, threads = self.learned, thread_count(self.threads)
        source = open_texts(texts)
        with source.located():
            analyzer = self.fitted._analyzer()
            counts = TermCounts(analyzer, source.slices(), threads, frequencies=False)
        return self._matrix(counts, learned.dictionary.columns(counts.terms))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """The term of each column, object[W]. `input_features` is ignored."""
        return np.array(self.learned.names, dtype=object)

    @property
    def fitted(self) -> Self:
        """An unfitted copy with the parameters of the last `fit`, which a later `set_params` does
        not reach. Raises NotFittedError when nothing was fitted."""
        self.learned  # noqa: B018
        found: Self = self._fitted
        return found

    @property
    def vocabulary_(self) -> dict[str, int]:
        """The column of each term."""
        return {term: column for column, term in enumerate(self.learned.names)}

    @property
    def df_(self) -> Int64:
        """int64[W]: how many of the fitted texts have each term."""
        return self.learned.df

    @property
    def documents_(self) -> int:
        """How many texts were fitted."""
        return self.learned.documents

    @property
    def weights(self) -> dict[str, Float64]:
        """The weights of the terms, float64[W], by their name in a file of terms."""
        return {"idf": self.idf_} if hasattr(self, "idf_") else {}

    # ---- saving

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the fitted features to a folder, whole or not at all.

        Raises SettingsError where the folder exists already or the tokenizer is a Python function,
        FastseqError where nothing was fitted or the system refuses to write.
        """
        from fastseq.store.writer import FolderWriter

        learned, settings = self.learned, self.fitted.settings()
        terms = learned.terms
        with FolderWriter(path, KIND, VERSION, overwrite) as writer:
            writer.array(_BYTES, terms.data[terms.offsets[0] : terms.offsets[-1]])
            writer.array(_LENGTHS, np.diff(terms.offsets))
            writer.array(_DF, learned.df)
            statistics = {"documents": learned.documents, "tokens": learned.tokens}
            writer.commit(settings, {**statistics, "terms": len(terms)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load what `save` wrote. `Features.load` returns an instance of the saved class.

        Raises FormatError for a folder that is damaged, of another version, or of another kind.
        """
        from fastseq.store.folder import Folder

        folder = Folder.open(path, KIND, {VERSION})
        # copies: the mapped files may be removed by a later save
        data = np.array(folder.array(_BYTES, np.uint8))
        lengths = folder.array(_LENGTHS, np.int64)
        df = np.array(folder.array(_DF, np.int64))
        offsets = offsets_of(lengths)
        if lengths.min(initial=0) < 0 or offsets[-1] != len(data):
            raise FormatError(f"{path}: damaged: its terms do not fit their lengths")
        terms = Texts(data, offsets)
        return restored(cls, folder.settings, folder.statistics, terms, df, str(path))

    def settings(self) -> dict[str, Any]:
        """The parameters as JSON has them. Raises SettingsError for a tokenizer that is a
        function."""
        own = {name: value for name, value in super().settings().items() if name not in _ANALYSIS}
        own |= {"dtype": np.dtype(self.dtype).name, "analyzer": self._analyzer().to_dict()}
        return {"method": self.method, **own}

    # ---- fitting

    def _check(self) -> None:
        self._analyzer()

    def learn(self, learned: FittedState) -> None:
        """Set the fitted state."""
        self._fitted: Any = self.snapshot()
        self._learned = learned

    def _is_binary(self) -> bool:
        return getattr(self, "binary", False)

    def _weigh(self, learned: FittedState) -> Weigh | None:
        """The function that turns counts into weights; None for counts."""
        return None

    def _analyzer(self) -> Analyzer:
        given = {name: getattr(self, name) for name in _ANALYSIS}
        if self.analyzer is None:
            return Analyzer(**given)
        named = [name for name, value in given.items() if value != self._parameters[name].default]
        if named:
            raise SettingsError(
                f"{', '.join(named)}: not together with analyzer, which has its own"
            )
        return self.analyzer.resolved(FEATURES_TOKENIZER)

    def _fit(self, texts: Any, keep: bool) -> tuple[TermCounts, Int32]:
        """Fit; returns the counts and the ids of the terms that are columns, in order."""
        from fastseq.text.counting import TermCounts, ascending, taken

        self.check()
        threads = thread_count(self.threads)
        totals = self.max_features is not None and not self._is_binary()
        source = open_texts(texts)
        with source.located():
            counts = TermCounts(
                self._analyzer(), source.slices(), threads, keep=keep, totals=totals
            )
        if not len(counts.terms):
            raise DataError("no terms: the texts are empty, or have no tokens after analysis")
        n = counts.documents
        low = self.min_df if isinstance(self.min_df, numbers.Integral) else self.min_df * n
        high = self.max_df if isinstance(self.max_df, numbers.Integral) else self.max_df * n
        if high < low:
            raise SettingsError(
                f"max_df {self.max_df!r} is fewer than min_df {self.min_df!r} of {n} texts"
            )
        chosen = np.flatnonzero((counts.df >= low) & (counts.df <= high)).astype(np.int32)
        if not len(chosen):
            raise DataError("no terms are left: expected a lower min_df or a higher max_df")
        chosen = ascending(counts.terms, chosen, threads)
        if self.max_features is not None and len(chosen) > self.max_features:
            often = (counts.totals if totals else counts.df)[chosen]
            most = np.argsort(-often, kind="stable")[: self.max_features]
            chosen = chosen[np.sort(most)]
        terms, df = taken(counts.terms, chosen), counts.df[chosen]
        self.learn(FittedState(terms, df, n, counts.tokens))
        return counts, chosen

    def _matrix(self, counts: TermCounts, columns: Int32) -> csr_matrix:
        learned, fitted = self.learned, self.fitted
        return counts.matrix(
            columns, len(learned.terms), np.dtype(fitted.dtype), thread_count(self.threads),
            binary=fitted._is_binary(), weigh=fitted._weigh(learned),
        )  # fmt: skip


class CountFeatures(Features):
    """How often each text has each term: scikit-learn's CountVectorizer."""

    method: ClassVar[str] = "bow"

    binary: bool = parameter(default=False, check=Flag(), help="Count every term once per text.")
    dtype: npt.DTypeLike = parameter(
        default=np.int64, check=Dtype("iuf", (1, 2, 4, 8, 16), "integers or floats"),
        help="Type of the matrix: integers or floats.",
    )  # fmt: skip


class TfidfFeatures(Features):
    """The weight of each term in each text, tf · idf: scikit-learn's TfidfVectorizer.

    tf is the count of a term in the text, idf = 1 + ln(N / df), with N texts of which df have it;
    every text's vector is then divided by its norm.
    """

    method: ClassVar[str] = "tfidf"

    norm: str | None = parameter(
        default="l2", check=Choice(("l1", "l2")), none="not normalised",
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
        default=False, check=Flag(), help="Sublinear term frequency, 1 + ln(count)."
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

    def _idf(self, learned: FittedState) -> Float64:
        if not self.use_idf:
            return np.ones(len(learned.df))
        smooth = int(self.smooth_idf)
        idf: Float64 = np.log((learned.documents + smooth) / (learned.df + smooth)) + 1.0
        return idf

    def _weigh(self, learned: FittedState) -> Weigh:
        from fastseq.kernels.text.counts import L1, L2, NO_NORM, weigh_rows

        idf, sublinear = self._idf(learned), int(self.sublinear_tf)
        norm = {"l1": L1, "l2": L2, None: NO_NORM}[self.norm]
        return lambda values, counts, columns, starts, lengths: weigh_rows(
            values, counts, columns, starts, idf, 0.0, np.ones(len(lengths)), sublinear, norm
        )


class BM25Features(Features):
    """The addition of each term to a text's BM25 score, for a query that has it once.

    idf · tf / (tf + k1 (1 - b + b · length / average)), with idf = ln(1 + (N - df + ½) / (df + ½)),
    as in Lucene: the ranking model `bm25` of this package. A text's length is the number of
    its terms, including those without a column, and the average is that of the fitted texts.
    (Kamphuis et al. 2020, "Which BM25 do you mean?", ECIR.)
    """

    method: ClassVar[str] = "bm25"

    k1: float = declared_by(BM25Parameters, "k1")
    b: float = declared_by(BM25Parameters, "b")

    @property
    def idf_(self) -> Float64:
        """float64[W]: the idf of each column."""
        return bm25_idf(self.learned.documents, self.learned.df)

    @property
    def average_length_(self) -> float:
        """The mean number of terms of the fitted texts."""
        return self.learned.tokens / self.learned.documents

    def _weigh(self, learned: FittedState) -> Weigh:
        from fastseq.kernels.text.counts import NO_NORM, weigh_rows

        idf = bm25_idf(learned.documents, learned.df)
        average = learned.tokens / learned.documents
        k1, b = float(self.k1), float(self.b)
        return lambda values, counts, columns, starts, lengths: weigh_rows(
            values, counts, columns, starts, idf, 1.0, k1 * (1 - b + b * (lengths / average)), 0,
            NO_NORM,
        )  # fmt: skip


KINDS: dict[str, type[CountFeatures] | type[TfidfFeatures] | type[BM25Features]] = {
    kind.method: kind for kind in (CountFeatures, TfidfFeatures, BM25Features)
}


def restored(
    kind: type[F], settings: Mapping[str, Any], statistics: Mapping[str, Any], terms: Texts,
    df: Int64, where: str, on_invalid: str | None = None,
) -> F:  # fmt: skip
    """Fitted features from what a folder or a file of terms contains.

    kind : the class expected; Features for any
    settings, statistics : of Features.settings; documents and tokens of FittedState
    where : the file they were read from, for messages
    on_invalid : of the analyzer, instead of the saved one

    Raises FormatError for invalid settings, or those of another kind.
    """
    own = dict(settings)
    method = own.pop("method", None)
    fitting = {name: made for name, made in KINDS.items() if issubclass(made, kind)}
    if method not in fitting:
        raise FormatError(f"{where}: holds {method!r} features, expected {' or '.join(fitting)}")
    try:
        analyzer = Analyzer.from_dict(own["analyzer"])
        if on_invalid is not None:
            analyzer = replace(analyzer, on_invalid=on_invalid)
        made = fitting[method](**own | {"analyzer": analyzer})
        made.check()
        documents, tokens = int(statistics["documents"]), int(statistics["tokens"])
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise FormatError(f"{where}: its settings cannot be read: {error}") from None
    if not 0 < len(terms) == len(df) or df.min() < 1 or df.max() > documents or tokens < 1:
        raise FormatError(f"{where}: damaged: its counts do not fit each other")
    made.learn(FittedState(terms, df, documents, tokens))
    return made
