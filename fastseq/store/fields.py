"""Which column of the data of a sequence model is what: inputs, targets, id, columns to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, takewhile
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.store.arrays import is_string, is_text, plain_type
from fastseq.store.columns import ID_NAMES, INDEX_NAME, TEXT_NAME, listing

INPUTS = ("text", "tokens", "values")
LABEL_NAME, TOKENS_NAME, TAGS_NAME, VALUE_NAME = "label", "tokens", "tags", "value"


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns to read.

    text    columns of strings, joined by a space
    tokens  a column of lists of strings
    values  columns of numbers
    label   of strings, integers or booleans
    tags    of lists of strings, as long as the tokens'
    id      of any type; None: the row number is the id
    keep    columns handed on as they are
    """

    text: tuple[str, ...] = ()
    tokens: str | None = None
    values: tuple[str, ...] = ()
    label: str | None = None
    tags: str | None = None
    id: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that must be read, once."""
        single = [name for name in (self.tokens, self.label, self.tags, self.id) if name]
        return tuple(dict.fromkeys((*self.text, *self.values, *single, *self.keep)))

    def without_targets(self) -> Fields:
        """The same, the label or tags left out: what predicting has to read."""
        return replace(self, label=None, tags=None)

    def to_dict(self) -> dict[str, Any]:
        """The names as JSON has them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Fields:
        """The fields that to_dict wrote. Raises FormatError for others."""
        try:
            names: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in saved.items()
            }
            return cls(**names)
        except TypeError as error:
            raise FormatError(f"the saved column names cannot be read: {error}") from None


def is_number(kind: pa.DataType) -> bool:
    """Whether a plain type holds numbers."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def is_label(kind: pa.DataType) -> bool:
    """Whether a plain type can be a label: strings, integers, booleans."""
    return bool(is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def element_type(kind: pa.DataType) -> pa.DataType | None:
    """The plain type of a list's elements, lists of every Arrow kind; None for what is no list."""
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
    """Whether a type is lists of strings, or of nulls alone (lists that are all empty)."""
    element = element_type(kind)
    return element is not None and (is_string(element) or bool(pa.types.is_null(element)))


def choose_fields(
    schema: pa.Schema,
    where: str,
    inputs: str,
    *,
    text: str | Sequence[str] | None = None,
    tokens: str | None = None,
    values: str | Sequence[str] | None = None,
    label: str | None = None,
    tags: str | None = None,
    id: str | None = None,
    keep: str | Sequence[str] | None = None,
    targets: bool = True,
) -> Fields:
    """Settle the columns of the file (or table) called `where`.

    Parameters
    ----------
    inputs : "text", "tokens" or "values": what the model reads
    targets : whether the label (beside text) or the tags (beside tokens) are wanted too

    What is not named is guessed: the id from `id`, `doc_id` or `_id`; the text from `text`, the
    label from `label`, tokens and tags from `tokens` and `tags`, values from `value` or else
    `value_0`, `value_1` and so on; else the only column of a type that serves, beside those
    already taken.

    Raises
    ------
    DataError
        A column is not there, cannot serve, cannot be guessed, or would be input and target at
        once; the message lists the columns.
    SettingsError
        `inputs` is none of the three; a column of text or of values is named twice.
    """
    if inputs not in INPUTS:
        raise SettingsError(f"inputs is {inputs!r}; expected one of {', '.join(INPUTS)}")
    for role, names in (("text", _listed(text)), ("value", _listed(values))):
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(
                    f"the {role} column {name!r} is named {names.count(name)} times; expected once"
                )
    if id is None:
        id = next((name for name in ID_NAMES if name in schema.names), None)
    taken = {id, *_listed(text), *_listed(values), tokens, label, tags, *_listed(keep)}

    def guess(name: str, parameter: str, what: str, serves: Callable[[pa.DataType], bool]) -> str:
        if name in schema.names:
            taken.add(name)
            return name
        found: list[str] = [
            field.name
            for field in schema
            if field.name not in taken
            and not INDEX_NAME.fullmatch(field.name)
            and serves(field.type)
        ]
        if len(found) != 1:
            raise DataError(
                f"{where}: cannot tell which column is the {name}, expected {name!r} or a single "
                f"column of {what}: name it ({parameter}=…); its columns: {listing(schema)}"
            )
        taken.add(found[0])
        return found[0]

    fields = Fields(_listed(text), tokens, _listed(values), label, tags, id, _listed(keep))
    if inputs == "text":
        if targets and label is None and LABEL_NAME in schema.names:
            # before the text is guessed, for which a label of strings would stand in the way
            fields = replace(fields, label=LABEL_NAME)
            taken.add(LABEL_NAME)
        if not fields.text:
            name = guess(TEXT_NAME, "text_column", "strings", lambda t: is_string(plain_type(t)))
            fields = replace(fields, text=(name,))
        if targets and fields.label is None:
            name = guess(
                LABEL_NAME,
                "label_column",
                "strings, integers or booleans",
                lambda t: is_label(plain_type(t)),
            )
            fields = replace(fields, label=name)
    elif inputs == "tokens":
        if tags is None and TAGS_NAME in schema.names:
            taken.add(TAGS_NAME)
        if tokens is None:
            name = guess(TOKENS_NAME, "tokens_column", "lists of strings", is_string_list)
            fields = replace(fields, tokens=name)
        if targets and tags is None:
            name = guess(TAGS_NAME, "tags_column", "lists of strings", is_string_list)
            fields = replace(fields, tags=name)
    elif not fields.values and VALUE_NAME not in schema.names and f"{VALUE_NAME}_0" in schema.names:
        numbered = takewhile(schema.names.__contains__, (f"{VALUE_NAME}_{n}" for n in count()))
        fields = replace(fields, values=tuple(numbered))
    elif not fields.values:
        name = guess(VALUE_NAME, "value_columns", "numbers", lambda t: is_number(plain_type(t)))
        fields = replace(fields, values=(name,))
    if not targets:
        fields = fields.without_targets()
    check_fields(schema, fields, where)
    for target, role, read, inputs in (
        (fields.label, "label", fields.text, "text"),
        (fields.tags, "tags", (fields.tokens,), "tokens"),
    ):
        if target is not None and target in read:
            raise DataError(
                f"{where}: the column {target!r} is to be both the {inputs} and the {role}: name "
                f"another for one of them ({inputs}_column=… or {role}_column=…); its columns: "
                f"{listing(schema)}"
            )
    return fields


def check_fields(schema: pa.Schema, fields: Fields, where: str) -> None:
    """Check that every column is there, once, and of a type that can serve.

    Raises DataError; the message lists the columns there are.
    """
    for name in fields.used:
        found = len(schema.get_all_field_indices(name))
        if found != 1:
            problem = f"no column {name!r}" if found == 0 else f"{found} columns called {name!r}"
            raise DataError(f"{where}: {problem}; its columns: {listing(schema)}")

    def check(name: str | None, role: str, good: bool, expected: str) -> None:
        if not good:
            raise DataError(
                f"{where}: the {role} column {name!r} is {schema.field(name).type}, "
                f"expected {expected}; its columns: {listing(schema)}"
            )

    def plain(name: str) -> pa.DataType:
        return plain_type(schema.field(name).type)

    for name in fields.text:
        check(name, "text", is_text(plain(name)), "strings")
    for name in fields.values:
        check(name, "value", is_number(plain(name)), "numbers")
    if fields.label is not None:
        good = is_label(plain(fields.label))
        check(fields.label, "label", good, "strings, integers or booleans")
    for listed, role in ((fields.tokens, "tokens"), (fields.tags, "tags")):
        if listed is not None:
            good = is_string_list(schema.field(listed).type)
            check(listed, role, good, "lists of strings")


def _listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)
