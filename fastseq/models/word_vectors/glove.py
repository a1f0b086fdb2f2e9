"""GloVe: vectors of words whose products are the logarithms of how often words meet.

    model = GloVe(dimensions=100, window=10, epochs=25)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("london", k=5)

Source: Pennington, Socher & Manning 2014, "GloVe: Global Vectors for Word Representation". What the
paper leaves open is as in its authors' program.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.estimator import Choice, Flag, Real, Whole, parameter
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors.glove import STILL, train_tiles
from fastseq.models.word_vectors.base import FittedVectors, Start, VectorModel
from fastseq.models.word_vectors.cooccurrences import (
    WINDOW,
    Cooccurrences,
    Tiles,
    count_cooccurrences,
    tiles_of,
)
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.seeds import mixed_key
from fastseq.settings import parse_size
from fastseq.training.history import History
from fastseq.training.hogwild import ShuffledItems
from fastseq.training.loop import ratio
from fastseq.types import Float32, Float64, Int32, Int64

COMBINE = ("sum", "word")
# Bytes of the rows of a tile, about: rows and columns fit a core's own cache. Larger tiles mix the
# pairs better, but an epoch of tiles of 4,096 words takes twice the time of one of 256.
TILE = 1 << 19
_FIRST = np.float32(1.0)  # sums of squares at the beginning


class GloVe(VectorModel):
    """Vectors of words, of which the products are the logarithms of how often words meet.

    How often words stand near each other is counted first, in one pass over the corpus; training
    then visits every such pair once an epoch, whatever the corpus's length.

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

    def _objective(self, sentences: Sentences, parts: int) -> GloVeObjective:
        return GloVeObjective(self, sentences, parts)

    def _fitted(
        self, learner: Any, sentences: Sentences, history: History, start: Start | None
    ) -> FittedVectors:
        fitted = super()._fitted(learner, sentences, history, start)
        fitted.vectors.statistics["cooccurrences"] = learner.pairs
        return fitted


class GloVeObjective:
    """What a training of GloVe learns: "table" float32[V, 4 W], as in kernels/vectors/glove.py; and
    what it learns from, the co-occurrences of the corpus in tiles."""

    def __init__(self, model: GloVe, sentences: Sentences, parts: int) -> None:
        V, d = len(sentences.words), model.dimensions
        self._model, self._parts, self._tokens = model, parts, len(sentences.tokens)
        self._width = W = -(-(d + 2) // LANES) * LANES
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
            table[:, half, 1, one] = STILL
        self._words = V
        matrix = self._count(sentences.tokens, sentences.ends)
        self.pairs = len(matrix)
        self.tiles = self._tiles(matrix)
        self._held_out: tuple[Int32, Tiles] | None = None
        largest = int(np.diff(self.tiles.starts).max(initial=0))
        self._spaces = [self._space(largest) for _ in range(parts)]
        key = partial(mixed_key, model.seed)
        self.order = ShuffledItems(np.diff(self.tiles.starts), parts, key)
        self.rounds = self.order.rounds

    @property
    def _table(self) -> Float32:
        """[V, words' or contexts' half, numbers or squares, W] of the same memory."""
        table = self.arrays["table"]
        return table.reshape(len(table), 2, 2, self._width)

    def _count(self, tokens: Int32, ends: Int64) -> Cooccurrences:
        model = self._model
        return count_cooccurrences(
            tokens, ends, self._words, model.window, symmetric=bool(model.symmetric),
            weighted=bool(model.distance_weighting), threads=self._parts,
            memory=parse_size(model.memory),
        )  # fmt: skip

    def _tiles(self, matrix: Cooccurrences) -> Tiles:
        block = 1 << max(TILE // (16 * (self._model.dimensions + 2)), 1).bit_length() - 1
        return tiles_of(matrix, min(max(block, 16), 1 << 12), parse_size(self._model.memory))

    @staticmethod
    def _space(largest: int) -> tuple[Int32, Float32]:
        return np.empty(largest, np.int32), aligned_zeros(largest + LANES)

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner has it: "vectors"; "output", those as context; "words", those as words, where
        vectors are the sums; "biases" float32[V, 2], of the word and of the context."""
        d, table = self._model.dimensions, self._table
        words, contexts = (np.ascontiguousarray(table[:, half, 0, :d]) for half in (0, 1))
        biases = np.stack([table[:, 0, 0, d], table[:, 1, 0, d + 1]], axis=1)
        if self._model.combine == "word":
            return {"vectors": words, "output": contexts, "biases": biases}
        return {
            "vectors": words + contexts, "output": contexts, "words": words, "biases": biases
        }  # fmt: skip

    def compile(self) -> None:
        """As Learner has it."""
        self._train(0, self.tiles, np.empty(0, np.int64), 0.0, 0, np.zeros(2))

    def go_on(self, start: Start) -> None:
        """As Learner has it. Of vectors that are not GloVe's, a word's part as word and its part
        as context are the same: half of them where their sum is asked for. Sums of squares begin
        anew, so that words of before learn from the new text as new words do."""
        d, table, arrays = self._model.dimensions, self._table, start.arrays
        vectors = arrays["vectors"]
        V = len(vectors)
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
        """As Lessons has it: every epoch all tiles, in an order of its own, that depends on the
        seed and the epoch alone. Of the corpus's words the share of the pairs learned from counts
        as seen."""
        order, ends, pieces = self.order.planned(epoch)
        first, last = pieces[part][round], pieces[part][round + 1]
        if first == last:
            return
        n, key = int(ends[-1]), mixed_key(self._model.seed, epoch)
        self._train(part, self.tiles, order[first:last], rates[0], key, seen[2:])
        start, end = int(ends[first - 1]) if first else 0, int(ends[last - 1])
        seen[:2] += self._tokens * end // n - self._tokens * start // n

    def _train(
        self, part: int, tiles: Tiles, order: Int64, rate: float, key: int, seen: Float64
    ) -> None:  # fmt: skip
        """Learn from some tiles, in working memory of the thread `part`.

        key   of the random numbers
        seen  float64[2], added to: loss, products whose loss that is
        """
        model = self._model
        train_tiles(
            self.arrays["table"], order, tiles.starts, tiles.corners, tiles.cells, tiles.logs,
            tiles.block, math.log(model.x_max), float(model.alpha), tiles.symmetric, rate,
            np.array([key, 0], np.uint64), *self._spaces[part], seen,
        )  # fmt: skip

    def loss(self) -> float:
        """As Lessons has it: training measures the loss of every pair."""
        return math.nan

    def measure(self, tokens: Int32, ends: Int64) -> float:
        """The mean loss of a pair; nothing moves, the learning rate being zero."""
        if self._held_out is None or self._held_out[0] is not tokens:
            self._held_out = tokens, self._tiles(self._count(tokens, ends))
        tiles = self._held_out[1]
        largest = int(np.diff(tiles.starts).max(initial=0))
        if largest > len(self._spaces[0][0]):
            self._spaces[0] = self._space(largest)
        seen = np.zeros(2)
        self._train(0, tiles, np.arange(len(tiles.corners)), 0.0, self._model.seed, seen)
        return ratio(float(seen[0]), float(seen[1]))
