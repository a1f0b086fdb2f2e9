"""What a training run looked like: one row an epoch, kept as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

from fastseq.errors import FormatError

COUNTS = ("epoch", "step")
REQUIRED = ("epoch", "train_loss")
VALID = "valid_"


class History:
    """One row for each epoch trained.

    Attributes
    ----------
    columns : {name: one value an epoch}
        epoch              1, 2, …
        train_loss         mean over the epoch's examples, as the weights changed under it
        valid_loss, valid_… what validation found after the epoch; absent without validation
        seconds            wall-clock time of the epoch
      of models that an optimiser trains, their seconds with validation:
        step               steps taken since training began
        learning_rate      of the epoch's last step
        gradient_norm      mean over steps of the gradient's Euclidean norm, before clipping
        units_per_second   tokens (or numbers) learned from a second, without validation
      of word vectors and FastText's classifier:
        words              of the corpus; words_kept of them after subsampling (word vectors)
        words_per_second   without validation

    Times and speeds differ from run to run; all others repeat exactly.
    """

    def __init__(self, columns: Mapping[str, Sequence[float | None]] | None = None) -> None:
        """A history of the columns that a file holds; None there is nan.

        Raises FormatError when one is missing or they are of different lengths.
        """
        self.columns: dict[str, list[float]] = {}
        for name in REQUIRED if columns else ():
            if name not in (columns or {}):
                raise FormatError(f"a training history has no column {name!r}")
        for name, values in (columns or {}).items():
            kind = int if name in COUNTS else float
            self.columns[name] = [nan if value is None else kind(value) for value in values]
        if len({len(column) for column in self.columns.values()}) > 1:
            raise FormatError("a training history has columns of different lengths")

    def append(self, row: Mapping[str, float], valid: Mapping[str, float]) -> None:
        """Add an epoch, and what validation found. Measures that
        an earlier version did not have are NaN in its epochs. Raises ValueError when validation
        no longer measures what it did before."""
        new = {**row, **{VALID + name: value for name, value in valid.items()}}
        if len(self) == 0:
            self.columns = {name: [] for name in new}
        if self.measures:
            unknown = [float("nan")] * len(self)
            self.columns.update({n: unknown.copy() for n in new if n not in self.columns})
        if new.keys() != self.columns.keys():
            raise ValueError(
                f"validation measured {', '.join(valid)}, but earlier {', '.join(self.measures)}"
            )
        for name, column in self.columns.items():
            column.append(int(new[name]) if name in COUNTS else float(new[name]))

    @property
    def measures(self) -> list[str]:
        """What validation measured: "loss" and names of metrics; empty without validation."""
        return [name.removeprefix(VALID) for name in self.columns if name.startswith(VALID)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each epoch as {column: value}."""
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def __len__(self) -> int:
        return len(self.columns.get("epoch", ()))
