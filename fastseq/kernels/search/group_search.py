"""Exact top-k of groups of terms, each searched as one term: many queries of one group each, such
as prefixes, segment by segment.

Most documents of a group have one of its terms. A first pass over the postings finds those with
several, and the sums of their frequencies (`sum_groups`); that gives the number of documents too,
on which the weight depends. The others have the score of the only term that they have, whose parts
are known (impacts.py): as in a search for single terms, blocks without a hit are left out
(`collect_groups`).
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.topk import ALL, key_score, make_key, select_best
from fastseq.kernels.search.impacts import BLOCK, BLOCK_BITS, RANKS
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, frequency
from fastseq.kernels.simd.bytes import greater64, trailing_zeros

MOST_SUM = 65535  # of uint16 sums
# With more postings in a window than this, to zero all sums is faster than those of the postings.
_MANY = 512
_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)
_BELOW = np.float32(1 - 1e-6)  # covers the rounding of a part that is compared as a score


@inline
def _sum(before, tf, factors, i):
    """A sum with the frequency of another term."""
    if factors is None:  # decided when it is compiled
        return np.uint16(min(np.int64(before) + tf, np.int64(MOST_SUM)))
    return before + factors[i] * np.float64(tf)


@inline
def _is_recorded(before, factors):
    """Whether a posting makes its document one with a sum: that of a second term, or with factors
    that of the first."""
    if factors is None:
        return before != 0
    return before == 0


@inline
def _in_window(runs, at, i, postings, window):
    """(first, stop) of the postings of term i in a window, stop the first where it has none."""
    run, first = np.uint64(runs[i]), np.uint64(at[i])
    if np.int64(postings.run_window[run]) != window:
        return first, first
    return first, first + np.uint64(postings.run_count[run]) + _U1


@inline
def _add_window(sums, found, runs, at, active, n, postings, factors, window):
    """Add up the frequencies in a window. Returns (entries of `found`, where a document may be
    repeated; postings)."""
    entries, total = np.uint64(0), np.int64(0)
    for a in range(n):
        i = np.uint64(active[a])
        first, stop = _in_window(runs, at, i, postings, window)
        total += np.int64(stop - first)
        for j in range(first, stop):
            document = np.uint64(postings.docs[j])
            before = sums[document]
            sums[document] = _sum(before, frequency(postings, j), factors, i)
            found[entries] = np.int32(document)
            entries += np.uint64(_is_recorded(before, factors))
    return np.int64(entries), total


@inline
def _live_singles(sums, live, runs, at, active, n, postings, window, documents):
    """The live documents of a window that have sums; they are zero afterwards."""
    total = np.int64(0)
    base = np.int64(window) << WINDOW_BITS
    for a in range(n):
        i = np.uint64(active[a])
        first, stop = _in_window(runs, at, i, postings, window)
        for j in range(first, stop):
            document = np.uint64(postings.docs[j])
            row = base + np.int64(document)
            if sums[document] != 0 and row < documents:
                total += np.int64(live[np.uint64(row)] != 0)
            sums[document] = 0
    return total


@inline
def _next_window(sums, runs, at, active, n, postings, terms, window, is_zero):
    """Set the sums to zero again, unless they are, and go on to the terms' next runs; returns the
    terms with more."""
    kept = 0
    for a in range(n):
        i = np.uint64(active[a])
        first, stop = _in_window(runs, at, i, postings, window)
        if first < stop:
            if not is_zero:
                for j in range(first, stop):
                    sums[np.uint64(postings.docs[j])] = 0
            at[i] = np.int64(stop)
            runs[i] += 1
        if runs[i] < postings.term_run[np.uint64(terms[i]) + _U1]:
            active[kept] = np.int64(i)
            kept += 1
    return kept


@jit
def sum_groups(
    rows, totals, ends, df, sums, found, scratch, postings, terms, factors, starts, live, windows,
    documents,
):  # fmt: skip
    """The documents of a segment with several terms of each of Q groups, and how many have any.

    rows, totals  int32[m], and uint16[m] or float64[m]: of documents with several terms of a group
                  (with factors: with any), the sum of their frequencies; those of group q end
                  before ends[q]. m, the postings of all groups, is enough
    ends      int64[Q]
    df        int64[Q]   the live documents of each group are added
    sums      uint16[WINDOW], with factors float64[WINDOW]: zeroed scratch, zero again afterwards
    found     int32[f]   scratch; f, the postings of a group, and one more
    scratch   int64[3, m]  for groups of up to m terms
    terms     int32[n]   of the segment, those of group q from starts[q] on
    factors   float64[n] of their frequencies; None where all are 1
    live      uint8[documents] or uint8[0]
    windows, documents  of the segment

    Returns whether a sum was larger than MOST_SUM.
    """
    runs, at, active = scratch[0], scratch[1], scratch[2]
    m = np.uint64(0)
    overflow = False
    for q in range(len(df)):
        own = terms[starts[q] : starts[q + 1]]
        own_factors = None if factors is None else factors[starts[q] : starts[q + 1]]
        n = 0
        for i in range(len(own)):
            term = np.uint64(own[np.uint64(i)])
            runs[i] = postings.term_run[term]
            at[i] = postings.term_posting[term]
            if runs[i] < postings.term_run[term + _U1]:
                active[n] = i
                n += 1
        for window in range(windows):
            if n == 0:
                break
            entries, total = _add_window(
                sums, found, runs, at, active, n, postings, own_factors, window
            )
            base = np.int64(window) << WINDOW_BITS
            if factors is None and len(live) == 0:
                df[q] += total - entries  # each entry is one more posting of a document
            for c in range(np.uint64(entries)):
                document = np.uint64(found[c])
                row = base + np.int64(document)
                # an earlier entry of the document has set the sum to zero; a damaged file may have
                # rows beyond the last
                if sums[document] == 0 or row >= documents:
                    continue
                if len(live) == 0 or live[np.uint64(row)] != 0:
                    rows[m] = np.int32(row)
                    totals[m] = sums[document]
                    m += _U1
                    if factors is None:
                        overflow = overflow or sums[document] == MOST_SUM
                        df[q] += np.int64(len(live) > 0)
                    else:
                        df[q] += 1
                sums[document] = 0
            is_zero = False
            if factors is None:
                if len(live) > 0:
                    df[q] += _live_singles(
                        sums, live, runs, at, active, n, postings, window, documents
                    )
                    is_zero = True
                elif total > _MANY:
                    for document in range(np.uint64(WINDOW)):
                        sums[document] = 0
                    is_zero = True
            n = _next_window(sums, runs, at, active, n, postings, own, window, is_zero)
        ends[q] = np.int64(m)
    return overflow


@inline
def _add(keys, counts, best, q, key, k):
    """Append a key that is a hit as far as is known."""
    keys[q, counts[q]] = key
    counts[q] += 1
    if counts[q] == keys.shape[1]:
        best[q] = select_best(keys[q], counts[q], k)
        counts[q] = k


@helper
def _collect_term(
    keys, counts, best, q, postings, impacts, order, term, weight, several, allowed, first_row, k
):  # fmt: skip
    """Add the documents of a term that have no other one, whose score is that of the term."""
    at = np.uint64(postings.term_posting[term])
    parts = impacts.parts
    last_run = np.uint64(postings.term_run[term + _U1])
    end = np.uint64(postings.term_posting[term + _U1])
    run = np.uint64(postings.term_run[term])
    while run < last_run and at < end:
        base = np.int64(postings.run_window[run]) << WINDOW_BITS
        last = at + np.uint64(postings.run_count[run]) + _U1
        run += _U1
        while at < last:
            stop = min((at | np.uint64(BLOCK - 1)) + _U1, last)
            least = key_score(best[q]) / weight * _BELOW
            if stop - at == np.uint64(BLOCK) and impacts.block[at >> np.uint64(BLOCK_BITS)] < least:
                at = stop
                continue
            while at < stop:
                above = np.uint64(0)
                n = min(np.uint64(64), stop - at)
                if n == np.uint64(64):
                    above = greater64(parts, at, least)
                else:
                    for j in range(n):
                        above |= np.uint64(parts[at + j] > least) << j
                while above:
                    j = at + trailing_zeros(above)
                    above &= above - _U1
                    document = base + np.int64(postings.docs[j])
                    if len(order) > 0:
                        document = np.int64(order[np.uint64(document)])
                    row = first_row + document
                    key = make_key(weight * parts[j], row)
                    if key <= best[q]:
                        continue
                    if several[np.uint64(document) >> _U6] >> (np.uint64(document) & _U63) & _U1:
                        continue
                    if len(allowed) == 0 or allowed[np.uint64(row)] != 0:
                        _add(keys, counts, best, q, key, k)
                at += n
        if counts[q] - k > k >> 3:
            best[q] = select_best(keys[q], counts[q], k)
            counts[q] = k


@jit
def raise_least(least, impacts, terms, starts, weights, k):
    """Raise a score that the k best hits of each of Q groups reach, to that of the k-th best
    document of one term; see impacts.RANKS.

    least    float32[Q]
    impacts  of a segment, with those of the terms
    terms    int32[n]  those of group q from starts[q] on
    weights  float32[Q]
    """
    rank = 0
    while rank < len(RANKS) and RANKS[rank] < k:
        rank += 1
    if rank == len(RANKS):
        return
    for q in range(len(least)):
        for i in range(np.uint64(starts[q]), np.uint64(starts[q + 1])):
            part = impacts.ranked[np.uint64(terms[i]), rank]
            least[q] = max(least[q], weights[q] * part * _BELOW)


@jit
def keys_of(keys, scores):
    """keys uint64[n]: below that of every document with one of the scores, float32[n]."""
    for i in range(len(keys)):
        keys[i] = make_key(scores[i], ALL)


@jit
def collect_groups(
    keys, counts, best, several, postings, impacts, order, terms, starts, rows, parts, ends,
    weights, allowed, first_row, k,
):  # fmt: skip
    """Add the hits of a segment to those of Q groups.

    keys       uint64[Q, capacity]  (score, row) of candidates
    counts     int64[Q]   candidates of each
    best       uint64[Q]  a key that a later candidate must pass
    several    uint64[windows · WINDOW / 64]  zeroed scratch, zero again afterwards
    postings, impacts  of the segment, with the impacts of the terms, in the order of search
    order      uint32[documents]  that order; or uint32[0], where it is that of the rows
    terms      int32[n]   those of group q from starts[q] on; none where `rows` are all documents
    rows       int32[m]   documents with several terms, those of group q end before ends[q]
    parts      float32[m] of these
    weights    float32[Q] positive
    allowed    uint8[all rows] or uint8[0]
    first_row  of the segment
    """
    begin = np.int64(0)
    for q in range(len(counts)):
        weight = weights[q]
        for c in range(np.uint64(begin), np.uint64(ends[q])):
            document = np.uint64(rows[c])
            row = first_row + np.int64(document)
            key = make_key(weight * parts[c], row)
            if key > best[q] and (len(allowed) == 0 or allowed[np.uint64(row)] != 0):
                _add(keys, counts, best, q, key, k)
        if starts[q] < starts[q + 1]:
            for c in range(np.uint64(begin), np.uint64(ends[q])):
                document = np.uint64(rows[c])
                several[document >> _U6] |= _U1 << (document & _U63)
            for i in range(np.uint64(starts[q]), np.uint64(starts[q + 1])):
                term = np.uint64(terms[i])
                if abs(impacts.best[term]) >= key_score(best[q]) / weight * _BELOW:
                    _collect_term(
                        keys, counts, best, q, postings, impacts, order, term, weight, several,
                        allowed, first_row, k,
                    )  # fmt: skip
            for c in range(np.uint64(begin), np.uint64(ends[q])):
                several[np.uint64(rows[c]) >> _U6] = np.uint64(0)
        begin = ends[q]
