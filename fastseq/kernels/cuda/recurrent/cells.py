"""Recurrent cells on the device: what a thread computes for a unit of a sequence at a step.

Every path (persistent.py, grid_persistent.py, steps.py) makes its kernels from a `Cell`. A row of
gates has `slots` values per unit, in PyTorch's order: LSTM i, f, g, o; GRU r, z, n and
m = U_n h' + b, which the reset gate scales; RNN h itself. The formulas of a step are those of the
CPU (kernels/core/formulas.py); kernels/nn/recurrent.py describes the packed order of rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastseq.kernels.core import formulas
from fastseq.kernels.cuda.runtime.scalars import fma, sigmoid, tanh
from fastseq.kernels.cuda.runtime.target import device_function

ZERO, ONE = np.float32(0), np.float32(1)
NO_GRADIENT = np.float32(-0.0)  # x + -0.0 is x for every x, so the addition is optimised away


class Cell(NamedTuple):
    """A cell as device functions; k is the place of a unit's first slot in a flat array of gates,
    i and `at` are those of a unit in before_h and h.

    name        of its kernels
    gates       outputs of the recurrent product per unit
    slots       values per unit in a row of gates
    states      arrays of a state: 1 for h, 2 for h and c
    registers   of a thread besides weights and sums, forward and backward, as the compiler needs
    spill       bytes that the persistent backward kernel may spill on sm_80
    load        (array, k, step) -> tuple of `gates` values
    load_slots  (array, k, step) -> tuple of `slots` values
    store       (array, k, step, values): writes a tuple of `gates` values
    store_slots (array, k, step, values): writes a tuple of `slots` values
    read_c      (c, at) -> c', zero without c
    write_c     (c, at, value)
    read_bias   (bias, unit) -> b_hn of a GRU, zero for others
    forward     (inputs, products, h', c', bias, relu) -> (slots, h, c)
    keep        (before_h, before_c, i, h', c'): saves what `backward` needs
    kept        (before_h, before_c, i) -> c' of an LSTM, h' of a GRU, zero for others
    backward    (slots, kept, dh, dc, relu) -> (gradients of the slots, of the products' outputs, of
                h' besides those products, of c')
    """

    name: str
    gates: int
    slots: int
    states: int
    registers: tuple[int, int]
    spill: int
    load: Any
    load_slots: Any
    store: Any
    store_slots: Any
    read_c: Any
    write_c: Any
    read_bias: Any
    forward: Any
    keep: Any
    kept: Any
    backward: Any

    @property
    def no_inputs(self) -> tuple[np.float32, ...]:
        """Zeros of what `load` gives."""
        return (ZERO,) * self.gates

    @property
    def no_slots(self) -> tuple[np.float32, ...]:
        """Zeros of what `load_slots` gives."""
        return (ZERO,) * self.slots


# ---- tuples of values, `step` elements apart


@device_function
def _load1(array, k, step):
    return (array[k],)


@device_function
def _load3(array, k, step):
    return array[k], array[k + step], array[k + 2 * step]


@device_function
def _load4(array, k, step):
    return array[k], array[k + step], array[k + 2 * step], array[k + 3 * step]


@device_function
def _store1(array, k, step, values):
    array[k] = values[0]


@device_function
def _store3(array, k, step, values):
    array[k] = values[0]
    array[k + step] = values[1]
    array[k + 2 * step] = values[2]


@device_function
def _store4(array, k, step, values):
    array[k] = values[0]
    array[k + step] = values[1]
    array[k + 2 * step] = values[2]
    array[k + 3 * step] = values[3]


# ---- what only some cells have


@device_function
def _read(array, at):
    return array[at]


@device_function
def _write(array, at, value):
    array[at] = value


@device_function
def _read_zero(array, at):
    return ZERO


@device_function
def _write_nothing(array, at, value):
    pass


@device_function
def _keep_h(before_h, before_c, i, h, c):
    before_h[i] = h


# ---- LSTM

_lstm_forward_step, _lstm_backward_step = formulas.lstm(device_function, fma, sigmoid, tanh)


@device_function
def _lstm_forward(x, p, h, c, bias, relu):
    i, f, g, o, new_c, new_h = _lstm_forward_step(
        x[0] + p[0], x[1] + p[1], x[2] + p[2], x[3] + p[3], c
    )
    return (i, f, g, o), new_h, new_c


@device_function
def _lstm_keep(before_h, before_c, i, h, c):
    before_h[i] = h
    before_c[i] = c


@device_function
def _lstm_kept(before_h, before_c, i):
    return before_c[i]


@device_function
def _lstm_backward(slots, c, dh, dc, relu):
    d_i, d_f, d_g, d_o, d_cell = _lstm_backward_step(
        slots[0], slots[1], slots[2], slots[3], c, dh, dc
    )
    return (d_i, d_f, d_g, d_o), (d_i, d_f, d_g, d_o), NO_GRADIENT, d_cell


LSTM = Cell(
    "lstm", 4, 4, 2, (64, 96), 0, _load4, _load4, _store4, _store4, _read, _write, _read_zero,
    _lstm_forward, _lstm_keep, _lstm_kept, _lstm_backward,
)  # fmt: skip

# ---- GRU

_gru_forward_step, _gru_backward_step = formulas.gru(device_function, fma, sigmoid, tanh)


@device_function
def _gru_forward(x, p, h, c, bias, relu):
    m = bias + p[2]
    n, r, z, new_h = _gru_forward_step(x[2], x[0] + p[0], x[1] + p[1], m, h)
    return (r, z, n, m), new_h, c


@device_function
def _gru_kept(before_h, before_c, i):
    return before_h[i]


@device_function
def _gru_backward(slots, h, dh, dc, relu):
    d_n, d_r, d_z, d_m, direct = _gru_backward_step(slots[2], slots[0], slots[1], slots[3], h, dh)
    return (d_r, d_z, d_n, d_m), (d_r, d_z, d_m), direct, dc


GRU = Cell(
    "gru", 3, 4, 1, (72, 76), 0, _load3, _load4, _store3, _store4, _read_zero, _write_nothing,
    _read, _gru_forward, _keep_h, _gru_kept, _gru_backward,
)  # fmt: skip

# ---- RNN, h = tanh(x + U h') or max(0, x + U h')


@device_function
def _rnn_forward(x, p, h, c, bias, relu):
    z = x[0] + p[0]
    new_h = (ZERO if z < ZERO else z) if relu else tanh(z)  # a NaN stays one
    return (new_h,), new_h, c


@device_function
def _rnn_kept(before_h, before_c, i):
    return ZERO


@device_function
def _rnn_backward(slots, kept, dh, dc, relu):
    h = slots[0]
    d = dh * ((ONE if h > ZERO else ZERO) if relu else ONE - h * h)
    return (d,), (d,), NO_GRADIENT, dc


RNN = Cell(
    "rnn", 1, 1, 1, (68, 68), 16, _load1, _load1, _store1, _store1, _read_zero, _write_nothing,
    _read_zero, _rnn_forward, _keep_h, _rnn_kept, _rnn_backward,
)  # fmt: skip

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN, "rnn_relu": RNN}
