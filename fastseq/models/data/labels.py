"""Labels (and tags) and their numbers.

builder = LabelBuilder("int64")
codes, _ = builder.add(batch.labels)       # numbers by first occurrence
labels, mapping = builder.finish()         # mapping[codes]: numbers in ascending order of labels
labels.decode(np.array([1, 0]))            # Categories, to write as predictions
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.settings import real
from fastseq.types import Categories, Float32, Int32, Int64, Label


@dataclass(frozen=True, eq=False)
class Labels:
    """K labels, numbered 0 to K - 1 in ascending order.

    values  all strings, all integers or all booleans
    type    the type of the column, and of predictions: "string", "bool", "int64", …
    counts  int64[K]: occurrences of each in training
    """

    values: tuple[Label, ...]
    type: str
    counts: Int64

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def _numbers(self) -> dict[Label, int]:
        return {value: number for number, value in enumerate(self.values)}

    def encode(self, column: Categories) -> tuple[Int32, dict[Label, int]]:
        """int32[n], the number of each label, -1 for those unseen in training; and the counts of
        the unseen ones, the most frequent first. Raises DataError for labels of another type."""
        if column.values and not self._same_type(column.values[0]):
            raise DataError(
                f"labels such as {column.values[0]!r}; expected those of training, such as "
                f"{self.values[0]!r} ({self.type})"
            )
        numbers = [self._numbers.get(value, -1) for value in column.values]
        codes = np.array([*numbers, -1], np.int32)[column.codes]
        unseen = [at for at, number in enumerate(numbers) if number < 0]
        if not unseen:
            return codes, {}
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(numbers))
        found = {column.values[at]: int(counts[at]) for at in unseen if counts[at]}
        return codes, dict(sorted(found.items(), key=lambda item: -item[1]))

    def decode(self, codes: npt.ArrayLike) -> Categories:
        """The labels of some numbers; -1 is a missing one."""
        return Categories(self.values, np.asarray(codes, np.int32).reshape(-1))

    def weights(self, how: str | Mapping[Any, float] | None) -> Float32 | None:
        """float32[K]: the weight of each label in the loss; None for no weights.

        how  "balanced" (n / (K · count), as in scikit-learn), weights of some labels (1 for the
             others), or None. Labels that are not strings may be given as text, booleans as true
             and false in any case.

        Raises SettingsError for another word, an unknown label, a weight below 0 or only zeros.
        """
        if how is None:
            return None
        if not isinstance(how, Mapping):
            if how != "balanced":
                raise SettingsError(f"class weights {how!r}; expected balanced, or label=weight")
            balanced = self.counts.sum() / (len(self) * self.counts)
            return np.asarray(balanced, np.float32)
        weights = np.ones(len(self), np.float32)
        texts = {self._text(value): number for value, number in self._numbers.items()}
        for label, weight in how.items():
            typed = not isinstance(label, str) and self._same_type(label)
            number = self._numbers.get(label) if typed else texts.get(self._text(label))
            if number is None:
                known = ", ".join(list(texts)[:10]) + (", …" if len(self) > 10 else "")
                raise SettingsError(f"a class weight for {label!r}; the labels are {known}")
            weights[number] = real(
                f"the class weight of {label!r}", weight, lambda w: 0 <= w < math.inf, "0 or more"
            )
        if not weights.any():
            raise SettingsError("every class weight is 0: expected one above 0")
        return weights

    def to_dict(self) -> dict[str, Any]:
        """The labels as JSON."""
        return {"values": list(self.values), "type": self.type, "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Labels:
        """The labels of `to_dict`. Raises FormatError if they are damaged."""
        try:
            values, kind = tuple(saved["values"]), str(saved["type"])
            counts = np.array(saved["counts"], np.int64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"the saved labels are damaged: {error!r}") from None
        expected = {"string": str, "bool": bool}.get(kind, int)
        if len(counts) != len(values) or any(type(value) is not expected for value in values):
            raise FormatError(f"the saved labels are damaged: expected {len(counts)} of {kind}")
        return cls(values, kind, counts)

    def _text(self, label: object) -> str:
        """A label as text; booleans in lower case, as in JSON."""
        return str(label).lower() if self.type == "bool" else str(label)

    def _same_type(self, value: object) -> bool:
        """Whether a label has the type of training; types are compared since True == 1."""
        return type(value) is type(self.values[0])


class LabelBuilder:
    """Collects labels while they are read, of a column's type ("string", "bool" or that of
    integers); `what` is the name of a label in messages."""

    def __init__(self, type: str, what: str = "label") -> None:
        self._type = type
        self._what = what
        self._numbers: dict[Label, int] = {}
        self._counts: list[int] = []

    def add(self, column: Categories) -> tuple[Int32, dict[Label, int]]:
        """int32[n]: numbers of labels, none missing, by first occurrence; and no unseen ones, see
        Labels.encode."""
        numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in column.values]
        self._counts += [0] * (len(self._numbers) - len(self._counts))
        codes = np.array(numbers, np.int32)[column.codes]
        for number, count in enumerate(np.bincount(codes).tolist()):
            self._counts[number] += count
        return codes, {}

    def finish(self, source: str = "") -> tuple[Labels, Int32]:
        """The labels that occurred, and int32[n]: the number of each first-occurrence number.
        Raises DataError, which names the `source`, if fewer than two labels occurred."""
        seen = [value for value, number in self._numbers.items() if self._counts[number]]
        if len(seen) < 2:
            found = f"a single {self._what}, {seen[0]!r}," if seen else f"no {self._what}"
            count = sum(self._counts)
            of = ("row" if self._what == "label" else "token") + ("" if count == 1 else "s")
            raise DataError(
                f"{source}{': ' if source else ''}{found} in {count} {of}: nothing to tell apart, "
                "expected at least 2"
            )
        values = tuple(sorted(seen))  # type: ignore[type-var]
        order = [self._numbers[value] for value in values]
        mapping = np.full(len(self._numbers), -1, np.int32)
        mapping[order] = np.arange(len(values), dtype=np.int32)
        counts = np.array([self._counts[number] for number in order], np.int64)
        return Labels(values, self._type, counts), mapping


def unseen_message(unseen: Mapping[Label, int], rows: int, what: str = "label") -> str | None:
    """One line about labels that training did not have; None if there are none."""
    if not unseen:
        return None
    named = ", ".join(repr(label) for label in list(unseen)[:5]) + (
        ", …" if len(unseen) > 5 else ""
    )
    have = "rows have a label" if what == "label" else "tokens have a tag"
    return f"{sum(unseen.values()):,} of {rows:,} {have} unseen in training: {named}"
