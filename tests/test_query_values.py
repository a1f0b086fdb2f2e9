"""Queries as values: validation, equality, depth, operators and the shortest repr."""

from __future__ import annotations

import copy
import datetime
import pickle
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastseq
from fastseq.errors import SettingsError
from fastseq.query import (
    All,
    Boolean,
    Boost,
    ConstantScore,
    Exists,
    Filter,
    Fuzzy,
    Near,
    Phrase,
    Prefix,
    Query,
    Range,
    Regex,
    Synonyms,
    Term,
    Wildcard,
    walk,
)

NAN, INFINITY = float("nan"), float("inf")
EXAMPLES: list[Query] = [
    Term("cat"),
    Term("cat", "title"),
    Phrase("black cat", slop=2),
    Near(["black", "cat"], 3),
    Synonyms(["cat", "black cat"], field="title"),
    Prefix("ca"),
    Wildcard("c?t*"),
    Regex("c[au]t"),
    Fuzzy("cat", 1, prefix_length=1),
    Range("year", 2000, 2010, include_high=False),
    Exists("year"),
    Filter("year > 2000"),
    All(),
    Boost(Term("cat"), 2.0),
    ConstantScore("cat", 0.5),
    Boolean(["a", Term("b")], must_not="c", filter=[Exists("year")], minimum_should_match=1),
]


def test_query_module_loads_with_fastseq_but_without_numpy() -> None:
    code = (
        "import sys, fastseq; print(fastseq.query.Term('cat'));"
        "print(sorted({'numpy', 'numba', 'pyarrow'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.split("\n")[:2] == ["cat", "[]"], run.stderr
    assert "query" in dir(fastseq)


@pytest.mark.parametrize("query", EXAMPLES, ids=repr)
def test_values_are_immutable_hashable_and_comparable(query: Query) -> None:
    again = eval(repr(query), {kind.__name__: kind for kind in map(type, EXAMPLES)})
    assert again == query
    assert hash(again) == hash(query)
    assert sum(query == other for other in EXAMPLES) == 1
    assert pickle.loads(pickle.dumps(query)) == query
    assert copy.deepcopy(query) is query
    for name in (*query.__match_args__, "other"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(query, name, 1)
    assert not hasattr(query, "__dict__")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (Term("cat", "title"), "Term('cat', 'title')"),
        (Phrase("black cat", slop=2), "Phrase('black cat', slop=2)"),
        (Boolean(should=["a"]), "Boolean(should=(Term('a'),))"),
        (Boolean(), "Boolean()"),
        (Boost("a", 2), "Boost(Term('a'), 2.0)"),
        (Fuzzy("cat", 1), "Fuzzy('cat', 1)"),
        (Range("year", high=5), "Range('year', high=5)"),
    ],
)
def test_repr_has_what_is_not_default(query: Query, text: str) -> None:
    assert repr(query) == text


def test_strings_are_terms_and_lists_become_tuples() -> None:
    query = Boolean(must=["a", Phrase("b c")], should="d", must_not=iter(["e"]), filter=Term("f"))
    assert query.must == (Term("a"), Phrase("b c"))
    assert (query.should, query.must_not) == ((Term("d"),), (Term("e"),))
    assert query.filter == (Term("f"),)
    assert Boost("a", 2).query == ConstantScore("a").query == Term("a")
    assert Near(["a", "b"], 1).texts == ("a", "b")
    assert Boost("a", np.float32(2)).factor == 2.0
    assert type(Range("n", np.int64(3)).low) is int


def test_different_types_of_a_bound_are_different_ranges() -> None:
    ranges = {Range("n", 1), Range("n", True), Range("n", 1.0), Range("n", Decimal(1))}
    assert len(ranges) == 4
    assert Range("n", low=1) != Range("n", high=1)
    day = datetime.date(2024, 1, 1)
    assert Range("n", day) == Range("n", datetime.date(2024, 1, 1))
    assert Range("n", day) != Range("n", datetime.datetime(2024, 1, 1))


def test_filters_that_are_no_text_are_compared_by_identity() -> None:
    mask = np.array([True, False])
    assert Filter(mask) == Filter(mask)
    assert hash(Filter(mask)) == hash(Filter(mask))
    assert Filter(mask) != Filter(mask.copy())
    assert Filter("a > 1") == Filter("a > 1") != Filter("a > 2")
    assert len(repr(Filter("a" * 1000))) < 200


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Term(5), "text must be a string, not 5"),
        (lambda: Term(None), "text must be a string"),
        (lambda: Term("\udc80"), "text must be valid Unicode: a lone surrogate at character 1 of"),
        (lambda: Term("a", 5), "field must be a string, not 5"),
        (lambda: Phrase(["a"]), "text must be a string"),
        (lambda: Phrase("a", slop=-1), "slop must be a whole number of at least 0, not -1"),
        (lambda: Phrase("a", slop=1.5), "slop must be a whole number"),
        (lambda: Phrase("a", slop=True), "slop must be a whole number"),
        (lambda: Phrase("a", slop=1 << 31), "slop must be a whole number below"),
        (lambda: Near(["a", 5], 1), "texts must be a string or a list of strings"),
        (lambda: Near([], 1), "texts must have at least one text"),
        (lambda: Near(["a"], -1), "distance must be a whole number of at least 0"),
        (lambda: Near(["a"], 1, in_order=5), "in_order must be True or False"),
        (lambda: Near(["a"], 1, field=b"x"), "field must be a string"),
        (lambda: Synonyms([]), "texts must have at least one text"),
        (lambda: Prefix(b"a"), "text must be a string"),
        (lambda: Wildcard(None), "pattern must be a string"),
        (lambda: Regex(5), "pattern must be a string"),
        (lambda: Fuzzy("a", True), "max_edits must be 0, 1 or 2, not True"),
        (lambda: Fuzzy("a", 1.0), "max_edits must be 0, 1 or 2, not 1.0"),
        (lambda: Fuzzy("a", 3), "max_edits must be 0, 1 or 2, not 3"),
        (lambda: Fuzzy("a", -1), "max_edits must be 0, 1 or 2, not -1"),
        (lambda: Fuzzy("a", prefix_length="1"), "prefix_length must be a whole number"),
        (lambda: Range(None, 1), "field must be a string, not None"),
        (lambda: Range("a", NAN), "low must be a string, a number"),
        (lambda: Range("a", high=Decimal("sNaN")), "high must be a string, a number"),
        (lambda: Range("a", [1]), "low must be a string, a number"),
        (lambda: Range("a", b"x"), "low must be a string, a number"),
        (lambda: Range("a", object()), "low must be a string, a number"),
        (lambda: Range("a", "é\ud800"), "low must be valid Unicode: .* at character 2 of"),
        (lambda: Range("a", include_low="no"), "include_low must be True or False"),
        (lambda: Exists(None), "field must be a string, not None"),
        (lambda: Boost("a", -1), "factor must be a number from 0 to 1e\\+20, not -1"),
        (lambda: Boost("a", NAN), "factor must be a number from 0"),
        (lambda: Boost("a", INFINITY), "factor must be a number from 0"),
        (lambda: Boost("a", 2e20), "factor must be a number from 0"),
        (lambda: Boost("a", "2"), "factor must be a number from 0"),
        (lambda: Boost(None, 1), "query must be a query or a string, not None"),
        (lambda: ConstantScore("a", NAN), "score must be a number from 0"),
        (lambda: ConstantScore(5), "query must be a query or a string, not 5"),
        (lambda: Boolean(must=5), "must must be queries or strings, not 5"),
        (lambda: Boolean(should={"a": 1}), "should must be queries or strings"),
        (lambda: Boolean(must_not=["a", 5]), "each of must_not must be a query or a string, not 5"),
        (lambda: Boolean(filter=(None,)), "each of filter must be a query or a string"),
        (lambda: Boolean(minimum_should_match=-1), "minimum_should_match must be a whole number"),
        (lambda: Boolean(minimum_should_match=False), "minimum_should_match must be a whole"),
        (lambda: Filter(None), "expression must be the text of a filter"),
        (lambda: Filter(Term("a")), "expression must be the text of a filter"),
        (lambda: Term("a") | 5, "a query must be a query or a string, not 5"),
    ],
)
def test_wrong_values_are_rejected(make: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make()  # type: ignore[operator]


def test_limits_themselves_are_accepted() -> None:
    assert Boost("a", 1e20).factor == 1e20
    assert Boost("a", 0).factor == 0
    assert Phrase("a", slop=1_000_000).slop == 1_000_000
    assert len(Boolean(should=["a"] * 20_000).should) == 20_000
    assert Range("a", INFINITY, Decimal("Infinity")).low == INFINITY


# ---- nesting


def nested(depth: int) -> Query:
    """A query `depth` deep."""
    query: Query = Term("a")
    for level in range(depth - 1):
        kinds = (lambda q: Boolean(must=[q, "b"]), lambda q: Boost(q, 2), ConstantScore)
        query = kinds[level % 3](query)
    return query


def called_deep(function: object, frames: int) -> object:
    """The result of a function called far down the stack."""
    if frames:
        return called_deep(function, frames - 1)
    return function()  # type: ignore[operator]


def test_deepest_queries_need_no_recursion() -> None:
    query, other = nested(200), nested(200)
    frames = sys.getrecursionlimit() - 200

    def use() -> None:
        assert query == other
        assert hash(query) == hash(other)
        assert repr(query) == repr(other)
        assert str(query) == repr(query)  # a ConstantScore has no text
        assert len(list(walk(query))) == query.nodes == 200 + 67
        assert copy.deepcopy(query) is query

    called_deep(use, frames)
    assert query.depth == 200
    assert query != nested(199)
    assert pickle.loads(pickle.dumps(query)) == query


@pytest.mark.parametrize("outer", [lambda q: Boolean(must=q), lambda q: Boost(q, 1), ConstantScore])
def test_deeper_queries_are_rejected(outer: object) -> None:
    with pytest.raises(SettingsError, match="nested at most 200 deep"):
        outer(nested(200))  # type: ignore[operator]


def test_shared_parts_do_not_grow_without_bound() -> None:
    query: Query = Term("a")
    for _ in range(18):
        query = Boolean(should=[query, query])
    assert query.nodes == 2**19 - 1
    with pytest.raises(SettingsError, match="at most 1,000,000 parts"):
        Boolean(should=[query, query, "a"])


def test_walk_visits_parents_first() -> None:
    query = Boolean(must=[Boost("a", 2), "b"], must_not=ConstantScore("c"))
    found = [type(part).__name__ + getattr(part, "text", "") for part in walk(query)]
    assert found == ["Boolean", "Boost", "Terma", "Termb", "ConstantScore", "Termc"]


# ---- operators, by the documents that match


def matches(query: Query, words: frozenset[str]) -> bool:
    """Whether a document of these words matches, from the meaning of each field alone."""
    if isinstance(query, Term):
        return query.text in words
    if isinstance(query, All):
        return True
    assert isinstance(query, Boolean)
    required = query.must + query.filter
    optional = sum(matches(part, words) for part in query.should)
    least = max(query.minimum_should_match, 0 if required else 1)
    return (
        all(matches(part, words) for part in required)
        and not any(matches(part, words) for part in query.must_not)
        and optional >= least
    )


def scoring(query: Query, words: frozenset[str]) -> list[str]:
    """The terms that count in the score of a document."""
    if not matches(query, words):
        return []
    if isinstance(query, Term):
        return [query.text]
    parts = query.must + query.should if isinstance(query, Boolean) else ()
    return sorted(text for part in parts for text in scoring(part, words))


EXPRESSIONS = st.recursive(
    st.sampled_from("abcd").map(lambda text: (Term(text), frozenset.__contains__, text)),
    lambda inner: st.tuples(st.sampled_from("|&~"), inner, inner),
    max_leaves=8,
)


def evaluated(expression: tuple[object, ...]) -> tuple[Query, object]:
    """The query of an expression, and a function of words: whether they match, and what scores."""
    if isinstance(expression[0], Term):
        query, text = expression[0], expression[2]
        return query, lambda words: (text in words, [text] * (text in words))
    sign, left, right = expression
    query, meaning = evaluated(left)  # type: ignore[arg-type]
    other, other_meaning = evaluated(right)  # type: ignore[arg-type]
    if sign == "~":
        return ~query, lambda words: (not meaning(words)[0], [])  # type: ignore[operator]

    def of(words: frozenset[str]) -> tuple[bool, list[str]]:
        one, two = meaning(words), other_meaning(words)  # type: ignore[operator]
        found = one[0] or two[0] if sign == "|" else one[0] and two[0]
        return found, sorted(one[1] + two[1]) if found else []

    return (query | other if sign == "|" else query & other), of


@settings(deadline=None, max_examples=400)
@given(EXPRESSIONS)
def test_operators_are_or_and_not(expression: tuple[object, ...]) -> None:
    query, meaning = evaluated(expression)
    for number in range(16):
        words = frozenset(letter for at, letter in enumerate("abcd") if number >> at & 1)
        found = matches(query, words), scoring(query, words)
        assert found == meaning(words)  # type: ignore[operator]


def test_operators_are_flat() -> None:
    query: Query = Term("w0")
    for number in range(1, 1000):
        query = query | f"w{number}"
    assert query == Boolean(should=[f"w{number}" for number in range(1000)])
    assert Term("a") & "b" & ~Term("c") == Boolean(must=["a", "b"], must_not="c")
    assert "a" & ~Term("c") == Boolean(must="a", must_not="c")
    assert "a" | Term("b") == Boolean(should=["a", "b"])
