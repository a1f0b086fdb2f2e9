"""The meaning and the score of every query, by definition: sets of documents and float64 sums.

A document is a dictionary from fields to lists of columns, a column a list of tokens in which None
is a removed word: it has a position but is no token. The text is the field None. A column begins
COLUMN_GAP positions after the end of the one before. Nothing of fastseq is imported.

Queries are nested tuples (`field` None is the text or, where fields are searched, all of these):

    ("term", token, field)
    ("character", character, field)  one of a script indexed as bigrams (character_groups.py)
    ("phrase", ((offset, word), …), slop, field), ("near", (word, …), distance, in_order, field)
                             a word is ("term", token) or ("character", character), which is at the
                             positions of the character alone and of all bigrams that begin with it
    ("synonyms", (query, …), field)  terms, characters and phrases, whose own field does not matter
    ("prefix", text, field), ("wildcard", pattern, field), ("regex", pattern, field),
    ("fuzzy", text, max_edits, prefix_length, field)  of words as written, before stemming
    ("between", low, high, include_low, include_high, field)  terms by bytes; None is no bound
    ("exists", field)  documents that have a token in the field
    ("condition", filter)  of stored columns (filters.py), of a constant score of 1
    ("filter", filter)  the same without a score
    ("boolean", must, should, must_not, filter, minimum)  tuples of queries, and an integer
    ("boost", query, factor), ("constant", query, score), ("all",)
    None  a query of which the analyzer left nothing

A Boolean is true where all of its must and filter are, none of its must_not, and at least `minimum`
of its should, at least one where it has neither must nor filter. Queries that are None are dropped
from it first, and it is None itself where all of its queries, one at least, were. `minimum` stays.

**Leaves.** The score of a document is a sum over the leaves of the query outside of must_not,
filter and constant; leaves are the queries from term to fuzzy in the list. Each has a frequency in
each document, and numbers of documents from which its idf is computed:

    a term, a character      that of the documents with it
    a phrase, near           of each word (a repeated one counts each time); the idfs are added
    a group (synonyms to fuzzy)  of the union; its frequency is the sum of those of its terms, for
                             fuzzy times 1 - edits / length of the shorter word

Where a model has no idf, that of a phrase is 1 too. A group has at most MOST_TERMS terms, those of
the most documents, then the first by their bytes. A leaf of no document is left out. Equal leaves,
in the same field, of the same boost and under the same conditions, are one that counts as often as
it occurs.

**Conditions.** A leaf counts in the documents for which all Booleans around it are true. These are
its conditions, except disjunctions, of which nothing but one should clause is required. The
variants of BM25 in which an absent term scores f(0) add this to every hit, also where a condition
does not hold.

**Fields.** Each field has statistics of its own: document frequencies, lengths, and the average
length over all live documents. A leaf without a field is one in every searched field, its boost
times the weight of the field; a leaf with a field of its own is in this alone, of weight 1. The
leaves of a query in one field are one query vector (SMART). In BM25F a leaf without a field is a
single one of the searched fields.

BM25F: H. Zaragoza et al., "Microsoft Cambridge at TREC-13: Web and HARD tracks", 2004.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.naive import character_groups, filters, inverted, matching, ranking

Name = str | None  # of a field
Document = Mapping[Name, Sequence[Sequence[str | None]]]
Query = tuple[Any, ...] | None
Word = tuple[str, str]  # of a phrase
Rows = frozenset[int]
Conditions = tuple[tuple[tuple[int, ...], Query], ...]  # places of Booleans, and these

MOST_TERMS = 1024
TEXT: dict[Name, float] = {None: 1.0}


@dataclass(frozen=True)
class Bm25:
    variant: str = "lucene"
    k1: float = 1.2
    b: float = 0.75
    delta: float = 0.5


@dataclass(frozen=True)
class Smart:
    notation: str = "ltc.lnc"


class Statistics(NamedTuple):
    """Of a field, and of a leaf or a word of a phrase in it: cf is the sum of its frequencies."""

    documents: int
    tokens: int
    df: int
    cf: float


@dataclass(frozen=True)
class Formula:
    """A leaf adds its weight times part(tf, length, statistics).

    weight  of its words, whose weights are added up as their idfs are; default: 1
    """

    part: Callable[[float, int, Statistics], float]
    weight: Callable[[Statistics], float] | None = None


@dataclass(frozen=True)
class Bm25f:
    """b  of each field, where it is not 0.75"""

    k1: float = 1.2
    b: Mapping[Name, float] = field(default_factory=dict)


Model = Bm25 | Smart | Formula | Bm25f


class Postings(NamedTuple):
    """Where a leaf is in a field.

    tfs    frequency by live document, never 0
    words  those of the words whose idfs make up its own; of all but phrases and near one, tfs
    """

    tfs: dict[int, float]
    words: tuple[dict[int, float], ...]


class Use(NamedTuple):
    """A leaf of a query, how often it occurs, and where it counts.

    field  None for the text or, in BM25F, for all searched fields
    """

    leaf: tuple[Any, ...]
    field: Name
    boost: float
    rows: Rows
    times: int


class Hit(NamedTuple):
    """
    parts   what is added up to the score, in the order of the query's leaves
    inputs  all that these depend on: with the same inputs the score is the same after any rounding,
            while 1/2 and 2/4 of a frequency and a length need not be
    """

    row: int
    score: float
    parts: tuple[float, ...]
    inputs: tuple[Any, ...]


class Field:
    """The live documents' tokens in one field.

    documents  of each row its columns; None for a deleted document
    words      the same with the words as written
    """

    def __init__(
        self,
        documents: Sequence[Sequence[Sequence[str | None]] | None],
        words: Sequence[Sequence[Sequence[str | None]] | None],
    ) -> None:
        self.positions: dict[str, dict[int, list[int]]] = {}
        self.terms_of: dict[str, set[str]] = {}
        self.counts: dict[int, Counter[str]] = {}
        for row, (columns, written) in enumerate(zip(documents, words, strict=True)):
            if columns is None or written is None:
                continue
            position = 0
            self.counts[row] = Counter()
            for tokens, raw in zip(columns, written, strict=True):
                for token, word in zip(tokens, raw, strict=True):
                    if token is not None and word is not None:
                        self.positions.setdefault(token, {}).setdefault(row, []).append(position)
                        self.terms_of.setdefault(word, set()).add(token)
                        self.counts[row][token] += 1
                    position += 1
                position += inverted.COLUMN_GAP
        self.df = {token: len(own) for token, own in self.positions.items()}
        self.lengths = {row: count.total() for row, count in self.counts.items()}
        total = sum(self.lengths.values())
        self.average = total / len(self.lengths) if self.lengths else 0.0
        self._found: dict[tuple[Any, ...], Postings] = {}
        self._norms: dict[tuple[int, str], tuple[float, float]] = {}

    def relative_length(self, row: int) -> float:
        return self.lengths[row] / self.average if self.average else 1.0

    # ---- the documents of a leaf

    def find(self, leaf: tuple[Any, ...]) -> Postings:
        if leaf not in self._found:
            self._found[leaf] = self._find(leaf)
        return self._found[leaf]

    def _find(self, leaf: tuple[Any, ...]) -> Postings:
        kind, *parts = leaf
        if kind == "term":
            return self._union({parts[0]: 1.0})
        if kind == "character":
            tfs = {
                row: character_groups.frequency("unicode", count, parts[0])
                for row, count in self.counts.items()
            }
            return _group({row: float(tf) for row, tf in tfs.items() if tf})
        if kind == "phrase":
            words, slop = parts
            offsets = [offset for offset, _ in words]

            def of_phrase(positions: list[list[int]]) -> float:
                if not slop:
                    return matching.exact_phrase(positions, offsets)
                return matching.sloppy_phrase(positions, offsets, slop)

            return self._positioned([word for _, word in words], of_phrase)
        if kind == "near":
            words, distance, in_order = parts
            return self._positioned(words, lambda each: matching.near(each, distance, in_order))
        if kind == "synonyms":
            sums: dict[int, float] = {}
            for member in dict.fromkeys(_without_field(member) for member in parts[0]):
                for row, tf in self.find(member).tfs.items():
                    sums[row] = sums.get(row, 0.0) + tf
            return _group(sums)
        return self._union(self._words(kind, *parts))

    def _words(self, kind: str, text: str, *more: int) -> dict[str, float]:
        """The terms of the words that match, with the similarity of the most similar word."""
        terms: dict[str, float] = {}
        for word, own in self.terms_of.items():
            similarity = _similarity(kind, text, word, *more)
            for term in own if similarity else ():
                terms[term] = max(terms.get(term, 0.0), similarity)
        ordered = sorted(terms, key=lambda term: (-self.df[term], term.encode()))
        return {term: terms[term] for term in ordered[:MOST_TERMS]}

    def _union(self, terms: Mapping[str, float]) -> Postings:
        tfs: dict[int, float] = {}
        for term, similarity in terms.items():
            for row, positions in self.positions.get(term, {}).items():
                tfs[row] = tfs.get(row, 0.0) + similarity * len(positions)
        return _group(tfs)

    def _positioned(
        self, words: Sequence[Word], frequency: Callable[[list[list[int]]], float]
    ) -> Postings:
        places = [self._places(word) for word in words]
        rows = frozenset.intersection(*(frozenset(own) for own in places))
        tfs = {row: frequency([own[row] for own in places]) for row in sorted(rows)}
        own_words = tuple(self.find(word).tfs for word in words)
        return Postings({row: float(tf) for row, tf in tfs.items() if tf}, own_words)

    def _places(self, word: Word) -> dict[int, list[int]]:
        """The positions of a word of a phrase in each document."""
        kind, text = word
        if kind == "term":
            return self.positions.get(text, {})
        found: dict[int, list[int]] = {}
        for token, own in self.positions.items():
            rest = token.removeprefix(text)
            if token == text or (rest != token and character_groups.is_character("unicode", rest)):
                for row, positions in own.items():
                    found[row] = sorted([*found.get(row, []), *positions])
        return found

    def between(
        self, low: str | None, high: str | None, include_low: bool, include_high: bool
    ) -> Rows:
        found: set[int] = set()
        for term, own in self.positions.items():
            raw = term.encode()
            above = low is None or raw > low.encode() or (include_low and term == low)
            below = high is None or raw < high.encode() or (include_high and term == high)
            if above and below:
                found |= own.keys()
        return frozenset(found)

    # ---- scores

    def bm25(self, model: Bm25, uses: Sequence[tuple[Use, Postings]]) -> list[dict[int, float]]:
        """Of each leaf what it adds to documents; to the others f(0)."""
        added = []
        for use, found in uses:
            idf = sum(
                ranking.bm25_idf(model.variant, len(own), len(self.counts)) for own in found.words
            )
            parts = {}
            for row in self.counts:
                tf = found.tfs.get(row, 0.0) if row in use.rows else 0.0
                if tf or model.variant in ranking.BY_ABSENCE:
                    relative = self.relative_length(row)
                    parts[row] = use.boost * use.times * idf * ranking.bm25_frequency(
                        model.variant, tf, relative, 1.0, model.k1, model.b, model.delta
                    )  # fmt: skip
            added.append(parts)
        return added

    def smart(self, notation: str, uses: Sequence[tuple[Use, Postings]]) -> list[dict[int, float]]:
        """Of each leaf what it adds to documents."""
        of_documents, of_query = notation.split(".")
        documents = len(self.counts)

        def idf(letter: str, found: Postings) -> float:
            if letter == "n":
                return 1.0
            return sum(ranking.smart_idf(letter, len(own), documents) for own in found.words)

        largest = max((use.times for use, _ in uses), default=1)
        mean = sum(use.times for use, _ in uses) / max(len(uses), 1)
        vector = [
            ranking.smart_frequency(of_query[0], use.times, largest, mean) * idf(of_query[1], found)
            for use, found in uses
        ]
        norm = math.sqrt(sum(x * x for x in vector)) if of_query[2] == "c" else 1.0
        added = []
        for weight, (use, found) in zip(vector, uses, strict=True):
            weight *= use.boost * idf(of_documents[1], found) / (norm or 1.0)
            parts = {}
            for row in found.tfs.keys() & use.rows:
                mean_tf, length = self._norm(row, of_documents)
                tf = ranking.smart_frequency(of_documents[0], found.tfs[row], 1.0, mean_tf)
                parts[row] = weight * tf / length
            added.append(parts)
        return added

    def formula(
        self, model: Formula, uses: Sequence[tuple[Use, Postings]]
    ) -> list[dict[int, float]]:
        """Of each leaf what it adds to documents."""

        def statistics(tfs: Mapping[int, float]) -> Statistics:
            total = sum(self.lengths.values())
            return Statistics(len(self.counts), total, len(tfs), sum(tfs.values()))

        added = []
        for use, found in uses:
            weight, own = use.boost * use.times, statistics(found.tfs)
            if model.weight is not None:
                weight *= sum(model.weight(statistics(word)) for word in found.words)
            added.append({
                row: weight * model.part(tf, self.lengths[row], own)
                for row, tf in found.tfs.items()
                if row in use.rows
            })  # fmt: skip
        return added

    def _norm(self, row: int, letters: str) -> tuple[float, float]:
        """The mean frequency of a document's distinct tokens, and the norm of its vector."""
        if (row, letters) not in self._norms:
            count = self.counts[row]
            mean = count.total() / max(len(count), 1)
            squares = [
                ranking.smart_frequency(letters[0], tf, 1.0, mean) ** 2
                * ranking.smart_idf(letters[1], self.df[token], len(self.counts)) ** 2
                for token, tf in count.items()
            ]
            length = math.sqrt(sum(squares)) if letters[2] == "c" else 1.0
            self._norms[row, letters] = mean, length or 1.0
        return self._norms[row, letters]


class Corpus:
    """Documents to search.

    documents  by row; all have the same fields
    words      the words as written of the tokens, in the same form; default: the tokens
    columns    the stored columns of each row (filters.py)
    live       whether each row is not deleted; default: all
    """

    def __init__(
        self,
        documents: Sequence[Document],
        words: Sequence[Document] | None = None,
        columns: Sequence[Mapping[str, Any]] | None = None,
        live: Sequence[bool] | None = None,
    ) -> None:
        alive = [True] * len(documents) if live is None else live
        self.live: Rows = frozenset(row for row, one in enumerate(alive) if one)
        self._columns = [{}] * len(documents) if columns is None else columns
        names = documents[0].keys() if documents else ()
        self.fields = {
            name: Field(
                [each[name] if row in self.live else None for row, each in enumerate(documents)],
                [
                    each[name] if row in self.live else None
                    for row, each in enumerate(words or documents)
                ],
            )
            for name in names
        }
        self._matches: dict[tuple[Query, tuple[Name, ...]], Rows] = {}

    def hits(
        self, query: Query, model: Model, fields: Mapping[Name, float] | None = None
    ) -> list[Hit]:
        """All hits: the highest score first, of equal ones the first row.

        fields  the searched fields with their weights; default: the text
        """
        searched = TEXT if fields is None else fields
        query = without_dropped(query)
        rows = self.matches(query, tuple(searched))
        uses, constants = self._leaves(query, rows, searched, isinstance(model, Bm25f))
        if isinstance(model, Bm25f):
            added = self._bm25f(model, uses, searched)
        else:
            added = []
            for name, own in self.fields.items():
                every = [(use, own.find(use.leaf)) for use in uses if use.field == name]
                present = [(use, found) for use, found in every if found.tfs]
                if isinstance(model, Bm25):
                    added += own.bm25(model, present)
                elif isinstance(model, Smart):
                    added += own.smart(model.notation, present)
                else:
                    added += own.formula(model, present)
        added += constants
        found_hits = []
        for row in sorted(rows):
            parts = tuple(part.get(row, 0.0) for part in added)
            inputs = self._inputs(row, uses, isinstance(model, Smart))
            found_hits.append(Hit(row, math.fsum(parts), parts, inputs))
        return sorted(found_hits, key=lambda hit: -hit.score)

    def _inputs(self, row: int, uses: Sequence[Use], normalised: bool) -> tuple[Any, ...]:
        """The lengths of a document, the frequencies of each leaf and, for models with a norm, all
        frequencies."""
        fields = self.fields.values()
        return (
            tuple(own.lengths.get(row) for own in fields),
            tuple(frozenset(own.counts[row].items()) for own in fields) if normalised else (),
            tuple(
                own.find(use.leaf).tfs.get(row)
                for use in uses
                for name, own in self.fields.items()
                if use.field in (None, name) and row in use.rows
            ),
        )

    def _bm25f(
        self, model: Bm25f, uses: Sequence[Use], searched: Mapping[Name, float]
    ) -> list[dict[int, float]]:
        added = []
        for use in uses:
            tfs: dict[int, float] = {}
            unions: list[set[int]] = []
            for name, weight in (searched if use.field is None else {use.field: 1.0}).items():
                own = self.fields[name]
                found, b = own.find(use.leaf), model.b.get(name, 0.75)
                for row, tf in found.tfs.items():
                    relative = own.relative_length(row)
                    tfs[row] = tfs.get(row, 0.0) + weight * tf / (1 - b + b * relative)
                unions = unions or [set() for _ in found.words]
                for union, word in zip(unions, found.words, strict=True):
                    union.update(word)
            idf = sum(
                ranking.bm25_idf("lucene", len(union), len(self.live)) for union in unions if union
            )
            factor = use.boost * use.times * idf
            added.append({
                row: factor * tf / (model.k1 + tf) for row, tf in tfs.items() if row in use.rows
            })  # fmt: skip
        return added

    # ---- the documents of a query

    def matches(self, query: Query, searched: tuple[Name, ...] = (None,)) -> Rows:
        """The live documents for which a query, of which nothing is to be dropped, is true."""
        key = query, searched
        if key not in self._matches:
            self._matches[key] = frozenset(self._find(query, searched)) & self.live
        return self._matches[key]

    def _find(self, query: Query, searched: tuple[Name, ...]) -> Rows:
        if query is None:
            return frozenset()
        kind, *parts = query
        if kind == "all":
            return self.live
        if kind in ("filter", "condition"):
            return frozenset(r for r in self.live if filters.truth(parts[0], self._columns[r]))
        if kind == "exists":
            return frozenset(row for row, n in self.fields[parts[0]].lengths.items() if n)
        if kind in ("boost", "constant"):
            return self.matches(parts[0], searched)
        if kind == "boolean":
            return self._boolean(searched, *parts)
        names = searched if parts[-1] is None else (parts[-1],)
        if kind == "between":
            return frozenset().union(*(self.fields[name].between(*parts[:-1]) for name in names))
        leaf = _without_field(query)
        return frozenset().union(*(self.fields[name].find(leaf).tfs for name in names))

    def _boolean(
        self, searched: tuple[Name, ...], must: tuple[Query, ...], should: tuple[Query, ...],
        must_not: tuple[Query, ...], filter: tuple[Query, ...], minimum: int,
    ) -> Rows:  # fmt: skip
        found = self.live
        for each in (*must, *filter):
            found &= self.matches(each, searched)
        for each in must_not:
            found -= self.matches(each, searched)
        least = minimum if must or filter else max(minimum, 1)
        true = Counter(row for each in should for row in self.matches(each, searched))
        return frozenset(row for row in found if true[row] >= least)

    # ---- the leaves of a query

    def _leaves(
        self, query: Query, rows: Rows, searched: Mapping[Name, float], is_bm25f: bool
    ) -> tuple[list[Use], list[dict[int, float]]]:
        """The leaves of a query that is true for some rows, and what the constants in it add to
        each.

        is_bm25f  whether a leaf without a field stays one; else it is one in each searched field,
                  whose weight is a factor of its boost
        """
        names = tuple(searched)
        counts: Counter[tuple[tuple[Any, ...], Name, float, Conditions]] = Counter()
        where: dict[Conditions, Rows] = {}
        constants = []
        for leaf, boost, conditions in _scoring(query, 1.0, ()):
            own = rows
            for _, condition in conditions:
                own &= self.matches(condition, names)
            where[conditions] = own
            if leaf[0] == "constant":
                own &= self.matches(leaf[1], names)
                constants.append(dict.fromkeys(own, boost * leaf[2]))
            elif leaf[-1] is not None or is_bm25f:
                counts[_without_field(leaf), leaf[-1], boost, conditions] += 1
            else:
                for name, weight in searched.items():
                    counts[_without_field(leaf), name, boost * weight, conditions] += 1
        uses = [
            Use(leaf, name, boost, where[conditions], times)
            for (leaf, name, boost, conditions), times in counts.items()
        ]
        return uses, constants


def _scoring(
    query: Query, boost: float, conditions: Conditions, place: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], float, Conditions]]:
    """(leaf, boost, conditions) of the leaves of a query, of which constants are some.

    place  of the query in the whole one: equal Booleans in two places are two conditions
    """
    if query is None or query[0] == "filter":
        return
    kind, *parts = query
    if kind == "boost":
        yield from _scoring(parts[0], boost * parts[1], conditions, (*place, 0))
    elif kind == "boolean":
        must, should, must_not, filter, minimum = parts
        if must or must_not or filter or minimum > 1:
            conditions = (*conditions, (place, query))
        for number, each in enumerate((*must, *should)):
            yield from _scoring(each, boost, conditions, (*place, number))
    elif kind in ("all", "exists", "condition", "between"):
        yield ("constant", query, 1.0), boost, conditions
    else:
        yield query, boost, conditions


def without_dropped(query: Query) -> Query:
    """The query without those in it of which the analyzer left nothing."""
    if query is None:
        return None
    kind, *parts = query
    if kind in ("boost", "constant"):
        inner = without_dropped(parts[0])
        return None if inner is None else (kind, inner, parts[1])
    if kind == "synonyms":
        members = tuple(member for member in parts[0] if member is not None)
        return (kind, members, parts[1]) if members else None
    if kind == "boolean":
        *clauses, minimum = parts
        left = []
        for group in clauses:
            cleaned = (without_dropped(each) for each in group)
            left.append(tuple(each for each in cleaned if each is not None))
        return None if any(clauses) and not any(left) else (kind, *left, minimum)
    return query


def _without_field(leaf: tuple[Any, ...]) -> tuple[Any, ...]:
    return leaf[:-1]


def _group(tfs: dict[int, float]) -> Postings:
    return Postings(tfs, (tfs,))


def _similarity(kind: str, text: str, word: str, *more: int) -> float:
    """Of a word to the query's; 0 where it does not match."""
    if kind == "prefix":
        return float(word.startswith(text))
    if kind == "wildcard":
        return float(matching.wildcard(text, word))
    if kind == "regex":
        return float(re.fullmatch(text, word) is not None)
    assert kind == "fuzzy"
    most, prefix = more
    shorter = min(len(text), len(word))
    if not word.startswith(text[:prefix]) or abs(len(text) - len(word)) > most:
        return 0.0
    found = matching.edits(text, word)
    if found == 0:
        return 1.0
    return 1 - found / shorter if found <= most and found < shorter else 0.0
