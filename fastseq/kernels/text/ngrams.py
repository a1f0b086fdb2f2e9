"""Word n-grams over token ids, and character n-grams of words."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt64
from fastseq.kernels.core.jit import jit
from fastseq.kernels.text.hashing import find_or_add_key, intern_bytes
from fastseq.kernels.text.tokenize import DONE, GROW_IDS, GROW_TABLE
from fastseq.kernels.text.unicode import char_length

_U0, _U1 = np.uint64(0), np.uint64(1)
_U32 = np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_BLANK = 32


@jit
def word_ngrams(
    ids: Int32,
    ends: Int64,
    progress: Int64,
    slots: UInt64,
    keys: UInt64,
    size: Int64,
    left: Int32,
    left_ends: Int64,
    words: Int32,
    word_ends: Int64,
    n: int,
) -> int:
    """The n-grams (n >= 2) of D texts, each an (n-1)-gram and a last word.

    ids        int32[m]      the n-grams' ids in the order of first occurrence; m >= len(left)
    ends       int64[D + 1]  text d has ids[ends[d]:ends[d + 1]]
    progress   int64[1]      texts done; 0 to begin with
    slots, keys, size        the table of distinct (n-1)-gram << 32 | word (hashing.py)
    left, left_ends          the (n-1)-grams, in the same form
    words, word_ends         the words

    Returns DONE, or GROW_TABLE: the table must grow before the call is repeated.
    """
    for d in range(np.uint64(progress[0]), np.uint64(len(ends) - 1)):
        progress[0] = d
        at = np.uint64(d)
        m = np.uint64(ends[at])
        first = np.uint64(left_ends[at])
        word = np.uint64(word_ends[at])
        total = np.int64(word_ends[at + _U1] - word_ends[at]) - n + 1
        for i in range(np.uint64(max(total, 0))):
            key = np.uint64(left[first + np.uint64(i)]) << _U32
            key |= np.uint64(words[word + np.uint64(i) + np.uint64(n - 1)])
            known = find_or_add_key(slots, keys, size, key)
            if known < 0:
                return GROW_TABLE
            ids[m] = known
            m += _U1
        ends[at + _U1] = np.int64(m)
    progress[0] = len(ends) - 1
    return DONE


@jit
def char_ngrams(
    ids: Int32,
    ends: Int64,
    progress: Int64,
    slots: UInt64,
    arena: UInt8,
    offsets: Int64,
    size: Int64,
    padded: UInt8,
    marks: Int64,
    data: UInt8,
    starts: Int64,
    low: int,
    high: int,
    gap: int,
) -> int:
    """The character n-grams, low <= n <= high, of W words padded with a space on each side.

    For each n every window of the padded word; one not longer than n gives itself, once, and no
    larger n is looked at (scikit-learn's char_wb).

    ids       int32[m]      the n-grams' ids, word after word
    ends      int64[W + 1]  word w has ids[ends[w]:ends[w + 1]]
    progress  int64[1]      words done; 0 to begin with
    slots, arena, offsets, size  the table of distinct n-grams (hashing.py), no separator
    padded    uint8[p]      at least 16 longer than the longest word
    marks     int64[q]      at least 4 longer than the longest word
    data      uint8[...]    word w is data[starts[w]:starts[w + 1] - gap], valid UTF-8

    Returns DONE, or what must grow before the call is repeated: GROW_TABLE or GROW_IDS.
    """
    for w in range(np.uint64(progress[0]), np.uint64(len(ends) - 1)):
        progress[0] = w
        at = np.uint64(w)
        m = np.uint64(ends[at])
        start = np.uint64(starts[at])
        stop = np.uint64(starts[at + _U1]) - np.uint64(gap)
        padded[_U0] = _BLANK
        marks[_U0] = 0  # where the characters of the padded word begin
        count = _U1
        i = start
        while i < stop:
            marks[count] = np.int64(i - start + _U1)
            count += _U1
            length = char_length(data[i])
            for k in range(i, i + length):
                padded[np.uint64(k) - start + _U1] = data[np.uint64(k)]
            i += length
        marks[count] = np.int64(stop - start + _U1)
        padded[stop - start + _U1] = _BLANK
        count += _U1
        marks[count] = np.int64(stop - start) + 2
        for n in range(low, high + 1):
            span = min(np.uint64(n), count)
            windows = count - span + _U1
            for k in range(windows):
                a = np.uint64(marks[np.uint64(k)])
                b = np.uint64(marks[np.uint64(k) + span])
                if m >= np.uint64(len(ids)):
                    return GROW_IDS
                known = intern_bytes(slots, arena, offsets, size, padded, a, b - a, 0)
                if known < 0:
                    return GROW_TABLE
                ids[m] = known
                m += _U1
            if windows == _U1:
                break
        ends[at + _U1] = np.int64(m)
    progress[0] = len(ends) - 1
    return DONE


@jit
def ngram_lengths(lengths: Int64, keys: UInt64, left_offsets: Int64, word_offsets: Int64) -> None:
    """Bytes of each n-gram's text: its (n-1)-gram, a space, its last word.

    lengths int64[V], keys uint64[V]; left_offsets, word_offsets: where those texts begin.
    """
    for i in range(np.uint64(len(keys))):
        a = keys[np.uint64(i)] >> _U32
        b = keys[np.uint64(i)] & _LOW32
        lengths[np.uint64(i)] = (
            left_offsets[a + _U1] - left_offsets[a] + 1 + word_offsets[b + _U1] - word_offsets[b]
        )


@jit
def ngram_texts(
    data: UInt8,
    offsets: Int64,
    keys: UInt64,
    left: UInt8,
    left_offsets: Int64,
    words: UInt8,
    word_offsets: Int64,
) -> None:
    """Write each n-gram's text to data[offsets[i]:offsets[i + 1]]: «(n-1)-gram word»."""
    for i in range(np.uint64(len(keys))):
        a = keys[np.uint64(i)] >> _U32
        b = keys[np.uint64(i)] & _LOW32
        to = np.uint64(offsets[np.uint64(i)])
        for k in range(np.uint64(left_offsets[a]), np.uint64(left_offsets[a + _U1])):
            data[to] = left[np.uint64(k)]
            to += _U1
        data[to] = _BLANK
        to += _U1
        for k in range(np.uint64(word_offsets[b]), np.uint64(word_offsets[b + _U1])):
            data[to] = words[np.uint64(k)]
            to += _U1


@jit
def interleave(out: Int32, cursor: Int64, ids: Int32, ends: Int64, base: int) -> None:
    """Append the ids of D texts, plus `base`, to each text's part of `out`.

    cursor int64[D]: where text d's next id goes in out; moved on. ids int32[n], ends int64[D + 1].
    """
    for d in range(np.uint64(len(cursor))):
        to = np.uint64(cursor[np.uint64(d)])
        for i in range(np.uint64(ends[np.uint64(d)]), np.uint64(ends[np.uint64(d) + _U1])):
            out[to] = ids[np.uint64(i)] + np.int32(base)
            to += _U1
        cursor[np.uint64(d)] = np.int64(to)
