"""Patterns: the kernel that searches them in a batch finds the same bits as the evaluation clause
by clause."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, Analyzer, Index
from fastseq.kernels.search.group_search import MOST_SUM
from fastseq.query import Boost, Fuzzy, Prefix, Query, Regex, Wildcard
from fastseq.search.patterns import folded
from fastseq.search.resolving import MOST_WORDS
from fastseq.text.splitting import splitter_of
from tests.search.random_rows import built, random_rows
from tests.search.test_flat_queries import FILTERS, MODELS

LETTERS = "abc"
PARTS = [((9, 6),), ((3000, 12), (400, 40), (30, 5)), ((66_500, 5),), ((800, 30),)]
DELETED = [0, 7, 11, 0]


def rows_of(seed: int, count: int, longest: int) -> list[dict[str, Any]]:
    """Documents of words of two to four letters, of which some are frequent."""
    chance = random.Random(seed)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 4))) for _ in range(60)]
    return random_rows(chance, str(seed), words, 1, count, longest)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> list[Index]:
    """Few documents, several segments with deleted documents, more than a window, and stems."""
    folder = tmp_path_factory.mktemp("groups")
    return [
        built(
            folder / str(number),
            (rows_of(10 * number + n, *each) for n, each in enumerate(parts)),
            delete,
            analyzer=Analyzer(stemmer="english" if number == 3 else "none"),
        )
        for number, (parts, delete) in enumerate(zip(PARTS, DELETED, strict=True))
    ]


short = st.text(LETTERS, min_size=1, max_size=4)
patterns: st.SearchStrategy[Query] = st.one_of(
    short.map(Prefix),
    st.text(LETTERS + "*?", min_size=1, max_size=4).map(Wildcard),
    st.text(LETTERS + ".", min_size=1, max_size=4).map(Regex),
    st.builds(Fuzzy, short, st.integers(0, 2), st.integers(0, 2)),
    short.map(lambda text: Boost(Prefix(text), 2.0)),
    st.just(Prefix("never")),
)


@settings(deadline=None, max_examples=600)
@given(
    st.integers(0, 3), st.lists(patterns, min_size=1, max_size=5), st.sampled_from(MODELS),
    st.sampled_from([1, 2, 10, 100, 4000]), st.sampled_from(FILTERS), st.sampled_from([1, 3]),
)  # fmt: skip
def test_both_ways_find_the_same_bits(
    indexes: list[Index], number: int, queries: list[Query], model: Any, k: int, filter: Any,
    threads: int,
) -> None:  # fmt: skip
    index = indexes[number]
    rows, scores = index._searcher._evaluate(queries, k, model, 1, filter, None, "or", [])
    hits = index.search(queries, k, model, threads, filter=filter)
    assert hits.rows.tolist() == rows.tolist()
    assert hits.scores.tobytes() == scores.tobytes()


def test_a_batch_is_searched_by_the_kernel(
    indexes: list[Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastseq.search.searcher.Resolver", None)
    hits = indexes[1].search([Prefix("a"), Fuzzy("abc"), Wildcard("?b*"), Regex("a.*c")], 10)
    assert [len(ids) for ids in hits.ids] == [10] * 4


def test_sums_that_do_not_fit_are_evaluated_clause_by_clause(tmp_path: Path) -> None:
    texts = [" ".join(["aa"] * MOST_SUM + ["ab"]), "aa ab", "aa", "bb"]
    index = Index.build([{"text": text} for text in texts], tmp_path / "index", threads=1)
    rows, scores = index._searcher._evaluate([Prefix("a")], 4, MODELS[0], 1, None, None, "or", [])
    hits = index.search([Prefix("a")], 4, MODELS[0])
    assert hits.rows.tolist() == rows.tolist()
    assert np.array_equal(hits.scores, scores)
    assert sorted(hits.rows[0].tolist()) == [-1, 0, 1, 2]


@settings(deadline=None, max_examples=30)
@given(
    counts=st.lists(
        st.lists(st.sampled_from([0, 0, 1, 2, 14, 15, 16, 127, 254, 255, 256, 600]), min_size=4,
                 max_size=4),
        min_size=2, max_size=30,
    ),
    deleted=st.sets(st.integers(1, 29)), k=st.sampled_from([1, 3, 10, 30]),
)  # fmt: skip
def test_large_sums_are_those_of_a_naive_evaluation(
    tmp_path_factory: pytest.TempPathFactory, counts: list[list[int]], deleted: set[int], k: int
) -> None:
    words = ["aa", "ab", "ac", "b"]
    texts = [
        " ".join(word for word, count in zip(words, own, strict=True) for _ in range(count))
        for own in counts
    ]
    rows = [{"id": str(row), "text": text} for row, text in enumerate(texts)]
    index = Index.build(rows, tmp_path_factory.mktemp("sums") / "index", threads=1)
    deleted = {row for row in deleted if row < len(rows)}
    if deleted:
        index.delete([str(row) for row in sorted(deleted)], threads=1)
    live = [row for row in range(len(rows)) if row not in deleted]
    average = sum(sum(counts[row]) for row in live) / len(live)
    sums = {row: sum(counts[row][:3]) for row in live if sum(counts[row][:3])}
    idf = np.log1p((len(live) - len(sums) + 0.5) / (len(sums) + 0.5))
    scores = {
        row: idf * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * sum(counts[row]) / average))
        for row, tf in sums.items()
    }
    best = sorted(scores.values(), reverse=True)[:k]
    for hits in (
        index.search(Prefix("a"), k, BM25(k1=1.2, b=0.75)),
        index.search([Prefix("a"), Prefix("b")], k, BM25(k1=1.2, b=0.75), threads=1),
    ):
        found = hits.rows[0][hits.rows[0] >= 0].tolist()
        assert len(found) == len(best)
        assert np.allclose(hits.scores[0][: len(found)], best, rtol=1e-5)
        assert np.allclose([scores[row] for row in found], best, rtol=1e-5)


def test_plain_words_are_folded_as_the_tokens() -> None:
    for analyzer in (Analyzer(), Analyzer(lowercase=False), Analyzer(tokenizer="word")):
        splitter = splitter_of(analyzer)
        for word in ("a", "Abc", "X9z", "2001", "WWW" * 10):
            assert [folded(word, splitter)] == splitter.changed([word])


def test_a_single_pattern_is_searched_without_a_batch(
    indexes: list[Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastseq.search.searcher.Searcher._find_groups", None)
    for query in (Prefix("a"), Fuzzy("abc"), Wildcard("?b*"), Regex("a.*c")):
        assert len(indexes[1].search(query, 10).ids[0]) == 10


def test_notices_of_patterns_that_match_too_many_words(tmp_path: Path) -> None:
    chance = random.Random(3)
    words = [f"a{n}" for n in range(MOST_WORDS + 300)]
    texts = [*words, *(" ".join(chance.choices(words, k=9)) for _ in range(500))]
    index = Index.build([{"text": text} for text in texts], tmp_path / "index", threads=1)
    hits = index.search([Prefix("a"), Prefix("never")], 1000)
    (notice,) = hits.notices
    assert "searched for the 1,024 most frequent ones" in notice
    notices: list[str] = []
    rows, scores = index._searcher._evaluate(
        [Prefix("a")], 1000, MODELS[0], 1, None, None, "or", notices
    )
    assert notices == [notice]
    assert hits.rows[:1].tolist() == rows.tolist()
    assert np.array_equal(hits.scores[:1], scores)
    alone = index.search(Prefix("a"), 1000)
    assert alone.notices == hits.notices
    assert alone.rows.tolist() == rows.tolist()
