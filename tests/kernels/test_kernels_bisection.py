"""Recursive graph bisection and reordered postings, against plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.index.reordering import search_order
from fastseq.kernels.search import bisection
from fastseq.kernels.search.dense import dense_words, fill_dense
from fastseq.kernels.search.impacts import make_impacts
from fastseq.kernels.search.postings import DIGITS, WINDOW, Postings
from fastseq.kernels.search.reordered import (
    NO_RUN,
    make_reordered,
    reorder_impacts,
)
from fastseq.types import offsets_of

Documents = list[set[int]]


def logarithm(n: int) -> int:
    return round(math.log2(n + 1) * 2**16)


def halved(rows: list[int], documents: Documents) -> list[int]:
    """The rows with documents exchanged between their halves."""
    n, half = len(rows), len(rows) // 2
    rows = list(rows)
    for _ in range(20):
        counts = [
            {term: sum(term in documents[row] for row in part) for term in range(100)}
            for part in (rows[:half], rows[half:])
        ]
        gains = [
            sum(logarithm(counts[0][t]) - logarithm(counts[1][t]) for t in documents[row])
            for row in rows
        ]
        best = set(sorted(range(n), key=lambda i: (-gains[i], i))[:half])
        leaving = [i for i in range(half) if i not in best]
        coming = [i for i in range(half, n) if i in best]
        for i, j in zip(leaving, coming, strict=True):
            rows[i], rows[j] = rows[j], rows[i]
        if 128 * len(leaving) < n:
            break
    return rows


def bisected(rows: list[int], documents: Documents) -> list[int]:
    if len(rows) <= 16:
        return rows
    rows = halved(rows, documents)
    half = len(rows) // 2
    return bisected(rows[:half], documents) + bisected(rows[half:], documents)


def order_of(documents: Documents, lengths: list[int]) -> list[int]:
    """Strata of length, each bisected; terms of fewer than 32 documents do not count."""
    n = len(documents)
    frequent = {t for t in range(100) if sum(t in one for one in documents) >= 32}
    kept = [one & frequent for one in documents]
    by_length = sorted(range(n), key=lambda row: (lengths[row], row))
    found: list[int] = []
    for stratum in range(4):
        rows = sorted(by_length[stratum * n // 4 : (stratum + 1) * n // 4])
        found += bisected(rows, kept)
    return found


def postings_of(lists: list[list[int]]) -> Postings:
    """Those of terms with the given rows, ascending."""
    runs = [np.unique(np.array(rows) // WINDOW, return_counts=True) for rows in lists]
    rows = np.array([row for own in lists for row in own], np.int64)
    return Postings(
        docs=(rows % WINDOW).astype(np.uint16), tfs=np.ones(len(rows), np.uint8),
        term_posting=offsets_of([len(own) for own in lists]),
        term_run=offsets_of([len(windows) for windows, _ in runs]),
        run_window=np.concatenate([windows for windows, _ in runs]).astype(np.uint16),
        run_count=np.concatenate([counts - 1 for _, counts in runs]).astype(np.uint16),
        large_at=np.empty(0, np.int64), large_tf=np.empty(0, np.int32),
    )  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 260), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_search_order(n: int, terms: int, seed: int) -> None:
    """It is that of the definition, on any number of threads."""
    chance = np.random.default_rng(seed)
    topic = chance.integers(0, 3, n)
    documents = [
        set(((chance.integers(0, terms, chance.integers(1, 6)) + 4 * topic[i]) % terms).tolist())
        for i in range(n)
    ]
    lengths = chance.integers(1, 9, n).tolist()
    lists = [[i for i in range(n) if t in documents[i]] for t in range(terms)]
    postings = postings_of([own for own in lists if own])
    orders = [
        search_order(postings, np.array(lengths, np.int32), threads, lambda done, total: None)
        for threads in (1, 3)
    ]
    assert orders[0].dtype == np.uint32
    assert orders[0].tolist() == orders[1].tolist() == order_of(documents, lengths)


def test_topics_are_separated() -> None:
    """Mixed documents of two topics become few parts."""
    n = 2048
    topic = np.random.default_rng(5).integers(0, 2, n)
    postings = postings_of([np.flatnonzero(topic == t).tolist() for t in (0, 1) for _ in range(3)])
    order = search_order(postings, np.full(n, 7, np.int32), 2, lambda done, total: None)
    assert sorted(order.tolist()) == list(range(n))
    assert np.count_nonzero(np.diff(topic)) > 900
    assert np.count_nonzero(np.diff(topic[order])) < 60


def test_progress() -> None:
    seen: list[tuple[int, int]] = []
    postings = postings_of([list(range(500))])
    search_order(postings, np.arange(500, dtype=np.int32), 2, lambda *found: seen.append(found))
    assert seen[-1] == (500, 500)
    assert seen == sorted(seen)


@pytest.mark.parametrize("documents", [40, WINDOW, 2 * WINDOW + 5])
def test_reordered_postings(documents: int) -> None:
    """The postings of a term by place, with their parts and blocks; other terms as they were."""
    chance = np.random.default_rng(documents)
    sizes = [1, 7, 256, 257, 5000, 90_000]
    lists = [
        sorted(chance.choice(documents, min(size, documents), replace=False).tolist())
        for size in sizes
    ]
    postings = postings_of(lists)
    (impacts,) = make_impacts([postings])
    parts = chance.random(len(postings.docs)).astype(np.float32)
    impacts.parts[:] = parts
    order = chance.permutation(documents).astype(np.uint32)
    windows = -(-documents // WINDOW)
    found = make_reordered(postings, windows)
    keys, spare = np.empty((2, documents), np.uint64)
    places = np.argsort(order).astype(np.int32)
    chosen = np.array([5, 0, 2, 3, 4], np.int32)  # not 1
    for _ in range(2):  # again, as after an interrupt
        impacts.parts[:] = parts
        reorder_impacts(
            found, impacts, keys, spare, np.empty(DIGITS, np.int64), places,
            (documents - 1).bit_length(), postings, chosen,
        )  # fmt: skip
    starts = postings.term_posting.tolist()
    for term, rows in enumerate(lists):
        first, last = starts[term], starts[term + 1]
        own = slice(int(found.term_run[term]), int(found.term_run[term + 1]))
        if term not in chosen:
            assert (found.run_window[own] == NO_RUN).all()
            assert (impacts.parts[first:last] == parts[first:last]).all()
            continue
        expected = sorted(zip(places[rows].tolist(), parts[first:last].tolist(), strict=True))
        read: list[int] = []
        for window, count in zip(found.run_window[own], found.run_count[own], strict=True):
            if window != NO_RUN:
                at = first + len(read)
                docs = found.docs[at : at + int(count) + 1].astype(int)
                read += (docs + int(window) * WINDOW).tolist()
        assert list(zip(read, impacts.parts[first:last].tolist(), strict=True)) == expected
        for block in range(-(-first // 128), last // 128):
            assert impacts.block[block] == impacts.parts[128 * block : 128 * block + 128].max()
        words = np.zeros(dense_words(windows), np.uint64)
        fill_dense(words.ctypes.data, windows, places, postings, term)
        bits = words[: windows * WINDOW // 64]
        set_bits = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
        assert set_bits.tolist() == read


def test_logarithms_have_room() -> None:
    """The largest logarithm of a document's count fits an int32."""
    assert math.log2(2**32) * 2**bisection.LOG_BITS < 2**31
