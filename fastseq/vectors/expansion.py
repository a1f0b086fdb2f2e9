"""Words to look for beside those of a query: the nearest by their vectors.

    expand = Expander(WordVectors.load("vectors"))
    index.search("car insurance", expand=expand)

Each word of a query brings its own neighbours (Roy, Paul, Mitra & Garain 2016, "Using Word
Embeddings for Automatic Query Expansion", the variant that looks at no documents).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from fastseq.settings import real, thread_count, whole
from fastseq.text.analyzer import Analyzer
from fastseq.vectors.phrases import DELIMITER
from fastseq.vectors.words import Neighbors, WordVectors

# of those measured on Cranfield and SciFact, with stems and without, they gain most on average
# and lose least anywhere: see bench/expansion.py
TERMS, WEIGHT = 3, 0.1
_SPARE = 8  # neighbours looked for in the place of those that the query has already


class Expander:
    """Finds the words nearest to those of each query; what `Index.search` takes as `expand`.

    Several threads may use one object.

    Parameters
    ----------
    vectors : of words; with those of n-grams, words never seen have neighbours too
    terms : neighbours of each word of a query, at most
    weight : a neighbour weighs its cosine times this, where the words of the query weigh 1
    analyzer : how queries become words; None: that of the vectors' training, else Analyzer()
    threads : None: every core

    Raises
    ------
    SettingsError
        terms or threads below 1, a weight that is not a finite number from 0 on.
    FormatError
        The analyzer that the vectors were trained with cannot be had.
    """

    def __init__(
        self,
        vectors: WordVectors,
        terms: int = TERMS,
        weight: float = WEIGHT,
        analyzer: Analyzer | None = None,
        threads: int | None = None,
    ) -> None:
        self.vectors = vectors
        self.terms = whole("terms", terms, 1)
        self.weight = real("weight", weight, lambda w: w >= 0 and isfinite(w), "at least 0")
        self.analyzer = vectors.analyzer() if analyzer is None else analyzer
        self.threads = thread_count(threads)

    def __call__(self, queries: Sequence[str]) -> list[dict[str, float]]:
        """For each query the words near to its own and their weights, the heaviest first.

        A word near to several has the largest weight. Words of the query are not among them, nor
        those with a cosine of 0 or less; a phrase is given with spaces between its words.
        """
        asked = [self.vectors.words_of(query, self.analyzer) for query in queries]
        made = self.vectors.subwords is not None
        words = [w for w in dict.fromkeys(w for a in asked for w in a) if made or w in self.vectors]
        if not words:
            return [{} for _ in queries]
        near = dict(
            zip(
                words,
                self.vectors.neighbors_of_each(words, self.terms + _SPARE, self.threads),
                strict=True,
            )
        )
        return [self._of(query, near) for query in asked]

    def _of(self, words: list[str], near: dict[str, Neighbors]) -> dict[str, float]:
        own = set(words)
        found: dict[str, float] = {}
        for word in dict.fromkeys(words):
            others = [pair for pair in near.get(word, ()) if pair[0] not in own and pair[1] > 0]
            for other, cosine in others[: self.terms]:
                if self.vectors.phrases is not None:
                    other = other.replace(DELIMITER, " ")
                found[other] = max(found.get(other, 0.0), self.weight * cosine)
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))
