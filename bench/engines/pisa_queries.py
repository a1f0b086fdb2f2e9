"""PISA: as in pisa_engine, disjunctions and conjunctions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common.questions import Question
from bench.engines import Way, pisa_engine
from bench.engines.query_engine import Plan, QueryEngine

CONJUNCTIONS = ("ranked_and", "block_max_ranked_and")
ALGORITHMS = {"or": pisa_engine.ALGORITHMS, "and": CONJUNCTIONS}


class PisaQueries(QueryEngine):
    name = "PISA"
    same = False  # its tokens differ outside ASCII

    def __init__(self, engine: pisa_engine.Pisa) -> None:
        self.engine = engine

    def plans(self, kind: str) -> list[Plan]:
        return [Plan(algorithm, self._one(algorithm)) for algorithm in ALGORITHMS[kind]]

    def _one(self, algorithm: str) -> Any:
        return lambda question, k: self.engine.way(algorithm, [question.text], k, 1).run()

    def ways(self, questions: Sequence[Question], k: int, threads: int) -> list[Way]:
        texts = [question.text for question in questions]
        names = ALGORITHMS[questions[0].kind]
        return [self.engine.way(name, texts, k, threads) for name in names]


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> PisaQueries:
    return PisaQueries(pisa_engine.open_engine(corpus, "text", folder))
