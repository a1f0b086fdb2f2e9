"""Sets that word vectors are measured on: pairs of words that people scored, and analogies.

Both are read from Parquet, and from the text forms in which they are handed around.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastseq.errors import DataError
from fastseq.types import Float64

_FIRST = ("word1", "word_1", "word 1", "w1")
_SECOND = ("word2", "word_2", "word 2", "w2")
_SCORE = ("score", "human (mean)", "simlex999", "similarity", "mean", "rating")
_SECTION = ("section", "category")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs of words.

    first, second  P strings each
    scores         float64[P], how alike they are; in any unit
    """

    first: list[str]
    second: list[str]
    scores: Float64

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Q questions "a is to b as c is to d", in sections.

    words     (a, b, c, d) of each
    sections  the section of each
    """

    words: list[tuple[str, str, str, str]]
    sections: list[str]

    def __len__(self) -> int:
        return len(self.words)


def read_pairs(path: str | os.PathLike[str]) -> Pairs:
    """Pairs of words and their scores.

    .parquet has the columns word1, word2 and score. Any other file is text, three fields a line
    and more that are passed over, separated by tabs, else by commas, else by white space; lines
    that begin with # are passed over. A first line whose third field is no number names the
    columns (WordSim-353's and SimLex-999's names are known).

    Raises
    ------
    DataError
        The file is missing, damaged or empty, a column is missing, a word is empty or a score no
        number; the message names the line or row.
    """
    if Path(path).suffix.lower() == ".parquet":
        rows = _parquet(path, (_FIRST, _SECOND, _SCORE))
    else:
        rows = _pair_lines(path)
    first, second, scores = [], [], []
    for place, fields in rows:
        a, b, text = fields
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not a or not b or not math.isfinite(score):
            raise DataError(f"{path}, {place}: {a!r}, {b!r}, {text!r}: expected two words, a score")
        first.append(a)
        second.append(b)
        scores.append(score)
    if not first:
        raise DataError(f"{path}: no pairs of words in it")
    return Pairs(first, second, np.array(scores))


def read_questions(path: str | os.PathLike[str]) -> Questions:
    """Analogies.

    .parquet has the columns section, a, b, c and d. Any other file is text in the form of Google's
    questions-words.txt: a line ": section" before its questions, four words a line.

    Raises
    ------
    DataError
        The file is missing, damaged or empty, a column is missing, or a line has another number of
        words; the message names the line or row.
    """
    words: list[tuple[str, str, str, str]] = []
    sections: list[str] = []
    if Path(path).suffix.lower() == ".parquet":
        columns = (_SECTION, *((name,) for name in "abcd"))
        for place, (section, a, b, c, d) in _parquet(path, columns):
            if not (a and b and c and d):
                raise DataError(f"{path}, {place}: an empty word among the four")
            words.append((a, b, c, d))
            sections.append(section)
    else:
        from fastseq.store.parquet import read_lines

        section = ""
        for number, line in read_lines(path):
            if line.startswith(":"):
                section = line[1:].strip()
                continue
            fields = line.split()
            if len(fields) != 4:
                raise DataError(
                    f"{path}, line {number}: {len(fields)} words, expected four, or ': section'"
                )
            words.append((fields[0], fields[1], fields[2], fields[3]))
            sections.append(section)
    if not words:
        raise DataError(f"{path}: no questions in it")
    return Questions(words, sections)


def _parquet(
    path: str | os.PathLike[str], names: Sequence[Sequence[str]]
) -> list[tuple[str, list[str]]]:
    """Place and fields of every row, as strings."""
    from fastseq.store.parquet import read_columns

    columns = [column.to_pylist() for column in read_columns(path, names)]
    rows = []
    for number, fields in enumerate(zip(*columns, strict=True)):
        place = f"row {number} (from 0)"
        if any(not isinstance(field, str | int | float) for field in fields):
            shown = ", ".join(map(repr, fields))
            raise DataError(f"{path}, {place}: {shown}: expected {', '.join(n for n, *_ in names)}")
        rows.append((place, [str(field) for field in fields]))
    return rows


def _pair_lines(path: str | os.PathLike[str]) -> list[tuple[str, list[str]]]:
    """Place and fields of every line: two words and a score."""
    from fastseq.store.parquet import read_lines

    rows: list[tuple[str, list[str]]] = []
    at = (0, 1, 2)
    separator: str | None = None
    begun = False
    for number, line in read_lines(path):
        if line.startswith("#"):
            continue
        if not begun:
            separator = next((mark for mark in "\t,;" if line.count(mark) >= 2), None)
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) < 3:
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, expected two words and a score"
            )
        if not begun:
            begun = True
            if not _is_number(fields[2]):
                named = _columns(fields)
                if named is None:
                    raise DataError(
                        f"{path}, line {number}: {line[:60]!r}: expected two words and a score, or "
                        "the names word1, word2, score"
                    )
                at = named
                continue
        if len(fields) <= max(at):
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, expected at least {max(at) + 1}"
            )
        rows.append((f"line {number}", [fields[i] for i in at]))
    return rows


def _columns(header: list[str]) -> tuple[int, int, int] | None:
    """Where words and score stand, by a line of names; None where it names no such columns."""
    names = [re.sub(r"\s+", " ", name).strip("\"' ").lower() for name in header]
    found = []
    for known in (_FIRST, _SECOND, _SCORE):
        place = next((names.index(name) for name in known if name in names), None)
        if place is None:
            return None
        found.append(place)
    return found[0], found[1], found[2]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
