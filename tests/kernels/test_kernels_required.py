"""Searching for required, optional and excluded terms, against sums over plain lists."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search.cursors import make_scratch
from fastseq.kernels.search.dense import dense_words, fill_dense
from fastseq.kernels.search.postings import WINDOW
from fastseq.kernels.search.required import (
    EXCLUDED,
    OPTIONAL,
    REQUIRED,
    search_required,
)
from fastseq.kernels.search.segments import LIST_COLUMNS, fill_lists, segment_table
from tests.kernels.test_kernels_merging import DOCUMENTS, ROWS, arrays_of

TERMS = 6
Parts = dict[int, float]  # of a term, by row; of a deleted document 0


class Term(NamedTuple):
    """A term of a query."""

    term: int
    weight: float
    role: int


def dense_array(rows: Sequence[int], first: int, windows: int) -> np.ndarray:
    """uint64[n]: the bits of ascending rows; the number of the first one that is not before each
    window, where numbers begin at `first`; and how many of the window precede each 64 rows, four
    such numbers in one."""
    words = windows * WINDOW // 64
    bits, places = [0] * words, [0] * words
    firsts = [first + sum(row < window * WINDOW for row in rows) for window in range(windows)]
    for row in rows:
        bits[row // 64] |= 1 << row % 64
    for word in range(1, words):
        if word % (WINDOW // 64):
            places[word] = places[word - 1] + bits[word - 1].bit_count()
    packed = [sum(places[at + i] << 16 * i for i in range(4)) for at in range(0, words, 4)]
    return np.array([*bits, *firsts, *packed], np.uint64)


def expected_hits(
    segments: Sequence[tuple[int, Sequence[Parts]]], query: Sequence[Term], base: float,
    allowed: set[int] | None, k: int,
) -> list[tuple[int, float]]:  # fmt: skip
    """(row, score) of the k best: float32 sums, the largest weight first, equals as given."""
    order = sorted((term for term in query if term.role != EXCLUDED), key=lambda term: -term.weight)
    found = []
    for first, lists in segments:
        live = [{row for row, part in lists[term.term].items() if part > 0} for term in query]
        having = {
            role: [own for own, term in zip(live, query, strict=True) if term.role == role]
            for role in (REQUIRED, OPTIONAL, EXCLUDED)
        }
        if having[REQUIRED]:
            rows = set.intersection(*having[REQUIRED])
        else:
            rows = set().union(*having[OPTIONAL])
        if allowed is not None:
            rows &= {row - first for row in allowed}
        for row in rows.difference(*having[EXCLUDED]):
            score = np.float32(0)
            for term in order:
                if row in lists[term.term]:
                    part = np.float32(lists[term.term][row])
                    score = score + np.float32(term.weight) * part
            found.append((first + row, float(score + np.float32(base))))
    return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:k]


def searched(
    segments: Sequence[tuple[int, Sequence[Parts]]], queries: Sequence[Sequence[Term]],
    bases: Sequence[float], allowed: set[int] | None, k: int, narrowed: bool = False,
    dense: Set[int] = frozenset(),
) -> list[list[tuple[int, float]]]:  # fmt: skip
    """The hits of each query by the kernel. narrowed: it is given the range of the allowed
    documents of each window; dense: the terms of which it is given bits."""
    windows, bits = -(-DOCUMENTS // WINDOW), []
    addresses = np.zeros((len(segments), TERMS), np.int64)
    kept, numbers = [], np.arange(TERMS, dtype=np.int32)
    lists = np.zeros((TERMS, len(segments), LIST_COLUMNS), np.int64)
    for s, (first, terms) in enumerate(segments):
        postings = arrays_of([[(row, 1) for row in sorted(parts)] for parts in terms])
        (impacts,) = impact_kernels.make_impacts([postings])
        parts = [parts[row] for parts in terms for row in sorted(parts)]
        impact_kernels.place_parts(impacts, postings, numbers, np.array(parts, np.float32))
        for term in dense:
            first_posting = int(postings.term_posting[term])
            bits.append(dense_array(sorted(terms[term]), first_posting, windows))
            addresses[s, term] = bits[-1].ctypes.data
        fill_lists(lists, s, numbers, postings, impacts, numbers, addresses[s])
        kept.append((postings, impacts, first, DOCUMENTS))
    every = [term for query in queries for term in query]
    starts = np.cumsum([0, *map(len, queries)]).astype(np.int64)
    mask = np.zeros(0 if allowed is None else len(segments) * DOCUMENTS, np.uint8)
    mask[sorted(allowed or ())] = 1
    ranges = []
    if narrowed and allowed is not None:
        for first, _ in segments:
            for start in range(first, first + DOCUMENTS, WINDOW):
                end = min(start + WINDOW, first + DOCUMENTS)
                inside = [row - start for row in allowed if start <= row < end]
                ranges.append((min(inside), max(inside)) if inside else (0, -1))
    rows = np.full((len(queries), k), -7, np.int32)
    scores = np.full((len(queries), k), -7, np.float32)
    scratch = make_scratch(k, 32)
    search_required(
        rows, scores, segment_table(kept), lists, scratch.addresses, starts,
        np.array([term.term for term in every], np.int32),
        np.array([term.weight for term in every], np.float32),
        np.array([term.role for term in every], np.uint8),
        np.array(bases, np.float32), mask,
        np.array(ranges, np.int32).reshape(-1, 2), k,
    )  # fmt: skip
    assert not scratch.arrays.scores.any()
    assert not scratch.arrays.seen.any()
    found = []
    for own, own_scores in zip(rows, scores, strict=True):
        n = int((own >= 0).sum())
        assert own[n:].tolist() == [-1] * (k - n)
        assert not own_scores[n:].any()
        found.append(list(zip(own[:n].tolist(), own_scores[:n].tolist(), strict=True)))
    return found


some_parts = st.dictionaries(
    st.sampled_from(ROWS), st.sampled_from([0.25, 0.5, 0.75, 1.0, 1 / 3, 2e-7]), max_size=15
)


def without(deleted: set[int], lists: Sequence[Parts]) -> list[Parts]:
    """The parts of deleted documents are 0 in every list."""
    return [{row: 0.0 if row in deleted else part for row, part in own.items()} for own in lists]


segment = st.builds(
    without, st.sets(st.sampled_from(ROWS), max_size=4),
    st.lists(some_parts, min_size=TERMS, max_size=TERMS),
)  # fmt: skip


@st.composite
def one_query(draw: st.DrawFn) -> list[Term]:
    terms = draw(st.permutations(range(TERMS)))[: draw(st.integers(1, TERMS))]
    query = []
    for term in terms:
        role = draw(st.sampled_from([OPTIONAL, OPTIONAL, REQUIRED, EXCLUDED]))
        weights = [0.5, 1.0, 1.7] if role == REQUIRED else [0.5, 1.0, 1.7, 0.0]
        query.append(Term(term, 0.0 if role == EXCLUDED else draw(st.sampled_from(weights)), role))
    return query


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sets(st.sampled_from(ROWS) | st.integers(0, DOCUMENTS - 1)), min_size=1),
    st.booleans(),
)
def test_bits_and_places(lists: list[set[int]], is_reordered: bool) -> None:
    postings = arrays_of([[(row, 1) for row in sorted(rows)] for rows in lists])
    windows = -(-DOCUMENTS // WINDOW)
    term = len(lists) // 2
    places = np.arange(DOCUMENTS)[::-1] if is_reordered else np.arange(0)
    found = np.zeros(dense_words(windows), np.uint64)
    fill_dense(found.ctypes.data, windows, places.astype(np.int32), postings, term)
    rows, first = sorted(lists[term]), sum(map(len, lists[:term]))
    if is_reordered:
        rows = sorted(DOCUMENTS - 1 - row for row in rows)
    assert found.tolist() == dense_array(rows, first, windows).tolist()


@settings(deadline=None, max_examples=400)
@given(
    st.lists(segment, min_size=1, max_size=3), st.lists(one_query(), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.625]), st.none() | st.sets(st.sampled_from(ROWS)),
    st.sampled_from([1, 2, 5, 40]), st.booleans(), st.sets(st.integers(0, TERMS - 1)),
)  # fmt: skip
def test_hits_are_sums_over_lists(
    lists: list[list[Parts]], queries: list[list[Term]], base: float, allowed: set[int] | None,
    k: int, narrowed: bool, dense: set[int],
) -> None:  # fmt: skip
    segments = [(s * DOCUMENTS, own) for s, own in enumerate(lists)]
    found = searched(segments, queries, [base] * len(queries), allowed, k, narrowed, dense)
    for hits, query in zip(found, queries, strict=True):
        if not any(term.role == REQUIRED for term in query) and not any(
            term.role == OPTIONAL for term in query
        ):
            assert hits == []
            continue
        assert hits == expected_hits(segments, query, base, allowed, k)


@pytest.mark.sample(8)
@pytest.mark.parametrize("k", [1, 10, 200])
@pytest.mark.parametrize("seed", range(6))
def test_long_lists(seed: int, k: int) -> None:
    """Lists of many blocks in several windows, whose lengths differ by orders of magnitude."""
    chance = np.random.default_rng(seed)
    lists: list[Parts] = []
    for n in (DOCUMENTS // 3, DOCUMENTS // 12, 9000, 700, 60, 3):
        rows = np.sort(chance.choice(DOCUMENTS, n, replace=False))
        parts = np.round(chance.random(n) * 0.9 + 0.1, 3)
        lists.append(dict(zip(rows.tolist(), parts.tolist(), strict=True)))
    deleted = chance.choice(DOCUMENTS, DOCUMENTS // 20, replace=False).tolist()
    segments = [(0, without(set(deleted), lists))]
    queries = []
    for _ in range(8):
        terms = chance.permutation(TERMS)[: chance.integers(2, TERMS + 1)].tolist()
        roles = [REQUIRED, *chance.choice([OPTIONAL, REQUIRED, EXCLUDED], len(terms) - 1).tolist()]
        weights = np.round(chance.random(len(terms)) * 3 + 0.1, 2).tolist()
        queries.append([
            Term(term, 0.0 if role == EXCLUDED else weight, role)
            for term, weight, role in zip(terms, weights, roles, strict=True)
        ])  # fmt: skip
    for order in ((0, 1, 2), (2, 0, 1)):
        weights = np.round(chance.random(3) * 3 + 0.1, 2).tolist()
        queries.append([Term(order[i], weights[i], REQUIRED) for i in range(3)])
    allowed: Any = None if seed % 2 else set(range(0, DOCUMENTS, 3))
    if seed == 4:
        allowed = set(range(WINDOW - 2000, WINDOW + 70))
    dense = {0, 1, 2} if seed < 3 else {0}
    found = searched(segments, queries, [0.0] * len(queries), allowed, k, True, dense)
    for hits, query in zip(found, queries, strict=True):
        assert hits == expected_hits(segments, query, 0.0, allowed, k)
    assert any(found)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 0), (0, 63), (5, WINDOW - 1), (WINDOW - 1, WINDOW), (WINDOW - 700, WINDOW + 1500),
     (WINDOW, WINDOW), (WINDOW + 3000, DOCUMENTS - 1), (40_000, 40_500)],
)  # fmt: skip
@pytest.mark.parametrize("role", [OPTIONAL, REQUIRED])
def test_adjacent_rows_that_a_filter_lets_pass(first: int, last: int, role: int) -> None:
    """Ranges at the edges of windows, within two segments; sparse and dense windows."""
    chance = np.random.default_rng(first + last)
    segments: list[tuple[int, list[Parts]]] = []
    for s in range(2):
        lists: list[Parts] = []
        for n in (DOCUMENTS // 2, DOCUMENTS // 5, 20_000, 3000, 200, 20):
            rows = np.union1d(chance.choice(DOCUMENTS, n, replace=False), [first, last])
            parts = np.round(chance.random(len(rows)) * 0.9 + 0.1, 3)
            lists.append(dict(zip(rows.tolist(), parts.tolist(), strict=True)))
        segments.append((s * DOCUMENTS, lists))
    weights = np.round(chance.random(TERMS) * 3 + 0.1, 2).tolist()
    queries = [
        [Term(term, weights[term], role) for term in terms]
        for terms in ([0, 1], [0, 3, 5], [4, 2], [5], [0, 1, 2, 3, 4, 5])
    ]
    for s in range(2):
        allowed = set(range(s * DOCUMENTS + first, s * DOCUMENTS + last + 1))
        found = searched(segments, queries, [0.0] * len(queries), allowed, 10, True, {0, 1})
        for hits, query in zip(found, queries, strict=True):
            assert hits
            assert hits == expected_hits(segments, query, 0.0, allowed, 10)
