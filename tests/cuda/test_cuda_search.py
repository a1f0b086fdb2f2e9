"""Search on the device equals search on the CPU: rows and bits of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import Index
from fastseq.devices import cuda_problem, require_cuda
from fastseq.errors import DeviceError, FastseqWarning, SettingsError
from fastseq.kernels.cuda import search as kernels
from fastseq.kernels.cuda.runtime import availability, memory, target
from fastseq.query import Boolean, Phrase
from fastseq.search import cuda as gpu
from fastseq.search.ranking import BM25, TFIDF, BoW, RankingModel
from fastseq.search.searcher import Searcher
from fastseq.types import Texts
from tests.naive.commits import combine

WORDS = [f"w{i}" for i in range(12)]
QUERIES = [" ".join(WORDS[:7]), "w4", "absent w1", "w1 w1 w5 w2 w11 w1"]
MODELS = [
    *(BM25(variant=name) for name in BM25.VARIANTS),
    TFIDF(),
    TFIDF("Lpn.atc"),
    BoW(cosine=True),
]


def texts_of(seed: int, documents: int) -> list[str]:
    """Texts of a few words, so that many documents have equal scores; one has a word often."""
    rng = np.random.default_rng(seed)
    likely = np.arange(len(WORDS), 0, -1) / np.arange(len(WORDS) + 1).sum()
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 9), p=likely)) for _ in range(documents)]
    texts[1::7] = ["w1 w2"] * len(texts[1::7])
    texts[5] = "w5 " * 300 + "w1"
    return texts


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "index"
    Index.build(pa.table({"text": texts_of(1, 40)}), folder, threads=1)
    return folder


@pytest.fixture
def index(path: Path) -> Index:
    return Index.open(path)


def narrow(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Windows of so few documents."""
    monkeypatch.setattr(kernels, "window_width", lambda documents: width)


def assert_same(
    index: Index, queries: Sequence[Any], k: int, model: RankingModel | None = None
) -> None:
    model = BM25() if model is None else model
    found = index.search(queries, k=k, model=model, threads=1, device="cuda")
    expected = index.search(queries, k=k, model=model, threads=1)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores.view(np.int32), expected.scores.view(np.int32))
    assert found.rows.shape == (len(queries), k)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_model_matches_the_cpu(index: Index, model: RankingModel) -> None:
    assert_same(index, QUERIES, 3, model)


def test_k_past_all_documents(index: Index) -> None:
    assert_same(index, QUERIES[:3], 55)


@pytest.mark.parametrize(("k", "width"), [(1, 8), (4, 16)])
def test_ties_across_windows(
    index: Index, monkeypatch: pytest.MonkeyPatch, k: int, width: int
) -> None:
    narrow(monkeypatch, width)
    expected = index.search("w1 w2", k=40, threads=1)
    assert len(np.unique(expected.scores[0, : expected.counts[0]])) < expected.counts[0]
    assert_same(index, ["w1 w2", QUERIES[0], "w9"], k)


@pytest.mark.parametrize("seed", [2, 3])
def test_other_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    narrow(monkeypatch, 16)
    index = Index.build(pa.table({"text": texts_of(seed, 33)}), tmp_path / "index", threads=1)
    rng = np.random.default_rng(seed)
    queries = [" ".join(rng.choice(WORDS, 7)) for _ in range(4)]
    assert_same(index, queries, 2, BM25(variant="bm25l", k1=0.9, b=0.4))


def test_empty_batch_and_queries_without_known_words(index: Index) -> None:
    assert_same(index, [], 3)
    assert_same(index, ["", "absent"], 3)


def test_terms_are_added_by_weight_whatever_they_may_add(tmp_path: Path) -> None:
    """A frequent term of a large weight may add less than a rare one of a small weight."""
    table = pa.table({"text": ["big small mid", "small " * 200, "mid small", *["pad " * 9] * 30]})
    index = Index.build(table, tmp_path / "index", threads=1)
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 2, (16, 3)).tolist()
    queries = [dict(zip(("big", "small", "mid"), row, strict=True)) for row in weights]
    for model in (BM25(), BoW()):
        assert_same(index, [*queries, {"big": 1.0, "small": 1.0, "mid": 1.0}], 3, model)


def test_deleted_documents_are_searched_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Index.build(pa.table({"text": texts_of(4, 20)}), tmp_path / "whole", threads=1)
    combine(tmp_path / "index", [tmp_path / "whole"], [[1, 8]])
    index = Index.open(tmp_path / "index")
    counts = left_to_the_cpu(monkeypatch)
    with pytest.warns(FastseqWarning, match="deleted documents: searched on the CPU"):
        assert_same(index, QUERIES, 3)
    assert counts == []
    assert index.search("w1 w2", k=20).rows[0, 0] not in (1, 8)


def test_filters_and_values_are_searched_on_the_cpu(tmp_path: Path) -> None:
    rows = [{"text": text, "year": number} for number, text in enumerate(texts_of(4, 20))]
    index = Index.build(rows, tmp_path / "index", threads=1)
    values = [Phrase("w1 w2"), Boolean(must=["w1", "w2"])]
    with pytest.warns(FastseqWarning, match="without a filter run on a GPU: searched on the CPU"):
        found = index.search(QUERIES, 3, device="cuda", filter="year < 9")
    assert found.rows.tolist() == index.search(QUERIES, 3, filter="year < 9").rows.tolist()
    said = "only plain words and mappings are searched on a GPU, any of the words: searched on the"
    for given, options in ((values, {}), (["w1 w2"], {"operator": "and"})):
        with pytest.warns(FastseqWarning, match=said):
            found = index.search(given, 3, device="cuda", **options)  # type: ignore[arg-type]
        expected = index.search(given, 3, **options)  # type: ignore[arg-type]
        assert found.rows.tolist() == expected.rows.tolist()


def df_of(index: Index, word: str) -> int:
    """Documents that contain a word."""
    segment = index._collection.leaves[0].segment
    return int(segment.df[segment.lookup(Texts.from_strings([word]))[0]])


def left_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many queries each search left to the CPU."""
    counts: list[int] = []
    whole = gpu.GpuSearch.search

    def search(self: Any, *arguments: Any) -> Any:
        left = whole(self, *arguments)
        counts.append(len(left))
        return left

    monkeypatch.setattr(gpu.GpuSearch, "search", search)
    return counts


def test_non_positive_weights_run_on_the_cpu(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = left_to_the_cpu(monkeypatch)
    queries = [
        {"w1": 2.0, "w2": 0.5}, "w3", {"w1": 1.0, "w2": -1.0}, {"w4": 0.0}, {"absent": -1.0}, "w1",
    ]  # fmt: skip
    assert_same(index, queries, 3)
    assert counts == [2]


@pytest.mark.parametrize(("postings", "left"), [(50, 1), (16, 2)])
def test_postings_are_evicted_when_full(
    index: Index, monkeypatch: pytest.MonkeyPatch, postings: int, left: int
) -> None:
    monkeypatch.setattr(gpu, "free_memory", lambda: 16 * postings)
    counts = left_to_the_cpu(monkeypatch)
    queries = ["w10", "w3", "w9 w8", QUERIES[0], "w1 w2", "w10 w9"]
    needed = [sum(df_of(index, word) for word in query.split()) for query in queries]
    assert sum(size > postings for size in needed) == left
    assert sum(size for size in needed if size <= postings) > postings
    assert_same(index, queries, 2)
    assert counts == [left]


def test_batch_of_too_many_postings_is_searched_in_parts(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = left_to_the_cpu(monkeypatch)
    launched: list[int] = []
    whole = gpu.GpuSearch._launch

    def launch(self: Any, rows: Any, scores: Any, k: int, mine: Any, *others: Any) -> None:
        launched.append(len(mine))
        whole(self, rows, scores, k, mine, *others)

    monkeypatch.setattr(gpu.GpuSearch, "_launch", launch)
    monkeypatch.setattr(gpu, "_MOST_BOUNDS", 5)
    assert_same(index, ["w1", "w2 w3", "w3", "w4 w5 w6"], 2)
    assert launched == [1, 1, 1]
    assert counts == [1]


def test_postings_stay_on_the_device(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    brought: list[int] = []
    whole = gpu.GpuSearch._upload

    def upload(self: Any, terms: Any) -> None:
        brought.append(len(terms))
        whole(self, terms)

    monkeypatch.setattr(gpu.GpuSearch, "_upload", upload)
    monkeypatch.setattr(gpu, "_DECODED", 1)
    assert_same(index, ["w1 w2", "w2"], 2)
    assert_same(index, ["w2 w1", "w2 w3"], 2)
    assert brought == [1, 1, 1]
    assert_same(index, ["w1"], 2, TFIDF())
    assert brought == [1, 1, 1, 1]


def test_large_k_runs_on_the_cpu(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "MOST_HITS", 2)
    counts = left_to_the_cpu(monkeypatch)
    assert_same(index, ["w1 w2", "w3"], 3)
    assert counts == []


@pytest.mark.parametrize("device", ["gpu", None, "cuda:0"])
def test_another_device(index: Index, device: Any) -> None:
    with pytest.raises(SettingsError, match="device must be one of cpu, cuda, not"):
        index.search("w1", device=device)


def test_full_device_memory(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(shape: Any, dtype: Any = np.float32) -> Any:
        if dtype is np.int64:
            raise memory.DeviceMemoryError("4 GB more")
        return whole(shape, dtype)

    whole = memory.empty
    monkeypatch.setattr(memory, "empty", empty)
    with pytest.raises(DeviceError, match="4 GB more needed: lower k, or search fewer queries"):
        index.search(["w1"], device="cuda")
    monkeypatch.setattr(memory, "empty", whole)
    assert_same(index, ["w1"], 2)


def test_postings_that_do_not_fit_in_memory(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(shape: Any, dtype: Any = np.float32) -> Any:
        raise memory.DeviceMemoryError("4 GB more")

    monkeypatch.setattr(memory, "empty", empty)
    with pytest.raises(DeviceError, match="no memory for postings: 4 GB more needed"):
        index.search(["w1"], device="cuda")


@pytest.mark.parametrize(("n", "k"), [(3, 5), (5, 5), (40, 5), (40, 1)])
def test_top_k_of_candidates(n: int, k: int) -> None:
    rng = np.random.default_rng(n + k)
    points = rng.choice(np.array([1e-38, 0.5, 0.50000006, 3, np.inf], np.float32), (2, n))
    documents = rng.integers(0, 1 << 31, (2, n))
    keys = (points.view(np.int32).astype(np.int64) << 32) | (kernels.LAST_ROW - documents)
    rows, scores = memory.empty((2, k), np.int32), memory.empty((2, k))
    kernels.best(rows, scores, memory.put(keys), memory.put(np.array([n, n - 2], np.int32)))
    for q, known in enumerate((n, n - 2)):
        order = np.lexsort((documents[q, :known], -points[q, :known]))[:k]
        found, kept = memory.get(rows)[q], memory.get(scores)[q]
        np.testing.assert_array_equal(found[: len(order)], documents[q, order])
        np.testing.assert_array_equal(kept[: len(order)], points[q, order])
        assert (found[len(order) :] == -1).all()
        assert (kept[len(order) :] == 0).all()


def test_mismatched_arguments_are_rejected() -> None:
    keys, totals = memory.empty((2, 4), np.int64), memory.empty(2, np.int32)
    with pytest.raises(ValueError, match="hits"):
        kernels.best(memory.empty((3, 2), np.int32), memory.empty((3, 2)), keys, totals)
    size = (1, kernels.MOST_HITS + 1)
    with pytest.raises(ValueError, match="hits"):
        kernels.best(memory.empty(size, np.int32), memory.empty(size), keys, totals)


@pytest.mark.skipif(not target.SIMULATED, reason="the simulator alone")
def test_simulator_counts_as_a_gpu() -> None:
    assert cuda_problem() is None
    require_cuda()
    assert availability.free_memory() is None


def test_missing_gpu_is_one_error_line(monkeypatch: pytest.MonkeyPatch) -> None:
    without = SimpleNamespace(
        is_available=lambda: False, cuda_error=lambda: "\nNo driver.\nNone.\n"
    )
    monkeypatch.setattr(target, "SIMULATED", False)
    monkeypatch.setattr(target, "cuda", without)
    with pytest.raises(DeviceError, match=r"^no usable NVIDIA GPU: No driver\. None$"):
        require_cuda()


def test_failing_driver_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def context() -> None:
        raise RuntimeError("[100] no device")

    failing = SimpleNamespace(is_available=lambda: True, current_context=context)
    monkeypatch.setattr(target, "SIMULATED", False)
    monkeypatch.setattr(target, "cuda", failing)
    assert cuda_problem() == "no usable NVIDIA GPU: [100] no device"


def test_alternating_models_stay_on_the_device(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = Searcher(index._collection)
    found = []
    for model in (BM25(), BM25(k1=2.0), BM25(), BM25(k1=2.0)):
        searcher.search(["w1 w2"], 2, model, 1, "cuda")
        found.append(dict(searcher._gpu))
    assert [len(each) for each in found] == [1, 2, 2, 2]
    assert list(found[1].values()) == list(found[3].values())
    monkeypatch.setattr(gpu, "free_memory", lambda: 64)  # no memory for another one
    searcher.search(["w1 w2"], 2, BM25(k1=3.0), 1, "cuda")
    assert len(searcher._gpu) == 1


def test_many_threads_share_a_searcher(index: Index) -> None:
    from concurrent.futures import ThreadPoolExecutor

    searcher = Searcher(index._collection)
    expected = index.search(["w1 w2"], k=2, threads=1)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: searcher.search(["w1 w2"], 2, BM25(), 1, "cuda"), range(2)))
    for rows, scores in found:
        np.testing.assert_array_equal(rows, expected.rows)
        np.testing.assert_array_equal(scores, expected.scores)


def test_score_at_the_floor_is_a_candidate() -> None:
    """Another window may have set the floor first, and lose the tie to this one."""
    parts = np.array([1, 2, 3], np.float32)
    keys, totals = memory.zeros((1, 3), np.int64), memory.zeros(1, np.int32)
    one = np.ones(1, np.float32)
    lists = (np.array([0, 1], np.int32), np.zeros(1, np.int64), np.array([3], np.int32), one)
    kernels.score(
        keys, totals, memory.put(parts[1:2].view(np.int32)), memory.empty((1, 2), np.int32),
        (memory.put(np.arange(3, dtype=np.int32)), memory.put(parts)),
        tuple(map(memory.put, lists)), memory.zeros(1), 3, 32, 3,
    )  # fmt: skip
    assert memory.get(totals).tolist() == [2]
    found = sorted(kernels.LAST_ROW - (memory.get(keys)[0, :2] & kernels.LAST_ROW))
    assert found == [1, 2]
