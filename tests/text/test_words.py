"""The tokenizer `unicode`: Unicode's conformance tests, the naive twin, examples by hand."""

from __future__ import annotations

import bz2
import os
import random
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.text.normal_forms import IGNORABLE as IGNORABLE_BIT
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon
from fastseq.text.splitting import WordSplitter
from fastseq.text.word_tables import unicode_version, word_tables
from fastseq.types import Texts
from tests.naive import words as naive
from tests.sampling import examples
from tests.text.conformance import code_points, normal_form, word_boundaries

# Debian's package unicode-data; only the two files of tests are read from it
DATABASE = Path(os.environ.get("FASTSEQ_UCD", "/usr/share/unicode"))
needs_database = pytest.mark.skipif(
    not (DATABASE / "auxiliary").is_dir(), reason="no Unicode Character Database: see FASTSEQ_UCD"
)

IGNORABLE = "\u200c\u200d\u00ad\ufe0f\u2060\u061c"
# a few characters of every class, and of scripts with marks, joiners and no spaces
ODD = "aZé9_ .':;,\"-\n\t\u00a0\u3000İıßẞΣσςKǅﬁ½²\u0301\u0307\u0323\u0345\u2019·\u2024:."
ODD += "\u2018\u201b\uff07\u02bcㅋㅠㄳ\u119e\u1175\u11ab\ua960"
ODD += "שלאﬡ猫喜ーｶﾞかガ〇々한국학ᄀ각𝚺𐐀😀👍🏽🇩🇪🇫\U00020000ﷺ㍿क़्षिবাংলাதமிழ்ไทยน้ำກາລາວເຂົ້າខ្មែរមြန်မာစာ၁๑"
texts_of = st.text(st.one_of(st.sampled_from(ODD), st.sampled_from(ODD), st.characters()))


def tokens(text: str, **settings: object) -> list[str]:
    return Analyzer(tokenizer="unicode", **settings).tokens(text)


def known() -> list[str]:
    """The code points that Python, uniseg and the tables know, without default ignorables."""
    tables = word_tables("")
    codes = np.arange(0x110000)
    found = tables.properties[
        tables.properties_index[codes >> 7].astype(np.int64) << 7 | codes & 127
    ]
    return [
        chr(code)
        for code in np.flatnonzero(found & IGNORABLE_BIT == 0).tolist()
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]


KNOWN = known()


# ---- Unicode's own tests


def normal_forms() -> Iterator[list[str]]:
    with bz2.open(DATABASE / "NormalizationTest.txt.bz2", "rt", encoding="utf-8") as lines:
        for line in lines:
            if line[0] not in "#@\n":
                columns = line.split(";")[:5]
                yield ["".join(chr(int(c, 16)) for c in column.split()) for column in columns]


@needs_database
def test_normalization_test_passes() -> None:
    listed = set()
    for source, nfc, nfd, nfkc, nfkd in normal_forms():
        listed.add(source)
        for text in (source, nfc, nfd):
            assert normal_form(text, "") == nfc
            assert normal_form(text, "", compose=False) == nfd
        for text in (nfkc, nfkd):
            assert normal_form(text, "") == nfkc
            assert normal_form(text, "", compose=False) == nfkd
        for text in (source, nfc, nfd, nfkc, nfkd):
            assert normal_form(text, "nfkc") == nfkc
            assert normal_form(text, "nfkc", compose=False) == nfkd
    others = "".join(character for character in KNOWN if character not in listed)
    assert len(listed) > 18_000
    for character in others:
        for compose in (True, False):
            assert normal_form(character, "", compose) == character


def boundaries(text: str) -> list[int]:
    codes, *rest = code_points(text, "", raw=True)
    ends = np.empty(len(codes) + 1, np.int64)
    count = word_boundaries(ends, codes, *rest, len(codes), 0)
    return ends[:count].tolist()


@needs_database
def test_word_break_test_passes() -> None:
    count = 0
    for line in (DATABASE / "auxiliary" / "WordBreakTest.txt").read_text("utf-8").splitlines():
        marks = line.partition("#")[0].split()
        if not marks:
            continue
        text, expected = "", []
        for mark in marks[1:]:
            if mark == "÷":
                expected.append(len(text))
            elif mark != "×":
                text += chr(int(mark, 16))
        assert boundaries(text) == expected, line
        count += 1
    assert count > 1_800


# ---- the naive twin


@settings(deadline=None, max_examples=examples(800))
@given(texts_of)
def test_normal_forms_equal_pythons(text: str) -> None:
    if any(character not in KNOWN_SET and character not in IGNORABLE for character in text):
        return
    assert normal_form(text, "") == unicodedata.normalize("NFC", text)
    assert normal_form(text, "", compose=False) == unicodedata.normalize("NFD", text)
    plain = "".join(c for c in text if c not in IGNORABLE)
    assert normal_form(plain, "nfkc") == unicodedata.normalize("NFKC", plain)
    assert normal_form(plain, "fold") == naive.fold(plain)


KNOWN_SET = frozenset(KNOWN)


def random_texts(count: int, seed: int) -> list[str]:
    """Texts of all scripts: neighbouring code points, marks, punctuation and odd characters."""
    chance = random.Random(seed)
    out = []
    for _ in range(count):
        text = ""
        while len(text) < 12:
            kind = chance.random()
            if kind < 0.5:  # some characters of one block
                at = chance.randrange(len(KNOWN))
                text += "".join(
                    KNOWN[min(at + chance.randrange(60), len(KNOWN) - 1)]
                    for _ in range(chance.randrange(1, 6))
                )
            else:
                text += chance.choice(ODD)
        out.append("".join(c for c in text if c in KNOWN_SET))
    return out


@pytest.mark.parametrize(
    "settings",
    [{}, {"cjk": "none"}, {"lowercase": False}, {"fold_accents": True}],
    ids=["default", "no bigrams", "case kept", "no accents"],
)
def test_tokens_of_all_scripts_equal_the_twin(settings: dict[str, object]) -> None:
    texts = random_texts(examples(60_000 if not settings else 20_000), 1)
    lexicon = Lexicon(Analyzer(tokenizer="unicode", **settings))
    found = lexicon.encode(Texts.from_strings(texts))
    terms = lexicon.terms().to_strings()
    for row, text in enumerate(texts):
        a, b = found.offsets[row : row + 2]
        expected = naive.tokens(
            text, accents=not settings.get("fold_accents", False),
            lowercase=bool(settings.get("lowercase", True)), cjk=settings.get("cjk") != "none",
        )  # fmt: skip
        assert [terms[t] for t in found.values[a:b]] == expected, ascii(text)


@settings(deadline=None, max_examples=examples(500))
@given(
    st.lists(st.sampled_from(["café", "9.5", "नमस्ते", "한국", "猫", "x", "ŝ"]), max_size=6),
    st.data(),
)
def test_joiners_inside_words_change_nothing(parts: list[str], data: st.DataObject) -> None:
    text = " ".join(parts)
    at = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    changed = text
    for place in sorted(at, reverse=True):
        changed = changed[:place] + data.draw(st.sampled_from(IGNORABLE)) + changed[place:]
    assert tokens(changed) == tokens(text)


# ---- examples


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hepatitis C vaccine", ["hepatitis", "c", "vaccine"]),
        ("subprocess.Popen node.js", ["subprocess", "popen", "node", "js"]),
        ("example.com a:b", ["example", "com", "a", "b"]),
        ("3.14 1,000,000 12:30 v1.2 a:b", ["3.14", "1,000,000", "12", "30", "v1.2", "a", "b"]),
        ("can't rock'n'roll 'quoted' 90's", ["can't", "rock'n'roll", "quoted", "90", "s"]),
        ("snake_case __init__ ___ _", ["snake_case", "__init__"]),
        ("C++ R&D 50% €5", ["c", "r", "d", "50", "5"]),
        ("e\u0301 É é", ["é", "é", "é"]),
        ("Ｆｕｌｌ ｶﾞ ﬁ ½ ² ß ẞ ς", ["full", "ガ", "fi", "1⁄2", "2", "ss", "ss", "σ"]),
        ("हिन्दी தமிழ் नेपाली", ["हिन्दी", "தமிழ்", "नेपाली"]),
        ("می\u200cخواهم co\u00adop", ["میخواهم", "coop"]),
        ("a\u200bb", ["a", "b"]),
        ("東京都 猫 a猫b", ["東京", "京都", "猫", "a", "猫", "b"]),
        ("한국어 3월 이", ["한국", "국어", "3", "월", "이"]),
        ("슬퍼ㅠㅠ", ["슬퍼", "퍼\u1172", "\u1172\u1172"]),
        ("ㅋㅋ재밌다", ["\u110f\u110f", "\u110f재", "재밌", "밌다"]),
        ("ㅋ ㄱㅏ ﾡﾡ", ["\u110f", "가", "\u1100\u1100"]),
        ("\u1112\u119e\u11ab글", ["\u1112\u119e\u11ab글"]),
        ("ไทย", ["ไท", "ทย"]),
        ("👍🏽 👨\u200d👩\u200d👧 🇩🇪🇫🇷 ☎️", ["👍🏽", "👨👩👧", "🇩🇪", "🇫🇷", "☎"]),
        ("صِحَّة", ["صِحَّة"]),
        ("צה\"ל ג'ירפה", ["צה\"ל", "ג'ירפה"]),
        ("l·l a·b", ["l·l", "a·b"]),
        ("O’Hara doesn’t", ["o'hara", "doesn't"]),
        ("п'ять п’ять пʼять п＇ять п‘ять", ["п'ять"] * 5),
        ("‘quoted’ dogs’ ʼt ʼ 12’30 ג’ירפה", ["quoted", "dogs", "ʼt", "ʼ", "12'30", "ג'ירפה"]),
        ("o\u0331’o aʼ9 aʼʼb", ["o\u0331'o", "aʼ9", "aʼʼb"]),
        ("", []),
        (" \n\t.,;:'\"", []),
        ("\u0301", []),
    ],
)  # fmt: skip
def test_tokens_by_hand(text: str, expected: list[str]) -> None:
    assert tokens(text) == [unicodedata.normalize("NFC", word) for word in expected]


def test_no_bigrams() -> None:
    assert tokens("한국어 東京 ไทย", cjk="none") == ["한국어", "東", "京", "ไ", "ท", "ย"]


@settings(deadline=None, max_examples=examples(400))
@given(texts_of)
def test_spans_point_at_the_text_of_each_token(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    text = raw.decode()
    splitter = WordSplitter(Analyzer(tokenizer="unicode", cjk="none"))
    _, starts, stops = splitter.spans(Texts.from_strings([text]))
    spans = list(zip(starts.tolist(), stops.tolist(), strict=True))
    found = tokens(text, cjk="none")
    assert len(spans) == len(found)
    last = 0
    for (start, stop), token in zip(spans, found, strict=True):
        assert last <= start < stop <= len(raw)
        piece = raw[start:stop].decode()  # begins and ends between characters
        assert token in tokens(piece, cjk="none")
        if not any(c >= "\ufb00" or unicodedata.decomposition(c).startswith("<") for c in piece):
            last = stop


@pytest.mark.parametrize("size", [1, 63, 64, 65, 127, 2047, 2048, 2049, 5000])
def test_blocks_and_chunks_of_the_kernel_do_not_matter(size: int) -> None:
    chance = random.Random(size)
    alphabet = ["a", "9", ".", "'", ",", "_", " ", "é", "猫", "\u0301", ":"]
    texts = ["".join(chance.choices(alphabet, [6, 4, 2, 2, 2, 1, 1, 1, 1, 1, 1], k=size))
             for _ in range(20)]  # fmt: skip
    for text in texts:
        assert tokens(text) == naive.tokens(text)


@pytest.mark.parametrize("size", [1, 2, 30, 62, 63, 64, 65, 128])
@pytest.mark.parametrize(("end", "start"), [("a'", "b"), ("1.", "2"), ("é:", "a"), ("a.", "é")])
def test_a_mark_does_not_join_two_texts(end: str, start: str, size: int) -> None:
    texts = [" " * (size - 1) + "o'k " + end, start + " " * 200]
    lexicon = Lexicon(Analyzer(tokenizer="unicode"))
    found = lexicon.encode(Texts.from_strings(texts))
    words = lexicon.terms().to_strings()
    assert [words[i] for i in found.values] == ["o'k", end[:-1], start]


@pytest.mark.parametrize("length", [63, 64, 65, 128, 2048])
@pytest.mark.parametrize(("end", "start"), [("a'", "b"), ("1.", "2"), ("é:", "a"), ("a.", "é")])
def test_a_mark_that_ends_a_block_does_not_join_two_texts(
    end: str, start: str, length: int
) -> None:
    texts = [" " * (length - len(end.encode())) + end, start + " " * 200]
    lexicon = Lexicon(Analyzer(tokenizer="unicode"))
    found = lexicon.encode(Texts.from_strings(texts))
    words = lexicon.terms().to_strings()
    assert [words[i] for i in found.values] == [end[:-1], start]


@pytest.mark.parametrize("border", [64, 2048])
@pytest.mark.parametrize(
    ("left", "right"),
    [("a'", "b"), ("a", "'b"), ("1.", "2"), ("1", ".2"), ("é'", "a"), ("a", "'é"), ("א", "' "),
     ("א\"", "א"), ("א", "\"א"), ("a.", "b"), ("a'", "2"), ("1'", "b"), ("_'", "a"), ("a'", "' b")],
    ids=ascii,
)  # fmt: skip
def test_marks_at_the_borders_of_blocks(left: str, right: str, border: int) -> None:
    text = " " * (border - len(left.encode())) + left + right + " end"
    assert tokens(text) == naive.tokens(text)
    assert tokens(text[1:]) == naive.tokens(text)


@pytest.mark.parametrize("border", [64, 2048])
def test_underscores_at_the_borders_of_blocks(border: int) -> None:
    for left in ("_", "___", "a_", "_" * border):
        for right in (" ab", "_ ab", "a_ b"):
            text = " " * (border - len(left)) + left + right
            assert tokens(text) == naive.tokens(text)


def test_ascii_words_with_the_turkish_capital_of_dotless_i() -> None:
    turkish = {"normalization": "turkish"}
    assert tokens("ILIK kapI Izgara iki I", **turkish) == ["ılık", "kapı", "ızgara", "iki", "ı"]
    assert tokens("_ILIK I.I", **turkish) == ["_ılık", "ı", "ı"]


def test_long_runs_without_separators() -> None:
    for word in ("é", "e\u0301", "猫", "한", "ก"):
        text = word * 12_000
        assert tokens(text) == naive.tokens(text)


def test_many_marks_on_one_letter() -> None:
    """The buffer holds a copy of a letter's marks while they are composed anew."""
    for count in (10, 700, 1000, 1300, 4000, 6000):
        text = "a" + "\u0316" * count + "\u0301"
        assert tokens(text) == naive.tokens(text)
        text = "\u03b1" + "\u0345" * count
        assert tokens(text) == naive.tokens(text)


MARKS = "\u0334\u0316\u0323\u0301\u0345\u0e38\u0e48\u3099\u093c"  # of several classes
BASES = "aéαかのกक一"


@settings(deadline=None, max_examples=examples(200))
@given(
    st.sampled_from(BASES), st.text(MARKS, max_size=40) | st.text(MARKS[:4], min_size=100),
    st.sampled_from(["", "b", "か", " x"]),
)  # fmt: skip
def test_marks_in_any_order(base: str, marks: str, after: str) -> None:
    """As many as are put in order."""
    text = base + marks[:128] + after
    assert normal_form(text, "nfkc") == unicodedata.normalize("NFKC", text)
    assert tokens(text) == naive.tokens(text)


@pytest.mark.parametrize(
    "marks", ["\u0301\u0323", "\u0301", "\u200d\u0316\u0334", "\u0344", "\u3099"]
)
def test_very_many_marks_take_linear_time(marks: str) -> None:
    """With n² steps these take minutes."""
    for base in ("a", "か", "ก", ""):
        tokens(base + marks * 300)
        started = time.process_time()
        found = tokens(f"{base}{marks * 300_000} word")
        assert time.process_time() - started < 5
        assert found[-1] == "word"
        assert len(found) == 1 + bool(base)
        assert tokens(f"{base}{marks * 300_000}") == found[:-1]


def test_stop_words_are_folded_as_tokens_are() -> None:
    for stop, text in (
        ("آن\u200cها", "آن\u200cها"),
        ("ﬁ", "fi"),
        ("É", "e\u0301"),
        ("ᾳ", "α\u0345"),
    ):
        assert tokens(text, stopwords=(stop,)) == []
    turkish = {"normalization": "turkish", "stopwords": ("I\u0307N",)}
    assert tokens("in İN ın", **turkish) == ["ın"]


def test_version_of_the_tables() -> None:
    assert unicode_version() == "16.0.0"
