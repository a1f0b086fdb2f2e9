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
from fastseq.kernels.vectors.fasttext import train_fasttext, work_size
from fastseq.models.word_vectors.base import Start
from fastseq.models.word_vectors.sentences import Sentences
from fastseq.models.word_vectors.windowed import WindowModel, WindowObjective
from fastseq.text.analyzer import Analyzer
from fastseq.text.subwords import Subwords
from fastseq.types import Int32
from fastseq.vectors.subword_vectors import ARRAY, BUCKETS, SubwordVectors

OWN = "own"  # array of the words' own vectors, while training


class FastText(WindowModel):
    """Vectors of words that are near each other where the words occur in like surroundings, or are
    written alike; words never seen, misspelt ones among them, have vectors too.

    Parameters
    ----------
    dimensions : of a vector
    architecture : "skipgram" (each word of the context against the word) or "cbow" (their mean)
    loss : "negative" (sampling) or "hierarchical" (softmax)
    low, high : the fewest and the most characters of an n-gram; "<" and ">" around the word count
    buckets : that n-grams are hashed into; those that no word falls into take no memory
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
    learning_rate : at the beginning
    last_rate : at the end, linear between
    analyzer : what a word is; None: Analyzer()
    seed : of the first vectors, the windows, the negatives
    threads : to work with; None for every core. One thread repeats bit for bit, several do not
    memory : of ids of the corpus to hold; more goes to a temporary file

    Attributes
    ----------
    vectors_ : WordVectors, which make vectors of any word
    history_ : {name: a value for each epoch}
    """

    kind: ClassVar[str] = "fasttext"
    most_window: ClassVar[int] = 1 << 12  # each place of it has two rows of working memory

    low: int
    high: int
    buckets: int
    learning_rate: float

    def __init__(
        self,
        *,
        dimensions: int = 100,
        architecture: str = "skipgram",
        loss: str = "negative",
        low: int = 3,
        high: int = 6,
        buckets: int = 2_000_000,
        window: int = 5,
        negatives: int = 5,
        power: float = 0.5,
        sample: float = 1e-4,
        min_count: int = 5,
        max_vocabulary: int | None = None,
        phrases: int = 0,
        phrase_threshold: float = 10.0,
        epochs: int = 5,
        learning_rate: float = 0.05,
        last_rate: float = 1e-4,
        analyzer: Analyzer | None = None,
        seed: int = 0,
        threads: int | None = None,
        memory: str | int = "1GB",
    ) -> None:
        self._store(locals())

    def _check_kind(self) -> None:
        super()._check_kind()
        Subwords(self.low, self.high, self.buckets)

    @property
    def first_rate(self) -> float:
        """The learning rate that training begins with."""
        return self.learning_rate

    def _objective(self, sentences: Sentences, parts: int) -> FastTextObjective:
        return FastTextObjective(self, sentences, parts)

    def _pieces(self, arrays: Mapping[str, Any]) -> SubwordVectors | None:
        grams = Subwords(self.low, self.high, self.buckets)
        if not grams.high:
            return None
        return SubwordVectors(grams, arrays[ARRAY], arrays[BUCKETS])


class FastTextObjective(WindowObjective):
    """What a training of FastText learns: vectors of the words themselves ("own"), of the buckets
    of n-grams in use ("subwords"; those that most of the text uses first, so that they lie
    together) and of what is predicted ("output")."""

    def __init__(self, model: FastText, sentences: Sentences, parts: int) -> None:
        super().__init__(model, sentences, parts)
        self._words = sentences.words
        self._subwords = Subwords(model.low, model.high, model.buckets)
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
        if not self._subwords.high:
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
                    f"the vectors to go on from have the n-grams {start.pieces.settings}; expected "
                    f"low {grams.low}, high {grams.high}, buckets {grams.buckets}"
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
