"""What the models of examples, a classifier and a tagger, share: networks that give scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, SupportsFloat, TypeVar

import numpy as np

from fastseq.models.data.batches import Batch, BucketedBatches, SortedBatches, take
from fastseq.models.data.examples import Encoder, Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.task import (
    FittedState,
    Network,
    Prefetcher,
    TrainingTask,
    fingerprint_of,
    mean_norms,
)
from fastseq.nn.dense import Dense
from fastseq.nn.embedding import Embedding
from fastseq.nn.recurrent import Recurrent
from fastseq.threads import in_order
from fastseq.training.trainable import StepResult
from fastseq.types import Float64, Int32, Int64

if TYPE_CHECKING:
    from fastseq.store.examples import RowBatch, RowReader

# of batches whose losses and predictions are asked for, not gradients
ROWS_AT_ONCE = 256
UNITS_AT_ONCE = 16384


class ScoringNetwork(Network):
    """A network that gives a row of scores for each example, or for each unit of it.

    embedding, recurrent, output  its layers
    by_step  whether `read` gives every step a row of the recurrent layer's input; else units that
             come again in a batch share one, which is faster
    """

    embedding: Embedding
    recurrent: Recurrent
    output: Dense
    by_step: bool = False

    @abstractmethod
    def prepare(self, batch: Batch, training: bool) -> None:
        """Send to the device what a pass over the batch needs."""

    @abstractmethod
    def read(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """[N, D·H] where the network computes, what the recurrent layer gives at every step; with
        `training` what its way back needs is kept."""

    @abstractmethod
    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """[B, K] or [N, K] where the network computes; with `training` what `backward` needs is
        kept."""

    @abstractmethod
    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        """The mean loss and what it is a mean over, targets below 0 left out. With `training` the
        gradient is kept for `backward`, and `scores` may be overwritten."""

    @abstractmethod
    def backward(self) -> None:
        """Add to the gradients."""

    @abstractmethod
    def best(self, scores: Any, batch: Batch) -> Int32:
        """int32[B] or int32[N], the numbers of the labels predicted."""


N = TypeVar("N", bound=ScoringNetwork)


@dataclass(slots=True, eq=False)
class ScoringState(FittedState, Generic[N]):
    """What a classifier or a tagger learned.

    encoder  vocabulary, labels, characters
    """

    network: N
    encoder: Encoder

    @property
    def labels(self) -> Labels:
        """Of the rows or the units."""
        assert self.encoder.labels is not None
        return self.encoder.labels


class ScoringTask(TrainingTask[ScoringState[N]]):
    """The training of a classifier or a tagger.

    Raises DataError where every target to validate on is unseen in training.
    """

    def __init__(
        self,
        learned: ScoringState[N],
        train: Examples,
        valid: Examples | None,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(learned)
        learned.reports["training"] = train.report
        if valid is not None:
            valid.known_rows()
            learned.reports["validation"] = valid.report
        self._train = train
        self._valid = valid
        self._bucketed = BucketedBatches(train.offsets, batch_size, seed)
        self._ahead: Prefetcher[Int64, Batch] = Prefetcher(self._prepared)

    def steps_per_epoch(self, epoch: int) -> int | None:
        return self._bucketed.count(epoch)

    def batches(self, epoch: int) -> Iterator[Int64]:
        return self._ahead.through(self._bucketed.epoch(epoch))

    def _prepared(self, rows: Int64) -> Batch:
        network, batch = self.learned.network, take(self._train, rows)
        network.backend.begin()
        network.prepare(batch, True)
        return batch

    def learn(self, batch: Int64, key: int) -> StepResult:
        network = self.learned.network
        taken = self._ahead.take(batch)
        loss, weight = network.loss(network.scores(taken, True, key), taken, True)
        network.backward()
        if network.backend.ahead:
            self._ahead.prepare()
        return StepResult(loss, weight, len(taken.values))

    def validate(self) -> dict[str, float] | None:
        return None if self._valid is None else measured(self.learned.network, self._valid)

    def fingerprint(self) -> dict[str, Any]:
        train, valid = self._train, self._valid
        marks = fingerprint_of(train.values, train.offsets, train.targets)
        if valid is not None:
            marks += fingerprint_of(valid.values, valid.offsets, valid.targets)
        return {"examples": len(train), "checksums": marks}

    def flow(self) -> Float64:
        """The loss is that of each sequence's last step, read off by the output layer. It reaches
        the steps before through the recurrence alone; of a second direction nothing is asked."""
        first = np.arange(min(len(self._train), self._bucketed.batch_size))
        batch = take(self._train, first)
        network, ends = self.learned.network, batch.offsets[1:] - 1
        assert batch.targets is not None
        targets = batch.targets if len(batch.targets) == len(batch) else batch.targets[ends]
        backend, recurrent = network.backend, network.recurrent
        backend.begin()
        network.by_step = True
        y = network.read(batch, True)
        network.by_step = False
        scores = network.output.forward(backend.rows(y, ends))
        backend.cross_entropy(scores, targets)
        last = backend.get(network.output.backward(scores))
        dy = np.zeros((len(y), recurrent.output_size), np.float32)
        forwards = slice(0, recurrent.hidden_size)
        dy[ends, forwards] = last[:, forwards]
        dx = recurrent.backward_ragged(backend.put(dy))
        network.parameters.zero_gradients()
        assert dx is not None
        return mean_norms(backend.get(dx), batch.offsets)


def measured(network: ScoringNetwork, examples: Examples) -> dict[str, float]:
    """{"loss": over the known targets, "accuracy": over all, those unseen in training wrong}."""
    losses = weights = 0.0
    right = count = 0
    for batch, scores in scored(network, examples):
        best = network.best(scores, batch)
        right += int(np.count_nonzero(best == batch.targets))
        count += len(best)
        loss, weight = network.loss(scores, batch, False)
        losses += float(loss) * weight
        weights += weight
    return {"loss": losses / weights if weights else 0.0, "accuracy": right / count}


def scored(network: ScoringNetwork, examples: Examples) -> Iterator[tuple[Batch, Any]]:
    """The batches of some examples, each with its scores, the longest sequences first."""
    for rows in SortedBatches(examples.offsets, ROWS_AT_ONCE, UNITS_AT_ONCE):
        batch = take(examples, rows)
        advice = "predict on the CPU (device cpu)"
        with network.lock, network.backend.memory(advice):
            network.backend.begin()
            scores = network.scores(batch)
        yield batch, scores


def encoded(
    encoder: Encoder, reader: RowReader, report: ReadReport
) -> Iterator[tuple[RowBatch, Examples]]:
    """Each batch of rows and its examples, encoded on another thread while the caller works; what
    was met is added to `report`."""
    with ThreadPoolExecutor(1, "fastseq-encode") as pool:
        for rows, examples in in_order(pool, encoder.encode, reader.batches(), 2):
            # `encode` numbers the rows from the first that was read; here from the batch's own
            add_report(report, examples.report)
            yield rows, replace(examples, rows=examples.rows - rows.first_row)


def add_report(total: ReadReport, part: ReadReport) -> None:
    """Add what was met in a part to what was met in all."""
    for name in ("rows", "nulls", "empty", "skipped", "cut", "units", "unknown", "targets"):
        setattr(total, name, getattr(total, name) + getattr(part, name))
    for label, count in part.unseen.items():
        total.unseen[label] = total.unseen.get(label, 0) + count
    total.what = part.what
