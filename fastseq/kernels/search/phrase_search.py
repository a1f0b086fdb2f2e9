"""Exact top-k of exact phrases: many queries of one phrase each, segment by segment.

A phrase occurs in a document at most as often as each of its words, so its part there is at most
that of each word, which is known (impacts.py). As soon as there are k hits, documents with a word
whose part is too small for a hit are left out before their positions are decoded, and blocks of
postings of the rarest word before they are read.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.topk import (
    key_document,
    key_score,
    make_key,
    select_best,
    sort_descending,
)
from fastseq.kernels.search.joining import begin_phrase, has_all, next_candidates
from fastseq.kernels.search.phrases import count_phrase, keep_matches, scratch_of

MOST_TF = 4096  # values of frequencies below this are in the table
# By rounding, the part of a frequency may be up to 6 · 2^-24 of it above that of a larger one.
_ROUNDING = 1e-6


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
def collect_phrases(
    keys, counts, best, overflow, postings, data, blocks, parts, part_blocks, terms, dense, offsets,
    starts, weights, base, table, slope, factor, live, allowed, places, numbers, first_row,
    documents, k, memory,
):  # fmt: skip
    """Add the hits of a segment to those of Q phrases.

    keys      uint64[Q, capacity]  (score, row) of candidates
    counts    int64[Q]    candidates of each
    best      uint64[Q]   a key that a later candidate must pass; 0 for none yet
    overflow  uint8[Q]    set where a frequency is MOST_TF or more: the phrase has no hits here
    postings, data, blocks  of the segment (search/positions.py)
    parts, part_blocks  of its Impacts, in which those of the terms are computed; or float32[0]
    terms     int32[n]    of the segment, those of phrase q from starts[q] on; -1 for a word that it
                          lacks
    dense     int64[2, n] the addresses of the bits of each (dense.py), and of its short positions
                          (term_bits.py); 0 for none
    offsets   int64[n]    of the words in their phrase, from 0
    weights, base  float32[Q]
    table     float32[MOST_TF]  value of each frequency, with slope and factor float32[…] as in
              impacts.Weighting
    live      uint8[documents] or uint8[0]; allowed uint8[rows] or uint8[0]
    places    int64[3, S]    scratch for lists of up to S words
    numbers   int64[S + 1]   0, 1, …
    first_row, documents  of the segment
    memory    of `phrases.make_scratch`
    """
    scratch = scratch_of(memory)
    join = scratch.join
    for q in range(len(counts)):
        first, last = starts[q], starts[q + 1]
        slots = last - first
        own = terms[first:last]
        own_offsets = offsets[first:last]
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
                    keys[q, counts[q]] = key
                    counts[q] += 1
                    if counts[q] == keys.shape[1]:
                        best[q] = select_best(keys[q], counts[q], k)
                        counts[q] = k
            # a few new candidates are not worth a selection among k
            if counts[q] - k > k >> 3 or (best[q] == 0 and counts[q] > k):
                best[q] = select_best(keys[q], counts[q], k)
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
