"""The postings of terms in the order in which documents are searched (index/reordering.py)."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.topk import bits_float, float_bits, sort_descending
from fastseq.kernels.search.impacts import fill_blocks
from fastseq.kernels.search.postings import (
    DIGIT_BITS,
    WINDOW,
    WINDOW_BITS,
    Postings,
    radix_pass,
)

NO_RUN = 65535  # the window of a place for a run that a term does not have
_COMPARED = 256  # postings up to which a comparison sort is faster than one by digits
_U32 = np.uint64(32)
_ALL = np.uint64(0xFFFFFFFF)


def make_reordered(postings: Postings, windows: int) -> Postings:
    """Postings without any yet, with places for as many runs as each term may have. Frequencies are
    left out."""
    most = np.minimum(np.diff(postings.term_posting), windows)
    term_run = np.zeros(len(most) + 1, np.int64)
    np.cumsum(most, out=term_run[1:])
    return postings._replace(
        docs=np.empty(len(postings.docs), np.uint16), tfs=np.empty(0, np.uint8), term_run=term_run,
        run_window=np.full(int(term_run[-1]), NO_RUN, np.uint16),
        run_count=np.zeros(int(term_run[-1]), np.uint16), large_at=np.empty(0, np.int64),
        large_tf=np.empty(0, np.int32),
    )  # fmt: skip


@inline
def _sort_ascending(keys, spare, starts, n, bits):
    """Sort keys[:n] by the `bits` from the 32nd on."""
    if n <= _COMPARED:
        for i in range(np.uint64(n)):
            keys[i] = ~keys[i]
        sort_descending(keys, spare, n)
        for i in range(np.uint64(n)):
            keys[i] = ~keys[i]
        return
    shift = _U32
    while shift < _U32 + np.uint64(bits):  # passes in pairs: the result is in `keys` again
        radix_pass(spare, keys, starts, n, shift)
        radix_pass(keys, spare, starts, n, shift + np.uint64(DIGIT_BITS))
        shift += np.uint64(2 * DIGIT_BITS)


@jit
def reorder_impacts(reordered, impacts, keys, spare, starts, places, bits, postings, terms):
    """Bring the postings of terms, of which the impacts are computed, into the order of search.

    reordered    Postings of `make_reordered`
    impacts      of the segment; the parts and blocks of these terms change
    keys, spare  uint64[n] as many as the longest list; starts int64[DIGITS]: scratch
    places       int32[documents]  of each row
    bits         of the largest place
    postings     in the order of rows
    terms        int32[m]
    """
    documents = np.uint64(len(places))
    parts = impacts.parts
    for i in range(len(terms)):
        term = np.uint64(terms[i])
        first = np.uint64(postings.term_posting[term])
        at = first
        n = np.uint64(0)
        for run in range(postings.term_run[term], postings.term_run[term + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                row = base + np.uint64(postings.docs[j])
                # a damaged file may name a row beyond the last, whose part is 0
                place = np.uint64(0)
                if row < documents:
                    place = np.uint64(places[row])
                keys[n] = (place << _U32) | np.uint64(float_bits(parts[j]))
                n += np.uint64(1)
            at = stop
        _sort_ascending(keys, spare, starts, np.int64(n), bits)
        run = np.uint64(reordered.term_run[term])
        window = np.int64(-1)
        for j in range(n):
            place = np.int64(keys[j] >> _U32)
            reordered.docs[first + j] = np.uint16(place & (WINDOW - 1))
            parts[first + j] = bits_float(np.uint32(keys[j] & _ALL))
            if place >> WINDOW_BITS == window:
                reordered.run_count[run - np.uint64(1)] += np.uint16(1)
            else:
                window = place >> WINDOW_BITS
                reordered.run_window[run] = np.uint16(window)
                reordered.run_count[run] = np.uint16(0)
                run += np.uint64(1)
        fill_blocks(impacts.block, parts, np.int64(first), np.int64(first + n))
