"""What the three kinds of features share: reading, choosing terms, scikit-learn's manners."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, NotFittedError, SettingsError
from fastseq.features.checks import check_bounds, document_bounds
from fastseq.settings import thread_count
from fastseq.store.texts import open_texts
from fastseq.text.analyzer import Analyzer
from fastseq.types import Float64, Int64, Texts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from fastseq.text.counting import Reading
    from fastseq.text.rows import Dictionary, Weigh

_ANALYSIS = tuple(field.name for field in fields(Analyzer))


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


class Features(ABC):
    """What the three kinds of features share.

    Parameters
    ----------
    analyzer : what a term is; unless given, Analyzer(**analysis)
    min_df, max_df : terms in fewer or in more texts are dropped; a whole number counts texts, a
        float is a share of them
    max_features : keep the terms that occur most often, equals in the order of the terms
    dtype : of the matrix
    threads : to work with; None for every core
    analysis : settings of the Analyzer by name, such as ngrams=(1, 2); not beside `analyzer`

    Texts are an iterable of strings, or of fastseq.types.Texts; an Arrow column; or a corpus: a
    path to Parquet, a fastseq.Corpus, an Arrow table, a data frame.

    Raises SettingsError, when fitted, for a setting outside its range.
    """

    method: ClassVar[str]

    analyzer: Analyzer | None
    min_df: float
    max_df: float
    max_features: int | None
    dtype: npt.DTypeLike
    threads: int | None

    def _store(self, settings: Mapping[str, Any], analysis: Mapping[str, Any]) -> None:
        """Keep what the constructor was given, as it is."""
        unknown = sorted(analysis.keys() - set(_ANALYSIS))
        if unknown:
            raise SettingsError(
                f"{type(self).__name__} has no setting {unknown[0]!r}; "
                f"it has {', '.join(self._own_names())}, and of the analyzer {', '.join(_ANALYSIS)}"
            )
        for name in self._own_names():
            setattr(self, name, settings[name])
        self._analysis = dict(analysis)
        self._learned: FittedState | None = None

    @classmethod
    def _own_names(cls) -> list[str]:
        """The constructor's parameters beside those of the analyzer."""
        parameters = inspect.signature(cls).parameters.values()
        return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]

    # ---- scikit-learn's manners

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name. `deep` is there for scikit-learn."""
        return {name: getattr(self, name) for name in self._own_names()} | self._analysis

    def set_params(self, **settings: Any) -> Self:
        """Change settings by name; fit again for them to count.

        Raises SettingsError for a name that is none.
        """
        own = self._own_names()
        for name, value in settings.items():
            if name in own:
                setattr(self, name, value)
            elif name in _ANALYSIS:
                self._analysis[name] = value
            else:
                raise SettingsError(f"{type(self).__name__} has no setting {name!r}")
        return self

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

        learned = self.learned
        self.check()
        threads = thread_count(self.threads)
        source = open_texts(texts)
        with source.located():
            reading = read(self._analyzer(), source.slices(), threads, frequencies=False)
        return self._matrix(reading, learned.dictionary.columns(reading.terms))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """The term of each column, object[W]. `input_features` is there for scikit-learn."""
        return np.array(self.learned.names, dtype=object)

    @property
    def learned(self) -> FittedState:
        """All that fitting learned, as arrays. Raises NotFittedError when nothing was fitted."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        return self._learned

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

    def __sklearn_is_fitted__(self) -> bool:
        return self._learned is not None

    def __sklearn_tags__(self) -> Any:
        """Asked for by scikit-learn alone, which is then there to be imported."""
        from sklearn.utils import (  # type: ignore[import-untyped,unused-ignore]
            InputTags,
            Tags,
            TargetTags,
            TransformerTags,
        )

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(two_d_array=False, string=True),
        )

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        shown = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if name not in defaults or value is not defaults[name].default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

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
        """The settings as JSON has them. Raises SettingsError for a tokenizer of your own."""
        own = {name: getattr(self, name) for name in self._own_names() if name != "threads"}
        own |= {"dtype": np.dtype(self.dtype).name, "analyzer": self._analyzer().to_dict()}
        return {"method": self.method, **own}

    @property
    def weights(self) -> dict[str, Float64]:
        """What the terms weigh, float64[W], under the name that a file of terms has it."""
        return {}

    # ---- the work

    def check(self) -> None:
        """Raise SettingsError for a setting that is out of its range."""
        check_bounds(self.min_df, self.max_df, self.max_features)
        self._check_kind()

    @abstractmethod
    def _check_kind(self) -> None:
        """The same for the settings of this kind alone."""

    def learn(self, learned: FittedState) -> None:
        """Take over what was learned elsewhere."""
        self._learned = learned

    def _is_binary(self) -> bool:
        return False

    def _weigh(self, learned: FittedState) -> Weigh | None:
        """What turns counts into weights; None: they stay."""
        return None

    def _analyzer(self) -> Analyzer:
        if self.analyzer is None:
            return Analyzer(**self._analysis)
        if self._analysis:
            named = ", ".join(self._analysis)
            raise SettingsError(f"{named}: not beside analyzer, which has its own")
        if not isinstance(self.analyzer, Analyzer):
            raise SettingsError(f"analyzer is {self.analyzer!r}; expected a fastseq.Analyzer")
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
        self._learned = FittedState(terms, df, reading.documents, reading.tokens)
        return reading, chosen

    def _matrix(self, reading: Reading, columns: npt.NDArray[np.int32]) -> csr_matrix:
        import scipy.sparse

        from fastseq.text.rows import matrix

        learned = self.learned
        width = len(learned.terms)
        rows = matrix(
            reading,
            columns,
            width,
            np.dtype(self.dtype),
            thread_count(self.threads),
            binary=self._is_binary(),
            weigh=self._weigh(learned),
        )
        made = scipy.sparse.csr_matrix(
            (rows.data, rows.indices, rows.indptr), shape=(reading.documents, width), copy=False
        )
        made.has_sorted_indices = True
        made.has_canonical_format = True
        return made
