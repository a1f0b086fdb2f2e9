"""The words of a vocabulary in the order of their bytes: sort, find, match, compare.

The sorted words are one run of bytes with, for each word, the length of its common prefix with the
word before (LCP, uint8, clipped at DEEPEST) and its byte after that prefix (its branch).
`match_words` and `compare_words` are depth-first walks of the trie that these arrays imply: the
state after each byte of the current word is on a stack, from which the next word takes the state
after their common prefix. Where no continuation can match, the words with that prefix are skipped
by comparing 64 LCPs at a time; where only some bytes can follow, so are those with other branches.
Beyond DEEPEST bytes nothing is reused: a word is read from there on.

`compare_words` simulates the nondeterministic automaton of edit distance with bits (Wu & Manber
1992, "Fast text searching allowing errors"; transpositions as Hyyrö 2003, "A bit-vector algorithm
for computing Levenshtein and Damerau edit distances"). At code point j of a word, bit b of row d is
set if j code points of the word can be made from i = j - 2 + b of the query with at most d edits.
As |i - j| <= 2, five bits are enough for words of any length.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16, UInt32, UInt64
from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.simd.bytes import below64, equal8, equal64, load8, trailing_zeros
from fastseq.kernels.text.unicode import char_length, decode

DEEPEST = 255  # LCPs are clipped at this
STACK = DEEPEST + 1  # states on the stack: after 0 to DEEPEST bytes
PADDING = 64  # zeros after the LCPs of all words, and bytes readable after the words
BEFORE, THROUGH, STARTING = 0, 1, 2  # what `find_word` counts
NO_LEAD = 0xFF  # no byte of UTF-8
DEAD, START = 0, 1  # states of every automaton
ACCEPTS, ALWAYS = 1, 2  # bits of a state: its words match; so do all with further characters
MOST_EDITS = 2
QUERY_BEFORE, QUERY_AFTER = 2, 10  # code points that no word has around those of a query

_BLOCK = np.uint64(8)  # words sorted by insertion before blocks are merged
_DEEPEST = np.uint64(DEEPEST)
_ASCII = np.uint32(128)
_WINDOW = np.uint64(31)  # the five bits of a row
_BYTE = np.uint64(255)
_NONE, _ONE, _TWO = (np.uint64(n) for n in (0b00100, 0b01100, 0b11100))  # i - j to 0, 1, 2
_U0, _U1, _U2, _U8, _U16, _U24, _U32, _U40, _U48, _U64 = (
    np.uint64(n) for n in (0, 1, 2, 8, 16, 24, 32, 40, 48, 64)
)


# ---- sorting


@jit
def first_bytes(out: UInt64, data: UInt8, offsets: Int64) -> None:
    """out uint64[n]: the first eight bytes of each word data[offsets[i]:offsets[i + 1]] as a
    big-endian number, zeros where it is shorter."""
    for i in range(np.uint64(len(out))):
        at = np.uint64(offsets[i])
        stop = min(np.uint64(offsets[i + _U1]), at + _U8)
        key = _U0
        shift = _U64
        while at < stop:
            shift -= _U8
            key |= np.uint64(data[at]) << shift
            at += _U1
        out[i] = key


@helper
def _is_before(data, offsets, a, b):
    """Whether word a is before word b, where both have the same `first_bytes`."""
    first, second = np.uint64(a), np.uint64(b)
    at, bt = np.uint64(offsets[first]), np.uint64(offsets[second])
    length = np.uint64(offsets[first + _U1]) - at
    other = np.uint64(offsets[second + _U1]) - bt
    n = min(length, other)
    i = min(_U8, n)
    while i + _U8 <= n and load8(data, at + i) == load8(data, bt + i):
        i += _U8
    while i < n:
        if data[at + i] != data[bt + i]:
            return data[at + i] < data[bt + i]
        i += _U1
    return length < other


@helper
def _sort_run(order, scratch, first, stop, data, offsets):
    """Sort order[first:stop], words with the same `first_bytes`: insertion, then merging."""
    begin = first
    while begin < stop:
        end = min(begin + _BLOCK, stop)
        for k in range(begin + _U1, end):
            at = np.uint64(k)
            word = order[at]
            while at > begin and _is_before(data, offsets, word, order[at - _U1]):
                order[at] = order[at - _U1]
                at -= _U1
            order[at] = word
        begin = end
    width = _BLOCK
    while width < stop - first:
        begin = first
        while begin + width < stop:
            middle = begin + width
            end = min(middle + width, stop)
            left, right = begin, middle
            for k in range(begin, end):
                if right == end or (
                    left < middle and not _is_before(data, offsets, order[right], order[left])
                ):
                    scratch[np.uint64(k)] = order[left]
                    left += _U1
                else:
                    scratch[np.uint64(k)] = order[right]
                    right += _U1
            for k in range(begin, end):
                order[np.uint64(k)] = scratch[np.uint64(k)]
            begin += width + width
        width += width


@jit
def sort_ties(order: Int32, scratch: Int32, keys: UInt64, data: UInt8, offsets: Int64) -> None:
    """Sort words whose `first_bytes` are equal.

    order    int32[n]   words in ascending order of keys; becomes the order by bytes
    scratch  int32[n]
    keys     uint64[n]  of word i
    """
    n = np.uint64(len(order))
    first = _U0
    while first < n:
        key = keys[np.uint64(order[first])]
        stop = first + _U1
        while stop < n and keys[np.uint64(order[stop])] == key:
            stop += _U1
        if stop - first > _U1:
            _sort_run(order, scratch, first, stop, data, offsets)
        first = stop


@jit
def gather_words(
    out: UInt8, out_offsets: Int64, lcp: UInt8, branches: UInt8, data: UInt8, offsets: Int64,
    order: Int32,
) -> None:  # fmt: skip
    """Copy words in sorted order.

    out          uint8[bytes + PADDING]
    out_offsets  int64[n + 1]
    lcp          uint8[n + PADDING]  zeros; becomes the length of the common prefix of word i and
                                     word i - 1 in bytes, at most DEEPEST
    branches     uint8[n + PADDING]  zeros; becomes the byte of each word after this prefix
    order        int32[n]            the words data[offsets[i]:offsets[i + 1]] in ascending order
    """
    before = _U0
    to = _U0
    out_offsets[0] = 0
    for k in range(np.uint64(len(order))):
        word = np.uint64(order[k])
        start = np.uint64(offsets[word])
        length = np.uint64(offsets[word + _U1]) - start
        for i in range(length):
            out[to + np.uint64(i)] = data[start + np.uint64(i)]
        if k:
            n = min(length, to - before, _DEEPEST)
            common = _U0
            while common < n and out[before + common] == out[to + common]:
                common += _U1
            lcp[k] = np.uint8(common)
            branches[k] = out[to + common]
        before = to
        to += length
        out_offsets[np.uint64(k) + _U1] = np.int64(to)


# ---- finding


@jit
def find_word(data: UInt8, offsets: Int64, key: UInt8, what: int) -> int:
    """How many of the sorted words are less than the key uint8[m], by bytes (what = BEFORE), less
    or equal (THROUGH), or less or begin with it (STARTING)."""
    low, high = _U0, np.uint64(len(offsets) - 1)
    size = np.uint64(len(key))
    while low < high:
        middle = (low + high) >> _U1
        at = np.uint64(offsets[middle])
        length = np.uint64(offsets[middle + _U1]) - at
        n = min(length, size)
        i = _U0
        while i < n and data[at + i] == key[i]:
            i += _U1
        if i < n:
            less = data[at + i] < key[i]
        elif what == STARTING or length < size:
            less = True
        else:
            less = length == size and what == THROUGH
        if less:
            low = middle + _U1
        else:
            high = middle
    return np.int64(low)


@inline
def _next_below(lcp, at, depth):
    """The first word from `at` on whose LCP is below `depth` (1 to DEEPEST); the number of words
    where there is none."""
    i = np.uint64(at)
    limit = np.uint8(depth)
    while True:
        mask = below64(lcp, i, limit)
        if mask != _U0:
            return i + trailing_zeros(mask)
        i += _U64


@helper
def _next_branch(lcp, branches, leads, j, allowed, at, depth):
    """The first word from `at` on whose LCP is below `depth` (1 to DEEPEST), or equal with one of
    the bytes leads[j + b] of the set bits b of `allowed` after it; the number of words where there
    is none."""
    i = np.uint64(at)
    limit = np.uint8(depth)
    while True:
        mask = equal64(lcp, i, limit)
        if mask != _U0:
            some = _U0
            rest = allowed
            while rest != _U0:
                some |= equal64(branches, i, leads[j + trailing_zeros(rest)])
                rest &= rest - _U1
            mask &= some
        mask |= below64(lcp, i, limit)
        if mask != _U0:
            return i + trailing_zeros(mask)
        i += _U64


@inline
def _character_start(data, start, depth, least):
    """`depth`, or the first byte of the character of the word at `start` that contains it."""
    while depth > least and data[start + depth] & np.uint8(0xC0) == np.uint8(0x80):
        depth -= _U1
    return depth


# ---- automata


@inline
def _class_of(bounds, classes, code):
    """classes[i] of the range bounds[i] to bounds[i + 1] that has the code point."""
    low, high = _U0, np.uint64(len(bounds))
    while high - low > _U1:
        middle = (low + high) >> _U1
        if bounds[middle] <= code:
            low = middle
        else:
            high = middle
    return np.uint64(classes[low])


@jit
def match_words(
    out: Int32, stack: UInt16, order: Int32, data: UInt8, offsets: Int64, lcp: UInt8,
    first: int, stop: int, table: UInt16, flags: UInt8, ascii_classes: UInt16, bounds: UInt32,
    classes: UInt16,
) -> int:  # fmt: skip
    """Find the words that an automaton over code points accepts; returns their number.

    out            int32[stop - first]  their numbers in the vocabulary, ascending by spelling
    stack          uint16[STACK]
    order, data, offsets, lcp           the sorted words, of which those from `first` to `stop`
    table          uint16[S, C]         the next state, by state and class; DEAD remains DEAD
    flags          uint8[S]             ACCEPTS, ALWAYS
    ascii_classes  uint16[128]          the class of each ASCII character
    bounds         uint32[n]            ascending from 0: the class of the code points from
    classes        uint16[n]            bounds[i] to below bounds[i + 1] is classes[i]
    """
    found = _U0
    stack[0] = START
    state = np.uint64(START)
    word = np.uint64(first)
    end = np.uint64(stop)
    depth = _U0
    while word < end:
        start = np.uint64(offsets[word])
        length = np.uint64(offsets[word + _U1]) - start
        depth = _character_start(data, start, depth, _U0)
        state = np.uint64(stack[depth])
        while depth < length and not flags[state] & ALWAYS:
            code = decode(data, start + depth)
            if code < _ASCII:
                kind = np.uint64(ascii_classes[code])
                depth += _U1
            else:
                kind = _class_of(bounds, classes, code)
                depth += char_length(data[start + depth])
            state = np.uint64(table[state, kind])
            if depth <= _DEEPEST:
                stack[depth] = state
            if state == DEAD:
                break
        if flags[state] & ACCEPTS:
            out[found] = order[word]
            found += _U1
        word += _U1
        if depth <= _DEEPEST:
            if state == DEAD:
                word = _next_below(lcp, word, depth)
            elif flags[state] & ALWAYS:
                last = end
                if depth > _U0:
                    last = min(_next_below(lcp, word, depth), end)
                while word < last:
                    out[found] = order[word]
                    found += _U1
                    word += _U1
        depth = np.uint64(lcp[word])
    return np.int64(found)


# ---- edit distance


@inline
def _packed(row0, row1, row2, last0, last1, last_same, j):
    """The state after j code points as a uint64: the three rows, two of those at j - 1, and which
    code points of the query equal the last one."""
    rows = row0 | row1 << _U8 | row2 << _U16
    return rows | last0 << _U24 | last1 << _U32 | last_same << _U40 | j << _U48


@inline
def _is_allowed(leads, j, allowed, lead):
    """Whether a byte is one of leads[j + b] of the set bits b of `allowed`."""
    rest = allowed
    while rest != _U0:
        if leads[j + trailing_zeros(rest)] == lead:
            return True
        rest &= rest - _U1
    return False


@jit
def compare_words(
    out: Int32, edits: UInt8, stack: UInt64, order: Int32, data: UInt8, offsets: Int64,
    lcp: UInt8, branches: UInt8, first: int, stop: int, skip: int, query: UInt32, leads: UInt8,
    max_edits: int,
) -> int:  # fmt: skip
    """Find the words within an edit distance of a query; returns their number.

    Edits are insertions, deletions, substitutions and transpositions of neighbouring code points,
    none of which changes a part of the word twice (optimal string alignment).

    out, edits   int32, uint8 [stop - first]: their numbers in the vocabulary, ascending by
                 spelling, and distances
    stack        uint64[STACK]
    order, data, offsets, lcp, branches: the sorted words, of which those from `first` to `stop`
    skip         bytes at the beginning of these words to ignore, at the end of a character
    query        uint32[QUERY_BEFORE + m + QUERY_AFTER]: its m code points, NOTHING around them
    leads        uint8, of the same length: the first byte of each in UTF-8, NO_LEAD for NOTHING
    max_edits    1 or 2
    """
    size = np.uint64(len(query) - QUERY_BEFORE - QUERY_AFTER)
    least = np.uint64(skip)
    end = np.uint64(stop)
    most = np.int64(max_edits)
    found = _U0
    word = np.uint64(first)
    depth = least
    # Row 2 has max_edits, rows 1 and 0 one and two less. After 0 code points some of the query are
    # deleted, at most as many. Bits beyond the end of the query never match, and never come back
    initial = _packed(_NONE, _ONE, _TWO, _U0, _U0, _U0, _U0)
    if most == 1:
        initial = _packed(_U0, _NONE, _ONE, _U0, _U0, _U0, _U0)
    while word < end:
        start = np.uint64(offsets[word])
        length = np.uint64(offsets[word + _U1]) - start
        depth = _character_start(data, start, max(depth, least), least)
        state = initial if depth == least else stack[depth]
        row0, row1, row2 = state & _BYTE, state >> _U8 & _BYTE, state >> _U16 & _BYTE
        last0, last1 = state >> _U24 & _BYTE, state >> _U32 & _BYTE
        last_same, j = state >> _U40 & _BYTE, state >> _U48
        node = depth  # bytes before the last code point
        allowed = _U0
        while depth < length and row2 != _U0:
            node = depth
            allowed = row2
            code = decode(data, start + depth)
            depth += char_length(data[start + depth])
            same = equal8(query, j, code) & _WINDOW
            j += _U1
            swapped = last_same >> _U1 & same << _U1
            new0 = row0 & same
            new1 = row1 & same | row0 | row0 >> _U1 | new0 << _U1 & _WINDOW
            new1 |= last0 & swapped
            new2 = row2 & same | row1 | row1 >> _U1 | new1 << _U1 & _WINDOW
            new2 |= last1 & swapped
            last0, last1, last_same = row0, row1, same
            row0, row1, row2 = new0, new1, new2
            if depth <= _DEEPEST:
                stack[depth] = _packed(row0, row1, row2, last0, last1, last_same, j)
        word += _U1
        if row2 != _U0:
            if j <= size + _U2 and size <= j + _U2:
                bit = _U1 << (size + _U2 - j)
                if row2 & bit:
                    out[found] = order[word - _U1]
                    fewer = np.int64(row1 & bit != _U0) + np.int64(row0 & bit != _U0)
                    edits[found] = np.uint8(most - fewer)
                    found += _U1
        elif depth <= _DEEPEST:
            # no edits were left before the last code point: one of the query had to follow
            if not _is_allowed(leads, j - _U1, allowed, data[start + node]):
                word = _next_branch(lcp, branches, leads, j - _U1, allowed, word, node)
            else:
                word = _next_below(lcp, word, depth)
        depth = np.uint64(lcp[word])
    return np.int64(found)
