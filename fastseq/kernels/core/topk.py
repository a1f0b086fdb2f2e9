"""The k best of a stream of scored documents, ties to the smaller document number.

A candidate is one uint64 key: the score's bits, mapped so that unsigned order is float order, above
the complement of the document number. A larger key is a better hit and no two are equal, so the
order is total: score descending, then document ascending. Candidates are appended to a buffer; when
it is full a quickselect retains the best k and the k-th becomes the threshold. A candidate costs
O(1) on average for any k, where a heap costs O(log k) (at k = 1000 the heap was the largest part of
a query).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from fastseq.kernels.core.intrinsics import llvm
from fastseq.kernels.core.jit import helper, inline

# the 32 bits of a float32 as uint32, and the reverse
float_bits = llvm(types.uint32, types.float32)(lambda b, x: b.bitcast(x, ir.IntType(32)))
bits_float = llvm(types.float32, types.uint32)(lambda b, i: b.bitcast(i, ir.FloatType()))

SIGN = np.uint32(0x80000000)
ALL = np.uint32(0xFFFFFFFF)


@inline
def make_key(score, document):
    """uint64 key of (score float32, document); larger is better."""
    bits = float_bits(np.float32(score))
    bits = ~bits if bits & SIGN else bits | SIGN
    return (np.uint64(bits) << np.uint64(32)) | np.uint64(ALL - np.uint32(document))


@inline
def key_score(key):
    """The float32 score inside a key."""
    bits = np.uint32(key >> np.uint64(32))
    bits = bits & ~SIGN if bits & SIGN else ~bits
    return bits_float(bits)


@inline
def key_document(key):
    """The document number inside a key."""
    return np.int64(ALL - np.uint32(key & np.uint64(ALL)))


@helper
def select_best(keys, n, k):
    """Move the k largest of keys[:n] to the front, in no order; returns the smallest of them.

    Hoare's quickselect with a median-of-three pivot. Needs 1 <= k <= n.
    """
    low = np.int64(0)
    high = np.int64(n - 1)
    target = np.int64(k - 1)
    while low < high:
        a = keys[np.uint64(low)]
        b = keys[np.uint64((low + high) >> 1)]
        c = keys[np.uint64(high)]
        pivot = max(min(a, b), min(max(a, b), c))
        i = low
        j = high
        while i <= j:
            while keys[np.uint64(i)] > pivot:
                i += 1
            while keys[np.uint64(j)] < pivot:
                j -= 1
            if i <= j:
                left = keys[np.uint64(i)]
                keys[np.uint64(i)] = keys[np.uint64(j)]
                keys[np.uint64(j)] = left
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return keys[np.uint64(target)]


@helper
def sort_descending(keys, spare, n):
    """Sort keys[:n], largest first; spare is uint64[>= n].

    Bottom-up merge sort over runs of 16 made by insertion: no recursion, n log n always.
    """
    run = 16
    for start in range(0, n, run):
        stop = min(start + run, n)
        for i in range(start + 1, stop):
            key = keys[np.uint64(i)]
            j = i
            while j > start and keys[np.uint64(j - 1)] < key:
                keys[np.uint64(j)] = keys[np.uint64(j - 1)]
                j -= 1
            keys[np.uint64(j)] = key
    while run < n:
        for start in range(0, n, 2 * run):
            middle = min(start + run, n)
            stop = min(start + 2 * run, n)
            i = start
            j = middle
            for out in range(start, stop):
                if i < middle and (j >= stop or keys[np.uint64(i)] > keys[np.uint64(j)]):
                    spare[np.uint64(out)] = keys[np.uint64(i)]
                    i += 1
                else:
                    spare[np.uint64(out)] = keys[np.uint64(j)]
                    j += 1
        for i in range(n):
            keys[np.uint64(i)] = spare[np.uint64(i)]
        run *= 2
