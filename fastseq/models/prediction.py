"""Prediction row by row: files of predictions; labels of texts and their probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.models.data.examples import ReadReport
from fastseq.models.savable import S, SavableModel
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.predictions import Predictions
    from fastseq.store.rows import RowBatch, RowReader


class RowPredictor(SavableModel[S]):
    """A model with a prediction for every row."""

    @abstractmethod
    def predict_batches(self, *data: Any, **how: Any) -> Predictions:
        """Arrow tables with a prediction for every row, each made when it is asked for."""

    def predict_file(
        self, data: Any, out: str | Path, *, overwrite: bool = False, **how: Any
    ) -> int:
        """Write what `predict_batches` returns for the same arguments to Parquet, a batch at a
        time; the number of rows.

        overwrite : replace an existing file that is not known to be predictions of fastseq

        Raises as `predict_batches`, and FastseqError where the system refuses to write.
        """
        return self.predict_batches(data, **how).write(out, overwrite=overwrite)

    def _to_predict(
        self, data: Any, columns: Mapping[str, Any], **outputs: Any
    ) -> tuple[RowReader, ReadReport]:
        """The rows to predict, and the report for what is read.

        columns  those named, by argument
        outputs  keep and id, if the rows are written
        """
        learned, named = self.learned, self._named_columns(**columns)
        if outputs:
            outputs["outputs"] = True
        reader = self._open(data, None, named, fields=learned.fields, targets=False, **outputs)
        report = learned.reports["data"] = ReadReport()
        return reader, report


class TextClassifier(RowPredictor[S]):
    """A model that predicts a label for each text, with the probabilities of all labels."""

    estimator_type: ClassVar[str | None] = "classifier"
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text", "label_column": "label"}

    @abstractmethod
    def _encoded(
        self, learned: S, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Any]]:
        """Each batch of rows and its texts as the model takes them, counted in `report`."""

    @abstractmethod
    def _probabilities(self, learned: S, texts: Any) -> Float32:
        """float32[D, K], of texts as `_encoded` returns them."""

    @abstractmethod
    def evaluate(self, examples: Any, y: Any = None) -> dict[str, float]:
        """Measures on texts with known labels, "accuracy" among them."""

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """array[K], the labels in ascending order, of their own type."""
        labels = self.learned.labels
        return np.array(labels.values, None if labels.type == "string" else labels.type)

    def predict(self, examples: Any, *, text_column: str | Sequence[str] | None = None) -> Any:
        """array[D], the most probable label of each text, of the labels' own type.

        Raises DataError for data that cannot be read.
        """
        return self.classes_[np.argmax(self.predict_proba(examples, text_column=text_column), 1)]

    def predict_proba(
        self, examples: Any, *, text_column: str | Sequence[str] | None = None
    ) -> Float32:
        """float32[D, K], the probability of each of `classes_` for each text."""
        learned = self.learned
        reader, report = self._to_predict(examples, {"text_column": text_column})
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
        probabilities : add a column `probabilities` with those of all of `classes_`

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of a predicted one.
        """
        from fastseq.store.predictions import Predictions

        learned, named = self.learned, {"text_column": text_column}
        reader, report = self._to_predict(data, named, keep=keep, id=id_column)
        labels = learned.labels
        outputs = {"prediction": labels.type, "probability": "float"}
        if probabilities:
            outputs["probabilities"] = "list<float>"

        def predicted() -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for rows, texts in self._encoded(learned, reader, report):
                found = self._probabilities(learned, texts)
                best = np.argmax(found, 1)
                columns = {
                    "prediction": labels.decode(best),
                    "probability": found[np.arange(len(best)), best],
                    "probabilities": found,
                }
                yield rows, {name: columns[name] for name in outputs}

        return Predictions(reader, outputs, predicted())

    def score(self, examples: Any, y: Any = None) -> float:
        """The accuracy. Raises as `evaluate`."""
        return self.evaluate(examples, y)["accuracy"]
