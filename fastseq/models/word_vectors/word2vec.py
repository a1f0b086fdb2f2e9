"""Word2Vec: vectors of words from the words around them.

    model = Word2Vec(dimensions=100, architecture="skipgram", epochs=5)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("london", k=5)

Source: Mikolov, Chen, Corrado & Dean 2013, "Efficient Estimation of Word Representations in Vector
Space", and Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their
Compositionality". What the papers leave open is as in their authors' program, but for the first
vectors, which have twice the spread (bench/RESULTS.md).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.kernels.vectors.windows import work_size
from fastseq.kernels.vectors.word2vec import train_words
from fastseq.models.word_vectors.base import Start
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.models.word_vectors.windowed import WindowModel, WindowObjective
from fastseq.text.analyzer import Analyzer

RATES = {"skipgram": 0.025, "cbow": 0.05}


class Word2Vec(WindowModel):
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

    @property
    def first_rate(self) -> float:
        """The learning rate that training begins with."""
        return RATES[self.architecture] if self.learning_rate is None else self.learning_rate

    def _objective(self, sentences: Sentences, parts: int) -> Word2VecObjective:
        return Word2VecObjective(self, sentences, parts)


class Word2VecObjective(WindowObjective):
    """What a training of Word2Vec learns: vectors of words ("vectors") and of what is predicted
    ("output")."""

    def __init__(self, model: Word2Vec, sentences: Sentences, parts: int) -> None:
        super().__init__(model, sentences, parts)
        V, d = len(sentences.words), model.dimensions
        vectors = self.arrays["vectors"] = self._rows(V)
        draw = np.random.default_rng(model.seed).random((V, d), np.float32)
        vectors[:, :d] = (draw * 2 - 1) / np.float32(d)

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner has it: "vectors", and "output" unless that is of a tree, which is another one
        with other counts."""
        d, tree = self._settings.dimensions, self._settings.loss == "hierarchical"
        return {
            name: np.ascontiguousarray(array[:, :d])
            for name, array in self.arrays.items()
            if name == "vectors" or not tree
        }

    def go_on(self, start: Start) -> None:
        """As Learner has it. A tree is another one with other counts: its nodes begin anew."""
        arrays = start.arrays
        for name in ("vectors", "output"):
            if name in arrays and (name == "vectors" or self._settings.loss == "negative"):
                V, d = arrays["vectors"].shape
                if arrays[name].shape == (V, d):
                    self.arrays[name][:V, :d] = arrays[name]

    def _work_size(self, room: int) -> int:
        return work_size(room, self._width)

    def _train(self, *given: Any) -> None:
        train_words(self.arrays["vectors"], self.arrays["output"], *given)
