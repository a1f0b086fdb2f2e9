"""What the three kinds of features share: reading texts, choosing terms, saving."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, NotFittedError, SettingsError
from fastseq.estimator import (
    THREADS,
    BaseEstimator,
    Instance,
    Whole,
    declared_by,
    parameter,
    parameters_of,
)
from fastseq.features.checks import DocumentCount, Dtype, document_bounds
from fastseq.settings import thread_count
from fastseq.store.texts import open_texts
from fastseq.text.analyzer import Analyzer
from fastseq.types import Float64, Int64, Texts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from fastseq.text.counting import Reading
    from fastseq.text.rows import Dictionary, Weigh

_ANALYSIS = tuple(parameters_of(Analyzer))


@dataclass(frozen=True, eq=False)
class FittedState:
    """What fitting learns.

    terms      the columns
    df         int64[W]  texts of the training collection that have the term
    documents  how many texts those were, tokens how many terms they had, dropped ones included
    """

    terms: Texts
    df: Int64
    documents: int
    tokens: int

    @cached_property
    def dictionary(self) -> Dictionary:
        """Finds terms among the columns."""
        from fastseq.text.rows import Dictionary

        return Dictionary(self.terms)

    @cached_property
    def names(self) -> list[str]:
        """The terms as Python strings."""
        return self.terms.to_strings()


class Features(BaseEstimator, ABC):
    """What the three kinds of features share.

    Texts are an iterable of strings, or of fastseq.types.Texts; an Arrow column; or a corpus: a
    path to Parquet, a fastseq.Corpus, an Arrow table, a data frame. The parameters of the analyzer
    may be given by name, without one.

    Raises SettingsError, when fitted, for a parameter that is out of its range.
    """

    method: ClassVar[str]

    analyzer: Analyzer | None = parameter(
        default=None, check=Instance(Analyzer), help="Analyzer that splits text into terms.",
        none="Analyzer(tokenizer=tokenizer, …)",
    )  # fmt: skip
    min_df: float = parameter(
        default=1, check=DocumentCount(), metavar="N",
        help="Drop terms of fewer documents, a number or a share.",
    )  # fmt: skip
    max_df: float = parameter(
        default=1.0, check=DocumentCount(), metavar="N",
        help="Drop terms of more documents, a number or a share.",
    )  # fmt: skip
    max_features: int | None = parameter(
        default=None, check=Whole(1), help="Maximum number of terms.", none="all terms",
        notes="The most frequent ones are kept, equals in the order of the terms.",
    )  # fmt: skip
    dtype: npt.DTypeLike = parameter(
        default=np.float64, check=Dtype(), help="Type of the matrix, float64 or float32."
    )
    threads: int | None = parameter(
        default=None, check=THREADS, help="Number of threads.", none="all cores", run=True
    )
    tokenizer: str | Callable[[str], list[str]] = declared_by(Analyzer, "tokenizer")
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

    def fit(self, texts: Iterable[str] | Any, y: Any = None) -> Self:
        """Learn the terms and how many texts have each. `y` is there for scikit-learn.

        Raises
        ------
        SettingsError
            A setting outside its range.
        DataError
            No term is left, a text is not a string, or what reading a corpus raises.
        """
        self._fit(texts, keep=False)
        return self

    def fit_transform(self, texts: Iterable[str] | Any, y: Any = None) -> csr_matrix:
        """`fit`, and the matrix of the same texts: scipy.sparse CSR, [D, W], indices sorted."""
        from fastseq.text.rows import columns_of

        reading, chosen = self._fit(texts, keep=True)
        return self._matrix(reading, columns_of(chosen, len(reading.terms)))

    def transform(self, texts: Iterable[str] | Any) -> csr_matrix:
        """The matrix of other texts, with the columns and weights that were learned.

        Terms that were not are dropped. Raises NotFittedError when nothing was fitted, DataError as
        `fit`.
        """
        from fastseq.text.counting import read

        learned, threads = self.learned, thread_count(self.threads)
        source = open_texts(texts)
        with source.located():
            reading = read(self.fitted._analyzer(), source.slices(), threads, frequencies=False)
        return self._matrix(reading, learned.dictionary.columns(reading.terms))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """The term of each column, object[W]. `input_features` is there for scikit-learn."""
        return np.array(self.learned.names, dtype=object)

    @property
    def learned(self) -> FittedState:
        """All that fitting learned, as arrays. Raises NotFittedError when nothing was fitted."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        state: FittedState = self._learned
        return state

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

    # ---- saving

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write what was fitted to a folder, whole or not at all.

        Raises
        ------
        SettingsError
            The folder is taken, or the tokenizer is a Python function.
        FastseqError
            Nothing was fitted, or the system refuses.
        """
        from fastseq.features.saved import save

        save(self, path, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote. Of Features it gives the kind that was saved.

        Raises FormatError for a folder that is damaged, of another version, or of another kind.
        """
        from fastseq.features.saved import load

        return load(cls, path)

    def settings(self) -> dict[str, Any]:
        """The parameters as JSON has them. Raises SettingsError for a tokenizer that is a
        function."""
        own = {name: value for name, value in super().settings().items() if name not in _ANALYSIS}
        own |= {"dtype": np.dtype(self.dtype).name, "analyzer": self._analyzer().to_dict()}
        return {"method": self.method, **own}

    @property
    def weights(self) -> dict[str, Float64]:
        """What the terms weigh, float64[W], under the name that a file of terms has it."""
        return {}

    # ---- the work

    def _check(self) -> None:
        self._analyzer()

    def learn(self, learned: FittedState) -> None:
        """Take over a fitted state."""
        self._fitted: Any = self.snapshot()
        self._learned = learned

    def _is_binary(self) -> bool:
        return False

    def _weigh(self, learned: FittedState) -> Weigh | None:
        """What turns counts into weights; None: they stay."""
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
        return self.analyzer

    def _fit(self, texts: Any, keep: bool) -> tuple[Reading, npt.NDArray[np.int32]]:
        """Read and learn; returns what was read and the ids of the columns, in order."""
        from fastseq.text.counting import read
        from fastseq.text.rows import ascending, taken

        self.check()
        threads = thread_count(self.threads)
        occurrences = self.max_features is not None and not self._is_binary()
        source = open_texts(texts)
        with source.located():
            reading = read(
                self._analyzer(), source.slices(), threads, keep=keep, totals=occurrences
            )
        if not len(reading.terms):
            raise DataError(
                "no terms: the texts are empty, or hold nothing that the analyzer keeps"
            )
        low, high = document_bounds(self.min_df, self.max_df, reading.documents)
        chosen = np.flatnonzero((reading.df >= low) & (reading.df <= high)).astype(np.int32)
        if not len(chosen):
            raise DataError("no terms are left: expected a lower min_df or a higher max_df")
        chosen = ascending(reading.terms, chosen, threads)
        if self.max_features is not None and len(chosen) > self.max_features:
            often = (reading.totals if occurrences else reading.df)[chosen]
            most = np.argsort(-often, kind="stable")[: self.max_features]
            chosen = chosen[np.sort(most)]
        terms, df = taken(reading.terms, chosen), reading.df[chosen]
        self.learn(FittedState(terms, df, reading.documents, reading.tokens))
        return reading, chosen

    def _matrix(self, reading: Reading, columns: npt.NDArray[np.int32]) -> csr_matrix:
        import scipy.sparse

        from fastseq.text.rows import matrix

        learned, fitted = self.learned, self.fitted
        width = len(learned.terms)
        rows = matrix(
            reading,
            columns,
            width,
            np.dtype(fitted.dtype),
            thread_count(self.threads),
            binary=fitted._is_binary(),
            weigh=fitted._weigh(learned),
        )
        made = scipy.sparse.csr_matrix(
            (rows.data, rows.indices, rows.indptr), shape=(reading.documents, width), copy=False
        )
        made.has_sorted_indices = True
        made.has_canonical_format = True
        return made
