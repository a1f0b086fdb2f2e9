"""Arrays as kernels take them: checked and converted arguments, and memory that is reused.

Kernels check nothing, and would be compiled a second time for read-only arrays.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.types import Float32, Int32, Int64

Saved = TypeVar("Saved")


def as_floats(x: npt.ArrayLike, what: str) -> Float32:
    """`x` as contiguous float32, without a copy where possible.

    Raises DataError, naming it `what`, where its elements are not real numbers.
    """
    try:
        given: npt.NDArray[Any] = np.asarray(x)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"{what} is no array: {error}") from error
    if given.dtype.kind not in "fiub":
        raise DataError(f"{what} is of type {given.dtype}, expected real numbers")
    return np.require(given, np.float32, ["C", "W"])


def as_numbers(ids: npt.ArrayLike, below: int, what: str, least: int = 0) -> Int32:
    """`ids` as int32[N], without a copy where possible.

    Raises DataError, naming it `what`, where it is not a vector of whole numbers from `least` to
    below - 1.
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
    given: npt.NDArray[Any] = np.asarray(offsets)
    if given.dtype.kind not in "iu":
        raise DataError(f"offsets must be whole numbers, not {given.dtype}")
    bounds = np.require(given, np.int64, ["C", "W"])
    if bounds.ndim != 1 or len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != rows:
        raise DataError(f"offsets must be a vector that starts at 0 and ends at {rows} rows")
    longer = bounds[1:] > bounds[:-1]  # so all are in 0..rows
    if not longer.all():
        raise DataError(f"sequence {int(np.argmin(longer))} is empty, expected 1 row or more")
    return bounds


def saved_by_forward(saved: Saved | None) -> Saved:
    """What a forward pass saved for `backward`; SettingsError where none did."""
    if saved is None:
        raise SettingsError("backward was called without a forward pass with training=True before")
    return saved


def as_lengths(lengths: Any, steps: int, batch: int) -> Int64:
    """int64[B] of whole numbers from 1 to `steps`; all `steps` when None.

    Raises DataError for other shapes, types and values.
    """
    if lengths is None:
        return np.full(batch, steps, np.int64)
    found = np.asarray(lengths)
    if found.shape != (batch,) or found.dtype.kind not in "iu":
        raise DataError(
            f"lengths must be {batch} whole numbers, not {found.dtype}{list(found.shape)}"
        )
    found = found.astype(np.int64)
    if found.min() < 1 or found.max() > steps:
        wrong = int(np.argmax((found < 1) | (found > steps)))
        raise DataError(f"lengths[{wrong}] is {found[wrong]}, expected 1 to {steps}")
    return found


def as_index(index: Any, rows: int) -> Int64:
    """int64[n] from whole numbers of any shape, each of 0 to `rows` - 1; DataError otherwise."""
    found = np.asarray(index)
    if found.dtype.kind not in "iu":
        raise DataError(f"index must be of whole numbers, not {found.dtype}")
    flat = np.ascontiguousarray(found.reshape(-1), np.int64)
    if len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= rows):
        wrong = flat[np.argmax((flat < 0) | (flat >= rows))]
        raise DataError(f"index {wrong} is outside the input's {rows} rows")
    return flat


def as_parts(state: Any) -> tuple[Any, ...]:
    """The arrays of a state, which is one array or several."""
    return tuple(state) if isinstance(state, tuple | list) else (state,)


class Workspace:
    """Named float32 arrays that keep their memory while they do not grow.

    A fresh large array costs a page fault for every 4 KB, which for a step of training is as much
    as a tenth of its arithmetic.
    """

    def __init__(self) -> None:
        self._buffers: dict[object, Float32] = {}

    def array(self, name: object, *shape: int) -> Float32:
        """An uninitialised array of this shape."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = aligned_zeros(size)
        return buffer[:size].reshape(shape)

    def zeros(self, name: object, *shape: int) -> Float32:
        """An array of this shape, all zero."""
        found = self.array(name, *shape)
        found.fill(0)
        return found

    def clear(self) -> None:
        """Free the memory of arrays that are not in use elsewhere."""
        self._buffers.clear()
