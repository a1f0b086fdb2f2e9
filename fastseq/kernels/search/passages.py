"""The best passages of texts, by the clauses of a query that match in them."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Float64, Int32, Int64, UInt8
from fastseq.kernels.core.jit import inline, jit

REPEATED = 0.25  # what an occurrence counts, compared with the one before of the same clause
MOST = np.uint64(1024)  # occurrences of a passage that count
_U1 = np.uint64(1)


@inline
def _is_inside(starts, ends, first, k, length):
    """Whether occurrence k is in the passage that begins with `first`; one that is too long for any
    passage counts where it begins."""
    return min(ends[k], starts[k] + length) - starts[first] <= length


@jit
def best_passages(
    firsts: Int64, passage_ends: Int64, scores: Float64, shares: Float64, offsets: Int64,
    starts: Int64, ends: Int64, clauses: Int32, weights: Float64, used: UInt8, length: int,
) -> None:  # fmt: skip
    """Find the passage of each of D texts with the most weight; of several the first.

    A passage begins with an occurrence, is at most `length` long and has no used occurrence. Its
    score is the sum of the weights of the occurrences inside of it, each repetition of a clause
    counting REPEATED times the one before, of MOST occurrences.

    firsts        int64[D]    the occurrence that the passage begins with; -1 where there is none
    passage_ends  int64[D]    where its last occurrence ends, at most `length` after its start
    scores        float64[D]
    shares        float64[C]  ones; ones again afterwards
    offsets       int64[D + 1]  text d has the occurrences offsets[d] to offsets[d + 1]
    starts        int64[n]    ascending in a text
    ends          int64[n]
    clauses       int32[n]    of the C clauses of the query
    weights       float64[n]  from 0
    used          uint8[n]
    """
    for d in range(np.uint64(len(firsts))):
        best = np.int64(-1)
        best_score = 0.0
        best_end = np.int64(0)
        last = np.uint64(offsets[d + _U1])
        for first in range(np.uint64(offsets[d]), last):
            if used[first]:
                continue
            score = 0.0
            end = np.int64(0)
            k = first
            stop = min(last, first + MOST)
            while k < stop and starts[k] - starts[first] < length and not used[k]:
                if _is_inside(starts, ends, first, k, length):
                    clause = np.uint64(clauses[k])
                    score += weights[k] * shares[clause]
                    shares[clause] *= REPEATED
                    end = max(end, min(ends[k], starts[k] + length))
                k += _U1
            for i in range(first, k):
                shares[np.uint64(clauses[i])] = 1.0
            # sums that differ by rounding alone are equal
            if best < 0 or score > best_score + 1e-9 * abs(best_score):
                best = np.int64(first)
                best_score = score
                best_end = end
        firsts[d] = best
        passage_ends[d] = best_end
        scores[d] = best_score
