"""Lists of texts or of pairs of texts, with their labels or numbers, as rows with columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastseq.errors import DataError, quoted
from fastseq.types import Texts

LABEL = "label"


def rows_with_columns(examples: Any, y: Any, names: Sequence[str], label: str) -> tuple[Any, Any]:
    """Examples in a list, as (a list of dicts, None); other examples and `y` as they are.

    examples  a list or an array of texts, or of pairs of them; with `y`, anything that has
              elements. A list of anything else is returned as it is
    y         the label or number of each; None without
    names     of the column of texts, or of those of the pairs
    label     the name of the column of labels

    Raises DataError for a pair that does not consist of two texts, or for more or fewer labels.
    """
    items = _elements(examples, y is not None)
    if items is None:
        return examples, y
    if len(names) == 1:
        rows = [{names[0]: text} for text in items]
    else:
        if not items or not _may_be_pairs(items[0]) or (y is None and _are_paths(items)):
            return examples, y
        rows = []
        for row, pair in enumerate(items):
            if not _is_sequence(pair) or len(pair) != len(names):
                raise DataError(f"row {row} (from 0): {quoted(pair)}, expected a pair of texts")
            rows.append(dict(zip(names, map(_plain, pair), strict=True)))
    for row, texts in enumerate(rows):
        for text in texts.values():
            if text is not None and not isinstance(text, str):
                raise DataError(
                    f"row {row} (from 0): a {type(text).__name__}, expected a text (str)"
                )
    if y is not None:
        labels = [_plain(value) for value in (_elements(y, True) or [])]
        if len(labels) != len(rows):
            raise DataError(f"{len(rows)} texts, but {len(labels)} targets: expected one for each")
        rows = [{**texts, label: value} for texts, value in zip(rows, labels, strict=True)]
    return rows, None


def _elements(values: Any, others: bool) -> list[Any] | None:
    """The elements of a list, a tuple or an array; with `others`, of any other column."""
    if isinstance(values, list | tuple):
        return list(values)
    if isinstance(values, np.ndarray):
        return values.tolist()  # type: ignore[no-any-return]
    if not others or isinstance(values, str | dict):
        return None
    if isinstance(values, Texts):
        return list(values.to_strings())
    for name in ("to_pylist", "tolist", "to_list"):
        if hasattr(values, name):
            return list(getattr(values, name)())
    return None


def _may_be_pairs(value: Any) -> bool:
    """Whether the first of some elements is a pair, or a text or null in place of one."""
    return value is None or isinstance(value, str) or _is_sequence(value)


def _are_paths(items: list[Any]) -> bool:
    from fastseq.store.dataset import are_paths

    return isinstance(items[0], str) and are_paths(items)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
