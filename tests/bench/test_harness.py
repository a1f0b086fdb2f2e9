"""Timing and reporting of benchmarks: wrong answers refused, alternation, ratios, header."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.common import harness, report
from bench.common.harness import Check, Comparison, Contender, Timing


class Clock:
    """A clock that only contenders advance."""

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


def test_wrong_answer_is_rejected_and_never_timed() -> None:
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


def test_the_warm_up_is_not_timed_and_contenders_alternate() -> None:
    clock = Clock()
    contenders = [clock.contender(name, lambda n: 100.0 if n == 0 else float(n)) for name in "ab"]
    found = harness.compare(contenders, rounds=3, clock=clock)
    assert found.timings["a"].seconds == found.timings["b"].seconds == [1.0, 2.0, 3.0]
    assert "".join(clock.order) == "ab" + "ab" + "ba" + "ab"


def test_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # the machine slows down fourfold after the first round, for both contenders
    ours, theirs = Timing("ours", "", [1.0, 4.0, 4.0]), Timing("theirs", "", [3.0, 8.0, 20.0])
    found = Comparison({"ours": ours, "theirs": theirs}, {})
    assert found.ratio("theirs", "ours") == 3.0
    assert found.ratio("ours", "theirs") == pytest.approx(1 / 3)
    assert found.ratio("ours", "ours") == 1.0
    assert "3.00" in harness.rate_table(found, 8.0, "ours", "items/s")
    entry = found.to_dict(8.0, "ours")["contenders"][1]
    assert entry["per_second"] == 1.0
    assert entry["times_as_fast"] == {"ours": 3.0}


def test_the_fastest_correct_variant_is_chosen() -> None:
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


def test_facts_are_recorded_per_round() -> None:
    clock = Clock()
    plain = clock.contender("one", lambda n: 1.0)
    sizes = iter([7, 9, 8])
    contender = Contender("one", plain.run, plain.check, lambda answer: {"size": next(sizes)})
    found = harness.compare([contender], rounds=3, clock=clock)
    assert found.timings["one"].facts == {"size": [7.0, 9.0, 8.0]}
    assert found.timings["one"].fact("size") == 8.0
    assert found.to_dict(3)["contenders"][0]["per_second"] == 3.0


def test_settings_out_of_range_are_rejected() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="rounds"):
        harness.compare([clock.contender("a", lambda n: 1.0)], rounds=0)
    with pytest.raises(ValueError, match="same name"):
        harness.compare([clock.contender("a", lambda n: 1.0) for _ in range(2)], rounds=1)


def test_alternate_measures_each_call() -> None:
    medians = harness.alternate({"short": _spin(0.001), "long": _spin(0.01)}, rounds=3)
    assert 0.001 <= medians["short"] < 0.01 <= medians["long"]


def test_the_header_names_machine_commit_date_threads_and_blas() -> None:
    facts = report.facts(["numpy", "no-such-package"], threads=1)
    assert facts["cores"] >= 1
    assert facts["versions"]["numpy"][0].isdigit()
    assert facts["versions"]["no-such-package"] == "-"
    header = report.header(facts)
    for text in ("1 thread used", "BLAS: ", "commit ", facts["date"], facts["cpu"]):
        assert text in header


def finished(arguments: list[str], passed: bool, reached: bool, path: Path) -> int:
    """The exit status of a run with one check and one target, its report written to `path`."""
    options = report.Parser("A trial.").parse([*arguments, "--json", str(path)])
    options.folder = path.parent
    run = report.Report("trial", options)
    run.check(passed, "the answer")
    run.target(reached, "the speed")
    return run.end()


def test_wrong_result_or_a_missed_target_fails_the_run(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert finished([], True, True, path) == 0
    assert finished([], True, False, path) == 1
    assert json.loads(path.read_text("utf-8"))["missed"] == ["the speed"]
    assert finished([], False, True, path) == 1
    assert json.loads(path.read_text("utf-8"))["wrong"] == ["the answer"]


def test_the_small_mode_has_no_targets_but_checks(tmp_path: Path) -> None:
    assert finished(["--small"], True, False, tmp_path / "report.json") == 0
    assert finished(["--small"], False, True, tmp_path / "report.json") == 1


def test_file_that_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    def parsed(*arguments: str) -> Path:
        parser = report.Parser("A trial.")
        parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet file")
        return parser.parse(arguments).corpus

    assert parsed("--small").is_file()
    with pytest.raises(SystemExit):
        parsed("--data", "nowhere")
    assert "no such file: nowhere/text/wiki_simple.parquet" in capsys.readouterr().err
