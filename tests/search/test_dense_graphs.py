"""Approximate search of vectors by graphs (`dense_index="usearch"`)."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import FastseqError, FormatError, Hits, Index, MissingExtraError, SettingsError
from fastseq.index import graphs
from fastseq.search import dense as searching

pytest.importorskip("usearch")

SIZE, CLUSTERS = 24, 60
CENTRES = np.random.default_rng(0).normal(size=(CLUSTERS, SIZE))
FEW = 400  # vectors of a segment with a graph, in these tests


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments have graphs, and searches visit few documents of them."""
    monkeypatch.setattr(graphs, "LEAST", FEW)
    monkeypatch.setattr(searching, "_FOUND", 40)
    monkeypatch.setattr(searching, "_VISITED", 4)


def clustered(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = CENTRES[rng.integers(0, CLUSTERS, count)] + 0.4 * rng.normal(size=(count, SIZE))
    return found.astype(np.float32)


def table(ids: range, seed: int = 1) -> pa.Table:
    """Documents, of which one in 50 has no vector and one in 40 that of another."""
    vectors: list[Any] = list(clustered(len(ids), seed))
    for at, id in enumerate(ids):
        if id % 50 == 0:
            vectors[at] = None
        elif id % 40 == 0:
            vectors[at] = vectors[1]
    return pa.table({
        "id": list(ids), "text": ["word"] * len(ids),
        "v": pa.array(vectors, pa.list_(pa.float32())), "n": [id % 100 for id in ids],
    })  # fmt: skip


def built(path: Path, documents: int = 2000, **settings: Any) -> Index:
    own = {"dense_column": "v", "dense_index": "usearch", **settings}
    return Index.build(table(range(documents)), path, **own)


QUERIES = clustered(40, 7)


def recall(index: Index, k: int = 10, least: float = 0.9, **options: Any) -> float:
    """The share of the exact hits that graphs find. All scores are exact, hits are in order."""
    exact = index.search_dense(QUERIES, k, exact=True, **options)
    found = index.search_dense(QUERIES, k, **options)
    every = index.search_dense(QUERIES, len(index), exact=True, **options)
    shared = total = 0
    for query in range(len(QUERIES)):
        known = dict(zip(every.ids[query], every.scores[query].tolist(), strict=False))
        ids, scores = found.ids[query], found.scores[query].tolist()
        assert len(ids) == len(exact.ids[query])
        assert [known[id] for id in ids] == scores[: len(ids)]
        rows = found.rows[query][: len(ids)].tolist()
        order = sorted(zip(scores, rows, strict=False), key=lambda hit: (-hit[0], hit[1]))
        assert [row for _, row in order] == rows
        shared += len({*ids} & {*exact.ids[query]})
        total += len(ids)
    share = shared / total if total else 1.0
    assert share >= least
    return share


def graph_count(index: Index) -> int:
    entries = index.info()["statistics"]["segments"]
    there = [leaf.segment.vector_graph is not None for leaf in index._collection.leaves]
    assert there == [entry.get("graph", False) for entry in entries]
    return sum(there)


def searches(index: Index, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts of the searches of graphs, and of scans, from now on."""
    counts = {"graph": 0, "scan": 0}
    search, compare = graphs.Graph.search, searching._compared

    def counted(self: Any, units: Any, count: int, threads: int) -> Any:
        counts["graph"] += 1
        return search(self, units, count, threads)

    def compared(*arguments: Any) -> Any:
        counts["scan"] += 1
        return compare(*arguments)

    monkeypatch.setattr(graphs.Graph, "search", counted)
    monkeypatch.setattr(searching, "_compared", compared)
    return counts


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_hits_are_nearly_those_of_all_vectors(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(tmp_path / "index", dense_dtype=dtype)
    assert graph_count(index) == 1
    assert index.dense == {"size": SIZE, "dtype": dtype, "column": "v", "graph": "usearch"}
    assert index.info()["format_version"] == 7
    recall(index)
    counts = searches(index, monkeypatch)
    found = index.search_dense(QUERIES, 10)
    assert counts == {"graph": 1, "scan": 0}
    for threads in (1, 3):
        again = index.search_dense(QUERIES, 10, threads=threads)
        np.testing.assert_array_equal(again.rows, found.rows)
        np.testing.assert_array_equal(again.scores, found.scores)
    alone = index.search_dense(QUERIES[3:4], 10)
    np.testing.assert_array_equal(alone.rows[0], found.rows[3])
    words = index.search_hybrid(["word"], 5, vectors=QUERIES[:1])
    exact = index.search_hybrid(["word"], 5, vectors=QUERIES[:1], exact=True)
    assert len({*words.ids[0]} & {*exact.ids[0]}) >= 4


def test_a_small_segment_is_compared(tmp_path: Path) -> None:
    """Documents without a vector do not count."""
    index = built(tmp_path / "index", FEW + 4)
    assert graph_count(index) == 0
    assert index.info()["format_version"] == 7
    assert recall(index, least=1) == 1
    assert "graph" not in (built(tmp_path / "exact", 500, dense_index="exact").dense or {})
    assert Index.open(tmp_path / "exact").info()["format_version"] == 6


def test_an_index_that_changes(tmp_path: Path) -> None:
    """Segments with and without a graph, deletions, replacements and merges."""
    index = built(tmp_path / "index")
    index.add(table(range(1950, 2100), 2))
    index.add(table(range(3000, 3700), 3))
    index.delete(list(range(0, 2000, 3)))
    assert graph_count(index) >= 1
    recall(index)
    recall(index, k=3)
    index.compact()
    (leaf,) = index._collection.leaves
    assert leaf.live is None
    assert graph_count(index) == 1
    recall(index)
    index.delete(where="id >= 300")
    index.compact()
    assert graph_count(index) == 0
    assert recall(index, least=1) == 1
    index.add(table(range(5000, 5600), 4))
    assert graph_count(index) == 1
    recall(index)


def test_filters_and_many_hits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many documents are found as pass; a graph is not searched where few pass, or most are
    wanted."""
    index = built(tmp_path / "index")
    index.delete(list(range(7, 2000, 90)))
    for condition, k, by_graph in [
        ("n < 70", 10, True), ("n != 3", 20, True), ("n < 5", 10, False), ("n < 0", 10, False),
        ("id = 11", 10, False), (None, 600, False), ("id < 1500", 1400, False),
    ]:  # fmt: skip
        recall(index, k, filter=condition, least=0.9 if by_graph else 1)
        with monkeypatch.context() as patched:
            counts = searches(index, patched)
            hits = index.search_dense(QUERIES[:2], k, filter=condition)
        assert (counts["graph"] > 0) == by_graph, condition
        passing = index.search("word", 2000, filter=condition).ids[0]
        with_vector = [id for id in passing if id % 50 or id == 1]
        assert hits.counts.tolist() == [min(k, len(with_vector))] * 2, condition


def test_a_filter_against_the_nearest_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is asked for more, then all are compared, where the nearest do not pass."""
    vectors = clustered(1500, 5)
    near = QUERIES[0] + 0.01 * clustered(1500, 6)
    both = np.concatenate([near, vectors]).astype(np.float32)
    ids = list(range(len(both)))
    corpus = pa.table({"id": ids, "text": [""] * len(both), "v": list(both)})
    index = Index.build(corpus, tmp_path / "i", dense_column="v", dense_index="usearch")
    counts = searches(index, monkeypatch)
    found = index.search_dense(QUERIES[:2], 10, filter="id >= 1500")
    assert counts["graph"] > 1
    assert counts["scan"] == 1
    exact = index.search_dense(QUERIES[:2], 10, filter="id >= 1500", exact=True)
    assert found.ids[0] == exact.ids[0]
    assert len(found.ids[1]) == 10


def test_queries_from_several_threads(tmp_path: Path) -> None:
    index = built(tmp_path / "index")
    expected = index.search_dense(QUERIES, 10).rows

    def search(number: int) -> Hits:
        return index.search_dense(QUERIES[number : number + 1], 10, threads=1 + number % 2)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(search, [*range(len(QUERIES))] * 5))
    for number, hits in enumerate(found):
        np.testing.assert_array_equal(hits.rows[0], expected[number % len(QUERIES)])


def test_the_bytes_do_not_depend_on_threads_or_memory(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    for name, settings in (("a", {"threads": 1}), ("b", {"threads": 3, "memory": "60MB"})):
        built(tmp_path / name, progress=lambda *done: seen.append(done), **settings)
    first, second = (
        [file.read_bytes() for file in sorted((tmp_path / name).rglob("segment*"))]
        for name in "ab"
    )
    assert first == second
    assert ("graph", 2000, 2000) in seen
    assert not [*(tmp_path / "a").rglob("*graph*")]


def test_without_usearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an exact search does not need it."""
    index = built(tmp_path / "index")
    expected = index.search_dense(QUERIES, exact=True).ids
    index = Index.open(tmp_path / "index")
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    message = r"the package usearch, but for an exact search: pip install 'fastseq\[usearch\]'"
    with pytest.raises(MissingExtraError, match=message):
        index.search_dense(QUERIES)
    with pytest.raises(MissingExtraError, match=message):
        built(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(MissingExtraError, match=message):
        index.add(table(range(9000, 9003)))
    assert index.delete([3])["deleted"] == 1
    with pytest.raises(MissingExtraError, match=message):
        index.compact()
    opened = Index.open(tmp_path / "index")
    assert len(opened) == 1999
    assert [ids for ids in opened.search_dense(QUERIES, exact=True).ids if 3 not in ids] == [
        ids for ids in expected if 3 not in ids
    ]


def test_a_graph_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(tmp_path / "index")
    index.delete([5])
    save = graphs.GraphBuilder.save
    missing = tmp_path / "missing" / "graph"
    monkeypatch.setattr(graphs.GraphBuilder, "save", lambda self, path: save(self, missing))
    with pytest.raises(FastseqError, match=r"cannot write .*missing/graph: "):
        index.compact()
    with pytest.raises(FastseqError, match=r"cannot write .*missing/graph: "):
        built(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert len(Index.open(tmp_path / "index").search_dense(QUERIES[:1], 2000, exact=True).ids[0])
    assert Index.open(tmp_path / "index").info()["statistics"]["commit"] == 2


def test_wrong_settings(tmp_path: Path) -> None:
    for settings, match in [
        ({"dense_index": "hnsw"}, "dense_index is 'hnsw'"),
        ({"dense_column": None}, "needs vectors: dense=… or dense_column=…"),
    ]:
        with pytest.raises(SettingsError, match=match):
            built(tmp_path / "index", **settings)
    index = built(tmp_path / "index", 500)
    with pytest.raises(SettingsError, match="exact"):
        index.search_dense(QUERIES, exact="no")


def test_a_damaged_graph_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = built(tmp_path / "index")
    (file,) = (tmp_path / "index").rglob("segment*")
    graph = index._collection.leaves[0].segment._source.array("vector_graph", np.uint8)
    raw = bytearray(file.read_bytes())
    at = raw.find(graph[-200:].tobytes())
    assert at > 0
    raw[at + 100] ^= 1
    file.write_bytes(raw)
    index = Index.open(tmp_path / "index")
    with pytest.raises(FormatError, match="the checksum of vector_graph is wrong"):
        index.search_dense(QUERIES)
    assert index.search_dense(QUERIES, exact=True).counts.all()
    assert index.search("word").counts.tolist() == [10]
    # one that is intact, but not of these vectors
    small = graphs.GraphBuilder(3)
    small.add(np.arange(5), np.ones((5, 3), np.float32))
    small.save(tmp_path / "small")
    for content in (b"", b"no graph", (tmp_path / "small").read_bytes()):
        with pytest.raises(ValueError, match=r"usearch cannot read it|not a graph"):
            graphs.Graph(np.frombuffer(content, np.uint8).copy(), SIZE, 2000)
    with pytest.raises(ValueError, match="not a graph of the vectors"):
        graphs.Graph(graph, SIZE, 100)
