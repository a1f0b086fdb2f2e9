"""From the values of a query (fastseq.query) to clauses of an index.

Texts are analysed as the documents were. Words of prefixes, wildcards, regular expressions and
fuzzy words are compared with the words as written, before stemming; the terms of those that match
are searched for as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastseq import query as values
from fastseq.errors import DataError, SettingsError, quoted
from fastseq.index.collection import Collection, Leaf
from fastseq.index.words import live_matches
from fastseq.kernels.search.groups import ENDS
from fastseq.search.bm25f import BM25F
from fastseq.search.clauses import (
    NO_POSTINGS,
    BooleanClause,
    BoostClause,
    Clause,
    ConstantClause,
    GroupClause,
    ListClause,
    MaskClause,
    MergedClause,
    PhraseClause,
    PostingList,
    SumClause,
    TermClause,
    live_rows,
    rows_mask,
)
from fastseq.search.groups import character_terms
from fastseq.search.names import condition_of, is_column, is_text, no_name
from fastseq.search.patterns import Match, folded_bytes, folded_pattern, pattern_match
from fastseq.search.phrases import near_by_text, near_list, phrase_by_text, phrase_list
from fastseq.search.query_words import of_queries
from fastseq.search.ranking import RankingModel
from fastseq.text.lexicon import Lexicon
from fastseq.text.splitting import splitter_of
from fastseq.types import Float64, Int32, Texts, UInt8, distinct

if TYPE_CHECKING:
    from fastseq.text.analyzer import Analyzer

MOST_WORDS = 1024  # of a prefix, wildcard, regular expression or fuzzy word
_CACHED_TEXTS = 1 << 12
_SHOWN = 80  # characters of a query in a notice


class QueryAnalyzer:
    """The tokens of texts in queries; None for a word that the analyzer removes."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self.splitter = splitter_of(analyzer)
        self._known: dict[str, tuple[str | None, ...]] = {}

    def tokens(self, text: str) -> tuple[str | None, ...]:
        """The tokens of a text. Raises DataError for one that is not valid Unicode."""
        found = self._known.get(text)
        if found is None:
            if len(self._known) > _CACHED_TEXTS:
                self._known = {}
            found = self._known[text] = self._tokens(text)
        return found

    def _tokens(self, text: str) -> tuple[str | None, ...]:
        lexicon = Lexicon(self._analyzer, gaps=not self._analyzer.has_ngrams)
        with of_queries():
            tokens = lexicon.encode(Texts.from_strings([text]))
        terms = lexicon.terms().to_strings()
        return tuple(None if id < 0 else terms[id] for id in tokens.values.tolist())


class Reader(Protocol):
    """An index, or one of its fields, as clauses read it."""

    collection: Collection

    @property
    def analyzer(self) -> QueryAnalyzer:
        """The analysis of queries."""
        ...

    def term(self, term: str, grouped: bool = True) -> TermClause | MergedClause:
        """The clause of a term as in the index; if `grouped`, a single character of a script that
        is indexed as bigrams stands for all with it."""
        ...

    def of_field(self, name: str) -> Reader:
        """The same of a field."""
        ...

    def allowed(self, filter: Any) -> UInt8:
        """uint8[rows]: 1 for those that a filter lets pass; uint8[0] for None."""
        ...


@dataclass
class Resolver:
    """Turns queries into clauses.

    searcher  of the index
    model     the ranking model
    fields    the weights of the fields in which clauses without a field are looked up; None for the
              text
    operator  "or" or "and": how several tokens of a text are joined
    notices   what was left out, for the user
    most      the most terms of a prefix, wildcard, regular expression or fuzzy word that is
              scored; None for all. Others match every word: those of prohibited clauses, filters
              and constant scores

    One for each query: clauses keep the posting lists that they have read.
    """

    searcher: Reader
    model: RankingModel
    fields: Mapping[str, float] | None = None
    operator: str = "or"
    notices: list[str] = field(default_factory=list)
    most: int | None = MOST_WORDS
    _terms: dict[tuple[str | None, str], Clause] = field(default_factory=dict)

    def resolve(self, query: values.Query) -> Clause | None:
        """The clause of a query; None where its texts have no words.

        Raises DataError for a field or column that the index does not have, SettingsError for a
        pattern that is wrong, FormatError for a damaged file.
        """
        match query:
            case values.Term():
                return self._text(query)
            case values.IndexTerm():
                return self._term(query.term, query.field)
            case values.Phrase():
                return self._phrase(query)
            case values.Near():
                return self._near(query)
            case values.Prefix() | values.Wildcard() | values.Regex() | values.Fuzzy():
                return self._pattern(query)
            case values.Synonyms():
                return self._synonyms(query)
            case values.Boolean():
                return self._boolean(query)
            case values.Boost():
                inner = self.resolve(query.query)
                return None if inner is None else BoostClause(inner, query.factor)
            case values.ConstantScore():
                most, self.most = self.most, None
                inner = self.resolve(query.query)
                self.most = most
                return None if inner is None else ConstantClause(inner, query.score)
            case values.All():
                leaves = self._collection.leaves
                return ConstantClause(self._mask(lambda s: live_rows(leaves[s])), 1.0)
            case values.Filter():
                return ConstantClause(self._rows(query.expression), 0.0)
            case values.Range():
                return self._range(query)
            case values.Exists():
                return self._exists(query)
        raise SettingsError(f"{query!r:.80} is not a query")

    # ---- words, phrases, booleans

    def _text(self, query: values.Term) -> Clause | None:
        """The tokens of a text, joined by the operator."""
        if is_column(self._collection, query):
            return self._condition(query)
        tokens = [token for token in self._tokens(query.text) if token is not None]
        clauses = [self._term(token, query.field) for token in tokens]
        if len(clauses) <= 1:
            return clauses[0] if clauses else None
        if self.operator == "and":
            return BooleanClause(self._collection, clauses, (), (), (), 0)
        return BooleanClause(self._collection, (), clauses, (), (), 1)

    def _term(self, token: str, name: str | None) -> Clause:
        found = self._terms.get((name, token))
        if found is None:
            found = self._in_fields(name, lambda searcher: searcher.term(token))
            self._terms[name, token] = found
        return found

    def _phrase(self, query: values.Phrase) -> Clause | None:
        if is_column(self._collection, query):
            return self._condition(query)
        offsets, tokens = self._slots(self._tokens(query.text))
        if len(tokens) <= 1:
            return self._term(tokens[0], query.field) if tokens else None
        return self._in_fields(
            query.field, lambda searcher: self._phrase_in(searcher, tokens, offsets, query.slop),
            tokens,
        )  # fmt: skip

    def _phrase_in(
        self, searcher: Reader, tokens: Sequence[str], offsets: Sequence[int], slop: int
    ) -> ListClause:
        """A phrase, or a single word, in one field."""
        if len(tokens) == 1:
            return searcher.term(tokens[0])
        self._refuse_impacts()
        words = [searcher.term(token) for token in tokens]

        def read(s: int) -> PostingList:
            leaf, slots = searcher.collection.leaves[s], [_slot(searcher, w, s) for w in words]
            if self._has_positions(leaf):
                rows, tfs = phrase_list(leaf, slots, offsets, slop)
            else:
                name = searcher.collection.field or ""
                rows, tfs = phrase_by_text(self._collection, leaf, name, slots, offsets, slop)
            return PostingList(rows, tfs.astype(np.float64))

        order = (1, "phrase", tuple(tokens), tuple(offsets), slop)
        return PhraseClause(searcher.collection, order, read, words)

    def _near(self, query: values.Near) -> Clause | None:
        tokens = []
        for text in query.texts:
            own = [token for token in self._tokens(text) if token is not None]
            if len(own) > 1:
                raise SettingsError(f"near: {quoted(text)} has {len(own)} words; expected one each")
            tokens += own
        if len(tokens) <= 1:
            return self._term(tokens[0], query.field) if tokens else None
        self._refuse_impacts()

        def make(searcher: Reader) -> ListClause:
            # a single character is itself here: within an interval, bigrams with it overlap
            words = [searcher.term(token, grouped=False) for token in tokens]
            distance, in_order = query.distance, query.in_order

            def read(s: int) -> PostingList:
                leaf = searcher.collection.leaves[s]
                terms = leaf.segment.lookup(Texts.from_strings(tokens))
                if (terms < 0).any():
                    return NO_POSTINGS
                if self._has_positions(leaf):
                    rows, tfs = near_list(leaf, terms, distance, in_order)
                else:
                    name = searcher.collection.field or ""
                    rows, tfs = near_by_text(
                        self._collection, leaf, name, terms, distance, in_order
                    )
                return PostingList(rows, tfs.astype(np.float64))

            order = (1, "near", tuple(tokens), distance, in_order)
            return PhraseClause(searcher.collection, order, read, words)

        return self._in_fields(query.field, make, tokens, grouped=False)

    def _refuse_impacts(self) -> None:
        """Raise DataError for an index of impacts, in which words have no positions."""
        if self._collection.impacts is not None:
            raise DataError("an index of impacts has no positions, so it has no phrases")

    def _has_positions(self, leaf: Leaf) -> bool:
        """Whether a segment has positions; a notice says what their lack costs."""
        if leaf.segment.unverified_positions is not None:
            return True
        self._notice(
            "the index has no positions: phrases are looked for in the stored text, which is slower"
        )
        return False

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)

    def _synonyms(self, query: values.Synonyms) -> Clause | None:
        slots = [self._slots(self._tokens(text)) for text in query.texts]
        members = list(dict.fromkeys((tuple(at), tuple(tokens)) for at, tokens in slots if tokens))
        if not members:
            return None

        def make(searcher: Reader) -> ListClause:
            parts = [
                self._phrase_in(searcher, tokens, offsets, 0) for offsets, tokens in members
            ]
            return SumClause(searcher.collection, (1, "synonyms", query.texts), parts)

        return self._in_fields(query.field, make)

    def _boolean(self, query: values.Boolean) -> Clause | None:
        groups: list[list[Clause]] = []
        most = self.most
        for parts in (query.must, query.should, query.must_not, query.filter):
            groups.append([])
            self.most = most if len(groups) <= 2 else None  # the last two are not scored
            for part in parts:  # no comprehension: queries in each other take two frames each
                clause = self.resolve(part)
                if clause is not None:
                    groups[-1].append(clause)
        self.most = most
        must, should, must_not, filters = groups
        if query.children() and not any(groups):
            return None
        if not (must or should or filters):
            if must_not:
                self._notice(only_prohibited(query))
            return ConstantClause(
                self._mask(lambda s: np.zeros(self._documents(s), np.uint8)), 0.0
            )
        return BooleanClause(
            self._collection, must, should, must_not, filters, query.minimum_should_match
        )

    def _in_fields(
        self, name: str | None, make: Callable[[Reader], ListClause],
        words: Sequence[str] = (), grouped: bool = True,
    ) -> Clause:  # fmt: skip
        """A clause in the field that it names, in the text, or in all fields of the search: with
        BM25F as one clause, with other models as the weighted sum of its scores in each.

        words    of a phrase, whose idfs add up to its own
        grouped  whether a single character of these stands for bigrams
        """
        if name is not None:
            fields: Mapping[str, float] = {name: 1.0}
        elif self.fields is not None:
            fields = self.fields
        else:
            return make(self.searcher)
        parts = {own: make(self._reader(own)) for own in fields}
        if not isinstance(self.model, BM25F):
            both = zip(parts.values(), fields.values(), strict=True)
            boosted = [BoostClause(part, weight) for part, weight in both]
            if len(boosted) == 1:
                return boosted[0]
            return BooleanClause(self._collection, (), boosted, (), (), 1)
        counted = [self.model.counter(part.view, own, fields[own]) for own, part in parts.items()]

        every = list(parts.values())
        of_words = [
            SumClause(
                self._collection, (), [self._reader(own).term(word, grouped) for own in parts]
            )
            for word in words
        ]
        order = (*every[0].order, tuple(fields.items()))
        return SumClause(self._collection, order, every, counted, of_words if words else None)

    # ---- words as written

    def _pattern(
        self, query: values.Prefix | values.Wildcard | values.Regex | values.Fuzzy
    ) -> Clause | None:
        if is_column(self._collection, query):
            return self._condition(query)
        splitter = self.searcher.analyzer.splitter
        match = pattern_match(query, splitter)
        if match is None:
            return None
        order = (1, type(query).__name__, str(folded_pattern(query, splitter)))

        def make(searcher: Reader) -> ListClause:
            terms, total = group_terms(self._collection, searcher.collection, match, self.most)
            if self.most is not None and total > self.most:
                self._notice(too_many_words(query, total))
            return GroupClause(searcher.collection, order, terms)

        return self._in_fields(query.field, make)

    def _range(self, query: values.Range) -> Clause:
        if is_column(self._collection, query):
            return self._condition(query)
        collection = self._reader(query.field).collection
        splitter = self.searcher.analyzer.splitter
        bounds: list[bytes | None] = []
        for bound in (query.low, query.high):
            if bound is None:
                bounds.append(None)
            elif isinstance(bound, str):
                bounds.append(folded_bytes(bound, splitter))
            else:
                raise DataError(
                    f"range: the field {quoted(query.field)} has text and is compared with "
                    f"{bound!r:.80}"
                )

        def read(s: int) -> UInt8:
            leaf = collection.leaves[s]
            ids = leaf.segment.sorted_terms.range(
                bounds[0], bounds[1], query.include_low, query.include_high
            )
            group = GroupClause(collection, (), [(ids, None)] * (s + 1))
            return rows_mask(group.list(s).rows, leaf)

        return ConstantClause(self._mask(read), 1.0)

    # ---- stored columns

    def _exists(self, query: values.Exists) -> Clause:
        if is_column(self._collection, query):
            return self._condition(query)
        leaves = self._reader(query.field).collection.leaves
        mask = self._mask(lambda s: (leaves[s].segment.lengths > 0).view(np.uint8))
        return ConstantClause(mask, 1.0)

    def _condition(self, query: values.Query) -> Clause:
        """A clause on a stored column."""
        return ConstantClause(self._rows(condition_of(query, self._collection)), 1.0)

    # ----

    @property
    def _collection(self) -> Collection:
        return self.searcher.collection

    def _documents(self, s: int) -> int:
        return self._collection.leaves[s].segment.documents

    def _tokens(self, text: str) -> tuple[str | None, ...]:
        return self.searcher.analyzer.tokens(text)

    def _slots(self, tokens: Sequence[str | None]) -> tuple[list[int], list[str]]:
        """(offsets, words) of a phrase, from the first word on."""
        found = [(i, token) for i, token in enumerate(tokens) if token is not None]
        return [i - found[0][0] for i, _ in found], [token for _, token in found]

    def _mask(self, read: Callable[[int], UInt8]) -> MaskClause:
        return MaskClause(self._collection, read)

    def _rows(self, condition: Any) -> MaskClause:
        """The documents that pass a filter."""
        allowed, leaves = self.searcher.allowed(condition), self._collection.leaves

        def read(s: int) -> UInt8:
            first = leaves[s].first_row
            return allowed[first : first + leaves[s].segment.documents]

        return self._mask(read)

    def _reader(self, name: str) -> Reader:
        if is_text(self._collection, name):
            return self.searcher
        if name not in self._collection.fields:
            raise DataError(no_name(self._collection, name, only_fields=True))
        return self.searcher.of_field(name)


def _slot(searcher: Reader, word: TermClause | MergedClause, s: int) -> Int32:
    """The terms of a word of a phrase in a segment; of a single character of a script that is
    indexed as bigrams those that begin with it, and itself."""
    if isinstance(word, TermClause):
        ids = word.ids[s : s + 1]
        return ids[ids >= 0]
    leaf = searcher.collection.leaves[s]
    ids, roles = character_terms(leaf, searcher.analyzer.splitter, word.term.decode())
    return distinct(ids[roles != ENDS])


# ---- words of a vocabulary


def too_many_words(query: values.Query, total: int) -> str:
    """The notice for a pattern that matches more than MOST_WORDS words."""
    return f"{query} matches {total:,} words: searched for the {MOST_WORDS:,} most frequent ones"


def only_prohibited(query: values.Boolean) -> str:
    """The notice for a Boolean that matches nothing, since it has prohibited clauses alone."""
    text = str(values.Boolean(must_not=query.must_not))
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}…"
    return f"only prohibited clauses: {text} matches nothing, *:* {text} all other documents"


def group_terms(
    collection: Collection, view: Collection, match: Match, most: int | None
) -> tuple[list[tuple[Int32, Float64 | None]], int]:
    """(the terms of each segment and their factors, None where all are 1; the number of all terms)
    of the words that match: at most the `most` terms that most documents have, None for all.

    view  the collection, or one of its fields
    """
    found = []
    for leaf, own in zip(collection.leaves, view.leaves, strict=True):
        words, terms = own.segment.sorted_words
        ids, factors = match(words)
        if terms is not None:
            if leaf.live is not None:
                live = live_matches(collection, leaf, ids, factors, view.field or "")
                ids, factors = _chosen(ids, factors, live)
            ids, factors = _distinct(terms[ids], factors)
        if leaf.live is not None:
            ids, factors = _chosen(ids, factors, own.counts_of(ids) > 0)
        found.append((ids, factors))
    if len(view.leaves) == 1:
        return _most_frequent(view.leaves[0], *found[0], most)
    return _most_frequent_of_all(view.leaves, found, most)


def _chosen(
    ids: Int32, factors: Float64 | None, which: Any
) -> tuple[Int32, Float64 | None]:
    """`which`: bool[n], or the places."""
    return ids[which], None if factors is None else factors[which]


def _distinct(terms: Int32, factors: Float64 | None) -> tuple[Int32, Float64 | None]:
    """(terms, factors) of words: each term once, with the largest factor of its words."""
    if factors is None:
        return distinct(terms), None
    found, places = np.unique(terms, return_inverse=True)
    largest = np.zeros(len(found))
    np.maximum.at(largest, places, factors)
    return found, None if (largest == 1).all() else largest


def _most_frequent(
    leaf: Leaf, ids: Int32, factors: Float64 | None, most: int | None
) -> tuple[list[tuple[Int32, Float64 | None]], int]:
    total = len(ids)
    if most is not None and total > most:
        df = leaf.counts_of(ids)
        least = np.partition(df, total - most)[total - most]
        above, equal = np.flatnonzero(df > least), np.flatnonzero(df == least)
        spelled = sorted(zip(_bytes(leaf, ids[equal]), equal.tolist(), strict=True))
        chosen = [place for _, place in spelled[: most - len(above)]]
        places = np.sort(np.concatenate([above, np.array(chosen, np.int64)]))
        ids, factors = _chosen(ids, factors, places)
    if factors is not None:
        # frequencies are added in the order of spelling, which segments share
        places = np.array(_order(_bytes(leaf, ids)), np.int64)
        ids, factors = _chosen(ids, factors, places)
    return [(ids, factors)], total


def _most_frequent_of_all(
    leaves: Sequence[Leaf], found: Sequence[tuple[Int32, Float64 | None]], most: int | None
) -> tuple[list[tuple[Int32, Float64 | None]], int]:
    factor: dict[bytes, float] = {}
    for leaf, (ids, factors) in zip(leaves, found, strict=True):
        own_factors = [1.0] * len(ids) if factors is None else factors.tolist()
        for name, value in zip(_bytes(leaf, ids), own_factors, strict=True):
            factor[name] = max(factor.get(name, 0.0), value)
    # a term may match by a word that only another segment has
    names = sorted(factor)
    raw = Texts.from_strings([name.decode() for name in names])
    every = [leaf.segment.lookup(raw) for leaf in leaves]
    df = np.zeros(len(names), np.int64)
    for leaf, ids in zip(leaves, every, strict=True):
        df += leaf.counts_of(ids)
    total = len(names)
    chosen = np.sort(np.argsort(-df, kind="stable")[:most])
    values_of = np.array([factor[name] for name in names], np.float64)[chosen]
    is_whole = bool((values_of == 1).all())
    terms: list[tuple[Int32, Float64 | None]] = []
    for ids in every:
        own = ids[chosen]
        terms.append((own[own >= 0], None if is_whole else values_of[own >= 0]))
    return terms, total


def _bytes(leaf: Leaf, ids: Int32) -> list[bytes]:
    """The terms of a segment."""
    vocabulary = leaf.segment.vocabulary
    raw, offsets = vocabulary.data, vocabulary.offsets
    spans = zip(offsets[ids].tolist(), offsets[ids.astype(np.int64) + 1].tolist(), strict=True)
    return [raw[a:b].tobytes() for a, b in spans]


def _order(names: Sequence[bytes]) -> list[int]:
    return sorted(range(len(names)), key=names.__getitem__)
