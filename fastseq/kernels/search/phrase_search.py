"""Exact top-k of exact phrases: many queries of one phrase each, segment by segment.

Before the positions of a document are decoded, its score is bounded by that of a phrase that occurs
as often as its rarest word there: a document whose bound is no hit is left out. The bound is a
float32 computation on a smaller or equal frequency, so it is exact.
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
from fastseq.kernels.search.phrases import (
    TILE,
    Lists,
    begin_join,
    keep_candidate,
    keep_pairs,
    next_candidates,
    phrase_frequency,
    point_cursors,
)
from fastseq.kernels.search.postings import frequency

MOST_TF = 4096  # values of frequencies below this are in the table


@inline
def _score(weight, tf, table, slope, factor, row):
    """The score of a document in which a phrase occurs tf times."""
    value = table[np.uint64(tf)]
    return weight * (value / (slope * value + factor[np.uint64(row)]))


@inline
def _least_frequency(join, postings, slots, c):
    """How often the rarest word of a candidate occurs in it."""
    least = np.int64(1 << 62)
    for s in range(slots):
        least = min(least, frequency(postings, np.uint64(join.places[s * TILE + c])))
    return least


@jit
def collect_phrases(
    keys, counts, best, overflow, postings, data, blocks, terms, offsets, starts, weights, base,
    table, slope, factor, live, allowed, places, numbers, first_row, documents, k, scratch,
):  # fmt: skip
    """Add the hits of a segment to those of Q phrases.

    keys      uint64[Q, capacity]  (score, row) of candidates
    counts    int64[Q]    candidates of each
    best      uint64[Q]   a key that a later candidate must pass; 0 for none yet
    overflow  uint8[Q]    set where a frequency is MOST_TF or more: the phrase has no hits here
    postings, data, blocks  of the segment (search/positions.py)
    terms     int32[n]    of the segment, those of phrase q from starts[q] on; -1 for a word that it
                          lacks
    offsets   int64[n]    of the words in their phrase, from 0
    weights, base  float32[Q]
    table     float32[MOST_TF]  value of each frequency, with slope and factor float32[…] as in
              impacts.Weighting
    live      uint8[documents] or uint8[0]; allowed uint8[rows] or uint8[0]
    places    int64[3, S]    scratch for lists of up to S words
    numbers   int64[S + 1]   0, 1, …
    first_row, documents  of the segment
    """
    for q in range(len(counts)):
        first, last = starts[q], starts[q + 1]
        slots = last - first
        own = terms[first:last]
        own_offsets = offsets[first:last]
        missing = False
        for i in range(slots):
            missing = missing or own[i] < 0
        if missing:
            continue
        lists = Lists(
            postings.docs, postings.run_window, postings.run_count, places[0, :slots],
            places[1, :slots], places[2, :slots], numbers[:0], numbers[:0],
        )  # fmt: skip
        join, cursors = scratch.join, scratch.cursors
        begin_join(join, lists, postings, own)
        weight = weights[q]
        while True:
            found = next_candidates(join, lists, live, documents)
            if found == 0:
                break
            if best[q] > 0:
                kept = 0
                for c in range(found):
                    tf = min(_least_frequency(join, postings, slots, c), MOST_TF - 1)
                    row = join.rows[c]
                    bound = _score(weight, tf, table, slope, factor, row)
                    if make_key(bound + base[q], first_row + row) > best[q]:
                        if kept < c:
                            keep_candidate(join, slots, c, kept)
                        kept += 1
                found = kept
            if slots > 1 and found > 0:
                found = keep_pairs(scratch, postings, data, blocks, own_offsets, found)
            for c in range(found):
                if slots == 2:
                    tf = np.int64(scratch.pairs[c])
                else:
                    point_cursors(cursors, lists, join, c, numbers[: slots + 1])
                    cursors.at[join.order[0]] = scratch.pair_at[c]
                    cursors.at[join.order[1]] = scratch.pair_at[TILE + c]
                    tf = np.int64(
                        phrase_frequency(
                            cursors, postings, data, blocks, own_offsets, join.order, 0, False
                        )
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
