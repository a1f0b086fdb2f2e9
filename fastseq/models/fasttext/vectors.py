"""FastText: word vectors that are the mean of a vector of the word and those of its character
n-grams.

    model = FastText(dimensions=100, epochs=5)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("misspeling", k=5)  # a word never seen

Source: Bojanowski, Grave, Joulin & Mikolov 2017, "Enriching Word Vectors with Subword
Information". What the paper leaves open is as in its authors' program, except skip-gram's
direction and the negatives that a context shares (kernels/vectors/fasttext.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError
from fastseq.estimator import Whole, parameter
from fastseq.kernels.vectors.fasttext import train_fasttext, work_size
from fastseq.models.base import SubwordParameters
from fastseq.models.word_vectors.base import FittedVectors
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.models.word_vectors.word2vec import WindowModel, WindowObjective
from fastseq.text.subwords import Subwords
from fastseq.types import Float32, Int32, Int64
from fastseq.vectors.subword_vectors import BUCKETS, SUBWORDS, SubwordVectors

OWN = "own"  # training array of the words' own vectors


class FastText(WindowModel, SubwordParameters[FittedVectors]):
    """Word vectors that are similar where the words occur in similar contexts or are spelt alike;
    unknown words, misspelt ones among them, have vectors too.

    Attributes
    ----------
    vectors_ : WordVectors, with vectors of any word
    history_ : {name: a value for each epoch}
    """

    kind: ClassVar[str] = "fasttext"
    window: int = parameter(  # each position has two rows of working memory
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

    def _of_start(self, start: FittedVectors) -> dict[str, Any]:
        known = start.vectors.subwords
        grams = known.settings if isinstance(known, SubwordVectors) else {}
        return {**super()._of_start(start), **self._resolved(grams)}

    def _objective(self, sentences: Sentences, threads: int) -> FastTextObjective:
        return FastTextObjective(self, sentences, threads)

    def _subwords(self, arrays: Mapping[str, Any]) -> SubwordVectors | None:
        grams = self._grams()
        if not grams.max_n:
            return None
        return SubwordVectors(grams, arrays[SUBWORDS], arrays[BUCKETS])


class FastTextObjective(WindowObjective):
    """The training of FastText: vectors of the words themselves ("own"), of the n-gram buckets in
    use ("subwords"; the most used first, so that they are close together) and target vectors
    ("output")."""

    def __init__(self, model: FastText, sentences: Sentences, threads: int) -> None:
        super().__init__(model, sentences, threads, partial(work_size, window=model.window))
        self._words = sentences.words
        self._subwords = model._grams()
        grams = self._subwords.ids(sentences.words)
        uses = np.repeat(np.maximum(sentences.counts, 1), np.diff(grams.offsets))
        buckets, rows = np.unique(grams.values, return_inverse=True)
        order = np.argsort(-np.bincount(rows, uses, len(buckets)), kind="stable")
        rank = np.empty(len(buckets), np.int32)
        rank[order] = np.arange(len(buckets), dtype=np.int32)
        self._buckets: Int32 = buckets[order].astype(np.int32)
        rng = np.random.default_rng(model.seed)
        self._start_rows(OWN, len(sentences.words), rng)
        self._start_rows(SUBWORDS, len(buckets), rng)
        own, table, output = (self.arrays[name] for name in (OWN, SUBWORDS, "output"))
        self._train = partial(train_fasttext, own, table, output, rank[rows], grams.offsets)

    def _sums(self) -> tuple[Float32, Int64, Float32]:
        """The sum of each word's n-gram vectors, their number, and the table of n-grams."""
        table = self._found(SUBWORDS)
        return *SubwordVectors(self._subwords, table, self._buckets).sums_of(self._words), table

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner defines it: "vectors", "subwords" and their "buckets", and "output"."""
        vectors, arrays = self._found(OWN), super().learned()
        if not self._subwords.max_n:
            return {"vectors": vectors, **arrays}
        sums, many, table = self._sums()
        vectors += sums
        vectors /= (many + 1).astype(np.float32)[:, None]
        return {"vectors": vectors, BUCKETS: self._buckets, SUBWORDS: table, **arrays}

    def continue_from(self, start: FittedVectors) -> None:
        """As Learner defines it. Vectors of the same n-grams are used, and each word's own is set
        so that the mean of its rows is its vector.

        Raises SettingsError where the vectors to start from have other n-grams.
        """
        super().continue_from(start)
        V, d = start.vectors.vectors.shape
        grams, table, known = self._subwords, self.arrays[SUBWORDS], start.vectors.subwords
        if isinstance(known, SubwordVectors):
            if known.grams != grams:
                raise SettingsError(
                    f"the vectors to start from have {known.grams}, but min_n is {grams.min_n}, "
                    f"max_n {grams.max_n} and buckets {grams.buckets}; expected the same"
                )
            if known.buckets is None:
                table[:, :d] = known.table[self._buckets]
            else:
                _, here, there = np.intersect1d(
                    self._buckets, known.buckets, True, return_indices=True
                )
                table[here, :d] = known.table[there]
        sums, many, _ = self._sums()
        vectors = start.vectors.vectors * (many[:V] + 1).astype(np.float32)[:, None]
        self.arrays[OWN][:V, :d] = vectors - sums[:V]
