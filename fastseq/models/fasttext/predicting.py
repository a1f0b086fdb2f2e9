"""Prediction and evaluation of FastText's classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.models.base import TextClassifier
from fastseq.models.data.examples import ReadReport
from fastseq.models.fasttext.network import FittedState
from fastseq.models.fasttext.rows import SEVERAL, encoded, joined_labels, numbered
from fastseq.models.metrics import LabelCounts
from fastseq.settings import real
from fastseq.types import Float32, Int32, Int64, Tokens, offsets_of

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader


THRESHOLD = 0.5  # probability from which one of several labels is predicted


class FastTextPredictor(TextClassifier[FittedState]):
    """A fitted classifier, as FastTextClassifier documents it."""

    # ---- fitted state

    @property
    def history_(self) -> dict[str, list[float]]:
        """{name: a value for each epoch}."""
        return self.learned.history.columns

    @property
    def n_parameters_(self) -> int:
        """The number of weights."""
        learned = self.learned
        return (len(learned.inputs) + len(learned.outputs)) * learned.dimensions

    @property
    def vectors_coverage_(self) -> dict[str, int] | None:
        """How much of the vocabulary the word vectors given cover, see Vocabulary.coverage; None
        where none were given."""
        return self.learned.coverage

    # ---- prediction

    def predict_several(
        self,
        examples: Any,
        threshold: float = THRESHOLD,
        *,
        text_column: str | Sequence[str] | None = None,
    ) -> list[list[Any]]:
        """The labels of each text with a probability of at least `threshold`, the most probable
        first; for the loss "ova"."""
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

        Where rows have several labels: {"accuracy": of the most probable label, "recall": the
        fraction of all labels that these are, "micro_f1": of the labels from probability 0.5 on,
        "loss", "unknown_rate"}.

        A label that training did not have counts as wrong, and not in the loss. With the losses
        "negative" and "ova" the loss is that of all labels, each predicted by itself. Words that
        are not in the vocabulary are unknown, though their n-grams may have vectors.

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

    # ---- reading

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
        """The labels of a batch, -1 for unseen ones, and the offsets of those of each text."""
        codes, lengths = numbered(batch, learned.labels.encode, learned.several, report)
        return codes, offsets_of(lengths)


class FastTextEvaluation:
    """Measures of predicted probabilities, part after part of the texts.

    Attributes
    ----------
    labels : counts of the labels, where texts have one each
    known : texts with a label that training had
    """

    def __init__(self, learned: FittedState, confusion: bool = False) -> None:
        self._learned = learned
        self._loss, self.known = 0.0, 0
        self._texts = self._top = self._correct = self._predicted = self._expected = 0
        self.labels = LabelCounts(len(learned.labels), confusion)

    def add(self, probabilities: Float32, codes: Int32, ends: Int64) -> None:
        """Add texts with their probabilities float32[D, K]: text d has the labels
        codes[ends[d]:ends[d + 1]], below 0 those unseen in training."""
        text = np.repeat(np.arange(len(probabilities)), np.diff(ends))
        best = np.argmax(probabilities, 1).astype(np.int32)
        known = codes >= 0
        if self._learned.several is None:
            self.labels.add(codes, best)
        chosen = probabilities >= THRESHOLD
        self._texts += len(probabilities)
        self._top += int(np.count_nonzero(np.bincount(text, codes == best[text])))
        self._correct += int(np.count_nonzero(chosen[text[known], codes[known]]))
        self._predicted += int(np.count_nonzero(chosen))
        self._expected += len(codes)
        independent = self._learned.loss in ("negative", "ova")
        loss, count = summed_loss(probabilities, codes[known], text[known], independent)
        self._loss += loss
        self.known += count

    def validation(self, report: ReadReport) -> dict[str, float]:
        """{"loss", "accuracy", "macro_f1"}; of several labels "micro_f1"."""
        if self._learned.several is None:
            f1 = {"macro_f1": self.labels.macro_f1(len(report.unseen))}
        else:
            f1 = {"micro_f1": 2 * self._correct / (self._predicted + self._expected)}
        return {"loss": self._loss / self.known, "accuracy": self._top / self._texts, **f1}

    def measures(self, report: ReadReport) -> dict[str, float]:
        """As FastTextClassifier.evaluate returns them."""
        found = {**self.validation(report), "recall": self._top / self._expected}
        found["unknown_rate"] = report.unknown_rate
        single = ("accuracy", "macro_f1", "loss", "unknown_rate")
        several = ("accuracy", "recall", "micro_f1", "loss", "unknown_rate")
        names = single if self._learned.several is None else several
        return {name: found[name] for name in names}


def summed_loss(
    probabilities: Float32, labels: Int32, text: Int64, independent: bool
) -> tuple[float, int]:
    """The summed loss of texts, in nats, and how many of them have a label.

    probabilities  float32[D, K]
    labels         known ones, each of the text number in `text`
    independent    whether each label is predicted by itself: the loss is then that of all K
                   labels, else that of the expected one (the mean over several)
    """
    counts = np.bincount(text, minlength=len(probabilities))
    known = counts > 0
    chances: npt.NDArray[np.float64] = np.clip(probabilities.astype(np.float64), 1e-38, 1.0)
    right = np.log(chances[text, labels])
    if not independent:
        return float(-(right / counts[text]).sum()), int(known.sum())
    others = np.log1p(-np.minimum(chances, 1 - 1e-7))
    total = -others[known].sum() + (others[text, labels] - right).sum()
    return float(total), int(known.sum())
