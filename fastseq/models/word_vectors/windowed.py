"""What Word2Vec and FastText have in common: words that learn from the windows around them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from fastseq.estimator import FRACTION, Choice, Real, Whole, parameter
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors.windows import LISTS, room_for
from fastseq.models.word_vectors.base import VectorModel
from fastseq.models.word_vectors.reading import SentenceLessons
from fastseq.models.word_vectors.sampling import (
    ALWAYS,
    alias_table,
    huffman_tree,
    keep_chances,
    no_tree,
)
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.training.loop import ratio
from fastseq.types import Float32, Float64, Int32, Int64

ARCHITECTURES = ("skipgram", "cbow")
LOSSES = ("negative", "hierarchical")
RATES = {"skipgram": 0.025, "cbow": 0.05}
LOSS_EVERY = 64  # words, at most, between two whose loss is measured while training
MEASURED = 1024  # words of an epoch whose loss is measured, at least, where it has as many


class WindowModel(VectorModel):
    """A model whose words predict, or are predicted from, those in a window around them."""

    architecture: str = parameter(
        default="skipgram", check=Choice(ARCHITECTURES),
        help="Architecture: skip-gram or continuous bag of words.",
        notes="Each word of the context against the word, or their mean.",
    )  # fmt: skip
    loss: str = parameter(
        default="negative", check=Choice(LOSSES),
        help="Loss: negative sampling or hierarchical softmax.",
    )  # fmt: skip
    window: int = parameter(
        default=5, check=Whole(1, 1 << 20), help="Maximum number of context words on each side.",
        notes="The window of every word is drawn from 1 to it.",
    )  # fmt: skip
    negatives: int = parameter(
        default=5, check=Whole(1, 1 << 10), help="Negative samples, with the loss negative.",
        section="Training",
    )  # fmt: skip
    ns_exponent: float = parameter(
        default=0.75, check=Real(least=0, most=4), section="Training", aliases=("power",),
        help="Exponent of the negative-sampling distribution.",
    )  # fmt: skip
    sample: float = parameter(
        default=1e-3, check=FRACTION, section="Training",
        help="Subsample words more frequent than this share of the text; 0 for none.",
    )  # fmt: skip
    learning_rate: float | None = parameter(
        default=None, check=Real(least=0, most=10), section="Training",
        help="Initial learning rate; it decays linearly.",
        none=f"{RATES['skipgram']}, or {RATES['cbow']} for cbow",
    )  # fmt: skip
    min_learning_rate: float = parameter(
        default=1e-4, check=Real(least=0, most=10), section="Training", aliases=("last_rate",),
        help="Final learning rate.",
    )  # fmt: skip

    @property
    def first_rate(self) -> float:
        """The learning rate that training begins with."""
        return RATES[self.architecture] if self.learning_rate is None else self.learning_rate

    @property
    def _last_rate(self) -> float:
        return self.min_learning_rate


class WindowObjective(SentenceLessons):
    """What such a model trains: the vectors of targets among its arrays, by the name of "output"
    (words, or inner nodes of a tree), float32[V, W] with W in whole registers."""

    def __init__(self, model: WindowModel, sentences: Sentences, parts: int) -> None:
        super().__init__(sentences, parts, model.seed)
        self._settings = model
        self._width = -(-model.dimensions // LANES) * LANES
        self.arrays: dict[str, Float32] = {"output": self._rows(len(sentences.words))}
        self._keep = keep_chances(sentences.counts, model.sample)
        kept = int((sentences.counts * (self._keep / float(ALWAYS))).sum())
        self._loss_every = max(1, min(LOSS_EVERY, kept // MEASURED))
        self._alias = alias_table(sentences.counts, model.ns_exponent)
        hierarchical = model.loss == "hierarchical"
        self._tree = huffman_tree(sentences.counts) if hierarchical else no_tree()
        room = room_for(max(self._tree.longest, 1) if hierarchical else model.negatives + 1)
        self._work = [aligned_zeros(self._work_size(room)) for _ in range(parts)]
        self._lists = [np.zeros((LISTS, room), np.int64) for _ in range(parts)]
        self._kept: list[Int32] = [np.empty(0, np.int32) for _ in range(parts)]

    def compile(self) -> None:
        """As Learner has it."""
        self.measure(np.empty(0, np.int32), np.empty(0, np.int64))

    def _rows(self, count: int) -> Float32:
        """Rows of nothing yet."""
        return aligned_zeros(count * self._width).reshape(count, self._width)

    def measure(self, tokens: Int32, ends: Int64) -> float:
        """The mean loss of a word of a context, or of a context's mean; nothing moves, the
        learning rate being zero."""
        seen = np.zeros(4)
        self._read(0, tokens, ends, (0.0, 0.0), self._seed, seen, 1)
        return ratio(float(seen[2]), float(seen[3]))

    def loss(self) -> float:
        """As Lessons has it: of the first rows, without subsampling."""
        keep, count = self._keep, max(1, int(np.searchsorted(self._ends, MEASURED)))
        self._keep = np.full_like(keep, ALWAYS)
        try:
            return self.measure(self._tokens[: self._ends[count - 1]], self._ends[:count])
        finally:
            self._keep = keep

    def _read(
        self, part: int, tokens: Int32, ends: Int64, rates: tuple[float, float], key: int,
        seen: Float64, loss_every: int | None = None,
    ) -> None:  # fmt: skip
        longest = int(np.diff(ends, prepend=0).max(initial=0))
        if longest > len(self._kept[part]):
            self._kept[part] = np.empty(longest, np.int32)
        model, tree = self._settings, self._tree
        self._train(
            tokens, ends, self._keep, self._alias, tree.paths, tree.nodes, tree.codes,
            model.window, model.negatives, model.architecture == "cbow", *rates,
            np.array([key], np.uint64), self._kept[part], self._work[part], self._lists[part],
            seen, loss_every or self._loss_every,
        )  # fmt: skip

    @abstractmethod
    def _work_size(self, room: int) -> int:
        """Floats of working memory that the kernel needs."""

    @abstractmethod
    def _train(self, *given: Any) -> None:
        """Call the kernel: its own arrays come before what is given."""
