"""Top k words of each of many queries, from blocks of their scores.

A product of packed panels (`simd.gemm.multiply_panels`) gives the scores of some queries with a
block of words; a kernel here scans them 64 at a time for scores above the k-th best so far and
stores those as keys of `topk`: score descending, then word ascending. Every query has its own
buffer, cut back to k when full; the matrix of all scores is never made.

Scores do not depend on the blocks, and the order of keys is total, so the result has the same bits
whichever words each thread scans.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, jit
from fastseq.kernels.core.topk import (
    key_document,
    key_score,
    make_key,
    select_best,
    sort_descending,
)
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.bytes import greater64, trailing_zeros
from fastseq.kernels.simd.floats import load, store

EPSILON = 1e-3  # Levy & Goldberg 2014, section 6


@helper
def _keep_row(keys, start, count, limit, scores, at, words, first, k):
    """Add scores[at:at + words], of the words from `first` on, that exceed `limit` to a buffer of
    keys; return its new size and the score that the next must exceed."""
    capacity = keys.shape[1]
    i = np.int64(0)
    mine = keys[start]
    while i < words:
        if i + 64 <= words:
            above = greater64(scores, np.uint64(at + i), limit)
        else:
            above = np.uint64(0)
            for j in range(words - i):
                if scores[at + i + j] > limit:
                    above |= np.uint64(1) << np.uint64(j)
        while above:
            j = i + np.int64(trailing_zeros(above))
            above &= above - np.uint64(1)
            score = scores[at + j]
            if score > limit:  # which may have risen since the comparison
                # + 0.0: -0.0 becomes 0.0, whose key is larger
                mine[count] = make_key(score + np.float32(0.0), first + j)
                count += 1
                if count == capacity:
                    limit = key_score(select_best(mine, count, k))
                    count = k
        i += 64
    return count, limit


@jit
def keep_best(keys, counts, limits, scores, words, first, k):
    """Add the scores of Q queries with the words first, first + 1, ….

    keys    uint64[Q, C], C > k  the best so far, unordered
    counts  int64[Q]             their number
    limits  float32[Q]           what a score must exceed; initially -infinity
    scores  float32[Q, W]        of which the first `words` are used; no NaN

    Words must come in ascending order: of equal scores the first is kept.
    """
    flat = scores.reshape(scores.size)
    for q in range(len(scores)):
        counts[q], limits[q] = _keep_row(
            keys, q, counts[q], limits[q], flat, q * scores.shape[1], words, first, k
        )


@jit
def keep_analogies(keys, counts, limits, sums, scores, questions, words, first, k, multiply):
    """`keep_best` for analogies "a is to b as c is to ?", with scores computed from the words'.

    sums       float32[W]     scratch
    scores     float32[U, W]  cosines of U words with the words first, first + 1, …; W is a
                              multiple of LANES
    questions  int32[Q, 3]    rows of `scores`: a, b, c
    multiply   False: cos(b) - cos(a) + cos(c), which ranks as the cosine with b - a + c does
               (3CosAdd; Mikolov, Yih & Zweig 2013, section 5); True: cos(b) cos(c) / (cos(a) + ε),
               cosines moved to 0 to 1 (3CosMul; Levy & Goldberg 2014, section 6)
    """
    W = scores.shape[1]
    flat = scores.reshape(scores.size)
    for q in range(len(questions)):
        a = np.int64(questions[q, 0]) * W
        b = np.int64(questions[q, 1]) * W
        c = np.int64(questions[q, 2]) * W
        if multiply:
            for i in range(0, W, LANES):
                to_b, to_c = 0.5 + 0.5 * load(flat, b + i), 0.5 + 0.5 * load(flat, c + i)
                to_a = 0.5 + 0.5 * load(flat, a + i)
                store(sums, i, to_b * to_c / (to_a + EPSILON))
        else:
            for i in range(0, W, LANES):
                store(sums, i, load(flat, b + i) - load(flat, a + i) + load(flat, c + i))
        counts[q], limits[q] = _keep_row(keys, q, counts[q], limits[q], sums, 0, words, first, k)


@jit
def best_of(rows, scores, keys, counts, gathered, spare):
    """The best of each query in order, from the R parts of the words.

    rows             int32[Q, k]      words: score descending, then word ascending; -1 past the last
    scores           float32[Q, k]    0 past the last
    keys             uint64[R, Q, C]  counts[r, q] of them used
    counts           int64[R, Q]
    gathered, spare  uint64[R * C]    scratch
    """
    k = rows.shape[1]
    for q in range(len(rows)):
        n = np.int64(0)
        for r in range(len(keys)):
            for i in range(counts[r, q]):
                gathered[n] = keys[r, q, i]
                n += 1
        if n > k:
            select_best(gathered, n, k)
            n = np.int64(k)
        sort_descending(gathered, spare, n)
        for i in range(k):
            rows[q, i] = np.int32(key_document(gathered[i])) if i < n else np.int32(-1)
            scores[q, i] = key_score(gathered[i]) if i < n else np.float32(0.0)
