"""Inverting a slice and placing slices, against dictionaries."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.index.slices import Merge, Slice, invert
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.postings import LARGE_TF, WINDOW
from fastseq.types import Tokens
from tests.index.slices import stored

Postings = dict[int, list[tuple[int, int]]]


def inverted(documents: list[list[int]], size: int, first: int = 0) -> Slice:
    offsets = np.zeros(len(documents) + 1, np.int64)
    np.cumsum([len(document) for document in documents], out=offsets[1:])
    values = np.array([term for document in documents for term in document], np.int32)
    return invert([Tokens(values, offsets)], [size], 0, first)


def read(one: Slice) -> Postings:
    """The slice's postings; its order and its marks are checked."""
    (part,) = one.parts
    terms, dfs, docs, tfs = (np.asarray(a) for a in (part.terms, part.dfs, part.docs, part.tfs))
    assert (terms.dtype, dfs.dtype, docs.dtype, tfs.dtype) == ("i4", "i4", "u2", "u1")
    assert (np.diff(terms) > 0).all()
    assert dfs.sum() == len(docs) == len(tfs)
    assert np.flatnonzero(tfs == LARGE_TF).tolist() == part.large_at.tolist()
    counts = tfs.astype(np.int64)
    counts[part.large_at] = part.large_tf
    found: Postings = {}
    at = 0
    for term, df in zip(terms.tolist(), dfs.tolist(), strict=True):
        rows = docs[at : at + df]
        assert (np.diff(rows.astype(int)) > 0).all()
        found[term] = list(zip(rows.tolist(), counts[at : at + df].tolist(), strict=True))
        at += df
    return found


def expected(documents: list[list[int]], first: int = 0) -> Postings:
    found: Postings = {}
    for row, document in enumerate(documents, first):
        for term, count in Counter(document).items():
            found.setdefault(term, []).append((row, count))
    return dict(sorted(found.items()))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.lists(
            st.one_of(
                st.integers(0, 5), st.sampled_from([6, 2047, 2048, 4095, 4_194_304, 2**31 - 2])
            ),
            max_size=12,
        ),
        max_size=12,
    ),
    st.sampled_from([0, 1, WINDOW - 12]),
)
def test_postings_of_a_slice(documents: list[list[int]], first: int) -> None:
    size = max((term for document in documents for term in document), default=-1) + 1
    one = inverted(documents, size, first)
    assert read(one) == expected(documents, first)
    assert one.lengths.tolist() == [len(document) for document in documents]
    # any bound above every id will do
    assert read(inverted(documents, 2**31 - 1, first)) == read(one)


@pytest.mark.parametrize("bits", [0, 1, 10, 11, 12, 22, 23, 30])
def test_radix_sort_with_every_number_of_passes(bits: int) -> None:
    chance = np.random.default_rng(bits)
    documents = [chance.integers(0, 1 << bits, 40).tolist() for _ in range(300)]
    documents[7] = [(1 << bits) - 1, 0]
    assert read(inverted(documents, 1 << bits)) == expected(documents)


@pytest.mark.parametrize("count", [1, 253, 254, 255, 256, 1000, 70_000])
def test_frequencies_beyond_a_byte(count: int) -> None:
    documents = [[3] * count, [1, 3, 1], [3] * count + [1] * count]
    one = inverted(documents, 4)
    assert read(one) == expected(documents)
    assert len(one.parts[0].large_at) == (3 if count >= LARGE_TF else 0)


def test_postings_of_a_whole_window() -> None:
    documents = [[row % 3, 3] for row in range(WINDOW)]
    assert read(inverted(documents, 4)) == expected(documents)


def test_slices_are_counted_and_placed() -> None:
    """Slices of two windows, an n-gram level that starts at 10, placed in one chunk and in two."""
    slices = [
        (0, [[0, 1], [1, 1, 4]], 0),
        (0, [[4], [], [0, 4]], 2),
        (3, [[1, 0], [4, 4]], 0),
    ]
    base, vocabulary = 10, 15
    empty = Tokens(np.zeros(0, np.int32), np.zeros(1, np.int64))
    parts, merged = [], []
    for window, documents, first in slices:
        part = inverted(documents, 5, first).parts[0]
        parts.append((window, part))
        merged.append(
            Slice(window, np.zeros(0, np.int32), [*invert([empty], [base], 0, 0).parts, part])
        )
    merge = Merge(stored(merged), [base, 5])
    df, runs = np.diff(merge._posting), merge.runs
    assert df[:base].sum() == runs[:base].sum() == 0
    assert df[base:].tolist() == [3, 3, 0, 0, 4]
    assert merge.postings == 10
    assert runs[base:].tolist() == [2, 2, 0, 0, 2]
    postings, starts = np.zeros(vocabulary + 1, np.int64), np.zeros(vocabulary + 1, np.int64)
    np.cumsum(df, out=postings[1:])
    np.cumsum(runs, out=starts[1:])

    whole = []
    for first, stop in ((0, vocabulary), (0, 11), (11, vocabulary)):
        size = int(postings[stop] - postings[first])
        docs, tfs = np.empty(size, np.uint16), np.empty(size, np.uint8)
        run_window = np.empty(int(starts[stop] - starts[first]), np.uint16)
        run_count = np.empty_like(run_window)
        posting_at, run_at = postings[first:stop].copy(), starts[first:stop].copy()
        opened = np.full(stop - first, -1, np.int32)
        for window, part in parts:
            a, b = np.searchsorted(part.terms, [first - base, stop - base]).tolist()
            at = [0, *np.cumsum(part.dfs).tolist()]
            kernels.place_slice(
                docs, tfs, run_window, run_count, posting_at, run_at, opened,
                part.terms[a:b].copy(), part.dfs[a:b].copy(),
                part.docs[at[a] : at[b]].copy(), part.tfs[at[a] : at[b]].copy(),
                window, base - first, int(postings[first]), int(starts[first]),
            )  # fmt: skip
        assert posting_at.tolist() == postings[first + 1 : stop + 1].tolist()
        assert run_at.tolist() == starts[first + 1 : stop + 1].tolist()
        whole.append([array.tolist() for array in (docs, tfs, run_window, run_count)])
    assert whole[0] == [a + b for a, b in zip(whole[1], whole[2], strict=True)]
    assert whole[0] == [
        [0, 4, 0, 0, 1, 0, 1, 2, 4, 1],
        [1, 1, 1, 1, 2, 1, 1, 1, 1, 2],
        [0, 3, 0, 3, 0, 3],
        [1, 0, 1, 0, 2, 0],
    ]
