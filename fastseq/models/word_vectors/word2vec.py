"""Word2Vec: word vectors from the words around them; and what FastText has in common with it.

    model = Word2Vec(dimensions=100, architecture="skipgram", epochs=5)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("london", k=5)

Source: Mikolov, Chen, Corrado & Dean 2013, "Efficient Estimation of Word Representations in Vector
Space", and Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their
Compositionality". What the papers leave open is as in their authors' program, except the initial
vectors, which have twice the spread (bench/RESULTS.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.estimator import FRACTION, Choice, Real, Whole, parameter
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors.word2vec import LISTS, slots_for, train_words, work_size
from fastseq.models.word_vectors import sampling
from fastseq.models.word_vectors.base import FittedVectors, VectorModel
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.seeds import mixed_key
from fastseq.training.hogwild import cut
from fastseq.training.loop import ratio
from fastseq.types import Float32, Float64, Int32, Int64

ARCHITECTURES = ("skipgram", "cbow")
LOSSES = ("negative", "hierarchical")
RATES = {"skipgram": 0.025, "cbow": 0.05}
LOSS_EVERY = 64  # words per word whose loss is measured while training, at most
MEASURED = 1024  # words of an epoch whose loss is measured, at least, if it has as many
LONGEST = 1 << 16  # tokens of a sentence that are trained on at a time


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
        """The initial learning rate."""
        return RATES[self.architecture] if self.learning_rate is None else self.learning_rate

    @property
    def _last_rate(self) -> float:
        return self.min_learning_rate


class WindowObjective(ABC):
    """The training (hogwild.Lessons) of such a model, each thread with a slice of the corpus that
    it reads in order. `arrays` has the target vectors (words, or inner nodes of a tree) as
    "output", float32[V, W] with W a whole number of SIMD vectors.

    A sentence of more than LONGEST words is trained on in parts, so threads can share it and the
    learning rate decays within it. Words on the two sides of a cut are not in each other's context.
    """

    _train: Callable[..., None]  # the kernel with its own arrays; a subclass sets it
    statistics: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, model: WindowModel, sentences: Sentences, threads: int, work: Callable[..., int]
    ) -> None:
        self._settings = model
        self._tokens, self._ends = sentences.tokens, parted(sentences.ends, LONGEST)
        self._parts = cut(self._ends, threads)
        self.rounds = len(self._parts[0]) - 1
        self._width = -(-model.dimensions // LANES) * LANES
        self.row = 1, model.dimensions
        self.arrays: dict[str, Float32] = {"output": self._rows(len(sentences.words))}
        self._keep = sampling.keep_probabilities(sentences.counts, model.sample)
        kept = int((sentences.counts * (self._keep / float(sampling.ALWAYS))).sum())
        self._loss_every = max(1, min(LOSS_EVERY, kept // MEASURED))
        self._alias = sampling.alias_table(sentences.counts, model.ns_exponent)
        self._sampled = model.loss == "negative"
        self._tree = sampling.NO_TREE if self._sampled else sampling.huffman_tree(sentences.counts)
        slots = slots_for(model.negatives + 1 if self._sampled else max(self._tree.longest, 1))
        self._work = [aligned_zeros(work(slots, self._width)) for _ in range(threads)]
        self._lists = [np.zeros((LISTS, slots), np.int64) for _ in range(threads)]
        self._kept: list[Int32] = [np.empty(0, np.int32) for _ in range(threads)]

    def _rows(self, count: int) -> Float32:
        return aligned_zeros(count * self._width).reshape(count, self._width)

    def _start_rows(self, name: str, count: int, rng: np.random.Generator) -> None:
        """Add an array of rows drawn from -1 / d … 1 / d."""
        table, d = self._rows(count), self._settings.dimensions
        table[:, :d] = (rng.random((count, d), np.float32) * 2 - 1) / np.float32(d)
        self.arrays[name] = table

    def _found(self, name: str) -> Float32:
        """The rows of an array without padding."""
        return np.ascontiguousarray(self.arrays[name][:, : self._settings.dimensions])

    @abstractmethod
    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner defines it: "output" unless of a tree, which depends on the counts."""
        return {"output": self._found("output")} if self._sampled else {}

    @abstractmethod
    def continue_from(self, start: FittedVectors) -> None:
        """As Learner defines it. The nodes of a tree, which depends on the counts, start anew."""
        V, d = start.vectors.vectors.shape
        output = start.arrays.get("output")
        if output is not None and output.shape == (V, d) and self._sampled:
            self.arrays["output"][:V, :d] = output

    def compile(self) -> None:
        self.measure(np.empty(0, np.int32), np.empty(0, np.int64))

    def measure(self, tokens: Int32, ends: Int64) -> float:
        """The mean loss of a context word, or of a context's mean; with learning rate 0."""
        seen = np.zeros(4)
        self._read(0, tokens, ends, (0.0, 0.0), self._settings.seed, seen, 1)
        return ratio(float(seen[2]), float(seen[3]))

    def loss(self) -> float:
        """As Lessons defines it: of the first rows, without subsampling."""
        keep, count = self._keep, max(1, int(np.searchsorted(self._ends, MEASURED)))
        self._keep = np.full_like(keep, sampling.ALWAYS)
        try:
            return self.measure(self._tokens[: self._ends[count - 1]], self._ends[:count])
        finally:
            self._keep = keep

    def learn(
        self, part: int, epoch: int, round: int, rates: tuple[float, float], seen: Float64
    ) -> None:
        first, last = self._parts[part][round], self._parts[part][round + 1]
        if first == last:
            return
        start = self._ends[first - 1] if first else 0
        ends = self._ends[first:last] - start
        tokens = self._tokens[start : start + ends[-1]]
        key = mixed_key(self._settings.seed, epoch * self.rounds + round, part)
        self._read(part, tokens, ends, rates, key, seen, self._loss_every)

    def _read(
        self, part: int, tokens: Int32, ends: Int64, rates: tuple[float, float], key: int,
        seen: Float64, loss_every: int,
    ) -> None:  # fmt: skip
        """Train on some sentences in the working memory of the thread `part`."""
        longest = int(np.diff(ends, prepend=0).max(initial=0))
        if longest > len(self._kept[part]):
            self._kept[part] = np.empty(longest, np.int32)
        model, tree = self._settings, self._tree
        self._train(
            tokens, ends, self._keep, self._alias, tree.paths, tree.nodes, tree.codes,
            model.window, model.negatives, model.architecture == "cbow", *rates,
            np.array([key], np.uint64), self._kept[part], self._work[part], self._lists[part],
            seen, loss_every,
        )  # fmt: skip


def parted(ends: Int64, longest: int) -> Int64:
    """The ends of sentences, those longer than `longest` cut into equal parts."""
    lengths = np.diff(ends, prepend=0)
    parts = np.maximum(-(-lengths // longest), 1)
    if len(parts) == int(parts.sum()):
        return ends
    part = np.arange(int(parts.sum())) - np.repeat(np.cumsum(parts) - parts, parts)
    lengths, parts = np.repeat(lengths, parts), np.repeat(parts, parts)
    found: Int64 = np.cumsum(lengths * (part + 1) // parts - lengths * part // parts)
    return found


class Word2Vec(WindowModel):
    """Word vectors that are similar where the words occur in similar contexts.

    Attributes
    ----------
    vectors_ : WordVectors
    history_ : {name: a value for each epoch}
    """

    kind: ClassVar[str] = "word2vec"

    def _objective(self, sentences: Sentences, threads: int) -> Word2VecObjective:
        return Word2VecObjective(self, sentences, threads)


class Word2VecObjective(WindowObjective):
    """The training of Word2Vec: word vectors ("vectors") and target vectors ("output")."""

    def __init__(self, model: Word2Vec, sentences: Sentences, threads: int) -> None:
        super().__init__(model, sentences, threads, work_size)
        self._start_rows("vectors", len(sentences.words), np.random.default_rng(model.seed))
        self._train = partial(train_words, self.arrays["vectors"], self.arrays["output"])

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner defines it: "vectors" and "output"."""
        return {**super().learned(), "vectors": self._found("vectors")}

    def continue_from(self, start: FittedVectors) -> None:
        super().continue_from(start)
        vectors = start.vectors.vectors
        self.arrays["vectors"][: len(vectors), : vectors.shape[1]] = vectors
