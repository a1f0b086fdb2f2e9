"""The tokenizer `unicode` in plain Python: unicodedata and uniseg, nothing of fastseq."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from uniseg.emoji import extended_pictographic
from uniseg.graphemecluster import GraphemeClusterBreak, grapheme_cluster_break, grapheme_clusters
from uniseg.wordbreak import WordBreak, word_break
from uniseg.wordbreak import words as uniseg_words

# the beginnings of the names of characters of scripts without spaces
UNSPACED = {
    "han": (
        "CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH", "CJK RADICAL", "KANGXI RADICAL",
        "HIRAGANA", "HENTAIGANA", "KATAKANA", "VERTICAL KANA REPEAT", "MASU MARK",
        "IDEOGRAPHIC ITERATION MARK", "VERTICAL IDEOGRAPHIC ITERATION MARK",
        "OLD CHINESE", "IDEOGRAPHIC CLOSING MARK", "IDEOGRAPHIC NUMBER ZERO", "HANGZHOU NUMERAL",
    ),
    "hangul": ("HANGUL",),
    "thai": ("THAI CHARACTER",),
    "lao": ("LAO",),
    "khmer": ("KHMER LETTER", "KHMER INDEPENDENT VOWEL", "KHMER SIGN", "KHMER SYMBOL"),
    "burmese": ("MYANMAR",),
}  # fmt: skip

LETTERS = (WordBreak.ALETTER, WordBreak.HEBREW_LETTER)
MODIFIER = "\u02bc"
APOSTROPHES = ("\u2018", "\u2019", MODIFIER)
TRANSPARENT = (WordBreak.EXTEND, WordBreak.FORMAT, WordBreak.ZWJ)


def fold(text: str) -> str:
    """NFKC_Casefold of a text without default ignorable characters, decomposed first."""
    for _ in range(2):
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())
    return text


def bare(text: str) -> str:
    """The text without accents: decomposed, combining marks dropped, composed."""
    parts = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in parts if not unicodedata.combining(c)))


def is_word(text: str) -> bool:
    """Whether it has a letter, a number or an emoji."""
    return any(
        unicodedata.category(c)[0] in "LN"
        or extended_pictographic(c)
        or "\U0001f1e6" <= c <= "\U0001f1ff"
        for c in text
    )


def extends(character: str) -> bool:
    """Whether a character belongs to the grapheme cluster before it."""
    kinds = (GraphemeClusterBreak.EXTEND, GraphemeClusterBreak("SpacingMark"))
    return grapheme_cluster_break(character) in kinds


def script(character: str) -> str:
    """The script of UNSPACED that a letter belongs to, or a mark that begins a grapheme cluster;
    else ""."""
    category = unicodedata.category(character)
    if not (category[0] in "LM" or category == "Nl") or extends(character):
        return ""
    name = unicodedata.name(character, "")
    return next((key for key, names in UNSPACED.items() if name.startswith(names)), "")


def runs(text: str) -> Iterator[tuple[str, str]]:
    """(script or "", text) of the runs of a folded text."""
    kind, start = "", 0
    for at, character in enumerate(text):
        found = kind if extends(character) else script(character)
        if found != kind:
            if at > start:
                yield kind, text[start:at]
            kind, start = found, at
    if len(text) > start:
        yield kind, text[start:]


def is_modern(character: str) -> bool:
    """Whether a character is a letter or a syllable of modern Hangul."""
    ranges = (("\u1100", "\u1112"), ("\u1161", "\u1175"), ("\u11a8", "\u11c2"), ("가", "힣"))
    return any(first <= character <= last for first, last in ranges)


def apart(cluster: str) -> Iterator[str]:
    """A grapheme cluster, cut between two modern letters or syllables of Hangul."""
    start = 0
    for i, (a, b) in enumerate(pairwise(cluster)):
        if is_modern(a) and is_modern(b):
            yield cluster[start : i + 1]
            start = i + 1
    yield cluster[start:]


def separated(word: str) -> Iterator[str]:
    """The parts of a word of UAX #29 between full stops or colons that join letters."""
    start = 0
    for i, character in enumerate(word):
        if character == ":" or (character == "." and not _after_number(word, i)):
            yield word[start:i]
            start = i + 1
            while start < len(word) and word_break(word[start]) in TRANSPARENT:
                start += 1
    yield word[start:]


def _after_number(word: str, i: int) -> bool:
    before = [c for c in word[:i] if word_break(c) not in TRANSPARENT]
    return bool(before) and word_break(before[-1]) == WordBreak.NUMERIC


def plain_apostrophes(word: str) -> str:
    """The word with U+0027 for other apostrophes: not in uniseg, which finds boundaries alone."""
    visible = [i for i, c in enumerate(word) if word_break(c) not in TRANSPARENT]
    out = list(word)
    for before, at, after in zip(visible, visible[1:], visible[2:], strict=False):
        left, right = word_break(word[before]), word_break(word[after])
        among_letters = left in LETTERS and right in LETTERS
        among_numbers = left == right == WordBreak.NUMERIC
        if MODIFIER in (word[before], word[after]):
            continue
        if word[at] in APOSTROPHES and (among_letters or among_numbers):
            out[at] = "'"
    return "".join(out)


def tokens(
    text: str, *, accents: bool = True, lowercase: bool = True, cjk: bool = True
) -> list[str]:
    """The tokens of a text without default ignorable characters.

    accents: kept; lowercase: case-folded; cjk: bigrams of the scripts without spaces
    """
    folded = fold(text) if lowercase else unicodedata.normalize("NFKC", text)
    if not accents:
        folded = bare(folded)
    out: list[str] = []
    for kind, run in runs(folded) if cjk else [("", folded)]:
        if kind:
            clusters = [part for cluster in grapheme_clusters(run) for part in apart(cluster)]
            pairs = [a + b for a, b in pairwise(clusters)]
            out += pairs or clusters
        else:
            parts = (part for word in uniseg_words(run) for part in separated(word))
            out += map(plain_apostrophes, filter(is_word, parts))
    return out
