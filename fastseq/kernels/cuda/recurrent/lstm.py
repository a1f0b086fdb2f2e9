"""Long short-term memory on one multiprocessor: the twins of kernels/nn/lstm.py.

Gates lie as PyTorch orders them: row n is i, f, g, o, each of H units. See persistent.py for where
the weights are, kernels/nn/lstm.py for the formulas and the packed order of rows.
"""

from __future__ import annotations

from functools import lru_cache

from numba import float32

from fastseq.kernels.core import formulas
from fastseq.kernels.cuda.recurrent.persistent import ZERO, Plan, place, plans_of
from fastseq.kernels.cuda.recurrent.registers import own, products
from fastseq.kernels.cuda.runtime.scalars import fma, sigmoid, tanh
from fastseq.kernels.cuda.runtime.target import MOST_SHARED, Kernel, cuda, formula, kernel

GATES = 4

step_forward, step_backward = formulas.lstm(formula, fma, sigmoid, tanh)


@lru_cache(None)
def forward_kernel(plan: Plan) -> Kernel:
    """The kernel for a plan of four outputs a unit and H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    nothing, hold, multiply, multiply_rest = products(GATES, held, rest, plan.span)

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64, int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"lstm_forward_{H}",
    )
    def lstm_forward(
        y, y_row, column, h, c, gates, before_h, before_c, panel, rows, starts, counts, lasts,
        reverse, keep,
    ):  # fmt: skip
        """Four sequences through all steps; see `kernels.lstm.lstm_forward`.

        h, c           float32[B · H]    in: the initial state; out: the last one
        gates          float32[N · 4 H]  in: x W + biases; out: i, f, g, o
        panel          `persistent.pack_columns` of weight_hh
        lasts          int32[blocks]     steps of each block's longest sequence
        """
        shared = cuda.shared.array(0, float32)
        thread = cuda.threadIdx.x
        unit, lane = thread // 4, thread % 4
        sequence = cuda.blockIdx.x * 4 + lane
        there = unit < H and sequence * H < len(h)
        weights = hold(panel, thread, threads)
        place(
            shared, panel, held * GATES, (held + rest) * GATES, step_w, vectors, 8 * row, thread,
            threads,
        )  # fmt: skip
        hidden, cell = ZERO, ZERO
        if there:
            hidden, cell = h[sequence * H + unit], c[sequence * H + unit]
            shared[vectors + lane * row + unit] = hidden
        cuda.syncthreads()
        T = lasts[cuda.blockIdx.x]
        t = T - 1 if reverse else 0
        way = -1 if reverse else 1
        first, count = starts[t], counts[t]
        z_i, z_f, z_g, z_o = ZERO, ZERO, ZERO, ZERO
        if there and sequence < count:
            k = (first + sequence) * (4 * H) + unit
            z_i, z_f, z_g, z_o = gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H]
        buffer = vectors
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            a_i, a_f, a_g, a_o = z_i, z_f, z_g, z_o
            if step + 1 < T:  # what the next step needs is on its way while this one computes
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    k = (first + sequence) * (4 * H) + unit
                    z_i, z_f, z_g, z_o = gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H]
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            a_i += own(sums[0], sums[4], sums[8], sums[12], lane, shared, spare)
            a_f += own(sums[1], sums[5], sums[9], sums[13], lane, shared, spare)
            a_g += own(sums[2], sums[6], sums[10], sums[14], lane, shared, spare)
            a_o += own(sums[3], sums[7], sums[11], sums[15], lane, shared, spare)
            buffer = vectors + (step + 1) % 2 * 4 * row
            if active:
                i, f, g, o, new_c, new_h = step_forward(a_i, a_f, a_g, a_o, cell)
                if keep:
                    k = n * (4 * H) + unit
                    gates[k] = i
                    gates[k + H] = f
                    gates[k + 2 * H] = g
                    gates[k + 3 * H] = o
                    before_h[n * H + unit] = hidden
                    before_c[n * H + unit] = cell
                hidden, cell = new_h, new_c
                y[rows[n] * y_row + column + unit] = new_h
            if unit < H:
                shared[buffer + lane * row + unit] = hidden
            cuda.syncthreads()
        if there:
            h[sequence * H + unit] = hidden
            c[sequence * H + unit] = cell

    return lstm_forward


@lru_cache(None)
def backward_kernel(plan: Plan) -> Kernel:
    """The kernel for a plan of one output a unit and 4 H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    nothing, hold, multiply, multiply_rest = products(1, held, rest, plan.span)

    @kernel(
        "float32[::1], float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], "
        "float32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"lstm_backward_{H}",
    )
    def lstm_backward(
        gates, dh, dc, dy, dy_row, column, before_c, panel, rows, starts, counts, lasts, reverse
    ):
        """Four sequences through all steps back; see `kernels.lstm.lstm_backward`.

        gates   float32[N · 4 H]  in: i, f, g, o; out: the gradients of their inputs
        dh, dc  float32[B · H]    in: the gradient of the last state; out: of the initial one
        panel   `persistent.pack_columns` of weight_hh, transposed
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
            d_hidden, d_cell = dh[sequence * H + unit], dc[sequence * H + unit]
        T = lasts[cuda.blockIdx.x]
        t = 0 if reverse else T - 1
        way = 1 if reverse else -1
        first, count = starts[t], counts[t]
        i, f, g, o, c, d = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        if there and sequence < count:
            n = first + sequence
            k = n * (4 * H) + unit
            i, f, g, o = gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H]
            c, d = before_c[n * H + unit], dy[rows[n] * dy_row + column + unit]
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            buffer = vectors + step % 2 * 4 * row
            z_i, z_f, z_g, z_o = ZERO, ZERO, ZERO, ZERO
            if active:
                z_i, z_f, z_g, z_o, d_cell = step_backward(i, f, g, o, c, d + d_hidden, d_cell)
                k = n * (4 * H) + unit
                gates[k] = z_i
                gates[k + H] = z_f
                gates[k + 2 * H] = z_g
                gates[k + 3 * H] = z_o
            if unit < H:
                to = buffer + lane * row + unit
                shared[to] = z_i
                shared[to + H] = z_f
                shared[to + 2 * H] = z_g
                shared[to + 3 * H] = z_o
            if step + 1 < T:  # what the next step needs is on its way during the products
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    m = first + sequence
                    k = m * (4 * H) + unit
                    i, f, g, o = gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H]
                    c, d = before_c[m * H + unit], dy[rows[m] * dy_row + column + unit]
            cuda.syncthreads()
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            total = own(sums[0], sums[1], sums[2], sums[3], lane, shared, spare)
            if active:
                d_hidden = total
        if there:
            dh[sequence * H + unit] = d_hidden
            dc[sequence * H + unit] = d_cell

    return lstm_backward


def plans(units: int, shared: int) -> tuple[Plan, Plan] | None:
    """How both passes lie on a multiprocessor that gives a block so many bytes of shared memory;
    None where they do not fit. The registers are what the compiler was seen to need."""
    return plans_of(units, GATES, 64, 96, shared)


def variants() -> None:
    """Declare the kernels of some sizes, for tests that compile them."""
    for units in (64, 112, 128):
        found = plans(units, MOST_SHARED)
        assert found is not None
        forward_kernel(found[0])
        backward_kernel(found[1])
