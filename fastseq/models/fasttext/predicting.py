"""What FastText's classifier does once it is fitted: predict and be measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastseq.errors import DataError, NotFittedError
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.ragged import offsets_of
from fastseq.models.fasttext.measures import THRESHOLD, Tally
from fastseq.models.fasttext.network import FittedState, History
from fastseq.models.fasttext.rows import SEVERAL, encoded, joined_labels, numbered
from fastseq.models.prediction import TextClassifier
from fastseq.models.savable import SavableModel
from fastseq.settings import real
from fastseq.types import Float32, Int32, Int64, Tokens

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.examples import RowBatch, RowReader


class FastTextPredictor(SavableModel, TextClassifier):
    """A fitted classifier, as FastTextClassifier documents it."""

    estimator_type: ClassVar[str | None] = TextClassifier.estimator_type

    _learned: FittedState | None = None

    # ---- what was learned

    @property
    def learned(self) -> FittedState:
        """All that training learned. Raises NotFittedError before it did."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        return self._learned

    @property
    def history_(self) -> History:
        """{name: a value for each epoch}."""
        return self.learned.history

    @property
    def report_(self) -> dict[str, ReadReport]:
        """What was met while reading, under "training", "validation", and "data" for what was
        evaluated or predicted last."""
        return self.learned.reports

    @property
    def n_parameters_(self) -> int:
        """The number of weights."""
        learned = self.learned
        return (len(learned.inputs) + len(learned.outputs)) * learned.dimensions

    def __sklearn_is_fitted__(self) -> bool:
        return self._learned is not None

    # ---- using

    def predict_several(
        self,
        examples: Any,
        threshold: float = THRESHOLD,
        *,
        text_column: str | Sequence[str] | None = None,
    ) -> list[list[Any]]:
        """The labels of each text whose probability is at least `threshold`, the likeliest first;
        for the loss "ova"."""
        real("threshold", threshold, lambda t: 0 <= t <= 1, "0 to 1")
        values = self.learned.labels.values
        shares = self.predict_proba(examples, text_column=text_column)
        return [
            [values[k] for k in np.argsort(-row, kind="stable").tolist() if row[k] >= threshold]
            for row in shares
        ]

    def evaluate(
        self,
        examples: Any,
        y: Any = None,
        *,
        text_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
    ) -> dict[str, float]:
        """{"accuracy", "macro_f1", "loss" in nats}; `confusion_` has the counts.

        Where rows have several labels: {"accuracy": of the likeliest label, "recall": the share of
        all labels that these are, "micro_f1": of the labels from probability 0.5 on, "loss"}.

        A label that training did not have counts as wrong, and not in the loss. With the losses
        "negative" and "ova" the loss is that of all labels, each told by itself.

        Raises DataError for data that cannot be read, and where every label is unseen.
        """
        learned = self.learned
        named = self._named_columns(text_column=text_column, label_column=label_column)
        joined = self._joined(y, learned.several)
        reader = self._open(examples, joined, named, fields=learned.fields)
        report = learned.reports["data"] = ReadReport()
        tally = Tally(learned)
        for batch, rows in self._encoded(learned, reader, report):
            tally.add(learned.probabilities(rows), *self._codes(learned, batch, report))
        if not tally.told:
            what = "every label is unseen in training" if tally.texts else "there are no rows"
            raise DataError(f"{reader.sources[0].name}: {what}: nothing to measure")
        if learned.several is not None:
            return tally.several()
        measures, self.confusion_ = tally.single(self.classes_, report)
        return measures

    # ---- reading

    def _encoded(
        self, learned: FittedState, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Tokens]]:
        return encoded(learned.encoder, reader, report)

    def _probabilities(self, learned: FittedState, texts: Tokens) -> Float32:
        return learned.probabilities(texts)

    def _joined(self, y: Any, several: str | None) -> Any:
        """Labels beside texts to measure, as those of training came."""
        joined = None if y is None else joined_labels(y)
        if joined is None:
            return y
        if several is None:
            raise DataError("lists of labels, but training had one for each text: expected one")
        return [row.replace(SEVERAL, several) for row in joined]

    def _codes(
        self, learned: FittedState, batch: RowBatch, report: ReadReport
    ) -> tuple[Int32, Int64]:
        """The labels of a batch, -1 for unseen ones, and where those of each text end."""
        codes, lengths = numbered(batch, learned.labels.encode, learned.several, report)
        return codes, offsets_of(lengths)

    def _open(
        self,
        examples: Any,
        y: Any,
        columns: Mapping[str, Any],
        *,
        fields: Fields | None = None,
        like: RowReader | None = None,
        targets: bool = True,
        **more: Any,
    ) -> RowReader:
        """The rows of whatever examples came in; what is not named is called as in `fields`, those
        of training. `like`: rows whose labels are of the type to expect."""
        from fastseq.store.examples import open_rows
        from fastseq.store.objects import as_source

        source = as_source(examples, y, self.inputs)
        named = dict(columns)
        if fields is not None and source is examples:
            roles = ("text", "label") if targets else ("text",)
            named = {role: getattr(fields, role) for role in roles} | named
        more.setdefault("outputs", False)
        return open_rows(source, self.inputs, like=like, targets=targets, **named, **more)

    def _named_columns(self, **named: Any) -> dict[str, Any]:
        """The columns that were named, by what open_rows calls them."""
        return {self.columns[name]: value for name, value in named.items() if value is not None}
