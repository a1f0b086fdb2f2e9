"""Ragged arrays, sequence after sequence in one run of values: taking some of them out."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.types import Int64

Scalar = TypeVar("Scalar", bound=np.generic)


def places(starts: Int64, lengths: Int64) -> Int64:
    """int64[lengths.sum()]: starts[0], starts[0] + 1, …, lengths[0] of them, then those of 1, …"""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    out: Int64 = np.repeat(starts - (ends - lengths), lengths)
    out += np.arange(total)
    return out


def gathered(values: npt.NDArray[Scalar], starts: Int64, lengths: Int64) -> npt.NDArray[Scalar]:
    """values[starts[i]:starts[i] + lengths[i]] for every i, one after the other."""
    taken: npt.NDArray[Any] = values[places(starts, lengths)]
    return taken


def offsets_of(lengths: Int64) -> Int64:
    """int64[n + 1]: where sequences of these lengths start and end, from 0."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def fitted(
    values: npt.NDArray[Scalar], offsets: Int64, longest: int | None, filler: int
) -> tuple[npt.NDArray[Scalar], Int64]:
    """Sequences of 1 to `longest` values: the first ones of a longer one, `filler` alone for an
    empty one; (values, offsets int64[n + 1])."""
    lengths = np.diff(offsets)
    kept = lengths if longest is None else np.minimum(lengths, longest)
    if np.any(kept < lengths):
        values = gathered(values, offsets[:-1], kept)
    empty = np.flatnonzero(kept == 0)
    if len(empty):
        values = np.insert(values, np.cumsum(kept)[empty], filler)
    return values, offsets_of(np.maximum(kept, 1))
