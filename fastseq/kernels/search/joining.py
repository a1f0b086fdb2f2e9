"""Documents that all of several posting lists have, and their places in each.

The lists are intersected window by window, starting with the one that has the fewest postings
there, TILE of them at a time. Of a frequent term, whose documents are known as bits, a bit is
tested for each candidate, and the place of one that is left is counted: the bits before it. In
other lists each candidate is looked up. A term of several slots is one list.

Where a score must be above a threshold, the parts of the postings (impacts.py) are upper bounds:
blocks and postings with parts too small are left out.

Data that is damaged gives wrong results, but nothing outside of the arrays is read: documents
beyond the last are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Float32, Int64, UInt16
from fastseq.kernels.core.jit import helper, inline, optimised_helper
from fastseq.kernels.search.cursors import NO_WINDOW
from fastseq.kernels.search.dense import dense_of, has_bit, rank_of
from fastseq.kernels.search.impacts import BLOCK, BLOCK_BITS
from fastseq.kernels.search.postings import WINDOW_BITS, find_document
from fastseq.kernels.simd.bytes import equal32, greater64, trailing_zeros

TILE = 1024  # documents of the shortest list that are looked for in the others at a time
VECTOR = 32  # entries of a list that are compared with a document at once

_U1 = np.uint64(1)


class Lists(NamedTuple):
    """The documents of S slots as posting lists, ascending.

    A *place* is an index of `docs`. Where each slot is a single term, the arrays are those of the
    segment, places are its postings, and `entry_ends` is empty. Other lists are made by
    `unite_terms`.
    """

    docs: UInt16  # document in its window
    run_window: UInt16
    run_count: UInt16  # postings in the run, less one
    first: Int64  # [S] the first place of each slot
    run: Int64  # [S] its first run
    last_run: Int64  # [S] and its last, exclusive
    entry_ends: Int64  # [places + 1] place p has the entries from entry_ends[p] to [p + 1]
    entries: Int64  # postings of the segment
    parts: Float32  # of places, upper bounds of that of a match; or [0] for none (Impacts)
    block: Float32  # the largest part of each block; or [0]


class Join(NamedTuple):
    """An intersection of lists in progress, for up to S slots."""

    run: Int64  # [S] current run of each slot
    window: Int64  # [S] its window, NO_WINDOW past the last
    start: Int64  # [S] its first place
    size: Int64  # [S] and the number of places
    low: Int64  # [S] how many of these are before the next candidate
    source: Int64  # [S] the first slot with the term of each; only the lists of these are joined
    before: Int64  # [S] the last slot before it that has the same term; -1 for none
    times: Int64  # [S] how many slots have the term of a first slot
    order: Int64  # [S] first slots, those with the fewest places in the window first; then others
    bits: Int64  # [S] the address of the bits of each slot (dense.py); 0 for none
    short: Int64  # [S] that of the short positions of its term (term_bits.py); 0 for none
    state: Int64  # [2] 1 inside of a window that all lists have; the number of first slots
    rows: Int64  # [TILE] the candidates: documents that all lists have
    column: Int64  # [TILE] of `places`, for each candidate: those left move without their places
    places: Int64  # [S · TILE] places[s · TILE + column[c]]: of candidate c in that of first slot s


@inline
def place_in(join, s, c):
    """The place of candidate c in the list of slot s."""
    return join.places[join.source[s] * TILE + join.column[c]]


# ---- windows


@inline
def _enter_run(join, lists, s):
    """Set the window and the size of the current run of a slot."""
    if join.run[s] < lists.last_run[s]:
        run = np.uint64(join.run[s])
        join.window[s] = np.int64(lists.run_window[run])
        join.size[s] = np.int64(lists.run_count[run]) + 1
    else:
        join.window[s] = NO_WINDOW
        join.size[s] = 0


@inline
def _next_run(join, lists, s):
    join.start[s] += join.size[s]
    join.run[s] += 1
    _enter_run(join, lists, s)


@inline
def _find_equal(join, terms, slots, are_terms):
    """Set the source of each slot, and the order to the first slots and those after them."""
    first = 0
    for s in range(slots):
        before = s - 1 if are_terms else -1
        while before >= 0 and terms[before] != terms[s]:
            before -= 1
        join.before[s] = before
        if before < 0:
            join.source[s] = s
            join.times[s] = 1
            join.order[first] = s
            first += 1
        else:
            join.source[s] = join.source[before]
            join.times[join.source[s]] += 1
    join.state[1] = first
    for s in range(slots):
        if join.before[s] >= 0:
            join.order[first] = s
            first += 1


@inline
def begin_join(join, lists, postings, terms):
    """Begin to intersect lists; those of slots of a term each, `terms`, are found first. None has
    bits or short positions before their addresses are set."""
    _find_equal(join, terms, len(lists.first), len(lists.entry_ends) == 0)
    if len(lists.entry_ends) == 0:
        for s in range(len(lists.first)):
            term = np.uint64(terms[s])
            lists.first[s] = postings.term_posting[term]
            lists.run[s] = postings.term_run[term]
            lists.last_run[s] = postings.term_run[term + np.uint64(1)]
    join.state[0] = 0
    for s in range(len(lists.first)):
        join.run[s] = lists.run[s]
        join.start[s] = lists.first[s]
        join.bits[s] = 0
        join.short[s] = 0
        _enter_run(join, lists, s)


@inline
def has_all(terms):
    """Whether a segment has all terms of a phrase: none is -1."""
    found = True
    for i in range(len(terms)):
        found = found and terms[i] >= 0
    return found


@inline
def begin_phrase(join, postings, terms, dense, first, places, numbers, parts, part_blocks):
    """Begin to intersect the lists of a phrase's terms, all of which the segment has; returns them.

    dense     int64[2, n]  addresses of the bits and of the short positions of terms (0 for none),
                           those of the phrase from `first` on
    places    int64[3, S]  scratch
    numbers   int64[…]     of which none is read
    parts, part_blocks     as in Lists, `parts` and `block`
    """
    slots = len(terms)
    lists = Lists(
        postings.docs, postings.run_window, postings.run_count, places[0, :slots],
        places[1, :slots], places[2, :slots], numbers[:0], numbers[:0], parts, part_blocks,
    )  # fmt: skip
    begin_join(join, lists, postings, terms)
    for s in range(slots):
        join.bits[s] = dense[0, first + s]
        join.short[s] = dense[1, first + s]
    return lists


@helper
def _next_common_window(join, lists):
    """Move all lists to the next window that all of them have, and order them; NO_WINDOW if there
    is none."""
    slots = join.state[1]
    window = join.window[0]
    n = 0
    while n < slots:
        s = join.order[n]
        while join.window[s] < window:
            _next_run(join, lists, s)
        if join.window[s] > window:
            window = join.window[s]
            n = 0
        else:
            n += 1
    if window == NO_WINDOW:
        return window
    for n in range(slots):
        s = join.order[n]
        join.low[s] = 0
        i = n
        while i > 0 and join.size[join.order[i - 1]] > join.size[s]:
            join.order[i] = join.order[i - 1]
            i -= 1
        join.order[i] = s
    return window


# ---- the documents of a window


@inline
def _block_with(docs, at, last, document):
    """The first block of VECTOR entries from `at` on that ends with one >= document; the block at
    `last` if none before it does. All uint64 but the document. Gallops as find_document."""
    step = np.uint64(VECTOR)
    high = at
    while high < last and docs[high + np.uint64(VECTOR - 1)] < document:
        at = high + np.uint64(VECTOR)
        high += step
        step += step
    while at < high:
        middle = at + (high - at) // np.uint64(2 * VECTOR) * np.uint64(VECTOR)
        if middle < last and docs[middle + np.uint64(VECTOR - 1)] < document:
            at = middle + np.uint64(VECTOR)
        else:
            high = middle
    return min(at, last)


@inline
def place_of(docs, start, size, low, document):
    """(whether docs[start:start + size] has the document, its place, a new `low`). Of a list of at
    least VECTOR places, `low` is the first of a block, or 0."""
    if size < VECTOR:
        low = find_document(docs, start, size, low, document)
        place = start + low
        return low < size and np.int64(docs[np.uint64(place)]) == document, place, low
    last = np.uint64(start + size - VECTOR)
    at = min(np.uint64(start + low), last)
    if at < last and docs[at + np.uint64(VECTOR - 1)] < document:
        at = _block_with(docs, at, last, document)
    equal = equal32(docs, at, np.uint16(document))
    place = np.int64(at + trailing_zeros(equal))
    return equal != np.uint64(0), place, np.int64(at) - start


@inline
def _read_lead(join, lists, lead, least):
    """Make candidates of the next documents of the shortest list, at most TILE, whose parts are
    above `least`, all where it is negative; returns how many."""
    docs, parts, block = lists.docs, lists.parts, lists.block
    rows, places = join.rows, join.places
    own = np.uint64(lead * TILE)
    at = np.uint64(join.start[lead] + join.low[lead])
    last = np.uint64(join.start[lead] + join.size[lead])
    if least < np.float32(0.0):
        n = min(last - at, np.uint64(TILE))
        for c in range(n):
            rows[c] = np.int64(docs[at + c])
            places[own + c] = np.int64(at + c)
        join.low[lead] += np.int64(n)
        return np.int64(n)
    n = np.uint64(0)
    while at < last and n <= np.uint64(TILE - BLOCK):
        stop = min((at | np.uint64(BLOCK - 1)) + _U1, last)
        if stop - at == np.uint64(BLOCK) and block[at >> np.uint64(BLOCK_BITS)] <= least:
            at = stop
            continue
        while at + np.uint64(64) <= stop:
            above = greater64(parts, at, least)
            while above:
                j = at + trailing_zeros(above)
                above &= above - _U1
                rows[n] = np.int64(docs[j])
                places[own + n] = np.int64(j)
                n += _U1
            at += np.uint64(64)
        while at < stop:
            rows[n] = np.int64(docs[at])
            places[own + n] = np.int64(at)
            n += np.uint64(parts[at] > least)
            at += _U1
    join.low[lead] = np.int64(at) - join.start[lead]
    return np.int64(n)


@optimised_helper
def _keep_with_bits(join, s, n, window, windows):
    """Keep those of the n candidates whose bits of slot s are set; returns how many. Written
    without a branch, which would often be mispredicted."""
    bits, _, _ = dense_of(join.bits[s], windows, window)
    rows, column = join.rows, join.column
    kept = np.uint64(0)
    for c in range(np.uint64(n)):
        document = np.uint64(rows[c])
        rows[kept] = np.int64(document)
        column[kept] = column[c]
        kept += has_bit(bits, document)
    return np.int64(kept)


@optimised_helper
def _place_by_rank(join, s, n, window, windows):
    """Set the places of the n candidates in the list of slot s, which has bits."""
    bits, first, ranks = dense_of(join.bits[s], windows, window)
    own = np.uint64(s * TILE)
    for c in range(np.uint64(n)):
        document = np.uint64(join.rows[c])
        place = np.int64(first + rank_of(bits, ranks, document))
        join.places[own + np.uint64(join.column[c])] = place


@inline
def keep_candidate(join, c, kept):
    """Make candidate c number `kept` (at most c) of them."""
    join.rows[kept] = join.rows[c]
    join.column[kept] = join.column[c]


@inline
def _keep_common(join, docs, s, n):
    """Keep those of the n candidates that are in the list of slot s; returns how many."""
    start, size, low = join.start[s], join.size[s], join.low[s]
    kept = 0
    for c in range(n):
        found, place, low = place_of(docs, start, size, low, join.rows[c])
        join.places[s * TILE + join.column[c]] = place
        keep_candidate(join, c, kept)
        kept += found
    join.low[s] = low
    return kept


@inline
def _keep_above(join, parts, s, n, least):
    """Keep those of the n candidates whose parts in the list of slot s are above `least`; returns
    how many."""
    kept = 0
    for c in range(n):
        if parts[np.uint64(place_in(join, s, c))] > least:
            keep_candidate(join, c, kept)
            kept += 1
    return kept


@optimised_helper
def next_candidates(join, lists, live, documents, least):
    """Find the next documents, at most TILE, that all lists have; returns their number, 0 at the
    end.

    live       uint8[documents]  0 for a document to leave out; or uint8[0], where there is none
    documents  of the segment
    least      float32  leave out a document of which a part is not above it; negative for none
    """
    slots = join.state[1]
    windows = (documents + (1 << WINDOW_BITS) - 1) >> WINDOW_BITS
    while True:
        if join.state[0] == 0:
            if _next_common_window(join, lists) >= windows:
                return 0
            join.state[0] = 1
        lead = join.order[0]
        window = join.window[lead]
        base = window << WINDOW_BITS
        n = _read_lead(join, lists, lead, least)
        for c in range(n):
            join.column[c] = c
        ended = join.low[lead] == join.size[lead]
        i = 1
        while i < slots and n > 0:
            if join.bits[join.order[i]] != 0:
                n = _keep_with_bits(join, join.order[i], n, window, windows)
            i += 1
        i = 1
        while i < slots and n > 0:
            if join.bits[join.order[i]] == 0:
                n = _keep_common(join, lists.docs, join.order[i], n)
            i += 1
        i = 1
        while i < slots and n > 0:
            if join.bits[join.order[i]] != 0:
                _place_by_rank(join, join.order[i], n, window, windows)
            if least >= np.float32(0.0):
                n = _keep_above(join, lists.parts, join.order[i], n, least)
            i += 1
        kept = 0
        for c in range(n):
            row = base + join.rows[c]
            if row < documents and (len(live) == 0 or live[np.uint64(row)] != 0):
                keep_candidate(join, c, kept)
                join.rows[kept] = row
                kept += 1
        if ended:
            join.state[0] = 0
            for i in range(slots):
                _next_run(join, lists, join.order[i])
        if kept > 0:
            return kept
