"""The backend of networks on a GPU; see nn/backend.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, DeviceError
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.nn import softmax
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import losses
from fastseq.nn.backend import Backend
from fastseq.nn.cuda.bert import BertEmbeddings, Pooler
from fastseq.nn.cuda.crf import CRF
from fastseq.nn.cuda.layer import DeviceParameters, Feed, Pending, Space, is_on_device
from fastseq.nn.cuda.layers import Dense, Dropout, Embedding, ProjectedCrossEntropy
from fastseq.nn.cuda.pooling import Pooling
from fastseq.nn.cuda.recurrent import GRU, LSTM, RNN
from fastseq.nn.cuda.transformer import TransformerEncoder
from fastseq.nn.layer import Layer, Parameters, joined
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64


class CudaBackend(Backend):
    """The layers of nn.cuda.

    precision : what the factors of large products are rounded to, see kernels.cuda.nn.gemm
    """

    device = "cuda"

    def __init__(self, team: Team, precision: str = "float32") -> None:
        super().__init__(team)
        self.lock = memory.lock
        self.feed = Feed()
        self.space = Space()
        self._make_with(
            (
                Embedding, Dense, Dropout, Pooling, CRF, BertEmbeddings, TransformerEncoder, Pooler,
                LSTM, GRU, RNN,
            ),
            feed=self.feed, precision=precision, team=team,
        )  # fmt: skip
        self.projected_cross_entropy = partial(ProjectedCrossEntropy, self.feed)

    def join(self, layers: Mapping[str, Layer]) -> Parameters:
        return joined(layers, DeviceParameters)

    def begin(self) -> None:
        self.feed.begin()

    @contextmanager
    def memory(self, advice: str) -> Iterator[None]:
        try:
            yield
        except memory.DeviceMemoryError as error:
            raise DeviceError(f"the GPU's memory is full, {error} needed: {advice}") from error

    def put(self, array: Float32) -> Any:
        return array if is_on_device(array) else self.feed.send(array, np.float32)

    def get(self, array: Any) -> Float32:
        return memory.get(array)

    def zeros(self, name: str, *shape: int) -> Any:
        found = self.space.array(name, *shape)
        row_kernels.fill(found, 0)
        return found

    def empty(self, name: str, *shape: int) -> Any:
        return self.space.array(name, *shape)

    def batch_rows(self, state: Any, rows: Int64) -> Any:
        layers, batch, units = state.shape
        numbers = (np.arange(layers)[:, None] * batch + rows).reshape(-1)
        out = memory.empty((layers, len(rows), units))
        flat = layers * len(rows), units
        row_kernels.gather(
            out.reshape(*flat), state.reshape(layers * batch, units),
            self.feed.send(numbers, np.int32),
        )  # fmt: skip
        return out

    def copy(self, out: Any, x: Any) -> None:
        memory.copy(out, x)

    def add(self, out: Any, x: Any) -> None:
        row_kernels.add(out, x)

    def rows(self, x: Any, numbers: Int64 | Int32) -> Any:
        out = self.space.array("rows", len(numbers), x.shape[1])
        row_kernels.gather(out, x, self.feed.whole_numbers(numbers, "rows"))
        return out

    def sum_rows(self, x: Any, numbers: Int64 | Int32, count: int) -> Any:
        out = self.zeros("sums of rows", count, x.shape[1])
        row_kernels.add_rows(out, x, *self.feed.groups(numbers))
        return out

    def concat_columns(self, a: Any, b: Any) -> Any:
        left, right = a.shape[1], b.shape[1]
        out = self.space.array("concat_columns", len(a), left + right)
        row_kernels.copy_columns(out, 0, a, 0, left)
        row_kernels.copy_columns(out, left, b, 0, right)
        return out

    def columns(self, x: Any, first: int, last: int) -> Any:
        out = self.space.array(("columns", first), len(x), last - first)
        row_kernels.copy_columns(out, 0, x, first, last - first)
        return out

    def softmax(self, logits: Any) -> Float32:
        softmax.softmax_rows(logits)
        return memory.get(logits)

    def cross_entropy(
        self,
        logits: Any,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        want_gradient: bool = True,
    ) -> Pending:
        rows, columns = logits.shape
        classes = losses.targets_of(targets, rows, columns)
        shares = losses.shares_of(classes, weights, columns)
        terms = self.space.array("terms", rows, dtype=np.float64)
        sent = self.feed.send(classes, np.int32), self.feed.send(shares, np.float32)
        softmax.cross_entropy_rows(terms, logits, *sent, want_gradient)
        return Pending(terms, shares)

    def squared_error(self, y: Any, targets: Any, want_gradient: bool = True) -> Pending:
        given = targets if is_on_device(targets) else np.asarray(targets, np.float32)
        if tuple(given.shape) != tuple(y.shape):
            raise DataError(f"targets are of shape {list(given.shape)}, expected {list(y.shape)}")
        if not y.size:
            return Pending(None, 0.0)
        sent = self.put(given)
        terms = softmax.squared_errors(y, sent, 2 / y.size, want_gradient)
        return Pending(terms, 1 / y.size)

    def best(self, scores: Any) -> Int32:
        found = self.space.array("best", len(scores), dtype=np.int32)
        row_kernels.row_maxima(found, scores)
        return memory.get(found)
