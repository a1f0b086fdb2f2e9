"""How good word vectors are: similarity of pairs against what people say, and analogies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.settings import one_of, whole
from fastseq.types import Float64, Int32
from fastseq.vectors.eval_datasets import Pairs, Questions
from fastseq.vectors.nearest import unit_rows
from fastseq.vectors.words import METHODS, WordVectors

MOST = 300_000  # of the most frequent words, as gensim has it
SYNTACTIC = "gram"  # what the names of Google's syntactic sections begin with
_CANDIDATES = 8  # looked at for an answer: a word may stand in several cases


@dataclass(frozen=True, slots=True)
class Similarity:
    """The similarity of pairs.

    spearman           rank correlation of cosines and people's scores; NaN where either is the
                       same for all pairs
    pairs              how many there are
    used               pairs of which both words are known
    out_of_vocabulary  share of pairs of which a word is not
    """

    spearman: float
    pairs: int
    used: int
    out_of_vocabulary: float

    def to_dict(self) -> dict[str, Any]:
        """By name, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Section:
    """Questions answered: how many were right, used, and skipped for want of a word."""

    name: str
    correct: int
    used: int
    skipped: int

    @property
    def accuracy(self) -> float:
        """Share of the used that are right; NaN where none was used."""
        return self.correct / self.used if self.used else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """By name, ready for JSON."""
        return {
            "section": self.name,
            "accuracy": self.accuracy,
            "correct": self.correct,
            "used": self.used,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, slots=True)
class Analogies:
    """Questions answered, section by section, in the order of the file."""

    sections: tuple[Section, ...]

    @property
    def total(self) -> Section:
        """All questions."""
        return self._sum("total", self.sections)

    @property
    def semantic(self) -> Section:
        """Those of sections whose names do not begin with "gram"."""
        chosen = tuple(s for s in self.sections if not s.name.startswith(SYNTACTIC))
        return self._sum("semantic", chosen)

    @property
    def syntactic(self) -> Section:
        """Those of sections whose names begin with "gram"."""
        chosen = tuple(s for s in self.sections if s.name.startswith(SYNTACTIC))
        return self._sum("syntactic", chosen)

    @staticmethod
    def _sum(name: str, sections: tuple[Section, ...]) -> Section:
        sums = (sum(getattr(s, part) for s in sections) for part in ("correct", "used", "skipped"))
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
    vectors: WordVectors,
    pairs: Pairs,
    most: int = MOST,
    ignore_case: bool = True,
    make_unknown: bool = False,
) -> Similarity:
    """Spearman's rank correlation of cosines with people's scores.

    Parameters
    ----------
    most : only so many words count as known, the most frequent
    ignore_case : Paris is found as paris, and the other way round; of several spellings the most
        frequent counts
    make_unknown : words that are not known count too where the vectors have pieces to make them of

    Raises SettingsError for `most` below 1.
    """
    known = _Known(vectors, most, ignore_case)
    rows = np.stack([known.rows_of(pairs.first), known.rows_of(pairs.second)])
    used = (rows >= 0).all(axis=0)
    counted = np.ones_like(used) if make_unknown and vectors.subwords is not None else used
    places = np.flatnonzero(counted)
    cosines = np.zeros(0)
    if len(places):
        sides = []
        for side, words in zip(rows[:, places], (pairs.first, pairs.second), strict=True):
            found = known.vectors.vectors[side]
            missing = np.flatnonzero(side < 0)
            if len(missing) and vectors.subwords is not None:
                made = [words[places[i]] for i in missing]
                found[missing] = vectors.subwords.vectors_of(made)
            sides.append(unit_rows(found).astype(np.float64))
        cosines = np.einsum("ij,ij->i", *sides)
    return Similarity(
        spearman(cosines, pairs.scores[places]),
        len(pairs),
        len(places),
        float(1 - used.sum() / max(1, len(pairs))),
    )


def analogies(
    vectors: WordVectors,
    questions: Questions,
    most: int = MOST,
    method: str = "add",
    ignore_case: bool = True,
    threads: int | None = None,
) -> Analogies:
    """Which questions "a is to b as c is to ?" are answered by d.

    A question is skipped where one of its four words is not known. a, b and c, in any case of
    letters where that is ignored, are no answers.

    Parameters
    ----------
    most : only so many words count as known, and are answers: the most frequent
    method : "add" or "mul", as `WordVectors.analogy` has it
    ignore_case : as `similarity` has it

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
    """Spearman's rank correlation of float64[n] with float64[n], equal values having the mean of
    their ranks; NaN where either has no two different ones."""
    first, second = _ranks(x), _ranks(y)
    if not len(x) or first.min() == first.max() or second.min() == second.max():
        return float("nan")
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _ranks(values: Float64) -> Float64:
    """float64[n]: ranks from 1; equal values have the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float64 = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


class _Known:
    """The most frequent words, found by their spelling.

    vectors   of these words
    spelling  int32[n]: the number of each word's spelling, case ignored or not
    """

    def __init__(self, vectors: WordVectors, most: int, ignore_case: bool) -> None:
        self.vectors = vectors.most_frequent(whole("most", most, 1))
        self._ignore_case = ignore_case
        self._number: dict[str, int] = {}
        self._row: list[int] = []  # of the most frequent word so spelt
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
        """int32[n]: rows, -1 for words that are not known."""
        numbers = (self._number.get(self._key(word)) for word in words)
        rows = (-1 if number is None else self._row[number] for number in numbers)
        return np.fromiter(rows, np.int32, len(words))

    def first_other(self, found: Int32, asked: Int32) -> Int32:
        """int32[Q]: the spelling of the first of found [Q, n] that is none of those of asked
        [Q, 3]; -1 where all are."""
        spellings = np.where(found >= 0, self.spelling[found], -1)
        other = (found >= 0) & ~(spellings[:, :, None] == self.spelling[asked][:, None, :]).any(
            axis=2
        )
        first = other.argmax(axis=1)[:, None]
        answers = np.take_along_axis(spellings, first, axis=1)[:, 0]
        return np.where(other.any(axis=1), answers, -1).astype(np.int32)
