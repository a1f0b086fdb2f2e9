"""The analyzers in plain Python: re, str and unicodedata, nothing of fastseq."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"(?u)\b\w\w+\b")
_HAN_AND_KANA = (
    "CJK UNIFIED IDEOGRAPH",
    "CJK COMPATIBILITY IDEOGRAPH",
    "HIRAGANA",
    "HENTAIGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "VERTICAL KANA REPEAT",
    "MASU MARK",
    "IDEOGRAPHIC ITERATION MARK",
    "VERTICAL IDEOGRAPHIC ITERATION MARK",
    "IDEOGRAPHIC CLOSING MARK",
    "IDEOGRAPHIC NUMBER ZERO",
    "HANGZHOU NUMERAL",
)


def script(character: str) -> str:
    """ "han", "hangul" or "" of a word character."""
    if not re.match(r"\w", character):
        return ""
    name = unicodedata.name(character, "")
    if name.startswith(_HAN_AND_KANA):
        return "han"
    return "hangul" if name.startswith(("HANGUL", "HALFWIDTH HANGUL")) else ""


def words(text: str) -> list[str]:
    """tokenizer="word", cjk="none"."""
    return _WORD.findall(text.lower())


def words_and_bigrams(text: str) -> list[str]:
    """tokenizer="word", cjk="bigrams"."""
    out: list[str] = []
    for run in re.findall(r"\w+", text.lower()):
        pieces: list[tuple[str, str]] = []
        for character in run:
            kind = script(character)
            if pieces and pieces[-1][0] == kind:
                pieces[-1] = (kind, pieces[-1][1] + character)
            else:
                pieces.append((kind, character))
        for kind, piece in pieces:
            if not kind:
                out += [piece] if len(piece) > 1 else []
            elif len(piece) == 1:
                out.append(piece)
            else:
                out += [piece[i : i + 2] for i in range(len(piece) - 1)]
    return out


def visible(text: str) -> list[str]:
    """tokenizer="space"."""
    return text.lower().split()


def characters(text: str) -> list[str]:
    """tokenizer="char"."""
    return [c for c in text.lower() if not c.isspace()]


def fold(text: str) -> str:
    """fold_accents=True of a text already lower-cased."""
    return "".join(_fold_one(c) for c in text)


def _fold_one(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character)
    bare = "".join(c for c in parts if not unicodedata.combining(c))
    return "".join(c.lower() for c in unicodedata.normalize("NFC", bare))


def first_occurrence_ids(tokens: list[list[str]]) -> tuple[list[list[int]], list[str]]:
    """Ids counting up in the order of first occurrence, and the terms by id."""
    known: dict[str, int] = {}
    ids = [[known.setdefault(token, len(known)) for token in text] for text in tokens]
    return ids, list(known)


def word_ngrams(tokens: list[str], low: int, high: int) -> list[str]:
    """Every sequence of low to high tokens, joined by a space."""
    return [
        " ".join(tokens[i : i + n])
        for n in range(low, high + 1)
        for i in range(len(tokens) - n + 1)
    ]
