"""Approximate search of vectors by graphs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fastseq import FormatError, Index, SettingsError
from fastseq.errors import MissingExtraError
from fastseq.index import graph as graphs
from tests.search.test_dense import QUERIES, bits, built, pairs, some_vectors, table

IDS = range(600)


@pytest.fixture
def graphed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Segments of 600, 200 and 40 documents, of which the last has no graph."""
    monkeypatch.setattr(graphs, "LEAST", 100)
    index = built(some_vectors(IDS), tmp_path / "index", dense_graph=True)
    for first, last in ((600, 800), (800, 840)):
        index.add(table_of(first, last), threads=1)
    return index


def table_of(first: int, last: int) -> pa.Table:
    return table(some_vectors(range(first, last), first))


def recall(index: Index, k: int, **options: object) -> float:
    found = index.search_dense(QUERIES, k, approximate=True, **options)
    exact = index.search_dense(QUERIES, k, **options)
    shares = []
    for number in range(len(QUERIES)):
        expected = dict(pairs(exact, number))
        own = pairs(found, number)
        assert len(own) == len(expected)
        assert [score for _, score in own] == sorted((score for _, score in own), reverse=True)
        assert all(expected.get(id, score) == score for id, score in own)  # the same bits
        shares.append(len(set(expected) & {id for id, _ in own}) / max(len(expected), 1))
    return float(np.mean(shares))


@pytest.mark.parametrize("k", [1, 10, 300, 2000])
def test_graphs_find_nearly_the_exact_hits(graphed: Index, k: int) -> None:
    segments = [leaf.segment for leaf in graphed._collection.leaves]
    assert [segment.graph is not None for segment in segments] == [True, True, False]
    assert recall(graphed, k) > 0.95


def test_graphs_with_filters_and_deletions(graphed: Index) -> None:
    assert recall(graphed, 10, filter="even") > 0.95
    assert recall(graphed, 10, filter="id < 30") == 1.0  # few: all are compared
    best = [pairs(graphed.search_dense(QUERIES[:20], 5), number) for number in range(20)]
    graphed.delete(sorted({id for some in best for id, _ in some}))
    assert recall(graphed, 10) > 0.95


def test_graphs_of_merged_segments(graphed: Index) -> None:
    graphed.compact()
    (leaf,) = graphed._collection.leaves
    assert leaf.segment.graph is not None
    assert recall(graphed, 10) > 0.95
    assert graphed.dense is not None
    assert graphed.dense["graph"] is True


def test_the_same_vectors_give_the_same_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "LEAST", 100)
    found = [built(some_vectors(IDS), tmp_path / name, dense_graph=True) for name in "ab"]
    first, second = (bits(index.search_dense(QUERIES, 5, approximate=True)) for index in found)
    assert first == second
    sources = [index._collection.leaves[0].segment._source for index in found]
    graphs_of = [source.array("vector_graph") for source in sources]
    assert len(graphs_of[0]) > 600 * 40
    assert np.array_equal(*graphs_of)


def test_an_index_without_graphs(tmp_path: Path) -> None:
    index = built(some_vectors(range(20)), tmp_path / "index")
    with pytest.raises(SettingsError, match="has no graphs of its vectors"):
        index.search_dense(QUERIES, 1, approximate=True)
    with pytest.raises(SettingsError, match="dense_graph needs vectors"):
        Index.build(table_of(0, 3), tmp_path / "other", dense_graph=True)


def test_without_usearch(graphed: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    expected = r"approximate search of vectors needs .*pip install 'fastseq\[usearch\]'"
    with pytest.raises(MissingExtraError, match=expected):
        graphed.search_dense(QUERIES, 1, approximate=True)
    with pytest.raises(MissingExtraError, match=expected):
        built(some_vectors(range(3)), tmp_path / "other", dense_graph=True)
    assert graphed.search_dense(QUERIES, 1).counts.all()  # exact


def test_a_graph_of_other_vectors(graphed: Index) -> None:
    segment = graphed._collection.leaves[1].segment
    content = graphs.GraphBuilder(20)
    content.append(np.eye(20, dtype=np.float32))
    with pytest.raises(FormatError, match="the file: damaged: its graph is not of its vectors"):
        graphs.Graph(content.content(), 20, segment.documents, "the file")
    with pytest.raises(FormatError, match="the file: damaged: its graph cannot be read"):
        graphs.Graph(np.arange(200, dtype=np.uint8), 20, 20, "the file")
