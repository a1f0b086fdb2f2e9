"""Vectors of documents, made of those of their words: plain means, and SIF.

SIF, smooth inverse frequency (Arora, Liang & Ma, "A Simple but Tough-to-Beat Baseline for Sentence
Embeddings", 2017, algorithm 1): each word weighs a / (a + p(w)), p(w) being its share of all words,
and the first principal component of all documents, which is mostly syntax and common words, is
taken out. On retrieval sets it beats the mean with the words' shares of the text that the vectors
were trained on and a small `a`; where the documents are all of one field, taking out two or three
components (as Mu & Viswanath 2018, "All-but-the-Top", do with words) is better still: see
bench/documents.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import NotFittedError, located
from fastseq.settings import one_of, real, thread_count, whole
from fastseq.store.texts import TextSource, open_texts
from fastseq.text.analyzer import Analyzer
from fastseq.types import Float32, Float64, Int32

if TYPE_CHECKING:
    from fastseq.vectors.words import WordVectors

METHODS = ("mean", "sif")
_ROWS = 4096  # documents whose products are added up at a time


class DocumentVectors:
    """Turns texts into vectors.

    Phrases that the vectors were trained with are joined in the texts too.

    Parameters
    ----------
    vectors : of words
    analyzer : how texts become words; None: the one that the vectors were trained with
        (`vectors.settings["analyzer"]`), else Analyzer()
    method : "mean" of the known words' vectors, or "sif"
    a : SIF's smoothing, above 0; 1e-3 to 1e-4 in the paper. None: 1e-4, and 1e-2 where the vectors
        have no counts: the shares of words in a few texts on one subject tell less
    components : SIF's principal components to take out, from 0; 1 in the paper
    threads : None: every core

    Attributes
    ----------
    components_ : float32[components, d], SIF's: learned by `fit`, None before; those that were
        learned earlier may be set. Each of length 1, or zeros where the texts had no more
    frequencies_ : {word: share} that `fit` learned of its texts, where the vectors have no counts
    empty_ : texts without a known word among those transformed last; their vectors are zeros

    Raises
    ------
    SettingsError
        Another method, an `a` that is not above 0, components below 0, threads below 1.
    FormatError
        The analyzer that the vectors were trained with cannot be had.
    """

    def __init__(
        self,
        vectors: WordVectors,
        analyzer: Analyzer | None = None,
        method: str = "sif",
        a: float | None = None,
        components: int = 1,
        threads: int | None = None,
    ) -> None:
        self.vectors = vectors
        self.analyzer = vectors.analyzer() if analyzer is None else analyzer
        self.method = one_of("method", method, METHODS)
        if a is None:
            a = 1e-2 if vectors.counts is None else 1e-4
        self.a = real("a", a, lambda value: 0 < value < np.inf, "a number above 0")
        self.threads = thread_count(threads)
        self.components = whole("components", components, 0)
        self.components_: Float32 | None = None
        self.frequencies_: dict[str, float] | None = None
        self.empty_ = 0

    def fit(self, texts: Any) -> DocumentVectors:
        """Learn SIF's components of some texts; returns itself. `texts` as `transform` takes them.

        Raises DataError for what is no text, or not UTF-8.
        """
        if self.method == "sif":
            self._learn(texts)
        return self

    def transform(self, texts: Any) -> Float32:
        """float32[D, d]: a vector of each text.

        Parameters
        ----------
        texts : strings, types.Texts, an Arrow column of strings, a path, a Corpus or a table

        Raises
        ------
        DataError
            What is no text, or not UTF-8.
        NotFittedError
            SIF without its components.
        """
        if self.method == "sif" and self.components_ is None:
            raise NotFittedError("SIF's components are not known yet: call fit with some texts")
        return self._without_component(self._averages(open_texts(texts)))

    def fit_transform(self, texts: Any) -> Float32:
        """`fit`, then `transform`, of the same texts."""
        if self.method == "sif":
            return self._without_component(self._learn(texts))
        return self.transform(texts)

    def _learn(self, texts: Any) -> Float32:
        """Learn frequencies, where the vectors have none, and components; returns the weighted
        means."""
        source = open_texts(texts)
        if self.vectors.counts is None:
            slices = list(source.slices())
            source = TextSource(lambda: iter(slices), source.where)
            self.frequencies_ = self._shares(source)
        averages = self._averages(source)
        self.components_ = principal_components(averages, self.components)
        return averages

    def _without_component(self, averages: Float32) -> Float32:
        if self.components_ is None or self.method == "mean":
            return averages
        projected: Float32 = averages @ self.components_.T
        averages -= projected @ self.components_
        return averages

    def _averages(self, source: TextSource) -> Float32:
        """Weighted means of the known words of each text, zeros where there are none."""
        import scipy.sparse

        parts = [np.zeros((0, self.vectors.dimensions), np.float32)]
        self.empty_ = 0
        for ids, offsets, words in self._encoded(source):
            known, weighted = self._weighted(words)
            used = known[ids]
            ends = np.concatenate([[0], np.cumsum(used)])[offsets]
            lengths = np.diff(ends)
            shares = np.repeat(1.0 / np.maximum(lengths, 1), lengths).astype(np.float32)
            shape = (len(lengths), len(words))
            means = scipy.sparse.csr_matrix((shares, ids[used], ends), shape) @ weighted
            parts.append(means.astype(np.float32, copy=False))
            self.empty_ += int((lengths == 0).sum())
        return np.concatenate(parts)

    def _encoded(self, source: TextSource) -> Iterator[tuple[Int32, Any, list[str]]]:
        """For each slice: its words as numbers, where each text begins, the different words."""
        from fastseq.text.counting import taken
        from fastseq.text.lexicon import Lexicon

        lexicon = Lexicon(self.analyzer)
        first = 0
        for texts in source.slices():
            with located(source.where, first):
                tokens = lexicon.encode(texts)
            first += len(texts)
            distinct, ids = np.unique(tokens.values, return_inverse=True)
            words, offsets = taken(lexicon.terms(), distinct).to_strings(), tokens.offsets
            rows: Int32 = ids.astype(np.int32)
            if self.vectors.phrases is not None:
                ends = np.diff(offsets).cumsum()
                words, rows = self.vectors.phrases.join(words, rows, ends)
                offsets = np.concatenate([np.zeros(1, np.int64), ends])
            yield rows, offsets, words

    def _weighted(self, words: list[str]) -> tuple[Any, Float32]:
        """Which words are known, bool[n], and their vectors times their weights, float32[n, d]."""
        rows = self.vectors.rows_of(words)
        known = rows >= 0
        weighted = np.zeros((len(words), self.vectors.dimensions), np.float32)
        weighted[known] = self.vectors.vectors[rows[known]]
        if self.vectors.subwords is not None and not known.all():
            made = np.flatnonzero(~known)
            weighted[made] = self.vectors.subwords.vectors_of([words[i] for i in made])
            known = np.ones(len(words), np.bool_)
        if self.method == "sif":
            weights = self.a / (self.a + self._frequencies(words, rows))
            weighted *= weights[:, None].astype(np.float32)
        return known, weighted

    def _frequencies(self, words: list[str], rows: Int32) -> Float64:
        """p(w) of each word; 0 of one that was not counted."""
        counts, shares = self.vectors.counts, self.frequencies_
        if counts is not None:
            found: Float64 = np.where(rows >= 0, counts[rows], 0) / max(1, int(counts.sum()))
            return found
        return np.array([(shares or {}).get(word, 0.0) for word in words])

    def _shares(self, source: TextSource) -> dict[str, float]:
        counts: dict[str, int] = {}
        for ids, _, words in self._encoded(source):
            for word, count in zip(words, np.bincount(ids, minlength=len(words)), strict=True):
                counts[word] = counts.get(word, 0) + int(count)
        total = max(1, sum(counts.values()))
        return {word: count / total for word, count in counts.items()}


def principal_components(rows: Float32, n: int) -> Float32:
    """float32[n, d]: the first right singular vectors of float32[D, d], not centred, of length 1;
    the largest element of each is positive. Zeros where the rows have no more directions."""
    d = rows.shape[1]
    gram = np.zeros((d, d))
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS].astype(np.float64)
        gram += some.T @ some
    squares, vectors = np.linalg.eigh(gram)
    found = np.zeros((n, d), np.float32)
    for row in range(min(n, d)):
        component = vectors[:, -1 - row]
        if squares[-1 - row] > squares[-1] * d * np.finfo(np.float64).eps:
            found[row] = component * np.sign(component[np.argmax(np.abs(component))])
    return found
