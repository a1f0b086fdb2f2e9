"""Losses on the device; see nn/losses.py. A loss is a number that is read when it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.kernels.cuda.nn.softmax import cross_entropy_rows, squared_errors_of_parts
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import losses
from fastseq.nn.arrays import as_rows, kept_by_forward
from fastseq.nn.cuda.layer import Feed, Space, is_on_device
from fastseq.nn.cuda.layers import Dense
from fastseq.types import Float64


class Pending:
    """Σ terms · shares, once the device has the terms: `float` waits for it.

    terms   float64[N] on the device, which must stay as they are until then
    shares  float64[N], or one number
    """

    def __init__(self, terms: Any, shares: Float64 | float) -> None:
        self._terms: Any = terms
        self._shares = shares
        self._value = 0.0

    def __float__(self) -> float:
        if self._terms is not None:
            terms = memory.get(self._terms)
            self._value = float((terms * self._shares).sum())
            self._terms = None
        return self._value


class Losses:
    """What the losses of one network need: memory, and the way of a batch's targets."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.space = Space()

    def cross_entropy(
        self,
        logits: Any,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        want_gradient: bool = True,
    ) -> Pending:
        """As losses.softmax_cross_entropy: the gradient is written over logits on the device."""
        rows, columns = logits.shape
        classes = losses.targets_of(targets, rows, columns)
        shares = losses.shares_of(classes, weights, columns)
        terms = self.space.array("terms", rows, dtype=np.float64)
        sent = self.feed.send(classes, np.int32), self.feed.send(shares, np.float32)
        cross_entropy_rows(terms, logits, *sent, want_gradient)
        return Pending(terms, shares)

    def squared_error(self, y: Any, targets: Any, want_gradient: bool = True) -> Pending:
        """As losses.mean_squared_error: the gradient is written over y on the device."""
        at_hand = is_on_device(targets)
        given = targets if at_hand else np.asarray(targets, np.float32)
        if tuple(given.shape) != tuple(y.shape):
            raise DataError(f"targets are of shape {list(given.shape)}, expected {list(y.shape)}")
        if not y.size:
            return Pending(None, 0.0)
        sent = given if at_hand else self.feed.send(given, np.float32)
        terms = squared_errors_of_parts(y, sent, 2 / y.size, want_gradient)
        return Pending(terms, 1 / y.size)


class ProjectedCrossEntropy(losses.ProjectedCrossEntropy):
    """As losses.ProjectedCrossEntropy: an output layer and its loss, some rows at a time."""

    def __init__(self, feed: Feed, budget: int = 256 << 20) -> None:
        super().__init__(budget)
        self.feed = feed
        self.space = Space()

    def loss(
        self,
        x: Any,
        dense: Any,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        training: bool = True,
    ) -> Any:
        assert isinstance(dense, Dense)
        rows = x if is_on_device(x) else memory.put(as_rows(x, dense.inputs, "the input"))
        if rows.ndim != 2 or rows.shape[1] != dense.inputs:
            raise DataError(f"the input is of shape {list(rows.shape)}, not [N, {dense.inputs}]")
        count, columns = len(rows), dense.outputs
        classes = losses.targets_of(targets, count, columns)
        shares = losses.shares_of(classes, weights, columns)
        sent = self.feed.send(classes, np.int32), self.feed.send(shares, np.float32)
        # apart, since a pass without training may come before a loss is read
        terms = self.space.array(("terms", training), count, dtype=np.float64)
        dx = self.space.array("dx", *rows.shape) if training else None
        step = self._step(count, columns)
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            logits = self.space.array("logits", part.stop - start, columns)
            dense.project(logits, rows[part])
            cross_entropy_rows(terms[part], logits, sent[0][part], sent[1][part], training)
            if dx is not None:
                dense.project_back(dx[part], logits)
                dense.add_gradients(rows[part], logits)
        self._gradient = dx
        return Pending(terms, shares)

    def backward(self) -> Any:
        dx = kept_by_forward(self._gradient)
        self._gradient = None
        return dx
