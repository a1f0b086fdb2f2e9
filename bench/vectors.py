"""Word vectors compared with gensim's and fastText's: words per second, and quality.

    python -m bench.vectors --data DATA --task skipgram cbow --seeds 3
    python -m bench.vectors --data DATA --task glove --set window=15 epochs=50

Both sides get the same words: those of fastseq's analyzer, one line a row, in a file that gensim
reads by itself (its corpus_file; with --sentences it is given lists of words instead). Same
dimensions, window, negatives, subsampling, epochs, rates and threads, and of each seed one run of
either, in alternation, after a run of fastseq on a few rows that compiles its kernels. Seconds are
those of training alone, after the vocabulary has been counted; words are all of the corpus,
including those below min_count. Quality is measured by one piece of code for both.

fastText's own program, where it is installed, runs in a process of its own, for the tasks that it
has; its seconds are those of the whole call, which counts the vocabulary as well.

Targets: a task's speed-up over gensim, analogies at most a point below, ρ at most .01 below.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

import fastseq
from bench.common.harness import seconds_of
from bench.common.report import Parser, Report, optional, setting, table
from fastseq.text.lexicon import Lexicon
from fastseq.types import Texts
from fastseq.vectors.evaluation import analogies, read_pairs, read_questions, similarity


class Task(NamedTuple):
    """A model, its settings, and the target of its speed-up over gensim."""

    model: Any
    settings: dict[str, Any]
    target: float | None = None


COMMON = {"dimensions": 100, "window": 5, "negatives": 5, "min_count": 5, "sample": 1e-4}
SKIPGRAM = {**COMMON, "epochs": 5, "architecture": "skipgram", "learning_rate": 0.025}
CBOW = {**COMMON, "epochs": 5, "architecture": "cbow", "learning_rate": 0.05}
TASKS = {
    "skipgram": Task(fastseq.Word2Vec, {**SKIPGRAM, "loss": "negative"}, 3.0),
    "cbow": Task(fastseq.Word2Vec, {**CBOW, "loss": "negative"}, 1.3),
    "skipgram-hs": Task(fastseq.Word2Vec, {**SKIPGRAM, "loss": "hierarchical"}),
    "cbow-hs": Task(fastseq.Word2Vec, {**CBOW, "loss": "hierarchical"}),
    "fasttext": Task(fastseq.FastText, {**SKIPGRAM, "loss": "negative", "ns_exponent": 0.75}, 2.5),
    "fasttext-cbow": Task(fastseq.FastText, {**CBOW, "loss": "negative", "ns_exponent": 0.75}),
    "glove": Task(fastseq.GloVe, {}),  # its own defaults; gensim has none
}
MEASURES = ("words/s", "semantic", "syntactic", "analogies", "spearman")
Trainer = Callable[[Task, int, list[str], Path, argparse.Namespace], dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("vectors", options, ("gensim", "fasttext-numpy2"))
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.txt"
        corpus = prepared(options.corpus, lines, options.rows)
        rows = []
        for name in options.task:
            task = TASKS[name]
            known = task.model().get_params().keys() | task.settings.keys()
            given = {k: v for k, v in options.set if k in known}
            task = task._replace(settings=task.settings | given)
            sides = sides_of(task, options)
            warm_up = task.settings | {"epochs": 1, "min_count": 1}
            model_of(task._replace(settings=warm_up), 0, 1).fit(corpus[:200])
            found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                for side, train in sides.items():
                    measures = train(task, seed, corpus, lines, options)
                    found[side].append(measures)
                    text = ", ".join(f"{m} {measures[m]:,.4g}" for m in MEASURES)
                    print(f"{name}, seed {seed}, {side}: {text}", flush=True)
            report.results[name] = found
            means = {side: means_of(runs) for side, runs in found.items()}
            rows += [row_of(name, side, mean) for side, mean in means.items()]
            judge(name, task, means, report)
    print("\n" + table(["model", "side", *MEASURES], rows))
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    few = {"epochs": 2, "dimensions": 16}
    parser = Parser(__doc__, small={"task": list(TASKS), "seeds": 1, "set": few.items()})
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet: text")
    parser.add_file("--analogies", "words/analogies.parquet", "section, a, b, c, d")
    parser.add_file("--similarity", "words/wordsim353.parquet", "word1, word2, score")
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=["skipgram", "cbow"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--set", nargs="+", type=setting, default=[], metavar="NAME=JSON",
        help="other settings, of all sides where they have them",
    )  # fmt: skip
    parser.add_argument("--rows", type=int, help="of the corpus; all unless given")
    parser.add_argument("--sentences", action="store_true", help="give gensim lists of words")
    parser.add_argument("--alone", action="store_true", help="fastseq alone")
    return parser.parse(arguments)


def sides_of(task: Task, options: argparse.Namespace) -> dict[str, Trainer]:
    """Those that can train a task's model and are installed."""
    found: dict[str, Trainer] = {"fastseq": ours}
    if task.model is not fastseq.GloVe and not options.alone:
        if optional("gensim") is not None:
            found["gensim"] = theirs
        if task.model is fastseq.FastText and optional("fasttext") is not None:
            found["fastText"] = program
    return found


def prepared(corpus: Path, lines: Path, rows: int | None) -> list[str]:
    """The rows' words, joined by spaces, also as a file of lines."""
    lexicon = Lexicon(fastseq.Analyzer(tokenizer="word"))
    joined: list[str] = []
    names: list[str] = []
    for batch in pq.ParquetFile(corpus).iter_batches(8192, columns=["text"]):
        texts = [text or "" for text in batch["text"].to_pylist()]
        tokens = lexicon.encode(Texts.from_strings(texts[: rows and rows - len(joined)]))
        if len(lexicon) > len(names):
            names = lexicon.terms().to_strings()
        ids, ends = tokens.values.tolist(), tokens.offsets.tolist()
        joined += [" ".join([names[i] for i in ids[a:b]]) for a, b in pairwise(ends)]
        if rows is not None and len(joined) >= rows:
            break
    lines.write_text("".join(line + "\n" for line in joined), "utf-8")
    return joined


def model_of(task: Task, seed: int, threads: int) -> Any:
    analyzer = fastseq.Analyzer(tokenizer="space", lowercase=False)
    return task.model(analyzer=analyzer, seed=seed, threads=threads, **task.settings)


def ours(
    task: Task, seed: int, corpus: list[str], lines: Path, options: argparse.Namespace
) -> dict[str, float]:
    model = model_of(task, seed, options.threads).fit(corpus)
    history = model.history_
    words = len(history["epoch"]) * model.vectors_.statistics["tokens"]
    speed = words / sum(history["seconds"])
    return {"words/s": speed, **measured(model.vectors_, options)}


def theirs(
    task: Task, seed: int, corpus: list[str], lines: Path, options: argparse.Namespace
) -> dict[str, float]:
    gensim = optional("gensim")
    given = task.settings
    hierarchical = given["loss"] == "hierarchical"
    kind = gensim.models.FastText if task.model is fastseq.FastText else gensim.models.Word2Vec
    model = kind(
        vector_size=given["dimensions"], window=given["window"], min_count=given["min_count"],
        sample=given["sample"], seed=seed + 1, workers=options.threads,
        sg=int(given["architecture"] == "skipgram"), hs=int(hierarchical),
        negative=0 if hierarchical else given["negatives"], alpha=given["learning_rate"],
        epochs=given["epochs"],
    )  # fmt: skip
    split = [line.split() for line in corpus] if options.sentences else None
    source = {"corpus_iterable": split} if split else {"corpus_file": str(lines)}
    model.build_vocab(**source)
    words, count = model.corpus_total_words, model.corpus_count
    sizes = {"total_examples": count, "total_words": words, "epochs": given["epochs"]}
    _, seconds = seconds_of(lambda: model.train(**source, **sizes))
    vectors = fastseq.WordVectors(model.wv.index_to_key, model.wv.vectors)
    return {"words/s": given["epochs"] * words / seconds, **measured(vectors, options)}


ALONE = """
import json, sys, time, fasttext, numpy
file, vectors, words, given = json.loads(sys.argv[1])
start = time.perf_counter()
model = fasttext.train_unsupervised(file, verbose=0, **given)
seconds = time.perf_counter() - start
names = [word for word in model.get_words() if word != "</s>"]
numpy.save(vectors, numpy.array([model.get_word_vector(word) for word in names], "f4"))
json.dump(names, open(words, "w"))
print(seconds)
"""


def program(
    task: Task, seed: int, corpus: list[str], lines: Path, options: argparse.Namespace
) -> dict[str, float]:
    settings = task.settings
    given = {
        "model": settings["architecture"], "lr": settings["learning_rate"],
        "dim": settings["dimensions"], "ws": settings["window"], "neg": settings["negatives"],
        "epoch": settings["epochs"], "minCount": settings["min_count"], "t": settings["sample"],
        "thread": options.threads,
    }  # fmt: skip  # train_unsupervised of fasttext-numpy2 takes no seed
    vectors, words = lines.with_suffix(".npy"), lines.with_suffix(".json")
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps([str(lines), str(vectors), str(words), given])],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    tokens = sum(line.count(" ") + 1 for line in corpus if line)
    found = fastseq.WordVectors(json.loads(words.read_text("utf-8")), np.load(vectors))
    speed = settings["epochs"] * tokens / float(ran.stdout)
    return {"words/s": speed, **measured(found, options)}


def measured(vectors: Any, options: argparse.Namespace) -> dict[str, float]:
    """Accuracies in percent, and Spearman's ρ."""
    found = analogies(vectors, read_questions(options.analogies), threads=options.threads)
    parts = {"semantic": found.semantic, "syntactic": found.syntactic, "analogies": found.total}
    percent = {name: 100 * part.accuracy for name, part in parts.items()}
    return {**percent, "spearman": similarity(vectors, read_pairs(options.similarity)).spearman}


def means_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(run[name] for run in runs) for name in MEASURES}


def row_of(task: str, side: str, mean: dict[str, float]) -> list[str]:
    return [task, side, f"{mean['words/s']:,.0f}", *(f"{mean[m]:.3f}" for m in MEASURES[1:])]


def judge(name: str, task: Task, means: dict[str, dict[str, float]], report: Report) -> None:
    """Compare fastseq's means with gensim's."""
    if "gensim" not in means:
        return
    mine, other = means["fastseq"], means["gensim"]
    ratio = mine["words/s"] / other["words/s"]
    report.target(ratio >= (task.target or 0), f"{name}: {ratio:.2f} (target {task.target})")
    for measure, allowed in (("analogies", 1), ("spearman", 0.01)):
        text = f"{name}: {measure} {mine[measure]:.4g}, gensim {other[measure]:.4g}"
        report.target(mine[measure] >= other[measure] - allowed, text)


if __name__ == "__main__":
    sys.exit(main())
