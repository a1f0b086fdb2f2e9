"""The backend of a network: its layers, arrays and losses, on the CPU or a GPU.

A network is written once, against a `Backend`, which computes on the CPU with the layers of
fastseq.nn and NumPy arrays. Its subclass `nn.cuda.backend.CudaBackend` computes on a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from fastseq.kernels.nn.rows import gather, scatter_add
from fastseq.nn.bert import BertEmbeddings, Pooler
from fastseq.nn.crf import CRF
from fastseq.nn.layer import Layer, Parameters, joined
from fastseq.nn.layers import Dense, Dropout, Embedding
from fastseq.nn.losses import (
    ProjectedCrossEntropy,
    mean_squared_error,
    softmax,
    softmax_cross_entropy,
)
from fastseq.nn.pooling import Pooling
from fastseq.nn.recurrent import GRU, LSTM, RNN, Recurrent
from fastseq.nn.transformer import TransformerEncoder
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64


class Backend:
    """Layers, arrays and losses on the CPU.

    Attributes
    ----------
    device : "cpu" or "cuda"
    team : threads of the host
    lock : held while layers compute, whose working memory serves one thread at a time
    embedding, dense, dropout, pooling, crf, bert_embeddings, transformer, pooler : make layers,
        with the arguments of those of fastseq.nn
    recurrent : {cell: makes recurrent layers}
    projected_cross_entropy : makes a ProjectedCrossEntropy
    """

    device = "cpu"
    embedding: Callable[..., Embedding]
    dense: Callable[..., Dense]
    dropout: Callable[..., Dropout]
    pooling: Callable[..., Pooling]
    crf: Callable[..., CRF]
    bert_embeddings: Callable[..., BertEmbeddings]
    transformer: Callable[..., TransformerEncoder]
    pooler: Callable[..., Pooler]
    recurrent: Mapping[str, Callable[..., Recurrent]]
    projected_cross_entropy: Callable[[], ProjectedCrossEntropy]

    def __init__(self, team: Team) -> None:
        self.team = team
        self.lock: Any = threading.RLock()
        self._make_with(
            (
                Embedding, Dense, Dropout, Pooling, CRF, BertEmbeddings, TransformerEncoder, Pooler,
                LSTM, GRU, RNN,
            ),
            team=team,
        )  # fmt: skip
        self.projected_cross_entropy = ProjectedCrossEntropy

    def _make_with(self, layers: Iterable[Callable[..., Any]], **settings: Any) -> None:
        makers: list[Any] = [partial(layer, **settings) for layer in layers]
        self.embedding, self.dense, self.dropout, self.pooling, self.crf = makers[:5]
        self.bert_embeddings, self.transformer, self.pooler = makers[5:8]
        self.recurrent = dict(zip(("lstm", "gru", "rnn"), makers[8:], strict=True))

    @property
    def asynchronous(self) -> bool:
        """Whether the device computes while the host continues, so that the next batch should be
        prepared before a result is read."""
        return self.device != "cpu"

    def join(self, layers: Mapping[str, Layer]) -> Parameters:
        """The layers' parameters in one pair of flat buffers; see nn.layer.joined."""
        return joined(layers)

    def begin(self) -> None:
        """Start a new batch: what is sent to the device from now on belongs to it."""

    @contextmanager
    def memory(self, advice: str) -> Iterator[None]:
        """A block in which lack of device memory raises a DeviceError with this advice."""
        yield

    # ---- arrays, float32

    def put(self, array: Float32) -> Any:
        """A host's array as layers take it."""
        return array

    def get(self, array: Any) -> Float32:
        """A layer's array on the host; it may be overwritten by the layer's next pass."""
        found: Float32 = array
        return found

    def zeros(self, name: str, *shape: int) -> Any:
        """Zeros; on a device in memory that is reused for this name."""
        return np.zeros(shape, np.float32)

    def empty(self, name: str, *shape: int) -> Any:
        """The same, uninitialised."""
        return np.empty(shape, np.float32)

    def batch_rows(self, state: Any, rows: Int64) -> Any:
        """state[:, rows] of a recurrent layer's state [L·D, B, H], in memory of its own."""
        return np.ascontiguousarray(state[:, rows])

    def copy(self, out: Any, x: Any) -> None:
        """out = x, of one shape."""
        out[...] = x

    def add(self, out: Any, x: Any) -> None:
        """out += x, of one shape."""
        out += x

    def rows(self, x: Any, numbers: Int64 | Int32) -> Any:
        """x[numbers], of x [M, K] and int[N]."""
        out = np.empty((len(numbers), x.shape[1]), np.float32)
        ids = np.ascontiguousarray(numbers, np.int32)
        gather(out.reshape(-1), np.ascontiguousarray(x).reshape(-1), ids, 0, len(ids))
        return out

    def sum_rows(self, x: Any, numbers: Int64 | Int32, count: int) -> Any:
        """[count, K]: row u is the sum of the rows n of x [N, K] with numbers[n] = u, in order."""
        out = np.zeros((count, x.shape[1]), np.float32)
        ids = np.ascontiguousarray(numbers, np.int32)
        scatter_add(out.reshape(-1), x.reshape(-1), ids, 0, x.shape[1])
        return out

    def concat_columns(self, a: Any, b: Any) -> Any:
        """[N, J + K] of a [N, J] and b [N, K]."""
        return np.concatenate([a, b], axis=1)

    def columns(self, x: Any, first: int, last: int) -> Any:
        """x[:, first:last], contiguous."""
        return np.ascontiguousarray(x[:, first:last])

    # ---- losses and predictions

    def softmax(self, logits: Any) -> Float32:
        """The host's float32[N, C]: rows of probabilities; logits may be overwritten."""
        return softmax(logits, self.team)

    def cross_entropy(
        self,
        logits: Any,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        want_gradient: bool = True,
    ) -> SupportsFloat:
        """As nn.losses.softmax_cross_entropy; the device's loss is awaited by `float`."""
        return softmax_cross_entropy(logits, targets, weights, self.team, want_gradient)

    def squared_error(
        self, y: Any, targets: npt.ArrayLike, want_gradient: bool = True
    ) -> SupportsFloat:
        """As nn.losses.mean_squared_error; likewise."""
        return mean_squared_error(y, targets, want_gradient)

    def best(self, scores: Any) -> Int32:
        """The host's int32[N]: the column of each row's largest number, the first of equals."""
        best: Int32 = np.argmax(scores, 1).astype(np.int32)
        return best
