"""What PyTorch computes for small recurrent layers and models; for bench.golden.

layers: for LSTM, GRU and RNN (tanh and ReLU), one and two layers, one and both directions, over a
ragged batch with initial states: parameters, inputs, outputs, last states, and the gradients of all
of them for random gradients of the outputs.

losses: for each task and cell, initial parameters, batches, and the losses of twenty steps by SGD
and by Adam, gradients clipped to a norm of 0.15. The tasks: a classifier (bidirectional, max
pooling), a tagger (two layers, bidirectional), the same with a CRF, a language model (two layers,
state carried from batch to batch) and a forecaster (mean squared error).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
    "relu": lambda *sizes, **settings: nn.RNN(*sizes, nonlinearity="relu", **settings),
}
STEPS = 20
CLIP = 0.15
RATES = {"sgd": 0.5, "adam": 0.02}
MOMENTUM = 0.5
BATCHES = 4  # used in rotation


# ---- layers ----------------------------------------------------------------------------------


def layers() -> dict[str, np.ndarray]:
    """{"cell/layers/directions/what": array}, and "spec", JSON."""
    sizes = {"steps": 6, "batch": 4, "inputs": 3, "units": 5}
    lengths = [4, 6, 1, 3]
    found: dict[str, np.ndarray] = {"lengths": np.array(lengths)}
    for cell in CELLS:
        for count in (1, 2):
            for directions in (1, 2):
                torch.manual_seed(100 * count + directions)
                made = layer(cell, count, directions, lengths, **sizes)
                prefix = f"{cell}/{count}/{directions}/"
                found |= {prefix + name: value for name, value in made.items()}
    return found | {"spec": spec({**sizes, "cells": list(CELLS)})}


def layer(
    cell: str, count: int, directions: int, lengths: list[int], *, steps: int, batch: int,
    inputs: int, units: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """One layer's parameters, inputs x, h, c, outputs y, last_h, last_c; the gradient of each under
    "d " and its name."""
    model = CELLS[cell](inputs, units, count, bidirectional=directions == 2)
    state_shape = (count * directions, batch, units)
    given = {"x": torch.randn(steps, batch, inputs), "h": torch.randn(state_shape)}
    if cell == "lstm":
        given["c"] = torch.randn(state_shape)
    for tensor in given.values():
        tensor.requires_grad_()
    state: Any = (given["h"], given["c"]) if cell == "lstm" else given["h"]
    rows, last = run_ragged(model, given["x"], lengths, state)
    results = {"y": rows, **dict(zip(("last_h", "last_c"), tupled(last), strict=False))}
    gradients = {name: torch.randn_like(value) for name, value in results.items()}
    torch.autograd.backward(list(results.values()), list(gradients.values()))
    inputs_of = {**given, **dict(model.named_parameters())}
    found = {**inputs_of, **results}
    found |= {f"d {name}": value for name, value in gradients.items()}
    found |= {f"d {name}": gradient_of(value) for name, value in inputs_of.items()}
    return {name: value.detach().numpy() for name, value in found.items()}


def run_ragged(
    model: nn.RNNBase, x: Tensor, lengths: list[int], state: Any = None
) -> tuple[Tensor, Any]:
    """(y [T, B, F], zeros past an end; last state) of x [T, B, I]."""
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    y, last = model(packed, state)
    return pad_packed_sequence(y, total_length=len(x))[0], last


def tupled(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def gradient_of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def spec(values: dict[str, Any]) -> np.ndarray:
    return np.array(json.dumps({"torch": torch.__version__, **values}))


# ---- losses ----------------------------------------------------------------------------------

WORDS, SIZE, UNITS, CLASSES = 20, 6, 7, 4
STEPS_OF_STREAM, STREAMS = 5, 3
WINDOW, COLUMNS = 8, 2
Batch = dict[str, np.ndarray]


class Network(nn.Module):
    """Embedding (but for numbers), recurrent layers under the cell's name, output, CRF."""

    def __init__(self, cell: str, task: str) -> None:
        super().__init__()
        self.cell, self.task = cell, task
        self.carried: Any = None
        count, directions = SHAPES[task]
        numeric = task == "forecast"
        if not numeric:
            self.embedding = nn.Embedding(WORDS, SIZE)
        inputs = COLUMNS if numeric else SIZE
        recurrent = CELLS[cell](inputs, UNITS, count, bidirectional=directions == 2)
        self.add_module(cell, recurrent)
        outputs = {"language": WORDS, "forecast": COLUMNS}.get(task, CLASSES)
        self.output = nn.Linear(directions * UNITS, outputs)
        if task == "crf":
            self.crf = nn.Module()
            for name, shape in (
                ("transitions", (CLASSES, CLASSES)), ("start", (CLASSES,)), ("end", (CLASSES,)),
            ):  # fmt: skip
                self.crf.register_parameter(name, nn.Parameter(0.1 * torch.randn(shape)))

    @property
    def recurrent(self) -> nn.RNNBase:
        found = self.get_submodule(self.cell)
        assert isinstance(found, nn.RNNBase)
        return found

    def loss(self, batch: Batch) -> Tensor:
        given = {name: torch.from_numpy(value) for name, value in batch.items()}
        if self.task == "language":
            y, state = self.recurrent(self.embedding(given["ids"]), self.carried)
            detached = tuple(part.detach() for part in tupled(state))
            self.carried = detached if self.cell == "lstm" else detached[0]
            logits = self.output(y)
            return nn.functional.cross_entropy(logits.flatten(0, 1), given["targets"].flatten())
        if self.task == "forecast":
            y, _ = self.recurrent(given["x"])
            return nn.functional.mse_loss(self.output(y[-1]), given["targets"])
        lengths = given["lengths"].tolist()
        ids = nn.utils.rnn.pad_sequence(list(given["ids"].long().split(lengths)))
        y, _ = run_ragged(self.recurrent, self.embedding(ids), lengths)
        sequences = [y[:length, b] for b, length in enumerate(lengths)]
        targets = given["targets"].long()
        if self.task == "classify":
            pooled = torch.stack([rows.amax(dim=0) for rows in sequences])
            return nn.functional.cross_entropy(self.output(pooled), targets)
        scores = self.output(torch.cat(sequences))
        if self.task == "tag":
            return nn.functional.cross_entropy(scores, targets)
        pairs = zip(scores.split(lengths), targets.split(lengths), strict=True)
        return torch.stack([self.crf_loss(*pair) for pair in pairs]).sum() / len(targets)

    def crf_loss(self, scores: Tensor, tags: Tensor) -> Tensor:
        """-log p of one sequence: the log-sum over all paths less the score of this one."""
        transitions, start, end = (
            self.crf.get_parameter(name) for name in ("transitions", "start", "end")
        )
        total = start + scores[0]
        for row in scores[1:]:
            total = torch.logsumexp(total[:, None] + transitions, dim=0) + row
        path = start[tags[0]] + scores[torch.arange(len(tags)), tags].sum() + end[tags[-1]]
        path = path + transitions[tags[:-1], tags[1:]].sum()
        return torch.logsumexp(total + end, dim=0) - path


SHAPES = {  # layers and directions of each task's model
    "classify": (1, 2),
    "tag": (2, 2),
    "crf": (1, 2),
    "language": (2, 1),
    "forecast": (1, 1),
}


def losses() -> dict[str, np.ndarray]:
    """{"task/data/batch/what", "task/cell/weights/name", "task/cell/losses/optimiser": array}."""
    found: dict[str, np.ndarray] = {}
    for task in SHAPES:
        data = list(batches(task, np.random.default_rng(7)))
        for number, batch in enumerate(data):
            found |= {f"{task}/data/{number}/{name}": value for name, value in batch.items()}
        for cell in ("lstm", "gru", "rnn"):
            torch.manual_seed(11)
            weights = {
                name: value.numpy().copy()
                for name, value in Network(cell, task).state_dict().items()
            }
            found |= {f"{task}/{cell}/weights/{name}": value for name, value in weights.items()}
            for optimiser in RATES:
                made = trained(task, cell, weights, data, optimiser)
                found[f"{task}/{cell}/losses/{optimiser}"] = np.array(made)
    facts = {
        "shapes": SHAPES, "steps": STEPS, "clip": CLIP, "rates": RATES, "momentum": MOMENTUM,
        "batches": BATCHES, "words": WORDS, "size": SIZE, "units": UNITS, "classes": CLASSES,
        "columns": COLUMNS,
    }  # fmt: skip
    return found | {"spec": spec(facts)}


def batches(task: str, rng: np.random.Generator) -> Iterator[Batch]:
    """Random data that can be memorised."""
    for _ in range(BATCHES):
        if task == "language":
            stream = rng.integers(0, WORDS, (STEPS_OF_STREAM + 1, STREAMS))
            yield {"ids": stream[:-1], "targets": stream[1:]}
        elif task == "forecast":
            x = rng.standard_normal((WINDOW, STREAMS, COLUMNS), dtype=np.float32)
            yield {"x": x, "targets": x.mean(axis=0) + 0.5}
        else:
            lengths = rng.integers(1, 8, 5)
            count = 5 if task == "classify" else int(lengths.sum())
            yield {
                "lengths": lengths,
                "ids": rng.integers(0, WORDS, int(lengths.sum())).astype(np.int32),
                "targets": rng.integers(0, CLASSES, count).astype(np.int32),
            }


def trained(task: str, cell: str, weights: Batch, data: list[Batch], optimiser: str) -> list[float]:
    """The loss before each of STEPS updates."""
    network = Network(cell, task)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    rate = RATES[optimiser]
    updates: torch.optim.Optimizer
    if optimiser == "sgd":
        updates = torch.optim.SGD(network.parameters(), rate, momentum=MOMENTUM)
    else:
        updates = torch.optim.Adam(network.parameters(), rate)
    found = []
    for step in range(STEPS):
        updates.zero_grad()
        loss = network.loss(data[step % len(data)])
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        updates.step()
        found.append(float(loss.detach()))
    return found
