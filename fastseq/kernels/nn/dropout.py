"""Dropout with masks that are computed, never stored: a hash of a key and an element's number.

The hash adds one half of the key to the number, stirs by xor-shifts and odd products, and brings
in the other half midway, so that the masks of two keys are not one another shifted. The
constants are those of C. Wellons' three-round 32-bit permutation "triple32" (hash-prospector,
public domain), whose bias is near that of a random permutation.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.formulas import mask_hash
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import load_row, store_row
from fastseq.kernels.simd.floats import (
    lane_numbers,
    load,
    load_part,
    select,
    splat_int,
    store,
    store_part,
)

_U32 = np.uint64(32)
_BLOCK = np.int64(1 << 32)  # elements that one 32-bit number can tell apart


@inline
def _same(x):
    """The lanes of a vector have 32 bits as they are."""
    return x


key_bits, hashed = mask_hash(inline, _same)


@jit
def drop(out, x, key, limit, scale, start, stop):
    """out[i] = x[i] · scale where i's hash, an int32, is at least `limit`, else 0.

    out, x       float32[n], may be the same array
    key          uint64
    limit        int32: a rate p drops the hashes below p · 2**32 - 2**31
    scale        float32, 1 / (1 - p)
    start, stop  int64: the elements to do; i is counted from the array's beginning
    """
    at = start
    while at < stop:
        block = at // _BLOCK
        end = min(stop, (block + 1) * _BLOCK)
        bits = key_bits(key, np.uint64(block))
        first = splat_int(np.int32(bits))
        second = splat_int(np.int32(bits >> _U32))
        while at + LANES <= end:
            kept = hashed(lane_numbers() + np.int32(at), first, second) >= limit
            store(out, at, select(kept, load(x, at) * scale, 0.0))
            at += LANES
        if at < end:
            kept = hashed(lane_numbers() + np.int32(at), first, second) >= limit
            value = load_part(x, at, end - at) * scale
            store_part(out, at, select(kept, value, 0.0), end - at)
            at = end


@jit
def drop_rows(x, rows, key, limit, scale, start, stop):
    """Rows [start, stop) of x[N, K] in place, with the mask of an array whose row rows[n] they are.

    So the mask does not depend on the order in which a batch was packed.
    """
    K = x.shape[1]
    flat = x.reshape(x.size)
    for n in range(start, stop):
        at = n * K
        number = rows[n] * K
        end = at + K
        while at < end:
            block = number // _BLOCK
            bits = key_bits(key, np.uint64(block))
            kept = (
                hashed(
                    lane_numbers() + np.int32(number),
                    splat_int(np.int32(bits)),
                    splat_int(np.int32(bits >> _U32)),
                )
                >= limit
            )
            value = load_row(flat, at, end - at) * scale
            store_row(flat, at, select(kept, value, 0.0), end - at)
            at += LANES
            number += LANES
