"""Base class of the models of word vectors: parameters, reading, training, saving."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, SettingsError
from fastseq.estimator import Real, Whole, parameter, plain
from fastseq.interrupts import Interrupts
from fastseq.models.base import WordParameters
from fastseq.models.word_vectors.phrases import Phrases
from fastseq.models.word_vectors.sentences import Sentences, read_sentences, source_of
from fastseq.settings import parse_size, thread_count
from fastseq.store.folder import CHECKPOINT, is_finished
from fastseq.store.outputs import check_folder
from fastseq.threads import Team
from fastseq.training.checkpoint import (
    VECTORS_KIND,
    Checkpoint,
    History,
    refuse_other,
    refuse_other_data,
)
from fastseq.training.hogwild import HogwildSettings, HogwildSteps, Lessons
from fastseq.training.loop import Report, run
from fastseq.types import Float32, Int32, Int64, Texts
from fastseq.vectors.folder import Content, VectorsWriter, read_vectors, write_vectors
from fastseq.vectors.phrases import PHRASES, PhraseTable
from fastseq.vectors.subword_vectors import SUBWORDS, SubwordVectors
from fastseq.vectors.words import WordVectors


class Learner(Lessons, Protocol):
    """The training of a model of word vectors.

    statistics  further statistics for the manifest
    """

    @property
    def statistics(self) -> Mapping[str, Any]: ...

    def measure(self, tokens: Int32, ends: Int64) -> float:
        """The mean loss of held-out sentences; nan where no two words are in one window."""

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays to save: "vectors" float32[V, d], and what further training needs."""

    def compile(self) -> None:
        """Compile the kernels without training, so that the speed reported excludes it."""

    def continue_from(self, start: FittedVectors) -> None:
        """Initialise the first words with their earlier vectors, and other arrays if they fit."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedVectors:
    """Word vectors, and the arrays that further training needs by name."""

    vectors: WordVectors
    further: Mapping[str, Float32]

    @property
    def arrays(self) -> dict[str, Float32]:
        """All arrays: those of `further`, "vectors" and "output" float32[V, d]."""
        found = {**self.further, "vectors": self.vectors.vectors}
        return found if self.vectors.output is None else {**found, "output": self.vectors.output}


class VectorModel(WordParameters[FittedVectors], ABC):
    """A model that learns word vectors.

    Training on several threads is lock-free and not reproducible bit for bit; on one it is.
    """

    kind: ClassVar[str]

    max_vocabulary: int | None = parameter(
        default=None, check=Whole(1), help="Maximum vocabulary size.", none="all words",
        notes="The most frequent words are kept.",
    )  # fmt: skip
    phrases: int = parameter(
        default=0, check=Whole(0, 18), metavar="PASSES",
        help="Number of passes that join neighbouring words into phrases.",
        notes='"new_york" is a word then, before rare words are left out. See Phrases.',
    )  # fmt: skip
    phrase_threshold: float = parameter(
        default=10.0, check=Real(), help="Minimum score of a phrase."
    )

    def fit(
        self,
        corpus: Any,
        *,
        valid: Any = None,
        text_column: str | Sequence[str] | None = None,
        start: WordVectors | VectorModel | str | Path | None = None,
        path: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        checkpoint_seconds: float = 300.0,
        report: Report | None = None,
    ) -> Self:
        """Learn the vectors of a corpus's words.

        Raises SettingsError for a setting out of its range, `start` of other dimensions, or a
        `path` that is taken or has the checkpoint of another training; DataError if the corpus
        cannot be read or no word occurs often enough; TrainingError if the loss becomes infinite;
        and, after the current round, KeyboardInterrupt (Ctrl-C) or SystemExit (SIGTERM): with a
        `path` the checkpoint there has the state, without one this model has, ready for use.

        Parameters
        ----------
        corpus : Parquet files, a folder or a glob; a Corpus, an Arrow table, a data frame; or
            strings. Every row is a sentence, whatever its length
        valid : validation data of the same kind, whose loss is measured after every epoch
        text_column : default: `text` or the only column of strings
        start : vectors to continue from: WordVectors, a model, or a path. Their words come first,
            in their order, then new ones; the output weights of a model or its folder are trained
            further as well, except the tree of the hierarchical loss. Phrases they were trained
            with are joined again, and no others are searched for. Dimensions, n-gram lengths and
            buckets are those of the vectors, unless given
        path : the folder to save in, with checkpoints during training; it is locked at once
        overwrite : replace vectors there
        resume : continue from the checkpoint there, if any. The result of a finished training
            with these settings and data is loaded
        checkpoint_seconds : approximate time between two checkpoints
        report : called after every round with the progress
        """
        self.check()
        if resume and path is None:
            raise SettingsError("resume needs the path of the vectors' folder")
        source = source_of(corpus, text_column)
        begun = None if start is None else _start(start, self.skip_bad_lines)
        model = self if begun is None else self._continuing(begun)
        team = Team(thread_count(self.threads))
        check_folder(path, corpus, valid, start)
        finished = None
        if resume and not overwrite and path is not None and is_finished(path):
            finished = self.load(path)
            refuse_other(Path(path), finished._kept_settings(), model._kept_settings())
        place: AbstractContextManager[VectorsWriter | None] = nullcontext()
        if path is not None and finished is None:
            place = VectorsWriter(path, overwrite, resume)
        with place as writer, Interrupts() as interrupts:
            sentences, phrases = model._read(source, team, begun)
            held_out = None
            if valid is not None:
                held_out = read_sentences(
                    source_of(valid, text_column), model._analyzer(), team.threads,
                    known=sentences.words, fixed=True, memory=parse_size(self.memory),
                    join=phrases.join if phrases is not None else None,
                )  # fmt: skip
            data = model._data(sentences, held_out, begun)
            if finished is not None and path is not None:
                refuse_other_data(Path(path), finished.vectors_.statistics.get("data"), data)
                self._learned = finished._learned
                return self
            learner = model._objective(sentences, team.threads)
            if begun is not None:
                learner.continue_from(begun)
            learner.compile()
            measure = None if held_out is None else partial(_valid_loss, learner, held_out)

            def keep(history: History) -> None:
                self._learned = model._fitted(learner, sentences, phrases, history, begun, data)

            checkpoint = None
            if path is not None:
                threads = thread_count(self.threads)
                identity = {**model._kept_settings(), "threads": threads, **data}
                checkpoint = Checkpoint(Path(path) / CHECKPOINT, identity, VECTORS_KIND)
            steps = HogwildSteps(learner, model._loop_settings(checkpoint_seconds), team, measure)
            history = run(steps, checkpoint, resume, report, None if writer else keep)
            interrupts.hold()  # a signal while writing must not lose the training
            keep(history)
            if writer is not None:
                writer.write(*self._content())
            interrupts.release()
        return self

    def _check(self) -> None:
        super()._check()
        if self.phrases:
            self._phrases().check()

    def _continuing(self, start: FittedVectors) -> Self:
        """The model with the parameters of the vectors to start from, where none are given."""
        found = self._of_start(start).items()
        given = {name: value for name, value in found if not self.is_given(name)}
        return self.snapshot().set_params(**given)

    def _of_start(self, start: FittedVectors) -> dict[str, Any]:
        """Parameters determined by the vectors to start from."""
        return {"dimensions": start.vectors.dimensions}

    @property
    @abstractmethod
    def first_rate(self) -> float:
        """The initial learning rate."""

    @property
    def _last_rate(self) -> float:
        """The final learning rate."""
        return self.first_rate

    @abstractmethod
    def _objective(self, sentences: Sentences, threads: int) -> Learner:
        """The training on these sentences."""

    def _loop_settings(self, checkpoint_seconds: float) -> HogwildSettings:
        first, last = float(self.first_rate), float(min(self._last_rate, self.first_rate))
        return HogwildSettings(
            self.epochs, checkpoint_seconds=checkpoint_seconds, columns=("words", "words_kept"),
            rate=lambda done, total: first + (last - first) * done / total,
        )  # fmt: skip

    def _read(
        self, source: Any, team: Team, start: FittedVectors | None
    ) -> tuple[Sentences, PhraseTable | None]:
        """The sentences of a corpus, and the phrases that are joined in them."""
        known = None if start is None else start.vectors
        if known is not None and known.dimensions != self.dimensions:
            raise SettingsError(
                f"the vectors to start from have {known.dimensions} dimensions, but dimensions is "
                f"{self.dimensions}; expected the same"
            )
        phrases = None if known is None else known.phrases
        finder = self._phrases() if self.phrases and phrases is None else None
        join = finder.learn if finder else phrases.join if phrases is not None else None
        sentences = read_sentences(
            source, self._analyzer(), team.threads,
            min_count=self.min_count, most=self.max_vocabulary,
            known=None if known is None else Texts.from_strings(known.words),
            memory=parse_size(self.memory), join=join,
        )  # fmt: skip
        return sentences, finder.learned if finder else phrases

    def _phrases(self) -> Phrases:
        """Finds the phrases of a corpus: pairs are as frequent as words must be."""
        return Phrases(
            min_count=self.min_count, threshold=self.phrase_threshold, passes=self.phrases,
            threads=self.threads, memory=self.memory,
        )  # fmt: skip

    def _data(
        self, sentences: Sentences, held_out: Sentences | None, start: FittedVectors | None
    ) -> dict[str, Any]:
        """What identifies the data of a training run."""
        return {
            "corpus": _checksum(sentences.words.data, sentences.tokens, sentences.ends),
            "valid": None if held_out is None else _checksum(held_out.tokens, held_out.ends),
            "start": None if start is None else _checksum(*start.arrays.values()),
        }

    def _kept_settings(self) -> dict[str, Any]:
        """The parameters as JSON, without those of a run."""
        return {**super().settings(), "analyzer": self._analyzer().to_dict()}

    def settings(self) -> dict[str, Any]:
        """The parameters as folders of vectors store them: JSON, including those of the run."""
        run = {name: plain(getattr(self, name)) for name, p in self._parameters.items() if p.run}
        return {**self._kept_settings(), **run}

    def _fitted(
        self, learner: Learner, sentences: Sentences, phrases: PhraseTable | None,
        history: History, start: FittedVectors | None, data: Mapping[str, Any],
    ) -> FittedVectors:  # fmt: skip
        counts = sentences.counts.copy()
        if start is not None and start.vectors.counts is not None:
            counts[: len(start.vectors.counts)] += start.vectors.counts
        further = learner.learned()
        found = further.pop("vectors")
        statistics: dict[str, Any] = {"tokens": sentences.read, "sentences": len(sentences.ends)}
        statistics["data"] = dict(data)
        if phrases is not None:
            statistics["phrases"] = len(phrases.phrases_)
        statistics["history"] = {
            name: [None if v != v else v for v in values]
            for name, values in history.columns.items()
        }
        vectors = WordVectors(
            sentences.words.to_strings(), found, counts, self._subwords(further),
            settings={"model": self.kind, **self.settings()},
            statistics={**statistics, **learner.statistics}, output=further.get("output"),
            phrases=phrases,
        )  # fmt: skip
        return FittedVectors(vectors, further)

    def _subwords(self, arrays: Mapping[str, Any]) -> SubwordVectors | None:
        """Makes vectors of unknown words from the arrays learned."""
        return None

    @property
    def vectors_(self) -> WordVectors:
        """The words and their vectors. Raises NotFittedError before `fit`."""
        return self.learned.vectors

    @property
    def history_(self) -> dict[str, list[float | None]]:
        """{name: a value for each epoch}: epoch, train_loss, valid_loss where text was held out,
        words, words_kept, seconds, words_per_second. Raises NotFittedError before `fit`."""
        found: dict[str, list[float | None]] = self.vectors_.statistics.get("history", {})
        return found

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the vectors, and what further training needs. Errors as WordVectors.save."""
        write_vectors(path, *self._content(), overwrite=overwrite)

    def _content(self) -> Content:
        words, arrays, counts, settings, statistics = self.vectors_.content()
        return words, {**arrays, **self.learned.further}, counts, settings, statistics

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load what `save` wrote.

        Raises FormatError for a folder that is missing, damaged, or holds another model's vectors.
        """
        content = read_vectors(path)
        settings = {name: value for name, value in content.settings.items() if name != SUBWORDS}
        if settings.pop("model", None) != cls.kind:
            raise FormatError(f"{path}: vectors of another kind than {cls.kind}")
        try:
            made = cls.from_settings(settings)
        except (TypeError, SettingsError) as error:
            raise FormatError(f"{path}: {error}") from None
        further = {n: a for n, a in content.arrays.items() if n not in ("vectors", PHRASES)}
        made._learned = FittedVectors(WordVectors.of_content(content), further)
        return made


def _start(given: Any, skip_bad_lines: bool) -> FittedVectors:
    """Raises SettingsError for what holds no vectors; for a path what WordVectors.load raises."""
    if isinstance(given, VectorModel):
        return given.learned
    if isinstance(given, WordVectors):
        return FittedVectors(given, {})
    if not isinstance(given, str | Path):
        raise SettingsError(
            f"start is of type {type(given).__name__}; expected WordVectors, a model or a path"
        )
    if not Path(given).is_dir():
        return FittedVectors(WordVectors.load(given, skip_bad_lines=skip_bad_lines), {})
    content = read_vectors(given)
    further = {name: array for name, array in content.arrays.items() if name != PHRASES}
    return FittedVectors(WordVectors.of_content(content), further)


def _valid_loss(learner: Learner, held_out: Sentences) -> dict[str, float]:
    return {"loss": learner.measure(held_out.tokens, held_out.ends)}


def _checksum(*arrays: Any) -> int:
    """CRC-32 of arrays, one after the other."""
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, total)
    return total
