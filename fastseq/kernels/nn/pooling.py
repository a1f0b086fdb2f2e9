"""Sums, maxima and attention over the rows of ragged sequences.

Everywhere: x float32[N · F] holds sequence b in the rows offsets[b] to offsets[b + 1] - 1 (int64,
offsets[0] = 0, no sequence empty); arrays with a row for each sequence are float32[B · F].
Attention is the additive one of Yang et al. 2016 (Hierarchical Attention Networks for Document
Classification, section 2.2): u = tanh(W h + b), score = v · u, weights = softmax of the scores.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import load_row, store_row
from fastseq.kernels.simd.floats import (
    fma,
    from_bits,
    load,
    load_part,
    select,
    splat,
    splat_int,
    store,
    store_part,
    sum_lanes,
)
from fastseq.kernels.simd.vmath import tanh

_WIDE = 4 * LANES


@jit
def segment_sums(out, x, weights, offsets, first, last):
    """out[b, c] = Σ weights[n] · x[n, c] over b's rows in their order, columns first to last - 1.

    With one sequence and weights of 1 this sums the columns of a matrix.
    """
    sequences = len(offsets) - 1
    width = len(out) // sequences
    for sequence in range(sequences):
        begin = offsets[sequence]
        end = offsets[sequence + 1]
        base = sequence * width
        column = first
        while column + _WIDE <= last:
            a = splat(0.0)
            b = splat(0.0)
            c = splat(0.0)
            d = splat(0.0)
            for row in range(begin, end):
                at = row * width + column
                weight = splat(weights[row])
                a = fma(weight, load(x, at), a)
                b = fma(weight, load(x, at + LANES), b)
                c = fma(weight, load(x, at + 2 * LANES), c)
                d = fma(weight, load(x, at + 3 * LANES), d)
            store(out, base + column, a)
            store(out, base + column + LANES, b)
            store(out, base + column + 2 * LANES, c)
            store(out, base + column + 3 * LANES, d)
            column += _WIDE
        while column < last:
            count = min(LANES, last - column)
            a = splat(0.0)
            for row in range(begin, end):
                a = fma(splat(weights[row]), load_part(x, row * width + column, count), a)
            store_part(out, base + column, a, count)
            column += count


@jit
def segment_spread(dx, dy, weights, offsets, first, last):
    """dx[n] = weights[n] · dy[b] for the rows n of the sequences b from first to last - 1."""
    width = len(dx) // len(weights)
    for sequence in range(first, last):
        base = sequence * width
        for row in range(offsets[sequence], offsets[sequence + 1]):
            to = row * width
            column = 0
            while column + LANES <= width:
                store(dx, to + column, load(dy, base + column) * weights[row])
                column += LANES
            if column < width:
                rest = width - column
                value = load_part(dy, base + column, rest) * weights[row]
                store_part(dx, to + column, value, rest)


@jit
def segment_products(out, x, dy, offsets, first, last):
    """out[n] = x[n] · dy[b], float32[N], for the rows n of the sequences b, first to last - 1."""
    width = len(x) // len(out)
    for sequence in range(first, last):
        base = sequence * width
        for row in range(offsets[sequence], offsets[sequence + 1]):
            at = row * width
            total = splat(0.0)
            for column in range(0, width, LANES):
                rest = width - column
                total = fma(
                    load_row(x, at + column, rest), load_row(dy, base + column, rest), total
                )
            out[row] = sum_lanes(total)


@jit
def segment_maxima(out, rows, x, offsets, first, last):
    """out[b, c] = the largest x[n, c], rows[b, c] the first n that has it.

    For the columns first to last - 1. A NaN counts as the largest. `rows` is an int32[B · F] seen
    as float32, which is what can be stored in part.
    """
    sequences = len(offsets) - 1
    width = len(out) // sequences
    for sequence in range(sequences):
        begin = offsets[sequence]
        end = offsets[sequence + 1]
        for column in range(first, last, LANES):
            count = min(LANES, last - column)
            best = load_part(x, begin * width + column, count)
            where = splat_int(np.int32(begin))
            for row in range(begin + 1, end):
                value = load_part(x, row * width + column, count)
                larger = (value > best) | ((value != value) & (best == best))
                best = select(larger, value, best)
                where = select(larger, splat_int(np.int32(row)), where)
            store_part(out, sequence * width + column, best, count)
            store_part(rows, sequence * width + column, from_bits(where), count)


@jit
def segment_maxima_backward(dx, dy, rows, offsets, first, last):
    """dx[n, c] = dy[b, c] where n = rows[b, c], else 0, of the sequences b, first to last - 1."""
    width = len(dy) // (len(offsets) - 1)
    for sequence in range(first, last):
        dx[offsets[sequence] * width : offsets[sequence + 1] * width] = 0.0
        base = sequence * width
        for column in range(width):
            dx[rows[base + column] * np.int64(width) + column] = dy[base + column]


@jit
def attention_scores(scores, u, vector, first, last):
    """u[n] = tanh(u[n]) in place and scores[n] = vector · u[n], for the rows first to last - 1.

    scores  float32[N]
    u       float32[N · A]
    vector  float32[A]
    """
    width = len(vector)
    for row in range(first, last):
        at = row * width
        total = splat(0.0)
        for column in range(0, width, LANES):
            rest = width - column
            value = tanh(load_row(u, at + column, rest))
            store_row(u, at + column, value, rest)
            total = fma(value, load_row(vector, column, rest), total)
        scores[row] = sum_lanes(total)


@jit
def attention_scores_backward(u, dscores, vector, first, last):
    """u[n] becomes the gradient before tanh, dscores[n] · vector · (1 - u²), in place.

    For the rows first to last - 1. Arrays as in attention_scores; dscores float32[N].
    """
    width = len(vector)
    for row in range(first, last):
        at = row * width
        dscore = splat(dscores[row])
        for column in range(0, width, LANES):
            rest = width - column
            value = load_row(u, at + column, rest)
            value = dscore * load_row(vector, column, rest) * (1.0 - value * value)
            store_row(u, at + column, value, rest)
