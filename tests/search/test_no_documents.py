"""Queries of every kind in an index whose documents are all deleted, or have empty texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import (
    BM25,
    DPH,
    PL2,
    RM3,
    TFIDF,
    BoW,
    Dirichlet,
    Index,
    JelinekMercer,
    Ranking,
    SynonymMap,
)
from fastseq.query import (
    All,
    Boolean,
    Boost,
    ConstantScore,
    Exists,
    Filter,
    Fuzzy,
    Near,
    Phrase,
    Prefix,
    Query,
    Range,
    Regex,
    Synonyms,
    Term,
    Wildcard,
)
from tests.cli.conftest import run_cli as run

N = 5
ROWS = [{"id": str(n), "text": "cat dog", "year": n} for n in range(N)]
OF_TEXT: list[Any] = [
    "cat", "cat dog", "", {"cat": 1.0, "dog": 2.0}, Term("cat dog"), Phrase("cat dog"),
    Phrase("cat"), Phrase("cat dog", slop=2), Near(["cat", "dog"], 3), Prefix("c"),
    Wildcard("c*t"), Regex("c.t"), Fuzzy("cat"), Range("text", "a", "d"), Exists("text"),
    Synonyms(["cat", "house cat"]), Boolean(must=["cat", "dog"]), Boolean(["cat"], ["dog"]),
    Boolean(must=["cat"], must_not=["dog"]), Boolean(should=["cat", Phrase("cat dog")]),
    Boolean(should=["cat", "dog", Prefix("c")], minimum_should_match=2),
    Boolean(must=["cat"], filter=[Term("dog"), Prefix("c")]), Boolean(must_not=["cat"]),
    Boost(Term("cat"), 2.0), Boost(Phrase("cat dog"), 2.0), ConstantScore(Term("cat")),
]  # fmt: skip
OF_COLUMNS: list[Query] = [
    All(), Filter("year >= 0"), Range("year", 0, 9), Exists("year"), Term("3", "year"),
    Boolean([All()], must_not=["cat"]), Boolean(filter=[Filter("year >= 0")], must_not=["cat"]),
    Boolean(should=["cat", Range("year", 0, 9)]), ConstantScore(Boolean([All()], ["cat"])),
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {}, {"filter": "year >= 1"}, {"filter": np.ones(N, bool)}, {"operator": "and"},
    {"fields": "text"}, {"fields": {"text": 2.0}},
]  # fmt: skip
ORDERS: list[dict[str, Any]] = [
    {"facets": "year"}, {"facets": ["year:10", "id"]}, {"sort": "-year"},
    {"sort": "_score,year"}, {"group": "year"}, {"sort": "id", "group": "year"}, {"offset": 2},
]  # fmt: skip


@pytest.fixture(scope="module", params=["deleted", "emptied", "empty", "no positions", "texts"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """All documents deleted, by one commit or with several segments; and empty texts."""
    path = tmp_path_factory.mktemp("none") / "index"
    if request.param in ("empty", "texts"):
        text = "" if request.param == "empty" else "?! -"
        rows = [{**row, "text": text} for row in ROWS]
        return Index.build(rows, path, fields=["text"], threads=1)
    positions = request.param != "no positions"
    index = Index.build(ROWS, path, fields=["text"], threads=1, positions=positions)
    if request.param == "emptied":
        index.add([{"id": "more", "text": "cat dog", "year": 9}], threads=1)
        index.delete(["more"], threads=1)
    index.delete([row["id"] for row in ROWS], threads=1)
    return index


def options_of(index: Index, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a filter that has as many rows as the index."""
    mask = options.get("filter")
    if isinstance(mask, np.ndarray):
        return {**options, "filter": mask[: index._collection.rows]}
    return options


@pytest.mark.parametrize("options", OPTIONS)
def test_queries_of_text_find_nothing(index: Index, options: dict[str, Any]) -> None:
    options = options_of(index, options)
    for query in OF_TEXT:
        if "fields" in options and isinstance(query, dict):
            continue
        assert index.count(query, **options) == 0, query
        assert index.count([query, query], **options) == [0, 0], query
        assert index.search(query, **options).ids == [[]], query
        assert index.search([query, "cat", query], **options).ids == [[], [], []], query


@pytest.mark.parametrize("options", OPTIONS)
def test_queries_of_columns_find_the_documents_there_are(
    index: Index, options: dict[str, Any]
) -> None:
    options = options_of(index, options)
    rows = range(1 if isinstance(options.get("filter"), str) else 0, N)
    for query in OF_COLUMNS:
        found = [row for row in rows if len(index) and (row == 3 or not isinstance(query, Term))]
        assert index.count(query, **options) == len(found), query
        assert index.count([query, query], **options) == [len(found)] * 2, query
        ids = [str(row) for row in found]
        assert index.search(query, **options).ids == [ids], query
        assert index.search([query, "cat"], **options).ids == [ids, []], query


@pytest.mark.parametrize("order", ORDERS)
def test_orders_pages_and_facets(index: Index, order: dict[str, Any]) -> None:
    for query in [*OF_TEXT, *OF_COLUMNS]:
        hits = index.search(query, 3, **order)
        count = index.count(query)
        assert int(hits.counts[0]) == min(3, max(count - order.get("offset", 0), 0)), query
        assert (hits.cursor() is None) == (int(hits.counts[0]) == 0)
        assert len(hits.snippets()) == int(hits.counts[0])
        for facet in hits.facets[0].values() if hits.facets else ():
            assert sum(facet.counts) + facet.other + facet.missing == count
        assert str(hits)


@pytest.mark.parametrize(
    "model",
    [BM25(), BM25(variant="bm25l"), TFIDF(), BoW(), Dirichlet(), JelinekMercer(), DPH(), PL2(),
     Ranking(part=lambda tf, length, s: tf / length)],
)  # fmt: skip
def test_models(index: Index, model: Any) -> None:
    for query in OF_TEXT:
        assert index.search(query, model=model).ids == [[]], query
        assert index.search([query, query], model=model).ids == [[], []], query


def test_what_else_reads_an_index(index: Index, tmp_path: Path) -> None:
    (tmp_path / "synonyms.txt").write_text("cat, house cat\n")
    synonyms = SynonymMap.load(tmp_path / "synonyms.txt")
    assert index.search("cat", synonyms=synonyms).ids == [[]]
    assert index.count("cat", synonyms=synonyms) == 0
    assert index.search("cat dog", feedback=RM3()).ids == [[]]
    assert index.search("cat", expand=lambda queries: [{"dog": 0.5} for _ in queries]).ids == [[]]
    assert index.more_like(text="cat dog", min_df=1).ids == [[]]
    assert index.suggest("cta") == index.complete("c") == index.frequent_terms() == []
    assert index.unknown_words("cat dog") == ["cat", "dog"]


def test_the_commands(index: Index) -> None:
    for query in ("cat", "cat dog", '"cat dog"', "+cat -dog", "c*", "cat~1", "/c.t/", '"cat dog"~3',
                  "text:cat", "year:[10 TO 20]"):  # fmt: skip
        ran = run("search", query, "-i", index.path, "--count")
        assert (ran.code, ran.out) == (0, "0\n"), query
        for words in ((), ("--facet", "year"), ("--sort", "-year"), ("--group", "year"),
                      ("--filter", "year >= 1"), ("--operator", "and"), ("--snippets",),
                      ("--explain",), ("--field", "text")):  # fmt: skip
            ran = run("search", query, "-i", index.path, "--format", "json", *words)
            assert ran.code == 0, (query, words, ran.err)
            found = ran.json["hits"] if "--facet" in words else ran.json
            assert found == [], (query, words)
