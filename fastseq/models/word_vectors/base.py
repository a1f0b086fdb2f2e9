"""What the models of word vectors share: parameters, reading, training, saving."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, NotFittedError, SettingsError
from fastseq.estimator import Real, Whole, parameter, plain
from fastseq.interrupts import Interrupts
from fastseq.models.parameters import WordParameters
from fastseq.models.word_vectors.phrases import Phrases
from fastseq.models.word_vectors.sentences import Sentences, read_sentences, source_of
from fastseq.settings import parse_size, thread_count
from fastseq.store.folder import CHECKPOINT, is_finished
from fastseq.store.outputs import check_folder
from fastseq.text.analyzer import Analyzer
from fastseq.threads import Team
from fastseq.training.checkpoint import VECTORS_KIND, Checkpoint, refuse_other
from fastseq.training.history import History
from fastseq.training.hogwild import HogwildSettings, HogwildSteps, Lessons
from fastseq.training.loop import run
from fastseq.training.progress import Report
from fastseq.types import Float32, Int32, Int64, Texts
from fastseq.vectors.folder import VectorsWriter, read_vectors, write_vectors
from fastseq.vectors.phrases import ARRAY as PHRASES
from fastseq.vectors.phrases import PhraseTable
from fastseq.vectors.subword_vectors import ARRAY, SubwordVectors
from fastseq.vectors.words import WordVectors


class Learner(Lessons, Protocol):
    """What a model trains."""

    def measure(self, tokens: Int32, ends: Int64) -> float:
        """The mean loss of sentences that are not learned from; nan where no two words meet."""

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """What there is to keep: "vectors" float32[V, d], and what further training needs."""

    def compile(self) -> None:
        """Compile the kernels, without learning: the speed reported is then that of training."""

    def go_on(self, start: Start) -> None:
        """Begin with what was learned before: the vectors of the first words, and what else there
        is of use."""


class VectorModel(WordParameters, ABC):
    """A model that learns word vectors.

    Training on several threads is lock-free, and does not repeat bit for bit; on one it does.
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

    # ---- training

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

        Parameters
        ----------
        corpus : Parquet files, a folder or a glob; a Corpus, an Arrow table, a data frame; or
            strings. Every row is a sentence, whatever its length
        valid : of the same kind: text whose loss is measured after every epoch
        text_column : unless given, `text` or the only column of strings
        start : vectors to continue from: WordVectors, a model, or a path. Their words stay, in
            their order, and new ones come after them; the output weights of a model or its folder
            are trained further as well, except the tree of the hierarchical loss. Phrases that
            they were trained with are joined again, and no others are searched for. Dimensions,
            n-gram lengths and buckets are those of the vectors, unless given
        path : the folder to save in when done, with checkpoints on the way; it is taken at once
        overwrite : replace what stands there
        resume : go on from the checkpoint there; from the beginning where nothing is there. What
            a finished training with these settings left is loaded
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
        KeyboardInterrupt, SystemExit
            Ctrl-C, SIGTERM, after the round under way. With a `path` the checkpoint there holds
            what was learned; without one this model does, ready for use.
        """
        self.check()
        if resume and path is None:
            raise SettingsError("resume needs the path of what to go on with")
        if resume and not overwrite and path is not None and is_finished(path):
            finished = self.load(path)
            refuse_other(Path(path), finished._kept_settings(), self._kept_settings())
            self._learned = finished._learned
            return self
        source = source_of(corpus, text_column)
        begun = None if start is None else _start(start, self.skip_bad_lines)
        model = self if begun is None else self._continuing(begun)
        team = Team(thread_count(self.threads))
        check_folder(path, corpus, valid, start, texts=True)
        place = nullcontext() if path is None else VectorsWriter(path, overwrite, resume)
        with place as writer, Interrupts() as interrupts:
            sentences = model._read(source, team, begun)
            held_out = None
            if valid is not None:
                held_out = read_sentences(
                    source_of(valid, text_column), model._analyzer(), team.threads,
                    known=sentences.words, fixed=True, memory=parse_size(self.memory),
                    phrases=sentences.phrases,
                )  # fmt: skip
            learner = model._objective(sentences, team.threads)
            if begun is not None:
                learner.go_on(begun)
            learner.compile()

            def keep(history: History) -> None:
                self._learned = model._fitted(learner, sentences, history, begun)

            checkpoint = None
            if path is not None:
                identity = model._identity(sentences, held_out, begun)
                checkpoint = Checkpoint(Path(path) / CHECKPOINT, identity, VECTORS_KIND)
            steps = HogwildSteps(
                learner, model._loop_settings(checkpoint_seconds), team,
                None if held_out is None else partial(_valid_loss, learner, held_out),
            )  # fmt: skip
            history = run(steps, checkpoint, resume, report, None if writer else keep)
            interrupts.hold()  # what took hours is not to be lost in the second that writes it
            keep(history)
            if writer is not None:
                writer.commit(*self._content())
            interrupts.release()
        return self

    def _check(self) -> None:
        super()._check()
        if self.phrases:
            self._phrases().check()

    def _continuing(self, start: Start) -> Self:
        """The model with the parameters of the vectors to start from, where none are given."""
        model = self.snapshot()
        found = self._of_start(start).items()
        model.set_params(**{name: value for name, value in found if not self.is_given(name)})
        return model

    def _of_start(self, start: Start) -> dict[str, Any]:
        """Parameters that vectors to start from bring with them."""
        return {"dimensions": start.dimensions}

    @property
    @abstractmethod
    def first_rate(self) -> float:
        """The learning rate that training begins with."""

    @property
    def _last_rate(self) -> float:
        """The learning rate that training ends with."""
        return self.first_rate

    @abstractmethod
    def _objective(self, sentences: Sentences, parts: int) -> Learner:
        """What is trained on these sentences, by so many threads."""

    def _loop_settings(self, checkpoint_seconds: float) -> HogwildSettings:
        first, last = float(self.first_rate), float(min(self._last_rate, self.first_rate))
        return HogwildSettings(
            self.epochs, checkpoint_seconds=checkpoint_seconds, columns=("words", "words_kept"),
            rate=lambda done, total: first + (last - first) * done / total,
        )  # fmt: skip

    def _analyzer(self) -> Analyzer:
        return self.analyzer if self.analyzer is not None else Analyzer()

    def _read(self, source: Any, team: Team, start: Start | None) -> Sentences:
        if start is not None and start.dimensions != self.dimensions:
            raise SettingsError(
                f"the vectors to start from have {start.dimensions} dimensions, but dimensions is "
                f"{self.dimensions}; expected the same"
            )
        known = None if start is None else start.phrases
        return read_sentences(
            source, self._analyzer(), team.threads,
            min_count=self.min_count, most=self.max_vocabulary,
            known=None if start is None else Texts.from_strings(start.words),
            memory=parse_size(self.memory),
            phrases=known, finder=self._phrases() if self.phrases else None,
        )  # fmt: skip

    def _phrases(self) -> Phrases:
        """What finds the phrases of a corpus. Pairs are as frequent as words must be."""
        return Phrases(
            min_count=self.min_count, threshold=self.phrase_threshold, passes=self.phrases,
            threads=self.threads, memory=self.memory,
        )  # fmt: skip

    def _identity(
        self, sentences: Sentences, held_out: Sentences | None, start: Start | None
    ) -> dict[str, Any]:
        """What makes a training the same one."""
        return {
            **self._kept_settings(),
            "threads": thread_count(self.threads),
            "corpus": _checksum(sentences.words.data, sentences.tokens, sentences.ends),
            "valid": None if held_out is None else _checksum(held_out.tokens, held_out.ends),
            "start": None if start is None else _checksum(*start.arrays.values()),
        }

    def _kept_settings(self) -> dict[str, Any]:
        """The parameters as JSON, without those of a run."""
        return {**super().settings(), "analyzer": self._analyzer().to_dict()}

    def settings(self) -> dict[str, Any]:
        """The parameters as folders of vectors keep them: JSON, those of the run as well."""
        run = {name: plain(getattr(self, name)) for name, p in self._parameters.items() if p.run}
        return {**self._kept_settings(), **run}

    def _fitted(
        self, learner: Learner, sentences: Sentences, history: History, start: Start | None
    ) -> FittedVectors:
        counts = sentences.counts.copy()
        if start is not None and start.counts is not None:
            counts[: len(start.counts)] += start.counts
        arrays = learner.learned()
        statistics = {"tokens": sentences.read, "sentences": len(sentences.ends)}
        if sentences.phrases is not None:
            statistics["phrases"] = len(sentences.phrases.phrases_)
        columns = history.columns
        told = {name: [None if v != v else v for v in values] for name, values in columns.items()}
        vectors = WordVectors(
            sentences.words.to_strings(), arrays["vectors"], counts, self._pieces(arrays),
            settings={"model": self.kind, **self.settings()},
            statistics={**statistics, "history": told}, output=_output(arrays),
            phrases=sentences.phrases,
        )  # fmt: skip
        further = {name: a for name, a in arrays.items() if name != "vectors"}
        return FittedVectors(vectors, told, further)

    def _pieces(self, arrays: Mapping[str, Any]) -> SubwordVectors | None:
        """What makes vectors of words never seen, of the arrays that were learned."""
        return None

    # ---- fitted state

    @property
    def learned(self) -> FittedVectors:
        """The fitted state. Raises NotFittedError before `fit`."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        state: FittedVectors = self._learned
        return state

    @property
    def vectors_(self) -> WordVectors:
        """The words and their vectors. Raises NotFittedError before `fit`."""
        return self.learned.vectors

    @property
    def history_(self) -> dict[str, list[float | None]]:
        """{name: a value for each epoch}: epoch, train_loss, valid_loss where text was held out,
        words, words_kept, seconds, words_per_second. Raises NotFittedError before `fit`."""
        return self.learned.history

    # ---- files

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the vectors, and what further training needs. Errors as WordVectors.save."""
        write_vectors(path, *self._content(), overwrite=overwrite)

    def _content(
        self,
    ) -> tuple[list[str], dict[str, Any], Int64 | None, dict[str, Any], dict[str, Any]]:
        """Words, arrays, counts, settings and statistics, as they are written."""
        found = self.vectors_
        arrays: dict[str, Any] = {"vectors": found.vectors, **self.learned.further}
        settings = dict(found.settings)
        if found.phrases is not None:
            arrays[PHRASES] = found.phrases.to_array()
        if found.subwords is not None:
            settings[ARRAY] = dict(found.subwords.settings)
        return found.words, arrays, found.counts, settings, found.statistics

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote.

        Raises FormatError for a folder that is none, is damaged, or holds another model's vectors.
        """
        content = read_vectors(path)
        settings = dict(content.settings)
        settings.pop(ARRAY, None)
        if settings.pop("model", None) != cls.kind:
            raise FormatError(f"{path}: vectors of another kind than {cls.kind}")
        try:
            made = cls.from_settings(settings)
        except (TypeError, SettingsError) as error:
            raise FormatError(f"{path}: {error}") from None
        further = {n: a for n, a in content.arrays.items() if n not in ("vectors", PHRASES)}
        history = content.statistics.get("history", {})
        made._learned = FittedVectors(WordVectors.of_content(content), history, further)
        return made


@dataclass(frozen=True, slots=True, eq=False)
class FittedVectors:
    """The fitted state.

    vectors  the words and their vectors, with the settings that they were trained with
    history  {name: a value for each epoch}
    further  {name: array} besides the vectors, for further training
    """

    vectors: WordVectors
    history: dict[str, list[float | None]]
    further: Mapping[str, Float32]


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a training continues from: "vectors" [V, d] among the arrays, and "output" where a model
    left it; what makes vectors of other words, where n-grams do; the phrases that are words."""

    words: list[str]
    counts: Int64 | None
    arrays: dict[str, Float32]
    pieces: SubwordVectors | None
    phrases: PhraseTable | None = None

    @property
    def dimensions(self) -> int:
        return int(self.arrays["vectors"].shape[1])


def _start(given: Any, skip_bad_lines: bool) -> Start:
    """Raises SettingsError for what holds no vectors; for a path what WordVectors.load raises."""
    further: Mapping[str, Float32] = {}
    if isinstance(given, str | Path):
        if Path(given).is_dir():
            content = read_vectors(given)
            found, further = WordVectors.of_content(content), content.arrays
        else:
            found = WordVectors.load(given, skip_bad_lines=skip_bad_lines)
    elif isinstance(given, VectorModel):
        found, further = given.vectors_, given.learned.further
    elif isinstance(given, WordVectors):
        found = given
    else:
        raise SettingsError(
            f"start is of type {type(given).__name__}; expected WordVectors, a model or a path"
        )
    arrays = {**further, "vectors": found.vectors}
    if found.output is not None:
        arrays["output"] = found.output
    pieces = found.subwords if isinstance(found.subwords, SubwordVectors) else None
    arrays.pop(PHRASES, None)
    return Start(found.words, found.counts, arrays, pieces, found.phrases)


def _valid_loss(learner: Learner, held_out: Sentences) -> dict[str, float]:
    return {"loss": learner.measure(held_out.tokens, held_out.ends)}


def _output(arrays: Mapping[str, Float32]) -> Float32 | None:
    """The vectors of words as what is predicted, where there are such."""
    output = arrays.get("output")
    return output if output is not None and output.shape == arrays["vectors"].shape else None


def _checksum(*arrays: Any) -> int:
    """CRC-32 of arrays, one after the other."""
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, total)
    return total
