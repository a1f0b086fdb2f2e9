"""What classifiers of texts do alike once they are fitted: tell labels and their probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.models.data.examples import ReadReport
from fastseq.models.predicting import RowPredictor
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.examples import RowBatch, RowReader
    from fastseq.store.predictions import Predictions


class TextClassifier(RowPredictor):
    """A model that gives each text one of some labels."""

    estimator_type: ClassVar[str | None] = "classifier"
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text", "label_column": "label"}

    # ---- what a classifier says of itself

    @property
    @abstractmethod
    def learned(self) -> Any:
        """All that training learned, `labels`, `fields` and `reports` among it. Raises
        NotFittedError before it did."""

    @abstractmethod
    def _open(self, examples: Any, y: Any, columns: Mapping[str, Any], **how: Any) -> RowReader:
        """The rows of whatever examples came in."""

    @abstractmethod
    def _named_columns(self, **named: Any) -> dict[str, Any]:
        """The columns that were named, by what `_open` calls them."""

    @abstractmethod
    def _encoded(
        self, learned: Any, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Any]]:
        """Each batch of rows and its texts as the model takes them; what was met is added to
        `report`."""

    @abstractmethod
    def _probabilities(self, learned: Any, texts: Any) -> Float32:
        """float32[D, K], of texts as `_encoded` gives them."""

    @abstractmethod
    def evaluate(self, examples: Any, y: Any = None) -> dict[str, float]:
        """What is measured of texts whose labels are known, "accuracy" among it."""

    # ---- what follows

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """array[K], the labels in ascending order, of their own type."""
        labels = self.learned.labels
        return np.array(labels.values, None if labels.type == "string" else labels.type)

    def predict(self, examples: Any, *, text_column: str | Sequence[str] | None = None) -> Any:
        """array[D], the likeliest label of each text, of the labels' own type.

        Raises DataError for data that cannot be read.
        """
        return self.classes_[np.argmax(self.predict_proba(examples, text_column=text_column), 1)]

    def predict_proba(
        self, examples: Any, *, text_column: str | Sequence[str] | None = None
    ) -> Float32:
        """float32[D, K], the probability of each of `classes_` for each text."""
        learned = self.learned
        columns = self._named_columns(text_column=text_column)
        reader = self._open(examples, None, columns, fields=learned.fields, targets=False)
        report = learned.reports["data"] = ReadReport()
        parts = [np.zeros((0, len(learned.labels)), np.float32)]
        for _, texts in self._encoded(learned, reader, report):
            parts.append(self._probabilities(learned, texts))
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
        columns = self._named_columns(text_column=text_column)
        reader = self._open(
            data, None, columns, fields=learned.fields, targets=False, outputs=True, keep=keep,
            id=id_column,
        )  # fmt: skip
        report = learned.reports["data"] = ReadReport()
        labels = learned.labels
        outputs = {"prediction": labels.type, "probability": "float"}
        if probabilities:
            outputs["probabilities"] = "list<float>"

        def found() -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for rows, texts in self._encoded(learned, reader, report):
                shares = self._probabilities(learned, texts)
                best = np.argmax(shares, 1)
                told: dict[str, Any] = {
                    "prediction": labels.decode(best),
                    "probability": shares[np.arange(len(best)), best],
                }
                yield rows, told | ({"probabilities": shares} if probabilities else {})

        return Predictions(reader, outputs, found())

    def score(self, examples: Any, y: Any = None) -> float:
        """The accuracy. Raises as `evaluate`."""
        return self.evaluate(examples, y)["accuracy"]
