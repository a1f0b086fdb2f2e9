"""How a recurrent cell's weights and gates lie in memory, and the packing of weights.

A unit's gates lie side by side, so that a register tile ends with all of them: a *record* is
`slots` vectors of LANES units, one for each gate, and a row of gates is one record for each
LANES units, zeros standing for units beyond the last. Column (p * slots + s) * LANES + u of a row
is slot s of unit p * LANES + u.

weight [G * H, K] is as PyTorch keeps it; `gates` int64[S] says which of its G blocks each of the
S slots from `first` on holds.
"""

from __future__ import annotations

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.gemm import WIDTH, copy_block, panel_vectors, transpose_block


@jit
def pack_forward(panels, weight, gates, units):
    """For each LANES units a panel [K, S * LANES]: what turns an input into gates.

    panels  float32[P * K * S * LANES], P = units in whole vectors
    """
    K = weight.shape[1]
    S = len(gates)
    flat = weight.reshape(weight.size)
    at = 0
    for unit in range(0, units, LANES):
        there = min(LANES, units - unit)
        if there < LANES:
            panels[at : at + K * S * LANES] = 0.0
        for s in range(S):
            row = gates[s] * units + unit
            transpose_block(panels, at + s * LANES, S * LANES, flat, row * K, K, there, K)
        at += K * S * LANES


@jit
def pack_backward(panels, weight, gates, units):
    """The same weight for the way back: columns are the K inputs, in panels of WIDTH; rows are
    the slots in the order of a row of gates.

    panels  float32[P * S * LANES * K in whole vectors]
    """
    K = weight.shape[1]
    S = len(gates)
    flat = weight.reshape(weight.size)
    at = 0
    for column in range(0, K, WIDTH):
        width = panel_vectors(column, K) * LANES
        columns = min(width, K - column)
        for unit in range(0, units, LANES):
            there = min(LANES, units - unit)
            for s in range(S):
                row = gates[s] * units + unit
                copy_block(panels, at, width, flat, row * K + column, K, there, columns, width)
                for i in range(at + there * width, at + LANES * width):
                    panels[i] = 0.0
                at += LANES * width
