"""Optimisers against their float64 twins; their state, threads, frozen parameters and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import FormatError, SettingsError
from fastseq.nn.layer import Parameters
from fastseq.nn.optimisers import OPTIMISERS, Adam, Optimiser, optimiser
from fastseq.threads import Team
from tests.naive import optimisers as naive
from tests.widths import TESTED, outputs

SHAPES = {"embedding": (31, 7), "bias": (1,), "weight": (65, 9), "scalar": ()}
STEPS = 50

CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.8, "weight_decay": 0.01}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("adagrad", {}),
    ("adagrad", {"weight_decay": 0.1, "eps": 0.01}),
    ("rmsprop", {}),
    ("rmsprop", {"alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1, "eps": 1e-3}),
    ("adam", {}),
    ("adam", {"betas": (0.3, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("adamw", {}),
    ("adamw", {"betas": (0.8, 0.99), "weight_decay": 0.2}),
    ("adamw", {"eps": 1e-6, "weight_decay": 0.1, "bias_correction": False}),
]


def made(seed: int = 0, shapes: dict[str, tuple[int, ...]] = SHAPES) -> Parameters:
    parameters = Parameters(shapes)
    rng = np.random.default_rng(seed)
    for value in parameters.views.values():
        value[...] = rng.normal(size=value.shape)
    return parameters


def slopes_of(seed: int, steps: int = STEPS) -> list[dict[str, np.ndarray]]:
    """Gradients for some steps; a row of the embedding has one in every third step at most."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        slopes = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
        slopes["embedding"] = slopes["embedding"] * (rng.random((31, 1)) < 0.3).astype(np.float32)
        found.append(slopes)
    return found


def take_steps(
    optimise: Optimiser, slopes: list[dict[str, np.ndarray]], rates: list[float] | None = None
) -> None:
    for i, step in enumerate(slopes):
        for name, slope in step.items():
            optimise.parameters.gradient_views[name][...] = slope
        optimise.step(None if rates is None else rates[i])


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_fifty_steps_match_the_naive_twin(name: str, chosen: dict[str, Any]) -> None:
    parameters = made()
    before = parameters.state_dict()
    optimise = optimiser(name, parameters, 0.01, **chosen)
    slopes = slopes_of(1)
    rates = [0.01 * (1 + i % 3) for i in range(STEPS)]
    take_steps(optimise, slopes, rates)
    for key in SHAPES:
        expected = naive.OPTIMISERS[name](
            before[key].astype(float), [s[key].astype(float) for s in slopes], rates, **chosen
        )
        assert np.abs(expected - before[key]).max() > 1e-3  # it moved
        largest = np.abs(expected).max()
        np.testing.assert_allclose(parameters.views[key], expected, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_defaults_match_the_naive_twin(name: str) -> None:
    """The naive twin has PyTorch's defaults; the learning rates are listed here."""
    rate = {"sgd": 1e-3, "adagrad": 1e-2, "rmsprop": 1e-2, "adam": 1e-3, "adamw": 1e-3}[name]
    parameters = made()
    before = parameters.state_dict()["weight"].astype(float)
    slopes = slopes_of(2, 3)
    take_steps(optimiser(name, parameters), slopes)
    expected = naive.OPTIMISERS[name](
        before, [s["weight"].astype(float) for s in slopes], [rate] * 3
    )
    np.testing.assert_allclose(parameters.views["weight"], expected, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_parameters_without_decay(name: str, threads: int) -> None:
    names = list(SHAPES)
    no_decay, frozen = names[1::2], names[:1]
    parameters = made()
    before = parameters.state_dict()
    optimise = optimiser(
        name, parameters, 0.01, weight_decay=0.5, no_decay=[*no_decay, *frozen], frozen=frozen,
        team=Team(threads),
    )  # fmt: skip
    slopes = slopes_of(1)
    take_steps(optimise, slopes)
    for key in names:
        expected = before[key]
        if key not in frozen:
            expected = naive.OPTIMISERS[name](
                before[key].astype(float), [s[key].astype(float) for s in slopes], [0.01] * STEPS,
                weight_decay=0 if key in no_decay else 0.5,
            )  # fmt: skip
        largest = np.abs(expected).max()
        np.testing.assert_allclose(parameters.views[key], expected, rtol=0, atol=1e-5 * largest)
    with pytest.raises(SettingsError, match="no parameter is called"):
        optimiser(name, parameters, no_decay=["strange"])


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_results_do_not_depend_on_threads(name: str, chosen: dict[str, Any]) -> None:
    shapes = {"a": (300, 701), "b": (5,)}  # several parts
    rng = np.random.default_rng(0)
    slopes = [rng.normal(size=(300, 701)).astype(np.float32) for _ in range(3)]
    results = []
    for threads in (1, 2, 3):
        parameters = made(0, shapes)
        optimise = optimiser(name, parameters, 0.1, team=Team(threads), **chosen)
        take_steps(optimise, [{"a": slope} for slope in slopes])
        results.append(parameters.values.tobytes())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_padding_stays_zero(name: str, chosen: dict[str, Any]) -> None:
    parameters = made()
    take_steps(optimiser(name, parameters, 0.1, **chosen), slopes_of(3, 5))
    for view in parameters.views.values():
        view.fill(0)
    assert not parameters.values.any()


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_resuming_from_a_state_is_exact(name: str, chosen: dict[str, Any]) -> None:
    slopes = slopes_of(4, 9)
    whole = made()
    take_steps(optimiser(name, whole, 0.1, **chosen), slopes)

    first = made()
    begun = optimiser(name, first, 0.1, **chosen)
    take_steps(begun, slopes[:4])
    values, state = first.state_dict(), begun.state()
    take_steps(begun, slopes[:2])  # both are copies
    second = made(99)
    second.load_state_dict(values)
    resumed = optimiser(name, second, 0.1, **chosen)
    resumed.load_state(state)
    take_steps(resumed, slopes[4:])
    assert resumed.steps == 9
    assert second.values.tobytes() == whole.values.tobytes()


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_frozen_parameters_are_unchanged(name: str, chosen: dict[str, Any]) -> None:
    free, half = made(), made()
    before = half.state_dict()
    slopes = slopes_of(5, 5)
    take_steps(optimiser(name, free, 0.1, **chosen), slopes)
    take_steps(optimiser(name, half, 0.1, frozen={"bias", "weight"}, **chosen), slopes)
    for key in ("bias", "weight"):
        assert half.views[key].tobytes() == before[key].tobytes()
    for key in ("embedding", "scalar"):
        assert half.views[key].tobytes() == free.views[key].tobytes()


BITS = """
import numpy as np
from fastseq.nn.optimisers import clip_norm, clip_value
from fastseq.nn.optimisers import OPTIMISERS, optimiser
from fastseq.nn.layer import Parameters
from fastseq.threads import Team
for name in OPTIMISERS:
    rng = np.random.default_rng(1)
    parameters = Parameters({"a": (7, 9), "b": (40,)})
    optimise = optimiser(name, parameters, 0.1)
    for place in range(40):  # one gradient of b each time, all of a
        parameters.zero_gradients()
        parameters.gradient_views["a"][...] = rng.normal(size=(7, 9))
        parameters.gradient_views["b"][place] = rng.normal()
        norm = clip_norm(parameters, 2.0, Team(1))
        left = np.linalg.norm(parameters.gradients.astype(float))
        assert abs(left / min(norm, 2.0) - 1) < 1e-6
        clip_value(parameters, 1.5, Team(1))
        optimise.step()
    print(name, parameters.values.tobytes().hex())
"""


def test_results_do_not_depend_on_vector_width() -> None:
    found = list(outputs(TESTED, "-c", BITS).values())
    assert len(found[0].splitlines()) == len(OPTIMISERS)
    assert len(set(found)) == 1


def test_all_parameters_frozen() -> None:
    parameters = made()
    before = parameters.values.copy()
    take_steps(optimiser("adam", parameters, frozen=set(SHAPES)), slopes_of(6, 2))
    assert parameters.values.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_non_finite_gradient_propagates(name: str) -> None:
    """A NaN among zeros, where whole vectors of zeros are passed over."""
    parameters = made()
    optimise = optimiser(name, parameters, 0.1)
    parameters.gradient_views["weight"][64, 8] = np.nan
    optimise.step()
    assert np.isnan(parameters.views["weight"][64, 8])
    assert np.isnan(parameters.values).sum() == 1


def test_subnormal_moments_are_flushed_to_zero() -> None:
    parameters = Parameters({"w": (16,)})
    optimise = Adam(parameters)
    parameters.gradient_views["w"][...] = 1.0
    optimise.step()
    parameters.zero_gradients()
    for _ in range(1000):
        optimise.step()
    assert not optimise.moments["means"].any()
    assert optimise.moments["squares"].all()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(CASES),
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=6),
    st.floats(-10, 10, width=32),
)
def test_random_gradients_match_the_naive_twin(
    case: tuple[str, dict[str, Any]], drawn: list[float], start: float
) -> None:
    name, chosen = case
    parameters = Parameters({"w": (1,)})
    parameters.views["w"][...] = start
    optimise = optimiser(name, parameters, 0.01, **chosen)
    for slope in drawn:
        parameters.gradient_views["w"][...] = slope
        optimise.step()
    expected = naive.OPTIMISERS[name](
        np.array([start]), [np.array([s]) for s in drawn], [0.01] * len(drawn), **chosen
    )
    # a gradient whose square float32 cannot hold moves by less than its sign would
    if all(s == 0 or abs(s) > 1e-15 for s in drawn):
        size = max(1.0, abs(start), *(0.1 * abs(s) for s in drawn))
        np.testing.assert_allclose(parameters.views["w"], expected, atol=2e-5 * size)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("steps"), "expected means, squares, steps"),
        (lambda s: s.update(velocity=s["means"]), "expected means, squares, steps"),
        (lambda s: s.update(means=s["means"][:-16]), r"means is float32\[\d+\], expected"),
        (lambda s: s.update(means=s["means"].astype(float)), "means is float64"),
        (lambda s: s.update(steps=np.array(-1)), "not a count"),
        (lambda s: s.update(steps=np.array([1, 2])), "not a count"),
        (lambda s: s.update(steps=np.array(np.nan)), "not a count"),
        (lambda s: s.update(steps=np.array("7")), "not a count"),
        (lambda s: s.clear(), "holds nothing"),
    ],
)
def test_mismatched_state_changes_nothing(change: Any, said: str) -> None:
    optimise = optimiser("adam", made())
    take_steps(optimise, slopes_of(7, 2))
    state = optimise.state()
    kept = {key: value.copy() for key, value in state.items()}
    change(state)
    with pytest.raises(FormatError, match=said):
        optimise.load_state(state)
    assert all((value == kept[key]).all() for key, value in optimise.state().items())


@pytest.mark.parametrize(
    ("name", "chosen", "said"),
    [
        ("lion", {}, "optimiser is 'lion'; expected one of sgd, adagrad, rmsprop, adam, adamw"),
        ("sgd", {"betas": (0.9, 0.9)}, "sgd has no setting 'betas', expected some of .*momentum"),
        ("sgd", {"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        ("sgd", {"momentum": -0.1}, "momentum"),
        ("sgd", {"nesterov": True}, "nesterov needs a momentum"),
        ("sgd", {"weight_decay": -1}, "weight_decay"),
        ("sgd", {"learning_rate": float("inf")}, "learning_rate"),
        ("adam", {"learning_rate": float("nan")}, "learning_rate"),
        ("adam", {"learning_rate": -0.1}, "learning_rate must be at least 0"),
        ("adam", {"learning_rate": "fast"}, "learning_rate must be at least 0 .*, not 'fast'"),
        ("adam", {"betas": (0.9, 1.0)}, "betas"),
        ("adam", {"betas": 0.9}, "betas must be two numbers"),
        ("adam", {"eps": 0}, "eps"),
        ("adagrad", {"eps": 1e-60}, "eps must be a float32 above 0"),
        ("rmsprop", {"alpha": 1}, "alpha"),
        ("adamw", {"weight_decay": float("inf")}, "weight_decay"),
        ("adam", {"frozen": {"wieght"}}, "called 'wieght'.*embedding, bias, weight"),
    ],
)
def test_settings_out_of_range(name: str, chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        optimiser(name, made(), **chosen)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_missing_learning_rate_is_rejected(rate: float) -> None:
    optimise = optimiser("sgd", made())
    with pytest.raises(SettingsError, match="learning_rate"):
        optimise.step(rate)
    assert optimise.steps == 0


def test_zero_rate_updates_only_the_moments() -> None:
    parameters = made()
    before = parameters.values.copy()
    optimise = optimiser("adamw", parameters)
    take_steps(optimise, slopes_of(8, 1), [0.0])
    assert (parameters.values == before).all()
    assert optimise.moments["means"].any()


@pytest.mark.parametrize("setting", [{"learning_rate": 1e300}, {"weight_decay": 1e39}])
def test_settings_beyond_float32_are_rejected(setting: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="below 1e\\+30"):
        optimiser("adamw", Parameters({"w": (3,)}), **setting)
