"""Arrays as kernels take them: the right type and shape, contiguous, writable; or a clear error.

Kernels check nothing, and read-only arrays would be compiled for a second time.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.types import Float32, Int32, Int64

Kept = TypeVar("Kept")


def as_rows(x: npt.ArrayLike, width: int, what: str) -> Float32:
    """`x` as float32[N, width], itself where it is so already.

    Raises DataError, naming it `what`, where it is of another shape.
    """
    rows = np.require(x, np.float32, ["C", "W"])
    if rows.ndim != 2 or rows.shape[1] != width:
        raise DataError(f"{what} is of shape {list(rows.shape)}, expected [N, {width}]")
    return rows


def as_numbers(ids: npt.ArrayLike, below: int, what: str, least: int = 0) -> Int32:
    """`ids` as int32[N], itself where it is so already.

    Raises DataError, naming it `what`, where it is no vector of whole numbers or one of them is
    not in least..below - 1.
    """
    numbers: npt.NDArray[Any] = np.asarray(ids)
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and len(numbers)):
        raise DataError(
            f"{what} is of shape {list(numbers.shape)} and type {numbers.dtype}, "
            "expected a vector of whole numbers"
        )
    if len(numbers) and (numbers.min() < least or numbers.max() >= below):
        wrong = int(np.argmax((numbers < least) | (numbers >= below)))
        raise DataError(
            f"{what} holds {int(numbers[wrong])} at {wrong}, expected {least} to {below - 1}"
        )
    return np.require(numbers, np.int32, ["C", "W"])


def as_offsets(offsets: npt.ArrayLike, rows: int) -> Int64:
    """`offsets` as int64[B + 1] of sequences that fill `rows` rows, none empty; else DataError."""
    bounds = np.require(offsets, np.int64, ["C", "W"])
    if bounds.ndim != 1 or len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != rows:
        raise DataError(f"offsets must be a vector that starts at 0 and ends at {rows} rows")
    lengths = bounds[1:] - bounds[:-1]
    if lengths.min() < 1:
        raise DataError(f"sequence {int(np.argmax(lengths < 1))} is empty, expected 1 row or more")
    return bounds


def kept_by_forward(kept: Kept | None) -> Kept:
    """What a forward pass kept for `backward`; SettingsError where none did."""
    if kept is None:
        raise SettingsError("backward was called without a forward pass with training=True before")
    return kept
