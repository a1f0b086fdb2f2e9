"""UTF-8 and the Unicode tables: decode, encode, validate, look up.

The tables are those of fastseq/text/unicode.npz (tools/make_unicode_tables.py says how they are
laid out). Decoding trusts its input: `first_invalid` has to have passed it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.simd.bytes import load8, non_ascii64, trailing_zeros

WORD = 1  # the bits of a code point's flags
SPACE = 2
CASED = 4
IGNORABLE = 8
SCRIPT_SHIFT = 4  # two bits: 1 Han and kana, 2 Hangul
ASSIGNED = 64

MULTIPLE = 1 << 24  # a mapping from here on names a piece of the pool
BLOCK_SHIFT = 7
NOTHING = np.uint32(0xFFFFFFFF)  # in place of a code point

CAPITAL_SIGMA = 0x3A3
SMALL_SIGMA = np.uint32(0x3C3)
FINAL_SIGMA = np.uint32(0x3C2)

_HIGH_BITS = np.uint64(0x8080808080808080)
_U0, _U1, _U2, _U8, _U64 = (np.uint64(n) for n in (0, 1, 2, 8, 64))


@inline
def char_length(lead):
    """The number of bytes of the character that begins with this byte."""
    if lead < 0x80:
        return _U1
    return np.uint64(2) + np.uint64(lead >= 0xE0) + np.uint64(lead >= 0xF0)


@inline
def decode(data, at):
    """The code point (uint32) at data[at], of valid UTF-8."""
    i = np.uint64(at)
    b = np.uint32(data[i])
    if b < 0x80:
        return b
    low = np.uint32(data[i + _U1]) & np.uint32(0x3F)
    if b < 0xE0:
        return (b & np.uint32(0x1F)) << np.uint32(6) | low
    low = low << np.uint32(6) | (np.uint32(data[i + np.uint64(2)]) & np.uint32(0x3F))
    if b < 0xF0:
        return (b & np.uint32(0x0F)) << np.uint32(12) | low
    low = low << np.uint32(6) | (np.uint32(data[i + np.uint64(3)]) & np.uint32(0x3F))
    return (b & np.uint32(0x07)) << np.uint32(18) | low


@inline
def encode(out, to, code):
    """Write a code point (uint32) at out[to] as UTF-8; returns its number of bytes (1 to 4)."""
    i = np.uint64(to)
    if code < 0x80:
        out[i] = np.uint8(code)
        return _U1
    if code < 0x800:
        out[i] = np.uint8(0xC0 | code >> 6)
        out[i + _U1] = np.uint8(0x80 | code & 0x3F)
        return np.uint64(2)
    if code < 0x10000:
        out[i] = np.uint8(0xE0 | code >> 12)
        out[i + _U1] = np.uint8(0x80 | code >> 6 & 0x3F)
        out[i + np.uint64(2)] = np.uint8(0x80 | code & 0x3F)
        return np.uint64(3)
    out[i] = np.uint8(0xF0 | code >> 18)
    out[i + _U1] = np.uint8(0x80 | code >> 12 & 0x3F)
    out[i + np.uint64(2)] = np.uint8(0x80 | code >> 6 & 0x3F)
    out[i + np.uint64(3)] = np.uint8(0x80 | code & 0x3F)
    return np.uint64(4)


@inline
def table(index, values, code):
    """The entry of a code point (uint32) in a two-stage table."""
    block = np.uint64(index[np.uint64(code >> np.uint32(BLOCK_SHIFT))])
    return values[block << np.uint64(BLOCK_SHIFT) | np.uint64(code & np.uint32(127))]


class Characters(NamedTuple):
    """Flags and a mapping of every code point; see fastseq/text/unicode_tables.py."""

    flags_index: UInt16  # [8704]
    flags: UInt8  # [128 * blocks]
    map_index: UInt16  # [8704]
    mapped: Int32  # [128 * blocks] added to the code point; from MULTIPLE on a piece of the pool
    pool: Int32  # [n] code points of the mappings to none or to several characters


@inline
def flags_of(characters, code):
    """The flags of a code point in Characters."""
    return table(characters.flags_index, characters.flags, code)


@inline
def _sigma_is_final(data, begin, end, at, characters):
    """Whether the capital sigma at data[at] ends a word of the text data[begin:end].

    Unicode's Final_Sigma: a cased character before and none after, case-ignorable ones skipped.
    """
    i = np.uint64(at)
    before = 0
    while i > begin:
        i -= _U1
        if data[i] & 0xC0 != 0x80:
            before = flags_of(characters, decode(data, i))
            if not before & IGNORABLE:
                break
            before = 0
    if not before & CASED:
        return False
    i = np.uint64(at) + _U2
    while i < end:
        after = flags_of(characters, decode(data, i))
        if not after & IGNORABLE:
            return not after & CASED
        i += char_length(data[i])
    return True


@inline
def next_character(data, begin, end, at, extra, where, lower, characters):
    """The next mapped character of the text data[begin:end]: (code, at, extra, where).

    at            where it begins, below `end` unless extra > 0
    extra, where  remaining characters of a multiple mapping, and where they are in the pool
    lower         whether the mapping is of lower case
    code          NOTHING for a character mapped to none
    """
    if extra != _U0:
        return np.uint32(characters.pool[where]), at, extra - _U1, where + _U1
    code = decode(data, at)
    if lower and code == CAPITAL_SIGMA:
        final = _sigma_is_final(data, begin, end, at, characters)
        return FINAL_SIGMA if final else SMALL_SIGMA, at + _U2, extra, where
    change = np.int64(table(characters.map_index, characters.mapped, code))
    at += char_length(data[at])
    if change < MULTIPLE:
        return np.uint32(np.int64(code) + change), at, extra, where
    where = np.uint64((change - MULTIPLE) >> 5)
    extra = np.uint64(change & 31)
    if extra == _U0:
        return NOTHING, at, extra, where
    return np.uint32(characters.pool[where]), at, extra - _U1, where + _U1


@inline
def _valid(data, start, end):
    """Whether data[start:end] is valid UTF-8 (Unicode 15, table 3-7)."""
    i = start
    while i < end:
        if i + _U64 <= end:
            mask = non_ascii64(data, i)
            i += trailing_zeros(mask)  # 64 when there is none
            if mask == np.uint64(0):
                continue
        elif i + _U8 <= end and load8(data, i) & _HIGH_BITS == np.uint64(0):
            i += _U8
            continue
        while i < end:
            lead = data[i]
            if lead < 0x80:
                i += _U1
                break
            if lead < 0xC2 or lead > 0xF4:
                return False
            length = char_length(lead)
            if i + length > end:
                return False
            second = data[i + _U1]
            low, high = 0x80, 0xBF
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
            elif lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
            if second < low or second > high:
                return False
            for k in range(np.uint64(2), length):
                if data[i + np.uint64(k)] & 0xC0 != 0x80:
                    return False
            i += length
    return True


@jit
def first_invalid(data: UInt8, offsets: Int64, first: int) -> int:
    """The first of D texts, from `first` on, that is not valid UTF-8; D if all are.

    data uint8[n], offsets int64[D + 1]: text i is data[offsets[i]:offsets[i + 1]].
    """
    for i in range(np.uint64(first), np.uint64(len(offsets) - 1)):
        start = np.uint64(offsets[np.uint64(i)])
        if not _valid(data, start, np.uint64(offsets[np.uint64(i) + _U1])):
            return np.int64(i)
    return np.int64(len(offsets) - 1)
