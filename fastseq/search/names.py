"""What a name in a query is: a field, the text of the index, or a stored column.

The name of the only text column stands for the text, which is not searched as a stored value. On a
stored column a clause is a condition, which becomes the text of a filter (store/filters.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastseq import query as values
from fastseq.errors import DataError, SettingsError, quoted
from fastseq.index.collection import Collection
from fastseq.search.patterns import wildcard_pieces
from fastseq.search.ranking import LARGEST_WEIGHT
from fastseq.settings import real, string, strings

Fields = str | Sequence[str] | Mapping[str, float] | None

TO_INDEX = "text columns indexed as fields can be searched by themselves"


def is_text(collection: Collection, name: str) -> bool:
    """Whether a name is that of the only text column, which is no field."""
    return name == text_name(collection)


def text_columns(collection: Collection) -> list[str]:
    """The names of the columns that are joined to the text."""
    return list(collection.folder.settings.get("text_columns", ()))


def text_name(collection: Collection) -> str | None:
    """The name of the only text column, where it is no field."""
    names = text_columns(collection)
    return names[0] if len(names) == 1 and names[0] not in collection.fields else None


def searchable(collection: Collection) -> list[str]:
    """The names of the fields and of the text, where it is one column."""
    text = text_name(collection)
    return [*collection.fields, *([] if text is None else [text])]


def stored_names(collection: Collection) -> list[str]:
    """The paths of the stored columns."""
    if not collection.stored_columns:
        return []
    from fastseq.store.nested import leaves

    return [column.name for column in leaves(list(collection.schema))]


def is_column(collection: Collection, query: values.Query) -> bool:
    """Whether a clause is a condition on a stored column.

    Raises DataError for a name that is neither a field nor a stored column, and for words in one of
    several text columns that were indexed together.
    """
    name: str | None = getattr(query, "field", None)
    if name is None or name in collection.fields or is_text(collection, name):
        return False
    from fastseq.store.nested import field_at

    if name in (together := text_columns(collection)) and not isinstance(query, values.Exists):
        others = ", ".join(repr(other) for other in together if other != name)
        raise DataError(
            f"the column {quoted(name)} was indexed together with {others}, and cannot be "
            "searched by "
            f"itself; {TO_INDEX}"
        )
    if field_at(collection.schema, name) is None:
        raise DataError(no_name(collection, name))
    return True


def no_name(collection: Collection, name: str, only_fields: bool = False) -> str:
    """The error for a name that is neither a field nor a stored column."""
    what = "field" if only_fields else "field or stored column"
    fields = ", ".join(searchable(collection))
    columns = ", ".join(stored_names(collection))
    return (
        f"no {what} {quoted(name)}; fields are: {fields or 'none'}; stored columns are: "
        f"{columns or 'none'}; {TO_INDEX}"
    )


def condition_of(query: values.Query, collection: Collection) -> str:
    """The filter that a clause on a stored column is. Raises DataError for one that is none."""
    from fastseq.store.filters import comparison

    schema = collection.schema
    match query:
        case values.Term() | values.Phrase():
            assert query.field is not None
            return comparison(schema, query.field, "=", query.text)
        case values.Exists():
            return f"{_quoted(query.field)} is not null"
        case values.Range():
            parts = []
            if query.low is not None:
                sign = ">=" if query.include_low else ">"
                parts.append(comparison(schema, query.field, sign, query.low))
            if query.high is not None:
                sign = "<=" if query.include_high else "<"
                parts.append(comparison(schema, query.field, sign, query.high))
            return " and ".join(parts) or f"{_quoted(query.field)} is not null"
        case values.Prefix():
            assert query.field is not None
            return _like(query.field, _escaped(query.text) + "%")
        case values.Wildcard():
            assert query.field is not None
            pattern = "".join(
                {"*": "%", "?": "_"}[piece] if wild else _escaped(piece)
                for wild, piece in wildcard_pieces(query.pattern)
            )
            return _like(query.field, pattern)
    name: str = getattr(query, "field", "")
    raise DataError(
        f"{quoted(name)} is a stored column, not a field of the index: it can be searched for "
        "values, "
        "ranges, prefixes and wildcards"
    )


def name_problem(query: values.Query, collection: Collection) -> str | None:
    """What is wrong with the first clause of a parsed query whose name or value is wrong."""
    for part in values.walk(query):
        if getattr(part, "field", None) is None:
            continue
        try:
            if is_column(collection, part):
                from fastseq.store.filters import as_filter

                as_filter(condition_of(part, collection), collection.schema)
        except DataError as error:
            return str(error).removeprefix("filter: ")
    return None


def _like(column: str, pattern: str) -> str:
    literal = "'" + pattern.replace("'", "''") + "'"
    return f"{_quoted(column)} like {literal}"


def _escaped(text: str) -> str:
    return "".join("\\" + character if character in "%_\\" else character for character in text)


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def field_weights(fields: Fields, collection: Collection) -> dict[str, float] | None:
    """The weights of the fields of a search."""
    if fields is None:
        return None
    if isinstance(fields, Mapping):
        given = {string("fields", name): weight for name, weight in fields.items()}
    else:
        given = dict.fromkeys(strings("fields", fields), 1.0)
    if not given:
        raise SettingsError("fields must name at least one field")
    for name in given:
        if name not in collection.fields:
            raise DataError(
                f"no field {quoted(name)}; fields of this index are: "
                f"{', '.join(collection.fields) or 'none'}; stored columns are: "
                f"{', '.join(stored_names(collection)) or 'none'}; {TO_INDEX}"
            )
    wanted = f"a number above 0 and at most {LARGEST_WEIGHT:g}"
    return {
        name: real(
            f"the weight of {quoted(name)}", weight, lambda w: 0 < w <= LARGEST_WEIGHT, wanted
        )
        for name, weight in given.items()
    }
