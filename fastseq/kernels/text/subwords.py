"""Character n-grams of words as numbers of hash buckets, bit for bit as fastText has them
(Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3).

A word stands between "<" and ">". An n-gram is a run of n code points of that, hashed over its
UTF-8 bytes (FNV-1a, 32 bits, every byte sign-extended), modulo the number of buckets. A code point
begins at any byte that does not continue one, so bytes that are not UTF-8 do no harm. "</s>", which
fastText reads at the end of a line, is no word and has no n-grams.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Float32, Int32, Int64, UInt8
from fastseq.kernels.core.jit import inline, jit

_U0, _U1 = np.uint64(0), np.uint64(1)
_OPEN, _CLOSE = np.uint8(60), np.uint8(62)  # < and >
_BASIS = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
_SIGN = np.uint32(0xFFFFFF00)


def bucket_ids(
    data: UInt8, offsets: Int64, low: int, high: int, buckets: int
) -> tuple[Int32, Int64]:
    """The buckets of all n-grams, low <= n <= high, of W words: both passes below.

    data uint8[...], offsets int64[W + 1]: word w is data[offsets[w]:offsets[w + 1]]. No n-grams at
    all for a `high` of 0, or below `low`.

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
    """Byte i of the word data[start:start + length] between "<" and ">"."""
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
    """The hash of some bytes and one more."""
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
    """How many n-grams each of W words has.

    counts   int64[W]
    data     uint8[...]    word w is data[offsets[w]:offsets[w + 1]]
    offsets  int64[W + 1]
    low, high              1 <= low <= high
    """
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
    """The bucket of every n-gram: by where it begins, the short ones first.

    ids      int32[n]      word w gets ids[ends[w]:ends[w + 1]], as count_subwords counted them
    ends     int64[W + 1]
    data     uint8[...]    word w is data[offsets[w]:offsets[w + 1]]
    offsets  int64[W + 1]
    low, high              1 <= low <= high
    buckets                at least 1, below 2^31
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
    """Add rows of a table to each of W vectors, in order.

    out    float32[W, d]
    rows   int32[n]       vector w gets the rows rows[ends[w]:ends[w + 1]], each below R
    ends   int64[W + 1]
    table  float32[R, d]
    """
    d = np.uint64(out.shape[1])
    for w in range(np.uint64(len(out))):
        at = np.uint64(w)
        for i in range(np.uint64(ends[at]), np.uint64(ends[at + _U1])):
            row = np.uint64(rows[np.uint64(i)])
            for k in range(d):
                out[at, np.uint64(k)] += table[row, np.uint64(k)]
