"""Pooling: one vector for each sequence from its rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.nn.pooling import (
    attention_scores,
    attention_scores_backward,
    segment_maxima,
    segment_maxima_backward,
    segment_products,
    segment_spread,
    segment_sums,
)
from fastseq.nn.arrays import as_offsets, saved_by_forward
from fastseq.nn.initialisers import xavier_uniform
from fastseq.nn.layer import Layer
from fastseq.nn.products import column_sums, multiply, multiply_rows
from fastseq.settings import one_of, whole
from fastseq.threads import Team
from fastseq.types import Float32, Int64

KINDS = ("last", "mean", "max", "attention")

_LEAST = 1 << 16  # floats read that are worth a thread


class Saved(NamedTuple):
    """What a forward pass keeps for the backward pass; None where a kind needs none."""

    offsets: Any
    x: Any  # [N, F]
    activations: Any = None  # [N, A], tanh(W h + b)
    weights: Any = None  # [N], of the sum over each sequence
    maxima: Any = None  # the row of each largest value


class Pooling(Layer):
    """x float32[N, F] of ragged sequences to y float32[B, F].

    kind "last": each sequence's last row. With `bidirectional`, the first half of the last row and
        the second half of the first: the last output of each direction.
    kind "mean", "max": over the rows. Of equal maxima the first row gets the gradient.
    kind "attention": the additive attention of Yang et al. 2016 (Hierarchical Attention Networks
        for Document Classification, section 2.2): u = tanh(weight · h + bias), the weights are
        the softmax of vector · u over the sequence. Parameters "weight" [A, F], "bias" [A] and
        "vector" [A]; weight and vector are drawn by Glorot and Bengio's uniform rule.

    Parameters
    ----------
    kind : as above; SettingsError otherwise
    size : columns of x (F)
    bidirectional : for "last" only
    attention : columns of u (A); F when None
    seed : of the initial values
    team : threads that share large batches; only the caller's without one
    """

    def __init__(
        self,
        kind: str,
        size: int,
        *,
        bidirectional: bool = False,
        attention: int | None = None,
        seed: int = 0,
        team: Team | None = None,
    ) -> None:
        self.kind = one_of("the kind of pooling", kind, KINDS)
        self.size = whole("size", size, 1)
        self.bidirectional = bidirectional
        self.attention = self.size if attention is None else whole("attention", attention, 1)
        if bidirectional and size % 2:
            raise SettingsError(f"two directions need an even number of columns, not {size}")
        self.team = team or Team(1)
        self._saved: Saved | None = None
        super().__init__(seed)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if self.kind != "attention":
            return {}
        width = self.attention
        return {"weight": (width, self.size), "bias": (width,), "vector": (width,)}

    def initialise(self, rng: np.random.Generator) -> None:
        if self.kind == "attention":
            weight, vector = self.values["weight"], self.values["vector"]
            weight[...] = xavier_uniform(weight.shape, rng)
            vector[...] = xavier_uniform((1, self.attention), rng)[0]
            self.values["bias"].fill(0)

    def prepare(self, offsets: Int64) -> None:
        """Send what a pass over sequences of these offsets needs to the device; on the CPU
        nothing."""

    def forward(self, x: npt.ArrayLike, offsets: npt.ArrayLike, training: bool = True) -> Any:
        """y float32[B, F]: sequence b is x[offsets[b]:offsets[b + 1]] (offsets int64[B + 1]).

        Raises DataError where a sequence is empty or the offsets do not fit x.
        """
        self.begin(training)
        rows = self.rows(x, self.size, "the input")
        bounds = as_offsets(offsets, len(rows))
        y = self.output("y", len(bounds) - 1, self.size, reuse=training)
        saved = self._pool(y, rows, bounds)
        if training:
            self._saved = saved
        return y

    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx float32[N, F] of dy float32[B, F]; adds the gradients of attention's parameters."""
        saved = saved_by_forward(self._saved)
        self._saved = None
        gradients = self.rows(dy, self.size, "the gradient")
        if len(gradients) != len(saved.offsets) - 1:
            raise DataError(
                f"a gradient of {len(gradients)} rows, expected {len(saved.offsets) - 1} sequences"
            )
        dx = self.output("dx", *saved.x.shape)
        self._pool_back(dx, gradients, saved)
        return dx

    def attention_weights(self) -> Float32:
        """float32[N], the weight of each row of the last forward pass in its sequence's output.

        For "attention" and "mean", after a forward pass with training=True and before `backward`.
        """
        weights: Float32 = saved_by_forward(self._saved).weights.copy()
        return weights

    @property
    def _half(self) -> int:
        """Columns that were read forwards."""
        return self.size // 2 if self.bidirectional else self.size

    def _pool(self, y: Any, x: Any, offsets: Int64) -> Saved:
        """Write y; returns what the backward pass needs."""
        if self.kind == "last":
            np.take(x, offsets[1:] - 1, 0, y, "clip")
            if self.bidirectional:
                y[:, self._half :] = x[offsets[:-1], self._half :]
            return Saved(offsets, x)
        out, flat = y.reshape(-1), x.reshape(-1)
        if self.kind == "max":
            maxima = np.empty(y.size, np.int32)
            numbers = maxima.view(np.float32)
            self._by_column(len(x), lambda a, b: segment_maxima(out, numbers, flat, offsets, a, b))
            return Saved(offsets, x, maxima=maxima)
        u = None
        if self.kind == "mean":
            lengths = np.diff(offsets)
            weights = np.repeat((1 / lengths).astype(np.float32), lengths)
        else:
            u, weights = self._attend(x, offsets)
        self._by_column(len(x), lambda a, b: segment_sums(out, flat, weights, offsets, a, b))
        return Saved(offsets, x, u, weights)

    def _pool_back(self, dx: Any, dy: Any, saved: Saved) -> None:
        """Write dx."""
        offsets, weights, maxima = saved.offsets, saved.weights, saved.maxima
        if self.kind == "last":
            dx.fill(0)
            dx[offsets[1:] - 1, : self._half] = dy[:, : self._half]
            dx[offsets[:-1], self._half :] = dy[:, self._half :]
            return
        out, given = dx.reshape(-1), dy.reshape(-1)
        if self.kind == "max":
            self._by_sequence(
                offsets, lambda a, b: segment_maxima_backward(out, given, maxima, offsets, a, b)
            )
            return
        self._by_sequence(offsets, lambda a, b: segment_spread(out, given, weights, offsets, a, b))
        if self.kind == "attention":
            self._attend_back(dx, given, saved)

    def _attend(self, x: Float32, offsets: Int64) -> tuple[Float32, Float32]:
        """tanh(W x + b), and the weights."""
        u = np.empty((len(x), self.attention), np.float32)
        multiply(u, x, self.values["weight"], self.team, transposed=True, bias=self.values["bias"])
        scores = np.empty(len(x), np.float32)
        flat, vector = u.reshape(-1), self.values["vector"]
        self._by_row(len(x), lambda a, b: attention_scores(scores, flat, vector, a, b))
        lengths = np.diff(offsets)
        largest = np.maximum.reduceat(scores, offsets[:-1])
        weights: Float32 = np.exp(scores - np.repeat(largest, lengths))
        weights /= np.repeat(np.add.reduceat(weights, offsets[:-1]), lengths)
        return u, weights

    def _attend_back(self, dx: Float32, dy: Float32, saved: Saved) -> None:
        """Add the gradient through the weights to dx and to the parameters' gradients."""
        offsets, u, weights = saved.offsets, saved.activations, saved.weights
        dweights = np.empty(len(u), np.float32)
        x = saved.x.reshape(-1)
        self._by_sequence(offsets, lambda a, b: segment_products(dweights, x, dy, offsets, a, b))
        # softmax's gradient, a (da - Σ a da) over each sequence
        mean = np.add.reduceat(weights * dweights, offsets[:-1])
        dscores = weights * (dweights - np.repeat(mean, np.diff(offsets)))
        multiply_rows(self.grads["vector"][None], dscores[:, None], u, self.team)
        flat, vector = u.reshape(-1), self.values["vector"]
        self._by_row(len(u), lambda a, b: attention_scores_backward(flat, dscores, vector, a, b))
        multiply_rows(self.grads["weight"], u, saved.x, self.team)
        self.grads["bias"] += column_sums(u, self.team)
        multiply(dx, u, self.values["weight"], self.team, add=True)

    def _by_column(self, rows: int, work: Callable[[int, int], None]) -> None:
        """Threads share the F columns, so that sums have one order."""
        self._run(self.team.split(self.size, max(16, -(-_LEAST // rows)), 16), work)

    def _by_row(self, rows: int, work: Callable[[int, int], None]) -> None:
        self._run(self.team.split(rows, -(-_LEAST // self.attention)), work)

    def _by_sequence(self, offsets: Int64, work: Callable[[int, int], None]) -> None:
        """Threads share the sequences, with similar numbers of rows."""
        stops = [stop for _, stop in self.team.split(int(offsets[-1]), -(-_LEAST // self.size))]
        bounds = [0, *np.searchsorted(offsets, stops).tolist()]
        self._run([(a, b) for a, b in pairwise(bounds) if a < b], work)

    def _run(self, ranges: list[tuple[int, int]], work: Callable[[int, int], None]) -> None:
        self.team.run(lambda i: work(*ranges[i]), len(ranges))
