"""Texts alone, from whatever holds them: a corpus, an Arrow column, Python strings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import DataError, SettingsError, located
from fastseq.types import Texts

if TYPE_CHECKING:
    import pyarrow as pa

SLICE_BYTES = 2 << 20  # of text in a slice, which one thread works on at a time
_ROWS = 65_536  # of an Arrow column, brought to plain strings at a time


@dataclass(frozen=True, slots=True)
class TextSource:
    """Texts that can be read.

    read   gives them in slices of about so many bytes
    where  the place of the text of a number, for messages
    """

    read: Callable[[int], Iterator[Texts]]
    where: Callable[[int], str]

    def slices(self) -> Iterator[Texts]:
        """The texts, in order, in slices of about SLICE_BYTES; a null is empty.

        Raises DataError as the corpus, or for something that is no string.
        """
        return self.read(SLICE_BYTES)

    def located(self) -> AbstractContextManager[None]:
        """Names the place of a RowError that counts these texts."""
        return located(self.where)


def open_texts(source: Any, text_columns: str | Sequence[str] | None = None) -> TextSource:
    """The texts of a corpus, of a column, or of Python strings.

    Parameters
    ----------
    source : a Corpus, or what Corpus.open takes (paths, where a list holds Path objects; a table, a
        data frame); one column: an Arrow array or chunked array, a Series with the Arrow
        interface; Texts; or strings, or Texts of several each, with a method `where` of their own
        if they have places
    text_columns : of a corpus

    Raises
    ------
    DataError
        What Corpus.open raises; a column that does not hold strings.
    SettingsError
        Nothing that holds texts.
    """
    if isinstance(source, Texts):
        source = [source]
    if isinstance(source, list | tuple) and not (source and all(map(_is_path, source))):
        return TextSource(lambda size: slices_of(source, size), _row)  # without pyarrow
    from fastseq.store.corpus import Corpus

    arrow = any(hasattr(source, name) for name in ("__arrow_c_array__", "__arrow_c_stream__"))
    # several columns: a data frame names them, a stream's schema does
    table = arrow and (text_columns or hasattr(source, "columns") or hasattr(source, "schema"))
    if table or isinstance(source, str | os.PathLike | list | tuple | Corpus):
        corpus = source if isinstance(source, Corpus) else Corpus.open(source, None, text_columns)
        return TextSource(lambda size: (batch.text for batch in corpus.batches(size)), corpus.where)
    if arrow or hasattr(source, "chunks"):
        column = _column(source)
        return TextSource(lambda _: _column_slices(column), _row)
    if not isinstance(source, Iterable):
        raise SettingsError(
            f"cannot read texts from a {type(source).__name__}; expected strings, an Arrow column, "
            "a table or Parquet"
        )
    return TextSource(lambda size: slices_of(source, size), getattr(source, "where", _row))


def slices_of(texts: Iterable[str | Texts], size: int = SLICE_BYTES) -> Iterator[Texts]:
    """Strings, or Texts of several each, in slices of about `size` bytes.

    Raises DataError for a value that is neither.
    """
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


def _is_path(part: Any) -> bool:
    return isinstance(part, os.PathLike)


def _row(row: int) -> str:
    return f"row {row} (from 0)"


def _column(source: Any) -> pa.ChunkedArray:
    import pyarrow as pa

    from fastseq.store.arrays import is_text, plain_type

    try:
        if isinstance(source, pa.Array):
            column = pa.chunked_array([source])
        elif isinstance(source, pa.ChunkedArray) or hasattr(source, "__arrow_c_stream__"):
            column = pa.chunked_array(source)
        else:
            column = pa.chunked_array([pa.array(source)])
    except (pa.ArrowException, TypeError) as error:
        name = type(source).__name__
        raise SettingsError(f"cannot read texts from a {name}: {error}") from error
    if not is_text(plain_type(column.type)):
        raise DataError(f"a column of type {column.type}, expected strings")
    return column


def _column_slices(column: pa.ChunkedArray) -> Iterator[Texts]:
    from fastseq.store.arrays import plain, plain_type, texts_of

    first = 0
    for chunk in column.chunks:
        for start in range(0, len(chunk), _ROWS):
            part = chunk.slice(start, _ROWS)
            with located(_row, first):
                texts, _ = texts_of([plain(part, plain_type(part.type))])
            yield texts
            first += len(part)
