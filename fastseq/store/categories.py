"""A column of few distinct values, as numbers and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastseq.types import Int32

Label = str | int | bool


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """Labels or tags, n of them.

    values  the distinct ones, all strings, all integers or all booleans
    codes   int32[n]: element i is values[codes[i]]; -1 for one that is missing
    """

    values: tuple[Label, ...]
    codes: Int32

    def __len__(self) -> int:
        return len(self.codes)

    def to_list(self) -> list[Any]:
        """The n values; None for those that are missing."""
        known = (*self.values, None)
        return [known[code] for code in self.codes.tolist()]
