"""What transformers computes in fine-tuning for tags, answers, rankings and vectors; for
bench.golden.

Each task trains a small BERT with random weights, without dropout, for twenty steps on all rows, as
golden_finetuning does: parameters, losses, and outputs afterwards.

tag     BertForTokenClassification: the first piece of each word has a label, others -100
answer  BertForQuestionAnswering: the pieces of a context that are the answer
rerank  BertForSequenceClassification with one output: binary cross-entropy of labels 0 and 1;
lists   the same, the softmax over the texts of a query, of which the first is the right one
embed   BertModel: the cross-entropy of the cosines of all pairs of a first and a second text,
        divided by .05, of which the diagonal ones are the right pairs
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

from bench.common import golden_finetuning as plain
from bench.common.golden import spec
from bench.common.golden_bert import is_plain, parameters

PIECES = [
    *plain.SPECIALS, *(f"w{number}" for number in range(15)), *(f"##x{n}" for n in range(10))
]  # fmt: skip
LENGTHS = [7, 1, 10, 4, 4, 9, 2, 6]  # words of the rows
CANDIDATES = [3, 2, 3]  # texts of each query
TAGS = 4
TEMPERATURE = 0.05
Arrays = dict[str, np.ndarray]


def tasks() -> Arrays:
    """{"task/what": array}, and "spec", JSON, with the texts of the rows."""
    rng = np.random.default_rng(11)

    def words(count: int, most: int) -> list[str]:
        found = []
        for _ in range(count):
            word = f"w{rng.integers(15)}"
            found.append(word + "".join(f"x{n}" for n in rng.integers(0, 10, rng.integers(most))))
        return found

    rows = [words(length, 3) for length in LENGTHS]
    tags = [rng.integers(0, TAGS, length).tolist() for length in LENGTHS]
    second = [words(int(length), 2) for length in rng.integers(1, 9, len(LENGTHS))]
    spans = [sorted(rng.integers(0, len(row), 2).tolist()) for row in second]
    labels = [1, 0, 1, 1, 0, 0, 1, 0]
    queries = [words(2, 2) for _ in CANDIDATES]
    texts = [[words(int(n), 2) for n in rng.integers(1, 8, count)] for count in CANDIDATES]
    found = {
        **trained("tag", rows, None, tags=tags),
        **trained("answer", [row[:4] for row in rows], second, spans=spans),
        **trained("rerank", [row[:4] for row in rows], second, labels=labels),
        **trained("lists", *listed(queries, texts)),
        **trained("embed", rows, second),
    }

    def joined(rows: list[list[str]]) -> list[str]:
        return [" ".join(row) for row in rows]

    own = {
        "config": plain.CONFIG, "pieces": PIECES, "rows": rows, "tags": tags,
        "short": joined([row[:4] for row in rows]), "first": joined(rows),
        "second": joined(second), "spans": spans, "labels": labels, "queries": joined(queries),
        "texts": [joined(some) for some in texts], "rate": plain.RATE, "decay": plain.DECAY,
        "clip": plain.CLIP, "steps": plain.STEPS, "warmup": plain.WARMUP,
    }  # fmt: skip
    return found | {"spec": spec(own)}


def listed(
    queries: list[list[str]], texts: list[list[list[str]]]
) -> tuple[list[list[str]], list[list[str]]]:
    first = [query for query, some in zip(queries, texts, strict=True) for _ in some]
    return first, [text for some in texts for text in some]


def trained(
    task: str,
    first: list[list[str]],
    second: list[list[str]] | None,
    *,
    tags: list[list[int]] | None = None,
    spans: list[list[int]] | None = None,
    labels: list[int] | None = None,
) -> Arrays:
    torch.manual_seed(len(task))
    outputs = {"tag": TAGS, "answer": 2}.get(task, 1)
    config = BertConfig(
        **plain.CONFIG, num_labels=outputs, pad_token_id=None, attn_implementation="eager"
    )
    kinds: dict[str, Any] = {
        "tag": BertForTokenClassification, "answer": BertForQuestionAnswering,
        "embed": lambda config: BertModel(config, add_pooling_layer=False),
    }  # fmt: skip
    model = kinds.get(task, BertForSequenceClassification)(config)
    with torch.no_grad():  # nothing is zero, one or tiny, so that everything matters
        for value in model.parameters():
            value += 0.2 * torch.randn_like(value)
    found = parameters(model, "p ")
    split = [[split_word(word) for word in row] for row in first]
    other = None if second is None else [[split_word(word) for word in row] for row in second]

    def flat(rows: list[list[list[str]]]) -> list[list[str]]:
        return [[piece for word in row for piece in word] for row in rows]

    if task == "embed":
        assert other is not None
        both = [plain.inputs(flat(rows), None, PIECES) for rows in (split, other)]
    else:
        given = plain.inputs(flat(split), None if other is None else flat(other), PIECES)

    def outputs_of() -> torch.Tensor:
        if task == "embed":
            a, b = (normalize(pooled(model, each)) for each in both)
            return a @ b.T / TEMPERATURE
        if task == "answer":
            scores = model(**given)
            return torch.stack([scores.start_logits, scores.end_logits])
        result: torch.Tensor = model(**given).logits
        return result

    loss: Callable[[torch.Tensor], torch.Tensor]
    if task == "tag":
        assert tags is not None
        wanted = torch.full(given["input_ids"].shape, -100)
        for row, (word_tags, words) in enumerate(zip(tags, split, strict=True)):
            place = 1
            for tag, word in zip(word_tags, words, strict=True):
                wanted[row, place] = tag
                place += len(word)
        loss = lambda scores: cross_entropy(scores.flatten(0, 1), wanted.flatten())  # noqa: E731
    elif task == "answer":
        assert spans is not None
        assert other is not None
        ends = []
        for row, (span, words) in enumerate(zip(spans, other, strict=True)):
            before = 2 + len(flat(split)[row])
            start = before + sum(map(len, words[: span[0]]))
            ends.append((start, before + sum(map(len, words[: span[1] + 1])) - 1))
        start, end = torch.tensor(ends).T
        loss = lambda scores: sum(  # noqa: E731
            cross_entropy(part.masked_fill(given["attention_mask"] == 0, -torch.inf), at)
            for part, at in zip(scores, (start, end), strict=True)
        ) / 2  # fmt: skip
    elif task == "rerank":
        target = torch.tensor(labels, dtype=torch.float32)
        loss = lambda scores: binary_cross_entropy_with_logits(scores[:, 0], target)  # noqa: E731
    elif task == "lists":
        bounds = np.cumsum([0, *CANDIDATES]).tolist()
        loss = lambda scores: torch.stack([  # noqa: E731
            cross_entropy(scores[a:b, 0][None], torch.tensor([0])) for a, b in pairwise(bounds)
        ]).mean()  # fmt: skip
    else:
        diagonal = torch.arange(len(first))
        loss = lambda scores: cross_entropy(scores, diagonal)  # noqa: E731
    losses = train(model, lambda: loss(outputs_of()))
    with torch.no_grad():
        scores = outputs_of()
    found |= {"losses": np.array(losses), "outputs": scores.numpy().copy()}
    return {f"{task}/{name}": value for name, value in found.items()}


def train(model: Any, loss_of: Callable[[], torch.Tensor]) -> list[float]:
    rest = [value for name, value in model.named_parameters() if is_plain(name)]
    decayed = [value for name, value in model.named_parameters() if not is_plain(name)]
    groups = [
        {"params": decayed, "weight_decay": plain.DECAY}, {"params": rest, "weight_decay": 0.0}
    ]  # fmt: skip
    updates = torch.optim.AdamW(groups, plain.RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(updates, plain.rate)
    losses = []
    for _ in range(plain.STEPS):
        updates.zero_grad()
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plain.CLIP)
        updates.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def pooled(model: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean of the tokens' vectors of each row."""
    mask = given["attention_mask"][:, :, None]
    total: torch.Tensor = (model(**given).last_hidden_state * mask).sum(1)
    return total / mask.sum(1)


def split_word(word: str) -> list[str]:
    """The pieces of a word such as w3x1x2."""
    first, *rest = word.split("x")
    return [first, *(f"##x{number}" for number in rest)]
