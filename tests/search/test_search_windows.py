"""Collections of several windows: pruning, threads, batches and k change nothing, bit for bit."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fastseq import BM25, TFIDF, Analyzer, BoW, Hits, Index
from fastseq.kernels.search.postings import WINDOW
from fastseq.search.ranking import RankingModel

DOCUMENTS = 200_000
TERMS = 1500
MODELS: list[RankingModel] = [
    BM25(),
    BM25(0.9, 0.4),
    BM25(variant="atire"),
    TFIDF(),
    BoW(),
    BM25(b=0),
]
DEPTHS = [1, 10, 100, 1000]


@dataclass(frozen=True)
class Collection:
    """documents of terms w0, w1, … by falling frequency, in arrays and as an index."""

    index: Index
    folder: Path
    rows: np.ndarray  # [n] the document of each token
    terms: np.ndarray  # [n] and its term
    lengths: np.ndarray  # [DOCUMENTS]
    queries: list[list[int]]

    def frequencies(self, term: int) -> np.ndarray:
        """float64[DOCUMENTS]: how often each document has the term."""
        return np.bincount(self.rows[self.terms == term], minlength=DOCUMENTS).astype(np.float64)


def text_of(query: list[int]) -> str:
    return " ".join(f"w{term}" for term in query)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    chance = np.random.default_rng(7)
    # lengths and subjects drift along the collection, so that windows are unlike
    lengths = chance.integers(2, 9, DOCUMENTS)
    lengths[WINDOW : WINDOW + 20_000] += 12
    lengths[::5000] = 0
    rows = np.repeat(np.arange(DOCUMENTS), lengths)
    terms = np.minimum((chance.pareto(0.7, len(rows)) * 3).astype(np.int64), TERMS - 1)
    terms[terms % 50 == 13] += (rows[terms % 50 == 13] >= 2 * WINDOW) * 20
    terms[rows == DOCUMENTS - 1] = TERMS + 1  # one term, in the last document alone
    names = np.array([f"w{term}" for term in range(TERMS + 2)])
    words = names[terms].tolist()
    ends = np.cumsum(lengths).tolist()
    texts = [" ".join(words[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    folder = tmp_path_factory.mktemp("windows") / "index"
    index = Index.build(
        pa.table({"text": texts}), folder, store=[], analyzer=Analyzer(tokenizer="space")
    )
    queries = [chance.integers(0, 40, n).tolist() for n in (1, 2, 3, 4, 5, 8)]
    queries += [chance.integers(0, TERMS, n).tolist() for n in (1, 2, 3, 5, 9)]
    queries += [[0], [0, 1], [1, 900], [0, 1, 2, 700, 1200], [13, 63, 113], [33, 83], [5, 5, 6]]
    queries += [[TERMS + 1], [0, TERMS + 1], [*range(60)], [*range(0, TERMS, 11)], []]
    return Collection(index, folder, rows, terms, lengths, queries)


def same(a: Hits, b: Hits) -> bool:
    return a.rows.tobytes() == b.rows.tobytes() and a.scores.tobytes() == b.scores.tobytes()


def bm25_of_all(collection: Collection, query: list[int], k1: float, b: float) -> np.ndarray:
    """float64[DOCUMENTS]: Lucene's BM25, by definition."""
    norm = k1 * (1 - b + b * collection.lengths / collection.lengths.mean())
    scores = np.zeros(DOCUMENTS)
    for term in query:
        tf = collection.frequencies(term)
        df = np.count_nonzero(tf)
        if df:
            idf = np.log1p((DOCUMENTS - df + 0.5) / (df + 0.5))
            scores += idf * tf / (tf + np.maximum(norm, 1e-9))
    return scores


def test_collection_spans_several_windows(collection: Collection) -> None:
    segment = collection.index._collection.leaves[0].segment
    assert segment.windows == 4
    frequent = np.count_nonzero(collection.frequencies(0))
    assert frequent > WINDOW
    assert np.count_nonzero(collection.frequencies(TERMS + 1)) == 1
    assert segment.documents == DOCUMENTS
    assert segment.tokens == collection.lengths.sum()


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4)])
def test_hits_match_exhaustive_scoring(collection: Collection, k1: float, b: float) -> None:
    texts = [text_of(query) for query in collection.queries]
    found = {k: collection.index.search(texts, k=k, model=BM25(k1, b)) for k in DEPTHS}
    for q, query in enumerate(collection.queries):
        scores = bm25_of_all(collection, query, k1, b)
        hits = np.count_nonzero(scores)
        best = np.sort(scores)[::-1]
        for k, got in found.items():
            n = min(k, hits)
            assert got.counts[q] == n
            rows = got.rows[q, :n]
            np.testing.assert_allclose(got.scores[q, :n], scores[rows], rtol=1e-5)
            # the i-th best score is the i-th best of all
            np.testing.assert_allclose(got.scores[q, :n], best[:n], rtol=1e-5)
            steps = np.diff(got.scores[q, :n])
            assert (steps <= 0).all()
            assert (np.diff(rows)[steps == 0] > 0).all()


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_pruned_search_equals_exhaustive_search(
    collection: Collection, model: RankingModel
) -> None:
    """A term of weight 0 makes the search look at every posting; it changes no score."""
    for query in collection.queries:
        weights = {f"w{term}": float(query.count(term)) for term in query}
        for k in DEPTHS:
            pruned = collection.index.search(weights, k=k, model=model)
            n = int(pruned.counts[0])
            absent = next(f"w{term}" for term in range(3, TERMS) if f"w{term}" not in weights)
            everything = collection.index.search({**weights, absent: 0.0}, k=k, model=model)
            assert (pruned.rows[0, :n] == everything.rows[0, :n]).all()
            assert pruned.scores[0, :n].tobytes() == everything.scores[0, :n].tobytes()
            assert not everything.scores[0, n:].any()


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_smaller_k_is_a_prefix_of_larger_k(collection: Collection, model: RankingModel) -> None:
    texts = [text_of(query) for query in collection.queries]
    deep = collection.index.search(texts, k=1000, model=model)
    for k in (1, 2, 10, 64, 100, 999):
        hits = collection.index.search(texts, k=k, model=model)
        assert (hits.rows == deep.rows[:, :k]).all()
        assert hits.scores.tobytes() == np.ascontiguousarray(deep.scores[:, :k]).tobytes()


@pytest.mark.parametrize("k", DEPTHS)
def test_results_do_not_depend_on_threads_batches_or_repetition(
    collection: Collection, k: int
) -> None:
    texts = [text_of(query) for query in collection.queries] * 9  # several blocks for every thread
    one = collection.index.search(texts, k=k, threads=1)
    for threads in (1, 2, 5, None):
        assert same(collection.index.search(texts, k=k, threads=threads), one)
    for q in range(len(collection.queries)):
        alone = collection.index.search(texts[q], k=k, threads=2)
        assert (alone.rows[0] == one.rows[q]).all()
        assert alone.scores[0].tobytes() == one.scores[q].tobytes()
        assert (one.rows[q] == one.rows[q + len(collection.queries)]).all()


def test_results_do_not_depend_on_earlier_searches(collection: Collection) -> None:
    """Bounds and impacts are computed when first needed, in any order."""
    texts = [text_of(query) for query in collection.queries]
    expected = collection.index.search(texts, k=100)
    fresh = Index.open(collection.folder)
    backwards = [fresh.search(text, k=100) for text in reversed(texts)]
    for hits, q in zip(backwards, range(len(texts) - 1, -1, -1), strict=True):
        assert (hits.rows[0] == expected.rows[q]).all()
        assert hits.scores[0].tobytes() == expected.scores[q].tobytes()
    assert same(fresh.search(texts, k=100), expected)
    for model in MODELS * 2:  # and other models between
        fresh.search(texts, k=3, model=model)
    assert same(fresh.search(texts, k=100), expected)


def test_concurrent_searches(collection: Collection) -> None:
    texts = [text_of(query) for query in collection.queries]
    expected = {k: collection.index.search(texts, k=k) for k in (10, 1000)}
    fresh = Index.open(collection.folder)
    start = threading.Barrier(6)
    wrong: list[object] = []

    def work(number: int) -> None:
        start.wait()
        for turn in range(4):
            k = (10, 1000)[(number + turn) % 2]
            threads = 1 + number % 3
            if not same(fresh.search(texts, k=k, threads=threads), expected[k]):
                wrong.append((number, turn))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize("count", [WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 1])
def test_window_borders(tmp_path: Path, count: int) -> None:
    """A term in every document fills whole windows; others occur at their edges."""
    edges = sorted(
        {0, 1, WINDOW - 2, WINDOW - 1, WINDOW, 2 * WINDOW - 1, count - 1} & {*range(count)}
    )
    texts = ["all"] * count
    for edge in edges:
        texts[edge] = "all edge"
    index = Index.build(
        pa.table({"text": texts}),
        tmp_path / "index",
        store=[],
        analyzer=Analyzer(tokenizer="space"),
    )
    assert index.search("edge", k=20).rows[0].tolist() == [*edges, *[-1] * (20 - len(edges))]
    assert index.search("all edge", k=len(edges)).rows[0].tolist() == edges
    plain = [row for row in range(30) if row not in edges]
    assert index.search("all", k=20).rows[0].tolist() == plain[:20]
    hits = index.search("all", k=count + 5, model=BoW())
    assert hits.rows[0].tolist() == [*range(count), *[-1] * 5]
    assert index.search("all", k=count, model=BM25(variant="robertson")).counts[0] == count


def test_tiny_weights_under_a_large_one_are_exact(tmp_path: Path) -> None:
    """Bounds allow for the rounding of the whole score."""
    texts = ["aa dd"] * 3 + ["xx"] * 65533 + ["bb cc"] * 60000
    texts[65536 + 100] = "aa bb cc"
    index = Index.build(pa.table({"text": texts}), tmp_path / "index", store=[])
    unit = 2.0**-23
    query = {"aa": 1.0, "dd": unit, "bb": 0.6 * unit, "cc": 0.6 * unit}
    for k in (1, 2, 10):
        pruned = index.search(query, k=k, model=BoW())
        exhaustive = index.search({**query, "xx": 0.0}, k=k, model=BoW())
        assert pruned.rows[0, 0] == 65636
        np.testing.assert_array_equal(pruned.scores[0, :2], exhaustive.scores[0, :2])
