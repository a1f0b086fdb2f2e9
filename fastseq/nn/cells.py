"""The three recurrent cells as the layers see them: sizes, packed weights, kernels.

A cell knows how its gates are stored (kernels/nn/gates.py) and nothing of threads or memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.gates import pack_forward
from fastseq.kernels.nn.gru import gru_backward, gru_forward
from fastseq.kernels.nn.inputs import project_records, project_units
from fastseq.kernels.nn.lstm import lstm_backward, lstm_forward
from fastseq.kernels.nn.rnn import rnn_backward, rnn_forward
from fastseq.kernels.simd import gemm
from fastseq.nn.sequences import Slice
from fastseq.types import Float32, Int64

State = tuple[Float32, ...]  # h, or h and c

ZEROS: Float32 = np.zeros(gemm.WIDTH, np.float32)


class Cell(ABC):
    """What differs between the recurrences.

    Attributes
    ----------
    gates : blocks of H rows in a weight
    slots : vectors of a record of gates
    states : arrays of a state: h, or h and c
    input_gates, hidden_gates : int64[S]
        Which block of weight_ih (weight_hh) each slot from 0 (`hidden_slot`) on belongs to.
    """

    gates: int
    slots: int
    states: int = 1
    input_gates: Int64
    hidden_gates: Int64
    hidden_slot: int = 0

    def pack(self, panels: Float32, weight: Float32, gates: Int64, units: int) -> None:
        """A weight as `forward` takes it."""
        pack_forward(panels, weight, gates, units)

    @abstractmethod
    def pack_bias(self, packed: Float32, bias_ih: Float32, bias_hh: Float32, units: int) -> None:
        """The biases as `forward` takes them; `packed` float32[slots · W] comes as zeros."""

    def project(
        self, gates: Float32, x: Float32, panels: Float32, bias: Float32, first: int, last: int
    ) -> None:
        """The input's products and the biases for packed rows [first, last), before `forward`."""
        project_records(gates, x, panels, self.gates, self.slots, bias, first, last)

    @abstractmethod
    def forward(
        self, y: Float32, column: int, state: State, gates: Float32, before: State, x: Float32,
        input_panels: Float32, hidden_panels: Float32, bias: Float32, rows: Int64, piece: Slice,
        reverse: bool, units: int, keep: bool, source: int, table: Float32, picks: Int64,
        chunk: int,
    ) -> None:  # fmt: skip
        """One direction over one slice of the batch."""

    @abstractmethod
    def backward(
        self, gates: Float32, dstate: State, dy: Float32, column: int, before: State,
        panels: Float32, rows: Int64, piece: Slice, reverse: bool, units: int,
    ) -> None:  # fmt: skip
        """The same way back; `gates` become the gradients of their inputs."""


class LSTMCell(Cell):
    """Records of i, f, g, o."""

    gates = 4
    slots = 4
    states = 2
    input_gates = hidden_gates = np.arange(4)

    def pack_bias(self, packed: Float32, bias_ih: Float32, bias_hh: Float32, units: int) -> None:
        _into_records(packed, bias_ih + bias_hh, range(4), range(4), units, self.slots)

    def forward(  # type: ignore[no-untyped-def]
        self, y, column, state, gates, before, x, input_panels, hidden_panels, bias, rows, piece,
        reverse, units, keep, source, table, picks, chunk,
    ):  # fmt: skip
        h, c = state
        before_h, before_c = before
        lstm_forward(
            y, column, h, c, gates, before_h, before_c, x, input_panels, hidden_panels, bias, rows,
            piece.starts, piece.counts, reverse, units, keep, source, table, picks, chunk,
        )  # fmt: skip

    def backward(  # type: ignore[no-untyped-def]
        self, gates, dstate, dy, column, before, panels, rows, piece, reverse, units
    ):
        dh, dc = dstate
        lstm_backward(
            gates, dh, dc, dy, column, before[1], panels, ZEROS, rows, piece.starts, piece.counts,
            reverse, units,
        )  # fmt: skip


class GRUCell(Cell):
    """Records of n, r, z, and U_n h' + b (see kernels/nn/gru.py)."""

    gates = 3
    slots = 4
    input_gates = np.array([2, 0, 1])
    hidden_gates = np.array([0, 1, 2])
    hidden_slot = 1

    def pack_bias(self, packed: Float32, bias_ih: Float32, bias_hh: Float32, units: int) -> None:
        _into_records(packed, bias_ih, (0,), (2,), units, self.slots)
        _into_records(packed, bias_ih + bias_hh, (1, 2), (0, 1), units, self.slots)
        _into_records(packed, bias_hh, (3,), (2,), units, self.slots)

    def forward(  # type: ignore[no-untyped-def]
        self, y, column, state, gates, before, x, input_panels, hidden_panels, bias, rows, piece,
        reverse, units, keep, source, table, picks, chunk,
    ):  # fmt: skip
        gru_forward(
            y, column, state[0], gates, before[0], x, input_panels, hidden_panels, bias, rows,
            piece.starts, piece.counts, reverse, units, keep, source, table, picks, chunk,
        )  # fmt: skip

    def backward(  # type: ignore[no-untyped-def]
        self, gates, dstate, dy, column, before, panels, rows, piece, reverse, units
    ):
        gru_backward(
            gates, dstate[0], dy, column, before[0], panels, rows, piece.starts, piece.counts,
            reverse, units,
        )  # fmt: skip


class RNNCell(Cell):
    """One gate: a row of gates is the units themselves."""

    gates = 1
    slots = 1
    input_gates = hidden_gates = np.zeros(1, np.int64)

    def __init__(self, relu: bool) -> None:
        self.relu = relu

    def pack(self, panels: Float32, weight: Float32, gates: Int64, units: int) -> None:
        gemm.pack_transposed(panels, weight, 0, units)

    def pack_bias(self, packed: Float32, bias_ih: Float32, bias_hh: Float32, units: int) -> None:
        packed[:units] = bias_ih + bias_hh

    def project(
        self, gates: Float32, x: Float32, panels: Float32, bias: Float32, first: int, last: int
    ) -> None:
        project_units(gates, x, panels, bias, first, last)

    def forward(  # type: ignore[no-untyped-def]
        self, y, column, state, gates, before, x, input_panels, hidden_panels, bias, rows, piece,
        reverse, units, keep, source, table, picks, chunk,
    ):  # fmt: skip
        rnn_forward(
            y, column, state[0], gates, before[0], x, input_panels, hidden_panels, bias, rows,
            piece.starts, piece.counts, reverse, units, keep, source, table, picks, chunk,
            self.relu,
        )  # fmt: skip

    def backward(  # type: ignore[no-untyped-def]
        self, gates, dstate, dy, column, before, panels, rows, piece, reverse, units
    ):
        rnn_backward(
            gates, dstate[0], dy, column, panels, ZEROS, rows, piece.starts, piece.counts, reverse,
            units, self.relu,
        )  # fmt: skip


def _into_records(
    packed: Float32, values: Float32, slots: Iterable[int], blocks: Iterable[int], units: int,
    record: int,
) -> None:  # fmt: skip
    """Block b of `values` [G · H] into slot s of the records, for each s, b."""
    records = packed.reshape(-1, record, LANES)
    for slot, block in zip(slots, blocks, strict=True):
        whole = np.zeros(len(records) * LANES, np.float32)
        whole[:units] = values[block * units : (block + 1) * units]
        records[:, slot] = whole.reshape(-1, LANES)
