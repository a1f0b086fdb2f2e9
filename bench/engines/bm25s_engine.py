"""bm25s, Numba backend (https://github.com/xhluca/bm25s).

Its `Tokenizer` is quicker than its function `tokenize` for queries, and token ids quicker than
strings; with one thread its retrieval runs a serial compiled loop. Its analysis is the reference's
own and its scores are BM25 in Lucene's form to float32, so its answers are held to be exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import Stemmer
from bm25s.tokenization import Tokenizer

from bench.common.reference import K1, STOP_WORDS, B, Ranking, read_texts
from bench.engines import Way, fresh_folder, run_as_program


def tokenizer() -> Any:
    return Tokenizer(stopwords=list(STOP_WORDS), stemmer=Stemmer.Stemmer("english"))


def build(texts: Sequence[str], folder: Path) -> tuple[Any, Any]:
    words = tokenizer()
    ids = words.tokenize(texts, show_progress=False, allow_empty=False, update_vocab=True)
    model = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numba", csc_backend="scipy")
    model.index((ids, words.get_vocab_dict()), show_progress=False)
    model.save(str(folder), show_progress=False)
    return model, words


class BM25S:
    name = "bm25s"
    exact = True
    note = "Tokenizer + retrieve, token ids, Numba backend"

    def __init__(self, model: Any, words: Any) -> None:
        self.model, self.words = model, words

    def ways(self, queries: Sequence[str], k: int, threads: int) -> list[Way]:
        asked = list(queries)
        k = min(k, self.model.scores["num_docs"])

        def run() -> Any:
            ids = self.words.tokenize(
                asked, update_vocab=False, show_progress=False, allow_empty=False
            )
            return self.model.retrieve(
                ids, k=k, n_threads=threads, show_progress=False, backend_selection="numba"
            )

        return [Way(self.name, run, ranking)]


def ranking(answer: Any) -> Ranking:
    rows, scores = np.array(answer.documents, np.int32), np.array(answer.scores, np.float32)
    rows[scores <= 0] = -1  # it fills up with documents that match nothing
    return Ranking(rows, scores)


def open_engine(corpus: Path, column: str, folder: Path) -> BM25S:
    if not folder.exists():
        with fresh_folder(folder):
            _, words = build(read_texts(corpus, column), folder)
            words.save_vocab(str(folder))
    model = bm25s.BM25.load(str(folder))
    model.backend = "numba"
    words = tokenizer()
    words.load_vocab(str(folder))
    return BM25S(model, words)


def index(corpus: Path, column: str, folder: Path, threads: int) -> None:
    build(read_texts(corpus, column), folder)


def count(folder: Path) -> dict[str, int]:
    scores = bm25s.BM25.load(str(folder)).scores
    return {"documents": int(scores["num_docs"]), "postings": len(scores["data"])}


if __name__ == "__main__":
    run_as_program(index, count)
