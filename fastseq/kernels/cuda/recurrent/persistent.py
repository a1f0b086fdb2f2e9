"""Which recurrent kernels keep their weights on one multiprocessor, and how.

A block takes four sequences through all steps. Its threads are four a unit (registers.py): they
hold as much of the unit's recurrent weights in registers as the register file has room for, the
rest in shared memory, where each thread finds its own next to its neighbours'. No step reads a
weight from memory, none waits for another block.

*Rule*: with D rows of the matrix and G outputs a unit, G D H weights must fit into what is left of
the threads' registers (65,536 a multiprocessor) and of a block's shared memory, both of the forward
pass's matrix (G gates, D = H) and of the backward pass's (G = 1, a row for each gate of each unit).
With the 227 KB of an H100 that is H <= 128 for an LSTM, 144 for a GRU, 232 for the plain network
(four threads a unit, 1,024 a block); what is larger runs step by step (steps.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastseq.kernels.cuda.recurrent.registers import CHUNK, LANES
from fastseq.kernels.cuda.runtime.target import (
    MOST_SHARED,
    SIMULATED,
    WARP,
    blocks_for,
    cuda,
    formula,
    kernel,
)

REGISTERS = 65536  # of a multiprocessor
MOST_THREADS = 1024
MOST_REGISTERS = 255  # of a thread
ZERO = np.float32(0)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one kernel's weights lie.

    units      H
    outputs    columns of the matrix for each unit
    depth      rows of the matrix
    threads    of a block, four a unit, in whole warps
    held       chunks of 16 rows in registers
    rest       chunks in shared memory
    row        floats from one of the four vectors to the next: its banks differ from theirs
    """

    units: int
    outputs: int
    depth: int
    threads: int
    held: int
    rest: int
    row: int

    @property
    def panel(self) -> int:
        """Floats of the matrix as it is packed."""
        return (self.held + self.rest) * self.outputs * self.threads * LANES

    @property
    def vectors(self) -> int:
        """Where in shared memory the vectors begin: behind the weights."""
        return self.rest * self.outputs * self.threads * LANES

    @property
    def spare(self) -> int:
        """Where the simulator exchanges sums: behind two buffers of four vectors."""
        return self.vectors + 2 * LANES * self.row

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return 4 * (self.spare + (LANES * self.threads if SIMULATED else 0))

    @property
    def registers(self) -> int:
        """That a thread may have."""
        return registers_of(self.threads)

    @property
    def span(self) -> int:
        """Chunks in shared memory that are multiplied by at a time, each at an address known but
        for one register: with two a step back of an LSTM of 128 units takes 1,125 of PTX's
        instructions instead of 1,237. It takes registers."""
        return 2 if self.outputs == 1 and self.registers >= 128 else 1


def registers_of(threads: int) -> int:
    """That each of so many threads may have: a multiprocessor deals its warps to four parts, each
    with a quarter of the registers, so that threads count by whole 128."""
    dealt = blocks_for(threads, 4 * WARP) * 4 * WARP
    return min(MOST_REGISTERS, REGISTERS // dealt // 8 * 8)


@lru_cache(None)
def plan_of(
    units: int, outputs: int, depth: int, own: int, shared: int = MOST_SHARED
) -> Plan | None:
    """The plan for so many units, columns a unit and rows; None where they do not fit.

    own     registers that a thread needs beside weights and sums
    shared  bytes that a block may have
    """
    threads = blocks_for(LANES * units, WARP) * WARP
    if threads > MOST_THREADS:
        return None
    chunks = blocks_for(depth, CHUNK)
    free = registers_of(threads) - own - LANES * outputs
    held = max(0, min(chunks, free // (LANES * outputs)))
    row = chunks * CHUNK
    row += -row % 32 + 8  # of four vectors' rows, 8 neighbouring units each fall on other banks
    plan = Plan(units, outputs, depth, threads, held, chunks - held, row)
    return plan if 4 * plan.spare <= shared else None


@kernel("float32[::1], float32[::1], int64, int64, int64, int64, int64", threads=256, registers=56)
def pack_columns(panel, weight, units, outputs, depth, threads, transposed):
    """A weight as threads take it: float32[chunk, output, thread, 4], zeros past its edges.

    weight  float32[outputs · units, depth], or with `transposed` float32[depth, units] (one output)
    """
    for i in range(cuda.grid(1), len(panel), cuda.gridsize(1)):
        number = i % 4
        thread = i // 4 % threads
        q = i // 4 // threads
        unit = thread // 4
        row = q // outputs * 16 + thread % 4 * 4 + number
        value = ZERO
        if unit < units and row < depth:
            if transposed:
                value = weight[row * units + unit]
            else:
                value = weight[(q % outputs * units + unit) * depth + row]
        panel[i] = value


@formula
def place(shared, panel, first, last, step, vectors, size, thread, threads):
    """Before the first step: the weights [first, last) of each thread into shared memory, zeros
    into the vectors; a barrier.

    step  floats from one weight of four of a thread to its next
    """
    for q in range(first, last):
        for i in range(4):
            shared[(q - first) * step + thread * 4 + i] = panel[q * step + thread * 4 + i]
    for i in range(thread, size, threads):
        shared[vectors + i] = ZERO
    cuda.syncthreads()


def plans_of(
    units: int, gates: int, forward: int, backward: int, shared: int = MOST_SHARED
) -> tuple[Plan, Plan] | None:
    """The plans of both passes of a cell of so many gates; None where one does not fit.

    forward, backward  registers that their threads need beside weights and sums
    """
    there = plan_of(units, gates, units, forward, shared)
    back = plan_of(units, 1, gates * units, backward, shared)
    return None if there is None or back is None else (there, back)
