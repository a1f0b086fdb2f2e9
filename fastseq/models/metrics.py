"""Measures of predictions against expected values: labels and numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.types import Float64, Int32, Int64


class Confusion(NamedTuple):
    """counts[i, j] examples of label labels[i] were predicted as labels[j]."""

    labels: npt.NDArray[Any]  # [K], ascending
    counts: Int64  # [K, K]


class LabelCounts:
    """Counts of K labels, numbered from 0, for accuracy, macro-F1 and the confusion matrix.

    Parameters
    ----------
    labels : K
    confusion : count each pair of labels too

    Attributes
    ----------
    total : of all labels added
    """

    def __init__(self, labels: int, confusion: bool = False) -> None:
        self.total = 0
        self._correct, self._predicted, self._expected = np.zeros((3, labels), np.int64)
        self._pairs = np.zeros((labels, labels), np.int64) if confusion else None

    def add(self, expected: Int32, predicted: Int32) -> None:
        """Count more labels; an expected one below 0 is unseen in training, and never correct."""
        K, known = len(self._expected), expected >= 0
        self.total += len(expected)
        self._expected += np.bincount(expected[known], minlength=K)
        self._predicted += np.bincount(predicted, minlength=K)
        self._correct += np.bincount(expected[expected == predicted], minlength=K)
        if self._pairs is not None:
            np.add.at(self._pairs, (expected[known], predicted[known]), 1)

    @property
    def known(self) -> int:
        """How many expected labels training had."""
        return int(self._expected.sum())

    @property
    def accuracy(self) -> float:
        """The fraction of all labels that are correct."""
        return float(self._correct.sum() / self.total)

    def macro_f1(self, unseen: int = 0) -> float:
        """The mean F1 of the labels that are expected or predicted, unweighted; `unseen` more
        labels that training did not have count 0 each."""
        both = self._predicted + self._expected
        f1 = 2 * self._correct / np.maximum(both, 1)
        return float(f1.sum() / (np.count_nonzero(both) + unseen))

    def confusion(self, labels: npt.NDArray[Any]) -> Confusion:
        """The confusion matrix of the known labels, named by `labels`."""
        assert self._pairs is not None, "confusion was not asked for"
        return Confusion(labels, self._pairs)


def rmse(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """The root mean squared error over all elements; NaN where there is a NaN.

    Raises DataError if the shapes differ or there is nothing to measure.
    """
    return float(np.sqrt(np.mean(np.square(_errors(expected, predicted)))))


def mae(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """The mean absolute error over all elements; NaN where there is a NaN.

    Raises DataError if the shapes differ or there is nothing to measure.
    """
    return float(np.mean(np.abs(_errors(expected, predicted))))


def _errors(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> Float64:
    a, b = np.asarray(expected, np.float64), np.asarray(predicted, np.float64)
    if a.shape != b.shape:
        raise DataError(f"values predicted are of shape {list(b.shape)}, expected {list(a.shape)}")
    if a.size == 0:
        raise DataError("there are no values to measure")
    return b - a
