"""Attention and transformer layers on the device; see nn/transformer.py."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError
from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.nn.activations import gelu_backward, gelu_forward
from fastseq.kernels.cuda.nn.attention import (
    attention_backward,
    attention_forward,
    tile_of,
    tiles_of,
)
from fastseq.kernels.cuda.nn.layer_norm import Dropping, layer_norm_backward, layer_norm_forward
from fastseq.nn import transformer
from fastseq.nn.arrays import as_offsets, saved_by_forward
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.nn.cuda.layers import Dense, LayerNorm
from fastseq.nn.layer import Parameters
from fastseq.nn.layers import limit_and_scale
from fastseq.seeds import mixed_key
from fastseq.types import Int64


class Tiles(NamedTuple):
    """The tiles of a batch for attention: int32[·, 3] on the device, and their rows."""

    items: Any
    rows: int


class Attends(DeviceLayer, transformer.Attends):
    """As nn.transformer.Attends: offsets from the host."""

    size: int

    def prepare_batch(self, offsets: Int64) -> None:
        self._sequences(offsets, int(offsets[-1]))

    def _sequences(self, offsets: npt.ArrayLike, rows: int) -> Tiles:
        bounds, tile = as_offsets(offsets, rows), tile_of(self.size // self.heads)

        def make() -> Tiles:
            return Tiles(self.feed.send(tiles_of(bounds, tile), np.int32), tile)

        return self.feed.made(("tiles", tile), (bounds,), make)


class _Part(NamedTuple):
    """Columns [first, last) of the projections, with their parameters and gradients."""

    first: int
    last: int
    weight: Any
    bias: Any
    dweight: Any
    dbias: Any


class _Projections(Dense, transformer._Projections):
    """As nn.transformer._Projections: one product where the weights are adjacent, else three."""

    _parts: list[_Part]

    def bind(self, parameters: Parameters, prefix: str = "") -> None:
        super().bind(parameters, prefix)
        H, dot = self.inputs, f"{prefix}." if prefix else ""
        starts = {
            what: [parameters.starts[f"{dot}{name}.{what}"] for name in self.NAMES]
            for what in ("weight", "bias")
        }
        if all(
            (np.diff(starts[what]) == size).all() for what, size in (("weight", H * H), ("bias", H))
        ):
            buffers = self.parameters_of.values, self.parameters_of.gradients
            weight, bias = starts["weight"][0], starts["bias"][0]
            (w, b), (dw, db) = (
                (buffer[weight : weight + 3 * H * H].reshape(3 * H, H), buffer[bias : bias + 3 * H])
                for buffer in buffers
            )
            self._parts = [_Part(0, 3 * H, w, b, dw, db)]
            return
        self._parts = [
            _Part(
                n * H, (n + 1) * H,
                *(views[f"{name}.{what}"] for views in (self.on_device, self.grads_on_device)
                  for what in ("weight", "bias")),
            )
            for n, name in enumerate(self.NAMES)
        ]  # fmt: skip

    def project(self, y: Any, x: Any) -> None:
        for part in self._parts:
            gemm.multiply(
                gemm.window(y, part.first, part.last), x, part.weight, transpose_b=True,
                bias=part.bias, precision=self.precision,
            )  # fmt: skip

    def project_back(self, dx: Any, dy: Any, add: bool = False) -> None:
        for part in self._parts:
            gemm.multiply(
                dx, gemm.window(dy, part.first, part.last), part.weight, add=add or part.first > 0,
                precision=self.precision,
            )  # fmt: skip

    def add_gradients(self, x: Any, dy: Any) -> None:
        for part in self._parts:
            of_part = gemm.window(dy, part.first, part.last)
            gemm.multiply(
                part.dweight, of_part, x, transpose_a=True, add=True, precision=self.precision
            )
            row_kernels.column_sums(part.dbias, of_part)


class SelfAttention(Attends, transformer.SelfAttention):
    """As nn.transformer.SelfAttention. Raises SettingsError where a head is too wide for the GPU's
    shared memory."""

    _projections_type: ClassVar[Any] = _Projections

    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        if not tile_of(self.size // self.heads):
            raise SettingsError(
                f"heads of {self.size // self.heads} columns are too wide for this GPU"
            )

    def attend(
        self, out: Any, x: Any, sequences: Any, training: bool, key: int, team: Any, space: Any
    ) -> None:
        space = self._own if training else space
        qkv = space.array("qkv", len(x), 3 * self.size)
        lse: Any = space.array("lse", len(x), self.heads) if training else None
        self._projections.project(qkv, x)
        attention_forward(out, lse, qkv, *self._settings(sequences, key, training))
        if training:
            self._saved = transformer._Attended(x, qkv, out, lse, sequences, key)

    def attend_back(self, dx: Any, dout: Any, add: bool) -> None:
        saved: Any = saved_by_forward(self._saved)
        self._saved = None
        dqkv = self._shared.array("dqkv", *saved.qkv.shape)
        settings = self._settings(saved.sequences, saved.key, training=True)
        attention_backward(dqkv, dout, saved.out, saved.lse, saved.qkv, *settings)
        projections: Any = self._projections
        projections.add_gradients(saved.x, dqkv)
        projections.project_back(dx, dqkv, add)

    def _settings(self, tiles: Tiles, key: int, training: bool) -> tuple[Any, ...]:
        dropping = dropping_of(self.dropout if training else 0.0, mixed_key(key))
        return tiles.items, self.heads, tiles.rows, dropping


class TransformerLayer(Attends, transformer.TransformerLayer):
    """As nn.transformer.TransformerLayer. One kernel adds bias, dropout and residual connection
    before a norm, one the bias before the activation."""

    _attention_type: ClassVar[Any] = SelfAttention
    _dense_type: ClassVar[Any] = Dense
    _norm_type: ClassVar[Any] = LayerNorm

    def pass_forward(
        self, y: Any, x: Any, sequences: Any, training: bool, key: int, team: Any, space: Any
    ) -> None:
        out, up, down, norm1, norm2 = self._layers()
        own = self._own if training else space
        N, H, width = len(x), self.size, self.intermediate
        attended, s1, y1, s2 = (own.array(n, N, H) for n in ("attended", "s1", "y1", "s2"))
        z = own.array("z", N, width)
        g = own.array("g", N, width) if training else z
        moments: Any = [own.array(("moment", i), N) if training else None for i in range(4)]
        mean1, rstd1, mean2, rstd2 = moments
        self.attention.attend(attended, x, sequences, training, mixed_key(key, 0), team, space)
        rate = self.dropout if training else 0.0

        def end(dense: Any, number: int, residual: Any) -> dict[str, Any]:
            """What comes between a product and a norm."""
            dropping = dropping_of(rate, mixed_key(key, number))
            return {"bias": dense.on_device["bias"], "dropping": dropping, "residual": residual}

        out.multiply(s1, attended)
        layer_norm_forward(y1, mean1, rstd1, s1, *norm1.affine, **end(out, 1, x))
        up.multiply(z, y1)
        gelu_forward(g, z, self._is_tanh, up.on_device["bias"])
        down.multiply(s2, g)
        layer_norm_forward(y, mean2, rstd2, s2, *norm2.affine, **end(down, 2, y1))
        if training:
            self._saved = transformer._Saved(attended, s1, y1, z, g, s2, moments, key)

    def pass_backward(self, dx: Any, dy: Any) -> None:
        saved: Any = saved_by_forward(self._saved)
        self._saved = None
        out, up, down, norm1, norm2 = self._layers()
        N, H, shared = len(dy), self.size, self._shared
        dy1, dz = shared.array("dy1", N, H), shared.array("dz", N, self.intermediate)
        dattended = shared.array("dattended", N, H)
        dout = shared.array("dout", N, H) if self.dropout else None
        mean1, rstd1, mean2, rstd2 = saved.moments

        def back(to: Any, given: Any, norm: Any, number: int, s: Any, mean: Any, rstd: Any) -> Any:
            """Returns the gradient before dropout."""
            dropping = dropping_of(self.dropout, mixed_key(saved.key, number))
            gamma = norm.on_device["weight"]
            layer_norm_backward(to, given, s, mean, rstd, gamma, dropped=dout, dropping=dropping)
            norm.add_gradients(given, s, mean, rstd)
            return to if dout is None else dout

        given = back(dy1, dy, norm2, 2, saved.s2, mean2, rstd2)
        down.project_back(dz, given)
        gelu_backward(dz, dz, saved.z, self._is_tanh)
        down.add_gradients(saved.g, given)
        up.add_gradients(saved.y1, dz)
        up.project_back(dy1, dz, add=True)
        given = back(dx, dy1, norm1, 1, saved.s1, mean1, rstd1)
        out.project_back(dattended, given)
        out.add_gradients(saved.attended, given)
        self.attention.attend_back(dx, dattended, add=True)

    def _layers(self) -> tuple[Any, Any, Any, Any, Any]:
        return self._out, self._up, self._down, self._norm1, self._norm2


class TransformerEncoder(Attends, transformer.TransformerEncoder):
    """As nn.transformer.TransformerEncoder."""

    _layer_type: ClassVar[Any] = TransformerLayer


def dropping_of(rate: float, key: int) -> Dropping | None:
    """Dropout at this rate; None for 0."""
    if not rate:
        return None
    limit, scale = limit_and_scale(rate)
    return Dropping(key, int(limit), float(scale))
