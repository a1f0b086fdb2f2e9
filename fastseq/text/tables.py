"""Growing arrays and hash tables: the memory behind the kernels of kernels/text/hashing.py.

Only a holder of the lexicon's turn changes a shared one. What another thread took before stays
good: entries never change once written, and growth makes a new array beside the old.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.text import hashing
from fastseq.types import Int32, Int64, Texts, UInt8, UInt32, UInt64

Array = npt.NDArray[Any]


def _enlarged(old: Array, length: int, used: int) -> Array:
    """An array of the new length that begins with the old one's first `used` elements."""
    new = np.empty(length, old.dtype)
    new[:used] = old[:used]
    return new


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 1).bit_length()


def _larger(capacity: int) -> int:
    """The next capacity of a table: few steps while it is small, little waste when it is large."""
    return capacity * (4 if capacity < 1 << 17 else 2)


class Column:
    """A one-dimensional array that grows at its end."""

    __slots__ = ("_values", "size")

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._values: Array = np.empty(0, dtype)
        self.size = 0

    def append(self, values: Array) -> None:
        if not self.size:
            self._values, self.size = values, len(values)
            return
        end = self.size + len(values)
        if end > len(self._values):
            self._values = _enlarged(self._values, end + end // 2, self.size)
        self._values[self.size : end] = values
        self.size = end

    @property
    def values(self) -> Array:
        return self._values[: self.size]


class ByteTable:
    """Distinct byte strings, each with an id: 0, 1, … in the order of insertion.

    expected: how many strings, nbytes: how many bytes of them there is room for at first;
    separator: 0, or a byte that closes every string in the arena.
    """

    __slots__ = ("arena", "offsets", "separator", "size", "slots")

    def __init__(self, expected: int, nbytes: int, separator: int) -> None:
        capacity = _power_of_two(2 * expected + 2)
        self.slots: UInt64 = np.zeros(2 * capacity, np.uint64)
        self.arena: UInt8 = np.empty(nbytes + hashing.PADDING, np.uint8)
        self.offsets: Int64 = np.empty(capacity // 2 + 4, np.int64)
        self.offsets[0] = 0
        self.size: Int64 = np.zeros(1, np.int64)
        self.separator = separator

    def __len__(self) -> int:
        return int(self.size[0])

    @property
    def gap(self) -> int:
        """Bytes between two strings in the arena."""
        return 1 if self.separator else 0

    def grow(self) -> None:
        """Make room, after a kernel has found that there is none."""
        count = len(self)
        if 2 * count + 1 >= len(self.slots) // 2:
            capacity = _larger(len(self.slots) // 2)
            slots = np.zeros(2 * capacity, np.uint64)
            hashing.rehash(slots, self.slots)
            self.slots = slots
            self.offsets = _enlarged(self.offsets, capacity // 2 + 4, count + 1)
        else:
            used = int(self.offsets[count])
            self.arena = _enlarged(self.arena, 2 * len(self.arena), used)

    def register(self, data: UInt8, starts: Int64, gap: int) -> Int32:
        """The ids int32[n] of the strings data[starts[i]:starts[i + 1] - gap]; adds new ones.

        hashing.PADDING bytes must be readable after the last.
        """
        ids = np.empty(len(starts) - 1, np.int32)
        done = 0
        while True:
            done = hashing.register_words(
                ids,
                self.slots,
                self.arena,
                self.offsets,
                self.size,
                data,
                starts,
                gap,
                self.separator,
                done,
            )
            if done == len(ids):
                return ids
            self.grow()

    def texts(self) -> tuple[UInt8, Int64]:
        """(bytes, offsets int64[n + 1]) of the strings without separators, by id."""
        count = len(self)
        offsets = self.offsets[: count + 1]
        data = self.arena[: int(offsets[-1])]
        if self.separator:
            offsets = offsets - np.arange(count + 1)
            data = data[data != self.separator]
        return data, offsets


class KeyTable:
    """Distinct uint64 keys, each with an id: 0, 1, … in the order of insertion."""

    __slots__ = ("_keys", "size", "slots")

    def __init__(self, expected: int) -> None:
        capacity = _power_of_two(2 * expected + 2)
        self.slots: UInt64 = np.zeros(2 * capacity, np.uint64)
        self._keys: UInt64 = np.empty(capacity // 2 + 2, np.uint64)
        self.size: Int64 = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self.size[0])

    @property
    def keys(self) -> UInt64:
        """The keys by id."""
        return self._keys[: len(self)]

    @property
    def room(self) -> UInt64:
        """The array the kernels write keys to, longer than there are keys."""
        return self._keys

    def grow(self) -> None:
        """Make room, after a kernel has found that there is none."""
        capacity = _larger(len(self.slots) // 2)
        slots = np.zeros(2 * capacity, np.uint64)
        hashing.rehash_keys(slots, self.slots)
        self.slots = slots
        self._keys = _enlarged(self._keys, capacity // 2 + 2, len(self))

    def register(self, wanted: UInt64) -> Int32:
        """The ids int32[n] of the keys; adds new ones."""
        ids = np.empty(len(wanted), np.int32)
        done = 0
        while True:
            done = hashing.register_keys(ids, self.slots, self._keys, self.size, wanted, done)
            if done == len(ids):
                return ids
            self.grow()


class Dictionary:
    """A fixed vocabulary that finds terms.

    slots : uint32, the hash table that kernels.text.hashing.build_slots filled; None: build it
    """

    def __init__(self, terms: Texts, slots: UInt32 | None = None) -> None:
        self._terms = terms
        if slots is None:
            slots = np.zeros(1 << max(2 * len(terms), 1).bit_length(), np.uint32)
            hashing.build_slots(slots, terms.data, terms.offsets)
        self._slots = slots

    def columns(self, terms: Texts) -> Int32:
        """int32[len(terms)]: the place of each in the vocabulary, or -1."""
        out = np.empty(len(terms), np.int32)
        hashing.lookup(
            out, self._slots, self._terms.data, self._terms.offsets, terms.data, terms.offsets
        )
        return out
