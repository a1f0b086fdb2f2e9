"""Self-attention, and the layers of a transformer encoder as BERT has them.

Post-norm (Vaswani et al. 2017; Devlin et al. 2019): y = LN(x + drop(W_o attention(x))), then
LN(y + drop(W_2 gelu(W_1 y))). Parameters have Hugging Face's names.

A batch is ragged: rows x [N, H] and offsets [B + 1], nothing is padded. Work is shared in two ways:
attention by pairs of a sequence and a head, everything else by blocks of rows, each of which passes
through all products, norms and activations between two attentions. No sum is shared, so neither
threads nor the batch change a bit of a sequence's result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.core.arrays import address_of
from fastseq.kernels.nn.attention import (
    attention_backward,
    attention_forward,
    attention_scratch,
)
from fastseq.kernels.nn.dropout import drop
from fastseq.kernels.nn.gelu import gelu_backward, gelu_forward
from fastseq.nn.arrays import Workspace, as_offsets, saved_by_forward
from fastseq.nn.layer import Composite, Layer, Parameters
from fastseq.nn.layers import GELU_FORMS, Dense, LayerNorm, limit_and_scale
from fastseq.nn.products import column_sums, multiply_rows, thread_space
from fastseq.seeds import mixed_key
from fastseq.settings import fraction, one_of, whole
from fastseq.threads import Team, locked
from fastseq.types import Float32, Int64

ROWS = 1024  # of a block, at most; with 96, packed weights are read so often that training takes
# 1.1 times as long (Ice Lake)
_SHARES = 8  # work items of attention for each thread
_OVERHEAD = 32  # rows whose scores cost as much as the start of a pair
_LEAST_ROWS = 8  # of a block
_INIT = "truncated_normal"

Work = Callable[[int, int], None]


@dataclass(frozen=True)
class AttentionBatch:
    """The sequences of a ragged batch as attention takes them.

    offsets  int64[B + 1]
    order    int64[B], longest first
    longest  rows of the longest one
    items    ranges of pairs (sequence, head) of similar cost
    """

    offsets: Int64
    order: Int64
    longest: int
    items: list[tuple[int, int]]

    @classmethod
    def of(cls, offsets: npt.ArrayLike, rows: int, heads: int, team: Team) -> AttentionBatch:
        """Raises DataError where a sequence is empty or the offsets do not fit the rows."""
        bounds = as_offsets(offsets, rows)
        lengths = np.diff(bounds)
        order = np.argsort(-lengths, kind="stable")
        pairs = heads * len(lengths)
        items = [(0, pairs)]
        if team.threads > 1:
            sorted_ = lengths[order].astype(np.float64)
            cost = np.cumsum(np.repeat(sorted_ * (sorted_ + _OVERHEAD), heads))
            count = min(pairs, _SHARES * team.threads)
            cuts = np.searchsorted(cost, cost[-1] * np.arange(1, count) / count) + 1
            edges = np.unique(np.concatenate([[0], cuts, [pairs]])).tolist()
            items = list(pairwise(edges))
        return cls(bounds, order, int(lengths.max()), items)


class _Projections(Dense):
    """Queries, keys and values [N, 3H] by one product with "query.weight", "key.weight" and
    "value.weight" [H, H]: one matrix [3H, H] where they are adjacent in memory (H a multiple of 4),
    else copied to one."""

    NAMES = ("query", "key", "value")

    _joint: Float32 | None = None  # a view of all three weights, and of their gradients
    _joint_gradient: Float32 | None = None

    def __init__(self, size: int, team: Team) -> None:
        super().__init__(size, 3 * size, init=_INIT, seed=None, team=team)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        H = self.inputs
        weights = {f"{name}.weight": (H, H) for name in self.NAMES}
        return {**weights, **{f"{name}.bias": (H,) for name in self.NAMES}}

    def initialise(self, rng: np.random.Generator) -> None:
        for name in self.NAMES:
            weight = self.values[f"{name}.weight"]
            weight[...] = self._draw(weight.shape, rng)
            self.values[f"{name}.bias"].fill(0)

    def bind(self, parameters: Parameters, prefix: str = "") -> None:
        super().bind(parameters, prefix)
        self._joint = _joint(self._all(self.values, "weight"))
        self._joint_gradient = _joint(self._all(self.grads, "weight"))

    @property
    def weight(self) -> Float32:
        if self._joint is not None:
            return self._joint
        return np.concatenate(self._all(self.values, "weight"))

    @property
    def bias(self) -> Float32:
        return np.concatenate(self._all(self.values, "bias"))

    def add_gradients(self, x: Any, dy: Any) -> None:
        if self._joint_gradient is not None:
            multiply_rows(self._joint_gradient, dy, x, self.team)
        else:
            whole_ = np.zeros((self.outputs, self.inputs), np.float32)
            multiply_rows(whole_, dy, x, self.team)
            for gradient, part in zip(
                self._all(self.grads, "weight"), _thirds(whole_), strict=True
            ):
                gradient += part
        for gradient, part in zip(
            self._all(self.grads, "bias"), _thirds(column_sums(dy, self.team)), strict=True
        ):
            gradient += part

    def _all(self, views: dict[str, Float32], what: str) -> list[Float32]:
        return [views[f"{name}.{what}"] for name in self.NAMES]


def _joint(parts: list[Float32]) -> Float32 | None:
    """One view of matrices that follow each other in memory, without a gap; else None."""
    first = parts[0]
    for number, part in enumerate(parts):
        if address_of(part) != address_of(first) + number * first.nbytes:
            return None
    rows, columns = first.shape
    return np.lib.stride_tricks.as_strided(first, (len(parts) * rows, columns))


def _thirds(array: Float32) -> list[Float32]:
    return np.split(array, 3)


@dataclass
class _Attended:
    """What attention's forward pass saved."""

    x: Float32
    qkv: Float32
    out: Float32
    lse: Float32
    sequences: AttentionBatch
    key: int


class Attends(Composite):
    """Base of the layers with attention.

    heads  of each
    team   threads that share a batch
    """

    heads: int
    team: Team

    def prepare_batch(self, offsets: Int64) -> None:
        """Send what passes over sequences of these offsets need to the device; on the CPU
        nothing."""

    def _sequences(self, offsets: npt.ArrayLike, rows: int) -> Any:
        """The sequences of a batch as `attend` takes them; see AttentionBatch.of."""
        return AttentionBatch.of(offsets, rows, self.heads, self.team)


class SelfAttention(Attends):
    """Multi-head self-attention, softmax(Q Kᵀ / √D) V for each head of D = H / heads columns.

    Parameters "query.weight" [H, H], "query.bias" [H], and the same of "key" and "value".

    Parameters
    ----------
    size : columns of x (H)
    heads : a divisor of H; SettingsError otherwise
    dropout : rate for attention probabilities, while training
    seed : of the initial values; None leaves zeros
    team : threads that share a batch; only the caller's without one
    space : memory of passes without training and of the backward pass, shared with other layers
    """

    _projections_type: ClassVar[Any] = _Projections

    def __init__(
        self,
        size: int,
        heads: int,
        *,
        dropout: float = 0.1,
        seed: int | None = 0,
        team: Team | None = None,
        space: Workspace | None = None,
    ) -> None:
        self.size = whole("size", size, 1)
        self.heads = whole("heads", heads, 1)
        if self.size % self.heads:
            raise SettingsError(f"{heads} heads do not divide a size of {size}")
        self.dropout = fraction("dropout", dropout)
        self.team = team or Team(1)
        self._shared = space or self.workspace()
        self._own = self.workspace()  # kept for the backward pass
        self._projections = self._projections_type(self.size, self.team, **self.of_parts())
        self._saved: _Attended | None = None
        self.parts = {"": self._projections}
        super().__init__(seed)

    @locked
    def forward(
        self, x: npt.ArrayLike, offsets: npt.ArrayLike, training: bool = True, key: int = 0
    ) -> Any:
        """y float32[N, H] of x float32[N, H], which is saved (not copied) for `backward`.

        offsets  int64[B + 1]: sequence b is x[offsets[b]:offsets[b + 1]]
        key      determines the dropped probabilities; a new one each step

        Raises DataError where a sequence is empty or the offsets do not fit x.
        """
        self.begin(training)
        rows = self.rows(x, self.size, "the input")
        sequences = self._sequences(offsets, len(rows))
        y = self.output("y", *rows.shape, reuse=training)
        self.prepare(backward=False)
        self.attend(y, rows, sequences, training, key, self.team, self._shared)
        return y

    @locked
    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx float32[N, H] of dy float32[N, H]; adds the gradients of the parameters."""
        saved = saved_by_forward(self._saved)
        gradients = self.rows(dy, self.size, "the gradient")
        if len(gradients) != len(saved.x):
            raise DataError(f"a gradient of {len(gradients)} rows, expected {len(saved.x)}")
        dx = self.output("dx", *saved.x.shape)
        self.prepare(backward=True)
        self.attend_back(dx, gradients, add=False)
        return dx

    def prepare(self, backward: bool) -> None:
        """Pack the weights as they are now for `attend`, or for `attend_back`."""
        self._projections.prepare(backward)

    def attend(
        self, out: Float32, x: Float32, sequences: AttentionBatch, training: bool, key: int,
        team: Team, space: Workspace,
    ) -> None:  # fmt: skip
        """Write out float32[N, H]; with `training` save what `attend_back` needs.

        team, space  threads, and memory of a pass without training
        """
        space = self._own if training else space
        qkv = space.array("qkv", len(x), 3 * self.size)
        lse = space.array("lse", len(x) if training else 0, self.heads)
        by_rows(team, len(x), lambda a, b: self._projections.project_rows(qkv[a:b], x[a:b]))
        settings = self._dropping(key, training)

        def work(first: int, last: int) -> None:
            size = attention_scratch(sequences.longest, self.size // self.heads)
            attention_forward(
                out, lse, qkv, sequences.offsets, sequences.order, self.heads, *settings,
                thread_space().array("attention", size), first, last,
            )  # fmt: skip

        _run(team, sequences.items, work)
        if training:
            self._saved = _Attended(x, qkv, out, lse, sequences, key)

    def attend_back(self, dx: Float32, dout: Float32, add: bool) -> None:
        """Write dx float32[N, H] of dout float32[N, H], or add it, and the parameters'."""
        saved = saved_by_forward(self._saved)
        self._saved = None
        sequences = saved.sequences
        dqkv = self._shared.array("dqkv", *saved.qkv.shape)
        settings = self._dropping(saved.key, training=True)

        def work(first: int, last: int) -> None:
            size = attention_scratch(sequences.longest, self.size // self.heads, backward=True)
            attention_backward(
                dqkv, dout, saved.out, saved.lse, saved.qkv, sequences.offsets, sequences.order,
                self.heads, *settings, thread_space().array("attention", size), first, last,
            )  # fmt: skip

        _run(self.team, sequences.items, work)
        self._projections.add_gradients(saved.x, dqkv)
        by_rows(
            self.team,
            len(dx),
            lambda a, b: self._projections.project_back_rows(dx[a:b], dqkv[a:b], add),
        )

    def _dropping(self, key: int, training: bool) -> tuple[Any, Any, Any]:
        rate = self.dropout if training else 0.0
        return np.uint64(mixed_key(key)), *limit_and_scale(rate)


@dataclass
class _Saved:
    """Arrays of a layer's forward pass: s1 and s2 are the inputs of the norms, moments their means
    and reciprocal deviations, z and g the input and output of the activation."""

    attended: Float32
    s1: Float32
    y1: Float32
    z: Float32
    g: Float32
    s2: Float32
    moments: Float32
    key: int


class TransformerLayer(Attends):
    """A layer of a transformer encoder: self-attention and feed-forward network, each with dropout,
    residual connection and layer normalisation after it (post-norm).

    Parameters have the names of Hugging Face's BertLayer: "attention.self.query.weight",
    "attention.output.dense.weight", "attention.output.LayerNorm.weight",
    "intermediate.dense.weight", "output.dense.weight", "output.LayerNorm.weight", ….

    Parameters
    ----------
    size : columns of x (H)
    heads : a divisor of H
    intermediate : columns of the feed-forward network (I)
    dropout : rate for the outputs of attention and feed-forward network, while training
    attention_dropout : rate for attention probabilities, while training
    activation : "gelu", "gelu_new" or "gelu_pytorch_tanh", see Gelu
    eps : of the norms
    seed : of the initial values; None leaves zeros
    team : threads that share a batch; only the caller's without one
    space : memory of passes without training and of the backward pass, shared with other layers
    """

    _attention_type: ClassVar[Any] = SelfAttention
    _dense_type: ClassVar[Any] = Dense
    _norm_type: ClassVar[Any] = LayerNorm

    def __init__(
        self,
        size: int,
        heads: int,
        intermediate: int,
        *,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation: str = "gelu",
        eps: float = 1e-12,
        seed: int | None = 0,
        team: Team | None = None,
        space: Workspace | None = None,
    ) -> None:
        self.size = whole("size", size, 1)
        self.intermediate = whole("intermediate", intermediate, 1)
        self.dropout = fraction("dropout", dropout)
        self._is_tanh = GELU_FORMS[one_of("the activation", activation, GELU_FORMS)]
        self.team = team or Team(1)
        self._shared = space or self.workspace()
        self._own = self.workspace()  # kept for the backward pass
        self._saved: _Saved | None = None
        made: dict[str, Any] = {"seed": None, "team": self.team, **self.of_parts()}
        dense, norm = self._dense_type, self._norm_type
        self.attention: SelfAttention = self._attention_type(
            self.size, heads, dropout=attention_dropout, space=self._shared, **made
        )
        self.heads = self.attention.heads
        self._out: Dense = dense(self.size, self.size, init=_INIT, **made)
        self._norm1: LayerNorm = norm(self.size, eps=eps, **made)
        self._up: Dense = dense(self.size, self.intermediate, init=_INIT, **made)
        self._down: Dense = dense(self.intermediate, self.size, init=_INIT, **made)
        self._norm2: LayerNorm = norm(self.size, eps=eps, **made)
        self.parts = {
            "attention.self": self.attention,
            "attention.output.dense": self._out,
            "attention.output.LayerNorm": self._norm1,
            "intermediate.dense": self._up,
            "output.dense": self._down,
            "output.LayerNorm": self._norm2,
        }
        super().__init__(seed)

    @locked
    def forward(
        self, x: npt.ArrayLike, offsets: npt.ArrayLike, training: bool = True, key: int = 0
    ) -> Any:
        """y float32[N, H] of x float32[N, H], which is saved (not copied) for `backward`.

        offsets  int64[B + 1]: sequence b is x[offsets[b]:offsets[b + 1]]
        key      determines what is dropped; a new one each step

        Raises DataError where a sequence is empty or the offsets do not fit x.
        """
        self.begin(training)
        rows = self.rows(x, self.size, "the input")
        sequences = self._sequences(offsets, len(rows))
        y = self.output("y", *rows.shape, reuse=training)
        self.prepare(backward=False)
        self.pass_forward(y, rows, sequences, training, key, self.team, self._shared)
        return y

    @locked
    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx float32[N, H] of dy float32[N, H]; adds the gradients of the parameters."""
        saved = saved_by_forward(self._saved)
        gradients = self.rows(dy, self.size, "the gradient")
        if len(gradients) != len(saved.s1):
            raise DataError(f"a gradient of {len(gradients)} rows, expected {len(saved.s1)}")
        dx = self.output("dx", *gradients.shape)
        self.prepare(backward=True)
        self.pass_backward(dx, gradients)
        return dx

    def prepare(self, backward: bool) -> None:
        """Pack the weights as they are now for `pass_forward`, or for `pass_backward`."""
        for dense in (self.attention._projections, self._out, self._up, self._down):
            dense.prepare(backward)

    def pass_forward(
        self, y: Float32, x: Float32, sequences: AttentionBatch, training: bool, key: int,
        team: Team, space: Workspace,
    ) -> None:  # fmt: skip
        """Write y float32[N, H]; with `training` save what `pass_backward` needs.

        team, space  threads, and memory of a pass without training
        """
        N, H, width = len(x), self.size, self.intermediate
        attended = (self._own if training else space).array("attended", N, H)
        self.attention.attend(attended, x, sequences, training, mixed_key(key, 0), team, space)
        dropping = training and self.dropout > 0
        kept = self._arrays(attended, key) if training else None
        none = np.empty(0, np.float32)

        def work(first: int, last: int) -> None:
            rows = slice(first, last)
            if kept is None:
                local, n = thread_space(), last - first
                s1, y1, s2 = (local.array(f"row {i}", n, H) for i in range(3))
                z = g = local.array("activations", n, width)
                mean1, rstd1, mean2, rstd2 = none, none, none, none
            else:
                s1, y1, s2, z, g = (a[rows] for a in (kept.s1, kept.y1, kept.s2, kept.z, kept.g))
                mean1, rstd1, mean2, rstd2 = kept.moments[:, rows]
            n = last - first
            self._out.project_rows(s1, attended[rows])
            if dropping and kept is not None:
                self._drop(kept.s1, kept.s1, mixed_key(key, 1), first, last)
            self._norm1.normalise(y1, mean1, rstd1, s1, x[rows], 0, n)
            self._up.project_rows(z, y1)
            gelu_forward(g.reshape(-1), z.reshape(-1), self._is_tanh, 0, n * width)
            self._down.project_rows(s2, g)
            if dropping and kept is not None:
                self._drop(kept.s2, kept.s2, mixed_key(key, 2), first, last)
            self._norm2.normalise(y[rows], mean2, rstd2, s2, y1, 0, n)

        by_rows(team, N, work)
        if kept is not None:
            self._saved = kept

    def pass_backward(self, dx: Float32, dy: Float32) -> None:
        """Write dx float32[N, H]; add the gradients of the parameters."""
        saved = saved_by_forward(self._saved)
        self._saved = None
        N, H, width = len(dy), self.size, self.intermediate
        shared = self._shared
        dy1, dz = shared.array("dy1", N, H), shared.array("dz", N, width)
        dattended = shared.array("dattended", N, H)
        # gradients of the products before the residual connection
        dout = shared.array("dout", N, H) if self.dropout else None
        mean1, rstd1, mean2, rstd2 = saved.moments
        flat_z, flat_dz = saved.z.reshape(-1), dz.reshape(-1)

        def feed_forward(first: int, last: int) -> None:
            self._norm2.normalise_back(dy1, dy, saved.s2, mean2, rstd2, first, last)
            given = dy1
            if dout is not None:
                self._drop(dout, dy1, mixed_key(saved.key, 2), first, last)
                given = dout
            self._down.project_back_rows(dz[first:last], given[first:last])
            gelu_backward(flat_dz, flat_dz, flat_z, self._is_tanh, first * width, last * width)

        by_rows(self.team, N, feed_forward)
        self._norm2.add_gradients(dy, saved.s2, mean2, rstd2)
        self._down.add_gradients(saved.g, dy1 if dout is None else dout)
        self._up.add_gradients(saved.y1, dz)

        def projection(first: int, last: int) -> None:
            self._up.project_back_rows(dy1[first:last], dz[first:last], add=True)
            self._norm1.normalise_back(dx, dy1, saved.s1, mean1, rstd1, first, last)
            given = dx
            if dout is not None:
                self._drop(dout, dx, mixed_key(saved.key, 1), first, last)
                given = dout
            self._out.project_back_rows(dattended[first:last], given[first:last])

        by_rows(self.team, N, projection)
        self._norm1.add_gradients(dy1, saved.s1, mean1, rstd1)
        self._out.add_gradients(saved.attended, dx if dout is None else dout)
        self.attention.attend_back(dx, dattended, add=True)

    def _arrays(self, attended: Float32, key: int) -> _Saved:
        N, H = attended.shape
        own, width = self._own, self.intermediate
        s1, y1, s2 = (own.array(name, N, H) for name in ("s1", "y1", "s2"))
        z, g = (own.array(name, N, width) for name in ("z", "g"))
        return _Saved(attended, s1, y1, z, g, s2, own.array("moments", 4, N), key)

    def _drop(self, out: Float32, x: Float32, key: int, first: int, last: int) -> None:
        H = self.size
        drop(
            out.reshape(-1), x.reshape(-1), np.uint64(key), *limit_and_scale(self.dropout),
            first * H, last * H,
        )  # fmt: skip


class TransformerEncoder(Attends):
    """Several transformer layers, with parameters "layer.0.attention.self.query.weight", ….

    Parameters
    ----------
    layers : their number, 1 or more
    others : as of TransformerLayer
    """

    _layer_type: ClassVar[Any] = TransformerLayer

    def __init__(
        self,
        layers: int,
        size: int,
        heads: int,
        intermediate: int,
        *,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation: str = "gelu",
        eps: float = 1e-12,
        seed: int | None = 0,
        team: Team | None = None,
    ) -> None:
        self.size = whole("size", size, 1)
        self.team = team or Team(1)
        self._space = self.workspace()
        self._rows = 0
        self.layers: list[TransformerLayer] = [
            self._layer_type(
                size, heads, intermediate, dropout=dropout, attention_dropout=attention_dropout,
                activation=activation, eps=eps, seed=None, team=self.team, space=self._space,
                **self.of_parts(),
            )
            for _ in range(whole("layers", layers, 1))
        ]  # fmt: skip
        self.heads = self.layers[0].heads
        self.parts: dict[str, Layer] = {
            f"layer.{number}": layer for number, layer in enumerate(self.layers)
        }
        super().__init__(seed)

    @locked
    def forward(
        self, x: npt.ArrayLike, offsets: npt.ArrayLike, training: bool = True, key: int = 0
    ) -> Any:
        """y float32[N, H] of x float32[N, H]; arguments as of TransformerLayer.forward."""
        self.begin(training)
        rows = self.rows(x, self.size, "the input")
        sequences = self._sequences(offsets, len(rows))
        out = self.output("y", *rows.shape, reuse=training)
        for layer in self.layers:
            layer.prepare(backward=False)
        for number, layer in enumerate(self.layers):
            y = out
            if number < len(self.layers) - 1:
                y = self._space.array(
                    ("y", training, number if training else number % 2), *out.shape
                )
            layer.pass_forward(
                y, rows, sequences, training, mixed_key(key, number), self.team, self._space
            )
            rows = y
        if training:
            self._rows = len(rows)
        return out

    @locked
    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx float32[N, H] of dy float32[N, H]; adds the gradients of the parameters."""
        gradients = self.rows(dy, self.size, "the gradient")
        rows, self._rows = self._rows, 0
        saved_by_forward(rows or None)
        if len(gradients) != rows:
            raise DataError(f"a gradient of {len(gradients)} rows, expected {rows}")
        out = self.output("dx", *gradients.shape)
        for layer in self.layers:
            layer.prepare(backward=True)
        for number, layer in reversed(list(enumerate(self.layers))):
            dx = out if number == 0 else self._space.array(("dx", number % 2), *out.shape)
            layer.pass_backward(dx, gradients)
            gradients = dx
        return out


def by_rows(team: Team, rows: int, work: Work) -> None:
    """work(first, last) on blocks of at most ROWS rows, of nearly equal size, on a team: as many
    for each thread."""
    rounds = max(1, -(-rows // (ROWS * team.threads)))
    blocks = max(1, min(rounds * team.threads, rows // _LEAST_ROWS))
    step = max(1, -(-rows // blocks))
    _run(team, [(start, min(rows, start + step)) for start in range(0, rows, step)], work)


def _run(team: Team, ranges: list[tuple[int, int]], work: Work) -> None:
    team.run(lambda i: work(*ranges[i]), len(ranges))
