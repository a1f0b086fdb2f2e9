"""The norm of the gradients and clipping, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import SettingsError
from fastseq.nn.layer import Parameters
from fastseq.nn.optimisers import clip_norm, clip_value, gradient_norm
from fastseq.threads import Team

ONE = Team(1)


def made(slopes: dict[str, np.ndarray]) -> Parameters:
    parameters = Parameters({name: slope.shape for name, slope in slopes.items()})
    for name, slope in slopes.items():
        parameters.gradient_views[name][...] = slope
    return parameters


def drawn(seed: int = 0, rows: int = 400) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(rows, 501)) * (rng.random((rows, 1)) < 0.2)
    return {"embedding": embedding.astype(np.float32), "b": rng.normal(size=3).astype(np.float32)}


def norm_of(parameters: Parameters) -> float:
    return math.sqrt(
        sum(float((v.astype(float) ** 2).sum()) for v in parameters.gradient_views.values())
    )


def test_norm_does_not_depend_on_threads() -> None:
    parameters = made(drawn())
    norms = {gradient_norm(parameters, Team(threads)) for threads in (1, 2, 3, 5)}
    assert len(norms) == 1
    assert norms.pop() == pytest.approx(norm_of(parameters), rel=1e-13)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=40))
def test_norm_matches_numpy(values: list[float]) -> None:
    """Squares that float32 could not hold among them."""
    parameters = made({"w": np.array(values, np.float32)})
    expected = math.sqrt(math.fsum(value * value for value in values))
    assert gradient_norm(parameters, ONE) == pytest.approx(expected, rel=1e-13, abs=0)


def test_clipping_scales_to_the_limit() -> None:
    parameters = made(drawn())
    before = {name: view.astype(float) for name, view in parameters.gradient_views.items()}
    norm = norm_of(parameters)
    assert clip_norm(parameters, 2.5, Team(2)) == pytest.approx(norm, rel=1e-13)
    for name, view in parameters.gradient_views.items():
        np.testing.assert_allclose(view, before[name] * (2.5 / (norm + 1e-6)), rtol=1e-6)
    assert norm_of(parameters) == pytest.approx(2.5, rel=1e-5)


def test_clipping_factor_has_pytorchs_epsilon() -> None:
    parameters = made({"w": np.array([1e-5], np.float32)})
    clip_norm(parameters, 5e-6, ONE)
    assert parameters.gradient_views["w"][0] == pytest.approx(1e-5 * 5e-6 / 1.1e-5, rel=1e-6)


def test_norm_below_the_limit_changes_nothing() -> None:
    parameters = made(drawn())
    before = parameters.gradients.tobytes()
    norm = norm_of(parameters)
    for limit in (norm * 1.001, math.inf):
        assert clip_norm(parameters, limit, ONE) == pytest.approx(norm)
    assert parameters.gradients.tobytes() == before


def test_clipping_does_not_depend_on_threads() -> None:
    results = set()
    for threads in (1, 2, 3):
        parameters = made(drawn())
        clip_norm(parameters, 1.0, Team(threads))
        clip_value(parameters, 0.001, Team(threads))
        results.add(parameters.gradients.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", [0, 399])
def test_non_finite_norm_scales_nothing(bad: float, place: int) -> None:
    slopes = drawn()
    slopes["embedding"][place, 500] = bad
    parameters = made(slopes)
    before = parameters.gradients.tobytes()
    norm = clip_norm(parameters, 1.0, Team(2))
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
    assert parameters.gradients.tobytes() == before


def test_frozen_gradients_are_not_in_the_norm() -> None:
    slopes = drawn()
    parameters = made(slopes)
    expected = float(np.linalg.norm(slopes["b"].astype(float)))
    assert gradient_norm(parameters, ONE, {"embedding"}) == pytest.approx(expected, rel=1e-13)
    clip_norm(parameters, expected / 2, ONE, {"embedding"})
    clip_value(parameters, 1e-3, ONE, {"embedding"})
    assert (parameters.gradient_views["embedding"] == slopes["embedding"]).all()
    assert np.abs(parameters.gradient_views["b"]).max() <= np.float32(1e-3)


def test_clipping_by_value() -> None:
    slopes = {"w": np.array([-3, -0.5, 0, 0.25, 7, math.inf, -math.inf, math.nan], np.float32)}
    parameters = made(slopes)
    clip_value(parameters, 0.5, ONE)
    np.testing.assert_array_equal(
        parameters.gradient_views["w"],
        np.array([-0.5, -0.5, 0, 0.25, 0.5, 0.5, -0.5, math.nan], np.float32),
    )


def test_no_parameters_at_all() -> None:
    parameters = Parameters({})
    assert clip_norm(parameters, 1.0, ONE) == 0.0
    clip_value(parameters, 1.0, ONE)


@pytest.mark.parametrize("limit", [0, -1, math.nan, 1e-300])
def test_limit_must_be_positive(limit: float) -> None:
    for clip in (clip_norm, clip_value):
        with pytest.raises(SettingsError, match="limit of clipping"):
            clip(made(drawn(rows=1)), limit, ONE)
