"""Queries with further terms, and words that an index does not know.

What the further words are is the caller's to say: a function that takes queries and gives words
with weights, such as `vectors.expansion.Expander`, which looks for the nearest word vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.index.segment import Segment
from fastseq.search.searcher import Query
from fastseq.text.lexicon import Lexicon
from fastseq.types import Texts

# queries -> for each of them words that are to be looked for too, and what each is worth, where a
# word of the query itself is worth 1
Expand = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]


def expanded(queries: Sequence[Query], expand: Expand, segment: Segment) -> list[Query]:
    """The queries, each that is a string as a mapping of terms to weights, with those of the words
    that `expand` gives: as the index spells them, without those that the query has and those that
    the index has not. A word of several terms shares its weight among them; of several words that
    are the same term the largest weight counts. Where nothing is added the query stays.

    Raises
    ------
    SettingsError
        `expand` gives something else than it should.
    DataError
        A query that is not valid Unicode.
    """
    asked = [query for query in queries if isinstance(query, str)]
    answers = _checked(expand(asked), len(asked)) if asked else []
    texts = [t for query, words in zip(asked, answers, strict=True) for t in (query, *words)]
    lexicon = Lexicon(segment.analyzer)
    try:
        tokens = lexicon.encode(Texts.from_strings(texts))
    except DataError:
        raise DataError("a query is not valid UTF-8") from None
    terms = lexicon.terms()
    known = (segment.lookup(terms) >= 0).tolist()
    names, ids, ends = terms.to_strings(), tokens.values.tolist(), tokens.offsets.tolist()
    rows = iter([ids[a:b] for a, b in pairwise(ends)])
    turn = iter(answers)
    return [_one(q, next(turn), rows, names, known) if isinstance(q, str) else q for q in queries]


def _one(
    query: str,
    words: Mapping[str, float],
    rows: Iterator[list[int]],
    names: list[str],
    known: list[bool],
) -> Query:
    """rows: the terms of the query, then those of each word."""
    own: dict[int, float] = {}
    for term in next(rows):
        own[term] = own.get(term, 0.0) + 1.0
    added: dict[int, float] = {}
    for weight in words.values():
        found = next(rows)
        for term in found:
            if term not in own and known[term]:
                added[term] = max(added.get(term, -np.inf), weight / len(found))
    if not added:
        return query
    return {names[term]: weight for term, weight in (own | added).items()}


def _checked(given: Iterable[Mapping[str, float]], queries: int) -> list[dict[str, float]]:
    if not isinstance(given, Iterable):
        raise SettingsError(f"expand gave {given!r:.80}; expected a list of words with weights")
    answers = list(given)
    if len(answers) != queries:
        raise SettingsError(f"expand gave {len(answers)} answers to {queries} queries")
    for words in answers:
        if not isinstance(words, Mapping) or not all(
            isinstance(word, str) and isinstance(weight, int | float) and isfinite(weight)
            for word, weight in words.items()
        ):
            raise SettingsError(f"expand gave {words!r:.80}; expected words with finite weights")
    return [dict(words) for words in answers]


def raw_words(segment: Segment, query: str) -> list[str]:
    """The different words of a query before stop words are left out and stems are made; a run of
    Chinese, Japanese or Korean, of which an index may have bigrams, is one."""
    cjk = "none" if segment.analyzer.cjk == "bigrams" else segment.analyzer.cjk
    plain = replace(
        segment.analyzer, stopwords="none", stemmer="none", ngrams=(1, 1), char_ngrams=None, cjk=cjk
    )
    lexicon = Lexicon(plain)
    lexicon.encode(Texts.from_strings([query]))
    return lexicon.terms().to_strings()


def are_known(segment: Segment, words: Sequence[str]) -> list[bool | None]:
    """Of each word whether a document has it, as the index spells it; None for one that the
    index's analyzer leaves out, as a stop word is."""
    lexicon = Lexicon(segment.analyzer)
    tokens = lexicon.encode(Texts.from_strings(words))
    there = (segment.lookup(lexicon.terms()) >= 0)[tokens.values]
    parts = np.split(there, tokens.offsets[1:-1]) if len(words) else []
    return [bool(part.any()) if len(part) else None for part in parts]
