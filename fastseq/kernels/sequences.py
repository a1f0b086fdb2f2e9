"""The order in which a ragged batch is worked on: step after step, longest sequence first."""

from __future__ import annotations

from fastseq.kernels.jit import jit


@jit
def pack_order(rows, starts, order, lengths, firsts, stride, begin):
    """Where each packed row comes from, and where each step starts.

    rows     int64[N]      out: the caller's row of each packed row
    starts   int64[T + 1]  out: first packed row of each step, T the longest length
    order    int64[B]      the sequences, longest first
    lengths  int64[·]      of all sequences
    firsts   int64[·]      the caller's row of each sequence's first step
    stride   the caller's rows from a step to the next
    begin    the first packed row
    """
    n = 0
    alive = len(order)
    for t in range(len(starts) - 1):
        starts[t] = begin + n
        while alive > 0 and lengths[order[alive - 1]] <= t:
            alive -= 1
        for r in range(alive):
            rows[n] = firsts[order[r]] + t * stride
            n += 1
    starts[len(starts) - 1] = begin + n
