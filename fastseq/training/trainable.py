"""What the training loop asks of a model, and what a person may set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, SupportsFloat

import numpy.typing as npt

from fastseq.nn.parameters import Parameters
from fastseq.settings import real, whole


class StepResult(NamedTuple):
    """What one batch gave.

    loss    mean over the batch; a number, or what becomes one when it is asked for
    weight  what the mean is over: examples, tokens, or the sum of their class weights
    units   tokens (or numbers) that went through the model, for the speed
    """

    loss: SupportsFloat
    weight: float
    units: int


class Trainable(Protocol):
    """A model as the loop sees it."""

    @property
    def parameters(self) -> Parameters:
        """Weights and gradients."""

    def steps_per_epoch(self, epoch: int) -> int | None:
        """Batches of an epoch (from 0), or None where nobody knows before it ends."""

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch: the same ones in the same order whenever asked."""

    def learn(self, batch: Any, key: int) -> StepResult:
        """Forward and backward pass: adds to the gradients, which are zero before.

        `key` is a number below 2**64, another one each step, for whatever is random.
        """

    def validate(self) -> dict[str, float] | None:
        """{"loss": …, a metric: …} on held-out data; None where nothing is held out."""

    def carried(self) -> dict[str, npt.NDArray[Any]]:
        """What passes from one batch to the next beside the weights (the states of a language
        model); {} for most."""

    def restore_carried(self, carried: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from what `carried` gave, between two batches."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train. A value that makes no sense raises SettingsError.

    epochs              passes over the data
    optimiser           name, and what else it takes (nn.optimisers)
    learning_rate       the highest that the schedule gives; None: the optimiser's default
    schedule            name, and what else it takes beside a warm-up (nn.schedules)
    warmup              steps over which the rate first rises to the learning rate
    frozen              names of parameters that stay as they are
    clip                largest Euclidean norm of all gradients together; None: not clipped
    clip_value          largest absolute value of one gradient, after `clip`; None: not clipped
    patience            stop after so many epochs without a better validation; None: never
    monitor             what better means: "loss" or a metric of `validate`
    larger_is_better    for what is monitored
    seed                of whatever is random in a step
    largest_loss        a higher one counts as diverged, as one that is not finite does: saturated
                        layers can hold a loss finite for ever; None: no limit
    checkpoint_seconds  between two checkpoints inside an epoch; 0: after every step
    """

    epochs: int = 10
    optimiser: str = "adam"
    optimiser_settings: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    schedule: str = "constant"
    schedule_settings: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0
    frozen: tuple[str, ...] = ()
    clip: float | None = None
    clip_value: float | None = None
    patience: int | None = None
    monitor: str = "loss"
    larger_is_better: bool = False
    seed: int = 0
    largest_loss: float | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        whole("warmup", self.warmup, 0)
        if self.patience is not None:
            whole("patience", self.patience, 1)
        for name in ("learning_rate", "clip", "clip_value", "largest_loss"):
            value = getattr(self, name)
            if value is not None:
                real(name, value, lambda n: 0 < n < math.inf, "a number above 0")
        real("checkpoint_seconds", self.checkpoint_seconds, lambda s: s >= 0, "0 or more")
