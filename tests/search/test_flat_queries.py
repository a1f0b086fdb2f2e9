"""Queries of optional, required and excluded words: the kernel that searches them in a batch finds
the same bits as the evaluation clause by clause."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, TFIDF, BoW, Index
from fastseq.query import Boolean, Boost, Query, Term
from fastseq.search import term_bits
from fastseq.search.flat import flatten
from fastseq.search.term_table import TermTable
from fastseq.types import Texts
from tests.search.random_rows import built, random_rows

WORDS = [f"w{n}" for n in range(14)]
ABSENT = "never"
MODELS = [
    BM25(), BM25(0.9, 0.4), BM25(k1=0), BM25(b=0), BM25(k1=1e6),
    *(BM25(1.5, 0.6, 0.7, variant) for variant in BM25.VARIANTS[1:]),
    *(TFIDF(notation) for notation in ("ltc.lnc", "Lpc.atn", "nnn.Lpc", "bnn.Lpc", "ntc.atc")),
    BoW(), BoW(cosine=True),
]  # fmt: skip
FILTERS = [None, "part < 3", "part = 9", "part = 5"]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> list[Index]:
    """Few documents, several segments with deleted documents, and more than a window."""
    found = []
    for sizes, delete in (
        ([(9, 6)], 0), ([(3000, 12), (400, 40), (30, 5)], 7), ([(66_500, 4)], 11)
    ):  # fmt: skip
        parts = [random_rows(random.Random(n), str(n), WORDS, 2, *size)
                 for n, size in enumerate(sizes)]  # fmt: skip
        found.append(built(tmp_path_factory.mktemp("flat") / "index", parts, delete))
    return found


word = st.sampled_from([*WORDS, ABSENT])
boost = st.sampled_from([1, 1, 1, 0.25, 3, 0])


@st.composite
def flat_queries(draw: st.DrawFn) -> Query:
    def clauses(least: int, most: int, boosted: bool = True) -> list[Query]:
        found: list[Query] = []
        for text in draw(st.lists(word, min_size=least, max_size=most)):
            factor = draw(boost) if boosted else 1
            found.append(Term(text) if factor == 1 else Boost(Term(text), factor))
        return found

    kind = draw(st.sampled_from(["words", "must", "any", "any", "any"]))
    if kind == "words":
        return Term(" ".join(draw(st.lists(word, max_size=5))))
    boosted = draw(st.booleans())
    if kind == "must":
        return Boolean(must=clauses(1, 4, boosted))
    must, should = clauses(0, 3, boosted), clauses(0, 4, boosted)
    if draw(st.booleans()):
        should.append(Term(" ".join(draw(st.lists(word, min_size=2, max_size=3)))))
    return Boolean(must=must, should=should, must_not=clauses(0, 2, False))


@settings(deadline=None, max_examples=800)
@given(
    st.integers(0, 2), st.lists(flat_queries(), min_size=1, max_size=5), st.sampled_from(MODELS),
    st.sampled_from([1, 2, 10, 100, 4000]), st.sampled_from(FILTERS), st.sampled_from([1, 3]),
)  # fmt: skip
def test_both_ways_find_the_same_bits(
    indexes: list[Index], number: int, queries: list[Query], model: Any, k: int, filter: Any,
    threads: int,
) -> None:  # fmt: skip
    index = indexes[number]
    searcher = index._searcher
    rows, scores = searcher._evaluate(queries, k, model, 1, filter, None, "or", [])
    hits = index.search(queries, k, model, threads, filter=filter)
    assert hits.rows.tolist() == rows.tolist()
    assert hits.scores.tobytes() == scores.tobytes()
    counts = [int(np.count_nonzero(searcher.matched(query, model, filter))) for query in queries]
    assert index.count(queries, filter=filter) == counts
    assert [min(count, k) for count in counts] == hits.counts.tolist()


MANY_WORDS = [f"w{n}" for n in range(40)]


@pytest.fixture(scope="module", params=[False, True], ids=["as added", "reordered"])
def windows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of words of all frequencies in three windows, with deleted documents."""
    path = tmp_path_factory.mktemp("windows") / "index"
    parts = [random_rows(random.Random(7), "0", MANY_WORDS, 1, 135_000, 9)]
    built(path, parts, 13, reorder=request.param)
    return path


@pytest.mark.parametrize("dense", [0, 8, 128, 1 << 20])
def test_few_hits_are_the_first_of_all(
    windows: Path, monkeypatch: pytest.MonkeyPatch, dense: int
) -> None:
    """With bits of none, some and all of the words. All documents as hits are added up without
    pruning."""
    monkeypatch.setattr(term_bits, "_DENSE", dense)
    index = Index.open(windows)
    chance = random.Random(8)
    queries = [" ".join(chance.choices(MANY_WORDS, k=chance.randint(2, 6))) for _ in range(40)]
    every = index.search(queries, len(index))
    for k in (1, 10, 100, 101):
        few = index.search(queries, k)
        assert few.rows.tolist() == every.rows[:, :k].tolist()
        assert few.scores.tobytes() == np.ascontiguousarray(every.scores[:, :k]).tobytes()


@pytest.mark.parametrize("k", [1, 10, 100])
def test_few_hits_of_words_of_deleted_documents(tmp_path: Path, k: int) -> None:
    """Two of the words have no document left in the first segment. Scratch memory is that of a
    search for others with many more."""
    chance = random.Random(3)
    rows = [{"id": row, "text": chance.choice(["often", "even"])} for row in range(3000)]
    rows[0]["text"] += " rare"
    for row in range(300, 3000):
        rows[row]["text"] += " frequent" * (1 + row % 3)
    for row in range(100, 140):
        rows[row]["text"] += " gone"
        rows[row + 100]["text"] += " left"
    more = [{"id": -1, "text": "gone left"}, {"id": -2, "text": "gone left rare frequent"}]
    index = Index.build(rows, tmp_path / "index", threads=1)
    index.add(more, threads=1)
    index.delete([*range(100, 140), *range(200, 240)], threads=1)
    query = "rare gone left frequent"
    expected = index.search(query, len(index)).rows[0, :k].tolist()
    assert index.search(["often even frequent", query], k, threads=1).rows[1].tolist() == expected
    index.search("often even frequent", 101)
    assert index.search(query, k).rows[0].tolist() == expected


def test_what_is_flat(indexes: list[Index]) -> None:
    numbers = indexes[0]._searcher.table.numbers_of
    flat: list[Query] = [
        Term("w1"), Term("w1 w2"), Term("é w1"), Boolean(must=["w1"]), Boolean(must=["w1", "w1"]),
        Boolean(should=["w1", Boost(Term("w2"), 2)]),
        Boolean(must=["w1"], should=["w2 w3"], must_not=["w4"]),
    ]  # fmt: skip
    others: list[Query] = [
        Term("w1", "text"), Boolean(must=["w1 w2"]), Boolean(must_not=["w1"]), Boolean(),
        Boolean(must=["w1"], filter=["w2"]), Boolean(should=["w1", "w2"], minimum_should_match=2),
        Boolean(must=[Boolean(must=["w1"])]), Boost(Term("w1"), 2),
        Boolean(should=["w1", Boost(Term("w1"), 2)]), Boolean(should=[Boost(Term("w1"), 2), "w1"]),
    ]  # fmt: skip
    for query in flat:
        assert flatten(query, numbers) is not None, query
    for query in others:
        assert flatten(query, numbers) is None, query


def test_a_query_is_found_in_the_whole_batch(indexes: list[Index]) -> None:
    """Flat queries, others, strings and mappings each get their own hits."""
    index = indexes[1]
    queries: list[Any] = [
        Boolean(must=["w1", "w2"]), "w3", {"w4": 1.0}, Boolean(must=[Boolean(must=["w1"])]),
        Boolean(must=["never"]), Boolean(should=["w5"], must_not=["w0"]), Term("w1 w6"),
    ] * 40  # fmt: skip
    hits = index.search(queries, 10, threads=3)
    for number, query in enumerate(queries[:7]):
        single = index.search(query, 10)
        for place in range(number, len(queries), 7):
            assert hits.rows[place].tolist() == single.rows[0].tolist()
            assert hits.scores[place].tobytes() == single.scores[0].tobytes()


def test_words_are_looked_up_together(tmp_path: Path) -> None:
    """The numbers of words are those of looking them up one by one."""
    index = Index.build(["cat's cats", "3.14 don't", "kept"], tmp_path / "index")
    texts = ["cat's", "CATS dog", "3.14", "don't stop", "", "né", "cat's"]
    together, alone = TermTable(index._collection), TermTable(index._collection)
    together.learn(texts)
    known = len(together)

    def named(table: TermTable) -> list[list[str]]:
        names: list[str] = []
        found = [table.numbers_of(text) for text in texts]
        names = Texts(*table._terms.texts()).to_strings()
        return [[names[number] for number in own] for own in found]

    expected = named(alone)
    assert named(together) == expected
    assert len(together) == known + 1  # né alone was not known
