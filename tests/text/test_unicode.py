"""Every code point, alone and in contexts, against the running Python."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import pytest

from fastseq.kernels.text.unicode import first_invalid
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Texts
from tests.naive import text as naive

_ASSIGNED = 64
_NO_CJK = Analyzer(tokenizer="word", cjk="none")


def _known_to_both() -> list[str]:
    tables = unicode_tables()
    return [
        chr(code)
        for code in range(0x110000)
        if not 0xD800 <= code < 0xE000
        and unicodedata.category(chr(code)) != "Cn"
        and tables.flags_of(code) & _ASSIGNED
    ]


KNOWN = _known_to_both()


def _same(analyzer: Analyzer, texts: list[str], reference: Callable[[str], list[str]]) -> None:
    """Ids and terms of all texts at once; a mismatch is shown for the first text that has one."""
    lexicon = Lexicon(analyzer)
    tokens = lexicon.encode(Texts.from_strings(texts))
    terms = lexicon.terms().to_strings()
    expected = [reference(text) for text in texts]
    ids, known = naive.first_occurrence_ids(expected)
    if terms == known and tokens.values.tolist() == [i for row in ids for i in row]:
        ends = np.cumsum([0] + [len(row) for row in ids])
        assert tokens.offsets.tolist() == ends.tolist()
        return
    for i, text in enumerate(texts):
        a, b = tokens.offsets[i : i + 2]
        got = [terms[t] for t in tokens.values[a:b]]
        assert got == expected[i], ascii(text)
    pytest.fail("the tokens agree but not their ids")


def test_tables_have_a_recent_unicode_version() -> None:
    assert unicode_tables().version >= "15.1.0"
    assert len(KNOWN) > 280_000


@pytest.mark.parametrize("form", ["@", "@@", "a@b", "x @ y", "AΣ@", "Σ@Σ a@Σ@b"])
def test_word_tokens_match_the_regex(form: str) -> None:
    _same(_NO_CJK, [form.replace("@", c) for c in KNOWN], naive.words)


def test_bigrams_of_every_code_point() -> None:
    texts = [f"{c} {c}{c}{c} 猫{c}한 a{c}b" for c in KNOWN]
    _same(Analyzer(tokenizer="word"), texts, naive.words_and_bigrams)


@pytest.mark.parametrize(
    ("tokenizer", "reference"), [("space", naive.visible), ("char", naive.characters)]
)
def test_space_and_char_tokenizers(tokenizer: str, reference: Callable[[str], list[str]]) -> None:
    _same(Analyzer(tokenizer=tokenizer), [f"A{c}bΣ{c}" for c in KNOWN], reference)


def test_folding_of_every_code_point() -> None:
    analyzer = Analyzer(tokenizer="word", fold_accents=True, cjk="none")
    texts = [f"{c} E{c}e" for c in KNOWN]
    _same(analyzer, texts, lambda t: naive.words(naive.fold(t.lower())))


def test_single_strings_fold_as_the_kernels_do() -> None:
    change = unicode_tables().change
    for c in KNOWN:
        assert change(c, True, False) == c.lower()
        assert change(c, True, True) == naive.fold(c.lower())
    for text in ("ΑΣ", "ΑΣ.", "Α.Σ", "Σ", "ΑΣΑ", "ΑΣ'Α", "a\u0301Σ", "İΣ"):
        assert change(text, True, False) == text.lower()
    assert change("ÉΣ", False, True) == "EΣ"


def _rows(pieces: list[bytes]) -> Texts:
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(p) for p in pieces], out=offsets[1:])
    return Texts(np.frombuffer(bytearray(b"".join(pieces)), np.uint8), offsets)


def _is_utf8(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_validation_matches_python() -> None:
    pairs = [bytes([a, b]) for a in range(256) for b in range(256)]
    leads = [0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5]
    edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    longer = [bytes([a, b, c]) for a in leads for b in edges for c in edges]
    longer += [p + bytes([d]) for p in longer for d in edges]
    for pieces in (pairs, longer, [b"x" * 70 + p + b"y" * 70 for p in longer]):
        texts = _rows(pieces)
        expected = [i for i, piece in enumerate(pieces) if not _is_utf8(piece)]
        found = []
        row = first_invalid(texts.data, texts.offsets, 0)
        while row < len(pieces):
            found.append(row)
            row = first_invalid(texts.data, texts.offsets, row + 1)
        assert found == expected


def test_character_cut_by_a_row_border_is_invalid() -> None:
    texts = _rows([b"ab", "é".encode()[:1], "é".encode()[1:], b"cd"])
    assert first_invalid(texts.data, texts.offsets, 0) == 1
