"""The text syntax of queries: examples, Lucene's precedence, malformed texts, random texts."""

from __future__ import annotations

import datetime
import math
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import query as values
from fastseq.errors import SettingsError
from fastseq.query import (
    All,
    Boolean,
    Boost,
    Exists,
    Fuzzy,
    Phrase,
    Prefix,
    Query,
    Range,
    Regex,
    Term,
    Wildcard,
    walk,
)
from fastseq.search.syntax import parse

FIELDS, COLUMNS = ("title", "my field"), ("year", "lang")


def parsed(text: str) -> Query:
    """The query of a text without a notice."""
    found = parse(text, fields=FIELDS, columns=COLUMNS)
    assert found.notice is None
    assert found.plain == (found.query == Term(text))
    return found.query


def either(*queries: Query | str) -> Boolean:
    return Boolean(should=queries)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        # words
        ("+black", Boolean(must="black")),
        ("+black cat", Boolean(must="black", should="cat")),
        ("+black -dog !mouse", Boolean(must="black", must_not=["dog", "mouse"])),
        ("-dog", Boolean(must_not="dog")),
        ("NOT dog", Boolean(must_not="dog")),
        ("a a +b", Boolean(must="b", should=["a", "a"])),
        ("  +a   b\t\n-c  ", Boolean(must="a", should="b", must_not="c")),
        ("a\u3000+b", Boolean(must="b", should="a")),
        ("+foo-bar it's", Boolean(must="foo-bar", should="it's")),
        ("+c++ a!b", Boolean(must="c++", should="a!b")),
        ("+naïve 黒猫", Boolean(must="naïve", should="黒猫")),
        ("+AT&T and/or a&&b", Boolean(must="AT&T", should=["and/or", "a&&b"])),
        ("+and or not", Boolean(must="and", should=["or", "not"])),
        # phrases
        ('"black cat"', Phrase("black cat")),
        ('"black cat"~3', Phrase("black cat", slop=3)),
        ('"black cat"~1000000', Phrase("black cat", slop=1_000_000)),
        ('"black cat"~0', Phrase("black cat")),
        ('"a (b) +c: d*"', Phrase("a (b) +c: d*")),
        (r'"say \"hi\" \\ \a"', Phrase('say "hi" \\ a')),
        ('a"b c"d', either("a", Phrase("b c"), "d")),
        ('"a b" -"c d"~2', Boolean(should=Phrase("a b"), must_not=Phrase("c d", slop=2))),
        # operators and groups
        ("a OR b", either("a", "b")),
        ("a && b || c", Boolean(must=["a", "b"], should="c")),
        ("(a b)", either("a", "b")),
        ("((((a))))", Term("a")),
        ("(a)", Term("a")),
        ("a(b)", either("a", "b")),
        ("(+a)", Boolean(must="a")),
        ("+(a b) c", Boolean(must=either("a", "b"), should="c")),
        ("NOT (a OR b)", Boolean(must_not=either("a", "b"))),
        ("(a)&&(b)", Boolean(must=["a", "b"])),
        # boosts
        ("cat^2", Boost("cat", 2)),
        ("cat^0", Boost("cat", 0)),
        ("cat^0.25 dog", either(Boost("cat", 0.25), "dog")),
        ("cat^.5", Boost("cat", 0.5)),
        ("cat^100000000000000000000", Boost("cat", 1e20)),
        ('"a b"^2~3', Boost(Phrase("a b", slop=3), 2)),
        ('"a b"~3^2', Boost(Phrase("a b", slop=3), 2)),
        ("(a b)^3", Boost(either("a", "b"), 3)),
        ("((a^2)^3)^4", Boost(Boost(Boost("a", 2), 3), 4)),
        ("2^10", Boost("2", 10)),
        ("+*:*^2", Boolean(must=Boost(All(), 2))),
        # prefixes, wildcards, fuzzy words, regular expressions
        ("wor*", Prefix("wor")),
        ("w?ld*", Wildcard("w?ld*")),
        ("*wild", Wildcard("*wild")),
        ("?wild", Wildcard("?wild")),
        ("w*d", Wildcard("w*d")),
        ("wor**", Wildcard("wor**")),
        ("wor*^2", Boost(Prefix("wor"), 2)),
        ("+cat?", Boolean(must=Wildcard("cat?"))),
        ("cat? dog", either(Wildcard("cat?"), "dog")),
        ("(cat?)", Wildcard("cat?")),
        (r"wor\*", Term("wor*")),
        (r"wo\*r*", Prefix("wo*r")),
        (r"wo\*r?d", Wildcard(r"wo\*r?d")),
        (r"w\o?\\d\-", Wildcard(r"wo?\\d-")),
        (r"w\\*", Prefix("w\\")),
        (r"w*d\*", Wildcard(r"w*d\*")),
        (r"w\\\*?", Wildcard(r"w\\\*?")),
        (r"\u002a?\u0041", Wildcard(r"\*?A")),
        (r"\u002a\?", Term("*?")),
        (r"a\ b*", Prefix("a b")),
        ("word~", Fuzzy("word")),
        ("word~1", Fuzzy("word", 1)),
        ("word~2", Fuzzy("word", 2)),
        ("word~1.0", Fuzzy("word", 1)),
        ("word~0", Fuzzy("word", 0)),
        ("word~0.8", Fuzzy("word", 0)),
        ("words~0.8", Fuzzy("words", 1)),
        ("wordy~.5", Fuzzy("wordy", 2)),
        ("word~1^2", Boost(Fuzzy("word", 1), 2)),
        ("word^2~1", Boost(Fuzzy("word", 1), 2)),
        ("foo-bar~1", Fuzzy("foo-bar", 1)),
        ("/joh?n(ath[oa]n)/", Regex("joh?n(ath[oa]n)")),
        (r"/a\/b\.c\\/", Regex(r"a/b\.c\\")),
        ("/a b/^2 /c/", either(Boost(Regex("a b"), 2), Regex("c"))),
        ("(/a/)", Regex("a")),
        # fields
        ("title:cat", Term("cat", "title")),
        ("title:cat dog", either(Term("cat", "title"), "dog")),
        ("title: cat dog", either(Term("cat", "title"), "dog")),
        ("+title:cat -lang:de", Boolean(must=Term("cat", "title"), must_not=Term("de", "lang"))),
        ("title:(a b)", either(Term("a", "title"), Term("b", "title"))),
        ("title:(a lang:b) c", either(either(Term("a", "title"), Term("b", "lang")), "c")),
        ("title:(+(a b))^2 c", either(Boost(Boolean(
            must=either(Term("a", "title"), Term("b", "title"))), 2), "c")),
        ('title:"a b"~1', Phrase("a b", "title", 1)),
        ("title:wor*", Prefix("wor", "title")),
        ("title:w?r", Wildcard("w?r", "title")),
        ("title:/r+/", Regex("r+", "title")),
        ("title:word~1", Fuzzy("word", 1, field="title")),
        ("title:a:b", Term("a:b", "title")),
        (r"my\ field:a", Term("a", "my field")),
        ("title:https://x.org/a?b", Wildcard("https://x.org/a?b", "title")),
        (r"title\:cat +a", Boolean(must="a", should="title:cat")),
        # ranges
        ("year:[2000 TO 2010]", Range("year", "2000", "2010")),
        ("year:{2000 TO 2010}", Range("year", "2000", "2010", False, False)),
        ("year:[2000 TO 2010}", Range("year", "2000", "2010", True, False)),
        ("year:{ 2000  TO  2010 ]", Range("year", "2000", "2010", False, True)),
        ("year:[* TO 2010]", Range("year", None, "2010")),
        ("year:[2000 TO *}^2", Boost(Range("year", "2000", None, True, False), 2)),
        (r'title:["a \"b" TO "*"]', Range("title", 'a "b', "*")),
        (r"title:[\* TO b\]]", Range("title", "*", "b]")),
        ("year:[2020-01-01T00:00:00 TO -5]", Range("year", "2020-01-01T00:00:00", "-5")),
        ("title:[TO TO TO]", Range("title", "TO", "TO")),
        ("year:>=10", Range("year", "10")),
        ("year:>10", Range("year", "10", include_low=False)),
        ("year:<=-1.5", Range("year", high="-1.5")),
        ("year:<5 a", either(Range("year", high="5", include_high=False), "a")),
        ('year:>="a b"^2', Boost(Range("year", "a b"), 2)),
        ("year:(>=10 AND <20)", Boolean(must=[Range("year", "10"),
                                              Range("year", high="20", include_high=False)])),
        ("year:([1 TO 2] [3 TO 4])", either(Range("year", "1", "2"), Range("year", "3", "4"))),
        ("year:*", Exists("year")),
        ("_exists_:year", Exists("year")),
        (r"_exists_:my\ field^2", Boost(Exists("my field"), 2)),
        ("*:*", All()),
        ("*:* -a", Boolean(should=All(), must_not="a")),
        # escapes
        (r"\+a \(b\) \AND \u0041", either("+a", "(b)", "AND", "A")),
        (r"a\ b", Term("a b")),
        (r"a\\b", Term(r"a\b")),
        # punctuation
        ("who was +Lovelace ?", Boolean(must="Lovelace", should=["who", "was"])),
        ('"Ada Lovelace"?', Phrase("Ada Lovelace")),
        ("+a *", Boolean(must="a")),
        ("+a !", Boolean(must="a")),
    ],
)  # fmt: skip
def test_examples(text: str, query: Query) -> None:
    assert parsed(text) == query


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "cat", "black cat", "Ada Lovelace", "NOTE ANDREA ORAL", "and or not", "it's",
        "foo-bar", "what's 5-3", "re: invoice", "https://x.org/a?b=c*d", "12:30", "a:b c:d",
        "unknown:word*", "AT&T", "and/or 24/7", "C++ c#", "x = y < 3 > 2", "a; b, c. d…",
        "'quoted'", "Yahoo!", "who was Lovelace ?", "who was Lovelace?", "who was Lovelace??",
        "What?!", "Hello, World!", "why ?!", "black *", "re: what?", "Attention !", "und / oder",
        "猫 は ?", "café",
        "& | a", "_exists_", "_exists_: a", "to be or not to be",
    ],
)  # fmt: skip
def test_texts_of_words_alone_are_plain(text: str) -> None:
    assert parsed(text) == Term(text)
    assert parse(text).plain


@pytest.mark.parametrize(
    ("text", "problem", "at"),
    [
        ('say "hi', "unbalanced quotation mark", 5),
        ('"a" "', "unbalanced quotation mark", 5),
        ('5\'10" tall', "unbalanced quotation mark", 5),
        (r'"a\"', "unbalanced quotation mark", 1),
        ("a (b", "unbalanced parenthesis", 3),
        ("a (b) (c (d)", "unbalanced parenthesis", 7),
        ("a) b", "unbalanced parenthesis", 2),
        (":)", "unbalanced parenthesis", 2),
        ("[sic] a", "a bracket that is no range", 1),
        ("a[1]", "a bracket that is no range", 2),
        ("{a", "unbalanced bracket", 1),
        ("a]", "unbalanced bracket", 2),
        ("year:[1 TO 2", "unbalanced bracket", 6),
        ("year:[1 TO]", "a bracket that is no range", 6),
        ("year:[1 2]", "a bracket that is no range", 6),
        ("[1 TO 2]", "a range without a field", 1),
        ("unknown:[1 TO 2]", "a range without a field", 9),
        ("()", "nothing in parentheses", 1),
        ("a ( )", "nothing in parentheses", 3),
        ("AND", "AND without a clause before it", 1),
        ("a AND", "AND without a clause after it", 3),
        ("OR a", "OR without a clause before it", 1),
        ("a AND OR b", "AND without a clause after it", 3),
        ("a || || b", "|| without a clause after it", 3),
        ("(a OR)", "OR without a clause after it", 4),
        ("(AND a)", "AND without a clause before it", 2),
        ("NOT", "NOT without a clause after it", 1),
        ("a NOT", "NOT without a clause after it", 3),
        ("NOT NOT a", "NOT without a clause after it", 1),
        ("+ a", "+ without a word", 1),
        ("a - b", "- without a word", 3),
        ("a +", "+ without a word", 3),
        ("(a -)", "- without a word", 4),
        ("--a", "- without a clause after it", 1),
        ("a +-b", "+ without a clause after it", 3),
        ("+AND", "+ without a clause after it", 1),
        ("! a", "! without a word", 1),
        ("*", "* without a word", 1),
        ("?", "? without a word", 1),
        ("**", "* without a word", 1),
        ("* a", "* without a word", 1),
        ("5 * 3", "* without a word", 3),
        ("a ? b", "? without a word", 3),
        ('"a"*', "* without a word", 4),
        ("a AND *", "* without a word", 7),
        ("+a -?", "? without a word", 5),
        ("a^-1", "a boost must be a number from 0 to 1e+20, not ^-1", 2),
        ("a^nan", "a boost must be a number from 0 to 1e+20, not ^nan", 2),
        ("a^inf", "a boost must be a number", 2),
        ("a^x", "a boost must be a number", 2),
        ("a^", "a boost must be a number", 2),
        ("a^1e3", "a boost must be a number", 2),
        ("a^2x", "a boost must be a number", 2),
        ("a^٣", "a boost must be a number", 2),
        ("a^" + "9" * 21, "a boost must be a number", 2),
        ("a^" + "9" * 5000, "a boost must be a number", 2),
        ("a^2^3", "a second ^", 4),
        ("^2", "^ that follows no word", 1),
        ("a ^2", "^ that follows no word", 3),
        ("a~x", "edits must be a whole number or a similarity below 1, not ~x", 2),
        ("a~-1", "edits must be", 2),
        ("a~1.5", "edits must be", 2),
        ("a~1~2", "a second ~", 4),
        ("~a", "~ that follows no word", 1),
        ("wor*~1", "~ after what is neither a word nor a phrase", 5),
        ("(a b)~2", "~ after what is neither a word nor a phrase", 6),
        ("/a/~1", "~ after what is neither a word nor a phrase", 4),
        ('"a b"~', "slop must be a whole number below 2147483648, not ~", 6),
        ('"a b"~x', "slop must be a whole number below 2147483648, not ~x", 6),
        ('"a b"~1.5', "slop must be", 6),
        ('"a b"~' + "9" * 5000, "slop must be", 6),
        ('""', "an empty phrase", 1),
        ('a "  "', "an empty phrase", 3),
        ("/a", "unbalanced slash of a regular expression", 1),
        ("a /usr/bin", "unbalanced slash of a regular expression", 3),
        ("//", "an empty regular expression", 1),
        ("see title:", "title: without a clause after it", 5),
        ("(title:)", "title: without a clause after it", 2),
        ("title:AND", "title: without a clause after it", 1),
        ("title:+a", "title: without a clause after it", 1),
        ("year:>=", "a comparison without a value", 6),
        ("year:> 5", "a comparison without a value", 6),
        ("year:>*", "a comparison without a value", 6),
        ("_exists_:nothing", "unknown field 'nothing'", 10),
        ("a\\", "a backslash with nothing after it", 2),
        ("\\", "a backslash with nothing after it", 1),
        (r"C:\users", r"\\u without the code of a character", 1),
        (r"\ud800", r"\\u without the code of a character", 1),
        ("+" + "(+" * 300 + "a" + ")" * 300, "a query may be nested at most 200 deep", 202),
        ("(" * 300 + "a" + "^2)" * 300, "a query may be nested at most 200 deep", 901),
    ],
)  # fmt: skip
def test_malformed_texts_are_plain_words_with_a_notice(text: str, problem: str, at: int) -> None:
    found = parse(text, fields=FIELDS, columns=COLUMNS)
    assert found.query == Term(text)
    assert found.plain
    assert found.notice is not None
    assert found.notice.startswith(problem.replace("\\\\", "\\"))
    assert found.notice.endswith(f" at character {at}; searched for as plain words")
    assert len(found.notice) < 200
    every = parse(text, operator="and", fields=FIELDS, columns=COLUMNS)
    assert every.notice == found.notice
    words = text.split()
    assert every.query == (Boolean(must=words) if len(words) > 1 else Term(text))  # type: ignore


def test_invalid_unicode_is_replaced() -> None:
    found = parse("bl\udc80ck +cat")
    assert found.query == Term("bl\ufffdck +cat")
    assert found.notice == "invalid Unicode at character 3; searched for as plain words"


def test_wrong_arguments_are_rejected() -> None:
    with pytest.raises(SettingsError, match="operator is 'xor'; expected one of or, and"):
        parse("a", operator="xor")
    with pytest.raises(SettingsError, match="a query must be a string, not 5"):
        parse(5)  # type: ignore[arg-type]


# ---- precedence


def in_order(query: Query) -> str:
    """A Boolean of terms as in Lucene's tests, required clauses first."""
    if isinstance(query, Term):
        return query.text
    assert isinstance(query, Boolean)
    signed = [("+", query.must), ("", query.should), ("-", query.must_not)]
    return " ".join(
        f"{sign}({in_order(part)})" if isinstance(part, Boolean) else f"{sign}{in_order(part)}"
        for sign, parts in signed
        for part in parts
    )


@pytest.mark.parametrize(
    ("text", "either", "every"),
    [  # of QueryParserTestBase.testSimple, and worked out by hand from addClause
        ("a AND b", "+a +b", "+a +b"),
        ("a OR b", "a b", "a b"),
        ("(a AND b)", "+a +b", "+a +b"),
        ("c OR (a AND b)", "c (+a +b)", "c (+a +b)"),
        ("a AND NOT b", "+a -b", "+a -b"),
        ("a AND -b", "+a -b", "+a -b"),
        ("a AND !b", "+a -b", "+a -b"),
        ("a && b", "+a +b", "+a +b"),
        ("a OR !b", "a -b", "a -b"),
        ("a OR -b", "a -b", "a -b"),
        ("+a -b c", "+a c -b", "+a +c -b"),
        ("a OR b AND c", "+b +c a", "+b +c a"),
        ("a AND b OR c", "+a +b c", "+a b c"),
        ("a OR b OR c AND d", "+c +d a b", "+c +d a b"),
        ("a AND b c", "+a +b c", "+a +b +c"),
        ("a b AND c", "+b +c a", "+a +b +c"),
        ("NOT a AND b", "+b -a", "+b -a"),
        ("-a AND b OR c", "+b c -a", "b c -a"),
        ("+a OR b", "+a b", "a b"),
        ("a OR +b", "+b a", "a b"),
        ("((a OR b) AND NOT c) OR d", "(+(a b) -c) d", "(+(a b) -c) d"),
        ("a OR NOT b c", "a c -b", "+c a -b"),
    ],
)
def test_precedence_is_lucenes(text: str, either: str, every: str) -> None:
    assert in_order(parse(text).query) == either
    assert in_order(parse(text, operator="and").query) == every


CLAUSES = st.lists(
    st.tuples(
        st.sampled_from(["", "AND ", "OR ", "&& ", "|| "]),
        st.sampled_from(["", "+", "-", "!", "NOT "]),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=800)
@given(CLAUSES, st.sampled_from(["or", "and"]))
def test_each_clause_depends_on_its_sign_and_the_operators_around(
    clauses: list[tuple[str, str]], operator: str
) -> None:
    clauses[0] = ("", clauses[0][1] or "+")
    text = " ".join(f"{before}{sign}w{at}" for at, (before, sign) in enumerate(clauses))
    names = {"AND ": "and", "&& ": "and", "OR ": "or", "|| ": "or", "": ""}
    expected: dict[str, list[Query]] = {"must": [], "should": [], "must_not": []}
    for at, (before, sign) in enumerate(clauses):
        after = names[clauses[at + 1][0]] if at + 1 < len(clauses) else ""
        if sign in ("-", "!", "NOT "):
            kind = "must_not"
        elif operator == "or":
            required = sign == "+" or "and" in (names[before], after)
            kind = "must" if required else "should"
        elif after:  # the operator after a clause is the last to change it
            kind = "must" if after == "and" else "should"
        else:
            kind = "should" if names[before] == "or" else "must"
        expected[kind].append(Term(f"w{at}"))
    assert parse(text, operator=operator).query == Boolean(**expected)  # type: ignore[arg-type]


def test_every_word_is_required_with_the_operator_and() -> None:
    assert parse("black cat", operator="and") == (Boolean(must=["black", "cat"]), None, False)
    assert parse("cat", operator="and") == (Term("cat"), None, True)
    assert parse("a (b c) -d", operator="and").query == Boolean(
        must=["a", Boolean(must=["b", "c"])], must_not="d"
    )
    assert parse("wor*", operator="and").query == Prefix("wor")


# ---- similarities


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 40), st.integers(1, 999))
def test_similarity_gives_the_edits_of_the_length(length: int, thousandths: int) -> None:
    found = parsed(f"{'x' * length}~0.{thousandths:03d}")
    edits = (1 - Fraction(thousandths, 1000)) * length
    assert found == Fuzzy("x" * length, min(2, edits.numerator // edits.denominator))


# ---- size


def seconds(text: str) -> float:
    start = time.perf_counter()
    parse(text, fields=FIELDS, columns=COLUMNS)
    return time.perf_counter() - start


@pytest.mark.parametrize(
    "part",
    ["+w ", "(", ")", "(a) ", '"', '"a" ', "a AND ", "-", "!", "? ", "a? ", "\\", "~", "a^2 ", "[",
     "year:[1 TO 2] ", "a:", "title:", "/", "/a/ ", "*", "a* ", "9", "a~", '"a b"~1 ', "+(a b) ",
     "NOT ", " ", "\u00e4 +"],
)  # fmt: skip
def test_time_is_linear(part: str) -> None:
    """A text 20 times as long takes far less than 400 times as long."""
    short, long = (part * (count // len(part)) for count in (4_000, 80_000))
    fastest = min(seconds(short) for _ in range(3))
    assert min(seconds(long) for _ in range(2)) < 130 * fastest + 0.1


def test_large_texts() -> None:
    assert parsed("(" * 5000 + "a" + ")" * 5000) == Term("a")
    assert len(parsed("+w " * 10_000).must) == 10_000  # type: ignore[attr-defined]
    assert parsed("+(" * 199 + "a" + ")" * 199).depth == 200
    assert parse("+(" * 200 + "a" + ")" * 200).notice is not None


@pytest.mark.parametrize(
    ("text", "expected", "notice"),
    [
        ("word~7", Fuzzy("word", 2), "word~7: at most 2 edits are searched for"),
        ("word~3.0", Fuzzy("word", 2), "word~3.0: at most 2 edits are searched for"),
        ("+title:word~5^2 a", Boolean(Boost(Fuzzy("word", 2, field="title"), 2), Term("a")),
         "word~5: at most 2 edits are searched for"),
        ("a~3 b~1 c~4 (a~3 b)",
         Boolean(should=[Fuzzy("a"), Fuzzy("b", 1), Fuzzy("c"),
                         Boolean(should=[Fuzzy("a"), Term("b")])]),
         "a~3: at most 2 edits are searched for; c~4: at most 2 edits are searched for"),
    ],
)  # fmt: skip
def test_more_edits_than_there_can_be(text: str, expected: Query, notice: str) -> None:
    found = parse(text, fields=FIELDS, columns=COLUMNS)
    assert found == (expected, notice, False)


@pytest.mark.parametrize("operator", ["or", "and"])
def test_a_malformed_text_has_no_notice_of_its_edits(operator: str) -> None:
    found = parse('word~7 "', operator=operator)
    assert found.notice is not None
    assert "edits" not in found.notice


# ---- random texts


def checked(text: str, operator: str = "or") -> None:
    """Whatever the text, parsing it obeys the contract."""
    found = parse(text, operator=operator, fields=FIELDS, columns=COLUMNS)
    assert found.plain == (found.query == Term(text))
    if found.notice is not None and operator == "or":
        assert found.plain or "at most 2 edits" in found.notice
    if not found.plain:
        for query in walk(found.query):
            assert not isinstance(query, Term) or query.text
    str(found.query)
    hash(found.query)


FRAGMENTS = [
    "a", "black", "Cat", "title:", "year:", "my\\ field:", "other:", "_exists_:", "*:*", " ", " ",
    " ", "AND", "OR", "NOT", "&&", "||", "+", "-", "!", "(", ")", "[", "]", "{", "}", " TO ", '"',
    '"', "~", "^", "1", "0.5", "*", "?", "/", "\\", "\\u0041", "<", ">=", ":", "é", "猫", "\n",
    "\0",
]  # fmt: skip


@settings(deadline=None, max_examples=4000)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14), st.sampled_from(["or", "and"]))
def test_random_fragments_raise_nothing(fragments: list[str], operator: str) -> None:
    checked("".join(fragments), operator)


@settings(deadline=None, max_examples=1000)
@given(st.text(max_size=40))
def test_random_characters_raise_nothing(text: str) -> None:
    checked(text)


@settings(deadline=None, max_examples=1000)
@given(st.binary(max_size=40))
def test_random_bytes_raise_nothing(data: bytes) -> None:
    checked(data.decode("latin-1"))
    text = data.decode("utf-8", "surrogateescape")
    found = parse(text)
    if any("\ud800" <= character <= "\udfff" for character in text):
        assert found.notice is not None
        assert found.notice.startswith("invalid Unicode")


@settings(deadline=None, max_examples=1000)
@given(st.lists(st.text("abcXYZ019.,;'#$%@=_é猫", min_size=1), max_size=6), st.integers(0, 2))
def test_texts_without_operators_are_plain(words: list[str], spaces: int) -> None:
    text = " " * spaces + " ".join(words)
    assert parse(text, fields=FIELDS) == (Term(text), None, True)


# ---- queries as text

TEXTS = st.one_of(
    st.text(st.sampled_from("ab ?*\\\"()[]{}~^:/+-!&|<>'\u3000é猫\n"), max_size=6),
    st.sampled_from(["AND", "OR", "NOT", "&&", "||", "TO", "*", "cat", "a AND b", "black cat"]),
    st.text(max_size=4),
)
NAMES = st.one_of(st.none(), st.sampled_from(["title", "my field", "a:b", "*", "AND", "+x", "_"]))
ALL_NAMES = ("title", "my field", "a:b", "*", "AND", "+x", "_")
FIELD = st.sampled_from(ALL_NAMES)
BOUNDS = st.one_of(st.none(), TEXTS)
NUMBERS = st.floats(0, 1e20)
SIMPLE = st.one_of(
    st.builds(Term, TEXTS, NAMES),
    st.builds(Phrase, TEXTS, NAMES, st.integers(0, 5)),
    st.builds(values.Near, st.lists(TEXTS, min_size=1, max_size=2), st.integers(0, 3)),
    st.builds(values.Synonyms, st.lists(TEXTS, min_size=1, max_size=2)),
    st.builds(Prefix, TEXTS, NAMES),
    st.builds(Wildcard, TEXTS, NAMES),
    st.builds(Regex, TEXTS, NAMES),
    st.builds(Fuzzy, TEXTS, st.integers(0, 2), st.sampled_from([0, 0, 1]), NAMES),
    st.builds(Range, FIELD, BOUNDS, BOUNDS, st.booleans(), st.booleans()),
    st.builds(Exists, FIELD),
    st.builds(values.Filter, TEXTS),
    st.just(All()),
)


def composed(inner: st.SearchStrategy[Query]) -> st.SearchStrategy[Query]:
    some = st.lists(inner, max_size=3)
    return st.one_of(
        st.builds(Boolean, some, some, some),
        st.builds(lambda should: Boolean(should=should), some),
        st.builds(Boolean, some, some, some, some, st.integers(0, 2)),
        st.builds(Boost, inner, NUMBERS),
        st.builds(values.ConstantScore, inner),
    )


QUERIES = st.recursive(SIMPLE, composed, max_leaves=6)


@settings(deadline=None, max_examples=4000)
@given(QUERIES)
def test_text_of_a_query_parses_to_it(query: Query) -> None:
    text = str(query)
    if text != repr(query):
        found = parse(text, fields=ALL_NAMES)
        assert found.query == query
        assert found.notice is None


DAYS = st.dates() | st.datetimes() | st.datetimes(timezones=st.just(datetime.UTC))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(st.none(), st.integers(), st.booleans(), FINITE, DECIMALS, DAYS)


def text_of(bound: Any) -> str | None:
    """As a condition on a column has it."""
    if bound is None:
        return None
    if isinstance(bound, datetime.date):
        return bound.isoformat()
    return str(bound).lower() if isinstance(bound, bool) else str(bound)


@settings(deadline=None, max_examples=1000)
@given(FIELD, VALUES, VALUES, st.booleans(), st.booleans())
def test_bounds_of_a_range_are_parsed_as_text(
    field: str, low: Any, high: Any, with_low: bool, with_high: bool
) -> None:
    query = Range(field, low, high, with_low, with_high)
    found = parse(f"cat {query}", fields=ALL_NAMES)
    same = Range(field, text_of(low), text_of(high), with_low, with_high)
    if low is None and high is None:
        same = parse(str(same), fields=ALL_NAMES).query  # the sign of no bound is the syntax's
    assert found.query == either("cat", same)
    assert found.notice is None


@settings(deadline=None, max_examples=4000)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14))
def test_what_is_parsed_has_a_text(fragments: list[str]) -> None:
    """All that the syntax gives, it also expresses."""
    query = parse("".join(fragments), fields=FIELDS, columns=COLUMNS).query
    assert str(query) != repr(query)
    assert parse(str(query), fields=FIELDS, columns=COLUMNS).query == query


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (Term("black cat"), "black cat"),
        (Term("wor*"), r"wor\*"),
        (Term("AND"), r"\AND"),
        (either("a", "b"), "a OR b"),
        (either("black cat", "b"), r"black\ cat OR b"),
        (Boolean(must=["a", either("b", "c")], must_not="d"), "+a +(b OR c) -d"),
        (Boost(Boolean(must="a"), 0.5), "(+a)^0.5"),
        (Boost(Boost("a", 2), 1e-7), "(a^2)^0.0000001"),
        (Range("year", "2000", None, False), "year:{2000 TO *]"),
        (Exists("my field"), r"my\ field:*"),
        (Range("year", 2000, 2010), "year:[2000 TO 2010]"),
        (Range("year", -1, 0.5), "year:[-1 TO 0.5]"),
        (Range("on", datetime.date(2001, 2, 3)), "on:[2001-02-03 TO *]"),
        (Range("draft", False, True, True, False), "draft:[false TO true}"),
        (Range("x", -math.inf, 1), "Range('x', -inf, 1)"),
        (Range("x", Decimal("-Infinity")), "Range('x', Decimal('-Infinity'))"),
        (values.ConstantScore("a"), "ConstantScore(Term('a'))"),
        (Boolean(should="a"), "Boolean(should=(Term('a'),))"),
        (Boolean(), "Boolean()"),
        (Wildcard("a*"), "Wildcard('a*')"),
        (Fuzzy("cat", 1, 1), "Fuzzy('cat', 1, 1)"),
    ],
)
def test_texts_of_queries(query: Query, text: str) -> None:
    assert str(query) == text
