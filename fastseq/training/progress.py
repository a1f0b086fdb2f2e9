"""How far training has come, reported a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

EVERY = 0.2  # seconds between two reports


class TrainingProgress(NamedTuple):
    """A moment of a training run.

    epoch             that is being trained, from 1
    epochs            in all
    step              steps taken in this epoch
    steps             of this epoch; None where that is unknown before its end
    loss              mean over this epoch so far; nan where none was measured yet
    units_per_second  tokens, words or numbers learned from a second, over this epoch so far
    seconds_left      until the last epoch ends, if nothing stops it before; None while unknown
    valid             what validation found, reported once after an epoch's last step; else None
    """

    epoch: int
    epochs: int
    step: int
    steps: int | None
    loss: float
    units_per_second: float
    seconds_left: float | None
    valid: dict[str, float] | None = None

    @property
    def share(self) -> float | None:
        """The part of all epochs that is done, 0 to 1; None while unknown."""
        if self.steps is None:
            return None
        return (self.epoch - 1 + self.step / max(self.steps, 1)) / self.epochs

    @property
    def words_per_second(self) -> float:
        """`units_per_second`, of word vectors."""
        return self.units_per_second


Report = Callable[[TrainingProgress], None]


class Pace:
    """When to report, and how long the rest will take."""

    def __init__(self, every: float) -> None:
        self.taken = 0  # steps since the clock started
        self._every = every
        self._started: float | None = None
        self._next = 0.0

    def start(self) -> None:
        """Start the clock, once."""
        if self._started is None:
            self._started = time.perf_counter()

    def due(self, now: float) -> bool:
        """Whether the last report is `every` seconds old; then the next one is put off again."""
        if now < self._next:
            return False
        self._next = now + self._every
        return True

    def seconds_left(self, now: float, remaining: int | None) -> float | None:
        """Seconds for so many steps at the speed since the clock started."""
        if remaining is None or self._started is None or self.taken == 0:
            return None
        return (now - self._started) / self.taken * max(0, remaining)
