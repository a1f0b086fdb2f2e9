"""bm25s: as in bm25s_engine; it has no query but the bag of words. A condition is its
`weight_mask`, made once for a set, as fastseq keeps the documents of a condition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.common.questions import Question
from bench.common.reference import Ranking
from bench.engines import Way, bm25s_engine
from bench.engines.query_engine import Plan, QueryEngine

COLUMNS = ["year", "lang", "price"]


class BM25SQueries(QueryEngine):
    name = "bm25s"
    exact = True

    def __init__(self, engine: bm25s_engine.BM25S, corpus: Path) -> None:
        self.model, self.words = engine.model, engine.words
        self.columns = pq.read_table(corpus, columns=COLUMNS)
        self.masks: dict[str, np.ndarray] = {}

    def plans(self, kind: str) -> list[Plan]:
        return [Plan("", lambda question, k: self._retrieve([question], k, 1))]

    def ways(self, questions: Sequence[Question], k: int, threads: int) -> list[Way]:
        run = lambda: self._retrieve(questions, k, threads)  # noqa: E731

        def ranking(answer: Any) -> Ranking:
            found = bm25s_engine.ranking(answer)
            short = k - found.rows.shape[1]
            if short <= 0:
                return found
            rows = np.pad(found.rows, ((0, 0), (0, short)), constant_values=-1)
            return Ranking(rows, np.pad(found.scores, ((0, 0), (0, short))))

        return [Way(self.name, run, ranking)]

    def _retrieve(self, questions: Sequence[Question], k: int, threads: int) -> Any:
        ids = self.words.tokenize(
            [question.text for question in questions], update_vocab=False, show_progress=False,
            allow_empty=False,
        )  # fmt: skip
        return self.model.retrieve(
            ids, k=min(k, self.model.scores["num_docs"]), n_threads=threads, show_progress=False,
            backend_selection="numba", weight_mask=self._mask(questions[0]),
        )  # fmt: skip

    def _mask(self, question: Question) -> np.ndarray | None:
        condition = question.condition
        if condition is None:
            return None
        if condition.text not in self.masks:
            self.masks[condition.text] = condition.mask(self.columns).astype(np.float32)
        return self.masks[condition.text]


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> BM25SQueries:
    return BM25SQueries(bm25s_engine.open_engine(corpus, "text", folder), corpus)
