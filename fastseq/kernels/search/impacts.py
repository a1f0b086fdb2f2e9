"""The impacts of postings under a ranking model, computed when a term is first searched for.

A posting's impact is weight · part: the weight belongs to the query's term, the part to the posting
alone, so it is the same in every query. Computing a part takes a look-up of the document's length
and a division, about half of an exhaustive search; cached as float32, parts are read sequentially.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Float32
from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.topk import bits_float, float_bits
from fastseq.kernels.search.postings import (
    WINDOW_BITS,
    Postings,
    find_large,
    large_mark,
    stored_tf,
)

# postings in a block, a multiple of 64; a block whose largest part is too small is skipped
BLOCK_BITS = 7
BLOCK = 1 << BLOCK_BITS
# Where k documents reach a score by one term alone, the k-th best score of the query is at least as
# high: the parts of these ranks give an initial threshold.
RANKS = (10, 100, 1000)
# Parts are ranked by the upper bits of their floats, rounded down: 64 values an octave, 16 octaves.
_RANK_SHIFT = np.uint32(17)
RANK_BUCKETS = 1024
# a term with smaller parts is signed: its product with a weight may be 0
LEAST_PART = np.float32(1e-6)


class Weighting(NamedTuple):
    """A ranking model, evaluated for one index:

    part = value / (slope · value + factor[document]),  value = table[tf].

    BM25 has table[tf] = tf and slope 1, TF-IDF its own table and slope 0. The factor of a deleted
    document and of a row beyond the last is infinite, so their parts are 0 and they no hits.
    """

    slope: float  # float32
    factor: Float32  # [windows · WINDOW]
    table: Float32  # [256]
    large: Float32  # [L] the value of each large frequency


class Impacts(NamedTuple):
    """The parts computed so far. That of a deleted document is 0, with the sign bit clear; a part
    of 0 of any other is -0.0."""

    # [V] the largest part of each term, NaN until its parts are computed; of a signed one, some of
    # whose parts are below LEAST_PART or negative, a negative number, minus an upper bound
    best: Float32
    parts: Float32  # [P]
    block: Float32  # [P / BLOCK + 1] the largest part of each block that lies in one term
    # [V, 3] of each term the parts of RANKS, rounded down by up to 1/64; 0 where it has fewer
    # postings, -1 for a signed term
    ranked: Float32


def make_impacts(postings: Sequence[Postings]) -> list[Impacts]:
    """Impacts of segments with nothing computed; the operating system allocates pages as terms are
    filled in.

    All parts are one array, since NumPy asks for huge pages from 4 MB on: a batch search over 20
    segments of 26,000 documents takes .97 times as long as with an array for each.
    """
    ends = np.cumsum([0, *(len(each.docs) for each in postings)])
    parts = np.empty(ends[-1], np.float32)
    return [
        Impacts(
            best=np.full(len(each.term_run) - 1, np.nan, np.float32),
            parts=parts[first:last],
            block=np.empty(len(each.docs) // BLOCK + 1, np.float32),
            ranked=np.zeros((len(each.term_run) - 1, len(RANKS)), np.float32),
        )
        for each, (first, last) in zip(postings, pairwise(ends), strict=True)
    ]


@jit
def fill_impacts(impacts, postings, weighting, terms):
    """Compute the parts of those of `terms` (int32[n], -1 ignored) that have none yet.

    Not to be called by two threads at once. Returns the number of postings filled in.
    """
    docs, large_at = postings.docs, postings.large_at
    factor, table, parts = weighting.factor, weighting.table, impacts.parts
    slope = np.float32(weighting.slope)
    filled = np.int64(0)
    for i in range(len(terms)):
        term = terms[i]
        if term < 0 or impacts.best[np.uint64(term)] == impacts.best[np.uint64(term)]:
            continue
        first = postings.term_posting[term]
        position = first
        large = find_large(large_at, first)
        for run in range(postings.term_run[term], postings.term_run[term + 1]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = position + np.int64(postings.run_count[np.uint64(run)]) + 1
            # a damaged file may name a window beyond the last; search ignores it too
            known = base < np.uint64(len(factor))
            for at in range(np.uint64(position), np.uint64(stop)):
                value = table[stored_tf(postings, at)]
                part = np.float32(0.0)
                if known:
                    part = value / (slope * value + factor[base + np.uint64(docs[at])])
                parts[at] = part
            while large < len(large_at) and large_at[np.uint64(large)] < stop:
                # a damaged file may have them in another order
                if known and large_at[np.uint64(large)] >= position:
                    at = np.uint64(large_at[np.uint64(large)])
                    value = weighting.large[np.uint64(large)]
                    parts[at] = value / (slope * value + factor[base + np.uint64(docs[at])])
                large += 1
            position = stop
        impacts.best[np.uint64(term)] = fill_blocks(impacts.block, parts, first, position)
        filled += position - first
    return filled


@jit
def place_parts(impacts, postings, terms, parts):
    """Store the parts of all postings of some terms that have none yet.

    Not to be called by two threads at once.

    terms  int32[n]
    parts  float32[m]  those of one term after the other, as in Impacts
    """
    at = np.uint64(0)
    for i in range(len(terms)):
        term = np.uint64(terms[i])
        first = postings.term_posting[term]
        last = postings.term_posting[term + np.uint64(1)]
        positive = True
        for j in range(np.uint64(first), np.uint64(last)):
            part = parts[at]
            impacts.parts[j] = part
            positive = positive and (part >= LEAST_PART or float_bits(part) == 0)
            at += np.uint64(1)
        best = fill_blocks(impacts.block, impacts.parts, first, last)
        impacts.best[term] = best if positive else -max(best, LEAST_PART)


@jit
def rank_parts(impacts, counts, postings, terms):
    """Fill in the ranked parts of terms whose parts are computed.

    counts  int32[RANK_BUCKETS]  scratch
    terms   int32[n]
    """
    for i in range(len(terms)):
        term = np.uint64(terms[i])
        ranked = impacts.ranked[term]
        first = np.uint64(postings.term_posting[term])
        last = np.uint64(postings.term_posting[term + np.uint64(1)])
        best = impacts.best[term]
        if best < 0.0:
            ranked[:] = -1.0
            continue
        if last - first < np.uint64(RANKS[0]):
            continue
        counts[:] = 0
        top = np.uint64(float_bits(best) >> _RANK_SHIFT)
        for j in range(first, last):
            # -0.0 is below all others too: the difference wraps around
            below = top - np.uint64(float_bits(impacts.parts[j]) >> _RANK_SHIFT)
            counts[min(below, np.uint64(RANK_BUCKETS - 1))] += 1
        rank = 0
        total = np.int64(0)
        for below in range(RANK_BUCKETS - 1):
            total += counts[below]
            while rank < len(RANKS) and total >= RANKS[rank]:
                ranked[rank] = bits_float(np.uint32(top - np.uint64(below)) << _RANK_SHIFT)
                rank += 1
            if rank == len(RANKS) or np.uint64(below) == top:
                break


@inline
def fill_blocks(block, parts, first, last):
    """Store the largest part of each block of the postings of a term, first to last; returns that
    of all. Blocks shared with other terms, of which the last term's share is stored, are not used.
    """
    best = np.float32(0.0)
    start = first
    while start < last:
        stop = np.uint64(min((start | (BLOCK - 1)) + 1, last))
        at = np.uint64(start)
        four = at + ((stop - at) & ~np.uint64(3))
        a = b = c = d = np.float32(0.0)  # a single maximum would wait for the one before
        while at < four:
            a = max(a, parts[at])
            b = max(b, parts[at + np.uint64(1)])
            c = max(c, parts[at + np.uint64(2)])
            d = max(d, parts[at + np.uint64(3)])
            at += np.uint64(4)
        while at < stop:
            a = max(a, parts[at])
            at += np.uint64(1)
        largest = max(max(a, b), max(c, d))
        block[np.uint64(start >> BLOCK_BITS)] = largest
        best = max(best, largest)
        start = np.int64(stop)
    return best


# ---- the terms of queries, and document statistics of a weighting


@inline
def _is_before(data, ends, gap, a, b):
    """Whether the bytes of term a sort before those of term b."""
    i = np.uint64(ends[a])
    j = np.uint64(ends[b])
    a_end = np.uint64(ends[a + 1]) - gap
    b_end = np.uint64(ends[b + 1]) - gap
    while i < a_end and j < b_end:
        if data[i] != data[j]:
            return data[i] < data[j]
        i += np.uint64(1)
        j += np.uint64(1)
    return i == a_end and j < b_end


@helper
def _sort_by_bytes(terms, spare, n, data, ends, gap):
    """Sort terms[:n] by their bytes; spare is uint64[>= n]. A merge sort as sort_descending."""
    run = 16
    for start in range(0, n, run):
        stop = min(start + run, n)
        for i in range(start + 1, stop):
            term = terms[np.uint64(i)]
            j = i
            while j > start and _is_before(data, ends, gap, term, terms[np.uint64(j - 1)]):
                terms[np.uint64(j)] = terms[np.uint64(j - 1)]
                j -= 1
            terms[np.uint64(j)] = term
    while run < n:
        for start in range(0, n, 2 * run):
            middle = min(start + run, n)
            stop = min(start + 2 * run, n)
            i = start
            j = middle
            for out in range(start, stop):
                if i < middle and (
                    j >= stop
                    or _is_before(data, ends, gap, terms[np.uint64(i)], terms[np.uint64(j)])
                ):
                    spare[np.uint64(out)] = terms[np.uint64(i)]
                    i += 1
                else:
                    spare[np.uint64(out)] = terms[np.uint64(j)]
                    j += 1
        for i in range(n):
            terms[np.uint64(i)] = np.int32(spare[np.uint64(i)])
        run *= 2


@jit
def count_terms(
    starts, terms, counts, spare, seen, ids, offsets, df, data, ends, gap,
):  # fmt: skip
    """The distinct known terms of each query, in the order of their bytes, and how often each
    occurs.

    starts   int64[Q + 1]  query q has terms[starts[q]:starts[q + 1]]
    terms int32[n], counts float32[n]; spare uint64[n]: scratch
    seen     int32[V]      scratch, zeroed; zero again afterwards
    ids int32[n], offsets int64[Q + 1]: the queries' tokens
    df       int64[V]      documents with each term; a term without any is dropped
    data, ends, gap        the bytes of term t are data[ends[t]:ends[t + 1] - gap]
    """
    out = np.int64(0)
    starts[0] = 0
    for q in range(len(offsets) - 1):
        first = out
        for i in range(offsets[q], offsets[q + 1]):
            term = np.uint64(ids[i])
            if df[term] > 0:
                if seen[term] == 0:
                    terms[out] = np.int32(term)
                    out += 1
                seen[term] += 1
        _sort_by_bytes(terms[first:out], spare, out - first, data, ends, np.uint64(gap))
        for i in range(first, out):
            term = np.uint64(terms[i])
            counts[i] = np.float32(seen[term])
            seen[term] = 0
        starts[q + 1] = out


@inline
def _add_exactly(high, low, document, value):
    """Add a float64, at least 0 and cut at 2^62, to the fixed-point sum of a document."""
    value = min(value, 4611686018427387904.0)
    whole = np.floor(value)
    part = np.uint64((value - whole) * 18446744073709551616.0)  # 2^64
    total = low[document] + part
    high[document] += np.uint64(whole) + np.uint64(total < part)
    low[document] = total


@jit
def document_sums(high, low, unique, postings, table, large, term_weight):
    """Statistics of each document for a vector-space weighting, added to the first three arrays.

    high, low    uint64[documents]  the sum of (table[tf] · term_weight[t])² over its terms, in
                 units of 1 and of 2^-64: exact in every order of addition, so that it does not
                 depend on the order of terms in an index
    unique       int32[documents]   the number of its distinct terms
    table        float32[256]; large float32[L]: the same of large frequencies
    term_weight  float64[V]
    """
    documents = len(high)
    at = np.int64(0)
    seen = np.int64(0)
    for term in range(len(term_weight)):
        for run in range(postings.term_run[term], postings.term_run[term + 1]):
            base = np.int64(postings.run_window[run]) << WINDOW_BITS
            for _ in range(np.int64(postings.run_count[run]) + 1):
                tf = stored_tf(postings, np.uint64(at))
                value = np.float64(table[tf])
                if tf == large_mark(postings) and seen < len(large):
                    value = np.float64(large[seen])
                    seen += 1
                document = base + np.int64(postings.docs[at])
                if document < documents:
                    _add_exactly(high, low, document, (value * term_weight[term]) ** 2)
                    unique[document] += 1
                at += 1
