"""Examples in Python lists, NumPy arrays or single Arrow columns, as a source of rows.

open_rows(as_source(["good film", "dull"], ["pos", "neg"]), "text")
open_rows(as_source([["a", "dog"]], [["DET", "NOUN"]], inputs="tokens"), "tokens")
open_rows(as_source(np.sin(np.arange(100.0)), inputs="values"), "values")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastseq.errors import DataError, SettingsError
from fastseq.store.arrays import arrow_column, number_array, one_chunk, string_array, text_array
from fastseq.store.columns import (
    INDEX_NAME,
    LABEL_NAME,
    TAGS_NAME,
    TEXT_NAME,
    TOKENS_NAME,
    VALUE_NAME,
)
from fastseq.store.dataset import are_paths
from fastseq.store.frames import are_rows, is_arrow, is_lazy_frame, is_table
from fastseq.store.records import RecordSource
from fastseq.store.sources import Source
from fastseq.types import Texts, offsets_of


def as_source(examples: Any, targets: Any = None, inputs: str = "text") -> Any:
    """Convert the examples of an estimator to a source of open_rows.

    Parameters
    ----------
    examples : a path, a list of paths, a table, a data frame, a list of dicts or of frames:
        returned unchanged, for open_rows to resolve the columns. Otherwise one element per row:
        strings for "text" (a list, a NumPy array, types.Texts, an Arrow array or a Series); lists
        of strings for "tokens"; numbers [T] or [T, C] for "values". With targets, a table or frame
        of one column is that column.
        A list of strings is texts, unless no targets are given and every string can only be a path:
        an existing Parquet file, a folder or glob with data, a URI, or a name without white space
        that ends in ".parquet" or another suffix of data, so that a mistyped name is an error and
        not a text. A list of Path objects is paths; a NumPy array of strings is texts.
    targets : labels (strings, integers or booleans) or lists of tags, as a list, an array, a Series
        or a frame of one column; None where examples include them, or none are needed
    inputs : "text", "tokens" or "values"

    Raises DataError: an element of another type (which row), different numbers of targets and
    examples; SettingsError: targets with a file or a table of several columns, or an unreadable
    object.
    """
    text = inputs == "text"
    default = name = TEXT_NAME if text else TOKENS_NAME
    if targets is not None and is_table(examples):
        name, examples = _sole_column(examples)
    elif _is_source(examples) or (targets is None and are_paths(examples)):
        if targets is not None:
            raise SettingsError("targets are given with files, which have their own: expected None")
        return examples
    if inputs == "values":
        return _numbers(examples)
    what, others = ("texts", "labels") if text else ("lists of tokens", "lists of tags")
    data = _column(examples, what, _texts if text else _lists)
    if targets is None:
        return pa.table([data], [name])
    if is_table(targets):
        targets = _sole_column(targets)[1]
    other = _column(targets, others, _labels if text else _lists)
    if len(data) != len(other):
        raise DataError(f"{len(data)} {what}, but {len(other)} {others}: expected one for each")
    target = LABEL_NAME if text else TAGS_NAME
    return pa.table([data, other], [default if name == target else name, target])


def _is_source(examples: Any) -> bool:
    if isinstance(examples, list | tuple) and examples:
        # strings may be texts
        return are_rows(examples) or all(isinstance(path, os.PathLike) for path in examples)
    is_path = isinstance(examples, str | os.PathLike)
    return is_path or isinstance(examples, Source) or is_table(examples) or is_lazy_frame(examples)


def rows_of(examples: Any) -> Any:
    """The examples, of which an iterator of dicts is a source of rows with columns."""
    if not isinstance(examples, Iterator) or is_arrow(examples):
        return examples
    first = list(islice(examples, 1))
    rest = chain(first, examples)
    return RecordSource(rest, f"the {type(examples).__name__}") if are_rows(first) else rest


def _sole_column(table: Any) -> tuple[str, pa.ChunkedArray]:
    """The name and values of the only column of a table or frame, except an index."""
    try:
        whole = pa.table(table)
    except (pa.ArrowException, TypeError) as error:
        raise SettingsError(f"cannot read a {type(table).__name__}: {error}") from error
    frame = hasattr(table, "columns") and not isinstance(table, pa.Table | pa.RecordBatch)
    names = list(map(str, table.columns)) if frame else whole.schema.names  # without its index
    names = [name for name in names if not INDEX_NAME.fullmatch(name)]
    if len(names) != 1:
        raise SettingsError(
            f"targets are given with a table of {len(names)} columns; expected a single column "
            "of each, or a table that holds both and no targets"
        )
    return names[0], whole.column(names[0])


def _column(values: Any, what: str, convert: Callable[[Sequence[Any], str], pa.Array]) -> pa.Array:
    """An Arrow array of a column, of Texts, or of elements that `convert` converts."""
    if isinstance(values, Texts):
        return text_array(values)
    column = arrow_column(values)
    if column is not None:
        return one_chunk(column)
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise DataError(f"{what} of shape {values.shape}: expected one dimension")
        return convert(values.tolist(), what)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise SettingsError(
            f"cannot read {what} from a {type(values).__name__}; expected a list, an array, a "
            "column or a table"
        )
    return convert(values if isinstance(values, list | tuple) else list(values), what)


def _texts(elements: Sequence[Any], what: str) -> pa.Array:
    for row, text in enumerate(elements):
        if text is not None and not isinstance(text, str):
            raise DataError(f"row {row} (from 0): a {type(text).__name__}, expected a text (str)")
    return string_array(elements)


def _lists(elements: Sequence[Any], what: str) -> pa.Array:
    what = what.removeprefix("lists of ")
    lengths: list[int] = []
    flat: list[str] = []
    for row, items in enumerate(elements):
        if isinstance(items, str) or not isinstance(items, Iterable):
            found = type(items).__name__
            raise DataError(f"row {row} (from 0): a {found}, expected a list of {what}")
        before = len(flat)
        for item in items:
            if not isinstance(item, str):
                found = type(item).__name__
                raise DataError(f"row {row} (from 0): a {found} among the {what}, expected str")
            flat.append(item)
        lengths.append(len(flat) - before)
    strings = text_array(Texts.from_strings(flat))
    return pa.LargeListArray.from_arrays(number_array(offsets_of(lengths)), strings)


def _labels(elements: Sequence[Any], what: str) -> pa.Array:
    labels = [label.item() if isinstance(label, np.generic) else label for label in elements]
    kinds: dict[type, int] = {}  # and the first row of each
    for row, label in enumerate(labels):
        kind = next((kind for kind in (bool, int, str) if isinstance(label, kind)), None)
        if kind is None:
            found = "null" if label is None else f"a {type(label).__name__}, {label!r}"
            raise DataError(
                f"row {row} (from 0): the label is {found}; expected strings, integers or booleans"
            )
        kinds.setdefault(kind, row)
    if len(kinds) > 1:
        named = " and ".join(f"{kind.__name__} (row {row})" for kind, row in kinds.items())
        raise DataError(f"{what} of several types, {named}: expected one")
    if not kinds or str in kinds:
        return text_array(Texts.from_strings(labels))
    if bool in kinds:
        return pa.array(labels, pa.bool_())
    try:
        return number_array(np.array(labels, np.int64))
    except OverflowError:
        raise DataError("a label is an integer beyond 64 bits, expected smaller ones") from None


def _numbers(values: Any) -> pa.Table:
    column = arrow_column(values)
    if column is not None:
        return pa.table([one_chunk(column)], [VALUE_NAME])
    try:
        array: npt.NDArray[Any] = np.asarray(values)
    except ValueError as error:
        raise DataError(f"the numbers are ragged: {error}") from None
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf" or array.shape[1:] == (0,):
        raise DataError(
            f"a series of shape {array.shape} and type {array.dtype}: expected numbers [T] or "
            "[T, columns]"
        )
    columns = array[None] if array.ndim == 1 else array.T
    one = len(columns) == 1
    names = [VALUE_NAME if one else f"{VALUE_NAME}_{c}" for c in range(len(columns))]
    return pa.table([number_array(column, np.float64) for column in columns], names)
