"""Hash tables of strings and of uint64 keys: the memory of the kernels in kernels/text/hashing.py.

Only the holder of the lexicon's lock changes a shared one. Arrays that another thread took before
stay valid: entries never change once written, and growth allocates new arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.text import hashing, raw_words, tokenize
from fastseq.types import Int32, Int64, Texts, UInt8, UInt32, UInt64, offsets_of

Array = npt.NDArray[Any]

_SMALL = 1 << 16  # bytes of text up to which sizes are simply chosen large enough
_LARGE_TABLE = 1 << 18  # capacity from which the load factor is at most 3/4 instead of 1/2


def _max_entries(capacity: int) -> int:
    """How many entries a table of `capacity` slots may have."""
    return capacity // 2 if capacity < _LARGE_TABLE else 3 * (capacity // 4)


def _enlarged(old: Array, length: int, used: int) -> Array:
    """An array of the new length that begins with the old one's first `used` elements."""
    new = np.empty(length, old.dtype)
    new[:used] = old[:used]
    return new


def chosen_texts(data: UInt8, offsets: Int64, gap: int, chosen: Int32) -> Texts:
    """Copies of the strings data[offsets[i]:offsets[i + 1] - gap] for each i of `chosen`."""
    ends = offsets_of(offsets[1:][chosen] - offsets[:-1][chosen] - gap)
    out = np.empty(int(ends[-1]), np.uint8)
    raw_words.copy_strings(out, ends, data, offsets, gap, chosen)
    return Texts(out, ends)


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

    @property
    def nbytes(self) -> int:
        return self.size * self._values.itemsize


class _GrowingTable:
    """A table whose entries have ids 0, 1, … in the order of insertion."""

    __slots__ = ("size", "slots")

    def __init__(self, expected: int) -> None:
        capacity = 1 << expected.bit_length()
        while _max_entries(capacity) < max(expected, 1):
            capacity *= 2
        self.slots: UInt64 = np.zeros(2 * capacity, np.uint64)
        self.size: Int64 = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self.size[0])

    @property
    def max_entries(self) -> int:
        """The number of entries at which the table must grow."""
        return _max_entries(len(self.slots) // 2)

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return self.slots.nbytes

    def grow(self) -> None:
        """Enlarge the arrays, after a kernel has reported that they are full."""
        # few rehashes while it is small, little unused memory when it is large
        slots = np.zeros((4 if len(self.slots) < 1 << 18 else 2) * len(self.slots), np.uint64)
        hashing.rehash(slots, self.slots)
        self.slots = slots

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of hashing.Strings or hashing.Keys, as kernels take them."""
        raise NotImplementedError

    def _register(self, n: int, kernel: Callable[..., int], *arguments: Any) -> Int32:
        """The ids int32[n] that a kernel finds or adds, called again after each growth."""
        ids, done = np.empty(n, np.int32), 0
        while (done := kernel(ids, *self.arrays, *arguments, done)) < n:
            self.grow()
        return ids

    def intern_tokens(
        self, kernel: Callable[..., int], texts: int, capacity: int, *arguments: Any,
        scratch: int = 1,
    ) -> tuple[Int32, Int64]:  # fmt: skip
        """(ids, ends int64[texts + 1]) of the tokens that a kernel adds to this table.

        kernel : called again after each growth
        capacity : ids that fit at first
        scratch : how many of the `arguments`, the first ones, GROW_WORD enlarges
        """
        ids, ends = np.empty(capacity, np.int32), np.zeros(texts + 1, np.int64)
        progress = np.zeros(1, np.int64)
        while True:
            status = kernel(ids, ends, progress, *self.arrays, *arguments)
            if status == tokenize.DONE:
                return ids[: ends[-1]], ends
            if status == tokenize.GROW_TABLE:
                self.grow()
            elif status == tokenize.GROW_IDS:
                ids = np.concatenate([ids, np.empty(len(ids) + 16, np.int32)])
            else:
                larger = (np.empty(4 * len(old), old.dtype) for old in arguments[:scratch])
                arguments = (*larger, *arguments[scratch:])


class ByteTable(_GrowingTable):
    """Distinct byte strings.

    expected, nbytes: numbers of strings and bytes of them that fit at first; separator: 0, or a
    byte that ends every string in the arena.
    """

    __slots__ = ("arena", "offsets", "separator")

    def __init__(self, expected: int, nbytes: int, separator: int) -> None:
        super().__init__(expected)
        self.arena: UInt8 = np.empty(nbytes + hashing.PADDING, np.uint8)
        self.offsets: Int64 = np.empty(self.max_entries + 1, np.int64)
        self.offsets[0] = 0
        self.separator = separator

    @staticmethod
    def for_text(nbytes: int, separator: int) -> ByteTable:
        """A table for the words of a text of `nbytes` bytes."""
        if nbytes <= _SMALL:
            return ByteTable(nbytes // 6 + 8, 2 * nbytes + 64, separator)
        return ByteTable(nbytes // 128 + 4096, nbytes // 16 + 65536, separator)

    @property
    def arrays(self) -> tuple[UInt64, UInt8, Int64, Int64]:
        return self.slots, self.arena, self.offsets, self.size

    @property
    def nbytes(self) -> int:
        count = len(self)
        # of a table that a kernel of another thread changes, the last offset may not be written yet
        return super().nbytes + 8 * count + int(self.offsets[count])

    @property
    def gap(self) -> int:
        """Bytes between two strings in the arena."""
        return 1 if self.separator else 0

    def grow(self) -> None:
        count = len(self)
        if count >= self.max_entries:
            super().grow()
            self.offsets = _enlarged(self.offsets, self.max_entries + 1, count + 1)
        else:
            used = int(self.offsets[count])
            self.arena = _enlarged(self.arena, 2 * len(self.arena), used)

    def register(self, data: UInt8, starts: Int64, gap: int) -> Int32:
        """The ids int32[n] of the strings data[starts[i]:starts[i + 1] - gap]; adds new ones.

        hashing.PADDING bytes must be readable after the last.
        """
        kernel = hashing.register_strings
        return self._register(len(starts) - 1, kernel, data, starts, gap, self.separator)

    def texts(self) -> tuple[UInt8, Int64]:
        """(bytes, offsets int64[n + 1]) of the strings without separators, by id."""
        count = len(self)
        offsets = self.offsets[: count + 1]
        data = self.arena[: int(offsets[-1])]
        if self.separator:
            offsets = offsets - np.arange(count + 1)
            data = data[data != self.separator]
        return data, offsets


class KeyTable(_GrowingTable):
    """Distinct uint64 keys."""

    __slots__ = ("_keys",)

    def __init__(self, expected: int) -> None:
        super().__init__(expected)
        self._keys: UInt64 = np.empty(self.max_entries, np.uint64)

    @property
    def arrays(self) -> tuple[UInt64, UInt64, Int64]:
        return self.slots, self._keys, self.size

    @property
    def nbytes(self) -> int:
        return super().nbytes + 8 * len(self)

    @property
    def keys(self) -> UInt64:
        """The keys by id."""
        return self._keys[: len(self)]

    def grow(self) -> None:
        super().grow()
        self._keys = _enlarged(self._keys, self.max_entries, len(self))

    def register(self, wanted: UInt64) -> Int32:
        """The ids int32[n] of the keys; adds new ones."""
        return self._register(len(wanted), hashing.register_keys, wanted)


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
