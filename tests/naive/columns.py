"""Sorting, grouping and facets of rows given as dictionaries, in plain Python.

A value is None, a bool, int, float, Decimal, str, bytes, date, datetime (in UTC) or time, or a list
of such values.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cmp_to_key
from typing import Any


def rank(value: Any) -> tuple[int, Any]:
    """What compares as values do: NaN is the last of numbers, strings are compared by bytes."""
    if isinstance(value, float) and value != value:
        return 1, 0
    return 0, value.encode() if isinstance(value, str) else value


def comparison(one: Any, other: Any) -> int:
    a, b = rank(one), rank(other)
    return (a > b) - (a < b)


def shown(value: Any) -> Any:
    """A value as results contain it."""
    if isinstance(value, datetime.datetime):
        text = value.replace(tzinfo=None).isoformat()
        return (text.rstrip("0") if value.microsecond else text) + "Z"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        return value + 0.0  # -0.0 is 0.0
    return value.hex() if isinstance(value, bytes) else value


def ordered(rows: Sequence[dict[str, Any]], keys: Sequence[tuple[str, bool]]) -> list[int]:
    """The places of rows by (column, is descending) after column, nulls last, ties as they are."""

    def compare(one: int, other: int) -> int:
        for column, descending in keys:
            a, b = rows[one][column], rows[other][column]
            if a is None or b is None:
                if (a is None) != (b is None):
                    return 1 if a is None else -1
            elif found := comparison(a, b):
                return -found if descending else found
        return one - other

    return sorted(range(len(rows)), key=cmp_to_key(compare))


def same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return comparison(one, other) == 0


def first_of_groups(values: Sequence[Any]) -> list[int]:
    """The places of values that are equal to none before them."""
    return [i for i, value in enumerate(values) if not any(same(value, v) for v in values[:i])]


def distinct(value: Any) -> list[Any]:
    """The distinct values of one row that are not null."""
    every = value if isinstance(value, list) else [value]
    every = [item for item in every if item is not None]
    return [every[i] for i in first_of_groups(every)]


def missing(values: Sequence[Any]) -> int:
    return sum(not distinct(value) for value in values)


def facet(values: Sequence[Any], most: int | None) -> tuple[list[Any], list[int], int]:
    """(values, counts, sum of the other counts) of the most frequent values."""
    every = [item for value in values for item in distinct(value)]
    kinds = [every[i] for i in first_of_groups(every)]
    counts = [sum(same(kind, item) for item in every) for kind in kinds]

    def compare(one: int, other: int) -> int:
        return counts[other] - counts[one] or comparison(kinds[one], kinds[other])

    order = sorted(range(len(kinds)), key=cmp_to_key(compare))
    best = order if most is None else order[:most]
    other = sum(counts) - sum(counts[i] for i in best)
    return [shown(kinds[i]) for i in best], [counts[i] for i in best], other


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def range_counts(values: Sequence[Any], edges: Sequence[Any]) -> tuple[list[int], int]:
    """(count of each bin, count of rows with a value beyond all of them)."""

    def bin_of(item: Any) -> int:
        for number in range(len(edges) - 1):
            if not is_nan(item) and edges[number] <= item < edges[number + 1]:
                return number
        return len(edges) - 1

    bins = [{bin_of(item) for item in distinct(value)} for value in values]
    counts = [sum(number in own for own in bins) for number in range(len(edges))]
    return counts[:-1], counts[-1]


def interval_counts(values: Sequence[Any], width: Fraction) -> tuple[dict[Fraction, int], int]:
    """({low: count}, count of rows with an infinity or NaN) of bins from multiples of a width."""
    counts: dict[Fraction, int] = {}
    other = 0
    for value in values:
        items = distinct(value)
        finite = [v for v in items if not isinstance(v, float) or abs(v) < float("inf")]
        other += len(finite) < len(items)
        for low in {Fraction(item) // width * width for item in finite}:
            counts[low] = counts.get(low, 0) + 1
    return dict(sorted(counts.items())), other


def calendar_counts(values: Sequence[Any], unit: str) -> dict[str, int]:
    """{"2001-12": count} of dates or datetimes."""
    size = {"year": 4, "month": 7, "day": 10}[unit]
    counts: dict[str, int] = {}
    for value in values:
        for text in {item.isoformat()[:size] for item in distinct(value)}:
            counts[text] = counts.get(text, 0) + 1
    return dict(sorted(counts.items()))
