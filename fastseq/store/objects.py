"""Examples held in Python lists, NumPy arrays or single Arrow columns, as a source of rows.

open_rows(as_source(["good film", "dull"], ["pos", "neg"]), "text")
open_rows(as_source([["a", "dog"]], [["DET", "NOUN"]], inputs="tokens"), "tokens")
open_rows(as_source(np.sin(np.arange(100.0)), inputs="values"), "values")
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastseq.errors import DataError, SettingsError
from fastseq.store.arrays import INT32_MAX, int64_array
from fastseq.store.columns import (
    INDEX_NAME,
    LABEL_NAME,
    TAGS_NAME,
    TEXT_NAME,
    TOKENS_NAME,
    VALUE_NAME,
)
from fastseq.store.sources import PARQUET, SUFFIX, holds_parquet
from fastseq.types import Texts


def as_source(examples: Any, targets: Any = None, inputs: str = "text") -> Any:
    """What open_rows takes, of whatever examples an estimator was given.

    Parameters
    ----------
    examples : a path, a list of paths, a table, a data frame: returned as it is, its columns to be
        settled there. Else one element for each row: strings for "text" (a list, a NumPy array,
        types.Texts, an Arrow array or a Series); lists of strings for "tokens"; numbers [T] or
        [T, C] for "values". Beside targets a table or frame of one column is that column.
        A list of strings is texts, unless every string can only be a path and no targets are
        given: an existing Parquet file, a folder or glob with some, or a name without white space
        that ends in ".parquet", so that a mistyped name is reported and not read as a text. A list
        of Path objects is paths, a NumPy array of strings texts, whatever they are.
    targets : labels (strings, integers or booleans) or lists of tags, as a list, an array, a Series
        or a frame of one column; None where examples have them, or none are wanted
    inputs : "text", "tokens" or "values"

    Raises
    ------
    DataError
        An element of another type (which row), as many targets as examples not being there.
    SettingsError
        Targets beside a file or a table of several columns, or something that cannot be read at
        all.
    """
    name = TEXT_NAME if inputs == "text" else TOKENS_NAME
    if targets is not None and _is_table(examples):
        name, examples = _sole_column(examples)
    elif _is_source(examples) or (targets is None and _are_paths(examples)):
        if targets is not None:
            raise SettingsError(
                "targets are given beside files, which have their own: expected None"
            )
        return examples
    if inputs == "values":
        return _numbers(examples)
    arrays = [_texts(examples)] if inputs == "text" else [_lists(examples, "tokens")]
    names = [name]
    if targets is not None:
        if _is_table(targets):
            targets = _sole_column(targets)[1]
        arrays.append(_labels(targets) if inputs == "text" else _lists(targets, "tags"))
        names.append(LABEL_NAME if inputs == "text" else TAGS_NAME)
        if names[0] == names[1]:
            names[0] = TEXT_NAME if inputs == "text" else TOKENS_NAME
        if len(arrays[0]) != len(arrays[1]):
            raise DataError(
                f"{len(arrays[0])} {'texts' if inputs == 'text' else 'lists of tokens'}, but "
                f"{len(arrays[1])} {'labels' if inputs == 'text' else 'lists of tags'}: expected "
                "one for each"
            )
    return pa.table(arrays, names)


def _is_source(examples: Any) -> bool:
    if isinstance(examples, str | os.PathLike | pa.Table | pa.RecordBatch | pa.RecordBatchReader):
        return True
    if isinstance(examples, list | tuple) and examples:
        return all(isinstance(path, os.PathLike) for path in examples)  # strings may be texts
    return _is_table(examples)


def _is_table(values: Any) -> bool:
    """Whether it has columns, which a data frame names and a stream's schema does."""
    arrow = hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__")
    return arrow and (hasattr(values, "columns") or hasattr(values, "schema"))


def _sole_column(table: Any) -> tuple[str, pa.Array]:
    """The name and values of the only column of a table or frame, beside an index."""
    try:
        whole = pa.table(table)
    except (pa.ArrowException, TypeError) as error:
        raise SettingsError(f"cannot read a {type(table).__name__}: {error}") from error
    frame = hasattr(table, "columns") and not isinstance(table, pa.Table | pa.RecordBatch)
    names = list(map(str, table.columns)) if frame else whole.schema.names  # without its index
    names = [name for name in names if not INDEX_NAME.fullmatch(name)]
    if len(names) != 1:
        raise SettingsError(
            f"targets are given beside a table of {len(names)} columns; expected a single column "
            "of each, or a table that holds both and no targets"
        )
    return names[0], _column(whole.column(names[0]))


def _are_paths(examples: Any) -> bool:
    if not isinstance(examples, list | tuple) or not examples:
        return False
    return all(_is_path(each) for each in examples)


def _is_path(text: Any) -> bool:
    if not isinstance(text, str):
        return isinstance(text, os.PathLike)
    if text.lower().endswith(SUFFIX) and len(text.split()) == 1:
        return True
    try:
        if os.path.isdir(text):
            return holds_parquet(Path(text))
        if glob.has_magic(text) and not os.path.exists(text):
            return any(match.lower().endswith(SUFFIX) for match in glob.iglob(text, recursive=True))
        with open(text, "rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except (OSError, ValueError):  # no such file, or nothing that a file can be called
        return False


def _column(values: Any) -> pa.Array | None:
    """An Arrow array of what is one already; None for everything else."""
    try:
        if isinstance(values, pa.ChunkedArray):
            column = values
        elif isinstance(values, pa.Array):
            return values
        elif hasattr(values, "__arrow_c_stream__"):
            column = pa.chunked_array(values)
        elif hasattr(values, "__arrow_c_array__"):
            return pa.array(values)
        else:
            return None
    except (pa.ArrowException, TypeError) as error:
        raise SettingsError(f"cannot read a {type(values).__name__}: {error}") from error
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _elements(values: Any, what: str) -> Sequence[Any]:
    if isinstance(values, list | tuple):
        return values
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise DataError(f"{what} of shape {values.shape}: expected one dimension")
        listed: list[Any] = values.tolist()
        return listed
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise SettingsError(
            f"cannot read {what} from a {type(values).__name__}; expected a list, an array, a "
            "column or a table"
        )
    return list(values)


def _strings(values: Sequence[str]) -> pa.Array:
    """An Arrow array of strings that are known to be such. A lone surrogate becomes the invalid
    bytes it encodes to, which whoever reads them finds."""
    return _of_texts(Texts.from_strings(values))


def _of_texts(texts: Texts) -> pa.Array:
    large = texts.nbytes > INT32_MAX
    offsets = texts.offsets if large else texts.offsets.astype(np.int32)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(texts.data)]
    return pa.Array.from_buffers(pa.large_string() if large else pa.string(), len(texts), buffers)


def _texts(values: Any) -> pa.Array:
    if isinstance(values, Texts):
        return _of_texts(values)
    column = _column(values)
    if column is not None:
        return column
    elements = _elements(values, "texts")
    for row, text in enumerate(elements):
        if text is not None and not isinstance(text, str):
            raise DataError(f"row {row} (from 0): a {type(text).__name__}, expected a text (str)")
    if None in elements:
        return pa.array([None if t is None else t for t in elements], pa.string())
    return _strings(elements)


def _lists(values: Any, what: str) -> pa.Array:
    column = _column(values)
    if column is not None:
        return column
    rows = _elements(values, f"lists of {what}")
    offsets = np.zeros(len(rows) + 1, np.int64)
    flat: list[str] = []
    for row, items in enumerate(rows):
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise DataError(
                f"row {row} (from 0): a {type(items).__name__}, expected a list of {what}"
            )
        for item in items:
            if not isinstance(item, str):
                raise DataError(
                    f"row {row} (from 0): a {type(item).__name__} among the {what}, expected str"
                )
            flat.append(item)
        offsets[row + 1] = len(flat)
    return pa.LargeListArray.from_arrays(int64_array(offsets), _strings(flat))


def _labels(values: Any) -> pa.Array:
    column = _column(values)
    if column is not None:
        return column
    elements = _elements(values, "labels")
    kinds: dict[type, int] = {}  # and the first row that has it
    for row, label in enumerate(elements):
        if isinstance(label, np.generic):
            label = label.item()
        kind = next((kind for kind in (bool, int, str) if isinstance(label, kind)), None)
        if kind is None:
            found = "null" if label is None else f"a {type(label).__name__}, {label!r}"
            raise DataError(
                f"row {row} (from 0): the label is {found}; expected strings, integers or booleans"
            )
        kinds.setdefault(kind, row)
    if len(kinds) > 1:
        named = " and ".join(f"{kind.__name__} (row {row})" for kind, row in kinds.items())
        raise DataError(f"labels of several types, {named}: expected one")
    if not kinds or str in kinds:
        return _strings([str(label) for label in elements])
    if bool in kinds:
        return pa.array([bool(label) for label in elements], pa.bool_())
    try:
        return int64_array(np.array([int(label) for label in elements], np.int64))
    except OverflowError:
        raise DataError("a label is an integer beyond 64 bits, expected smaller ones") from None


def _numbers(values: Any) -> pa.Table:
    column = _column(values)
    if column is not None:
        return pa.table([column], [VALUE_NAME])
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
    table = np.ascontiguousarray(columns, np.float64)
    names = [VALUE_NAME] if len(table) == 1 else [f"{VALUE_NAME}_{c}" for c in range(len(table))]
    arrays = [
        pa.Array.from_buffers(pa.float64(), len(row), [None, pa.py_buffer(row)]) for row in table
    ]
    return pa.table(arrays, names)
