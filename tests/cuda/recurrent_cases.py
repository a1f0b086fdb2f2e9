"""Cells, sizes and lengths that the device's recurrent kernels are tried on."""

from __future__ import annotations

from typing import NamedTuple

from tests import sampling


class Case(NamedTuple):
    """A direction of a layer: its cell, sizes, the lengths of the sequences."""

    cell: str
    inputs: int
    hidden: int
    lengths: tuple[int, ...]
    reverse: bool

    def __str__(self) -> str:
        way = "back" if self.reverse else "on"
        return f"{self.cell}-{self.hidden}-{'.'.join(map(str, self.lengths))}-{way}"


# A kernel is compiled for each cell and each number of units: few of them, with multiples of 4 and
# others, and more units than a warp has vectors.
CASES = [
    Case("lstm", 3, 5, (3, 1, 2), False),
    Case("lstm", 2, 17, (2,), False),
    Case("lstm", 2, 5, (1, 3, 2, 3, 1), True),
    Case("gru", 3, 4, (2, 3, 1), False),
    Case("gru", 2, 18, (2,), True),
    Case("gru", 2, 4, (1, 2, 2, 1, 3), True),
    Case("rnn", 3, 5, (3, 1, 2), False),
    Case("rnn_relu", 2, 4, (1, 2, 2, 1, 3), True),
]
if sampling.ALL:
    CASES += [Case("lstm", 3, 4, (3, 1, 2), False), Case("gru", 2, 3, (1, 2, 2, 1, 3), True)]
