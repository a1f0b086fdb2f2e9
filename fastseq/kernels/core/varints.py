"""Integers in bytes of seven bits, the lowest first, of which all but the last of an integer have
the high bit set: the varints of Protocol Buffers."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int64, UInt8
from fastseq.kernels.core.jit import inline, jit

_U1, _U7, _U128 = np.uint64(1), np.uint64(7), np.uint64(128)
MOST_BYTES = 10  # of an integer


@inline
def put(data, at, value):
    """Write an integer; returns the place after it."""
    rest = np.uint64(value)
    while rest >= _U128:
        data[at] = np.uint8(rest | _U128)
        rest >>= _U7
        at += _U1
    data[at] = np.uint8(rest)
    return at + _U1


@inline
def skip(data, at, count):
    """The place after `count` integers; the end of the data at most."""
    end = np.uint64(len(data))
    while count > 0 and at < end:
        count -= np.int64(data[at] < np.uint8(128))
        at += _U1
    return at


@inline
def get(data, at):
    """(an integer, the place after it); one that the data ends in has the bits before the end."""
    shift = np.uint64(0)
    value = np.uint64(0)
    while at < np.uint64(len(data)):
        byte = np.uint64(data[at])
        at += _U1
        if shift < np.uint64(64):
            value |= (byte & np.uint64(127)) << shift
        shift += _U7
        if byte < _U128:
            break
    return np.int64(value), at


@jit
def write_varints(data: UInt8, values: Int64) -> int:
    """Write n integers; returns the bytes written.

    data uint8[MOST_BYTES · n], values int64[n]
    """
    at = np.uint64(0)
    for i in range(np.uint64(len(values))):
        at = put(data, at, values[i])
    return np.int64(at)


@jit
def read_varints(values: Int64, data: UInt8) -> int:
    """Read n integers; returns the bytes read.

    values int64[n], data uint8[…]
    """
    at = np.uint64(0)
    for i in range(np.uint64(len(values))):
        values[i], at = get(data, at)
    return np.int64(at)
