"""Operations on single numbers that a kernel needs and Python has no sign for.

`fma`, `bits` and `from_bits` are one instruction each; the simulator has them in NumPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastseq.kernels.core import formulas
from fastseq.kernels.cuda.runtime.target import SIMULATED, device_function

__all__ = [
    "absolute",
    "bits",
    "copy_four",
    "exp",
    "fma",
    "from_bits",
    "load_acquired",
    "maximum",
    "minimum",
    "sigmoid",
    "square_root",
    "tanh",
    "wait_for_copies",
]

if SIMULATED:

    def fma(a: Any, b: Any, c: Any) -> Any:
        """a b + c; the product of two float32 is exact in float64."""
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))

    def bits(x: Any) -> Any:
        """int32, the bits of a float32."""
        return np.float32(x).view(np.int32)

    def from_bits(i: Any) -> Any:
        """The float32 of these bits."""
        return np.int32(i).view(np.float32)

    def copy_four(out: Any, i: Any, array: Any, j: Any) -> None:
        """out[i:i + 4] = array[j:j + 4], at once."""
        for n in range(4):
            out[i + n] = array[j + n]

    def wait_for_copies() -> None:
        """They are there."""

    def load_acquired(array: Any, i: Any) -> Any:
        """array[i]"""
        return array[i]

    @device_function
    def square_root(x):
        """√x of float32, rounded to nearest."""
        return np.float32(math.sqrt(x))

else:
    from fastseq.kernels.cuda.runtime.instructions import (
        bits,
        copy_four,
        fma,
        from_bits,
        load_acquired,
        wait_for_copies,
    )

    @device_function
    def square_root(x):
        """The same."""
        return math.sqrt(x)


@device_function
def minimum(a, x):
    """The smaller one; x where there is a NaN."""
    return a if a < x else x


@device_function
def maximum(a, x):
    """The larger one; x where there is a NaN."""
    return a if a > x else x


@device_function
def absolute(x):
    """|x|, of float32."""
    return from_bits(bits(x) & np.int32(0x7FFFFFFF))


exp, sigmoid, tanh = formulas.elementary(
    device_function, fma, minimum, maximum, absolute, bits, from_bits
)
