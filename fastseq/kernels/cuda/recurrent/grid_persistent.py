"""Recurrent layers whose weights are distributed over the multiprocessors, some units on each.

A grid of blocks, at most one per multiprocessor, computes all steps in one launch. Block (r, p) has
the sequences of *row tile* r and the units of *part* p, with the recurrent weights of these units
in shared memory throughout. A step needs the states that the other parts computed for its rows at
the step before: the parts exchange them through global memory, alternating between two halves, and
one barrier among the parts of a row tile ends a step. Row tiles do not wait for each other.

Products (grid_products.py) are in float32 or on tensor cores; several threads or warps share the
depth of a tile, and their sums are added in order. Then each thread computes one unit of one
sequence (cells.py), whose inputs were loaded meanwhile. A product's rows are copied from the
exchange by cp.async, one chunk ahead of the arithmetic.

The barrier is a counter: a part adds one after its writes, and waits until all parts have. No block
waits for one that never runs, since the grid has no more blocks than multiprocessors, which each
hold one of any size. In the simulator, which runs blocks one after the other, a launch is one step
(or half a step) and the barrier is the end of the launch.

*A step's time* at H = 512, B = 64 (four row tiles by 32 parts) is bound by 16 · 64 · 512
multiply-adds a block, 4,096 clocks at the peak, by the 2 · 128 KB of the exchange (reads of 32 KB,
in the backward pass of 128 KB), and by the barrier, a round trip to the second-level cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import float32

from fastseq.kernels.cuda.recurrent.cells import CELLS, ZERO, store_values, tuple_over
from fastseq.kernels.cuda.recurrent.grid_planning import MOST_ROWS, Plan, plan_of
from fastseq.kernels.cuda.recurrent.grid_products import (
    MODES,
    PACKING,
    begin,
    pack_parts,
    product_of,
    store_of,
)
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.instructions import load_acquired
from fastseq.kernels.cuda.runtime.target import (
    SIMULATED,
    WARP,
    Kernel,
    blocks_for,
    cuda,
    device_function,
    kernel,
    most_shared,
    multiprocessors,
)


@device_function
def _barrier(counters, tile, wanted, thread):
    """Wait until all parts of the row tile have arrived: `wanted` arrivals in all."""
    cuda.syncthreads()
    if thread == 0:
        cuda.threadfence()
        cuda.atomic.add(counters, tile, 1)
        while load_acquired(counters, tile) < wanted:
            pass
    cuda.syncthreads()


@device_function
def _steps_of(counts, row):
    """The number of steps of the sequence `row`; counts descend."""
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high) // 2
        if counts[middle] > row:
            low = middle + 1
        else:
            high = middle
    return low


def _totals(plan: Plan, outputs: int) -> Any:
    """totals(shared, row, unit): the sums of one unit's columns, all shares added in order."""
    columns, rows, stage, shares, own = (
        plan.columns, plan.rows, plan.stage, plan.shares, plan.own
    )  # fmt: skip

    @device_function
    def total(shared, row, unit, i):
        found = ZERO
        for share in range(shares):
            found += shared[stage + (share * rows + row) * columns + unit + i * own]
        return found

    return tuple_over(outputs, total)


@lru_cache(None)
def forward_kernel(plan: Plan) -> Kernel:
    """The forward kernel of a plan."""
    H, own, rows, parts = plan.units, plan.own, plan.rows, plan.parts
    weights, threads = plan.stage, plan.threads
    cell = CELLS[plan.cell]
    slots, load, no_inputs = cell.slots, cell.load, (ZERO,) * cell.gates
    read_c, write_c, read_bias, forward, save = (
        cell.read_c, cell.write_c, cell.read_bias, cell.forward, cell.save
    )  # fmt: skip
    product, store, totals = product_of(plan), store_of(plan), _totals(plan, plan.gates)

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], uint16[::1], int32[::1], float32[::1], float32[::1], "
        "int32[::1], int32[::1], int32[::1], int64, int64, int64, int64, int64, int64, int64, "
        "int64",
        threads=threads, registers=plan.registers, shared=plan.shared,
        name=f"{plan.cell}_forward_{plan.name}",
    )  # fmt: skip
    def grid_forward(
        y, y_row, column, h, c, gates, before_h, before_c, exchange, halves, counters, panel, bias,
        rows_of, starts, counts, tile_rows, pitch, half, first_step, last_step, reverse, keep, relu,
    ):  # fmt: skip
        """Steps [first_step, last_step) of every row tile; see recurrent.forward."""
        shared = cuda.shared.array(0, float32)
        thread = cuda.threadIdx.x
        tile, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
        for i in range(thread, weights, threads):
            shared[i] = panel[part * weights + i]
        unit, b = part * own + thread % own, thread // own
        there = b < rows and unit < H
        unit = min(unit, H - 1)
        low = tile * tile_rows
        T = _steps_of(counts, low)
        for step in range(first_step, min(last_step, T)):
            t = T - 1 - step if reverse else step
            first, count = starts[t], counts[t]
            now = step % 2 * half
            then = (step + 1) % 2 * half
            for start in range(low, min(low + tile_rows, count), rows):
                active = there and start + b < min(count, low + tile_rows)
                row = min(start + b, count - 1)
                n = first + row
                at = row * H + unit
                k = n * (slots * H) + unit
                inputs, old_h, old_c, b_hn = no_inputs, ZERO, ZERO, ZERO
                if active:  # idle threads must not read what others write
                    inputs, old_h = load(gates, k, H), h[at]
                    old_c, b_hn = read_c(c, at), read_bias(bias, unit)
                to = rows_of[n] * y_row + column + unit
                product(shared, exchange, now, start, pitch, thread)
                cuda.syncthreads()
                if active:
                    values, new_h, new_c = forward(
                        inputs, totals(shared, b, thread % own), old_h, old_c, b_hn, relu
                    )
                    if keep:
                        store_values(gates, k, H, values)
                        save(before_h, before_c, n * H + unit, old_h, old_c)
                    h[at] = new_h
                    write_c(c, at, new_c)
                    y[to] = new_h
                    store(exchange, halves, then, unit, row, pitch, new_h)
                cuda.syncthreads()
            if last_step - first_step > 1 and step + 1 < T:
                _barrier(counters, tile, parts * (step - first_step + 1), thread)

    return grid_forward


@lru_cache(None)
def backward_kernel(plan: Plan) -> Kernel:
    """The backward kernel of a plan."""
    H, own, rows, parts = plan.units, plan.own, plan.rows, plan.parts
    weights, threads, outputs = plan.stage, plan.threads, plan.gates
    cell = CELLS[plan.cell]
    slots, load = cell.slots, cell.load_slots
    read_c, write_c, load_saved, step_backward = (
        cell.read_c,
        cell.write_c,
        cell.load_saved,
        cell.backward,
    )
    product, store, totals = product_of(plan), store_of(plan), _totals(plan, 1)

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], "
        "float32[::1], float32[::1], uint16[::1], int32[::1], float32[::1], int32[::1], "
        "int32[::1], int32[::1], int64, int64, int64, int64, int64, int64, int64, int64",
        threads=threads, registers=plan.registers, shared=plan.shared,
        name=f"{plan.cell}_backward_{plan.name}",
    )  # fmt: skip
    def grid_backward(
        gates, dh, dc, dy, dy_row, column, before_h, before_c, exchange, halves, counters, panel,
        rows_of, starts, counts, tile_rows, pitch, half, first_step, last_step, parts_of_step,
        reverse, relu,
    ):  # fmt: skip
        """The same in reverse; parts_of_step: 1 for the units alone, 2 for the products, 3 for
        both."""
        shared = cuda.shared.array(0, float32)
        thread = cuda.threadIdx.x
        tile, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
        for i in range(thread, weights, threads):
            shared[i] = panel[part * weights + i]
        unit, b = part * own + thread % own, thread // own
        there = b < rows and unit < H
        unit = min(unit, H - 1)
        low = tile * tile_rows
        T = _steps_of(counts, low)
        for step in range(first_step, min(last_step, T)):
            t = step if reverse else T - 1 - step
            first, count = starts[t], counts[t]
            last = min(low + tile_rows, count)
            now = step % 2 * half
            if parts_of_step & 1:
                for start in range(low, last, rows):
                    if there and start + b < last:
                        row = start + b
                        n = first + row
                        at = row * H + unit
                        k = n * (slots * H) + unit
                        slot_gradients, dz, direct, d_cell = step_backward(
                            load(gates, k, H), load_saved(before_h, before_c, n * H + unit),
                            dh[at] + dy[rows_of[n] * dy_row + column + unit], read_c(dc, at), relu,
                        )  # fmt: skip
                        store_values(gates, k, H, slot_gradients)
                        write_c(dc, at, d_cell)
                        dh[at] = direct
                        for g in range(outputs):
                            store(exchange, halves, now, unit + g * H, row, pitch, dz[g])
            if parts_of_step == 3:
                _barrier(counters, tile, parts * (step - first_step + 1), thread)
            if parts_of_step & 2:
                for start in range(low, last, rows):
                    product(shared, exchange, now, start, pitch, thread)
                    cuda.syncthreads()
                    if there and start + b < last:
                        at = (start + b) * H + unit
                        dh[at] += totals(shared, b, thread % own)[0]
                    cuda.syncthreads()

    return grid_backward


def plans(cell: str, units: int, batch: int, precision: str) -> tuple[Plan, Plan] | None:
    """The plans of both passes on the current GPU; None where one of them does not fit."""
    sizes = batch, multiprocessors(), most_shared(), precision
    there, back = (plan_of(cell, units, CELLS[cell].gates, way, *sizes) for way in (False, True))
    return None if there is None or back is None else (there, back)


def forward(
    plan: Plan, arrays: tuple[Any, ...], weight: Any, bias: Any, rows: Any, steps: Any,
    reverse: bool, keep: bool,
) -> None:  # fmt: skip
    """Run every step.

    arrays  the first arguments of the kernel, up to before_c
    steps   recurrent.Steps
    The others as for recurrent.forward.
    """
    tiles, exchange, sizes = _exchange(plan, steps.batch, arrays[3])
    panel = _packed(plan, weight)
    for first, last in _launches(steps):
        forward_kernel(plan)(
            tiles * plan.parts, *arrays, *exchange, panel, bias, rows, steps.starts, steps.counts,
            *sizes, first, last, reverse, keep, plan.cell == "rnn_relu", shared=plan.shared,
        )  # fmt: skip


def backward(
    plan: Plan, arrays: tuple[Any, ...], weight: Any, rows: Any, steps: Any, reverse: bool
) -> None:
    """Run every step in reverse; see `forward` and recurrent.backward."""
    tiles, exchange, sizes = _exchange(plan, steps.batch, None)
    panel = _packed(plan, weight)
    for first, last in _launches(steps):
        for parts_of_step in (1, 2) if SIMULATED else (3,):
            backward_kernel(plan)(
                tiles * plan.parts, *arrays, *exchange, panel, rows, steps.starts, steps.counts,
                *sizes, first, last, parts_of_step, reverse, plan.cell == "rnn_relu",
                shared=plan.shared,
            )  # fmt: skip


def _launches(steps: Any) -> list[tuple[int, int]]:
    """The first and last step of each launch: one launch, but one per step in the simulator."""
    count = len(steps.counts)
    return [(step, step + 1) for step in range(count)] if SIMULATED else [(0, count)]


def _exchange(
    plan: Plan, batch: int, h: Any
) -> tuple[int, tuple[Any, Any, Any], tuple[int, int, int]]:
    """Prepare the exchange among the blocks, with h float32[B · H], or zeros for None.

    Returns the number of row tiles; the exchange float32[2, half], the same memory as uint16, and
    int32 counters of zero; the sequences of a tile, the pitch of the exchange's rows, and half.
    """
    size = plan.tile_rows(batch, multiprocessors())
    tiles = blocks_for(batch, size)
    pitch, half = plan.exchange_of(tiles * size + MOST_ROWS)  # a chunk may reach past the last
    exchange = memory.scratch("exchange", 2 * half)
    arrays = exchange, exchange.view(np.uint16), _counters(tiles)
    begin(
        blocks_for(2 * half, PACKING, 1024), *arrays, exchange if h is None else h,
        0 if h is None else batch, plan.units, half, pitch, MODES[plan.precision],
        threads=WARP if SIMULATED else PACKING,
    )  # fmt: skip
    return tiles, arrays, (size, pitch, half)


_counters_made: list[Any] = []


def _counters(count: int) -> Any:
    if not _counters_made or len(_counters_made[0]) < count:
        _counters_made[:] = [memory.zeros(max(count, 256), np.int32)]
    return _counters_made[0][:count]


def _packed(plan: Plan, weight: Any) -> Any:
    """The weight in the order of the plan's parts, until the next one is packed."""
    size = plan.parts * plan.stage
    panel = memory.scratch("grid panel", size)
    pack_parts(
        blocks_for(size, PACKING, 1024), panel, panel.view(np.uint16), weight, plan.units,
        plan.gates, plan.own, plan.columns, plan.stage // plan.columns, plan.back,
        MODES[plan.precision], threads=WARP if SIMULATED else PACKING,
    )  # fmt: skip
    return panel
