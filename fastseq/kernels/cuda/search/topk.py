"""Top k of scored documents, ties to the smaller document number (see kernels/core/topk.py).

A candidate is one int64 key, as on the CPU, but of positive scores only: the score's bits above the
complement of the document number, so that keys are positive and 0 stands for none. A block finds
the k-th largest key of what it has digit by digit (radix selection: count the keys by their highest
byte, go on in the byte where the k-th lies); keys are distinct, so just k of them are no smaller.
Counts are sums of integers: the threads' order cannot be seen in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import int32, int64

from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.scalars import bits, from_bits
from fastseq.kernels.cuda.runtime.target import cuda, device_function, kernel

MOST_HITS = 4096  # that a block can sort
THREADS = 512
DIGIT_BITS = 8
BINS = 1 << DIGIT_BITS
GROUP = 8  # bins whose counts are added up, so that one thread need not walk all
GROUPS = BINS // GROUP
CHOSEN = BINS + GROUPS
LEFT = CHOSEN + 1
TABLE = LEFT + 1  # entries of the table that a selection needs
LAST_ROW = (1 << 31) - 1
KEY_SHIFT = 56  # of the highest byte of `make_key`'s keys


@device_function
def make_key(score, row):
    """int64 key of (score float32 > 0, row); larger is better."""
    return (np.int64(bits(score)) << 32) | (LAST_ROW - np.int64(row))


def selection(key_at: Callable[..., Any]) -> Callable[..., Any]:
    """A device function that finds the k-th largest of the keys key_at(values, i), 0 for none."""
    key_of = device_function(key_at)

    @device_function
    def kth_largest(values, n, k, shift, table):
        """The largest key, perhaps with its low bytes cut to 0, that k of the n keys reach.

        k      1 or more, no more than the keys above 0
        shift  of the keys' highest byte
        table  int32[TABLE] in shared memory, overwritten

        All threads of the block call it and are given the same.
        """
        thread = cuda.threadIdx.x
        threads = cuda.blockDim.x
        found = np.int64(0)
        left = np.int64(k)
        at = np.int64(shift)
        while at >= 0:
            for b in range(thread, BINS, threads):
                table[b] = 0
            cuda.syncthreads()
            for i in range(thread, n, threads):
                key = key_of(values, i)
                # two shifts, since one by 64 bits is not defined
                if key > 0 and (key >> at) >> DIGIT_BITS == found:
                    cuda.atomic.add(table, (key >> at) & (BINS - 1), 1)
            cuda.syncthreads()
            for g in range(thread, GROUPS, threads):
                total = 0
                for b in range(g * GROUP, (g + 1) * GROUP):
                    total += table[b]
                table[BINS + g] = total
            cuda.syncthreads()
            if thread == 0:
                g = GROUPS - 1
                while g > 0 and table[BINS + g] < left:
                    left -= table[BINS + g]
                    g -= 1
                b = (g + 1) * GROUP - 1
                while b > 0 and table[b] < left:
                    left -= table[b]
                    b -= 1
                table[CHOSEN] = b
                table[LEFT] = left
            cuda.syncthreads()
            digit = np.int64(table[CHOSEN])
            left = np.int64(table[LEFT])
            inside = np.int64(table[digit])
            found = (found << DIGIT_BITS) | digit
            cuda.syncthreads()
            if inside == left:  # every key of this byte is wanted: the others need no look
                break
            at -= DIGIT_BITS
        return found << max(at, np.int64(0))

    return kth_largest


_kth_key = selection(lambda keys, i: keys[i])


@kernel(
    "int32[::1], float32[::1], int64[::1], int32[::1], int64, int64, int64",
    threads=THREADS,
    registers=48,
    shared=8 * MOST_HITS,
)
def best_of_queries(rows, scores, keys, totals, room, k, sorted_room):
    """The k best of each query's candidates, best first; a block is a query.

    rows         int32[Q · k], -1 past the last
    scores       float32[Q · k], 0 past the last
    keys         int64[Q · room]
    totals       int32[Q], how many keys each query has
    sorted_room  a power of two of at least k, at most MOST_HITS: int64 of dynamic shared memory
    """
    best = cuda.shared.array(0, int64)
    table = cuda.shared.array(TABLE, int32)
    taken = cuda.shared.array(1, int32)
    thread = cuda.threadIdx.x
    threads = cuda.blockDim.x
    q = np.int64(cuda.blockIdx.x)
    n = np.int64(totals[q])
    own = keys[q * room : q * room + n]
    least = np.int64(1)
    if n > k:
        least = _kth_key(own, n, k, KEY_SHIFT, table)
    for i in range(thread, sorted_room, threads):
        best[i] = 0
    if thread == 0:
        taken[0] = 0
    cuda.syncthreads()
    for i in range(thread, n, threads):
        key = own[i]
        if key >= least:
            best[cuda.atomic.add(taken, 0, 1)] = key
    cuda.syncthreads()
    # Batcher's bitonic sort, largest first
    run = np.int64(2)
    while run <= sorted_room:
        step = run >> 1
        while step > 0:
            i = np.int64(thread)
            while i < sorted_room:  # a range would divide to count its steps
                other = i ^ step
                if other > i:
                    a = best[i]
                    b = best[other]
                    if (a < b) == ((i & run) == 0):
                        best[i] = b
                        best[other] = a
                i += threads
            cuda.syncthreads()
            step >>= 1
        run <<= 1
    for i in range(thread, k, threads):
        key = best[i]
        row = np.int64(-1)
        score = np.float32(0)
        if key > 0:
            row = LAST_ROW - (key & LAST_ROW)
            score = from_bits(np.int32(key >> 32))
        rows[q * k + i] = row
        scores[q * k + i] = score


def best(rows: Any, scores: Any, keys: Any, totals: Any) -> None:
    """The k best of each query's candidates, best first.

    rows    int32[Q, k], -1 past the last; k of at most MOST_HITS
    scores  float32[Q, k], 0 past the last
    keys    int64[Q, room], in any order, distinct for a query
    totals  int32[Q], how many keys each query has
    """
    Q, k = rows.shape
    room = keys.shape[1]
    if scores.shape != (Q, k) or len(keys) < Q or len(totals) < Q or not 1 <= k <= MOST_HITS:
        raise ValueError(f"hits {rows.shape}, {scores.shape} of {keys.shape}, {totals.shape}")
    sorted_room = 1 << (k - 1).bit_length()
    threads = min(THREADS, max(4, sorted_room // 4, room // 8))
    best_of_queries(
        Q, memory.flat(rows), memory.flat(scores), memory.flat(keys), totals, room, k, sorted_room,
        threads=threads, shared=8 * sorted_room,
    )  # fmt: skip
