"""Searching for a single character of a script that is indexed as bigrams, by definition.

Its frequency in a document is the larger of the sums of those of the bigrams that it begins and of
those that it ends, and that of the character alone; its documents are those where this is not 0.
A document's length and norm are of its own tokens. Nothing of fastseq is imported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from uniseg.graphemecluster import grapheme_clusters

from tests.naive import ranking, text, words

Documents = Sequence[Sequence[str]]


@lru_cache(1 << 12)
def clusters_of(tokenizer: str, term: str) -> tuple[str, ...]:
    """The characters of a term: grapheme clusters with unicode, code points with word."""
    return tuple(grapheme_clusters(term)) if tokenizer == "unicode" else tuple(term)


@lru_cache(1 << 12)
def is_character(tokenizer: str, term: str) -> bool:
    """Whether a term is a single character of a script indexed as bigrams."""
    script = words.script if tokenizer == "unicode" else text.script
    return len(clusters_of(tokenizer, term)) == 1 and bool(script(term[0]))


def frequency(tokenizer: str, counts: Mapping[str, int], character: str) -> int:
    """The occurrences of a character in a document, given its tokens."""
    begins = ends = 0
    for term, count in counts.items():
        clusters = clusters_of(tokenizer, term)
        if len(clusters) == 2 and all(is_character(tokenizer, part) for part in clusters):
            begins += count * (clusters[0] == character)
            ends += count * (clusters[1] == character)
    return max(begins, ends) + counts.get(character, 0)


class Collection:
    """Documents as lists of tokens, searched in float64."""

    def __init__(self, tokenizer: str, documents: Documents) -> None:
        self._tokenizer = tokenizer
        self.counts = [Counter(document) for document in documents]
        self._df = Counter(token for count in self.counts for token in count)

    def frequencies(self, term: str) -> list[int]:
        """The frequency of a query's term in each document."""
        if is_character(self._tokenizer, term):
            return [frequency(self._tokenizer, count, term) for count in self.counts]
        return [count[term] for count in self.counts]

    def _asked(self, query: ranking.Query) -> tuple[dict[str, float], dict[str, list[int]]]:
        """The weights of the query's terms that a document has, and their frequencies."""
        weights = query if isinstance(query, Mapping) else Counter(query)
        tfs = {term: self.frequencies(term) for term in weights}
        return {t: float(weight) for t, weight in weights.items() if any(tfs[t])}, tfs

    def bm25(
        self, query: ranking.Query, variant: str = "lucene", k1: float = 1.2, b: float = 0.75,
        delta: float = 0.5,
    ) -> ranking.Scores:  # fmt: skip
        weights, tfs = self._asked(query)
        lengths = [count.total() for count in self.counts]
        mean, n = sum(lengths) / len(lengths), len(lengths)
        scores, found = np.zeros(n), np.zeros(n, bool)
        for term, weight in weights.items():
            df = sum(tf > 0 for tf in tfs[term])
            idf = weight * ranking.bm25_idf(variant, df, n)
            for d, tf in enumerate(tfs[term]):
                found[d] |= tf > 0
                if tf or variant in ranking.BY_ABSENCE:
                    scores[d] += idf * ranking.bm25_frequency(
                        variant, tf, lengths[d], mean, k1, b, delta
                    )
        return scores, found

    def smart(self, query: ranking.Query, notation: str) -> ranking.Scores:
        of_documents, of_query = notation.split(".")
        weights, tfs = self._asked(query)
        n = len(self.counts)
        df = {term: sum(tf > 0 for tf in tfs[term]) for term in weights}
        asked = ranking._smart_vector(weights, of_query, df, n)
        scores, found = np.zeros(n), np.zeros(n, bool)
        for d, count in enumerate(self.counts):
            own = ranking._smart_vector(count, of_documents[:2] + "n", self._df, n)
            norm = math.sqrt(sum(weight**2 for weight in own.values()))
            norm = norm if of_documents[2] == "c" and norm else 1.0
            for term, weight in asked.items():
                if tf := tfs[term][d]:
                    found[d] = True
                    value = self._value(of_documents[0], tf, count)
                    value *= _idf(of_documents[1], df[term], n)
                    scores[d] += weight * value / norm
        return scores, found

    def _value(self, letter: str, tf: int, count: Counter[str]) -> float:
        of: dict[str, Callable[[], float]] = {
            "n": lambda: tf,
            "b": lambda: 1,
            "l": lambda: 1 + math.log(tf),
            "L": lambda: (1 + math.log(tf)) / (1 + math.log(count.total() / len(count))),
        }
        return of[letter]()


def _idf(letter: str, df: int, documents: int) -> float:
    if letter == "n":
        return 1.0
    ratio = documents / df if letter == "t" else (documents - df) / df
    return max(0.0, math.log(ratio)) if ratio else 0.0
