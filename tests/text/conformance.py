"""Normal forms and word boundaries of whole texts, made of the tokenizer's steps."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16, UInt32
from fastseq.kernels.core.jit import jit
from fastseq.kernels.text.normal_forms import (
    COMPOSED,
    DECOMPOSED,
    NONE,
    ROOM,
    Buffer,
    WordTables,
    add_code,
    compose,
    properties_of,
)
from fastseq.kernels.text.unicode import MULTIPLE, char_length, decode, table
from fastseq.kernels.text.words import word_end
from fastseq.text.word_tables import word_tables

RAW = -1  # neither ordered nor composed

_U0, _U1 = np.uint64(0), np.uint64(1)


@jit
def normalise(
    codes: UInt32, bits: UInt32, starts: Int64, stops: Int64, data: UInt8, form: int,
    properties_index: UInt16, properties: UInt32, map_index: UInt16, mapped: Int32,
    parts_index: UInt16, parts: Int32, pool: Int32, pairs: Int64,
) -> int:  # fmt: skip
    """The code points of a text in a normal form (UAX #15); returns their number, or -1 where
    `codes` is shorter than twice their number and ROOM.

    codes, bits, starts, stops  [capacity], see Buffer
    data    uint8[n], valid UTF-8
    form    RAW, DECOMPOSED (the mapping being none: NFD, nfkc: NFKD) or COMPOSED (NFC, NFKC)
    """
    tables = WordTables(
        properties_index, properties, map_index, mapped, parts_index, parts, pool, pairs
    )
    buffer = Buffer(codes, bits, starts, stops)
    n = _U0
    open_at = NONE
    i = _U0
    while i < np.uint64(len(data)):
        if n + n + np.uint64(ROOM) > np.uint64(len(codes)):
            return -1
        code = decode(data, i)
        start = np.int64(i)
        i += char_length(data[i])
        change = np.int64(table(tables.map_index, tables.mapped, code))
        where = (change - MULTIPLE) >> 5
        count = np.int64(1) if change < MULTIPLE else change & 31
        for k in range(count):
            if change < MULTIPLE:
                made = np.uint32(np.int64(code) + change)
            else:
                made = np.uint32(tables.pool[np.uint64(where + k)])
            if form == RAW:
                codes[n], bits[n] = made, properties_of(tables, made)
                starts[n], stops[n] = start, np.int64(i)
                n += _U1
                continue
            n, open_at = add_code(
                buffer, n, open_at, made, properties_of(tables, made), start, np.int64(i), form,
                tables,
            )  # fmt: skip
    if form == COMPOSED and open_at != NONE:
        n = compose(buffer, open_at, n, tables)
    return np.int64(n)


@jit
def word_boundaries(
    ends: Int64, codes: UInt32, bits: UInt32, starts: Int64, stops: Int64, n: int, tailored: int
) -> int:
    """The ends of the words of n codes (as `normalise` fills them) in ends int64[>= n]; returns the
    number of words. tailored: 1: with the tailoring of this module."""
    buffer = Buffer(codes, bits, starts, stops)
    count = _U0
    i = _U0
    while i < np.uint64(n):
        i = word_end(buffer, i, np.uint64(n), tailored)
        ends[count] = np.int64(i)
        count += _U1
    return np.int64(count)


def code_points(
    text: str, mapping: str, compose: bool = True, raw: bool = False
) -> tuple[UInt32, UInt32, Int64, Int64]:
    """(codes, properties, starts, stops) of the mapped text: the code points of its normal form,
    and the bytes of the UTF-8 text that each comes from.

    compose : NFC or NFKC; else NFD or NFKD. raw : neither
    """
    data: UInt8 = np.frombuffer(bytearray(text.encode()), np.uint8)
    form = RAW if raw else COMPOSED if compose else DECOMPOSED
    size = 2 * len(text) + 2 * ROOM
    while True:
        codes, spans = np.empty((2, size), np.uint32), np.empty((2, size), np.int64)
        n = normalise(codes[0], codes[1], spans[0], spans[1], data, form, *word_tables(mapping))
        if n >= 0:
            return *codes[:, :n], *spans[:, :n]
        size *= 2


def normal_form(text: str, mapping: str, compose: bool = True) -> str:
    """The text, mapped and in a normal form; see `code_points`."""
    codes, *_ = code_points(text, mapping, compose)
    return "".join(map(chr, codes.tolist()))
