"""The impacts of postings under a ranking model, computed when a term is first searched for.

A posting's impact is weight · part: the weight belongs to the query's term, the part to the posting
alone, so it is the same in every query. Computing a part takes a look-up of the document's length
and a division, about half of an exhaustive search; cached as float32, parts are read sequentially.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Float32, Int32, Int64, UInt8, UInt16
from fastseq.kernels.core.jit import helper, jit
from fastseq.kernels.core.topk import sort_descending
from fastseq.kernels.search.postings import LARGE_TF, WINDOW_BITS

# postings in a block, a multiple of 64; a block whose largest part is too small is skipped
BLOCK_BITS = 7
BLOCK = 1 << BLOCK_BITS


class Postings(NamedTuple):
    """An inverted index as arrays; V terms, P postings, R runs, L large frequencies."""

    docs: UInt16  # [P] document in its window
    tfs: UInt8  # [P] term frequency, or LARGE_TF
    term_posting: Int64  # [V + 1]
    term_run: Int64  # [V + 1]
    run_window: UInt16  # [R]
    run_count: UInt16  # [R] postings in the run, less one
    large_at: Int64  # [L] posting positions, ascending
    large_tf: Int32  # [L]


class Weighting(NamedTuple):
    """A ranking model, evaluated for one index:

    part = value / (slope · value + factor[document]),  value = table[tf].

    BM25 has table[tf] = tf and slope 1, TF-IDF its own table and slope 0.
    """

    slope: float  # float32
    factor: Float32  # [windows · WINDOW]
    table: Float32  # [256]
    large: Float32  # [L] the value of each large frequency


class Impacts(NamedTuple):
    """The parts computed so far."""

    best: Float32  # [V] the largest part of each term; NaN until its parts are computed
    parts: Float32  # [P]
    block: Float32  # [P / BLOCK + 1] the largest part of each block that lies in one term


def make_impacts(postings: Postings) -> Impacts:
    """Impacts with nothing computed; the operating system allocates pages as terms are filled
    in."""
    return Impacts(
        best=np.full(len(postings.term_run) - 1, np.nan, np.float32),
        parts=np.empty(len(postings.docs), np.float32),
        block=np.empty(len(postings.docs) // BLOCK + 1, np.float32),
    )


@helper
def _large_value(large_at, large, position):
    """The value of a posting whose frequency did not fit its byte."""
    low = np.int64(0)
    high = np.int64(len(large_at))
    while low < high:
        middle = (low + high) >> 1
        if large_at[np.uint64(middle)] < position:
            low = middle + 1
        else:
            high = middle
    if low < len(large):
        return large[np.uint64(low)]
    return np.float32(LARGE_TF)


@jit
def fill_impacts(impacts, postings, weighting, terms):
    """Compute the parts of those of `terms` (int32[n], -1 ignored) that have none yet.

    Not to be called by two threads at once. Returns the number of postings filled in.
    """
    docs, tfs = postings.docs, postings.tfs
    factor, table, parts = weighting.factor, weighting.table, impacts.parts
    slope = np.float32(weighting.slope)
    filled = np.int64(0)
    for i in range(len(terms)):
        term = terms[i]
        if term < 0 or impacts.best[np.uint64(term)] == impacts.best[np.uint64(term)]:
            continue
        first = postings.term_posting[term]
        position = first
        for run in range(postings.term_run[term], postings.term_run[term + 1]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            count = np.int64(postings.run_count[np.uint64(run)]) + 1
            # a damaged file may name a window beyond the last; search ignores it too
            known = base < np.uint64(len(factor))
            for at in range(np.uint64(position), np.uint64(position + count)):
                tf = tfs[at]
                value = table[np.uint64(tf)]
                if tf == LARGE_TF:
                    value = _large_value(postings.large_at, weighting.large, np.int64(at))
                part = np.float32(0.0)
                if known:
                    part = value / (slope * value + factor[base + np.uint64(docs[at])])
                parts[at] = part
            position += count
        best = np.float32(0.0)
        block_best = np.float32(0.0)
        for at in range(first, position):
            block_best = max(block_best, parts[np.uint64(at)])
            if (at & (BLOCK - 1)) == BLOCK - 1:
                # of a block shared with the term before only this term's share, which is not used
                impacts.block[np.uint64(at >> BLOCK_BITS)] = block_best
                best = max(best, block_best)
                block_best = np.float32(0.0)
        impacts.best[np.uint64(term)] = max(best, block_best)
        filled += position - first
    return filled


# ---- the terms of queries, and document statistics of a weighting


@jit
def count_terms(starts, terms, counts, keys, spare, ids, offsets):
    """The distinct known terms of each query, ascending by id, and how often each occurs.

    starts   int64[Q + 1]  query q has terms[starts[q]:starts[q + 1]]
    terms int32[n], counts float32[n]; keys, spare uint64[n]: scratch
    ids int32[n], offsets int64[Q + 1]: the queries' tokens, -1 for a term that the index lacks
    """
    out = np.int64(0)
    starts[0] = 0
    for q in range(len(offsets) - 1):
        n = np.int64(0)
        for i in range(offsets[q], offsets[q + 1]):
            if ids[i] >= 0:
                # descending order of complements is ascending order of ids
                keys[n] = ~np.uint64(ids[i])
                n += 1
        sort_descending(keys, spare, n)
        for i in range(n):
            term = np.int32(~keys[i])
            if i > 0 and keys[i] == keys[i - 1]:
                counts[out - 1] += 1.0
            else:
                terms[out] = term
                counts[out] = 1.0
                out += 1
        starts[q + 1] = out


@jit
def document_sums(squares, unique, postings, table, large, term_weight):
    """Statistics of each document for a vector-space weighting, added to `squares` and `unique`.

    squares      float64[documents]  the sum of (table[tf] · term_weight[t])² over its terms
    unique       int32[documents]    the number of its distinct terms
    table        float32[256]; large float32[L]: the same of frequencies beyond a byte
    term_weight  float64[V]
    """
    documents = len(squares)
    at = np.int64(0)
    seen = np.int64(0)
    for term in range(len(term_weight)):
        for run in range(postings.term_run[term], postings.term_run[term + 1]):
            base = np.int64(postings.run_window[run]) << WINDOW_BITS
            for _ in range(np.int64(postings.run_count[run]) + 1):
                tf = postings.tfs[at]
                value = np.float64(table[tf])
                if tf == LARGE_TF and seen < len(large):
                    value = np.float64(large[seen])
                    seen += 1
                document = base + np.int64(postings.docs[at])
                if document < documents:
                    squares[document] += (value * term_weight[term]) ** 2
                    unique[document] += 1
                at += 1
