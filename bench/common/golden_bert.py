"""What PyTorch and Hugging Face's transformers compute for small BERTs; for bench.golden.

For each activation a BertForPreTraining with random weights, without dropout: parameters, a ragged
batch, the rows of the last layer, the pooled rows, the loss of masked words and of the next
sentence, and the gradients of all parameters; then the losses of twenty steps by AdamW, without
weight decay for biases and norms, gradients clipped to a norm of 1, batches in rotation.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForPreTraining

from bench.common.golden import spec

STEPS = 20
BATCHES = 3
RATE = 3e-3
DECAY = 0.1
CLIP = 1.0
SIZES = {"words": 30, "positions": 16, "types": 2}
SHAPES = {
    "gelu": {"layers": 2, "size": 24, "heads": 3, "intermediate": 40},
    "gelu_new": {"layers": 1, "size": 20, "heads": 2, "intermediate": 36},
}
LENGTHS = [[7, 16, 3, 10], [12, 2, 5], [4, 4, 15, 9, 1]]
EPS = 1e-12
Arrays = dict[str, np.ndarray]


def bert() -> Arrays:
    """{"activation/what": array}, and "spec", JSON."""
    found: Arrays = {}
    for activation in SHAPES:
        torch.manual_seed(len(activation))
        model = made(activation)
        batches = [batch(number) for number in range(BATCHES)]
        results = {**parameters(model, "p "), **first_step(model, batches[0])}
        results["losses"] = np.array(training(model, batches))
        for number, each in enumerate(batches):
            results |= {f"{number} {name}": value for name, value in each.items()}
        found |= {f"{activation}/{name}": value for name, value in results.items()}
    settings = {"rate": RATE, "decay": DECAY, "clip": CLIP, "eps": EPS, "batches": BATCHES}
    return found | {"spec": spec({**SIZES, "shapes": SHAPES, "steps": STEPS, **settings})}


def made(activation: str) -> BertForPreTraining:
    shape = SHAPES[activation]
    config = BertConfig(
        vocab_size=SIZES["words"], hidden_size=shape["size"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], intermediate_size=shape["intermediate"],
        hidden_act=activation, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        max_position_embeddings=SIZES["positions"], type_vocab_size=SIZES["types"],
        layer_norm_eps=EPS, pad_token_id=None, attn_implementation="eager",
    )  # fmt: skip
    model = BertForPreTraining(config)
    with torch.no_grad():  # nothing is zero, one or tiny, so that everything matters
        for value in model.parameters():
            value += 0.2 * torch.randn_like(value)
    return model


def batch(number: int) -> Arrays:
    """ids, types and masked (the word or -1) of all tokens, offsets, and next of each sequence."""
    rng = np.random.default_rng(number)
    lengths = LENGTHS[number]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    N = int(offsets[-1])
    masked = np.where(rng.random(N) < 0.3, rng.integers(0, SIZES["words"], N), -1)
    masked[0] = 5
    return {
        "ids": rng.integers(0, SIZES["words"], N).astype(np.int32),
        "types": rng.integers(0, 2, N).astype(np.int32),
        "masked": masked.astype(np.int32),
        "offsets": offsets,
        "next": rng.integers(0, 2, len(lengths)).astype(np.int32),
    }


def run(model: BertForPreTraining, given: Arrays) -> tuple[Any, torch.Tensor]:
    """The model's output, and which positions of the padded batch are no padding."""
    bounds = list(pairwise(given["offsets"].tolist()))
    longest = max(b - a for a, b in bounds)
    real = torch.tensor([[i < b - a for i in range(longest)] for a, b in bounds])

    def padded(values: np.ndarray, fill: int) -> torch.Tensor:
        out = torch.full(real.shape, fill)
        out[real] = torch.from_numpy(values.astype(np.int64))
        return out

    labels = padded(given["masked"], -1)
    output = model(
        input_ids=padded(given["ids"], 0), token_type_ids=padded(given["types"], 0),
        attention_mask=real.long(), labels=torch.where(labels < 0, -100, labels),
        next_sentence_label=torch.from_numpy(given["next"].astype(np.int64)),
        output_hidden_states=True,
    )  # fmt: skip
    return output, real


def first_step(model: BertForPreTraining, given: Arrays) -> Arrays:
    output, real = run(model, given)
    output.loss.backward()
    found = {
        "rows": output.hidden_states[-1][real],
        "next scores": output.seq_relationship_logits,
        "word scores": output.prediction_logits[real],
        "loss": output.loss,
    }
    values = {name: tensor.detach().numpy().copy() for name, tensor in found.items()}
    return values | parameters(model, "d ", gradients=True)


def parameters(model: BertForPreTraining, prefix: str, gradients: bool = False) -> Arrays:
    """Copies of all parameters, or of their gradients; a tied one once."""
    return {
        f"{prefix}{name}": (value.grad if gradients else value.detach()).numpy().copy()
        for name, value in model.named_parameters()
    }


def training(model: BertForPreTraining, batches: list[Arrays]) -> list[float]:
    plain = [v for name, v in model.named_parameters() if is_plain(name)]
    decayed = [v for name, v in model.named_parameters() if not is_plain(name)]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    updates = torch.optim.AdamW(groups, RATE)
    losses = []
    for step in range(STEPS):
        updates.zero_grad()
        loss = run(model, batches[step % BATCHES])[0].loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        updates.step()
        losses.append(float(loss.detach()))
    return losses


def is_plain(name: str) -> bool:
    """Whether a parameter has no weight decay."""
    return name.endswith("bias") or "LayerNorm" in name
