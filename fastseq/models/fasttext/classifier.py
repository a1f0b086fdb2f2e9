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

from fastseq.errors import DataError, DeviceError, FormatError, SettingsError
from fastseq.estimator import plain
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import LabelBuilder
from fastseq.models.fasttext.files import content_of, learned_of, write_bin
from fastseq.models.fasttext.network import (
    LOSSES,
    Course,
    FittedState,
    first_rows,
    label_tree,
    padded,
    train,
)
from fastseq.models.fasttext.predicting import FastTextEvaluation, FastTextPredictor
from fastseq.models.fasttext.rows import SEVERAL, Ngrams, Words, encoded, joined_labels
from fastseq.models.folder import ModelFolder, ModelWriter, write_model
from fastseq.settings import one_of, parse_size, real, seed_number, thread_count, whole
from fastseq.text.analyzer import Analyzer
from fastseq.text.subwords import Subwords
from fastseq.threads import Team
from fastseq.training.progress import Report
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.examples import RowReader

DEVICES = ("auto", "cpu", "cuda")
RUN = frozenset({"threads", "memory"})  # settings of a run, not of what is learned


class FastTextClassifier(FastTextPredictor):
    """Gives each text one of the labels it learned, or several.

    A text of unknown words alone, as an empty one, is told what the end of a line by itself is.
    With the losses "negative" and "ova" each label's probability is by itself: those of a text do
    not add up to 1.

    Parameters
    ----------
    dimensions : of a row; with `vectors` theirs
    loss : "softmax"; "hierarchical" (softmax over a tree, for many labels); "negative" (sampling);
        "ova" (one against all: each label by itself, for texts with several)
    word_ngrams : words of the longest n-gram of words that has a row; 1 for words alone
    low, high : the fewest and the most characters of an n-gram of characters; 0 for none
    buckets : n-grams of both kinds are hashed into so many; only those that occur take memory
    min_count : words that occur less often have no row of their own
    negatives : labels drawn beside the right one, where the loss is "negative"
    vectors : a file or folder of word vectors to begin with; all its words are known then
    label_separator : what stands between the labels of a row that has several, such as ","
    epochs : passes over the texts
    learning_rate : at the beginning; it falls to 0, word by word
    analyzer : what a word is; None: Analyzer()
    seed : of the first rows, the order of the texts, the negatives
    threads : to work with; None for every core. One thread repeats bit for bit, several do not
    memory : of numbers of the corpus to hold; more goes to a temporary file

    Attributes
    ----------
    classes_ : array[K], the labels in ascending order, of their own type
    history_ : {name: a value for each epoch}: epoch, train_loss, what validation found, words,
        seconds, words_per_second
    report_ : what was met while reading
    n_parameters_ : the number of weights
    confusion_ : of the last `evaluate` of rows with one label
    """

    kind: ClassVar[str] = "fasttext"

    dimensions: int
    loss: str
    word_ngrams: int
    low: int
    high: int
    buckets: int
    min_count: int
    negatives: int
    vectors: str | Path | None
    label_separator: str | None
    epochs: int
    learning_rate: float
    analyzer: Analyzer | None
    seed: int
    threads: int | None
    memory: str | int

    def __init__(
        self,
        *,
        dimensions: int = 100,
        loss: str = "softmax",
        word_ngrams: int = 1,
        low: int = 0,
        high: int = 0,
        buckets: int = 2_000_000,
        min_count: int = 1,
        negatives: int = 5,
        vectors: str | Path | None = None,
        label_separator: str | None = None,
        epochs: int = 5,
        learning_rate: float = 0.1,
        analyzer: Analyzer | None = None,
        seed: int = 0,
        threads: int | None = None,
        memory: str | int = "1GB",
    ) -> None:
        self._store(locals())

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
        progress: Report | None = None,
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
        path : the folder to save in when done; it is taken at once
        overwrite : replace a model that stands there
        progress : told a few times a second how far training has come

        Raises
        ------
        SettingsError
            A setting outside its range; vectors of other dimensions; a place that is taken.
        DataError
            Data that cannot be read or learned from: which file, row and column.
        TrainingError
            The loss is no longer finite.
        KeyboardInterrupt
            Ctrl-C; nothing is written then.
        """
        self.check()
        columns = self._named_columns(text_column=text_column, label_column=label_column)
        team = Team(thread_count(self.threads))
        place = nullcontext() if path is None else ModelWriter(path, overwrite)
        with place as writer:
            learned = self._task(corpus, y, valid, columns, team, progress)
            if writer is not None:
                writer.commit(self.kind, self.settings(), *content_of(learned))
        self._learned = learned
        return self

    def _task(
        self,
        corpus: Any,
        y: Any,
        valid: Any,
        columns: Mapping[str, Any],
        team: Team,
        progress: Report | None,
    ) -> FittedState:
        """Read the data and learn from it; `self` stays as it is."""
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
        tree = label_tree(labels.counts) if self.loss == "hierarchical" else None
        outputs = padded(len(labels) - (tree is not None), self.dimensions)
        learned = FittedState(
            encoder, counts, labels, several, self.loss, inputs, outputs, tree, reader.fields,
            self.dimensions, int(data.sizes.sum()),
        )  # fmt: skip
        learned.reports["training"] = words.report
        measure = None
        if valid is not None:
            measure = self._measure(learned, valid, columns, reader)
        course = Course(self.epochs, self.learning_rate, self.negatives, self.seed)
        train(learned, data, course, team, measure, progress)
        return learned

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

    def check(self) -> None:
        """Raise SettingsError for a setting that is out of its range."""
        one_of("loss", self.loss, LOSSES)
        for name, most in (("dimensions", 1 << 16), ("word_ngrams", 1 << 10)):
            whole(name, getattr(self, name), 1, most)
        for name in ("min_count", "negatives", "epochs"):
            whole(name, getattr(self, name), 1)
        self._ngrams()
        if self.label_separator is not None and (
            not isinstance(self.label_separator, str) or not self.label_separator
        ):
            raise SettingsError(
                f"label_separator must be text between labels, not {self.label_separator!r}"
            )
        real("learning_rate", self.learning_rate, lambda r: 0 < r < 1e6, "above 0, and below 1e6")
        analyzer = self._analyzer()
        if not isinstance(analyzer, Analyzer):
            raise SettingsError(f"analyzer is a {type(analyzer).__name__}; expected an Analyzer")
        if analyzer.ngrams != (1, 1) or analyzer.char_ngrams is not None:
            raise SettingsError("expected an analyzer without n-grams: word_ngrams, low and high")
        seed_number(self.seed)
        thread_count(self.threads)
        parse_size(self.memory)

    # ---- files

    def export(self, path: str | Path) -> None:
        """Write fastText's .bin (under gzip if `path` ends in .gz), from which its program predicts
        the same of texts whose words, as the analyzer has them, are joined by spaces.

        Labels get fastText's mark __label__. All `buckets` rows are written, those that did not
        occur as zeros. Raises SettingsError and FastseqError where the place does not do.
        """
        write_bin(path, self.learned, self)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write what was learned to a folder, whole or not at all.

        Raises SettingsError where the folder is taken, FastseqError where the system refuses.
        """
        learned = self.learned
        write_model(path, self.kind, self.settings(), *content_of(learned), overwrite=overwrite)

    @classmethod
    def from_folder(cls, folder: ModelFolder, threads: int | None, device: str) -> Self:
        """The model of a folder of its kind that was read; raises as `load`, and DeviceError for
        a device that is not there."""
        if one_of("device", device, DEVICES) == "cuda":
            raise DeviceError("no CUDA device that FastText can use: expected auto or cpu")
        thread_count(threads)
        settings = dict(folder.settings)
        try:
            if settings["analyzer"] is not None:
                settings["analyzer"] = Analyzer.from_dict(settings["analyzer"])
            model = cls(**settings, threads=threads)
            model.check()
            model._learned = learned_of(folder, model._analyzer(), model._ngrams(), model.loss)
        except (SettingsError, FormatError) as error:
            raise FormatError(f"{folder.path}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FormatError(
                f"{folder.path}: its settings and statistics make no sense: {error!r}"
            ) from error
        return model

    def settings(self) -> dict[str, Any]:
        """The settings that are kept with the model, as JSON has them."""
        said = {k: plain(v) for k, v in self.get_params().items() if k not in RUN}
        return {**said, "analyzer": None if self.analyzer is None else self.analyzer.to_dict()}

    # ---- reading

    def _analyzer(self) -> Analyzer:
        return Analyzer() if self.analyzer is None else self.analyzer

    def _ngrams(self) -> Ngrams:
        subwords = Subwords(self.low, self.high, whole("buckets", self.buckets, 1))
        used = self.word_ngrams > 1 or subwords.high > 0
        return Ngrams(self.word_ngrams, subwords, self.buckets if used else 0)

    def _vectors(self, team: Team) -> tuple[list[str], Float32 | None]:
        """The words of the file of vectors, and theirs."""
        if self.vectors is None:
            return [], None
        from fastseq.vectors.formats import read_word_vectors

        words, vectors = read_word_vectors(self.vectors, threads=team.threads)
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
