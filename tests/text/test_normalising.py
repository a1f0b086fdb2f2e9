"""Normalisation by language: examples by hand."""

from __future__ import annotations

import unicodedata

import pytest

from fastseq.text.analyzer import Analyzer
from fastseq.text.normalising import (
    _VOWELS,
    FIRST,
    LANGUAGES,
    LAST,
    STEMMED,
    _vowels,
    normalised,
)
from fastseq.text.splitting import WordSplitter
from fastseq.types import Texts


def tokens(language: str, text: str) -> list[str]:
    return Analyzer(tokenizer="unicode", normalization=language).tokens(text)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("english", "the dog's dogs’ James's 's", ["the", "dog", "dogs", "james", "s"]),
        ("french", "L'arbre qu’il jusqu'ici aujourd'hui", ["arbre", "il", "ici", "aujourd'hui"]),
        ("italian", "L'acqua dell’anno un'ora", ["acqua", "anno", "ora"]),
        ("catalan", "l'home d’aigua", ["home", "aigua"]),
        ("irish", "d'fhág b'fhéidir", ["fhág", "fhéidir"]),
        ("irish", "nAthair tAthair n-athair t\u2011Éan h-uisce T-ionad", [
            "athair", "athair", "athair", "éan", "uisce", "ionad"]),
        ("irish", "nathair tógáil Natter bean-taoiseach n a", [
            "nathair", "tógáil", "natter", "bean", "taoiseach", "n", "a"]),
        ("german", "schöne schoene Größe groesse neue quelle", [
            "schone", "schone", "grosse", "grosse", "neue", "quelle"]),
        ("german", "Hegel's geht’s Grimm'sche Ohm’schen O'Hara Yan'an 's Autos", [
            "hegel", "geht", "grimm", "ohm", "o'hara", "yan'an", "s", "autos"]),
        ("arabic", "أحمد إلى آخر مدرسة مُدَرِّس كـتاب على", [
            "احمد", "الي", "اخر", "مدرسه", "مدرس", "كتاب", "علي"]),
        ("arabic", "١٩٩٠ ٣٫١٤", ["1990", "3\u066b14"]),
        ("persian", "کتاب ي ی", ["كتاب", "ي", "ي"]),
        ("persian", "آب اب مسألة مُدیر ۱۳۹۹ عيسى", ["اب", "اب", "مساله", "مدير", "1399", "عيسي"]),
        ("sorani", "كوردي کوردی ڕۆژ رۆژ ساڵه ساڵە ٥", [
            "کوردی", "کوردی", "ڕۆژ", "ڕۆژ", "ساڵە", "ساڵە", "5"]),
        ("hindi", "अँग्रेज़ी हिन्दी", ["अंगरेजि", "हिंदि"]),
        ("hindi", "अाम आम अॅप ॲप २०२४", ["अम", "अम", "अप", "अप", "2024"]),
        ("hindi", "अाेर ओर अौर और", ["ओर", "ओर", "ओर", "ओर"]),
        ("nepali", "अाज आज एेन ऐन १२", ["आज", "आज", "ऐन", "ऐन", "12"]),
        ("bengali", "অামি আমি ১৯৭১", ["আমি", "আমি", "1971"]),
        ("gujarati", "અાજે આજે ૧૫", ["આજે", "આજે", "15"]),
        ("tamil", "௧௦ தமிழ்", ["10", "தமிழ்"]),
        ("telugu", "ఒౌ ఔ ౧౨", ["ఔ", "ఔ", "12"]),
        ("thai", "๒๕๖๗", ["2567"]),
        ("ukrainian", "ґрунт за́мок", ["грунт", "замок"]),
        ("romanian", "Ştefan ţară", ["ștefan", "țară"]),
        ("turkish", "İstanbul'da IŞIK Işık ılık", ["istanbul", "ışık", "ışık", "ılık"]),
        ("azerbaijani", "İÇMƏK IŞIQ", ["içmək", "ışıq"]),
        ("none", "İstanbul'da dog's", ["i̇stanbul'da", "dog's"]),
    ],
)  # fmt: skip
def test_words_by_hand(language: str, text: str, expected: list[str]) -> None:
    assert tokens(language, text) == expected


def test_every_vowel_of_several_characters_has_one() -> None:
    for block, pairs in _VOWELS.items():
        rule = _vowels(block)
        for pair in pairs.split():
            vowel, _, parts = pair.partition("=")
            several = "".join(chr(block + int(part, 16)) for part in parts.split("+"))
            one = chr(block + int(vowel, 16))
            assert rule(several) == one
            assert rule(one) == one
            assert unicodedata.normalize("NFC", several) == several, "composed by NFC already"


def test_prefixes_of_irish_keep_spans_of_the_text() -> None:
    splitter = WordSplitter(Analyzer(tokenizer="unicode", normalization="irish"))
    text = "Ár nAthair, t\u2011éan"
    _, starts, stops = splitter.spans(Texts.from_strings([text]))
    found = [text.encode()[a:b].decode() for a, b in zip(starts, stops, strict=True)]
    assert found == ["Ár", "Athair", "éan"]


def test_capital_i_and_a_dot_above_are_a_dotted_i_in_turkish() -> None:
    assert tokens("turkish", "I\u0307zmir İzmir") == ["izmir", "izmir"]
    keep = Analyzer(tokenizer="unicode", normalization="turkish", lowercase=False)
    assert keep.tokens("IŞIK") == ["IŞIK"]


def test_no_word_becomes_empty() -> None:
    for language in LANGUAGES:
        for rules in (FIRST, LAST, STEMMED):
            words = ["'", "l'", "'s", "s", "\u0640", "\u064b", "a", "\u094d"]
            assert all(normalised(rules, language, words))


def test_stop_words_have_their_usual_spelling() -> None:
    """A German stop list has würde; wurde without an umlaut is another word."""
    german = Analyzer(tokenizer="unicode", normalization="german", stopwords=("würde",))
    assert german.tokens("würde wurde Würde") == ["wurde"]
    french = Analyzer(tokenizer="unicode", normalization="french", stopwords=("une",))
    assert french.tokens("l'une arbre") == ["arbre"]


def test_normalisation_comes_before_stems() -> None:
    english = Analyzer.for_language("english", tokenizer="unicode")
    assert english.tokens("The vaccine's vaccines") == ["vaccin", "vaccin"]


@pytest.mark.parametrize(
    ("forms", "stem"),
    [
        ("Auto Autos", "auto"),
        ("Kenia Kenias", "kenia"),
        ("Handy Handys", "handy"),
        ("Niveau Niveaus", "niveau"),
        ("zeitlos zeitlose zeitloses", "zeitlo"),
        ("religiös religiöse religioese", "religio"),
        ("Haus Häuser Hauses", "haus"),
        ("Kloß Kloss", "kloss"),
        ("Preis Preise Preises", "prei"),
    ],
)
def test_german_s_after_a_vowel(forms: str, stem: str) -> None:
    german = Analyzer.for_language("german")
    assert set(german.tokens(forms)) == {stem}


def test_german_s_is_of_stems() -> None:
    assert tokens("german", "Autos") == ["autos"]
    assert Analyzer.for_language("german", tokenizer="word").tokens("Autos") == ["autos"]


@pytest.mark.parametrize("apostrophe", "\u2019\u2018\u02bc\uff07")
@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("english", "O'Hara doesn't say I'm the dog's friend", ["o'hara", "say", "dog", "friend"]),
        ("french", "aujourd'hui l'arbre qu'il n'est", ["aujourd'hui", "arbre"]),
        ("italian", "quest'anno l'acqua dell'anno", ["anno", "acqua", "anno"]),
        ("german", "Hegel's Grimm'sche O'Hara", ["hegel", "grimm", "o'hara"]),
        ("catalan", "l'home d'aigua", ["hom", "aigu"]),
        ("irish", "d'fh\u00e1g", ["f\u00e1g"]),
        ("turkish", "Ankara'da", ["ankar"]),
        ("ukrainian", "п'ять кіт", ["кіт"]),
        ("none", "don't", ["don't"]),
    ],
)
def test_typographic_apostrophes_are_apostrophes(
    language: str, text: str, expected: list[str], apostrophe: str
) -> None:
    """In stop lists, normalisation and stems."""
    analyzer = Analyzer() if language == "none" else Analyzer.for_language(language)
    assert analyzer.tokens(text) == expected
    assert analyzer.tokens(text.replace("'", apostrophe)) == expected


def test_stop_words_with_typographic_apostrophes() -> None:
    stop = Analyzer(tokenizer="unicode", stopwords=("don\u2019t",))
    assert stop.tokens("don't don\u2019t won\u2019t") == ["won't"]
    word = Analyzer(tokenizer="word").tokens("don\u2019t O\u02bcHara")
    assert word == ["don", "o\u02bchara"]
