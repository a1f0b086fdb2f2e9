"""Dense: a fully connected layer, whose weight may be an embedding's table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.nn.pooling import segment_sums
from fastseq.nn.checks import as_rows, kept_by_forward
from fastseq.nn.embedding import Embedding
from fastseq.nn.initialisers import initialiser
from fastseq.nn.layer import Layer
from fastseq.nn.products import Panels, multiply_panels, multiply_rows
from fastseq.settings import whole
from fastseq.threads import Team, locked
from fastseq.types import Float32

_LEAST = 1 << 17  # floats read that are worth a thread


class Dense(Layer):
    """y = x · weightᵀ + bias.

    Parameters "weight" [outputs, inputs] and "bias" [outputs], as PyTorch's Linear. The bias starts
    at zero.

    Parameters
    ----------
    inputs, outputs : columns of x (K) and of y (M), both 1 or more
    bias : whether there is one
    weight_of : an Embedding of `outputs` words by `inputs`, whose table is the weight (Press and
        Wolf 2017): it is then no parameter of this layer, and its gradient is added to the
        embedding's, unless that is frozen
    init : the name in nn.initialisers that the weight is drawn by
    seed : of the initial values
    team : threads to share large batches; the caller alone without one

    The weight is packed for the products (nn/products.py) once a pass; the room for that, twice
    the weight's size, is kept.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        weight_of: Embedding | None = None,
        init: str = "xavier_uniform",
        seed: int = 0,
        team: Team | None = None,
    ) -> None:
        self._draw = initialiser(init)
        self.inputs = whole("inputs", inputs, 1)
        self.outputs = whole("outputs", outputs, 1)
        if weight_of is not None and (weight_of.words, weight_of.size) != (outputs, inputs):
            raise SettingsError(
                f"an embedding of {weight_of.words} words by {weight_of.size} cannot be the weight "
                f"of a layer with {inputs} inputs and {outputs} outputs"
            )
        self.has_bias = bias
        self.weight_of = weight_of
        self.team = team or Team(1)
        self._x: Float32 | None = None
        self._panels: Panels | None = None  # of weightᵀ, for y
        self._back_panels: Panels | None = None  # of the weight, for dx
        super().__init__(seed)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        own: dict[str, tuple[int, ...]] = {}
        if self.weight_of is None:
            own["weight"] = (self.outputs, self.inputs)
        if self.has_bias:
            own["bias"] = (self.outputs,)
        return own

    def initialise(self, rng: np.random.Generator) -> None:
        if self.weight_of is None:
            weight = self.values["weight"]
            weight[...] = self._draw(weight.shape, rng)
        if self.has_bias:
            self.values["bias"].fill(0)

    @property
    def weight(self) -> Float32:
        """float32[M, K]: this layer's own or the embedding's."""
        return (self.weight_of or self).values["weight"]

    @property
    def bias(self) -> Float32 | None:
        """float32[M], or None for a layer without."""
        return self.values.get("bias")

    @locked
    def forward(self, x: npt.ArrayLike, training: bool = True) -> Float32:
        """y float32[N, M] of x float32[N, K], which is kept (not copied) for `backward`."""
        rows = as_rows(x, self.inputs, "the input")
        if training:
            self._x = rows
        y = np.empty((len(rows), self.outputs), np.float32)
        self.prepare(backward=False)
        self.project(y, rows)
        return y

    @locked
    def backward(self, dy: npt.ArrayLike) -> Float32:
        """dx float32[N, K] of dy float32[N, M]; adds the gradients of weight and bias."""
        x = kept_by_forward(self._x)
        self._x = None
        gradients = as_rows(dy, self.outputs, "the gradient")
        if len(gradients) != len(x):
            raise DataError(f"a gradient of {len(gradients)} rows, expected {len(x)}")
        self.add_gradients(x, gradients)
        dx = np.empty_like(x)
        self.prepare(backward=True)
        self.project_back(dx, gradients)
        return dx

    def prepare(self, backward: bool) -> None:
        """Pack the weight as it is now for `project`, or for `project_back`."""
        if backward:
            self._back_panels = self._back_panels or Panels(self.outputs, self.inputs)
            self._back_panels.pack(self.weight, self.team)
        else:
            self._panels = self._panels or Panels(self.inputs, self.outputs)
            self._panels.pack(self.weight, self.team, transposed=True)

    def project(self, y: Float32, x: Float32) -> None:
        """y float32[N, M] = x float32[N, K] · weightᵀ + bias, with the weight last prepared."""
        multiply_panels(y, x, kept_by_forward(self._panels), self.team, self.bias)

    def project_back(self, dx: Float32, dy: Float32) -> None:
        """dx float32[N, K] = dy float32[N, M] · weight, with the weight last prepared."""
        multiply_panels(dx, dy, kept_by_forward(self._back_panels), self.team)

    def add_gradients(self, x: Float32, dy: Float32) -> None:
        """Add what rows x float32[N, K] and dy float32[N, M] give to the parameters' gradients."""
        if self.weight_of is None or not self.weight_of.frozen:
            multiply_rows((self.weight_of or self).grads["weight"], dy, x, self.team)
        if self.has_bias and len(dy):
            self.grads["bias"] += column_sums(dy, self.team)


def column_sums(a: Float32, team: Team) -> Float32:
    """float32[M], the sums over the rows of a contiguous float32[N, M], N >= 1, in their order."""
    rows, columns = a.shape
    out = np.empty(columns, np.float32)
    flat, ones, all_rows = a.reshape(-1), np.ones(rows, np.float32), np.array([0, rows], np.int64)

    def part(i: int) -> None:
        segment_sums(out, flat, ones, all_rows, *ranges[i])

    ranges = team.split(columns, max(16, -(-_LEAST // rows)), 16)
    team.run(part, len(ranges))
    return out
