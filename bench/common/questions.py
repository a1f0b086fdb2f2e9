"""The corpora and query sets of bench.queries.

A `Question` is the structured description of a query, from which each engine builds its own query.
The sets are drawn with a seed from the corpus itself:

or      the given queries
and     2 or 3 words of a document, whose terms are in .1 % to 10 % of the documents
phrase  2 to 4 successive words of a document; the first and the last are no stop words
prefix  3 to 5 letters of a word of the text, the prefix of at most 1,024 words, which is the limit
        of a prefix in fastseq, so that all engines should have the same matches
fuzzy   a word of at least 5 letters after one edit, to be found within distance 1; each fifth one a
        word of at least 8 letters after two, within distance 2
not     the given queries, each without the documents that have one of the 50 most frequent words
filter  the given queries with a condition on a derived column, met by 1 %, 10 % or 50 %
long    10, 20 or 50 distinct words of a document, in the order of their first occurrence

Words are drawn by their frequency in the text, documents evenly. A corpus has columns derived from
the row number and the length of the text: row, year (1924 to 2023, ascending), lang (20 values, by
length), price (0 to 100, scattered) and date.
"""

from __future__ import annotations

import bisect
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.common.answers import Answers
from bench.common.reference import STOP_WORDS, read_texts

SEED = 17
GROUP = 1024  # words of a prefix
TRIES = 500  # documents or words drawn for a question, at most
LANGUAGES = tuple(f"l{number:02}" for number in range(20))
_STOP = frozenset(STOP_WORDS)
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])|\n+")
_LETTERS = re.compile(r"[a-z]+").fullmatch


class Condition(NamedTuple):
    """low <= column < high, or one of the values. `text` is the condition in SQL and in fastseq."""

    text: str
    column: str
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()

    def mask(self, columns: pa.Table) -> np.ndarray:
        """bool[D]: the documents that meet it."""
        column = columns[self.column]
        if self.values:
            return np.asarray(pc.is_in(column, pa.array(self.values)))
        found, numbers = np.ones(len(column), bool), np.asarray(column)
        if self.low is not None:
            found &= numbers >= self.low
        if self.high is not None:
            found &= numbers < self.high
        return found


CONDITIONS = {
    "1 %, scattered": Condition("price < 1", "price", high=1),
    "1 %, adjacent": Condition("year = 1950", "year", low=1950, high=1951),
    "10 %, scattered": Condition("lang in ('l03', 'l11')", "lang", values=("l03", "l11")),
    "50 %, adjacent": Condition("year >= 1974", "year", low=1974),
}


@dataclass(frozen=True, slots=True)
class Question:
    """The description of a query.

    kind      or, and, phrase, prefix, fuzzy, not, filter
    text      words separated by spaces; given queries are raw text
    edits     of a fuzzy word
    without   the word that no hit of a "not" has
    condition of a "filter"
    """

    kind: str
    text: str
    edits: int = 0
    without: str = ""
    condition: Condition | None = None


class QuestionSet(NamedTuple):
    """Questions of one kind. analysis: "stems" (Lucene's 33 stop words, Porter2) or "words" (all
    words as written, since peers compare prefixes and edits with the terms of the index)."""

    name: str
    questions: list[Question]
    analysis: str = "stems"

    @property
    def kind(self) -> str:
        return self.questions[0].kind


def write_corpus(
    source: Path, column: str, target: Path, sentences: bool, rows: int | None
) -> None:
    """Write the documents or their sentences, at most `rows`, with the derived columns."""
    texts = read_texts(source, column)
    if sentences:
        parts = (part.strip() for text in texts for part in _SENTENCES.split(text))
        texts = [part for part in parts if part]
    texts = texts[:rows]
    row = np.arange(len(texts))
    days = (10957 + row * 7919 % 9000).astype(np.int32)  # from 2000 on
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    table = pa.table({
        "row": row,
        "text": pa.array(texts, pa.large_string()),
        "year": 1924 + row * 100 // max(len(texts), 1),
        "lang": pa.array(np.array(LANGUAGES)[lengths % len(LANGUAGES)], pa.string()),
        "price": (row * ((5**0.5 - 1) / 2)) % 1 * 100,
        "date": pa.array(days, pa.int32()).cast(pa.date32()),
    })  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    pq.write_table(table, partial, row_group_size=1 << 16)
    partial.rename(target)


class Drawing:
    """Draws the sets, each with a generator of its own, so that none depends on the others.

    Parameters
    ----------
    given : the provided queries, each with a word of the corpus
    number : questions of each set that is drawn
    """

    def __init__(self, answers: Answers, given: list[str], number: int) -> None:
        self.answers, self.given, self.number = answers, given, number
        self.words, self.ids, self.starts = answers.words, answers.ids, answers.starts
        self.frequency = answers.document_frequencies()

    def sets(self, name: str) -> list[QuestionSet]:
        """The sets of a section of the benchmark."""
        made: list[QuestionSet] = getattr(self, f"_{name}")()
        return [one for one in made if one.questions]

    def _or(self) -> list[QuestionSet]:
        return [QuestionSet("or", [Question("or", text) for text in self.given])]

    def _and(self) -> list[QuestionSet]:
        documents = self.answers.documents
        few = documents < 10_000  # a sample, whose words are in more of its documents
        low, high = (1, documents) if few else (documents // 1000, documents // 10)

        def make(rng: np.random.Generator, ids: np.ndarray) -> Question | None:
            own = self._distinct(ids)
            counts = self.frequency[self.answers.term_of[own]]
            own, wanted = own[(counts >= low) & (counts <= high)], int(rng.integers(2, 4))
            if len(own) < wanted:
                return None
            return Question("and", self._joined(rng.choice(own, wanted, replace=False)))

        return [QuestionSet("and", self._of_documents("and", make))]

    def _phrase(self) -> list[QuestionSet]:
        def make(rng: np.random.Generator, ids: np.ndarray) -> Question | None:
            length = int(rng.integers(2, 5))
            if len(ids) < length:
                return None
            first = int(rng.integers(len(ids) - length + 1))
            part = ids[first : first + length]
            ends = self.answers.term_of[part[[0, -1]]]
            return Question("phrase", self._joined(part)) if (ends >= 0).all() else None

        return [QuestionSet("phrase", self._of_documents("phrase", make))]

    def _prefix(self) -> list[QuestionSet]:
        ordered = sorted(self.words)

        def make(rng: np.random.Generator, word: str, made: int) -> Question | None:
            prefix = word[: int(rng.integers(3, 6))]
            first = bisect.bisect_left(ordered, prefix)
            after = bisect.bisect_left(ordered, prefix + chr(0x10FFFF))
            usable = len(word) > len(prefix) and after - first <= GROUP
            return Question("prefix", prefix) if usable else None

        return [QuestionSet("prefix", self._of_words("prefix", make), "words")]

    def _fuzzy(self) -> list[QuestionSet]:
        def make(rng: np.random.Generator, word: str, made: int) -> Question | None:
            edits = 2 if made % 5 == 4 else 1
            if len(word) < (5, 8)[edits - 1]:
                return None
            for _ in range(edits):
                word = _edited(word, rng)
            return Question("fuzzy", word, edits=edits)

        return [QuestionSet("fuzzy", self._of_words("fuzzy", make), "words")]

    def _not(self) -> list[QuestionSet]:
        rng, found = self._random("not"), []
        frequent = np.argsort(-self.frequency, kind="stable")[:50].tolist()
        for text in self.given:
            own = self.answers.terms(text)
            others = [term for term in frequent if term not in own]
            if others:
                without = self.answers.word_of(others[int(rng.integers(len(others)))])
                found.append(Question("not", text, without=without))
        return [QuestionSet("not", found)]

    def _filter(self) -> list[QuestionSet]:
        return [
            QuestionSet(
                f"filter, {name}",
                [Question("filter", text, condition=condition) for text in self.given],
            )
            for name, condition in CONDITIONS.items()
        ]

    def _long(self) -> list[QuestionSet]:
        def of_length(length: int) -> QuestionSet:
            def make(rng: np.random.Generator, ids: np.ndarray) -> Question | None:
                own = self._distinct(ids)
                if len(own) < length:
                    return None
                chosen = own[np.sort(rng.choice(len(own), length, replace=False))]
                return Question("or", self._joined(chosen))

            name = f"or, {length} words"
            return QuestionSet(name, self._of_documents(name, make))

        return [of_length(length) for length in (10, 20, 50)]

    def _random(self, name: str) -> np.random.Generator:
        return np.random.default_rng([SEED, *name.encode()])

    def _of_documents(
        self, name: str, make: Callable[[np.random.Generator, np.ndarray], Question | None]
    ) -> list[Question]:
        """`number` questions, each from the word ids of a random document."""
        rng = self._random(name)
        found: list[Question] = []
        for row in rng.integers(self.answers.documents, size=TRIES * self.number):
            question = make(rng, self.ids[self.starts[row] : self.starts[row + 1]])
            if question is not None:
                found.append(question)
                if len(found) == self.number:
                    break
        return found

    def _of_words(
        self, name: str, make: Callable[[np.random.Generator, str, int], Question | None]
    ) -> list[Question]:
        """`number` questions, each from a random word of the text: of letters a to z alone, no stop
        word."""
        rng = self._random(name)
        found: list[Question] = []
        for place in rng.integers(len(self.ids), size=TRIES * self.number):
            word = self.words[self.ids[place]]
            if word in _STOP or not _LETTERS(word):
                continue
            question = make(rng, word, len(found))
            if question is not None:
                found.append(question)
                if len(found) == self.number:
                    break
        return found

    def _distinct(self, ids: np.ndarray) -> np.ndarray:
        """The words that have a term, at the first occurrence of each term."""
        ids = ids[self.answers.term_of[ids] >= 0]
        _, first = np.unique(self.answers.term_of[ids], return_index=True)
        return ids[np.sort(first)]

    def _joined(self, ids: Any) -> str:
        return " ".join(self.words[word] for word in ids)


def _edited(word: str, rng: np.random.Generator) -> str:
    """One random edit: a letter inserted, deleted or replaced, or two neighbours exchanged."""
    at = int(rng.integers(len(word) - 1))
    letter = string.ascii_lowercase[int(rng.integers(26))]
    return (
        word[:at] + letter + word[at:],
        word[:at] + word[at + 1 :],
        word[:at] + letter + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    )[int(rng.integers(4))]
