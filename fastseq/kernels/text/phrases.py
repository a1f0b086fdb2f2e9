"""Pairs of neighbouring words: counting them, and joining those that are phrases.

A pair is a left side and a word. The left side is the word before, or, where words are marked as
connectors ("of", "the"), the last word that is none together with the connectors since. Such a
longer left side has a number of its own: V plus its place in a table of keys (hashing.py), in
which it is a shorter left side << 32 | connector. A pair's key is left side << 32 | word. Pairs
never cross the end of a sentence.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt64
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.text.hashing import find_or_add_key, mix

_U0, _U1 = np.uint64(0), np.uint64(1)
_U32 = np.uint64(32)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@inline
def _key(left, word):
    return (np.uint64(left) << _U32) | np.uint64(word)


@inline
def _find(slots, key):
    """The id of a key in a table of keys (hashing.py), or -1."""
    mask = np.uint64(len(slots) >> 1) - _U1
    slot = mix(key, _U0) & mask
    while True:
        entry = slots[(slot << _U1) | _U1]
        if entry == _U0:
            return np.int64(-1)
        if slots[slot << _U1] == key:
            return np.int64(entry - _U1)
        slot = (slot + _U1) & mask


@inline
def _longer(left, word, slots, words):
    """The number of the left side `left` with one more connector, -1 where there is none."""
    if left < 0:
        return np.int64(-1)
    found = _find(slots, _key(left, word))
    return found + words if found >= 0 else np.int64(-1)


@jit
def intern_lefts(
    slots: UInt64, keys: UInt64, size: Int64, progress: Int64, tokens: Int32, ends: Int64,
    connector: UInt8,
) -> bool:  # fmt: skip
    """Give every left side with connectors a number.

    slots, keys, size  the table of such left sides; added to
    progress           int64[1]  sentences done; 0 to begin with
    tokens             int32[n], sentence s is tokens[ends[s - 1]:ends[s]]
    ends               int64[S]
    connector          uint8[V]  1 for those

    Returns False where the table must grow before the call is repeated.
    """
    words = np.int64(len(connector))
    for s in range(np.uint64(progress[0]), np.uint64(len(ends))):
        progress[0] = np.int64(s)
        first = np.uint64(ends[np.uint64(s) - _U1]) if s > 0 else _U0
        left = np.int64(-1)
        for i in range(first, np.uint64(ends[np.uint64(s)])):
            word = np.int64(tokens[np.uint64(i)])
            if not connector[np.uint64(word)]:
                left = word
            elif left >= 0:
                found = find_or_add_key(slots, keys, size, _key(left, word))
                if found < 0:
                    return False
                left = found + words
    progress[0] = np.int64(len(ends))
    return True


@jit
def collect_pairs(
    found: UInt64, place: Int64, tokens: Int32, ends: Int64, connector: UInt8, slots: UInt64,
    part: int, parts: int,
) -> int:  # fmt: skip
    """Write down the keys of one share of all pairs, each as often as it occurs.

    found      uint64[room]  the keys, in the order of the text
    place      int64[3]      sentence, token and left side to go on with: 0, 0, -1 to begin with
    connector  uint8[V], or uint8[0] where no word is one
    slots      of the table that intern_lefts made
    part       the share: keys are spread over `parts` by their hash

    Returns how many were written. There may be more when `room` were.
    """
    with_connectors = len(connector) > 0
    words = np.int64(len(connector))
    room = np.int64(len(found))
    n = np.int64(0)
    s, i = np.uint64(place[0]), np.uint64(place[1])
    left = np.int64(place[2])
    while s < np.uint64(len(ends)):
        stop = np.uint64(ends[s])
        while i < stop:
            word = np.int64(tokens[i])
            if with_connectors and connector[np.uint64(word)]:
                left = _longer(left, word, slots, words)
                i += _U1
                continue
            if left >= 0:
                key = _key(left, word)
                share = ((key * _SPREAD) >> _U32) * np.uint64(parts) >> _U32
                if share == np.uint64(part):
                    if n == room:
                        place[0], place[1], place[2] = np.int64(s), np.int64(i), left
                        return n
                    found[np.uint64(n)] = key
                    n += 1
            left = word
            i += _U1
        s += _U1
        left = np.int64(-1)
    place[0], place[1], place[2] = np.int64(s), np.int64(i), left
    return n


@jit
def count_runs(counts: Int64, keys: UInt64) -> int:
    """Make n ascending keys distinct, in place; returns how many those are.

    counts  int64[n]   how often each key was there
    keys    uint64[n]
    """
    m = _U0
    for i in range(np.uint64(len(keys))):
        key = keys[np.uint64(i)]
        if m > _U0 and keys[m - _U1] == key:
            counts[m - _U1] += 1
        else:
            keys[m] = key
            counts[m] = 1
            m += _U1
    return np.int64(m)


@jit
def join_pairs(
    tokens: Int32, ends: Int64, connector: UInt8, slots: UInt64, phrases: UInt64, joined: Int32
) -> int:
    """Put phrases in the place of their words, greedily from left to right, in place.

    tokens, ends  become shorter: returns how many tokens are left
    connector, slots  as in collect_pairs; left sides that are not in the table are none
    phrases       uint64[2 * capacity]  the table of the pairs that are phrases
    joined        int32[m]  the word that phrase i becomes

    The last word of one phrase is not the first of another.
    """
    with_connectors = len(connector) > 0
    words = np.int64(len(connector))
    i, written = _U0, _U0
    for s in range(np.uint64(len(ends))):
        stop = np.uint64(ends[np.uint64(s)])
        left = np.int64(-1)
        begin = written  # of the left side in what is written
        while i < stop:
            word = np.int64(tokens[i])
            i += _U1
            if with_connectors and connector[np.uint64(word)]:
                left = _longer(left, word, slots, words)
                tokens[written] = np.int32(word)
                written += _U1
                continue
            phrase = _find(phrases, _key(left, word)) if left >= 0 else np.int64(-1)
            if phrase >= 0:
                tokens[begin] = joined[np.uint64(phrase)]
                written = begin + _U1
                left = np.int64(-1)
            else:
                begin = written
                tokens[written] = np.int32(word)
                written += _U1
                left = word
        ends[np.uint64(s)] = np.int64(written)
    return np.int64(written)
