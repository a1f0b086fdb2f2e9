"""Whole epochs of training, compared with a careful PyTorch loop.

    python -m bench.epochs --data DATA
    python -m bench.epochs --data DATA --task sst2 --rounds 9

A character language model (two LSTM layers of 256, embedding 128, 32 streams, truncated
backpropagation through 100 steps) and a sentence classifier (bidirectional LSTM of 128, embedding
128, max pooling, batches of 32). An epoch includes everything from ids to updated weights: batches
assembled and bucketed by length, forward, backward, clipping, Adam. Both sides start each epoch
from the same weights and see the same batches in the same order (common/twins.py); reading and
tokenising come before.

PyTorch's classifier runs in each of the ways of common/twins.py, and the fastest correct one is
timed. Dropout is off, so that losses can be compared: checked first is the mean loss of the epoch,
to 0.1 %, and to 1 % where both directions run padded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.common import harness
from bench.common.harness import Check, Contender
from bench.common.report import Parser, Report, optional
from bench.common.training import MODELS, Training, columns_of, size_of, weight_of

TARGET = 1.5
# name: kind, file, columns, settings
TASKS: dict[str, tuple[str, str, tuple[str, ...], dict[str, Any]]] = {
    "shakespeare": (
        "language", "text/tinyshakespeare_train.parquet", ("text",),
        {"unit": "char", "hidden": 256, "layers": 2, "embedding": 128, "batch_size": 32,
         "bptt": 100},
    ),
    "sst2": (
        "classifier", "classify/sst2/train.parquet", ("text", "label"),
        {"hidden": 128, "embedding": 128, "bidirectional": True},
    ),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("epochs", options, ("torch",))
    for name in options.task:
        kind, file, columns, settings = TASKS[name]
        settings = settings | ({"hidden": options.hidden} if options.hidden else {})
        given = columns_of(options.data / file, *columns, rows=options.rows)
        model = MODELS[kind](**settings, dropout=0.0, epochs=1, threads=options.threads)
        training = Training(model, given[0], given[1] if len(given) > 1 else None, options.threads)
        units = sum(size_of(batch) for batch in training.batches(0))
        found = harness.compare(contenders(training), options.rounds)
        print(f"\n{name}: {kind}, {settings}")
        print(harness.rate_table(found, units, "fastseq", "units/s"), flush=True)
        report.check(not found.refused, f"{name}: {found.refused}")
        for way in found.timings.keys() - {"fastseq"}:
            ratio = found.ratio(way, "fastseq")
            report.target(ratio >= TARGET, f"{name}: {ratio:.2f} (target {TARGET})")
        report.results[name] = found.to_dict(units, "fastseq")
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=5, small={"hidden": 16, "rows": 30})
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rows", type=int, help="the first rows of each file; all unless given")
    parser.add_argument("--hidden", type=int, help="units instead of the task's")
    options = parser.parse(arguments)
    for name in options.task:
        parser.existing(options.data / TASKS[name][1])
    return options


def contenders(training: Training) -> list[Contender]:
    """fastseq, and PyTorch in its fastest way; each returns the epoch's mean loss."""
    expected: list[float] = []

    def remember(loss: float) -> Check:
        expected.append(loss)
        return Check(True, f"loss {loss:.4f}")

    def near(within: float) -> Callable[[float], Check]:
        def check(loss: float) -> Check:
            off = abs(loss / expected[0] - 1)
            return Check(off <= within, f"loss {loss:.4f}, differs by {off:.3%}")

        return check

    ours = Contender("fastseq", training.run, remember)
    if optional("torch") is None:
        return [ours]
    from bench.common import twins

    weights = [weight_of(batch) for batch in training.batches(0)]

    def theirs(way: str) -> Callable[[], float]:
        network = twins.twin(training.model, training.first, way)

        def run() -> float:
            network.load(training.first)
            return float(np.average(twins.train(network, training), weights=weights))

        return run

    if training.model.kind == "language":  # sequences of equal length: nothing to pack
        return [ours, Contender("PyTorch", theirs("padded"), near(1e-3))]
    ways = [
        Contender(f"PyTorch, {way}", theirs(way), near(1e-2 if way == "padded" else 1e-3))
        for way in twins.WAYS
    ]
    remember(training.run())
    return [ours, harness.fastest(ways, rounds=1)]


if __name__ == "__main__":
    sys.exit(main())
