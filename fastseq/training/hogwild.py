"""Lock-free steps on threads, by which word vectors and FastText's classifier are trained.

A step is a round: each thread learns from the next piece of its own share of the data and writes
to the shared arrays without locks; updates touch few rows, and the few lost ones cost no quality
(Recht et al. 2011, "Hogwild!"). The learning rate falls with the rounds, and the random numbers of
a piece depend on the seed, the round and the thread alone; so on one thread a training repeats bit
for bit, resumed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np

from fastseq.threads import Team
from fastseq.training.checkpoint import Arrays, State
from fastseq.training.loop import DivergedError, LoopSettings, Steps, ratio
from fastseq.types import Float32, Float64, Int32, Int64

ROUND = 1 << 19  # tokens of a thread's piece, about


class Lessons(Protocol):
    """The data of an epoch and the arrays to train.

    rounds  of an epoch
    arrays  float32 by name: all that training changes
    row     (P, n): a row of an array is P vectors of n numbers, each padded to the width of SIMD
            vectors, so that checkpoints of other CPUs have rows of another length
    """

    rounds: int
    arrays: dict[str, Float32]
    row: tuple[int, int]

    def learn(
        self, part: int, epoch: int, round: int, rates: tuple[float, float], seen: Float64
    ) -> None:  # fmt: skip
        """Learn from the piece of the thread `part` in a round.

        rates  learning rate at its first token and after its last
        seen   float64[4], added to: tokens read, words kept, loss, number of its terms
        """

    def loss(self) -> float:
        """The mean loss of some of the data, without learning, for an epoch whose loss was not
        measured. NaN if there is none."""


@dataclass(frozen=True)
class HogwildSettings(LoopSettings):
    """Settings of lock-free training.

    rate     the learning rate as a function of rounds done and rounds in all
    columns  sums of an epoch for the history: "words", "words_kept"
    """

    rate: Callable[[int, int], float] = lambda done, total: 0.0
    columns: tuple[str, ...] = ("words",)


class HogwildSteps(Steps):
    """Rounds of threads that share the arrays of `lessons`.

    measure  returns the measures of a validation; None without held-out data
    finite   arrays checked after each round: a number that is not finite ends training
    """

    settings: HogwildSettings

    def __init__(
        self,
        lessons: Lessons,
        settings: HogwildSettings,
        team: Team,
        measure: Callable[[], dict[str, float]] | None = None,
        finite: Sequence[Float32] = (),
    ) -> None:
        self.settings = settings
        self.learning_rate = settings.rate(0, 1)
        self._lessons, self._team, self._measure = lessons, team, measure
        self._finite = finite
        self._total = settings.epochs * lessons.rounds

    def per_epoch(self, epoch: int) -> int | None:
        return self._lessons.rounds

    def pieces(self, epoch: int, skip: int) -> Iterator[int]:
        return iter(range(skip, self._lessons.rounds))

    def update(self, piece: int, state: State) -> None:
        lessons, rate = self._lessons, self.settings.rate
        done = state.epoch * lessons.rounds + piece
        rates = rate(done, self._total), rate(done + 1, self._total)
        seen = np.zeros((self._team.threads, 8))  # a cache line each

        def work(part: int) -> None:
            lessons.learn(part, state.epoch, piece, rates, seen[part, :4])

        self._team.run(work, self._team.threads)
        words, kept, loss, terms = seen[:, :4].sum(axis=0).tolist()
        state.units += int(words)
        state.units_kept += int(kept)
        state.loss_sum += loss
        state.weight_sum += terms
        if not np.isfinite(loss) or not all(np.isfinite(array).all() for array in self._finite):
            raise DivergedError("loss", loss if not np.isfinite(loss) else np.nan)
        if piece == lessons.rounds - 1 and not state.weight_sum:
            loss = lessons.loss()
            if np.isfinite(loss):
                state.loss_sum, state.weight_sum = loss, 1.0

    def validate(self) -> dict[str, float] | None:
        return None if self._measure is None else self._measure()

    def row(self, state: State, seconds: float) -> dict[str, float]:
        sums = {"words": state.units, "words_kept": state.units_kept}
        return {
            "epoch": state.epoch + 1,
            "train_loss": ratio(state.loss_sum, state.weight_sum),
            **{name: float(sums[name]) for name in self.settings.columns},
            "seconds": state.seconds,
            "words_per_second": state.units / max(state.seconds, 1e-9),
        }

    def described(self) -> dict[str, Any]:
        return {"epochs": self.settings.epochs}

    def arrays(self, state: State) -> Arrays:
        return dict(self._lessons.arrays)

    def restore(self, state: State, arrays: Arrays, carried: Arrays) -> None:
        parts, numbers = self._lessons.row
        for name, array in self._lessons.arrays.items():
            saved = arrays[name]
            rows, length = saved.shape
            if rows != len(array) or length % parts or length // parts < numbers:
                raise ValueError(f"{name} is {saved.shape}")
            of_vectors = (array.reshape(rows, parts, -1), saved.reshape(rows, parts, -1))
            target, source = (each[:, :, :numbers] for each in of_vectors)
            np.copyto(target, source)


class ShuffledItems:
    """Items shuffled in every epoch and divided among threads and rounds by their sizes.

    sizes  tokens of each
    key    the seed of an epoch's order
    most   as of `cut`
    """

    def __init__(
        self, sizes: Int64 | Int32, threads: int, key: Callable[[int], int], most: int | None = None
    ) -> None:
        self._sizes, self._threads, self._key, self._most = sizes, threads, key, most
        self.rounds = len(cut(np.cumsum(sizes, dtype=np.int64), threads, most)[0]) - 1
        self._lock = Lock()
        self._plan: tuple[int, tuple[Int64, Int64, list[Int64]]] | None = None

    def planned(self, epoch: int) -> tuple[Int64, Int64, list[Int64]]:
        """The items in an epoch's order, their ends, and the rounds of each thread, as `cut`."""
        with self._lock:
            if self._plan is None or self._plan[0] != epoch:
                order = np.random.default_rng(self._key(epoch)).permutation(len(self._sizes))
                ends = np.cumsum(self._sizes[order], dtype=np.int64)
                self._plan = epoch, (order, ends, cut(ends, self._threads, self._most))
            return self._plan[1]


def cut(ends: Int64, threads: int, most: int | None = None) -> list[Int64]:
    """The items at which the rounds of each thread begin and end, int64[rounds + 1]: rounds of
    about equal numbers of tokens, at most `most` (ROUND) if items allow; `ends` are the ends of the
    items among all tokens. The number of rounds depends on the number of tokens alone."""
    tokens = int(ends[-1]) if len(ends) else 0
    rounds = max(1, -(-tokens // ((most or ROUND) * threads)))
    marks = np.linspace(0, tokens, rounds * threads + 1)
    cuts = np.searchsorted(ends, marks[1:-1], "left")
    cuts = np.concatenate([[0], cuts, [len(ends)]])
    return [cuts[t * rounds : (t + 1) * rounds + 1] for t in range(threads)]
