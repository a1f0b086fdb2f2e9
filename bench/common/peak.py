"""The machine's peak rate of fused multiply-adds, and the share of it that the time loops reach.

For `python -m bench.recurrent --fma-peak`. The peak is that of a loop with nothing else: PARALLEL
sums in registers, enough to keep every unit busy. The time loop is the recurrent product and the
activations of all steps, by the cells' own kernels on inputs whose products are computed before the
clock starts; its work is counted as the multiply-adds of the recurrent product.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.common.harness import quickest
from bench.common.loops import PARALLEL, multiply_and_add
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.gates import pack_backward, pack_forward
from fastseq.kernels.nn.recurrent import BEFORE
from fastseq.nn.recurrent import Recurrent
from fastseq.nn.recurrent_layer import (
    CHUNK,
    NOTHING,
    ZEROS,
    RecurrentLayer,
    lay_out,
    pack_bias,
    project_rows,
)
from fastseq.threads import Team
from fastseq.types import Float32

TIMES = 2_000_000
PASSES = 3


def peak(threads: int, rounds: int, sample: float) -> float:
    """GFLOP/s of `threads` threads (a multiply-add is two)."""
    team = Team(threads)
    outs = [np.zeros(LANES, np.float32) for _ in range(threads)]
    work = lambda i: multiply_and_add(outs[i], TIMES)  # noqa: E731
    seconds = quickest(lambda: team.run(work, threads), rounds, sample)
    return threads * 2 * PARALLEL * LANES * TIMES / seconds / 1e9


def time_loops(layer: Recurrent, steps: int, batch: int, rounds: int = 9) -> dict[str, float]:
    """GFLOP/s of the time loops of a layer (one direction), {"forward", "inference", "backward"}.

    The fastest of many runs, like the peak. The threads run in parallel; counted is the time of the
    slowest one in its loop, without starting it (some 35 µs) and without restoring the arrays that
    a pass overwrites.
    """
    recurrent_layer: RecurrentLayer = layer._layers[0]
    cell, team, H, W = recurrent_layer.cell, layer.team, layer.hidden_size, recurrent_layer.width
    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps * batch, layer.input_size), dtype=np.float32)
    layout = lay_out(np.full(batch, steps), np.arange(batch), batch, team.threads)
    weights = layer.parameters()
    input_panels = aligned_zeros(cell.gates * W * layer.input_size)
    hidden_panels, back = aligned_zeros(cell.gates * W * H), aligned_zeros(cell.gates * W * W)
    bias = aligned_zeros(cell.slots * W)
    pack_forward(input_panels, weights["weight_ih_l0"], cell.input_gates, H, cell.span)
    pack_forward(hidden_panels, weights["weight_hh_l0"], cell.hidden_gates, H, cell.span)
    pack_bias(cell, bias, weights["bias_ih_l0"], weights["bias_hh_l0"], H)
    pack_backward(back, weights["weight_hh_l0"], cell.hidden_gates, H)
    products = aligned_zeros(len(x) * recurrent_layer.row).reshape(-1, recurrent_layer.row)
    project_rows(cell, products, x, input_panels, bias, 0, len(x))
    gates = aligned_zeros(products.size).reshape(products.shape)
    before = tuple(aligned_zeros(len(x) * W).reshape(-1, W) for _ in range(cell.states))
    y = np.empty((len(x), H), np.float32)
    dy = rng.standard_normal(y.shape, dtype=np.float32)
    state = tuple(aligned_zeros(batch * W).reshape(batch, W) for _ in range(cell.states))
    passing = [
        tuple(np.empty((piece.widest, W), np.float32) for _ in range(cell.states))
        for piece in layout.slices
    ]

    def forward(keep: bool) -> Callable[[int], None]:
        def step(s: int) -> None:
            piece = layout.slices[s]
            own = [array[piece.first : piece.last] for array in state]
            kept = before if keep else passing[s]
            cell.forward(
                y, 0, own[0], own[-1], gates, kept[0], kept[-1], x, input_panels, hidden_panels,
                bias, layout.rows, piece.starts, piece.counts, False, H, keep, BEFORE, gates,
                NOTHING, max(CHUNK // recurrent_layer.row, piece.widest),
            )  # fmt: skip

        return step

    def backward(s: int) -> None:
        piece = layout.slices[s]
        own = [array[piece.first : piece.last] for array in state]
        cell.backward(
            gates, own[0], own[-1], dy, 0, before[-1], back, ZEROS, layout.rows, piece.starts,
            piece.counts, False, H,
        )  # fmt: skip

    def measured(work: Callable[[int], None], rows: Float32) -> float:
        found = []
        spent = [0.0] * len(layout.slices)

        def timed(s: int) -> None:
            start = time.perf_counter()
            work(s)
            spent[s] = time.perf_counter() - start

        for _ in range(3 + 4 * rounds):
            gates[...] = rows
            for array in state:
                array.fill(0)
            team.run(timed, len(layout.slices))
            found.append(max(spent))
        flops = 2 * cell.gates * H * H * steps * batch
        return flops / min(found[3:]) / 1e9

    found = {"inference": measured(forward(False), products)}
    found["forward"] = measured(forward(True), products)
    activated = gates.copy()
    found["backward"] = measured(backward, activated)
    return found


Case = tuple[Recurrent, int, int]


def report(layers: dict[str, Case], threads: int, rounds: int, sample: float) -> dict[str, Any]:
    """The peaks of one and of `threads` threads, and each case's rates and shares of the latter:
    the best of PASSES over all cases, so that a busy second does not lower them.

    layers : {name: (layer, steps, batch)}
    """
    peaks = dict.fromkeys(sorted({1, threads}), 0.0)
    rates: dict[str, dict[str, float]] = {name: {} for name in layers}
    for _ in range(PASSES):
        for name, case in layers.items():
            peaks = {
                count: max(found, peak(count, rounds, sample)) for count, found in peaks.items()
            }
            for part, rate in time_loops(*case, rounds).items():
                rates[name][part] = max(rate, rates[name].get(part, 0.0))
    shares = {
        name: {part: rate / peaks[threads] for part, rate in found.items()}
        for name, found in rates.items()
    }
    return {"peak_gflops": peaks, "gflops": rates, "share_of_peak": shares}
