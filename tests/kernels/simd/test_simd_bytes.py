"""The masks of 64 bytes, of every byte at every place."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastseq.kernels.core.jit import jit
from fastseq.kernels.simd.bytes import (
    classes64,
    count_ones,
    equal32,
    half_bytes64,
    joiners64,
    shared4,
)


@jit
def _masks(out, found, data, start, shift):  # type: ignore[no-untyped-def]
    at = np.uint64(start)
    members, beyond, lines, joiners = classes64(out, np.uint64(0), data, at, shift)
    letters, digits, quotes, marks = joiners64(data, at)
    found[0], found[1], found[2], found[3] = members, beyond, lines, joiners
    found[4], found[5], found[6], found[7] = letters, digits, quotes, marks


CLASSES = [rb"[A-Za-z0-9_\x80-\xff]", rb"[\x80-\xff]", rb"_", rb"['.,;:\"]"]
CLASSES += [rb"[A-Za-z]", rb"[0-9]", rb"'", rb"[.,;]"]


@pytest.mark.parametrize("shift", [0, 32])
def test_masks_of_every_byte_at_every_place(shift: int) -> None:
    data = np.tile(np.arange(256, dtype=np.uint8), 2)
    out, found = np.empty(64, np.uint8), np.empty(8, np.uint64)
    for start in range(256):
        _masks(out, found, data, start, np.uint8(shift))
        block = data[start : start + 64].tobytes()
        assert out.tobytes() == (block.lower() if shift else block)
        expected = [
            sum(1 << match.start() for match in re.finditer(pattern, block, re.DOTALL))
            for pattern in CLASSES
        ]
        assert found.tolist() == expected


@jit
def _half_bytes(found, data, first, last):  # type: ignore[no-untyped-def]
    found[0], found[1] = half_bytes64(data, np.uint64(1), np.uint64(first), np.uint64(last))


def test_half_bytes_of_every_range() -> None:
    chance, found = np.random.default_rng(0), np.empty(2, np.uint64)
    for most in (14, 15):
        halves = chance.integers(0, most + 1, 130).tolist()
        data = np.array([a | b << 4 for a, b in zip(halves[::2], halves[1::2], strict=True)])
        data = data.astype(np.uint8)
        for first in range(128):
            for last in {first, first + 1, *range(first, 129, 7), 128}:
                _half_bytes(found, data, first, last)
                own = halves[2 + first : 2 + last]  # from the byte at 1 on
                assert found[0] == sum(own)
                assert bool(found[1]) == (15 in own)


@jit
def _equal(found, data, index, value):  # type: ignore[no-untyped-def]
    found[0] = equal32(data, np.uint64(index), np.uint16(value))
    found[1] = count_ones(found[0])


def test_equal32_and_count_ones() -> None:
    chance, found = np.random.default_rng(0), np.empty(2, np.uint64)
    data = chance.choice(np.array([0, 1, 65535, 40_000], np.uint16), 80)
    for index in range(48):
        for value in (0, 1, 65535, 40_000, 7):
            _equal(found, data, index, value)
            equal = [i for i in range(32) if data[index + i] == value]
            assert found.tolist() == [sum(1 << i for i in equal), len(equal)]


@jit
def _shared(found, words, others, add, add_other):  # type: ignore[no-untyped-def]
    for i in range(len(found)):
        found[i] = shared4(words[i], others[i], add, add_other)


@pytest.mark.parametrize(("add", "add_other"), [(0, 0), (1, 0), (0, 3), (250, 0), (0, 255)])
def test_shared_bytes_of_two_words(add: int, add_other: int) -> None:
    chance = np.random.default_rng(0)
    values = np.array([0, 1, 2, 3, 4, 250, 251, 252, 254, 255])
    bytes_of = chance.choice(values, (2, 3000, 4)).astype(np.uint8)
    words, others = bytes_of.view(np.uint32)[..., 0].astype(np.uint64)
    found = np.empty(len(words), np.uint64)
    _shared(found, words, others, np.uint8(add), np.uint8(add_other))
    expected = []
    for own, more in zip(*bytes_of.tolist(), strict=True):
        there = {min(byte + add_other, 255) for byte in more} - {255}
        expected.append(sum((min(byte + add, 255) in there) << i for i, byte in enumerate(own)))
    assert found.tolist() == expected
