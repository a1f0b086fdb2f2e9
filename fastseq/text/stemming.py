"""Snowball stemmers, through PyStemmer."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from functools import cache

from fastseq.settings import one_of

_own = threading.local()  # a stemmer has state: one for each thread


@cache
def stemmers() -> tuple[str, ...]:
    """The names of all stemmers; "english" is Porter2, "porter" the original of 1980."""
    import Stemmer

    return tuple(Stemmer.algorithms())


def check_stemmer(stemmer: str) -> None:
    """Raise SettingsError unless this is "none" or the name of a stemmer."""
    if not isinstance(stemmer, str) or stemmer != "none":  # whose package is not imported in vain
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


# Words in which releases of Snowball have differed, and endings of many kinds.
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
    from fastseq.text.stopwords import stopword_languages, stopword_set

    words = _PROBES.split()
    if stemmer in stopword_languages():
        words += sorted(stopword_set(stemmer, True, False))
    return zlib.crc32("\n".join(stem(stemmer, words)).encode())
