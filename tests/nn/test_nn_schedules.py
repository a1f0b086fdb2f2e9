"""Learning rate schedules: their values at known steps, warm-up, plateau's memory, settings."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseq.errors import FormatError, SettingsError
from fastseq.nn.schedules import SCHEDULES, Schedule, schedule

NEEDED: dict[str, dict[str, Any]] = {"step": {"every": 10}}


def made(name: str, rate: float = 0.1, **chosen: Any) -> Schedule:
    return schedule(name, rate, **{**NEEDED.get(name, {}), **chosen})


def test_constant() -> None:
    assert [made("constant")(step, 5) for step in (0, 3, 99)] == [0.1] * 3


def test_step() -> None:
    rates = made("step", every=3, factor=0.5)
    assert [rates(step, 100) for step in range(7)] == [0.1] * 3 + [0.05] * 3 + [0.025]


def test_cosine() -> None:
    rates = made("cosine", floor=0.02)
    assert rates(0, 100) == 0.1
    assert rates(50, 100) == pytest.approx(0.06)
    assert rates(25, 100) == pytest.approx(0.02 + 0.04 * (1 + math.sqrt(0.5)))
    assert rates(100, 100) == pytest.approx(0.02)
    assert rates(150, 100) == pytest.approx(0.02)


def test_linear() -> None:
    rates = made("linear")
    assert [rates(step, 4) for step in range(6)] == pytest.approx([0.1, 0.075, 0.05, 0.025, 0, 0])
    assert made("linear", floor=0.05)(1, 2) == pytest.approx(0.075)


def test_polynomial() -> None:
    """Of all steps, the warm-up's among them."""
    rates = made("polynomial", warmup=2)
    expected = [0.05, 0.1, 0.06, 0.04, 0.02, 0, 0]
    assert [rates(step, 5) for step in range(7)] == pytest.approx(expected)
    assert made("polynomial", power=2, floor=0.02)(1, 4) == pytest.approx(0.02 + 0.08 * 0.75**2)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "polynomial"])
def test_warmup_is_linear_and_precedes_the_schedule(name: str) -> None:
    rates, plain = made(name, warmup=4), made(name)
    assert [rates(step, 24) for step in range(4)] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert [rates(step + 4, 24) for step in range(20)] == [plain(step, 20) for step in range(20)]


@pytest.mark.parametrize("name", SCHEDULES)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 50))
def test_never_above_the_rate_nor_below_zero(name: str, step: int, total: int, warmup: int) -> None:
    assert 0 <= made(name, warmup=warmup)(step, total) <= 0.1


def test_plateau_waits_then_lowers() -> None:
    rates = made("plateau", factor=0.5, patience=1)
    seen = []
    for loss in [3.0, 2.0, 2.0, 2.5, 1.0, 1.5, 1.4, math.nan, math.nan]:
        rates.observe(loss)
        seen.append(rates(7, 10))
    assert seen == [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.0125]


def test_plateau_stops_at_its_floor() -> None:
    rates = made("plateau", floor=0.04)
    for loss in range(9):
        rates.observe(loss)
    assert rates(0, 1) == 0.04


@given(st.lists(st.floats(-10, 10) | st.just(math.nan), max_size=20), st.integers(0, 20))
def test_plateau_resumes_from_its_state(losses: list[float], cut: int) -> None:
    whole, begun, resumed = (made("plateau", patience=1) for _ in range(3))
    for loss in losses:
        whole.observe(loss)
    for loss in losses[:cut]:
        begun.observe(loss)
    resumed.load_state(json.loads(json.dumps(begun.state(), allow_nan=False)))
    for loss in losses[cut:]:
        resumed.observe(loss)
    assert resumed == whole
    assert resumed(3, 9) == whole(3, 9)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "plateau"])
def test_other_schedules_are_stateless(name: str) -> None:
    rates = made(name)
    before = rates(5, 30)
    rates.observe(1.0)
    rates.observe(9.0)
    assert rates.state() == {}
    rates.load_state({})
    assert rates(5, 30) == before


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("constant", {"scale": 1.0}),
        ("plateau", {}),
        ("plateau", {"scale": None, "best": None, "waited": 0}),
    ],
)
def test_state_of_another_schedule_is_rejected(name: str, state: Any) -> None:
    with pytest.raises(FormatError, match="the schedule's state"):
        made(name).load_state(state)


@pytest.mark.parametrize(
    ("name", "chosen", "said"),
    [
        ("triangle", {}, "schedule is 'triangle'; expected one of constant, step, cosine, linear"),
        ("cosine", {"every": 3}, "cosine has no setting 'every', expected some of floor, warmup"),
        ("constant", {"warmup": -1}, "warmup must be a whole number of at least 0"),
        ("constant", {"rate": 0.0}, "learning_rate must be a number above 0"),
        ("constant", {"rate": math.nan}, "learning_rate"),
        ("constant", {"rate": math.inf}, "learning_rate"),
        ("step", {"every": 0}, "every must be a whole number of at least 1"),
        ("step", {"factor": 0}, "factor"),
        ("cosine", {"floor": 0.2}, "floor must be between 0 and the learning rate"),
        ("linear", {"floor": -0.1}, "floor"),
        ("plateau", {"factor": 1}, "factor must be above 0 and below 1"),
        ("plateau", {"patience": -1}, "patience"),
        ("plateau", {"floor": 1}, "floor"),
    ],
)
def test_settings_out_of_range(name: str, chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        made(name, **chosen)


def test_missing_required_setting_is_rejected() -> None:
    with pytest.raises(SettingsError, match="step needs the setting 'every'"):
        schedule("step", 0.1)
