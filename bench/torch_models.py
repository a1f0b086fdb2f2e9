"""The sequence models' networks in PyTorch, for accuracy.py and epochs.py.

A network is made from a fastseq task: same layers under the same names, same initial weights, fed
with the same batches in the same order, the same optimiser, rates and clipping. What is trained
can be put back into fastseq's network, so that both are measured by one piece of code (their
outputs from the same weights agree: tests/nn/test_nn_golden.py).

Batches are what a careful user of PyTorch makes of them: bucketed by length, padded, time first.
There are three ways of running a layer over them (WAYS). "packed": as a packed sequence, which
PyTorch has for this. "turned": padded, each direction a layer of its own, the second on sequences
turned round; as exact and, on the CPU, much faster. "padded": both directions in one call; the
second reads the padding first, which changes results a little and takes the least time.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastseq.models.data.batches import take
from fastseq.models.forecast_network import ForecastTask
from fastseq.models.language_network import LanguageTask
from fastseq.models.scoring import ScoringTask
from fastseq.nn.schedules import schedule
from fastseq.training.trainable import TrainingSettings

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


WAYS = ("packed", "turned", "padded")


class Padded:
    """Where the rows of a ragged batch lie in a padded one.

    index    int64[T, B], the ragged row of each place
    turned   int64[T, B], the place (t * B + b) that has its row when sequences are turned round
    inside   bool[T, B], false past a sequence's end
    lengths  int64[B]
    """

    def __init__(self, offsets: np.ndarray) -> None:
        lengths = np.diff(offsets)
        steps = np.arange(int(lengths.max()))[:, None]
        inside = steps < lengths
        batch = np.arange(len(lengths))
        turned = np.where(inside, lengths - 1 - steps, steps) * len(lengths) + batch
        self.index = torch.from_numpy(np.where(inside, offsets[:-1] + steps, 0))
        self.turned = torch.from_numpy(turned)
        self.inside = torch.from_numpy(inside)
        self.lengths = torch.from_numpy(lengths)

    def rows(self, y: Tensor) -> Tensor:
        """[N, F] of [T, B, F], sequence after sequence."""
        return y.transpose(0, 1)[self.inside.T]

    def turn(self, x: Tensor) -> Tensor:
        """x [T, B, F], every sequence turned round."""
        return x.flatten(0, 1)[self.turned]

    def ends(self, y: Tensor) -> Tensor:
        """[B, F] of both directions' y: what each has read at its end."""
        half = y.shape[2] // 2
        last = y[self.lengths - 1, torch.arange(y.shape[1]), :half]
        return torch.cat([last, y[0, :, half:]], 1)


def run(layer: nn.RNNBase, x: Tensor, padded: Padded, way: str) -> Tensor:
    """y [T, B, F] of x [T, B, I]; what stands past a sequence's end does not count."""
    if way == "packed":
        rows, _ = layer(pack_padded_sequence(x, padded.lengths, enforce_sorted=False))
        y: Tensor = pad_packed_sequence(rows, total_length=len(x))[0]
        return y
    if way == "padded" or not layer.bidirectional:
        y, _ = layer(x)
        return y
    if layer.num_layers > 1:
        raise SystemExit("layers of two directions cannot be turned: give packed or padded")
    forwards, backwards = direction(layer, ""), direction(layer, "_reverse")
    return torch.cat([forwards(x)[0], padded.turn(backwards(padded.turn(x))[0])], 2)


@cache
def direction(layer: nn.RNNBase, suffix: str) -> nn.RNNBase:
    """One direction of a layer as a layer, with the same parameters."""
    one = type(layer)(layer.input_size, layer.hidden_size)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        setattr(one, name, getattr(layer, name + suffix))
    return one


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


class Twin(nn.Module, ABC):
    """What the networks share. `model` is an estimator, `task` what its training works on."""

    def __init__(self, model: Any, task: Any, inputs: int, outputs: int, way: str) -> None:
        super().__init__()
        self.way = way
        self.cell = model.cell
        bidirectional = getattr(model, "bidirectional", False)
        made = CELLS[model.cell](
            inputs, model.hidden, model.layers, bidirectional=bidirectional,
            dropout=model.dropout if model.layers > 1 else 0.0,
        )  # fmt: skip
        self.add_module(model.cell, made)
        self.output = nn.Linear((1 + bidirectional) * model.hidden, outputs)
        self.dropout = nn.Dropout(model.dropout)
        if model.recurrent_dropout:
            raise SystemExit("PyTorch has no recurrent weight dropout to compare with")
        network = task.learned.network
        if hasattr(network, "embedding"):
            self.embedding = nn.Embedding(network.embedding.words, network.embedding.size)
            self.embedding.weight.requires_grad_(not network.embedding.frozen)

    @property
    def recurrent(self) -> nn.RNNBase:
        found = self.get_submodule(self.cell)
        assert isinstance(found, nn.RNNBase)
        return found

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The mean loss of a batch as fastseq has it, differentiable."""

    def take_weights(self, weights: dict[str, np.ndarray]) -> None:
        self.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()}, False)

    def weights(self, names: Any) -> dict[str, np.ndarray]:
        state = self.state_dict()
        return {name: state[name].numpy().copy() for name in names}


class Scorer(Twin):
    """A network that gives scores for labels, not their loss alone."""

    @abstractmethod
    def scores(self, batch: Any) -> Tensor:
        """[B, K] of a classifier, [N, K] of a tagger."""


class Classifier(Scorer):
    def __init__(self, model: Any, task: ScoringTask[Any], way: str) -> None:
        network = task.learned.network
        size = network.embedding.size
        super().__init__(model, task, size, network.output.outputs, way)
        self.pooling = model.pooling
        self.by_label = None if network.weights is None else tensor(network.weights)
        if self.pooling == "attention":
            width = self.output.in_features
            self.attention = nn.Module()
            for name, shape in (
                ("weight", (width, width)),
                ("bias", (width,)),
                ("vector", (width,)),
            ):
                self.attention.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def loss(self, batch: Any) -> Tensor:
        targets = tensor(batch.targets).long()
        return nn.functional.cross_entropy(self.scores(batch), targets, self.by_label)

    def scores(self, batch: Any) -> Tensor:
        padded = Padded(batch.offsets)
        x = self.dropout(self.embedding(tensor(batch.values)[padded.index]))
        y = run(self.recurrent, x, padded, self.way)
        logits: Tensor = self.output(self.dropout(self.pooled(y, padded)))
        return logits

    def pooled(self, y: Tensor, padded: Padded) -> Tensor:
        inside = padded.inside[:, :, None]
        if self.pooling == "max":
            return y.masked_fill(~inside, -torch.inf).amax(0)
        if self.pooling == "mean":
            return (y * inside).sum(0) / padded.lengths[:, None]
        if self.pooling == "last":
            last = y[padded.lengths - 1, torch.arange(y.shape[1])]
            if not self.recurrent.bidirectional:
                return last
            return padded.ends(y)
        weight, bias, vector = (
            self.attention.get_parameter(name) for name in ("weight", "bias", "vector")
        )
        scores = torch.tanh(nn.functional.linear(y, weight, bias)) @ vector
        shares = scores.masked_fill(~padded.inside, -torch.inf).softmax(0)
        return (shares[:, :, None] * y).sum(0)


class Tagger(Scorer):
    """Without a CRF: PyTorch has none."""

    def __init__(self, model: Any, task: ScoringTask[Any], way: str) -> None:
        network = task.learned.network
        if network.crf is not None:
            raise SystemExit("PyTorch has no CRF to compare with")
        spelt = 0 if network.words is None else network.words.size
        size = network.embedding.size
        super().__init__(model, task, size + spelt, network.output.outputs, way)
        self.spelt = spelt > 0
        if self.spelt:
            self.characters = nn.Module()
            table = network.words.layers["characters.embedding"]
            self.characters.add_module("embedding", nn.Embedding(table.words, table.size))
            spelling = CELLS[model.cell](table.size, spelt // 2, bidirectional=True)
            self.characters.add_module(model.cell, spelling)

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.scores(batch), tensor(batch.targets).long())

    def scores(self, batch: Any) -> Tensor:
        padded = Padded(batch.offsets)
        x = self.embedding(tensor(batch.values))
        if self.spelt:
            x = torch.cat([x, self.spellings(batch.characters)], 1)
        x = self.dropout(x[padded.index])
        y = run(self.recurrent, x, padded, self.way)
        logits: Tensor = self.output(self.dropout(padded.rows(y)))
        return logits

    def spellings(self, words: Any) -> Tensor:
        """[N, size]: what both directions have read at their ends. Never plainly padded: the
        backward direction must begin with a word's last character."""
        padded = Padded(words.offsets)
        x = self.characters.get_submodule("embedding")(tensor(words.values)[padded.index])
        layer = self.characters.get_submodule(self.cell)
        assert isinstance(layer, nn.RNNBase)
        way = "turned" if self.way == "padded" else self.way
        return padded.ends(run(layer, x, padded, way))[tensor(words.inverse)]


class Language(Twin):
    def __init__(self, model: Any, task: LanguageTask, way: str) -> None:
        network = task.learned.network
        size = network.embedding.size
        super().__init__(model, task, size, network.output.outputs, way)
        self.state: Any = None
        if model.tie_weights:
            self.output.weight = self.embedding.weight

    def loss(self, batch: Any) -> Tensor:
        state = None if batch.step == 0 else self.state
        x = self.dropout(self.embedding(tensor(batch.inputs)))
        y, state = self.recurrent(x, state)
        self.state = tuple(s.detach() for s in state) if self.cell == "lstm" else state.detach()
        logits = self.output(self.dropout(y)).flatten(0, 1)
        return nn.functional.cross_entropy(logits, tensor(batch.targets).long().flatten())


class Forecast(Twin):
    def __init__(self, model: Any, task: ForecastTask, way: str) -> None:
        network = task.learned.network
        self.horizon = model.horizon
        super().__init__(model, task, network.recurrent.input_size, network.output.outputs, way)

    def loss(self, batch: Any) -> Tensor:
        x = tensor(batch.inputs)
        y, _ = self.recurrent(x)
        found = self.output(self.dropout(y[-1])) + x[-1].repeat(1, self.horizon)
        return nn.functional.mse_loss(found, tensor(batch.targets))


KINDS: dict[str, Callable[..., Twin]] = {
    "classifier": Classifier,
    "tagger": Tagger,
    "language": Language,
    "forecaster": Forecast,
}


def twin(model: Any, task: Any, way: str = "packed") -> Twin:
    """The PyTorch network of an estimator's task, with its weights as they are now."""
    made = KINDS[model.kind](model, task, way)
    made.take_weights(task.learned.network.parameters.state_dict())
    return made


def batches(task: Any, epoch: int) -> Iterator[Any]:
    """An epoch's batches with their data."""
    for batch in task.batches(epoch):
        yield take(task._train, batch) if isinstance(task, ScoringTask) else batch


def train(
    network: Twin, task: Any, settings: TrainingSettings, epochs: int | None = None
) -> list[float]:
    """Train as fastseq's loop does; the loss of each step, seconds being the caller's to take."""
    learnt = [value for value in network.parameters() if value.requires_grad]
    default = {"sgd": 1e-3, "adagrad": 1e-2, "rmsprop": 1e-2}.get(settings.optimiser, 1e-3)
    rate = settings.learning_rate or default
    optimiser = OPTIMISERS[settings.optimiser](learnt, lr=rate, **settings.optimiser_settings)
    rates = schedule(
        settings.schedule, rate, **{**settings.schedule_settings, "warmup": settings.warmup}
    )
    total = task.steps_per_epoch(0) * settings.epochs
    network.train()
    losses: list[Tensor] = []
    for epoch in range(settings.epochs if epochs is None else epochs):
        for batch in batches(task, epoch):
            for group in optimiser.param_groups:
                group["lr"] = rates(len(losses), total)
            optimiser.zero_grad()
            loss = network.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(learnt, settings.clip)
            if settings.clip_value is not None:
                nn.utils.clip_grad_value_(learnt, settings.clip_value)
            optimiser.step()
            losses.append(loss.detach())
    return torch.stack(losses).tolist()


def seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """(what it returned, how long it took)."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start
