"""Softmax of rows and the cross-entropy of a row's softmax against one right column.

A row is read three times while it is in the cache: its largest value; the exponentials of the
distances to it, written over the row, and their sum; the division. Exponents are never above
zero, so nothing overflows, and a logit of -inf has probability 0.

The sum is taken in float32 over 64 vectors at a time and in float64 over these.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.floats import (
    lane_numbers,
    largest_lane,
    load,
    load_part,
    maximum,
    select,
    splat,
    store,
    store_part,
    sum_lanes,
)
from fastseq.kernels.simd.vmath import exp

_BLOCK = 64 * LANES
_LOWEST = -np.inf


@inline
def _tail(row, at, end):
    """row[at:end], fewer than LANES values; -inf in the lanes past them."""
    count = end - at
    return select(lane_numbers() < count, load_part(row, at, count), _LOWEST)


@inline
def _largest(logits, start, end):
    """The largest of logits[start:end]."""
    a = splat(_LOWEST)
    b = splat(_LOWEST)
    at = start
    while at + 2 * LANES <= end:
        a = maximum(a, load(logits, at))
        b = maximum(b, load(logits, at + LANES))
        at += 2 * LANES
    if at + LANES <= end:
        a = maximum(a, load(logits, at))
        at += LANES
    if at < end:
        b = maximum(b, _tail(logits, at, end))
    return largest_lane(maximum(a, b))


@inline
def _exponentials(logits, start, end, largest, write):
    """The sum (float64) of e^(x - largest) over logits[start:end], put over them if `write`."""
    total = 0.0
    at = start
    while at + LANES <= end:
        stop = min(end, at + _BLOCK)
        block = splat(0.0)
        while at + LANES <= stop:
            value = exp(load(logits, at) - largest)
            if write:
                store(logits, at, value)
            block = block + value
            at += LANES
        total += sum_lanes(block)
    if at < end:
        value = exp(_tail(logits, at, end) - largest)
        if write:
            store_part(logits, at, value, end - at)
        total += sum_lanes(value)
    return total


@inline
def _scale(logits, start, end, factor):
    """logits[start:end] *= factor."""
    at = start
    while at + LANES <= end:
        store(logits, at, load(logits, at) * factor)
        at += LANES
    if at < end:
        store_part(logits, at, load_part(logits, at, end - at) * factor, end - at)


@jit
def softmax_rows(logits, columns, first, last):
    """Rows first to last - 1 of logits float32[N · columns] become probabilities."""
    for row in range(first, last):
        start = row * columns
        end = start + columns
        largest = _largest(logits, start, end)
        total = _exponentials(logits, start, end, largest, True)
        _scale(logits, start, end, np.float32(1.0 / total))


@jit
def cross_entropy_rows(losses, logits, targets, scales, gradient, first, last):
    """losses[r] = -log softmax(row r)[targets[r]] for the rows first to last - 1.

    losses    float64[N], 0 where the target is negative
    logits    float32[N · C]; with `gradient` they become scales[r] · (softmax - one-hot), zeros
              where the target is negative; without it they stay
    targets   int32[N], below C
    scales    float32[N]: what row r's loss counts in the loss that is minimised
    gradient  bool
    """
    columns = len(logits) // len(targets)
    for row in range(first, last):
        start = row * columns
        end = start + columns
        target = targets[row]
        if target < 0:
            losses[row] = 0.0
            if gradient:
                logits[start:end] = 0.0
            continue
        right = np.float64(logits[start + target])
        largest = _largest(logits, start, end)
        total = _exponentials(logits, start, end, largest, gradient)
        losses[row] = math.log(total) + (np.float64(largest) - right)
        if gradient:
            scale = scales[row]
            _scale(logits, start, end, np.float32(scale / total))
            logits[start + target] -= scale
