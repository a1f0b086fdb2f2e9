"""Effectiveness through the command line, beside bm25s on the same tokens.

    python bench/quality.py --corpus DOCS.parquet --queries QUERIES.parquet --qrels QRELS.parquet

Each line indexes, searches and evaluates with `fastseq` as a user would type it: Lucene's 33 stop
words, Porter2 stems, no bigrams of CJK, so that the tokens are those of bm25s's regular expression.
Title and text are joined where there are both. bm25s gets the same strings, ranks with the same
variant and parameters, and its run is measured by the same ir-measures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import bm25s
import ir_measures
import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from fastseq.store.corpus import Corpus
from fastseq.store.queries import read_queries
from fastseq.store.runs import read_qrels

SETTINGS = [  # fastseq's model, bm25s's method, k1, b
    ("bm25", "lucene", 1.2, 0.75),
    ("bm25", "lucene", 0.9, 0.4),
    ("bm25", "lucene", 1.5, 0.75),
    ("atire", "atire", 1.2, 0.75),
    ("bm25+", "bm25+", 1.2, 0.75),
    ("robertson", "robertson", 1.2, 0.75),
    ("bm25l", "bm25l", 1.2, 0.75),
]
DELTA = 0.5


def main() -> int:
    options = parse()
    measures = [ir_measures.parse_measure(name) for name in options.measures]
    text, ids = documents(options.corpus)
    query_ids, queries = read_queries(options.queries)
    qrels = read_qrels(options.qrels)
    tokenizer = bm25s.tokenization.Tokenizer(
        stopwords=list(STOPWORDS_EN), stemmer=Stemmer.Stemmer("english").stemWord
    )
    tokens = tokenizer.tokenize(text, return_as="tuple", show_progress=False)
    asked = tokenizer.tokenize(queries, update_vocab=False, return_as="tuple", show_progress=False)
    print(f"{'model':<10} {'k1':>4} {'b':>5}  " + "".join(f"{n:>22}" for n in options.measures))
    with tempfile.TemporaryDirectory() as folder:
        index = f"{folder}/index"
        columns = [f"--text-column={name}" for name in text_columns(options.corpus)]
        fastseq(
            "index", options.corpus, "-o", index, *columns, "--store", "none",
            "--stopwords", "lucene", "--stemmer", "english", "--cjk", "none",
        )  # fmt: skip
        for model, method, k1, b in SETTINGS:
            run = f"{folder}/run.parquet"
            fastseq(
                "search", "--queries", options.queries, "-i", index, "-k", options.depth, "-o", run,
                "--model", model, "--k1", k1, "--b", b,
            )  # fmt: skip
            wanted = [part for name in options.measures for part in ("-m", name)]
            said = fastseq("evaluate", run, options.qrels, *wanted, "--format", "json")
            ours = list(json.loads(said).values())
            peer = bm25s.BM25(method=method, k1=k1, b=b, delta=DELTA)
            peer.index(tokens, show_progress=False)
            depth = min(options.depth, len(ids))
            rows, scores = peer.retrieve(asked, k=depth, show_progress=False)
            found = {
                str(query): {ids[row]: float(s) for row, s in zip(*pair, strict=True) if s > 0}
                for query, pair in zip(query_ids, zip(rows, scores, strict=True), strict=True)
            }
            theirs = ir_measures.calc_aggregate(measures, qrels, found)
            pairs = zip(ours, (theirs[m] for m in measures), strict=True)
            print(
                f"{model:<10} {k1:>4} {b:>5}  "
                + "".join(f"{f'{mine:.4f} ({other:.4f})':>22}" for mine, other in pairs)
            )
    print("in brackets: bm25s")
    return 0


def text_columns(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    return [name for name in ("title", "text") if name in names]


def documents(path: Path) -> tuple[list[str], list[str]]:
    """The texts and ids of a corpus, as fastseq reads them."""
    texts: list[str] = []
    ids: list[str] = []
    for batch in Corpus.open(path, text_columns=text_columns(path)).batches():
        texts += batch.texts.to_strings()
        ids += map(str, batch.ids.to_pylist())
    return texts, ids


def fastseq(*arguments: Any) -> str:
    """Run the command; its standard output."""
    command = [sys.executable, "-m", "fastseq_cli", *map(str, arguments), "--quiet"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--qrels", type=Path, required=True)
    parser.add_argument("--depth", type=int, default=100, help="hits of each query")
    parser.add_argument("--measures", nargs="+", default=["nDCG@10", "AP"])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
