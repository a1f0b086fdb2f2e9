"""Exact top-k over an inverted index: window accumulation with MaxScore pruning.

A segment is processed window by window (65,536 documents), so that the accumulators (256 KB) stay
in the L2 cache. A query's terms are in descending order of weight, equal ones in the order of their
bytes. The upper bound of a term is the most that it can add to any document. Once k hits are known,
the last terms whose bounds sum to no more than the k-th score cannot make a hit alone: those are
*non-essential* (Turtle & Flood 1995). Before that, the k-th best part of each term alone bounds the
k-th score from below (as in Mallia et al. 2020, "A comparison of top-k threshold estimation
techniques").

In a window the postings of the essential terms are accumulated, and of the next ones that are not
much more frequent. A document that could still reach the threshold with the rest is looked up in
the other lists, in order, until it no longer can. If the last essential term is much more frequent
than those before it, it is not accumulated: a hit with none of those must have a large part of it,
so that only the documents with such parts are looked up. With that and the bits of frequent terms,
a batch at k = 10 takes .8 to .9 of the time.

Whatever the split, a document's score is the float32 sum of its terms' impacts in that one order,
which depends on the collection's statistics alone: so pruned and exhaustive search give the same
bits, and so do one segment and several. Upper bounds are inflated by more than the rounding error
of the sum, so nothing is lost to rounding.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit, optimised_helper
from fastseq.kernels.core.topk import (
    bits_float,
    float_bits,
    key_document,
    key_score,
    make_key,
    select_best,
    sort_descending,
)
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
from fastseq.kernels.search.joining import place_of
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, find_document
from fastseq.kernels.search.segments import (
    DOCUMENTS,
    FIRST_ROW,
    LAST_RUN,
    LIST_COLUMNS,
    POSTING,
    RUN,
    ranked_part,
    row_of,
    segment_of,
)
from fastseq.kernels.simd.bytes import greater64, prefetch, trailing_zeros

# With fewer postings in a window, iterating over them again is cheaper than scanning the window.
SPARSE = 6144
# A list up to this many times as long as those before it is accumulated too: looking one document
# up costs about as much as adding that many postings.
PROBE_COST = 6
# The same of a list with bits (dense.py), for few hits: of many, more documents are looked up.
DENSE_COST = 1
FEW_HITS = 100
_AHEAD = np.uint64(16)  # candidates whose bits are requested before they are needed


@optimised_helper
def _prepare(scratch, lists, s, terms, weights):
    """Fill the scratch's term tables for segment s, in the query's order.

    Returns (terms kept, whether all their weights are positive, whether one is signed).
    """
    kept = 0
    positive = True
    signed = False
    for j in range(len(terms)):
        i = np.uint64(key_document(scratch.order[j]))
        own = lists[np.uint64(terms[i]), np.uint64(s)]
        if own[RUN] == own[LAST_RUN]:
            continue
        signed = enter_list(scratch, kept, own, weights[i]) or signed
        positive = positive and weights[i] > TINY
        kept += 1
    bound_rests(scratch, kept)
    return kept, positive, signed


@inline
def _next_window(scratch, essential):
    """The earliest window in which one of the first `essential` terms has postings left."""
    window = np.int64(NO_WINDOW)
    for i in range(essential):
        window = min(window, scratch.window[i])
    return window


@optimised_helper
def _accumulate(scratch, segment, i, slack):
    """Add the impacts of term i's postings in the window to the scores.

    A block whose best impact is no more than `slack` is left out: no document of it can be a hit.
    """
    scores = scratch.scores
    docs = segment.docs
    parts = segment.parts
    block = segment.block
    weight = scratch.weight[i]
    at = np.uint64(scratch.posting[i])
    last = at + np.uint64(scratch.count[i])
    while at < last:
        stop = min((at | np.uint64(BLOCK - 1)) + np.uint64(1), last)
        if stop - at < np.uint64(BLOCK) or weight * block[at >> np.uint64(BLOCK_BITS)] > slack:
            for j in range(at, stop):
                scores[np.uint64(docs[j])] += weight * parts[j]
        at = stop


@inline
def passes(allowed, row):
    """Whether a row is allowed; where none is given, all are."""
    return len(allowed) == 0 or allowed[np.uint64(row)] != 0


@optimised_helper
def _is_excluded(scratch, segment, terms, excluded, window, document):
    """Whether one of the lists after the first `terms`, whose documents cannot be hits, has a
    document of the window."""
    for i in range(terms, terms + excluded):
        count = advance(scratch, segment, i, window)
        start = scratch.posting[i]
        at = find_document(segment.docs, start, count, np.int64(0), document)
        if at < count and np.int64(segment.docs[np.uint64(start + at)]) == document:
            return True
    return False


@optimised_helper
def search_all(
    scratch, found, best_key, segment, terms, excluded, k, first_row, n_docs, base, allowed
):  # fmt: skip
    """Every document that has a query term, whatever the sign of its score; exhaustive. Others as
    in `search_pruned`."""
    keys = scratch.keys
    while True:
        window = _next_window(scratch, terms)
        if window == NO_WINDOW or (window << WINDOW_BITS) >= n_docs:
            return found, best_key
        touched = 0
        for i in range(terms):
            count = advance(scratch, segment, i, window)
            scratch.count[i] = count
            _accumulate(scratch, segment, i, np.float32(-np.inf))
            at = np.uint64(scratch.posting[i])
            for j in range(np.uint64(count)):
                document = np.uint64(segment.docs[at + j])
                # the parts of a deleted document are 0, and not -0.0
                if scratch.seen[document] == 0 and float_bits(segment.parts[at + j]) != 0:
                    scratch.seen[document] = 1
                    scratch.candidates[touched] = np.int32(document)
                    touched += 1
            advance(scratch, segment, i, window + 1)
        for c in range(touched):
            document = np.uint64(scratch.candidates[c])
            row = row_of(segment, (window << WINDOW_BITS) + np.int64(document))
            key = make_key(scratch.scores[document] + base, first_row + row)
            scratch.scores[document] = 0.0
            scratch.seen[document] = 0
            if key <= best_key or not passes(allowed, first_row + row):
                continue
            if excluded > 0 and _is_excluded(
                scratch, segment, terms, excluded, window, np.int64(document)
            ):
                continue
            keys[np.uint64(found)] = key
            found += 1
            if found == len(keys):
                best_key = select_best(keys, found, k)
                found = np.int64(k)


@optimised_helper
def collect_one(scratch, segment, i, limit):
    """Candidates above `limit` when term i alone is accumulated: no scores to scatter and scan."""
    candidates = scratch.candidates
    partial = scratch.partial
    docs = segment.docs
    parts = segment.parts
    block = segment.block
    weight = scratch.weight[i]
    at = np.uint64(scratch.posting[i])
    last = at + np.uint64(scratch.count[i])
    # a little below limit / weight, to find whatever the exact product may pass
    least = np.float32(limit / weight * np.float32(1 - 1e-6))
    found = np.uint64(0)
    while at < last:
        stop = min((at | np.uint64(BLOCK - 1)) + np.uint64(1), last)
        if stop - at == np.uint64(BLOCK) and weight * block[at >> np.uint64(BLOCK_BITS)] <= limit:
            at = stop
            continue
        while at + np.uint64(64) <= stop:
            above = greater64(parts, at, least)
            while above:
                j = at + trailing_zeros(above)
                above &= above - np.uint64(1)
                score = weight * parts[j]
                if score > limit:
                    candidates[found] = np.int32(docs[j])
                    partial[found] = score
                    found += np.uint64(1)
            at += np.uint64(64)
        for j in range(at, stop):
            score = weight * parts[j]
            if score > limit:
                candidates[found] = np.int32(docs[j])
                partial[found] = score
                found += np.uint64(1)
        at = stop
    return np.int64(found)


@optimised_helper
def _collect_sparse(scratch, segment, accumulated, limit):
    """Candidates above `limit` by iterating over the accumulated lists again; clears the scores."""
    scores = scratch.scores
    candidates = scratch.candidates
    partial = scratch.partial
    docs = segment.docs
    found = np.uint64(0)
    for i in range(accumulated):
        at = np.uint64(scratch.posting[i])
        for j in range(at, at + np.uint64(scratch.count[i])):
            document = np.uint64(docs[j])
            score = scores[document]
            scores[document] = 0.0
            if score > limit:
                candidates[found] = np.int32(document)
                partial[found] = score
                found += np.uint64(1)
    return np.int64(found)


@optimised_helper
def _collect_dense(scratch, first, documents, limit):
    """Candidates above `limit` by scanning the scores of a window's documents from `first`, a
    multiple of 64, up to `documents`, 64 at a time; clears them."""
    scores = scratch.scores
    candidates = scratch.candidates
    partial = scratch.partial
    found = np.uint64(0)
    for start in range(np.uint64(first), np.uint64(documents), np.uint64(64)):
        above = greater64(scores, start, limit)
        while above:
            document = start + trailing_zeros(above)
            above &= above - np.uint64(1)
            candidates[found] = np.int32(document)
            partial[found] = scores[document]
            found += np.uint64(1)
        for j in range(np.uint64(64)):
            scores[start + j] = 0.0
    return np.int64(found)


@inline
def complete(scratch, segment, i, found, window, windows, threshold):
    """Add term i to each candidate's score; keep those that can still pass the threshold."""
    if scratch.bits[i] != 0:
        return _complete_dense(scratch, segment, i, found, window, windows, threshold)
    return _complete_sparse(scratch, segment, i, found, window, threshold)


@optimised_helper
def _complete_sparse(scratch, segment, i, found, window, threshold):
    candidates = scratch.candidates
    partial = scratch.partial
    docs = segment.docs
    parts = segment.parts
    count = advance(scratch, segment, i, window)
    start = scratch.posting[i]
    reach = scratch.rest[i]
    weight = scratch.weight[i]
    kept = np.uint64(0)
    low = np.int64(0)
    previous = np.int64(-1)
    for c in range(np.uint64(found)):
        score = partial[c]
        if score + reach <= threshold:
            continue
        document = np.int64(candidates[c])
        if document < previous:
            low = np.int64(0)
        previous = document
        has, place, low = place_of(docs, start, count, low, document)
        if has:
            score += weight * parts[np.uint64(place)]
        candidates[kept] = np.int32(document)
        partial[kept] = score
        kept += np.uint64(1)
    return np.int64(kept)


@optimised_helper
def _complete_dense(scratch, segment, i, found, window, windows, threshold):
    """`complete` of a term with bits. Its bits and parts are seldom in a cache: they are requested
    before they are needed, and there is no branch that would wait for them."""
    bits, first, places = dense_of(scratch.bits[i], windows, window)
    candidates = scratch.candidates
    partial = scratch.partial
    postings = scratch.postings
    parts = segment.parts
    first = min(first, np.uint64(len(parts) - 1))  # of a window without postings
    last = np.uint64(len(parts) - 1) - first
    weight = scratch.weight[i]
    with_term = np.float32(threshold - scratch.rest[i])
    without = np.float32(threshold - scratch.rest[i + 1])
    kept = np.uint64(0)
    for c in range(np.uint64(found)):
        # past the last candidate are earlier ones
        later = np.uint64(candidates[(c + _AHEAD) & np.uint64(WINDOW - 1)]) >> np.uint64(6)
        prefetch(bits, later)
        prefetch(places, later)
        document = np.uint64(candidates[c])
        score = partial[c]
        candidates[kept] = np.int32(document)
        partial[kept] = score
        has = has_bit(bits, document)
        kept += np.uint64(score > without) | (has & np.uint64(score > with_term))
    for c in range(kept):
        before = rank_of(bits, places, np.uint64(candidates[c]))
        before = min(before, last)  # where the bit is not set
        prefetch(parts, first + before)
        postings[c] = np.uint32(before)
    for c in range(kept):
        added = weight * parts[first + np.uint64(postings[c])]
        if has_bit(bits, np.uint64(candidates[c])) == 0:
            added = np.float32(0.0)
        partial[c] += added
    return np.int64(kept)


@optimised_helper
def _leave_out(scratch, segment, terms, found, window, windows, threshold):
    """Keep the candidates above the threshold that none of the first `terms` terms has: one of
    those that has was a candidate before, or cannot be a hit."""
    candidates = scratch.candidates
    partial = scratch.partial
    docs = segment.docs
    kept = np.uint64(0)
    for c in range(np.uint64(found)):
        score = partial[c]
        if score <= threshold:
            continue
        document = np.int64(candidates[c])
        has = False
        for i in range(terms):
            if scratch.bits[i] != 0:
                bits, _, _ = dense_of(scratch.bits[i], windows, window)
                has = has_bit(bits, np.uint64(document)) != 0
            elif scratch.count[i] > 0:
                has, _, _ = place_of(
                    docs, scratch.posting[i], scratch.count[i], np.int64(0), document
                )
            if has:
                break
        if not has:
            candidates[kept] = np.int32(document)
            partial[kept] = score
            kept += np.uint64(1)
    return np.int64(kept)


@inline
def _below(score):
    """The float32 below a positive one."""
    return bits_float(float_bits(score) - np.uint32(1))


@inline
def threshold_of(segment, key, base):
    """A sum of impacts must be above this for a later document to pass `key`.

    Scores are ranked with `base` added, in float32: two sums that differ may make one score. So
    with a base the threshold is lower by a rounding error, and the keys are compared. In a segment
    that is searched in another order a later document of the same score may have an earlier row:
    there the threshold is the float below.
    """
    score = key_score(key)
    if base != 0.0:
        return max(np.float32(0.0), np.float32(score - base - np.float32(2.4e-7) * score))
    if len(segment.order) > 0 and score > 0.0:
        return _below(score)
    return max(np.float32(0.0), score)


@inline
def add_hits(
    scratch, found, best_key, threshold, segment, candidates, window, terms, excluded, k,
    first_row, base, allowed,
):  # fmt: skip
    """Add the candidates of a window that pass the threshold; returns (found, best_key,
    threshold)."""
    keys = scratch.keys
    if len(segment.order) > 0:
        for c in range(np.uint64(candidates)):
            document = (window << WINDOW_BITS) + np.int64(scratch.candidates[c])
            prefetch(segment.order, np.uint64(document))
    for c in range(np.uint64(candidates)):
        score = scratch.partial[c]
        if score >= threshold and score > 0.0:  # that of a deleted document is 0
            document = np.int64(scratch.candidates[c])
            row = first_row + row_of(segment, (window << WINDOW_BITS) + document)
            key = make_key(score + base, row)
            if key > best_key and passes(allowed, row):
                if excluded > 0 and _is_excluded(
                    scratch, segment, terms, excluded, window, document
                ):
                    continue
                keys[np.uint64(found)] = key
                found += 1
                if found == len(keys):
                    best_key = select_best(keys, found, k)
                    threshold = threshold_of(segment, best_key, base)
                    found = np.int64(k)
    # a few new candidates are not worth a selection among k
    if found - k > k >> 3 or (best_key == 0 and found > k):
        best_key = select_best(keys, found, k)
        threshold = threshold_of(segment, best_key, base)
        found = np.int64(k)
    return found, best_key, threshold


@optimised_helper
def search_pruned(
    scratch, found, best_key, least, segment, terms, excluded, k, first_row, n_docs, base, allowed,
    ranges, at, signed,
):  # fmt: skip
    """The general case: every weight positive. Documents with a sum of 0 or less, as signed terms
    may have, are left out.

    found, best_key  the candidates before this segment, and a key that a later one must pass, 0 for
                     none yet
    least            a sum that every hit exceeds
    excluded         the number of lists after those of the terms whose documents cannot be hits
    ranges, at       as in `allowed_window`
    signed           whether a term is

    Returns both, with this segment's.
    """
    threshold = np.float32(least)
    if best_key > 0:
        threshold = max(threshold, threshold_of(segment, best_key, base))
    windows = windows_of(n_docs)
    # the sum of a hit after the first terms may be 0 or less, where one is signed
    is_probed = k <= FEW_HITS and not signed
    essential = terms
    while True:
        while essential > 0 and scratch.rest[essential - 1] <= threshold:
            essential -= 1
        if essential == 0:
            break
        window = _next_window(scratch, essential)
        window, first, last = allowed_window(ranges, at, window, n_docs)
        if window == NO_WINDOW or (window << WINDOW_BITS) >= n_docs:
            break
        documents = min(n_docs - (window << WINDOW_BITS), last + 1)
        total = np.int64(0)
        accumulated = 0
        lists = 0
        only = 0
        while accumulated < terms:
            count = narrow(scratch, segment, accumulated, window, first, last)
            scratch.count[accumulated] = count
            is_last = is_probed and total > 0 and accumulated == essential - 1
            if count > 0 and (is_last or accumulated >= essential):
                is_dense = scratch.bits[accumulated] != 0 and is_probed
                if count > (DENSE_COST if is_dense else PROBE_COST) * total:
                    break
            if count > 0:
                lists += 1
                only = accumulated
                total += count
            accumulated += 1
        # the scores of documents that were collected, or are deleted, are 0
        limit = max(np.float32(0.0), np.float32(threshold - scratch.rest[accumulated]))
        if lists == 1:
            candidates = collect_one(scratch, segment, only, limit)
        else:
            for i in range(accumulated):
                slack = np.float32(threshold - (scratch.rest[0] - scratch.bound[i]))
                _accumulate(scratch, segment, i, slack)
            start = first & ~63
            if total < (SPARSE * (documents - start)) >> WINDOW_BITS:
                candidates = _collect_sparse(scratch, segment, accumulated, limit)
            else:
                candidates = _collect_dense(scratch, start, documents, limit)
        for i in range(accumulated, terms):
            candidates = complete(scratch, segment, i, candidates, window, windows, threshold)
        found, best_key, threshold = add_hits(
            scratch, found, best_key, threshold, segment, candidates, window, terms, excluded, k,
            first_row, base, allowed,
        )  # fmt: skip
        if accumulated < essential:
            # Documents with the last essential term alone. They come after the others, so one of
            # the k-th score may have an earlier row.
            i = essential - 1
            below = _below(threshold) if base == 0.0 and threshold > 0.0 else threshold
            limit = max(np.float32(0.0), np.float32(below - scratch.rest[essential]))
            if scratch.bound[i] > limit:
                candidates = collect_one(scratch, segment, i, limit)
                for j in range(essential, terms):
                    candidates = complete(scratch, segment, j, candidates, window, windows, below)
                candidates = _leave_out(scratch, segment, i, candidates, window, windows, below)
                found, best_key, threshold = add_hits(
                    scratch, found, best_key, threshold, segment, candidates, window, terms,
                    excluded, k, first_row, base, allowed,
                )  # fmt: skip
        for i in range(essential):
            advance(scratch, segment, i, window + 1)
    return found, best_key


@inline
def _prefetch_lists(lists, terms, starts, q):
    """Request the lists of the terms of query q, if there is one, in the first segments."""
    if q < len(starts) - 1:
        row = np.uint64(lists.shape[1] * LIST_COLUMNS)
        for i in range(starts[q], starts[q + 1]):
            prefetch(lists, np.uint64(terms[np.uint64(i)]) * row)


@inline
def _prefetch_postings(segments, lists, terms, starts, q, s):
    """Request the first postings of the terms of query q in segment s; after the last segment,
    those of the next query in the first."""
    if s == len(segments):
        s = 0
        q += 1
    if q >= len(starts) - 1:
        return
    segment = segment_of(segments, s)
    for i in range(starts[q], starts[q + 1]):
        own = lists[np.uint64(terms[np.uint64(i)]), np.uint64(s)]
        if own[RUN] < own[LAST_RUN]:
            prefetch(segment.docs, np.uint64(own[POSTING]))
            prefetch(segment.parts, np.uint64(own[POSTING]))
            if own[RUN] + 1 < own[LAST_RUN]:
                prefetch(segment.run_window, np.uint64(own[RUN]))
                prefetch(segment.run_count, np.uint64(own[RUN]))


@inline
def sort_hits(scratch, n, k):
    """Sort the k best of n candidates; returns how many these are."""
    if n > k:
        select_best(scratch.keys, n, k)
        n = np.int64(k)
    sort_descending(scratch.keys, scratch.spare, n)
    return n


@inline
def write_hits(rows, scores, q, scratch, n, k):
    """The hits of query q, which are sorted."""
    for i in range(n):
        key = scratch.keys[np.uint64(i)]
        rows[q, i] = key_document(key)
        scores[q, i] = key_score(key)
    for i in range(n, k):
        rows[q, i] = -1
        scores[q, i] = 0.0


@helper
def _least_sum(lists, terms, weights, base, allowed, k):
    """A sum that each of the k best hits of a query exceeds, by the parts of its single terms."""
    if len(allowed) > 0:
        return np.float32(0.0)
    best = np.float32(0.0)
    for i in range(np.uint64(len(terms))):
        if not weights[i] > TINY:
            return np.float32(0.0)
        for s in range(np.uint64(lists.shape[1])):
            part = ranked_part(lists[np.uint64(terms[i]), s], k)
            if part < 0.0:
                return np.float32(0.0)
            best = max(best, weights[i] * part)
    # below it, and below what `base` may round to the same score
    return np.float32(best - np.float32(1e-6) * best - np.float32(4.8e-7) * abs(base))


@helper
def _search_segments(
    scratch, segments, lists, starts, terms, q, own, own_weights, base, allowed, ranges, k,
    exhaustive,
):  # fmt: skip
    """Collect candidates for query q in all segments; returns (their number, whether a term is
    signed)."""
    n = np.int64(0)
    best_key = np.uint64(0)
    any_signed = False
    at = np.int64(0)
    least = max(np.float32(0.0), _least_sum(lists, own, own_weights, base, allowed, k))
    for s in range(len(segments)):
        _prefetch_postings(segments, lists, terms, starts, q, s + 1)
        kept, positive, signed = _prepare(scratch, lists, s, own, own_weights)
        n_docs = segments[s, DOCUMENTS]
        window_0 = at
        at += windows_of(n_docs)
        if kept == 0:
            continue
        any_signed = any_signed or signed
        segment = segment_of(segments, s)
        first_row = segments[s, FIRST_ROW]
        if positive and not (signed and exhaustive):
            n, best_key = search_pruned(
                scratch, n, best_key, least, segment, kept, 0, k, first_row, n_docs, base, allowed,
                ranges, window_0, signed,
            )  # fmt: skip
        else:
            n, best_key = search_all(
                scratch, n, best_key, segment, kept, 0, k, first_row, n_docs, base, allowed
            )
    return n, any_signed


@jit
def search(
    rows, scores, segments, lists, memory, starts, terms, weights, base, allowed, ranges, k
):  # fmt: skip
    """The k best documents of each of Q queries.

    rows      int32[Q, k]    document rows, -1 past the last hit
    scores    float32[Q, k]  0 past the last hit
    segments  of segment_table
    lists     of fill_lists, which has been called for every term and segment
    memory    the addresses of a Memory
    starts    int64[Q + 1]   query q has terms[starts[q]:starts[q + 1]], each once, equal weights
                             in the order of the terms' bytes
    terms     int32[n]       rows of the lists
    weights   float32[n]
    base      float32[Q]     added to the score of every hit
    allowed   uint8[rows]    0 for a row that cannot be a hit; or uint8[0], where every row can
    ranges    int32[W, 2]    the first and the last allowed document of each window of the segments,
                             one after the other; the last is below the first where none is. Or
                             int32[0, 2], where they are not known
    """
    scratch = scratch_of(memory)
    for q in range(len(starts) - 1):
        own = terms[starts[q] : starts[q + 1]]
        own_weights = weights[starts[q] : starts[q + 1]]
        n = np.int64(0)
        order_terms(scratch, own_weights)
        # with both prefetches, a batch over 20 segments takes .92 times as long
        _prefetch_lists(lists, terms, starts, q + 2)
        # whether segments with signed terms are searched without pruning: where the k best hits
        # without those of 0 and less are not all positive
        exhaustive = base[q] != 0.0
        while True:
            n, signed = _search_segments(
                scratch, segments, lists, starts, terms, q, own, own_weights, base[q], allowed,
                ranges, k, exhaustive,
            )  # fmt: skip
            n = sort_hits(scratch, n, k)
            if exhaustive or not signed:
                break
            if n == k and key_score(scratch.keys[np.uint64(n - 1)]) > 0.0:
                break
            exhaustive = True
        write_hits(rows, scores, q, scratch, n, k)
