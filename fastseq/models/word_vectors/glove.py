"""GloVe: word vectors whose products approximate the logarithms of co-occurrence counts.

    model = GloVe(dimensions=100, window=10, epochs=25)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("london", k=5)

Source: Pennington, Socher & Manning 2014, "GloVe: Global Vectors for Word Representation". What the
paper leaves open is as in its authors' program.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.estimator import Choice, Flag, Real, Whole, parameter
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors import glove as kernels
from fastseq.models.word_vectors.base import FittedVectors, VectorModel
from fastseq.models.word_vectors.sampling import occurrences, runs_of
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.seeds import mixed_key
from fastseq.settings import parse_size
from fastseq.store.files import MEMORY, SpillArray
from fastseq.threads import in_order
from fastseq.training.hogwild import ShuffledItems
from fastseq.training.loop import ratio
from fastseq.types import Float32, Float64, Int32, Int64, UInt64

COMBINE = ("sum", "word")
# Approximate bytes of the rows of a tile: rows and columns fit a core's own cache. Larger tiles mix
# the pairs better, but an epoch with tiles of 4,096 words takes twice the time of one with 256.
TILE = 1 << 19
_FIRST = np.float32(1.0)  # initial sums of squares
WINDOW = 1 << kernels.WINDOW_BITS  # windows are smaller than this
LEAST = 1 << 18  # positions gathered at a time, at least: each time reads the text
_ENTRIES = 1 << 20  # capacity for the entries of a job, approximately; at least one row


class GloVe(VectorModel):
    """Word vectors whose products approximate the logarithms of co-occurrence counts.

    Co-occurrences are counted first, in one pass over the corpus; training then visits every such
    pair once per epoch, whatever the corpus's length.

    Attributes
    ----------
    vectors_ : WordVectors; of `statistics`, "cooccurrences" is the number of pairs
    history_ : {name: a value for each epoch}; a loss is a pair's, words are the corpus's
    """

    kind: ClassVar[str] = "glove"
    window: int = parameter(
        default=10, check=Whole(1, WINDOW), help="Context words on each side.",
        notes="All of them, to the sentence's ends at most.",
    )  # fmt: skip
    symmetric: bool = parameter(
        default=True, check=Flag(), help="Count context on both sides, or on the left alone.",
        flag="symmetric/left",
    )  # fmt: skip
    distance_weighting: bool = parameter(
        default=True, check=Flag(), help="Weight a context word at distance k by 1 / k."
    )
    x_max: float = parameter(
        default=10.0, check=Real(above=0, most=1e12), section="Training",
        help="Number of co-occurrences above which a pair has full weight.",
        notes="The paper's 100 is for billions of words; on 25 million, 10 answers far more "
        "analogies.",
    )  # fmt: skip
    alpha: float = parameter(
        default=0.75, check=Real(least=0, most=4), section="Training",
        help="Exponent of the weight of rarer pairs, (x / x_max)^alpha.",
    )  # fmt: skip
    epochs: int = 25
    learning_rate: float | None = parameter(
        default=0.05, check=Real(least=0, most=10), section="Training",
        help="Learning rate of AdaGrad.", none="0.05",
    )  # fmt: skip
    combine: str = parameter(
        default="sum", check=Choice(COMBINE),
        help="Vector of a word: the sum of its word and context vectors, or the word vector.",
    )  # fmt: skip

    @property
    def first_rate(self) -> float:
        """The learning rate, which does not change."""
        return 0.05 if self.learning_rate is None else self.learning_rate

    def _objective(self, sentences: Sentences, threads: int) -> GloVeObjective:
        return GloVeObjective(self, sentences, threads)


class GloVeObjective:
    """The training of GloVe: "table" float32[V, 4 W], as in kernels/vectors/glove.py, and the
    co-occurrences of the corpus in tiles."""

    def __init__(self, model: GloVe, sentences: Sentences, threads: int) -> None:
        V, d = len(sentences.words), model.dimensions
        self._model, self._threads, self._tokens = model, threads, len(sentences.tokens)
        self._width = W = -(-(d + 2) // LANES) * LANES
        self.row = 4, d + 2
        self.arrays: dict[str, Float32] = {"table": aligned_zeros(4 * V * W).reshape(V, 4 * W)}
        draw = np.random.default_rng(model.seed).random((V, 2, d + 1), np.float32)
        draw -= np.float32(0.5)
        draw /= np.float32(d)
        table = self._table
        table[:, :, 1] = _FIRST
        table[:, :, 0, :d] = draw[:, :, :d]
        for half, bias, one in ((0, d, d + 1), (1, d + 1, d)):
            table[:, half, 0, bias] = draw[:, half, d]
            table[:, half, 0, one] = 1.0
            table[:, half, 1, one] = kernels.FROZEN
        self._words = V
        matrix = self._count(sentences.tokens, sentences.ends)
        self.statistics = {"cooccurrences": len(matrix)}
        self.tiles = self._tiles(matrix)
        self._held_out: tuple[Int32, Tiles] | None = None
        sizes = np.diff(self.tiles.starts)
        self._spaces = [self._space(self.tiles) for _ in range(threads)]
        self.order = ShuffledItems(sizes, threads, partial(mixed_key, model.seed))
        self.rounds = self.order.rounds

    @property
    def _table(self) -> Float32:
        """The table as [V, half of words or contexts, numbers or squares, W]."""
        table = self.arrays["table"]
        return table.reshape(len(table), 2, 2, self._width)

    def _count(self, tokens: Int32, ends: Int64) -> Cooccurrences:
        model = self._model
        return count_cooccurrences(
            tokens, ends, self._words, model.window, symmetric=bool(model.symmetric),
            weighted=bool(model.distance_weighting), threads=self._threads,
            memory=parse_size(model.memory),
        )  # fmt: skip

    def _tiles(self, matrix: Cooccurrences) -> Tiles:
        block = 1 << max(TILE // (16 * (self._model.dimensions + 2)), 1).bit_length() - 1
        return tiles_of(matrix, min(max(block, 16), 1 << 12), parse_size(self._model.memory))

    @staticmethod
    def _space(tiles: Tiles) -> tuple[Int32, Float32]:
        """Working memory for the largest tile."""
        largest = int(np.diff(tiles.starts).max(initial=0))
        return np.empty(largest, np.int32), aligned_zeros(largest + LANES)

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner defines it: "vectors"; "output", the context vectors; "words", the word
        vectors, if the vectors are sums; "biases" float32[V, 2], of the word and the context."""
        d, table = self._model.dimensions, self._table
        words, contexts = (np.ascontiguousarray(table[:, half, 0, :d]) for half in (0, 1))
        biases = np.stack([table[:, 0, 0, d], table[:, 1, 0, d + 1]], axis=1)
        found = {"vectors": words, "output": contexts, "words": words, "biases": biases}
        if self._model.combine == "word":
            del found["words"]
        else:
            found["vectors"] = words + contexts
        return found

    def compile(self) -> None:
        self._train(0, self.tiles, np.empty(0, np.int64), 0.0, 0, np.zeros(2))

    def continue_from(self, start: FittedVectors) -> None:
        """As Learner defines it. Vectors that are not GloVe's become both word and context vectors,
        half of them if the model's vectors are sums. Sums of squares start anew, so that earlier
        words learn from the new text as new words do."""
        d, table, arrays = self._model.dimensions, self._table, start.arrays
        vectors, V = arrays["vectors"], len(arrays["vectors"])
        share = np.float32(0.5 if self._model.combine == "sum" else 1.0)
        words = contexts = vectors * share
        biases = arrays.get("biases")
        if biases is not None and biases.shape == (V, 2) and "output" in arrays:
            words, contexts = arrays.get("words", vectors), arrays["output"]
            table[:V, 0, 0, d], table[:V, 1, 0, d + 1] = biases[:, 0], biases[:, 1]
        table[:V, 0, 0, :d], table[:V, 1, 0, :d] = words, contexts

    def learn(
        self, part: int, epoch: int, round: int, rates: tuple[float, float], seen: Float64
    ) -> None:
        """As Lessons defines it: every epoch all tiles, in an order that depends only on the seed
        and the epoch. Words count as seen in proportion to the pairs."""
        order, ends, parts = self.order.planned(epoch)
        first, last = parts[part][round], parts[part][round + 1]
        if first == last:
            return
        n, key = int(ends[-1]), mixed_key(self._model.seed, epoch)
        self._train(part, self.tiles, order[first:last], rates[0], key, seen[2:])
        start, end = int(ends[first - 1]) if first else 0, int(ends[last - 1])
        seen[:2] += self._tokens * end // n - self._tokens * start // n

    def _train(
        self, part: int, tiles: Tiles, order: Int64, rate: float, key: int, seen: Float64
    ) -> None:  # fmt: skip
        """Train on some tiles in the working memory of the thread `part`; adds the loss and the
        number of products to `seen`, float64[2]."""
        model = self._model
        kernels.train_tiles(
            self.arrays["table"], order, tiles.starts, tiles.corners, tiles.cells, tiles.logs,
            tiles.block, math.log(model.x_max), float(model.alpha), tiles.symmetric, rate,
            np.array([key, 0], np.uint64), *self._spaces[part], seen,
        )  # fmt: skip

    def loss(self) -> float:
        """As Lessons defines it: training measures the loss of every pair."""
        return math.nan

    def measure(self, tokens: Int32, ends: Int64) -> float:
        """The mean loss of a pair, with learning rate 0."""
        if self._held_out is None or self._held_out[0] is not tokens:
            self._held_out = tokens, self._tiles(self._count(tokens, ends))
            space = self._space(self._held_out[1])
            if len(space[0]) > len(self._spaces[0][0]):
                self._spaces[0] = space
        tiles, seen = self._held_out[1], np.zeros(2)
        self._train(0, tiles, np.arange(len(tiles.corners)), 0.0, self._model.seed, seen)
        return ratio(float(seen[0]), float(seen[1]))


@dataclass(frozen=True, slots=True, eq=False)
class Cooccurrences:
    """A sparse matrix of V words and V words of their context, by rows."""

    offsets: Int64  # [V + 1]: row i has the entries offsets[i]:offsets[i + 1]
    columns: Int32  # ascending in a row
    values: Float32  # above zero
    symmetric: bool  # words on both sides are counted: the entries are the upper half

    def __len__(self) -> int:
        """How many entries the whole matrix has, those below the diagonal among them."""
        n = len(self.columns)
        return 2 * n - int((self.rows() == self.columns).sum()) if self.symmetric else n

    def rows(self) -> Int32:
        """int32[n]: the row of each entry."""
        V = len(self.offsets) - 1
        return np.repeat(np.arange(V, dtype=np.int32), np.diff(self.offsets))


def count_cooccurrences(
    tokens: Int32,
    ends: Int64,
    words: int,
    window: int,
    *,
    symmetric: bool = True,
    weighted: bool = True,
    threads: int = 1,
    memory: int = MEMORY,
) -> Cooccurrences:
    """Count the words in each word's window; a window ends with the sentence.

    tokens : int32[n], n < 2**40, each below `words`
    ends : int64[S], the end of each sentence
    window : words on a side, below WINDOW
    symmetric : on both sides, else on the left: entry (i, j) is of word i with j before it. A word
        next to itself counts twice, from either side
    weighted : by 1 / distance, else every word counts 1
    memory : approximate bytes to hold; half of it for the positions of words (at least LEAST), half
        for the matrix, which goes to temporary files beyond

    Raises FastseqError where a temporary file cannot be written.
    """
    if len(tokens) >> kernels.PLACE_BITS:
        raise ValueError(f"{len(tokens):,} tokens, expected fewer than 2**{kernels.PLACE_BITS}")
    weights = np.ones(window + 1)
    if weighted:
        weights[1:] /= np.arange(1, window + 1)
    counts = occurrences(tokens, words)
    capacity = np.minimum(words - np.arange(words) * symmetric, (1 + symmetric) * window * counts)
    columns, values = SpillArray(np.int32, memory // 4), SpillArray(np.float32, memory // 4)
    offsets = np.zeros(words + 1, np.int64)
    idle: list[tuple[Float64, UInt64]] = []  # working memory that no thread is using

    def count(job: tuple[int, UInt64, Int64, int]) -> tuple[Int64, Int32, Float32]:
        """The number of entries of each row, and their columns and values, from the first row's
        word, the gathered positions, the start of each row's, and the capacity for entries."""
        first, places, starts, size = job
        try:
            sums, marks = idle.pop()
        except IndexError:
            sums, marks = np.zeros(words), np.zeros(-(-words // 64), np.uint64)
        sizes = np.zeros(len(starts) - 1, np.int64)
        columns, values = np.empty(size, np.int32), np.empty(size, np.float32)
        n = kernels.count_rows(
            columns, values, sizes, sums, marks, places, starts, tokens, weights, first, symmetric
        )
        idle.append((sums, marks))
        return sizes, columns[:n].copy(), values[:n].copy()

    with ThreadPoolExecutor(threads, "fastseq-count") as pool:
        for first, last in runs_of(counts, max(LEAST, memory // 16)):
            starts = np.concatenate([[0], np.cumsum(counts[first:last])])
            places = np.empty(int(starts[-1]), np.uint64)
            kernels.gather_places(places, starts[:-1].copy(), tokens, ends, window, first)
            jobs = (
                (first + a, places, starts[a : b + 1], int(capacity[first + a : first + b].sum()))
                for a, b in runs_of(capacity[first:last], _ENTRIES)
            )
            for job, (sizes, *found) in in_order(pool, count, jobs, threads + 1):
                offsets[job[0] + 1 : job[0] + 1 + len(sizes)] = sizes
                columns.append(found[0])
                values.append(found[1])
    np.cumsum(offsets, out=offsets)
    return Cooccurrences(offsets, columns.finish(), values.finish(), symmetric)


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """A matrix of co-occurrences in T squares of `block` rows and columns, without empty ones."""

    block: int
    symmetric: bool
    starts: Int64  # [T + 1]: tile t has the entries starts[t]:starts[t + 1]
    corners: Int64  # [T, 2] its first row and first column
    cells: Int32  # row times block plus column, within the tile
    logs: Float32  # the logarithm of each entry


def tiles_of(matrix: Cooccurrences, block: int, memory: int = MEMORY) -> Tiles:
    """The entries by tile, in temporary files beyond `memory` bytes.

    Raises FastseqError where such a file cannot be written.
    """
    V = len(matrix.offsets) - 1
    across = -(-V // block)
    cells, logs = SpillArray(np.int32, memory // 2), SpillArray(np.float32, memory // 2)
    corners, sizes = [], []
    for first in range(0, V, block):
        starts = matrix.offsets[first : first + block + 1]
        a, b = int(starts[0]), int(starts[-1])
        some = np.empty(b - a, np.int32), np.empty(b - a, np.float32)
        found = np.zeros(across, np.int64)
        kernels.sort_tiles(*some, found, matrix.columns[a:b], matrix.values[a:b], starts, block)
        cells.append(some[0])
        logs.append(some[1])
        full = np.flatnonzero(found)
        sizes.append(found[full])
        corners.append(np.stack([np.full(len(full), first), full * block], axis=1))
    return Tiles(
        block, matrix.symmetric,
        np.concatenate([[0], *sizes]).cumsum(), np.ascontiguousarray(np.concatenate(corners)),
        cells.finish(), logs.finish(),
    )  # fmt: skip
