"""Query expansion by nearest words, and suggestions for misspelt words.

    expand = Expander(WordVectors.load("vectors"))
    index.search("car insurance", expand=expand)

Each word of a query adds its own neighbours (Roy, Paul, Mitra & Garain 2016, "Using Word
Embeddings for Automatic Query Expansion", the variant without documents).

    suggestions("quikc", index.frequent_terms(), index.knows, vectors)    # ["quick", …]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from fastseq.settings import real, thread_count, whole
from fastseq.text.analyzer import Analyzer
from fastseq.vectors.phrases import DELIMITER
from fastseq.vectors.spelling import edit_distances, nearest_spellings, reach_of
from fastseq.vectors.words import Neighbors, WordVectors

# of those measured on Cranfield and SciFact, with stems and without, they gain most on average
# and lose least anywhere: see bench/expansion.py
TERMS, WEIGHT = 3, 0.1
_SPARE = 8  # further neighbours, to replace those that are in the query already

MOST = 3  # suggestions
_CANDIDATES = 200  # neighbours of an unknown word

# words -> whether each is known; None for one that is ignored, such as a stop word
Knows = Callable[[Sequence[str]], Sequence[bool | None]]


class Expander:
    """Adds the nearest words to those of each query; for the argument `expand` of `Index.search`.

    Several threads may use one object.

    Raises SettingsError for terms or threads below 1 or a weight that is not finite and at least 0,
    FormatError if the analyzer of the vectors' training is not available.

    Parameters
    ----------
    vectors : of words; with subwords, unknown words have neighbours too
    terms : maximum neighbours of each word of a query
    weight : weight of a neighbour with cosine 1; the words of the query have 1
    analyzer : splits queries into words, by default with the tokenizer `word`; None: that of the
        vectors' training, else Analyzer()
    threads : None: all cores
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
        self.analyzer = vectors.analyzer(analyzer)
        self.threads = thread_count(threads)

    def __call__(self, queries: Sequence[str]) -> list[dict[str, float]]:
        """For each query the words near its own and their weights, in descending order.

        A word near several has its largest weight. Words of the query, and those with a cosine of 0
        or less, are left out; the words of a phrase are separated by spaces.
        """
        asked = [self.vectors.words_of(query, self.analyzer) for query in queries]
        made = self.vectors.subwords is not None
        words = [w for w in dict.fromkeys(w for a in asked for w in a) if made or w in self.vectors]
        if not words:
            return [{} for _ in queries]
        found = self.vectors.neighbors_of_each(words, self.terms + _SPARE, self.threads)
        near = dict(zip(words, found, strict=True))
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


def suggestions(
    word: str,
    words: Sequence[str],
    knows: Knows | None = None,
    vectors: WordVectors | None = None,
    most: int = MOST,
    threads: int | None = None,
) -> list[str]:
    """At most `most` known words similar to an unknown one, the most likely first.

    They are those with the fewest edits, at most two (see spelling.nearest_spellings). With vectors
    of n-grams (fastText's models) candidates are the known words nearest to the word by vector, in
    that order; otherwise, or if these give none, all known words, the most frequent first.

    Parameters
    ----------
    words : known ones, by descending frequency
    knows : which of the vectors' words are known; None: those in `words`
    vectors : of words

    Raises SettingsError for `most` below 1.
    """
    whole("most", most, 1)
    index = {known: row for row, known in enumerate(words)}
    found: list[str] = []
    if vectors is not None and vectors.subwords is not None:
        near = [other for other, _ in vectors.neighbors(word, _CANDIDATES, threads)]
        there = knows(near) if knows is not None else [other in index for other in near]
        near = [other for other, known in zip(near, there, strict=True) if known]
        edits = edit_distances(word, near).tolist()
        least = min((n for n in edits if n), default=0)
        if least <= reach_of(word):
            found = [other for other, n in zip(near, edits, strict=True) if n == least > 0]
    if not found:
        found = nearest_spellings(word, words, index, most)
        edits = edit_distances(word.lower(), [other.lower() for other in found]).tolist()
        found = [other for other, n in zip(found, edits, strict=True) if n == min(edits)]
    return found[:most]
