"""The harness itself: it refuses wrong answers, takes turns, and its ratios are right."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import harness  # noqa: E402
from harness import Check, Comparison, Contender, Timing  # noqa: E402


class Clock:
    """Time that passes only when a contender says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def contender(
        self, name: str, seconds: Callable[[int], float], right: bool = True
    ) -> Contender:
        """Run number n (from 1; the check's own run is 0) takes seconds(n)."""
        runs = iter(range(1000))

        def run() -> str:
            self.order.append(name)
            self.now += seconds(next(runs))
            return "right" if right else "wrong"

        return Contender(name, run, lambda answer: Check(answer == "right", f"it said {answer}"))


def test_a_wrong_answer_is_refused_and_never_timed() -> None:
    clock = Clock()
    contenders = [
        clock.contender("good", lambda n: 2.0),
        clock.contender("wrong but quick", lambda n: 0.001, right=False),
    ]
    found = harness.compare(contenders, rounds=5, clock=clock)
    assert list(found.timings) == ["good"]
    assert found.refused == {"wrong but quick": "it said wrong"}
    assert clock.order.count("wrong but quick") == 1, "the check's run and no other"
    assert found.ratio("wrong but quick", "good") != found.ratio("wrong but quick", "good")
    assert "wrong" in harness.rate_table(found, 10, "good", "items/s")


def test_the_warm_up_is_not_timed_and_rounds_take_turns() -> None:
    clock = Clock()
    contenders = [clock.contender(name, lambda n: 100.0 if n == 0 else float(n)) for name in "ab"]
    found = harness.compare(contenders, rounds=3, clock=clock)
    assert found.timings["a"].seconds == found.timings["b"].seconds == [1.0, 2.0, 3.0]
    assert "".join(clock.order) == "ab" + "ab" + "ba" + "ab"


def test_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # the machine slows down fourfold after the first round: what stands is each round's ratio
    ours, theirs = Timing("ours", "", [1.0, 4.0, 4.0]), Timing("theirs", "", [3.0, 8.0, 20.0])
    found = Comparison({"ours": ours, "theirs": theirs}, {})
    assert found.ratio("theirs", "ours") == 3.0
    assert found.ratio("ours", "theirs") == pytest.approx(1 / 3)
    assert found.ratio("ours", "ours") == 1.0
    assert "3.00" in harness.rate_table(found, 8.0, "ours", "items/s")
    entry = found.to_dict(8.0, "ours")["contenders"][1]
    assert entry["per_second"] == 1.0
    assert entry["times_as_fast"] == {"ours": 3.0}


def test_the_fastest_right_way_goes_on() -> None:
    def ways(*seconds: float) -> list[Contender]:
        return [
            Contender(f"{time:g} s", _spin(time), lambda answer, time=time: Check(time > 0.001, ""))
            for time in seconds
        ]

    assert harness.fastest(ways(0.03, 0.01, 0.02)).name == "0.01 s"
    assert harness.fastest(ways(0.02, 0.0005)).name == "0.02 s", "the quickest is wrong"
    assert harness.fastest(ways(0.0005, 0.0001)).name == "0.0005 s", "for compare to refuse"


def _spin(seconds: float) -> Callable[[], None]:
    import time

    return lambda: time.sleep(seconds)


def test_further_numbers_are_kept_round_by_round(tmp_path: Path) -> None:
    clock = Clock()
    plain = clock.contender("one", lambda n: 1.0)
    sizes = iter([7, 9, 8])
    contender = Contender("one", plain.run, plain.check, lambda answer: {"size": next(sizes)})
    found = harness.compare([contender], rounds=3, clock=clock)
    assert found.timings["one"].facts == {"size": [7.0, 9.0, 8.0]}
    assert found.timings["one"].fact("size") == 8.0
    written = harness.write_report("trial", {"results": found.to_dict(3)}, tmp_path)
    assert json.loads(written.read_text())["results"]["contenders"][0]["per_second"] == 3.0


def test_bad_settings_are_refused() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="rounds"):
        harness.compare([clock.contender("a", lambda n: 1.0)], rounds=0)
    with pytest.raises(ValueError, match="same name"):
        harness.compare([clock.contender("a", lambda n: 1.0) for _ in range(2)], rounds=1)


def test_the_machine_is_told() -> None:
    facts = harness.machine_facts(["numpy", "no-such-package"])
    assert facts["cores"] >= 1
    assert facts["versions"]["numpy"][0].isdigit()
    assert facts["versions"]["no-such-package"] == "-"
    assert "1 thread used" in harness.machine_lines(facts, 1)
