"""An estimator's training taken apart: its initial weights, batches and settings, so that another
program can train from the same weights on the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import fastseq
from fastseq.models.data.batches import SortedBatches, take
from fastseq.models.scoring import ROWS_AT_ONCE, UNITS_AT_ONCE, ScoringTask
from fastseq.nn.devices import backend_for
from fastseq.threads import Team
from fastseq.training.gradient import train
from fastseq.types import Float32

MODELS: dict[str, Any] = {
    "classifier": fastseq.SequenceClassifier,
    "tagger": fastseq.SequenceTagger,
    "language": fastseq.LanguageModel,
    "forecaster": fastseq.Forecaster,
}
Weights = Mapping[str, Float32]


class Training:
    """What `model.fit(examples, y)` would train, on the CPU.

    model    the estimator, not fitted
    first    its initial weights, under the names of weights.safetensors
    settings of the training loop
    """

    def __init__(self, model: Any, examples: Any, y: Any, threads: int) -> None:
        model.check()
        self.model = model
        self._team = Team(threads)
        self._task = model._task(examples, y, None, {}, backend_for("cpu", self._team))
        self.settings = model._training_settings(1e9, self._task.parameters)
        self.first = {k: v.copy() for k, v in self._task.parameters.state_dict().items()}

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch with their data, in order."""
        task = self._task
        for batch in task.batches(epoch):
            yield take(task.train, batch) if isinstance(task, ScoringTask) else batch

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return int(self._task.steps_per_epoch(0)) * int(self.settings.epochs)

    def run(self) -> float:
        """Train from the first weights; the mean loss of the last epoch."""
        self._task.parameters.load_state_dict(self.first)
        history = train(self._task, self.settings, team=self._team)
        return float(history.columns["train_loss"][-1])

    def fitted_with(self, weights: Weights) -> Any:
        """The model, fitted with these weights."""
        self._task.parameters.load_state_dict(dict(weights))
        self.model._learned = self._task.learned
        return self.model


def weights_of(model: Any) -> Weights:
    """Those of a fitted model."""
    found: Weights = model.learned.network.parameters.state_dict()
    return found


def prediction_batches(model: Any, path: Path) -> list[tuple[Any, Any]]:
    """(rows of the file, batch) as a fitted model predicts them: sorted by length."""
    learned = model.learned
    examples = learned.encoder.read(model._open(path, None, {}, targets=False))
    found = SortedBatches(examples.offsets, ROWS_AT_ONCE, UNITS_AT_ONCE)
    return [(examples.rows[rows], take(examples, rows)) for rows in found]


def weight_of(batch: Any) -> int:
    """The number of targets that a batch's mean loss is over."""
    return len(batch.targets) if hasattr(batch, "offsets") else int(batch.targets.size)


def size_of(batch: Any) -> int:
    """Its tokens or numbers."""
    return len(batch.values) if hasattr(batch, "offsets") else int(batch.inputs.size)


def columns_of(path: Path, *names: str, rows: int | None = None) -> list[list[Any]]:
    """Columns of a Parquet file as lists; the first `rows`, all unless given."""
    table = pq.read_table(path, columns=list(names)).slice(0, rows)
    return [table[name].to_pylist() for name in names]


def folds(count: int, used: int) -> Iterator[tuple[list[int], list[int]]]:
    """(rows to train on, rows held out) of the first `used` of ten folds, always the same ones."""
    fold = np.random.default_rng(0).permutation(count) % 10
    for number in range(used):
        yield np.flatnonzero(fold != number).tolist(), np.flatnonzero(fold == number).tolist()
