"""Reordered indexes: hits, order and score bits are those of an index in the order of its rows."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import (
    BM25,
    DPH,
    TFIDF,
    Analyzer,
    Dirichlet,
    FormatError,
    Index,
    SettingsError,
)
from fastseq.errors import FastseqWarning
from fastseq.query import (
    All,
    Boolean,
    Boost,
    ConstantScore,
    Exists,
    Filter,
    Fuzzy,
    Near,
    Phrase,
    Prefix,
    Query,
    Range,
    Regex,
    Synonyms,
    Term,
    Wildcard,
)
from fastseq.search import searcher as searching
from fastseq.search.ranking import RankingModel
from fastseq.store.container import ContainerWriter
from fastseq.store.folder import verify
from tests.sampling import some
from tests.search import random_queries

SPACE = Analyzer(tokenizer="space")
DOCUMENTS = 70_000  # two windows
MODELS: list[RankingModel] = [
    BM25(), BM25(variant="bm25+"), BM25(variant="robertson"), TFIDF("ntn.nnn"), DPH(),
    Dirichlet(mu=20),
]  # fmt: skip


def table_of(n: int) -> pa.Table:
    """Short texts, so that many scores are equal."""
    chance = np.random.default_rng(8)
    lengths = chance.integers(1, 7, n)
    words = np.minimum((chance.pareto(0.9, lengths.sum()) * 2).astype(int), 60).tolist()
    ends = np.cumsum(lengths).tolist()
    texts = [" ".join(f"w{w}" for w in words[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    return pa.table({
        "id": [f"d{i}" for i in range(n)], "text": texts, "n": range(n),
        "lang": [f"l{i % 7}" for i in range(n)],
    })  # fmt: skip


QUERIES: list[Any] = [
    "w1", "w3 w5", "w0 w1 w2 w40", "w7 w9 w11 w13 w20 w30", "w60 w59 w58 w57 w1", "w2 w2 w8",
    "absent", {"w1": 2.0, "w4": -0.5}, {"w3": -1.0}, {"w0": 1e-9, "w9": 3.0},
    Boolean(must=(Term("w1"), Term("w2"))), Boolean(must=(Term("w0"),), should=(Term("w5"),)),
    Boolean(must=(Term("w3"), Term("w6"), Term("w1")), must_not=(Term("w2"),)),
    Boolean(should=(Term("w4"), Term("w1")), must_not=(Term("w0"),)),
    Boolean(should=(Term("w1"), Term("w2"), Term("w9")), minimum_should_match=2),
    Boolean(must=(Term("w8"),), filter=(Filter("lang = 'l2'"), Prefix("w2"))),
    Phrase("w1 w2"), Phrase("w1 w1", slop=2), Phrase("w40 w1", field="text"),
    Near(("w3", "w1"), 2), Near(("w1", "w0"), 1, in_order=True), Synonyms(("w5", "w1 w2", "w30")),
    Prefix("w1"), Prefix("w6"), Prefix("w2", field="text"), Wildcard("w*1"), Regex("w[3-5].?"),
    Fuzzy("w11"), Fuzzy("w60", 1, 1), Range("text", "w3", "w31"), Range("n", 5, 70, False),
    Exists("lang"), Term("l3", field="lang"), Boost(Term("w7"), 2.5), ConstantScore(Term("w9")),
    All(), Filter("n < 99"), " ".join(f"w{n}" for n in range(61)),
]  # fmt: skip


FILTERS = [
    None, "n >= 30000 and lang = 'l3'", "n between 1990 and 2010", "n >= 69990", "n < 0",
    "lang != 'l1'",
]  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Paths of indexes, plain and reordered: of one segment; of several with deletions, of which
    only the first, or the second one is reordered."""
    folder, table = tmp_path_factory.mktemp("reordered"), table_of(DOCUMENTS)
    found: dict[str, list[Path]] = {"one": [], "several": [], "second": []}
    for reorder in (False, True):
        settings: dict[str, Any] = {"text_columns": ["text"], "fields": ["text"], "analyzer": SPACE}
        Index.build(table, folder / f"one-{reorder}", **settings, reorder=reorder)
        found["one"].append(folder / f"one-{reorder}")
        path = folder / f"several-{reorder}"
        Index.build(table[:68_000], path, **settings, reorder=reorder)
        index = Index.open(path)
        index.add(table[68_000:69_900])
        index.add(table[69_900:])
        index.delete([f"d{n}" for n in range(0, DOCUMENTS, 5)])
        found["several"].append(path)
        path = folder / f"second-{reorder}"
        Index.build(table[:2000], path, **settings)
        index = Index.open(path)
        index.delete([f"d{n}" for n in range(0, 2000, 3)])
        index.add(table[2000:69_500])
        if reorder:
            random_queries.reorder_last(index)
        index.delete(where="n >= 40000 and n < 43000")
        index.add(table[69_500:])
        found["second"].append(path)
    return found


def orders_of(path: Path) -> list[bool]:
    leaves = Index.open(path)._collection.leaves
    return [leaf.segment.search_order is not None for leaf in leaves]


def same(plain: Any, reordered: Any) -> None:
    assert plain.rows.tobytes() == reordered.rows.tobytes()
    assert plain.scores.tobytes() == reordered.scores.tobytes()


def test_only_some_segments_are_reordered(pairs: dict[str, list[Path]]) -> None:
    assert [orders_of(path) for path in pairs["one"]] == [[False], [True]]
    assert [orders_of(path) for path in pairs["several"]] == [[False] * 3, [True, False, False]]
    assert [orders_of(path) for path in pairs["second"]] == [[False] * 3, [False, True, False]]
    order = Index.open(pairs["one"][1])._collection.leaves[0].segment.search_order
    assert order is not None
    assert order.tolist() != sorted(order.tolist())


@pytest.mark.parametrize("name", ["one", "several", "second"])
def test_patterns_of_a_batch_share_words(pairs: dict[str, list[Path]], name: str) -> None:
    """The first search of an index, which brings the lists of these words into the order."""
    queries = [Wildcard("w1?"), Prefix("w1"), Regex("w1.*"), Prefix("w1")]
    same(*(Index.open(path).search(queries, 100) for path in pairs[name]))


@pytest.mark.sample(5)
@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("name", ["one", "several", "second"])
def test_hits_are_the_same(pairs: dict[str, list[Path]], name: str, model: RankingModel) -> None:
    """In batches and one by one, which have kernels of their own."""
    plain, reordered = (Index.open(path) for path in pairs[name])
    case = f"{name} {model}"
    for k, filter in some([*itertools.product((1, 10, 300), FILTERS)], 9, case):
        both = [index.search(QUERIES, k, model, filter=filter) for index in (plain, reordered)]
        same(*both)
    single = [*itertools.product(QUERIES, FILTERS[:2], ("or", "and"))]
    for query, filter, operator in some(single, 60, case):
        settings: Any = {"filter": filter, "operator": operator}
        same(*(index.search(query, 10, model, **settings) for index in (plain, reordered)))


@pytest.mark.parametrize("name", ["one", "several", "second"])
def test_counts_are_the_same(pairs: dict[str, list[Path]], name: str) -> None:
    """After a search too, whose bits of frequent terms are in another order."""
    plain, reordered = (Index.open(path) for path in pairs[name])
    for _ in range(2):
        for filter in FILTERS:
            for operator in ("or", "and"):
                settings: Any = {"filter": filter, "operator": operator}
                counts = plain.count(QUERIES, **settings)
                assert counts == reordered.count(QUERIES, **settings)
                single = some(range(len(QUERIES)), 10, f"{name} {settings}")
                assert [reordered.count(QUERIES[i], **settings) for i in single] == [
                    counts[i] for i in single
                ]
        same(*(index.search(QUERIES, 10, operator="and") for index in (plain, reordered)))


def test_more_hits_than_documents(pairs: dict[str, list[Path]]) -> None:
    plain, reordered = (Index.open(path) for path in pairs["several"])
    few = [QUERIES[i] for i in (1, 7, 10)]
    same(plain.search(few, DOCUMENTS + 9), reordered.search(few, DOCUMENTS + 9))


@pytest.mark.parametrize("name", ["one", "several", "second"])
@pytest.mark.parametrize(
    "settings",
    [
        {"offset": 3}, {"sort": "lang, n:desc"}, {"group": "lang"}, {"filter": "n > 40000"},
        {"group": "lang", "sort": "n"}, {"fields": {"text": 2.0}}, {"syntax": "query"},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_shown_is_the_same(
    pairs: dict[str, list[Path]], name: str, settings: dict[str, Any]
) -> None:
    indexes = [Index.open(path) for path in pairs[name]]
    for query in ("w3 w5", "w1", "w30 w31 w32 w2"):
        both = [index.search(query, 20, facets="lang", **settings) for index in indexes]
        same(*both)
        assert both[0].ids == both[1].ids
        assert repr(both[0].facets) == repr(both[1].facets)
        assert both[0][0] == both[1][0]
        if "offset" in settings or "group" in settings:
            continue
        same(*(
            index.search(query, 20, after=hits.cursor(), **settings)
            for index, hits in zip(indexes, both, strict=True)
        ))  # fmt: skip


def test_explanations_are_the_same(pairs: dict[str, list[Path]]) -> None:
    plain, reordered = (Index.open(path) for path in pairs["second"])
    for query in ("w3 w5", Phrase("w1 w2"), Prefix("w6")):
        for id in plain.search(query, 4).ids[0]:
            assert str(plain.explain(query, id)) == str(reordered.explain(query, id))


def test_threads_and_cleared_caches(
    pairs: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastseq.search import scorer

    plain = Index.open(pairs["one"][0]).search(QUERIES, 10)
    same(plain, Index.open(pairs["one"][1]).search(QUERIES, 10, threads=4))
    monkeypatch.setattr(scorer, "_CACHED_IMPACTS", 1)
    index = Index.open(pairs["one"][1])
    same(plain, index.search(QUERIES, 10))
    same(plain, index.search(QUERIES, 10))
    assert [index.search(q, 10).rows[0].tolist() for q in QUERIES] == plain.rows.tolist()


def test_interrupted_reordering(
    pairs: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an error interrupts is done again by the next search."""
    from fastseq.search import scorer

    index, own = Index.open(pairs["one"][1]), scorer.reorder_impacts

    def fail(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(scorer, "reorder_impacts", fail)
    with pytest.raises(MemoryError):
        index.search("w3 w5", 10)
    monkeypatch.setattr(scorer, "reorder_impacts", own)
    same(Index.open(pairs["one"][0]).search("w3 w5", 10), index.search("w3 w5", 10))


def test_random_queries(tmp_path: Path) -> None:
    """Queries of every type on small random indexes with fields, deletions and several segments."""
    for seed in some(range(6), 3):
        chance = random.Random(seed)
        made = random_queries.random_index(chance)
        indexes = []
        for reorder in (False, True):
            made.reorder = [reorder and chance.random() < 0.7 for _ in range(4)]
            indexes.append(made.build(tmp_path / f"{seed}-{reorder}"))
        draw, texts = random_queries.RandomQueries(chance, made), made.vocabulary
        asked: list[str | Query] = [random_queries.value_of(draw.query()) for _ in range(40)]
        asked += [*texts, *map(" ".join, zip(texts, texts[1:], texts[2:], strict=False))]
        asked += [Boolean(must=(Term(a), Term(b))) for a, b in itertools.pairwise(texts)]
        for k in (1, 3, 50):
            same(*(index.search(asked, k) for index in indexes))
        assert indexes[0].count(asked) == indexes[1].count(asked)
        for query in some(asked, 60, str(seed)):
            same(*(index.search(query, 5) for index in indexes))


def test_order_is_kept_by_merging(tmp_path: Path) -> None:
    table = table_of(3000)
    for name, reorder in (("a", True), ("b", False)):
        Index.build(table[:2000], tmp_path / name, analyzer=SPACE, reorder=reorder)
        index = Index.open(tmp_path / name)
        index.add(table[2000:])
        index.delete([f"d{n}" for n in range(0, 3000, 4)])
        index.compact()
        assert orders_of(tmp_path / name) == [reorder]
        index.compact()  # nothing is to be done
        before = index.info()["statistics"]["commit"]
        index.compact(reorder=True)
        assert orders_of(tmp_path / name) == [True]
        assert (index.info()["statistics"]["commit"] == before) == reorder
        assert [s.get("reordered") for s in index.info()["statistics"]["segments"]] == [True]
    both = [Index.open(tmp_path / name).search(QUERIES, 30) for name in ("a", "b")]
    same(*both)
    assert both[0].ids == both[1].ids


def test_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    for threads in (1, 3):
        Index.build(
            table_of(3000), tmp_path / str(threads), analyzer=SPACE, reorder=True, threads=threads
        )
    files = [tmp_path / name / "data-000001" / "segment-000001" for name in "13"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 17, 33])
def test_few_documents(tmp_path: Path, n: int) -> None:
    for reorder in (False, True):
        Index.build(table_of(n), tmp_path / f"{reorder}", analyzer=SPACE, reorder=reorder)
    same(*(Index.open(tmp_path / name).search(QUERIES, 9) for name in ("False", "True")))


@pytest.mark.parametrize(
    "change",
    [
        lambda order: order[:-1],
        lambda order: np.append(order, np.uint32(0)),
        lambda order: np.where(order == 3, np.uint32(4), order),
        lambda order: np.where(order == 3, np.uint32(2**32 - 1), order),
        lambda order: order[:0],
        lambda order: order.astype(np.int64),
    ],
)
def test_wrong_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """An order that is not one, with right checksums."""
    own = ContainerWriter.array

    def array(self: ContainerWriter, name: str, values: Any) -> None:
        own(self, name, change(values) if name == "search_order" else values)

    monkeypatch.setattr(ContainerWriter, "array", array)
    Index.build(table_of(50), tmp_path / "index", analyzer=SPACE, reorder=True)
    with pytest.raises(FormatError, match="search_order"):
        Index.open(tmp_path / "index").search("w1")


def test_every_damaged_bit_of_the_order(tmp_path: Path) -> None:
    """An error or the same hits; and `verify` finds it."""
    Index.build(table_of(50), tmp_path / "index", analyzer=SPACE, reorder=True)
    right = Index.open(tmp_path / "index").search(QUERIES[:6], 9)
    order = Index.open(tmp_path / "index")._collection.leaves[0].segment.search_order
    assert order is not None
    file = tmp_path / "index" / "data-000001" / "segment-000001"
    content = file.read_bytes()
    at = content.index(order.tobytes())
    for bit in range(0, 8 * order.nbytes, 7):
        damaged = bytearray(content)
        damaged[at + bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(FormatError, match="segment-000001"):
            same(right, Index.open(tmp_path / "index").search(QUERIES[:6], 9))
        assert verify(tmp_path / "index") == ["data-000001/segment-000001"]
    file.write_bytes(content)
    same(right, Index.open(tmp_path / "index").search(QUERIES[:6], 9))


def test_notice_that_a_gpu_is_not_used(
    pairs: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "check_device", lambda device: None)
    plain, reordered = (Index.open(path) for path in pairs["one"])
    with pytest.warns(FastseqWarning, match="the index is reordered: searched on the CPU"):
        hits = reordered.search("w3 w5", 10, device="cuda")
    same(plain.search("w3 w5", 10), hits)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="reorder"):
        Index.build(table_of(3), tmp_path / "index", reorder="yes")  # type: ignore[arg-type]
    index = Index.build(table_of(3), tmp_path / "index")
    with pytest.raises(SettingsError, match="reorder"):
        index.compact(reorder=2)  # type: ignore[arg-type]
