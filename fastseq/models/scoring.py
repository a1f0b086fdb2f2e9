"""Supervised models of text: the network, training and evaluation of classifiers and taggers.

A classifier scores the labels of each row, a tagger the tags of each token.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, SupportsFloat, TypeVar

import numpy as np

from fastseq.errors import DataError, FormatError
from fastseq.models.base import RowPredictor
from fastseq.models.data.batches import Batch, BucketedBatches, SortedBatches, take
from fastseq.models.data.examples import Encoder, Examples, ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.data.vocabulary import CharacterTable, Vocabulary, WordCharacters
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.metrics import LabelCounts, SchemeTags, SpanCounts, TagScheme
from fastseq.models.sequence import (
    FittedState,
    Network,
    NetworkModel,
    NetworkTask,
    TextModel,
    mean_norms,
    restored_vocabulary,
    vocabulary_file,
)
from fastseq.nn.backend import Backend
from fastseq.nn.crf import CRF, Constraints
from fastseq.nn.layer import Layer
from fastseq.nn.layers import Dense, Embedding
from fastseq.nn.pooling import Pooling
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.settings import parse_size
from fastseq.threads import in_order
from fastseq.training.checkpoint import fingerprint_of
from fastseq.training.gradient import StepResult
from fastseq.types import Float32, Float64, Int32, Int64, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

# of batches that are predicted
ROWS_AT_ONCE = 256
UNITS_AT_ONCE = 16384

_CHARACTERS = "characters.parquet"


class CharacterWords:
    """Character-level word vectors: an embedding, a bidirectional recurrent layer and the last
    output of each direction. Every distinct word of a batch is read once.

    cell  name of the recurrent layer
    size  dimensions of a word's vector
    """

    def __init__(self, cell: str, table: Embedding, recurrent: Recurrent, backend: Backend) -> None:
        self._backend = backend
        self._table = table
        self._recurrent = recurrent
        self.size = recurrent.output_size
        self._ends = backend.pooling("last", self.size, bidirectional=True)
        self._inverse: Int64 | None = None
        self._distinct = 0
        self.layers: dict[str, Layer] = {
            "characters.embedding": table,
            f"characters.{cell}": recurrent,
        }

    def prepare(self, words: WordCharacters) -> None:
        """Send to the device what a pass over the words needs."""
        index = self._table.prepare(words.values, True)
        self._recurrent.prepare(words.offsets, index)
        self._ends.prepare(words.offsets)

    def forward(self, words: WordCharacters, training: bool, key: int) -> Any:
        """[N, size]: a vector for each word of the batch."""
        x, index = self._table.forward_distinct(words.values, training)
        y, _ = self._recurrent.forward_ragged(
            x, words.offsets, training=training, key=key, index=index
        )
        distinct = self._ends.forward(y, words.offsets, training)
        if training:
            self._inverse, self._distinct = words.inverse, len(distinct)
        return self._backend.rows(distinct, words.inverse)

    def backward(self, dy: Any) -> None:
        """Add the gradients of parameters, given that of the vectors, dy [N, size]."""
        assert self._inverse is not None, "backward without a forward pass"
        gradients = self._backend.sum_rows(dy, self._inverse, self._distinct)
        dx = self._recurrent.backward_ragged(self._ends.backward(gradients))
        assert dx is not None
        self._table.backward(dx)


class LabelNetwork(Network):
    """A network that scores labels.

    output   the layer of the scores
    weights  float32[K], of each label in the loss; None: all 1
    """

    output: Dense
    weights: Float32 | None = None
    _gradients: Any = None  # of the scores

    def prepare(self, batch: Batch, training: bool) -> None:
        """Send to the device what a pass over the batch needs."""

    def held(self) -> AbstractContextManager[None]:
        """A context in which weights do not change, for several passes without training."""
        return nullcontext()

    @abstractmethod
    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """[B, K] or [N, K] on the device; with `training` saves what `backward` needs."""

    @abstractmethod
    def backward(self) -> None:
        """Add the gradients of parameters."""

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        """The mean loss and the weight it is a mean over, without targets below 0. With `training`
        saves the gradient for `backward` and may overwrite `scores`."""
        targets = batch.targets
        assert targets is not None
        loss = self.backend.cross_entropy(scores, targets, self.weights, training)
        self._gradients = scores if training else None
        if self.weights is None:
            return loss, float(np.count_nonzero(targets >= 0))
        return loss, float(self.weights[targets[targets >= 0]].sum(dtype=np.float64))

    def best(self, scores: Any, batch: Batch) -> Int32:
        """int32[B] or int32[N]: the predicted labels."""
        return self.backend.best(scores)

    def scale_gradients(self, share: float) -> None:
        """Multiply the gradient of the last loss, that of a part of a batch, by its share of the
        mean; on the CPU."""
        gradients = self._taken_gradients()
        gradients *= np.float32(share)
        self._gradients = gradients

    def _taken_gradients(self) -> Any:
        """The gradient of the scores of the last loss."""
        assert self._gradients is not None, "backward without a loss"
        gradients, self._gradients = self._gradients, None
        return gradients


class ScoringNetwork(LabelNetwork):
    """embedding (and characters) -> dropout -> recurrent (-> pooling) -> dropout -> dense (-> CRF):
    a row of scores for each example with pooling, for each unit without.

    constraints  of the CRF in prediction; it is trained without, see SequenceTagger
    by_step      whether every step has its own row of the recurrent layer's input; else repeated
                 units share one, which is faster
    """

    by_step: bool = False
    constraints: Constraints | None = None

    def __init__(
        self,
        cell: str,
        embedding: Embedding,
        recurrent: Recurrent,
        output: Dense,
        dropout: float,
        backend: Backend,
        *,
        pooling: Pooling | None = None,
        weights: Float32 | None = None,
        words: CharacterWords | None = None,
        crf: CRF | None = None,
    ) -> None:
        self.embedding = embedding
        self.recurrent = recurrent
        self.output = output
        self.pooling = pooling
        self.weights = weights
        self.words = words
        self.crf = crf
        self._drop_in = backend.dropout(dropout)
        self._drop_out = backend.dropout(dropout)
        layers: dict[str, Layer] = {"embedding": embedding, cell: recurrent}
        if pooling is not None:
            layers["attention"] = pooling
        layers["output"] = output
        if words is not None:
            layers |= words.layers
        if crf is not None:
            layers["crf"] = crf
        super().__init__(layers, backend)

    def prepare(self, batch: Batch, training: bool) -> None:
        index = self.embedding.prepare(batch.values, self._shares(training))
        self.recurrent.prepare(batch.offsets, index)
        if self.pooling is not None:
            self.pooling.prepare(batch.offsets)
        if self.words is not None:
            assert batch.characters is not None
            self.words.prepare(batch.characters)

    def _shares(self, training: bool) -> bool:
        """Whether repeated units share an embedding row (not under per-step dropout)."""
        varying = self.by_step or self.words is not None
        return not (varying or (training and self._drop_in.rate))

    def read(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """[N, D·H] on the device: the outputs of the recurrent layer at every step; with `training`
        saves what its backward pass needs."""
        index: Int64 | None = None
        if not self._shares(training):
            x = self.embedding.forward(batch.values, training)
        else:
            x, index = self.embedding.forward_distinct(batch.values, training)
        if self.words is not None:
            assert batch.characters is not None
            words = self.words.forward(batch.characters, training, mixed_key(key, 3))
            x = self.backend.concat_columns(x, words)
        x = self._drop_in.forward(x, training, mixed_key(key, 0), out=x)
        y, _ = self.recurrent.forward_ragged(
            x, batch.offsets, training=training, key=mixed_key(key, 1), index=index
        )
        return y

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        y = self.read(batch, training, key)
        if self.pooling is not None:
            y = self.pooling.forward(y, batch.offsets, training)
        y = self._drop_out.forward(y, training, mixed_key(key, 2), out=y)
        return self.output.forward(y, training)

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        if self.crf is None:
            return super().loss(scores, batch, training)
        targets = batch.targets
        assert targets is not None
        if training:  # where no tag is unseen
            likelihood = self.crf.loss(scores, targets, batch.offsets)
            self._gradients = self.crf.backward()
            return likelihood, float(len(targets))
        known = np.logical_and.reduceat(targets >= 0, batch.offsets[:-1])
        lengths = np.diff(batch.offsets)[known]
        if not len(lengths):
            return 0.0, 0.0
        at = ranges(batch.offsets[:-1][known], lengths)
        chosen = scores if len(at) == len(targets) else self.backend.rows(scores, at)
        loss = self.crf.loss(chosen, targets[at], offsets_of(lengths), training=False)
        return loss, float(len(at))

    def backward(self) -> None:
        dy = self.output.backward(self._taken_gradients())
        dy = self._drop_out.backward(dy, out=dy)
        if self.pooling is not None:
            dy = self.pooling.backward(dy)
        learns = self.words is not None or not self.embedding.frozen
        dx = self.recurrent.backward_ragged(dy, want_dx=learns)
        if dx is None:
            return
        below = self._drop_in.backward(dx, out=dx)
        if self.words is None:
            self.embedding.backward(below)
        else:
            size = self.embedding.size
            self.embedding.backward(self.backend.columns(below, 0, size))
            self.words.backward(self.backend.columns(below, size, below.shape[1]))

    def best(self, scores: Any, batch: Batch) -> Int32:
        if self.crf is None:
            return super().best(scores, batch)
        return self.crf.decode(scores, batch.offsets, self.constraints)[0]


class RowEncoder(Protocol):
    """Encodes rows as examples."""

    @property
    def labels(self) -> Labels | None:
        """The labels of rows, or the tags of tokens; None if no target was learned."""

    def encode(self, batch: RowBatch) -> Examples:
        """As Encoder.encode."""


@dataclass(slots=True, eq=False)
class LabelState(FittedState):
    """The fitted state of a model that scores labels.

    encoder  of rows, with the labels
    scheme   how tags encode spans; None for none, and for labels of rows
    """

    network: LabelNetwork
    encoder: RowEncoder
    scheme: TagScheme | None = field(default=None, init=False)

    @property
    def labels(self) -> Labels:
        """The labels of rows, or the tags of tokens."""
        assert self.encoder.labels is not None
        return self.encoder.labels

    def names(self, report: ReadReport) -> list[str]:
        """The names of the targets of a report's examples; those unseen in training, below 0, are
        at the end."""
        return [*map(str, self.labels.values), *map(str, reversed(report.unseen))]


LS = TypeVar("LS", bound=LabelState)


@dataclass(slots=True, eq=False)
class ScoringState(LabelState):
    """The fitted state of a classifier or a tagger with recurrent layers."""

    network: ScoringNetwork
    encoder: Encoder


@dataclass(eq=False)
class LabelTask(NetworkTask[LS]):
    """The training of a classifier or a tagger."""

    train: Examples
    valid: Examples | None
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        self.learned.reports["training"] = self.train.report
        if self.valid is not None:
            self.learned.reports["validation"] = self.valid.report
        self._bucketed = BucketedBatches(self.train.offsets, self.batch_size, self.seed)

    def steps_per_epoch(self, epoch: int) -> int:
        return self._bucketed.count()

    def _batches(self, epoch: int) -> Iterator[Int64]:
        return self._bucketed.epoch(epoch)

    def _prepared(self, batch: Int64) -> Batch:
        network, taken = self.learned.network, take(self.train, batch)
        network.backend.begin()
        network.prepare(taken, True)
        return taken

    def _learn(self, prepared: Batch, key: int) -> StepResult:
        network = self.learned.network
        loss, weight = network.loss(network.scores(prepared, True, key), prepared, True)
        network.backward()
        return StepResult(loss, weight, len(prepared.values))

    def _validate(self) -> dict[str, float] | None:
        if self.valid is None:
            return None
        evaluation = Evaluation(self.learned)
        evaluation.add(self.valid)
        return evaluation.validation(self.valid.report)

    def fingerprint(self) -> dict[str, Any]:
        train, valid = self.train, self.valid
        checksums = fingerprint_of(train.values, train.offsets, train.targets)
        if valid is not None:
            checksums += fingerprint_of(valid.values, valid.offsets, valid.targets)
        return {"examples": len(train), "checksums": checksums}


@dataclass(eq=False)
class ScoringTask(LabelTask[ScoringState]):
    """The training of a classifier or a tagger with recurrent layers."""

    def flow(self) -> Float64:
        """Of the loss of each sequence's last step, whose gradient reaches earlier steps through
        the recurrence alone. A second direction is left out."""
        first = np.arange(min(len(self.train), self.batch_size))
        batch = take(self.train, first)
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

    labels  counts of labels or tags; with `confusion`, of pairs of expected and predicted ones
    spans   counts of spans, if tags encode some
    """

    def __init__(self, learned: LabelState, confusion: bool = False) -> None:
        self._learned = learned
        self._loss = self._weight = 0.0
        self.labels = LabelCounts(len(learned.labels), confusion)
        self.spans = None if learned.scheme is None else SpanCounts(learned.scheme)

    def add(self, examples: Examples) -> None:
        """Predict more examples and count; `examples.report` names the unseen labels."""
        network, names = self._learned.network, self._learned.names(examples.report)
        targets = examples.targets
        assert targets is not None
        found, of_rows = np.empty(len(targets), np.int32), len(targets) == len(examples)
        for batch, scores in scored(network, examples):
            best = network.best(scores, batch)
            found[batch.rows if of_rows and batch.words is None else batch.places] = best
            loss, weight = network.loss(scores, batch, False)
            self._loss += float(loss) * weight
            self._weight += weight
        self.labels.add(targets, found)
        if self.spans is not None:
            self.spans.add(names, targets, found, examples.tagged_rows()[0])

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
        "f1" in lenient decoding, "strict_precision", "strict_recall" and "strict_f1"."""
        found = self.validation(report)
        measures = {name: found[name] for name in ("accuracy", "macro_f1", "loss")}
        for prefix, strict in (("", False), ("strict_", True)):
            if self.spans is not None:
                *three, _ = self.spans.score(strict)
                names = ("precision", "recall", "f1")
                measures |= {prefix + n: value for n, value in zip(names, three, strict=True)}
        return {**measures, "unknown_rate": report.unknown_rate}


def scored(network: LabelNetwork, examples: Examples) -> Iterator[tuple[Batch, Any]]:
    """The batches of examples with their scores, the longest sequences first."""
    with network.held():
        for rows in SortedBatches(examples.offsets, ROWS_AT_ONCE, UNITS_AT_ONCE):
            batch = take(examples, rows)
            with network.lock:  # scores may lie in memory that the next pass uses
                with network.backend.memory("predict on the CPU (device cpu)"):
                    network.backend.begin()
                    scores = network.scores(batch)
                yield batch, scores


def count_malformed(
    learned: LabelState, examples: Examples, where: Callable[[int], str], report: ReadReport
) -> None:
    """Count in `report` the examples whose tags violate the scheme; `where` is file and row."""
    if learned.scheme is None or examples.targets is None:
        return
    tags = SchemeTags(learned.scheme, learned.names(examples.report))
    bounds, numbers = examples.tagged_rows()
    rows, _, first = tags.violations(examples.targets, bounds)
    report.malformed += len(rows)
    if len(rows) and not report.violation:
        place = where(int(numbers[rows[0]]))
        report.violation = f"the tag scheme {learned.scheme.name}, such as {place}: {first}"


class LabelModel(NetworkModel[LS], RowPredictor[LS]):
    """A model whose network scores labels."""

    def _encoded(
        self, learned: LS, reader: RowReader, report: ReadReport
    ) -> Iterator[tuple[RowBatch, Examples]]:
        """Each batch of rows and its examples, counted in `report`, encoded on another thread while
        the caller works."""
        with ThreadPoolExecutor(1, "fastseq-encode") as pool:
            for rows, examples in in_order(pool, learned.encoder.encode, reader.batches(), 2):
                report.add(examples.report)
                # `encode` numbers rows from the first that was read, here from the batch's first
                yield rows, replace(examples, rows=examples.rows - rows.first_row)

    def _set_scheme(self, learned: LS, train: Examples) -> None:
        """Set the scheme of the training tags."""

    def _evaluate(self, examples: Any, y: Any, **named: Any) -> tuple[dict[str, float], Evaluation]:
        """The measures of data with known targets. Raises DataError for data that cannot be read,
        or whose targets are all unseen in training."""
        learned = self.learned
        reader = self._open(examples, y, self._named_columns(**named), fields=learned.fields)
        report = learned.reports["data"] = ReadReport()
        evaluation = Evaluation(learned, confusion=self.inputs == "text")
        for rows, part in self._encoded(learned, reader, report):
            count_malformed(learned, part, rows.where, report)
            evaluation.add(part)
        if not evaluation.labels.known:
            tokens = self.inputs == "tokens"
            what = f"every {'tag' if tokens else 'label'} is unseen in training"
            if not evaluation.labels.total:
                what = f"there are no {'tokens' if tokens else 'rows'}"
            raise DataError(f"{reader.sources[0].name}: {what}: nothing to measure")
        return evaluation.measures(report), evaluation


class ScoringModel(TextModel[ScoringState], LabelModel[ScoringState]):
    """A model of text with recurrent layers whose network scores labels."""

    reading: ClassVar[tuple[str, ...]]  # parameters that are arguments of Encoder.learn

    @abstractmethod
    def _network(self, encoder: Encoder, size: int, backend: Backend) -> ScoringNetwork:
        """The network for an encoder; `size` is the embedding dimensions."""

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> ScoringTask:
        reader = self._open(examples, y, columns)
        memory = parse_size(self.memory)
        encoder, train = Encoder.learn(
            reader, self._units(), min_count=self.min_count, max_size=self.max_vocabulary,
            memory=memory, **{name: getattr(self, name) for name in self.reading},
        )  # fmt: skip
        held_out = None
        if valid is not None:
            valid_reader = self._open_valid(valid, columns, reader)
            held_out = encoder.read(valid_reader, memory)
            held_out.check_known(valid_reader.sources[0].name)

        def build(size: int) -> ScoringState:
            return ScoringState(self._network(encoder, size, backend), reader.fields, encoder)

        learned = self._initialised(encoder.vocabulary, train.values, backend, build)
        self._set_scheme(learned, train)
        count_malformed(learned, train, reader.data.where, train.report)
        if held_out is not None:
            count_malformed(learned, held_out, valid_reader.data.where, held_out.report)
        return ScoringTask(learned, train, held_out, self.batch_size, self.seed)

    @property
    def vocabulary_(self) -> Vocabulary:
        """The units and their ids."""
        return self.learned.encoder.vocabulary

    def _statistics(self, learned: ScoringState) -> dict[str, Any]:
        encoder = learned.encoder
        return {
            "vocabulary": encoder.vocabulary.to_dict(),
            "labels": learned.labels.to_dict(),
            "characters": None if encoder.chars is None else encoder.chars.to_dict(),
            "max_length": encoder.max_length,
            "embedding": learned.network.embedding.size,
        }

    def _files(self, learned: ScoringState) -> dict[str, Content]:
        files, chars = vocabulary_file(learned.encoder.vocabulary), learned.encoder.chars
        if chars is not None:
            files |= vocabulary_file(chars.vocabulary, _CHARACTERS)
        return files

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> ScoringState:
        from fastseq.store.columns import Fields

        saved = folder.statistics
        chars: CharacterTable | None = None
        if saved["characters"] is not None:
            table, longest = saved["characters"]["vocabulary"], int(saved["characters"]["longest"])
            chars = CharacterTable(restored_vocabulary(folder, table, _CHARACTERS), longest)
        labels = Labels.from_dict(saved["labels"])
        if len(labels) < 2:
            raise FormatError(f"{len(labels)} labels, expected at least 2")
        vocabulary = restored_vocabulary(folder, saved["vocabulary"])
        encoder = Encoder(vocabulary, labels, chars, saved["max_length"])
        network = self._network(encoder, saved["embedding"], backend)
        return ScoringState(network, Fields.from_dict(saved["fields"]), encoder)
