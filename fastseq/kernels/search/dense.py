"""The documents of frequent terms of a segment as bits.

An array of `dense_words` words has, for each window, a bit for every document, then the first
posting of the term in each window, then how many postings of the window precede each word of bits.
So a document is tested with one load, and its posting is found without a search. Kernels take the
address of such an array for each term, 0 for a term without.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.search.postings import WINDOW_BITS, WORDS
from fastseq.kernels.simd.bytes import count_ones

_uint16_at, _uint64_at = array_at(types.uint16), array_at(types.uint64)
_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)


def dense_words(windows: int) -> int:
    """The length of the uint64 array of a term: the bits, the first posting of each window, and a
    uint16 for each word of bits."""
    return windows * (WORDS + 1 + WORDS // 4)


@inline
def dense_of(address, windows, window):
    """(bits uint64[WORDS], the first posting uint64, places uint16[WORDS]) of a window; the
    address is that of an array of `dense_words` words."""
    size = windows * WORDS
    bits = _uint64_at(address + window * WORDS * 8, WORDS)
    first = _uint64_at(address + size * 8, windows)[np.uint64(window)]
    places = _uint16_at(address + (size + windows) * 8 + window * WORDS * 2, WORDS)
    return bits, first, places


@inline
def has_bit(bits, document):
    """1 where the bit of a document (uint64) of the window is set, else 0."""
    return bits[document >> _U6] >> (document & _U63) & _U1


@inline
def rank_of(bits, places, document):
    """The bits before that of a document (uint64) of the window."""
    word = document >> _U6
    before = bits[word] & ((_U1 << (document & _U63)) - _U1)
    return np.uint64(places[word]) + count_ones(before)


@inline
def set_bits(bits, docs, first, last):
    """Set the bits of the postings from `first` to `last` (uint64)."""
    for j in range(first, last):
        document = np.uint64(docs[j])
        bits[document >> _U6] |= _U1 << (document & _U63)


@jit
def fill_dense(address, windows, search_places, postings, term):
    """The bits and places of the documents of a term.

    address        of a zeroed array of `dense_words(windows)` words
    search_places  int32[documents]  the place of each row in the order of search, in which the bits
                   are then; or int32[0]: in that of the rows
    postings       in the order of the rows
    """
    every = _uint64_at(address, windows * WORDS)
    documents = np.uint64(len(search_places))
    at = np.uint64(postings.term_posting[np.uint64(term)])
    first = at
    for run in range(postings.term_run[np.uint64(term)], postings.term_run[np.uint64(term) + _U1]):
        window = np.int64(postings.run_window[np.uint64(run)])
        stop = at + np.uint64(postings.run_count[np.uint64(run)]) + _U1
        if documents > 0:
            for j in range(at, stop):
                row = (np.uint64(window) << np.uint64(WINDOW_BITS)) + np.uint64(postings.docs[j])
                if row < documents:
                    place = np.uint64(search_places[row])
                    every[place >> _U6] |= _U1 << (place & _U63)
        elif window < windows:
            set_bits(every[window * WORDS : (window + 1) * WORDS], postings.docs, at, stop)
        at = stop
    firsts = _uint64_at(address + windows * WORDS * 8, windows)
    for window in range(windows):
        bits, _, places = dense_of(address, windows, window)
        firsts[np.uint64(window)] = first
        before = np.uint64(0)
        for w in range(np.uint64(WORDS)):
            places[w] = np.uint16(before)
            before += count_ones(bits[w])
        first += before
