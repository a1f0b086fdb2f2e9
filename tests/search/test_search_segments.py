"""Several segments and deleted documents: results are those of one segment of the documents left,
bit for bit, and scores are sums in an order that depends on the statistics alone."""

from __future__ import annotations

import json
import math
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import (
    BM25,
    DPH,
    PL2,
    TFIDF,
    Analyzer,
    BoW,
    DataError,
    Dirichlet,
    Index,
    JelinekMercer,
)
from fastseq.index.collection import Collection
from fastseq.kernels.search.postings import WINDOW
from fastseq.search.ranking import RankingModel
from tests.naive.commits import combine, write_manifest

MODELS: list[RankingModel] = [
    *(BM25(variant=name) for name in BM25.VARIANTS),
    *map(TFIDF, ("ltc.lnc", "Lpn.atc", "nnc.nnn", "bnn.Lpc")),
    BoW(),
    BoW(cosine=True),
    Dirichlet(),
    JelinekMercer(),
    DPH(),
    PL2(),
]
WORDS = ["a", "b", "c", "é", "猫", "dd", "ab", "zz", "long" * 9]
QUERIES: list[Any] = [
    "a b c", "猫 é zz", "ab", "absent", "", " ".join(WORDS), "a a a b " * 3,
    {"a": 0.5, "b": 0.5, "c": 2.0}, {"zz": 1.0, "dd": -1.0, "a": 0.0}, {"absent": 1.0},
]  # fmt: skip
SPACE = Analyzer(tokenizer="space")


def built(path: Path, ids: Sequence[int], texts: Sequence[str]) -> Path:
    table = pa.table({"id": ids, "text": texts, "twice": [2 * id for id in ids]})
    Index.build(table, path, analyzer=SPACE, threads=1)
    return path


def split(
    folder: Path, texts: Sequence[str], cuts: Sequence[int], deleted: set[int]
) -> tuple[Index, Index]:
    """An index of segments with deleted documents, and one of the others; an id is a row of
    `texts`."""
    edges = [0, *sorted({*cuts} - {0, len(texts)}), len(texts)]
    parts, gone = [], []
    for first, last in pairwise(edges):
        rows = range(first, last)
        parts.append(built(folder / f"part{first}", rows, texts[first:last]))
        gone.append([row - first for row in rows if row in deleted])
    combine(folder / "index", parts, gone)
    left = [row for row in range(len(texts)) if row not in deleted]
    fresh = built(folder / "fresh", left, [texts[row] for row in left])
    return Index.open(folder / "index"), Index.open(fresh)


def assert_same(index: Index, fresh: Index, queries: Sequence[Any], k: int) -> None:
    for model in MODELS:
        found, expected = (each.search(queries, k, model, threads=1) for each in (index, fresh))
        assert found.ids == expected.ids, model
        assert found.scores.tobytes() == expected.scores.tobytes(), model
        assert list(found) == list(expected)
        for q in (0, len(queries) - 1):
            alone = index.search(queries[q], k, model)
            assert alone.ids == [found.ids[q]]
            assert alone.scores[0].tobytes() == found.scores[q].tobytes()


texts = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join) | st.sampled_from(
    ["a " * 14, "b " * 15 + "a", "a " * 254, "b " * 255 + "c", "猫 " * 1000]
)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(texts, min_size=2, max_size=25), st.lists(st.integers(1, 24), max_size=3),
    st.sets(st.integers(0, 24), max_size=12), st.sampled_from([1, 3, 40]),
)  # fmt: skip
def test_segments_give_the_results_of_one(
    documents: list[str], cuts: list[int], deleted: set[int], k: int
) -> None:
    deleted = {row for row in deleted if row < len(documents) - 1}
    cuts = [cut for cut in cuts if cut < len(documents)]
    with tempfile.TemporaryDirectory() as folder:
        index, fresh = split(Path(folder), documents, cuts, deleted)
        assert_same(index, fresh, QUERIES, k)
        assert_collections_agree(index, fresh, documents, deleted)


def assert_collections_agree(
    index: Index, fresh: Index, documents: Sequence[str], deleted: set[int]
) -> None:
    """All that a reader says about the documents and terms."""
    mine, other = index._collection, fresh._collection
    assert (len(index), mine.tokens, mine.terms) == (len(fresh), other.tokens, other.terms)
    assert mine.rows == len(documents)
    assert index.summary.get("segments", 1) == len(mine.leaves)
    assert index.summary.get("deleted", 0) == len(deleted)
    assert index.knows([*WORDS, "absent"]) == fresh.knows([*WORDS, "absent"])
    assert index.unknown_words(" ".join(WORDS)) == fresh.unknown_words(" ".join(WORDS))
    counts = Counter(
        word for row, text in enumerate(documents) if row not in deleted for word in {*text.split()}
    )
    frequent = index.frequent_terms()
    assert {*frequent} == {*fresh.frequent_terms()} == {*counts}
    assert [counts[word] for word in frequent] == sorted(counts.values(), reverse=True)
    for id in (*range(len(documents)), len(documents) + 5):
        assert index.get(id) == fresh.get(id)
        assert (id in index) == (id in fresh)
    asked = [len(documents) - 1, 0, 10**6, 0]
    rows = mine.rows_of(asked)
    assert rows.tolist() == [
        id if id < len(documents) and id not in deleted else -1 for id in asked
    ]
    assert mine.take(np.array([len(documents) - 1, 0])).to_pylist() == [
        {"id": id, "text": documents[id], "twice": 2 * id} for id in (len(documents) - 1, 0)
    ]
    with pytest.raises(DataError, match="no stored column 'other'"):
        mine.take(np.zeros(0, np.int64), ["other"])


def test_segments_of_several_windows_and_pruned_search(tmp_path: Path) -> None:
    chance = random.Random(6)
    names = [f"w{n}" for n in range(60)]
    weights = [1 / (n + 1) for n in range(60)]
    count = 2 * WINDOW + 300
    documents = [
        " ".join(chance.choices(names, weights, k=chance.randrange(6))) for _ in range(count)
    ]
    deleted = {*range(0, count, 11), *range(WINDOW - 50, WINDOW + 50)}
    index, fresh = split(tmp_path, documents, [WINDOW + 100, WINDOW + 200, 2 * WINDOW], deleted)
    queries = [" ".join(chance.choices(names, k=n)) for n in (1, 2, 3, 5, 8) for _ in range(12)]
    for k in (1, 10, 200):
        for model in (BM25(), BM25(variant="bm25+"), TFIDF(), BoW(), Dirichlet(), DPH(), PL2()):
            found, expected = (each.search(queries, k, model) for each in (index, fresh))
            assert found.scores.tobytes() == expected.scores.tobytes()
            assert found.ids == expected.ids
            one = index.search(queries, k, model, threads=1)
            assert one.rows.tobytes() == found.rows.tobytes()


def test_index_whose_documents_are_all_deleted(tmp_path: Path) -> None:
    parts = [built(tmp_path / "a", range(3), ["a", "b", "a b"]), built(tmp_path / "b", [9], ["a"])]
    combine(tmp_path / "index", parts, [[0, 1, 2], [0]])
    index = Index.open(tmp_path / "index")
    assert len(index) == 0
    assert index.search(["a", "b"], 5).counts.tolist() == [0, 0]
    for model in MODELS:
        assert index.search("a b", 5, model).ids == [[]]
    assert index.get(0) is None
    assert index.knows(["a"]) == [False]
    assert index.frequent_terms() == []
    assert index.summary == {
        "documents": 0, "terms": 0, "postings": 5, "tokens": 0, "segments": 2, "deleted": 4,
    }  # fmt: skip


def test_index_without_segments(tmp_path: Path) -> None:
    """As after a merge of deleted documents alone."""
    built(tmp_path / "index", [1], ["a"])
    content = json.loads((tmp_path / "index" / "manifest.json").read_text())
    numbers = {"documents": 0, "terms": 0, "postings": 0, "tokens": 0}
    write_manifest(
        tmp_path / "index", {**content, "statistics": {**numbers, "segments": []}, "files": {}}
    )
    index = Index.open(tmp_path / "index")
    assert len(index) == 0
    found = index.search(["a", "b"], 5)
    assert found.ids == [[], []]
    assert list(found) == [[], []]
    assert found.to_table(columns=["text"]).num_rows == 0
    assert index.get(1) is None
    assert index.knows(["a"]) == [False]
    assert index.frequent_terms() == []
    assert index.summary == numbers


# ---- the order of addition


def test_scores_are_float32_sums_by_weight_and_bytes(tmp_path: Path) -> None:
    """The largest weight first, equal ones in the order of the terms' bytes."""
    chance = random.Random(8)
    names = ["é", "z", "zz", "猫", "\U0001f40d", *(f"w{n}" for n in range(15))]
    documents = [" ".join(chance.choices(names, k=chance.randrange(1, 30))) for _ in range(200)]
    index = Index.open(built(tmp_path / "index", range(200), documents))
    counts = [Counter(text.split()) for text in documents]
    df = Counter(name for count in counts for name in count)
    mean = sum(count.total() for count in counts) / len(counts)
    orders = 0
    for _ in range(60):
        query = {name: chance.choice([0.7, 1.3, 2.1]) for name in chance.sample(names, 8)}
        weights = {
            name: np.float32(math.log1p((200 - df[name] + 0.5) / (df[name] + 0.5)) * weight)
            for name, weight in ((n, float(np.float32(w))) for n, w in query.items())
        }
        order = sorted(query, key=lambda name: (-weights[name], name.encode()))
        hits = index.search(query, 200)
        scores = dict(zip(hits.ids[0], hits.scores[0], strict=False))
        for row, count in enumerate(counts):
            factor = np.float32(1.2 * (0.25 + 0.75 * count.total() / mean))
            sums = []
            for names_in_order in (order, order[::-1]):
                total = np.float32(0)
                for name in names_in_order:
                    if tf := np.float32(count[name]):
                        total += weights[name] * (tf / (tf + factor))
                sums.append(total)
            assert scores.get(row, np.float32(0)) == sums[0]
            orders += sums[0] != sums[1]
    assert orders > 500


# ---- opening the next commit


def test_segments_are_shared_with_an_earlier_commit(tmp_path: Path) -> None:
    one = built(tmp_path / "one", range(6), ["a b", "b", "c", "a", "a c", "b b"])
    two = built(tmp_path / "two", range(6, 9), ["a b", "b", "zz"])
    combine(tmp_path / "before", [one], [[1]])
    combine(tmp_path / "after", [one, two], [[1, 3], []])
    before = Collection.open(tmp_path / "before")
    # another commit of the same folder: its new files and its manifest
    for file in (tmp_path / "after" / "data-000001").iterdir():
        if file.name != "segment-000001":
            target = tmp_path / "before" / "data-000001" / file.name
            target.unlink(missing_ok=True)
            shutil.copyfile(file, target)
    shutil.copyfile(tmp_path / "after" / "manifest.json", tmp_path / "before" / "manifest.json")
    after = Collection.open(tmp_path / "before", before)
    assert after.leaves[0].segment is before.leaves[0].segment
    assert (before.documents, after.documents) == (5, 7)
    assert before.leaves[0].live is not None
    assert before.leaves[0].live.tolist() == [1, 0, 1, 1, 1, 1]  # a reader keeps its commit
    assert after.leaves[0].live is not None
    assert after.leaves[0].live.tolist() == [1, 0, 1, 0, 1, 1]
    alone = Collection.open(tmp_path / "before")
    again = Collection.open(tmp_path / "before", after)
    assert again.leaves == after.leaves
    for collection in (after, again):
        found = Index(collection.folder.root, collection).search(QUERIES, 9)
        expected = Index(alone.folder.root, alone).search(QUERIES, 9)
        assert found.scores.tobytes() == expected.scores.tobytes()
        assert found.rows.tobytes() == expected.rows.tobytes()
    assert json.loads((tmp_path / "before" / "manifest.json").read_text())["crc32"] == after.commit


def test_other_deletions_of_an_equal_segment_are_not_shared(tmp_path: Path) -> None:
    """A folder that was removed and written again has the names of the one before."""
    one = built(tmp_path / "one", range(3), ["a", "a b", "a c"])
    combine(tmp_path / "index", [one], [[1]])
    before = Collection.open(tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    combine(tmp_path / "index", [one], [[2]])
    after = Collection.open(tmp_path / "index", before)
    assert after.leaves[0].segment is before.leaves[0].segment
    found = [Index(each.folder.root, each).search("a").rows[0, :2] for each in (before, after)]
    assert [sorted(rows.tolist()) for rows in found] == [[0, 2], [0, 1]]
