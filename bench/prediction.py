"""`fastseq predict` compared with PyTorch: tokens per second of a classifier and a tagger.

    python -m bench.prediction --data DATA

A bidirectional LSTM of 128 on embeddings of 128 with max pooling, and a tagger of the same layers,
trained for an epoch on 2,000 rows; then every row of the file is predicted. fastseq does all that
the command does but writing: read Parquet, tokenise, look up, run the network, make Arrow tables of
labels and probabilities. PyTorch runs the network alone, with the same weights: it is given batches
of ids, sorted by length as fastseq sorts them, and only takes the argmax. It runs in each of the
ways of common/twins.py, and the fastest correct one is timed.

Checked first: PyTorch's labels are fastseq's but for 1 in 1,000 (1 in 50 where its backward
direction reads the padding).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.common import harness
from bench.common.harness import Check, Contender
from bench.common.report import Parser, Report, optional
from bench.common.training import MODELS, prediction_batches, weights_of

TARGET = 1.0
TRAINED_ON = 2000
SETTINGS: dict[str, Any] = {"bidirectional": True, "hidden": 128, "embedding": 128, "epochs": 1}
TASKS = {
    "classify": ("classifier", "classify/sst2/train.parquet", ("text", "label")),
    "tag": ("tagger", "tag/ud_ewt/train.parquet", ("tokens", "tags")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("prediction", options, ("torch",))
    for name in options.task:
        kind, file, columns = TASKS[name]
        path = options.data / file
        model = MODELS[kind](**SETTINGS, threads=options.threads)
        model.fit(pq.read_table(path, columns=list(columns)).slice(0, TRAINED_ON))
        batches = prediction_batches(model, path)
        tokens = sum(len(batch.values) for _, batch in batches)
        found = harness.compare(contenders(model, path, batches), options.rounds)
        print(f"\n{name}, {tokens:,} tokens")
        print(harness.rate_table(found, tokens, "fastseq", "tokens/s"), flush=True)
        report.check(not found.refused, f"{name}: {found.refused}")
        for way in found.timings.keys() - {"fastseq"}:
            ratio = found.ratio(way, "fastseq")
            report.target(ratio >= TARGET, f"{name}: {ratio:.2f} (target {TARGET})")
        report.results[name] = found.to_dict(tokens, "fastseq")
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=9)
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    options = parser.parse(arguments)
    for name in options.task:
        parser.existing(options.data / TASKS[name][1])
    return options


def contenders(model: Any, path: Path, batches: list[tuple[Any, Any]]) -> list[Contender]:
    """fastseq, which returns each row's label or tags, and PyTorch, each batch's label numbers."""
    expected: list[Any] = []

    def run() -> list[Any]:
        found: list[Any] = []
        for table in model.predict_batches(path):
            found += table["prediction"].to_pylist()
        return found

    def remember(found: list[Any]) -> Check:
        expected.extend(found)
        return Check(len(found) > 0, f"{len(found):,} rows")

    def alike(least: float) -> Callable[[list[Any]], Check]:
        names = model.learned.labels.values

        def check(found: list[Any]) -> Check:
            right = total = 0
            for (rows, _), best in zip(batches, found, strict=True):
                labels = [expected[row] for row in rows]
                if model.kind == "tagger":
                    labels = [tag for tags in labels for tag in tags]
                right += sum(a == names[b] for a, b in zip(labels, best, strict=True))
                total += len(labels)
            return Check(right / total >= least, f"{right / total:.2%} of fastseq's labels")

        return check

    ours = Contender("fastseq", run, remember)
    torch = optional("torch")
    if torch is None:
        return [ours]
    from bench.common import twins

    def theirs(way: str) -> Callable[[], list[Any]]:
        network = twins.twin(model, weights_of(model), way).eval()

        def run() -> list[Any]:
            with torch.inference_mode():
                return [network.scores(batch).argmax(1).tolist() for _, batch in batches]

        return run

    ways = [
        Contender(f"PyTorch, {way}", theirs(way), alike(0.98 if way == "padded" else 0.999))
        for way in twins.WAYS
    ]
    remember(run())
    quickest = harness.fastest(ways)
    expected.clear()
    return [ours, quickest]


if __name__ == "__main__":
    sys.exit(main())
