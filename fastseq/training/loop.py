"""The training loop of every model.

An epoch consists of steps, each of which learns from a piece of the data and updates the weights;
`GradientSteps` and `HogwildSteps` are the two kinds. After an epoch the model is validated. The
loop's own state is a `State`, that of the steps a few arrays; a checkpoint of both continues bit
for bit.

A checkpoint holds only weights with a finite loss: it is written inside a step, after the loss was
computed and before the weights change. Where no step follows (end of training, Ctrl-C) the steps
`prove` (check) the weights, so a checkpoint never gets weights that diverged in the last step.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastseq.errors import DataError, FastseqError, FormatError, SettingsError, TrainingError
from fastseq.interrupts import Interrupts
from fastseq.settings import real, whole
from fastseq.training.checkpoint import Arrays, Checkpoint, History, State, part_of
from fastseq.types import Float32

EVERY = 0.2  # seconds between two progress reports

# at the end of an epoch no checkpoint is written until the last one cost less than this share of
# the time since
CHECKPOINT_SHARE = 0.05

_BEST, _CARRIED = "best", "carried/"


class TrainingProgress(NamedTuple):
    """Progress of a training run.

    epoch             the current one, from 1
    epochs            in all
    step              steps taken in this epoch
    steps             of this epoch; None if unknown before its end
    loss              mean over this epoch so far; NaN if none was measured yet
    units_per_second  tokens, words or numbers per second, over this epoch so far
    seconds_left      estimate for the rest of all epochs; None while unknown
    valid             measures of the validation, reported once after an epoch; else None
    """

    epoch: int
    epochs: int
    step: int
    steps: int | None
    loss: float
    units_per_second: float
    seconds_left: float | None
    valid: dict[str, float] | None = None


Report = Callable[[TrainingProgress], None]

CHECKPOINT_SECONDS = 60.0  # between two checkpoints inside an epoch


@dataclass(frozen=True)
class LoopSettings:
    """When to stop and when to save. A value out of its range raises SettingsError.

    epochs              passes over the data
    patience            epochs without a better validation before stopping; None: never
    monitor             "loss" or a metric of the validation, which selects the best epoch
    larger_is_better    of the monitored measure
    checkpoint_seconds  between two checkpoints inside an epoch; 0: after every step
    """

    epochs: int
    patience: int | None = None
    monitor: str = "loss"
    larger_is_better: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        if self.patience is not None:
            whole("patience", self.patience, 1)
        real("checkpoint_seconds", self.checkpoint_seconds, lambda s: s >= 0, "0 or more")


class DivergedError(Exception):
    """A step's loss or gradient is not finite, or its loss too high: which, and its value."""


class Steps(ABC):
    """The steps of a training run. Defaults are those of steps without validation, whose last
    weights are kept.

    settings       of the loop
    extensible     whether a finished run can be continued for more epochs, and a diverged one with
                   other settings; checkpoints are then written after epochs, too
    report_every   seconds between two progress reports; 0: after every step
    learning_rate  at the beginning
    advice         what to try besides a lower learning rate if training diverges
    """

    settings: LoopSettings
    learning_rate: float
    extensible = False
    report_every = 0.0
    advice = ""

    @abstractmethod
    def per_epoch(self, epoch: int) -> int | None:
        """Steps of an epoch (from 0), or None if unknown before its end."""

    @abstractmethod
    def pieces(self, epoch: int, skip: int) -> Iterator[Any]:
        """The data of each step of an epoch, without the first `skip`."""

    def learn(self, piece: Any, state: State) -> None:  # noqa: B027
        """The part of a step before the weights change. Raises DivergedError."""

    @abstractmethod
    def update(self, piece: Any, state: State) -> None:
        """Change the weights and add to the state's sums. Raises DivergedError."""

    def prove(self, state: State) -> None:  # noqa: B027
        """Raise DivergedError if the weights diverged in the last step. Changes nothing that a
        later step depends on."""

    def validate(self) -> dict[str, float] | None:
        """{"loss": …, a metric: …} on held-out data; None without held-out data."""
        return None

    def observe(self, valid: Mapping[str, float]) -> bool:
        """Take the measures of a validation into account; whether they show that the weights are
        finite."""
        return True

    @abstractmethod
    def row(self, state: State, seconds: float) -> dict[str, float]:
        """The history's row of an epoch; validation took `seconds`."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """The training settings, as JSON, for a checkpoint."""

    def carried(self) -> Arrays:
        """Copies of what is carried from one step to the next besides `arrays`."""
        return {}

    @abstractmethod
    def arrays(self, state: State) -> Arrays:
        """All that the steps change, for a checkpoint; what is not an array goes to the state."""

    @abstractmethod
    def restore(self, state: State, arrays: Arrays, carried: Arrays) -> None:
        """Restore what a checkpoint has. Raises KeyError, ValueError or FormatError if it does not
        fit."""

    def weights(self) -> Float32 | None:
        """A copy of the weights, for the best epoch; None if the last ones are kept."""
        return None

    def put(self, weights: Float32) -> None:  # noqa: B027
        """Set the weights. Raises ValueError for another number of them."""


def run(
    steps: Steps,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    report: Report | None = None,
    interrupted: Callable[[History], None] | None = None,
) -> History:
    """Train in place. An optimiser with validation ends with the weights of the best epoch, all
    others with the last ones. On one thread a run that was resumed ends with the same bits.

    Parameters
    ----------
    checkpoint : written every `checkpoint_seconds` and, if the steps are extensible, after epochs
    resume : continue from `checkpoint`, if one was saved
    report : called a few times a second, and with each validation
    interrupted : called with the history if a signal ends the training, with the weights of the
        last complete step; not if these diverged, or a second signal interrupted a step

    Raises
    ------
    TrainingError
        A loss or a gradient is not finite, or the loss too high: at which step.
    SettingsError
        A setting does not fit the model, or the checkpoint is of another or a longer run.
    FormatError
        The checkpoint is damaged.
    DataError
        An epoch has no step, or fewer than when the checkpoint was made.
    KeyboardInterrupt, Terminated
        Ctrl-C, SIGTERM; the checkpoint then holds the last complete step, unless its
        weights diverged.
    """
    with Interrupts() as interrupts:
        loop = _Loop(steps, checkpoint, report, interrupts)
        if resume and checkpoint is not None and checkpoint.exists():
            loop.restore(checkpoint)
        try:
            loop.train()
        except BaseException as error:
            if interrupts.came or isinstance(error, KeyboardInterrupt):
                loop.interrupted(interrupted)
            raise
    return loop.state.history


class _Loop:
    """One call of `run`."""

    def __init__(
        self,
        steps: Steps,
        checkpoint: Checkpoint | None,
        report: Report | None,
        interrupts: Interrupts,
    ) -> None:
        self.state = State()
        self._steps = steps
        self._settings = steps.settings
        self._checkpoint = checkpoint
        self._report = report
        self._interrupts = interrupts
        self._best: Float32 | None = None
        self._complete = True  # no step is in progress
        self._saved = (0, 0)  # epoch and step of the last checkpoint
        self._saved_at = time.perf_counter()
        self._saving = 0.0  # seconds that the last one took
        self._save_next = False  # in the next step
        self._proven = False  # the loss of the current weights was finite
        self._started: float | None = None  # when the first step of this call began
        self._taken = 0  # steps since then
        self._report_at = 0.0  # the earliest time of the next report

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from the checkpoint."""
        epochs = self._settings.epochs
        self.state, arrays = checkpoint.load(self._steps.described())
        self.state.diverged = False
        self._saved = self._position
        if self._position > (epochs, 0):
            epoch, step = self._position
            begun = f" and {step} steps of the next" if step else ""
            raise SettingsError(
                f"{checkpoint.path}: cannot resume: epochs is {epochs}, but {epoch} epochs{begun} "
                f"are done: expected at least {epoch + (step > 0)}"
            )
        try:
            self._best = arrays.get(_BEST)
            self._steps.restore(self.state, arrays, part_of(arrays, _CARRIED))
        except (KeyError, ValueError, FormatError) as error:
            raise FormatError(f"{checkpoint.path}: does not fit this model: {error}") from error

    def train(self) -> None:
        """Train until all epochs are done or patience is exhausted."""
        while not self._done():
            self._epoch()
            began = time.perf_counter()
            valid = self._steps.validate() or {}
            now = time.perf_counter()
            self._interrupts.hold()
            self._end_epoch(valid, now - began)
            self._interrupts.release()
            if self._steps.extensible:
                if self._done():
                    self._finish()
                waited = now - self._saved_at
                every_step = self._settings.checkpoint_seconds == 0
                self._save_next = waited * CHECKPOINT_SHARE >= self._saving or every_step
        if self._best is not None:
            self._steps.put(self._best)

    def _finish(self) -> None:
        """Save the last weights, if they are finite."""
        self._interrupts.hold()
        try:
            if not self._proven:
                self._steps.prove(self.state)
            self._save(self._steps.carried())
        except DivergedError as error:
            if self._best is None:
                raise self._diverged(error, "after the last step") from None
        self._interrupts.release()

    def interrupted(self, keep: Callable[[History], None] | None) -> None:
        """Save and keep the last complete step, unless a second signal interrupted a step."""
        if not self._complete or self._position == (0, 0):
            return
        save = self._checkpoint is not None and self._saved != self._position
        self._interrupts.hold()
        with suppress(DivergedError):
            if not self._proven:
                self._steps.prove(self.state)
            if save:
                self._save(self._steps.carried())
            if keep is not None:
                keep(self.state.history)
        self._interrupts.release()

    def _done(self) -> bool:
        patience = self._settings.patience
        return self.state.epoch >= self._settings.epochs or (
            patience is not None and self.state.stale >= patience
        )

    def _epoch(self) -> None:
        state, seconds = self.state, self._settings.checkpoint_seconds
        steps = self._steps.per_epoch(state.epoch)
        pieces = self._steps.pieces(state.epoch, state.step)
        then = time.perf_counter()
        if self._started is None:
            self._started = then
        for piece in pieces:
            saving = self._save_next or then - self._saved_at >= seconds
            paused = self._step(piece, saving)
            now = time.perf_counter()
            state.seconds += now - then - paused
            then = now
            if self._report is not None and now >= self._report_at:
                self._report_at = now + self._steps.report_every
                self._tell(now, steps)
        if state.step == 0:
            raise DataError("nothing to learn from: an epoch without a batch")
        if self._steps.report_every:
            self._tell(then, steps)

    def _step(self, piece: Any, saving: bool) -> float:
        """Learn from a piece; with `saving` first save the position before it. Returns the seconds
        that saving took."""
        state, steps = self.state, self._steps
        new = self._position not in ((0, 0), self._saved)
        saving = saving and new and self._checkpoint is not None
        carried = steps.carried() if saving else {}
        self._interrupts.hold()
        self._complete = False
        try:
            steps.learn(piece, state)
            if saving:
                self._save(carried)
            steps.update(piece, state)
        except DivergedError as error:
            where = f"at epoch {state.epoch + 1}, step {state.step + 1}"
            raise self._diverged(error, where) from None
        state.step += 1
        state.steps += 1
        self._taken += 1
        self._complete = True
        self._proven = False
        self._interrupts.release()
        return self._saving if saving else 0.0

    def _end_epoch(self, valid: dict[str, float], seconds: float) -> None:
        state = self.state
        row = self._steps.row(state, seconds)
        self._proven = self._steps.observe(valid)
        self._keep_best(valid)
        state.history.append(row, valid)
        if valid:
            self._tell(time.perf_counter(), self._steps.per_epoch(state.epoch), valid)
        state.begin_epoch()

    def _keep_best(self, valid: dict[str, float]) -> None:
        state, settings = self.state, self._settings
        if not valid:
            if settings.patience is not None:
                raise SettingsError("patience needs validation: give data to validate on")
            return
        if settings.monitor not in valid:
            raise SettingsError(
                f"monitor {settings.monitor!r} is not measured; expected one of {', '.join(valid)}"
            )
        value = float(valid[settings.monitor])
        gain = value - state.best_value if settings.larger_is_better else state.best_value - value
        if not math.isfinite(value) or (state.best_epoch and gain <= 0):
            state.stale += 1
            return
        state.best_epoch, state.best_value, state.stale = state.epoch + 1, value, 0
        self._best = self._steps.weights()

    @property
    def _position(self) -> tuple[int, int]:
        return self.state.epoch, self.state.step

    def _save(self, carried: Arrays) -> None:
        """Write a checkpoint; `carried` as it is between the two steps."""
        began = time.perf_counter()
        self._save_next = False
        if self._checkpoint is None:
            return
        arrays = self._steps.arrays(self.state)
        if self._best is not None:
            arrays[_BEST] = self._best
        arrays |= {_CARRIED + name: array for name, array in carried.items()}
        self._checkpoint.save(self._steps.described(), self.state, arrays)
        self._saved = self._position
        self._saved_at = time.perf_counter()
        self._saving = self._saved_at - began

    def _diverged(self, error: DivergedError, where: str) -> TrainingError:
        steps, kept = self._steps, ""
        if self._checkpoint is not None and self._saved != (0, 0) and steps.extensible:
            with suppress(FastseqError):  # the checkpoint stays loadable
                self._checkpoint.mark_diverged(steps.described())
            epoch, step = self._saved
            kept = f"; the checkpoint of epoch {epoch + 1}, step {step} can be resumed with these"
        what, value = error.args
        return TrainingError(
            f"the {what} became {value:g} {where}: lower the learning rate (now "
            f"{steps.learning_rate:g}){steps.advice}{kept}"
        )

    def _tell(self, now: float, steps: int | None, valid: dict[str, float] | None = None) -> None:
        if self._report is None:
            return
        state, epochs = self.state, self._settings.epochs
        left: float | None = None
        if steps is not None and self._started is not None and self._taken:
            remaining = (epochs - state.epoch) * steps - state.step
            left = (now - self._started) / self._taken * max(0, remaining)
        self._report(
            TrainingProgress(
                state.epoch + 1, epochs, state.step, steps,
                ratio(state.loss_sum, state.weight_sum), ratio(state.units, state.seconds),
                left, valid,
            )
        )  # fmt: skip


def ratio(a: float, b: float) -> float:
    """a / b, NaN for b = 0."""
    return a / b if b else math.nan
