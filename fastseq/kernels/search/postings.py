"""Inverting token ids into postings, slice by slice, and merging the slices.

A *window* is 65,536 consecutive documents, so that a document inside one is a uint16. A posting
is three bytes: the document in its window (uint16) and the term frequency (uint8; LARGE_TF: in the
overflow table, under the posting's position). A term's postings are in document order; its *runs*
are the windows they fall in: (window uint16, count - 1 uint16).
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit

WINDOW_BITS = 16
WINDOW = 1 << WINDOW_BITS
LARGE_TF = 255

DIGIT_BITS = 11
DIGITS = 1 << DIGIT_BITS


@inline
def _radix_pass(target, source, starts, n, shift):
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
        _radix_pass(spare, keys, starts, n, shift)
        _radix_pass(keys, spare, starts, n, shift + np.uint64(DIGIT_BITS))
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
