"""Reranking by a cross-encoder that is trained on the collection itself, without judgments.

    python -m bench.reranking --model CHECKPOINT --data DATA

For some documents a sentence is the query, the rest of the document the relevant text (the inverse
cloze task of Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain Question
Answering", section 4), and texts drawn from the best documents that BM25 finds for the sentence are
the negatives. `BertReranker` learns from these lists, and `search --rerank` orders the best
documents of the collection's queries, by its score alone and by both with equal weights
(--rerank-weight), which is the target. The queries and judgments are only measured, never trained
on.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fastseq
from bench.common import commands, small
from bench.common.report import Parser, Report
from fastseq import BertReranker

CANDIDATES = 30  # of BM25, among which negatives are drawn
LEAST = 6  # words of a query
BOTH = "model and BM25"
WEIGHTS = {"model alone": 1.0, BOTH: 0.5}
ANALYSIS = ("--tokenizer", "word", "--language", "english")
MEASURES = ["nDCG@10", "AP"]
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("reranking", options)
    for collection in options.collections:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, report, collection, Path(folder))
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    tiny = {
        "model": small.checkpoint(), "collections": ["ir/scifact"], "queries": 8, "depth": 5,
        "max_length": 32,
    }  # fmt: skip
    parser = Parser(__doc__, small=tiny)
    commands.add_collections(parser)
    parser.add_argument("--model", type=Path, help="the checkpoint's folder")
    parser.add_argument("--queries", type=int, default=4000, help="sentences to train on")
    parser.add_argument("--negatives", type=int, default=3, help="of each sentence")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a pair")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--depth", type=int, default=30, help="documents that are ordered")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse(arguments)
    if options.model is None:
        parser.error("--model is needed: the folder of a checkpoint")
    parser.existing(options.model)
    options.collections = commands.collections(parser, options)
    return options


def measure(options: argparse.Namespace, report: Report, collection: Path, folder: Path) -> None:
    docs, index = collection / "docs.parquet", folder / "index"
    commands.fastseq("index", docs, "-o", index, *commands.column_options(docs), *ANALYSIS)
    lists = mined(options, docs, index)
    pq.write_table(lists, folder / "lists.parquet")
    model = BertReranker(
        base=options.model, epochs=1, batch_size=8, learning_rate=options.learning_rate,
        warmup_ratio=0.1, weight_decay=0.01, max_length=options.max_length, seed=options.seed,
        threads=options.threads,
    )  # fmt: skip
    start = time.perf_counter()
    model.fit(folder / "lists.parquet")
    seconds = time.perf_counter() - start
    model.save(folder / "model")
    found = {"BM25": commands.searched(collection, index, MEASURES, "-k", options.depth)}
    assert model.history_ is not None
    loss = float(model.history_.columns["train_loss"][-1])
    print(f"{collection.name}: {lists.num_rows} sentences, loss {loss:.3f}, {seconds:.0f} s")
    _show("BM25", found["BM25"])
    for name, weight in WEIGHTS.items():
        found[name] = commands.searched(
            collection, index, MEASURES, "-k", options.depth, "--rerank", folder / "model",
            "--rerank-depth", options.depth, "--rerank-weight", weight,
        )  # fmt: skip
        _show(name, found[name])
    gain = found[BOTH][0] - found["BM25"][0]
    report.target(gain > 0, f"{collection.name}: nDCG@10 {gain:+.4f} over BM25")
    report.results[collection.name] = {"measures": found, "seconds": seconds}


def mined(options: argparse.Namespace, docs: Path, index_path: Path) -> pa.Table:
    """Lists of a query, a positive and negatives, without the queries of the collection."""
    ids, texts = commands.documents(docs)
    text_of = dict(zip(map(str, ids), texts, strict=True))
    rng = np.random.default_rng(options.seed)
    queries, positives, own = [], [], []
    for row in rng.permutation(len(texts)).tolist():
        sentences = _SENTENCE.split(texts[row])
        words = texts[row].split()
        if len(sentences) < 2:  # a text without an end of a sentence: its halves
            half = len(words) // 2
            sentences = [" ".join(words[:half]), " ".join(words[half:])]
        usable = [n for n, some in enumerate(sentences) if len(some.split()) >= LEAST]
        if not usable:
            continue
        at = usable[int(rng.integers(len(usable)))]
        queries.append(sentences.pop(at))
        positives.append(" ".join(sentences))
        own.append(str(ids[row]))
        if len(queries) == options.queries:
            break
    hits = fastseq.Index.open(index_path).search(queries, CANDIDATES, syntax="plain")
    negatives = []
    for number, some in enumerate(hits.ids):
        others = [str(name) for name in some if str(name) != own[number]]
        count = min(options.negatives, len(others))
        negatives.append([text_of[name] for name in rng.choice(others, count, False).tolist()])
    return pa.table({"query": queries, "positive": positives, "negatives": negatives})


def _show(name: str, values: list[float]) -> None:
    shown = ", ".join(f"{m} {v:.4f}" for m, v in zip(MEASURES, values, strict=True))
    print(f"  {name}: {shown}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
