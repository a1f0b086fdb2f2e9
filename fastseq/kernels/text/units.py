"""UTF-8 text to the units that sequence models read, by a hash table of the distinct ones.

Unlike the tokenizer of the index, nothing that can be seen is dropped: punctuation and single
characters are units too. One pass over the characters: each is mapped (lower case), and either
joins the unit before it or closes that and begins its own.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16, UInt64
from fastseq.kernels.core.jit import jit
from fastseq.kernels.text.hashing import intern_bytes
from fastseq.kernels.text.unicode import (
    CAPITAL_SIGMA,
    FINAL_SIGMA,
    MULTIPLE,
    SMALL_SIGMA,
    char_length,
    decode,
    encode,
    sigma_is_final,
    table,
)

# what a unit is
WORDS = 0  # a run of word characters, or one other visible character; marks stay with their base
VISIBLE = 1  # a run of characters that are not white space
CHARACTERS = 2  # every character
WHOLE = 3  # the whole text
# the kinds of code points
SPACE = 0
WORD = 1
SINGLE = 2
MARK = 3
# what `split` returns
DONE = 0
GROW_TABLE = 1
GROW_IDS = 2
GROW_WORD = 3

_CLOSED = -1  # no unit is open
_SLACK = np.uint64(16)  # one more character, and an eight-byte load from any place
_U0, _U1 = np.uint64(0), np.uint64(1)


@jit
def split(
    ids: Int32,
    ends: Int64,
    progress: Int64,
    slots: UInt64,
    arena: UInt8,
    offsets: Int64,
    size: Int64,
    word: UInt8,
    data: UInt8,
    starts: Int64,
    kinds: UInt8,
    flags_index: UInt16,
    flags: UInt8,
    map_index: UInt16,
    mapped: Int32,
    pool: Int32,
    unit: int,
    lower: int,
) -> int:
    """Split D texts into units; the distinct ones get ids in the order of first occurrence.

    ids       int32[n]       the units' ids, text after text
    ends      int64[D + 1]   text d holds ids[ends[d]:ends[d + 1]]; ends[0] is 0
    progress  int64[1]       texts done; 0 to begin with
    slots, arena, offsets, size
                             the table of distinct units (hashing.py), without a separator
    word      uint8[w]       at least 32
    data      uint8[...]     text d is data[starts[d]:starts[d + 1]], valid UTF-8
    kinds     uint8[1114112] the kind of each code point: SPACE, WORD, SINGLE or MARK
    flags_index, flags       the code points' flags, which a final sigma depends on
    map_index, mapped, pool  what becomes of a code point: lower case or nothing
    unit      WORDS, VISIBLE, CHARACTERS or WHOLE
    lower     1: the mapping is of lower case; 0: not

    Returns DONE, or which arrays must grow before the call is repeated: GROW_TABLE, GROW_IDS or
    GROW_WORD. The text it stopped in is then done again from its start, which changes no id.
    """
    n = np.uint64(ends[progress[0]])
    room = np.uint64(len(word)) - _SLACK
    for text in range(np.uint64(progress[0]), np.uint64(len(starts) - 1)):
        d = np.uint64(text)
        progress[0] = np.int64(d)
        begin = np.uint64(starts[d])
        end = np.uint64(starts[d + _U1])
        i = begin
        extra = _U0  # characters of a multiple mapping still to come, and where in the pool
        where = _U0
        filled = _U0
        current = np.int64(WORD) if unit == WHOLE else np.int64(_CLOSED)
        going = True
        while going:
            code = np.uint32(0)
            if extra != _U0:
                code = np.uint32(pool[where])
                where += _U1
                extra -= _U1
            elif i < end:
                byte = data[i]
                if byte < 0x80:
                    code = np.uint32(byte)
                    if lower and byte >= 65 and byte <= 90:
                        code += np.uint32(32)
                    i += _U1
                else:
                    code = decode(data, i)
                    if lower and code == CAPITAL_SIGMA:
                        final = sigma_is_final(data, begin, end, i, flags_index, flags)
                        code = np.uint32(FINAL_SIGMA) if final else np.uint32(SMALL_SIGMA)
                        i += np.uint64(2)
                    else:
                        change = np.int64(table(map_index, mapped, code))
                        i += char_length(byte)
                        if change >= MULTIPLE:
                            where = np.uint64((change - MULTIPLE) >> 5)
                            extra = np.uint64(change & 31)
                            continue
                        code = np.uint32(np.int64(code) + change)
            else:
                going = False
            kind = np.int64(kinds[np.uint64(code)])
            joins = going and current != _CLOSED
            if unit == WORDS:
                joins = joins and (kind == MARK or (kind == WORD and current == WORD))
            elif unit == VISIBLE:
                joins = joins and kind != SPACE
            elif unit == CHARACTERS:
                joins = False
            if not joins:
                if current != _CLOSED:
                    if n >= np.uint64(len(ids)):
                        return GROW_IDS
                    known = intern_bytes(slots, arena, offsets, size, word, _U0, filled, 0)
                    if known < 0:
                        return GROW_TABLE
                    ids[n] = np.int32(known)
                    n += _U1
                filled = _U0
                current = np.int64(_CLOSED)
                if not going or (kind == SPACE and unit <= VISIBLE):
                    continue
                current = np.int64(WORD) if kind == WORD else np.int64(SINGLE)
            if filled >= room:
                return GROW_WORD
            filled += encode(word, filled, code)
        ends[d + _U1] = np.int64(n)
    progress[0] = len(starts) - 1
    return DONE
