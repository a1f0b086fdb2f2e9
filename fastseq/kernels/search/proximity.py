"""Where the words of a sloppy phrase, or words near each other, are in texts.

Each of the m words has the tokens tokens[starts[w]:starts[w + 1]], ascending over all texts; text d
has the tokens from offsets[d] to offsets[d + 1]. The kernels write a row for each match, the token
of each word, and return the number of matches, or -1 where `out` is too short.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int64
from fastseq.kernels.core.jit import inline, jit

_LAST = np.int64(0x7FFFFFFFFFFFFFFF)
_U1 = np.uint64(1)


@inline
def _next_text(at, stops, tokens, starts, end):
    """Begin with the tokens that were left, of the text with the tokens below `end`; returns
    whether it has every word."""
    every = True
    for word in range(np.uint64(len(at))):
        place = np.uint64(stops[word])
        last = np.uint64(starts[word + _U1])
        at[word] = np.int64(place)
        while place < last and tokens[place] < end:
            place += _U1
        stops[word] = np.int64(place)
        every = every and at[word] < stops[word]
    return every


@inline
def _is_taken(out, row, words, token):
    """Whether one of the first words of a match has a token."""
    for word in range(words):  # noqa: SIM110 (Numba has no generator expressions)
        if out[row, np.uint64(word)] == token:
            return True
    return False


@jit
def sloppy_matches(
    out: Int64, at: Int64, stops: Int64, tokens: Int64, starts: Int64, offsets: Int64,
    places: Int64, slop: int, shared: int,
) -> int:  # fmt: skip
    """Find the matches of a phrase with a slop, as Lucene's SloppyPhraseMatcher defines them: the
    difference of the largest and the smallest token minus place of its words is at most `slop`.

    Of the current tokens of all words the one with the smallest difference advances; of words with
    the same token the last one.

    out        int64[capacity, m]
    at, stops  int64[m] scratch
    places     int64[m]  ascending, the position of each word in the phrase
    shared     1: words may have the same token
    """
    words = np.uint64(len(at))
    for word in range(words):
        stops[word] = starts[word]
    found = np.uint64(0)
    for d in range(np.uint64(len(offsets) - 1)):
        more = _next_text(at, stops, tokens, starts, offsets[d + _U1])
        while more:
            if found == np.uint64(len(out)):
                return -1
            moving = words
            low, high = _LAST, -_LAST
            for word in range(words):
                token = tokens[np.uint64(at[word])]
                out[found, word] = token
                moved = token - places[word]
                high = max(high, moved)
                if moved < low:
                    low = moved
                    moving = word
                if shared and _is_taken(out, found, word, token):
                    moving = word
                    high = _LAST  # no match
                    low = -_LAST  # no other word advances, but a later one with a token of another
            if high != _LAST and high - low <= slop:
                found += _U1
            at[moving] += 1
            more = at[moving] < stops[moving]
    return np.int64(found)


@inline
def _by_count(order, begins, stops):
    """Order words: the one with the fewest tokens first."""
    for i in range(np.uint64(len(order))):
        count = stops[i] - begins[i]
        k = np.uint64(i)
        while k > np.uint64(0):
            before = np.uint64(order[k - _U1])
            if stops[before] - begins[before] <= count:
                break
            order[k] = np.int64(before)
            k -= _U1
        order[k] = np.int64(i)


@jit
def near_matches(
    out: Int64, begins: Int64, at: Int64, stops: Int64, order: Int64, tokens: Int64, starts: Int64,
    offsets: Int64, distance: int, shared: int,
) -> int:  # fmt: skip
    """Find the smallest intervals of a text with a token of each word, none twice, and at most
    `distance` others; a row has the tokens of the words.

    begins, at, stops, order  int64[m] scratch; others as of `sloppy_matches`
    """
    words = np.uint64(len(at))
    for word in range(words):
        stops[word] = starts[word]
    found = np.uint64(0)
    for d in range(np.uint64(len(offsets) - 1)):
        if not _next_text(begins, stops, tokens, starts, offsets[d + _U1]):
            continue
        for word in range(words):
            at[word] = begins[word]
            order[word] = np.int64(word)
        if shared:  # the others have more tokens to choose from
            _by_count(order, begins, stops)
        last_first = np.int64(-1)
        while True:
            end = _LAST
            for word in range(words):
                if at[word] < stops[word]:
                    end = min(end, tokens[np.uint64(at[word])])
            if end == _LAST:
                break
            for word in range(words):
                if at[word] < stops[word] and tokens[np.uint64(at[word])] == end:
                    at[word] += 1
            if found == np.uint64(len(out)):
                return -1
            # the latest token of each word up to here
            first = _LAST
            i = np.uint64(0)
            while i < words:
                word = np.uint64(order[i])
                place = at[word] - 1
                if shared:
                    k = np.uint64(0)
                    while k < i and place >= begins[word]:
                        if out[found, np.uint64(order[k])] == tokens[np.uint64(place)]:
                            place -= 1
                            k = np.uint64(0)
                        else:
                            k += _U1
                if place < begins[word]:
                    break
                out[found, word] = tokens[np.uint64(place)]
                first = min(first, tokens[np.uint64(place)])
                i += _U1
            others = end - first + 1 - np.int64(words)
            if i == words and first > last_first and others <= distance:
                found += _U1
                last_first = first
    return np.int64(found)


@jit
def ordered_matches(
    out: Int64, begins: Int64, at: Int64, stops: Int64, tokens: Int64, starts: Int64,
    offsets: Int64, distance: int,
) -> int:  # fmt: skip
    """`near_matches` of words in the given order. begins, at, stops: int64[m] scratch."""
    words = np.uint64(len(at))
    for word in range(words):
        stops[word] = starts[word]
    found = np.uint64(0)
    for d in range(np.uint64(len(offsets) - 1)):
        if not _next_text(begins, stops, tokens, starts, offsets[d + _U1]):
            continue
        for word in range(words):
            at[word] = begins[word]
        final = words - _U1
        last_first = np.int64(-1)
        for place in range(np.uint64(begins[final]), np.uint64(stops[final])):
            if found == np.uint64(len(out)):
                return -1
            end = tokens[np.uint64(place)]
            out[found, final] = end
            first = end
            # the latest token of each word before that of the next word
            word = final
            while word > np.uint64(0):
                word -= _U1
                while at[word] < stops[word] and tokens[np.uint64(at[word])] < first:
                    at[word] += 1
                if at[word] == begins[word]:
                    word += _U1
                    break
                first = tokens[np.uint64(at[word] - 1)]
                out[found, word] = first
            others = end - first + 1 - np.int64(words)
            if word == np.uint64(0) and first > last_first and others <= distance:
                found += _U1
                last_first = first
    return np.int64(found)
