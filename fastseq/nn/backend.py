"""Where a network computes: the layers it is made of, its arrays, its losses.

A network is written once, against a `Backend`. `HostBackend` has the layers of fastseq.nn and NumPy
arrays, `nn.cuda.backend.CudaBackend` their twins on a GPU and arrays there.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from fastseq.kernels.nn.rows import gather, scatter_add
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
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64


class Backend(ABC):
    """What networks are made with.

    Attributes
    ----------
    device : "cpu" or "cuda"
    team : threads of the host
    lock : held while layers compute, whose working memory serves one thread at a time
    embedding, dense, dropout, pooling, crf : make layers, which take what those of fastseq.nn take
    recurrent : {cell: makes recurrent layers}
    projected_cross_entropy : makes one
    """

    device: str
    team: Team
    lock: Any
    embedding: Callable[..., Embedding]
    dense: Callable[..., Dense]
    dropout: Callable[..., Dropout]
    pooling: Callable[..., Pooling]
    crf: Callable[..., CRF]
    recurrent: Mapping[str, Callable[..., Recurrent]]
    projected_cross_entropy: Callable[[], ProjectedCrossEntropy]

    @property
    def ahead(self) -> bool:
        """Whether the device works while the host goes on, so that the next batch is best prepared
        before a result is asked for."""
        return self.device != "cpu"

    @abstractmethod
    def join(self, layers: Mapping[str, Layer]) -> Parameters:
        """The layers' parameters in one pair of flat buffers; see nn.layer.joined."""

    @abstractmethod
    def begin(self) -> None:
        """What is now sent to the device belongs to a new batch."""

    @abstractmethod
    @contextmanager
    def memory(self, advice: str) -> Iterator[None]:
        """A block in which memory that the device has not is a DeviceError with this advice."""

    # ---- arrays, float32

    @abstractmethod
    def put(self, array: Float32) -> Any:
        """A host's array as layers take it."""

    @abstractmethod
    def get(self, array: Any) -> Float32:
        """A layer's array on the host; it may be overwritten by the layer's next pass."""

    @abstractmethod
    def zeros(self, name: str, *shape: int) -> Any:
        """Zeros, in memory that is used again for this name."""

    @abstractmethod
    def empty(self, name: str, *shape: int) -> Any:
        """The same with whatever was there."""

    @abstractmethod
    def batch_rows(self, state: Any, rows: Int64) -> Any:
        """state[:, rows] of a recurrent layer's state [L·D, B, H], in memory of its own."""

    @abstractmethod
    def copy(self, out: Any, x: Any) -> None:
        """out = x, of one shape."""

    @abstractmethod
    def add(self, out: Any, x: Any) -> None:
        """out += x, of one shape."""

    @abstractmethod
    def rows(self, x: Any, numbers: Int64 | Int32) -> Any:
        """x[numbers], of x [M, K] and int[N]."""

    @abstractmethod
    def sum_rows(self, x: Any, numbers: Int64 | Int32, count: int) -> Any:
        """[count, K]: row u is the sum of the rows n of x [N, K] with numbers[n] = u, in order."""

    @abstractmethod
    def concat_columns(self, a: Any, b: Any) -> Any:
        """[N, J + K] of a [N, J] and b [N, K]."""

    @abstractmethod
    def columns(self, x: Any, first: int, last: int) -> Any:
        """x[:, first:last], contiguous."""

    # ---- losses and predictions

    @abstractmethod
    def softmax(self, logits: Any) -> Float32:
        """The host's float32[N, C]: rows of probabilities; logits may be overwritten."""

    @abstractmethod
    def cross_entropy(
        self,
        logits: Any,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        want_gradient: bool = True,
    ) -> SupportsFloat:
        """As nn.losses.softmax_cross_entropy; the loss may be worked out when it is asked for."""

    @abstractmethod
    def squared_error(
        self, y: Any, targets: npt.ArrayLike, want_gradient: bool = True
    ) -> SupportsFloat:
        """As nn.losses.mean_squared_error; likewise."""

    @abstractmethod
    def best(self, scores: Any) -> Int32:
        """The host's int32[N]: the column of each row's largest number, the first of equals."""


class HostBackend(Backend):
    """The layers of fastseq.nn over NumPy arrays."""

    def __init__(self, team: Team) -> None:
        self.device = "cpu"
        self.team = team
        self.lock = threading.RLock()
        self.embedding = partial(Embedding, team=team)
        self.dense = partial(Dense, team=team)
        self.dropout = partial(Dropout, team=team)
        self.pooling = partial(Pooling, team=team)
        self.crf = partial(CRF, team=team)
        self.recurrent = {
            "lstm": partial(LSTM, team=team),
            "gru": partial(GRU, team=team),
            "rnn": partial(RNN, team=team),
        }
        self.projected_cross_entropy = ProjectedCrossEntropy

    def join(self, layers: Mapping[str, Layer]) -> Parameters:
        return joined(layers)

    def begin(self) -> None:
        pass

    @contextmanager
    def memory(self, advice: str) -> Iterator[None]:
        yield

    def put(self, array: Float32) -> Float32:
        return array

    def get(self, array: Float32) -> Float32:
        return array

    def zeros(self, name: str, *shape: int) -> Float32:
        return np.zeros(shape, np.float32)

    def empty(self, name: str, *shape: int) -> Float32:
        return np.empty(shape, np.float32)

    def batch_rows(self, state: Float32, rows: Int64) -> Float32:
        return np.ascontiguousarray(state[:, rows])

    def copy(self, out: Float32, x: Float32) -> None:
        out[...] = x

    def add(self, out: Float32, x: Float32) -> None:
        out += x

    def rows(self, x: Float32, numbers: Int64 | Int32) -> Float32:
        out = np.empty((len(numbers), x.shape[1]), np.float32)
        places = np.ascontiguousarray(numbers, np.int32)
        gather(out.reshape(-1), np.ascontiguousarray(x).reshape(-1), places, 0, len(places))
        return out

    def sum_rows(self, x: Float32, numbers: Int64 | Int32, count: int) -> Float32:
        out = np.zeros((count, x.shape[1]), np.float32)
        places = np.ascontiguousarray(numbers, np.int32)
        scatter_add(out.reshape(-1), x.reshape(-1), places, 0, x.shape[1])
        return out

    def concat_columns(self, a: Float32, b: Float32) -> Float32:
        return np.concatenate([a, b], axis=1)

    def columns(self, x: Float32, first: int, last: int) -> Float32:
        return np.ascontiguousarray(x[:, first:last])

    def softmax(self, logits: Float32) -> Float32:
        return softmax(logits, self.team)

    def cross_entropy(
        self,
        logits: Float32,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        want_gradient: bool = True,
    ) -> float:
        return softmax_cross_entropy(logits, targets, weights, self.team, want_gradient)

    def squared_error(
        self, y: Float32, targets: npt.ArrayLike, want_gradient: bool = True
    ) -> float:
        return mean_squared_error(y, targets, want_gradient)

    def best(self, scores: Float32) -> Int32:
        best: Int32 = np.argmax(scores, 1).astype(np.int32)
        return best
