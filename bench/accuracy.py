"""Accuracy of the sequence models on public data, compared with the same models in PyTorch.

    python -m bench.accuracy --data DATA --task trec6 --seeds 5
    python -m bench.accuracy --data DATA --task mr --seeds 1 --folds 2
    python -m bench.accuracy --list

--list names the files below DATA that a task reads, and its settings. Both sides have the same
architecture, initial weights, batches, optimiser, rates and clipping (common/twins.py); each has
its own dropout masks. Weights are those after the last epoch: nothing is selected on the test data.
Seconds are those of training; fastseq's include reading and tokenising, PyTorch's do not. A seed is
one run of each side (for ten-fold cross-validation the mean over the folds); reported is the mean
over the seeds with its standard error. Targets: fastseq's mean reaches the task's figure and is not
below PyTorch's by more than two standard errors of the difference.

The adding problem, which needs no data, is bench.adding.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.common.harness import seconds_of
from bench.common.report import (
    Parser,
    Report,
    mean_and_error,
    optional,
    setting,
    standard_error,
    table,
)
from bench.common.training import MODELS, Training, columns_of, folds


@dataclass(frozen=True)
class Part:
    """Rows and targets to train on and to evaluate on."""

    train: Any
    train_targets: Any
    test: Any
    test_targets: Any


@dataclass(frozen=True)
class Task:
    """One line of the report.

    kind      of model
    files     below the data folder: training, then test; or one for all
    settings  of the estimator
    measure   of its `evaluate`
    target    for the mean; None: only PyTorch's
    parts     reads the files
    larger    whether larger is better
    allowed   relative difference from PyTorch's mean, instead of two standard errors
    """

    kind: str
    files: tuple[str, ...]
    settings: dict[str, Any]
    measure: str
    target: float | None
    parts: Callable[[list[Path], argparse.Namespace], Iterator[Part]]
    larger: bool = True
    allowed: float | None = None


def labelled(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    yield Part(*columns_of(paths[0], "text", "label"), *columns_of(paths[1], "text", "label"))


def tagged(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    yield Part(*columns_of(paths[0], "tokens", "tags"), *columns_of(paths[1], "tokens", "tags"))


def ten_folds(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    """The first --folds of them."""
    texts, labels = columns_of(paths[0], "text", "label")
    for kept, held in folds(len(texts), options.folds):
        yield Part(
            [texts[row] for row in kept], [labels[row] for row in kept],
            [texts[row] for row in held], [labels[row] for row in held],
        )  # fmt: skip


def texts(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    (train,), (test,) = (columns_of(path, "text") for path in paths)
    yield Part(train, None, test, None)


def paragraphs(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    """The first --words words (by spaces) to train on, a tenth as many after them for the test."""
    rows: list[list[str]] = [[], []]
    counts = [0, 0]
    for batch in pq.ParquetFile(paths[0]).iter_batches(columns=["text"]):
        for text in batch["text"].to_pylist():
            part = int(counts[0] >= options.words)
            rows[part].append(text)
            counts[part] += text.count(" ") + 1
            if counts[1] >= options.words // 10:
                yield Part(rows[0], None, rows[1], None)
                return
    raise SystemExit(f"Error: {paths[0]} has too few words: {sum(counts):,}")


def numbers(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    """The last fifth is held out; its first windows begin in the training part."""
    (values,) = columns_of(paths[0], "sunspots")
    cut = len(values) - len(values) // 5
    window = TASKS["sunspots"].settings["window"]
    yield Part(np.array(values[:cut]), None, np.array(values[cut - window :]), None)


EQUAL = 1e-3  # relative difference of the sides where both are deterministic
BILSTM = {"bidirectional": True, "hidden": 128, "embedding": 128}
TASKS = {
    "trec6-defaults": Task(
        "classifier", ("classify/trec6/train.parquet", "classify/trec6/test.parquet"),
        {"hidden": 64, "embedding": 64, "bidirectional": True, "epochs": 4}, "accuracy", 0.82,
        labelled,
    ),
    "trec6": Task(
        "classifier", ("classify/trec6/train.parquet", "classify/trec6/test.parquet"),
        {**BILSTM, "dropout": 0.5, "epochs": 15, "learning_rate": 2e-3, "schedule": "cosine"},
        "accuracy", 0.87, labelled,
    ),
    "sst2": Task(
        "classifier", ("classify/sst2/train.parquet", "classify/sst2/test.parquet"),
        {**BILSTM, "dropout": 0.5, "epochs": 5, "schedule": "cosine"}, "accuracy", 0.79, labelled,
    ),
    "mr": Task(
        "classifier", ("classify/mr/all.parquet",),
        {"bidirectional": True, "hidden": 64, "embedding": 64, "dropout": 0.5, "epochs": 2,
         "learning_rate": 3e-3, "schedule": "cosine"}, "accuracy", 0.74, ten_folds,
    ),
    "chnsenticorp": Task(
        "classifier",
        ("classify/chnsenticorp/train.parquet", "classify/chnsenticorp/valid.parquet"),
        {**BILSTM, "unit": "char", "dropout": 0.3, "epochs": 6, "schedule": "cosine"},
        "accuracy", 0.85, labelled,
    ),
    "ewt-words": Task(
        "tagger", ("tag/ud_ewt/train.parquet", "tag/ud_ewt/test.parquet"),
        {**BILSTM, "dropout": 0.3, "epochs": 8, "schedule": "cosine"}, "accuracy", 0.90, tagged,
    ),
    "ewt-chars": Task(
        "tagger", ("tag/ud_ewt/train.parquet", "tag/ud_ewt/test.parquet"),
        {**BILSTM, "chars": True, "dropout": 0.3, "epochs": 8, "schedule": "cosine"},
        "accuracy", 0.94, tagged,
    ),
    "shakespeare": Task(
        "language",
        ("text/tinyshakespeare_train.parquet", "text/tinyshakespeare_valid.parquet"),
        {"unit": "char", "hidden": 256, "layers": 2, "dropout": 0.1, "epochs": 4, "bptt": 64,
         "learning_rate": 5e-3}, "nats", 1.55,
        texts, larger=False,
    ),
    "wiki-words": Task(
        "language", ("text/wiki_simple.parquet",),
        {"hidden": 200, "embedding": 200, "layers": 2, "tie_weights": True, "dropout": 0.2,
         "min_count": 10, "epochs": 1, "clip": 1.0},
        "perplexity", None, paragraphs, larger=False, allowed=0.01,
    ),
    "sunspots": Task(
        "forecaster", ("series/sunspots.parquet",), {"window": 48, "hidden": 64}, "rmse", None,
        numbers, larger=False,
    ),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.list:
        print(table(
            ["task", "model", "files", "settings"],
            [[n, t.kind, " ".join(t.files), str(t.settings)] for n, t in TASKS.items()],
        ))  # fmt: skip
        return 0
    report = Report("accuracy", options, ("torch",))
    sides = ["fastseq", "PyTorch"] if optional("torch") is not None else ["fastseq"]
    rows = []
    for name in options.task:
        found = compared(name, TASKS[name], sides, options)
        report.results[name] = found
        rows.append(row_of(name, TASKS[name], found))
    head = ["task", "measure", "target", "fastseq", "PyTorch", "seconds", "PyTorch's"]
    print("\n" + table(head, rows))
    for name in options.task:
        judge(name, TASKS[name], report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    few = {"hidden": 8, "embedding": 8, "epochs": 1, "dropout": 0.0}
    parser = Parser(__doc__, small={"seeds": 1, "folds": 1, "words": 1000, "set": few.items()})
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5, help="runs of each side")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=10, help="of mr's ten")
    parser.add_argument("--words", type=int, default=2_000_000, help="of wiki-words to train on")
    parser.add_argument(
        "--set", nargs="+", type=setting, default=[], metavar="NAME=JSON", help="other settings"
    )
    parser.add_argument("--list", action="store_true", help="list the tasks and exit")
    options = parser.parse(arguments)
    for name in () if options.list else options.task:
        for file in TASKS[name].files:
            parser.existing(options.data / file)
    return options


def compared(
    name: str, task: Task, sides: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Every seed's values and seconds on either side."""
    known = MODELS[task.kind]().get_params()
    settings = task.settings | {k: v for k, v in options.set if k in known}
    print(f"{name}: {task.kind}, {settings}", flush=True)
    values: dict[str, list[float]] = {side: [] for side in sides}
    spent: dict[str, list[float]] = {side: [] for side in sides}
    baseline: float | None = None
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        parts: dict[str, list[float]] = {side: [] for side in sides}
        times = dict.fromkeys(sides, 0.0)
        for part in task.parts([options.data / file for file in task.files], options):
            for side in sides:
                measures, seconds = run(side, task, settings, part, seed, options.threads)
                parts[side].append(measures[task.measure])
                times[side] += seconds
                baseline = measures.get(f"last_value_{task.measure}", baseline)
        for side in sides:
            values[side].append(statistics.mean(parts[side]))
            spent[side].append(times[side])
        line = ", ".join(f"{s} {values[s][-1]:.4f} in {spent[s][-1]:.1f} s" for s in sides)
        print(f"  seed {seed}: {line}", flush=True)
    return {
        "settings": settings, "measure": task.measure, "values": values, "seconds": spent,
        "last_value": baseline,
    }  # fmt: skip


def run(
    side: str, task: Task, settings: dict[str, Any], part: Part, seed: int, threads: int
) -> tuple[dict[str, float], float]:
    """(what `evaluate` returns, seconds of training)."""
    model = MODELS[task.kind](**settings, seed=seed, threads=threads)
    if side == "fastseq":
        _, seconds = seconds_of(lambda: model.fit(part.train, part.train_targets))
    else:
        import torch

        from bench.common import twins

        training = Training(model, part.train, part.train_targets, threads)
        torch.manual_seed(seed)
        network = twins.twin(model, training.first, "reversed")
        _, seconds = seconds_of(lambda: twins.train(network, training))
        training.fitted_with(network.weights(training.first))
    given = (part.test,) if part.test_targets is None else (part.test, part.test_targets)
    measures: dict[str, float] = model.evaluate(*given)
    return measures, seconds


def judge(name: str, task: Task, report: Report) -> None:
    """Compare fastseq's mean with the task's target, the baseline and PyTorch's mean."""
    found = report.results[name]
    values, baseline = found["values"], found["last_value"]
    ours = statistics.mean(values["fastseq"])
    sign = 1 if task.larger else -1
    if task.target is not None:
        text = f"{name}: {task.measure} {ours:.4f} (target {task.target})"
        report.target(sign * (ours - task.target) >= 0, text)
    if baseline is not None:
        report.target(ours < baseline, f"{name}: {ours:.2f}, last value {baseline:.2f}")
    if "PyTorch" in values:
        theirs = statistics.mean(values["PyTorch"])
        margin = 2 * math.hypot(*(standard_error(each) for each in values.values()))
        margin = margin if task.allowed is None else task.allowed * theirs
        text = f"{name}: {ours:.4f}, PyTorch {theirs:.4f} (margin {margin:.4f})"
        report.target(sign * (ours - theirs) >= -margin, text)
        if not found["settings"].get("dropout", True):
            report.check(abs(ours / theirs - 1) < EQUAL, f"{name} without dropout: {text}")


def row_of(name: str, task: Task, found: dict[str, Any]) -> list[str]:
    target = "" if task.target is None else f"{'≥' if task.larger else '≤'} {task.target}"
    if found["last_value"] is not None:
        target = f"< {found['last_value']:.2f}"
    sides = ("fastseq", "PyTorch")
    values = [mean_and_error(found["values"].get(side, [])) for side in sides]
    seconds = [found["seconds"].get(side) for side in sides]
    means = [f"{statistics.mean(each):.1f}" if each else "" for each in seconds]
    return [name, task.measure, target, *values, *means]


if __name__ == "__main__":
    sys.exit(main())
