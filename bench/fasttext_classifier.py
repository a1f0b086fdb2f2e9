"""FastTextClassifier beside fastText's own program: accuracy and seconds of whole trainings.

    python bench/fasttext_classifier.py --data DATA

Both sides get the same words: those of fastseq's analyzer, joined by spaces. The same settings and
threads; of each seed one run of either, in turn, each side going first every other time. Seconds
are those of a whole call: FastTextClassifier.fit of texts in memory, kernels compiled before, and
fasttext.train_supervised of its file, in a process of its own. Accuracy is that of each side's own
predictions. MR has ten folds, the same ones for every seed, of which the first --folds are run.

fastText learns from texts in the order of its file, so both sides get them shuffled, by each seed
in another way: MR stands sorted by label, which fastText does not bear, and accuracies of one order
alone vary with that order. --as-they-come leaves them.

Ends with 1 where a median of fastseq's is slower, or its mean accuracy is lower by more than two
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
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import numpy as np
import pyarrow.parquet as pq

from fastseq.models.fasttext.classifier import FastTextClassifier
from fastseq.text.analyzer import Analyzer
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
SIDES = ("fastseq", "fastText")


class Part(NamedTuple):
    """Texts and labels to train on and to measure on."""

    train: list[str]
    labels: list[str]
    test: list[str]
    expected: list[str]


class Result(NamedTuple):
    accuracy: float
    seconds: float


def main() -> int:
    options = parse()
    facts = harness.machine_facts(("fasttext-numpy2",))
    print(f"{harness.machine_lines(facts, options.threads)}\n{options}\n")
    report: dict[str, Any] = {"bench": "fasttext_classifier", "machine": facts, "results": {}}
    rows, short = [], []
    for name in options.set:
        parts = list(parts_of(name, options))
        for which in options.settings:
            title = f"{name}, {which}"
            found = compared(title, parts, SETTINGS[which], options)
            report["results"][title] = found
            missed = missed_by(found)
            short += [f"{title}: {what}" for what in missed]
            rows.append([*row_of(title, found), "MISSED" if missed else "reached"])
    head = ["set", *(f"{s}, accuracy" for s in SIDES), *(f"{s}, s" for s in SIDES), "times", ""]
    print("\n" + harness.table(head, rows))
    print("MISSED: " + "; ".join(short) if short else "reached")
    harness.write_report("fasttext_classifier", report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 1 if short else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the data")
    parser.add_argument("--set", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5, help="runs of each side")
    parser.add_argument("--folds", type=int, default=2, help="of the ten that mr has")
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--as-they-come", action="store_true", help="do not shuffle the texts")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    options = parser.parse_args()
    for name in options.set:
        for file in SETS[name]:
            if not (options.data / file).is_file():
                parser.error(f"no such file: {options.data / file}")
    return options


def parts_of(name: str, options: argparse.Namespace) -> Iterator[Part]:
    tables = [pq.read_table(options.data / file) for file in SETS[name]]
    texts = [words_of(table["text"].to_pylist()) for table in tables]
    labels = [[str(label) for label in table["label"].to_pylist()] for table in tables]
    if len(tables) == 2:
        yield Part(texts[0], labels[0], texts[1], labels[1])
        return
    fold = np.random.default_rng(0).permutation(len(texts[0])) % 10
    for number in range(options.folds):
        kept, held = (np.flatnonzero(f).tolist() for f in (fold != number, fold == number))
        yield Part(
            [texts[0][row] for row in kept], [labels[0][row] for row in kept],
            [texts[0][row] for row in held], [labels[0][row] for row in held],
        )  # fmt: skip


def words_of(texts: list[str]) -> list[str]:
    """The words of each text, as the analyzer has them, joined by spaces."""
    lexicon = Lexicon(Analyzer())
    tokens = lexicon.encode(Texts.from_strings(texts))
    names, ids = lexicon.terms().to_strings(), tokens.values.tolist()
    return [" ".join([names[i] for i in ids[a:b]]) for a, b in pairwise(tokens.offsets.tolist())]


def compared(
    title: str, parts: list[Part], settings: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Accuracies and seconds of every seed on either side."""
    values: dict[str, list[float]] = {side: [] for side in SIDES}
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.txt"
        ours(parts[0], 0, settings, options.threads)  # compiles what is not in the cache
        for seed in range(options.seeds):
            results: dict[str, list[Result]] = {side: [] for side in SIDES}
            for fixed in parts:
                part = fixed if options.as_they_come else shuffled(fixed, seed)
                with file.open("w", encoding="utf-8") as out:
                    for text, label in zip(part.train, part.labels, strict=True):
                        out.write(f"__label__{label} {text}\n")
                for side in SIDES if seed % 2 == 0 else SIDES[::-1]:
                    results[side].append(
                        ours(part, seed, settings, options.threads)
                        if side == "fastseq"
                        else theirs(part, file, seed, settings, options.threads)
                    )
            for side in SIDES:
                values[side].append(statistics.mean(r.accuracy for r in results[side]))
                spent[side].append(statistics.median(r.seconds for r in results[side]))
            said = ", ".join(f"{s} {values[s][-1]:.4f} in {spent[s][-1]:.3f} s" for s in SIDES)
            print(f"{title}, seed {seed}: {said}", flush=True)
    return {"settings": settings, "accuracy": values, "seconds": spent}


def shuffled(part: Part, seed: int) -> Part:
    order = np.random.default_rng(seed).permutation(len(part.train)).tolist()
    texts, labels = [part.train[row] for row in order], [part.labels[row] for row in order]
    return part._replace(train=texts, labels=labels)


def ours(part: Part, seed: int, settings: dict[str, Any], threads: int) -> Result:
    analyzer = Analyzer(tokenizer="space", lowercase=False)
    model = FastTextClassifier(**settings, seed=seed, threads=threads, analyzer=analyzer)
    start = time.perf_counter()
    model.fit(part.train, part.labels)
    seconds = time.perf_counter() - start
    return Result(float(np.mean(model.predict(part.test) == np.array(part.expected))), seconds)


# One training by itself. fastText sets a tenth of its rows by chance for each of its threads and
# leaves the others as the memory came (densematrix.cc, uniformThread): zeros in a process of its
# own; in one that has trained before, what other models left there, NaN among it.
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
FRESH = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # memory that the system gives, not used before


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


def missed_by(found: dict[str, Any]) -> list[str]:
    """What fell short of fastText: accuracy, speed."""
    ours, theirs = (found["accuracy"][side] for side in SIDES)
    margin = 2 * math.hypot(error(ours), error(theirs))
    short = []
    if statistics.mean(ours) < statistics.mean(theirs) - margin:
        short.append("accuracy")
    if statistics.median(found["seconds"]["fastseq"]) > statistics.median(
        found["seconds"]["fastText"]
    ):
        short.append("speed")
    return short


def error(values: list[float]) -> float:
    """The standard error of their mean; 0 for one value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def row_of(title: str, found: dict[str, Any]) -> list[str]:
    accuracies = [found["accuracy"][side] for side in SIDES]
    seconds = [statistics.median(found["seconds"][side]) for side in SIDES]
    return [
        title,
        *(f"{statistics.mean(values):.4f} ± {error(values):.4f}" for values in accuracies),
        *(f"{value:.3f}" for value in seconds),
        f"{seconds[1] / seconds[0]:.1f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
