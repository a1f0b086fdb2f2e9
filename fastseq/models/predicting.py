"""What models that answer row by row do alike: write their answers to a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.store.predictions import Predictions


class RowPredictor(ABC):
    """A model with an answer for every row of Parquet."""

    @abstractmethod
    def predict_batches(self, *data: Any, **how: Any) -> Predictions:
        """Arrow tables with an answer for every row, each made when it is asked for."""

    def predict_file(self, data: Any, out: str | Path, **how: Any) -> int:
        """Write what `predict_batches` gives, which takes the same, to Parquet, reading and
        writing a batch at a time; the number of rows.

        Raises as it, and FastseqError where the system refuses to write.
        """
        return self.predict_batches(data, **how).write(out)
