"""UTF-8 text to token ids: one pass over the bytes, a hash table of the distinct words.

Per document, 64 bytes at a time: a bitmask of the bytes that may belong to a word, and a copy with
the ASCII capitals lower-cased. The borders of the runs in the mask are the borders of candidate
words. One that is all ASCII goes straight to the hash table; one that holds other bytes is
decoded character by character, mapped and cut by the Unicode tables.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16, UInt64
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.simd.bytes import load8, prefetch, trailing_zeros, visible64, word64
from fastseq.kernels.text.hashing import find_or_add, hash_bytes, intern_bytes, low_bytes, mix
from fastseq.kernels.text.unicode import (
    CAPITAL_SIGMA,
    FINAL_SIGMA,
    MULTIPLE,
    SCRIPT_SHIFT,
    SMALL_SIGMA,
    SPACE,
    WORD,
    char_length,
    decode,
    encode,
    sigma_is_final,
    table,
)

# what a token is
WORDS = 0  # a run of word characters
VISIBLE = 1  # a run of characters that are not white space
CHARACTERS = 2  # one character that is not white space
# what becomes of runs of Han and kana, and of Hangul
AS_WORDS = 0
BIGRAMS = 1  # both: overlapping bigrams
RUNS = 2  # Han and kana: the run whole; Hangul: bigrams
# what `tokenize` returns
DONE = 0
GROW_TABLE = 1
GROW_IDS = 2
GROW_WORD = 3

NEWLINE = 10  # closes every word in the arena: no token of these tokenizers holds white space
CHUNK = 2048  # bytes whose borders are found before their words are looked up
EDGES = CHUNK + 2  # length of the edges array

_HIGH_BITS = np.uint64(0x8080808080808080)
_U0, _U1, _U8, _U64 = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(64)
_CHUNK = np.uint64(CHUNK)
_TOP = np.uint64(1 << 63)
_OUTSIDE = -1


@inline
def _is_ascii(data, start, length):
    """Whether more than 8 bytes of data from `start` are all ASCII."""
    last = length - _U8
    seen = load8(data, start + last)
    i = _U0
    while i < last:
        seen |= load8(data, start + i)
        i += _U8
    return seen & _HIGH_BITS == _U0


@inline
def _kind(code, unit, cjk, flags_index, flags):
    """The script whose run a character belongs to, or _OUTSIDE when it separates words."""
    bits = np.int64(table(flags_index, flags, code))
    if unit == WORDS:
        if not bits & WORD:
            return np.int64(_OUTSIDE)
        return (bits >> SCRIPT_SHIFT & 3) if cjk != AS_WORDS else np.int64(0)
    return np.int64(_OUTSIDE) if bits & SPACE else np.int64(0)


@inline
def _spell(
    ids, n, slots, arena, offsets, size, word, data, begin, end, start, stop,
    flags_index, flags, map_index, mapped, pool, unit, cjk, lower, shortest,
):  # fmt: skip
    """Tokens of the run data[start:stop] of the text data[begin:end], character by character.

    Returns the number of tokens now in ids, or minus the reason to stop.
    """
    room = np.uint64(len(word)) - np.uint64(16)
    i = start
    extra = _U0  # characters of a multiple mapping still to come, and where in the pool
    where = _U0
    filled = _U0  # bytes of `word` in use; the current run's first, last and next to last begin at
    first = _U0
    last = _U0
    count = 0  # characters of the current run
    current = np.int64(_OUTSIDE)
    while True:
        kind = np.int64(_OUTSIDE)
        code = np.uint32(0)
        if extra != _U0:
            code = np.uint32(pool[where])
            where += _U1
            extra -= _U1
            kind = _kind(code, unit, cjk, flags_index, flags)
        elif i < stop:
            code = decode(data, i)
            if lower and code == CAPITAL_SIGMA:
                final = sigma_is_final(data, begin, end, i, flags_index, flags)
                code = np.uint32(FINAL_SIGMA) if final else np.uint32(SMALL_SIGMA)
                i += np.uint64(2)
            else:
                change = np.int64(table(map_index, mapped, code))
                i += char_length(data[i])
                if change >= MULTIPLE:
                    where = np.uint64((change - MULTIPLE) >> 5)
                    extra = np.uint64(change & 31)
                    continue
                code = np.uint32(np.int64(code) + change)
            kind = _kind(code, unit, cjk, flags_index, flags)
        elif current == _OUTSIDE:
            return n

        # at most one token ends here: the run before, or a bigram with this character
        token = filled
        token_end = filled
        if kind != current:
            whole = current == 0 or (current == 1 and cjk == RUNS)
            enough = shortest if current == 0 else 1
            if (
                current != _OUTSIDE
                and unit != CHARACTERS
                and (count >= enough if whole else count == 1)
            ):
                token = first
            first = filled
            count = 0
            current = kind
        if kind != _OUTSIDE:
            if filled >= room:
                return np.int64(-GROW_WORD)
            before = last
            last = filled
            filled += encode(word, filled, code)
            count += 1
            if unit == CHARACTERS:
                token = last
                token_end = filled
            elif count > 1 and kind != 0 and (kind != 1 or cjk != RUNS):
                token = before
                token_end = filled
        if token != token_end:
            if np.uint64(n) >= np.uint64(len(ids)):
                return np.int64(-GROW_IDS)
            known = intern_bytes(
                slots, arena, offsets, size, word, token, token_end - token, NEWLINE
            )
            if known < 0:
                return np.int64(-GROW_TABLE)
            ids[np.uint64(n)] = known
            n += 1
        if kind == _OUTSIDE or unit == CHARACTERS:
            filled = _U0
            first = _U0
            last = _U0


@jit
def tokenize(
    ids: Int32,
    ends: Int64,
    progress: Int64,
    slots: UInt64,
    arena: UInt8,
    offsets: Int64,
    size: Int64,
    scratch: UInt8,
    word: UInt8,
    edges: Int64,
    hashes: UInt64,
    data: UInt8,
    starts: Int64,
    flags_index: UInt16,
    flags: UInt8,
    map_index: UInt16,
    mapped: Int32,
    pool: Int32,
    unit: int,
    cjk: int,
    lower: int,
    shortest: int,
) -> int:
    """Split D texts into tokens; the distinct ones get ids in the order of first occurrence.

    ids       int32[n]       the tokens' ids, text after text
    ends      int64[D + 1]   text d holds ids[ends[d]:ends[d + 1]]; ends[0] is 0
    progress  int64[1]       texts done; 0 to begin with
    slots, arena, offsets, size
                             the table of distinct words (hashing.py), NEWLINE closing each
    scratch   uint8[m]       at least 128 longer than the longest text
    word      uint8[w]       at least 32
    edges     int64[EDGES]
    hashes    uint64[EDGES]
    data      uint8[...]     text d is data[starts[d]:starts[d + 1]], valid UTF-8
    flags_index, flags       the code points' flags
    map_index, mapped, pool  what becomes of a code point: lower case, accent folding or nothing
    unit      WORDS, VISIBLE or CHARACTERS
    cjk       AS_WORDS, BIGRAMS or RUNS; matters to WORDS only
    lower     1: the mapping is of lower case, so ASCII is lower-cased and sigma looks at its
              context; 0: not
    shortest  characters a word has at least (1 or 2)

    Returns DONE, or which arrays must grow before the call is repeated: GROW_TABLE, GROW_IDS or
    GROW_WORD. The text it stopped in is then done again from its start, which changes no id.
    """
    n = np.int64(ends[progress[0]])
    shift = np.uint8(32 if lower else 0)
    room = np.uint64(len(ids))
    available = np.uint64(len(data))
    mask = np.uint64(len(slots) >> 1) - _U1
    for d in range(np.uint64(progress[0]), np.uint64(len(starts) - 1)):
        progress[0] = d
        begin = np.uint64(starts[np.uint64(d)])
        end = np.uint64(starts[np.uint64(d) + _U1])
        length = end - begin
        at = _U0
        n_edges = _U0
        carry = _U0
        if unit == CHARACTERS:
            n = _spell(
                ids, n, slots, arena, offsets, size, word, data, begin, end, begin, end,
                flags_index, flags, map_index, mapped, pool, unit, cjk, lower, shortest,
            )  # fmt: skip
            if n < 0:
                return -n
            at = length
        while at < length:
            stop = min(at + _CHUNK, length)
            while at < stop:
                source = begin + at
                if source + _U64 <= available:
                    if unit == WORDS:
                        members = word64(scratch, at, data, source, shift)
                    else:
                        members = visible64(scratch, at, data, source, shift)
                else:  # the last bytes of the buffer: nothing past it may be read
                    for k in range(_U64):
                        inside = source + np.uint64(k) < end
                        byte = data[source + np.uint64(k)] if inside else np.uint8(0)
                        scratch[at + np.uint64(k)] = byte
                    if unit == WORDS:
                        members = word64(scratch, at, scratch, at, shift)
                    else:
                        members = visible64(scratch, at, scratch, at, shift)
                if length - at < _U64:
                    members &= (_U1 << (length - at)) - _U1
                borders = members ^ (members << _U1 | carry)
                carry = members >> np.uint64(63)
                while borders != _U0:
                    edges[n_edges] = np.int64(at + trailing_zeros(borders))
                    n_edges += _U1
                    borders &= borders - _U1
                at += _U64
            if stop == length and n_edges & _U1:
                edges[n_edges] = np.int64(length)
                n_edges += _U1

            # hashes first, so that the table's cache lines are on their way when they are needed
            for e in range(n_edges >> _U1):
                at_e = np.uint64(e) << _U1
                left = np.uint64(edges[at_e])
                size_of = np.uint64(edges[at_e | _U1]) - left
                if size_of <= _U8:
                    key = low_bytes(load8(scratch, left), size_of)
                    h = mix(key, size_of) >> _U1
                    odd = key & _HIGH_BITS != _U0
                else:
                    key = hash_bytes(scratch, left, left + size_of)
                    h = key >> _U1
                    odd = not _is_ascii(scratch, left, size_of)
                prefetch(slots, (h & mask) << _U1)
                hashes[at_e] = key
                hashes[at_e | _U1] = h | (_TOP if odd else _U0)
            for e in range(n_edges >> _U1):
                at_e = np.uint64(e) << _U1
                left = np.uint64(edges[at_e])
                size_of = np.uint64(edges[at_e | _U1]) - left
                h = hashes[at_e | _U1]
                if h < _TOP:
                    if size_of < np.uint64(shortest):
                        continue
                    if np.uint64(n) >= room:
                        return GROW_IDS
                    known = find_or_add(
                        slots,
                        arena,
                        offsets,
                        size,
                        hashes[at_e],
                        h,
                        scratch,
                        left,
                        size_of,
                        NEWLINE,
                    )
                    if known < 0:
                        return GROW_TABLE
                    ids[np.uint64(n)] = known
                    n += 1
                else:
                    n = _spell(
                        ids, n, slots, arena, offsets, size, word, data, begin, end,
                        begin + left, begin + left + size_of,
                        flags_index, flags, map_index, mapped, pool, unit, cjk, lower, shortest,
                    )  # fmt: skip
                    if n < 0:
                        return -n
            if n_edges & _U1:  # a word goes on into the next chunk
                edges[_U0] = edges[n_edges - _U1]
                n_edges = _U1
            else:
                n_edges = _U0
        ends[np.uint64(d) + _U1] = n
    progress[0] = len(starts) - 1
    return DONE


@jit
def gather(out: Int32, out_ends: Int64, ids: Int32, ends: Int64, mapping: Int32) -> None:
    """Rename the ids of D texts by a mapping, dropping those that go to -1.

    out int32[n], out_ends int64[D + 1], ids int32[n], ends int64[D + 1], mapping int32[V];
    out may be ids, and out_ends ends.
    """
    n = _U0
    start = np.uint64(ends[0])
    out_ends[0] = 0
    for d in range(np.uint64(len(ends) - 1)):
        stop = np.uint64(ends[np.uint64(d) + _U1])
        for i in range(start, stop):
            to = mapping[np.uint64(ids[np.uint64(i)])]
            out[n] = to
            n += np.uint64(to >= 0)
        start = stop
        out_ends[np.uint64(d) + _U1] = np.int64(n)


@jit
def expand(
    out: Int32, out_ends: Int64, ids: Int32, ends: Int64, pieces: Int32, piece_ends: Int64
) -> None:
    """Replace every id of D texts by its pieces: id i has pieces[piece_ends[i]:piece_ends[i + 1]].

    out int32[m] just long enough, out_ends int64[D + 1], ids int32[n], ends int64[D + 1].
    """
    n = _U0
    out_ends[0] = 0
    for d in range(np.uint64(len(ends) - 1)):
        for i in range(np.uint64(ends[np.uint64(d)]), np.uint64(ends[np.uint64(d) + _U1])):
            known = np.uint64(ids[np.uint64(i)])
            for k in range(np.uint64(piece_ends[known]), np.uint64(piece_ends[known + _U1])):
                out[n] = pieces[np.uint64(k)]
                n += _U1
        out_ends[np.uint64(d) + _U1] = np.int64(n)
