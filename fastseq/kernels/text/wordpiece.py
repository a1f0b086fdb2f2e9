"""BERT's tokenizer: normalisation, words, and the longest pieces of each word in a vocabulary.

A text is cut at the added tokens that are written in it, and the parts at ASCII white space and
punctuation, which is all that most texts have. A run between two of them that is letters and digits
is a word as it stands. Any other run is decoded, and each character removed or mapped: its steps
(clean_text, spaces around CJK, NFD without nonspacing marks, lower case) depend on the character
alone, but for the canonical order of the few marks that are not removed.

The vocabulary is a trie over bytes, whose edges are in a hash table by open addressing. The edge of
a node and a byte is in the slot of their sum, or after it, so the edges of a node are neighbours in
memory, and a step is an addition and a load. A second root is that of the added tokens.

Tables: fastseq/text/wordpiece.npz (tools/make_wordpiece_tables.py). Oracle: Hugging Face's
`tokenizers`, crate 0.23: normalizers/bert.rs, pre_tokenizers/bert.rs, models/wordpiece/mod.rs,
tokenizer/added_vocabulary.rs, utils/truncation.rs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16, UInt32, UInt64
from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.text.unicode import MULTIPLE, char_length, decode, encode, table

# bits of a code point's properties
REMOVED, SPACE, PUNCTUATION, CJK, WORD = 1, 2, 4, 8, 16
CLASS_SHIFT = 8
# of a byte: what it is in a text
LETTER, BLANK, MARK, OTHER = range(4)
# bits of an added token
SINGLE_WORD, LEFT_SPACE, RIGHT_SPACE = 1, 2, 4
ENDS = 1 << 31  # of the node in an edge: a string ends there
ROOT = 0

_U0, _U1, _U8, _U32 = (np.uint64(n) for n in (0, 1, 8, 32))
_NODE = np.uint64(ENDS - 1)
_HANGUL, _SYLLABLES = np.uint32(0xAC00), np.uint32(11172)


class Out(NamedTuple):
    """Where tokens go."""

    ids: Int32  # [capacity]
    starts: Int64  # [capacity], or [0] where no spans are wanted
    stops: Int64


class Trie(NamedTuple):
    """The words of the vocabulary and the added tokens."""

    edges: UInt64  # [capacity] node << 40 | byte << 32 | next node, with ENDS; 0 for none
    values: Int32  # [capacity] by node: the id of the word, or number of the added token, that ends
    lower: UInt8  # [256] what is looked up in place of each byte


class Characters(NamedTuple):
    """Properties and the mapping of every code point."""

    properties_index: UInt16  # [8704]
    properties: UInt16  # [128 * blocks]
    map_index: UInt16  # [8704]
    mapped: Int32  # [128 * blocks]
    pool: Int32  # [n]


class Word(NamedTuple):
    """A word that is not ASCII: its mapped characters, and scratch for its bytes."""

    codes: UInt32  # [capacity]
    orders: UInt16  # [capacity] combining classes
    starts: Int64  # [capacity] where each comes from in the data, first byte
    stops: Int64  # [capacity] and past the last
    text: UInt8  # [4 * capacity]
    places: Int32  # [4 * capacity] the character of each byte


class Rules(NamedTuple):
    """The parameters of a tokenizer."""

    inner: int  # the node from which the pieces within a word are looked up
    unknown: int  # the id of a word that has no pieces
    longest: int  # characters of a word that is not unknown
    clean: int
    cjk: int
    strip: int


@inline
def _properties(code, characters):
    """The properties (uint16) of a code point."""
    return table(characters.properties_index, characters.properties, code)


@inline
def _put(out, count, known, start, stop):
    """Add a token; returns the new count."""
    out.ids[count] = np.int32(known)
    if len(out.starts):
        out.starts[count] = np.int64(start)
        out.stops[count] = np.int64(stop)
    return count + _U1


@inline
def _longest(trie, node, data, at, stop, lower):
    """(value, end) of the longest string of the trie from `node` that data[at:stop] begins with;
    the end is `at` where there is none. lower: whether to look up trie.lower of each byte."""
    mask = np.uint64(len(trie.edges)) - _U1
    last, end = node, at
    i = at
    while i < stop:
        byte = np.uint64(trie.lower[data[i]] if lower else data[i])
        key = node << _U8 | byte
        slot = (node + byte) & mask
        edge = trie.edges[slot]
        while edge != _U0 and edge >> _U32 != key:
            slot = (slot + _U1) & mask
            edge = trie.edges[slot]
        if edge == _U0:
            break
        node = edge & _NODE
        i += _U1
        if edge & np.uint64(ENDS):
            last, end = node, i
    return trie.values[last], end


@helper
def _put_pieces(out, count, data, start, stop, trie, rules):
    """Add the pieces of the word data[start:stop]; returns the new count."""
    first = count
    at = start
    node = np.uint64(ROOT)
    while at < stop:
        known, end = _longest(trie, node, data, at, stop, True)
        if end == at:
            return _put(out, first, rules.unknown, start, stop)
        count = _put(out, count, known, at, end)
        at = end
        node = np.uint64(rules.inner)
    return count


@helper
def _put_word(out, count, word, n, stop, trie, rules):
    """Add the pieces of a word of n > 0 characters, of which the first `rules.longest` are in the
    buffer. stop: the end of the last character in the data. Returns the new count."""
    if n > np.uint64(rules.longest):
        return _put(out, count, rules.unknown, word.starts[0], stop)
    filled = _U0
    for k in range(n):
        i = np.uint64(k)
        size = encode(word.text, filled, word.codes[i])
        for j in range(size):
            word.places[filled + np.uint64(j)] = np.int32(i)
        filled += size
    first = count
    count = _put_pieces(out, count, word.text, _U0, filled, trie, rules)
    if len(out.starts):
        for k in range(first, count):
            i = np.uint64(k)
            begin = np.uint64(word.places[np.uint64(out.starts[i])])
            last = np.uint64(word.places[np.uint64(out.stops[i]) - _U1])
            out.starts[i] = word.starts[begin]
            out.stops[i] = word.stops[last]
    return count


@helper
def _add_character(word, n, marks, code, order, start, stop, longest):
    """Add a character to a word of n, as far as there is room; marks: how many at its end are not
    starters, among which one is put in canonical order. Returns n + 1."""
    if n < np.uint64(longest):
        i = n
        if order != 0:
            first = n - marks
            while i > first and word.orders[i - _U1] > order:
                word.codes[i] = word.codes[i - _U1]
                word.orders[i] = word.orders[i - _U1]
                word.starts[i] = word.starts[i - _U1]
                word.stops[i] = word.stops[i - _U1]
                i -= _U1
        word.codes[i] = code
        word.orders[i] = order
        word.starts[i] = np.int64(start)
        word.stops[i] = np.int64(stop)
    return n + _U1


@inline
def _jamo(code, k):
    """Part k of the decomposition of a Hangul syllable."""
    syllable = code - _HANGUL
    if k == 0:
        return np.uint32(0x1100) + syllable // np.uint32(588)
    if k == 1:
        return np.uint32(0x1161) + syllable % np.uint32(588) // np.uint32(28)
    return np.uint32(0x11A7) + syllable % np.uint32(28)


@helper
def _put_run(out, count, data, start, stop, word, trie, characters, rules):
    """Add the words of data[start:stop], character by character; returns the new count."""
    n = _U0
    marks = _U0
    ends = False  # whether the word ends with its last character
    end = start  # of that character
    i = start
    while i < stop:
        code = decode(data, i)
        begin = i
        i += char_length(data[i])
        bits = _properties(code, characters)
        if rules.clean and bits & REMOVED:
            continue
        alone = rules.cjk and bits & CJK != 0
        syllable = rules.strip and code - _HANGUL < _SYLLABLES
        change = np.int64(table(characters.map_index, characters.mapped, code))
        where = (change - MULTIPLE) >> 5
        parts = np.int64(1) if change < MULTIPLE else change & 31
        if syllable:
            parts = np.int64(3) if (code - _HANGUL) % np.uint32(28) else np.int64(2)
        elif parts == 0 and bits >> CLASS_SHIFT == 0:
            marks = _U0  # a starter, although it is removed
        for k in range(parts):
            if syllable:
                made = _jamo(code, k)
            elif change < MULTIPLE:
                made = np.uint32(np.int64(code) + change)
            else:
                made = np.uint32(characters.pool[np.uint64(where + k)])
            bits = _properties(made, characters)
            single = alone or bits & PUNCTUATION != 0
            if n != _U0 and (ends or single or bits & SPACE):
                count = _put_word(out, count, word, n, end, trie, rules)
                n = marks = _U0
            if bits & SPACE:
                continue
            order = np.uint16(bits >> CLASS_SHIFT) if rules.strip else np.uint16(0)
            marks = marks if order else _U0
            n = _add_character(word, n, marks, made, order, begin, i, rules.longest)
            marks += np.uint64(order != 0)
            ends = single
            end = i
    if n != _U0:
        count = _put_word(out, count, word, n, end, trie, rules)
    return count


@inline
def _put_part(out, count, data, start, stop, kinds, word, trie, characters, rules):
    """Add the words of data[start:stop], which has no added token; returns the new count."""
    i = start
    while i < stop:
        kind = kinds[data[i]]
        if kind == BLANK:
            i += _U1
            continue
        begin = i
        i += _U1
        seen = kind == OTHER
        if kind != MARK:
            while i < stop:
                kind = kinds[data[i]]
                if kind in (BLANK, MARK):
                    break
                seen |= kind == OTHER
                i += _U1
        if seen:
            count = _put_run(out, count, data, begin, i, word, trie, characters, rules)
        elif i - begin > np.uint64(rules.longest):
            count = _put(out, count, rules.unknown, begin, i)
        else:
            count = _put_pieces(out, count, data, begin, i, trie, rules)
    return count


@inline
def _start_before(data, i):
    """Where the character begins that ends before data[i]."""
    i -= _U1
    while data[i] & 0xC0 == 0x80:
        i -= _U1
    return i


@helper
def _next_added(data, begin, at, stop, firsts, trie, root, flags, characters):
    """The next added token in data[at:stop] of the text that starts at `begin`: (its number or -1,
    where it begins, where it ends)."""
    i = at
    while i < stop:
        if not firsts[data[i]]:
            i += _U1
            continue
        token, end = _longest(trie, np.uint64(root), data, i, stop, False)
        if end == i:
            i += _U1
            continue
        if flags[np.uint64(token)] & SINGLE_WORD:
            joined = False
            if i > begin:
                joined = _properties(decode(data, _start_before(data, i)), characters) & WORD != 0
            if end < stop:
                joined = joined or _properties(decode(data, end), characters) & WORD != 0
            if joined:
                i = end
                continue
        return token, i, end
    return np.int32(-1), stop, stop


@jit
def add_edges(edges: UInt64, entries: UInt64) -> None:
    """Fill the edges of a trie.

    edges    uint64[capacity]  zeros; the capacity is a power of two above m
    entries  uint64[m]         see Trie
    """
    mask = np.uint64(len(edges)) - _U1
    for k in range(np.uint64(len(entries))):
        entry = entries[np.uint64(k)]
        slot = ((entry >> np.uint64(40)) + (entry >> _U32 & np.uint64(255))) & mask
        while edges[slot] != _U0:
            slot = (slot + _U1) & mask
        edges[slot] = entry


@jit
def encode_words(
    ids: Int32, starts: Int64, stops: Int64, ends: Int64, codes: UInt32, orders: UInt16,
    code_starts: Int64, code_stops: Int64, word_text: UInt8, places: Int32, data: UInt8,
    offsets: Int64, kinds: UInt8, edges: UInt64, values: Int32, lower: UInt8, firsts: UInt8,
    added_ids: Int32, added_flags: UInt8, properties_index: UInt16, properties: UInt16,
    map_index: UInt16, mapped: Int32, pool: Int32, added_root: int, inner: int, unknown: int,
    longest: int, clean: int, cjk: int, strip: int,
) -> None:  # fmt: skip
    """Split D texts into the pieces of their words.

    ids            int32[bytes of the texts]   the tokens, text after text
    starts, stops  int64[the same] or [0]      where each comes from in `data`
    ends           int64[D + 1]                text d has ids[ends[d]:ends[d + 1]]
    codes, …, places                           Word, with room for `longest` characters, or as many
                                               as the longest text has bytes
    data           uint8[…]                    text d is data[offsets[d]:offsets[d + 1]], in UTF-8
    kinds          uint8[256]                  what each byte is
    edges, values, lower                       Trie
    firsts         uint8[256]                  whether an added token begins with the byte
    added_ids      int32[A], added_flags uint8[A]
    properties_index, …, pool                  Characters: the mapping of the chosen steps
    added_root                                 the node from which the added tokens are looked up
    inner, …, strip                            Rules
    """
    out = Out(ids, starts, stops)
    word = Word(codes, orders, code_starts, code_stops, word_text, places)
    trie = Trie(edges, values, lower)
    characters = Characters(properties_index, properties, map_index, mapped, pool)
    rules = Rules(inner, unknown, longest, clean, cjk, strip)
    count = _U0
    ends[0] = 0
    for d in range(np.uint64(len(offsets) - 1)):
        begin = np.uint64(offsets[np.uint64(d)])
        stop = np.uint64(offsets[np.uint64(d) + _U1])
        at = begin
        while at < stop:
            token, first, end = np.int32(-1), stop, stop
            if len(added_ids):
                token, first, end = _next_added(
                    data, begin, at, stop, firsts, trie, added_root, added_flags, characters
                )
            if first > at:
                count = _put_part(out, count, data, at, first, kinds, word, trie, characters, rules)
            if token >= 0:
                flags = added_flags[np.uint64(token)]
                if flags & LEFT_SPACE:
                    while first > at:
                        left = _start_before(data, first)
                        if not _properties(decode(data, left), characters) & SPACE:
                            break
                        first = left
                if flags & RIGHT_SPACE:
                    while end < stop and _properties(decode(data, end), characters) & SPACE:
                        end += char_length(data[end])
                count = _put(out, count, added_ids[np.uint64(token)], first, end)
            at = end
        ends[np.uint64(d) + _U1] = np.int64(count)


@inline
def _kept(one, two, room):
    """How many ids of two sequences of the lengths `one` and `two` remain where `room` do, the
    longer one being truncated first."""
    if one + two <= room:
        return one, two
    short, long = min(one, two), max(one, two)
    long = max(short, room - short) if short <= room else short
    if short + long > room:
        short = room >> 1
        long = short + (room & 1)
    return (short, long) if one <= two else (long, short)


@jit
def join_sequences(
    ids: Int32, types: Int32, offsets: Int64, truncated: UInt8, first: Int32, first_offsets: Int64,
    second: Int32, second_offsets: Int64, length: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Put D sequences, or pairs of them, between special tokens.

    ids        int32[N]      begin, a, end; or begin, a, end, b, end. N: as without truncation
    types      int32[N]      0 up to the first `end`, then 1
    offsets    int64[D + 1]  sequence d is ids[offsets[d]:offsets[d + 1]]
    truncated  uint8[D]      whether ids of it were left out, since they were more than `length`
    first, second            int32[…], with offsets int64[D + 1]; no offsets of `second`: no pairs
    """
    pairs = len(second_offsets) > 0
    to = _U0
    offsets[0] = 0
    for k in range(np.uint64(len(first_offsets) - 1)):
        d = np.uint64(k)
        one = first_offsets[d + _U1] - first_offsets[d]
        two = np.int64(0)
        if pairs:
            two = second_offsets[d + _U1] - second_offsets[d]
        room = np.int64(length) - (3 if pairs else 2)
        if pairs:
            kept, other = _kept(one, two, room)
        else:
            kept, other = min(one, room), np.int64(0)
        truncated[d] = np.uint8(kept + other < one + two)
        ids[to] = np.int32(begin)
        types[to] = 0
        to += _U1
        for i in range(kept):
            ids[to] = first[np.uint64(first_offsets[d] + i)]
            types[to] = 0
            to += _U1
        ids[to] = np.int32(end)
        types[to] = 0
        to += _U1
        if pairs:
            for i in range(other):
                ids[to] = second[np.uint64(second_offsets[d] + i)]
                types[to] = 1
                to += _U1
            ids[to] = np.int32(end)
            types[to] = 1
            to += _U1
        offsets[d + _U1] = np.int64(to)
