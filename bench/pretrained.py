"""A classifier that begins with word vectors trained here, beside one that begins with random ones.

    fastseq fit-word2vec wiki.parquet -o vectors
    python bench/pretrained.py --train train.parquet --test test.parquet --vectors vectors

A bidirectional LSTM of 128 with embeddings of the vectors' dimensions, dropout .5, five epochs: the
two differ in the first embeddings alone. Both learn them further. Accuracy on the test set, seed by
seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness

from fastseq.models.classifier import SequenceClassifier
from fastseq.vectors.words import WordVectors

SIDES = ("vectors", "random")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train", type=harness.existing, required=True, help="text, label")
    parser.add_argument("--test", type=harness.existing, required=True, help="text, label")
    parser.add_argument("--vectors", type=Path, required=True, help="a folder or file of vectors")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    options = parser.parse_args()
    facts = harness.machine_facts(())
    print(f"{harness.machine_lines(facts, options.threads)}\n{options}\n")
    dimensions = WordVectors.load(options.vectors).dimensions
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for seed in range(options.seeds):
        for side in SIDES:
            model = SequenceClassifier(
                bidirectional=True, hidden=128, embedding=dimensions, dropout=0.5,
                epochs=options.epochs, schedule="cosine", seed=seed, threads=options.threads,
                embeddings=str(options.vectors) if side == "vectors" else None,
            )  # fmt: skip
            model.fit(options.train)
            found[side].append(float(model.evaluate(options.test)["accuracy"]))
            print(f"seed {seed}, {side}: {found[side][-1]:.4f}", flush=True)
    rows = [[side, f"{mean(runs):.4f}", f"{error(runs):.4f}"] for side, runs in found.items()]
    print("\n" + harness.table(["begins with", "accuracy", "standard error"], rows))
    won = mean(found["vectors"]) > mean(found["random"])
    print("reached" if won else "MISSED: random embeddings are as good")
    report: dict[str, Any] = {"bench": "pretrained", "machine": facts, "results": found}
    harness.write_report("pretrained", report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0 if won else 1


def mean(runs: list[float]) -> float:
    return statistics.mean(runs)


def error(runs: list[float]) -> float:
    """The standard error of the mean."""
    return statistics.stdev(runs) / len(runs) ** 0.5 if len(runs) > 1 else 0.0


if __name__ == "__main__":
    sys.exit(main())
