"""Dropout with masks that are computed, never stored: the GPU counterpart of kernels/nn/dropout.py.

An element's hash has the CPU's bits, so training can resume on another device with the same masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.core import formulas
from fastseq.kernels.cuda.nn.rows import THREADS, by_rows, row_of
from fastseq.kernels.cuda.runtime.target import SIMULATED, cuda, device_function, kernel

ZERO = np.float32(0)
BLOCK = 1 << 32  # elements that a 32-bit number can distinguish

if SIMULATED:

    @device_function
    def _wrap(x):
        """The lowest 32 bits as a signed number."""
        return (int(x) + (1 << 31)) % (1 << 32) - (1 << 31)

    @device_function
    def row_key(key, row):
        """The two halves, as int32, of the bits for a key and a row of a matrix."""
        with np.errstate(over="ignore"):
            bits = int(_key_bits(np.uint64(int(key) % (1 << 64)), np.uint64(int(row))))
        return _wrap(bits), _wrap(bits >> 32)

else:

    @device_function
    def _wrap(x):
        """The same."""
        return np.int32(x)

    _bits_on_device = formulas.mask_hash(device_function, _wrap).key_bits

    @device_function
    def row_key(key, row):
        """The same."""
        bits = _bits_on_device(np.uint64(key), np.uint64(row))
        return np.int32(bits), np.int32(bits >> np.uint64(32))


mask_bits = formulas.mask_hash(device_function, _wrap).hashed
_key_bits = formulas.mask_hash(lambda function: function, lambda x: x).key_bits


@kernel(
    "float32[::1], float32[::1], int64, int64, int64, int64, int64, float32",
    threads=THREADS, registers=48,
)  # fmt: skip
def drop_block(out, x, start, stop, first, second, limit, scale):
    """out[start:stop], within one block of 2**32 elements; first, second: its key."""
    for i in range(start + cuda.grid(1), stop, cuda.gridsize(1)):
        kept = mask_bits(i, first, second) >= limit
        out[i] = x[i] * scale if kept else ZERO


@kernel(
    "float32[::1], int32[::1], int64, int64, int64, int64, float32, int64, int64",
    threads=THREADS, registers=48,
)  # fmt: skip
def drop_rows_block(x, rows, start, first, second, limit, scale, columns, power):
    """The elements of x whose numbers are in the block of 2**32 that begins at `start`."""
    n, lane, lanes = row_of(power)
    if n >= len(rows):
        return
    before = rows[n] * columns - start
    at = n * columns
    for column in range(lane, columns, lanes):
        number = before + column
        if number >> 32 == 0:
            kept = mask_bits(number, first, second) >= limit
            x[at + column] = x[at + column] * scale if kept else ZERO


def drop(out: Any, x: Any, key: int, limit: Any, scale: Any) -> None:
    """out[i] = x[i] · scale where i's hash, an int32, is at least `limit`, else 0.

    out, x  float32, of one size; may be the same array
    key     any whole number; its low 64 bits count
    limit   int32: a rate p drops the hashes below p · 2**32 - 2**31
    scale   1 / (1 - p)
    """
    if out.size != x.size:
        raise ValueError(f"dropout of {x.size} elements into {out.size}")
    for start in range(0, x.size, BLOCK):
        stop = min(start + BLOCK, x.size)
        halves = key_halves(key, start // BLOCK)
        drop_block.each(stop - start, out, x, start, stop, *halves, limit, scale)


def drop_rows(
    x: Any, rows: Any, key: int, limit: Any, scale: Any, total: int | None = None
) -> None:
    """Apply to row n of x, in place, the mask of row rows[n] of an array of `total` rows.

    x      float32[N, F]
    rows   int32[N], 0 or more and below `total`
    total  N by default

    So the mask does not depend on the order in which a batch was packed.
    """
    N, columns = x.shape
    if len(rows) != N:
        raise ValueError(f"{len(rows)} numbers of rows for {N} rows")
    elements = (N if total is None else total) * columns
    for start in range(0, elements, BLOCK):
        halves = key_halves(key, start // BLOCK)
        by_rows(drop_rows_block, N, columns, x, rows, start, *halves, limit, scale)


def key_halves(key: int, block: int) -> tuple[int, int]:
    """The two halves, as int32, of the bits for a key and a block of 2**32 elements."""
    # arrays, since NumPy warns of single numbers that wrap around
    bits = _key_bits(np.array([key % (1 << 64)], np.uint64), np.array([block], np.uint64))
    first, second = bits.astype("<u8").view("<i4").tolist()
    return first, second
