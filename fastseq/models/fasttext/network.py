"""What FastText's classifier learns, and how: rows and outputs trained by threads without locks.

Every epoch goes through the texts in another order. It is cut into rounds; in a round each thread
learns from its own piece and writes to the same rows as the others, unlocked (Recht et al. 2011,
"Hogwild!"). Between rounds progress is told and Ctrl-C let through. One thread repeats bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import TrainingError
from fastseq.interrupts import Interrupts
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors.chances import fill_alias
from fastseq.kernels.vectors.fasttext_labels import (
    LISTS,
    mean_rows,
    room_for,
    train_labels,
    work_size,
)
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.fasttext.rows import LabelledRows, TextRows
from fastseq.seeds import mixed_key
from fastseq.threads import Team
from fastseq.training.progress import Pace, Report, TrainingProgress
from fastseq.types import Float32, Float64, Int64, Tokens, UInt64

if TYPE_CHECKING:
    from fastseq.store.columns import Fields

LOSSES = ("softmax", "hierarchical", "negative", "ova")  # in the order of the kernel's numbers
ROUND = 1 << 18  # words of a thread's piece, about
MEASURED = 16  # texts between two whose loss is looked at, but for the softmax's
POWER = 0.5  # negatives are drawn by count ** POWER
_NUMBERS = 1 << 22  # of scores made at a time

History = dict[str, list[float]]


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The way to each of K labels, for the hierarchical softmax.

    paths   int64[K + 1]  label k's nodes are nodes[paths[k]:paths[k + 1]], from the label up
    nodes   int64[·]      inner nodes, 0 … K - 2
    codes   float32[·]    1 where the way comes from a node's second child, else 0
    """

    paths: Int64
    nodes: Int64
    codes: Float32

    @property
    def longest(self) -> int:
        """Nodes of the longest way."""
        return int(np.diff(self.paths).max())


def label_tree(counts: Int64) -> Tree:
    """The Huffman tree of K labels, K at least 2, as fastText's program builds it: of equal counts
    the inner nodes come first, and of labels those with the larger numbers."""
    K = len(counts)
    order = np.argsort(-counts, kind="stable").tolist()  # the rarest is at the end
    weights = [int(counts[label]) for label in order]
    parent, second = [0] * (2 * K - 1), [False] * (2 * K - 1)
    leaf, inner = K - 1, K
    for node in range(K, 2 * K - 1):
        total = 0
        for child in range(2):
            if leaf >= 0 and (inner >= node or weights[leaf] < weights[inner]):
                least, leaf = leaf, leaf - 1
            else:
                least, inner = inner, inner + 1
            parent[least], second[least] = node, child == 1
            total += weights[least]
        weights.append(total)
    ways: list[list[int]] = [[] for _ in range(K)]
    codes: list[list[float]] = [[] for _ in range(K)]
    for place, label in enumerate(order):
        node = place
        while node != 2 * K - 2:
            ways[label].append(parent[node] - K)
            codes[label].append(float(second[node]))
            node = parent[node]
    paths = np.zeros(K + 1, np.int64)
    np.cumsum([len(way) for way in ways], out=paths[1:])
    flat = np.array([node for way in ways for node in way], np.int64)
    return Tree(paths, flat, np.array([code for way in codes for code in way], np.float32))


@dataclass(slots=True, eq=False)
class FittedState:
    """All that predicting needs.

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
    history: History = field(default_factory=dict)
    reports: dict[str, ReadReport] = field(default_factory=dict)
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


@dataclass(frozen=True, slots=True)
class Course:
    """How training goes: passes over the texts, the learning rate that falls to 0, labels drawn
    beside the right one."""

    epochs: int
    rate: float
    negatives: int
    seed: int


def train(
    learned: FittedState,
    data: LabelledRows,
    course: Course,
    team: Team,
    measure: Callable[[], dict[str, float]] | None = None,
    report: Report | None = None,
) -> None:
    """Train the rows and outputs of `learned` in place; the history goes with it.

    measure  called after each epoch, for what validation finds

    Raises
    ------
    TrainingError
        The loss is no longer finite.
    KeyboardInterrupt
        Ctrl-C, after the round under way.
    """
    trainer = _Trainer(learned, data, course, team)
    words = int(data.sizes.sum())
    rounds = max(1, -(-words // (ROUND * team.threads)))
    pace, began = Pace(), time.perf_counter()
    with Interrupts() as interrupts:
        for epoch in range(course.epochs):
            pieces = trainer.pieces(epoch, rounds)
            sums, started = np.zeros(4), time.perf_counter()
            for step in range(rounds):
                interrupts.hold()
                sums += trainer.round(pieces[step], epoch * rounds + step, course.epochs * rounds)
                if not np.isfinite(sums[2]) or not np.isfinite(learned.outputs).all():
                    raise TrainingError(
                        f"the loss is not finite in epoch {epoch + 1}: expected a lower "
                        "learning_rate"
                    )
                interrupts.release()
                now = time.perf_counter()
                loss = sums[2] / sums[3] if sums[3] else float("nan")
                done = epoch * rounds + step + 1
                told = TrainingProgress(
                    epoch + 1, course.epochs, step + 1, rounds, loss,
                    sums[0] / max(now - started, 1e-9),
                    (now - began) / done * (course.epochs * rounds - done),
                )  # fmt: skip
                if report is not None and pace.due(now):
                    report(told)
            seconds = time.perf_counter() - started
            valid = {} if measure is None else measure()
            row = {
                "epoch": epoch + 1, "train_loss": loss,
                **{f"valid_{name}": value for name, value in valid.items()},
                "words": sums[0], "seconds": seconds, "words_per_second": sums[0] / seconds,
            }  # fmt: skip
            for name, value in row.items():
                learned.history.setdefault(name, []).append(float(value))
            if report is not None:
                report(told._replace(valid=valid or None))


class _Trainer:
    def __init__(
        self, learned: FittedState, data: LabelledRows, course: Course, team: Team
    ) -> None:
        self._learned, self._data, self._course, self._team = learned, data, course, team
        loss, K = learned.loss, len(learned.labels)
        self._kind = LOSSES.index(loss)
        alias: UInt64 = np.empty(K, np.uint64)
        weights = learned.labels.counts.astype(np.float64) ** POWER
        weights *= K / weights.sum()
        fill_alias(alias, weights, np.empty(K, np.int64), np.empty(K, np.int64))
        self._alias = alias
        none = Tree(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        self._tree = learned.tree or none
        targets = {"negative": course.negatives + 1}.get(loss, K)
        room = room_for(self._tree.longest if learned.tree is not None else targets)
        width = learned.inputs.shape[1]
        self._spaces = [
            (aligned_zeros(work_size(room, width)), np.zeros((LISTS, room), np.int64))
            for _ in range(team.threads)
        ]

    def pieces(self, epoch: int, rounds: int) -> list[list[Int64]]:
        """For each round the texts of each thread, of about as many words each."""
        rng = np.random.default_rng(mixed_key(self._course.seed, 1, epoch))
        order = rng.permutation(len(self._data))
        ends = np.cumsum(self._data.sizes[order], dtype=np.int64)
        threads = self._team.threads
        marks = np.linspace(0, int(ends[-1]), rounds * threads + 1)
        cuts = [0, *np.searchsorted(ends, marks[1:-1]).tolist(), len(order)]
        parts = [order[a:b] for a, b in pairwise(cuts)]
        return [parts[at : at + threads] for at in range(0, len(parts), threads)]

    def round(self, pieces: list[Int64], done: int, total: int) -> Float64:
        """Learn from the pieces, each on its thread; the sums of what they saw."""
        learned, data, tree = self._learned, self._data, self._tree
        first, last = (self._course.rate * (1 - (done + k) / total) for k in (0, 1))
        seen = np.zeros((len(pieces), 8))  # a cache line each

        def work(part: int) -> None:
            state = np.array([mixed_key(self._course.seed, 2, done, part)], np.uint64)
            train_labels(
                learned.inputs, learned.outputs, data.rows, data.ends, data.labels,
                data.label_ends, data.sizes, pieces[part], self._kind, self._alias, tree.paths,
                tree.nodes, tree.codes, self._course.negatives, first, last, state,
                *self._spaces[part], seen[part, :4], MEASURED,
            )  # fmt: skip

        self._team.run(work, len(pieces))
        sums: Float64 = seen[:, :4].sum(0)
        return sums
