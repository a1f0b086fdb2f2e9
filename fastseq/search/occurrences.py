"""Where words, phrases and words near each other are among the tokens of texts.

A *slot* is one word of a query: it has tokens, with a weight each. Tokens are counted over all
texts, and those of a text follow one another.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastseq.types import Float64, Int32, Int64, Tokens, offsets_of, ranges


@dataclass(frozen=True, slots=True)
class Words:
    """Words that match together: one word, a phrase, or words near each other.

    slots      what the words are
    offsets    of a phrase, the position of each word in it
    slop       of a phrase: the moves of words that a match may need
    distance   of words near each other: the most other tokens among them; -1 for a phrase
    in_order   whether these must be in the given order
    """

    slots: tuple[int, ...]
    offsets: tuple[int, ...]
    slop: int = 0
    distance: int = -1
    in_order: bool = False


class Found(NamedTuple):
    """The n occurrences of words.

    first, last  int64[n]  their first and last token
    weights      float64[n]
    marked       int64[m]  the tokens to highlight
    until        int64[m]  the token up to whose start that goes, for the space within a phrase; -1
                           where it ends with the token
    slots        int32[m]  of the tokens to highlight
    """

    first: Int64
    last: Int64
    weights: Float64
    marked: Int64
    until: Int64
    slots: Int32


class SlotTokens:
    """The tokens of each slot."""

    def __init__(
        self, tokens: Tokens, words: Int64, slots: Int64, weights: Float64, count: int,
        word_count: int,
    ) -> None:  # fmt: skip
        """
        tokens : the words of each text
        words, slots, weights : pairs of a word and a slot that it matches, each once
        count, word_count : the numbers of slots and of words
        """
        self._offsets = tokens.offsets
        order = np.argsort(words, kind="stable")
        counts = np.bincount(words, minlength=word_count)
        pairs = offsets_of(counts)
        hits = np.flatnonzero((counts > 0)[tokens.values])
        own = tokens.values[hits]
        several = counts[own]
        pair = order[ranges(pairs[own], several)]
        places = np.repeat(hits, several)
        by_slot = np.argsort(slots[pair], kind="stable")
        self._tokens: Int64 = places[by_slot]
        self._weights: Float64 = weights[pair][by_slot]
        self._starts = offsets_of(np.bincount(slots[pair], minlength=count))

    def find(self, words: Words) -> Found:
        """The occurrences of words, by their first token."""
        if len(words.slots) == 1:
            (slot,) = words.slots
            tokens, weights = self._of(slot)
            no_end = np.full(len(tokens), -1, np.int64)
            return Found(
                tokens, tokens, weights, tokens, no_end, np.full(len(tokens), slot, np.int32)
            )
        if words.slop == 0 and words.distance < 0:
            return self._phrases(words)
        return self._scattered(words)

    def _of(self, slot: int) -> tuple[Int64, Float64]:
        part = slice(int(self._starts[slot]), int(self._starts[slot + 1]))
        return self._tokens[part], self._weights[part]

    def _texts_of(self, tokens: Int64) -> Int64:
        """The text of each token."""
        found: Int64 = np.searchsorted(self._offsets, tokens, "right") - 1
        return found

    def _phrases(self, words: Words) -> Found:
        own = [self._of(slot) for slot in words.slots]
        both = list(zip(own, words.offsets, strict=True))
        first = own[0][0]
        for (tokens, _), offset in sorted(both[1:], key=lambda each: len(each[0][0])):
            first = np.intersect1d(first, tokens - offset, assume_unique=True)
        last = first + words.offsets[-1]
        # words of two texts are no phrase
        inside = self._texts_of(first) == self._texts_of(last)
        first, last = first[inside], last[inside]
        weights = np.zeros(len(first))
        for (tokens, of_tokens), offset in both:
            weights += of_tokens[np.searchsorted(tokens, first + offset)]
        places = first[:, None] + np.array(words.offsets, np.int64)
        until = np.full(places.shape, -1, np.int64)
        until[:, :-1] = places[:, 1:]
        slots = np.tile(np.array(words.slots, np.int32), len(first))
        return Found(first, last, weights, places.reshape(-1), until.reshape(-1), slots)

    def _scattered(self, words: Words) -> Found:
        """The occurrences of phrases with a slop and of words near each other."""
        own = [self._of(slot) for slot in words.slots]
        of_texts = [self._texts_of(tokens) for tokens, _ in own]
        common = of_texts[0]
        for texts in of_texts[1:]:
            common = np.intersect1d(common, texts)
        first: list[int] = []
        last: list[int] = []
        weights: list[float] = []
        marked: list[int] = []
        slots: list[int] = []
        for text in np.unique(common).tolist():
            positions, weight = [], []
            for (tokens, of_tokens), texts in zip(own, of_texts, strict=True):
                part = slice(*np.searchsorted(texts, [text, text + 1]).tolist())
                positions.append(tokens[part].tolist())
                weight.append(dict(zip(positions[-1], of_tokens[part].tolist(), strict=True)))
            if words.distance < 0:
                found = sloppy_matches(positions, words.offsets, words.slop)
            elif words.in_order:
                found = ordered_matches(positions, words.distance)
            else:
                found = near_matches(positions, words.distance)
            for match in found:
                first.append(min(match))
                last.append(max(match))
                weights.append(sum(of[at] for of, at in zip(weight, match, strict=True)))
                marked += match
                slots += words.slots
        order = np.argsort(np.array(first, np.int64), kind="stable")
        return Found(
            np.array(first, np.int64)[order], np.array(last, np.int64)[order],
            np.array(weights, np.float64)[order], np.array(marked, np.int64),
            np.full(len(marked), -1, np.int64), np.array(slots, np.int32),
        )  # fmt: skip


def sloppy_matches(
    positions: Sequence[Sequence[int]], offsets: Sequence[int], slop: int
) -> list[tuple[int, ...]]:
    """The matches of a phrase with a slop in a text, as the positions of its words.

    The length of a match is the difference of the largest and the smallest position minus offset of
    its words (Lucene's SloppyPhraseMatcher); it is at most `slop`. Words at one position, of a
    phrase that repeats a word, are moved apart.

    positions : ascending, of each word
    """
    at = [0] * len(positions)
    latest_first = sorted(range(len(positions)), key=lambda word: -offsets[word])
    found = []
    while all(place < len(own) for place, own in zip(at, positions, strict=True)):
        match = [own[place] for place, own in zip(at, positions, strict=True)]
        if len(set(match)) < len(match):
            twice = next(word for word in latest_first if match.count(match[word]) > 1)
            at[twice] += 1
            continue
        moved = [place - offset for place, offset in zip(match, offsets, strict=True)]
        if max(moved) - min(moved) <= slop:
            found.append(tuple(match))
        at[moved.index(min(moved))] += 1
    return found


def near_matches(positions: Sequence[Sequence[int]], distance: int) -> list[tuple[int, ...]]:
    """The smallest intervals of a text with a position of each word and at most `distance` others,
    as these positions, none of them twice.

    positions : ascending, of each word
    """
    rarest_first = sorted(range(len(positions)), key=lambda word: len(positions[word]))
    found: list[tuple[int, ...]] = []
    for end in sorted({place for own in positions for place in own}):
        # the latest position of each word up to here
        match: dict[int, int] = {}
        for word in rarest_first:
            own = positions[word]
            at = bisect_right(own, end) - 1
            while at >= 0 and own[at] in match:
                at -= 1
            if at < 0:
                break
            match[own[at]] = word
        first = min(match, default=end)
        if len(match) < len(positions) or end not in match:
            continue
        is_smaller = not found or first > min(found[-1])
        if is_smaller and end - first + 1 - len(match) <= distance:
            found.append(tuple(sorted(match, key=match.__getitem__)))
    return found


def ordered_matches(positions: Sequence[Sequence[int]], distance: int) -> list[tuple[int, ...]]:
    """As `near_matches`, of words in the given order."""
    at = sorted((place, -word) for word, own in enumerate(positions) for place in own)
    # of the words up to each, the match with the latest start that ends before this position
    latest: list[tuple[int, ...]] = [()] * len(positions)
    found: list[tuple[int, ...]] = []
    for place, minus_word in at:  # of one position the last word first, so that none has it twice
        word = -minus_word
        if word == 0:
            latest[0] = (place,)
        elif latest[word - 1]:
            latest[word] = (*latest[word - 1], place)
        match = latest[-1]
        if word == len(positions) - 1 and match and match[-1] == place:
            others = place - match[0] + 1 - len(match)
            if others <= distance and (not found or match[0] > found[-1][0]):
                found.append(match)
    return found
