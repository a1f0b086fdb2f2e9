"""infino (https://infino.ai), its Python binding.

`Table.bm25_search` takes words, "phrases" and -excluded words; prefixes and conditions are SQL. It
has no fuzzy words. Its list of English stop words is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import infino
import pyarrow as pa
import pyarrow.parquet as pq

from bench.common.questions import Question
from bench.common.reference import WORDS
from bench.engines import fresh_folder
from bench.engines.query_engine import Counting, Plan, QueryEngine

COLUMNS = {
    "row": pa.int64(), "text": pa.large_string(), "year": pa.int64(), "lang": pa.large_string(),
    "price": pa.float64(),
}  # fmt: skip


class InfinoQueries(QueryEngine):
    name = "infino"
    same = False

    def __init__(self, connection: Any) -> None:
        self.connection, self.table = connection, connection.open_table("documents")
        numbers = connection.query_sql("SELECT _id, row FROM documents")
        rows = numbers["row"].to_pylist()
        self.rows = dict(zip(numbers["_id"].to_pylist(), rows, strict=True))

    def plans(self, kind: str) -> list[Plan]:
        search, sql = self.table.bm25_search, self.connection.query_sql
        if kind == "prefix":
            prefix = "SELECT _id, score FROM bm25_search_prefix('documents', 'text', '{}', {})"
            return [Plan("SQL", lambda q, k: sql(prefix.format(q.text, k)))]
        if kind == "filter":
            return [Plan("SQL", lambda q, k: sql(self._filtered(q, k)))]
        mode = "and" if kind == "and" else "or"
        return [Plan("", lambda q, k: search("text", text(q), k, mode))]

    def counters(self, kind: str) -> list[Counting]:
        count, sql = self.table.count, self.connection.query_sql
        if kind == "filter":
            return []
        if kind == "prefix":
            prefix = "SELECT count(*) FROM bm25_search_prefix('documents', 'text', '{}', {})"
            most = len(self.rows)
            return [Counting("SQL", lambda q: sql(prefix.format(q.text, most))[0][0].as_py())]
        mode = "and" if kind == "and" else "or"
        return [Counting("", lambda q: count("text", text(q), mode))]

    def hits(self, answer: Any) -> tuple[Sequence[int], Sequence[float]]:
        return [self.rows[key] for key in answer["_id"].to_pylist()], answer["score"].to_pylist()

    def _filtered(self, question: Question, k: int) -> str:
        assert question.condition is not None
        found = f"bm25_search('documents', 'text', '{text(question)}', {k})"
        return (
            f"SELECT _id, score FROM {found} WHERE {question.condition.text} "
            f"ORDER BY score DESC LIMIT {k}"
        )


def text(question: Question) -> str:
    """The words, without characters that its syntax would take for operators."""
    if question.kind == "phrase":
        return f'"{question.text}"'
    found = " ".join(WORDS(question.text))
    return f"{found} -{question.without}" if question.kind == "not" else found


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> InfinoQueries:
    if not folder.exists():
        with fresh_folder(folder):
            build(corpus, folder, analysis)
    return InfinoQueries(infino.connect(str(folder)))


def build(corpus: Path, folder: Path, analysis: str) -> None:
    """With positions; the text itself is not stored."""
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in COLUMNS.items()])
    english = "english" if analysis == "stems" else None
    spec = infino.IndexSpec().fts(
        "text", stored=False, stopwords=english, stemmer=english, positions=True
    )
    table = infino.connect(str(folder)).create_table("documents", schema, spec)
    table.append(pq.read_table(corpus, columns=list(COLUMNS)).cast(schema))
    table.optimize()
