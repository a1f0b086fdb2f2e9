"""Unicode's normal forms (UAX #15) of a buffer of code points.

A text is read code point by code point into a buffer, where everything but the end is in its form
already: most characters are *stable*, starters that no character before them composes with, and are
simply appended. A mark that cannot compose is put into canonical order. Only a mark or a conjoining
letter that may compose opens the last starter again: it is decomposed, and composed with what
follows when the next stable character comes.

Tables: fastseq/text/words.npz (tools/make_word_tables.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt16, UInt32
from fastseq.kernels.core.jit import helper, inline
from fastseq.kernels.text.unicode import MULTIPLE, table

IGNORABLE = 1 << 13  # bits of a code point's properties
UNSTABLE = 1 << 14
CLASS_SHIFT = 16

# the normal form to produce
DECOMPOSED, COMPOSED = range(2)

CODE = np.uint32(0x1FFFFF)
JOINED = np.uint32(1 << 31)  # of a code in the buffer: a zero-width joiner is before it
ROOM = 256  # codes that one character may add to the buffer, beside a copy of what is composed anew
NONE = np.uint64(0xFFFFFFFFFFFFFFFF)  # in place of an index
# A mark is put in order among at most so many before it, as by the stream-safe process of UAX #15,
# section 13, whose limit is 30: without a limit, a letter with n marks would take n² steps.
_MOST_MARKS = np.uint64(128)

_U0, _U1 = np.uint64(0), np.uint64(1)


class WordTables(NamedTuple):
    """The tables of fastseq/text/words.npz, the mapping being one of several."""

    properties_index: UInt16  # [8704]
    properties: UInt32  # [128 * blocks]
    map_index: UInt16  # [8704]
    mapped: Int32  # [128 * blocks]
    parts_index: UInt16  # [8704]
    parts: Int32  # [128 * blocks] canonical decompositions
    pool: Int32  # [n]
    pairs: Int64  # [m, 2] canonical compositions


class Buffer(NamedTuple):
    """Code points of one or a few words."""

    codes: UInt32  # [capacity] with JOINED
    bits: UInt32  # [capacity] their properties
    starts: Int64  # [capacity] where each comes from in the text, first byte
    stops: Int64  # [capacity] and past the last


@inline
def properties_of(tables, code):
    """The properties of a code point (uint32)."""
    return table(tables.properties_index, tables.properties, code & CODE)


@inline
def _class_of(bits):
    """The canonical combining class (uint32)."""
    return bits >> np.uint32(CLASS_SHIFT)


@inline
def _set(buffer, i, code, bits, start, stop):
    buffer.codes[i] = code
    buffer.bits[i] = bits
    buffer.starts[i] = start
    buffer.stops[i] = stop


@inline
def _copy(buffer, to, source):
    buffer.codes[to] = buffer.codes[source]
    buffer.bits[to] = buffer.bits[source]
    buffer.starts[to] = buffer.starts[source]
    buffer.stops[to] = buffer.stops[source]


@inline
def _insert(buffer, n, code, bits, start, stop):
    """Put a code at the end of the buffer, in canonical order; returns n + 1."""
    i = n
    order = _class_of(bits)
    if order != 0:
        first = n - min(n, _MOST_MARKS)
        while i > first and _class_of(buffer.bits[i - _U1]) > order:
            _copy(buffer, i, i - _U1)
            i -= _U1
    _set(buffer, i, code, bits, start, stop)
    return n + _U1


@inline
def _composite(first, second, tables):
    """The canonical composition of two code points, or 0."""
    if first - np.uint32(0x1100) < np.uint32(19) and second - np.uint32(0x1161) < np.uint32(21):
        lead, vowel = first - np.uint32(0x1100), second - np.uint32(0x1161)
        return np.uint32(0xAC00) + (lead * np.uint32(21) + vowel) * np.uint32(28)
    if (
        first - np.uint32(0xAC00) < np.uint32(11172)
        and (first - np.uint32(0xAC00)) % np.uint32(28) == 0
        and second - np.uint32(0x11A8) < np.uint32(27)
    ):
        return first + second - np.uint32(0x11A7)
    key = np.int64(first) << 21 | np.int64(second)
    low, high = np.uint64(0), np.uint64(len(tables.pairs))
    while low < high:
        middle = (low + high) >> _U1
        if tables.pairs[middle, 0] < key:
            low = middle + _U1
        else:
            high = middle
    if low < np.uint64(len(tables.pairs)) and tables.pairs[low, 0] == key:
        return np.uint32(tables.pairs[low, 1])
    return np.uint32(0)


@helper
def compose(buffer, first, n, tables):
    """Compose the codes from `first`, in place; returns the new end."""
    out = first
    starter = NONE
    last = np.uint32(0)  # the class of the code before in `out`
    for k in range(first, n):
        i = np.uint64(k)
        order = _class_of(buffer.bits[i])
        if starter != NONE and (out - _U1 == starter or last < order):
            made = _composite(buffer.codes[starter] & CODE, buffer.codes[i] & CODE, tables)
            if made != 0:
                _set(
                    buffer, starter, made | (buffer.codes[starter] & JOINED),
                    properties_of(tables, made), min(buffer.starts[starter], buffer.starts[i]),
                    max(buffer.stops[starter], buffer.stops[i]),
                )  # fmt: skip
                continue
        _copy(buffer, out, i)
        if order == 0:
            starter = out
        last = order
        out += _U1
    return out


@inline
def _is_stable(bits):
    """Whether a character is a starter that nothing before it composes with."""
    return bits & np.uint32(0xFFFF << CLASS_SHIFT | UNSTABLE) == 0


@inline
def _part(buffer, n, open_at, code, start, stop, form, tables):
    """Add a code that has no decomposition; returns (n, open_at)."""
    bits = properties_of(tables, code)
    if form == COMPOSED and n > open_at and _is_stable(bits):
        n = compose(buffer, open_at, n, tables)
        open_at = n
    return _insert(buffer, n, code, bits, start, stop), open_at


@helper
def _parts(buffer, n, open_at, code, start, stop, form, tables):
    """Add the canonical decomposition of a code; returns (n, open_at)."""
    joined = code & JOINED
    bare = code & CODE
    syllable = bare - np.uint32(0xAC00)
    if syllable < np.uint32(11172):
        tail = syllable % np.uint32(28)
        lead = np.uint32(0x1100) + syllable // np.uint32(588)
        vowel = np.uint32(0x1161) + syllable % np.uint32(588) // np.uint32(28)
        n, open_at = _part(buffer, n, open_at, lead | joined, start, stop, form, tables)
        n, open_at = _part(buffer, n, open_at, vowel, start, stop, form, tables)
        if tail:
            last = np.uint32(0x11A7) + tail
            n, open_at = _part(buffer, n, open_at, last, start, stop, form, tables)
        return n, open_at
    change = np.int64(table(tables.parts_index, tables.parts, bare))
    if change < MULTIPLE:  # at most one other character
        made = np.uint32(np.int64(bare) + change)
        return _part(buffer, n, open_at, made | joined, start, stop, form, tables)
    where = (change - MULTIPLE) >> 5
    for k in range(where, where + (change & 31)):
        made = np.uint32(tables.pool[np.uint64(k)])
        n, open_at = _part(buffer, n, open_at, made | joined, start, stop, form, tables)
        joined = np.uint32(0)
    return n, open_at


@helper
def _reopened(buffer, n, tables):
    """Decompose the last starter of the buffer, whose marks may now be composed anew.

    Returns (n, where the starter is).
    """
    first = n
    while first > _U0:
        first -= _U1
        if _class_of(buffer.bits[first]) == 0:
            break
    if first == n or _class_of(buffer.bits[first]) != 0:  # marks alone
        return n, first
    end, _ = _parts(  # after the rest, with a copy of its marks
        buffer, n, n, buffer.codes[first], buffer.starts[first], buffer.stops[first], DECOMPOSED,
        tables,
    )  # fmt: skip
    for k in range(first + _U1, n):
        i = np.uint64(k)
        end = _insert(
            buffer, end, buffer.codes[i], buffer.bits[i], buffer.starts[i], buffer.stops[i]
        )
    for k in range(end - n):
        _copy(buffer, first + np.uint64(k), n + np.uint64(k))
    return first + (end - n), first


@helper
def _add_unstable(buffer, n, open_at, code, start, stop, form, tables):
    """`add_code` of a mark or a character that may compose with the one before."""
    if form == COMPOSED and open_at == NONE:
        n, open_at = _reopened(buffer, n, tables)
    return _parts(buffer, n, open_at, code, start, stop, form, tables)


@inline
def add_code(buffer, n, open_at, code, bits, start, stop, form, tables):
    """Add a mapped code point to the buffer of n codes, in normal form.

    open_at : from where on the codes are not composed yet; NONE for nowhere
    Returns (n, open_at).
    """
    if form == COMPOSED and _is_stable(bits):
        if open_at != NONE:
            n = compose(buffer, open_at, n, tables)
        _set(buffer, n, code, bits, start, stop)
        return n + _U1, NONE
    if (
        form == COMPOSED
        and open_at == NONE
        and bits & np.uint32(UNSTABLE) == 0
        and n > _U0
        and _class_of(buffer.bits[n - _U1]) <= _class_of(bits)
    ):  # a mark in order that composes with nothing
        _set(buffer, n, code, bits, start, stop)
        return n + _U1, NONE
    return _add_unstable(buffer, n, open_at, code, start, stop, form, tables)
