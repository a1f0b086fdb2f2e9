"""The training loop: every model learns by this one.

An epoch is a number of steps, each of which learns from a piece of the data and moves the weights;
`GradientSteps` and `HogwildSteps` are the two kinds. After an epoch the model is validated. What
the loop knows lies in a `State`, and what the steps change in a few arrays, so that a checkpoint
of both continues bit for bit.

A checkpoint holds only weights that a loss has proven: it is written inside a step, after its loss
was found finite and before the weights move. Where no step comes any more (the end of a training,
Ctrl-C) the steps prove them otherwise. So weights that a last step ruined never replace good ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from fastseq.errors import DataError, FastseqError, FormatError, SettingsError, TrainingError
from fastseq.interrupts import Interrupts
from fastseq.settings import real, whole
from fastseq.training.checkpoint import Arrays, Checkpoint, State
from fastseq.training.history import History
from fastseq.training.progress import Pace, Report, TrainingProgress
from fastseq.types import Float32

# at the end of an epoch the checkpoint waits until the last one cost less than this share of time
CHECKPOINT_SHARE = 0.05

_BEST, _CARRIED = "best", "carried/"


@dataclass(frozen=True)
class LoopSettings:
    """When to stop and when to save. A value out of its range raises SettingsError.

    epochs              passes over the data
    patience            stop after so many epochs without a better validation; None: never
    monitor             what better means: "loss" or a metric of the validation
    larger_is_better    for what is monitored
    checkpoint_seconds  between two checkpoints inside an epoch; 0: after every step
    """

    epochs: int = 10
    patience: int | None = None
    monitor: str = "loss"
    larger_is_better: bool = False
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        if self.patience is not None:
            whole("patience", self.patience, 1)
        real("checkpoint_seconds", self.checkpoint_seconds, lambda s: s >= 0, "0 or more")


class DivergedError(Exception):
    """A step's loss or gradient is not finite, or its loss too high: which, and its value."""


class Steps(Protocol):
    """What a training consists of, as the loop sees it.

    settings       of the loop
    extensible     whether a finished training can be continued for more epochs, and one that
                   diverged with other settings: then there are checkpoints after epochs, too
    report_every   seconds between two progress reports; 0: after every step
    learning_rate  that training begins with
    advice         what to try where training diverges, beside a lower learning rate
    """

    extensible: bool
    report_every: float
    learning_rate: float
    advice: str

    @property
    def settings(self) -> LoopSettings: ...

    def per_epoch(self, epoch: int) -> int | None:
        """Steps of an epoch (from 0), or None where that is unknown before its end."""

    def pieces(self, epoch: int, skip: int) -> Iterator[Any]:
        """What the steps of an epoch learn from, without the first ones."""

    def learn(self, piece: Any, state: State) -> None:
        """The part of a step that leaves the weights as they are. Raises DivergedError."""

    def update(self, piece: Any, state: State) -> None:
        """The part that moves the weights; adds to the state's sums. Raises DivergedError."""

    def prove(self, state: State) -> None:
        """Raise DivergedError where the last step ruined the weights. Changes nothing that a
        later step depends on."""

    def validate(self) -> dict[str, float] | None:
        """{"loss": …, a metric: …} on held-out data; None where nothing is held out."""

    def observe(self, valid: Mapping[str, float]) -> bool:
        """Take note of a validation; whether it proves the weights."""

    def row(self, state: State, seconds: float) -> dict[str, float]:
        """What the history says of an epoch; validation took `seconds`."""

    def described(self) -> dict[str, Any]:
        """What a checkpoint says of the training, as JSON, beside its identity."""

    def carried(self) -> Arrays:
        """Copies of what passes from one step to the next beside the arrays."""

    def arrays(self, state: State) -> Arrays:
        """All that the steps change, for a checkpoint; what is no array goes to the state."""

    def restore(self, state: State, arrays: Arrays, carried: Arrays) -> None:
        """Go on from what a checkpoint gave. Raises KeyError, ValueError or FormatError where it
        does not fit."""

    def weights(self) -> Float32 | None:
        """A copy of the weights, for the best epoch; None where the last ones are kept."""

    def put(self, weights: Float32) -> None:
        """Set the weights. Raises ValueError for another number of them."""


def run(
    steps: Steps,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    report: Report | None = None,
    interrupted: Callable[[History], None] | None = None,
) -> History:
    """Train in place.

    With validation an optimiser ends with the weights of the best epoch; Hogwild threads, and
    whatever is not validated, end with the last ones. On one thread the result depends on
    settings, data and first weights alone, and a run that was interrupted and resumed ends with
    the same bits.

    Parameters
    ----------
    checkpoint : where to save, every `checkpoint_seconds` and, where steps say so, after epochs
    resume : go on from `checkpoint`; from the beginning where none was saved yet
    report : called a few times a second with how far training has come, and with each validation
    interrupted : called with the history where a signal ends the training, with the weights of the
        last complete step; not where these are ruined, or a second signal broke a step off

    Raises
    ------
    TrainingError
        A loss or a gradient is not finite, or the loss too high: at which step, and which setting
        to lower.
    SettingsError
        A setting does not fit the model; the checkpoint is of another run, or of one that has
        come further than `epochs`.
    FormatError
        The checkpoint is damaged.
    DataError
        An epoch has no step, or fewer than when the checkpoint was made.
    KeyboardInterrupt, Terminated
        Ctrl-C, SIGTERM; the checkpoint then holds the last complete step, unless that ruined the
        weights.
    """
    with Interrupts() as interrupts:
        loop = _Loop(steps, checkpoint, report, interrupts)
        if resume and checkpoint is not None and checkpoint.exists():
            loop.restore()
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
        self._whole = True  # no step is half done
        self._saved = (0, 0)  # epoch and step of the last checkpoint
        self._saved_at = time.perf_counter()
        self._saving = 0.0  # seconds that the last one took
        self._owed = False  # the next step is to save first
        self._proven = False  # the loss of the weights as they are was seen to be finite
        self._pace = Pace(steps.report_every)

    def restore(self) -> None:
        """Go on from the checkpoint."""
        checkpoint, epochs = self._checkpoint, self._settings.epochs
        assert checkpoint is not None
        self.state, arrays = checkpoint.load(self._steps.described())
        self.state.diverged = False
        self._saved = self._place
        if self._place > (epochs, 0):
            epoch, step = self._place
            begun = f" and {step} steps of the next" if step else ""
            raise SettingsError(
                f"{checkpoint.path}: cannot resume: epochs is {epochs}, but {epoch} epochs{begun} "
                f"are done: expected at least {epoch + (step > 0)}"
            )
        try:
            carried = part_of(arrays, _CARRIED)
            self._best = arrays.get(_BEST)
            self._steps.restore(self.state, arrays, carried)
        except (KeyError, ValueError, FormatError) as error:
            raise FormatError(f"{checkpoint.path}: does not fit this model: {error}") from error

    def train(self) -> None:
        """Epochs, until they are done or patience is lost."""
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
                self._owed = waited * CHECKPOINT_SHARE >= self._saving or every_step
        if self._best is not None:
            self._steps.put(self._best)

    def _finish(self) -> None:
        """Save what the last step gave, if it is good."""
        self._interrupts.hold()
        try:
            self._prove()
            self._save(self._steps.carried())
        except DivergedError as error:
            if self._best is None:
                raise self._diverged(error, "after the last step") from None
        self._interrupts.release()

    def interrupted(self, keep: Callable[[History], None] | None) -> None:
        """Save and keep the last complete step, unless one was broken off by a second signal."""
        if not self._whole or self._place == (0, 0):
            return
        save = self._checkpoint is not None and self._saved != self._place
        self._interrupts.hold()
        with suppress(DivergedError):
            self._prove()
            if save:
                self._save(self._steps.carried())
            if keep is not None:
                keep(self.state.history)
        self._interrupts.release()

    def _prove(self) -> None:
        if not self._proven:
            self._steps.prove(self.state)

    def _done(self) -> bool:
        patience = self._settings.patience
        return self.state.epoch >= self._settings.epochs or (
            patience is not None and self.state.stale >= patience
        )

    def _epoch(self) -> None:
        state, seconds = self.state, self._settings.checkpoint_seconds
        steps = self._steps.per_epoch(state.epoch)
        pieces = self._steps.pieces(state.epoch, state.step)
        self._pace.start()
        then = time.perf_counter()
        for piece in pieces:
            saving = self._owed or then - self._saved_at >= seconds
            paused = self._step(piece, saving)
            now = time.perf_counter()
            state.seconds += now - then - paused
            then = now
            if self._report is not None and self._pace.due(now):
                self._tell(now, steps)
        if state.step == 0:
            raise DataError("nothing to learn from: an epoch without a batch")
        if self._steps.report_every:
            self._tell(then, steps)

    def _step(self, piece: Any, saving: bool) -> float:
        """Learn from a piece; with `saving` also save where the run is before it. Returns the
        seconds that saving took."""
        state, steps = self.state, self._steps
        new = self._place not in ((0, 0), self._saved)
        saving = saving and new and self._checkpoint is not None
        carried = steps.carried() if saving else {}
        self._interrupts.hold()
        self._whole = False
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
        self._pace.taken += 1
        self._whole = True
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
            steps = self._steps.per_epoch(state.epoch)
            self._tell(time.perf_counter(), steps, valid)
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
    def _place(self) -> tuple[int, int]:
        return self.state.epoch, self.state.step

    def _save(self, carried: Arrays) -> None:
        """Write a checkpoint of where the run is; `carried` as it is between the two steps."""
        began = time.perf_counter()
        self._owed = False
        if self._checkpoint is None:
            return
        arrays = self._steps.arrays(self.state)
        if self._best is not None:
            arrays[_BEST] = self._best
        arrays |= {_CARRIED + name: array for name, array in carried.items()}
        self._checkpoint.save(self._steps.described(), self.state, arrays)
        self._saved = self._place
        self._saved_at = time.perf_counter()
        self._saving = self._saved_at - began

    def _diverged(self, error: DivergedError, where: str) -> TrainingError:
        steps, kept = self._steps, ""
        if self._checkpoint is not None and self._saved != (0, 0) and steps.extensible:
            with suppress(FastseqError):  # what is there stays loadable
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
        remaining = None if steps is None else (epochs - state.epoch) * steps - state.step
        self._report(
            TrainingProgress(
                state.epoch + 1, epochs, state.step, steps,
                ratio(state.loss_sum, state.weight_sum), ratio(state.units, state.seconds),
                self._pace.seconds_left(now, remaining), valid,
            )
        )  # fmt: skip


def part_of(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose names begin with the prefix, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def ratio(a: float, b: float) -> float:
    """a / b, nan for b = 0."""
    return a / b if b else math.nan
