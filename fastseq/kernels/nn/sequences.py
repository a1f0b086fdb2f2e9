"""The order in which a ragged batch is worked on: step after step, longest sequence first."""

from __future__ import annotations

from fastseq.kernels.core.jit import jit
from fastseq.kernels.simd.gemm import copy_block


@jit
def pack_order(rows, starts, counts, order, bounds, lengths, firsts, stride):
    """Where each packed row comes from, and where each step of each slice lies.

    rows     int64[N]      out: the caller's row of each packed row
    starts   int64[S, T]   out: first packed row of each step of a slice
    counts   int64[S, T]   out: how many there are; 0 after the slice's longest sequence
    order    int64[B]      the sequences, longest first
    bounds   int64[S + 1]  which of them each slice has
    lengths  int64[B]      of the sequences
    firsts   int64[B]      the caller's row of each sequence's first step
    stride   the caller's rows from a step to the next

    Returns whether every packed row is the caller's row of the same number.
    """
    S, T = starts.shape
    same = True
    n = 0
    for s in range(S):
        counts[s, :] = bounds[s + 1] - bounds[s]
    for t in range(T):
        for s in range(S):
            first = bounds[s]
            alive = counts[s, t - 1] if t else counts[s, 0]
            while alive > 0 and lengths[order[first + alive - 1]] <= t:
                alive -= 1
            starts[s, t] = n
            counts[s, t] = alive
            for r in range(first, first + alive):
                row = firsts[order[r]] + t * stride
                same = same and row == n
                rows[n] = row
                n += 1
    return same


@jit
def gather(out, values, rows, first, last):
    """out[n] = values[rows[n]] for n in [first, last): rows of floats, into packed order."""
    K = values.shape[1]
    to, flat = out.reshape(out.size), values.reshape(values.size)
    for n in range(first, last):
        copy_block(to, n * K, K, flat, rows[n] * K, K, 1, K, 0)


@jit
def gather_steps(out, values, rows, starts, counts):
    """`gather` of the rows of one slice, whose step t has counts[t] from starts[t] on."""
    for t in range(len(starts)):
        gather(out, values, rows, starts[t], starts[t] + counts[t])


@jit
def scatter(out, values, rows, first, last):
    """out[rows[n]] = values[n] for n in [first, last)."""
    K = values.shape[1]
    to, flat = out.reshape(out.size), values.reshape(values.size)
    for n in range(first, last):
        copy_block(to, rows[n] * K, K, flat, n * K, K, 1, K, 0)
