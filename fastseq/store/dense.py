"""Columns of vectors: lists of numbers, of a fixed size or all of one length."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fastseq.errors import RowError, quoted
from fastseq.store.arrays import element_type, first_null, list_offsets, plain, plain_type
from fastseq.types import VectorRows

EXPECTED = "lists of numbers"


def is_vector(kind: pa.DataType) -> bool:
    """Whether a plain type is vectors; lists of nulls are all empty."""
    element = element_type(kind)
    if element is None:
        return bool(pa.types.is_null(kind))
    t = pa.types
    return bool(t.is_integer(element) or t.is_floating(element) or t.is_null(element))


def read_vectors(array: pa.Array, name: str, size: int | None) -> VectorRows:
    """The vectors of a column, float32[V, H]; a null or an empty list is a row without.

    name : of the column, for messages
    size : H; None for the length of the first vector, 0 where there is none

    Raises RowError for a vector of another length, with a null, or a number that is not finite as
    float32.
    """
    kind = plain_type(array.type)
    places = np.full(len(array), -1, np.int64)
    if pa.types.is_null(kind):
        return VectorRows(np.zeros((0, size or 0), np.float32), places)
    array = plain(array, kind)
    offsets = list_offsets(array)
    lengths = np.diff(offsets)
    there = np.flatnonzero(lengths)
    if size is None:
        size = int(lengths[there[0]]) if len(there) else 0
    where = f"the vector in column {quoted(name)}"
    wrong = there[lengths[there] != size]
    if len(wrong):
        row = int(wrong[0])
        raise RowError(row, f"{where} has {lengths[row]} numbers, expected {size}")
    elements = array.flatten()
    if elements.null_count:
        row = int(np.searchsorted(offsets, first_null(elements), "right")) - 1
        raise RowError(row, f"{where} has a null")
    numbers = elements.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        found = numbers.reshape(len(there), size).astype(np.float32)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        row = int(there[np.argmin(finite)])
        raise RowError(row, f"{where} has a number that is not finite")
    places[there] = np.arange(len(there))
    return VectorRows(found, places)
