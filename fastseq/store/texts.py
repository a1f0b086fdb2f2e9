"""Texts alone, from whatever holds them: a corpus, or a single Arrow column."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError, SettingsError
from fastseq.store.arrays import is_text, plain, plain_type, texts_of
from fastseq.store.corpus import Corpus
from fastseq.types import Texts

_ROWS = 65_536  # of an Arrow column, brought to plain strings at a time


def is_source(source: Any) -> bool:
    """Whether `text_slices` takes it: a path, a Corpus, anything with an Arrow interface."""
    arrow = ("__arrow_c_array__", "__arrow_c_stream__")
    return isinstance(source, str | os.PathLike | Corpus) or any(hasattr(source, n) for n in arrow)


def text_slices(source: Any, max_bytes: int) -> Iterator[Texts]:
    """The texts of a corpus, or of an Arrow column of strings, in order; a null is empty.

    Parameters
    ----------
    source : a Corpus, or what Corpus.open takes (a single path, a table, a data frame); or one
        column: an Arrow array or chunked array, a polars Series, a pandas Series that has the
        Arrow interface
    max_bytes : of text in one piece, about

    Raises
    ------
    DataError
        What Corpus raises; a column that does not hold strings.
    """
    if isinstance(source, str | os.PathLike) or _is_table(source):
        source = Corpus.open(source)
    if isinstance(source, Corpus):
        for batch in source.batches(max_bytes):
            assert batch.texts is not None
            yield batch.texts
        return
    for chunk in _column(source).chunks:
        for start in range(0, len(chunk), _ROWS):
            part = chunk.slice(start, _ROWS)
            yield texts_of([plain(part, plain_type(part.type))])[0]


def _is_table(source: Any) -> bool:
    """Whether it has several columns, which a data frame names and a stream's schema does."""
    return not isinstance(source, Corpus) and (
        hasattr(source, "columns") or hasattr(source, "schema")
    )


def _column(source: Any) -> pa.ChunkedArray:
    try:
        if isinstance(source, pa.Array):
            column = pa.chunked_array([source])
        elif hasattr(source, "__arrow_c_stream__"):
            column = pa.chunked_array(source)
        else:
            column = pa.chunked_array([pa.array(source)])
    except (pa.ArrowException, TypeError) as error:
        name = type(source).__name__
        raise SettingsError(f"cannot read texts from a {name}: {error}") from error
    if not is_text(plain_type(column.type)):
        raise DataError(f"a column of type {column.type}, expected strings")
    return column
