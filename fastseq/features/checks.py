"""Settings of features, checked."""

from __future__ import annotations

import math
import numbers

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError


def check_flag(name: str, value: object) -> None:
    """Raise SettingsError unless True or False."""
    if not isinstance(value, bool | np.bool_):
        raise SettingsError(f"{name} is {value!r}; expected True or False")


def check_bounds(min_df: object, max_df: object, max_features: object) -> None:
    """Raise SettingsError unless they are what Features says."""
    for name, value in (("min_df", min_df), ("max_df", max_df)):
        whole = _is_whole(value) and value >= 1  # type: ignore[operator]
        share = (
            isinstance(value, numbers.Real)
            and not isinstance(value, numbers.Integral)
            and 0.0 <= float(value) <= 1.0
        )
        if not (whole or share):
            raise SettingsError(
                f"{name} is {value!r}; expected a number of texts from 1, or a share 0.0 to 1.0"
            )
    if max_features is not None and not (_is_whole(max_features) and max_features >= 1):  # type: ignore[operator]
        raise SettingsError(f"max_features is {max_features!r}; expected a whole number from 1")


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


def kind_of(dtype: npt.DTypeLike) -> str:
    """NumPy's letter for the kind of a dtype, "?" for what is none."""
    try:
        return np.dtype(dtype).kind
    except (TypeError, ValueError, SyntaxError):
        return "?"


def check_float(dtype: npt.DTypeLike) -> None:
    """Raise SettingsError unless float64 or float32."""
    if kind_of(dtype) != "f" or np.dtype(dtype).itemsize not in (4, 8):
        raise SettingsError(f"dtype is {dtype!r}; expected float64 or float32")


def check_number(name: str, value: float, high: float) -> None:
    """Raise SettingsError unless 0 <= value <= high, and finite."""
    try:
        fits = 0 <= value <= high and math.isfinite(value)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        bounds = f"between 0 and {high}" if high < math.inf else "0 or more"
        raise SettingsError(f"{name} must be {bounds}, not {value!r}")
