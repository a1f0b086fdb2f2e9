"""PISA, through pyterrier-pisa (https://github.com/terrierteam/pyterrier_pisa).

Searched by its compiled function, without the data frames of the Python wrapper and without Java.
Scores are computed beforehand and kept in eight bits ("precomputed impacts"), with the encoding
block_simdbp: of its fifteen encodings the quickest here, and quicker than scoring from frequencies.
So its ranking is not exact, its tokens differ outside ASCII, and a repeated query word counts once
(counting it is slower): what is compared is how much of the true top k it finds. It is given the
documents as the reference's words, so that stop words do not count in their length.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyterrier_pisa import PisaIndex, _pisathon

from bench.common.reference import K1, STOP_WORDS, WORDS, B, Ranking, read_texts
from bench.engines import Way, fresh_folder, quiet, run_as_program

ALGORITHMS = ("maxscore", "block_max_maxscore", "block_max_wand", "wand")


def open_index(folder: Path, threads: int = 1) -> Any:
    return PisaIndex(
        str(folder),
        text_field="text",
        stemmer="porter2",
        stops="lucene",
        index_encoding="block_simdbp",
        threads=threads,
    )


def precompute(made: Any) -> Any:
    """Impacts, upper bounds and the compressed lists, from its inverted file."""
    return made.bm25(k1=K1, b=B, threads=1, precompute_impact=True, query_weighted=False)


class Pisa:
    name = "PISA"
    exact = False
    note = "compiled retrieve, 8-bit impacts computed beforehand, block_simdbp"

    def __init__(self, retriever: Any) -> None:
        self.context = retriever._ctxt

    def ways(self, queries: Sequence[str], k: int, threads: int) -> list[Way]:
        return [self.way(algorithm, queries, k, threads) for algorithm in ALGORITHMS]

    def way(self, algorithm: str, queries: Sequence[str], k: int, threads: int) -> Way:
        numbered = list(enumerate(queries))
        size = len(numbered) * k

        def run() -> Any:
            query, rank = np.empty(size, np.int32), np.empty(size, np.int32)
            name, score = np.empty(size, object), np.empty(size, np.float32)
            found = _pisathon.retrieve(
                self.context,
                algorithm,
                numbered,
                k=k,
                threads=threads,
                pretokenised=False,
                query_weighted=0,
                result_qidxs=query,
                result_docnos=name,
                result_ranks=rank,
                result_scores=score,
            )
            return found, query, name, rank, score

        def ranking(answer: Any) -> Ranking:
            found, query, name, rank, score = answer
            at = query[:found], rank[:found]
            rows = np.full((len(numbered), k), -1, np.int32)
            scores = np.zeros((len(numbered), k), np.float32)
            rows[at] = name[:found].astype(np.int32)
            scores[at] = score[:found]
            return Ranking(rows, scores)

        return Way(f"{self.name} ({algorithm})", run, ranking)


def open_engine(corpus: Path, column: str, folder: Path) -> Pisa:
    if not folder.exists():
        with fresh_folder(folder), quiet():
            open_index(folder, threads=2).index(_cleaned(read_texts(corpus, column)))
    with quiet():
        return Pisa(precompute(open_index(folder)))


def _cleaned(texts: Sequence[str]) -> Iterator[dict[str, str]]:
    stop = set(STOP_WORDS)
    for row, text in enumerate(texts):
        words = (word for word in WORDS(text.lower()) if word not in stop)
        yield {"docno": str(row), "text": " ".join(words)}


def index(corpus: Path, column: str, folder: Path, threads: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    texts = read_texts(corpus, column)
    with quiet():
        open_index(folder, threads).index(
            {"docno": str(row), "text": text} for row, text in enumerate(texts)
        )
        precompute(open_index(folder))


def count(folder: Path) -> dict[str, int]:
    return {"documents": open_index(folder).num_docs()}


if __name__ == "__main__":
    run_as_program(index, count)
