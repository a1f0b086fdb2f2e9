"""Units against a plain Python twin: every rule, every script, arrays that must grow."""

from __future__ import annotations

import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import FormatError, InvalidTextError, SettingsError
from fastseq.models.data.tokenizer import SequenceTokenizer, combining_marks
from fastseq.types import Texts
from tests.naive import units as naive

# known to every supported Python: no characters of newer Unicode versions
OLD = (
    "ſẞßİıΣσςǅꙀはかがハーｶ猫東々〇"
    "한국어ㄱéä\u0301\u0308\u0301\u093e\u0941कहिन्दीกำي‌می\u200c\u200d👩💻🇩🇪\ufe0f"
)
characters = st.one_of(
    st.sampled_from("aAbBzZ_09.,'!?- \t\n\x0b\x1c\x85\xa0\u2003\u3000\ufeff\x00"),
    st.sampled_from(OLD),
    st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cn"]),
)
texts = st.lists(st.text(characters, max_size=30), max_size=8)


def pieces(units: SequenceTokenizer, strings: list[str], whole: bool = False) -> list[list[str]]:
    split = units.split(Texts.from_strings(strings), whole)
    distinct = Texts(*split.table.texts()).to_strings()
    assert len(set(distinct)) == len(distinct)
    found = [distinct[i] for i in split.ids.tolist()]
    return [found[a:b] for a, b in zip(split.offsets[:-1], split.offsets[1:], strict=True)]


@pytest.mark.parametrize("unit", ["word", "space", "char"])
@pytest.mark.parametrize("lowercase", [True, False])
@given(strings=texts)
@settings(max_examples=150, deadline=None)
def test_units_match_the_naive_twin(unit: str, lowercase: bool, strings: list[str]) -> None:
    expected = [naive.units(text, unit, lowercase) for text in strings]
    assert pieces(SequenceTokenizer(unit, lowercase), strings) == expected


@given(strings=texts, lowercase=st.booleans())
@settings(max_examples=60, deadline=None)
def test_whole_text_is_one_unit(strings: list[str], lowercase: bool) -> None:
    expected = [[text.lower() if lowercase else text] for text in strings]
    assert pieces(SequenceTokenizer("space", lowercase), strings, whole=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, 3.14!", ["don", "'", "t", "stop", ",", "3", ".", "14", "!"]),
        ("東京タワーは高い。", list("東京タワーは高い。")),
        ("한국어 text漢字mix", ["한국어", "text", "漢", "字", "mix"]),
        ("e\u0301te\u0301 ,\u0301 猫\u0301", ["e\u0301te\u0301", ",\u0301", "猫\u0301"]),
        ("\u0301 \u0301a", ["\u0301", "\u0301", "a"]),
        ("हिन्दी", ["हिन्दी"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("ΟΔΟΣ ΣΑΣ", ["οδος", "σας"]),
        ("İx ẞ", ["i\u0307x", "ß"]),
        ("__a_1 $5", ["__a_1", "$", "5"]),
        ("", []),
        (" \n\u3000", []),
    ],
)
def test_the_word_rule(text: str, expected: list[str]) -> None:
    assert SequenceTokenizer("word").tokenize(text) == expected
    assert naive.units(text, "word", True) == expected


def test_space_and_characters_keep_the_case() -> None:
    assert SequenceTokenizer("space").tokenize(" No <unk> ,\tyet\n") == ["No", "<unk>", ",", "yet"]
    assert SequenceTokenizer("char").tokenize("A b\n猫") == ["A", " ", "b", "\n", "猫"]
    assert SequenceTokenizer("byte").tokenize("é\n") == ["\xc3", "\xa9", "\n"]


def test_combining_marks_match_unicode() -> None:
    marks = combining_marks()
    assert marks.shape == (sys.maxunicode + 1,)
    known = [c for c in range(len(marks)) if unicodedata.category(chr(c)) != "Cn"]
    wrong = [c for c in known if marks[c] != naive.is_mark(chr(c))]
    # a later Python's Unicode has assigned characters that 15.1 lacks
    assert not wrong or unicodedata.unidata_version > "15.1"


def test_long_words_and_many_of_them_make_the_arrays_grow() -> None:
    long = "x" * 5000 + "é" * 3000
    many = " ".join(f"w{i}" for i in range(30_000))
    strings = [long, many, "", "a." * 40_000, long.upper()]
    assert pieces(SequenceTokenizer("word"), strings) == [
        naive.units(text, "word", True) for text in strings
    ]
    assert pieces(SequenceTokenizer("char"), [many]) == [list(many)]
    alike = [chr(0x4E00 + i) for i in range(9000)]
    assert pieces(SequenceTokenizer("char"), ["".join(alike)]) == [alike]


def test_texts_may_be_a_slice_and_read_only() -> None:
    texts = Texts.from_strings(["one two", "three Four", "five"])
    data = texts.data.copy()
    data.flags.writeable = False
    part = Texts(data, texts.offsets[1:].copy())
    split = SequenceTokenizer("word").split(part)
    assert Texts(*split.table.texts()).to_strings() == ["three", "four", "five"]
    assert split.offsets.tolist() == [0, 2, 3]


def test_threads_may_split_at_once() -> None:
    strings = [f"text number {i} of many, many" for i in range(2000)]
    expected = pieces(SequenceTokenizer("word"), strings)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: pieces(SequenceTokenizer("word"), strings), range(8)):
            assert found == expected


@pytest.mark.parametrize("unit", ["word", "space", "char"])
def test_text_that_is_not_utf8_is_refused_with_its_row(unit: str) -> None:
    texts = Texts.from_strings(["good", "also", "\ud800"])
    with pytest.raises(InvalidTextError, match="text 2 is not valid UTF-8") as caught:
        SequenceTokenizer(unit).split(texts)
    assert caught.value.row == 2


def test_settings() -> None:
    assert SequenceTokenizer("word").lowercase is True
    assert (
        SequenceTokenizer("space").lowercase
        is SequenceTokenizer("char").lowercase
        is SequenceTokenizer("byte").lowercase
        is False
    )
    for units in (
        SequenceTokenizer("word"),
        SequenceTokenizer("space", True),
        SequenceTokenizer("byte"),
    ):
        assert SequenceTokenizer.from_dict(units.to_dict()) == units
    with pytest.raises(SettingsError, match="unit is 'syllable'; expected one of word, space"):
        SequenceTokenizer("syllable")
    with pytest.raises(SettingsError, match="lowercase is 1"):
        SequenceTokenizer("word", 1)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="bytes have no case"):
        SequenceTokenizer("byte", True)
    with pytest.raises(SettingsError, match="bytes are not split"):
        SequenceTokenizer("byte").split(Texts.from_strings(["a"]))
    with pytest.raises(FormatError, match=r"Unicode tables '9\.0'"):
        SequenceTokenizer.from_dict({"unit": "word", "lowercase": True, "unicode": "9.0"})
    with pytest.raises(FormatError, match="cannot be rebuilt"):
        SequenceTokenizer.from_dict(SequenceTokenizer().to_dict() | {"unit": "nibble"})


def test_no_text_at_all() -> None:
    split = SequenceTokenizer("word").split(Texts(np.zeros(0, np.uint8), np.zeros(1, np.int64)))
    assert len(split.ids) == len(split.table) == 0
    assert split.offsets.tolist() == [0]
