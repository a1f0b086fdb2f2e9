"""Words of any language: normalisation, the word boundaries of UAX #29, bigrams.

`tokenize_words` is the tokenizer `unicode`. As in kernels/text/tokenize.py, 64 bytes at a time are
classified and lower-cased, and a run of bytes that is all ASCII is a word as it stands. Any other
run goes through four steps, in a buffer that rarely holds more than one word:

1. decode, and map each character to its NFKC_Casefold (or NFKC);
2. bring marks into canonical order and compose (kernels/text/normal_forms.py);
3. cut where UAX #29 has a word boundary, or where a script that is written without spaces begins
   or ends (Han and kana, Hangul, Thai, Lao, Khmer, Burmese);
4. look up the words that have a letter, a number or an emoji, with any apostrophe inside of them as
   U+0027; of those scripts, the overlapping pairs of grapheme clusters.

Joiners and other default ignorable characters are dropped by the first step. They never separate,
except the zero-width space; the zero-width joiner joins emoji.

Two tailorings of UAX #29: a full stop or a colon between letters separates ("node.js" is two
words), and modern jamo that form no syllable are separate grapheme clusters (`_continues_cluster`).

Tables: fastseq/text/words.npz (tools/make_word_tables.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16, UInt32, UInt64
from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.simd.bytes import classes64, joiners64
from fastseq.kernels.text.hashing import Strings, find_or_add, intern_bytes
from fastseq.kernels.text.normal_forms import (
    CLASS_SHIFT,
    CODE,
    COMPOSED,
    IGNORABLE,
    JOINED,
    NONE,
    ROOM,
    Buffer,
    WordTables,
    add_code,
    compose,
    properties_of,
)
from fastseq.kernels.text.tokenize import (
    AS_WORDS,
    CHUNK,
    DONE,
    GROW_IDS,
    GROW_TABLE,
    GROW_WORD,
    NEWLINE,
    RUNS,
    TOP,
    add_edges,
    close_edges,
    copy_tail,
    hash_runs,
    kept_edges,
)
from fastseq.kernels.text.unicode import MULTIPLE, char_length, decode, encode, table

# Word_Break, as tools/make_word_tables.py numbers it
OTHER, CR, LF, NEW_LINE, EXTEND, ZWJ, FORMAT, REGIONAL, KATAKANA, HEBREW, LETTER = range(11)
SINGLE_QUOTE, DOUBLE_QUOTE, MID_BOTH, MID_LETTER, MID_NUMBER, NUMERIC, CONNECTOR, SPACE = range(
    11, 19
)
# sets of them, and the rules' names for some
NEW_LINES = 1 << CR | 1 << LF | 1 << NEW_LINE
TRANSPARENT = 1 << EXTEND | 1 << ZWJ | 1 << FORMAT
SEPARATORS = 1 << OTHER | 1 << SPACE | NEW_LINES
LETTERS = 1 << LETTER | 1 << HEBREW  # AHLetter
LETTERS_AND_NUMBERS = LETTERS | 1 << NUMERIC
CONNECTED = LETTERS_AND_NUMBERS | 1 << KATAKANA
IN_LETTERS = 1 << MID_LETTER | 1 << MID_BOTH | 1 << SINGLE_QUOTE  # MidLetter, MidNumLetQ
IN_NUMBERS = 1 << MID_NUMBER | 1 << MID_BOTH | 1 << SINGLE_QUOTE  # MidNum, MidNumLetQ
BETWEEN = IN_LETTERS | IN_NUMBERS | 1 << DOUBLE_QUOTE
BREAK = 31  # the bits of a code point's properties
KEEP = 1 << 5
PICTURE = 1 << 6
SCRIPT_SHIFT = 7
CLUSTER_SHIFT = 10
HAN = 1
WHOLE_RUNS = 3  # of the treatment of runs: every one a token, to show it
# Grapheme_Cluster_Break
GB_EXTEND, SPACING_MARK, LEAD, VOWEL, TAIL, LV, LVT = range(1, 8)
MARKS = 1 << GB_EXTEND | 1 << SPACING_MARK

_U0, _U1, _U2, _U63, _U64 = (np.uint64(n) for n in (0, 1, 2, 63, 64))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_CHUNK = np.uint64(CHUNK)
_ZWJ, _ZERO_WIDTH_SPACE = np.uint32(0x200D), np.uint32(0x200B)
_CAPITAL_I, _DOTTED_I, _DOTLESS_I, _SMALL_I = (np.uint32(n) for n in (0x49, 0x130, 0x131, 0x69))
_DOT_ABOVE, _FULL_WIDTH_I = np.uint32(0x307), np.uint32(0xFF29)
_IOTA_SUBSCRIPT, _IOTA = np.uint32(0x345), np.uint32(0x3B9)
_FULL_STOP, _COLON = np.uint32(0x2E), np.uint32(0x3A)
_APOSTROPHE, _MODIFIER_APOSTROPHE = np.uint32(0x27), np.uint32(0x2BC)
_LEFT_QUOTE, _RIGHT_QUOTE = np.uint32(0x2018), np.uint32(0x2019)


# ---- boundaries


@inline
def _is_in(kind, some):
    """Whether a class (uint32) is in a set of them, a mask of bits."""
    return np.uint32(1) << kind & np.uint32(some) != 0


@inline
def _break_of(buffer, i, tailored):
    """The Word_Break class (uint32) of a code in the buffer."""
    code = buffer.codes[i] & CODE
    if tailored and code == _FULL_STOP:
        return np.uint32(MID_NUMBER)
    if tailored and code == _COLON:
        return np.uint32(OTHER)
    return buffer.bits[i] & np.uint32(BREAK)


@inline
def _next_kind(buffer, i, n, tailored):
    """The class of the next code after i that is not transparent; OTHER at the end."""
    k = i + _U1
    while k < n:
        kind = _break_of(buffer, k, tailored)
        if not _is_in(kind, TRANSPARENT):
            return kind
        k += _U1
    return np.uint32(OTHER)


@inline
def _are_joined(earlier, last, kind, after):
    """Whether no boundary is before a code of class `kind`, by the classes of the two codes before
    it and the one after it, without the transparent ones (WB5 to WB13b)."""
    if _is_in(last, LETTERS_AND_NUMBERS) and _is_in(kind, LETTERS_AND_NUMBERS):  # WB5, WB8 to 10
        return True
    if kind == CONNECTOR and _is_in(last, CONNECTED | 1 << CONNECTOR):  # WB13a
        return True
    if last == CONNECTOR and _is_in(kind, CONNECTED):  # WB13b
        return True
    if last == KATAKANA and kind == KATAKANA:  # WB13
        return True
    if _is_in(kind, BETWEEN):
        return (
            (_is_in(last, LETTERS) and _is_in(kind, IN_LETTERS) and _is_in(after, LETTERS))  # WB6
            or (last == NUMERIC and _is_in(kind, IN_NUMBERS) and after == NUMERIC)  # WB12
            or (last == HEBREW and kind == SINGLE_QUOTE)  # WB7a
            or (last == HEBREW and kind == DOUBLE_QUOTE and after == HEBREW)  # WB7b
        )
    return _is_in(last, BETWEEN) and (
        (_is_in(earlier, LETTERS) and _is_in(last, IN_LETTERS) and _is_in(kind, LETTERS))  # WB7
        or (earlier == NUMERIC and _is_in(last, IN_NUMBERS) and kind == NUMERIC)  # WB11
        or (earlier == HEBREW and last == DOUBLE_QUOTE and kind == HEBREW)  # WB7c
    )


@helper
def word_end(buffer, i, n, tailored):
    """The end of the word that begins at code i of the buffer's n (UAX #29)."""
    before = _break_of(buffer, i, tailored)  # the class of the code before, and
    last = before  # that of the last one which is not transparent, and
    earlier = np.uint32(OTHER)  # of the one before that
    odd = before == REGIONAL  # whether it ends in an odd number of regional indicators
    k = i + _U1
    while k < n:
        kind = _break_of(buffer, k, tailored)
        code = buffer.codes[k]
        if _is_in(before, NEW_LINES) or _is_in(kind, NEW_LINES):
            if before != CR or kind != LF:  # WB3 to WB3b
                return k
        elif _is_in(kind, TRANSPARENT):  # WB4
            before = kind
            k += _U1
            continue
        elif last == REGIONAL and kind == REGIONAL:  # WB15, WB16
            if not odd:
                return k
            odd = False
            earlier = before = kind
            k += _U1
            continue
        else:
            after = np.uint32(OTHER)
            if _is_in(kind, BETWEEN):
                after = _next_kind(buffer, k, n, tailored)
            joined = before == ZWJ or code & JOINED != 0
            picture = buffer.bits[k] & np.uint32(PICTURE) != 0
            if not (
                _are_joined(earlier, last, kind, after)
                or (joined and picture)  # WB3c
                or (before == SPACE and kind == SPACE)  # WB3d
            ):
                return k
        odd = kind == REGIONAL
        earlier = last
        before = last = kind
        k += _U1
    return n


# ---- tokens


class Out(NamedTuple):
    """Where tokens go."""

    ids: Int32  # [capacity]
    span_starts: Int64  # [capacity], or [0] where no spans are wanted
    span_stops: Int64
    strings: Strings
    word: UInt8  # scratch, 4 bytes for each code of the buffer


@inline
def _script_of(bits, cjk):
    """The number of the unspaced script of a code, or 0."""
    if cjk == AS_WORDS:
        return np.uint32(0)
    return bits >> np.uint32(SCRIPT_SHIFT) & np.uint32(7)


@helper
def _is_apostrophe(buffer, at, first, stop):
    """Whether a quotation mark or U+02BC is an apostrophe of the word [first, stop): a single one
    between letters or numbers, as U+0027 is in UAX #29."""
    last, after = np.uint32(OTHER), np.uint32(OTHER)
    i = at
    while i > first and last == OTHER:
        i -= _U1
        kind = _break_of(buffer, i, 1)
        if not _is_in(kind, TRANSPARENT):
            if buffer.codes[i] & CODE == _MODIFIER_APOSTROPHE or not _is_in(
                kind, LETTERS_AND_NUMBERS
            ):
                return False
            last = kind
    i = at + _U1
    while i < stop and after == OTHER:
        kind = _break_of(buffer, i, 1)
        if not _is_in(kind, TRANSPARENT):
            if buffer.codes[i] & CODE == _MODIFIER_APOSTROPHE:
                return False
            after = kind
        i += _U1
    return (_is_in(last, LETTERS) and _is_in(after, LETTERS)) or (
        last == NUMERIC and after == NUMERIC
    )


@helper
def _put(out, count, buffer, first, stop):
    """Add the codes [first, stop) as a token; returns the new count, or minus a status."""
    if np.uint64(count) >= np.uint64(len(out.ids)):
        return np.int64(-GROW_IDS)
    filled = _U0
    begin, end = buffer.starts[first], buffer.stops[first]
    for k in range(first, stop):
        i = np.uint64(k)
        code = buffer.codes[i] & CODE
        if code in (_RIGHT_QUOTE, _LEFT_QUOTE, _MODIFIER_APOSTROPHE) and _is_apostrophe(
            buffer, i, first, stop
        ):
            code = _APOSTROPHE
        filled += encode(out.word, filled, code)
        begin = min(begin, buffer.starts[i])
        end = max(end, buffer.stops[i])
    known = intern_bytes(out.strings, out.word, _U0, filled, NEWLINE)
    if known < 0:
        return np.int64(-GROW_TABLE)
    at = np.uint64(count)
    out.ids[at] = np.int32(known)
    if len(out.span_starts):
        out.span_starts[at] = begin
        out.span_stops[at] = end
    return count + 1


@inline
def _is_old_jamo(code):
    """Whether a conjoining jamo is not one of those that modern syllables have."""
    return not (
        code - np.uint32(0x1100) < np.uint32(19)
        or code - np.uint32(0x1161) < np.uint32(21)
        or code - np.uint32(0x11A8) < np.uint32(27)
        or code - np.uint32(0xAC00) < np.uint32(11172)
    )


@inline
def _continues_cluster(buffer, k):
    """Whether code k belongs to the grapheme cluster of the one before.

    Modern jamo that form no syllable are separate clusters, unlike in UAX #29. NFKC maps
    compatibility jamo to them: in 슬퍼ㅠㅠ the cluster would be 퍼 with both vowels.
    """
    kind = buffer.bits[k] >> np.uint32(CLUSTER_SHIFT) & np.uint32(7)
    if _is_in(kind, MARKS):  # GB9, GB9a
        return True
    last = buffer.bits[k - _U1] >> np.uint32(CLUSTER_SHIFT) & np.uint32(7)
    joined = (
        (last == LEAD and _is_in(kind, 1 << LEAD | 1 << VOWEL | 1 << LV | 1 << LVT))  # GB6
        or (_is_in(last, 1 << LV | 1 << VOWEL) and _is_in(kind, 1 << VOWEL | 1 << TAIL))  # GB7
        or (_is_in(last, 1 << LVT | 1 << TAIL) and kind == TAIL)  # GB8
    )
    return joined and (
        _is_old_jamo(buffer.codes[k - _U1] & CODE) or _is_old_jamo(buffer.codes[k] & CODE)
    )


@helper
def _put_run(out, count, buffer, first, n, script, cjk):
    """Add the bigrams of the run of an unspaced script that begins at `first`.

    Returns (the new count or minus a status, where the run ends).
    """
    whole = (script == HAN and cjk == RUNS) or cjk == WHOLE_RUNS
    earlier = NONE  # where the cluster before the current one begins
    current = first
    k = first + _U1
    while True:
        inside = follows = False
        if k < n:
            follows = _continues_cluster(buffer, k)
            of = buffer.bits[k] >> np.uint32(SCRIPT_SHIFT) & np.uint32(7)
            inside = of == script or (of == 0 and follows)
        if not (inside and follows) and not whole:  # the current cluster ends here
            if earlier != NONE:
                count = _put(out, count, buffer, earlier, k)
            elif not inside:
                count = _put(out, count, buffer, current, k)
            if count < 0:
                return count, k
            earlier = current
            current = k
        if not inside:
            if whole:
                count = _put(out, count, buffer, first, k)
            return count, k
        k += _U1


@helper
def _put_words(out, count, buffer, n, cjk):
    """Add the words of the buffer's n codes; returns the new count, or minus a status."""
    i = _U0
    while i < n:
        script = _script_of(buffer.bits[i], cjk)
        if script:
            count, i = _put_run(out, count, buffer, i, n, script, cjk)
            if count < 0:
                return count
            continue
        limit = i + _U1
        while limit < n and not _script_of(buffer.bits[limit], cjk):
            limit += _U1
        while i < limit:
            stop = word_end(buffer, i, limit, 1)
            keep = np.uint32(0)
            for k in range(i, stop):
                keep |= buffer.bits[np.uint64(k)]
            if keep & np.uint32(KEEP):
                count = _put(out, count, buffer, i, stop)
                if count < 0:
                    return count
            i = stop
    return count


@inline
def _flush(out, count, buffer, n, plain, some, cjk):
    """Add the words of the buffer, of which there is one if it is `plain`. some: the properties of
    any of its characters."""
    if not plain:
        return _put_words(out, count, buffer, n, cjk)
    if some & np.uint32(KEEP):
        return _put(out, count, buffer, _U0, n)
    return count


@inline
def _add_iotas(buffer, n, open_at, count, at, tables):
    """Add iota subscripts (U+0345) as the letters that case folding makes of them."""
    for _ in range(count):
        bits = properties_of(tables, _IOTA)
        n, open_at = add_code(buffer, n, open_at, _IOTA, bits, at, at, COMPOSED, tables)
    return n, open_at


@helper
def _put_text(out, count, buffer, data, begin, start, stop, lower, dotless, cjk, tables):
    """Add the tokens of data[start:stop], a run of the text that starts at `begin`.

    Returns the new count, or minus a status.
    """
    # composing anew copies the last starter and its marks behind the rest
    room = (np.uint64(len(buffer.codes)) - np.uint64(ROOM)) >> _U1
    n = _U0
    open_at = NONE
    joined = np.uint32(0)
    iotas = 0  # iota subscripts of the last vowel, added as letters after its other marks
    plain = True  # letters and numbers alone, with their marks: one word
    some = np.uint32(0)
    i = start
    while i < stop:
        if n + np.uint64(iotas) > room:
            return np.int64(-GROW_WORD)
        code = decode(data, i)
        first = np.int64(i - begin)
        i += char_length(data[i])
        if dotless and code in (_CAPITAL_I, _FULL_WIDTH_I):
            code = _DOTLESS_I
            if i < stop and decode(data, i) == _DOT_ABOVE:
                code = _SMALL_I
                i += np.uint64(2)
        elif dotless and code == _DOTTED_I:
            code = _SMALL_I
        end = np.int64(i - begin)
        change = np.int64(table(tables.map_index, tables.mapped, code))
        pieces = np.int64(1)
        where = np.int64(0)
        if change >= MULTIPLE:
            where = (change - MULTIPLE) >> 5
            pieces = change & 31
        for k in range(pieces):
            if change < MULTIPLE:
                made = np.uint32(np.int64(code) + change)
            else:
                made = np.uint32(tables.pool[np.uint64(where + k)])
            if lower and made == _IOTA_SUBSCRIPT:
                iotas += 1
                continue
            bits = properties_of(tables, made)
            kind = bits & np.uint32(BREAK)
            separates = _is_in(kind, SEPARATORS) and bits & np.uint32(KEEP) == 0
            if bits & np.uint32(IGNORABLE):
                if made != _ZERO_WIDTH_SPACE:
                    joined = JOINED if made == _ZWJ else np.uint32(0)
                    continue
                separates = True
            if iotas and bits >> np.uint32(CLASS_SHIFT) == 0:
                n, open_at = _add_iotas(buffer, n, open_at, iotas, first, tables)
                some |= np.uint32(KEEP)
                iotas = 0
            if separates:
                if open_at != NONE:
                    n = compose(buffer, open_at, n, tables)
                    open_at = NONE
                count = _flush(out, count, buffer, n, plain, some, cjk)
                if count < 0:
                    return count
                n = _U0
                plain = True
                some = np.uint32(0)
            else:
                some |= bits
                plain = plain and (
                    _is_in(kind, LETTERS_AND_NUMBERS) or (n > _U0 and _is_in(kind, TRANSPARENT))
                )
                plain = plain and _script_of(bits, cjk) == 0
                n, open_at = add_code(
                    buffer, n, open_at, made | joined, bits, first, end, COMPOSED, tables
                )
            joined = np.uint32(0)
        if pieces == 0 and n > _U0:  # a mark that was removed: its letter's span covers it
            buffer.stops[n - _U1] = end
    if iotas:
        n, open_at = _add_iotas(buffer, n, open_at, iotas, np.int64(stop - begin), tables)
        some |= np.uint32(KEEP)
    if open_at != NONE:
        n = compose(buffer, open_at, n, tables)
    return _flush(out, count, buffer, n, plain, some, cjk)


@inline
def _is_dotted(data, start, length):
    """Whether a run has a capital I."""
    for k in range(length):  # noqa: SIM110 (Numba has no generator expressions)
        if data[start + np.uint64(k)] == 0x49:
            return True
    return False


@inline
def _has_underscores_alone(data, start, length):
    """Whether an ASCII run has no letter and no digit."""
    for k in range(length):  # noqa: SIM110 (Numba has no generator expressions)
        if data[start + np.uint64(k)] != 0x5F:
            return False
    return True


@inline
def _kind_of_byte(byte):
    """The classes of one byte: bit 0 letter, 1 digit, 2 beyond ASCII."""
    lower = byte | np.uint8(0x20)
    return (
        np.uint64(lower >= 97 and lower <= 122 and byte < 128)
        | np.uint64(byte >= 48 and byte <= 57) << _U1
        | np.uint64(byte >= 128) << _U2
    )


@jit
def tokenize_words(
    ids: Int32, ends: Int64, progress: Int64, slots: UInt64, arena: UInt8, offsets: Int64,
    size: Int64, word: UInt8, codes: UInt32, bits: UInt32, code_starts: Int64, code_stops: Int64,
    data: UInt8, starts: Int64, properties_index: UInt16, properties: UInt32, map_index: UInt16,
    mapped: Int32, parts_index: UInt16, parts: Int32, pool: Int32, pairs: Int64,
    span_starts: Int64, span_stops: Int64, scratch: UInt8, edges: Int64, hashes: UInt64, cjk: int,
    lower: int, dotless: int,
) -> int:  # fmt: skip
    """Split D texts into the words of this module, with ids in the order of first occurrence.

    ids, …, size   as for tokenize.tokenize
    word           uint8[4 * capacity] scratch, as the Buffer codes, bits, code_starts, code_stops
    data, starts   as for tokenize.tokenize, and scratch, edges, hashes
    properties_index, …, pairs   WordTables
    span_starts, span_stops      int64[len(ids)]: where in its text each token comes from, in
                                 bytes; or [0] where that is not wanted
    cjk            AS_WORDS, BIGRAMS, RUNS or WHOLE_RUNS, of the unspaced scripts
    lower          1: ASCII is lower-cased (the mapping being a case folding); 0: not
    dotless        1: I and İ are the capitals of ı and i (Turkish)
    """
    strings = Strings(slots, arena, offsets, size)
    tables = WordTables(
        properties_index, properties, map_index, mapped, parts_index, parts, pool, pairs
    )
    buffer = Buffer(codes, bits, code_starts, code_stops)
    out = Out(ids, span_starts, span_stops, strings, word)
    n = np.int64(ends[progress[0]])
    shift = np.uint8(32 if lower else 0)
    capacity = np.uint64(len(ids))
    available = np.uint64(len(data))
    checked = np.uint64(dotless != 0 or len(span_starts) > 0)
    for d in range(np.uint64(progress[0]), np.uint64(len(starts) - 1)):
        progress[0] = d
        begin, end = np.uint64(starts[np.uint64(d)]), np.uint64(starts[np.uint64(d) + _U1])
        length = end - begin
        at, n_edges = _U0, _U0
        carry = _U0  # whether the byte before is in a run
        beyond = _U0
        rare = checked  # whether a run that is all ASCII takes more than a look-up
        while at < length:
            stop = min(at + _CHUNK, length)
            while at < stop:
                source = begin + at
                if source + _U64 <= available:
                    found = classes64(scratch, at, data, source, shift)
                else:  # the last bytes of the buffer, past which nothing may be read
                    copy_tail(scratch, at, data, source, end)
                    found = classes64(scratch, at, scratch, at, shift)
                last_beyond = beyond
                members, beyond, lines, joiners = found
                inside = _ALL
                if length - at < _U64:
                    inside = (_U1 << (length - at)) - _U1
                    members &= inside
                    beyond &= inside
                    lines &= inside
                    joiners &= inside
                rare |= lines
                # Most of these marks stand before a space: without this test of the bytes on both
                # sides, text with punctuation takes 1.2 times as long. A mark without a member on
                # its left joins nothing; one that is the last byte may.
                both = (members << _U1 | carry) & (members >> _U1 | _U1 << _U63)
                if joiners & (both | beyond << _U1 | last_beyond >> _U63):
                    letters, digits, quotes, marks = joiners64(scratch, at)
                    letters &= inside
                    digits &= inside
                    before, after = _U0, _U0
                    if at:
                        before = _kind_of_byte(scratch[at - _U1])
                    if length - at > _U64:
                        after = _kind_of_byte(data[source + _U64])
                    left = letters << _U1 | before & _U1
                    right = letters >> _U1 | (after & _U1) << _U63
                    joins = quotes & left & right
                    left = digits << _U1 | before >> _U1 & _U1
                    right = digits >> _U1 | (after >> _U1 & _U1) << _U63
                    joins |= (quotes | marks) & left & right
                    near = beyond << _U1 | before >> _U2
                    near |= beyond >> _U1 | (after >> _U2) << _U63
                    members |= joins | joiners & near
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
                plain = h < TOP
                if plain and rare:
                    if _has_underscores_alone(scratch, left, size_of):
                        continue
                    plain = not (dotless and _is_dotted(data, begin + left, size_of))
                if plain:
                    if np.uint64(n) >= capacity:
                        return GROW_IDS
                    known = find_or_add(strings, hashes[at_e], h, scratch, left, size_of, NEWLINE)
                    if known < 0:
                        return GROW_TABLE
                    ids[np.uint64(n)] = known
                    if rare and len(span_starts):
                        span_starts[np.uint64(n)] = np.int64(left)
                        span_stops[np.uint64(n)] = np.int64(left + size_of)
                    n += 1
                else:
                    n = _put_text(
                        out, n, buffer, data, begin, begin + left, begin + left + size_of, lower,
                        dotless, cjk, tables,
                    )  # fmt: skip
                    if n < 0:
                        return -n
            n_edges = kept_edges(edges, n_edges)
        ends[np.uint64(d) + _U1] = n
    progress[0] = len(starts) - 1
    return DONE
