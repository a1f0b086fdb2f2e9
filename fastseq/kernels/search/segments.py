"""The segments of a collection as one array, so that one call of the search kernel visits them all.

Compiled code takes arrays as arguments, and each of a few hundred would cost a call about 0.1 µs.
The addresses and lengths of the segments' arrays are therefore written to a table; the kernel makes
arrays of them again. The caller keeps the arrays alive.

What a search needs first of a term in each segment lies together, in a table of the terms of recent
queries: a batch over 20 segments of 26,000 documents takes .95 times as long as with these numbers
read from the arrays of each segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from fastseq.kernels.core.arrays import Float32, UInt16, UInt32, address_of
from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.topk import bits_float, float_bits
from fastseq.kernels.search.impacts import RANKS, Impacts
from fastseq.kernels.search.postings import Postings

DOCS, RUN_WINDOW, RUN_COUNT, PARTS, BLOCKS, ORDER = range(6)  # addresses
POSTINGS, RUNS, BLOCK_COUNT, ORDERED, FIRST_ROW, DOCUMENTS = range(6, 12)  # numbers
_COLUMNS = 12

# columns of the lists: the first posting of a term in a segment, its runs, and in one number the
# window of the first run, its postings less one, and the bits of the largest part; then the bits of
# the parts of ranks 10 and 100, and those of rank 1,000; then the address of the bits of a frequent
# term (dense.py), in the order of search, 0 for none
POSTING, RUN, LAST_RUN, FIRST_RUN, RANKED, RANKED_1000, BITS = range(7)
LIST_COLUMNS = 7
_U32, _U48, _LOW16 = (np.uint64(n) for n in (32, 48, 0xFFFF))

_OWN: UInt32 = np.empty(0, np.uint32)  # the order of rows

_uint16_at = array_at(types.uint16)
_uint32_at = array_at(types.uint32)
_float32_at = array_at(types.float32)


class Segment(NamedTuple):
    """The postings of a segment (Postings) and their impacts (Impacts), as far as searching needs
    them in addition to the lists."""

    docs: UInt16
    run_window: UInt16
    run_count: UInt16
    parts: Float32
    block: Float32
    order: UInt32  # [documents] their rows, where that is not their order; or [0]


def segment_table(
    segments: Sequence[tuple[Postings, Impacts, int, int]],
    orders: Sequence[UInt32 | None] | None = None,
) -> npt.NDArray[np.int64]:
    """int64[S, columns] of the postings, impacts, first row and number of documents of each. The
    arrays must be contiguous and outlive its use.

    orders : the search order of each that has one
    """
    orders = orders or [None] * len(segments)
    table = np.empty((len(segments), _COLUMNS), np.int64)
    for row, found, order in zip(table, segments, orders, strict=True):
        postings, impacts, first_row, documents = found
        arrays: list[Any] = [
            postings.docs, postings.run_window, postings.run_count, impacts.parts, impacts.block,
            _OWN if order is None else order,
        ]  # fmt: skip
        row[:POSTINGS] = [address_of(array) for array in arrays]
        row[POSTINGS:] = (
            len(postings.docs), len(postings.run_window), len(impacts.block), len(arrays[-1]),
            first_row, documents,
        )  # fmt: skip
    return table


@inline
def segment_of(table, s):
    """The arrays of segment s."""
    postings, runs = table[s, POSTINGS], table[s, RUNS]
    return Segment(
        _uint16_at(table[s, DOCS], postings),
        _uint16_at(table[s, RUN_WINDOW], runs),
        _uint16_at(table[s, RUN_COUNT], runs),
        _float32_at(table[s, PARTS], postings),
        _float32_at(table[s, BLOCKS], table[s, BLOCK_COUNT]),
        _uint32_at(table[s, ORDER], table[s, ORDERED]),
    )


@inline
def row_of(segment, document):
    """The row in its segment of a document (int64) by its place in the order of search."""
    if len(segment.order) == 0:
        return document
    return np.int64(segment.order[np.uint64(document)])


@jit
def fill_lists(lists, s, rows, postings, impacts, terms, bits):
    """Write the lists of terms in segment s, whose impacts are computed.

    lists     int64[N, S, LIST_COLUMNS]  zeroed: a term without runs is not in the segment
    rows      int32[n]  the row of each term
    postings, impacts  of the segment
    terms     int32[n]  the terms in the segment, -1 for one that it lacks
    bits      int64[n]  the addresses of their bits, 0 for none; or int64[0]: they have none
    """
    for i in range(len(terms)):
        own = lists[rows[i], s]
        term = np.int64(terms[i])
        if term < 0 or postings.term_run[term] == postings.term_run[term + 1]:
            continue
        run = postings.term_run[term]
        own[POSTING] = postings.term_posting[term]
        own[RUN] = run
        own[LAST_RUN] = postings.term_run[term + 1]
        own[FIRST_RUN] = np.int64(
            np.uint64(postings.run_window[run]) << _U48
            | np.uint64(postings.run_count[run]) << _U32
            | np.uint64(float_bits(impacts.best[term]))
        )
        ranked = impacts.ranked[term]
        own[RANKED] = np.int64(
            np.uint64(float_bits(ranked[1])) << _U32 | np.uint64(float_bits(ranked[0]))
        )
        own[RANKED_1000] = np.int64(float_bits(ranked[2]))
        if len(bits) > 0:
            own[BITS] = bits[i]


@inline
def first_run(packed):
    """(window, postings, largest part) of the column FIRST_RUN."""
    value = np.uint64(packed)
    return (
        np.int64(value >> _U48),
        np.int64(value >> _U32 & _LOW16) + 1,
        bits_float(np.uint32(value)),
    )


@inline
def ranked_part(own, k):
    """A part that k or more documents of a list reach; 0 where none is known, -1 for a signed term.

    own  int64[LIST_COLUMNS]
    """
    if k <= RANKS[0]:
        return bits_float(np.uint32(np.uint64(own[RANKED])))
    if k <= RANKS[1]:
        return bits_float(np.uint32(np.uint64(own[RANKED]) >> _U32))
    if k <= RANKS[2]:
        return bits_float(np.uint32(np.uint64(own[RANKED_1000])))
    return np.float32(0.0)
