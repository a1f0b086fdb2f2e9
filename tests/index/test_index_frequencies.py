"""Segments whose term frequencies take a byte or half a byte: built, merged, searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import BM25, TFIDF, Analyzer, BoW, Index
from fastseq.index import build as build_module
from fastseq.index import segment_writer
from fastseq.store.folder import verify
from tests.naive import inverted
from tests.naive.commits import as_version_1
from tests.positions import positions_of

SPACE = Analyzer(tokenizer="space")
COUNTS = [13, 14, 15, 16, 17, 254, 255, 256, 700, 70_000]
MODELS = [BM25(), BM25(variant="bm25l"), TFIDF("Lnn.atc"), BoW(cosine=True)]
QUERIES = ["w1", "w2 often", "often w0 w5 never", {"w3": -1.0, "often": 2.0}, "all"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def few_large(count: int, seed: int = 0) -> list[str]:
    """Texts with some large frequencies."""
    chance = np.random.default_rng(seed)
    texts = [" ".join(f"w{n}" for n in chance.integers(0, 40, 9)) + " all" for _ in range(count)]
    for place, often in zip(chance.integers(0, count, len(COUNTS)), COUNTS, strict=True):
        texts[place] += " often" * often + f" w{place % 5}" * (often % 300)
    return texts


def many_large(count: int, seed: int = 0) -> list[str]:
    """Texts of which every word is there many times."""
    chance = np.random.default_rng(seed)
    return [" ".join([f"all w{n}"] * int(chance.choice(COUNTS[:-2]))) for n in range(count)]


def table_of(texts: Sequence[str], first: int = 0) -> pa.Table:
    return pa.table({"id": range(first, first + len(texts)), "text": texts})


def built(path: Path, texts: Sequence[str], **more: Any) -> Index:
    return Index.build(table_of(texts), path, analyzer=SPACE, **{"threads": 2, **more})


def naive(texts: Sequence[str]) -> inverted.Inverted:
    return inverted.invert_columns([[text.split()] for text in texts])


def forms(index: Index) -> list[int]:
    """Of each segment whether its frequencies are packed."""
    return [leaf.segment.postings.packed for leaf in index._collection.leaves]


def assert_equal(index: Index, texts: dict[int, str]) -> None:
    """The index has the postings, positions and hits of a new index of documents by their id."""
    left = [texts[id] for id in texts]
    live = inverted.live([inverted.Segment(naive(left))])
    assert inverted.live(inverted.read_segments(index.path)) == live
    fresh = Index.build(
        pa.table({"id": [*texts], "text": left}), index.path.with_name("fresh"), analyzer=SPACE,
        overwrite=True,
    )  # fmt: skip
    for model in MODELS:
        found, expected = (each.search(QUERIES, 1000, model) for each in (index, fresh))
        assert found.ids == expected.ids
        assert found.scores.tobytes() == expected.scores.tobytes()
    assert verify(index.path) == []


@pytest.mark.parametrize("texts", [few_large, many_large])
def test_both_forms(tmp_path: Path, texts: Any) -> None:
    given = texts(300)
    index = built(tmp_path / "index", given)
    expected = naive(given)
    assert inverted.read(tmp_path / "index") == expected
    assert forms(index) == [int(inverted.is_packed(inverted.frequencies(expected)))]
    assert forms(index) == [int(texts is few_large)]
    assert_equal(index, dict(enumerate(given)))
    segment = index._collection.leaves[0].segment
    assert expected.positions is not None
    for term, positions in enumerate(expected.positions):
        ends, found = positions_of(segment, term)
        assert [part.tolist() for part in np.split(found, ends[1:-1])] == positions


@pytest.mark.parametrize("texts", [few_large, many_large])
def test_bytes_do_not_depend_on_chunks_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: Any
) -> None:
    """Chunks begin at odd postings too."""
    given = texts(150)
    path = built(tmp_path / "whole", given, threads=1).path
    expected = (path / "data-000001" / "segment-000001").read_bytes()
    monkeypatch.setattr(segment_writer, "SMALLEST_CHUNK", 1)
    monkeypatch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
    monkeypatch.setattr(build_module, "_FIXED", 0)
    monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 9)
    for memory, threads in ((10, 1), (3000, 2), (1 << 30, 3)):
        path = built(tmp_path / f"{memory}", given, memory=memory, threads=threads).path
        assert (path / "data-000001" / "segment-000001").read_bytes() == expected


def test_fields_of_both_forms(tmp_path: Path) -> None:
    table = pa.table({"id": range(60), "a": few_large(60), "b": many_large(60)})
    index = Index.build(
        table, tmp_path / "index", analyzer=SPACE, text_columns=["a"], fields=["b", "a"]
    )
    (leaf,) = index._collection.leaves
    packed = {name: one.postings.packed for name, one in leaf.segment.fields.items()}
    assert packed == {"a": 1, "b": 0}
    index.add([{"id": n, "a": "all often", "b": "x y z"} for n in range(50, 80)])
    index.compact()
    (found,) = inverted.read_segments(tmp_path / "index")
    rest = [*range(50), *range(50, 80)]
    for name, column in (("a", few_large(60)), ("b", many_large(60))):
        texts = [column[n] if n < 50 else ("all often", "x y z")[name == "b"] for n in rest]
        live = inverted.live([inverted.Segment(naive(texts))])
        assert inverted.live([found], name) == live


# ---- merges


@pytest.mark.parametrize("order", [(few_large, many_large), (many_large, few_large)])
def test_segments_of_both_forms_are_merged(tmp_path: Path, order: Any) -> None:
    first, second = order[0](200), order[1](200, 1)
    index = built(tmp_path / "index", first)
    index.add(table_of(second, 150))
    assert forms(index) == [int(texts is few_large) for texts in order]
    texts = {**dict(enumerate(first[:150])), **dict(enumerate(second, 150))}
    assert_equal(index, texts)
    gone = [*range(0, 350, 7)]
    index.delete(gone)
    texts = {id: text for id, text in texts.items() if id not in gone}
    assert_equal(index, texts)
    index.compact(threads=2)
    assert len(forms(index)) == 1
    assert_equal(index, texts)


@pytest.mark.parametrize(
    ("doomed", "left", "forms_before_and_after"),
    [(many_large(150), few_large(200), [0, 1]), (few_large(400), many_large(60), [1, 0])],
    ids=["to packed", "to bytes"],
)
def test_deletions_change_the_form(
    tmp_path: Path, doomed: list[str], left: list[str], forms_before_and_after: list[int]
) -> None:
    """Frequencies of deleted documents do not count."""
    index = built(tmp_path / "index", [*doomed, *left])
    seen = forms(index)
    index.delete([*range(len(doomed))])
    index.compact()
    assert [*seen, *forms(index)] == forms_before_and_after
    assert_equal(index, dict(enumerate(left, len(doomed))))


def test_format_1_has_bytes_and_is_packed_by_its_first_change(tmp_path: Path) -> None:
    given = few_large(100)
    built(tmp_path / "new", given)
    as_version_1(tmp_path / "new", tmp_path / "old")
    index = Index.open(tmp_path / "old")
    assert forms(index) == [0]
    files = {path.name for path in (tmp_path / "old" / "data-000001").iterdir()}
    assert "posting_tfs" in files
    assert "posting_tfs4" not in files
    new = Index.open(tmp_path / "new")
    assert forms(new) == [1]
    for model in MODELS:
        hits = [each.search(QUERIES, 50, model) for each in (index, new)]
        assert hits[0].ids == hits[1].ids
        assert hits[0].scores.tobytes() == hits[1].scores.tobytes()
    index.add([{"id": 100, "text": "often"}])
    assert forms(index)[0] == 1
    found = inverted.live(inverted.read_segments(tmp_path / "old"))
    expected = inverted.live([inverted.Segment(naive([*given, "often"]))])
    assert {term: [row for row, _ in rows] for term, rows in found.items()} == {
        term: [row for row, _ in rows] for term, rows in expected.items()
    }
