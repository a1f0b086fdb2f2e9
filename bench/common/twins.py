"""The sequence models' networks in PyTorch.

A twin has the same layers under the same names as fastseq's network, starts from the same weights
and is fed the same batches in the same order, with the same optimiser, rates and clipping
(common/training.py). What it learned can be loaded into fastseq's network, so that both are
evaluated by one piece of code (their outputs from the same weights agree:
tests/nn/test_nn_golden.py).

Batches are as a careful user of PyTorch makes them: bucketed by length, padded, time first. There
are three ways of running a layer over them (WAYS). "packed": as a packed sequence, PyTorch's own
means. "reversed": padded, each direction a layer of its own, the second on reversed sequences; as
exact and, on the CPU, much faster. "padded": both directions in one call; the second reads the
padding first, which changes results a little and is the fastest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.common.training import Training, Weights
from fastseq.nn.schedules import schedule

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
WAYS = ("packed", "reversed", "padded")


class Padded:
    """Positions of a ragged batch's rows in a padded one.

    index    int64[T, B], the ragged row of each position
    reversed int64[T, B], the position (t * B + b) of its row in reversed sequences
    inside   bool[T, B], false past a sequence's end
    lengths  int64[B]
    """

    def __init__(self, offsets: np.ndarray) -> None:
        lengths = np.diff(offsets)
        steps = np.arange(int(lengths.max()))[:, None]
        inside = steps < lengths
        batch = np.arange(len(lengths))
        back = np.where(inside, lengths - 1 - steps, steps) * len(lengths) + batch
        self.index = torch.from_numpy(np.where(inside, offsets[:-1] + steps, 0))
        self.reversed = torch.from_numpy(back)
        self.inside = torch.from_numpy(inside)
        self.lengths = torch.from_numpy(lengths)

    def rows(self, y: Tensor) -> Tensor:
        """[N, F] of [T, B, F], sequence after sequence."""
        return y.transpose(0, 1)[self.inside.T]

    def reverse(self, x: Tensor) -> Tensor:
        """x [T, B, F], every sequence reversed."""
        return x.flatten(0, 1)[self.reversed]

    def ends(self, y: Tensor) -> Tensor:
        """[B, F] of both directions' y: the last output of each."""
        half = y.shape[2] // 2
        last = y[self.lengths - 1, torch.arange(y.shape[1]), :half]
        return torch.cat([last, y[0, :, half:]], 1)


def run(layer: nn.RNNBase, x: Tensor, padded: Padded, way: str) -> Tensor:
    """y [T, B, F] of x [T, B, I]; undefined past a sequence's end."""
    if way == "packed":
        rows, _ = layer(pack_padded_sequence(x, padded.lengths, enforce_sorted=False))
        y: Tensor = pad_packed_sequence(rows, total_length=len(x))[0]
        return y
    if way == "padded" or not layer.bidirectional:
        y, _ = layer(x)
        return y
    if layer.num_layers > 1:
        raise ValueError("several bidirectional layers can only be packed or padded")
    forwards, backwards = direction(layer, ""), direction(layer, "_reverse")
    return torch.cat([forwards(x)[0], padded.reverse(backwards(padded.reverse(x))[0])], 2)


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
    """What the networks share: embedding, recurrent layers under the cell's name, output.

    model    the estimator whose settings it has
    weights  of its network: sizes, and the first values
    """

    def __init__(self, model: Any, weights: Weights, way: str) -> None:
        super().__init__()
        if model.recurrent_dropout:
            raise ValueError("PyTorch has no recurrent weight dropout to compare with")
        self.way, self.cell = way, model.cell
        bidirectional = getattr(model, "bidirectional", False)
        layer = CELLS[model.cell](
            weights[f"{model.cell}.weight_ih_l0"].shape[1], model.hidden, model.layers,
            bidirectional=bidirectional, dropout=model.dropout if model.layers > 1 else 0.0,
        )  # fmt: skip
        self.add_module(model.cell, layer)
        width = (1 + bidirectional) * model.hidden
        outputs = weights["output.bias"].shape[0]
        self.output = nn.Linear(width, outputs)
        self.dropout = nn.Dropout(model.dropout)
        if "embedding.weight" in weights:
            self.embedding = nn.Embedding(*weights["embedding.weight"].shape)
            self.embedding.weight.requires_grad_(not model.freeze_embeddings)

    @property
    def recurrent(self) -> nn.RNNBase:
        found = self.get_submodule(self.cell)
        assert isinstance(found, nn.RNNBase)
        return found

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The mean loss of a batch as fastseq defines it, differentiable."""

    def load(self, weights: Weights) -> None:
        """Take over weights; tied ones have one name."""
        self.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()}, False)

    def weights(self, like: Weights) -> Weights:
        """Copies of its weights under the names of `like`."""
        state = self.state_dict()
        return {name: state[name].numpy().copy() for name in like}


class Scorer(Twin):
    """A network that gives scores for labels."""

    @abstractmethod
    def scores(self, batch: Any) -> Tensor:
        """[B, K] of a classifier, [N, K] of a tagger."""

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.scores(batch), tensor(batch.targets).long())


class Classifier(Scorer):
    def __init__(self, model: Any, weights: Weights, way: str) -> None:
        super().__init__(model, weights, way)
        if model.class_weights is not None:
            raise ValueError("class weights are not compared")
        self.pooling = model.pooling
        self.attention = parameters(weights, "attention.")

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
            return y.masked_fill(~inside, 0).sum(0) / padded.lengths[:, None]
        if self.pooling == "last":
            last = y[padded.lengths - 1, torch.arange(y.shape[1])]
            return padded.ends(y) if self.recurrent.bidirectional else last
        weight, bias, vector = (
            self.attention.get_parameter(name) for name in ("weight", "bias", "vector")
        )
        scores = torch.tanh(nn.functional.linear(y, weight, bias)) @ vector
        shares = scores.masked_fill(~padded.inside, -torch.inf).softmax(0)
        return (shares[:, :, None] * y).sum(0)


class Tagger(Scorer):
    """Without a CRF: PyTorch has none."""

    def __init__(self, model: Any, weights: Weights, way: str) -> None:
        super().__init__(model, weights, way)
        if model.crf:
            raise ValueError("PyTorch has no CRF to compare with")
        if "characters.embedding.weight" in weights:
            self.characters = nn.Module()
            vocabulary, size = weights["characters.embedding.weight"].shape
            hidden = weights[f"characters.{model.cell}.weight_hh_l0"].shape[1]
            self.characters.add_module("embedding", nn.Embedding(vocabulary, size))
            layer = CELLS[model.cell](size, hidden, bidirectional=True)
            self.characters.add_module(model.cell, layer)

    def scores(self, batch: Any) -> Tensor:
        padded = Padded(batch.offsets)
        x = self.embedding(tensor(batch.values))
        if hasattr(self, "characters"):
            x = torch.cat([x, self.spellings(batch.characters)], 1)
        x = self.dropout(x[padded.index])
        y = run(self.recurrent, x, padded, self.way)
        logits: Tensor = self.output(self.dropout(padded.rows(y)))
        return logits

    def spellings(self, words: Any) -> Tensor:
        """[N, size]: the last outputs of both directions. Never simply padded: the backward
        direction must begin with a word's last character."""
        padded = Padded(words.offsets)
        x = self.characters.get_submodule("embedding")(tensor(words.values)[padded.index])
        layer = self.characters.get_submodule(self.cell)
        assert isinstance(layer, nn.RNNBase)
        way = "reversed" if self.way == "padded" else self.way
        return padded.ends(run(layer, x, padded, way))[tensor(words.inverse)]


class Language(Twin):
    def __init__(self, model: Any, weights: Weights, way: str) -> None:
        super().__init__(model, weights, way)
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
    def __init__(self, model: Any, weights: Weights, way: str) -> None:
        super().__init__(model, weights, way)
        self.horizon = model.horizon

    def loss(self, batch: Any) -> Tensor:
        x = tensor(batch.inputs)
        y, _ = self.recurrent(x)
        found = self.output(self.dropout(y[-1])) + x[-1].repeat(1, self.horizon)
        return nn.functional.mse_loss(found, tensor(batch.targets))


def parameters(weights: Weights, prefix: str) -> nn.Module:
    """A module of those under a prefix."""
    module = nn.Module()
    for name, value in weights.items():
        if name.startswith(prefix):
            empty = nn.Parameter(torch.empty(value.shape))
            module.register_parameter(name.removeprefix(prefix), empty)
    return module


TWINS: Mapping[str, Callable[..., Twin]] = {
    "classifier": Classifier,
    "tagger": Tagger,
    "language": Language,
    "forecaster": Forecast,
}


def twin(model: Any, weights: Weights, way: str = "packed") -> Any:
    """The PyTorch network of an estimator, with these weights."""
    made = TWINS[model.kind](model, weights, way)
    made.load(weights)
    return made


def train(network: Twin, training: Training, epochs: int | None = None) -> list[float]:
    """Train as fastseq's loop does; the loss of each step."""
    settings = training.settings
    learnt = [value for value in network.parameters() if value.requires_grad]
    default = {"sgd": 1e-3, "adagrad": 1e-2, "rmsprop": 1e-2}.get(settings.optimiser, 1e-3)
    rate = settings.learning_rate or default
    optimiser = OPTIMISERS[settings.optimiser](learnt, lr=rate, **settings.optimiser_settings)
    rates = schedule(
        settings.schedule, rate, **{**settings.schedule_settings, "warmup": settings.warmup}
    )
    network.train()
    losses: list[Tensor] = []
    for epoch in range(settings.epochs if epochs is None else epochs):
        for batch in training.batches(epoch):
            for group in optimiser.param_groups:
                group["lr"] = rates(len(losses), training.steps)
            optimiser.zero_grad()
            loss = network.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(learnt, settings.clip)
            if settings.clip_value is not None:
                nn.utils.clip_grad_value_(learnt, settings.clip_value)
            optimiser.step()
            losses.append(loss.detach())
    found: list[float] = torch.stack(losses).tolist()
    return found
