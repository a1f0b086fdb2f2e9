"""Progress: seen on a terminal, by nobody else."""

from __future__ import annotations

import io
import sys

import pytest
from fastseq_cli.options import Common
from fastseq_cli.progress import progress


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


def test_what_prints_on_the_terminal_has_no_bar_there(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_nothing_for_nobody(
    monkeypatch: pytest.MonkeyPatch, common: Common, stream: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(common) as report:
        assert report is None
    assert stream.getvalue() == ""


def test_an_error_in_the_middle_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())

    def fail() -> None:
        with progress(Common()) as report:
            assert report is not None
            report("index", 1, 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
