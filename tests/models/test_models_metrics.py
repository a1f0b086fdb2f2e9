"""Measures against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from fastseq.errors import DataError
from fastseq.models.metrics import accuracy, class_scores, confusion, macro_f1, mae, rmse

labels = st.one_of(st.sampled_from("abcd"), st.sampled_from(["a", "b"]))
pairs = st.one_of(
    st.lists(st.tuples(labels, labels), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(-2, 3), st.integers(-2, 5)), min_size=1, max_size=40),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=10),
)


@settings(deadline=None)
@given(pairs)
def test_classes_equal_scikit_learn(rows: list[tuple[object, object]]) -> None:
    expected, predicted = map(list, zip(*rows, strict=True))
    assert accuracy(expected, predicted) == pytest.approx(
        oracle.accuracy_score(expected, predicted), rel=1e-12
    )
    assert macro_f1(expected, predicted) == pytest.approx(
        oracle.f1_score(expected, predicted, average="macro", zero_division=0), rel=1e-12
    )
    names, counts = confusion(expected, predicted)
    assert names.tolist() == sorted({*expected, *predicted})
    if len(names) > 1:  # scikit-learn warns of one label alone
        np.testing.assert_array_equal(counts, oracle.confusion_matrix(expected, predicted))
    else:
        assert counts.tolist() == [[len(rows)]]
    scores = class_scores(expected, predicted)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        expected, predicted, zero_division=0
    )
    np.testing.assert_allclose(scores.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(scores.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(scores.f1, f1, rtol=1e-12)
    np.testing.assert_array_equal(scores.support, support)


def test_confusion_in_a_given_order() -> None:
    expected, predicted = ["b", "a", "b", "b"], ["b", "b", "a", "b"]
    names, counts = confusion(expected, predicted, ["c", "b", "a"])
    assert names.tolist() == ["c", "b", "a"]
    assert counts.tolist() == [[0, 0, 0], [0, 2, 1], [0, 1, 0]]
    assert counts.dtype == np.int64
    with pytest.raises(DataError, match="label 'a' is not among the 2 labels"):
        confusion(expected, predicted, ["c", "b"])


finite = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=30))
def test_numbers_equal_scikit_learn(rows: list[tuple[float, float]]) -> None:
    expected, predicted = map(list, zip(*rows, strict=True))
    assert rmse(expected, predicted) == pytest.approx(
        oracle.root_mean_squared_error(expected, predicted), rel=1e-9
    )
    assert mae(expected, predicted) == pytest.approx(
        oracle.mean_absolute_error(expected, predicted), rel=1e-9
    )


def test_numbers_of_several_columns_and_of_nan() -> None:
    expected, predicted = np.zeros((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    predicted[0, 0] = -4
    assert mae(expected, predicted) == pytest.approx(14 / 6)
    assert rmse(expected, predicted) == pytest.approx(math.sqrt(36 / 6))
    predicted[1, 1] = np.nan
    assert math.isnan(rmse(expected, predicted))
    assert math.isnan(mae(expected, predicted))
    # differences are taken in float64: in float32 this one is 0
    assert mae(np.float32([1e8]), np.float64([1e8 + 1])) == 1


@pytest.mark.parametrize("measure", [accuracy, macro_f1, confusion, class_scores, rmse, mae])
def test_what_cannot_be_measured_is_refused(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(DataError, match=r"are of shape \[2\], expected \[3\]"):
        measure([1, 2, 3], [1, 2])
    with pytest.raises(DataError, match="there are no"):
        measure([], [])
    if measure not in (rmse, mae):
        with pytest.raises(DataError, match="expected one dimension"):
            measure([[1, 2]], [[1, 2]])
