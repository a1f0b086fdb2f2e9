"""Exact top-k of exact phrases: many queries of one phrase each, segment by segment.

A phrase occurs in a document at most as often as each of its words, so its part there is at most
that of each word, which is known (impacts.py). As soon as there are k hits, documents with a word
whose part is too small for a hit are left out before their positions are decoded, and blocks of
postings of the rarest word before they are read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastseq.kernels.core.arrays import Float32, Int64, UInt8, UInt64, address_of
from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.topk import (
    bits_float,
    key_document,
    key_score,
    make_key,
    select_best,
    sort_descending,
)
from fastseq.kernels.search.cursors import key_capacity
from fastseq.kernels.search.impacts import Weighting
from fastseq.kernels.search.joining import begin_phrase, has_all, next_candidates
from fastseq.kernels.search.phrases import count_phrase, keep_matches, make_scratch, scratch_of
from fastseq.kernels.search.postings import Postings

MOST_TF = 4096  # values of frequencies below this are in the table
# By rounding, the part of a frequency may be up to 6 · 2^-24 of it above that of a larger one.
_ROUNDING = 1e-6


_SOURCE_ARRAYS = 15
_PACKED, _SLOPE, _FIRST_ROW, _DOCUMENTS = range(2 * _SOURCE_ARRAYS, 2 * _SOURCE_ARRAYS + 4)
# rows of what `collect_phrases` is asked for, of which `TermBits.phrase_lists` has the first three
TERM, BITS, SHORT, OFFSET = range(4)

_uint8_at, _uint16_at, _int32_at = map(array_at, (types.uint8, types.uint16, types.int32))
_int64_at, _uint64_at, _float32_at = map(array_at, (types.int64, types.uint64, types.float32))


def phrase_source(
    postings: Postings, positions: tuple[UInt8, Int64], parts: tuple[Float32, Float32],
    weighting: Weighting, table: Float32, live: UInt8, first_row: int, documents: int,
) -> Int64:  # fmt: skip
    """A segment as one array, since each argument costs the call of a kernel about .1 µs: the
    addresses and the lengths of its arrays, which must outlive it, and some numbers.

    positions  of the segment (search/positions.py)
    parts      and block of its Impacts, in which those of the terms are computed; or float32[0] of
               both
    weighting  of which the factor and the slope are taken
    table      float32[MOST_TF or more]  the value of each frequency
    live       uint8[documents] or uint8[0]
    """
    arrays = *postings[:8], *positions, *parts, weighting.factor, table, live
    source = np.empty(2 * _SOURCE_ARRAYS + 4, np.int64)
    source[:_SOURCE_ARRAYS] = [address_of(array) for array in arrays]
    source[_SOURCE_ARRAYS:_PACKED] = [len(array) for array in arrays]
    source[_PACKED:] = (
        postings.packed, int(np.float32(weighting.slope).view(np.uint32)), first_row, documents
    )  # fmt: skip
    return source


class PhraseMemory(NamedTuple):
    """What one thread needs for up to Q phrases of S words together and k hits: `make_memory`.

    addresses  of the arrays before it, for `collect_phrases`
    """

    keys: UInt64  # [Q, capacity] (score, row) of candidates
    counts: Int64  # [Q] candidates of each
    best: UInt64  # [Q] a key that a later candidate must pass; 0 for none yet
    overflow: UInt8  # [Q] 1 where a frequency is MOST_TF or more: the phrase has no hits here
    places: Int64  # [3, S]
    numbers: Int64  # [S + 1] 0, 1, …
    scratch: Int64  # of phrases.make_scratch
    spare: UInt64  # [capacity]
    addresses: Int64

    def begin(self) -> None:
        """Forget what was collected."""
        self.counts.fill(0)
        self.best.fill(0)
        self.overflow.fill(0)


def make_memory(phrases: int, words: int, k: int) -> PhraseMemory:
    """Memory for that many phrases, of up to `words` words each, and k hits."""
    capacity = key_capacity(k)
    arrays: tuple[Any, ...] = (
        np.empty((phrases, capacity), np.uint64), np.zeros(phrases, np.int64),
        np.zeros(phrases, np.uint64), np.zeros(phrases, np.uint8), np.empty((3, words), np.int64),
        np.arange(words + 1), make_scratch(words, words),
    )  # fmt: skip
    sizes = phrases, capacity, words, len(arrays[-1])
    addresses = np.array([*map(address_of, arrays), *sizes], np.int64)
    return PhraseMemory(*arrays, np.empty(capacity, np.uint64), addresses)


@inline
def _postings_of(source):
    n = source[_SOURCE_ARRAYS:]
    return Postings(
        _uint16_at(source[0], n[0]), _uint8_at(source[1], n[1]), _int64_at(source[2], n[2]),
        _int64_at(source[3], n[3]), _uint16_at(source[4], n[4]), _uint16_at(source[5], n[5]),
        _int64_at(source[6], n[6]), _int32_at(source[7], n[7]), source[_PACKED],
    )  # fmt: skip


@inline
def _score(weight, tf, table, slope, factor, row):
    """The score of a document in which a phrase occurs tf times."""
    value = table[np.uint64(tf)]
    return weight * (value / (slope * value + factor[np.uint64(row)]))


@inline
def _least_part(best_key, weight, base):
    """A part (float32) that the words of each further hit are above; -1 where there is none."""
    if best_key == 0 or weight <= np.float32(0.0):
        return np.float32(-1.0)
    score = np.float64(key_score(best_key))
    part = (score - abs(score) * _ROUNDING - np.float64(base)) / np.float64(weight)
    return np.float32(max(part * (1.0 - _ROUNDING), 0.0))


@jit
def collect_phrases(memory, source, asked, starts, weights, base, allowed, k):
    """Add the hits of a segment to those of Q phrases.

    memory    the addresses of a PhraseMemory, with what the segments before gave
    source    the segment, of `phrase_source`
    asked     int64[4, n] of the words, those of phrase q from starts[q] on, in the rows TERM their
              terms in the segment, -1 for a word that it lacks, BITS and SHORT the addresses of the
              bits of each (dense.py) and of its short positions (term_bits.py), 0 for none, and
              OFFSET their places in their phrase, from 0
    starts    int64[Q + 1]
    weights, base  float32[Q]
    allowed   uint8[rows] or uint8[0]
    """
    many, capacity, words = memory[7], memory[8], memory[9]
    every_key = _uint64_at(memory[0], many * capacity)
    counts, best = _int64_at(memory[1], many), _uint64_at(memory[2], many)
    overflow = _uint8_at(memory[3], many)
    places = _int64_at(memory[4], 3 * words).reshape(3, words)
    numbers = _int64_at(memory[5], words + 1)
    scratch = scratch_of(_int64_at(memory[6], memory[10]))
    postings = _postings_of(source)
    n = source[_SOURCE_ARRAYS:]
    data, blocks = _uint8_at(source[8], n[8]), _int64_at(source[9], n[9])
    parts, part_blocks = _float32_at(source[10], n[10]), _float32_at(source[11], n[11])
    factor, table = _float32_at(source[12], n[12]), _float32_at(source[13], n[13])
    live = _uint8_at(source[14], n[14])
    slope = bits_float(np.uint32(source[_SLOPE]))
    first_row, documents = source[_FIRST_ROW], source[_DOCUMENTS]
    dense = asked[BITS : SHORT + 1]
    join = scratch.join
    for q in range(len(weights)):
        keys = every_key[q * capacity : (q + 1) * capacity]
        first, last = starts[q], starts[q + 1]
        slots = last - first
        own = asked[TERM, first:last]
        own_offsets = asked[OFFSET, first:last]
        if not has_all(own):
            continue
        lists = begin_phrase(join, postings, own, dense, first, places, numbers, parts, part_blocks)
        weight = weights[q]
        while True:
            least = np.float32(-1.0)
            if len(parts) > 0:
                least = _least_part(best[q], weight, base[q])
            found = next_candidates(join, lists, live, documents, least)
            if found == 0:
                break
            found = keep_matches(scratch, postings, data, blocks, lists, own_offsets, found)
            for c in range(found):
                tf = count_phrase(
                    scratch, postings, data, blocks, lists, own_offsets, numbers[: slots + 1], c
                )
                if tf == 0:
                    continue
                if tf >= MOST_TF:
                    overflow[q] = np.uint8(1)
                    continue
                row = join.rows[c]
                score = _score(weight, tf, table, slope, factor, row)
                key = make_key(score + base[q], first_row + row)
                if key > best[q] and (
                    len(allowed) == 0 or allowed[np.uint64(first_row + row)] != 0
                ):
                    keys[np.uint64(counts[q])] = key
                    counts[q] += 1
                    if counts[q] == capacity:
                        best[q] = select_best(keys, counts[q], k)
                        counts[q] = k
            # a few new candidates are not worth a selection among k
            if counts[q] - k > k >> 3 or (best[q] == 0 and counts[q] > k):
                best[q] = select_best(keys, counts[q], k)
                counts[q] = k


@jit
def write_phrases(rows, scores, keys, counts, spare, k):
    """rows int32[Q, k], scores float32[Q, k]: the best k of the candidates of each query, in order;
    row -1 and score 0 past the last. spare uint64[capacity]."""
    for q in range(len(counts)):
        n = counts[q]
        own = keys[q]
        if n > k:
            select_best(own, n, k)
            n = np.int64(k)
        sort_descending(own, spare, n)
        for i in range(n):
            rows[q, i] = key_document(own[np.uint64(i)])
            scores[q, i] = key_score(own[np.uint64(i)])
        for i in range(n, k):
            rows[q, i] = -1
            scores[q, i] = 0.0
