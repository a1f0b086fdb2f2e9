"""What the engines of bench.queries have in common.

Each module `<name>_queries` has `open_engine(corpus, folder, analysis, threads)`: it builds an
index where `folder` has none and returns a `QueryEngine`. The corpus is a Parquet file with the
columns of common/questions.py, the analysis that of a set of questions. From a question to the
engine's own document numbers and scores is timed; translating these numbers to rows is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow.parquet as pq

from bench.common.questions import Question
from bench.common.reference import STOP_WORDS, WORDS, Ranking
from bench.engines import Way


class Known(NamedTuple):
    """packages: that an engine needs. kinds: of the questions that it answers."""

    packages: str
    kinds: str


QUERY_ENGINES = {
    "fastseq": Known("fastseq", "or and phrase prefix fuzzy not filter"),
    "tantivy": Known("tantivy", "or and phrase prefix fuzzy not filter"),
    "pisa": Known("pyterrier_pisa", "or and"),
    "bm25s": Known("bm25s", "or filter"),
    "lancedb": Known("lancedb", "or and phrase fuzzy not filter"),
    "infino": Known("infino", "or and phrase prefix not filter"),
    "sqlite": Known("sqlite3", "or and phrase prefix not filter"),
    "duckdb": Known("duckdb duckdb_extension_fts", "or and filter"),
}
PACKAGES = (
    "tantivy", "pyterrier-pisa", "bm25s", "lancedb", "infino", "duckdb", "duckdb-extension-fts",
)  # fmt: skip
T = TypeVar("T")
_STOP = frozenset(STOP_WORDS)


class Plan(NamedTuple):
    """One way to answer a question: `one(question, k)`."""

    name: str
    one: Callable[..., Any]


class Counting(NamedTuple):
    """One way to count the documents that match a question."""

    name: str
    one: Callable[[Question], int]


class QueryEngine:
    """An engine with an index under one analysis.

    name   of its lines in the tables
    exact  its scores are the reference's, to float32's precision
    same   its analysis is the reference's, so that its matches are, except for rare characters
    shared its plans may run on several threads at a time
    """

    name = ""
    exact = False
    same = True
    shared = True

    def plans(self, kind: str) -> list[Plan]:
        """The promising ways to answer a question of this kind, one of those that it knows."""
        raise NotImplementedError

    def counters(self, kind: str) -> list[Counting]:
        """The promising ways to count; none where it cannot."""
        return []

    def hits(self, answer: Any) -> tuple[Sequence[int], Sequence[float]]:
        """The rows and scores of an answer of a plan."""
        raise NotImplementedError

    def ranking(self, answers: Sequence[Any], k: int) -> Ranking:
        """The answers of a plan to several questions."""
        rows = np.full((len(answers), k), -1, np.int32)
        scores = np.zeros((len(answers), k), np.float32)
        for at, answer in enumerate(answers):
            found, own = self.hits(answer)
            rows[at, : len(found)], scores[at, : len(own)] = found, own
        return Ranking(rows, scores)

    def ways(self, questions: Sequence[Question], k: int, threads: int) -> list[Way]:
        """The promising ways to answer all the questions."""

        def way(plan: Plan) -> Way:
            one = partial(plan.one, k=k)
            return Way(
                named(self.name, plan.name),
                lambda: looped(one, questions, threads),
                lambda answers: self.ranking(answers, k),
            )

        return [way(plan) for plan in self.plans(questions[0].kind)]


class Module(Protocol):
    """A module of an engine."""

    def open_engine(self, corpus: Path, folder: Path, analysis: str, threads: int) -> QueryEngine:
        """Build the index where the folder has none, and open it."""


def named(engine: str, plan: str) -> str:
    return f"{engine} ({plan})" if plan else engine


def looped(one: Callable[[Question], T], questions: Sequence[Question], threads: int) -> list[T]:
    """A loop over the questions; with several threads, an equal part for each."""
    if threads == 1:
        return [one(question) for question in questions]
    parts = [questions[first::threads] for first in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(lambda part: [one(question) for question in part], parts))
    return [answers[at % threads][at // threads] for at in range(len(questions))]


def words_of(text: str, analysis: str) -> list[str]:
    """The words of a text for an engine without stop words of its own."""
    found: list[str] = WORDS(text.lower())
    return found if analysis == "words" else [word for word in found if word not in _STOP]


def batches_of(corpus: Path, columns: list[str]) -> Iterable[dict[str, list[Any]]]:
    """The columns of some rows at a time, as lists."""
    for batch in pq.ParquetFile(corpus).iter_batches(batch_size=10_000, columns=columns):
        yield batch.to_pydict()
