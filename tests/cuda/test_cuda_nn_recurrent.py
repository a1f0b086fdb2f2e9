"""Recurrent layers on the device against the CPU's: outputs, states, all gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import recurrent as host
from fastseq.nn.cuda import recurrent as device
from fastseq.seeds import mixed_key

CELLS = ("LSTM", "GRU", "RNN")
LENGTHS = [2, 3, 1]
H = 4  # of all layers, and of those of test_cuda_models: kernels are compiled for a number of units


def pair(cell: str, *sizes: int, **settings: Any) -> tuple[Any, Any]:
    """The CPU's layer and the device's, with the same values, none of them zero."""
    mine, theirs = getattr(host, cell)(*sizes, threads=1, **settings), None
    rng = np.random.default_rng(7)
    for value in mine.values.values():
        value += rng.normal(0, 0.2, value.shape).astype(np.float32)
    theirs = getattr(device, cell)(*sizes, **settings)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Within the tolerance, in parts of the largest number expected."""
    parts = found if isinstance(found, tuple) else (found,)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    assert len(parts) == len(wanted)
    for mine, theirs in zip(parts, wanted, strict=True):
        mine = memory.get(mine) if hasattr(mine, "copy_to_host") else mine
        assert mine.shape == theirs.shape
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * scale)


def gradients_agree(mine: Any, theirs: Any) -> None:
    found = theirs.gradients()
    for name, slope in mine.gradients().items():
        assert np.abs(slope).max() > 0, name
        close(found[name], slope)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("ragged", [True, False])
def test_a_padded_batch(cell: str, ragged: bool) -> None:
    mine, theirs = pair(cell, 3, H, 1, bidirectional=True)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 3, 3)).astype(np.float32)
    arrays = 2 if cell == "LSTM" else 1
    shape = (arrays, 2, 3, H)
    state: Any = tuple(rng.normal(size=shape).astype(np.float32))
    slope: Any = tuple(rng.normal(size=shape).astype(np.float32))
    if arrays == 1:
        state, slope = state[0], slope[0]
    lengths = LENGTHS if ragged else None
    y, last = mine.forward(x, lengths, state)
    found, found_last = theirs.forward(x, lengths, state)
    close(found, y)
    close(found_last, last)
    dy = rng.normal(size=y.shape).astype(np.float32)
    given = [np.copy(part) for part in np.atleast_1d(np.asarray(slope)).reshape(-1, 2, 3, H)]
    dx = mine.backward(dy, slope)
    mine_first = mine.dstate
    found_dx = theirs.backward(memory.put(dy), tuple(given) if arrays == 2 else given[0])
    close(found_dx, dx)
    close(theirs.dstate, mine_first)
    close(tuple(given) if arrays == 2 else given[0], mine_first)  # written in place, as there
    gradients_agree(mine, theirs)


@pytest.mark.parametrize("cell", CELLS)
def test_ragged_batch_with_dropout_of_both_kinds(cell: str) -> None:
    mine, theirs = pair(cell, 2, H, 2, dropout=0.4, weight_dropout=0.3)
    rng = np.random.default_rng(2)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    x = rng.normal(size=(offsets[-1], 2)).astype(np.float32)
    key = mixed_key(5, 6)
    for step in range(2):  # gradients are added to, memory is used again
        y, last = mine.forward_ragged(x, offsets, key=key + step)
        found, found_last = theirs.forward_ragged(x, offsets, key=key + step)
        close(found, y)
        close(found_last, last)
        dy = rng.normal(size=y.shape).astype(np.float32)
        close(theirs.backward_ragged(dy), mine.backward_ragged(dy))
    gradients_agree(mine, theirs)
    theirs.zero_gradients()
    assert not any(slope.any() for slope in theirs.gradients().values())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("padded", [True, False])
def test_steps_that_share_rows(cell: str, padded: bool) -> None:
    mine, theirs = pair(cell, 3, H, bidirectional=True)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    if padded:
        index = rng.integers(0, 3, (3, 3))  # row 3 is read by nobody: its gradient is zero
        y, last = mine.forward(x, LENGTHS, index=index)
        found, found_last = theirs.forward(x, LENGTHS, index=index)
        dy = rng.normal(size=y.shape).astype(np.float32)
        dx, found_dx = mine.backward(dy), theirs.backward(dy)
    else:
        offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
        index = rng.integers(0, 3, offsets[-1])
        y, last = mine.forward_ragged(x, offsets, index=index)
        found, found_last = theirs.forward_ragged(x, offsets, index=index)
        dy = rng.normal(size=y.shape).astype(np.float32)
        dx, found_dx = mine.backward_ragged(dy), theirs.backward_ragged(dy)
    close(found, y)
    close(found_last, last)
    close(found_dx, dx)
    assert not memory.get(found_dx)[3].any()
    gradients_agree(mine, theirs)


def test_state_is_carried_on_the_device() -> None:
    mine, theirs = pair("LSTM", 2, H)
    x = np.random.default_rng(4).normal(size=(2, 2, 2)).astype(np.float32)
    state = found_state = None
    for training in (True, True, False):
        y, state = mine.forward(x, state=state, training=training)
        found, found_state = theirs.forward(x, state=found_state, training=training)
        close(found, y)
        close(found_state, state)
    y = mine.forward(x, training=False)[0]
    close(theirs.forward(x, training=False)[0], y)


def test_pass_without_training_may_come_between() -> None:
    mine, theirs = pair("GRU", 2, H, 2)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 2, 2)).astype(np.float32)
    y, _ = mine.forward(x)
    theirs.forward(x)
    theirs.forward(rng.normal(size=(4, 3, 2)).astype(np.float32), training=False)
    dy = rng.normal(size=y.shape).astype(np.float32)
    close(theirs.backward(dy), mine.backward(dy))
    gradients_agree(mine, theirs)


def test_relu() -> None:
    mine, theirs = pair("RNN", 2, H, nonlinearity="relu")
    rng = np.random.default_rng(6)
    x = rng.normal(size=(3, 2, 2)).astype(np.float32)
    y, _ = mine.forward(x)
    close(theirs.forward(x)[0], y)
    dy = rng.normal(size=y.shape).astype(np.float32)
    close(theirs.backward(dy), mine.backward(dy))


def test_one_sequence_shorter_than_the_batch() -> None:
    mine, theirs = pair("GRU", 2, H)
    rng = np.random.default_rng(8)
    x = rng.normal(size=(5, 1, 2)).astype(np.float32)
    y, state = mine.forward(x, [2])
    found, found_state = theirs.forward(x, [2])
    close(found, y)
    close(found_state, state)
    dy = rng.normal(size=y.shape).astype(np.float32)
    close(theirs.backward(dy), mine.backward(dy))
    gradients_agree(mine, theirs)


def test_mismatched_arguments_are_rejected() -> None:
    layer = device.LSTM(2, 3)
    x = np.zeros((2, 1, 2), np.float32)
    with pytest.raises(SettingsError, match="needs a forward"):
        layer.backward(x)
    with pytest.raises(DataError, match="expected"):
        layer.forward(np.zeros((2, 1, 4), np.float32))
    with pytest.raises(DataError, match=r"\(h, c\)"):
        layer.forward(x, state=x)
    with pytest.raises(DataError, match="state is of shape"):
        layer.forward(x, state=(x, x))
    with pytest.raises(DataError, match="lengths"):
        layer.forward(x, [3])
    with pytest.raises(DataError, match="outside the input"):
        layer.forward(x[0], index=np.array([[1]]))
    with pytest.raises(SettingsError, match="precision"):
        device.LSTM(2, 3, precision="float8")
    layer.forward(x)
    with pytest.raises(DataError, match="dy is of shape"):
        layer.backward(x)


def test_initial_values_match_the_cpu() -> None:
    for cell in CELLS:
        mine = getattr(host, cell)(3, 4, seed=9).state_dict()
        theirs = getattr(device, cell)(3, 4, seed=9).state_dict()
        for name, value in mine.items():
            np.testing.assert_array_equal(theirs[name], value)
