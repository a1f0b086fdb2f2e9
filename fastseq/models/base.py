"""What the sequence models share: settings, training, saving, scikit-learn's manners.

A model says what it reads and what it is made of in a few methods (`SequenceModel`, the last
part); what one training works on is its `TrainingTask`, what it learns its `FittedState`.
"""

from __future__ import annotations

import json
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

from fastseq.errors import FormatError, NotFittedError, SettingsError
from fastseq.estimator import plain
from fastseq.models.data.examples import ReadReport
from fastseq.models.folder import Content, ModelFolder, ModelWriter, write_model
from fastseq.models.savable import SavableModel
from fastseq.models.task import (
    FittedState,
    GradientFlowRecorder,
    L,
    Network,
    TrainingTask,
    fingerprint_of,
    mean_norms,
)
from fastseq.nn.backend import DEVICES, PRECISIONS, Backend, backend_for, check_place
from fastseq.nn.optimisers import OPTIMISERS
from fastseq.nn.schedules import SCHEDULES
from fastseq.settings import (
    flag,
    fraction,
    named,
    one_of,
    parse_size,
    seed_number,
    thread_count,
    whole,
)
from fastseq.threads import Team
from fastseq.training.history import History
from fastseq.training.loop import train
from fastseq.training.progress import Report
from fastseq.training.trainable import TrainingSettings
from fastseq.types import Float64

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.examples import RowReader

__all__ = [
    "FittedState",
    "Network",
    "SequenceModel",
    "TrainingTask",
    "fingerprint_of",
    "mean_norms",
]

CELLS = ("lstm", "gru", "rnn")
NONLINEARITIES = ("tanh", "relu")

# settings that are true or false, of those models that have them
FLAGS = frozenset({"bidirectional", "chars", "crf", "freeze_embeddings", "tie_weights"})
# settings of one run, not of the model: another value gives the same weights, up to rounding
RUN = frozenset({"threads", "device", "precision", "memory"})
# settings of training, which a checkpoint compares by itself, and of prediction alone
TRAINING = frozenset(
    {"epochs", "learning_rate", "optimizer", "optimizer_settings", "weight_decay", "schedule"}
    | {"schedule_settings", "warmup", "clip", "clip_value", "patience", "monitor", "seed"}
    | {"tag_scheme"}
)


class SequenceModel(SavableModel, Generic[L]):
    """What the sequence models share.

    Parameters
    ----------
    cell : "lstm", "gru" or "rnn"
    nonlinearity : of the cell "rnn": "tanh" or "relu"
    hidden : units of each direction of a recurrent layer
    layers : recurrent layers, each fed by the one before
    dropout : rate of the recurrent layers' inputs, of what passes between them and of their
        outputs that is dropped while training
    recurrent_dropout : rate of recurrent weights that are dropped while training
    epochs : passes over the data
    batch_size : sequences of a batch
    learning_rate : the highest of the schedule; None: the model's own
    optimizer : "sgd", "adagrad", "rmsprop", "adam" or "adamw"
    optimizer_settings : what else it takes by name (momentum=…), see nn.optimisers
    weight_decay : L2 penalty (adamw: decoupled)
    schedule : "constant", "step", "cosine", "linear" or "plateau"
    schedule_settings : what else it takes by name (every=…), see nn.schedules
    warmup : steps over which the learning rate first rises
    clip : largest norm of all gradients together; None: not clipped
    clip_value : largest absolute value of one gradient; None: not clipped
    patience : stop after so many epochs without a better validation; None: never
    monitor : what a better validation is better by, one of `measures`; None: the first of them
    seed : of the first weights, the order of the data, and dropout
    threads : to work with; None for every core
    device : "cpu", "cuda" (an NVIDIA GPU) or "auto", a GPU where one can be used
    precision : on a GPU, what the factors of products are rounded to: "float32" (not at all),
        "tf32" or "bfloat16"; sums are float32
    memory : of ids of the data to hold; more goes to a temporary file
    """

    kind: ClassVar[str]  # the model's name on disk
    inputs: ClassVar[str]  # what open_rows reads: "text", "tokens" or "values"
    columns: ClassVar[Mapping[str, str]]  # {argument of fit: what open_rows calls it}
    supervised: ClassVar[bool]  # whether there are targets beside the inputs
    learning_rates: ClassVar[Mapping[str, float]] = {}  # own defaults, by optimiser
    measures: ClassVar[Mapping[str, bool]]  # of validation: whether larger is better
    largest_loss: ClassVar[float | None] = 1e4  # nats; one batch above it has diverged

    cell: str
    nonlinearity: str
    hidden: int
    layers: int
    dropout: float
    recurrent_dropout: float
    epochs: int
    batch_size: int
    learning_rate: float | None
    optimizer: str
    optimizer_settings: Mapping[str, Any] | None
    weight_decay: float
    schedule: str
    schedule_settings: Mapping[str, Any] | None
    warmup: int
    clip: float | None
    clip_value: float | None
    patience: int | None
    monitor: str | None
    seed: int
    threads: int | None
    device: str
    precision: str
    memory: str | int

    _learned: L | None = None

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
        path: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        progress: Report | None = None,
        gradient_flow: bool = False,
        checkpoint_seconds: float = 60.0,
    ) -> Self:
        """Learn from examples.

        Parameters
        ----------
        examples : paths of Parquet files, an Arrow table or stream, a data frame; or a list with
            an element for each row, and `y` beside it
        y : targets, where examples are a list
        valid : data to validate on after each epoch, of the same kinds; (examples, y) for lists.
            With it the weights of the best epoch are kept, without it the last ones
        text_column … value_columns : which column is what; those not named are guessed
        path : a folder to train in: checkpoints, then the model. None: in memory alone
        overwrite : replace a model that stands there
        resume : go on from the checkpoint there
        progress : told a few times a second how far training has come
        gradient_flow : record `gradient_flow_`
        checkpoint_seconds : between two checkpoints inside an epoch

        Raises
        ------
        SettingsError
            A setting outside its range; a place that is taken; a checkpoint of another run.
        DataError
            Data that cannot be read or learned from: which file, row and column.
        DeviceError
            There is no such device.
        TrainingError
            The loss is no longer finite; the last checkpoint stays.
        """
        self.check()
        columns = self._named_columns(
            text_column=text_column,
            label_column=label_column,
            tokens_column=tokens_column,
            tags_column=tags_column,
            value_columns=value_columns,
        )
        if valid is None:
            for what, asked in (
                ("monitor", self.monitor is not None),
                ("patience", self.patience is not None),
                ("the schedule plateau", self.schedule == "plateau"),
            ):
                if asked:
                    raise SettingsError(f"{what} needs validation: give data to validate on")
        if resume and path is None:
            raise SettingsError("resume needs the path of the folder to go on from")
        backend = backend_for(self.device, Team(thread_count(self.threads)), self.precision)
        settings = self._training_settings(checkpoint_seconds)
        advice = f"lower batch_size (now {self.batch_size})"
        place = nullcontext() if path is None else ModelWriter(path, overwrite, resume)
        with place as writer, backend.memory(advice):
            task = self._task(examples, y, valid, columns, backend)
            recorder = GradientFlowRecorder(task) if gradient_flow else None
            checkpoint = writer.checkpoint(self._identity(task)) if writer else None
            learned = task.learned
            learned.history = train(
                recorder or task, settings, checkpoint, resume, progress, backend.team
            )
            learned.network.parameters.pull()
            learned.flow = recorder.recorded if recorder else None
            if writer is not None:
                writer.commit(
                    self.kind,
                    self.settings(),
                    self._all_statistics(learned),
                    learned.network.parameters.views,
                    self._files(learned),
                    learned.history,
                )
        self._learned = learned
        return self

    def check(self) -> None:
        """Raise SettingsError for a setting that is out of its range, DeviceError for a device
        that is not there."""
        for name, known in (
            ("device", DEVICES),
            ("precision", PRECISIONS),
            ("cell", CELLS),
            ("nonlinearity", NONLINEARITIES),
            ("optimizer", OPTIMISERS),
            ("schedule", SCHEDULES),
        ):
            one_of(name, getattr(self, name), known)
        check_place(self.device, self.precision)
        if self.nonlinearity != "tanh" and self.cell != "rnn":
            raise SettingsError(
                f"nonlinearity {self.nonlinearity} is for the cell rnn; the cell {self.cell} has "
                "its own, expected tanh"
            )
        if self.monitor is not None:
            one_of("monitor", self.monitor, self.measures)
        for name in ("hidden", "layers", "epochs", "batch_size"):
            whole(name, getattr(self, name), 1)
        seed_number(self.seed)
        for name in ("dropout", "recurrent_dropout"):
            fraction(name, getattr(self, name))
        for name in FLAGS.intersection(self.get_params()):
            flag(name, getattr(self, name))
        parse_size(self.memory)
        self._training_settings(0.0)
        self._check()

    # ---- what was learned

    @property
    def learned(self) -> L:
        """All that training learned. Raises NotFittedError before it did."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        return self._learned

    @property
    def history_(self) -> History | None:
        """How it was trained, epoch by epoch."""
        return self.learned.history

    @property
    def monitored(self) -> str:
        """The measure of validation that the best epoch is chosen by."""
        return next(iter(self.measures)) if self.monitor is None else self.monitor

    @property
    def n_parameters_(self) -> int:
        """The number of weights."""
        return self.learned.network.parameters.count

    @property
    def report_(self) -> dict[str, ReadReport]:
        """What was met while reading, under "training", "validation", and "data" for what was
        evaluated or predicted last."""
        return self.learned.reports

    @property
    def gradient_flow_(self) -> dict[str, Float64]:
        """{"before training", "epoch 1", …: float64[T]}: the norm of the gradient of the loss
        with respect to the recurrent layer's input, t steps before a sequence's last, the mean
        over the sequences of one batch. Raises NotFittedError where it was not recorded."""
        if self.learned.flow is None:
            raise NotFittedError("no gradient flow was recorded: call fit with gradient_flow=True")
        return self.learned.flow

    def __sklearn_is_fitted__(self) -> bool:
        return self._learned is not None

    # ---- saving

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write what was learned to a folder, whole or not at all.

        Raises SettingsError where the folder is taken, FastseqError where the system refuses.
        """
        learned = self.learned
        write_model(
            path,
            self.kind,
            self.settings(),
            self._all_statistics(learned),
            learned.network.parameters.views,
            self._files(learned),
            learned.history,
            overwrite,
        )

    @classmethod
    def from_folder(cls, folder: ModelFolder, threads: int | None, device: str) -> Self:
        """The model of a folder of its kind that was read; raises as `load`."""
        settings: dict[str, Any] = {**folder.settings, "threads": threads, "device": device}
        team = Team(thread_count(threads))
        try:
            model = cls(**settings)
            model.check()
            learned = model._restored(folder, backend_for(device, team))
            learned.network.parameters.load_state_dict(folder.weights)
            learned.network.parameters.push()
        except (SettingsError, FormatError) as error:
            raise FormatError(f"{folder.path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{folder.path}: its settings and statistics make no sense: {error!r}"
            ) from error
        learned.history = folder.history()
        model._learned = learned
        return model

    def settings(self) -> dict[str, Any]:
        """The settings that are kept with the model, as JSON has them."""
        return {k: plain(v) for k, v in self.get_params().items() if k not in RUN}

    # ---- for the models

    @abstractmethod
    def _check(self) -> None:
        """Raise SettingsError for a setting of this kind of model alone."""

    @abstractmethod
    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> TrainingTask[L]:
        """Read the data, build the network. `self` stays as it is."""

    @abstractmethod
    def _statistics(self, learned: L) -> dict[str, Any]:
        """What `_restored` needs of what was learned, as JSON."""

    @abstractmethod
    def _files(self, learned: L) -> dict[str, Content]:
        """What it needs that is too large for that."""

    @abstractmethod
    def _restored(self, folder: ModelFolder, backend: Backend) -> L:
        """What was learned, of what `_statistics` and `_files` gave. The weights are set by the
        caller."""

    def _frozen(self) -> tuple[str, ...]:
        """Names of weights that training leaves as they are."""
        return ()

    def _open(
        self,
        examples: Any,
        y: Any = None,
        columns: Mapping[str, Any] | None = None,
        *,
        fields: Fields | None = None,
        like: RowReader | None = None,
        targets: bool | None = None,
        **more: Any,
    ) -> RowReader:
        """The rows of whatever examples came in.

        Parameters
        ----------
        columns : what the caller of `fit` and the like named, from `_named_columns`
        fields : those of training, for all that is not named; not for lists, which have no names
        like : rows whose labels are of the type to expect
        targets : whether they are wanted; unless said, where the model has some
        more : outputs, keep and id, as open_rows has them
        """
        from fastseq.store.examples import open_rows
        from fastseq.store.objects import as_source

        wanted = self.supervised if targets is None else targets
        source = as_source(examples, y, self.inputs)
        named = dict(columns or {})
        if fields is not None and source is examples:
            roles = set(self.columns.values()) - (set() if wanted else {"label", "tags"})
            named = {role: getattr(fields, role) for role in roles} | named
        more.setdefault("outputs", False)
        return open_rows(source, self.inputs, like=like, targets=wanted, **named, **more)

    def _open_valid(self, valid: Any, columns: Mapping[str, Any], like: RowReader) -> RowReader:
        """The rows to validate on, their columns those of training."""
        y = None
        if self.supervised and isinstance(valid, tuple) and len(valid) == 2:
            valid, y = valid
        return self._open(valid, y, columns, fields=like.fields, like=like)

    def _named_columns(self, **named: Any) -> dict[str, Any]:
        """The columns that were named, by what open_rows calls them."""
        found = {}
        for name, value in named.items():
            if value is None:
                continue
            if name not in self.columns:
                raise SettingsError(
                    f"a {self.kind} has no {name}; expected {' and '.join(self.columns)}"
                )
            found[self.columns[name]] = value
        return found

    def _training_settings(self, checkpoint_seconds: float) -> TrainingSettings:
        rate, monitor = self.learning_rate, self.monitored
        own = named("optimizer_settings", self.optimizer_settings)
        if self.weight_decay:
            own["weight_decay"] = self.weight_decay
        return TrainingSettings(
            epochs=self.epochs,
            optimiser=self.optimizer,
            optimiser_settings=own,
            learning_rate=self.learning_rates.get(self.optimizer) if rate is None else rate,
            schedule=self.schedule,
            schedule_settings=named("schedule_settings", self.schedule_settings),
            warmup=self.warmup,
            frozen=self._frozen(),
            clip=self.clip,
            clip_value=self.clip_value,
            patience=self.patience,
            monitor=monitor,
            larger_is_better=self.measures[monitor],
            seed=self.seed,
            largest_loss=self.largest_loss,
            checkpoint_seconds=checkpoint_seconds,
        )

    def _identity(self, task: TrainingTask[L]) -> dict[str, Any]:
        settings = {k: v for k, v in self.settings().items() if k not in TRAINING}
        # what ids, labels and scaled values stand for, too: others may look the same by number
        meaning = json.dumps(self._statistics(task.learned), sort_keys=True)
        files = repr(sorted(self._files(task.learned).items()))
        return {
            "model": self.kind,
            "settings": settings,
            "data": task.fingerprint(),
            "vocabulary, labels and scale": zlib.crc32((meaning + files).encode()),
        }

    def _all_statistics(self, learned: L) -> dict[str, Any]:
        own = {"parameters": learned.network.parameters.count, "fields": learned.fields.to_dict()}
        return {**own, **self._statistics(learned)}
