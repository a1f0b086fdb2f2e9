"""Keys of random number generators."""

from __future__ import annotations

_64_BITS = (1 << 64) - 1


def mixed_key(*parts: int) -> int:
    """One 64-bit key from several whole numbers, such as a seed, a step and a layer's number.

    Each is mixed in by a step of splitmix64 (Steele, Lea and Flood 2014), so that other numbers, or
    the same in another order, give unrelated keys.
    """
    key = 0
    for part in parts:
        key = (key ^ (int(part) & _64_BITS)) + 0x9E3779B97F4A7C15 & _64_BITS
        key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & _64_BITS
        key = (key ^ key >> 27) * 0x94D049BB133111EB & _64_BITS
        key ^= key >> 31
    return key
