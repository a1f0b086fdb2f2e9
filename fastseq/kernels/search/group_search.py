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
from fastseq.kernels.search.cursors import TINY
from fastseq.kernels.search.impacts import BLOCK, BLOCK_BITS, RANKS
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, find_document, frequency
from fastseq.kernels.simd.bytes import greater64, prefetch, trailing_zeros

MOST_SUM = 65535  # larger ones are refused
_FULL = np.uint64(255)  # of uint8 sums: this one or a larger one, which is computed when needed
# With more sums in a window than this, to zero all is faster than those.
_MANY = 512
_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)
_BELOW = np.float32(1 - 1e-6)  # covers the rounding of a part that is compared as a score


@inline
def _begin(scratch, postings, terms):
    """Point to the first runs of terms; returns how many have any."""
    n = 0
    packed = np.uint64(postings.packed)
    for i in range(np.uint64(len(terms))):
        term = np.uint64(terms[i])
        run, last = postings.term_run[term], postings.term_run[term + _U1]
        at = np.uint64(n)
        scratch[0, at], scratch[1, at] = run, last
        scratch[2, at], scratch[3, at] = postings.term_posting[term], np.int64(i)
        n += np.int64(run < last)
        # most terms have few postings: without this, to wait for them is a quarter of the time
        prefetch(postings.run_window, np.uint64(run))
        prefetch(postings.run_count, np.uint64(run))
        prefetch(postings.docs, np.uint64(scratch[2, at]))
        prefetch(postings.tfs, np.uint64(scratch[2, at]) >> packed)
    return n


@inline
def _next_window(scratch, n, postings, window):
    """(terms with runs beyond a window, terms with postings in it, these postings). Of the latter
    scratch[4], [5] and [6] get the first and the last posting but one, and the term's place."""
    kept, found, total = 0, 0, np.int64(0)
    for a in range(np.uint64(n)):
        run, last, first, term = scratch[0, a], scratch[1, a], scratch[2, a], scratch[3, a]
        if np.int64(postings.run_window[np.uint64(run)]) == window:
            stop = first + np.int64(postings.run_count[np.uint64(run)]) + 1
            at = np.uint64(found)
            scratch[4, at], scratch[5, at], scratch[6, at] = first, stop, term
            found += 1
            total += stop - first
            first = stop
            run += 1
        at = np.uint64(kept)
        scratch[0, at], scratch[1, at], scratch[2, at], scratch[3, at] = run, last, first, term
        kept += np.int64(run < last)
    return kept, found, total


@inline
def _move_largest(firsts, stops, n):
    """Make the largest of several lists the last one."""
    largest = np.uint64(0)
    for a in range(np.uint64(n)):
        if stops[a] - firsts[a] > stops[largest] - firsts[largest]:
            largest = a
    last = np.uint64(n - 1)
    firsts[largest], firsts[last] = firsts[last], firsts[largest]
    stops[largest], stops[last] = stops[last], stops[largest]


@inline
def _count_live(live, docs, firsts, stops, n, base, documents):
    """The postings of some lists whose documents are not deleted."""
    total = np.int64(0)
    for a in range(np.uint64(n)):
        for j in range(np.uint64(firsts[a]), np.uint64(stops[a])):
            row = base + np.int64(docs[j])
            if row < documents:
                total += np.int64(live[np.uint64(row)] != 0)
    return total


@inline
def _add_frequency(sums, document, before, postings, j):
    total = np.uint64(before) + np.uint64(frequency(postings, j))
    sums[document] = np.uint8(min(total, _FULL))


@inline
def _add_lists(sums, found, firsts, stops, n, postings):
    """Add up the frequencies of the documents with several of n lists of a window. Returns the
    entries of `found`: those documents, once for each posting but one."""
    entries = np.uint64(0)
    last = np.uint64(n - 1)
    for a in range(last):
        first, stop = np.uint64(firsts[a]), np.uint64(stops[a])
        for j in range(first, stop):
            document = np.uint64(postings.docs[j])
            before = sums[document]
            _add_frequency(sums, document, before, postings, j)
            found[entries] = np.int32(document)
            entries += np.uint64(before != 0)
    # No list follows: sums of documents without another one are not needed. The largest list has
    # half of the postings of a prefix on average, and takes a third of the time so.
    first = np.uint64(firsts[last])
    end = entries
    for j in range(first, np.uint64(stops[last])):
        found[end] = np.int32(j - first)
        end += np.uint64(sums[np.uint64(postings.docs[j])] != 0)
    for c in range(entries, end):
        j = first + np.uint64(found[c])
        document = np.uint64(postings.docs[j])
        _add_frequency(sums, document, sums[document], postings, j)
        found[c] = np.int32(document)
    return end


@inline
def _keep_live(found, n, live, base, documents):
    """Keep those of n entries of a window whose documents are not deleted; returns how many."""
    kept = np.uint64(0)
    for c in range(n):
        row = base + np.int64(found[c])
        found[kept] = found[c]
        if row < documents:
            kept += np.uint64(live[np.uint64(row)] != 0)
    return kept


@inline
def _keep_large(sums, found, n, least_sum):
    """Keep the first entry of each document whose sum is `least_sum` or more; returns how many.
    Their sums are above the bits of the document then. Without a branch, which would often be
    mispredicted."""
    kept = np.uint64(0)
    for c in range(n):
        document = np.uint64(found[c])
        total = np.uint64(sums[document])
        sums[document] = 0  # of a later entry of the document
        found[kept] = np.int32(total << np.uint64(WINDOW_BITS) | document)
        kept += np.uint64(total >= least_sum)
    return kept


@helper
def _whole_sum(document, firsts, stops, n, postings):
    """The sum of the frequencies of a document in n lists of a window, at most MOST_SUM."""
    total = np.int64(0)
    for a in range(np.uint64(n)):
        first, count = firsts[a], stops[a] - firsts[a]
        place = find_document(postings.docs, first, count, np.int64(0), document)
        if place < count and postings.docs[np.uint64(first + place)] == document:
            total += frequency(postings, np.uint64(first + place))
    return np.uint64(min(total, np.int64(MOST_SUM)))


@inline
def _least_sum(lowest, table, slope, least_factor):
    """A sum that a document needs for a part that is not below the lowest, or one that is smaller.
    It spares most documents a look at their length."""
    total = np.uint64(1)
    while total < _U63 and table[total] < lowest * (slope * table[total] + least_factor) * _BELOW:
        total += _U1
    return total


@jit
def sum_groups(
    rows, parts, ends, df, sums, found, scratch, postings, terms, starts, least, slope, factor,
    least_factor, table, live, windows, documents,
):  # fmt: skip
    """The documents of a segment with several terms of each of Q groups, and how many have any.

    rows, parts  int32[m], float32[m]: of documents with several terms of a group whose part, that
                 of the sum of their frequencies, may be `least` or more; those of group q end
                 before ends[q]. m, the postings of all groups, is enough
    ends      int64[Q]
    df        int64[Q]   the live documents of each group are added
    sums      uint8[WINDOW]  zeroed scratch, zero again afterwards
    found     int32[f]   scratch; f, the postings of a group in a window, and one more
    scratch   int64[7, m + 1]  for groups of up to m terms
    terms     int32[n]   of the segment, those of group q from starts[q] on
    least     float32[Q]
    slope, factor  as in impacts.Weighting; least_factor, that of no document is smaller
    table     float32[MOST_SUM + 1]  the value of each sum, ascending
    live      uint8[documents] or uint8[0]
    windows, documents  of the segment

    Returns whether a sum was larger than MOST_SUM.
    """
    firsts, stops = scratch[4], scratch[5]
    slope = np.float32(slope)
    m = np.uint64(0)
    overflow = False
    for q in range(len(df)):
        lowest = least[q] * _BELOW
        least_sum = _least_sum(lowest, table, slope, least_factor)
        n = _begin(scratch, postings, terms[starts[q] : starts[q + 1]])
        for window in range(windows):
            if n == 0:
                break
            n, lists, total = _next_window(scratch, n, postings, window)
            base = np.int64(window) << WINDOW_BITS
            if len(live) > 0:
                total = _count_live(live, postings.docs, firsts, stops, lists, base, documents)
            df[q] += total
            if lists < 2:
                continue
            _move_largest(firsts, stops, lists)
            entries = _add_lists(sums, found, firsts, stops, lists, postings)
            if len(live) > 0:
                entries = _keep_live(found, entries, live, base, documents)
            df[q] -= np.int64(entries)  # each is one more posting of a document
            large = _keep_large(sums, found, entries, least_sum)
            for c in range(large):
                prefetch(factor, np.uint64(base + np.int64(found[c] & WINDOW - 1)))
            for c in range(large):
                document = np.uint64(found[c] & WINDOW - 1)
                row = base + np.int64(document)
                if row >= documents:  # in a damaged file
                    continue
                total = np.uint64(found[c] >> WINDOW_BITS)
                if total == _FULL:
                    total = _whole_sum(np.uint16(document), firsts, stops, lists, postings)
                    overflow = overflow or total == np.uint64(MOST_SUM)
                value = table[total]
                below = slope * value + factor[np.uint64(row)]
                if value >= lowest * below:
                    rows[m] = np.int32(row)
                    parts[m] = value / below
                    m += _U1
            summed = np.int64(0)
            for a in range(np.uint64(lists - 1)):
                summed += stops[a] - firsts[a]
            if summed > _MANY:
                for document in range(np.uint64(WINDOW)):
                    sums[document] = 0
            else:
                for a in range(np.uint64(lists - 1)):
                    for j in range(np.uint64(firsts[a]), np.uint64(stops[a])):
                        sums[np.uint64(postings.docs[j])] = 0
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
    firsts, stops, places = scratch[4], scratch[5], scratch[6]
    m = np.uint64(0)
    for q in range(len(df)):
        begin = m
        n = _begin(scratch, postings, terms[starts[q] : starts[q + 1]])
        for window in range(windows):
            if n == 0:
                break
            n, lists, _ = _next_window(scratch, n, postings, window)
            entries = np.uint64(0)
            for a in range(np.uint64(lists)):
                own_factor = factors[np.uint64(starts[q] + places[a])]
                for j in range(np.uint64(firsts[a]), np.uint64(stops[a])):
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
def raise_least(least, postings, impacts, terms, starts, k):
    """Raise a part that the k best hits of each of Q groups reach, to that of the k-th best
    document of one term; see impacts.RANKS. Returns the postings of all terms.

    least    float32[Q]
    postings, impacts  of a segment, with the impacts of the terms
    terms    int32[n]  those of group q from starts[q] on
    """
    rank = 0
    while rank < len(RANKS) and RANKS[rank] < k:
        rank += 1
    total = np.int64(0)
    for q in range(len(least)):
        for i in range(np.uint64(starts[q]), np.uint64(starts[q + 1])):
            term = np.uint64(terms[i])
            count = postings.term_posting[term + _U1] - postings.term_posting[term]
            if rank < len(RANKS) and count >= RANKS[rank]:
                least[q] = max(least[q], impacts.ranked[term, rank])
            total += count
    return total


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
                        keys, counts, best, q, postings, impacts, order, term, weight, several,
                        allowed, first_row, k,
                    )  # fmt: skip
            for c in range(np.uint64(begin), np.uint64(ends[q])):
                several[np.uint64(rows[c]) >> _U6] = np.uint64(0)
        begin = ends[q]
