"""The positions of an index, by definition: built in any slices, and after any changes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rjieba
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Analyzer, Index, SettingsError
from fastseq.index import build as build_module
from fastseq.index import merging, segment_writer
from fastseq.index.collection import Collection
from fastseq.text.language import LUCENE
from fastseq.types import Texts
from tests.naive import inverted
from tests.naive import text as naive_text
from tests.naive import words as naive_words
from tests.naive.commits import as_version_1
from tests.positions import positions_of

Tokens = list[str | None]


def bars(text: str) -> list[str]:
    """A tokenizer of users."""
    return text.split("|")


def stopped(tokens: Callable[[str], list[str]], stem: str | None = None) -> Callable[[str], Tokens]:
    """Tokens without Lucene's stop words, stemmed."""
    stems = Stemmer.Stemmer(stem) if stem else None

    def split(text: str) -> Tokens:
        return [
            None if token in LUCENE else stems.stemWord(token) if stems else token
            for token in tokens(text)
        ]

    return split


def segmented(text: str) -> Tokens:
    """White space, and words of Chinese; 吃 and the are stop words."""
    found: Tokens = []
    for kind, run in naive_words.runs(naive_words.fold(text)):
        words = rjieba.cut(run) if kind == "han" else naive_words.tokens(run)
        found += [None if word in ("吃", "the") else word for word in words]
    return found


def longer(text: str) -> Tokens:
    """Words of three to five characters."""
    return [word if 3 <= len(word) <= 5 else None for word in naive_text.visible(text)]


# of each name the analyzer, and the tokens of a text column
ANALYZERS: dict[str, tuple[Analyzer, Callable[[str], Tokens]]] = {
    "space": (Analyzer(tokenizer="space"), naive_text.visible),
    "char": (Analyzer(tokenizer="char"), naive_text.characters),
    "word": (Analyzer(tokenizer="word"), naive_text.words_and_bigrams),
    "unicode": (Analyzer(), naive_words.tokens),
    "stopped": (Analyzer(stopwords="lucene"), stopped(naive_words.tokens)),
    "stemmed": (
        Analyzer(tokenizer="word", stopwords="lucene", stemmer="english"),
        stopped(naive_text.words_and_bigrams, "english"),
    ),
    "stopped characters": (
        Analyzer(tokenizer="char", stopwords=("a", "猫")),
        lambda text: [None if c in "a猫" else c for c in naive_text.characters(text)],
    ),
    "lengths": (Analyzer(tokenizer="space", min_length=3, max_length=5), longer),
    "segmented": (Analyzer(cjk="words", stopwords=("吃", "the")), segmented),
}  # fmt: skip
WORDS = [
    "the", "of", "cats", "Cat", "a", "I", "to", "running", "é", "3.14", "node.js", "don't", "—",
    "猫喜欢吃鱼", "猫", "abc猫犬def", "한국어", "ไทยก็", "longer", "x9|y",
]  # fmt: skip

some_text = st.one_of(
    st.none(),
    st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
    st.sampled_from(["cats " * 254 + "the", "cats the " * 255, "the " * 130 + "猫"]),
    st.sampled_from(["cats " * 14 + "the " * 15, "猫 " * 16]),
)


def naive(name: str, columns: Sequence[Sequence[str | None]]) -> inverted.Inverted:
    """The index of documents, each given by its text columns."""
    split = ANALYZERS[name][1]
    return inverted.invert_columns(
        [[list(split(text or "")) for text in document] for document in columns]
    )


def table_of(columns: Sequence[Sequence[str | None]]) -> pa.Table:
    """Columns c0, c1, … of texts, and an id."""
    named = {
        f"c{number}": pa.array(texts, pa.string())
        for number, texts in enumerate(zip(*columns, strict=True))
    }
    return pa.table({"id": range(len(columns)), **named})


def built(path: Path, name: str, columns: Sequence[Sequence[str | None]], **more: Any) -> Index:
    names = [f"c{number}" for number in range(len(columns[0]))]
    more = {"threads": 2, "text_columns": names, **more}
    return Index.build(table_of(columns), path, analyzer=ANALYZERS[name][0], **more)


def live_of(expected: inverted.Inverted) -> dict[str, list[tuple[int, list[int]]]]:
    """As `inverted.live`, of a new index."""
    return inverted.live([inverted.Segment(expected)])


def assert_read(index: Index, expected: inverted.Inverted) -> None:
    """The only segment gives these positions to a reader."""
    (leaf,) = index._collection.leaves
    assert expected.positions is not None
    for term, positions in enumerate(expected.positions):
        ends, found = positions_of(leaf.segment, term)
        assert np.split(found, ends[1:-1])[0].dtype == np.int32
        assert [part.tolist() for part in np.split(found, ends[1:-1])] == positions


# ---- by definition


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("name", sorted(ANALYZERS))
def test_positions_of_every_analyzer(tmp_path: Path, name: str, columns: int) -> None:
    chance = np.random.default_rng(columns)
    texts = [" ".join(chance.choice(WORDS, chance.integers(0, 9))) for _ in range(120)]
    texts[5] = "cats the " * 300 + "猫犬" * 200
    given = [[*texts[at : at + columns]] for at in range(0, 120, columns)]
    index = built(tmp_path / "index", name, given)
    expected = naive(name, given)
    assert inverted.read(tmp_path / "index") == expected
    assert_read(index, expected)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(ANALYZERS)), st.integers(1, 3), st.data())
def test_positions_of_random_corpora(name: str, columns: int, data: st.DataObject) -> None:
    document = st.lists(some_text, min_size=columns, max_size=columns)
    given = data.draw(st.lists(document, min_size=1, max_size=8))
    with tempfile.TemporaryDirectory() as folder:
        built(Path(folder) / "index", name, given)
        assert inverted.read(Path(folder) / "index") == naive(name, given)


def positions_in(index: Index, term: str) -> dict[int, list[int]]:
    """The positions of a term, by document."""
    (leaf,) = index._collection.leaves
    number = int(leaf.segment.lookup(Texts.from_strings([term]))[0])
    if number < 0:
        return {}
    ends, found = positions_of(leaf.segment, number)
    postings = leaf.segment.postings
    first, last = postings.term_posting[number : number + 2].tolist()
    parts = np.split(found, ends[1:-1])
    return dict(
        zip(postings.docs[first:last].tolist(), [part.tolist() for part in parts], strict=True)
    )


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({"stopwords": "lucene"}, "the state of the art", {"state": [1], "art": [4]}),
        ({}, "Tea, tea — and TEA!", {"tea": [0, 1, 3], "and": [2]}),
        ({}, "猫喜欢 abc 猫", {"猫喜": [0], "喜欢": [1], "abc": [2], "猫": [3]}),
        ({}, "ab한국어ab", {"ab": [0, 3], "한국": [1], "국어": [2]}),
        ({"tokenizer": "word"}, "a cat i saw", {"cat": [0], "saw": [1]}),  # which are no tokens
        ({"min_length": 2}, "a cat i saw", {"cat": [1], "saw": [3]}),
        ({"tokenizer": "char"}, "ab a", {"a": [0, 2], "b": [1]}),
        ({"tokenizer": bars}, "x|the y||x", {"x": [0, 2], "the y": [1]}),
        ({"tokenizer": bars, "stopwords": ("the y",)}, "x|the y||x", {"x": [0, 2], "the y": []}),
        ({"cjk": "words", "stopwords": ("吃",)}, "猫喜欢吃鱼", {"猫": [0], "喜欢": [1], "鱼": [3]}),
        ({"stemmer": "english"}, "cat running cats", {"cat": [0, 2], "run": [1]}),
    ],
)
def test_positions_by_hand(
    tmp_path: Path, settings: dict[str, Any], text: str, expected: dict[str, list[int]]
) -> None:
    index = Index.build([text], tmp_path / "index", analyzer=Analyzer(**settings))
    for term, positions in expected.items():
        assert positions_in(index, term) == ({0: positions} if positions else {})


def test_text_columns_are_100_positions_apart(tmp_path: Path) -> None:
    given = [["cat tea", "cat", None, "tea cat"], ["", None, "", "cat"], ["the", "cat", "a", "b"]]
    index = built(tmp_path / "index", "stopped", given)
    assert positions_in(index, "cat") == {0: [0, 102, 304], 1: [300], 2: [101]}
    assert positions_in(index, "tea") == {0: [1, 303]}


def test_a_function_has_one_text_of_all_columns(tmp_path: Path) -> None:
    seen: list[str] = []

    def split(text: str) -> list[str]:
        seen.append(text)
        return bars(text)

    table = pa.table({"a": ["x|y", None], "b": ["x", "y|y"]})
    index = Index.build(
        table, tmp_path / "index", analyzer=Analyzer(tokenizer=split), text_columns=["a", "b"]
    )
    assert seen == ["x|y x", " y|y"]
    assert positions_in(index, "x") == {0: [0]}
    assert positions_in(index, "y x") == {0: [1]}
    assert positions_in(index, " y") == {1: [0]}
    assert positions_in(index, "y") == {1: [1]}


@pytest.mark.parametrize("name", ["space", "char"])
def test_long_documents(tmp_path: Path, name: str) -> None:
    """More tokens than a window has documents, distances of three bytes, frequencies from 255."""
    given = [
        ["a " * 70_000 + "b", "b a"], ["b " + "a " * 20_000 + "b", None],
        ["c " * 254 + "b " * 255, "b " * 256], [("a " * 300 + "c ") * 100, "c"],
    ]  # fmt: skip
    index = built(tmp_path / "index", name, given)
    expected = naive(name, given)
    assert inverted.read(tmp_path / "index") == expected
    assert_read(index, expected)
    assert positions_in(index, "b")[0] == [70_000, 70_101]


# ---- without positions


@pytest.mark.parametrize(
    ("analyzer", "positions"),
    [
        (Analyzer(tokenizer="space", ngrams=(1, 2)), True),
        (Analyzer(char_ngrams=(2, 3)), True),
        (Analyzer(stopwords="lucene"), False),
    ],
)
def test_no_positions_of_ngrams_or_where_they_are_left_out(
    tmp_path: Path, analyzer: Analyzer, positions: bool
) -> None:
    table = pa.table({"id": range(3), "a": ["the cat sat", "猫", None], "b": ["on", "a mat", ""]})
    index = Index.build(
        table, tmp_path / "index", analyzer=analyzer, text_columns=["a", "b"], positions=positions
    )
    assert inverted.read(tmp_path / "index").positions is None
    assert index.info()["settings"]["positions"] is False
    (leaf,) = index._collection.leaves
    assert leaf.segment.positions is None
    index.add([{"id": 7, "a": "cat", "b": None}])
    index.compact()
    assert inverted.read(tmp_path / "index").positions is None


def test_positions_change_nothing_else(tmp_path: Path) -> None:
    given = [["the cats of cats", "猫喜欢吃鱼 a"], [None, "running of"], ["—", "cats 猫"]]
    for name in ANALYZERS:
        with_positions, without = (
            inverted.read(built(tmp_path / f"{name}{flag}", name, given, positions=flag).path)
            for flag in (True, False)
        )
        assert replace(with_positions, positions=None) == without


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_wrong_setting_is_rejected(tmp_path: Path, value: Any) -> None:
    with pytest.raises(SettingsError, match="positions"):
        Index.build(["cat"], tmp_path / "index", positions=value)
    assert not (tmp_path / "index").exists()


# ---- slices, spills and chunks


@pytest.fixture
def tiny_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of some kilobytes, spilled a few at a time, merged in chunks of some postings."""
    monkeypatch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
    monkeypatch.setattr(build_module, "_FIXED", 0)
    monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 10)
    monkeypatch.setattr(segment_writer, "SMALLEST_CHUNK", 50)


@pytest.mark.parametrize("name", ["stopped", "stemmed", "char", "segmented"])
def test_bytes_do_not_depend_on_memory_and_threads(
    tmp_path: Path, tiny_parts: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    chance = np.random.default_rng(6)
    given = [
        [" ".join(chance.choice(WORDS, chance.integers(0, 30))) for _ in range(2)]
        for _ in range(400)
    ]
    given[200] = ["cats the " * 3000, "猫犬" * 300]
    pq.write_table(table_of(given), tmp_path / "many.parquet", row_group_size=31)
    built(tmp_path / "whole", name, given, memory="1GB", threads=1)
    assert inverted.read(tmp_path / "whole") == naive(name, given)
    expected = (tmp_path / "whole" / "data-000001" / "segment-000001").read_bytes()
    monkeypatch.setattr(build_module, "_LARGEST_SLICE", 4 << 10)
    spilled = 0
    spill = build_module.SliceStore.spill

    def counted(self: build_module.SliceStore) -> None:
        nonlocal spilled
        spilled += 1
        spill(self)

    monkeypatch.setattr(build_module.SliceStore, "spill", counted)
    for memory, threads in ((10_000, 1), (20_000, 2), (60_000, 3), (1 << 30, 3)):
        path, spilled = tmp_path / f"{memory}", 0
        Index.build(
            tmp_path / "many.parquet", path, analyzer=ANALYZERS[name][0], memory=memory,
            threads=threads, text_columns=["c0", "c1"],
        )  # fmt: skip
        assert (path / "data-000001" / "segment-000001").read_bytes() == expected
        assert (spilled > 0) == (memory < 1 << 30)


def test_positions_across_windows(tmp_path: Path) -> None:
    count = inverted.WINDOW + 200
    given: list[list[str | None]] = [[f"w{n % 7} the w{n % 11}", None] for n in range(count)]
    for row in (inverted.WINDOW - 1, inverted.WINDOW, count - 1):
        given[row] = ["edge the edge " * 200, "w1 edge"]
    index = built(tmp_path / "index", "stopped", given, store=[], memory="16MB")
    split = stopped(naive_text.visible)
    expected = inverted.invert_columns(
        [[split(text or "") for text in document] for document in given]
    )
    assert inverted.read(tmp_path / "index") == expected
    index.delete([0, 5, inverted.WINDOW - 1])
    index.add([{"id": 0, "c0": "edge", "c1": "edge the edge"}])
    index.compact()
    rows = [row for row in range(count) if row not in (0, 5, inverted.WINDOW - 1)]
    left = inverted.invert_columns(
        [[split(text or "") for text in given[row]] for row in rows]
        + [[["edge"], ["edge", None, "edge"]]]
    )
    assert inverted.live(inverted.read_segments(index.path)) == live_of(left)


# ---- changes


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(ANALYZERS)), st.data())
def test_positions_after_changes(name: str, data: st.DataObject) -> None:
    """Those of the live documents, in the order of their last addition, are those of a new index.

    Segments are merged in chunks of a few postings.
    """
    document = st.lists(some_text, min_size=2, max_size=2)
    ids = st.integers(0, 9)
    some = st.dictionaries(ids, document, min_size=1, max_size=4)
    changes = st.one_of(
        some, some, st.sets(ids, min_size=1, max_size=4), st.sampled_from(["compact", "reopen"])
    )
    documents: dict[int, list[str | None]] = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
        patch.setattr(build_module, "_FIXED", 0)
        patch.setattr(segment_writer, "SMALLEST_CHUNK", 3)
        patch.setattr(merging, "FACTOR", 3)
        patch.setattr(merging, "SMALLEST", 1)
        path = Path(folder) / "index"
        for number, change in enumerate(
            [data.draw(some), *data.draw(st.lists(changes, max_size=6))]
        ):
            if isinstance(change, dict):
                for id in change:
                    documents.pop(id, None)
                documents.update(change)
            elif isinstance(change, set):
                for id in change:
                    documents.pop(id, None)
            if number == 0:
                table = table_of([*documents.values()]).set_column(0, "id", [[*documents]])
                index = Index.build(
                    table, path, analyzer=ANALYZERS[name][0], text_columns=["c0", "c1"]
                )
            elif isinstance(change, dict):
                index.add(
                    [{"id": id, "c0": c[0], "c1": c[1]} for id, c in change.items()],
                    memory=data.draw(st.sampled_from([1 << 10, 1 << 30])),
                )
            elif isinstance(change, set):
                index.delete([*change])
            elif change == "compact":
                index.compact(memory=1 << 10)
            else:
                index = Index.open(path)
            segments = inverted.read_segments(path)
            expected = naive(name, [*documents.values()])
            assert inverted.live(segments) == live_of(expected)
        if documents:
            index.compact()
            assert inverted.live([inverted.Segment(inverted.read(path))]) == live_of(expected)


def test_many_segments_are_merged_with_their_positions(tmp_path: Path, tiny_parts: None) -> None:
    """Of several blocks of postings, with deleted documents, in small chunks and in one."""
    chance = np.random.default_rng(9)
    texts = [
        " ".join(f"w{n}" for n in chance.integers(0, 30, chance.integers(0, 60)))
        for _ in range(600)
    ]
    texts[77] = "w3 " * 300
    expected = None
    for memory in (1 << 10, 1 << 30):
        path = tmp_path / f"{memory}"
        index = Index.build(
            pa.table({"id": range(100), "text": texts[:100]}), path,
            analyzer=Analyzer(tokenizer="space"),
        )  # fmt: skip
        for first in range(100, 600, 50):
            rows = [{"id": n, "text": texts[n]} for n in range(first, first + 50)]
            index.add(rows, memory=memory)
        index.delete([*range(0, 600, 5)])
        index.add([{"id": 10, "text": "w1 w2 w1"}])
        assert len(index._collection.leaves) < 10
        left = [texts[n] for n in range(600) if n % 5] + ["w1 w2 w1"]
        fresh = live_of(inverted.invert_columns([[text.split()] for text in left]))
        assert inverted.live(inverted.read_segments(path)) == fresh
        index.compact(memory=memory)
        found = inverted.read_segments(path)
        assert inverted.live(found) == fresh
        expected = expected or found
        assert found == expected


def test_an_index_of_version_1_has_none_after_changes(tmp_path: Path) -> None:
    given = [["cat tea"], ["tea"]]
    built(tmp_path / "new", "space", given)
    as_version_1(tmp_path / "new", tmp_path / "old")
    index = Index.open(tmp_path / "old")
    assert index._collection.leaves[0].segment.positions is None
    index.add([{"id": 7, "c0": "cat"}])
    for segment in inverted.read_segments(tmp_path / "old"):
        assert segment.inverted.positions is None
    assert Collection.open(tmp_path / "old").leaves[-1].segment.positions is None
