"""Steps of an optimiser on mini-batches, by which sequence models are trained.

A step draws a batch, computes and clips the gradients and lets the optimiser update the weights.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, SupportsFloat

from fastseq.errors import DataError, SettingsError
from fastseq.nn.layer import Parameters
from fastseq.nn.optimisers import check_names, clip_norm, clip_value, gradient_norm, optimiser
from fastseq.nn.schedules import Cosine, Linear, Plateau, schedule
from fastseq.seeds import mixed_key
from fastseq.settings import fraction, real, whole
from fastseq.threads import Team
from fastseq.training.checkpoint import Arrays, Checkpoint, History, State, part_of
from fastseq.training.loop import (
    EVERY,
    DivergedError,
    LoopSettings,
    Report,
    Steps,
    ratio,
    run,
)
from fastseq.types import Float32

_PARAMETERS, _OPTIMISER = "parameters", "optimiser/"
_GOLDEN = 0x9E3779B97F4A7C15  # increment of splitmix64


class StepResult(NamedTuple):
    """The result of one batch.

    loss    mean over the batch; a number, or converted to one on demand
    weight  of the mean: examples, tokens, or the sum of their class weights
    units   tokens (or numbers) processed, for the speed
    """

    loss: SupportsFloat
    weight: float
    units: int


class TrainingTask(ABC):
    """A model and its data, as these steps use them."""

    @property
    @abstractmethod
    def parameters(self) -> Parameters:
        """Weights and gradients."""

    @abstractmethod
    def steps_per_epoch(self, epoch: int) -> int | None:
        """Batches of an epoch (from 0), or None if unknown before its end."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch, the same ones in the same order at each call."""

    @abstractmethod
    def learn(self, batch: Any, key: int) -> StepResult:
        """Forward and backward pass: adds to the gradients, which are zero before. `key`, below
        2**64, seeds the random numbers of this step."""

    def validate(self) -> dict[str, float] | None:
        """{"loss": …, a metric: …} on held-out data; None without held-out data."""
        return None

    def carried(self) -> Arrays:
        """What is carried from one batch to the next besides the weights (the states of a language
        model)."""
        return {}

    def restore_carried(self, carried: Arrays) -> None:  # noqa: B027
        """Restore what `carried` returned, between two batches."""


@dataclass(frozen=True)
class TrainingSettings(LoopSettings):
    """Settings of an optimiser's training. A value out of its range raises SettingsError.

    optimiser           name, and further settings (nn.optimisers)
    learning_rate       peak of the schedule; None: the optimiser's default
    schedule            name, and further settings besides the warm-up (nn.schedules)
    warmup              steps over which the rate first rises to the learning rate
    warmup_ratio        the same as a fraction of all steps, rounded up, where warmup is 0
    frozen              names of parameters that are not trained
    clip                maximum Euclidean norm of all gradients together; None: not clipped
    clip_value          maximum absolute value of a gradient, after `clip`; None: not clipped
    seed                of the random numbers of a step
    largest_loss        a higher one counts as diverged, as one that is not finite: saturated
                        layers can keep the loss finite; None: no limit
    """

    optimiser: str = "adam"
    optimiser_settings: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    schedule: str = "constant"
    schedule_settings: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0
    warmup_ratio: float = 0.0
    frozen: tuple[str, ...] = ()
    clip: float | None = None
    clip_value: float | None = None
    seed: int = 0
    largest_loss: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("warmup", self.warmup, 0)
        fraction("warmup_ratio", self.warmup_ratio)
        for name in ("learning_rate", "clip", "clip_value", "largest_loss"):
            value = getattr(self, name)
            if value is not None:
                real(name, value, lambda n: 0 < n < math.inf, "a number above 0")


def train(
    model: TrainingTask,
    settings: TrainingSettings,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    report: Report | None = None,
    team: Team | None = None,
    interrupted: Callable[[History], None] | None = None,
) -> History:
    """Train a model in place with the arguments and errors of `run`; `team` computes the norm of
    the gradients."""
    steps = GradientSteps(model, settings, team or Team(1))
    return run(steps, checkpoint, resume, report, interrupted)


def mix(seed: int, step: int) -> int:
    """The draw number `step` + 1 of splitmix64 (Steele, Lea and Flood 2014) seeded with `seed`."""
    return mixed_key(seed + step * _GOLDEN)


class GradientSteps(Steps):
    """Steps in which an optimiser updates a model's weights."""

    settings: TrainingSettings

    extensible = True
    report_every = EVERY

    def __init__(self, model: TrainingTask, settings: TrainingSettings, team: Team) -> None:
        self.settings = settings
        self._model = model
        self._team = team
        self._parameters = parameters = model.parameters
        check_names(settings.optimiser, settings.optimiser_settings)
        more = {**settings.optimiser_settings, "frozen": settings.frozen, "team": team}
        self._optimiser = optimiser(settings.optimiser, parameters, settings.learning_rate, **more)
        self.learning_rate = self._optimiser.learning_rate
        steps = self.per_epoch(0)
        self._total = (steps or 0) * settings.epochs
        warmup = settings.warmup or math.ceil(settings.warmup_ratio * self._total)
        more = {**settings.schedule_settings, "warmup": warmup}
        self._schedule = schedule(settings.schedule, self.learning_rate, **more)
        limit = settings.clip or settings.clip_value
        clip = "set a clip, such as 1" if limit is None else f"the clip (now {limit:g})"
        self.advice = f" or {clip}"
        if steps is None and isinstance(self._schedule, Cosine | Linear):
            raise SettingsError(
                f"the schedule {settings.schedule} needs to know how many steps an epoch has; "
                "expected constant, step or plateau"
            )
        self._kept: Arrays | None = None  # carried, until the batches before are skipped
        self._result: StepResult
        self._loss = self._norm = math.nan

    def per_epoch(self, epoch: int) -> int | None:
        return self._model.steps_per_epoch(epoch)

    def pieces(self, epoch: int, skip: int) -> Iterator[Any]:
        batches = iter(self._model.batches(epoch))
        for _ in range(skip):
            if next(batches, self) is self:
                raise DataError(
                    f"cannot resume: the epoch has fewer than the {skip} batches that were "
                    "learned from; expected the same data"
                )
        if self._kept is not None:
            self._model.restore_carried(self._kept)
            self._kept = None
        return batches

    def learn(self, piece: Any, state: State) -> None:
        settings, parameters = self.settings, self._parameters
        parameters.zero_gradients()
        result = self._model.learn(piece, mix(settings.seed, state.steps))
        if settings.clip is None:
            self._norm = gradient_norm(parameters, self._team, settings.frozen)
        else:
            self._norm = clip_norm(parameters, settings.clip, self._team, settings.frozen)
        loss = float(result.loss)
        if self._bad(loss) or not math.isfinite(self._norm):
            if math.isfinite(self._norm) or not math.isfinite(loss):
                raise DivergedError("loss", loss)
            raise DivergedError("norm of the gradients", self._norm)
        self._result, self._loss = result, loss

    def update(self, piece: Any, state: State) -> None:
        settings, result = self.settings, self._result
        if settings.clip_value is not None:
            clip_value(self._parameters, settings.clip_value, self._team, settings.frozen)
        self._optimiser.step(self._schedule(state.steps, self._total))
        state.loss_sum += self._loss * result.weight
        state.weight_sum += float(result.weight)
        state.norm_sum += self._norm
        state.units += int(result.units)

    def prove(self, state: State) -> None:
        """By the loss of the next batch; only gradients change."""
        kept = self._kept = self.carried()
        batch = next(self.pieces(state.epoch, state.step), None)
        if batch is None:
            batch = next(iter(self._model.batches(state.epoch + 1)))
        self._parameters.zero_gradients()
        loss = float(self._model.learn(batch, mix(self.settings.seed, state.steps)).loss)
        self._kept = kept
        if self._bad(loss):
            raise DivergedError("loss", loss)

    def _bad(self, loss: float) -> bool:
        limit = self.settings.largest_loss
        return not math.isfinite(loss) or (limit is not None and loss > limit)

    def validate(self) -> dict[str, float] | None:
        return self._model.validate()

    def observe(self, valid: Mapping[str, float]) -> bool:
        if not valid and isinstance(self._schedule, Plateau):
            raise SettingsError("the schedule plateau needs validation: give data to validate on")
        loss = float(valid.get("loss", math.nan))
        if valid:
            self._schedule.observe(loss if math.isfinite(loss) else math.nan)
        return not self._bad(loss)

    def row(self, state: State, seconds: float) -> dict[str, float]:
        return {
            "epoch": state.epoch + 1,
            "step": state.steps,
            "train_loss": ratio(state.loss_sum, state.weight_sum),
            "learning_rate": self._schedule(state.steps - 1, self._total),
            "gradient_norm": ratio(state.norm_sum, state.step),
            "units_per_second": ratio(state.units, state.seconds),
            "seconds": state.seconds + seconds,
        }

    def described(self) -> dict[str, Any]:
        shapes = {name: list(shape) for name, shape in self._parameters.shapes.items()}
        own = {"learning_rate": self.learning_rate, "parameters": shapes}
        found = {**asdict(self.settings), **own}
        if not self.settings.warmup_ratio:  # which earlier checkpoints do not have
            del found["warmup_ratio"]
        return found

    def carried(self) -> Arrays:
        if self._kept is not None:
            return self._kept
        return {name: array.copy() for name, array in self._model.carried().items()}

    def arrays(self, state: State) -> Arrays:
        state.schedule = self._schedule.state()
        optimiser = self._optimiser.state()
        return {
            _PARAMETERS: self._parameters.get(self._parameters.values),
            **{_OPTIMISER + name: array for name, array in optimiser.items()},
        }

    def restore(self, state: State, arrays: Arrays, carried: Arrays) -> None:
        self.put(arrays[_PARAMETERS])
        self._optimiser.load_state(part_of(arrays, _OPTIMISER))
        self._schedule.load_state(state.schedule)
        self._kept = carried

    def weights(self) -> Float32:
        return self._parameters.get(self._parameters.values)

    def put(self, weights: Float32) -> None:
        if weights.shape != (len(self._parameters.values),):
            raise ValueError(f"{weights.size} weights")
        self._parameters.put(self._parameters.values, weights)
