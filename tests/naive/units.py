"""Units of text in plain Python: re, str and unicodedata, nothing of fastseq."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_HAN_AND_KANA = (
    "CJK UNIFIED IDEOGRAPH",
    "CJK COMPATIBILITY IDEOGRAPH",
    "HIRAGANA",
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
_UNIT = re.compile("W[WM]*|[^ ]M*")


def is_mark(character: str) -> bool:
    """A combining mark, or one of the two joiners."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me") or character in "\u200c\u200d"


def _letter(character: str) -> str:
    if character.isspace():
        return " "
    if is_mark(character):
        return "M"
    if not (character.isalnum() or character == "_"):
        return "."
    return "." if unicodedata.name(character, "").startswith(_HAN_AND_KANA) else "W"


def words(text: str) -> list[str]:
    """Runs of word characters, every other visible character alone, marks with their base."""
    kinds = "".join(map(_letter, text))
    return [text[found.start() : found.end()] for found in _UNIT.finditer(kinds)]


def units(text: str, unit: str, lowercase: bool) -> list[str]:
    """The units of a text."""
    if lowercase:
        text = text.lower()
    if unit == "word":
        return words(text)
    return text.split() if unit == "space" else list(text)


def vocabulary(texts: list[list[str]], min_count: int, max_size: int | None) -> list[str]:
    """The most frequent units, equals in the order of first occurrence (Counter keeps it)."""
    counts = Counter(unit for text in texts for unit in text)
    return [unit for unit, count in counts.most_common() if count >= min_count][:max_size]
