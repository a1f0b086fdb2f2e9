"""Models with a recurrent network: parameters, training, saving; units and word vectors of text.

A model says what it reads and what it is made of in a few methods (the last part of
`SequenceModel`); one training works on its `TrainingTask` and yields its `FittedState`.
"""

from __future__ import annotations

import json
import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

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
from fastseq.models.data.units import UNITS, Units
from fastseq.models.data.vocabulary import Vocabulary
from fastseq.models.folder import HISTORY, Content, ModelFolder, ModelWriter
from fastseq.models.savable import SavableModel
from fastseq.models.task import GradientFlowRecorder, L, TrainingTask
from fastseq.nn.backend import Backend
from fastseq.nn.devices import DEVICES, PRECISIONS, backend_for, check_place
from fastseq.nn.layers import Embedding
from fastseq.nn.optimisers import OPTIMISERS
from fastseq.nn.recurrent import Recurrent
from fastseq.nn.schedules import SCHEDULES
from fastseq.seeds import mixed_key
from fastseq.settings import named, one_of, thread_count
from fastseq.store.outputs import check_folder
from fastseq.threads import Team
from fastseq.training.gradient import TrainingSettings, train
from fastseq.training.history import History
from fastseq.training.progress import Report
from fastseq.types import Float32, Float64, Texts

CELLS = ("lstm", "gru", "rnn")
NONLINEARITIES = ("tanh", "relu")
_VOCABULARY = "vocabulary.parquet"

# parameters of training, which a checkpoint compares by itself, and of prediction alone
TRAINING = frozenset(
    {"epochs", "learning_rate", "optimizer", "optimizer_settings", "weight_decay", "schedule"}
    | {"schedule_settings", "warmup", "clip", "clip_value", "patience", "monitor", "seed"}
    | {"tag_scheme"}
)


class SequenceModel(SavableModel[L]):
    """What the sequence models share."""

    learning_rates: ClassVar[Mapping[str, float]] = {}  # own defaults, by optimiser
    measures: ClassVar[Mapping[str, bool]]  # of validation: whether larger is better
    largest_loss: ClassVar[float | None] = 1e4  # nats; one batch above it has diverged

    cell: str = parameter(default="lstm", check=Choice(CELLS), help="Recurrent cell.")
    nonlinearity: str = parameter(
        default="tanh", check=Choice(NONLINEARITIES), help="Activation of the cell rnn."
    )
    hidden: int = parameter(
        default=128, check=Whole(1), help="Hidden units.", notes="Of each direction and layer."
    )
    layers: int = parameter(default=1, check=Whole(1), help="Stacked recurrent layers.")
    dropout: float = parameter(
        default=0.0, check=FRACTION, help="Dropout rate between layers.", section="Training",
        notes="Applied to the inputs and outputs of the recurrent layers, while training.",
    )  # fmt: skip
    recurrent_dropout: float = parameter(
        default=0.0, check=FRACTION, help="Dropout rate of recurrent weights.", section="Training"
    )
    epochs: int = parameter(
        default=10, check=Whole(1), help="Passes over the training data.", section="Training"
    )
    batch_size: int = parameter(
        default=32, check=Whole(1), help="Sequences per mini-batch.", section="Training"
    )
    learning_rate: float | None = parameter(
        default=None, check=Real(above=0), help="Peak learning rate.", section="Training",
        none="that of the model or the optimiser",
    )  # fmt: skip
    optimizer: str = parameter(
        default="adam", check=Choice(OPTIMISERS), help="Optimiser.", section="Training"
    )
    optimizer_settings: Mapping[str, Any] | None = parameter(
        default=None, check=Named(), section="Training", none="the optimiser's defaults",
        help="Further optimiser settings by name, such as momentum=0.9 or betas=0.9,0.99.",
        flag="optimizer-setting",
    )  # fmt: skip
    weight_decay: float = parameter(
        default=0.0, check=Real(least=0), help="Weight decay (L2).", section="Training",
        notes="Decoupled for adamw.",
    )  # fmt: skip
    schedule: str = parameter(
        default="constant", check=Choice(SCHEDULES), help="Learning-rate schedule.",
        section="Training",
    )  # fmt: skip
    schedule_settings: Mapping[str, Any] | None = parameter(
        default=None, check=Named(), section="Training", none="the schedule's defaults",
        help="Further schedule settings by name, such as every=500.", flag="schedule-setting",
    )  # fmt: skip
    warmup: int = parameter(
        default=0, check=Whole(0), help="Warm-up steps of the learning rate.", section="Training"
    )
    clip: float | None = parameter(
        default=None, check=Real(above=0), help="Maximum norm of all gradients together.",
        section="Training", none="not clipped",
    )  # fmt: skip
    clip_value: float | None = parameter(
        default=None, check=Real(above=0), help="Maximum absolute value of a gradient.",
        section="Training", none="not clipped",
    )  # fmt: skip
    patience: int | None = parameter(
        default=None, check=Whole(1), section="Training", none="no early stopping",
        help="Early stopping: epochs without a better validation.",
    )  # fmt: skip
    monitor: str | None = parameter(
        default=None, check=Check(), section="Training", metavar="M",
        help="Validation measure that selects the best epoch: loss, accuracy, macro_f1, f1 (of "
        "spans), perplexity or rmse.",
        none="accuracy, or loss of a language model or forecaster",
    )  # fmt: skip
    device: str = parameter(
        default="auto", check=Choice(DEVICES), section="Training", run=True,
        help="Device to compute on; auto is a GPU where available.",
    )  # fmt: skip
    precision: str = parameter(
        default="float32", check=Choice(PRECISIONS), section="Training", run=True,
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
        checkpoint_seconds: float = 60.0,
    ) -> Self:
        """Train on examples.

        Parameters
        ----------
        examples : paths of Parquet files, an Arrow table or stream, a data frame; or a list with
            an element for each row, and `y` beside it
        y : targets, where examples are a list
        valid : data to validate on after each epoch, of the same kinds; (examples, y) for lists.
            With it the weights of the best epoch are kept, without it the last ones
        text_column … series_column : which column is what; those not named are guessed
        path : a folder to train in: checkpoints, then the model. None: in memory alone
        overwrite : replace an existing model
        resume : continue from the checkpoint there
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
            text_column=text_column,
            label_column=label_column,
            tokens_column=tokens_column,
            tags_column=tags_column,
            value_columns=value_columns,
            series_column=series_column,
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
        check_folder(path, examples, valid, getattr(self, "embeddings", None), texts=True)
        place = nullcontext() if path is None else ModelWriter(path, overwrite, resume)
        with place as writer, backend.memory(advice), Interrupts():
            task = self._task(examples, y, valid, columns, backend)
            recorder = GradientFlowRecorder(task) if gradient_flow else None
            checkpoint = writer.checkpoint(self._identity(task)) if writer else None
            learned = task.learned
            learned.settings = self.settings()

            def keep(history: History) -> None:
                learned.history = history
                learned.network.parameters.pull()
                learned.flow = recorder.recorded if recorder else None
                self._learned = learned

            trained, at_once = recorder or task, None if writer else keep
            keep(train(trained, settings, checkpoint, resume, progress, backend.team, at_once))
            if writer is not None:
                writer.commit(self.kind, *self._content(learned))
        return self

    def check(self) -> None:
        """Raise SettingsError for a parameter that is out of its range, DeviceError for a device
        that is not available."""
        super().check()
        check_place(self.device, self.precision)
        self._training_settings(0.0)

    def _check(self) -> None:
        if self.nonlinearity != "tanh" and self.cell != "rnn":
            raise SettingsError(
                f"nonlinearity {self.nonlinearity} is for the cell rnn; the cell {self.cell} has "
                "its own, expected tanh"
            )
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
        statistics, files = self._all_statistics(learned), self._files(learned)
        if learned.history is not None:
            files = {HISTORY: learned.history.columns, **files}
        return learned.settings, statistics, learned.network.parameters.views, files

    def _restored(self, folder: ModelFolder) -> L:
        learned = self._rebuilt(folder, backend_for(self.device, Team(thread_count(self.threads))))
        learned.network.parameters.load_state_dict(folder.weights)
        learned.network.parameters.push()
        learned.history = folder.history()
        learned.coverage = folder.statistics.get("embeddings")
        return learned

    @classmethod
    def _on(cls, device: str) -> dict[str, Any]:
        return {"device": one_of("device", device, DEVICES)}

    # ---- for the models

    @abstractmethod
    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> TrainingTask[L]:
        """Read the data, build the network. `self` is not changed."""

    @abstractmethod
    def _statistics(self, learned: L) -> dict[str, Any]:
        """What `_rebuilt` needs of the fitted state, as JSON."""

    def _all_statistics(self, learned: L) -> dict[str, Any]:
        own: dict[str, Any] = {
            "parameters": learned.network.parameters.count, "fields": learned.fields.to_dict(),
        }  # fmt: skip
        if learned.coverage is not None:
            own["embeddings"] = learned.coverage
        return {**own, **self._statistics(learned)}

    @abstractmethod
    def _files(self, learned: L) -> dict[str, Content]:
        """What it needs that is too large for that."""

    @abstractmethod
    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> L:
        """The fitted state of what `_statistics` and `_files` gave. The caller sets the weights."""

    def _frozen(self) -> tuple[str, ...]:
        """Names of weights that training leaves as they are."""
        return ()

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


class TextModel(SequenceModel[L]):
    """What the models of text share."""

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
        notes="Scaled to the spread of random ones, where they are trained further.",
    )  # fmt: skip
    freeze_embeddings: bool = parameter(
        default=False, check=Flag(), help="Do not train the embeddings."
    )
    skip_bad_lines: bool = parameter(
        default=False, check=Flag(), run=True,
        help="Skip damaged lines of the file of vectors to start from.",
    )  # fmt: skip
    min_count: int = parameter(
        default=1, check=Whole(1), help="Minimum occurrences; rarer units are unknown."
    )
    max_vocabulary: int | None = parameter(
        default=None, check=Whole(1), help="Maximum vocabulary size.", none="all units",
        notes="The most frequent units are kept.",
    )  # fmt: skip

    @property
    def embeddings_coverage_(self) -> dict[str, int] | None:
        """How much of the vocabulary the word vectors given cover, see Vocabulary.coverage; None
        where none were given."""
        return self.learned.coverage

    def _check(self) -> None:
        super()._check()
        self._units()
        if self.embedding is None and self.embeddings is None:
            raise SettingsError("embedding is None: expected a size, or a file of embeddings")
        if self.freeze_embeddings and self.embeddings is None:
            raise SettingsError("freeze_embeddings needs embeddings: vectors drawn by chance")

    def _units(self) -> Units:
        return Units(self.unit, self.lowercase)

    def _frozen(self) -> tuple[str, ...]:
        return ("embedding.weight",) if self.freeze_embeddings else ()

    def _vectors(self, vocabulary: Vocabulary, team: Team) -> tuple[list[int], Float32] | None:
        """The numbers of the units that the file of word vectors has, and their vectors.

        A unit that is not there is looked up in lower case too, as is any other form of a word in
        a file of lower-cased words. Raises DataError for a file that has none of them,
        SettingsError where their size is not `embedding`.
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
        found = {
            number: place.get(unit, place.get(low, -1))
            for number, (unit, low) in enumerate(zip(units, lowered, strict=True))
        }
        numbers = [number for number, at in found.items() if at >= 0]
        if not numbers:
            raise DataError(
                f"{self.embeddings}: holds none of the {len(units):,} units of the vocabulary"
            )
        return numbers, vectors[[found[number] for number in numbers]]

    def _embedding(self, vocabulary: Vocabulary, size: int, backend: Backend) -> Embedding:
        return backend.embedding(
            len(vocabulary),
            size,
            frozen=self.freeze_embeddings,
            seed=mixed_key(self.seed, 0),
        )

    def _place(self, table: Embedding, vectors: tuple[list[int], Float32]) -> None:
        """Set the rows of the units that have vectors, and give all rows one spread.

        Vectors that stay as they are give theirs to the others. Vectors that are learned further
        are scaled down to that of random ones, small beside what training adds: on SST-2, those of
        Word2Vec (spread 0.23) gave 79.7 % as they came, less than random ones, and 81.9 % scaled.
        """
        rows, found = vectors
        spread = float(found.std())
        if spread > 0 and table.frozen:
            table.parameters()["weight"] *= np.float32(spread / table.scale)
            table.push()
        elif spread > 0:
            found = found * np.float32(table.scale / spread)
        table.load_rows(rows, found)


def kind_of(model: SequenceModel[Any], backend: Backend) -> Callable[..., Recurrent]:
    """What makes recurrent layers of the kind that a model's settings ask for."""
    kind = backend.recurrent[model.cell]
    return partial(kind, nonlinearity=model.nonlinearity) if model.cell == "rnn" else kind


def recurrent(
    model: SequenceModel[Any], inputs: int, bidirectional: bool, backend: Backend
) -> Recurrent:
    """The recurrent layers that a model's settings ask for."""
    return kind_of(model, backend)(
        inputs,
        model.hidden,
        model.layers,
        bidirectional=bidirectional,
        dropout=model.dropout,
        weight_dropout=model.recurrent_dropout,
        seed=mixed_key(model.seed, 1),
    )


# ---- keeping vocabularies


def vocabulary_file(vocabulary: Vocabulary) -> dict[str, Content]:
    """The file of a vocabulary: {name: columns}, none for bytes."""
    if vocabulary.units.unit == "byte":
        return {}
    return {_VOCABULARY: {"unit": vocabulary.to_texts().to_strings()}}


def restored_vocabulary(folder: ModelFolder, saved: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of `vocabulary_file` and Vocabulary.to_dict. Raises FormatError for a
    damaged one."""
    texts = texts_of(folder, _VOCABULARY) if _VOCABULARY in folder.names else None
    return Vocabulary.from_texts(texts, saved)


def texts_of(folder: ModelFolder, name: str) -> Texts:
    """The units of a file that keeps some."""
    return Texts.from_strings(folder.columns(name)["unit"])
