"""Valid queries and k, and the content of hits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import BM25, TFIDF, Analyzer, BoW, DataError, Index, SettingsError
from fastseq.kernels.search import search as kernels
from fastseq.search import searcher
from fastseq.search.searcher import LARGEST_WEIGHT, MOST_HITS

TEXTS = ["green tea\x00leaf", "black tea, black cup", "", "猫喜欢喝茶", "a cup of coffee", None]
IDS = ["zero", "one", "two", "three", "four", "five"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    table = pa.table({"id": IDS, "text": TEXTS, "cups": [3, 1, 4, 1, 5, None]})
    return Index.build(table, tmp_path_factory.mktemp("queries") / "index")


# ---- queries


@pytest.mark.parametrize(
    "query", ["", " ", "unknown words", "x", "\x00", "\n\t", "!?", {}, {"": 1}]
)
@pytest.mark.parametrize(
    "model", [BM25(), BM25(variant="bm25l"), TFIDF("nnc.anc"), BoW()], ids=repr
)
def test_queries_without_a_known_term(index: Index, query: Any, model: Any) -> None:
    hits = index.search(query, k=4, model=model)
    assert hits.rows.tolist() == [[-1] * 4]
    assert hits.scores.tolist() == [[0.0] * 4]
    assert hits.ids == [[]]
    assert hits.counts.tolist() == [0]
    assert hits.to_dicts() == []
    assert hits.fields() == []
    assert hits.to_table().num_rows == 0


def test_no_queries(index: Index) -> None:
    for threads in (1, 3, None):
        hits = index.search([], k=7, threads=threads)
        assert len(hits) == 0
        assert hits.rows.shape == hits.scores.shape == (0, 7)
        assert hits.ids == []
        assert hits.counts.tolist() == []
        table = hits.to_table()
        assert table.num_rows == 0
        assert table.column_names == ["query_id", "doc_id", "rank", "score"]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("TEA", [0, 1]),
        ("tea\x00green", [0, 1]),
        ("coffee\ncup\r\n", [4, 1]),
        ("leaf", [0]),
        ("black black black", [1]),
        ("喝茶", [3]),
        ({"cup": 2, "coffee": 0.5}, [4, 1]),
        ({"cup": -1.0}, [4, 1]),
        ({"TEA": 1.0}, []),  # a mapping's terms are spelt as in the index
        ({"tea": np.float32(1), "cup": True, "never": 9}, [1, 0, 4]),
    ],
)
def test_results_of_queries(index: Index, query: Any, rows: list[int]) -> None:
    hits = index.search(query, k=6)
    assert sorted(hits.rows[0, : len(rows)].tolist()) == sorted(rows)
    assert (hits.rows[0, len(rows) :] == -1).all()
    assert hits.ids == [[IDS[row] for row in hits.rows[0] if row >= 0]]


def test_iterables_mix_strings_and_mappings(index: Index) -> None:
    queries: list[Any] = ["tea", {"tea": 1.0}, "", {}, "cup coffee", {"coffee": 1, "cup": 1}]
    together = index.search(queries, k=3, threads=2)
    assert (together.rows[::2] == together.rows[1::2]).all()
    assert together.scores[::2].tobytes() == together.scores[1::2].tobytes()

    def one_by_one() -> Iterator[Any]:
        yield from queries

    for form in (tuple(queries), one_by_one(), pa.array(["tea"]).to_pylist()):
        assert index.search(form, k=3).rows[0].tolist() == together.rows[0].tolist()


@pytest.mark.parametrize("query", [None, 3, 1.5, b"tea", [b"tea"], [3], [None], [["tea"]], {"tea"}])
def test_invalid_queries_are_rejected(index: Index, query: Any) -> None:
    if isinstance(query, set):  # an iterable of strings: one query
        assert len(index.search(query)) == 1
        return
    with pytest.raises(SettingsError, match="a query must be a string"):
        index.search(query)


@pytest.mark.parametrize(
    "weight",
    [float("nan"), float("inf"), -float("inf"), 1e39, 1.1 * LARGEST_WEIGHT, "x", None, [1]],
)
def test_wrong_weights_are_rejected(index: Index, weight: Any) -> None:
    with pytest.raises(SettingsError, match="must be a finite number"):
        index.search({"tea": weight, "cup": 1})


def test_wrong_terms_are_rejected(index: Index) -> None:
    terms: Any = {3: 1.0}
    with pytest.raises(SettingsError, match="terms must be strings"):
        index.search(terms)


def test_query_of_invalid_text_is_rejected(index: Index, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UTF-8"):
        index.search("tea \ud800")
    assert index.search({"\ud800": 1.0}).counts[0] == 0
    replacing = Index.build(
        pa.table({"text": ["tea"]}), tmp_path / "index", analyzer=Analyzer(on_invalid="replace")
    )
    assert replacing.search("tea \ud800").counts[0] == 1


def test_query_of_a_megabyte(index: Index) -> None:
    long = "tea cup " * 131_072
    hits = index.search([long, "tea cup"], k=3)
    assert (hits.rows[0] == hits.rows[1]).all()
    np.testing.assert_allclose(hits.scores[0], hits.scores[1] * 131_072, rtol=1e-5)
    assert index.search("x" * (1 << 20)).counts[0] == 0
    many = " ".join(f"word{n}" for n in range(100_000))
    assert index.search(f"{many} coffee").rows[0, 0] == 4


def test_query_of_very_many_known_words(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(20_000)]
    texts = [" ".join(words[n::1000]) for n in range(1000)]
    index = Index.build(pa.table({"text": texts}), tmp_path / "index")
    hits = index.search(" ".join(words), k=1000)
    assert sorted(hits.rows[0].tolist()) == [*range(1000)]
    weights = {word: 1.0 + n % 1000 for n, word in enumerate(words)}
    assert index.search(weights, k=1000).rows[0].tolist() == [*reversed(range(1000))]


# ---- k, model, threads


@pytest.mark.parametrize("k", [0, -1, True, False, 2.0, "3", None, float("nan")])
def test_invalid_k_is_rejected(index: Index, k: Any) -> None:
    with pytest.raises(SettingsError, match="k must be a whole number of at least 1"):
        index.search("tea", k=k)


@pytest.mark.parametrize("k", [MOST_HITS + 1, 2**40, 10**30, np.int64(2**62)])
def test_k_too_large_for_memory_is_rejected(index: Index, k: Any) -> None:
    for query in ("tea", ["tea"] * 4):
        with pytest.raises(SettingsError, match="does not fit in memory"):
            index.search(query, k=k)


@pytest.mark.parametrize("k", [1, 2, 6, 7, 5000, np.int64(9), np.uint8(200)])
def test_k_may_be_larger_than_the_collection(index: Index, k: Any) -> None:
    hits = index.search(["tea", "cup"], k=k)
    assert hits.rows.shape == (2, k)
    assert hits.counts.tolist() == [min(2, k)] * 2


def test_wrong_models_and_threads_are_rejected(index: Index) -> None:
    model: Any
    for model in ("bm25", BM25):
        with pytest.raises(SettingsError, match="model must be a ranking model"):
            index.search("tea", model=model)
    threads: Any
    for threads in (0, -1, 1.5, True):
        with pytest.raises(SettingsError, match="threads"):
            index.search("tea", threads=threads)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupt_ends_a_batch(
    index: Index, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    tasks = 0
    whole: Callable[..., None] = kernels.search

    def interrupted(*arguments: Any) -> None:
        nonlocal tasks
        tasks += 1
        if threading.current_thread() is threading.main_thread():
            raise error
        time.sleep(0.01)
        whole(*arguments)

    monkeypatch.setattr(kernels, "search", interrupted)
    with pytest.raises(error):
        index.search(["tea"] * 1000, threads=3)
    assert tasks < 20  # of 63
    monkeypatch.undo()
    assert index.search(["tea"] * 100, threads=3).counts.tolist() == [2] * 100


def test_bad_query_rejects_the_batch(index: Index) -> None:
    queries: list[Any]
    for bad in ("\ud800", None, {"tea": "much"}):
        queries = ["tea"] * 3000
        queries[1777] = bad
        with pytest.raises((DataError, SettingsError)):
            index.search(queries, threads=3)


# ---- hits


def test_hits_have_ids_fields_and_ranks(index: Index) -> None:
    hits = index.search(["cup coffee", "never", "tea"], k=2)
    assert hits.ids == [["four", "one"], [], [*hits.ids[2]]]
    assert hits.fields(0) == [
        {"id": "four", "text": TEXTS[4], "cups": 5},
        {"id": "one", "text": TEXTS[1], "cups": 1},
    ]
    assert hits.fields(0, ["cups"]) == [{"cups": 5}, {"cups": 1}]
    first = hits.to_dicts(0)[0]
    assert list(first) == ["rank", "id", "score", "fields"]
    assert (first["rank"], first["id"]) == (1, "four")
    assert first["score"] == hits.scores[0, 0]
    table = hits.to_table(["a", "b", "c"], columns=["cups"])
    assert table.column_names == ["query_id", "doc_id", "rank", "score", "cups"]
    assert table.column("query_id").to_pylist() == ["a", "a", "c", "c"]
    assert table.column("rank").to_pylist() == [1, 2, 1, 2]
    assert table.column("doc_id").to_pylist() == [*hits.ids[0], *hits.ids[2]]
    with pytest.raises(DataError, match="no stored column 'price'"):
        hits.fields(0, ["price"])


def test_hits_of_an_index_without_stored_columns(tmp_path: Path) -> None:
    index = Index.build(pa.table({"text": ["tea", "tea tea"]}), tmp_path / "index", store=[])
    hits = index.search("tea")
    assert hits.ids == [[1, 0]]
    assert hits.to_dicts(0)[0] == {"rank": 1, "id": 1, "score": hits.scores[0, 0], "fields": {}}
    assert hits.to_table().column("doc_id").to_pylist() == [1, 0]


def test_hits_outlive_a_later_commit(tmp_path: Path) -> None:
    table = pa.table({"id": ["old"], "text": ["tea"]})
    index = Index.build(table, tmp_path / "index")
    hits = index.search("tea")
    Index.build(pa.table({"id": ["new"], "text": ["cup"]}), tmp_path / "index", overwrite=True)
    assert hits.to_dicts()[0]["fields"] == {"id": "old", "text": "tea"}
    assert index.search("tea").ids == [["old"]]
    assert Index.open(tmp_path / "index").search("tea").ids == [[]]


def test_large_base_scores_keep_the_order(tmp_path: Path) -> None:
    """BM25+ adds a large constant to sums of which float32 then shows fewer digits."""
    rng = np.random.default_rng(5)
    texts = ["apple " + "filler " * int(n) for n in rng.integers(20_000, 40_000, 60)]
    index = Index.build(pa.table({"text": texts}), tmp_path / "index", threads=1)
    model = BM25(k1=900.0, delta=1e6, variant="bm25+")
    for k in (60, 7):
        hits = index.search("apple", k=k, model=model)
        pairs = list(zip((-hits.scores[0]).tolist(), hits.rows[0].tolist(), strict=True))
        assert pairs == sorted(pairs)
    assert len(set(index.search("apple", k=60, model=model).scores[0].tolist())) < 60


def test_query_of_very_many_terms(tmp_path: Path) -> None:
    terms = [f"t{i}" for i in range(60_000)]
    table = pa.table({"text": [" ".join(terms[i::7]) for i in range(7)]})
    index = Index.build(table, tmp_path / "index", threads=1)
    query = {term: 1 + i / 60_000 for i, term in enumerate(terms)}  # bounds ascend
    index.search("t1")
    started = time.perf_counter()
    hits = index.search(query, k=7)
    assert time.perf_counter() - started < 2
    assert sorted(hits.rows[0].tolist()) == list(range(7))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lowercase": False},
        {"stopwords": "lucene", "stemmer": "english"},
        {"cjk": "none", "max_length": 3},
        {"char_ngrams": (2, 3)},
        {"min_length": 1},
        {"ngrams": (1, 2)},
        {"tokenizer": "space"},
    ],
    ids=repr,
)
def test_single_query_is_analysed_as_in_a_batch(tmp_path: Path, settings: dict[str, Any]) -> None:
    """A single short ASCII query has a fast path."""
    rng = np.random.default_rng(3)
    characters = np.array([*"abCD_019 .,-'\n\txyz  ", "the ", "running ", "é", "猫"])
    texts = ["".join(rng.choice(characters, 60)) for _ in range(100)]
    queries = ["".join(rng.choice(characters, n % 40)) for n in range(150)]
    analyzer = Analyzer(**settings)
    index = Index.build(pa.table({"text": texts}), tmp_path / "index", analyzer=analyzer)
    batch = index.search(queries, k=20)
    assert (batch.counts > 0).sum() > 50
    for _ in range(2):  # the second time its words are known
        for q, query in enumerate(queries):
            alone = index.search(query, k=20)
            np.testing.assert_array_equal(alone.rows[0], batch.rows[q])
            np.testing.assert_array_equal(alone.scores[0], batch.scores[q])


@pytest.mark.parametrize("tokenizer", ["word", "unicode"])
def test_removed_words_of_many_queries(
    tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = Analyzer(tokenizer=tokenizer, stopwords="english", min_length=2, max_length=9)
    index = Index.build(["a word"], tmp_path / "index", analyzer=analyzer)
    queries = ["the word", "", "x the extraordinary", "?", "猫", "a b c", "purring of the cats"] * 3
    monkeypatch.setattr(searcher, "_BLOCK", 4)
    removed = index.count_removed_words(queries)
    each = [index.removed_words(query) for query in queries]
    assert removed.words == Counter(why for words in each for _, why in words)
    assert removed.empty == [q for q in range(len(queries)) if q % 7 in (1, 2, 3, 5)]
