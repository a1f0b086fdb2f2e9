"""Snippets: naive twins, properties of passages, examples of every query and tokenizer."""

from __future__ import annotations

import html
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Index
from fastseq.errors import DataError, InvalidTextError, SettingsError
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
)
from fastseq.search.highlighting import Matcher
from fastseq.search.occurrences import Words, scattered_matches
from fastseq.search.snippets import Snippet, document_snippets, passages, snippets
from fastseq.text.analyzer import Analyzer
from fastseq.types import Texts
from tests.naive import highlights as naive
from tests.sampling import examples

TEXT = (
    "The ﬁrst café was old. A black cat, or a black-and-white cat, sat there! "
    "The cats of New York never slept in the black house. 東京都の猫が車を見た。電車に乗る。"
)


def best(
    query: Query | str | dict[str, float], text: str = TEXT, length: int = 400, **parameters: Any
) -> Snippet:
    matcher = Matcher(query, Analyzer(**parameters))
    (found,) = snippets(Texts.from_strings([text]), matcher, length)
    return found


def marked(query: Query | str | dict[str, float], text: str = TEXT, **parameters: Any) -> list[str]:
    """What is highlighted in the whole text."""
    found = best(query, text, 10_000, **parameters)
    return [found.text[a:b] for a, b in found.highlights]


# ---- positions


def scattered(texts: list[list[list[int]]], **words: Any) -> list[list[tuple[int, ...]]]:
    """The matches in each of several texts, given by the positions of each word."""
    size = 20  # tokens of a text
    count = len(texts[0])
    tokens = [
        np.array([d * size + at for d, text in enumerate(texts) for at in text[word]], np.int64)
        for word in range(count)
    ]
    found = scattered_matches(
        tokens, np.arange(len(texts) + 1) * size, Words((0,) * count, **{"offsets": (), **words})
    )
    out: list[list[tuple[int, ...]]] = [[] for _ in texts]
    for match in found.tolist():
        out[match[0] // size].append(tuple(at % size for at in match))
    return out


positions_of = st.lists(
    st.lists(st.integers(0, 14), unique=True, max_size=4).map(sorted), min_size=3, max_size=3
)


def distinct(positions: list[list[int]]) -> list[list[int]]:
    """Each position of one word alone."""
    seen: set[int] = set()
    out = []
    for own in positions:
        out.append([at for at in own if at not in seen])
        seen.update(own)
    return out


@settings(deadline=None, max_examples=examples(600))
@given(
    st.lists(positions_of, min_size=1, max_size=3),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.integers(0, 12),
)
def test_sloppy_matches_are_some_of_all(
    texts: list[list[list[int]]], gaps: list[int], slop: int
) -> None:
    texts = [distinct(positions) for positions in texts]
    offsets = np.cumsum(gaps).tolist()
    found = scattered(texts, offsets=tuple(offsets), slop=slop)
    for positions, matches in zip(texts, found, strict=True):
        every = naive.sloppy(positions, offsets, slop)
        assert set(matches) <= every
        assert bool(matches) == bool(every)


@settings(deadline=None, max_examples=examples(600))
@given(
    st.lists(st.lists(st.integers(0, 2), max_size=14), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), min_size=2, max_size=4),
    st.integers(0, 8),
    st.booleans(),
)
def test_near_matches_are_the_smallest_intervals(
    texts: list[list[int]], wanted: list[int], distance: int, in_order: bool
) -> None:
    """Texts and words of three letters, so that words occur twice in both."""
    positions = [
        [[at for at, word in enumerate(text) if word == one] for one in wanted] for text in texts
    ]
    found = scattered(positions, distance=distance, in_order=in_order)
    for of_text, matches in zip(positions, found, strict=True):
        intervals = [(min(match), max(match)) for match in matches]
        assert set(intervals) == naive.near(of_text, distance, in_order)
        assert len(set(intervals)) == len(intervals)
        for match in matches:
            assert all(at in own for at, own in zip(match, of_text, strict=True))
            assert len(set(match)) == len(match)


def test_a_repeated_word_of_a_sloppy_phrase_needs_two_places() -> None:
    assert scattered([[[3], [3]]], offsets=(0, 1), slop=100) == [[]]
    assert scattered([[[3, 4], [3, 4]]], offsets=(0, 1), slop=0) == [[(3, 4)]]
    assert marked(Phrase("a a", slop=3), "b a b a b") == ["a", "a"]


def test_matches_of_long_texts() -> None:
    text = "a b c d " * 2000
    for query in (Phrase("a c", slop=9), Near(("a", "c"), 2), Near(("a", "c"), 2, in_order=True)):
        assert len(best(query, text, 100_000).highlights) > 3900
    found = best("a b", text, 100_000)
    assert len(found.highlights) == 4000


# ---- the twin

WORDS = ["cat", "Cats", "café", "ﬂy", "x", "dog.", "猫", "👍🏽", "naïve,", "a\u0301b", "dog", "cat"]
word_of = st.sampled_from(["cat", "cats", "dog", "x", "café", "naïve"])
text_of = st.lists(st.sampled_from([*WORDS, "\n", "  ", "The end. "]), max_size=40).map(" ".join)
leaf_of = st.one_of(
    st.tuples(st.just("term"), word_of),
    st.tuples(st.just("prefix"), st.sampled_from(["c", "ca", "cat", "d", "z"])),
    st.tuples(st.just("phrase"), st.lists(word_of, min_size=2, max_size=3).map(tuple)),
)
query_of = st.one_of(
    leaf_of,
    st.tuples(st.just("any"), st.lists(leaf_of, min_size=1, max_size=4, unique=True).map(tuple)),
    st.tuples(st.just("but"), leaf_of, leaf_of),
)


def as_query(query: Any) -> Query:
    match query:
        case ("term", word):
            return Term(word)
        case ("prefix", prefix):
            return Prefix(prefix)
        case ("phrase", words):
            return Phrase(" ".join(words))
        case ("any", queries):
            return Boolean(should=tuple(map(as_query, queries)))
        case ("but", positive, negative):
            return Boolean(must=(as_query(positive),), must_not=(as_query(negative),))
    raise AssertionError(query)


@settings(deadline=None, max_examples=examples(600))
@given(text_of, query_of, st.integers(1, 120))
def test_the_best_passage_is_that_of_the_twin(text: str, query: Any, length: int) -> None:
    # the twin's words are runs of word characters: no marks, and no scripts without spaces
    text = text.replace("a\u0301b", "ab").replace("猫", "m")
    found = best(as_query(query), text, length)
    every = naive.occurrences(text, query)
    assert found.score == pytest.approx(naive.best_score(every, length))
    assert len(found.text) <= length
    assert found.text == text[found.offset : found.offset + len(found.text)]
    end = found.offset + len(found.text)
    inside = [(a, b) for _, a, b, _ in every if found.offset <= a < end]
    covered = {at for a, b in inside for at in range(a, min(b, end))}
    shown = {found.offset + at for a, b in found.highlights for at in range(a, b)}
    assert shown == covered
    before, after = text[: found.offset], text[end:]
    assert (found.cut_before, found.cut_after) == (bool(before.strip()), bool(after.strip()))


@settings(deadline=None, max_examples=examples(600))
@given(text_of, query_of, st.integers(1, 60), st.integers(1, 4))
def test_properties_of_passages(text: str, query: Any, length: int, most: int) -> None:
    matcher = Matcher(as_query(query), Analyzer())
    (several,) = passages(Texts.from_strings([text]), matcher, length, most)
    assert 1 <= len(several) <= most
    assert len(several) == 1 or all(one.score > 0 for one in several)
    last = 0
    for one in several:
        assert len(one.text) <= length
        assert one.offset >= last
        last = one.offset + len(one.text)
        assert text[one.offset : last] == one.text
        assert (one.score > 0) == bool(one.highlights)
        at = -1
        for a, b in one.highlights:
            assert at < a < b <= len(one.text)  # apart
            at = b
        check_shown(one)
        if length >= 12:  # longer than any word
            for cut in (one.offset, last):
                assert not (text[max(cut - 1, 0) : cut].isalnum() and text[cut : cut + 1].isalnum())
                assert text[cut : cut + 1] not in ("\u0301", "🏽")


def check_shown(one: Snippet) -> None:
    cut = "…" * one.cut_before, "…" * one.cut_after
    shown = one.html()
    assert html.unescape(re.sub("</?mark>", "", shown)) == cut[0] + one.text + cut[1]
    parts = [html.unescape(part) for part in re.findall("<mark>(.*?)</mark>", shown, re.DOTALL)]
    assert parts == [one.text[a:b] for a, b in one.highlights]
    assert re.sub(r"\x1b\[[01]m", "", one.ansi()) == str(one)
    assert len(str(one).splitlines()) <= 1
    assert "".join(str(one).split()) == "".join((cut[0] + one.text + cut[1]).split())


# ---- queries


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (Term("cat"), ["cat", "cat"]),
        ("cats cat", ["cat", "cat", "cats"]),
        (Term("first"), ["ﬁrst"]),
        (Phrase("black cat"), ["black cat"]),
        (Phrase("black and white cat"), ["black-and-white cat"]),
        (Phrase("cat"), ["cat", "cat"]),
        (Phrase("cat sat", slop=1), ["cat", "sat"]),
        (Boolean(should=[Phrase("black cat"), "black"]), ["black cat", "black", "black"]),
        (Prefix("ca"), ["café", "cat", "cat", "cats"]),
        (Prefix("CA"), ["café", "cat", "cat", "cats"]),
        (Wildcard("s?t"), ["sat"]),
        (Wildcard("*e"), ["The", "white", "there", "The", "the", "house"]),
        (Regex("[bc]at|ol."), ["old", "cat", "cat"]),
        (Fuzzy("blak", 1), ["black", "black", "black"]),
        (Fuzzy("blak", 1, prefix_length=4), []),
        (Near(("cat", "white"), 1), ["white", "cat"]),
        (Near(("cat", "white"), 0, in_order=True), []),
        (Near(("white", "cat"), 0, in_order=True), ["white", "cat"]),
        (Synonyms(("new york", "café")), ["café", "New York"]),
        (Boolean(must=["old"], must_not=["cat"], filter=["sat"]), ["old", "sat"]),
        (Boost("old", 2), ["old"]),
        (ConstantScore(Phrase("new york"), 3), ["New York"]),
        (Term("車"), ["車", "車"]),
        (Term("東京都"), ["東京都"]),
        (Phrase("東京都の猫"), ["東京都の猫"]),
        (Phrase("京"), ["京"]),
        (All(), []),
        (Exists("year"), []),
        (Filter("year > 3"), []),
        (Range("year", 1, 2), []),
        (Term("cat", field="title"), []),
        ({"cat": 1.0, "black": -1.0}, ["cat", "cat"]),
        ("", []),
        ("...", []),
    ],
    ids=str,
)
def test_what_is_highlighted(query: Any, shown: list[str]) -> None:
    assert marked(query) == shown


def test_a_lone_character_in_a_phrase_begins_a_bigram() -> None:
    assert marked(Phrase("black 車"), "black 車 電車 black 車を black 電車") == [
        "black 車",
        "black 車",
    ]


@pytest.mark.parametrize(
    ("parameters", "query", "shown"),
    [
        ({"stemmer": "english"}, "cat", ["cat", "cat", "cats"]),
        ({"stemmer": "english"}, Prefix("cats"), ["cats"]),
        ({"stopwords": "english"}, "the of york", ["York"]),
        ({"stopwords": "english"}, Phrase("cats of new"), ["cats of New"]),
        ({"stopwords": "english"}, Phrase("cats new"), []),
        ({"stopwords": "english"}, Prefix("th"), []),
        ({"fold_accents": True}, "cafe", ["café"]),
        ({"tokenizer": "word"}, "a cat", ["cat", "cat"]),
        ({"tokenizer": "space"}, "cat,", ["cat,", "cat,"]),
        ({"tokenizer": "char", "cjk": "none"}, Phrase("cat,"), ["cat,", "cat,"]),
        ({"ngrams": (2, 2)}, "new york never", ["New York never"]),
        ({"ngrams": (2, 2)}, "york", []),
        ({"ngrams": (1, 2)}, "black cat", ["black cat", "black", "cat", "black"]),
        ({"ngrams": (2, 2), "stopwords": "english"}, "cats new", ["cats of New"]),
        ({"char_ngrams": (3, 3)}, "house", ["house"]),
        ({"cjk": "none", "tokenizer": "space"}, "車", []),
        ({"tokenizer": lambda text: re.findall("[A-Z][a-z]+", text)}, "York", ["York"]),
    ],
    ids=str,
)
def test_analyzers(parameters: dict[str, Any], query: Any, shown: list[str]) -> None:
    assert marked(query, **parameters) == shown


def test_clauses_of_a_field_match_in_its_column_alone() -> None:
    query = Boolean(should=[Term("cat", field="title"), Term("dog", field="lang"), "bee"])
    matcher = Matcher(query, Analyzer(), fields=("title",))
    texts = Texts.from_strings(["cat dog bee"])
    shown = {
        column: snippets(texts, matcher, column=column)[0].html()
        for column in (None, "title", "lang")
    }
    assert shown == {
        None: "cat dog <mark>bee</mark>", "title": "<mark>cat</mark> dog <mark>bee</mark>",
        "lang": "cat dog <mark>bee</mark>",
    }  # fmt: skip
    between = Matcher(Range("title", "b", "cat"), Analyzer(), fields=("title",))
    assert (
        snippets(texts, between, column="title")[0].html()
        == "<mark>cat</mark> dog <mark>bee</mark>"
    )


# ---- weights


def test_rare_words_and_boosts_weigh_more() -> None:
    text = "common " + "x " * 100 + "rare " + "x " * 100 + "boosted"
    df = {"common": 90, "rare": 2, "boosted": 90}

    def frequencies(terms: Texts) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array([df.get(term, 0) for term in terms.to_strings()])

    def first(query: Query | str) -> Snippet:
        matcher = Matcher(query, Analyzer(), 100, frequencies)
        return snippets(Texts.from_strings([text]), matcher, 20)[0]

    found = first("common rare boosted")
    assert "rare" in found.text
    assert found.score == pytest.approx(np.log(1 + 98.5 / 2.5))
    assert "boosted" in first(Boolean(should=["common", "rare", Boost("boosted", 50)])).text
    assert "common" in first(Boolean(should=["rare", ConstantScore("common", 9)])).text
    # a word that occurs twice in the query counts twice
    assert first("rare rare").score == pytest.approx(2 * first("rare").score)
    # a prefix has the weight of the words that match
    assert "rare" in first(Boolean(should=[Prefix("r"), Prefix("com")])).text
    assert first(Phrase("x rare")).score == pytest.approx(
        np.log(1 + 98.5 / 2.5) + np.log(1 + 100.5 / 0.5)
    )


def test_several_words_weigh_more_than_one_that_is_repeated() -> None:
    text = "cat cat cat cat cat cat " + "x " * 100 + "cat dog"
    assert "dog" in best("cat dog", text, 30).text
    assert best("cat", text, 30).offset == 0  # of equal passages the first


def test_a_boost_of_zero_is_highlighted() -> None:
    assert marked(Boolean(should=[Boost("cat", 0)])) == ["cat", "cat"]


# ---- passages


def test_a_passage_begins_where_a_sentence_does() -> None:
    text = "One two three. " * 20 + "Four five cat six. " + "One two three. " * 20
    found = best("cat", text, 60)
    assert found.text.startswith("Four five cat six. One")
    assert (found.cut_before, found.cut_after) == (True, True)
    assert str(found).startswith("…Four five cat six. One two")
    assert str(found).endswith("…")
    japanese = "これは猫です。" * 20 + "電車に乗る。" + "これは猫です。" * 20
    assert best("電車", japanese, 20).text.startswith("電車に乗る。これは")


def test_a_long_sentence_is_shown_from_a_word_before() -> None:
    text = "word " * 50 + "cat " + "word " * 50
    found = best("cat", text, 40)
    assert found.text.startswith("word word word")
    assert found.text.endswith("word")
    assert 30 <= len(found.text) <= 40


def test_the_end_of_a_text_is_shown_with_more_before() -> None:
    text = "word " * 50 + "cat"
    found = best("cat", text, 40)
    assert found.text.endswith("word cat")
    assert len(found.text) > 30
    assert not found.cut_after


def test_what_is_longer_than_a_passage_is_cut() -> None:
    text = "x " * 30 + "internationalisation " + "y " * 30
    found = best("internationalisation", text, 5)
    assert (found.text, found.highlights) == ("inter", ((0, 5),))
    long = best(Phrase("cat sat on the mat"), "The cat sat on the mat.", 8)
    assert (long.text, long.highlights) == ("cat sat", ((0, 7),))
    assert best("cat", "a cat", 1).text == "c"


def test_characters_of_several_code_points_are_not_cut() -> None:
    family = "👨‍👩‍👧"
    text = family * 30 + " cat " + family * 30
    for length in range(5, 40):
        found = best("cat", text, length)
        assert set(re.split(family, found.text.replace("cat", "").replace(" ", ""))) == {""}
    vowels = "नि" * 40
    for length in range(1, 20):
        assert len(best("cat", vowels, length).text) % 2 == 0


def test_texts_without_a_match_give_their_beginning() -> None:
    found = best("bird", TEXT, 20)
    assert found == Snippet("The ﬁrst café was", (), 0, None, 0.0, False, True)
    assert best("bird", "") == Snippet("")
    assert best("bird", "  \n ") == Snippet("", offset=4)
    assert snippets(Texts.from_strings([]), Matcher("cat", Analyzer())) == []


def test_offsets_are_code_points() -> None:
    text = "😀 ½ e\u0301 ﬁn " + "x " * 40 + "😀 cat 😀"
    found = best("cat", text, 20)
    (span,) = found.highlights
    assert text[found.offset + span[0] : found.offset + span[1]] == "cat"
    assert marked("fin 1⁄2 é", text) == ["½", "e\u0301", "ﬁn"]


def test_html_is_escaped_and_terminals_are_safe() -> None:
    text = '<b>cat</b> & "dog" <script>\x1b[31m\r\n\tred\u202e</script>'
    found = best("cat dog script", text)
    assert found.html() == (
        "&lt;b&gt;<mark>cat</mark>&lt;/b&gt; &amp; &quot;<mark>dog</mark>&quot; "
        "&lt;<mark>script</mark>&gt;\x1b[31m\r\n\tred\u202e&lt;/<mark>script</mark>&gt;"
    )
    assert str(found) == '<b>cat</b> & "dog" <script>\ufffd[31m red\ufffd</script>'
    assert found.ansi().startswith("<b>\x1b[1mcat\x1b[0m</b>")
    assert found.ansi().count("\x1b") == 2 * len(found.highlights)


def test_several_passages_are_in_the_order_of_the_text() -> None:
    text = "cat " + "x " * 100 + "cat dog " + "x " * 100 + "dog"
    matcher = Matcher("cat dog", Analyzer())
    for most, shown in ((1, ["cat dog"]), (2, ["cat", "cat dog"]), (9, ["cat", "cat dog", "dog"])):
        (several,) = passages(Texts.from_strings([text]), matcher, 20, most)
        found = [" ".join(one.text[a:b] for a, b in one.highlights) for one in several]
        assert found == shown


# ---- batches and bad input


def test_texts_of_a_batch_do_not_matter_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(5)
    words = [*WORDS, "東京", "car", "\n", "."]
    texts = [" ".join(chance.choices(words, k=chance.randint(0, 200))) for _ in range(50)]
    query = Boolean(
        should=["cat", Phrase("cat dog"), Prefix("ca"), Term("東"), Near(("x", "dog"), 2)]
    )
    matcher = Matcher(query, Analyzer())
    alone = [snippets(Texts.from_strings([text]), matcher)[0] for text in texts]
    whole = Texts.from_strings(["left out", *texts])
    part = Texts(whole.data, whole.offsets[1:])
    assert snippets(part, matcher) == alone
    monkeypatch.setattr("fastseq.search.snippets._BATCH", 1000)
    assert snippets(part, matcher) == alone


def test_a_phrase_ends_with_its_text() -> None:
    found = snippets(Texts.from_strings(["a cat", "sat"]), Matcher(Phrase("cat sat"), Analyzer()))
    assert [one.highlights for one in found] == [(), ()]


@pytest.mark.parametrize("value", [0, -1, 1.5, "long", True])
def test_lengths_that_are_wrong(value: Any) -> None:
    matcher, texts = Matcher("cat", Analyzer()), Texts.from_strings(["cat"])
    with pytest.raises(SettingsError, match="length must be a whole number of at least 1"):
        snippets(texts, matcher, value)
    with pytest.raises(SettingsError, match="most must be a whole number of at least 1"):
        passages(texts, matcher, 10, value)


def test_queries_and_texts_that_are_wrong() -> None:
    with pytest.raises(SettingsError, match="must be a query or a string, not 7"):
        Matcher(7, Analyzer())  # type: ignore[arg-type]
    with pytest.raises(SettingsError):
        Matcher(Regex("(["), Analyzer())
    with pytest.raises(SettingsError):
        Matcher("\ud800", Analyzer())
    with pytest.raises(SettingsError, match="terms must be strings"):
        Matcher({7: 1.0}, Analyzer())  # type: ignore[dict-item]
    bad = Texts(np.frombuffer(bytearray(b"cat \xff"), np.uint8), np.array([0, 5]))
    with pytest.raises(InvalidTextError):
        snippets(bad, Matcher("cat", Analyzer()))
    (found,) = snippets(bad, Matcher("cat", Analyzer(on_invalid="replace")))
    assert found.html() == "<mark>cat</mark> \ufffd"


# ---- documents


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    rows = [
        {"id": i, "title": title, "body": body, "tags": tags, "year": 2000 + i}
        for i, (title, body, tags) in enumerate([
            ("Black cats", "A text about a dog.", ["cat", "pet"]),
            ("Dogs", "The cat sat on the black mat. The black cat slept.", []),
            ("", "Nothing here, in a longer text.", None),
            ("Cat", None, ["dog"]),
        ])
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("snippets") / "index"
    index = Index.build(rows[:2], path, text_columns=["title", "body"])
    index.add(rows[2:])
    return index


def of_documents(index: Index, query: Any, rows: list[int], **settings: Any) -> list[Snippet]:
    collection = index._collection
    return document_snippets(
        collection, np.array(rows), Matcher(query, collection.analyzer), **settings
    )


def test_the_best_column_of_each_document(index: Index) -> None:
    found = of_documents(index, "black cat", [1, 0, 3, 2])
    assert [(one.column, one.html()) for one in found] == [
        ("body", "The <mark>cat</mark> sat on the <mark>black</mark> mat. "
                 "The <mark>black</mark> <mark>cat</mark> slept."),
        ("title", "<mark>Black</mark> cats"),
        ("title", "<mark>Cat</mark>"),
        ("body", "Nothing here, in a longer text."),
    ]  # fmt: skip
    assert of_documents(index, "cat", []) == []


def test_a_given_column(index: Index) -> None:
    found = of_documents(index, "cat", [0, 1, 2, 3], column="title")
    assert [(one.column, one.html()) for one in found] == [
        ("title", "Black cats"), ("title", "Dogs"), ("title", ""), ("title", "<mark>Cat</mark>"),
    ]  # fmt: skip
    lists = of_documents(index, "pet cat", [0, 2, 3], column="tags")
    assert [one.html() for one in lists] == ["<mark>cat</mark> <mark>pet</mark>", "", "dog"]


def test_columns_without_text(index: Index, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no stored column 'none'; stored are: id, title, body"):
        of_documents(index, "cat", [0], column="none")
    with pytest.raises(DataError, match="'year' is of type int64, expected strings"):
        of_documents(index, "cat", [0], column="year")
    bare = Index.build([{"id": 1, "text": "a cat"}], tmp_path / "bare", store=[])
    with pytest.raises(DataError, match=r"the text \(text\) is not stored"):
        of_documents(bare, "cat", [0])


def test_nested_text(tmp_path: Path) -> None:
    rows = [{"id": 1, "doc": {"text": "a cat", "n": 1}}, {"id": 2, "doc": None}]
    index = Index.build(rows, tmp_path / "nested", text_columns="doc.text")
    found = of_documents(index, "cat", [1, 0])
    assert [(one.column, one.html()) for one in found] == [
        ("doc.text", ""), ("doc.text", "a <mark>cat</mark>"),
    ]  # fmt: skip


def test_snippets_of_1000_hits_are_fast() -> None:
    """About 60 ms on one core; the limit allows for a loaded machine."""
    chance = random.Random(1)
    vocabulary = [
        "".join(chance.choices("abcdefghij", k=chance.randint(2, 9))) for _ in range(20_000)
    ]
    texts = [" ".join(chance.choices(vocabulary, k=250)) for _ in range(1000)]
    query = Boolean(
        should=[*vocabulary[:5], Prefix("ab"), Phrase(f"{vocabulary[0]} {vocabulary[1]}")]
    )
    matcher, batch = Matcher(query, Analyzer(stemmer="english")), Texts.from_strings(texts)
    snippets(batch, matcher)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        found = snippets(batch, matcher)
        seconds.append(time.perf_counter() - start)
    assert sum(bool(one.highlights) for one in found) > 900
    assert min(seconds) < 1
