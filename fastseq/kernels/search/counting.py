"""Counting the documents that match a query, without scoring them.

A window of documents is a row of 1,024 words of 64 bits. The bits of the postings of each term are
combined there; of terms that many documents have, the bits of a whole segment are cached, and
combining them costs a sixty-fourth of an operation for each document.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED, WORDS
from fastseq.kernels.simd.bytes import count_ones

_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)


@inline
def _set_bits(bits, docs, first, last):
    """Set the bits of the postings from `first` to `last` (uint64)."""
    for j in range(first, last):
        document = np.uint64(docs[j])
        bits[document >> _U6] |= _U1 << (document & _U63)


@jit
def fill_dense(dense, postings, terms):
    """The bits of the documents of some terms.

    dense  uint64[m, windows · WORDS]  zeroed
    terms  int32[m]
    """
    for i in range(len(terms)):
        term = np.uint64(terms[i])
        at = np.uint64(postings.term_posting[term])
        for run in range(postings.term_run[term], postings.term_run[term + _U1]):
            window = np.int64(postings.run_window[np.uint64(run)])
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + _U1
            if (window + 1) * WORDS <= dense.shape[1]:
                own = dense[i, window * WORDS : (window + 1) * WORDS]
                _set_bits(own, postings.docs, at, stop)
            at = stop


@jit
def count_documents(
    counts, postings, terms, roles, starts, dense, places, allowed, work, runs, at, windows
):
    """Add the documents of a segment that match each of Q queries to their counts.

    counts   int64[Q]
    terms    int32[n]   of the segment, those of query q from starts[q] on; -1 for one that it lacks
    roles    uint8[n]   OPTIONAL, REQUIRED or EXCLUDED; without required terms one of the optional
                        ones must occur
    dense    uint64[m, windows · WORDS], places int32[V]: the bits of term t are dense[places[t]];
             -1 for a term without
    allowed  uint64[windows · WORDS]  bits of the documents that count, or uint64[0] for all
    work     uint64[2, WORDS]; runs, at int64[longest query]: scratch
    """
    for q in range(len(counts)):
        own = terms[starts[q] : starts[q + 1]]
        role = roles[starts[q] : starts[q + 1]]
        required = 0
        missing = False
        for i in range(len(own)):
            required += role[i] == REQUIRED
            missing = missing or (role[i] == REQUIRED and own[i] < 0)
            if own[i] >= 0:
                runs[i] = postings.term_run[np.uint64(own[i])]
                at[i] = postings.term_posting[np.uint64(own[i])]
        if missing:
            continue
        total = np.int64(0)
        for window in range(windows):
            found = work[0]
            begun = False
            empty = False
            for wanted in range(3):
                for i in range(len(own)):
                    # required terms first, then optional ones, then excluded ones
                    turn = REQUIRED if wanted == 0 else (OPTIONAL if wanted == 1 else EXCLUDED)
                    if role[i] != turn or own[i] < 0 or (turn == OPTIONAL and required > 0):
                        continue
                    term = np.uint64(own[i])
                    # the term's postings in the window
                    first = np.uint64(at[i])
                    last = first
                    run = np.uint64(runs[i])
                    if (
                        runs[i] < postings.term_run[term + _U1]
                        and np.int64(postings.run_window[run]) == window
                    ):
                        last = first + np.uint64(postings.run_count[run]) + _U1
                        at[i] = np.int64(last)
                        runs[i] += 1
                    if first == last:
                        empty = empty or turn == REQUIRED
                        continue
                    if empty or (turn == EXCLUDED and not begun):
                        continue
                    place = places[term]
                    base = np.uint64(window * WORDS)
                    if place >= 0:
                        bits = dense[place]
                        if not begun:
                            for w in range(np.uint64(WORDS)):
                                found[w] = bits[base + w]
                        elif turn == REQUIRED:
                            for w in range(np.uint64(WORDS)):
                                found[w] &= bits[base + w]
                        elif turn == OPTIONAL:
                            for w in range(np.uint64(WORDS)):
                                found[w] |= bits[base + w]
                        else:
                            for w in range(np.uint64(WORDS)):
                                found[w] &= ~bits[base + w]
                    elif not begun or turn == OPTIONAL:
                        if not begun:
                            for w in range(np.uint64(WORDS)):
                                found[w] = np.uint64(0)
                        _set_bits(found, postings.docs, first, last)
                    elif turn == EXCLUDED:
                        for j in range(first, last):
                            document = np.uint64(postings.docs[j])
                            found[document >> _U6] &= ~(_U1 << (document & _U63))
                    else:
                        other = work[1]
                        for w in range(np.uint64(WORDS)):
                            other[w] = np.uint64(0)
                        _set_bits(other, postings.docs, first, last)
                        for w in range(np.uint64(WORDS)):
                            found[w] &= other[w]
                    begun = True
            if empty or not begun:
                continue
            base = np.uint64(window * WORDS)
            if len(allowed) > 0:
                for w in range(np.uint64(WORDS)):
                    found[w] &= allowed[base + w]
            for w in range(np.uint64(WORDS)):
                total += np.int64(count_ones(found[w]))
        counts[q] += total
