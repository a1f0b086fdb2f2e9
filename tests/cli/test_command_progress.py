"""Progress on a terminal, and one line per epoch elsewhere."""

from __future__ import annotations

import io
import sys

import pytest
from fastseq_cli.options import Common
from fastseq_cli.progress import progress, training

from fastseq.training.loop import TrainingProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_and_speed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with progress(Common()) as report:
        assert report is not None
        for done in range(0, 5001, 1000):
            report("index", done, 5000)
        report("merge", 1, None)
    assert "index" in shown.getvalue()
    assert "of 5,000 rows" in shown.getvalue()
    assert "rows/s" in shown.getvalue()
    assert "merge" in shown.getvalue()


@pytest.mark.parametrize(
    ("stage", "units"),
    [("index", "rows"), ("merge", "postings"), ("commit", "rows"), ("search", "queries")],
)
def test_units_of_each_stage(monkeypatch: pytest.MonkeyPatch, stage: str, units: str) -> None:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with progress(Common()) as report:
        assert report is not None
        for done in range(0, 5001, 1000):
            report(stage, done, 5000)
    assert f"of 5,000 {units}" in shown.getvalue()
    assert f" {units}/s" in shown.getvalue()
    others = {"rows", "postings", "queries"} - {units}
    assert not any(other in shown.getvalue() for other in others)


def test_no_bar_while_rows_are_printed_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    with progress(Common(), prints=True) as report:
        assert report is None
    monkeypatch.setattr(sys, "stdout", file := io.StringIO())
    with progress(Common(), prints=True) as report:
        assert report is not None
        report("predict", 1, 2)
        print("a row")
    assert file.getvalue() == "a row\n", "and not on stderr"


@pytest.mark.parametrize(
    ("common", "stream"), [(Common(quiet=True), Terminal()), (Common(), io.StringIO())]
)
def test_no_progress_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, common: Common, stream: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(common) as report:
        assert report is None
    assert stream.getvalue() == ""


def test_errors_pass_through_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())

    def fail() -> None:
        with progress(Common()) as report:
            assert report is not None
            report("index", 1, 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


# ---- of a training


def moments() -> list[TrainingProgress]:
    return [
        TrainingProgress(1, 2, 1, 2, 0.5, 1000.0, 75.4),
        TrainingProgress(1, 2, 2, 2, 0.4, 1200.0, 3661.0),
        TrainingProgress(2, 2, 1, 2, 0.3, 1300.0, None),
        TrainingProgress(2, 2, 2, 2, 0.25, 1400.0, 0.0),
    ]


def test_training_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with training(Common(), "bytes") as report:
        assert not report.began
        report(moments()[0])
        assert report.began
        report(moments()[0]._replace(steps=None, step=5))
    assert "epoch 1/2" in shown.getvalue()
    assert "loss 0.5000, 1,000 bytes/s, 1:15 left" in shown.getvalue()


@pytest.mark.parametrize("quiet", [False, True])
def test_training_progress_elsewhere_is_a_line_per_epoch(
    monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", shown := io.StringIO())
    with training(Common(quiet=quiet), "tokens") as report:
        for moment in moments():
            report(moment)
    lines = [
        "epoch 1/2: loss 0.4000, 1,200 tokens/s, 1:01:01 left",
        "epoch 2/2: loss 0.2500, 1,400 tokens/s",
    ]
    assert shown.getvalue().splitlines() == ([] if quiet else lines)


def test_training_progress_has_validation_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := io.StringIO())
    first, second, third, fourth = moments()
    with training(Common(), "tokens") as report:
        report(first)
        report(second)
        report(second._replace(valid={"loss": 0.75, "accuracy": 0.5}))
        report(third)
        report(fourth)
    assert shown.getvalue().splitlines() == [
        "epoch 1/2: loss 0.4000, valid loss 0.7500, accuracy 0.5000, 1,200 tokens/s, 1:01:01 left",
        "epoch 2/2: loss 0.2500, 1,400 tokens/s",
    ]
