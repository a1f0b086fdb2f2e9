"""The mask of dropout, an element at a time, in Python's whole numbers."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

ALL32 = (1 << 32) - 1
ALL64 = (1 << 64) - 1


def hashed(number: int, key: int) -> int:
    """The 32-bit hash of an element's number under a 64-bit key."""
    bits = (key + (number // 2**32 + 1) * 0x9E3779B97F4A7C15) & ALL64
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & ALL64
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & ALL64
    bits ^= bits >> 31
    x = (number + bits) & ALL32
    x = ((x ^ (x >> 17)) * 0xED5AD4BB) & ALL32
    x = ((x ^ (x >> 11) ^ (bits >> 32)) * 0xAC4C1B51) & ALL32
    x = ((x ^ (x >> 15)) * 0x31848BAB) & ALL32
    return x ^ (x >> 14)


def mask(count: int, rate: float, key: int, first: int = 0) -> Array:
    """float64[count] of 0 or 1 / (1 - rate), for the elements from `first` on."""
    # hashes are compared as signed numbers: the upper half of the 32 bits comes first
    turned = [(hashed(first + i, key) + 2**31) % 2**32 for i in range(count)]
    return np.array([1 / (1 - rate) if h >= rate * 2**32 else 0.0 for h in turned])


def mixed_key(*parts: int) -> int:
    """One key of several whole numbers: a step of splitmix64 for each."""
    key = 0
    for part in parts:
        key = ((key ^ (part & ALL64)) + 0x9E3779B97F4A7C15) & ALL64
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & ALL64
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & ALL64
        key ^= key >> 31
    return key
