"""Scores of all documents for many queries at once, window by window: see kernels/search/search.py.

A block has one query and one window of documents, whose scores are in shared memory. It adds the
query's terms in the order given, with a barrier between two, so that no sum depends on the order of
threads: a document occurs once in a term's list. The window's best are appended to the query's
candidates, out of which topk.py takes the best of all.

Blocks go through the queries first and the windows second. Once a window has k hits, the least of
them bounds what a later window may add (`floors`); whether a block comes in time to see the bound
changes its work, never the result. Nothing else is left out: this is the exhaustive search.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, int32

from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.scalars import bits
from fastseq.kernels.cuda.runtime.target import SIMULATED, blocks_for, cuda, device_function, kernel
from fastseq.kernels.cuda.search.topk import TABLE, make_key, selection

MOST_WIDTH = 1 << 14  # documents of a window: 64 KB of scores, two blocks a multiprocessor
THREADS = 512
ZERO = np.float32(0)
PLACE_BITS = 16  # of a document's place in its window
LAST_PLACE = (1 << PLACE_BITS) - 1
PLACE_SHIFT = 40  # of the highest byte of a key of 31 bits of score, 16 of place

if SIMULATED:

    @device_function
    def product(a, b):
        """a b of float32, rounded before anything is added to it."""
        return a * b

else:
    # a plain product would be contracted with the sum it goes into, and round otherwise than the
    # CPU's
    product = cuda.libdevice.fmul_rn


_kth_place = selection(
    lambda scores, i: (
        (np.int64(bits(scores[i])) << PLACE_BITS) | (LAST_PLACE - i)
        if scores[i] > ZERO
        else np.int64(0)
    )
)


@kernel(
    "int32[::1], int32[::1], int64[::1], int32[::1], int64, int64",
    threads=256,
    registers=40,
)
def find_bounds(bounds, docs, at, counts, width, windows):
    """bounds int32[n · (windows + 1)]: how many postings of a list lie before each window."""
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
    threads=THREADS,
    registers=64,
    shared=4 * MOST_WIDTH,
)
def score_windows(
    keys, totals, floors, docs, parts, at, weights, starts, bounds, base, width, windows, documents,
    k, room,
):  # fmt: skip
    """The candidates of a query in a window; a block is one of each, the query counting fastest.

    See `score`. Dynamic shared memory: float32[width].
    """
    scores = cuda.shared.array(0, float32)
    table = cuda.shared.array(TABLE, int32)
    said = cuda.shared.array(3, int32)  # candidates, the floor, then where the keys go
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
        said[0] = 0
        said[1] = floors[q]
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
    floor = said[1]
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
        cuda.atomic.add(said, 0, count)
    cuda.syncthreads()
    total = np.int64(said[0])
    if total == 0:
        return
    least = np.int64(1)
    if total > k:
        least = _kth_place(scores, width, k, PLACE_SHIFT, table)
        total = np.int64(k)
        if thread == 0:
            cuda.atomic.max(floors, q, np.int32(least >> PLACE_BITS))
    if thread == 0:
        said[2] = cuda.atomic.add(totals, q, np.int32(total))
    cuda.syncthreads()
    for i in range(thread, width, threads):
        score = scores[i]
        if score > ZERO:
            key = (np.int64(bits(score)) << PLACE_BITS) | (LAST_PLACE - i)
            if key >= least:
                slot = cuda.atomic.add(said, 2, 1)
                keys[q * room + slot] = make_key(score, first + i)


def window_width(documents: int, most: int = MOST_WIDTH) -> int:
    """Documents of a window, for a collection of so many: a power of two."""
    return min(most, max(32, 1 << (documents - 1).bit_length()))


def score(
    keys: Any,
    totals: Any,
    floors: Any,
    bounds: Any,
    postings: tuple[Any, Any],
    lists: tuple[Any, Any, Any, Any],
    base: Any,
    documents: int,
    width: int,
    k: int,
) -> None:
    """Candidates for the k best documents of each of Q queries: topk.py's keys, in any order.

    keys       int64[Q, windows · min(k, width)]
    totals     int32[Q], zeros before: how many keys each query has
    floors     int32[Q], zeros before: bits of a score that a candidate reaches
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
    windows = -(-documents // width)
    room = keys.shape[1]
    if (
        bounds.shape != (n, windows + 1) or len(starts) != Q + 1 or len(at) != n
        or len(counts) != n or len(docs) != len(parts) or min(len(totals), len(floors)) < Q
        or len(keys) < Q or room < windows * min(k, width) or width > LAST_PLACE + 1
    ):  # fmt: skip
        raise ValueError(f"{Q} queries of {n} lists: {keys.shape}, {bounds.shape}, {width}")
    edges = n * (windows + 1)
    find_bounds(
        blocks_for(edges, 256, 1 << 16), memory.flat(bounds), docs, at, counts, width, windows,
        threads=min(256, edges),
    )  # fmt: skip
    score_windows(
        Q * windows, memory.flat(keys), totals, floors, docs, parts, at, weights, starts,
        memory.flat(bounds), base, width, windows, documents, k, room,
        threads=min(THREADS, max(4, width // 16)), shared=4 * width,
    )  # fmt: skip
