"""Known words that are spelt like an unknown one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from fastseq.types import Int64

_LONGEST = 64  # maximum characters of a word with suggestions


def nearest_spellings(
    word: str, words: Sequence[str], index: Mapping[str, int], most: int = 3
) -> list[str]:
    """At most `most` words with a spelling similar to `word`, the most likely first.

    The same letters in lower, upper or title case come first, then words by edit distance
    (insertions, deletions, substitutions, swaps of neighbours): at most two, one for up to three
    characters, none for a single one. Equals keep the vocabulary's order, usually by frequency.

    words : V of them, in order; index : the position of each
    """
    cased = dict.fromkeys([word.lower(), word.capitalize(), word.title(), word.upper()])
    found = [other for other in cased if other in index and other != word]
    found.sort(key=index.__getitem__)
    reach = reach_of(word)
    if reach and len(found) < most and len(word) <= _LONGEST:
        near = [w for w in words if -reach <= len(w) - len(word) <= reach]
        distances = edit_distances(word, near)
        order = np.argsort(distances, kind="stable")
        likely = (near[i] for i in order if distances[i] <= reach)
        found += islice((w for w in likely if w not in found), most)
    return found[:most]


def reach_of(word: str) -> int:
    """Maximum edit distance of suggestions."""
    return 0 if len(word) < 2 else 1 if len(word) < 4 else 2


def edit_distances(word: str, words: Sequence[str]) -> Int64:
    """int64[n]: edit distance between `word` and each of some words, swaps of neighbours included:
    optimal string alignment (Damerau 1964) with the table of Wagner & Fischer (1974), computed for
    all words at once."""
    if not words:
        return np.zeros(0, np.int64)
    width = max(map(len, words))
    codes = np.array(words, f"U{width}").view(np.uint32).reshape(len(words), width).T.copy()
    own = [ord(c) for c in word]
    # before[j], row[j]: edits between the first i - 1, i characters of `word` and j of the others
    row = np.repeat(np.arange(width + 1, dtype=np.uint8)[:, None], len(words), axis=1)
    before = earlier = row
    for i, code in enumerate(own, 1):
        earlier, before, row = before, row, np.empty_like(row)
        row[0] = i
        same = codes == code
        for j in range(1, width + 1):
            cell = before[j - 1] + ~same[j - 1]
            np.minimum(cell, before[j] + np.uint8(1), out=cell)
            np.minimum(cell, row[j - 1] + np.uint8(1), out=cell)
            if i > 1 and j > 1:
                swapped = same[j - 2] & (codes[j - 1] == own[i - 2])
                np.minimum(cell, earlier[j - 2] + 1, out=cell, where=swapped)
            row[j] = cell
    lengths: npt.NDArray[np.intp] = np.fromiter(map(len, words), np.intp, len(words))
    return row[lengths, np.arange(len(words))].astype(np.int64)
