"""The training loop: every sequence model learns by this one.

A step draws a batch, lets the model add its gradients, clips them and lets the optimiser move the
weights. After an epoch the model is validated and the best weights are kept. What the loop knows
lies in a `State` and in a few arrays, so that a checkpoint of them continues bit for bit.

A checkpoint holds only weights that a loss has proven: it is written inside a step, after its loss
and gradients were found finite and before they move the weights. Where no step comes any more (the
end of a training, Ctrl-C) the loss of one more batch is looked at instead. So weights that a last
step ruined never replace good ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastseq.errors import DataError, FastseqError, FormatError, SettingsError, TrainingError
from fastseq.interrupts import Interrupts
from fastseq.nn.clipping import clip_norm, clip_value, gradient_norm
from fastseq.nn.optimisers import check_names, optimiser
from fastseq.nn.schedules import Cosine, Linear, Plateau, schedule
from fastseq.threads import Team
from fastseq.training.checkpoint import Arrays, Checkpoint, State
from fastseq.training.history import History
from fastseq.training.progress import Pace, Report, TrainingProgress
from fastseq.training.trainable import StepResult, Trainable, TrainingSettings
from fastseq.types import Float32

__all__ = ["StepResult", "Trainable", "TrainingSettings", "mix", "train"]

# at the end of an epoch the checkpoint waits until the last one cost less than this share of time
CHECKPOINT_SHARE = 0.05

_PARAMETERS, _BEST, _OPTIMISER, _CARRIED = "parameters", "best", "optimiser/", "carried/"
_ALL = (1 << 64) - 1


def train(
    model: Trainable,
    settings: TrainingSettings,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    report: Report | None = None,
    team: Team | None = None,
) -> History:
    """Train a model in place.

    With validation the model ends with the weights of its best epoch, without it with the last
    ones. On one thread the result depends on settings, data and first weights alone, and a run
    that was interrupted and resumed ends with the same bits.

    Parameters
    ----------
    checkpoint : where to save, after epochs and every `checkpoint_seconds`; the last one stays, so
        that a finished run can be resumed for more epochs
    resume : go on from `checkpoint`; from the beginning where none was saved yet
    report : told a few times a second how far training has come, and what each validation found
    team : threads for the norm of the gradients

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
        An epoch has no batch, or fewer than when the checkpoint was made.
    KeyboardInterrupt
        Ctrl-C; the checkpoint then holds the last complete step, unless that spoilt the weights.
    """
    with Interrupts() as interrupts:
        run = _Run(model, settings, checkpoint, report, team or Team(1), interrupts)
        if resume and checkpoint is not None and checkpoint.exists():
            run.restore()
        try:
            run.train()
        except KeyboardInterrupt:
            run.save_interrupted()
            raise
    return run.state.history


def mix(seed: int, step: int) -> int:
    """A number below 2**64 for a step: splitmix64 (Steele, Lea and Flood 2014), the generator that
    starts at `seed`, after `step` + 1 draws."""
    z = (seed + (step + 1) * 0x9E3779B97F4A7C15) & _ALL
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _ALL
    return z ^ (z >> 31)


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        model: Trainable,
        settings: TrainingSettings,
        checkpoint: Checkpoint | None,
        report: Report | None,
        team: Team,
        interrupts: Interrupts,
    ) -> None:
        self.state = State()
        self._model = model
        self._settings = settings
        self._checkpoint = checkpoint
        self._report = report
        self._team = team
        self._interrupts = interrupts
        self._parameters = parameters = model.parameters
        check_names(settings.optimiser, settings.optimiser_settings)
        self._optimiser = optimiser(
            settings.optimiser,
            parameters,
            settings.learning_rate,
            **{**settings.optimiser_settings, "frozen": settings.frozen, "team": team},
        )
        self._learning_rate = self._optimiser.learning_rate
        self._schedule = schedule(
            settings.schedule,
            self._learning_rate,
            **{**settings.schedule_settings, "warmup": settings.warmup},
        )
        self._total = self._total_steps()
        self._shapes = {name: list(shape) for name, shape in parameters.shapes.items()}
        self._best: Float32 | None = None
        self._carried: Arrays | None = None  # of a checkpoint, until its batches are skipped
        self._whole = True  # no step is half done
        self._saved = (0, 0)  # epoch and step of the last checkpoint
        self._saved_at = time.perf_counter()
        self._saving = 0.0  # seconds that the last one took
        self._owed = False  # the next step is to save first
        self._proven = False  # a finite loss of the weights as they are was seen
        self._pace = Pace()

    def _total_steps(self) -> int:
        steps = self._model.steps_per_epoch(0)
        if steps is None:
            if isinstance(self._schedule, Cosine | Linear):
                raise SettingsError(
                    f"the schedule {self._settings.schedule} needs to know how many steps an epoch "
                    "has; expected constant, step or plateau"
                )
            return 0
        return steps * self._settings.epochs

    def restore(self) -> None:
        """Go on from the checkpoint."""
        assert self._checkpoint is not None
        self.state, arrays = self._checkpoint.load(self._training())
        self.state.diverged = False
        self._saved = self._place
        if self._place > (self._settings.epochs, 0):
            epoch, step = self._place
            begun = f" and {step} steps of the next" if step else ""
            raise SettingsError(
                f"{self._checkpoint.path}: cannot resume: epochs is {self._settings.epochs}, but "
                f"{epoch} epochs{begun} are done: expected at least {epoch + (step > 0)}"
            )
        try:
            self._put(arrays[_PARAMETERS])
            self._best = arrays.get(_BEST)
            self._optimiser.load_state(_part(arrays, _OPTIMISER))
            self._schedule.load_state(self.state.schedule)
        except (KeyError, ValueError, FormatError) as error:
            raise FormatError(
                f"{self._checkpoint.path}: does not fit this model: {error}"
            ) from error
        self._carried = _part(arrays, _CARRIED)

    def train(self) -> None:
        """Epochs, until they are done or patience is lost."""
        while not self._done():
            self._epoch()
            began = time.perf_counter()
            valid = self._model.validate() or {}
            now = time.perf_counter()
            self._interrupts.hold()
            self._end_epoch(valid, now - began)
            self._interrupts.release()
            if self._done():
                self._finish()
            waited = now - self._saved_at
            self._owed = waited * CHECKPOINT_SHARE >= self._saving or self._every_step
        if self._best is not None:
            self._put(self._best)

    def _finish(self) -> None:
        """Save what the last step gave, if it is good."""
        self._interrupts.hold()
        loss = 0.0 if self._proven else self._next_loss()
        good = not self._bad(loss)
        if good:
            self._save(self._now_carried())
        self._interrupts.release()
        if not good and self._best is None:
            raise self._diverged(loss, 0.0, "after the last step")

    def save_interrupted(self) -> None:
        """Save the last complete step, unless one was broken off by a second Ctrl-C."""
        if self._whole and self._saved != self._place and self._checkpoint is not None:
            self._interrupts.hold()
            if not self._bad(self._next_loss()):
                self._save(self._now_carried())
            self._interrupts.release()

    def _next_loss(self) -> float:
        """The loss of the batch that comes next; all but the gradients stays as it is."""
        state = self.state
        carried = self._carried = self._now_carried()
        batch = next(self._remaining_batches(), None)
        if batch is None:
            batch = next(iter(self._model.batches(state.epoch + 1)))
        self._parameters.zero_gradients()
        loss = float(self._model.learn(batch, mix(self._settings.seed, state.steps)).loss)
        self._carried = carried
        return loss

    def _now_carried(self) -> Arrays:
        """What passes to the next batch, as it will stay."""
        if self._carried is not None:
            return self._carried
        return {name: array.copy() for name, array in self._model.carried().items()}

    def _bad(self, loss: float) -> bool:
        limit = self._settings.largest_loss
        return not math.isfinite(loss) or (limit is not None and loss > limit)

    def _done(self) -> bool:
        patience = self._settings.patience
        return self.state.epoch >= self._settings.epochs or (
            patience is not None and self.state.stale >= patience
        )

    def _epoch(self) -> None:
        state, seconds = self.state, self._settings.checkpoint_seconds
        steps = self._model.steps_per_epoch(state.epoch)
        batches = self._remaining_batches()
        self._pace.start()
        then = time.perf_counter()
        for batch in batches:
            saving = self._owed or then - self._saved_at >= seconds
            paused = self._step(batch, saving)
            now = time.perf_counter()
            state.seconds += now - then - paused
            then = now
            if self._report is not None and self._pace.due(now):
                self._tell(now, steps)
        if state.step == 0:
            raise DataError("nothing to learn from: an epoch without a batch")
        self._tell(then, steps)

    def _remaining_batches(self) -> Iterator[Any]:
        """The batches of the epoch after those that were learned from."""
        batches = iter(self._model.batches(self.state.epoch))
        for _ in range(self.state.step):
            if next(batches, self) is self:
                raise DataError(
                    f"cannot resume: the epoch has fewer than the {self.state.step} batches that "
                    "were learned from; expected the same data"
                )
        if self._carried is not None:
            self._model.restore_carried(self._carried)
            self._carried = None
        return batches

    def _step(self, batch: Any, saving: bool) -> float:
        """Learn from a batch; with `saving` also save where the run is before it. Returns the
        seconds that saving took."""
        state, settings, parameters = self.state, self._settings, self._parameters
        new = self._place not in ((0, 0), self._saved)
        saving = saving and new and self._checkpoint is not None
        carried = self._now_carried() if saving else {}
        self._interrupts.hold()
        self._whole = False
        parameters.zero_gradients()
        result = self._model.learn(batch, mix(settings.seed, state.steps))
        if settings.clip is None:
            norm = gradient_norm(parameters, self._team, settings.frozen)
        else:
            norm = clip_norm(parameters, settings.clip, self._team, settings.frozen)
        loss = float(result.loss)
        if self._bad(loss) or not math.isfinite(norm):
            raise self._diverged(loss, norm, f"at epoch {state.epoch + 1}, step {state.step + 1}")
        if saving:
            self._save(carried)
        if settings.clip_value is not None:
            clip_value(parameters, settings.clip_value, self._team, settings.frozen)
        self._optimiser.step(self._schedule(state.steps, self._total))
        state.loss_sum += loss * result.weight
        state.weight_sum += float(result.weight)
        state.norm_sum += norm
        state.units += int(result.units)
        state.step += 1
        state.steps += 1
        self._pace.taken += 1
        self._whole = True
        self._proven = False
        self._interrupts.release()
        return self._saving if saving else 0.0

    def _end_epoch(self, valid: dict[str, float], seconds: float) -> None:
        state = self.state
        row = {
            "epoch": state.epoch + 1,
            "step": state.steps,
            "train_loss": _ratio(state.loss_sum, state.weight_sum),
            "learning_rate": self._schedule(state.steps - 1, self._total),
            "gradient_norm": _ratio(state.norm_sum, state.step),
            "units_per_second": _ratio(state.units, state.seconds),
            "seconds": state.seconds + seconds,
        }
        self._keep_best(valid)
        self._proven = not self._bad(float(valid.get("loss", math.nan)))
        state.history.append(row, valid)
        if valid:
            steps = self._model.steps_per_epoch(state.epoch)
            self._tell(time.perf_counter(), steps, valid)
        state.begin_epoch()

    def _keep_best(self, valid: dict[str, float]) -> None:
        state, settings = self.state, self._settings
        if not valid:
            if settings.patience is not None or isinstance(self._schedule, Plateau):
                what = "patience" if settings.patience is not None else "the schedule plateau"
                raise SettingsError(f"{what} needs validation: give data to validate on")
            return
        loss = float(valid.get("loss", math.nan))
        self._schedule.observe(loss if math.isfinite(loss) else math.nan)
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
        self._best = self._parameters.get(self._parameters.values)

    def _put(self, values: Float32) -> None:
        if values.shape != (len(self._parameters.values),):
            raise ValueError(f"{values.size} weights")
        self._parameters.put(self._parameters.values, values)

    @property
    def _place(self) -> tuple[int, int]:
        return self.state.epoch, self.state.step

    @property
    def _every_step(self) -> bool:
        return self._settings.checkpoint_seconds == 0

    def _training(self) -> dict[str, Any]:
        """What a checkpoint says of the run, beside its identity."""
        own = {"learning_rate": self._learning_rate, "parameters": self._shapes}
        return {**asdict(self._settings), **own}

    def _save(self, carried: Arrays) -> None:
        """Write a checkpoint of where the run is; `carried` as it is between the two batches."""
        began = time.perf_counter()
        self._owed = False
        if self._checkpoint is None:
            return
        arrays: Arrays = {_PARAMETERS: self._parameters.get(self._parameters.values)}
        if self._best is not None:
            arrays[_BEST] = self._best
        arrays |= {_OPTIMISER + name: array for name, array in self._optimiser.state().items()}
        arrays |= {_CARRIED + name: array for name, array in carried.items()}
        self.state.schedule = self._schedule.state()
        self._checkpoint.save(self._training(), self.state, arrays)
        self._saved = self._place
        self._saved_at = time.perf_counter()
        self._saving = self._saved_at - began

    def _diverged(self, loss: float, norm: float, where: str) -> TrainingError:
        settings = self._settings
        of_loss = math.isfinite(norm) or not math.isfinite(loss)
        what, value = ("loss", loss) if of_loss else ("norm of the gradients", norm)
        limit = settings.clip or settings.clip_value
        clip = "set a clip, such as 1" if limit is None else f"the clip (now {limit:g})"
        kept = ""
        if self._checkpoint is not None and self._saved != (0, 0):
            with suppress(FastseqError):  # what is there stays loadable
                self._checkpoint.mark_diverged(self._training())
            epoch, step = self._saved
            kept = f"; the checkpoint of epoch {epoch + 1}, step {step} can be resumed with these"
        return TrainingError(
            f"the {what} became {value:g} {where}: lower the learning rate (now "
            f"{self._learning_rate:g}) or {clip}{kept}"
        )

    def _tell(self, now: float, steps: int | None, valid: dict[str, float] | None = None) -> None:
        if self._report is None:
            return
        state, epochs = self.state, self._settings.epochs
        remaining = None if steps is None else (epochs - state.epoch) * steps - state.step
        self._report(
            TrainingProgress(
                state.epoch + 1,
                epochs,
                state.step,
                steps,
                _ratio(state.loss_sum, state.weight_sum),
                _ratio(state.units, state.seconds),
                self._pace.seconds_left(now, remaining),
                valid,
            )
        )


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan
