"""Exact top-k of queries with required and excluded terms.

The required lists are intersected window by window, from the rarest on: a list that is not much
longer than the candidates so far is read whole, with the candidates marked in a table of the
window's documents; of a longer one each candidate is looked up. Before that, postings of the first
list whose part is too small for a hit are left out, a block at a time. Scores are then added up in
the order of plain queries (search.py), and dropped where they cannot reach the threshold, so they
have the same bits.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit, optimised_helper
from fastseq.kernels.core.topk import key_document
from fastseq.kernels.search.postings import WINDOW_BITS, find_document
from fastseq.kernels.search.search import (
    NO_WINDOW,
    TINY,
    add_hits,
    advance,
    bound_rests,
    collect_one,
    complete,
    enter_list,
    order_terms,
    search_all,
    search_pruned,
    sort_hits,
    threshold_of,
    write_hits,
)
from fastseq.kernels.search.segments import DOCUMENTS, FIRST_ROW, LAST_RUN, RUN, segment_of

OPTIONAL, REQUIRED, EXCLUDED = 0, 1, 2  # roles of a term
# A list up to this many times as long as the candidates is read whole: to find a document in a
# list costs as much as to test about this many postings.
STREAMED = 12


@optimised_helper
def _prepare_roles(scratch, lists, s, terms, weights, roles):
    """Fill the term tables for segment s: the optional and required terms in the query's order,
    then the excluded ones.

    Returns (terms, excluded ones, required ones, whether all weights are positive); (0, 0, 0, True)
    where the segment lacks a required term.
    """
    kept = 0
    required = 0
    positive = True
    for j in range(len(terms)):
        i = np.uint64(key_document(scratch.order[j]))
        if roles[i] == EXCLUDED:
            continue
        own = lists[np.uint64(terms[i]), np.uint64(s)]
        if own[RUN] == own[LAST_RUN]:
            if roles[i] == REQUIRED:
                return 0, 0, 0, True
            continue
        signed = enter_list(scratch, kept, own, weights[i])
        positive = positive and weights[i] > TINY and not signed
        scratch.role[kept] = roles[i]
        required += roles[i] == REQUIRED
        kept += 1
    bound_rests(scratch, kept)
    excluded = 0
    for i in range(len(terms)):
        own = lists[np.uint64(terms[i]), np.uint64(s)]
        if roles[i] == EXCLUDED and own[RUN] < own[LAST_RUN]:
            enter_list(scratch, kept + excluded, own, np.float32(0.0))
            excluded += 1
    return kept, excluded, required, positive


@inline
def _common_window(scratch, segment, terms, window):
    """The first window from `window` on in which all required terms have postings."""
    i = 0
    while i < terms:
        if scratch.role[i] == REQUIRED:
            advance(scratch, segment, i, window)
            if scratch.window[i] > window:
                window = scratch.window[i]
                if window == NO_WINDOW:
                    return window
                i = 0
                continue
        i += 1
    return window


@optimised_helper
def _intersect(scratch, segment, i, found):
    """Keep the candidates that term i has in the window."""
    candidates = scratch.candidates
    seen = scratch.seen
    docs = segment.docs
    start = scratch.posting[i]
    count = scratch.count[i]
    kept = np.uint64(0)
    if count <= STREAMED * found:
        for c in range(np.uint64(found)):
            seen[np.uint64(candidates[c])] = np.uint8(1)
        for j in range(np.uint64(start), np.uint64(start + count)):
            document = np.uint64(docs[j])
            seen[document] = seen[document] << np.uint8(1)
        for c in range(np.uint64(found)):
            document = candidates[c]
            candidates[kept] = document
            kept += np.uint64(seen[np.uint64(document)] == np.uint8(2))
            seen[np.uint64(document)] = np.uint8(0)
        return np.int64(kept)
    low = np.int64(0)
    for c in range(np.uint64(found)):
        document = np.int64(candidates[c])
        low = find_document(docs, start, count, low, document)
        if low == count:
            break
        candidates[kept] = np.int32(document)
        kept += np.uint64(np.int64(docs[np.uint64(start + low)]) == document)
    return np.int64(kept)


@optimised_helper
def _search_required(
    scratch, found, best_key, segment, terms, excluded, k, first_row, n_docs, base, allowed
):  # fmt: skip
    """The hits among the documents with all required terms. As `search_pruned`."""
    threshold = np.float32(0.0)
    if best_key > 0:
        threshold = threshold_of(segment, best_key, base)
    window = np.int64(0)
    while scratch.rest[0] > threshold:
        window = _common_window(scratch, segment, terms, window)
        if window == NO_WINDOW or (window << WINDOW_BITS) >= n_docs:
            break
        first = -1
        for i in range(terms):
            scratch.count[i] = advance(scratch, segment, i, window)
            if scratch.role[i] == REQUIRED and (
                first < 0 or scratch.count[i] < scratch.count[first]
            ):
                first = i
        limit = np.float32(threshold - (scratch.rest[0] - scratch.bound[first]))
        # a deleted document has parts of 0
        candidates = collect_one(scratch, segment, first, max(limit, np.float32(0.0)))
        for i in range(terms):
            if i != first and scratch.role[i] == REQUIRED and candidates > 0:
                candidates = _intersect(scratch, segment, i, candidates)
        for c in range(np.uint64(candidates)):
            scratch.partial[c] = 0.0
        for i in range(terms):
            if candidates > 0:
                candidates = complete(scratch, segment, i, candidates, window, threshold)
        found, best_key, threshold = add_hits(
            scratch, found, best_key, threshold, segment, candidates, window, terms, excluded, k,
            first_row, base, allowed,
        )  # fmt: skip
        window += 1
    return found, best_key


@jit
def search_required(
    rows, scores, segments, lists, scratch, starts, terms, weights, roles, base, allowed, k
):  # fmt: skip
    """The k best documents of each of Q queries with required and excluded terms. Without required
    terms a document must have one of the optional ones.

    roles   uint8[n]  OPTIONAL, REQUIRED or EXCLUDED; required terms have positive weights, and the
            weights of excluded ones are not used
    others  as in `search.search`
    """
    for q in range(len(starts) - 1):
        own = terms[starts[q] : starts[q + 1]]
        own_weights = weights[starts[q] : starts[q + 1]]
        own_roles = roles[starts[q] : starts[q + 1]]
        n = np.int64(0)
        best_key = np.uint64(0)
        order_terms(scratch, own_weights)
        for s in range(len(segments)):
            kept, excluded, required, positive = _prepare_roles(
                scratch, lists, s, own, own_weights, own_roles
            )
            if kept == 0:
                continue
            segment = segment_of(segments, s)
            first_row = segments[s, FIRST_ROW]
            n_docs = segments[s, DOCUMENTS]
            if required > 0:
                n, best_key = _search_required(
                    scratch, n, best_key, segment, kept, excluded, k, first_row, n_docs, base[q],
                    allowed,
                )  # fmt: skip
            elif positive:
                n, best_key = search_pruned(
                    scratch, n, best_key, np.float32(0.0), segment, kept, excluded, k, first_row,
                    n_docs, base[q], allowed,
                )  # fmt: skip
            else:
                n, best_key = search_all(
                    scratch, n, best_key, segment, kept, excluded, k, first_row, n_docs, base[q],
                    allowed,
                )  # fmt: skip
        write_hits(rows, scores, q, scratch, sort_hits(scratch, n, k), k)
