"""What all tests share."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

from tests import sampling

# A shell that runs tests in the background has them ignore Ctrl-C, which some of them are about.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    kept = "all" if sampling.ALL else "a sample"
    return f"{kept} of the randomised and exhaustive suites (FASTSEQ_TESTS=all runs all)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sample parameter sets and examples, unless a parameter set was named; see sampling.py."""
    if sampling.ALL or any("[" in argument for argument in config.args):
        return
    marked: dict[str, list[pytest.Item]] = {}
    lowered: set[object] = set()  # parameter sets of one test share its function
    for item in items:
        test = getattr(item, "obj", None)
        if test not in lowered:
            lowered.add(test)
            lower_examples(test)
        if item.get_closest_marker("sample") is not None:
            marked.setdefault(item.nodeid.partition("[")[0], []).append(item)
    dropped: set[pytest.Item] = set()
    for name, cases in marked.items():
        marker = cases[0].get_closest_marker("sample")
        assert marker is not None
        dropped |= set(cases) - set(sampling.some(cases, marker.args[0], name))
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


def lower_examples(test: object) -> None:
    """Have hypothesis draw fewer examples, as its own plugin changes settings."""
    asked = getattr(test, "_hypothesis_internal_use_settings", None)
    if isinstance(asked, settings):
        test._hypothesis_internal_use_settings = settings(  # type: ignore[attr-defined]
            asked, max_examples=sampling.examples(asked.max_examples), derandomize=True
        )
