"""SQLite's FTS5, through the standard library.

Its tokenizer `porter` is Porter's first stemmer, for ASCII; its BM25 has k1 1.2 and b .75. It has
no stop words: they are left out of queries, but count in the length of documents and in phrases.
Prefixes have indexes of their own ("words" only).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.common.questions import Question
from bench.engines import fresh_folder
from bench.engines.query_engine import Counting, Plan, QueryEngine, batches_of, words_of

UNICODE = "unicode61 remove_diacritics 0 tokenchars _"
COLUMNS = ["row", "text", "year", "lang", "price"]


class SqliteQueries(QueryEngine):
    name = "SQLite"
    same = False

    def __init__(self, file: Path, analysis: str) -> None:
        self.file, self.analysis = file, analysis
        self.own = threading.local()

    def plans(self, kind: str) -> list[Plan]:
        """Ordered by either name of the score; documents of a condition as a set, or looked up."""
        orders, joins = ("rank", "bm25(texts)"), (False, True) if kind == "filter" else (False,)
        return [
            Plan(f"{order}{', join' * join}", partial(self._search, order=order, join=join))
            for order in orders
            for join in joins
        ]

    def counters(self, kind: str) -> list[Counting]:
        joins = {"": False, **({"join": True} if kind == "filter" else {})}
        return [Counting(name, partial(self._count, join=join)) for name, join in joins.items()]

    def hits(self, answer: Any) -> tuple[Sequence[int], Sequence[float]]:
        return [row for row, _ in answer], [-score for _, score in answer]

    def _execute(self, sql: str, match: str) -> list[Any]:
        """A connection is of one thread."""
        if not hasattr(self.own, "connection"):
            self.own.connection = sqlite3.connect(self.file)
            self.own.connection.execute("PRAGMA mmap_size = 4000000000")
        found: list[Any] = self.own.connection.execute(sql, (match,)).fetchall()
        return found

    def _search(self, question: Question, k: int, order: str, join: bool) -> Any:
        sql = f"SELECT rowid, {order} {matching(question, join)} ORDER BY {order} LIMIT {k}"
        return self._execute(sql, match(question, self.analysis))

    def _count(self, question: Question, join: bool) -> int:
        sql = f"SELECT count(*) {matching(question, join)}"
        return int(self._execute(sql, match(question, self.analysis))[0][0])


def matching(question: Question, join: bool) -> str:
    """FROM the matching documents, of an expression in a parameter."""
    if question.condition is None:
        return "FROM texts WHERE texts MATCH ?"
    if join:
        joined = "FROM texts CROSS JOIN columns ON columns.row = texts.rowid"
        return f"{joined} WHERE texts MATCH ? AND {question.condition.text}"
    those = f"SELECT row FROM columns WHERE {question.condition.text}"
    return f"FROM texts WHERE texts MATCH ? AND rowid IN ({those})"


def match(question: Question, analysis: str) -> str:
    """The expression of FTS5."""
    if question.kind == "phrase":
        return f'"{question.text}"'
    if question.kind == "prefix":
        return f'"{question.text}" *'
    words = [f'"{word}"' for word in words_of(question.text, analysis)] or ['""']
    if question.kind == "and":
        return " AND ".join(words)
    either = " OR ".join(words)
    return f'({either}) NOT "{question.without}"' if question.kind == "not" else either


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> SqliteQueries:
    if not folder.exists():
        with fresh_folder(folder):
            build(corpus, folder / "texts.db", analysis)
    return SqliteQueries(folder / "texts.db", analysis)


def build(corpus: Path, file: Path, analysis: str) -> None:
    stems = analysis == "stems"
    tokenizer = f"porter {UNICODE}" if stems else UNICODE
    prefixes = "" if stems else ", prefix='3 4 5'"
    connection = sqlite3.connect(file)
    connection.execute(
        f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='{tokenizer}'{prefixes})"
    )
    connection.execute("CREATE TABLE columns (row INTEGER PRIMARY KEY, year, lang, price)")
    for batch in batches_of(corpus, COLUMNS):
        rows = list(zip(*batch.values(), strict=True))
        connection.executemany(
            "INSERT INTO texts (rowid, text) VALUES (?, ?)", [row[:2] for row in rows]
        )
        connection.executemany(
            "INSERT INTO columns VALUES (?, ?, ?, ?)", [(row[0], *row[2:]) for row in rows]
        )
    for column in ("year", "lang", "price"):
        connection.execute(f"CREATE INDEX by_{column} ON columns ({column})")
    connection.execute("INSERT INTO texts (texts) VALUES ('optimize')")
    connection.commit()
    connection.close()
