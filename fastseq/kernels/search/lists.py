"""Posting lists as arrays: of a term, of several terms as one, and as a part of a small index.

A *posting list* of a segment is rows int32[n], ascending, with term frequencies float64[n], which
need not be whole numbers. Lists of clauses that are no single term, such as phrases and groups of
words, are computed for a query and then searched like terms.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.search.impacts import fill_blocks
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, frequency
from fastseq.kernels.simd.bytes import trailing_zeros

_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)


@jit
def read_list(rows, tfs, postings, term, documents):
    """The posting list of a term.

    rows, tfs  int32[df], float64[df]
    documents  of the segment; a damaged file may name others, which are left out

    Returns the number of postings.
    """
    n = np.uint64(0)
    at = np.uint64(postings.term_posting[term])
    for run in range(postings.term_run[term], postings.term_run[term + 1]):
        base = np.int64(postings.run_window[np.uint64(run)]) << WINDOW_BITS
        stop = at + np.uint64(postings.run_count[np.uint64(run)]) + _U1
        for j in range(at, stop):
            row = base + np.int64(postings.docs[j])
            if row < documents:
                rows[n] = np.int32(row)
                tfs[n] = np.float64(frequency(postings, j))
                n += _U1
        at = stop
    return np.int64(n)


@inline
def _emit(rows, tfs, sums, touched, n, base, documents):
    """Append the documents of a window that are marked in `touched`, and clear both."""
    for block in range(np.uint64(WINDOW >> 6)):
        bits = touched[block]
        touched[block] = np.uint64(0)
        while bits:
            document = (block << _U6) + trailing_zeros(bits)
            bits &= bits - _U1
            row = base + np.int64(document)
            if row < documents:
                rows[n] = np.int32(row)
                tfs[n] = sums[document]
                n += _U1
            sums[document] = 0.0
    return n


@jit
def merge_terms(rows, tfs, sums, touched, runs, at, postings, terms, factors, windows, documents):
    """The posting list of several terms as one: the sum of their frequencies, each times a factor.

    rows, tfs  int32[n], float64[n]: n, the postings of all terms, is enough
    sums       float64[WINDOW]      zeroed scratch, zero again afterwards
    touched    uint64[WINDOW / 64]  the same
    runs, at   int64[m]  scratch
    terms, factors  int32[m], float64[m]
    windows, documents  of the segment

    Returns the number of postings.
    """
    for i in range(len(terms)):
        runs[i] = postings.term_run[terms[i]]
        at[i] = postings.term_posting[terms[i]]
    n = np.uint64(0)
    for window in range(windows):
        found = False
        for i in range(len(terms)):
            run = runs[i]
            last = postings.term_run[terms[i] + 1]
            if run == last or np.int64(postings.run_window[np.uint64(run)]) != window:
                continue
            found = True
            factor = factors[i]
            stop = at[i] + np.int64(postings.run_count[np.uint64(run)]) + 1
            for j in range(np.uint64(at[i]), np.uint64(stop)):
                document = np.uint64(postings.docs[j])
                sums[document] += factor * np.float64(frequency(postings, j))
                touched[document >> _U6] |= _U1 << (document & _U63)
            at[i] = stop
            runs[i] = run + 1
        if found:
            n = _emit(rows, tfs, sums, touched, n, np.int64(window) << WINDOW_BITS, documents)
    return np.int64(n)


@jit
def merge_lists(rows, tfs, sums, touched, at, given_rows, given_tfs, starts, windows, documents):
    """The sum of posting lists.

    given_rows, given_tfs  int32[n], float64[n]  the lists, one after the other
    starts     int64[m + 1]  where each begins
    at         int64[m]  scratch
    others     as in `merge_terms`

    Returns the number of postings.
    """
    for i in range(len(at)):
        at[i] = starts[i]
    n = np.uint64(0)
    for window in range(windows):
        found = False
        end = (window + 1) << WINDOW_BITS
        for i in range(len(at)):
            j = np.uint64(at[i])
            while j < np.uint64(starts[i + 1]) and given_rows[j] < end:
                document = np.uint64(given_rows[j]) & np.uint64(WINDOW - 1)
                sums[document] += given_tfs[j]
                touched[document >> _U6] |= _U1 << (document & _U63)
                found = True
                j += _U1
            at[i] = np.int64(j)
        if found:
            n = _emit(rows, tfs, sums, touched, n, np.int64(window) << WINDOW_BITS, documents)
    return np.int64(n)


@jit
def keep_marked(rows, values, mask, marked):
    """Keep the entries of a list whose rows are marked.

    rows, values  int32[n], float64[n], changed in place
    mask          uint8[documents]
    marked        the value of the mask that is kept: 0 or 1

    Returns the number of entries.
    """
    n = np.uint64(0)
    for i in range(np.uint64(len(rows))):
        row = rows[i]
        value = values[i]
        rows[n] = row
        values[n] = value
        n += np.uint64((mask[np.uint64(row)] != 0) == (marked != 0))
    return np.int64(n)


@jit
def mark_rows(mask, rows, value):
    """mask[rows] = value; mask uint8[documents], rows int32[n]."""
    for i in range(np.uint64(len(rows))):
        mask[np.uint64(rows[i])] = np.uint8(value)


@jit
def make_lists(docs, run_window, run_count, run_start, best, block, rows, parts, starts):
    """Posting lists as the postings of a small index.

    docs                   uint16[P]    document in its window
    run_window, run_count  uint16[P]    the windows of each list, and its postings there, less one
    run_start              int64[m + 1] the first run of each list
    best                   float32[m]   the largest part of each
    block                  float32[P / BLOCK + 1]  see impacts.Impacts
    rows, parts            int32[P], float32[P]  the lists, one after the other
    starts                 int64[m + 1] where each begins

    Returns the number of runs.
    """
    run = np.int64(0)
    run_start[0] = 0
    for i in range(len(best)):
        window = np.int64(-1)
        for j in range(np.uint64(starts[i]), np.uint64(starts[i + 1])):
            row = np.int64(rows[j])
            docs[j] = np.uint16(row & (WINDOW - 1))
            if row >> WINDOW_BITS == window:
                run_count[np.uint64(run - 1)] += np.uint16(1)
            else:
                window = row >> WINDOW_BITS
                run_window[np.uint64(run)] = np.uint16(window)
                run_count[np.uint64(run)] = np.uint16(0)
                run += 1
        run_start[i + 1] = run
        best[i] = fill_blocks(block, parts, starts[i], starts[i + 1])
    return run
