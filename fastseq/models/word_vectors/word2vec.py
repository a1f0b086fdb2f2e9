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


class Word2Vec(WindowModel):
    """Vectors of words that are near each other where the words occur in like surroundings.

    Attributes
    ----------
    vectors_ : WordVectors
    history_ : {name: a value for each epoch}
    """

    kind: ClassVar[str] = "word2vec"

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
