"""The positions of a posting as four bytes, so that a phrase is found without decoding.

The *short positions* of a posting with at most SHORT occurrences, none beyond MOST_SHORT, are these
as the bytes of a uint32, ascending from the lowest byte on, and then bytes of 255; of any other
posting LONG. 93 of 100 candidates of phrases of encyclopedia articles have short positions of all
words. Those of frequent terms are cached (search/term_bits.py): with both cached, to compare the
positions of two words takes about 8 ns; to look up and decode them, 46 ns.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.varints import get
from fastseq.kernels.search.positions import positions_start
from fastseq.kernels.search.postings import frequency
from fastseq.kernels.simd.bytes import load4, prefetch

SHORT = 4
MOST_SHORT = 252
LONG = np.uint64(0xFFFFFFFF)

_uint32_at = array_at(types.uint32)
_U8, _U16 = np.uint64(8), np.uint64(16)


@jit
def fill_short(words, postings, data, blocks, term):
    """The short positions of the postings of a term.

    words  uint32[postings of the term]
    postings, data, blocks  of the segment (search/positions.py)
    """
    first = np.uint64(postings.term_posting[np.uint64(term)])
    at = positions_start(postings, data, blocks, first)
    for i in range(np.uint64(len(words))):
        tf = frequency(postings, first + i)
        word = LONG
        position = np.int64(0)
        for j in range(tf):
            distance, at = get(data, at)
            position += distance
            if j < SHORT:
                place = _U8 * np.uint64(j)
                word ^= (np.uint64(255) ^ np.uint64(position)) << place
        if tf > SHORT or position > MOST_SHORT:
            word = LONG
        words[i] = np.uint32(word)


@inline
def _read_short(postings, data, blocks, posting):
    """The short positions of a posting (uint64); LONG also for integers of several bytes, and at
    the end of the data."""
    tf = frequency(postings, posting)
    at = positions_start(postings, data, blocks, posting)
    if tf > SHORT or at + np.uint64(SHORT) > np.uint64(len(data)):
        return LONG
    beyond = LONG << (_U8 * np.uint64(tf)) & LONG
    distances = load4(data, at) & ~beyond
    pairs = (distances & np.uint64(0x00FF00FF)) + (distances >> _U8 & np.uint64(0x00FF00FF))
    last = (pairs + (pairs >> _U16)) & np.uint64(0xFFFF)
    if distances & np.uint64(0x80808080) or last > np.uint64(MOST_SHORT):
        return LONG
    return distances * np.uint64(0x01010101) & LONG | beyond


@inline
def short_positions(postings, data, blocks, cached, first, posting):
    """The short positions of a posting (int64), as a uint64.

    cached, first  the address of those of the term, or 0, and its first posting
    """
    if cached != 0:
        place = np.uint64(posting - first)
        return np.uint64(_uint32_at(cached, posting - first + 1)[place])
    return _read_short(postings, data, blocks, np.uint64(posting))


@inline
def prefetch_short(cached, first, posting):
    """Request the short positions of a posting of a term with cached ones before they are read."""
    prefetch(_uint32_at(cached, posting - first + 1), np.uint64(posting - first))
