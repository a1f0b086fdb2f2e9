"""What the models of word vectors share: settings, reading, training, saving."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from fastseq.errors import FormatError, NotFittedError, SettingsError
from fastseq.manners import Manners
from fastseq.settings import parse_size, real, seed_number, thread_count, whole
from fastseq.store.corpus import Corpus
from fastseq.store.manifest import MANIFEST
from fastseq.store.texts import is_source
from fastseq.store.vector_folder import read_vectors, write_vectors
from fastseq.text.analyzer import Analyzer
from fastseq.threads import Team
from fastseq.types import Float32, Texts
from fastseq.vectors.checkpoint import Checkpoint, is_begun
from fastseq.vectors.sentences import Sentences, read_sentences
from fastseq.vectors.training import Objective, Report, Settings, State, train
from fastseq.vectors.words import WordVectors

# settings of one run, not of what is learned
RUN = frozenset({"threads", "memory"})


class Learner(Objective, Protocol):
    """What a model trains. `dimensions` of the W columns of its arrays count, the rest is zero."""

    dimensions: int


class VectorModel(Manners, ABC):
    """A model that learns word vectors. Settings are those of its constructor."""

    kind: ClassVar[str]

    dimensions: int
    min_count: int
    max_vocabulary: int | None
    epochs: int
    learning_rate: float | None
    last_rate: float
    analyzer: Analyzer | None
    seed: int
    threads: int | None
    memory: str | int

    _vectors: WordVectors | None = None
    _history: dict[str, list[float]] | None = None
    _further: Mapping[str, Float32] | None = None  # arrays beside the vectors, for further training

    # ---- training

    def fit(
        self,
        corpus: Any,
        *,
        valid: Any = None,
        text_column: str | Sequence[str] | None = None,
        start: WordVectors | None = None,
        path: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        checkpoint_seconds: float = 300.0,
        report: Report | None = None,
    ) -> Self:
        """Learn the vectors of a corpus's words.

        Parameters
        ----------
        corpus : Parquet files, a folder or a glob; a Corpus, an Arrow table, a data frame; or
            strings. Every row is a sentence, whatever its length
        valid : of the same kind: text whose loss is measured after every epoch
        text_column : unless given, `text` or the only column of strings
        start : vectors to go on from. Their words stay, in their order, and new ones come after
            them; with vectors that this model trained, what it predicts by goes on as well
        path : the folder to save in when done, with checkpoints on the way
        overwrite : replace what stands there
        resume : go on from the checkpoint there; from the beginning where there is none
        checkpoint_seconds : between two checkpoints, about
        report : told after every round how far training has come

        Raises
        ------
        SettingsError
            A setting out of its range; `start` of other dimensions; `path` is taken, or the
            checkpoint there is of another training.
        DataError
            The corpus cannot be read, or no word occurs often enough.
        TrainingError
            The loss is no longer finite.
        KeyboardInterrupt
            Ctrl-C, after the round under way; with a `path` it is saved.
        """
        self.check()
        if path is not None:
            _refuse(Path(path), overwrite, resume)
        team = Team(thread_count(self.threads))
        sentences = self._read(corpus, text_column, team, start)
        held_out = None
        if valid is not None:
            held_out = read_sentences(
                _source(valid, text_column), self._analyzer(), team.threads,
                known=sentences.words, fixed=True, memory=parse_size(self.memory),
            )  # fmt: skip
        learner = self._objective(sentences, team.threads)
        if start is not None:
            _go_on(learner.arrays, start)
        state, save = State(), None
        if path is not None:
            checkpoint = Checkpoint(path, self._identity(sentences, start))
            if resume and is_begun(path):
                state = checkpoint.load(learner.arrays)

            def save(state: State) -> None:
                checkpoint.save(state, learner.arrays)

        settings = Settings(
            self.epochs, self.first_rate, min(self.last_rate, self.first_rate), self.seed,
            checkpoint_seconds,
        )  # fmt: skip
        train(learner, sentences, settings, team, state, held_out, report, save)
        self._keep(learner, sentences, state, start)
        if path is not None:
            self.save(path, overwrite=True)
        return self

    def check(self) -> None:
        """Raise SettingsError for a setting that is out of its range."""
        self._check_kind()
        whole("dimensions", self.dimensions, 1, 1 << 16)
        whole("min_count", self.min_count, 1)
        if self.max_vocabulary is not None:
            whole("max_vocabulary", self.max_vocabulary, 1)
        whole("epochs", self.epochs, 1)
        seed_number(self.seed)
        for name, value in (("learning_rate", self.first_rate), ("last_rate", self.last_rate)):
            real(name, value, lambda rate: 0 <= rate <= 10, "from 0 to 10")
        if self.analyzer is not None and not isinstance(self.analyzer, Analyzer):
            raise SettingsError(f"analyzer is {self.analyzer!r}; expected an Analyzer or None")

    @property
    @abstractmethod
    def first_rate(self) -> float:
        """The learning rate that training begins with."""

    @abstractmethod
    def _check_kind(self) -> None:
        """The model's own part of `check`."""

    @abstractmethod
    def _objective(self, sentences: Sentences, parts: int) -> Learner:
        """What is trained on these sentences, by so many threads."""

    def _analyzer(self) -> Analyzer:
        return self.analyzer if self.analyzer is not None else Analyzer()

    def _read(
        self, corpus: Any, text_column: Any, team: Team, start: WordVectors | None
    ) -> Sentences:
        if start is not None and start.vectors.shape[1] != self.dimensions:
            raise SettingsError(
                f"the vectors to go on from have {start.vectors.shape[1]} dimensions, but "
                f"dimensions is {self.dimensions}; expected the same"
            )
        return read_sentences(
            _source(corpus, text_column), self._analyzer(), team.threads,
            min_count=self.min_count, most=self.max_vocabulary,
            known=None if start is None else Texts.from_strings(start.words),
            memory=parse_size(self.memory),
        )  # fmt: skip

    def _identity(self, sentences: Sentences, start: WordVectors | None) -> dict[str, Any]:
        """What makes a training the same one."""
        settings = self._settings()
        return {
            **{name: settings[name] for name in settings if name not in RUN},
            "threads": thread_count(self.threads),
            "words": len(sentences.words),
            "tokens": len(sentences.tokens),
            "checksum": zlib.crc32(sentences.words.data.data, zlib.crc32(sentences.tokens.data)),
            "start": None if start is None else zlib.crc32(start.vectors.data),
        }

    def _settings(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        said = self.get_params()
        said["analyzer"] = self._analyzer().to_dict()
        return said

    def _keep(
        self, learner: Learner, sentences: Sentences, state: State, start: WordVectors | None
    ) -> None:
        counts = sentences.counts.copy()
        if start is not None and start.counts is not None:
            counts[: len(start.counts)] += start.counts
        arrays = {
            name: np.ascontiguousarray(array[:, : learner.dimensions])
            for name, array in learner.arrays.items()
        }
        statistics = {"tokens": sentences.read, "sentences": len(sentences.ends)}
        self._further = {name: a for name, a in arrays.items() if name != "vectors"}
        self._history = state.history
        self._vectors = WordVectors(
            sentences.words.to_strings(), arrays["vectors"], counts,
            settings={"model": self.kind, **self._settings()},
            statistics={**statistics, "history": state.history},
        )  # fmt: skip

    # ---- what was learned

    @property
    def vectors_(self) -> WordVectors:
        """The words and their vectors. Raises NotFittedError before `fit`."""
        if self._vectors is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        return self._vectors

    @property
    def history_(self) -> dict[str, list[float]]:
        """{name: a value for each epoch}: epoch, train_loss, valid_loss where text was held out,
        words, words_kept, seconds, words_per_second. Raises NotFittedError before `fit`."""
        self.vectors_  # noqa: B018
        return self._history or {}

    # ---- files

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the vectors, and what further training needs. Errors as WordVectors.save."""
        found = self.vectors_
        write_vectors(
            path, found.words, {"vectors": found.vectors, **(self._further or {})}, found.counts,
            found.settings, found.statistics, overwrite, keep_checkpoint=is_begun(path),
        )  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote.

        Raises FormatError for a folder that is none, is damaged, or holds another model's vectors.
        """
        content = read_vectors(path)
        settings = dict(content.settings)
        if settings.pop("model", None) != cls.kind:
            raise FormatError(f"{path}: vectors of another kind than {cls.kind}")
        try:
            settings["analyzer"] = Analyzer.from_dict(settings["analyzer"])
            made = cls(**settings)
        except (KeyError, TypeError) as error:
            raise FormatError(
                f"{path}: settings that this version does not know: {error}"
            ) from None
        made._vectors = WordVectors.load(path)
        made._history = content.statistics.get("history", {})
        made._further = {n: a for n, a in content.arrays.items() if n != "vectors"}
        return made


def _source(corpus: Any, text_column: str | Sequence[str] | None) -> Any:
    """A corpus as read_sentences takes it."""
    paths = isinstance(corpus, list | tuple) and all(isinstance(part, Path) for part in corpus)
    if paths or (text_column is not None and is_source(corpus)):
        return Corpus.open(corpus, text_columns=text_column)
    return corpus


def _refuse(path: Path, overwrite: bool, resume: bool) -> None:
    """Raise SettingsError, before anything is read, where the place is taken."""
    stands = (path / MANIFEST).exists()
    if (stands or is_begun(path)) and not (overwrite or resume):
        what = "already stands" if stands else "holds the checkpoint of a training that did not end"
        raise SettingsError(
            f"{path} {what}: resume (--resume) to go on, or overwrite (--overwrite) to replace it"
        )


def _go_on(arrays: dict[str, Float32], start: WordVectors) -> None:
    """Begin with what others learned: their words are the first rows."""
    V, d = start.vectors.shape
    arrays["vectors"][:V, :d] = start.vectors
