"""The formulas that CPU and GPU share, made for NumPy in float64: against plain NumPy and against
central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq.kernels.core import formulas


def _as_is(function: Any) -> Any:
    return function


def _fma(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def elementary32() -> formulas.Elementary:
    """For arrays of float32, products and sums in float64 before they are rounded."""
    return formulas.elementary(
        _as_is,
        lambda a, b, c: (np.float64(a) * np.float64(b) + np.float64(c)).astype(np.float32),
        lambda a, x: np.where(a < x, a, x).astype(np.float32),
        lambda a, x: np.where(a > x, a, x).astype(np.float32),
        np.abs,
        lambda x: x.view(np.int32),
        lambda i: i.view(np.float32),
    )


@pytest.mark.parametrize(
    ("name", "exact"), [("exp", np.exp), ("sigmoid", _sigmoid), ("tanh", np.tanh)]
)
def test_elementary_functions(name: str, exact: Any) -> None:
    x = np.random.default_rng(0).uniform(-30, 30, 4000).astype(np.float32)
    x[:5] = 0, -0.0, 1e-20, 88, -88
    with np.errstate(over="ignore"):
        found = getattr(elementary32(), name)(x)
    np.testing.assert_allclose(found, exact(np.float64(x)), rtol=5e-7)


def test_nan_is_preserved() -> None:
    nan = np.array([np.nan], np.float32)
    for function in elementary32():
        assert np.isnan(function(nan)).all()


STEPS = {
    "lstm": formulas.lstm(_as_is, _fma, _sigmoid, np.tanh),
    "gru": formulas.gru(_as_is, _fma, _sigmoid, np.tanh),
}


def test_lstm_step_matches_its_definition() -> None:
    z_i, z_f, z_g, z_o, c = np.random.default_rng(1).normal(size=5)
    i, f, g, o, new_c, h = STEPS["lstm"].forward(z_i, z_f, z_g, z_o, c)
    assert [i, f, g, o] == [_sigmoid(z_i), _sigmoid(z_f), np.tanh(z_g), _sigmoid(z_o)]
    assert new_c == pytest.approx(f * c + i * g)
    assert h == pytest.approx(o * np.tanh(new_c))


def test_gru_step_matches_its_definition() -> None:
    x_n, z_r, z_z, m, h = np.random.default_rng(2).normal(size=5)
    n, r, z, new_h = STEPS["gru"].forward(x_n, z_r, z_z, m, h)
    assert [r, z] == [_sigmoid(z_r), _sigmoid(z_z)]
    assert n == pytest.approx(np.tanh(x_n + r * m))
    assert new_h == pytest.approx((1 - z) * n + z * h)


def central(function: Any, inputs: np.ndarray) -> np.ndarray:
    """The gradient of a function of some numbers by differences."""
    step = 1e-6
    found = np.empty_like(inputs)
    for k in range(len(inputs)):
        more, less = inputs.copy(), inputs.copy()
        more[k] += step
        less[k] -= step
        found[k] = (function(*more) - function(*less)) / (2 * step)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_lstm_step_backward(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, d, dc = rng.normal(size=5), rng.normal(), rng.normal()
    step = STEPS["lstm"]

    def loss(*values: Any) -> Any:
        *_, new_c, h = step.forward(*values)
        return d * h + dc * new_c

    i, f, g, o, _, _ = step.forward(*inputs)
    found = step.backward(i, f, g, o, inputs[4], d, dc)
    np.testing.assert_allclose(found, central(loss, inputs), atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_gru_step_backward(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, d = rng.normal(size=5), rng.normal()
    step = STEPS["gru"]
    n, r, z, _ = step.forward(*inputs)
    found = step.backward(n, r, z, inputs[3], inputs[4], d)
    expected = central(lambda *values: d * step.forward(*values)[3], inputs)
    np.testing.assert_allclose(found, expected, atol=1e-8)
