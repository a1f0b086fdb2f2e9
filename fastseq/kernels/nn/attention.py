"""Multi-head attention over packed ragged sequences, without padding (Vaswani et al. 2017).

For a head of D columns and a sequence of n rows: softmax(Q Kᵀ / √D) V, rows of Q, K and V being
neighbours in one array [N, 3H]. A work item is a pair of a sequence and a head. Its keys are packed
transposed and its values as they are, in panels (simd/gemm.py); then for each block of query rows
the scores, [ROWS, n] and still in the cache, are a product of tiles, become exponentials, and are
multiplied by the values. So memory grows with n, never with n².

Nothing of a pair is shared with another one, and every sum runs over keys (or queries, or columns)
in order: the bits of a sequence depend on its own rows alone, not on the batch, on its place there
or on the threads.

The backward pass computes the probabilities again, from the logarithm of each row's sum of
exponentials (as FlashAttention does, Dao et al. 2022): with P the probabilities, M the mask of
dropout, and dP = (dO Vᵀ) M, it has dS = P (dP - Σ dO O), dQ = dS K, dK = dSᵀ Q, dV = (P M)ᵀ dO.

Dropout's mask is that of dropout.py for a matrix with a row for each row and head, row · heads +
head, and 2³² columns of which the first n are used.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.dropout import hashed, key_bits
from fastseq.kernels.nn.rows import load_row, store_row
from fastseq.kernels.simd.floats import (
    fma,
    lane_numbers,
    largest_lane,
    load,
    maximum,
    select,
    splat,
    splat_int,
    store,
    sum_lanes,
)
from fastseq.kernels.simd.gemm import (
    SLIM,
    add_product,
    copy_block,
    pack_rows,
    slim_vectors,
    transpose_block,
)
from fastseq.kernels.simd.tiles import address, tiles
from fastseq.kernels.simd.vmath import exp

ROWS = 24  # query rows of a block: whole tiles of 3, 4, 6, 8 and 12 rows
_ZEROS = SLIM * LANES  # floats at the start of scratch from which sums start
_LINE = 16  # floats of a cache line
_U32 = np.uint64(32)
_DROPS_NONE = np.int32(-(1 << 31))


def attention_scratch(longest: int, size: int, backward: bool = False) -> int:
    """Floats of working memory of a thread, for sequences of up to `longest` rows and heads of
    `size` columns."""
    wide = -(-size // LANES) * LANES
    long = -(-longest // LANES) * LANES
    scores = ROWS * (longest + 2 * _LINE)
    if not backward:
        return _ZEROS + ROWS + size * long + longest * wide + scores + ROWS * wide
    return _ZEROS + 2 * size * long + 3 * longest * wide + 2 * scores + 3 * ROWS * wide


@inline
def _padded(count):
    """`count` in whole vectors."""
    return (count + LANES - 1) // LANES * LANES


@inline
def _stride(n):
    """Floats from one row of scores to the next: an odd number of cache lines, so that a column of
    scores is spread over the sets of the cache."""
    return ((n + _LINE - 1) // _LINE | 1) * _LINE


@helper
def _pack_transposed(panels, to, rows, start, row, n, size):
    """Panels of the [size, n] matrix whose column j is rows[start + j * row:][:size]."""
    column = 0
    while column < n:
        width = slim_vectors(column, n) * LANES
        there = min(width, n - column)
        if there < width:
            panels[to : to + size * width] = 0.0
        transpose_block(panels, to, width, rows, start + column * row, row, there, size)
        to += size * width
        column += width


@helper
def _product(scratch, out, out_row, rows, a, start, a_row, panels, depth, columns):
    """`rows` rows of A [rows, depth] times packed panels of `columns` columns.

    scratch    its first _ZEROS floats are 0; the panels are there, and the result from `out` on in
               rows of whole vectors, `out_row` apart
    a, start   A's row r is a[start + r * a_row:]
    """
    column = 0
    while column < columns:
        vectors = slim_vectors(column, columns)
        width = vectors * LANES
        tiles(
            vectors, address(scratch, out + column), out_row, address(scratch, 0), 0,
            address(a, start), a_row, 1, address(scratch, panels), width, depth, 1, 0, 0, rows,
        )  # fmt: skip
        panels += depth * width
        column += width


@inline
def _valid(scores, at, left):
    """A vector of scores, of which `left` are left; -inf in the lanes past the last."""
    value = load(scores, at)
    return select(lane_numbers() < np.int32(left), value, -np.inf) if left < LANES else value


@inline
def _softmax(scores, at, n, factor):
    """scores[at:at + n] become e^(factor · (score - largest)); returns factor · largest, and
    their sum."""
    a = splat(-np.inf)
    b = splat(-np.inf)
    j = 0
    while j + 2 * LANES <= n:
        a = maximum(a, load(scores, at + j))
        b = maximum(b, load(scores, at + j + LANES))
        j += 2 * LANES
    while j < n:
        a = maximum(a, _valid(scores, at + j, n - j))
        j += LANES
    largest = np.float32(largest_lane(maximum(a, b)) * factor)
    a = splat(0.0)
    b = splat(0.0)
    shift = splat(-largest)
    times = splat(factor)
    j = 0
    while j + 2 * LANES <= n:
        first = exp(fma(load(scores, at + j), times, shift))
        second = exp(fma(load(scores, at + j + LANES), times, shift))
        store(scores, at + j, first)
        store(scores, at + j + LANES, second)
        a = a + first
        b = b + second
        j += 2 * LANES
    while j < n:
        value = exp(fma(_valid(scores, at + j, n - j), times, shift))
        store(scores, at + j, value)
        a = a + value
        j += LANES
    return largest, sum_lanes(a + b)


@inline
def _mask(j, first, second, limit):
    """Which of the elements j, j + 1, … of a row are kept, for the two halves of its key."""
    return hashed(lane_numbers() + np.int32(j), first, second) >= limit


@inline
def _drop(scores, at, n, key, row, limit):
    """Zero the dropped elements of a row of n scores."""
    bits = key_bits(key, np.uint64(row))
    first = splat_int(np.int32(bits))
    second = splat_int(np.int32(bits >> _U32))
    for j in range(0, n, LANES):
        kept = _mask(j, first, second, limit)
        store(scores, at + j, select(kept, load(scores, at + j), 0.0))


@jit
def attention_forward(
    out, lse, qkv, offsets, order, heads, key, limit, scale, scratch, first, last
):
    """Attention of the pairs first to last - 1: of sequence order[p // heads], head p % heads.

    out      float32[N, H], H = heads · D
    lse      float32[N, heads]: out, logarithm of each row's sum of exponentials, for the backward
             pass; float32[0, heads] where it is not needed
    qkv      float32[N, 3H]: queries, keys and values, each head after head
    offsets  int64[B + 1]: sequence b is in the rows offsets[b] to offsets[b + 1] - 1
    order    int64[B]: sequences, longest first where threads take pairs one after the other
    key, limit, scale
             of dropout, as in dropout.py; a limit of -2³¹ (and a scale of 1) for none
    scratch  float32[attention_scratch(longest, D)]
    """
    H, row = out.shape[1], qkv.shape[1]
    size = H // heads
    flat, to = qkv.reshape(qkv.size), out.reshape(out.size)
    factor = np.float32(1.0 / math.sqrt(size))
    wide = _padded(size)
    scratch[:_ZEROS] = 0.0
    for pair in range(first, last):
        sequence, head = order[pair // heads], pair % heads
        begin = offsets[sequence]
        n = offsets[sequence + 1] - begin
        stride = _stride(n)
        factors = _ZEROS
        keys = factors + ROWS
        values = keys + size * _padded(n)
        scores = values + n * wide
        sums = scores + ROWS * stride
        column = head * size
        _pack_transposed(scratch, keys, flat, begin * row + H + column, row, n, size)
        left = 2 * H + column
        pack_rows(scratch, values, flat, begin, row, n, left, left + size)
        for i in range(0, n, ROWS):
            rows = min(ROWS, n - i)
            here = begin + i
            _product(scratch, scores, stride, rows, flat, here * row + column, row, keys, size, n)
            for r in range(rows):
                at = scores + r * stride
                largest, total = _softmax(scratch, at, n, factor)
                scratch[factors + r] = scale / total
                if len(lse):
                    lse[here + r, head] = largest + math.log(np.float64(total))
                if limit != _DROPS_NONE:
                    _drop(scratch, at, n, key, (here + r) * heads + head, limit)
            _product(scratch, sums, wide, rows, scratch, scores, stride, values, n, size)
            for r in range(rows):
                start = (here + r) * H + column
                times = splat(scratch[factors + r])
                for j in range(0, size, LANES):
                    store_row(to, start + j, load(scratch, sums + r * wide + j) * times, size - j)


@jit
def attention_backward(
    dqkv, dout, out, lse, qkv, offsets, order, heads, key, limit, scale, scratch, first, last
):
    """Gradients dqkv of dout, for the pairs first to last - 1; arguments as in the forward pass.

    dqkv     float32[N, 3H]: out
    dout     float32[N, H]
    out, lse as the forward pass wrote them
    scratch  float32[attention_scratch(longest, D, backward=True)]
    """
    H, row = out.shape[1], qkv.shape[1]
    size = H // heads
    flat, to = qkv.reshape(qkv.size), dqkv.reshape(dqkv.size)
    given, result = dout.reshape(dout.size), out.reshape(out.size)
    factor = np.float32(1.0 / math.sqrt(size))
    wide = _padded(size)
    dropping = limit != _DROPS_NONE
    scratch[:_ZEROS] = 0.0
    for pair in range(first, last):
        sequence, head = order[pair // heads], pair % heads
        begin = offsets[sequence]
        n = offsets[sequence + 1] - begin
        stride = _stride(n)
        turned_keys = _ZEROS
        turned_values = turned_keys + size * _padded(n)
        keys = turned_values + size * _padded(n)
        dkeys = keys + n * wide
        dvalues = dkeys + n * wide
        scores = dvalues + n * wide
        slopes = scores + ROWS * stride
        queries = slopes + ROWS * stride
        gradients = queries + ROWS * wide
        dqueries = gradients + ROWS * wide
        column = head * size
        start = begin * row + column
        _pack_transposed(scratch, turned_keys, flat, start + H, row, n, size)
        _pack_transposed(scratch, turned_values, flat, start + 2 * H, row, n, size)
        pack_rows(scratch, keys, flat, begin, row, n, H + column, H + column + size)
        scratch[dkeys:scores] = 0.0
        for i in range(0, n, ROWS):
            rows = min(ROWS, n - i)
            here = begin + i
            _product(
                scratch, scores, stride, rows, flat, here * row + column, row, turned_keys, size, n
            )
            _product(
                scratch, slopes, stride, rows, given, here * H + column, H, turned_values, size, n
            )
            for r in range(rows):
                at = (here + r) * H + column
                total = splat(0.0)
                for j in range(0, size, LANES):
                    rest = size - j
                    total = fma(
                        load_row(given, at + j, rest), load_row(result, at + j, rest), total
                    )
                delta = splat(sum_lanes(total))
                shift = splat(-lse[here + r, head])
                bits = key_bits(key, np.uint64((here + r) * heads + head))
                one = splat_int(np.int32(bits))
                two = splat_int(np.int32(bits >> _U32))
                for j in range(0, n, LANES):
                    s, d = scores + r * stride + j, slopes + r * stride + j
                    p = exp(fma(load(scratch, s), splat(factor), shift))
                    used, slope = p, load(scratch, d)
                    if dropping:
                        kept = _mask(j, one, two, limit)
                        used = select(kept, p * scale, 0.0)
                        slope = select(kept, slope * scale, 0.0)
                    store(scratch, s, used)
                    store(scratch, d, p * (slope - delta) * factor)
            _product(scratch, dqueries, wide, rows, scratch, slopes, stride, keys, n, size)
            copy_block(to, here * row + column, row, scratch, dqueries, wide, rows, size, 0)
            pack_rows(scratch, queries, flat, here, row, rows, column, column + size)
            pack_rows(scratch, gradients, given, here, H, rows, column, column + size)
            add_product(scratch, dkeys, wide, n, scratch, slopes, stride, queries, rows, 0, wide)
            add_product(
                scratch, dvalues, wide, n, scratch, scores, stride, gradients, rows, 0, wide
            )
        copy_block(to, start + H, row, scratch, dkeys, wide, n, size, 0)
        copy_block(to, start + 2 * H, row, scratch, dvalues, wide, n, size, 0)
