"""Valid parameters of features."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.errors import SettingsError
from fastseq.estimator import Check


@dataclass(frozen=True)
class DocumentCount(Check):
    """A number of texts from 1, or a share of them as a float from 0.0 to 1.0."""

    def __call__(self, name: str, value: Any) -> Any:
        whole = _is_whole(value) and value >= 1
        share = (
            isinstance(value, numbers.Real)
            and not isinstance(value, numbers.Integral)
            and 0.0 <= float(value) <= 1.0
        )
        if not (whole or share):
            raise SettingsError(
                f"{name} is {value!r}; expected a number of texts from 1, or a share 0.0 to 1.0"
            )
        return value


@dataclass(frozen=True)
class Dtype(Check):
    """A dtype whose kind is one of NumPy's letters, of so many bytes."""

    kinds: str = "f"
    sizes: tuple[int, ...] = (4, 8)
    wanted: str = "float64 or float32"

    def __call__(self, name: str, value: Any) -> Any:
        try:
            dtype = np.dtype(value)
        except (TypeError, ValueError, SyntaxError):
            dtype = np.dtype(object)
        if dtype.kind not in self.kinds or dtype.itemsize not in self.sizes:
            raise SettingsError(f"{name} is {value!r}; expected {self.wanted}")
        return value


def document_bounds(min_df: float, max_df: float, documents: int) -> tuple[float, float]:
    """The least and the largest df of the terms kept."""
    low = min_df if _is_whole(min_df) else min_df * documents
    high = max_df if _is_whole(max_df) else max_df * documents
    if high < low:
        raise SettingsError(
            f"max_df {max_df!r} is fewer than min_df {min_df!r} of {documents} texts"
        )
    return low, high


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
