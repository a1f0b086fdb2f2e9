"""Calling one object from several threads at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

THREADS = 4


def assert_same_from_threads(call: Callable[[Any], Any], inputs: Sequence[Any], times: int) -> None:
    """Assert that threads that call with random inputs, `times` each, get what one alone gets."""
    expected = [call(value) for value in inputs]
    problems: list[str] = []

    def work(number: int) -> None:
        for k in np.random.default_rng(number).integers(len(inputs), size=times).tolist():
            try:
                np.testing.assert_equal(call(inputs[k]), expected[k])
            except Exception as error:  # also what the call raises
                problems.append(f"input {k}: {type(error).__name__}: {error}")

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not problems, f"{len(problems)} of {THREADS * times} calls: {problems[0]}"
