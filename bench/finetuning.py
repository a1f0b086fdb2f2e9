"""Fine-tuning of a BERT checkpoint, compared with the same recipe in PyTorch.

    python -m bench.finetuning --model CHECKPOINT --data DATA
    python -m bench.finetuning --model CHECKPOINT --data DATA --tasks trec6 --seeds 1 2 3 --peer
    python -m bench.finetuning --model PRETRAINED --data DATA --tasks trec6 sst2 --random \
        --learning-rate 5e-4 --epochs 5

Sections:

accuracy  each task trained on its training rows with each seed, and measured on its test rows;
          with --peer also by PyTorch on the same batches, with the first seed. A fifth of XQuAD's
          paragraphs is its test; the measures before training are shown too. With --random
          each task is also trained from random weights of the same network: what pretraining gains
speed     an epoch of the first rows of SST-2 from the same weights (forward, backward, AdamW), with
          dropout: tokens per second without padding. PyTorch gets shuffled batches as they come,
          and batches of similar lengths, as fastseq makes them; both are padded

The recipe: AdamW of 0.01 without decay of biases and norms, a warm-up of 10 % and a linear decay,
gradients clipped to norm 1, dropout as in the checkpoint, batches of 32; mean pooling, for tags the
first piece of each word, for answers every token, and a dense layer; for similarities (STS-B) the
cosine of the two texts' vectors. PyTorch trains transformers'
BertModel on the ids that fastseq's tokenizer makes. Its answers are decoded by fastseq, from the
weights that it learned.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fastseq
from bench.common import harness, small
from bench.common.harness import Check, Contender
from bench.common.report import Parser, Report, optional, table
from bench.common.training import size_of
from fastseq.models.bert.checkpoint import WEIGHTS
from fastseq.models.data.batches import take
from fastseq.nn.devices import backend_for
from fastseq.nn.initialisers import truncated_normal
from fastseq.store.weights import read_weights, write_weights
from fastseq.threads import Team
from fastseq.training.gradient import train
from fastseq.vectors.evaluation import spearman

BATCH, DECAY, WARMUP, CLIP = 32, 0.01, 0.1, 1.0
SPEED_TARGET = 2.5  # ours to PyTorch's with shuffled batches
SECONDS = 360  # of a training
GAIN = 0.02  # of pretrained weights over random ones
TEST_SHARE = 5  # one in so many paragraphs is for tests


@dataclass(frozen=True)
class Task:
    """Files, columns and settings of a task, and what its first measure should reach.

    split  the column of which a fifth of the values are the test rows, where train is test
    """

    model: str
    train: str
    test: str
    measures: tuple[str, ...]
    target: float | None
    settings: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)
    split: str | None = None

    @property
    def measure(self) -> str:
        return self.measures[0]


_PAIR = {"text_column": ["text1", "text2"], "label_column": "score"}
TASKS = {
    "trec6": Task(
        "BertClassifier", "classify/trec6/train", "classify/trec6/test", ("accuracy",), 0.955,
        {"learning_rate": 1e-4, "epochs": 4},
    ),
    "sst2": Task(
        "BertClassifier", "classify/sst2/train", "classify/sst2/test", ("accuracy",), 0.875,
        {"learning_rate": 5e-5, "epochs": 3},
    ),
    "stsb": Task(
        "BertRegressor", "pairs/stsb_train", "pairs/stsb_test", ("spearman",), 0.86,
        {"learning_rate": 1e-4, "epochs": 3, "separate": True}, _PAIR,
    ),
    "ud_ewt": Task(
        "BertTagger", "tag/ud_ewt/train", "tag/ud_ewt/test", ("accuracy",), 0.95,
        {"learning_rate": 1e-4, "epochs": 1},
    ),
    "xquad": Task(
        "BertAnswerer", "qa/xquad_en", "qa/xquad_en", ("f1", "exact_match"), None,
        {"learning_rate": 1e-4, "epochs": 3}, split="paragraph",
    ),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("finetuning", options, ("torch", "transformers"))
    if "accuracy" in options.sections:
        rows = [line for name in options.tasks for line in accuracy(name, options, report)]
        print(table(["task", "by", "measure", "seeds", "mean", "std. error", "seconds"], rows))
    if "speed" in options.sections:
        speed(options, report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    own = {"rows": 40, "model": small.checkpoint(), "tasks": ["sst2"], "seeds": [1]}
    parser = Parser(__doc__, rounds=3, small=own)
    parser.add_argument("--model", type=Path, help="the checkpoint's folder")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--peer", action="store_true", help="train by PyTorch too")
    parser.add_argument("--random", action="store_true", help="train from random weights too")
    parser.add_argument("--learning-rate", type=float, help="in place of a task's")
    parser.add_argument("--epochs", type=int, help="in place of a task's")
    parser.add_argument("--rows", type=int, default=640, help="rows of the section speed")
    parser.add_argument(
        "--sections", nargs="+", choices=("accuracy", "speed"), default=["accuracy", "speed"]
    )
    options = parser.parse(arguments)
    if options.model is None:
        parser.error("--model is needed: the folder of a checkpoint")
    parser.existing(options.model)
    return options


def model_of(task: Task, options: argparse.Namespace, **settings: Any) -> Any:
    kind = getattr(fastseq, task.model)
    given = {"learning_rate": options.learning_rate, "epochs": options.epochs}
    given = {name: value for name, value in given.items() if value is not None}
    fixed = {"weight_decay": DECAY, "warmup_ratio": WARMUP, "batch_size": BATCH, "clip": CLIP}
    own = {"base": options.model, "threads": options.threads}
    return kind(**{**own, **task.settings, **fixed, **given, **settings})


# ---- accuracy


def accuracy(name: str, options: argparse.Namespace, report: Report) -> list[list[str]]:
    """Lines of the table: of fastseq, and of PyTorch."""
    task = TASKS[name]
    paths = paths_of(name, options)
    if task.split is not None:
        untrained(task, options, paths)
    found, seconds = trained(name, options, paths)
    mean = float(np.mean(found))
    lines = [_line(name, "fastseq", task, found, seconds)]
    if options.random:
        base = random_weights(options.model)
        others, times = trained(name, options, paths, base=base)
        lines.append(_line(name, "random weights", task, others, times))
        gain = mean - float(np.mean(others))
        report.target(gain >= GAIN, f"{name}: pretraining gains {gain:.4f}, at least {GAIN}")
        report.results[f"{name} random"] = {"values": others, "seconds": times}
    elif task.target is not None:
        report.target(mean >= task.target, f"{name}: {mean:.4f}, at least {task.target}")
        report.target(max(seconds) <= SECONDS, f"{name}: {max(seconds):.0f} s, at most {SECONDS}")
    report.results[name] = {"values": found, "seconds": seconds}
    if options.peer:
        start = time.perf_counter()
        twin = Twin(model_of(task, options), paths[0], task.columns)
        twin.run(options.seeds[0], twin.task._batches)
        measures = twin.measured(paths[1], task)
        theirs, took = measures[task.measure], time.perf_counter() - start
        print(f"{name}, PyTorch: {_shown(task, measures)} in {took:.0f} s", flush=True)
        lines.append(_line(name, "PyTorch", task, [theirs], [took]))
        error = float(np.std(found, ddof=1) / np.sqrt(len(found))) if len(found) > 1 else 0.0
        what = f"{name}: {mean:.4f}, PyTorch {theirs:.4f}"
        report.target(mean >= theirs - 2 * error, what)
        report.results[f"{name} PyTorch"] = {"value": theirs, "seconds": took}
    return lines


def paths_of(name: str, options: argparse.Namespace) -> tuple[Path, Path]:
    """The files of the training and of the test rows."""
    task = TASKS[name]
    train, test = (options.data / f"{part}.parquet" for part in (task.train, task.test))
    if task.split is None:
        return train, test if test.exists() else train  # small data sets have no test
    rows = pq.read_table(train)
    groups = np.array(rows[task.split].to_pylist())
    order = np.random.default_rng(0).permutation(np.unique(groups))
    held = np.isin(groups, order[: max(1, len(order) // TEST_SHARE)])
    train, test = (small.folder() / f"{name}-{part}.parquet" for part in ("train", "test"))
    pq.write_table(rows.filter(pa.array(~held)), train)
    pq.write_table(rows.filter(pa.array(held)), test)
    return train, test


def trained(
    name: str, options: argparse.Namespace, paths: tuple[Path, Path], **settings: Any
) -> tuple[list[float], list[float]]:
    """The measure of a task, and the seconds of the training, for each seed."""
    task, found, seconds = TASKS[name], [], []
    for seed in options.seeds:
        model = model_of(task, options, seed=seed, **settings)
        took = harness.seconds_of(partial(model.fit, paths[0], **task.columns))[1]
        measures = model.evaluate(paths[1], **task.columns)
        print(f"{name}, seed {seed}: {_shown(task, measures)} in {took:.0f} s", flush=True)
        found.append(float(measures[task.measure]))
        seconds.append(took)
    return found, seconds


def random_weights(checkpoint: Path) -> Path:
    """A checkpoint of the same network with the initial weights of BERT."""
    path = small.folder() / "random"
    if not path.exists():
        shutil.copytree(checkpoint, path)
        rng = np.random.default_rng(0)
        weights: dict[str, Any] = {}
        for name, array in read_weights(path / WEIGHTS)[0].items():
            drawn = truncated_normal(array.shape, rng)
            is_scale = name.endswith(("LayerNorm.weight", "LayerNorm.gamma"))
            weights[name] = drawn if array.ndim > 1 else np.full(array.shape, float(is_scale))
        (path / WEIGHTS).unlink()
        write_weights(path / WEIGHTS, {k: v.astype(np.float32) for k, v in weights.items()})
    return path


def untrained(task: Task, options: argparse.Namespace, paths: tuple[Path, Path]) -> None:
    """Show what a head with its initial values reaches."""
    first = small.folder() / "first.parquet"
    pq.write_table(pq.read_table(paths[0]).slice(0, BATCH), first)
    model = model_of(task, options, epochs=1, learning_rate=1e-12).fit(first, **task.columns)
    print(f"untrained: {_shown(task, model.evaluate(paths[1], **task.columns))}", flush=True)


def _shown(task: Task, measures: dict[str, float]) -> str:
    return ", ".join(f"{name} {measures[name]:.4f}" for name in task.measures)


def _line(
    name: str, by: str, task: Task, found: Sequence[float], seconds: Sequence[float]
) -> list[str]:
    error = f"{np.std(found, ddof=1) / np.sqrt(len(found)):.4f}" if len(found) > 1 else "-"
    return [
        name, by, task.measure, str(len(found)), f"{np.mean(found):.4f}", error,
        f"{np.median(seconds):.0f}",
    ]  # fmt: skip


# ---- PyTorch


class Twin:
    """The same training in PyTorch, of the examples that a model of fastseq reads."""

    def __init__(
        self, model: Any, data: Any, columns: dict[str, Any], dropout: float | None = None
    ) -> None:
        self.torch, transformers = optional("torch"), optional("transformers")
        self.torch.set_num_threads(model.threads)
        self.model, self.dropout = model, dropout
        self.separate: bool = getattr(model, "separate", False)
        named = model._named_columns(**columns)
        self.task = model._task(data, None, None, named, backend_for("cpu", Team(model.threads)))
        self.examples = self.task.train
        labels = self.task.learned.encoder.labels
        self.outputs = 1 if labels is None else len(labels)
        if self.examples.spans is not None:
            self.outputs = 2  # the first and the last token of an answer
        rates = {} if dropout is None else {
            "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout
        }  # fmt: skip
        self.bert = partial(
            transformers.BertModel.from_pretrained, model.base, add_pooling_layer=False, **rates
        )

    def run(self, seed: int, order: Callable[[int], Iterator[Any]] | None = None) -> float:
        """Train from the checkpoint; the mean loss of the last epoch. `order` makes the batches
        of rows of an epoch: shuffled unless given."""
        torch = self.torch
        torch.manual_seed(seed)
        self.net = self.bert().train()
        hidden = self.net.config.hidden_size
        self.head = torch.nn.Linear(1 if self.separate else hidden, self.outputs)
        torch.nn.init.trunc_normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)
        if self.separate:
            for name, values in self.task.learned.network.output.values.items():
                getattr(self.head, name).data[...] = torch.from_numpy(values.copy())
        elif self.outputs == 1:
            torch.nn.init.constant_(self.head.bias, float(np.mean(self.examples.scores)))
        self.drop = torch.nn.Dropout(self.net.config.hidden_dropout_prob)
        parameters = [*self.net.parameters(), *self.head.parameters()]
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": DECAY},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
        ]
        updates = torch.optim.AdamW(groups, self.model.learning_rate)
        order = order or partial(self.shuffled, seed)
        epochs = self.model.epochs
        total = epochs * -(-len(self.examples) // BATCH)
        warm = int(WARMUP * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            updates, lambda n: (n + 1) / warm if n < warm else (total - n) / max(1, total - warm)
        )
        loss = 0.0
        for epoch in range(epochs):
            losses = []
            for rows in order(epoch):
                batch = take(self.examples, rows)
                value = self.loss(batch)
                updates.zero_grad()
                value.backward()
                torch.nn.utils.clip_grad_norm_(parameters, CLIP)
                updates.step()
                schedule.step()
                losses.append(float(value.detach()))
            loss = float(np.mean(losses))
        return loss

    def shuffled(self, seed: int, epoch: int) -> Iterator[Any]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.examples))
        yield from np.split(order, range(BATCH, len(order), BATCH))

    def scores(self, batch: Any) -> Any:
        """[B, outputs] of a ragged batch, padded; of tags a row for each word."""
        torch = self.torch
        if self.separate:
            starts = np.stack([batch.offsets[:-1], batch.offsets[:-1] + batch.seconds], axis=1)
            ends = np.append(starts.reshape(-1), len(batch.values))
            texts = replace(batch, offsets=ends, seconds=None)
            vectors = torch.nn.functional.normalize(self.pooled(*self.hidden(texts)), dim=1)
            return self.head((vectors[0::2] * vectors[1::2]).sum(1, keepdim=True))
        hidden, there = self.hidden(batch)
        if batch.spans is not None:
            return self.head(hidden).masked_fill(~there[:, :, None], -np.inf)
        if batch.words is not None:
            return self.head(self.drop(hidden[there][torch.from_numpy(batch.words)]))
        return self.head(self.drop(self.pooled(hidden, there)))

    def pooled(self, hidden: Any, there: Any) -> Any:
        weight = there.to(hidden.dtype)[:, :, None]
        return (hidden * weight).sum(1) / weight.sum(1)

    def hidden(self, batch: Any) -> tuple[Any, Any]:
        """([B, T, H], [B, T]: where there is a token) of a ragged batch, padded."""
        torch, lengths = self.torch, np.diff(batch.offsets)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids, types = np.zeros((2, *mask.shape), np.int64)
        ids[mask] = batch.values
        if batch.seconds is not None:
            types[mask] = (np.arange(mask.shape[1]) >= batch.seconds[:, None])[mask]
        there = torch.from_numpy(mask)
        hidden = self.net(
            input_ids=torch.from_numpy(ids), attention_mask=there.long(),
            token_type_ids=torch.from_numpy(types),
        ).last_hidden_state  # fmt: skip
        return hidden, there

    def loss(self, batch: Any) -> Any:
        found = self.scores(batch)
        if batch.scores is not None:
            given = self.torch.from_numpy(batch.scores)
            return self.torch.nn.functional.mse_loss(found[:, 0], given)
        if batch.spans is not None:
            places = self.torch.from_numpy(batch.spans.astype(np.int64))
            return self.torch.nn.functional.cross_entropy(found, places)
        given = self.torch.from_numpy(batch.targets.astype(np.int64))
        return self.torch.nn.functional.cross_entropy(found, given)

    def measured(self, path: Path, task: Task) -> dict[str, float]:
        """The measures of the task on other rows."""
        learned, named = self.task.learned, self.model._named_columns(**task.columns)
        self.model._learned = learned  # as fitted: the reader has its columns
        if self.examples.spans is not None:
            weights = {f"bert.{name}": value for name, value in self.net.state_dict().items()}
            weights |= {f"qa_outputs.{key}": value for key, value in self.head.state_dict().items()}
            for name, view in learned.network.parameters.views.items():
                view[...] = weights[name].numpy()
            found: dict[str, float] = self.model.evaluate(path, **task.columns)
            return found
        examples = learned.encoder.read(self.model._open(path, None, named, fields=learned.fields))
        self.net.eval()
        self.drop.eval()
        parts = []
        with self.torch.inference_mode():
            for first in range(0, len(examples), BATCH):
                rows = np.arange(first, min(len(examples), first + BATCH))
                parts.append(self.scores(take(examples, rows)).numpy())
        scores = np.concatenate(parts)
        if examples.scores is not None:
            expected = examples.scores.astype(np.float64)
            return {"spearman": spearman(scores[:, 0].astype(np.float64), expected)}
        return {"accuracy": float((scores.argmax(1) == examples.targets).mean())}


# ---- speed


def speed(options: argparse.Namespace, report: Report) -> None:
    task = TASKS["sst2"]
    path = options.data / f"{task.train}.parquet"
    some = small.folder() / "rows.parquet"
    pq.write_table(pq.read_table(path).slice(0, options.rows), some)
    model = model_of(task, options, epochs=1)
    ours = model._task(some, None, None, {}, backend_for("cpu", Team(options.threads)))
    settings = model._training_settings(1e9, ours.parameters)
    first, team = ours.parameters.values.copy(), Team(options.threads)
    tokens = sum(size_of(take(ours.train, batch)) for batch in ours.batches(0))

    def trained() -> float:
        ours.parameters.put(ours.parameters.values, first)
        return float(train(ours, settings, team=team).columns["train_loss"][-1])

    expected = trained()

    def near(loss: float) -> Check:
        return Check(abs(loss / expected - 1) <= 0.1, f"loss {loss:.4f}")

    contenders = [Contender("fastseq", trained, near)]
    if optional("torch") is not None and optional("transformers") is not None:
        twin = Twin(model, some, {})
        contenders += [
            Contender("PyTorch, shuffled", partial(twin.run, 1), near),
            Contender("PyTorch, by length", partial(twin.run, 1, ours._batches), near),
        ]
    found = harness.compare(contenders, options.rounds)
    print(f"\nSST-2, {len(ours.train)} rows, {tokens:,} tokens")
    print(harness.rate_table(found, tokens, "fastseq", "tokens/s"), flush=True)
    report.check(not found.refused, f"speed: {found.refused}")
    if "PyTorch, shuffled" in found.timings:
        ratio = found.ratio("PyTorch, shuffled", "fastseq")
        report.target(ratio >= SPEED_TARGET, f"{ratio:.2f} × PyTorch, at least {SPEED_TARGET}")
    report.results["speed"] = found.to_dict(tokens, "fastseq")


if __name__ == "__main__":
    sys.exit(main())
