"""Synonyms: files and their errors, and what is replaced in queries."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.query import (
    Boolean,
    Boost,
    ConstantScore,
    Filter,
    Phrase,
    Prefix,
    Query,
    Synonyms,
    Term,
)
from fastseq.search.synonyms import SynonymMap
from fastseq.text.analyzer import Analyzer
from tests.sampling import examples

CARS = ("car", "automobile", "motor car")
CITIES = ("new york", "big apple", "nyc")
MAP = SynonymMap([(CARS, CARS), (CITIES, CITIES), (("tv", "telly"), ("television",))])


def load(path: Path, content: str | bytes) -> SynonymMap:
    file = path / "synonyms.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return SynonymMap.load(file)


# ---- files


def test_a_file_of_groups_and_mappings(tmp_path: Path) -> None:
    content = (
        "\ufeff# vehicles\n"
        "car, automobile ,  motor  car\r\n"
        "\n"
        "  # indented\n"
        "tv,telly=>television\n"
        "c#, c sharp\n"
        r"a\,b, x\=>y, back\\slash" + "\n"
        "a = b, c > d\n"
        "alone\n"
        "Éclair, 猫"
    )
    assert [tuple(rule) for rule in load(tmp_path, content).rules] == [
        (("car", "automobile", "motor  car"), ("car", "automobile", "motor  car")),
        (("tv", "telly"), ("television",)),
        (("c#", "c sharp"), ("c#", "c sharp")),
        (("a,b", "x=>y", "back\\slash"), ("a,b", "x=>y", "back\\slash")),
        (("a = b", "c > d"), ("a = b", "c > d")),
        (("alone",), ("alone",)),
        (("Éclair", "猫"), ("Éclair", "猫")),
    ]
    assert repr(load(tmp_path, "a, b")) == "SynonymMap(1 rule)"
    assert load(tmp_path, "").rules == ()


def test_a_compressed_file(tmp_path: Path) -> None:
    file = tmp_path / "synonyms.gz"
    file.write_bytes(gzip.compress(b"car, automobile\n"))
    assert SynonymMap.load(str(file)).rules == SynonymMap([(CARS[:2], CARS[:2])]).rules


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a, b\nc, \xff\n", "line 2: not valid UTF-8"),
        (b"# c\n\na,, b", "line 3: an empty word in the group; expected words separated by commas"),
        (b"a, b,", "line 1: an empty word in the group"),
        (b",", "line 1: an empty word in the group"),
        (b"=> a", "line 1: an empty group"),
        (b"a =>", "line 1: an empty group"),
        (b"a => b => c", "line 1: => occurs 2 times, expected at most once"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path, content)
    assert str(error.value).startswith(f"{tmp_path / 'synonyms.txt'}, {message}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.txt: No such file"):
        SynonymMap.load(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot read"):
        SynonymMap.load(tmp_path)


# ---- queries


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (Term("car"), Synonyms(CARS)),
        (Term("Car!"), Synonyms(CARS)),
        (Term("bird"), Term("bird")),
        (Term(""), Term("")),
        (Term("fast Car, red"), Boolean(should=["fast", Synonyms(CARS), "red"])),
        (Term("a fast red car"), Boolean(should=["a fast red", Synonyms(CARS)])),
        (Term("motor car"), Synonyms(CARS)),
        (Term("motor"), Term("motor")),
        (Term("motor boat car"), Boolean(should=["motor boat", Synonyms(CARS)])),
        (Term("nyc car"), Boolean(should=[Synonyms(CITIES), Synonyms(CARS)])),
        (Term("big apple pie"), Boolean(should=[Synonyms(CITIES), "pie"])),
        (Term("tv"), Phrase("television")),
        (Term("television"), Term("television")),
        (Boost("car", 2), Boost(Synonyms(CARS), 2)),
        (ConstantScore("car", 2), ConstantScore(Synonyms(CARS), 2)),
        (Phrase("car"), Phrase("car")),
        (Prefix("car"), Prefix("car")),
        (Filter("car > 3"), Filter("car > 3")),
        (
            Boolean(must=["new", "york", "pizza"], must_not=["car"]),
            Boolean(must=[Synonyms(CITIES), "pizza"], must_not=[Synonyms(CARS)]),
        ),
        # words of two lists do not follow one another, nor do those with another clause between
        (Boolean(must=["new"], should=["york"]), Boolean(must=["new"], should=["york"])),
        (
            Boolean(should=["new", Prefix("x"), "york"]),
            Boolean(should=["new", Prefix("x"), "york"]),
        ),
        (
            Boolean(should=["new", "york", "city"], minimum_should_match=3),
            Boolean(should=[Synonyms(CITIES), "city"], minimum_should_match=2),
        ),
        (
            Boolean(should=["new", "york"], minimum_should_match=1),
            Boolean(should=[Synonyms(CITIES)], minimum_should_match=1),
        ),
        (
            Boolean(should=[Boolean(must=["fast car"]), "x"]),
            Boolean(should=[Boolean(must=[Boolean(should=["fast", Synonyms(CARS)])]), "x"]),
        ),
    ],
    ids=str,
)
def test_what_is_replaced(query: Query, wanted: Query) -> None:
    found = MAP.apply(query, Analyzer())
    assert found == wanted
    if wanted == query:
        assert found is query


def test_words_that_must_all_match() -> None:
    found = MAP.apply(Term("fast car"), Analyzer(), operator="and")
    assert found == Boolean(must=["fast", Synonyms(CARS)])
    with pytest.raises(SettingsError, match="operator"):
        MAP.apply(Term("car"), Analyzer(), operator="not")


def test_fields() -> None:
    query = Boolean(
        should=[Term("car", "title"), Term("car", "lang"), Term("new", "title"), "york"]
    )
    assert MAP.apply(query, Analyzer(), fields=("title",)) == Boolean(
        should=[Synonyms(CARS, "title"), Term("car", "lang"), Term("new", "title"), "york"]
    )
    assert MAP.apply(Term("a tv", "title"), Analyzer(), fields=["title"]) == Boolean(
        should=[Term("a", "title"), Phrase("television", "title")]
    )


@pytest.mark.parametrize(
    ("parameters", "text", "wanted"),
    [
        ({"stemmer": "english"}, "cars", Synonyms(CARS)),
        ({"stemmer": "english"}, "fast motors cars", Boolean(should=["fast", Synonyms(CARS)])),
        ({"stopwords": "english"}, "the car of it", Synonyms(CARS)),
        ({"stopwords": "english"}, "the new the york", Term("the new the york")),
        ({"tokenizer": "space", "lowercase": False}, "Car", Term("Car")),
        ({"ngrams": (1, 2)}, "car", Term("car")),
    ],
    ids=str,
)
def test_words_are_analysed(parameters: dict[str, Any], text: str, wanted: Query) -> None:
    assert MAP.apply(Term(text), Analyzer(**parameters)) == wanted


def test_members_with_stop_words_and_bigrams() -> None:
    places = ("king of england", "the king")
    synonyms = SynonymMap([(places, places), (("東京", "tokyo"), ("東京", "tokyo"))])
    english = Analyzer(stopwords="english")
    assert synonyms.apply(Term("king in england"), english) == Synonyms(places)  # a word between
    assert synonyms.apply(Boolean(must=["king", "of", "england"]), english) == Boolean(
        must=[Synonyms(places)]
    )
    assert synonyms.apply(Term("king england"), english) == Boolean(
        should=[Synonyms(places), "england"]
    )
    assert synonyms.apply(Term("東京都庁"), Analyzer()) == Boolean(
        should=[Synonyms(("東京", "tokyo")), "京都庁"]
    )


def test_a_member_of_several_groups_stands_for_all() -> None:
    synonyms = SynonymMap([(("a", "b"), ("a", "b")), (("a",), ("c", "b")), (("x",), ("x",))])
    assert synonyms.apply(Term("a"), Analyzer()) == Synonyms(("a", "b", "c"))
    assert synonyms.apply(Term("b"), Analyzer()) == Synonyms(("a", "b"))
    assert synonyms.apply(Term("c"), Analyzer()) == Term("c")
    # the map serves several analyzers
    assert synonyms.apply(Term("A"), Analyzer(lowercase=False)) == Term("A")
    assert synonyms.apply(Term("A"), Analyzer()) == Synonyms(("a", "b", "c"))


# ---- the twin: greedy replacement in a list of words

member_of = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map(" ".join)
rules_of = st.lists(st.lists(member_of, min_size=2, max_size=3, unique=True), max_size=4)


def greedy(words: list[str], rules: list[list[str]]) -> list[str | tuple[str, ...]]:
    """The words, with groups in place of the longest members from the left."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for rule in rules:
        for member in rule:
            known = groups.setdefault(tuple(member.split()), [])
            known += [other for other in rule if other not in known]
    out: list[str | tuple[str, ...]] = []
    at = 0
    while at < len(words):
        sizes = [
            n for n in (3, 2, 1) if at + n <= len(words) and tuple(words[at : at + n]) in groups
        ]
        size = sizes[0] if sizes else 1
        out.append(tuple(groups[tuple(words[at : at + size])]) if sizes else words[at])
        at += size
    return out


@settings(deadline=None, max_examples=examples(400))
@given(st.lists(st.sampled_from("abcd"), max_size=10), rules_of)
def test_replacements_are_those_of_the_twin(words: list[str], rules: list[list[str]]) -> None:
    synonyms = SynonymMap([(rule, rule) for rule in rules])
    wanted = greedy(words, rules)
    found = synonyms.apply(Boolean(should=tuple(words)), Analyzer())
    assert found == Boolean(
        should=tuple(Term(one) if isinstance(one, str) else Synonyms(one) for one in wanted)
    )
    # the same words in one Term: those without synonyms remain together
    term = synonyms.apply(Term(" ".join(words)), Analyzer())
    parts = term.should if isinstance(term, Boolean) else (term,)
    shown: list[str | tuple[str, ...]] = []
    for part in parts:
        shown += [part.texts] if isinstance(part, Synonyms) else part.text.split()  # type: ignore[attr-defined]
    assert shown == wanted
