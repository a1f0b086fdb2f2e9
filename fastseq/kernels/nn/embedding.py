"""Rows of a table by number, and gradients added to them."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import load, load_part, store, store_part

_AHEAD = 8  # rows that are asked for before their turn
_LINE = 16  # floats of a cache line


@jit
def gather(out, table, ids, first, last):
    """out[i] = table[ids[i]] for i from first to last - 1.

    out    float32[N · E]
    table  float32[V · E]
    ids    int32[N], 0 <= id < V
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
def scatter_add(slopes, dy, ids, first, last):
    """slopes[ids[i], c] += dy[i, c] for every i, in their order, and the columns first to last - 1.

    slopes  float32[V · E]
    dy      float32[N · E]
    ids     int32[N], 0 <= id < V; an id may come often

    Threads that share the columns, not the rows, never meet, and each sum has one order.
    """
    width = len(dy) // len(ids)
    for i in range(len(ids)):
        if i + _AHEAD < len(ids):
            ahead = np.int64(ids[i + _AHEAD]) * width
            for column in range(first, last, _LINE):
                prefetch(slopes, ahead + column)
        target = np.int64(ids[i]) * width
        source = i * width
        column = first
        while column + LANES <= last:
            here = target + column
            store(slopes, here, load(slopes, here) + load(dy, source + column))
            column += LANES
        if column < last:
            rest = last - column
            here = target + column
            total = load_part(slopes, here, rest) + load_part(dy, source + column, rest)
            store_part(slopes, here, total, rest)


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
