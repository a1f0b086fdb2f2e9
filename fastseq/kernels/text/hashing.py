"""Hash tables: bytes -> id and uint64 -> id, in memory and on disk.

Open addressing with linear probing over a power of two of slots. The caller decides how full a
table may be, of a growing one by the length of `offsets` or `keys`. Equal hashes never decide: keys
are compared whole. Ids count up from 0 in the order of insertion. The hash function is
multiply-and-fold (the halves of a 128-bit product xor-ed), the step of Wang Yi's wyhash; the byte
order of a table on disk is little-endian.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt32, UInt64
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.simd.bytes import load4, load8, multiply_fold, prefetch

_C1 = np.uint64(0x9E3779B97F4A7C15)
_C2 = np.uint64(0xD6E8FEB86659FD93)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW32 = np.uint64(0xFFFFFFFF)
_U0, _U1, _U2, _U3, _U4, _U8, _U16, _U32, _U64 = (
    np.uint64(n) for n in (0, 1, 2, 3, 4, 8, 16, 32, 64)
)
_AHEAD = np.uint64(16)  # strings whose slots are prefetched
PADDING = 8  # bytes that must be readable after the strings that intern_bytes gets


class Strings(NamedTuple):
    """A growing table of byte strings. From Python, kernels take its arrays as separate arguments:
    a tuple would cost each call 1 µs.

    Slot i is (slots[2i], slots[2i + 1]): a string of up to 8 bytes, zero-padded, or the hash of a
    longer one; and length << 32 | id + 1, or 0 when the slot is free.
    """

    slots: UInt64  # [2 * capacity]
    arena: UInt8  # the strings one after the other, a separator after each or none
    offsets: Int64  # string i starts at arena[offsets[i]]; offsets[count] is the end. The table is
    # full when there is no room for another; that must be before all slots are taken
    size: Int64  # [1] the number of strings, `count`


class Keys(NamedTuple):
    """A growing table of uint64 keys; slots as in Strings, with length 0."""

    slots: UInt64  # [2 * capacity]
    keys: UInt64  # by id, with room for fewer than capacity
    size: Int64  # [1] the number of keys


@inline
def mix(value, length):
    """The hash of one uint64 (up to 8 bytes of a string) and the string's length."""
    return multiply_fold(value ^ _C1, length ^ _C2)


@inline
def hash_bytes(data, start, stop):
    """The uint64 hash of data[start:stop] (uint8); reads no byte outside of it."""
    at = np.uint64(start)
    end = np.uint64(stop)
    length = end - at
    if length <= _U8:
        if length >= _U4:
            value = load4(data, at) | (load4(data, end - _U4) << _U32)
        elif length > _U0:
            value = np.uint64(data[at])
            value |= np.uint64(data[at + (length >> _U1)]) << _U8
            value |= np.uint64(data[end - _U1]) << _U16
        else:
            value = _U0
        return mix(value, length)
    h = length
    while at + _U8 < end:
        h = multiply_fold(h ^ load8(data, at) ^ _C1, _C2)
        at += _U8
    return multiply_fold(h ^ load8(data, end - _U8) ^ _C2, _C1)


@inline
def same_bytes(a, at, b, bt, length):
    """Whether `length` bytes of a from `at` and of b from `bt` are equal."""
    if length < _U8:
        for i in range(length):  # noqa: SIM110 (Numba has no generator expressions)
            if a[at + np.uint64(i)] != b[bt + np.uint64(i)]:
                return False
        return True
    last = length - _U8
    i = _U0
    while i < last:
        if load8(a, at + i) != load8(b, bt + i):
            return False
        i += _U8
    return load8(a, at + last) == load8(b, bt + last)


@inline
def find_or_add(table, key, h, data, start, length, separator):
    """The id of a string in Strings; adds it. -1: the table must grow first.

    key, h: of key_and_hash. separator: 0, or the byte that ends every string in the arena.
    """
    slots, arena, offsets, size = table.slots, table.arena, table.offsets, table.size
    mask = np.uint64(len(slots) >> 1) - _U1
    slot = h & mask
    while True:
        entry = slots[(slot << _U1) | _U1]
        if entry == _U0:
            break
        if slots[slot << _U1] == key and (entry >> _U32) == length:
            found = (entry & _LOW32) - _U1
            if length <= _U8 or same_bytes(arena, np.uint64(offsets[found]), data, start, length):
                return np.int64(found)
        slot = (slot + _U1) & mask
    count = np.uint64(size[0])
    begin = np.uint64(offsets[count])
    if (
        count + _U2 > np.uint64(len(offsets))
        or begin + length + _U16 > np.uint64(len(arena))  # an eight-byte load of it stays inside
    ):
        return np.int64(-1)
    for i in range(length):
        arena[begin + np.uint64(i)] = data[start + np.uint64(i)]
    end = begin + length
    if separator:
        arena[end] = np.uint8(separator)
        end += _U1
    offsets[count + _U1] = np.int64(end)
    size[0] += 1
    slots[slot << _U1] = key
    slots[(slot << _U1) | _U1] = (length << _U32) | (count + _U1)
    return np.int64(count)


@inline
def key_and_hash(data, start, length):
    """What find_or_add needs of data[start:start + length]; PADDING bytes must follow."""
    if length == _U0:
        return _U0, mix(_U0, length) >> _U1
    if length <= _U8:
        key = load8(data, start) & (_ALL >> (_U64 - (length << _U3)))  # the first bytes, then 0
        return key, mix(key, length) >> _U1
    key = hash_bytes(data, start, start + length)
    return key, key >> _U1


@inline
def intern_bytes(table, data, start, length, separator):
    """find_or_add of data[start:start + length], with PADDING bytes readable after it."""
    key, h = key_and_hash(data, start, length)
    return find_or_add(table, key, h, data, start, length, separator)


@jit
def rehash(out: UInt64, slots: UInt64) -> None:
    """Move the entries of a growing table to `out`, zeroed and of another capacity."""
    mask = np.uint64(len(out) >> 1) - _U1
    for i in range(np.uint64(len(slots) >> 1)):
        at = np.uint64(i) << _U1
        entry = slots[at | _U1]
        if entry != _U0:
            key = slots[at]
            length = entry >> _U32
            slot = ((mix(key, length) if length <= _U8 else key) >> _U1) & mask
            while out[(slot << _U1) | _U1] != _U0:
                slot = (slot + _U1) & mask
            out[slot << _U1] = key
            out[(slot << _U1) | _U1] = entry


@jit
def register_strings(
    ids: Int32, slots: UInt64, arena: UInt8, offsets: Int64, size: Int64, data: UInt8,
    starts: Int64, gap: int, separator: int, first: int,
) -> int:  # fmt: skip
    """ids[i] = the id of string i, for i from `first`; new strings are added.

    String i is data[starts[i]:starts[i + 1] - gap]; PADDING bytes must be readable after the
    last. Returns the first i not done, because the table must grow before it, or len(ids).
    """
    table = Strings(slots, arena, offsets, size)
    less = np.uint64(gap)
    mask = np.uint64(len(table.slots) >> 1) - _U1
    ahead = np.uint64(first)
    for i in range(np.uint64(first), np.uint64(len(ids))):
        stop = min(np.uint64(i) + _AHEAD, np.uint64(len(ids)))
        while ahead < stop:
            start = np.uint64(starts[ahead])
            ahead += _U1
            _, h = key_and_hash(data, start, np.uint64(starts[ahead]) - start - less)
            prefetch(table.slots, (h & mask) << _U1)
        start = np.uint64(starts[i])
        length = np.uint64(starts[np.uint64(i) + _U1]) - start - less
        known = intern_bytes(table, data, start, length, separator)
        if known < 0:
            return np.int64(i)
        ids[i] = known
    return np.int64(len(ids))


@inline
def find_key(slots, key):
    """(id + 1 of a uint64 in Keys, its slot), or (0, the free slot where it belongs)."""
    mask = np.uint64(len(slots) >> 1) - _U1
    slot = (mix(key, _U0) >> _U1) & mask
    while True:
        entry = slots[(slot << _U1) | _U1]
        if entry == _U0 or slots[slot << _U1] == key:
            return entry, slot
        slot = (slot + _U1) & mask


@inline
def find_or_add_key(table, key):
    """The id of a uint64 in Keys; adds it. -1: the table must grow first."""
    slots, keys, size = table.slots, table.keys, table.size
    entry, slot = find_key(slots, key)
    if entry != _U0:
        return np.int64(entry - _U1)
    count = np.uint64(size[0])
    if count >= np.uint64(len(keys)):
        return np.int64(-1)
    keys[count] = key
    size[0] += 1
    slots[slot << _U1] = key
    slots[(slot << _U1) | _U1] = count + _U1
    return np.int64(count)


@jit
def register_keys(
    ids: Int32, slots: UInt64, keys: UInt64, size: Int64, wanted: UInt64, first: int
) -> int:
    """ids[i] = the id of wanted[i], for i from `first`; new keys are added.

    Returns the first i not done, because the table must grow before it, or len(ids).
    """
    for i in range(np.uint64(first), np.uint64(len(ids))):
        known = find_or_add_key(Keys(slots, keys, size), wanted[i])
        if known < 0:
            return np.int64(i)
        ids[i] = known
    return np.int64(len(ids))


@jit
def hash_rows(out: UInt64, data: UInt8, offsets: Int64) -> None:
    """out uint64[n]: the hash of each string data[offsets[i]:offsets[i + 1]]."""
    for row in range(np.uint64(len(out))):
        out[row] = hash_bytes(data, offsets[row], offsets[row + _U1])


@jit
def build_slots(slots: UInt32, term_bytes: UInt8, term_offsets: Int64) -> None:
    """Fill the hash table of a static dictionary: V distinct terms, ids in order.

    slots         uint32[capacity]  zeroed, a power of two above V; becomes id + 1, 0 when free
    term_bytes    uint8[n]
    term_offsets  int64[V + 1]      term i is term_bytes[term_offsets[i]:term_offsets[i + 1]]
    """
    mask = np.uint64(len(slots)) - _U1
    for i in range(np.uint64(len(term_offsets) - 1)):
        at = np.uint64(i)
        slot = hash_bytes(term_bytes, term_offsets[at], term_offsets[at + _U1]) & mask
        while slots[slot] != 0:
            slot = (slot + _U1) & mask
        slots[slot] = np.uint32(at + _U1)


@jit
def lookup(
    out: Int32, slots: UInt32, term_bytes: UInt8, term_offsets: Int64, query_bytes: UInt8,
    query_offsets: Int64,
) -> None:  # fmt: skip
    """out[i] = the id of string i in a dictionary of build_slots, or -1 if it is absent.

    String i is query_bytes[query_offsets[i]:query_offsets[i + 1]]. Slots and term offsets may
    hold anything (a damaged file): nothing outside the arrays is read, and every search ends.
    """
    mask = np.uint64(len(slots)) - _U1
    n_terms = np.uint64(len(term_offsets)) - _U1
    for i in range(np.uint64(len(out))):
        start = np.uint64(query_offsets[i])
        length = np.uint64(query_offsets[np.uint64(i) + _U1]) - start
        slot = hash_bytes(query_bytes, start, start + length) & mask
        out[i] = -1
        for _ in range(len(slots)):
            entry = np.uint64(slots[slot])
            if entry == _U0:
                break
            if entry <= n_terms:
                begin = term_offsets[entry - _U1]
                end = term_offsets[entry]
                if (
                    begin >= 0
                    and end <= len(term_bytes)
                    and end - begin == np.int64(length)
                    and same_bytes(term_bytes, np.uint64(begin), query_bytes, start, length)
                ):
                    out[i] = np.int32(entry - _U1)
                    break
            slot = (slot + _U1) & mask
