"""Postings lists and records of documents in the Common Index File Format: Protocol Buffers
messages, each after its length as a varint (store/ciff.py has their fields).

What is read may be anything: a message that is not one of these is reported by its number, and
nothing outside of the data is read.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8, UInt16
from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.core.varints import put
from fastseq.kernels.search.postings import (
    LARGE_PACKED_TF,
    LARGE_TF,
    WINDOW,
    WINDOW_BITS,
    frequency,
)

_U0, _U1, _U3, _U7, _U128 = (np.uint64(n) for n in (0, 1, 3, 7, 128))
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
# problems of a message
MALFORMED, NO_TERM, NO_POSTINGS, BAD_DOCUMENT, BAD_FREQUENCY, BAD_NUMBER = range(1, 7)


# ---- writing


@inline
def _size(value):
    """The bytes of an integer."""
    rest = np.uint64(value)
    size = 1
    while rest >= _U128:
        rest >>= _U7
        size += 1
    return size


@inline
def _field_size(value):
    """The bytes of a field with a number; 0 is left out."""
    return 0 if value == 0 else 1 + _size(value)


@inline
def _put_field(out, at, field, value):
    """Write a field with a number; returns the place after it."""
    if value != 0:
        out[at] = np.uint8(field << 3)
        at = put(out, at + _U1, value)
    return at


@inline
def _put_bytes(out, at, field, data, start, stop):
    """Write a field with bytes; returns the place after it."""
    if stop > start:
        out[at] = np.uint8(field << 3 | _BYTES)
        at = put(out, at + _U1, stop - start)
        for i in range(np.uint64(start), np.uint64(stop)):
            out[at] = data[i]
            at += _U1
    return at


@jit
def collect_postings(docs, tfs, places, postings, rows, terms):
    """Copy the postings of some terms of a segment; segments in document order.

    docs, tfs  int32[P]  documents and frequencies, term after term
    places     int64[n]  where each term's next posting goes; advanced
    rows       int32[documents]  the number of each document, -1 for a deleted one
    terms      int32[n]  the terms in the segment, -1 for one that it lacks
    """
    documents = np.uint64(len(rows))
    for i in range(np.uint64(len(terms))):
        if terms[i] < 0:
            continue
        term = np.uint64(terms[i])
        to = np.uint64(places[i])
        at = np.uint64(postings.term_posting[term])
        for run in range(postings.term_run[term], postings.term_run[term + _U1]):
            base = np.uint64(postings.run_window[np.uint64(run)]) << np.uint64(WINDOW_BITS)
            stop = at + np.uint64(postings.run_count[np.uint64(run)]) + _U1
            for j in range(at, stop):
                document = base + np.uint64(postings.docs[j])
                if document < documents and rows[document] >= 0:
                    docs[to] = rows[document]
                    tfs[to] = np.int32(frequency(postings, j))
                    to += _U1
            at = stop
        places[i] = np.int64(to)


@jit
def size_lists(sizes: Int64, docs: Int32, tfs: Int32, offsets: Int64, terms: Int64) -> None:
    """sizes int64[n]: the bytes of each postings list, without its length.

    docs, tfs  int32[P]      document and frequency of each posting
    offsets    int64[n + 1]  list i has the postings offsets[i] to offsets[i + 1]
    terms      int64[n + 1]  the offsets of the terms
    """
    for i in range(np.uint64(len(sizes))):
        total = np.int64(0)
        cf = np.int64(0)
        last = np.int64(0)
        for j in range(np.uint64(offsets[i]), np.uint64(offsets[i + _U1])):
            inner = _field_size(docs[j] - last) + _field_size(tfs[j])
            last = np.int64(docs[j])
            cf += tfs[j]
            total += 1 + _size(inner) + inner
        length = terms[i + _U1] - terms[i]
        total += _field_size(offsets[i + _U1] - offsets[i]) + _field_size(cf)
        if length:
            total += 1 + _size(length) + length
        sizes[i] = total


@jit
def write_lists(
    out: UInt8, sizes: Int64, docs: Int32, tfs: Int32, offsets: Int64, data: UInt8, terms: Int64
) -> int:
    """Write n postings lists, each after its length; returns the bytes written.

    out    uint8[sum of sizes + 10 n]
    sizes  int64[n]  of size_lists
    data   uint8[…]  the terms: term i is data[terms[i]:terms[i + 1]]
    docs, tfs, offsets, terms  as in size_lists
    """
    at = _U0
    for i in range(np.uint64(len(sizes))):
        cf = np.int64(0)
        for j in range(np.uint64(offsets[i]), np.uint64(offsets[i + _U1])):
            cf += tfs[j]
        at = put(out, at, sizes[i])
        at = _put_bytes(out, at, 1, data, terms[i], terms[i + _U1])
        at = _put_field(out, at, 2, offsets[i + _U1] - offsets[i])
        at = _put_field(out, at, 3, cf)
        last = np.int64(0)
        for j in range(np.uint64(offsets[i]), np.uint64(offsets[i + _U1])):
            gap = docs[j] - last
            last = np.int64(docs[j])
            out[at] = np.uint8(4 << 3 | _BYTES)
            at = put(out, at + _U1, _field_size(gap) + _field_size(tfs[j]))
            at = _put_field(out, at, 1, gap)
            at = _put_field(out, at, 2, tfs[j])
    return np.int64(at)


@jit
def write_documents(out: UInt8, first: int, data: UInt8, ids: Int64, lengths: Int32) -> int:
    """Write the records of n documents, each after its length; returns the bytes written.

    out      uint8[bytes of the ids + 40 n]
    first    the number of the first document
    data     uint8[…]  the ids: id i is data[ids[i]:ids[i + 1]]
    lengths  int32[n]  tokens of each document
    """
    at = _U0
    for i in range(np.uint64(len(lengths))):
        number = np.int64(first) + np.int64(i)
        length = ids[i + _U1] - ids[i]
        size = _field_size(number) + _field_size(lengths[i])
        if length:
            size += 1 + _size(length) + length
        at = put(out, at, size)
        at = _put_field(out, at, 1, number)
        at = _put_bytes(out, at, 2, data, ids[i], ids[i + _U1])
        at = _put_field(out, at, 3, lengths[i])
    return np.int64(at)


# ---- reading


@inline
def _get(data, at, stop):
    """(an integer, the place after it); stop + 1 where it does not end before `stop`, or is longer
    than 64 bits."""
    value = _U0
    shift = _U0
    while at < stop and shift < np.uint64(70):
        byte = np.uint64(data[at])
        at += _U1
        value |= (byte & np.uint64(127)) << shift
        if byte < _U128:
            return np.int64(value), at
        shift += _U7
    return np.int64(0), stop + _U1


@inline
def _next_field(data, at, stop):
    """(field, its number or 0, where its bytes start, where it ends); the field is -1 where it is
    malformed."""
    key, at = _get(data, at, stop)
    field = key >> 3
    wire = key & 7
    value = np.int64(0)
    start = at
    if at > stop or field <= 0:
        return np.int64(-1), value, start, stop
    if wire == _VARINT:
        value, at = _get(data, at, stop)
    elif wire == _BYTES:
        length, start = _get(data, at, stop)
        if start > stop or length < 0 or np.uint64(length) > stop - start:
            return np.int64(-1), value, start, stop
        at = start + np.uint64(length)
        return field << 3 | wire, value, start, at
    elif wire == _EIGHT:
        at += np.uint64(8)
    elif wire == _FOUR:
        at += np.uint64(4)
    else:
        return np.int64(-1), value, start, stop
    if at > stop:
        return np.int64(-1), value, start, stop
    return field << 3 | wire, value, start, at


@jit
def find_messages(bounds: Int64, data: UInt8, most: int) -> tuple[int, int]:
    """(the number of whole messages at the beginning of the data, at most `most`; the bytes that
    the next one needs, 0 where its length is not there, -1 where that is no length).

    bounds  int64[2 · most]  where each message starts and stops, without its length
    """
    at = _U0
    stop = np.uint64(len(data))
    for i in range(np.uint64(most)):
        length, start = _get(data, at, stop)
        if start > stop:
            whole = stop - at >= np.uint64(10)
            return np.int64(i), np.int64(-1 if whole else 0)
        if length < 0:
            return np.int64(i), np.int64(-1)
        if np.uint64(length) > stop - start:
            return np.int64(i), length + np.int64(start - at)
        at = start + np.uint64(length)
        bounds[np.uint64(2) * i] = np.int64(start)
        bounds[np.uint64(2) * i + _U1] = np.int64(at)
    return np.int64(most), np.int64(0)


@jit
def count_postings(counts: Int64, data: UInt8, bounds: Int64) -> int:
    """counts int64[n]: the postings of each postings list. Returns the first one that is malformed,
    n for none."""
    for i in range(np.uint64(len(counts))):
        at = np.uint64(bounds[np.uint64(2) * i])
        stop = np.uint64(bounds[np.uint64(2) * i + _U1])
        counts[i] = 0
        while at < stop:
            field, _, _, at = _next_field(data, at, stop)
            if field < 0:
                return np.int64(i)
            counts[i] += field == (4 << 3 | _BYTES)
    return np.int64(len(counts))


@jit
def read_lists(
    terms: Int64, dfs: Int64, docs: Int32, tfs: Int32, offsets: Int64, data: UInt8, bounds: Int64,
    documents: int,
) -> tuple[int, int]:  # fmt: skip
    """Read n postings lists that count_postings has counted; (the first one with a problem or n,
    the problem).

    terms      int64[2 n]    where each term starts and stops in the data
    dfs        int64[n]      the field df
    docs, tfs  int32[P], offsets int64[n + 1]  as in size_lists
    documents  their number
    """
    for i in range(np.uint64(len(dfs))):
        at = np.uint64(bounds[np.uint64(2) * i])
        stop = np.uint64(bounds[np.uint64(2) * i + _U1])
        to = np.uint64(offsets[i])
        last = np.int64(-1)
        terms[np.uint64(2) * i] = 0
        terms[np.uint64(2) * i + _U1] = 0
        dfs[i] = 0
        while at < stop:
            field, value, start, at = _next_field(data, at, stop)
            if field == (1 << 3 | _BYTES):
                terms[np.uint64(2) * i] = np.int64(start)
                terms[np.uint64(2) * i + _U1] = np.int64(at)
            elif field == (2 << 3 | _VARINT):
                dfs[i] = value
            elif field == (4 << 3 | _BYTES):
                gap = np.int64(0)
                tf = np.int64(0)
                inner = start
                while inner < at:
                    part, number, _, inner = _next_field(data, inner, at)
                    if part < 0:
                        return np.int64(i), MALFORMED
                    if part == (1 << 3 | _VARINT):
                        gap = number
                    elif part == (2 << 3 | _VARINT):
                        tf = number
                first = last < 0
                if gap < 0 or gap >= documents or (gap == 0 and not first):
                    return np.int64(i), BAD_DOCUMENT
                last = gap if first else last + gap
                if last >= documents:
                    return np.int64(i), BAD_DOCUMENT
                if tf < 1 or tf > np.int64(0x7FFFFFFF):
                    return np.int64(i), BAD_FREQUENCY
                docs[to] = np.int32(last)
                tfs[to] = np.int32(tf)
                to += _U1
        if terms[np.uint64(2) * i] == terms[np.uint64(2) * i + _U1]:
            return np.int64(i), NO_TERM
        if np.uint64(offsets[i]) == to:
            return np.int64(i), NO_POSTINGS
    return np.int64(len(dfs)), 0


@jit
def read_documents(
    numbers: Int64, ids: Int64, lengths: Int64, data: UInt8, bounds: Int64
) -> tuple[int, int]:
    """Read the records of n documents; (the first one with a problem or n, the problem).

    numbers, lengths  int64[n]  the fields docid and doclength
    ids               int64[2 n]  where each id starts and stops in the data
    """
    for i in range(np.uint64(len(numbers))):
        at = np.uint64(bounds[np.uint64(2) * i])
        stop = np.uint64(bounds[np.uint64(2) * i + _U1])
        numbers[i] = 0
        lengths[i] = 0
        ids[np.uint64(2) * i] = 0
        ids[np.uint64(2) * i + _U1] = 0
        while at < stop:
            field, value, start, at = _next_field(data, at, stop)
            if field < 0:
                return np.int64(i), MALFORMED
            if field == (1 << 3 | _VARINT):
                numbers[i] = value
            elif field == (2 << 3 | _BYTES):
                ids[np.uint64(2) * i] = np.int64(start)
                ids[np.uint64(2) * i + _U1] = np.int64(at)
            elif field == (3 << 3 | _VARINT):
                lengths[i] = value
        if lengths[i] < 0 or lengths[i] > np.int64(0x7FFFFFFF):
            return np.int64(i), BAD_NUMBER
    return np.int64(len(numbers)), 0


@jit
def split_windows(
    docs: UInt16, tfs: UInt8, runs: Int32, run_windows: UInt16, run_counts: UInt16,
    large_at: Int64, large_tf: Int32, documents: Int32, frequencies: Int32, offsets: Int64,
    first: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Postings lists as an index has them: documents by windows, frequencies of a byte.

    docs, tfs   uint16[P], uint8[P]  document in its window, frequency or LARGE_TF
    runs        int32[n]     windows of each list
    run_windows, run_counts  uint16[P]  the windows, and the postings in each, less one
    large_at, large_tf  int64[P], int32[P]  positions and values of frequencies from LARGE_TF on
    documents, frequencies  int32[P], offsets int64[n + 1]  the postings of the lists
    first       the number of the first posting

    Returns (the number of runs, of frequencies from LARGE_PACKED_TF on, from LARGE_TF on).
    """
    run = _U0
    packed_larges = 0
    larges = _U0
    for i in range(np.uint64(len(runs))):
        window = np.int64(-1)
        runs[i] = 0
        for j in range(np.uint64(offsets[i]), np.uint64(offsets[i + _U1])):
            if documents[j] >> WINDOW_BITS == window:
                run_counts[run - _U1] += np.uint16(1)
            else:
                window = np.int64(documents[j] >> WINDOW_BITS)
                run_windows[run] = np.uint16(window)
                run_counts[run] = np.uint16(0)
                run += _U1
                runs[i] += 1
            docs[j] = np.uint16(documents[j] & (WINDOW - 1))
            tf = frequencies[j]
            packed_larges += tf >= LARGE_PACKED_TF
            tfs[j] = np.uint8(min(tf, LARGE_TF))
            if tf >= LARGE_TF:
                large_at[larges] = np.int64(first) + np.int64(j)
                large_tf[larges] = tf
                larges += _U1
    return np.int64(run), packed_larges, np.int64(larges)
