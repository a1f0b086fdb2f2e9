"""bm25s as the oracle: the same tokens get the same scores, for every variant."""

from __future__ import annotations

import random
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq import BM25, Analyzer, Index

DATA = Path(__file__).resolve().parents[2] / "data" / "bilingual"
PARAMETERS = [(1.2, 0.75, 0.5), (0.9, 0.4, 1.0), (2.0, 1.0, 0.1), (1.5, 0.0, 0.5)]


def scores_of_all(index: Index, queries: list[str], model: BM25) -> np.ndarray:
    """float32[Q, D]; NaN for documents that are no hit."""
    hits = index.search(queries, k=len(index), model=model)
    scores = np.full((len(queries), len(index)), np.nan, np.float32)
    for q, count in enumerate(hits.counts.tolist()):
        scores[q, hits.rows[q, :count]] = hits.scores[q, :count]
    return scores


def compare(
    index: Index, corpus: list[list[str]], queries: list[list[str]], parameters: tuple[float, ...]
) -> None:
    k1, b, delta = parameters
    for variant in BM25.VARIANTS:
        oracle = bm25s.BM25(k1=k1, b=b, delta=delta, method=variant)
        oracle.index(corpus, show_progress=False)
        scores = scores_of_all(
            index, [" ".join(query) for query in queries], BM25(k1, b, delta, variant)
        )
        for q, query in enumerate(queries):
            known = [token for token in query if token in oracle.vocab_dict]
            found = [bool(set(known) & set(document)) for document in corpus]
            assert (~np.isnan(scores[q])).tolist() == found
            if known:
                expected = oracle.get_scores(known)[found]
                np.testing.assert_allclose(scores[q][found], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("seed", range(3))
def test_scores_match_bm25s_on_random_collections(
    tmp_path: Path, seed: int, parameters: tuple[float, ...]
) -> None:
    chance = random.Random(seed)
    words = [f"w{number}" for number in range(60)]
    weights = [1 / (number + 1) for number in range(60)]
    corpus = [
        chance.choices(words, weights, k=chance.choice([0, 1, 2, 8, 40, 400])) for _ in range(120)
    ]
    queries = [chance.choices([*words, "unknown"], k=chance.randint(1, 8)) for _ in range(30)]
    index = Index.build(
        pa.table({"text": [" ".join(document) for document in corpus]}),
        tmp_path / "index",
        analyzer=Analyzer(tokenizer="space"),
    )
    compare(index, corpus, queries, parameters)


def test_scores_match_bm25s_on_real_text(tmp_path: Path) -> None:
    """From text to score by two roads: bm25s's regex, and ours without the rule for CJK."""
    documents = pq.read_table(DATA / "docs.parquet")
    queries = pq.read_table(DATA / "queries.parquet").column("text").to_pylist()
    queries += ["the cat", "İstanbul ß straße", "naïve café_3 x 10"]
    titles, texts = (documents.column(name).to_pylist() for name in ("title", "text"))
    joined = [f"{title} {text}" for title, text in zip(titles, texts, strict=True)]

    def tokens(strings: list[str]) -> list[list[str]]:
        given = bm25s.tokenize(strings, stopwords=[], return_ids=False, show_progress=False)
        return [list(tokens) for tokens in given]

    index = Index.build(
        documents,
        tmp_path / "index",
        text_columns=["title", "text"],
        analyzer=Analyzer(tokenizer="word", cjk="none"),
    )
    compare(index, tokens(joined), tokens(queries), (1.2, 0.75, 0.5))
