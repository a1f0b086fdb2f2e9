"""Small loops around a search: counting a query's terms, document statistics of a weighting."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.topk import sort_descending
from fastseq.kernels.search.postings import LARGE_TF, WINDOW_BITS


@jit
def count_terms(starts, terms, counts, keys, spare, ids, offsets):
    """The distinct known terms of each query, ascending by id, and how often each occurs.

    starts   int64[Q + 1]  query q's terms are terms[starts[q]:starts[q + 1]]
    terms    int32[n], counts float32[n], keys and spare uint64[n] (scratch)
    ids      int32[n]      the queries' tokens, -1 where the index has no such term
    offsets  int64[Q + 1]
    """
    out = np.int64(0)
    starts[0] = 0
    for q in range(len(offsets) - 1):
        n = np.int64(0)
        for i in range(offsets[q], offsets[q + 1]):
            if ids[i] >= 0:
                # descending order of complements is ascending order of ids
                keys[n] = ~np.uint64(ids[i])
                n += 1
        sort_descending(keys, spare, n)
        for i in range(n):
            term = np.int32(~keys[i])
            if i > 0 and keys[i] == keys[i - 1]:
                counts[out - 1] += 1.0
            else:
                terms[out] = term
                counts[out] = 1.0
                out += 1
        starts[q + 1] = out


@jit
def document_sums(squares, unique, postings, table, large, term_weight):
    """What a vector-space weighting needs of each document.

    squares      float64[documents]  adds (table[tf] · term_weight[t])² over the document's terms
    unique       int32[documents]    adds the number of its distinct terms
    table        float32[256]; large float32[L]: the same of frequencies beyond a byte
    term_weight  float64[V]
    """
    documents = len(squares)
    at = np.int64(0)
    seen = np.int64(0)
    for term in range(len(term_weight)):
        for run in range(postings.term_run[term], postings.term_run[term + 1]):
            base = np.int64(postings.run_window[run]) << WINDOW_BITS
            for _ in range(np.int64(postings.run_count[run]) + 1):
                tf = postings.tfs[at]
                value = np.float64(table[tf])
                if tf == LARGE_TF and seen < len(large):
                    value = np.float64(large[seen])
                    seen += 1
                document = base + np.int64(postings.docs[at])
                if document < documents:
                    squares[document] += (value * term_weight[term]) ** 2
                    unique[document] += 1
                at += 1
