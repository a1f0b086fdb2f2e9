"""UTF-8 text to token ids, by a hash table of the distinct tokens.

`tokenize` (for search and features) takes 64 bytes at a time: a bitmask of the bytes that may
belong to a word, and a copy with the ASCII capitals lower-cased. The borders of the runs in the
mask are the borders of candidate words. One that is all ASCII is looked up at once; one that has
other bytes is decoded, mapped and cut by the Unicode tables.

`tokenize_sequence` (for sequence models) drops nothing visible: punctuation marks and single
characters are tokens too. Each character is mapped, and joins the token before it or begins one.

Both return DONE, or which arrays must grow before the call is repeated; the text in progress is
then done again from its start, which changes no id.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16, UInt64
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.simd.bytes import load8, prefetch, trailing_zeros, visible64, word64
from fastseq.kernels.text.hashing import Strings, find_or_add, intern_bytes, key_and_hash
from fastseq.kernels.text.unicode import (
    NOTHING,
    SCRIPT_SHIFT,
    SPACE,
    WORD,
    Characters,
    encode,
    flags_of,
    next_character,
)

# the units: what a token is
WORDS = 0  # a run of word characters; for sequence models also any other visible character
VISIBLE = 1  # a run of characters that are not white space
CHARACTERS = 2  # one character: for search one that is not white space
WHOLE = 3  # the whole text, for sequence models
# the treatment of runs of Han and kana, and of Hangul
AS_WORDS = 0
BIGRAMS = 1  # both: overlapping bigrams
RUNS = 2  # Han and kana: the run whole; Hangul: bigrams
# of code points for sequence models
BLANK, WORD_CHARACTER, SINGLE, COMBINING_MARK = range(4)
# the status returned
DONE = 0
GROW_TABLE = 1
GROW_IDS = 2
GROW_WORD = 3

NEWLINE = 10  # ends every word of `tokenize` in the arena: none contains white space
CHUNK = 2048  # bytes whose borders are found before their words are looked up
EDGES = CHUNK + 2  # length of the edges array

_HIGH_BITS = np.uint64(0x8080808080808080)
_U0, _U1, _U8, _U63, _U64 = (np.uint64(n) for n in (0, 1, 8, 63, 64))
_CHUNK = np.uint64(CHUNK)
TOP = np.uint64(1 << 63)  # of a run's hash: the run is not ASCII
_OUTSIDE = -1  # of any token
_SLACK = np.uint64(16)  # one more character, and an eight-byte load from any place


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
def copy_tail(scratch, at, data, source, end):
    """Copy the 64 bytes from `source` on, as far as the text reaches, and zeros after them."""
    for k in range(_U64):
        inside = source + np.uint64(k) < end
        byte = data[source + np.uint64(k)] if inside else np.uint8(0)
        scratch[at + np.uint64(k)] = byte


@inline
def add_edges(edges, n_edges, members, carry, at):
    """Add where the runs in a mask of 64 bytes begin and end; returns their new number.

    carry: 1 where the byte before belongs to a run
    """
    borders = members ^ (members << _U1 | carry)
    while borders != _U0:
        edges[n_edges] = np.int64(at + trailing_zeros(borders))
        n_edges += _U1
        borders &= borders - _U1
    return n_edges


@inline
def close_edges(edges, n_edges, stop, length):
    """End the last run where the text ends; returns the number of edges."""
    if stop == length and n_edges & _U1:
        edges[n_edges] = np.int64(length)
        return n_edges + _U1
    return n_edges


@inline
def kept_edges(edges, n_edges):
    """Keep the start of a run that continues in the next chunk; returns the number of edges."""
    if n_edges & _U1:
        edges[_U0] = edges[n_edges - _U1]
        return _U1
    return _U0


@inline
def hash_runs(hashes, edges, count, scratch, strings):
    """The key and hash of each run, TOP being set in the hash of one that is not ASCII: all before
    the first is looked up, so that the table's cache lines are prefetched."""
    mask = np.uint64(len(strings.slots) >> 1) - _U1
    for e in range(count):
        at_e = np.uint64(e) << _U1
        left = np.uint64(edges[at_e])
        size_of = np.uint64(edges[at_e | _U1]) - left
        key, h = key_and_hash(scratch, left, size_of)
        short = size_of <= _U8
        odd = key & _HIGH_BITS != _U0 if short else not _is_ascii(scratch, left, size_of)
        prefetch(strings.slots, (h & mask) << _U1)
        hashes[at_e] = key
        hashes[at_e | _U1] = h | (TOP if odd else _U0)


@inline
def _kind(code, unit, cjk, characters):
    """The script whose run a character belongs to, or _OUTSIDE when it separates words."""
    bits = np.int64(flags_of(characters, code))
    if unit == WORDS:
        if not bits & WORD:
            return np.int64(_OUTSIDE)
        return (bits >> SCRIPT_SHIFT & 3) if cjk != AS_WORDS else np.int64(0)
    return np.int64(_OUTSIDE) if bits & SPACE else np.int64(0)


@inline
def _spell(
    ids, n, span_starts, span_stops, strings, word, data, begin, end, start, stop, characters,
    unit, cjk, lower, shortest,
):  # fmt: skip
    """Tokens of the run data[start:stop] of the text data[begin:end], character by character.

    Returns the number of tokens now in ids, or minus the status to return.
    """
    capacity = np.uint64(len(word)) - _SLACK
    i = start
    extra = _U0
    where = _U0
    filled = _U0  # bytes of `word` in use
    first = _U0  # where the current run and its last character begin in `word`
    last = _U0
    count = 0  # characters of the current run
    current = np.int64(_OUTSIDE)
    spans = len(span_starts) > 0
    came = start  # where in data this character begins, the last one, and the run, which ends at
    last_from = start
    run_from = start
    run_to = start
    ended = False  # whether a token ended with the last character
    while True:
        kind = np.int64(_OUTSIDE)
        code = np.uint32(0)
        if extra != _U0 or i < stop:
            if extra == _U0:
                came = i
            code, i, extra, where = next_character(
                data, begin, end, i, extra, where, lower, characters
            )
            if code == NOTHING:  # a mark that was removed: its letter's span covers it
                run_to = i
                if spans and ended:
                    span_stops[np.uint64(n - 1)] = np.int64(i - begin)
                continue
            kind = _kind(code, unit, cjk, characters)
        elif current == _OUTSIDE:
            return n

        # at most one token ends here: the run before, or a bigram with this character
        token = filled
        token_end = filled
        token_from = run_from
        token_to = run_to
        ended = False
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
            run_from = came
        if kind != _OUTSIDE:
            if filled >= capacity:
                return np.int64(-GROW_WORD)
            before = last
            before_from = last_from
            last = filled
            last_from = came
            run_to = i
            filled += encode(word, filled, code)
            count += 1
            if unit == CHARACTERS:
                token = last
                token_end = filled
                token_from = came
                token_to = i
                ended = True
            elif count > 1 and kind != 0 and (kind != 1 or cjk != RUNS):
                token = before
                token_end = filled
                token_from = before_from
                token_to = i
                ended = True
        if token != token_end:
            if np.uint64(n) >= np.uint64(len(ids)):
                return np.int64(-GROW_IDS)
            known = intern_bytes(strings, word, token, token_end - token, NEWLINE)
            if known < 0:
                return np.int64(-GROW_TABLE)
            ids[np.uint64(n)] = known
            if spans:
                span_starts[np.uint64(n)] = np.int64(token_from - begin)
                span_stops[np.uint64(n)] = np.int64(token_to - begin)
            n += 1
        if kind == _OUTSIDE or unit == CHARACTERS:
            filled = _U0
            first = _U0
            last = _U0


@jit
def tokenize(
    ids: Int32, ends: Int64, progress: Int64, slots: UInt64, arena: UInt8, offsets: Int64,
    size: Int64, word: UInt8, data: UInt8, starts: Int64, flags_index: UInt16, flags: UInt8,
    map_index: UInt16, mapped: Int32, pool: Int32, span_starts: Int64, span_stops: Int64,
    scratch: UInt8, edges: Int64, hashes: UInt64, unit: int, cjk: int, lower: int, shortest: int,
) -> int:  # fmt: skip
    """Split D texts into tokens; the distinct ones get ids in the order of first occurrence.

    ids       int32[n]       the tokens' ids, text after text
    ends      int64[D + 1]   text d has ids[ends[d]:ends[d + 1]]; ends[0] is 0
    progress  int64[1]       texts done; 0 at first
    slots, …, size           Strings: the distinct words, each ended by NEWLINE
    word      uint8[>= 32]   scratch, as edges and hashes [EDGES], and scratch, which is at least
                             128 longer than the longest text
    data      uint8[...]     text d is data[starts[d]:starts[d + 1]], valid UTF-8
    flags_index, …, pool     Characters: the mapping is lower case, accent folding or nothing
    span_starts, span_stops  int64[len(ids)]: where in its text each token comes from, in bytes; or
                             [0] where that is not wanted
    unit      WORDS, VISIBLE or CHARACTERS
    cjk       AS_WORDS, BIGRAMS or RUNS, for WORDS
    lower     1: ASCII is lower-cased, and sigma depends on its context; 0: not
    shortest  minimum characters of a word (1 or 2)
    """
    strings = Strings(slots, arena, offsets, size)
    characters = Characters(flags_index, flags, map_index, mapped, pool)
    n = np.int64(ends[progress[0]])
    shift = np.uint8(32 if lower else 0)
    capacity = np.uint64(len(ids))
    available = np.uint64(len(data))
    spans = len(span_starts) > 0
    for d in range(np.uint64(progress[0]), np.uint64(len(starts) - 1)):
        progress[0] = d
        begin, end = np.uint64(starts[np.uint64(d)]), np.uint64(starts[np.uint64(d) + _U1])
        length = end - begin
        at = _U0
        n_edges = _U0
        carry = _U0
        if unit == CHARACTERS:
            n = _spell(
                ids, n, span_starts, span_stops, strings, word, data, begin, end, begin, end,
                characters, unit, cjk, lower, shortest,
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
                else:  # the last bytes of the buffer, past which nothing may be read
                    copy_tail(scratch, at, data, source, end)
                    if unit == WORDS:
                        members = word64(scratch, at, scratch, at, shift)
                    else:
                        members = visible64(scratch, at, scratch, at, shift)
                if length - at < _U64:
                    members &= (_U1 << (length - at)) - _U1
                n_edges = add_edges(edges, n_edges, members, carry, at)
                carry = members >> _U63
                at += _U64
            n_edges = close_edges(edges, n_edges, stop, length)

            hash_runs(hashes, edges, n_edges >> _U1, scratch, strings)
            for e in range(n_edges >> _U1):
                at_e = np.uint64(e) << _U1
                left = np.uint64(edges[at_e])
                size_of = np.uint64(edges[at_e | _U1]) - left
                h = hashes[at_e | _U1]
                if h < TOP:
                    if size_of < np.uint64(shortest):
                        continue
                    if np.uint64(n) >= capacity:
                        return GROW_IDS
                    known = find_or_add(strings, hashes[at_e], h, scratch, left, size_of, NEWLINE)
                    if known < 0:
                        return GROW_TABLE
                    ids[np.uint64(n)] = known
                    if spans:
                        span_starts[np.uint64(n)] = np.int64(left)
                        span_stops[np.uint64(n)] = np.int64(left + size_of)
                    n += 1
                else:
                    n = _spell(
                        ids, n, span_starts, span_stops, strings, word, data, begin, end,
                        begin + left, begin + left + size_of, characters, unit, cjk, lower,
                        shortest,
                    )  # fmt: skip
                    if n < 0:
                        return -n
            n_edges = kept_edges(edges, n_edges)
        ends[np.uint64(d) + _U1] = n
    progress[0] = len(starts) - 1
    return DONE


@jit
def tokenize_sequence(
    ids: Int32, ends: Int64, progress: Int64, slots: UInt64, arena: UInt8, offsets: Int64,
    size: Int64, word: UInt8, data: UInt8, starts: Int64, flags_index: UInt16, flags: UInt8,
    map_index: UInt16, mapped: Int32, pool: Int32, kinds: UInt8, unit: int, lower: int,
) -> int:  # fmt: skip
    """Split D texts into the tokens of sequence models, with ids by first occurrence.

    slots, …, size  Strings: the distinct tokens, without a separator
    kinds     uint8[1114112]: BLANK, WORD_CHARACTER, SINGLE or COMBINING_MARK of each code point
    unit      WORDS, VISIBLE, CHARACTERS or WHOLE

    The others, and the result, as for `tokenize`.
    """
    strings = Strings(slots, arena, offsets, size)
    characters = Characters(flags_index, flags, map_index, mapped, pool)
    n = np.uint64(ends[progress[0]])
    capacity = np.uint64(len(word)) - _SLACK
    for text in range(np.uint64(progress[0]), np.uint64(len(starts) - 1)):
        d = np.uint64(text)
        progress[0] = np.int64(d)
        begin = np.uint64(starts[d])
        end = np.uint64(starts[d + _U1])
        i = begin
        extra = _U0
        where = _U0
        filled = _U0
        current = np.int64(WORD_CHARACTER) if unit == WHOLE else np.int64(_OUTSIDE)
        reading = True
        while reading:
            code = np.uint32(0)
            if extra == _U0 and i < end and data[i] < 0x80:  # most characters
                byte = data[i]
                code = np.uint32(byte)
                if lower and byte >= 65 and byte <= 90:
                    code += np.uint32(32)
                i += _U1
            elif extra != _U0 or i < end:
                code, i, extra, where = next_character(
                    data, begin, end, i, extra, where, lower, characters
                )
                if code == NOTHING:
                    continue
            else:
                reading = False
            kind = np.int64(kinds[np.uint64(code)])
            joins = reading and current != _OUTSIDE
            if unit == WORDS:
                joins = joins and (
                    kind == COMBINING_MARK or (kind == WORD_CHARACTER and current == WORD_CHARACTER)
                )
            elif unit == VISIBLE:
                joins = joins and kind != BLANK
            elif unit == CHARACTERS:
                joins = False
            if not joins:
                if current != _OUTSIDE:
                    if n >= np.uint64(len(ids)):
                        return GROW_IDS
                    known = intern_bytes(strings, word, _U0, filled, 0)
                    if known < 0:
                        return GROW_TABLE
                    ids[n] = np.int32(known)
                    n += _U1
                filled = _U0
                current = np.int64(_OUTSIDE)
                if not reading or (kind == BLANK and unit <= VISIBLE):
                    continue
                current = np.int64(WORD_CHARACTER) if kind == WORD_CHARACTER else np.int64(SINGLE)
            if filled >= capacity:
                return GROW_WORD
            filled += encode(word, filled, code)
        ends[d + _U1] = np.int64(n)
    progress[0] = len(starts) - 1
    return DONE


@jit
def gather(ids: Int32, ends: Int64, mapping: Int32) -> None:
    """Rename the ids of D texts by a mapping, dropping those that become -1, in place.

    ids int32[n], ends int64[D + 1], mapping int32[V]
    """
    n = _U0
    start = np.uint64(ends[0])
    ends[0] = 0
    for d in range(np.uint64(len(ends) - 1)):
        stop = np.uint64(ends[np.uint64(d) + _U1])
        for i in range(start, stop):
            to = mapping[np.uint64(ids[np.uint64(i)])]
            ids[n] = to
            n += np.uint64(to >= 0)
        start = stop
        ends[np.uint64(d) + _U1] = np.int64(n)


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
