"""Normalisation of words by language: variants of a spelling become one.

It comes after case folding and before stems, but for one rule that follows them. The rules are
those of the analyzers of Apache Lucene for these languages, as far as a table or a few lines reach;
a language without rules here has none there, or has them in its Snowball stemmer. German has two
more, of the apostrophe and of the ending -s.
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


def _hindi(word: str) -> str:
    """Spellings of Hindi that are used side by side (Lucene's HindiNormalizer): nasals, nukta,
    virama, short and long vowels."""
    word = word.replace("\u0928\u094d", "\u0902")  # na with virama: anusvara
    return word.translate(_HINDI)


_HINDI: dict[int, str | None] = {
    **{ord(old): new for old, new in zip(
        "\u0901\u090d\u090e\u0911\u0912\u0945\u0946\u0949\u094a",  # candrabindu; candra and short
        "\u0902\u090f\u090f\u0913\u0913\u0947\u0947\u094b\u094b", strict=True)},
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

# rules of words before stop words are removed, and after: a stop list has the usual spelling, and
# one without umlauts would remove other words (würde, wurde)
FIRST: dict[str, Rule] = {
    "catalan": _without_articles("d l m n s t"),
    "english": _possessive,
    "french": _without_articles("l m t qu n s j d c jusqu quoiqu lorsqu puisqu"),
    "german": _german_apostrophe,
    "hindi": _hindi,
    "irish": _without_articles("d m b"),
    "italian": _without_articles(
        "c l all dall dell nell sull coll pell gl agl dagl degl negl sugl un m t s v d"
    ),
    "persian": _persian,
    "romanian": _romanian,
    "turkish": _before_apostrophe,
}
LAST: dict[str, Rule] = {"arabic": _arabic, "german": _german}
# of stems, if the analyzer has a stemmer
STEMMED: dict[str, Rule] = {"german": _german_s}
# in which I and İ are the capitals of ı and i
DOTLESS = ("azerbaijani", "turkish")
LANGUAGES = tuple(sorted({*FIRST, *LAST, *DOTLESS}))


def check_normalization(language: str) -> None:
    """Raise SettingsError unless this is "none" or a language with rules."""
    one_of("normalization", language, ("none", *LANGUAGES))


def normalised(rules: Mapping[str, Rule], language: str, words: list[str]) -> list[str]:
    """The words by the rule of a language, if it has one; none becomes empty."""
    rule = rules.get(language)
    return [rule(word) or word for word in words] if rule is not None else words
