"""Predictions as Arrow tables and as a Parquet file.

found = ((batch, {"prediction": labels.decode(codes), "probability": best}) for batch in …)
Predictions(reader, {"prediction": "string", "probability": "float"}, found).write(path)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastseq.errors import DataError, FastseqError, SettingsError, quoted, warn
from fastseq.store.arrays import number_array
from fastseq.store.files import reason, written_whole
from fastseq.store.outputs import check_output
from fastseq.store.parquet import parquet_writer, unreadable
from fastseq.store.partial import PartialOutput
from fastseq.store.rows import RowBatch, RowReader
from fastseq.store.sources import FileSource
from fastseq.types import Categories, Int64

GROUP_ROWS = 65_536
GROUP_BYTES = 128 << 20  # of a row group, which ends with the batch that reaches one of both
ID = "id"
KIND = "predictions"  # of output
_VECTOR = re.compile(r"vector<(\w+)>\[(\d+)\]")
_MAP = "map<string, float>"
_LIST = re.compile(r"list<(.+)>")


@dataclass(frozen=True, slots=True, eq=False)
class TagLists:
    """The tags of D rows: row d has tags offsets[d] to offsets[d + 1], int64[D + 1] from 0."""

    tags: Categories
    offsets: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Lists of numbers, or of vectors of one length, of D rows: row d has values[offsets[d]] to
    values[offsets[d + 1] - 1], int64[D + 1] from 0."""

    values: npt.NDArray[Any]
    offsets: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Vectors [D, H] of integers, null where `known` bool[D] is False."""

    values: npt.NDArray[Any]
    known: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """Weights of terms of D rows: row d has terms and weights offsets[d] to offsets[d + 1] - 1,
    int64[D + 1] from 0, and is null where `known` bool[D] is False."""

    terms: Categories
    weights: npt.NDArray[Any]
    offsets: Int64
    known: npt.NDArray[np.bool_]


Column = Categories | TagLists | Lists | Rows | Maps | npt.NDArray[Any]
Report = Callable[[int, "int | None"], None]


class Counts(Protocol):
    """Counters of what was predicted, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Continued:
    """How predictions continue after some rows.

    found     makes the batches with predicted columns from a row on, the first of a batch
    counts    what the batches count, set to the state after those rows
    settings  returns what the rows depend on besides the inputs and columns, as JSON has it
    """

    found: Callable[[int], Iterable[tuple[RowBatch, Mapping[str, Column]]]]
    counts: Counts
    settings: Callable[[], Mapping[str, Any]]


class Predictions:
    """Predictions for the rows of a reader, a batch at a time: `id`, the columns to keep, and the
    predicted columns. They are computed lazily and can be iterated over once.

    The id is that of the id column under the name `id`, else the row number. A NaN becomes null,
    and so does a list of NaN only.

    Parameters
    ----------
    reader : the rows that predictions are made for: their id and the columns to keep
    outputs : the type of each predicted column, in order: "string", "bool", "int64", … for labels
        (Labels.type), "float" for float32[D], "list<string>" for TagLists, "list<float>" for
        float32[D, H], "vector<float>[H]" and "vector<halffloat>[H]" for the same as lists of a
        fixed size, "vector<int8>[H]" for Rows, "list<int32>" or "list<vector<float>[H]>" for Lists,
        "map<string, float>" for Maps
    found : the batches of the reader, each with its predicted columns
    continued : how an interrupted `write` continues; None where it cannot

    Attributes
    ----------
    schema : of all tables, known before the first
    total : number of rows; None where it is unknown before a stream is read

    Raises SettingsError: a column to keep has the name of a predicted one.
    """

    def __init__(
        self,
        reader: RowReader,
        outputs: Mapping[str, str],
        found: Iterable[tuple[RowBatch, Mapping[str, Column]]],
        continued: Continued | None = None,
    ) -> None:
        id_name = reader.fields.id
        self._keep = [n for n in reader.fields.keep if n != ID or n != id_name]
        for name in self._keep:
            if name in outputs or name == ID:
                raise SettingsError(
                    f"the column {quoted(name)} cannot be kept: the predictions have one of that "
                    "name"
                )
        if ID in outputs:
            raise SettingsError(f"a column of predictions cannot be called {ID!r}, which is the id")
        id_type = pa.int64() if id_name is None else reader.kept.field(id_name).type
        fields = [pa.field(ID, id_type), *(reader.kept.field(name) for name in self._keep)]
        fields += [pa.field(name, _arrow_type(kind)) for name, kind in outputs.items()]
        self.schema: pa.Schema = pa.schema(fields)
        self.total = reader.num_rows
        self._inputs = [s.path for s in reader.sources if isinstance(s, FileSource) and s.path]
        self._outputs = tuple(outputs)
        self._found = found
        self._continued = continued
        self._text_columns = reader.fields.text
        files = [source for source in reader.sources if isinstance(source, FileSource)]
        are_files = len(files) == len(reader.sources) and all(file.path for file in files)
        self._can_continue = continued is not None and are_files

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield a table for each batch.

        Raises DataError where a predicted column is missing, unexpected, of another length or
        type, and what reading and predicting raise.
        """
        for batch, columns in self._found:
            yield self._table(batch, columns)

    def write(
        self, path: str | os.PathLike[str], report: Report | None = None, overwrite: bool = False
    ) -> int:
        """Write them to Parquet, atomically, and return the number of rows.

        `report` is called with the rows done and the total; `overwrite` replaces an existing file
        that is not known to be predictions of fastseq.

        Where they can be continued and are of files, finished row groups are saved in the folder
        `path`.partial, from which the next call with the same inputs and settings continues after
        an interruption, to the same bytes.

        Raises SettingsError: `path` is a file that is read, a folder, or lies in none, or the
        unfinished output is of other inputs or settings and not `overwrite`; DataError:
        as iterating; a column to keep is of a type that Parquet cannot hold; FastseqError: the
        system refuses to write.
        """
        check_output(path, KIND, self._inputs, overwrite=overwrite)
        if not self._can_continue:
            return self._write(path, self._row_groups(0, report))
        assert self._continued is not None
        with PartialOutput(path, self._identity, overwrite) as partial:
            if partial.rows:
                restored = partial.state
                for name in self._continued.counts.__dataclass_fields__:
                    setattr(self._continued.counts, name, restored.get(name, 0))
                self._found = self._continued.found(partial.rows)
                warn(f"{path}: continued after {partial.rows:,} rows")
            rows = self._write(path, self._with_parts(partial, report))
            partial.remove()
        return rows

    def _identity(self) -> dict[str, Any]:
        """What the rows depend on."""
        assert self._continued is not None
        inputs = []
        for path in self._inputs:
            with unreadable(path):
                status = os.stat(path)
            inputs.append([str(Path(path).resolve()), status.st_size, status.st_mtime_ns])
        schema = {field.name: str(field.type) for field in self.schema}
        groups = [GROUP_ROWS, GROUP_BYTES]
        texts = list(self._text_columns)
        return {
            "settings": dict(self._continued.settings()), "columns": schema, "texts": texts,
            "groups": groups, "inputs": inputs,
        }  # fmt: skip

    def _with_parts(self, partial: PartialOutput, report: Report | None) -> Iterator[pa.Table]:
        """All row groups: those that are not the last are saved as parts first."""
        assert self._continued is not None
        rest: list[pa.Table] = []
        rows = partial.rows
        for group in self._row_groups(partial.rows, report):
            rows += group.num_rows
            if group.num_rows >= GROUP_ROWS or group.nbytes >= GROUP_BYTES:
                partial.save(group, rows, asdict(self._continued.counts))
            else:
                rest.append(group)
        yield from partial.tables()
        yield from rest

    def _write(self, path: str | os.PathLike[str], groups: Iterable[pa.Table]) -> int:
        rows = 0
        with written_whole(path) as temporary, ExitStack() as stack:
            try:
                writer = stack.enter_context(parquet_writer(temporary, self.schema, KIND))
            except pa.ArrowException as error:
                problem = f"cannot write {path} as Parquet: {reason(error)}"
                raise DataError(f"{problem}: keep other columns") from error
            for group in groups:
                rows += group.num_rows
                try:
                    writer.write_table(group)
                except pa.ArrowException as error:
                    raise FastseqError(f"cannot write {path}: {reason(error)}") from error
        return rows

    def _row_groups(self, first: int, report: Report | None) -> Iterator[pa.Table]:
        """The row groups from a row on; all but the last have GROUP_ROWS or GROUP_BYTES."""
        pending: list[pa.Table] = []
        rows = size = 0
        done = first
        for table in self:
            pending.append(table)
            rows += table.num_rows
            size += table.nbytes
            done += table.num_rows
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                yield pa.concat_tables(pending)
                pending, rows, size = [], 0, 0
            if report is not None:
                report(done, self.total)
        if pending:
            yield pa.concat_tables(pending)

    def _table(self, batch: RowBatch, columns: Mapping[str, Column]) -> pa.Table:
        if set(columns) != set(self._outputs):
            raise DataError(f"predictions {sorted(columns)}, expected {sorted(self._outputs)}")
        ids = batch.ids
        if ids is None:
            ids = number_array(np.arange(batch.first_row, batch.first_row + batch.rows))
        arrays = [ids, *(batch.kept.column(name) for name in self._keep)]
        for name in self._outputs:
            array = _array(columns[name], self.schema.field(name).type)
            if len(array) != batch.rows:
                raise DataError(f"{len(array)} of {name!r}, expected one for each of {batch.rows}")
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=self.schema)


def _arrow_type(kind: str) -> pa.DataType:
    vector = _VECTOR.fullmatch(kind)
    if vector:
        return pa.list_(pa.type_for_alias(vector[1]), int(vector[2]))
    if kind == _MAP:
        return pa.map_(pa.string(), pa.float32())
    if elements := _LIST.fullmatch(kind):
        return pa.list_(_arrow_type(elements[1]))
    return pa.type_for_alias(kind)


def _array(column: Column, kind: pa.DataType) -> pa.Array:
    if isinstance(column, Categories):
        return _decoded(column, kind)
    if isinstance(column, TagLists):
        elements = _decoded(column.tags, kind.value_type)
        return _list_array(elements, column.offsets, kind)
    if isinstance(column, Lists):
        elements = _array(column.values, kind.value_type)
        return _list_array(elements, column.offsets, kind)
    if isinstance(column, Maps):
        offsets = number_array(column.offsets, np.int32)
        parts = _decoded(column.terms, kind.key_type), _numbers(column.weights, kind.item_type)
        return pa.MapArray.from_arrays(offsets, *parts, kind, mask=pa.array(~column.known))
    if isinstance(column, Rows):
        return _vectors(column.values, column.known, kind)
    if column.ndim == 2 and pa.types.is_fixed_size_list(kind):
        if column.dtype.kind != "f":
            return _vectors(column, np.ones(len(column), np.bool_), kind)
        return _vectors(column, np.asarray(~np.isnan(column).all(1)), kind)
    if column.ndim == 2:
        known = ~np.isnan(column).all(1)
        offsets = np.append(0, np.cumsum(known * column.shape[1]))
        flat = _numbers(column[known].reshape(-1), kind.value_type)
        return _list_array(flat, offsets, kind, pa.array(~known))
    return _numbers(column, kind)


def _vectors(values: npt.NDArray[Any], known: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    flat = pa.array(values.reshape(-1).astype(kind.value_type.to_pandas_dtype(), copy=False))
    missing = None if known.all() else pa.array(~known)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=missing)


def _list_array(
    elements: pa.Array, offsets: Int64, kind: pa.DataType, missing: pa.Array | None = None
) -> pa.Array:
    return pa.ListArray.from_arrays(number_array(offsets, np.int32), elements, kind, mask=missing)


def _decoded(column: Categories, kind: pa.DataType) -> pa.Array:
    try:
        values = pa.array([*column.values, None], kind)
    except pa.ArrowException as error:
        raise DataError(f"predictions that are not {kind}: {reason(error)}") from error
    codes = column.codes.astype(np.int64)
    return values.take(number_array(np.where(codes < 0, len(column.values), codes)))


def _numbers(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    plain = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.array(plain, kind, from_pandas=True)  # NaN is null
