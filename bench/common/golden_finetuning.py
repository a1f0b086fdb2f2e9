"""What transformers' BertForSequenceClassification computes in fine-tuning; for bench.golden.

Of a small BERT with random weights, without dropout, on labels of texts ("classify") and on numbers
of pairs of texts ("pair"): the parameters, the losses of twenty steps on all rows as
fastseq.BertClassifier and BertRegressor train (AdamW without weight decay for biases and norms,
gradients clipped to a norm of 1, a linear schedule after a warm-up), and the outputs afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from bench.common.golden import spec
from bench.common.golden_bert import is_plain, parameters

STEPS, WARMUP = 20, 2
RATE, DECAY, CLIP, EPS = 2e-3, 0.1, 1.0, 1e-12
LABELS = 3
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CONFIG: dict[str, Any] = {
    "vocab_size": 30, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 24, "type_vocab_size": 2,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": EPS,
}  # fmt: skip
LENGTHS = [7, 1, 10, 4, 4, 9, 2, 6]
SECONDS = [3, 8, 1, 5, 2, 11, 4, 4]
Arrays = dict[str, np.ndarray]


def finetuning() -> Arrays:
    """{"task/what": array}, and "spec", JSON, with the texts of the rows."""
    rng = np.random.default_rng(5)
    words = [f"w{number}" for number in range(CONFIG["vocab_size"] - len(SPECIALS))]
    first, second = (
        [rng.choice(words, length).tolist() for length in lengths] for lengths in (LENGTHS, SECONDS)
    )
    labels = rng.integers(0, LABELS, len(first))
    scores = rng.uniform(0, 5, len(first)).astype(np.float32)
    found = trained("classify", first, None, labels, [*SPECIALS, *words])
    found |= trained("pair", first, second, scores, [*SPECIALS, *words])
    rows = [[" ".join(text) for text in texts] for texts in (first, second)]
    settings = {"rate": RATE, "decay": DECAY, "clip": CLIP, "steps": STEPS, "warmup": WARMUP}
    own = {"config": CONFIG, "pieces": [*SPECIALS, *words], "first": rows[0], "second": rows[1]}
    return found | {
        "labels": labels.astype(np.int64), "scores": scores, "spec": spec({**settings, **own})
    }  # fmt: skip


def trained(
    task: str,
    first: list[list[str]],
    second: list[list[str]] | None,
    targets: np.ndarray,
    pieces: list[str],
) -> Arrays:
    torch.manual_seed(len(task))
    outputs = LABELS if second is None else 1
    kind = "single_label_classification" if second is None else "regression"
    config = BertConfig(
        **CONFIG, num_labels=outputs, problem_type=kind, pad_token_id=None,
        attn_implementation="eager",
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():  # nothing is zero, one or tiny, so that everything matters
        for value in model.parameters():
            value += 0.2 * torch.randn_like(value)
    found = parameters(model, "p ")
    given = inputs(first, second, pieces)
    plain = [v for name, v in model.named_parameters() if is_plain(name)]
    decayed = [v for name, v in model.named_parameters() if not is_plain(name)]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    updates = torch.optim.AdamW(groups, RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(updates, rate)
    losses = []
    for _ in range(STEPS):
        updates.zero_grad()
        loss = model(**given, labels=torch.from_numpy(targets)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        updates.step()
        schedule.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        scores = model(**given).logits
    found |= {"losses": np.array(losses), "outputs": scores.numpy().copy()}
    return {f"{task}/{name}": value for name, value in found.items()}


def rate(step: int) -> float:
    """The learning rate of a step as a share of the highest."""
    return (step + 1) / WARMUP if step < WARMUP else 1 - (step - WARMUP) / (STEPS - WARMUP)


def inputs(
    first: list[list[str]], second: list[list[str]] | None, pieces: list[str]
) -> dict[str, torch.Tensor]:
    """The padded inputs of [CLS] a [SEP], or [CLS] a [SEP] b [SEP]."""
    rows = [["[CLS]", *text, "[SEP]"] for text in first]
    kinds = [[0] * len(row) for row in rows]
    for row, kind, text in zip(rows, kinds, second or [[]] * len(rows), strict=True):
        if second is not None:
            row += [*text, "[SEP]"]
            kind += [1] * (len(text) + 1)
    longest = max(map(len, rows))
    ids, types, mask = torch.zeros((3, len(rows), longest), dtype=torch.long)
    for number, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        ids[number, : len(row)] = torch.tensor([pieces.index(piece) for piece in row])
        types[number, : len(row)] = torch.tensor(kind)
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
