"""Texts from any source: a corpus, an Arrow column, Python strings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import DataError, SettingsError, located, quoted
from fastseq.store.frames import are_rows, is_arrow, is_lazy_frame, is_table
from fastseq.types import Texts

if TYPE_CHECKING:
    import pyarrow as pa

SLICE_BYTES = 2 << 20  # of text in a slice, the unit of work of a thread


@dataclass(frozen=True, slots=True)
class TextSource:
    """Texts that can be read.

    slices  yields the texts, in order, in slices of about SLICE_BYTES; a null is empty. Raises
            DataError as the corpus, or for something that is no string
    where   the location of the text of a number, for messages
    """

    slices: Callable[[], Iterator[Texts]]
    where: Callable[[int], str]

    def located(self) -> AbstractContextManager[None]:
        """A context that adds the location to a RowError that counts these texts."""
        return located(self.where)


def open_texts(source: Any, text_columns: str | Sequence[str] | None = None) -> TextSource:
    """The texts of a corpus, of a column, or of Python strings.

    Parameters
    ----------
    source : a Corpus, or a source of Corpus.open (paths, a list of Path objects; a table, a data
        frame, a list of those; dicts); one column: an Arrow array or chunked array, a Series with
        the Arrow interface; Texts; or an iterable of strings, or of Texts, with an optional method
        `where` for the location of a text
    text_columns : of a corpus

    Raises DataError: as Corpus.open; a column that does not hold strings; SettingsError: `source`
    has no texts.
    """
    if isinstance(source, Texts):
        source = [source]
    if isinstance(source, Iterator) and not is_arrow(source):
        slices = partial(_slices_of_iterator, source, text_columns)
        return TextSource(slices, getattr(source, "where", _row))
    has_columns = are_rows(source) or is_lazy_frame(source)
    if isinstance(source, list | tuple) and not (
        has_columns or (source and all(isinstance(part, os.PathLike) for part in source))
    ):
        return TextSource(lambda: slices_of(source), _row)  # without pyarrow
    import pyarrow as pa

    from fastseq.store.arrays import arrow_column, is_text, plain_type
    from fastseq.store.rows import Corpus

    table = is_table(source) or has_columns or (text_columns and is_arrow(source))
    if table or isinstance(source, str | os.PathLike | list | tuple | Corpus):
        corpus = source if isinstance(source, Corpus) else Corpus.open(source, None, text_columns)
        return TextSource(
            lambda: (batch.text for batch in corpus.batches(SLICE_BYTES)), corpus.where
        )
    column = arrow_column(source)
    if column is not None:
        if not is_text(plain_type(column.type)):
            raise DataError(f"a column of type {column.type}, expected strings")
        only = Corpus.open(pa.table([column], ["text"]), None, "text", ())
        return TextSource(lambda: (batch.text for batch in only.batches(SLICE_BYTES)), _row)
    if not isinstance(source, Iterable) or isinstance(source, bytes | bytearray):
        raise SettingsError(
            f"cannot read texts from a {type(source).__name__}; expected strings, an Arrow column, "
            "a table or Parquet"
        )
    return TextSource(lambda: slices_of(source), getattr(source, "where", _row))


def stored_texts(table: pa.Table, paths: Sequence[str]) -> Iterator[list[Texts]]:
    """The texts of some columns or nested fields of a table, each as one of `Texts`, of some rows
    at a time; a null is empty, and a list of texts is joined by spaces.

    Raises DataError for a column that has no texts.
    """
    from fastseq.store.arrays import is_text, is_text_list, joined, plain, plain_type, texts_of
    from fastseq.store.nested import column_at

    for batch in table.to_batches():
        found = []
        for path in paths:
            array = column_at(batch, path)
            kind = plain_type(array.type)
            if is_text_list(kind):
                array = joined(plain(array, kind))
            elif is_text(kind):
                array = plain(array, kind)
            else:
                raise DataError(
                    f"the column {quoted(path)} is of type {array.type}, expected strings"
                )
            found.append(texts_of([array]))
        yield found


def _slices_of_iterator(
    source: Iterator[Any], text_columns: str | Sequence[str] | None
) -> Iterator[Texts]:
    """The texts of an iterator of strings, of Texts, or of dicts; nothing is read before."""
    first = list(islice(source, 1))
    rest = chain(first, source)
    if not are_rows(first):
        return slices_of(rest)
    from fastseq.store.rows import Corpus

    corpus = Corpus.open(rest, None, text_columns)
    return (batch.text for batch in corpus.batches(SLICE_BYTES))


def slices_of(texts: Iterable[str | Texts]) -> Iterator[Texts]:
    """Strings, or Texts of several each, in slices. Raises DataError for other values."""
    size = SLICE_BYTES
    held: list[str] = []
    characters = 0
    for number, text in enumerate(texts):
        if isinstance(text, str):
            held.append(text)
            characters += len(text)
            if characters < size:
                continue
        elif not isinstance(text, Texts):
            shown = "missing (None)" if text is None else f"of type {type(text).__name__}"
            raise DataError(f"text {number} (from 0) is {shown}; expected a string")
        if held:
            yield Texts.from_strings(held)
            held, characters = [], 0
        if isinstance(text, Texts):
            start = 0
            while start < len(text):
                stop = int(np.searchsorted(text.offsets, text.offsets[start] + size, "right")) - 1
                stop = min(max(stop, start + 1), len(text))
                yield Texts(text.data, text.offsets[start : stop + 1])
                start = stop
    if held:
        yield Texts.from_strings(held)


def _row(row: int) -> str:
    return f"row {row} (from 0)"
