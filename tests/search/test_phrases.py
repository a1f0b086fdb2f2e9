"""Lists of documents with a phrase or with words near each other: of indexes with positions and
without, of fields, of several segments with deleted documents."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Analyzer, DataError, FormatError, Index
from fastseq.index.collection import Leaf
from fastseq.search import phrases
from fastseq.types import Texts
from tests.naive import phrase_lists as naive

STOP = ["of", "x"]
SPACE = Analyzer(tokenizer="space", stopwords=STOP)
GAP = [None] * 100  # between text columns
WORDS = ["a", "b", "c", "dd", *STOP]


def tokens(*texts: str | None) -> list[str | None]:
    """The tokens of the text columns of a document."""
    found: list[str | None] = []
    for text in texts:
        found += [None if word in STOP else word for word in (text or "").split()] + GAP
    return found


Found = dict[Any, float]
Rows = Sequence[tuple[str | None, str | None]]  # titles and bodies


def table(rows: Rows, first: int) -> pa.Table:
    titles, bodies = zip(*rows, strict=True)
    ids = range(first, first + len(rows))
    return pa.table({
        "id": pa.array(ids, pa.int64()), "title": pa.array(titles, pa.string()),
        "body": pa.array(bodies, pa.string()),
    })  # fmt: skip


@contextmanager
def indexed(rows: Rows, cuts: Sequence[int], deleted: set[int], **options: Any) -> Iterator[Index]:
    """An index of some segments; an id is a row."""
    folder = Path(tempfile.mkdtemp())
    try:
        edges = [0, *sorted({*cuts} - {0, len(rows)}), len(rows)]
        parts = [table(rows[a:b], a) for a, b in pairwise(edges)]
        index = Index.build(
            parts[0], folder / "index", analyzer=SPACE, text_columns=["title", "body"],
            fields=["title"], threads=1, **options,
        )  # fmt: skip
        for part in parts[1:]:
            index.add(part, threads=1)
        if deleted:
            index.delete(sorted(deleted), threads=1)
        yield index
    finally:
        shutil.rmtree(folder)


def of_segments(index: Index, field: str, words: Any, find: Callable[[Leaf, Any], Any]) -> Found:
    """What `find(segment, terms of the segment)` returns of each segment, by id."""
    collection = index._collection
    found: Found = {}
    for leaf in collection.leaves:
        own = leaf.of_field(field) if field else leaf
        slots = []
        for several in words:
            ids = own.segment.lookup(Texts.from_strings(several))
            slots.append(ids[ids >= 0])
        rows, tfs = find(own, slots)
        assert rows.dtype == np.int32
        assert tfs.dtype == np.float64
        if len(rows):
            ids = collection.take(leaf.first_row + rows.astype(np.int64), ["id"]).column(0)
            found |= dict(zip(ids.to_pylist(), tfs.tolist(), strict=True))
    return found


def expected(
    rows: Rows, deleted: set[int], field: str, frequency: Callable[[list[str | None]], float]
) -> Any:
    found = {}
    for row, (title, body) in enumerate(rows):
        tf = frequency(tokens(title) if field else tokens(title, body))
        if row not in deleted and tf > 0:
            found[row] = tf
    return pytest.approx(found, rel=1e-6)


text = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
rows_of_texts = st.lists(
    st.tuples(st.none() | text, st.none() | text | st.just("a b " * 400)), min_size=1, max_size=12
)
word = st.sampled_from(["a", "b", "c", "dd", "absent"])


@settings(deadline=None, max_examples=25)
@given(
    rows_of_texts, st.lists(st.integers(0, 11), max_size=2),
    st.sets(st.integers(0, 11), max_size=3),
    st.lists(st.lists(word, min_size=1, max_size=2, unique=True), min_size=1, max_size=3),
    st.sampled_from([0, 1, 4]), st.sampled_from(["", "title"]), st.booleans(),
)  # fmt: skip
def test_phrases_and_near(
    rows: Rows, cuts: list[int], gone: set[int], slots: list[list[str]], slop: int, field: str,
    positions: bool,
) -> None:  # fmt: skip
    deleted = {row for row in gone if row < len(rows) - 1}
    cuts = [cut for cut in cuts if cut < len(rows)]
    offsets = [0, 2, 3][: len(slots)]
    words = [several[0] for several in slots]

    def frequency(document: list[str | None]) -> float:
        if slop == 0:
            return naive.exact(document, slots, offsets)
        return naive.sloppy(document, slots, offsets, slop)

    def near(document: list[str | None]) -> float:
        return naive.near(document, words, slop, in_order)

    with indexed(rows, cuts, deleted, positions=positions) as index:
        collection = index._collection

        def find(leaf: Leaf, ids: Any) -> Any:
            if positions:
                return phrases.phrase_list(leaf, ids, offsets, slop)
            with pytest.raises(DataError, match="no positions"):
                phrases.phrase_list(leaf, ids, offsets, slop)
            return phrases.phrase_by_text(collection, leaf, field, ids, offsets, slop)

        found = of_segments(index, field, slots, find)
        assert found == expected(rows, deleted, field, frequency)
        if any("a b a b" in (body or "") for _, body in rows):
            return
        for in_order in (False, True):

            def find_near(leaf: Leaf, ids: Any, in_order: bool = in_order) -> Any:
                terms = np.array([own[0] if len(own) else -1 for own in ids], np.int32)
                if positions:
                    return phrases.near_list(leaf, terms, slop, in_order)
                return phrases.near_by_text(collection, leaf, field, terms, slop, in_order)

            found = of_segments(index, field, [[word] for word in words], find_near)
            assert found == expected(rows, deleted, field, near)


def found_ids(index: Index, slots: Sequence[Sequence[str]], slop: int = 0) -> Found:
    offsets = list(range(len(slots)))
    return of_segments(
        index, "", slots, lambda leaf, ids: phrases.phrase_list(leaf, ids, offsets, slop)
    )


def by_text(index: Index, slots: Sequence[Sequence[str]], slop: int = 0) -> Found:
    offsets, collection = list(range(len(slots))), index._collection
    return of_segments(
        index, "", slots,
        lambda leaf, ids: phrases.phrase_by_text(collection, leaf, "", ids, offsets, slop),
    )  # fmt: skip


def test_bigrams_of_a_lone_character(tmp_path: Path) -> None:
    """A slot of all bigrams that begin with a character."""
    texts = ["東京都の大学", "大阪の大学", "京都", "大 学"]
    for positions in (True, False):
        data = pa.table({"id": range(4), "text": texts})
        index = Index.build(data, tmp_path / str(positions), positions=positions)
        find = found_ids if positions else by_text
        assert find(index, [["東京"], ["京", "京都"]]) == {0: 1.0}
        assert find(index, [["大", "大学", "大阪"]]) == {0: 1.0, 1: 2.0, 3: 1.0}


def test_text_that_cannot_be_analysed_again(tmp_path: Path) -> None:
    rows = table([("a b", "a b")], 0)
    index = Index.build(
        rows, tmp_path / "1", analyzer=SPACE, text_columns=["title", "body"], store=["title"],
        positions=False,
    )  # fmt: skip
    with pytest.raises(
        DataError, match=r"no positions, .*need; build the index again with positions"
    ):
        found_ids(index, [["a"], ["b"]])
    with pytest.raises(
        DataError, match=r"no positions.*text is not stored; build .* positions=True"
    ):
        by_text(index, [["a"], ["b"]])
    index = Index.build(
        rows, tmp_path / "2", analyzer=Analyzer(ngrams=(1, 2)), text_columns="title"
    )  # fmt: skip
    with pytest.raises(DataError, match=r"no positions.*n-grams"):
        by_text(index, [["a"], ["b"]])


@pytest.mark.parametrize("column", ["list", "struct", "function"])
def test_texts_of_every_form(tmp_path: Path, column: str) -> None:
    """Lists, which are joined; fields of structs; a function as the tokenizer, which gets the
    joined text."""
    analyzer, name = SPACE, "doc"
    texts = ["a b", "b a", "c a b a b"]
    values: Any = texts
    if column == "list":
        values = [text.split() for text in texts]
    elif column == "struct":
        values, name = [{"text": text, "n": 1} for text in texts], "doc.text"
    else:
        analyzer = Analyzer(tokenizer=str.split)
    data = pa.table({"id": ["p", "q", "r"], "doc": values, "more": ["a", "b", "c"]})
    for positions in (True, False):
        index = Index.build(
            data, tmp_path / str(positions), analyzer=analyzer, text_columns=[name, "more"],
            positions=positions,
        )  # fmt: skip
        find = found_ids if positions else by_text
        across = {"q": 1.0} if column == "function" else {}
        assert find(index, [["a"], ["b"]]) == {"p": 1.0, "r": 2.0} | across
        across = {"p": 1.0} if column == "function" else {}
        assert find(index, [["a"], ["b"], ["a"]]) == {"r": 1.0} | across


def test_candidates_in_several_parts(tmp_path: Path) -> None:
    """More documents than are read at a time."""
    texts = ["a b" if row % 3 else "b a" for row in range(2 * phrases._ROWS + 100)]
    data = pa.table({"id": range(len(texts)), "text": texts})
    index = Index.build(data, tmp_path / "index", analyzer=SPACE, positions=False)
    wanted = {row: 1.0 for row in range(len(texts)) if row % 3}
    assert by_text(index, [["a"], ["b"]]) == wanted


def test_only_the_positions_used_are_verified(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in chance.integers(0, 40, 50)) for _ in range(2000)]
    index = Index.build(texts, tmp_path / "index", analyzer=SPACE)
    source: Any = index._collection.leaves[0].segment._source
    _, offset, count = source._arrays["positions"]
    path = next(tmp_path.glob("index/data-*/*"))
    raw = bytearray(path.read_bytes())
    raw[offset + count - 5] ^= 1
    path.write_bytes(raw)
    index = Index.open(tmp_path / "index")
    segment = index._collection.leaves[0].segment
    names = segment.vocabulary.to_strings()
    first, last = [[names[0]], [names[1]]], [[names[-1]], [names[-2]]]
    assert found_of_rows(index, first) == {
        row: tf
        for row, text in enumerate(texts)
        if (tf := naive.exact(text.split(), first, [0, 1]))
    }
    for _ in range(2):
        with pytest.raises(FormatError, match="positions"):
            found_of_rows(index, last)


def found_of_rows(index: Index, slots: Sequence[Sequence[str]]) -> Found:
    """Of an index of one segment without ids."""
    (leaf,) = index._collection.leaves
    ids = [leaf.segment.lookup(Texts.from_strings(several)) for several in slots]
    rows, tfs = phrases.phrase_list(leaf, ids, range(len(ids)))
    return dict(zip(rows.tolist(), tfs.tolist(), strict=True))


def test_threads(tmp_path: Path) -> None:
    """Calls at the same time share no scratch."""
    chance = np.random.default_rng(0)
    texts = [" ".join(chance.choice(["a", "b", "c", "d"], 12)) for _ in range(5000)]
    index = Index.build(texts, tmp_path / "index", analyzer=SPACE)
    queries = [[[a], [b]] for a in "abcd" for b in "abcd"] * 20
    alone = [found_of_rows(index, query) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda query: found_of_rows(index, query), queries)] == alone
