"""Search by the vectors of documents, and its fusion with that of words."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import DataError, FormatError, Hits, Index, SettingsError, TextEncoder
from fastseq.index import dense as building
from fastseq.index.dense import stored_dtype
from fastseq.search import dense as searching
from fastseq.store.folder import read_manifest
from fastseq.store.rows import Corpus
from tests.bert_checkpoints import CONFIG, weights_of, write_checkpoint
from tests.naive import vector_search as naive

SIZE = 20
WORDS = [f"w{number}" for number in range(12)]
MEANINGS = dict(zip(WORDS, np.random.default_rng(1).normal(size=(12, SIZE)), strict=True))


def encode(texts: Sequence[str]) -> np.ndarray:
    """The sum of the vectors of the words of each text."""
    found = [np.sum([MEANINGS[word] for word in text.split()] or [np.zeros(SIZE)], 0)
             for text in texts]  # fmt: skip
    return np.array(found, np.float32).reshape(len(texts), SIZE)


def other(texts: Sequence[str]) -> np.ndarray:
    return encode(texts)[:, :SIZE]


def table(vectors: Mapping[int, Any], **columns: Any) -> pa.Table:
    """Documents with vectors; a null is a document without."""
    own = [None if each is None else list(map(float, each)) for each in vectors.values()]
    ids = list(vectors)
    return pa.table({
        "id": ids, "text": [" ".join(WORDS[id % 5 : id % 7]) for id in ids],
        "v": pa.array(own, pa.list_(pa.float32())), "even": [id % 2 == 0 for id in ids], **columns,
    })  # fmt: skip


def some_vectors(ids: Sequence[int], seed: int = 0) -> dict[int, Any]:
    """Random vectors, of which some are null, of zeros, or equal to another's."""
    rng, found = np.random.default_rng(seed), dict[int, Any]()
    for id in ids:
        vector: Any = rng.normal(size=SIZE).astype(np.float32)
        if rng.random() < 0.1:
            vector = None if rng.random() < 0.5 else np.zeros(SIZE, np.float32)
        elif found and rng.random() < 0.2:
            vector = found[rng.choice(list(found))]
        found[id] = vector
    return found


def built(vectors: Mapping[int, Any], path: Path, **settings: Any) -> Index:
    return Index.build(table(vectors), path, dense_column="v", threads=1, **settings)


def pairs(hits: Hits, number: int = 0) -> list[tuple[Any, float]]:
    return list(zip(hits.ids[number], hits.scores[number].tolist(), strict=False))


def bits(hits: Hits) -> list[Any]:
    return [pairs(hits, number) for number in range(len(hits))]


def assert_ranked(
    hits: Sequence[tuple[Any, float]], ranked: Sequence[tuple[Any, float]], k: int, error: float
) -> None:
    """The hits are the k best, but for the order of those whose scores differ by a rounding
    error."""
    assert len(hits) == min(k, len(ranked))
    expected = dict(ranked)
    for (id, score), (_, best) in zip(hits, ranked, strict=False):
        assert score == pytest.approx(best, abs=error)
        assert score == pytest.approx(expected[id], abs=error)
    assert len({id for id, _ in hits}) == len(hits)


QUERIES = np.random.default_rng(9).normal(size=(70, SIZE)).astype(np.float32)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("float16", 2e-3), ("int8", 1e-6)])
def test_hits_are_those_of_the_definition(
    tmp_path: Path, dtype: str, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of random documents in several segments, with deletions and filters, at every depth; and with
    the bits of a new index, on any number of threads."""
    monkeypatch.setattr(searching, "_SMALL", 1)  # threads for small indexes too
    monkeypatch.setattr(building, "_HELD", 1000)
    monkeypatch.setattr(searching, "WORD_INSTRUCTIONS", {"bytes"})  # codes for many queries too
    monkeypatch.setattr(searching, "_CANDIDATES", 2)
    monkeypatch.setattr(searching, "_LEAST_CANDIDATES", 3)
    choose = random.Random(3)
    documents = some_vectors(range(300))
    index = built(documents, tmp_path / "index", dense_dtype=dtype)
    for step in range(3):
        added = some_vectors([choose.randrange(1000) for _ in range(60)], step + 1)
        index.add(table(added))
        for id, vector in added.items():
            documents.pop(id, None)
            documents[id] = vector
        gone = choose.sample(list(documents), 40)
        index.delete(gone)
        for id in gone:
            del documents[id]
    assert len(index._collection.leaves) > 1
    fresh = built(documents, tmp_path / "fresh", dense_dtype=dtype, reorder=True)
    assert len(fresh._collection.leaves) == 1
    rare = [id for id in documents if id % 25 == 0]
    for condition, chosen in [
        (None, documents), ("even", {i: v for i, v in documents.items() if i % 2 == 0}),
        (f"id in ({', '.join(map(str, rare))})", {i: documents[i] for i in rare}),
        ("id < 0", {}),
    ]:  # fmt: skip
        for k in (1, 10, 1000):
            found = index.search_dense(QUERIES, k, filter=condition, threads=1)
            for q in range(0, len(QUERIES), 23):
                assert_ranked(pairs(found, q), naive.ranked(chosen, QUERIES[q]), k, error)
                alone = index.search_dense(QUERIES[q : q + 1], k, filter=condition, threads=1)
                assert pairs(alone) == pairs(found, q)
            for one, threads in ((index, 3), (fresh, 1), (fresh, 2)):
                same = one.search_dense(QUERIES, k, filter=condition, threads=threads)
                assert bits(same) == bits(found)
    before = bits(index.search_dense(QUERIES, 50))
    index.compact(reorder=True)
    assert bits(index.search_dense(QUERIES, 50)) == before
    segment = index._collection.leaves[0].segment.vectors
    assert segment is not None
    assert segment.raw.dtype == stored_dtype(dtype)
    assert (segment.codes is not None) == (dtype == "int8")
    assert index.info()["format_version"] == 6
    assert index.dense == {"size": SIZE, "dtype": dtype, "column": "v"}


def test_equal_scores_have_the_order_of_documents(tmp_path: Path) -> None:
    """Also where more documents are equal than a buffer holds."""
    vectors = {id: [1.0, 0.0, 0.0] if id % 3 else [0.0, 2.0, 0.0] for id in range(500)}
    index = built(vectors, tmp_path / "index")
    index.add(table({id: [3.0, 0.0, 0.0] for id in (900, 4)}))
    found = index.search_dense(np.array([[5.0, 0, 0]]), 400)
    first = [id for id in range(500) if id % 3 and id != 4] + [900, 4]
    assert found.ids[0][: len(first)] == first
    assert found.scores[0][: len(first)].tolist() == [1.0] * len(first)
    assert found.ids[0][len(first) :] == list(range(0, 500, 3))[: 400 - len(first)]
    # the cosine of a negative product, and of a query without a vector
    assert index.search_dense(np.array([[-1.0, 0, 0], [0, 0, 0]]), 500).scores[0][-1] == -1.0
    assert index.search_dense(np.array([[0.0, 0, 0]]), 5).ids == [[]]
    assert index.search_dense(np.empty((0, 3)), 5).ids == []


def test_the_bytes_do_not_depend_on_threads_or_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content(name: str, **settings: Any) -> list[bytes]:
        corpus = pa.table({"text": ["w1 w2", None, "w3", ""] * 500})
        Index.build(corpus, tmp_path / name, dense=encode, **settings)
        return [file.read_bytes() for file in sorted((tmp_path / name).rglob("segment*"))]

    first = content("a", threads=1)
    monkeypatch.setattr(building, "_HELD", 100)
    assert content("b", threads=3, memory="60MB") == first
    with_others = pa.table({"text": ["w1"], "v": [[1.0, 2.0]]})
    Index.build(with_others, tmp_path / "plain", store=[])
    assert read_manifest(tmp_path / "plain").format_version == 3


def test_texts_are_encoded_as_they_are_indexed(tmp_path: Path) -> None:
    """Of several text columns joined, without the fields that are no part of the text."""
    seen: list[str] = []

    def encoder(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return encode([" ".join(w for w in text.split() if w in MEANINGS) for text in texts])

    corpus = pa.table({"a": ["w1", None, "w2"], "b": ["w3", "w4", None], "t": ["x", "y", "z"]})
    Index.build(corpus, tmp_path / "i", text_columns=["a", "b"], fields=["t", "a"], dense=encoder)
    assert [text.split() for text in seen] == [["w1", "w3"], ["w4"], ["w2"]]
    seen.clear()
    index = Index.build(corpus, tmp_path / "j", fields=["b"], text_columns="b", dense=encoder,
                        positions=False)  # fmt: skip
    assert [text.split() for text in seen] == [["w3"], ["w4"], []]
    assert index.search_dense("w4", encoder=encoder).ids == [[1, 0]]


def test_an_index_of_an_encoder_changes(tmp_path: Path) -> None:
    rows = [{"id": id, "text": f"{WORDS[id % 12]} {WORDS[id % 11]}"} for id in range(40)]
    index = Index.build(rows, tmp_path / "index", dense=encode)
    with pytest.raises(SettingsError, match=r"vectors of the model .*encode: give it, dense=…"):
        index.add(rows[:1])
    with pytest.raises(SettingsError, match=r"of the model .*\.encode, but this is .*\.other"):
        index.add(rows[:1], dense=other)
    index.delete([3])
    assert index.add([{"id": 50, "text": "w3"}, *rows[5:9]], dense=encode)["replaced"] == 4
    index.compact()
    texts = {row["id"]: row["text"] for row in rows if row["id"] != 3}
    for id in (5, 6, 7, 8):
        texts[id] = texts.pop(id)
    texts = {**{id: text for id, text in texts.items() if id not in (5, 6, 7, 8)}, 50: "w3",
             **{id: texts[id] for id in (5, 6, 7, 8)}}  # fmt: skip
    vectors = dict(zip(texts, encode(list(texts.values())), strict=True))
    for query in ("w3", "w1 w2"):
        hits = pairs(index.search_dense(query, 100, encoder=encode))
        assert_ranked(hits, naive.ranked(vectors, encode([query])[0]), 100, 1e-6)
    assert index.search_dense("", encoder=encode).ids == [[]]
    hits = index.search_dense("w3", encoder=encode)
    assert hits.snippets()[0].text
    with pytest.raises(SettingsError, match="explain is for the hits of a search of words alone"):
        hits.explain()
    with index.writer(dense=encode) as writer:
        writer.add([{"id": 60, "text": "w4"}])
        writer.add([{"id": 61, "text": "w4"}])
        writer.delete(60)
    assert index.search_dense("w4", 1, encoder=encode, filter="id > 55").ids == [[61]]


@pytest.mark.parametrize("weight", [0.5, 0.2, 1.0, 0.0])
def test_hybrid(tmp_path: Path, weight: float) -> None:
    rng = random.Random(4)
    rows = [{"id": id, "text": " ".join(rng.choices(WORDS, k=rng.randrange(5)))}
            for id in range(90)]  # fmt: skip
    index = Index.build(rows[:60], tmp_path / "index", dense=encode)
    index.add(rows[60:], dense=encode)
    queries = ["w1 w2", "w3", "w5 w6 w7", ""]
    for k, depth in ((5, 12), (30, 10)):
        asked: dict[str, Any] = {"k": max(k, depth), "filter": "id != 7"}
        near = index.search_dense(queries, encoder=encode, **asked)
        words = index.search(queries, operator="and", **asked)
        for fusion, fuse in (("rrf", naive.reciprocal_ranks), ("sum", naive.scaled_sum)):
            hits = index.search_hybrid(
                queries, k, encoder=encode, fusion=fusion, weight=weight, depth=depth,
                filter="id != 7", operator="and",
            )  # fmt: skip
            for q in range(len(queries)):
                expected = fuse(pairs(near, q), pairs(words, q), weight)
                ranked = sorted(expected.items(), key=lambda hit: -hit[1])
                assert_ranked(pairs(hits, q), ranked, k, 1e-6)
            vectors = index.search_hybrid(
                queries, k, vectors=encode(queries), fusion=fusion, weight=weight, depth=depth,
                filter="id != 7", operator="and",
            )  # fmt: skip
            assert bits(vectors) == bits(hits)


def test_equal_fused_scores_have_the_order_of_documents() -> None:
    rows = np.array([[7, 3, -1]], np.int32), np.array([[3, 7, -1]], np.int32)
    scores = np.array([[2.0, 1.0, 0.0]], np.float32)
    for fusion in searching.FUSIONS:
        found = searching.fused([(each, scores) for each in rows], 3, fusion, 0.5)
        assert found[0].tolist() == [[3, 7, -1]]
        assert found[1][0, 0] == found[1][0, 1] > found[1][0, 2] == 0


def test_a_checkpoint(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """The model is known by its weights, wherever the folder is; prompts are the checkpoint's."""
    prompts = {"query": "the ", "passage": "a "}
    write_checkpoint(tmp_path / "one", pooling="mean", limit=8, prompts=prompts)
    write_checkpoint(tmp_path / "same", pooling="mean", limit=8, prompts=prompts)
    write_checkpoint(tmp_path / "two", weights=weights_of(CONFIG, 1), pooling="mean")
    write_checkpoint(tmp_path / "cls", pooling="cls")
    one, same, two, cls = (
        TextEncoder.load(tmp_path / name) for name in ("one", "same", "two", "cls")
    )
    texts = ["cat sat", "dog", None, "dog ran on the mat . the cat"]
    index = Index.build(pa.table({"id": [1, 2, 3, 4], "text": texts}), tmp_path / "i", dense=one)
    assert sorted(str(warning.message) for warning in recwarn) == [
        "1 text of 4 with more than 8 tokens was truncated", "1 text of 4 without a token"
    ]  # fmt: skip
    assert index.dense == {
        "size": 24, "dtype": "float32", "model": str(tmp_path / "one"), "digest": one.digest
    }  # fmt: skip
    hits = index.search_dense("cat", encoder=same)
    own = one.encode([text or "" for text in texts], prompt="a ")
    documents = dict(zip([1, 2, 3, 4], own, strict=True))
    assert_ranked(pairs(hits), naive.ranked(documents, one.encode("the cat")), 10, 1e-5)
    for wrong in (two, cls):
        with pytest.raises(SettingsError, match=r"one \(digest .*\), but this is .*\(digest"):
            index.search_dense("cat", encoder=wrong)
        with pytest.raises(SettingsError, match=r"one \(digest .*\), but this is .*\(digest"):
            index.add([{"id": 9, "text": "cat"}], dense=wrong)
    index.add([{"id": 9, "text": "dog sat"}], dense=same)
    assert len(index) == 5


def test_wrong_input(tmp_path: Path) -> None:
    vectors = {1: [1.0, 2.0], 2: None, 3: [0.5, 1.0]}
    index = built(vectors, tmp_path / "index")
    plain = Index.build(table(vectors), tmp_path / "plain")
    v = np.ones((1, 2), np.float32)
    for wrong, match in [
        (lambda: plain.search_dense(v), "has no vectors: build it with dense=…"),
        (lambda: plain.search_hybrid("w1", encoder=encode), "has no vectors"),
        (lambda: plain.add(table({9: [1, 2]}), dense=encode), "has no vectors"),
        (lambda: index.search_dense("w1"), "queries that are texts need encoder=…"),
        (lambda: index.search_dense("w1", encoder=encode), "20 numbers, but those .* have 2"),
        (lambda: index.search_dense(v, encoder=encode), "need no encoder"),
        (lambda: index.search_dense(np.ones((1, 3))), r"of shape \[n, 2\]"),
        (lambda: index.search_dense(np.array([["a", "b"]])), r"of shape \[n, 2\]"),
        (lambda: index.search_dense(v, 0), "k must be"),
        (lambda: index.search_dense(5), "queries must be"),
        (lambda: index.search_dense("w1", encoder=5), "an encoder must be"),
        (lambda: index.search_dense("w1", encoder="m"), "'m' is a path: load the encoder"),
        (lambda: Index.build(["w1"], tmp_path / "x", dense=tmp_path), "is a path: load"),
        (lambda: index.search_hybrid("w1", 10**20, vectors=v), "does not fit in memory"),
        (lambda: index.add(table({9: [1, 2]}), dense=encode), "it needs no encoder"),
        (lambda: index.search_hybrid("w1", vectors=v, fusion="max"), "fusion is 'max'"),
        (lambda: index.search_hybrid("w1", vectors=v, weight=2), "weight must be"),
        (lambda: index.search_hybrid("w1", vectors=v, sort="id"), "'sort'"),
        (lambda: index.search_hybrid(["w1", "w2"], vectors=v), "1 vectors for 2 queries"),
        (lambda: built(vectors, tmp_path / "x", dense_dtype="int4"), "dense_dtype is 'int4'"),
        (lambda: built(vectors, tmp_path / "x", dense=encode), "cannot be combined"),
    ]:  # fmt: skip
        with pytest.raises(SettingsError, match=match):
            wrong()
    for broken, match in [
        ({1: [1.0], 2: [1.0, 2.0]}, "has 2 numbers, expected 1"),
        ({1: None, 2: []}, "every vector is null or empty"),
        ({1: [1.0, np.inf]}, "not finite"),
        ({1: [1.0, np.nan]}, "not finite"),
    ]:
        with pytest.raises(DataError, match=match):
            built(broken, tmp_path / "x")
    nulls = table({1: [1.0]}).set_column(2, "v", pa.array([[None]], pa.list_(pa.float32())))
    for column, match in [("text", "expected lists of numbers"), ("none", "no column 'none'")]:
        with pytest.raises(DataError, match=match):
            Index.build(nulls, tmp_path / "x", dense_column=column)
    with pytest.raises(DataError, match="'v' has a null"):
        Index.build(nulls, tmp_path / "x", dense_column="v")
    with pytest.raises(DataError, match="has 3 numbers, expected 2"):
        index.add(table({9: [1.0, 2.0, 3.0]}))
    with pytest.raises(DataError, match="'v'"):
        index.add([{"id": 9, "text": "w1"}])
    with pytest.raises(DataError, match=r"query 1 .* not finite"):
        index.search_dense(np.array([[1, 1], [np.nan, 1]]))
    with pytest.raises(DataError, match=r"returned an array of shape \(1,\) for 1 documents"):
        Index.build(["w1"], tmp_path / "x", dense=lambda texts: np.ones(len(texts)))
    with pytest.raises(DataError, match="returned a list that is not an array of numbers for 1 "):
        Index.build(["w1"], tmp_path / "x", dense=lambda texts: [["a"]] * len(texts))
    with pytest.raises(DataError, match="not finite"):
        Index.build(["w1"], tmp_path / "x", dense=lambda texts: np.full((len(texts), 2), np.nan))
    assert not (tmp_path / "x").exists()


def test_vectors_of_any_list_type(tmp_path: Path) -> None:
    vectors = [[1, 2], None, [3, -1]]
    expected = None
    for kind in (
        pa.list_(pa.float64()), pa.large_list(pa.int8()), pa.list_(pa.float16(), 2),
        pa.list_view(pa.float32()),
    ):  # fmt: skip
        column = pa.array(vectors, pa.list_(pa.int8())).cast(pa.list_(pa.float64()))
        if pa.types.is_fixed_size_list(kind):
            column = pa.array([None if v is None else np.float16(v) for v in vectors], kind)
        else:
            column = pa.array(vectors, kind)
        corpus = pa.table({"id": [1, 2, 3], "text": ["", "", ""], "v": column})
        index = Index.build(corpus, tmp_path / "i", dense_column="v", overwrite=True)
        found = bits(index.search_dense(np.array([[1.0, 0.5]])))
        assert [id for id, _ in found[0]] == [1, 3]
        expected = expected or found
        assert found == expected
    assert "v" not in index.get(1)
    stored = Index.build(corpus, tmp_path / "j", dense_column="v", store=["v"])
    assert stored.get(3)["v"] == [3.0, -1.0]
    stored.add(corpus.slice(2))
    assert stored.get(3)["v"] == [3.0, -1.0]


def test_memory_is_of_the_vectors_that_are_there(tmp_path: Path) -> None:
    rows, size = 60_000, 512  # 123 MB
    column = pa.array([*[None] * 200, [1.0] * size, *[None] * (rows - 201)], pa.list_(pa.float32()))
    corpus = Corpus.open(pa.table({"text": ["w"] * rows, "v": column}), store=(), vectors="v")
    build = building.dense_build(None, "v", "float32")
    assert build is not None
    builder = building.VectorBuilder(build, lambda: tmp_path / "spill")
    tracemalloc.start()
    for batch in corpus.batches(1 << 30):
        assert batch.rows == rows
        builder.append(batch, lambda: pytest.fail("texts"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 << 20
    assert (builder.rows, builder.size) == (rows, size)
    missing = np.concatenate(builder._missing)
    np.testing.assert_array_equal(missing, np.delete(np.arange(rows), 200))
    assert (tmp_path / "spill").stat().st_size + builder._held == rows * size * 4
    builder.close()


def test_damage_is_an_error(tmp_path: Path) -> None:
    built({id: [id + 1.0, 1.0] for id in range(3000)}, tmp_path / "index")
    (file,) = (tmp_path / "index").rglob("segment*")
    raw = bytearray(file.read_bytes())
    vectors = Index.open(tmp_path / "index")._collection.leaves[0].segment.vectors
    assert vectors is not None
    at = raw.find(vectors.raw[2500:2510].tobytes())
    assert at > 0
    raw[at] ^= 1
    file.write_bytes(raw)
    index = Index.open(tmp_path / "index")
    assert len(index.search("w1")) == 1
    index.delete(5)
    with pytest.raises(FormatError, match="the checksum of vectors is wrong"):
        index.search_dense(np.ones((1, 2)))
    with pytest.raises(FormatError, match="the checksum of vectors is wrong"):
        index.compact()
