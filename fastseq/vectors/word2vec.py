"""Word2Vec: vectors of words from the words around them.

    model = Word2Vec(dimensions=100, architecture="skipgram", epochs=5)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("london", k=5)

Source: Mikolov, Chen, Corrado & Dean 2013, "Efficient Estimation of Word Representations in Vector
Space", and Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their
Compositionality". What the papers leave open is as in their authors' program.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.kernels.arrays import aligned_zeros
from fastseq.kernels.simd.width import LANES
from fastseq.kernels.windows import LISTS, room_for, work_size
from fastseq.kernels.word2vec import train_words
from fastseq.settings import fraction, one_of, real, whole
from fastseq.text.analyzer import Analyzer
from fastseq.types import Float32, Float64, Int32, Int64
from fastseq.vectors.base import Start, VectorModel
from fastseq.vectors.chances import alias_table, huffman_tree, keep_chances, no_tree
from fastseq.vectors.sentences import Sentences

ARCHITECTURES = ("skipgram", "cbow")
LOSSES = ("negative", "hierarchical")
RATES = {"skipgram": 0.025, "cbow": 0.05}


class Word2Vec(VectorModel):
    """Vectors of words that are near each other where the words occur in like surroundings.

    Parameters
    ----------
    dimensions : of a vector
    architecture : "skipgram" (each word of the context against the word) or "cbow" (their mean)
    loss : "negative" (sampling) or "hierarchical" (softmax)
    window : words on each side at most; the reach of every word is drawn from 1 to it
    negatives : words drawn for every word, where the loss is "negative"
    power : negatives are drawn by count ** power
    sample : words more frequent than this share of all are thinned out; 0 to keep all
    min_count : words that occur less often are left out
    max_vocabulary : the most frequent words to keep; None for all
    phrases : passes that join neighbouring words to phrases ("new_york"), which are words then,
        before rare ones are left out; 0 for none. See phrases.Phrases
    phrase_threshold : of a phrase's score: the higher, the fewer
    epochs : passes over the corpus
    learning_rate : at the beginning; None: 0.025 for skip-gram, 0.05 for CBOW
    last_rate : at the end, linear between
    analyzer : what a word is; None: Analyzer()
    seed : of the first vectors, the windows, the negatives
    threads : to work with; None for every core. One thread repeats bit for bit, several do not
    memory : of ids of the corpus to hold; more goes to a temporary file

    Attributes
    ----------
    vectors_ : WordVectors
    history_ : {name: a value for each epoch}
    """

    kind: ClassVar[str] = "word2vec"

    architecture: str
    loss: str
    window: int
    negatives: int
    power: float
    sample: float

    def __init__(
        self,
        *,
        dimensions: int = 100,
        architecture: str = "skipgram",
        loss: str = "negative",
        window: int = 5,
        negatives: int = 5,
        power: float = 0.75,
        sample: float = 1e-3,
        min_count: int = 5,
        max_vocabulary: int | None = None,
        phrases: int = 0,
        phrase_threshold: float = 10.0,
        epochs: int = 5,
        learning_rate: float | None = None,
        last_rate: float = 1e-4,
        analyzer: Analyzer | None = None,
        seed: int = 0,
        threads: int | None = None,
        memory: str | int = "1GB",
    ) -> None:
        self._store(locals())

    def _check_kind(self) -> None:
        one_of("architecture", self.architecture, ARCHITECTURES)
        one_of("loss", self.loss, LOSSES)
        whole("window", self.window, 1, 1 << 20)
        whole("negatives", self.negatives, 1, 1 << 10)
        real("power", self.power, lambda p: 0 <= p <= 4, "0 to 4")
        fraction("sample", self.sample)

    @property
    def first_rate(self) -> float:
        """The learning rate that training begins with."""
        return RATES[self.architecture] if self.learning_rate is None else self.learning_rate

    def _objective(self, sentences: Sentences, parts: int) -> Word2VecObjective:
        return Word2VecObjective(self, sentences, parts)


class Word2VecObjective:
    """What a training of Word2Vec learns: vectors of words ("vectors") and of what is predicted
    ("output": words, or inner nodes of a tree), float32[V, W] with W in whole registers."""

    def __init__(self, model: Word2Vec, sentences: Sentences, parts: int) -> None:
        V, d = len(sentences.words), model.dimensions
        width = -(-d // LANES) * LANES
        self._model = model
        self.arrays = {
            name: aligned_zeros(V * width).reshape(V, width) for name in ("vectors", "output")
        }
        draw = np.random.default_rng(model.seed).random((V, d), np.float32)
        self.arrays["vectors"][:, :d] = (draw - np.float32(0.5)) / np.float32(d)
        self._keep = keep_chances(sentences.counts, model.sample)
        self._alias = alias_table(sentences.counts, model.power)
        tree = huffman_tree(sentences.counts) if model.loss == "hierarchical" else no_tree()
        self._tree = tree
        targets = max(tree.longest, 1) if model.loss == "hierarchical" else model.negatives + 1
        self._room = room_for(targets)
        self._spaces = [self._space(width) for _ in range(parts)]
        self._kept: list[Int32] = [np.empty(0, np.int32) for _ in range(parts)]

    def _space(self, width: int) -> tuple[Float32, Int64]:
        work = aligned_zeros(work_size(self._room, width))
        return work, np.zeros((LISTS, self._room), np.int64)

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner has it: "vectors", and "output" unless that is of a tree, which is another one
        with other counts."""
        d, tree = self._model.dimensions, self._model.loss == "hierarchical"
        return {
            name: np.ascontiguousarray(array[:, :d])
            for name, array in self.arrays.items()
            if name == "vectors" or not tree
        }

    def go_on(self, start: Start) -> None:
        """As Learner has it. A tree is another one with other counts: its nodes begin anew."""
        arrays = start.arrays
        for name in ("vectors", "output"):
            if name in arrays and (name == "vectors" or self._model.loss == "negative"):
                V, d = arrays["vectors"].shape
                if arrays[name].shape == (V, d):
                    self.arrays[name][:V, :d] = arrays[name]

    def learn(
        self, part: int, tokens: Int32, ends: Int64, rates: tuple[float, float], seed: int,
        seen: Float64,
    ) -> None:  # fmt: skip
        """As Objective has it."""
        self._run(part, tokens, ends, rates, seed, seen, 64)

    def measure(self, tokens: Int32, ends: Int64, seed: int) -> float | None:
        """The mean loss of a context word; nothing moves, the learning rate being zero."""
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
        model, tree = self._model, self._tree
        train_words(
            self.arrays["vectors"], self.arrays["output"], tokens, ends, self._keep, self._alias,
            tree.paths, tree.nodes, tree.codes, model.window, model.negatives,
            model.architecture == "cbow", *rates, np.array([seed], np.uint64), self._kept[part],
            *self._spaces[part], seen, loss_every,
        )  # fmt: skip
