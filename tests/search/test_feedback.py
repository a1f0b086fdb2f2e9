"""Pseudo relevance feedback and documents like another, against the naive twins."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import (
    BM25,
    DPH,
    RM3,
    Analyzer,
    DataError,
    Dirichlet,
    Index,
    Rocchio,
    SettingsError,
)
from fastseq.kernels.search.documents import read_documents
from fastseq.kernels.search.postings import WINDOW
from fastseq.search.document_terms import terms_of_documents
from fastseq.search.feedback import with_feedback
from fastseq.search.ranking import RankingModel
from fastseq.types import offsets_of
from tests.kernels.test_kernels_merging import arrays_of, some_terms
from tests.naive import models as naive
from tests.naive import postings as naive_postings
from tests.search.test_search_models import documents_of, indexed
from tests.search.test_search_segments import split, texts

WORDS = [f"w{number}" for number in range(8)]
SPACE = Analyzer(tokenizer="space")
MODELS: list[RankingModel] = [BM25(), Dirichlet(), DPH()]
QUERIES: list[Any] = ["a b c", "猫 é zz", "a a b", {"a": 1.0, "b": -0.5}, "absent", "", {"ab": 2}]

query_of = st.dictionaries(
    st.sampled_from([*WORDS, "never"]), st.sampled_from([1.0, 2.0, 0.25, -1.5, 0.0]), max_size=5
)


# ---- the terms of documents


@settings(deadline=None, max_examples=150)
@given(some_terms, st.sets(st.integers(0, 2 * WINDOW + 2), max_size=8), st.booleans())
def test_terms_of_rows(
    postings: naive_postings.Postings, rows: set[int], with_neighbours: bool
) -> None:
    """Few documents and long lists, and many documents and short lists."""
    rows |= {row for found in postings for row, _ in found[:5]}
    if with_neighbours:
        rows |= {row + n for row in rows for n in range(200) if row + n < 2 * WINDOW + 3}
    wanted = sorted(rows)
    expected = [
        (term, wanted.index(row), tf)
        for term, found in enumerate(postings)
        for row, tf in found
        if row in rows
    ]
    windows = np.array(wanted, np.int64) >> 16
    starts = offsets_of(np.bincount(windows, minlength=3))
    found = np.full((3, len(expected) + 3), -7, np.int32)
    count = read_documents(
        *found, arrays_of(postings), np.array([row & 0xFFFF for row in wanted], np.uint16), starts
    )
    assert count == len(expected)
    assert [tuple(each) for each in found[:, :count].T.tolist()] == expected
    assert (found[:, count:] == -7).all()
    if expected:  # as where a damaged file has more postings than tokens
        fewer = np.full((3, len(expected) + 2), -7, np.int32)
        short = fewer[:, : len(expected) - 1]
        assert len(expected) - 1 == read_documents(
            *short, arrays_of(postings), np.array([row & 0xFFFF for row in wanted], np.uint16),
            starts,
        )  # fmt: skip
        assert (fewer[:, len(expected) - 1 :] == -7).all()


def test_long_lists_are_searched(tmp_path: Path) -> None:
    documents = [["all", f"w{n % 7}", *["all"] * (n % 300)] for n in range(3000)]
    index = indexed(documents, tmp_path / "index")
    for rows in ([0], [2999], [5, 17, 1600, 299, 4], list(range(100, 900))):
        found = terms_of_documents(index._collection, np.array(rows))
        assert found.names == sorted(found.names)
        for at, row in enumerate(rows):
            own = slice(*found.offsets[at : at + 2])
            names = [found.names[term] for term in found.terms[own]]
            assert dict(zip(names, found.tfs[own], strict=True)) == Counter(documents[row])
            assert names == sorted(names)
            assert found.lengths[at] == len(documents[row])
        df = Counter(word for document in documents for word in {*document})
        assert found.df.tolist() == [df[name] for name in found.names]


# ---- feedback


def assert_chosen(
    documents: Sequence[Sequence[str]], new: Mapping[str, float], own: naive.Weights,
    model: Mapping[str, float], terms: int,
) -> None:  # fmt: skip
    """The added terms have the largest values."""
    df = Counter(word for document in documents for word in {*document})
    value = {w: x * naive.bm25_idf(df[w], len(documents)) for w, x in model.items()}
    least = sorted(value.values(), reverse=True)[: min(terms, len(value))][-1]
    added = {word for word in new if word not in own}
    assert all(value[word] >= least * (1 - 1e-9) for word in added)
    larger = {word for word, x in value.items() if x > least * (1 + 1e-9)}
    assert larger <= {*new}


@settings(deadline=None, max_examples=60)
@given(
    documents_of, st.lists(query_of, min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 9),
    st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)  # fmt: skip
def test_feedback_matches_the_naive_twins(
    documents: list[list[str]], queries: list[dict[str, float]], n: int, terms: int, share: float
) -> None:
    there = {word for document in documents for word in document}
    with tempfile.TemporaryDirectory() as folder:
        index = indexed(documents, f"{folder}/index")
        for model in MODELS:
            hits = index.search(queries, n, model, threads=1)
            for feedback in (RM3(n, terms, share), Rocchio(n, terms, share)):
                found = with_feedback(queries, feedback, index._searcher, model, threads=1)
                for q, query in enumerate(queries):
                    own = {word: weight for word, weight in query.items() if word in there}
                    rows = hits.rows[q][hits.rows[q] >= 0].tolist()
                    if not rows or not any(own.values()):
                        assert found[q] == query
                        continue
                    scores = hits.scores[q][: len(rows)].astype(np.float64).tolist()
                    if isinstance(feedback, RM3):
                        expected, source = naive.rm3(documents, own, rows, scores, terms, share)
                    else:
                        expected, source = naive.rocchio(documents, own, rows, terms, share)
                    new = found[q]
                    assert isinstance(new, dict)
                    assert_chosen(documents, new, own, source, terms)
                    if {*new} == {*expected}:  # else ties
                        assert new == pytest.approx(expected, rel=1e-6, abs=1e-9)
                    assert sum(new.values()) == pytest.approx(sum(expected.values()), 1e-5, 1e-6)
                again = index.search(queries, 5, model, threads=1, feedback=feedback)
                direct = index.search(found, 5, model, threads=1)
                assert again.rows.tobytes() == direct.rows.tobytes()
                assert again.scores.tobytes() == direct.scores.tobytes()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(texts, min_size=2, max_size=20), st.lists(st.integers(1, 19), max_size=3),
    st.sets(st.integers(0, 19), max_size=12), st.sampled_from([1, 3, 40]),
)  # fmt: skip
def test_segments_and_deletions_change_nothing(
    documents: list[str], cuts: list[int], deleted: set[int], k: int
) -> None:
    deleted = {row for row in deleted if row < len(documents) - 1}
    cuts = [cut for cut in cuts if cut < len(documents)]
    with tempfile.TemporaryDirectory() as folder:
        indexes = split(Path(folder), documents, cuts, deleted)
        ids = [row for row in range(len(documents)) if row not in deleted]
        for model in MODELS:
            for feedback in (RM3(3, 4), Rocchio(3, 4)):
                found, fresh = (
                    index.search(QUERIES, k, model, threads=1, feedback=feedback)
                    for index in indexes
                )
                assert found.ids == fresh.ids
                assert found.scores.tobytes() == fresh.scores.tobytes()
            for id in (ids[0], ids[-1]):
                found, fresh = (
                    index.more_like(id, k=k, min_df=1, model=model) for index in indexes
                )
                assert found.ids == fresh.ids
                assert found.scores.tobytes() == fresh.scores.tobytes()
                assert id not in found.ids[0]


def test_the_whole_weight_of_the_query_changes_nothing(tmp_path: Path) -> None:
    index = indexed([["a", "b", "c"], ["b", "c", "d"], ["a", "a"], ["e"]], tmp_path / "index")
    for query in ("a b", "a a c", {"a": 2.0, "b": 0.5}):
        plain = index.search(query, 4)
        for feedback in (RM3(original_weight=1), Rocchio(beta=0)):
            again = index.search(query, 4, feedback=feedback)
            rows = plain.rows[0][plain.rows[0] >= 0]
            assert again.rows[0, : len(rows)].tolist() == rows.tolist()
            np.testing.assert_allclose(again.scores[0, : len(rows)], plain.scores[0, : len(rows)])


def test_feedback_finds_documents_without_a_word_of_the_query(tmp_path: Path) -> None:
    documents = [["car", "engine"], ["car", "engine", "wheel"], ["engine", "wheel"], ["cat"]]
    index = indexed(documents, tmp_path / "index")
    assert sorted(index.search("car", 4).ids[0]) == [0, 1]
    for feedback in (RM3(), Rocchio()):
        hits = index.search("car", 4, feedback=feedback)
        assert sorted(hits.ids[0][:2]) == [0, 1]
        assert hits.ids[0][2:] == [2]


def test_feedback_obeys_the_filter(tmp_path: Path) -> None:
    table = pa.table({
        "text": ["car engine", "car cat", "engine", "cat", "engine x"], "year": [1, 2, 1, 2, 1]
    })  # fmt: skip
    index = Index.build(table, tmp_path / "index", analyzer=SPACE, threads=1)
    hits = index.search("car", 5, feedback=RM3(), filter="year = 1")
    assert sorted(hits.ids[0]) == [0, 2, 4]
    assert hits.ids[0][0] == 0


def test_feedback_expands_texts_and_mappings_alike(tmp_path: Path) -> None:
    index = indexed([["a", "b"], ["a", "c", "c"], ["c", "d"], ["d"]], tmp_path / "index")
    for feedback in (RM3(2, 3), Rocchio(2, 3)):
        queries = ["a", {"a": 1.0}, "never", "a never", "", {"never": 3.0}]
        hits = index.search(queries, 4, feedback=feedback)
        assert hits.ids[0] == hits.ids[1] == hits.ids[3]
        assert hits.ids[2] == hits.ids[4] == hits.ids[5] == []
        expand = index.search("a", 4, feedback=feedback, expand=lambda q: [{"d": 0.5}])
        assert set(expand.ids[0]) == {0, 1, 2, 3}


@pytest.mark.parametrize("wrong", [3, "rm3", RM3, BM25(), {}])
def test_another_feedback_is_an_error(tmp_path: Path, wrong: Any) -> None:
    index = indexed([["a"]], tmp_path / "index")
    with pytest.raises(SettingsError, match=r"feedback must be RM3\(\) or Rocchio\(\), not "):
        index.search("a", feedback=wrong)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RM3(documents=0), "documents must be a whole number of at least 1"),
        (lambda: RM3(terms=1.5), "terms must be a whole number"),
        (lambda: RM3(documents=10_001), "documents must be a whole number below 10001"),
        (lambda: RM3(original_weight=1.1), "original_weight must be from 0 to 1"),
        (lambda: RM3(original_weight=float("nan")), "original_weight must be from 0 to 1"),
        (lambda: Rocchio(beta=-1), "beta must be from 0 to 1,000"),
        (lambda: Rocchio(terms=None), "terms must be a whole number"),
    ],
)
def test_wrong_parameters_are_named(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{said}"):
        make()


# ---- documents like another


@settings(deadline=None, max_examples=60)
@given(documents_of, st.integers(0, 29), st.integers(1, 8), st.integers(1, 4), st.integers(1, 40))
def test_documents_like_another(
    documents: list[list[str]], row: int, terms: int, min_df: int, k: int
) -> None:
    row %= len(documents)
    with tempfile.TemporaryDirectory() as folder:
        index = indexed(documents, f"{folder}/index")
        query = naive.like(documents, documents[row], terms, min_df)
        every = index.search(query, len(documents), threads=1)
        both = zip(every.ids[0], every.scores[0].tolist(), strict=False)
        others = [(id, score) for id, score in both if id != row][:k]
        hits = index.more_like(row, k=k, terms=terms, min_df=min_df, threads=1)
        assert hits.ids[0] == [id for id, _ in others]
        np.testing.assert_allclose(hits.scores[0, : len(others)], [s for _, s in others], 1e-6)
        assert (hits.rows[0, len(others) :] == -1).all()
        text = index.more_like(
            text=" ".join(documents[row]), k=k, terms=terms, min_df=min_df, threads=1
        )
        same = index.search(query, k, threads=1)
        assert text.ids == same.ids
        np.testing.assert_allclose(text.scores, same.scores, 1e-6)


def test_likeness_is_that_of_rare_words(tmp_path: Path) -> None:
    table = pa.table({
        "id": ["x", "y", "z", "v"],
        "text": ["the the the zebra quagga", "the the the the", "quagga the", "zebra zebra the"],
    })  # fmt: skip
    index = Index.build(table, tmp_path / "index", analyzer=SPACE, threads=1)
    assert index.more_like("x", terms=2).ids[0] == ["v", "z"]
    assert index.more_like("x", terms=2, k=1).ids[0] == ["v"]
    assert index.more_like("x", min_df=3).ids[0] == ["y", "z", "v"]
    assert index.more_like("x", min_df=5).ids[0] == []
    assert index.more_like("x", filter="id != 'v'", terms=2).ids[0] == ["z"]
    assert index.more_like(text="a zebra").ids[0] == ["v", "x"]
    assert index.more_like(text="").ids[0] == []
    assert index.more_like("x", model=DPH(), k=3).rows.shape == (1, 3)


def test_wrong_arguments_of_more_like(tmp_path: Path) -> None:
    table = pa.table({"id": ["x", "y"], "text": ["a b", "a"]})
    index = Index.build(table, tmp_path / "index", analyzer=SPACE, threads=1)
    for given_ids in ({}, {"id": "x", "text": "a"}):
        with pytest.raises(SettingsError, match="either the id of a document or text="):
            index.more_like(**given_ids)
    with pytest.raises(DataError, match="no document has the id 'never'"):
        index.more_like("never")
    with pytest.raises(DataError):
        index.more_like(3.5)
    for name, value in (("k", 0), ("terms", 0), ("min_df", 0), ("terms", "x")):
        with pytest.raises(SettingsError, match=f"^{name} must be a whole number"):
            index.more_like("x", **{name: value})
    with pytest.raises(SettingsError, match="text must be a string"):
        index.more_like(text=3)  # type: ignore[arg-type]
    index.delete("x")
    with pytest.raises(DataError, match="no document has the id 'x'"):
        index.more_like("x")
