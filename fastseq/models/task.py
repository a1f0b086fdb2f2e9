"""What one training works on and what it learns: layers, learned values, the data under way."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from fastseq.models.data.examples import ReadReport
from fastseq.nn.backend import Backend
from fastseq.nn.layer import Layer, Parameters
from fastseq.training.gradient import StepResult
from fastseq.training.history import History
from fastseq.types import Float32, Float64, Int64

if TYPE_CHECKING:
    from fastseq.store.columns import Fields


class Network:
    """Layers that share one pair of flat buffers, under the names of `weights.safetensors`.

    layers      {prefix: layer}, those without parameters may be left out
    parameters  of all of them
    backend         that they were made with
    lock        held while the layers compute: their working memory serves one thread at a time, so
                that a model may be used from several
    """

    def __init__(self, layers: Mapping[str, Layer], backend: Backend) -> None:
        self.layers = dict(layers)
        self.parameters: Parameters = backend.join(self.layers)
        self.backend = backend
        self.lock = backend.lock


@dataclass(slots=True, eq=False)
class FittedState:
    """What training learned: all that predicting needs. Models add to it.

    network  the layers
    fields   the columns that were read
    settings those of the model when it was fitted, as its manifest keeps them
    history  epoch by epoch; None where it is not known
    reports  what was met while reading, {"training": …, "validation": …}
    flow     see SequenceModel.gradient_flow_
    coverage see Vocabulary.coverage, of the embeddings given
    """

    network: Network
    fields: Fields
    settings: dict[str, Any] = field(default_factory=dict, init=False)
    history: History | None = field(default=None, init=False)
    coverage: dict[str, int] | None = field(default=None, init=False)
    reports: dict[str, ReadReport] = field(default_factory=dict, init=False)
    flow: dict[str, Float64] | None = field(default=None, init=False)


L = TypeVar("L", bound=FittedState)
Drawn = TypeVar("Drawn")
Made = TypeVar("Made")


class Prefetcher(Generic[Drawn, Made]):
    """Batches of which the next one can be prepared while a device works on the one before.

    make  what is learned from, of a batch as it was drawn
    """

    def __init__(self, make: Callable[[Drawn], Made]) -> None:
        self._make = make
        self._next: Drawn | None = None
        self._made: tuple[Drawn, Made] | None = None

    def through(self, batches: Iterable[Drawn]) -> Iterator[Drawn]:
        """The batches, the one after each being known when it comes out."""
        rest = iter(batches)
        batch = next(rest, None)
        while batch is not None:
            self._next = next(rest, None)
            yield batch
            batch = self._next

    def take(self, batch: Drawn) -> Made:
        """What `make` gives, or gave when it was the next."""
        made, self._made = self._made, None
        return made[1] if made is not None and made[0] is batch else self._make(batch)

    def prepare(self) -> None:
        """Make the next one now."""
        if self._next is not None:
            self._made = self._next, self._make(self._next)


class TrainingTask(ABC, Generic[L]):
    """What one training works on: a model under way, its data. It is the loop's Trainable."""

    def __init__(self, learned: L) -> None:
        self.learned = learned

    @property
    def parameters(self) -> Parameters:
        """Weights and gradients."""
        return self.learned.network.parameters

    @abstractmethod
    def steps_per_epoch(self, epoch: int) -> int | None:
        """Batches of an epoch (from 0)."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch: the same ones in the same order whenever asked."""

    @abstractmethod
    def learn(self, batch: Any, key: int) -> StepResult:
        """Forward and backward pass, as Trainable.learn."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What tells this data from other data: JSON, for the checkpoint."""

    @abstractmethod
    def flow(self) -> Float64:
        """float64[T]: the norm of the gradient at each step of the recurrent layer's input,
        counted back from the last, on a batch that is always the same. May spoil gradients."""

    def validate(self) -> dict[str, float] | None:
        """{"loss": …, a metric: …} on held-out data; None where nothing is held out."""
        return None

    def carried(self) -> dict[str, npt.NDArray[Any]]:
        """As Trainable.carried."""
        return {}

    def restore_carried(self, carried: dict[str, npt.NDArray[Any]]) -> None:
        """As Trainable.restore_carried."""


class GradientFlowRecorder:
    """A task whose gradient flow is recorded, before training and after each epoch."""

    def __init__(self, task: TrainingTask[Any]) -> None:
        self._task = task
        self._epoch = 0
        self.recorded = {"before training": task.flow()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def batches(self, epoch: int) -> Iterator[Any]:
        self._epoch = epoch + 1
        return self._task.batches(epoch)

    def validate(self) -> dict[str, float] | None:
        self.recorded[f"epoch {self._epoch}"] = self._task.flow()
        return self._task.validate()


def mean_norms(dx: Float32, offsets: Int64) -> Float64:
    """float64[T]: the norm of each sequence's row t steps before its last, the mean over the
    sequences that have such a row; dx float32[N, I] ragged by offsets int64[B + 1]."""
    norms = np.sqrt(np.square(dx, dtype=np.float64).sum(1))
    lengths = np.diff(offsets)
    back = np.repeat(offsets[1:] - 1, lengths) - np.arange(len(dx))
    counts = np.bincount(back)
    return np.asarray(np.bincount(back, norms) / counts, np.float64)


def step_norms(dx: Float32) -> Float64:
    """`mean_norms` of sequences of one length: float64[T] of dx float32[T, B, I]."""
    norms = np.sqrt(np.square(dx, dtype=np.float64).sum(2)).mean(1)
    return np.ascontiguousarray(norms[::-1])


def fingerprint_of(*arrays: npt.NDArray[Any] | None) -> list[int]:
    """A checksum of each array."""
    return [0 if a is None else zlib.crc32(np.ascontiguousarray(a).data) for a in arrays]
