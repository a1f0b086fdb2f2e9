"""Counting terms by document, document-term matrices, and terms in the order of their bytes."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Float64, Int32, Int64, UInt8, UInt64
from fastseq.kernels.core.jit import inline, jit

_U1, _U2, _U3, _U4, _U8 = (np.uint64(n) for n in (1, 2, 3, 4, 8))
_BYTE = np.uint64(255)

FEW = 24  # up to here insertion sort is the fastest
_STEP = 7  # bytes of a string in one sort key
_TOP = 56  # a key's first byte

NO_NORM, L1, L2 = 0, 1, 2


@jit
def count_documents(seen: Int32, totals: Int64, ids: Int32, offsets: Int64, first: int) -> None:
    """Add D texts, first … first + D - 1, to the document frequencies of their terms.

    seen     int32[2 * V]  (1 + the last text that has term i, document frequency of i)
    totals   int64[V]      occurrences of every term; of length 0: not counted
    ids      int32[n]      text d has ids[offsets[d]:offsets[d + 1]]
    """
    counted = len(totals) > 0
    for d in range(np.uint64(len(offsets) - 1)):
        mark = np.int32(first + np.int64(d) + 1)
        for i in range(np.uint64(offsets[d]), np.uint64(offsets[np.uint64(d) + _U1])):
            term = np.uint64(ids[np.uint64(i)])
            at = term << _U1
            if seen[at] != mark:
                seen[at] = mark
                seen[at | _U1] += np.int32(1)
            if counted:
                totals[term] += 1


@inline
def _sort(values, spare, counts, start, n, bits):
    """Sort values[start:start + n], non-negative and below 2 ** bits.

    spare int32[>= n], counts int32[256]: scratch. Least significant byte first.
    """
    if n <= np.uint64(FEW):
        for i in range(start + _U1, start + n):
            value = values[np.uint64(i)]
            k = np.uint64(i)
            while k > start and values[k - _U1] > value:
                values[k] = values[k - _U1]
                k -= _U1
            values[k] = value
        return
    shift = np.uint64(0)
    swapped = False  # whether the values are in `spare`
    while shift < np.uint64(bits):
        counts[:] = 0
        for i in range(n):
            value = spare[np.uint64(i)] if swapped else values[start + np.uint64(i)]
            counts[(np.uint64(value) >> shift) & _BYTE] += np.int32(1)
        total = np.int32(0)
        for byte in range(np.uint64(256)):
            count = counts[np.uint64(byte)]
            counts[np.uint64(byte)] = total
            total += count
        for i in range(n):
            value = spare[np.uint64(i)] if swapped else values[start + np.uint64(i)]
            byte = (np.uint64(value) >> shift) & _BYTE
            to = np.uint64(counts[byte])
            counts[byte] += np.int32(1)
            if swapped:
                values[start + to] = value
            else:
                spare[to] = value
        swapped = not swapped
        shift += _U8
    if swapped:
        for i in range(n):
            values[start + np.uint64(i)] = spare[np.uint64(i)]


@jit
def sort_rows(
    values: Int32, lengths: Int64, distinct: Int64, spare: Int32, counts: Int32, offsets: Int64,
    columns: Int32, bits: int,
) -> None:  # fmt: skip
    """Replace the ids of D texts by their columns, ascending, in place.

    values    int32[n]  ids values[offsets[d]:offsets[d + 1]] of text d; its columns, with
                        repetitions, begin at the same place
    lengths      int64[D]  number of columns with repetitions, distinct int64[D]: without
    spare     int32[longest text], counts int32[256]: scratch
    columns   int32[V]  the column of each id, below 2 ** bits, or -1: dropped
    """
    for d in range(np.uint64(len(lengths))):
        start = np.uint64(offsets[d])
        end = start
        for i in range(start, np.uint64(offsets[np.uint64(d) + _U1])):
            column = columns[np.uint64(values[np.uint64(i)])]
            values[end] = column
            end += np.uint64(column >= 0)
        n = end - start
        _sort(values, spare, counts, start, n, bits)
        different = np.int64(n > 0)
        for i in range(start + _U1, end):
            different += values[np.uint64(i)] != values[np.uint64(i) - _U1]
        lengths[d] = np.int64(n)
        distinct[d] = different


@jit
def write_rows(
    indices: Int32, counts: Int32, offsets: Int64, lengths: Int64, values: Int32
) -> None:
    """Run-length encode what sort_rows left: indices and counts, int32[nnz], row after row."""
    m = np.uint64(0)
    for d in range(np.uint64(len(lengths))):
        start = np.uint64(offsets[d])
        end = start + np.uint64(lengths[d])
        i = start
        while i < end:
            column = values[i]
            k = i + _U1
            while k < end and values[k] == column:
                k += _U1
            indices[m] = column
            counts[m] = np.int32(k - i)
            m += _U1
            i = k


@jit
def weigh_rows(
    values: Float64, counts: Int32, indices: Int32, starts: Int64, weights: Float64, slope: float,
    factors: Float64, sublinear: int, norm: int,
) -> None:  # fmt: skip
    """The weights of the terms of D texts: weight * f / (slope * f + factor), then normalised.

    values   float64[nnz]   f is the count, or 1 + ln of it where `sublinear`
    counts   int32[nnz], indices int32[nnz]: text d's from starts[d] to starts[d + 1]
    weights  float64[W]     of the columns
    factors  float64[D]     of the texts
    norm     NO_NORM, L1 or L2: the norm that a text's weights are divided by
    """
    for d in range(np.uint64(len(factors))):
        start = np.uint64(starts[d])
        stop = np.uint64(starts[np.uint64(d) + _U1])
        total = 0.0
        for i in range(start, stop):
            f = np.float64(counts[np.uint64(i)])
            if sublinear:
                f = np.log(f) + 1.0
            value = weights[np.uint64(indices[np.uint64(i)])] * f / (slope * f + factors[d])
            values[np.uint64(i)] = value
            total += value * value if norm == L2 else abs(value)
        if norm != NO_NORM and total > 0.0:
            length = np.sqrt(total) if norm == L2 else total
            for i in range(start, stop):
                values[np.uint64(i)] /= length


# ---- terms in the order of their bytes


@inline
def _sort_key(data, start, stop):
    """Seven bytes, the first the highest, then their number, 8 if the string is longer, so that a
    string comes before the same one with zero bytes appended."""
    left = stop - start if stop > start else np.uint64(0)
    key = np.uint64(0)
    for i in range(np.uint64(_STEP)):
        key <<= _U8
        if np.uint64(i) < left:
            key |= np.uint64(data[start + np.uint64(i)])
    return (key << _U8) | min(left, _U8)


@jit
def sort_keys(keys: UInt64, order: Int32, data: UInt8, offsets: Int64) -> None:
    """keys[i] = the first sort key of string order[i], data[offsets[s]:offsets[s + 1]]."""
    for i in range(np.uint64(len(keys))):
        s = np.uint64(order[np.uint64(i)])
        keys[np.uint64(i)] = _sort_key(data, np.uint64(offsets[s]), np.uint64(offsets[s + _U1]))


@inline
def _comes_first(a, b, data, offsets, done):
    """Whether string a, equal to b in its first `done` bytes, comes before it."""
    i = np.uint64(offsets[a]) + done
    k = np.uint64(offsets[b]) + done
    i_end = np.uint64(offsets[a + _U1])
    k_end = np.uint64(offsets[b + _U1])
    while i < i_end and k < k_end:
        if data[i] != data[k]:
            return data[i] < data[k]
        i += _U1
        k += _U1
    return k < k_end


@inline
def _sort_few(order, keys, low, high, done, data, offsets):
    """Sort order[low:high] and keys[low:high], the keys of the bytes before `done`."""
    for i in range(low + _U1, high):
        key = keys[np.uint64(i)]
        s = np.uint64(order[np.uint64(i)])
        k = np.uint64(i)
        while k > low:
            before = keys[k - _U1]
            other = np.uint64(order[k - _U1])
            if before < key or (before == key and not _comes_first(s, other, data, offsets, done)):
                break
            keys[k] = before
            order[k] = np.int32(other)
            k -= _U1
        keys[k] = key
        order[k] = np.int32(s)


@jit
def sort_terms(
    order: Int32, keys: UInt64, spare_order: Int32, spare_keys: UInt64, stack: Int64,
    counts: Int64, data: UInt8, offsets: Int64,
) -> None:  # fmt: skip
    """Sort n strings by their bytes: MSD radix sort of keys, each seven bytes of its string.

    order         int32[n]   the strings' numbers, in any order; becomes ascending
    keys          uint64[n]  of sort_keys; overwritten
    spare_order, spare_keys, stack int64[2 * n + 8], counts int64[257]: scratch
    data, offsets            string s is data[offsets[s]:offsets[s + 1]]
    """
    stack[0], stack[1], stack[2], stack[3] = 0, len(order), 0, _TOP
    top = _U4
    while top > np.uint64(0):
        top -= _U4
        low, high = np.uint64(stack[top]), np.uint64(stack[top + _U1])
        done, shift = stack[top + _U2], stack[top + _U3]
        if shift < 0:  # the keys are equal: take the next seven bytes
            done += _STEP
            shift = _TOP
            for i in range(low, high):
                s = np.uint64(order[np.uint64(i)])
                start = np.uint64(offsets[s]) + np.uint64(done)
                keys[np.uint64(i)] = _sort_key(data, start, np.uint64(offsets[s + _U1]))
        if high - low <= np.uint64(FEW):
            _sort_few(order, keys, low, high, np.uint64(done + _STEP), data, offsets)
            continue
        counts[:] = 0
        for i in range(low, high):
            byte = (keys[np.uint64(i)] >> np.uint64(shift)) & _BYTE
            counts[byte + _U1] += 1
        for at in range(np.uint64(256)):
            counts[np.uint64(at) + _U1] += counts[np.uint64(at)]
        for i in range(low, high):
            byte = (keys[np.uint64(i)] >> np.uint64(shift)) & _BYTE
            to = low + np.uint64(counts[byte])
            counts[byte] += 1
            spare_keys[to] = keys[np.uint64(i)]
            spare_order[to] = order[np.uint64(i)]
        for i in range(low, high):
            keys[np.uint64(i)] = spare_keys[np.uint64(i)]
            order[np.uint64(i)] = spare_order[np.uint64(i)]
        begin = low
        for at in range(np.uint64(256)):
            end = low + np.uint64(counts[np.uint64(at)])
            # strings that have ended, as the last byte of the key tells unless it is 8, are equal
            if end > begin + _U1 and (shift > 0 or np.uint64(at) == _U8):
                stack[top], stack[top + _U1] = np.int64(begin), np.int64(end)
                stack[top + _U2], stack[top + _U3] = done, shift - 8
                top += _U4
            begin = end


@jit
def gather_texts(out: UInt8, out_offsets: Int64, order: Int32, data: UInt8, offsets: Int64) -> None:
    """Copy string order[i] to out[out_offsets[i]:out_offsets[i + 1]]."""
    for i in range(np.uint64(len(order))):
        s = np.uint64(order[np.uint64(i)])
        to = np.uint64(out_offsets[np.uint64(i)])
        for k in range(np.uint64(offsets[s]), np.uint64(offsets[s + _U1])):
            out[to] = data[np.uint64(k)]
            to += _U1
