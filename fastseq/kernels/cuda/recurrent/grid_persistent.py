"""Recurrences whose weights are spread over the chip: every multiprocessor keeps some units.

A grid of blocks, at most one for each multiprocessor, takes all steps in one launch. Block (r, p)
has the sequences of *row tile* r and the units of *part* p, with the recurrent weights of these
units in shared memory all along. At a step it needs what the other parts made of its rows at the
step before: they exchange it through memory that all multiprocessors see, one half of it at every
other step, and one barrier among the parts of a row tile ends a step. No two row tiles wait for
each other.

A product is made of tiles, in float32 (grid_tiles.py) or on tensor cores (grid_tensor.py);
several threads or warps share the depth of a tile, and their sums are added in order. Then each
thread has one unit of one sequence (cells.py), whose numbers were on their way meanwhile. A
product's rows come from the exchange by cp.async, one chunk ahead of the arithmetic.

The barrier is a counter: a part adds one when its writes are out, and waits until all parts have.
That no block waits for one that never runs is due to their number: an H100 holds one of each
multiprocessor at once, whatever their size. In the simulator, which runs blocks one after the
other, a launch is one step (or half a step) and the barrier is the launch's end.

*A step's time* at H = 512, B = 64 (four row tiles by 32 parts) is bound by 16 · 64 · 512
multiply-adds a block, 4,096 clocks at the peak, by the 2 · 128 KB that come and go (reads of 32 KB,
on the way back of 128 KB), and by the barrier, a trip to the second-level cache and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numba import float32

from fastseq.kernels.cuda.recurrent import grid_tensor, grid_tiles
from fastseq.kernels.cuda.recurrent.cells import CELLS, ZERO
from fastseq.kernels.cuda.recurrent.grid_planning import MOST_ROWS, Plan, plan_of
from fastseq.kernels.cuda.recurrent.grid_tiles import PACKING
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.scalars import load_acquired
from fastseq.kernels.cuda.runtime.target import (
    MOST_SHARED,
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


def way_of(plan: Plan) -> ModuleType:
    """The module that makes a plan's products."""
    return grid_tiles if plan.precision == "float32" else grid_tensor


@device_function
def _meet(counters, tile, wanted, thread):
    """Wait until all parts of the row tile have come here: `wanted` arrivals in all."""
    cuda.syncthreads()
    if thread == 0:
        cuda.threadfence()
        cuda.atomic.add(counters, tile, 1)
        while load_acquired(counters, tile) < wanted:
            pass
    cuda.syncthreads()


@device_function
def _steps_of(counts, row):
    """At how many steps the sequence `row` is at work; counts descend."""
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high) // 2
        if counts[middle] > row:
            low = middle + 1
        else:
            high = middle
    return low


def _totals(plan: Plan, outputs: int) -> Any:
    """totals(shared, row, unit): the sums of one unit's columns, all shares added up in order."""
    columns, rows, stage, shares, own = (
        plan.columns, plan.rows, plan.stage, plan.shares, plan.own
    )  # fmt: skip

    @device_function
    def total(shared, row, column):
        found = ZERO
        for share in range(shares):
            found += shared[stage + (share * rows + row) * columns + column]
        return found

    if outputs == 1:

        @device_function
        def totals(shared, row, unit):
            return (total(shared, row, unit),)

    elif outputs == 3:

        @device_function
        def totals(shared, row, unit):
            return (
                total(shared, row, unit),
                total(shared, row, unit + own),
                total(shared, row, unit + 2 * own),
            )

    else:

        @device_function
        def totals(shared, row, unit):
            return (
                total(shared, row, unit),
                total(shared, row, unit + own),
                total(shared, row, unit + 2 * own),
                total(shared, row, unit + 3 * own),
            )

    return totals


@lru_cache(None)
def forward_kernel(plan: Plan) -> Kernel:
    """The kernel of a plan."""
    H, own, rows, parts = plan.units, plan.own, plan.rows, plan.parts
    weights, threads = plan.stage, plan.threads
    cell = CELLS[plan.cell]
    slots, load, store_slots, no_inputs = cell.slots, cell.load, cell.store_slots, cell.no_inputs
    read_c, write_c, read_bias, forward, keep_state = (
        cell.read_c, cell.write_c, cell.read_bias, cell.forward, cell.keep
    )  # fmt: skip
    way = way_of(plan)
    product, store, totals = way.product_of(plan), way.store_of(plan), _totals(plan, plan.gates)

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], uint16[::1], int32[::1], float32[::1], float32[::1], "
        "int32[::1], int32[::1], int32[::1], int64, int64, int64, int64, int64, int64, int64, "
        "int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"{plan.cell}_forward_{plan.name}",
    )
    def spread_forward(
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
                at_work = there and start + b < min(count, low + tile_rows)
                row = min(start + b, count - 1)
                n = first + row
                at = row * H + unit
                k = n * (slots * H) + unit
                inputs, old_h, old_c, b_hn = no_inputs, ZERO, ZERO, ZERO
                if at_work:  # idle threads do not even read what others write
                    inputs, old_h = load(gates, k, H), h[at]
                    old_c, b_hn = read_c(c, at), read_bias(bias, unit)
                to = rows_of[n] * y_row + column + unit
                product(shared, exchange, now, start, pitch, thread)
                cuda.syncthreads()
                if at_work:
                    values, new_h, new_c = forward(
                        inputs, totals(shared, b, thread % own), old_h, old_c, b_hn, relu
                    )
                    if keep:
                        store_slots(gates, k, H, values)
                        keep_state(before_h, before_c, n * H + unit, old_h, old_c)
                    h[at] = new_h
                    write_c(c, at, new_c)
                    y[to] = new_h
                    store(exchange, halves, then, unit, row, pitch, new_h)
                cuda.syncthreads()
            if last_step - first_step > 1 and step + 1 < T:
                _meet(counters, tile, parts * (step - first_step + 1), thread)

    return spread_forward


@lru_cache(None)
def backward_kernel(plan: Plan) -> Kernel:
    """The kernel of a plan."""
    H, own, rows, parts = plan.units, plan.own, plan.rows, plan.parts
    weights, threads, outputs = plan.stage, plan.threads, plan.gates
    cell = CELLS[plan.cell]
    slots, load, store_slots = cell.slots, cell.load_slots, cell.store_slots
    read_c, write_c, kept, step_backward = cell.read_c, cell.write_c, cell.kept, cell.backward
    way = way_of(plan)
    product, store, totals = way.product_of(plan), way.store_of(plan), _totals(plan, 1)

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], "
        "float32[::1], float32[::1], uint16[::1], int32[::1], float32[::1], int32[::1], "
        "int32[::1], int32[::1], int64, int64, int64, int64, int64, int64, int64, int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"{plan.cell}_backward_{plan.name}",
    )
    def spread_backward(
        gates, dh, dc, dy, dy_row, column, before_h, before_c, exchange, halves, counters, panel,
        rows_of, starts, counts, tile_rows, pitch, half, first_step, last_step, parts_of_step,
        reverse, relu,
    ):  # fmt: skip
        """The same way back; parts_of_step: 1 for the units alone, 2 for the products, 3 for
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
                            load(gates, k, H), kept(before_h, before_c, n * H + unit),
                            dh[at] + dy[rows_of[n] * dy_row + column + unit], read_c(dc, at), relu,
                        )  # fmt: skip
                        store_slots(gates, k, H, slot_gradients)
                        write_c(dc, at, d_cell)
                        dh[at] = direct
                        for g in range(outputs):
                            store(exchange, halves, now, unit + g * H, row, pitch, dz[g])
            if parts_of_step == 3:
                _meet(counters, tile, parts * (step - first_step + 1), thread)
            if parts_of_step & 2:
                for start in range(low, last, rows):
                    product(shared, exchange, now, start, pitch, thread)
                    cuda.syncthreads()
                    if there and start + b < last:
                        at = (start + b) * H + unit
                        dh[at] += totals(shared, b, thread % own)[0]
                    cuda.syncthreads()

    return spread_backward


def plans(
    cell: str, units: int, gates: int, batch: int, precision: str = "float32"
) -> tuple[Plan, Plan] | None:
    """The plans of both passes on the GPU at hand; None where one of them does not fit."""
    found = [
        plan_of(cell, units, gates, back, batch, multiprocessors(), most_shared(), precision)
        for back in (False, True)
    ]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def forward(
    plan: Plan, y: Any, y_row: int, column: int, state: Sequence[Any], gates: Any,
    before: Sequence[Any], weight: Any, bias: Any, rows: Any, starts: Any, counts: Any, batch: int,
    reverse: bool, keep: bool,
) -> None:  # fmt: skip
    """Run every step: arrays flat, as recurrent.forward has them; bias None but for a GRU."""
    h, before_h = state[0], before[0]
    room = _Room.of(plan, batch, h)
    panel = _packed(plan, weight)
    for first, last in _launches(len(counts)):
        forward_kernel(plan)(
            room.tiles * plan.parts, y, y_row, column, h, state[-1], gates, before_h, before[-1],
            room.exchange, room.halves, room.counters, panel, gates if bias is None else bias,
            rows, starts, counts, room.size, room.pitch, room.half, first, last, int(reverse),
            int(keep), int(plan.cell == "rnn_relu"), shared=plan.shared,
        )  # fmt: skip


def backward(
    plan: Plan, gates: Any, dstate: Sequence[Any], dy: Any, dy_row: int, column: int,
    before: Sequence[Any], weight: Any, rows: Any, starts: Any, counts: Any, batch: int,
    reverse: bool,
) -> None:  # fmt: skip
    """Run every step back, as recurrent.backward has it."""
    room = _Room.of(plan, batch, None)
    panel = _packed(plan, weight)
    for first, last in _launches(len(counts)):
        for halves in (1, 2) if SIMULATED else (3,):
            backward_kernel(plan)(
                room.tiles * plan.parts, gates, dstate[0], dstate[-1], dy, dy_row, column,
                before[0], before[-1], room.exchange, room.halves, room.counters, panel, rows,
                starts, counts, room.size, room.pitch, room.half, first, last, halves, int(reverse),
                int(plan.cell == "rnn_relu"), shared=plan.shared,
            )  # fmt: skip


def _launches(steps: int) -> list[tuple[int, int]]:
    """The steps of each launch: all of them, in the simulator one."""
    return [(step, step + 1) for step in range(steps)] if SIMULATED else [(0, steps)]


@dataclass(frozen=True, slots=True, eq=False)
class _Room:
    """What the blocks of a launch meet by.

    exchange  float32[2, half] on the device; `halves` the same memory as uint16
    counters  int32[tiles], zero
    tiles     row tiles, of `size` sequences each
    pitch     of the exchange's rows
    """

    exchange: Any
    halves: Any
    counters: Any
    tiles: int
    size: int
    pitch: int
    half: int

    @classmethod
    def of(cls, plan: Plan, batch: int, h: Any) -> _Room:
        """For so many sequences; h float32[B · H] is exchanged already, or nothing."""
        size = plan.tile_rows(batch, multiprocessors())
        tiles = plan.row_tiles(batch, multiprocessors())
        pitch, half = plan.exchange_of(tiles * size + MOST_ROWS)  # a chunk may reach past the last
        exchange = memory.scratch("exchange", 2 * half)
        halves, counters = exchange.view(np.uint16), _counters(tiles)
        way_of(plan).begin(
            blocks_for(2 * half, PACKING, 1024), exchange, halves, counters,
            exchange if h is None else h, 0 if h is None else batch, plan.units, half, pitch,
            int(plan.precision == "bfloat16"), threads=WARP if SIMULATED else PACKING,
        )  # fmt: skip
        return cls(exchange, halves, counters, tiles, size, pitch, half)


_kept: dict[str, Any] = {}


def _counters(count: int) -> Any:
    found = _kept.get("counters")
    if found is None or len(found) < count:
        found = _kept["counters"] = memory.zeros(max(count, 256), np.int32)
    return found[:count]


def _packed(plan: Plan, weight: Any) -> Any:
    """The weight as the plan's parts take it, until the next one is packed."""
    size = plan.parts * plan.stage
    panel = memory.scratch("spread panel", size)
    way_of(plan).pack_parts(
        blocks_for(size, PACKING, 1024), panel, panel.view(np.uint16),
        memory.flat(weight), plan.units, plan.gates, plan.own, plan.columns,
        plan.stage // plan.columns, int(plan.back), int(plan.precision == "bfloat16"),
        threads=WARP if SIMULATED else PACKING,
    )  # fmt: skip
    return panel


def variants() -> None:
    """Declare the kernels of some sizes, for tests that compile them."""
    for cell, gates in (("lstm", 4), ("gru", 3), ("rnn", 1)):
        for units, precision in ((192, "float32"), (256, "bfloat16"), (256, "tf32"),
                                 (512, "float32"), (512, "bfloat16")):  # fmt: skip
            for back in (False, True):
                plan = plan_of(cell, units, gates, back, 64, 132, MOST_SHARED, precision)
                assert plan is not None
                (backward_kernel if back else forward_kernel)(plan)
