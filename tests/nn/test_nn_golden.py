"""Layers and training against what PyTorch computed (bench/golden.py writes the files)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.models.data.batches import Batch
from fastseq.models.forecaster import ForecastNetwork
from fastseq.models.language import LanguageNetwork
from fastseq.models.scoring import ScoringNetwork
from fastseq.nn.backend import Backend
from fastseq.nn.crf import CRF
from fastseq.nn.layer import Parameters
from fastseq.nn.layers import Dense, Embedding
from fastseq.nn.losses import ProjectedCrossEntropy, mean_squared_error
from fastseq.nn.optimisers import SGD, Adam, clip_norm
from fastseq.nn.pooling import Pooling
from fastseq.nn.recurrent import GRU, LSTM, RNN
from fastseq.threads import Team
from tests.naive.differences import relative_error

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "recurrent"
LAYERS = dict(np.load(FOLDER / "layers.npz"))
LOSSES = dict(np.load(FOLDER / "losses.npz"))
SPEC = json.loads(str(LOSSES["spec"]))
CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN, "relu": RNN}


def under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    found = {name.removeprefix(prefix): v for name, v in arrays.items() if name.startswith(prefix)}
    assert found, prefix
    return found


# ---- layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_match_pytorch(cell: str, layers: int, directions: int, threads: int) -> None:
    golden = under(LAYERS, f"{cell}/{layers}/{directions}/")
    sizes = json.loads(str(LAYERS["spec"]))
    settings: dict[str, Any] = {"nonlinearity": "relu"} if cell == "relu" else {}
    layer = CELLS[cell](
        sizes["inputs"], sizes["units"], layers, directions == 2, threads=threads, **settings
    )
    layer.load_state_dict({name: golden[name] for name in layer.shapes()})
    names = ("h", "c") if cell == "lstm" else ("h",)

    def state(prefix: str) -> Any:
        parts = tuple(golden[prefix + name].copy() for name in names)
        return parts if cell == "lstm" else parts[0]

    y, last = layer.forward(golden["x"], LAYERS["lengths"], state(""))
    dx = layer.backward(golden["d y"], state("d last_"))
    found = {"y": y, "d x": dx, **{f"d {k}": v for k, v in layer.gradients().items()}}
    for position, name in enumerate(names):
        found[f"last_{name}"] = last[position] if cell == "lstm" else last
        found[f"d {name}"] = layer.dstate[position] if cell == "lstm" else layer.dstate
    assert found.keys() | {"d y", *(f"d last_{n}" for n in names), "x", *names} == (
        golden.keys() - layer.shapes().keys()
    )
    off = {name: relative_error(value, golden[name]) for name, value in found.items()}
    assert max(off.values()) < 1e-4, off


# ---- twenty losses ---------------------------------------------------------------------------


class Model:
    """The networks that the estimators train, with the sizes of bench/golden.py's."""

    def __init__(self, task: str, cell: str) -> None:
        self.task = task
        self.team = team = Team(2)
        backend = Backend(team)
        self.state: Any = None
        count, directions = SPEC["shapes"][task]
        units, classes, words, size = (SPEC[name] for name in ("units", "classes", "words", "size"))
        inputs = SPEC["columns"] if task == "forecast" else size
        layer = CELLS[cell](inputs, units, count, directions == 2, team=team)
        table = Embedding(words, size, team=team)
        width = layer.output_size
        self.network: Any
        if task == "language":
            self.network = LanguageNetwork(table, layer, cell, 0.0, False, 0, backend)
            self.network.head = ProjectedCrossEntropy(budget=1000)  # a few rows at a time
        elif task == "forecast":
            output = Dense(width, inputs, team=team)
            self.network = ForecastNetwork(layer, output, cell, 0.0, 1, backend)
        elif task == "classify":
            pooling, output = Pooling("max", width, team=team), Dense(width, classes, team=team)
            self.network = ScoringNetwork(cell, table, layer, output, 0.0, backend, pooling=pooling)
        else:
            crf = CRF(classes, team=team) if task == "crf" else None
            output = Dense(width, classes, team=team)
            self.network = ScoringNetwork(cell, table, layer, output, 0.0, backend, crf=crf)
        self.parameters: Parameters = self.network.parameters

    def loss(self, batch: dict[str, np.ndarray], by_step: bool) -> float:
        """The loss of a batch; its gradients are added to the parameters'.

        by_step  the embedding's rows step by step instead of once for each word of the batch
        """
        network = self.network
        if self.task == "language":
            ids, targets = (batch[name].astype(np.int32) for name in ("ids", "targets"))
            loss, self.state = network.learn(ids, targets, self.state, 0)
            return float(loss)
        if self.task == "forecast":  # the network adds the window's last values to its output
            out = network.forward(*network.prepare(batch["x"]))
            loss = mean_squared_error(out, batch["targets"] + batch["x"][-1])
            network.backward(out, len(batch["x"]))
            return loss
        offsets = np.concatenate([[0], batch["lengths"].cumsum()])
        rows, places = np.arange(len(batch["lengths"])), np.arange(len(batch["ids"]))
        taken = Batch(batch["ids"], offsets, rows, places, batch["targets"])
        network.by_step = by_step
        loss, weight = network.loss(network.scores(taken, True), taken, True)
        assert weight == len(batch["targets"])
        network.backward()
        return float(loss)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    ("task", "by_step"),
    [*((task, False) for task in SPEC["shapes"]), ("classify", True), ("tag", True), ("crf", True)],
)
def test_twenty_training_losses_match_pytorch(
    task: str, by_step: bool, cell: str, optimiser: str
) -> None:
    model = Model(task, cell)
    model.parameters.load_state_dict(under(LOSSES, f"{task}/{cell}/weights/"))
    rate = SPEC["rates"][optimiser]
    stepper = (
        SGD(model.parameters, rate, momentum=SPEC["momentum"])
        if optimiser == "sgd"
        else Adam(model.parameters, rate)
    )
    expected = LOSSES[f"{task}/{cell}/losses/{optimiser}"]
    assert len(expected) == SPEC["steps"] == 20
    assert len(np.unique(expected)) == 20
    found, norms = [], []
    for step in range(20):
        batch = under(LOSSES, f"{task}/data/{step % SPEC['batches']}/")
        model.parameters.zero_gradients()
        found.append(model.loss(batch, by_step))
        norms.append(clip_norm(model.parameters, SPEC["clip"], model.team))
        stepper.step()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert max(norms) > SPEC["clip"]
