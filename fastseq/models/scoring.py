"""Supervised models of text: networks that score labels, their training and evaluation.

A classifier scores the labels of each row, a tagger the tags of each token.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, SupportsFloat, TypeVar

import numpy as np

from fastseq.errors import DataError, FormatError
from fastseq.models.base import TextModel, restored_vocabulary, texts_of, vocabulary_file
from fastseq.models.data.batches import Batch, BucketedBatches, SortedBatches, take
from fastseq.models.data.characters import CharTable
from fastseq.models.data.examples import Encoder, Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.data.vocabulary import Vocabulary
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.metrics import LabelCounts
from fastseq.models.prediction import RowPredictor
from fastseq.models.spans import SchemeTags, SpanCounts, TagScheme
from fastseq.models.task import (
    FittedState,
    Network,
    Prefetcher,
    TrainingTask,
    fingerprint_of,
    mean_norms,
)
from fastseq.nn.backend import Backend
from fastseq.nn.layer import Layer
from fastseq.nn.layers import Dense, Embedding
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.settings import parse_size
from fastseq.threads import in_order
from fastseq.training.gradient import StepResult
from fastseq.types import Float64, Int32, Int64

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

# of batches that are predicted
ROWS_AT_ONCE = 256
UNITS_AT_ONCE = 16384

_CHARACTERS = "characters.parquet"


class ScoringNetwork(Network):
    """A network with a row of scores for each example, or for each unit of it.

    embedding, recurrent, output  its layers
    by_step  whether every step has its own row of the recurrent layer's input; else repeated units
             share one, which is faster
    """

    by_step: bool = False

    def __init__(
        self,
        embedding: Embedding,
        recurrent: Recurrent,
        output: Dense,
        dropout: float,
        layers: Mapping[str, Layer],
        backend: Backend,
    ) -> None:
        self.embedding = embedding
        self.recurrent = recurrent
        self.output = output
        self._drop_in = backend.dropout(dropout)
        self._drop_out = backend.dropout(dropout)
        self._gradients: Any = None
        super().__init__(layers, backend)

    def prepare(self, batch: Batch, training: bool) -> None:
        """Send to the device what a pass over the batch needs."""
        index = self.embedding.prepare(batch.values, self._shares(training))
        self.recurrent.prepare(batch.offsets, index)

    def _shares(self, training: bool) -> bool:
        """Whether repeated units share an embedding row (not under per-step dropout)."""
        return not (self.by_step or (training and self._drop_in.rate))

    def read(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """[N, D·H] on the network's device: the outputs of the recurrent layer at every step; with
        `training` what its backward pass needs is kept."""
        index: Int64 | None = None
        if not self._shares(training):
            x = self.embedding.forward(batch.values, training)
        else:
            x, index = self.embedding.forward_distinct(batch.values, training)
        x = self._extended(x, batch, training, key)
        x = self._drop_in.forward(x, training, mixed_key(key, 0), out=x)
        y, _ = self.recurrent.forward_ragged(
            x, batch.offsets, training=training, key=mixed_key(key, 1), index=index
        )
        return y

    def _extended(self, x: Any, batch: Batch, training: bool, key: int) -> Any:
        """The embeddings of all steps with other features."""
        return x

    @abstractmethod
    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """[B, K] or [N, K] on the network's device; with `training` what `backward` needs is
        kept."""

    @abstractmethod
    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        """The mean loss and the weight that it is a mean over, targets below 0 left out. With
        `training` the gradient is kept for `backward`, and `scores` may be overwritten."""

    @abstractmethod
    def backward(self) -> None:
        """Add the gradients of parameters."""

    def best(self, scores: Any, batch: Batch) -> Int32:
        """int32[B] or int32[N]: the predicted labels."""
        return self.backend.best(scores)


N = TypeVar("N", bound=ScoringNetwork)


@dataclass(slots=True, eq=False)
class ScoringState(FittedState, Generic[N]):
    """The fitted state of a classifier or a tagger.

    encoder  vocabulary, labels, characters
    scheme   how tags encode spans; None for none, and for labels of rows
    """

    network: N
    encoder: Encoder
    scheme: TagScheme | None = field(default=None, init=False)

    @property
    def labels(self) -> Labels:
        """The labels of rows, or the tags of tokens."""
        assert self.encoder.labels is not None
        return self.encoder.labels

    def names(self, report: ReadReport) -> list[str]:
        """What the targets of the examples of a report stand for, those below 0, which training
        did not have, counted from the end."""
        return [*map(str, self.labels.values), *map(str, reversed(report.unseen))]


class ScoringTask(TrainingTask[ScoringState[N]]):
    """The training of a classifier or a tagger.

    Raises DataError if every target to validate on is unseen in training.
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
        if self._valid is None:
            return None
        evaluation = Evaluation(self.learned)
        evaluation.add(self._valid)
        return evaluation.validation(self._valid.report)

    def fingerprint(self) -> dict[str, Any]:
        train, valid = self._train, self._valid
        marks = fingerprint_of(train.values, train.offsets, train.targets)
        if valid is not None:
            marks += fingerprint_of(valid.values, valid.offsets, valid.targets)
        return {"examples": len(train), "checksums": marks}

    def flow(self) -> Float64:
        """The loss is that of each sequence's last step: its gradient reaches earlier steps through
        the recurrence alone. A second direction is left out."""
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


class Evaluation:
    """Measures of predictions, part after part of the examples.

    Parameters
    ----------
    confusion : count which labels are predicted for which

    Attributes
    ----------
    labels : counts of labels or tags
    spans : counts of spans, where tags encode some
    """

    def __init__(self, learned: ScoringState[Any], confusion: bool = False) -> None:
        self._learned = learned
        self._loss = self._weight = 0.0
        self.labels = LabelCounts(len(learned.labels), confusion)
        self.spans = None if learned.scheme is None else SpanCounts(learned.scheme)

    def add(self, examples: Examples) -> None:
        """Predict more examples and count; `examples.report` names the unseen labels."""
        network, names = self._learned.network, self._learned.names(examples.report)
        for batch, scores in scored(network, examples):
            assert batch.targets is not None
            best = network.best(scores, batch)
            self.labels.add(batch.targets, best)
            if self.spans is not None:
                self.spans.add(names, batch.targets, best, batch.offsets)
            loss, weight = network.loss(scores, batch, False)
            self._loss += float(loss) * weight
            self._weight += weight

    def validation(self, report: ReadReport) -> dict[str, float]:
        """{"loss", "accuracy", "macro_f1"}, and of spans "f1"."""
        spans = {} if self.spans is None else {"f1": self.spans.score().f1}
        return {
            "loss": self._loss / self._weight if self._weight else 0.0,
            "accuracy": self.labels.accuracy,
            "macro_f1": self.labels.macro_f1(len(report.unseen)),
            **spans,
        }

    def measures(self, report: ReadReport) -> dict[str, float]:
        """{"accuracy", "macro_f1", "loss", "unknown_rate"}, and of spans "precision", "recall" and
        "f1" in lenient reading, "strict_precision", "strict_recall" and "strict_f1"."""
        found = self.validation(report)
        measures = {name: found[name] for name in ("accuracy", "macro_f1", "loss")}
        for prefix, strict in (("", False), ("strict_", True)):
            if self.spans is not None:
                *three, _ = self.spans.score(strict)
                names = ("precision", "recall", "f1")
                measures |= {prefix + n: value for n, value in zip(names, three, strict=True)}
        return {**measures, "unknown_rate": report.unknown_rate}


def scored(network: ScoringNetwork, examples: Examples) -> Iterator[tuple[Batch, Any]]:
    """The batches of examples with their scores, the longest sequences first."""
    for rows in SortedBatches(examples.offsets, ROWS_AT_ONCE, UNITS_AT_ONCE):
        batch = take(examples, rows)
        advice = "predict on the CPU (device cpu)"
        with network.lock:  # scores may lie in memory that the next pass uses
            with network.backend.memory(advice):
                network.backend.begin()
                scores = network.scores(batch)
            yield batch, scores


def encoded(
    encoder: Encoder, reader: RowReader, report: ReadReport
) -> Iterator[tuple[RowBatch, Examples]]:
    """Each batch of rows and its examples, counted in `report`, encoded on another thread while
    the caller works."""
    with ThreadPoolExecutor(1, "fastseq-encode") as pool:
        for rows, examples in in_order(pool, encoder.encode, reader.batches(), 2):
            # `encode` numbers rows from the first that was read, here from the first of the batch
            add_report(report, examples.report)
            yield rows, replace(examples, rows=examples.rows - rows.first_row)


def count_malformed(
    learned: ScoringState[Any], examples: Examples, where: Callable[[int], str], report: ReadReport
) -> None:
    """Count in `report` the examples whose tags violate the scheme.

    where  file and row of a row number
    """
    if learned.scheme is None or examples.targets is None:
        return
    tags = SchemeTags(learned.scheme, learned.names(examples.report))
    rows, _, first = tags.violations(examples.targets, examples.offsets)
    report.malformed += len(rows)
    if len(rows) and not report.violation:
        place = where(int(examples.rows[rows[0]]))
        report.violation = f"the tag scheme {learned.scheme.name}, such as {place}: {first}"


def add_report(total: ReadReport, part: ReadReport) -> None:
    """Add the counts of a part to those of the whole."""
    for name in ("rows", "nulls", "empty", "skipped", "cut", "units", "unknown", "targets"):
        setattr(total, name, getattr(total, name) + getattr(part, name))
    for label, count in part.unseen.items():
        total.unseen[label] = total.unseen.get(label, 0) + count
    total.what = part.what


class ScoringModel(TextModel[ScoringState[N]], RowPredictor[ScoringState[N]]):
    """A model of text whose network scores labels; parameters are those of TextModel."""

    @abstractmethod
    def _reading(self) -> dict[str, Any]:
        """Arguments of Encoder.learn that are parameters of only some models."""

    @abstractmethod
    def _network(self, encoder: Encoder, size: int, backend: Backend) -> N:
        """The network for an encoder; `size` is the embedding dimensions."""

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> ScoringTask[N]:
        reader = self._open(examples, y, columns)
        memory = parse_size(self.memory)
        encoder, train = Encoder.learn(
            reader,
            self._units(),
            min_count=self.min_count,
            max_size=self.max_vocabulary,
            memory=memory,
            **self._reading(),
        )
        held_out = None
        if valid is not None:
            valid_reader = self._open_valid(valid, columns, reader)
            held_out = encoder.read(valid_reader, memory)
        vectors = self._vectors(encoder.vocabulary, backend.team)
        size = self.embedding if vectors is None else vectors[1].shape[1]
        assert size is not None
        network = self._network(encoder, size, backend)
        learned = ScoringState(network, reader.fields, encoder)
        if vectors is not None:
            self._place(network.embedding, vectors)
            learned.coverage = encoder.vocabulary.coverage(vectors[0], train.values)
        self._settle(learned, train)
        count_malformed(learned, train, reader.data.where, train.report)
        if held_out is not None:
            count_malformed(learned, held_out, valid_reader.data.where, held_out.report)
        return ScoringTask(learned, train, held_out, self.batch_size, self.seed)

    @property
    def vocabulary_(self) -> Vocabulary:
        """The units that are known."""
        return self.learned.encoder.vocabulary

    def _encoded(
        self, learned: ScoringState[N], reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Examples]]:
        return encoded(learned.encoder, reader, report)

    def _settle(self, learned: ScoringState[N], train: Examples) -> None:
        """Learn what else the training targets say."""

    def _evaluate(self, examples: Any, y: Any, **named: Any) -> tuple[dict[str, float], Evaluation]:
        """The measures of data with known targets. Raises DataError for data that cannot be read,
        or that have no target that training had."""
        learned = self.learned
        reader = self._open(examples, y, self._named_columns(**named), fields=learned.fields)
        report = learned.reports["data"] = ReadReport()
        evaluation = Evaluation(learned, confusion=self.inputs == "text")
        for rows, part in encoded(learned.encoder, reader, report):
            count_malformed(learned, part, rows.where, report)
            evaluation.add(part)
        if not evaluation.labels.known:
            tokens = self.inputs == "tokens"
            what = f"every {'tag' if tokens else 'label'} is unseen in training"
            if not evaluation.labels.total:
                what = f"there are no {'tokens' if tokens else 'rows'}"
            raise DataError(f"{reader.sources[0].name}: {what}: nothing to measure")
        return evaluation.measures(report), evaluation

    def _statistics(self, learned: ScoringState[N]) -> dict[str, Any]:
        encoder = learned.encoder
        return {
            "vocabulary": encoder.vocabulary.to_dict(),
            "labels": learned.labels.to_dict(),
            "characters": None if encoder.chars is None else encoder.chars.to_dict(),
            "max_length": encoder.max_length,
            "embedding": learned.network.embedding.size,
        }

    def _files(self, learned: ScoringState[N]) -> dict[str, Content]:
        files, chars = vocabulary_file(learned.encoder.vocabulary), learned.encoder.chars
        if chars is not None:
            files[_CHARACTERS] = {"unit": chars.to_texts().to_strings()}
        return files

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> ScoringState[N]:
        from fastseq.store.columns import Fields

        saved = folder.statistics
        chars: CharTable | None = None
        if saved["characters"] is not None:
            chars = CharTable.from_texts(texts_of(folder, _CHARACTERS), saved["characters"])
        labels = Labels.from_dict(saved["labels"])
        if len(labels) < 2:
            raise FormatError(f"{len(labels)} labels, expected at least 2")
        vocabulary = restored_vocabulary(folder, saved["vocabulary"])
        encoder = Encoder(vocabulary, labels, chars, saved["max_length"])
        network = self._network(encoder, saved["embedding"], backend)
        return ScoringState(network, Fields.from_dict(saved["fields"]), encoder)
