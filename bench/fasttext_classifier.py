"""FastTextClassifier compared with fastText's own program: accuracy and seconds of trainings.

    python -m bench.fasttext_classifier --data DATA --folds 10

Both sides get the same words: those of fastseq's analyzer, joined by spaces. The same settings and
threads; of each seed one run of either, in alternation, the first one changing from seed to seed.
Seconds are those of a whole call: FastTextClassifier.fit of texts in memory, kernels compiled
before, and fasttext.train_supervised of its file, in a process of its own. Accuracy is that of each
side's own predictions. MR has ten folds, the same ones for every seed, of which the first --folds
are used.

fastText reads the texts in the order of its file, so both sides get them shuffled, differently for
each seed: MR is sorted by label, with which fastText fails, and accuracies for one order alone vary
with that order. --unshuffled leaves them.

Targets: a median time not above fastText's, and a mean accuracy not below it by more than two
standard errors of the difference.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastseq
from bench.common.harness import seconds_of
from bench.common.report import Parser, Report, mean_and_error, optional, standard_error, table
from bench.common.training import columns_of, folds
from fastseq.text.lexicon import Lexicon
from fastseq.types import Texts

SETS = {
    "sst2": ("classify/sst2/train.parquet", "classify/sst2/test.parquet"),
    "trec6": ("classify/trec6/train.parquet", "classify/trec6/test.parquet"),
    "mr": ("classify/mr/all.parquet",),
}
# name: the settings of both sides, under fastseq's names
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "bigrams": {"word_ngrams": 2, "learning_rate": 0.5, "epochs": 10},
}
THEIRS = {
    "dimensions": "dim", "word_ngrams": "wordNgrams", "learning_rate": "lr", "epochs": "epoch",
    "min_count": "minCount", "buckets": "bucket", "loss": "loss", "negatives": "neg",
}  # fmt: skip


class Part(NamedTuple):
    """Texts and labels to train on and to evaluate on."""

    train: list[str]
    labels: list[str]
    test: list[str]
    expected: list[str]


class Result(NamedTuple):
    accuracy: float
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("fasttext_classifier", options, ("fasttext-numpy2",))
    sides = ["fastseq", "fastText"] if optional("fasttext") is not None else ["fastseq"]
    rows = []
    for name in options.set:
        parts = list(parts_of(name, options))
        for which in options.settings:
            title = f"{name}, {which}"
            found = compared(title, parts, sides, SETTINGS[which], options)
            report.results[title] = found
            rows.append(row_of(title, found))
    head = ["set", *(f"{s}, accuracy" for s in sides), *(f"{s}, s" for s in sides)]
    print("\n" + table([*head, "speed-up"], rows))
    for title, found in report.results.items():
        if len(sides) > 1:
            judge(title, found, report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"seeds": 1, "folds": 1})
    parser.add_argument("--set", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5, help="runs of each side")
    parser.add_argument("--folds", type=int, default=2, help="of mr's ten")
    parser.add_argument("--unshuffled", action="store_true", help="keep the order of the texts")
    options = parser.parse(arguments)
    for name in options.set:
        for file in SETS[name]:
            parser.existing(options.data / file)
    return options


def parts_of(name: str, options: argparse.Namespace) -> Iterator[Part]:
    read = [columns_of(options.data / file, "text", "label") for file in SETS[name]]
    texts = [words_of(texts) for texts, _ in read]
    labels = [[str(label) for label in labels] for _, labels in read]
    if len(read) == 2:
        yield Part(texts[0], labels[0], texts[1], labels[1])
        return
    for kept, held in folds(len(texts[0]), options.folds):
        yield Part(
            [texts[0][row] for row in kept], [labels[0][row] for row in kept],
            [texts[0][row] for row in held], [labels[0][row] for row in held],
        )  # fmt: skip


def words_of(texts: list[str]) -> list[str]:
    """The analyzer's words of each text, joined by spaces."""
    lexicon = Lexicon(fastseq.Analyzer(tokenizer="word"))
    tokens = lexicon.encode(Texts.from_strings(texts))
    names, ids = lexicon.terms().to_strings(), tokens.values.tolist()
    return [" ".join([names[i] for i in ids[a:b]]) for a, b in pairwise(tokens.offsets.tolist())]


def compared(
    title: str,
    parts: list[Part],
    sides: list[str],
    settings: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Accuracies and seconds of every seed on either side."""
    values: dict[str, list[float]] = {side: [] for side in sides}
    spent: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.txt"
        ours(parts[0], 0, settings, options.threads)  # warm-up: compiles the kernels
        for seed in range(options.seeds):
            results: dict[str, list[Result]] = {side: [] for side in sides}
            for fixed in parts:
                part = fixed if options.unshuffled else shuffled(fixed, seed)
                with file.open("w", encoding="utf-8") as out:
                    for text, label in zip(part.train, part.labels, strict=True):
                        out.write(f"__label__{label} {text}\n")
                for side in sides if seed % 2 == 0 else sides[::-1]:
                    results[side].append(
                        ours(part, seed, settings, options.threads)
                        if side == "fastseq"
                        else theirs(part, file, seed, settings, options.threads)
                    )
            for side in sides:
                values[side].append(statistics.mean(r.accuracy for r in results[side]))
                spent[side].append(statistics.median(r.seconds for r in results[side]))
            text = ", ".join(f"{s} {values[s][-1]:.4f} in {spent[s][-1]:.3f} s" for s in sides)
            print(f"{title}, seed {seed}: {text}", flush=True)
    return {"settings": settings, "accuracy": values, "seconds": spent}


def shuffled(part: Part, seed: int) -> Part:
    order = np.random.default_rng(seed).permutation(len(part.train)).tolist()
    texts, labels = [part.train[row] for row in order], [part.labels[row] for row in order]
    return part._replace(train=texts, labels=labels)


def ours(part: Part, seed: int, settings: dict[str, Any], threads: int) -> Result:
    analyzer = fastseq.Analyzer(tokenizer="space", lowercase=False)
    model = fastseq.FastTextClassifier(**settings, seed=seed, threads=threads, analyzer=analyzer)
    _, seconds = seconds_of(lambda: model.fit(part.train, part.labels))
    return Result(float(np.mean(model.predict(part.test) == np.array(part.expected))), seconds)


# One training in its own process. fastText initialises a tenth of its rows for each of its threads
# and leaves the others as malloc returned them (densematrix.cc, uniformThread): zeros in a fresh
# process; after other trainings in the same one, what those left, NaN included.
ALONE = """
import json, sys, time
import fasttext
file, seed, threads, settings = json.loads(sys.argv[1])
start = time.perf_counter()
model = fasttext.train_supervised(file, thread=threads, seed=seed, verbose=0, **settings)
seconds = time.perf_counter() - start
found = model.predict(json.loads(sys.stdin.read()))[0]
print(json.dumps([seconds, [labels[0] for labels in found]]))
"""
FRESH = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # fresh pages from the system


def theirs(part: Part, file: Path, seed: int, settings: dict[str, Any], threads: int) -> Result:
    given = {THEIRS[name]: value for name, value in settings.items()}
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps([str(file), seed + 1, threads, given])],
        input=json.dumps(part.test), env=os.environ | FRESH, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    seconds, found = json.loads(ran.stdout)
    right = [a.removeprefix("__label__") == b for a, b in zip(found, part.expected, strict=True)]
    return Result(statistics.mean(right), seconds)


def judge(title: str, found: dict[str, Any], report: Report) -> None:
    """Compare accuracy and speed with fastText's."""
    ours, theirs = found["accuracy"].values()
    margin = 2 * math.hypot(standard_error(ours), standard_error(theirs))
    text = f"{title}: accuracy {mean_and_error(ours)}, fastText {mean_and_error(theirs)}"
    report.target(statistics.mean(ours) >= statistics.mean(theirs) - margin, text)
    mine, other = (statistics.median(each) for each in found["seconds"].values())
    report.target(mine <= other, f"{title}: {mine:.3f} s, fastText {other:.3f} s")


def row_of(title: str, found: dict[str, Any]) -> list[str]:
    seconds = [statistics.median(each) for each in found["seconds"].values()]
    return [
        title,
        *(mean_and_error(values) for values in found["accuracy"].values()),
        *(f"{value:.3f}" for value in seconds),
        f"{seconds[1] / seconds[0]:.1f}" if len(seconds) > 1 else "",
    ]


if __name__ == "__main__":
    sys.exit(main())
