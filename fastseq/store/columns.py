"""Which column of a corpus is what: the id, the text, and those to store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from fastseq.errors import DataError
from fastseq.store.arrays import is_string, is_text, plain_type

ID_NAMES = ("id", "doc_id", "_id")
TEXT_NAME = "text"
INDEX_NAME = re.compile(r"__index_level_\d+__")  # how pandas hands over the index of a frame


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns used of a corpus.

    id      the name of the id column; None where the row number is the id
    text    the text columns, joined by a space
    stored  the columns to store, the id among them when there is one
    """

    id: str | None
    text: tuple[str, ...]
    stored: tuple[str, ...]

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that must be read, once."""
        first = () if self.id is None else (self.id,)
        return tuple(dict.fromkeys((*first, *self.text, *self.stored)))


def choose_columns(
    schema: pa.Schema,
    where: str,
    id_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    store: str | Sequence[str] | None = None,
) -> Columns:
    """Apply the rules to the schema of the file (or table) called `where`.

    Without `id_column`, the id is `id`, `doc_id` or `_id`, else the row number. Without
    `text_columns`, the text is `text`, else the only column of strings beside the id. Without
    `store`, every column is stored; the id always is. The unnamed index of a pandas frame counts
    as a column only where it is named.

    Raises
    ------
    DataError
        A column named is not there, no text column can be guessed, or the id or text are of a
        type that cannot serve; the message lists the columns there are.
    """
    names = schema.names
    if id_column is None:
        id_column = next((name for name in ID_NAMES if name in names), None)
    else:
        _check_there(schema, id_column, where)
    texts = _listed(text_columns)
    if not texts:
        texts = (TEXT_NAME,) if TEXT_NAME in names else (_only_string(schema, id_column, where),)
    if store is None:
        stored = tuple(name for name in names if not INDEX_NAME.fullmatch(name))
    else:
        stored = (*(() if id_column is None else (id_column,)), *_listed(store))
    columns = Columns(id_column, texts, tuple(dict.fromkeys(stored)))
    used_schema(schema, columns, where)
    return columns


def used_schema(schema: pa.Schema, columns: Columns, where: str) -> pa.Schema:
    """The used columns of a schema, with their plain types and no metadata.

    Raises
    ------
    DataError
        A column is not there, is there twice, or is of a type that cannot serve.
    """
    for name in columns.used:
        _check_there(schema, name, where)
    kinds = {name: plain_type(schema.field(name).type) for name in columns.used}
    for name in columns.text:
        if not is_text(kinds[name]):
            raise DataError(
                f"{where}: the text column {name!r} is {schema.field(name).type}, expected strings"
            )
    if columns.id is not None:
        kind = kinds[columns.id]
        if not (is_string(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise DataError(
                f"{where}: the id column {columns.id!r} is {schema.field(columns.id).type}, "
                "expected strings or integers"
            )
    return pa.schema([pa.field(name, kinds[name]) for name in columns.used])


def agreed_schema(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for the files of a corpus, from each one's name and `used_schema`.

    Numbers widen, and a column of nulls alone agrees with everything.

    Raises
    ------
    DataError
        A column is of different types in two files; the message names both.
    """
    agreed: pa.Schema | None = None
    first = ""
    for where, schema in schemas:
        if agreed is None:
            first, agreed = where, schema
        elif schema != agreed:
            fields = []
            for old, new in zip(agreed, schema, strict=True):
                kind = _agreed_type(old.type, new.type)
                if kind is None:
                    raise DataError(
                        f"{where}: the column {new.name!r} is {new.type}, but {old.type} in {first}"
                    )
                fields.append(pa.field(old.name, kind))
            agreed = pa.schema(fields)
    if agreed is None:
        raise DataError("no file to read")
    return agreed


def listing(schema: pa.Schema) -> str:
    """The columns and their types, for a message."""
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"


def _check_there(schema: pa.Schema, name: str, where: str) -> None:
    count = len(schema.get_all_field_indices(name))
    if count != 1:
        problem = f"no column {name!r}" if count == 0 else f"{count} columns called {name!r}"
        raise DataError(f"{where}: {problem}; its columns: {listing(schema)}")


def _only_string(schema: pa.Schema, id_column: str | None, where: str) -> str:
    strings: list[str] = [
        field.name
        for field in schema
        if field.name != id_column
        and not INDEX_NAME.fullmatch(field.name)
        and is_string(plain_type(field.type))
    ]
    if len(strings) != 1:
        raise DataError(
            f"{where}: cannot tell which column is the text, expected {TEXT_NAME!r} or a single "
            f"column of strings: name it (text_columns=…); its columns: {listing(schema)}"
        )
    return strings[0]


def _listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)


def _agreed_type(old: pa.DataType, new: pa.DataType) -> pa.DataType | None:
    def number(kind: pa.DataType) -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

    if old == new or pa.types.is_null(new):
        return old
    if pa.types.is_null(old):
        return new
    if number(old) and number(new):
        try:
            both = [pa.schema([("n", kind)]) for kind in (old, new)]
            return pa.unify_schemas(both, promote_options="permissive").field(0).type
        except pa.ArrowException:
            return None
    return None
