"""The masks of 64 bytes, of every byte at every place."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastseq.kernels.core.jit import jit
from fastseq.kernels.simd.bytes import classes64, joiners64


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
