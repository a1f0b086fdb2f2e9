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
import pyarrow as pa

from fastseq.errors import DataError, FormatError
from fastseq.store.arrays import (
    is_string,
    number_array,
    one_chunk,
    plain_type,
    text_array,
    to_texts,
)
from fastseq.store.files import reason, written_whole
from fastseq.store.outputs import NPZ_COMMENT
from fastseq.store.parquet import KEY, parquet_file, parquet_writer
from fastseq.types import Float64, Int64, Texts

VERSION = 1
_ROWS = 1 << 20  # of the long form, written at a time


@dataclass(frozen=True, slots=True)
class Outputs:
    """The two files of a matrix.

    matrix  rows and columns, as .npz or .parquet
    terms   the terms of the columns, and the settings to build another such matrix
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
        matrix = path.with_name(f"{name}{'.parquet' if long_form else '.npz'}")
        return Outputs(matrix, path.with_name(f"{name}.terms.parquet"))


@dataclass(frozen=True, slots=True, eq=False)
class SavedTerms:
    """Content of a terms file: the terms in the order of their columns."""

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
    """Write a matrix and its terms, atomically.

    Parameters
    ----------
    matrix : scipy.sparse CSR, a column for each term
    weights : further columns of the terms file, float64[V] each
    ids : of the rows, in the long form; None: their numbers, from 0

    Raises SettingsError: a path is a folder, or its folder does not exist; FastseqError: the system
    refuses.
    """
    strings = text_array(terms.terms)
    # both files are written before either is renamed
    with written_whole(outputs.matrix) as first, written_whole(outputs.terms) as second:
        _write_terms(second, strings, terms, weights)
        if outputs.matrix.suffix == ".parquet":
            _write_long(first, matrix, strings, ids)
            return
        import scipy.sparse

        with open(first, "wb") as file:  # uncompressed: compression would dominate the run time
            scipy.sparse.save_npz(file, matrix, compressed=False)
        with zipfile.ZipFile(first, "a") as archive:
            archive.comment = NPZ_COMMENT


def read_terms(out: str | os.PathLike[str]) -> SavedTerms:
    """The terms file of an earlier output, named by either of its files or without a suffix.

    Raises DataError: there is none; FormatError: it is damaged, of another format version, or not a
    terms file.
    """
    path = Outputs.of(out).terms
    try:
        with parquet_file(path) as file:
            saved = (file.schema_arrow.metadata or {}).get(KEY)
            table = file.read(columns=["term", "df"]) if saved is not None else None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected the terms of an earlier output") from None
    except (pa.ArrowException, OSError) as error:
        problem = f"not a Parquet file, or one cut short ({reason(error)})"
        raise FormatError(f"{path}: {problem}") from error
    if saved is None or table is None:
        raise FormatError(f"{path}: not a terms file of fastseq features")
    try:
        content = json.loads(saved)
        version = content["format_version"]
        settings, statistics = content["settings"], content["statistics"]
        if version != VERSION:
            raise FormatError(f"{path}: of format version {version!r}, expected {VERSION}")
        kind = plain_type(table.schema.field("term").type)
        column, counts = one_chunk(table.column("term"), kind), table.column("df")
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
    content = {
        "kind": "terms",
        "format_version": VERSION,
        "settings": terms.settings,
        "statistics": terms.statistics,
    }
    table = pa.Table.from_arrays(
        [strings, number_array(terms.df), *(number_array(w, np.float64) for w in weights.values())],
        ["term", "df", *weights],
        metadata={KEY: json.dumps(content, ensure_ascii=False).encode()},
    )
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)


def _write_long(path: Path, matrix: Any, strings: pa.Array, ids: Sequence[pa.Array] | None) -> None:
    """One row for each value: id (or row), term, value; ascending by row, then by term."""
    names = None if ids is None else pa.concat_arrays(ids) if ids else pa.nulls(0, pa.string())
    key = ("row", pa.int64()) if names is None else ("id", names.type)
    value = ("value", pa.from_numpy_dtype(matrix.dtype))
    schema = pa.schema([key, ("term", pa.string()), value])
    indptr: Int64 = matrix.indptr.astype(np.int64)
    start = 0
    # without Arrow's own schema, large_string is a string to every reader
    with parquet_writer(path, schema, "matrix", store_schema=False) as writer:
        while start < matrix.shape[0]:
            stop = int(np.searchsorted(indptr, indptr[start] + _ROWS, "right")) - 1
            stop = min(max(stop, start + 1), matrix.shape[0])
            here = slice(int(indptr[start]), int(indptr[stop]))
            rows = number_array(
                np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
            )
            columns = [
                rows if names is None else names.take(rows),
                strings.take(number_array(matrix.indices[here])).cast(pa.string()),
                number_array(matrix.data[here], matrix.dtype),
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            start = stop
