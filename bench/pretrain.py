"""Pretraining of BERT compared with PyTorch on the same batches.

    python -m bench.pretrain --data DATA --tokens 5000000

A network of 2 layers of 128 is trained on the first tokens of an epoch of text/wiki_simple, from
the same initial weights and with the same pairs, masks and schedule, each with its own dropout;
every 2,000th paragraph is held out. Reported: tokens per CPU second, with a new batch and the
update, and the held-out measures of both. Checked first: without dropout the losses of the first
steps are equal. PyTorch runs transformers' BertModel with its heads, scores of words for masked
tokens only, and pads to the longest sequence of a batch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from bench.common.report import Parser, Report, log, optional
from fastseq.models.bert.network import without_decay
from fastseq.models.bert.pretraining import BertPretrainer, PretrainingTask, measured
from fastseq.models.bert.segments import MaskedBatch
from fastseq.nn.optimisers import AdamW, clip_norm
from fastseq.nn.schedules import Linear
from fastseq.seeds import mixed_key
from fastseq.types import Float32

RATE, DECAY, CLIP, WARMUP = 1e-3, 0.01, 1.0, 0.05
SIZES: dict[str, Any] = {"layers": 2, "hidden": 128, "heads": 2, "intermediate": 512}
SMALL: dict[str, Any] = {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 32}
HELD_OUT = 2000
EQUAL, TOLERANCE = 5, 1e-4  # first steps that are compared
TARGET = 1.5  # times PyTorch's tokens per CPU second

Weights = dict[str, Float32]
Learn = Callable[[MaskedBatch, int], float]  # batch, its number -> loss; updates the weights


class Contender(NamedTuple):
    """A network that learns, and its held-out measures."""

    learn: Learn
    measure: Callable[[], dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    small = {"tokens": 3000, "vocabulary": 300, "limit": 32, "batch": 8}
    parser = Parser(__doc__, threads=1, small=small)
    parser.add_file("--corpus", "text/wiki_simple.parquet", "texts to train on")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="tokens to train on")
    parser.add_argument("--vocabulary", type=int, default=8000, help="word pieces")
    parser.add_argument("--limit", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--batch", type=int, default=32, help="sequences of a step")
    options = parser.parse(arguments)
    report = Report("pretrain", options, ("torch", "transformers", "tokenizers"))
    if optional("tokenizers") is None:
        print("not run: the vocabulary is learned by the package tokenizers")
        return report.end()
    compare(options, report)
    return report.end()


def compare(options: argparse.Namespace, report: Report) -> None:
    texts = pq.read_table(options.corpus, columns=["text"])["text"].to_pylist()
    step = min(HELD_OUT, len(texts) // 10)
    held, train = texts[::step], [text for n, text in enumerate(texts) if n % step]
    kinds = {"fastseq": ours}
    if optional("torch") is not None and optional("transformers") is not None:
        kinds["PyTorch"] = by_torch
    log("reading the corpus")
    dry, task = (task_of(options, train, held, dropout) for dropout in (0.0, 0.1))
    first = list(islice(batches(task), EQUAL))
    start = dry.parameters.state_dict()
    losses = {}
    for name, kind in kinds.items():
        learn = kind(dry, start, 100).learn
        losses[name] = [learn(batch, number) for number, batch in enumerate(first)]
    worst = max(abs(a / b - 1) for a, b in zip(*(list(losses.values()) * 2)[:2], strict=True))
    report.check(worst <= TOLERANCE, f"the first losses differ by {worst:.1e}")
    print(f"first losses: {', '.join(f'{loss:.4f}' for loss in losses['fastseq'])}")
    total, count = 0, 0
    for batch in batches(task):
        total, count = total + len(batch.ids), count + 1
        if total >= options.tokens:
            break
    speeds: dict[str, float] = {}
    for name, kind in kinds.items():
        kind(task, start, count).learn(first[0], 0)  # compiles
        contender = kind(task, start, count)
        began = time.process_time()
        for number, batch in enumerate(islice(batches(task), count)):
            contender.learn(batch, number)
            if number % 500 == 499:
                log(f"{name}: {number + 1} of {count} steps")
        seconds = time.process_time() - began
        speeds[name] = total / seconds
        found = contender.measure()
        report.results[name] = {"tokens": total, "tokens_per_cpu_second": speeds[name], **found}
        shown = ", ".join(f"{key} {value:.4f}" for key, value in found.items())
        print(f"{name}: {total:,} tokens, {speeds[name]:,.0f} a CPU second; {shown}", flush=True)
    if "PyTorch" in speeds:
        ratio = speeds["fastseq"] / speeds["PyTorch"]
        report.target(ratio >= TARGET, f"{ratio:.2f} times PyTorch's speed, expected {TARGET}")


def task_of(
    options: argparse.Namespace, train: list[str], held: list[str], dropout: float
) -> PretrainingTask:
    sizes = SMALL if options.small else SIZES
    model = BertPretrainer(
        **sizes, vocabulary_size=options.vocabulary, max_length=options.limit, max_predictions=20,
        batch_size=options.batch, dropout=dropout, threads=options.threads,
    )  # fmt: skip
    return model._task(train, None, held, {}, model._backend())


def batches(task: PretrainingTask) -> Iterator[MaskedBatch]:
    """The batches of the first epoch, made when they are needed."""
    for numbers in task.batches(0):
        yield task._prepared(numbers)


def ours(task: PretrainingTask, start: Weights, steps: int) -> Contender:
    network = task.learned.network
    team, parameters = network.backend.team, network.parameters
    parameters.load_state_dict(start)
    updates = AdamW(
        parameters, RATE, weight_decay=DECAY, no_decay=without_decay(parameters), team=team
    )
    schedule = Linear(RATE, warmup=max(1, round(WARMUP * steps)))

    def learn(batch: MaskedBatch, number: int) -> float:
        parameters.zero_gradients()
        loss = network.learn(batch, mixed_key(number))
        clip_norm(parameters, CLIP, team)
        updates.step(schedule(number, steps))
        return loss

    def measure() -> dict[str, float]:
        assert task.valid is not None
        return measured(task.learned, task.valid)

    return Contender(learn, measure)


def by_torch(task: PretrainingTask, start: Weights, steps: int) -> Contender:
    import torch
    from transformers import BertConfig, BertForPreTraining

    learned = task.learned
    rate = learned.network.embeddings.dropout
    config = BertConfig(**{
        **learned.config.to_dict(), "hidden_dropout_prob": rate,
        "attention_probs_dropout_prob": rate, "pad_token_id": None,
    })  # fmt: skip
    torch.manual_seed(0)
    model = BertForPreTraining(config)
    state = {name: torch.from_numpy(array) for name, array in start.items()}
    model.load_state_dict(state, strict=False)
    plain = set(without_decay(task.parameters))
    groups = [
        {"params": [v for n, v in model.named_parameters() if (n in plain) == bare],
         "weight_decay": 0.0 if bare else DECAY}
        for bare in (False, True)
    ]  # fmt: skip
    updates = torch.optim.AdamW(groups, RATE)
    schedule = Linear(RATE, warmup=max(1, round(WARMUP * steps)))

    def scores(batch: MaskedBatch) -> tuple[Any, Any]:
        lengths = np.diff(batch.offsets)
        longest = int(lengths.max())
        real = torch.from_numpy(np.arange(longest) < lengths[:, None])

        def padded(values: np.ndarray) -> Any:
            out = torch.zeros(real.shape, dtype=torch.int64)
            out[real] = torch.from_numpy(values.astype(np.int64))
            return out

        given = {"input_ids": padded(batch.ids), "token_type_ids": padded(batch.types)}
        found = model.bert(attention_mask=real.long(), **given)
        rows = found.last_hidden_state[real][torch.from_numpy(batch.places)]
        return model.cls.predictions(rows), model.cls.seq_relationship(found.pooler_output)

    def losses(batch: MaskedBatch) -> tuple[Any, ...]:
        """Both losses, and the numbers of right words and pairs."""
        found = scores(batch)
        targets = [torch.from_numpy(t.astype(np.int64)) for t in (batch.words, batch.labels)]
        both = [
            torch.nn.functional.cross_entropy(y, t) for y, t in zip(found, targets, strict=True)
        ]
        right = [(y.argmax(1) == t).sum() for y, t in zip(found, targets, strict=True)]
        return *both, *right

    def learn(batch: MaskedBatch, number: int) -> float:
        model.train()
        for group in updates.param_groups:
            group["lr"] = schedule(number, steps)
        updates.zero_grad()
        masked, following, *_ = losses(batch)
        loss = masked + following
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        updates.step()
        return float(loss.detach())

    def measure() -> dict[str, float]:
        assert task.valid is not None
        model.eval()
        total, words, pairs = np.zeros(4), 0, 0
        with torch.inference_mode():
            for batch in learned.reading.held_out(task.valid, learned.network.backend.team):
                sizes = np.array([len(batch.words), len(batch), 1, 1])
                total += np.array([float(value) for value in losses(batch)]) * sizes
                words, pairs = words + len(batch.words), pairs + len(batch)
        masked, following, right, right_pairs = total / [words, pairs, words, pairs]
        return {
            "loss": masked + following, "masked_loss": masked, "accuracy": right,
            "next_loss": following, "next_accuracy": right_pairs,
        }  # fmt: skip

    return Contender(learn, measure)


if __name__ == "__main__":
    sys.exit(main())
