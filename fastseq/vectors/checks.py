"""What words, their counts and their vectors must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.types import Int64

_NUMBERS = 1 << 20  # looked at together


def check_words(words: Sequence[str], expected: int) -> None:
    """Raise DataError unless these are `expected` different strings of valid Unicode, none of
    them empty."""
    if len(words) != expected:
        raise DataError(f"{len(words):,} words, but {expected:,} vectors: expected one for each")
    for number, word in enumerate(words):
        if not isinstance(word, str) or not word:
            raise DataError(f"word {number} (from 0) is {word!r}, expected a string")
    if len(set(words)) != len(words):
        seen: set[str] = set()
        for number, word in enumerate(words):
            if word in seen:
                raise DataError(
                    f"word {number} (from 0), {word!r}, is there twice: expected different words"
                )
            seen.add(word)
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        for number, word in enumerate(words):
            if any("\ud800" <= c <= "\udfff" for c in word):
                raise DataError(
                    f"word {number} (from 0), {word!r}, is no valid Unicode text"
                ) from None


def check_counts(counts: npt.ArrayLike, expected: int) -> Int64:
    """int64[expected] of counts. Raises DataError for other numbers or another number of them."""
    values = np.asarray(counts)
    if values.shape != (expected,) or values.dtype.kind not in "iu":
        raise DataError(
            f"counts are {values.dtype} of shape {values.shape}, expected whole numbers, one for "
            f"each of {expected:,} words"
        )
    if len(values) and values.min() < 0:
        raise DataError(f"the count of word {int(values.argmin())} (from 0) is negative")
    return values.astype(np.int64)


def check_finite(name: str, array: npt.NDArray[Any]) -> None:
    """Raise DataError, naming the row, for an array that holds a NaN or an infinity."""
    if not array.size:
        return
    rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    step = max(1, _NUMBERS // rows.shape[1])
    for start in range(0, len(rows), step):
        finite = np.isfinite(rows[start : start + step]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise DataError(f"{name}: row {row} (from 0) holds a number that is not finite")
