"""The plain recurrent network on one multiprocessor: the twins of kernels/nn/rnn.py.

h = tanh(x + U h') or max(0, x + U h'): a row of gates is h itself. See persistent.py for where the
weights are, kernels/nn/lstm.py for the packed order of rows.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import float32

from fastseq.kernels.cuda.recurrent.persistent import ZERO, Plan, place, plans_of
from fastseq.kernels.cuda.recurrent.registers import own, products
from fastseq.kernels.cuda.runtime.scalars import tanh
from fastseq.kernels.cuda.runtime.target import MOST_SHARED, Kernel, cuda, formula, kernel

ONE = np.float32(1)


@formula
def activate(z, relu):
    """The new h of a unit's input; a NaN stays one."""
    if relu:
        return ZERO if z < ZERO else z
    return tanh(z)


@formula
def slope(h, relu):
    """The derivative of `activate` where it gave h."""
    if relu:
        return ONE if h > ZERO else ZERO
    return ONE - h * h


@lru_cache(None)
def forward_kernel(plan: Plan) -> Kernel:
    """The kernel for a plan of one output a unit and H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    nothing, hold, multiply, multiply_rest = products(1, held, rest, plan.span)

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "int32[::1], int32[::1], int32[::1], int32[::1], int64, int64, int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"rnn_forward_{H}",
    )
    def rnn_forward(
        y, y_row, column, h, gates, before_h, panel, rows, starts, counts, lasts, reverse, keep,
        relu,
    ):  # fmt: skip
        """Four sequences through all steps; see `kernels.rnn.rnn_forward`.

        h      float32[B · H]  in: the initial state; out: the last one
        gates  float32[N · H]  in: x W + biases; out: h
        panel  `persistent.pack_columns` of weight_hh
        lasts  int32[blocks]   steps of each block's longest sequence
        """
        shared = cuda.shared.array(0, float32)
        thread = cuda.threadIdx.x
        unit, lane = thread // 4, thread % 4
        sequence = cuda.blockIdx.x * 4 + lane
        there = unit < H and sequence * H < len(h)
        weights = hold(panel, thread, threads)
        place(shared, panel, held, held + rest, step_w, vectors, 8 * row, thread, threads)
        hidden = ZERO
        if there:
            hidden = h[sequence * H + unit]
            shared[vectors + lane * row + unit] = hidden
        cuda.syncthreads()
        T = lasts[cuda.blockIdx.x]
        t = T - 1 if reverse else 0
        way = -1 if reverse else 1
        first, count = starts[t], counts[t]
        z = ZERO
        if there and sequence < count:
            z = gates[(first + sequence) * H + unit]
        buffer = vectors
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            a = z
            if step + 1 < T:  # what the next step needs is on its way while this one computes
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    z = gates[(first + sequence) * H + unit]
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            a += own(sums[0], sums[1], sums[2], sums[3], lane, shared, spare)
            buffer = vectors + (step + 1) % 2 * 4 * row
            if active:
                if keep:
                    before_h[n * H + unit] = hidden
                hidden = activate(a, relu)
                if keep:
                    gates[n * H + unit] = hidden
                y[rows[n] * y_row + column + unit] = hidden
            if unit < H:
                shared[buffer + lane * row + unit] = hidden
            cuda.syncthreads()
        if there:
            h[sequence * H + unit] = hidden

    return rnn_forward


@lru_cache(None)
def backward_kernel(plan: Plan) -> Kernel:
    """The kernel for a plan of one output a unit and H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    nothing, hold, multiply, multiply_rest = products(1, held, rest, plan.span)

    @kernel(
        "float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], int32[::1], "
        "int32[::1], int32[::1], int32[::1], int64, int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        spill=16,  # for sm_80, two numbers, outside of the products
        name=f"rnn_backward_{H}",
    )
    def rnn_backward(
        gates, dh, dy, dy_row, column, panel, rows, starts, counts, lasts, reverse, relu
    ):
        """Four sequences through all steps back; see `kernels.rnn.rnn_backward`.

        gates  float32[N · H]  in: h; out: the gradients of their inputs
        dh     float32[B · H]  in: the gradient of the last state; out: of the initial one
        panel  `persistent.pack_columns` of weight_hh, transposed
        """
        shared = cuda.shared.array(0, float32)
        thread = cuda.threadIdx.x
        unit, lane = thread // 4, thread % 4
        sequence = cuda.blockIdx.x * 4 + lane
        there = unit < H and sequence * H < len(dh)
        weights = hold(panel, thread, threads)
        place(shared, panel, held, held + rest, step_w, vectors, 8 * row, thread, threads)
        d_hidden = ZERO
        if there:
            d_hidden = dh[sequence * H + unit]
        T = lasts[cuda.blockIdx.x]
        t = 0 if reverse else T - 1
        way = 1 if reverse else -1
        first, count = starts[t], counts[t]
        h, d = ZERO, ZERO
        if there and sequence < count:
            n = first + sequence
            h, d = gates[n * H + unit], dy[rows[n] * dy_row + column + unit]
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            buffer = vectors + step % 2 * 4 * row
            z = ZERO
            if active:
                z = (d + d_hidden) * slope(h, relu)
                gates[n * H + unit] = z
            if unit < H:
                shared[buffer + lane * row + unit] = z
            if step + 1 < T:  # what the next step needs is on its way during the products
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    q = first + sequence
                    h, d = gates[q * H + unit], dy[rows[q] * dy_row + column + unit]
            cuda.syncthreads()
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            total = own(sums[0], sums[1], sums[2], sums[3], lane, shared, spare)
            if active:
                d_hidden = total
        if there:
            dh[sequence * H + unit] = d_hidden

    return rnn_backward


def plans(units: int, shared: int) -> tuple[Plan, Plan] | None:
    """How both passes lie on a multiprocessor that gives a block so many bytes of shared memory;
    None where they do not fit. The registers are what the compiler was seen to need."""
    return plans_of(units, 1, 68, 68, shared)


def variants() -> None:
    """Declare the kernels of some sizes, for tests that compile them."""
    for units in (64, 128, 232):
        found = plans(units, MOST_SHARED)
        assert found is not None
        forward_kernel(found[0])
        backward_kernel(found[1])
