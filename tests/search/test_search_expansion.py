"""Queries with further words, and words that no document has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import BM25, Analyzer, DataError, Index, SettingsError

TEXTS = [
    "the cat sat on the mat", "a dog ran", "dogs and cats", "a new car in york", "running water",
    "the mat of the dog",
]  # fmt: skip


def built(tmp_path_factory: pytest.TempPathFactory, **given: Any) -> Index:
    path = tmp_path_factory.mktemp("expansion") / "index"
    return Index.build(pa.table({"text": TEXTS}), path, analyzer=Analyzer(**given))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return built(tmp_path_factory)


@pytest.fixture(scope="module")
def stemmed(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return built(tmp_path_factory, stemmer="english", stopwords="lucene")


def giving(*answers: dict[str, float]) -> Any:
    """An `expand` function that returns these expansions in order."""

    def expand(queries: Sequence[str]) -> list[dict[str, float]]:
        assert len(queries) == len(answers)
        return list(answers)

    return expand


def same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.rows, b.rows)
    np.testing.assert_array_equal(a.scores, b.scores)


def test_expansion_words_become_weighted_terms(index: Index) -> None:
    words = {"Dog": 0.5, "zebra": 1.0, "cat": 7.0, "mat": 0.25}
    found = index.search("cat cat zebras", k=6, expand=giving(words))
    same(found, index.search({"cat": 2, "dog": 0.5, "mat": 0.25}, k=6))
    assert found.rows[0, 0] == 0
    assert set(found.rows[0].tolist()) == {0, 1, 5, -1}


def test_word_of_several_terms_shares_its_weight(index: Index) -> None:
    found = index.search("cat", k=6, expand=giving({"new york": 0.5}))
    same(found, index.search({"cat": 1, "new": 0.25, "york": 0.25}, k=6))


def test_words_that_are_one_term_count_once(stemmed: Index) -> None:
    found = stemmed.search("mats", k=6, expand=giving({"dog": 0.1, "dogs": 0.3, "the": 9}))
    same(found, stemmed.search({"mat": 1, "dog": 0.3}, k=6))
    # another form of the query's own word is that word
    same(stemmed.search("dogs", k=6, expand=giving({"dog": 0.9})), stemmed.search("dogs", k=6))


@pytest.mark.parametrize("model", [BM25(), BM25(variant="bm25l")], ids=repr)
def test_empty_expansion_changes_no_bit(index: Index, model: BM25) -> None:
    queries = ["cat dog cat mat", "", "the new york", "zebra"]
    nothing = giving({}, {"cat": 1.0}, {"zebra": 1}, {})
    found = index.search(queries, k=4, model=model, expand=nothing)
    plain = index.search(queries, k=4, model=model)
    others = [0, 2, 3]
    np.testing.assert_array_equal(found.rows[others], plain.rows[others])
    np.testing.assert_array_equal(found.scores[others], plain.scores[others])
    assert found.rows[1, 0] == 0, "an empty query has the added word alone"


def test_batched_expansion_equals_single_queries(index: Index) -> None:
    answers = [{"dog": 0.5}, {"cat": 0.5, "mat": 0.1}]
    queries: list[Any] = ["cat", {"mat": 2.0}, "dogs"]
    found = index.search(queries, k=3, expand=giving(*answers))
    alone = [
        index.search("cat", k=3, expand=giving(answers[0])),
        index.search({"mat": 2.0}, k=3),
        index.search("dogs", k=3, expand=giving(answers[1])),
    ]
    for row, one in enumerate(alone):
        np.testing.assert_array_equal(found.rows[row], one.rows[0])
        np.testing.assert_array_equal(found.scores[row], one.scores[0])


@pytest.mark.parametrize(
    "answers",
    [[], [{}, {}], [["dog"]], [{"dog": "1"}], [{"dog": float("nan")}], [{1: 1.0}]],
)
def test_invalid_expansions_are_rejected(index: Index, answers: list[Any]) -> None:
    with pytest.raises(SettingsError, match="expand returned"):
        index.search("cat", expand=lambda _: answers)


def test_invalid_queries_with_expansion_are_rejected(index: Index) -> None:
    with pytest.raises(DataError, match="UTF-8"):
        index.search("\ud800", expand=giving({}))
    with pytest.raises(SettingsError, match="a query must be"):
        index.search([7], expand=giving())  # type: ignore[list-item]


def test_unknown_words(index: Index, stemmed: Index) -> None:
    assert index.unknown_words("The Catt of zebras, the catt") == ["catt", "zebras"]
    assert index.unknown_words("") == []
    assert index.unknown_words("猫喜欢喝茶 cat") == ["猫喜欢喝茶"]
    # a stop word that the index leaves out is not missing, nor is another form of a word
    assert stemmed.unknown_words("the running runs at zebras") == ["zebras"]
    assert stemmed.knows(["at", "Runs", "zebra"]) == [None, True, False]
    assert index.knows([]) == []


def test_removed_words(
    index: Index, stemmed: Index, tmp_path_factory: pytest.TempPathFactory
) -> None:
    word = built(tmp_path_factory, tokenizer="word")
    assert word.removed_words("x the cat y zebras") == [("x", "too short"), ("y", "too short")]
    assert index.removed_words("x the cat y zebras") == []
    found = stemmed.removed_words("The running, at a 猫喜欢")
    assert found == [("the", "stop word"), ("at", "stop word"), ("a", "stop word")]
    assert index.removed_words("") == []


def test_removed_words_of_pairs_and_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    pairs = built(tmp_path_factory, tokenizer="word", ngrams=(2, 2))
    assert pairs.removed_words("green tea x") == [("x", "too short")]
    words = built(tmp_path_factory, cjk="none", stopwords=("tea",))
    assert words.removed_words("c tea") == [("tea", "stop word")]
    assert words.unknown_words("3월") == ["3월"]
    assert built(tmp_path_factory).unknown_words("한국어 c") == ["한국어", "c"]


def test_frequent_terms(index: Index) -> None:
    found = index.frequent_terms()
    frequency = {term: sum(term in text.split() for text in TEXTS) for term in found}
    assert [frequency[term] for term in found] == sorted(frequency.values(), reverse=True)
    assert set(found) == {word for text in TEXTS for word in text.split()}
    assert index.frequent_terms(2) == found[:2]
