"""Embedding, dense and dropout layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.nn.dropout import drop
from fastseq.kernels.nn.gelu import gelu_backward, gelu_forward
from fastseq.kernels.nn.layer_norm import (
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_gradients,
)
from fastseq.kernels.nn.rows import distinct, gather, scatter_add
from fastseq.kernels.simd import gemm
from fastseq.nn.arrays import as_floats, as_numbers, saved_by_forward
from fastseq.nn.initialisers import initialiser, normal
from fastseq.nn.layer import Layer
from fastseq.nn.products import (
    Panels,
    column_sums,
    multiply_panels,
    multiply_rows,
    padded_bias,
    scratch,
)
from fastseq.settings import fraction, one_of, real, whole
from fastseq.threads import Team, locked
from fastseq.types import Float32, Int32, Int64

_LEAST_MOVED = 1 << 16  # floats moved that are worth a thread
_LINE = 16  # floats of a cache line: no two threads write to one
_LEAST_DROPPED = 1 << 18  # elements that are worth a thread
_64_BITS = (1 << 64) - 1


class Embedding(Layer):
    """Rows of a table by number.

    Parameter "weight" [words, size], as in PyTorch. Initial values are normal with standard
    deviation `scale`. The default of 0.1 is small compared with what training adds, so that rare
    words do not stay noise (as with PyTorch's 1.0), and where an output layer shares the table the
    first logits are nearly uniform; it is large enough for a recurrent layer to learn from the
    first step.

    Parameters
    ----------
    words, size : rows of the table (V) and their length (E), both 1 or more
    frozen : not trained: `backward` adds no gradient
    scale : standard deviation of the initial values
    seed : of the initial values; None leaves zeros
    team : threads that share large batches; only the caller's without one
    """

    def __init__(
        self,
        words: int,
        size: int,
        *,
        frozen: bool = False,
        scale: float = 0.1,
        seed: int | None = 0,
        team: Team | None = None,
    ) -> None:
        self.words = whole("words", words, 1)
        self.size = whole("size", size, 1)
        self.frozen = frozen
        self.scale = scale
        self.team = team or Team(1)
        self._ids: Int32 | None = None
        self._places: Int32 = np.full(words, -1, np.int32)
        super().__init__(seed)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.words, self.size)}

    def initialise(self, rng: np.random.Generator) -> None:
        weight = self.values["weight"]
        weight[...] = normal(weight.shape, rng, self.scale)

    def load_rows(self, rows: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        """Set the rows of the given numbers (int[n], in 0..V - 1) to vectors float32[n, E].

        Raises DataError where a number or the shape does not fit.
        """
        numbers = as_numbers(rows, self.words, "the numbers of rows")
        given = as_floats(vectors, "the array of vectors")
        expected = (len(numbers), self.size)
        if given.shape != expected:
            raise DataError(f"vectors are of shape {list(given.shape)}, expected {list(expected)}")
        self.values["weight"][numbers] = given

    def prepare(self, ids: Int32, distinct: bool) -> Int64 | None:
        """Send what passes over these ids need to the device, with `distinct` for
        `forward_distinct` (the index is returned); on the CPU nothing."""
        return None

    def forward(self, ids: npt.ArrayLike, training: bool = True) -> Any:
        """float32[N, E], the rows of ids int32[N]; DataError where an id is not in 0..V - 1."""
        self.begin(training)
        numbers = as_numbers(ids, self.words, "the array of ids")
        out = self.output("y", len(numbers), self.size, reuse=training)
        self._gather(out, numbers)
        if training:
            self._ids = numbers
        return out

    @locked
    def forward_distinct(self, ids: npt.ArrayLike, training: bool = True) -> tuple[Any, Int64]:
        """The rows of the distinct ids of int32[N], float32[U, E], and each id's row, int64[N]: the
        input and index of a recurrent layer. `backward` then takes dy float32[U, E].

        Raises DataError where an id is not in 0..V - 1.
        """
        unique, index = self._distinct(as_numbers(ids, self.words, "the array of ids"))
        return self.forward(unique, training), index

    def backward(self, dy: npt.ArrayLike) -> None:
        """Add dy float32[N, E] to the gradient of the rows that `forward` returned."""
        numbers = saved_by_forward(self._ids)
        self._ids = None
        given = self.rows(dy, self.size, "the gradient")
        if len(given) != len(numbers):
            raise DataError(f"a gradient of {len(given)} rows, expected {len(numbers)}")
        self.add_gradients(given, numbers)

    def add_gradients(self, dy: Any, ids: Int32) -> None:
        """Add dy float32[N, E] to the gradients of the rows of `ids`; nothing where frozen."""
        if not self.frozen and len(ids):
            self._add_rows(dy, ids)

    def _gather(self, out: Any, ids: Int32) -> None:
        target, table = out.reshape(-1), self.values["weight"].reshape(-1)
        ranges = self.team.split(len(ids), -(-_LEAST_MOVED // self.size), _LINE)
        self.team.run(lambda i: gather(target, table, ids, *ranges[i]), len(ranges))

    def _distinct(self, ids: Int32) -> tuple[Int32, Int64]:
        unique, index = np.empty_like(ids), np.empty(len(ids), np.int64)
        count = distinct(unique, index, self._places, ids)
        return unique[:count], index

    def _add_rows(self, dy: Any, ids: Int32) -> None:
        """Threads share the columns, so every sum is taken in the order of the ids."""
        source, target = dy.reshape(-1), self.grads["weight"].reshape(-1)
        least = max(2 * _LINE, -(-_LEAST_MOVED // len(ids)))
        ranges = self.team.split(self.size, least, _LINE)
        self.team.run(lambda i: scatter_add(target, source, ids, *ranges[i]), len(ranges))


class Dense(Layer):
    """y = x · weightᵀ + bias.

    Parameters "weight" [outputs, inputs] and "bias" [outputs], as PyTorch's Linear. The bias starts
    at zero.

    Parameters
    ----------
    inputs, outputs : columns of x (K) and of y (M), both 1 or more
    bias : whether the layer has one
    weight_of : an Embedding of `outputs` words by `inputs`, whose table is the weight (Press and
        Wolf 2017): the layer then has no weight of its own, and adds to the embedding's gradient
        unless that is frozen
    init : name of the weight's initialiser in nn.initialisers
    seed : of the initial values; None leaves zeros
    team : threads that share large batches; only the caller's without one

    The weight is packed for the products (nn/products.py) once a pass, in memory of twice its size.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        weight_of: Embedding | None = None,
        init: str = "xavier_uniform",
        seed: int | None = 0,
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
        """float32[M, K]: the layer's own or the embedding's."""
        return (self.weight_of or self).values["weight"]

    @property
    def bias(self) -> Float32 | None:
        """float32[M], or None for a layer without."""
        return self.values.get("bias")

    @locked
    def forward(self, x: npt.ArrayLike, training: bool = True) -> Any:
        """y float32[N, M] of x float32[N, K], which is saved (not copied) for `backward`."""
        rows = self.rows(x, self.inputs, "the input")
        if training:
            self._x = rows
        y = self.output("y", len(rows), self.outputs, reuse=training)
        self.prepare(backward=False)
        self.project(y, rows)
        return y

    @locked
    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx float32[N, K] of dy float32[N, M]; adds the gradients of weight and bias."""
        x = saved_by_forward(self._x)
        self._x = None
        gradients = self.rows(dy, self.outputs, "the gradient")
        if len(gradients) != len(x):
            raise DataError(f"a gradient of {len(gradients)} rows, expected {len(x)}")
        self.add_gradients(x, gradients)
        dx = self.output("dx", *x.shape)
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

    def project(self, y: Any, x: Any) -> None:
        """y float32[N, M] = x float32[N, K] · weightᵀ + bias, with the weight last prepared."""
        multiply_panels(y, x, saved_by_forward(self._panels), self.team, self.bias)

    def project_back(self, dx: Any, dy: Any) -> None:
        """dx float32[N, K] = dy float32[N, M] · weight, with the weight last prepared."""
        multiply_panels(dx, dy, saved_by_forward(self._back_panels), self.team)

    def project_rows(self, y: Float32, x: Float32) -> None:
        """`project` on the calling thread, for layers that share rows themselves."""
        panels = saved_by_forward(self._panels)
        start = padded_bias(self.bias, self.outputs)
        gemm.multiply_panels(y, x, panels.data, start, False, scratch(), 0, len(x))

    def project_back_rows(self, dx: Float32, dy: Float32, add: bool = False) -> None:
        """`project_back` on the calling thread, added to dx when `add`."""
        panels = saved_by_forward(self._back_panels)
        start = padded_bias(None, self.inputs)
        gemm.multiply_panels(dx, dy, panels.data, start, add, scratch(), 0, len(dy))

    def add_gradients(self, x: Any, dy: Any) -> None:
        """Add the parameters' gradients for rows x float32[N, K] and dy float32[N, M]."""
        if self.weight_of is None or not self.weight_of.frozen:
            multiply_rows((self.weight_of or self).grads["weight"], dy, x, self.team)
        if self.has_bias and len(dy):
            self.grads["bias"] += column_sums(dy, self.team)


class LayerNorm(Layer):
    """Layer normalisation, y = (x - mean) / √(variance + eps) · weight + bias over each row.

    Ba, Kiros and Hinton 2016. Parameters "weight" [size], ones at first, and "bias" [size], as in
    PyTorch.

    Parameters
    ----------
    size : columns of x (H)
    eps : above 0
    seed : None leaves zeros
    team : threads that share large batches; only the caller's without one
    """

    def __init__(
        self, size: int, *, eps: float = 1e-12, seed: int | None = 0, team: Team | None = None
    ) -> None:
        self.size = whole("size", size, 1)
        self.eps = real("eps", eps, lambda value: 0 < value < 1, "above 0 and below 1")
        self.team = team or Team(1)
        self._saved: tuple[Float32, Float32, Float32] | None = None
        super().__init__(seed)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.size,), "bias": (self.size,)}

    def initialise(self, rng: np.random.Generator) -> None:
        self.values["weight"].fill(1)
        self.values["bias"].fill(0)

    def forward(self, x: npt.ArrayLike, training: bool = True) -> Any:
        """y float32[N, H] of x float32[N, H], which is saved (not copied) for `backward`."""
        rows = self.rows(x, self.size, "the input")
        y = self.output("y", *rows.shape, reuse=training)
        saved = self._normalise_all(y, rows, training)
        if training:
            self._saved = saved
        return y

    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx float32[N, H] of dy float32[N, H]; adds the gradients of weight and bias."""
        saved = saved_by_forward(self._saved)
        self._saved = None
        gradients = self.rows(dy, self.size, "the gradient")
        if len(gradients) != len(saved[0]):
            raise DataError(f"a gradient of {len(gradients)} rows, expected {len(saved[0])}")
        self.add_gradients(gradients, *saved)
        dx = self.output("dx", *gradients.shape)
        self._normalise_all_back(dx, gradients, saved)
        return dx

    def _normalise_all(self, y: Any, x: Any, training: bool) -> tuple[Any, Any, Any]:
        """Write y; returns x, means and reciprocal deviations of the rows."""
        mean, rstd = np.empty((2, len(x) if training else 0), np.float32)
        ranges = self.team.split(len(x), -(-_LEAST_MOVED // self.size))
        none = x[:0]
        self.team.run(lambda i: self.normalise(y, mean, rstd, x, none, *ranges[i]), len(ranges))
        return x, mean, rstd

    def _normalise_all_back(self, dx: Any, dy: Any, saved: tuple[Any, Any, Any]) -> None:
        ranges = self.team.split(len(dy), -(-_LEAST_MOVED // self.size))
        self.team.run(lambda i: self.normalise_back(dx, dy, *saved, *ranges[i]), len(ranges))

    def normalise(
        self, y: Float32, mean: Float32, rstd: Float32, x: Float32, residual: Float32, first: int,
        last: int,
    ) -> None:  # fmt: skip
        """The kernel for rows [first, last), on the calling thread; x becomes x + residual."""
        gamma, beta = self.values["weight"], self.values["bias"]
        layer_norm_forward(y, mean, rstd, x, residual, gamma, beta, self.eps, first, last)

    def normalise_back(
        self, dx: Float32, dy: Float32, x: Float32, mean: Float32, rstd: Float32, first: int,
        last: int,
    ) -> None:  # fmt: skip
        """The kernel of the backward pass for rows [first, last), on the calling thread."""
        layer_norm_backward(dx, dy, x, mean, rstd, self.values["weight"], first, last)

    def add_gradients(self, dy: Float32, x: Float32, mean: Float32, rstd: Float32) -> None:
        """Add the parameters' gradients, with what `normalise` stored."""
        dgamma, dbeta = self.grads["weight"], self.grads["bias"]
        least = max(2 * _LINE, -(-_LEAST_MOVED // max(1, len(x))))
        ranges = self.team.split(self.size, least, _LINE)
        self.team.run(
            lambda i: layer_norm_gradients(dgamma, dbeta, dy, x, mean, rstd, *ranges[i]),
            len(ranges),
        )


GELU_FORMS = {"gelu": False, "gelu_new": True, "gelu_pytorch_tanh": True}


class Gelu(Layer):
    """The Gaussian error linear unit, x Φ(x) (Hendrycks and Gimpel 2016).

    Parameters
    ----------
    form : "gelu", by the error function; "gelu_new" or "gelu_pytorch_tanh", the approximation by
        tanh: Hugging Face's names. SettingsError for another.
    team : threads that share large arrays; only the caller's without one
    """

    def __init__(self, form: str = "gelu", team: Team | None = None) -> None:
        self.is_tanh = GELU_FORMS[one_of("the activation", form, GELU_FORMS)]
        self.team = team or Team(1)
        self._x: Float32 | None = None
        super().__init__()

    def forward(self, x: npt.ArrayLike, training: bool = True) -> Any:
        """The output, of x's shape; x is saved (not copied) for `backward`."""
        given = self.floats(x, "the input")
        y = self.output("y", *given.shape, reuse=training)
        self._activate(y, given)
        if training:
            self._x = given
        return y

    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx, of dy's shape."""
        x = saved_by_forward(self._x)
        self._x = None
        gradients = self.floats(dy, "the gradient")
        if gradients.shape != x.shape:
            raise DataError(
                f"a gradient of shape {list(gradients.shape)}, expected {list(x.shape)}"
            )
        dx = self.output("dx", *x.shape)
        self._activate_back(dx, gradients, x)
        return dx

    def _activate(self, y: Any, x: Any) -> None:
        out, flat = y.reshape(-1), x.reshape(-1)
        self._run(flat, lambda a, b: gelu_forward(out, flat, self.is_tanh, a, b))

    def _activate_back(self, dx: Any, dy: Any, x: Any) -> None:
        out, given, flat = dx.reshape(-1), dy.reshape(-1), x.reshape(-1)
        self._run(flat, lambda a, b: gelu_backward(out, given, flat, self.is_tanh, a, b))

    def _run(self, flat: Float32, work: Any) -> None:
        ranges = self.team.split(len(flat), _LEAST_MOVED, _LINE)
        self.team.run(lambda i: work(*ranges[i]), len(ranges))


class Dropout(Layer):
    """Each element becomes 0 with probability `rate`, else x / (1 - rate), while training.

    Srivastava et al. 2014, in the inverted form: prediction is the identity. Which elements are
    dropped depends only on `key` and their number (a hash), so it is the same on any number of
    threads and on any processor, and only the key is stored for the backward pass.

    Parameters
    ----------
    rate : 0 <= rate < 1
        SettingsError otherwise.
    team : threads that share large arrays; only the caller's without one
    """

    def __init__(self, rate: float, team: Team | None = None) -> None:
        self.rate = fraction("rate", rate)
        self.team = team or Team(1)
        self._key: int | None = None
        super().__init__()

    def forward(self, x: Any, training: bool = True, key: int = 0, out: Any = None) -> Any:
        """The output, of x's shape: written to `out` (which may be x) when given.

        x is contiguous float32. `key` must differ from step to step and layer to layer: see
        `mixed_key`. At rate 0 or without training this is x itself, not a copy.
        """
        if training:
            self._key = key
        if not training or not self.rate:
            return x
        out = self.output("y", *x.shape) if out is None else out
        self._drop(out, x, key)
        return out

    def backward(self, dy: Any, out: Any = None) -> Any:
        """dx, of dy's shape: written to `out` (which may be dy) when given."""
        key = saved_by_forward(self._key)
        self._key = None
        if not self.rate:
            return dy
        out = self.output("dx", *dy.shape) if out is None else out
        self._drop(out, dy, key)
        return out

    def _drop(self, out: Any, x: Any, key: int) -> None:
        dropped(out, x, self.rate, key, self.team)


def dropped(out: Float32, x: Float32, rate: float, key: int, team: Team | None = None) -> None:
    """out = x / (1 - rate) where the key's mask keeps the element, else 0.

    out, x : contiguous float32 arrays of one shape, which may be the same array
    key : any whole number; its low 64 bits count
    """
    settings = np.uint64(key & _64_BITS), *limit_and_scale(rate)
    target, source = out.reshape(-1), x.reshape(-1)
    team = team or Team(1)
    ranges = team.split(source.size, _LEAST_DROPPED, 16)
    team.run(lambda i: drop(target, source, *settings, *ranges[i]), len(ranges))


def limit_and_scale(rate: float) -> tuple[np.int32, np.float32]:
    """For the kernels: the smallest hash of a kept element, and 1 / (1 - rate)."""
    limit = np.int32(min(round(rate * 2**32), 2**32 - 1) - 2**31)
    return limit, np.float32(1 / (1 - rate))
