"""Exhaustive scoring of many queries, window by window, and the top k of each: the GPU counterpart
of kernels/search/search.py and kernels/core/topk.py.

A block has one query and one window of documents, with their scores in shared memory. It adds the
query's terms in the order given, with a barrier after each, so that no sum depends on the order of
threads: a document occurs once in a term's list. The best of the window are appended to the query's
candidates, and one block for each query takes the best of those.

Blocks are numbered with the query first and the window second. Once a window has k hits, the least
of them is a lower bound for later windows (`floors`); whether a block sees the bound changes its
work, never the result.

A candidate is one int64 key, as on the CPU, but of positive scores only: the score's bits above the
complement of the document number, so that keys are positive, 0 stands for none, and ties go to the
smaller document number. A block finds the k-th largest key by radix selection: it counts the keys
by their highest byte and continues in the byte with the k-th; keys are distinct, so exactly k of
them are no smaller. Counts are sums of integers, independent of the threads' order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32, int32, int64

from fastseq.kernels.cuda.runtime.instructions import bits, from_bits
from fastseq.kernels.cuda.runtime.target import SIMULATED, blocks_for, cuda, device_function, kernel

THREADS = 512
ZERO = np.float32(0)

MOST_HITS = 4096  # that a block can sort
DIGIT_BITS = 8
BINS = 1 << DIGIT_BITS
GROUP = 8  # bins whose counts are summed, so that one thread does not read all of them
GROUPS = BINS // GROUP
CHOSEN = BINS + GROUPS
LEFT = CHOSEN + 1
TABLE = LEFT + 1  # entries of the table that a selection needs
LAST_ROW = (1 << 31) - 1
KEY_SHIFT = 56  # of the highest byte of `make_key`'s keys

MOST_WIDTH = 1 << 14  # documents of a window: 64 KB of scores, two blocks a multiprocessor
PLACE_BITS = 16  # of a document's place in its window
LAST_PLACE = (1 << PLACE_BITS) - 1
PLACE_SHIFT = 40  # of the highest byte of a key of 31 bits of score, 16 of place

if SIMULATED:

    @device_function
    def product(a, b):
        """a b of float32, rounded before anything is added to it."""
        return a * b

else:
    # a plain product would be fused with the sum, and rounded otherwise than on the CPU
    product = cuda.libdevice.fmul_rn


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

        All threads of the block call it and get the same result.
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
            if inside == left:  # every key of this byte is wanted: lower bytes do not matter
                break
            at -= DIGIT_BITS
        return found << max(at, np.int64(0))

    return kth_largest


_kth_key = selection(lambda keys, i: keys[i])


@kernel(
    "int32[::1], float32[::1], int64[::1], int32[::1], int64, int64, int64",
    threads=THREADS, registers=48, shared=8 * MOST_HITS,
)  # fmt: skip
def best_of_queries(rows, scores, keys, totals, capacity, k, sorted_size):
    """The k best of each query's candidates, best first; a block is a query.

    rows         int32[Q · k], -1 past the last
    scores       float32[Q · k], 0 past the last
    keys         int64[Q · capacity]
    totals       int32[Q], how many keys each query has
    sorted_size  a power of two of at least k, at most MOST_HITS: int64 of dynamic shared memory
    """
    best = cuda.shared.array(0, int64)
    table = cuda.shared.array(TABLE, int32)
    taken = cuda.shared.array(1, int32)
    thread = cuda.threadIdx.x
    threads = cuda.blockDim.x
    q = np.int64(cuda.blockIdx.x)
    n = np.int64(totals[q])
    own = keys[q * capacity : q * capacity + n]
    least = np.int64(1)
    if n > k:
        least = _kth_key(own, n, k, KEY_SHIFT, table)
    for i in range(thread, sorted_size, threads):
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
    while run <= sorted_size:
        step = run >> 1
        while step > 0:
            i = np.int64(thread)
            while i < sorted_size:  # a range would divide to count its steps
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
    keys    int64[Q, capacity], in any order, distinct for a query
    totals  int32[Q], how many keys each query has
    """
    Q, k = rows.shape
    capacity = keys.shape[1]
    if scores.shape != (Q, k) or len(keys) < Q or len(totals) < Q or not 1 <= k <= MOST_HITS:
        raise ValueError(f"hits {rows.shape}, {scores.shape} of {keys.shape}, {totals.shape}")
    sorted_size = 1 << (k - 1).bit_length()
    threads = min(THREADS, max(4, sorted_size // 4, capacity // 8))
    best_of_queries(
        Q, rows, scores, keys, totals, capacity, k, sorted_size, threads=threads,
        shared=8 * sorted_size,
    )  # fmt: skip


_kth_place = selection(
    lambda scores, i: (
        (np.int64(bits(scores[i])) << PLACE_BITS) | (LAST_PLACE - i)
        if scores[i] > ZERO
        else np.int64(0)
    )
)


@kernel("int32[::1], int32[::1], int64[::1], int32[::1], int64, int64", threads=256, registers=40)
def find_bounds(bounds, docs, at, counts, width, windows):
    """bounds int32[n · (windows + 1)]: the number of postings of a list before each window."""
    for i in range(cuda.grid(1), len(bounds), cuda.gridsize(1)):
        j = i // (windows + 1)
        document = (i % (windows + 1)) * width
        first = at[j]
        low = np.int64(0)
        high = np.int64(counts[j])
        while low < high:
            middle = (low + high) >> 1
            if docs[first + middle] < document:
                low = middle + 1
            else:
                high = middle
        bounds[i] = low


@kernel(
    "int64[::1], int32[::1], int32[::1], int32[::1], float32[::1], int64[::1], float32[::1], "
    "int32[::1], int32[::1], float32[::1], int64, int64, int64, int64, int64",
    threads=THREADS, registers=64, shared=4 * MOST_WIDTH,
)  # fmt: skip
def score_windows(
    keys, totals, floors, docs, parts, at, weights, starts, bounds, base, width, windows, documents,
    k, capacity,
):  # fmt: skip
    """The candidates of a query in a window; one block for each pair, the query index varying
    fastest.

    See `score`. Dynamic shared memory: float32[width].
    """
    scores = cuda.shared.array(0, float32)
    table = cuda.shared.array(TABLE, int32)
    found = cuda.shared.array(3, int32)  # candidates, the floor, then where the keys go
    thread = cuda.threadIdx.x
    threads = cuda.blockDim.x
    Q = len(base)
    q = cuda.blockIdx.x % Q
    window = cuda.blockIdx.x // Q
    first = np.int64(window) * width
    touched = False
    for j in range(starts[q], starts[q + 1]):
        place = np.int64(j) * (windows + 1) + window
        touched = touched or bounds[place] < bounds[place + 1]
    if not touched:
        return
    for i in range(thread, width, threads):
        scores[i] = ZERO
    if thread == 0:
        found[0] = 0
        found[1] = floors[q]
    cuda.syncthreads()
    for j in range(starts[q], starts[q + 1]):
        place = np.int64(j) * (windows + 1) + window
        low = np.int64(bounds[place])
        high = np.int64(bounds[place + 1])
        if low < high:
            weight = weights[j]
            p = at[j] + low + thread
            stop = at[j] + high
            while p < stop:  # a range would divide to count its steps
                i = docs[p] - first
                if i >= 0 and i < width:  # a damaged file's lists need not ascend
                    scores[i] += product(weight, parts[p])
                p += threads
            cuda.syncthreads()
    floor = found[1]
    constant = base[q]
    count = 0
    inside = min(width, documents - first)
    for i in range(thread, width, threads):
        score = scores[i]
        if score > ZERO:
            score += constant
            if i < inside and bits(score) >= floor:
                count += 1
            else:
                score = ZERO
            scores[i] = score
    if count > 0:
        cuda.atomic.add(found, 0, count)
    cuda.syncthreads()
    total = np.int64(found[0])
    if total == 0:
        return
    least = np.int64(1)
    if total > k:
        least = _kth_place(scores, width, k, PLACE_SHIFT, table)
        total = np.int64(k)
        if thread == 0:
            cuda.atomic.max(floors, q, np.int32(least >> PLACE_BITS))
    if thread == 0:
        found[2] = cuda.atomic.add(totals, q, np.int32(total))
    cuda.syncthreads()
    for i in range(thread, width, threads):
        score = scores[i]
        if score > ZERO:
            key = (np.int64(bits(score)) << PLACE_BITS) | (LAST_PLACE - i)
            if key >= least:
                slot = cuda.atomic.add(found, 2, 1)
                keys[q * capacity + slot] = make_key(score, first + i)


def window_width(documents: int, most: int = MOST_WIDTH) -> int:
    """Documents of a window for a collection of `documents`: a power of two."""
    return min(most, max(32, 1 << (documents - 1).bit_length()))


def score(
    keys: Any, totals: Any, floors: Any, bounds: Any, postings: tuple[Any, Any],
    lists: tuple[Any, Any, Any, Any], base: Any, documents: int, width: int, k: int,
) -> None:  # fmt: skip
    """Candidates for the k best documents of each of Q queries, for `best`.

    keys       int64[Q, windows · min(k, width)]
    totals     int32[Q], zeros before: how many keys each query has
    floors     int32[Q], zeros before: bits of the lowest score that a candidate needs
    bounds     int32[n, windows + 1], scratch
    postings   (documents int32[P], parts float32[P])
    lists      (starts int32[Q + 1], where in postings each list begins int64[n], its length
               int32[n], its weight float32[n] > 0); a query's lists are added in their order
    base       float32[Q], 0 or more, added to the score of every hit
    documents  of the collection; those past it are left out
    width      documents of a window
    """
    docs, parts = postings
    starts, at, counts, weights = lists
    Q, n = len(base), len(weights)
    windows = blocks_for(documents, width)
    capacity = keys.shape[1]
    if (
        bounds.shape != (n, windows + 1) or len(starts) != Q + 1 or len(at) != n
        or len(counts) != n or len(docs) != len(parts) or min(len(totals), len(floors)) < Q
        or len(keys) < Q or capacity < windows * min(k, width) or width > LAST_PLACE + 1
    ):  # fmt: skip
        raise ValueError(f"{Q} queries of {n} lists: {keys.shape}, {bounds.shape}, {width}")
    find_bounds.each(n * (windows + 1), bounds, docs, at, counts, width, windows, most=1 << 16)
    score_windows(
        Q * windows, keys, totals, floors, docs, parts, at, weights, starts, bounds, base, width,
        windows, documents, k, capacity, threads=min(THREADS, max(4, width // 16)),
        shared=4 * width,
    )  # fmt: skip
