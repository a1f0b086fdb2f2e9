"""The ranked parts of terms, and searches that begin with a threshold from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, TFIDF, Analyzer, Index
from fastseq.kernels.search import impacts as kernels
from fastseq.kernels.search.postings import Postings

RANKS = [10, 100, 1000]


def ranked(lists: list[np.ndarray]) -> list[list[float]]:
    n = sum(map(len, lists))
    m = len(lists)
    starts = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    postings = Postings(
        docs=np.zeros(n, np.uint16), tfs=np.ones(n, np.uint8), term_posting=starts,
        term_run=np.arange(m + 1), run_window=np.zeros(m, np.uint16),
        run_count=np.zeros(m, np.uint16), large_at=np.empty(0, np.int64),
        large_tf=np.empty(0, np.int32),
    )  # fmt: skip
    (impacts,) = kernels.make_impacts([postings])
    numbers = np.arange(m, dtype=np.int32)
    kernels.place_parts(impacts, postings, numbers, np.concatenate(lists).astype(np.float32))
    counts = np.full(kernels.RANK_BUCKETS, 7, np.int32)
    kernels.rank_parts(impacts, counts, postings, numbers)
    found: list[list[float]] = impacts.ranked.tolist()
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1), st.sampled_from([1, 9, 10, 11, 99, 100, 1000, 1300]),
            st.sampled_from([0.0, 0.5, 5.0]), st.sampled_from([0.0, 0.3, 0.95]), st.booleans(),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_ranked_parts(terms: list[tuple[int, int, float, float, bool]]) -> None:
    """They are parts of these ranks, rounded down by up to 1/64; deleted documents do not count."""
    lists = []
    for seed, n, spread, deleted, signed in terms:
        chance = np.random.default_rng(seed)
        parts = np.exp(chance.normal(0, spread, n)).astype(np.float32)
        parts[chance.random(n) < deleted] = 0
        if signed:
            parts[0] = -0.5
        lists.append(parts)
    for parts, found in zip(lists, ranked(lists), strict=True):
        if (parts < 0).any():
            assert found == [-1, -1, -1]
            continue
        best = sorted(parts.tolist(), reverse=True)
        for rank, part in zip(RANKS, found, strict=True):
            exact = best[rank - 1] if rank <= len(best) else 0.0
            assert part <= exact
            if exact > best[0] / 2**14:
                assert part > exact * (1 - 1 / 60)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Indexes of short texts, so that scores have many ties: one segment; three with deletions."""
    chance = np.random.default_rng(8)
    lengths = chance.integers(1, 7, 4000)
    words = np.minimum((chance.pareto(0.9, lengths.sum()) * 2).astype(int), 60).tolist()
    ends = np.cumsum(lengths).tolist()
    texts = [
        " ".join(f"w{word}" for word in words[a:b]) for a, b in zip([0, *ends], ends, strict=False)
    ]
    table = pa.table({"id": [f"d{n}" for n in range(4000)], "text": texts, "n": range(4000)})
    folder = tmp_path_factory.mktemp("ranked")
    analyzer = Analyzer(tokenizer="space")
    Index.build(table, folder / "one", analyzer=analyzer)
    Index.build(table[:3000], folder / "three", analyzer=analyzer)
    index = Index.open(folder / "three")
    for part in (table[3000:3900], table[3900:]):
        index.add(part)
    index.delete([f"d{n}" for n in range(0, 4000, 3)])
    return [folder / "one", folder / "three"]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "model", [BM25(), BM25(variant="bm25l"), BM25(variant="bm25+"), TFIDF("ntn.nnn")], ids=repr
)
def test_thresholds_lose_no_hit(paths: list[Path], which: int, model: BM25 | TFIDF) -> None:
    """The first k hits are those of a search for all, which begins without a threshold."""
    index = Index.open(paths[which])
    chance = np.random.default_rng(3)
    queries: list[dict[str, float]] = [
        {
            f"w{word}": float(weight)
            for word, weight in zip(own, chance.random(n) + 0.1, strict=True)
        }
        for n in (1, 2, 3, 6)
        for _ in range(12)
        for own in [chance.integers(0, 60, n)]
    ]
    queries += [{**query, "w1": -0.4} for query in queries[:20]]
    queries += [{f"w{word}": 1.0} for word in range(61)]
    for filter in (None, "n < 1500"):
        every = index.search(queries, 3000, model=model, threads=1, filter=filter)
        for k in (1, 9, 10, 11, 100, 101, 999, 1000, 1001):
            hits = index.search(queries, k, model=model, threads=1, filter=filter)
            assert hits.rows.tobytes() == np.ascontiguousarray(every.rows[:, :k]).tobytes()
            assert hits.scores.tobytes() == np.ascontiguousarray(every.scores[:, :k]).tobytes()
