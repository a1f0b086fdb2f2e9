"""N-grams of words over token ids, character n-grams of words, and phrases (joined pairs)."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Float32, Int32, Int64, UInt8, UInt64
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.text.hashing import Keys, Strings, find_key, find_or_add_key, intern_bytes
from fastseq.kernels.text.tokenize import DONE, GROW_IDS, GROW_TABLE
from fastseq.kernels.text.unicode import char_length

_U0, _U1, _U32 = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_BLANK = 32
# the strings of fastText's n-grams
_OPEN, _CLOSE = np.uint8(60), np.uint8(62)  # < and >
_BASIS = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
_SIGN = np.uint32(0xFFFFFF00)


@inline
def _key(left, word):
    return (np.uint64(left) << _U32) | np.uint64(word)


@jit
def word_ngrams(
    ids: Int32, ends: Int64, progress: Int64, slots: UInt64, keys: UInt64, size: Int64,
    left: Int32, left_ends: Int64, words: Int32, word_ends: Int64, n: int,
) -> int:  # fmt: skip
    """The n-grams (n >= 2) of D texts, each an (n-1)-gram and a last word.

    ids        int32[m]      the n-grams' ids in the order of first occurrence; m >= len(left)
    ends       int64[D + 1]  text d has ids[ends[d]:ends[d + 1]]
    progress   int64[1]      texts done; 0 to begin with
    slots, keys, size        Keys: the distinct (n-1)-gram << 32 | word
    left, left_ends, words, word_ends  the (n-1)-grams and the words, in the same form

    Returns DONE, or GROW_TABLE: the table must grow before the call is repeated.
    """
    table = Keys(slots, keys, size)
    for d in range(np.uint64(progress[0]), np.uint64(len(ends) - 1)):
        progress[0] = d
        at = np.uint64(d)
        m = np.uint64(ends[at])
        first = np.uint64(left_ends[at])
        word = np.uint64(word_ends[at])
        total = np.int64(word_ends[at + _U1] - word_ends[at]) - n + 1
        for i in range(np.uint64(max(total, 0))):
            key = _key(left[first + np.uint64(i)], words[word + np.uint64(i) + np.uint64(n - 1)])
            known = find_or_add_key(table, key)
            if known < 0:
                return GROW_TABLE
            ids[m] = known
            m += _U1
        ends[at + _U1] = np.int64(m)
    progress[0] = len(ends) - 1
    return DONE


@jit
def ngram_texts(
    data: UInt8, offsets: Int64, keys: UInt64, left: UInt8, left_offsets: Int64, words: UInt8,
    word_offsets: Int64,
) -> None:  # fmt: skip
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

    cursor int64[D]: where text d's next id goes in out; advanced. ids int32[n], ends int64[D + 1].
    """
    for d in range(np.uint64(len(cursor))):
        to = np.uint64(cursor[np.uint64(d)])
        for i in range(np.uint64(ends[np.uint64(d)]), np.uint64(ends[np.uint64(d) + _U1])):
            out[to] = ids[np.uint64(i)] + np.int32(base)
            to += _U1
        cursor[np.uint64(d)] = np.int64(to)


@jit
def char_ngrams(
    ids: Int32, ends: Int64, progress: Int64, slots: UInt64, arena: UInt8, offsets: Int64,
    size: Int64, padded: UInt8, data: UInt8, starts: Int64, begins: Int64, low: int, high: int,
    gap: int,
) -> int:  # fmt: skip
    """The character n-grams, low <= n <= high, of W words padded with a space on each side.

    For each n every window of the padded word; a padded word not longer than n is one n-gram, and
    larger n are skipped (scikit-learn's char_wb).

    ids       int32[m]      the n-grams' ids, word after word
    ends      int64[W + 1]  word w has ids[ends[w]:ends[w + 1]]
    progress  int64[1]      words done; 0 to begin with
    slots, arena, offsets, size  Strings: the distinct n-grams, without a separator
    padded    uint8[p]      at least 16 longer than the longest word
    data      uint8[...]    word w is data[starts[w]:starts[w + 1] - gap], valid UTF-8
    begins    int64[q]      at least 4 longer than the longest word: scratch

    Returns DONE, or what must grow before the call is repeated: GROW_TABLE or GROW_IDS.
    """
    strings = Strings(slots, arena, offsets, size)
    for w in range(np.uint64(progress[0]), np.uint64(len(ends) - 1)):
        progress[0] = w
        at = np.uint64(w)
        m = np.uint64(ends[at])
        start = np.uint64(starts[at])
        stop = np.uint64(starts[at + _U1]) - np.uint64(gap)
        padded[_U0] = _BLANK
        begins[_U0] = 0  # where the characters of the padded word begin
        count = _U1
        i = start
        while i < stop:
            begins[count] = np.int64(i - start + _U1)
            count += _U1
            length = char_length(data[i])
            for k in range(i, i + length):
                padded[np.uint64(k) - start + _U1] = data[np.uint64(k)]
            i += length
        begins[count] = np.int64(stop - start + _U1)
        padded[stop - start + _U1] = _BLANK
        count += _U1
        begins[count] = np.int64(stop - start) + 2
        for n in range(low, high + 1):
            span = min(np.uint64(n), count)
            windows = count - span + _U1
            for k in range(windows):
                a = np.uint64(begins[np.uint64(k)])
                b = np.uint64(begins[np.uint64(k) + span])
                if m >= np.uint64(len(ids)):
                    return GROW_IDS
                known = intern_bytes(strings, padded, a, b - a, 0)
                if known < 0:
                    return GROW_TABLE
                ids[m] = known
                m += _U1
            if windows == _U1:
                break
        ends[at + _U1] = np.int64(m)
    progress[0] = len(ends) - 1
    return DONE


# ---- hashed character n-grams, bit for bit as fastText's (Bojanowski et al. 2017, "Enriching Word
# Vectors with Subword Information", section 3)
#
# An n-gram is a run of n code points of "<word>", hashed over its UTF-8 bytes (FNV-1a, 32 bits,
# every byte sign-extended), modulo the number of buckets. A code point begins at any byte that does
# not continue one, so bytes that are not UTF-8 do no harm. "</s>", which fastText reads at the end
# of a line, is not a word and has no n-grams.


def bucket_ids(
    data: UInt8, offsets: Int64, low: int, high: int, buckets: int
) -> tuple[Int32, Int64]:
    """The buckets of all n-grams, low <= n <= high, of W words.

    data uint8[...], offsets int64[W + 1]: word w is data[offsets[w]:offsets[w + 1]]. No n-grams
    where `high` is 0 or below `low`.

    Returns ids int32[n] and ends int64[W + 1]: word w has ids[ends[w]:ends[w + 1]].
    """
    ends: Int64 = np.zeros(len(offsets), np.int64)
    if high < max(low, 1):
        return np.empty(0, np.int32), ends
    count_subwords(ends[1:], data, offsets, max(low, 1), high)
    np.cumsum(ends, out=ends)
    ids: Int32 = np.empty(int(ends[-1]), np.int32)
    hash_subwords(ids, ends, data, offsets, max(low, 1), high, buckets)
    return ids, ends


@inline
def padded_byte(data, start, length, i):
    """Byte i of "<", the word data[start:start + length], ">"."""
    if i == _U0:
        return _OPEN
    if i > length:
        return _CLOSE
    return data[start + i - _U1]


@inline
def continues(byte):
    """Whether a byte belongs to the code point before it."""
    return (byte & np.uint8(0xC0)) == np.uint8(0x80)


@inline
def hashed(h, byte):
    """The hash of some bytes, whose hash is h, and one more."""
    wide = np.uint32(byte)
    if wide >= np.uint32(128):
        wide |= _SIGN
    return np.uint32(np.uint32(h ^ wide) * _PRIME)


@inline
def is_end_of_line(data, start, length):
    """Whether a word is "</s>"."""
    return (
        length == np.uint64(4)
        and data[start] == 60
        and data[start + _U1] == 47
        and data[start + np.uint64(2)] == 115
        and data[start + np.uint64(3)] == 62
    )


@jit
def count_subwords(counts: Int64, data: UInt8, offsets: Int64, low: int, high: int) -> None:
    """counts int64[W]: the number of n-grams, 1 <= low <= n <= high, of each of W words."""
    for w in range(np.uint64(len(counts))):
        at = np.uint64(w)
        start = np.uint64(offsets[at])
        length = np.uint64(offsets[at + _U1]) - start
        counts[at] = 0
        if is_end_of_line(data, start, length):
            continue
        points = np.int64(2)
        for i in range(start, start + length):
            points += not continues(data[np.uint64(i)])
        total = np.int64(0)
        for n in range(low, min(np.int64(high), points) + 1):
            total += points - n + 1
        counts[at] = total - 2 if low == 1 else total  # "<" and ">" alone are left out


@jit
def hash_subwords(
    ids: Int32, ends: Int64, data: UInt8, offsets: Int64, low: int, high: int, buckets: int
) -> None:
    """The bucket of every n-gram, sorted by where it begins, then by length.

    ids      int32[n]      word w gets ids[ends[w]:ends[w + 1]]
    ends     int64[W + 1]  the running total of count_subwords
    buckets  at least 1, below 2^31
    """
    for w in range(np.uint64(len(ends) - 1)):
        at = np.uint64(w)
        to = np.uint64(ends[at])
        if to == np.uint64(ends[at + _U1]):
            continue
        start = np.uint64(offsets[at])
        length = np.uint64(offsets[at + _U1]) - start
        total = length + np.uint64(2)
        for first in range(total):
            i = np.uint64(first)
            if continues(padded_byte(data, start, length, i)):
                continue
            h = _BASIS
            n = np.int64(0)
            j = i
            while j < total and n < high:
                h = hashed(h, padded_byte(data, start, length, j))
                j += _U1
                while j < total and continues(padded_byte(data, start, length, j)):
                    h = hashed(h, padded_byte(data, start, length, j))
                    j += _U1
                n += 1
                if n >= low and not (n == 1 and (i == _U0 or j == total)):
                    ids[to] = np.int32(h % np.uint32(buckets))
                    to += _U1


@jit
def add_rows(out: Float32, rows: Int32, ends: Int64, table: Float32) -> None:
    """Add the rows rows[ends[w]:ends[w + 1]] of a table to vector w, in order.

    out float32[W, d], rows int32[n], each below R, ends int64[W + 1], table float32[R, d]
    """
    d = np.uint64(out.shape[1])
    for w in range(np.uint64(len(out))):
        at = np.uint64(w)
        for i in range(np.uint64(ends[at]), np.uint64(ends[at + _U1])):
            row = np.uint64(rows[np.uint64(i)])
            for k in range(d):
                out[at, np.uint64(k)] += table[row, np.uint64(k)]


# ---- phrases: pairs of neighbouring words
#
# A pair is a left side and a word. The left side is the word before, or, where words are marked as
# connectors ("of", "the"), the last word that is none together with the connectors since. Such a
# longer left side has a number of its own: V plus its id in a table of keys, in which it is a
# shorter left side << 32 | connector. A pair's key is left side << 32 | word. Pairs never cross the
# end of a sentence.


@inline
def _find(slots, key):
    """The id of a key in Keys, or -1."""
    entry, _ = find_key(slots, key)
    return np.int64(entry) - 1


@inline
def _longer(left, word, slots, words):
    """The number of the left side `left` with one more connector, or -1."""
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

    slots, keys, size  Keys: such left sides; added to
    progress   int64[1]  sentences done; 0 to begin with
    tokens     int32[n]; sentence s is tokens[ends[s - 1]:ends[s]]
    ends       int64[S]
    connector  uint8[V]  1 for connectors

    Returns False where the table must grow before the call is repeated.
    """
    words, table = np.int64(len(connector)), Keys(slots, keys, size)
    for s in range(np.uint64(progress[0]), np.uint64(len(ends))):
        progress[0] = np.int64(s)
        first = np.uint64(ends[np.uint64(s) - _U1]) if s > 0 else _U0
        left = np.int64(-1)
        for i in range(first, np.uint64(ends[np.uint64(s)])):
            word = np.int64(tokens[np.uint64(i)])
            if not connector[np.uint64(word)]:
                left = word
            elif left >= 0:
                found = find_or_add_key(table, _key(left, word))
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
    """Collect the keys of one part of all pairs, each as often as it occurs.

    found      uint64[capacity]  the keys, in the order of the text
    place      int64[3]      sentence, token and left side to continue with; 0, 0, -1 at first
    connector  uint8[V], or uint8[0] where no word is one
    slots      of the table that intern_lefts filled
    part       keys are distributed over `parts` by their hash

    Returns the number of keys; where it is `capacity`, there may be more.
    """
    with_connectors = len(connector) > 0
    words = np.int64(len(connector))
    capacity = np.int64(len(found))
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
                    if n == capacity:
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
    """Make n ascending keys distinct, in place; counts int64[n] gets the occurrences of each.

    Returns the number of distinct keys.
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
    """Replace phrases by their joined words, greedily from left to right, in place.

    tokens, ends      become shorter: returns how many tokens are left
    connector, slots  as in collect_pairs
    phrases           uint64[2 * capacity]  slots of the pairs that are phrases
    joined            int32[m]  the word that phrase i becomes

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
