"""Measures of predictions against expected values: classes and numbers.

Labels are one-dimensional arrays (or lists) of integers, strings or booleans, of the same kind on
both sides. `LabelCounts` measures predictions batch after batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.types import Float64, Int32, Int64


class Confusion(NamedTuple):
    """counts[i, j] examples of class labels[i] were predicted to be labels[j]."""

    labels: npt.NDArray[Any]  # [K], ascending unless they were given
    counts: Int64  # [K, K]


class ClassScores(NamedTuple):
    """Scores of each class, float64[K] and int64[K], in the order of `labels`."""

    labels: npt.NDArray[Any]
    precision: Float64
    recall: Float64
    f1: Float64
    support: Int64  # examples of the class


def accuracy(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """The fraction of labels that are correct.

    Raises DataError when the lengths differ or there is nothing to measure.
    """
    a, b = _labels(expected, predicted)
    return float(np.mean(a == b))


def confusion(
    expected: npt.ArrayLike, predicted: npt.ArrayLike, labels: npt.ArrayLike | None = None
) -> Confusion:
    """The confusion matrix, over `labels` or, without them, every label on either side.

    Raises DataError when the lengths differ, there is nothing to measure, or a label is not
    among `labels`.
    """
    a, b = _labels(expected, predicted)
    both = np.concatenate([a, b])
    present, places = np.unique(both, return_inverse=True)
    names = present
    if labels is not None:
        names = np.asarray(labels)
        number = {label: i for i, label in enumerate(names.tolist())}
        strange = [label for label in present.tolist() if label not in number]
        if strange:
            raise DataError(f"label {strange[0]!r} is not among the {len(names)} labels given")
        places = np.array([number[label] for label in present.tolist()], np.int64)[places]
    places = places.reshape(-1)
    size = len(names)
    cells = places[: len(a)] * size + places[len(a) :]
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    return Confusion(names, counts.astype(np.int64))


def class_scores(
    expected: npt.ArrayLike, predicted: npt.ArrayLike, labels: npt.ArrayLike | None = None
) -> ClassScores:
    """Precision, recall and F1 of each class; a ratio of nothing is 0. Raises as `confusion`."""
    names, counts = confusion(expected, predicted, labels)
    correct = np.diag(counts)
    found, support = counts.sum(axis=0), counts.sum(axis=1)
    precision, recall = correct / np.maximum(found, 1), correct / np.maximum(support, 1)
    return ClassScores(names, precision, recall, _f1(correct, found, support), support)


def macro_f1(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """The mean F1 of the classes that are expected or predicted, unweighted.

    Raises DataError when the lengths differ or there is nothing to measure.
    """
    return float(class_scores(expected, predicted).f1.mean())


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
        present = (self._predicted + self._expected) > 0
        f1 = _f1(self._correct, self._predicted, self._expected)
        return float(f1.sum() / (np.count_nonzero(present) + unseen))

    def confusion(self, labels: npt.NDArray[Any]) -> Confusion:
        """The confusion matrix of the known labels, in their order."""
        assert self._pairs is not None, "confusion was not asked for"
        return Confusion(labels, self._pairs)


def _f1(correct: Int64, predicted: Int64, expected: Int64) -> Float64:
    f1: Float64 = 2 * correct / np.maximum(predicted + expected, 1)
    return f1


def rmse(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """The root of the mean squared error over all elements; NaN where there is a NaN.

    Raises DataError when the shapes differ or there is nothing to measure.
    """
    return float(np.sqrt(np.mean(np.square(_errors(expected, predicted)))))


def mae(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """The mean absolute error over all elements; NaN where there is a NaN.

    Raises DataError when the shapes differ or there is nothing to measure.
    """
    return float(np.mean(np.abs(_errors(expected, predicted))))


def _errors(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> Float64:
    a, b = np.asarray(expected, np.float64), np.asarray(predicted, np.float64)
    _same(a, b, "values")
    return b - a


def _labels(
    expected: npt.ArrayLike, predicted: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    a, b = np.asarray(expected), np.asarray(predicted)
    _same(a, b, "labels")
    if a.ndim != 1:
        raise DataError(f"labels are of shape {list(a.shape)}, expected one dimension")
    return a, b


def _same(a: npt.NDArray[Any], b: npt.NDArray[Any], what: str) -> None:
    if a.shape != b.shape:
        raise DataError(f"{what} predicted are of shape {list(b.shape)}, expected {list(a.shape)}")
    if a.size == 0:
        raise DataError(f"there are no {what} to measure")
