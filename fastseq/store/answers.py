"""The answers to questions: which columns have them, and their texts and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError, RowError, quoted
from fastseq.store.columns import check_fields, check_types
from fastseq.store.parquet import listing
from fastseq.store.rows import RowBatch, RowReader

ANSWERS, ANSWER, START = "answers", "answer", "answer_start"
_TEXT = "text"
_NOWHERE = -1  # the answer_start of no answer

# a text of the context and the code point it begins at; None: its first occurrence
Answer = tuple[str, int | None]


def with_answers(reader: RowReader, named: str | None, known: Sequence[str] = ()) -> RowReader:
    """The reader with the columns of answers, which `read_answers` reads from its batches.

    named  a column of answers; with strings, `answer_start` has their places, if there is one
    known  the columns of training

    By default the column is `answers` or `answer`. Raises DataError, which lists the columns, where
    it is missing.
    """
    own = reader.data.types
    if named is not None or not known:
        name = named or next((name for name in (ANSWERS, ANSWER) if name in own), None)
        if name is None:
            first = reader.sources[0]
            raise DataError(
                f"{first.name}: no column {ANSWERS!r} or {ANSWER!r}: name that of the answers "
                f"(label_column=…); its columns: {listing(first.schema)}"
            )
        known = (name, START) if START in own and name != START else (name,)
    fields = replace(reader.fields, id=None, keep=tuple(known))
    check_fields(reader.data, fields)
    schema = pa.schema([(name, reader.data.type_of(name)) for name in fields.keep])
    return replace(reader, fields=fields, kept=schema)


def with_lists(reader: RowReader, name: str) -> RowReader:
    """The reader with a column of lists of strings, which its batches keep.

    Raises DataError where it is missing or of another type.
    """
    fields = replace(reader.fields, id=None, keep=(name,))
    check_fields(reader.data, fields)
    check_types(reader.data, "tokens", name)
    return replace(reader, fields=fields, kept=pa.schema([(name, reader.data.type_of(name))]))


def read_answers(batch: RowBatch) -> list[list[Answer]]:
    """The answers to the question of each row; none for a null, an empty list or an empty string,
    nor where the `answer_start` of a text is -1 or null. A struct of lists whose list of places is
    null has texts without places.

    A column has strings, lists of strings, structs of lists `text` and `answer_start` (as SQuAD),
    or lists of structs of those. Raises RowError for others, and for an `answer_start` below -1.
    """
    first, *others = batch.kept.columns
    starts = map(_place, others[0].to_pylist()) if others else [None] * batch.rows
    found = []
    for row, (value, start) in enumerate(zip(first.to_pylist(), starts, strict=True)):
        try:
            own = _answers(value, start)
        except (TypeError, ValueError, KeyError):
            raise RowError(
                row,
                f"the answers in column {quoted(batch.kept.column_names[0])} are {value!r:.80}, "
                "expected a string, or texts with their answer_start",
            ) from None
        least = min((at for _, at in own if at is not None), default=0)
        if least < _NOWHERE:
            raise RowError(
                row, f"{START} is {least}, expected a place in the context, or -1 for no answer"
            )
        found.append([(text, at) for text, at in own if text and at != _NOWHERE])
    return found


def _answers(value: Any, start: Any) -> list[Answer]:
    if value is None:
        return []
    if isinstance(value, dict):
        if isinstance(value[_TEXT], list):
            texts, places = value[_TEXT], [None] * len(value[_TEXT])
            if value.get(START):  # a list that a row does not have is null, too
                places = [_place(at) for at in value[START]]
            return [_answer(text, at) for text, at in zip(texts, places, strict=True)]
        return [_answer(value[_TEXT], _place(value[START]) if START in value else None)]
    if isinstance(value, list):
        return [answer for each in value for answer in _answers(each, None)]
    return [_answer(value, start)]


def _place(start: Any) -> Any:
    """The `answer_start` of a column or field: null is no answer."""
    return _NOWHERE if start is None else start


def _answer(text: Any, start: Any) -> Answer:
    if text is None and start == _NOWHERE:
        text = ""
    if not isinstance(text, str) or not (start is None or type(start) is int):
        raise TypeError
    return text, start
