"""Gated recurrent unit on one multiprocessor: the twins of kernels/nn/gru.py.

Row n of the gates is r, z, n, m, each of H units: PyTorch's order, and m = U_n h' + b, which the
reset gate scales. See persistent.py for where the weights are, kernels/nn/gru.py for the formulas,
kernels/nn/lstm.py for the packed order of rows.
"""

from __future__ import annotations

from functools import lru_cache

from numba import float32

from fastseq.kernels.core import formulas
from fastseq.kernels.cuda.recurrent.persistent import ZERO, Plan, place, plans_of
from fastseq.kernels.cuda.recurrent.registers import own, products
from fastseq.kernels.cuda.runtime.scalars import fma, sigmoid, tanh
from fastseq.kernels.cuda.runtime.target import MOST_SHARED, Kernel, cuda, formula, kernel

GATES = 3

step_forward, step_backward = formulas.gru(formula, fma, sigmoid, tanh)


@lru_cache(None)
def forward_kernel(plan: Plan) -> Kernel:
    """The kernel for a plan of three outputs a unit and H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    nothing, hold, multiply, multiply_rest = products(GATES, held, rest, plan.span)

    @kernel(
        "float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64, int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"gru_forward_{H}",
    )
    def gru_forward(
        y, y_row, column, h, gates, before_h, panel, bias, rows, starts, counts, lasts, reverse,
        keep,
    ):  # fmt: skip
        """Four sequences through all steps; see `kernels.gru.gru_forward`.

        h      float32[B · H]    in: the initial state; out: the last one
        gates  float32[N · 4 H]  in: x W + biases in r, z, n; out: r, z, n, m
        panel  `persistent.pack_columns` of weight_hh
        bias   float32[H]        b_hn
        lasts  int32[blocks]     steps of each block's longest sequence
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
        hidden, b_n = ZERO, ZERO
        if there:
            hidden, b_n = h[sequence * H + unit], bias[unit]
            shared[vectors + lane * row + unit] = hidden
        cuda.syncthreads()
        T = lasts[cuda.blockIdx.x]
        t = T - 1 if reverse else 0
        way = -1 if reverse else 1
        first, count = starts[t], counts[t]
        z_r, z_z, z_n = ZERO, ZERO, ZERO
        if there and sequence < count:
            k = (first + sequence) * (4 * H) + unit
            z_r, z_z, z_n = gates[k], gates[k + H], gates[k + 2 * H]
        buffer = vectors
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            a_r, a_z, x_n = z_r, z_z, z_n
            if step + 1 < T:  # what the next step needs is on its way while this one computes
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    k = (first + sequence) * (4 * H) + unit
                    z_r, z_z, z_n = gates[k], gates[k + H], gates[k + 2 * H]
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            a_r += own(sums[0], sums[3], sums[6], sums[9], lane, shared, spare)
            a_z += own(sums[1], sums[4], sums[7], sums[10], lane, shared, spare)
            m = b_n + own(sums[2], sums[5], sums[8], sums[11], lane, shared, spare)
            buffer = vectors + (step + 1) % 2 * 4 * row
            if active:
                new, r, z, new_h = step_forward(x_n, a_r, a_z, m, hidden)
                if keep:
                    k = n * (4 * H) + unit
                    gates[k] = r
                    gates[k + H] = z
                    gates[k + 2 * H] = new
                    gates[k + 3 * H] = m
                    before_h[n * H + unit] = hidden
                hidden = new_h
                y[rows[n] * y_row + column + unit] = new_h
            if unit < H:
                shared[buffer + lane * row + unit] = hidden
            cuda.syncthreads()
        if there:
            h[sequence * H + unit] = hidden

    return gru_forward


@lru_cache(None)
def backward_kernel(plan: Plan) -> Kernel:
    """The kernel for a plan of one output a unit and 3 H rows."""
    H, threads, row, held, rest = plan.units, plan.threads, plan.row, plan.held, plan.rest
    vectors, spare, step_w = plan.vectors, plan.spare, plan.threads * 4
    nothing, hold, multiply, multiply_rest = products(1, held, rest, plan.span)

    @kernel(
        "float32[::1], float32[::1], float32[::1], int64, int64, float32[::1], float32[::1], "
        "int32[::1], int32[::1], int32[::1], int32[::1], int64",
        threads=threads,
        registers=plan.registers,
        shared=plan.shared,
        name=f"gru_backward_{H}",
    )
    def gru_backward(
        gates, dh, dy, dy_row, column, before_h, panel, rows, starts, counts, lasts, reverse
    ):
        """Four sequences through all steps back; see `kernels.gru.gru_backward`.

        gates  float32[N · 4 H]  in: r, z, n, m; out: their gradients before their functions
        dh     float32[B · H]    in: the gradient of the last state; out: of the initial one
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
        r, z, new, m, h, d = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        if there and sequence < count:
            n = first + sequence
            k = n * (4 * H) + unit
            r, z, new, m = gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H]
            h, d = before_h[n * H + unit], dy[rows[n] * dy_row + column + unit]
        for step in range(T):
            n = first + sequence
            active = there and sequence < count
            buffer = vectors + step % 2 * 4 * row
            d_r, d_z, d_m, direct = ZERO, ZERO, ZERO, ZERO
            if active:
                d_n, d_r, d_z, d_m, direct = step_backward(new, r, z, m, h, d + d_hidden)
                k = n * (4 * H) + unit
                gates[k] = d_r
                gates[k + H] = d_z
                gates[k + 2 * H] = d_n
                gates[k + 3 * H] = d_m
            if unit < H:
                to = buffer + lane * row + unit
                shared[to] = d_r
                shared[to + H] = d_z
                shared[to + 2 * H] = d_m
            if step + 1 < T:  # what the next step needs is on its way during the products
                t += way
                first, count = starts[t], counts[t]
                if there and sequence < count:
                    q = first + sequence
                    k = q * (4 * H) + unit
                    r, z, new, m = gates[k], gates[k + H], gates[k + 2 * H], gates[k + 3 * H]
                    h, d = before_h[q * H + unit], dy[rows[q] * dy_row + column + unit]
            cuda.syncthreads()
            sums = multiply(nothing(), weights, shared, buffer + lane * 4, row)
            sums = multiply_rest(sums, shared, thread * 4, step_w, shared, buffer + lane * 4, row)
            total = own(sums[0], sums[1], sums[2], sums[3], lane, shared, spare)
            if active:
                d_hidden = direct + total
        if there:
            dh[sequence * H + unit] = d_hidden

    return gru_backward


def plans(units: int, shared: int) -> tuple[Plan, Plan] | None:
    """How both passes lie on a multiprocessor that gives a block so many bytes of shared memory;
    None where they do not fit. The registers are what the compiler was seen to need."""
    return plans_of(units, GATES, 72, 76, shared)


def variants() -> None:
    """Declare the kernels of some sizes, for tests that compile them."""
    for units in (64, 128, 144):
        found = plans(units, MOST_SHARED)
        assert found is not None
        forward_kernel(found[0])
        backward_kernel(found[1])
