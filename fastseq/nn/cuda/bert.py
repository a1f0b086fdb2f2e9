"""The parts of BERT before and after its transformer layers, on the device; see nn/bert.py."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.nn.activations import tanh_backward, tanh_forward
from fastseq.kernels.cuda.nn.dropout import drop
from fastseq.kernels.cuda.nn.layer_norm import layer_norm_backward, layer_norm_forward
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import bert
from fastseq.nn.bert import places_of
from fastseq.nn.cuda.layer import DeviceLayer
from fastseq.nn.cuda.layers import Dense, Embedding, Gelu, LayerNorm, ProjectedCrossEntropy
from fastseq.nn.layers import limit_and_scale
from fastseq.types import Int32, Int64


class BertEmbeddings(DeviceLayer, bert.BertEmbeddings):
    """As nn.bert.BertEmbeddings: ids, types and offsets from the host."""

    _embedding_type: ClassVar[Any] = Embedding
    _norm_type: ClassVar[Any] = LayerNorm

    def prepare(self, ids: Int32, offsets: Int64, types: Int32 | None = None) -> None:
        places = self._places(offsets)
        self._numbers(ids, places, types, offsets)
        for numbers in (ids, places):
            self.feed.groups(numbers)

    def _places(self, offsets: Int64) -> Int32:
        return self.feed.made("places", (offsets,), lambda: places_of(offsets))

    def _numbers(
        self, ids: Int32, places: Int32, types: Int32 | None, offsets: Int64
    ) -> tuple[Any, Any, Any]:
        """Ids, types and places on the device."""
        if types is None:
            zeros = partial(self.feed.send, np.zeros(len(ids), np.int32), np.int32)
            kinds = self.feed.made("no types", (offsets,), zeros)
        else:
            kinds = self.whole_numbers(types, "types")
        return self.whole_numbers(ids, "ids"), kinds, self.whole_numbers(places, "places")

    def _embed(
        self, ids: Int32, offsets: Int64, types: Int32 | None, training: bool, key: int
    ) -> Any:
        N, H = len(ids), self.size
        places, norm = self._places(offsets), self._norm
        assert isinstance(norm, LayerNorm)
        y = self.output("y", N, H, reuse=training)
        x = self.space.array("x", N, H) if training else y
        words, kinds, positions = (part.on_device["weight"] for part in self._tables())
        numbers = self._numbers(ids, places, types, offsets)
        row_kernels.gather_sums(x, words, kinds, positions, *numbers)
        mean, rstd = (self.space.array(n, N) if training else None for n in ("mean", "rstd"))
        layer_norm_forward(y, mean, rstd, x, *norm.affine)
        if training:
            if self.dropout:
                drop(y, y, key, *limit_and_scale(self.dropout))
            kept: Any = ids, types, places, x, mean, rstd, key
            self._saved = bert._Saved(*kept)
        return y

    def _add_gradients(self, given: Any, saved: Any) -> None:
        norm: Any = self._norm
        words, types, positions = self._tables()
        normed = given
        if self.dropout:
            normed = self.space.array("normed", *given.shape)
            drop(normed, given, saved.key, *limit_and_scale(self.dropout))
        dx = self.space.array("dx", *given.shape)
        moments = saved.x, saved.mean, saved.rstd
        layer_norm_backward(dx, normed, *moments, norm.on_device["weight"])
        norm.add_gradients(normed, *moments)
        for part, numbers in ((words, saved.ids), (positions, saved.places)):
            gradient = part.grads_on_device["weight"]
            row_kernels.add_rows(gradient, dx, *self.feed.groups(numbers))
        gradient = types.grads_on_device["weight"]
        if saved.types is None:
            row_kernels.column_sums(memory.row(gradient, 0), dx)
            return
        # rows of few types are many, so their sums are a product
        chosen = saved.types[:, None] == np.arange(len(gradient))
        shares = self.feed.send(chosen, np.float32)
        gemm.multiply(gradient, shares, dx, transpose_a=True, add=True)

    def _tables(self) -> tuple[Any, Any, Any]:
        return self.words, self.types, self.positions


class Pooler(DeviceLayer, bert.Pooler):
    """As nn.bert.Pooler, over arrays on the device."""

    _dense_type: ClassVar[Any] = Dense

    def _tanh(self, y: Any) -> None:
        tanh_forward(y)

    def _tanh_gradient(self, dy: Any, y: Any) -> Any:
        found = self.space.array("dz", *y.shape)
        tanh_backward(found, dy, y)
        return found


class MaskedWordHead(DeviceLayer, bert.MaskedWordHead):
    """As nn.bert.MaskedWordHead: targets from the host, rows on the device."""

    _dense_type: ClassVar[Any] = Dense
    _gelu_type: ClassVar[Any] = Gelu
    _norm_type: ClassVar[Any] = LayerNorm

    def _loss_type(self) -> ProjectedCrossEntropy:  # type: ignore[override]
        return ProjectedCrossEntropy(self.feed)

    def begin(self, training: bool = True) -> None:
        super().begin(training)
        head: Any = self._loss
        head.feed = self.feed
