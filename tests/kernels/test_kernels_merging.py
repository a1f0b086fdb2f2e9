"""Counting live postings, merging segments, the terms of queries and sums of documents, against
lists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.postings import WINDOW, Postings
from fastseq.types import offsets_of
from tests.naive import postings as naive

DOCUMENTS = 2 * WINDOW + 3
ROWS = [*range(5), WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 1, 2 * WINDOW, DOCUMENTS - 1]

one_term = st.dictionaries(
    st.sampled_from(ROWS),
    st.integers(1, 4) | st.sampled_from([14, 15, 16, 254, 255, 256, 70_000]),
    min_size=1,
).map(lambda found: sorted(found.items()))
some_terms = st.lists(one_term, max_size=5)


def arrays_of(postings: naive.Postings, packed: int = 0) -> Postings:
    """The kernels' postings."""
    assert naive.WINDOW == WINDOW
    assert (naive.LARGE, naive.LARGE_PACKED) == (kernels.LARGE_TF, kernels.LARGE_PACKED_TF)
    encoded = naive.encode(postings, bool(packed))
    dtypes = (np.uint16, np.uint8, np.uint16, np.uint16, np.int64, np.int32)
    fields = {
        name: np.array(values, dtype)
        for (name, values), dtype in zip(encoded.items(), dtypes, strict=True)
    }
    return Postings(
        **fields,
        term_posting=offsets_of([len(found) for found in postings]),
        term_run=offsets_of([len(naive.runs(found)) for found in postings]),
        packed=packed,
    )


def mask_of(deleted: set[int], documents: int = DOCUMENTS) -> np.ndarray:
    live = np.ones(documents, np.uint8)
    live[sorted(deleted)] = 0
    return live


# ---- deleted documents


@settings(deadline=None, max_examples=60)
@given(some_terms, st.sets(st.sampled_from(ROWS)), st.data())
def test_count_live(postings: naive.Postings, deleted: set[int], data: st.DataObject) -> None:
    most = len(postings) - 1
    asked = data.draw(st.lists(st.integers(0, most), max_size=8)) if postings else []
    counts = np.full(len(asked), -1, np.int64)
    terms = np.array(asked, np.int32)
    kernels.count_live(counts, arrays_of(postings), mask_of(deleted), terms)
    assert counts.tolist() == naive.count_live(postings, deleted, asked)


def test_postings_beyond_the_last_document_are_not_counted() -> None:
    """As a damaged file may have them."""
    postings = arrays_of([[(0, 1), (9, 1), (10, 1), (WINDOW, 1)]])
    counts = np.zeros(1, np.int64)
    kernels.count_live(counts, postings, mask_of({0}, 10), np.zeros(1, np.int32))
    assert counts.tolist() == [1]


# ---- merging


def merged_by_kernels(
    segments: Sequence[naive.Postings], rows: Sequence[np.ndarray], terms: Sequence[list[int]],
    size: int, chunks: Sequence[tuple[int, int]], parts: int, packed: Sequence[int] = (0, 0),
) -> dict[str, Any]:  # fmt: skip
    """df and runs of the new terms, the numbers of frequencies of 15 and of 255 and more, and the
    arrays of the chunks (first term, last), together.

    packed : of each segment, whether its frequencies are
    """
    arrays = [arrays_of(postings, one) for postings, one in zip(segments, packed, strict=True)]
    df, runs = np.zeros(size, np.int64), np.zeros(size, np.int32)
    last_window = np.full(size, -1, np.int32)
    larges = np.zeros(2, np.int64)
    for postings, new_rows, new_terms in zip(arrays, rows, terms, strict=True):
        edges = [len(new_terms) * part // parts for part in range(parts + 1)]
        for first, last in pairwise(edges):
            larges += kernels.count_merged(
                df, runs, last_window, postings, new_rows, np.array(new_terms, np.int32), first,
                last,
            )  # fmt: skip
    posting_starts, run_starts = offsets_of(df), offsets_of(runs)
    found: dict[str, Any] = {"larges": larges.tolist()}
    found |= {name: [] for name in naive.encode([])}
    for first, last in chunks:
        first_posting, first_run = int(posting_starts[first]), int(run_starts[first])
        n, r = int(posting_starts[last]) - first_posting, int(run_starts[last]) - first_run
        chunk = {
            "docs": np.empty(n, np.uint16), "tfs": np.empty(n, np.uint8),
            "run_window": np.empty(r, np.uint16), "run_count": np.empty(r, np.uint16),
            "large_at": np.empty(n, np.int64), "large_tf": np.empty(n, np.int32),
        }  # fmt: skip
        posting_at, run_at = posting_starts[first:last].copy(), run_starts[first:last].copy()
        open_window = np.full(last - first, -1, np.int32)
        filled = 0
        for postings, new_rows, new_terms in zip(arrays, rows, terms, strict=True):
            own = np.full(size, -1, np.int32)
            own[new_terms] = np.arange(len(new_terms))
            filled = kernels.place_merged(
                *chunk.values(), filled, posting_at, run_at, open_window, postings, new_rows,
                own[first:last], first_posting, first_run,
            )  # fmt: skip
        assert posting_at.tolist() == posting_starts[first + 1 : last + 1].tolist()
        assert run_at.tolist() == run_starts[first + 1 : last + 1].tolist()
        order = np.argsort(chunk["large_at"][:filled])
        for name in ("large_at", "large_tf"):
            chunk[name] = chunk[name][:filled][order]
        for name, values in chunk.items():
            found[name] += values.tolist()
    return {"df": df.tolist(), "runs": runs.tolist(), **found}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(some_terms, st.sets(st.sampled_from(ROWS))), min_size=1, max_size=3),
    st.data(),
)
def test_merging_segments(
    drawn: list[tuple[naive.Postings, set[int]]], data: st.DataObject
) -> None:
    segments = [postings for postings, _ in drawn]
    size = data.draw(st.integers(max(map(len, segments)), 8))
    numbers = st.permutations(range(size))
    terms = [data.draw(numbers)[: len(postings)] for postings in segments]
    rows, base = [], data.draw(st.sampled_from([0, 1, WINDOW - 2]))
    for _, deleted in drawn:
        live = mask_of(deleted).astype(np.int32)
        new = base + np.cumsum(live, dtype=np.int32) - live
        rows.append(np.where(live == 1, new, -1).astype(np.int32))
        base += int(live.sum())
    expected = naive.merge(segments, [new.tolist() for new in rows], terms, size)
    assert all(found == sorted(found) for found in expected)
    cut = data.draw(st.integers(0, size))
    packed = data.draw(st.tuples(*[st.sampled_from([0, 1])] * len(segments)))
    tfs = [tf for found in expected for _, tf in found]
    for chunks, parts in (([(0, size)], 1), ([(0, cut), (cut, size)], 3)):
        assert merged_by_kernels(segments, rows, terms, size, chunks, parts, packed) == {
            "df": [len(found) for found in expected],
            "runs": [len(naive.runs(found)) for found in expected],
            "larges": [sum(tf >= least for tf in tfs) for least in (15, 255)],
            **naive.encode(expected),
        }


def test_a_window_that_two_segments_share_is_one_run() -> None:
    """And one segment's window is two where its documents move across the border."""
    postings = [[(0, 1), (1, 300), (2, 2)]]
    rows = [np.array([WINDOW - 4, -1, WINDOW - 3]), np.array([WINDOW - 2, WINDOW - 1, WINDOW])]
    found = merged_by_kernels(
        [postings] * 2, [new.astype(np.int32) for new in rows], [[0], [0]], 1, [(0, 1)], 1
    )
    assert (found["run_window"], found["run_count"]) == ([0, 1], [3, 0])
    assert found["docs"] == [WINDOW - 4, WINDOW - 3, WINDOW - 2, WINDOW - 1, 0]
    assert (found["large_at"], found["large_tf"]) == ([3], [300])


# ---- terms of queries


names = st.lists(st.binary(min_size=1, max_size=4) | st.sampled_from([b"\xff", b"a" * 40]),
                 min_size=1, max_size=70, unique=True)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(names, st.sampled_from([0, 1]), st.data())
def test_count_terms(words: list[bytes], gap: int, data: st.DataObject) -> None:
    """Long queries too, which a merge sort sorts in several runs."""
    df = data.draw(st.lists(st.sampled_from([0, 1, 5]), min_size=len(words), max_size=len(words)))
    term = st.integers(0, len(words) - 1)
    queries = data.draw(st.lists(st.lists(term, max_size=120), max_size=4))
    separator = b"\0" * gap
    raw = np.frombuffer(bytearray().join(word + separator for word in words), np.uint8)
    ends = offsets_of([len(word) + gap for word in words])
    ids = np.array([term for query in queries for term in query], np.int32)
    starts = np.full(len(queries) + 1, -1, np.int64)
    terms, counts = np.empty(len(ids), np.int32), np.empty(len(ids), np.float32)
    seen = np.zeros(len(words), np.int32)
    impact_kernels.count_terms(
        starts, terms, counts, np.empty(len(ids), np.uint64), seen, ids,
        offsets_of([len(query) for query in queries]), np.array(df, np.int64), raw, ends, gap,
    )  # fmt: skip
    assert not seen.any()
    pairs = list(zip(terms.tolist(), counts.tolist(), strict=True))
    found = [pairs[a:b] for a, b in pairwise(starts.tolist())]
    assert found == naive.count_terms(queries, df, words)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 32, 33, 64, 65, 1000])
def test_many_terms_are_sorted_by_their_bytes(count: int) -> None:
    chance = np.random.default_rng(count)
    words = sorted({chance.bytes(int(n)) for n in chance.integers(1, 5, count)})
    chance.shuffle(words)
    raw = np.frombuffer(bytearray().join(words), np.uint8)
    n = len(words)
    starts, terms = np.zeros(2, np.int64), np.empty(n, np.int32)
    impact_kernels.count_terms(
        starts, terms, np.empty(n, np.float32), np.empty(n, np.uint64), np.zeros(n, np.int32),
        np.arange(n, dtype=np.int32), np.array([0, n]), np.ones(n, np.int64), raw,
        offsets_of([len(word) for word in words]), 0,
    )  # fmt: skip
    assert [words[term] for term in terms] == sorted(words)


# ---- sums of documents


def sums_of(
    postings: naive.Postings, documents: int, table: np.ndarray, weights: Sequence[float],
    packed: int = 0,
) -> tuple[list[int], list[int]]:  # fmt: skip
    """(high · 2^64 + low, distinct terms) of each document."""
    arrays = arrays_of(postings, packed)
    high, low = np.zeros(documents, np.uint64), np.zeros(documents, np.uint64)
    unique = np.zeros(documents, np.int32)
    large = np.sqrt(arrays.large_tf.astype(np.float64)).astype(np.float32)
    impact_kernels.document_sums(
        high, low, unique, arrays, table, large, np.array(weights, np.float64)
    )
    pairs = zip(high.tolist(), low.tolist(), strict=True)
    return [(h << 64) + part for h, part in pairs], unique.tolist()


weight = st.floats(0, 1e6) | st.sampled_from([0.0, 1e-12, 2.0**-32, 1 / 3])


@settings(deadline=None, max_examples=100)
@given(some_terms, st.data())
def test_document_sums(postings: naive.Postings, data: st.DataObject) -> None:
    """Exact, so the same bits whatever the order of terms."""
    weights = data.draw(st.lists(weight, min_size=len(postings), max_size=len(postings)))
    table = np.sqrt(np.arange(256)).astype(np.float32)
    values = [
        [float(np.float32(np.sqrt(np.float64(tf)))) * weight for _, tf in found]
        for found, weight in zip(postings, weights, strict=True)
    ]
    sums, unique = naive.document_sums(postings, DOCUMENTS, values)
    for packed in (0, 1):
        assert sums_of(postings, DOCUMENTS, table, weights, packed) == (sums, unique)
    order = data.draw(st.permutations(range(len(postings))))
    again = [postings[term] for term in order], [weights[term] for term in order]
    assert sums_of(again[0], DOCUMENTS, table, again[1]) == (sums, unique)


def test_squares_are_cut_at_two_to_the_62() -> None:
    table = np.ones(256, np.float32)
    for weight in (2.0**31, 1e300):
        assert sums_of([[(0, 1)]], 1, table, [weight]) == ([2**126], [1])
    assert sums_of([[(0, 1)]] * 3, 1, table, [1e300, 2.0**-32, 2.0**-33]) == ([2**126 + 1], [3])


def test_sums_of_documents_in_another_order_and_in_parts() -> None:
    """Float64 sums of these differ; the carries of the lower half reach the upper one."""
    chance = np.random.default_rng(2)
    weights = chance.lognormal(0, 3, 3000).tolist()
    postings: naive.Postings = [[(0, 1)] for _ in weights]
    table = np.arange(256).astype(np.float32)
    (first,), unique = sums_of(postings, 1, table, weights)
    assert unique == [3000]
    floats = set()
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(weights))
        shuffled = [weights[i] for i in order]
        assert sums_of(postings, 1, table, shuffled)[0] == [first]
        floats.add(float(np.add.accumulate(np.array(shuffled) ** 2)[-1]))
    assert len(floats) > 1
    assert abs(first / 2**64 - next(iter(floats))) < 1e-6 * first / 2**64
