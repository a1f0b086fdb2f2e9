"""The network of a language model, its training on one stream, and its measure on another.

The network gives the next unit of a stream from all units before it: embedding, dropout, recurrent
layers, dropout, a softmax over the vocabulary. Gradients flow through the steps of a window; the
state is carried from window to window (truncated backpropagation through time, Mikolov et al.
2010, "Recurrent neural network based language model").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError
from fastseq.models.data.batches import StreamBatches, StreamWindow
from fastseq.models.data.vocabulary import Vocabulary
from fastseq.models.task import (
    FittedState,
    Network,
    Prefetcher,
    TrainingTask,
    fingerprint_of,
    step_norms,
)
from fastseq.nn.backend import Backend
from fastseq.nn.layers import Embedding
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.training.gradient import StepResult
from fastseq.types import Float32, Float64, Int32, Int64

STATES = ("h", "c")  # names of the arrays of a state, in order

_STREAMS = 32  # that a text to measure is read as, at most
_SHORTEST = 1024  # targets of each of them, at least
_WARM_UP = 128  # units that each reads before its part begins
_STEPS = 64  # of a window while measuring


class LanguageNetwork(Network):
    """The layers, and passes over windows of them.

    Parameters
    ----------
    embedding : of the units
    recurrent : one direction; its input size is that of the embedding
    cell : name of the recurrent layer's parameters ("lstm")
    dropout : rate before and after the recurrent layers, while training
    tied : the output's weight is the embedding's table (Press and Wolf 2017)
    seed : of the output's initial weights

    Raises SettingsError where tied sizes differ.
    """

    def __init__(
        self,
        embedding: Embedding,
        recurrent: Recurrent,
        cell: str,
        dropout: float,
        tied: bool,
        seed: int,
        backend: Backend,
    ) -> None:
        size, hidden = recurrent.input_size, recurrent.output_size
        if tied and size != hidden:
            raise SettingsError(
                f"tied weights need embedding and hidden of one size, not {size} and {hidden}"
            )
        self.embedding = embedding
        self.recurrent = recurrent
        table = embedding if tied else None
        self.output = backend.dense(hidden, embedding.words, weight_of=table, seed=seed)
        self.dropout_before = backend.dropout(dropout)
        self.dropout_after = backend.dropout(dropout)
        self.head = backend.projected_cross_entropy()
        super().__init__({"embedding": embedding, cell: recurrent, "output": self.output}, backend)

    @property
    def _shared(self) -> bool:
        """Whether, in training, steps that read one unit share its row and what is made of it: not
        where each drops other numbers of it."""
        return not self.dropout_before.rate

    def prepare(self, inputs: Int32, training: bool) -> None:
        """Send to the device what a pass over inputs int32[T, B] needs."""
        self.backend.begin()
        index = self.embedding.prepare(inputs.reshape(-1), self._shared or not training)
        steps, batch = inputs.shape
        self.recurrent.prepare_steps(
            steps, batch, None if index is None else index.reshape(inputs.shape)
        )

    def learn(
        self, inputs: Int32, targets: Int32, state: Any, key: int
    ) -> tuple[SupportsFloat, Any]:
        """(mean loss, last state): int32[T, B] forward from the state and back, which adds to the
        gradients. No gradient flows into the state."""
        loss, state, dx = self._pass(inputs, targets, state, key, self._shared)
        if not self.embedding.frozen:
            below = dx if self._shared else self.dropout_before.backward(dx, out=dx)
            self.embedding.backward(below)
        return loss, state

    def input_gradient(self, inputs: Int32, targets: Int32) -> Float32:
        """float32[T, B, E]: the gradient of the mean loss with respect to what the recurrent
        layers read. Adds to gradients of parameters too. Targets below 0 do not count."""
        self.backend.begin()
        dx = self._pass(inputs, targets, None, 0, shared=False)[2]
        return self.backend.get(dx).reshape(*inputs.shape, -1)

    def _pass(
        self, inputs: Int32, targets: Int32, state: Any, key: int, shared: bool
    ) -> tuple[SupportsFloat, Any, Any]:
        """(mean loss, last state, gradient of the recurrent layers' input: [T * B, E], or with
        `shared` [U, E] for the U different units)."""
        y, state = self._dropped(inputs, state, key, shared)
        loss = self.head.loss(y, self.output, targets.reshape(-1))
        dy = self.head.backward()
        dy = self.dropout_after.backward(dy, out=dy)
        dx = self.recurrent.backward(dy.reshape(*inputs.shape, self.recurrent.output_size))
        return loss, state, dx.reshape(-1, self.embedding.size)

    def _dropped(self, inputs: Int32, state: Any, key: int, shared: bool) -> tuple[Any, Any]:
        index = None
        if shared:
            x, index = self.embedding.forward_distinct(inputs.reshape(-1))
            index = index.reshape(inputs.shape)
        else:
            x = self.embedding.forward(inputs.reshape(-1))
            x = self.dropout_before.forward(x, key=mixed_key(key, 0), out=x)
            x = x.reshape(*inputs.shape, self.embedding.size)
        y, state = self.recurrent.forward(x, state=state, key=mixed_key(key, 1), index=index)
        y = y.reshape(inputs.size, self.recurrent.output_size)
        return self.dropout_after.forward(y, key=mixed_key(key, 2), out=y), state

    def hidden(self, inputs: Int32, state: Any) -> tuple[Any, Any]:
        """[T·B, H] of inputs int32[T, B], as prediction has it, and the last state."""
        with self.lock, self.backend.memory("predict on the CPU (device cpu)"):
            self.backend.begin()
            x, index = self.embedding.forward_distinct(inputs.reshape(-1), training=False)
            y, state = self.recurrent.forward(
                x, state=state, training=False, index=index.reshape(inputs.shape)
            )
        return y.reshape(inputs.size, self.recurrent.output_size), state

    @contextmanager
    def weights_held(self) -> Iterator[None]:
        """A block of steps by single units: see Recurrent.weights_held. Blocks may overlap."""
        block = self.recurrent.weights_held()
        with self.lock:
            block.__enter__()
        try:
            yield
        finally:
            with self.lock:
                block.__exit__(None, None, None)

    def loss_sum(self, inputs: Int32, targets: Int32, state: Any) -> tuple[float, Any]:
        """(sum of -log p over the targets that are not negative, last state)."""
        wanted = targets.reshape(-1)
        with self.lock:
            y, state = self.hidden(inputs, state)
            mean = float(self.head.loss(y, self.output, wanted, training=False))
        return mean * int(np.count_nonzero(wanted >= 0)), state


@dataclass(frozen=True, slots=True, eq=False)
class StreamMeasure:
    """The mean of -log p over a stream, every unit but the first a target once.

    A long stream is read as several at once, at most 32 of at least 1,024 targets; each begins
    128 units before its part, so that what it predicts first it predicts from some context. How
    it is cut depends on its length alone.

    values  int32[N], N >= 2
    """

    values: Int32

    def __call__(self, network: LanguageNetwork) -> float:
        """The mean, in nats."""
        total, state = 0.0, None
        for inputs, targets in self.windows():
            loss, state = network.loss_sum(inputs, targets, state)
            total += loss
        return total / (len(self.values) - 1)

    def windows(self) -> Iterator[tuple[Int32, Int32]]:
        """Inputs and targets int32[T, B], window after window; a target that does not count is
        -1."""
        count = len(self.values) - 1
        streams = max(1, min(_STREAMS, count // _SHORTEST))
        own = -(-count // streams)  # targets of a stream, of the last one fewer
        warm = _WARM_UP if streams > 1 else 0
        first: Int64 = np.arange(streams) * own
        start = first - warm
        start[0] = 0  # nothing is before it: it reads on where the others are done with warming up
        for step in range(0, warm + own, _STEPS):
            place = start + np.arange(step, min(step + _STEPS, warm + own))[:, None]
            counted = (place >= first) & (place < np.minimum(first + own, count))
            place = np.minimum(place, count - 1)
            targets = np.where(counted, self.values[place + 1], np.int32(-1))
            yield self.values[place], targets


@dataclass(slots=True, eq=False)
class LanguageState(FittedState):
    """What a language model learned.

    knows_unknown  whether units outside the vocabulary occurred in training, as `<unk>`
    """

    network: LanguageNetwork
    vocabulary: Vocabulary
    knows_unknown: bool


class LanguageTask(TrainingTask[LanguageState]):
    """The training of a language model, its state carried from window to window.

    Parameters
    ----------
    batches : windows of the training stream, the same ones in every epoch
    measure : of held-out text; None where nothing is held out
    """

    def __init__(
        self, learned: LanguageState, batches: StreamBatches, measure: StreamMeasure | None
    ) -> None:
        super().__init__(learned)
        self._batches = batches
        self._measure = measure
        self._state: Any = None
        self._ahead: Prefetcher[StreamWindow, StreamWindow] = Prefetcher(self._prepared)

    def steps_per_epoch(self, epoch: int) -> int:
        return len(self._batches)

    def batches(self, epoch: int) -> Iterator[StreamWindow]:
        return self._ahead.through(self._batches.windows())

    def _prepared(self, window: StreamWindow) -> StreamWindow:
        self.learned.network.prepare(window.inputs, True)
        return window

    def learn(self, batch: StreamWindow, key: int) -> StepResult:
        state = None if batch.step == 0 else self._state
        network, count = self.learned.network, batch.targets.size
        window = self._ahead.take(batch)
        loss, self._state = network.learn(window.inputs, window.targets, state, key)
        if network.backend.ahead:
            self._ahead.prepare()
        return StepResult(loss, count, count)

    def validate(self) -> dict[str, float] | None:
        if self._measure is None:
            return None
        loss = self._measure(self.learned.network)
        return {"loss": loss, "perplexity": perplexity(loss)}

    def fingerprint(self) -> dict[str, Any]:
        held_out = None if self._measure is None else self._measure.values
        stream = self._batches.values
        return {"units": len(stream), "checksums": fingerprint_of(stream, held_out)}

    def flow(self) -> Float64:
        """The loss is that of the last step alone: what reaches the steps before it came to them
        through the recurrence."""
        window = next(self._batches.windows())
        targets = window.targets.copy()
        targets[:-1] = -1
        network = self.learned.network
        dx = network.input_gradient(window.inputs, targets)
        network.parameters.zero_gradients()
        return step_norms(dx)

    def carried(self) -> dict[str, npt.NDArray[Any]]:
        if self._state is None:
            return {}
        get = self.learned.network.backend.get
        return dict(zip(STATES, map(get, parts_of(self._state)), strict=False))

    def restore_carried(self, carried: dict[str, npt.NDArray[Any]]) -> None:
        parts = tuple(carried[name] for name in STATES if name in carried)
        self._state = None if not parts else state_of(parts)


def parts_of(state: Any) -> tuple[Any, ...]:
    """The arrays of a recurrent layer's state."""
    return state if isinstance(state, tuple) else (state,)


def state_of(parts: tuple[Any, ...]) -> Any:
    """The state of these arrays, as the layer takes it."""
    return parts if len(parts) > 1 else parts[0]


def perplexity(nats: float) -> float:
    """e to the mean loss; infinite where that is more than a float holds."""
    return math.exp(nats) if nats < 700 else math.inf
