"""Learning rates over time: constant, step, cosine, linear, polynomial, plateau, each with a
warm-up.

A schedule is called with the number of the next step, from 0, and the number of steps of the whole
training, and returns that step's learning rate. It depends on those two only, so a resumed training
has the same rates; only `Plateau` has a `state`.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from fastseq.errors import FormatError, SettingsError
from fastseq.settings import one_of, real, whole

State = dict[str, float | None]


@dataclass
class Schedule:
    """Base of the schedules.

    learning_rate  the highest, above 0
    warmup         steps over which the rate rises linearly, reaching its full value at the last
    """

    learning_rate: float
    _: KW_ONLY
    warmup: int = 0

    def __post_init__(self) -> None:
        real("learning_rate", self.learning_rate, _positive, "a number above 0")
        whole("warmup", self.warmup, 0)

    def __call__(self, step: int, total_steps: int) -> float:
        """The learning rate of step `step` of `total_steps`; past the end, that of the end."""
        if step < self.warmup:
            return self.learning_rate * ((step + 1) / self.warmup)
        return self.after(step - self.warmup, max(1, total_steps - self.warmup))

    def after(self, step: int, total_steps: int) -> float:
        """The learning rate without a warm-up."""
        return self.learning_rate

    def observe(self, loss: float) -> None:
        """Record a validation loss; ignored by all schedules except `Plateau`."""

    def state(self) -> State:
        """The state, as numbers that JSON can represent."""
        return {}

    def load_state(self, state: State) -> None:
        """Restore a `state`. Raises FormatError when it is another schedule's."""
        if set(state) != set(self.state()):
            raise FormatError(
                f"the schedule's state holds {', '.join(sorted(state)) or 'nothing'}, "
                f"expected {', '.join(sorted(self.state())) or 'nothing'}"
            )


@dataclass
class Constant(Schedule):
    """The same rate for every step."""


@dataclass
class Step(Schedule):
    """The rate times `factor` after every `every` steps past the warm-up.

    every   at least 1; for epochs, their number times the steps of one
    factor  above 0
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("every", self.every, 1)
        real("factor", self.factor, _positive, "a number above 0")

    def after(self, step: int, total_steps: int) -> float:
        return self.learning_rate * float(self.factor) ** (step // self.every)


@dataclass
class Linear(Schedule):
    """A straight line from the learning rate down to `floor`."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_floor(self.floor, self.learning_rate)

    def after(self, step: int, total_steps: int) -> float:
        height = self.height(min(1.0, step / total_steps))
        return self.floor + (self.learning_rate - self.floor) * height

    def height(self, done: float) -> float:
        """Of the curve, from 1 at done = 0 to 0 at done = 1."""
        return 1 - done


@dataclass
class Cosine(Linear):
    """Half a cosine from the learning rate down to `floor`. Loshchilov and Hutter 2017 (SGDR)."""

    def height(self, done: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Polynomial(Linear):
    """The learning rate times (1 - step / total steps) to a `power`, down to `floor`.

    Steps count from the beginning of training, the warm-up's among them, so that the rate after
    the warm-up is below the learning rate: the schedule of Google's BERT (Devlin et al. 2019).

    power  above 0
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real("power", self.power, _positive, "a number above 0")

    def __call__(self, step: int, total_steps: int) -> float:
        if step < self.warmup:
            return super().__call__(step, total_steps)
        return self.after(step, max(1, total_steps))

    def height(self, done: float) -> float:
        return float((1 - done) ** self.power)


@dataclass
class Plateau(Schedule):
    """The rate times `factor` after more than `patience` validations without a lower loss.

    factor    in (0, 1)
    patience  validations without a lower loss before the one that lowers the rate; then counting
              starts again
    floor     lower bound of the rate
    """

    factor: float = 0.5
    patience: int = 0
    floor: float = 0.0
    _scale: float = field(default=1.0, init=False, repr=False)
    _best: float | None = field(default=None, init=False, repr=False)
    _waited: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        real("factor", self.factor, lambda factor: 0 < factor < 1, "above 0 and below 1")
        whole("patience", self.patience, 0)
        _check_floor(self.floor, self.learning_rate)

    def after(self, step: int, total_steps: int) -> float:
        return max(self.floor, self.learning_rate * self._scale)

    def observe(self, loss: float) -> None:
        """Record a validation loss; NaN is no improvement."""
        if not math.isnan(loss) and (self._best is None or loss < self._best):
            self._best, self._waited = float(loss), 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._scale, self._waited = self._scale * self.factor, 0

    def state(self) -> State:
        return {"scale": self._scale, "best": self._best, "waited": self._waited}

    def load_state(self, state: State) -> None:
        super().load_state(state)
        scale, best, waited = state["scale"], state["best"], state["waited"]
        if scale is None or waited is None:
            raise FormatError("the schedule's state holds nothing for scale or waited")
        self._scale, self._best, self._waited = scale, best, int(waited)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "linear": Linear,
    "polynomial": Polynomial,
    "plateau": Plateau,
}


def schedule(name: str, learning_rate: float, **settings: Any) -> Schedule:
    """The schedule of that name.

    Raises
    ------
    SettingsError
        An unknown schedule or setting, a missing setting, or one outside its range.
    """
    one_of("the schedule", name, SCHEDULES)
    known = dict(inspect.signature(SCHEDULES[name]).parameters)
    del known["learning_rate"]
    strange = sorted(set(settings) - set(known))
    if strange:
        raise SettingsError(
            f"the schedule {name} has no setting {strange[0]!r}, "
            f"expected some of {', '.join(known)}"
        )
    for setting, parameter in known.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise SettingsError(f"the schedule {name} needs the setting {setting!r}")
    return SCHEDULES[name](learning_rate, **settings)


def _positive(number: float) -> bool:
    return 0 < number < math.inf


def _check_floor(floor: float, learning_rate: float) -> None:
    wanted = "between 0 and the learning rate"
    real("floor", floor, lambda least: 0 <= least <= learning_rate, wanted)
