"""Snowball stemmers, through PyStemmer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

from fastseq.errors import SettingsError

_own = threading.local()  # a stemmer has state: one for each thread


@cache
def stemmers() -> tuple[str, ...]:
    """The names of all stemmers; "english" is Porter2, "porter" the original of 1980."""
    import Stemmer

    return tuple(Stemmer.algorithms())


def check_stemmer(stemmer: str) -> None:
    """Raise SettingsError unless this is "none" or the name of a stemmer."""
    if stemmer != "none" and stemmer not in stemmers():
        raise SettingsError(
            f"stemmer is {stemmer!r}; expected none or one of {', '.join(stemmers())}"
        )


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
