"""How a ragged batch is laid out for the recurrent kernels: packed, without padding.

The batch is cut into slices, one a thread, each a batch of its own. In a slice the sequences stand
longest first, and step t is the rows of those still running: what comes next is always a prefix of
what came before, so the state is one array whose first rows are at work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastseq.errors import DataError
from fastseq.kernels.sequences import pack_order
from fastseq.types import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A part of the batch that one thread works on.

    first, last    its sequences in `Layout.order`
    begin, end     its packed rows
    starts         int64[T + 1]  first packed row of each step, from 0
    widest         rows of its first step
    """

    first: int
    last: int
    begin: int
    end: int
    starts: Int64

    @property
    def widest(self) -> int:
        return self.last - self.first


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The packed order of a batch of B sequences with N steps in all.

    order     int64[B]  which sequence each state row belongs to
    rows      int64[N]  the caller's row of each packed row
    slices    in packed order
    identity  the packed order is the caller's
    """

    order: Int64
    rows: Int64
    slices: tuple[Slice, ...]
    identity: bool

    @property
    def count(self) -> int:
        """N."""
        return len(self.rows)


def lay_out(lengths: Int64, firsts: Int64, stride: int, parts: int) -> Layout:
    """The layout of sequences of `lengths` whose first steps are the caller's rows `firsts`, a
    step being `stride` rows after the one before it, in at most `parts` slices of like size.

    Raises
    ------
    DataError
        No sequence, or one without a step.
    """
    if len(lengths) == 0:
        raise DataError("a batch needs at least one sequence")
    if int(lengths.min()) < 1:
        empty = int(np.argmin(lengths))
        raise DataError(f"sequence {empty} of the batch has no step, expected 1 or more")
    parts = max(1, min(parts, len(lengths)))
    order = np.argsort(-lengths, kind="stable")
    if parts > 1 and lengths[order[0]] != lengths[order[-1]]:
        # dealt forth and back, so that every part gets as many steps
        turns = np.arange(len(order)) % (2 * parts)
        dealt = np.minimum(turns, 2 * parts - 1 - turns)
        pieces = [order[dealt == part] for part in range(parts)]
    else:
        pieces = np.array_split(order, parts)
    order = np.concatenate(pieces)
    rows = np.empty(int(lengths.sum()), np.int64)
    slices = []
    first = begin = 0
    for piece in pieces:
        starts = np.empty(int(lengths[piece[0]]) + 1, np.int64)
        pack_order(rows[begin:], starts, piece, lengths, firsts, stride, 0)
        end = begin + int(starts[-1])
        slices.append(Slice(first, first + len(piece), begin, end, starts))
        first, begin = first + len(piece), end
    identity = bool((rows == np.arange(len(rows))).all())
    return Layout(order, rows, tuple(slices), identity)
