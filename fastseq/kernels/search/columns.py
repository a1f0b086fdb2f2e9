"""Counts of the values of stored columns, and the elements of columns of lists."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int32, Int64, UInt8
from fastseq.kernels.core.jit import jit

_U1 = np.uint64(1)


@jit
def count_values(counts: Int64, codes: Int32, matches: UInt8) -> None:
    """Add to counts[code + 1] the matches with each code.

    counts   int64[D + 1]
    codes    int32[rows]  from -1 to D - 1
    matches  uint8[rows]  1 for a match, else 0
    """
    for row in range(np.uint64(len(codes))):
        counts[np.uint64(codes[row] + 1)] += np.int64(matches[row])


@jit
def count_elements(counts: Int64, codes: Int32, offsets: Int64, matches: UInt8) -> int:
    """Add to counts[code] the matches whose list has it; returns the matches with an empty list.

    counts   int64[D]
    codes    int32[E]         from 0 to D - 1; distinct in each list
    offsets  int64[rows + 1]  list i is codes[offsets[i]:offsets[i + 1]]
    matches  uint8[rows]      not 0 for a match
    """
    empty = np.int64(0)
    for row in range(np.uint64(len(matches))):
        if matches[row] != 0:
            start, stop = np.uint64(offsets[row]), np.uint64(offsets[row + _U1])
            empty += np.int64(start == stop)
            for i in range(start, stop):
                counts[np.uint64(codes[i])] += 1
    return empty


@jit
def count_bins(
    counts: Int64, last: Int64, bins: Int32, codes: Int32, offsets: Int64, matches: UInt8
) -> int:
    """`count_elements` for bins of codes: a match counts once for each bin that it has.

    counts  int64[B]
    last    int64[B]  all -1; then the last match of each bin
    bins    int32[D]  the bin of each code
    """
    empty = np.int64(0)
    for row in range(np.uint64(len(matches))):
        if matches[row] != 0:
            start, stop = np.uint64(offsets[row]), np.uint64(offsets[row + _U1])
            empty += np.int64(start == stop)
            for i in range(start, stop):
                number = np.uint64(bins[np.uint64(codes[i])])
                if last[number] != np.int64(row):
                    last[number] = np.int64(row)
                    counts[number] += 1
    return empty


@jit
def distinct_elements(codes: Int32, offsets: Int64) -> None:
    """Sort the codes of each list, without repetitions and those below 0; `codes` begins with what
    is left, and `offsets` are the new ones.

    Insertion sort: of lists that are long, sorted ones are expected.

    codes    int32[E]
    offsets  int64[rows + 1]  ascending from 0
    """
    size = np.int64(0)
    start = np.int64(0)
    for row in range(np.uint64(len(offsets)) - _U1):
        stop = offsets[row + _U1]
        first = size
        for i in range(start, stop):
            code = codes[np.uint64(i)]
            if code >= 0:
                at = size
                while at > first and codes[np.uint64(at - 1)] > code:
                    at -= 1
                if at == first or codes[np.uint64(at - 1)] != code:
                    for j in range(size, at, -1):
                        codes[np.uint64(j)] = codes[np.uint64(j - 1)]
                    codes[np.uint64(at)] = code
                    size += 1
        start = stop
        offsets[row + _U1] = size
