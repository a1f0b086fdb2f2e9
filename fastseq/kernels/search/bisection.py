"""Recursive graph bisection: an order of documents in which those with the same terms are close.

Documents are halved again and again. Of each half the documents with each term are counted; one
that has more of its terms in the other half is better there, since a term that is concentrated
takes fewer bits: log2 of the distance of two of its documents (Dhulipala et al. 2016, "Compressing
graphs and indexes with recursive graph bisection"). As in Mackenzie, Petri and Moffat 2022
("Tradeoff options for bipartite graph partitioning"), the gain of a document is approximated by the
sum over its terms of the difference of the logarithms, and the half with the larger gains is
selected, not sorted.

All arithmetic is in integers, so that the order does not depend on the machine, and ranges of
documents are independent of each other, so that it does not depend on threads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt32, UInt64
from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.topk import select_best
from fastseq.kernels.search.postings import WINDOW_BITS

SMALLEST = 16  # documents that are not halved
_ROUNDS = 20  # at most, of exchanges between two halves
_FEW = 128  # the last one moves less than this part of the documents
LOG_BITS = 16  # of logarithms, after the binary point
_MOST_GAIN = np.int64((1 << 31) - 1)
_U32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


class Bisection(NamedTuple):
    """What one thread needs to order a range of documents."""

    starts: Int64  # [documents + 1] where the terms of each row begin
    terms: Int32  # [n]
    logs: Int32  # [documents + 1] log2(1 + i), with LOG_BITS after the point
    left: Int32  # [terms] documents of the left half with each term; all zero between uses
    right: Int32  # [terms] the same of the right one
    gains: UInt64  # [range] of each document: its gain to the left, and its place for ties
    keys: UInt64  # [range]


@jit
def count_terms(counts, postings, numbers):
    """counts int32[documents]: the chosen terms of each document.

    numbers  int32[V]  of the chosen terms, -1 for others
    """
    documents = np.uint64(len(counts))
    for term in range(np.uint64(len(numbers))):
        if numbers[term] < 0:
            continue
        at = np.uint64(postings.term_posting[term])
        for run in range(postings.term_run[term], postings.term_run[term + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(at, stop):
                document = base + np.uint64(postings.docs[j])
                if document < documents:
                    counts[document] += 1
            at = stop


@jit
def list_terms(terms, at, postings, numbers):
    """The chosen terms of each document, one document after the other.

    terms    int32[n]
    at       int64[documents]  where those of each begin; changed
    numbers  as in `count_terms`
    """
    documents = np.uint64(len(at))
    for term in range(np.uint64(len(numbers))):
        number = numbers[term]
        if number < 0:
            continue
        posting = np.uint64(postings.term_posting[term])
        for run in range(postings.term_run[term], postings.term_run[term + np.uint64(1)]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = posting + np.uint64(postings.run_count[np.uint64(run)]) + np.uint64(1)
            for j in range(posting, stop):
                document = base + np.uint64(postings.docs[j])
                if document < documents:
                    terms[np.uint64(at[document])] = number
                    at[document] += 1
            posting = stop


@inline
def _add(counts, work, row, change):
    """Add `change` to the counts of the terms of a row."""
    for i in range(np.uint64(work.starts[row]), np.uint64(work.starts[row + np.uint64(1)])):
        counts[np.uint64(work.terms[i])] += change


@inline
def _clear(counts, work, row):
    """Set the counts of the terms of a row to 0."""
    for i in range(np.uint64(work.starts[row]), np.uint64(work.starts[row + np.uint64(1)])):
        counts[np.uint64(work.terms[i])] = 0


@inline
def _gain(work, row):
    """How much better a row is in the left half than in the right one."""
    gain = np.int64(0)
    for i in range(np.uint64(work.starts[row]), np.uint64(work.starts[row + np.uint64(1)])):
        term = np.uint64(work.terms[i])
        gain += np.int64(work.logs[np.uint64(work.left[term])])
        gain -= np.int64(work.logs[np.uint64(work.right[term])])
    return min(max(gain, -_MOST_GAIN), _MOST_GAIN)


@helper
def _halve(order, work, first, last):
    """Exchange documents between the halves of order[first:last]; returns where the second
    begins."""
    n = last - first
    half = n >> 1
    for i in range(n):
        row = np.uint64(order[np.uint64(first + i)])
        _add(work.left if i < half else work.right, work, row, np.int32(1))
    for _ in range(_ROUNDS):
        for i in range(np.uint64(n)):
            gain = _gain(work, np.uint64(order[np.uint64(first) + i]))
            key = (np.uint64(gain + _MOST_GAIN) << _U32) | (_LOW - i)
            work.gains[i] = key
            work.keys[i] = key
        least = select_best(work.keys, n, half)
        moved = 0
        j = np.uint64(half)
        for i in range(np.uint64(half)):
            if work.gains[i] >= least:
                continue
            while work.gains[j] < least:
                j += np.uint64(1)
            here, there = np.uint64(first) + i, np.uint64(first) + j
            row, other = np.uint64(order[here]), np.uint64(order[there])
            _add(work.left, work, row, np.int32(-1))
            _add(work.right, work, row, np.int32(1))
            _add(work.left, work, other, np.int32(1))
            _add(work.right, work, other, np.int32(-1))
            order[here] = np.uint32(other)
            order[there] = np.uint32(row)
            j += np.uint64(1)
            moved += 1
        if moved * _FEW < n:
            break
    for i in range(n):
        row = np.uint64(order[np.uint64(first + i)])
        _clear(work.left, work, row)
        _clear(work.right, work, row)
    return first + half


@jit
def halve(order, work, first, last):
    """Exchange documents between the halves of order[first:last] (uint32), which has two or more;
    returns where the second begins."""
    return _halve(order, work, first, last)


@jit
def bisect(order, work, stack, first, last):
    """Order order[first:last] (uint32[documents], rows): halve it, and each half again.

    stack  int64[64, 2]  scratch
    """
    stack[0, 0] = first
    stack[0, 1] = last
    depth = 1
    while depth > 0:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        if high - low <= SMALLEST:
            continue
        middle = _halve(order, work, low, high)
        stack[depth, 0] = middle
        stack[depth, 1] = high
        stack[depth + 1, 0] = low
        stack[depth + 1, 1] = middle
        depth += 2


def make_bisection(
    starts: Int64, terms: Int32, logs: Int32, chosen: int, documents: int
) -> Bisection:
    """Memory to order ranges of up to `documents` documents; `chosen` is the number of terms."""
    return Bisection(
        starts=starts, terms=terms, logs=logs, left=np.zeros(chosen, np.int32),
        right=np.zeros(chosen, np.int32), gains=np.empty(documents, np.uint64),
        keys=np.empty(documents, np.uint64),
    )  # fmt: skip


def first_order(lengths: Int32, strata: int) -> tuple[UInt32, Int64]:
    """(uint32[documents] the rows, those of shorter documents in earlier strata, of one stratum in
    their order; int64[strata + 1] where each begins)."""
    edges = np.arange(strata + 1) * len(lengths) // strata
    order = np.argsort(lengths, kind="stable").astype(np.uint32)
    for first, last in pairwise(edges.tolist()):
        order[first:last].sort()
    return order, edges
