"""Input products of a recurrent cell: rows of gates (kernels/nn/gates.py) without the recurrent
part.

A forward kernel finds them in one of three ways. IN_LOOP: it makes those of a few steps at a time,
which then still lie in the cache; BEFORE: all were made at once, for many threads to share;
PICKED: inputs are rows of a table, and so are their products, each picked where it is read.
"""

from __future__ import annotations

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.gemm import WIDTH, copy_block, panel_vectors
from fastseq.kernels.simd.tiles import address, tiles

IN_LOOP, BEFORE, PICKED = 0, 1, 2


@inline
def next_chunk(counts, done, reverse, rows):
    """The steps [first, last) that come after `done` steps: as many as have `rows` rows, or one."""
    T = len(counts)
    if reverse:
        last = T - done
        first = last - 1
        total = counts[first]
        while first > 0 and total + counts[first - 1] <= rows:
            first -= 1
            total += counts[first]
    else:
        first = done
        last = first + 1
        total = counts[first]
        while last < T and total + counts[last] <= rows:
            total += counts[last]
            last += 1
    return first, last


@inline
def project_steps(
    vectors, gates, column, row, x, panels, panel, bias, starts, counts, first, last, whole
):
    """Gates of one panel for steps [first, last): x W + bias.

    column, panel  where the panel's gates, and its weights, begin
    whole          gates have a row for each packed row; else the rows of these steps only
    """
    K = x.shape[1]
    t = first
    local = 0
    while t < last:
        begin, many = starts[t], counts[t]
        t += 1
        while t < last and starts[t] == begin + many:
            many += counts[t]
            t += 1
        at = begin if whole else local
        tiles(
            vectors, address(gates, at * row + column), row, address(bias, column), 0,
            address(x, begin * K), K, 1, address(panels, panel), vectors * LANES, K, 1, 0, 0, many,
        )  # fmt: skip
        local += many


@helper
def pick_steps(gates, table, picks, starts, counts, first, last, whole):
    """Gates of steps [first, last): row picks[n] of `table` for packed row n."""
    row = gates.shape[1]
    to, flat = gates.reshape(gates.size), table.reshape(table.size)
    local = 0
    for t in range(first, last):
        for r in range(counts[t]):
            n = starts[t] + r
            at = n if whole else local + r
            copy_block(to, at * row, row, flat, picks[n] * row, row, 1, row, 0)
        local += counts[t]


@jit
def project_records(gates, x, panels, used, slots, bias, first, last):
    """gates = x W + bias for rows [first, last): what `project_steps` does, for all panels.

    used   vectors of a panel, in records of `slots`
    """
    K = x.shape[1]
    row = gates.shape[1]
    for p in range(len(panels) // (K * used * LANES)):
        column = p * slots * LANES
        tiles(
            used, address(gates, first * row + column), row, address(bias, column), 0,
            address(x, first * K), K, 1, address(panels, p * K * used * LANES), used * LANES, K, 1,
            0, 0, last - first,
        )  # fmt: skip


@jit
def project_units(gates, x, panels, bias, first, last):
    """The same for cells of one gate, whose panels are WIDTH units."""
    K = x.shape[1]
    row = gates.shape[1]
    W = len(bias)
    for column in range(0, W, WIDTH):
        vectors = panel_vectors(column, W)
        tiles(
            vectors, address(gates, first * row + column), row, address(bias, column), 0,
            address(x, first * K), K, 1, address(panels, column * K), vectors * LANES, K, 1, 0, 0,
            last - first,
        )  # fmt: skip
