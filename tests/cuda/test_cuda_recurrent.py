"""The recurrent kernels on the device compared with the CPU layers, on every path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq.kernels.cuda.recurrent import grid_persistent, grid_planning, persistent, recurrent
from fastseq.kernels.cuda.recurrent.cells import CELLS
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.target import MOST_SHARED, SIMULATED, blocks_for
from fastseq.nn.recurrent import GRU, LSTM, RNN
from fastseq.nn.recurrent_layer import lay_out
from tests import sampling
from tests.cuda.recurrent_cases import CASES, Case

ONE, IN_SHARED = recurrent.ONE_MULTIPROCESSOR, "weights in shared memory"
PATHS = (ONE, IN_SHARED, recurrent.GRID, recurrent.STEP_BY_STEP)
# compiling takes most of the time: the cases of many units share the paths, see recurrent_cases.py
TESTED = [
    (case, path) for path in PATHS for case in CASES
    if sampling.ALL or case.hidden <= 16 or (case.cell == "lstm") == (path in PATHS[::2])
]  # fmt: skip


def layer_of(case: Case) -> Any:
    kind = {"lstm": LSTM, "gru": GRU}.get(case.cell)
    options: dict[str, Any] = {"bidirectional": case.reverse, "seed": 3, "threads": 1}
    if kind is None:
        nonlinearity = "relu" if case.cell == "rnn_relu" else "tanh"
        return RNN(case.inputs, case.hidden, nonlinearity=nonlinearity, **options)
    return kind(case.inputs, case.hidden, **options)


@pytest.mark.parametrize(("case", "path"), TESTED, ids=str)
def test_forward_and_backward_match_the_cpu_layers(
    case: Case, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(case, path, monkeypatch)


def compare(
    case: Case, path: str, monkeypatch: pytest.MonkeyPatch, precision: str = "float32",
    far: float = 1,
) -> float:  # fmt: skip
    """Outputs, states, gates' gradients and what becomes of them within `far` times what float32
    allows; returns the largest difference of an output."""
    chosen = ONE if path == IN_SHARED else path
    monkeypatch.setattr(recurrent, "path_of", lambda *_: chosen)
    monkeypatch.setattr(grid_persistent, "multiprocessors", lambda: 4)
    if path == IN_SHARED:  # no register is left for weights
        most = persistent.MOST_REGISTERS
        cell = CELLS[case.cell]._replace(registers=(most, most))
        plans = persistent.plans(cell, case.hidden, MOST_SHARED)
        assert plans is not None
        assert plans[0].held == plans[1].held == 0
        monkeypatch.setattr(recurrent, "_plans", lambda cell, units: plans)
    rng = np.random.default_rng(1)
    lengths = np.array(case.lengths)
    B, N, H = len(lengths), int(lengths.sum()), case.hidden
    layer = layer_of(case)
    for value in layer.values.values():
        value[...] = rng.normal(0, 0.5, value.shape)
    states = CELLS[case.cell].states
    D = 2 if case.reverse else 1
    offsets = np.concatenate([[0], lengths.cumsum()])
    x = rng.normal(size=(N, case.inputs)).astype(np.float32)
    initial = tuple(rng.normal(size=(D, B, H)).astype(np.float32) for _ in range(states))
    last = tuple(rng.normal(size=(D, B, H)).astype(np.float32) for _ in range(states))
    dy = rng.normal(size=(N, D * H)).astype(np.float32)
    y, state = layer.forward_ragged(x, offsets, initial if states > 1 else initial[0])
    layer.backward_ragged(dy, tuple(a.copy() for a in last) if states > 1 else last[0].copy())

    # the device runs the last direction alone
    d = D - 1
    suffix = "l0_reverse" if case.reverse else "l0"
    w_ih, w_hh, b_ih, b_hh = (
        layer.values[f"{name}_{suffix}"]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    layout = lay_out(lengths, offsets[:-1], 1, 1)
    gates = np.zeros((N, recurrent.SLOTS[case.cell] * H), np.float32)
    G = recurrent.GATES[case.cell]
    gates[:, : G * H] = x[layout.rows] @ w_ih.T + b_ih + b_hh
    if case.cell == "gru":
        gates[:, 2 * H : 3 * H] -= b_hh[2 * H :]
    on_device = memory.put(gates)
    out = memory.zeros((N, D * H))
    held = [memory.put(part[d][layout.order]) for part in initial]
    before = [memory.empty((N, H)) for _ in range(states)]
    rows = memory.put(layout.rows.astype(np.int32))
    steps = recurrent.steps_of(layout.slices[0].starts, layout.slices[0].counts)
    bias = memory.put(b_hh[2 * H :]) if case.cell == "gru" else None
    weight = memory.put(w_hh)
    recurrent.forward(
        case.cell,
        out,
        d * H,
        held,
        on_device,
        before,
        weight,
        bias,
        rows,
        steps,
        case.reverse,
        precision=precision,
    )
    np.testing.assert_allclose(memory.get(out)[:, d * H :], y[:, d * H :], atol=2e-6 * far)
    finals = state if states > 1 else (state,)
    for mine, expected in zip(held, finals, strict=True):
        np.testing.assert_allclose(memory.get(mine), expected[d][layout.order], atol=2e-6 * far)

    slopes = [memory.put(part[d][layout.order]) for part in last]
    recurrent.backward(
        case.cell, on_device, slopes, memory.put(dy), d * H, before, weight, rows, steps,
        case.reverse, precision,
    )  # fmt: skip
    dstate = layer.dstate if states > 1 else (layer.dstate,)
    for mine, expected in zip(slopes, dstate, strict=True):
        np.testing.assert_allclose(memory.get(mine), expected[d][layout.order], atol=1e-5 * far)
    dz = memory.get(on_device)
    np.testing.assert_allclose(
        dz[:, : G * H].T @ x[layout.rows], layer.grads[f"weight_ih_{suffix}"], atol=2e-5 * far
    )
    hidden = dz[:, : G * H].copy()
    if case.cell == "gru":
        hidden[:, 2 * H :] = dz[:, 3 * H :]
    np.testing.assert_allclose(
        hidden.T @ memory.get(before[0]), layer.grads[f"weight_hh_{suffix}"], atol=2e-5 * far
    )
    return float(np.abs(memory.get(out)[:, d * H :] - y[:, d * H :]).max())


def test_kernel_path_follows_from_sizes_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_persistent, "multiprocessors", lambda: 132)
    for cell, units, batch, path in (
        ("lstm", 128, 64, ONE),
        ("gru", 144, 1024, ONE),
        ("rnn", 232, 64, ONE),
        ("lstm", 129, 64, recurrent.GRID),
        ("gru", 192, 1024, recurrent.GRID),
        ("lstm", 512, 64, recurrent.GRID),
        ("lstm", 768, 16, recurrent.GRID),
        ("lstm", 512, 1024, recurrent.STEP_BY_STEP),
        ("lstm", 4096, 16, recurrent.STEP_BY_STEP),
    ):
        assert recurrent.path_of(cell, units, batch) == path, (cell, units, batch)
    assert recurrent.paths("gru", 64, 64) == [ONE, recurrent.GRID, recurrent.STEP_BY_STEP]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("reverse", [False, True])
def test_grid_plan_of_parts_row_tiles_and_chunks(
    cell: str, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two parts of six units, two row tiles, the first of two chunks of rows."""
    monkeypatch.setattr(grid_persistent, "multiprocessors", lambda: 4)
    gates = recurrent.GATES[cell]
    plans = tuple(grid_planning.Plan(cell, 6, gates, back, 4, 4) for back in (False, True))
    for plan in plans:
        assert plan.parts == 2
        assert plan.tile_rows(9, 4) == 8
    assert (
        gates == 1 or plans[1].depth > grid_planning.CHUNK or not SIMULATED
    )  # its products take several chunks of their depth
    monkeypatch.setattr(grid_persistent, "plans", lambda *sizes: plans)
    case = Case(cell, 2, 6, (2, 1, 3, 2, 2, 1, 3, 2, 1), reverse)
    compare(case, recurrent.GRID, monkeypatch)


@pytest.mark.parametrize(
    ("cell", "precision", "rows"),
    [("lstm", "bfloat16", 8), ("gru", "tf32", 16), ("rnn", "bfloat16", 16), ("lstm", "tf32", 8)],
)
def test_tensor_cores(
    cell: str, precision: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two parts, two row tiles, rounded factors."""
    monkeypatch.setattr(grid_persistent, "multiprocessors", lambda: 4)
    gates = recurrent.GATES[cell]
    plans = tuple(
        grid_planning.TensorPlan(cell, 10, gates, back, 8, rows, precision)
        for back in (False, True)
    )
    assert plans[1].words > grid_planning.WORDS or gates == 1 or not SIMULATED
    for plan in plans:
        assert plan.parts == blocks_for(9, plan.tile_rows(9, 4)) == 2
    monkeypatch.setattr(grid_persistent, "plans", lambda *sizes: plans)
    case = Case(cell, 2, 10, (2, 1, 2, 2, 2, 1, 2, 2, 1), rows == 16)
    far = {"bfloat16": 1e4, "tf32": 1e3}[precision]  # 2e-2 and 2e-3 of an output
    found = compare(case, recurrent.GRID, monkeypatch, precision, far)
    assert found > {"bfloat16": 1e-4, "tf32": 1e-5}[precision]  # they were rounded


def test_inference_saves_nothing_for_backward() -> None:
    gates = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    on_device, before = memory.put(gates), memory.zeros((3, 2))
    weight, rows = memory.zeros((8, 2)), memory.put(np.arange(3, dtype=np.int32))
    steps = recurrent.steps_of(np.array([0, 2]), np.array([2, 1]))
    out, state = memory.zeros((3, 2)), [memory.zeros((2, 2)), memory.zeros((2, 2))]
    recurrent.forward(
        "lstm", out, 0, state, on_device, (before, before), weight, None, rows, steps, keep=False
    )
    assert (memory.get(on_device) == gates).all()
    assert (memory.get(before) == 0).all()
    assert (memory.get(out) != 0).all()
