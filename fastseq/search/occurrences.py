"""Where words, phrases and words near each other are among the tokens of texts.

A *slot* is one word of a query: it has tokens, with a weight each. Tokens are counted over all
texts, and those of a text follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastseq.kernels.search import proximity
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
        """The occurrences of words."""
        if any(self._starts[slot] == self._starts[slot + 1] for slot in words.slots):
            return NOTHING
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
        matches = scattered_matches([tokens for tokens, _ in own], self._offsets, words)
        weights = np.zeros(len(matches))
        for word, (tokens, of_tokens) in enumerate(own):
            weights += of_tokens[np.searchsorted(tokens, matches[:, word])]
        return Found(
            matches.min(axis=1), matches.max(axis=1), weights, matches.reshape(-1),
            np.full(matches.size, -1, np.int64),
            np.tile(np.array(words.slots, np.int32), len(matches)),
        )  # fmt: skip


NOTHING = Found(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64),
    np.empty(0, np.int64), np.empty(0, np.int32),
)  # fmt: skip


def scattered_matches(tokens: Sequence[Int64], offsets: Int64, words: Words) -> Int64:
    """int64[n, m]: the matches of a phrase with a slop, or of words near each other: the token of
    each of m words (see kernels/search/proximity.py).

    tokens : of each word, ascending
    offsets : text d has the tokens from offsets[d] to offsets[d + 1]
    """
    count = len(tokens)
    flat, starts = np.concatenate(tokens), offsets_of([len(own) for own in tokens])
    begins, at, stops, order = np.empty((4, count), np.int64)
    shared = int(len(np.unique(flat)) < len(flat))
    out = np.empty((len(flat) // count + 16, count), np.int64)
    while True:
        if words.distance < 0:
            found = proximity.sloppy_matches(
                out, at, stops, flat, starts, offsets,
                np.array(words.offsets, np.int64), words.slop, shared,
            )  # fmt: skip
        elif words.in_order:
            found = proximity.ordered_matches(
                out, begins, at, stops, flat, starts, offsets, words.distance
            )
        else:
            found = proximity.near_matches(
                out, begins, at, stops, order, flat, starts, offsets, words.distance, shared
            )
        if found >= 0:
            return out[:found]
        out = np.empty((2 * len(out), count), np.int64)
