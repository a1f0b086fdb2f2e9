"""Known words that an unknown one may have been meant to be.

suggestions("quikc", index.frequent_terms(), index.knows, vectors)    # ["quick", …]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastseq.settings import whole
from fastseq.vectors.spelling import edit_distances, nearest_spellings, reach_of
from fastseq.vectors.words import WordVectors

# words -> whether each is known; None for one that does not matter, as a stop word
Knows = Callable[[Sequence[str]], Sequence[bool | None]]

MOST = 3
_LOOKED_AT = 200  # neighbours of an unknown word


def suggestions(
    word: str,
    words: Sequence[str],
    knows: Knows | None = None,
    vectors: WordVectors | None = None,
    most: int = MOST,
    threads: int | None = None,
) -> list[str]:
    """At most `most` known words like an unknown one, the likeliest first.

    They are those of the fewest edits, two at most; see spelling.nearest_spellings for what is an
    edit. With vectors of n-grams (fastText's models) they are looked for among the known words
    whose vectors are nearest to that of the word's n-grams, and the nearest come first; without
    such vectors, or where that finds none, among all, and the most frequent come first.

    Parameters
    ----------
    words : those known, by falling frequency
    knows : says which others are known, of the vectors' words; None: those in `words`
    vectors : of words

    Raises SettingsError for `most` below 1.
    """
    whole("most", most, 1)
    index = {known: row for row, known in enumerate(words)}
    found: list[str] = []
    if vectors is not None and vectors.subwords is not None:
        near = [other for other, _ in vectors.neighbors(word, _LOOKED_AT, threads)]
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
