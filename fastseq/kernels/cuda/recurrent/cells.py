"""Recurrent cells on the device: what a thread computes for a unit of a sequence at a step.

Every path (persistent.py, grid_persistent.py, recurrent.py) makes its kernels from a `Cell`. A row
of gates has `slots` values per unit, in PyTorch's order: LSTM i, f, g, o; GRU r, z, n and
m = U_n h' + b, which the reset gate scales; RNN h itself. The formulas of a step are those of the
CPU (kernels/core/formulas.py); kernels/nn/recurrent.py describes the packed order of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastseq.kernels.core import formulas
from fastseq.kernels.cuda.runtime.instructions import fma, sigmoid, tanh
from fastseq.kernels.cuda.runtime.target import device_function

ZERO, ONE = np.float32(0), np.float32(1)
NO_GRADIENT = np.float32(-0.0)  # x + -0.0 is x for every x, so the addition is optimised away


@lru_cache(None)
def tuple_over(count: int, element: Callable[..., Any]) -> Callable[..., Any]:
    """A device function (a, b, c) -> (element(a, b, c, 0), …, element(a, b, c, count - 1)), for a
    count of 1, 3 or 4."""
    if count == 1:

        @device_function
        def elements(a, b, c):
            return (element(a, b, c, 0),)

    elif count == 3:

        @device_function
        def elements(a, b, c):
            return element(a, b, c, 0), element(a, b, c, 1), element(a, b, c, 2)

    else:

        @device_function
        def elements(a, b, c):
            return (
                element(a, b, c, 0), element(a, b, c, 1), element(a, b, c, 2), element(a, b, c, 3),
            )  # fmt: skip

    return elements


@device_function
def _element(array, k, step, i):
    return array[k + i * step]


@device_function
def store_values(array, k, step, values):
    """Write a tuple of values, `step` elements apart."""
    for i in range(len(values)):
        array[k + i * step] = values[i]


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


class Cell(NamedTuple):
    """A cell as device functions; k is the index of a unit's first slot in a flat array of gates,
    i and `at` are the indices of a unit in before_h and h.

    name       of its kernels
    gates      outputs of the recurrent product per unit
    slots      values per unit in a row of gates
    states     arrays of a state: 1 for h, 2 for h and c
    registers  of a thread besides weights and sums, forward and backward, as the compiler needs
    spill      bytes that the persistent backward kernel may spill on sm_80
    read_bias  (bias, unit) -> b_hn of a GRU, zero for others
    forward    (inputs, products, h', c', bias, relu) -> (slots, h, c)
    save       (before_h, before_c, i, h', c'): write what `backward` needs
    load_saved (before_h, before_c, i) -> c' of an LSTM, h' of a GRU, zero for others
    backward   (slots, saved, dh, dc, relu) -> (gradients of the slots, of the products' outputs, of
               h' besides those products, of c')
    """

    name: str
    gates: int
    slots: int
    states: int
    registers: tuple[int, int]
    spill: int
    read_bias: Any
    forward: Any
    save: Any
    load_saved: Any
    backward: Any

    @property
    def load(self) -> Any:
        """(array, k, step) -> tuple of `gates` values, `step` elements apart"""
        return tuple_over(self.gates, _element)

    @property
    def load_slots(self) -> Any:
        """(array, k, step) -> tuple of `slots` values"""
        return tuple_over(self.slots, _element)

    @property
    def read_c(self) -> Any:
        """(c, at) -> c', zero without c"""
        return _read if self.states == 2 else _read_zero

    @property
    def write_c(self) -> Any:
        """(c, at, value)"""
        return _write if self.states == 2 else _write_nothing


@device_function
def _save_h(before_h, before_c, i, h, c):
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
def _lstm_save(before_h, before_c, i, h, c):
    before_h[i] = h
    before_c[i] = c


@device_function
def _lstm_saved(before_h, before_c, i):
    return before_c[i]


@device_function
def _lstm_backward(slots, c, dh, dc, relu):
    d_i, d_f, d_g, d_o, d_cell = _lstm_backward_step(
        slots[0], slots[1], slots[2], slots[3], c, dh, dc
    )
    return (d_i, d_f, d_g, d_o), (d_i, d_f, d_g, d_o), NO_GRADIENT, d_cell


LSTM = Cell(
    "lstm", 4, 4, 2, (64, 96), 0, _read_zero, _lstm_forward, _lstm_save, _lstm_saved, _lstm_backward
)

# ---- GRU

_gru_forward_step, _gru_backward_step = formulas.gru(device_function, fma, sigmoid, tanh)


@device_function
def _gru_forward(x, p, h, c, bias, relu):
    m = bias + p[2]
    n, r, z, new_h = _gru_forward_step(x[2], x[0] + p[0], x[1] + p[1], m, h)
    return (r, z, n, m), new_h, c


@device_function
def _gru_saved(before_h, before_c, i):
    return before_h[i]


@device_function
def _gru_backward(slots, h, dh, dc, relu):
    d_n, d_r, d_z, d_m, direct = _gru_backward_step(slots[2], slots[0], slots[1], slots[3], h, dh)
    return (d_r, d_z, d_n, d_m), (d_r, d_z, d_m), direct, dc


GRU = Cell("gru", 3, 4, 1, (72, 76), 0, _read, _gru_forward, _save_h, _gru_saved, _gru_backward)

# ---- RNN, h = tanh(x + U h') or max(0, x + U h')


@device_function
def _rnn_forward(x, p, h, c, bias, relu):
    z = x[0] + p[0]
    new_h = (ZERO if z < ZERO else z) if relu else tanh(z)  # a NaN stays one
    return (new_h,), new_h, c


@device_function
def _rnn_saved(before_h, before_c, i):
    return ZERO


@device_function
def _rnn_backward(slots, saved, dh, dc, relu):
    h = slots[0]
    d = dh * ((ONE if h > ZERO else ZERO) if relu else ONE - h * h)
    return (d,), (d,), NO_GRADIENT, dc


RNN = Cell(
    "rnn", 1, 1, 1, (68, 68), 16, _read_zero, _rnn_forward, _save_h, _rnn_saved, _rnn_backward
)

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN, "rnn_relu": RNN}
