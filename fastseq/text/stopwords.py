"""Stop words: Lucene's 33 English ones, and the lists of the stop-words package by language."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache

from fastseq.errors import SettingsError
from fastseq.text.unicode_tables import unicode_tables

# EnglishAnalyzer.ENGLISH_STOP_WORDS_SET of Apache Lucene
LUCENE = frozenset(
    """
    a an and are as at be but by for if in into is it no not of on or such that the their then
    there these they this to was will with
    """.split()  # noqa: SIM905
)


@cache
def stopword_languages() -> tuple[str, ...]:
    """The languages that have a list, by their English names."""
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
    elif not isinstance(stopwords, tuple) or not all(isinstance(w, str) for w in stopwords):
        raise SettingsError("stopwords is neither a name nor a tuple of strings")


@cache
def stopword_set(
    stopwords: str | tuple[str, ...], lowercase: bool, fold_accents: bool
) -> frozenset[str]:
    """The words themselves, lower-cased and folded as the tokens are before the comparison."""
    words: Iterable[str]
    if isinstance(stopwords, tuple):
        words = stopwords
    elif stopwords == "none":
        words = ()
    elif stopwords == "lucene":
        words = LUCENE
    else:
        from stop_words import get_stop_words

        words = get_stop_words(stopwords)
    change = unicode_tables().change
    return frozenset(change(word, lowercase, fold_accents) for word in words)


@cache
def stopwords_fingerprint(language: str) -> int:
    """A CRC-32 of the package's list, which changes with its releases."""
    return zlib.crc32("\n".join(sorted(stopword_set(language, False, False))).encode())
