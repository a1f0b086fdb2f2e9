"""Query expansion, and the words of a query that an index lacks.

Which words to add is the caller's choice: a function from queries to words with weights, such as
`vectors.expansion.Expander`, which takes the nearest word vectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, isfinite

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.index.segment import Segment
from fastseq.search.searcher import Query
from fastseq.text.lexicon import Lexicon
from fastseq.types import Texts

# queries -> for each of them further words with weights; a word of the query itself has weight 1
Expand = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]


def expanded(queries: Sequence[Query], expand: Expand, segment: Segment) -> list[Query]:
    """The queries, strings as mappings from terms to weights with the words that `expand` returns.

    Those words are analysed as the documents were; terms of the query itself and terms that the
    index lacks are left out. A word of several terms divides its weight among them; of several
    words with the same term the largest weight counts. A query without added terms is unchanged.

    Raises
    ------
    SettingsError
        `expand` returns something else.
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
    names, ids = terms.to_strings(), tokens.values.tolist()
    # the terms of each query, then those of each of its added words
    rows = iter([ids[a:b] for a, b in pairwise(tokens.offsets.tolist())])
    answer = iter(answers)
    found: list[Query] = []
    for query in queries:
        if not isinstance(query, str):
            found.append(query)
            continue
        own, added = Counter(next(rows)), dict[int, float]()
        for weight in next(answer).values():
            row = next(rows)
            for term in row:
                if term not in own and known[term]:
                    added[term] = max(added.get(term, -inf), weight / len(row))
        weights = {names[term]: float(weight) for term, weight in {**own, **added}.items()}
        found.append(weights if added else query)
    return found


def _checked(given: Iterable[Mapping[str, float]], queries: int) -> list[dict[str, float]]:
    if not isinstance(given, Iterable):
        raise SettingsError(
            f"expand returned {given!r:.80}; expected a list of mappings from words to weights"
        )
    answers = list(given)
    if len(answers) != queries:
        raise SettingsError(f"expand returned {len(answers)} mappings for {queries} queries")
    for words in answers:
        if not isinstance(words, Mapping) or not all(
            isinstance(word, str) and isinstance(weight, int | float) and isfinite(weight)
            for word, weight in words.items()
        ):
            raise SettingsError(
                f"expand returned {words!r:.80}; expected a mapping from words to finite weights"
            )
    return [dict(words) for words in answers]


def raw_words(segment: Segment, query: str) -> list[str]:
    """The distinct words of a query before stop words are removed and stems taken; a run of
    Chinese, Japanese or Korean, of which an index may have bigrams, is one word."""
    cjk = "none" if segment.analyzer.cjk == "bigrams" else segment.analyzer.cjk
    plain = replace(
        segment.analyzer, stopwords="none", stemmer="none", ngrams=(1, 1), char_ngrams=None, cjk=cjk
    )
    lexicon = Lexicon(plain)
    lexicon.encode(Texts.from_strings([query]))
    return lexicon.terms().to_strings()


def are_known(segment: Segment, words: Sequence[str]) -> list[bool | None]:
    """For each word whether a document contains it; None for one that the analyzer removes, such
    as a stop word."""
    lexicon = Lexicon(segment.analyzer)
    tokens = lexicon.encode(Texts.from_strings(words))
    there = (segment.lookup(lexicon.terms()) >= 0)[tokens.values]
    parts = np.split(there, tokens.offsets[1:-1]) if len(words) else []
    return [bool(part.any()) if len(part) else None for part in parts]
