"""The right answers to structured queries, as reference.py has them for plain ones.

Independent of every engine: Python's regular expression, PyStemmer, and NumPy over the array of all
words of the corpus. A phrase is a term whose frequency is the number of its occurrences and whose
inverse document frequency is the sum of its words'. A prefix or a fuzzy word is a term whose
frequency is the sum over the terms of the words that it matches, for a fuzzy word times 1 - edits /
the length of the shorter word. Exclusions and conditions do not score.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from bench.common.harness import Check
from bench.common.reference import K1, STOP_WORDS, WORDS, B, Judge, Ranking, read_texts, stemmer

if TYPE_CHECKING:
    import pyarrow as pa

    from bench.common.questions import Condition, Question


T = TypeVar("T")


class Leaf(NamedTuple):
    """Documents, int32 ascending, the frequency in each, and the inverse document frequency."""

    rows: np.ndarray
    tfs: np.ndarray
    idf: float


class Words:
    """The words of a corpus in the order of the text.

    words   distinct words, lower-cased
    ids     int32[N]      each word of the corpus
    starts  int64[D + 1]  of the documents in ids
    """

    def __init__(self, words: list[str], ids: np.ndarray, starts: np.ndarray) -> None:
        self.words, self.ids, self.starts = words, ids, starts

    @staticmethod
    def of(texts: list[str]) -> Words:
        known: dict[str, int] = {}
        lengths = np.zeros(len(texts), np.int64)
        parts = []
        for row, text in enumerate(texts):
            found = [known.setdefault(word, len(known)) for word in WORDS(text.lower())]
            parts.append(np.array(found, np.int32))
            lengths[row] = len(found)
        ids = np.concatenate([np.zeros(0, np.int32), *parts])
        return Words(list(known), ids, np.concatenate([[0], np.cumsum(lengths)]))

    @staticmethod
    def open(corpus: Path, column: str, folder: Path) -> Words:
        """Those of a corpus, cached in `folder`."""
        if not (folder / "words.json").exists():
            made = Words.of(read_texts(corpus, column))
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "ids.npy", made.ids)
            np.save(folder / "starts.npy", made.starts)
            (folder / "words.json").write_text(json.dumps(made.words))  # last: it is complete
            return made
        words = json.loads((folder / "words.json").read_text())
        return Words(words, np.load(folder / "ids.npy"), np.load(folder / "starts.npy"))


class Answers:
    """The answers under one analysis.

    analysis : "stems": Lucene's 33 stop words removed, Porter2; "words": all words as written
    columns : the derived columns, for conditions

    term_of  int32[W]  the term of each distinct word, -1 for a stop word
    """

    def __init__(self, words: Words, analysis: str, columns: pa.Table | None = None) -> None:
        self.words, self.ids, self.starts = words.words, words.ids, words.starts
        self.columns, self.documents = columns, len(words.starts) - 1
        self._number = {word: number for number, word in enumerate(self.words)}
        self._terms: dict[str, int] = self._number
        self._normal: Callable[[str], str] = str
        self.term_of = np.arange(len(self.words), dtype=np.int32)
        if analysis == "stems":
            stop, self._normal, self._terms = set(STOP_WORDS), stemmer(), {}
            found = [
                -1 if word in stop else self._terms.setdefault(self._normal(word), len(self._terms))
                for word in self.words
            ]
            self.term_of = np.array(found, np.int32)
        self._term = self.term_of[self.ids]  # of each token
        rows = np.arange(self.documents, dtype=np.int32)
        self._document = np.repeat(rows, np.diff(self.starts))  # of each token
        kept = np.flatnonzero(self._term >= 0).astype(np.int32)
        self._places = kept[np.argsort(self._term[kept], kind="stable")]
        counts = np.bincount(self._term[kept], minlength=len(self._terms))
        self._begins = np.concatenate([[0], np.cumsum(counts)])
        lengths = np.bincount(self._document[kept], minlength=self.documents)
        self._norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
        self._codes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._masks: dict[str, np.ndarray] = {}

    def terms(self, text: str) -> Counter[int]:
        """The terms of a text that the corpus has, with their frequency in it."""
        stop = STOP_WORDS if self._terms is not self._number else ()
        found = (
            self._terms.get(self._normal(word)) for word in WORDS(text.lower()) if word not in stop
        )
        return Counter(term for term in found if term is not None)

    def word_of(self, term: int) -> str:
        """The most frequent word of a term."""
        words = np.flatnonzero(self.term_of == term)
        counts = [np.count_nonzero(self.ids == word) for word in words]
        word: str = self.words[words[int(np.argmax(counts))]]
        return word

    def document_frequencies(self) -> np.ndarray:
        """int64[T]"""
        term, document = self._term[self._places], self._document[self._places]
        first = np.ones(len(term), bool)
        first[1:] = (term[1:] != term[:-1]) | (document[1:] != document[:-1])
        return np.bincount(term[first], minlength=len(self._terms))

    def score(self, question: Question) -> tuple[np.ndarray, np.ndarray]:
        """Every matching document, int32 ascending, and its score, float64."""
        kind = question.kind
        if kind == "phrase":
            leaves = [(self._phrase(question.text), 1)]
        elif kind in ("prefix", "fuzzy"):
            similar = (
                self._with_prefix(question.text)
                if kind == "prefix"
                else self._near(question.text, question.edits)
            )
            leaves = [(self._group(similar), 1)]
        else:
            leaves = [(self._leaf(term), n) for term, n in self.terms(question.text).items()]
        total = np.zeros(self.documents)
        matched = np.zeros(self.documents, np.int32)
        for leaf, count in leaves:
            total[leaf.rows] += count * leaf.idf * leaf.tfs / (leaf.tfs + self._norm[leaf.rows])
            matched[leaf.rows] += 1
        least = max(1, len(leaves)) if kind == "and" else 1
        found = matched >= least
        if question.without:
            for term in self.terms(question.without):
                found[self._leaf(term).rows] = False
        if question.condition is not None:
            found &= self._mask(question.condition)
        rows = np.flatnonzero(found).astype(np.int32)
        return rows, total[rows]

    def _mask(self, condition: Condition) -> np.ndarray:
        if condition.text not in self._masks:
            self._masks[condition.text] = condition.mask(self.columns)
        return self._masks[condition.text]

    def _idf(self, count: int) -> float:
        return float(np.log(1 + (self.documents - count + 0.5) / (count + 0.5)))

    def _at(self, term: int) -> np.ndarray:
        """The places of a term in the text, ascending."""
        return self._places[self._begins[term] : self._begins[term + 1]]

    def _leaf(self, term: int) -> Leaf:
        rows, tfs = _counted(self._document[self._at(term)])
        return Leaf(rows, tfs, self._idf(len(rows)))

    def _phrase(self, text: str) -> Leaf:
        """The words of a text at successive places, any word in place of a stop word."""
        words = [self._number[word] for word in text.split()]
        wanted = [
            (offset, int(self.term_of[word]))
            for offset, word in enumerate(words)
            if self.term_of[word] >= 0
        ]
        rarest = min(wanted, key=lambda each: self._begins[each[1] + 1] - self._begins[each[1]])
        first = self._at(rarest[1]).astype(np.int64) - rarest[0]
        last = first + max(offset for offset, _ in wanted)
        first = first[(first >= 0) & (last < len(self.ids))]
        for offset, term in wanted:
            first = first[self._term[first + offset] == term]
        ends = first + max(offset for offset, _ in wanted)
        first = first[self._document[first] == self._document[ends]]
        rows, tfs = _counted(self._document[first])
        return Leaf(rows, tfs, sum(self._leaf(term).idf for _, term in wanted))

    def _group(self, similar: Mapping[int, float]) -> Leaf:
        """The terms of words as one. similar: the similarity of each word."""
        terms: dict[int, float] = {}
        for word, similarity in similar.items():
            term = int(self.term_of[word])
            if term >= 0:
                terms[term] = max(similarity, terms.get(term, 0.0))
        total = np.zeros(self.documents)
        for term, similarity in terms.items():
            leaf = self._leaf(term)
            total[leaf.rows] += similarity * leaf.tfs
        rows = np.flatnonzero(total).astype(np.int32)
        return Leaf(rows, total[rows], self._idf(len(rows)))

    def _with_prefix(self, prefix: str) -> dict[int, float]:
        return {number: 1.0 for number, word in enumerate(self.words) if word.startswith(prefix)}

    def _near(self, word: str, edits: int) -> dict[int, float]:
        """Words within a number of edits, fewer than either has characters."""
        found: dict[int, float] = {}
        for length in range(max(1, len(word) - edits), len(word) + edits + 1):
            numbers, codes = self._of_length(length)
            shorter = min(length, len(word))
            distance = edit_distances(word, codes)
            for at in np.flatnonzero(distance <= min(edits, shorter - 1)).tolist():
                found[int(numbers[at])] = 1 - int(distance[at]) / shorter
        return found

    def _of_length(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the words of a length, and their code points, int32[length, n]."""
        if length not in self._codes:
            numbers = [number for number, word in enumerate(self.words) if len(word) == length]
            text = "".join(self.words[number] for number in numbers)
            codes = np.frombuffer(text.encode("utf-32-le"), np.int32).reshape(-1, length)
            self._codes[length] = np.array(numbers, np.int64), np.ascontiguousarray(codes.T)
        return self._codes[length]


def even(values: Sequence[T], size: int) -> list[T]:
    """`size` of the values at even distances, all of them if there are fewer."""
    places = np.linspace(0, len(values) - 1, min(size, len(values))).astype(int)
    return [values[at] for at in np.unique(places)]


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values of an ascending array, and how often each occurs."""
    first = np.flatnonzero(np.diff(values, prepend=-1))
    return values[first], np.diff(np.append(first, len(values)))


def edit_distances(word: str, codes: np.ndarray) -> np.ndarray:
    """int8[n]: edits between a word and each of n words of one length, int32[length, n]: optimal
    string alignment, in which exchanging two neighbours is one edit."""
    length, n = codes.shape
    rows: list[list[np.ndarray]] = [[np.full(n, j, np.int8) for j in range(length + 1)]]
    for i, letter in enumerate(map(ord, word), 1):
        row = [np.full(n, i, np.int8)]
        for j in range(1, length + 1):
            differs = (codes[j - 1] != letter).astype(np.int8)
            best = np.minimum(
                np.minimum(rows[i - 1][j], row[j - 1]) + 1, rows[i - 1][j - 1] + differs
            )
            if i > 1 and j > 1:
                swapped = (codes[j - 2] == letter) & (codes[j - 1] == ord(word[i - 2]))
                best = np.where(swapped, np.minimum(best, rows[i - 2][j - 2] + 1), best)
            row.append(best.astype(np.int8))
        rows.append(row)
    return rows[-1][-1]


class QueryJudge(Judge):
    """Compares answers with the right ones, for an even sample of a set.

    sample : the questions whose answers it compares, in order
    """

    def __init__(self, answers: Answers, questions: Sequence[Question], size: int) -> None:
        self.sample = even(questions, size)
        self.asked = list(range(len(self.sample)))  # rankings are of the sample alone
        self.scored = [answers.score(question) for question in self.sample]

    def smaller(self, size: int) -> QueryJudge:
        """The judge of an even part of the sample."""
        other = copy.copy(self)
        other.sample, other.scored = even(self.sample, size), even(self.scored, size)
        other.asked = list(range(len(other.sample)))
        return other

    def matching(self, k: int, least: float) -> Callable[[Ranking], Check]:
        """Hits must match, whatever their order: the share of answers that are complete and without
        other documents."""

        def check(ranking: Ranking) -> Check:
            right = 0
            for at, (rows, _) in zip(self.asked, self.scored, strict=True):
                hits = ranking.rows[at][ranking.rows[at] >= 0]
                right += len(hits) == min(k, len(rows)) and bool(np.isin(hits, rows).all())
            share = right / max(len(self.asked), 1)
            return Check(
                share >= least,
                f"{share:.1%} of {len(self.asked)} answers are complete and have only matching "
                f"documents (at least {least:.0%} required)",
            )

        return check

    def counts(self, found: Sequence[int]) -> float:
        """The share of right numbers of matching documents."""
        right = [len(rows) == n for (rows, _), n in zip(self.scored, found, strict=True)]
        return float(np.mean(right)) if right else 1.0
