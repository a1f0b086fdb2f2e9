"""Normalisation of words by language: variants of a spelling become one.

It comes after case folding and before stems, but for one rule that follows them. The rules are
those of the analyzers of Apache Lucene for these languages, as far as a table or a few lines reach;
a language without rules here has none there, or has them in its Snowball stemmer. German has two
more, of the apostrophe and of the ending -s; the Irish rule for prefixes is of texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from fastseq.settings import one_of

Rule = Callable[[str], str]

_APOSTROPHES = ("'", "\u2019")


def _possessive(word: str) -> str:
    """Without the English 's."""
    return word[:-2] if word[-1:] == "s" and word[-2:-1] in _APOSTROPHES and len(word) > 2 else word


def _without_articles(articles: str) -> Rule:
    """Without an elided article or pronoun, of those given: l'arbre is arbre."""
    known = frozenset(articles.split())

    def rule(word: str) -> str:
        for apostrophe in _APOSTROPHES:
            article, _, rest = word.partition(apostrophe)
            if rest and article in known:
                return rest
        return word

    return rule


def _before_apostrophe(word: str) -> str:
    """Without a suffix that an apostrophe separates from a name: Ankara'da is ankara."""
    for apostrophe in _APOSTROPHES:
        head, _, rest = word.partition(apostrophe)
        if rest and len(head) > 1:
            return head
    return word


def _replacing(*pairs: tuple[str, str]) -> Rule:
    """Each character of `old` replaced by the one of `new` in its place, or dropped where `new` is
    empty."""
    table: dict[int, str | None] = {}
    for old, new in pairs:
        for i, character in enumerate(old):
            table[ord(character)] = new[i] if new else None
    return lambda word: word.translate(table)


def _in_turn(*rules: Rule) -> Rule:
    """One rule after the other."""

    def rule(word: str) -> str:
        for each in rules:
            word = each(word)
        return word

    return rule


# Arabic, extended Arabic, Devanagari, Bengali, Gujarati, Tamil, Telugu and Thai digits
_ZEROS = (0x0660, 0x06F0, 0x0966, 0x09E6, 0x0AE6, 0x0BE6, 0x0C66, 0x0E50)
_digits = _replacing(
    *[("".join(map(chr, range(zero, zero + 10))), "0123456789") for zero in _ZEROS]
)


def _german(word: str) -> str:
    """Umlauts and their spellings ae, oe, ue as the plain vowels; ß is ss after case folding.

    After Lucene's GermanNormalizationFilter, the rules of Snowball's stemmer German2: ue stays
    after a vowel or q (neue, quelle).
    """
    out: list[str] = []
    vowels = "aeiouyäöü"
    i = 0
    while i < len(word):
        character = word[i]
        pair = word[i : i + 2]
        if pair in ("ae", "oe") or (pair == "ue" and (i == 0 or word[i - 1] not in vowels + "q")):
            out.append(character)
            i += 2
            continue
        out.append({"ä": "a", "ö": "o", "ü": "u"}.get(character, character))
        i += 1
    return "".join(out)


_GERMAN_ENDING = re.compile("(?<=.)['\u2019](?:s|sch(?:e[mnrs]?)?)$", re.DOTALL)


def _german_apostrophe(word: str) -> str:
    """Without the endings that an apostrophe separates from a German name or verb: 's (Hegel's,
    geht's) and the adjective's -sch (Grimm'sche). Other apostrophes belong to the name (O'Hara).
    """
    return _GERMAN_ENDING.sub("", word)


def _german_s(stem: str) -> str:
    """Without the -s of a genitive or plural after a full vowel: Autos, Kenias, Handys.

    Snowball's stemmer removes -s only after some consonants. Stems of four letters stay (Haus).
    After the stemmer the rule keeps together what is one stem: zeitlos and zeitlose.
    """
    return stem[:-1] if len(stem) > 4 and stem[-1] == "s" and stem[-2] in "aiouy" else stem


_arabic = _replacing(
    ("\u0622\u0623\u0625", "\u0627\u0627\u0627"),  # alef with madda or hamza: alef
    ("\u0649", "\u064a"),  # dotless yeh: yeh
    ("\u0629", "\u0647"),  # teh marbuta: heh
    ("\u0640\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652", ""),  # tatweel, vowel marks
)
_persian = _replacing(
    ("\u06cc\u06d2", "\u064a\u064a"),  # Farsi yeh, yeh barree: yeh
    ("\u06a9", "\u0643"),  # keheh: kaf
    ("\u06c0\u06c1", "\u0647\u0647"),  # heh with yeh, heh goal: heh
    ("\u0654\u0640\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652", ""),
)
_romanian = _replacing(("\u015f\u0163", "\u0219\u021b"))  # cedilla below: comma below


_ukrainian = _replacing(("ґ", "г"), ("\u0301", ""))  # stress marks

_sorani_letters = _replacing(
    ("\u064a\u0649", "\u06cc\u06cc"),  # yeh, dotless yeh: Farsi yeh
    ("\u0643", "\u06a9"),  # kaf: keheh
    ("\u0629", "\u06d5"),  # teh marbuta: ae
    ("\u06be", "\u0647"),  # heh doachashmee: heh
    ("\u0692", "\u0695"),  # reh with a small v above: below
    ("\u0640\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652", ""),
)


def _sorani(word: str) -> str:
    """Letters of Arabic keyboards as those of Kurdish (Lucene's SoraniNormalizer)."""
    if word.endswith("\u0647"):  # heh: ae
        word = f"{word[:-1]}\u06d5"
    word = _sorani_letters(word)
    return f"\u0695{word[1:]}" if word.startswith("\u0631") else word  # reh


# Vowels that are written as two or three characters, which look like one: Unicode's tables of
# sequences not to use (The Unicode Standard, chapter 12), and the same for the signs after
# consonants. Offsets in the blocks, which are laid out alike: vowel=first+second.
_VOWELS = {
    0x0900: "04=05+46 06=05+3E 08=30+4D+07 0A=09+41 0D=0F+45 0E=0F+46 10=0F+47 11=05+49 11=06+45 "
    "12=05+4A 12=06+46 13=05+4B 13=06+47 14=05+4C 14=06+48 72=05+45 "
    "49=3E+45 4A=3E+46 4B=3E+47 4C=3E+48",  # Devanagari
    0x0980: "06=05+3E 60=0B+43 61=0C+62",  # Bengali
    0x0A80: "06=05+3E 0D=05+45 0F=05+47 10=05+48 11=05+49 11=06+45 13=05+4B 13=06+47 14=05+4C "
    "14=06+48 49=3E+45 49=45+3E 4B=3E+47 4C=3E+48",  # Gujarati
    0x0B80: "06=05+42",  # Tamil
    0x0C00: "13=12+55 14=12+4C 40=3F+55 47=46+55 4B=4A+55",  # Telugu
}


def _vowels(block: int) -> Rule:
    """Each vowel of a block as the one character that Unicode has for it."""
    single: dict[str, str] = {}
    for pair in _VOWELS[block].split():
        vowel, parts = pair.split("=")
        several = "".join(chr(block + int(part, 16)) for part in parts.split("+"))
        single[several] = chr(block + int(vowel, 16))
    pattern = re.compile("|".join(single))

    def rule(word: str) -> str:
        for _ in range(2):  # a vowel of three characters in two steps
            word = pattern.sub(lambda match: single[match[0]], word)
        return word

    return rule


def _hindi(word: str) -> str:
    """Spellings of Hindi that are used side by side (Lucene's HindiNormalizer): nasals, nukta,
    virama, short and long vowels."""
    word = word.replace("\u0928\u094d", "\u0902")  # na with virama: anusvara
    return word.translate(_HINDI)


_HINDI: dict[int, str | None] = {
    **{ord(old): new for old, new in zip(
        "\u0901\u090d\u090e\u0911\u0912\u0945\u0946\u0949\u094a",  # candrabindu; candra and short
        "\u0902\u090f\u090f\u0913\u0913\u0947\u0947\u094b\u094b", strict=True)},
    0x0972: "\u0905",
    **{ord(old): new for old, new in zip(
        "\u0929\u0931\u0934\u0958\u0959\u095a\u095b\u095c\u095d\u095e\u095f",  # with nukta
        "\u0928\u0930\u0933\u0915\u0916\u0917\u091c\u0921\u0922\u092b\u092f", strict=True)},
    **{ord(old): new for old, new in zip(
        "\u0906\u0908\u090a\u0960\u0961\u0910\u0914\u0940\u0942\u0944\u0963\u0948\u094c",  # long
        "\u0905\u0907\u0909\u090b\u090c\u090f\u0913\u093f\u0941\u0943\u0962\u0947\u094b",
        strict=True)},
    0x093C: None,  # nukta
    0x094D: None,  # virama
}  # fmt: skip

_IRISH_PREFIX = re.compile(
    r"(?<!\w)(?:[nt](?=[AEIOUÁÉÍÓÚ])|[nthNTH][-\u2010\u2011](?=[aeiouáéíóúAEIOUÁÉÍÓÚ]))"
)


def _without_prefixes(text: str) -> str:
    """The n-, t- and h- before an Irish vowel as spaces: nAthair, n-athair, t-athair. Case folding
    would lose the boundary."""
    return _IRISH_PREFIX.sub(lambda match: " " * len(match[0].encode()), text)


# rules of words before stop words are removed, and after: a stop list has the usual spelling, and
# one without umlauts would remove other words (würde, wurde)
FIRST: dict[str, Rule] = {
    "arabic": _digits,
    "bengali": _in_turn(_digits, _vowels(0x0980)),
    "catalan": _without_articles("d l m n s t"),
    "english": _possessive,
    "french": _without_articles("l m t qu n s j d c jusqu quoiqu lorsqu puisqu"),
    "german": _german_apostrophe,
    "gujarati": _in_turn(_digits, _vowels(0x0A80)),
    "hindi": _in_turn(_digits, _vowels(0x0900), _hindi),
    "irish": _without_articles("d m b"),
    "italian": _without_articles(
        "c l all dall dell nell sull coll pell gl agl dagl degl negl sugl un m t s v d"
    ),
    "nepali": _in_turn(_digits, _vowels(0x0900)),
    "persian": _in_turn(_digits, _arabic, _persian),
    "romanian": _romanian,
    "sorani": _in_turn(_digits, _sorani),
    "tamil": _in_turn(_digits, _vowels(0x0B80)),
    "telugu": _in_turn(_digits, _vowels(0x0C00)),
    "thai": _digits,
    "turkish": _before_apostrophe,
    "ukrainian": _ukrainian,
}
LAST: dict[str, Rule] = {"arabic": _arabic, "german": _german}
# of stems, if the analyzer has a stemmer
STEMMED: dict[str, Rule] = {"german": _german_s}
# in which I and İ are the capitals of ı and i
DOTLESS = ("azerbaijani", "turkish")
# rules of texts before they are split, which keep the place of every byte
TEXTS: dict[str, Rule] = {"irish": _without_prefixes}
LANGUAGES = tuple(sorted({*FIRST, *LAST, *DOTLESS}))


def check_normalization(language: str) -> None:
    """Raise SettingsError unless this is "none" or a language with rules."""
    one_of("normalization", language, ("none", *LANGUAGES))


def normalised(rules: Mapping[str, Rule], language: str, words: list[str]) -> list[str]:
    """The words by the rule of a language, if it has one; none becomes empty."""
    rule = rules.get(language)
    return [rule(word) or word for word in words] if rule is not None else words
