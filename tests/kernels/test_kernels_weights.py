"""Inverting documents of weighted terms, against dictionaries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.search.postings import DIGITS, LARGE_TF
from fastseq.kernels.search.weights import invert_weights

TERMS = 5000
pairs = st.tuples(
    st.integers(0, 5) | st.integers(0, TERMS - 1), st.integers(1, 300) | st.just(2**30)
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.lists(pairs, max_size=8), min_size=1, max_size=12), st.booleans(),
    st.integers(0, 100),
)  # fmt: skip
def test_inverting(documents: list[list[tuple[int, int]]], whole: bool, first: int) -> None:
    most = float((1 << 31) - 1) if whole else 1e15
    factor = 1.0 if whole else 0.375
    expected: dict[tuple[int, int], float] = {}
    wrong = -1
    for row, document in enumerate(documents):
        for term, weight in document:
            at = term, first + row
            expected[at] = expected.get(at, 0.0) + weight * factor
        sums = [value for (_, owner), value in expected.items() if owner == first + row]
        if wrong < 0 and any(value > most for value in sums):
            wrong = row
    expected = {at: min(value, most) for at, value in expected.items()}
    values = np.array([term for document in documents for term, _ in document], np.int32)
    n = len(values)
    given_weights = np.array([w * factor for document in documents for _, w in document])
    offsets = np.cumsum([0, *map(len, documents)])
    docs, tfs, doc_of = np.empty(n, np.uint16), np.empty(n, np.uint8), np.empty(n, np.uint16)
    terms, dfs = np.empty((2, n), np.int32)
    weights = np.empty(0 if whole else n, np.float32)
    large_at, large_tf = np.empty(n, np.int64), np.empty(n, np.int32)
    lengths = np.empty(len(documents), np.int32)
    keys, spare = np.empty((2, n), np.uint64)
    postings, distinct, larges, found_wrong = invert_weights(
        docs, tfs, terms, dfs, weights, large_at, large_tf, lengths, keys, spare,
        np.empty(DIGITS, np.int64), doc_of, values, given_weights, offsets, first, TERMS, whole,
        most,
    )  # fmt: skip
    assert found_wrong == wrong
    owners = np.repeat(terms[:distinct], dfs[:distinct]).tolist()
    assert list(zip(owners, docs[:postings].tolist(), strict=True)) == sorted(expected)
    in_order = [expected[at] for at in sorted(expected)]
    if whole:
        found = tfs[:postings].astype(np.int64)
        assert (found[large_at[:larges]] == LARGE_TF).all()
        assert (found == LARGE_TF).sum() == larges
        found[large_at[:larges]] = large_tf[:larges]
        assert found.tolist() == in_order
    else:
        assert (tfs[:postings] == 1).all()
        assert weights[:postings].tolist() == np.array(in_order, np.float32).tolist()
        assert larges == 0
    counts = [len({term for term, _ in document}) for document in documents]
    assert lengths.tolist() == counts
