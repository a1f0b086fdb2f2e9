"""BERT's layers and training against PyTorch's and transformers' (bench/golden.py: the file)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.nn.bert import BertEmbeddings, MaskedWordHead, Pooler
from fastseq.nn.encoder import Affine, Norm
from fastseq.nn.layer import Parameters, joined
from fastseq.nn.layers import Dense
from fastseq.nn.losses import softmax_cross_entropy
from fastseq.nn.optimisers import AdamW, clip_norm
from fastseq.nn.transformer import TransformerEncoder
from fastseq.nn.word_scores import HeadWeights, WordScores
from fastseq.threads import Team
from tests.naive.differences import relative_error

GOLDEN = dict(np.load(Path(__file__).resolve().parents[1] / "golden" / "transformer" / "bert.npz"))
SPEC = json.loads(str(GOLDEN["spec"]))
Arrays = dict[str, np.ndarray]


class Bert:
    """The network of transformers' BertForPreTraining, under its names."""

    def __init__(self, activation: str, team: Team) -> None:
        shape = SPEC["shapes"][activation]
        size, settings = shape["size"], {"eps": SPEC["eps"], "team": team}
        self.embeddings = BertEmbeddings(
            SPEC["words"], size, positions=SPEC["positions"], types=SPEC["types"], dropout=0,
            **settings,
        )  # fmt: skip
        self.encoder = TransformerEncoder(
            shape["layers"], size, shape["heads"], shape["intermediate"], dropout=0,
            attention_dropout=0, activation=activation, **settings,
        )  # fmt: skip
        self.pooler = Pooler(size, team=team)
        self.words = MaskedWordHead(self.embeddings.words, activation=activation, **settings)
        self.next = Dense(size, 2, team=team)
        layers = {
            "bert.embeddings": self.embeddings,
            "bert.encoder": self.encoder,
            "bert.pooler": self.pooler,
            "cls.predictions": self.words,
            "cls.seq_relationship": self.next,
        }
        self.parameters: Parameters = joined(layers)
        self.rows: Any = None
        self.next_scores: Any = None

    def loss(self, batch: Arrays) -> float:
        """The sum of both losses; adds to the gradients."""
        offsets = batch["offsets"]
        x = self.embeddings.forward(batch["ids"], offsets, batch["types"])
        self.rows = self.encoder.forward(x, offsets)
        masked = np.flatnonzero(batch["masked"] >= 0)
        loss = float(self.words.loss(self.rows[masked], batch["masked"][masked]))
        first = offsets[:-1]
        self.next_scores = self.next.forward(self.pooler.forward(self.rows[first]))
        gradient = self.next_scores.copy()
        loss += softmax_cross_entropy(gradient, batch["next"])
        dy = np.zeros_like(self.rows)
        dy[masked] += self.words.backward()
        dy[first] += self.pooler.backward(self.next.backward(gradient))
        self.embeddings.backward(self.encoder.backward(dy))
        return loss


def under(prefix: str) -> Arrays:
    found = {k.removeprefix(prefix): v for k, v in GOLDEN.items() if k.startswith(prefix)}
    assert found, prefix
    return found


@pytest.mark.parametrize("activation", SPEC["shapes"])
@pytest.mark.parametrize("threads", [1, 2])
def test_bert_matches_pytorch(activation: str, threads: int) -> None:
    network = Bert(activation, Team(threads))
    network.parameters.load_state_dict(under(f"{activation}/p "))
    batch = under(f"{activation}/0 ")
    golden = under(f"{activation}/")
    assert network.loss(batch) == pytest.approx(float(golden["loss"]), rel=1e-5)
    assert relative_error(network.rows, golden["rows"]) < 1e-5
    assert relative_error(network.next_scores, golden["next scores"]) < 1e-5
    assert relative_error(network.words.forward(network.rows), golden["word scores"]) < 1e-5
    gradients = under(f"{activation}/d ")
    assert gradients.keys() == set(network.parameters)
    for name, gradient in gradients.items():
        # the gradient of a key's bias is 0: what PyTorch has is rounding
        scale = max(float(np.abs(gradient).max()), 1e-3)
        found = network.parameters.gradient_views[name]
        assert np.abs(found - gradient).max() < 1e-4 * scale, name


@pytest.mark.parametrize("activation", SPEC["shapes"])
def test_maxima_of_word_scores_match_pytorch(activation: str) -> None:
    p, golden = under(f"{activation}/p "), under(f"{activation}/")
    head = "cls.predictions.transform"
    weights = HeadWeights(
        Affine(p[f"{head}.dense.weight"], p[f"{head}.dense.bias"]),
        Norm(p[f"{head}.LayerNorm.weight"], p[f"{head}.LayerNorm.bias"]),
        Affine(p["bert.embeddings.word_embeddings.weight"], p["cls.predictions.bias"]),
    )
    scores = WordScores(weights, SPEC["eps"], activation != "gelu", Team(1))
    offsets = golden["0 offsets"]
    expected = np.maximum.reduceat(golden["word scores"], offsets[:-1], axis=0)
    found = scores.maxima(golden["rows"], offsets)
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("activation", SPEC["shapes"])
def test_twenty_losses_match_pytorch(activation: str) -> None:
    team = Team(2)
    network = Bert(activation, team)
    parameters = network.parameters
    parameters.load_state_dict(under(f"{activation}/p "))
    plain = [name for name in parameters if name.endswith("bias") or "LayerNorm" in name]
    updates = AdamW(parameters, SPEC["rate"], weight_decay=SPEC["decay"], no_decay=plain, team=team)
    batches = [under(f"{activation}/{number} ") for number in range(SPEC["batches"])]
    losses = []
    for step in range(SPEC["steps"]):
        parameters.zero_gradients()
        losses.append(network.loss(batches[step % len(batches)]))
        clip_norm(parameters, SPEC["clip"], team)
        updates.step()
    golden = GOLDEN[f"{activation}/losses"]
    assert golden[-1] < golden[0] - 0.5  # it learns
    np.testing.assert_allclose(losses, golden, rtol=1e-4)
