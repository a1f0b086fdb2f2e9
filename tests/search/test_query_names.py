"""Names in queries: fields, the text by the name of its column, and stored columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastseq import BM25F, DataError, Index
from fastseq.query import Exists, Fuzzy, Near, Phrase, Prefix, Query, Range, Synonyms, Term

ROWS: list[dict[str, Any]] = [
    {"id": 0, "text": "open a socket", "kind": "method", "tags": ["os", "net"], "year": 2000,
     "title": "the first"},
    {"id": 1, "text": "socket socket", "kind": "a class", "tags": [], "year": None, "title": "two"},
    {"id": 2, "text": "sockets", "kind": None, "tags": None, "year": 2002, "title": "socket"},
    {"id": 3, "text": "", "kind": "method", "tags": ["net"], "year": 7, "title": "open"},
]  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("names") / "index"
    return Index.build(ROWS, path, text_columns="text", fields=["title"])


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("names") / "joined"
    return Index.build(ROWS, path, text_columns=["title", "text"])


@pytest.mark.parametrize(
    ("text", "value", "ids"),
    [
        ('kind:"method"', Phrase("method", "kind"), [0, 3]),
        ('kind:"a class"', Phrase("a class", "kind"), [1]),
        ('kind:"class"', Phrase("class", "kind"), []),
        ('tags:"net"', Phrase("net", "tags"), [0, 3]),
        ('year:"2002"', Phrase("2002", "year"), [2]),
    ],
)
def test_a_phrase_on_a_stored_column_is_its_value(
    index: Index, text: str, value: Query, ids: list[int]
) -> None:
    hits = index.search(text, syntax="query")
    assert (hits.ids, hits.notices) == ([ids], ())
    assert hits.scores[0, : len(ids)].tolist() == [1.0] * len(ids)
    assert index.search(value).ids == [ids]
    assert index.count(text, syntax="query") == len(ids)


@pytest.mark.parametrize(
    ("named", "plain"),
    [
        (Term("socket", "text"), Term("socket")),
        (Term("open socket", "text"), Term("open socket")),
        (Phrase("a socket", "text"), Phrase("a socket")),
        (Prefix("sock", "text"), Prefix("sock")),
        (Fuzzy("sockets", 1, field="text"), Fuzzy("sockets", 1)),
        (Near(("open", "socket"), 2, field="text"), Near(("open", "socket"), 2)),
        (Synonyms(("open", "sockets"), "text"), Synonyms(("open", "sockets"))),
    ],
)
def test_the_name_of_the_text_column_is_the_text(index: Index, named: Query, plain: Query) -> None:
    hits, others = index.search(named), index.search(plain)
    assert len(hits.ids[0]) > 0
    assert hits.ids == others.ids
    assert hits.scores.tobytes() == others.scores.tobytes()
    assert [str(each) for each in hits.snippets()] == [str(each) for each in others.snippets()]
    assert [each.highlights for each in hits.snippets()] == [
        each.highlights for each in others.snippets()
    ]
    for model in (None, BM25F()):
        found = index.search(named, 10, model, fields="title")
        assert {*found.ids[0]} == {*hits.ids[0]}
        assert np.float32(found.explain(1).value) == found.scores[0, 0]


def test_the_text_by_name_as_text(index: Index) -> None:
    for text, ids in (
        ("text:socket", [1, 0]), ("text:(open sockets)", [2, 0]), ("text:*", [0, 1, 2]),
        ("_exists_:text", [0, 1, 2]), ("title:open text:open", [0, 3]),
        ("text:[open TO socket]", [0, 1]),
    ):  # fmt: skip
        hits = index.search(text, syntax="query")
        assert hits.notices == ()
        assert sorted(hits.ids[0]) == sorted(ids)
    assert index.search("text:socket", syntax="query").ids == index.search("socket").ids


def test_one_of_several_text_columns_cannot_be_searched(joined: Index) -> None:
    said = "the column 'title' was indexed together with 'text'.*indexed as fields"
    for value in (Term("socket", "title"), Phrase("the first", "title"), Prefix("s", "title"),
                  Range("title", "a", "b")):  # fmt: skip
        with pytest.raises(DataError, match=said):
            joined.search(value)
    hits = joined.search("title:socket", syntax="query")
    (notice,) = hits.notices
    assert "was indexed together with 'text'" in notice
    assert notice.endswith("; searched for as plain words")
    assert hits.ids == joined.search("title:socket").ids
    assert joined.count(Exists("title")) == len(ROWS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("year:abc", "'year' is int64 and is compared with 'abc'"),
        ('year:"abc"', "'year' is int64 and is compared with 'abc'"),
        ("socket year:[a TO b]", "'year' is int64 and is compared with 'a'"),
        ("year:>x", "'year' is int64 and is compared with 'x'"),
        ("year:20*", "'year' is int64; like requires text"),
        ("kind:os~", "'kind' is a stored column, not a field"),
        ("kind:/o.*/", "'kind' is a stored column, not a field"),
        ("_exists_:colour", "unknown field 'colour' (fields: title, text; stored columns: id, "),
    ],
)
def test_wrong_values_in_text_are_plain_words(index: Index, text: str, problem: str) -> None:
    hits = index.search(text, syntax="query")
    (notice,) = hits.notices
    assert problem in notice
    assert notice.endswith("; searched for as plain words")
    assert hits.ids == index.search(text).ids
    notices: list[str] = []
    assert index.count(text, syntax="query", notices=notices) == len(hits.ids[0])
    assert notices == [notice]


def test_unknown_names_list_what_there_is(index: Index) -> None:
    said = "fields are: title, text; stored columns are: id, text, kind, .*indexed as fields"
    for value in (Term("x", "colour"), Near(("a", "b"), 1, field="colour"), Exists("colour")):
        with pytest.raises(DataError, match=said):
            index.search(value)
    said = r"fields of this index are: title; stored .*indexed as fields"
    with pytest.raises(DataError, match=said):
        index.search("x", fields="colour")
