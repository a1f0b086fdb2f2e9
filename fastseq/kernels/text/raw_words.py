"""Tables of words and of the terms that they become: counting, sorting by term, copying."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8
from fastseq.kernels.core.jit import jit
from fastseq.kernels.text.hashing import same_bytes

_U1 = np.uint64(1)


@jit
def count_ids(counts: Int64, ids: Int32) -> None:
    """Add to counts[i] how often the id i occurs.

    counts int64[n], ids int32[m]
    """
    for i in range(np.uint64(len(ids))):
        counts[np.uint64(ids[i])] += 1


@jit
def sort_by_term(order: Int32, places: Int64, terms: Int32) -> None:
    """The words that have a term, in the order of their terms; those of a term in their own order.

    order   int32[m]      numbers of words
    places  int64[V + 1]  the place of each term's first word; advanced to that of the next term
    terms   int32[n]      the term of each word, -1 for none
    """
    for i in range(np.uint64(len(terms))):
        if terms[i] >= 0:
            term = np.uint64(terms[i])
            order[np.uint64(places[term])] = np.int32(i)
            places[term] += 1


@jit
def copy_strings(
    out: UInt8, starts: Int64, data: UInt8, offsets: Int64, gap: int, chosen: Int32
) -> None:
    """Copy n strings to out[starts[i]:].

    starts   int64[n]
    data     uint8[…]
    offsets  int64[m + 1]  string j is data[offsets[j]:offsets[j + 1] - gap]
    chosen   int32[n]      the number of each string
    """
    for i in range(np.uint64(len(chosen))):
        string = np.uint64(chosen[i])
        to = np.uint64(starts[i])
        for j in range(
            np.uint64(offsets[string]), np.uint64(offsets[string + _U1]) - np.uint64(gap)
        ):
            out[to] = data[j]
            to += _U1


@jit
def equal_strings(
    out: UInt8, data: UInt8, offsets: Int64, others: UInt8, other_offsets: Int64, chosen: Int32
) -> None:
    """out uint8[n]: 1 where string i equals the other string chosen[i].

    data uint8[…], offsets int64[n + 1]: string i is data[offsets[i]:offsets[i + 1]]; so the others
    chosen int32[n]
    """
    for i in range(np.uint64(len(out))):
        other = np.uint64(chosen[i])
        start = np.uint64(offsets[i])
        begin = np.uint64(other_offsets[other])
        length = np.uint64(offsets[i + _U1]) - start
        same = length == np.uint64(other_offsets[other + _U1]) - begin
        out[i] = np.uint8(same and same_bytes(data, start, others, begin, length))
