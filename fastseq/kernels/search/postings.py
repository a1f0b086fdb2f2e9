"""Inverting token ids into postings, slice by slice, and merging slices and segments.

A *window* is 65,536 consecutive documents, so that a document inside one is a uint16. A posting
is the document in its window (uint16) and the term frequency: a byte, or *packed*, two to a byte.
LARGE_TF, LARGE_PACKED_TF where packed, and more are in an overflow table, under the posting's
position. A term's postings are in document order; its *runs* are the windows they fall in: (window
uint16, count - 1 uint16).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16
from fastseq.kernels.core.jit import helper, inline, jit

WINDOW_BITS = 16
WINDOW = 1 << WINDOW_BITS
WORDS = WINDOW // 64  # of the bits of the documents of a window
LARGE_TF = 255
LARGE_PACKED_TF = 15

DIGIT_BITS = 11
DIGITS = 1 << DIGIT_BITS


class Postings(NamedTuple):
    """An inverted index as arrays; V terms, P postings, R runs, L large frequencies."""

    docs: UInt16  # [P] document in its window
    tfs: UInt8  # [P] term frequency, or LARGE_TF; packed [P / 2], the first in the lower half
    term_posting: Int64  # [V + 1]
    term_run: Int64  # [V + 1]
    run_window: UInt16  # [R]
    run_count: UInt16  # [R] postings in the run, less one
    large_at: Int64  # [L] posting positions, ascending
    large_tf: Int32  # [L]
    packed: int = 0  # 1 where frequencies are packed


@helper
def find_large(large_at, position):
    """The place of a posting, whose frequency is large, in the overflow table; the table's length
    where a damaged one lacks it."""
    low = np.int64(0)
    high = np.int64(len(large_at))
    while low < high:
        middle = (low + high) >> 1
        if large_at[np.uint64(middle)] < position:
            low = middle + 1
        else:
            high = middle
    return low


@inline
def large_mark(postings):
    """The stored frequency of postings that are in the overflow table."""
    return np.uint64(LARGE_TF) >> (np.uint64(postings.packed) << np.uint64(2))


@inline
def stored_tf(postings, at):
    """The frequency of a posting (uint64), as far as it is stored: at most `large_mark`."""
    packed = np.uint64(postings.packed)
    byte = np.uint64(postings.tfs[at >> packed])
    return (byte >> ((at & packed) << np.uint64(2))) & large_mark(postings)


@inline
def frequency(postings, at):
    """The term frequency of a posting (int64). A large one is at least `large_mark`, in a damaged
    table too."""
    tf = np.int64(stored_tf(postings, at))
    if tf == np.int64(large_mark(postings)):
        found = find_large(postings.large_at, np.int64(at))
        if found < len(postings.large_tf):
            tf = max(tf, np.int64(postings.large_tf[np.uint64(found)]))
    return tf


@inline
def find_document(docs, start, count, low, document):
    """Position in docs[start:start + count] (ascending) of the first entry >= document.

    The search starts at `low` and gallops, so a caller that goes through ascending documents
    pays for the distance, not for the length.
    """
    step = np.int64(1)
    high = low
    while high < count and docs[np.uint64(start + high)] < document:
        low = high + 1
        high += step
        step += step
    if high > count:
        high = count
    while low < high:
        middle = (low + high) >> 1
        if docs[np.uint64(start + middle)] < document:
            low = middle + 1
        else:
            high = middle
    return low


@jit
def frequencies(tfs, postings, first):
    """tfs int32[n]: the term frequencies of the postings from `first` on."""
    for i in range(np.uint64(len(tfs))):
        tfs[i] = np.int32(frequency(postings, np.uint64(first) + i))


@jit
def read_terms(rows, tfs, postings, terms, documents):
    """The postings of some terms, one term after the other.

    rows, tfs  int32[n], int32[n]  n, the postings of all terms; the row is `documents` where a
               damaged file names a window beyond the last
    terms      int32[m]
    documents  of the segment
    """
    out = np.uint64(0)
    for i in range(np.uint64(len(terms))):
        term = np.uint64(terms[i])
        at = np.uint64(postings.term_posting[term])
        for run in range(postings.term_run[term], postings.term_run[term + np.uint64(1)]):
            base = np.int64(postings.run_window[np.uint64(run)]) << WINDOW_BITS
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                rows[out] = np.int32(min(base + np.int64(postings.docs[j]), documents))
                tfs[out] = np.int32(frequency(postings, j))
                out += np.uint64(1)
            at = stop


@jit
def pack_tfs(packed, large_at, large_tf, tfs, large, first):
    """Pack the frequencies of a chunk of postings; returns how many of them are large.

    packed    uint8[(first % 2 + n + 1) / 2]  where `first` is odd, the first byte has the frequency
              of the posting before the chunk
    large_at, large_tf  int64[n], int32[n]  positions and values of those from LARGE_PACKED_TF on
    tfs       uint8[n]  a byte each
    large     int32[…]  those of LARGE_TF and more, in order
    first     the number of the first posting
    """
    at = np.uint64(first) & np.uint64(1)
    larges = 0
    seen = 0
    for i in range(np.uint64(len(tfs))):
        tf = np.uint64(tfs[i])
        if tf >= np.uint64(LARGE_PACKED_TF):
            large_at[larges] = first + np.int64(i)
            large_tf[larges] = np.int32(tf)
            if tf == np.uint64(LARGE_TF):
                large_tf[larges] = large[seen]
                seen += 1
            larges += 1
            tf = np.uint64(LARGE_PACKED_TF)
        if at & np.uint64(1):
            packed[at >> np.uint64(1)] |= np.uint8(tf << np.uint64(4))
        else:
            packed[at >> np.uint64(1)] = np.uint8(tf)
        at += np.uint64(1)
    return larges


@inline
def radix_pass(target, source, starts, n, shift):
    """Stable counting sort of source[:n] (uint64) by the DIGIT_BITS bits from `shift`."""
    mask = np.uint64(DIGITS - 1)
    starts[:] = 0
    for i in range(np.uint64(n)):
        starts[(source[i] >> shift) & mask] += 1
    total = np.int64(0)
    for digit in range(DIGITS):
        count = starts[digit]
        starts[digit] = total
        total += count
    for i in range(np.uint64(n)):
        key = source[i]
        digit_of_key = (key >> shift) & mask
        place = starts[digit_of_key]
        target[np.uint64(place)] = key
        starts[digit_of_key] = place + 1


@jit
def invert(
    docs, tfs, terms, dfs, large_at, large_tf, keys, spare, starts,
    values, offsets, first, vocabulary,
):  # fmt: skip
    """Invert one slice: texts of consecutive documents inside one window.

    docs       uint16[n]  document in its window, sorted by (term, document)
    tfs        uint8[n]   term frequency, LARGE_TF where it does not fit
    terms      int32[n]   the distinct terms, ascending; the rest is not set
    dfs        int32[n]   postings of each
    large_at   int64[n / LARGE_TF + 1]  positions of the postings marked LARGE_TF, ascending
    large_tf   int32[…]   their term frequencies
    keys, spare uint64[n], starts int64[DIGITS]: scratch
    values, offsets       term ids, as in Tokens
    first      the first document's number inside its window
    vocabulary  a bound above every id

    Returns (number of postings, number of terms, number of large frequencies).
    """
    n = np.uint64(0)
    for row in range(len(offsets) - 1):
        document = np.uint64(first + row)
        for i in range(offsets[row], offsets[row + 1]):
            term = np.uint64(np.uint32(values[np.uint64(i)]))
            keys[n] = (term << np.uint64(WINDOW_BITS)) | document
            n += np.uint64(1)
    # Least significant digit first; 2,048 output streams are as many as the L1 cache and the TLB
    # hold open. Passes go in pairs, so that the result is back in `keys`.
    shift = np.uint64(WINDOW_BITS)
    while np.uint64(vocabulary) >> (shift - np.uint64(WINDOW_BITS)):
        radix_pass(spare, keys, starts, n, shift)
        radix_pass(keys, spare, starts, n, shift + np.uint64(DIGIT_BITS))
        shift += np.uint64(2 * DIGIT_BITS)
    postings = 0
    distinct = 0
    large = 0
    i = np.uint64(0)
    last_term = np.int64(-1)
    while i < n:
        key = keys[i]
        j = i + np.uint64(1)
        while j < n and keys[j] == key:
            j += np.uint64(1)
        term_id = np.int64(key >> np.uint64(WINDOW_BITS))
        if term_id != last_term:
            terms[distinct] = term_id
            dfs[distinct] = 0
            distinct += 1
            last_term = term_id
        dfs[distinct - 1] += 1
        docs[np.uint64(postings)] = np.uint16(key & np.uint64(WINDOW - 1))
        tf = np.int64(j - i)
        if tf < LARGE_TF:
            tfs[np.uint64(postings)] = tf
        else:
            tfs[np.uint64(postings)] = LARGE_TF
            large_at[large] = postings
            large_tf[large] = tf
            large += 1
        postings += 1
        i = j
    return postings, distinct, large


@jit
def place_slice(
    docs, tfs, run_window, run_count, posting_at, run_at, open_window,
    terms, dfs, slice_docs, slice_tfs, window, base, first_posting, first_run,
):  # fmt: skip
    """Copy one slice's postings to their places in a chunk of terms; slices in document order.

    docs, tfs              uint16[n], uint8[n]  the chunk's postings
    run_window, run_count  uint16[r]  its runs (window, count - 1)
    posting_at, run_at     int64[V]   where each term's next posting and next run go
    open_window            int32[V]   window of the term's last run so far, -1 at first
    terms, dfs             int32[m]   the slice's terms that are in the chunk
    slice_docs, slice_tfs  uint16, uint8  their postings
    base                   added to every term id
    first_posting, first_run  the positions of index 0 of the chunk's arrays
    """
    source = np.uint64(0)
    for i in range(len(terms)):
        term = np.uint64(terms[i] + base)
        count = dfs[i]
        target = np.uint64(posting_at[term] - first_posting)
        for j in range(np.uint64(count)):
            docs[target + j] = slice_docs[source + j]
            tfs[target + j] = slice_tfs[source + j]
        source += np.uint64(count)
        posting_at[term] += count
        run = run_at[term] - first_run
        if open_window[term] == window:
            run_count[np.uint64(run - 1)] += np.uint16(count)
        else:
            open_window[term] = window
            run_window[np.uint64(run)] = window
            run_count[np.uint64(run)] = np.uint16(count - 1)
            run_at[term] += 1


# ---- merging segments: documents are renumbered, postings copied


@jit
def count_live(counts, postings, live, terms):
    """counts int64[n]: the documents of each term that are not deleted.

    live   uint8[documents]  0 for a deleted one
    terms  int32[n]
    """
    documents = np.uint64(len(live))
    for i in range(np.uint64(len(terms))):
        term = np.uint64(terms[i])
        at = np.uint64(postings.term_posting[term])
        total = np.int64(0)
        for run in range(postings.term_run[term], postings.term_run[term + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                document = base + np.uint64(postings.docs[j])
                if document < documents:
                    total += np.int64(live[document])
            at = stop
        counts[i] = total


@jit
def count_occurrences(counts, postings, live, terms):
    """counts int64[n]: the occurrences of each term in documents that are not deleted.

    live   uint8[documents]  0 for a deleted one; or uint8[0], where none is deleted
    terms  int32[n]
    """
    documents = np.uint64(len(live))
    for i in range(np.uint64(len(terms))):
        term = np.uint64(terms[i])
        at = np.uint64(postings.term_posting[term])
        total = np.int64(0)
        for run in range(postings.term_run[term], postings.term_run[term + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                document = base + np.uint64(postings.docs[j])
                if documents == 0 or (document < documents and live[document] != 0):
                    total += frequency(postings, j)
            at = stop
        counts[i] = total


@jit
def mark_documents(marks, postings, terms):
    """Set marks[document] to 1 for each document with one of some terms.

    marks  uint8[documents]
    terms  int32[n]
    """
    documents = np.uint64(len(marks))
    for i in range(np.uint64(len(terms))):
        term = np.uint64(terms[i])
        at = np.uint64(postings.term_posting[term])
        for run in range(postings.term_run[term], postings.term_run[term + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                document = base + np.uint64(postings.docs[j])
                if document < documents:
                    marks[document] = 1
            at = stop


@jit
def count_merged(df, runs, last_window, postings, rows, terms, first, last):
    """Add the postings of a segment to the counts of a merged one; segments in document order.
    Returns the numbers of their frequencies of LARGE_PACKED_TF and more, and of LARGE_TF and more.

    df, runs, last_window  int64[V], int32[V], int32[V]  of each new term: documents, windows it
                           occurs in, and the last of these, -1 at first
    rows                   int32[documents]  the new row of each document, -1 for a deleted one
    terms                  int32[terms]      the new number of each term
    first, last            the terms of the segment to count: two threads may count other ones
    """
    documents = np.uint64(len(rows))
    packed_larges = 0
    larges = 0
    for old in range(np.uint64(first), np.uint64(last)):
        new = np.uint64(terms[old])
        at = np.uint64(postings.term_posting[old])
        for run in range(postings.term_run[old], postings.term_run[old + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                document = base + np.uint64(postings.docs[j])
                if document < documents and rows[document] >= 0:
                    window = rows[document] >> WINDOW_BITS
                    df[new] += 1
                    if stored_tf(postings, j) >= np.uint64(LARGE_PACKED_TF):
                        packed_larges += 1
                        larges += frequency(postings, j) >= LARGE_TF
                    if last_window[new] != window:
                        last_window[new] = window
                        runs[new] += 1
            at = stop
    return packed_larges, larges


@jit
def place_merged(
    docs, tfs, run_window, run_count, large_at, large_tf, larges, posting_at, run_at, open_window,
    postings, rows, terms, first_posting, first_run,
):  # fmt: skip
    """Copy the postings of a segment to their places in a chunk of terms; segments in document
    order.

    docs, tfs              uint16[n], uint8[n]  the chunk's postings, not packed
    run_window, run_count  uint16[r]  its runs (window, count - 1)
    large_at, large_tf     int64[L], int32[L]  its large frequencies: positions in the whole index
    larges                 how many of these are filled
    posting_at, run_at     int64[m]   where the next posting and next run of each new term go
    open_window            int32[m]   window of the term's last run so far, -1 at first
    rows                   int32[documents]  the new row of each document, -1 for a deleted one
    terms                  int32[m]   the number in the segment of each new term, -1 for none
    first_posting, first_run  the positions of index 0 of the chunk's arrays

    Returns the new number of large frequencies.
    """
    documents = np.uint64(len(rows))
    for i in range(np.uint64(len(terms))):
        if terms[i] < 0:
            continue
        old = np.uint64(terms[i])
        at = np.uint64(postings.term_posting[old])
        target = np.uint64(posting_at[i] - first_posting)
        next_run = np.uint64(run_at[i] - first_run)
        window = np.int64(open_window[i])
        for run in range(postings.term_run[old], postings.term_run[old + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                document = base + np.uint64(postings.docs[j])
                if document >= documents or rows[document] < 0:
                    continue
                row = np.int64(rows[document])
                docs[target] = np.uint16(row & (WINDOW - 1))
                tf = frequency(postings, j)
                tfs[target] = np.uint8(min(tf, LARGE_TF))
                if tf >= LARGE_TF:
                    large_at[larges] = np.int64(target) + first_posting
                    large_tf[larges] = np.int32(tf)
                    larges += 1
                target += np.uint64(1)
                if row >> WINDOW_BITS == window:
                    run_count[next_run - np.uint64(1)] += np.uint16(1)
                else:
                    window = row >> WINDOW_BITS
                    run_window[next_run] = np.uint16(window)
                    run_count[next_run] = np.uint16(0)
                    next_run += np.uint64(1)
            at = stop
        posting_at[i] = np.int64(target) + first_posting
        run_at[i] = np.int64(next_run) + first_run
        open_window[i] = np.int32(window)
    return larges
