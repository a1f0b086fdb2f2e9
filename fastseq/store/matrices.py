"""Document-term matrices in files: SciPy's .npz or long-form Parquet, and their terms."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastseq.errors import DataError, FormatError
from fastseq.store.arrays import (
    INT32_MAX,
    int64_array,
    is_string,
    plain,
    plain_type,
    to_texts,
)
from fastseq.store.atomic import reason, written_whole
from fastseq.store.identify import NPZ_COMMENT
from fastseq.store.parquet import KEY, parquet_file, parquet_writer
from fastseq.types import Float64, Int64, Texts

VERSION = 1
_ROWS = 1 << 20  # of the long form, written at a time


@dataclass(frozen=True, slots=True)
class Outputs:
    """The two files of a matrix.

    matrix  rows and columns, as .npz or .parquet
    terms   what the columns are, and what is needed to make another such matrix
    """

    matrix: Path
    terms: Path

    @staticmethod
    def of(out: str | os.PathLike[str]) -> Outputs:
        """`out` is OUT, OUT.npz, OUT.parquet or OUT.terms.parquet, with OUT of any name."""
        path = Path(out)
        name = path.name.removesuffix(".terms.parquet")
        long_form = name == path.name and name.endswith(".parquet")
        name = name.removesuffix(".npz").removesuffix(".parquet")
        return Outputs(
            path.with_name(f"{name}{'.parquet' if long_form else '.npz'}"),
            path.with_name(f"{name}.terms.parquet"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SavedTerms:
    """What a terms file holds: the terms in the order of their columns."""

    terms: Texts
    df: Int64
    settings: dict[str, Any]
    statistics: dict[str, int]


def write_features(
    outputs: Outputs,
    matrix: Any,
    terms: SavedTerms,
    weights: Mapping[str, Float64],
    ids: Sequence[pa.Array] | None,
) -> None:
    """Write a matrix and its terms, both whole or neither.

    Parameters
    ----------
    matrix : scipy.sparse CSR, a column for each term
    weights : further columns of the terms file, float64[V] each
    ids : of the rows, in the long form; None: their numbers, from 0

    Raises
    ------
    SettingsError
        A path is a folder, or its folder does not exist.
    FastseqError
        The system refuses.
    """
    strings = _string_array(terms.terms)
    # neither takes its name before both are written
    with written_whole(outputs.matrix) as first, written_whole(outputs.terms) as second:
        _write_terms(second, strings, terms, weights)
        if outputs.matrix.suffix == ".parquet":
            _write_long(first, matrix, strings, ids)
        else:
            _write_npz(first, matrix)


def read_terms(out: str | os.PathLike[str]) -> SavedTerms:
    """The terms file of an earlier output, named by either of its files or without a suffix.

    Raises
    ------
    DataError
        There is none.
    FormatError
        It is damaged, of another format version, or not one of these.
    """
    path = Outputs.of(out).terms
    try:
        with parquet_file(path) as file:
            told = (file.schema_arrow.metadata or {}).get(KEY)
            table = file.read(columns=["term", "df"]) if told is not None else None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected the terms of an earlier output") from None
    except (pa.ArrowException, OSError) as error:
        raise FormatError(
            f"{path}: not a Parquet file, or one cut short ({reason(error)})"
        ) from error
    if told is None or table is None:
        raise FormatError(f"{path}: not a terms file of fastseq features")
    try:
        content = json.loads(told)
        version = content["format_version"]
        settings, statistics = content["settings"], content["statistics"]
        if version != VERSION:
            raise FormatError(f"{path}: of format version {version!r}, expected {VERSION}")
        kind = plain_type(table.schema.field("term").type)
        chunks = table.column("term").combine_chunks()
        parts = chunks.chunks if isinstance(chunks, pa.ChunkedArray) else [chunks]
        column = pa.concat_arrays([plain(part, kind) for part in parts] or [pa.array([], kind)])
        counts = table.column("df")
        if not is_string(kind) or counts.type != pa.int64():
            raise ValueError(f"its columns are {kind} and {counts.type}, expected string and int64")
        if column.null_count or counts.null_count or not isinstance(settings, dict):
            raise ValueError("it has nulls")
        df = np.array(counts.to_numpy(), np.int64)
        statistics = {name: int(statistics[name]) for name in ("documents", "tokens")}
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        raise FormatError(f"{path}: damaged: {reason(error)}") from error
    return SavedTerms(to_texts(column), df, settings, statistics)


def _write_terms(
    path: Path, strings: pa.Array, terms: SavedTerms, weights: Mapping[str, Float64]
) -> None:
    arrays = [strings, int64_array(terms.df)]
    arrays += [_float64_array(values) for values in weights.values()]
    content = {
        "kind": "terms",
        "format_version": VERSION,
        "settings": terms.settings,
        "statistics": terms.statistics,
    }
    table = pa.Table.from_arrays(
        arrays,
        ["term", "df", *weights],
        metadata={KEY: json.dumps(content, ensure_ascii=False).encode()},
    )
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)


def _write_npz(path: Path, matrix: Any) -> None:
    """What scipy.sparse.load_npz reads; not compressed, which would take longer than all else."""
    import scipy.sparse

    with open(path, "wb") as file:
        scipy.sparse.save_npz(file, matrix, compressed=False)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = NPZ_COMMENT


def _write_long(path: Path, matrix: Any, strings: pa.Array, ids: Sequence[pa.Array] | None) -> None:
    """One row for each value: id (or row), term, value; ascending by row, then by term."""
    names = None if ids is None else pa.concat_arrays(ids) if ids else pa.array([], pa.string())
    kind = pa.int64() if names is None else names.type
    value = pa.from_numpy_dtype(matrix.dtype)
    key = "row" if names is None else "id"
    schema = pa.schema([(key, kind), ("term", pa.string()), ("value", value)])
    indptr: Int64 = matrix.indptr.astype(np.int64)
    start = 0
    # without Arrow's own schema, large_string is a string to every reader
    with parquet_writer(path, schema, "matrix", store_schema=False) as writer:
        while start < matrix.shape[0]:
            stop = int(np.searchsorted(indptr, indptr[start] + _ROWS, "right")) - 1
            stop = min(max(stop, start + 1), matrix.shape[0])
            here = slice(int(indptr[start]), int(indptr[stop]))
            rows = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
            columns = int64_array(matrix.indices[here].astype(np.int64))
            taken = strings.take(columns)
            of_rows = int64_array(rows)
            writer.write_batch(
                pa.RecordBatch.from_arrays(
                    [
                        of_rows if names is None else names.take(of_rows),
                        taken.cast(pa.string()),
                        pa.Array.from_buffers(
                            value, len(rows), [None, pa.py_buffer(matrix.data[here])]
                        ),
                    ],
                    schema=schema,
                )
            )
            start = stop


def _string_array(texts: Texts) -> pa.Array:
    """The texts as an Arrow array, over the same bytes."""
    large = int(texts.offsets[-1]) > INT32_MAX
    offsets: npt.NDArray[Any] = texts.offsets if large else texts.offsets.astype(np.int32)
    kind = pa.large_string() if large else pa.string()
    return pa.Array.from_buffers(
        kind, len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(texts.data)]
    )


def _float64_array(values: Float64) -> pa.Array:
    values = np.ascontiguousarray(values, np.float64)
    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(values)])
