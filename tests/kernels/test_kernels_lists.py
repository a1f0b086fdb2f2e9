"""Posting lists read, merged, filtered and made to small indexes, against plain lists; occurrences
and parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search import lists as list_kernels
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.impacts import BLOCK, LEAST_PART
from fastseq.kernels.search.postings import WINDOW
from fastseq.types import offsets_of
from tests.kernels.test_kernels_merging import DOCUMENTS, ROWS, arrays_of, some_terms
from tests.naive import postings as naive


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


# ---- lists of a query

PADDING = [-7, -7]  # after what a kernel may write
MERGED = dict[int, float]
lists_of_rows = st.lists(
    st.dictionaries(st.sampled_from(ROWS), st.floats(0.125, 900), max_size=12).map(
        lambda found: sorted(found.items())
    ),
    max_size=6,
)


def room(n: int) -> tuple[Any, Any]:
    """Rows and values of n postings, and room for two more."""
    return np.full(n + 2, -7, np.int32), np.full(n + 2, -7, np.float64)


def pairs(rows: Any, values: Any, n: int) -> list[tuple[int, float]]:
    """The n postings that a kernel wrote; what follows them is untouched."""
    assert rows[-2:].tolist() == PADDING
    assert values[-2:].tolist() == PADDING
    return list(zip(rows[:n].tolist(), values[:n].tolist(), strict=True))


def window_scratch() -> tuple[Any, Any]:
    return np.zeros(WINDOW, np.float64), np.zeros(WINDOW // 64, np.uint64)


def summed(lists: Sequence[Sequence[tuple[int, float]]], documents: int) -> list[tuple[int, float]]:
    """The sum of posting lists, added in their order."""
    sums: MERGED = {}
    for found in lists:
        for row, value in found:
            sums[row] = sums.get(row, 0.0) + value
    return [(row, value) for row, value in sorted(sums.items()) if row < documents]


@settings(deadline=None, max_examples=100)
@given(some_terms, st.sampled_from([0, 1]), st.sampled_from([DOCUMENTS, WINDOW, 5]))
def test_a_list_is_read(postings: naive.Postings, packed: int, documents: int) -> None:
    arrays = arrays_of(postings, packed)
    for term, found in enumerate(postings):
        rows, tfs = room(len(found))
        n = list_kernels.read_list(rows, tfs, arrays, term, documents)
        assert pairs(rows, tfs, n) == [(row, tf) for row, tf in found if row < documents]


@settings(deadline=None, max_examples=100)
@given(
    some_terms, st.sampled_from([0, 1]), st.sampled_from([(DOCUMENTS, 3), (WINDOW, 1), (5, 1)]),
    st.data(),
)  # fmt: skip
def test_terms_are_merged(
    postings: naive.Postings, packed: int, size: tuple[int, int], data: st.DataObject
) -> None:
    documents, windows = size
    most = len(postings) - 1
    asked = data.draw(st.lists(st.integers(0, most), max_size=6)) if postings else []
    factors = data.draw(st.lists(st.floats(0.0625, 1), min_size=len(asked), max_size=len(asked)))
    weighted = [
        [(row, factor * tf) for row, tf in postings[term]]
        for term, factor in zip(asked, factors, strict=True)
    ]
    expected = summed(weighted, documents)
    rows, tfs = room(sum(map(len, weighted)))
    sums, touched = window_scratch()
    runs, at = np.empty((2, len(asked)), np.int64)
    n = list_kernels.merge_terms(
        rows, tfs, sums, touched, runs, at, arrays_of(postings, packed),
        np.array(asked, np.int32), np.array(factors, np.float64), windows, documents,
    )  # fmt: skip
    assert pairs(rows, tfs, n) == expected
    assert not sums.any()
    assert not touched.any()


@settings(deadline=None, max_examples=100)
@given(lists_of_rows)
def test_lists_are_merged(lists: list[list[tuple[int, float]]]) -> None:
    every = [posting for found in lists for posting in found]
    given_rows = np.array([row for row, _ in every], np.int32)
    given_tfs = np.array([tf for _, tf in every], np.float64)
    rows, tfs = room(len(every))
    sums, touched = window_scratch()
    n = list_kernels.merge_lists(
        rows, tfs, sums, touched, np.empty(len(lists), np.int64), given_rows, given_tfs,
        offsets_of([len(found) for found in lists]), 3, DOCUMENTS,
    )  # fmt: skip
    assert pairs(rows, tfs, n) == summed(lists, DOCUMENTS)
    assert not sums.any()
    assert not touched.any()


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.sampled_from(ROWS), st.floats(0, 9), max_size=12),
    st.sets(st.sampled_from(ROWS)), st.sampled_from([0, 1]),
)  # fmt: skip
def test_marked_entries_are_kept(found: MERGED, marked: set[int], kept: int) -> None:
    mask = np.zeros(DOCUMENTS, np.uint8)
    list_kernels.mark_rows(mask, np.array(sorted(marked), np.int32), 1)
    assert np.flatnonzero(mask).tolist() == sorted(marked)
    rows = np.array(sorted(found), np.int32)
    values = np.array([found[row] for row in sorted(found)])
    n = list_kernels.keep_marked(rows, values, mask, kept)
    expected = [row for row in sorted(found) if (row in marked) == bool(kept)]
    assert rows[:n].tolist() == expected
    assert values[:n].tolist() == [found[row] for row in expected]


@settings(deadline=None, max_examples=100)
@given(lists_of_rows, st.sampled_from([0, BLOCK - 3, 3 * BLOCK]))
def test_lists_are_made_to_a_small_index(lists: list[list[tuple[int, float]]], before: int) -> None:
    """With a longer list before them, so that lists begin inside of a block."""
    parts_before = np.linspace(2, 1, before)
    lists = [list(enumerate(parts_before.tolist())), *lists]
    every = [posting for found in lists for posting in found]
    total, m = len(every), len(lists)
    parts = np.array([value for _, value in every], np.float32)
    docs, run_window, run_count = np.empty((3, total), np.uint16)
    run_start, best = np.empty(m + 1, np.int64), np.full(m, np.nan, np.float32)
    block = np.full(total // BLOCK + 1, np.nan, np.float32)
    runs = list_kernels.make_lists(
        docs, run_window, run_count, run_start, best, block,
        np.array([row for row, _ in every], np.int32), parts,
        offsets_of([len(found) for found in lists]),
    )  # fmt: skip
    of_lists = [naive.runs([(row, 1) for row, _ in found]) for found in lists]
    every_run = [run for found in of_lists for run in found]
    assert docs.tolist() == [row % WINDOW for row, _ in every]
    assert run_start.tolist() == offsets_of([len(found) for found in of_lists]).tolist()
    assert runs == len(every_run)
    assert list(zip(run_window[:runs].tolist(), run_count[:runs].tolist(), strict=True)) == [
        (window, count - 1) for window, count in every_run
    ]
    values = [np.array([value for _, value in found], np.float32) for found in lists]
    assert best.tolist() == [own.max(initial=0) for own in values]
    # of whole blocks of one list
    assert block[: before // BLOCK].tolist() == [
        parts[at : at + BLOCK].max() for at in range(0, before - BLOCK + 1, BLOCK)
    ]
