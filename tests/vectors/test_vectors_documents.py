"""Vectors of documents: means and SIF against float64, and texts without a known word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Analyzer, WordVectors
from fastseq.errors import DataError, NotFittedError, SettingsError
from fastseq.models.word_vectors.phrases import Phrases
from fastseq.types import Texts
from fastseq.vectors.words import DocumentVectors, principal_components
from tests.naive import nearest as naive

WORDS = ["cat", "dog", "the", "sun", "moon"]
COUNTS = [10, 8, 100, 3, 2]
ARRAY = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
KNOWN = WordVectors(WORDS, ARRAY, COUNTS)
TEXTS = ["The cat, the dog!", "nothing known", "sun sun moon", "", "the dog", "cat unknown"]
ROWS = [[2, 0, 2, 1], [], [3, 3, 4], [], [2, 1], [0]]
SHARES = np.array(COUNTS) / sum(COUNTS)


def plain(rows: list[list[int]], weights: Any) -> np.ndarray:
    return np.array([naive.document(ARRAY, row, weights) for row in rows])


def test_document_means() -> None:
    found = KNOWN.document_vectors(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(ROWS, np.ones(5)), atol=1e-6)


@pytest.mark.parametrize("a", [1e-3, 0.1, 10.0])
def test_document_sif(a: float) -> None:
    expected = naive.without_components(plain(ROWS, a / (a + SHARES)))
    found = KNOWN.document_vectors(TEXTS, method="sif", a=a)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("n", [0, 2, 3])
def test_sif_with_several_components(n: int) -> None:
    expected = naive.without_components(plain(ROWS, 0.1 / (0.1 + SHARES)), n)
    found = KNOWN.document_vectors(TEXTS, method="sif", a=0.1, components=n)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(SettingsError, match="components"):
        DocumentVectors(KNOWN, components=-1)


def test_fitted_phrases_are_joined() -> None:
    phrases = Phrases(min_count=1, threshold=0).fit(["sun moon"] * 5)
    known = WordVectors([*WORDS, "sun_moon"], [*ARRAY, [9, 9, 9, 9]], phrases=phrases)
    found = known.document_vectors(["cat sun moon", "moon sun moon", "moon sun"])
    moon, sun = (ARRAY[WORDS.index(word)] for word in ("moon", "sun"))
    expected = [(ARRAY[WORDS.index("cat")] + 9) / 2, (moon + 9) / 2, (moon + sun) / 2]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_fitted_component_applies_to_other_texts() -> None:
    model = DocumentVectors(KNOWN)
    with pytest.raises(NotFittedError):
        model.transform(TEXTS)
    everything = model.fit(TEXTS).transform(TEXTS)
    np.testing.assert_array_equal(everything, DocumentVectors(KNOWN).fit_transform(TEXTS))
    np.testing.assert_allclose(model.transform(TEXTS[2:3]), everything[2:3], atol=1e-7)
    restored = DocumentVectors(KNOWN)
    restored.components_ = model.components_
    np.testing.assert_array_equal(restored.transform(TEXTS), everything)
    assert np.linalg.norm(model.components_) == pytest.approx(1, abs=1e-6)


def test_texts_without_a_known_word_are_zeros_and_counted() -> None:
    for method in ("mean", "sif"):
        model = DocumentVectors(KNOWN, method=method)
        found = model.fit_transform(TEXTS)
        assert model.empty_ == 2
        assert not found[[1, 3]].any()
        assert found[[0, 2, 4, 5]].any(axis=1).all()
        assert not model.transform(["nothing", "at all", "known"]).any()
        assert model.empty_ == 3
        assert model.transform([]).shape == (0, 4)
        assert model.empty_ == 0


def test_texts_without_words_cannot_fit_a_component() -> None:
    model = DocumentVectors(KNOWN)
    assert not model.fit_transform(["nothing known"]).any()
    assert not model.components_.any()  # type: ignore[union-attr]
    np.testing.assert_allclose(
        model.transform(TEXTS), plain(ROWS, 1e-4 / (1e-4 + SHARES)), atol=1e-6
    )


def test_missing_counts_come_from_the_texts() -> None:
    model = DocumentVectors(WordVectors(WORDS, ARRAY), a=0.1)
    found = model.fit_transform(TEXTS)
    # the, cat, the, dog, nothing, known, sun, sun, moon, the, dog, cat, unknown
    shares = np.array([2, 2, 3, 2, 1]) / 13
    expected = naive.without_components(plain(ROWS, 0.1 / (0.1 + shares)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert model.frequencies_ is not None
    assert sum(model.frequencies_.values()) == pytest.approx(1)
    np.testing.assert_array_equal(model.transform(TEXTS), found)


def test_every_text_source_is_accepted(tmp_path: Path) -> None:
    expected = KNOWN.document_vectors(TEXTS)
    table = pa.table({"text": TEXTS})
    pq.write_table(table, tmp_path / "t.parquet")
    sources: list[Any] = [
        iter(TEXTS),
        Texts.from_strings(TEXTS),
        [Texts.from_strings(TEXTS[:2]), *TEXTS[2:]],
        table.column("text"),
        table,
        tmp_path / "t.parquet",
    ]
    for source in sources:
        np.testing.assert_array_equal(KNOWN.document_vectors(source), expected)


def test_fitted_analyzer_is_used() -> None:
    saved = {"analyzer": Analyzer(tokenizer="space", lowercase=False).to_dict()}
    known = WordVectors(["Cat!", "cat"], [[1.0], [2.0]], settings=saved)
    assert known.document_vectors(["Cat!", "cat"]).tolist() == [[1.0], [2.0]]
    assert known.document_vectors(["Cat!", "cat"], Analyzer()).tolist() == [[2.0], [2.0]]


def test_subwords_make_words_known() -> None:
    class Pieces:
        arrays: dict[str, Any] = {}  # noqa: RUF012
        settings: dict[str, Any] = {}  # noqa: RUF012

        def vectors_of(self, words: list[str]) -> Any:
            return np.array([[len(word)] * 4 for word in words], np.float32)

    known = WordVectors(WORDS, ARRAY, COUNTS, subwords=Pieces())
    found = known.document_vectors(["cat unknown", "nothing"])
    np.testing.assert_allclose(found, [(ARRAY[0] + 7) / 2, [7] * 4], atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32))
def test_component_is_the_first_singular_vector(n: int, d: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    rows[:, 0] += 3  # so that one direction stands out
    found = principal_components(rows, 1)[0]
    expected = np.linalg.svd(rows.astype(float))[2][0]
    assert abs(found @ expected) == pytest.approx(1, abs=1e-5)
    assert found[np.abs(found).argmax()] > 0


def test_bad_settings_and_texts() -> None:
    for wrong in ({"method": "median"}, {"a": 0}, {"a": float("inf")}, {"threads": 0}):
        with pytest.raises(SettingsError):
            DocumentVectors(KNOWN, **wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="int"):
        KNOWN.document_vectors(7)
    with pytest.raises(DataError, match="text 1"):
        KNOWN.document_vectors(["a", None])
