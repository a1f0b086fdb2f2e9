"""Documents with a phrase, or with words near each other: candidates from the words' postings,
verified with their positions.

A phrase is a sequence of *slots* at given offsets. A slot is one term, or several any of which may
be in its place. The candidates are the documents that the lists of all slots have (joining.py).
Their positions are decoded by *cursors*, one for each term in the document; those of a slot
together go through the slot's positions in ascending order. An *adjusted* position is one less the
offset of its slot: an occurrence of an exact phrase is an adjusted position that all slots have in
common.

Positions are decoded one after the other, so that memory does not depend on term frequencies. Data
that is damaged gives wrong results, but nothing outside of the arrays is read: a cursor ends with
the data at the latest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int64
from fastseq.kernels.core.jit import helper, inline, jit, optimised_helper
from fastseq.kernels.core.varints import get
from fastseq.kernels.search.joining import (
    TILE,
    Join,
    begin_join,
    keep_candidate,
    next_candidates,
    place_in,
)
from fastseq.kernels.search.positions import positions_start
from fastseq.kernels.search.postings import WINDOW, frequency
from fastseq.kernels.search.short_positions import (
    LONG,
    MOST_SHORT,
    prefetch_short,
    short_positions,
)
from fastseq.kernels.simd.bytes import count_ones, shared4

END = 1 << 62  # the position of a cursor after its last one
_PER_SLOT = 16  # arrays of Scratch with an element for each slot


class Cursors(NamedTuple):
    """Cursors into the positions of a document, for up to S slots with C terms.

    Slot s has the cursors from first[s] to last[s]. Before `phrase_frequency` or `near_frequency`
    is called for a document, these, `posting` and `at` are set: to s, s + 1, the slot's posting and
    -1 where each slot is one term.
    """

    first: Int64  # [S]
    last: Int64  # [S]
    current: Int64  # [S] its cursor at the lowest position
    adjusted: Int64  # [S] that position, less the slot's offset; END after the last
    posting: Int64  # [C] of each cursor's term in the document
    at: Int64  # [C] where the data of its next position starts; -1 before it is looked up
    position: Int64  # [C] where the cursor is; END after the last position
    left: Int64  # [C] positions after this one


class Scratch(NamedTuple):
    """What one thread needs for a phrase of up to S slots with C terms: `scratch_of` the memory
    that `make_scratch` sizes."""

    join: Join
    cursors: Cursors
    latest: Int64  # [S]
    counts: Int64  # [TILE] how often each candidate has the phrase; -1 where it must be counted


def make_scratch(slots: int, terms: int) -> Int64:
    """Memory for phrases of up to `slots` slots that have up to `terms` terms together. It is one
    array, since each of an argument costs the call of a kernel about 0.1 µs."""
    memory = np.empty(2 + _PER_SLOT * slots + 4 * terms + 2 + (slots + 3) * TILE, np.int64)
    memory[:2] = slots, terms
    return memory


@inline
def scratch_of(memory):
    """The Scratch in memory from `make_scratch`."""
    slots, terms = memory[0], memory[1]
    s = memory[2 : 2 + _PER_SLOT * slots].reshape(_PER_SLOT, slots)
    rest = memory[2 + _PER_SLOT * slots :]
    tiles = rest[4 * terms :]
    c = rest[: 4 * terms].reshape(4, terms)
    join = Join(
        s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], tiles[:2],
        tiles[2 : TILE + 2], tiles[TILE + 2 : 2 * TILE + 2], tiles[3 * TILE + 2 :],
    )  # fmt: skip
    cursors = Cursors(s[11], s[12], s[13], s[14], c[0], c[1], c[2], c[3])
    return Scratch(join, cursors, s[15], tiles[2 * TILE + 2 : 3 * TILE + 2])


@jit
def documents_with_all(rows, lists, postings, terms, live, documents, memory):
    """rows int32[n]: the documents that all lists have, ascending; n, the length of the shortest
    list, is enough. Returns their number. Others as in `phrase_documents`."""
    scratch = scratch_of(memory)
    join = scratch.join
    begin_join(join, lists, postings, terms)
    total = 0
    while True:
        found = next_candidates(join, lists, live, documents, np.float32(-1.0))
        if found == 0:
            return total
        for c in range(found):
            rows[np.uint64(total)] = join.rows[c]
            total += 1


# ---- the positions of a document


@inline
def _move(cursors, data, c):
    """Move a cursor to its next position."""
    at = np.uint64(cursors.at[c])
    if cursors.left[c] == 0 or at >= np.uint64(len(data)):
        cursors.position[c] = END
        return
    distance, at = get(data, at)
    cursors.position[c] = min(cursors.position[c] + distance, END - 1)
    cursors.left[c] -= 1
    cursors.at[c] = np.int64(at)


@inline
def _settle(cursors, offsets, s):
    """Find the cursor of a slot at the lowest position; returns the adjusted position."""
    current = cursors.first[s]
    for c in range(current + 1, cursors.last[s]):
        if cursors.position[c] < cursors.position[current]:
            current = c
    cursors.current[s] = current
    position = cursors.position[current]
    if position < END:
        position -= offsets[s]
    cursors.adjusted[s] = position
    return position


@inline
def _open(cursors, postings, data, blocks, offsets, s):
    """Look up the positions of a slot; returns the first adjusted position."""
    for c in range(cursors.first[s], cursors.last[s]):
        posting = np.uint64(cursors.posting[c])
        if cursors.at[c] < 0:
            cursors.at[c] = np.int64(positions_start(postings, data, blocks, posting))
        cursors.left[c] = frequency(postings, posting)
        cursors.position[c] = 0
        _move(cursors, data, c)
    return _settle(cursors, offsets, s)


@inline
def _advance(cursors, data, offsets, s):
    """Move a slot to its next position; returns the adjusted one, END after the last."""
    _move(cursors, data, cursors.current[s])
    return _settle(cursors, offsets, s)


@inline
def _exact_frequency(cursors, postings, data, blocks, offsets, order):
    """The number of positions at which the phrase starts.

    A slot is looked up when all before it in `order` have an adjusted position in common, so a
    document without the first pair costs two look-ups.
    """
    slots = len(offsets)
    target = np.int64(-END)  # the adjusted position that the first i slots are at
    count = 0
    opened = 0
    i = 0
    while True:
        s = order[i]
        if i == opened:
            reached = _open(cursors, postings, data, blocks, offsets, s)
            opened += 1
        else:
            reached = cursors.adjusted[s]
        while reached < target:
            reached = _advance(cursors, data, offsets, s)
        if reached == END:
            return np.float64(count)
        if reached > target and i > 0:
            i = 0
        else:
            i += 1
        target = reached
        if i == slots:
            count += 1
            target += 1
            i = 0


@inline
def _slot_at(cursors, offsets, s, slots):
    """Another of the first `slots` slots that is at the position of slot s; -1 for none."""
    position = cursors.adjusted[s] + offsets[s]
    for other in range(slots):
        if other != s and cursors.adjusted[other] + offsets[other] == position:
            return np.int64(other)
    return np.int64(-1)


@helper
def _part(cursors, data, offsets, s, slots, end):
    """While slot s and another of the first `slots` slots are at one position, advance that with
    the larger offset. Returns the largest of `end` and the adjusted positions reached, END where a
    slot has none left."""
    other = _slot_at(cursors, offsets, s, slots)
    while other >= 0:
        s = max(s, other)
        moved = _advance(cursors, data, offsets, s)
        if moved == END:
            return moved
        end = max(end, moved)
        other = _slot_at(cursors, offsets, s, slots)
    return end


@inline
def _open_after(cursors, data, offsets, s, before):
    """Begin a slot after the position of another one with the same term; returns the first adjusted
    position."""
    cursor, other = cursors.first[s], cursors.first[before]
    cursors.at[cursor] = cursors.at[other]
    cursors.left[cursor] = cursors.left[other]
    cursors.position[cursor] = cursors.position[other]
    cursors.current[s] = cursor
    return _advance(cursors, data, offsets, s)


@helper
def _sloppy_frequency(cursors, postings, data, blocks, offsets, before, slop, repeats, by_words):
    """The sum of 1 / (1 + length) over the matches of at most `slop`, as Lucene's
    SloppyPhraseMatcher finds them."""
    slots = len(offsets)
    end = np.int64(-END)
    for s in range(slots):
        if before[s] >= 0:
            at = _open_after(cursors, data, offsets, s, before[s])
        else:
            at = _open(cursors, postings, data, blocks, offsets, s)
        if at < END and repeats and not by_words:
            at = max(at, _part(cursors, data, offsets, np.int64(s), s + 1, at))
        if at == END:
            return 0.0
    for s in range(slots):
        end = max(end, cursors.adjusted[s])
    total = 0.0
    while True:
        first = np.int64(0)  # the slot at the lowest adjusted position
        following = np.int64(END)  # the lowest of the others
        for s in range(1, slots):
            if cursors.adjusted[s] < cursors.adjusted[first]:
                following = cursors.adjusted[first]
                first = np.int64(s)
            else:
                following = min(following, cursors.adjusted[s])
        length = end - cursors.adjusted[first]
        while True:
            moved = _advance(cursors, data, offsets, first)
            if moved < END:
                end = max(end, moved)
                if repeats:
                    end = _part(cursors, data, offsets, first, slots, end)
            if moved == END or end == END:
                if length <= slop:
                    total += 1.0 / (1.0 + np.float64(length))
                return total
            if cursors.adjusted[first] > following:
                break
            length = min(length, end - cursors.adjusted[first])
        if length <= slop:
            total += 1.0 / (1.0 + np.float64(length))


@inline
def phrase_frequency(
    cursors, postings, data, blocks, offsets, order, before, slop, repeats, by_words
):  # fmt: skip
    """The frequency of a phrase in a document with all of its slots: 0 where it lacks it.

    cursors  of which `first`, `last`, `posting` and `at` are set
    postings, data, blocks  Postings of the segment, and its positions (search/positions.py)
    offsets  int64[S]  of the slots, ascending, none twice
    order    int64[S]  the slots in the order in which an exact phrase is verified, rare ones first
    before   int64[S]  the last slot before each one that has the same term, -1 for none
    slop     0 for an exact phrase, whose frequency is the number of its starts; else the longest
             match, and the frequency the sum of 1 / (1 + length) over the matches
    repeats  whether two slots have a term in common
    by_words  whether each slot is one term, so that only slots with the same term meet
    """
    if slop == 0 or len(offsets) == 1:
        return _exact_frequency(cursors, postings, data, blocks, offsets, order)
    return _sloppy_frequency(
        cursors, postings, data, blocks, offsets, before, slop, repeats, by_words
    )


@inline
def near_frequency(cursors, postings, data, blocks, zeros, slots, latest, distance, in_order):
    """The sum of 1 / (1 + others) over the minimal intervals of positions that have all words, with
    `others` further positions in them, at most `distance`. Each slot has a position of its own.

    cursors  one slot for each of W distinct words; others as in `phrase_frequency`
    zeros    int64[W]  zeros: the offsets
    slots    int64[S]  the word of each slot: in the order of the words where that counts, else
             equal ones after each other
    latest   int64[S or more]  scratch
    """
    words = len(zeros)
    for w in range(words):
        _open(cursors, postings, data, blocks, zeros, w)
    # Of the intervals that end at a position only the shortest may be minimal. In order, latest[s]
    # is the latest start of one that has slots 0 to s; else, the m slots of a word have its m
    # latest positions, ascending.
    latest[:] = -1
    count = len(slots)
    last_start = np.int64(-1)
    total = 0.0
    while True:
        word = np.int64(0)
        for w in range(1, words):
            if cursors.adjusted[w] < cursors.adjusted[word]:
                word = np.int64(w)
        position = cursors.adjusted[word]
        if position == END:
            return total
        start = np.int64(-1)
        if in_order:
            for s in range(count - 1, 0, -1):
                if slots[s] == word:
                    latest[s] = latest[s - 1]
            if slots[0] == word:
                latest[0] = position
            if slots[count - 1] == word:
                start = latest[count - 1]
        else:
            start = position
            for s in range(count):
                if slots[s] == word:
                    more = s + 1 < count and slots[s + 1] == word
                    latest[s] = latest[s + 1] if more else position
                start = min(start, latest[s])
        if start > last_start:
            last_start = start
            others = position - start + 1 - count
            if others <= distance:
                total += 1.0 / (1.0 + np.float64(others))
        _advance(cursors, data, zeros, word)


# ---- all documents


@inline
def point_cursors(cursors, lists, join, c, starts):
    """Point cursors to the postings of a candidate. starts int64[S + 1]: the cursors of slot s are
    among those from starts[s] to starts[s + 1]."""
    for s in range(len(lists.first)):
        place = place_in(join, s, c)
        first = starts[s]
        cursors.first[s] = first
        if len(lists.entry_ends) == 0:
            cursors.last[s] = first + 1
            cursors.posting[first] = place
            cursors.at[first] = -1
        else:
            entry = lists.entry_ends[np.uint64(place)]
            count = min(lists.entry_ends[np.uint64(place + 1)] - entry, starts[s + 1] - first)
            cursors.last[s] = first + count
            for j in range(count):
                cursors.posting[first + j] = lists.entries[np.uint64(entry + j)]
                cursors.at[first + j] = -1


@inline
def keep_frequent(join, postings, slots, n):
    """Keep those of the n candidates in which each term of `slots` slots, of a term each, occurs as
    often as in these; returns how many."""
    first = join.state[1]
    if first == slots:
        return n
    i = 0
    while i < first and n > 0:
        s = join.order[i]
        times = join.times[s]
        if times > 1:
            kept = 0
            for c in range(n):
                keep_candidate(join, c, kept)
                kept += frequency(postings, np.uint64(place_in(join, s, c))) >= times
            n = kept
        i += 1
    return n


@optimised_helper
def keep_matches(scratch, postings, data, blocks, lists, offsets, n):
    """Keep those of the n candidates that have an exact phrase of two slots or more, of a term
    each, and those that it must be counted in, where a word has no short positions (`counts`).
    Returns how many.
    """
    join, counts = scratch.join, scratch.counts
    slots = len(offsets)
    lead = join.order[0]
    n = keep_frequent(join, postings, slots, n)
    longest = offsets[slots - 1] > MOST_SHORT
    # seldom in a cache: a batch of phrases takes .9 to .96 of the time so
    for i in range(slots):
        s = join.order[i]
        if join.short[s] != 0:
            for c in range(n):
                prefetch_short(join.short[s], lists.first[s], place_in(join, s, c))
    kept = 0
    for c in range(n):
        positions = short_positions(
            postings, data, blocks, join.short[lead], lists.first[lead], place_in(join, lead, c)
        )
        short = positions != LONG and not longest
        starts = np.uint64(15)  # of the positions
        i = 1
        while short and i < slots and starts != np.uint64(0):
            s = join.order[i]
            others = short_positions(
                postings, data, blocks, join.short[s], lists.first[s], place_in(join, s, c)
            )
            shift = offsets[s] - offsets[lead]
            starts &= shared4(positions, others, np.uint8(max(shift, 0)), np.uint8(max(-shift, 0)))
            short = others != LONG
            i += 1
        if short and starts == np.uint64(0):
            continue
        counts[kept] = np.int64(count_ones(starts)) if short else np.int64(-1)
        keep_candidate(join, c, kept)
        kept += 1
    return kept


@inline
def count_phrase(scratch, postings, data, blocks, lists, offsets, numbers, c):
    """How often (int64) a candidate of `keep_matches` has the phrase; numbers int64[S + 1] are 0,
    1, …"""
    count = scratch.counts[c]
    if count < 0:
        join, cursors = scratch.join, scratch.cursors
        point_cursors(cursors, lists, join, c, numbers)
        count = np.int64(_exact_frequency(cursors, postings, data, blocks, offsets, join.order))
    return count


@jit
def phrase_documents(
    rows, tfs, lists, postings, data, blocks, terms, starts, offsets, slop, repeats, live,
    documents, memory,
):  # fmt: skip
    """The documents with a phrase, ascending, and its frequency in each; returns their number.

    rows, tfs  int32[n], float64[n]  n, the length of the shortest list, is enough
    lists      of the slots; of slots of a term each, `first`, `run` and `last_run` need not be set
    postings, data, blocks  Postings of the segment, and its positions (search/positions.py)
    terms      int32[m]  slot s has the terms from starts[s] to starts[s + 1]
    starts     int64[S + 1]
    offsets, slop, repeats  as in `phrase_frequency`
    live       uint8[documents]  0 for a document to leave out; or uint8[0], where there is none
    documents  of the segment
    memory     of `make_scratch`
    """
    scratch = scratch_of(memory)
    join, cursors = scratch.join, scratch.cursors
    begin_join(join, lists, postings, terms)
    slots = len(offsets)
    by_words = len(lists.entry_ends) == 0
    exact = slop == 0 and slots > 1 and by_words
    total = 0
    while True:
        found = next_candidates(join, lists, live, documents, np.float32(-1.0))
        if found == 0:
            return total
        if exact:
            found = keep_matches(scratch, postings, data, blocks, lists, offsets, found)
        elif by_words:
            found = keep_frequent(join, postings, slots, found)
        for c in range(found):
            if exact:
                tf = np.float64(
                    count_phrase(scratch, postings, data, blocks, lists, offsets, starts, c)
                )
            else:
                point_cursors(cursors, lists, join, c, starts)
                tf = phrase_frequency(
                    cursors, postings, data, blocks, offsets, join.order, join.before, slop,
                    repeats, by_words,
                )  # fmt: skip
            if tf > 0.0:
                rows[np.uint64(total)] = join.rows[c]
                tfs[np.uint64(total)] = tf
                total += 1


@jit
def near_documents(
    rows, tfs, lists, postings, data, blocks, terms, starts, slots, zeros, distance, in_order,
    live, documents, memory,
):  # fmt: skip
    """The documents that have words near each other, ascending, and the frequency of that in each;
    returns their number.

    terms  int32[W]  the distinct words, and starts int64[W + 1] the numbers 0 to W
    slots, zeros, distance, in_order  as in `near_frequency`
    others  as in `phrase_documents`
    """
    scratch = scratch_of(memory)
    join, cursors = scratch.join, scratch.cursors
    begin_join(join, lists, postings, terms)
    total = 0
    while True:
        found = next_candidates(join, lists, live, documents, np.float32(-1.0))
        if found == 0:
            return total
        for c in range(found):
            point_cursors(cursors, lists, join, c, starts)
            tf = near_frequency(
                cursors, postings, data, blocks, zeros, slots, scratch.latest, distance, in_order
            )
            if tf > 0.0:
                rows[np.uint64(total)] = join.rows[c]
                tfs[np.uint64(total)] = tf
                total += 1


# ---- slots of several terms


@jit
def unite_terms(
    docs, run_window, run_count, first, run, last_run, entry_ends, entries, counts, runs, at,
    postings, terms, starts, windows,
):  # fmt: skip
    """The lists of slots that are several terms each (`Lists`), window by window.

    docs        uint16[n]  n, the postings of all terms, is enough
    run_window, run_count  uint16[r], uint16[r]  r, the runs of all terms
    first, run, last_run   int64[S]
    entry_ends  int64[n + 1]
    entries     int64[n]
    counts      int64[WINDOW]  zeroed scratch, zero again afterwards
    runs, at    int64[m]  scratch
    terms       int32[m]  slot s has the distinct terms from starts[s] to starts[s + 1]
    windows     of the segment

    Returns the number of places.
    """
    found = np.int64(0)
    runs_found = np.int64(0)
    entry = np.int64(0)
    entry_ends[0] = 0
    for i in range(len(terms)):
        runs[i] = postings.term_run[terms[i]]
        at[i] = postings.term_posting[terms[i]]
    for s in range(len(first)):
        first[s] = found
        run[s] = runs_found
        for window in range(windows):
            total = np.int64(0)
            for i in range(starts[s], starts[s + 1]):
                if runs[i] < postings.term_run[terms[i] + 1] and (
                    np.int64(postings.run_window[np.uint64(runs[i])]) == window
                ):
                    size = np.int64(postings.run_count[np.uint64(runs[i])]) + 1
                    total += size
                    for j in range(np.uint64(at[i]), np.uint64(at[i] + size)):
                        counts[np.uint64(postings.docs[j])] += 1
            if total == 0:
                continue
            before = found
            for document in range(np.uint64(WINDOW)):
                count = counts[document]
                if count > 0:
                    docs[np.uint64(found)] = np.uint16(document)
                    counts[document] = entry  # where its next entry goes
                    entry += count
                    found += 1
                    entry_ends[np.uint64(found)] = entry
            for i in range(starts[s], starts[s + 1]):
                if runs[i] < postings.term_run[terms[i] + 1] and (
                    np.int64(postings.run_window[np.uint64(runs[i])]) == window
                ):
                    size = np.int64(postings.run_count[np.uint64(runs[i])]) + 1
                    for j in range(np.uint64(at[i]), np.uint64(at[i] + size)):
                        document = np.uint64(postings.docs[j])
                        entries[np.uint64(counts[document])] = np.int64(j)
                        counts[document] += 1
                    at[i] += size
                    runs[i] += 1
            for place in range(np.uint64(before), np.uint64(found)):
                counts[np.uint64(docs[place])] = 0
            run_window[np.uint64(runs_found)] = np.uint16(window)
            run_count[np.uint64(runs_found)] = np.uint16(found - before - 1)
            runs_found += 1
        last_run[s] = runs_found
    return found
