"""Analyzer settings: examples worked by hand, scikit-learn's n-grams, saving, errors."""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from stop_words import AVAILABLE_LANGUAGES, get_stop_words

from fastseq.errors import DataError, FormatError, MissingExtraError, SettingsError
from fastseq.text.analyzer import Analyzer
from fastseq.text.language import stopword_list
from fastseq.text.lexicon import Lexicon
from fastseq.text.normalising import LANGUAGES
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Texts
from tests.naive import text as naive

# characters whose rules are unlike: case pairs of other lengths, sigma and what it looks past,
# combining marks, scripts that become bigrams, white space that is not ASCII, astral planes
_ODD = "aZ_9 .':^`-\n\t\x00\x1c\x85\xa0\u3000İıßẞΣσςςKǅﬁ½²\u0301\u0307\u0345\u200d\u00ad"
_ODD += "éÉñŐ猫喜ーｶﾞかガ〇々한국ᄒ𝚺𐐀😀\u2019\U00020000\ufdfa㍿क़्"
_texts = st.text(st.one_of(st.sampled_from(_ODD), st.characters(exclude_categories=["Cs", "Cn"])))
_words = st.lists(st.sampled_from(["the", "cat", "Sat", "on", "x", "mat", "猫", "é"])).map(" ".join)

LUCENE = set(
    """
    a an and are as at be but by for if in into is it no not of on or such that the their then
    there these they this to was will with
    """.split()  # noqa: SIM905
)


# ---- against Python


@settings(deadline=None, max_examples=300)
@given(_texts)
def test_word_tokens(text: str) -> None:
    assert Analyzer(tokenizer="word", cjk="none").tokens(text) == naive.words(text)
    assert Analyzer(tokenizer="word").tokens(text) == naive.words_and_bigrams(text)
    kept = Analyzer(tokenizer="word", cjk="none", lowercase=False).tokens(text)
    assert kept == re.findall(r"(?u)\b\w\w+\b", text)


@settings(deadline=None, max_examples=200)
@given(_texts)
def test_other_tokenizers_and_folding(text: str) -> None:
    assert Analyzer(tokenizer="space").tokens(text) == naive.visible(text)
    assert Analyzer(tokenizer="char").tokens(text) == naive.characters(text)
    folded = naive.fold(text.lower())
    assert Analyzer(tokenizer="word", fold_accents=True, cjk="none").tokens(text) == naive.words(
        folded
    )
    space = Analyzer(tokenizer="space", fold_accents=True)
    assert space.tokens(text) == folded.split()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=12) | _texts.map(str.encode), max_size=6))
def test_invalid_bytes(pieces: list[bytes]) -> None:
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(p) for p in pieces], out=offsets[1:])
    texts = Texts(np.frombuffer(bytearray(b"".join(pieces)), np.uint8), offsets)
    replaced = [piece.decode("utf-8", "replace") for piece in pieces]
    broken = [i for i, p in enumerate(pieces) if p != replaced[i].encode()]
    lexicon = Lexicon(Analyzer(tokenizer="word", cjk="none", on_invalid="replace"))
    values = lexicon.encode(texts).values
    terms = lexicon.terms().to_strings()
    assert [terms[i] for i in values] == [w for text in replaced for w in naive.words(text)]
    if broken:
        with pytest.raises(DataError, match=f"text {broken[0]} is not valid UTF-8") as caught:
            Lexicon(Analyzer(tokenizer="word")).encode(texts)
        assert caught.value.row == broken[0]  # type: ignore[attr-defined]


# ---- against scikit-learn


def _counts(vectorizer: CountVectorizer, text: str) -> Counter[str]:
    return Counter(vectorizer.build_analyzer()(text))


@settings(deadline=None, max_examples=150)
@given(_texts | _words, st.integers(1, 4), st.integers(0, 2))
def test_ngrams_match_scikit_learn(text: str, low: int, more: int) -> None:
    span = (low, low + more)
    analyzer = Analyzer(tokenizer="word", cjk="none", ngrams=span, stopwords="lucene")
    peer = CountVectorizer(ngram_range=span, stop_words=sorted(LUCENE))
    assert Counter(analyzer.tokens(text)) == _counts(peer, text)
    chars = Analyzer(tokenizer="space", char_ngrams=span)
    assert Counter(chars.tokens(text)) == _counts(
        CountVectorizer(analyzer="char_wb", ngram_range=span), text
    )


def test_ngrams_of_a_collection_match_scikit_learn() -> None:
    texts = ["the cat sat on the mat", "", "x", "the cat ate the mat and the cat sat", "cat"]
    for ours, peer in (
        (Analyzer(tokenizer="word", ngrams=(1, 3)), CountVectorizer(ngram_range=(1, 3))),
        (
            Analyzer(tokenizer="space", char_ngrams=(2, 4)),
            CountVectorizer(analyzer="char_wb", ngram_range=(2, 4)),
        ),
    ):
        lexicon = Lexicon(ours)
        tokens = lexicon.encode(Texts.from_strings(texts))
        terms = lexicon.terms().to_strings()
        matrix = peer.fit_transform(texts).toarray()
        names = peer.get_feature_names_out().tolist()
        assert sorted(terms) == names
        counts = np.zeros((len(texts), len(terms)), int)
        for row in range(len(texts)):
            ids = tokens.values[tokens.offsets[row] : tokens.offsets[row + 1]]
            np.add.at(counts[row], ids, 1)
        assert (counts[:, [terms.index(name) for name in names]] == matrix).all()


# ---- by hand


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ({}, "Hello, the CAT_9 don't x", "hello the cat_9 don"),
        ({}, "猫喜欢吃鱼", "猫喜 喜欢 欢吃 吃鱼"),
        ({}, "猫 abc猫x한국어def", "猫 abc 猫 한국 국어 def"),
        ({}, "カタカナとひらがな", "カタ タカ カナ ナと とひ ひら らが がな"),
        ({"cjk": "none"}, "猫喜欢吃鱼 猫 abc猫", "猫喜欢吃鱼 abc猫"),
        ({"cjk": "words"}, "猫喜欢吃鱼abc한국어", "猫 喜欢 吃 鱼 abc 한국 국어"),
        ({"cjk": "words", "stopwords": ("喜欢",)}, "猫喜欢吃鱼", "猫 吃 鱼"),
        ({"min_length": 3}, "an ant 猫 喜欢", "ant 猫 喜欢"),
        ({"min_length": 1}, "I am", "i am"),
        ({"max_length": 3}, "four the éé ééé éééé", "the éé ééé"),
        ({"tokenizer": "space", "min_length": 2}, "a bb 猫 猫猫", "bb 猫猫"),
        ({"lowercase": False}, "The Cat", "The Cat"),
        ({"lowercase": False, "stopwords": "lucene"}, "The the Cat", "The Cat"),
        ({"fold_accents": True}, "Café cafe\u0301 ﬁn re\u0301sume\u0301s", "cafe cafe fin resumes"),
        ({"fold_accents": True}, "한국어 ＡＢＣ", "한국 국어 abc"),
        ({"fold_accents": True, "stopwords": ("été",)}, "Été ete hiver", "hiver"),
        ({"stopwords": "lucene", "stemmer": "english"}, "The cats are running", "cat run"),
        ({"stopwords": ("Cats",), "stemmer": "english"}, "Cats cat", "cat"),
        ({"tokenizer": "char"}, "aB c猫", "a b c 猫"),
        ({"tokenizer": lambda t: t.split("|")}, "A B|É||c\nd", "a b,é,c\nd"),
    ],
)  # fmt: skip
def test_examples(fields: dict[str, Any], text: str, expected: str) -> None:
    separator = "," if callable(fields.get("tokenizer")) else " "
    analyzer = Analyzer(**{"tokenizer": "word", **fields})
    assert analyzer.tokens(text) == expected.split(separator)


def test_word_ngrams_of_words_cut_by_white_space() -> None:
    text = "猫 喜欢 吃 鱼"
    for tokenizer in ("space", "word"):
        pairs = Analyzer(tokenizer=tokenizer, ngrams=(2, 2))
        assert pairs.tokens(text) == ["猫 喜欢", "喜欢 吃", "吃 鱼"]
        both = Analyzer(tokenizer=tokenizer, ngrams=(1, 2))
        assert both.tokens(text) == ["猫", "喜欢", "吃", "鱼", "猫 喜欢", "喜欢 吃", "吃 鱼"]


def test_ngrams_skip_what_the_filters_drop() -> None:
    analyzer = Analyzer(ngrams=(2, 2), stopwords="lucene", stemmer="english")
    assert analyzer.tokens("Cats of the running dogs") == ["cat run", "run dog"]
    chars = Analyzer(char_ngrams=(3, 3), stopwords="lucene", stemmer="english")
    assert chars.tokens("the cats") == [" ca", "cat", "at "]
    segmented = Analyzer(cjk="words", char_ngrams=(3, 3), stopwords=("吃",))
    assert segmented.tokens("吃喜欢吃ab") == [" 喜欢", "喜欢 ", " ab", "ab "]


@pytest.mark.parametrize("name", Stemmer.algorithms())
def test_every_stemmer(name: str) -> None:
    words = "running Connections ärgerlich gatos красивыми éléphants बच्चों كتابها kitaplar talossani"
    raw = Analyzer(tokenizer="word", cjk="none").tokens(words)
    expected = [s or w for w, s in zip(raw, Stemmer.Stemmer(name).stemWords(raw), strict=True)]
    assert Analyzer(tokenizer="word", cjk="none", stemmer=name).tokens(words) == expected


@pytest.mark.parametrize("name", ["lucene", *AVAILABLE_LANGUAGES])
def test_every_stop_word_list(name: str) -> None:
    words = sorted(LUCENE) if name == "lucene" else get_stop_words(name)
    words = [word for word in words if len(word.split()) == 1]  # some lists hold phrases
    assert len(words) > 30
    analyzer = Analyzer(tokenizer="space", stopwords=name)
    left = set(analyzer.tokens(" ".join([*words, "zzyzx"]))) - {"zzyzx"}
    if name == "english":  # our list instead of the package's
        assert len(left) > 1000
    elif name in ("polish", "turkish"):  # have mistakes
        assert len({word for word in left if len(word) > 1}) <= 21
    else:
        assert all(len(re.findall(r"\w", word)) < 2 for word in left)


def test_stop_list_of_english() -> None:
    """The list of other releases of the package has computer and state."""
    english = Analyzer(stopwords="english")
    text = "Vitamin A and I: the computer system's state doesn't inform us, or is it hers?"
    assert english.tokens(text) == [
        "vitamin", "a", "i", "computer", "system's", "state", "inform", "us"]  # fmt: skip
    assert len(stopword_list("english")) == 191
    queries = Analyzer.for_language("english")
    assert queries.tokens("hepatitis C vaccine") == ["hepat", "c", "vaccin"]


@pytest.mark.parametrize("name", AVAILABLE_LANGUAGES)
def test_one_letter_words_are_no_stop_words_of_a_language(name: str) -> None:
    letters = "a b c d e i o u y z à é ò а в и к о с у я ا ب و א न १ 7"
    analyzer = Analyzer(tokenizer="unicode", stopwords=name)
    assert analyzer.tokens(letters) == letters.split()
    if name == "chinese":  # a single character is a word
        segmented = Analyzer(stopwords=name, cjk="words")
        assert segmented.tokens("我的猫") == ["猫"]


def test_stop_lists_in_a_wrong_encoding_are_mended() -> None:
    turkish = Analyzer.for_language("turkish", stemmer="none")
    assert turkish.tokens("bazı şey mı mi birşeyi altmış yetmiş nasıl kedi") == ["kedi"]
    polish = Analyzer.for_language("polish", stemmer="none")
    assert polish.tokens("dużo jeżeli jeśli już każdy ją kot") == ["kot"]
    for name in AVAILABLE_LANGUAGES:
        assert not set("þð¼›") & set("".join(stopword_list(name)))


def test_language() -> None:
    stems = {"stopwords": "english", "stemmer": "english"}
    named = {**stems, "normalization": "english"}
    assert Analyzer.for_language("english", ngrams=(1, 2)) == Analyzer(**named, ngrams=(1, 2))
    for tokenizer, expected in (("unicode", named), ("word", stems)):
        found = Analyzer.for_language("english", tokenizer=tokenizer)
        assert found == Analyzer(tokenizer=tokenizer, **expected)
        assert found == Analyzer.for_language("english").resolved(tokenizer)
        assert hash(found) == hash(Analyzer.for_language("english").resolved(tokenizer))
    assert Analyzer.for_language("english", stopwords="lucene").stopwords == "lucene"
    assert Analyzer.for_language("japanese") == Analyzer(stopwords="japanese")
    irish = Analyzer.for_language("irish", tokenizer="word")
    assert irish == Analyzer(tokenizer="word", stemmer="irish")
    with pytest.raises(SettingsError, match=r"'elvish'; expected one of arabic, .*english"):
        Analyzer.for_language("elvish")
    with pytest.raises(SettingsError, match=r"'azerbaijani' has a normalisation only, which needs"):
        Analyzer.for_language("azerbaijani", tokenizer="word")


def test_every_language_with_a_stemmer_a_stop_list_or_a_normalisation() -> None:
    names = {*Stemmer.algorithms(), *AVAILABLE_LANGUAGES, *LANGUAGES}
    assert {"azerbaijani", "bulgarian", "irish", "japanese"} < names
    for name in names:
        found = Analyzer.for_language(name)
        assert found.tokens("C 3.14 ไทย"), name
        assert found.normalization == (name if name in LANGUAGES else "none")
        assert Analyzer.from_dict(found.to_dict()) == found.resolved("unicode")


# ---- default tokenizers


def test_default_tokenizers() -> None:
    analyzer = Analyzer(min_length=2)
    assert analyzer.tokenizer is None
    assert analyzer.resolved("word") == Analyzer(tokenizer="word", min_length=2)
    assert analyzer.resolved("unicode") == Analyzer(tokenizer="unicode", min_length=2)
    assert analyzer.resolved("word").resolved("unicode").tokenizer == "word"
    assert analyzer != analyzer.resolved("unicode")
    german = Analyzer(normalization="german")
    assert german.resolved("word") == Analyzer(tokenizer="word")
    assert german.resolved("unicode") == Analyzer(tokenizer="unicode", normalization="german")
    chosen = Analyzer(tokenizer="word", normalization="german")
    assert chosen.resolved("word") is chosen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hepatitis C vaccine", "hepatitis c vaccine"),
        ("हिन्दी में", "हिन्दी में"),
        ("cafe\u0301 café", "café café"),
        ("ＡＢＣ　ﬁn", "abc fin"),
        ("ภาษาไทย", "ภา าษ ษา าไ ไท ทย"),
        ("node.js 3.14", "node js 3.14"),
        ("don't", "don't"),
    ],
)
def test_terms_without_a_tokenizer_are_those_of_an_index(text: str, expected: str) -> None:
    assert Analyzer().tokens(text) == expected.split()
    assert Analyzer(tokenizer="unicode").tokens(text) == expected.split()


# ---- saving


@pytest.mark.parametrize(
    "analyzer",
    [
        Analyzer(tokenizer="word"),
        Analyzer(tokenizer="unicode", normalization="turkish"),
        Analyzer.for_language("german").resolved("unicode"),
        Analyzer(tokenizer="space", char_ngrams=(3, 5), stopwords=("a", "b"), min_length=2),
        Analyzer("char", "none", False, True, "lucene", "porter", (2, 3), None, 1, 9, "replace"),
    ],
)
def test_round_trip(analyzer: Analyzer) -> None:
    saved = json.loads(json.dumps(analyzer.to_dict()))
    assert saved["unicode"].count(".") == 2
    assert Analyzer.from_dict(saved) == analyzer
    assert hash(Analyzer.from_dict(saved)) == hash(analyzer)


def test_invalid_saved_analyzers_are_rejected() -> None:
    saved = Analyzer().to_dict()
    assert saved["tokenizer"] == "unicode"
    for tokenizer in (None, 3):
        with pytest.raises(FormatError, match="tokenizer"):
            Analyzer.from_dict(
                {**saved, "tokenizer": tokenizer, "unicode": unicode_tables().version}
            )
    with pytest.raises(FormatError, match="does not know: colour"):
        Analyzer.from_dict({**saved, "colour": 1})
    with pytest.raises(FormatError, match=r"Unicode tables '99\.0'"):
        Analyzer.from_dict({**saved, "unicode": "99.0"})
    with pytest.raises(FormatError, match="cannot be rebuilt: stemmer"):
        Analyzer.from_dict({**saved, "stemmer": "klingon"})
    with pytest.raises(SettingsError, match="Python function cannot be saved"):
        Analyzer(tokenizer=str.split).to_dict()


# ---- errors


@pytest.mark.parametrize(
    "fields",
    [
        {"tokenizer": "regex"},
        {"normalization": "klingon"},
        {"normalization": None},
        {"tokenizer": ("word",)},
        {"cjk": "yes"},
        {"lowercase": 1},
        {"fold_accents": "no"},
        {"stopwords": "klingon"},
        {"stopwords": 3},
        {"stopwords": (1,)},
        {"stemmer": "klingon"},
        {"stemmer": None},
        {"ngrams": (0, 1)},
        {"ngrams": (2, 1)},
        {"ngrams": (1, 2, 3)},
        {"ngrams": 2},
        {"ngrams": (True, 2)},
        {"char_ngrams": (3, 2)},
        {"char_ngrams": (2, 3), "ngrams": (1, 2)},
        {"min_length": 0},
        {"max_length": 1.5},
        {"min_length": 4, "max_length": 3},
        {"on_invalid": "ignore"},
    ],
)
def test_wrong_settings(fields: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(fields))):
        Analyzer(**fields)


def test_segmentation_without_rjieba_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastseq\[chinese\]'"):
        Lexicon(Analyzer(cjk="words"))


def test_tokenizer_with_wrong_results_is_rejected() -> None:
    with pytest.raises(DataError, match=r"row 0 .from 0.: the tokenizer returned 3"):
        Analyzer(tokenizer=lambda text: [3]).tokens("a")  # type: ignore[list-item]
    with pytest.raises(DataError, match="not valid Unicode"):
        Analyzer(tokenizer=lambda text: ["\ud800"]).tokens("a")


@pytest.mark.parametrize("name", ["ngrams", "char_ngrams"])
def test_ngrams_have_a_largest_n(name: str) -> None:
    assert getattr(Analyzer(**{name: (1, 64)}), name) == (1, 64)
    with pytest.raises(SettingsError, match="64"):
        Analyzer(**{name: (1, 65)})


def test_analyzer_saved_under_other_packages_is_rejected() -> None:
    """Searching with other stems than the index was built with would silently find less."""
    analyzer = Analyzer(tokenizer="word", stopwords="german", stemmer="german")
    saved = analyzer.to_dict()
    assert Analyzer.from_dict(saved) == analyzer
    for package in ("PyStemmer", "stop-words"):
        other = {**saved, "packages": {**saved["packages"], package: 1}}
        with pytest.raises(FormatError, match=package):
            Analyzer.from_dict(other)
    with pytest.raises(FormatError, match="another version"):
        Analyzer.from_dict({**saved, "packages": None})
    unknown = {**Analyzer().to_dict(), "packages": {"stop-words": 1}}
    with pytest.raises(FormatError, match="another version"):
        Analyzer.from_dict(unknown)
    assert "packages" not in Analyzer(stopwords="lucene").to_dict()


@pytest.mark.parametrize("language", ["english", "french", "turkish"])
def test_analyzer_saved_with_the_packages_list_keeps_it(language: str) -> None:
    """Version 0.1.0 removed the words of the package's list as they are."""
    raw = tuple(get_stop_words(language))
    assert raw != stopword_list(language)
    saved = Analyzer(stopwords=language, stemmer=language).to_dict()
    crc = zlib.crc32("\n".join(sorted(set(raw))).encode())
    saved["packages"] = {**saved["packages"], "stop-words": crc}
    found = Analyzer.from_dict(json.loads(json.dumps(saved)))
    assert found == Analyzer(tokenizer="unicode", stopwords=raw, stemmer=language)
    assert Analyzer.from_dict(found.to_dict()) == found
