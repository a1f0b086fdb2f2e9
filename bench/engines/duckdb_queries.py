"""DuckDB's full-text search, of the package duckdb-extension-fts, loaded from its wheel.

A search is SQL over tables of terms; it has disjunctions, conjunctions and conditions. Snowball's
English stemmer is Porter2; words of one letter are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_fts
import pyarrow as pa

from bench.common.questions import Question
from bench.common.reference import K1, STOP_WORDS, B
from bench.engines import fresh_folder
from bench.engines.query_engine import Counting, Plan, QueryEngine, words_of

EXTENSIONS = Path(duckdb_extension_fts.__file__).parent / "extensions"


class DuckQueries(QueryEngine):
    name = "DuckDB"
    same = False

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def plans(self, kind: str) -> list[Plan]:
        def one(question: Question, k: int) -> Any:
            sql = f"SELECT row, score {scored(question)} ORDER BY score DESC LIMIT {k}"
            return self._execute(sql, question)

        return [Plan("", one)]

    def counters(self, kind: str) -> list[Counting]:
        def one(question: Question) -> int:
            return int(self._execute(f"SELECT count(*) {scored(question)}", question)[0][0])

        return [Counting("", one)]

    def hits(self, answer: Any) -> tuple[Sequence[int], Sequence[float]]:
        return [row for row, _ in answer], [score for _, score in answer]

    def _execute(self, sql: str, question: Question) -> list[Any]:
        words = " ".join(words_of(question.text, "stems"))
        found: list[Any] = self.connection.cursor().execute(sql, [words]).fetchall()
        return found


def scored(question: Question) -> str:
    """FROM the matching documents with their scores, of the words in a parameter."""
    every = ", conjunctive := 1" if question.kind == "and" else ""
    condition = "" if question.condition is None else f" AND {question.condition.text}"
    return (
        "FROM (SELECT *, fts_main_documents.match_bm25"
        f"(row, ?, k := {K1}, b := {B}{every}) AS score FROM documents) "
        f"WHERE score IS NOT NULL{condition}"
    )


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> DuckQueries:
    if not folder.exists():
        with fresh_folder(folder):
            connection = opened(folder, threads)
            build(connection, corpus)
            connection.close()
    return DuckQueries(opened(folder, threads))


def opened(folder: Path, threads: int) -> Any:
    connection = duckdb.connect(str(folder / "documents.db"), config={"threads": threads})
    (file,) = EXTENSIONS.glob("*/fts.duckdb_extension")
    connection.execute(f"LOAD '{file}'")
    return connection


def build(connection: Any, corpus: Path) -> None:
    columns = "row, year, lang, price"
    connection.execute(
        f"CREATE TABLE documents AS SELECT {columns}, text FROM read_parquet('{corpus}')"
    )
    stop = pa.table({"sw": list(STOP_WORDS)})
    connection.register("given", stop)
    connection.execute("CREATE TABLE stop AS SELECT * FROM given")
    connection.execute(
        "PRAGMA create_fts_index('documents', 'row', 'text', stemmer = 'english', "
        r"stopwords = 'stop', ignore = '[^\pL\pN_]+', strip_accents = 0, lower = 1)"
    )
    connection.execute("ALTER TABLE documents DROP COLUMN text")
