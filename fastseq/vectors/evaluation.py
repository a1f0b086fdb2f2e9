"""Evaluation of word vectors: similarity of word pairs against people's scores, and analogies.

The data sets are read from Parquet and from the text forms in which they are distributed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.errors import DataError
from fastseq.settings import one_of, whole
from fastseq.types import Float64, Int32
from fastseq.vectors.nearest import unit_rows
from fastseq.vectors.words import METHODS, WordVectors

MOST = 300_000  # most frequent words used, as in gensim
SYNTACTIC = "gram"  # prefix of the names of Google's syntactic sections
_CANDIDATES = 8  # per answer: a word may occur in several cases
_FIRST = ("word1", "word_1", "word 1", "w1")
_SECOND = ("word2", "word_2", "word 2", "w2")
_SCORE = ("score", "human (mean)", "simlex999", "similarity", "mean", "rating")
_SECTION = ("section", "category")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs of words."""

    first: list[str]
    second: list[str]
    scores: Float64  # [P] their similarity in any unit

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Q analogies "a is to b as c is to d"."""

    words: list[tuple[str, str, str, str]]  # (a, b, c, d) of each
    sections: list[str]  # the section of each

    def __len__(self) -> int:
        return len(self.words)


def read_pairs(path: str | os.PathLike[str]) -> Pairs:
    """Read pairs of words and their scores.

    .parquet has the columns word1, word2 and score. Any other file is text with at least three
    fields per line, separated by tabs, else by commas, else by white space; lines that begin with #
    are ignored. A first line whose third field is no number names the columns (WordSim-353's and
    SimLex-999's names are known).

    Raises DataError, naming the line or row, for a file that is missing, damaged or empty, a
    missing column, an empty word, or a score that is no number.
    """
    parquet = Path(path).suffix.lower() == ".parquet"
    rows = _parquet(path, (_FIRST, _SECOND, _SCORE)) if parquet else _pair_lines(path)
    first, second, scores = [], [], []
    for place, fields in rows:
        a, b, text = fields
        score = _number(text)
        if not a or not b or score is None or not math.isfinite(score):
            raise DataError(f"{path}, {place}: {a!r}, {b!r}, {text!r}: expected two words, a score")
        first.append(a)
        second.append(b)
        scores.append(score)
    if not first:
        raise DataError(f"{path}: no pairs of words in it")
    return Pairs(first, second, np.array(scores))


def read_questions(path: str | os.PathLike[str]) -> Questions:
    """Read analogies.

    .parquet has the columns section, a, b, c and d. Any other file is text in the form of Google's
    questions-words.txt: a line ": section" before its analogies, four words per line.

    Raises DataError, naming the line or row, for a file that is missing, damaged or empty, a
    missing column, an empty word, or a line with another number of words.
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

    columns = (column.to_pylist() for column in read_columns(path, names))
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
    at: tuple[int, ...] = ()
    separator: str | None = None
    for number, line in read_lines(path):
        if line.startswith("#"):
            continue
        if not at:
            separator = next((mark for mark in "\t,;" if line.count(mark) >= 2), None)
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) < 3:
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, expected two words and a score"
            )
        if not at and _number(fields[2]) is None:
            at = _columns(fields)
            if min(at) < 0:
                raise DataError(
                    f"{path}, line {number}: {line[:60]!r}: expected two words and a score, or "
                    "the names word1, word2, score"
                )
            continue
        at = at or (0, 1, 2)
        if len(fields) <= max(at):
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, expected at least {max(at) + 1}"
            )
        rows.append((f"line {number}", [fields[i] for i in at]))
    return rows


def _columns(header: list[str]) -> tuple[int, ...]:
    """The columns of words and score, from a line of names; -1 for those it does not name."""
    names = [re.sub(r"\s+", " ", name).strip("\"' ").lower() for name in header]
    return tuple(
        next((names.index(name) for name in known if name in names), -1)
        for known in (_FIRST, _SECOND, _SCORE)
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Similarity:
    """Result of `similarity`."""

    spearman: float  # rank correlation with people's scores; NaN if either is constant
    pairs: int  # number of pairs
    used: int  # pairs with two known words
    out_of_vocabulary: float  # share of pairs with an unknown word

    def to_dict(self) -> dict[str, Any]:
        """By name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Section:
    """Numbers of analogies answered correctly, used, and skipped because of an unknown word."""

    name: str
    correct: int
    used: int
    skipped: int

    @property
    def accuracy(self) -> float:
        """Share of those used that are correct; NaN if none was used."""
        return self.correct / self.used if self.used else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """By name, ready for JSON."""
        counts = {"correct": self.correct, "used": self.used, "skipped": self.skipped}
        return {"section": self.name, "accuracy": self.accuracy, **counts}


@dataclass(frozen=True, slots=True)
class Analogies:
    """Result of `analogies`, by section, in the order of the file."""

    sections: tuple[Section, ...]

    @property
    def total(self) -> Section:
        """All analogies."""
        return self._sum("total", (True, False))

    @property
    def semantic(self) -> Section:
        """Those of sections whose names do not begin with "gram"."""
        return self._sum("semantic", (False,))

    @property
    def syntactic(self) -> Section:
        """Those of sections whose names begin with "gram"."""
        return self._sum("syntactic", (True,))

    def _sum(self, name: str, syntactic: tuple[bool, ...]) -> Section:
        chosen = [s for s in self.sections if s.name.startswith(SYNTACTIC) in syntactic]
        sums = (sum(getattr(s, part) for s in chosen) for part in ("correct", "used", "skipped"))
        return Section(name, *sums)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "accuracy": self.total.accuracy,
            "semantic": self.semantic.accuracy,
            "syntactic": self.syntactic.accuracy,
            "used": self.total.used,
            "skipped": self.total.skipped,
            "sections": [section.to_dict() for section in self.sections],
        }


def similarity(
    vectors: WordVectors, pairs: Pairs, most: int = MOST, ignore_case: bool = True
) -> Similarity:
    """Spearman's rank correlation of cosines with people's scores.

    most : only this many most frequent words count as known
    ignore_case : Paris matches paris and the other way round; of several spellings the most
        frequent is used

    Raises SettingsError for `most` below 1.
    """
    known = _Known(vectors, most, ignore_case)
    rows = np.stack([known.rows_of(pairs.first), known.rows_of(pairs.second)])
    used = (rows >= 0).all(axis=0)
    sides = (unit_rows(known.vectors.vectors[side]).astype(np.float64) for side in rows[:, used])
    cosines = np.einsum("ij,ij->i", *sides)
    count = int(used.sum())
    correlation = spearman(cosines, pairs.scores[used])
    return Similarity(correlation, len(pairs), count, 1 - count / max(1, len(pairs)))


def analogies(
    vectors: WordVectors,
    questions: Questions,
    most: int = MOST,
    method: str = "add",
    ignore_case: bool = True,
    threads: int | None = None,
) -> Analogies:
    """Which analogies "a is to b as c is to ?" are answered by d.

    An analogy with an unknown word is skipped. a, b and c, in any letter case if that is ignored,
    are no answers.

    most : only this many most frequent words count as known and as answers
    method : "add" or "mul", as in `WordVectors.analogy`
    ignore_case : as in `similarity`

    Raises SettingsError for another method, or `most` or `threads` below 1.
    """
    multiply = one_of("method", method, METHODS) == "mul"
    known = _Known(vectors, most, ignore_case)
    asked = known.rows_of([word for words in questions.words for word in words]).reshape(-1, 4)
    used = (asked >= 0).all(axis=1)
    right = np.zeros(len(asked), np.bool_)
    if used.any():
        rows = asked[used]
        distinct, places = np.unique(rows[:, :3], return_inverse=True)
        found, _ = known.vectors.packed(threads).analogies(
            known.vectors.vectors[distinct],
            places.reshape(-1, 3).astype(np.int32),
            rows[:, :3],
            _CANDIDATES,
            multiply,
            threads=threads,
        )
        right[used] = known.first_other(found, rows[:, :3]) == known.spelling[rows[:, 3]]
    sections = []
    of_section = np.array(questions.sections)
    for name in dict.fromkeys(questions.sections):
        here = of_section == name
        count = int((here & used).sum())
        sections.append(Section(name, int(right[here].sum()), count, int(here.sum()) - count))
    return Analogies(tuple(sections))


def spearman(x: Float64, y: Float64) -> float:
    """Spearman's rank correlation of float64[n] with float64[n], ties having their mean rank; NaN
    if either has no two different values."""
    first, second = _ranks(x), _ranks(y)
    if not len(x) or first.min() == first.max() or second.min() == second.max():
        return float("nan")
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _ranks(values: Float64) -> Float64:
    """float64[n]: ranks from 1; ties have their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float64 = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


class _Known:
    """Looks up the most frequent words by their spelling.

    vectors   of these words
    spelling  int32[n]: id of each word's spelling, case ignored or not
    """

    def __init__(self, vectors: WordVectors, most: int, ignore_case: bool) -> None:
        self.vectors = vectors.most_frequent(whole("most", most, 1))
        self._ignore_case = ignore_case
        self._number: dict[str, int] = {}
        self._row: list[int] = []  # of the most frequent word with the spelling
        numbers = []
        for row, word in enumerate(self.vectors.words):
            number = self._number.setdefault(self._key(word), len(self._row))
            if number == len(self._row):
                self._row.append(row)
            numbers.append(number)
        self.spelling: Int32 = np.array(numbers, np.int32)

    def _key(self, word: str) -> str:
        return word.upper() if self._ignore_case else word

    def rows_of(self, words: list[str]) -> Int32:
        """int32[n]: rows, -1 for unknown words."""
        numbers = (self._number.get(self._key(word)) for word in words)
        rows = (-1 if number is None else self._row[number] for number in numbers)
        return np.fromiter(rows, np.int32, len(words))

    def first_other(self, found: Int32, asked: Int32) -> Int32:
        """int32[Q]: the spelling of the first of found [Q, n] that differs from those of asked
        [Q, 3]; -1 if none does."""
        spellings = np.where(found >= 0, self.spelling[found], -1)
        other = (found >= 0) & ~(spellings[:, :, None] == self.spelling[asked][:, None, :]).any(
            axis=2
        )
        first = other.argmax(axis=1)[:, None]
        answers = np.take_along_axis(spellings, first, axis=1)[:, 0]
        return np.where(other.any(axis=1), answers, -1).astype(np.int32)
