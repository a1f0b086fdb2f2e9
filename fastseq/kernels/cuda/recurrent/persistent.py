"""Recurrent layers whose weights stay on one multiprocessor: plans and kernels of all cells.

A block computes all steps of four sequences. Four threads per unit (register_matvec.py) hold as
many of the unit's recurrent weights as fit in registers, and the rest in shared memory, each
thread's next to its neighbours'. No step reads a weight from global memory or waits for another
block.

*Size*: with D rows of the matrix and G outputs a unit, G D H weights must fit in the free part of
the threads' registers (65,536 a multiprocessor) and of a block's shared memory, both for the
forward pass's matrix (G gates, D = H) and the backward pass's (G = 1, a row for each gate of each
unit). With the 227 KB of an H100 that is H <= 128 for an LSTM, 144 for a GRU, 232 for the plain RNN
(four threads a unit, 1,024 a block).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from numba import float32

from fastseq.kernels.cuda.recurrent.cells import NO_GRADIENT, ZERO, Cell, store_values, tuple_over
from fastseq.kernels.cuda.recurrent.register_matvec import CHUNK, LANES, own, products
from fastseq.kernels.cuda.runtime.target import (
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
    """How one kernel's weights are stored.

    units      H
    outputs    columns of the matrix for each unit
    depth      rows of the matrix
    threads    of a block, four a unit, in whole warps
    held       chunks of 16 rows in registers
    rest       chunks in shared memory
    row        floats from one of the four vectors to the next, whose banks differ
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
        """Index of the vectors in shared memory: after the weights."""
        return self.rest * self.outputs * self.threads * LANES

    @property
    def spare(self) -> int:
        """Index of the simulator's sums: after two buffers of four vectors."""
        return self.vectors + 2 * LANES * self.row

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return 4 * (self.spare + (LANES * self.threads if SIMULATED else 0))

    @property
    def registers(self) -> int:
        """Registers that a thread may have."""
        return registers_of(self.threads)

    @property
    def span(self) -> int:
        """Chunks in shared memory per iteration, at constant offsets from one register: with two a
        backward step of an LSTM of 128 units takes 1,125 PTX instructions instead of 1,237, and
        more registers."""
        return 2 if self.outputs == 1 and self.registers >= 128 else 1


def registers_of(threads: int) -> int:
    """Registers available to each of `threads` threads: a multiprocessor distributes its warps over
    four parts, each with a quarter of the registers, so that threads count by 128."""
    rounded = blocks_for(threads, 4 * WARP) * 4 * WARP
    return min(MOST_REGISTERS, REGISTERS // rounded // 8 * 8)


@lru_cache(None)
def _plan(units: int, outputs: int, depth: int, own: int, shared: int) -> Plan | None:
    """The plan for these units, columns per unit and rows, with `own` registers of a thread in
    addition to weights and sums; None where they do not fit."""
    threads = blocks_for(LANES * units, WARP) * WARP
    if threads > MOST_THREADS:
        return None
    chunks = blocks_for(depth, CHUNK)
    free = registers_of(threads) - own - LANES * outputs
    held = max(0, min(chunks, free // (LANES * outputs)))
    row = chunks * CHUNK
    row += -row % 32 + 8  # 8 neighbouring units of each of four vectors are in different banks
    plan = Plan(units, outputs, depth, threads, held, chunks - held, row)
    return plan if 4 * plan.spare <= shared else None


@kernel("float32[::1], float32[::1], int64, int64, int64, int64, int64", threads=256, registers=56)
def pack_columns(panel, weight, units, outputs, depth, threads, transposed):
    """A weight in the order of threads: float32[chunk, output, thread, 4], zeros past its edges.

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
    """Copy the weights [first, last) of each thread to shared memory, and zeros to the vectors.

    step  floats from four weights of a thread to its next
    """
    for q in range(first, last):
        for i in range(4):
            shared[(q - first) * step + thread * 4 + i] = panel[q * step + thread * 4 + i]
    for i in range(thread, size, threads):
        shared[vectors + i] = ZERO
    cuda.syncthreads()


def plans(cell: Cell, units: int, shared: int) -> tuple[Plan, Plan] | None:
    """The plans of both passes where a block may have `shared` bytes of shared memory; None where
    one does not fit."""
    forward, backward = cell.registers
    there = _plan(units, cell.gates, units, forward, shared)
    back = _plan(units, 1, cell.gates * units, backward, shared)
    return None if there is None or back is None else (there, back)


@lru_cache(None)
def forward_kernel(cell: Cell, plan: Plan) -> Kernel:
    """The forward kernel of a cell for a plan of `cell.gates` outputs per unit and H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    outputs, slots, load = cell.gates, cell.slots, cell.load
    no_sums, hold, multiply, multiply_rest = products(outputs, held, rest, plan.span)
    no_inputs = (ZERO,) * outputs
    read_c, write_c, read_bias, step_forward, save = (
        cell.read_c, cell.write_c, cell.read_bias, cell.forward, cell.save
    )  # fmt: skip

    @device_function
    def own_output(s, lane, shared, i):
        return own(
            s[i], s[outputs + i], s[2 * outputs + i], s[3 * outputs + i], lane, shared, spare
        )

    own_outputs = tuple_over(outputs, own_output)

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], "
        "int32[::1], int64, int64, int64",
        threads=threads, registers=plan.registers, shared=plan.shared,
        name=f"{cell.name}_forward_{H}",
    )  # fmt: skip
    def persistent_forward(
        y, y_row, column, h, c, gates, before_h, before_c, panel, bias, rows, starts, counts,
        lasts, reverse, keep, relu,
    ):  # fmt: skip
        """All steps of four sequences; see recurrent.forward.

        panel  `pack_columns` of weight_hh
        lasts  int32[blocks], steps of each block's longest sequence
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
        direction = -1 if reverse else 1
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
                t += direction
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    following = load(gates, (first + sequence) * (slots * H) + unit, H)
            sums = multiply(no_sums, weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            found = own_outputs(sums, lane, shared)
            buffer = vectors + (step + 1) % 2 * 4 * row
            if active:
                values, new_h, new_c = step_forward(inputs, found, hidden, state_c, b, relu)
                if keep:
                    store_values(gates, n * (slots * H) + unit, H, values)
                    save(before_h, before_c, n * H + unit, hidden, state_c)
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
    no_sums, hold, multiply, multiply_rest = products(1, held, rest, plan.span)
    no_gradients, no_slots, load = (ZERO,) * cell.gates, (ZERO,) * slots, cell.load_slots
    read_c, write_c, load_saved, step_backward = (
        cell.read_c,
        cell.write_c,
        cell.load_saved,
        cell.backward,
    )

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], "
        "float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64, int64",
        threads=threads, registers=plan.registers, shared=plan.shared, spill=cell.spill,
        name=f"{cell.name}_backward_{H}",
    )  # fmt: skip
    def persistent_backward(
        gates, dh, dc, dy, dy_row, column, before_h, before_c, panel, rows, starts, counts, lasts,
        reverse, relu,
    ):  # fmt: skip
        """All steps of four sequences in reverse; see recurrent.backward.

        panel  `pack_columns` of weight_hh, transposed
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
        direction = 1 if reverse else -1
        first, count = starts[t], counts[t]
        values, saved, d = no_slots, ZERO, ZERO
        if there and sequence < count:
            n = first + sequence
            values = load(gates, n * (slots * H) + unit, H)
            saved = load_saved(before_h, before_c, n * H + unit)
            d = dy[rows[n] * dy_row + column + unit]
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            buffer = vectors + step % 2 * 4 * row
            dz, direct = no_gradients, NO_GRADIENT
            if active:
                slot_gradients, dz, direct, d_cell = step_backward(
                    values, saved, d + d_hidden, d_cell, relu
                )
                store_values(gates, n * (slots * H) + unit, H, slot_gradients)
            if unit < H:
                store_values(shared, buffer + lane * row + unit, H, dz)
            if step + 1 < T:  # the inputs of the next step are loaded during the products
                t += direction
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    m = first + sequence
                    values = load(gates, m * (slots * H) + unit, H)
                    saved = load_saved(before_h, before_c, m * H + unit)
                    d = dy[rows[m] * dy_row + column + unit]
            cuda.syncthreads()
            sums = multiply(no_sums, weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            total = own(sums[0], sums[1], sums[2], sums[3], lane, shared, spare)
            if active:
                d_hidden = direct + total
        if there:
            dh[sequence * H + unit] = d_hidden
            write_c(dc, sequence * H + unit, d_cell)

    return persistent_backward
