"""One query at a time: the same hits as in a batch, and counts of a naive evaluation."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, TFIDF, Analyzer, Index
from fastseq.query import Boolean, Phrase, Prefix, Query, Term
from fastseq.search import term_table
from fastseq.search.term_table import TermTable
from fastseq.types import Texts

WORDS = [f"w{n}" for n in range(30)]
ABSENT = "never"
MODELS = [None, BM25(), BM25(0.9, 0.4), *(BM25(variant=name) for name in BM25.VARIANTS), TFIDF()]


class Built(NamedTuple):
    """An index, and by row the words of its documents; None for a deleted one."""

    index: Index
    documents: list[list[str] | None]
    parts: list[int]

    def __repr__(self) -> str:
        return repr(self.index)  # the documents would fill a screen a thousand times


def random_rows(seed: int, count: int, longest: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    weights = [1 / (n + 1) ** 2 for n in range(len(WORDS))]
    return [
        {
            "id": f"{seed}.{number}",
            "text": " ".join(chance.choices(WORDS, weights, k=chance.randint(0, longest))),
            "part": number * 10 // count,
        }
        for number in range(count)
    ]


def built(path: Path, *parts: tuple[int, int], delete: int) -> Built:
    """One with a segment of each part, (documents, most words of one), without every nth."""
    rows: list[dict[str, Any]] = []
    index = None
    for seed, (count, longest) in enumerate(parts):
        new = random_rows(seed, count, longest)
        rows += new
        if index is None:
            index = Index.build(new, path, store=["part"], threads=1)
        else:
            index.add(new, threads=1)
    assert index is not None
    documents: list[list[str] | None] = [row["text"].split() for row in rows]
    if delete:
        index.delete([row["id"] for row in rows][::delete], threads=1)
        documents[::delete] = [None] * len(documents[::delete])
    return Built(index, documents, [row["part"] for row in rows])


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> list[Built]:
    """Few documents, several segments with deleted documents, and more than a window."""
    folder = tmp_path_factory.mktemp("single")
    return [
        built(folder / "small", (40, 6), delete=0),
        built(folder / "segments", (3000, 12), (400, 40), (30, 5), delete=7),
        built(folder / "windows", (66_500, 6), delete=0),
    ]


word = st.sampled_from([*WORDS, ABSENT])
words = st.lists(word, max_size=4).map(" ".join)


@st.composite
def queries(draw: st.DrawFn) -> str | Query:
    kind = draw(st.sampled_from(["text", "term", "phrase", "boolean", "boolean", "prefix"]))
    if kind == "text":
        return draw(words)
    if kind == "term":
        return Term(draw(words))
    if kind == "phrase":
        return Phrase(" ".join(draw(st.lists(word, min_size=1, max_size=4))))
    if kind == "prefix":
        return Prefix(draw(st.sampled_from(["w", "w1", "w2", "w29", "x"])))
    return Boolean(
        must=draw(st.lists(word, max_size=3)), should=draw(st.lists(word, max_size=3)),
        must_not=draw(st.lists(word, max_size=2)),
    )  # fmt: skip


def matches(query: str | Query, document: list[str], operator: str) -> bool:
    """Whether a document, its words, matches a query."""
    match query:
        case str() | Term():
            own = query.split() if isinstance(query, str) else query.text.split()
            return bool(own) and (all if operator == "and" else any)(w in document for w in own)
        case Phrase():
            own = query.text.split()
            starts = range(len(document) - len(own) + 1)
            return any(document[at : at + len(own)] == own for at in starts)
        case Prefix():
            return any(word.startswith(query.text) for word in document)
        case Boolean():
            must, should = ([matches(q, document, operator) for q in part]
                            for part in (query.must, query.should))  # fmt: skip
            if any(matches(q, document, operator) for q in query.must_not):
                return False
            return all(must) and (bool(must) or any(should))
    raise AssertionError(query)


def row_filter(kind: str, one: Built) -> tuple[Any, Callable[[int], bool]]:
    """A filter, and whether it lets a row pass."""
    n = len(one.documents)
    if kind == "text":
        return "part = 4", lambda row: one.parts[row] == 4
    if kind == "none":
        return "part > 90", lambda row: False
    if kind == "mask":
        return np.arange(n) % 50 == 3, lambda row: row % 50 == 3
    if kind == "range":
        return (np.arange(n) >= n * 98 // 100).tolist(), lambda row: row >= n * 98 // 100
    return None, lambda row: True


filters = st.sampled_from(["all", "all", "text", "none", "mask", "range"])


@settings(deadline=None, max_examples=500)
@given(
    st.integers(0, 2), queries(), st.sampled_from(MODELS), st.sampled_from([1, 10, 100, 4000]),
    filters, st.sampled_from(["or", "or", "and"]),
)  # fmt: skip
def test_single_search_equals_a_batch(
    indexes: list[Built], number: int, query: str | Query, model: Any, k: int, kind: str,
    operator: str,
) -> None:  # fmt: skip
    index = indexes[number].index
    filter, _ = row_filter(kind, indexes[number])
    one = index.search(query, k, model, filter=filter, operator=operator)
    several = index.search(["w3", query], k, model, filter=filter, operator=operator)
    assert one.rows.dtype == np.int32
    assert one.scores.dtype == np.float32
    assert one.rows.tolist() == several.rows[1:].tolist()
    assert one.scores.tobytes() == several.scores[1:].tobytes()
    value = Term(query) if isinstance(query, str) else query
    rows, scores = index._searcher._evaluate(
        [value], k, model or BM25(), 1, filter, None, operator, []
    )
    assert one.rows.tolist() == rows.tolist()
    assert one.scores.tobytes() == scores.tobytes()
    assert one.query_texts() == several.query_texts(1)
    assert (one.cursor() is None) == (one.counts[0] == 0)


@settings(deadline=None, max_examples=250)
@given(
    st.integers(0, 2), st.lists(queries(), min_size=1, max_size=3), filters,
    st.sampled_from(["or", "or", "and"]),
)  # fmt: skip
def test_counts_are_those_of_a_naive_evaluation(
    indexes: list[Built], number: int, several: list[str | Query], kind: str, operator: str
) -> None:
    one = indexes[number]
    filter, passes = row_filter(kind, one)
    expected = [
        sum(
            document is not None and passes(row) and matches(query, document, operator)
            for row, document in enumerate(one.documents)
        )
        for query in several
    ]
    assert one.index.count(several, filter=filter, operator=operator) == expected
    counted = [one.index.count(query, filter=filter, operator=operator) for query in several]
    assert counted == expected


@pytest.mark.parametrize("text", ["w1 w2", "+w1 +w5", '"w0 w1"', "w3 -w0", "w1 AND w2 AND NOT w0"])
def test_query_syntax(indexes: list[Built], text: str) -> None:
    for one in indexes:
        single = one.index.search(text, 20, syntax="query")
        batch = one.index.search([text, "w9"], 20, syntax="query")
        assert single.rows.tolist() == batch.rows[:1].tolist()
        assert single.scores.tobytes() == batch.scores[:1].tobytes()
        assert single.notices == batch.notices == ()


def test_after_changes(tmp_path: Path) -> None:
    """What is kept for single queries is that of the current commit."""
    one = built(tmp_path / "index", (200, 5), delete=0)
    asked = ["w0 w9", Boolean(must=["w0", "w1"]), Phrase("w0 w1"), Boolean(["w1"], must_not=["w2"])]
    before = [one.index.count(query) for query in asked]
    for query in asked:
        one.index.search(query)
    one.index.add([{"id": f"new{i}", "text": "w0 w1 w0 w9", "part": 0} for i in range(3)])
    assert [one.index.count(query) for query in asked] == [count + 3 for count in before]
    for query in asked:
        hits, batch = one.index.search(query, 300), one.index.search([query] * 2, 300)
        assert {200, 201, 202} <= set(hits.rows[0].tolist())
        assert hits.scores.tobytes() == batch.scores[:1].tobytes()
    one.index.delete(["new0", "new1", "new2"])
    assert [one.index.count(query) for query in asked] == before


def test_many_threads(tmp_path: Path) -> None:
    """Threads that begin at once, with nothing kept yet."""
    index = built(tmp_path / "index", (5000, 12), (300, 9), delete=9).index
    chance = random.Random(3)
    asked: list[Query] = []
    for _ in range(300):
        pair = chance.sample(WORDS, 2)
        asked += [Boolean(must=pair), Phrase(" ".join(pair)), Boolean(pair, must_not=["w0"])]
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(index.count, asked))
        hits = list(pool.map(index.search, asked))
    fresh = Index.open(tmp_path / "index")
    assert counts == fresh.count(asked)
    batch = fresh.search(asked)
    assert np.concatenate([one.rows for one in hits]).tolist() == batch.rows.tolist()
    assert np.concatenate([one.scores for one in hits]).tobytes() == batch.scores.tobytes()


@pytest.mark.parametrize("role", ["must", "should", "must_not"])
@pytest.mark.parametrize("call", [Index.search, Index.count])
def test_words_of_many_clauses_are_looked_up_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, call: Any
) -> None:
    index = built(tmp_path / "index", (200, 5), delete=0).index
    looked_up: list[int] = []
    look_up = TermTable.of

    def counted(table: TermTable, texts: Texts) -> Any:
        looked_up.append(len(texts))
        return look_up(table, texts)

    monkeypatch.setattr(TermTable, "of", counted)
    clauses: dict[str, list[str]] = {"must": ["w0"]}
    clauses[role] = [f"z{n}" for n in range(500)]
    call(index, Boolean(**clauses))
    assert sum(looked_up) >= 500
    assert len(looked_up) < 5


ANALYZERS = [
    Analyzer(), Analyzer(tokenizer="unicode"), Analyzer(tokenizer="unicode", cjk="words"),
    Analyzer(tokenizer="unicode", lowercase=False), Analyzer(tokenizer="word", stemmer="german"),
    Analyzer(tokenizer="unicode", normalization="german", stemmer="greek"),
]  # fmt: skip
CHARACTERS = (
    "abXY019_.,;'’-éßøΣςΌДıİŁ日本猫カ゛ーの한글กขไทยကعل۱½ﬁⅣ𝒜😀\u0301\u0308\u200c\u200d\xa0\xad\n"
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[TermTable]:
    folder = tmp_path_factory.mktemp("tables")
    indexes = [
        Index.build(["a b", "日本"], folder / str(number), analyzer=analyzer)
        for number, analyzer in enumerate(ANALYZERS)
    ]
    return [TermTable(index._collection) for index in indexes]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(ANALYZERS) - 1), st.text(st.sampled_from([*CHARACTERS, *" " * 20])))
def test_numbers_of_short_texts(tables: list[TermTable], number: int, text: str) -> None:
    """They are those of the analysis of the whole text."""
    table = tables[number]
    assert table.numbers_of(text) == table.of(Texts.from_strings([text]))[0].tolist()
    assert table.of_short(text) == (None if "\u200d" in text else table.numbers_of(text))


def test_a_table_has_a_limited_number_of_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term_table, "_MOST_WORDS", 10)
    index = Index.build(["bee cat é", "bee", "cat cat cat"], tmp_path / "index")
    for number in range(1, 30):
        text = f"bee {'é,' * number} cat"
        single, batch = index.search(text, 3), index.search([text, "bee"], 3)
        assert single.rows.tolist() == batch.rows[:1].tolist()
        assert single.scores.tobytes() == batch.scores[:1].tobytes()
        assert len(index._searcher._table.words) <= 12


def test_equal_weights_are_added_in_the_order_of_bytes(tmp_path: Path) -> None:
    """Scores of words that as many documents have do not depend on the order of the query."""
    chance = random.Random(4)
    documents = [["w"] * chance.randint(1, 9) for _ in range(50)]
    for word in WORDS:
        for row in chance.sample(range(50), 20):
            documents[row] += [word] * chance.randint(1, 3)
    index = Index.build([" ".join(words) for words in documents], tmp_path / "index")
    for _ in range(40):
        words = chance.sample(WORDS, 7)
        text, value = " ".join(words), Boolean(should=words)
        found = [index.search(query, 50) for query in (text, value, " ".join(sorted(words)))]
        batch = index.search([text, "w"], 50)
        for single in found:
            assert single.rows.tolist() == batch.rows[:1].tolist()
            assert single.scores.tobytes() == batch.scores[:1].tobytes()


def test_nothing_of_an_index_is_in_a_circle(tmp_path: Path) -> None:
    """An index that is not used any more is freed, and its files closed, without a collection."""
    Index.build([{"id": "1", "text": "a b"}], tmp_path / "one", store=["text"])
    gc.disable()
    try:
        index = Index.open(tmp_path / "one")
        for query in ("a", Phrase("a b"), Boolean(must=[Term("a"), Term("b")]), Prefix("a")):
            assert index.search(query, filter="text = 'a b'").rows[0, 0] == 0
            assert index.count(query) == 1
        left = weakref.ref(index._searcher), weakref.ref(index._searcher.collection)
        del index
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()
