"""The kernels of neighbours and analogies against float64, one query at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.simd.gemm import WIDTH
from fastseq.vectors import nearest as module
from fastseq.vectors.nearest import Nearest, unit_rows
from tests.naive import nearest as naive

CLOSE = 1e-6  # cosines closer than this may be in either order


def numbers(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def same_order(rows: np.ndarray, found: np.ndarray, scores: np.ndarray, k: int) -> None:
    """What was found for one query, against the scores of all words: right values, and in an order
    that differs from the true one only among scores that are close."""
    assert len(rows) == len(set(rows.tolist())) == k
    np.testing.assert_allclose(found, scores[rows], atol=CLOSE, rtol=CLOSE)
    best = np.sort(scores)[::-1][:k]
    np.testing.assert_allclose(scores[rows], best, atol=CLOSE, rtol=CLOSE)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3 * WIDTH + 5),
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(0, 2**32),
)
def test_neighbours_match_float64(words: int, d: int, queries: int, k: int, seed: int) -> None:
    vectors, asked = numbers(words, d, seed), numbers(queries, d, seed + 1)
    rows, cosines = Nearest(vectors).search(asked, k)
    assert rows.shape == cosines.shape == (queries, min(k, words))
    for q in range(queries):
        same_order(rows[q], cosines[q], naive.cosines(vectors, asked[q]), min(k, words))
        assert (np.diff(cosines[q]) <= 0).all()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(4, 2 * WIDTH + 5),
    st.integers(2, 24),
    st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=8),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_analogies_match_float64(
    words: int, d: int, asked: list[tuple[int, int, int]], multiply: bool, seed: int
) -> None:
    vectors = numbers(words, d, seed)
    questions = np.array(asked, np.int32)
    rows, scores = Nearest(vectors).analogies(vectors[:4], questions, questions, 3, multiply)
    formula = naive.multiplied if multiply else naive.added
    for q, (a, b, c) in enumerate(asked):
        true = formula(vectors, a, b, c)
        true[[a, b, c]] = -np.inf
        k = min(3, words - len({a, b, c}))
        assert (rows[q, k:] == -1).all()
        assert (scores[q, k:] == 0).all()
        # float32 is divided by ε and more, or by the length of b - a + c
        u = naive.units(vectors)
        least = 0.001 if multiply else min(1, np.linalg.norm(u[b] - u[a] + u[c]))
        near = {"rtol": CLOSE / least, "atol": CLOSE / least if not multiply else 0}
        np.testing.assert_allclose(scores[q, :k], true[rows[q, :k]], **near)
        np.testing.assert_allclose(true[rows[q, :k]], np.sort(true)[::-1][:k], **near)


def test_ties_rank_by_index() -> None:
    vectors = np.tile(numbers(4, 7, 0), (100, 1))
    rows, _ = Nearest(vectors).search(vectors[:4], 250)
    for q in range(4):
        assert rows[q, :100].tolist() == list(range(q, 400, 4))
        assert (np.diff(rows[q, 100:200]) > 0).all()  # the next nearest, as often there


@pytest.mark.parametrize("multiply", [None, False, True])
def test_results_do_not_depend_on_threads_or_blocks(
    multiply: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, asked = numbers(3000, 33, 1), numbers(300, 33, 2)
    questions = np.random.default_rng(3).integers(0, 3000, (300, 3)).astype(np.int32)

    def answer(threads: int) -> bytes:
        packed = Nearest(vectors, threads)
        if multiply is None:
            found = packed.search(asked, 12, questions, threads=threads)
        else:
            found = packed.analogies(vectors, questions, questions, 12, multiply, threads=threads)
        return found[0].tobytes() + found[1].tobytes()

    whole = answer(1)
    monkeypatch.setattr(module, "_SMALL", 1)
    monkeypatch.setattr(module, "_SCORES", 1 << 13)
    monkeypatch.setattr(module, "_QUERIES", 77)
    monkeypatch.setattr(module, "_ROWS", 13)
    monkeypatch.setattr(module, "_PACKED", WIDTH)
    for threads in (1, 2, 5):
        assert answer(threads) == whole


def test_many_candidates_are_reduced_to_the_best() -> None:
    """Scores that only rise fill the buffer again and again."""
    angles = np.linspace(3.1, 0.0, 5000)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    for k in (1, 7, 600):
        rows, _ = Nearest(vectors).search(np.array([[1, 0]], np.float32), k)
        true = naive.cosines(vectors, np.array([1.0, 0.0]))
        np.testing.assert_allclose(true[rows[0]], np.sort(true)[::-1][:k], atol=CLOSE)


def test_excluded_words() -> None:
    vectors = numbers(60, 6, 5)
    excluded = np.array([[0, 7], [1, -1], [59, 59]], np.int32)
    rows, _ = Nearest(vectors).search(vectors[[0, 1, 59]], 60, excluded)
    for q, without in enumerate(({0, 7}, {1}, {59})):
        there = rows[q][rows[q] >= 0]
        assert set(there.tolist()) == set(range(60)) - without
        assert (rows[q, 60 - len(without) :] == -1).all()


def test_zero_vectors_have_no_neighbours() -> None:
    vectors = numbers(20, 4, 6)
    vectors[3] = 0.0
    asked = np.stack([np.zeros(4, np.float32), vectors[0]])
    rows, cosines = Nearest(vectors).search(asked, 20)
    assert (rows[0] == -1).all()
    assert (cosines[0] == 0).all()
    assert cosines[1][rows[1] == 3].tolist() == [0.0]
    assert np.abs(cosines).max() <= 1.0


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e30])
def test_norms_do_not_overflow(scale: float) -> None:
    vectors = numbers(30, 5, 7)
    rows, cosines = Nearest((vectors * scale).astype(np.float32)).search(vectors, 5)
    expected = Nearest(vectors).search(vectors, 5)
    np.testing.assert_array_equal(rows[:, 0], expected[0][:, 0])
    np.testing.assert_allclose(cosines[:, 0], 1.0, atol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_rejected(wrong: float) -> None:
    vectors = numbers(30, 5, 8)
    spoilt = vectors.copy()
    spoilt[17, 2] = wrong
    with pytest.raises(DataError, match="row 17"):
        Nearest(spoilt)
    with pytest.raises(DataError, match="queries: row 17"):
        Nearest(vectors).search(spoilt, 3)


def test_invalid_queries_are_rejected() -> None:
    packed = Nearest(numbers(30, 5, 9))
    with pytest.raises(DataError, match=r"expected \[n, 5\]"):
        packed.search(numbers(2, 4, 0), 3)
    for settings_ in ({"k": 0}, {"k": 1.5}, {"k": 1, "threads": 0}):
        with pytest.raises(SettingsError):
            packed.search(numbers(2, 5, 0), **settings_)  # type: ignore[arg-type]


def test_no_queries() -> None:
    rows, cosines = Nearest(numbers(30, 5, 9)).search(numbers(0, 5, 0), 3)
    assert rows.shape == cosines.shape == (0, 3)


def test_unit_vectors_have_length_one() -> None:
    vectors = numbers(50, 300, 10) * np.float32(37)
    vectors[4] = 0
    found = unit_rows(vectors)
    np.testing.assert_allclose(found, naive.units(vectors), atol=1e-7)
    assert not found[4].any()
