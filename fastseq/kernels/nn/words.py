"""Rows of float32 as words of smaller numbers (simd/dots.py), and back from the sums of products.

bfloat16  the upper half of a float32, rounded to the nearest, ties to even
bytes     a row between its least and largest number in 255 equal steps: x = low + scale · byte

Rows end with zeros up to whole words. Each depends on nothing but its own numbers.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import load_row, store_row
from fastseq.kernels.simd.floats import (
    bits,
    fma,
    lane_numbers,
    largest_lane,
    load,
    maximum,
    minimum,
    select,
    splat,
    store_low,
    store_low_part,
    sum_lanes,
    to_float,
)

# added to a number from 0 to 2²², it leaves the nearest whole number in the last bits
_ROUNDED = np.float32(3 << 22)
_STEPS = np.float32(255.0)
_LARGEST = np.float32(127.0)  # step of a signed byte


@jit
def to_bfloat16(out, x, first, last):
    """Rows [first, last) of out uint16[N, 2 ceil(K / 2)] from x float32[N, K]."""
    width, out_width = x.shape[1], out.shape[1]
    source, to = x.reshape(x.size), out.reshape(out.size)
    for row in range(first, last):
        at, place = row * width, row * out_width
        for column in range(0, width, LANES):
            rest = width - column
            value = bits(load_row(source, at + column, rest))
            value = (value + 0x7FFF + ((value >> 16) & 1)) >> 16
            if rest >= LANES:
                store_low(to, place + column, value)
            else:
                store_low_part(to, place + column, value, rest)
        for column in range(width, out_width):
            to[place + column] = 0


@jit
def to_bytes(out, scales, lows, x, first, last):
    """Rows [first, last) of out uint8[N, 4 ceil(K / 4)] from x float32[N, K], K >= 1.

    scales, lows  float32[N]: out; a row with NaN or an infinite number has the scale NaN
    """
    width, out_width = x.shape[1], out.shape[1]
    source, to = x.reshape(x.size), out.reshape(out.size)
    for row in range(first, last):
        at, place = row * width, row * out_width
        least = splat(source[at])
        most = least
        other = splat(0.0)  # NaN if a number is NaN or infinite, which has no byte
        for column in range(0, width, LANES):
            rest = width - column
            value = load_row(source, at + column, rest)
            if rest < LANES:
                value = select(lane_numbers() < np.int32(rest), value, least)
            least = minimum(value, least)
            most = maximum(value, most)
            other = fma(value, 0.0, other)
        low = -largest_lane(-least)
        scale = (largest_lane(most) - low) / _STEPS + sum_lanes(other)
        scales[row] = scale
        lows[row] = low
        per_step = np.float32(1.0) / scale if scale > 0 else np.float32(0.0)
        for column in range(0, width, LANES):
            rest = width - column
            value = fma(load_row(source, at + column, rest) - low, per_step, _ROUNDED)
            if rest >= LANES:
                store_low(to, place + column, bits(value))
            else:
                store_low_part(to, place + column, bits(value), rest)
        for column in range(width, out_width):
            to[place + column] = 0


@jit
def from_sums(out, scales, lows, weight_scales, weight_sums, bias, first, last):
    """Rows [first, last) of x · weightᵀ + bias, in the place of their products of bytes.

    out            float32[N, M], with the bits of int32: sums of bytes · weights
    scales, lows   float32[N], of `to_bytes`
    weight_scales  float32[padded(M)]: what a step of each column's weights stands for
    weight_sums    float32[padded(M)]: sums of each column's weights, in steps
    bias           float32[padded(M)]
    """
    width = out.shape[1]
    to = out.reshape(out.size)
    for row in range(first, last):
        at = row * width
        scale, low = splat(scales[row]), splat(lows[row])
        for column in range(0, width, LANES):
            rest = width - column
            value = to_float(bits(load_row(to, at + column, rest))) * scale
            value = fma(load(weight_sums, column), low, value)
            value = fma(value, load(weight_scales, column), load(bias, column))
            store_row(to, at + column, value, rest)


def as_steps(rows):
    """(words float32[N, ceil(K / 4)], steps float32[N], sums float32[N]) of rows float32[N, K]: as
    signed bytes, four in a word, of 255 steps between the largest number and its negative; the
    step of each row, and the sum of its bytes."""
    count, size = rows.shape
    largest = np.abs(rows).max(1, initial=0)
    steps = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    found = np.zeros((count, -(-size // 4) * 4), np.int8)
    found[:, :size] = np.rint(rows / steps[:, None])
    sums = found.sum(1, dtype=np.int64).astype(np.float32)
    return found.view(np.float32), steps, sums
