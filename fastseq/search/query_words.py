"""The words of queries: query expansion, and words that an index lacks or leaves out.

Query expansion is a function of the caller, from queries to words with weights, such as
`vectors.expansion.Expander`, which takes the nearest word vectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, InvalidTextError, RowError, SettingsError
from fastseq.index.collection import Collection
from fastseq.text.lexicon import Lexicon
from fastseq.text.normalising import FIRST, normalised
from fastseq.text.splitting import WordSplitter, splitter_of, stop_words
from fastseq.types import Texts, Tokens, offsets_of

if TYPE_CHECKING:
    from fastseq.text.analyzer import Analyzer

Query = str | Mapping[str, float]
# queries -> for each of them further words with weights; a word of the query itself has weight 1
Expand = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]

_BLOCK = 1024  # queries analysed at a time


class Vocabulary(Protocol):
    """Says which terms a collection has."""

    collection: Collection

    def contains(self, terms: Texts) -> npt.NDArray[np.bool_]:
        """bool[n]: whether a document has each term."""
        ...


@contextmanager
def of_queries() -> Iterator[None]:
    """Errors of texts in the block name a query."""
    try:
        yield
    except InvalidTextError:
        raise DataError("a query is not valid UTF-8") from None
    except RowError as error:
        raise DataError(f"a query: {error.problem}") from None


def encoded(analyzer: Analyzer, texts: Texts) -> tuple[Texts, Tokens]:
    """(terms, tokens) of texts in the analysis of the index."""
    lexicon = Lexicon(analyzer)
    tokens = lexicon.encode(texts)
    return lexicon.terms(), tokens


def analysed(collection: Collection, queries: Sequence[str]) -> tuple[list[str], Tokens]:
    """(terms, tokens) of queries in the analysis of the index. Raises DataError for one that is not
    valid Unicode."""
    with of_queries():
        terms, tokens = encoded(collection.analyzer, Texts.from_strings(queries))
    return terms.to_strings(), tokens


def expanded(queries: Sequence[Query], expand: Expand, searcher: Vocabulary) -> list[Query]:
    """The queries, with the words that `expand` returns for those that are strings.

    The words are analysed; terms of the query itself and terms that the index lacks are dropped. A
    word of several terms divides its weight among them; of several words with the same term the
    largest weight counts. The result is a mapping from terms to weights; a query without added
    terms is unchanged.

    Raises SettingsError where `expand` returns something else, DataError for a query that is not
    valid Unicode.
    """
    asked = [query for query in queries if isinstance(query, str)]
    answers = _checked(expand(asked), len(asked)) if asked else []
    texts = [t for query, words in zip(asked, answers, strict=True) for t in (query, *words)]
    with of_queries():
        terms, tokens = encoded(searcher.collection.analyzer, Texts.from_strings(texts))
    known = searcher.contains(terms).tolist()
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


def are_known(searcher: Vocabulary, words: Sequence[str]) -> list[bool | None]:
    """For each word whether a document contains it; None for one that the analyzer removes."""
    terms, tokens = encoded(searcher.collection.analyzer, Texts.from_strings(words))
    found = searcher.contains(terms)[tokens.values]
    parts = np.split(found, tokens.offsets[1:-1]) if len(words) else []
    return [bool(part.any()) if len(part) else None for part in parts]


def raw_words(collection: Collection, query: str) -> list[str]:
    """The distinct words of a query before any is removed and stems are taken, short ones too; a
    run of a script without spaces is one word, though the index may have bigrams."""
    return _raw_words(collection, [query])[0]


def _raw_words(collection: Collection, queries: Sequence[str]) -> tuple[list[str], Tokens]:
    """The distinct words of queries, as `raw_words`, and their numbers in each query."""
    analyzer, texts = collection.analyzer, Texts.from_strings(queries)
    if analyzer.tokenizer == "unicode" and not analyzer.segments:
        runs = WordSplitter(analyzer).whole_runs(texts)
        return Texts(*runs.table.texts()).to_strings(), Tokens(runs.ids, runs.ends)
    plain = replace(
        analyzer, stopwords="none", stemmer="none", normalization="none", ngrams=(1, 1),
        char_ngrams=None, min_length=1, max_length=None,
        cjk="none" if analyzer.cjk == "bigrams" else analyzer.cjk,
    )  # fmt: skip
    lexicon = Lexicon(plain)
    tokens = lexicon.encode(texts)
    return lexicon.terms().to_strings(), tokens


def removed_words(collection: Collection, query: str) -> list[tuple[str, str]]:
    """(word, reason) of each word of a query that the analyzer of the index removes."""
    words = raw_words(collection, query)
    reasons = _reasons(collection.analyzer, words)
    return [(word, why) for word, why in zip(words, reasons, strict=True) if why is not None]


class Removed(NamedTuple):
    """What the analyzer removes from queries.

    words  of each reason, "stop word", "too short" or "too long", the number of words removed
    empty  the numbers of the queries without any other word
    """

    words: Counter[str]
    empty: list[int]


def count_removed(collection: Collection, queries: Sequence[str]) -> Removed:
    """The words of queries that the analyzer of the index removes; a repeated word counts each
    time."""
    removed = Removed(Counter(), [])
    for first in range(0, len(queries), _BLOCK):
        words, tokens = _raw_words(collection, queries[first : first + _BLOCK])
        reasons = _reasons(collection.analyzer, words)
        counts = np.bincount(tokens.values, minlength=len(words)).tolist()
        for why, count in zip(reasons, counts, strict=True):
            if why is not None:
                removed.words[why] += count
        kept = np.array([why is None for why in reasons], bool)[tokens.values]
        left = np.diff(offsets_of(kept)[tokens.offsets])
        removed.empty.extend((first + np.flatnonzero(left == 0)).tolist())
    return removed


def _reasons(analyzer: Analyzer, words: list[str]) -> list[str | None]:
    """Of each word the reason for which it is removed; None for one that is not."""
    splitter, stopped = splitter_of(analyzer), stop_words(analyzer)
    forms = normalised(FIRST, analyzer.normalization, words)
    shortest, longest = analyzer.min_length or splitter.shortest, analyzer.max_length or inf
    reasons: list[str | None] = []
    for form, script in zip(forms, splitter.scripts(words).tolist(), strict=True):
        if form in stopped:
            reasons.append("stop word")
        elif not script and not shortest <= len(form) <= longest:
            reasons.append("too short" if len(form) < shortest else "too long")
        else:
            reasons.append(None)
    return reasons
