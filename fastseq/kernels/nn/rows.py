"""Rows by number: of tables of embeddings, and of a ragged batch in packed order: step after step,
step, longest sequence first.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import load, load_part, store, store_part
from fastseq.kernels.simd.gemm import copy_block

_AHEAD = 8  # rows that are prefetched
_LINE = 16  # floats of a cache line


@inline
def load_row(values, index, count):
    """values[index:index + count], at most LANES of them; zero in the other lanes.

    For loops that are not bound by memory: others have one for whole vectors and a last part.
    """
    return load(values, index) if count >= LANES else load_part(values, index, count)


@inline
def store_row(out, index, vector, count):
    """out[index:index + count] = vector, at most LANES of it."""
    if count >= LANES:
        store(out, index, vector)
    else:
        store_part(out, index, vector, count)


@jit
def gather(out, table, ids, first, last):
    """out[i] = table[ids[i]] for i from first to last - 1.

    out    float32[N · E]
    table  float32[V · E]
    ids    int32[N] or int64[N], 0 <= id < V
    """
    width = len(out) // len(ids)
    for i in range(first, last):
        if i + _AHEAD < last:
            ahead = np.int64(ids[i + _AHEAD]) * width
            for column in range(0, width, _LINE):
                prefetch(table, ahead + column)
        source = np.int64(ids[i]) * width
        target = i * width
        column = 0
        while column + LANES <= width:
            store(out, target + column, load(table, source + column))
            column += LANES
        if column < width:
            rest = width - column
            store_part(out, target + column, load_part(table, source + column, rest), rest)


@jit
def gather_sums(out, words, types, positions, ids, type_ids, places, first, last):
    """out[i] = words[ids[i]] + types[type_ids[i]] + positions[places[i]], i from first to last - 1.

    out                       float32[N · E]
    words, types, positions   float32[V · E], [T · E] and [P · E]
    ids, type_ids, places     int32[N]
    """
    width = len(out) // len(ids)
    for i in range(first, last):
        if i + _AHEAD < last:
            ahead = np.int64(ids[i + _AHEAD]) * width
            for column in range(0, width, _LINE):
                prefetch(words, ahead + column)
        word, kind, place = (
            np.int64(ids[i]) * width,
            np.int64(type_ids[i]) * width,
            np.int64(places[i]) * width,
        )
        for column in range(0, width, LANES):
            rest = width - column
            total = load_row(words, word + column, rest) + load_row(types, kind + column, rest)
            total = total + load_row(positions, place + column, rest)
            store_row(out, i * width + column, total, rest)


@jit
def gather_steps(out, values, rows, starts, counts):
    """`gather` of the rows of one slice, whose step t has counts[t] from starts[t] on.

    out, values  float32[N, K] and [·, K]
    """
    to, flat = out.reshape(out.size), values.reshape(values.size)
    for t in range(len(starts)):
        gather(to, flat, rows, starts[t], starts[t] + counts[t])


@jit
def scatter(out, values, rows, first, last):
    """out[rows[n]] = values[n] for n in [first, last)."""
    K = values.shape[1]
    to, flat = out.reshape(out.size), values.reshape(values.size)
    for n in range(first, last):
        copy_block(to, rows[n] * K, K, flat, n * K, K, 1, K, 0)


@jit
def scatter_add(gradients, dy, ids, first, last):
    """gradients[ids[i], c] += dy[i, c] for every i, in order, and the columns first to last - 1.

    gradients  float32[V · E]
    dy         float32[N · E]
    ids        int32[N], 0 <= id < V; an id may come often

    Threads that share the columns, not the rows, never meet, and each sum has one order.
    """
    width = len(dy) // len(ids)
    for i in range(len(ids)):
        if i + _AHEAD < len(ids):
            ahead = np.int64(ids[i + _AHEAD]) * width
            for column in range(first, last, _LINE):
                prefetch(gradients, ahead + column)
        target = np.int64(ids[i]) * width
        source = i * width
        column = first
        while column + LANES <= last:
            here = target + column
            store(gradients, here, load(gradients, here) + load(dy, source + column))
            column += LANES
        if column < last:
            rest = last - column
            here = target + column
            total = load_part(gradients, here, rest) + load_part(dy, source + column, rest)
            store_part(gradients, here, total, rest)


@jit
def distinct(unique, index, places, ids):
    """The different ids in the order of their first occurrence, and where each id is among them.

    unique  int32[N]  out: the first U of it
    index   int64[N]  out: unique[index[i]] = ids[i]
    places  int32[V]  all -1 before and after
    ids     int32[N], 0 <= id < V

    Returns U.
    """
    count = 0
    for i in range(len(ids)):
        place = places[ids[i]]
        if place < 0:
            place = count
            places[ids[i]] = place
            unique[count] = ids[i]
            count += 1
        index[i] = place
    for i in range(count):
        places[unique[i]] = -1
    return count


@jit
def pack_order(rows, starts, counts, order, bounds, lengths, firsts, stride):
    """The caller's row of each packed row, and the packed rows of each step of each slice.

    rows     int64[N]      out: the caller's row of each packed row
    starts   int64[S, T]   out: first packed row of each step of a slice
    counts   int64[S, T]   out: how many there are; 0 after the slice's longest sequence
    order    int64[B]      the sequences, longest first
    bounds   int64[S + 1]  which of them each slice has
    lengths  int64[B]      of the sequences
    firsts   int64[B]      the caller's row of each sequence's first step
    stride   the caller's rows from a step to the next

    Returns whether every packed row is the caller's row of the same number.
    """
    S, T = starts.shape
    same = True
    n = 0
    for s in range(S):
        counts[s, :] = bounds[s + 1] - bounds[s]
    for t in range(T):
        for s in range(S):
            first = bounds[s]
            alive = counts[s, t - 1] if t else counts[s, 0]
            while alive > 0 and lengths[order[first + alive - 1]] <= t:
                alive -= 1
            starts[s, t] = n
            counts[s, t] = alive
            for r in range(first, first + alive):
                row = firsts[order[r]] + t * stride
                same = same and row == n
                rows[n] = row
                n += 1
    return same
