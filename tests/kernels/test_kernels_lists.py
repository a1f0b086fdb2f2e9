"""Reading whole posting lists and counting occurrences, against lists; parts that are stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.impacts import LEAST_PART
from fastseq.kernels.search.postings import WINDOW
from tests.kernels.test_kernels_merging import ROWS, arrays_of, some_terms
from tests.naive import postings as naive

DOCUMENTS = 2 * WINDOW + 3


@settings(deadline=None, max_examples=100)
@given(some_terms, st.sampled_from([0, 1]), st.data())
def test_lists_are_read(postings: naive.Postings, packed: int, data: st.DataObject) -> None:
    most = len(postings) - 1
    asked = data.draw(st.lists(st.integers(0, most), max_size=6)) if postings else []
    documents = data.draw(st.sampled_from([DOCUMENTS, WINDOW, 5]))  # fewer: as in a damaged file
    expected = [(min(row, documents), tf) for term in asked for row, tf in postings[term]]
    rows, tfs = np.full((2, len(expected) + 2), -7, np.int32)
    terms = np.array(asked, np.int32)
    kernels.read_terms(rows, tfs, arrays_of(postings, packed), terms, documents)
    assert list(zip(rows[:-2].tolist(), tfs[:-2].tolist(), strict=True)) == expected
    assert [*rows[-2:], *tfs[-2:]] == [-7] * 4


@settings(deadline=None, max_examples=100)
@given(
    some_terms, st.sets(st.sampled_from(ROWS)), st.booleans(), st.sampled_from([0, 1]), st.data()
)
def test_occurrences_are_counted(
    postings: naive.Postings, deleted: set[int], short: bool, packed: int, data: st.DataObject
) -> None:
    most = len(postings) - 1
    asked = data.draw(st.lists(st.integers(0, most), max_size=6)) if postings else []
    documents = WINDOW if short else DOCUMENTS
    live = np.array([row not in deleted for row in range(documents)], np.uint8)
    counts = np.full(len(asked), -1, np.int64)
    terms, arrays = np.array(asked, np.int32), arrays_of(postings, packed)
    kernels.count_occurrences(counts, arrays, live, terms)
    assert counts.tolist() == [
        sum(tf for row, tf in postings[term] if row < documents and row not in deleted)
        for term in asked
    ]
    kernels.count_occurrences(counts, arrays, np.empty(0, np.uint8), terms)
    assert counts.tolist() == [sum(tf for _, tf in postings[term]) for term in asked]


@pytest.mark.parametrize(
    ("parts", "best"),
    [
        ([2.0, 0.5, 3.0], 3.0),
        ([2.0, 0.0, 3.0], 3.0),  # 0: a deleted document
        ([0.0, 0.0, 0.0], 0.0),
        ([2.0, -0.0, 3.0], -3.0),
        ([2.0, -1e-30, 3.0], -3.0),
        ([2.0, 0.9 * LEAST_PART, 3.0], -3.0),
        ([2.0, LEAST_PART, 3.0], 3.0),
        ([-5.0, -1.0, -2.0], -LEAST_PART),
    ],
)
def test_parts_are_placed(parts: list[float], best: float) -> None:
    n = 3 * impact_kernels.BLOCK
    long = [(row, 1) for row in range(n)]
    postings = arrays_of([long, [(1, 1), (4, 2), (9, 3)], [(0, 1)]])
    (impacts,) = impact_kernels.make_impacts([postings])
    values = np.linspace(1, 2, n).astype(np.float32)
    given_parts = np.array([*parts, *values], np.float32)
    impact_kernels.place_parts(impacts, postings, np.array([1, 0], np.int32), given_parts)
    assert impacts.parts[n : n + 3].tobytes() == given_parts[:3].tobytes()
    assert impacts.parts[:n].tobytes() == values.tobytes()
    assert impacts.best[:2].tolist() == [2.0, best]
    assert np.isnan(impacts.best[2])
    assert impacts.block[:3].tolist() == values.reshape(3, -1).max(axis=1).tolist()
