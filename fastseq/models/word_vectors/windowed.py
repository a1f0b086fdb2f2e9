"""What Word2Vec and FastText have in common: words that learn from the windows around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors.windows import LISTS, room_for
from fastseq.models.word_vectors.base import VectorModel
from fastseq.models.word_vectors.sampling import alias_table, huffman_tree, keep_chances, no_tree
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.settings import fraction, one_of, real, whole
from fastseq.types import Float32, Float64, Int32, Int64

ARCHITECTURES = ("skipgram", "cbow")
LOSSES = ("negative", "hierarchical")
LOSS_EVERY = 64  # words between two whose loss is looked at while training


class WindowModel(VectorModel):
    """A model whose words predict, or are predicted from, those in a window around them."""

    most_window: ClassVar[int] = 1 << 20

    architecture: str
    loss: str
    window: int
    negatives: int
    power: float
    sample: float

    def _check_kind(self) -> None:
        one_of("architecture", self.architecture, ARCHITECTURES)
        one_of("loss", self.loss, LOSSES)
        whole("window", self.window, 1, self.most_window)
        whole("negatives", self.negatives, 1, 1 << 10)
        real("power", self.power, lambda p: 0 <= p <= 4, "0 to 4")
        fraction("sample", self.sample)


class WindowObjective(ABC):
    """What such a model trains: the vectors of targets among its arrays, by the name of "output"
    (words, or inner nodes of a tree), float32[V, W] with W in whole registers."""

    def __init__(self, model: WindowModel, sentences: Sentences, parts: int) -> None:
        self._settings = model
        self._width = -(-model.dimensions // LANES) * LANES
        self.arrays: dict[str, Float32] = {"output": self._rows(len(sentences.words))}
        self._keep = keep_chances(sentences.counts, model.sample)
        self._alias = alias_table(sentences.counts, model.power)
        hierarchical = model.loss == "hierarchical"
        self._tree = huffman_tree(sentences.counts) if hierarchical else no_tree()
        room = room_for(max(self._tree.longest, 1) if hierarchical else model.negatives + 1)
        self._work = [aligned_zeros(self._work_size(room)) for _ in range(parts)]
        self._lists = [np.zeros((LISTS, room), np.int64) for _ in range(parts)]
        self._kept: list[Int32] = [np.empty(0, np.int32) for _ in range(parts)]

    def compile(self) -> None:
        """As Learner has it."""
        self.measure(np.empty(0, np.int32), np.empty(0, np.int64), 0)

    def _rows(self, count: int) -> Float32:
        """Rows of nothing yet."""
        return aligned_zeros(count * self._width).reshape(count, self._width)

    def learn(
        self, part: int, tokens: Int32, ends: Int64, rates: tuple[float, float], seed: int,
        seen: Float64,
    ) -> None:  # fmt: skip
        """As Reader has it."""
        self._run(part, tokens, ends, rates, seed, seen, LOSS_EVERY)

    def measure(self, tokens: Int32, ends: Int64, seed: int) -> float | None:
        """The mean loss of a word of a context, or of a context's mean; nothing moves, the
        learning rate being zero."""
        seen = np.zeros(4)
        self._run(0, tokens, ends, (0.0, 0.0), seed, seen, 1)
        return float(seen[2] / seen[3]) if seen[3] else None

    def _run(
        self, part: int, tokens: Int32, ends: Int64, rates: tuple[float, float], seed: int,
        seen: Float64, loss_every: int,
    ) -> None:  # fmt: skip
        longest = int(np.diff(ends, prepend=0).max(initial=0))
        if longest > len(self._kept[part]):
            self._kept[part] = np.empty(longest, np.int32)
        model, tree = self._settings, self._tree
        self._train(
            tokens, ends, self._keep, self._alias, tree.paths, tree.nodes, tree.codes,
            model.window, model.negatives, model.architecture == "cbow", *rates,
            np.array([seed], np.uint64), self._kept[part], self._work[part], self._lists[part],
            seen, loss_every,
        )  # fmt: skip

    @abstractmethod
    def _work_size(self, room: int) -> int:
        """Floats of working memory that the kernel needs."""

    @abstractmethod
    def _train(self, *given: Any) -> None:
        """Call the kernel: its own arrays come before what is given."""
