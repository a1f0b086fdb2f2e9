"""Positions of terms in documents: inverting and merging.

The positions of a posting are tf integers: the first position and the distances to each next one,
as varints (kernels/core/varints.py). Those of all postings follow each other. The sizes in bytes of
blocks of 128 postings are stored, so a posting is found by skipping the integers before it in its
block.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.varints import put, skip
from fastseq.kernels.search.postings import (
    DIGIT_BITS,
    LARGE_TF,
    WINDOW_BITS,
    find_large,
    frequency,
    large_mark,
    radix_pass,
    stored_tf,
)
from fastseq.kernels.simd.bytes import count_ones, half_bytes64, non_ascii64

BLOCK_BITS = 7
BLOCK = 1 << BLOCK_BITS  # postings
COLUMN_GAP = 100  # positions between the last token of a text column and the next column
MOST_BYTES = 5  # of an integer

_U1, _U7 = np.uint64(1), np.uint64(7)
_ONES, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


@inline
def _bytes_up_to(sums, n):
    """How many bytes of `sums` (each at most 127) are at most n, as a uint64."""
    return count_ones(((n * _ONES | _HIGH_BITS) - sums) & _HIGH_BITS)


@inline
def _bit_at(mask, n):
    """The place of the n-th (from 0) bit that is one; there are more than n.

    Without branches: S. Vigna, Broadword implementation of rank/select queries (2008).
    """
    pairs = mask - ((mask >> _U1) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + (
        (pairs >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    # byte i: the ones in the bytes 0 to i
    ones = ((fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)) * _ONES
    place = _bytes_up_to(ones, n) << np.uint64(3)
    rest = n - ((ones << np.uint64(8)) >> place & np.uint64(255))
    # byte i: bit i of the byte that has the wanted one, and then the ones in its bits 0 to i
    bits = ((mask >> place & np.uint64(255)) * _ONES) & np.uint64(0x8040201008040201)
    bits = ((bits + (_HIGH_BITS - _ONES)) & _HIGH_BITS) >> _U7
    return place + _bytes_up_to(bits * _ONES, rest)


@inline
def _skip_many(data, at, count):
    """`skip`, 64 bytes at a time."""
    left = np.uint64(count)
    while left > np.uint64(0) and at + np.uint64(64) <= np.uint64(len(data)):
        last_bytes = ~non_ascii64(data, at)
        found = count_ones(last_bytes)
        if found >= left:
            return at + _bit_at(last_bytes, left - _U1) + _U1
        left -= found
        at += np.uint64(64)
    return skip(data, at, np.int64(left))


@inline
def _sum_frequencies(postings, first, last):
    """The sum of the frequencies (int64) of the postings (uint64) from `first` to `last`, all of
    one block."""
    tfs = postings.tfs
    block = first & ~np.uint64(BLOCK - 1)
    byte = block >> _U1
    total = np.uint64(0)
    large = np.uint64(0)
    if postings.packed and byte + np.uint64(64) <= np.uint64(len(tfs)):
        total, large = half_bytes64(tfs, byte, first - block, last - block)
    else:
        for posting in range(first, last):
            tf = stored_tf(postings, posting)
            total += tf
            large |= np.uint64(tf == large_mark(postings))
    count = np.int64(total)
    if large != np.uint64(0):
        mark = np.int64(large_mark(postings))
        i = find_large(postings.large_at, np.int64(first))
        end = min(len(postings.large_at), len(postings.large_tf))
        while i < end and postings.large_at[np.uint64(i)] < np.int64(last):
            count += max(np.int64(postings.large_tf[np.uint64(i)]) - mark, np.int64(0))
            i += 1
    return count


@inline
def positions_start(postings, data, blocks, posting):
    """Where the positions of a posting (uint64) start."""
    first = posting & ~np.uint64(BLOCK - 1)
    at = np.uint64(blocks[posting >> np.uint64(BLOCK_BITS)])
    return _skip_many(data, at, _sum_frequencies(postings, first, posting))


@jit
def invert_positions(
    docs, tfs, terms, dfs, sizes, data, large_at, large_tf, lengths, keys, spare, starts, doc_of,
    position_of, values, offsets, columns, first, vocabulary,
):  # fmt: skip
    """`postings.invert`, with positions.

    docs, tfs, terms, dfs, large_at, large_tf, keys, spare, starts, first, vocabulary: as there
    sizes        int32[n]   bytes of the positions of each distinct term
    data         uint8[MOST_BYTES · n]  the positions
    lengths      int32[D]   tokens of each document that are not removed
    doc_of, position_of  uint16[n], int32[n]: scratch
    values       int32[n]   term ids; -1 for a removed word, which has a position
    offsets      int64[D · columns + 1]  of the text columns of the documents

    Returns (number of postings, of terms, of large frequencies, bytes of positions).
    """
    n = np.uint64(0)
    for row in range(np.uint64(len(lengths))):
        position = np.int32(0)
        lengths[row] = 0
        for column in range(columns):
            part = np.uint64(row) * np.uint64(columns) + np.uint64(column)
            for i in range(np.uint64(offsets[part]), np.uint64(offsets[part + _U1])):
                if values[i] >= 0:
                    keys[n] = (np.uint64(values[i]) << np.uint64(32)) | np.uint64(n)
                    doc_of[n] = np.uint16(np.uint64(first) + row)
                    position_of[n] = position
                    n += _U1
                    lengths[row] += 1
                position += np.int32(1)
            position += np.int32(COLUMN_GAP)
    shift = np.uint64(32)
    while np.uint64(vocabulary) >> (shift - np.uint64(32)):
        radix_pass(spare, keys, starts, n, shift)
        # the digit after the last one is the highest bits, which are sorted already
        second = min(shift + np.uint64(DIGIT_BITS), np.uint64(64 - DIGIT_BITS))
        radix_pass(keys, spare, starts, n, second)
        shift += np.uint64(2 * DIGIT_BITS)
    postings = 0
    distinct = 0
    large = 0
    end = np.uint64(0)
    i = np.uint64(0)
    last_term = np.int64(-1)
    while i < n:
        term = np.int64(keys[i] >> np.uint64(32))
        token = np.uint64(keys[i] & np.uint64(0xFFFFFFFF))
        document = doc_of[token]
        if term != last_term:
            terms[distinct] = term
            dfs[distinct] = 0
            sizes[distinct] = 0
            distinct += 1
            last_term = term
        begin = end
        tf = 0
        previous = np.int32(0)
        while True:
            end = put(data, end, position_of[token] - previous)
            previous = position_of[token]
            tf += 1
            i += _U1
            if i == n or np.int64(keys[i] >> np.uint64(32)) != term:
                break
            token = np.uint64(keys[i] & np.uint64(0xFFFFFFFF))
            if doc_of[token] != document:
                break
        sizes[distinct - 1] += np.int32(end - begin)
        dfs[distinct - 1] += 1
        docs[np.uint64(postings)] = document
        if tf < LARGE_TF:
            tfs[np.uint64(postings)] = tf
        else:
            tfs[np.uint64(postings)] = LARGE_TF
            large_at[large] = postings
            large_tf[large] = tf
            large += 1
        postings += 1
    return postings, distinct, large, np.int64(end)


@jit
def place_positions(data, at, terms, sizes, source, base, first):
    """Copy one slice's positions to their places in a chunk of terms; slices in document order.

    data     uint8[n]   the chunk's positions
    at       int64[V]   where the next positions of each term go
    terms, sizes  int32[m]  the slice's terms that are in the chunk, and bytes of their positions
    source   uint8      their positions
    base     added to every term id
    first    the place of index 0 of data
    """
    place = np.uint64(0)
    for i in range(np.uint64(len(terms))):
        term = np.uint64(terms[i] + base)
        target = np.uint64(at[term] - first)
        for j in range(np.uint64(sizes[i])):
            data[target + j] = source[place + j]
        place += np.uint64(sizes[i])
        at[term] += sizes[i]


@jit
def size_blocks(sizes, data, tfs, large_tf, first_posting):
    """Add the bytes of the positions of a chunk's postings to those of their blocks.

    sizes     uint32[P / BLOCK + 1]
    data, tfs uint8     the chunk's
    large_tf  int32     its frequencies of LARGE_TF and more, in order
    """
    at = np.uint64(0)
    larges = 0
    for i in range(np.uint64(len(tfs))):
        tf = np.int64(tfs[i])
        if tf == LARGE_TF:
            tf = np.int64(large_tf[larges])
            larges += 1
        end = skip(data, at, tf)
        block = (np.uint64(first_posting) + np.uint64(i)) >> np.uint64(BLOCK_BITS)
        sizes[block] += np.uint32(end - at)
        at = end


@jit
def count_merged_positions(sizes, postings, data, blocks, rows, terms, first, last):
    """Add the bytes of the positions of a segment to those of a merged one.

    sizes        int64[V]  of each new term
    data, blocks uint8, int64[P / BLOCK + 2]  the segment's positions, where those of blocks start
    others       as in `postings.count_merged`
    """
    if first == last:
        return
    documents = np.uint64(len(rows))
    posting = np.uint64(postings.term_posting[np.uint64(first)])
    at = positions_start(postings, data, blocks, posting)
    for old in range(np.uint64(first), np.uint64(last)):
        new = np.uint64(terms[old])
        i = np.uint64(postings.term_posting[old])
        for run in range(postings.term_run[old], postings.term_run[old + _U1]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = i + np.uint64(postings.run_count[np.uint64(run)]) + _U1
            for j in range(i, stop):
                end = skip(data, at, frequency(postings, j))
                document = base + np.uint64(postings.docs[j])
                if document < documents and rows[document] >= 0:
                    sizes[new] += np.int64(end - at)
                at = end
            i = stop


@jit
def place_merged_positions(out, at, postings, data, blocks, rows, terms, first):
    """Copy the positions of a segment to their places in a chunk of terms; segments in document
    order.

    out     uint8[n]   the chunk's positions
    at      int64[m]   where the next positions of each new term go
    terms   int32[m]   the number in the segment of each new term, -1 for none
    first   the place of index 0 of out
    others  as in `count_merged_positions`
    """
    documents = np.uint64(len(rows))
    for new in range(np.uint64(len(terms))):
        if terms[new] < 0:
            continue
        old = np.uint64(terms[new])
        target = np.uint64(at[new] - first)
        i = np.uint64(postings.term_posting[old])
        start = positions_start(postings, data, blocks, i)
        for run in range(postings.term_run[old], postings.term_run[old + _U1]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = i + np.uint64(postings.run_count[np.uint64(run)]) + _U1
            for j in range(i, stop):
                end = skip(data, start, frequency(postings, j))
                document = base + np.uint64(postings.docs[j])
                if document < documents and rows[document] >= 0:
                    for byte in range(start, end):
                        out[target] = data[byte]
                        target += _U1
                start = end
            i = stop
        at[new] = np.int64(target) + first
