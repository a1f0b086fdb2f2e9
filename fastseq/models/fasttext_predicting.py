"""What FastText's classifier does once it is fitted: predict and be measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, NotFittedError
from fastseq.manners import Manners
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.ragged import offsets_of
from fastseq.models.fasttext_measures import THRESHOLD, Tally
from fastseq.models.fasttext_network import History, Learned
from fastseq.models.fasttext_rows import SEVERAL, encoded, joined_labels, numbered
from fastseq.models.predicting import RowPredictor
from fastseq.settings import real
from fastseq.types import Float32, Int32, Int64

if TYPE_CHECKING:
    from fastseq.store.examples import RowBatch, RowReader
    from fastseq.store.fields import Fields
    from fastseq.store.predictions import Predictions


class FastTextPredictor(Manners, RowPredictor):
    """A fitted classifier, as FastTextClassifier documents it."""

    estimator_type: ClassVar[str | None] = "classifier"
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text", "label_column": "label"}

    _learned: Learned | None = None

    # ---- what was learned

    @property
    def learned(self) -> Learned:
        """All that training learned. Raises NotFittedError before it did."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        return self._learned

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """array[K], the labels in ascending order, of their own type."""
        labels = self.learned.labels
        return np.array(labels.values, None if labels.type == "string" else labels.type)

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

    def predict(self, examples: Any, *, text_column: str | Sequence[str] | None = None) -> Any:
        """array[D], the likeliest label of each text, of the labels' own type.

        A text of unknown words alone, as an empty one, gets the label that the end of a line by
        itself is told. Raises DataError for data that cannot be read.
        """
        return self.classes_[np.argmax(self.predict_proba(examples, text_column=text_column), 1)]

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

    def predict_proba(
        self, examples: Any, *, text_column: str | Sequence[str] | None = None
    ) -> Float32:
        """float32[D, K], the probability of each of `classes_` for each text. With the losses
        "negative" and "ova" each label's is by itself: they do not add up to 1."""
        learned = self.learned
        columns = self._named_columns(text_column=text_column)
        reader = self._open(examples, None, columns, fields=learned.fields, targets=False)
        report = learned.reports["data"] = ReadReport()
        parts = [np.zeros((0, len(learned.labels)), np.float32)]
        for _, rows in encoded(learned.encoder, reader, report):
            parts.append(learned.probabilities(rows))
        return np.concatenate(parts)

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        text_column: str | Sequence[str] | None = None,
        id_column: str | None = None,
        probabilities: bool = False,
    ) -> Predictions:
        """`id`, the columns to keep, `prediction` and its `probability` of every row: Arrow tables,
        each made when it is asked for.

        Parameters
        ----------
        probabilities : whether a column `probabilities` has those of all of `classes_`

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of a predicted one.
        """
        from fastseq.store.predictions import Predictions

        learned = self.learned
        named = self._named_columns(text_column=text_column)
        reader = self._open(
            data, None, named, fields=learned.fields, targets=False, outputs=True, keep=keep,
            id=id_column,
        )  # fmt: skip
        report = learned.reports["data"] = ReadReport()
        labels = learned.labels
        outputs = {"prediction": labels.type, "probability": "float"}
        if probabilities:
            outputs["probabilities"] = "list<float>"

        def found() -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for batch, rows in encoded(learned.encoder, reader, report):
                shares = learned.probabilities(rows)
                best = np.argmax(shares, 1)
                columns: dict[str, Any] = {
                    "prediction": labels.decode(best),
                    "probability": shares[np.arange(len(best)), best],
                }
                yield batch, columns | ({"probabilities": shares} if probabilities else {})

        return Predictions(reader, outputs, found())

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
        for batch, rows in encoded(learned.encoder, reader, report):
            tally.add(learned.probabilities(rows), *self._codes(learned, batch, report))
        if not tally.told:
            what = "every label is unseen in training" if tally.texts else "there are no rows"
            raise DataError(f"{reader.sources[0].name}: {what}: nothing to measure")
        if learned.several is not None:
            return tally.several()
        measures, self.confusion_ = tally.single(self.classes_, report)
        return measures

    def score(self, examples: Any, y: Any = None) -> float:
        """The accuracy. Raises as `evaluate`."""
        return self.evaluate(examples, y)["accuracy"]

    # ---- reading

    def _joined(self, y: Any, several: str | None) -> Any:
        """Labels beside texts to measure, as those of training came."""
        joined = None if y is None else joined_labels(y)
        if joined is None:
            return y
        if several is None:
            raise DataError("lists of labels, but training had one for each text: expected one")
        return [row.replace(SEVERAL, several) for row in joined]

    def _codes(self, learned: Learned, batch: RowBatch, report: ReadReport) -> tuple[Int32, Int64]:
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
