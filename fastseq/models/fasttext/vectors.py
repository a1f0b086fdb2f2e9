"""FastText: vectors of words that are the mean of a vector of their own and those of their
character n-grams.

    model = FastText(dimensions=100, epochs=5)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("misspeling", k=5)  # a word never seen

Source: Bojanowski, Grave, Joulin & Mikolov 2017, "Enriching Word Vectors with Subword
Information". What the paper leaves open is as in its authors' program, but for
skip-gram's direction and the negatives that a context shares (kernels/vectors/fasttext.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError
from fastseq.estimator import Whole, parameter
from fastseq.kernels.vectors.fasttext import train_fasttext, work_size
from fastseq.models.parameters import SubwordParameters
from fastseq.models.word_vectors.base import Start
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.models.word_vectors.windowed import WindowModel, WindowObjective
from fastseq.text.subwords import Subwords
from fastseq.types import Int32
from fastseq.vectors.subword_vectors import ARRAY, BUCKETS, SubwordVectors

OWN = "own"  # array of the words' own vectors, while training


class FastText(WindowModel, SubwordParameters):
    """Vectors of words that are near each other where the words occur in like surroundings, or are
    written alike; words never seen, misspelt ones among them, have vectors too.

    Attributes
    ----------
    vectors_ : WordVectors, which make vectors of any word
    history_ : {name: a value for each epoch}
    """

    kind: ClassVar[str] = "fasttext"
    window: int = parameter(  # each place of it has two rows of working memory
        default=5, check=Whole(1, 1 << 12), help="Maximum number of context words on each side.",
        notes="The window of every word is drawn from 1 to it.",
    )  # fmt: skip
    ns_exponent: float = 0.5
    sample: float = 1e-4
    learning_rate: float | None = 0.05

    def _check(self) -> None:
        super()._check()
        self._grams()

    def _grams(self) -> Subwords:
        return Subwords(self.min_n, self.max_n, self.buckets)

    def _of_start(self, start: Start) -> dict[str, Any]:
        grams = {} if start.pieces is None else start.pieces.settings
        return {**super()._of_start(start), **self._resolved(grams)}

    def _objective(self, sentences: Sentences, parts: int) -> FastTextObjective:
        return FastTextObjective(self, sentences, parts)

    def _pieces(self, arrays: Mapping[str, Any]) -> SubwordVectors | None:
        grams = self._grams()
        if not grams.max_n:
            return None
        return SubwordVectors(grams, arrays[ARRAY], arrays[BUCKETS])


class FastTextObjective(WindowObjective):
    """What a training of FastText learns: vectors of the words themselves ("own"), of the buckets
    of n-grams in use ("subwords"; those that most of the text uses first, so that they lie
    together) and of what is predicted ("output")."""

    def __init__(self, model: FastText, sentences: Sentences, parts: int) -> None:
        super().__init__(model, sentences, parts)
        self._words = sentences.words
        self._subwords = model._grams()
        grams = self._subwords.ids(sentences.words)
        uses = np.repeat(np.maximum(sentences.counts, 1), np.diff(grams.offsets))
        buckets, rows = np.unique(grams.values, return_inverse=True)
        order = np.argsort(-np.bincount(rows, uses, len(buckets)), kind="stable")
        rank = np.empty(len(buckets), np.int32)
        rank[order] = np.arange(len(buckets), dtype=np.int32)
        self._buckets: Int32 = buckets[order].astype(np.int32)
        self._grams: Int32 = rank[rows]
        self._gram_ends = grams.offsets
        rng, d = np.random.default_rng(model.seed), model.dimensions
        for name, count in ((OWN, len(sentences.words)), (ARRAY, len(buckets))):
            table = self.arrays[name] = self._rows(count)
            table[:, :d] = (rng.random((count, d), np.float32) * 2 - 1) / np.float32(d)

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner has it: "vectors", "subwords" and their "buckets", and "output" unless that is
        of a tree, which is another one with other counts."""
        d = self._settings.dimensions
        arrays: dict[str, npt.NDArray[Any]] = {
            name: np.ascontiguousarray(self.arrays[name][:, :d]) for name in (OWN, ARRAY, "output")
        }
        vectors = arrays.pop(OWN)
        if self._settings.loss == "hierarchical":
            del arrays["output"]
        if not self._subwords.max_n:
            del arrays[ARRAY]
            return {"vectors": vectors, **arrays}
        grams = SubwordVectors(self._subwords, arrays[ARRAY], self._buckets)
        sums, many = grams.sums_of(self._words)
        vectors += sums
        vectors /= (many + 1).astype(np.float32)[:, None]
        return {"vectors": vectors, BUCKETS: self._buckets, **arrays}

    def go_on(self, start: Start) -> None:
        """As Learner has it. Vectors of the same n-grams are taken over, and each word's own is
        made so that the mean of its rows is its vector. A tree's nodes begin anew.

        Raises SettingsError where the vectors to go on from have other n-grams.
        """
        V, d = start.arrays["vectors"].shape
        grams, table = self._subwords, self.arrays[ARRAY]
        if start.pieces is not None:
            if start.pieces.grams != grams:
                raise SettingsError(
                    f"the vectors to start from have {start.pieces.grams}, but min_n is "
                    f"{grams.min_n}, max_n {grams.max_n} and buckets {grams.buckets}; expected the "
                    "same"
                )
            given = start.pieces.buckets
            if given is None:
                table[:, :d] = start.pieces.table[self._buckets]
            else:
                _, here, there = np.intersect1d(self._buckets, given, True, return_indices=True)
                table[here, :d] = start.pieces.table[there]
        plain = SubwordVectors(grams, np.ascontiguousarray(table[:, :d]), self._buckets)
        sums, many = plain.sums_of(self._words)
        vectors = start.arrays["vectors"] * (many[:V] + 1).astype(np.float32)[:, None]
        self.arrays[OWN][:V, :d] = vectors - sums[:V]
        output = start.arrays.get("output")
        if output is not None and output.shape == (V, d) and self._settings.loss == "negative":
            self.arrays["output"][:V, :d] = output

    def _work_size(self, room: int) -> int:
        return work_size(room, self._width, self._settings.window)

    def _train(self, *given: Any) -> None:
        arrays = self.arrays
        train_fasttext(
            arrays[OWN], arrays[ARRAY], arrays["output"], self._grams, self._gram_ends, *given
        )
