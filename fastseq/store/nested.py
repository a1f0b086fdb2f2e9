"""Fields inside of structs, named by paths with dots: `doc.text`.

A column whose own name has the dots takes precedence. A null struct has null fields, and so has a
column of nulls alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from fastseq.errors import DataError, quoted


def field_at(schema: pa.Schema, path: str) -> pa.Field | None:
    """The column or nested field at a path, under the path as its name; None for no such path."""
    found = _found(list(schema), path)
    return None if found is None else found[1].with_name(path)


def no_column(schema: pa.Schema, path: str) -> DataError:
    """The error for a path that a schema of stored columns lacks."""
    named = ", ".join(field.name for field in leaves(list(schema)))
    return DataError(f"no stored column {quoted(path)}; stored are: {named or 'none'}")


def count_at(schema: pa.Schema, path: str) -> int:
    """The number of columns at a path, or of this name."""
    return schema.names.count(path) or int(field_at(schema, path) is not None)


def column_at(batch: pa.RecordBatch, path: str) -> pa.Array:
    """The column or nested field at a path of a batch that has one."""
    found = _found(list(batch.schema), path)
    assert found is not None
    (column, *inner), field = found
    array = batch.column(column)
    for index in inner:
        array = array.flatten()[index]  # not `field`, which ignores null structs
    return pa.nulls(len(array)) if pa.types.is_null(field.type) else array


def select(batch: pa.RecordBatch, paths: Sequence[str]) -> pa.RecordBatch:
    """The columns and nested fields at some paths, under the paths as their names."""
    names = batch.schema.names
    if all(path in names for path in paths):
        return batch.select(list(paths))
    return pa.RecordBatch.from_arrays([column_at(batch, path) for path in paths], list(paths))


def top_level(schema: pa.Schema, paths: Sequence[str]) -> list[str]:
    """The columns that hold some paths, each once."""
    found = (_found(list(schema), path) for path in paths)
    return list(dict.fromkeys(schema.names[each[0][0]] for each in found if each is not None))


def leaves(fields: Sequence[pa.Field], parents: str = "") -> Iterator[pa.Field]:
    """All fields that are not structs, under their paths."""
    for field in fields:
        path = parents + field.name
        if pa.types.is_struct(field.type) and field.type.num_fields:
            yield from leaves(list(field.type), f"{path}.")
        else:
            yield field.with_name(path)


def _found(fields: Sequence[pa.Field], path: str) -> tuple[list[int], pa.Field] | None:
    """The index of a path's field on each level, and the field."""
    names = [field.name for field in fields]
    if path in names:
        at = names.index(path)
        return [at], fields[at]
    for at, field in sorted(enumerate(fields), key=lambda each: -len(each[1].name)):
        if not path.startswith(f"{field.name}."):
            continue
        if pa.types.is_null(field.type):
            return [at], field
        if pa.types.is_struct(field.type):
            inner = _found(list(field.type), path[len(field.name) + 1 :])
            if inner is not None:
                return [at, *inner[0]], inner[1]
    return None
