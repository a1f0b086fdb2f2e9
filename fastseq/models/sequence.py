"""Models with a network: parameters, training, saving; word vectors of text models.

A model is a `NetworkModel`, with recurrent layers a `SequenceModel`, with parameters and a few
methods that read its data and build its `Network`. `fit` trains a `NetworkTask`, which yields the
`FittedState`.
"""

from __future__ import annotations

import json
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from fastseq.errors import DataError, NotFittedError, SettingsError
from fastseq.estimator import (
    FRACTION,
    Check,
    Choice,
    Flag,
    Location,
    Named,
    Real,
    Whole,
    parameter,
)
from fastseq.interrupts import Interrupts
from fastseq.models.base import SKIP_BAD_LINES, SavableModel, training_parameter
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.tokenizer import UNITS, SequenceTokenizer
from fastseq.models.data.vocabulary import Vocabulary
from fastseq.models.folder import HISTORY, Content, ModelFolder, ModelWriter
from fastseq.nn.backend import Backend
from fastseq.nn.devices import DEVICES, PRECISIONS, backend_for, check_place
from fastseq.nn.layer import Layer, Parameters
from fastseq.nn.layers import Embedding
from fastseq.nn.optimisers import OPTIMISERS
from fastseq.nn.recurrent import Recurrent
from fastseq.nn.schedules import SCHEDULES
from fastseq.seeds import mixed_key
from fastseq.settings import named, one_of, thread_count
from fastseq.store.folder import is_finished
from fastseq.store.outputs import check_folder
from fastseq.threads import Team
from fastseq.training.checkpoint import History, refuse_other_data
from fastseq.training.gradient import StepResult, TrainingSettings, TrainingTask, train
from fastseq.training.loop import CHECKPOINT_SECONDS, Report
from fastseq.types import Float32, Float64, Int32, Int64, Texts

if TYPE_CHECKING:
    from fastseq.store.columns import Fields

CELLS = ("lstm", "gru", "rnn")
NONLINEARITIES = ("tanh", "relu")
_VOCABULARY = "vocabulary.parquet"

# parameters of training, which a checkpoint compares anyway, and of prediction alone
TRAINING = frozenset(
    {"epochs", "learning_rate", "optimizer", "optimizer_settings", "weight_decay", "schedule"}
    | {"schedule_settings", "warmup", "clip", "clip_value", "patience", "monitor", "seed"}
    | {"tag_scheme"}
)


class Network:
    """Layers that share one pair of flat buffers, under the names of `weights.safetensors`.

    layers      {prefix: layer}; those without parameters may be missing
    parameters  of all of them
    backend     that created them
    lock        held during a pass, whose working memory serves one thread at a time
    """

    def __init__(self, layers: Mapping[str, Layer], backend: Backend) -> None:
        self.layers = dict(layers)
        self.parameters: Parameters = backend.join(self.layers)
        self.backend = backend
        self.lock = backend.lock


@dataclass(slots=True, eq=False)
class FittedState:
    """The result of training, which prediction needs. Models add to it.

    network   the layers
    fields    the columns that were read
    settings  the model's when it was fitted, as in its manifest
    history   epoch by epoch; None if unknown
    reports   counts of what was read, {"training": …, "validation": …}
    flow      see SequenceModel.gradient_flow_
    coverage  see Vocabulary.coverage, of the given word vectors
    data      the part of a run's identity that depends on its data; None if unknown
    """

    network: Network
    fields: Fields
    settings: dict[str, Any] = field(default_factory=dict, init=False)
    history: History | None = field(default=None, init=False)
    coverage: dict[str, int] | None = field(default=None, init=False)
    reports: dict[str, ReadReport] = field(default_factory=dict, init=False)
    flow: dict[str, Float64] | None = field(default=None, init=False)
    data: dict[str, Any] | None = field(default=None, init=False)


L = TypeVar("L", bound=FittedState)


@dataclass(eq=False)
class NetworkTask(TrainingTask, Generic[L]):
    """The training of a network. The next batch is prepared while a device works on the current
    one.

    learned   the fitted state that training fills
    recorded  the gradient flow before training and after each epoch; None if not recorded
    """

    learned: L
    recorded: dict[str, Float64] | None = field(default=None, init=False)
    _epoch: int = field(default=0, init=False)
    _next: Any = field(default=None, init=False)  # batch
    _ahead: tuple[Any, Any] | None = field(default=None, init=False)  # a batch, its prepared data

    @property
    def parameters(self) -> Parameters:
        return self.learned.network.parameters

    def record_flow(self) -> None:
        """Record the gradient flow now and after each epoch."""
        self.recorded = {"before training": self.flow()}

    def batches(self, epoch: int) -> Iterator[Any]:
        self._epoch = epoch
        rest = iter(self._batches(epoch))
        batch = next(rest, None)
        while batch is not None:
            self._next = next(rest, None)
            yield batch
            batch = self._next

    def learn(self, batch: Any, key: int) -> StepResult:
        ahead, self._ahead = self._ahead, None
        known = ahead is not None and ahead[0] is batch
        result = self._learn(ahead[1] if ahead and known else self._prepared(batch), key)
        if self._next is not None and self.learned.network.backend.asynchronous:
            self._ahead = self._next, self._prepared(self._next)
        return result

    def validate(self) -> dict[str, float] | None:
        if self.recorded is not None:
            self.recorded[f"epoch {self._epoch + 1}"] = self.flow()
        return self._validate()

    @abstractmethod
    def _batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch, the same ones in the same order at each call."""

    @abstractmethod
    def _prepared(self, batch: Any) -> Any:
        """The data of a batch, sent to the device."""

    @abstractmethod
    def _learn(self, prepared: Any, key: int) -> StepResult:
        """Forward and backward pass of what `_prepared` returned, see TrainingTask.learn."""

    @abstractmethod
    def _validate(self) -> dict[str, float] | None:
        """The measures of held-out data; None without held-out data."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Checksums of the data, as JSON, for the checkpoint's identity."""

    @abstractmethod
    def flow(self) -> Float64:
        """float64[T]: the norm of the gradient at each step of the recurrent layer's input,
        counted back from the last, on a batch that is always the same. Zeroes gradients."""


def mean_norms(dx: Float32, offsets: Int64) -> Float64:
    """float64[T]: the norm of each sequence's row t steps before its last, the mean over the
    sequences that have such a row; dx float32[N, I] ragged by offsets int64[B + 1]."""
    norms = np.sqrt(np.square(dx, dtype=np.float64).sum(1))
    lengths = np.diff(offsets)
    back = np.repeat(offsets[1:] - 1, lengths) - np.arange(len(dx))
    counts = np.bincount(back)
    return np.asarray(np.bincount(back, norms) / counts, np.float64)


def step_norms(dx: Float32) -> Float64:
    """`mean_norms` of sequences of one length: float64[T] of dx float32[T, B, I]."""
    norms = np.sqrt(np.square(dx, dtype=np.float64).sum(2)).mean(1)
    return np.ascontiguousarray(norms[::-1])


class NetworkModel(SavableModel[L]):
    """Training and saving of the models with a network, and the parameters of training."""

    learning_rates: ClassVar[Mapping[str, float]] = {}  # own defaults, by optimiser
    measures: ClassVar[Mapping[str, bool]]  # of validation: whether larger is better
    largest_loss: ClassVar[float | None] = 1e4  # nats; one batch above it has diverged

    epochs: int = training_parameter(
        default=10, check=Whole(1), help="Passes over the training data."
    )
    batch_size: int = training_parameter(
        default=32, check=Whole(1), help="Sequences per mini-batch."
    )
    learning_rate: float | None = training_parameter(
        default=None, check=Real(above=0), help="Peak learning rate.",
        none="that of the model or the optimiser",
    )  # fmt: skip
    optimizer: str = training_parameter(default="adam", check=Choice(OPTIMISERS), help="Optimiser.")
    optimizer_settings: Mapping[str, Any] | None = training_parameter(
        default=None, check=Named(), none="the optimiser's defaults",
        help="Further optimiser settings by name, such as momentum=0.9 or betas=0.9,0.99.",
        flag="optimizer-setting",
    )  # fmt: skip
    weight_decay: float = training_parameter(
        default=0.0, check=Real(least=0), help="Weight decay (L2).", notes="Decoupled for adamw."
    )
    schedule: str = training_parameter(
        default="constant", check=Choice(SCHEDULES), help="Learning-rate schedule."
    )
    schedule_settings: Mapping[str, Any] | None = training_parameter(
        default=None, check=Named(), none="the schedule's defaults",
        help="Further schedule settings by name, such as every=500.", flag="schedule-setting",
    )  # fmt: skip
    warmup: int = training_parameter(
        default=0, check=Whole(0), help="Warm-up steps of the learning rate."
    )
    clip: float | None = training_parameter(
        default=None, check=Real(above=0), help="Maximum norm of all gradients together.",
        none="not clipped",
    )  # fmt: skip
    clip_value: float | None = training_parameter(
        default=None, check=Real(above=0), help="Maximum absolute value of a gradient.",
        none="not clipped",
    )  # fmt: skip
    patience: int | None = training_parameter(
        default=None, check=Whole(1), none="no early stopping",
        help="Early stopping: epochs without a better validation.",
    )  # fmt: skip
    monitor: str | None = training_parameter(
        default=None, check=Check(), metavar="M",
        help="Validation measure that selects the best epoch: loss, accuracy, macro_f1, f1 (of "
        "spans), perplexity, rmse, spearman, pearson, masked_loss or next_accuracy.",
        none="accuracy, or loss where text or numbers are predicted",
    )  # fmt: skip
    device: str = training_parameter(
        default="auto", check=Choice(DEVICES), run=True,
        help="Device to compute on; auto is a GPU where available.",
    )  # fmt: skip
    precision: str = training_parameter(
        default="float32", check=Choice(PRECISIONS), run=True,
        help="Precision of matrix products on a GPU.", notes="Sums are float32.",
    )  # fmt: skip

    # ---- training

    def fit(
        self,
        examples: Any,
        y: Any = None,
        *,
        valid: Any = None,
        text_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
        tokens_column: str | None = None,
        tags_column: str | None = None,
        value_columns: str | Sequence[str] | None = None,
        series_column: str | None = None,
        path: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        progress: Report | None = None,
        gradient_flow: bool = False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> Self:
        """Train on examples.

        Parameters
        ----------
        examples : paths of Parquet files, an Arrow table or stream, a data frame; or a list with
            an element for each row, and their targets in `y`
        y : targets of a list of examples
        valid : data to validate on after each epoch, of the same kinds; (examples, y) for lists.
            With it the weights of the best epoch are kept, without it the last ones
        text_column … series_column : names of columns; those not named are guessed
        path : a folder to train in: checkpoints, then the model. None: in memory alone
        overwrite : replace an existing model
        resume : continue from the checkpoint there; a model that was trained there with the same
            parameters and data, and whose checkpoint was deleted, is loaded
        progress : called a few times a second with the progress of training
        gradient_flow : record `gradient_flow_`
        checkpoint_seconds : between two checkpoints inside an epoch

        Raises
        ------
        SettingsError
            A parameter out of its range; a path that is taken; a checkpoint of another run.
        DataError
            Data that cannot be read or trained on: which file, row and column.
        DeviceError
            The device is not available.
        TrainingError
            The loss is no longer finite; the last checkpoint stays.
        KeyboardInterrupt, SystemExit
            Ctrl-C, SIGTERM. With a `path` the checkpoint there holds the last complete step;
            without one this model does, ready for use.
        """
        self.check()
        columns = self._named_columns(
            text_column=text_column, label_column=label_column, tokens_column=tokens_column,
            tags_column=tags_column, value_columns=value_columns, series_column=series_column,
        )  # fmt: skip
        plateau = "the schedule plateau" if self.schedule == "plateau" else None
        monitor, patience = self.monitor and "monitor", self.patience and "patience"
        needs = monitor or patience or plateau
        if valid is None and needs:
            raise SettingsError(f"{needs} needs validation data (valid)")
        if resume and path is None:
            raise SettingsError("resume needs the path of the folder of the model")
        finished = None
        if resume and not (overwrite or gradient_flow) and path is not None and is_finished(path):
            finished = self.load(path, self.threads, self.device)
            if finished.settings() != self.settings():
                finished = None  # ModelWriter refuses: there is no checkpoint
        backend = self._backend()
        advice = f"lower batch_size (now {self.batch_size})"
        check_folder(path, examples, valid, getattr(self, "embeddings", None))
        place: AbstractContextManager[ModelWriter | None] = nullcontext()
        if path is not None and finished is None:
            place = ModelWriter(path, overwrite, resume)
        with place as writer, backend.memory(advice), Interrupts() as interrupts:
            task = self._task(examples, y, valid, columns, backend)
            learned, data = task.learned, self._data(task)
            settings = self._training_settings(checkpoint_seconds, task.parameters)
            if finished is not None and path is not None:
                refuse_other_data(Path(path), finished.learned.data, data)
                self._learned = finished._learned
                return self
            if gradient_flow:
                task.record_flow()
            checkpoint = writer.checkpoint({**self._identity(), **data}) if writer else None
            learned.settings, learned.data = self.settings(), data

            def keep(history: History) -> None:
                learned.history = history
                learned.network.parameters.pull()
                learned.flow = task.recorded
                self._learned = learned

            interrupted = None if writer else keep
            history = train(task, settings, checkpoint, resume, progress, backend.team, interrupted)
            interrupts.hold()  # a signal while writing must not lose the training
            keep(history)
            if writer is not None:
                writer.commit(self.kind, *self._content(learned))
            interrupts.release()
        return self

    def check(self) -> None:
        """Raise SettingsError for a parameter that is out of its range, DeviceError for a device
        that is not available."""
        super().check()
        check_place(self.device, self.precision)
        self._training_settings(0.0, None)

    def _check(self) -> None:
        if self.monitor is not None:
            one_of("monitor", self.monitor, self.measures)

    # ---- fitted state

    @property
    def history_(self) -> History | None:
        """The history of the training, epoch by epoch."""
        return self.learned.history

    @property
    def monitored(self) -> str:
        """The validation measure that the best epoch is chosen by."""
        return next(iter(self.measures)) if self.monitor is None else self.monitor

    @property
    def n_parameters_(self) -> int:
        """The number of weights."""
        return self.learned.network.parameters.count

    @property
    def gradient_flow_(self) -> dict[str, Float64]:
        """{"before training", "epoch 1", …: float64[T]}: the norm of the gradient of the loss
        with respect to the recurrent layer's input, t steps before a sequence's last, the mean
        over the sequences of one batch. Raises NotFittedError where it was not recorded."""
        if self.learned.flow is None:
            raise NotFittedError("no gradient flow was recorded: call fit with gradient_flow=True")
        return self.learned.flow

    # ---- saving

    def _content(
        self, learned: L
    ) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Float32], dict[str, Content]]:
        files, weights = self._files(learned), learned.network.parameters.views
        if learned.history is not None:
            files = {HISTORY: learned.history.columns, **files}
        return learned.settings, self._all_statistics(learned), weights, files

    def _restored(self, folder: ModelFolder) -> L:
        learned = self._rebuilt(folder, self._backend())
        learned.network.parameters.load_state_dict(folder.weights)
        learned.network.parameters.push()
        learned.history = folder.history()
        learned.coverage = folder.statistics.get("embeddings")
        learned.data = folder.statistics.get("data")
        return learned

    @classmethod
    def _on(cls, device: str) -> dict[str, Any]:
        return {"device": one_of("device", device, DEVICES)}

    # ---- for the models

    @abstractmethod
    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> NetworkTask[L]:
        """Read the data, build the network. `self` is not changed."""

    @abstractmethod
    def _statistics(self, learned: L) -> dict[str, Any]:
        """The part of the fitted state that `_rebuilt` needs, as JSON."""

    def _all_statistics(self, learned: L) -> dict[str, Any]:
        count, fields = learned.network.parameters.count, learned.fields.to_dict()
        own: dict[str, Any] = {"parameters": count, "fields": fields}
        if learned.coverage is not None:
            own["embeddings"] = learned.coverage
        if learned.data is not None:
            own["data"] = learned.data
        return {**own, **self._statistics(learned)}

    @abstractmethod
    def _files(self, learned: L) -> dict[str, Content]:
        """The parts of the fitted state that are too large for JSON."""

    @abstractmethod
    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> L:
        """The fitted state of `_statistics` and `_files`, without the weights."""

    def _frozen(self) -> tuple[str, ...]:
        """Names of weights that are not trained."""
        return ()

    def _backend(self) -> Backend:
        """The backend of the device. Raises DeviceError if it is not available."""
        return backend_for(self.device, Team(thread_count(self.threads)), self.precision)

    def _training_settings(
        self, checkpoint_seconds: float, parameters: Parameters | None
    ) -> TrainingSettings:
        """The settings of a training of these weights; None where they are not known yet."""
        rate, monitor = self.learning_rate, self.monitored
        own = named("optimizer_settings", self.optimizer_settings)
        if self.weight_decay or (self.optimizer == "adamw" and "weight_decay" not in own):
            own["weight_decay"] = self.weight_decay  # that of adamw itself is not 0
        same = ("epochs", "schedule", "warmup", "clip", "clip_value", "patience", "seed")
        return TrainingSettings(
            optimiser=self.optimizer, optimiser_settings=own,
            learning_rate=self.learning_rates.get(self.optimizer) if rate is None else rate,
            schedule_settings=named("schedule_settings", self.schedule_settings),
            frozen=self._frozen(), monitor=monitor, larger_is_better=self.measures[monitor],
            largest_loss=self.largest_loss, checkpoint_seconds=checkpoint_seconds,
            **{name: getattr(self, name) for name in same},
        )  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        """What identifies a training run, without its data."""
        settings = {k: v for k, v in self.settings().items() if k not in TRAINING}
        return {"model": self.kind, "settings": settings}

    def _data(self, task: NetworkTask[L]) -> dict[str, Any]:
        """What identifies the data of a training run."""
        # also what ids, labels and scaled values stand for: equal numbers may differ in meaning
        meaning = json.dumps(self._statistics(task.learned), sort_keys=True)
        files = repr(sorted(self._files(task.learned).items()))
        return {
            "data": task.fingerprint(),
            "vocabulary, labels and scale": zlib.crc32((meaning + files).encode()),
        }


class SequenceModel(NetworkModel[L]):
    """Parameters of the models with recurrent layers."""

    cell: str = parameter(default="lstm", check=Choice(CELLS), help="Recurrent cell.")
    nonlinearity: str = parameter(
        default="tanh", check=Choice(NONLINEARITIES), help="Activation of the cell rnn."
    )
    hidden: int = parameter(
        default=128, check=Whole(1), help="Hidden units.", notes="Of each direction and layer."
    )
    layers: int = parameter(default=1, check=Whole(1), help="Stacked recurrent layers.")
    dropout: float = training_parameter(
        default=0.0, check=FRACTION, help="Dropout rate between layers.",
        notes="Applied to the inputs and outputs of the recurrent layers, while training.",
    )  # fmt: skip
    recurrent_dropout: float = training_parameter(
        default=0.0, check=FRACTION, help="Dropout rate of recurrent weights."
    )
    def _check(self) -> None:
        super()._check()
        if self.nonlinearity != "tanh" and self.cell != "rnn":
            raise SettingsError(
                f"nonlinearity {self.nonlinearity} is for the cell rnn; the cell {self.cell} has "
                "its own, expected tanh"
            )

    def _recurrent_class(self, backend: Backend) -> Callable[..., Recurrent]:
        """The constructor of recurrent layers with this cell."""
        kind = backend.recurrent[self.cell]
        return partial(kind, nonlinearity=self.nonlinearity) if self.cell == "rnn" else kind

    def _recurrent(self, inputs: int, bidirectional: bool, backend: Backend) -> Recurrent:
        """The recurrent layers."""
        return self._recurrent_class(backend)(
            inputs, self.hidden, self.layers, bidirectional=bidirectional, dropout=self.dropout,
            weight_dropout=self.recurrent_dropout, seed=mixed_key(self.seed, 1),
        )  # fmt: skip


class TextModel(SequenceModel[L]):
    """Parameters, vocabulary and word vectors of the models of text."""

    unit: str = parameter(
        default="word", check=Choice(UNITS), help="Unit of text: word, space-separated, char, byte."
    )
    lowercase: bool | None = parameter(
        default=None, check=Flag(), help="Lower-case the text.", flag="lowercase/keep-case",
        none="words are lower-cased, other units are not",
    )  # fmt: skip
    embedding: int | None = parameter(
        default=128, check=Whole(1), help="Embedding dimensions.",
        none="those of the file of embeddings",
    )  # fmt: skip
    embeddings: str | Path | None = parameter(
        default=None, check=Location(), none="random vectors", metavar="FILE",
        help="File or folder of pretrained word vectors to start from.",
        notes="Scaled to the standard deviation of random ones if they are trained further.",
    )  # fmt: skip
    freeze_embeddings: bool = parameter(
        default=False, check=Flag(), help="Do not train the embeddings."
    )
    skip_bad_lines: bool = SKIP_BAD_LINES
    min_count: int = parameter(
        default=1, check=Whole(1), help="Minimum occurrences; rarer units are unknown."
    )
    max_vocabulary: int | None = parameter(
        default=None, check=Whole(1), help="Maximum vocabulary size.", none="all units",
        notes="The most frequent units are kept.",
    )  # fmt: skip

    @property
    def embeddings_coverage_(self) -> dict[str, int] | None:
        """How much of the vocabulary the given word vectors cover, see Vocabulary.coverage; None
        if none were given."""
        return self.learned.coverage

    def _check(self) -> None:
        super()._check()
        self._units()
        if self.embedding is None and self.embeddings is None:
            raise SettingsError("embedding is None: expected a size, or a file of embeddings")
        if self.freeze_embeddings and self.embeddings is None:
            raise SettingsError("freeze_embeddings needs embeddings: the vectors would be random")

    def _units(self) -> SequenceTokenizer:
        return SequenceTokenizer(self.unit, self.lowercase)

    def _frozen(self) -> tuple[str, ...]:
        return ("embedding.weight",) if self.freeze_embeddings else ()

    def _initialised(
        self, vocabulary: Vocabulary, ids: Int32, backend: Backend, build: Callable[[int], L]
    ) -> L:
        """What `build` returns for the embedding dimensions, its embedding initialised with the
        given word vectors; `ids` int32[N] are those of the training text."""
        vectors = self._vectors(vocabulary, backend.team)
        size = self.embedding if vectors is None else int(vectors[1].shape[1])
        assert size is not None  # checked
        learned = build(size)
        if vectors is not None:
            embedding: Embedding = learned.network.layers["embedding"]  # type: ignore[assignment]
            self._load_vectors(embedding, *vectors)
            learned.coverage = vocabulary.coverage(vectors[0], ids)
        return learned

    def _vectors(self, vocabulary: Vocabulary, team: Team) -> tuple[list[int], Float32] | None:
        """The ids of the units in the file of word vectors, and their vectors.

        A unit that is missing is looked up in lower case too. Raises DataError for a file with none
        of the units, SettingsError if the vectors' size is not `embedding`.
        """
        if self.embeddings is None:
            return None
        from fastseq.vectors.formats import read_word_vectors

        units = vocabulary.texts.to_strings()
        lowered = [unit.lower() for unit in units]
        words, vectors = read_word_vectors(
            self.embeddings, {*units, *lowered}, threads=team.threads, make_unknown=True,
            skip_bad_lines=self.skip_bad_lines,
        )  # fmt: skip
        if self.embedding not in (None, vectors.shape[1]):
            raise SettingsError(
                f"{self.embeddings}: vectors of {vectors.shape[1]} numbers, but embedding is "
                f"{self.embedding}; expected the same, or embedding None"
            )
        place = {word: number for number, word in enumerate(words)}
        rows = [place.get(u, place.get(low, -1)) for u, low in zip(units, lowered, strict=True)]
        ids = [number for number, row in enumerate(rows) if row >= 0]
        if not ids:
            raise DataError(
                f"{self.embeddings}: holds none of the {len(units):,} units of the vocabulary"
            )
        return ids, vectors[[rows[number] for number in ids]]

    def _embedding(self, vocabulary: Vocabulary, size: int, backend: Backend) -> Embedding:
        frozen, seed = self.freeze_embeddings, mixed_key(self.seed, 0)
        return backend.embedding(len(vocabulary), size, frozen=frozen, seed=seed)

    def _load_vectors(self, table: Embedding, rows: list[int], found: Float32) -> None:
        """Set the rows of the units that have vectors, and give all rows one standard deviation.

        If vectors are frozen, the random rows are scaled to theirs. Otherwise vectors are scaled to
        that of random rows, small compared with the updates of training: on SST-2, unscaled
        Word2Vec vectors (0.23) gave 79.7 %, less than random ones, and 81.9 % scaled.
        """
        spread = float(found.std())
        if spread > 0 and table.frozen:
            table.parameters()["weight"] *= np.float32(spread / table.scale)
            table.push()
        elif spread > 0:
            found = found * np.float32(table.scale / spread)
        table.load_rows(rows, found)


# ---- files of vocabularies


def vocabulary_file(vocabulary: Vocabulary, name: str = _VOCABULARY) -> dict[str, Content]:
    """The file of a vocabulary: {name: columns}, none for bytes."""
    if vocabulary.tokenizer.unit == "byte":
        return {}
    return {name: {"unit": vocabulary.texts.to_strings()}}


def restored_vocabulary(
    folder: ModelFolder, saved: Mapping[str, Any], name: str = _VOCABULARY
) -> Vocabulary:
    """The vocabulary of `vocabulary_file` and Vocabulary.to_dict. Raises FormatError for a
    damaged one."""
    texts = Texts.from_strings(folder.columns(name)["unit"]) if name in folder.names else None
    return Vocabulary.from_texts(texts, saved)
