"""FastTextClassifier: labels of texts from the mean of their words' rows.

model = FastTextClassifier(word_ngrams=2, epochs=10, learning_rate=0.5)
model.fit("train.parquet", valid="valid.parquet")
model.predict(["How far is it?"])
model.export("model.bin")           # for fastText's own program

Source: Joulin, Grave, Bojanowski & Mikolov 2016, "Bag of Tricks for Efficient Text Classification".
What the paper leaves open is as in its authors' program, except the order of the texts, which
changes in every epoch here.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, DeviceError, SettingsError
from fastseq.estimator import Choice, Location, Real, Text, Whole, parameter
from fastseq.interrupts import Interrupts
from fastseq.models.base import SubwordParameters, TextClassifier
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import LabelBuilder
from fastseq.models.data.vocabulary import coverage_of
from fastseq.models.fasttext.network import LOSSES, FittedState, LabelLessons, first_rows, padded
from fastseq.models.fasttext.rows import (
    SEVERAL,
    LabelledRows,
    Ngrams,
    Words,
    encoded,
    joined_labels,
    numbered,
)
from fastseq.models.folder import ModelFolder, ModelWriter
from fastseq.models.metrics import LabelCounts
from fastseq.settings import one_of, parse_size, real, thread_count
from fastseq.store.folder import is_finished
from fastseq.store.outputs import check_folder, check_output
from fastseq.text.subwords import Subwords
from fastseq.threads import Team
from fastseq.training.checkpoint import History, fingerprint_of, refuse_other, refuse_other_data
from fastseq.training.hogwild import HogwildSettings, HogwildSteps
from fastseq.training.loop import CHECKPOINT_SECONDS, Report, run
from fastseq.types import Float32, Int32, Int64, Tokens, offsets_of
from fastseq.vectors.formats import read_word_vectors

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

DEVICES = ("auto", "cpu", "cuda")
THRESHOLD = 0.5  # probability from which one of several labels is predicted


class FastTextClassifier(TextClassifier[FittedState], SubwordParameters[FittedState]):
    """Text classification by the mean of word and n-gram vectors, with one label or several.

    A text without known words gets the prediction for the end-of-line token. With the losses
    "negative" and "ova" the probability of each label is independent: those of a text do not add
    up to 1.

    Training on several threads is lock-free and not reproducible bit for bit; on one it is.

    Attributes
    ----------
    classes_ : array[K], the labels in ascending order, of their own type
    history_ : {name: a value for each epoch}: epoch, train_loss, validation measures, words,
        seconds, words_per_second
    report_ : counts of what was read
    n_parameters_ : the number of weights
    confusion_ : of the last `evaluate` of rows with one label
    vectors_coverage_ : how much of the vocabulary `vectors` cover; None without
    """

    kind: ClassVar[str] = "fasttext"

    loss: str = parameter(
        default="softmax", check=Choice(LOSSES),
        help="Loss: softmax, hierarchical softmax, negative sampling or one-vs-all (ova).",
        notes='"hierarchical" suits many labels, "ova" rows with several labels.',
    )  # fmt: skip
    word_ngrams: int = parameter(
        default=1, check=Whole(1, 1 << 10), help="Maximum length of word n-grams."
    )
    min_n: int = 0
    max_n: int = 0
    min_count: int = 1
    negatives: int = parameter(
        default=5, check=Whole(1), help="Negative samples, with the loss negative.",
        section="Training",
    )  # fmt: skip
    vectors: str | Path | None = parameter(
        default=None, check=Location(), none="random vectors", metavar="FILE",
        help="File or folder of pretrained word vectors to start from.",
        notes="All their words are in the vocabulary.",
    )  # fmt: skip
    label_separator: str | None = parameter(
        default=None, check=Text(), none="one label per row", metavar="S",
        help="Separator between the labels of a row with several, such as a comma.",
    )  # fmt: skip
    learning_rate: float = parameter(
        default=0.1, check=Real(above=0, below=1e6), section="Training",
        help="Initial learning rate; it decays linearly to 0.",
    )  # fmt: skip

    def fit(
        self,
        corpus: Any,
        y: Any = None,
        *,
        valid: Any = None,
        text_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
        path: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        progress: Report | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> Self:
        """Learn from texts with labels.

        Raises SettingsError for a setting out of its range, vectors of other dimensions or a `path`
        that is taken; DataError, naming file, row and column, for data that cannot be read or
        learned from; TrainingError if the loss becomes infinite; and, after the current round,
        KeyboardInterrupt (Ctrl-C) or SystemExit (SIGTERM): with a `path` the checkpoint there has
        the state, without one this model has, ready for use.

        Parameters
        ----------
        corpus : paths of Parquet files, an Arrow table or stream, a data frame; or a list of texts
            and `y`
        y : the label of each text, or a list of labels for each
        valid : validation data of the same kinds, evaluated after each epoch; (texts, y) for lists.
            The last weights are kept, whatever the results
        text_column, label_column : column names; guessed unless given
        path : the folder to save in, with checkpoints during training; it is locked at once
        overwrite : replace a model there
        resume : continue from the checkpoint there; a finished model there with the same settings
            and data is loaded
        progress : called after every round with the progress
        checkpoint_seconds : approximate time between two checkpoints
        """
        self.check()
        if resume and path is None:
            raise SettingsError("resume needs the path of the model's folder")
        columns = self._named_columns(text_column=text_column, label_column=label_column)
        finished = None
        if resume and not overwrite and path is not None and is_finished(path):
            finished = self.load(path, self.threads)
            refuse_other(Path(path), finished.settings(), self.settings())
        team = Team(thread_count(self.threads))
        check_folder(path, corpus, valid, self.vectors)
        place: AbstractContextManager[ModelWriter | None] = nullcontext()
        if path is not None and finished is None:
            place = ModelWriter(path, overwrite, resume)
        with place as writer, Interrupts() as interrupts:
            learned, data, measure = self._task(corpus, y, valid, columns, team)
            learned.settings = self.settings()
            identity = self._identity(learned, data)
            # a checksum of the labels, which the manifest already has
            labels = json.dumps(identity["data"]["labels"], sort_keys=True)
            learned.data = {**identity["data"], "labels": zlib.crc32(labels.encode())}
            if finished is not None and path is not None:
                refuse_other_data(Path(path), finished.learned.data, learned.data)
                self._learned = finished._learned
                return self
            lessons = LabelLessons(learned, data, self.negatives, self.seed, team.threads)
            checkpoint = writer.checkpoint(identity, stays=False) if writer else None
            rate = float(self.learning_rate)
            settings = HogwildSettings(
                self.epochs, checkpoint_seconds=checkpoint_seconds,
                rate=lambda done, total: rate * (1 - done / total),
            )  # fmt: skip
            steps = HogwildSteps(lessons, settings, team, measure, [learned.outputs])

            def keep(history: History) -> None:
                learned.history = history
                self._learned = learned

            history = run(steps, checkpoint, resume, progress, None if writer else keep)
            interrupts.hold()  # a signal while writing must not lose the training
            keep(history)
            if writer is not None:
                writer.commit(self.kind, *learned.content())
            interrupts.release()
        return self

    def _identity(self, learned: FittedState, data: LabelledRows) -> dict[str, Any]:
        """What identifies a training run."""
        words, labels = learned.encoder.words, learned.labels
        texts = fingerprint_of(words.data, learned.encoder.used, data.rows, data.ends)
        return {
            "model": self.kind,
            "settings": {**self.settings(), "threads": thread_count(self.threads)},
            "data": {
                "texts": texts, "labels": labels.to_dict(),
                "labels of texts": fingerprint_of(data.labels, data.label_ends),
            },
        }  # fmt: skip

    def _task(
        self, corpus: Any, y: Any, valid: Any, columns: Mapping[str, Any], team: Team
    ) -> tuple[FittedState, LabelledRows, Callable[[], dict[str, float]] | None]:
        """Read the data: the initial state, the training texts, and what to call for validation."""
        memory = parse_size(self.memory)
        y, several = self._targets(y)
        reader = self._open(corpus, y, columns)
        if several is not None and reader.label_type != "string":
            raise DataError(
                f"{reader.sources[0].name}: labels are {reader.label_type}; expected strings, "
                "where a row has several of them"
            )
        builder = LabelBuilder(reader.label_type or "string")
        words = Words.read(reader, self._analyzer(), builder.add, several, team.threads, memory)
        where = reader.sources[0].name
        if not words.report.rows:
            raise DataError(f"{where}: no rows to learn from")
        if not len(words.tokens):
            raise DataError(f"{where}: no words in any text after analysis")
        labels, order = builder.finish(source=where)
        words.labels = order[words.labels]
        known, vectors = self._vectors(team)
        texts, counts, own = words.choose(self.min_count, known)
        words.report.unknown = int(words.counts[:-1][own[:-1] < 0].sum())
        encoder, data = words.rows(self._analyzer(), self._ngrams(), texts, own, memory)
        if len(encoder) < 2:  # only the end-of-line token
            raise DataError(
                f"{where}: no word occurs {self.min_count:,} times: expected a lower min_count, or "
                "more text"
            )
        inputs = first_rows(len(encoder), self.dimensions, self.seed)
        if vectors is not None:
            at = {word: number for number, word in enumerate(texts.to_strings())}
            inputs[[at[word] for word in known], : self.dimensions] = vectors
        outputs = padded(len(labels) - (self.loss == "hierarchical"), self.dimensions)
        learned = FittedState(
            encoder, counts, labels, several, self.loss, inputs, outputs, reader.fields,
            self.dimensions, int(data.sizes.sum()),
        )  # fmt: skip
        learned.reports["training"] = words.report
        if vectors is not None:
            found = np.zeros(len(counts), np.bool_)
            found[[at[word] for word in known]] = True
            learned.coverage = coverage_of(counts[1:], found[1:])  # without end-of-line
        if valid is None:
            return learned, data, None
        return learned, data, self._measure(learned, valid, columns, reader)

    def _measure(
        self, learned: FittedState, valid: Any, columns: Mapping[str, Any], like: RowReader
    ) -> Callable[[], dict[str, float]]:
        """What to call for the validation measures; the texts are read once."""
        if isinstance(valid, tuple) and len(valid) == 2:
            valid = valid[0], self._joined(valid[1], learned.several)
        reader = self._open_valid(valid, columns, like)
        report = learned.reports["validation"] = ReadReport()
        parts = [(rows, *self._codes(learned, batch, report)) for batch, rows in
                 encoded(learned.encoder, reader, report)]  # fmt: skip
        if not any((codes >= 0).any() for _, codes, _ in parts):
            raise DataError(
                f"{reader.sources[0].name}: every label is unseen in training, or there are no "
                "rows: nothing to measure"
            )

        def measured() -> dict[str, float]:
            evaluation = FastTextEvaluation(learned)
            for rows, codes, ends in parts:
                evaluation.add(learned.probabilities(rows), codes, ends)
            return evaluation.validation(report)

        return measured

    def _check(self) -> None:
        self._ngrams()
        analyzer = self._analyzer()
        if analyzer.ngrams != (1, 1) or analyzer.char_ngrams is not None:
            raise SettingsError(
                "expected an analyzer without n-grams: set word_ngrams, min_n and max_n"
            )

    @property
    def history_(self) -> dict[str, list[float]]:
        """{name: a value for each epoch}."""
        return self.learned.history.columns

    @property
    def n_parameters_(self) -> int:
        """The number of weights."""
        return sum(map(len, (self.learned.inputs, self.learned.outputs))) * self.learned.dimensions

    @property
    def vectors_coverage_(self) -> dict[str, int] | None:
        """How much of the vocabulary `vectors` cover, see Vocabulary.coverage; None without."""
        return self.learned.coverage

    def predict_several(
        self,
        examples: Any,
        threshold: float = THRESHOLD,
        *,
        text_column: str | Sequence[str] | None = None,
    ) -> list[list[Any]]:
        """The labels of each text with at least the probability `threshold`, in descending order;
        for the loss "ova"."""
        real("threshold", threshold, lambda t: 0 <= t <= 1, "0 to 1")
        values = self.learned.labels.values
        return [
            [values[k] for k in np.argsort(-row, kind="stable").tolist() if row[k] >= threshold]
            for row in self.predict_proba(examples, text_column=text_column)
        ]

    def evaluate(
        self,
        examples: Any,
        y: Any = None,
        *,
        text_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
    ) -> dict[str, float]:
        """{"accuracy", "macro_f1", "loss" in nats, "unknown_rate" of the words}; `confusion_` has
        the counts.

        For rows with several labels: {"accuracy": of the most probable label, "recall": the share
        of all labels that are the most probable one, "micro_f1": of the labels with a probability
        of at least 0.5, "loss", "unknown_rate"}.

        A label unseen in training counts as wrong, and not in the loss. With the losses "negative"
        and "ova" the loss is that of all labels, each predicted independently. Words not in the
        vocabulary are unknown, even if their n-grams have vectors.

        Raises DataError for data that cannot be read, and where every label is unseen.
        """
        learned = self.learned
        named = self._named_columns(text_column=text_column, label_column=label_column)
        joined = self._joined(y, learned.several)
        reader = self._open(examples, joined, named, fields=learned.fields)
        report = learned.reports["data"] = ReadReport()
        evaluation = FastTextEvaluation(learned, confusion=learned.several is None)
        for batch, rows in self._encoded(learned, reader, report):
            evaluation.add(learned.probabilities(rows), *self._codes(learned, batch, report))
        if not evaluation.known:
            what = "every label is unseen in training" if report.rows else "there are no rows"
            raise DataError(f"{reader.sources[0].name}: {what}: nothing to measure")
        if learned.several is None:
            self.confusion_ = evaluation.labels.confusion(self.classes_)
        return evaluation.measures(report)

    def export(self, path: str | Path, overwrite: bool = False) -> None:
        """Write fastText's .bin, under gzip if `path` ends in .gz. Its program predicts the same
        for texts of the analyzer's words joined by spaces.

        Labels get fastText's prefix __label__, unless they have it. All `buckets` rows are written,
        unused ones as zeros.

        overwrite : replace an existing file

        Raises DataError for labels that are equal with the prefix, SettingsError for a path that
        cannot be written or a file that exists, FastseqError where the system refuses.
        """
        check_output(path, "fastText model", overwrite=overwrite)
        self.learned.write_bin(path)

    def _content(self, learned: FittedState) -> tuple[Any, ...]:
        return learned.content()

    def _restored(self, folder: ModelFolder) -> FittedState:
        return FittedState.restored(folder, self._analyzer(), self._ngrams(), self.loss)

    @classmethod
    def _on(cls, device: str) -> dict[str, Any]:
        if one_of("device", device, DEVICES) == "cuda":
            raise DeviceError("no CUDA device that FastText can use: expected auto or cpu")
        return {}

    def _ngrams(self) -> Ngrams:
        subwords = Subwords(self.min_n, self.max_n, self.buckets)
        used = self.word_ngrams > 1 or subwords.max_n > 0
        return Ngrams(self.word_ngrams, subwords, self.buckets if used else 0)

    def _vectors(self, team: Team) -> tuple[list[str], Float32 | None]:
        """The words of the file of vectors, and their vectors."""
        if self.vectors is None:
            return [], None
        words, vectors = read_word_vectors(
            self.vectors, threads=team.threads, skip_bad_lines=self.skip_bad_lines
        )
        if vectors.shape[1] != self.dimensions:
            raise SettingsError(
                f"{self.vectors}: vectors of {vectors.shape[1]} numbers, but dimensions is "
                f"{self.dimensions}; expected the same"
            )
        return words, vectors

    def _targets(self, y: Any) -> tuple[Any, str | None]:
        """The labels to read, and the separator of several in a row."""
        joined = None if y is None else joined_labels(y)
        return (y, self.label_separator) if joined is None else (joined, SEVERAL)

    def _encoded(
        self, learned: FittedState, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Tokens]]:
        return encoded(learned.encoder, reader, report)

    def _probabilities(self, learned: FittedState, texts: Tokens) -> Float32:
        return learned.probabilities(texts)

    def _joined(self, y: Any, several: str | None) -> Any:
        """Labels of texts to evaluate, in the form of those of training."""
        joined = None if y is None else joined_labels(y)
        if joined is None:
            return y
        if several is None:
            raise DataError("lists of labels, but training had one for each text: expected one")
        return [row.replace(SEVERAL, several) for row in joined]

    def _codes(
        self, learned: FittedState, batch: RowBatch, report: ReadReport
    ) -> tuple[Int32, Int64]:
        """The labels of a batch, -1 for unseen ones, and their offsets by text."""
        codes, lengths = numbered(batch, learned.labels.encode, learned.several, report)
        return codes, offsets_of(lengths)


class FastTextEvaluation:
    """Measures of predicted probabilities, accumulated over texts.

    Attributes
    ----------
    labels : counts of the labels, if texts have one each
    known : number of texts with a label seen in training
    """

    def __init__(self, learned: FittedState, confusion: bool = False) -> None:
        self._learned = learned
        self._loss, self.known = 0.0, 0
        self._texts = self._top = self._correct = self._predicted = self._expected = 0
        self.labels = LabelCounts(len(learned.labels), confusion)

    def add(self, probabilities: Float32, codes: Int32, ends: Int64) -> None:
        """Add texts with their probabilities float32[D, K]: text d has the labels
        codes[ends[d]:ends[d + 1]], those unseen in training below 0."""
        text = np.repeat(np.arange(len(probabilities)), np.diff(ends))
        best = np.argmax(probabilities, 1).astype(np.int32)
        if self._learned.several is None:
            self.labels.add(codes, best)
        self._texts += len(probabilities)
        self._top += int(np.count_nonzero(np.bincount(text, codes == best[text])))
        self._expected += len(codes)
        text, codes = text[codes >= 0], codes[codes >= 0]
        chosen = probabilities >= THRESHOLD
        self._correct += int(np.count_nonzero(chosen[text, codes]))
        self._predicted += int(np.count_nonzero(chosen))
        counts = np.bincount(text, minlength=len(probabilities))
        known = counts > 0
        self.known += int(known.sum())
        clipped: npt.NDArray[np.float64] = np.clip(probabilities.astype(np.float64), 1e-38, 1.0)
        right = np.log(clipped[text, codes])
        if self._learned.loss in ("negative", "ova"):  # of all labels, each independent
            others = np.log1p(-np.minimum(clipped, 1 - 1e-7))
            self._loss += float(-others[known].sum() + (others[text, codes] - right).sum())
        else:  # of the label, or the mean over several
            self._loss += float(-(right / counts[text]).sum())

    def validation(self, report: ReadReport) -> dict[str, float]:
        """{"loss", "accuracy", "macro_f1"}; of several labels "micro_f1"."""
        if self._learned.several is None:
            f1 = {"macro_f1": self.labels.macro_f1(len(report.unseen))}
        else:
            f1 = {"micro_f1": 2 * self._correct / (self._predicted + self._expected)}
        return {"loss": self._loss / self.known, "accuracy": self._top / self._texts, **f1}

    def measures(self, report: ReadReport) -> dict[str, float]:
        """As FastTextClassifier.evaluate returns them."""
        found = {**self.validation(report), "unknown_rate": report.unknown_rate}
        names = ["accuracy", "macro_f1", "loss", "unknown_rate"]
        if self._learned.several is not None:
            found["recall"] = self._top / self._expected
            names[1:2] = ["recall", "micro_f1"]
        return {name: found[name] for name in names}
