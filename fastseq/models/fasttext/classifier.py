"""FastTextClassifier: labels of texts from the mean of their words' rows.

model = FastTextClassifier(word_ngrams=2, epochs=10, learning_rate=0.5)
model.fit("train.parquet", valid="valid.parquet")
model.predict(["How far is it?"])
model.export("model.bin")           # for fastText's own program

Source: Joulin, Grave, Bojanowski & Mikolov 2016, "Bag of Tricks for Efficient Text Classification".
What the paper leaves open is as in its authors' program, but for the order of the texts, which
here is another one in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from fastseq.errors import DataError, DeviceError, SettingsError
from fastseq.estimator import Choice, Location, Real, Text, Whole, parameter
from fastseq.interrupts import Interrupts
from fastseq.models.base import SubwordParameters
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import LabelBuilder
from fastseq.models.data.vocabulary import coverage_of
from fastseq.models.fasttext.files import content_of, learned_of, write_bin
from fastseq.models.fasttext.network import (
    LOSSES,
    FittedState,
    LabelLessons,
    first_rows,
    padded,
)
from fastseq.models.fasttext.predicting import FastTextEvaluation, FastTextPredictor
from fastseq.models.fasttext.rows import (
    SEVERAL,
    LabelledRows,
    Ngrams,
    Words,
    encoded,
    joined_labels,
)
from fastseq.models.folder import ModelFolder, ModelWriter
from fastseq.models.word_vectors.sampling import huffman_tree
from fastseq.settings import one_of, parse_size, thread_count
from fastseq.store.folder import is_finished
from fastseq.store.outputs import check_folder, check_output
from fastseq.text.analyzer import Analyzer
from fastseq.text.subwords import Subwords
from fastseq.threads import Team
from fastseq.training.checkpoint import History, fingerprint_of, refuse_other
from fastseq.training.hogwild import HogwildSettings, HogwildSteps
from fastseq.training.loop import Report, run
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.rows import RowReader

DEVICES = ("auto", "cpu", "cuda")


class FastTextClassifier(FastTextPredictor, SubwordParameters):
    """Text classification by the mean of word and n-gram vectors, with one label or several.

    A text without known words gets the prediction for the end-of-line token. With the losses
    "negative" and "ova" the probability of each label is independent: those of a text do not add
    up to 1.

    Training on several threads is lock-free, and does not repeat bit for bit; on one it does.

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

    # ---- training

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
        checkpoint_seconds: float = 60.0,
    ) -> Self:
        """Learn from texts with labels.

        Parameters
        ----------
        corpus : paths of Parquet files, an Arrow table or stream, a data frame; or a list of texts
            with `y` beside it
        y : the label of each text, or a list of labels for each
        valid : data of the same kinds to measure on after each epoch; (texts, y) for lists. The
            weights kept are the last ones all the same: they are those of the smallest steps
        text_column, label_column : which column is what; those not named are guessed
        path : the folder to save in when done, with checkpoints on the way; it is taken at once
        overwrite : replace a model that stands there
        resume : go on from the checkpoint there; a model that stands there is loaded
        progress : called with how far training has come
        checkpoint_seconds : between two checkpoints, about

        Raises
        ------
        SettingsError
            A setting outside its range; vectors of other dimensions; a place that is taken.
        DataError
            Data that cannot be read or learned from: which file, row and column.
        TrainingError
            The loss is no longer finite.
        KeyboardInterrupt, SystemExit
            Ctrl-C, SIGTERM, after the round under way. With a `path` the checkpoint there holds
            what was learned; without one this model does, ready for use.
        """
        self.check()
        if resume and path is None:
            raise SettingsError("resume needs the path of the folder to go on from")
        columns = self._named_columns(text_column=text_column, label_column=label_column)
        if resume and not overwrite and path is not None and is_finished(path):
            finished = self.load(path, self.threads)
            refuse_other(Path(path), finished.settings(), self.settings())
            self._learned = finished._learned
            return self
        team = Team(thread_count(self.threads))
        check_folder(path, corpus, valid, self.vectors, texts=True)
        place = nullcontext() if path is None else ModelWriter(path, overwrite, resume)
        with place as writer, Interrupts():
            learned, data, measure = self._task(corpus, y, valid, columns, team)
            learned.settings = self.settings()
            lessons = LabelLessons(learned, data, self.negatives, self.seed, team.threads)
            identity = self._identity(learned, data)
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

            keep(run(steps, checkpoint, resume, progress, None if writer else keep))
            if writer is not None:
                writer.commit(self.kind, *self._content(learned))
        return self

    def _identity(self, learned: FittedState, data: LabelledRows) -> dict[str, Any]:
        """What makes a training the same one."""
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
        """Read the data: what is to be learned, from what, and what to call for validation."""
        memory = parse_size(self.memory)
        y, several = self._targets(y)
        reader = self._open(corpus, y, columns)
        if several is not None and reader.label_type != "string":
            raise DataError(
                f"{reader.sources[0].name}: labels are {reader.label_type}; expected strings, "
                "where several of them stand in a row"
            )
        builder = LabelBuilder(reader.label_type or "string")
        words = Words.read(reader, self._analyzer(), builder.add, several, team.threads, memory)
        where = reader.sources[0].name
        if not words.report.rows:
            raise DataError(f"{where}: no rows to learn from")
        if not len(words.tokens):
            raise DataError(f"{where}: no words in any text, as the analyzer takes them")
        labels, order = builder.finish(source=where)
        words.labels = order[words.labels]
        known, vectors = self._vectors(team)
        texts, counts, own = words.choose(self.min_count, known)
        words.report.unknown = int(words.counts[:-1][own[:-1] < 0].sum())
        encoder, data = words.rows(self._analyzer(), self._ngrams(), texts, own, memory)
        if len(encoder) < 2:  # the end of a line is all there is
            raise DataError(
                f"{where}: no word occurs {self.min_count:,} times: expected a lower min_count, or "
                "more text"
            )
        inputs = first_rows(len(encoder), self.dimensions, self.seed)
        if vectors is not None:
            at = {word: number for number, word in enumerate(texts.to_strings())}
            inputs[[at[word] for word in known], : self.dimensions] = vectors
        tree = huffman_tree(labels.counts, labels=True) if self.loss == "hierarchical" else None
        outputs = padded(len(labels) - (tree is not None), self.dimensions)
        learned = FittedState(
            encoder, counts, labels, several, self.loss, inputs, outputs, tree, reader.fields,
            self.dimensions, int(data.sizes.sum()),
        )  # fmt: skip
        learned.reports["training"] = words.report
        if vectors is not None:
            found = np.zeros(len(counts), np.bool_)
            found[[at[word] for word in known]] = True
            learned.coverage = coverage_of(counts[1:], found[1:])  # but for the end of a line
        measure = None
        if valid is not None:
            measure = self._measure(learned, valid, columns, reader)
        return learned, data, measure

    def _measure(
        self, learned: FittedState, valid: Any, columns: Mapping[str, Any], like: RowReader
    ) -> Callable[[], dict[str, float]]:
        """What to call for what validation finds; its texts are read once."""
        y = None
        if isinstance(valid, tuple) and len(valid) == 2:
            valid, y = valid
        reader = self._open(
            valid, self._joined(y, learned.several), columns, fields=like.fields, like=like
        )
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

    # ---- files

    def export(self, path: str | Path, overwrite: bool = False) -> None:
        """Write fastText's .bin (under gzip if `path` ends in .gz), from which its program predicts
        the same of texts whose words, as the analyzer has them, are joined by spaces.

        Labels get fastText's mark __label__, unless they have it. All `buckets` rows are written,
        those that did not occur as zeros.

        overwrite : replace an existing file

        Raises DataError for labels that are the same with the mark, SettingsError for a path that
        cannot be written or a file that exists, FastseqError where the system refuses.
        """
        check_output(path, "fastText model", overwrite=overwrite)
        write_bin(path, self.learned)

    def _content(self, learned: FittedState) -> tuple[Any, ...]:
        return learned.settings, *content_of(learned)

    def _restored(self, folder: ModelFolder) -> FittedState:
        return learned_of(folder, self._analyzer(), self._ngrams(), self.loss)

    @classmethod
    def _on(cls, device: str) -> dict[str, Any]:
        if one_of("device", device, DEVICES) == "cuda":
            raise DeviceError("no CUDA device that FastText can use: expected auto or cpu")
        return {}

    # ---- reading

    def _analyzer(self) -> Analyzer:
        return Analyzer() if self.analyzer is None else self.analyzer

    def _ngrams(self) -> Ngrams:
        subwords = Subwords(self.min_n, self.max_n, self.buckets)
        used = self.word_ngrams > 1 or subwords.max_n > 0
        return Ngrams(self.word_ngrams, subwords, self.buckets if used else 0)

    def _vectors(self, team: Team) -> tuple[list[str], Float32 | None]:
        """The words of the file of vectors, and theirs."""
        if self.vectors is None:
            return [], None
        from fastseq.vectors.formats import read_word_vectors

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
        """Labels as they are read, and what stands between several of a row."""
        joined = None if y is None else joined_labels(y)
        return (y, self.label_separator) if joined is None else (joined, SEVERAL)
