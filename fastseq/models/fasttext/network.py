"""What FastText's classifier learns, and from what: rows and outputs that threads without locks
train, text by text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors.fasttext_labels import (
    LISTS,
    mean_rows,
    train_labels,
    work_size,
)
from fastseq.kernels.vectors.word2vec import room_for
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.fasttext.rows import LabelledRows, TextRows
from fastseq.models.word_vectors.sampling import NO_TREE, Tree, alias_table
from fastseq.seeds import mixed_key
from fastseq.training.checkpoint import History
from fastseq.training.hogwild import ShuffledItems
from fastseq.types import Float32, Float64, Int64, Tokens

if TYPE_CHECKING:
    from fastseq.store.columns import Fields

LOSSES = ("softmax", "hierarchical", "negative", "ova")  # in the order of the kernel's numbers
ROUND = 1 << 18  # words of a thread's piece, about
LOSS_EVERY = 16  # texts, at most, between two whose loss is measured, but for the softmax's
MEASURED = 256  # texts of an epoch whose loss is measured, at least, where it has as many
POWER = 0.5  # negatives are drawn by count ** POWER
_NUMBERS = 1 << 22  # of scores made at a time


@dataclass(slots=True, eq=False)
class FittedState:
    """The fitted state of the classifier.

    encoder  texts as rows
    counts   int64[V]: how often each word occurred
    labels   K of them
    several  what stands between the labels of one row; None where a row has one
    loss     one of LOSSES
    inputs   float32[R, W], W in whole vectors
    outputs  float32[M, W]: M is K, of the hierarchical loss K - 1
    tree     None but for the hierarchical loss
    fields   the columns that were read
    settings those of the model when it was fitted, as its manifest keeps them
    words    of the texts in all, the ends of lines counted
    coverage of the words by the vectors given, see Vocabulary.coverage; None without
    """

    encoder: TextRows
    counts: Int64
    labels: Labels
    several: str | None
    loss: str
    inputs: Float32
    outputs: Float32
    tree: Tree | None
    fields: Fields
    dimensions: int
    words: int
    history: History = field(default_factory=History)
    reports: dict[str, ReadReport] = field(default_factory=dict)
    coverage: dict[str, int] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, rows: Tokens) -> Float32:
        """float32[D, K] of texts: by softmax and tree adding up to 1, else each by itself."""
        D, K = len(rows), len(self.labels)
        found: Float32 = np.empty((D, K), np.float32)
        step = max(1, _NUMBERS // max(K, self.inputs.shape[1]))
        for first in range(0, D, step):
            last = min(D, first + step)
            hidden = aligned_zeros((last - first) * self.inputs.shape[1])
            means = hidden.reshape(last - first, self.inputs.shape[1])
            mean_rows(means, rows.values, rows.offsets[first : last + 1], self.inputs)
            found[first:last] = self._shares(means @ self.outputs.T)
        return found

    def _shares(self, scores: Float32) -> Float32:
        if self.loss == "softmax":
            scores -= scores.max(1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(1, keepdims=True)
            return scores
        if self.tree is None:
            return _sigmoid(scores)
        signs = 2 * self.tree.codes - 1
        steps = -np.logaddexp(np.float32(0), -signs * scores[:, self.tree.nodes])
        shares: Float32 = np.exp(np.add.reduceat(steps, self.tree.paths[:-1], axis=1))
        return shares


def _sigmoid(x: Float32) -> Float32:
    out: Float32 = np.exp(-np.logaddexp(np.float32(0), -x))
    return out


def padded(rows: int, width: int) -> Float32:
    """float32[rows, W] of zeros, W the next whole number of vectors."""
    whole = -(-width // LANES) * LANES
    return aligned_zeros(rows * whole).reshape(rows, whole)


def first_rows(rows: int, dimensions: int, seed: int) -> Float32:
    """Rows to begin with: each number drawn from -1 / dimensions … 1 / dimensions."""
    table = padded(rows, dimensions)
    rng, step = np.random.default_rng(mixed_key(seed, 0)), max(1, _NUMBERS // dimensions)
    for first in range(0, rows, step):
        part = table[first : first + step, :dimensions]
        draw = rng.random(part.shape, np.float32)
        draw -= np.float32(0.5)
        np.multiply(draw, np.float32(2 / dimensions), out=part)
    return table


class LabelLessons:
    """Lessons (training.hogwild) of texts with labels, in another order in every epoch: what is
    learned are the rows and outputs of `learned`, in place."""

    def __init__(
        self, learned: FittedState, data: LabelledRows, negatives: int, seed: int, threads: int
    ) -> None:
        self._learned, self._data, self._negatives, self._seed = learned, data, negatives, seed
        self.arrays = {"inputs": learned.inputs, "outputs": learned.outputs}
        self._order = ShuffledItems(data.sizes, threads, partial(mixed_key, seed, 1), ROUND)
        self.rounds = self._order.rounds
        loss, K = learned.loss, len(learned.labels)
        self._kind = LOSSES.index(loss)
        self._alias = alias_table(learned.labels.counts, POWER)
        self._tree = learned.tree or NO_TREE
        targets = {"negative": negatives + 1}.get(loss, K)
        room = room_for(self._tree.longest if learned.tree is not None else targets)
        self._loss_every = max(1, min(LOSS_EVERY, len(data) // MEASURED))
        self._spaces = [
            (
                aligned_zeros(work_size(room, learned.inputs.shape[1])),
                np.zeros((LISTS, room), np.int64),
            )
            for _ in range(threads)
        ]

    def learn(
        self, part: int, epoch: int, round: int, rates: tuple[float, float], seen: Float64
    ) -> None:
        """As Lessons has it."""
        learned, data, tree = self._learned, self._data, self._tree
        order, _, pieces = self._order.planned(epoch)
        texts = order[pieces[part][round] : pieces[part][round + 1]]
        key = mixed_key(self._seed, 2, epoch * self.rounds + round, part)
        train_labels(
            learned.inputs, learned.outputs, data.rows, data.ends, data.labels, data.label_ends,
            data.sizes, texts, self._kind, self._alias, tree.paths, tree.nodes, tree.codes,
            self._negatives, *rates, np.array([key], np.uint64), *self._spaces[part], seen,
            self._loss_every,
        )  # fmt: skip

    def loss(self) -> float:
        """As Lessons has it: none where no text that was looked at has a label."""
        return math.nan
