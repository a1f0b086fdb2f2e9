"""Postings with given weights, of documents that are mappings from terms to weights: inverting,
merging and reading.

Whole weights are the term frequencies of the postings. Others are float32[P], one for each posting,
whose term frequency is 1.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.search.impacts import LEAST_PART, fill_blocks
from fastseq.kernels.search.postings import DIGIT_BITS, LARGE_TF, WINDOW_BITS, radix_pass

_U1, _U32 = np.uint64(1), np.uint64(32)
_TOKEN = np.uint64(0xFFFFFFFF)


@jit
def invert_weights(
    docs, tfs, terms, dfs, weights, large_at, large_tf, lengths, keys, spare, starts, doc_of,
    values, given, offsets, first, vocabulary, whole, most,
):  # fmt: skip
    """`postings.invert` of documents that are terms with weights. Those of a term that a document
    has several times are added.

    docs, tfs, terms, dfs, keys, spare, starts, first, vocabulary: as there
    weights   float32[n]  of each posting, unless `whole`
    large_at, large_tf  int64[n], int32[n]
    lengths   int32[D]    terms of each document
    doc_of    uint16[n]   scratch
    values    int32[n]    term ids
    given     float64[n]  weights above 0
    offsets   int64[D + 1]  of the documents
    whole     whether the weights are whole numbers, and become the frequencies
    most      the largest sum of the weights of a term in a document

    Returns (number of postings, of terms, of large frequencies, the first document in which a sum
    is larger, or -1).
    """
    n = np.uint64(0)
    for row in range(np.uint64(len(lengths))):
        lengths[row] = 0
        for _ in range(np.uint64(offsets[row]), np.uint64(offsets[row + _U1])):
            keys[n] = (np.uint64(values[n]) << _U32) | n
            doc_of[n] = np.uint16(np.uint64(first) + row)
            n += _U1
    shift = _U32
    while np.uint64(vocabulary) >> (shift - _U32):
        radix_pass(spare, keys, starts, n, shift)
        # the digit after the last one is the highest bits, which are sorted already
        second = min(shift + np.uint64(DIGIT_BITS), np.uint64(64 - DIGIT_BITS))
        radix_pass(keys, spare, starts, n, second)
        shift += np.uint64(2 * DIGIT_BITS)
    postings = np.uint64(0)
    distinct = 0
    large = 0
    wrong = np.int64(-1)
    i = np.uint64(0)
    last_term = np.int64(-1)
    while i < n:
        term = np.int64(keys[i] >> _U32)
        document = doc_of[keys[i] & _TOKEN]
        total = given[keys[i] & _TOKEN]
        i += _U1
        while i < n and np.int64(keys[i] >> _U32) == term and doc_of[keys[i] & _TOKEN] == document:
            total += given[keys[i] & _TOKEN]
            i += _U1
        if term != last_term:
            terms[distinct] = term
            dfs[distinct] = 0
            distinct += 1
            last_term = term
        dfs[distinct - 1] += 1
        row = np.int64(document) - np.int64(first)
        lengths[np.uint64(row)] += 1
        if total > most:
            if wrong < 0 or row < wrong:
                wrong = row
            total = most
        docs[postings] = document
        if not whole:
            tfs[postings] = 1
            weights[postings] = np.float32(total)
        elif total < LARGE_TF:
            tfs[postings] = np.uint8(total)
        else:
            tfs[postings] = LARGE_TF
            large_at[large] = postings
            large_tf[large] = np.int32(total)
            large += 1
        postings += _U1
    return np.int64(postings), distinct, large, wrong


@jit
def place_merged_weights(out, at, postings, weights, rows, terms, first):
    """Copy the weights of a segment to their places in a chunk of terms; segments in document
    order.

    out      float32[n]  of the chunk's postings
    at       int64[m]    where the next posting of each new term goes
    weights  float32[P]  of the segment's `postings`
    rows     int32[documents]  the new row of each document, -1 for a deleted one
    terms    int32[m]    the number in the segment of each new term, -1 for none
    first    the position of index 0 of the chunk's arrays
    """
    documents = np.uint64(len(rows))
    for i in range(np.uint64(len(terms))):
        if terms[i] < 0:
            continue
        old = np.uint64(terms[i])
        posting = np.uint64(postings.term_posting[old])
        target = np.uint64(at[i] - first)
        for run in range(postings.term_run[old], postings.term_run[old + _U1]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = posting + np.uint64(postings.run_count[np.uint64(run)]) + _U1
            for j in range(posting, stop):
                document = base + np.uint64(postings.docs[j])
                if document < documents and rows[document] >= 0:
                    out[target] = weights[j]
                    target += _U1
            posting = stop
        at[i] = np.int64(target) + first


@jit
def fill_weights(impacts, postings, weights, factor, terms):
    """Compute the parts of those of `terms` (int32[n]) that have none yet: the weights. Returns the
    number of postings filled in.

    Not to be called by two threads at once.

    weights  float32[P]
    factor   float32[windows · WINDOW]  infinite for a deleted document and a row beyond the last,
             whose part is 0, else 1
    """
    filled = np.int64(0)
    for i in range(len(terms)):
        term = np.uint64(terms[i])
        if impacts.best[term] == impacts.best[term]:
            continue
        first = postings.term_posting[term]
        at = np.uint64(first)
        least = np.float32(np.inf)
        for run in range(postings.term_run[term], postings.term_run[term + _U1]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + _U1
            for j in range(at, stop):
                row = base + np.uint64(postings.docs[j])
                part = np.float32(0.0)
                # a damaged file may name a window beyond the last
                if row < np.uint64(len(factor)):
                    part = weights[j] / factor[row]
                impacts.parts[j] = part
                if part > 0.0:
                    least = min(least, part)
            at = stop
        best = fill_blocks(impacts.block, impacts.parts, first, np.int64(at))
        impacts.best[term] = best if least >= LEAST_PART else -max(best, LEAST_PART)
        filled += np.int64(at) - first
    return filled
