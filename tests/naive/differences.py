"""Gradients by central differences, for comparison with hand-written ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def central(function: Callable[[], float], at: Array, step: float = 1e-5) -> Array:
    """(f(a + step) - f(a - step)) / (2 step) for each element of the float64 array `at`.

    `function` takes nothing and reads `at`, which is changed in place and put back.
    """
    slopes = np.zeros(at.shape)
    for index in np.ndindex(*at.shape):
        kept = at[index]
        at[index] = kept + step
        above = function()
        at[index] = kept - step
        below = function()
        at[index] = kept
        slopes[index] = (above - below) / (2 * step)
    return slopes


def relative_error(found: Array, expected: Array) -> float:
    """The largest difference, over the largest expected value (or 1e-8, if that is more)."""
    largest = max(float(np.abs(expected).max(initial=0)), 1e-8)
    return float(np.abs(np.asarray(found, np.float64) - expected).max(initial=0)) / largest
