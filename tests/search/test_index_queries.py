"""Index.search, count and explain with queries of every kind, and the options that go with them."""

from __future__ import annotations

import datetime
import pickle
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import (
    BM25,
    BM25F,
    DPH,
    PL2,
    TFIDF,
    Analyzer,
    BoW,
    DataError,
    Dirichlet,
    Hits,
    Index,
    JelinekMercer,
    SettingsError,
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
from fastseq.search.explanation import Explanation

Row = dict[str, Any]
ALL = 1000
WORDS = ["cat", "cats", "cart", "dog", "dot", "tea", "black", "green", "runs", "sleeps", "often"]
LANGUAGES = ["en", "de", "fr", None]


def random_rows() -> list[Row]:
    chance = random.Random(17)
    weights = [1 / (n + 1) for n in range(len(WORDS))]

    def text(least: int, most: int) -> str:
        return " ".join(chance.choices(WORDS, weights, k=chance.randint(least, most)))

    return [
        {
            "id": f"d{number}",
            "title": text(0, 3) or None,
            "body": text(1, 14),
            "year": chance.choice([None, *range(1995, 2012)]),
            "price": round(chance.uniform(0, 90), 1),
            "lang": chance.choice(LANGUAGES),
            "tags": chance.sample(["x", "y", "z"], chance.randint(0, 3)),
            "date": datetime.date(chance.randint(2010, 2012), chance.randint(1, 12), 1),
        }
        for number in range(240)
    ]


ROWS = random_rows()
DELETED = {f"d{number}" for number in range(0, 240, 11)}
LIVE = [row for row in ROWS if row["id"] not in DELETED]


def words_of(row: Row) -> list[str]:
    return f"{row['title'] or ''} {row['body']}".split()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Three segments with deleted documents."""
    path = tmp_path_factory.mktemp("index") / "queries"
    columns = ["title", "body"]
    found = Index.build(ROWS[:140], path, text_columns=columns, fields=columns, threads=1)
    found.add(ROWS[140:200], threads=1)
    found.add(ROWS[200:], threads=1)
    found.delete(sorted(DELETED), threads=1)
    assert len(found._collection.leaves) == 3
    return found


def holds(phrase: str, row: Row) -> bool:
    return any(f" {phrase} " in f" {row[column] or ''} " for column in ("title", "body"))


def has(*words: str) -> Callable[[Row], bool]:
    return lambda row: any(word in words_of(row) for word in words)


# queries of every kind, as text where that can express them, and what they match
KINDS: list[tuple[Query, str | None, Callable[[Row], bool]]] = [
    (Term("cat"), "cat", has("cat")),
    (Term("tea dot"), "tea dot", has("tea", "dot")),
    (Term("cat", "title"), "title:cat", lambda row: "cat" in (row["title"] or "").split()),
    (Term("de", "lang"), "lang:de", lambda row: row["lang"] == "de"),
    (Phrase("black cat"), '"black cat"', lambda row: holds("black cat", row)),
    (
        Phrase("cat runs", "body"),
        'body:"cat runs"',
        lambda row: f" {row['body']} ".find(" cat runs ") >= 0,
    ),
    (Near(("cat",), 3), None, has("cat")),
    (Prefix("ca"), "ca*", has("cat", "cats", "cart")),
    (Wildcard("d?t"), "d?t +d?t", has("dot")),
    (Regex("ca(t|rt)"), "/ca(t|rt)/", has("cat", "cart")),
    (Fuzzy("cat", 1), "cat~1", has("cat", "cats", "cart")),
    (Synonyms(("tea", "black cat")), None, lambda row: has("tea")(row) or holds("black cat", row)),
    (
        Range("year", 2000, 2004),
        "year:[2000 TO 2004]",
        lambda row: row["year"] in range(2000, 2005),
    ),
    (
        Range("year", 2000, 2004, False, False),
        "year:{2000 TO 2004}",
        lambda row: row["year"] in range(2001, 2004),
    ),
    (
        Range("title", "cat", "dog"),
        "title:[cat TO dog]",
        lambda row: any("cat" <= word <= "dog" for word in (row["title"] or "").split()),
    ),
    (Exists("year"), "year:*", lambda row: row["year"] is not None),
    (Exists("title"), "_exists_:title", lambda row: row["title"] is not None),
    (All(), "*:*", lambda row: True),
    (Filter("year > 2005"), None, lambda row: (row["year"] or 0) > 2005),
    (Boost(Term("dog"), 2.5), "dog^2.5", has("dog")),
    (ConstantScore(Term("dog"), 3), None, has("dog")),
    (
        Boolean(must=["cat", "dog"], must_not=["tea"]),
        "+cat +dog -tea",
        lambda row: has("cat")(row) and has("dog")(row) and not has("tea")(row),
    ),
    (
        Boolean(should=["cat", "dog", "tea"], minimum_should_match=2),
        None,
        lambda row: len({"cat", "dog", "tea"} & {*words_of(row)}) >= 2,
    ),
    (
        Boolean(must=["cat"], filter=[Range("year", 2000)]),
        None,
        lambda row: has("cat")(row) and (row["year"] or 0) >= 2000,
    ),
    (Boolean(must_not=["cat"]), "-cat", lambda row: False),
    (Boolean(should=[All()], must_not=["cat"]), "*:* -cat", lambda row: not has("cat")(row)),
    (
        Term("cat") | Phrase("green tea"),
        'cat OR "green tea"',
        lambda row: has("cat")(row) or holds("green tea", row),
    ),
    (
        Boolean(must=[Term("dog") | Term("dot")], should=[Prefix("ca")]),
        "+(dog dot) ca*",
        has("dog", "dot"),
    ),
]
VALUES = [value for value, _, _ in KINDS]
MODELS = [
    BM25(),
    BM25(0.9, 0.4),
    *(BM25(variant=variant) for variant in BM25.VARIANTS[1:]),
    TFIDF(),
    TFIDF("Lpc.atn"),
    BoW(),
    Dirichlet(100),
    JelinekMercer(),
    DPH(),
    PL2(),
]


def assert_equal(some: Hits, others: Hits) -> None:
    assert some.rows.tolist() == others.rows.tolist()
    assert some.scores.tobytes() == others.scores.tobytes()


# ---- what matches


@pytest.mark.parametrize(("value", "text", "matches"), KINDS, ids=[str(kind[0]) for kind in KINDS])
def test_what_matches(
    index: Index, value: Query, text: str | None, matches: Callable[[Row], bool]
) -> None:
    expected = {row["id"] for row in LIVE if matches(row)}
    hits = index.search(value, ALL)
    assert {*hits.ids[0]} == expected
    assert len(hits.ids[0]) == len(expected) == index.count(value)
    scores = hits.scores[0, : len(expected)]
    order = list(zip((-scores).tolist(), hits.rows[0, : len(expected)].tolist(), strict=True))
    assert order == sorted(order)
    assert index.search(value, 3).ids[0] == hits.ids[0][:3]
    passing = {row["id"] for row in LIVE if row["lang"] == "en"}
    filtered = index.search(value, ALL, filter="lang = 'en'")
    assert filtered.ids[0] == [id for id in hits.ids[0] if id in passing]
    assert index.count(value, filter="lang = 'en'") == len(filtered.ids[0])
    if text is not None:
        found = index.search(text, ALL, syntax="query")
        assert found.notices == hits.notices
        assert len(found.notices) == (text == "-cat")
        if not text.startswith("d?t"):
            assert_equal(found, hits)
        assert {*found.ids[0]} == expected
        assert index.count(text, syntax="query") == len(expected)


def test_mappings_match_their_terms(index: Index) -> None:
    for weights in ({"cat": 1.0, "tea": 0.5}, {"cat": 0.0, "dot": -1.0}, {"never": 1.0}, {}):
        expected = {row["id"] for row in LIVE if has(*weights)(row)}
        assert {*index.search(weights, ALL).ids[0]} == expected
        assert index.count(weights) == len(expected)
        assert index.count(weights, filter="year > 2000") == index.search(
            weights, ALL, filter="year > 2000"
        ).counts.tolist()[0]  # fmt: skip


def test_the_operator_joins_words(index: Index) -> None:
    every = {row["id"] for row in LIVE if has("cat")(row) and has("dog")(row)}
    for syntax in ("plain", "query"):
        hits = index.search("cat dog", ALL, operator="and", syntax=syntax)
        assert {*hits.ids[0]} == every
        assert index.count("cat dog", operator="and", syntax=syntax) == len(every)
    assert_equal(hits, index.search(Boolean(must=["cat", "dog"]), ALL))
    found = index.search("cat OR dog", ALL, operator="and", syntax="query")
    assert_equal(found, index.search("cat dog", ALL))


def test_batches_of_every_kind(index: Index) -> None:
    queries: list[Any] = [*VALUES, "cat tea", {"dog": 2.0}, "+cat -dog", {}, "cat cat"]
    for model in (BM25(), DPH()):
        hits = index.search(queries, 20, model, threads=1, syntax="query")
        assert_equal(hits, index.search(queries, 20, model, threads=4, syntax="query"))
        for number, query in enumerate(queries):
            single = index.search(query, 20, model, syntax="query")
            assert_equal(hits[number : number + 1], single)
            assert hits[number] == single[0]
    assert index.count(queries, syntax="query") == [
        index.count(query, syntax="query") for query in queries
    ]


def test_notices_have_one_order_on_any_number_of_threads(tmp_path: Path) -> None:
    texts = [" ".join(f"{first}{n}" for n in range(1100)) for first in "abcdef"]
    index = Index.build(texts, tmp_path / "index", threads=1)
    queries = [Prefix(first) for first in "fabdce"]
    expected = [
        f"{query} matches 1,100 words: searched for the 1,024 most frequent ones"
        for query in queries
    ]
    for threads in (1, 4):
        assert [*index.search(queries, threads=threads).notices] == expected


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (Boolean(must_not=["cat"]), "-cat"),
        (Boolean(must_not=["cat", Phrase("a b")]), '-cat -"a b"'),
        (Boolean(must=["dog"], should=[Boolean(must_not=["cat"])]), "-cat"),
        (Boolean(must=["the", "?"], must_not=["cat"]), "-cat"),
        (Boolean(must_not=["x" * 500]), f"-{'x' * 79}…"),
    ],
)
def test_prohibited_clauses_alone_have_a_notice(tmp_path: Path, query: Query, shown: str) -> None:
    rows = [{"text": "the dog"}, {"text": "a cat"}]
    analyzer = Analyzer(stopwords="english")
    index = Index.build(rows, tmp_path / "index", analyzer=analyzer, threads=1)
    notice = f"only prohibited clauses: {shown} matches nothing, *:* {shown} all other documents"
    counted: list[str] = []
    index.count(query, notices=counted)
    assert counted == [notice]
    assert index.search(query).notices == index.search([query, "dog"]).notices == (notice,)
    none = Boolean(must=["dog"], must_not=["cat"]), Boolean([All()], must_not=["cat"]), Boolean()
    assert index.search([*none, Boolean(must_not=["the"])]).notices == ()


# ---- fields


@pytest.mark.parametrize("model", [None, BM25F(0.9, {"title": 0.2}), BM25(), BoW(), DPH()])
def test_words_are_looked_up_in_fields(index: Index, model: Any) -> None:
    for query in ("cat dog", Phrase("black cat"), Prefix("ca"), Synonyms(("tea", "dot"))):
        every = {*index.search(query, ALL).ids[0]}
        for fields in (["title", "body"], {"title": 3.0, "body": 1.0}):
            hits = index.search(query, ALL, model, fields=fields)
            assert {*hits.ids[0]} == every
            assert index.count(query, fields=fields) == len(every)
        title = index.search(query, ALL, model, fields="title")
        assert 0 < len(title.ids[0]) < len(every)
        assert_equal(title, index.search(query, ALL, model, fields={"title": 1}))


def test_weights_of_fields_change_the_order(index: Index) -> None:
    hits = {
        weight: index.search("tea", 10, fields={"title": weight, "body": 1.0})
        for weight in (0.1, 50)
    }
    in_title = [
        sum("tea" in (row["title"] or "").split() for row in found.fields())
        for found in hits.values()
    ]
    assert in_title[0] < in_title[1] == 10
    # a clause with a field of its own is not weighted
    assert_equal(
        index.search("title:tea", fields={"body": 9.0}, syntax="query"),
        index.search("title:tea", fields={"title": 1.0}, syntax="query"),
    )


def test_synonyms_are_searched_for_as_one(index: Index) -> None:
    synonyms = SynonymMap([(["tea", "dot"], ["tea", "dot"])])
    hits = index.search("tea", ALL, synonyms=synonyms)
    assert_equal(hits, index.search(Synonyms(("tea", "dot")), ALL))
    assert index.count("tea", synonyms=synonyms) == len(hits.ids[0])
    both = index.search(["tea", {"tea": 1.0}, Boolean(must=["dot"])], ALL, synonyms=synonyms)
    assert_equal(both[:1], hits)
    assert_equal(both[1:2], index.search({"tea": 1.0}, ALL))
    assert_equal(both[2:], hits)


# ---- order and pages


def value_key(value: Any, descending: bool) -> tuple[bool, Any]:
    """Nulls come last."""
    if value is None:
        return True, 0
    return False, -value if descending else value


def test_hits_are_sorted_by_columns(index: Index) -> None:
    for query in ("cat", Boolean(must=[Prefix("ca")]), All()):
        hits = index.search(query, ALL)
        rows = [
            {**row, "row": number, "score": score}
            for row, number, score in zip(
                hits.fields(), hits.rows[0].tolist(), hits.scores[0].tolist(), strict=False
            )
        ]
        for sort, key in (
            ("year", lambda row: value_key(row["year"], False)),
            ("-year", lambda row: value_key(row["year"], True)),
            (["year:desc", "price"], lambda row: (value_key(row["year"], True), row["price"])),
            ("-year,_score", lambda row: (value_key(row["year"], True), -row["score"])),
        ):
            ordered = sorted(rows, key=lambda row: (key(row), row["row"]))
            found = index.search(query, ALL, sort=sort)
            assert found.ids[0] == [row["id"] for row in ordered]
            assert found.scores[0].tolist() == [row["score"] for row in ordered]


def test_a_group_has_its_best_hit(index: Index) -> None:
    hits = index.search("cat", ALL)
    best = dict[Any, str]()
    for id, row in zip(hits.ids[0], hits.fields(), strict=True):
        best.setdefault(row["year"], id)
    assert index.search("cat", ALL, group="year").ids[0] == [*best.values()]
    assert index.search("cat", 3, group="year").ids[0] == [*islice(best.values(), 3)]
    newest = index.search("cat", ALL, group="lang", sort="-year")
    of_language = dict[Any, str]()
    for row in index.search("cat", ALL, sort="-year").fields():
        of_language.setdefault(row["lang"], row["id"])
    assert newest.ids[0] == [*of_language.values()]


ORDERS: list[dict[str, Any]] = [
    {},
    {"sort": "-year"},
    {"sort": "lang,-price"},
    {"group": "year"},
    {"group": "lang", "sort": "price"},
    {"filter": "price < 50"},
    {"filter": "price < 50", "sort": "year"},
]


@pytest.mark.parametrize("options", ORDERS, ids=repr)
@pytest.mark.parametrize(
    "query", ["cat", {"cat": 1.0, "dog": 2.0}, Phrase("black cat"), ConstantScore(Prefix("ca"))],
    ids=str,
)  # fmt: skip
def test_pages_are_parts_of_one_list(index: Index, query: Any, options: dict[str, Any]) -> None:
    every = index.search(query, ALL, **options)
    ids, scores = every.ids[0], every.scores[0].tolist()
    by_cursor: list[str] = []
    points: list[float] = []
    after = None
    while True:
        page = index.search(query, 7, after=after, **options)
        by_cursor += page.ids[0]
        points += page.scores[0, : page.counts[0]].tolist()
        assert len(page.ids[0]) <= 7
        if (after := page.cursor()) is None:
            break
    assert by_cursor == ids
    assert points == scores[: len(ids)]
    by_offset = [
        id
        for offset in range(0, len(ids) + 7, 7)
        for id in index.search(query, 7, offset=offset, **options).ids[0]
    ]
    assert by_offset == ids


def test_cursors_of_other_requests_are_refused(index: Index, tmp_path: Path) -> None:
    cursor = index.search("cat", 3).cursor()
    again = pickle.loads(pickle.dumps(index.search("cat", 3)))
    assert again.cursor() == cursor
    assert index.search("cat", 3, after=cursor).ids[0] == index.search("cat", 6).ids[0][3:]
    mask = np.ones(index._collection.rows, bool)
    other = mask.copy()
    other[0] = False
    with_mask = index.search("cat", 3, filter=mask).cursor()
    assert len(index.search("cat", 3, filter=mask.tolist(), after=with_mask).ids[0]) == 3
    cases: list[tuple[Any, dict[str, Any]]] = [
        ("dog", {}), (Term("cat"), {}), ({"cat": 1.0}, {}), ("cat", {"model": BM25(k1=1)}),
        ("cat", {"sort": "year"}), ("cat", {"group": "year"}), ("cat", {"filter": "year > 0"}),
        ("cat", {"operator": "and"}), ("cat", {"fields": "title"}),
    ]  # fmt: skip
    for query, options in cases:
        with pytest.raises(SettingsError, match="a cursor of another query, filter, order or grou"):
            index.search(query, 3, after=cursor, **options)
    with pytest.raises(SettingsError, match="a cursor of another query"):
        index.search("cat", 3, filter=other, after=with_mask)
    for wrong in ("", "x", "A" * 34, 5, b"", cursor[:-1] if cursor else ""):
        with pytest.raises(SettingsError, match="after"):
            index.search("cat", 3, after=wrong)
    with pytest.raises(SettingsError, match="offset and after are both given"):
        index.search("cat", 3, offset=1, after=cursor)
    for hits in (index.search(["cat", "dog"]), index.search("cat")[:1], index.more_like("d1")):
        with pytest.raises(
            SettingsError, match="a cursor is of the hits of a search for one query"
        ):
            hits.cursor()
    assert index.search("never").cursor() is None
    one = Index.build([{"id": 1, "text": "cat"}], tmp_path / "index")
    cursor = one.search("cat").cursor()
    one.add([{"id": 2, "text": "cat"}])
    with pytest.raises(SettingsError, match="a cursor of another index, or of another commit"):
        one.search("cat", after=cursor)


def test_sort_group_and_after_are_for_one_query(index: Index) -> None:
    for options in ({"sort": "year"}, {"group": "year"}, {"after": "x"}):
        for queries in ([], ["cat", "dog"]):
            with pytest.raises(SettingsError, match="sort, group and after are for one query"):
                index.search(queries, **options)  # type: ignore[arg-type]
    offset = index.search(["cat", "tea"], 3, offset=2)
    assert offset.ids == [ids[2:] for ids in index.search(["cat", "tea"], 5).ids]


# ---- facets


@pytest.mark.parametrize(
    "query", ["cat", Term("cat"), {"cat": 0.5}, Phrase("black cat"), "never"], ids=repr
)
def test_facets_count_all_matches(index: Index, query: Any) -> None:
    texts = {"cat": has("cat"), "never": has("never")}
    matches = texts.get(str(query if isinstance(query, str | Term) else "cat"), has("cat"))
    if isinstance(query, Phrase):
        matches = lambda row: holds("black cat", row)  # noqa: E731
    for filter, passes in (
        (None, lambda row: True),
        ("price >= 20", lambda row: row["price"] >= 20),
    ):
        rows = [row for row in LIVE if matches(row) and passes(row)]
        facets = ["lang", "tags", "year:5", "date:year", "price:0,10,50"]
        hits = index.search(query, 1, filter=filter, facets=facets, facet_values=None)
        (found,) = hits.facets
        assert [*found] == ["lang", "tags", "year", "date", "price"]
        for name, values in (
            ("lang", [row["lang"] for row in rows]),
            ("tags", [tag for row in rows for tag in row["tags"] or [None]]),
        ):
            counts = Counter(value for value in values if value is not None)
            expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            facet = found[name]
            assert list(zip(facet.values, facet.counts.tolist(), strict=True)) == expected
            assert (facet.other, facet.missing) == (0, values.count(None))
        years = Counter(row["year"] // 5 * 5 for row in rows if row["year"] is not None)
        facet = found["year"]
        bins = [low for low, _ in facet.values]
        assert dict(zip(bins, facet.counts.tolist(), strict=True)) == years
        assert bins == sorted(bins)
        dates = Counter(str(row["date"].year) for row in rows)
        assert dict(zip(found["date"].values, found["date"].counts.tolist(), strict=True)) == dates
        edges = [
            sum(low <= row["price"] < high for row in rows) for low, high in ((0, 10), (10, 50))
        ]
        assert found["price"].counts.tolist() == edges
        assert found["price"].other == sum(row["price"] >= 50 for row in rows)


def test_facet_values(index: Index) -> None:
    every = index.search("cat", facets="year", facet_values=None).facets[0]["year"]
    few = index.search("cat", facets="year", facet_values=3).facets[0]["year"]
    assert few.values == every.values[:3]
    assert few.other == every.counts[3:].sum() > 0
    both = index.search(["cat", Term("tea")], facets=["lang"])
    assert len(both.facets) == 2
    assert both[1:].facets[0]["lang"].counts.sum() == index.count("tea", filter="lang is not null")
    assert index.search("cat").facets == ()


# ---- explanations


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_explanations_have_the_bits_of_the_score(index: Index, model: Any) -> None:
    queries: list[Any] = [
        *VALUES,
        "cat tea cat",
        "never cat",
        Term("cat tea") | Boost(Term("tea"), 3),
    ]
    hits = index.search(queries, 4, model)
    for q, query in enumerate(queries):
        for rank, hit in enumerate(hits[q], 1):
            tree = hits.explain(rank, q)
            assert np.float32(tree.value) == np.float32(hit["score"])
            assert tree == index.explain(query, hit["id"], model=model)
            assert str(tree).splitlines()
            assert tree.to_dict()["value"] == tree.value


@pytest.mark.parametrize("model", [BM25F(), BM25F(0.5, 0.3), BM25(variant="bm25+"), TFIDF(), PL2()])
@pytest.mark.parametrize(
    "fields", [["title", "body"], {"title": 3.0, "body": 0.5}, "body"], ids=repr
)
def test_explanations_in_fields(index: Index, model: Any, fields: Any) -> None:
    queries: list[Any] = ["cat tea", Phrase("black cat"), Prefix("ca"), "+dog ca* -tea"]
    hits = index.search(queries, 3, model, fields=fields, syntax="query")
    for q, query in enumerate(queries):
        assert hits[q]
        for rank, hit in enumerate(hits[q], 1):
            tree = hits.explain(rank, q)
            assert np.float32(tree.value) == np.float32(hit["score"])
            assert tree == index.explain(
                query, hit["id"], model=model, fields=fields, syntax="query"
            )


def values_by_name(tree: Explanation) -> dict[str, float]:
    """The values of the details of a node, by what precedes the first comma or space."""
    return {re.split(r"[, ]", each.description)[0]: each.value for each in tree.details}


def test_explanations_of_bm25f_have_each_field(index: Index) -> None:
    model, weights = BM25F(0.9, {"title": 0.3, "body": 0.6}), {"title": 3.0, "body": 0.5}
    seen = set()
    for id in index.search("cat", 40, model, fields=weights).ids[0]:
        row = next(row for row in LIVE if row["id"] == id)
        of_weight, of_part = index.explain("cat", id, model=model, fields=weights).details
        f, k1 = of_part.details
        expected = {}
        for name in weights:
            own = (row[name] or "").split()
            average = sum(len((each[name] or "").split()) for each in LIVE) / len(LIVE)
            b = model.b_of(name)
            if "cat" in own:
                relative = 1 - b + b * len(own) / average
                expected[name] = weights[name] * own.count("cat") / relative
                node = next(each for each in f.details if each.description.startswith(name))
                assert [each.value for each in node.details] == pytest.approx(
                    [own.count("cat"), weights[name], b, len(own), average]
                )
        assert values_by_name(f) == pytest.approx(expected)
        assert f.value == pytest.approx(sum(expected.values()))
        assert of_part.value == pytest.approx(f.value / (k1.value + f.value), rel=1e-6)
        assert np.prod([each.value for each in of_weight.details]) == pytest.approx(of_weight.value)
        seen |= {len(expected)}
    assert seen == {1, 2}


@pytest.mark.parametrize("model", [Dirichlet(100), JelinekMercer(0.6), DPH(), PL2(2)], ids=repr)
def test_explanations_of_models_by_formula_have_what_they_use(index: Index, model: Any) -> None:
    hit = index.search("cat", 5, model).ids[0][-1]
    own = words_of(next(row for row in LIVE if row["id"] == hit))
    every = [words_of(row) for row in LIVE]
    tokens, cf = sum(map(len, every)), sum(words.count("cat") for words in every)
    of_weight, of_part = index.explain("cat", hit, model=model).details
    expected = {"tf": own.count("cat"), "length": len(own), "cf": cf}
    if isinstance(model, PL2):
        expected |= {"N": len(LIVE), "average": tokens / len(LIVE), "c": 2}
    else:
        expected |= {"T": tokens}
        expected |= {"μ": 100} if isinstance(model, Dirichlet) else {}
        expected |= {"λ": 0.6} if isinstance(model, JelinekMercer) else {}
    assert values_by_name(of_part) == pytest.approx(expected)
    assert [each.value for each in of_weight.details] == [1]


def test_the_formula_of_bm25_has_no_needless_parentheses(index: Index) -> None:
    hit = index.search("cat", 1).ids[0][0]
    assert "tf + k1 · (1 - b" in str(index.explain("cat", hit))
    assert "tf + (k1 + δ) · (1 - b" in str(
        index.explain("cat", hit, model=BM25(variant="bm25l"))
    )


def test_what_cannot_be_explained(index: Index) -> None:
    other = next(row["id"] for row in LIVE if not has("cat")(row))
    assert index.explain("cat", other).value == 0
    assert "does not match" in str(index.explain("cat", other))
    with pytest.raises(DataError, match="no document has the id 'd0'"):
        index.explain("cat", "d0")
    with pytest.raises(SettingsError, match="not for a mapping"):
        index.search({"cat": 1.0}).explain()
    for query in ({"cat": 1.0}, ["cat"], 5):
        with pytest.raises(SettingsError, match="explain is for one string or value of"):
            index.explain(query, "d1")  # type: ignore[arg-type]
    hits = index.search("cat", 2)
    for rank, q in ((0, 0), (3, 0), (1, 1), ("1", 0)):
        with pytest.raises(SettingsError, match="must be a whole number"):
            hits.explain(rank, q)  # type: ignore[arg-type]


# ---- snippets, suggestions, documents like another


def test_snippets_of_structured_queries(index: Index) -> None:
    for query, marked in (
        (Phrase("black cat"), r"black cat"), (Prefix("ca"), r"cat|cats|cart"),
        (Boolean(must=["tea"], must_not=["dog"]), r"tea"), ("+tea -dog", r"tea"),
        (Fuzzy("dag", 1), r"dog"), (Term("cat", "title"), r"cat"),
    ):  # fmt: skip
        hits = index.search(query, 5, syntax="query")
        snippets = hits.snippets()
        assert len(snippets) == len(hits.ids[0]) > 0
        for snippet, row in zip(snippets, hits.fields(), strict=True):
            assert snippet.text in row[snippet.column]
            spans = [snippet.text[a:b] for a, b in snippet.highlights]
            assert spans
            assert all(re.fullmatch(f"(?:{marked}| )+", span) for span in spans), spans
    assert all(len(each.text) <= 20 for each in index.search("cat").snippets(length=20))
    with pytest.raises(DataError, match="no stored column 'colour'"):
        index.search("cat").snippets(column="colour")


def test_suggestions_and_completions_have_words_as_written(tmp_path: Path) -> None:
    analyzer = Analyzer(stemmer="english", stopwords="english")
    index = Index.build(
        [{"id": 1, "text": "running quickly"}, {"id": 2, "text": "runner running"}],
        tmp_path / "index", analyzer=analyzer,
    )  # fmt: skip
    index.add([{"id": 3, "text": "Running and runs"}, {"id": 4, "text": "runway"}])
    counts = [("running", 3), ("runs", 3), ("runner", 1), ("runway", 1)]
    assert index.complete("quickly run") == index.complete("RUN") == counts
    assert [word for word, _ in index.complete("run", 2)] == ["running", "runs"]
    for text in ("", " ", "run ", "quickly run\t", "run\n", "run\u3000", "\u0301"):
        assert index.complete(text) == []
    assert index.complete("quickly\trun") == counts
    assert index.suggest("runing")[0] == "running"
    assert index.suggest("do") == index.suggest("the") == index.complete("xyz") == []
    index.delete([4])
    assert "runway" not in dict(index.complete("run"))
    assert "runway" not in index.suggest("runwey")
    # the word of a deleted document is not suggested, though others have its term
    assert "runs" in index.suggest("rune", 10)
    index.delete([3])
    assert index.suggest("rune", 10) == []
    assert index.suggest("runing") == ["running"]
    before = [index.complete("runner"), index.suggest("runing")]
    index.compact()
    assert [index.complete("runner"), index.suggest("runing")] == before
    for wrong in (5, None):
        with pytest.raises(SettingsError, match="must be a string"):
            index.suggest(wrong)  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match="must be a string"):
            index.complete(wrong)  # type: ignore[arg-type]


def test_documents_like_another(index: Index) -> None:
    hits = index.more_like("d5", k=ALL)
    assert "d5" not in hits.ids[0]
    assert len({*hits.ids[0]}) == len(hits.ids[0]) > 100
    assert index.more_like("d5", k=4, filter="lang = 'en'").ids[0] == [
        id for id, row in zip(hits.ids[0], hits.fields(), strict=True) if row["lang"] == "en"
    ][:4]  # fmt: skip
    with pytest.raises(SettingsError, match="BM25F is for a search in fields"):
        index.more_like("d5", model=BM25F())


# ---- hits


def test_pickled_hits_of_structured_queries(index: Index) -> None:
    queries: list[Any] = [Phrase("black cat"), {"cat": 1.0}, "cat", Boolean(must=[Prefix("ca")])]
    hits = index.search(queries, 5, facets=["lang"])
    again = pickle.loads(pickle.dumps(hits))
    assert_equal(again, hits)
    assert again.ids == hits.ids
    assert [str(snippet) for snippet in again.snippets(0)] == [str(one) for one in hits.snippets(0)]
    assert again.explain(2, 3) == hits.explain(2, 3)
    assert [facets["lang"].values for facets in again.facets] == [
        facets["lang"].values for facets in hits.facets
    ]
    part = again[2:]
    assert part.explain(1, 0) == hits.explain(1, 2)
    assert part.query_texts(0) == ["cat"]
    deep: Query = Term("cat")
    while deep.depth < 200:
        deep = Boolean(must=[deep])
    assert_equal(pickle.loads(pickle.dumps(index.search(deep))), index.search("cat"))


def test_searches_during_changes(tmp_path: Path) -> None:
    """Every search sees one commit: as many hits as it counts documents."""
    index = Index.build([{"id": n, "text": "cat dog"} for n in range(20)], tmp_path / "index")
    wrong: list[Any] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            hits = index.search(Boolean(must=["cat", Phrase("cat dog")]), 100, sort="id")
            ids = hits.ids[0]
            if ids != list(range(len(ids))) or len(ids) < 20 or len(hits.snippets()) != len(ids):
                wrong.append(ids)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(20, 32):
        index.add([{"id": n, "text": "cat dog"}], threads=1)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert index.count(Phrase("cat dog")) == 32


def test_mapping_types(index: Index) -> None:
    class Weights(Mapping[str, float]):
        def __getitem__(self, term: str) -> float:
            return {"cat": 1.0}[term]

        def __iter__(self) -> Any:
            return iter(["cat"])

        def __len__(self) -> int:
            return 1

    hits = index.search(Weights(), 5)
    assert_equal(hits, index.search({"cat": 1.0}, 5))
    assert hits.cursor() == index.search({"cat": 1.0}, 5).cursor()


def test_white_space_in_a_phrase_of_bigrams(tmp_path: Path) -> None:
    index = Index.build(["私は東京大学へ", "私は東京 大学へ", "大学 東京"], tmp_path / "index")
    assert index.search(Phrase("東京大学")).ids == [[0]]
    assert index.search(Phrase("東京 大学")).ids == [[1]]
    assert sorted(index.search(Phrase("東京 大学", slop=1)).ids[0]) == [0, 1]
    lone = Index.build(["猫 喜欢", "猫喜欢", "猫"], tmp_path / "lone")
    assert lone.search(Near(("猫", "喜欢"), 5)).ids == [[0]]
    with pytest.raises(SettingsError, match="has 2 words; expected one each"):
        lone.search(Near(("猫喜欢", "猫"), 5))


def test_patterns_that_differ_in_case_are_one(tmp_path: Path) -> None:
    """A clause that occurs twice counts twice in one vector, it is not two of its elements."""
    texts = ["cat cart", "care dog", "dog", "cats cats cart tea"]
    rows = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
    index = Index.build(rows, tmp_path / "index")
    for one, other in ((Prefix("ca"), Prefix("CA")), (Wildcard("c*t"), Wildcard("C*T")),
                       (Fuzzy("cat"), Fuzzy("CAT"))):  # fmt: skip
        for model in (TFIDF(smart="ltc.lnc"), BM25()):
            same, differing = (
                index.search(Boolean(should=(one, second)), model=model) for second in (one, other)
            )
            assert same.rows.tolist() == differing.rows.tolist()
            assert same.scores.tobytes() == differing.scores.tobytes()
