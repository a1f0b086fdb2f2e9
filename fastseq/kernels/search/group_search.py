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
from fastseq.kernels.search.search import TINY
from fastseq.kernels.simd.bytes import greater64, trailing_zeros

MOST_SUM = 65535  # of uint16 sums
# With more sums in a window than this, to zero all is faster than those.
_MANY = 512
_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)
_BELOW = np.float32(1 - 1e-6)  # covers the rounding of a part that is compared as a score


@inline
def _begin(runs, at, active, postings, terms):
    """Point to the first runs of terms; returns how many have any. The term with most postings is
    the last one."""
    n = 0
    largest, most = 0, np.int64(0)
    for i in range(np.uint64(len(terms))):
        term = np.uint64(terms[i])
        runs[i], at[i] = postings.term_run[term], postings.term_posting[term]
        if runs[i] < postings.term_run[term + _U1]:
            count = postings.term_posting[term + _U1] - at[i]
            if count > most:
                largest, most = n, count
            active[n] = np.int64(i)
            n += 1
    if n > 0:
        active[largest], active[n - 1] = active[n - 1], active[largest]
    return n


@inline
def _in_window(runs, at, i, postings, window):
    """(first, stop) of the postings of term i in a window, stop the first where it has none."""
    run, first = np.uint64(runs[i]), np.uint64(at[i])
    if np.int64(postings.run_window[run]) != window:
        return first, first
    return first, first + np.uint64(postings.run_count[run]) + _U1


@inline
def _count_live(live, docs, first, stop, base, documents):
    """The documents of postings that are not deleted."""
    if len(live) == 0:
        return np.int64(stop - first)
    total = np.int64(0)
    for j in range(first, stop):
        row = base + np.int64(docs[j])
        if row < documents:
            total += np.int64(live[np.uint64(row)] != 0)
    return total


@inline
def _add_frequency(sums, document, before, postings, j):
    total = np.int64(before) + frequency(postings, j)
    sums[document] = np.uint16(min(total, np.int64(MOST_SUM)))


@inline
def _add_window(sums, found, runs, at, active, n, postings, live, window, documents):
    """Add up the frequencies of documents with several terms in a window. Returns (entries of
    `found`: those documents, once for each posting but one; postings with sums; postings of
    documents that are not deleted)."""
    entries, summed, total = np.uint64(0), np.int64(0), np.int64(0)
    base = np.int64(window) << WINDOW_BITS
    for a in range(n):
        i = np.uint64(active[a])
        first, stop = _in_window(runs, at, i, postings, window)
        if first == stop:
            continue
        total += _count_live(live, postings.docs, first, stop, base, documents)
        if a + 1 < n:
            summed += np.int64(stop - first)
            for j in range(first, stop):
                document = np.uint64(postings.docs[j])
                before = sums[document]
                _add_frequency(sums, document, before, postings, j)
                found[entries] = np.int32(document)
                entries += np.uint64(before != 0)
        elif summed > 0:
            # No term follows: sums of documents without another term are not needed. The term with
            # most postings, on average half of those of a prefix, takes a third of the time so.
            last = entries
            for j in range(first, stop):
                found[last] = np.int32(j - first)
                last += np.uint64(sums[np.uint64(postings.docs[j])] != 0)
            for c in range(entries, last):
                j = first + np.uint64(found[c])
                document = np.uint64(postings.docs[j])
                _add_frequency(sums, document, sums[document], postings, j)
                found[c] = np.int32(document)
            entries = last
    return entries, summed, total


@inline
def _next_window(runs, at, active, n, postings, terms, window):
    """Go on to the terms' next runs; returns the terms with more."""
    kept = 0
    for a in range(n):
        i = np.uint64(active[a])
        _, stop = _in_window(runs, at, i, postings, window)
        runs[i] += np.int64(stop != np.uint64(at[i]))
        at[i] = np.int64(stop)
        active[kept] = np.int64(i)
        kept += np.int64(runs[i] < postings.term_run[np.uint64(terms[i]) + _U1])
    return kept


@jit
def sum_groups(
    rows, parts, ends, df, sums, found, scratch, postings, terms, starts, least, slope, factor,
    table, live, windows, documents,
):  # fmt: skip
    """The documents of a segment with several terms of each of Q groups, and how many have any.

    rows, parts  int32[m], float32[m]: of documents with several terms of a group whose part, that
                 of the sum of their frequencies, may be `least` or more; those of group q end
                 before ends[q]. m, the postings of all groups, is enough
    ends      int64[Q]
    df        int64[Q]   the live documents of each group are added
    sums      uint16[WINDOW]  zeroed scratch, zero again afterwards
    found     int32[f]   scratch; f, the postings of a group in a window, and one more
    scratch   int64[3, m]  for groups of up to m terms
    terms     int32[n]   of the segment, those of group q from starts[q] on
    least     float32[Q]
    slope, factor  as in impacts.Weighting
    table     float32[MOST_SUM + 1]  the value of each sum
    live      uint8[documents] or uint8[0]
    windows, documents  of the segment

    Returns whether a sum was larger than MOST_SUM.
    """
    runs, at, active = scratch[0], scratch[1], scratch[2]
    slope = np.float32(slope)
    m = np.uint64(0)
    overflow = False
    for q in range(len(df)):
        own = terms[starts[q] : starts[q + 1]]
        lowest = least[q] * _BELOW
        n = _begin(runs, at, active, postings, own)
        for window in range(windows):
            if n == 0:
                break
            entries, summed, total = _add_window(
                sums, found, runs, at, active, n, postings, live, window, documents
            )
            base = np.int64(window) << WINDOW_BITS
            for c in range(entries):
                document = np.uint64(found[c])
                row = np.uint64(base + np.int64(document))
                # a damaged file may have rows beyond the last
                if np.int64(row) >= documents or (len(live) > 0 and live[row] == 0):
                    total -= np.int64(len(live) == 0)
                    continue
                total -= 1  # each entry is one more posting of a document
                if sums[document] == 0:
                    continue  # as an earlier entry left it
                overflow = overflow or sums[document] == MOST_SUM
                value = table[np.uint64(sums[document])]
                sums[document] = 0
                part = value / (slope * value + factor[row])
                if part >= lowest:
                    rows[m] = np.int32(row)
                    parts[m] = part
                    m += _U1
            df[q] += total
            if summed > _MANY:
                for document in range(np.uint64(WINDOW)):
                    sums[document] = 0
            elif summed > 0:
                for a in range(n - 1):
                    first, stop = _in_window(runs, at, np.uint64(active[a]), postings, window)
                    for j in range(first, stop):
                        sums[np.uint64(postings.docs[j])] = 0
            n = _next_window(runs, at, active, n, postings, own, window)
        ends[q] = np.int64(m)
    return overflow


@jit
def sum_similar(
    rows, totals, ends, df, sums, found, scratch, postings, terms, factors, starts, live, windows,
    documents,
):  # fmt: skip
    """The documents of a segment with any of each of Q groups of terms with factors. Others as in
    `sum_groups`.

    rows, totals  int32[m], float64[m]: of the documents of a group, the sum of their frequencies
                  times the factors, added in the order of its terms
    sums      float64[WINDOW]  zeroed scratch, zero again afterwards
    factors   float64[n] of the frequencies of the terms
    """
    runs, at, active = scratch[0], scratch[1], scratch[2]
    m = np.uint64(0)
    for q in range(len(df)):
        own = terms[starts[q] : starts[q + 1]]
        n = 0
        for i in range(np.uint64(len(own))):
            term = np.uint64(own[i])
            runs[i], at[i] = postings.term_run[term], postings.term_posting[term]
            active[n] = np.int64(i)
            n += np.int64(runs[i] < postings.term_run[term + _U1])
        begin = m
        for window in range(windows):
            if n == 0:
                break
            entries = np.uint64(0)
            for a in range(n):
                i = np.uint64(active[a])
                own_factor = factors[np.uint64(starts[q]) + i]
                first, stop = _in_window(runs, at, i, postings, window)
                for j in range(first, stop):
                    document = np.uint64(postings.docs[j])
                    before = sums[document]
                    sums[document] = before + own_factor * np.float64(frequency(postings, j))
                    found[entries] = np.int32(document)
                    entries += np.uint64(before == 0)
            base = np.int64(window) << WINDOW_BITS
            for c in range(entries):
                document = np.uint64(found[c])
                row = base + np.int64(document)
                # a damaged file may have rows beyond the last
                if row < documents and (len(live) == 0 or live[np.uint64(row)] != 0):
                    rows[m] = np.int32(row)
                    totals[m] = sums[document]
                    m += _U1
                sums[document] = 0
            n = _next_window(runs, at, active, n, postings, own, window)
        df[q] += np.int64(m - begin)
        ends[q] = np.int64(m)


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
    keys, counts, best, q, postings, impacts, term, weight, several, allowed, first_row, k
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
def raise_least(least, impacts, terms, starts, k):
    """Raise a part that the k best hits of each of Q groups reach, to that of the k-th best
    document of one term; see impacts.RANKS.

    least    float32[Q]
    impacts  of a segment, with those of the terms
    terms    int32[n]  those of group q from starts[q] on
    """
    rank = 0
    while rank < len(RANKS) and RANKS[rank] < k:
        rank += 1
    if rank == len(RANKS):
        return
    for q in range(len(least)):
        for i in range(np.uint64(starts[q]), np.uint64(starts[q + 1])):
            least[q] = max(least[q], impacts.ranked[np.uint64(terms[i]), rank])


@jit
def begin_groups(keys, refused, weights, base, least, overflow):
    """Begin to collect the hits of Q groups.

    keys     uint64[Q]  gets one that is below those of the hits
    refused  uint8[Q]   gets whether the hits cannot be collected: 1 for all where `overflow`
    weights  float32[Q]  of a refused group set to 1
    base     float32[Q]
    least    float32[Q]  a part that the hits reach
    """
    for q in range(len(keys)):
        is_refused = overflow or weights[q] <= TINY or base[q] != 0
        if is_refused:
            weights[q] = 1.0
        refused[q] = np.uint8(is_refused)
        keys[q] = make_key(max(weights[q] * least[q] * _BELOW, TINY), ALL)


@jit
def collect_groups(
    keys, counts, best, several, postings, impacts, terms, starts, rows, parts, ends, weights,
    allowed, first_row, k,
):  # fmt: skip
    """Add the hits of a segment to those of Q groups.

    keys       uint64[Q, capacity]  (score, row) of candidates
    counts     int64[Q]   candidates of each
    best       uint64[Q]  a key that a later candidate must pass
    several    uint64[windows · WINDOW / 64]  zeroed scratch, zero again afterwards
    postings, impacts  of the segment, with the impacts of the terms
    terms      int32[n]   those of group q from starts[q] on; none where `rows` are all documents
    rows       int32[m]   documents with several terms that may be hits, those of group q end before
                          ends[q]
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
                        keys, counts, best, q, postings, impacts, term, weight, several, allowed,
                        first_row, k,
                    )  # fmt: skip
            for c in range(np.uint64(begin), np.uint64(ends[q])):
                several[np.uint64(rows[c]) >> _U6] = np.uint64(0)
        begin = ends[q]
