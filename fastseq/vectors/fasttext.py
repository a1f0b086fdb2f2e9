"""FastText: vectors of words that are the mean of a vector of their own and those of their
character n-grams.

    model = FastText(dimensions=100, epochs=5)
    model.fit("corpus.parquet")
    model.vectors_.neighbors("misspeling", k=5)  # a word never seen

Source: Bojanowski, Grave, Joulin & Mikolov 2017, "Enriching Word Vectors with Subword
Information". What the paper leaves open is as in its authors' program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError
from fastseq.kernels.arrays import aligned_zeros
from fastseq.kernels.fasttext import train_fasttext, work_size
from fastseq.kernels.simd.width import LANES
from fastseq.kernels.windows import LISTS, room_for
from fastseq.settings import fraction, one_of, real, whole
from fastseq.text.analyzer import Analyzer
from fastseq.text.subwords import Subwords
from fastseq.types import Float32, Float64, Int32, Int64
from fastseq.vectors.base import Start, VectorModel
from fastseq.vectors.chances import alias_table, huffman_tree, keep_chances, no_tree
from fastseq.vectors.pieces import ARRAY, BUCKETS, SubwordVectors
from fastseq.vectors.sentences import Sentences
from fastseq.vectors.word2vec import ARCHITECTURES, LOSSES

OWN = "own"  # array of the words' own vectors, while training


class FastText(VectorModel):
    """Vectors of words that are near each other where the words occur in like surroundings, or are
    written alike; words never seen, misspelt ones among them, have vectors too.

    Parameters
    ----------
    dimensions : of a vector
    architecture : "skipgram" (the word against each of its context) or "cbow" (the mean of the
        context against the word)
    loss : "negative" (sampling) or "hierarchical" (softmax)
    low, high : the fewest and the most characters of an n-gram; "<" and ">" around the word count
    buckets : that n-grams are hashed into; those that no word falls into take no memory
    window : words on each side at most; the reach of every word is drawn from 1 to it
    negatives : words drawn for every pair, where the loss is "negative"
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

    architecture: str
    loss: str
    low: int
    high: int
    buckets: int
    window: int
    negatives: int
    power: float
    sample: float
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
        one_of("architecture", self.architecture, ARCHITECTURES)
        one_of("loss", self.loss, LOSSES)
        Subwords(self.low, self.high, self.buckets)
        whole("window", self.window, 1, 1 << 12)
        whole("negatives", self.negatives, 1, 1 << 10)
        real("power", self.power, lambda p: 0 <= p <= 4, "0 to 4")
        fraction("sample", self.sample)

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


class FastTextObjective:
    """What a training of FastText learns, float32[·, W] with W in whole registers: vectors of the
    words themselves ("own"), of the buckets of n-grams in use ("subwords"; those that most of the
    text uses first, so that they lie together) and of what is predicted ("output": words, or inner
    nodes of a tree)."""

    def __init__(self, model: FastText, sentences: Sentences, parts: int) -> None:
        V, d = len(sentences.words), model.dimensions
        self._model = model
        self._words = sentences.words
        width = -(-d // LANES) * LANES
        grams = Subwords(model.low, model.high, model.buckets).ids(sentences.words)
        uses = np.repeat(np.maximum(sentences.counts, 1), np.diff(grams.offsets))
        buckets, rows = np.unique(grams.values, return_inverse=True)
        order = np.argsort(-np.bincount(rows, uses, len(buckets)), kind="stable")
        rank = np.empty(len(buckets), np.int32)
        rank[order] = np.arange(len(buckets), dtype=np.int32)
        self._buckets: Int32 = buckets[order].astype(np.int32)
        self._grams: Int32 = rank[rows]
        self._gram_ends = grams.offsets
        self.arrays: dict[str, Float32] = {
            name: aligned_zeros(n * width).reshape(n, width)
            for name, n in ((OWN, V), (ARRAY, len(buckets)), ("output", V))
        }
        rng = np.random.default_rng(model.seed)
        for name in (OWN, ARRAY):
            draw = rng.random((len(self.arrays[name]), d), np.float32)
            self.arrays[name][:, :d] = (draw * 2 - 1) / np.float32(d)
        self._keep = keep_chances(sentences.counts, model.sample)
        self._alias = alias_table(sentences.counts, model.power)
        tree = huffman_tree(sentences.counts) if model.loss == "hierarchical" else no_tree()
        self._tree = tree
        self._room = room_for(max(model.negatives + 1, tree.longest))
        self._spaces = [self._space(width) for _ in range(parts)]
        self._kept: list[Int32] = [np.empty(0, np.int32) for _ in range(parts)]

    def _space(self, width: int) -> tuple[Float32, Int64]:
        work = aligned_zeros(work_size(self._room, width, self._model.window))
        return work, np.zeros((LISTS, self._room), np.int64)

    def learned(self) -> dict[str, npt.NDArray[Any]]:
        """As Learner has it: "vectors", "subwords" and their "buckets", and "output" unless that is
        of a tree, which is another one with other counts."""
        d = self._model.dimensions
        arrays: dict[str, npt.NDArray[Any]] = {
            name: np.ascontiguousarray(self.arrays[name][:, :d]) for name in (OWN, ARRAY, "output")
        }
        vectors = arrays.pop(OWN)
        if self._model.loss == "hierarchical":
            del arrays["output"]
        grams = Subwords(self._model.low, self._model.high, self._model.buckets)
        if not grams.high:
            del arrays[ARRAY]
            return {"vectors": vectors, **arrays}
        sums, many = SubwordVectors(grams, arrays[ARRAY], self._buckets).sums_of(self._words)
        vectors += sums
        vectors /= (many + 1).astype(np.float32)[:, None]
        return {"vectors": vectors, BUCKETS: self._buckets, **arrays}

    def go_on(self, start: Start) -> None:
        """As Learner has it. Vectors of the same n-grams are taken over, and each word's own is
        made so that the mean of its rows is its vector. A tree's nodes begin anew.

        Raises SettingsError where the vectors to go on from have other n-grams.
        """
        model = self._model
        V, d = start.arrays["vectors"].shape
        grams = Subwords(model.low, model.high, model.buckets)
        table = self.arrays[ARRAY]
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
        if output is not None and output.shape == (V, d) and model.loss == "negative":
            self.arrays["output"][:V, :d] = output

    def learn(
        self, part: int, tokens: Int32, ends: Int64, rates: tuple[float, float], seed: int,
        seen: Float64,
    ) -> None:  # fmt: skip
        """As Objective has it."""
        self._run(part, tokens, ends, rates, seed, seen, 64)

    def measure(self, tokens: Int32, ends: Int64, seed: int) -> float | None:
        """The mean loss of a pair; nothing moves, the learning rate being zero."""
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
        train_fasttext(
            self.arrays[OWN], self.arrays[ARRAY], self.arrays["output"], self._grams,
            self._gram_ends, tokens, ends, self._keep, self._alias, tree.paths, tree.nodes,
            tree.codes, model.window, model.negatives, model.architecture == "cbow", *rates,
            np.array([seed], np.uint64), self._kept[part], *self._spaces[part], seen, loss_every,
        )  # fmt: skip
