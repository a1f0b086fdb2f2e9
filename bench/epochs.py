"""Whole epochs of training beside a careful PyTorch loop.

    python bench/epochs.py --shakespeare tinyshakespeare_train.parquet --sst2 train.parquet
    python bench/epochs.py --sst2 train.parquet --rounds 9

A character language model (two LSTM layers of 256, embedding 128, 32 streams, 100 steps at a time,
state carried) and a sentence classifier (bidirectional LSTM of 128, embedding 128, max pooling,
batches of 32). An epoch is everything from ids to moved weights: batches cut and bucketed by
length, forward, backward, clipping, Adam. Both sides start each epoch from the same weights and see
the same batches in the same order (bench/torch_models.py); reading and tokenising come before.

PyTorch's classifier runs in each of the ways of bench/torch_models.py, and the quickest that is
right is timed; its language model needs none. Dropout is off, so that losses can be compared:
checked first is the mean loss of the epoch, to 0.1 %, and to 1 % where both directions run padded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import numpy as np
import pyarrow.parquet as pq
import torch
import torch_models
from harness import Check, Contender

from fastseq.models.classifier import SequenceClassifier
from fastseq.models.language import LanguageModel
from fastseq.threads import Team
from fastseq.training.loop import train

ASKED = 1.5


def main() -> int:
    options = parse()
    torch.set_num_threads(options.threads)
    facts = harness.machine_facts(("torch",))
    print(harness.machine_lines(facts, options.threads))
    print(f"PyTorch: {torch.get_num_threads()} threads\n")
    report: dict[str, Any] = {"bench": "epochs", "machine": facts, "results": {}}
    failed = False
    for name, path, made in (
        ("character language model, 2 x 256", options.shakespeare, language),
        ("SST-2, BiLSTM", options.sst2, classifier),
    ):
        if path is None:
            continue
        model, given = made(path, options)
        found, units = measure(model, given, options)
        ways = [way for way in found.timings if way != "fastseq"]
        print(f"\n{name}\n" + harness.rate_table(found, units, "fastseq", "units/s"))
        ratio = found.ratio(ways[0], "fastseq") if ways else float("nan")
        reached = ratio >= ASKED
        print(f"{'reached' if reached else 'MISSED '}  {ratio:.2f} (asked {ASKED})")
        failed = failed or not reached
        report["results"][name] = found.to_dict(units)
    harness.write_report("epochs", report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shakespeare", type=harness.existing, help="Parquet, column text")
    parser.add_argument("--sst2", type=harness.existing, help="Parquet, columns text and label")
    parser.add_argument("--rows", type=int, help="the first so many rows of each; all unless given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    options = parser.parse_args()
    if options.shakespeare is None and options.sst2 is None:
        parser.error("give --shakespeare, --sst2 or both")
    return options


def language(path: Path, options: argparse.Namespace) -> tuple[Any, tuple[Any, Any]]:
    texts = pq.read_table(path)["text"].to_pylist()[: options.rows]
    model = LanguageModel(
        unit="char", hidden=256, layers=2, embedding=128, batch_size=32, bptt=100, dropout=0.0,
        epochs=1, threads=options.threads,
    )  # fmt: skip
    return model, (texts, None)


def classifier(path: Path, options: argparse.Namespace) -> tuple[Any, tuple[Any, Any]]:
    rows = pq.read_table(path)
    texts = rows["text"].to_pylist()[: options.rows]
    labels = rows["label"].to_pylist()[: options.rows]
    model = SequenceClassifier(
        hidden=128, embedding=128, bidirectional=True, dropout=0.0, epochs=1,
        threads=options.threads,
    )  # fmt: skip
    return model, (texts, labels)


def measure(
    model: Any, given: tuple[Any, Any], options: argparse.Namespace
) -> tuple[harness.Comparison, int]:
    """The comparison, and the units of an epoch."""
    team = Team(options.threads)
    task = model._task(*given, None, {}, team)
    settings = model._training_settings(1e9)
    first = task.parameters.state_dict()

    def ours() -> float:
        task.parameters.load_state_dict(first)
        history = train(task, settings, team=team)
        return float(history.columns["train_loss"][-1])

    def theirs(way: str) -> Callable[[], float]:
        network = torch_models.twin(model, task, way)
        weights = [weight_of(batch) for batch in torch_models.batches(task, 0)]

        def run() -> float:
            network.take_weights(first)
            losses = torch_models.train(network, task, settings)
            return float(np.average(losses, weights=weights))

        return run

    expected: list[float] = []

    def remember(loss: float) -> Check:
        expected.append(loss)
        return Check(True, f"loss {loss:.4f}")

    def near(within: float) -> Callable[[float], Check]:
        def check(loss: float) -> Check:
            off = abs(loss / expected[0] - 1)
            return Check(off <= within, f"loss {loss:.4f}, differs by {off:.2%}")

        return check

    units = sum(size_of(batch) for batch in torch_models.batches(task, 0))
    contenders = [Contender("fastseq", ours, remember)]
    task.parameters.load_state_dict(first)
    if model.kind == "classifier":
        ways = [
            Contender(f"PyTorch, {way}", theirs(way), near(1e-2 if way == "padded" else 1e-3))
            for way in torch_models.WAYS
        ]
        remember(ours())
        contenders.append(harness.fastest(ways, rounds=1))
    else:
        contenders.append(Contender("PyTorch", theirs("padded"), near(1e-3)))
    tell = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    return harness.compare(contenders, options.rounds, tell=tell), units


def weight_of(batch: Any) -> int:
    """What a batch's mean loss is a mean over."""
    return len(batch.targets) if hasattr(batch, "offsets") else int(batch.targets.size)


def size_of(batch: Any) -> int:
    return len(batch.values) if hasattr(batch, "offsets") else int(batch.inputs.size)


if __name__ == "__main__":
    sys.exit(main())
