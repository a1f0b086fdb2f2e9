"""The memory of a thread that searches, and the places of a query's lists in the window that it
searches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from fastseq.kernels.core.arrays import (
    Float32,
    Int32,
    Int64,
    UInt8,
    UInt32,
    UInt64,
    address_of,
)
from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import helper, inline
from fastseq.kernels.core.topk import make_key, sort_descending
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, WORDS, find_document
from fastseq.kernels.search.segments import BITS, FIRST_RUN, LAST_RUN, POSTING, RUN, first_run

# Below this a product of weight and part might round to zero and a hit be lost.
TINY = 1e-30
NO_WINDOW = 1 << 30

_uint8_at, _int32_at, _uint32_at = map(array_at, (types.uint8, types.int32, types.uint32))
_int64_at, _uint64_at, _float32_at = map(array_at, (types.int64, types.uint64, types.float32))


class Scratch(NamedTuple):
    """What one thread needs to search: `scratch_of` the memory that `make_scratch` sizes."""

    scores: Float32  # [WINDOW] all zero between queries
    seen: UInt8  # [WINDOW] all zero between queries
    candidates: Int32  # [WINDOW] documents that may pass the threshold
    partial: Float32  # [WINDOW] and their scores so far
    postings: UInt32  # [WINDOW] and their postings of a term in the window
    words: UInt64  # [WORDS] bits of documents, in the memory of `postings`
    keys: UInt64  # [capacity] the query's candidates
    spare: UInt64  # [capacity]
    weight: Float32  # [M] of the query's terms in a segment, M the longest query's
    bound: Float32  # [M]
    rest: Float32  # [M + 1]
    run: Int64  # [M] each term's current run
    last_run: Int64  # [M] and its last, exclusive
    window: Int64  # [M] the window of the current run, NO_WINDOW past the last
    posting: Int64  # [M] where its postings start
    size: Int64  # [M] and the number of those
    count: Int64  # [M] the number of those in the window that is searched
    role: UInt8  # [M] OPTIONAL or REQUIRED, where the query has such terms
    bits: Int64  # [M] the address of the bits of a frequent term (dense.py); 0 for none
    order: UInt64  # [M] keys of (weight, position in the query)
    order_spare: UInt64  # [M]


def key_capacity(k: int) -> int:
    """The candidates of a query in memory: the k best and as many new ones."""
    return k + max(k, 128)


class Memory(NamedTuple):
    """A Scratch, and as one array, since each of an argument costs the call of a kernel about .1
    µs: the addresses of its arrays, then the lengths of the keys and of the arrays of terms."""

    arrays: Scratch
    addresses: Int64


def make_scratch(k: int, terms: int) -> Memory:
    """Scratch for queries of at most `terms` terms and k hits."""
    postings = np.empty(WINDOW, np.uint32)
    arrays = Scratch(
        scores=np.zeros(WINDOW, np.float32),
        seen=np.zeros(WINDOW, np.uint8),
        candidates=np.zeros(WINDOW, np.int32),
        partial=np.empty(WINDOW, np.float32),
        postings=postings,
        words=postings.view(np.uint64)[:WORDS],
        keys=np.empty(key_capacity(k), np.uint64),
        spare=np.empty(key_capacity(k), np.uint64),
        weight=np.empty(terms, np.float32),
        bound=np.empty(terms, np.float32),
        rest=np.empty(terms + 1, np.float32),
        run=np.empty(terms, np.int64),
        last_run=np.empty(terms, np.int64),
        window=np.empty(terms, np.int64),
        posting=np.empty(terms, np.int64),
        size=np.empty(terms, np.int64),
        count=np.empty(terms, np.int64),
        role=np.empty(terms, np.uint8),
        bits=np.empty(terms, np.int64),
        order=np.empty(terms, np.uint64),
        order_spare=np.empty(terms, np.uint64),
    )
    starts = [address_of(array) for array in arrays]
    return Memory(arrays, np.array([*starts, key_capacity(k), terms], np.int64))


@inline
def scratch_of(memory):
    """The Scratch with the addresses of a Memory."""
    keys, terms = memory[21], memory[22]
    return Scratch(
        _float32_at(memory[0], WINDOW), _uint8_at(memory[1], WINDOW),
        _int32_at(memory[2], WINDOW), _float32_at(memory[3], WINDOW),
        _uint32_at(memory[4], WINDOW), _uint64_at(memory[5], WORDS), _uint64_at(memory[6], keys),
        _uint64_at(memory[7], keys), _float32_at(memory[8], terms), _float32_at(memory[9], terms),
        _float32_at(memory[10], terms + 1), _int64_at(memory[11], terms),
        _int64_at(memory[12], terms), _int64_at(memory[13], terms), _int64_at(memory[14], terms),
        _int64_at(memory[15], terms), _int64_at(memory[16], terms), _uint8_at(memory[17], terms),
        _int64_at(memory[18], terms), _uint64_at(memory[19], terms), _uint64_at(memory[20], terms),
    )  # fmt: skip


def fits(memory: Memory, k: int, terms: int) -> bool:
    """Whether memory serves queries of `terms` terms and k hits."""
    # a buffer for a far larger k would let the threshold lag behind
    capacity = key_capacity(k)
    arrays = memory.arrays
    return capacity <= len(arrays.keys) <= 4 * capacity and terms <= len(arrays.weight)


@helper
def order_terms(scratch, weights):
    """Order the terms of a query: the largest weight first, equals in the order given."""
    for i in range(len(weights)):
        scratch.order[i] = make_key(weights[i], i)
    sort_descending(scratch.order, scratch.order_spare, len(weights))


@inline
def enter_list(scratch, at, own, weight):
    """Fill place `at` of the term tables from the list of a term that the segment has; returns
    whether it is signed."""
    window, size, best = first_run(own[FIRST_RUN])
    scratch.weight[at] = weight
    scratch.bound[at] = weight * abs(best)
    scratch.run[at] = own[RUN]
    scratch.last_run[at] = own[LAST_RUN]
    scratch.window[at] = window
    scratch.posting[at] = own[POSTING]
    scratch.size[at] = size
    scratch.bits[at] = own[BITS]
    return best < 0.0


@inline
def bound_rests(scratch, terms):
    """What each term and those after it can add to a document."""
    total = 0.0
    for i in range(terms):
        total += scratch.bound[i]
    # float32 sums of n terms err by less than n · 2^-24 of the whole score, however small the tail
    error = total * (1e-6 + 1.2e-7 * terms)
    total = 0.0
    scratch.rest[terms] = 0.0
    for j in range(terms - 1, -1, -1):
        total += scratch.bound[j]
        scratch.rest[j] = total + error


@inline
def advance(scratch, segment, i, window):
    """Move term i to its run in `window`; returns the postings there, 0 if it has none."""
    while scratch.window[i] < window:
        scratch.posting[i] += scratch.size[i]
        scratch.run[i] += 1
        if scratch.run[i] < scratch.last_run[i]:
            run = np.uint64(scratch.run[i])
            scratch.window[i] = np.int64(segment.run_window[run])
            scratch.size[i] = np.int64(segment.run_count[run]) + 1
        else:
            scratch.window[i] = NO_WINDOW
    return scratch.size[i] if scratch.window[i] == window else np.int64(0)


@inline
def narrow(scratch, segment, i, window, first, last):
    """`advance`, for the documents from `first` to `last` of the window alone: postings before them
    are skipped for good, and those after them are not counted."""
    count = advance(scratch, segment, i, window)
    if last - first >= WINDOW // 2:
        return count
    docs = segment.docs
    skipped = find_document(docs, scratch.posting[i], count, np.int64(0), first)
    if count > 0:
        scratch.posting[i] += skipped
        scratch.size[i] -= skipped
    return find_document(docs, scratch.posting[i], count - skipped, np.int64(0), last + 1)


@inline
def allowed_window(ranges, at, window, n_docs):
    """(the first window from `window` on with a document that a filter lets pass, the first such
    document in it, the last one); NO_WINDOW where there is none. Where they are half a window
    apart, they are those of the whole window.

    ranges, at  as `search` describes them: row `at` is that of window 0
    """
    if len(ranges) == 0:
        return window, np.int64(0), np.int64(WINDOW - 1)
    while (window << WINDOW_BITS) < n_docs:
        own = np.uint64(at + window)
        first, last = np.int64(ranges[own, 0]), np.int64(ranges[own, 1])
        if last - first >= WINDOW // 2:
            return window, np.int64(0), np.int64(WINDOW - 1)
        if last >= first:
            return window, first, last
        window += 1
    return np.int64(NO_WINDOW), np.int64(0), np.int64(WINDOW - 1)


@inline
def windows_of(n_docs):
    """The number of windows of a segment."""
    return (n_docs + WINDOW - 1) >> WINDOW_BITS
