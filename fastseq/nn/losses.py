"""Losses, with the gradient of their input.

Each is a mean over the rows, as PyTorch's are, summed in float64 in an order that does not
depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.nn.softmax import cross_entropy_rows, softmax_rows
from fastseq.nn.arrays import Workspace, as_floats, as_numbers, saved_by_forward
from fastseq.nn.layers import Dense
from fastseq.settings import whole
from fastseq.threads import Lock, Team, locked
from fastseq.types import Float32, Float64, Int32

_LEAST = 1 << 16  # logits that are worth a thread
_BUDGET = 48 << 20  # bytes


def softmax(logits: Float32, team: Team | None = None) -> Float32:
    """Turn rows of logits float32[N, C] into probabilities in place; returns the same array.

    A logit of -inf has probability 0 (all of a row's: NaN). The array must be contiguous.
    """
    flat, columns = _flat(logits), logits.shape[1]
    _share(team, logits, lambda first, last: softmax_rows(flat, columns, first, last))
    return logits


def softmax_cross_entropy(
    logits: Float32,
    targets: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    team: Team | None = None,
    want_gradient: bool = True,
) -> float:
    """Σ w[t] · -log softmax(logits)[t] / Σ w[t] over the rows, t a row's target.

    Parameters
    ----------
    logits : contiguous float32[N, C]; its gradient is written over it (unless `want_gradient` is
        False: then it stays as it is)
    targets : int32[N] below C; a row whose target is negative is left out, its gradient is zero
    weights : float32[C], 0 or more, the weight of each class; all 1 when None
    team : threads that share the rows; only the caller's without one

    The loss is 0 where every row is left out. Raises DataError where a target or a shape does not
    fit, SettingsError for weights that are negative or not finite.
    """
    _flat(logits)
    rows, columns = logits.shape
    classes = targets_of(targets, rows, columns)
    shares = shares_of(classes, weights, columns)
    losses = np.empty(rows, np.float64)
    row_losses(losses, logits, classes, shares.astype(np.float32), want_gradient, team)
    return float((losses * shares).sum())


class ProjectedCrossEntropy:
    """An output layer and its softmax cross-entropy, a few rows at a time.

    The logits of 1,024 positions over 100,000 words are 400 MB; here only those of as many rows
    as fit into `budget` bytes exist at once. Loss and gradients are those of `Dense` followed by
    `softmax_cross_entropy`, up to rounding. Blocks of rows depend on the sizes and the budget only.

    Parameters
    ----------
    budget : bytes for logits, allocated at the first call; at least one row is computed at a time.
        The threads are the dense layer's.
    """

    workspace: ClassVar[Any] = Workspace

    def __init__(self, budget: int = _BUDGET) -> None:
        self.budget = whole("budget", budget, 1, 1 << 62)
        self.lock: Any = Lock()
        self.space = self.workspace()
        self._dx: Any = None

    @locked
    def loss(
        self,
        x: npt.ArrayLike,
        dense: Dense,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        training: bool = True,
        share: float = 1.0,
    ) -> Any:
        """The loss of x float32[N, H], N >= 1, through `dense` (H inputs, C outputs).

        `targets` and `weights` as for softmax_cross_entropy; `share` multiplies the loss and its
        gradients, where the rows are a part of those of a mean. With `training` the gradients of
        dense's weight and bias are added to at once, and dx is kept for `backward`.
        """
        rows = dense.rows(x, dense.inputs, "the input")
        count, columns = len(rows), dense.outputs
        classes = targets_of(targets, count, columns)
        shares = shares_of(classes, weights, columns) * share
        losses, given, scales = self._row_arrays(classes, shares, training)
        dx: Any = dense.output("dx of the loss", *rows.shape) if training else None
        dense.prepare(backward=False)
        if training:
            dense.prepare(backward=True)
        step = self._step(count, columns)
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            logits = self.space.array("logits", part.stop - start, columns)
            dense.project(logits, rows[part])
            self._row_losses(losses[part], logits, given[part], scales[part], training, dense.team)
            if training:
                dense.project_back(dx[part], logits)
                dense.add_gradients(rows[part], logits)
        self._dx = dx
        return self._sum(losses, shares)

    def backward(self) -> Any:
        """dx float32[N, H], the gradient of the last loss with training=True."""
        dx = saved_by_forward(self._dx)
        self._dx = None
        return dx

    def _row_arrays(self, targets: Int32, shares: Float64, training: bool) -> tuple[Any, Any, Any]:
        """Memory for the losses of the rows, and their targets and shares, where they are used."""
        return np.empty(len(targets), np.float64), targets, shares.astype(np.float32)

    def _row_losses(self, *arguments: Any) -> None:
        row_losses(*arguments)

    def _sum(self, losses: Any, shares: Float64) -> Any:
        return float((losses * shares).sum())

    def _step(self, rows: int, columns: int) -> int:
        """Rows computed at a time: as many as fit, in blocks of nearly equal size."""
        most = max(1, self.budget // (4 * columns))
        parts = max(1, -(-rows // most))
        return max(1, -(-rows // parts))


def mean_squared_error(y: Float32, targets: npt.ArrayLike, want_gradient: bool = True) -> float:
    """The mean of (y - target)² over all elements of two float32 arrays of one shape.

    The gradient, 2 (y - target) / size, is written over y unless `want_gradient` is False. The
    loss of empty arrays is 0. Raises DataError where the shapes differ.
    """
    wanted = as_floats(targets, "targets")
    if wanted.shape != y.shape:
        raise DataError(f"targets are of shape {list(wanted.shape)}, expected {list(y.shape)}")
    if not y.size:
        return 0.0
    difference = np.subtract(y, wanted, out=y if want_gradient else None)
    loss = float(np.square(difference, dtype=np.float64).mean())
    if want_gradient:
        y *= np.float32(2 / y.size)
    return loss


def _flat(logits: Float32) -> Float32:
    """A one-dimensional view; DataError where the array has none."""
    if logits.ndim != 2 or logits.dtype != np.float32:
        raise DataError(
            f"logits are of shape {list(logits.shape)} and type {logits.dtype}, "
            "expected float32 [N, C]"
        )
    if not (logits.flags.c_contiguous and logits.flags.writeable and logits.shape[1]):
        raise DataError("logits must be contiguous, writable, and of one column or more")
    return logits.reshape(-1)


def targets_of(targets: npt.ArrayLike, rows: int, columns: int) -> Int32:
    """The targets of N = `rows` rows as int32[N], checked to be below `columns`."""
    classes = as_numbers(targets, columns, "the array of targets", least=-(2**31))
    if len(classes) != rows:
        raise DataError(f"{len(classes)} targets were given for {rows} rows")
    return classes


def shares_of(targets: Int32, weights: npt.ArrayLike | None, columns: int) -> Float64:
    """float64[N]: the weight of each row's loss in the mean; they sum to 1, or all are 0."""
    counted = targets >= 0
    if weights is None:
        shares = counted.astype(np.float64)
    else:
        classes = np.asarray(weights, np.float64)
        if classes.shape != (columns,):
            raise DataError(f"class weights are of shape {list(classes.shape)}, not [{columns}]")
        if not (np.isfinite(classes) & (classes >= 0)).all():
            raise SettingsError("class weights must be finite and 0 or more")
        shares = np.where(counted, classes[np.maximum(targets, 0)], 0)
    total = shares.sum()
    return shares / total if total else shares


def row_losses(
    losses: Float64,
    logits: Float32,
    targets: Int32,
    scales: Float32,
    gradient: bool,
    team: Team | None,
) -> None:
    flat = logits.reshape(-1)
    _share(
        team,
        logits,
        lambda first, last: cross_entropy_rows(
            losses, flat, targets, scales, gradient, first, last
        ),
    )


def _share(team: Team | None, logits: Float32, work: Callable[[int, int], None]) -> None:
    """work(first, last) on ranges that cover all rows of the logits."""
    team = team or Team(1)
    ranges = team.split(len(logits), -(-_LEAST // logits.shape[1]))
    team.run(lambda i: work(*ranges[i]), len(ranges))
