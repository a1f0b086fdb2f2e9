"""The roles of columns: inputs, targets, id, columns to keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, takewhile
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.store.arrays import is_string, is_text, plain_type
from fastseq.store.parquet import listing
from fastseq.store.sources import Dataset

INPUTS = ("text", "tokens", "values")
ID_NAMES = ("id", "doc_id", "_id")
TEXT_NAME = "text"
LABEL_NAME, TOKENS_NAME, TAGS_NAME, VALUE_NAME = "label", "tokens", "tags", "value"
INDEX_NAME = re.compile(r"__index_level_\d+__")  # pandas' name of an unnamed index in Arrow


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns to read.

    text    columns of strings, joined by a space
    tokens  a column of lists of strings
    values  columns of numbers
    label   of strings, integers or booleans
    tags    of lists of strings, as long as the tokens'
    series  identifies the series of values that a row belongs to; None: each file is one
    id      None: the row number is the id
    keep    columns copied to the output
    """

    text: tuple[str, ...] = ()
    tokens: str | None = None
    values: tuple[str, ...] = ()
    label: str | None = None
    tags: str | None = None
    id: str | None = None
    keep: tuple[str, ...] = ()
    series: str | None = None

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that must be read, once."""
        single = [name for name in (self.tokens, self.label, self.tags, self.series) if name]
        return tuple(dict.fromkeys((*self.text, *self.values, *single, *self.outputs)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The id column, if any, and the columns to keep, each once."""
        return tuple(dict.fromkeys(filter(None, (self.id, *self.keep))))

    def to_dict(self) -> dict[str, Any]:
        """The names for JSON."""
        names = asdict(self)
        if self.series is None:  # absent in models of older versions
            del names["series"]
        return names

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Fields:
        """The fields that to_dict wrote. Raises FormatError for others."""
        try:
            names: dict[str, Any] = {
                n: tuple(v) if isinstance(v, list) else v for n, v in saved.items()
            }
            return cls(**names)
        except TypeError as error:
            raise FormatError(f"the saved column names cannot be read: {error}") from None


def is_id(kind: pa.DataType) -> bool:
    """Whether a type can be the id of documents: strings or integers."""
    kind = plain_type(kind)
    return bool(is_string(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether a type is numeric."""
    t, kind = pa.types, plain_type(kind)
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind))


def is_label(kind: pa.DataType) -> bool:
    """Whether a type can be a label: strings, integers, booleans."""
    kind = plain_type(kind)
    return bool(is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def element_type(kind: pa.DataType) -> pa.DataType | None:
    """The plain type of the elements of a list type of any kind; None for other types."""
    if isinstance(kind, pa.BaseExtensionType):
        return element_type(kind.storage_type)
    listed = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
    return plain_type(kind.value_type) if listed else None


def is_string_list(kind: pa.DataType) -> bool:
    """Whether a type is lists of strings, or of nulls (lists that are all empty)."""
    element = element_type(kind)
    return element is not None and (is_string(element) or bool(pa.types.is_null(element)))


def choose_fields(
    data: Dataset,
    inputs: str,
    *,
    text: str | Sequence[str] | None = None,
    tokens: str | None = None,
    values: str | Sequence[str] | None = None,
    label: str | None = None,
    tags: str | None = None,
    id: str | None = None,
    keep: str | Sequence[str] | None = None,
    series: str | None = None,
    targets: bool = True,
    text_parameter: str = "text_column",
) -> Fields:
    """Resolve the columns of some data.

    Parameters
    ----------
    inputs : "text", "tokens" or "values"
    targets : whether to resolve the label (of text) or the tags (of tokens), too
    text_parameter : the name in messages of the parameter for text columns

    Columns that are not named are guessed: the id from `id`, `doc_id` or `_id`; the text from
    `text`, the label from `label`, tokens and tags from `tokens` and `tags`, values from `value` or
    else `value_0`, `value_1` and so on; else the only unused column of a suitable type. The unnamed
    index of a pandas frame and the columns of Hive partitions are not guessed, except for a label
    called `label`.

    Raises DataError: a column is missing, of an unsuitable type, ambiguous, or both input and
    target; the message lists the columns; SettingsError: `inputs` is none of the three.
    """
    if inputs not in INPUTS:
        raise SettingsError(f"inputs is {inputs!r}; expected one of {', '.join(INPUTS)}")
    fields = Fields(listed(text), tokens, listed(values), label, tags, id, listed(keep), series)
    own = [name for name in data.types if name not in data.partitions]
    if id is None:
        fields = replace(fields, id=next((name for name in ID_NAMES if name in own), None))
    _check_there(data, fields)
    taken = {*fields.used}
    first = data.sources[0]

    def guess(name: str, parameter: str, what: str, serves: Callable[[pa.DataType], bool]) -> str:
        if name in (data.types if name == LABEL_NAME else own):
            taken.add(name)
            return name
        found = [
            name
            for name in own
            if name not in taken
            and not INDEX_NAME.fullmatch(name)
            and all(map(serves, data.types[name]))
        ]
        if len(found) != 1:
            raise DataError(
                f"{first.name}: cannot tell which column is the {name}, expected {name!r} or a "
                f"single column of {what}: name it ({parameter}=…); its columns: "
                f"{listing(first.schema)}"
            )
        taken.add(found[0])
        return found[0]

    if inputs == "text":
        if targets and label is None and LABEL_NAME in data.types:
            # before the text is guessed: a label of strings would make it ambiguous
            fields = replace(fields, label=LABEL_NAME)
            taken.add(LABEL_NAME)
        if not fields.text:
            name = guess(TEXT_NAME, text_parameter, "strings", lambda t: is_string(plain_type(t)))
            fields = replace(fields, text=(name,))
        if targets and fields.label is None:
            what = "strings, integers or booleans"
            fields = replace(fields, label=guess(LABEL_NAME, "label_column", what, is_label))
    elif inputs == "tokens":
        if tags is None and TAGS_NAME in own:
            taken.add(TAGS_NAME)
        if tokens is None:
            name = guess(TOKENS_NAME, "tokens_column", "lists of strings", is_string_list)
            fields = replace(fields, tokens=name)
        if targets and tags is None:
            name = guess(TAGS_NAME, "tags_column", "lists of strings", is_string_list)
            fields = replace(fields, tags=name)
    elif not fields.values and VALUE_NAME not in own and f"{VALUE_NAME}_0" in own:
        numbered = takewhile(own.__contains__, (f"{VALUE_NAME}_{n}" for n in count()))
        fields = replace(fields, values=tuple(numbered))
    elif not fields.values:
        name = guess(VALUE_NAME, "value_columns", "numbers", is_number)
        fields = replace(fields, values=(name,))
    if not targets:
        fields = replace(fields, label=None, tags=None)
    check_fields(data, fields)
    for target, role, read, inputs in (
        (fields.label, "label", fields.text, "text"),
        (fields.tags, "tags", (fields.tokens,), "tokens"),
    ):
        if target is not None and target in read:
            raise DataError(
                f"{first.name}: the column {target!r} is to be both the {inputs} and the {role}: "
                f"name another for one of them ({inputs}_column=…, {role}_column=…); its columns: "
                f"{listing(first.schema)}"
            )
    return fields


def check_fields(data: Dataset, fields: Fields) -> None:
    """Check that every column exists once and has a suitable type. A column to keep may be missing
    from some of the sources, and so may one of several text columns.

    Raises DataError; the message names the source and lists its columns.
    """
    _check_there(data, fields)
    check_types(data, fields.text, "text", lambda kind: is_text(plain_type(kind)), "strings")
    check_types(data, fields.values, "value", is_number, "numbers")
    check_types(data, [fields.label], "label", is_label, "strings, integers or booleans")
    check_types(data, [fields.series], "series", is_label, "strings, integers or booleans")
    check_types(data, [fields.tokens], "tokens", is_string_list, "lists of strings")
    check_types(data, [fields.tags], "tags", is_string_list, "lists of strings")


def _check_there(data: Dataset, fields: Fields) -> None:
    for source in data.sources:
        names = source.schema.names
        texts = () if any(name in names for name in fields.text) else fields.text
        single = (fields.tokens, fields.label, fields.tags, fields.id, fields.series)
        for name in fields.used:
            found = names.count(name)
            if found == 1:
                continue
            problem = f"{found} columns called {name!r}" if found else f"no column {name!r}"
            if not found and name in data.types:
                if name not in (*texts, *fields.values, *single):
                    continue
                problem += f", which {next(iter(data.types[name].values()))} has"
            raise DataError(f"{source.name}: {problem}; its columns: {listing(source.schema)}")


def check_types(
    data: Dataset,
    names: Sequence[str | None],
    role: str,
    serves: Callable[[pa.DataType], bool],
    expected: str,
) -> None:
    """Raise DataError, which names the source, for a column of an unsuitable type."""
    for name in filter(None, names):
        for kind, where in data.types[name].items():
            if not serves(kind):
                source = next(source for source in data.sources if source.name == where)
                raise DataError(
                    f"{where}: the {role} column {name!r} is {kind}, expected {expected}; its "
                    f"columns: {listing(source.schema)}"
                )


def listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several names or None as a tuple."""
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)
