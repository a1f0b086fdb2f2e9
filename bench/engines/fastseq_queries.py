"""fastseq: values of `fastseq.query`, all in one call and one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastseq
from bench.common.questions import Question
from bench.common.reference import K1, B, Ranking
from bench.engines import Way
from bench.engines.fastseq_engine import analyzer
from bench.engines.query_engine import Counting, Plan, QueryEngine
from fastseq.query import Boolean, Fuzzy, Phrase, Prefix, Term

COLUMNS = ["year", "lang", "price", "date"]


class FastseqQueries(QueryEngine):
    name = "fastseq"
    exact = True

    def __init__(self, index: Any) -> None:
        self.index = index
        self.model = fastseq.BM25(k1=K1, b=B)

    def plans(self, kind: str) -> list[Plan]:
        search, model = self.index.search, self.model

        def one(question: Question, k: int) -> Any:
            return search(query(question), k, model, threads=1, filter=condition(question))

        return [Plan("", one)]

    def counters(self, kind: str) -> list[Counting]:
        count = self.index.count
        return [Counting("", lambda q: count(query(q), filter=condition(q)))]

    def hits(self, answer: Any) -> tuple[Sequence[int], Sequence[float]]:
        found = int((answer.rows[0] >= 0).sum())
        return answer.rows[0, :found], answer.scores[0, :found]

    def ways(self, questions: Sequence[Question], k: int, threads: int) -> list[Way]:
        """One call; the condition is the same for all questions of a set."""
        search, model, same = self.index.search, self.model, condition(questions[0])

        def run() -> Any:
            asked = [query(question) for question in questions]
            return search(asked, k, model, threads=threads, filter=same)

        return [Way(self.name, run, lambda hits: Ranking(hits.rows, hits.scores))]


def query(question: Question) -> Any:
    kind, text = question.kind, question.text
    if kind == "and":
        return Boolean(must=tuple(Term(word) for word in text.split()))
    if kind == "phrase":
        return Phrase(text)
    if kind == "prefix":
        return Prefix(text)
    if kind == "fuzzy":
        return Fuzzy(text, question.edits)
    if kind == "not":
        return Boolean(should=(Term(text),), must_not=(Term(question.without),))
    return text


def condition(question: Question) -> str | None:
    return None if question.condition is None else question.condition.text


def build(corpus: Path, folder: Path, analysis: str, **settings: Any) -> Any:
    """An index with positions and the columns."""
    words = fastseq.Analyzer(tokenizer="word", cjk="none")
    return fastseq.Index.build(
        str(corpus), str(folder), text_columns=["text"], store=COLUMNS,
        analyzer=analyzer() if analysis == "stems" else words, overwrite=True,
        **settings,
    )  # fmt: skip


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> FastseqQueries:
    """Built anew each time: it is the code at hand that is measured."""
    return FastseqQueries(build(corpus, folder, analysis))
