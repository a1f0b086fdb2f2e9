"""Linear-chain conditional random fields: the GPU counterpart of kernels/nn/crf.py.

A block has a sequence, its threads every so-many-th tag. All is in log space; the part that grows
with the length of a sequence is subtracted at every step and summed in float64. The gradients of
the transitions are summed position by position in a fixed number of slots, and the slots in order,
so every sum has one order.

Sizes: B sequences of N positions in all, K tags.

    emissions    float32[N, K]    scores of every tag at every position
    offsets      int32[B + 1]     sequence b is the positions offsets[b]:offsets[b + 1], not empty
    transitions  float32[K, K]    score of (from, to)
    start, end   float32[K]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32

from fastseq.kernels.cuda.nn.softmax import LOWEST, largest_of, sum_of
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.instructions import exp, maximum
from fastseq.kernels.cuda.runtime.target import block_size, blocks_for, cuda, kernel

THREADS = 128
SLOTS = 32  # parts of the positions, each with sums of its own
ZERO = np.float32(0)
NOTHING_FOLLOWS = np.float32(np.inf)
LIKELIHOOD, GRADIENT, MARGINALS = 0, 1, 2


@kernel(
    "float64[::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], "
    "int32[::1], int32[::1], float32[::1], float32[::1], float32[::1], float32, int64, int64",
    threads=THREADS, registers=96, float64=True, shared=4 * THREADS,
)  # fmt: skip
def paths_of(
    losses, marginals, alpha, ahead, norms, emissions, tags, offsets, transitions, start, end,
    weight, K, mode,
):  # fmt: skip
    """See `crf_paths`. Dynamic shared memory: four bytes a thread.

    alpha, ahead  float32[N · K]: logarithms of the forward variables, and of the backward ones
                  times the emission, each less a constant of its position
    norms         float32[N]: log of the sum over pairs of tags at this position and the next;
                  infinite at the last
    """
    shared = cuda.shared.array(0, float32)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    b = cuda.blockIdx.x
    first, last = offsets[b], offsets[b + 1] - 1
    top = LOWEST
    for j in range(thread, K, threads):
        value = start[j] + emissions[first * K + j]
        alpha[first * K + j] = value
        top = maximum(top, value)
    taken = 0.0
    for n in range(first + 1, last + 1):
        top = largest_of(shared, top)  # a barrier: the step before is written
        taken += np.float64(top)
        before = (n - 1) * K
        highest = LOWEST
        for j in range(thread, K, threads):
            largest = LOWEST
            for i in range(K):
                largest = maximum(largest, alpha[before + i] + transitions[i * K + j])
            total = ZERO
            for i in range(K):
                total += exp(alpha[before + i] + transitions[i * K + j] - largest)
            value = largest - top + np.float32(math.log(total)) + emissions[n * K + j]
            alpha[n * K + j] = value
            highest = maximum(highest, value)
        top = highest
    largest = LOWEST
    for j in range(thread, K, threads):
        largest = maximum(largest, alpha[last * K + j] + end[j])
    largest = largest_of(shared, largest)
    total = ZERO
    for j in range(thread, K, threads):
        total += exp(alpha[last * K + j] + end[j] - largest)
    total = sum_of(shared, total)
    if thread == 0:
        loss = taken + np.float64(largest) + np.float64(np.float32(math.log(total)))
        if mode != MARGINALS:
            tag = tags[first]
            score = np.float64(start[tag]) + np.float64(emissions[first * K + tag])
            for n in range(first + 1, last + 1):
                to = tags[n]
                score += np.float64(transitions[tag * K + to]) + np.float64(emissions[n * K + to])
                tag = to
            loss -= score + np.float64(end[tag])
        losses[b] = loss
    if mode == LIKELIHOOD:
        return
    for n in range(last, first - 1, -1):
        # the backward variables of this position, and then less their largest
        largest = LOWEST
        top = LOWEST
        for i in range(thread, K, threads):
            value = end[i]
            if n < last:
                high = LOWEST
                for j in range(K):
                    high = maximum(high, transitions[i * K + j] + ahead[(n + 1) * K + j])
                total = ZERO
                for j in range(K):
                    total += exp(transitions[i * K + j] + ahead[(n + 1) * K + j] - high)
                value = high + np.float32(math.log(total))
            marginals[n * K + i] = value
            largest = maximum(largest, alpha[n * K + i] + value)
            top = maximum(top, value)
        largest = largest_of(shared, largest)
        top = largest_of(shared, top)
        total = ZERO
        for i in range(thread, K, threads):
            total += exp(alpha[n * K + i] + marginals[n * K + i] - largest)
        total = sum_of(shared, total)
        if thread == 0:
            norm = largest + np.float32(math.log(total))
            norms[n] = norm if n < last else NOTHING_FOLLOWS
        for i in range(thread, K, threads):
            at = n * K + i
            value = marginals[at]
            share = exp(alpha[at] + value - largest) / total
            ahead[at] = value - top + emissions[at]
            if mode == GRADIENT:
                if i == tags[n]:
                    share -= np.float32(1)
                share *= weight
            marginals[at] = share
        cuda.syncthreads()


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int32[::1], int64, "
    "int64",
    threads=THREADS, registers=64,
)  # fmt: skip
def pairs_of(slots, alpha, ahead, norms, transitions, tags, K, count):
    """slots[s, i, j] = expected less observed pairs of tags i, j at neighbouring positions, summed
    over the `count` positions of slot s: block (x, s), a thread a pair."""
    pair = cuda.grid(1)
    if pair >= K * K:
        return
    i, j = pair // K, pair % K
    score = transitions[pair]
    first = cuda.blockIdx.y * count
    total = ZERO
    for n in range(first, min(first + count, len(norms))):
        norm = norms[n]
        if norm != NOTHING_FOLLOWS:
            total += exp(alpha[n * K + i] + score + ahead[(n + 1) * K + j] - norm)
            if tags[n] == i and tags[n + 1] == j:
                total -= np.float32(1)
    slots[cuda.blockIdx.y * K * K + pair] = total


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int32[::1], float32, "
    "int64, int64",
    threads=THREADS, registers=48,
)  # fmt: skip
def add_gradients(dtransitions, dstart, dend, slots, demissions, offsets, weight, K, count):
    """Add the slots and marginals to the parameters' gradients: a thread each."""
    at = cuda.grid(1)
    if at < K * K:
        total = ZERO
        for s in range(count):
            total += slots[s * K * K + at]
        dtransitions[at] += weight * total
    if at < K:
        total, other = ZERO, ZERO
        for b in range(len(offsets) - 1):
            total += demissions[offsets[b] * K + at]
            other += demissions[(offsets[b + 1] - 1) * K + at]
        dstart[at] += total
        dend[at] += other


@kernel(
    "int32[::1], float64[::1], int32[::1], float32[::1], float32[::1], int32[::1], float32[::1], "
    "float32[::1], float32[::1], int64",
    threads=THREADS, registers=96, float64=True, shared=4 * THREADS,
)  # fmt: skip
def best_of(tags, scores, pointers, work, emissions, offsets, transitions, start, end, K):
    """See `crf_best`. work float32[N · K]; dynamic shared memory: four bytes a thread."""
    shared = cuda.shared.array(0, float32)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    b = cuda.blockIdx.x
    first, last = offsets[b], offsets[b + 1] - 1
    top = LOWEST
    for j in range(thread, K, threads):
        value = start[j] + emissions[first * K + j]
        work[first * K + j] = value
        top = maximum(top, value)
    for n in range(first + 1, last + 1):
        top = largest_of(shared, top)  # subtracted, so that sums stay small and exact
        before = (n - 1) * K
        highest = LOWEST
        for j in range(thread, K, threads):
            best, source = transitions[j] + work[before], 0
            for i in range(1, K):
                score = transitions[i * K + j] + work[before + i]
                if score > best:
                    best, source = score, i
            value = best - top + emissions[n * K + j]
            work[n * K + j] = value
            pointers[n * K + j] = source
            highest = maximum(highest, value)
        top = highest
    cuda.syncthreads()
    if thread == 0:
        tag = 0
        highest = work[last * K] + end[0]
        for j in range(1, K):
            score = work[last * K + j] + end[j]
            if score > highest:
                highest, tag = score, j
        total = np.float64(end[tag])
        for n in range(last, first, -1):
            tags[n] = tag
            before = pointers[n * K + tag]
            total += np.float64(transitions[before * K + tag]) + np.float64(emissions[n * K + tag])
            tag = before
        tags[first] = tag
        scores[b] = total + np.float64(start[tag]) + np.float64(emissions[first * K + tag])


@kernel("float32[::1], float32[::1], int32[::1], float32", threads=THREADS, registers=40)
def forbid_all(out, scores, mask, value):
    """See `forbid`."""
    i = cuda.grid(1)
    if i < len(out):
        out[i] = value if mask[i] else scores[i]


def forbid(out: Any, scores: Any, mask: Any, value: float) -> None:
    """out = value where the mask is set, else the score; float32 and int32 of one size. `out` may
    be `scores`."""
    n = out.size
    if scores.size != n or mask.size != n:
        raise ValueError(f"{scores.size} scores and {mask.size} of a mask into {n}")
    forbid_all.each(n, out, scores, mask, value)


def crf_paths(
    losses: Any, marginals: Any, emissions: Any, tags: Any, offsets: Any, transitions: Any,
    start: Any, end: Any, weight: float, mode: int,
    gradients: tuple[Any, Any, Any] | None = None,
) -> None:  # fmt: skip
    """Negative log-likelihoods of tagged sequences; their gradients; marginals.

    losses     float64[B]: log Z, less the score of `tags` except for MARGINALS
    marginals  float32[N, K], for GRADIENT weight (marginal − gold), for MARGINALS the marginals;
               unused for LIKELIHOOD
    tags       int32[N], each below K; of any size for MARGINALS
    mode       LIKELIHOOD, GRADIENT or MARGINALS
    gradients  of transitions, start and end, for GRADIENT: added to, times `weight`
    """
    N, K = emissions.shape
    size = N * K if mode else 0
    alpha = memory.scratch("crf alpha", N * K)
    ahead, norms = memory.scratch("crf ahead", size), memory.scratch("crf norms", N)
    threads = block_size(K, THREADS)
    paths_of(
        len(offsets) - 1, losses, marginals, alpha, ahead, norms, emissions, tags, offsets,
        transitions, start, end, weight, K, mode, threads=threads, shared=4 * threads,
    )  # fmt: skip
    if mode != GRADIENT or gradients is None:
        return
    count = blocks_for(N, SLOTS)
    used = blocks_for(N, count)
    slots = memory.scratch("crf slots", used * K * K)
    threads = min(THREADS, K * K)
    pairs_of(
        (blocks_for(K * K, threads), used, 1), slots, alpha, ahead, norms, transitions, tags, K,
        count, threads=threads,
    )  # fmt: skip
    add_gradients.each(K * K, *gradients, slots, marginals, offsets, weight, K, used)


def crf_best(
    tags: Any, scores: Any, emissions: Any, offsets: Any, transitions: Any, start: Any, end: Any
) -> None:
    """The best path of each sequence and its score (Viterbi, 1967).

    tags    int32[N]; of equal paths the one with the lower tag at the last position where they
            differ
    scores  float64[B]
    """
    N, K = emissions.shape
    pointers, work = memory.empty(N * K, np.int32), memory.scratch("crf alpha", N * K)
    threads = block_size(K, THREADS)
    best_of(
        len(offsets) - 1, tags, scores, pointers, work, emissions, offsets, transitions, start, end,
        K, threads=threads, shared=4 * threads,
    )  # fmt: skip
