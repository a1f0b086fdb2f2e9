"""Queries from a file: Parquet (query_id, text), or lines of id, tab, text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fastseq.errors import DataError, FastseqWarning, SettingsError
from fastseq.store.arrays import first_null, is_string, is_text, repaired
from fastseq.store.tables import read_columns, read_lines

QUERY_ID_NAMES = ("query_id", "qid", "id", "_id")
QUERY_TEXT_NAMES = ("text", "query")
# in the header of a text file, in lower case and without marks
_HEADER_IDS = {"id", "qid", "queryid", "topic", "topicid", "number", "num"}
_HEADER_TEXTS = {"text", "query", "querytext", "question", "title"}
TEXT_SUFFIXES = (".tsv", ".txt")


def read_queries(path: str | Path) -> tuple[list[str] | list[int], list[str]]:
    """The ids and texts of the queries in a file, in order.

    Parquet has the columns `query_id` (or `qid`, `id`, `_id`; strings or integers) and `text` (or
    `query`). A .tsv or .txt file has the id, a tab and the text on each line; a first line that
    names these columns is a header. A null text is an empty query. Warns of a header that is
    skipped, and of empty lines.

    Raises
    ------
    DataError
        The file is missing or damaged, a column is missing or of the wrong type, an id is null or
        there twice, a line has no tab (naming file and line or row).
    SettingsError
        The file has another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        ids, texts = _from_parquet(path)
    elif suffix in TEXT_SUFFIXES:
        ids, texts = _from_lines(path)
    else:
        raise SettingsError(f"{path}: queries end in .parquet, .tsv or .txt, not {suffix!r}")
    refuse_repeats(ids, f"{path}: the query id")
    return ids, texts


def id_list(array: pa.Array, where: str) -> list[Any]:
    """Ids as Python strings or integers.

    Raises
    ------
    DataError
        They are neither, or one is null; the message begins with `where`.
    """
    if not (is_string(array.type) or pa.types.is_integer(array.type) or len(array) == 0):
        raise DataError(f"{where} is {array.type}, expected strings or integers")
    if array.null_count:
        raise DataError(f"{where} is null in row {first_null(array)} (from 0)")
    return list((repaired(array) if is_string(array.type) else array).to_pylist())


def refuse_repeats(values: Sequence[Hashable], what: str) -> None:
    """Raise DataError naming the first value that is there twice."""
    if len(set(values)) == len(values):
        return
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise DataError(f"{what} {value!r} is there twice, expected one row for each")
        seen.add(value)


def _from_parquet(path: str | Path) -> tuple[list[Any], list[str]]:
    ids, texts = read_columns(path, [QUERY_ID_NAMES, QUERY_TEXT_NAMES])
    if not is_text(texts.type):
        raise DataError(f"{path}: the text of the queries is {texts.type}, expected strings")
    strings = repaired(texts.cast(pa.string()) if pa.types.is_null(texts.type) else texts)
    return id_list(ids, f"{path}: the query id"), [text or "" for text in strings.to_pylist()]


def _from_lines(path: str | Path) -> tuple[list[str], list[str]]:
    ids: list[str] = []
    texts: list[str] = []
    header, empty, before = "", 0, 0
    for number, line in read_lines(path):
        empty += number - before - 1
        before = number
        identifier, tab, text = line.partition("\t")
        if not tab or not identifier:
            raise DataError(f"{path}, line {number}: expected an id, a tab and the query")
        if not ids and not header and _is_header(identifier, text):
            header = line
            continue
        ids.append(identifier)
        texts.append(text)
    if header:
        said = f"{path}: the first line is read as a header: {header!r}"
        warnings.warn(said, FastseqWarning, stacklevel=4)
    if empty:
        lines = "1 empty line is" if empty == 1 else f"{empty:,} empty lines are"
        warnings.warn(f"{path}: {lines} skipped", FastseqWarning, stacklevel=4)
    return ids, texts


def _is_header(identifier: str, text: str) -> bool:
    """Whether a first line names columns, as `query_id<TAB>text` and `#qid<TAB>Query` do."""
    names = [re.sub(r"[\W_]", "", name).lower() for name in (identifier, text.partition("\t")[0])]
    return names[0] in _HEADER_IDS and names[1] in _HEADER_TEXTS
