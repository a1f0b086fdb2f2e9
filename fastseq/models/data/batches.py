"""Batches of examples, and windows of a stream.

for rows in BucketedBatches(train.offsets, batch_size=32, seed=1).epoch(0):
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
from typing import NamedTuple

import numpy as np

from fastseq.errors import DataError
from fastseq.models.data.examples import Examples
from fastseq.models.data.vocabulary import WordCharacters, distinct_words
from fastseq.types import Float32, Int32, Int64, offsets_of, ranges

POOL = 64  # batches whose rows are sorted by length together


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B of the examples, ragged.

    values      int32[N]      ids, sequence after sequence
    offsets     int64[B + 1]  sequence b is values[offsets[b]:offsets[b + 1]]
    rows        int64[B]      their numbers among the examples
    places      int64[N]      positions of the values among the examples' values; with words
                int64[W], those of the words among the examples' words
    targets     int32[B] labels, int32[N] tags, or int32[W] tags of words; None without
    characters  of the distinct words; None without character features
    seconds, scores  int64[B], float32[B]: as of Examples
    spans       int32[B, 2]: as of Examples
    words       int64[W]: the value that each word begins with; None without words
    """

    values: Int32
    offsets: Int64
    rows: Int64
    places: Int64
    targets: Int32 | None = None
    characters: WordCharacters | None = None
    seconds: Int64 | None = None
    scores: Float32 | None = None
    words: Int64 | None = None
    spans: Int32 | None = None

    def __len__(self) -> int:
        return len(self.rows)


def take(examples: Examples, rows: Int64) -> Batch:
    """The batch of the examples `rows` (int64[B]), in that order."""
    starts = examples.offsets[rows]
    lengths = examples.offsets[rows + 1] - starts
    at = ranges(starts, lengths)
    targets, places = examples.targets, at
    words: Int64 | None = None
    offsets = offsets_of(lengths)
    if examples.words is not None and examples.word_offsets is not None:
        first, counts = examples.word_offsets[rows], np.diff(examples.word_offsets)[rows]
        places = ranges(first, counts)
        words = examples.words[places] - np.repeat(starts - offsets[:-1], counts)
        targets = None if targets is None else targets[places]
    elif targets is not None:
        targets = targets[rows] if len(targets) == len(examples) else targets[at]
    characters: WordCharacters | None = None
    if examples.spellings is not None and examples.characters is not None:
        characters = distinct_words(examples.spellings[at], examples.characters)
    seconds, scores = examples.seconds, examples.scores
    return Batch(
        examples.values[at],
        offsets,
        rows,
        places,
        targets,
        characters,
        None if seconds is None else seconds[rows if len(seconds) == len(examples) else places],
        None if scores is None else scores[rows],
        words,
        None if examples.spans is None or not len(examples.spans) else examples.spans[rows],
    )


@dataclass(frozen=True, slots=True, eq=False)
class BucketedBatches:
    """Shuffled batches of rows of similar length: an epoch shuffles the rows, sorts each pool of
    POOL batches by length, cuts the pools into batches and shuffles those. The order depends on the
    seed and the epoch alone. `offsets` int64[D + 1] are those of the examples."""

    offsets: Int64
    batch_size: int
    seed: int = 0

    def epoch(self, number: int) -> Iterator[Int64]:
        """The batches of an epoch, each as int64[b] rows."""
        generator = np.random.Generator(np.random.PCG64([self.seed, number]))
        order: Int64 = generator.permutation(np.arange(len(self.offsets) - 1))
        lengths = self.offsets[order + 1] - self.offsets[order]
        size = POOL * self.batch_size
        for start in range(0, len(order), size):
            pool = slice(start, start + size)
            order[pool] = order[pool][np.argsort(lengths[pool], kind="stable")]
        for batch in generator.permutation(self.count()).tolist():
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def count(self) -> int:
        """The number of batches of an epoch."""
        return -(-(len(self.offsets) - 1) // self.batch_size)


@dataclass(frozen=True, slots=True, eq=False)
class SortedBatches:
    """Batches for evaluation and prediction: every row once, the longest first.

    offsets     int64[D + 1]  of the examples
    batch_size  maximum rows of a batch
    max_tokens  maximum units of a batch, a single row excepted
    """

    offsets: Int64
    batch_size: int
    max_tokens: int

    def __iter__(self) -> Iterator[Int64]:
        lengths = np.diff(self.offsets)
        order = np.argsort(-lengths, kind="stable")
        total, n = np.cumsum(lengths[order]), len(order)
        start, before = 0, 0
        while start < n:
            most = int(np.searchsorted(total, before + self.max_tokens, "right"))
            stop = min(max(most, start + 1), start + self.batch_size, n)
            yield order[start:stop]
            start, before = stop, int(total[stop - 1])


class StreamWindow(NamedTuple):
    """Some consecutive steps of every stream.

    inputs   int32[T, B], C-contiguous
    targets  int32[T, B]: the unit after each input
    step     the number of the first step; at 0 the carried state is reset
    """

    inputs: Int32
    targets: Int32
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class StreamBatches:
    """One stream cut into `batch_size` parallel ones, read `bptt` steps at a time.

    Stream b is values[b * n:(b + 1) * n], n = N // batch_size; the rest is not read. The last
    window may be shorter. The last unit of a stream has no target.

    values      int32[N]
    batch_size  streams
    bptt        steps of a window, through which gradients flow

    Raises DataError for fewer than two units per stream.
    """

    values: Int32
    batch_size: int
    bptt: int

    def __post_init__(self) -> None:
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

    def __len__(self) -> int:
        return -(-self.steps // self.bptt)

    def __iter__(self) -> Iterator[StreamWindow]:
        length = self.steps + 1
        streams = self.values[: length * self.batch_size].reshape(self.batch_size, length)
        for step in range(0, self.steps, self.bptt):
            stop = min(step + self.bptt, self.steps)
            yield StreamWindow(
                np.ascontiguousarray(streams[:, step:stop].T),
                np.ascontiguousarray(streams[:, step + 1 : stop + 1].T),
                step,
            )
