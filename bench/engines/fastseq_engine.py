"""fastseq itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastseq
from bench.common.reference import K1, B, Ranking
from bench.engines import Way, run_as_program

NAME = "fastseq"


def analyzer() -> Any:
    """The analysis that every engine is given as nearly as it has it."""
    return fastseq.Analyzer(tokenizer="word", stopwords="lucene", stemmer="english", cjk="none")


class Fastseq:
    """All the queries in one call, and one call for each."""

    name = NAME
    exact = True
    note = "Index.search; the index keeps term frequencies, scores are computed at query time"

    def __init__(self, index: Any) -> None:
        self.index = index
        self.model = fastseq.BM25(k1=K1, b=B)

    def ways(self, queries: Sequence[str], k: int, threads: int) -> list[Way]:
        return [self.batch(queries, k, threads)]

    def batch(self, queries: Sequence[str], k: int, threads: int, name: str = NAME) -> Way:
        asked = list(queries)
        return Way(
            name,
            lambda: self.index.search(asked, k=k, model=self.model, threads=threads),
            lambda hits: Ranking(hits.rows, hits.scores),
        )

    def singly(self, queries: Sequence[str], k: int, name: str) -> Way:
        """A Python loop over the queries."""
        search, model = self.index.search, self.model

        def ranking(answers: list[Any]) -> Ranking:
            rows = np.concatenate([hits.rows for hits in answers])
            return Ranking(rows, np.concatenate([hits.scores for hits in answers]))

        return Way(name, lambda: [search(q, k=k, model=model, threads=1) for q in queries], ranking)

    def afresh(self, queries: Sequence[str], k: int, name: str) -> Way:
        """The batch with the index opened for it: what is worked out at the first use of a model
        and of a term, and kept while the index is open, falls into it."""
        asked = list(queries)

        def run() -> Any:
            index = fastseq.Index.open(self.index.path)
            return index.search(asked, k=k, model=self.model, threads=1)

        return Way(name, run, lambda hits: Ranking(hits.rows, hits.scores))

    def analysis(self, queries: Sequence[str], name: str) -> Way:
        """Only what search does first: raw strings to term ids. Its `rows` are the number of
        distinct known terms of each query."""
        searcher, asked = self.index._searcher, list(queries)

        def ranking(answer: Any) -> Ranking:
            return Ranking(np.diff(answer.starts), answer.weights)

        return Way(name, lambda: searcher._query_terms(searcher._table, asked), ranking)


def open_engine(corpus: Path, column: str, folder: Path) -> Fastseq:
    """Built anew each time: it is the code at hand that is measured."""
    index = fastseq.Index.build(
        str(corpus),
        str(folder),
        text_columns=[column],
        store=[],
        analyzer=analyzer(),
        overwrite=True,
    )
    return Fastseq(index)


def count(folder: Path) -> dict[str, int]:
    summary = fastseq.Index.open(str(folder)).summary
    return {"documents": summary["documents"], "postings": summary["postings"]}


def index(corpus: Path, column: str, folder: Path, threads: int) -> None:
    fastseq.Index.build(
        str(corpus), str(folder), text_columns=[column], analyzer=analyzer(), threads=threads
    )


if __name__ == "__main__":
    run_as_program(index, count)
