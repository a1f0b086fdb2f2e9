"""Bins of the distinct values of a column: intervals of a width, units of the calendar, ranges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil, inf
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, SettingsError, quoted
from fastseq.store.arrays import element_type
from fastseq.store.column_values import ColumnValues, numbers_of
from fastseq.store.filters import compare, moments
from fastseq.types import Int32

_MOST_BINS = 10_000  # of an interval of numbers
_UNITS = {"year": "Y", "month": "M", "day": "D"}

Bins = tuple[list[Any], Int32]


def interval_bins(column: ColumnValues, interval: Decimal | str) -> Bins:
    """The labels of B bins, ascending, and int32[D] the bin of each distinct value, B for none.

    interval : "year", "month" or "day" for dates and timestamps, in UTC; labels are text such as
        "2001-12". A width for numbers: bins begin at its multiples; labels are (low, high) for low
        <= value < high. Infinity and NaN have no bin

    Raises DataError for a column of another type, SettingsError for more than 10,000 bins of a
    width.
    """
    kind = _kind_of(column)
    if isinstance(interval, str):
        if not pa.types.is_date(kind) and not pa.types.is_timestamp(kind):
            raise _unlike(column, f"the interval {interval} requires dates or timestamps")
        return _calendar_bins(column.values, _UNITS[interval])
    if not _has_numbers(kind):
        raise _unlike(column, "the width of an interval requires numbers")
    bins = np.zeros(len(column.values), np.int32)
    labels: list[Any] = []
    numbers = _Numbers(column.values)
    width = Fraction(interval)
    at, end = numbers.finite()
    bins[:at] = bins[end:] = -1
    while at < end:
        number = numbers[at] // width
        if numbers.below((number + 1) * width) <= at:  # an edge is the nearest float of the type
            number += 1
        after = max(numbers.below((number + 1) * width), at + 1)
        if len(labels) == _MOST_BINS:
            raise SettingsError(
                f"facet: an interval of {interval} makes more than {_MOST_BINS:,} bins of the "
                f"column {quoted(column.name)}"
            )
        bins[at:after] = len(labels)
        labels.append((_label(number * width), _label((number + 1) * width)))
        at = after
    bins[bins < 0] = len(labels)
    return labels, bins


def range_bins(column: ColumnValues, edges: Sequence[Decimal | str]) -> Bins:
    """The labels of B bins and int32[D] the bin of each distinct value, B for none.

    edges : B + 1, ascending. A bin has the values for which a filter `value >= low and value <
        high` is true; its label is (low, high)

    Raises DataError for a column that has neither numbers, dates nor times, and for edges of
    another type; SettingsError for edges that do not ascend.
    """
    kind = _kind_of(column)
    is_time = pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind)
    if not _has_numbers(kind) and not is_time:
        raise _unlike(column, "ranges require numbers, dates or times")
    if is_time:
        below, order = _times_below(column, edges)
    else:
        below, order = _numbers_below(column, edges)
    if any(low >= high for low, high in pairwise(order)):
        raise SettingsError(
            f"facet: the edges {', '.join(map(str, edges))} of the column {quoted(column.name)} "
            "do not "
            "ascend"
        )
    bins = np.full(len(column.values), len(edges) - 1, np.int32)
    for number, (low, high) in enumerate(pairwise(below)):
        bins[low:high] = number
    labels = [edge if isinstance(edge, str) else _label(edge) for edge in edges]
    return list(pairwise(labels)), bins


def _calendar_bins(values: pa.Array, unit: str) -> Bins:
    kind = values.type
    own = kind.unit if pa.types.is_timestamp(kind) else "D" if kind == pa.date32() else "ms"
    times = numbers_of(values).astype(np.int64).view(f"datetime64[{own}]")
    units = times.astype(f"datetime64[{unit}]")
    is_first = np.ones(len(units), np.bool_)
    is_first[1:] = units[1:] != units[:-1]
    return list(map(str, units[is_first])), np.cumsum(is_first, dtype=np.int32) - np.int32(1)


def _times_below(column: ColumnValues, edges: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Of each edge the values below it, and a number that is in the order of edges."""
    import pyarrow.compute as pc

    below, order = [], []
    for edge in edges:
        if not isinstance(edge, str):
            raise _unlike(column, f"{edge} is no date or time")
        times, moment = moments(column.values, column.name, edge)
        below.append(int(np.count_nonzero(numbers_of(pc.less(times, moment)))))
        order.append(moment.value)
    return below, order


def _numbers_below(column: ColumnValues, edges: Sequence[Any]) -> tuple[list[int], list[Any]]:
    """Of each edge the values below it, and a number that is in the order of edges."""
    below = []
    for edge in edges:
        if isinstance(edge, str):
            raise _unlike(column, f"{edge!r:.80} is no number")
        if edge.is_infinite() and not pa.types.is_floating(column.values.type):
            below.append(len(column.values) if edge > 0 else 0)
        else:
            is_below = compare(column.values, column.name, "<", edge)
            below.append(int(np.count_nonzero(numbers_of(is_below))))
    return below, list(edges)


class _Numbers:
    """Ascending numbers, with NaN at the end, as exact fractions."""

    def __init__(self, values: pa.Array) -> None:
        is_decimal = pa.types.is_decimal(values.type)
        self._numbers: Any = values.to_pylist() if is_decimal else numbers_of(values)

    def __getitem__(self, at: int) -> Fraction:
        number = self._numbers[at]
        return Fraction(number if isinstance(number, Decimal) else number.item())

    def below(self, edge: Fraction) -> int:
        """How many are below an edge; of floats, below the nearest float of the type."""
        numbers = self._numbers
        if isinstance(numbers, list):
            return bisect_left(numbers, edge, key=Fraction)
        if numbers.dtype.kind == "f":
            with np.errstate(over="ignore"):
                return int(np.searchsorted(numbers, numbers.dtype.type(_float(edge))))
        whole, limits = ceil(edge), np.iinfo(numbers.dtype)
        if not limits.min <= whole <= limits.max:
            return 0 if whole < 0 else len(numbers)
        return int(np.searchsorted(numbers, numbers.dtype.type(whole)))

    def finite(self) -> tuple[int, int]:
        """The places of the first that is finite, and after the last."""
        numbers = self._numbers
        if isinstance(numbers, list) or numbers.dtype.kind != "f":
            return 0, len(numbers)
        low, high = numbers.dtype.type(-inf), numbers.dtype.type(inf)
        return int(np.searchsorted(numbers, low, "right")), int(np.searchsorted(numbers, high))


def _label(edge: Fraction | Decimal) -> int | float:
    """An edge as a number: exact where it is an integer of at most 64 bits."""
    if isinstance(edge, Decimal) and edge.is_infinite():
        return float(edge)
    edge = Fraction(edge)
    return int(edge) if edge.denominator == 1 and abs(edge) < 1 << 64 else _float(edge)


def _float(edge: Fraction) -> float:
    try:
        return float(edge)
    except OverflowError:
        return inf if edge > 0 else -inf


def _kind_of(column: ColumnValues) -> pa.DataType:
    """The type of the values, or of the elements of lists."""
    return column.kind if column.offsets is None else element_type(column.kind)


def _has_numbers(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind))


def _unlike(column: ColumnValues, problem: str) -> DataError:
    return DataError(f"facet: the column {quoted(column.name)} is {column.kind}; {problem}")
