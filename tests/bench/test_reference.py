"""The reference of the search benchmark: the naive ranking against bm25s, the reference against the
naive ranking, and the judge against answers made wrong on purpose."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from bench.common.reference import STOP_WORDS, WORDS, Judge, Ranking, Reference
from tests.naive import ranking as naive


def corpora() -> Iterator[tuple[list[list[str]], list[list[str]]]]:
    """Random documents, some empty, and queries with repeats and unknown words."""
    for seed in range(4):
        chance = random.Random(seed)
        words = [f"w{number}" for number in range(12)]
        documents = [
            chance.choices(words, k=chance.choice([0, 1, 3, 9, 40]))
            for _ in range(chance.choice([5, 60]))
        ]
        queries = [chance.choices([*words, "unknown"], k=chance.randint(1, 6)) for _ in range(12)]
        yield documents, queries


@pytest.mark.parametrize("variant", naive.VARIANTS)
def test_naive_bm25_matches_bm25s(variant: str) -> None:
    import bm25s

    for documents, queries in corpora():
        model = bm25s.BM25(k1=0.9, b=0.6, delta=0.7, method=variant)
        model.index(documents, show_progress=False)
        for query in queries:
            if not (known := [token for token in query if token in model.vocab_dict]):
                continue
            scores, found = naive.bm25(documents, query, variant, k1=0.9, b=0.6, delta=0.7)
            np.testing.assert_allclose(scores, model.get_scores(known), rtol=1e-5, atol=1e-5)
            assert found.tolist() == [bool(set(query) & set(d)) for d in documents]


def test_naive_smart_agrees_with_a_worked_example() -> None:
    # "car" once, "insurance" twice, "best" nowhere: nnn is the plain dot product of the counts
    documents = [["car", "insurance", "insurance"], ["best"], ["car"], ["auto"]]
    scores, found = naive.bag_of_words(documents, ["car", "insurance", "insurance"])
    assert scores.tolist() == [5, 0, 1, 0]
    assert found.tolist() == [True, False, True, False]
    cosine, _ = naive.bag_of_words(documents, ["car", "insurance", "insurance"], cosine=True)
    np.testing.assert_allclose(cosine, [1, 0, 1 / np.sqrt(5), 0])
    # ltn: (1 + ln 2) ln(4 / 1) for insurance, ln(4 / 2) for car; bnn: each word of the query once
    scores, _ = naive.smart(documents, ["car", "insurance", "insurance"], "ltn.bnn")
    np.testing.assert_allclose(scores[0], (1 + np.log(2)) * np.log(4) + np.log(2))


def test_naive_smart_matches_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    for documents, queries in corpora():
        vectorizer = TfidfVectorizer(
            analyzer=lambda tokens: tokens, sublinear_tf=True, use_idf=False, norm="l2"
        )
        matrix = vectorizer.fit_transform(documents)
        for query in queries:
            expected = (matrix @ vectorizer.transform([query]).T).toarray().ravel()
            scores, _ = naive.smart(documents, query, "lnc.lnc")
            np.testing.assert_allclose(scores, expected, atol=1e-12)


def test_naive_top_k_breaks_ties_by_row() -> None:
    scores = np.array([1.0, 2.0, 2.0, 0.0, 5.0, 0.0])
    found = np.array([True, True, True, True, False, False])
    rows, best = naive.top_k(scores, found, 4)
    assert rows.tolist() == [1, 2, 0, 3], "row 4 has no query term, row 3 has one and scores 0"
    assert best.tolist() == [2, 2, 1, 0]


def texts_and_queries() -> tuple[list[str], list[str]]:
    chance = random.Random(7)
    words = ["running", "runs", "the", "Café", "cats", "cat", "of", "x", "numbers", "naïve", "猫咪"]
    texts = [" ".join(chance.choices(words, k=chance.randint(0, 9))) for _ in range(80)]
    return texts, ["the running cats", "naïve cat cat", "猫咪 café", "numbers of runs", "nothing"]


def test_the_reference_matches_the_naive_ranking() -> None:
    import Stemmer

    stem = Stemmer.Stemmer("english").stemWord
    texts, queries = texts_and_queries()
    reference = Reference.of(texts)

    def tokens(text: str) -> list[str]:
        return [stem(word) for word in WORDS(text.lower()) if word not in STOP_WORDS]

    documents = [tokens(text) for text in texts]
    assert reference.documents == len(texts)
    assert reference.postings == sum(len(set(document)) for document in documents)
    for query in queries:
        expected, found = naive.bm25(documents, tokens(query))
        rows, scores = reference.score(query)
        assert rows.tolist() == np.flatnonzero(found).tolist()
        np.testing.assert_allclose(scores, expected[found], rtol=1e-12)


def test_judge_passes_only_the_right_ranking() -> None:
    texts, queries = texts_and_queries()
    reference, k = Reference.of(texts), 8
    rows = np.full((len(queries), k), -1, np.int32)
    scores = np.zeros((len(queries), k), np.float32)
    for at, query in enumerate(queries):
        matched, of = reference.score(query)
        single = of.astype(np.float32)
        best = np.lexsort((matched, -single))[:k]
        rows[at, : len(best)], scores[at, : len(best)] = matched[best], single[best]
    judge = Judge(reference, queries, len(queries))
    assert judge.exact(k, True)(Ranking(rows, scores)).passed
    assert judge.overlap(k, 1.0)(Ranking(rows, scores)).passed

    def changed(row: int | None = None, score: float | None = None, at: int = 0) -> Ranking:
        other = rows.copy(), scores.copy()
        if row is not None:
            other[0][0, at] = row
        if score is not None:
            other[1][0, at] = score
        return Ranking(*other)

    unmatched = next(row for row in range(len(texts)) if row not in reference.score(queries[0])[0])
    wrong = {
        "a document without a query word": changed(row=unmatched),
        "a document twice": changed(row=int(rows[0, 1])),
        "a hit missing": changed(row=-1, at=k - 1),
        "a score off": changed(score=float(scores[0, 0]) + 1e-3),
        "not a number": changed(score=float("nan")),
    }
    for what, ranking in wrong.items():
        assert not judge.exact(k, False)(ranking).passed, what
    shuffled = Ranking(rows[:, ::-1].copy(), scores[:, ::-1].copy())
    assert not judge.exact(k, False)(shuffled).passed
    assert not judge.overlap(k, 0.99)(Ranking(np.full_like(rows, unmatched), scores)).passed


def test_judge_requires_row_order_of_ties_on_request() -> None:
    reference = Reference.of(["cat dog", "cat dog", "cat dog"])
    judge = Judge(reference, ["cat"], 1)
    score = np.float32(reference.score("cat")[1][0])
    scores = np.full((1, 3), score)
    in_order, out = np.array([[0, 1, 2]], np.int32), np.array([[0, 2, 1]], np.int32)
    assert judge.exact(3, True)(Ranking(in_order, scores)).passed
    assert not judge.exact(3, True)(Ranking(out, scores)).passed
    assert judge.exact(3, False)(Ranking(out, scores)).passed
