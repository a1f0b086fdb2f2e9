"""How a ragged batch is laid out for the recurrent kernels: packed, without padding.

Rows are packed by time: step 0 of all sequences, the longest first, then step 1 of those that go
on, and so on. Slices, one a thread, are neighbouring sequences: the rows of a slice at one step are
neighbours, and what is at work at the next step is a prefix of it, so that the state is one array
whose first rows are at work. Where the slices are cut changes nothing in the order of rows, so that
gradients of weights, which are summed in it, have the same bits on any number of threads. A batch
of equal lengths is packed already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastseq.errors import DataError
from fastseq.kernels.nn.sequences import pack_order
from fastseq.types import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A part of the batch that one thread works on.

    first, last  its sequences in `Layout.order`
    starts       int64[T]  its first packed row at each step
    counts       int64[T]  its rows at each step, descending and at least 1
    """

    first: int
    last: int
    starts: Int64
    counts: Int64

    @property
    def widest(self) -> int:
        """Rows of its first step."""
        return self.last - self.first


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The packed order of a batch of B sequences with N steps in all.

    order     int64[B]  which sequence each row of a state belongs to
    rows      int64[N]  the caller's row of each packed row
    slices    parts of the batch
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
    longest = int(lengths[order[0]])
    bounds = _bounds(lengths[order], parts)
    rows = np.empty(int(lengths.sum()), np.int64)
    starts = np.empty((parts, longest), np.int64)
    counts = np.empty((parts, longest), np.int64)
    same = pack_order(rows, starts, counts, order, bounds, lengths, firsts, stride)
    slices = []
    for part in range(parts):
        first, last = int(bounds[part]), int(bounds[part + 1])
        steps = int(lengths[order[first]])
        slices.append(Slice(first, last, starts[part, :steps], counts[part, :steps]))
    return Layout(order, rows, tuple(slices), bool(same))


def _bounds(lengths: Int64, parts: int) -> Int64:
    """Where parts of like numbers of steps begin and end: int64[parts + 1], none of them empty."""
    B = len(lengths)
    steps = np.concatenate([[0], lengths.cumsum()])
    shares = np.arange(parts + 1) / parts * steps[-1]
    bounds: Int64 = np.rint(np.interp(shares, steps, np.arange(B + 1))).astype(np.int64)
    for part in range(1, parts):
        bounds[part] = min(max(bounds[part], bounds[part - 1] + 1), B - parts + part)
    return bounds
