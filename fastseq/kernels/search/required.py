"""Exact top-k of queries with required and excluded terms.

The required lists are intersected window by window, from the rarest on. Of a frequent term, whose
documents are known as bits, a bit is tested for each candidate; then a list that is not much longer
than the candidates so far is read whole, with the candidates marked in a table of the window's
documents; of a longer one each candidate is looked up. Where the rarest term is frequent too, its
bits and those of the others are combined word by word. Before that, postings of the first list
whose part is too small for a hit are left out, a block at a time. Scores are then added up in the
order of plain queries (search.py), and dropped where they cannot reach the threshold, so they have
the same bits.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit, optimised_helper
from fastseq.kernels.core.topk import key_document
from fastseq.kernels.search.cursors import (
    NO_WINDOW,
    TINY,
    advance,
    allowed_window,
    bound_rests,
    enter_list,
    narrow,
    order_terms,
    scratch_of,
    windows_of,
)
from fastseq.kernels.search.dense import dense_of, has_bit, rank_of
from fastseq.kernels.search.impacts import BLOCK, BLOCK_BITS
from fastseq.kernels.search.postings import WINDOW_BITS, find_document
from fastseq.kernels.search.search import (
    add_hits,
    collect_one,
    complete,
    search_all,
    search_pruned,
    sort_hits,
    threshold_of,
    write_hits,
)
from fastseq.kernels.search.segments import DOCUMENTS, FIRST_ROW, LAST_RUN, RUN, segment_of
from fastseq.kernels.simd.bytes import count_ones, nonzero64, prefetch, trailing_zeros

OPTIONAL, REQUIRED, EXCLUDED = 0, 1, 2  # roles of a term
_U1, _U6, _U63 = np.uint64(1), np.uint64(6), np.uint64(63)
# A list up to this many times as long as the candidates is read whole: to find a document in a
# list costs as much as to test about this many postings.
STREAMED = 12
# Bits are combined where a list has a posting for so many words of them.
WORDS_A_POSTING = 4


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


@inline
def _is_required_dense(scratch, i):
    """Whether term i is required and has bits."""
    return scratch.role[i] == REQUIRED and scratch.bits[i] != 0


@optimised_helper
def _collect_common(scratch, segment, i, limit, other, window, windows):
    """`search.collect_one`, of the documents alone whose bits of the term `other` are set: most
    postings fail that test, so their parts are not read. Written without a branch for each posting,
    which would often be mispredicted."""
    bits, _, _ = dense_of(scratch.bits[other], windows, window)
    candidates = scratch.candidates
    partial = scratch.partial
    docs = segment.docs
    parts = segment.parts
    block = segment.block
    weight = scratch.weight[i]
    begin = np.uint64(scratch.posting[i])
    at = begin
    last = at + np.uint64(scratch.count[i])
    found = np.uint64(0)
    while at < last:
        stop = min((at | np.uint64(BLOCK - 1)) + np.uint64(1), last)
        if stop - at < np.uint64(BLOCK) or weight * block[at >> np.uint64(BLOCK_BITS)] > limit:
            for j in range(at, stop):
                candidates[found] = np.int32(j - begin)
                found += has_bit(bits, np.uint64(docs[j]))
        at = stop
    kept = np.uint64(0)
    for c in range(found):
        j = begin + np.uint64(candidates[c])
        score = weight * parts[j]
        candidates[kept] = np.int32(docs[j])
        partial[kept] = score
        kept += np.uint64(score > limit)
    return np.int64(kept)


@optimised_helper
def _collect_words(scratch, segment, i, limit, other, terms, window, windows, low, high):
    """`_collect_common` for a term with bits of its own, of the documents alone that all required
    terms with bits have: of those in the words from `low` to `high`, exclusive, multiples of 64."""
    bits, first, places = dense_of(scratch.bits[i], windows, window)
    others, _, _ = dense_of(scratch.bits[other], windows, window)
    words = scratch.words
    for w in range(np.uint64(low), np.uint64(high)):
        words[w] = bits[w] & others[w]
    for t in range(terms):
        if t != i and t != other and _is_required_dense(scratch, t):
            others, _, _ = dense_of(scratch.bits[t], windows, window)
            for w in range(np.uint64(low), np.uint64(high)):
                words[w] &= others[w]
    candidates = scratch.candidates
    partial = scratch.partial
    parts = segment.parts
    weight = scratch.weight[i]
    found = np.uint64(0)
    for many in range(np.uint64(low), np.uint64(high), np.uint64(64)):
        filled = nonzero64(words, many)
        while filled:
            w = many + trailing_zeros(filled)
            filled &= filled - _U1
            own, common = bits[w], words[w]
            while common:
                bit = trailing_zeros(common)
                common &= common - _U1
                place = first + np.uint64(places[w]) + count_ones(own & ((_U1 << bit) - _U1))
                score = weight * parts[place]
                candidates[found] = np.int32((w << _U6) | bit)
                partial[found] = score
                found += np.uint64(score > limit)
    return np.int64(found)


@optimised_helper
def _intersect_bits(scratch, i, found, window, windows):
    """Keep the candidates, and their partial scores, whose bits of term i are set."""
    bits, _, _ = dense_of(scratch.bits[i], windows, window)
    candidates = scratch.candidates
    partial = scratch.partial
    kept = np.uint64(0)
    for c in range(np.uint64(found)):
        document = np.uint64(candidates[c])
        candidates[kept] = np.int32(document)
        partial[kept] = partial[c]
        kept += has_bit(bits, document)
    return np.int64(kept)


@optimised_helper
def _intersect(scratch, segment, i, found):
    """Keep the candidates, and their partial scores, that term i has in the window."""
    candidates = scratch.candidates
    partial = scratch.partial
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
            partial[kept] = partial[c]
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
        partial[kept] = partial[c]
        kept += np.uint64(np.int64(docs[np.uint64(start + low)]) == document)
    return np.int64(kept)


@optimised_helper
def _add_common(scratch, segment, i, found, window, windows, threshold):
    """`search.complete` by a term with bits that all candidates have."""
    bits, first, places = dense_of(scratch.bits[i], windows, window)
    candidates = scratch.candidates
    partial = scratch.partial
    postings = scratch.postings
    parts = segment.parts
    weight = scratch.weight[i]
    limit = np.float32(threshold - scratch.rest[i])
    kept = np.uint64(0)
    for c in range(np.uint64(found)):
        document = np.uint64(candidates[c])
        score = partial[c]
        before = rank_of(bits, places, document)
        prefetch(parts, first + before)
        candidates[kept] = np.int32(document)
        partial[kept] = score
        postings[kept] = np.uint32(before)
        kept += np.uint64(score > limit)
    for c in range(kept):
        partial[c] += weight * parts[first + np.uint64(postings[c])]
    return np.int64(kept)


@optimised_helper
def _search_required(
    scratch, found, best_key, segment, terms, excluded, k, first_row, n_docs, base, allowed, ranges,
    at,
):  # fmt: skip
    """The hits among the documents with all required terms. As `search_pruned`."""
    threshold = np.float32(0.0)
    if best_key > 0:
        threshold = threshold_of(segment, best_key, base)
    windows = windows_of(n_docs)
    window = np.int64(0)
    while scratch.rest[0] > threshold:
        window = _common_window(scratch, segment, terms, window)
        if window == NO_WINDOW or (window << WINDOW_BITS) >= n_docs:
            break
        wanted, low, high = allowed_window(ranges, at, window, n_docs)
        if wanted > window:
            window = wanted
            continue
        first = -1
        for i in range(terms):
            scratch.count[i] = narrow(scratch, segment, i, window, low, high)
            if scratch.role[i] == REQUIRED and (
                first < 0 or scratch.count[i] < scratch.count[first]
            ):
                first = i
        limit = np.float32(threshold - (scratch.rest[0] - scratch.bound[first]))
        limit = max(limit, np.float32(0.0))  # a deleted document has parts of 0
        other = -1
        for i in range(terms):
            dense = i != first and _is_required_dense(scratch, i)
            if dense and (other < 0 or scratch.count[i] < scratch.count[other]):
                other = i
        low, high = (low >> 12) << 6, ((high >> 12) + 1) << 6  # of words, 64 at a time
        if other < 0:
            candidates = collect_one(scratch, segment, first, limit)
        elif scratch.bits[first] != 0 and WORDS_A_POSTING * scratch.count[first] >= high - low:
            candidates = _collect_words(
                scratch, segment, first, limit, other, terms, window, windows, low, high
            )
        else:
            candidates = _collect_common(scratch, segment, first, limit, other, window, windows)
            for i in range(terms):
                if i != first and i != other and _is_required_dense(scratch, i):
                    candidates = _intersect_bits(scratch, i, candidates, window, windows)
        for i in range(terms):
            if i != first and scratch.role[i] == REQUIRED and scratch.bits[i] == 0:
                candidates = _intersect(scratch, segment, i, candidates)
        # the parts of the first term of the order are added first, to nothing
        begun = np.int64(first == 0)
        if begun == 0:
            for c in range(np.uint64(candidates)):
                scratch.partial[c] = 0.0
        for i in range(begun, terms):
            if candidates > 0 and _is_required_dense(scratch, i):
                candidates = _add_common(
                    scratch, segment, i, candidates, window, windows, threshold
                )
            elif candidates > 0:
                candidates = complete(scratch, segment, i, candidates, window, windows, threshold)
        found, best_key, threshold = add_hits(
            scratch, found, best_key, threshold, segment, candidates, window, terms, excluded, k,
            first_row, base, allowed,
        )  # fmt: skip
        window += 1
    return found, best_key


@jit
def search_required(
    rows, scores, segments, lists, memory, starts, terms, weights, roles, base, allowed, ranges, k,
):  # fmt: skip
    """The k best documents of each of Q queries with required and excluded terms. Without required
    terms a document must have one of the optional ones.

    roles   uint8[n]  OPTIONAL, REQUIRED or EXCLUDED; required terms have positive weights, and the
            weights of excluded ones are not used
    others  as in `search.search`
    """
    scratch = scratch_of(memory)
    for q in range(len(starts) - 1):
        own = terms[starts[q] : starts[q + 1]]
        own_weights = weights[starts[q] : starts[q + 1]]
        own_roles = roles[starts[q] : starts[q + 1]]
        n = np.int64(0)
        best_key = np.uint64(0)
        order_terms(scratch, own_weights)
        at = np.int64(0)
        for s in range(len(segments)):
            n_docs = segments[s, DOCUMENTS]
            window_0 = at
            at += windows_of(n_docs)
            kept, excluded, required, positive = _prepare_roles(
                scratch, lists, s, own, own_weights, own_roles
            )
            if kept == 0:
                continue
            segment = segment_of(segments, s)
            first_row = segments[s, FIRST_ROW]
            if required > 0:
                n, best_key = _search_required(
                    scratch, n, best_key, segment, kept, excluded, k, first_row, n_docs, base[q],
                    allowed, ranges, window_0,
                )  # fmt: skip
            elif positive:
                n, best_key = search_pruned(
                    scratch, n, best_key, np.float32(0.0), segment, kept, excluded, k, first_row,
                    n_docs, base[q], allowed, ranges, window_0, False,
                )  # fmt: skip
            else:
                n, best_key = search_all(
                    scratch, n, best_key, segment, kept, excluded, k, first_row, n_docs, base[q],
                    allowed,
                )  # fmt: skip
        write_hits(rows, scores, q, scratch, sort_hits(scratch, n, k), k)
