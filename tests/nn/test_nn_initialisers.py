"""Initialisers: their moments, their bounds, orthogonality, the fans of stacked gates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import SettingsError
from fastseq.nn.initialisers import (
    INITIALISERS,
    he_normal,
    he_uniform,
    initialiser,
    normal,
    orthogonal,
    stacked,
    uniform,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from fastseq.nn.layers import Dense
from fastseq.nn.recurrent import GRU, LSTM

SHAPE = (300, 200)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("initialise", "bound"),
    [
        (xavier_uniform, math.sqrt(6 / 500)),
        (he_uniform, math.sqrt(6 / 200)),
        (uniform, 0.1),
    ],
)
def test_uniform_values_fill_their_range(initialise, bound: float) -> None:  # type: ignore[no-untyped-def]
    drawn = initialise(SHAPE, rng())
    assert np.abs(drawn).max() <= bound * (1 + 1e-6)
    assert np.abs(drawn).max() > 0.999 * bound
    assert abs(drawn.mean()) < 0.02 * bound
    assert drawn.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("initialise", "std"),
    [
        (xavier_normal, math.sqrt(2 / 500)),
        (he_normal, math.sqrt(2 / 200)),
        (normal, 0.1),
    ],
)
def test_normal_values_have_their_deviation(initialise, std: float) -> None:  # type: ignore[no-untyped-def]
    drawn = initialise(SHAPE, rng())
    assert drawn.std() == pytest.approx(std, rel=0.02)
    assert abs(drawn.mean()) < 0.02 * std
    inside = (np.abs(drawn) < std).mean()
    assert inside == pytest.approx(0.6827, abs=0.01)  # as of a normal distribution


@pytest.mark.parametrize(
    "initialise", [xavier_uniform, xavier_normal, he_uniform, he_normal, orthogonal]
)
def test_gain_scales_the_values(initialise) -> None:  # type: ignore[no-untyped-def]
    np.testing.assert_allclose(
        initialise((5, 7), rng(), gain=3.0), 3 * initialise((5, 7), rng()), rtol=1e-5
    )


def test_convolution_window_counts_in_both_fans() -> None:
    assert np.abs(xavier_uniform((30, 20, 5), rng())).max() == pytest.approx(
        math.sqrt(6 / (50 * 5)), rel=0.01
    )
    assert np.abs(he_uniform((30, 20, 5), rng())).max() == pytest.approx(
        math.sqrt(6 / (20 * 5)), rel=0.01
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_orthogonal_wide_tall_and_square(rows: int, columns: int, seed: int) -> None:
    q = orthogonal((rows, columns), rng(seed)).astype(float)
    product = q @ q.T if rows <= columns else q.T @ q
    np.testing.assert_allclose(product, np.eye(min(rows, columns)), atol=1e-5)


def test_orthogonal_has_no_preferred_sign() -> None:
    """Without the sign fix, QR gives nearly always the same signs along the diagonal."""
    diagonals = [np.diagonal(orthogonal((3, 3), rng(seed))) for seed in range(300)]
    # E[q_ii] = 0 for a uniform one; LAPACK's own is clearly negative
    assert np.abs(np.mean(diagonals, axis=0)).max() < 0.15


def test_orthogonal_flattens_three_dimensions() -> None:
    q = orthogonal((4, 3, 2), rng())
    assert q.shape == (4, 3, 2)
    flat = q.reshape(4, 6)
    np.testing.assert_allclose(flat @ flat.T, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("name", INITIALISERS)
def test_named_initialisers_are_seeded_float32(name: str) -> None:
    initialise = initialiser(name)
    first, second = initialise((8, 6), rng(3)), initialise((8, 6), rng(3))
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert first.flags.writeable
    assert first.tobytes() == second.tobytes()
    if name != "zeros":
        assert first.tobytes() != initialise((8, 6), rng(4)).tobytes()


def test_zeros_use_no_random_numbers() -> None:
    generator = rng()
    assert not zeros((3, 2), generator).any()
    assert generator.random() == rng().random()


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'glorot'.*xavier_uniform.*orthogonal.*zeros"):
        initialiser("glorot")


def test_stacked_gates_have_the_fans_of_one() -> None:
    drawn = stacked(xavier_uniform, 4, (400, 50), rng())
    assert drawn.shape == (400, 50)
    assert np.abs(drawn).max() == pytest.approx(math.sqrt(6 / 150), rel=0.01)
    assert np.abs(xavier_uniform((400, 50), rng())).max() < 0.75 * np.abs(drawn).max()


def test_each_stacked_gate_is_orthogonal() -> None:
    drawn = stacked(orthogonal, 3, (21, 7), rng()).reshape(3, 7, 7)
    for gate in drawn:
        np.testing.assert_allclose(gate @ gate.T, np.eye(7), atol=1e-5)
    assert not np.allclose(drawn[0], drawn[1])


@pytest.mark.parametrize("shape", [(5,), (), (3, 0)])
@pytest.mark.parametrize(
    "initialise", [xavier_uniform, xavier_normal, he_uniform, he_normal, orthogonal]
)
def test_shape_without_fans_is_rejected(initialise, shape) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsError, match="fans"):
        initialise(shape, rng())


@pytest.mark.parametrize("gates", [0, 3])
def test_rows_must_be_a_multiple_of_the_gates(gates: int) -> None:
    with pytest.raises(SettingsError, match="gates"):
        stacked(orthogonal, gates, (8, 4), rng())


def test_layers_seed_by_parameter_name() -> None:
    normal = LSTM(40, 50, input_init="normal", recurrent_init="zeros", forget_bias=2.5)
    weights = normal.parameters()
    assert 0.09 < weights["weight_ih_l0"].std() < 0.11
    assert not weights["weight_hh_l0"].any()
    np.testing.assert_array_equal(weights["bias_ih_l0"].reshape(4, 50).mean(1), [0, 2.5, 0, 0])
    assert not weights["bias_hh_l0"].any()
    he = Dense(60, 70, init="he_uniform").parameters()["weight"]
    assert 0.95 * (6 / 60) ** 0.5 < np.abs(he).max() <= (6 / 60) ** 0.5
    for made in (lambda: GRU(3, 4, input_init="lucky"), lambda: Dense(3, 4, init="lucky")):
        with pytest.raises(SettingsError, match="initialiser is 'lucky'; expected one of xavier"):
            made()
