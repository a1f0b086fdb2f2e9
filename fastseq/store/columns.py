"""The roles of columns: inputs, targets, id, columns to keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, takewhile
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError, FormatError, SettingsError, quoted
from fastseq.store import ids
from fastseq.store.arrays import element_type, is_string, is_text, is_text_list, plain_type
from fastseq.store.dataset import Dataset
from fastseq.store.dense import EXPECTED as VECTORS
from fastseq.store.dense import is_vector
from fastseq.store.impacts import EXPECTED as IMPACTS
from fastseq.store.impacts import is_impacts
from fastseq.store.nested import count_at
from fastseq.store.parquet import listing

INPUTS = ("text", "tokens", "values", "impacts")
ID_NAMES = ("id", "doc_id", "_id")
TEXT_NAME = "text"
LABEL_NAME, TOKENS_NAME, TAGS_NAME, VALUE_NAME = "label", "tokens", "tags", "value"
INDEX_NAME = re.compile(r"__index_level_\d+__")  # pandas' name of an unnamed index in Arrow


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns to read. A name may be a path to a field inside of structs: `doc.text`.

    text    columns of strings or lists of strings, joined by a space
    tokens  a column of lists of strings
    values  columns of numbers
    label   of strings, integers or booleans
    tags    of lists of strings, as long as the tokens'
    series  identifies the series of values that a row belongs to; None: each file is one
    impacts  a column of terms with weights (impacts.py)
    vectors  a column of lists of numbers (dense.py)
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
    impacts: str | None = None
    vectors: str | None = None

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that must be read, once."""
        named = (self.tokens, self.label, self.tags, self.series, self.impacts, self.vectors)
        single = [name for name in named if name]
        return tuple(dict.fromkeys((*self.text, *self.values, *single, *self.outputs)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The id column, if any, and the columns to keep, each once."""
        ids = () if self.id is None else (self.id,)
        return tuple(dict.fromkeys((*ids, *self.keep)))

    def to_dict(self) -> dict[str, Any]:
        """The names for JSON."""
        names = asdict(self)
        for name in ("series", "impacts", "vectors"):  # absent in models of older versions
            if names[name] is None:
                del names[name]
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


def _is_string_list(kind: pa.DataType) -> bool:
    element = element_type(kind)
    # lists of nulls are all empty
    return element is not None and bool(is_string(element) or pa.types.is_null(element))


_LABELS = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean)
# role of a column -> its types, for messages, and tests of a plain type, one of which must hold
_TYPES: dict[str, tuple[str, tuple[Callable[[pa.DataType], bool], ...]]] = {
    "id": (ids.EXPECTED, (ids.is_id,)),
    "text": ("strings or lists of strings", (is_text, is_text_list)),
    "value": ("numbers", (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)),
    "label": ("strings, integers or booleans", _LABELS),
    "series": ("strings, integers or booleans", _LABELS),
    "tokens": ("lists of strings", (_is_string_list,)),
    "tags": ("lists of strings", (_is_string_list,)),
    "impacts": (IMPACTS, (is_impacts,)),
    "vectors": (VECTORS, (is_vector,)),
}


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
    impacts: str | None = None,
    vectors: str | None = None,
    targets: bool = True,
    text_parameter: str = "text_column",
) -> Fields:
    """Resolve the columns of some data.

    Parameters
    ----------
    inputs : "text", "tokens", "values" or "impacts", which must be named
    targets : whether to resolve the label (of text) or the tags (of tokens), too
    text_parameter : the name in messages of the parameter for text columns

    Columns that are not named are guessed: the id from `id`, `doc_id` or `_id`; the text from
    `text`, the label from `label`, tokens and tags from `tokens` and `tags`, values from `value` or
    else `value_0`, `value_1` and so on; else the only unused column of a suitable type. The unnamed
    index of a pandas frame and the columns of Hive partitions are not guessed, except for a label
    called `label`.

    Raises DataError: a column is missing, of an unsuitable type, ambiguous, or both input and
    target; the message lists the columns; SettingsError: `inputs` is none of the four.
    """
    if inputs not in INPUTS:
        raise SettingsError(f"inputs is {inputs!r}; expected one of {', '.join(INPUTS)}")
    fields = Fields(
        listed(text), tokens, listed(values), label, tags, id, listed(keep), series, impacts,
        vectors,
    )  # fmt: skip
    own = [name for name in data.types if name not in data.partitions]
    if id is None:
        fields = replace(fields, id=next((name for name in ID_NAMES if name in own), None))
    _check_there(data, fields)
    taken = {*fields.used, *([TAGS_NAME] if inputs == "tokens" and tags is None else [])}
    first = data.sources[0]

    def guess(role: str, parameter: str) -> str:
        expected, tests = _TYPES[role]
        if role == TEXT_NAME:
            expected, tests = "strings", (is_string,)
        free = [name for name in own if name not in taken and not INDEX_NAME.fullmatch(name)]
        found = [n for n in free if all(_is_any(tests, kind) for kind in data.types[n])]
        if role == TEXT_NAME and not found:  # empty ones
            found = [n for n in free if all(map(pa.types.is_null, data.types[n]))]
        if role in own or len(found) == 1:
            taken.add(role if role in own else found[0])
            return role if role in own else found[0]
        raise DataError(
            f"{first.name}: cannot tell which column is the {role}, expected {role!r} or a single "
            f"column of {expected}: name it ({parameter}=…); its columns: {listing(first.schema)}"
        )

    if inputs == "text":
        if targets and label is None and LABEL_NAME in data.types:
            # before the text is guessed: a label of strings would make it ambiguous
            label = LABEL_NAME
            taken.add(label)
        texts = fields.text or (guess(TEXT_NAME, text_parameter),)
        if targets and label is None:
            label = guess(LABEL_NAME, "label_column")
        fields = replace(fields, text=texts, label=label)
    elif inputs == "tokens":
        if tokens is None:
            tokens = guess(TOKENS_NAME, "tokens_column")
        if targets and tags is None:
            tags = guess(TAGS_NAME, "tags_column")
        fields = replace(fields, tokens=tokens, tags=tags)
    elif inputs == "values" and not fields.values:
        numbered = tuple(takewhile(own.__contains__, (f"{VALUE_NAME}_{n}" for n in count())))
        if VALUE_NAME in own or not numbered:
            numbered = (guess(VALUE_NAME, "value_columns"),)
        fields = replace(fields, values=numbered)
    if not targets:
        fields = replace(fields, label=None, tags=None)
    check_fields(data, fields)
    for target, role, read, inputs in (
        (fields.label, "label", fields.text, "text"),
        (fields.tags, "tags", (fields.tokens,), "tokens"),
    ):
        if target is not None and target in read:
            raise DataError(
                f"{first.name}: the column {target!r} is both the {inputs} and the {role}: "
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
    check_types(data, "text", *fields.text)
    check_types(data, "value", *fields.values)
    for role in ("label", "series", "tokens", "tags", "impacts", "vectors"):
        check_types(data, role, getattr(fields, role))


def _check_there(data: Dataset, fields: Fields) -> None:
    for source in data.sources:
        texts = fields.text
        if any(count_at(source.schema, name) for name in texts):
            texts = ()
        single = (
            fields.tokens, fields.label, fields.tags, fields.id, fields.series, fields.impacts,
            fields.vectors,
        )  # fmt: skip
        for name in fields.used:
            found = count_at(source.schema, name)
            if found == 1:
                continue
            what = f"{found} columns called" if found else "no column"
            problem = f"{what} {quoted(name)}"
            having = data.kinds(name)
            if not found and having:
                if name not in (*texts, *fields.values, *single):
                    continue
                others = [where for kind, where in having.items() if not pa.types.is_null(kind)]
                problem += f", which {others[0]} has" if others else ""
            raise DataError(f"{source.name}: {problem}; its columns: {listing(source.schema)}")


def check_types(data: Dataset, role: str, *names: str | None) -> None:
    """Raise DataError, which names the source, for a column of an unsuitable type."""
    expected, tests = _TYPES[role]
    for name in filter(None, names):
        for kind, where in data.kinds(name).items():
            if not _is_any(tests, kind):
                source = next(source for source in data.sources if source.name == where)
                raise DataError(
                    f"{where}: the {role} column {quoted(name)} is {kind}, expected {expected}; "
                    "its "
                    f"columns: {listing(source.schema)}"
                )


def is_fraction(data: Dataset, name: str) -> bool:
    """Whether a column, if there is one of this name, is of floating-point or decimal numbers."""
    tests = (pa.types.is_floating, pa.types.is_decimal)
    kinds = [kind for kind in data.kinds(name) if not pa.types.is_null(kind)]
    return bool(kinds) and all(_is_any(tests, kind) for kind in kinds)


def _is_any(tests: Iterable[Callable[[pa.DataType], bool]], kind: pa.DataType) -> bool:
    kind = plain_type(kind)
    return any(test(kind) for test in tests)


def listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several names or None as a tuple."""
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)
