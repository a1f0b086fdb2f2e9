"""fastseq itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import fastseq
from bench.common.reference import K1, B, Ranking, read_batches
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
    index = fastseq.Index.open(str(folder))
    summary = index.summary
    return {
        "documents": summary["documents"],
        "postings": summary["postings"],
        "segments": summary.get("segments", 1),
        "positions": int(index.info()["settings"].get("positions", False)),
    }


def build(corpus: Any, column: str, folder: Path, threads: int, positions: bool = True) -> Any:
    """An index that stores the id alone."""
    return fastseq.Index.build(
        corpus, str(folder), text_columns=[column], store=[], analyzer=analyzer(),
        threads=threads, positions=positions, overwrite=True,
    )  # fmt: skip


def index(corpus: Path, column: str, folder: Path, threads: int, *options: str) -> None:
    """options: "positions" stores them."""
    build(str(corpus), column, folder, threads, "positions" in options)


def batches(corpus: Path, column: str, folder: Path, threads: int, size: str, number: str) -> None:
    """A new index, to which batches are added with a commit each."""
    slices = read_batches(corpus, column, int(size), int(number))
    index = build(slices[0], column, folder, threads)
    for batch in slices[1:]:
        index.add(batch, threads=threads)


def first(corpus: Path, column: str, file: Path, threads: int) -> None:
    """Write the first document of the corpus as a Parquet file."""
    pq.write_table(read_batches(corpus, column, 1, 1)[0], file)


def add(corpus: Path, column: str, folder: Path, threads: int, memory: str) -> None:
    """Add to the index in the folder."""
    fastseq.Index.open(str(folder)).add(str(corpus), memory=memory, threads=threads)


def differences(one: Any, other: Any, queries: Sequence[str], ks: Sequence[int]) -> list[str]:
    """Of two indexes that should have the same hits: where ids, order or score bits differ."""
    found = []
    for k in ks:
        hits = [index.search(list(queries), k=k) for index in (one, other)]
        bits = [each.scores.view(np.uint32) for each in hits]
        if hits[0].ids != hits[1].ids:
            found.append(f"k = {k}: other ids")
        elif not np.array_equal(*bits):
            found.append(f"k = {k}: other scores")
    return found


def compare(corpus: Path, column: str, folder: Path, threads: int, queries: str, rows: str) -> None:
    """Compare the index in the folder with a new one of the first rows; print the differences as
    JSON."""
    table = read_batches(corpus, column, int(rows), 1)[0]
    asked = [text for text in pq.read_table(queries)["text"].to_pylist() if text]
    new = build(table, column, folder.with_name(f"{folder.name}-new"), threads)
    print(json.dumps(differences(fastseq.Index.open(str(folder)), new, asked, (10, 1000))))
    shutil.rmtree(new.path, ignore_errors=True)


if __name__ == "__main__":
    run_as_program(index, count, batches=batches, first=first, add=add, compare=compare)
