"""Word vectors beside gensim's and fastText's: words a second, and what the vectors are worth.

    python bench/vectors.py --corpus CORPUS.parquet --analogies analogies.parquet \
        --similarity wordsim353.parquet --seeds 3

Both sides get the same words: those of fastseq's analyzer, one line a row, in a file that gensim
reads by itself (its corpus_file; with --sentences it is given lists of words instead).
Same dimensions, window, negatives, thinning, epochs, rates and threads, and of each seed one run of
either, in turn, after a run of fastseq on a few rows, that its kernels are compiled. Seconds are
those of training alone, after the vocabulary has been counted; words are all of the corpus, those
left out as too rare among them. Quality is measured by one piece of code for both.

fastText's own program, where it is installed, is run in a process of its own, for the tasks that it
has; its seconds are those of the whole call, in which it counts the vocabulary as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gensim
import harness
import numpy as np
import pyarrow.parquet as pq

from fastseq.models.fasttext.vectors import FastText
from fastseq.models.word_vectors.base import VectorModel
from fastseq.models.word_vectors.glove import GloVe
from fastseq.models.word_vectors.word2vec import Word2Vec
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon
from fastseq.types import Texts
from fastseq.vectors.eval_datasets import read_pairs, read_questions
from fastseq.vectors.evaluation import analogies, similarity
from fastseq.vectors.words import WordVectors


class Task(NamedTuple):
    """A model, its settings beside the common ones, and the least ratio asked for, where one is."""

    model: type[VectorModel]
    settings: dict[str, Any]
    asked: float | None = None


SKIPGRAM = {"architecture": "skipgram", "learning_rate": 0.025}
CBOW = {"architecture": "cbow", "learning_rate": 0.05}
TASKS = {
    "skipgram": Task(Word2Vec, {**SKIPGRAM, "loss": "negative"}, 3.0),
    "cbow": Task(Word2Vec, {**CBOW, "loss": "negative"}, 1.3),
    "skipgram-hs": Task(Word2Vec, {**SKIPGRAM, "loss": "hierarchical"}),
    "cbow-hs": Task(Word2Vec, {**CBOW, "loss": "hierarchical"}),
    "fasttext": Task(FastText, {**SKIPGRAM, "loss": "negative", "power": 0.75}, 2.5),
    "fasttext-cbow": Task(FastText, {**CBOW, "loss": "negative", "power": 0.75}),
    "glove": Task(GloVe, {}),  # with its own defaults and epochs; gensim has none
}
MEASURES = ("words/s", "semantic", "syntactic", "analogies", "spearman")


def main() -> int:
    options = parse()
    facts = harness.machine_facts(("gensim",))
    print(f"{harness.machine_lines(facts, options.threads)}\n{options}\n")
    report: dict[str, Any] = {"bench": "vectors", "machine": facts, "results": {}}
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.txt"
        corpus = prepared(options.corpus, lines, options.rows)
        rows = []
        for task in options.task:
            sides = sides_of(task, options)
            warm(task, corpus)
            found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                for side, train in sides.items():
                    told = train(task, seed, corpus, lines, options)
                    found[side].append(told)
                    said = ", ".join(f"{name} {told[name]:,.4g}" for name in MEASURES)
                    print(f"{task}, seed {seed}, {side}: {said}", flush=True)
            report["results"][task] = found
            rows += [row_of(task, side, runs) for side, runs in found.items() if runs]
    print("\n" + harness.table(["model", "side", *MEASURES], rows))
    harness.write_report("vectors", report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 1 if missed(report["results"]) else 0


def sides_of(task: str, options: argparse.Namespace) -> dict[str, Callable[..., dict[str, float]]]:
    """Who trains a task's model."""
    found: dict[str, Callable[..., dict[str, float]]] = {"fastseq": ours}
    if TASKS[task].model is not GloVe and not options.without_gensim:
        found["gensim"] = theirs
    if TASKS[task].model is FastText and find_spec("fasttext") and not options.without_fasttext:
        found["fastText"] = program
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=harness.existing, required=True, help="Parquet, text")
    parser.add_argument("--analogies", type=harness.existing, help="section, a, b, c, d")
    parser.add_argument("--similarity", type=harness.existing, help="word1, word2, score")
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=["skipgram", "cbow"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--sample", type=float, default=1e-4)
    parser.add_argument("--glove-window", type=int, default=10)
    parser.add_argument("--glove-epochs", type=int, default=25)
    parser.add_argument("--rows", type=int, help="of the corpus; all unless given")
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--sentences", action="store_true", help="give gensim lists of words")
    parser.add_argument("--without-gensim", action="store_true")
    parser.add_argument("--without-fasttext", action="store_true")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    return parser.parse_args()


def prepared(corpus: Path, lines: Path, rows: int | None) -> list[str]:
    """The rows' words, joined by spaces, also as a file of lines."""
    lexicon = Lexicon(Analyzer())
    joined: list[str] = []
    names: list[str] = []
    with lines.open("w", encoding="utf-8") as out:
        for batch in pq.ParquetFile(corpus).iter_batches(8192, columns=["text"]):
            texts = Texts.from_strings([text or "" for text in batch["text"].to_pylist()])
            tokens = lexicon.encode(texts)
            if len(lexicon) > len(names):
                names = lexicon.terms().to_strings()
            ids, ends = tokens.values.tolist(), tokens.offsets.tolist()
            for start, end in pairwise(ends):
                joined.append(" ".join([names[i] for i in ids[start:end]]))
                if rows is not None and len(joined) == rows:
                    break
            if rows is not None and len(joined) == rows:
                break
        out.writelines(line + "\n" for line in joined)
    return joined


def warm(task: str, corpus: list[str]) -> None:
    """Compile what the task needs."""
    analyzer = Analyzer(tokenizer="space", lowercase=False)
    settings = {**TASKS[task].settings, "epochs": 1, "min_count": 1}
    TASKS[task].model(analyzer=analyzer, **settings).fit(corpus[:200])


def ours(
    task: str, seed: int, corpus: list[str], lines: Path, options: argparse.Namespace
) -> dict[str, float]:
    settings = {"seed": seed, "threads": options.threads, **TASKS[task].settings}
    if TASKS[task].model is GloVe:
        settings |= {"window": options.glove_window, "epochs": options.glove_epochs}
    else:
        settings |= {"epochs": options.epochs, "sample": options.sample}
    analyzer = Analyzer(tokenizer="space", lowercase=False)
    model = TASKS[task].model(analyzer=analyzer, **settings)
    model.fit(corpus)
    history = model.history_
    words = len(history["epoch"]) * model.vectors_.statistics["tokens"]
    speed = words / sum(history["seconds"])
    return {"words/s": speed, **measured(model.vectors_, options)}


def theirs(
    task: str, seed: int, corpus: list[str], lines: Path, options: argparse.Namespace
) -> dict[str, float]:
    given_ours = TASKS[task].settings
    hierarchical = given_ours["loss"] == "hierarchical"
    kind = gensim.models.FastText if TASKS[task].model is FastText else gensim.models.Word2Vec
    model = kind(
        vector_size=100, window=5, min_count=5, sample=options.sample, seed=seed + 1,
        workers=options.threads, sg=int(given_ours["architecture"] == "skipgram"),
        hs=int(hierarchical), negative=0 if hierarchical else 5, alpha=given_ours["learning_rate"],
        epochs=options.epochs,
    )  # fmt: skip
    split = [line.split() for line in corpus] if options.sentences else None
    if split is not None:
        model.build_vocab(split)
    else:
        model.build_vocab(corpus_file=str(lines))
    given: dict[str, Any] = {"corpus_iterable": split} if split else {"corpus_file": str(lines)}
    start = time.perf_counter()
    model.train(
        **given, total_examples=model.corpus_count, total_words=model.corpus_total_words,
        epochs=options.epochs,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    vectors = WordVectors(model.wv.index_to_key, model.wv.vectors)
    speed = options.epochs * model.corpus_total_words / seconds
    return {"words/s": speed, **measured(vectors, options)}


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
    task: str, seed: int, corpus: list[str], lines: Path, options: argparse.Namespace
) -> dict[str, float]:
    settings = TASKS[task].settings
    given = {
        "model": settings["architecture"], "lr": settings["learning_rate"], "dim": 100, "ws": 5,
        "neg": 5, "epoch": options.epochs, "minCount": 5, "t": options.sample,
        "thread": options.threads, "seed": seed + 1,
    }  # fmt: skip
    vectors, words = lines.with_suffix(".npy"), lines.with_suffix(".json")
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps([str(lines), str(vectors), str(words), given])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tokens = sum(line.count(" ") + 1 for line in corpus if line)
    found = WordVectors(json.loads(words.read_text("utf-8")), np.load(vectors))
    speed = options.epochs * tokens / float(ran.stdout)
    return {"words/s": speed, **measured(found, options)}


def measured(vectors: WordVectors, options: argparse.Namespace) -> dict[str, float]:
    """Accuracies in percent, and Spearman's ρ."""
    found = dict.fromkeys(MEASURES[1:], float("nan"))
    if options.analogies:
        told = analogies(vectors, read_questions(options.analogies), threads=options.threads)
        parts = {"semantic": told.semantic, "syntactic": told.syntactic, "analogies": told.total}
        found |= {name: 100 * part.accuracy for name, part in parts.items()}
    if options.similarity:
        found["spearman"] = similarity(vectors, read_pairs(options.similarity)).spearman
    return found


def row_of(task: str, side: str, runs: list[dict[str, float]]) -> list[str]:
    def of(name: str) -> str:
        values = [run[name] for run in runs]
        shape: Callable[[float], str] = (
            (lambda v: f"{v:,.0f}") if name == "words/s" else (lambda v: f"{v:.3f}")
        )
        return shape(statistics.mean(values))

    return [task, side, *map(of, MEASURES)]


def missed(results: dict[str, Any]) -> list[str]:
    """What fell short of gensim: too slow, a point of analogies, .01 of ρ."""
    short = []
    for task, found in results.items():
        if not found.get("gensim"):
            continue
        mean = {
            side: {name: statistics.mean(run[name] for run in found[side]) for name in MEASURES}
            for side in ("fastseq", "gensim")
        }
        mine, wanted = mean["fastseq"], mean["gensim"]
        ratio, asked = mine["words/s"] / wanted["words/s"], TASKS[task].asked
        print(
            f"{task}: {ratio:.2f} times gensim's words/s" + (f" (asked {asked})" if asked else "")
        )
        if asked and ratio < asked:
            short.append(f"{task}: speed")
        if mine["analogies"] < wanted["analogies"] - 1:
            short.append(f"{task}: analogies")
        if mine["spearman"] < wanted["spearman"] - 0.01:
            short.append(f"{task}: similarity")
    print("MISSED: " + "; ".join(short) if short else "reached")
    return short


if __name__ == "__main__":
    sys.exit(main())
