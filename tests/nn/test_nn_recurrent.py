"""Recurrent layers: the twin against central differences, the layers against the twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.nn.recurrent import CELLS
from fastseq.kernels.simd.gemm import HEIGHT
from tests.naive import recurrent as naive
from tests.naive.differences import central, relative_error
from tests.nn.recurrent_cases import KINDS, Case, assert_as_twin, errors, parts

LENGTHS = [12, 3, 12, 7, 1, 9, 12, 5, 2, 11, 4, 12, 6, 8, 10, 1, 12]
SHAPES: dict[str, dict[str, Any]] = {
    "one of everything": {"steps": 1, "batch": 1, "inputs": 1, "units": 1},
    "one step": {"steps": 1, "batch": 5, "inputs": 3, "units": 7},
    "one row": {"steps": 9, "batch": 1, "inputs": 5, "units": 7},
    "one unit": {"batch": 4, "inputs": 2, "units": 1, "lengths": [2, 5, 1, 5]},
    "seven units": {"batch": 13, "inputs": 7, "units": 7, "lengths": [1, 2, 3, 4] + [5] * 9},
    "a vector more": {"batch": 7, "inputs": 33, "units": 65, "lengths": [5, 1, 3, 5, 2, 4, 5]},
    "whole vectors": {"steps": 4, "batch": 6, "inputs": 64, "units": 64},
}


# ---- the twin --------------------------------------------------------------------------------


@pytest.mark.sample(6)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("layers", "bidirectional", "masked"), [(1, False, False), (2, True, False), (2, True, True)]
)
def test_naive_gradients_match_finite_differences(
    kind: str, layers: int, bidirectional: bool, masked: bool
) -> None:
    case = Case(kind, 4, 3, 2, 3, layers, bidirectional, lengths=[2, 4, 1], seed=layers)
    rng = np.random.default_rng(5)
    masks = {}
    if masked:
        width = 3 * (1 + bidirectional)
        masks = {
            "input_l1": 2.0 * rng.integers(0, 2, (4, 3, width)),
            **{
                name: 2.0 * rng.integers(0, 2, value.shape)
                for name, value in case.parameters.items()
                if name.startswith("weight_hh")
            },
        }
    wide = {name: getattr(case, name).astype(np.float64) for name in ("x", "h", "c")}
    slopes = [array.astype(np.float64) for array in (case.dy, case.dh, case.dc)]

    def run() -> naive.Pass:
        return naive.forward(
            kind, case.parameters, wide["x"], case.counts, wide["h"], wide["c"], layers=layers,
            bidirectional=bidirectional, masks=masks,
        )  # fmt: skip

    def loss() -> float:
        found = run()
        parts = zip((found.y, found.h, found.c), slopes, strict=True)
        return float(sum((value * slope).sum() for value, slope in parts))

    gradients = naive.backward(run(), *slopes)
    assert gradients.keys() == case.parameters.keys() | wide.keys()
    for name, value in {**case.parameters, **wide}.items():
        assert relative_error(gradients[name], central(loss, value)) < 1e-6, name


@pytest.mark.parametrize("kind", KINDS)
def test_naive_batch_equals_its_sequences(kind: str) -> None:
    """What masks are for, said without masks."""
    case = Case(kind, 5, 4, 3, 4, 2, True, lengths=[5, 2, 1, 4])
    whole = case.twin()
    for b, count in enumerate(case.counts):
        alone = naive.forward(
            kind, case.parameters, case.x[:count, b : b + 1].astype(np.float64),
            np.array([count]), case.h[:, b : b + 1], case.c[:, b : b + 1], layers=2,
            bidirectional=True,
        )  # fmt: skip
        np.testing.assert_allclose(whole.y[:count, b], alone.y[:, 0], rtol=1e-12)
        np.testing.assert_allclose(whole.h[:, b], alone.h[:, 0], rtol=1e-12)
        np.testing.assert_allclose(whole.c[:, b], alone.c[:, 0], rtol=1e-12)
        assert not whole.y[count:, b].any()


# ---- the layers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("layers", "bidirectional"), [(1, False), (1, True), (2, False), (2, True)]
)
def test_layers_match_the_naive_twin(
    kind: str, shape: str, layers: int, bidirectional: bool
) -> None:
    assert_as_twin(Case(kind, layers=layers, bidirectional=bidirectional, **SHAPES[shape]))


@pytest.mark.parametrize("kind", KINDS)
def test_three_layers_and_a_batch_beyond_the_blocks_of_a_product(kind: str) -> None:
    """More rows than are packed at a time, more columns than a panel, chunks of few steps."""
    lengths = np.random.default_rng(1).integers(1, 21, 45).tolist()
    assert sum(lengths) > HEIGHT
    assert_as_twin(Case(kind, 20, 45, 70, 130, 3, True, lengths, threads=3))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_shapes_match_the_naive_twin(data: st.DataObject) -> None:
    def number(most: int) -> int:
        return data.draw(st.integers(1, most))

    steps, batch = number(9), number(20)
    lengths = st.lists(st.integers(1, steps), min_size=batch, max_size=batch)
    case = Case(
        data.draw(st.sampled_from(KINDS)), steps, batch, number(40), number(40), number(2),
        data.draw(st.booleans()), data.draw(st.none() | lengths), number(99), number(3),
    )  # fmt: skip
    assert_as_twin(case, key=data.draw(st.none() | st.just(0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [3, 6, 1, 6, 2]])
def test_ragged_and_padded_batches_have_the_same_bits(kind: str, lengths: list[int] | None) -> None:
    """But for sums over the batch, which are taken in the caller's order."""
    case = Case(kind, 6, 5, 9, 20, 2, True, lengths)
    padded, ragged = case.found(), case.found(key=0)
    for name, value in padded.items():
        if name in case.parameters:
            assert relative_error(ragged[name], value) < 1e-5, name
        else:
            np.testing.assert_array_equal(ragged[name], value, name)


@pytest.mark.parametrize("kind", KINDS)
def test_without_training_the_outputs_are_the_same(kind: str) -> None:
    case = Case(kind, 7, 6, 5, 33, 2, True, lengths=[7, 3, 1, 7, 5, 2])
    layer = case.layer()
    state = case.state(case.h, case.c)
    kept, last = layer.forward(case.x, case.counts, state)
    passing, last_passing = layer.forward(case.x, case.counts, state, training=False)
    np.testing.assert_array_equal(kept, passing)
    np.testing.assert_array_equal(last, last_passing)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_missing_state_is_a_zero_state(kind: str, bidirectional: bool) -> None:
    case = Case(kind, layers=2, bidirectional=bidirectional, lengths=[5, 2, 4])
    case.h[...] = case.c[...] = case.dh[...] = case.dc[...] = 0
    layer = case.layer()
    expected = case.found(layer)
    layer.zero_gradients()
    y, _ = layer.forward(case.x, case.counts)
    dx = layer.backward(case.dy)
    np.testing.assert_array_equal(y, expected["y"])
    np.testing.assert_array_equal(dx, expected["dx"])
    for name, slope in layer.gradients().items():
        np.testing.assert_array_equal(slope, expected[name])


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_gradients_accumulate(kind: str) -> None:
    case = Case(kind, layers=2, bidirectional=True, lengths=[5, 2, 4])
    layer = case.layer()
    once = {name: slope.copy() for name, slope in case.found(layer).items()}
    for slope in layer.gradients().values():
        slope.fill(0.5)
    layer.forward(case.x, case.counts, case.state(case.h, case.c))
    layer.backward(case.dy, case.state(case.dh, case.dc))
    for name, slope in layer.gradients().items():
        np.testing.assert_allclose(slope, once[name] + 0.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_runs_batches_of_any_size(kind: str) -> None:
    """Memory reused from a larger batch does not affect a smaller one."""
    large = Case(kind, 9, 8, 6, 17, 2, True, lengths=[9, 1, 4, 9, 2, 2, 7, 5])
    layer = large.layer()
    for case in (
        large,
        Case(kind, 2, 3, 6, 17, 2, True, lengths=[1, 2, 1]),
        Case(kind, 3, 1, 6, 17, 2, True),
        large,
    ):
        case.parameters = large.parameters
        for name, value in case.found(layer).items():
            np.testing.assert_array_equal(value, case.found()[name], name)


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_large_inputs_saturate_without_nan(kind: str) -> None:
    """A gate's input of 1e4, or of 1e30, is as good as infinity; ReLU alone has no bound."""
    for scale in (1e4, 1e30):
        case = Case(kind, 6, 4, 5, 9)
        case.h /= np.abs(case.h).max()
        case.x *= np.float32(scale)
        found = case.found()
        assert all(np.isfinite(found[name]).all() for name in ("y", "h", "dx"))
        assert np.abs(found["y"]).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_indexed_inputs_equal_gathered_inputs(kind: str, lengths: list[int] | None) -> None:
    """Rows of a table, read any number of times or never: results, and gradients row by row."""
    case = Case(kind, 12, 17, 30, 65, 2, bool(lengths), lengths)
    rng = np.random.default_rng(0)
    index = rng.integers(0, 20, (12, 17)).astype(np.int32)
    table = rng.standard_normal((23, 30), dtype=np.float32)
    case.x = table[index]
    expected = case.expected()
    slopes = np.zeros((23, 30))
    np.add.at(slopes, index, expected["dx"])
    expected["dx"] = slopes
    rows, offsets = case.ragged(index)
    alone = None
    for threads in (1, 2, 3):
        layer = case.layer(threads=threads)
        dstate = case.state(case.dh, case.dc)
        y, state = layer.forward(table, case.counts, case.state(case.h, case.c), index=index)
        dx = layer.backward(case.dy, dstate)
        found = {"y": y, "dx": dx, **parts("h", state), **parts("dh", dstate), **layer.gradients()}
        off = errors(found, expected)
        assert max(off.values()) < 1e-4, off
        alone = alone or {name: value.copy() for name, value in found.items()}
        for name, value in alone.items():
            np.testing.assert_array_equal(found[name], value, name)
        passing, _ = layer.forward_ragged(
            table, offsets, case.state(case.h, case.c), training=False, index=rows
        )
        np.testing.assert_array_equal(case.padded(passing), y)
        layer.zero_gradients()
        layer.forward_ragged(table, offsets, case.state(case.h, case.c), index=rows)
        dx_ragged = layer.backward_ragged(case.ragged(case.dy)[0], dstate=None)
        assert dx_ragged is not None
        assert dx_ragged.shape == table.shape
        assert not dx_ragged[20:].any()


def test_any_array_layout_is_accepted_without_recompiling() -> None:
    case = Case("lstm", 5, 3, 4, 7)
    layer = case.layer()
    expected = case.found(layer)
    cell = CELLS["lstm"]
    known = len(cell.forward.signatures), len(cell.backward.signatures)
    for array in (case.x, case.dy):
        array.flags.writeable = False
    case.x, case.dy = np.asfortranarray(case.x), case.dy.astype(np.float64)
    found = case.found(layer)
    case.x = np.ascontiguousarray(case.x)
    case.x.flags.writeable = False
    ragged = case.found(layer, key=0)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert relative_error(ragged[name], value) < 1e-5, name
    assert known == (len(cell.forward.signatures), len(cell.backward.signatures))
