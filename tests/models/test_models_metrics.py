"""Measures against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from fastseq.models.metrics import LabelCounts

pairs = st.integers(1, 5).flatmap(
    lambda labels: st.tuples(
        st.just(labels),
        st.lists(
            st.tuples(st.integers(-2, labels - 1), st.integers(0, labels - 1)),
            min_size=1,
            max_size=40,
        ),
        st.integers(1, 40),
    )
)


@pytest.mark.filterwarnings("ignore:A single label")
@settings(deadline=None)
@given(pairs)
def test_label_measures_match_scikit_learn(drawn: tuple[int, list[tuple[int, int]], int]) -> None:
    """In two parts; -1 and -2 are labels that training did not have."""
    labels, rows, cut = drawn
    expected, predicted = np.array(rows, np.int32).T
    counts = LabelCounts(labels, confusion=True)
    counts.add(expected[:cut], predicted[:cut])
    counts.add(expected[cut:], predicted[cut:])
    assert counts.accuracy == pytest.approx(oracle.accuracy_score(expected, predicted), rel=1e-12)
    unseen = len({*expected[expected < 0].tolist()})
    assert counts.macro_f1(unseen) == pytest.approx(
        oracle.f1_score(expected, predicted, average="macro", zero_division=0), rel=1e-12
    )
    known = expected >= 0
    assert counts.known == known.sum()
    assert counts.total == len(rows)
    names, matrix = counts.confusion(np.arange(labels))
    assert names.tolist() == list(range(labels))
    assert matrix.dtype == np.int64
    if known.any():
        wanted = oracle.confusion_matrix(expected[known], predicted[known], labels=range(labels))
        np.testing.assert_array_equal(matrix, wanted)
    else:
        assert not matrix.any()


def test_label_measures_by_hand() -> None:
    counts = LabelCounts(3, confusion=True)
    counts.add(np.array([1, 0, 1, 1], np.int32), np.array([1, 1, 0, 1], np.int32))
    assert counts.confusion(np.array(["a", "b", "c"])).counts.tolist() == [
        [0, 1, 0], [1, 2, 0], [0, 0, 0],
    ]  # fmt: skip
    assert counts.accuracy == 0.5
    assert counts.macro_f1() == pytest.approx((0 + 2 / 3) / 2), "c is on neither side"
    assert counts.macro_f1(unseen=2) == pytest.approx((0 + 2 / 3) / 4)
