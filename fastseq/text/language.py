"""Stop words, Snowball stemmers and Chinese word segmentation, from other packages."""

from __future__ import annotations

import threading
import unicodedata
import zlib
from collections.abc import Callable
from functools import cache
from importlib import metadata

from fastseq.errors import MissingExtraError, SettingsError
from fastseq.settings import one_of
from fastseq.text.unicode_tables import unicode_tables

# ---- stop words

# EnglishAnalyzer.ENGLISH_STOP_WORDS_SET of Apache Lucene
LUCENE = tuple(
    """
    a an and are as at be but by for if in into is it no not of on or such that the their then
    there these they this to was will with
    """.split()  # noqa: SIM905
)


# The package's English list has 1,333 words, such as computer, information and state. These are the
# words of closed classes alone, but for may and us, which folding makes of the month and the US.
_ENGLISH_WORDS = """
    i me my myself you your yours yourself yourselves he him his himself she her hers herself it its
    itself we our ours ourselves they them their theirs themselves
    a an the this that these those some any each every no such same other another both all few more
    most many much own
    who whom whose which what when where why how
    am is are was were be been being have has had having do does did doing can could will would
    shall should might must ought cannot
    and or but nor if because as than so while until though although
    of in on at by to from with without for about into onto over under above below up down off out
    through during before after between among against
    not only too very then there here again further once also just
"""
_ENGLISH_CONTRACTIONS = """
    m: i
    re: you we they
    ve: i you we they
    ll: i you he she it we they
    d: i you he she it we they
    s: he she it that there here what who where when why how let
    t: aren isn wasn weren haven hasn hadn don doesn didn can couldn won wouldn shan shouldn mustn
"""
_ENGLISH = (
    *_ENGLISH_WORDS.split(),
    *(
        f"{word}'{ending.strip()}"
        for ending, _, words in (line.partition(":") for line in _ENGLISH_CONTRACTIONS.splitlines())
        for word in words.split()
    ),
)
# words that the package has in a wrong encoding
_TURKISH = str.maketrans("ýþð", "ışğ")  # Latin-5 read as Latin-1
_MENDED = {
    "polish": {
        "duå¼o": "dużo", "jeå¼eli": "jeżeli", "jeå›li": "jeśli", "juå¼": "już", "jä…": "ją",
        "kaå¼dy": "każdy",
    },
    "turkish": {"INSERmi": "mi"},
}  # fmt: skip
_SYLLABLES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")  # names of characters that may be words


@cache
def stopword_languages() -> tuple[str, ...]:
    """The English names of the languages that have a list."""
    from stop_words import AVAILABLE_LANGUAGES

    return tuple(sorted(AVAILABLE_LANGUAGES))


def check_stopwords(stopwords: str | tuple[str, ...]) -> None:
    """Raise SettingsError unless these are words, "none", "lucene" or a language with a list."""
    if isinstance(stopwords, str):
        if stopwords not in ("none", "lucene") and stopwords not in stopword_languages():
            raise SettingsError(
                f"stopwords is {stopwords!r}; expected none, lucene, "
                f"one of {', '.join(stopword_languages())}, or the words themselves"
            )
    elif not isinstance(stopwords, tuple | list) or not all(map(_is_text, stopwords)):
        raise SettingsError("stopwords is neither a name nor a tuple of strings")


@cache
def stopword_list(stopwords: str | tuple[str, ...]) -> tuple[str, ...]:
    """The stop words that the parameter of an analyzer stands for.

    The list of a language has no words of a single letter, but for Chinese, Japanese and Korean.
    """
    if isinstance(stopwords, tuple):
        return stopwords
    if stopwords in ("none", "lucene"):
        return LUCENE if stopwords == "lucene" else ()
    words = _ENGLISH if stopwords == "english" else package_stopwords(stopwords)
    mended = _MENDED.get(stopwords, {})
    words = tuple(mended.get(word, word) for word in words)
    if stopwords == "turkish":
        words = tuple(word.translate(_TURKISH) for word in words)
    return tuple(word for word in words if not _is_one_letter(word))


@cache
def package_stopwords(language: str) -> tuple[str, ...]:
    """The list of the package stop-words as it is: the stop words of indexes of version 0.1.0."""
    from stop_words import get_stop_words

    return tuple(get_stop_words(language))


def stopwords_fingerprint(words: tuple[str, ...]) -> int:
    """A CRC-32 of a list, which changes with releases of the package."""
    return zlib.crc32("\n".join(sorted(set(words))).encode())


def _is_one_letter(word: str) -> bool:
    """Whether a word has one letter or digit, and no script in which that is a whole syllable."""
    text = unicodedata.normalize("NFC", word)
    letters = [c for c in text if unicodedata.category(c)[0] in "LMN"]
    return len(letters) == 1 and not unicodedata.name(letters[0], "").startswith(_SYLLABLES)


def _is_text(word: object) -> bool:
    return isinstance(word, str) and not any("\ud800" <= c <= "\udfff" for c in word)


# ---- stems

_own = threading.local()  # a stemmer has state: one for each thread


@cache
def stemmers() -> tuple[str, ...]:
    """The names of all stemmers; "english" is Porter2, "porter" the original of 1980."""
    import Stemmer

    return tuple(Stemmer.algorithms())


def check_stemmer(stemmer: str) -> None:
    """Raise SettingsError unless this is "none" or the name of a stemmer."""
    if not isinstance(stemmer, str) or stemmer != "none":  # "none" needs no package
        one_of("stemmer", stemmer, ("none", *stemmers()))


def stem(stemmer: str, words: list[str]) -> list[str]:
    """The stem of each word; a word whose stem would be empty stays itself."""
    known: dict[str, Callable[[list[str]], list[str]]] = _own.__dict__
    stem_words = known.get(stemmer)
    if stem_words is None:
        import Stemmer

        # no cache: the words are distinct, so it would only grow
        stem_words = known[stemmer] = Stemmer.Stemmer(stemmer, 0).stemWords
    stems = stem_words(words)
    if "" in stems:
        return [stemmed or word for stemmed, word in zip(stems, words, strict=True)]
    return stems


# words whose stems differ between releases of Snowball, and endings of many kinds
_PROBES = """
    universal university universe added adding organized organised organization pasted
    paste generously general generate communication commune arsenal past evening news
    inning outing skies dying lying idly gently ugly early only singly hopping hoped
    falling relational conditional rational valenci digitizer conformabli vietnamization
    predication operator feudalism decisiveness hopefulness callousness formality
    sensitivity sensibility triplicate formative formalize electricity electrical hopeful
    goodness revival allowance inference airliner adjustable defensible irritant
    replacement adjustment dependent adoption communism activate angularity homologous
    effective bowdlerize probate rate cease controlling rolling
"""


@cache
def stems_fingerprint(stemmer: str) -> int:
    """A CRC-32 of the stems of some words, the language's stop words among them.

    Stemmer.version() does not change with the rules; this does, for most changes of them.
    """
    words = _PROBES.split()
    if stemmer in stopword_languages():
        lower = unicode_tables().change
        words += sorted({lower(word, True, False) for word in package_stopwords(stemmer)})
    return zlib.crc32("\n".join(stem(stemmer, words)).encode())


# ---- segmentation


def segmenter() -> Callable[[str], list[str]]:
    """The function that cuts a run of Han and kana into words. Raises MissingExtraError when
    rjieba is not installed."""
    try:
        import rjieba
    except ImportError:
        raise MissingExtraError(
            "cjk='words' needs the package rjieba: pip install 'fastseq[chinese]'"
        ) from None
    cut: Callable[[str], list[str]] = rjieba.cut
    return cut


def segmenter_version() -> str:
    """The version of rjieba, with its dictionary; empty when it is not installed."""
    try:
        return metadata.version("rjieba")
    except metadata.PackageNotFoundError:
        return ""
