"""LanceDB (https://github.com/lancedb/lancedb), its asynchronous interface.

All the queries in one coroutine, one after the other; with several threads, as many at a time. It
runs on threads of its own all the same: the CPU seconds in the table show how many are busy (with
LANCE_CPU_THREADS=1 a search never ends). Its word splitter keeps words of one letter. It has no
prefixes, and to count it returns the number of all matches.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RUST_LOG", "error")  # it would warn at each query

import lancedb
import pyarrow as pa
import pyarrow.parquet as pq
from lancedb.index import FTS, Bitmap, BTree
from lancedb.query import BooleanQuery, FullTextOperator, MatchQuery, Occur, PhraseQuery

from bench.common.questions import Question
from bench.common.reference import STOP_WORDS
from bench.engines import Way, fresh_folder
from bench.engines.query_engine import Counting, Plan, QueryEngine

EXPANSIONS = 10_000  # words of a fuzzy word


class LanceQueries(QueryEngine):
    name = "lancedb"
    same = False
    shared = False

    def __init__(self, table: Any, runner: asyncio.Runner, documents: int) -> None:
        self.table, self.runner, self.documents = table, runner, documents

    def plans(self, kind: str) -> list[Plan]:
        return [Plan("", lambda question, k: self.runner.run(self._search(question, k)))]

    def counters(self, kind: str) -> list[Counting]:
        (plan,) = self.plans(kind)
        return [Counting("all ids", lambda question: len(plan.one(question, self.documents)))]

    def hits(self, answer: Any) -> tuple[Sequence[int], Sequence[float]]:
        return answer["_rowid"].to_numpy(), answer["_score"].to_numpy()

    def ways(self, questions: Sequence[Question], k: int, threads: int) -> list[Way]:
        async def search() -> list[Any]:
            if threads == 1:
                return [await self._search(question, k) for question in questions]
            turn = asyncio.Semaphore(threads)

            async def one(question: Question) -> Any:
                async with turn:
                    return await self._search(question, k)

            return await asyncio.gather(*map(one, questions))

        return [
            Way(self.name, lambda: self.runner.run(search()), lambda a: self.ranking(a, k))
        ]  # fmt: skip

    async def _search(self, question: Question, k: int) -> Any:
        asked = self.table.query().nearest_to_text(query(question))
        if question.condition is not None:
            asked = asked.where(question.condition.text)
        return await asked.with_row_id().select(["_score"]).fast_search().limit(k).to_arrow()


def query(question: Question) -> Any:
    kind, text = question.kind, question.text
    if kind == "and":
        return MatchQuery(text, "text", operator=FullTextOperator.AND)
    if kind == "phrase":
        return PhraseQuery(text, "text")
    if kind == "fuzzy":
        return MatchQuery(text, "text", fuzziness=question.edits, max_expansions=EXPANSIONS)
    if kind == "not":
        wanted, excluded = MatchQuery(text, "text"), MatchQuery(question.without, "text")
        return BooleanQuery([(Occur.SHOULD, wanted), (Occur.MUST_NOT, excluded)])
    return MatchQuery(text, "text")


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> LanceQueries:
    runner = asyncio.Runner()
    if not folder.exists():
        with fresh_folder(folder):
            runner.run(build(corpus, folder, analysis))
    table = runner.run(_opened(folder))
    return LanceQueries(table, runner, pq.read_metadata(corpus).num_rows)


async def _opened(folder: Path) -> Any:
    return await (await lancedb.connect_async(str(folder))).open_table("documents")


async def build(corpus: Path, folder: Path, analysis: str) -> None:
    """With positions, and indexes of the columns for conditions."""
    connection = await lancedb.connect_async(str(folder))
    documents = pq.read_table(corpus, columns=["text", "year", "lang", "price"])
    documents = documents.set_column(0, "text", documents["text"].cast(pa.string()))
    table = await connection.create_table("documents", documents)
    stems = analysis == "stems"
    await table.create_index(
        "text",
        config=FTS(
            with_position=True, max_token_length=None, stem=stems, remove_stop_words=stems,
            custom_stop_words=list(STOP_WORDS), ascii_folding=False,
        ),
    )  # fmt: skip
    if stems:
        for column in ("year", "price"):
            await table.create_index(column, config=BTree())
        await table.create_index("lang", config=Bitmap())
    await table.optimize()
