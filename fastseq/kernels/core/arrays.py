"""Types of arrays, and aligned arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ALIGNED = 16  # floats: 64 bytes, the size of the largest vector register


def address_of(array: npt.NDArray[Any]) -> int:
    """Where the data of an array begin in memory; valid as long as the array lives."""
    return int(array.__array_interface__["data"][0])


def aligned_zeros(n: int) -> Float32:
    """float32[n] of zeros that starts at a multiple of 64 bytes."""
    raw = np.zeros(n + ALIGNED, np.float32)
    skip = -(raw.ctypes.data // 4) % ALIGNED
    return raw[skip : skip + n]
