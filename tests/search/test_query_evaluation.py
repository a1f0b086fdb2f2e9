"""Random queries of random small indexes, compared with the naive evaluator.

Each parameter set is an index with a hundred queries: 200,000 in all. Every query is searched with
one of the models for all hits, whose scores and order must be those of the evaluator, and for a
smaller k, whose hits must be the first of them. One index:
`pytest "tests/search/test_query_evaluation.py::test_hits_are_those_of_the_naive_evaluator[17]"`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastseq import BM25, BM25F, DPH, PL2, TFIDF, BoW, Dirichlet, Hits, Index, JelinekMercer
from fastseq.search.ranking import RankingModel
from tests.naive import filters, queries
from tests.naive.queries import Bm25, Bm25f, Corpus, Formula, Hit, Model, Smart, Statistics
from tests.search.random_queries import (
    ABSENT,
    ANALYZERS,
    WORDS,
    RandomIndex,
    RandomQueries,
    Spec,
    analysed,
    random_filter,
    random_index,
    tuple_of,
    value_of,
)

DEPTHS = (1, 3, 10)
ALL = 1000
QUERIES = 100  # of an index
INDEXES = 2000


# ---- models


def dirichlet(tf: float, length: int, statistics: Statistics) -> float:
    p = statistics.cf / statistics.tokens
    return math.log(1 + tf / (100 * p)) + math.log(100 / (length + 100))


def jelinek_mercer(tf: float, length: int, statistics: Statistics) -> float:
    p = statistics.cf / statistics.tokens
    return math.log(1 + 0.3 * (tf / length) / (0.7 * p))


def dph(tf: float, length: int, statistics: Statistics) -> float:
    f = tf / length
    if f >= 1:
        return 0.0
    expected = length * statistics.cf / statistics.tokens
    gain = tf * math.log2(tf / expected) + math.log2(2 * math.pi * tf * (1 - f)) / 2
    return (1 - f) ** 2 / (tf + 1) * gain


def pl2(tf: float, length: int, statistics: Statistics) -> float:
    average = statistics.tokens / statistics.documents
    n = tf * math.log2(1 + average / length)
    rate = statistics.cf / statistics.documents
    gain = n * math.log2(n / rate) + (rate + 1 / (12 * n) - n) * math.log2(math.e)
    return (gain + math.log2(2 * math.pi * n) / 2) / (n + 1)


MODELS: list[tuple[RankingModel, Model]] = [
    (BM25(), Bm25()),
    (BM25(0.9, 0.4), Bm25("lucene", 0.9, 0.4)),
    (BM25(b=0), Bm25("lucene", 1.2, 0.0)),
    *(
        (BM25(1.5, 0.6, 0.7, variant), Bm25(variant, 1.5, 0.6, 0.7))
        for variant in BM25.VARIANTS[1:]
    ),
    *(
        (TFIDF(notation), Smart(notation))
        for notation in ("ltc.lnc", "Lpc.atn", "nnn.Lpc", "bnn.Lpc", "ltn.ltn", "ntc.atc")
    ),
    (BoW(), Smart("nnn.nnn")),
    (BoW(cosine=True), Smart("nnc.nnc")),
    (Dirichlet(100), Formula(dirichlet)),
    (JelinekMercer(0.7), Formula(jelinek_mercer)),
    (DPH(), Formula(dph)),
    (PL2(1.0), Formula(pl2)),
]
OF_FIELDS: list[tuple[RankingModel, Model]] = [
    *MODELS,
    (BM25F(), Bm25f()),
    (BM25F(0.9, {"title": 0.3, "body": 1.0}), Bm25f(0.9, {"title": 0.3, "body": 1.0})),
]
WEIGHTS: list[dict[str, float]] = [
    {"title": 3.0, "body": 1.0}, {"body": 0.5, "title": 0.5}, {"title": 2.0},
]  # fmt: skip


# ---- the comparison


class Asked(NamedTuple):
    """How a query is searched."""

    model: RankingModel
    naive: Model
    fields: dict[str, float] | None
    filter: Spec | None
    operator: str

    @property
    def noise(self) -> float:
        """The absolute error of what adds to a score: logarithms in a formula may cancel out."""
        return 1e-12 if isinstance(self.naive, Formula) else 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of search and of count."""
        passed = None if self.filter is None else filters.text_of(self.filter)
        return {"filter": passed, "fields": self.fields, "operator": self.operator}

    def search(self, index: Index, values: Sequence[Any], k: int) -> Hits:
        return index.search(values, k, self.model, threads=1, **self.settings)


def asked_of(chance: random.Random) -> Asked:
    fields = chance.choice([None, None, None, *WEIGHTS])
    model, naive = chance.choice(MODELS if fields is None else OF_FIELDS)
    filter = random_filter(chance) if chance.random() < 0.15 else None
    return Asked(model, naive, fields, filter, "and" if chance.random() < 0.1 else "or")


def assert_hits(
    hits: Hits, number: int, ids: Sequence[int], expected: Sequence[Hit], noise: float
) -> None:
    """All hits of a query, with their scores, in an order that rounding allows.

    ids    of all rows
    noise  absolute error of the parts of a score
    """
    row_of = {ids[hit.row]: hit for hit in expected}
    found = hits.ids[number]
    assert sorted(found) == sorted(row_of)
    scores = hits.scores[number][: len(found)].astype(np.float64)
    ordered = [row_of[id] for id in found]
    sizes = [math.fsum(map(abs, hit.parts)) for hit in ordered]  # parts may cancel out
    for hit, size, score in zip(ordered, sizes, scores.tolist(), strict=True):
        assert abs(score - hit.score) <= 1e-5 * size + noise, hit
    last: dict[tuple[Any, ...], int] = {}
    for place, (hit, size) in enumerate(zip(ordered, sizes, strict=True)):
        if place:
            before = ordered[place - 1]
            assert (-scores[place - 1], before.row) < (-scores[place], hit.row)
            assert hit.score - before.score <= 1e-6 * max(size, sizes[place - 1]) + noise
        # the same sum of the same inputs is the same score, and in the order of rows
        key = (hit.parts, hit.inputs)
        if key in last and size >= 1e4 * noise:
            same = last[key]
            assert scores[same] == scores[place]
            assert ordered[same].row < hit.row
        last[key] = place


def assert_prefix(some: Hits, every: Hits, k: int) -> None:
    """The hits of a smaller k are the first of all, with the same bits."""
    n = min(k, every.scores.shape[1])
    assert [ids[:k] for ids in every.ids] == some.ids
    assert some.scores[:, :n].tobytes() == np.ascontiguousarray(every.scores[:, :n]).tobytes()


def naive_hits(
    corpus: Corpus, index: RandomIndex, spec: Spec, asked: Asked, passing: set[int] | None
) -> list[Hit]:
    weights: Mapping[queries.Name, float] | None = (
        None if asked.fields is None else {**asked.fields}
    )
    query = tuple_of(spec, index.analyzer, asked.operator)
    hits = corpus.hits(query, asked.naive, weights)
    return [hit for hit in hits if passing is None or hit.row in passing]


def values_of(specs: Sequence[Spec]) -> list[Any]:
    """Values of queries; every second text without a field is a string."""
    found: list[Any] = []
    for number, spec in enumerate(specs):
        is_text = spec[0] == "term" and spec[2] is None
        found.append(spec[1] if is_text and number % 2 else value_of(spec))
    return found


def test_tokens_are_those_of_the_analyzers() -> None:
    text = " ".join([*WORDS, *ABSENT])
    for name, analyzer in ANALYZERS.items():
        tokens = [token for _, token in analysed(name, text) if token is not None]
        assert analyzer.tokens(text) == tokens


@pytest.mark.sample(8)
@pytest.mark.parametrize("seed", range(INDEXES))
def test_hits_are_those_of_the_naive_evaluator(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    random_one = random_index(chance)
    index, corpus = random_one.build(tmp_path / "index"), random_one.corpus()
    draw, ids = RandomQueries(chance, random_one), random_one.ids
    left = QUERIES
    while left:
        asked = asked_of(chance)
        specs = [draw.query() for _ in range(min(left, chance.randint(1, 12)))]
        left -= len(specs)
        values = values_of(specs)
        every = asked.search(index, values, ALL)
        passing = None if asked.filter is None else corpus.matches(("filter", asked.filter))
        for number, spec in enumerate(specs):
            expected = naive_hits(corpus, random_one, spec, asked, passing)
            try:
                assert_hits(every, number, ids, expected, asked.noise)
                assert index.count(values[number], **asked.settings) == len(expected)
            except AssertionError as error:
                shown = [(ids[hit.row], hit.score) for hit in expected]
                found = list(zip(every.ids[number], every.scores[number].tolist(), strict=False))
                raise AssertionError(
                    f"{values[number]!r} of {asked}:\nfound {found}\nexpected {shown}\n{error}"
                ) from error
        k = chance.choice(DEPTHS)
        assert_prefix(asked.search(index, values, k), every, k)
