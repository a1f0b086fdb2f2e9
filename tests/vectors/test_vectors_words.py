"""WordVectors: looking up, comparing, neighbours, analogies, and every word that is not there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import WordVectors
from fastseq.errors import DataError, SettingsError
from fastseq.vectors.spelling import nearest_spellings
from tests.naive import nearest as naive

WORDS = ["the", "king", "queen", "man", "woman", "Paris", "zero", "猫", "new york", "apple"]


def numbers(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.fixture
def vectors() -> WordVectors:
    array = numbers(len(WORDS), 6)
    array[2] = array[1] - array[3] + array[4]  # so that one analogy holds
    array[6] = 0
    return WordVectors(WORDS, array, range(100, 90, -1))


class Letters:
    """Pieces of words: a vector of the letters' codes."""

    arrays: dict[str, Any] = {"subwords": np.ones((3, 6), np.float32)}  # noqa: RUF012
    settings: dict[str, Any] = {"buckets": 3}  # noqa: RUF012

    def vectors_of(self, words: list[str]) -> np.ndarray:
        return np.array([[len(w), *map(ord, (w + "     ")[:5])] for w in words], np.float32)


# ---- words and vectors


def test_words_and_their_vectors(vectors: WordVectors) -> None:
    assert len(vectors) == 10
    assert vectors.dimensions == 6
    assert "猫" in vectors
    assert "dog" not in vectors
    assert 7 not in vectors
    assert vectors.index("猫") == 7
    assert vectors.vectors.dtype == np.float32
    assert vectors.vectors.flags.c_contiguous
    assert vectors.counts is not None
    assert vectors.counts.dtype == np.int64
    found = vectors["猫"]
    np.testing.assert_array_equal(found, vectors.vectors[7])
    found[:] = 0  # a copy
    assert vectors["猫"].any()
    np.testing.assert_array_equal(vectors.vectors_of(["man", "man"]), vectors.vectors[[3, 3]])
    assert vectors.vectors_of([]).shape == (0, 6)
    assert vectors.rows_of(["dog", "man"]).tolist() == [-1, 3]
    assert "10 words" in repr(vectors)


def test_any_number_type_becomes_float32() -> None:
    for array in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.float64, order="F")):
        found = WordVectors(["a", "b"], array).vectors
        np.testing.assert_array_equal(found, np.array([[1, 2], [3, 4]], np.float32), strict=True)
        assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("words", "array", "counts", "said"),
    [
        (["a", "b", "a"], numbers(3, 2), None, "word 2.*'a'.*twice"),
        (["a", ""], numbers(2, 2), None, "word 1"),
        (["a", 7], numbers(2, 2), None, "word 1.*7"),
        (["a", "\ud800"], numbers(2, 2), None, "word 1.*Unicode"),
        (["a"], numbers(2, 2), None, "1 words, but 2 vectors"),
        ([], numbers(0, 2), None, "shape"),
        (["a"], numbers(1, 0), None, "shape"),
        (["a", "b"], numbers(2, 1)[0], None, "shape"),
        (["a", "b"], [[1.0, np.nan], [1, 2]], None, "row 0.*finite"),
        (["a", "b"], [[1.0, 1e39], [1, 2]], None, "row 0.*finite"),
        (["a", "b"], [["x", "y"], ["x", "y"]], None, "numbers"),
        (["a", "b"], [[1.0], [1.0, 2.0]], None, "numbers"),
        (["a", "b"], numbers(2, 2), [1], "counts"),
        (["a", "b"], numbers(2, 2), [1.5, 2.5], "counts"),
        (["a", "b"], numbers(2, 2), [1, -2], "count of word 1"),
    ],
)
def test_invalid_vectors_are_rejected(words: Any, array: Any, counts: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        WordVectors(words, array, counts)


# ---- words that are not there

ASKING: dict[str, Callable[[WordVectors, str], Any]] = {
    "item": lambda v, w: v[w],
    "index": lambda v, w: v.index(w),
    "vectors_of": lambda v, w: v.vectors_of(["man", w]),
    "similarity": lambda v, w: v.similarity("man", w),
    "neighbors": lambda v, w: v.neighbors(w),
    "neighbors of two": lambda v, w: v.neighbors(["man", w]),
    "neighbors of each": lambda v, w: v.neighbors_of_each(["man", w]),
    "analogy": lambda v, w: v.analogy("man", w, "woman"),
    "doesnt_match": lambda v, w: v.doesnt_match(["man", w, "woman"]),
}


@pytest.mark.parametrize("ask", ASKING)
def test_unknown_word_error_suggests_spellings(vectors: WordVectors, ask: str) -> None:
    with pytest.raises(DataError) as error:
        ASKING[ask](vectors, "womna")
    assert str(error.value) == ("'womna' is not among the 10 words; nearest spellings: 'woman'")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("paris", ["Paris"]),
        ("KING", ["king"]),
        ("quen", ["queen"]),
        ("tha", ["the"]),
        ("womann", ["woman"]),
        ("qeuen", ["queen"]),
        ("xylophone", []),
        ("x", []),
        ("", []),
        ("犬", []),
        ("k" * 1000, []),
    ],
)
def test_nearest_spellings(vectors: WordVectors, word: str, said: list[str]) -> None:
    index = {w: i for i, w in enumerate(WORDS)}
    assert nearest_spellings(word, WORDS, index) == said


@settings(deadline=None, max_examples=150)
@given(
    st.text("abç猫", min_size=1, max_size=7),
    st.lists(st.text("abç猫", min_size=1, max_size=8), max_size=30, unique=True),
)
def test_spellings_are_nearest_by_edits(word: str, words: list[str]) -> None:
    index = {w: i for i, w in enumerate(words)}
    if word in index:
        return
    found = nearest_spellings(word, words, index)
    reach = 0 if len(word) < 2 else 1 if len(word) < 4 else 2
    cased = {word.capitalize(), word.title(), word.upper()}
    first = [w for w in words if w in cased]
    near = [(naive.edits(word, w), i, w) for i, w in enumerate(words) if w not in first]
    expected = first + [w for edits, _, w in sorted(near) if edits <= reach]
    assert found == expected[:3]


def test_spelling_suggestions_are_fast() -> None:
    words = [f"{n:x}word" for n in range(500_000)]
    index = {w: i for i, w in enumerate(words)}
    begun = time.process_time()
    assert nearest_spellings("1a2bworld", words, index)[0] == "1a2bword"
    assert time.process_time() - begun < 3  # some tenths of a second, on a machine at rest


def test_subwords_make_vectors_of_unknown_words() -> None:
    known = WordVectors(WORDS, numbers(10, 6), subwords=Letters())
    made = Letters().vectors_of(["dog"])[0]
    np.testing.assert_array_equal(known["dog"], made)
    np.testing.assert_array_equal(known.vectors_of(["man", "dog"])[0], known.vectors[3])
    assert "dog" not in known
    rows, _ = known.nearest(made[None], 10)
    near = known.neighbors("dog", 10)
    assert [word for word, _ in near] == [WORDS[row] for row in rows[0]]
    assert known.analogy("dog", "man", "dogs", k=10)
    with pytest.raises(DataError):
        known.index("dog")


# ---- what is near


@settings(deadline=None, max_examples=25)
@given(st.integers(4, 40), st.integers(2, 9), st.integers(1, 50), st.integers(0, 2**32))
def test_neighbours_exclude_the_query_words(n: int, d: int, k: int, seed: int) -> None:
    array = numbers(n, d, seed)
    words = [f"w{i}" for i in range(n)]
    known = WordVectors(words, array)
    alone = known.neighbors("w1", k)
    scores = naive.cosines(array, array[1])
    best = [scores[i] for i in naive.best(scores, min(k, n), (1,))]
    np.testing.assert_allclose([score for _, score in alone], best, atol=1e-5)
    named = [scores[int(word[1:])] for word, _ in alone]
    np.testing.assert_allclose(named, best, atol=1e-5)
    together = known.neighbors(["w0", "w2"], k)
    mean = naive.units(array)[[0, 2]].mean(axis=0)
    scores = naive.cosines(array, mean)
    np.testing.assert_allclose(
        [score for _, score in together],
        [scores[i] for i in naive.best(scores, min(k, n), (0, 2))],
        atol=1e-5,
    )
    assert known.neighbors_of_each(["w1", "w3"], k) == [alone, known.neighbors("w3", k)]
    assert known.neighbors(array[1], 1)[0][0] == "w1"  # a vector leaves nothing out


def test_similarity_is_the_cosine(vectors: WordVectors) -> None:
    array = vectors.vectors
    assert vectors.similarity("the", "猫") == pytest.approx(
        naive.cosines(array, array[0])[7], abs=1e-6
    )
    assert vectors.similarity("the", "the") == pytest.approx(1.0, abs=1e-6)
    assert vectors.similarity("the", "zero") == 0.0


def test_zero_vector_has_no_neighbours(vectors: WordVectors) -> None:
    assert vectors.neighbors("zero") == []
    assert dict(vectors.neighbors("the", 10))["zero"] == 0.0


@pytest.mark.parametrize("method", ["add", "mul"])
def test_analogies(vectors: WordVectors, method: str) -> None:
    (word, score), *others = vectors.analogy("man", "king", "woman", 10, method)
    formula = naive.added if method == "add" else naive.multiplied
    scores = formula(vectors.vectors, 3, 1, 4)
    order = naive.best(scores, 10, (1, 3, 4))
    assert [word, *(w for w, _ in others)] == [WORDS[i] for i in order]
    assert score == pytest.approx(scores[order[0]], rel=1e-4)
    assert vectors.analogy("man", "king", "woman", method=method) == [(word, score)]


def test_analogy_answer_satisfies_its_definition() -> None:
    array = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1]], np.float32)
    known = WordVectors(["man", "king", "woman", "queen", "child"], array)
    assert known.analogy("man", "king", "woman")[0][0] == "queen"


def test_odd_word_out() -> None:
    array = np.array([[1, 0.1], [1, 0.2], [1, 0], [0, 9]], np.float32)
    known = WordVectors(["one", "two", "three", "cat"], array)
    assert known.doesnt_match(["one", "cat", "two", "three"]) == "cat"
    for few in (["one", "two"], [], "cat"):
        with pytest.raises(DataError, match="three words"):
            known.doesnt_match(few)


def test_invalid_questions_are_rejected(vectors: WordVectors) -> None:
    with pytest.raises(SettingsError, match="add, mul"):
        vectors.analogy("man", "king", "woman", method="sub")
    with pytest.raises(SettingsError, match="k must"):
        vectors.neighbors("man", 0)
    with pytest.raises(SettingsError, match="threads"):
        vectors.neighbors("man", threads=0)
    with pytest.raises(DataError, match="no words"):
        vectors.neighbors([])
    with pytest.raises(DataError, match="shape"):
        vectors.neighbors(np.ones(5, np.float32))
    with pytest.raises(DataError, match="finite"):
        vectors.neighbors(np.full(6, np.nan, np.float32))
    with pytest.raises(DataError, match="numbers"):
        vectors.nearest(np.array([["a"] * 6]))  # type: ignore[arg-type]


def test_the_most_frequent_words() -> None:
    words, array = ["a", "b", "c", "d"], numbers(4, 3)
    by_count = WordVectors(words, array, [1, 7, 3, 7]).most_frequent(3)
    assert by_count.words == ["b", "d", "c"]
    np.testing.assert_array_equal(by_count.vectors, array[[1, 3, 2]])
    assert by_count.counts is not None
    assert by_count.counts.tolist() == [7, 7, 3]
    first = WordVectors(words, array).most_frequent(2)
    assert first.words == ["a", "b"]
    assert first.neighbors("a", 9) == WordVectors(words[:2], array[:2]).neighbors("a", 9)
    known = WordVectors(words, array, [4, 3, 2, 1])
    assert known.most_frequent(4) is known
    assert known.most_frequent(99) is known
    with pytest.raises(SettingsError):
        known.most_frequent(0)


def test_threads_query_concurrently() -> None:
    known = WordVectors([f"w{i}" for i in range(5000)], numbers(5000, 20))
    expected = WordVectors(known.words, known.vectors).neighbors_of_each(known.words[:8], 5)
    found: list[Any] = [None] * 8

    def ask(i: int) -> None:
        found[i] = known.neighbors(f"w{i}", 5)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
