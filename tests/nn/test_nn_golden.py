"""Layers and training against what PyTorch computed (bench/golden.py writes the files)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.nn.clipping import clip_norm
from fastseq.nn.crf import CRF
from fastseq.nn.dense import Dense
from fastseq.nn.embedding import Embedding
from fastseq.nn.layer import Layer, joined
from fastseq.nn.losses import ProjectedCrossEntropy, mean_squared_error, softmax_cross_entropy
from fastseq.nn.optimisers import SGD, Adam
from fastseq.nn.pooling import Pooling
from fastseq.nn.recurrent import GRU, LSTM, RNN, Recurrent
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
def test_a_layer_computes_what_pytorch_does(
    cell: str, layers: int, directions: int, threads: int
) -> None:
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
    """The models of bench/golden.py out of this package's layers."""

    def __init__(self, task: str, cell: str) -> None:
        self.task, self.cell = task, cell
        count, directions = SPEC["shapes"][task]
        units, classes = SPEC["units"], SPEC["classes"]
        self.state: Any = None
        self.recurrent: Recurrent = CELLS[cell](
            SPEC["columns"] if task == "forecast" else SPEC["size"], units, count, directions == 2,
            threads=2,
        )  # fmt: skip
        outputs = {"language": SPEC["words"], "forecast": SPEC["columns"]}.get(task, classes)
        self.output = Dense(directions * units, outputs)
        parts: dict[str, Layer] = {cell: self.recurrent, "output": self.output}
        if task != "forecast":
            parts["embedding"] = self.embedding = Embedding(SPEC["words"], SPEC["size"])
        if task == "crf":
            parts["crf"] = self.crf = CRF(classes)
        self.pooling = Pooling(
            "max" if task == "classify" else "last", directions * units, bidirectional=False
        )
        self.projected = ProjectedCrossEntropy(budget=1000)  # a few rows at a time
        self.parameters = joined(parts)

    def loss(self, batch: dict[str, np.ndarray]) -> float:
        """The loss of a batch; its gradients are added to the parameters'."""
        if self.task == "language":
            return self.language(batch)
        if self.task == "forecast":
            return self.forecast(batch)
        offsets = np.concatenate([[0], batch["lengths"].cumsum()])
        rows = self.embedding.forward(batch["ids"])
        y, _ = self.recurrent.forward_ragged(rows, offsets)
        if self.task == "classify":
            logits = self.output.forward(self.pooling.forward(y, offsets))
            loss = softmax_cross_entropy(logits, batch["targets"])
            dy = self.pooling.backward(self.output.backward(logits))
        else:
            logits = self.output.forward(y)
            if self.task == "tag":
                loss, slopes = softmax_cross_entropy(logits, batch["targets"]), logits
            else:
                loss = self.crf.loss(logits, batch["targets"], offsets)
                slopes = self.crf.backward()
            dy = self.output.backward(slopes)
        dx = self.recurrent.backward_ragged(dy)
        assert dx is not None
        self.embedding.backward(dx)
        return loss

    def language(self, batch: dict[str, np.ndarray]) -> float:
        steps, streams = batch["ids"].shape
        rows = self.embedding.forward(batch["ids"].reshape(-1))
        y, self.state = self.recurrent.forward(rows.reshape(steps, streams, -1), None, self.state)
        loss = self.projected.loss(
            y.reshape(steps * streams, -1), self.output, batch["targets"].reshape(-1)
        )
        dx = self.recurrent.backward(self.projected.backward().reshape(y.shape))
        self.embedding.backward(dx.reshape(steps * streams, -1))
        return loss

    def forecast(self, batch: dict[str, np.ndarray]) -> float:
        x = batch["x"]
        steps, rows, columns = x.shape
        values = np.ascontiguousarray(x.swapaxes(0, 1)).reshape(-1, columns)
        offsets = np.arange(rows + 1) * steps
        y, _ = self.recurrent.forward_ragged(values, offsets)
        found = self.output.forward(self.pooling.forward(y, offsets))
        loss = mean_squared_error(found, batch["targets"])
        slopes = self.pooling.backward(self.output.backward(found))
        assert self.recurrent.backward_ragged(slopes, want_dx=False) is None
        return loss


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("task", SPEC["shapes"])
def test_twenty_losses_in_turn_are_pytorchs(task: str, cell: str, optimiser: str) -> None:
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
        found.append(model.loss(batch))
        norms.append(clip_norm(model.parameters, SPEC["clip"], model.recurrent.team))
        stepper.step()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert max(norms) > SPEC["clip"]
