"""Which words a prefix, wildcard, regular expression, fuzzy word or range matches.

The words are those *as written*: as the tokenizer returns them, before they are stemmed. What is
looked for is lower-cased and folded as they are, but for a regular expression.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from fastseq import query as values
from fastseq.errors import SettingsError
from fastseq.text.splitting import Splitter
from fastseq.types import Float64, Int32

if TYPE_CHECKING:
    from fastseq.text.vocabulary import SortedWords

PATTERNS = values.Prefix | values.Wildcard | values.Regex | values.Fuzzy
Pattern = PATTERNS | values.Range
# the words of a vocabulary that match, by number, and the similarity of each, at most 1; None where
# all are 1
Match = Callable[["SortedWords"], tuple[Int32, Float64 | None]]

_SHORT = 32  # characters of a word that no tokenizer cuts


def pattern_match(query: Pattern, splitter: Splitter) -> Match | None:
    """The function that finds the words of a pattern; None where it has no word to look for, or is
    a range of other values than strings.

    Raises SettingsError for a regular expression that is wrong or too large.
    """

    from fastseq.text.patterns import regex, wildcard

    def changed(text: str) -> str:
        return folded(text, splitter)

    match query:
        case values.Prefix():
            prefix = changed(query.text).encode("utf-8", "replace")
            return lambda words: (words.prefix(prefix), None)
        case values.Wildcard():
            automaton = wildcard(_folded_wildcard(query, splitter))
            return lambda words: (words.matching(automaton), None)
        case values.Regex():
            automaton = regex(query.pattern)
            return lambda words: (words.matching(automaton), None)
        case values.Fuzzy():
            word = changed(query.text)
            if not word:
                return None
            edits, prefix_length = query.max_edits, query.prefix_length
            return lambda words: _similar(words, word, edits, prefix_length)
        case values.Range():
            bounds: list[bytes | None] = []
            for bound in (query.low, query.high):
                if bound is not None and not isinstance(bound, str):
                    return None
                bounds.append(None if bound is None else folded_bytes(bound, splitter))
            low, high = bounds
            return lambda words: (
                words.range(low, high, query.include_low, query.include_high), None,
            )  # fmt: skip


def folded_pattern(query: Pattern, splitter: Splitter) -> Pattern:
    """A pattern in the form of words as written, so that equal ones find the same words: `CA*` is
    `ca*` where words are lower-cased. Regular expressions and ranges are left as they are."""
    match query:
        case values.Prefix() | values.Fuzzy():
            text = folded(query.text, splitter)
            return replace(query, text=text) if text else query
        case values.Wildcard():
            return replace(query, pattern=_folded_wildcard(query, splitter) or query.pattern)
    return query


def _folded_wildcard(query: values.Wildcard, splitter: Splitter) -> str:
    return "".join(
        piece if is_wild else _escaped(folded(piece, splitter))
        for is_wild, piece in wildcard_pieces(query.pattern)
    )


def pattern_problem(query: values.Query) -> str | None:
    """What is wrong with the first pattern of a query that is wrong or too large."""
    for part in values.walk(query):
        if not isinstance(part, values.Regex | values.Wildcard):
            continue
        from fastseq.text.patterns import regex, wildcard

        try:
            (regex if isinstance(part, values.Regex) else wildcard)(part.pattern)
        except SettingsError as error:
            return str(error)
    return None


def folded(text: str, splitter: Splitter) -> str:
    """A part of a word in the form of words as written, such as lower-cased. Punctuation and
    symbols, which may be inside of a word, are left as they are."""
    if text.isascii() and text.isalnum() and len(text) <= _SHORT:
        return text.lower() if splitter.analyzer.lowercase else text
    parts = []
    for is_sign, characters in groupby(text, lambda c: unicodedata.category(c)[0] in "PSZ"):
        part = "".join(characters)
        parts.append(part if is_sign else "".join(splitter.changed([part])[0].split()))
    return "".join(parts)


def folded_bytes(text: str, splitter: Splitter) -> bytes:
    """`folded` as UTF-8."""
    return folded(text, splitter).encode("utf-8", "replace")


def wildcard_pieces(pattern: str) -> list[tuple[bool, str]]:
    """A pattern cut at its wildcards: (whether it is "*" or "?", text). An escaped character is
    plain."""
    pieces: list[tuple[bool, str]] = []
    plain: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character in "*?":
            pieces += [(False, "".join(plain)), (True, character)]
            plain = []
        else:
            plain.append(next(characters, "\\") if character == "\\" else character)
    return [piece for piece in (*pieces, (False, "".join(plain))) if piece[1]]


def _escaped(text: str) -> str:
    return "".join("\\" + character if character in "*?\\" else character for character in text)


def _similar(
    words: SortedWords, word: str, max_edits: int, prefix_length: int
) -> tuple[Int32, Float64 | None]:
    """The words within some edits of a word, with their similarities: 1 - edits / the length of the
    shorter word in code points, as Lucene's FuzzyQuery; only those above 0."""
    ids, edits = words.fuzzy(word, max_edits, prefix_length)
    lengths = np.minimum([len(each) for each in words.strings(ids)], len(word))
    kept = edits < np.maximum(lengths, 1)
    similarities = (1 - edits / np.maximum(lengths, 1))[kept]
    return ids[kept], None if (edits[kept] == 0).all() else similarities
