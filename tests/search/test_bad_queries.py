"""Queries and options that are wrong, huge or odd: results with a notice, or an error that says
what is expected."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from fastseq import BM25, BM25F, RM3, Analyzer, DataError, FastseqError, Index, SettingsError, query
from fastseq.query import (
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
)

TEXTS = ["black cat runs", "dog cat", "the black dog", "cat cat cat", "green tea", "a cat, black"]
DEEP = 200
MANY = 10_000
MOST_WORDS = 1024


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    rows = [
        {"id": n, "text": text, "title": text.split()[0], "year": 2000 + n}
        | {"lang": "en", "tags": ["x"]}
        for n, text in enumerate(TEXTS)
    ]
    path = tmp_path_factory.mktemp("index") / "bad"
    return Index.build(rows, path, text_columns="text", fields=["title", "text"])


# ---- names and values in messages

LONG = "x" * 100_000
NAMED = [
    lambda index: index.search("cat", filter=f"{LONG} = 1"),
    lambda index: index.search("cat", filter=pc.field(LONG) == 1),
    lambda index: index.search(Filter(f"{LONG} = 1")),
    lambda index: index.search("cat", sort=LONG),
    lambda index: index.search("cat", sort=[LONG, LONG]),
    lambda index: index.search("cat", group=LONG),
    lambda index: index.search("cat", facets=LONG),
    lambda index: index.search("cat", facets=f"{LONG}:0"),
    lambda index: index.search("cat", facets=[LONG, LONG]),
    lambda index: index.search("cat", fields=LONG),
    lambda index: index.search("cat", fields={LONG: 0}),
    lambda index: index.search("cat", after=LONG),
    lambda index: index.search("cat", syntax=LONG),
    lambda index: index.search("cat", operator=LONG),
    lambda index: index.search(Range(LONG, 1)),
    lambda index: index.search(Range("year", LONG)),
    lambda index: index.search(Term("1", LONG)),
    lambda index: index.search(Exists(LONG)),
    lambda index: index.search(Prefix("a", LONG)),
    lambda index: index.search(Near(["a b", LONG], 1)),
    lambda index: index.search(Boolean(must=[Term("1", LONG)])),
    lambda index: index.count("cat", filter=f"lang = {LONG}"),
    lambda index: index.count("cat", filter=f"year = '{LONG}'"),
    lambda index: index.search("cat").snippets(column=LONG),
    lambda index: index.search("cat").fields(columns=[LONG]),
    lambda index: Fuzzy("a", LONG),
    lambda index: Term(LONG.encode()),
    lambda index: Term(LONG + "\ud800"),
    lambda index: Term("a", LONG.encode()),
    lambda index: Near([LONG.encode()], 1),
]


@pytest.mark.parametrize("number", range(len(NAMED)))
def test_long_names_and_values_are_cut_in_messages(index: Index, number: int) -> None:
    with pytest.raises(FastseqError) as caught:
        NAMED[number](index)
    assert "x" * 81 not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ("tags = 'x'", "'tags' is list<.*>, a list: use has, as in tags has 'x'"),
        ("tags in ('x', 'y')", "a list: use has, as in tags has 'x'"),
        ("tags < 5", "a list: use has, as in tags has 5"),
        ("tags has 5", "is compared with 5; expected a string"),
        ("lang = 'a", "filter: the string at character 8 lacks its closing quote"),
        ('"lang = 1', "filter: the column name at character 1 lacks its closing quote"),
        ('"" = 1', "expected .* at character 1, not '\"'"),
        (pc.field("nope") == 1, "filter: no stored column 'nope'; stored are: id, text, title, "),
        (pc.field("nope)") == 1, "no stored column 'nope\\)'; stored are: id, text, title, "),
        (pc.field("year") == pc.field("lang"), "^filter: (?!no stored)"),
    ],
)
def test_what_is_wrong_in_filters(index: Index, filter: Any, message: str) -> None:
    for call in (index.search, index.count):
        with pytest.raises(FastseqError, match=message):
            call("cat", filter=filter)


def test_the_place_of_a_lone_surrogate() -> None:
    message = r"text must be valid Unicode: a lone surrogate at character 1 of '\\ud800 cat'"
    with pytest.raises(SettingsError, match=message):
        Phrase("\ud800 cat")
    with pytest.raises(SettingsError, match=r"texts must be valid Unicode: .* at character 3 of"):
        Near(["a", "é \ud800"], 1)


# ---- malformed text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('"black cat', "unbalanced quotation mark at character 1"),
        ('cat "', "unbalanced quotation mark at character 5"),
        ("(black cat", "unbalanced parenthesis at character 1"),
        ("black cat)", "unbalanced parenthesis at character 10"),
        ("((black) cat", "unbalanced parenthesis at character 1"),
        ("() cat", "nothing in parentheses"),
        ("AND cat", "AND without a clause before it"),
        ("cat AND", "AND without a clause after it"),
        ("cat OR OR dog", "OR without a clause after it"),
        ("cat NOT", "NOT without a clause after it"),
        ("+ cat", "+ without a word"),
        ("cat - dog -", "- without a word"),
        ("* cat", "* without a word at character 1"),
        ("cat^-1", "boost"),
        ("cat^nan", "boost"),
        ("cat^", "boost"),
        ("cat^1e400", "boost"),
        ("cat~x", "edits"),
        ("dog /ca[t/", "not valid at character 3: a [ without ]"),
        ("/(?=a)/ cat", "has look-around at character 1, which is not supported"),
        ("/a{1000000}/ cat", "needs more than 10,000 states"),
        ("c?t" + "x?" * 6000, "needs more than 10,000 states"),
        ("year:[2000 TO", "unbalanced bracket at character 6"),
        ("[2000 TO 2010] cat", "a range without a field"),
    ],
)
def test_malformed_text_is_plain_words(index: Index, text: str, problem: str) -> None:
    hits = index.search(text, 50, syntax="query")
    (notice,) = hits.notices
    assert notice.endswith("; searched for as plain words")
    assert problem in notice
    plain = index.search(text, 50)
    assert plain.notices == ()
    assert hits.rows.tolist() == plain.rows.tolist()
    assert hits.scores.tobytes() == plain.scores.tobytes()
    notices: list[str] = []
    count = index.count(text, syntax="query", notices=notices)
    assert (count, notices) == (len(plain.ids[0]), [notice])


@pytest.mark.parametrize(
    "text", ["*", "?", "**", "* *", "+", "-", "AND", "NOT", "()", '"', "\\", "~", "^"]
)
def test_operators_alone_find_nothing(index: Index, text: str) -> None:
    hits = index.search(text, syntax="query")
    assert hits.ids == [[]]
    assert index.count(text, syntax="query") == 0
    assert index.search(text, syntax="query", operator="and").ids == [[]]


@pytest.mark.parametrize(
    "text",
    ["re: cat", "https://x.org/?q=cat", "12:30 cat", "colour:red cat", "who was cat?", "cat *"],
)
def test_punctuation_is_no_syntax(index: Index, text: str) -> None:
    hits = index.search(text, 50, syntax="query")
    assert hits.notices == ()
    assert hits.ids == index.search(text, 50).ids != [[]]


def test_boosts(index: Index) -> None:
    zero = index.search("cat^0", 50, syntax="query")
    assert (zero.notices, zero.ids, zero.scores[0, 0]) == ((), [[0, 1, 3, 5]], 0)
    assert index.count("cat^0", syntax="query") == 4
    assert index.search("+cat^0 +black^0", 50, syntax="query").ids == [[0, 5]]
    both = index.search("cat^0 dog", 50, syntax="query")
    assert {*both.ids[0]} == {0, 1, 2, 3, 5}
    large = index.search("cat^100000000000000000000", 50, syntax="query")
    assert large.ids == index.search("cat", 50).ids
    assert np.isfinite(large.scores).all()
    for wrong in (-1, math.nan, math.inf, 1e21, "2", None):
        with pytest.raises(SettingsError, match="factor must be a number from 0 to 1e"):
            Boost(Term("cat"), wrong)  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match="score must be a number from 0 to 1e"):
            ConstantScore(Term("cat"), wrong)  # type: ignore[arg-type]


# ---- fields, columns, filters


@pytest.mark.parametrize(
    "value",
    [
        Term("cat", "colour"), Phrase("black cat", "colour"), Prefix("ca", "colour"),
        Near(("black", "cat"), 1, field="colour"), Synonyms(("cat", "dog"), "colour"),
        Range("colour", 1, 2), Exists("colour"), Fuzzy("cat", field="colour"),
        Boolean(must_not=[Term("cat", "colour")], must=["cat"]),
    ],
    ids=repr,
)  # fmt: skip
def test_unknown_fields_and_columns_list_the_known_ones(index: Index, value: Query) -> None:
    for call in (index.search, index.count, lambda given: index.explain(given, 1)):
        with pytest.raises(DataError, match="'colour'") as error:
            call(value)
        assert "fields are: title, text" in str(error.value)
        if not isinstance(value, Synonyms | Near | Phrase):
            assert "columns are: id, text, title, year, lang" in str(error.value)


def test_unknown_names_of_options(index: Index) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"fields": "colour"}, "no field 'colour'; fields of this index are: title, text"),
        ({"fields": {"colour": 1}}, "no field 'colour'; fields of this index are: title, text"),
        ({"sort": "colour"}, "'colour'.*id, text, title, year, lang"),
        ({"group": "colour"}, "'colour'.*id, text, title, year, lang"),
        ({"facets": "colour"}, "'colour'.*id, text, title, year, lang"),
        ({"filter": "colour = 1"}, "no stored column 'colour'; stored are: id, text, title, year"),
        ({"filter": "lang > 5"}, "the column 'lang' is string and is compared with 5"),
        ({"filter": "year = 'x'"}, "the column 'year' is int64 and is compared with 'x'"),
        ({"filter": "year >"}, "filter: expected"),
    ]  # fmt: skip
    for options, message in cases:
        with pytest.raises(DataError if "expected" not in message else FastseqError, match=message):
            index.search("cat", **options)
    for value in (Term("x", "year"), Range("year", "a", "b"), Phrase("x", "year")):
        with pytest.raises(DataError, match="'year' is int64 and is compared with"):
            index.search(value)
    with pytest.raises(DataError, match="'lang' is a stored column, not a field"):
        index.search(Fuzzy("en", field="lang"))
    bare = Index.build(["cat"], index.path.with_name("bare"), overwrite=True)
    with pytest.raises(DataError, match="no field 'title'; fields of this index are: none"):
        bare.search("cat", fields="title")


# ---- sizes


@pytest.mark.parametrize("k", [10**9, 1 << 29])
def test_a_huge_k_finds_all(index: Index, k: int) -> None:
    queries = "cat", Phrase("black cat"), Boolean(must=["cat"]), Prefix("ca")
    settings = {}, {"sort": "_score"}, {"fields": "text", "model": BM25()}, {"offset": 1}
    every = [[index.search(given, 50, **some) for some in settings] for given in queries]
    similar = index.more_like(0, k=50)
    started = time.process_time()  # the kernels are compiled by now
    for given, expected in zip(queries, every, strict=True):
        for some, hits in zip(settings, expected, strict=True):
            assert index.search(given, k, **some).ids == hits.ids
    assert index.more_like(0, k=k).ids == similar.ids
    assert time.process_time() - started < 60  # gigabytes take longer
    with pytest.raises(SettingsError, match="does not fit in memory"):
        index.search(["cat", Phrase("black cat")], k=10**9)
    with pytest.raises(SettingsError, match="does not fit in memory"):
        index.search(Phrase("black cat"), k=1 << 31)


@pytest.mark.parametrize("wrong", [0, -1, "10", 2.5, None, True])
def test_k_and_offset(index: Index, wrong: Any) -> None:
    for options in ({}, {"offset": 5}, {"sort": "year"}, {"facets": "lang"}):
        with pytest.raises(SettingsError, match="k must be a whole number of at least 1"):
            index.search("cat", wrong, **options)
        with pytest.raises(SettingsError, match="k must be a whole number of at least 1"):
            index.search(Phrase("black cat"), wrong, **options)
    for name in ("offset", "facet_values"):
        if wrong not in (0, None) or (name == "facet_values" and wrong == 0 and wrong is not None):
            with pytest.raises(SettingsError, match=f"{name} must be a whole number"):
                index.search("cat", facets="lang", **{name: wrong})


def deep(make: Callable[[Query], Query]) -> Query:
    found: Query = Term("cat")
    while found.depth < DEEP:
        found = make(found)
    return found


def in_frames(count: int, call: Callable[[], Any]) -> Any:
    """What a function returns when it is called with so many frames on the stack."""
    return call() if count == 0 else in_frames(count - 1, call)


@pytest.mark.parametrize(
    ("make", "ids"),
    [
        (lambda inner: Boolean(must=[inner]), [0, 1, 3, 5]),
        (lambda inner: Boolean(should=[inner, "dog"]), [0, 1, 2, 3, 5]),
        (lambda inner: Boolean(filter=[inner]), [0, 1, 3, 5]),
        (lambda inner: Boolean(must=["cat"], must_not=[inner]), []),
        (lambda inner: Boost(inner, 1.01), [0, 1, 3, 5]),
        (lambda inner: ConstantScore(inner, 2), [0, 1, 3, 5]),
    ],
)
def test_queries_nested_200_deep(
    index: Index, make: Callable[[Query], Query], ids: list[int]
) -> None:
    value = deep(make)
    assert value.depth == DEEP

    def look() -> None:
        hits = index.search(value, 50)
        assert sorted(hits.ids[0]) == ids
        assert index.count(value) == len(ids)
        for rank in range(1, len(ids) + 1):
            assert np.float32(hits.explain(rank).value) == hits.scores[0, rank - 1]
        assert len(hits.snippets()) == len(ids)

    in_frames(300, look)
    with pytest.raises(SettingsError, match="nested at most 200 deep"):
        make(value)


def test_text_nested_too_deep_is_plain_words(index: Index) -> None:
    text = "+(" * 500 + "cat" + ")" * 500
    hits = index.search(text, 50, syntax="query")
    assert hits.ids == index.search("cat", 50).ids
    assert "nested at most 200 deep" in hits.notices[0]


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (Boolean(should=[*(f"w{n}" for n in range(MANY)), "cat"]), [0, 1, 3, 5]),
        (Boolean(must=["cat"] * MANY), [0, 1, 3, 5]),
        (Boolean(must=["cat"], must_not=[*(f"w{n}" for n in range(MANY // 5)), "black"]), [1, 3]),
        (
            Boolean(
                should=[Phrase(f"black w{n}") for n in range(MANY // 5)] + [Phrase("black cat")]
            ),
            [0],
        ),
        (Boolean(should=[Prefix("c"), Prefix("ca")] * (MANY // 10)), [0, 1, 3, 5]),
        # more than 16 bits count
        (Boolean(should=["cat"] * 66_000, minimum_should_match=66_000), [0, 1, 3, 5]),
        (Boolean(should=["cat"] * 10, minimum_should_match=11), []),
    ],
    ids=["should", "must", "must_not", "phrases", "prefixes", "minimum", "too few"],
)
def test_thousands_of_clauses(index: Index, value: Query, ids: list[int]) -> None:
    hits = index.search(value, 50)
    assert sorted(hits.ids[0]) == ids
    assert index.count(value) == len(ids)
    if ids:
        assert np.float32(hits.explain().value) == hits.scores[0, 0]


def test_text_of_ten_thousand_clauses(index: Index) -> None:
    words = [f"w{n}" for n in range(MANY)]
    assert index.search(" OR ".join([*words, "cat"]), syntax="query").ids == [[3, 1, 0, 5]]
    some = words[: MANY // 5]
    assert index.search(" ".join(f"+{word}" for word in some), syntax="query").ids == [[]]
    assert index.search(f"cat -{' -'.join(some)}", syntax="query").ids == [[3, 1, 0, 5]]


def test_a_slop_of_a_million(index: Index) -> None:
    for given in ('"cat black"~1000000', '"cat black"~2000000000'):
        hits = index.search(given, 50, syntax="query")
        assert (hits.notices, hits.ids) == ((), [[5, 0]])
    assert index.search(Near(("cat", "black"), 1_000_000), 50).ids == [[0, 5]]
    for wrong in (1 << 31, -1, 1.5):
        with pytest.raises(SettingsError, match="slop must be a whole number"):
            Phrase("black cat", slop=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|a)*c", "(.*)*cat", "((a*)*)*x", "a{0,200}{0,20}", "(" * 300 + ")" * 300,
                "[", "(", "*a", "a{1000000}", "(?=a)", r"\1"]
)  # fmt: skip
def test_pathological_regular_expressions(tmp_path: Path, pattern: str) -> None:
    index = Index.build(["a" * 200 + " cat aac", "dog"], tmp_path / "index")
    started = time.perf_counter()
    try:
        said = str(index.search(Regex(pattern)).ids)
    except SettingsError as error:
        said = str(error)
    assert re.match(r"\[\[0?\]\]|the regular expression '", said)
    assert time.perf_counter() - started < 20
    text = index.search(f"/{pattern}/ dog", syntax="query")
    assert 1 in text.ids[0] or text.notices


def test_a_prefix_of_a_hundred_thousand_words(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    often = chance.permutation(100_000)[:MOST_WORDS].tolist()
    texts = [" ".join(f"a{n}" for n in range(low, low + 2000)) for low in range(0, 100_000, 2000)]
    texts += [" ".join(f"a{n}" for n in often), "b"]
    index = Index.build(texts, tmp_path / "index")
    said = "a* matches 100,000 words: searched for the 1,024 most frequent ones"
    for given in (Prefix("a"), "a*"):
        hits = index.search(given, 100, syntax="query")
        assert hits.notices == (said,)
        # all but those that two documents have are left out
        found = {f"a{n}" for n in often}
        expected = [row for row, text in enumerate(texts) if found & {*text.split()}]
        assert sorted(hits.ids[0]) == expected
    notices: list[str] = []
    assert index.count("a*", syntax="query", notices=notices) == len(texts) - 1  # of all words
    assert notices == []
    assert index.count(Boolean(must=[Prefix("a")], must_not=["a7"])) == len(texts) - 2
    segments = Index.build([{"id": 0, "text": texts[0]}], tmp_path / "segments")
    segments.add([{"id": n, "text": text} for n, text in enumerate(texts[1:], 1)])
    segments.delete([1])
    assert segments.count(Prefix("a")) == len(texts) - 2
    assert index.search(Wildcard("a*9?"), 100).notices == (
        "(a*9?) matches 10,000 words: searched for the 1,024 most frequent ones",
    )
    assert index.search("a99*", 100, syntax="query").notices[0].startswith("a99* matches 1,11")


# ---- phrases without positions


def test_phrases_on_an_index_without_positions(tmp_path: Path) -> None:
    with_positions = Index.build(TEXTS, tmp_path / "with")
    stored = Index.build([{"text": text} for text in TEXTS], tmp_path / "stored", positions=False)
    bare = Index.build(TEXTS, tmp_path / "bare", positions=False, store=[])
    for value in (Phrase("black cat"), Phrase("cat black", slop=2), Near(("cat", "black"), 1)):
        expected = with_positions.search(value)
        hits = stored.search(value)
        assert expected.notices == ()
        assert hits.notices == (
            "the index has no positions: phrases are looked for in the stored text, which is "
            "slower",
        )
        assert hits.ids == expected.ids != [[]]
        assert hits.scores.tobytes() == expected.scores.tobytes()
        notices: list[str] = []
        assert stored.count(value, notices=notices) == len(hits.ids[0])
        assert notices == [*hits.notices]
        for call in (bare.search, bare.count):
            with pytest.raises(DataError, match="positions") as error:
                call(value)
            assert "stored" in str(error.value)
    assert bare.search("black cat").ids == with_positions.search("black cat").ids
    ngrams = Index.build(TEXTS, tmp_path / "n", analyzer=Analyzer(ngrams=(1, 2)), store=[])
    with pytest.raises(FastseqError, match=r"phrase|positions"):
        ngrams.search(Phrase("black cat"))


# ---- arguments of other types


def test_other_queries_are_refused(index: Index) -> None:
    for wrong in (5, None, b"cat", [5], ["cat", None], [["cat"]], {"cat"} - {"cat"} or 5.0):
        for options in ({}, {"sort": "year"}, {"facets": "lang"}, {"syntax": "query"},
                        {"fields": "text"},
                        {"operator": "and"}, {"feedback": RM3()}):  # fmt: skip
            with pytest.raises(SettingsError, match="a query must be a string"):
                index.search(wrong, **options)  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match="a query must be a string"):
            index.count(wrong)  # type: ignore[arg-type]
    for weights in ({"cat": "x"}, {"cat": math.nan}, {"cat": None}, {"cat": 1e21}):
        for call in (index.search, index.count, lambda given: index.search(given, sort="year")):
            with pytest.raises(
                SettingsError, match=r"the weight of the query term .* must be a finite number"
            ):
                call(weights)
    for call in (index.search, index.count):
        with pytest.raises(SettingsError, match="a query's terms must be strings"):
            call({5: 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "bm25"}, "model must be a ranking model such as BM25"),
        ({"model": BM25}, "model must be a ranking model such as BM25"),
        ({"model": BM25F()}, "the model BM25F is for a search in fields"),
        ({"fields": {}}, "fields must name at least one field"),
        ({"fields": 5}, "fields must be a string or a list of strings"),
        ({"fields": {"title": 0}}, "the weight of 'title' must be a number above 0"),
        ({"fields": {"title": math.nan}}, "the weight of 'title' must be a number above 0"),
        ({"fields": {"title": "3"}}, "the weight of 'title' must be a number above 0"),
        ({"syntax": "lucene"}, "syntax is 'lucene'; expected one of plain, query"),
        ({"operator": "AND"}, "operator is 'AND'; expected one of or, and"),
        ({"synonyms": {"a": "b"}}, "synonyms must be a SynonymMap, not"),
        ({"sort": 5}, "sort must be a string or a list of strings"),
        ({"sort": ""}, "sort: cannot read"),
        ({"group": 5}, "group must be a string, not 5"),
        ({"facets": 5}, "facets must be columns such as"),
        ({"feedback": 5}, "feedback must be RM3"),
        ({"feedback": RM3(), "fields": "title"}, "feedback cannot be combined with fields"),
        ({"feedback": RM3(), "operator": "and"}, "feedback cannot be combined with operator='and'"),
        ({"expand": list, "fields": "title"}, "expand cannot be combined with fields"),
        ({"expand": 5}, "expand must be a function"),
        ({"filter": 5}, "filter"),
    ],
    ids=repr,
)  # fmt: skip
def test_options_of_other_types_are_refused(
    index: Index, options: dict[str, Any], message: str
) -> None:
    for given in ("cat", Boolean(must=["cat"])):
        with pytest.raises(FastseqError, match=message):
            index.search(given, **options)


def test_only_plain_words_are_expanded(index: Index) -> None:
    def expand(queries: Any) -> Any:
        return [{"tea": 0.5} for _ in queries]

    hits = index.search(["cat", "+cat -black"], 50, expand=expand, syntax="query")
    assert 4 in hits.ids[0]
    assert hits.ids[1] == index.search("+cat -black", 50, syntax="query").ids[0]
    assert hits.notices == ("only queries of plain words are expanded",)
    assert index.search("cat", expand=expand, syntax="query").notices == ()


def test_a_mapping_is_not_searched_in_fields(index: Index) -> None:
    for options in ({}, {"sort": "year"}):
        with pytest.raises(
            SettingsError, match="a mapping of terms to weights cannot be searched in"
        ):
            index.search({"cat": 1.0}, fields="title", **options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="a mapping of terms to weights cannot be searched in"):
        index.count({"cat": 1.0}, fields="title")


def test_an_index_without_documents(tmp_path: Path) -> None:
    index = Index.build([{"id": 1, "text": "black cat"}], tmp_path / "index", fields="text")
    index.delete([1])
    for value in ("cat", Phrase("black cat"), Prefix("c"), query.All(), Boolean(must=["cat"])):
        for options in ({}, {"sort": "id"}, {"group": "id"}, {"fields": "text"}, {"facets": "id"}):
            assert index.search(value, **options).ids == [[]]  # type: ignore[arg-type]
        assert index.search(value, k=10**9).ids == [[]]
        assert index.count(value) == 0
    assert index.suggest("cats") == index.complete("c") == []
