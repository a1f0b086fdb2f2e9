"""Measures of predictions against what was expected: classes and numbers.

Labels are one-dimensional arrays (or lists) of whole numbers, strings or truth values, the same
kind on both sides. Nothing is sampled or weighted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.types import Float64, Int64


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
    """The fraction of labels that are right.

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
    """Precision, recall and F1 of each class; a fraction of nothing is 0. Raises as `confusion`."""
    names, counts = confusion(expected, predicted, labels)
    right = np.diag(counts).astype(np.float64)
    given, wanted = counts.sum(axis=0), counts.sum(axis=1)
    return ClassScores(
        names,
        right / np.maximum(given, 1),
        right / np.maximum(wanted, 1),
        2 * right / np.maximum(given + wanted, 1),
        wanted,
    )


def macro_f1(expected: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """The mean F1 of the classes that occur on either side, each counting the same.

    Raises DataError when the lengths differ or there is nothing to measure.
    """
    return float(class_scores(expected, predicted).f1.mean())


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
