"""Linear-chain conditional random fields: likelihood, gradients, marginals, best paths.

Lafferty, McCallum, Pereira (2001); the recursions are those of Rabiner (1989, section III).

Stored for a position is the logarithm of its forward variable. A step is computed in linear
space: with p = exp(α − max α) and the transitions exponentiated once a call, each column scaled
by its largest entry, the sums over the previous tag are one product of a vector and a matrix, so
a position costs K exponentials, not K². What underflows in a product is below 1e-38; a sum under
TINY is where that could be seen, and is taken again in log space, term by term.

Sizes: B sequences of N positions in all, K tags, W = K rounded up to whole vectors.

    emissions    float32[N * K]   scores of every tag at every position
    offsets      int64[B + 1]     sequence b is the positions offsets[b]:offsets[b + 1], not empty
    bounds       int64[S + 1]     slot s is the sequences bounds[s]:bounds[s + 1]
    transitions  float32[K * W]   score of (from, to), -inf past column K
    into         float32[W * W]   (from, to): exp(score − the column's largest); 0 past row K,
                                  1 past column K
    back         float32[W * W]   (to, from): exp(score − the largest of the same `from`); as above
    ends         float32[4 * W]   start, end, the columns' largest, the rows' largest; -inf past K
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import load_row, store_row
from fastseq.kernels.simd.floats import (
    any_lane,
    fma,
    largest_lane,
    load,
    maximum,
    select,
    splat,
    splat_int,
    store,
    sum_lanes,
)
from fastseq.kernels.simd.vmath import exp, log

TINY = np.float32(1e-25)


@inline
def _largest(values, start, width):
    """The largest of values[start:start + width]."""
    best = load(values, start)
    for v in range(LANES, width, LANES):
        best = maximum(best, load(values, start + v))
    return largest_lane(best)


@inline
def _product(weights, at, matrix, k, width, v):
    """Lanes v of weights[at:at + k] times the k rows of a matrix, in two sums for their latency."""
    even = splat(np.float32(0))
    odd = splat(np.float32(0))
    for i in range(0, k, 2):  # row k of the matrix and weight k are there, and zero
        even = fma(weights[np.uint64(at + i)], load(matrix, i * width + v), even)
        odd = fma(weights[np.uint64(at + i + 1)], load(matrix, (i + 1) * width + v), odd)
    return even + odd


@helper
def _sum_exactly(work, out, logs, first, last, k, transitions, far, near):
    """work[out + o] = log Σ_i exp(work[logs + i] + transitions[o far + i near]), o in first:last.

    In float64 and log space: for sums whose terms underflow in float32.
    """
    for o in range(first, last):
        best = -np.inf
        for i in range(k):
            best = max(best, np.float64(work[logs + i]) + transitions[o * far + i * near])
        total = 0.0
        for i in range(k):
            total += math.exp(np.float64(work[logs + i]) + transitions[o * far + i * near] - best)
        work[out + o] = best + math.log(total)


@helper
def _pairs_exactly(gradients, slot, work, alpha, ahead, k, width, transitions):
    """Add the probabilities of all (from, to) at one position, in float64 and log space."""
    best = -np.inf
    for i in range(k):
        for j in range(k):
            score = np.float64(work[alpha + i]) + transitions[i * width + j] + work[ahead + j]
            best = max(best, score)
    total = 0.0
    for i in range(k):
        for j in range(k):
            score = np.float64(work[alpha + i]) + transitions[i * width + j] + work[ahead + j]
            total += math.exp(score - best)
    for i in range(k):
        for j in range(k):
            score = np.float64(work[alpha + i]) + transitions[i * width + j] + work[ahead + j]
            gradients[slot + j * width + i] += math.exp(score - best) / total


@helper
def _forward(work, emissions, position, steps, k, width, transitions, into, ends):
    """Fill the forward variables; returns what was taken off their logarithms, in all."""
    alpha = 4 * width
    for v in range(0, width, LANES):
        store(work, alpha + v, load(ends, v) + load_row(emissions, position * k + v, k - v))
    taken = 0.0
    for t in range(1, steps):
        now = alpha + width
        top = _largest(work, alpha, width)
        taken += top
        for v in range(0, width, LANES):
            store(work, v, exp(load(work, alpha + v) - top))
        for v in range(0, width, LANES):
            total = _product(work, 0, into, k, width, v)
            value = log(total) + load(ends, 2 * width + v)
            if any_lane(total < TINY):
                store(work, now + v, value)
                last = min(v + LANES, k)
                _sum_exactly(work, now, alpha, v, last, k, transitions, 1, width)
                value = load(work, now + v) - top
            store(work, now + v, value + load_row(emissions, (position + t) * k + v, k - v))
        alpha = now
    return taken


@inline
def _normalise(work, alpha, width):
    """Marginals of one position, softmax(α + β), at 3 W; returns log Σ exp(α + β)."""
    for v in range(0, width, LANES):
        store(work, 3 * width + v, load(work, alpha + v) + load(work, 2 * width + v))
    top = _largest(work, 3 * width, width)
    total = splat(np.float32(0))
    for v in range(0, width, LANES):
        share = exp(load(work, 3 * width + v) - top)
        store(work, 3 * width + v, share)
        total = total + share
    norm = sum_lanes(total)
    for v in range(0, width, LANES):
        store(work, 3 * width + v, load(work, 3 * width + v) / norm)
    return np.float64(top) + math.log(np.float64(norm))


@inline
def _keep(demissions, row, work, k, width, weight):
    """Write the marginals at 3 W, times a weight, to one row."""
    for v in range(0, width, LANES):
        store_row(demissions, row * k + v, load(work, 3 * width + v) * weight, k - v)


@inline
def _add(gradients, at, work, width):
    """gradients[at:at + width] += the marginals at 3 W."""
    for v in range(0, width, LANES):
        store(gradients, at + v, load(gradients, at + v) + load(work, 3 * width + v))


@helper
def _step_back(gradients, slot, work, alpha, k, width, transitions, back, ends, learn):
    """From w = emission + β of the position ahead (at 2 W) to β here, and marginals at 3 W.

    With `learn` the probabilities of the pairs of tags are added to the slot.
    """
    ahead, share = 2 * width, 3 * width
    spare = alpha + width  # the forward variables ahead have served: w goes there
    top = _largest(work, ahead, width)
    high = splat(np.float32(-np.inf))
    for v in range(0, width, LANES):
        w = load(work, ahead + v)
        store(work, spare + v, w)
        store(work, width + v, exp(w - top))
        high = maximum(load(work, alpha + v) + load(ends, 3 * width + v), high)
    peak = largest_lane(high)
    total = splat(np.float32(0))
    for v in range(0, width, LANES):
        leave = load(ends, 3 * width + v)
        p = exp(load(work, alpha + v) + leave - peak)
        store(work, v, p)
        reached = _product(work, width, back, k, width, v)
        value = log(reached) + leave
        store(work, ahead + v, value)
        if any_lane(reached < TINY):
            last = min(v + LANES, k)
            _sum_exactly(work, ahead, spare, v, last, k, transitions, width, 1)
            store(work, ahead + v, load(work, ahead + v) - top)
        store(work, share + v, p * reached)
        total = total + p * reached
    norm = sum_lanes(total)
    if norm >= TINY:
        scale = np.float32(1) / norm
        for v in range(0, width, LANES):
            store(work, share + v, load(work, share + v) * scale)
        if learn:
            for v in range(0, width, LANES):
                p = load(work, v)
                for j in range(k):
                    pair = load(back, j * width + v) * p
                    at = slot + j * width + v
                    x = work[np.uint64(width + j)] * scale
                    store(gradients, at, fma(pair, x, load(gradients, at)))
    else:
        _normalise(work, alpha, width)
        if learn:
            _pairs_exactly(gradients, slot, work, alpha, spare, k, width, transitions)


@jit
def crf_paths(
    losses,  # float64[B]: log Z, less the score of `tags` unless marginals are asked for
    demissions,  # float32[N * K]: weight (marginal − gold), or the marginals; unused for mode 0
    gradients,  # float32[S * (W * W + 2 * W)]: (to, from), start, end; added to in mode 1
    work,  # float32[>= (longest + 4) * W]
    emissions,
    tags,  # int32[N], each below K; unused for mode 2
    offsets,
    bounds,
    first,  # the slots first:last are this call's
    last,
    transitions,
    into,
    back,
    ends,
    weight,  # float32
    mode,  # 0 the likelihood, 1 with its gradients, 2 marginals
):
    """Negative log-likelihoods of tagged sequences; their gradients; marginals.

    `demissions` comes times `weight`; `gradients` does not.
    """
    width = len(ends) // 4
    k = len(transitions) // width
    for s in range(first, last):
        slot = s * (width + 2) * width
        for b in range(bounds[s], bounds[s + 1]):
            begin = offsets[b]
            steps = offsets[b + 1] - begin
            taken = _forward(work, emissions, begin, steps, k, width, transitions, into, ends)
            alpha = (steps + 3) * width
            for v in range(0, width, LANES):
                store(work, 2 * width + v, load(ends, width + v))
            loss = taken + _normalise(work, alpha, width)
            if mode != 2:
                loss -= _score(emissions, tags, begin, steps, k, width, transitions, ends)
            losses[b] = loss
            if mode == 0:
                continue
            learn = mode == 1
            _keep(demissions, begin + steps - 1, work, k, width, weight)
            if learn:
                _add(gradients, slot + (width + 1) * width, work, width)
            for t in range(steps - 2, -1, -1):
                alpha -= width
                for v in range(0, width, LANES):
                    e = load_row(emissions, (begin + t + 1) * k + v, k - v)
                    store(work, 2 * width + v, load(work, 2 * width + v) + e)
                _step_back(gradients, slot, work, alpha, k, width, transitions, back, ends, learn)
                _keep(demissions, begin + t, work, k, width, weight)
            if learn:
                _add(gradients, slot + width * width, work, width)
                _take_gold(demissions, gradients, slot, tags, begin, steps, k, width, weight)


@helper
def _score(emissions, tags, begin, steps, k, width, transitions, ends):
    """Score of the path `tags` through one sequence, in float64."""
    tag = np.int64(tags[begin])
    score = np.float64(ends[tag]) + emissions[begin * k + tag]
    for t in range(begin + 1, begin + steps):
        to = np.int64(tags[t])
        score += np.float64(transitions[tag * width + to]) + emissions[t * k + to]
        tag = to
    return score + ends[width + tag]


@helper
def _take_gold(demissions, gradients, slot, tags, begin, steps, k, width, weight):
    """Subtract what the path `tags` counts: 1 from its emissions, transitions, start and end."""
    tag = np.int64(tags[begin])
    gradients[slot + width * width + tag] -= np.float32(1)
    demissions[begin * k + tag] -= weight
    for t in range(begin + 1, begin + steps):
        to = np.int64(tags[t])
        gradients[slot + to * width + tag] -= np.float32(1)
        demissions[t * k + to] -= weight
        tag = to
    gradients[slot + (width + 1) * width + tag] -= np.float32(1)


@jit
def crf_best(
    tags,  # int32[N]
    scores,  # float64[B]
    pointers,  # int32[>= longest * W]
    work,  # float32[2 * W]
    emissions,
    offsets,
    bounds,
    first,  # the slots first:last are this call's
    last,
    transitions,
    ends,
):
    """The best path through each sequence and its score (Viterbi, 1967).

    Of equal paths the one with the lower tag at the last position where they differ.
    """
    width = len(ends) // 4
    k = len(transitions) // width
    for b in range(bounds[first], bounds[last]):
        begin = offsets[b]
        steps = offsets[b + 1] - begin
        for v in range(0, width, LANES):
            store(work, v, load(ends, v) + load_row(emissions, begin * k + v, k - v))
        for t in range(1, steps):
            top = _largest(work, 0, width)  # taken off, so that sums stay small and exact
            for v in range(0, width, LANES):
                best = load(transitions, v) + work[0]
                source = splat_int(np.int32(0))
                for i in range(1, k):
                    score = load(transitions, i * width + v) + work[np.uint64(i)]
                    better = score > best
                    best = select(better, score, best)
                    source = select(better, splat_int(np.int32(i)), source)
                e = load_row(emissions, (begin + t) * k + v, k - v)
                store(work, width + v, best - top + e)
                store(pointers, t * width + v, source)
            for v in range(0, width, LANES):
                store(work, v, load(work, width + v))
        tag = np.int64(0)
        highest = work[0] + ends[width]
        for j in range(1, k):
            score = work[j] + ends[width + j]
            if score > highest:
                highest = score
                tag = np.int64(j)
        tags[begin + steps - 1] = tag
        for t in range(steps - 1, 0, -1):
            tag = np.int64(pointers[t * width + tag])
            tags[begin + t - 1] = tag
        scores[b] = _score(emissions, tags, begin, steps, k, width, transitions, ends)
