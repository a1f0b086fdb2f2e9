"""fastseq search: the query language, fields, order, pages, facets, snippets and explanations."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastseq
from fastseq import BM25F, SynonymMap
from tests.cli.conftest import Ran, Run

Search = Callable[..., Any]
JSON = ("--format", "json")
ROWS = [
    ("a", "black cat", "the black cat runs", 2001, "en", ["x"]),
    ("b", "dog", "a dog and a cat", 2002, "en", ["x", "y"]),
    ("c", "tea", "cat cat cat", 2003, "de", []),
    ("d", "green tea", "the black dog", None, None, ["y"]),
    ("e", "cats", "cart with cats", 2001, "fr", ["x"]),
    ("f", "cat black", "a cat, then black dots", 2002, "en", ["z"]),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queries") / "index"
    names = ("id", "title", "body", "year", "lang", "tags")
    rows = [dict(zip(names, row, strict=True)) for row in ROWS]
    fastseq.Index.build(
        rows, path, text_columns=["title", "body"], fields=["title", "body"], threads=1
    )
    return path


@pytest.fixture
def search(run: Run, index: Path) -> Search:
    return lambda *words, **more: run("search", *words, "-i", index, **more)


def ids(ran: Any) -> list[str]:
    """The ids of the hits, which is all that was printed on stdout; nothing on stderr."""
    assert ran.err == ""
    found = ran.json
    return [hit["id"] for hit in (found["hits"] if isinstance(found, dict) else found)]


def test_the_query_syntax_is_the_default(search: Search) -> None:
    for text, expected in (
        ('"black cat"', "a"), ("+cat +black", "fa"), ("+dog -cat", "d"), ("car*", "e"),
        ("title:tea", "cd"), ("title:\"green tea\"", "d"), ("year:[2002 TO *]", "bcf"),
        ("/ca(r|n)t/", "e"), ("cats~1 -cat", "e"), ("lang:fr", "e"), ('"cat black"~5', "fa"),
        ("*:* -cat -cats", "d"), ("dog AND NOT cat", "d"), ("(dog OR tea) AND green", "d"),
    ):  # fmt: skip
        assert sorted(ids(search("--quiet", text, *JSON))) == sorted(expected), text
    plain = search('+"black cat"', "--syntax", "plain", *JSON)
    assert {"a", "f", "b", "d"} <= {*ids(plain)}
    assert ids(search("black cat", "--operator", "and", *JSON)) == ids(search("+black +cat", *JSON))


def test_fields(search: Search, index: Path) -> None:
    library = fastseq.Index.open(index)
    for words, options in (
        (("--field", "title"), {"fields": "title"}),
        (("--field", "title^3", "--field", "body"), {"fields": {"title": 3.0, "body": 1.0}}),
        (
            ("--field", "title^0.5", "--field-b", "title=0.1"),
            {"fields": {"title": 0.5}, "model": BM25F(b={"title": 0.1})},
        ),
        (
            ("--field", "title", "--model", "bm25", "--k1", "0.5"),
            {"fields": "title", "model": fastseq.BM25(k1=0.5)},
        ),
    ):
        found = search("cat tea", *words, *JSON).json
        hits = library.search("cat tea", **options)
        assert [hit["id"] for hit in found] == hits.ids[0]
        assert [hit["score"] for hit in found] == hits.scores[0, : len(found)].tolist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--field", "colour"), "no field 'colour'; fields of this index are: title, body"),
        (
            ("--field", "title^x"),
            "--field: the weight of 'title' is 'x'; expected a number as in t",
        ),
        (("--field", "title", "--field", "title^2"), "--field: 'title' is named twice"),
        (("--field", "title^0"), "the weight of 'title' must be a number above 0"),
        (("--field", "title^nan"), "the weight of 'title' must be a number above 0"),
        (("--field", "title", "--field-b", "title=2"), "--field-b: 'title=2' is not one of the f"),
        (
            ("--field", "title", "--field-b", "body=1"),
            "--field-b: 'body=1' is not one of the field",
        ),
        (("--field", "title", "--field-b", "title"), "--field-b: 'title' is not one of the fields"),
        (("--sort", "colour"), "'colour'"),
        (("--sort", "year:up"), "sort: cannot read 'year:up'"),
        (("--sort", "tags"), "'tags'"),
        (("--group", "colour"), "'colour'"),
        (("--facet", "colour"), "'colour'"),
        (("--facet", "lang:10"), "'lang'"),
        (("--facet", "year:0"), "facet: the interval of 'year' must be a positive number, not '0'"),
        (
            ("--facet", "lang", "--facet-values", "0"),
            "--facet-values must be a whole number of at l",
        ),
        (("--offset", "-1"), "offset must be a whole number of at least 0, not -1"),
        (
            ("--after", "x"),
            "after must be the cursor of a page of hits (that of the first is None, and start on "
            "the command line), not 'x'",
        ),
        (("--synonyms", "missing.txt"), "missing.txt"),
        (("--filter", "year = 'x'"), "the column 'year' is int64 and is compared with 'x'"),
        (("-k", "0"), "k must be at least 1, not 0"),
    ],
)
def test_errors_are_one_line(search: Search, words: tuple[str, ...], message: str) -> None:
    ran = search("cat", *words)
    assert message in ran.error
    assert (ran.code, ran.out) == (1, "")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("colour:[1 TO 2]", "a range without a field"),
        ("year:red", "'year' is int64 and is compared with 'red'"),
        ("lang:en~", "'lang' is a stored column, not a field of the index"),
    ],
)  # fmt: skip
def test_wrong_names_and_values(search: Search, query: str, message: str) -> None:
    ran = search(query)
    assert ran.code == 0
    assert f"Notice: {message}" in ran.err.replace("the column ", "")
    assert "; searched for as plain words" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either a QUERY, --queries FILE or --like ID"),
        (("cat", "--like", "a"), "give either a QUERY"),
        (("cat", "--offset", "1", "--after", "start"), "--after cannot be combined with --offset"),
        (("cat", "--count", "--facet", "lang"), "--count cannot be combined with --facet"),
        (("cat", "--count", "--snippets"), "--count cannot be combined with --snippets"),
        (("cat", "--count", "--explain"), "--count cannot be combined with --explain"),
        (("cat", "--count", "--sort", "year"), "--count cannot be combined with --sort"),
        (("cat", "--count", "--group", "year"), "--count cannot be combined with --group"),
        (("cat", "--count", *JSON), "--count cannot be combined with --format"),
        (
            ("cat", "--feedback", "rm3", "--field", "title"),
            "--feedback cannot be combined with --f",
        ),
        (("cat", "--feedback", "rm3", "--explain"), "--feedback cannot be combined with --explain"),
        (("cat", "--feedback", "rm3", "--count"), "--feedback cannot be combined with --count"),
        (
            ("cat", "--feedback", "rm3", "--operator", "and"),
            "--feedback cannot be combined with --o",
        ),
        (("--like", "a", "--field", "title"), "--like cannot be combined with --field"),
        (("--like", "a", "--syntax", "query"), "--like cannot be combined with --syntax"),
        (("--like", "a", "--operator", "and"), "--like cannot be combined with --operator"),
        (("--like", "a", "--facet", "lang"), "--facet requires a QUERY"),
        (("--like", "a", "--snippets"), "--snippets requires a QUERY"),
        (("--queries", "q.tsv", "--count"), "--count requires a QUERY"),
        (("--queries", "q.tsv", "--sort", "year"), "--sort requires a QUERY"),
        (("--queries", "q.tsv", "--after", "start"), "--after requires a QUERY"),
        (("cat", "--facet", "lang", "--format", "tsv"), "--facet requires --format table or json"),
        (("cat", "--snippets", "--format", "trec"), "--snippets requires --format table or json"),
        (("cat", "--explain", "--format", "jsonl"), "--explain requires --format table or json"),
        (("cat", "--field-b", "title=0.5"), "--field-b requires --field and the model bm25f"),
        (
            ("cat", "--field", "title", "--model", "bm25", "--field-b", "title=0.5"),
            "--field-b requ",
        ),
        (("cat", "--model", "bm25f"), "--model bm25f requires --field"),
        (("cat", "--syntax", "lucene"), "'lucene' is not one of"),
        (("cat", "--operator", "xor"), "'xor' is not one of"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_combinations_that_are_usage_errors(
    search: Search, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "q.tsv").write_text("q\tcat\n")
    ran = search(*words)
    assert (ran.code, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ('"black cat', "unbalanced quotation mark at character 1"),
        ("(black cat", "unbalanced parenthesis at character 1"),
        ("cat AND", "AND without a clause after it"),
        ("* cat", "* without a word"),
        ("cat^-1", "boost"),
        ("cat^nan", "boost"),
        ("/ca[t/ cat", "a [ without ]"),
    ],
)
def test_malformed_queries_are_searched_for_as_plain_words(
    search: Search, query: str, problem: str
) -> None:
    expected = search(query, "--syntax", "plain", *JSON)
    ran = search(query, *JSON)
    assert ran.code == 0
    assert ran.out == expected.out != "[]\n"
    (notice,) = [line for line in ran.err.splitlines() if line.startswith("Notice: ")]
    assert problem in notice
    assert notice.endswith("; searched for as plain words")
    counted = search(query, "--count")
    assert (counted.code, counted.out) == (0, f"{len(expected.json)}\n")
    assert notice in counted.err
    assert search(query, *JSON, "--quiet").err == ""


@pytest.mark.parametrize("query", ["*", "?", "+", "OR", "()", '"'])
def test_operators_alone_find_nothing(search: Search, query: str) -> None:
    ran = search(query, *JSON)
    assert (ran.code, ran.out) == (0, "[]\n")


def test_notices_of_many_queries(search: Search, tmp_path: Path) -> None:
    lines = [f'q{n}\t"cat {n * "x"}' for n in range(12)] + ["ok\tcat", "+\t+cat -dog"]
    (tmp_path / "q.tsv").write_text("\n".join(lines) + "\n")
    expected = search("--queries", "q.tsv", "--format", "tsv")
    ran = search("--queries", "q.tsv", "--format", "tsv", "--syntax", "query")
    assert ran.code == 0
    assert (
        ran.err.count("unbalanced quotation mark at character 1; searched for as plain words") == 1
    )
    assert ran.out != expected.out  # of the last one
    assert [line for line in ran.out.splitlines() if line[0] == "q"] == [
        line for line in expected.out.splitlines() if line[0] == "q"
    ]
    wrong = [f"w{n}\t{n * 'x'} (cat" for n in range(1, 12)]
    (tmp_path / "q.tsv").write_text("\n".join(wrong) + "\n")
    for output in ((), ("-o", "run.trec")):
        ran = search("--queries", "q.tsv", "--syntax", "query", *output)
        assert ran.err.count("searched for as plain words") == 8
        assert "Notice: 3 more like these\n" in ran.err


def test_sort_group_and_offset(search: Search) -> None:
    every = ids(search("cat dog tea", *JSON))
    assert ids(search("cat dog tea", "--offset", "2", *JSON)) == every[2:]
    assert ids(search("cat", "--sort", "year", *JSON)) == ["a", "b", "f", "c"]
    assert ids(search("cat", "--sort", "-year", "--sort", "title", *JSON)) == ["c", "f", "b", "a"]
    assert ids(search("cat", "--sort", "-year,-title", *JSON)) == ["c", "b", "f", "a"]
    assert ids(search("cat", "--sort", "year:desc", "-k", "1", *JSON)) == ["c"]
    grouped = ids(search("cat", "--group", "lang", *JSON))
    assert len(grouped) == 2
    assert grouped[0] == ids(search("cat", *JSON))[0]
    assert ids(search("cat dog", "--filter", "lang = 'en'", "--sort", "-year", *JSON)) == [
        "b",
        "f",
        "a",
    ]


def test_pages(search: Search) -> None:
    for options in ((), ("--sort", "-year"), ("--group", "year"), ("--filter", "year > 0")):
        every = ids(search("cat dog tea", "-k", "100", *options, *JSON))
        found: list[str] = []
        after = "start"
        for _ in range(10):
            ran = search("cat dog tea", "-k", "2", "--after", after, *options, *JSON)
            page = [hit["id"] for hit in ran.json]
            found += page
            cursor = re.fullmatch(r"next page: --after (\S+)\n", ran.err)
            if cursor is None:
                assert (page, ran.err) == ([], "")
                break
            after = cursor[1]
        assert found == every
    ran = search("cat", "--after", after)
    assert "another query" in ran.error
    assert ran.code == 1


def test_facets(search: Search) -> None:
    ran = search(
        "cat dog", "--facet", "lang", "--facet", "year:2", "--facet", "tags", "-k", "1", *JSON
    )
    assert list(ran.json) == ["hits", "facets"]
    assert len(ran.json["hits"]) == 1
    assert ran.json["facets"] == {
        "lang": {
            "counts": [{"value": "en", "count": 3}, {"value": "de", "count": 1}],
            "other": 0, "missing": 1,
        },
        "year": {
            "counts": [{"value": [2000, 2002], "count": 1}, {"value": [2002, 2004], "count": 3}],
            "other": 0, "missing": 1,
        },
        "tags": {
            "counts": [{"value": "x", "count": 2}, {"value": "y", "count": 2},
                       {"value": "z", "count": 1}],
            "other": 0, "missing": 1,
        },
    }  # fmt: skip
    few = search("cat dog", "--facet", "lang", "--facet-values", "1", *JSON).json["facets"]["lang"]
    assert (few["counts"], few["other"]) == ([{"value": "en", "count": 3}], 1)
    ran = search("cat dog", "--facet", "lang", "--facet-values", "1", "--facet", "year:2")
    tables = [[line.split() for line in part.splitlines()] for part in ran.out.split("\n\n")]
    assert tables[1:] == [
        [["lang", "documents"], ["en", "3"], ["(other)", "1"], ["(none)", "1"]],
        [
            ["year", "documents"], ["2000", "to", "2002", "1"], ["2002", "to", "2004", "3"],
            ["(none)", "1"],
        ],
    ]  # fmt: skip
    none = search("never", "--facet", "lang", "--quiet", *JSON)
    assert none.json == {"hits": [], "facets": {"lang": {"counts": [], "other": 0, "missing": 0}}}
    filtered = search("cat dog", "--facet", "lang", "--filter", "year = 2002", *JSON)
    assert filtered.json["facets"]["lang"]["counts"] == [{"value": "en", "count": 2}]


def test_count(search: Search) -> None:
    for words, count in (
        (("cat",), 4), (('"black cat"',), 1), (("never",), 0), (("cat dog",), 5), (("*:*",), 6),
        (("cat dog", "--operator", "and"), 1), (("cat", "--filter", "lang = 'en'"), 3),
        (("cat", "--field", "title"), 2), (("+cat -dog",), 3),
    ):  # fmt: skip
        ran = search(*words, "--count")
        assert (ran.code, ran.out, ran.err) == (0, f"{count}\n", ""), words
    assert search("-", "--count", stdin="-cat").out == "0\n"


@pytest.mark.parametrize(
    ("query", "shown", "others"), [("!cat", "-cat", 2), ("NOT cat NOT dog", "-cat -dog", 1)]
)
def test_only_prohibited_words(search: Search, query: str, shown: str, others: int) -> None:
    notice = f"Notice: only prohibited clauses: {shown} matches nothing, *:* {shown} all other"
    for words in (("--count",), JSON, (*JSON, "--sort", "year"), (*JSON, "--facet", "lang")):
        ran = search(query, *words)
        assert ran.code == 0
        assert ran.err.count(notice) == 1
    assert search(f"*:* {shown}", "--count").out == f"{others}\n"


def test_more_edits_than_there_can_be(search: Search) -> None:
    expected = search("caat~2", *JSON)
    for words in (JSON, ("--count",)):
        ran = search("caat~5", *words)
        assert ran.code == 0
        assert ran.err == "Notice: caat~5: at most 2 edits are searched for\n"
    assert search("caat~5", *JSON).out == expected.out


def test_snippets(search: Search) -> None:
    found = search('"black cat"', "--snippets", *JSON).json
    (hit,) = found
    snippet = hit["snippet"]
    assert set(snippet) == {"text", "highlights", "offset", "column"}
    spans = [snippet["text"][a:b] for a, b in snippet["highlights"]]
    assert " ".join(spans) == "black cat"
    assert "fields" in hit
    ran = search("cat", "--snippets")
    lines = ran.out.splitlines()
    assert [line.split()[2] for line in lines[::2]] == ids(search("cat", *JSON))
    assert all(line.startswith("   ") and "cat" in line for line in lines[1::2])
    assert "\x1b" not in ran.out
    assert search("never", "--snippets", "--quiet").out == ""
    assert search("never", "--snippets", "--quiet", *JSON).out == "[]\n"


def test_explanations(search: Search, index: Path) -> None:
    library = fastseq.Index.open(index)
    for query, options in (("+cat black^2", ()), ("ca*", ()), ("cat tea", ("--field", "title^2"))):
        found = search(query, "--explain", *options, *JSON).json
        fields = {"title": 2.0} if options else None
        for hit in found:
            tree = library.explain(query, hit["id"], syntax="query", fields=fields)
            assert hit["explanation"] == tree.to_dict()
            assert hit["explanation"]["value"] == hit["score"]
    text = search("cat", "--explain", "-k", "1").out
    assert text.splitlines()[0].split()[2] == ids(search("cat", *JSON))[0]
    assert "idf" in text
    both = search("cat", "--explain", "--snippets", "--facet", "lang", *JSON).json
    assert {"snippet", "explanation"} <= both["hits"][0].keys()


def test_synonyms(search: Search, index: Path, tmp_path: Path) -> None:
    (tmp_path / "synonyms.txt").write_text("# animals\ncat, dog\ncar => cart\n")
    library = fastseq.Index.open(index)
    expected = library.search("cat", synonyms=SynonymMap.load(tmp_path / "synonyms.txt"))
    given = ("--synonyms", "synonyms.txt")
    assert ids(search("cat", *given, *JSON)) == expected.ids[0]
    assert search("cat", *given, "--count").out == "5\n"
    assert ids(search("+car -dog", *given, "--quiet", *JSON)) == ["e"]
    assert ids(search("cat", *given, "--filter", "lang = 'de'", *JSON)) == ["c"]
    (tmp_path / "q.tsv").write_text("q\tcat\nr\tcar\n")
    rows = search("--queries", "q.tsv", *given, "--format", "tsv").out.splitlines()[1:]
    found = [row.split("\t") for row in rows]
    assert [id for q, id, *_ in found if q == "q"] == expected.ids[0]
    assert [id for q, id, *_ in found if q == "r"] == ["e"]


def test_a_prefix_of_many_words_is_reported(run: Run) -> None:
    texts = [" ".join(f"a{n}" for n in range(low, low + 500)) for low in range(0, 2000, 500)]
    fastseq.Index.build(texts, "index", threads=1)
    said = "Notice: a* matches 2,000 words: searched for the 1,024 most frequent ones\n"
    counted = run("search", "a*", "-i", "index", "--count")
    assert (counted.out, counted.err) == ("4\n", "")
    for words in (JSON, ("--explain", "-k", "1"), ("--sort", "_score"), ("--group", "text")):
        ran: Ran = run("search", "a*", "-i", "index", *words)
        assert ran.code == 0
        assert said in ran.err
    every = run("search", "a*", "-i", "index", "--sort", "text", "--format", "json")
    assert ids(every) == [0, 2, 3, 1]


def test_documents_like_another(search: Search) -> None:
    found = ids(search("--like", "a", *JSON))
    assert "a" not in found
    assert found
    ran = search("--like", "never")
    assert "no document has the id 'never'" in ran.error
