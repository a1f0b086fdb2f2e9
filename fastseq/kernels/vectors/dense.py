"""Exact search of the vectors of documents: the best of blocks of documents for all queries.

The queries of a batch are the packed panels, and the vectors of documents the rows that a product
streams through, as they are in the file: nothing is packed and no copy is in memory. A document's
score with a query is one sum over the dimensions in their order, so it does not depend on blocks,
batches or threads. A block of scores is compared with the k-th best score so far of LANES queries
at a time; what exceeds it becomes a key of `topk`, as in nearest.py.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.topk import key_score, make_key, select_best
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.dots import dot_bytes
from fastseq.kernels.simd.floats import (
    any_lane,
    bits,
    fma,
    load,
    load_part,
    splat,
    splat_int,
    store,
    sum_lanes,
    to_float,
)
from fastseq.kernels.simd.gemm import multiply_bytes, multiply_panels

_HALF_BIAS = np.float32(2.0**112)  # 2^(127 - 15), between the exponents of both types


@inline
def _keep(keys, counts, limits, q, score, row, k):
    """Add a score of query q, if it exceeds its limit, to the best so far."""
    if score > limits[q]:
        mine = keys[q]
        count = counts[q]
        # + 0.0: -0.0 becomes 0.0, whose key is larger
        mine[count] = make_key(score + np.float32(0.0), row)
        count += 1
        if count == keys.shape[1]:
            limits[q] = key_score(select_best(mine, count, k))
            count = np.int64(k)
        counts[q] = count


@jit
def scan_vectors(keys, counts, limits, vectors, rows, panels, products, bias, scratch, k):
    """Add the scores of Q queries with D documents to the best so far.

    keys      uint64[Q, C], C > k  the best so far, unordered
    counts    int64[Q]             their number
    limits    float32[W]           what a score must exceed; initially -infinity, and infinity from
                                   Q on; W is Q in whole vectors
    vectors   float32[D, H]
    rows      int32[D]             the row of each document, ascending; -1: it is left out
    panels    float32[packed_size(H, W)]  the queries
    products  float32[B, W]        scratch for the scores of a block of documents
    bias      float32[W]           zeros
    scratch   float32[gemm.scratch_size()]
    """
    width = len(limits)
    flat = products.reshape(products.size)
    for first in range(0, len(vectors), len(products)):
        some = min(len(products), len(vectors) - first)
        multiply_panels(
            products[:some], vectors[first : first + some], panels, bias, False, scratch, 0, some
        )
        for d in range(some):
            row = rows[first + d]
            if row < 0:
                continue
            at = d * width
            for start in range(0, width, LANES):
                if not any_lane(load(flat, at + start) > load(limits, start)):
                    continue
                for q in range(start, start + LANES):
                    _keep(keys, counts, limits, q, flat[at + q], row, k)


@jit
def scan_codes(
    keys, counts, limits, words, steps, rows, panels, query_steps, products, bias, scratch, k
):
    """`scan_vectors` by codes (index/dense.py), with upper bounds in place of scores.

    With v ≈ v' = low + scale q of a document and u ≈ u' = step w of a query, bytes q and w,
    v·u = v'·u' + v'·(u - u') + (v - v')·u, so v·u is at most v'·u' + |v'| |u - u'| + |v - v'| for a
    unit vector u, where |v'| is at most 1 + |v - v'|.

    words        float32[D, ceil(H / 4)]  the codes of documents, four bytes each
    steps        float32[D, 3]  of the codes: scale, low and the most that |v - v'| is
    panels       float32[packed_size(ceil(H / 4), W)]  the words of the queries
    query_steps  float32[3, W]  of the queries: step, sum of w, and the most that |u - u'| is, with
                                what sums of float32 may be wrong by
    """
    width = len(limits)
    flat, of_queries = products.reshape(products.size), query_steps.reshape(query_steps.size)
    for first in range(0, len(words), len(products)):
        some = min(len(products), len(words) - first)
        multiply_bytes(
            products[:some], words[first : first + some], panels, bias, False, scratch, 0, some
        )
        for d in range(some):
            row = rows[first + d]
            if row < 0:
                continue
            scale, low = splat(steps[first + d, 0]), splat(steps[first + d, 1])
            distance = splat(steps[first + d, 2])
            longest = distance + 1.0
            at = d * width
            for start in range(0, width, LANES):
                value = to_float(bits(load(flat, at + start))) * scale
                value = fma(load(of_queries, width + start), low, value)
                value = value * load(of_queries, start)
                value = value + fma(load(of_queries, 2 * width + start), longest, distance)
                if not any_lane(value > load(limits, start)):
                    continue
                store(flat, at + start, value)
                for q in range(start, start + LANES):
                    _keep(keys, counts, limits, q, flat[at + q], row, k)


@jit
def scan_few_codes(keys, counts, limits, words, steps, rows, queries, query_steps, k):
    """`scan_codes` for a few queries: a document after the other, each read once.

    A tile has LANES queries or more in a register, this the numbers of one. Sums of bytes are the
    same in any order, which those of float32 are not.

    queries  float32[Q, ceil(H / 4)]  the words of the queries
    """
    size = words.shape[1]
    of_documents, of_queries = words.reshape(words.size), queries.reshape(queries.size)
    whole = size - size % LANES
    rest = size - whole
    for d in range(len(words)):
        row = rows[d]
        if row < 0:
            continue
        at = d * size
        for q in range(len(queries)):
            start = q * size
            sums = splat_int(0)
            for i in range(0, whole, LANES):
                own = bits(load(of_documents, at + i))
                sums = dot_bytes(own, bits(load(of_queries, start + i)), sums)
            if rest:
                own = bits(load_part(of_documents, at + whole, rest))
                sums = dot_bytes(own, bits(load_part(of_queries, start + whole, rest)), sums)
            value = sum_lanes(to_float(sums)) * steps[d, 0] + query_steps[1, q] * steps[d, 1]
            value = value * query_steps[0, q]
            value += query_steps[2, q] * (steps[d, 2] + np.float32(1.0)) + steps[d, 2]
            _keep(keys, counts, limits, q, value, row, k)


@jit
def widen_halves(out, bits, halves):
    """out = the float16 numbers whose bits are `halves`, which are finite.

    out     float32[n]
    bits    uint32[n], the memory of `out`
    halves  uint16[n]
    """
    for start in range(0, len(halves), 1024):
        stop = min(start + 1024, len(halves))
        for i in range(start, stop):
            bits[i] = (np.uint32(halves[i]) & np.uint32(0x7FFF)) << np.uint32(13)
        for i in range(start, stop):
            out[i] *= _HALF_BIAS
        for i in range(start, stop):
            bits[i] |= (np.uint32(halves[i]) & np.uint32(0x8000)) << np.uint32(16)


def unit_rows(vectors):
    """float32[n, d]: the rows divided by their length; rows of zeros are unchanged. None where a
    number is not finite."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    if not np.isfinite(squares).all():
        return None
    scale = np.zeros(len(squares))
    np.divide(1.0, np.sqrt(squares), out=scale, where=squares > 0)
    return (vectors * scale[:, None]).astype(np.float32)
