"""Counting the documents that match a query, without scoring them.

A window of documents is a row of 1,024 words of 64 bits. The bits of the postings of each term are
combined there; of terms that many documents have, the bits of a whole segment are cached, and
combining them costs a sixty-fourth of an operation for each document. The documents of a required
term without cached bits are instead tested one by one: in the bits of the others or, where the
other list is much longer, by search.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import inline, jit, optimised_helper
from fastseq.kernels.search.dense import has_bit, set_bits
from fastseq.kernels.search.postings import WINDOW, WORDS, find_document
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED
from fastseq.kernels.simd.bytes import count_ones

# A list up to this many times as long as the candidates is written as bits: to find a document in a
# list costs as much as to set about this many bits.
_STREAMED = 12
# rows of the lists: a term's current run and the first posting of it, and where its postings in the
# window start and how many there are
RUN, POSTING, START, SIZE = range(4)
_uint64_at = array_at(types.uint64)
_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)


@inline
def _enter_window(lists, postings, i, term, window, low, high):
    """Move list i to a window; of its postings there those in the words from `low` to `high`."""
    run, posting = lists[RUN, i], lists[POSTING, i]
    last = postings.term_run[term + _U1]
    while run < last and np.int64(postings.run_window[np.uint64(run)]) < window:
        posting += np.int64(postings.run_count[np.uint64(run)]) + 1
        run += 1
    lists[RUN, i], lists[POSTING, i] = run, posting
    size = np.int64(0)
    if run < last and np.int64(postings.run_window[np.uint64(run)]) == window:
        size = np.int64(postings.run_count[np.uint64(run)]) + 1
        if high < WORDS:
            size = find_document(postings.docs, posting, size, np.int64(0), high << 6)
        if low > 0:
            skipped = find_document(postings.docs, posting, size, np.int64(0), low << 6)
            posting += skipped
            size -= skipped
    lists[START, i], lists[SIZE, i] = posting, size


@optimised_helper
def _keep(candidates, n, bits, wanted):
    """Keep those of the n candidates whose bit is `wanted`; returns how many."""
    kept = np.uint64(0)
    for c in range(np.uint64(n)):
        document = candidates[c]
        candidates[kept] = document
        kept += np.uint64(has_bit(bits, np.uint64(document)) == wanted)
    return np.int64(kept)


@optimised_helper
def _keep_in_list(candidates, n, docs, start, size, wanted, other):
    """Keep those of the n candidates, ascending, that a list has, or not, as `wanted` is 1 or 0;
    returns how many. other uint64[WORDS]: scratch."""
    if size <= _STREAMED * n:
        for w in range(np.uint64(WORDS)):
            other[w] = np.uint64(0)
        set_bits(other, docs, np.uint64(start), np.uint64(start + size))
        return _keep(candidates, n, other, wanted)
    kept = np.uint64(0)
    at = np.int64(0)
    for c in range(np.uint64(n)):
        document = candidates[c]
        at = find_document(docs, start, size, at, np.int64(document))
        has = at < size and docs[np.uint64(start + at)] == document
        candidates[kept] = document
        kept += np.uint64(np.uint64(has) == wanted)
    return np.int64(kept)


@optimised_helper
def _count_with(docs, start, n, bits):
    """How many of the n documents have a bit."""
    total = np.uint64(0)
    for j in range(np.uint64(start), np.uint64(start + n)):
        total += has_bit(bits, np.uint64(docs[j]))
    return np.int64(total)


@inline
def _count_candidates(lists, postings, roles, dense, allowed, base, work, candidates, lead):
    """The documents of the window in list `lead` that all other required lists have, and no
    excluded one."""
    n = lists[SIZE, lead]
    start = lists[START, lead]
    conditions = 0
    other = 0
    for i in range(len(roles)):
        if i != lead and lists[SIZE, i] > 0 and roles[i] != OPTIONAL:
            conditions += 1
            other = i
    if len(allowed) == 0 and conditions == 0:
        return n
    if len(allowed) == 0 and conditions == 1 and dense[other] != 0:
        common = _count_with(postings.docs, start, n, _uint64_at(dense[other] + base * 8, WORDS))
        return common if roles[other] == REQUIRED else n - common
    for c in range(np.uint64(n)):
        candidates[c] = postings.docs[np.uint64(start) + c]
    if len(allowed) > 0:
        n = _keep(candidates, n, allowed[base : base + WORDS], _U1)
    for i in range(len(roles)):
        if i == lead or lists[SIZE, i] == 0 or roles[i] == OPTIONAL or n == 0:
            continue
        wanted = np.uint64(roles[i] == REQUIRED)
        if dense[i] != 0:
            n = _keep(candidates, n, _uint64_at(dense[i] + base * 8, WORDS), wanted)
        else:
            n = _keep_in_list(
                candidates, n, postings.docs, lists[START, i], lists[SIZE, i], wanted, work
            )
    return n


@inline
def _count_bits(lists, postings, roles, dense, allowed, base, low, high, work, role):
    """The documents in the words from `low` to `high` of the window that all lists have, where
    `role` is REQUIRED and these are dense, or any, where it is OPTIONAL; and no excluded one."""
    begun = False
    alone = np.int64(0)  # documents, as long as one list without other conditions is counted
    for excluding in range(2):
        for i in range(len(roles)):
            turn = role if excluding == 0 else EXCLUDED
            if roles[i] != turn or lists[SIZE, i] == 0 or (turn == EXCLUDED and not begun):
                continue
            start = np.uint64(lists[START, i])
            stop = start + np.uint64(lists[SIZE, i])
            alone = np.int64(stop - start) if not begun else np.int64(-1)
            if dense[i] != 0:
                bits = _uint64_at(dense[i] + base * 8, WORDS)
                if not begun:
                    for w in range(np.uint64(low), np.uint64(high)):
                        work[w] = bits[w]
                elif turn == REQUIRED:
                    for w in range(np.uint64(low), np.uint64(high)):
                        work[w] &= bits[w]
                elif turn == OPTIONAL:
                    for w in range(np.uint64(low), np.uint64(high)):
                        work[w] |= bits[w]
                else:
                    for w in range(np.uint64(low), np.uint64(high)):
                        work[w] &= ~bits[w]
            elif turn == EXCLUDED:
                for j in range(start, stop):
                    document = np.uint64(postings.docs[j])
                    work[document >> _U6] &= ~(_U1 << (document & _U63))
            else:
                if not begun:
                    for w in range(np.uint64(low), np.uint64(high)):
                        work[w] = np.uint64(0)
                set_bits(work, postings.docs, start, stop)
            begun = True
    if not begun or (alone >= 0 and len(allowed) == 0):
        return alone
    total = np.int64(0)
    if len(allowed) > 0:
        for w in range(np.uint64(low), np.uint64(high)):
            work[w] &= allowed[np.uint64(base) + w]
    for w in range(np.uint64(low), np.uint64(high)):
        total += np.int64(count_ones(work[w]))
    return total


@jit
def count_documents(
    counts, postings, terms, roles, dense, starts, allowed, words, work, candidates, lists
):
    """Add the documents of a segment that match each of Q queries to their counts.

    counts   int64[Q]
    terms    int32[n]   of the segment, those of query q from starts[q] on; -1 for one that it lacks
    roles    uint8[n]   OPTIONAL, REQUIRED or EXCLUDED; without required terms one of the optional
                        ones must occur
    dense    int64[n]   the addresses of the bits of each term's documents, which are
                        uint64[windows · WORDS]; 0 for a term without
    allowed  uint64[windows · WORDS]  bits of the documents that count, or uint64[0] for all
    words    int64[2]  the words, from the first to the last, exclusive, that have such bits
    work     uint64[WORDS]; candidates uint16[WINDOW]; lists int64[4, longest query]: scratch
    """
    for q in range(len(counts)):
        own = terms[starts[q] : starts[q + 1]]
        role = roles[starts[q] : starts[q + 1]]
        bits = dense[starts[q] : starts[q + 1]]
        required = 0
        missing = False
        for i in range(len(own)):
            required += role[i] == REQUIRED
            missing = missing or (role[i] == REQUIRED and own[i] < 0)
            if own[i] >= 0:
                lists[RUN, i] = postings.term_run[np.uint64(own[i])]
                lists[POSTING, i] = postings.term_posting[np.uint64(own[i])]
        if missing:
            continue
        total = np.int64(0)
        for window in range(words[0] // WORDS, (words[1] + WORDS - 1) // WORDS):
            base = window * WORDS
            low, high = max(words[0] - base, 0), min(words[1] - base, WORDS)
            lead = -1
            least = np.int64(0)
            empty = False
            for i in range(len(own)):
                if own[i] < 0:
                    lists[SIZE, i] = 0
                    continue
                _enter_window(lists, postings, i, np.uint64(own[i]), window, low, high)
                if role[i] == REQUIRED:
                    size = lists[SIZE, i]
                    empty = empty or size == 0
                    if bits[i] != 0:
                        size += 2 * WINDOW  # the others first
                    if lead < 0 or size < least:
                        lead, least = i, size
            if empty:
                continue
            if lead >= 0 and least <= WINDOW:
                total += _count_candidates(
                    lists, postings, role, bits, allowed, base, work, candidates, lead
                )
            else:
                total += _count_bits(
                    lists, postings, role, bits, allowed, base, low, high, work,
                    REQUIRED if required > 0 else OPTIONAL,
                )  # fmt: skip
        counts[q] += total
