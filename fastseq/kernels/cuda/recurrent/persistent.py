"""Recurrent layers whose weights stay on one multiprocessor: plans and kernels of all cells.

A block takes four sequences through all steps. Four threads per unit (register_matvec.py)
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
from typing import Any

from numba import float32

from fastseq.kernels.cuda.recurrent.cells import GRU, LSTM, NO_GRADIENT, RNN, ZERO, Cell
from fastseq.kernels.cuda.recurrent.register_matvec import CHUNK, LANES, own, products
from fastseq.kernels.cuda.runtime.target import (
    MOST_SHARED,
    SIMULATED,
    WARP,
    Kernel,
    blocks_for,
    cuda,
    device_function,
    kernel,
)

REGISTERS = 65536  # of a multiprocessor
MOST_THREADS = 1024
MOST_REGISTERS = 255  # of a thread


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


@device_function
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


def plans(cell: Cell, units: int, shared: int) -> tuple[Plan, Plan] | None:
    """The plans of both passes on a multiprocessor that gives a block `shared` bytes of shared
    memory; None where one does not fit."""
    return plans_of(units, cell.gates, *cell.registers, shared)


def _own_outputs(outputs: int) -> Any:
    """own_outputs(sums, lane, shared, spare): `own` of each output of a unit, as a tuple."""
    if outputs == 1:

        @device_function
        def own_outputs(s, lane, shared, spare):
            return (own(s[0], s[1], s[2], s[3], lane, shared, spare),)

    elif outputs == 3:

        @device_function
        def own_outputs(s, lane, shared, spare):
            return (
                own(s[0], s[3], s[6], s[9], lane, shared, spare),
                own(s[1], s[4], s[7], s[10], lane, shared, spare),
                own(s[2], s[5], s[8], s[11], lane, shared, spare),
            )

    else:

        @device_function
        def own_outputs(s, lane, shared, spare):
            return (
                own(s[0], s[4], s[8], s[12], lane, shared, spare),
                own(s[1], s[5], s[9], s[13], lane, shared, spare),
                own(s[2], s[6], s[10], s[14], lane, shared, spare),
                own(s[3], s[7], s[11], s[15], lane, shared, spare),
            )

    return own_outputs


@lru_cache(None)
def forward_kernel(cell: Cell, plan: Plan) -> Kernel:
    """The forward kernel of a cell for a plan of `cell.gates` outputs per unit and H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    outputs, slots = cell.gates, cell.slots
    nothing, hold, multiply, multiply_rest = products(outputs, held, rest, plan.span)
    own_outputs, no_inputs, load, store = (
        _own_outputs(outputs), cell.no_inputs, cell.load, cell.store_slots
    )  # fmt: skip
    read_c, write_c, read_bias, step_forward, keep_state = (
        cell.read_c, cell.write_c, cell.read_bias, cell.forward, cell.keep
    )  # fmt: skip

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], "
        "int32[::1], int64, int64, int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"{cell.name}_forward_{H}",
    )
    def persistent_forward(
        y, y_row, column, h, c, gates, before_h, before_c, panel, bias, rows, starts, counts,
        lasts, reverse, keep, relu,
    ):  # fmt: skip
        """Four sequences through all steps; see recurrent.forward.

        h, c                float32[B · H]      in: the initial state; out: the last one
        gates               float32[N · S H]    in: x W + biases; out: the cell's slots
        before_h, before_c  float32[N · H]      out: h' and c'
        panel               `pack_columns` of weight_hh
        bias                float32[H]          b_hn of a GRU
        lasts               int32[blocks]       steps of each block's longest sequence
        c, before_c and bias may be any array for a cell without them.
        """
        shared = cuda.shared.array(0, float32)
        thread = cuda.threadIdx.x
        unit, lane = thread // 4, thread % 4
        sequence = cuda.blockIdx.x * 4 + lane
        there = unit < H and sequence * H < len(h)
        weights = hold(panel, thread, threads)
        place(
            shared, panel, held * outputs, (held + rest) * outputs, step_w, vectors, 8 * row,
            thread, threads,
        )  # fmt: skip
        hidden, state_c, b = ZERO, ZERO, ZERO
        if there:
            hidden, state_c = h[sequence * H + unit], read_c(c, sequence * H + unit)
            b = read_bias(bias, unit)
            shared[vectors + lane * row + unit] = hidden
        cuda.syncthreads()
        T = lasts[cuda.blockIdx.x]
        t = T - 1 if reverse else 0
        way = -1 if reverse else 1
        first, count = starts[t], counts[t]
        following = no_inputs
        if there and sequence < count:
            following = load(gates, (first + sequence) * (slots * H) + unit, H)
        buffer = vectors
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            inputs = following
            if step + 1 < T:  # the inputs of the next step are loaded while this one computes
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    following = load(gates, (first + sequence) * (slots * H) + unit, H)
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            found = own_outputs(sums, lane, shared, spare)
            buffer = vectors + (step + 1) % 2 * 4 * row
            if active:
                values, new_h, new_c = step_forward(inputs, found, hidden, state_c, b, relu)
                if keep:
                    store(gates, n * (slots * H) + unit, H, values)
                    keep_state(before_h, before_c, n * H + unit, hidden, state_c)
                hidden, state_c = new_h, new_c
                y[rows[n] * y_row + column + unit] = new_h
            if unit < H:
                shared[buffer + lane * row + unit] = hidden
            cuda.syncthreads()
        if there:
            h[sequence * H + unit] = hidden
            write_c(c, sequence * H + unit, state_c)

    return persistent_forward


@lru_cache(None)
def backward_kernel(cell: Cell, plan: Plan) -> Kernel:
    """The backward kernel of a cell for a plan of one output per unit and `cell.gates` H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w, slots = plan.vectors, plan.spare, plan.threads * 4, cell.slots
    nothing, hold, multiply, multiply_rest = products(1, held, rest, plan.span)
    no_inputs, no_slots, load, store, share = (
        cell.no_inputs, cell.no_slots, cell.load_slots, cell.store_slots, cell.store
    )  # fmt: skip
    read_c, write_c, kept, step_backward = cell.read_c, cell.write_c, cell.kept, cell.backward

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], "
        "float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64, int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        spill=cell.spill,
        name=f"{cell.name}_backward_{H}",
    )
    def persistent_backward(
        gates, dh, dc, dy, dy_row, column, before_h, before_c, panel, rows, starts, counts, lasts,
        reverse, relu,
    ):  # fmt: skip
        """Four sequences through all steps back; see recurrent.backward.

        gates   float32[N · S H]  in: the cell's slots; out: their gradients
        dh, dc  float32[B · H]    in: the gradient of the last state; out: of the initial one
        panel   `pack_columns` of weight_hh, transposed
        """
        shared = cuda.shared.array(0, float32)
        thread = cuda.threadIdx.x
        unit, lane = thread // 4, thread % 4
        sequence = cuda.blockIdx.x * 4 + lane
        there = unit < H and sequence * H < len(dh)
        weights = hold(panel, thread, threads)
        place(shared, panel, held, held + rest, step_w, vectors, 8 * row, thread, threads)
        d_hidden, d_cell = ZERO, ZERO
        if there:
            d_hidden, d_cell = dh[sequence * H + unit], read_c(dc, sequence * H + unit)
        T = lasts[cuda.blockIdx.x]
        t = 0 if reverse else T - 1
        way = 1 if reverse else -1
        first, count = starts[t], counts[t]
        values, saved, d = no_slots, ZERO, ZERO
        if there and sequence < count:
            n = first + sequence
            values = load(gates, n * (slots * H) + unit, H)
            saved = kept(before_h, before_c, n * H + unit)
            d = dy[rows[n] * dy_row + column + unit]
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            buffer = vectors + step % 2 * 4 * row
            dz, direct = no_inputs, NO_GRADIENT
            if active:
                slot_gradients, dz, direct, d_cell = step_backward(
                    values, saved, d + d_hidden, d_cell, relu
                )
                store(gates, n * (slots * H) + unit, H, slot_gradients)
            if unit < H:
                share(shared, buffer + lane * row + unit, H, dz)
            if step + 1 < T:  # the inputs of the next step are loaded during the products
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    m = first + sequence
                    values = load(gates, m * (slots * H) + unit, H)
                    saved = kept(before_h, before_c, m * H + unit)
                    d = dy[rows[m] * dy_row + column + unit]
            cuda.syncthreads()
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            total = own(sums[0], sums[1], sums[2], sums[3], lane, shared, spare)
            if active:
                d_hidden = direct + total
        if there:
            dh[sequence * H + unit] = d_hidden
            write_c(dc, sequence * H + unit, d_cell)

    return persistent_backward


def variants() -> None:
    """Declare the kernels of some sizes, for tests that compile them."""
    for cell, sizes in ((LSTM, (64, 112, 128)), (GRU, (64, 128, 144)), (RNN, (64, 128, 232))):
        for units in sizes:
            found = plans(cell, units, MOST_SHARED)
            assert found is not None
            forward_kernel(cell, found[0])
            backward_kernel(cell, found[1])
