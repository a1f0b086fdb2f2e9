"""A classifier initialised with word vectors, compared with random initial embeddings.

    python -m bench.pretrained --data DATA

A bidirectional LSTM of 128 with embeddings of the vectors' dimensions, dropout .5, five epochs: the
two differ in the initial embeddings alone. Both train them further. Accuracy on the test set, seed
by seed. Target: the mean with vectors is higher.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence

import fastseq
from bench.common import commands
from bench.common.report import Parser, Report, mean_and_error, table

SIDES = ("vectors", "random")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("pretrained", options)
    vectors = commands.vectors(options)
    dimensions = fastseq.WordVectors.load(vectors).dimensions
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for seed in range(options.seeds):
        for side in SIDES:
            model = fastseq.SequenceClassifier(
                bidirectional=True, hidden=options.hidden, embedding=dimensions, dropout=0.5,
                epochs=options.epochs, schedule="cosine", seed=seed, threads=options.threads,
                embeddings=str(vectors) if side == "vectors" else None,
            )  # fmt: skip
            model.fit(options.train)
            found[side].append(float(model.evaluate(options.test)["accuracy"]))
            print(f"seed {seed}, {side}: {found[side][-1]:.4f}", flush=True)
    rows = [[side, mean_and_error(runs)] for side, runs in found.items()]
    print("\n" + table(["initial embeddings", "accuracy"], rows))
    won = statistics.mean(found["vectors"]) > statistics.mean(found["random"])
    report.target(won, "vectors are better than random embeddings")
    report.results |= found
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"seeds": 1, "epochs": 1, "hidden": 8})
    parser.add_file("--train", "classify/sst2/train.parquet", "Parquet: text, label")
    parser.add_file("--test", "classify/sst2/test.parquet", "Parquet: text, label")
    commands.add_vectors(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=128)
    return parser.parse(arguments)


if __name__ == "__main__":
    sys.exit(main())
