"""Spelling suggestions for a word, and completions of the beginning of one."""

from __future__ import annotations

from collections.abc import Callable, Container

import numpy as np

from fastseq.settings import whole
from fastseq.text.vocabulary import SortedWords
from fastseq.types import Int64

MOST_SUGGESTIONS = 3
MOST_COMPLETIONS = 10
_SHORTEST = 3  # letters of a word that has suggestions
_TWO_EDITS = 6  # letters from which a suggestion may be two edits away


def suggest(
    word: str,
    words: SortedWords,
    df: Int64,
    stop_words: Container[str] = (),
    most: int = MOST_SUGGESTIONS,
    exists: Callable[[str], bool] | None = None,
) -> list[str]:
    """At most `most` other words with a similar spelling, the most likely first.

    They are ranked by edits (see `SortedWords.fuzzy`), then by descending document frequency, then
    by spelling; two edits are allowed from six letters on, else one. Stop words and words of one or
    two letters have no suggestions: too many words are as near.

    word : as the analyzer writes words, before stemming
    words : the vocabulary
    df : int64[V], the document frequency of each of its words; one of 0 is never suggested
    stop_words : never suggested
    exists : whether a document has a word as it is written, asked of the likely ones alone; None
        where all are known to

    Raises SettingsError for `most` below 1.
    """
    most = whole("most", most, 1)
    if len(word) < _SHORTEST or word in stop_words:
        return []
    ids, edits = words.fuzzy(word, 1 if len(word) < _TWO_EDITS else 2)
    counts = df[ids]
    likely = np.flatnonzero((edits > 0) & (counts > 0))
    likely = likely[np.lexsort((-counts[likely], edits[likely]))]
    found: list[str] = []
    for start in range(0, len(likely), most):
        others = words.strings(ids[likely[start : start + most]])
        found += [
            other for other in others
            if other not in stop_words and (exists is None or exists(other))
        ]  # fmt: skip
        if len(found) >= most:
            break
    return found[:most]


def complete(
    prefix: str, words: SortedWords, df: Int64, most: int = MOST_COMPLETIONS
) -> list[tuple[str, int]]:
    """The `most` words of the highest document frequency that begin with `prefix`, and their
    frequencies, equals by spelling. The prefix itself is one of them where it is a word.

    prefix : as the analyzer writes words, before stemming
    words : the vocabulary
    df : int64[V], the document frequency of each of its words; those with 0 are left out

    Raises SettingsError for `most` below 1.
    """
    most = whole("most", most, 1)
    ids = words.prefix(prefix.encode("utf-8", "surrogatepass"))
    counts = df[ids]
    if most < len(counts):
        least = np.partition(counts, len(counts) - most)[len(counts) - most]
        above = np.flatnonzero(counts > least)
        equal = np.flatnonzero(counts == least)[: most - len(above)]
        ids = ids[np.sort(np.concatenate([above, equal]))]
        counts = df[ids]
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    return list(zip(words.strings(ids[order]), counts[order].tolist(), strict=True))
