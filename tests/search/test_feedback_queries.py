"""Feedback for queries with signs, phrases and patterns, against the naive evaluator."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import BM25, RM3, Analyzer, Dirichlet, Index, Rocchio, SynonymMap
from fastseq.query import (
    All,
    Boolean,
    Boost,
    IndexTerm,
    Phrase,
    Prefix,
    Query,
    Term,
)
from fastseq.search.feedback import with_feedback
from fastseq.search.ranking import RankingModel
from tests.naive import models, queries
from tests.search.random_queries import RandomQueries, _word, random_index, tuple_of, value_of
from tests.search.test_query_evaluation import dirichlet
from tests.search.test_search_models import indexed

ALL = 1000
INDEXES = 60
MODELS: list[tuple[RankingModel, queries.Model]] = [
    (BM25(), queries.Bm25()), (Dirichlet(mu=100), queries.Formula(dirichlet)),
]  # fmt: skip


def is_open(spec: tuple[Any, ...]) -> bool:
    """Whether documents with any of the terms that are added are hits."""
    if spec[0] == "term":
        return spec[2] is None
    return spec[0] == "boolean" and not any((spec[1], spec[3], spec[4])) and spec[5] <= 1


def weights_of(corpus: queries.Corpus, query: queries.Query) -> dict[Any, float]:
    """The weights of the leaves of a query, by number."""
    query = queries.without_dropped(query)
    uses, _ = corpus._leaves(query, corpus.matches(query), queries.TEXT, False)
    return {
        number: use.boost * use.times
        for number, use in enumerate(uses)
        if corpus.fields[use.field].find(use.leaf).tfs
    }


def expanded(
    spec: tuple[Any, ...], analyzer: str, factor: float, terms: Mapping[str, float]
) -> queries.Query:
    """The naive query with further terms."""
    more = tuple(
        ("boost", (*_word(analyzer, term), None), weight) for term, weight in terms.items()
    )
    if not is_open(spec):
        query = tuple_of(spec, analyzer)
        return "boolean", (("boost", query, factor),), more, (), (), 0
    parts = spec[2] if spec[0] == "boolean" else (spec,)
    own = tuple(("boost", tuple_of(part, analyzer), factor) for part in parts)
    return "boolean", (), (*own, *more), (), (), 0


@pytest.mark.sample(7)
@pytest.mark.parametrize("seed", range(INDEXES))
def test_terms_are_added_as_clauses(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    made = random_index(chance)
    index, corpus = made.build(tmp_path / "index"), made.corpus()
    live = [row for row, alive in enumerate(made.live) if alive]
    place = {made.ids[row]: number for number, row in enumerate(live)}
    counts = corpus.fields[None].counts
    documents = [[*counts[row].elements()] for row in live]
    draw = RandomQueries(chance, made)
    specs = [draw.query(2) for _ in range(12)]
    given = [value_of(spec) for spec in specs]
    for model, naive_model in MODELS:
        n, terms, share = chance.randint(1, 5), chance.randint(1, 8), chance.choice([0.0, 0.4, 0.8])
        first = index.search(given, n, model, threads=1)
        every = index.search(given, ALL, model, threads=1)
        for feedback in (RM3(n, terms, share), Rocchio(n, terms, share)):
            hits = index.search(given, ALL, model, threads=1, feedback=feedback)
            for q, spec in enumerate(specs):
                own = weights_of(corpus, tuple_of(spec, made.analyzer))
                if not first.ids[q] or not any(own.values()):
                    assert hits.ids[q] == every.ids[q]
                    continue
                best = [place[id] for id in first.ids[q]]
                scores = first.scores[q, : len(best)].astype(np.float64).tolist()
                if isinstance(feedback, RM3):
                    new, model_of = models.rm3(documents, own, best, scores, terms, share)  # type: ignore[arg-type]
                    factor = share
                else:
                    new, model_of = models.rocchio(documents, own, best, terms, share)  # type: ignore[arg-type]
                    factor = 1.0
                added = {term: w for term, w in new.items() if isinstance(term, str) and w > 0}
                (value,) = with_feedback([given[q]], feedback, index._searcher, model, threads=1)
                found = added_terms(value) if added else {}
                if {*found} != {*added}:  # of equal terms others
                    assert len(found) == len(added)
                    assert {*found} <= {*model_of}
                    continue
                assert found == pytest.approx(added, rel=1e-5)
                query = expanded(spec, made.analyzer, factor, added) if added else None
                if query is None:
                    assert value is given[q]
                    continue
                expected = {hit.row: hit.score for hit in corpus.hits(query, naive_model)}
                rows = [live[place[id]] for id in hits.ids[q]]
                assert {*rows} == {*expected}
                got = hits.scores[q, : len(rows)]
                assert (np.diff(got) <= 0).all()
                noise = 1e-5 * max(map(abs, expected.values()), default=0)
                np.testing.assert_allclose(got, [expected[r] for r in rows], 1e-4, noise + 1e-6)
                if not is_open(spec):
                    assert {*hits.ids[q]} == {*every.ids[q]}


def added_terms(query: Query) -> dict[str, float]:
    assert isinstance(query, Boolean)
    return {
        part.query.term: part.factor
        for part in query.should
        if isinstance(part, Boost) and isinstance(part.query, IndexTerm)
    }


DOCUMENTS = [
    ["car", "engine"], ["car", "engine", "wheel"], ["engine", "wheel"], ["cat"], ["engine", "car"],
]  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return indexed(DOCUMENTS, tmp_path_factory.mktemp("feedback") / "index")


@pytest.mark.parametrize("feedback", [RM3(), Rocchio()])
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("car", [0, 1, 2, 4]), ('"car engine"', [0, 1]), ("+car -wheel", [0, 4]),
        ("ca*", [0, 1, 3, 4]), ('"car engine" cat', [0, 1, 2, 3, 4]), ("+car wheel", [0, 1, 4]),
        ("+never car", []), ("*:*", [0, 1, 2, 3, 4]), ("-car", []),
    ],
)  # fmt: skip
def test_nothing_is_found_that_the_query_excludes(
    index: Index, feedback: Any, text: str, ids: list[int]
) -> None:
    hits = index.search(text, ALL, syntax="query", feedback=feedback)
    assert sorted(hits.ids[0]) == ids


def test_terms_are_not_analysed_again(tmp_path: Path) -> None:
    """The stem of universities, univers, is not a word whose stem it is in every language."""
    stems = Analyzer(tokenizer="unicode", stemmer="english")
    texts = [{"text": "generously knightly"}, {"text": "knightly"}, {"text": "generous"}]
    index = Index.build(texts, tmp_path / "index", analyzer=stems)
    (value,) = with_feedback(
        [Phrase("generously knightly")], RM3(), index._searcher, BM25(), threads=1
    )
    found = added_terms(value)
    words = {*index.frequent_terms()}
    assert {*found} == {"generous", "knight"} & words or {*found} <= words
    hits = index.search(IndexTerm("knight"), 5)
    assert sorted(hits.ids[0]) == [0, 1]
    assert index.search(IndexTerm("knightly"), 5).ids == [[]]


def test_a_query_of_its_whole_weight_is_unchanged(index: Index) -> None:
    for query in (Phrase("car engine"), Boolean(["car"], ["wheel"]), Prefix("ca"), Term("car")):
        for feedback in (RM3(original_weight=1), Rocchio(beta=0)):
            plain, again = index.search(query, 9), index.search(query, 9, feedback=feedback)
            assert again.ids == plain.ids
            assert again.scores.tobytes() == plain.scores.tobytes()


def test_several_kinds_of_queries_at_once(index: Index) -> None:
    asked: list[Any] = ["car", Phrase("car engine"), {"cat": 1.0}, All(), "never", Prefix("whe")]
    together = index.search(asked, 5, feedback=RM3())
    for q, query in enumerate(asked):
        alone = index.search(query, 5, feedback=RM3())
        assert together.ids[q] == alone.ids[0]
        assert together.scores[q, : len(alone.ids[0])].tolist() == pytest.approx(
            alone.scores[0, : len(alone.ids[0])].tolist()
        )


def test_hits_are_explained_and_highlighted(tmp_path: Path) -> None:
    texts = [{"text": "a black cat and a dog"}, {"text": "black cat dog"}, {"text": "bird"}]
    index = Index.build(texts, tmp_path / "index", analyzer=Analyzer(tokenizer="space"))
    hits = index.search(Phrase("black cat"), 5, feedback=RM3(terms=10))
    for rank in (1, 2):
        assert hits.explain(rank).value == hits.scores[0, rank - 1]
    (snippet, *_) = hits.snippets()
    marked = " ".join(snippet.text[start:end] for start, end in snippet.highlights)
    assert "black cat" in marked
    assert "dog" in marked


def test_synonyms_and_feedback(tmp_path: Path, index: Index) -> None:
    (tmp_path / "synonyms.txt").write_text("car, auto\n")
    synonyms = SynonymMap.load(tmp_path / "synonyms.txt")
    hits = index.search("auto", 9, synonyms=synonyms, feedback=RM3())
    assert {0, 1, 4} <= {*hits.ids[0]}


def test_factors_beyond_the_largest_boost_are_the_largest(tmp_path: Path) -> None:
    index = Index.build(["car engine", "car", "engine oil"], tmp_path / "index")
    query = Boost(Boost(Phrase("car engine"), 1e20), 1e10)
    for feedback in (RM3(), Rocchio()):
        assert index.search(query, feedback=feedback).ids == [[0]]
