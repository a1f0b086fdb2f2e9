"""Batches of examples, and windows of a stream.

bucketed = BucketedBatches(train.offsets, batch_size=32, seed=1)
for rows in bucketed.epoch(0):
    batch = take(train, rows)                  # values, offsets, targets, characters
for rows in SortedBatches(valid.offsets, batch_size=256):
    batch = take(valid, rows)
    results[batch.rows] = …                    # back in the examples' order
for window in StreamBatches(stream, batch_size=20, bptt=35):
    window.inputs, window.targets              # int32[T, B]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastseq.errors import DataError
from fastseq.models.data.characters import WordCharacters, distinct_words
from fastseq.models.data.examples import Examples
from fastseq.models.data.ragged import offsets_of, places
from fastseq.settings import seed_number, whole
from fastseq.types import Int32, Int64

POOL = 64  # batches whose rows are sorted by length together


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B of the examples, ragged.

    values      int32[N]      ids, sequence after sequence
    offsets     int64[B + 1]  sequence b is values[offsets[b]:offsets[b + 1]]
    rows        int64[B]      which of the examples they are
    places      int64[N]      where each value lies among the examples' values
    targets     int32[B] labels, or int32[N] tags; None without
    characters  of the distinct words; None without character features
    """

    values: Int32
    offsets: Int64
    rows: Int64
    places: Int64
    targets: Int32 | None = None
    characters: WordCharacters | None = None

    def __len__(self) -> int:
        return len(self.rows)


def take(examples: Examples, rows: Int64) -> Batch:
    """The batch of the examples `rows` (int64[B]), in that order."""
    starts = examples.offsets[rows]
    lengths = examples.offsets[rows + 1] - starts
    at = places(starts, lengths)
    targets = examples.targets
    if targets is not None:
        targets = targets[rows] if len(targets) == len(examples) else targets[at]
    characters: WordCharacters | None = None
    if examples.spellings is not None and examples.characters is not None:
        characters = distinct_words(examples.spellings[at], examples.characters)
    return Batch(examples.values[at], offsets_of(lengths), rows, at, targets, characters)


@dataclass(frozen=True, slots=True, eq=False)
class BucketedBatches:
    """Shuffled batches of rows of similar length.

    An epoch shuffles the rows, sorts each pool of `pool` batches by length, cuts the pools into
    batches and shuffles those. Every row comes once in an epoch. The order depends on the seed
    and the epoch alone.

    offsets     int64[D + 1]  of the examples
    batch_size  rows of a batch; the last one of the last pool may have fewer
    seed        0 or more
    max_tokens  units of a batch, a single row excepted; None for no such limit
    pool        batches in a pool; 1 gives no bucketing
    rows        int64[n]: the examples to use; None for all

    Raises SettingsError for a number out of its range.
    """

    offsets: Int64
    batch_size: int
    seed: int = 0
    max_tokens: int | None = None
    pool: int = POOL
    rows: Int64 | None = None

    def __post_init__(self) -> None:
        _at_least_one(batch_size=self.batch_size, max_tokens=self.max_tokens, pool=self.pool)
        seed_number(self.seed)

    def epoch(self, number: int, start: int = 0) -> Iterator[Int64]:
        """The batches of an epoch, each as int64[b] rows, from batch `start` on.

        A run that was cut off goes on with the same batches as if it had not been.
        """
        order, cuts, turns = self._plan(number)
        for at in turns[start:].tolist():
            yield order[cuts[at] : cuts[at + 1]]

    def count(self, number: int = 0) -> int:
        """How many batches an epoch has; with max_tokens each epoch may differ."""
        if self.max_tokens is None:
            rows = len(self.offsets) - 1 if self.rows is None else len(self.rows)
            return -(-rows // self.batch_size)
        return len(self._plan(number)[2])

    def _plan(self, number: int) -> tuple[Int64, Int64, Int64]:
        """The rows in order of their batches, where those end, and the batches' turns."""
        generator = np.random.Generator(np.random.PCG64([self.seed, number]))
        rows = np.arange(len(self.offsets) - 1) if self.rows is None else self.rows
        order: Int64 = generator.permutation(rows)
        lengths = self.offsets[order + 1] - self.offsets[order]
        size = self.pool * self.batch_size
        ends: list[Int64] = [np.zeros(1, np.int64)]
        for start in range(0, len(order), size):
            pool = slice(start, start + size)
            if self.pool > 1:
                by_length = np.argsort(lengths[pool], kind="stable")
                order[pool] = order[pool][by_length]
                lengths[pool] = lengths[pool][by_length]
            ends.append(start + _cuts(lengths[pool], self.batch_size, self.max_tokens))
        cuts = np.concatenate(ends)
        return order, cuts, generator.permutation(len(cuts) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class SortedBatches:
    """Batches for evaluation and prediction: every row once, the longest first.

    offsets     int64[D + 1]  of the examples
    batch_size  rows of a batch at most
    max_tokens  units of a batch, a single row excepted; None for no such limit
    rows        int64[n]: the examples to use; None for all

    Raises SettingsError for a number below 1.
    """

    offsets: Int64
    batch_size: int
    max_tokens: int | None = None
    rows: Int64 | None = None

    def __post_init__(self) -> None:
        _at_least_one(batch_size=self.batch_size, max_tokens=self.max_tokens)

    def __iter__(self) -> Iterator[Int64]:
        rows = np.arange(len(self.offsets) - 1) if self.rows is None else self.rows
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        by_length = np.argsort(-lengths, kind="stable")
        order = rows[by_length]
        start = 0
        for stop in _cuts(lengths[by_length], self.batch_size, self.max_tokens).tolist():
            yield order[start:stop]
            start = stop


@dataclass(frozen=True, slots=True, eq=False)
class StreamWindow:
    """Some consecutive steps of every stream.

    inputs   int32[T, B], C-contiguous
    targets  int32[T, B]: the unit after each input
    step     the number of the first step; the carried state starts anew at 0
    """

    inputs: Int32
    targets: Int32
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class StreamBatches:
    """One stream cut into `batch_size` parallel ones, read `bptt` steps at a time.

    Stream b is values[b * n:(b + 1) * n], n = N // batch_size; what is left over at the end is
    not read. The last window may be shorter. Which unit follows a stream's last is not asked.

    values      int32[N]
    batch_size  streams
    bptt        steps of a window, through which gradients flow

    Raises
    ------
    SettingsError
        batch_size or bptt below 1.
    DataError
        Fewer than two units for each stream.
    """

    values: Int32
    batch_size: int
    bptt: int

    def __post_init__(self) -> None:
        _at_least_one(batch_size=self.batch_size, bptt=self.bptt)
        if self.steps < 1:
            raise DataError(
                f"a stream of {len(self.values):,} units, expected at least "
                f"{2 * self.batch_size:,} for {self.batch_size} streams at once: lower the batch "
                "size, or give more text"
            )

    @property
    def steps(self) -> int:
        """Targets in each stream."""
        return len(self.values) // self.batch_size - 1

    @property
    def targets(self) -> int:
        """Targets in all."""
        return self.steps * self.batch_size

    def __len__(self) -> int:
        return -(-self.steps // self.bptt)

    def __iter__(self) -> Iterator[StreamWindow]:
        return self.windows()

    def windows(self, start: int = 0) -> Iterator[StreamWindow]:
        """The windows in order, from number `start` on."""
        length = self.steps + 1
        streams = self.values[: length * self.batch_size].reshape(self.batch_size, length)
        for step in range(start * self.bptt, self.steps, self.bptt):
            stop = min(step + self.bptt, self.steps)
            yield StreamWindow(
                np.ascontiguousarray(streams[:, step:stop].T),
                np.ascontiguousarray(streams[:, step + 1 : stop + 1].T),
                step,
            )


def _cuts(lengths: Int64, batch_size: int, max_tokens: int | None) -> Int64:
    """Where batches of consecutive rows end: at most so many rows, and so many units or one row."""
    n = len(lengths)
    if max_tokens is None:
        return np.append(np.arange(batch_size, n, batch_size), n) if n else np.zeros(0, np.int64)
    total = np.cumsum(lengths)
    ends: list[int] = []
    start, before = 0, 0
    while start < n:
        stop = int(np.searchsorted(total, before + max_tokens, "right"))
        start = min(max(stop, start + 1), start + batch_size, n)
        before = int(total[start - 1])
        ends.append(start)
    return np.array(ends, np.int64)


def _at_least_one(**settings: int | None) -> None:
    for name, value in settings.items():
        if value is not None:
            whole(name, value, 1)
