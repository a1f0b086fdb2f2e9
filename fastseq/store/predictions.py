"""Predictions, written to Parquet batch after batch, whole or not at all.

with PredictionWriter(path, reader, {"prediction": "string", "probability": "float"}) as out:
    for batch in reader.batches():
        out.append(batch, prediction=labels.decode(codes), probability=best)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.errors import DataError, FastseqError, SettingsError
from fastseq.store.arrays import int64_array
from fastseq.store.atomic import reason, written_whole
from fastseq.store.categories import Categories
from fastseq.store.examples import RowBatch, RowReader
from fastseq.store.outputs import check_output
from fastseq.store.parquet import parquet_writer
from fastseq.store.sources import ParquetSource
from fastseq.types import Int64

GROUP_ROWS = 65_536
ID = "id"
KIND = "predictions"  # of output


@dataclass(frozen=True, slots=True, eq=False)
class TagLists:
    """The tags of D rows: row d has tags offsets[d] to offsets[d + 1], none or more.

    tags  Categories of all rows' tags; offsets int64[D + 1], from 0
    """

    tags: Categories
    offsets: Int64


Column = Categories | TagLists | npt.NDArray[Any]
Report = Callable[[int, "int | None"], None]


class Predictions:
    """Predictions for the rows of a reader, a batch at a time: `id`, the columns to keep, and what
    was predicted. They are made as they are asked for, once.

    Attributes
    ----------
    schema : of all tables, known before the first
    total : rows to come; None where only reading a stream tells
    """

    def __init__(
        self,
        reader: RowReader,
        outputs: Mapping[str, str],
        found: Iterable[tuple[RowBatch, Mapping[str, Column]]],
    ) -> None:
        """`reader` and `outputs` as PredictionWriter has them; found: the batches of the reader,
        each with its predicted columns. Raises SettingsError as PredictionWriter."""
        self._reader = reader
        self._outputs = outputs
        self._found = found
        self._tables = _Tables(reader, outputs)
        self.schema: pa.Schema = self._tables.schema
        self.total = reader.num_rows

    def __iter__(self) -> Iterator[pa.Table]:
        """A table for each batch. Raises what reading and predicting raise."""
        for batch, columns in self._found:
            yield self._tables.table(batch, columns)

    def write(
        self,
        path: str | os.PathLike[str],
        report: Report | None = None,
        overwrite: bool = False,
    ) -> int:
        """Write them to Parquet, whole or not at all; the number of rows. Raises as
        PredictionWriter, and what reading and predicting raise.

        report : called with the rows done, and those in all
        overwrite : replace an existing file that is not known to be predictions of fastseq
        """
        check_output(path, KIND, _files(self._reader), overwrite=overwrite)
        with PredictionWriter(path, self._reader, self._outputs) as writer:
            for batch, columns in self._found:
                writer.append(batch, **columns)
                if report is not None:
                    report(writer.num_rows, self.total)
        return writer.num_rows


class _Tables:
    """Makes the tables of predictions. Raises SettingsError as PredictionWriter."""

    def __init__(self, reader: RowReader, outputs: Mapping[str, str]) -> None:
        id_name = reader.fields.id
        keep = [n for n in reader.fields.keep if n != ID or n != id_name]
        for name in keep:
            if name in outputs or name == ID:
                raise SettingsError(
                    f"the column {name!r} cannot be kept: the predictions have one of that name"
                )
        id_type = pa.int64() if id_name is None else reader.kept.field(id_name).type
        fields = [pa.field(ID, id_type), *(reader.kept.field(name) for name in keep)]
        fields += [pa.field(name, _arrow_type(kind)) for name, kind in outputs.items()]
        self.schema: pa.Schema = pa.schema(fields)
        self._keep = keep
        self._outputs = tuple(outputs)

    def table(self, batch: RowBatch, columns: Mapping[str, Column]) -> pa.Table:
        """Raises DataError as PredictionWriter.append."""
        if set(columns) != set(self._outputs):
            raise DataError(f"predictions {sorted(columns)}, expected {sorted(self._outputs)}")
        ids = batch.ids
        if ids is None:
            ids = int64_array(np.arange(batch.first_row, batch.first_row + batch.rows))
        arrays = [ids, *(batch.kept.column(name) for name in self._keep)]
        for name in self._outputs:
            array = _array(columns[name], self.schema.field(name).type)
            if len(array) != batch.rows:
                raise DataError(f"{len(array)} of {name!r}, expected one for each of {batch.rows}")
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=self.schema)


class PredictionWriter:
    """Writes `id`, the columns to keep, and what was predicted, a batch at a time.

    path     where the file is to be; it appears when the block ends well, and not otherwise
    reader   the rows that predictions are made for: their id and the columns to keep
    outputs  the type of each predicted column, in order: "string", "bool", "int64", … for labels
             (Labels.type), "float" for float32[D], "list<string>" for TagLists, "list<float>" for
             float32[D, H]

    The id is that of the id column under the name `id`, else the row number. A number that is NaN
    is not known, and becomes null; so does a list of nothing else.

    Raises
    ------
    SettingsError
        A column to keep bears the name of a predicted one; `path` is a file that is read, a
        folder, or lies in none.
    DataError
        A column to keep is of a type that Parquet cannot hold.
    FastseqError
        The system refuses to write.
    """

    def __init__(
        self, path: str | os.PathLike[str], reader: RowReader, outputs: Mapping[str, str]
    ) -> None:
        self._tables = _Tables(reader, outputs)
        check_output(path, KIND, _files(reader), overwrite=True)
        self.schema: pa.Schema = self._tables.schema
        self.num_rows = 0
        self._path = path
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(written_whole(self._path))
            try:
                writer = parquet_writer(temporary, self.schema, KIND)
                self._writer = stack.enter_context(writer)
            except pa.ArrowException as error:
                problem = f"cannot write {self._path} as Parquet: {reason(error)}"
                raise DataError(f"{problem}: keep other columns") from error
            self._stack = stack.pop_all()
        return self

    def append(self, batch: RowBatch, **columns: Column) -> None:
        """Write the predictions of the rows of a batch.

        Raises
        ------
        DataError
            A column is missing, one too many, of another length or of another type.
        FastseqError
            The system refuses to write.
        """
        self._pending.append(self._tables.table(batch, columns))
        self._pending_rows += batch.rows
        self.num_rows += batch.rows
        if self._pending_rows >= GROUP_ROWS:
            self._write_group()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._write_group()
            self._close()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, traceback)

    def _close(self) -> None:
        assert self._writer is not None
        try:
            self._writer.close()
        except (pa.ArrowException, OSError) as error:
            raise FastseqError(f"cannot write {self._path}: {reason(error)}") from error

    def _write_group(self) -> None:
        if not self._pending:
            return
        assert self._writer is not None, "the writer is used outside of its with block"
        table = pa.concat_tables(self._pending)
        self._pending, self._pending_rows = [], 0
        try:
            self._writer.write_table(table)
        except (pa.ArrowException, OSError) as error:
            raise FastseqError(f"cannot write {self._path}: {reason(error)}") from error


def _files(reader: RowReader) -> list[str]:
    return [source.name for source in reader.sources if isinstance(source, ParquetSource)]


def _arrow_type(kind: str) -> pa.DataType:
    if kind.startswith("list<"):
        return pa.list_(pa.type_for_alias(kind[5:-1]))
    return pa.type_for_alias(kind)


def _array(column: Column, kind: pa.DataType) -> pa.Array:
    if isinstance(column, Categories):
        return _decoded(column, kind)
    if isinstance(column, TagLists):
        elements = _decoded(column.tags, kind.value_type)
        return _listed(elements, column.offsets, kind)
    if column.ndim == 2:
        known = ~np.isnan(column).all(1)
        offsets = np.append(0, np.cumsum(known * column.shape[1]))
        flat = _numbers(column[known].reshape(-1), kind.value_type)
        return _listed(flat, offsets, kind, pa.array(~known))
    return _numbers(column, kind)


def _listed(
    elements: pa.Array, offsets: Int64, kind: pa.DataType, missing: pa.Array | None = None
) -> pa.Array:
    starts = pa.array(np.ascontiguousarray(offsets, np.int32))
    return pa.ListArray.from_arrays(starts, elements, kind, mask=missing)


def _decoded(column: Categories, kind: pa.DataType) -> pa.Array:
    try:
        values = pa.array([*column.values, None], kind)
    except pa.ArrowException as error:
        raise DataError(f"predictions that are not {kind}: {reason(error)}") from error
    codes = column.codes.astype(np.int64)
    return values.take(int64_array(np.where(codes < 0, len(column.values), codes)))


def _numbers(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    plain = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.array(plain, kind, from_pandas=True)  # which is: NaN is null
