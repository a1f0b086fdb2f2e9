"""What the sequence models reach on public data, beside the same models in PyTorch.

    python bench/accuracy.py --data DATA --task trec6 --seeds 5
    python bench/accuracy.py --data DATA --task mr --seeds 1 --folds 2
    python bench/accuracy.py --list

DATA is a folder of Parquet files; --list says which of them a task reads, and with which settings.
Both sides have the same architecture, initial weights, batches, optimiser, rates and clipping
(bench/torch_models.py); their dropout is each one's own. Weights are those after the last epoch:
nothing is chosen by what is measured on. Seconds are those of training; fastseq's include reading
and tokenising, which PyTorch is given. A seed gives one run of each side (for ten-fold
cross-validation the mean over the folds); what is told is the mean over the seeds with its standard
error. fastseq passes where its mean is as good as what is asked for, and not behind PyTorch's by
more than two standard errors of the difference.

The adding problem, which needs no data, is in bench/adding.py.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import numpy as np
import pyarrow.parquet as pq
import torch
import torch_models

from fastseq.models.classifier import SequenceClassifier
from fastseq.models.forecaster import Forecaster
from fastseq.models.language import LanguageModel
from fastseq.models.tagger import SequenceTagger
from fastseq.threads import Team

KINDS: dict[str, Callable[..., Any]] = {
    "classifier": SequenceClassifier,
    "tagger": SequenceTagger,
    "language": LanguageModel,
    "forecaster": Forecaster,
}


@dataclass(frozen=True)
class Part:
    """What one training sees and what it is measured on: rows, and targets beside them."""

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
    asked     for the mean; None: only to be as good as PyTorch
    larger    whether larger is better
    parts     reads the files
    allowed   relative difference from PyTorch's mean instead of standard errors; None: those
    """

    kind: str
    files: tuple[str, ...]
    settings: dict[str, Any]
    measure: str
    asked: float | None
    parts: Callable[[list[Path], argparse.Namespace], Iterator[Part]]
    larger: bool = True
    allowed: float | None = None


def columns_of(path: Path, *names: str) -> list[list[Any]]:
    rows = pq.read_table(path, columns=list(names))
    return [rows[name].to_pylist() for name in names]


def labelled(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    yield Part(*columns_of(paths[0], "text", "label"), *columns_of(paths[1], "text", "label"))


def tagged(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    yield Part(*columns_of(paths[0], "tokens", "tags"), *columns_of(paths[1], "tokens", "tags"))


def folds(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    """Ten of them, the same ones for every seed; the first --folds are run."""
    texts, labels = columns_of(paths[0], "text", "label")
    fold = np.random.default_rng(0).permutation(len(texts)) % 10
    for number in range(options.folds):
        held = [int(row) for row in np.flatnonzero(fold == number)]
        kept = [int(row) for row in np.flatnonzero(fold != number)]
        yield Part(
            [texts[row] for row in kept], [labels[row] for row in kept],
            [texts[row] for row in held], [labels[row] for row in held],
        )  # fmt: skip


def texts(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    yield Part(*columns_of(paths[0], "text"), None, *columns_of(paths[1], "text"), None)


def paragraphs(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    """The first 2,000,000 words (by spaces) to train on, the next 200,000 to measure on."""
    rows: list[list[str]] = [[], []]
    counts = [0, 0]
    limits = (2_000_000, 200_000)
    for batch in pq.ParquetFile(paths[0]).iter_batches(columns=["text"]):
        for text in batch["text"].to_pylist():
            turn = int(counts[0] >= limits[0])
            rows[turn].append(text)
            counts[turn] += text.count(" ") + 1
            if counts[1] >= limits[1]:
                yield Part(rows[0], None, rows[1], None)
                return
    raise SystemExit(f"{paths[0]}: {sum(counts):,} words, expected {sum(limits):,}")


def numbers(paths: list[Path], options: argparse.Namespace) -> Iterator[Part]:
    """The last fifth is held out; its first forecasts look back at what was trained on."""
    (values,) = columns_of(paths[0], "sunspots")
    cut = len(values) - len(values) // 5
    window = TASKS["sunspots"].settings["window"]
    yield Part(np.array(values[:cut]), None, np.array(values[cut - window :]), None)


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
         "learning_rate": 3e-3, "schedule": "cosine"}, "accuracy", 0.74, folds,
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


def main() -> int:
    options = parse()
    if options.list:
        print(harness.table(
            ["task", "model", "files", "settings"],
            [[n, t.kind, " ".join(t.files), str(t.settings)] for n, t in TASKS.items()],
        ))  # fmt: skip
        return 0
    torch.set_num_threads(options.threads)
    facts = harness.machine_facts(("torch",))
    print(f"python {shlex.join(sys.argv)}\n{harness.machine_lines(facts, options.threads)}\n")
    report: dict[str, Any] = {"bench": "accuracy", "machine": facts, "results": {}}
    rows, failed = [], False
    for name in options.task:
        found = compared(name, TASKS[name], options)
        report["results"][name] = found
        failed = failed or not found["passed"]
        rows.append(row_of(name, TASKS[name], found))
    head = ["task", "measure", "asked", "fastseq", "PyTorch", "seconds", "PyTorch's", ""]
    print("\n" + harness.table(head, rows))
    harness.write_report("accuracy", report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the data")
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5, help="runs of each side")
    parser.add_argument("--first-seed", type=int, default=0, help="of those runs")
    parser.add_argument("--folds", type=int, default=10, help="of those that mr has")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=JSON", help="other settings")
    parser.add_argument("--without-torch", action="store_true", help="fastseq alone")
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    options = parser.parse_args()
    for name in () if options.list else options.task:
        for file in TASKS[name].files:
            if not (options.data / file).is_file():
                parser.error(f"no such file: {options.data / file}")
    return options


def compared(name: str, task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Every seed's values and seconds on either side, and the verdict."""
    settings = {**task.settings, **dict(setting(text) for text in options.set)}
    print(f"{name}: {KINDS[task.kind].__name__}({said(settings)})", flush=True)
    sides = ["fastseq"] if options.without_torch else ["fastseq", "PyTorch"]
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
    found: dict[str, Any] = {
        "settings": settings, "measure": task.measure, "values": values, "seconds": spent,
        "last_value": baseline,
    }  # fmt: skip
    found["passed"] = passed(task, values, baseline)
    return found


def run(
    side: str, task: Task, settings: dict[str, Any], part: Part, seed: int, threads: int
) -> tuple[dict[str, float], float]:
    """(what `evaluate` measures, seconds of training) after one training."""
    model = KINDS[task.kind](**settings, seed=seed, threads=threads)
    if side == "fastseq":
        _, seconds = torch_models.seconds(lambda: model.fit(part.train, part.train_targets))
    else:
        model.check()
        job = model._task(part.train, part.train_targets, None, {}, Team(threads))
        torch.manual_seed(seed)
        network = torch_models.twin(model, job, "turned")
        training = model._training_settings(1e9)
        _, seconds = torch_models.seconds(lambda: torch_models.train(network, job, training))
        names = job.parameters.shapes
        job.parameters.load_state_dict(network.weights(names))
        model._learned = job.learned
    given = (part.test,) if part.test_targets is None else (part.test, part.test_targets)
    measures: dict[str, float] = model.evaluate(*given)
    return measures, seconds


def passed(task: Task, values: dict[str, list[float]], baseline: float | None) -> bool:
    """Whether fastseq reached what is asked for, and is not behind PyTorch."""
    ours = statistics.mean(values["fastseq"])
    sign = 1 if task.larger else -1
    if task.asked is not None and sign * (ours - task.asked) < 0:
        return False
    if baseline is not None and ours >= baseline:
        return False
    if "PyTorch" not in values:
        return True
    theirs = statistics.mean(values["PyTorch"])
    margin = 2 * math.hypot(error(values["fastseq"]), error(values["PyTorch"]))
    if task.allowed is not None:
        margin = task.allowed * theirs
    return sign * (ours - theirs) >= -margin


def error(values: list[float]) -> float:
    """The standard error of their mean; 0 for one value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def row_of(name: str, task: Task, found: dict[str, Any]) -> list[str]:
    def of(side: str) -> str:
        values = found["values"].get(side)
        return f"{statistics.mean(values):.4f} ± {error(values):.4f}" if values else ""

    def seconds(side: str) -> str:
        values = found["seconds"].get(side)
        return f"{statistics.mean(values):.1f}" if values else ""

    asked = "" if task.asked is None else f"{'≥' if task.larger else '≤'} {task.asked}"
    if found["last_value"] is not None:
        asked = f"< {found['last_value']:.2f}"
    verdict = "reached" if found["passed"] else "MISSED"
    sides = ("fastseq", "PyTorch")
    return [name, task.measure, asked, *map(of, sides), *map(seconds, sides), verdict]


def setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def said(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


if __name__ == "__main__":
    sys.exit(main())
