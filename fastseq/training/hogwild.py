"""The loop that trains word vectors: threads without locks, each with a slice of the corpus.

An epoch is cut into rounds. In a round every thread works through the next piece of its own slice
and writes to the same vectors as the others, unlocked: updates touch few rows, and the few that
are lost cost no quality (Recht et al. 2011, "Hogwild!"). Between rounds nothing is under way:
there progress is told, Ctrl-C is let through and checkpoints are written. The learning rate falls
with the rounds, and the random numbers of a piece depend on the seed, the round and the thread
alone; so on one thread a training repeats bit for bit, stopped and resumed or not.

What the pieces are of is a matter of the `Lessons`: sentences (`Reading`), or what a model made of
them before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastseq.errors import TrainingError
from fastseq.interrupts import Interrupts
from fastseq.threads import Team
from fastseq.types import Float32, Float64, Int32, Int64

ROUND = 1 << 19  # tokens of a thread's piece, about
_RECENT = 4_000_000  # tokens that the loss told is a mean over


class Objective(Protocol):
    """What is learned.

    arrays  float32[·, W] by name: all that training changes
    """

    arrays: dict[str, Float32]

    def measure(self, tokens: Int32, ends: Int64, seed: int) -> float | None:
        """The mean loss of sentences that are not learned from; None where no two words meet."""


class Lessons(Protocol):
    """What an epoch is made of, dealt out.

    rounds  of an epoch
    """

    rounds: int

    def learn(
        self, part: int, epoch: int, round: int, rates: tuple[float, float], seed: int,
        seen: Float64,
    ) -> None:  # fmt: skip
        """Learn from the piece that the thread `part` has in a round; all as Reader has it, `seed`
        that of the whole training."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How training goes.

    first_rate, last_rate  learning rate at the beginning and at the end, linear between
    checkpoint_seconds     between two checkpoints
    """

    epochs: int
    first_rate: float
    last_rate: float
    seed: int
    checkpoint_seconds: float = 300.0


History = dict[str, list[float | None]]


class Progress(NamedTuple):
    """A moment of a training.

    epoch, epochs     that is under way, from 1; in all
    share             of all epochs that is done, 0 to 1
    loss              mean over the last few million tokens
    words_per_second  of the corpus, since training began
    seconds_left      at this speed
    """

    epoch: int
    epochs: int
    share: float
    loss: float
    words_per_second: float
    seconds_left: float


Report = Callable[[Progress], None]


@dataclass(slots=True)
class State:
    """Where a training is: epochs and rounds completed, and the history of the epochs.

    sums     of the epoch under way: tokens, words kept, loss, its terms, seconds
    history  {name: a value for each epoch}; None for a loss that nothing was measured of
    """

    epoch: int = 0
    round: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)
    history: History = field(default_factory=dict)


Save = Callable[[State], None]


def train(
    objective: Objective,
    lessons: Lessons,
    settings: Settings,
    team: Team,
    state: State,
    held_out: tuple[Int32, Int64] | None = None,
    report: Report | None = None,
    save: Save | None = None,
) -> None:
    """Train in place, from where `state` is to the last epoch.

    Raises
    ------
    TrainingError
        The loss is no longer finite.
    KeyboardInterrupt
        Ctrl-C, after the round under way; it has been saved then.
    """
    rounds = lessons.rounds
    total = settings.epochs * rounds
    clock = _Clock(state, rounds, total, settings.epochs)
    with Interrupts() as interrupts:
        while state.epoch < settings.epochs:
            interrupts.hold()
            began = time.perf_counter()
            seen = _round(lessons, settings, team, state, total)
            state.round += 1
            state.sums = [
                a + b for a, b in zip(state.sums, [*seen, time.perf_counter() - began], strict=True)
            ]
            if not np.isfinite(seen[2]):
                raise _diverged(state, rounds)
            if state.round == rounds:
                _end_epoch(objective, state, settings, held_out)
            if save is not None and clock.due(settings.checkpoint_seconds):
                save(state)
            if report is not None:
                report(clock.progress(state, seen))
            try:
                interrupts.release()
            except KeyboardInterrupt:
                if save is not None:
                    save(state)
                raise


def _round(
    lessons: Lessons, settings: Settings, team: Team, state: State, total: int
) -> Float64:  # fmt: skip
    """Every thread's next piece; the sums of what they saw."""
    done = state.epoch * lessons.rounds + state.round
    span = settings.last_rate - settings.first_rate
    rates = (
        settings.first_rate + span * done / total,
        settings.first_rate + span * (done + 1) / total,
    )
    seen = np.zeros((team.threads, 8))  # a cache line each

    def work(part: int) -> None:
        lessons.learn(part, state.epoch, state.round, rates, settings.seed, seen[part, :4])

    team.run(work, team.threads)
    sums: Float64 = seen[:, :4].sum(axis=0)
    return sums


def _end_epoch(
    objective: Objective, state: State, settings: Settings, held_out: tuple[Int32, Int64] | None
) -> None:
    tokens, kept, loss, terms, seconds = state.sums
    found = {
        "epoch": state.epoch + 1, "train_loss": loss / terms if terms else None, "words": tokens,
        "words_kept": kept, "seconds": seconds, "words_per_second": tokens / max(seconds, 1e-9),
    }  # fmt: skip
    if held_out is not None:
        found["valid_loss"] = objective.measure(*held_out, settings.seed)
    for name, value in found.items():
        state.history.setdefault(name, []).append(None if value is None else float(value))
    state.epoch += 1
    state.round = 0
    state.sums = [0.0] * 5


def _diverged(state: State, rounds: int) -> TrainingError:
    return TrainingError(
        f"the loss is not finite in epoch {state.epoch + 1}, {state.round / rounds:.0%} of it "
        "done: expected a lower learning_rate"
    )


def cut(ends: Int64, threads: int) -> list[Int64]:
    """For each thread the sentences that its rounds begin and end with, int64[rounds + 1]: of
    about as many tokens each, and of ROUND at most where sentences allow. The number of rounds is
    a matter of the number of tokens alone."""
    tokens = int(ends[-1]) if len(ends) else 0
    rounds = max(1, -(-tokens // (ROUND * threads)))
    marks = np.linspace(0, tokens, rounds * threads + 1)
    cuts = np.searchsorted(ends, marks[1:-1], "left")
    cuts = np.concatenate([[0], cuts, [len(ends)]])
    return [cuts[t * rounds : (t + 1) * rounds + 1] for t in range(threads)]


class _Clock:
    """Tells how fast training goes, and when it is time for a checkpoint."""

    def __init__(self, state: State, rounds: int, total: int, epochs: int) -> None:
        self._rounds, self._total, self._epochs = rounds, total, epochs
        self._began = self._saved = time.perf_counter()
        self._first = state.epoch * rounds + state.round
        self._words = 0.0
        self._recent: list[npt.NDArray[np.float64]] = []

    def due(self, seconds: float) -> bool:
        """Whether so many seconds have gone since this was last true."""
        now = time.perf_counter()
        if now - self._saved < seconds:
            return False
        self._saved = now
        return True

    def progress(self, state: State, seen: Float64) -> Progress:
        self._words += seen[0]
        self._recent.append(seen)
        while sum(s[0] for s in self._recent[1:]) > _RECENT:
            del self._recent[0]
        sums = np.sum(self._recent, axis=0)
        spent = max(time.perf_counter() - self._began, 1e-9)
        done = state.epoch * self._rounds + state.round
        return Progress(
            (done - 1) // self._rounds + 1, self._epochs, done / self._total,
            sums[2] / sums[3] if sums[3] else float("nan"), self._words / spent,
            spent / max(done - self._first, 1) * (self._total - done),
        )  # fmt: skip
