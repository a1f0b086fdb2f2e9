"""Synonyms at query time, from a file of groups.

    # vehicles
    car, automobile, motor car
    tv, telly => television

One group a line, in UTF-8, its members separated by commas. A word of a query that is a member is
replaced by all members, scored as one word (fastseq.query.Synonyms); where the line has =>, a word
on its left is replaced by those on its right. Members are analysed as the documents were. One of
several words replaces several words of a query that follow one another, and is a phrase in the
documents. A member of several groups is replaced by the members of all. Empty lines and those that
begin with # are ignored; a backslash makes the next character part of a word. This is the format of
Solr's synonym files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from fastseq import query as values
from fastseq.errors import DataError
from fastseq.settings import one_of
from fastseq.text.analyzer import Analyzer
from fastseq.text.spans import Token, string_tokens

_Terms = tuple[str, ...]  # of a member or a part of a query; "" for a word that is removed
_PIECE = re.compile(r"\\(?P<escaped>.)|(?P<sign>=>|,)|(?P<plain>.)", re.DOTALL)


class Rule(NamedTuple):
    """Texts, and those that each of them is replaced by."""

    members: tuple[str, ...]
    replacements: tuple[str, ...]


class SynonymMap:
    """Rules that replace words of queries by groups of synonyms.

        synonyms = SynonymMap.load("synonyms.txt")
        synonyms.apply(Term("fast car"), index.analyzer)
        # Boolean(should=(Term('fast'), Synonyms(('car', 'automobile', 'motor car'))))

    Attributes
    ----------
    rules : in the order of the file
    """

    def __init__(self, rules: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
        """rules : pairs of members and their replacements"""
        self.rules = tuple(
            Rule(tuple(members), tuple(replacements)) for members, replacements in rules
        )
        self._analyzed: tuple[Analyzer, dict[_Terms, tuple[str, ...]]] | None = None

    def __repr__(self) -> str:
        return f"SynonymMap({len(self.rules):,} {'rule' if len(self.rules) == 1 else 'rules'})"

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SynonymMap:
        """Read a file of groups, which may be compressed (gzip, zstd).

        Raises DataError, with the line, for a group with an empty word or none, and for text that
        is not UTF-8; and for a file that cannot be read.
        """
        from fastseq.store.files import opened, reason

        try:
            with opened(os.fspath(path)) as file:
                lines = file.read().splitlines()
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"cannot read {os.fspath(path)}: {reason(error)}") from error
        return SynonymMap(_rules(lines, os.fspath(path)))

    def apply(
        self, query: values.Query, analyzer: Analyzer, operator: str = "or",
        fields: Collection[str] = (),
    ) -> values.Query:  # fmt: skip
        """The query with groups of synonyms in place of the words that have some.

        Words are looked for in each Term, and in Terms that follow one another in a list of a
        Boolean, one word each; of several members the longest is replaced, from the left. Words of
        phrases and patterns remain. Where clauses become fewer, so does minimum_should_match.

        Parameters
        ----------
        analyzer : of the index; not one with n-grams, with which nothing is replaced
        operator : "or" or "and", which joins the words of a Term
        fields : of the index; a Term of another field is a condition on a column, and remains

        Raises SettingsError for another operator.
        """
        one_of("operator", operator, ("or", "and"))
        if analyzer.has_ngrams or not self.rules:
            return query
        known = self._replacements(analyzer)
        parts = list(values.walk(query))
        terms = {part for part in parts if isinstance(part, values.Term)}
        texts = sorted({term.text for term in terms if _is_text(term, fields)})
        tokens = dict(zip(texts, string_tokens(analyzer, texts), strict=True))
        return _Replacing(known, tokens, operator == "and", frozenset(fields)).of(query)

    def _replacements(self, analyzer: Analyzer) -> dict[_Terms, tuple[str, ...]]:
        """The replacements of each member by its terms; those of the latest analyzer are cached."""
        cached = self._analyzed
        if cached is not None and cached[0] == analyzer:
            return cached[1]
        members = sorted({member for rule in self.rules for member in rule.members})
        terms = {
            member: _trimmed(_terms(tokens))
            for member, tokens in zip(members, string_tokens(analyzer, members), strict=True)
        }
        found: dict[_Terms, dict[str, None]] = {}
        for rule in self.rules:
            for member in rule.members:
                if terms[member]:
                    found.setdefault(terms[member], {}).update(dict.fromkeys(rule.replacements))
        known = {key: tuple(replacements) for key, replacements in found.items()}
        self._analyzed = analyzer, known
        return known


def _rules(lines: Sequence[bytes], path: str) -> Iterator[Rule]:
    for number, raw in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise DataError(f"{where}: not valid UTF-8") from None
        if not line or line.startswith("#"):
            continue
        sides = _sides(line)
        if len(sides) > 2:
            raise DataError(f"{where}: => occurs {len(sides) - 1} times, expected at most once")
        for side in sides:
            if not all(side):
                what = "an empty group" if side == [""] else "an empty word in the group"
                raise DataError(f"{where}: {what}; expected words separated by commas")
        yield Rule(tuple(sides[0]), tuple(sides[-1]))


def _sides(line: str) -> list[list[str]]:
    """The words of a line, separated by commas, on each side of =>."""
    sides = [[""]]
    for piece in _PIECE.finditer(line):
        if piece["sign"] == "=>":
            sides.append([""])
        elif piece["sign"] == ",":
            sides[-1].append("")
        else:
            sides[-1][-1] += piece["escaped"] or piece["plain"]
    return [[word.strip() for word in side] for side in sides]


def _terms(tokens: Sequence[Token]) -> _Terms:
    return tuple(token.terms[0] if token.terms else "" for token in tokens)


def _trimmed(terms: _Terms) -> _Terms:
    """The terms without removed words at both ends."""
    kept = [at for at, term in enumerate(terms) if term]
    return terms[kept[0] : kept[-1] + 1] if kept else ()


def _is_text(term: values.Term, fields: Collection[str]) -> bool:
    return term.field is None or term.field in fields


class _Replacing:
    """Replaces the words of one query.

    known   the replacements of members, by their terms
    tokens  of the texts of the query's Terms
    every   whether all words of a Term must match
    """

    def __init__(
        self, known: dict[_Terms, tuple[str, ...]], tokens: dict[str, list[Token]], every: bool,
        fields: Collection[str],
    ) -> None:  # fmt: skip
        self._known, self._tokens, self._every, self._fields = known, tokens, every, fields
        self._longest = max(map(len, known), default=0)

    def of(self, query: values.Query) -> values.Query:
        match query:
            case values.Term():
                return self._term(query)
            case values.Boost():
                inner = self.of(query.query)
                return query if inner is query.query else values.Boost(inner, query.factor)
            case values.ConstantScore():
                inner = self.of(query.query)
                return query if inner is query.query else values.ConstantScore(inner, query.score)
            case values.Boolean():
                lists = {
                    name: self._listed(getattr(query, name))
                    for name in ("must", "should", "must_not", "filter")
                }
                if all(lists[name] == getattr(query, name) for name in lists):
                    return query
                fewer = len(query.should) - len(lists["should"])
                least = query.minimum_should_match
                return values.Boolean(
                    **lists, minimum_should_match=max(least - fewer, min(least, 1))
                )
        return query

    def _term(self, term: values.Term) -> values.Query:
        """A Term, or its words and groups of synonyms as clauses."""
        if not _is_text(term, self._fields):
            return term
        tokens = self._tokens[term.text]
        parts: list[values.Query] = []
        begin = 0  # the first token of the words since the last group
        for first, last, group in self._groups(_terms(tokens), term.field):
            parts += _rest(term, tokens[begin:first])
            parts.append(group)
            begin = last
        if not parts:
            return term
        parts += _rest(term, tokens[begin:])
        if len(parts) == 1:
            return parts[0]
        clauses = tuple(parts)
        return values.Boolean(must=clauses) if self._every else values.Boolean(should=clauses)

    def _listed(self, queries: tuple[values.Query, ...]) -> tuple[values.Query, ...]:
        """The clauses of a list of a Boolean."""
        found: list[values.Query] = []
        for key, run in groupby(queries, self._run_of):
            listed = list(run)
            if key is None:
                found += map(self.of, listed)
                continue
            (field,) = key
            terms = tuple(_terms(self._tokens[term.text])[0] for term in listed)  # type: ignore[attr-defined]
            begin = 0
            for first, last, group in self._groups(terms, field):
                found += [*listed[begin:first], group]
                begin = last
            found += listed[begin:]
        return tuple(found)

    def _run_of(self, query: values.Query) -> tuple[str | None] | None:
        """What clauses of one word each that follow one another share: their field."""
        is_word = (
            isinstance(query, values.Term)
            and _is_text(query, self._fields)
            and len(self._tokens[query.text]) == 1
        )
        return (query.field,) if is_word else None  # type: ignore[attr-defined]

    def _groups(self, terms: _Terms, field: str | None) -> Iterator[tuple[int, int, values.Query]]:
        """(first, last, group) of the words that are replaced: terms[first:last]."""
        at = 0
        while at < len(terms):
            for length in range(min(self._longest, len(terms) - at), 0, -1):
                texts = self._known.get(terms[at : at + length])
                if texts is not None:
                    yield at, at + length, _group(texts, field)
                    at += length
                    break
            else:
                at += 1


def _group(texts: tuple[str, ...], field: str | None) -> values.Query:
    if len(texts) == 1:
        return values.Phrase(texts[0], field)
    return values.Synonyms(texts, field)


def _rest(term: values.Term, tokens: Sequence[Token]) -> list[values.Query]:
    """The words of a Term that have no synonyms, as a Term."""
    kept = [token for token in tokens if token.terms]
    if not kept:
        return []
    return [replace(term, text=term.text[kept[0].start : kept[-1].end])]
