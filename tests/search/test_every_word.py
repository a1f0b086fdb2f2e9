"""Patterns that match more words than are scored, compared with an evaluation in plain Python.

A scored pattern is for the 1,024 words that most documents have. Conditions, counts, facets and the
order by a column are of all its words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, TFIDF, Index
from fastseq.query import (
    All,
    Boolean,
    Boost,
    ConstantScore,
    Fuzzy,
    Prefix,
    Query,
    Range,
    Regex,
    Synonyms,
    Term,
    Wildcard,
)

MOST = 1024
WORDS = [f"a{n}" for n in range(1600)]
OTHERS = ["cat", "dog", "owl"]
PATTERNS = {
    "a*": Prefix("a"),
    "a1*": Prefix("a1"),
    "a*[0-9]": Wildcard("a*?"),
    "a.+": Regex("a.+"),
    "a???": Wildcard("a???"),
}
MATCHING: dict[Query, Callable[[str], bool]] = {
    PATTERNS["a*"]: lambda word: word[0] == "a",
    PATTERNS["a1*"]: lambda word: word[:2] == "a1",
    PATTERNS["a*[0-9]"]: lambda word: word[0] == "a" and len(word) >= 2,
    PATTERNS["a.+"]: lambda word: word[0] == "a" and len(word) >= 2,
    PATTERNS["a???"]: lambda word: word[0] == "a" and len(word) == 4,
}


class Built(NamedTuple):
    """An index, and its documents by row: (words, year); None for a deleted one."""

    index: Index
    documents: list[tuple[list[str], int] | None]

    def __repr__(self) -> str:
        return repr(self.index)

    def chosen(self, pattern: Query) -> set[str]:
        """The words of a scored pattern."""
        live = [set(document[0]) for document in self.documents if document is not None]
        df = Counter(word for words in live for word in words if MATCHING[pattern](word))
        return set(sorted(df, key=lambda word: (-df[word], word))[:MOST])

    def matching(self, query: Query, every_word: bool) -> list[int]:
        """The rows that match; if `every_word`, also where patterns are scored."""
        chosen = {} if every_word else {p: self.chosen(p) for p in MATCHING}
        return [
            row for row, document in enumerate(self.documents)
            if document is not None and matches(query, set(document[0]), chosen)
        ]  # fmt: skip


def matches(query: Query, words: set[str], chosen: dict[Query, set[str]]) -> bool:
    """Whether a document matches a query.

    chosen  the words of patterns; empty for all words
    """
    match query:
        case All():
            return True
        case Term():
            return query.text in words
        case Synonyms():
            return any(text in words for text in query.texts)
        case Range():
            return any(str(query.low) <= word <= str(query.high) for word in words)
        case Boost():
            return matches(query.query, words, chosen)
        case ConstantScore():
            return matches(query.query, words, {})
        case Boolean():
            must = [matches(part, words, chosen) for part in query.must]
            must += [matches(part, words, {}) for part in query.filter]
            should = sum(matches(part, words, chosen) for part in query.should)
            if any(matches(part, words, {}) for part in query.must_not):
                return False
            least = query.minimum_should_match
            return all(must) and should >= (least if must else max(least, 1))
    if chosen:
        return bool(words & chosen[query])
    return any(map(MATCHING[query], words))


def random_rows(seed: int, count: int, first: int) -> list[dict[str, Any]]:
    """Documents of zero to three of the words, some of which are more frequent, and others."""
    chance = random.Random(seed)
    weights = [1 + 3 * (n % 2) for n in range(len(WORDS))]
    return [
        {
            "id": str(first + number),
            "text": " ".join([
                *chance.choices(WORDS, weights, k=chance.randint(0, 3)),
                *(word for word in OTHERS if chance.random() < 0.5),
            ]),
            "year": chance.randint(0, 400),
        }
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> list[Built]:
    """One segment, and several with deleted documents."""
    found = []
    for parts, every in (((3000,), 0), ((2000, 1500, 40), 7)):
        rows: list[dict[str, Any]] = []
        path = tmp_path_factory.mktemp("words") / "index"
        index: Index | None = None
        for seed, count in enumerate(parts):
            new = random_rows(seed, count, len(rows))
            rows += new
            if index is None:
                index = Index.build(new, path, fields=["text"], threads=1)
            else:
                index.add(new, threads=1)
        assert index is not None
        documents: list[Any] = [(row["text"].split(), row["year"]) for row in rows]
        if every:
            index.delete([row["id"] for row in rows][::every], threads=1)
            documents[::every] = [None] * len(documents[::every])
        found.append(Built(index, documents))
    assert all(len(one.chosen(Prefix("a"))) == MOST for one in found)
    return found


patterns = st.sampled_from([*PATTERNS.values()])
simple = st.one_of(
    st.sampled_from(OTHERS).map(Term), st.just(All()), st.just(Synonyms(["cat", "a1"])),
    st.just(Range("text", "a1", "a2")),
)  # fmt: skip
conditions = st.recursive(
    patterns | simple,
    lambda inner: st.builds(
        Boolean, *[st.lists(inner, max_size=2)] * 4, st.integers(0, 1)
    ) | inner.map(ConstantScore) | st.builds(Boost, inner, st.just(2.0)),
    max_leaves=5,
)  # fmt: skip


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Queries without scored patterns."""
    some = st.lists(conditions, max_size=2)
    scored = st.lists(simple | conditions.map(ConstantScore), max_size=2)
    return Boolean(
        must=draw(scored), should=draw(scored), must_not=draw(some), filter=draw(some),
        minimum_should_match=draw(st.integers(0, 1)),
    )  # fmt: skip


ROLES: dict[str, Query] = {
    "must not": Boolean(must=["cat"], must_not=[Prefix("a")]),
    "must not, should": Boolean(should=["cat", "dog"], must_not=[Regex("a.+")]),
    "filter": Boolean(must=["cat"], filter=[Prefix("a")]),
    "filter alone": Boolean(filter=[Wildcard("a*?")]),
    "constant": ConstantScore(Prefix("a")),
    "constant of a boolean": ConstantScore(Boolean(["cat"], [Prefix("a")], ["dog"])),
    "boosted constant": Boost(ConstantScore(Regex("a.+")), 2.0),
    "constant, several": Boolean(should=[ConstantScore(Prefix("a")), "owl"]),
    "nested": Boolean(must=["cat"], must_not=[Boolean(must=["dog", Prefix("a")])]),
    "doubly negated": Boolean([All()], must_not=[Boolean([All()], must_not=[Prefix("a")])]),
    "boosted": Boolean(must=["cat"], must_not=[Boost(Prefix("a"), 3.0)]),
    "in a filter's must not": Boolean(
        filter=[Boolean(must=["cat"], must_not=[ConstantScore(Prefix("a"))])]
    ),
    "range": Range("text", "a1", "a9"),
    "prohibited range": Boolean(must=["cat"], must_not=[Range("text", "a0", "a9")]),
    "prohibited synonyms": Boolean(must=["cat"], must_not=[Synonyms(["a1", "a2"]), Prefix("a")]),
}


def check_conditions(one: Built, query: Query, **options: Any) -> None:
    """Search and count find the documents that match, without a notice of the limit."""
    expected, k = one.matching(query, every_word=True), len(one.documents)
    single = one.index.search(query, k, **options)
    batch = one.index.search(["cat", query], k, **options)
    for hits, q in ((single, 0), (batch, 1)):
        assert sorted(hits.rows[q][hits.rows[q] >= 0].tolist()) == expected
        assert not any("most frequent" in notice for notice in hits.notices)
    notices: list[str] = []
    assert one.index.count(query, notices=notices) == len(expected)
    assert not any("most frequent" in notice for notice in notices)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("fields", [None, "text"])
@pytest.mark.parametrize("model", [BM25(), TFIDF()])
def test_conditions_are_of_every_word(
    indexes: list[Built], role: str, fields: str | None, model: Any
) -> None:
    for one in indexes:
        options = {} if fields and isinstance(model, BM25) else {"model": model}
        check_conditions(one, ROLES[role], fields=fields, **options)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1), queries())
def test_random_conditions_are_of_every_word(
    indexes: list[Built], number: int, query: Query
) -> None:
    check_conditions(indexes[number], query)


def test_a_required_pattern_has_its_limit_again_after_a_condition(indexes: list[Built]) -> None:
    queries = [
        Boolean([Prefix("a")], must_not=[Prefix("a1")]),
        Boolean([Boolean(filter=[Prefix("a1")]), Prefix("a")]),
        Boolean(should=[ConstantScore(Wildcard("a???")), Prefix("a")], must_not=["dog"]),
    ]
    for one in indexes:
        for query in queries:
            hits = one.index.search(query, len(one.documents))
            found = sorted(hits.rows[0][hits.rows[0] >= 0].tolist())
            assert found == one.matching(query, every_word=False)
            assert one.index.count(query) == len(one.matching(query, every_word=True))
            (notice,) = hits.notices
            assert notice.startswith("a* matches 1,")


@pytest.mark.parametrize("pattern", MATCHING)
def test_scored_patterns_are_of_the_most_frequent_words(
    indexes: list[Built], pattern: Query
) -> None:
    """A single query, and a batch of them."""
    for one in indexes:
        k, expected = len(one.documents), one.matching(pattern, every_word=False)
        every = one.matching(pattern, every_word=True)
        for hits in (one.index.search(pattern, k), one.index.search([pattern, "cat"], k)):
            assert sorted(hits.rows[0][hits.rows[0] >= 0].tolist()) == expected
            assert len(hits.notices) == (len(expected) < len(every))
        assert one.index.count(pattern) == len(every)
        assert one.index.count([pattern, "cat"])[0] == len(every)


ASKED: list[Query] = [
    *MATCHING, Boolean(must=[Prefix("a"), "cat"]), Boolean(should=[Prefix("a"), "cat"]),
    Boolean(must=["cat"], must_not=[Prefix("a")]), Boost(Prefix("a"), 2.0),
]  # fmt: skip


@pytest.mark.parametrize("query", ASKED)
def test_facets_are_of_every_match(indexes: list[Built], query: Query) -> None:
    for one in indexes:
        rows = one.matching(query, every_word=True)
        expected = Counter(one.documents[row][1] for row in rows)  # type: ignore[index]
        for hits in (
            one.index.search(query, facets="year", facet_values=None),
            one.index.search([query, "cat"], facets="year", facet_values=None),
        ):
            facet = hits.facets[0]["year"]
            counts = dict(zip(facet.values, facet.counts, strict=True))
            assert counts == expected
            assert sum(counts.values()) == one.index.count(query)


@pytest.mark.parametrize("query", ASKED)
def test_all_matches_are_sorted_and_grouped(indexes: list[Built], query: Query) -> None:
    """By a column, and on pages; a score is that of its explanation."""
    for one in indexes:
        years = [-1 if document is None else document[1] for document in one.documents]
        rows = sorted(one.matching(query, every_word=True), key=lambda row: (years[row], row))
        hits = one.index.search(query, len(rows) + 10, sort="year")
        assert hits.rows[0].tolist() == rows
        assert hits.notices == ()
        both = one.index.search(query, len(rows) + 10, sort=["year", "_score"])
        assert sorted(both.rows[0].tolist()) == sorted(rows)
        assert [years[row] for row in both.rows[0]] == [years[row] for row in rows]
        for rank in (1, len(rows) // 2, len(rows)):
            assert np.float32(hits.explain(rank).value) == hits.scores[0, rank - 1]
        page = one.index.search(query, 7, sort="year")
        after = one.index.search(query, 7, sort="year", after=page.cursor())
        assert [*page.rows[0], *after.rows[0]] == rows[:14]
        first = {years[row]: row for row in reversed(rows)}
        grouped = one.index.search(query, len(rows), sort="year", group="year")
        assert grouped.rows[0].tolist() == [first[year] for year in sorted(first)]


@pytest.mark.parametrize("options", [{"sort": "_score"}, {"group": "id"}, {"sort": "_score,year"}])
def test_an_order_by_score_has_the_limit_and_says_so(
    indexes: list[Built], options: dict[str, str]
) -> None:
    for one in indexes:
        k, plain = len(one.documents), one.index.search(Prefix("a"), len(one.documents))
        hits = one.index.search(Prefix("a"), k, **options)  # type: ignore[arg-type]
        expected = one.matching(Prefix("a"), every_word=False)
        assert sorted(hits.rows[0].tolist()) == expected
        assert hits.scores[0].tolist() == plain.scores[0, : len(expected)].tolist()
        assert hits.notices == plain.notices
        assert "searched for the 1,024 most frequent ones" in hits.notices[0]


def test_many_fuzzy_words(tmp_path: Path) -> None:
    """Fuzzy words have the limit of other patterns."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"word{a}{b}" for a in letters for b in letters]
    words += [f"{a}{b}word" for a in letters for b in letters]
    rows = [{"id": str(row), "text": f"cat {word}"} for row, word in enumerate(words)]
    rows.append({"id": "none", "text": "cat"})
    index = Index.build(rows, tmp_path / "index", threads=1)
    fuzzy = Fuzzy("word")
    assert index.count(fuzzy) == len(words) > MOST
    hits = index.search(fuzzy, len(rows))
    assert int(hits.counts[0]) == MOST
    assert len(hits.notices) == 1
    assert index.search(Boolean(["cat"], must_not=[fuzzy]), len(rows)).ids == [["none"]]
    assert int(index.search(ConstantScore(fuzzy), len(rows)).counts[0]) == len(words)
    assert index.search(fuzzy, 3, sort="-id").ids == [sorted(r["id"] for r in rows[:-1])[:-4:-1]]
